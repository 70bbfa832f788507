"""Feed of an SQL historian (PostgreSQL or SQLite): streams rows by a cursor column, with a look-back for late commits."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import re
import ssl
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.feeds.remote import PassingError
from wind_kedro.storage.bounds import escape, is_text

from .compaction import PART
from .protocol import Batch, Checkpoint, Feed, pack, row_hash, unpack

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa
    from sqlalchemy.exc import DBAPIError

_DIALECTS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
#: Prefixes of SQLSTATE of permanent errors: 28 authorisation, 3D no such database, 42 a wrong query.
_LASTING = ("28", "3D", "42")
#: Messages of refused connections, which have no SQLSTATE. A retry might lock the account.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|database .* does not exist|role .* does not exist"
)
#: Rows fetched at a time.
_ROWS_AT_ONCE = 1000
#: Maximum lead of a cursor of times over this machine's clock; clocks without a zone differ by up to 14 hours.
_FUTURE = dt.timedelta(days=2)
_SHOWN = 100
#: Certificate bundles of Debian, Red Hat and Alpine.
_SYSTEM_CA = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_SQLITE_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_PROTOCOL")
_TEXT_TIME = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d(?::\d\d)?)")


def _url_without_secrets(value: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        # The value is not quoted: an invalid URL may hold a password too.
        raise ValueError("not a URL; for example postgresql://historian.example:5432/scada or sqlite:///scada.db") from None
    if url.get_backend_name() not in _DIALECTS:
        raise ValueError(f"'{url.drivername}' is not supported; supported are {', '.join(_DIALECTS)}")
    if url.password is not None or url.username is not None or "password" in url.query:
        raise ValueError("holds a user or a password; give `username` and `password` in conf/local/credentials.yml")
    if url.get_backend_name() == "sqlite" and not url.database:
        raise ValueError("names no file; for example sqlite:///scada.db")
    return value


class SqlHistorian(Feed):
    """Rows of a table or a query whose cursor is at or after the end of the last fetch. One batch per chunk.

    The cursor is a column that only increases: time of writing or number of a row. Rows are committed later than they are
    stamped, so a look-back period is read again each time, and landed rows are recognised by their hash. Changes that do not
    move the cursor are only detected within the look-back. Rows that are equal in every column are one.

    Columns keep their types: times with a zone are converted to UTC, decimals to text with all digits; columns of mixed types
    within a chunk are text.
    """

    in_parts = True

    kind: Literal["sql_historian"] = "sql_historian"
    url: Annotated[str, AfterValidator(_url_without_secrets)] = Field(description="without user and password")
    table: str | None = None
    table_schema: str | None = Field(None, description="where the table is, if not on the search path")
    columns: list[str] = Field(default_factory=list, description="columns of the table; empty: all")
    query: str | None = Field(None, description="one SELECT instead of a table; `:name` is a value of `params`")
    params: dict[str, str | bool | int | float] = Field(default_factory=dict)
    cursor: str = Field(description="the column that increases")
    settle_seconds: float = Field(300, ge=0, description="cursor of times: maximum delay of the commit (the longest transaction)")
    settle_ids: int = Field(
        1000, ge=0, description="cursor of numbers: maximum distance below the highest number of rows committed late"
    )
    rows_per_batch: int = Field(100_000, gt=0)
    max_batch_bytes: int = Field(256 << 20, gt=0, description="maximum size of the text and binary values of a batch")
    remember_at_most: int = Field(200_000, gt=0, description="most rows of the look-back; 16 bytes each in every checkpoint")
    timeout_seconds: int = Field(30, gt=0, description="timeout of a connection; a query may take longer")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from sqlalchemy.engine import make_url

        url = make_url(self.url)
        if url.get_backend_name() == "sqlite" and not {"ca_file", "verify_server"}.isdisjoint(self.model_fields_set):
            raise ValueError("ca_file, verify_server: only for PostgreSQL")
        if "sslrootcert" in url.query:
            raise ValueError("url: sslrootcert has no effect here; give `ca_file`")
        if self.verify_server and url.query.get("sslmode", "verify-full") != "verify-full":
            raise ValueError("url: this sslmode does not check who the server is; leave it out, or set `verify_server: false`")
        if (self.table is None) == (self.query is None):
            raise ValueError("give `table` or `query`, one of them")
        if self.query is not None and (self.columns or self.table_schema):
            raise ValueError("columns and table_schema belong to `table`; a query has its own")
        if self.columns and self.cursor not in self.columns:
            raise ValueError(f"columns: the cursor '{self.cursor}' must be among them")
        return self

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """See `Feed`. The checkpoint holds the start of the next look-back and hashes of the rows landed since."""
        del scratch  # a chunk fits in memory
        with closing(_Reading(self, checkpoint)) as reading:
            while (chunk := self.retry(reading.next_chunk)) is not None:
                fresh, faults = reading.take(chunk)
                if fresh:
                    yield Batch({PART: _table(chunk.names, fresh)}, reading.checkpoint(), len(fresh), faults)


#: A value of the cursor: a time, a date, a number or text; none for rows without one, which are read every time.
Cursor = Any
#: How the text of a cursor in a checkpoint is read, by the name of its type.
_KINDS: Mapping[str | None, Callable[[str], Cursor]] = {
    "datetime": dt.datetime.fromisoformat, "date": dt.date.fromisoformat, "Decimal": decimal.Decimal, "int": int, "float": float,
    "str": str, None: str,
}  # fmt: skip


def _written(value: Cursor) -> str:
    return value.isoformat() if isinstance(value, dt.date) else str(value)  # a datetime is a date too


class _Chunk(NamedTuple):
    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    last: bool


class _Reading:
    """One pass over the rows at or after a cursor, in its order; continues after a lost connection."""

    def __init__(self, feed: SqlHistorian, checkpoint: Checkpoint | None) -> None:
        kept = checkpoint or {"type": None, "from": None, "seen": {}, "seen_without": ""}
        read = _KINDS[kept["type"]]
        self._feed = feed
        #: Cursor from which rows are read; none: from the first.
        self._start: Cursor = None if kept["from"] is None else read(kept["from"])
        #: Cursors of the rows landed since then, by hash.
        self._seen: dict[str, Cursor] = dict.fromkeys(unpack(kept["seen_without"]), None)
        for cursor, packed in kept["seen"].items():
            self._seen |= dict.fromkeys(unpack(packed), read(cursor))
        # Rows read in this pass from its start on, to remember at its end.
        self._returned: dict[str, Cursor] = {}
        self._kind: str | None = None
        self._engine = _engine(feed)
        self._connection: sa.Connection | None = None
        self._chunks: Generator[_Chunk] | None = None

    def checkpoint(self) -> Checkpoint:
        """The place reached; see `__init__`."""
        by_cursor: dict[str, list[str]] = {}
        for hashed, cursor in self._seen.items():
            if cursor is not None:
                by_cursor.setdefault(_written(cursor), []).append(hashed)
        return {
            "type": None if self._start is None else type(self._start).__name__,
            "from": None if self._start is None else _written(self._start),
            "seen": {cursor: pack(hashes) for cursor, hashes in by_cursor.items()},
            "seen_without": pack(hashed for hashed, cursor in self._seen.items() if cursor is None),
        }

    def close(self) -> None:
        """Close the connection and the engine."""
        self._disconnect()
        self._engine.dispose()

    def next_chunk(self) -> _Chunk | None:
        """The next rows; none when there are no more.

        Raises `PassingError` if the connection is lost (calling again continues from the place reached), `FeedError` for a
        permanent error.
        """
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            if self._chunks is None:
                self._returned = {}
                self._connection = self._engine.connect().execution_options(
                    stream_results=True, max_row_buffer=min(_ROWS_AT_ONCE, self._feed.rows_per_batch)
                )
                self._chunks = self._read(self._connection)
            return next(self._chunks, None)
        except DBAPIError as error:
            self._disconnect()
            problem = f"{self._feed.url}: {error.orig}"
            if (remedy := _remedy(error)) is None:
                raise PassingError(problem) from None
            raise self._feed.fault(f"{problem}; correct {remedy}") from None
        except SQLAlchemyError as error:
            self._disconnect()
            raise self._feed.fault(f"{self._feed.url}: {str(error).splitlines()[0]}; correct `query` and `params`") from None

    def take(self, chunk: _Chunk) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
        """The rows of a chunk that have not landed, and their faults: escaped values, unusable cursors. Move on after them."""
        feed, at = self._feed, chunk.names.index(self._feed.cursor)
        fresh, cursors, unusable, strange = list[tuple[Any, ...]](), list[Cursor](), list[Any](), list[Any]()
        escaped: Counter[str] = Counter()
        for row in chunk.rows:
            cursor = row[at]
            is_strange = cursor is not None and not self._is_usable(cursor)
            if is_strange:
                unusable.append(cursor)
                cursor = None
            elif cursor is not None:
                cursors.append(cursor)
            hashed = row_hash([_plain(value) for value in row])
            if hashed not in self._returned and hashed not in self._seen:
                fresh.append(row)
                strange += [row[at]] if is_strange else []
                escaped.update(name for name, value in zip(chunk.names, row, strict=True) if isinstance(value, _Escaped))
            self._returned[hashed] = cursor
        if unusable and not cursors and self._start is None:
            _before(feed, unusable[0])  # raises with the reason
            raise feed.fault(f"the cursor '{feed.cursor}' has no usable value; choose another `cursor`")
        self._move(cursors, chunk.last)
        faults = [f"{count:,} values of column {name!a} are no text: escaped" for name, count in escaped.items()]
        if strange:
            shown = ascii(str(strange[0])[:_SHOWN])
            faults.append(f"{len(strange):,} rows have a cursor in the future or of another kind, as {shown}: not gone on from")
        return fresh, tuple(faults)

    def _move(self, cursors: Sequence[Cursor], last: bool) -> None:
        """Move the start after a chunk, never back, and forget the rows before it."""
        # After the end of this chunk, rows of earlier passes are kept; before it, this pass has seen all.
        seen = {
            hashed: cursor
            for hashed, cursor in self._seen.items()
            if not last and (not cursors or cursor is None or cursor >= cursors[-1])
        } | self._returned
        if cursors:
            reached = _before(self._feed, cursors[-1])
            self._start = start = reached if self._start is None else max(self._start, reached)
            seen = {hashed: cursor for hashed, cursor in seen.items() if cursor is None or cursor >= start}
        self._seen = seen
        if len(seen) > self._feed.remember_at_most:
            raise self._feed.fault(
                f"{len(seen)} rows settle up to '{self._feed.cursor}' {cursors[-1] if cursors else 'null'}, "
                f"`remember_at_most` is {self._feed.remember_at_most}; shorten settle_seconds or settle_ids, or choose a cursor "
                "that distinguishes rows"
            )
        self._returned = {hashed: cursor for hashed, cursor in self._returned.items() if hashed in seen}

    def _is_usable(self, cursor: Any) -> bool:
        """Whether a reading can continue from a cursor: a past time or a number, of the kind of the column.

        Rows with other cursors land and are remembered, but do not move the start: one date of the year 9999 would hide
        every later row.
        """
        kind, known = _kind_of(cursor), self._kind if self._start is None else _kind_of(self._start)
        if kind == "other" or known not in {None, kind}:
            return False
        if kind == "number":
            return math.isfinite(cursor)
        try:
            if isinstance(cursor, str):
                written = _TEXT_TIME.match(cursor)
                cursor = dt.datetime.fromisoformat(f"{written[1]}T{written[3]}" if written else "")
            elif not isinstance(cursor, dt.datetime):
                cursor = dt.datetime.combine(cursor, dt.time())
            at = cursor if cursor.tzinfo is not None else cursor.replace(tzinfo=dt.UTC)
            return bool(at < dt.datetime.now(dt.UTC) + _FUTURE and at - dt.timedelta(seconds=self._feed.settle_seconds))
        except (ValueError, OverflowError):
            return False

    def _read(self, connection: sa.Connection) -> Generator[_Chunk]:
        import sqlalchemy as sa

        source, feed = _source(self._feed), self._feed
        cursor: sa.ColumnElement[Any] = source.c[feed.cursor]
        if self._start is None and connection.dialect.name == "sqlite":
            # The values of a column may have different types: those of the most frequent kind are gone on from.
            kind = sa.func.typeof(cursor)
            counted = sa.select(kind, sa.func.count()).select_from(source).group_by(kind)
            counts: Counter[str] = Counter()
            for name, count in connection.execute(counted, feed.params):
                if name in {"integer", "real", "text"}:
                    counts["text" if name == "text" else "number"] += count
            self._kind = counts.most_common(1)[0][0] if counts else None
        rows = sa.select(sa.text("*")).select_from(source)
        # Rows without a cursor have no order: they are queried separately, every time.
        following = rows.where(cursor.is_not(None) if self._start is None else cursor >= _bound(self._start))
        pending: _Chunk | None = None
        for statement in (rows.where(cursor.is_(None)), following.order_by(cursor)):
            with connection.execute(statement, feed.params) as result:
                names = tuple(result.keys())
                if feed.cursor not in names:
                    raise feed.fault(f"no column '{feed.cursor}'; found are {', '.join(names)}; correct `cursor`")
                for part in self._parts(result):
                    if pending is not None:
                        yield pending
                    pending = _Chunk(names, part, last=False)
        if pending is not None:
            yield pending._replace(last=True)

    def _parts(self, result: sa.CursorResult[Any]) -> Iterator[list[tuple[Any, ...]]]:
        """The rows in parts of at most `rows_per_batch`, and of about `max_batch_bytes`."""
        feed, part, size = self._feed, list[tuple[Any, ...]](), 0
        for some in result.partitions(min(_ROWS_AT_ONCE, feed.rows_per_batch)):
            for row in some:
                part.append(tuple(map(_landing_value, row)))
                size += sum(len(value) for value in part[-1] if isinstance(value, str | bytes))
                if len(part) >= feed.rows_per_batch or size >= feed.max_batch_bytes:
                    yield part
                    part, size = [], 0
        if part:
            yield part

    def _disconnect(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        # Close an unfinished stream before its connection; closing a lost connection fails.
        opened = (self._chunks, self._connection)
        self._chunks = self._connection = None
        for one in opened:
            with suppress(SQLAlchemyError):
                if one is not None:
                    one.close()


def _kind_of(cursor: Any) -> str:
    """Kind of a cursor: cursors of the same kind can be compared."""
    if isinstance(cursor, dt.datetime):
        return "time with a zone" if cursor.tzinfo is not None else "time"
    if isinstance(cursor, dt.date):
        return "date"
    if isinstance(cursor, int | float | decimal.Decimal) and not isinstance(cursor, bool):
        return "number"
    return "text" if isinstance(cursor, str) else "other"


def _before(feed: SqlHistorian, reached: Any) -> Any:
    """Start of the next look-back for the cursor reached."""
    if isinstance(reached, dt.datetime):
        return reached - dt.timedelta(seconds=feed.settle_seconds)
    if isinstance(reached, dt.date):
        return reached - dt.timedelta(days=-(-feed.settle_seconds // 86_400))
    if isinstance(reached, str):  # SQLite has no time type; ISO 8601 text sorts by time
        written = _TEXT_TIME.match(reached)
        try:
            if written is None:
                raise ValueError
            at = dt.datetime.fromisoformat(f"{written[1]}T{written[3]}") - dt.timedelta(seconds=feed.settle_seconds)
        except (ValueError, OverflowError):
            raise feed.fault(
                f"the cursor '{feed.cursor}' holds '{reached}', neither time nor number; name another `cursor`"
            ) from None
        # Truncated to a common prefix, which sorts before every longer text that begins with it.
        return at.isoformat(written[2], "seconds")[: len(written[0])]
    if _kind_of(reached) == "other":
        raise feed.fault(f"the cursor '{feed.cursor}' is of type {type(reached).__name__}, neither time nor number; name another")
    return reached - feed.settle_ids


def _remedy(error: DBAPIError) -> str | None:
    """What to correct; none if a retry may help: after a lost connection, of a starting server or a locked file."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    state, refused = str(getattr(error.orig, "sqlstate", None) or ""), _REFUSED.search(str(error.orig))
    if (name := getattr(error.orig, "sqlite_errorname", None)) is not None:
        may_pass = str(name).startswith(_SQLITE_PASSING)
    else:
        lasts = state.startswith(_LASTING) or refused
        may_pass = not lasts and isinstance(error, OperationalError | InterfaceError)
    if may_pass:
        return None
    if state.startswith("28") or refused:
        return "its credentials in conf/local/credentials.yml, or the database in `url`"
    return "`url`, `table`, `columns` or `query`"


