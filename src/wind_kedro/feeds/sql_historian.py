"""A SQL historian, PostgreSQL or SQLite: rows by a cursor column, streamed, with a look back for what was committed late."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.remote import PassingError

from .compaction import PART
from .memory import pack, row_hash, unpack
from .protocol import Batch, Checkpoint, Feed

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa
    from sqlalchemy.exc import DBAPIError

_DIALECTS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
#: What waiting does not mend, by the beginning of its SQLSTATE: 28 authorisation, 3D no such database, 42 a wrong query.
_LASTING = ("28", "3D", "42")
#: A refused connection has no SQLSTATE, only the server's words. Trying again might lock the account.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|database .* does not exist|role .* does not exist"
)
_SQLITE_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_PROTOCOL")
_TEXT_TIME = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d(?::\d\d)?)")


def _url_without_secrets(value: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        # Not quoted: a URL that cannot be read may hold a password all the same.
        raise ValueError(
            "not a URL; for example postgresql://historian.example:5432/scada or sqlite:///scada.db"
        ) from None
    if url.get_backend_name() not in _DIALECTS:
        raise ValueError(f"'{url.drivername}' is not supported; supported are {', '.join(_DIALECTS)}")
    if url.password is not None or url.username is not None or "password" in url.query:
        raise ValueError("holds a user or a password; give `username` and `password` in conf/local/credentials.yml")
    if url.get_backend_name() == "sqlite" and not url.database:
        raise ValueError("names no file; for example sqlite:///scada.db")
    return value


class SqlHistorian(Feed):
    """Rows of a table or a query whose cursor is at or after where the last fetch ended. One batch a chunk.

    The cursor is a column that only grows: when a row was written or changed, or its number. Rows are committed later
    than they are stamped, so a stretch before the end is read again each time, and what has landed is told by its hash.
    What changes without its cursor moving is seen within that stretch only. Rows that are equal in every column are one.

    Columns keep their types: times with a zone are UTC, whole and floating numbers are themselves, decimals are text with
    every digit; what is mixed within a chunk is text.
    """

    in_parts = True

    kind: Literal["sql_historian"] = "sql_historian"
    url: Annotated[str, AfterValidator(_url_without_secrets)] = Field(description="without user and password")
    table: str | None = None
    table_schema: str | None = Field(None, description="where the table is, if not on the search path")
    columns: list[str] = Field(default_factory=list, description="of the table; none: all")
    query: str | None = Field(None, description="one SELECT instead of a table; `:name` stands for a value of `params`")
    params: dict[str, str | bool | int | float] = Field(default_factory=dict)
    cursor: str = Field(description="the column that grows")
    settle_seconds: float = Field(
        300,
        ge=0,
        description="a cursor of times: rows are committed at most so long after it (the longest transaction)",
    )
    settle_ids: int = Field(
        1000, ge=0, description="a cursor of numbers: rows below the highest are committed this late"
    )
    rows_per_batch: int = Field(100_000, gt=0)
    remember_at_most: int = Field(200_000, gt=0, description="rows that settle; 16 bytes each in every checkpoint")
    timeout_seconds: int = Field(30, gt=0, description="for a connection; a query may take longer")

    @model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give `table` or `query`, one of them")
        if self.query is not None and (self.columns or self.table_schema):
            raise ValueError("columns and table_schema belong to `table`; a query says them itself")
        if self.columns and self.cursor not in self.columns:
            raise ValueError(f"columns: the cursor '{self.cursor}' must be among them")
        return self

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """See `Feed`. The checkpoint holds where the next look begins and hashes of what has landed from there on."""
        del scratch  # a chunk fits in memory
        with _Reading(self, _Place.read(checkpoint)) as reading:
            while (chunk := self.retry(reading.next_chunk)) is not None:
                fresh = reading.take(chunk)
                if fresh:
                    table = _table(chunk.names, fresh)
                    yield Batch({PART: table}, reading.place.as_checkpoint(), len(fresh))


# --- where a reading stands ------------------------------------------------------------------------------------------

#: A value of the cursor: a time, a date, a number or text. None is a row without one: such rows are looked at every time.
Cursor = Any
_KINDS: Mapping[str, Callable[[str], Cursor]] = {
    "datetime": dt.datetime.fromisoformat, "date": dt.date.fromisoformat, "Decimal": decimal.Decimal, "int": int, "float": float,
    "str": str,
}  # fmt: skip


def _written(value: Cursor) -> str:
    if isinstance(value, dt.date):  # a datetime is one too
        return value.isoformat()
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)


@dataclass
class _Place:
    """What a checkpoint says.

    Attributes:
        start: cursor from which rows are read; none: from the first.
        seen: of rows that have landed with a cursor from there on: the cursor, by hash.
    """

    start: Cursor
    seen: dict[str, Cursor]

    @classmethod
    def read(cls, checkpoint: Checkpoint | None) -> _Place:
        if checkpoint is None:
            return cls(None, {})
        read = _KINDS[checkpoint["type"]] if checkpoint["type"] else str
        seen: dict[str, Cursor] = dict.fromkeys(unpack(checkpoint["seen_without"]), None)
        for cursor, packed in checkpoint["seen"].items():
            seen |= dict.fromkeys(unpack(packed), read(cursor))
        return cls(None if checkpoint["from"] is None else read(checkpoint["from"]), seen)

    def as_checkpoint(self) -> Checkpoint:
        by_cursor: dict[str, list[str]] = {}
        for hashed, cursor in self.seen.items():
            if cursor is not None:
                by_cursor.setdefault(_written(cursor), []).append(hashed)
        return {
            "type": None if self.start is None else type(self.start).__name__,
            "from": None if self.start is None else _written(self.start),
            "seen": {cursor: pack(hashes) for cursor, hashes in by_cursor.items()},
            "seen_without": pack(hashed for hashed, cursor in self.seen.items() if cursor is None),
        }


@dataclass(frozen=True)
class _Chunk:
    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    last: bool


class _Reading:
    """One pass over what is at or after a place, in the order of the cursor; picks itself up after a lost connection."""

    def __init__(self, feed: SqlHistorian, place: _Place) -> None:
        self._feed = feed
        self.place = place
        # What this pass has read from its place on: once it is through, this is all there is to remember.
        self._returned: dict[str, Cursor] = {}
        self._engine = _engine(feed)
        self._connection: sa.Connection | None = None
        self._chunks: Generator[_Chunk] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._engine.dispose()

    def next_chunk(self) -> _Chunk | None:
        """The next rows; none when there are no more.

        Raises:
            PassingError: if the connection is lost; calling again goes on from the place that was reached.
            FeedError: if it would be so every time.
        """
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        try:
            if self._chunks is None:
                self._chunks = self._read(self._open())
            return next(self._chunks, None)
        except DBAPIError as error:
            self._close()
            said = str(error.orig)
            if _may_pass(error):
                raise PassingError(f"{self._feed.url}: {said}") from None
            raise self._feed.fault(f"{self._feed.url}: {said}; correct {_remedy(error)}") from None
        except SQLAlchemyError as error:
            self._close()
            raise self._feed.fault(
                f"{self._feed.url}: {str(error).splitlines()[0]}; correct `query` and `params`"
            ) from None

    def take(self, chunk: _Chunk) -> list[tuple[Any, ...]]:
        """The rows of a chunk that have not landed; the place moves behind them."""
        feed, at = self._feed, chunk.names.index(self._feed.cursor)
        fresh = []
        for row in chunk.rows:
            hashed = row_hash([_plain(value) for value in row])
            if hashed not in self._returned and hashed not in self.place.seen:
                fresh.append(row)
            self._returned[hashed] = row[at]
        cursors = [row[at] for row in chunk.rows if row[at] is not None]
        try:
            self.place = self._moved(cursors, chunk.last)
        except TypeError:
            raise feed.fault(
                f"the cursor '{feed.cursor}' holds values that cannot be compared; name another `cursor`"
            ) from None
        if len(self.place.seen) > feed.remember_at_most:
            raise feed.fault(
                f"{len(self.place.seen)} rows settle up to '{feed.cursor}' {cursors[-1] if cursors else 'null'}, "
                f"`remember_at_most` is {feed.remember_at_most}; shorten settle_seconds or settle_ids, or name a cursor "
                "that tells rows apart",
            )
        self._returned = {hashed: cursor for hashed, cursor in self._returned.items() if hashed in self.place.seen}
        return fresh

    def _moved(self, cursors: Sequence[Cursor], last: bool) -> _Place:
        """The place behind a chunk: it never goes back, and remembers the rows from there on."""
        start = self.place.start
        if cursors:
            reached = _before(self._feed, cursors[-1])
            start = reached if start is None else max(start, reached)
        # Behind the end of this chunk, what earlier passes have seen still counts; before it, this pass has seen all.
        ahead = {
            hashed: cursor
            for hashed, cursor in self.place.seen.items()
            if not last and (not cursors or cursor is None or cursor >= cursors[-1])
        }
        return _Place(
            start,
            {
                hashed: cursor
                for hashed, cursor in (ahead | self._returned).items()
                if cursor is None or start is None or cursor >= start
            },
        )

    def _open(self) -> sa.Connection:
        self._returned = {}
        self._connection = self._engine.connect().execution_options(
            stream_results=True, max_row_buffer=self._feed.rows_per_batch
        )
        return self._connection

    def _read(self, connection: sa.Connection) -> Generator[_Chunk]:
        import sqlalchemy as sa

        source = _source(self._feed)
        cursor: sa.ColumnElement[Any] = source.c[self._feed.cursor]
        rows = sa.select(sa.text("*")).select_from(source)
        start = self.place.start
        # Rows without a cursor have no place in its order: they are asked for by themselves, each time.
        following = rows.where(cursor.is_not(None) if start is None else cursor >= _bound(start))
        pending: _Chunk | None = None
        for statement in (rows.where(cursor.is_(None)), following.order_by(cursor)):
            with connection.execute(statement, self._feed.params) as result:
                names = tuple(result.keys())
                if self._feed.cursor not in names:
                    raise self._feed.fault(
                        f"no column '{self._feed.cursor}'; found are {', '.join(names)}; correct `cursor`"
                    )
                for part in result.partitions(self._feed.rows_per_batch):
                    if pending is not None:
                        yield pending
                    pending = _Chunk(names, [tuple(map(_house, row)) for row in part], last=False)
        if pending is not None:
            yield _Chunk(pending.names, pending.rows, last=True)

    def _close(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        # A stream that is left in the middle is closed before its connection; a lost one cannot be closed any more.
        chunks, connection = self._chunks, self._connection
        self._chunks = self._connection = None
        with suppress(SQLAlchemyError):
            if chunks is not None:
                chunks.close()
        with suppress(SQLAlchemyError):
            if connection is not None:
                connection.close()


def _before(feed: SqlHistorian, reached: Any) -> Any:
    """Where the next look begins when this cursor has been reached."""
    if isinstance(reached, dt.datetime):
        return reached - dt.timedelta(seconds=feed.settle_seconds)
    if isinstance(reached, dt.date):
        return reached - dt.timedelta(days=-(-feed.settle_seconds // 86_400))
    if isinstance(reached, str):  # SQLite knows no times; text in ISO 8601 sorts as they do
        written = _TEXT_TIME.match(reached)
        try:
            if written is None:
                raise ValueError
            at = dt.datetime.fromisoformat(f"{written[1]}T{written[3]}") - dt.timedelta(seconds=feed.settle_seconds)
        except (ValueError, OverflowError):
            raise feed.fault(
                f"the cursor '{feed.cursor}' holds '{reached}', neither time nor number; name another `cursor`"
            ) from None
        # Cut at what the texts have in common: a shorter text sorts before every longer one that begins with it.
        return at.isoformat(written[2], "seconds")[: len(written[0])]
    if isinstance(reached, bool) or not isinstance(reached, int | float | decimal.Decimal):
        raise feed.fault(
            f"the cursor '{feed.cursor}' is of type {type(reached).__name__}, neither time nor number; name another",
        )
    return reached - feed.settle_ids


def _may_pass(error: DBAPIError) -> bool:
    """Whether waiting may mend it: a lost connection, a server that starts, a locked file; not a wrong word."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    if (name := getattr(error.orig, "sqlite_errorname", None)) is not None:
        return str(name).startswith(_SQLITE_PASSING)
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith(_LASTING) or _REFUSED.search(str(error.orig)):
        return False
    return isinstance(error, OperationalError | InterfaceError)


