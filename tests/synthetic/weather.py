"""The true weather at the farms, and what weather models make of it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from wind_kedro.cards import Farm, WeatherSource
from wind_kedro.cards.units import great_circle_km

from .recipe import Climate, Recipe, WeatherModel

Reals = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]

GAS_CONSTANT_DRY_AIR = 287.05  # J/(kg K), IEC 61400-12-1
STANDARD_DENSITY_KGM3 = 1.225  # IEC 61400-12-1
REFERENCE_HEIGHT_M = 100.0  # of the weather models' wind
KELVIN_OFFSET = 273.15


def random_stream(seed: int, *names: str) -> np.random.Generator:
    """A stream of its own for every purpose, so that one farm more or one fault less changes nothing else."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def _place(farm: Farm) -> tuple[float, float]:
    """Weather is made at places."""
    if farm.place is None:
        raise ValueError(f"farm '{farm.id}': its card has no latitude_deg and longitude_deg, where weather is to be made")
    return farm.place


def distances_km(farms: Sequence[Farm]) -> Reals:
    """Great-circle distances between farms, kilometres."""
    latitude, longitude = np.array([_place(farm) for farm in farms]).T
    return np.asarray(great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude))


def _mixing(distances: Reals, kilometres: float) -> Reals:
    """The matrix that turns independent noise into noise whose correlation falls exponentially with distance."""
    correlation = np.exp(-distances / kilometres)
    # A whisker on the diagonal keeps two farms at one place from making the matrix singular.
    return np.asarray(np.linalg.cholesky(correlation + 1e-9 * np.eye(len(correlation))), dtype=np.float64)


def process(
    rng: np.random.Generator, steps: int, step_hours: float, hours: float, columns: int, *, smooth: bool = False
) -> Reals:
    """Independent stationary Gaussian processes of unit variance, one a column.

    First order (an Ornstein-Uhlenbeck process, correlation ``exp(-t/hours)``), or, smooth, the same filter twice (a
    Matérn process of order 3/2, correlation ``(1 + t/hours) exp(-t/hours)``).
    """
    memory = np.exp(-step_hours / hours)
    lead_in = int(np.ceil(5 * hours / step_hours))  # after five time constants the start is forgotten
    noise = pd.DataFrame(rng.standard_normal((lead_in + steps, columns)))
    # An exponentially weighted mean is the recursion of an AR(1) process, in C.
    filtered = noise.ewm(alpha=1 - memory, adjust=False).mean()
    gain = (1 - memory) / np.sqrt(1 - memory**2)
    if smooth:
        filtered = filtered.ewm(alpha=1 - memory, adjust=False).mean()
        gain = (1 - memory) ** 2 * np.sqrt((1 + memory**2) / (1 - memory**2) ** 3)
    return np.asarray(filtered.iloc[lead_in:] / gain)


@dataclass(frozen=True)
class Weather:
    """The true weather at the farms, one row a step of the simulation, one column a farm."""

    times: pd.DatetimeIndex
    wind: Complexes  # unit variance in each part; all scales
    resolved: Complexes  # the same, of the scales that a weather model sees
    temperature_c: Reals
    pressure_pa: Reals


def wind_field(farms: Sequence[Farm], recipe: Recipe) -> Weather:
    """The true weather of all farms from the recipe's start until the last forecast made before its end has run out."""
    horizon = pd.Timedelta(hours=max(source.length_hours for farm in farms for source in farm.weather))
    # A day more than the longest forecast, as phase errors look ahead.
    times = pd.date_range(
        recipe.start,
        recipe.end + horizon + pd.Timedelta(days=1),
        freq=f"{recipe.step_minutes}min",
        inclusive="left",
        unit="us",
    )
    steps, step_hours, distances = len(times), recipe.step_minutes / 60, distances_km(farms)
    wind = np.zeros((steps, len(farms)), dtype=np.complex128)
    resolved = np.zeros_like(wind)
    for number, scale in enumerate(recipe.scales):
        rng, mixing = random_stream(recipe.seed, "wind", str(number)), _mixing(distances, scale.kilometres)
        east, north = (process(rng, steps, step_hours, scale.hours, len(farms), smooth=scale.smooth) for _ in range(2))
        part = np.sqrt(scale.share) * ((east + 1j * north) @ mixing.T)
        wind += part
        if scale.seen_by_models:
            resolved += part
    resolved /= np.sqrt(sum(scale.share for scale in recipe.scales if scale.seen_by_models))
    # Synoptic anomalies: days long, a thousand kilometres wide; standard deviations of a maritime mid-latitude climate.
    temperature = (
        process(random_stream(recipe.seed, "temperature"), steps, step_hours, 72, len(farms)) @ _mixing(distances, 800).T
    )
    pressure = (
        process(random_stream(recipe.seed, "pressure"), steps, step_hours, 20, len(farms), smooth=True)
        @ _mixing(distances, 1000).T
    )
    hour, season = solar_hour(times, farms), season_of(times)
    return Weather(
        times=times,
        wind=wind,
        resolved=resolved,
        temperature_c=10
        - 8 * np.cos(2 * np.pi * (season - 20 / 365))
        + 2 * np.cos(2 * np.pi * (hour - 15) / 24)
        + 3.0 * temperature,
        pressure_pa=101_000 + 1_000 * pressure,
    )


