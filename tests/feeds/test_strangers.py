"""Servers that are not who they should be: a certificate nobody signed, a name that is another's, a secret quoted back.

The stranger is a real server of TLS on loopback. It plays each protocol as far as its greeting, presents a certificate that
signs itself, and keeps every byte that a client sends.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import gc
import html
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from wind_kedro.feeds import FeedError, Landing, build_feed
from wind_kedro.feeds.remote import PassingError, Watchdog, redact
from wind_kedro.notifications import ChannelError, Message, build_channels

USER, PASSWORD = "turbine", "s3cr3t of the+farm/&"
MESSAGE = Message("1", "one", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "one incident", "m", [{"kind": "k", "message": "m"}])


class Stranger:
    """Answers as a server of a protocol would, and keeps what it is sent, in the clear and inside of TLS."""

    def __init__(self, protocol: str, certificate: Path) -> None:
        self._protocol = protocol
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.heard = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                connection, _ = self._listener.accept()
                connection.settimeout(3)
                self.connections += 1
                with connection, contextlib.suppress(OSError, ValueError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        if self._protocol == "ftps":
            connection.sendall(b"220 here\r\n")
            self._hear(connection)  # AUTH TLS
            connection.sendall(b"234 go on\r\n")
        elif self._protocol == "smtp":
            connection.sendall(b"220 here\r\n")
            self._hear(connection)  # EHLO
            connection.sendall(b"250-here\r\n250 STARTTLS\r\n")
            self._hear(connection)
            connection.sendall(b"220 go on\r\n")
        elif self._protocol == "postgresql":
            self._hear(connection)  # SSLRequest
            connection.sendall(b"S")
        with self._context.wrap_socket(connection, server_side=True) as inside:
            if self._protocol == "smtps":
                inside.sendall(b"220 here\r\n")
            while self._hear(inside):
                inside.settimeout(0.3)  # who says no more waits for an answer that does not come
                inside.sendall(
                    {"ftps": b"331 go on\r\n", "smtp": b"250 AUTH PLAIN\r\n", "smtps": b"250 OK\r\n"}.get(self._protocol, b"")
                )

    def _hear(self, connection: socket.socket) -> bytes:
        heard = connection.recv(65_536)
        self.heard += heard
        return heard

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def meet(certificate: Path) -> Iterator[Callable[[str], Stranger]]:
    met: list[Stranger] = []

    def make(protocol: str) -> Stranger:
        met.append(Stranger(protocol, certificate))
        return met[-1]

    yield make
    for one in met:
        one.close()


LOGIN = {"username": USER, "password": PASSWORD}
#: By name: what the stranger plays, and the card; PORT is where it is.
CARDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ftps": ("ftps", {"kind": "drop_folder", "url": "ftps://127.0.0.1:PORT/", "credentials": LOGIN, "timeout_seconds": 3}),
    "s3": (
        "tls",
        {"kind": "drop_folder", "url": "s3://bucket/x", "endpoint_url": "https://127.0.0.1:PORT", "region": "x",
         "credentials": {"key": USER, "secret": PASSWORD, "token": PASSWORD}, "timeout_seconds": 3},
    ),
    "https": (
        "tls",
        {"kind": "http_api", "url": "https://127.0.0.1:PORT/x", "auth": {"kind": "basic"}, "credentials": LOGIN,
         "timeout_seconds": 3},
    ),
    "oauth2": (
        "tls",
        {"kind": "http_api", "url": "https://127.0.0.1:PORT/x", "timeout_seconds": 3,
         "auth": {"kind": "oauth2", "token_url": "https://127.0.0.1:PORT/token"},
         "credentials": {"client_id": USER, "client_secret": PASSWORD}},
    ),
    "postgresql": (
        "postgresql",
        {"kind": "sql_historian", "url": "postgresql://127.0.0.1:PORT/x", "table": "x", "cursor": "x", "credentials": LOGIN,
         "timeout_seconds": 3},
    ),
    "delta": (
        "tls",
        {"kind": "delta_table", "table": "s3://bucket/x",
         "storage_options": {"aws_endpoint_url": "https://127.0.0.1:PORT", "aws_region": "x"},
         "credentials": {"aws_access_key_id": USER, "aws_secret_access_key": PASSWORD, "aws_session_token": PASSWORD}},
    ),
    "mqtts": (
        "tls",
        {"kind": "mqtt", "host": "127.0.0.1", "port": "PORT", "tls": True, "client_id": "x", "topics": ["#"],
         "credentials": LOGIN, "connect_seconds": 3},
    ),
    "webhook": (
        "tls",
        {"kind": "webhook", "url": "https://127.0.0.1:PORT/x", "credentials": {"token": PASSWORD}, "timeout_seconds": 3},
    ),
    "smtp": (
        "smtp",
        {"kind": "email", "host": "127.0.0.1", "port": "PORT", "sender": "a@example.org", "to": ["b@example.org"],
         "credentials": {"user": USER, "password": PASSWORD}, "timeout_seconds": 3},
    ),
    "smtps": (
        "smtps",
        {"kind": "email", "host": "127.0.0.1", "port": "PORT", "security": "tls", "sender": "a@example.org",
         "to": ["b@example.org"], "credentials": {"user": USER, "password": PASSWORD}, "timeout_seconds": 3},
    ),
}  # fmt: skip


def _use(name: str, port: int, root: Path, **changes: Any) -> None:
    """Fetch, or send, once."""
    card = json.loads(json.dumps(CARDS[name][1]).replace('"PORT"', str(port)).replace("PORT", str(port)))
    card |= {"attempts": 1, "longest_wait_seconds": 0.01} | changes
    if card["kind"] in {"webhook", "email"}:
        build_channels({"one": card})["one"].send(MESSAGE)
    else:
        feed = build_feed("one", card | {"into": "one"})
        list(Landing(root, "one", "one").pull(feed.fetch, in_parts=feed.in_parts))


def _secrets() -> list[bytes]:
    forms = [PASSWORD, quote(PASSWORD), quote_plus(PASSWORD), USER]
    forms += [base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), base64.b64encode(PASSWORD.encode()).decode()]
    return [form.encode() for form in forms]


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CARDS)
def test_a_stranger_is_told_nothing(name: str, meet: Callable[[str], Stranger], tmp_path: Path) -> None:
    stranger = meet(CARDS[name][0])
    with pytest.raises((FeedError, ChannelError)) as error:
        _use(name, stranger.port, tmp_path)
    assert stranger.connections, "nobody connected"
    assert not [form for form in _secrets() if form in stranger.heard]
    assert "certificate" in str(error.value).lower()
    assert PASSWORD not in str(error.value)
    assert "\n" not in str(error.value)
    del error
    gc.collect()


@pytest.mark.parametrize("name", CARDS)
def test_the_switch_lets_a_stranger_in_and_says_so_each_time(
    name: str, meet: Callable[[str], Stranger], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = meet(CARDS[name][0])
    with caplog.at_level(logging.WARNING), pytest.raises((FeedError, ChannelError)):
        _use(name, stranger.port, tmp_path, verify_server=False)
    assert "verify_server is false" in caplog.text
    assert PASSWORD not in caplog.text
    # It gets as far as the stranger plays.
    assert len(stranger.heard) > (0 if name == "mqtts" else 8)


@pytest.mark.parametrize("name", ["ftps", "https", "webhook", "smtps", "postgresql", "mqtts"])
def test_a_given_authority_is_trusted_for_its_own_names_only(
    name: str, meet: Callable[[str], Stranger], certificate: Path, tmp_path: Path
) -> None:
    stranger = meet(CARDS[name][0])
    with pytest.raises((FeedError, ChannelError)) as error:
        _use(name, stranger.port, tmp_path, ca_file=str(certificate))
    assert "certificate" not in str(error.value)
    with pytest.raises((FeedError, ChannelError), match=r"cannot be read|does not exist|No such file"):
        _use(name, stranger.port, tmp_path, ca_file=str(tmp_path / "nowhere.pem"))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"kind": "drop_folder", "url": "/srv", "verify_server": False}, "verify_server: only for"),
        ({"kind": "drop_folder", "url": "sftp://h/x", "ca_file": "x"}, "ca_file: only for"),
        (
            {"kind": "drop_folder", "url": "sftp://h/x", "verify_server": False, "host_key": "SHA256:" + "A" * 43},
            "host_key: has no effect",
        ),
        ({"kind": "sql_historian", "url": "postgresql://h/x?sslmode=require", "table": "x", "cursor": "x"}, "sslmode"),
        ({"kind": "sql_historian", "url": "postgresql://h/x?sslrootcert=x", "table": "x", "cursor": "x"}, "ca_file"),
        (
            {"kind": "delta_table", "table": "s3://b/x", "storage_options": {"aws_allow_invalid_certificates": "true"}},
            "verify_server",
        ),
        ({"kind": "mqtt", "host": "h", "client_id": "x", "topics": ["#"], "verify_server": False}, "need `tls: true`"),
    ],
)
def test_a_switch_that_does_nothing_is_refused(card: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        build_feed("one", card | {"into": "one"})


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["s3cr3t of the+farm/&", 'quo"ted\\and ünïcode €', "tab\tand\nline", "plain-key-0815"])
@pytest.mark.parametrize(
    "write",
    [
        str, quote, quote_plus, lambda s: quote(s, safe=""), lambda s: quote(quote(s, safe=""), safe=""),
        lambda s: quote(s, safe="").lower(), json.dumps, lambda s: json.dumps(s, ensure_ascii=False),
        lambda s: json.dumps(json.dumps(s)), repr, lambda s: repr(s.encode()), html.escape,
        lambda s: "".join(f"&#{ord(c)};" for c in s), lambda s: " ".join(s.split()),
        lambda s: base64.b64encode(s.encode()).decode(), lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
        lambda s: base64.b64encode(f"me-myself:{s}".encode()).decode(),
        lambda s: base64.b64encode(f"\0me-myself\0{s}".encode()).decode(),
        lambda s: quote(base64.b64encode(f"me-myself:{s}".encode()).decode(), safe=""),
    ],
)  # fmt: skip
def test_secrets_are_redacted_however_they_are_written(secret: str, write: Callable[[str], str]) -> None:
    written = write(secret).strip("\"'")
    shown = redact(f"401: we got <{written}> from you", [secret, "me-myself"])
    core = shown.removeprefix("401: we got <").removesuffix("> from you")
    assert set(core.replace("b'", "").replace("'", "")) <= set('*=\\"%3Dd'), shown


def test_short_secrets_do_not_hide_the_message() -> None:
    assert redact("a cat sat; user a refused", ["a"]) == "*** cat sat; user *** refused"


def test_a_secret_that_begins_another_leaves_nothing() -> None:
    assert redact("key-one-two and key-one", ["key-one", "key-one-two"]) == "*** and ***"


# --- time ------------------------------------------------------------------------------------------------------------


class Dripper:
    """A server that sends a byte now and then, for ever."""

    def __init__(self, beginning: bytes = b"") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._beginning = beginning
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                threading.Thread(target=self._drip, args=[connection], daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._beginning)
            while not self._stop.wait(0.05):
                connection.sendall(b"2")

    def close(self) -> None:
        self._stop.set()
        self._listener.close()


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("webhook", b""),
        ("webhook", b"HTTP/1.1 200 OK\r\nX-Long: "),
        ("webhook", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        ("https", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        ("https", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("smtp", b""),
        ("smtp", b"220 here\r\n"),
        ("smtps", b"\x16\x03\x03\x40\x00\x02"),
    ],
)
def test_a_slow_drip_ends_in_time(name: str, beginning: bytes, tmp_path: Path) -> None:
    dripper = Dripper(beginning)
    began = time.monotonic()
    changes: dict[str, Any] = {"timeout_seconds": 2}
    changes |= {"answer_seconds": 0.5} if name == "https" else {"send_seconds": 0.5}
    if name in {"webhook", "https"}:
        changes["url"] = f"http://127.0.0.1:{dripper.port}/x"
    try:
        with pytest.raises((FeedError, ChannelError)):
            _use(name, dripper.port, tmp_path, **changes)
        assert time.monotonic() - began < 3
    finally:
        dripper.close()


def test_the_watchdog_lets_what_is_in_time_alone() -> None:
    here, there = socket.socketpair()
    with here, there:
        with Watchdog(0.2) as watchdog:
            watchdog.watch(here)
            there.sendall(b"x")
            assert here.recv(1) == b"x"
        time.sleep(0.3)
        there.sendall(b"y")
        assert here.recv(1) == b"y"
        assert not watchdog.ended


def test_passing_errors_carry_the_wait_that_was_asked_for() -> None:
    assert PassingError("x", 3).wait_seconds == 3