def _remedy(error: DBAPIError) -> str:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith("28") or _REFUSED.search(str(error.orig)):
        return "its credentials in conf/local/credentials.yml, or the database in `url`"
    return "`url`, `table`, `columns` or `query`"


# --- the database ----------------------------------------------------------------------------------------------------


def _source(feed: SqlHistorian) -> sa.FromClause:
    """What is selected from. Values are bound; names are quoted and qualified, or SQLite takes a wrong one for a text."""
    import sqlalchemy as sa

    def quoted(name: str) -> sa.ColumnClause[Any]:
        return sa.column(sa.quoted_name(name, quote=True))

    if feed.query is not None:
        # Columns of a text are not known before it runs; the cursor is all that is named.
        return sa.text(feed.query.strip().rstrip(";")).columns(quoted(feed.cursor)).subquery("source")
    table = sa.table(
        sa.quoted_name(str(feed.table), quote=True),
        *map(quoted, feed.columns or [feed.cursor]),
        schema=None if feed.table_schema is None else sa.quoted_name(feed.table_schema, quote=True),
    )
    return sa.select(*table.c).subquery("source") if feed.columns else table


def _bound(start: Cursor) -> sa.BindParameter[Any]:
    """Where to begin, as a bound value of the type it has there: a time with a zone stays one, a number may have 64 bits."""
    import sqlalchemy as sa

    kinds: Sequence[tuple[type, sa.types.TypeEngine[Any]]] = (
        (dt.datetime, sa.DateTime(timezone=isinstance(start, dt.datetime) and start.tzinfo is not None)),
        (dt.date, sa.Date()),
        (int, sa.BigInteger()),
        (float, sa.Double()),
        (decimal.Decimal, sa.Numeric()),
        (str, sa.Text()),
    )
    return sa.bindparam(None, start, next(kind for of, kind in kinds if isinstance(start, of)), unique=True)


