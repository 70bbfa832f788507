"""Numbers of rows and of missing values by farm, from what is kept for each day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import Derived, days_of, shards_of
from wind_kedro.pipelines.data_engineering.parse.signals import SIGNALS
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table
from wind_kedro.storage.fingerprints import Recipe, around, mixed, number_of

#: Change it when the counts change that the same input gives.
VERSION = 1
#: Causes of missing values, and what is said of them in findings.
FAULTS: Mapping[str, str] = {
    "sentinel": "are the logger's code for 'missing'",
    "out_of_range": "are outside the valid range",
    "stuck": "repeat to the last digit while the wind moved",
    "unit": "are in another unit than the card's, as inferred from the data",
    "spike": "deviate from the values before and after, which agree",
}
#: Reductions of the counts of days to those of a farm, by the suffix or name of a column; others are added.
_REDUCED = {"first": "min", "last": "max", "cadence": "max"}


def derive_signal_counts(timed_signals: Derived | Table, fleet: Fleet, data_engineering: DataEngineering) -> Recipe:
    """Count the rows of signals (`count_signals`): one shard per farm and day."""
    late_grace_minutes = data_engineering.observations.late_grace_minutes
    days = around(days_of(timed_signals, ["farm_id"], "valid_at"), ["farm_id"])
    days = days[days["farm_id"].isin([farm.id for farm in fleet.farms])]
    step = number_of([VERSION, late_grace_minutes])
    wanted = days[["farm_id", "day", "rows"]].assign(step=step, fingerprint=mixed(days["digest"], step))
    return Recipe(wanted, lambda part: count_signals(shards_of(timed_signals, part[["farm_id", "day"]]), late_grace_minutes))


def count_signals(timed: Table, late_grace_minutes: int) -> Table:
    """Numbers of rows by farm and day (``counted_on``) of valid rows.

    ``rows_known``, ``newest`` versions and ``late`` first versions, which arrived more than ``late_grace_minutes`` after their
    interval; per signal the missing values by cause (``<signal>:missing``: no value was sent); ``first`` and ``last`` interval,
    and ``cadence``, seconds.
    """
    rows = timed.filter(timed.status.isin(["kept", "superseded"]))
    due = rows.valid_at + (rows.cadence + late_grace_minutes * 60).as_interval("s")
    late = (rows.version == 0) & ~rows.retimed & (rows.arrived_at > due)
    counts: dict[str, Any] = {"rows_known": rows.count(), "newest": (rows.status == "kept").sum(), "late": late.sum()}
    for name in SIGNALS:
        counts[f"{name}:missing"] = (rows[name].isnull() & rows[f"{name}_fault"].isnull()).sum()
        for fault in FAULTS:
            counts[f"{name}:{fault}"] = (rows[f"{name}_fault"] == fault).fill_null(False).sum()
    spans = {"first": rows.valid_at.min(), "last": rows.valid_at.max(), "cadence": rows.cadence.max()}
    return rows.group_by("farm_id", counted_on=rows.valid_at.truncate("D")).agg(**counts, **spans)


def total_counts(signal_counts: Derived | Table) -> pd.DataFrame:
    """The counts of `count_signals` over all days, by farm."""
    counts = signal_counts.table() if isinstance(signal_counts, Derived) else signal_counts
    names = [name for name in counts.columns if name not in {"farm_id", "counted_on"}]
    totals = {name: getattr(counts[name], _REDUCED.get(name, "sum"))() for name in names}
    found: pd.DataFrame = counts.group_by("farm_id").agg(**totals).to_pandas().set_index("farm_id")
    return found


def by_farm(table: Derived | Table, statistics: Callable[[Table], Mapping[str, Any]]) -> pd.DataFrame:
    """Sums of counts over all shards, by farm: ``rows``, and the whole numbers of the statistics.

    Args:
        table: a derived table, of which nothing but its shards is read, or a table of an engine.
        statistics: those of the derived table.
    """
    if isinstance(table, Derived):
        shards = table.days
    else:
        shards = table.group_by("farm_id").agg(rows=table.count(), **statistics(table)).to_pandas()
    counts = [
        name for name in shards if name not in {"fingerprint", "digest", "step"} and pd.api.types.is_numeric_dtype(shards[name])
    ]
    return shards.groupby("farm_id")[counts].sum()
