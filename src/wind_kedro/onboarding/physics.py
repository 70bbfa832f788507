# ruff: noqa: E501 - long tables and messages
"""Infer units, ratings and sentinels from the values of signals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

#: Values that loggers write for missing data of any quantity.
SENTINELS = (
    -999.0, -9999.0, -99999.0, -999.9, -99.0, -99.9, -999.99, 9999.0, 99999.0, 999.9, 999.0, 9999.9, -273.2, -273.15, -273.0, 32767.0,
    -32768.0, 65535.0, 1e6, -1e6, 999999.0, -999999.0, 1e30, -1e30, 2147483647.0,
)  # fmt: skip
#: Rated powers of turbine models on the market, kW (The Wind Power database).
RATED_KW = (
    55, 75, 80, 100, 150, 200, 225, 250, 275, 300, 330, 400, 450, 500, 550, 600, 660, 700, 750, 800, 850, 900, 1000, 1200, 1250, 1300, 1500,
    1600, 1650, 1670, 1750, 1800, 1850, 2000, 2050, 2100, 2200, 2300, 2350, 2400, 2500, 2600, 2625, 2700, 2750, 2780, 2850, 2900, 3000,
    3050, 3150, 3200, 3300, 3370, 3400, 3450, 3500, 3600, 3700, 3800, 3900, 4000, 4200, 4260, 4300, 4500, 4800, 5000, 5200, 5300, 5500,
    5600, 5700, 5800, 6000, 6100, 6150, 6200, 6300, 6600, 6800, 7000, 7200, 7500, 7580, 8000, 8400, 9500, 10000, 11000, 12000, 13000, 14000,
    15000,
)  # fmt: skip
#: Range of the wind speed at half of rated power, m/s, over rotors for low to high wind.
_HALF_POWER_MS = (5.5, 12.0)
WIND_UNITS: Mapping[str, float] = {"m/s": 1.0, "km/h": 3.6, "kn": 3600 / 1852, "mph": 1 / 0.44704}
#: Rank correlation of power and wind; curtailment and standstill leave more.
_MIN_RANK_CORRELATION = 0.75
_PLATEAU_SHARE = 0.004
_MIN_ROWS = 200
_OFTEN = 3
#: Maximum difference between a farm's meter and the sum of its turbines (losses), as a share of that sum's 90 % quantile.
_LOSSES_SHARE = 0.05
_NEARLY_ALL = 0.9


def _bulk(values: Reals) -> tuple[float, float]:
    """The range of the bulk of values, within which any may be a measurement."""
    low, high = np.nanquantile(values, [0.02, 0.98])
    margin = 0.6 * max(float(high - low), 1e-9)
    return low - margin, high + margin


def clean(values: Reals) -> Reals:
    """The values, with NaN in place of infinite ones and of sentinels outside the range of the rest."""
    out = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(out).all():
        return out
    low, high = _bulk(out)
    return np.where(np.isin(np.round(out, 3), np.round(SENTINELS, 3)) & ~((out >= low) & (out <= high)), np.nan, out)


def known(values: Reals) -> Reals:
    """The values that `clean` keeps."""
    cleaned = clean(values)
    return cleaned[~np.isnan(cleaned)]


def missing_marks(values: Reals, min_share: float = -np.inf) -> tuple[list[float], list[float], list[float]]:
    """Values that may mark missing data.

    Args:
        values: a signal.
        min_share: physical minimum of the signal, as a share of its maximum.

    Returns:
        Known sentinels that are repeated and lie far outside the range of the rest; known ones that may be measured, as they
        occur once far outside, or within the range but far more often than values near them; other values repeated far outside.
    """
    finite = values[np.isfinite(values)]
    if finite.size < _MIN_ROWS:
        return [], [], []
    found, counts = np.unique(finite, return_counts=True)
    low, high = _bulk(finite)
    far = (found < low) | (found > high)
    listed = np.isclose(found[:, None], SENTINELS, rtol=1e-6, atol=1e-3).any(axis=1)
    sure = listed & (counts > 1) & (far | (found < min_share * np.quantile(finite, 0.98)))
    doubtful = set(found[listed & far])
    for value in SENTINELS:
        itself = np.isclose(found, value, rtol=1e-6, atol=1e-3)
        place = int(np.searchsorted(found, value))
        beside = np.delete(counts, np.flatnonzero(itself | (found == 0)))[max(0, place - 15) : place + 15]
        if counts[itself].sum() >= _OFTEN * max(1, int(beside.max(initial=0))):
            doubtful.add(value)
    low, high = _bulk(known(finite))
    in_place = np.isin(found, known(finite))
    strange = in_place & ((found < low) | (found > high)) & (counts >= max(5, 0.001 * finite.size))
    return found[sure].tolist(), sorted(map(float, doubtful - set(found[sure]))), found[strange].tolist()


def half_power_wind(power: Reals, wind: Reals) -> float | None:
    """Wind speed at half of the top power, NaN if few rows are near it; none if power does not follow wind."""
    both = np.isfinite(power) & np.isfinite(wind)
    power, wind = power[both], wind[both]
    if power.size < _MIN_ROWS:
        return None
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (power, wind)])
    top = float(np.quantile(power, 0.999))
    correlation: Reals = np.asarray(np.corrcoef(ranks))
    if correlation[0, 1] < _MIN_RANK_CORRELATION or top <= 0:
        return None
    half = np.abs(power / top - 0.5) < 0.08  # noqa: PLR2004
    return float(np.median(wind[half])) if half.sum() > 10 else float("nan")  # noqa: PLR2004


def wind_units(half_wind: float) -> list[str]:
    """Units in which this wind speed at half power is plausible."""
    low, high = _HALF_POWER_MS
    return [unit for unit, per_ms in WIND_UNITS.items() if low <= half_wind / per_ms <= high]


def power_unit(top: float) -> str | None:
    """The unit of one turbine's power by magnitude: 55 kW to 16 MW, whose ranges in W, kW and MW do not overlap."""
    units = (("MW", 1000.0), ("kW", 1.0), ("W", 0.001))
    return next((unit for unit, factor in units if 55 <= top * factor <= 16_000), None)  # noqa: PLR2004 - kW


