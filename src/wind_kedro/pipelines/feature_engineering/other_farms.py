"""Other farms' weather: which points are used, and which point explained an entity's power best until then.

Fits are made at the beginning of every month with what was known then, and hold for the issues of the month.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.dated import spans
from wind_kedro.pipelines.feature_engineering.arrays import FloatArray, TimeArray, looked_up, naive
from wind_kedro.pipelines.feature_engineering.settings import BestPoint
from wind_kedro.pipelines.feature_engineering.winds import SPEED, Grid, U, V


def other_farms(entity_id: str, fleet: Fleet, most: int) -> list[tuple[np.datetime64, list[str]]]:
    """The farms whose points are looked at beside an entity's own: the nearest first, in order of cards where places are unknown.

    Beside a group's mean its own farms are looked at first. A farm with a period is looked at only for issues in it.

    Returns:
        From when on, UTC without zone, and the farms from then on, at most ``most``; the first apply from the beginning of time.
    """
    periods = {farm.id: farm.period(farm.time_zone) for farm in fleet.farms if farm.dated}
    found: list[tuple[np.datetime64, list[str]]] = []
    for since, until, own in spans(fleet.versions_of(entity_id)):
        ranked = _ranked(own, fleet)
        changes = {time for period in periods.values() for time in period if since < time < until}
        for time in sorted({since, *changes}):
            there = (farm for farm in ranked if farm not in periods or periods[farm][0] <= time < periods[farm][1])
            chosen = list(islice(there, most))
            if not found or found[-1][1] != chosen:
                found.append((time, chosen))
    return found


def _ranked(own: Sequence[Farm], fleet: Fleet) -> list[str]:
    members = [farm.id for farm in own]
    others = [farm for farm in fleet.farms if farm.id not in members]

    def distance_km(farm: Farm) -> float:
        return min((apart for one in own if (apart := farm.distance_km(one)) is not None), default=float("inf"))

    # Sorting is stable: of equals, and of those whose place is not known, the order of cards holds.
    others = sorted(others, key=distance_km)
    return [*(members if len(members) > 1 else []), *(farm.id for farm in others)]


@dataclass(frozen=True)
class Outcomes:
    """Observed power of each interval of a grid, in its first version: share of available capacity, and when it was known.

    Arrays of shape (issues, leads): NaN and NaT where nothing is known yet.
    """

    share: FloatArray
    known_at: TimeArray


def first_outcomes(grid: Grid, observations: pd.DataFrame) -> Outcomes:
    """The first version of the observed power, on the grid; imputed intervals are missing."""
    came = observations[observations["imputed_share"] == 0]
    first = came.sort_values(["valid_at", "available_at"], kind="stable").drop_duplicates("valid_at")
    if first.empty:
        missing = np.full(grid.valid_at.shape, np.nan)
        return Outcomes(missing, missing.astype("datetime64[us]"))
    at = naive(first["valid_at"])
    shares = (first["power_kw"] / first["available_capacity_kw"]).to_numpy(float)
    known_at = looked_up(grid.valid_at, at, naive(first["available_at"])).astype("datetime64[us]")
    return Outcomes(looked_up(grid.valid_at, at, shares), known_at)


def months_of(issued_at: TimeArray) -> tuple[TimeArray, NDArray[np.intp]]:
    """The beginnings of the months of issues, ascending, and the index of the month of each issue."""
    months, place = np.unique(issued_at.astype("datetime64[M]"), return_inverse=True)
    return months.astype("datetime64[us]"), place


def best_points(
    own: FloatArray, others: Mapping[str, FloatArray], outcomes: Outcomes, grid: Grid, settings: BestPoint
) -> NDArray[np.intp]:
    """For each issue the point whose wind explained the power best until its month began: 0 the own, n the n-th other.

    Best is the greatest correlation of power with wind speed over all forecasts whose outcome was known by then. Another point
    must be better by ``margin``, and both must be known for ``min_hours``.

    Args:
        own: wind speed at the own point, on the grid.
        others: wind speed at the others, by farm.
        outcomes: observed power.
        grid: issues and intervals.
        settings: see `BestPoint`.
    """
    months, month = months_of(grid.issued_at)
    speeds = np.stack([own, *others.values()])
    known = ~np.isnan(outcomes.share)
    order = np.argsort(outcomes.known_at[known], kind="stable")
    when = outcomes.known_at[known][order]
    y = outcomes.share[known][order]
    x = speeds[:, known][:, order]
    there = ~np.isnan(x)
    filled = np.where(there, x, 0.0)
    # Sums over all that was known by each month's beginning; what is known later adds behind, and changes nothing before.
    ends = np.searchsorted(when, months, side="right")

    def until(values: FloatArray) -> FloatArray:
        running = np.cumsum(values, axis=-1)
        summed: FloatArray = np.concatenate([np.zeros((*values.shape[:-1], 1)), running], axis=-1)[..., ends]
        return summed

    n, sx, sy, sxx, syy, sxy = map(until, (there.astype(float), filled, there * y, filled**2, there * y**2, filled * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        fit = (n * sxy - sx * sy) / np.sqrt((n * sxx - sx**2) * (n * syy - sy**2))
    hours = n * grid.step_minutes / 60
    fit = np.where((hours >= settings.min_hours) & np.isfinite(fit), fit, -np.inf)
    # Without its own fit to compare with, nothing is known of the others' either.
    better = (fit[1:] > fit[0] + settings.margin) & np.isfinite(fit[0])
    rivals = np.where(better, fit[1:], -np.inf)
    if not len(rivals):
        return np.zeros(len(month), dtype=np.int64)
    best = np.where(better.any(axis=0), rivals.argmax(axis=0) + 1, 0)
    chosen: NDArray[np.intp] = best[month]
    return chosen


def at_best_point(
    own: Mapping[str, FloatArray], others: Mapping[str, Mapping[str, FloatArray]], best: NDArray[np.intp]
) -> dict[str, FloatArray]:
    """Wind at the best point of each issue; where that one is missing, at the own point."""
    found = {}
    for name in (SPEED, U, V):
        stacked = np.stack([own[name], *(other[name] for other in others.values())])
        chosen = np.take_along_axis(stacked, best[None, :, None], axis=0)[0]
        found[name] = np.where(np.isnan(chosen), own[name], chosen)
    return found


def expected_share(
    own: FloatArray, others: Mapping[str, FloatArray], best: NDArray[np.intp], outcomes: Outcomes, grid: Grid, settings: BestPoint
) -> FloatArray:
    """Mean power at equal wind at the best point (``best``, see `best_points`), known at the beginning of an issue's month.

    The method of bins of IEC 61400-12-1 with forecast instead of measured wind, interpolated linearly between the middles of
    bins; missing before anything is known. Arrays and arguments as in `best_points`.
    """
    months, month = months_of(grid.issued_at)
    speeds = np.stack([own, *others.values()])
    result = np.full(own.shape, np.nan)
    for place, begins in enumerate(months):
        issues = np.flatnonzero(month == place)
        speed = speeds[best[issues[0]]]  # of a month there is one
        known = ~np.isnan(outcomes.share) & (outcomes.known_at <= begins) & ~np.isnan(speed)
        if not known.any():
            continue
        number = np.floor(speed[known] / settings.bin_width_ms).astype(np.int64)
        rows = np.bincount(number)
        filled = np.flatnonzero(rows)
        means = np.bincount(number, weights=outcomes.share[known])[filled] / rows[filled]
        found = np.interp(speed[issues], (filled + 0.5) * settings.bin_width_ms, means)
        result[issues] = np.where(np.isnan(speed[issues]), np.nan, found)
    return result


def errors_by_interval(expected: FloatArray, grid: Grid) -> pd.DataFrame:
    """One row per interval: the power expected by the last issue before it began (``valid_at`` naive, ascending)."""
    begun = grid.valid_at >= grid.issued_at[:, None]
    issued_at = np.broadcast_to(grid.issued_at[:, None], grid.valid_at.shape)[begun]
    table = pd.DataFrame({"valid_at": grid.valid_at[begun], "issued_at": issued_at, "expected": expected[begun]})
    table = table[table["expected"].notna()].sort_values(["valid_at", "issued_at"], kind="stable")
    return table.drop_duplicates("valid_at", keep="last")[["valid_at", "expected"]]
