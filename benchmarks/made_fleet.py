"""A made fleet of any size: its cards and raw files in a project, and runs of that project, measured.

As a script (``make fleet FARMS=100 DAYS=90``), makes the farms of ``conf/fleet``: their cards (``conf/fleet/farms.yml``), their
history of so many days and a day after it (``data/fleet/01_raw``). The same numbers give the same farms and files.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from record import PROJECT

sys.path.append(str(PROJECT / "tests"))  # where the synthetic fleet is

from synthetic.any_size import Batch, FleetSettings, batches, patterned

SAMPLE_SECONDS = 0.25
#: Share of the machine's memory above which a run is ended: it would take the machine with it.
MEMORY_SHARE = 0.5


@dataclass
class Fleet:
    """A project with the raw data of a made fleet, of which a case releases what arrived by its time.

    Args:
        folder: of the project.
        farms: that have cards.
        history_days: before `start`.
        days_after: of data that arrives later.
        spare: farms more, without cards, whose data is held back.
        environment: of the configuration.
    """

    folder: Path
    farms: int
    history_days: int
    days_after: int = 1
    spare: int = 0
    environment: str = "fleet"
    cards: list[dict[str, Any]] = field(default_factory=list)
    held: list[Batch] = field(default_factory=list)

    @cached_property
    def settings(self) -> FleetSettings:
        """How the farms are made."""
        return FleetSettings.read(PROJECT / "conf/fleet/synthetic.yml")

    @property
    def start(self) -> pd.Timestamp:
        """The end of the history, and the first issue that is forecast."""
        return pd.Timestamp(self.settings.as_of)

    @property
    def raw(self) -> Path:
        """The folder of the raw files."""
        return self.folder / "data" / ("" if self.environment == "base" else self.environment) / "01_raw"

    def make(self) -> None:
        """Write configuration and history; keep later files in memory."""
        self.copy_project()
        self.make_data()

    def make_data(self) -> None:
        """Write cards and history; keep later files, and all of spare farms, in memory."""
        weather = yaml.safe_load((PROJECT / "conf/test/synthetic.yml").read_text("utf-8"))
        farms = self.settings.farms(self.farms + self.spare)
        recipe = self.settings.recipe(weather, farms, self.history_days, self.days_after)
        self.cards = [patterned(farm) for farm in farms]
        spare = {farm.id for farm in farms[self.farms :]}
        for batch in batches(farms, recipe, self.start):
            if batch.arrives_at > self.start or Path(batch.path).parent.name in spare:
                self.held.append(batch)
            else:
                self._land(batch)
        self.write_cards(self.cards[: self.farms])

    def copy_project(self) -> None:
        """The configuration of an empty project."""
        for name in {"base", self.environment}:
            shutil.copytree(PROJECT / "conf" / name, self.folder / "conf" / name)
        shutil.copy(PROJECT / "conf" / "logging.yml", self.folder / "conf")
        shutil.copy(PROJECT / "pyproject.toml", self.folder)
        for name in ("src", "conf/local"):
            (self.folder / name).mkdir()

    def write_cards(self, cards: list[dict[str, Any]]) -> None:
        """Write farms, their portfolio and who is a member of the product."""
        names = [card["id"] for card in cards]
        groups = [{"id": "all_farms", "name": "All farms", "farms": names}] if len(names) > 1 else []
        content = {"farms": cards, "groups": groups, "members": [*names, *(group["id"] for group in groups)]}
        path = self.folder / "conf" / self.environment / "farms.yml"
        write_yaml(path, content, "Written by make fleet FARMS= DAYS=, which replaces it; committed with three farms.")

    def release(self, until: pd.Timestamp, what: str = "", farms: int | None = None) -> None:
        """Write the files that had arrived by a time: all, or those whose name contains ``what`` of the first farms."""
        names = {card["id"] for card in self.cards[: self.farms if farms is None else farms]}
        left = []
        for batch in self.held:
            path = Path(batch.path)
            if batch.arrives_at <= until and what in path.name and path.parent.name in names:
                self._land(batch)
            else:
                left.append(batch)
        self.held = left

    def _land(self, batch: Batch) -> None:
        path = self.raw / batch.path
        path.parent.mkdir(parents=True, exist_ok=True)
        batch.rows.to_parquet(path, index=False)

    def run(
        self, pipelines: str, as_of: pd.Timestamp, *parameters: str, command: Sequence[str] = ("-m", "kedro")
    ) -> dict[str, float]:
        """Run pipelines as of a time; processor seconds, seconds by the clock and peak of memory, MB.

        Args:
            pipelines: names, comma-separated.
            as_of: the time.
            parameters: more of them, NAME=VALUE.
            command: what Python is to run, Kedro or a profiler around it.
        """
        words = [sys.executable, *command, "run", "--env", self.environment, "--pipelines", pipelines]
        words += ["--params", ",".join([f"as_of={as_of:%Y-%m-%dT%H:%M}", *parameters])]
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
        if code == -signal.SIGKILL:
            sys.exit(f"{' '.join(words)}: ended, as it took {peak[0]:.0f} MB; measure fewer farms or days")
        if code not in {0, 3}:  # 3: incidents
            sys.exit(f"{' '.join(words)}: {code}\n{(self.folder / 'run.log').read_text()[-3000:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"cpu_s": cpu, "wall_s": time.perf_counter() - began, "peak_mb": peak[0]}


def write_yaml(path: Path, content: Any, comment: str = "") -> None:
    """Write a file of the configuration."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(f"# {comment}\n{text}" if comment else text, encoding="utf-8")


def _watch(leader: int, peak: list[float], done: threading.Event) -> None:
    """Keep the greatest sum of resident memory of the processes of a session, MB, and end them if it is too much."""
    limit = MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * resource.getpagesize() / 1e6
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
        if peak[0] > limit:
            os.killpg(leader, signal.SIGKILL)
            return


def main() -> None:
    """Make the farms of conf/fleet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--days", type=int, default=90, help="of history (default: %(default)s)")
    parser.add_argument("--project", type=Path, default=PROJECT, help="whose conf/fleet and data/fleet are written")
    options = parser.parse_args()
    if min(options.farms, options.days) < 1:
        parser.error("--farms and --days: at least 1")
    if not (options.project / "conf/fleet").is_dir():
        parser.error(f"--project: {options.project} has no conf/fleet; name the folder of a project of wind-kedro")
    fleet = Fleet(options.project, options.farms, options.days)
    fleet.make_data()
    fleet.release(fleet.start + pd.Timedelta(days=1))
    print(f"{options.farms} farms, {options.days} days: {fleet.raw}; now: kedro run --env fleet")


if __name__ == "__main__":
    main()
