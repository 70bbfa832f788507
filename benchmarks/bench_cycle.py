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
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from record import PROJECT, RESULTS, record

sys.path.append(str(PROJECT / "tests"))  # where the synthetic fleet is

from synthetic import Recipe, made_up_farms, make_fleet

CYCLE = "data_engineering,feature_engineering,forecasting"
#: The first issue that is forecast; the day after it a month begins.
START = pd.Timestamp("2024-03-30 12:00", tz="UTC")
#: Bars of issue 14, processor seconds beyond start-up, by case and number of farms.
BARS = {("nothing new", 1): 2.0, ("nothing new", 100): 5.0, ("one issue", 100): 25.0}
#: What a month's first issue may cost, in ordinary ones; and an issue with a long history, in issues with a short one.
MONTH_START_BAR, HISTORY_BAR = 3.0, 1.3
TURBINES = 3
SAMPLE_SECONDS = 0.25


@dataclass
class Fleet:
    """A project with the raw data of a made fleet, of which a case releases what arrived by its time."""

    folder: Path
    farms: int
    history_days: int
    cards: list[dict[str, Any]] = field(default_factory=list)
    held: list[tuple[pd.Timestamp, Path, pd.DataFrame]] = field(default_factory=list)

    def make(self) -> None:
        """Write configuration and history; keep later batches and runs in memory."""
        base = self.folder / "conf" / "base"
        shutil.copytree(PROJECT / "conf" / "base", base)
        shutil.copy(PROJECT / "conf" / "logging.yml", self.folder / "conf")
        shutil.copy(PROJECT / "pyproject.toml", self.folder)
        for name in ("src", "conf/local"):
            (self.folder / name).mkdir()
        made = yaml.safe_load((PROJECT / "conf" / "test" / "synthetic.yml").read_text("utf-8"))
        window = {"start": START - pd.Timedelta(days=self.history_days), "end": START + pd.Timedelta(days=4)}
        recipe = Recipe.model_validate(
            {name: made[name] for name in ("seed", "scales", "weather_models", "step_minutes")} | window | {"step_minutes": 15}
        )
        farms = [
            farm.model_copy(
                update={"turbines": farm.turbines[:TURBINES], "capacity_kw": TURBINES * farm.turbines[0].rated_power_kw}
            )
            for farm in made_up_farms(self.farms + 1, seed=14)
        ]
        for data in make_fleet(farms, recipe):
            for name, file in data.files.items():
                arrived = pd.to_datetime(file.rows["available_at" if "weather" in name else "received_at"], utc=True)
                due = arrived.dt.ceil("6h")  # a file every six hours
                for at, rows in file.rows.groupby(due.clip(lower=START)):
                    path = self.folder / "data/01_raw" / name.replace(".parquet", f"_{at:%Y%m%dT%H}.parquet")
                    self.held.append((at, path, rows))
            card = data.farm.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            for source in (card["signals"], *card["weather"]):
                source["path"] = source["path"].replace(".parquet", "_*.parquet")
            self.cards.append(card)
        self.write_cards(self.cards[: self.farms])
        _write(
            base / "markets.yml", {"markets": yaml.safe_load((PROJECT / "conf/test/markets.yml").read_text("utf-8"))["markets"]}
        )
        run = yaml.safe_load((base / "parameters_run.yml").read_text("utf-8"))
        run["clock"] = {"as_of": f'${{runtime_params:as_of,"{START.isoformat()}"}}', "train_as_of": START.isoformat()}
        _write(base / "parameters_run.yml", run)
        _write(
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
        base, names = self.folder / "conf" / "base", [card["id"] for card in cards]
        groups = [{"id": "all_farms", "name": "All", "farms": names}] if len(names) > 1 else []
        _write(base / "farms.yml", {"farms": cards, "groups": groups})
        product = {
            "id": "hourly_36h", "name": "Hourly, 36 hours", "market": "test_hourly", "granularity_minutes": 60,
            "horizon_minutes": 2160, "issue_times": [f"{hour:02d}:00" for hour in range(0, 24, 6)],
            "quantile_levels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "deciding_score": "pinball_share",
            "goal": {"target": 0.03, "since": "2024-01-01"}, "members": [*names, *(group["id"] for group in groups)],
        }  # fmt: skip
        _write(base / "products.yml", {"products": [product]})

    def release(self, until: pd.Timestamp, what: str = "", farms: int | None = None) -> None:
        """Write the files that had arrived by a time: all, or those whose name contains ``what`` of the first farms."""
        names = {card["id"] for card in self.cards[: self.farms if farms is None else farms]}
        left = []
        for at, path, rows in self.held:
            if at <= until and what in path.name and path.parent.name in names:
                path.parent.mkdir(parents=True, exist_ok=True)
                rows.to_parquet(path, index=False)
            else:
                left.append((at, path, rows))
        self.held = left

    def run(self, pipelines: str, as_of: pd.Timestamp) -> dict[str, float]:
        """Run pipelines as of a time; processor seconds, seconds by the clock and peak of memory, MB."""
        words = [sys.executable, "-m", "kedro", "run", "--pipelines", pipelines, "--params", f"as_of={as_of:%Y-%m-%dT%H:%M}"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with (self.folder / "run.log").open("w") as log:
            process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            peak, done = [0.0], threading.Event()
            watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
            watcher.start()
            code = process.wait()
            done.set()
            watcher.join()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code not in {0, 3}:  # 3: incidents
            sys.exit(f"{' '.join(words)}: {code}\n{(self.folder / 'run.log').read_text()[-3000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"cpu_s": cpu, "wall_s": time.perf_counter() - began, "peak_mb": peak[0]}


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
        fleet = Fleet(Path(folder), farms, history_days)
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


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _watch(leader: int, peak: list[float], done: threading.Event) -> None:
    """Keep the greatest sum of resident memory of the processes of a session, MB."""
    while not done.wait(SAMPLE_SECONDS):
        total = 0
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    total += int((entry / "statm").read_text().split()[1])
            except (OSError, IndexError, ValueError):
                continue
        peak[0] = max(peak[0], total * resource.getpagesize() / 1e6)


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
