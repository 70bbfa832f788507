"""Objects of an S3-compatible store: what needs more than reading and writing them whole.

A put of an object is atomic. `create` and `replace` are conditional puts (``If-None-Match``, ``If-Match``), of which the store
lets one of several writers succeed.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import itertools
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Metadata of an object that was put conditionally: which put has made it.
_WRITER = "writer"
#: How often a put is tried while the store refuses it because of another one that is not finished, and the time in between.
_ATTEMPTS, _PAUSE_SECONDS = 10, 0.2


@dataclass(frozen=True)
class ObjectState:
    """State of an object, by which a put may be conditional.

    Attributes:
        etag: of its content.
        age_seconds: since it was put, by the clock of the store.
        size: bytes.
        writer: which conditional put has made it.
    """

    etag: str
    age_seconds: float
    size: int
    writer: str


def state_of(path: Path) -> ObjectState | None:
    """State of an object; None: there is none."""
    try:
        found = _call(path, "head_object")
    except FileNotFoundError:
        return None
    answered_at = email.utils.parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    age = (answered_at - found["LastModified"]).total_seconds()
    return ObjectState(found["ETag"], age, found["ContentLength"], found.get("Metadata", {}).get(_WRITER, ""))


def read(path: Any) -> bytes:
    """Content of an object in one answer: reading it as a file fails if it is replaced meanwhile.

    Raises:
        FileNotFoundError: if there is none.
    """
    content: bytes = path.fs.cat_file(path.path)
    return content


def create(path: Path, content: bytes) -> str:
    """Put an object that must not exist yet; its ETag.

    Raises:
        FileExistsError: if there is one.
    """
    return _put(path, content, IfNoneMatch="*")


def replace(path: Path, content: bytes, etag: str) -> str:
    """Put an object in place of the one with this ETag; the new ETag.

    Raises:
        FileExistsError: if there is another or none.
    """
    return _put(path, content, IfMatch=etag)


def _put(path: Path, content: bytes, **condition: str) -> str:
    writer = uuid.uuid4().hex
    for attempt in itertools.count(1):
        try:
            return str(_call(path, "put_object", Body=content, Metadata={_WRITER: writer}, **condition)["ETag"])
        except OSError as error:
            # The client repeats a put whose answer was lost: then it finds the object that it has put itself.
            found = state_of(path)
            if found is not None and found.writer == writer:
                return found.etag
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code == "ConditionalRequestConflict" and attempt < _ATTEMPTS:  # another put of the object is going on
                time.sleep(_PAUSE_SECONDS)
            elif isinstance(error, FileExistsError) or code in {"PreconditionFailed", "412", "NoSuchKey"}:
                raise FileExistsError(f"{path}: was put or removed by another process") from None
            else:
                raise
    raise AssertionError("itertools.count does not end")


def _call(path: Any, method: str, **options: Any) -> dict[str, Any]:
    from botocore.exceptions import BotoCoreError

    bucket, _, key = path.path.partition("/")
    try:
        found: dict[str, Any] = path.fs.call_s3(method, Bucket=bucket, Key=key, **options)
    except BotoCoreError as error:  # without an answer of the store
        raise OSError(" ".join(str(error).split())) from error
    return found


def upload(source: Path, target: Path) -> None:
    """Put a local file, or the files of a local folder."""
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    for file in files:
        place = target if source.is_file() else target / file.relative_to(source).as_posix()
        place.fs.put_file(str(file), place.path)  # type: ignore[attr-defined]


def download(source: Path, target: Path) -> None:
    """Copy an object, or all below a path, to a local file or folder.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    if not files:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
    for file in files:
        place = target if file is source else target / file.relative_to(source).as_posix()
        place.parent.mkdir(parents=True, exist_ok=True)
        file.fs.get_file(file.path, str(place))  # type: ignore[attr-defined]


def remove(path: Any) -> None:
    """Remove an object, or all below a path; no effect if there is none."""
    with contextlib.suppress(FileNotFoundError):
        path.fs.rm(path.path, recursive=True)


def move(path: Any, target: Any) -> None:
    """Copy an object, or all below a path, and remove it."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        place = target if file is path else target / file.relative_to(path).as_posix()
        path.fs.copy(file.path, place.path)
    remove(path)
