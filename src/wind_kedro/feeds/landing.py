"""Landing folder of a feed: immutable subfolders, each with the files, the checkpoint and the landing time of a batch.

A batch is written to a temporary folder and renamed, files and checkpoint together, so that a killed process leaves it either
completely landed or not at all, and the next fetch continues from there.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wind_kedro.governance.provenance import file_sha256
from wind_kedro.storage.paths import is_in_store
from wind_kedro.storage.temporary import flush, written_aside

from .compaction import HOUR, PART, PERIODS, PREFIX, foreign_names, is_covered, over, put_together
from .protocol import Batch, Checkpoint, FeedError

logger = logging.getLogger(__name__)

_STAMP = "%Y-%m-%dT%H-%M-%S.%fZ"
_MANIFEST = "_landing.json"
#: Of a folder of several batches that were put together: when that was, and what each was.
_BATCHES = "_batches.json"
_ASIDE = ".aside-"
#: A checkpoint larger than this is kept by the newest batches only: it may name every file of a remote folder.
_LARGE_BYTES = 1 << 16
_KEEP_LARGE = 3
#: A reader that listed folders before they were put together is done with them after this.
_COVERED_FOR = dt.timedelta(days=1)
_NO_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
#: Of most file systems a name has at most 255 bytes, and a path 4096; the landing folder's own is part of that.
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 2048
#: Files of more than that together are not small, and writing them anew would keep a stream waiting.
_MOST_BYTES = 1 << 30


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
    faults: tuple[str, ...] = ()


def why_not(name: str) -> str | None:
    """Why a file or a folder from outside may not land under a name; none if it may.

    A name is a path below the batch's folder. Nothing in it may be read as one of the marks that landing itself sets.
    """
    path = PurePosixPath(name)
    if not name or name != str(path) or path.is_absolute() or ".." in path.parts:
        return "is no path below the folder"
    if any(part[0] in "._" for part in path.parts):
        return "is hidden"
    if any(part.lower().startswith(PREFIX) for part in path.parts):
        return f"looks like a folder of this project ({PREFIX}…)"
    if _NO_NAME.search(name):
        return "holds control characters, or is not UTF-8"
    if len(name.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in path.parts):
        return "is too long for a file system"
    return None


class Landing:
    """The landing folder of one feed, ``into`` below the raw folder ``root``."""

    def __init__(self, root: Path, into: str, feed_id: str) -> None:
        self._folder = root / into
        self._feed_id = feed_id

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the folder alone, cleared of what a killed process left; yields an empty scratch folder.

        Raises `FeedError` if another process holds it.
        """
        from filelock import FileLock, Timeout

        if is_in_store(self._folder):
            raise FeedError(
                f"feed '{self._feed_id}': feeds land in a folder of this machine, not in {self._folder}: set `raw` in globals.yml"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FeedError(f"feed '{self._feed_id}': another process is landing into {self._folder}") from None
        try:
            for left in self._folder.glob(f"{_ASIDE}*"):
                shutil.rmtree(left, ignore_errors=True)
            with self._aside() as scratch:
                yield scratch
        finally:
            lock.release()

    @property
    def folder(self) -> Path:
        """Where the batches are."""
        return self._folder

    def pull(self, fetch: Callable[[Checkpoint | None, Path], Iterator[Batch]], *, in_parts: bool = False) -> Iterator[Landed]:
        """Land what a feed has since the newest batch, one batch after the other; the folder is held meanwhile.

        Args:
            fetch: a feed's method of that name.
            in_parts: its batches are parts of one table, and those of hours, days and months that are over are put together.

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
            if in_parts:
                self.put_together()
            batches = fetch(newest.checkpoint if newest is not None else None, scratch)
            hour = newest.folder.name[:HOUR] if newest is not None else ""
            try:
                for batch in batches:
                    landed = self.commit(batch)
                    yield landed
                    if in_parts and landed.folder.name[:HOUR] != hour:  # a service pulls for years
                        hour = landed.folder.name[:HOUR]
                        self.put_together()
            finally:
                if isinstance(batches, Generator):  # leaves its server now, not when it is collected
                    batches.close()

    def landed(self, *, after: str = "") -> list[Landed]:
        """The batches in folders after this name, oldest first; the folder of one that was put together may be gone."""
        names = [name for name in self._names() if name >= after[: len(name)]]
        return [batch for name in names for batch in self._batches(name) if batch.folder.name > after]

    def last(self) -> Landed | None:
        """The newest batch, or those that were put together with it."""
        names = self._names()
        return self._read(self._folder / names[-1]) if names else None

    def put_together(self) -> None:
        """Put the batches of hours, days and months that are over together, and remove what was put together a day ago.

        Call it inside `locked`. Each step is one rename, or the removal of what nobody reads any more: killed anywhere, every
        row is there once.
        """
        import pyarrow as pa

        for length in PERIODS:
            for period, names in over(self._names(), length).items():
                try:
                    landed = [self._read(self._folder / name) for name in names]
                    # A batch without a file only moves the checkpoint.
                    in_parts = {one.files for one in landed} in [{(PART,)}, {(PART,), ()}]
                    if in_parts and sum(one.bytes for one in landed) <= _MOST_BYTES:
                        self._merge(period, landed)
                except (FeedError, OSError, pa.ArrowException) as error:
                    # What has landed is whole, and new batches go on landing: it is only not tidied.
                    logger.warning("feed '%s': %s stays in %d folders (%s)", self._feed_id, period, len(names), error)
        there = {folder.name for folder in self._folder.glob(f"{PREFIX}*")}
        covering = {name[:length] for name in there for length in PERIODS if length < len(name)} & there
        made = {name: dt.datetime.fromisoformat(self._read_batches(name)["put_together_at"]) for name in covering}
        settled = {name for name, at in made.items() if at <= _now() - _COVERED_FOR}
        for name in there:
            if is_covered(name, settled):
                shutil.rmtree(self._folder / name)

    def _merge(self, period: str, landed: list[Landed]) -> None:
        batches = [batch for one in landed for batch in self._batches(one.folder.name)]
        with self._aside() as aside:
            rows = put_together([(one.landed_at, one.folder / PART) for one in landed if one.files], aside / PART)
            flush(aside / PART)
            record = {
                "put_together_at": _now().isoformat(),
                "batches": [[batch.landed_at.isoformat(), batch.bytes, batch.rows, batch.faults] for batch in batches],
            }
            _write(aside / _BATCHES, json.dumps(record).encode())
            self._seal(aside, self._folder / period, [PART], landed[-1].landed_at, rows, landed[-1].checkpoint)
        logger.info("feed '%s': %d batches are put together in %s", self._feed_id, len(batches), period)

    def _names(self) -> list[str]:
        """The folders to be read, oldest first: a batch is in one of them and in no other."""
        names = {folder.name for folder in self._folder.glob(f"{PREFIX}*")}
        return sorted(name for name in names if not is_covered(name, names))

    def _batches(self, name: str) -> list[Landed]:
        """The batches of a folder: itself, or those that were put together in it."""
        own = self._read(self._folder / name)
        if len(name) not in PERIODS:
            return [own]
        return [
            Landed(own.feed_id, at, self._folder_of(at), (PART,) if size else (), size, rows, None, tuple(*faults))
            for stamp, size, rows, *faults in self._read_batches(name)["batches"]
            for at in [dt.datetime.fromisoformat(stamp)]
        ]

    def _read_batches(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / name / _BATCHES).read_bytes())
        return found

    def commit(self, batch: Batch) -> Landed:
        """Land a batch: all of it, or nothing. Call it inside `locked`; `Batch.landed` is called once it is on disk.

        Raises `FeedError` if a file's name is not a plain one.
        """
        at = self._next_time()
        folder = self._folder_of(at)
        with self._aside() as aside:
            for name, content in batch.files.items():
                if (reason := why_not(name)) is not None:
                    raise FeedError(f"feed '{self._feed_id}': {name!a} {reason}: no file may land under it")
                target = aside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, content)
            self._seal(aside, folder, list(batch.files), at, batch.rows, batch.checkpoint, batch.faults)
        for fault in batch.faults:
            logger.warning("feed '%s': %s: %s", self._feed_id, folder.name, fault)
        if batch.landed is not None:
            batch.landed()
        self._thin()
        return self._read(folder)

    def _folder_of(self, at: dt.datetime) -> Path:
        return self._folder / f"{PREFIX}{at.strftime(_STAMP)}"

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """A folder to be filled beside the others; gone afterwards, unless it was sealed."""
        aside = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
        aside.mkdir(parents=True)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _seal(
        self,
        aside: Path,
        folder: Path,
        names: list[str],
        at: dt.datetime,
        rows: int | None,
        checkpoint: Checkpoint | None,
        faults: tuple[str, ...] = (),
    ) -> None:
        """Write what the folder holds, wait until all of it is on the disk, and give it its place: one step."""
        manifest = {
            "feed_id": self._feed_id, "landed_at": at.isoformat(), "files": {name: file_sha256(aside / name) for name in names},
            "bytes": sum((aside / name).stat().st_size for name in names), "rows": rows,
            "checkpoint": None if checkpoint is None else dict(checkpoint), "faults": list(faults),
        }  # fmt: skip
        _write(aside / _MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
        for below in [aside, *(path for path in aside.rglob("*") if path.is_dir())]:
            flush(below)
        aside.rename(folder)
        flush(self._folder)

    def _thin(self) -> None:
        """Take large checkpoints from all but the newest batches: only the newest is ever gone on from."""
        # Each commit looks a little further than it must, for what a killed one left.
        for name in self._names()[-3 * _KEEP_LARGE : -_KEEP_LARGE]:
            folder = self._folder / name
            manifest = folder / _MANIFEST
            with contextlib.suppress(FileNotFoundError):
                if manifest.stat().st_size <= _LARGE_BYTES:
                    continue
                found = json.loads(manifest.read_bytes()) | {"checkpoint": None}
                with written_aside(manifest, durable=True) as aside:
                    aside.write_bytes(json.dumps(found, indent=1, sort_keys=True).encode())

    def _next_time(self) -> dt.datetime:
        """Now, or just after the newest batch: folders are in the order in which they landed, whatever the clock does."""
        at, names = _now(), self._names()
        if names:
            at = max(at, self._read(self._folder / names[-1]).landed_at + dt.timedelta(microseconds=1))
        while is_covered(self._folder_of(at).name, names):  # its newest batches were removed, and the clock was put back
            at = at.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)
        return at

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
            found["rows"], found["checkpoint"], tuple(found.get("faults", ())),
        )  # fmt: skip


def find_landed(root: Path, newest: Mapping[str, str]) -> Iterator[tuple[str, Landed]]:
    """The batches in all landing folders that are newer than what is known, with their folder below ``root``.

    ``newest`` has the name of the newest known batch's folder, by landing folder relative to ``root``.
    """
    if is_in_store(root):
        return
    found = []
    for here, below, _ in os.walk(root):
        if any(name.startswith(PREFIX) for name in below):
            found.append(Path(here))
        below[:] = [name for name in below if not name.startswith((PREFIX, "."))]
    for folder in sorted(found):
        into = folder.relative_to(root).as_posix()
        for landed in Landing(root, into, into).landed(after=newest.get(into, "")):
            yield f"{into}/{landed.folder.name}", landed


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _write(target: Path, content: Any) -> None:
    """Write and wait until it is on the disk."""
    if isinstance(content, bytes):
        target.write_bytes(content)
    elif isinstance(content, Path):
        content.rename(target)
    else:
        import pyarrow.parquet as pq

        pq.write_table(content.rename_columns(foreign_names(content.column_names)), target)
    flush(target)
