"""Measurement: what the steps of operation cost as the made fleet (``conf/fleet``) grows.

Steps: ``first_load`` (cleaning and features of all history from raw files), ``train`` (candidates that are fitted in
milliseconds), ``cycle_cold`` (cleaning, features and forecasting of a new issue with new signals and two new weather runs, as a
command of its own, the second such cycle after the training), ``cycle_warm`` (the same of the next issue, in a process that has
run a cycle before, as the service's does), ``monitor`` (assessment of the data, with the daily readiness, monitoring and
reporting). Processor seconds are of the command with all
its processes, start-up included except in ``cycle_warm``.

Rows: ``farms, step, history_days, wall_s, cpu_s, peak_mb, load``. With ``--profile``, a further cycle is run in one process under
a profiler, whose findings are written to a file (``profile_run.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE

import pandas as pd

from made_fleet import Fleet
from record import PROJECT, RESULTS, record

CYCLE = "cleaning,feature_engineering,forecasting"
EVERY = pd.Timedelta(hours=6)


def steps(fleet: Fleet, profile: Path | None) -> Iterator[tuple[str, dict[str, float]]]:
    """The steps one after another, each on what the one before left."""
    fleet.run("ingestion", fleet.start)  # makes the database of MLflow
    yield "first_load", fleet.run("data_engineering,feature_engineering", fleet.start)
    yield "train", fleet.run("training", fleet.start)
    fleet.run(CYCLE, fleet.start)  # the first one after a training reads what later ones need not
    fleet.release(fleet.start + EVERY)
    yield "cycle_cold", fleet.run(CYCLE, fleet.start + EVERY)
    if profile is not None:
        fleet.release(fleet.start + 2 * EVERY)
        profiler = [str(PROJECT / "benchmarks" / "profile_run.py"), str(profile.absolute()), "kedro"]
        # In one process, as a profiler sees no other.
        fleet.run(CYCLE, fleet.start + 2 * EVERY, "workers.jobs=1", command=profiler)
    warm = [fleet.start + number * EVERY for number in (2, 3)]
    yield "cycle_warm", _warm(fleet, warm)
    yield "monitor", fleet.run("assessment,monitoring,reporting", warm[-1])


def _warm(fleet: Fleet, issues: Sequence[pd.Timestamp]) -> dict[str, float]:
    """What the last of some cycles costs that run one after the other in a process like that of the service."""
    words = [sys.executable, str(Path(__file__).absolute()), "--serve"]
    with (
        (fleet.folder / "warm.log").open("w") as log,
        subprocess.Popen(words, cwd=fleet.folder, stdin=PIPE, stdout=PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for the types
        found = {}
        for issue in issues:
            fleet.release(issue)
            print(f"run --env {fleet.environment} --pipelines {CYCLE} --params as_of={issue:%Y-%m-%dT%H:%M}", file=process.stdin)
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                sys.exit(f"cycle_warm: {process.wait()}\n{(fleet.folder / 'warm.log').read_text()[-3000:]}")
            found = json.loads(line)
        process.stdin.close()
    return found


def _serve() -> None:
    """Run commands that are read from standard input, as the service's process does, and write what each cost."""
    from wind_kedro.cli.operate import run_commands

    results = os.dup(1)
    os.dup2(2, 1)  # what commands write is no result
    for line in sys.stdin:
        before, began = os.times(), time.perf_counter()
        outcome, reason = run_commands([line.split()])
        if outcome == "failed":
            sys.exit(reason)
        after, wall = os.times(), time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        found = {"cpu_s": sum(after[:4]) - sum(before[:4]), "wall_s": wall, "peak_mb": peak}
        os.write(results, (json.dumps(found) + "\n").encode())


def measure(farms: int, history_days: int, profile: Path | None = None) -> pd.DataFrame:
    """One row per step."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), farms, history_days)
        fleet.make()
        rows = []
        for step, found in steps(fleet, profile):
            rows.append({"farms": farms, "step": step, "history_days": history_days} | found | {"load": os.getloadavg()[0]})
            print(f"{farms} farms, {step}: {found['cpu_s']:.1f} s of processor, {found['wall_s']:.1f} s", flush=True)
    table = pd.DataFrame(rows)[["farms", "step", "history_days", "wall_s", "cpu_s", "peak_mb", "load"]]
    return table.round({"cpu_s": 2, "wall_s": 1, "peak_mb": 0, "load": 1})


def main() -> None:
    """Measure fleets of the sizes that are asked for; each is recorded when it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--days", type=int, default=14, help="of history (default: %(default)s)")
    parser.add_argument("--profile", type=Path, help="folder for profile-FARMS.txt")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of bench-fleet.csv (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return _serve()
    for farms in options.farms:
        profile = options.profile / f"profile-{farms}.txt" if options.profile else None
        table = measure(farms, options.days, profile)
        record("bench-fleet", table, options.out, key=["farms", "step", "history_days"])


if __name__ == "__main__":
    sys.exit(main())
