"""Weather runs as known at issue times: which run, how much of it, and its values at any time, for all issues at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.pipelines.feature_engineering.arrays import FloatArray, TimeArray, minutes, naive


@dataclass(frozen=True)
class Parts:
    """Parts of runs, each with the parts before it, in order of arrival.

    Attributes:
        run_at: of the run.
        arrived_at: when the part arrived.
        reach: last time of the run that is known then.
    """

    run_at: TimeArray
    arrived_at: TimeArray
    reach: TimeArray


@dataclass(frozen=True)
class Runs:
    """Runs of a weather model at a point: every version of every time, ordered by run, valid time and arrival.

    Attributes:
        run_at: of each row.
        valid_at: likewise.
        available_at: when the row arrived.
        values: by name of a column.
        parts: of the runs.
    """

    run_at: TimeArray
    valid_at: TimeArray
    available_at: TimeArray
    values: dict[str, FloatArray]
    parts: Parts

    @classmethod
    def none(cls, names: Iterable[str]) -> Runs:
        """No run; it has columns of these names."""
        times = np.array([], dtype="datetime64[us]")
        return cls(times, times, times, {name: np.zeros(0) for name in names}, Parts(times, times, times))


def runs_of(weather: pd.DataFrame, names: Iterable[str] = ()) -> dict[str, dict[str, Runs]]:
    """Runs by farm and weather model, both in order of their names.

    Args:
        weather: rows of contract `Weather`, of one point per farm and model.
        names: columns of values that are kept, of those that there are.
    """
    if weather.empty:
        return {}
    key = ["farm_id", "weather_model"]
    source = weather.groupby(key, sort=True).ngroup().to_numpy()
    names_of = weather[key].drop_duplicates().sort_values(key).to_numpy()
    run_at, valid_at, available_at = (naive(weather[name]) for name in ("run_at", "valid_at", "available_at"))
    # Once for all farms: sorting and grouping each farm's rows took longer than reading them.
    order = np.lexsort((available_at, valid_at, run_at, source))
    values = {name: weather[name].to_numpy(float) for name in names if name in weather}
    parts, part_source = _parts(source, run_at, valid_at, available_at)
    sources = np.arange(len(names_of) + 1)
    bounds, part_bounds = np.searchsorted(source[order], sources), np.searchsorted(part_source, sources)
    found: dict[str, dict[str, Runs]] = {}
    for (farm_id, model), rows, own in zip(names_of, pairwise(bounds), pairwise(part_bounds), strict=True):
        of_rows, of_parts = slice(*rows), slice(*own)
        found.setdefault(str(farm_id), {})[str(model)] = Runs(
            run_at[order[of_rows]],
            valid_at[order[of_rows]],
            available_at[order[of_rows]],
            values={name: column[order[of_rows]] for name, column in values.items()},
            parts=Parts(parts.run_at[of_parts], parts.arrived_at[of_parts], parts.reach[of_parts]),
        )
    return found


def _parts(
    source: NDArray[np.integer], run_at: TimeArray, valid_at: TimeArray, available_at: TimeArray
) -> tuple[Parts, NDArray[np.integer]]:
    """Parts of the runs of several sources, source by source, and the source of each."""
    order = np.lexsort((valid_at, available_at, run_at, source))
    source, run_at, valid_at, available_at = source[order], run_at[order], valid_at[order], available_at[order]
    new_run = (source[1:] != source[:-1]) | (run_at[1:] != run_at[:-1])
    last = np.append(new_run | (available_at[1:] != available_at[:-1]), True)
    run = np.cumsum(np.append(0, new_run))[last]
    reach = pd.Series(valid_at[last]).groupby(run).cummax().to_numpy()
    source, run_at, arrived_at = source[last], run_at[last], available_at[last]
    order = np.lexsort((run_at, arrived_at, source))
    return Parts(run_at[order], arrived_at[order], reach[order]), source[order]


@dataclass(frozen=True)
class ReadRuns:
    """The runs that issues read, as stretches end to end on one axis of minutes, so that all are read in one step.

    Attributes:
        rows: rows of `Runs` that are read, stretch by stretch.
        axis: position of each on the axis: minutes since its run began, plus the offset of its stretch.
        stretch: offset of the stretch of each issue; NaN if it reads no run.
        run_minutes: ``run_at`` of each issue's run, minutes since 1970.
        first: first time of each issue's stretch, minutes since the run began.
        last: last time, likewise.
        last_place: index of the last time among ``rows``.
    """

    rows: NDArray[np.int64]
    axis: FloatArray
    stretch: FloatArray
    run_minutes: FloatArray
    first: FloatArray
    last: FloatArray
    last_place: NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Positions of times between rows of runs: ``before``, ``after``, and the share of the way to the latter."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    towards_after: FloatArray
    known: NDArray[np.bool_]

    def read(self, values: FloatArray) -> FloatArray:
        """Linear interpolation of the rows' values; missing outside the run and next to a missing value."""
        if not len(values):
            return np.full(self.known.shape, np.nan)
        low = values[self.before]
        found = np.where(self.towards_after == 0, low, low + self.towards_after * (values[self.after] - low))
        return np.where(self.known, found, np.nan)


