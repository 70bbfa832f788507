"""Which way to read a farm's stamps: the reading in which its wind speed and the weather's rise and fall together.

Signals and weather see the same wind, so the lag at which they correlate best is the error of the clock (the check that
OpenOA's examples make by eye). Every calibration is fitted with what had arrived by then and holds for what arrives
from then on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.points import at_leading_points

from ._tables import Table, exact, naive
from .parsing import READINGS
from .settings import ClockSearch, DataEngineering

Floats = NDArray[np.float64]
_MINUTE = np.timedelta64(1, "m")
#: Wind of finer cadences is averaged over so long before it is compared: the readings of a stamp are whole quarter hours
#: apart, so that these steps are the same in all of them.
_COMPARED_SECONDS = 300
#: Lags are stepped through no finer than this, minutes: wind at one point hardly changes faster, and the peak is
#: interpolated.
_FINEST_LAG_MINUTES = 5
_COARSEST_LAG_MINUTES = 15
#: A part (one offset of the local clock) is judged apart if it has at least this many hours: two weeks of weather
#: systems.
_MIN_PART_HOURS = 14 * 24
_MIN_SHARE_OF_HOURS = 0.5
_ENOUGH_FOR_PEARSON = 3


def calibrate_clocks(
    parsed_signals: Table, weather: pd.DataFrame, fleet: Fleet, clock: Clock, data_engineering: DataEngineering
) -> pd.DataFrame:
    """Find, for every farm and calibration time, the reading of its stamps that fits the weather best.

    One row per farm and calibration (contract `ClockCalibration`). The first calibration is at the midnight after
    ``min_history_days`` distinct days have arrived (or twice that time has passed), then on the first of every month in
    which rows had arrived. A row counts in the first calibration after its arrival, whatever the reading, and is
    compared with the newest weather available at that calibration; so nothing that arrives later can change a
    calibration.

    The reading chosen has the least misalignment: the mean, weighted by hours, of the distance from zero of the
    correlation's peak in winter and in summer time apart. It replaces the reading in force (at first: the card's
    assumption) only if it is better by ``margin_minutes``; less is a tie. Before the first clock change the readings
    differ by a constant, so that a farm whose clock is off by a constant cannot be told from one whose offset is false:
    the smaller error is believed. Where hours or correlation are too few to tell, the reading in force stays,
    ``correlation`` is null and the evidence says so.

    Args:
        parsed_signals: see `parse_signals`.
        weather: contract `Weather`.
        fleet: the cards.
        clock: as of when.
        data_engineering: the room's parameters.
    """
    search = data_engineering.clock_search
    arrivals = _arrivals(parsed_signals, fleet)
    firsts = _first_calibrations(arrivals, search)
    blocks = _wind_by_block(arrivals, firsts, clock).to_pandas()
    weather = naive(at_leading_points(weather, fleet.farms), ["run_at", "available_at", "valid_at"])
    as_of = clock.as_of.replace(tzinfo=None)
    rows: list[dict[str, Any]] = []
    for farm in fleet.farms:
        if farm.id not in firsts.index or firsts[farm.id] > as_of:
            continue
        own = weather[weather["farm_id"] == farm.id]
        wind = blocks[blocks["farm_id"] == farm.id]
        rows += _calibrate(farm, wind, own, firsts[farm.id], search)
    columns = [
        "farm_id",
        "fitted_at",
        "reading",
        "assumed",
        "agrees",
        "offset_minutes",
        "correlation",
        "evidence",
        "rows",
    ]
    found = pd.DataFrame(rows, columns=columns).astype(
        {"offset_minutes": "float64", "correlation": "float64", "rows": "int64", "agrees": "bool"}
    )
    found["fitted_at"] = pd.to_datetime(found["fitted_at"]).astype("datetime64[us]").dt.tz_localize("UTC")
    return found


def _arrivals(parsed: Table, fleet: Fleet) -> Table:
    """Good rows with ``arrived``: when they were here for sure, whichever reading is right."""
    import ibis

    farms = ibis.memtable(
        pd.DataFrame(
            {
                "farm_id": farm.id,
                "wait": farm.signals.cadence_seconds + 60 * farm.latency_minutes,
                # As stamped, if that is coarse enough.
                "compared": _compared_seconds(farm) if _compared_seconds(farm) > farm.signals.cadence_seconds else 1,
            }
            for farm in fleet.farms
        )
    )
    rows = parsed.filter(parsed.reason.isnull()).inner_join(farms, "farm_id")
    latest = ibis.greatest(*[rows[reading] for reading in READINGS]) + rows["wait"].as_interval("s")
    return rows.mutate(arrived=ibis.coalesce(rows.received_at, latest))


def first_calibrations(parsed_signals: Table, fleet: Fleet, search: ClockSearch) -> pd.Series:
    """When each farm's clock is first calibrated, before which none of its rows can be used (UTC without zone, by farm)."""
    return _first_calibrations(_arrivals(parsed_signals, fleet), search)


