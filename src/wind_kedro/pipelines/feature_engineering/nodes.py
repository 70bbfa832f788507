"""As-of features: for every issue time, only what could be read by then.

The two halves are `weather_grid` (the newest run that was available, on the product's intervals) and `known_production` (the
last observations that had arrived). Both look at `available_at` and at nothing else to decide what is known.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError
from wind_kedro.fleet import Workers, map_farms
from wind_kedro.points import at_leading_points

FloatArray = NDArray[np.float64]
TimeArray = NDArray[np.datetime64]

#: Air density at sea level of the ISO standard atmosphere, to which IEC 61400-12-1 normalises power curves, kg/m3.
STANDARD_AIR_DENSITY_KGM3 = 1.225
_MINUTE = np.timedelta64(1, "m")


class FeatureParameters(BaseModel):
    """What the features are made of (`parameters_features.yml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbour_minutes: list[int] = Field(
        description="wind speed of the same run this much before and after the interval"
    )
    window_minutes: int = Field(
        gt=0, description="width of the centred window of mean and deviation of wind speed in the run"
    )
    production_memory_hours: int = Field(gt=0, description="how far back the last known production is looked for")


class NoWeatherError(WindKedroError):
    """No weather run reaches an issue time that is to be forecast."""


def build_features(
    observations: pd.DataFrame,
    weather: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    features: FeatureParameters,
    workers: Workers,
) -> pd.DataFrame:
    """One row per product, entity, issue time and interval: everything known at the issue time, as numbers.

    Issue times run from the first weather run to ``clock.as_of``; intervals from the first whose gate is open to the horizon.
    Winds are m/s at 100 m in the middle of the interval, the newest run available of each weather model at its leading
    point, in its newest version by then, averaged over models, and over the farms of a group by capacity. Shares are of
    available capacity. Missing means not known at issue.

    Raises:
        NoWeatherError: if no entity has any weather for any issue time.
    """
    weather = at_leading_points(weather[weather["available_at"] <= clock.as_of], fleet.farms)
    observations = observations[observations["available_at"] <= clock.as_of]
    by_farm = dict(iter(weather.groupby("farm_id")))
    by_entity = dict(iter(observations.groupby(["entity_id", "granularity_minutes"])))
    tasks = {}
    for product in fleet.products:
        gate = fleet.market(product.market).gate_closure_minutes
        for entity_id in product.members:
            farms = {farm.id: farm.capacity_kw for farm in fleet.farms_of(entity_id)}
            member_weather = {
                farm_id: _of_models(by_farm[farm_id], product) for farm_id in farms if farm_id in by_farm
            }
            known = by_entity.get((entity_id, product.granularity_minutes), observations.iloc[:0])
            tasks[product.id, entity_id] = (
                product,
                entity_id,
                gate,
                farms,
                member_weather,
                known,
                clock.as_of,
                features,
            )
    mapped = map_farms(features_of_entity, tasks, workers=workers, label="features")
    tables = [table for table in mapped.results.values() if not table.empty]
    if not tables:
        reasons = "; ".join(f"{key[1]}: {reason}" for key, reason in mapped.failures.items()) or "the weather is empty"
        raise NoWeatherError(f"no features as of {clock.as_of:%Y-%m-%d %H:%M} UTC: {reasons}")
    return pd.concat(tables, ignore_index=True)


def _of_models(weather: pd.DataFrame, product: Product) -> pd.DataFrame:
    """The weather that a product may be made from."""
    if product.weather_models is None:
        return weather
    return weather[weather["weather_model"].isin(product.weather_models)]


def features_of_entity(
    product: Product,
    entity_id: str,
    gate_closure_minutes: int,
    capacity_kw_by_farm: dict[str, float],
    weather_by_farm: dict[str, pd.DataFrame],
    observations: pd.DataFrame,
    as_of: dt.datetime,
    parameters: FeatureParameters,
) -> pd.DataFrame:
    """The features of one product and entity; see `build_features`."""
    weather_by_farm = {farm_id: table for farm_id, table in weather_by_farm.items() if not table.empty}
    if not weather_by_farm:
        return pd.DataFrame()
    first_run = min(table["available_at"].min() for table in weather_by_farm.values())
    issues = product.issues_between(first_run.to_pydatetime() - dt.timedelta(microseconds=1), as_of)
    if not issues:
        return pd.DataFrame()
    issued_at = pd.DatetimeIndex(issues).tz_localize(None).to_numpy().astype("datetime64[us]")
    step = product.granularity_minutes
    # The first interval, counted from the issue time, whose gate is still open, on the grid of the granularity.
    offset = (issued_at - issued_at.astype("datetime64[D]")) // _MINUTE
    first_lead = (-(-(offset + gate_closure_minutes) // step) * step - offset).astype(np.int64)
    leads = first_lead[:, None] + np.arange(0, product.horizon_minutes - first_lead.min(), step)[None, :]
    shown = leads < product.horizon_minutes
    valid_at = issued_at[:, None] + leads * _MINUTE

    columns: dict[str, FloatArray] = weather_features(
        issued_at, valid_at, step, capacity_kw_by_farm, weather_by_farm, parameters
    )
    newest_run = columns.pop("newest_run")
    hours = (valid_at - valid_at.astype("datetime64[D]")) / np.timedelta64(1, "h")
    columns |= {"hour_of_day": hours}
    production = known_production(issued_at, observations, parameters.production_memory_hours)
    columns |= {name: np.repeat(values[:, None], leads.shape[1], axis=1) for name, values in production.items()}

    return pd.DataFrame(
        {
            "product_id": product.id,
            "entity_id": entity_id,
            "issued_at": pd.DatetimeIndex(np.broadcast_to(issued_at[:, None], leads.shape)[shown]).tz_localize("UTC"),
            "valid_at": pd.DatetimeIndex(valid_at[shown]).tz_localize("UTC"),
            "lead_minutes": leads[shown],
            "weather_run_at": pd.DatetimeIndex(_from_minutes(newest_run)[shown]).tz_localize("UTC"),
            **{name: values[shown] for name, values in columns.items()},
        }
    )


def weather_features(
    issued_at: TimeArray,
    valid_at: TimeArray,
    step_minutes: int,
    capacity_kw_by_farm: dict[str, float],
    weather_by_farm: dict[str, pd.DataFrame],
    parameters: FeatureParameters,
) -> dict[str, FloatArray]:
    """Weather of an entity on its intervals, arrays of shape (issues, leads).

    Every weather model gives its newest run that was available at the issue time; models are averaged, their standard
    deviation is ``weather_spread_ms``; farms are averaged by capacity (those that have weather). ``newest_run`` is in minutes
    since 1970.
    """
    total: dict[str, FloatArray] = {}
    weight: dict[str, FloatArray] = {}
    newest = np.full(valid_at.shape, np.nan)
    for farm_id, table in weather_by_farm.items():
        models = [
            weather_grid(run_table, issued_at, valid_at, step_minutes, parameters)
            for _, run_table in table.groupby("weather_model", sort=True)
        ]
        runs = np.stack([model.pop("run_minutes") for model in models])
        newest = np.fmax(newest, _quiet(np.nanmax, runs))
        merged = {name: _quiet(np.nanmean, np.stack([model[name] for model in models])) for name in models[0]}
        speeds = np.stack([model["wind_speed_100m_ms"] for model in models])
        merged["weather_models"] = np.sum(~np.isnan(speeds), axis=0).astype(float)
        # Of one model alone the spread is not known; nothing is not the same as none.
        merged["weather_spread_ms"] = np.where(merged["weather_models"] > 1, _quiet(np.nanstd, speeds), np.nan)
        merged["weather_age_minutes"] = _minutes(issued_at)[:, None] - _quiet(np.nanmax, runs)
        for name, values in merged.items():
            known = np.where(np.isnan(values), 0.0, capacity_kw_by_farm[farm_id])
            total[name] = total.get(name, 0.0) + np.where(np.isnan(values), 0.0, values) * known
            weight[name] = weight.get(name, 0.0) + known
    mean = {
        name: np.divide(total[name], weight[name], out=np.full(valid_at.shape, np.nan), where=weight[name] > 0)
        for name in total
    }
    speed, direction = mean["wind_speed_100m_ms"], np.arctan2(-mean["wind_u_100m_ms"], -mean["wind_v_100m_ms"])
    return mean | {
        "newest_run": newest,
        "wind_speed_100m_cubed": speed**3,
        # IEC 61400-12-1, 8.3: wind speed normalised to standard density.
        "wind_speed_density_ms": speed
        * np.cbrt(
            np.where(np.isnan(mean["air_density_kgm3"]), STANDARD_AIR_DENSITY_KGM3, mean["air_density_kgm3"])
            / STANDARD_AIR_DENSITY_KGM3
        ),
        "wind_direction_sin": np.sin(direction),
        "wind_direction_cos": np.cos(direction),
    }


def weather_grid(
    runs: pd.DataFrame, issued_at: TimeArray, valid_at: TimeArray, step_minutes: int, parameters: FeatureParameters
) -> dict[str, FloatArray]:
    """One farm's weather of one model: the newest run available at each issue time, read at the middle of each interval.

    Values between the run's own times are interpolated linearly, never across runs and never beyond a run's end.
    """
    names = [
        "wind_speed_100m_ms", "wind_u_100m_ms", "wind_v_100m_ms", "temperature_c", "pressure_pa", "air_density_kgm3",
    ]  # fmt: skip
    shape = valid_at.shape
    result = {name: np.full(shape, np.nan) for name in names}
    result |= {_neighbour_name(shift): np.full(shape, np.nan) for shift in parameters.neighbour_minutes}
    window = parameters.window_minutes
    result |= {f"wind_speed_100m_ms_{what}_{window}min": np.full(shape, np.nan) for what in ("mean", "std")}
    run_minutes = np.full(shape, np.nan)

    last_middle = valid_at[:, -1] + np.timedelta64(step_minutes * 30, "s")
    run_at, arrived_at = run_to_read(runs, issued_at, last_middle)
    table = runs.sort_values(["run_at", "valid_at", "available_at"])
    all_runs, arrivals, all_at = (
        _naive(table["run_at"]),
        _naive(table["available_at"]),
        _minutes(_naive(table["valid_at"])),
    )
    values = {name: table[name].to_numpy(float) for name in names}
    known = ~np.isnat(run_at)
    for chosen_run, chosen_part in sorted(set(zip(run_at[known], arrived_at[known], strict=True))):
        issues = np.flatnonzero((run_at == chosen_run) & (arrived_at == chosen_part))
        rows = np.arange(np.searchsorted(all_runs, chosen_run), np.searchsorted(all_runs, chosen_run, side="right"))
        rows = rows[arrivals[rows] <= chosen_part]
        # Versions of a time lie next to each other, oldest first: the last that had arrived counts.
        rows = rows[np.append(all_at[rows][1:] != all_at[rows][:-1], True)]
        at, speed = all_at[rows], values["wind_speed_100m_ms"][rows]
        middle = _minutes(valid_at[issues]) + step_minutes / 2
        for name in names:
            result[name][issues] = _read(at, values[name][rows], middle)
        for shift in parameters.neighbour_minutes:
            result[_neighbour_name(shift)][issues] = _read(at, speed, middle + shift)
        around = np.stack([_read(at, speed, middle + shift) for shift in np.linspace(-window / 2, window / 2, 5)])
        result[f"wind_speed_100m_ms_mean_{window}min"][issues] = _quiet(np.nanmean, around)
        result[f"wind_speed_100m_ms_std_{window}min"][issues] = _quiet(np.nanstd, around)
        run_minutes[issues] = np.where(np.isnan(result["wind_speed_100m_ms"][issues]), np.nan, _minutes(chosen_run))
    return result | {"run_minutes": run_minutes}


def run_to_read(runs: pd.DataFrame, issued_at: TimeArray, until: TimeArray) -> tuple[TimeArray, TimeArray]:
    """For each issue time the run to read, and how much of it: its ``run_at``, and when its last part known then arrived.

    Runs come late, in parts, or break off; what is still to come is not known at the issue time. So of what had arrived by then
    the newest run that reaches ``until`` counts; where none does, the one that reaches furthest. NaT where nothing had arrived.
    """
    parts = runs.groupby(["run_at", "available_at"])["valid_at"].max().reset_index()
    parts["valid_at"] = parts.groupby("run_at")["valid_at"].cummax()  # with the parts before it
    parts = parts.sort_values(["available_at", "run_at"])
    run_at, arrived_at, reach = (_naive(parts[name]) for name in ("run_at", "available_at", "valid_at"))
    # What arrived longer ago than any run reaches ahead ends before the issue: it need not be looked at.
    starts = np.searchsorted(arrived_at, issued_at - (reach - arrived_at).max())
    ends = np.searchsorted(arrived_at, issued_at, side="right")
    chosen_run, chosen_part = (np.full(issued_at.shape, np.datetime64("NaT"), dtype="datetime64[us]") for _ in range(2))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start < end:
            enough = np.minimum(reach[start:end], until[number])
            best = start + np.lexsort((arrived_at[start:end], run_at[start:end], enough))[-1]
            chosen_run[number], chosen_part[number] = run_at[best], arrived_at[best]
    return chosen_run, chosen_part


def known_production(issued_at: TimeArray, observations: pd.DataFrame, memory_hours: int) -> dict[str, FloatArray]:
    """What was known of an entity's production at each issue time; arrays of one value an issue.

    ``last_power_share`` and its age (minutes from the start of its interval to the issue), from the newest version of the newest
    interval that had arrived.
    """
    result = {name: np.full(len(issued_at), np.nan) for name in ("last_power_share", "last_power_age_minutes")}
    if observations.empty:
        return result
    table = observations.sort_values(["valid_at", "available_at"])
    valid, arrived = _naive(table["valid_at"]), _naive(table["available_at"])
    share = (table["power_kw"] / table["available_capacity_kw"]).to_numpy(float)
    starts = np.searchsorted(valid, issued_at - np.timedelta64(memory_hours, "h"))
    ends = np.searchsorted(valid, issued_at)
    for number, (issue, start, end) in enumerate(zip(issued_at, starts, ends, strict=True)):
        rows = np.arange(start, end)[arrived[start:end] <= issue]
        if len(rows):
            # Versions of an interval lie next to each other, oldest first: the last row is the newest version of the newest.
            result["last_power_share"][number] = share[rows[-1]]
            result["last_power_age_minutes"][number] = (issue - valid[rows[-1]]) / _MINUTE
    return result


def _read(at: FloatArray, values: FloatArray, where: FloatArray) -> FloatArray:
    """Linear interpolation; missing outside the run and next to a missing value."""
    return np.interp(where, at, values, left=np.nan, right=np.nan)


def _neighbour_name(shift: int) -> str:
    return f"wind_speed_100m_ms_{'plus' if shift > 0 else 'minus'}_{abs(shift)}min"


def _naive(times: pd.Series) -> TimeArray:
    """UTC times as NumPy has them: without zone."""
    naive: TimeArray = times.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return naive


def _minutes(times: Any) -> FloatArray:
    return np.asarray(times).astype("datetime64[m]").astype(np.float64)


def _from_minutes(minutes: FloatArray) -> TimeArray:
    times = np.full(minutes.shape, np.datetime64("NaT"), dtype="datetime64[us]")
    known = ~np.isnan(minutes)
    times[known] = minutes[known].astype("int64").astype("datetime64[m]")
    return times


def _quiet(reduce: Any, stacked: FloatArray) -> FloatArray:
    """A nan-reduction over the first axis; all missing is missing, without NumPy's warning about it."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reduced: FloatArray = reduce(stacked, axis=0)
    return reduced
