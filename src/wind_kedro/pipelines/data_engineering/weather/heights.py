"""Interpolation and extrapolation of wind over height, and air density at a height.

Uses the logarithmic profile, which is linear in the logarithm of height, and the power law ``u(z) = u(r) (z / r)^a`` (Manwell,
McGowan, Rogers, *Wind Energy Explained*, 2nd edition, section 2.3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wind_kedro.pipelines.data_engineering.settings import WindProfile

Floats = NDArray[np.float64]

#: Specific gas constant of dry air, J/(kg K) (ISO 2533:1975).
DRY_AIR_J_PER_KG_K = 287.05287
ZERO_CELSIUS_K = 273.15
#: Lapse rate of the standard atmosphere, K/m, and gravity, m/s2 (ISO 2533:1975).
LAPSE_K_PER_M = 0.0065
GRAVITY_MS2 = 9.80665
#: Height above ground of the air temperature of weather models, m (WMO No. 8: 1.25 to 2 m).
SCREEN_HEIGHT_M = 2.0


@dataclass(frozen=True)
class Levels:
    """Wind at several heights: arrays of shape (rows, heights), missing where a row has none. Speeds in m/s."""

    heights_m: Sequence[float]
    speed_ms: Floats
    direction_deg: Floats
    u_ms: Floats
    v_ms: Floats


def wind_at(height_m: Floats, levels: Levels, profile: WindProfile) -> tuple[Floats, Floats]:
    """Wind speed (m/s) and direction (degrees it comes from) at one height per row, from the levels of the row.

    At a level, its values. Between two levels, u and v are interpolated linearly in ln(height), or speed alone if one of them
    has no direction. Beyond the lowest or highest level, the power law with the exponent of the two nearest levels, clipped to
    ``shear_exponents``, or ``shear_exponent`` with one level; the direction is that of the nearest level that has one. Missing
    if no level has wind; calm wind has no direction.

    Args:
        height_m: height of each row above ground, m, shape (rows,).
        levels: wind at the levels of each row.
        profile: exponents.
    """
    heights = np.asarray(levels.heights_m, dtype=float)
    known = ~np.isnan(levels.speed_ms)
    rows = np.arange(len(height_m))
    below = _last(known & (heights <= height_m[:, None]))
    above = _first(known & (heights >= height_m[:, None]))
    between = (below >= 0) & (above >= 0)
    # Beyond the levels the two nearest are the lowest or the highest two; with one level they are the same.
    near = np.where(below >= 0, below, above)
    others = known & (np.arange(len(heights)) != near[:, None])
    second = np.where(below >= 0, _last(others), _first(others))
    speed, direction = np.full(len(rows), np.nan), np.full(len(rows), np.nan)

    exact = between & (below == above)
    speed[exact] = levels.speed_ms[rows, below][exact]
    direction[exact] = levels.direction_deg[rows, below][exact]

    inside = between & ~exact
    if inside.any():
        at, low, high = rows[inside], below[inside], above[inside]
        share = np.log(height_m[inside] / heights[low]) / np.log(heights[high] / heights[low])

        def mixed(values: Floats) -> Floats:
            mean: Floats = (1 - share) * values[at, low] + share * values[at, high]
            return mean

        u, v = mixed(levels.u_ms), mixed(levels.v_ms)
        vectors = ~np.isnan(u) & ~np.isnan(v)
        speed[inside] = np.where(vectors, np.hypot(u, v), mixed(levels.speed_ms))
        direction[inside] = np.where(vectors, bearing(u, v), _nearest_direction(levels, heights, height_m)[inside])

    beyond = ~between & (near >= 0)
    if beyond.any():
        at, one, two = rows[beyond], near[beyond], second[beyond]
        own = levels.speed_ms[at, one]
        ratio = np.divide(levels.speed_ms[at, two], own, out=np.full(len(at), np.nan), where=own > 0)
        usable = (two >= 0) & (ratio > 0)
        exponent = np.full(len(at), profile.shear_exponent)  # with one level or calm wind
        exponent[usable] = np.log(ratio[usable]) / np.log(heights[two[usable]] / heights[one[usable]])
        speed[beyond] = own * (height_m[beyond] / heights[one]) ** np.clip(exponent, *profile.shear_exponents)
        direction[beyond] = _nearest_direction(levels, heights, height_m)[beyond]
    return speed, direction


def bearing(u_ms: Floats, v_ms: Floats) -> Floats:
    """Direction the wind comes from, degrees (north 0, east 90); missing for calm wind."""
    angle: Floats = (np.degrees(np.arctan2(-u_ms, -v_ms)) + 360.0) % 360.0
    return np.where((u_ms == 0) & (v_ms == 0), np.nan, angle)


def air_density(pressure_pa: Floats, temperature_c: Floats, height_m: Floats) -> Floats:
    """Density of dry air at a height above ground, kg/m3, from the pressure at the ground and the temperature at 2 m.

    Temperature falls by 6.5 K/km and pressure by the barometric formula of ISO 2533; dry ideal gas. Humid air is up to 1 %
    lighter.
    """
    ground = temperature_c + ZERO_CELSIUS_K + LAPSE_K_PER_M * SCREEN_HEIGHT_M
    there = ground - LAPSE_K_PER_M * height_m
    pressure = pressure_pa * (there / ground) ** (GRAVITY_MS2 / (DRY_AIR_J_PER_KG_K * LAPSE_K_PER_M))
    density: Floats = pressure / (DRY_AIR_J_PER_KG_K * there)
    return density


def _nearest_direction(levels: Levels, heights: Floats, height_m: Floats) -> Floats:
    away = np.abs(np.log(heights / height_m[:, None]))
    away = np.where(np.isnan(levels.direction_deg), np.inf, away)
    # Without any direction, this is the missing value of the first level.
    found: Floats = levels.direction_deg[np.arange(len(height_m)), away.argmin(axis=1)]
    return found


def _first(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Index of the first known level, -1 if there is none; levels are ascending."""
    return np.where(known.any(axis=1), known.argmax(axis=1), -1)


def _last(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Index of the last known level, -1 if there is none."""
    return np.where(known.any(axis=1), known.shape[1] - 1 - known[:, ::-1].argmax(axis=1), -1)
