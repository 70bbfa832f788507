"""Calibration of farm clocks: the reading of time stamps under which wind speed correlates best with the weather.

Signals and weather describe the same wind, so the lag of the highest correlation is the error of the clock (OpenOA's examples
check it by eye). Every calibration is fitted to the data available by then, and applies to data that arrives later.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import ClockCalibration
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS, statistics_of
from wind_kedro.pipelines.data_engineering.settings import ClockSearch, DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, naive, pearson
from wind_kedro.pipelines.data_engineering.timestamps.clock_sums import (
    WEEK_MINUTES,
    Weeks,
    compared_seconds,
    first_calibrations,
    lags_of,
    sum_weeks,
    weeks_of,
    wind_by_block,
)
from wind_kedro.storage.fingerprints import Recipe, around, mixed, of_cards

Floats = NDArray[np.float64]
#: Change it when the calibrations change that the same sums give.
VERSION = 1
_WEEK_HOURS = 7 * 24
#: Blocks are read that begin this long before the weeks that are compared.
_BEFORE_WINDOW = pd.Timedelta(days=31)
#: Minimum number of hours of a period that is compared: half a week.
_MIN_WEEK_HOURS = _WEEK_HOURS / 2
#: Minimum numbers of weeks before and after a jump, including the current one. Weather can be an hour and a half late for three
#: weeks (La Haute Borne, November 2014).
_WEEKS_BEFORE_A_JUMP, _WEEKS_AFTER_A_JUMP = 5, 5
#: Weight of the prior of weekly noise, weeks.
_USUAL_WEEKS = 4
#: Standard deviation of a normal distribution in units of its median absolute deviation.
_NORMAL_MEDIAN = 1.4826
#: Cost of a peak beyond the range of lags, nats: more than any peak within it.
_BEYOND = 1000.0
#: Minimum number of standard errors of a significant offset.
_SURE = 2.5
_MIN_SHARE_OF_HOURS = 0.5
_ENOUGH_FOR_PEARSON = 3
_READING = ["farm_id", "fitted_at", "reading"]


def derive_clock_calibration(
    parsed_signals: Derived,
    clock_sums: Derived,
    clock_calibration_before: Derived,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Recipe:
    """Calibrate clocks (`calibrate_clocks`) from the sums of each calibration: one shard per farm and calibration.

    A calibration depends on the sums of all before it. Only those of the window compared are read; the reading in force is that
    of the calibration before.
    """
    search = data_engineering.clock_search
    firsts = first_calibrations(parsed_signals.days, search)
    blocks = _with_windows(clock_sums.days, firsts[firsts <= pd.Timestamp(clock.as_of).tz_localize(None)], search)
    digests = pd.Series(mixed(blocks["digest"], blocks["day"]), index=blocks.index).groupby(blocks["farm_id"]).cumsum()
    cards = {farm.id: [farm.signals.clock, farm.signals.cadence_seconds] for farm in fleet.farms}
    step = of_cards(cards, VERSION, search)[blocks["farm_id"]].to_numpy()
    wanted = blocks[["farm_id", "day", "rows"]].assign(step=step, fingerprint=mixed(digests, step))
    readings: dict[tuple[str, pd.Timestamp], str] = {}

    def work(part: pd.DataFrame) -> pd.DataFrame:
        if not readings:
            before = naive(clock_calibration_before.frame(), ["fitted_at"])
            readings.update({(farm, at): reading for farm, at, reading in before[_READING].itertuples(index=False)})
        asked = blocks.merge(part[["farm_id", "day"]], on=["farm_id", "day"])
        near = blocks[blocks["farm_id"].isin(asked["farm_id"]) & blocks["day"].between(asked["since"].min(), asked["day"].max())]
        sums = clock_sums.shards(near[["farm_id", "day"]]).to_pandas()
        rows: list[dict[str, Any]] = []
        for farm_id, own in asked.groupby("farm_id", sort=True):
            farm = fleet.farm(str(farm_id))
            previous = blocks[(blocks["farm_id"] == farm_id) & (blocks["day"] < own["day"].min())]["day"].max()
            in_force = readings.get((farm.id, previous), farm.signals.clock)
            found = _calibrate(farm, own, sums[sums["farm_id"] == farm_id], in_force, search)
            readings.update({(farm.id, row["fitted_at"]): row["reading"] for row in found})
            rows += found
        return ClockCalibration.table(rows)

    return Recipe(wanted, work)


def _with_windows(sums: pd.DataFrame, firsts: pd.Series, search: ClockSearch) -> pd.DataFrame:
    """Calibrations in order: ``farm_id``, ``day``, ``digest``, ``rows``, and ``since``, from which on blocks are read.

    Args:
        sums: shards of sums, with the statistic ``last_week``.
        firsts: first calibrations by farm, which are made also where nothing can be compared.
        search: length of the window.
    """
    begun = pd.DataFrame({"farm_id": firsts.index.astype("str"), "day": firsts.to_numpy(), "digest": np.uint64(0), "rows": 0})
    known = sums[(sums["rows"] > 0) & sums["farm_id"].isin(firsts.index)]
    blocks = around(pd.concat([begun, known[list(begun)]], ignore_index=True), ["farm_id"])
    blocks = blocks.merge(known[["farm_id", "day", "last_week"]], on=["farm_id", "day"], how="left")
    blocks = blocks.sort_values(["farm_id", "day"], ignore_index=True)
    newest: pd.Series = blocks["last_week"].astype("float64").groupby(blocks["farm_id"]).cummax()
    newest = newest.groupby(blocks["farm_id"]).ffill()
    window = pd.Timedelta(days=search.window_days) + _BEFORE_WINDOW
    weeks = pd.to_timedelta((newest * WEEK_MINUTES).tolist(), unit="m").to_numpy().astype("timedelta64[us]")
    since = pd.Series(np.datetime64(0, "us") + weeks, index=blocks.index) - window
    return blocks.assign(since=since.fillna(blocks["day"]))


def calibrate_clocks(
    parsed_signals: Table,
    weather: pd.DataFrame,
    suspected_units: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> pd.DataFrame:
    """Find the reading of time stamps that fits the weather best, for every farm and calibration time.

    One row per farm and calibration (contract `ClockCalibration`). The first calibration is at the midnight after
    ``min_history_days`` distinct days have arrived (or twice that time has passed), then on the first of every month in which
    rows had arrived. A row is used from the first calibration after its arrival under any reading, and is compared with the
    newest weather available at that calibration, so that data that arrives later never changes a calibration.

    Signals and weather are compared by week at every lag, under each reading. The explanation with the highest posterior is
    used: a reading, a constant offset (the same in winter and summer time, unlike the error of a wrong reading), and a change of
    either since some week. Costs are negative log-likelihoods in nats: the noise of offsets is estimated from single weeks, the
    weather itself is off by ``weather_noise_minutes``, and the priors are ``false_reading_odds`` of the card, ``shift_odds`` and
    ``jump_odds`` of the clock.

    ``offset_minutes`` is the remaining offset under the chosen reading, since ``jumped_at`` if the clock has jumped, with its
    standard error ``noise_minutes``. ``shifted`` is set if it is at least ``shift_minutes`` and significant; it is reported, not
    corrected. Before the first clock change the readings differ by a constant, so that a wrong reading cannot be distinguished
    from a clock that is off by this constant; the wrong reading is more likely. With too few hours or too little correlation,
    the reading in force is kept, ``correlation`` is null and the evidence gives the reason.

    Wind in a suspected unit (contract `SuspectedUnits`) is excluded once that is found; ``weather`` is of contract `Weather`.
    """
    search = data_engineering.clock_search
    as_of = clock.as_of.replace(tzinfo=None)
    firsts = first_calibrations(statistics_of(parsed_signals), search)
    means = wind_by_block(parsed_signals, firsts, naive(suspected_units, ["since", "found_at", "until"]), fleet)
    wind = means.filter(means.block <= ibis.literal(as_of, "timestamp")).to_pandas()
    sums = sum_weeks(wind, weather, fleet, search).to_pandas()
    shards = sums.groupby(["farm_id", "block"], as_index=False).agg(last_week=("week", "max"), rows=("farm_id", "size"))
    shards = shards.rename(columns={"block": "day"}).assign(digest=np.uint64(0))
    blocks = _with_windows(shards, firsts[firsts <= as_of], search)
    rows: list[dict[str, Any]] = []
    for farm_id, own in blocks.groupby("farm_id", sort=True):
        farm = fleet.farm(str(farm_id))
        rows += _calibrate(farm, own, sums[sums["farm_id"] == farm_id], farm.signals.clock, search)
    return ClockCalibration.table(rows)


# --- one farm ---------------------------------------------------------------------------------------------------------


def _calibrate(farm: Farm, blocks: pd.DataFrame, sums: pd.DataFrame, in_force: str, search: ClockSearch) -> list[dict[str, Any]]:
    """Calibrations of a farm at ``day``, each from the sums of blocks from ``since`` on."""
    lags, step = lags_of(farm, search), compared_seconds(farm) / 60
    rows = []
    for day, since in zip(blocks["day"], blocks["since"], strict=True):
        weeks = weeks_of(sums[sums["block"].between(since, day)], farm, search)
        row = {"farm_id": farm.id, "fitted_at": day} | _decide(farm, in_force, weeks, lags, step, search)
        in_force = row["reading"]
        rows.append(row | {"assumed": farm.signals.clock, "agrees": in_force == farm.signals.clock})
    return rows


@dataclass(frozen=True)
class _Peaks:
    """Peaks of the correlation of signals and weather: arrays of one shape."""

    offset_minutes: Floats
    correlation: Floats
    at_zero: Floats
    hours: Floats


@dataclass(frozen=True)
class _Stretch:
    """A period with one clock, by reading (first axis): cost in nats (see `calibrate_clocks`), offset and its standard error."""

    cost: Floats
    offset_minutes: Floats
    noise_minutes: Floats
    peaks: _Peaks  # by part


def _peaks(sums: Floats, lags: Floats, cadence: float) -> _Peaks:
    """Peaks of the correlation from sums of shape (…, 6, lag); missing without data to compare."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -2, 0)
    correlations = np.where(n >= _ENOUGH_FOR_PEARSON, pearson(n, x, y, xx, yy, xy), np.nan)
    none = np.isnan(correlations).all(axis=-1)
    best = np.where(np.isnan(correlations), -np.inf, correlations).argmax(axis=-1)
    inner = best.clip(1, len(lags) - 2)

    def at(place: Any) -> Floats:
        value: Floats = np.take_along_axis(correlations, place[..., None], axis=-1)[..., 0]
        return value

    before, middle, after = at(inner - 1), at(inner), at(inner + 1)
    bend = before - 2 * middle + after
    # Vertex of the parabola through the three points around the peak.
    with np.errstate(invalid="ignore", divide="ignore"):
        vertex = 0.5 * (before - after) / bend * (lags[1] - lags[0])
    offset = lags[best] + np.where((best == inner) & (bend < 0), vertex, 0.0)
    zero = len(lags) // 2
    hours = sums[..., 0, zero] * cadence / 60
    return _Peaks(np.where(none, np.nan, offset), at(best), correlations[..., zero], hours)


