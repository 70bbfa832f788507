"""SQL historians: SQLite, and a real PostgreSQL on loopback."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wind_kedro.feeds import FeedError, Landing
from wind_kedro.feeds.sql_historian import SqlHistorian

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
PASSWORD = "s3cr3t+/=&?@ x"  # noqa: S105 - opens nothing but the server below


# --- the servers -----------------------------------------------------------------------------------------------------


class Postgres:
    """A PostgreSQL of our own, which can be stopped and started; its certificate is its own authority."""

    ca_file: ClassVar[str]

    def __init__(self, folder: Path, programs: Path, certificate: Path) -> None:
        Postgres.ca_file = str(certificate)
        self._programs, self._data = programs, folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # PostgreSQL refuses to run as root.
        self._as = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, "nobody")
        password = folder / "password"
        password.write_text(PASSWORD)
        if self._as:
            shutil.chown(password, "nobody")
        self._run("initdb", "-U", "wind", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8")
        for name in ("server.crt", "server.key"):
            shutil.copy(certificate, self._data / name)
            (self._data / name).chmod(0o600)
            if self._as:
                shutil.chown(self._data / name, "nobody")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), "-D", str(self._data), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", timeout=60)

    def start(self) -> None:
        options = f"-F -p {self.port} -c ssl=on -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c timezone=Asia/Tokyo"
        self._run("pg_ctl", "-w", "-o", options, "-l", f"{self._data}/log", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://127.0.0.1:{self.port}/postgres"

    def engine(self) -> sa.Engine:
        url = sa.URL.create("postgresql+psycopg", "wind", PASSWORD, "127.0.0.1", self.port, "postgres")
        return sa.create_engine(url, poolclass=sa.NullPool)


@pytest.fixture(scope="session")
def postgres(certificate: Path) -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    programs = found[-1].parent if found else Path(shutil.which("postgres") or "/nowhere").parent
    if not (programs / "pg_ctl").exists():
        pytest.skip("no PostgreSQL here (Debian: postgresql)")
    # Not below pytest's folder, which only its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="wind-kedro-postgres-"))
    server = Postgres(folder, programs, certificate)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


class Historian:
    """A table of readings in one of the two, written as an operator's system does."""

    def __init__(self, engine: sa.Engine, url: str, credentials: dict[str, str]) -> None:
        self.engine, self.url, self.credentials = engine, url, credentials
        self.is_sqlite = engine.dialect.name == "sqlite"
        time = "text" if self.is_sqlite else "timestamptz"
        self.run('DROP TABLE IF EXISTS "Odd ""name"')
        self.run(f'CREATE TABLE "Odd ""name" (id bigint, "Changed at" {time}, power numeric)')

    def run(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def at(self, minutes: float) -> Any:
        at = START + dt.timedelta(minutes=minutes)
        return at.strftime("%Y-%m-%d %H:%M:%S") if self.is_sqlite else at

    def add(self, id: int, minutes: float | None, power: float = 1) -> None:
        at = None if minutes is None else self.at(minutes)
        self.run('INSERT INTO "Odd ""name" VALUES (:id, :at, :power)', id=id, at=at, power=power)

    def feed(self, **fields: Any) -> SqlHistorian:
        card = {
            "id": "scada", "into": "scada", "url": self.url, "table": 'Odd "name', "cursor": "Changed at", "rows_per_batch": 3,
            "settle_seconds": 600, "credentials": self.credentials, "longest_wait_seconds": 0.05,
        }  # fmt: skip
        merged = card | ({} if self.is_sqlite else {"ca_file": Postgres.ca_file}) | fields
        return SqlHistorian.model_validate({name: value for name, value in merged.items() if value is not None})


def _sqlite(path: Path) -> Historian:
    return Historian(sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool), f"sqlite:///{path}", {})


