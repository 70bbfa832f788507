"""A process that runs commands one after the other, and stays for the next one: libraries and models are in memory by then.

A command that fails, hangs or exhausts the memory costs this process only. It ends with its parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from wind_kedro.compute.limits import has_given_up
from wind_kedro.operation.schedule import FINISHED, Outcome

#: How long a process has to end by itself, seconds.
_GRACE_SECONDS = 10

Words = list[str]
Result = tuple[Outcome, str]
#: Runs commands in turn and returns the outcome, with a message where it is not ``succeeded``; has to be importable by its name.
Run = Callable[[list[Words]], Result]


class Worker:
    """Runs commands in a process of its own.

    Args:
        run: runs the commands of one cycle.
        most: the process is replaced after so many cycles, and after each that did not finish.
    """

    def __init__(self, run: Run, most: int) -> None:
        self._run, self._most = run, most
        self._process: Any = None
        self._connection: Connection | None = None
        self._done = 0
        self.is_busy = False

    def start(self, commands: list[Words]) -> None:
        """Start to run commands; `result` has what becomes of them."""
        if self._process is None or not self._process.is_alive():
            self._begin()
        self.is_busy = True
        try:
            assert self._connection is not None  # noqa: S101 - for the type
            self._connection.send(commands)
        except OSError:  # the process has just ended, as `result` finds
            pass

    def result(self) -> Result | None:
        """Outcome and message of the commands; None while they run."""
        if self._connection is None or not self.is_busy or not self._connection.poll():
            return None
        try:
            found: Result = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_GRACE_SECONDS)
            code = self._process.exitcode
            self.stop()
            return "interrupted", f"its process ended with exit code {code}"
        self.is_busy = False
        self._done += 1
        if found[0] not in FINISHED or self._done >= self._most:
            self.stop()
        return found

    def stop(self) -> None:
        """End the process, and what it runs."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        was_busy, self.is_busy = self.is_busy, False
        if connection is not None:
            connection.close()  # an idle process ends
        if process is None:
            return
        for end in ([] if was_busy else [lambda: None]) + [process.terminate, process.kill]:
            end()
            process.join(_GRACE_SECONDS)
            if not process.is_alive():
                return

    def _begin(self) -> None:
        self.stop()
        # Spawned: a forked process would share the locks of the leases with its parent.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._run, theirs), name="wind-kedro-cycles")
        self._process.start()
        theirs.close()
        self._done = 0


def _serve(run: Run, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # releases what is held
    # A thread that is left would hold objects of libraries, which they report when the process ends.
    ended, ending = multiprocessing.Pipe(duplex=False)
    watching = threading.Thread(target=_end_with_parent, args=[ended], name="parent", daemon=True)
    watching.start()
    try:
        # A call that was given up would go on beside the next cycle: a new process runs that one.
        while not has_given_up():
            connection.send(run(connection.recv()))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        ending.close()
        watching.join()
        if has_given_up():
            os._exit(0)  # the end of Python could wait for it


def _end_with_parent(ended: Connection) -> None:
    """End the process at once when its parent ends: the next service runs the cycle again, and needs its leases.

    Args:
        ended: becomes ready when the process ends by itself.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.sentinel in wait([parent.sentinel, ended]):
        os._exit(1)
