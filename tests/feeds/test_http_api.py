"""HTTP APIs against a real server on loopback: every paging, every token, every way to fail."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import gzip
import itertools
import json
import logging
import re
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wind_kedro.feeds import FeedError, Landing, http_api
from wind_kedro.feeds.http_api import HttpApi

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
SECRET = "s3cr3t+/=&?"  # noqa: S105 - opens nothing but the server below
PAGE_SIZE = 3


def _hours(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


class Api:
    """The other side: its records, what it wants to be asked, and what goes wrong next."""

    def __init__(self) -> None:
        self.records: list[tuple[dt.datetime, dict[str, Any] | str]] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler], bool]] = []
        self.refuse: Callable[[BaseHTTPRequestHandler], bool] = lambda request: False
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.url = ""

    def add(self, hours: float, **values: Any) -> None:
        at = _hours(hours)
        self.records.append((at, {"at": at.isoformat(), **values}))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append(request.path)
        if self.faults and self.faults.pop(0)(request):
            return
        if self.refuse(request):
            return _send(request, {"said": request.headers.get("Authorization")}, 401)
        found = [text for at, text in self.records if self._inside(at, query)]
        size = PAGE_SIZE
        start = (int(query.get("page", "1")) - 1) * size if url.path == "/page" else int(query.get("cursor", "0"))
        page = found[start : start + size]
        more = start + size < len(found)
        onward = f"{url.path}?{url.query}&cursor={start + size}"
        onward = onward if "cursor=" not in url.query else onward.replace(f"cursor={start}&", "", 1)
        if url.path == "/all":
            return _send(request, found)
        body = {"data": {"items": page, "pages": -(-len(found) // size)}, "next": None}
        if url.path == "/link":
            link = {"Link": f'<{self.url}{onward}>; rel="next", <{self.url}/>; rel="first"'} if more else {}
            return _send(request, page, headers=link)
        if more:
            body["next"] = str(start + size) if url.path == "/cursor" else onward
        return _send(request, body)

    def _inside(self, at: dt.datetime, query: dict[str, str]) -> bool:
        if "since" not in query:
            return True
        return dt.datetime.fromisoformat(query["since"]) <= at < dt.datetime.fromisoformat(query["until"])


def _send(request: BaseHTTPRequestHandler, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    # Records given as text keep the digits of their numbers.
    content = text.encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                state.answer(self)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            client = base64.b64encode(f"me:{SECRET}".encode()).decode()
            if self.headers["Authorization"] != f"Basic {client}" or "grant_type=client_credentials" not in body:
                return _send(self, {"error": "invalid_client"}, 401)
            state.tokens.append(f"token{len(state.tokens)}")
            return _send(self, {"access_token": state.tokens[-1], "expires_in": 3600})

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[dt.datetime]:
    """Now, to be set by the test."""
    now = [_hours(48)]
    monkeypatch.setattr(http_api, "_now", lambda: now[0])
    return now


def _feed(api: Api, path: str = "/next", **fields: Any) -> HttpApi:
    kinds = {
        "/page": {"kind": "page"},
        "/cursor": {"kind": "cursor", "next": "next"},
        "/link": {"kind": "link"},
        "/next": {"kind": "next_url", "next": "next"},
        "/all": {"kind": "none"},
    }
    card: dict[str, Any] = {
        "id": "meter",
        "into": "meter",
        "url": f"{api.url}{path}",
        "records": "" if path in {"/link", "/all"} else "data.items",
        "paging": kinds[path],
        "window": {"start": START, "step_minutes": 24 * 60, "overlap_minutes": 6 * 60},
        "longest_wait_seconds": 0.02,
    }
    return HttpApi.model_validate(card | fields)


def _land(feed: HttpApi, root: Path, batches: int | None = None) -> list[dict[str, Any]]:
    """Fetch and land, up to so many batches; the rows that landed."""
    rows: list[dict[str, Any]] = []
    for landed in itertools.islice(Landing(root, feed.into, feed.id).pull(feed.fetch), batches):
        for name in landed.files:
            rows += pq.read_table(landed.folder / name).to_pylist()
    return rows


def _ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(int(row["id"]) for row in rows)


# --- everything once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/page", "/cursor", "/link", "/next", "/all"])
def test_every_paging_lands_everything_once_then_nothing_then_what_is_new(
    api: Api, clock: list[dt.datetime], tmp_path: Path, path: str
) -> None:
    for number in range(20):
        api.add(2 * number, id=number)
    feed = _feed(api, path)
    assert _ids(_land(feed, tmp_path)) == list(range(20))
    assert _land(feed, tmp_path) == []
    api.add(47.5, id=20)
    api.add(45, id=21)  # late, within the overlap
    clock[0] = _hours(49)
    assert _ids(_land(feed, tmp_path)) == [20, 21]
    assert _land(feed, tmp_path) == []


def test_the_number_of_pages_spares_the_empty_one(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    for number in range(7):
        api.add(number, id=number)
    clock[0] = _hours(24)
    assert _ids(_land(_feed(api, "/page", paging={"kind": "page", "total": "data.pages"}), tmp_path)) == list(range(7))
    assert len(api.asked) == 3


def test_without_a_window_what_was_not_in_the_last_answer_lands(api: Api, tmp_path: Path) -> None:
    feed = _feed(api, window=None)
    api.add(1, id=1, power=5)
    api.add(2, id=2, power=6)
    assert len(_land(feed, tmp_path)) == 2
    assert _land(feed, tmp_path) == []
    api.records[0] = (api.records[0][0], {"id": 1, "power": 7})
    assert _land(feed, tmp_path) == [{"id": "1", "power": "7"}]


def test_a_revised_row_lands_later_and_again_when_it_is_put_back(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    feed = _feed(api)
    api.add(46, id=1, power=5)
    original = api.records[0]
    assert [row["power"] for row in _land(feed, tmp_path)] == ["5"]
    api.records.clear()
    api.add(46, id=1, power=6)
    assert [row["power"] for row in _land(feed, tmp_path)] == ["6"]
    api.records[0] = original
    assert [row["power"] for row in _land(feed, tmp_path)] == ["5"]
    landed = Landing(tmp_path, "meter", "meter").landed()
    assert [batch.landed_at for batch in landed] == sorted({batch.landed_at for batch in landed})


def test_until_never_runs_past_now_less_the_delay(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    window = {"start": START, "step_minutes": 600, "overlap_minutes": 60, "delay_minutes": 90}
    api.add(46, id=1)
    api.add(47, id=2)
    feed = _feed(api, window=window)
    assert _ids(_land(feed, tmp_path)) == [1]
    untils = [parse_qs(urlsplit(path).query)["until"][0] for path in api.asked]
    assert max(untils) == "2024-01-02T22:30:00Z"
    clock[0] = _hours(24)  # a clock that was put back asks for nothing and forgets nothing
    assert _land(feed, tmp_path) == []
    clock[0] = _hours(49)
    assert _ids(_land(feed, tmp_path)) == [2]


def test_a_long_silence_is_asked_through_once(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    clock[0] = _hours(24 * 30)
    feed = _feed(api)
    assert _land(feed, tmp_path) == []
    first, api.asked = len(api.asked), []
    assert first == 30
    assert _land(feed, tmp_path) == []
    assert len(api.asked) == 1
    assert [batch.rows for batch in Landing(tmp_path, "meter", "meter").landed()] == [0]


@pytest.mark.parametrize("boundary", range(4))
def test_a_fetch_that_was_killed_goes_on_with_nothing_lost_or_doubled(
    api: Api, clock: list[dt.datetime], tmp_path: Path, boundary: int
) -> None:
    for number in range(36):
        api.add(2 * number, id=number)
    clock[0] = _hours(72)
    feed = _feed(api)
    before = _land(feed, tmp_path, batches=boundary)
    assert _ids(before + _land(feed, tmp_path)) == list(range(36))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_inserts_and_fetches_mix_every_row_lands_exactly_once(
    api: Api, clock: list[dt.datetime], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("landing")
    api.records.clear()
    record_time = data.draw(st.sampled_from([None, "at"]))
    window = {"start": START, "step_minutes": 300, "overlap_minutes": 120, "record_time": record_time}
    feed = _feed(api, data.draw(st.sampled_from(["/page", "/cursor", "/link"])), window=window)
    landed: list[dict[str, Any]] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 5))):
        now += data.draw(st.sampled_from([0.0, 0.5, 1.0, 7.0]))
        for _ in range(data.draw(st.integers(0, 5))):
            # A row comes at most as late as the overlap.
            api.add(max(0.0, now - data.draw(st.sampled_from([0.25, 0.5, 1.0, 2.0]))), id=len(api.records))
        clock[0] = _hours(now)
        landed += _land(feed, root, data.draw(st.sampled_from([None, 0, 1])))
    clock[0] = _hours(now + 0.5)
    landed += _land(feed, root)
    assert _ids(landed) == list(range(len(api.records)))
    assert _land(feed, root) == []


def test_only_the_overlap_is_remembered_where_records_say_their_time(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    for number in range(200):
        api.add(number / 5, id=number)
    clock[0] = _hours(40)
    window = {"start": START, "step_minutes": 3000, "overlap_minutes": 60, "record_time": "at", "remember_at_most": 10}
    _land(_feed(api, window=window), tmp_path)
    last = Landing(tmp_path, "meter", "meter").last()
    assert last is not None
    assert len(last.checkpoint["seen"]) == 5 * 16
    with pytest.raises(FeedError, match=r"200 rows of one window would have to be remembered.*give `record_time`"):
        _land(_feed(api, into="other", window=window | {"record_time": None}), tmp_path)


# --- what a record becomes -------------------------------------------------------------------------------------------


def test_records_become_dotted_columns_of_text_with_every_digit(api: Api, tmp_path: Path) -> None:
    digits = '[{"id": 1, "v": {"p": 1.10, "q": 0.30000000000000001}, "n": 123456789012345678901, "ok": true, "none": null,'
    api.faults = [lambda request: _send(request, digits + ' "list": [1.0, "a", {"b": null}], "t": "ü"}, {"id": 2}]') or True]
    assert _land(_feed(api, "/all", window=None), tmp_path) == [
        {"id": "1", "v.p": "1.10", "v.q": "0.30000000000000001", "n": "123456789012345678901", "ok": "true",
         "list": '[1.0,"a",{"b":null}]', "t": "ü"},
        {"id": "2", "v.p": None, "v.q": None, "n": None, "ok": None, "list": None, "t": None},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param('{"data": {"rows": []}}', "no 'items' of records 'data.items' in the answer, which has rows", id="path"),
        pytest.param('{"data": [1]}', "no 'items' of records 'data.items' in the answer, which is a list", id="list"),
        pytest.param('{"data": {"items": 7.5}}', "at records 'data.items' is a number, not a list of objects", id="number"),
        pytest.param('{"data": {"items": [1]}}', "at records 'data.items' is a list, not a list of objects", id="scalars"),
        pytest.param("<html>down for tea</html>", r"the answer is not JSON \(application/json\); tried 3 times", id="html"),
    ],
)
def test_an_answer_that_is_not_what_the_card_says_is_told_in_one_line(api: Api, tmp_path: Path, body: str, message: str) -> None:
    api.faults = [lambda request: _send(request, body) or True] * 3
    with pytest.raises(FeedError, match=f"^feed 'meter': GET {api.url}/next: {message}") as error:
        _land(_feed(api, attempts=3), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", ["null", '{"data": {"items": null}}', '{"data": {"items": []}}', '{"data": {"items": [{}]}}'])
def test_an_answer_without_records_lands_nothing(api: Api, tmp_path: Path, body: str) -> None:
    api.faults = [lambda request: _send(request, body) or True]
    assert _land(_feed(api, window=None), tmp_path) == []


def test_times_go_out_in_the_format_of_the_card(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    sent = {"epoch_seconds": "1704067200", "epoch_milliseconds": "1704067200000", "%Y-%m-%d": "2024-01-01"}
    clock[0] = _hours(24)
    for pattern, text in sent.items():
        api.faults = [lambda request: _send(request, []) or True]
        window = {"start": START, "time_format": pattern, "since_parameter": "from"}
        _land(_feed(api, "/all", window=window), tmp_path)
        assert parse_qs(urlsplit(api.asked[-1]).query)["from"] == [text]
    finer = _feed(api, window={"start": START, "time_format": "%Y-%m-%d", "step_minutes": 60}, into="finer")
    with pytest.raises(FeedError, match="step_minutes is finer than the resolution of '%Y-%m-%d'"):
        _land(finer, tmp_path)


# --- who may read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "credentials", "right"),
    [
        pytest.param({"kind": "bearer"}, {"token": SECRET + "\n"}, lambda r: r.headers["Authorization"] == f"Bearer {SECRET}",
                     id="bearer"),
        pytest.param({"kind": "api_key", "header": "X-Key"}, {"key": SECRET}, lambda r: r.headers["X-Key"] == SECRET,
                     id="header"),
        pytest.param({"kind": "api_key", "parameter": "key"}, {"key": SECRET},
                     lambda r: parse_qs(urlsplit(r.path).query).get("key") == [SECRET], id="parameter"),
        pytest.param({"kind": "basic"}, {"username": "me", "password": SECRET},
                     lambda r: r.headers["Authorization"] == "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode(),
                     id="basic"),
    ],
)  # fmt: skip
def test_credentials_open_the_door_and_are_never_said(
    api: Api,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    auth: Any,
    credentials: Any,
    right: Callable[[Any], bool],
) -> None:
    caplog.set_level(logging.DEBUG)
    for number in range(5):
        api.add(number, id=number)
    api.refuse = lambda request: not right(request)
    feed = _feed(api, window=None, auth=auth, credentials=credentials)
    assert _ids(_land(feed, tmp_path)) == list(range(5))
    api.refuse = lambda request: True
    with pytest.raises(FeedError, match=r"answered 401 Unauthorized; correct its credentials") as error:
        _land(feed, tmp_path)
    said = caplog.text + str(error.value) + repr(feed) + json.dumps(feed.model_dump(mode="json"), default=str)
    assert SECRET not in said
    assert "%2B%2F%3D" not in said
    without = feed.model_copy(update={"credentials": {}})
    with pytest.raises(FeedError, match="its credentials have no"):
        _land(without, tmp_path)


def test_a_token_is_fetched_once_and_renewed_when_it_is_refused(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    for number in range(9):
        api.add(number, id=number)
    seen: list[str] = []

    def refuse(request: BaseHTTPRequestHandler) -> bool:
        seen.append(request.headers["Authorization"])
        return request.headers["Authorization"] == "Bearer token0" and len(seen) > 2

    api.refuse = refuse
    credentials = {"client_id": "me", "client_secret": SECRET}
    auth = {"kind": "oauth2", "token_url": f"{api.url}/token", "scope": "read"}
    clock[0] = _hours(24)
    assert _ids(_land(_feed(api, auth=auth, credentials=credentials), tmp_path)) == list(range(9))
    assert seen == ["Bearer token0", "Bearer token0", "Bearer token0", "Bearer token1"]
    with pytest.raises(FeedError, match=r"POST .*/token answered 401: no token; correct client_id and client_secret"):
        _land(_feed(api, auth=auth, credentials=credentials | {"client_secret": "wrong"}), tmp_path)


@pytest.mark.parametrize("path", ["/link", "/next"])
def test_credentials_do_not_follow_a_page_to_another_host(api: Api, tmp_path: Path, path: str) -> None:
    api.add(1, id=1)
    link = {"Link": '<http://evil.example/steal>; rel="next"'}
    body = {"data": {"items": []}, "next": "http://evil.example/steal"} if path == "/next" else []
    api.faults = [lambda request: _send(request, body, headers=link) or True]
    with pytest.raises(FeedError, match=r"the next page is on another host \(evil\.example\)"):
        _land(_feed(api, path, window=None, auth={"kind": "bearer"}, credentials={"token": SECRET}), tmp_path)


@pytest.mark.parametrize("path", ["/page", "/cursor", "/next"])
def test_pages_that_go_in_circles_are_told(api: Api, tmp_path: Path, path: str) -> None:
    body = {"data": {"items": [{"id": 1}]}, "next": "5" if path == "/cursor" else "/next?again=1"}
    api.faults = [lambda request: _send(request, body) or True] * 3
    with pytest.raises(FeedError, match=r"two pages are the same|as the next; correct `paging`"):
        _land(_feed(api, path, window=None), tmp_path)


def test_a_wrong_card_is_refused_without_quoting_its_secret() -> None:
    card = {"id": "meter", "into": "meter"}
    for url in (f"https://me:{SECRET}@host/x", f"https://host/x?key={SECRET}", "ftp://host/x"):
        with pytest.raises(ValidationError) as error:
            HttpApi.model_validate(card | {"url": url})
        assert SECRET not in "".join(fault["msg"] for fault in error.value.errors())
    with pytest.raises(ValidationError, match="give `header`"):
        HttpApi.model_validate(card | {"url": "https://host/x", "auth": {"kind": "api_key"}})


# --- what goes wrong -------------------------------------------------------------------------------------------------


def _status(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda request: _send(request, {}, status, {name.replace("_", "-"): text for name, text in headers.items()}) or True


def _truncated(request: BaseHTTPRequestHandler) -> bool:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'[{"id": 1}')
    request.close_connection = True
    return True


def _cut_json(request: BaseHTTPRequestHandler) -> bool:
    _send(request, '{"data": {"items": [{"id": 1')
    return True


def _hung_up(request: BaseHTTPRequestHandler) -> bool:
    request.close_connection = True
    return True


def _slow(request: BaseHTTPRequestHandler) -> bool:
    time.sleep(0.4)
    return False


@pytest.mark.parametrize(
    "fault",
    [_status(500), _status(503), _status(408), _status(429), _status(429, Retry_After="0"), _truncated, _cut_json, _hung_up,
     _slow],
    ids=["500", "503", "408", "429", "429 at once", "truncated", "cut JSON", "hung up", "slow"],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_told_when_it_does_not(
    api: Api, clock: list[dt.datetime], tmp_path: Path, fault: Callable[[BaseHTTPRequestHandler], bool]
) -> None:
    for number in range(7):
        api.add(number * 6, id=number)
    feed = _feed(api, attempts=3, timeout_seconds=0.2)
    api.faults = [fault, fault]
    assert _ids(_land(feed, tmp_path)) == list(range(7))
    api.faults = [fault] * 3
    with pytest.raises(FeedError, match=rf"^feed 'meter': GET {api.url}/next.*tried 3 times") as error:
        _land(feed, tmp_path)
    assert "\n" not in str(error.value)
    api.add(47, id=7)
    assert _ids(_land(feed, tmp_path)) == [7]


def test_a_fault_in_the_middle_keeps_what_had_landed(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    for number in range(8):
        api.add(number * 6, id=number)
    feed = _feed(api, "/page", attempts=2)
    pages_of_the_first_day = 3
    api.faults = [lambda request: False] * (pages_of_the_first_day + 1) + [_status(500)] * 2
    with pytest.raises(FeedError, match="answered 500"):
        _land(feed, tmp_path)
    assert _ids(_land(feed, tmp_path)) == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "correct its credentials"), (403, "correct its credentials"), (404, "correct `url`"), (400, "correct `params`"),
        (422, "correct `params`"), (301, "it moved to http://127.0.0.1:.*/there; correct `url`"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_told_at_once(api: Api, tmp_path: Path, status: int, message: str) -> None:
    api.faults = [_status(status, Location=f"/there?key={SECRET}")]
    with pytest.raises(FeedError, match=f"answered {status} .*{message}") as error:
        _land(_feed(api), tmp_path)
    assert len(api.asked) == 1
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_wait_a_server_asks_for_is_kept(
    api: Api, clock: list[dt.datetime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("wind_kedro.feeds.remote.time", SimpleNamespace(sleep=slept.append))
    api.add(1, id=1)
    date = email.utils.format_datetime(clock[0] + dt.timedelta(seconds=3), usegmt=True)
    api.faults = [_status(429, Retry_After="3" if form == "seconds" else date)]
    assert _ids(_land(_feed(api, window=None, longest_wait_seconds=5), tmp_path)) == [1]
    assert slept == [3]
    api.faults = [_status(429, Retry_After="3600")]
    with pytest.raises(FeedError, match="it asks to wait 3600 s, `longest_wait_seconds` is 5"):
        _land(_feed(api, window=None, longest_wait_seconds=5), tmp_path)


def test_requests_keep_the_pace_of_the_card(
    api: Api, clock: list[dt.datetime], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("wind_kedro.feeds.http_api.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    for number in range(9):
        api.add(number, id=number)
    clock[0] = _hours(24)
    _land(_feed(api, requests_per_minute=600), tmp_path)
    assert len(api.asked) == 3
    assert slept == pytest.approx([0.1, 0.1])


def test_a_server_that_is_not_there_is_told_in_one_line(api: Api, tmp_path: Path) -> None:
    feed = _feed(api).model_copy(update={"url": "http://127.0.0.1:9/x", "attempts": 2})
    with pytest.raises(FeedError, match=r"^feed 'meter': GET http://127\.0\.0\.1:9/x: .*refused; tried 2 times"):
        _land(feed, tmp_path)


# --- bounds ----------------------------------------------------------------------------------------------------------


def _raw(content: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], bool]:
    def answer(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(200)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
        return True

    return answer


def test_a_small_answer_that_unpacks_to_gigabytes_is_refused(api: Api, tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b"[")
    for _ in range(300):
        bomb += packer.compress(bytes(1 << 20))
    bomb += packer.flush()
    api.faults = [_raw(bomb, Content_Encoding="gzip")] * 3
    tracemalloc.start()
    with pytest.raises(FeedError, match=r"unpack to more than 200 times as many"):
        _land(_feed(api), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20
    assert len(api.asked) == 1
    twice = gzip.compress(gzip.compress(b"[]"))
    api.faults = [_raw(twice, Content_Encoding="gzip, gzip")] * 3
    with pytest.raises(FeedError, match="in the coding 'gzip, gzip', which was not asked for"):
        _land(_feed(api, attempts=1), tmp_path)


def test_a_packed_answer_lands(api: Api, tmp_path: Path) -> None:
    body = json.dumps({"data": {"items": [{"id": "1", "at": "2024-01-01T00:00:00Z"}]}}).encode()
    api.faults = [_raw(gzip.compress(body), Content_Encoding="gzip")]
    assert _ids(_land(_feed(api, window=None), tmp_path)) == [1]


def test_bounds_of_the_card(api: Api, tmp_path: Path) -> None:
    for number in range(9):
        api.add(number, id=number)
    for fields, message in (
        ({"max_bytes": 100}, "holds more than 100 bytes"),
        ({"max_records": 4}, "more than 4 records in one window"),
        ({"max_pages": 2}, "more than 2 pages in one window"),
    ):
        with pytest.raises(FeedError, match=message):
            _land(_feed(api, window=None, **fields), tmp_path)
    assert len(_land(_feed(api, window=None, max_records=9, max_pages=3), tmp_path)) == 9


def test_paging_with_ever_new_cursors_ends(api: Api, tmp_path: Path) -> None:
    count = itertools.count()

    def endless(request: BaseHTTPRequestHandler) -> bool:
        _send(request, {"data": {"items": [{"id": "1"}]}, "next": f"c{next(count)}"})
        return True

    api.faults = [endless] * 1000
    with pytest.raises(FeedError, match="more than 20 pages in one window; correct `paging`"):
        _land(_feed(api, "/cursor", window=None, max_pages=20), tmp_path)
    api.faults = [lambda request: _send(request, {"data": {"items": [{"id": "1"}]}, "next": "same"}) or True] * 9
    with pytest.raises(FeedError, match="names itself or one before it"):
        _land(_feed(api, "/cursor", window=None), tmp_path)
    api.faults = [lambda request: _send(request, {"data": {"items": [{"id": "1"}]}, "next": "x" * 100_000}) or True]
    with pytest.raises(FeedError, match="does not make a URL"):
        _land(_feed(api, "/cursor", window=None), tmp_path)


def test_windows_end_with_the_time_of_the_fetch_and_the_next_goes_on(api: Api, clock: list[dt.datetime], tmp_path: Path) -> None:
    for number in range(0, 96, 6):
        api.add(number, id=number)
    clock[0] = _hours(96)

    def slow(request: BaseHTTPRequestHandler) -> bool:
        time.sleep(0.3)
        return False

    api.faults = [slow] * 6
    first = _land(_feed(api, fetch_seconds=0.5), tmp_path)
    assert 0 < len(first) < 16
    assert _ids(first + _land(_feed(api), tmp_path)) == list(range(0, 96, 6))


@pytest.mark.parametrize(
    "write", [str, lambda s: quote(s, safe=""), json.dumps, lambda s: base64.b64encode(f"me:{s}".encode()).decode()]
)
def test_what_a_server_quotes_back_is_redacted(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture, write: Callable[[str], str]
) -> None:
    api.refuse = lambda request: True
    secret = "a key with blanks & signs/="  # noqa: S105 - opens nothing
    feed = _feed(api, auth={"kind": "basic"}, credentials={"username": "me", "password": secret})
    api.faults = [lambda request: request.send_response(400, f"we got {write(secret)}") or request.end_headers() or True]
    with pytest.raises(FeedError, match=r"answered 400 we got") as error:
        _land(feed, tmp_path)
    assert write(secret).strip('"') not in str(error.value) + caplog.text


# --- records that cannot be stored -----------------------------------------------------------------------------------

POISON = {
    "half of a surrogate pair": r'{"id": "7", "x": "\ud800"}',
    "half a pair in a name": r'{"id": "7", "\udfff": 1}',
    "NUL": r'{"id": "7", "x": "\u0000"}',
    "600 levels": '{"id": "7", "x": ' + "[" * 600 + "1" + "]" * 600 + "}",
    "100,000 levels": '{"id": "7", "x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
    "a name twice": '{"id": "7", "power": 7, "power": 8}',
    "a name twice below": '{"id": "7", "a": {"b": 1, "b": 2}}',
    "nested and with a dot": '{"id": "7", "a.b": 1, "a": {"b": 2}}',
    "no name": '{"id": "7", "": 1}',
    "a long name": '{"id": "7", "' + "n" * 5_000 + '": 1}',
    "many columns": "{" + ",".join(f'"c{number}": "1"' for number in range(3_000)) + "}",
    "no object": "5",
    "null": "null",
    "not UTF-8": b'{"id": "7", "x": "\xff\xfe"}',
}


@pytest.mark.parametrize("name", POISON)
def test_a_record_that_cannot_be_stored_lands_with_its_bytes_and_blocks_nothing(
    api: Api, clock: list[dt.datetime], tmp_path: Path, name: str
) -> None:
    poison = POISON[name] if isinstance(POISON[name], bytes) else str(POISON[name]).encode()
    sound = [b'{"id": "1", "at": "2024-01-01T01:00:00Z"}', b'{"id": "2", "at": "2024-01-01T02:00:00Z"}']
    body = b'{"data": {"items": [' + b",".join([sound[0], bytes(poison), sound[1]]) + b"]}}"
    clock[0] = _hours(24)
    api.faults = [_raw(body)]
    rows = _land(_feed(api), tmp_path)
    assert [row["id"] for row in rows] == ["1", None, "2"]
    (fault,) = [row for row in rows if row["fault"] is not None]
    raw = base64.b64decode(fault["raw"]) if fault["fault"].endswith("; raw is base64") else fault["raw"].encode()
    assert re.sub(rb"\s", b"", raw) == re.sub(rb"\s", b"", poison)
    # The window is through: what comes after it lands, and it does not land again.
    api.faults = [_raw(body)]
    assert _land(_feed(api), tmp_path) == []
    clock[0] = _hours(48)
    api.add(30, id="3")
    assert [row["id"] for row in _land(_feed(api), tmp_path)] == ["3"]


def test_numbers_keep_their_digits_whatever_they_are(api: Api, tmp_path: Path) -> None:
    numbers = ["1e999", "-1E-999", "NaN", "Infinity", "1" * 5_000, "0.30000000000000001", "-0", "1.10"]
    api.faults = [_raw(('{"data": {"items": [{' + ",".join(f'"n{i}": {n}' for i, n in enumerate(numbers)) + "}]}}").encode())]
    (row,) = _land(_feed(api, window=None), tmp_path)
    assert list(row.values()) == numbers


def test_a_field_named_as_our_own_does_not_date_the_row(api: Api, tmp_path: Path) -> None:
    api.faults = [_raw(b'{"data": {"items": [{"id": "1", "landed_at": "2015-01-01T00:00:00Z"}]}}')]
    (row,) = _land(_feed(api, window=None), tmp_path)
    assert row == {"id": "1", "source_landed_at": "2015-01-01T00:00:00Z"}
