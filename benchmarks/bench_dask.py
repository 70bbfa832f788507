"""Measurement: the backtest of the test fleet by processes of joblib, and by one and two workers of Dask.

Cleans the test fleet and computes its features once, then computes the forecasts of all candidates in folds of five days (all
fits of a backtest) with each kind of workers, which were started and had imported the libraries before. Scheduler and workers of
Dask are processes of their own on loopback, with TLS. Processor seconds are of this process and of all those.

Rows: ``workers, jobs, tasks, wall_s, cpu_s, speedup, overhead, load``; ``speedup`` is against one worker of Dask, ``overhead``
against as many processes. Leaves with code 1 if two workers are not 1.6 times as fast as one, or 15 % slower than processes, or
if forecasts differ. Both need two cores that do nothing else: see ``load``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from record import PROJECT, RESULTS, record

sys.path.insert(0, str(PROJECT / "tests"))  # the cluster of the tests, whose workers import it too

READ = ["model_input", "admissions", "params:fleet", "params:clock", "params:training"]
REFIT_EVERY_DAYS = 5
_IMPORTS = "import catboost, lightgbm, sklearn.ensemble, time, wind_kedro.pipelines.training; time.sleep(3)"
SPEEDUP_BAR, OVERHEAD_BAR = 1.6, 0.15


def make_inputs(folder: Path) -> list[Any]:
    """What the backtest reads, of the test fleet in a clone."""
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder)], check=True)
    run = ["run", "--env", "test", "--to-outputs", "model_input,admissions"]
    subprocess.run([sys.executable, "-m", "kedro", *run], cwd=folder, check=False)  # faults of the fleet leave with 1
    return load_inputs(folder)


def load_inputs(folder: Path) -> list[Any]:
    """What the backtest reads, of a project in which the test fleet has run; with folds that are shorter, and so more."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(folder)
    with KedroSession.create(folder, env="test") as session:
        catalog = session.load_context().catalog
        inputs = [catalog.load(name) for name in READ]
    backtest = inputs[-1].backtest.model_copy(update={"refit_every_days": REFIT_EVERY_DAYS})
    return [*inputs[:-1], inputs[-1].model_copy(update={"backtest": backtest})]


@contextmanager
def dask_workers(jobs: int) -> Iterator[Any]:
    """Settings of a cluster with so many workers."""
    from dask_cluster import served
    from wind_kedro.compute import Workers

    with tempfile.TemporaryDirectory() as folder, served(Path(folder), jobs) as cluster:
        workers = Workers.model_validate({"backend": "dask", "scheduler": cluster.address, "tls": cluster.tls})
        from wind_kedro.compute.cluster import connected

        connected(workers).wait_for_workers(jobs, timeout=60)
        yield workers


@contextmanager
def processes(jobs: int) -> Iterator[Any]:
    """Settings of processes of joblib."""
    from joblib.externals.loky import get_reusable_executor

    from wind_kedro.compute import Workers

    yield Workers(backend="loky", jobs=jobs)
    get_reusable_executor().shutdown(kill_workers=True)


def measure(inputs: list[Any], kind: Callable[[int], Any], jobs: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """A row, and the forecasts."""
    from wind_kedro.compute import map_farms
    from wind_kedro.pipelines.training.backtest import backtest_candidates

    with kind(jobs) as workers:
        recipe = backtest_candidates(*inputs, workers)
        # Every process imports what it needs: each gets one of these while the others wait.
        map_farms(exec, dict.fromkeys(range(2 * jobs), (_IMPORTS,)), workers=workers, label="import")
        before, began = _cpu_seconds(), time.perf_counter()
        forecasts = recipe.work(recipe.wanted)
        wall, spent = time.perf_counter() - began, _cpu_seconds() - before
    row = {"workers": "dask" if kind is dask_workers else "processes", "jobs": jobs, "tasks": len(recipe.wanted)}
    keys = ["product_id", "entity_id", "model", "issued_at", "valid_at"]
    return row | {"wall_s": wall, "cpu_s": spent, "load": os.getloadavg()[0]}, forecasts.sort_values(keys, ignore_index=True)


def _cpu_seconds() -> float:
    """Of this process and of all that it started and that run."""
    import psutil

    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def main() -> int:
    """Measure, and judge the bars."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--project", type=Path, help="a copy of the project whose test fleet has run; default: a clone is made and run"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = load_inputs(options.project) if options.project else make_inputs(Path(folder) / "project")
        measured = [measure(inputs, *of) for of in ((processes, 2), (dask_workers, 1), (dask_workers, 2))]
    table = pd.DataFrame([row for row, _ in measured])
    wall = table["wall_s"].to_numpy()
    table = table.assign(speedup=wall[1] / wall, overhead=wall / wall[0] - 1).round({"wall_s": 1, "cpu_s": 1, "load": 1})
    table.loc[table["workers"] == "processes", ["speedup", "overhead"]] = None
    table.loc[table["jobs"] == 1, "overhead"] = None
    record("bench-dask", table.round({"speedup": 2, "overhead": 3}), options.out)
    speedup, overhead = wall[1] / wall[2], wall[2] / wall[0] - 1
    print(
        f"two workers: {speedup:.2f} times as fast as one (bar {SPEEDUP_BAR}), overhead {overhead:.1%} (bar {OVERHEAD_BAR:.0%})"
    )
    same = all(forecasts.equals(measured[0][1]) for _, forecasts in measured)
    print("forecasts are equal to the last bit" if same else "forecasts differ")
    return int(speedup < SPEEDUP_BAR or overhead > OVERHEAD_BAR or not same)


if __name__ == "__main__":
    sys.exit(main())