def solar_hour(times: pd.DatetimeIndex, farms: Sequence[Farm]) -> Reals:
    """Local mean solar time in hours, one column a farm."""
    utc = np.asarray(times.hour + times.minute / 60)[:, None]
    return np.asarray((utc + np.array([_place(farm)[1] for farm in farms]) / 15) % 24)


def season_of(times: pd.DatetimeIndex) -> Reals:
    """Share of the year gone by, as a column."""
    return np.asarray(times.day_of_year / 365.25)[:, None]


def speed_and_direction(wind: Complexes, climates: Sequence[Climate], hour: Reals, season: Reals) -> tuple[Reals, Reals]:
    """Wind speed (m/s) and the direction it comes from (degrees) at 100 m, from Gaussian wind, one column a farm."""
    shape = np.array([climate.weibull_shape for climate in climates])
    # The Weibull mean is scale * Gamma(1 + 1/shape).
    gamma = np.array([math.gamma(1 + 1 / climate.weibull_shape) for climate in climates])
    scale = np.array([climate.mean_speed_ms for climate in climates]) / gamma
    # At 100 m the night is windier than the day (the low-level jet), and the winter windier than the summer.
    rhythm = (1 + 0.05 * np.cos(2 * np.pi * (hour - 1) / 24)) * (1 + 0.15 * np.cos(2 * np.pi * (season - 15 / 365)))
    speed = scale * rhythm * (np.abs(wind) ** 2 / 2) ** (1 / shape)
    angle = np.angle(wind)
    # Uniform angles, drawn together around the prevailing direction by a map that stays one-to-one.
    drawn = angle - np.array([climate.prevalence for climate in climates]) * np.sin(angle)
    direction = (np.array([climate.prevailing_from_deg for climate in climates]) + np.degrees(drawn)) % 360
    return speed, direction


def shear_exponent(hour: Reals) -> Reals:
    """Exponent of the power law: 0.16 on average (open land is 1/7), less when the sun mixes the air, more by night."""
    return np.asarray(0.16 - 0.08 * np.cos(2 * np.pi * (hour - 13) / 24))


@dataclass(frozen=True)
class Runs:
    """The runs of one weather model: Gaussian wind by run, lead hour and farm."""

    run_at: pd.DatetimeIndex
    available_at: pd.DatetimeIndex
    valid_index: npt.NDArray[np.int64]  # (run, lead): step of the weather's times
    wind: Complexes  # (run, lead, farm)