@pytest.fixture(params=["sqlite", "postgresql"])
def historian(request: pytest.FixtureRequest, tmp_path: Path) -> Historian:
    if request.param == "sqlite":
        return _sqlite(tmp_path / "scada.db")
    server: Postgres = request.getfixturevalue("postgres")
    return Historian(server.engine(), server.url, {"username": "wind", "password": PASSWORD})


def _land(feed: SqlHistorian, root: Path, batches: int | None = None) -> list[dict[str, Any]]:
    """Fetch and land, up to so many batches; the rows that landed."""
    rows: list[dict[str, Any]] = []
    for landed in itertools.islice(Landing(root, feed.into, feed.id).pull(feed.fetch), batches):
        for name in landed.files:
            rows += pq.read_table(landed.folder / name).to_pylist()
    return rows


def _ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["id"] for row in rows)


# --- everything once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["Changed at", "id"])
def test_everything_lands_once_then_nothing_then_what_is_new(historian: Historian, tmp_path: Path, cursor: str) -> None:
    for number in range(10):
        historian.add(number, number * 10)
    feed = historian.feed(cursor=cursor, settle_ids=5)
    assert _ids(_land(feed, tmp_path)) == list(range(10))
    assert _land(feed, tmp_path) == []
    historian.add(10, 90)  # the same time as the last
    historian.add(-1 if cursor != "id" else 11, 85)  # committed late
    assert len(_land(feed, tmp_path)) == 2
    assert _land(feed, tmp_path) == []


def test_a_query_binds_its_values_and_a_table_may_name_its_columns(historian: Historian, tmp_path: Path) -> None:
    for number in range(6):
        historian.add(number, number, power=number)
    query = 'SELECT id, "Changed at" AS seen FROM "Odd ""name" WHERE power >= :least;'
    feed = historian.feed(table=None, query=query, params={"least": 3}, cursor="seen", into="query")
    rows = _land(feed, tmp_path)
    assert _ids(rows) == [3, 4, 5]
    assert list(rows[0]) == ["id", "seen"]
    assert _land(feed, tmp_path) == []
    narrow = _land(historian.feed(columns=["Changed at", "power"], into="narrow"), tmp_path)
    assert {tuple(row) for row in narrow} == {("Changed at", "power")}
    wrong = historian.feed(table=None, query=query, cursor="seen", into="wrong")
    with pytest.raises(FeedError, match=r"^feed 'scada': .*'least'.*correct `query` and `params`"):
        _land(wrong, tmp_path)


def test_a_revised_row_lands_later(historian: Historian, tmp_path: Path) -> None:
    historian.add(1, 0, power=5)
    feed = historian.feed()
    assert len(_land(feed, tmp_path)) == 1
    for power in (6, 5):  # and again when it is put back
        historian.run('UPDATE "Odd ""name" SET power = :power', power=power)
        assert [float(row["power"]) for row in _land(feed, tmp_path)] == [power]
    assert _land(feed, tmp_path) == []
    landed = Landing(tmp_path, "scada", "scada").landed()
    assert [batch.landed_at for batch in landed] == sorted({batch.landed_at for batch in landed})


def test_rows_without_a_cursor_are_not_lost(historian: Historian, tmp_path: Path) -> None:
    for number in range(4):
        historian.add(number, None)
    historian.add(4, 0)
    feed = historian.feed()
    assert _ids(_land(feed, tmp_path)) == [0, 1, 2, 3, 4]
    assert _land(feed, tmp_path) == []
    historian.add(5, None)
    assert _ids(_land(feed, tmp_path)) == [5]
    assert _land(feed, tmp_path) == []