def run_to_read(
    parts: Parts, issued_at: TimeArray, until: TimeArray, before: TimeArray | None = None
) -> tuple[TimeArray, TimeArray]:
    """For each issue time the run to read, and how much of it: its ``run_at``, and when its last part known then arrived.

    Runs come late, in parts, or break off; what is still to come is not known at the issue time. So of what had arrived by then
    the newest run that reaches ``until`` counts; where none does, the one that reaches furthest, but none that ended before the
    issue. NaT where there is none. With ``before``, only runs before that of each issue count (NaT: all).
    """
    chosen_run, chosen_part = (np.full(issued_at.shape, np.datetime64("NaT"), dtype="datetime64[us]") for _ in range(2))
    run_at, arrived_at, reach = parts.run_at, parts.arrived_at, parts.reach
    if not len(run_at):
        return chosen_run, chosen_part
    # What arrived longer ago than any run reaches ahead ended before the issue.
    starts = np.searchsorted(arrived_at, issued_at - (reach - arrived_at).max())
    ends = np.searchsorted(arrived_at, issued_at, side="right")
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        places = start + np.flatnonzero(reach[start:end] >= issued_at[number])
        if before is not None and not np.isnat(before[number]):
            places = places[run_at[places] < before[number]]
        if len(places):
            enough = np.minimum(reach[places], until[number])
            best = places[np.lexsort((arrived_at[places], run_at[places], enough))[-1]]
            chosen_run[number], chosen_part[number] = run_at[best], arrived_at[best]
    return chosen_run, chosen_part


def lay_out(table: Runs, run_at: TimeArray, arrived_at: TimeArray) -> ReadRuns:
    """Lay the chosen parts of runs end to end.

    Args:
        table: the runs.
        run_at: for each issue the run that it reads; NaT: none.
        arrived_at: for each issue when the last part of it that it knows arrived.
    """
    runs, arrivals, at = table.run_at, table.available_at, minutes(table.valid_at)
    known = ~np.isnat(run_at)
    # One stretch for each run and part of it that any issue reads.
    pairs, stretch_of = np.unique(
        np.stack([run_at[known], arrived_at[known]], axis=1).astype("int64"), axis=0, return_inverse=True
    )
    began, part = pairs[:, 0].astype("datetime64[us]"), pairs[:, 1].astype("datetime64[us]")
    starts = np.searchsorted(runs, began)
    counts = np.searchsorted(runs, began, side="right") - starts
    stretch = np.repeat(np.arange(len(pairs)), counts)
    rows = np.arange(len(stretch)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    arrived = arrivals[rows] <= part[stretch]
    rows, stretch = rows[arrived], stretch[arrived]
    # Versions of a time lie next to each other, oldest first: the last that had arrived counts.
    newest = np.append((at[rows][1:] != at[rows][:-1]) | (stretch[1:] != stretch[:-1]), True)[: len(rows)]
    rows, stretch = rows[newest], stretch[newest]
    ends = np.cumsum(np.bincount(stretch, minlength=len(pairs)))
    lengths = np.diff(ends, prepend=0)
    since = at[rows] - minutes(began)[stretch]
    # Stretches are wider than any run, so that none reaches into the next.
    width = 2 * float(np.abs(since).max() + 1) if len(since) else 1.0
    number = np.full(len(run_at), -1, dtype=np.int64)
    number[known] = stretch_of.ravel()
    if not len(pairs):
        nowhere = np.zeros(len(run_at), dtype=np.int64)
        missing = np.full(len(run_at), np.nan)
        return ReadRuns(rows, since, missing, missing, missing, missing, nowhere)
    first_place, last_place = (ends - lengths)[number], (ends - 1)[number]
    return ReadRuns(
        rows=rows,
        axis=since + stretch * width,
        stretch=np.where(known, number * width, np.nan),
        run_minutes=np.where(known, minutes(run_at), np.nan),
        first=np.where(known, since[first_place], np.nan),
        last=np.where(known, since[last_place], np.nan),
        last_place=last_place,
    )


def places(read: ReadRuns, when: FloatArray, edge_minutes: float = 0.0) -> Places:
    """Positions of times in the runs that their issues read.

    Args:
        read: the runs.
        when: minutes since 1970, one row an issue.
        edge_minutes: so far beyond its first and last time, a run's outermost value holds.
    """
    since = when - read.run_minutes[:, None]
    first, last = read.first[:, None], read.last[:, None]
    known = (since >= first - edge_minutes) & (since <= last + edge_minutes)
    if not len(read.axis):
        nowhere = np.zeros(when.shape, dtype=np.int64)
        return Places(nowhere, nowhere, np.zeros(when.shape), np.zeros(when.shape, dtype=bool))
    x = np.where(known, np.clip(since, first, last) + read.stretch[:, None], read.axis[0])
    before = np.searchsorted(read.axis, x, side="right") - 1
    after = np.minimum(before + 1, np.where(known, read.last_place[:, None], 0))
    gap = read.axis[after] - read.axis[before]
    towards = np.divide(x - read.axis[before], gap, out=np.zeros(when.shape), where=gap > 0)
    return Places(before, after, towards, known)
