"""The other ends of feeds, real and on loopback, made to be stopped: a folder, FTP, SFTP, an S3 store, an MQTT broker."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from wind_kedro.feeds import Landing, build_feed

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


# --- MQTT ------------------------------------------------------------------------------------------------------------


_PROGRAMS = f"{os.environ.get('PATH', '')}:/usr/sbin"  # Debian's place for servers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A Mosquitto that keeps its sessions over restarts."""

    def __init__(self, folder: Path, *more: str) -> None:
        program = shutil.which("mosquitto", path=_PROGRAMS)
        if program is None:
            pytest.skip("Mosquitto is not installed (Debian package mosquitto)")
        self.port = _free_port()
        self._program = program
        self._config = folder / "mosquitto.conf"
        user = ["user root"] if hasattr(os, "getuid") and os.getuid() == 0 else []
        access = [] if any(line.startswith("password_file") for line in more) else ["allow_anonymous true"]
        lines = [
            f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "autosave_interval 1",
            "max_queued_messages 0", *user, *access, *more,
        ]  # fmt: skip
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("the broker did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Starts a broker, with more lines of configuration; only who has the login may use it, if one is given."""
    started: list[Broker] = []

    def make(*more: str, **login: str) -> Broker:
        folder = tmp_path / f"broker-{len(started)}"
        folder.mkdir()
        lines = list(more)
        if login:
            tool = shutil.which("mosquitto_passwd", path=_PROGRAMS)
            assert tool is not None
            passwords = folder / "passwords"
            subprocess.run(
                [tool, "-b", "-c", str(passwords), login["username"], login["password"]],
                check=True,
                capture_output=True,
            )
            passwords.chmod(0o644)
            lines.append(f"password_file {passwords}")
        started.append(Broker(folder, *lines))
        started[-1].start()
        return started[-1]

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that lets everybody in."""
    return make_broker()


class Publisher:
    """A real client that waits until the broker has each message."""

    def __init__(self, port: int, **login: str) -> None:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher", protocol=paho.MQTTv5)
        if login:
            self._client.username_pw_set(**login)
        self._client.max_inflight_messages_set(200)
        self.heard: list[bytes] = []
        self._client.on_message = lambda _, __, message: self.heard.append(message.payload)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __call__(self, topic: str, payload: Any, *, qos: int = 1, retain: bool = False) -> None:
        content = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        self._client.publish(topic, content, qos=qos, retain=retain).wait_for_publish(60)

    def begin(self, topic: str, payloads: list[str]) -> list[Any]:
        return [self._client.publish(topic, payload, qos=1) for payload in payloads]

    def many(self, topic: str, payloads: list[str]) -> None:
        for info in self.begin(topic, payloads):
            info.wait_for_publish(60)

    def listen(self, topic: str) -> None:
        self._client.subscribe(topic)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def open_publisher() -> Iterator[Callable[..., Publisher]]:
    """Makes a publisher of a port and, if the broker wants it, a login."""
    opened: list[Publisher] = []

    def open_it(port: int, **login: str) -> Publisher:
        opened.append(Publisher(port, **login))
        return opened[-1]

    yield open_it
    for publisher in opened:
        publisher.close()


@pytest.fixture
def publish(broker: Broker, open_publisher: Callable[..., Publisher]) -> Publisher:
    """A publisher at the broker."""
    return open_publisher(broker.port)


class Plant:
    """A feed with its landing folder."""

    def __init__(self, root: Path, port: int, **card: Any) -> None:
        self.card = {
            "kind": "mqtt", "into": "plant", "host": "127.0.0.1", "port": port, "client_id": "wind-kedro-test",
            "topics": ["{turbine}/{signal}"], "idle_seconds": 0.3, "attempts": 2, "longest_wait_seconds": 0.2,
        } | card  # fmt: skip
        self.feed = build_feed("plant", self.card)
        self.landing = Landing(root, "plant", "plant")

    def fetch(self) -> int:
        """Fetch once; the number of batches."""
        batches = 0
        with self.landing.locked() as scratch:
            last = self.landing.last()
            for batch in self.feed.fetch(None if last is None else last.checkpoint, scratch):
                self.landing.commit(batch)
                batches += 1
        return batches

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for landed in self.landing.landed() for row in pq.read_table(landed.folder / "part.parquet").to_pylist()]


@pytest.fixture
def free_port() -> int:
    """A port at which nobody listens."""
    return _free_port()


@pytest.fixture
def new_plant(tmp_path: Path) -> Callable[..., Plant]:
    """Makes a plant of a port and what else its card says; all of a test land in one folder."""
    return lambda port, **card: Plant(tmp_path, port, **card)


@pytest.fixture
def make_plant(new_plant: Callable[..., Plant], broker: Broker) -> Callable[..., Plant]:
    """A plant whose session is there, so that the broker keeps what is published from now on."""

    def make(**card: Any) -> Plant:
        plant = new_plant(broker.port, **card)
        plant.fetch()
        return plant

    return make