def _source(feed: SqlHistorian) -> sa.FromClause:
    """Source of the SELECT. Values are bound; names are quoted, as SQLite takes unknown names for text otherwise."""
    import sqlalchemy as sa

    def quoted(name: str) -> sa.ColumnClause[Any]:
        return sa.column(sa.quoted_name(name, quote=True))

    if feed.query is not None:
        # Only the cursor is declared: the columns of a query are not known before it runs.
        return sa.text(feed.query.strip().rstrip(";")).columns(quoted(feed.cursor)).subquery("source")
    table = sa.table(
        sa.quoted_name(str(feed.table), quote=True),
        *map(quoted, feed.columns or [feed.cursor]),
        schema=None if feed.table_schema is None else sa.quoted_name(feed.table_schema, quote=True),
    )
    return sa.select(*table.c).subquery("source") if feed.columns else table


def _bound(start: Cursor) -> sa.BindParameter[Any]:
    """The start as a bound parameter of the cursor's type."""
    import sqlalchemy as sa

    zoned = isinstance(start, dt.datetime) and start.tzinfo is not None
    kinds: dict[str, sa.types.TypeEngine[Any]] = {
        "datetime": sa.DateTime(timezone=zoned), "date": sa.Date(), "int": sa.BigInteger(), "float": sa.Double(),
        "Decimal": sa.Numeric(), "str": sa.Text(),
    }  # fmt: skip
    return sa.bindparam(None, start, kinds[type(start).__name__], unique=True)


