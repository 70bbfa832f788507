"""Weather features: the newest run known at each issue, on the product's intervals, and quantities derived from its wind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wind_kedro.cards import Steps
from wind_kedro.pipelines.feature_engineering.weather_runs import Places, ReadRuns, Runs, lay_out, places, run_to_read

from .arrays import FloatArray, TimeArray, minutes, quiet
from .settings import FeatureParameters

#: Air density at sea level of the ISO standard atmosphere, to which IEC 61400-12-1 normalises power curves, kg/m3.
STANDARD_AIR_DENSITY_KGM3 = 1.225
SPEED, U, V = "wind_speed_100m_ms", "wind_u_100m_ms", "wind_v_100m_ms"
SPEED_10M, U_10M, V_10M = "wind_speed_10m_ms", "wind_u_10m_ms", "wind_v_10m_ms"
AIR = ("temperature_c", "pressure_pa", "air_density_kgm3")
#: Values of a run that are read.
VALUES = (SPEED, U, V, U_10M, V_10M, *AIR)
#: A window is looked at in steps of at most an hour, and at no fewer points than these.
_WINDOW_POINTS, _WINDOW_STEP_MINUTES = 5, 60
#: Below this wind speed direction and ratios are undefined, m/s: half of an anemometer's starting threshold.
_CALM_MS = 0.2


@dataclass(frozen=True)
class Grid:
    """The intervals of a product: arrays of shape (issues, leads).

    Attributes:
        issued_at: one an issue.
        valid_at: start of each interval.
        step_minutes: length of an interval.
    """

    issued_at: TimeArray
    valid_at: TimeArray
    step_minutes: int

    @property
    def middle(self) -> FloatArray:
        """Middle of each interval, minutes since 1970."""
        middle: FloatArray = minutes(self.valid_at) + self.step_minutes / 2
        return middle

    @property
    def until(self) -> TimeArray:
        """Middle of the last interval of each issue."""
        until: TimeArray = self.valid_at[:, -1] + np.timedelta64(self.step_minutes * 30, "s")
        return until


def weather_features(
    grid: Grid,
    capacity_by_farm: Mapping[str, Steps],
    weather_by_farm: Mapping[str, Mapping[str, Runs]],
    families: Collection[str],
    parameters: FeatureParameters,
) -> dict[str, FloatArray]:
    """Weather of an entity on its intervals, arrays of shape (issues, leads).

    Every weather model gives its newest run that was available at the issue time; models are averaged, their standard
    deviation is ``weather_spread_ms``; farms are averaged by their capacity at the interval (those that have weather).
    ``newest_run`` is in minutes since 1970.

    Args:
        grid: the issues and their intervals.
        capacity_by_farm: installed capacity of each farm by time, kW.
        weather_by_farm: its runs by weather model.
        families: of features that are wanted.
        parameters: the settings.
    """
    total: dict[str, FloatArray] = {}
    weight: dict[str, FloatArray] = {}
    newest = np.full(grid.valid_at.shape, np.nan)
    for farm_id, of_models in weather_by_farm.items():
        sources = list(of_models.values()) or [Runs.none(VALUES)]
        models = [read_model(source, grid, families, parameters) for source in sources]
        runs = np.stack([model.pop("run_minutes") for model in models])
        capacity_kw = capacity_by_farm[farm_id].at(grid.valid_at)
        newest = np.fmax(newest, np.where(capacity_kw > 0, quiet(np.nanmax, runs), np.nan))
        merged = {name: _mean([model[name] for model in models]) for name in models[0]}
        speeds = np.stack([model[SPEED] for model in models])
        merged["weather_models"] = np.sum(~np.isnan(speeds), axis=0).astype(float)
        # Of one model alone the spread is not known; nothing is not the same as none.
        merged["weather_spread_ms"] = np.where(merged["weather_models"] > 1, quiet(np.nanstd, speeds), np.nan)
        merged["weather_age_minutes"] = minutes(grid.issued_at)[:, None] - quiet(np.nanmax, runs)
        for name, values in merged.items():
            known = np.where(np.isnan(values), 0.0, capacity_kw)
            total[name] = total.get(name, 0.0) + np.where(np.isnan(values), 0.0, values) * known
            weight[name] = weight.get(name, 0.0) + known
    mean = {
        name: np.divide(total[name], weight[name], out=np.full(newest.shape, np.nan), where=weight[name] > 0) for name in total
    }
    return derived(mean) | {"newest_run": newest}


def read_model(runs: Runs, grid: Grid, families: Collection[str], parameters: FeatureParameters) -> dict[str, FloatArray]:
    """One farm's weather of one model: the newest run available at each issue time, read at the middle of each interval.

    Values between the run's own times are interpolated linearly, never across runs; beyond a run's ends its outermost value holds
    for ``edge_minutes``.
    """
    newest = run_to_read(runs.parts, grid.issued_at, grid.until)
    read, values = _read_rows(runs, *newest)

    def at(shift: float) -> Places:
        return places(read, grid.middle + shift, parameters.edge_minutes)

    here = at(0)
    result = {name: here.read(column) for name, column in values.items()}
    if "neighbours" in families:
        for shift in parameters.neighbour_minutes:
            result[neighbour(SPEED, shift)] = at(shift).read(values[SPEED])
        around = {
            window: np.stack([at(shift).read(values[SPEED]) for shift in _window(window)])
            for window in {*parameters.window_minutes, *parameters.extremes_minutes}
        }
        for window in parameters.window_minutes:
            result[f"{SPEED}_mean_{window}min"] = quiet(np.nanmean, around[window])
            result[f"{SPEED}_std_{window}min"] = quiet(np.nanstd, around[window])
        for window in parameters.extremes_minutes:
            result[f"{SPEED}_min_{window}min"] = quiet(np.nanmin, around[window])
            result[f"{SPEED}_max_{window}min"] = quiet(np.nanmax, around[window])
    if "neighbour_components" in families:
        for shift in parameters.component_minutes or parameters.neighbour_minutes:
            where = at(shift)
            result |= {neighbour(name, shift): where.read(values[name]) for name in (U, V)}
    if "run" in families:
        over = result[SPEED].T
        for name, reduce in (("mean", np.nanmean), ("std", np.nanstd), ("min", np.nanmin), ("max", np.nanmax)):
            whole = np.broadcast_to(quiet(reduce, over)[:, None], grid.valid_at.shape)
            result[f"{SPEED}_run_{name}"] = np.where(np.isnan(result[SPEED]), np.nan, whole)
    earlier = _read_before(runs, grid, newest[0], parameters.runs - 1 if "runs" in families else int("last_run" in families))
    if "last_run" in families:
        before, values_before = earlier[0]
        speed_before = places(before, grid.middle, parameters.edge_minutes).read(values_before[SPEED])
        result[f"{SPEED}_last_run_change"] = result[SPEED] - speed_before
    if "runs" in families:
        result |= _over_runs([(read, values), *earlier], grid, parameters)
    known_run = np.broadcast_to(read.run_minutes[:, None], grid.valid_at.shape)
    result["run_minutes"] = np.where(np.isnan(result[SPEED]), np.nan, known_run)
    return result


#: A run that each issue reads, and the values of its rows.
ReadRun = tuple[ReadRuns, dict[str, FloatArray]]


def _read_before(runs: Runs, grid: Grid, run_at: TimeArray, count: int) -> list[ReadRun]:
    """So many runs before that of each issue, the newest first; where there is none, the issue reads no run."""
    found: list[ReadRun] = []
    for _ in range(count):
        chosen = run_to_read(runs.parts, grid.issued_at, grid.until, run_at)
        # Without an earlier run, none before it is looked for either.
        run_at = np.where(np.isnat(run_at), run_at, chosen[0])
        found.append(_read_rows(runs, run_at, chosen[1], names=[SPEED, U, V]))
    return found


def _over_runs(last_runs: Sequence[ReadRun], grid: Grid, parameters: FeatureParameters) -> dict[str, FloatArray]:
    """What the last runs that were available at the issue forecast for the same interval, arrays of shape (issues, leads).

    Of wind speed and its components the mean, in which each run has ``run_weight`` times the weight of the next newer one; of the
    speed its standard deviation, least and most over runs, the newest less the mean of the others, and the mean before and after
    the interval. Runs that do not reach an interval do not count.
    """

    def over(shift: float, *names: str) -> list[FloatArray]:
        where = [places(read, grid.middle + shift, parameters.edge_minutes) for read, _ in last_runs]
        return [
            np.stack([place.read(values[name]) for place, (_, values) in zip(where, last_runs, strict=True)]) for name in names
        ]

    def mean(found: FloatArray) -> FloatArray:
        weights: FloatArray = parameters.run_weight ** np.arange(len(found), dtype=np.float64)[:, None, None]
        return _weighted_mean(found, weights)

    speeds, u, v = over(0, SPEED, U, V)
    result = {f"{name}_runs_mean": mean(found) for name, found in ((SPEED, speeds), (U, u), (V, v))}
    for name, reduce in (("std", np.nanstd), ("min", np.nanmin), ("max", np.nanmax)):
        result[f"{SPEED}_runs_{name}"] = quiet(reduce, speeds)
    result[f"{SPEED}_runs_change"] = speeds[0] - mean(speeds[1:])
    for shift in parameters.run_minutes:
        result[neighbour(f"{SPEED}_runs_mean", shift)] = mean(*over(shift, SPEED))
    return result


def _weighted_mean(stacked: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean over the first axis of the values that are known; missing where none has a weight."""
    known = ~np.isnan(stacked)
    weight = np.where(known, weights, 0.0).sum(axis=0)
    total = np.where(known, stacked * weights, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, weight, out=np.full(weight.shape, np.nan), where=weight > 0)
    return mean


