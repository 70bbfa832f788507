"""Work on more rows than memory holds: turbines by days, with as much before and behind as the longest window looks at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.pipelines.data_engineering.tables import Table, microseconds

#: Between a farm's and a turbine's name; in no name that a person gives.
_BETWEEN = "\x1f"
_DAY = dt.timedelta(days=1)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - times inside the room are UTC without zone
#: By what the rows of a day may be dealt out.
TURBINE = ("farm_id", "turbine_id")
FARM = ("farm_id",)


@dataclass(frozen=True)
class Chunk:
    """Some turbines or farms, and the days that are given out: ``[first, last)``, naive; none for rows without a time.

    ``named`` are the columns that name a turbine or farm, ``names`` those of the chunk; none: all.
    """

    first: dt.datetime | None
    last: dt.datetime | None
    named: tuple[str, ...] = TURBINE
    names: tuple[str, ...] | None = None


class Chunks:
    """A table as its chunks, to be worked and written one after the other.

    Iterated, it gives lazy tables of the same columns, which together are the table; none is worked before its turn.
    """

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
    """Days in order, as many to a chunk as fit into ``max_rows``; a day that is too long by itself is split by turbines.

    Args:
        rows: with the columns ``named`` and the column ``time``.
        time: naive UTC.
        max_rows: in one chunk, what it looks at before and behind not counted. A turbine's day is never split.
        named: by what a day may be split: `TURBINE`, or `FARM` where its turbines are to stay together.

    Returns:
        Chunks that hold every row exactly once; a table that fits is one chunk without bounds of turbines.
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
    held = 0
    for day, count in zip(days["day"].tolist(), days["rows"].tolist(), strict=True):
        at = _EPOCH + day * _DAY
        if run and held + count > max_rows:
            chunks.append(Chunk(run[0], run[-1] + _DAY))
            run, held = [], 0
        if count > max_rows:
            names = parts[day]
            # Running total of rows before each turbine: where it passes a multiple, a chunk begins.
            place = (names["rows"].cumsum() - names["rows"]) // max_rows
            chunks += [Chunk(at, at + _DAY, named, tuple(some)) for _, some in names.groupby(place)["name"]]
            continue
        run.append(at)
        held += count
    return chunks + ([Chunk(run[0], run[-1] + _DAY)] if run else [])


def _day(rows: Table, time: str) -> Any:
    """Days since 1970: engines count by numbers quicker than by times."""
    return microseconds(rows, time) // (_DAY // dt.timedelta(microseconds=1))


def _counted(rows: Table, by: dict[str, Any]) -> pd.DataFrame:
    found: pd.DataFrame = rows.group_by(**by).agg(rows=rows.count()).to_pandas()
    return found


def _name(rows: Table, named: tuple[str, ...]) -> Any:
    """A turbine's name, unique in the fleet; a row without one has a name too."""
    return reduce(lambda one, other: one + _BETWEEN + other, [rows[column].fill_null("") for column in named])


def near(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta) -> Table:
    """The chunk's rows, and those up to ``margin`` before and behind."""
    rows = rows.filter(is_inside(rows, chunk, time, margin))
    return rows if chunk.names is None else rows.filter(_name(rows, chunk.named).isin(chunk.names))


def is_inside(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta = dt.timedelta()) -> Any:
    """Whether a row is of the chunk's days, or up to ``margin`` before and behind."""
    if chunk.first is None or chunk.last is None:
        return rows[time].isnull()
    return (rows[time] >= chunk.first - margin) & (rows[time] < chunk.last + margin)
