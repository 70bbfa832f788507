"""Attributions: by how much each group of features moved the median of a forecast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import BASE, CORRECTIONS, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Attributions
from wind_kedro.datasets.derived import Derived, Sliced
from wind_kedro.datasets.models import RegisteredModels
from wind_kedro.failures import Failure, failures_table, isolated, noting
from wind_kedro.models.base import Contributions
from wind_kedro.models.tables import KEYS, feature_matrix
from wind_kedro.pipelines.forecasting.settings import OTHER, FeatureGroups
from wind_kedro.pipelines.forecasting.slices import features_of_run, forecasts_of_run


def explain_forecasts(
    forecasts: Sliced | pd.DataFrame,
    features: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    fleet: Fleet,
    clock: Clock,
    attributions: FeatureGroups,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, issue time, interval and attribution: by how much it moved the median, kW. And one row per
    entity for which that could not be computed.

    Of the issues of this run, by the model that issued each; not where a fallback stood in. ``base`` is the output without
    any input, ``corrections`` what postprocessing changed; with them the attributions of an interval add up to its median.
    A model of a family without attributions has no rows. Of a blend the members that have them count; ``feature`` of
    ``base`` names them where they are not all, and ``corrections`` holds what the others make of it.
    """
    parts = []
    failures: list[Failure] = []
    action = "nothing for the forecast, which is issued; see the model's contributions()"
    failed = noting(failures, "attributions", "attributions_not_made", "what moved its forecast is not known", action)
    forecasts, features = forecasts_of_run(forecasts, fleet, clock), features_of_run(features, fleet, clock)
    for product in fleet.products:
        wanted = forecasts[
            (forecasts["product_id"] == product.id)
            & forecasts["issued_at"].isin(pd.DatetimeIndex(clock.issues(fleet.calendar(product.id))))
            & (forecasts["fallback"] == "")  # there another model forecast
        ]
        known = wanted.merge(features.drop(columns=["weather_run_at", "lead_minutes"]), on=KEYS, validate="one_to_one")
        columns = ["lead_minutes", *feature_matrix(features.iloc[:0]).columns.drop("lead_minutes")]
        for (entity_id, version), rows in known.groupby(["entity_id", "model_version"], sort=True):
            inputs = rows[columns]
            with isolated(failed, product.id, str(entity_id)):  # whatever a model does, the others are explained all the same
                member = model_versions.version(str(version)).members[product.id, str(entity_id)]
                found = member.forecaster.contributions(inputs)
                if found is not None:
                    parts.append(_attributions(rows.reset_index(drop=True), inputs, found, attributions))
    table = pd.concat(parts, ignore_index=True) if parts else Attributions.table([])
    return table, failures_table(failures, clock.as_of)


def _attributions(rows: pd.DataFrame, inputs: pd.DataFrame, found: Contributions, attributions: FeatureGroups) -> pd.DataFrame:
    capacity = rows["capacity_kw"].to_numpy(float)
    keys = rows[[*KEYS, "model", "model_version"]]
    moved, columns = found.columns.to_numpy(float), found.columns.columns
    values = inputs[columns].to_numpy(float, na_value=np.nan)

    def part(group: str, contribution_kw: np.ndarray, feature: Any = "", value: Any = np.nan) -> pd.DataFrame:
        return keys.assign(feature_group=group, contribution_kw=contribution_kw, feature=feature, feature_value=value)

    attributed_by = ", ".join(f"{name} ({weight:.0%} of the blend)" for name, weight in found.attributed_by.items())
    parts = [part(BASE, found.base * capacity, attributed_by)]
    groups = np.array([attributions.group_of(str(column)) for column in columns])
    for name in [*attributions.groups, OTHER]:
        places = np.flatnonzero(groups == name)
        if len(places):
            leading = places[np.abs(moved[:, places]).argmax(axis=1)]
            contribution = moved[:, places].sum(axis=1) * capacity
            parts.append(part(name, contribution, columns[leading], values[np.arange(len(rows)), leading]))
    attributed = sum(each["contribution_kw"].to_numpy(float) for each in parts)
    parts.append(part(CORRECTIONS, rows[quantile_column(0.5)].to_numpy(float) - attributed))
    return pd.concat(parts, ignore_index=True).sort_values(KEYS, kind="stable")[list(Attributions.to_schema().columns)]
