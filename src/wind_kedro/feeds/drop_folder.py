"""Feed of a drop folder: files in a local folder, an S3 bucket, or on an FTP or SFTP server."""

from __future__ import annotations

import datetime as dt
import errno
import ftplib
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count, islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.remote import PassingError
from wind_kedro.storage.bounds import TooLargeError

from .landing import why_not
from .protocol import Batch, Checkpoint, Feed, FeedError, pack, row_hash, unpack

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: Most entries of a listing: about 1 GiB of memory; and most folders below each other.
_MAX_ENTRIES, _MAX_DEPTH = 1_000_000, 64
#: Most faults of a batch that are recorded one by one, and most characters of a name in one.
_MAX_FAULTS, _SHOWN = 100, 200
_BLOCK_BYTES = 1 << 18
#: Supported schemes of a URL with their default ports.
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
    """Files that are new or changed since the last fetch, under their own names.

    The checkpoint is a short hash of name, size and version (ETag or modification time) of every landed file that still exists.
    A file is fetched once it has not changed for ``settle_seconds``; if an FTP server does not report modification times (no
    MLSD), two listings so long apart must agree. Hidden names are ignored. Links, files that are too large and names that may
    not land (`why_not`) are refused: recorded once with the reason.
    """

    kind: Literal["drop_folder"] = "drop_folder"
    url: Annotated[str, AfterValidator(_address)] = Field(
        description="the folder: a path, s3://bucket/prefix, ftp://host/folder, ftps:// (explicit TLS), sftp://host/folder"
    )
    glob: str = Field(
        "*", min_length=1, description="pattern of the files below it; `**/` matches any folders. They land under the same names"
    )
    settle_seconds: float = Field(60, ge=0, description="a file is fetched once it has not changed for this long")
    max_files: int = Field(1000, ge=1, description="most files of a batch")
    timeout_seconds: float = Field(60, gt=0, description="timeout of a connection and of a read")
    fetch_seconds: float = Field(
        21_600, gt=0, description="maximum duration of a fetch; landed files stay, and the next fetch continues"
    )
    max_file_bytes: int = Field(64 << 30, gt=0, description="a larger file is refused")
    endpoint_url: str | None = Field(None, description="s3: the address of a store other than Amazon's")
    region: str | None = Field(None, description="s3: the region, if the store needs one")
    host_key: str | None = Field(
        None, pattern=r"^SHA256:[A-Za-z0-9+/]{43}$", description="sftp: the server's fingerprint, as `ssh-keygen -lf` shows it"
    )
    known_hosts: str = Field("~/.ssh/known_hosts", description="sftp: without host_key, the file that holds the server's key")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        where = {
            "endpoint_url": {"s3"}, "region": {"s3"}, "host_key": {"sftp"}, "known_hosts": {"sftp"},
            "ca_file": {"s3", "ftps"}, "verify_server": {"s3", "ftps", "sftp"},
        }  # fmt: skip
        for name, schemes in where.items():
            if name in self.model_fields_set and self.scheme not in schemes:
                raise ValueError(f"{name}: only for {', '.join(f'{one}://' for one in sorted(schemes))}")
        if not self.verify_server and self.host_key is not None:
            raise ValueError("host_key: has no effect with `verify_server: false`; give one of them")
        return self

    @property
    def scheme(self) -> str:
        """Scheme of the URL: file, s3, ftp, ftps or sftp."""
        return urlsplit(self.url).scheme or "file"

    @property
    def server(self) -> tuple[str, int]:
        """Host and port of the URL."""
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or _PORTS[self.scheme]

    @property
    def folder(self) -> str:
        """Path of the folder in its file system."""
        parts = urlsplit(self.url)
        if self.scheme == "s3":
            return f"{parts.netloc}{unquote(parts.path)}".rstrip("/")
        if self.scheme == "file":
            return str(Path(unquote(parts.path) if parts.scheme else self.url).expanduser().absolute())
        return unquote(parts.path).rstrip("/") or "/"

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """Yield the files that are new or changed, oldest first, at most ``max_files`` together; see `Feed.fetch`."""
        taken = unpack(checkpoint["taken"]) if checkpoint is not None else set()
        with closing(_Place(self)) as place:
            found = place.files()
            new = [file for file in found if file.mark not in taken]
            settled = self._settled(place, [file for file in new if not file.refused])
            # Forget deleted files, so that the checkpoint is bounded by the content of the folder.
            taken &= {file.mark for file in found}
            if refused := [file for file in new if file.refused]:
                taken |= {file.mark for file in refused}
                faults = [f"{file.name[:_SHOWN]!a} {file.refused}: refused" for file in refused[:_MAX_FAULTS]]
                if len(refused) > _MAX_FAULTS:
                    faults.append(f"{len(refused) - _MAX_FAULTS:,} more are refused")
                yield Batch({}, {"taken": pack(taken)}, faults=tuple(faults))
            for group in self._groups(settled):
                files: dict[str, bytes | Path | Any] = {}
                for number, file in enumerate(group):
                    target = scratch / str(number)
                    if place.take(file, target):
                        files[file.name] = target
                        taken.add(file.mark)
                if files:
                    yield Batch(files, {"taken": pack(taken)})

    def _groups(self, files: list[_File]) -> Iterator[list[_File]]:
        """Group files into batches; an object store may hold both ``a`` and ``a/b``, which a folder cannot."""
        group: list[_File] = []
        names: set[str] = set()
        folders: set[str] = set()
        for file in files:
            above = {str(folder) for folder in PurePosixPath(file.name).parents}
            if len(group) == self.max_files or file.name in folders or names & above:
                yield group
                group, names, folders = [], set(), set()
            group.append(file)
            names.add(file.name)
            folders |= above
        if group:
            yield group

    def _settled(self, place: _Place, files: list[_File]) -> list[_File]:
        """Files that have not changed for ``settle_seconds``, oldest first."""
        if any(file.changed_at is None for file in files):
            time.sleep(self.settle_seconds)
            again = {file.mark for file in place.files()}
            files = [file for file in files if file.changed_at is not None or file.mark in again]
        latest = time.time() - self.settle_seconds
        settled = [file for file in files if file.changed_at is None or file.changed_at <= latest]
        return sorted(settled, key=lambda file: (file.changed_at or 0, file.name))