def _weekly_noise(sums: Floats, lags: Floats, cadence: float, search: ClockSearch) -> float:
    """Standard deviation of the offset of a single week, minutes, under the reading that fits best.

    Estimated from the median of differences between consecutive weeks, as a clock that jumps causes only one large difference.
    The prior has the weight of ``_USUAL_WEEKS`` weeks.

    Args:
        sums: (reading, week, part, 6, lag).
        lags: minutes.
        cadence: minutes.
        search: the parameters.
    """
    likeliest = int(np.nan_to_num(_peaks(sums.sum(axis=(1, 2)), lags, cadence).correlation).argmax())
    peaks = _peaks(sums[likeliest], lags, cadence)
    whole = np.where(peaks.hours >= _MIN_WEEK_HOURS, peaks.offset_minutes, np.nan)
    steps = np.diff(whole, axis=0).ravel()
    steps = np.abs(steps[np.isfinite(steps)])
    usual = search.weekly_noise_minutes
    if not steps.size:
        return usual
    seen = _NORMAL_MEDIAN * float(np.median(steps)) / math.sqrt(2)
    return math.sqrt((_USUAL_WEEKS * usual**2 + steps.size * seen**2) / (_USUAL_WEEKS + steps.size))


def _stretch(sums: Floats, noise: float, lags: Floats, cadence: float, search: ClockSearch) -> _Stretch:
    """Cost of a period by reading: (reading, …, part, 6, lag) → (reading, …).

    The sum of half the squared deviations of its parts (winter and summer time) from their mean in units of their noise, as an
    error of the clock is the same in both; and of the cost of the mean offset, either as noise and offset of the weather or as a
    clock error, whichever is lower.
    """
    peaks = _peaks(sums, lags, cadence)
    enough = peaks.hours >= _MIN_WEEK_HOURS
    enough |= ~enough.any(axis=-1, keepdims=True) & (peaks.hours > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = noise**2 * _WEEK_HOURS / peaks.hours + search.season_noise_minutes**2
        weight = np.where(enough & np.isfinite(peaks.offset_minutes), 1 / variance, 0.0)
        offsets = np.nan_to_num(peaks.offset_minutes)
        total = weight.sum(axis=-1)
        mean = np.where(total > 0, (weight * offsets).sum(axis=-1) / total, np.nan)
        apart = (weight * (offsets - np.nan_to_num(mean)[..., None]) ** 2).sum(axis=-1) / 2
        by_noise = mean**2 / (1 / total + search.weather_noise_minutes**2) / 2
        cost = apart + np.minimum(by_noise, -math.log(search.shift_odds))
        # A maximum at the longest lag means that the peak lies beyond, so that the offset is unknown.
        beyond = (np.abs(peaks.offset_minutes) >= lags[-1]) & (weight > 0)
        cost += np.where(beyond.any(axis=-1), _BEYOND, 0.0)
        return _Stretch(np.where(total > 0, cost, np.inf), mean, np.sqrt(1 / total), peaks)


@dataclass(frozen=True)
class _Judgement:
    """The best explanation of the stamps."""

    reading: int
    stretch: _Stretch  # since the last jump, for every reading
    costs: Floats  # by final reading, of the best explanation
    jumped_week: int | None = None


def _judge(sums: Floats, weeks: list[int], odds: Floats, lags: Floats, cadence: float, search: ClockSearch) -> _Judgement:
    """Find the explanation with the lowest cost: a reading and a clock offset, with or without a change of both at some week.

    Args:
        sums: (reading, week, part, 6, lag).
        weeks: their numbers, ascending.
        odds: prior cost of each reading, nats.
        lags: minutes.
        cadence: minutes.
        search: the parameters.
    """
    noise = _weekly_noise(sums, lags, cadence, search)
    running = sums.cumsum(axis=1)
    whole = _stretch(running[:, -1], noise, lags, cadence, search)
    steady = _Judgement(int((whole.cost + odds).argmin()), whole, whole.cost + odds)
    # Jumps are at the beginning of a week, with enough weeks on either side.
    first, last = weeks[0] + _WEEKS_BEFORE_A_JUMP, weeks[-1] + 1 - _WEEKS_AFTER_A_JUMP
    places = [place for place in range(1, len(weeks)) if first <= weeks[place] <= last]
    if not places:
        return steady
    before = running[:, [place - 1 for place in places]]
    behind = running[:, -1:] - before
    then, now = (_stretch(of, noise, lags, cadence, search) for of in (before, behind))
    # Explains the same data without a jump: winter and summer time before and after.
    same = _stretch(np.concatenate([before, behind], axis=2), noise, lags, cadence, search)
    jumped = (then.cost + odds[:, None]).min(axis=0) + now.cost + odds[:, None] - math.log(search.jump_odds)
    better = (same.cost + odds[:, None]).min(axis=0) - jumped.min(axis=0)
    at = int(np.where(np.isfinite(better), better, -np.inf).argmax())
    if not better[at] > 0:
        return steady
    peaks = _Peaks(*(of[:, at] for of in vars(now.peaks).values()))
    chosen = _Stretch(now.cost[:, at], now.offset_minutes[:, at], now.noise_minutes[:, at], peaks)
    return _Judgement(int(jumped[:, at].argmin()), chosen, jumped[:, at], weeks[places[at]])


def _nothing_to_compare(farm: Farm) -> str:
    if "wind_speed_ms" not in farm.signals.columns:
        return "no wind is measured to compare with the weather"
    return "no hours with both measured wind and weather" if farm.weather else "no weather to compare with"


def _decide(farm: Farm, in_force: str, weeks: Weeks, lags: Floats, cadence: float, search: ClockSearch) -> dict[str, Any]:
    """A row of the calibration: the reading, its offset and evidence; the reading in force if there is too little to compare."""

    def unchecked(why: str, hours: float) -> dict[str, Any]:
        nothing = {"offset_minutes": 0.0, "noise_minutes": math.nan, "shifted": False, "jumped_at": None, "correlation": math.nan}
        return {"reading": in_force, "evidence": json.dumps({"decided": f"not checked: {why}"}), "rows": round(hours)} | nothing

    newest = max((week for week, _ in weeks), default=0)
    numbers = sorted({week for week, _ in weeks if (newest - week) * 7 < search.window_days})
    if not numbers:
        return unchecked(_nothing_to_compare(farm), 0.0)
    parts = sorted({offset for week, offset in weeks if week in numbers})
    nothing = np.zeros((len(READINGS), 6, len(lags)))
    sums = np.stack([np.stack([weeks.get((week, part), nothing) for part in parts], 1) for week in numbers], 1)
    whole = _peaks(sums.sum(axis=(1, 2)), lags, cadence)
    enough = search.min_history_days * 24 * _MIN_SHARE_OF_HOURS
    too_little = ~((whole.hours >= enough) & (whole.correlation >= search.min_correlation))
    own = READINGS.index(in_force)
    if too_little.all():
        return unchecked(f"{whole.hours[own]:.0f} hours, correlation {whole.correlation[own]:.2f}", float(whole.hours[own]))
    odds = np.array([-math.log(search.false_reading_odds) * (reading != farm.signals.clock) for reading in READINGS])
    # The reading in force is replaced only by a clearly better one.
    odds[own] += math.log(search.false_reading_odds) / 2
    judgement = _judge(sums, numbers, np.where(too_little, np.inf, odds), lags, cadence, search)
    chosen, stretch = judgement.reading, judgement.stretch
    offset, noise = float(stretch.offset_minutes[chosen]), float(stretch.noise_minutes[chosen])
    why = "the reading in force fits wind and weather as well as any other"
    evidence = _evidence(judgement, parts) | {"decided": why if chosen == own else "this reading fits wind and weather best"}
    week = judgement.jumped_week
    hours = stretch.peaks.hours[chosen]
    return {
        "reading": READINGS[chosen],
        "offset_minutes": offset,
        "noise_minutes": noise,
        "shifted": abs(offset) >= max(search.shift_minutes, _SURE * noise),
        "jumped_at": None if week is None else pd.Timestamp(week * WEEK_MINUTES, unit="m").as_unit("us"),
        "correlation": float((np.nan_to_num(stretch.peaks.at_zero[chosen]) * hours).sum() / hours.sum()),
        "evidence": json.dumps(evidence),
        "rows": round(float(hours.sum())),
    }


def _evidence(judgement: _Judgement, parts: list[int]) -> dict[str, Any]:
    """Offset in winter and summer time, correlation and cost of each reading."""

    def rounded(value: float) -> float | None:
        return round(float(value), 3) if math.isfinite(value) else None

    peaks, found = judgement.stretch.peaks, {}
    for place, reading in enumerate(READINGS):
        offsets, hours = peaks.offset_minutes[place], peaks.hours[place]
        there = (hours > 0) & np.isfinite(offsets)
        weight = np.where(there, hours, 0.0)
        misaligned, correlation = (
            np.average(np.nan_to_num(of), weights=weight) if weight.any() else math.nan
            for of in (np.abs(offsets), peaks.at_zero[place])
        )
        found[reading] = {
            "misalignment_minutes": rounded(misaligned),
            "correlation": rounded(correlation),
            "cost": rounded(judgement.costs[place]),
            "parts": {
                f"UTC{part / 60:+g}": {
                    "offset_minutes": rounded(offsets[number]),
                    "correlation": rounded(peaks.correlation[place][number]),
                    "hours": round(float(hours[number])),
                }
                for number, part in enumerate(parts)
                if there[number]
            },
        }
    return found


def calibration_spans(clock_calibration: pd.DataFrame) -> pd.DataFrame:
    """Validity ``[holds_from, holds_until)`` of each calibration, UTC without zone; the first also applies to all earlier times.

    Returns:
        One row per farm and calibration: ``farm_id, fitted_at, reading, first_fitted_at, holds_from, holds_until``.
    """
    spans = naive(clock_calibration[["farm_id", "fitted_at", "reading"]], ["fitted_at"]).sort_values(["farm_id", "fitted_at"])
    by_farm = spans.groupby("farm_id")["fitted_at"]
    first = by_farm.transform("min")
    return spans.assign(
        first_fitted_at=first,
        holds_from=spans["fitted_at"].where(spans["fitted_at"] > first, pd.Timestamp("0001-01-01").as_unit("us")),
        holds_until=by_farm.shift(-1).fillna(pd.Timestamp("9999-01-01").as_unit("us")),
    )
