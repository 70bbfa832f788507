"""What operation costs at 10,000 and 100,000 farms, on paper, from ``bench-fleet.csv`` and a price list.

Each step of the made fleet (`conf/fleet`: hourly, 48 hours, four issues a day) is taken as linear in farms: a fixed part and a
part per farm, fitted by least squares to the measured sizes. A machine serves as many farms as meet three conditions: a cycle in
the service ends within the window, no step needs more memory than there is, and all steps together keep it busy for at most
``BUSY_SHARE`` of the time. Machines share nothing; they are kept for the whole month or, in ``busy_only``, paid while a step
runs. Steps: a cycle per issue, monitoring and reporting hourly, a training of all farms weekly, which is what the first one
costs; the first load is not counted. Cores of other machines are taken to be as fast as the measured ones.

Rows: ``farms, window_s, farms_per_machine, limited_by, machines, busy_hours, money_per_farm_month, busy_only, currency,
prices_of``. ``busy_hours`` are per machine and month.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from record import PROJECT, RESULTS, record

FLEETS, WINDOWS_S = (10_000, 100_000), (30, 120, 600)
HOURS, BUSY_SHARE = 730.0, 0.7
#: How often a month each step runs; the cold cycle stands for none of them.
RUNS = {"cycle_warm": 4 * HOURS / 24, "monitor": HOURS, "train": HOURS / 168}
#: Of the tables of a year, all but raw files: 300 farms with two weeks take 1,527 MB.
DISK_GB = 1.527 / (300 * 14) * 365


def line(measured: pd.DataFrame, step: str, column: str) -> tuple[float, float]:
    """The fixed part of a cost and that per farm, of measurements of at least two sizes."""
    rows = measured[measured["step"] == step].sort_values("farms")
    if len(rows) < 2:
        sys.exit(f"bench-fleet.csv: step {step}: measured for {len(rows)} size; run make bench-fleet with two or more")
    slope, fixed = np.polyfit(rows["farms"], rows[column], 1)
    return max(float(fixed), 0.0), float(slope)


def on_paper(measured: pd.DataFrame, prices: dict[str, Any]) -> pd.DataFrame:
    """One row per fleet and window."""
    wall = {step: line(measured, step, "wall_s") for step in RUNS}
    memory = {step: line(measured, step, "peak_mb") for step in RUNS}
    in_memory = min((prices["machine_memory_mb"] - fixed) / each for fixed, each in memory.values())
    busy = [sum(RUNS[step] * wall[step][part] for step in RUNS) / 3600 for part in (0, 1)]
    by_time = (BUSY_SHARE * HOURS - busy[0]) / busy[1]
    rows = []
    for farms in FLEETS:
        for window in WINDOWS_S:
            fixed, each = wall["cycle_warm"]
            most = {"window": (window - fixed) / each, "memory": in_memory, "time": by_time}
            limited_by, here = min(most.items(), key=lambda item: item[1])
            here = min(int(here), farms)
            machines = -(-farms // here)
            hours = busy[0] + busy[1] * farms / machines
            disk = DISK_GB * prices["disk_gb_month"]
            always, only = (round(machines * time * prices["machine_hour"] / farms + disk, 4) for time in (HOURS, hours))
            rows.append((farms, window, here, limited_by, machines, round(hours, 1), always, only))
    named = [
        "farms",
        "window_s",
        "farms_per_machine",
        "limited_by",
        "machines",
        "busy_hours",
        "money_per_farm_month",
        "busy_only",
    ]
    return pd.DataFrame(rows, columns=named).assign(currency=prices["currency"], prices_of=str(prices["date"]))


def main() -> None:
    """Work it out and record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=14, help="history of the measured fleets (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of bench-fleet.csv (default: %(default)s)")
    parser.add_argument("--prices", type=Path, default=PROJECT / "conf/prices.yml", help="(default: conf/prices.yml)")
    options = parser.parse_args()
    measured = pd.read_csv(options.results / "bench-fleet.csv")
    prices = yaml.safe_load(options.prices.read_text("utf-8"))["prices"]
    record("costs", on_paper(measured[measured["history_days"] == options.days], prices), options.results)


if __name__ == "__main__":
    main()
