"""Lease of an environment, which one process at a time holds to write results.

A lease is a lock of the operating system (`flock`, through filelock) with a record that names the holder in messages. Only the
lock counts: the system releases it when the process ends, so that neither a reused process id nor an unreadable record affects
the lease.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import Field

from wind_kedro.errors import WindKedroError, settings_of
from wind_kedro.storage.temporary import written_aside
from wind_kedro.strict import Strict

logger = logging.getLogger(__name__)


class HeldLeaseError(WindKedroError):
    """Another process holds the lease; nothing was written."""


class LeaseSettings(Strict):
    """Settings `lease` in ``parameters_run.yml``."""

    wait_seconds: float = Field(30, ge=0, description="how long a process waits for another one to release the lease")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The settings in the parameters of a run; a `WindKedroError` names file and key of each fault."""
        return settings_of(cls, parameters.get("lease", {}), "parameters_run.yml: lease")


class Lease:
    """The right to write, held by one process at a time; a context manager.

    Args:
        folder: data folder of the environment.
        what: what the lease is about, as part of a file name: ``tables``, ``landing`` or ``cards``.
        wait_seconds: how long `acquire` waits for another holder.
    """

    def __init__(self, folder: Path, what: str, wait_seconds: float) -> None:
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._record = folder / f".lease-{what}.json"
        # One thread may take the lease and another release it: the lock belongs to the process.
        self._lock = FileLock(folder / f".lease-{what}.lock", thread_local=False)

    def acquire(self) -> None:
        """Acquire the lease, waiting for it if necessary.

        Raises `HeldLeaseError` if another process, or another run of this one, still holds it after ``wait_seconds``, and
        `WindKedroError` if the data folder cannot be written to.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._try(0):
                if self._wait_seconds:
                    logger.info("%s; waiting for up to %g s", self._holder(), self._wait_seconds)
                if not self._try(self._wait_seconds):
                    raise HeldLeaseError(
                        f"{self._holder()}: start again when it has ended, or wait longer for it, "
                        f"with --params lease.wait_seconds=SECONDS or in parameters_run.yml (it is {self._wait_seconds:g})"
                    )
            record = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            }
            with written_aside(self._record) as aside:
                aside.write_text(json.dumps(record) + "\n", encoding="utf-8")
        except OSError as error:
            self._lock.release()
            raise WindKedroError(
                f"{self._folder}: a run writes its results here, and cannot ({error.strerror or error}): "
                f"give this user the right to write, or correct `data` in globals.yml"
            ) from error

    def release(self) -> None:
        """Release the lease; no effect if it is not held."""
        if self._lock.is_locked:
            self._record.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self, seconds: float) -> bool:
        try:
            self._lock.acquire(timeout=seconds, poll_interval=0.1)
        except Timeout:
            return False
        return True

    def _holder(self) -> str:
        """Describe the holder of the lease from the record, if it can be read."""
        try:
            record = json.loads(self._record.read_bytes())
            who = f"process {record['pid']} on {record['host']} ({record['command']}) since {record['since']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            who = f"another process (its record {self._record.name} cannot be read)"
        return f"{who} writes the results in {self._folder}"
