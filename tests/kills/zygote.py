"""Runs the project's commands in forked children, each killed at one of its write points, after some time, or not at all.

The libraries are imported once, so that a run costs its own work only. Write points are found by Python's audit events, which
no way of opening, renaming or removing a file avoids, by SQLite's trace of commits, and around what DuckDB and Delta write by
themselves.
The instruments are in the child alone; the package knows nothing of them.

Reads a JSON object a line: ``folder``, ``words``, and perhaps ``kill_at`` (number of a write point, from 1) or ``kill_after``
(seconds); answers with ``status`` (exit code, or the signal's number negated) and ``points`` (kind and path of each).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sqlite3.dbapi2
import sys
import threading
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Audit events that change a folder, and which of their arguments is the path.
CHANGES = {
    "os.rename": 1,
    "os.link": 1,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.mkdir": 0,
    "os.truncate": 0,
    "os.symlink": 1,
}


class Points:
    """Counts write points below a folder, and kills this process at one of them."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self._folder = f"{folder}{os.sep}"
        self._kill_at = kill_at
        self._lock = threading.Lock()
        self.found: list[tuple[str, str]] = []

    def watch(self) -> None:
        from ibis.backends.duckdb import Backend

        write = Backend.to_parquet

        def to_parquet(backend: Any, expression: Any, path: Any, *args: Any, **options: Any) -> Any:
            self.reach("duckdb begins", str(path))
            result = write(backend, expression, path, *args, **options)
            self.reach("duckdb ends", str(path))
            return result

        Backend.to_parquet = to_parquet
        import deltalake

        commit = deltalake.write_deltalake

        def write_deltalake(table: Any, *args: Any, **options: Any) -> None:
            where = getattr(table, "table_uri", table)
            self.reach("delta begins", str(where).removeprefix("file://"))
            commit(table, *args, **options)
            self.reach("delta ends", str(where).removeprefix("file://"))

        deltalake.write_deltalake = write_deltalake
        connect = sqlite3.connect

        def connect_and_trace(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self._trace)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = connect_and_trace  # type: ignore[assignment, misc]
        sys.addaudithook(self._see)

    def reach(self, kind: str, path: str) -> None:
        whole = os.path.abspath(path)  # noqa: PTH100 - as it is called, without following links
        if not whole.startswith(self._folder) or "__pycache__" in whole:
            return
        with self._lock:
            self.found.append((kind, whole[len(self._folder) :]))
            if len(self.found) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes) and isinstance(args[2], int) and args[2] & WRITES:
            self.reach("open", os.fsdecode(args[0]))
        elif event in CHANGES:
            path = os.fsdecode(args[CHANGES[event]])
            # What is not there is not removed, and what is there not made: nothing changes.
            if event not in {"os.mkdir", "os.remove", "os.rmdir"} or os.path.lexists(path) != (event == "os.mkdir"):
                self.reach(event, path)

    def _trace(self, statement: str) -> None:
        if statement.upper().startswith("COMMIT"):
            self.reach("sqlite", str(Path.cwd() / "mlflow.db"))


def child(order: dict[str, Any], answer: int) -> int:
    """Run one command; what it prints goes to ``printed.log`` beside its folder."""
    folder = Path(order["folder"]).resolve()
    os.chdir(folder)
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order.get("kill_after") is not None:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, order["kill_after"])
    points = Points(folder, order.get("kill_at"))
    points.watch()
    from wind_kedro.cli import cli

    code = 0
    try:
        cli(order["words"], standalone_mode=True)
    except SystemExit as error:
        code = int(error.code or 0)
    os.write(answer, json.dumps(points.found).encode())
    return code


def serve() -> None:
    """Answer orders until there are no more."""
    from kedro.framework.project import configure_project

    # The heavy ones, which every run of the project imports.
    for name in (
        "ibis.backends.duckdb", "mlflow.pyfunc", "kedro_mlflow.framework.hooks.mlflow_hook", "pandera", "plotly.graph_objects",
        "pyarrow.parquet", "sklearn.ensemble", "scipy.stats", "kedro_datasets.pandas", "kedro.framework.session",
    ):  # fmt: skip
        with contextlib.suppress(ImportError):
            __import__(name)
    configure_project("wind_kedro")
    for line in sys.stdin:
        order = json.loads(line)
        reading, answer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            code = 99
            with contextlib.suppress(BaseException):
                code = child(order, answer)
            sys.stdout.flush()
            os._exit(code)
        os.close(answer)
        with os.fdopen(reading, "rb") as stream:
            points = stream.read()
        _, status = os.waitpid(pid, 0)
        answers = {"status": os.waitstatus_to_exitcode(status), "points": json.loads(points or b"[]")}
        sys.stdout.write(f"{json.dumps(answers)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
