"""Base class of feeds and alarm channels: redaction of secrets, retries, verified servers, bounded responses.

A server is verified by its certificate (or SSH host key) before a user name or a password is sent to it. Each response is
bounded in bytes, packed and unpacked, and in time: timeouts of reads do not stop a server that sends a byte now and then.
"""

from __future__ import annotations

import base64
import contextlib
import html.entities
import logging
import random
import re
import socket
import ssl
import threading
import time
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar
from urllib.parse import quote

from pydantic import Field, PrivateAttr, SecretStr

from wind_kedro.cards import Card, Identifier
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.bounds import MalformedError, Meter, TooLargeError, inflate

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
#: The first wait between attempts, seconds; later ones double.
FIRST_WAIT_SECONDS = 0.5
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: A secret shorter than this is redacted where it stands alone: a user "a" is not every letter a.
_SHORT_SECRET = 4


class PassingError(Exception):
    """A transient fault, such as a timeout, a refused connection or a server error; it may ask to wait, in seconds."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class Remote(Card, ABC):
    """Base class of cards of remote services."""

    #: Name of the kind in messages.
    noun: ClassVar[str]

    id: Identifier
    kind: str
    credentials: dict[str, SecretStr] = Field(
        default_factory=dict, description="from credentials.yml or the environment; never shown"
    )
    attempts: int = Field(5, ge=1, description="most attempts of a request")
    longest_wait_seconds: float = Field(60, gt=0, description="waits between attempts double up to this")
    verify_server: bool = Field(
        True,
        description="check the server's TLS certificate and name, or its SSH host key, before anything is sent. With false, "
        "a host that answers in its place gets the credentials and can send any data; each connection logs a warning",
    )
    ca_file: str | None = Field(None, description="PEM file of the certificate authorities to trust; without it the system's")
    # Secrets that a server issued, as an access token.
    _issued: set[str] = PrivateAttr(default_factory=set)

    def fault(self, message: object) -> WindKedroError:
        """The error of this card: one line without secrets, wherever its text comes from."""
        line = " ".join(_COLOURS.sub("", self.redact(str(message))).split())
        return WindKedroError(f"{self.noun} '{self.id}': {line}")

    def redact(self, text: str) -> str:
        """A text with ``***`` in place of the card's secrets; see `redact`."""
        return redact(text, [*(one.get_secret_value() for one in self.credentials.values()), *self._issued])

    def keep_secret(self, issued: str) -> None:
        """Redact what a server issued, too."""
        self._issued.add(issued)

    def retry(self, call: Callable[[], Result]) -> Result:
        """Call until it raises no `PassingError`: waits double from `FIRST_WAIT_SECONDS` up to the card's longest, with jitter.

        Raises the error of the card when attempts are used up, or the other side asks for a longer wait than the card allows.
        """
        longest, attempt = self.longest_wait_seconds, 1
        while True:
            try:
                return call()
            except PassingError as error:
                asked = error.wait_seconds
                if asked is not None and asked > longest:
                    raise self.fault(f"{error}; it asks to wait {asked:.0f} s, `longest_wait_seconds` is {longest:g}") from None
                if attempt == self.attempts:
                    raise self.fault(f"{error}; tried {'once' if attempt == 1 else f'{attempt} times'}") from None
                # Jitter: a thousand farms that lost the same server do not come back to it in the same second.
                back_off = random.uniform(0, min(longest, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)))  # noqa: S311
                time.sleep(back_off if asked is None else asked)
                attempt += 1

    def tls_context(self) -> ssl.SSLContext:
        """TLS settings for a connection: the server is verified unless the card turns that off."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise self.fault(f"ca_file: {self.ca_file} cannot be read ({error})") from None
        if not self.verify_server:
            self.warn_unverified()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def warn_unverified(self) -> None:
        """Log that the server's identity is not checked."""
        warning = "%s '%s': verify_server is false: a host in the server's place gets the credentials and can send any data"
        logger.warning(warning, self.noun, self.id)

    def warn_in_the_clear(self, host: str) -> None:
        """Log that credentials go over a connection that is not encrypted, unless it is one of this machine."""
        if host not in {"localhost", "127.0.0.1", "::1"}:
            logger.warning("%s '%s': credentials go to %s unencrypted: use TLS where it can", self.noun, self.id, host)

    def untrusted(self, where: str, error: BaseException) -> WindKedroError | None:
        """The error for a certificate that does not verify; none if something else is wrong."""
        cause: BaseException | None = error
        while cause is not None and not hasattr(cause, "verify_message"):  # of `ssl.SSLCertVerificationError`
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return None
        why = getattr(cause, "verify_message", "")
        return self.fault(f"{where}: the certificate does not hold ({why}); set `ca_file` to the authority that signed it")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text by ``***``, in any encoding that a server, a driver or a library may use.

    Recognised are percent-encoding (once or repeated), JSON, Python and HTML escapes, other white space, and Base64, alone
    and as the pair ``user:password`` of HTTP Basic or of SASL.
    """
    plain = {form for secret in secrets for form in (secret, secret.strip())} - {""}
    encoded = {_base64(secret) for secret in plain if len(secret) >= _SHORT_SECRET}
    for one, other in permutations(plain, 2):
        encoded |= {_base64(pair) for pair in (f"{one}:{other}", f"\0{one}\0{other}", f"{quote(one)}:{quote(other)}")}
    # Longest first: a secret may be a prefix of another.
    for form in sorted(plain | encoded, key=len, reverse=True):
        parts = ["".join(f"(?:{_any_form(character)})" for character in part) for part in re.split(r"\s+", form)]
        pattern = _any_space().join(parts)
        if len(form) < _SHORT_SECRET:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, "***", text)
    return text


def _base64(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _any_form(character: str) -> str:
    """A pattern of a character, literal and in the escapes of URLs, JSON, Python and HTML."""
    octets = character.encode("utf-8", "surrogatepass")
    units = character.encode("utf-16-be", "surrogatepass")
    forms = [
        re.escape(character),
        "".join(f"%(?:25)*{octet:02x}" for octet in octets),
        "".join(rf"\\+x{octet:02x}" for octet in octets),
        "".join(rf"\\+u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)),
        rf"&#(?:0*{ord(character)}|x0*{ord(character):x});",
    ]
    if name := html.entities.codepoint2name.get(ord(character)):
        forms.append(f"&{name};")
    if character in "\"'/\\":
        forms.append(rf"\\+{re.escape(character)}")
    if character in "+/":  # Base64 for URLs
        forms.append("-" if character == "+" else "_")
    if character in _ESCAPES:
        forms.append(rf"\\+{_ESCAPES[character]}")
    # Escapes first: one of them may begin with the character. Only their digits are case-insensitive.
    return f"(?i:{'|'.join(forms[1:])})|{forms[0]}"


@cache
def _any_space() -> str:
    """A pattern of any white space in any escape, as messages may be wrapped."""
    forms = [r"\s", r"\+", *map(_any_form, " \t\r\n")]
    return f"(?:{'|'.join(forms)})+"


_ESCAPES = {"\n": "n", "\r": "r", "\t": "t"}


class Watchdog:
    """Ends the connections of a call after a total time in seconds, unlike a socket's timeout, which each byte restarts."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.ended = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def watch(self, connection: socket.socket) -> None:
        """Watch a connection. Call it before TLS begins: a duplicate shares the connection, not what wraps it."""
        with self._lock:
            self._sockets.append(connection.dup())
            if self.ended:
                self._shut_down()

    def _end(self) -> None:
        with self._lock:
            self.ended = True
            self._shut_down()

    def _shut_down(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Answer:
    """A complete, unpacked response."""

    status: int
    reason: str
    headers: httpx.Headers
    url: httpx.URL
    links: dict[str | None, dict[str, str]]
    content: bytes


class HttpClient:
    """A client of one card: verified, without redirects, each answer bounded.

    ``timeout_seconds`` is that of a connection and of a read; ``headers`` are sent with each request.
    """

    def __init__(self, remote: Remote, timeout_seconds: float, headers: dict[str, str] | None = None) -> None:
        import httpx

        # httpx logs every URL at level INFO, and a query may hold a key.
        for name in ("httpx", "httpcore"):
            its = logging.getLogger(name)
            its.setLevel(max(its.level, logging.WARNING))
        self._remote, self._timeout = remote, timeout_seconds
        self._connections: list[socket.socket] = []
        self._client = httpx.Client(
            verify=remote.tls_context(),
            timeout=timeout_seconds,
            # The only coding with bounded unpacking here; httpx would unpack any coding, also nested.
            headers={"Accept-Encoding": "gzip", **(headers or {})},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        for one in self._connections:
            one.close()

    def exchange(
        self, method: str, url: httpx.URL | str, shown: str, *, seconds: float, max_bytes: int, **request: Any
    ) -> Answer:
        """Send a request and read its answer, whatever its status, within a total time in ``seconds``.

        ``shown`` is the request in messages, as the URL itself may hold a secret; ``max_bytes`` counts the answer unpacked;
        ``request`` is more that `httpx.Client.stream` takes. Raises `PassingError` if no complete response was received, and the
        error of the card if the certificate does not verify, the answer is too large, or the request cannot be sent.
        """
        import httpx

        with Watchdog(seconds) as watchdog:
            for one in self._connections:
                watchdog.watch(one)

            def trace(event: str, info: dict[str, Any]) -> None:
                if event == "connection.connect_tcp.complete":
                    connection = info["return_value"].get_extra_info("socket")
                    self._connections.append(connection.dup())
                    watchdog.watch(connection)

            try:
                with self._client.stream(method, url, extensions={"trace": trace}, **request) as response:
                    content = b"".join(self._read(response, shown, max_bytes))
                    status, reason = response.status_code, response.reason_phrase
                    return Answer(status, reason, response.headers, response.url, response.links, content)
            except TooLargeError as error:
                raise self._remote.fault(error) from None
            except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError):
                # Their texts quote the header or the URL, which may hold a secret.
                raise self._remote.fault(
                    f"{shown}: the request cannot be written in HTTP; is there a line break in a credential, or a URL of "
                    "another form?"
                ) from None
            except (httpx.RequestError, httpx.StreamError, MalformedError, ValueError) as error:
                if watchdog.ended:
                    raise PassingError(f"{shown}: no whole answer in {seconds:g} s") from None
                if isinstance(error, httpx.TimeoutException):
                    raise PassingError(f"{shown}: no answer in {self._timeout:g} s") from None
                raise (
                    self._remote.untrusted(shown, error) or PassingError(f"{shown}: {str(error) or type(error).__name__}")
                ) from None

    def _read(self, response: httpx.Response, shown: str, max_bytes: int) -> Iterator[bytes]:
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        meter = Meter(shown, max_bytes)
        if coding in {"gzip", "x-gzip"}:
            yield from inflate(response.iter_raw(), meter, shown)
            return
        if coding not in {"identity", ""}:
            raise MalformedError(f"{shown}: an answer in the coding '{coding[:40]}', which was not asked for")
        for chunk in response.iter_raw():
            meter.add(len(chunk), len(chunk))
            yield chunk
