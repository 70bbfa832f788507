"""Class ``payloads``: what other machines send: HTTP answers, MQTT messages, trees of files, rows of databases, Delta tables.

Each case has two feeds, the hostile one and a sound drop folder, and two fetches. Before the second, both sources get something
sound and new: a feed that is stuck at a hostile record never lands it.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import socketserver
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .cases import Case, Step, generator
from .oracle import Verdict, error_lines, worst
from .project import Ended, Job, World, run, start, write_yaml

RAW = Path("data/test/01_raw")
#: A source is tried so often, and a request may be silent for so long: cases are short.
PATIENCE = {"attempts": 2, "longest_wait_seconds": 0.2}
SOUND = [{"id": f"sound{n}", "power": 100 + n} for n in range(5)]
LATER = {"id": "later", "power": 7}
SECRET = "s3cr3t of+the/farm="  # noqa: S105 - opens nothing


@dataclass
class Payload:
    """A hostile source, and what must become of it.

    Attributes:
        card: of its feed.
        serve: answers one HTTP request; None: no server.
        fill: puts the source into the project, before the first fetch.
        add: puts something sound into it, before the second.
        ids: records that must land, or be named as faults; empty: nothing need land.
        fails: whether the feed may fail, in a line that names it; else its sound records must land.
    """

    rng: np.random.Generator
    card: dict[str, Any] = field(default_factory=dict)
    serve: Callable[[BaseHTTPRequestHandler, bool], None] | None = None
    fill: Callable[[Path], None] = lambda project: None
    add: Callable[[Path], None] = lambda project: None
    ids: list[str] = field(default_factory=list)
    fails: bool = False
    broker: list[tuple[str, bytes]] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    never: list[bytes] = field(default_factory=list)


KINDS: dict[str, Callable[[Payload], None]] = {}


def kind(change: Callable[[Payload], None]) -> Callable[[Payload], None]:
    """Registers a source under its function's name."""
    KINDS[change.__name__] = change
    return change


# --- HTTP ------------------------------------------------------------------------------------------------------------


def _http(payload: Payload, *, fails: bool = False, ids: bool = True, **card: Any) -> None:
    payload.card = {
        "kind": "http_api",
        "records": "items",
        "timeout_seconds": 3,
        "answer_seconds": 10,
        "max_pages": 500,
        **PATIENCE,
        **card,
    }
    payload.fails = fails
    payload.ids = [row["id"] for row in [*SOUND, LATER]] if ids else []


