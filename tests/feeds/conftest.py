"""The other ends of feeds, real and on loopback: a folder, an FTP server, an SFTP server and an S3 store, made to be stopped."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "turbine", "s3cr3t-of-the-farm"


class Folder:
    """A folder of this machine that can be unmounted: what all the others serve, too."""

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()

    def put(self, name: str, content: str, age_seconds: float = 3600) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        changed_at = time.time() - age_seconds
        os.utime(path, (changed_at, changed_at))

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def card(self) -> dict[str, Any]:
        return {"url": str(self.root)}

    def start(self) -> None:
        aside = self.root.with_name("unmounted")
        if aside.exists():
            aside.rename(self.root)

    def stop(self) -> None:
        self.root.rename(self.root.with_name("unmounted"))

    def close(self) -> None:
        """Nothing runs."""


class Ftp(Folder):
    """Pyftpdlib in a thread."""

    kind = "ftp"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._port = 0
        self.start()

    def card(self) -> dict[str, Any]:
        return {
            "url": f"ftp://127.0.0.1:{self._port}/",
            "credentials": {"username": USER, "password": PASSWORD},
            "timeout_seconds": 5,
        }

    def start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 about asyncore, which it is made of
            from pyftpdlib.authorizers import DummyAuthorizer
            from pyftpdlib.handlers import FTPHandler
            from pyftpdlib.ioloop import IOLoop
            from pyftpdlib.servers import FTPServer

        logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
        authorizer = DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(self.root), perm="elr")
        handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        self._server = FTPServer(("127.0.0.1", self._port), handler, ioloop=IOLoop())
        self._port = self._server.address[1]
        self._stopping = threading.Event()

        def serve() -> None:
            while not self._stopping.is_set():
                self._server.serve_forever(timeout=0.02, blocking=False)
            self._server.close_all()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def close(self) -> None:
        self.stop()


class Sftp(Folder):
    """Asyncssh in a thread."""

    kind = "sftp"

    def __init__(self, root: Path) -> None:
        import asyncssh

        super().__init__(root)
        self._port = 0
        self._connections: list[Any] = []
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._key.public_data).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def known_host(self) -> str:
        return f"[127.0.0.1]:{self._port} {self._key.export_public_key().decode()}"

    def card(self) -> dict[str, Any]:
        return {
            "url": f"sftp://127.0.0.1:{self._port}/",
            "host_key": self.fingerprint,
            "credentials": {"username": USER, "password": PASSWORD},
            "timeout_seconds": 5,
        }

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def start(self) -> None:
        import asyncssh

        connections = self._connections

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                connections.append(conn)

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == (USER, PASSWORD)

        def root(channel: Any) -> Any:
            return asyncssh.SFTPServer(channel, chroot=str(self.root).encode())

        logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

        async def listen() -> Any:
            return await asyncssh.listen(
                "127.0.0.1", self._port, server_host_keys=[self._key], server_factory=Server, sftp_factory=root
            )

        self._server = self._run(listen())
        self._port = self._server.get_port()

    def close_connections(self) -> None:
        """Hang up on everybody."""
        for connection in self._connections:
            self._loop.call_soon_threadsafe(connection.abort)
        self._connections.clear()

    def stop(self) -> None:
        self.close_connections()

        async def close() -> None:
            self._server.close()
            await self._server.wait_closed()

        self._run(close())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class S3(Folder):
    """Moto in a thread. What is in a bucket outlives the server, and its times are the server's own."""

    kind = "s3"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._port = 0
        self._bucket = f"bucket-{os.urandom(6).hex()}"
        self.start()
        self._client().create_bucket(Bucket=self._bucket)

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
            region_name="us-east-1",
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def put(self, name: str, content: str, age_seconds: float = 3600) -> None:
        del age_seconds
        self._client().put_object(Bucket=self._bucket, Key=f"drop/{name}", Body=content.encode())

    def remove(self, name: str) -> None:
        self._client().delete_object(Bucket=self._bucket, Key=f"drop/{name}")

    def card(self) -> dict[str, Any]:
        return {
            "url": f"s3://{self._bucket}/drop",
            "endpoint_url": self.endpoint,
            "credentials": {"key": USER, "secret": PASSWORD},
            "settle_seconds": 0,
            "timeout_seconds": 5,
        }

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        self._server.stop()

    def close(self) -> None:
        self.stop()


REMOTES: dict[str, Callable[[Path], Folder]] = {one.kind: one for one in (Folder, Ftp, Sftp, S3)}


@pytest.fixture
def open_remote(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Starts the other end of a kind: folder, ftp, sftp or s3."""
    opened: list[Folder] = []

    def open_it(kind: str) -> Folder:
        opened.append(REMOTES[kind](tmp_path / f"remote-{kind}"))
        return opened[-1]

    yield open_it
    for remote in opened:
        remote.close()


@pytest.fixture(params=list(REMOTES))
def remote(request: pytest.FixtureRequest, open_remote: Callable[[str], Any]) -> Any:
    """The other end, of every kind in turn: put, remove, card, start, stop."""
    return open_remote(request.param)


@pytest.fixture(scope="session")
def password() -> str:
    """The secret of every server here."""
    return PASSWORD
