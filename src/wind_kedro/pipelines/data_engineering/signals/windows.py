"""What a row sees of its turbine's rows before and behind it, each thing looked up once.

Engines sort for a window, and work out every frame that is written, row by row. So rules say what they want to see and go
on with it by name; then one step makes it all, in one order. Rows at fixed places cost a fifth of a frame: a short stretch is
looked at row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, Literal

from wind_kedro.pipelines.data_engineering.tables import Table

#: Up to so many rows, the row included, a stretch is looked at row by row.
SHORT = 3
How = Literal["least", "greatest", "count", "sum"]
_FRAMES: dict[How, str] = {"least": "min", "greatest": "max", "count": "count", "sum": "sum"}


class Looks:
    """Columns of a row's surroundings in a table, by turbine in order of time; what is asked for is deferred (``ibis._``)."""

    def __init__(self, rows: Table, group_by: list[str], order_by: str) -> None:
        self._rows = rows
        self._by: dict[str, Any] = {"group_by": group_by, "order_by": order_by}
        self._made: dict[str, Any] = {}

    def at(self, column: str, place: int) -> Any:
        """The column ``place`` rows behind (negative: before); null where there is no row."""
        import ibis

        if not place:
            return ibis._[column]
        there = self._rows[column].lead(place) if place > 0 else self._rows[column].lag(-place)
        return self._look(f"{column}:{place:+d}", lambda: there.over(ibis.window(**self._by)))

    def last(self, how: How, column: str, count: int) -> Any:
        """Of the values that are there in the row and those before it, ``count`` rows in all; fewer at the beginning."""
        import ibis

        if count <= SHORT:
            values = [self.at(column, -place) for place in range(count)]
            if how == "count":
                return sum((value.notnull().cast("int64") for value in values[1:]), values[0].notnull().cast("int64"))
            if how == "sum":
                return sum((value.fill_null(0) for value in values[1:]), values[0].fill_null(0))
            return reduce(ibis.least if how == "least" else ibis.greatest, values)
        frame = ibis.window(**self._by, preceding=count - 1, following=0)
        found = getattr(self._rows[column], _FRAMES[how])()
        return self._look(f"{column}:{how}:{count}", lambda: found.over(frame))

    def follow(self, count: int, cadence: int) -> Any:
        """Whether the row and those before it, ``count`` in all, follow each other without a gap.

        Rows are on the grid of the cadence, each in an interval of its own.
        """
        import ibis

        since = ibis._.valid_at - ibis.interval(seconds=cadence * (count - 1))
        return self.at("valid_at", 1 - count) == since

    def whole(self, count: int, cadence: int) -> Any:
        """Whether they `follow` each other, and all were there in time.

        That is when the last could be used. So a late row can take a row's past away, and never give it one: what a live run saw
        is what any later run sees.
        """
        import ibis

        return self.follow(count, cadence) & (self.last("greatest", "available_at", count) <= ibis._.available_at)

    def made(self) -> Table:
        """The table with all that was asked for."""
        return self._rows.mutate(**self._made)

    @property
    def names(self) -> list[str]:
        """Of the columns that were made."""
        return list(self._made)

    def _look(self, name: str, make: Callable[[], Any]) -> Any:
        import ibis

        if name not in self._made:
            self._made[name] = make()
        return ibis._[name]
