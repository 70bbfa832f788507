"""Chunks of turbines and days for tables larger than memory, with a margin on either side for window functions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.pipelines.data_engineering.tables import Table, microseconds

#: Separator of farm and turbine: a control character that no name contains.
_BETWEEN = "\x1f"
_DAY = dt.timedelta(days=1)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - times inside this pipeline are UTC without zone
#: Columns by which the rows of a day may be split.
TURBINE = ("farm_id", "turbine_id")
FARM = ("farm_id",)


@dataclass(frozen=True)
class Chunk:
    """Turbines or farms, and days ``[first, last)``, naive; the bounds are None for rows without a time.

    ``named`` are the columns that identify a turbine or farm, ``names`` those of the chunk; None: all.
    """

    first: dt.datetime | None
    last: dt.datetime | None
    named: tuple[str, ...] = TURBINE
    names: tuple[str, ...] | None = None


class Chunks:
    """A table as an iterable of lazy tables, one per chunk, that are computed and written one after the other."""

    def __init__(self, plan: Sequence[Chunk], work: Callable[[Chunk], Table]) -> None:
        self._plan = plan
        self._work = work

    def __iter__(self) -> Iterator[Table]:
        return map(self._work, self._plan)

    def __len__(self) -> int:
        return len(self._plan)

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns, the same in every chunk."""
        return tuple(self._work(self._plan[0]).columns)


def plan(rows: Table, time: str, max_rows: int, named: tuple[str, ...] = TURBINE) -> list[Chunk]:
    """Split a table into chunks of whole days; a day with more than ``max_rows`` is split by turbines.

    Args:
        rows: with the columns ``named`` and the column ``time``.
        time: column of naive UTC times.
        max_rows: of a chunk, without margins. A turbine's day is never split.
        named: columns by which a day may be split: `TURBINE`, or `FARM` to keep turbines of a farm together.

    Returns:
        Chunks that contain every row exactly once; one chunk for a table with no more rows.
    """
    days = _counted(rows, {"day": _day(rows, time)}).sort_values("day")
    chunks = [Chunk(None, None)] if days["day"].isna().any() else []
    days = days.dropna(subset="day").astype({"day": "int64"})
    long = days.loc[days["rows"] > max_rows, "day"].tolist()
    parts = {}
    if long:
        own = rows.filter(_day(rows, time).isin(long))
        turbines = _counted(own, {"day": _day(own, time), "name": _name(own, named)}).sort_values("name")
        parts = dict(list(turbines.astype({"day": "int64"}).groupby("day")))
    run: list[dt.datetime] = []
    count_of_run = 0
    for day, count in zip(days["day"].tolist(), days["rows"].tolist(), strict=True):
        at = _EPOCH + day * _DAY
        if run and count_of_run + count > max_rows:
            chunks.append(Chunk(run[0], run[-1] + _DAY))
            run, count_of_run = [], 0
        if count > max_rows:
            names = parts[day]
            # A chunk begins where the cumulative number of rows passes a multiple of `max_rows`.
            place = (names["rows"].cumsum() - names["rows"]) // max_rows
            chunks += [Chunk(at, at + _DAY, named, tuple(some)) for _, some in names.groupby(place)["name"]]
            continue
        run.append(at)
        count_of_run += count
    return chunks + ([Chunk(run[0], run[-1] + _DAY)] if run else [])


def _day(rows: Table, time: str) -> Any:
    """Days since 1970 as a number, by which engines group faster than by times."""
    return microseconds(rows, time) // (_DAY // dt.timedelta(microseconds=1))


def _counted(rows: Table, by: dict[str, Any]) -> pd.DataFrame:
    found: pd.DataFrame = rows.group_by(**by).agg(rows=rows.count()).to_pandas()
    return found


def _name(rows: Table, named: tuple[str, ...]) -> Any:
    """Name of a turbine or farm that is unique in the fleet; nulls count as empty."""
    return reduce(lambda one, other: one + _BETWEEN + other, [rows[column].fill_null("") for column in named])


def near(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta) -> Table:
    """Rows of the chunk, and those up to ``margin`` before and after."""
    rows = rows.filter(is_inside(rows, chunk, time, margin))
    return rows if chunk.names is None else rows.filter(_name(rows, chunk.named).isin(chunk.names))


def is_inside(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta = dt.timedelta()) -> Any:
    """Whether a row is within the chunk's days, or up to ``margin`` before or after."""
    if chunk.first is None or chunk.last is None:
        return rows[time].isnull()
    return (rows[time] >= chunk.first - margin) & (rows[time] < chunk.last + margin)
