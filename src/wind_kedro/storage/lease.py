"""Lease of an environment, which one process at a time holds to write results.

On a disk, a lease is a lock of the operating system (`flock`, through filelock) with a record that names the holder in messages.
Only the lock counts: the system releases it when the process ends, so that neither a reused process id nor an unreadable record
affects the lease. In an object store it is an object, which its holder puts anew in regular intervals; if the holder is killed,
the object is not renewed any more and the lease expires.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from filelock import FileLock, Timeout
from pydantic import Field

from wind_kedro.errors import WindKedroError, settings_of
from wind_kedro.storage import object_store
from wind_kedro.storage.paths import is_in_store, make_folder
from wind_kedro.storage.temporary import written_aside
from wind_kedro.strict import Strict

logger = logging.getLogger(__name__)

#: Default of `LeaseSettings.expires_seconds`.
_EXPIRES_SECONDS = 60


class HeldLeaseError(WindKedroError):
    """Another process holds the lease; nothing was written."""


class LostLeaseError(WindKedroError):
    """The lease expired before this process renewed it, so that another process may write."""


class LeaseSettings(Strict):
    """Settings `lease` in ``parameters_run.yml``."""

    wait_seconds: float = Field(30, ge=0, description="how long a process waits for another one to release the lease")
    expires_seconds: float = Field(
        _EXPIRES_SECONDS, ge=2, description="in an object store: when the lease of a process ends that was killed"
    )

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The settings in the parameters of a run; a `WindKedroError` names file and key of each fault."""
        return settings_of(cls, parameters.get("lease", {}), "parameters_run.yml: lease")


class _Lock(Protocol):
    """What a lease needs of a lock: `filelock.FileLock`, or `ObjectLock`."""

    def acquire(self, timeout: float, poll_interval: float) -> object: ...
    def release(self) -> None: ...
    @property
    def is_locked(self) -> bool: ...


