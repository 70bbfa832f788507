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
_PLATEAU_SHARE = 0.004
_MIN_ROWS = 200
_OFTEN = 3
#: Maximum difference between a farm's meter and the sum of its turbines (losses), as a share of that sum's 90 % quantile.
_LOSSES_SHARE = 0.05
_NEARLY_ALL = 0.9


def clean(values: Reals) -> Reals:
    """Finite values without sentinels outside the range of the rest."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return finite
    kept: Reals = finite[~np.isin(np.round(finite, 3), np.round(SENTINELS, 3)) | _is_inside(finite)]
    return kept


def _is_inside(values: Reals) -> npt.NDArray[np.bool_]:
    """Whether values lie within the range of the bulk, so that they may be measurements."""
    low, high = np.nanquantile(values, [0.02, 0.98])
    spread = max(float(high - low), 1e-9)
    inside: npt.NDArray[np.bool_] = (values >= low - 0.6 * spread) & (values <= high + 0.6 * spread)
    return inside


def sentinels(values: Reals, min_share: float = -np.inf) -> list[float]:
    """Known sentinels that are repeated and lie far outside the range of the rest.

    Args:
        values: a signal.
        min_share: physical minimum of the signal, as a share of its maximum.
    """
    finite = values[np.isfinite(values)]
    if finite.size < _MIN_ROWS:
        return []
    far = finite[~_is_inside(finite) | (finite < min_share * np.quantile(finite, 0.98))]
    found, counts = np.unique(far, return_counts=True)
    return [
        float(value)
        for value, count in zip(found, counts, strict=True)
        if count > 1 and np.any(np.isclose(value, SENTINELS, rtol=1e-6, atol=1e-3))
    ]


def suspects(values: Reals) -> list[float]:
    """Possible sentinels: known ones that occur once far outside, or within the range but far more often than values near them."""
    finite = values[np.isfinite(values)]
    if finite.size < _MIN_ROWS:
        return []
    found, counts = np.unique(finite, return_counts=True)
    far = np.unique(finite[~_is_inside(finite)])
    out = [float(value) for value in far if np.any(np.isclose(value, SENTINELS, rtol=1e-6, atol=1e-3))]
    for value in SENTINELS:
        itself = np.isclose(found, value, rtol=1e-6, atol=1e-3)
        place = int(np.searchsorted(found, value))
        beside = np.delete(counts, np.flatnonzero(itself | (found == 0)))[max(0, place - 15) : place + 15]
        same = int(counts[itself].sum())
        if same >= _OFTEN and same >= _OFTEN * int(beside.max(initial=0)):
            out.append(float(value))
    return sorted(set(out))


def strange(values: Reals) -> list[float]:
    """Repeated values far outside the range of the rest that are not known sentinels."""
    finite = values[np.isfinite(values)]
    if finite.size < _MIN_ROWS:
        return []
    far = clean(finite)
    far = far[~_is_inside(far)]
    found, counts = np.unique(far, return_counts=True)
    return [float(value) for value, count in zip(found, counts, strict=True) if count >= max(5, 0.001 * finite.size)]


def rank_correlation(one: Reals, other: Reals) -> float:
    """Spearman's rank correlation."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < _MIN_ROWS:
        return 0.0
    a, b = (np.argsort(np.argsort(x[both])).astype(float) for x in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


def is_direction(values: Reals) -> str | None:
    """``deg`` or ``rad`` if the values cover the circle, else none."""
    own = clean(values)
    if own.size < _MIN_ROWS:
        return None
    low, high = np.quantile(own, [0.0005, 0.9995])
    steps = np.abs(np.diff(own))
    for unit, turn in (("deg", 360.0), ("rad", 2 * np.pi)):
        # From near zero to near a full turn, with a wrap between two rows.
        if -0.02 * turn <= low <= 0.15 * turn and 0.85 * turn <= high <= 1.005 * turn and np.any(steps > 0.7 * turn):
            return unit
    return None


def power_curve(power: Reals, wind: Reals) -> Mapping[str, float] | None:
    """Top and half-power wind speed of a power curve; ``None`` if power does not follow wind.

    Returns:
        ``top``: the plateau, ``half_wind``: the wind speed at half of it.
    """
    both = np.isfinite(power) & np.isfinite(wind)
    power, wind = power[both], wind[both]
    if power.size < _MIN_ROWS:
        return None
    correlation = rank_correlation(power, wind)
    top = float(np.quantile(power, 0.999))
    if correlation < 0.75 or top <= 0:  # noqa: PLR2004 - rank correlation; curtailment and standstill leave more
        return None
    half = np.abs(power / top - 0.5) < 0.08  # noqa: PLR2004
    return {
        "top": top,
        "half_wind": float(np.median(wind[half])) if half.sum() > 10 else float("nan"),  # noqa: PLR2004
    }


def wind_unit(half_wind: float) -> str | None:
    """The unit in which this wind speed at half power is plausible; none unless it is the only one."""
    low, high = _HALF_POWER_MS
    fitting = [unit for unit, per_ms in WIND_UNITS.items() if low <= half_wind / per_ms <= high]
    return fitting[0] if len(fitting) == 1 else None


def fits_wind_unit(half_wind: float, unit: str) -> bool:
    """Whether this wind speed at half power is plausible in a unit; an unknown one (NaN) is."""
    low, high = _HALF_POWER_MS
    return bool(np.isnan(half_wind) or low <= half_wind / WIND_UNITS[unit] <= high)


def power_unit(top: float) -> str | None:
    """The unit of one turbine's power by magnitude: 55 kW to 16 MW, whose ranges in W, kW and MW do not overlap."""
    for unit, factor in (("MW", 1000.0), ("kW", 1.0), ("W", 0.001)):
        if 55 <= top * factor <= 16_000:  # noqa: PLR2004 - kW
            return unit
    return None


def rated_power_kw(power_kw: Reals) -> tuple[float | None, bool, str]:
    """Rated power from the plateau: value (none without values), whether it is proven, and the evidence.

    It is proven if the histogram has a peak within 2 % of the maximum, and exactly one turbine model on the market has that
    power within one per cent.
    """
    own = clean(power_kw)
    if own.size == 0:
        return None, False, "no values"
    top = float(np.quantile(own, 0.9995))
    if own.size < _MIN_ROWS:
        guess = float(min((rated for rated in RATED_KW if rated >= 0.99 * top), default=top))
        return guess, False, f"only {own.size} values, up to {top:,.0f} kW"
    crowd = float((np.abs(own - top) <= 0.02 * top).mean())
    below = float(((own > 0.90 * top) & (own < 0.94 * top)).mean())
    plateau = own[own > 0.975 * top]
    level = float(np.median(plateau))
    near = sorted(RATED_KW, key=lambda rated: abs(rated - level))
    value = float(near[0])
    reached = crowd >= _PLATEAU_SHARE and crowd > 2 * below
    alone = abs(value - level) <= 0.01 * value and abs(near[1] - level) > 2 * abs(value - level)
    shown = f"{level:,.0f} kW at the plateau, {100 * crowd:.1f} % of the values within 2 % of it"
    if not reached:
        guess = float(min((rated for rated in RATED_KW if rated >= 0.99 * top), default=top))
        return guess, False, f"{shown}: no plateau was reached"
    return value, alone, shown + ("" if alone else ": between two turbine models on the market")


def clean_rows(values: Reals) -> Reals:
    """The values, with NaN in place of those that `clean` removes."""
    sound = np.isfinite(values)
    out = np.where(sound, values, np.nan)
    inside = np.zeros(values.shape, dtype=bool)
    if sound.any():
        inside[sound] = _is_inside(values[sound])
    odd = np.isin(np.round(out, 3), np.round(SENTINELS, 3)) & ~inside
    return np.where(odd, np.nan, out)


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