def forecast_wind(farms: Sequence[Farm], model: WeatherModel, weather: Weather, recipe: Recipe) -> Runs:
    """What a weather model says, run by run, for all farms at once: errors of neighbours are alike.

    Truth and error are mixed so that the model's wind has the variance of the true one at every lead time, as real
    models keep their climate: ``√(1 − e) truth(t + phase) + √e error`` with ``e`` growing with lead time.
    """
    source = weather_source(farms[0], model.id)
    run_at = pd.date_range(recipe.start, recipe.end, freq=f"{source.run_every_minutes}min", inclusive="left", unit="us")
    leads = np.arange(source.length_hours + 1)
    per_hour = 60 / recipe.step_minutes
    first = np.asarray((run_at - weather.times[0]) / pd.Timedelta(minutes=recipe.step_minutes)).round().astype(np.int64)
    valid_index = (first[:, None] + leads * per_hour).astype(np.int64)

    rng = random_stream(recipe.seed, "weather model", model.id)
    mixing = _mixing(distances_km(farms), model.error_kilometres)
    phase_hours = model.phase_minutes_per_hour / 60 * leads * rng.standard_normal((len(run_at), 1))
    seen = np.clip(valid_index + np.round(phase_hours * per_hour).astype(np.int64), 0, len(weather.times) - 1)

    hours = int(valid_index.max() / per_hour) + 1
    common, own = (
        process(rng, length, 1, model.error_hours, 2 * columns).reshape(length, -1, len(farms), 2)
        for length, columns in ((hours, len(farms)), (len(leads), len(run_at) * len(farms)))
    )
    shared = np.sqrt(model.shared_between_runs) * common[(valid_index / per_hour).astype(np.int64), 0]
    parts = shared + np.sqrt(1 - model.shared_between_runs) * own.swapaxes(0, 1)
    error = np.einsum("rlfc,gf->rlgc", parts, mixing) @ np.array([1, 1j])
    share = np.minimum(model.error_share + model.error_share_per_hour * leads, 1)[None, :, None]

    jitter = rng.integers(0, model.delay_jitter_minutes + 1, len(run_at))
    available_at = run_at + pd.to_timedelta(model.delay_minutes + jitter, unit="min")
    return Runs(run_at, available_at, valid_index, np.sqrt(1 - share) * weather.resolved[seen] + np.sqrt(share) * error)


def weather_source(farm: Farm, model_id: str) -> WeatherSource:
    """The farm's source of that weather model; `ValueError` if its card has none."""
    for source in farm.weather:
        if source.model == model_id:
            return source
    raise ValueError(f"farm '{farm.id}': its card has no weather model '{model_id}'")


def weather_rows(
    farm: Farm,
    number: int,
    model: WeatherModel,
    runs: Runs,
    weather: Weather,
    recipe: Recipe,
    hour: Reals,
    season: Reals,
) -> pd.DataFrame:
    """One row per run and valid time: the model's weather at the farm, before anything goes wrong.

    Args:
        farm: the card.
        number: the farm's column in weather and runs.
        model: bias of speed and temperature.
        runs: its runs.
        weather: the true weather, for temperature and pressure.
        recipe: seed and climate.
        hour: solar time of the weather's steps at this farm, as a column.
        season: share of the year of the weather's steps, as a column.

    Returns:
        ``run_at``, ``available_at``, ``valid_at`` (UTC) and the variables of `cards.WEATHER_UNITS`.
    """
    index = runs.valid_index.ravel()
    speed, direction = (
        column[:, 0]
        for column in speed_and_direction(
            runs.wind[:, :, number].reshape(-1, 1), [recipe.climate(farm.id)], hour[index], season[index]
        )
    )
    speed = np.maximum(model.speed_factor * speed + model.speed_offset_ms, 0)
    near_ground = speed * (10 / REFERENCE_HEIGHT_M) ** shear_exponent(hour[index])[:, 0]
    rng = random_stream(recipe.seed, "temperature of", model.id, farm.id)
    leads = runs.valid_index.shape[1]
    off = process(rng, leads, 1, 12, len(runs.run_at)).T.ravel()
    temperature = weather.temperature_c[index, number] + model.temperature_error_c * off
    pressure = weather.pressure_pa[index, number]
    angle = np.radians(direction)
    return pd.DataFrame(
        {
            "run_at": np.repeat(runs.run_at, leads),
            "available_at": np.repeat(runs.available_at, leads),
            "valid_at": weather.times[index],
            "wind_speed_100m_ms": speed,
            "wind_direction_100m_deg": direction,
            # Meteorological direction is where the wind comes from; u and v say where it goes.
            "wind_u_100m_ms": -speed * np.sin(angle),
            "wind_v_100m_ms": -speed * np.cos(angle),
            "wind_u_10m_ms": -near_ground * np.sin(angle),
            "wind_v_10m_ms": -near_ground * np.cos(angle),
            "temperature_c": temperature,
            "pressure_pa": pressure,
            "air_density_kgm3": pressure / (GAS_CONSTANT_DRY_AIR * (temperature + KELVIN_OFFSET)),
        }
    )