def _first_calibrations(arrivals: Table, search: ClockSearch) -> pd.Series:
    """When each farm is first calibrated (UTC without zone); index: farm."""
    days = (
        arrivals.group_by(["farm_id", arrivals.wall_clock_is_utc.truncate("D").name("day")])
        .agg(arrived=arrivals.arrived.min())
        .to_pandas()
        .sort_values(["farm_id", "arrived"])
    )
    firsts = {}
    for farm_id, own in days.groupby("farm_id"):
        latest = own["arrived"].iloc[0] + pd.Timedelta(days=2 * search.min_history_days)
        if len(own) >= search.min_history_days:
            latest = min(latest, own["arrived"].iloc[search.min_history_days - 1])
        firsts[farm_id] = latest.ceil("D")
    return pd.Series(firsts, dtype="datetime64[us]")


def _wind_by_block(arrivals: Table, firsts: pd.Series, clock: Clock) -> Table:
    """Farm's mean wind speed per stamp (all three readings of it) and block: the calibration at which it counts first."""
    import ibis

    known = ibis.memtable(pd.DataFrame({"farm_id": firsts.index.astype("str"), "first": firsts.to_numpy()}))
    rows = arrivals.inner_join(known, "farm_id")
    # (previous, this]: what arrives on the stroke of a calibration is known to it.
    month = (rows.arrived - ibis.interval(microseconds=1)).truncate("M") + ibis.interval(months=1)
    rows = rows.mutate(block=ibis.ifelse(rows.arrived <= rows["first"], rows["first"], month))
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    rows = rows.filter(rows.wind_speed_ms.notnull(), rows.block <= as_of)
    into = {name: rows[name] - (rows[name].epoch_seconds() % rows.compared).as_interval("s") for name in READINGS}
    rows = rows.mutate(**into)
    key = ["farm_id", "block", *READINGS]
    means = rows.group_by(key).agg(wind_speed_ms=exact(rows.wind_speed_ms).mean().cast("float64"))
    return means.order_by(key)  # sums over them are then the same in every run


# --- one farm ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Peak:
    """Where the correlation of signals and weather is greatest."""

    offset_minutes: float
    correlation: float
    at_zero: float
    hours: float


def _calibrate(
    farm: Farm, wind: pd.DataFrame, weather: pd.DataFrame, first: pd.Timestamp, search: ClockSearch
) -> list[dict[str, Any]]:
    step = _compared_seconds(farm) / 60
    lags = _lags(step, search.max_lag_minutes)
    in_force: str = farm.signals.clock
    sums: list[tuple[pd.Timestamp, dict[tuple[str, int], Floats]]] = []
    rows = []
    for block in sorted({first, *wind["block"]}):
        sums.append((block, _block_sums(farm, wind[wind["block"] == block], weather, block, lags, search)))
        recent = [found for at, found in sums if at > block - pd.Timedelta(days=search.window_days)]
        peaks = {reading: _peaks(recent, reading, lags, step) for reading in READINGS}
        in_force, row = _decide(farm, in_force, peaks, search)
        rows.append({"farm_id": farm.id, "fitted_at": block, **row})
    return rows


def _compared_seconds(farm: Farm) -> int:
    """Length of the intervals whose mean wind is compared."""
    cadence = farm.signals.cadence_seconds
    return cadence if _COMPARED_SECONDS % cadence else _COMPARED_SECONDS