class ObjectLock:
    """A lock that is an object in a store, with the interface of `filelock.FileLock`.

    Whether it is held follows from the object's age by the clock of the store, so that clocks of machines need not agree. Each
    change is a conditional put: of several processes that find it free or expired, one gets it.

    Args:
        path: of the object; empty, it is free.
        expires_seconds: how long the lock is held without being renewed.
    """

    def __init__(self, path: Path, expires_seconds: float = _EXPIRES_SECONDS) -> None:
        self._path = path
        self._expires_seconds = expires_seconds
        self._etag = ""
        self._holder: dict[str, Any] = {}
        self._until = 0.0  # of the monotonic clock
        self._ended = threading.Event()
        self._changing = threading.Lock()

    @property
    def is_locked(self) -> bool:
        """Whether this object holds the lock, or held it and lost it."""
        return bool(self._etag)

    @property
    def is_lost(self) -> bool:
        """Whether the lock expired, or was taken by another process, while it was held here."""
        return self.is_locked and time.monotonic() >= self._until

    def acquire(self, timeout: float, poll_interval: float = 0.1) -> None:
        """Take the lock, waiting for it up to ``timeout`` seconds.

        Raises:
            Timeout: if it is held by another process.
        """
        end = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= end:
                raise Timeout(str(self._path))
            time.sleep(min(max(poll_interval, 0.5), max(end - time.monotonic(), 0)))
        self._ended.clear()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def release(self) -> None:
        """Free the lock, if it is still held here."""
        if not self.is_locked:
            return
        self._ended.set()
        with self._changing:
            try:
                object_store.replace(self._path, b"", self._etag)
            except OSError as error:  # taken over, or it expires by itself
                logger.warning("%s: cannot be freed (%s)", self._path, error)
            self._etag = ""

    def __enter__(self) -> Self:
        """Take the lock, waiting for a minute more than it takes to expire."""
        self.acquire(self._expires_seconds + 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self) -> bool:
        self._holder = _holder()
        began = time.monotonic()
        found = object_store.state_of(self._path)
        try:
            if found is None:
                self._etag = object_store.create(self._path, self._record())
            elif not found.size or found.age_seconds > self._expiry_of_holder():
                self._etag = object_store.replace(self._path, self._record(), found.etag)
            else:
                return False
        except FileExistsError:
            return False
        self._until = began + self._expires_seconds
        return True

    def _expiry_of_holder(self) -> float:
        try:
            return float(json.loads(object_store.read(self._path))["expires_seconds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return self._expires_seconds

    def _record(self) -> bytes:
        # A renewed object has to differ from the one before: its ETag may be a hash of its content.
        more = {"expires_seconds": self._expires_seconds, "renewal": uuid.uuid4().hex}
        return (json.dumps(self._holder | more) + "\n").encode()

    def _renew(self) -> None:
        while not self._ended.wait(self._expires_seconds / 4):
            with self._changing:
                if self._ended.is_set() or self.is_lost:
                    return
                began = time.monotonic()
                try:
                    self._etag = object_store.replace(self._path, self._record(), self._etag)
                    self._until = began + self._expires_seconds
                except FileExistsError:
                    self._until = began
                    logger.error("%s: was taken over by another process", self._path)
                    return
                except Exception as error:  # whatever the network does, the lease lasts until it expires
                    logger.warning("%s: cannot be renewed (%s); trying again", self._path, error)


def lock_in(folder: Path, name: str) -> FileLock | ObjectLock:
    """A lock between processes that change the files of a folder, as a context manager.

    Args:
        folder: has to exist on a disk.
        name: of the lock's file.
    """
    return ObjectLock(folder / name) if is_in_store(folder) else FileLock(folder / name)


def _holder() -> dict[str, Any]:
    """What messages name of the process that holds a lease."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


class Lease:
    """The right to write, held by one process at a time; a context manager.

    Args:
        folder: data folder of the environment.
        what: what the lease is about, as part of a file name: ``tables``, ``landing``, ``cards`` or ``operation``.
        wait_seconds: how long `acquire` waits for another holder.
        expires_seconds: as in `LeaseSettings`.
    """

    def __init__(self, folder: Path, what: str, wait_seconds: float, expires_seconds: float = _EXPIRES_SECONDS) -> None:
        self._folder = folder
        self._what = what
        self._wait_seconds = wait_seconds
        self._record = folder / f".lease-{what}.json"
        self._lock: _Lock = (
            ObjectLock(self._record, expires_seconds)
            if is_in_store(folder)
            # One thread may take the lease and another release it: the lock belongs to the process.
            else FileLock(folder / f".lease-{what}.lock", thread_local=False)
        )

    def acquire(self) -> None:
        """Acquire the lease, waiting for it if necessary.

        Raises `HeldLeaseError` if another process, or another run of this one, still holds it after ``wait_seconds``, and
        `WindKedroError` if the data folder cannot be written to.
        """
        try:
            make_folder(self._folder)
            if not self._try(0):
                if self._wait_seconds:
                    logger.info("%s; waiting for up to %g s", self._holder(), self._wait_seconds)
                if not self._try(self._wait_seconds):
                    longer = (
                        f", or wait longer for it, with --params lease.wait_seconds=SECONDS or in parameters_run.yml "
                        f"(it is {self._wait_seconds:g})"
                    )
                    raise HeldLeaseError(
                        f"{self._holder()}: start again when it has ended{longer if self._what != 'operation' else ''}"
                    )
            if not is_in_store(self._folder):
                with written_aside(self._record) as aside:
                    aside.write_text(json.dumps(_holder()) + "\n", encoding="utf-8")
        except OSError as error:
            self._lock.release()
            raise WindKedroError(
                f"{self._folder}: a run writes its results here, and cannot ({error.strerror or error}): "
                f"give this user the right to write, or correct `data` in globals.yml"
            ) from error

    def check(self) -> None:
        """Check that the lease is still held, which in an object store ends if it is not renewed.

        Raises:
            LostLeaseError: if not.
        """
        if isinstance(self._lock, ObjectLock) and self._lock.is_lost:
            raise LostLeaseError(
                f"{self._folder}: the lease was not renewed in time, so that another process may write here; this run stops: "
                f"start it again, with a larger lease.expires_seconds in parameters_run.yml if the store was only slow"
            )

    def release(self) -> None:
        """Release the lease; no effect if it is not held."""
        if self._lock.is_locked:
            if not is_in_store(self._folder):
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
            content = object_store.read(self._record) if is_in_store(self._record) else self._record.read_bytes()
            record = json.loads(content)
            who = f"process {record['pid']} on {record['host']} ({record['command']}) since {record['since']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            who = f"another process (its record {self._record.name} cannot be read)"
        return f"{who} writes the results in {self._folder}"
