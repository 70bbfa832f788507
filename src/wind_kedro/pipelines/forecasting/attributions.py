"""Attributions: by how much each group of features moved the median of a forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import BASE, CORRECTIONS, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Attributions
from wind_kedro.datasets.models import RegisteredModels
from wind_kedro.failures import Failure, failures_table, reason
from wind_kedro.models.base import Contributions
from wind_kedro.models.tables import KEYS, feature_matrix
from wind_kedro.pipelines.forecasting.settings import OTHER, FeatureGroups


def explain_forecasts(
    forecasts: pd.DataFrame,
    features: pd.DataFrame,
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
    for product in fleet.products:
        wanted = forecasts[
            (forecasts["product_id"] == product.id)
            & forecasts["issued_at"].isin(pd.DatetimeIndex(clock.issues(fleet.calendar(product.id))))
            & (forecasts["fallback"] == "")  # there another model forecast
        ]
        known = wanted.merge(features.drop(columns=["weather_run_at", "lead_minutes"]), on=KEYS, validate="one_to_one")
        for (entity_id, version), rows in known.groupby(["entity_id", "model_version"], sort=True):
            inputs = rows[["lead_minutes", *feature_matrix(features).columns.drop("lead_minutes")]]
            try:
                member = model_versions.version(str(version)).members[product.id, str(entity_id)]
                found = member.forecaster.contributions(inputs)
                if found is not None:
                    parts.append(_attributions(rows.reset_index(drop=True), inputs, found, attributions))
            except Exception as error:  # whatever a model does, the others are explained all the same
                failures.append(
                    Failure(
                        "attributions",
                        "attributions_not_made",
                        f"{product.id}/{entity_id}: what moved its forecast is not known: {reason(error)}",
                        "nothing for the forecast, which is issued; see the model's contributions()",
                        severity="warning",
                        product_id=product.id,
                        entity_id=str(entity_id),
                    )
                )
    failed = failures_table(failures, clock.as_of)
    if not parts:
        return Attributions.table([]), failed
    return pd.concat(parts, ignore_index=True), failed


def _attributions(rows: pd.DataFrame, inputs: pd.DataFrame, found: Contributions, attributions: FeatureGroups) -> pd.DataFrame:
    capacity = rows["capacity_kw"].to_numpy(float)
    keys = rows[[*KEYS, "model", "model_version"]]
    moved = found.columns.to_numpy(float)
    attributed_by = ", ".join(f"{name} ({weight:.0%} of the blend)" for name, weight in found.attributed_by.items())
    base = keys.assign(feature_group=BASE, contribution_kw=found.base * capacity, feature=attributed_by, feature_value=np.nan)
    parts = [base]
    groups = np.array([attributions.group_of(str(column)) for column in found.columns])
    for name in [*attributions.groups, OTHER]:
        places = np.flatnonzero(groups == name)
        if not len(places):
            continue
        leading = places[np.abs(moved[:, places]).argmax(axis=1)]
        columns = found.columns.columns[leading]
        values = inputs[found.columns.columns].to_numpy(float, na_value=np.nan)[np.arange(len(rows)), leading]
        parts.append(
            keys.assign(
                feature_group=name,
                contribution_kw=moved[:, places].sum(axis=1) * capacity,
                feature=columns,
                feature_value=values,
            )
        )
    attributed = sum(part["contribution_kw"].to_numpy(float) for part in parts)
    issued = rows[quantile_column(0.5)].to_numpy(float)
    parts.append(keys.assign(feature_group=CORRECTIONS, contribution_kw=issued - attributed, feature="", feature_value=np.nan))
    return pd.concat(parts, ignore_index=True).sort_values(KEYS, kind="stable")[list(Attributions.to_schema().columns)]