def _lags(cadence: float, longest: int) -> Floats:
    """Lags to try, minutes: steps that divide the cadence or that it divides, so that weather is interpolated once only."""
    if cadence > _COARSEST_LAG_MINUTES:
        step = float(max(n for n in range(1, _COARSEST_LAG_MINUTES + 1) if cadence % n == 0))
    else:
        step = cadence * math.ceil(_FINEST_LAG_MINUTES / cadence)
    count = int(longest // step)
    return np.arange(-count, count + 1, dtype="float64") * step


def _block_sums(
    farm: Farm,
    wind: pd.DataFrame,
    weather: pd.DataFrame,
    block: pd.Timestamp,
    lags: Floats,
    search: ClockSearch,
) -> dict[tuple[str, int], Floats]:
    """Sums for Pearson's correlation at every lag, per reading and offset of the local clock; sums of blocks add up.

    Returns:
        (reading, local offset in minutes) → array (6, lags): n, Σx, Σy, Σx², Σy², Σxy; x signals, y weather.
    """
    known = weather[(weather["available_at"] <= block) & (weather["valid_at"] <= block)]
    if wind.empty or known.empty:
        return {}
    # Runs of one model; the newest run says most about a time, and of a run its newest version. The card's first model
    # leads, others are for forecasting.
    model = next(source.model for source in farm.weather if source.model in set(known["weather_model"]))
    known = known[known["weather_model"] == model]
    known = (
        known.sort_values(["run_at", "available_at"]).drop_duplicates("valid_at", keep="last").sort_values("valid_at")
    )
    weather_at = _minutes(known["valid_at"])
    weather_ms = known["wind_speed_100m_ms"].to_numpy()
    x = wind["wind_speed_ms"].to_numpy()
    local = (_minutes(wind["wall_clock_is_utc"]) - _minutes(wind["wall_clock_is_local"])).astype("int64")
    middle = _compared_seconds(farm) / 60 / 2
    found: dict[tuple[str, int], Floats] = {}
    for reading in READINGS:
        at = _minutes(wind[reading]) + middle
        # Positive lag: signals are late, so the weather they belong to is earlier than their stamp.
        y = _interpolated(at[:, None] - lags[None, :], weather_at, weather_ms, search.max_weather_gap_hours * 60)
        for offset in np.unique(local):
            mask = local == offset
            found[reading, int(offset)] = _sums(x[mask], y[mask])
    return found


def _minutes(times: pd.Series) -> Floats:
    return times.to_numpy(dtype="datetime64[s]").astype("int64") / 60.0


def _interpolated(at: Floats, known_at: Floats, known: Floats, longest_gap: float) -> Floats:
    """Linear interpolation; missing outside what is known and across gaps longer than ``longest_gap`` minutes."""
    right = (
        np.searchsorted(known_at, at).clip(1, len(known_at) - 1) if len(known_at) > 1 else np.zeros(at.shape, "int64")
    )
    values = np.interp(at, known_at, known, left=np.nan, right=np.nan)
    gap = known_at[right] - known_at[right - 1]
    return np.where(gap <= longest_gap, values, np.nan)


def _sums(x: Floats, y: Floats) -> Floats:
    there = ~np.isnan(y)
    xs = np.where(there, x[:, None], 0.0)
    ys = np.where(there, y, 0.0)
    return np.array(
        [there.sum(0), xs.sum(0), ys.sum(0), (xs * xs).sum(0), (ys * ys).sum(0), (xs * ys).sum(0)], dtype="float64"
    )


def _correlations(sums: Floats) -> Floats:
    n, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    return np.where((n >= _ENOUGH_FOR_PEARSON) & np.isfinite(found), found, np.nan)


def _peaks(
    blocks: list[dict[tuple[str, int], Floats]], reading: str, lags: Floats, cadence: float
) -> tuple[_Peak | None, dict[int, _Peak]]:
    """The peak over all rows of a reading, and one per offset of the local clock that has enough of them."""
    parts: dict[int, Floats] = {}
    for block in blocks:
        for (of, offset), sums in block.items():
            if of == reading:
                parts[offset] = parts.get(offset, 0.0) + sums
    if not parts:
        return None, {}
    whole = _peak(np.sum(list(parts.values()), axis=0), lags, cadence)
    peaks = {offset: _peak(sums, lags, cadence) for offset, sums in parts.items()}
    return whole, {offset: peak for offset, peak in peaks.items() if peak is not None and peak.hours >= _MIN_PART_HOURS}


def _peak(sums: Floats, lags: Floats, cadence: float) -> _Peak | None:
    correlations = _correlations(sums)
    if np.isnan(correlations).all():
        return None
    best = int(np.nanargmax(correlations))
    offset = lags[best]
    if 0 < best < len(lags) - 1 and not np.isnan(correlations[best - 1 : best + 2]).any():
        # The vertex of the parabola through the three points around the peak.
        before, at, after = correlations[best - 1 : best + 2]
        bend = before - 2 * at + after
        if bend < 0:
            offset += 0.5 * (before - after) / bend * (lags[1] - lags[0])
    middle = len(lags) // 2
    return _Peak(
        float(offset), float(correlations[best]), float(correlations[middle]), float(sums[0][middle] * cadence / 60)
    )


def _decide(
    farm: Farm, in_force: str, peaks: Mapping[str, tuple[_Peak | None, dict[int, _Peak]]], search: ClockSearch
) -> tuple[str, dict[str, Any]]:
    assumed = farm.signals.clock
    misaligned = {reading: _misalignment(*found) for reading, found in peaks.items()}
    evidence: dict[str, Any] = {
        reading: {
            "misalignment_minutes": _rounded(misaligned[reading]),
            "correlation": _rounded(whole.at_zero if whole else None),
            "parts": {
                f"UTC{offset / 60:+g}": {
                    "offset_minutes": _rounded(peak.offset_minutes),
                    "correlation": _rounded(peak.correlation),
                    "hours": round(peak.hours),
                }
                for offset, peak in sorted(parts.items())
            },
        }
        for reading, (whole, parts) in peaks.items()
    }
    whole = peaks[in_force][0]
    enough = search.min_history_days * 24 * _MIN_SHARE_OF_HOURS
    checked = [r for r, (w, _) in peaks.items() if w and w.hours >= enough and w.correlation >= search.min_correlation]
    if not checked:
        why = (
            "no weather to compare with"
            if whole is None
            else f"{whole.hours:.0f} hours, correlation {whole.correlation:.2f}"
        )
        evidence["decided"] = f"not checked: {why}"
        row = {"offset_minutes": 0.0, "correlation": math.nan, "rows": round(whole.hours) if whole else 0}
        return in_force, row | _outcome(in_force, assumed, evidence)
    best = min(checked, key=lambda reading: misaligned[reading])
    if in_force in checked and misaligned[in_force] - misaligned[best] < search.margin_minutes:
        evidence["decided"] = "the reading in force is aligned as well as any other"
        best = in_force
    else:
        evidence["decided"] = "the best aligned reading"
    chosen, parts = peaks[best]
    assert chosen is not None  # noqa: S101 - only readings with a peak are checked
    hours = sum(peak.hours for peak in parts.values())
    signed = (
        sum(peak.offset_minutes * peak.hours for peak in parts.values()) / hours if parts else chosen.offset_minutes
    )
    row = {"offset_minutes": signed, "correlation": chosen.at_zero, "rows": round(chosen.hours)}
    return best, row | _outcome(best, assumed, evidence)


def _outcome(reading: str, assumed: str, evidence: dict[str, Any]) -> dict[str, Any]:
    return {"reading": reading, "assumed": assumed, "agrees": reading == assumed, "evidence": json.dumps(evidence)}


def _misalignment(whole: _Peak | None, parts: Mapping[int, _Peak]) -> float:
    """Minutes by which a reading is off, in winter and summer time apart: they cannot make up for each other."""
    if whole is None:
        return math.inf
    hours = sum(peak.hours for peak in parts.values())
    if not parts:
        return abs(whole.offset_minutes)
    return sum(abs(peak.offset_minutes) * peak.hours for peak in parts.values()) / hours


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)


def calibration_spans(clock_calibration: pd.DataFrame) -> pd.DataFrame:
    """When each calibration holds: ``[holds_from, holds_until)`` in UTC without zone; the first also holds for all before it.

    Returns:
        One row per farm and calibration: ``farm_id, fitted_at, reading, first_fitted_at, holds_from, holds_until``.
    """
    spans = naive(clock_calibration[["farm_id", "fitted_at", "reading"]], ["fitted_at"]).sort_values(
        ["farm_id", "fitted_at"]
    )
    by_farm = spans.groupby("farm_id")["fitted_at"]
    first = by_farm.transform("min")
    return spans.assign(
        first_fitted_at=first,
        holds_from=spans["fitted_at"].where(spans["fitted_at"] > first, pd.Timestamp("0001-01-01").as_unit("us")),
        holds_until=by_farm.shift(-1).fillna(pd.Timestamp("9999-01-01").as_unit("us")),
    )