def _engine(feed: SqlHistorian) -> sa.Engine:
    """A read-only engine; each pass reads one snapshot."""
    import sqlalchemy as sa

    url = sa.make_url(feed.url)
    if url.get_backend_name() == "sqlite":
        import sqlite3

        path = Path(str(url.database)).absolute()

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=feed.timeout_seconds)
            # SQLite stores any bytes as text; invalid UTF-8 would fail the whole query.
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            return connection

        return sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    if feed.credentials:
        url = url.set(username=feed.secret("username"), password=feed.secret("password"))
    engine = sa.create_engine(
        url.set(drivername=_DIALECTS["postgresql"]),
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": feed.timeout_seconds, "options": "-c TimeZone=UTC", **_tls(feed)},
        execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _load_any_time)
    return engine


def _tls(feed: SqlHistorian) -> dict[str, str]:
    """Options of libpq to verify the server, which it does not do by default."""
    if not feed.verify_server:
        feed.warn_unverified()
        return {}
    # libpq ignores these for local sockets. The wheel's libpq does not find the system's certificates.
    system = ssl.get_default_verify_paths().cafile or next((one for one in _SYSTEM_CA if Path(one).is_file()), "system")
    return {"sslmode": "verify-full", "sslrootcert": feed.ca_file or system}


