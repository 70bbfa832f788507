"""Measurement: what a first hour with the project costs, from an empty machine on.

Clones the commit that is checked out into an empty folder, with empty package caches, and there measures, in this
order: installing, the first `make run`, the second with its memory, `kedro run --env test`, and what our own code adds
to `kedro registry list` over an empty project with the same plugins. Needs the network, 5 GB of disk and about ten
minutes.
Leaves with code 1 if a bar is missed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from record import PROJECT, commit, record

#: How often start-up is measured, ours and empty by turns: the median of five bears two disturbed runs.
START_ROUNDS = 5
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    seconds: float
    peak_mb: float  # all its processes together; not a number where the system has no /proc


class CommandFailedError(Exception):
    """A command that was to be measured failed: then there is nothing to measure."""


def measure(words: Sequence[str], folder: Path, environment: dict[str, str]) -> Measured:
    """Run a command to its end, and watch how much memory all its processes hold together.

    Memory is the sum of resident sets over the command's session (workers of workers too), sampled; pages that
    processes share are counted in each, so it is an upper bound.

    Raises:
        CommandFailedError: with the last lines it printed.
    """
    peak = [float("nan")]
    with tempfile.TemporaryFile("w+") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, done, peak))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - begin
        done.set()
        watcher.join()
        if code:
            output.seek(0)
            last = "".join(output.readlines()[-15:])
            raise CommandFailedError(f"{' '.join(words)} left with code {code} in {folder}:\n{last}")
    return Measured(seconds, peak[0])


def _watch(session: int, done: threading.Event, peak: list[float]) -> None:
    while not done.wait(SAMPLE_SECONDS):
        held = session_memory_mb(session)
        peak[0] = held if not peak[0] >= held else peak[0]


def session_memory_mb(session: int) -> float:
    """Resident memory of all processes of a session, MB (10^6 bytes); not a number where the system has no /proc."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").is_file():
        return float("nan")
    pages = 0
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # Behind the name, which may hold blanks: state, parent, process group, session (proc_pid_stat(5)).
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session:
                pages += int((entry / "statm").read_text().split()[1])
        except OSError:
            continue  # it ended in between
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_empty_project(folder: Path) -> Path:
    """The least that Kedro calls a project: one pipeline of one node, no code, no data."""
    package = folder / "src" / "empty_project"
    package.mkdir(parents=True)
    for environment in ("base", "local"):
        (folder / "conf" / environment).mkdir(parents=True)
    files = {
        folder / "pyproject.toml": (
            '[project]\nname = "empty-project"\nversion = "0"\n\n[tool.kedro]\npackage_name = "empty_project"\n'
            'project_name = "empty-project"\nkedro_init_version = "1.7.0"\nsource_dir = "src"\n'
        ),
        folder / "conf" / "base" / "catalog.yml": "{}\n",
        # As in ours: an attempt to send usage statistics would make the empty project look slow, and us fast.
        folder / ".telemetry": "consent: false\n",
        package / "__init__.py": "",
        package / "settings.py": "",
        package / "pipeline_registry.py": (
            "from kedro.pipeline import Node, Pipeline\n\n\n"
            "def register_pipelines():\n"
            '    return {"__default__": Pipeline([Node(lambda: 1, inputs=None, outputs="one", name="one")])}\n'
        ),
    }
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return folder


def start_up(project: Path, empty: Path, kedro: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that `kedro registry list` takes in the project and in an empty one: medians, taken by turns."""
    words = [str(kedro), "registry", "list"]
    for folder in (project, empty):
        measure(words, folder, environment)  # compiles what was never imported
    taken: dict[Path, list[float]] = {project: [], empty: []}
    for _ in range(START_ROUNDS):
        for folder, seconds in taken.items():
            seconds.append(measure(words, folder, environment).seconds)
    return statistics.median(taken[project]), statistics.median(taken[empty])


def clean_environment(folder: Path) -> dict[str, str]:
    """This process's environment without the virtual environment it runs in, and with empty package caches."""
    ours = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV", "PYTHON"}
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("KEDRO_")}
    caches = {"UV_CACHE_DIR": str(folder / "uv-cache"), "PIP_CACHE_DIR": str(folder / "pip-cache")}
    return kept | caches | {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run_all(folder: Path) -> pd.DataFrame:
    """One row per number: name, value, unit, and the bar it has to stay at or below, where there is one."""
    project = folder / "wind-kedro"
    environment = clean_environment(folder)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(project)], check=True)
    install = measure(["make", "environment"], project, environment).seconds
    first = measure(["make", "run"], project, environment).seconds
    again = measure(["make", "run"], project, environment)
    kedro = project / ".venv" / "bin" / "kedro"
    test = measure([str(kedro), "run", "--env", "test"], project, environment).seconds
    ours, empty = start_up(project, make_empty_project(folder / "empty"), kedro, environment)
    return bench_table(install, first, again, test, ours, empty)


def bench_table(install: float, first: float, again: Measured, test: float, ours: float, empty: float) -> pd.DataFrame:
    """The numbers in order, with their bars."""
    rows = [
        ("install", install, "s", 180),
        ("first_run_without_install", first, "s", None),
        ("first_run", install + first, "s", 600),
        ("second_run", again.seconds, "s", 120),
        ("second_run_peak_memory", again.peak_mb, "MB", 3000),
        ("test_run", test, "s", 60),
        ("registry_list", ours, "s", None),
        ("registry_list_of_an_empty_project", empty, "s", None),
        ("registry_list_added_by_us", ours - empty, "s", 0.5),
    ]
    table = pd.DataFrame(rows, columns=["name", "value", "unit", "bar"])
    return table.assign(value=table["value"].round(2))


def readme_rows(table: pd.DataFrame) -> list[str]:
    """The rows of the table in benchmarks/README.md, ready to be put there."""
    return [
        f"| `{row.name}` | {row.value:g} {row.unit} | " + (f"{row.bar:g} {row.unit}" if pd.notna(row.bar) else "-") + " |"
        for row in table.itertuples(index=False)
    ]


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that are missed, a line each; a number that could not be measured misses its bar."""
    judged = table[table["bar"].notna()]
    over = judged[~(judged["value"] <= judged["bar"])]
    return [f"{row.name}: {row.value:g} {row.unit}, bar {row.bar:g}" for row in over.itertuples(index=False)]


def main() -> int:
    """Measure, write, judge; the exit code."""
    measured = commit()
    if measured == "none":
        print("there is no commit to clone: this measures what a stranger gets", file=sys.stderr)
        return 2
    if "changed" in measured:
        print("what is not committed is not measured: the clone is of the last commit", file=sys.stderr)
    # Folders of an install are many and large: they go even if a command fails.
    with tempfile.TemporaryDirectory(prefix="wind-kedro-bench-") as folder:
        try:
            table = run_all(Path(folder))
        except (CommandFailedError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            return 2
    record("bench-start", table)
    print("\nFor benchmarks/README.md, section 'What a first hour costs':\n" + "\n".join(readme_rows(table)))
    over = missed(table)
    print("\n" + ("MISSED: " + "; ".join(over) if over else "Every bar is met."))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
