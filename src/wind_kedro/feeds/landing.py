"""Where batches land: a folder of immutable subfolders, each with its files, its checkpoint and when it landed.

A batch is written aside and renamed into place, files and checkpoint together, so that whatever kills the process leaves it
landed whole or not at all, and the next fetch goes on from exactly there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .protocol import Batch, Checkpoint, FeedError

#: Subfolders are named as Hive partitions are, which every engine reads; colons are not safe on every file system.
PREFIX = "landed_at="
_STAMP = "%Y-%m-%dT%H-%M-%S.%fZ"
_MANIFEST = "_landing.json"
_ASIDE = ".aside-"


@dataclass(frozen=True)
class Landed:
    """One batch that landed."""

    feed_id: str
    landed_at: dt.datetime
    folder: Path
    files: tuple[str, ...]
    bytes: int
    rows: int | None
    checkpoint: Checkpoint


class Landing:
    """The landing folder of one feed.

    Args:
        root: the raw folder of the environment.
        into: the feed's folder below it.
        feed_id: whose.
    """

    def __init__(self, root: Path, into: str, feed_id: str) -> None:
        self._folder = root / into
        self._feed_id = feed_id

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the folder alone, cleared of what a killed process left; yields an empty scratch folder.

        Raises:
            FeedError: if another process holds it.
        """
        from filelock import FileLock, Timeout

        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FeedError(f"feed '{self._feed_id}': another process is landing into {self._folder}") from None
        try:
            for left in self._folder.glob(f"{_ASIDE}*"):
                shutil.rmtree(left, ignore_errors=True)
            scratch = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        finally:
            lock.release()

    def landed(self) -> list[Landed]:
        """Every batch that landed, oldest first."""
        return [self._read(folder) for folder in sorted(self._folder.glob(f"{PREFIX}*"))]

    def last(self) -> Landed | None:
        """The newest batch."""
        newest = max(self._folder.glob(f"{PREFIX}*"), default=None)
        return None if newest is None else self._read(newest)

    def commit(self, batch: Batch) -> Landed:
        """Land a batch: all of it, or nothing. Call it inside `locked`; the feed is told when it is safe.

        Raises:
            FeedError: if a file's name is not a plain one.
        """
        aside = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
        aside.mkdir(parents=True)
        try:
            size = 0
            sums = {}
            for name, content in batch.files.items():
                if name != Path(name).name or name[0] in "._":
                    raise FeedError(f"feed '{self._feed_id}': '{name}' is no name for a file that lands")
                target = aside / name
                _write(target, content)
                size += target.stat().st_size
                sums[name] = _digest(target)
            at = self._next_time()
            manifest = {
                "feed_id": self._feed_id, "landed_at": at.isoformat(), "files": sums, "bytes": size, "rows": batch.rows,
                "checkpoint": dict(batch.checkpoint),
            }  # fmt: skip
            _write(aside / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            folder = self._folder / f"{PREFIX}{at.strftime(_STAMP)}"
            aside.rename(folder)
            _sync(self._folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        batch.landed()
        return self._read(folder)

    def _next_time(self) -> dt.datetime:
        """Now, or just after the newest batch: folders are in the order in which they landed, whatever the clock does."""
        now = dt.datetime.now(dt.UTC)
        newest = self.last()
        return now if newest is None else max(now, newest.landed_at + dt.timedelta(microseconds=1))

    def _read(self, folder: Path) -> Landed:
        found: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
        return Landed(
            found["feed_id"], dt.datetime.fromisoformat(found["landed_at"]), folder, tuple(found["files"]), found["bytes"],
            found["rows"], found["checkpoint"],
        )  # fmt: skip


def _write(target: Path, content: Any) -> None:
    """Write and wait until it is on the disk."""
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif isinstance(content, Path):
        content.rename(target)
    else:
        import pyarrow.parquet as pq

        pq.write_table(content, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