@pytest.mark.parametrize("boundary", range(5))
def test_a_fetch_that_was_killed_goes_on_with_nothing_lost_or_doubled(
    historian: Historian, tmp_path: Path, boundary: int
) -> None:
    for number in range(12):
        historian.add(number, number // 5)  # ties run over the edges of batches
    feed = historian.feed(settle_seconds=60)
    before = _land(feed, tmp_path, batches=boundary)
    historian.add(12, 1)
    historian.add(13, 3)
    assert _ids(before + _land(feed, tmp_path)) == list(range(14))
    assert _land(feed, tmp_path) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_inserts_and_fetches_mix_every_row_lands_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("landing")
    historian = _sqlite(root / "scada.db")
    feed = historian.feed(rows_per_batch=data.draw(st.sampled_from([1, 2, 3, 100])), settle_seconds=120)
    landed: list[dict[str, Any]] = []
    now, count = 0.0, 0
    for _ in range(data.draw(st.integers(1, 5))):
        for _ in range(data.draw(st.integers(0, 6))):
            now += data.draw(st.sampled_from([0, 0.5, 3]))
            # A row is committed at most as late as rows settle.
            minutes = data.draw(st.sampled_from([None, now, max(0.0, now - 1), max(0.0, now - 2)]))
            historian.add(count, minutes)
            count += 1
        landed += _land(feed, root, data.draw(st.sampled_from([None, 0, 1, 2])))
    landed += _land(feed, root)
    assert _ids(landed) == list(range(count))
    assert _land(feed, root) == []


def test_a_long_transaction_commits_behind_what_was_read(postgres: Postgres, tmp_path: Path) -> None:
    historian = Historian(postgres.engine(), postgres.url, {"username": "wind", "password": PASSWORD})
    feed = historian.feed()
    with historian.engine.connect() as slow:
        slow.execute(sa.text('INSERT INTO "Odd ""name" VALUES (1, :at, 1)'), {"at": historian.at(5)})
        historian.add(2, 10)
        assert _ids(_land(feed, tmp_path)) == [2]
        slow.commit()
    assert _ids(_land(feed, tmp_path)) == [1]


# --- types -----------------------------------------------------------------------------------------------------------


def test_postgres_types_are_kept_with_every_digit_and_times_in_utc(postgres: Postgres, tmp_path: Path) -> None:
    historian = Historian(postgres.engine(), postgres.url, {"username": "wind", "password": PASSWORD})
    historian.run("DROP TABLE IF EXISTS kinds")
    historian.run(
        "CREATE TABLE kinds AS SELECT 3000000000::bigint AS id, '2024-03-31 03:30:00+02'::timestamptz AS zoned, "
        "'2024-03-31 02:30:00'::timestamp AS naive, 0.1000000000000000000001::numeric AS exact, 0.1::float8 AS float, "
        "0.1::float4 AS single, true AS flag, '2024-01-01'::date AS day, '{\"a\": 1}'::jsonb AS json, 'ü'::text AS text, "
        "null::float8 AS nothing, '\\x00ff'::bytea AS raw, '1 day'::interval AS span"
    )
    feed = historian.feed(table="kinds", table_schema="public", cursor="id", into="kinds")
    _land(feed, tmp_path)
    last = Landing(tmp_path, "kinds", "scada").last()
    assert last is not None
    table = pq.read_table(last.folder / "part.parquet")
    assert table.schema.field("zoned").type == pa.timestamp("us", "UTC")
    assert table.to_pylist() == [
        {
            "id": 3_000_000_000, "zoned": dt.datetime(2024, 3, 31, 1, 30, tzinfo=dt.UTC),
            "naive": dt.datetime.fromisoformat("2024-03-31T02:30:00"), "exact": "0.1000000000000000000001",
            "float": 0.1, "single": 0.1, "flag": True, "day": dt.date(2024, 1, 1), "json": '{"a": 1}', "text": "ü",
            "nothing": None, "raw": b"\x00\xff", "span": "1 day, 0:00:00",
        }
    ]  # fmt: skip
    assert _land(feed, tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("timestamptz", [START, START + dt.timedelta(minutes=5)]),
        ("timestamp", [START.replace(tzinfo=None), START.replace(tzinfo=None) + dt.timedelta(minutes=5)]),
        ("date", [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
        ("bigint", [2**40, 2**40 + 1]),
        ("integer", [1, 2]),
        ("float8", [0.1, 0.30000000000000004]),
        ("numeric", [Decimal("0.10000000000000000000001"), Decimal("0.2")]),
        ("text", ["2024-01-01T00:00:00Z", "2024-01-01T00:05:00Z"]),
    ],
)
def test_any_type_that_grows_can_be_the_cursor(postgres: Postgres, tmp_path: Path, kind: str, values: list[Any]) -> None:
    historian = Historian(postgres.engine(), postgres.url, {"username": "wind", "password": PASSWORD})
    historian.run("DROP TABLE IF EXISTS cursors")
    historian.run(f"CREATE TABLE cursors (at {kind}, id integer)")
    feed = historian.feed(table="cursors", cursor="at")
    for number, value in enumerate([*values, values[-1]]):
        historian.run("INSERT INTO cursors VALUES (:at, :id)", at=value, id=number)
        assert _ids(_land(feed, tmp_path)) == [number]
        assert _land(feed, tmp_path) == []


def test_sqlite_values_of_many_kinds_in_one_column_are_text(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "scada.db") as connection:
        connection.execute("CREATE TABLE mixed (id INTEGER, value)")
        connection.executemany("INSERT INTO mixed VALUES (?, ?)", [(1, 5), (2, "five"), (3, 5.5), (4, None), (5, b"\x00")])
    connection.close()
    feed = SqlHistorian(id="scada", into="scada", url=f"sqlite:///{tmp_path}/scada.db", table="mixed", cursor="id")
    assert [row["value"] for row in _land(feed, tmp_path)] == ["5", "five", "5.5", None, "b'\\x00'"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a"], "holds 'a', neither time nor number"),
        (["2024-13-01 00:00:00"], "neither time nor number"),
        ([b"a"], "is of type bytes"),
    ],
    ids=["text", "no month", "bytes"],
)
def test_a_cursor_that_cannot_grow_is_told(tmp_path: Path, values: list[Any], message: str) -> None:
    with sqlite3.connect(tmp_path / "scada.db") as connection:
        connection.execute("CREATE TABLE odd (at)")
        connection.executemany("INSERT INTO odd VALUES (?)", [(value,) for value in values])
    connection.close()
    feed = SqlHistorian(
        id="scada", into="scada", url=f"sqlite:///{tmp_path}/scada.db", table="odd", cursor="at", rows_per_batch=1
    )
    with pytest.raises(FeedError, match=f"^feed 'scada': the cursor 'at' .*{message}"):
        _land(feed, tmp_path)


def test_a_row_that_cannot_be_stored_or_followed_blocks_nothing(tmp_path: Path) -> None:
    """Text that is not UTF-8, NUL, a time of the year 9999, a number among times: all land, and so does what comes later."""
    with sqlite3.connect(tmp_path / "scada.db") as connection:
        connection.execute("CREATE TABLE odd (at, value)")
        rows = [
            ("2024-01-01 00:00:00", "1"), ("2024-01-01 00:10:00", b"bad \xff\xfe"), ("2024-01-01 00:20:00", "nul \0"),
            ("9999-12-31 23:59:59", "never"), (7, "a number"), ("zzz", "text"), (b"blob", "blob"), (None, "none"),
            ("2024-01-01 00:30:00", "2"),
        ]  # fmt: skip
        for at, value in rows:
            text = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
            connection.execute(f"INSERT INTO odd VALUES (?, {text})", (at, value))  # noqa: S608 - of the two above
    feed = SqlHistorian(
        id="scada", into="scada", url=f"sqlite:///{tmp_path}/scada.db", table="odd", cursor="at", rows_per_batch=2
    )
    landed = [row["value"] for row in _land(feed, tmp_path)]
    assert sorted(landed) == sorted(["1", "bad \\xff\\xfe", "nul \\x00", "never", "a number", "text", "blob", "none", "2"])
    faults = [fault for batch in Landing(tmp_path, "scada", "scada").landed() for fault in batch.faults]
    assert sum(int(fault.split(" ")[0]) for fault in faults if "values of column 'value' are no text" in fault) == 2
    assert sum(int(fault.split(" ")[0]) for fault in faults if "have a cursor" in fault) == 4
    with connection:
        connection.execute("INSERT INTO odd VALUES ('2024-01-01 00:40:00', '3')")
    connection.close()
    assert [row["value"] for row in _land(feed, tmp_path)] == ["3"]
    assert _land(feed, tmp_path) == []


def test_times_that_python_has_not_are_text(postgres: Postgres, tmp_path: Path) -> None:
    historian = Historian(postgres.engine(), postgres.url, {"username": "wind", "password": PASSWORD})
    for number, at in enumerate(["2024-01-01 00:00Z", "infinity", "-infinity", "294000-01-01 00:00Z"]):
        historian.run('INSERT INTO "Odd ""name" VALUES (:id, CAST(:at AS timestamptz), 1)', id=number, at=at)
    feed = historian.feed()
    assert _ids(_land(feed, tmp_path)) == [0, 1, 2, 3]
    historian.add(4, 60)
    assert _ids(_land(feed, tmp_path)) == [4]
    assert _land(feed, tmp_path) == []


def test_a_batch_ends_at_its_bytes(tmp_path: Path) -> None:
    historian = _sqlite(tmp_path / "scada.db")
    historian.run("CREATE TABLE wide (id, text)")
    for number in range(50):
        historian.run("INSERT INTO wide VALUES (:id, :text)", id=number, text="x" * 1000)
    feed = historian.feed(table="wide", cursor="id", settle_ids=0, rows_per_batch=1000, max_batch_bytes=10_000)
    assert len(_land(feed, tmp_path)) == 50
    assert {batch.rows for batch in Landing(tmp_path, "scada", "scada").landed()} == {10}


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_more_than_can_be_remembered_is_told_before_it_lands(historian: Historian, tmp_path: Path) -> None:
    for number in range(9):
        historian.add(number, 0)
    with pytest.raises(FeedError, match=r"rows settle up to 'Changed at' .*`remember_at_most` is 5; shorten settle_seconds"):
        _land(historian.feed(remember_at_most=5), tmp_path)


def test_the_historian_is_only_read(historian: Historian, tmp_path: Path) -> None:
    historian.add(1, 0)
    if historian.is_sqlite:
        before = {path.name: path.read_bytes() for path in tmp_path.glob("scada.db*")}
        _land(historian.feed(), tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.glob("scada.db*")} == before
    else:
        query = "SELECT 1 AS id, now() AS seen FROM (SELECT setval('counter', 5)) AS x"
        historian.run("DROP SEQUENCE IF EXISTS counter")
        historian.run("CREATE SEQUENCE counter")
        with pytest.raises(FeedError, match="read-only transaction"):
            _land(historian.feed(table=None, query=query, cursor="seen", attempts=1), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"table": "nothere"}, "nothere.*correct `url`, `table`, `columns` or `query`"),
        ({"cursor": "nothere"}, "nothere"),
        ({"columns": ["nothere", "Changed at"]}, "nothere"),
        ({"table": None, "query": "SELEC 1"}, "syntax error"),
        ({"table": None, "query": "SELECT 1; DROP TABLE x"}, "syntax error|;"),
    ],
    ids=["table", "cursor", "column", "query", "two statements"],
)
def test_a_wrong_card_is_told_in_one_line(historian: Historian, tmp_path: Path, fields: Any, message: str) -> None:
    historian.add(1, 0)
    with pytest.raises(FeedError, match=f"(?s)^feed 'scada': .*{message}") as error:
        _land(historian.feed(**fields), tmp_path)
    assert "\n" not in str(error.value)
    assert "tried" not in str(error.value)


