"""Window functions over the rows of a turbine, each computed once.

Engines sort for every window and compute every frame row by row. So rules request columns and refer to them by name, and one
step computes all of them in one order. A lag or lead costs a fifth of a frame, so short frames are made of lags.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Literal

from wind_kedro.pipelines.data_engineering.tables import Table, ibis

#: Frames of up to this many rows, including the current one, are made of lags.
SHORT = 3
How = Literal["least", "greatest", "count"]
_FRAMES: dict[How, str] = {"least": "min", "greatest": "max", "count": "count"}


class Windows:
    """Window columns of a table, partitioned and ordered; methods return deferred expressions (``ibis._``)."""

    def __init__(self, rows: Table, group_by: list[str], order_by: str) -> None:
        self._rows = rows
        self._by: dict[str, Any] = {"group_by": group_by, "order_by": order_by}
        self._made: dict[str, Any] = {}

    def at(self, column: str, place: int) -> Any:
        """Value of the column ``place`` rows later (negative: earlier); null where there is no row."""
        if not place:
            return ibis._[column]
        there = self._rows[column].lead(place) if place > 0 else self._rows[column].lag(-place)
        return self._look(f"{column}:{place:+d}", lambda: there.over(ibis.window(**self._by)))

    def last(self, how: How, column: str, count: int) -> Any:
        """Aggregate of the column over the last ``count`` rows, including the current one; fewer at the beginning."""
        if count <= SHORT:
            values = [self.at(column, -place) for place in range(count)]
            if how == "count":
                return reduce(lambda one, other: one + other, [value.notnull().cast("int64") for value in values])
            return reduce(getattr(ibis, how), values)
        frame = ibis.window(**self._by, preceding=count - 1, following=0)
        found = getattr(self._rows[column], _FRAMES[how])()
        return self._look(f"{column}:{how}:{count}", lambda: found.over(frame))

    def follow(self, count: int, cadence: int) -> Any:
        """Whether the last ``count`` rows are consecutive; rows are on the grid of the cadence, one per interval."""
        since = ibis._.valid_at - ibis.interval(seconds=cadence * (count - 1))
        return self.at("valid_at", 1 - count) == since

    def whole(self, count: int, cadence: int) -> Any:
        """Whether the last ``count`` rows are consecutive and were available when the current one was.

        A row that arrives late never changes the result for an earlier row, so that later runs repeat what a live run found.
        """
        return self.follow(count, cadence) & (self.last("greatest", "available_at", count) <= ibis._.available_at)

    def made(self) -> Table:
        """The table with all requested columns."""
        return self._rows.mutate(**self._made)

    @property
    def names(self) -> list[str]:
        """Names of the requested columns."""
        return list(self._made)

    def _look(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return ibis._[name]
