"""Atomic writes, scratch folders, and removal of the remains of killed processes.

Files and folders are written beside their target under a hidden name with the id of the process, and renamed; those of an object
store are written to a scratch folder, and put. Scratch folders are in the system's temporary folder and hold a locked file as
long as they are in use.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wind_kedro.storage import object_store
from wind_kedro.storage.paths import is_in_store, make_folder

logger = logging.getLogger(__name__)

#: Prefix of the names of scratch folders.
_SCRATCH = "wind-kedro-"
#: In a scratch folder: the file that is locked while the folder is in use.
_IN_USE = ".in-use"
#: Between making a scratch folder and locking its file, the folder must not look abandoned. Seconds.
_SETTLED_AFTER = 60
#: Follows the name of a file or folder that could not be read when it was replaced; such are never removed.
UNREADABLE = ".unreadable"
#: A hidden name with 32 hexadecimal digits, after the id of the process that writes it (older versions wrote no id).
_NEIGHBOUR = re.compile(r"\..*?(?:(?<![0-9])(?P<pid>[0-9]+)-)?[0-9a-f]{32}(\.[^.]+)*")


def neighbour_of(target: Path) -> Path:
    """A new path beside ``target`` to write it to before it is renamed; the suffix is that of ``target``."""
    return target.with_name(f".{target.stem}.{os.getpid()}-{uuid.uuid4().hex}{target.suffix}")


@contextmanager
def written_aside(target: Path, *, durable: bool = False, exclusive: bool = False) -> Iterator[Path]:
    """Yield a path beside ``target`` for a file or a folder; on success it replaces the target, on failure it is removed.

    With ``durable`` the content is on the disk before it gets its name, and then the name. With ``exclusive`` nothing is
    replaced: `FileExistsError`. In an object store, a file is put whole; a folder is put file by file.
    """
    if is_in_store(target):
        with Scratch("put") as folder:
            aside = Path(folder) / target.name
            yield aside
            if exclusive:
                object_store.create(target, aside.read_bytes())
            else:
                object_store.upload(aside, target)
        return
    make_folder(target.parent)
    neighbour = neighbour_of(target)
    try:
        yield neighbour
        if durable:
            flush(neighbour)
        if exclusive:
            os.link(neighbour, target)  # unlike a rename, a link never replaces
        elif neighbour.is_dir() or target.is_dir():
            # No system renames one folder over another: the previous one gives way first, and readers find it there.
            if target.exists():
                remove(previous(target))
                target.rename(previous(target))
            neighbour.rename(target)
            remove(previous(target))
        else:
            neighbour.replace(target)
            remove(previous(target))
        if durable:
            flush(target.parent)
    finally:
        remove(neighbour)


@contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """Yield an empty folder for what is read to make ``target``: beside it, or for an object store a scratch folder."""
    if is_in_store(target):
        with Scratch("aside") as scratch:
            folder = Path(scratch) / "made"  # beside the file that marks a scratch folder
            folder.mkdir()
            yield folder
        return
    folder = neighbour_of(target)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a file or folder as it is on this machine: the path itself, or a copy of what is in an object store."""
    if not is_in_store(path):
        yield path
        return
    with Scratch("get") as folder:
        copy = Path(folder) / path.name
        object_store.download(path, copy)
        yield copy


def previous(target: Path) -> Path:
    """Path of the previous table while a folder replaces it."""
    return target.with_name(f".{target.stem}.previous{target.suffix}")


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a file or a folder with its content, if it exists; errors of what is in a folder may be ignored."""
    if is_in_store(path):
        object_store.remove(path)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=ignore_errors)
    else:
        path.unlink(missing_ok=True)


def move(path: Path, target: Path) -> None:
    """Rename a file or a folder; in an object store each object is copied, then removed."""
    if is_in_store(path):
        object_store.move(path, target)
    else:
        path.rename(target)


def place(folder: Path, target: Path) -> None:
    """Give a folder of `folder_aside` its name; in an object store its files are put there, whatever is beside them.

    Raises:
        OSError: if there is a folder that is not empty.
    """
    if is_in_store(target):
        object_store.upload(folder, target)
    else:
        folder.rename(target)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_unreadable(path: Path) -> None:
    """Move what cannot be read out of the way of what takes its place, under a name that is passed over like it."""
    taken = sum(1 for _ in path.parent.glob(f"{path.name}{UNREADABLE}-*"))
    kept = path.with_name(f"{path.name}{UNREADABLE}-{taken + 1}")
    move(path, kept)
    logger.warning("%s: cannot be read, and is kept as %s", path, kept.name)


class Scratch(tempfile.TemporaryDirectory[str]):
    """A folder that is removed when it is closed or collected; `sweep_scratch` removes it after a kill."""

    def __init__(self, what: str) -> None:
        super().__init__(prefix=f"{_SCRATCH}{what}-")
        self._in_use = FileLock(Path(self.name) / _IN_USE, thread_local=False)
        self._in_use.acquire()

    def cleanup(self) -> None:
        """Remove the folder and all in it."""
        self._in_use.release()
        super().cleanup()


def sweep_scratch() -> None:
    """Remove this user's scratch folders that no process uses any more."""
    for marker in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*/{_IN_USE}"):
        try:
            state = marker.stat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < _SETTLED_AFTER:
                continue
            with FileLock(marker, timeout=0):
                _remove(marker.parent)
        except (Timeout, OSError):  # in use, or removed meanwhile by another process
            continue


def sweep(data: Path) -> None:
    """Remove what killed processes left beside the results of an environment. To be called by the only process that writes.

    In an object store they leave nothing beside these. The raw layer is left out: feeds clear their own folders, under their own
    locks.
    """
    if is_in_store(data):
        return
    abandoned = []
    for here, folders, files in os.walk(data):
        for name in [*folders, *files]:
            found = _NEIGHBOUR.fullmatch(name)
            # A save outside of a run, as from a notebook, holds no lease.
            if found and not (found["pid"] and _is_alive(int(found["pid"]))):
                abandoned.append(Path(here, name))
        folders[:] = [name for name in folders if not name.startswith(".") and Path(here, name) != data / "01_raw"]
    for path in abandoned:
        _remove(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _remove(path: Path) -> None:
    logger.info("%s: left by a process that was killed, removed", path)
    remove(path, ignore_errors=True)
