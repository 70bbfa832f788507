"""Tables in memory as derived tables, for tests of what reads these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import Derived, days_of
from wind_kedro.storage.fingerprints import NO_DAY, Recipe

#: Options of a derived table in the catalog that do not depend on where it is.
OPTIONS = ("key", "time", "whole_key", "contract", "statistics", "order", "parts")


def recipe_of(table: pd.DataFrame, key: Sequence[str], time: str) -> Recipe:
    """A recipe whose rows are those of a table."""
    days = days_of(table, key, time)
    times = table[time] if table[time].dt.tz is None else table[time].dt.tz_convert("UTC").dt.tz_localize(None)
    rows = table.assign(day=times.dt.floor("D").fillna(NO_DAY).astype("datetime64[us]"))
    wanted = days[[*key, "day", "rows"]].assign(fingerprint=days["digest"])
    return Recipe(wanted, lambda part: rows.merge(part[[*key, "day"]], on=[*key, "day"]).drop(columns="day"))


def store(path: Path, entry: dict[str, Any], table: pd.DataFrame) -> Derived:
    """Save a table as a derived table, without its contract, which may be of tables of the engine.

    Args:
        path: its folder.
        entry: its entry in the catalog.
        table: its rows.
    """
    stored = DerivedTable(filepath=str(path), **{name: entry[name] for name in OPTIONS if name in entry and name != "contract"})
    stored.save(recipe_of(table, entry["key"], entry["time"]))
    return stored.load()
