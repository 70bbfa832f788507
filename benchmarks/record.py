"""How a measurement is written down: a table in the terminal, and the same as CSV with commit, date, cores, Python."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results"


def record(name: str, table: pd.DataFrame, folder: Path = RESULTS, key: Sequence[str] = ()) -> Path:
    """Print ``table`` and write it to ``folder/name.csv``, each row with where and when it was measured.

    Args:
        name: of the file.
        table: what was measured.
        folder: of the file.
        key: columns that identify a measurement: rows of the file that were not measured again are kept. None: the file is
            replaced.

    Returns:
        The file.
    """
    print(table.to_string(index=False, na_rep=""))
    stamped = table.assign(
        commit=commit(),
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        cores=usable_cores(),
        python=platform.python_version(),
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    if key and path.exists():
        earlier = pd.read_csv(path, keep_default_na=False, dtype=str).set_index(list(key))
        measured_again = stamped.astype(dict.fromkeys(key, "str")).set_index(list(key)).index
        stamped = pd.concat([earlier[~earlier.index.isin(measured_again)].reset_index(), stamped])[list(stamped)]
    stamped.to_csv(path, index=False, lineterminator="\n")
    shown = path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
    measured = f"commit {stamped['commit'].iloc[-1]}, {usable_cores()} cores, Python {platform.python_version()}"
    print(f"\nwritten to {shown}: {measured}")
    return path


def commit(project: Path = PROJECT) -> str:
    """The commit that is checked out, and whether anything but results has changed since; ``none`` without one."""
    head = _git(project, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return "none"
    # The measurement itself changes benchmarks/results: that is no change of what was measured.
    changed = _git(project, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return f"{head} (changed since)" if changed else head


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(project: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
