"""Features of tables in memory, by the nodes of the pipeline in their order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.pipelines.feature_engineering.fits import fit_points, sum_outcomes
from wind_kedro.pipelines.feature_engineering.nodes import build_features, note_features_failures
from wind_kedro.pipelines.feature_engineering.settings import FeatureParameters
from wind_kedro.storage.fingerprints import Recipe, chunks

INLINE = Workers(backend="threading", jobs=1)
KEY = ["product_id", "entity_id"]


def features_of(
    observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet, clock: Clock, parameters: FeatureParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and their failures."""
    settings: tuple[Any, ...] = (fleet, clock, parameters, INLINE)
    sums, of_sums = computed(sum_outcomes(observations, weather, *settings))
    fits, _ = computed(fit_points(sums, *settings[:-1]))
    features, days = computed(build_features(observations, weather, fits, *settings))
    failures = note_features_failures(of_table(days), of_table(of_sums), fleet, clock)
    return features, failures


def computed(recipe: Recipe, max_rows: int = 2_000_000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of all shards of a recipe, and one row per shard."""
    parts, days = [recipe.work(recipe.wanted.iloc[:0])], []
    for part in chunks(recipe.wanted, KEY, max_rows):
        table = recipe.work(part)
        keys = list(zip(part["product_id"], part["entity_id"], strict=True))
        found = table.groupby(KEY).size() if len(table) else {}
        days.append(
            part[[*KEY, "day"]].assign(
                rows=[found.get(key, 0) for key in keys], fault=[recipe.faults.pop(key, "") for key in keys]
            )
        )
        parts.append(table)
    filled = [part for part in parts if len(part)]
    columns = [*KEY, "day", "rows", "fault"]
    return (
        pd.concat(filled, ignore_index=True) if filled else parts[0],
        pd.concat(days, ignore_index=True) if days else pd.DataFrame(columns=columns),
    )


def of_table(days: pd.DataFrame) -> Any:
    """A derived table of which only the shards are known."""
    return SimpleNamespace(days=days)
