"""Feed of an HTTP API with JSON responses: paging, tokens, rate limits, and a time window that advances with each fetch."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from wind_kedro.cards import Card
from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.remote import Answer, HttpClient, PassingError
from wind_kedro.storage.bounds import parse_json

from .compaction import PART
from .protocol import Batch, Checkpoint, Feed, FeedError, pack, row_hash, unpack
from .records import FAULT, RAW, Number, Repeated, UnreadableError, fault_columns, flatten, raw_of, read_json, text_of

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

_NO_CONTENT = 204
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _REQUEST_TIMEOUT, _TOO_MANY = 401, 403, 404, 408, 429
_REDIRECTS = range(300, 400)
_CLIENT_FAULTS = range(400, 500)
_SERVER_FAULTS = range(500, 600)
#: A token is renewed so long before it ends: it must last for the request that carries it.
_TOKEN_MARGIN_SECONDS = 30.0
#: Most bytes of the answer that holds a token. Signed tokens have a few thousand.
_MAX_TOKEN_BYTES = 1 << 20


def _plain_url(value: str) -> str:
    import httpx

    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise ValueError("not a URL; for example https://api.example/v1/readings") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("give a URL that starts with https:// or http://")
    if url.userinfo or url.query or url.fragment:
        # Not quoted, here and above: this is where people put secrets.
        raise ValueError("give host and path only; queries go to `params`, secrets to credentials")
    return value


Url = Annotated[str, AfterValidator(_plain_url)]


def _refuse_fields_of_others(card: Card, kind: str, fields: Mapping[str, set[str]]) -> None:
    others = sorted(card.model_fields_set - {"kind"} - fields.get(kind, set()))
    if others:
        raise ValueError(f"{', '.join(others)}: not for kind '{kind}'")


class Auth(Card):
    """Authentication by ``kind`` and credentials.

    ``bearer``: ``token``; ``api_key``: ``key``; ``basic``: ``username`` and ``password``; ``oauth2``: ``client_id`` and
    ``client_secret`` (client credentials, RFC 6749, 4.4), with a new token before it ends and on a 401.
    """

    kind: Literal["none", "bearer", "api_key", "basic", "oauth2"] = "none"
    header: str | None = Field(None, description="api_key: header of the key, for example X-API-Key")
    parameter: str | None = Field(None, description="api_key: parameter of the query, if the API has no header for it")
    token_url: Url | None = Field(None, description="oauth2")
    scope: str | None = Field(None, description="oauth2")

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        _refuse_fields_of_others(self, self.kind, {"api_key": {"header", "parameter"}, "oauth2": {"token_url", "scope"}})
        if self.kind == "api_key" and (self.header is None) == (self.parameter is None):
            raise ValueError("give `header` (for example X-API-Key) or `parameter`, one of them")
        if self.kind == "oauth2" and self.token_url is None:
            raise ValueError("token_url: is missing")
        return self


class Paging(Card):
    """How a response is divided into pages, by ``kind``.

    ``page``: numbered; the first page without records ends the list, as servers may shorten any page. ``cursor``: the body holds
    the token of the next page; a missing or empty one ends the list. ``link``: the header ``Link: <…>; rel="next"`` (RFC 8288)
    holds the next page's URL. ``next_url``: the body does.
    """

    kind: Literal["none", "page", "cursor", "link", "next_url"] = "none"
    parameter: str = Field("", description="page, cursor: of the number or the token; empty: the name of the kind")
    first: int = Field(1, description="page: number of the first one")
    size_parameter: str | None = Field(None, description="page")
    size: int | None = Field(None, gt=0, description="page")
    total: str | None = Field(
        None, description="page: path of the number of pages in the body, if the API has it; saves a request"
    )
    next: str = Field("", description="cursor, next_url: path of the token or the URL in the body")

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        of_page = {"parameter", "first", "size_parameter", "size", "total"}
        _refuse_fields_of_others(self, self.kind, {"page": of_page, "cursor": {"parameter", "next"}, "next_url": {"next"}})
        if self.kind in {"cursor", "next_url"} and not self.next:
            raise ValueError("next: is missing")
        return self


class Window(Card):
    """Time window of a request. Each begins ``overlap_minutes`` before the end of the last one.

    Late and revised rows within the overlap land; unchanged rows do not land again.
    """

    start: AwareDatetime = Field(description="of the first fetch")
    since_parameter: str = "since"
    until_parameter: str = "until"
    time_format: str = Field(
        "%Y-%m-%dT%H:%M:%SZ", description="of both, in UTC: as strftime, or epoch_seconds, or epoch_milliseconds"
    )
    step_minutes: float = Field(1440, gt=0, description="length by which a request extends the last one")
    overlap_minutes: float = Field(1440, ge=0, description="how late a row may come or be revised")
    delay_minutes: float = Field(0, ge=0, description="delay of `until` behind the current time")
    record_time: str | None = Field(
        None, description="path of the record's time that since and until select; then only the overlap is remembered"
    )
    remember_at_most: int = Field(200_000, gt=0, description="rows of an overlap; 16 bytes each in every checkpoint")

    @model_validator(mode="after")
    def _format_is_one(self) -> Self:
        if not self.time_format.startswith("epoch_"):
            try:
                self.as_sent(self.start)
            except ValueError as error:
                raise ValueError(f"time_format: '{self.time_format}' cannot be read back") from error
        elif self.time_format not in {"epoch_seconds", "epoch_milliseconds"}:
            raise ValueError("time_format: give epoch_seconds, epoch_milliseconds, or a pattern as of strftime")
        return self

    def text(self, at: dt.datetime) -> str:
        """Format a time for the API."""
        scale = {"epoch_seconds": 1, "epoch_milliseconds": 1000}.get(self.time_format)
        return at.astimezone(dt.UTC).strftime(self.time_format) if scale is None else str(int(at.timestamp()) * scale)

    def as_sent(self, at: dt.datetime) -> dt.datetime:
        """The time truncated to the resolution of the format."""
        if self.time_format.startswith("epoch_"):
            return at.astimezone(dt.UTC).replace(microsecond=0)
        read = dt.datetime.strptime(self.text(at), self.time_format)  # noqa: DTZ007 - the next line gives the zone
        return read.astimezone(dt.UTC) if read.tzinfo is not None else read.replace(tzinfo=dt.UTC)


class HttpApi(Feed):
    """Records of an HTTP API with JSON responses. One batch per window, with one file ``part.parquet`` of text.

    Nested objects become columns with dotted names, lists stay JSON; numbers keep their digits. A record that cannot be stored
    lands with its bytes in the column ``raw`` and the reason in ``fault``.
    Without a ``window`` every fetch requests all records, and lands those that the last response did not have.
    """

    in_parts = True

    kind: Literal["http_api"] = "http_api"
    url: Url
    records: str = Field("", description="path of the list of records in the body, with dots; empty: the body itself")
    params: dict[str, str | bool | int | float] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict, description="no secrets: they belong to `auth`")
    auth: Auth = Field(default_factory=Auth)
    paging: Paging = Field(default_factory=Paging)
    window: Window | None = None
    requests_per_minute: float | None = Field(None, gt=0)
    timeout_seconds: float = Field(30, gt=0, description="timeout of a connection and of a read")
    answer_seconds: float = Field(300, gt=0, description="maximum duration of one response")
    fetch_seconds: float = Field(3600, gt=0, description="maximum duration of a fetch and of a window; the next fetch continues")
    max_bytes: int = Field(256 << 20, gt=0, description="of all responses of one window, unpacked")
    max_pages: int = Field(10_000, gt=0, description="of one window")
    max_records: int = Field(1_000_000, gt=0, description="of one window")
    max_columns: int = Field(2_000, gt=0, description="of one window; a record with names beyond them lands with a `fault`")

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """See `Feed`. The checkpoint holds where the last window ended and hashes of what it returned."""
        del scratch  # a window fits in memory
        seen = unpack(checkpoint["seen"]) if checkpoint else set()
        with closing(_Session(self)) as session:
            if self.window is not None:
                yield from self._fetch_windows(session, self.window, checkpoint, seen)
                return
            rows = session.rows({})
            if fresh := [row for hashed, row in rows.items() if hashed not in seen]:
                yield Batch({PART: self._table(fresh)}, {"seen": pack(rows)}, len(fresh))

    def _fetch_windows(self, session: _Session, window: Window, checkpoint: Checkpoint | None, seen: set[str]) -> Iterator[Batch]:
        start = window.as_sent(window.start)
        step, overlap = dt.timedelta(minutes=window.step_minutes), dt.timedelta(minutes=window.overlap_minutes)
        landed = position = dt.datetime.fromisoformat(checkpoint["until"]) if checkpoint else start
        end = window.as_sent(_now() - dt.timedelta(minutes=window.delay_minutes))
        stop = time.monotonic() + self.fetch_seconds
        while position <= end and time.monotonic() < stop:
            since = max(start, window.as_sent(position - overlap))
            until = min(window.as_sent(position + step), end)
            if until <= position < end:
                raise self.fault(f"window.step_minutes is finer than the resolution of '{window.time_format}'; use longer steps")
            if since >= until:
                break
            rows = session.rows({window.since_parameter: window.text(since), window.until_parameter: window.text(until)})
            fresh = [row for hashed, row in rows.items() if hashed not in seen]
            # The next window repeats the overlap of this one, so only rows of this one can be repeated;
            # a value that was revised and then restored is new again.
            repeated_from = max(start, window.as_sent(until - overlap))
            seen = {
                hashed
                for hashed, row in rows.items()
                if window.record_time is None or not _is_before(row.get(window.record_time), repeated_from)
            }
            if len(seen) > window.remember_at_most:
                raise self.fault(
                    f"{len(seen)} rows of one window would have to be remembered, `remember_at_most` is "
                    f"{window.remember_at_most}; give `record_time`, or shorten step_minutes or overlap_minutes"
                )
            position, before = until, position
            if fresh:
                yield Batch({PART: self._table(fresh)}, {"until": position.isoformat(), "seen": pack(seen)}, len(fresh))
                landed = position
            if position in {before, end}:
                break
        # Save the checkpoint after a long period without rows, so that it is not requested again.
        if position - landed >= step:
            yield Batch({}, {"until": position.isoformat(), "seen": pack(seen)}, 0)

    def _table(self, rows: list[Mapping[str, str]]) -> pa.Table:
        import pyarrow as pa

        names: dict[str, None] = {}
        kept: list[Mapping[str, str]] = []
        for row in rows:
            fits = len(names) + sum(name not in names for name in row) <= self.max_columns or set(row) == {FAULT, RAW}
            content = b"" if fits else json.dumps(row, ensure_ascii=False).encode()
            kept.append(row if fits else fault_columns("more columns than `max_columns`", content))
            names |= dict.fromkeys(kept[-1])
        return pa.table({name: pa.array([row.get(name) for row in kept], pa.string()) for name in names})


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _is_before(text: str | None, at: dt.datetime) -> bool:
    """Whether a record's time is certainly before another; a time that cannot be parsed is not."""
    try:
        if text is None:
            return False
        if text.isdigit():
            # Seconds of this century have ten digits, milliseconds thirteen.
            seconds = int(text) / (1000 if len(text) > len("9999999999") else 1)
            return seconds < at.timestamp()
        read = dt.datetime.fromisoformat(text)
        # Without a zone the time may be off by up to 14 hours.
        return read < at if read.tzinfo is not None else read < at.replace(tzinfo=None) - dt.timedelta(hours=14)
    except (ValueError, OverflowError):
        return False


