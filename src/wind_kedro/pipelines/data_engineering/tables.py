"""Small tables made of cards, and the few expressions that several nodes share."""

from __future__ import annotations

import datetime as dt
import weakref
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pandas as pd

from wind_kedro.cards import UNIT_CONVERSIONS

if TYPE_CHECKING:
    from ibis.expr.types import Table
else:
    # Kedro resolves the hints of a node when a run starts, so the name must exist; importing Ibis for it would cost
    # every command.
    Table = Any

__all__ = [
    "Table",
    "conversion",
    "exact",
    "held",
    "in_utc",
    "local_offsets",
    "microseconds",
    "naive",
    "offset_minutes",
    "transitions",
    "zoned",
]

#: Widest span of local clocks that the tables below know; stamps outside it are no wind farm's.
FIRST_YEAR, LAST_YEAR = 1990, 2060


def local_offsets(zones: Iterable[str]) -> pd.DataFrame:
    """One row per zone, month of the wall clock and stretch of it with one offset from UTC.

    An hour that comes twice in autumn is read as its first pass; an hour that does not exist in spring keeps the offset
    before the change, so that it runs on (``fold=0`` in the words of PEP 495).

    Returns:
        ``time_zone``, ``wall_month`` (year × 12 + month, to join by), ``wall_from`` and ``wall_until`` (naive, half-
        open), ``local_minutes`` (offset, east positive).
    """
    rows = []
    for zone in sorted(set(zones)):
        start = dt.datetime(FIRST_YEAR, 1, 1)  # noqa: DTZ001 - a wall clock has no zone
        stretches = []
        offset = offset_minutes(zone, start.replace(tzinfo=dt.UTC))
        for at, before, after in transitions(zone):
            # The wall clock's end of a stretch: what is skipped in spring still belongs to it, so does the first pass
            # in autumn.
            end = at.replace(tzinfo=None) + dt.timedelta(minutes=max(before, after))
            stretches.append((start, end, before))
            start, offset = end, after
        stretches.append((start, dt.datetime(LAST_YEAR, 1, 1), offset))  # noqa: DTZ001
        rows += [
            (zone, month, begin, end, minutes)
            for begin, end, minutes in stretches
            for month in range(_month(begin), _month(end) + 1)
        ]
    table = pd.DataFrame(rows, columns=["time_zone", "wall_month", "wall_from", "wall_until", "local_minutes"])
    return table.astype({"wall_from": "datetime64[us]", "wall_until": "datetime64[us]"})


def _month(at: dt.datetime) -> int:
    return at.year * 12 + at.month


def offset_minutes(zone: str, at: dt.datetime) -> int:
    """Offset of a zone from UTC at an instant, minutes."""
    offset = at.astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None  # noqa: S101 - a ZoneInfo always knows
    return round(offset.total_seconds() / 60)


@cache
def transitions(zone: str) -> tuple[tuple[dt.datetime, int, int], ...]:
    """Changes of a zone's offset: instant (UTC), minutes before, minutes after."""
    found = []
    day = dt.datetime(FIRST_YEAR, 1, 1, tzinfo=dt.UTC)
    last = dt.datetime(LAST_YEAR, 1, 1, tzinfo=dt.UTC)
    step = dt.timedelta(days=7)
    before = offset_minutes(zone, day)
    while day < last:
        after = offset_minutes(zone, day + step)
        if after != before:
            low, high = day, day + step
            while high - low > dt.timedelta(minutes=1):
                middle = low + dt.timedelta(minutes=int((high - low).total_seconds() // 120))
                low, high = (middle, high) if offset_minutes(zone, middle) == before else (low, middle)
            found.append((high, before, after))
        before, day = after, day + step
    return tuple(found)


def conversion(unit: str, house_unit: str) -> tuple[float, float]:
    """Factor and offset from a source's unit to the house's."""
    return UNIT_CONVERSIONS[(unit, house_unit)]


@cache
def _microseconds_by_engine() -> dict[str, Any]:
    import ibis

    def counted(name: str) -> Any:
        def microseconds(at: object) -> int:
            raise NotImplementedError(at)  # the engine's own function of this name

        return ibis.udf.scalar.builtin(name=name, signature=(("timestamp",), "int64"))(microseconds)

    return {"duckdb": counted("epoch_us"), "pyspark": counted("unix_micros")}


def microseconds(rows: Table, column: str) -> Any:
    """A time as microseconds since 1970.

    Ibis casts a time with a zone by the calendar before it counts, which takes DuckDB ten times as long as to count.
    """
    engine = rows.get_backend().name
    # Spark counts times with a zone only; its session is in UTC.
    at = rows[column].cast("timestamp('UTC')") if engine == "pyspark" else rows[column]
    return _microseconds_by_engine()[engine](at)


@cache
def _zoned_on_duckdb() -> Any:
    import ibis

    def make_timestamptz(microseconds: int) -> dt.datetime:
        raise NotImplementedError(microseconds)  # the engine's own function of this name

    signature = (("int64",), "timestamp('UTC')")
    return ibis.udf.scalar.builtin(name="make_timestamptz", signature=signature)(make_timestamptz)


def zoned(rows: Table, column: str) -> Any:
    """A time without zone as the UTC that it is. By a cast, DuckDB goes through the calendar, thirty times as long."""
    if rows.get_backend().name == "duckdb":
        return _zoned_on_duckdb()(microseconds(rows, column))
    return rows[column].cast("timestamp('UTC')")


def held(rows: Table) -> Table:
    """The rows, worked out now and held by the engine as long as the table is used: for what several questions are asked of."""
    import ibis

    engine = rows.get_backend()
    if engine.name != "duckdb":
        # Ibis hands its tables in memory to Spark when it executes, not when it caches.
        rows.limit(0).execute()
        return rows.cache().cast(rows.schema())
    # As `cache` does it, but for the end: what Ibis 12 and sqlglot 30 say to drop a table has no name in it.
    name = ibis.util.gen_name("held")
    # By way of a view, so that the columns keep the engine's own types: `create_table` makes text of what is listed (`words`).
    engine.create_view(f"{name}_made", rows)
    engine.raw_sql(f'CREATE TEMP TABLE "{name}" AS FROM "{name}_made"; DROP VIEW "{name}_made"')
    table = engine.table(name, database=("temp", "main"))
    weakref.finalize(table.op(), engine.raw_sql, f'DROP TABLE IF EXISTS "{name}"').atexit = False
    # Engines give times their precision, which no other table here has.
    return table.cast(rows.schema())


def exact(column: Any) -> Any:
    """A column of numbers with six decimals (of a kilowatt: milliwatts), whose sum and mean do not depend on the order of rows.

    Engines add in the order in which their threads finish, and floating-point sums then differ in the last bit from run to
    run: enough for a rerun to issue another forecast. Decimals add exactly.
    """
    return column.cast("decimal(18, 6)")


def in_utc(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The frame with these naive times (UTC inside this room) as UTC with microseconds, as contracts have them."""
    times: dict[str, Any] = {
        column: pd.to_datetime(frame[column]).astype("datetime64[us]").dt.tz_localize("UTC") for column in columns
    }
    return frame.assign(**times)


def naive(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The frame with these UTC times naive, as DuckDB is quickest with them."""
    times: dict[str, Any] = {
        column: pd.to_datetime(frame[column], utc=True).dt.tz_localize(None).astype("datetime64[us]")
        for column in columns
    }
    return frame.assign(**times)
