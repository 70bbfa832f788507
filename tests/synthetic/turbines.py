"""What the turbines of a farm make of the weather, and what their sensors measure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from wind_kedro.cards import Farm, Turbine
from wind_kedro.cards.units import EARTH_RADIUS_KM

from .recipe import Recipe
from .weather import (
    GAS_CONSTANT_DRY_AIR,
    KELVIN_OFFSET,
    REFERENCE_HEIGHT_M,
    STANDARD_DENSITY_KGM3,
    Reals,
    Weather,
    process,
    random_stream,
    shear_exponent,
    speed_and_direction,
)

# A 2 MW machine like La Haute Borne's MM82: cut-in 3.5, rated 14.5, cut-out 25 m/s (manufacturer's data sheet).
STANDSTILL_MS, CUT_IN_MS = 3.0, 3.5  # between them the machine is sometimes running
CUT_OUT_MS, RESTART_MS = 25.0, 22.0  # it stops above the one and starts again below the other
POWER_COEFFICIENT = 0.44  # electrical; the aerodynamic limit is 16/27 = 0.593 (Betz)
KNEE_SHARPNESS = 3.5  # of the bend from the cubic to rated power; 3.5 puts 98 % of rated power at 14.5 m/s
STANDBY_SHARE = 0.003  # of rated power, drawn by a machine at rest
SPECIFIC_POWER_WM2 = 400.0  # rated power over rotor area, where a card gives no rotor diameter (the MM82's is 388)
# Growth of a wake's width per metre downstream: 0.38 × turbulence + 0.004 (Niayifar & Porté-Agel 2016), at 8 %.
WAKE_EXPANSION = 0.035
WAKE_START = 0.25  # its width at the rotor, in diameters (Bastankhah & Porté-Agel 2014)
FEATHERED_PITCH_DEG = 90.0


def rotor_diameter_m(turbine: Turbine) -> float:
    """Rotor diameter from the card, or from rated power at a common specific power, metres."""
    return turbine.rotor_diameter_m or float(np.sqrt(4 * turbine.rated_power_kw * 1000 / (np.pi * SPECIFIC_POWER_WM2)))


def power_curve_share(wind_speed_ms: Reals, rated_power_kw: float, diameter_m: float) -> Reals:
    """Power of a turbine as a share of its rated power, at standard density; no cut-out.

    The power in the wind, ½ρAv³, times the power coefficient, bent smoothly to rated power: ``x / (1 + x^n)^(1/n)``
    with ``x`` the unlimited share and ``n`` the sharpness of the knee. In 0..1.
    """
    area_m2 = np.pi * diameter_m**2 / 4
    share = POWER_COEFFICIENT * STANDARD_DENSITY_KGM3 / 2 * area_m2 * wind_speed_ms**3 / (rated_power_kw * 1000)
    running = np.clip((wind_speed_ms - STANDSTILL_MS) / (CUT_IN_MS - STANDSTILL_MS), 0, 1)
    return np.asarray(running * share / (1 + share**KNEE_SHARPNESS) ** (1 / KNEE_SHARPNESS))


def _layout_m(farm: Farm) -> Reals:
    """Positions of the turbines, metres east and north of the farm; without coordinates, a row five diameters apart."""
    metres_per_degree = np.radians(1) * EARTH_RADIUS_KM * 1000
    east, north = [], []
    for number, turbine in enumerate(farm.turbines):
        if turbine.latitude_deg is None or turbine.longitude_deg is None or farm.place is None:
            east.append(5.0 * rotor_diameter_m(turbine) * number)
            north.append(0.0)
        else:
            east.append((turbine.longitude_deg - farm.place[1]) * metres_per_degree * np.cos(np.radians(farm.place[0])))
            north.append((turbine.latitude_deg - farm.place[0]) * metres_per_degree)
    return np.array([east, north])


def wake_deficit(farm: Farm, speed_ms: Reals, direction_deg: Reals) -> Reals:
    """Share of the wind speed that each turbine (column) loses to the wakes of the others.

    Bastankhah & Porté-Agel 2014: ``(1 − √(1 − Ct/(8 σ²/D²))) exp(−y²/2σ²)`` with ``σ/D = k x/D + ε``; wakes add in
    quadrature (Katic 1986). Thrust by Frandsen 2007: ``Ct ≈ 7/v``, at most 0.8.
    """
    east, north = _layout_m(farm)
    towards = np.radians(direction_deg + 180)
    thrust = np.minimum(0.8, 7.0 / np.maximum(speed_ms, CUT_IN_MS))
    squares = np.zeros((len(speed_ms), len(farm.turbines)))
    for here in range(len(farm.turbines)):
        for upstream, source in enumerate(farm.turbines):
            if upstream == here:
                continue
            step_east, step_north = east[here] - east[upstream], north[here] - north[upstream]
            downwind = step_east * np.sin(towards) + step_north * np.cos(towards)
            across = step_east * np.cos(towards) - step_north * np.sin(towards)
            diameter = rotor_diameter_m(source)
            width = WAKE_EXPANSION * np.maximum(downwind, 0) / diameter + WAKE_START
            centre = 1 - np.sqrt(np.clip(1 - thrust / (8 * width**2), 0, 1))
            deficit = np.where(downwind > 0, centre * np.exp(-((across / diameter / width) ** 2) / 2), 0)
            squares[:, here] += deficit**2
    return np.asarray(np.minimum(np.sqrt(squares), 0.9))


def _stopped_by_storm(speed_ms: Reals) -> npt.NDArray[np.bool_]:
    """Whether a turbine (column) stands still after a storm: from above cut-out until below restart."""
    events = np.where(speed_ms > CUT_OUT_MS, 1.0, np.where(speed_ms < RESTART_MS, 0.0, np.nan))
    return np.asarray(pd.DataFrame(events).ffill().fillna(0) > 0)


def turbine_signals(farm: Farm, number: int, weather: Weather, recipe: Recipe, hour: Reals, season: Reals) -> pd.DataFrame:
    """One row per turbine and interval of the farm's cadence: what its sensors measure, before anything goes wrong.

    Args:
        farm: the card.
        number: the farm's column in the weather.
        weather: the true weather.
        recipe: window, seed and climate.
        hour: solar time of the weather's steps at this farm, as a column.
        season: share of the year of the weather's steps, as a column.

    Returns:
        ``turbine_id``, ``valid_at`` (start of the interval, UTC) and the signals of `cards.SIGNAL_UNITS`.

    Raises:
        ValueError: if the simulation's step does not divide the farm's cadence.
    """
    per_interval, rest = divmod(farm.signals.cadence_seconds, 60 * recipe.step_minutes)
    if rest:
        cadence = farm.signals.cadence_seconds
        raise ValueError(f"farm '{farm.id}': a cadence of {cadence} s is no multiple of {recipe.step_minutes} min steps")
    intervals = int((weather.times < pd.Timestamp(recipe.end)).sum()) // per_interval
    steps = slice(0, intervals * per_interval)
    turbines, shape = len(farm.turbines), (intervals, per_interval, len(farm.turbines))
    rng = random_stream(recipe.seed, "signals", farm.id)

    speed_100m, direction = (
        column[:, 0]
        for column in speed_and_direction(weather.wind[steps, [number]], [recipe.climate(farm.id)], hour[steps], season[steps])
    )
    heights = np.array([turbine.hub_height_m for turbine in farm.turbines])
    free = speed_100m[:, None] * (heights / REFERENCE_HEIGHT_M) ** shear_exponent(hour[steps])
    # What no two turbines share: gusts of a quarter of an hour. With wakes, the spread of La Haute Borne's turbines.
    gusts = 1 + 0.05 * process(rng, len(free), recipe.step_minutes / 60, 0.25, turbines)
    speed = free * (1 - wake_deficit(farm, free.mean(axis=1), direction)) * np.maximum(gusts, 0)

    temperature, pressure = weather.temperature_c[steps, number], weather.pressure_pa[steps, number]
    density = pressure / (GAS_CONSTANT_DRY_AIR * (temperature + KELVIN_OFFSET))
    felt = speed * (density[:, None] / STANDARD_DENSITY_KGM3) ** (1 / 3)  # IEC 61400-12-1, machines with pitch control
    rated = np.array([turbine.rated_power_kw for turbine in farm.turbines])
    share = np.column_stack(
        [
            power_curve_share(felt[:, i], turbine.rated_power_kw, rotor_diameter_m(turbine))
            for i, turbine in enumerate(farm.turbines)
        ]
    )
    feathered = _stopped_by_storm(speed) | (speed < STANDSTILL_MS)
    share = np.where(feathered, -STANDBY_SHARE, share)
    # Blades lie flat until the knee of the curve, then turn out of the wind.
    pitch = np.where(feathered, FEATHERED_PITCH_DEG, 2.2 * np.maximum(felt - 11, 0))

    def mean(values: Reals) -> Reals:
        return np.asarray(values.reshape(shape).mean(axis=1))

    def everywhere(values: Reals) -> Reals:
        return np.repeat(values[:, None], turbines, axis=1)

    east, north = (mean(everywhere(part(np.radians(direction)))) for part in (np.sin, np.cos))
    calibration = rng.normal(size=(3, turbines))  # of each sensor: constant
    noise = rng.standard_normal((5, intervals, turbines))  # of each reading
    # Standard deviations of cup anemometers, vanes and transducers of wind turbines, rounded.
    measured = {
        "power_kw": rated * (mean(share) + 0.002 * noise[0] * (0.1 + np.abs(mean(share)))),
        "wind_speed_ms": np.abs(mean(speed) * (1 + 0.01 * calibration[0]) + 0.05 * noise[1]),
        "wind_direction_deg": (np.degrees(np.arctan2(east, north)) + 2 * calibration[1] + 3 * noise[2]) % 360,
        # The nacelle warms its sensor by a degree.
        "temperature_c": mean(everywhere(temperature)) + 1 + 0.3 * calibration[2] + 0.1 * noise[3],
        "pitch_deg": mean(pitch) + 0.05 * noise[4],
    }
    times = weather.times[steps][::per_interval]
    return pd.DataFrame(
        {
            "turbine_id": np.tile([turbine.id for turbine in farm.turbines], intervals),
            "valid_at": np.repeat(times, turbines),
            **{name: values.ravel() for name, values in measured.items()},
        }
    )