class _Session:
    """Connection of one fetch with client, token and rate limit."""

    def __init__(self, feed: HttpApi) -> None:
        self._feed = feed
        self._token: str | None = None
        self._token_ends = 0.0
        self._not_before = 0.0
        self._ends = time.monotonic() + feed.fetch_seconds
        self._left = feed.max_bytes
        self._client = HttpClient(feed, feed.timeout_seconds, {"Accept": "application/json", **feed.headers})
        self.close = self._client.close
        if feed.auth.kind != "none" and urlsplit(feed.url).scheme == "http":
            feed.warn_in_the_clear(str(urlsplit(feed.url).hostname))

    def rows(self, params: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
        """All records of all pages, flattened, by hash, so that repeated records are dropped.

        A record that cannot be stored becomes a row of its bytes with the reason.
        """
        rows: dict[str, Mapping[str, str]] = {}
        self._left = self._feed.max_bytes
        for records in self._pages({**self._feed.params, **params}):
            for record in records:
                if row := _row(record):
                    rows.setdefault(row_hash(row), row)
            if len(rows) > self._feed.max_records:
                raise self._fault(
                    f"more than {self._feed.max_records:,} records in one window; shorten `window.step_minutes`, or raise "
                    "`max_records`"
                )
        return rows

    def _fault(self, problem: str) -> FeedError:
        return self._feed.fault(f"GET {self._feed.url}: {problem}")

    def _pages(self, asked: dict[str, str | bool | int | float]) -> Iterator[list[Any]]:
        import httpx

        feed, paging = self._feed, self._feed.paging
        if paging.kind == "page":
            asked[paging.parameter or paging.kind] = paging.first
            if paging.size_parameter is not None and paging.size is not None:
                asked[paging.size_parameter] = paging.size
        url: httpx.URL | None = httpx.URL(feed.url).copy_merge_params(asked)
        been: set[str] = set()
        before: list[Any] | None = None
        while url is not None:
            been.add(str(url))
            if len(been) > feed.max_pages:
                raise self._fault(f"more than {feed.max_pages:,} pages in one window; correct `paging`, or raise `max_pages`")
            if time.monotonic() > self._ends:
                raise self._fault(
                    f"one window takes longer than `fetch_seconds` ({feed.fetch_seconds:g}); shorten `window.step_minutes`"
                )
            response, body = self._get(url)
            records = [] if body is None else self._records(body)
            if paging.kind == "page" and records and records == before:
                raise self._fault(f"two pages are the same; correct `paging.parameter` ('{paging.parameter or paging.kind}')")
            before = records
            yield records
            try:
                url = self._next(response, body, records, asked)
            except (httpx.InvalidURL, ValueError):
                raise self._fault("the next page's token or URL does not make a URL; correct `paging`") from None
            if url is not None and str(url) in been:
                raise self._fault("a page names itself or one before it as the next; correct `paging`")

    def _next(
        self, response: Answer, body: Any, records: list[Any], asked: dict[str, str | bool | int | float]
    ) -> httpx.URL | None:
        """The URL of the next page, if there is one; a page's number in ``asked`` moves on."""
        import httpx

        paging, first = self._feed.paging, httpx.URL(self._feed.url)
        parameter = paging.parameter or paging.kind
        if paging.kind == "page":
            number = int(asked[parameter]) + 1
            try:
                is_last = not records or (paging.total is not None and number - paging.first >= int(_find(body, paging.total)))
            except (TypeError, ValueError):  # also a number of more than 4,300 digits
                raise self._fault(f"no number of pages at `paging.total` ('{paging.total}')") from None
            if is_last:
                return None
            asked[parameter] = number
            return first.copy_merge_params(asked)
        following = response.links.get("next", {}).get("url") if paging.kind == "link" else _find(body, paging.next)
        if paging.kind == "none" or not following:
            return None
        if paging.kind == "cursor":
            return first.copy_merge_params({**asked, parameter: str(following)})
        url = response.url.join(str(following))
        if (url.scheme, url.host, url.port) != (first.scheme, first.host, first.port):
            # Send credentials only to the host on the card.
            raise self._fault(f"the next page is on another host ({url.host}); correct `url` or `paging`")
        return url

    def _records(self, body: Any) -> list[Any]:
        """Records of a response; a single object instead of a list is one record. A path without objects is a `FeedError`."""
        found = body
        path = self._feed.records
        for part in path.split(".") if path else []:
            if not isinstance(found, dict) or part not in found:
                has = f"has {', '.join(sorted(found)[:20]) or 'nothing'}" if isinstance(found, dict) else f"is {_kind(found)}"
                raise self._fault(f"no '{part}' of records '{path}' in the answer, which {has}; correct `records`")
            found = found[part]
        if found is None:
            return []
        records = [found] if isinstance(found, dict) else found
        if not isinstance(records, list) or (records and not any(isinstance(record, dict) for record in records)):
            raise self._fault(f"at records '{path}' is {_kind(found)}, not a list of objects; correct `records`")
        return records

    def _get(self, url: httpx.URL) -> tuple[Answer, Any]:
        """Request a URL; return the response and its JSON, numbers as text."""

        def once() -> tuple[Answer, Any]:
            is_renewable = self._feed.auth.kind == "oauth2" and self._token is not None
            request, params = self._authorise()
            answer = self._exchange("GET", url.copy_merge_params(params), **request)
            if answer.status == _UNAUTHORIZED and is_renewable:
                # A server may revoke a token early; a new token that is refused means wrong credentials.
                self._token = None
                answer = self._exchange("GET", url, **self._authorise()[0])
            self._check(answer, f"GET {self._feed.url}")
            if answer.status == _NO_CONTENT:
                return answer, None
            try:
                return answer, read_json(answer.content, max_bytes=self._feed.max_bytes)
            except WindKedroError:
                # The response may be truncated, so it is requested again.
                kind = answer.headers.get("Content-Type", "no content type")
                raise PassingError(f"GET {self._feed.url}: the answer is not JSON ({kind})") from None

        return self._feed.retry(once)

    def _exchange(self, method: str, url: httpx.URL, **request: Any) -> Answer:
        """Send one request within the card's rate limit."""
        now = time.monotonic()
        if now < self._not_before:
            time.sleep(self._not_before - now)
        if self._feed.requests_per_minute is not None:
            self._not_before = max(now, self._not_before) + 60 / self._feed.requests_per_minute
        shown = f"{method} {url.copy_with(query=None)}"
        answer = self._client.exchange(
            method, url, shown, seconds=self._feed.answer_seconds, max_bytes=max(0, self._left), **request
        )
        self._left -= len(answer.content)
        return answer

    def _check(self, response: Answer, shown: str) -> None:
        """Raise the error of a response other than 2xx."""
        status = response.status
        problem = f"{shown} answered {status} {response.reason}".rstrip()
        if status in _SERVER_FAULTS or status in {_REQUEST_TIMEOUT, _TOO_MANY}:
            raise PassingError(problem, _retry_after(response))
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise self._feed.fault(f"{problem}; correct its credentials in conf/local/credentials.yml, or `auth`")
        if status in _CLIENT_FAULTS:
            raise self._feed.fault(f"{problem}; correct {'`url`' if status == _NOT_FOUND else '`params`, `window` or `paging`'}")
        if status in _REDIRECTS:
            raise self._feed.fault(f"{problem}: it moved to {_target(response)}; correct `url`")

    def _authorise(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Options of a request and parameters of its query for the authentication."""
        feed, auth = self._feed, self._feed.auth
        match auth.kind:
            case "bearer":
                return {"headers": {"Authorization": f"Bearer {feed.secret('token').strip()}"}}, {}
            case "api_key":
                key = feed.secret("key").strip()
                return ({"headers": {auth.header: key}}, {}) if auth.header else ({}, {str(auth.parameter): key})
            case "basic":
                return {"auth": (feed.secret("username"), feed.secret("password"))}, {}
            case "oauth2":
                if self._token is None or time.monotonic() > self._token_ends:
                    self._renew(str(auth.token_url), {"scope": auth.scope} if auth.scope else {})
                return {"headers": {"Authorization": f"Bearer {self._token}"}}, {}
        return {}, {}

    def _renew(self, token_url: str, scope: dict[str, str]) -> None:
        import httpx

        feed, shown = self._feed, f"POST {token_url}"
        client = (feed.secret("client_id"), feed.secret("client_secret"))
        answer = self._exchange("POST", httpx.URL(token_url), data={"grant_type": "client_credentials"} | scope, auth=client)
        if answer.status in {400, _UNAUTHORIZED, _FORBIDDEN}:  # RFC 6749, 5.2: a wrong client may be a 400
            raise feed.fault(
                f"{shown} answered {answer.status}: no token; correct client_id and client_secret in "
                "conf/local/credentials.yml, or `auth.scope`"
            )
        self._check(answer, shown)
        try:
            body = parse_json(answer.content, max_bytes=_MAX_TOKEN_BYTES)
            self._token = str(body["access_token"])
            feed.keep_secret(self._token)
            self._token_ends = time.monotonic() + float(body.get("expires_in", 3600)) - _TOKEN_MARGIN_SECONDS
        except (WindKedroError, ValueError, KeyError, TypeError, AttributeError):
            raise feed.fault(f"{shown}: the answer has no access_token; correct `auth.token_url`") from None


def _target(answer: Answer) -> str:
    """Target of a redirect without query and user, which may be secrets."""
    import httpx

    try:
        return str(answer.url.join(answer.headers.get("Location", "")).copy_with(query=None, userinfo=b""))
    except (httpx.InvalidURL, ValueError):
        return "what is no URL"


def _retry_after(response: Answer) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110, 10.2.3: a number or a date); none if missing or invalid."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(text) - _now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _row(record: Any) -> dict[str, str]:
    """Convert a record to a row of text, or to its bytes and the reason if it cannot be stored."""
    try:
        if not isinstance(record, dict):
            raise UnreadableError(f"{_kind(record)}, not an object")
        return {name: text for name, value in flatten(record).items() if (text := text_of(value)) is not None}
    except UnreadableError as error:
        return fault_columns(str(error), raw_of(record))


def _find(body: Any, path: str) -> Any:
    """The value at a dotted path, if it exists."""
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object", Repeated: "an object", list: "a list", str: "text", bool: "true or false", Number: "a number"
    }  # fmt: skip
    return kinds.get(type(value), "null")
