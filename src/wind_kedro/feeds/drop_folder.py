"""Drop folders: files that somebody puts somewhere, on this machine, an S3 bucket, an FTP or an SFTP server."""

from __future__ import annotations

import datetime as dt
import ftplib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.remote import PassingError

from .landing import is_plain
from .memory import pack, row_hash, unpack
from .protocol import Batch, Checkpoint, Feed, FeedError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: What a URL may begin with, and the port where the server is unless the URL names one.
_PORTS = {"file": 0, "s3": 0, "ftp": 21, "ftps": 21, "sftp": 22}


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme and parts.scheme not in _PORTS:
        raise ValueError(f"'{parts.scheme}://' is not known; give a local folder, or one of {', '.join(_PORTS)}")
    if parts.scheme in {"ftp", "ftps", "sftp"} and not parts.hostname:
        raise ValueError("the host is missing: sftp://host/folder")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user or password does not belong here: give them in credentials")
    return url


class DropFolder(Feed):
    """Files that are new or changed since the last fetch, whole, under their own names.

    The checkpoint is a short hash of name, size and version (the ETag, else the time of change) of every file that was taken
    and is still there: 16 bytes a file, forgotten with the file. So a file with an old date that comes late is taken
    too, and a file that changed lands again, in a later folder: its rows are revisions.

    A file is taken once it was left alone for ``settle_seconds``. One that grows while it is read waits for the next fetch; one
    that is rewritten has another version then, and lands again. Where an FTP server does not say when a file changed (no
    MLSD), two listings that far apart must agree; such a server shows other dates for files older than half a year, which
    then land once more.

    Hidden files and folders (names that begin with a dot or an underscore) are never taken: writers use them for what is
    not done.
    """

    kind: Literal["drop_folder"] = "drop_folder"
    url: Annotated[str, AfterValidator(_address)] = Field(
        description="the folder: a path, s3://bucket/prefix, ftp://host/folder, ftps:// (explicit TLS), sftp://host/folder"
    )
    glob: str = Field(
        "*",
        min_length=1,
        description="which files below it; `**/` stands for any folders. They land under the same names",
    )
    settle_seconds: float = Field(60, ge=0, description="a file is taken when it did not change for so long")
    max_files: int = Field(1000, ge=1, description="so many land together: ten years of files come in pieces")
    timeout_seconds: float = Field(60, gt=0, description="the other side counts as gone when it is silent for so long")
    endpoint_url: str | None = Field(None, description="s3: the address of a store that is not Amazon's")
    region: str | None = Field(None, description="s3: the region, where the store wants one")
    host_key: str | None = Field(
        None,
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}$",
        description="sftp: the server's fingerprint, as `ssh-keygen -lf` shows it",
    )
    known_hosts: str = Field(
        "~/.ssh/known_hosts", description="sftp: without host_key, the file that holds the server's key"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        where = {"endpoint_url": "s3", "region": "s3", "host_key": "sftp", "known_hosts": "sftp"}
        for name, scheme in where.items():
            if name in self.model_fields_set and self.scheme != scheme:
                raise ValueError(f"{name}: only for {scheme}://")
        return self

    @property
    def scheme(self) -> str:
        """What kind of place it is: file, s3, ftp, ftps or sftp."""
        return urlsplit(self.url).scheme or "file"

    @property
    def folder(self) -> str:
        """The folder as its file system calls it."""
        parts = urlsplit(self.url)
        if self.scheme == "s3":
            return f"{parts.netloc}{unquote(parts.path)}".rstrip("/")
        if self.scheme == "file":
            return str(Path(unquote(parts.path) if parts.scheme else self.url).expanduser().absolute())
        return unquote(parts.path).rstrip("/") or "/"

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """Yield the files that are new or changed, oldest first, at most ``max_files`` together; see `Feed.fetch`."""
        taken = unpack(checkpoint["taken"]) if checkpoint is not None else set()
        place = _Place(self)
        try:
            found = place.files()
            new = self._settled(place, [file for file in found if file.mark not in taken])
            # What is gone there is forgotten here: the checkpoint is bounded by what the folder holds.
            taken &= {file.mark for file in found}
            for start in range(0, len(new), self.max_files):
                files: dict[str, bytes | Path | Any] = {}
                for number, file in enumerate(new[start : start + self.max_files]):
                    target = scratch / str(number)
                    if place.take(file, target):
                        files[file.name] = target
                        taken.add(file.mark)
                if files:
                    yield Batch(files, {"taken": pack(taken)})
        finally:
            place.close()

    def _settled(self, place: _Place, files: list[_File]) -> list[_File]:
        """Those that nobody writes any more, oldest first."""
        if any(file.changed_at is None for file in files):
            time.sleep(self.settle_seconds)
            again = {file.mark for file in place.files()}
            files = [file for file in files if file.changed_at is not None or file.mark in again]
        latest = time.time() - self.settle_seconds
        settled = [file for file in files if file.changed_at is None or file.changed_at <= latest]
        return sorted(settled, key=lambda file: (file.changed_at or 0, file.name))


@dataclass(frozen=True)
class _File:
    """A file that is there."""

    name: str  # below the folder
    path: str  # as the file system calls it
    size: int
    version: str  # changes when the content does
    changed_at: float | None  # seconds since 1970; none if the server does not say

    @property
    def mark(self) -> str:
        return row_hash([self.name, self.size, self.version])


class _Place:
    """The folder over one connection, made when it is needed and again after a fault."""

    def __init__(self, feed: DropFolder) -> None:
        from fsspec.utils import glob_translate

        self._feed = feed
        self._parts = feed.glob.split("/")
        self._pattern = re.compile(glob_translate(feed.glob))
        self._system: Any = None

    def files(self) -> list[_File]:
        """Every file that the glob names."""

        def listing() -> list[_File]:
            self._connected().invalidate_cache()
            return list(self._walk(self._feed.folder, 0))

        return self._patiently("cannot be listed", listing)

    def take(self, file: _File, target: Path) -> bool:
        """Bring a file; whether it is whole. One that is gone, or grows, is left for the next fetch.

        Raises:
            FeedError: when it keeps breaking off.
        """

        def transfer() -> bool:
            try:
                with target.open("wb") as content:
                    # Of fsspec's file systems, FTP's does not close what it opens when the connection breaks.
                    to = content if self._feed.scheme in {"ftp", "ftps"} else str(target)
                    self._connected().get_file(file.path, to)
            except FileNotFoundError:
                logger.info("feed '%s': %s was gone before it could be read", self._feed.id, file.name)
                return False
            size = target.stat().st_size
            if size < file.size:
                raise OSError(f"{file.name} broke off after {size} of {file.size} bytes")
            if size > file.size:
                logger.info("feed '%s': %s still grows: it waits for the next fetch", self._feed.id, file.name)
            return size == file.size

        return self._patiently(f"{file.name} cannot be read", transfer)

    def close(self) -> None:
        """Leave the server."""
        system, self._system = self._system, None
        for connection in (getattr(system, name, None) for name in ("ftp", "client")):
            if connection is not None:
                connection.close()

    def _walk(self, folder: str, depth: int) -> Iterator[_File]:
        system = self._connected()
        for found in self._entries(folder):
            path = str(found["name"]).rstrip("/")
            name = path.rpartition("/")[2]
            if name[:1] in {".", "_"} or path == folder:  # an object store may list the folder itself
                continue
            about = system.info(path) if found["type"] == "link" else found
            if about["type"] == "directory":
                if self._leads_on(name, depth):
                    yield from self._walk(path, depth + 1)
                continue
            below = path.removeprefix(self._feed.folder.rstrip("/") + "/")
            if not self._pattern.fullmatch(below):
                continue
            if not is_plain(below):
                logger.warning("feed '%s': '%s' is no name for a file that lands: it is left", self._feed.id, below)
                continue
            yield _File(below, path, int(about["size"]), _version(about), _changed_at(about))

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        try:
            entries: list[dict[str, Any]] = self._connected().ls(folder, detail=True)
        except FileNotFoundError as error:
            # A prefix of a bucket is there as soon as something is in it. A bucket that is missing has a cause.
            if self._feed.scheme == "s3" and error.__cause__ is None:
                return []
            if folder != self._feed.folder:  # gone since its parent was listed
                return []
            raise
        return entries

    def _leads_on(self, name: str, depth: int) -> bool:
        """Whether a file below this folder may be one that the glob names."""
        before = self._parts[: self._parts.index("**")] if "**" in self._parts else self._parts[:-1]
        return fnmatchcase(name, before[depth]) if depth < len(before) else "**" in self._parts

    def _patiently(self, what: str, call: Callable[[], Result]) -> Result:
        def attempt() -> Result:
            try:
                return call()
            except FeedError:
                raise
            except ImportError as error:
                raise self._feed.fault(
                    f"{self._feed.scheme}:// needs {error.name}: pip install 'wind-kedro[feeds]'"
                ) from None
            except Exception as error:
                self.close()
                said = f"{self._feed.url} {what}: {_words(error)}"
                if _may_pass(error):
                    logger.info("%s", self._feed.fault(said))
                    raise PassingError(said) from None
                advice = _advice(error)
                if advice is None:  # a bug, ours or a library's: its stack is wanted
                    raise
                raise self._feed.fault(f"{said}; {advice}") from None

        return self._feed.retry(attempt)

    def _connected(self) -> Any:
        if self._system is None:
            connect = {"file": _local, "s3": _s3, "ftp": _ftp, "ftps": _ftp, "sftp": _sftp}[self._feed.scheme]
            self._system = connect(self._feed)
        return self._system


# --- file systems ----------------------------------------------------------------------------------------------------

#: fsspec keeps connections for whoever asks next; ours are closed, and never shared between feeds.
_OWN = {"skip_instance_cache": True, "use_listings_cache": False}


def _local(_: DropFolder) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(**_OWN)


def _s3(feed: DropFolder) -> Any:
    from s3fs import S3FileSystem

    # Without any, the machine's own are used: environment, ~/.aws or the role of the instance.
    keys = {name: feed.secret(name) for name in ("key", "secret", "token") if name in feed.credentials}
    system = S3FileSystem(
        **keys,
        **_OWN,
        endpoint_url=feed.endpoint_url,
        client_kwargs={"region_name": feed.region} if feed.region else {},
        config_kwargs={
            "connect_timeout": feed.timeout_seconds,
            "read_timeout": feed.timeout_seconds,
            "retries": {"total_max_attempts": 1},
        },
    )
    system.retries = 1  # attempts are counted in one place: ours
    return system


def _ftp(feed: DropFolder) -> Any:
    from fsspec.implementations.ftp import FTPFileSystem

    host, port = _host(feed)
    names = {name: feed.secret(name) for name in ("username", "password") if feed.credentials}
    return FTPFileSystem(host, port, **names, **_OWN, timeout=feed.timeout_seconds, tls=feed.scheme == "ftps")


def _sftp(feed: DropFolder) -> Any:
    from fsspec.implementations.sftp import SFTPFileSystem

    host, port = _host(feed)
    secrets: dict[str, Any] = {"username": feed.secret("username")}
    if "private_key" in feed.credentials:
        secrets["key_filename"] = str(Path(feed.secret("private_key")).expanduser())
        if "passphrase" in feed.credentials:
            secrets["passphrase"] = feed.secret("passphrase")
    else:
        secrets["password"] = feed.secret("password")
    system = SFTPFileSystem(
        host,
        port=port,
        **secrets,
        skip_instance_cache=True,  # it caches no listing, and hands all it does not know to paramiko
        host_key_policy=_host_keys(feed),
        timeout=feed.timeout_seconds,
        banner_timeout=feed.timeout_seconds,
        auth_timeout=feed.timeout_seconds,
        allow_agent=False,
        look_for_keys=False,
    )
    system.ftp.get_channel().settimeout(feed.timeout_seconds)
    return system


def _host(feed: DropFolder) -> tuple[str, int]:
    parts = urlsplit(feed.url)
    return str(parts.hostname), parts.port or _PORTS[feed.scheme]


def _host_keys(feed: DropFolder) -> Any:
    """Paramiko's hook for keys that it does not know, which are all: only the expected one passes."""
    import base64
    import hashlib

    import paramiko

    class Expected(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            digest = hashlib.sha256(key.asbytes()).digest()
            shown = f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
            if feed.host_key is not None:
                if shown != feed.host_key:
                    raise feed.fault(
                        f"{hostname} shows the key {shown}, the card expects {feed.host_key}: ask its owner"
                    )
                return
            known = Path(feed.known_hosts).expanduser()
            if not known.is_file() or not paramiko.HostKeys(str(known)).check(hostname, key):
                raise feed.fault(
                    f"{hostname} shows the {key.get_name()} key {shown}, which is not in {feed.known_hosts}: if its owner "
                    f"confirms it, set host_key on the card",
                )

    return Expected()


# --- what file systems say -------------------------------------------------------------------------------------------


def _changed_at(about: dict[str, Any]) -> float | None:
    found = about.get("LastModified") or about.get("mtime") or about.get("modify")
    if isinstance(found, dt.datetime):
        return found.timestamp()
    if isinstance(found, int | float):
        return float(found)
    # RFC 3659: YYYYMMDDHHMMSS, UTC, with a fraction or without. Anything else has no year, or no time.
    stamp = re.fullmatch(r"(\d{14})(\.\d+)?", str(found))
    if stamp is None:
        return None
    return dt.datetime.strptime(stamp[1], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC).timestamp()


def _version(about: dict[str, Any]) -> str:
    changed_at = _changed_at(about)
    return str(about.get("ETag") or (about.get("modify") if changed_at is None else changed_at))


def _may_pass(error: Exception) -> bool:
    """Whether waiting may help: the network, the server, a transfer that broke off; not a wrong name or password."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError):
        return False
    if isinstance(error, OSError | EOFError | ftplib.error_temp | ftplib.error_reply | ftplib.error_proto):
        return True
    # A library that is not loaded has raised nothing.
    paramiko, botocore, aiohttp = (sys.modules.get(name) for name in ("paramiko", "botocore.exceptions", "aiohttp"))
    if paramiko is not None and isinstance(error, paramiko.SSHException):
        return not isinstance(error, paramiko.AuthenticationException | paramiko.PasswordRequiredException)
    return (botocore is not None and isinstance(error, botocore.HTTPClientError | botocore.ConnectionError)) or (
        aiohttp is not None and isinstance(error, aiohttp.ClientError)
    )


def _advice(error: Exception) -> str | None:
    """What a person can do about it; none if nothing."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "correct the feed's url, or make the folder"
    paramiko, botocore = sys.modules.get("paramiko"), sys.modules.get("botocore.exceptions")
    if (
        isinstance(error, PermissionError | ftplib.error_perm)
        or (paramiko is not None and isinstance(error, paramiko.SSHException))
        or (botocore is not None and isinstance(error, botocore.BotoCoreError | botocore.ClientError))
    ):
        return "check the feed's credentials, and what they are allowed"
    return None


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such folder"
    return " ".join(str(error).split()) or type(error).__name__
