"""Backup and restoring of an environment: all that it has written, as of one moment, verified file by file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wind_kedro.errors import WindKedroError
from wind_kedro.storage.paths import is_in_store, make_folder
from wind_kedro.storage.temporary import written_aside

#: Name of the list of files of a backup, written last.
_LIST = "backup.json"
_JOURNALS = (".db-wal", ".db-shm", ".db-journal")


class BackupError(WindKedroError):
    """A backup is not whole, or there is something in the way of restoring it."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        made_at: when it was made, UTC.
        files: number of files.
        size_bytes: their size.
        copied: how many of them an earlier backup in the same place did not have.
    """

    made_at: dt.datetime
    files: int
    size_bytes: int
    copied: int


def back_up(places: Mapping[str, Path], target: Path) -> Backup:
    """Copy files and folders; what an earlier backup in ``target`` has already is not copied again.

    Nothing may write to ``places`` meanwhile. Files of the target are never changed: each content has a file, named by its
    SHA-256, and each backup a list of names and contents, of which the newest is `_LIST` and earlier ones are kept with their
    time. A backup that is interrupted leaves the one before it as it was.

    Args:
        places: files and folders by the name that they have in the backup; those that do not exist are left out. A file
            ``*.db`` is a database of SQLite, and copied as of one moment.
        target: folder, which is made.

    Raises:
        BackupError: if ``target`` lies inside of what is to be copied.
    """
    for place in places.values():
        if not is_in_store(place) and target.resolve().is_relative_to(place.resolve()):
            raise BackupError(f"{target}: lies in {place}, which is to be backed up; name a folder on another disk")
    made_at = dt.datetime.now(dt.UTC)
    content: dict[str, dict[str, Any]] = {}
    copied = 0
    for name, path in _files(places):
        digest, size, new = (_put_database if path.suffix == ".db" else _put)(path, target)
        copied += new
        content[name] = {"sha256": digest, "bytes": size, "modified_ns": path.stat().st_mtime_ns}
    document = json.dumps({"made_at": made_at.isoformat(), "files": content}, indent=1).encode()
    for listed in (f"backup-{made_at:%Y%m%dT%H%M%S%fZ}.json", _LIST):
        with written_aside(target / listed, durable=True) as aside:
            aside.write_bytes(document)
    return Backup(made_at, len(content), sum(entry["bytes"] for entry in content.values()), copied)


def restore(source: Path, places: Mapping[str, Path]) -> Backup:
    """Write what a backup holds to where it belongs, after checking all of it.

    Args:
        source: folder of the backup, or one of its lists ``backup-*.json``.
        places: as in `back_up`; what the backup has of other names is left out.

    Raises:
        BackupError: if a file of the backup is missing or altered, or if one of ``places`` exists and is not empty.
    """
    listed = source if source.is_file() else source / _LIST
    try:
        document = json.loads(listed.read_bytes())
        files = {str(name): (str(entry["sha256"]), int(entry["modified_ns"])) for name, entry in document["files"].items()}
        made_at = dt.datetime.fromisoformat(document["made_at"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BackupError(f"{listed}: is no list of a backup ({type(error).__name__}: {error})") from None
    for place in places.values():
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise BackupError(f"{place}: exists; move it away first, so that nothing is mixed with what is restored")
    folder = listed.parent
    wanted = {name: entry for name, entry in files.items() if _place(name, places) is not None}
    for name, (digest, _) in wanted.items():
        path = folder / _object(digest)
        if not path.is_file() or _digest(path) != digest:
            raise BackupError(
                f"{path}: content of {name} is missing or altered; nothing was restored; name an earlier list of {folder}"
            )
    size = 0
    for name, (digest, modified_ns) in wanted.items():
        target = _place(name, places)
        assert target is not None  # noqa: S101 - filtered above
        make_folder(target.parent)
        _copy(folder / _object(digest), target)
        if not is_in_store(target):
            os.utime(target, ns=(modified_ns, modified_ns))  # a raw file of another time would be read again
        size += target.stat().st_size
    return Backup(made_at, len(wanted), size, len(wanted))


def _files(places: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for name, place in places.items():
        if place.is_file():
            yield name, place
        for path in sorted(place.rglob("*")) if place.is_dir() else []:
            # The copy of a database holds what its journal does.
            if path.is_file() and not path.name.startswith(".lease-") and not path.name.endswith(_JOURNALS):
                yield f"{name}/{path.relative_to(place).as_posix()}", path


def _place(name: str, places: Mapping[str, Path]) -> Path | None:
    """Where a file of a backup belongs; None: nowhere, or outside of its place."""
    first, _, rest = name.partition("/")
    if first not in places:
        return None
    path = places[first] / rest if rest else places[first]
    return path if path.resolve().is_relative_to(places[first].resolve()) else None


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _copy(path: Path, target: Path) -> None:
    with path.open("rb") as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(path: Path, target: Path) -> tuple[str, int, bool]:
    """Store the content of a file; its digest, its size, and whether it is new."""
    digest = _digest(path)
    stored = target / _object(digest)
    if stored.is_file():
        return digest, path.stat().st_size, False
    with written_aside(stored, durable=True) as aside:
        _copy(path, aside)
    return digest, path.stat().st_size, True


def _put_database(path: Path, target: Path) -> tuple[str, int, bool]:
    """Store the content of a database as of one moment."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".database-") as folder:
        copy = Path(folder) / "database"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as read, closing(sqlite3.connect(copy)) as written:
            read.backup(written)
        return _put(copy, target)