@dataclass(frozen=True)
class _File:
    """A file in the remote folder, or an entry that must not land."""

    name: str  # below the folder
    path: str = ""  # in the file system
    size: int = 0
    version: str = ""  # changes when the content does
    changed_at: float | None = None  # seconds since 1970; none if the server does not report it
    refused: str = ""  # the reason why it must not land

    @property
    def mark(self) -> str:
        return row_hash(["refused", self.name, self.refused] if self.refused else [self.name, self.size, self.version])


class _GrewError(Exception):
    """A file is longer than its listed size."""


class _Place:
    """The remote folder over one connection, opened on demand and again after a fault."""

    def __init__(self, feed: DropFolder) -> None:
        from fsspec.utils import glob_translate

        self._feed = feed
        self._parts = feed.glob.split("/")
        self._pattern = re.compile(glob_translate(feed.glob))
        self._system: Any = None
        self._ends = time.monotonic() + feed.fetch_seconds

    def files(self) -> list[_File]:
        """Files that match the glob, and refused entries."""
        return self._retry("cannot be listed", lambda: list(self._walk(self._feed.folder, 0)))

    def take(self, file: _File, target: Path) -> bool:
        """Transfer a file; return whether it is complete. A deleted or growing file is left for the next fetch."""

        def transfer() -> bool:
            try:
                with target.open("wb") as content:
                    self._bring(file, content)
            except FileNotFoundError:
                logger.info("feed '%s': %s was gone before it could be read", self._feed.id, file.name)
                return False
            except _GrewError:
                logger.info("feed '%s': %s still grows: it waits for the next fetch", self._feed.id, file.name)
                self.close()
                return False
            size = target.stat().st_size
            if size < file.size:
                raise OSError(f"{file.name} broke off after {size} of {file.size} bytes")
            return True

        return self._retry(f"{file.name} cannot be read", transfer)

    def close(self) -> None:
        """Close the connection."""
        system, self._system = self._system, None
        for connection in (getattr(system, name, None) for name in ("ftp", "client")):
            if connection is not None:
                connection.close()

    def _bring(self, file: _File, content: BinaryIO) -> None:
        """Write a file's bytes; stop at the first block beyond its listed size."""

        def reached(size: int) -> None:
            if size > file.size:
                raise _GrewError
            self._check_time()

        def write(block: bytes) -> None:
            content.write(block)
            reached(content.tell())

        system = self._connected()
        match self._feed.scheme:
            case "s3":
                from fsspec.callbacks import Callback

                system.get_file(
                    file.path, content.name, callback=Callback(hooks={"reached": lambda _, size, **__: reached(size)})
                )
            case "sftp":
                system.ftp.getfo(file.path, content, lambda size, _: reached(size))
            case "file":
                with _open_local(file.path, Path(self._feed.folder)) as source:
                    while block := source.read(_BLOCK_BYTES):
                        write(block)
            case _:
                system.ftp.retrbinary(f"RETR {file.path}", write, _BLOCK_BYTES)

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise self._feed.fault(f"{self._feed.url}: takes longer than `fetch_seconds` ({self._feed.fetch_seconds:g})")

    def _walk(self, folder: str, depth: int) -> Iterator[_File]:
        feed = self._feed
        for number, about in enumerate(self._entries(folder)):
            if number >= _MAX_ENTRIES:
                raise feed.fault(f"{feed.url}: more than {_MAX_ENTRIES:,} entries in a folder; split it, or narrow the `glob`")
            path, kind, size = str(about["name"]).rstrip("/"), str(about["type"]), str(about.get("size", ""))
            name, below = path.rpartition("/")[2], path.removeprefix(feed.folder.rstrip("/") + "/")
            is_folder = kind == "directory"
            is_link = bool(about.get("islink")) or "link" in kind or str(about.get("unix.mode", "")).startswith("l")
            leads_on = (is_folder or is_link) and self._leads_on(name, depth)
            # An object store may list the folder itself.
            if path == folder or name[:1] in {".", "_"} or not (leads_on or (not is_folder and self._pattern.fullmatch(below))):
                continue
            checks = (
                (is_link, "is a symbolic link, which is not followed"),
                (is_folder and depth == _MAX_DEPTH, f"is more than {_MAX_DEPTH} folders deep"),
                (kind not in {"file", "directory"}, "is neither a file nor a folder"),
                (not is_folder and not size.isdecimal(), "has no size"),
                (
                    not is_folder and size.isdecimal() and int(size) > feed.max_file_bytes,
                    f"is larger than `max_file_bytes` ({size} bytes)",
                ),
            )
            if (refused := why_not(below) or next((reason for found, reason in checks if found), None)) is not None:
                yield _File(below, refused=refused)
            elif is_folder:
                yield from self._walk(path, depth + 1)
            else:
                yield _File(below, path, int(size), *_version(about))

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        self._check_time()
        system = self._connected()
        try:
            if self._feed.scheme == "s3":
                from fsspec.asyn import sync

                left = max(1.0, self._ends - time.monotonic())
                entries: list[dict[str, Any]] = sync(system.loop, system._ls, folder, detail=True, timeout=left)
            elif self._feed.scheme == "sftp":
                # fsspec takes everything else for files; reading from a pipe blocks some servers.
                plain = {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
                entries = [
                    system._decode_stat(one, folder) | ({} if stat.S_IFMT(one.st_mode or 0) in plain else {"type": "other"})
                    for one in islice(system.ftp.listdir_iter(folder), _MAX_ENTRIES + 1)
                ]
            else:
                entries = system.ls(folder, detail=True)
        except FileNotFoundError as error:
            # A folder may be gone since its parent was listed. An empty prefix of a bucket does not exist; a missing bucket has
            # a cause.
            if folder != self._feed.folder or (self._feed.scheme == "s3" and error.__cause__ is None):
                return []
            raise
        return entries

    def _leads_on(self, name: str, depth: int) -> bool:
        """Whether files below this folder may match the glob."""
        before = self._parts[: self._parts.index("**")] if "**" in self._parts else self._parts[:-1]
        return fnmatchcase(name, before[depth]) if depth < len(before) else "**" in self._parts

    def _retry(self, what: str, call: Callable[[], Result]) -> Result:
        feed = self._feed

        def attempt() -> Result:
            try:
                return call()
            except FeedError:
                raise
            except ImportError as error:
                raise feed.fault(f"{feed.scheme}:// needs {error.name}: pip install 'wind-kedro[feeds]'") from None
            except Exception as error:
                self.close()
                if isinstance(error, WindKedroError):
                    raise feed.fault(f"{feed.url} {what}: {error}") from None
                if (untrusted := feed.untrusted(feed.url, error)) is not None:
                    raise untrusted from None
                shown = " ".join(str(error).split()) or type(error).__name__
                problem = f"{feed.url} {what}: {'no such folder' if isinstance(error, FileNotFoundError) else shown}"
                remedy = _remedy(error)
                if remedy is None:  # a bug here or in a library: keep its stack trace
                    raise
                if not remedy:
                    logger.info("%s", feed.fault(problem))
                    raise PassingError(problem) from None
                raise feed.fault(f"{problem}; {remedy}") from None

        return feed.retry(attempt)

    def _connected(self) -> Any:
        if self._system is None:
            connect = {"file": _local, "s3": _s3, "ftp": _ftp, "ftps": _ftp, "sftp": _sftp}[self._feed.scheme]
            self._system = connect(self._feed)
        return self._system


#: Turn off fsspec's shared instances and cached listings: connections are closed and not shared between feeds.
_OWN = {"skip_instance_cache": True, "use_listings_cache": False}


def _local(_: DropFolder) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(**_OWN)


def _s3(feed: DropFolder) -> Any:
    from s3fs import S3FileSystem

    # Without credentials, those of the machine are used: environment, ~/.aws or the role of the instance.
    keys = {name: feed.secret(name) for name in ("key", "secret", "token") if name in feed.credentials}
    if not feed.verify_server:
        feed.warn_unverified()
    timeouts = dict.fromkeys(("connect_timeout", "read_timeout"), feed.timeout_seconds)
    system = S3FileSystem(
        **keys,
        **_OWN,
        endpoint_url=feed.endpoint_url,
        client_kwargs={"region_name": feed.region, "verify": feed.ca_file if feed.verify_server else False},
        config_kwargs={**timeouts, "retries": {"total_max_attempts": 1}},
    )
    system.retries = 1  # attempts are counted by the feed
    return system


def _ftp(feed: DropFolder) -> Any:
    from fsspec.implementations.ftp import FTPFileSystem

    host, port = feed.server
    names = {name: feed.secret(name) for name in ("username", "password") if feed.credentials}
    secure = feed.scheme == "ftps"
    tls = {"context": feed.tls_context()} if secure else {}
    if names and not secure:
        feed.warn_in_the_clear(host)

    class Bounded(ftplib.FTP_TLS if secure else ftplib.FTP):  # type: ignore[misc]  # one of two
        def retrlines(self, cmd: str, callback: Callable[[str], object] | None = None) -> str:
            """Read a listing of a bounded number of lines."""
            numbers = count(1)

            def counted(line: str) -> None:
                if next(numbers) > _MAX_ENTRIES:
                    raise TooLargeError(f"more than {_MAX_ENTRIES:,} lines of a listing")
                if callback is not None:
                    callback(line)

            return str(super().retrlines(cmd, counted))

    class Verified(FTPFileSystem):  # type: ignore[misc]  # fsspec has no types
        def _connect(self) -> None:
            """Connect with our TLS settings; FTP_TLS sends AUTH TLS before the user's name."""
            self.ftp = Bounded(timeout=self.timeout, encoding=self.encoding, **tls)
            self.ftp.connect(self.host, self.port)
            self.ftp.login(*self.cred)

    return Verified(host, port, **names, **_OWN, timeout=feed.timeout_seconds, tls=secure)


def _sftp(feed: DropFolder) -> Any:
    from fsspec.implementations.sftp import SFTPFileSystem

    host, port = feed.server
    names = ("username", "passphrase") if "private_key" in feed.credentials else ("username", "password")
    secrets = {name: feed.secret(name) for name in names if name != "passphrase" or name in feed.credentials}
    if "private_key" in feed.credentials:
        secrets["key_filename"] = str(Path(feed.secret("private_key")).expanduser())
    system = SFTPFileSystem(
        host,
        port=port,
        **secrets,
        **dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), feed.timeout_seconds),
        skip_instance_cache=True,  # it caches no listing, and passes unknown arguments to paramiko
        host_key_policy=_host_keys(feed),
        allow_agent=False,
        look_for_keys=False,
    )
    system.ftp.get_channel().settimeout(feed.timeout_seconds)
    return system


