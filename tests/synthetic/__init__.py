"""A made wind fleet: physics that makes sense, weather forecasts that err as real ones do, and faults that are known.

Real farms come with faults that nobody has counted, so nothing made from them can tell whether a fault was found. Here
the truth is ours: `make_fleet` makes any number of farms from their cards and a `Recipe`, row for row as a farm would
send them (its columns, units, separators, clocks), and says which rows it spoilt, and how. The same cards and recipe
give the same data.

What is modelled, from the weather to the file:

1. Wind at 100 m is a complex Gaussian process over time and space (`weather.wind_field`). Its angle gives the
   direction; its squared modulus is exponentially distributed, so that a power of it is exactly Weibull (the power
   transform of Brown, Katz & Murphy 1984, J. Climate Appl. Meteor. 23, 1184-1195, run backwards). It is a sum of
   scales: regimes, weather systems, local gusts.
2. Shear by the power law to hub height, steeper by night; temperature, pressure, air density from the ideal gas law.
3. Wakes by the Gaussian model (Bastankhah & Porté-Agel 2014, Renewable Energy 70, 116-123), summed in quadrature.
4. Power from a smooth curve (`turbines.power_curve_share`) at density-corrected speed (IEC 61400-12-1), with cut-out
   and hysteresis.
5. Weather models (`weather.forecast_wind`) see the larger scales only, with an error that grows with lead time, is
   correlated along a run and between runs and farms, shifts in time (phase), and with the model's own bias.
6. The farm's logger (`files`): cadence, units, time stamps with whatever clock the recipe gives it, arrival times.
7. Faults (`faults`), each on rows of its own: two faults never meet on a row, so that every count has one answer.

Run ``make test-fleet`` to make the committed test fleet again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from wind_kedro.cards import SIGNAL_UNITS, WEATHER_UNITS, Farm

from .faults import FAULT_COLUMNS
from .files import FarmData, signal_files, weather_files, write_files
from .recipe import Recipe
from .turbines import turbine_signals
from .weather import forecast_wind, random_stream, season_of, solar_hour, weather_rows, weather_source, wind_field

__all__ = ["FarmData", "Recipe", "made_up_farms", "make_fleet", "write_files"]


def make_fleet(farms: Sequence[Farm], recipe: Recipe) -> Iterator[FarmData]:
    """Make the data of any number of farms, one after the other: only the fields of the weather are in memory for all.

    Args:
        farms: their cards. They say what the files look like; where the recipe's `stamping` differs, a card lies.
        recipe: everything else.

    Yields:
        One `FarmData` a farm, in the order of the cards.

    Raises:
        ValueError: if card and recipe do not fit: an unknown weather model, a cadence that the step does not divide,
            faults that strike no row or the same one.
    """
    unknown = {fault.farm for fault in recipe.faults if fault.farm} - {farm.id for farm in farms}
    if unknown:
        raise ValueError(f"faults of unknown farms: {', '.join(sorted(unknown))}")
    weather = wind_field(farms, recipe)
    runs = {model.id: forecast_wind(farms, model, weather, recipe) for model in recipe.weather_models}
    hours, season = solar_hour(weather.times, farms), season_of(weather.times)
    for number, farm in enumerate(farms):
        hour = hours[:, [number]]
        files, faults = signal_files(farm, turbine_signals(farm, number, weather, recipe, hour, season), recipe)
        for model in recipe.weather_models:
            table = weather_rows(farm, number, model, runs[model.id], weather, recipe, hour, season)
            more_files, more_faults = weather_files(farm, weather_source(farm, model.id), table, recipe)
            files |= more_files
            faults += more_faults
        yield FarmData(farm, files, pd.DataFrame(faults, columns=FAULT_COLUMNS))


def made_up_farms(
    count: int,
    seed: int,
    *,
    cadence_minutes: int = 15,
    weather_models: Sequence[str] = ("alpha", "beta"),
    length_hours: int = 48,
    max_turbines: int | None = None,
) -> list[Farm]:
    """Cards for ``count`` farms in north-western Europe, 3 to 25 turbines each, files in Parquet: a fleet of any size.

    Args:
        count: how many.
        seed: the same seed gives the same farms, and fewer farms are the first of more.
        cadence_minutes: of their signals.
        weather_models: models that forecast for them, four runs a day.
        length_hours: of a run.
        max_turbines: of a farm; its other turbines and their capacity are left out.
    """
    farms = []
    for number in range(count):
        rng = random_stream(seed, "farm", str(number))
        farm_id = f"farm_{number + 1:04d}"
        latitude, longitude = round(rng.uniform(48, 58), 4), round(rng.uniform(-5, 15), 4)
        rated_kw = float(rng.choice([2050.0, 3000.0, 4200.0]))
        turbines = [
            {"id": f"T{turbine + 1:02d}", "rated_power_kw": rated_kw, "hub_height_m": 100.0}
            for turbine in range(int(rng.integers(3, 26)))
        ][:max_turbines]
        signals = {
            "path": f"{farm_id}/signals.parquet", "format": "parquet", "cadence_seconds": 60 * cadence_minutes,
            "timestamp": "timestamp", "turbine": "turbine_id", "received_at": "received_at",
            "columns": {name: {"name": name, "unit": unit} for name, unit in SIGNAL_UNITS.items()},
        }  # fmt: skip
        names = ("wind_speed_100m_ms", "wind_direction_100m_deg", "temperature_c", "pressure_pa")
        weather = [
            {
                "model": model, "kind": "forecast", "path": f"{farm_id}/weather_{model}.parquet", "format": "parquet",
                "run_at": "run_at", "available_at": "available_at", "valid_at": "valid_at",
                "delay_minutes": 240, "run_every_minutes": 360, "length_hours": length_hours,
                "columns": {name: {"name": name, "unit": WEATHER_UNITS[name]} for name in names},
            }
            for model in weather_models
        ]  # fmt: skip
        card = {
            "id": farm_id, "name": f"Farm {number + 1}", "latitude_deg": latitude, "longitude_deg": longitude,
            "time_zone": "UTC", "capacity_kw": rated_kw * len(turbines), "turbines": turbines, "latency_minutes": 10,
            "signals": signals, "weather": weather,
        }  # fmt: skip
        farms.append(Farm.model_validate(card))
    return farms
