"""Runs of data_engineering killed at random: every earlier table stays whole, and a rerun is as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

#: Two moments of the test fleet: every table differs between them.
EARLIER, LATER = "2024-03-15T00:00:00Z", "2024-04-10T00:00:00Z"
TABLES = ("02_intermediate", "03_primary")

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


def run_killed(folder: Path, as_of: str, after: float) -> bool:
    """Start the room and kill it after so many seconds; whether it was still at work."""
    process = subprocess.Popen(command(as_of), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def tables(folder: Path) -> Tables:
    """Every table that the room left, rows in an order of their own: engines write in the order of their threads."""
    found = {}
    for layer in TABLES:
        for path in sorted((folder / "data/test" / layer).glob("[!.]*.parquet")):
            table = pd.read_parquet(path)
            found[path.stem] = table.sort_values(list(table.columns), ignore_index=True)
    return found


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return list(one.columns) == list(other.columns) and one.equals(other)


@pytest.mark.parametrize(
    "kills",
    [pytest.param(2, id="two", marks=pytest.mark.slow), pytest.param(20, id="twenty", marks=pytest.mark.long)],
)
def test_a_killed_run_leaves_earlier_tables_whole_and_a_rerun_is_as_if_nothing_had_happened(
    make_checkout: Callable[[], Path], kills: int
) -> None:
    folder = make_checkout()
    run(folder, EARLIER)
    earlier = tables(folder)
    took = run(folder, LATER)
    later = tables(folder)
    assert {name for name in later if not same(earlier[name], later[name])} >= {"signals", "observations", "weather"}

    run(folder, EARLIER)
    assert all(same(table, earlier[name]) for name, table in tables(folder).items()), "a rerun changed something"
    moments = np.random.default_rng(20241123)
    struck = 0
    for _ in range(kills):
        # Starting up takes the first third, and writes nothing.
        struck += run_killed(folder, LATER, took * moments.uniform(0.3, 1.0))
        left = tables(folder)
        assert set(left) == set(later)
        torn = [name for name, table in left.items() if not (same(table, earlier[name]) or same(table, later[name]))]
        assert torn == []
    assert struck, "no run was still at work when it was killed"
    run(folder, LATER)
    assert [name for name, table in tables(folder).items() if not same(table, later[name])] == []