def rated_power_kw(power_kw: Reals) -> tuple[float | None, bool, str]:
    """Rated power from the plateau: value (none without values), whether it is proven, and the evidence.

    It is proven if the histogram has a peak within 2 % of the maximum, and exactly one turbine model on the market has that
    power within one per cent.
    """
    own = known(power_kw)
    if own.size == 0:
        return None, False, "no values"
    top = float(np.quantile(own, 0.9995))
    guess = float(min((rated for rated in RATED_KW if rated >= 0.99 * top), default=top))
    if own.size < _MIN_ROWS:
        return guess, False, f"only {own.size} values, up to {top:,.0f} kW"
    crowd = float((np.abs(own - top) <= 0.02 * top).mean())
    below = float(((own > 0.90 * top) & (own < 0.94 * top)).mean())
    level = float(np.median(own[own > 0.975 * top]))
    shown = f"{level:,.0f} kW at the plateau, {100 * crowd:.1f} % of the values within 2 % of it"
    if crowd < _PLATEAU_SHARE or crowd <= 2 * below:
        return guess, False, f"{shown}: no plateau was reached"
    value, second = sorted(RATED_KW, key=lambda rated: abs(rated - level))[:2]
    alone = abs(value - level) <= 0.01 * value and abs(second - level) > 2 * abs(value - level)
    return float(value), alone, shown + ("" if alone else ": between two turbine models on the market")


def sum_of_the_others(power: Mapping[str, Reals]) -> str | None:
    """The key of the series that is the sum of all others (the farm's meter), if there is one."""
    if len(power) <= 2:  # noqa: PLR2004 - of two, neither is a sum
        return None
    for one, own in power.items():
        others = np.sum([other for name, other in power.items() if name != one], axis=0)
        off = np.abs(own - others)[np.isfinite(own) & np.isfinite(others)]
        if off.size and np.quantile(off, _NEARLY_ALL) < _LOSSES_SHARE * np.nanquantile(others, _NEARLY_ALL):
            return one
    return None
