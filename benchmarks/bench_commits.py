"""Measurement: what the commits of a cycle cost in the course of a month of quarter-hours, with housekeeping once a day.

A cycle replaces the shards of today in a derived table (ten farms, three turbines, 15-minute rows, as ``signals``) and adds the
issue to a history (36 intervals a farm, as ``forecasts``). Both are made directly, without the steps that compute them; a run
makes about twenty such commits. Every midnight both are maintained as `kedro wind housekeeping` does.

Rows: ``day, commits, cpu_ms_per_cycle, housekeeping_s, files, load``; milliseconds are the mean over the 96 cycles of a day.
Leaves with code 1 if the last day costs more than twice the first (issue 14).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from record import RESULTS, record
from wind_kedro.datasets.derived import DerivedTable
from wind_kedro.datasets.history import History
from wind_kedro.storage.fingerprints import Recipe

FARMS, TURBINES, INTERVALS = 10, 3, 36
BEGIN = pd.Timestamp("2024-01-01")
STEP = pd.Timedelta(minutes=15)
#: Of the columns of a table, so many numbers stand for them.
NUMBERS = 20
#: The last day may cost so many times what the first does.
BAR = 2.0


def signals(now: pd.Timestamp) -> pd.DataFrame:
    """Rows of all turbines of the day of ``now`` until then."""
    times = pd.date_range(now.floor("D"), now, freq=STEP)
    farms = np.repeat([f"farm_{number}" for number in range(FARMS)], TURBINES * len(times))
    values = np.random.default_rng(0).random((len(farms), NUMBERS))
    table = pd.DataFrame(values, columns=[f"value_{number}" for number in range(NUMBERS)])
    return table.assign(farm_id=farms, valid_at=np.tile(times, FARMS * TURBINES))


def issue(now: pd.Timestamp) -> pd.DataFrame:
    """Forecasts of all farms issued at ``now``."""
    values = np.random.default_rng(0).random((FARMS * INTERVALS, NUMBERS))
    table = pd.DataFrame(values, columns=[f"value_{number}" for number in range(NUMBERS)])
    valid_at = pd.date_range(now, periods=INTERVALS, freq="h", tz="UTC")
    farms = np.repeat([f"farm_{number}" for number in range(FARMS)], INTERVALS)
    return table.assign(product_id="p", entity_id=farms, issued_at=now.tz_localize("UTC"), valid_at=np.tile(valid_at, FARMS))


def tables(folder: Path) -> tuple[DerivedTable, History]:
    """The two tables."""
    contract, partitions = "wind_kedro.contracts.forecasts.Forecasts", ["product_id", "issued_at"]
    return (
        DerivedTable(filepath=str(folder / "signals"), key=["farm_id"], time="valid_at"),
        History(filepath=str(folder / "forecasts"), partition_by=partitions, contract=contract),
    )


def measure(folder: Path, days: int) -> pd.DataFrame:
    """One row per day."""
    wanted = pd.DataFrame({"farm_id": [f"farm_{number}" for number in range(FARMS)]})
    done = pd.DataFrame()
    rows: list[tuple[float, ...]] = []
    for day in pd.date_range(BEGIN, periods=days):
        began = time.process_time()
        for now in pd.date_range(day, periods=96, freq=STEP):
            today = wanted.assign(day=day, fingerprint=np.uint64(now.value))
            table = signals(now)
            derived, history = tables(folder)  # as a run opens them
            derived.save(Recipe(pd.concat([done, today], ignore_index=True), partial(_given, table)))
            history.save(issue(now))
        done = pd.concat([done, today], ignore_index=True)
        spent = time.process_time() - began
        month = f"{day + pd.Timedelta(days=1):%Y-%m}"
        for kept in tables(folder):
            kept.maintain(month, 24)
        kept_s = time.process_time() - began - spent
        files = len(list(folder.rglob("*.parquet")))
        rows.append((day.day_of_year, len(rows) * 96 + 96, 1000 * spent / 96, kept_s, files, os.getloadavg()[0]))
        print(f"day {rows[-1][0]}: {rows[-1][2]:.0f} ms of processor a cycle, housekeeping {kept_s:.1f} s, {files} files")
    columns = ["day", "commits", "cpu_ms_per_cycle", "housekeeping_s", "files", "load"]
    return pd.DataFrame(rows, columns=columns).round({"cpu_ms_per_cycle": 1, "housekeeping_s": 2, "load": 1})


def _given(table: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    return table


def main() -> int:
    """Measure a month."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=31, help="of 96 cycles (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of bench-commits.csv (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), options.days)
    record("bench-commits", table, options.out)
    return 1 if table["cpu_ms_per_cycle"].iloc[-1] > BAR * table["cpu_ms_per_cycle"].iloc[0] else 0


if __name__ == "__main__":
    sys.exit(main())