def _host_keys(feed: DropFolder) -> Any:
    """Paramiko's policy for unknown host keys (no key is known to it): only the expected key is accepted."""
    import base64
    import hashlib

    import paramiko

    class Expected(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            if not feed.verify_server:
                feed.warn_unverified()
                return
            digest = hashlib.sha256(key.asbytes()).digest()
            shown = f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
            if feed.host_key is not None:
                if shown != feed.host_key:
                    raise feed.fault(f"{hostname} shows the key {shown}, the card expects {feed.host_key}: ask its owner")
                return
            known = Path(feed.known_hosts).expanduser()
            if not known.is_file() or not paramiko.HostKeys(str(known)).check(hostname, key):
                raise feed.fault(
                    f"{hostname} shows the {key.get_name()} key {shown}, which is not in {feed.known_hosts}: if its owner "
                    f"confirms it, set host_key on the card"
                )

    return Expected()


def _open_local(path: str, folder: Path) -> BinaryIO:
    """Open a regular file of the folder, refusing links that replaced it or a parent folder since the listing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            raise FileNotFoundError(path) from None
        raise
    inside = Path(path).resolve() == folder.resolve() / Path(path).relative_to(folder)
    if not inside or not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(path)
    return os.fdopen(handle, "rb")


def _version(about: dict[str, Any]) -> tuple[str, float | None]:
    """What changes when the content does, and the seconds since 1970 of the change, if the server reports it."""
    changed_at, found = None, about.get("LastModified") or about.get("mtime") or about.get("modify")
    if isinstance(found, dt.datetime):
        changed_at = found.timestamp()
    elif isinstance(found, int | float):
        changed_at = float(found)
    # RFC 3659: YYYYMMDDHHMMSS, UTC, with or without a fraction. Other formats lack the year or the time.
    elif stamp := re.fullmatch(r"(\d{14})(\.\d+)?", str(found)):
        changed_at = dt.datetime.strptime(stamp[1], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC).timestamp()
    return str(about.get("ETag") or (about.get("modify") if changed_at is None else changed_at)), changed_at


def _remedy(error: Exception) -> str | None:
    """What to do about an error: empty if it may pass by itself, as faults of network and server do; none if it is a bug."""
    # Only loaded libraries can have raised the error.
    paramiko, botocore, aiohttp = (sys.modules.get(name) for name in ("paramiko", "botocore.exceptions", "aiohttp"))
    refused: tuple[type[Exception], ...] = (PermissionError, ftplib.error_perm)
    passing: tuple[type[Exception], ...] = (OSError, EOFError, ftplib.error_temp, ftplib.error_reply, ftplib.error_proto)
    if paramiko is not None:
        refused, passing = (*refused, paramiko.AuthenticationException), (*passing, paramiko.SSHException)
    if botocore is not None:
        passing = (*passing, botocore.HTTPClientError, botocore.ConnectionError)
    if aiohttp is not None:
        passing = (*passing, aiohttp.ClientError)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "correct the feed's url, or make the folder"
    if isinstance(error, passing) and not isinstance(error, refused):
        return ""
    others = () if botocore is None else (botocore.BotoCoreError, botocore.ClientError)
    return "check the feed's credentials and their permissions" if isinstance(error, (*refused, *others)) else None
