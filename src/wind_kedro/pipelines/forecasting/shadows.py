"""Shadows: challengers that forecast every issue beside the champion and are never sent; they are judged on what they issued."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.failures import Failure, failures_table
from wind_kedro.governance.champions import in_order, versions_at
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.models.tables import KEYS, Shares, by_entity, forecasts_of
from wind_kedro.pipelines.forecasting.fallbacks import unusable
from wind_kedro.pipelines.forecasting.settings import Forecasting
from wind_kedro.pipelines.forecasting.slices import features_of_run, forecasts_of_run, of_issues
from wind_kedro.pipelines.forecasting.together import Together

_DEFAULTS = Forecasting()


def issue_shadows(
    model_forecasts: Sliced | pd.DataFrame,
    features: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    forecasting: Forecasting = _DEFAULTS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, model, issue time and interval, in kW: what the shadows of the version in force forecast, and
    beside them (``role``) the champion's forecasts of the same intervals. Both are uncalibrated.

    A table of its own, so that no shadow can be sent by mistake. A shadow that fails is a row of the second table, and affects
    nothing else.
    """
    parts = []
    failures: list[Failure] = []
    features = features_of_run(features, fleet, clock)
    model_forecasts = forecasts_of_run(model_forecasts, fleet, clock)
    promotions = in_order(promotions)
    groups, promoted_to = by_entity(features), by_entity(promotions)
    for product in fleet.products:
        forecasts: list[Shares] = []
        issues = pd.DatetimeIndex(clock.issues(fleet.calendar(product.id)))
        found: list[tuple[Member, pd.DataFrame, str, str, str]] = []
        for entity_id in fleet.modelled(product):
            rows = groups.get((product.id, entity_id), features.iloc[:0])
            rows = of_issues(rows, issues)
            windy = rows["wind_speed_100m_ms"].notna()
            rows = rows if windy.all() else rows[windy]
            promoted = promoted_to.get((product.id, entity_id), promotions.iloc[:0])
            for version, version_issues in versions_at(promoted, issues).items():
                due = of_issues(rows, version_issues)
                if version is None or due.empty:
                    continue
                try:
                    shadows = model_versions.version(version).beside("shadows", product.id, entity_id)
                except NoModelError:  # `issue_forecasts` has noted it
                    continue
                of_levels = {name: member for name, member in shadows.items() if member.has_levels(product.quantile_levels)}
                found += [(member, due, entity_id, version, name) for name, member in of_levels.items()]
        together = Together(((member, due) for member, due, *_ in found), forecasting.model_limit_seconds)
        for member, due, entity_id, version, name in found:
            try:
                shares = together.shares(member, due, product.quantile_levels)
                forecasts.append(Shares(due, shares, name, version))
            except Exception as error:  # whatever somebody's model does, it is only a shadow
                failures.append(unusable(product.id, entity_id, version, name, "shadow", error))
        if forecasts:
            parts.append(forecasts_of(forecasts, product, fleet))
    failed = failures_table(failures, clock.as_of)
    if not parts:
        return pd.DataFrame(columns=list(dict.fromkeys([*model_forecasts.columns, "role"]))), failed
    issued = pd.concat(parts, ignore_index=True)
    beside = model_forecasts.merge(issued[KEYS].drop_duplicates(), on=KEYS)
    return pd.concat([issued.assign(role="shadow"), beside.assign(role="champion")], ignore_index=True), failed
