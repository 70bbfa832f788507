"""Work on more rows than memory holds: turbines by days, with as much before and behind as the longest window looks at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ._tables import Table

#: Between a farm's and a turbine's name; in no name that a person gives.
_BETWEEN = "\x1f"


@dataclass(frozen=True)
class Chunk:
    """Some turbines (none: all), and the days that are given out: ``[first, last)``, naive; none for rows without a time."""

    first: dt.datetime | None
    last: dt.datetime | None
    turbines: tuple[str, ...] | None = None


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


def plan(rows: Table, time: str, most_rows: int) -> list[Chunk]:
    """Days in order, as many to a chunk as fit into ``most_rows``; a day that is too long by itself is split by turbines.

    Args:
        rows: with ``farm_id``, ``turbine_id`` and the column ``time``.
        time: naive UTC.
        most_rows: in one chunk, what it looks at before and behind not counted. A turbine's day is never split.

    Returns:
        Chunks that hold every row exactly once; a table that fits is one chunk without bounds of turbines.
    """
    counted = (
        rows.group_by([named(rows).name("turbine"), rows[time].truncate("D").name("day")])
        .agg(rows=rows.count())
        .to_pandas()
        .sort_values(["day", "turbine"])
    )
    chunks = [Chunk(None, None)] if counted["day"].isna().any() else []
    days = counted.dropna(subset="day").groupby("day")["rows"].sum()
    held = 0
    run: list[pd.Timestamp] = []
    for day, count in days.items():
        if run and held + count > most_rows:
            chunks += _split(counted, run, most_rows)
            run, held = [], 0
        run.append(pd.Timestamp(str(day)))
        held += int(count)
    return chunks + (_split(counted, run, most_rows) if run else [])


def _split(counted: pd.DataFrame, days: list[pd.Timestamp], most_rows: int) -> list[Chunk]:
    """One chunk of these days, or several of one day and some turbines each."""
    first, last = days[0].to_pydatetime(), (days[-1] + pd.Timedelta(days=1)).to_pydatetime()
    own = counted[(counted["day"] >= days[0]) & (counted["day"] <= days[-1])]
    if len(days) > 1 or own["rows"].sum() <= most_rows:
        return [Chunk(first, last)]
    # Running total of rows before each turbine: where it passes a multiple, a chunk begins.
    place = (own["rows"].cumsum() - own["rows"]) // most_rows
    return [Chunk(first, last, tuple(some)) for _, some in own.groupby(place)["turbine"]]


def named(rows: Table) -> Any:
    """A turbine's name, unique in the fleet; a row without one has a name too."""
    return rows.farm_id + _BETWEEN + rows.turbine_id.fill_null("")


def near(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta) -> Table:
    """The chunk's rows, and those up to ``margin`` before and behind."""
    rows = rows.filter(is_inside(rows, chunk, time, margin))
    return rows if chunk.turbines is None else rows.filter(named(rows).isin(chunk.turbines))


def is_inside(rows: Table, chunk: Chunk, time: str, margin: dt.timedelta = dt.timedelta()) -> Any:
    """Whether a row is of the chunk's days, or up to ``margin`` before and behind."""
    if chunk.first is None or chunk.last is None:
        return rows[time].isnull()
    return (rows[time] >= chunk.first - margin) & (rows[time] < chunk.last + margin)