def _engine(feed: SqlHistorian) -> sa.Engine:
    """An engine that only reads, each pass one snapshot."""
    import sqlalchemy as sa

    url = sa.make_url(feed.url)
    if url.get_backend_name() == "sqlite":
        import sqlite3

        path = Path(str(url.database)).absolute()

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=feed.timeout_seconds)

        return sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
    if feed.credentials:
        url = url.set(username=feed.secret("username"), password=feed.secret("password"))
    return sa.create_engine(
        url.set(drivername=_DIALECTS["postgresql"]),
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": feed.timeout_seconds, "options": "-c TimeZone=UTC"},
        execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
        hide_parameters=True,
    )


# --- values ----------------------------------------------------------------------------------------------------------


def _house(value: Any) -> Any:
    """A value as it lands: times with a zone in UTC, what Parquet has no type for as text."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC) if value.tzinfo is not None else value
    if value is None or isinstance(value, bool | int | float | str | bytes | dt.date | decimal.Decimal):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return bytes(value) if isinstance(value, memoryview) else str(value)


def _plain(value: Any) -> Any:
    """A value as its hash sees it: 1, 1.0, true and '1' are four different ones."""
    if value is None or isinstance(value, bool | int | str):
        return value
    return [type(value).__name__, value.hex() if isinstance(value, bytes | float) else str(value)]


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.table([_column([row[index] for row in rows]) for index in range(len(names))], names=list(names))


def _column(values: list[Any]) -> pa.Array:
    """Values of one type as it is; decimals and what is mixed as text."""
    import pyarrow as pa

    kinds = {
        (type(value), isinstance(value, dt.datetime) and value.tzinfo is not None)
        for value in values
        if value is not None
    }
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
