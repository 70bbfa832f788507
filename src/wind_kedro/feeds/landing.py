"""Where batches land: a folder of immutable subfolders, each with its files, its checkpoint and when it landed.

A batch is written aside and renamed into place, files and checkpoint together, so that whatever kills the process leaves it
landed whole or not at all, and the next fetch goes on from exactly there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .protocol import Batch, Checkpoint, FeedError

#: Subfolders are named as Hive partitions are, which every engine reads; colons are not safe on every file system.
PREFIX = "landed_at="
_STAMP = "%Y-%m-%dT%H-%M-%S.%fZ"
_MANIFEST = "_landing.json"
_ASIDE = ".aside-"
#: A checkpoint larger than this is kept by the newest batches only: it may name every file of a remote folder.
_LARGE_BYTES = 1 << 16
_KEEP_LARGE = 3


@dataclass(frozen=True)
class Landed:
    """One batch that landed."""

    feed_id: str
    landed_at: dt.datetime
    folder: Path
    files: tuple[str, ...]
    bytes: int
    rows: int | None
    checkpoint: Checkpoint | None


def is_plain(name: str) -> bool:
    """Whether a file may land under this name: a path below the batch's folder, nothing in it hidden."""
    path = PurePosixPath(name)
    return name == str(path) and not path.is_absolute() and all(part[0] not in "._" for part in path.parts)


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

    @property
    def folder(self) -> Path:
        """Where the batches are."""
        return self._folder

    def pull(self, fetch: Callable[[Checkpoint | None, Path], Iterator[Batch]]) -> Iterator[Landed]:
        """Land what a feed has since the newest batch, one batch after the other; the folder is held meanwhile.

        Args:
            fetch: a feed's method of that name.

        Raises:
            FeedError: if another process holds the folder, it is another feed's, or the feed cannot be read. What landed
                before that stays.
        """
        with self.locked() as scratch:
            newest = self.last()
            if newest is not None and newest.feed_id != self._feed_id:
                raise FeedError(
                    f"feed '{self._feed_id}': {self._folder} holds what feed '{newest.feed_id}' landed; give another `into`"
                )
            if newest is not None and newest.checkpoint is None:
                raise FeedError(
                    f"feed '{self._feed_id}': {newest.folder} no longer has its checkpoint; the newest folders may not be "
                    f"removed alone: remove this one too, or all to fetch everything again"
                )
            batches = fetch(newest.checkpoint if newest is not None else None, scratch)
            try:
                for batch in batches:
                    yield self.commit(batch)
            finally:
                if isinstance(batches, Generator):  # leaves its server now, not when it is collected
                    batches.close()

    def landed(self, *, after: str = "") -> list[Landed]:
        """The batches that landed, oldest first.

        Args:
            after: name of a batch's folder: only newer ones.
        """
        return [self._read(folder) for folder in sorted(self._folder.glob(f"{PREFIX}*")) if folder.name > after]

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
                if not is_plain(name):
                    raise FeedError(f"feed '{self._feed_id}': '{name}' is no name for a file that lands")
                target = aside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, content)
                size += target.stat().st_size
                sums[name] = _digest(target)
            at = self._next_time()
            manifest = {
                "feed_id": self._feed_id, "landed_at": at.isoformat(), "files": sums, "bytes": size, "rows": batch.rows,
                "checkpoint": dict(batch.checkpoint),
            }  # fmt: skip
            _write(aside / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            for below in [aside, *(path for path in aside.rglob("*") if path.is_dir())]:
                _sync(below)
            folder = self._folder / f"{PREFIX}{at.strftime(_STAMP)}"
            aside.rename(folder)
            _sync(self._folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        batch.landed()
        self._thin()
        return self._read(folder)

    def _thin(self) -> None:
        """Take large checkpoints from all but the newest batches: only the newest is ever gone on from."""
        # Each commit looks a little further than it must, for what a killed one left.
        for folder in sorted(self._folder.glob(f"{PREFIX}*"))[-3 * _KEEP_LARGE : -_KEEP_LARGE]:
            manifest = folder / _MANIFEST
            with contextlib.suppress(FileNotFoundError):
                if manifest.stat().st_size <= _LARGE_BYTES:
                    continue
                found = json.loads(manifest.read_bytes()) | {"checkpoint": None}
                aside = folder / f"{_ASIDE}{uuid.uuid4().hex}"
                _write(aside, json.dumps(found, indent=1, sort_keys=True).encode())
                aside.replace(manifest)

    def _next_time(self) -> dt.datetime:
        """Now, or just after the newest batch: folders are in the order in which they landed, whatever the clock does."""
        now = dt.datetime.now(dt.UTC)
        newest = self.last()
        return now if newest is None else max(now, newest.landed_at + dt.timedelta(microseconds=1))

    def _read(self, folder: Path) -> Landed:
        try:
            found: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
        except (OSError, ValueError):
            raise FeedError(
                f"feed '{self._feed_id}': {folder / _MANIFEST} is missing or broken; remove this folder, and what was in it is "
                f"fetched again"
            ) from None
        return Landed(
            found["feed_id"], dt.datetime.fromisoformat(found["landed_at"]), folder, tuple(found["files"]), found["bytes"],
            found["rows"], found["checkpoint"],
        )  # fmt: skip


def find_landings(root: Path) -> list[Path]:
    """The folders below the raw folder in which feeds land, sorted; what landed in them is not looked at."""
    found: list[Path] = []
    for folder, below, _ in os.walk(root):
        if any(name.startswith(PREFIX) for name in below):
            found.append(Path(folder))
        below[:] = [name for name in below if not name.startswith((PREFIX, "."))]
    return sorted(found)


@dataclass(frozen=True)
class Failure:
    """A fetch that failed, and when."""

    feed_id: str
    failed_at: dt.datetime
    message: str


@dataclass(frozen=True)
class LandedFeeds:
    """What stands in the landing folders, and what went wrong in a run.

    Attributes:
        root: the raw folder, which landing folders are below.
        failures: one a feed that failed in the run.
    """

    root: Path
    failures: list[Failure] = field(default_factory=list)

    def after(self, newest: Mapping[str, str]) -> Iterator[tuple[str, Landed]]:
        """The batches that are newer than what is known, with their folder relative to ``root``.

        Args:
            newest: name of the newest known batch's folder, by landing folder relative to ``root``.
        """
        for folder in find_landings(self.root):
            into = folder.relative_to(self.root).as_posix()
            for landed in Landing(self.root, into, into).landed(after=newest.get(into, "")):
                yield f"{into}/{landed.folder.name}", landed


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