def _load_any_time(connection: Any, _: Any) -> None:
    """Load times that Python cannot represent (infinity, years beyond 9999) as text, which would fail the whole query."""
    import psycopg
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def tolerant(kind: type[Any]) -> type[Any]:
        class Tolerant(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._loader = kind(oid, context)

            def load(self, data: Any) -> Any:
                """The time, or its text."""
                try:
                    return self._loader.load(data)
                except psycopg.DataError:
                    return bytes(data).decode()

        return Tolerant

    for name in ("date", "timestamp", "timestamptz"):
        found = connection.adapters.get_loader(psycopg.adapters.types[name].oid, Format.TEXT)
        if found is not None:
            connection.adapters.register_loader(name, tolerant(found))


class _Escaped(str):
    """Text with escapes of invalid characters."""

    __slots__ = ()


def _landing_value(value: Any) -> Any:
    """Convert a value for landing: times with a zone to UTC, types that Parquet does not have to text."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC) if value.tzinfo is not None else value
    if isinstance(value, str):
        return value if is_text(value) else _Escaped(escape(value))
    if value is None or isinstance(value, bool | int | float | bytes | dt.date | decimal.Decimal):
        return value
    if isinstance(value, dict | list):
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text if is_text(text) else json.dumps(value, default=str)
    return bytes(value) if isinstance(value, memoryview) else str(value)


def _plain(value: Any) -> Any:
    """Convert a value for hashing, so that 1, 1.0, true and '1' are different."""
    if value is None or isinstance(value, bool | int | str):
        return value
    return [type(value).__name__, value.hex() if isinstance(value, bytes | float) else str(value)]


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.table([_column([row[index] for row in rows]) for index in range(len(names))], names=list(names))


def _column(values: list[Any]) -> pa.Array:
    """An array of values of one type; decimals and mixed types become text."""
    import pyarrow as pa

    kinds = {(type(value), isinstance(value, dt.datetime) and value.tzinfo is not None) for value in values if value is not None}
    if len(kinds) == 1:
        kind, zoned = next(iter(kinds))
        types = {
            bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary(), dt.date: pa.date32(),
            dt.datetime: pa.timestamp("us", "UTC" if zoned else None),
        }  # fmt: skip
        try:
            if kind in types:
                return pa.array(values, types[kind])
        except (OverflowError, pa.ArrowInvalid):
            pass  # a whole number beyond 64 bits keeps its digits as text
    return pa.array([None if value is None else str(value) for value in values], pa.string())