def test_a_missing_file_is_told_and_not_made(tmp_path: Path) -> None:
    feed = SqlHistorian(id="scada", into="scada", url=f"sqlite:///{tmp_path}/no.db", table="x", cursor="id")
    with pytest.raises(FeedError, match="unable to open database file; correct `url`"):
        _land(feed, tmp_path)
    assert not (tmp_path / "no.db").exists()


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    historian = _sqlite(tmp_path / "scada.db")
    historian.add(1, 0)
    holder = sqlite3.connect(tmp_path / "scada.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    feed = historian.feed(attempts=2, timeout_seconds=1)
    with pytest.raises(FeedError, match="database is locked; tried 2 times"):
        _land(feed, tmp_path)
    holder.execute("ROLLBACK")
    holder.close()
    assert _ids(_land(feed, tmp_path)) == [1]


@pytest.mark.parametrize(
    "credentials",
    [{"username": "wind", "password": PASSWORD + "wrong"}, {"username": "nobody", "password": PASSWORD}],
    ids=["password", "user"],
)
def test_refused_credentials_are_told_at_once_and_never_said(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture, credentials: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    feed = SqlHistorian.model_validate(
        {
            "id": "scada",
            "into": "scada",
            "url": postgres.url,
            "table": "x",
            "cursor": "id",
            "credentials": credentials,
            "ca_file": Postgres.ca_file,
        }
    )
    with pytest.raises(FeedError, match=r"authentication failed.*correct its credentials") as error:
        _land(feed, tmp_path)
    said = str(error.value) + repr(feed) + caplog.text + json.dumps(feed.model_dump(mode="json"))
    assert "\n" not in str(error.value)
    assert "tried" not in str(error.value)
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said


def test_a_server_that_goes_and_comes_back_costs_nothing(postgres: Postgres, tmp_path: Path) -> None:
    historian = Historian(postgres.engine(), postgres.url, {"username": "wind", "password": PASSWORD})
    historian.run(
        'INSERT INTO "Odd ""name" SELECT n, :at + n * interval \'1 minute\', 1 FROM generate_series(0, 2999) AS n',
        at=START,
    )
    feed = historian.feed(rows_per_batch=700, attempts=2)
    landed: list[dict[str, Any]] = []
    for number, batch in enumerate(Landing(tmp_path, feed.into, feed.id).pull(feed.fetch)):
        landed += pq.read_table(batch.folder / "part.parquet").to_pylist()
        if number == 1:
            # The connection dies in the middle of the stream; the server is back before the next attempt.
            postgres.stop()
            postgres.start()
    assert _ids(landed) == list(range(3000))
    postgres.stop()
    try:
        with pytest.raises(FeedError, match=r"^feed 'scada': postgresql://127\.0\.0\.1:\d+/postgres: .*tried 2 times") as error:
            _land(feed, tmp_path)
        assert "\n" not in str(error.value)
    finally:
        postgres.start()
    assert _land(feed, tmp_path) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": f"postgresql://me:{PASSWORD}@host/x"}, "holds a user or a password|not a URL"),
        ({"url": "postgresql://me:simple@host/x"}, "holds a user or a password"),
        ({"url": "oracle://host/x"}, "'oracle' is not supported; supported are postgresql, sqlite"),
        ({"url": "sqlite://"}, "names no file"),
        ({"query": "SELECT 1"}, "give `table` or `query`"),
        ({"columns": ["power"]}, "the cursor 'id' must be among them"),
    ],
    ids=["odd password", "password", "dialect", "no file", "both", "cursor"],
)
def test_a_card_that_cannot_work_is_refused(fields: Any, message: str) -> None:
    card = {"id": "scada", "into": "scada", "url": "postgresql://host/x", "table": "x", "cursor": "id"}
    with pytest.raises(ValidationError, match=message) as error:
        SqlHistorian.model_validate(card | fields)
    said = "".join(fault["msg"] for fault in error.value.errors())
    assert PASSWORD not in said
    assert "simple" not in said
