"""Measurement: what one cycle costs, by what is new: nothing, a batch, a weather run, an issue, a month, a farm, a card.

Makes a fleet (`synthetic`, three turbines a farm, 15-minute signals, two weather models four times a day), eleven weeks of
history by default, trains a power curve for every farm once, and then runs cleaning, features and forecasting as one command,
case after case, each on what the case before left; ``full`` is cleaning and features of all history. Processor seconds are of
the command with all its processes, beyond start-up: a run of ingestion without feeds, which reads all configuration. Bars are
issue 14's: a month's first issue may cost three times an ordinary one, and an ordinary one with the longest history that is
asked for 1.3 times the one with the shortest.

Rows: ``case, farms, history_days, cpu_s, wall_s, peak_mb, bar_s, load``. Leaves with code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from made_fleet import Fleet, FleetSettings, write_yaml
from record import PROJECT, RESULTS, record

CYCLE = "cleaning,feature_engineering,forecasting"
#: The first issue that is forecast; the day after it a month begins.
START = pd.Timestamp("2024-03-30 12:00", tz="UTC")
#: Bars of issue 14, processor seconds beyond start-up, by case and number of farms.
BARS = {("nothing new", 1): 2.0, ("nothing new", 100): 5.0, ("one issue", 100): 25.0}
#: What a month's first issue may cost, in ordinary ones; and an issue with a long history, in issues with a short one.
MONTH_START_BAR, HISTORY_BAR = 3.0, 1.3


class CycleFleet(Fleet):
    """The made fleet as the bars of issue 14 are of it: without faults, forecast for 36 hours, in the environment base."""

    @cached_property
    def settings(self) -> FleetSettings:
        """How the farms are made."""
        return FleetSettings(seed=14, as_of=START)

    def copy_project(self) -> None:
        """The configuration of an empty project."""
        super().copy_project()
        base = self.folder / "conf" / "base"
        markets = yaml.safe_load((PROJECT / "conf/test/markets.yml").read_text("utf-8"))["markets"]
        write_yaml(base / "markets.yml", {"markets": markets})
        run = yaml.safe_load((base / "parameters_run.yml").read_text("utf-8"))
        run["clock"] = {"as_of": f'${{runtime_params:as_of,"{START.isoformat()}"}}', "train_as_of": START.isoformat()}
        write_yaml(base / "parameters_run.yml", run)
        write_yaml(
            base / "parameters_training.yml",
            {
                "training": {
                    "seed": 7,
                    "backtest": {"days": 10, "refit_every_days": 10, "min_train_days": 3, "cross_validation_blocks": 0},
                    "candidates": {
                        "climatology": {"type": "climatology", "tier": "none"},
                        "power_curve": {"type": "power_curve", "tier": "none"},
                    },
                }
            },
        )

    def write_cards(self, cards: list[dict[str, Any]]) -> None:
        """Write farms, their portfolio and the product."""
        super().write_cards(cards)
        product = {
            "id": "hourly_36h", "name": "Hourly, 36 hours", "market": "test_hourly", "granularity_minutes": 60,
            "horizon_minutes": 2160, "issue_times": [f"{hour:02d}:00" for hour in range(0, 24, 6)],
            "quantile_levels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "deciding_score": "pinball_share",
            "goal": {"target": 0.03, "since": "2024-01-01"}, "members": "${members}",
        }  # fmt: skip
        write_yaml(self.folder / "conf/base/products.yml", {"products": [product]})


def cases(fleet: Fleet) -> Iterator[tuple[str, dict[str, float]]]:
    """The cases one after another, each on what the one before left."""
    hour = pd.Timedelta(hours=1)
    fleet.release(START)
    fleet.run("ingestion", START)  # makes the database of MLflow
    yield "start-up", fleet.run("ingestion", START)
    yield "full", fleet.run("data_engineering,feature_engineering", START)
    fleet.run("training", START)
    fleet.run(CYCLE, START)
    yield "nothing new", fleet.run(CYCLE, START)
    at = START + 6 * hour
    fleet.release(at, "signals", farms=1)
    yield "one batch", fleet.run(CYCLE, START)
    fleet.release(at, "weather_alpha")
    yield "one weather run", fleet.run(CYCLE, START + hour)
    fleet.release(at)
    yield "one issue", fleet.run(CYCLE, at)
    fleet.release(at + 12 * hour)
    fleet.run(CYCLE, at + 12 * hour)
    month = START.normalize() + pd.Timedelta(days=2)
    fleet.release(month - 6 * hour)
    fleet.run(CYCLE, month - 6 * hour)
    fleet.release(month)
    yield "month start", fleet.run(CYCLE, month)
    corrected = [card | ({"latency_minutes": 20} if number == 0 else {}) for number, card in enumerate(fleet.cards)]
    fleet.write_cards(corrected[: fleet.farms])
    yield "corrected card", fleet.run(CYCLE, month)
    # A farm that joins changes the features of others from the day on which it is there.
    newest = corrected[-1] | {"valid_from": f"{month:%Y-%m-%d}"}
    fleet.write_cards([*corrected[: fleet.farms], newest])
    fleet.release(month, farms=fleet.farms + 1)
    yield "one new farm", fleet.run(CYCLE, month)


def measure(farms: int, history_days: int) -> pd.DataFrame:
    """One row per case; processor seconds beyond start-up."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = CycleFleet(Path(folder), farms, history_days, days_after=4, spare=1, environment="base")
        fleet.make()
        rows = []
        for case, found in cases(fleet):
            rows.append({"case": case, "farms": farms, "history_days": history_days} | found | {"load": os.getloadavg()[0]})
            print(
                f"{farms} farms, {case}: {found['cpu_s']:.1f} s of processor, {found['wall_s']:.1f} s, {found['peak_mb']:.0f} MB"
            )
    table = pd.DataFrame(rows).set_index("case")
    beyond = table.index != "start-up"
    table.loc[beyond, "cpu_s"] -= table.loc["start-up", "cpu_s"]
    bars = pd.Series({case: BARS.get((case, farms), float("nan")) for case in table.index})
    bars["month start"] = MONTH_START_BAR * table.loc["one issue", "cpu_s"]
    return table.assign(bar_s=bars).round({"cpu_s": 2, "bar_s": 2, "wall_s": 1, "peak_mb": 0, "load": 1}).reset_index()


def main() -> int:
    """Measure fleets of the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--days", type=int, nargs="+", default=[77], help="of history (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of bench-cycle.csv (default: %(default)s)")
    options = parser.parse_args()
    found = {(farms, days): measure(farms, days) for farms in options.farms for days in options.days}
    for (farms, days), table in found.items():
        least = found[farms, min(options.days)]
        if days > min(options.days):
            ordinary = least.loc[least["case"] == "one issue", "cpu_s"].item()
            table.loc[table["case"] == "one issue", "bar_s"] = round(HISTORY_BAR * ordinary, 2)
    table = pd.concat(found.values(), ignore_index=True)
    record("bench-cycle", table, options.out, key=["case", "farms", "history_days"])
    missed = table[table["cpu_s"] > table["bar_s"]]
    return 1 if len(missed) else 0


if __name__ == "__main__":
    sys.exit(main())