def _window(width: int) -> FloatArray:
    """Minutes before and after the middle at which a window is looked at."""
    return np.linspace(-width / 2, width / 2, max(_WINDOW_POINTS, width // _WINDOW_STEP_MINUTES + 1))


def _read_rows(
    runs: Runs, run_at: TimeArray, arrived_at: TimeArray, names: Sequence[str] = VALUES
) -> tuple[ReadRuns, dict[str, FloatArray]]:
    """The chosen parts of runs (see `run_to_read`), and the values of their rows."""
    read = lay_out(runs, run_at, arrived_at)
    values = {name: runs.values[name][read.rows] for name in names if name in runs.values}
    slow = {SPEED_10M: np.hypot(values[U_10M], values[V_10M])} if U_10M in values else {}
    return read, values | slow


def wind_at_point(of_models: Mapping[str, Runs], grid: Grid, parameters: FeatureParameters) -> dict[str, FloatArray]:
    """Speed and components at another point, and speed before and after; mean over its models, shape (issues, leads)."""
    found = []
    shifts = {neighbour(SPEED, shift): shift for shift in parameters.other_farm_minutes}
    for runs in of_models.values():
        read, values = _read_rows(runs, *run_to_read(runs.parts, grid.issued_at, grid.until))
        here = places(read, grid.middle, parameters.edge_minutes)
        own = {name: here.read(values[name]) for name in (SPEED, U, V, SPEED_10M)}
        for name, shift in shifts.items():
            own[name] = places(read, grid.middle + shift, parameters.edge_minutes).read(values[SPEED])
        found.append(own)
    if not found:
        return {name: np.full(grid.valid_at.shape, np.nan) for name in (SPEED, U, V, SPEED_10M, *shifts)}
    return {name: _mean([model[name] for model in found]) for name in found[0]}


def speed_at_point(of_models: Mapping[str, Runs], grid: Grid, parameters: FeatureParameters) -> FloatArray:
    """Wind speed at the point of a farm, m/s: mean over its models, shape (issues, leads)."""
    found = []
    for runs in of_models.values():
        read, values = _read_rows(runs, *run_to_read(runs.parts, grid.issued_at, grid.until), names=[SPEED])
        found.append(places(read, grid.middle, parameters.edge_minutes).read(values[SPEED]))
    return _mean(found) if found else np.full(grid.valid_at.shape, np.nan)


def mean_speed(speeds: Mapping[str, FloatArray], grid: Grid, capacity_by_farm: Mapping[str, Steps]) -> FloatArray:
    """Mean of the wind speeds of farms by their capacity at the interval, of those that have a value; shape (issues, leads)."""
    stacked = np.stack([speeds[farm_id] for farm_id in capacity_by_farm])
    capacity_kw = np.stack([capacity.at(grid.valid_at) for capacity in capacity_by_farm.values()])
    return _weighted_mean(stacked, capacity_kw)


def derived(mean: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The weather with what follows from it: directions, cubes, speed at standard density, shear and veer."""
    speed, slow = mean[SPEED], mean[SPEED_10M]
    bearing, below = (np.arctan2(-mean[u], -mean[v]) for u, v in ((U, V), (U_10M, V_10M)))
    density = np.where(np.isnan(mean["air_density_kgm3"]), STANDARD_AIR_DENSITY_KGM3, mean["air_density_kgm3"])
    windy = (speed > _CALM_MS) & (slow > _CALM_MS)
    ratio = np.divide(speed, slow, out=np.full(speed.shape, np.nan), where=windy)
    turned = np.degrees(bearing - below)
    return dict(mean) | {
        "wind_speed_100m_cubed": speed**3,
        # IEC 61400-12-1, 8.3: wind speed normalised to standard density.
        "wind_speed_density_ms": speed * np.cbrt(density / STANDARD_AIR_DENSITY_KGM3),
        "wind_direction_sin": np.sin(bearing),
        "wind_direction_cos": np.cos(bearing),
        "wind_direction_10m_sin": np.sin(below),
        "wind_direction_10m_cos": np.cos(below),
        "wind_speed_10m_cubed": slow**3,
        "wind_shear_ms": speed - slow,
        # The power law between the two heights: v(100) / v(10) = (100 / 10) ** exponent.
        "wind_shear_exponent": np.log10(ratio),
        "wind_veer_deg": np.where(windy, (turned + 180) % 360 - 180, np.nan),
    }


def neighbour(name: str, shift: int) -> str:
    """The name of a value some minutes before or after."""
    return f"{name}_{'plus' if shift > 0 else 'minus'}_{abs(shift)}min"


def _mean(models: list[FloatArray]) -> FloatArray:
    return models[0] if len(models) == 1 else quiet(np.nanmean, np.stack(models))
