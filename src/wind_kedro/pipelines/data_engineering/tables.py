"""Tables of time zones, and expressions that several nodes share."""

from __future__ import annotations

import datetime as dt
import importlib
import weakref
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import UNIT_CONVERSIONS

if TYPE_CHECKING:
    import ibis
    from ibis.expr.types import Table
else:

    class _Lazy:
        """The module Ibis, imported on first use, as importing it here would slow down every command."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("ibis"), name)

    ibis = _Lazy()
    # Kedro resolves the type hints of nodes when a run starts, so the name must exist.
    Table = Any

#: Names from Ibis for the other modules of this pipeline.
__all__ = ["Table", "ibis"]

Floats = NDArray[np.float64]
#: Years covered by the tables of local time; stamps outside them are invalid.
FIRST_YEAR, LAST_YEAR = 1990, 2060


def local_offsets(zones: Iterable[str]) -> pd.DataFrame:
    """Offsets from UTC: one row per zone, month of the wall clock and period with one offset.

    As with ``fold=0`` of PEP 495, the hour repeated in autumn is read as its first pass, and the hour skipped in spring keeps
    the offset before the change.

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
            # The skipped hour in spring and the first pass in autumn belong to the period before the change.
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


def conversion(unit: str, standard_unit: str) -> tuple[float, float]:
    """Factor and offset from a source's unit to the standard unit."""
    return UNIT_CONVERSIONS[(unit, standard_unit)]


@cache
def engine_function(name: str, takes: str, gives: str) -> Any:
    """The engine's own function of this name, of one argument."""

    def function(value: object) -> object:
        raise NotImplementedError(value)

    return ibis.udf.scalar.builtin(name=name, signature=((takes,), gives))(function)


def microseconds(rows: Table, column: str) -> Any:
    """A time column as microseconds since 1970.

    ``epoch_microseconds`` of Ibis first casts times with a zone, which takes DuckDB ten times as long.
    """
    return engine_function("epoch_us", "timestamp", "int64")(rows[column])


def zoned(rows: Table, column: str) -> Any:
    """A naive UTC time as a time with zone UTC. A cast would take DuckDB thirty times as long."""
    return engine_function("make_timestamptz", "int64", "timestamp('UTC')")(microseconds(rows, column))


def temporary_table(engine: Any, query: str) -> Table:
    """The result of a query of DuckDB, dropped with its last reference."""
    name = ibis.util.gen_name("temporary")
    engine.raw_sql(f'CREATE TEMP TABLE "{name}" AS {query}')
    table: Table = engine.table(name, database=("temp", "main"))
    weakref.finalize(table.op(), engine.raw_sql, f'DROP TABLE IF EXISTS "{name}"').atexit = False
    return table


def materialized(rows: Table) -> Table:
    """Compute a table now and cache it in the engine for as long as it is referenced; for tables used more than once."""
    engine = rows.get_backend()
    # `Table.cache` would do, but its DROP TABLE lacks the name with Ibis 12 and sqlglot 30.
    # Created from a view, so that columns keep the engine's types: `create_table` turns ENUMs into text.
    view = ibis.util.gen_name("view")
    engine.create_view(view, rows)
    table = temporary_table(engine, f'FROM "{view}"')
    engine.raw_sql(f'DROP VIEW "{view}"')
    # The engine adds a precision to times; the cast restores the schema.
    return table.cast(rows.schema())


def exact(column: Any) -> Any:
    """Cast numbers to decimals with six places, whose sum and mean do not depend on the order of rows.

    The order of additions depends on the engine's threads, so floating-point sums differ in the last bit between runs, which
    is enough for a rerun to issue a different forecast.
    """
    return column.cast("decimal(18, 6)")


def interpolated(at: Floats, known_at: Floats, known: Floats, max_gap: float) -> Floats:
    """Linear interpolation; missing outside the known times and across gaps longer than ``max_gap``."""
    values = np.interp(at, known_at, known, left=np.nan, right=np.nan)
    right = np.searchsorted(known_at, at).clip(min(1, len(known_at) - 1), len(known_at) - 1)
    return np.where(known_at[right] - known_at[right - 1] <= max_gap, values, np.nan)


def pearson(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson's correlation from sums; missing where it is undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return np.where(np.isfinite(found), found, np.nan)


def in_utc(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Localize naive UTC times, with microseconds as in the contracts."""
    times: dict[str, Any] = {
        column: pd.to_datetime(frame[column]).astype("datetime64[us]").dt.tz_localize("UTC") for column in columns
    }
    return frame.assign(**times)


def naive(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Convert UTC times to naive times, which DuckDB processes fastest."""
    times: dict[str, Any] = {
        column: pd.to_datetime(frame[column], utc=True).dt.tz_localize(None).astype("datetime64[us]") for column in columns
    }
    return frame.assign(**times)