def _answer(request: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def _body(later: bool, *more: str) -> str:
    return json.dumps({"items": [*SOUND, *([LATER] if later else [])]})[:-2] + "".join(f", {one}" for one in more) + "]}"


def _beside(name: str, *texts: str, fails: bool = False) -> None:
    """Registers an HTTP source that sends a hostile record beside sound ones."""

    def change(payload: Payload) -> None:
        _http(payload, fails=fails)
        text = str(payload.rng.choice(texts)) if len(texts) > 1 else texts[0]
        payload.serve = lambda request, later: _answer(request, _body(later, text).encode("utf-8", "surrogatepass"))

    KINDS[name] = change


_beside(
    "http_surrogates",
    '{"id": "\\ud800", "power": 1}',
    '{"id": "x", "\\udfff": 1}',
    '{"id": "a\\ud83d", "b": ["\\ude00"]}',
    '{"id": "\ud800"}',
)
_beside("http_nul", '{"id": "a\\u0000b", "power": 1}', '{"id": "x", "\\u0000": 1}')
_beside(
    "http_depth",
    '{"id": "x", "deep": ' + '{"k": ' * 600 + "1" + "}" * 600 + "}",
    '{"id": "x", "deep": ' + "[" * 600 + "]" * 600 + "}",
)
_beside("http_great_depth", '{"id": "x", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}", fails=True)
_beside(
    "http_numbers",
    '{"id": "x", "power": ' + "9" * 5_000 + "}",
    '{"id": "x", "power": 1e400}',
    '{"id": "x", "power": NaN}',
    '{"id": "x", "power": -Infinity}',
    '{"id": "x", "power": 1E+9999999999}',
)
_beside("http_keys_twice", '{"id": "x", "power": 1, "power": 2}', '{"id": "x", "a": {"b": 1}, "a.b": 2}')
_beside(
    "http_odd_keys",
    '{"id": "x", "": 1}',
    '{"id": "x", "' + "k" * 100_000 + '": 1}',
    '{"id": "x", "a\\"; DROP TABLE x; --": 1}',
    '{"id": "x", "__index_level_0__": 1, "landed_at": "2015-01-01"}',
)
_beside("http_many_keys", json.dumps({"id": "x"} | {f"k{n}": n for n in range(20_000)}))
_beside("http_a_long_value", json.dumps({"id": "x", "power": "9" * 20_000_000}))
_beside("http_no_objects", "7", "null", '"text"', "[1, 2]", "true", "{}", fails=True)


def _whole(name: str, *bodies: bytes, **headers: str) -> None:
    """Registers an HTTP source whose answer is no answer."""

    def change(payload: Payload) -> None:
        _http(payload, fails=True, ids=False)
        body = bodies[int(payload.rng.integers(len(bodies)))]
        payload.serve = lambda request, later: _answer(request, body, **headers)

    KINDS[name] = change


_whole(
    "http_no_json",
    b"<html>502</html>",
    b"",
    b"{",
    b'{"items": [',
    b"\xff\xfe\x00",
    '{"items": []}'.encode("utf-16"),
    b"items",
    b"[]",
    b'{"items": {"a": 1}}',
    b'{"items": null}',
    b'{"other": []}',
    b"null",
    b"\x00" * 1000,
)
_whole("http_not_utf_8", b'{"items": [{"id": "\xe9", "power": 1}]}', b'{"items": [{"id": "\xff\xff"}]}')
_whole("http_coded_as_it_is_not", b'{"items": []}', b"\x1f\x8b\x08", Content_Encoding="gzip")
_whole(
    "http_coded_in_layers",
    gzip.compress(gzip.compress(gzip.compress(b'{"items": []}'))),
    Content_Encoding="gzip, gzip, gzip",
)
_whole("http_gzip_cut_short", gzip.compress(b'{"items": [' + b'{"id": "x"},' * 1000)[:-20], Content_Encoding="gzip")
_whole("http_unknown_coding", b"abc", Content_Encoding="zstd, x-magic")
_whole("http_nothing_asked", b"", Content_Type="text/html")


@kind
def http_a_bomb(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    fill = [b'{"id": "x"},', b" ", b"[", b'"a":1,'][int(payload.rng.integers(4))]
    held = []
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = fill * ((1 << 20) // len(fill))
    held.append(packer.compress(b'{"items": ['))
    for _ in range(1_000):
        held.append(packer.compress(block))
    body = b"".join([*held, packer.flush()])
    payload.serve = lambda request, later: _answer(request, body, Content_Encoding="gzip")


@kind
def http_a_body_without_end(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(b'{"items": [')
        while True:
            request.wfile.write(b'{"id": "x", "power": 1},' * 5_000)

    payload.serve = serve


@kind
def http_a_slow_drip(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        while True:
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.5)

    payload.serve = serve


@kind
def http_slow_headers(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            request.wfile.write(b"X-A: " + b"b" * 100 + b"\r\n")
            request.wfile.flush()
            time.sleep(0.2)

    payload.serve = serve


@kind
def http_no_answer(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    payload.serve = lambda request, later: time.sleep(600)


@kind
def http_cut_off(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000000000")
        request.end_headers()
        request.wfile.write(b'{"items": []}')

    payload.serve = serve


@kind
def http_no_http(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    answers = [
        b"SSH-2.0-OpenSSH\r\n",
        b"\x00" * 500,
        b"HTTP/9.9 999 ?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n{}",
        b"",
        b"HTTP/1.1 200 OK\r\nLocation\x00: x\r\n\r\n",
    ]
    answer = answers[int(payload.rng.integers(len(answers)))]
    payload.serve = lambda request, later: request.wfile.write(answer) and None


@kind
def http_statuses(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    status = int(payload.rng.choice([100, 204, 304, 400, 403, 404, 418, 500, 503, 599]))
    payload.serve = lambda request, later: _answer(request, b"<h1>no</h1>" * 1000, status)


@kind
def http_come_again(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    after = str(
        payload.rng.choice(["1000000000", "-1", "never", "Fri, 31 Dec 9999 23:59:59 GMT", "", "1e9", "٣", "9" * 400, "nan"])
    )
    payload.serve = lambda request, later: _answer(request, b"{}", 429, Retry_After=after.encode().decode("latin-1"))


@kind
def http_onward(payload: Payload) -> None:
    _http(payload, fails=True, ids=False)
    places = [
        "/again",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "//",
        "http://[::1",
        "ftp://127.0.0.1/x",
        "http://user:pw@127.0.0.1/",
        "/" + "a" * 100_000,
    ]
    place = places[int(payload.rng.integers(len(places)))]
    payload.serve = lambda request, later: _answer(request, b"", 302, Location=place)
    payload.never = [b"root:x:0:0"]


@kind
def http_pages_without_end(payload: Payload) -> None:
    way = int(payload.rng.integers(4))
    paging: dict[str, Any] = [
        {"kind": "cursor", "next": "next"},
        {"kind": "page"},
        {"kind": "next_url", "next": "next"},
        {"kind": "link"},
    ][way]
    _http(payload, fails=True, ids=False, paging=paging)
    counter = [0]

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        counter[0] += 1
        onward = f"http://127.0.0.1:{request.server.server_port}/x?n={counter[0]}"  # type: ignore[attr-defined]
        following = str(counter[0]) if way == 0 else onward
        body = json.dumps({"items": [{"id": counter[0]}], "next": following}).encode()
        _answer(request, body, Link=f'<{onward}>; rel="next"')

    payload.serve = serve


@kind
def http_empty_pages_without_end(payload: Payload) -> None:
    _http(payload, fails=True, ids=False, paging={"kind": "cursor", "next": "next"})
    counter = [0]

    def serve(request: BaseHTTPRequestHandler, later: bool) -> None:
        counter[0] += 1
        _answer(request, json.dumps({"items": [], "next": str(counter[0])}).encode())

    payload.serve = serve


@kind
def http_pages_in_a_circle(payload: Payload) -> None:
    _http(payload, fails=True, ids=False, paging={"kind": "cursor", "next": "next"})
    payload.serve = lambda request, later: _answer(request, b'{"items": [{"id": 1}], "next": "same"}')


@kind
def http_strange_cursors(payload: Payload) -> None:
    _http(payload, fails=True, ids=False, paging={"kind": str(payload.rng.choice(["cursor", "next_url"])), "next": "next"})
    cursors: list[Any] = [
        {},
        [],
        True,
        1.5,
        "\ud800",
        "file:///etc/passwd",
        "http://[",
        "\x00",
        "a" * 200_000,
        -1,
        "http://169.254.169.254/",
    ]
    cursor = cursors[int(payload.rng.integers(len(cursors)))]
    payload.serve = lambda request, later: _answer(request, json.dumps({"items": [{"id": 1}], "next": cursor}).encode())
    payload.never = [b"root:x:0:0"]


@kind
def http_secrets_quoted_back(payload: Payload) -> None:
    import base64
    import urllib.parse

    _http(payload, fails=True, ids=False, auth={"kind": "basic"}, credentials="fuzz")
    payload.serve = lambda request, later: _answer(
        request,
        json.dumps(
            {
                "error": f"{request.headers.get('Authorization')} {urllib.parse.quote(SECRET)} {urllib.parse.quote_plus(SECRET)} {SECRET}"
            }
        ).encode(),
        int(payload.rng.choice([400, 401, 403, 500])),
    )
    both = base64.b64encode(f"me:{SECRET}".encode())
    payload.never = [
        SECRET.encode(),
        both,
        urllib.parse.quote(SECRET).encode(),
        urllib.parse.quote_plus(SECRET).encode(),
    ]


# --- MQTT ------------------------------------------------------------------------------------------------------------


def _mqtt(name: str, *payloads: bytes, topic: str = "T1/power", fails: bool = False, **card: Any) -> None:
    """Registers messages that a broker has between sound ones."""

    def change(payload: Payload) -> None:
        payload.card = {
            "kind": "mqtt",
            "client_id": "fuzz",
            "host": "127.0.0.1",
            "topics": ["{turbine}/{signal}"],
            "idle_seconds": 1,
            **PATIENCE,
            **card,
        }
        hostile = payloads[int(payload.rng.integers(len(payloads)))]
        payload.broker = [("T1/sound0", b"1"), (topic, hostile), ("T2/sound1", b'{"value": 8.5}')]
        payload.ids = ["sound0", "sound1"]

    KINDS[name] = change


_mqtt(
    "mqtt_surrogates",
    b'{"value": "\\ud800"}',
    b'{"value": 1, "\\udfff": 2}',
    b'"\\ud800"',
    b'{"value": 1, "x": ["\\ud83d"]}',
)
_mqtt(
    "mqtt_depth",
    b'{"value": ' + b"[" * 600 + b"]" * 600 + b"}",
    b'{"value": 1, "x": ' + b'{"k":' * 600 + b"1" + b"}" * 600 + b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
)
_mqtt(
    "mqtt_numbers",
    b"9" * 5_000,
    b"1e400",
    b"NaN",
    b"-Infinity",
    b'{"value": ' + b"9" * 10_000 + b"}",
    b'{"value": 1, "timestamp": ' + b"9" * 400 + b"}",
    b'{"value": 1, "timestamp": 1e300}',
)
_mqtt(
    "mqtt_stamps",
    b'{"value": 1, "timestamp": -99999999999999}',
    b'{"value": 1, "timestamp": 1e18}',
    b'{"value": 1, "timestamp": true}',
    b'{"value": 1, "timestamp": 253402300800000}',
    timestamp_unit="milliseconds",
)
_mqtt("mqtt_bytes", b"\xff\xfe\x00", b"\x00" * 100, b"", b"\xed\xa0\x80", b"\x1f\x8b\x08\x00", bytes(range(256)))
_mqtt("mqtt_large", b'{"value": "' + b"x" * 30_000_000 + b'"}', b"[" + b"1," * 3_000_000 + b"1]")
_mqtt("mqtt_topics", b"1", topic="T1\u200b/po\u0001wer".replace("\u0001", "\u00ad"))
_mqtt("mqtt_topics_that_are_paths", b"1", topic="../../etc")
_mqtt(
    "mqtt_keys",
    b'{"value": 1, "": 2}',
    json.dumps({f"k{n}": n for n in range(50_000)}).encode(),
    b'{"value": 1, "fault": "x", "raw": "y", "received_at": "2015-01-01"}',
)
_mqtt(
    "mqtt_sparkplug",
    b"\xff" * 100,
    b"\x08" + b"\xff" * 9 + b"\x01",
    b"\x12\xff\xff\xff\xff\x0f",
    b"",
    b"\x0a\x05abc",
    topic="spBv1.0/coast/DDATA/node/dev",
    payload="sparkplug_b",
    topics=["spBv1.0/coast/+/#", "+/+"],
    fails=True,
)


# --- drop folders ----------------------------------------------------------------------------------------------------


def _drop(payload: Payload, files: dict[str, bytes], fill: Callable[[Path], None] | None = None) -> None:
    payload.card = {"kind": "drop_folder", "url": "outside", "glob": "**/*", "settle_seconds": 0, **PATIENCE}
    payload.files = {"sound.csv": b"sound", **files}

    def put(project: Path) -> None:
        for name, content in payload.files.items():
            path = project / "outside" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if fill is not None:
            fill(project / "outside")

    def add(project: Path) -> None:
        (project / "outside" / "later.csv").write_bytes(b"later")
        payload.files["later.csv"] = b"later"

    payload.fill, payload.add = put, add


def _tree(name: str, fill: Callable[[Path], None] | None = None, **files: bytes) -> None:
    def change(payload: Payload) -> None:
        _drop(payload, {key.replace("__", "/"): content for key, content in files.items()}, fill)
        payload.never = [b"secret of another farm"]

    KINDS[name] = change


def _links(folder: Path) -> None:
    secret = folder.parent / "elsewhere"
    secret.mkdir()
    (secret / "passwd.csv").write_bytes(b"secret of another farm")
    (folder / "link.csv").symlink_to(secret / "passwd.csv")
    (folder / "linked").symlink_to(secret)
    (folder / "up").symlink_to("..")
    (folder / "self").symlink_to(folder)
    (folder / "nowhere.csv").symlink_to("/nowhere")
    os.link(folder / "sound.csv", folder / "hard.csv")


def _markers(folder: Path) -> None:
    for name in (
        "landed_at=2015-01-01T00-00-00Z",
        "landed_at=2030-01-01T00-00-00.000000Z",
        "a/landed_at=2015-01-01T00-00-00Z",
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "old.csv").write_bytes(f"backdated {name}".encode())


def _names(folder: Path) -> None:
    for number, name in enumerate(
        [
            b"\xff.csv",
            b"new\nline.csv",
            b"a" * 250 + b".csv",
            "ü.csv".encode(),
            "u\u0308.csv".encode(),
            b"it's;x.csv",
            b"-rf.csv",
            b"a b .csv",
            b"CON.csv",
            b"x\\y.csv",
            b"*.csv",
            b"[1].csv",
        ]
    ):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(b"named %d" % number)  # noqa: PTH118 - names are bytes


def _own_names(folder: Path) -> None:
    for name in ("_landing.json", "_batches.json", ".lock", "_SUCCESS", "x/_landing.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b'{"feed_id": "other", "landed_at": "2015-01-01T00:00:00+00:00", "checkpoint": {}}')
    (folder / "part.parquet").write_bytes(b"part")


def _deep(folder: Path) -> None:
    deep = folder
    with suppress(OSError):
        for number in range(300):
            deep = deep / f"d{number}"
            deep.mkdir()
        (deep / "deep.csv").write_bytes(b"deep")


def _no_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as one:
        before = Path.cwd()
        os.chdir(folder)
        try:
            one.bind("socket.csv")
        finally:
            os.chdir(before)
    (folder / "folder.csv").mkdir()
    (folder / "empty.csv").write_bytes(b"")


_tree("drop_links", _links)
_tree("drop_markers", _markers)
_tree("drop_names", _names)
_tree("drop_our_own_names", _own_names)
_tree("drop_depth", _deep)
_tree("drop_what_is_no_file", _no_files)
_tree("drop_many", lambda folder: [(folder / f"n{n}.csv").write_bytes(b"n") for n in range(3000)] and None)


# --- databases and lakes ---------------------------------------------------------------------------------------------


def _sql(name: str, *rows: tuple[Any, Any], fails: bool = False) -> None:
    """Registers a SQLite table with hostile rows between sound ones."""

    def change(payload: Payload) -> None:
        payload.card = {
            "kind": "sql_historian",
            "url": "sqlite:///outside.db",
            "table": "readings",
            "cursor": "id",
            "settle_ids": 10,
            **PATIENCE,
        }
        payload.ids, payload.fails = ["sound1", "sound2", "later"], fails

        def fill(project: Path) -> None:
            with sqlite3.connect(project / "outside.db") as base:
                base.execute("CREATE TABLE readings (id INTEGER, name TEXT, power)")
                base.execute("INSERT INTO readings VALUES (1, 'sound1', 1.5)")
                for number, (text, power) in enumerate(rows):
                    base.execute(f"INSERT INTO readings VALUES ({number + 2}, {text}, {power})")  # noqa: S608 - hostile on purpose
                base.execute("INSERT INTO readings VALUES (100, 'sound2', 2.5)")

        def add(project: Path) -> None:
            with sqlite3.connect(project / "outside.db") as base:
                base.execute("INSERT INTO readings VALUES (200, 'later', 3.5)")

        payload.fill, payload.add = fill, add

    KINDS[name] = change


_sql("sql_text_that_is_none", ("CAST(x'ff00fe' AS TEXT)", "1"), ("CAST(x'eda080' AS TEXT)", "2"))
_sql("sql_nul", ("'a' || char(0) || 'b'", "1"))
_sql("sql_blobs", ("x'00ff'", "x'00ff'"), ("NULL", "zeroblob(1000000)"))
_sql("sql_numbers", ("'x'", "9e999"), ("'y'", "-9e999"), ("'z'", "9223372036854775807"))
_sql("sql_mixed_types", ("7", "'text'"), ("'x'", "x'ff'"), ("NULL", "NULL"))


@kind
def sql_odd_names(payload: Payload) -> None:
    KINDS["sql_numbers"](payload)

    def fill(project: Path) -> None:
        with sqlite3.connect(project / "outside.db") as base:
            base.execute('CREATE TABLE readings (id INTEGER, name TEXT, "a""; --" TEXT, "" TEXT, "landed_at" TEXT, "ID2" TEXT)')
            base.execute("INSERT INTO readings VALUES (1, 'sound1', 'a', 'b', 'c', 'd'), (100, 'sound2', 'a', 'b', 'c', 'd')")

    def add(project: Path) -> None:
        with sqlite3.connect(project / "outside.db") as base:
            base.execute("INSERT INTO readings VALUES (200, 'later', 'a', 'b', 'c', 'd')")

    payload.fill, payload.add = fill, add


@kind
def sql_cursors(payload: Payload) -> None:
    KINDS["sql_numbers"](payload)
    payload.fails = True
    cursors = ["NULL", "'text'", "x'ff'", "-1", "9223372036854775807", "1.5"]
    cursor = str(payload.rng.choice(cursors))

    def fill(project: Path) -> None:
        with sqlite3.connect(project / "outside.db") as base:
            base.execute("CREATE TABLE readings (id, name TEXT, power)")
            base.execute(f"INSERT INTO readings VALUES (1, 'sound1', 1), ({cursor}, 'odd', 2), (100, 'sound2', 3)")  # noqa: S608 - hostile on purpose

    payload.fill = fill


@kind
def sql_no_database(payload: Payload) -> None:
    KINDS["sql_numbers"](payload)
    payload.fails, payload.ids = True, []
    payload.add = lambda project: None
    payload.fill = lambda project: (project / "outside.db").write_bytes(b"SQLite format 3\x00" + bytes(3000)) and None


@kind
def delta_damaged(payload: Payload) -> None:
    payload.card = {"kind": "delta_table", "table": "outside", **PATIENCE}
    payload.fails = True
    way = int(payload.rng.integers(6))
    payload.never = [b"secret of another farm"]

    def fill(project: Path) -> None:
        import pyarrow as pa
        from deltalake import write_deltalake

        table = project / "outside"
        write_deltalake(str(table), pa.table({"id": ["sound1", "sound2"], "power": [1.0, 2.0]}))
        log = next((table / "_delta_log").glob("*.json"))
        part = next(table.glob("*.parquet"))
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        if way == 0:
            part.unlink()
        elif way == 1:
            part.write_bytes(part.read_bytes()[:-20])
        elif way == 2:
            log.write_text("{broken")
        elif way == 3:
            log.write_bytes(b"")
        else:
            secret = project / "secret.parquet"
            pq.write_table(pa.table({"id": ["secret of another farm"], "power": [1.0]}), secret)
            for line in lines:
                if "add" in line:
                    line["add"]["path"] = "../secret.parquet" if way == 4 else str(secret)
            log.write_text("\n".join(map(json.dumps, lines)) + "\n")

    def make(project: Path) -> None:
        # Not in this process: the library has threads of its own.
        start(project, lambda: fill(project)).wait()

    payload.fill = make


# --- the case --------------------------------------------------------------------------------------------------------


@dataclass
class PayloadCase(Case):
    """Two feeds, one of them hostile."""

    payload: Payload = field(kw_only=True)
    server: Job | None = None
    broker: subprocess.Popen[bytes] | None = None
    port: int = 0

    limit_seconds = 90.0
    compared: ClassVar[tuple[str, ...]] = ()

    def prepare(self, project: Path) -> None:
        """Write the feeds, fill the sources, start the server."""
        payload = self.payload
        (project / "inbox").mkdir()
        for number in range(3):
            (project / "inbox" / f"{number}.csv").write_text(f"file {number}")
        card = {**payload.card, "into": "hostile"}
        if payload.serve is not None:
            self._serve(project, payload.serve)
            card["url"] = f"http://127.0.0.1:{self.port}/x"
        if payload.broker is not None:
            self._start_broker(project)
            card["port"] = self.port
        feeds = {
            "hostile": card,
            "inbox": {"kind": "drop_folder", "url": "inbox", "glob": "*", "into": "inbox", "settle_seconds": 0},
        }
        write_yaml(
            project / "conf/test/parameters_ingestion.yml",
            {"feeds": feeds},
        )
        write_yaml(project / "conf/local/credentials.yml", {"fuzz": {"username": "me", "password": SECRET}})
        payload.fill(project)

    def _serve(self, project: Path, serve: Callable[[BaseHTTPRequestHandler, bool], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    serve(self, (project / "later").exists())
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        socketserver.TCPServer.allow_reuse_address = True
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        home = project / "server"
        home.mkdir()
        self.server = start(home, lambda: server.serve_forever(0.1), limit=3600)
        server.socket.close()

    def _start_broker(self, project: Path) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            return
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        config = project / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n")
        self.broker = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def steps(self) -> list[Step]:
        """Two fetches."""
        return [run("ingestion"), run("ingestion")]

    def between(self, project: Path, step: int) -> None:
        """Before the second fetch, both sources have something new."""
        if step == 0:
            if self.broker is not None:
                _wait_for(self.port)
            return
        (project / "later").touch()
        (project / "inbox" / "later.csv").write_text("file later")
        self.payload.add(project)
        if self.broker is not None and self.payload.broker is not None:
            port, messages = self.port, self.payload.broker
            home = project / "publisher"
            home.mkdir()
            start(home, lambda: _publish(port, messages)).wait()

    def close(self) -> None:
        """End the server or the broker."""
        if self.server is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.server.pid, 9)
            self.server.wait()
        if self.broker is not None:
            self.broker.terminate()
            self.broker.wait(30)

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """Whether the sound feed landed all it had, and the hostile one all that can be."""
        del found, alone
        faults = []
        inbox = {path.read_bytes() for path in _landed(project, "inbox")}
        wanted = {f"file {number}".encode() for number in (0, 1, 2, "later")}
        if not wanted <= inbox:
            faults.append(Verdict("stops_others", f"of the sound feed {len(wanted - inbox)} files did not land"))
        lines = [line for line in error_lines(ended[-1]) if "'hostile'" in line]
        hostile = _landed(project, "hostile")
        everything = b"".join(end.stdout.encode() + end.stderr.encode() for end in ended)
        for secret in self.payload.never:
            if secret in everything:
                faults.append(Verdict("wrong", f"the output quotes {secret!r}"))
            if any(
                secret in path.read_bytes()
                for path in hostile
                if not self.payload.card["kind"].startswith("http") or b"root" in secret
            ):
                faults.append(Verdict("wrong", f"{secret!r} landed"))
        if ended[-1].code and not lines:
            faults.append(Verdict("traceback", f"no line names the feed: {error_lines(ended[-1])[:2]} {ended[-1].stderr[-200:]}"))
        failed = bool(lines)
        if not failed or not self.payload.fails:
            faults += self._missing(project, hostile, failed, lines)
        return worst(faults or [Verdict("clear_error" if failed else "right", lines[0][:300] if lines else "")])

    def _missing(self, project: Path, hostile: list[Path], failed: bool, lines: list[str]) -> list[Verdict]:
        text = b"".join(_content(path) for path in hostile)
        gone = [one for one in self.payload.ids if one.encode() not in text]
        faults = []
        if gone and failed:
            faults.append(Verdict("stops_others", f"the feed is stuck: {', '.join(gone)} did not land ({lines[0][:250]})"))
        elif gone:
            faults.append(Verdict("lost", f"{', '.join(gone)} landed nowhere, and no line names them"))
        contents = {path.read_bytes() for path in hostile}
        if self.payload.files:
            lacking = [name for name, content in self.payload.files.items() if content not in contents]
            if lacking:
                faults.append(Verdict("stops_others" if failed else "lost", f"{', '.join(lacking)} did not land: {lines[:1]}"))
            for path in hostile:
                inside = path.relative_to(project / RAW / "hostile").parts[1:]
                if any(part.startswith("landed_at=") for part in inside):
                    faults.append(Verdict("wrong", f"a name from outside is one of our markers: {'/'.join(inside)}"))
        return faults


def _content(path: Path) -> bytes:
    if path.suffix != ".parquet":
        return path.read_bytes()
    try:
        return repr(pq.read_table(path, use_threads=False).to_pylist()).encode("utf-8", "backslashreplace")
    except (OSError, pa.ArrowInvalid):  # a file of that name from outside
        return path.read_bytes()


def _landed(project: Path, into: str) -> list[Path]:
    folder = project / RAW / into
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] == "." or part == "_landing.json" for part in path.relative_to(folder).parts)
    )


def _wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)


def _publish(port: int, messages: list[tuple[str, bytes]]) -> None:
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher", protocol=paho.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, content in messages:
        client.publish(topic, content, qos=1).wait_for_publish(30)
    client.disconnect()


def make(world: World, seed: int, number: int) -> PayloadCase:
    """A case of this class: each source in turn."""
    names = list(KINDS)
    name = names[number % len(names)]
    payload = Payload(generator("payloads", number, seed))
    KINDS[name](payload)
    return PayloadCase("payloads", number, seed, [name], payload=payload)


#: How many cases a full run has.
COUNT = len(KINDS)
