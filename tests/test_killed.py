"""Runs killed at random: every earlier table and champion stays whole, and a rerun is as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.datasets import tables_in

#: Two moments of the test fleet: every table differs between them. The later one is its own now, as of which the shared run ran.
EARLIER, LATER = "2024-03-15T00:00:00Z", "2024-04-10T00:00:00Z"
TABLES = ("02_intermediate", "03_primary")
KILLS = 20

Tables = dict[str, pd.DataFrame]


def command(as_of: str) -> list[str]:
    words = ["run", "--env", "test", "--pipelines", "data_engineering", "--params", f"as_of={as_of}"]
    return [sys.executable, "-m", "kedro", *words]


def run(folder: Path, as_of: str) -> float:
    """Run the room to its end; how long it took, seconds."""
    begun = time.monotonic()
    done = subprocess.run(command(as_of), cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - begun


def run_killed(folder: Path, words: list[str], after: float) -> bool:
    """Start a command and kill it after so many seconds; whether it was still at work."""
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too, as when the power fails
        process.wait()
        return True
    return False


def tables(folder: Path) -> Tables:
    """Every table that the room left, rows in an order of their own: engines write in the order of their threads."""
    found = {}
    for name, table in tables_in(folder / "data/test", without={"raw_rows"}).items():
        if name.startswith(TABLES):
            arrays = [column for column in table if isinstance(table[column].iloc[:1].squeeze(), np.ndarray)]
            plain = table.assign(**{column: table[column].map(lambda array: array.tobytes().hex()) for column in arrays})
            found[Path(name).name] = plain.sort_values(list(table.columns), ignore_index=True)
    return found


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return list(one.columns) == list(other.columns) and one.equals(other)


def rows_of(table: pd.DataFrame) -> set[int]:
    return set(pd.util.hash_pandas_object(table.astype("str"), index=False))


@pytest.mark.long  # `test_kills` kills at commits, in `make test`
def test_a_killed_run_leaves_earlier_tables_whole_and_a_rerun_is_as_if_nothing_had_happened(
    make_checkout: Callable[[], Path], test_env_project: Path
) -> None:
    # What a run that nobody disturbs leaves: that it is the same in any folder, the last comparison shows.
    later = tables(test_env_project)
    folder = make_checkout()
    took = run(folder, EARLIER)
    earlier = tables(folder)
    assert set(earlier) == set(later)
    assert {name for name in later if not same(earlier[name], later[name])} >= {"signals", "observations", "weather"}
    whole = {name: rows_of(earlier[name]) | rows_of(later[name]) for name in later}
    moments = np.random.default_rng(20241123)
    struck = 0
    while struck < KILLS and took > 1:
        # Starting up takes the first third, and writes nothing.
        after = took * moments.uniform(0.3, 1.0)
        if run_killed(folder, command(LATER), after):
            struck += 1
        else:  # it was through before: the machine has less to do by now
            took = 0.9 * after
        left = tables(folder)
        assert set(left) == set(later)
        # What is computed in several parts may have some of the new ones: each is whole.
        torn = [name for name, table in left.items() if not rows_of(table) <= whole[name]]
        assert torn == []
    assert struck == KILLS, "runs were no longer at work when they were to be killed"
    run(folder, LATER)
    assert [name for name, table in tables(folder).items() if not same(table, later[name])] == []


# --- promotions ------------------------------------------------------------------------------------------------------

#: Fits the fleet as of a later moment, registers the version and promotes it.
PROMOTE = [
    sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", "training", "--from-nodes", "promotion.fit_fleet",
    "--to-nodes", "promotion.promote", "--params", "clock.train_as_of=2024-04-08T00:00:00Z",
]  # fmt: skip
#: Says what a run of forecasting would find: the version in force by the log, its models, and what the alias names.
CHAMPION = """
import json, sys
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from pathlib import Path
from wind_kedro.governance.champions import version_in_force
bootstrap_project(Path.cwd())
with KedroSession.create(project_path=Path.cwd(), env="test", save_on_close=False) as session:
    catalog = session.load_context().catalog
    promotions = catalog.load("promotions")
    version = version_in_force(promotions)
    members = catalog.load("model_versions").version(version).members
    found = {
        "version": version,
        "members": sorted("/".join(key) for key in members),
        "numbers": sorted(promotions["promotion"].unique().tolist()),
        "alias": catalog.load("champion"),
    }
    print(json.dumps(found))
"""


def champion(folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", CHAMPION], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.long
def test_a_killed_promotion_leaves_exactly_one_whole_champion(test_env_project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(test_env_project, folder)
    before = champion(folder)
    begun = time.monotonic()
    subprocess.run(PROMOTE, cwd=folder, check=True, capture_output=True)
    took = time.monotonic() - begun
    now = champion(folder)
    assert now["version"] != before["version"]
    assert now["members"] == before["members"]
    moments = np.random.default_rng(20261126)
    struck = 0
    for _ in range(8):
        # The last two fifths: models are stored, the version registered, promoted and named.
        struck += run_killed(folder, PROMOTE, took * moments.uniform(0.6, 1.0))
        left = champion(folder)
        assert left["members"] == before["members"]
        promoted = left["numbers"] == [*now["numbers"], now["numbers"][-1] + 1]
        assert promoted or left["numbers"] == now["numbers"]
        assert promoted == (left["version"] != now["version"])
        now = left
    assert struck, "no run was still at work when it was killed"
    subprocess.run(PROMOTE, cwd=folder, check=True, capture_output=True)
    last = champion(folder)
    assert last["numbers"] == [*now["numbers"], now["numbers"][-1] + 1]
    assert last["alias"] == last["version"]
