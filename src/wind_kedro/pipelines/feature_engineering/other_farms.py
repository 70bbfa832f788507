"""Other farms' weather: which points are used, and which point explained an entity's power best until then.

Fits are made at the beginning of every month with what was known then, and hold for the issues of the month. They follow from
sums by month, so that a new month reads the sums of the earlier ones, not their forecasts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.dated import spans
from wind_kedro.cards.units import great_circle_km
from wind_kedro.pipelines.feature_engineering.arrays import FloatArray, TimeArray, looked_up, naive
from wind_kedro.pipelines.feature_engineering.settings import BestPoint
from wind_kedro.pipelines.feature_engineering.winds import SPEED, Grid, U, V

#: Stands for an entity's own point among the points of farms.
OWN = ""


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
    at = fleet.places[[farm.id in members for farm in fleet.farms]]
    with np.errstate(invalid="ignore"):
        apart = great_circle_km(*at.T[:, :, None], *fleet.places.T)
    # Of equals, and of those whose place is not known, the order of cards holds.
    order = np.argsort(np.fmin.reduce(apart, axis=0, initial=np.inf), kind="stable")
    ranked = [fleet.farms[place].id for place in order]
    return [*(members if len(members) > 1 else []), *(farm_id for farm_id in ranked if farm_id not in members)]


@dataclass(frozen=True)
class Outcomes:
    """Observed power of each interval of a grid, in its first version: share of available capacity, and when it was known.

    Arrays of shape (issues, leads): NaN and NaT where nothing is known yet.
    """

    share: FloatArray
    known_at: TimeArray


def first_outcomes(grid: Grid, observations: pd.DataFrame) -> Outcomes:
    """The first version of the observed power, on the grid; imputed intervals are missing, and those known at the issue."""
    came = observations[observations["imputed_share"] == 0]
    first = came.sort_values(["valid_at", "available_at"], kind="stable").drop_duplicates("valid_at")
    if first.empty:
        missing = np.full(grid.valid_at.shape, np.nan)
        return Outcomes(missing, missing.astype("datetime64[us]"))
    at = naive(first["valid_at"])
    shares = (first["power_kw"] / first["available_capacity_kw"]).to_numpy(float)
    known_at = looked_up(grid.valid_at, at, naive(first["available_at"])).astype("datetime64[us]")
    ahead = known_at > grid.issued_at[:, None]
    return Outcomes(np.where(ahead, looked_up(grid.valid_at, at, shares), np.nan), known_at)


def month_of(times: TimeArray) -> TimeArray:
    """The beginning of the month of each time."""
    months: TimeArray = times.astype("datetime64[M]").astype("datetime64[us]")
    return months


def outcome_sums(speeds: Mapping[str, FloatArray], outcomes: Outcomes, bin_width_ms: float) -> pd.DataFrame:
    """Sums over forecast intervals from which correlations of power with wind and power curves follow.

    Args:
        speeds: wind speed by point, m/s, on the grid of the outcomes.
        outcomes: observed power.
        bin_width_ms: width of a bin of wind speed.

    Returns:
        One row per ``month_begin`` of the month in which outcomes became known, ``point`` and ``bin``: number of intervals ``n``,
        and sums of wind, share of power, their squares and their product. An outcome known just when a month begins is of the
        month before.
    """
    known = ~np.isnan(outcomes.share)
    y = outcomes.share[known]
    months, month = np.unique(month_of(outcomes.known_at[known] - np.timedelta64(1, "us")), return_inverse=True)
    parts = []
    for point, speed in speeds.items():
        there = ~np.isnan(speed[known])
        x, share = speed[known][there], y[there]
        bins = np.floor(x / bin_width_ms).astype(np.int64)
        width = int(bins.max(initial=-1)) + 1
        place = month[there] * width + bins
        sums = {
            "n": np.ones(len(x)),
            "wind": x,
            "share": share,
            "wind_wind": x**2,
            "share_share": share**2,
            "wind_share": x * share,
        }
        filled = np.unique(place)
        found = {name: np.bincount(place, weights=values)[filled] for name, values in sums.items()}
        if len(filled):
            at = {"month_begin": months[filled // width], "point": point, "bin": filled % width}
            parts.append(pd.DataFrame(at | found))
    columns = ["month_begin", "point", "bin", "n", "wind", "share", "wind_wind", "share_share", "wind_share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def fit_months(sums: pd.DataFrame, months: Collection[pd.Timestamp], step_minutes: int, settings: BestPoint) -> pd.DataFrame:
    """What was known at the beginning of months of the points that explain the power of entities.

    The power curve is the method of bins of IEC 61400-12-1 with forecast instead of measured wind.

    Args:
        sums: see `outcome_sums`, with ``entity_id``.
        months: their beginnings.
        step_minutes: length of an interval.
        settings: see `BestPoint`.

    Returns:
        One row per ``fitted_at`` (the beginning of a month), ``entity_id``, ``point`` and bin of wind speed with any interval:
        ``wind_speed_ms`` (its middle), ``power_share`` (its mean), and ``correlation`` of power with the wind of the point;
        missing: less than ``min_hours`` are known.
        Of the own point, and of others that correlate better by ``margin``.
    """
    key, values = ["entity_id", "point", "bin"], ["n", "wind", "share", "wind_wind", "share_share", "wind_share"]
    running, parts = sums.iloc[:0][[*key, *values]], []
    rest: dict[Any, pd.DataFrame] = dict(iter(sums.groupby("month_begin")))
    for begin in sorted({*rest, *months}):
        if begin in months:
            parts.append(_fitted(running.set_index(key), step_minutes, settings).assign(fitted_at=begin))
        if begin in rest:  # always in this order, so that equal months give equal sums
            running = pd.concat([running, rest[begin][[*key, *values]]]).groupby(key, as_index=False, sort=True)[values].sum()
    columns = ["fitted_at", "entity_id", "point", "wind_speed_ms", "power_share", "correlation"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _fitted(sums: pd.DataFrame, step_minutes: int, settings: BestPoint) -> pd.DataFrame:
    totals = sums.groupby(["entity_id", "point"]).sum()
    n, x, y, xx, yy, xy = (totals[name].to_numpy(float) for name in sums.columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (n * xy - x * y) / np.sqrt((n * xx - x**2) * (n * yy - y**2))
    enough = (n * step_minutes / 60 >= settings.min_hours) & np.isfinite(found)
    totals["correlation"] = np.where(enough, found, np.nan)
    # Without its own fit to compare with, nothing is known of the others' either.
    entities, is_own = totals.index.get_level_values("entity_id"), totals.index.get_level_values("point") == OWN
    own = totals["correlation"][is_own].droplevel("point").reindex(entities).to_numpy(float)
    better = totals["correlation"].to_numpy(float) > own + settings.margin
    kept = totals.loc[better | is_own, "correlation"]
    curve = sums.assign(
        power_share=sums["share"] / sums["n"],
        wind_speed_ms=(sums.index.get_level_values("bin").to_numpy(float) + 0.5) * settings.bin_width_ms,
    )
    return curve.join(kept, how="inner").reset_index()


@dataclass(frozen=True)
class MonthFit:
    """What issues of a month use.

    Attributes:
        point: 0 the own point, n the n-th other.
        wind_speed_ms: middles of the bins of the power curve of its wind, rising.
        power_share: mean power in each; empty: nothing was known.
    """

    point: int = 0
    wind_speed_ms: FloatArray = field(default_factory=lambda: np.zeros(0))
    power_share: FloatArray = field(default_factory=lambda: np.zeros(0))


def best_of_months(fits: pd.DataFrame, others: Sequence[str]) -> dict[np.datetime64, MonthFit]:
    """By beginning of a month the point whose wind explained the power best until then, and the power curve of its wind.

    Args:
        fits: see `fit_months`, of one entity.
        others: the other farms that are looked at, nearest first.
    """
    found = {}
    for month, rows in fits.groupby("fitted_at"):
        by_point = rows.drop_duplicates("point").set_index("point")["correlation"]
        rivals = [other for other in others if other in by_point.index]
        best = max(rivals, key=lambda other: by_point[other], default=OWN)
        curve = rows[rows["point"] == best].sort_values("wind_speed_ms")
        place = others.index(best) + 1 if best != OWN else 0
        begin = pd.Timestamp(str(month)).tz_localize(None).to_datetime64().astype("datetime64[us]")
        found[begin] = MonthFit(place, curve["wind_speed_ms"].to_numpy(float), curve["power_share"].to_numpy(float))
    return found


def best_points(issued_at: TimeArray, fits: Mapping[np.datetime64, MonthFit]) -> NDArray[np.intp]:
    """The best point of each issue; see `MonthFit`."""
    return np.array([fits.get(month, MonthFit()).point for month in month_of(issued_at)], dtype=np.intp)


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


def expected_share(speeds: FloatArray, grid: Grid, fits: Mapping[np.datetime64, MonthFit]) -> FloatArray:
    """Mean power at equal wind at the best point, known at the beginning of an issue's month; missing before anything is known.

    Args:
        speeds: wind speed at the own point and the others, shape (points, issues, leads).
        grid: issues and intervals.
        fits: by beginning of a month; the curve is interpolated linearly between the middles of bins.
    """
    result = np.full(grid.valid_at.shape, np.nan)
    months = month_of(grid.issued_at)
    for month in np.unique(months):
        fit = fits.get(month, MonthFit())
        if len(fit.power_share):
            issues = months == month
            speed = speeds[fit.point][issues]
            found = np.interp(speed, fit.wind_speed_ms, fit.power_share)
            result[issues] = np.where(np.isnan(speed), np.nan, found)
    return result


def errors_by_interval(expected: FloatArray, grid: Grid) -> tuple[TimeArray, FloatArray]:
    """The intervals with a value, rising, and the power expected of each by the last issue before it began."""
    known = (grid.valid_at >= grid.issued_at[:, None]) & ~np.isnan(expected)
    valid_at, issued_at = grid.valid_at[known], np.broadcast_to(grid.issued_at[:, None], grid.valid_at.shape)[known]
    order = np.lexsort((issued_at, valid_at))
    valid_at, values = valid_at[order], expected[known][order]
    last = np.append(valid_at[1:] != valid_at[:-1], True)[: len(valid_at)]
    return valid_at[last], values[last]
