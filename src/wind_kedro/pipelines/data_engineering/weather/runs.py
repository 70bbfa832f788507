"""Weather runs with initialisation, arrival and valid times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import WIND_HEIGHTS_M, Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.data_engineering.parse.weather import WEATHER, given_columns
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, WindProfile
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, in_utc
from wind_kedro.pipelines.data_engineering.weather.heights import Levels, air_density, bearing, wind_at

#: Columns that identify the source of a row.
_SOURCE = ("farm_id", "weather_model", "weather_point")
_KEY = (*_SOURCE, "reference_at", "valid_at")
#: Height at which wind is provided for every farm besides its hub height, m.
_STANDARD_M = 100
_WIND = (("speed", "ms"), ("direction", "deg"), ("u", "ms"), ("v", "ms"))
#: Variables of the output; wind at other heights is only used for the hub.
_GIVEN = (
    "wind_speed_100m_ms", "wind_direction_100m_deg", "wind_u_100m_ms", "wind_v_100m_ms", "wind_u_10m_ms", "wind_v_10m_ms",
    "wind_speed_hub_ms", "wind_direction_hub_deg", "temperature_c", "pressure_pa", "air_density_kgm3",
)  # fmt: skip


def judge_weather(parsed_weather: Table, clock: Clock) -> Table:
    """Determine the status of every weather row.

    One row per row of a readable source that was available by ``as_of``, with ``status``:

    - ``kept``: the newest version of its run and time;
    - ``superseded``: a version with other values arrived later; this one was in force until then, and is kept;
    - ``duplicate``: repeats the values of a version that arrived with it or before it;
    - ``quarantined``: not usable, see ``reason`` and ``detail``. Rows that differ and arrived together, so that none is the
      newest, are all ``conflicting_stamp``, and the previous version stays in force.
    """
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    rows = parsed_weather.filter(
        parsed_weather.source_row > 0, parsed_weather.available_at.isnull() | (parsed_weather.available_at <= as_of)
    )
    rows = rows.mutate(good=rows.reason.isnull())
    # Few times of a run come more than once, and to compare rows costs several times what the rest does.
    repeated = rows.filter(rows.good).group_by(_KEY).having(lambda key: key.count() > 1).agg()
    compared = _compared(rows.semi_join(repeated, _KEY))
    once = rows.anti_join(repeated, _KEY).mutate(status=ibis.literal("kept"), conflict=ibis.literal(False))
    rows = once.union(compared.select(once.columns))
    bad = ~rows.good | rows.conflict
    return rows.select(
        *_SOURCE, "source_file", "source_row", "is_analysis", "reference_at", "run_at", "available_at", "valid_at", *WEATHER,
        status=ibis.ifelse(bad, "quarantined", rows.status),
        reason=ibis.ifelse(rows.conflict, "conflicting_stamp", rows.reason),
        detail=ibis.ifelse(
            rows.conflict, "another row of the same run and time has other values and arrived at the same time", rows.detail
        ),
    )  # fmt: skip


def _compared(rows: Table) -> Table:
    """Add ``conflict`` and the ``status`` of rows without one; only ``good`` rows are compared."""
    rows = rows.mutate(values=ibis.struct({name: rows[name] for name in WEATHER}).hash())
    # Rows of the same run, time and arrival.
    together = [*(rows[name] for name in _KEY), rows.available_at, rows.good]
    in_order = ibis.window(group_by=[*together, rows["values"]], order_by=[rows.source_file, rows.source_row])
    rows = rows.mutate(
        conflict=rows.good & (rows["values"].min().over(group_by=together) != rows["values"].max().over(group_by=together)),
        again=rows.good & (ibis.row_number().over(in_order) > 0),
    )
    # Conflicting rows are neither repeated nor replaced by later ones.
    rows = rows.mutate(arrival=rows.good & ~rows.conflict & ~rows.again)
    arrivals = ibis.window(group_by=[*(rows[name] for name in _KEY), rows.arrival], order_by=[rows.available_at])
    same = (rows["values"] == rows["values"].lag().over(arrivals)).fill_null(False)
    rows = rows.mutate(version=rows.arrival & ~same)
    versions = ibis.window(group_by=[*(rows[name] for name in _KEY), rows.version], order_by=[rows.available_at])
    replaced = rows.available_at.lead().over(versions).notnull()
    return rows.mutate(status=ibis.cases((~rows.version, "duplicate"), (replaced, "superseded"), else_="kept"))


def make_weather(judged_weather: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> pd.DataFrame:
    """Combine forecasts and analyses in one table of weather runs.

    One row per farm, weather model, point, run, valid time and version (contract `Weather`) that was available by ``as_of``; a
    revision is a row of its own with a later ``available_at``. A forecast run is available at the time given by its source, else
    its delay after its initialisation. An analysis is turned into pseudo-runs, one every ``run_every_minutes`` from 00 UTC, each
    ``length_hours`` long, available ``delay_minutes`` after its start, and marked ``is_analysis``. A source with a period gives
    the runs that begin in it.

    Wind speed and direction (degrees it comes *from*, north 0, east 90) and components (u east, v north, m/s) are computed from
    one another, wind at 100 m and at the mean hub height of the turbines that stand when the run begins from the source's levels,
    and missing air density at the hub from pressure and temperature (`heights`).
    """
    rows = judged_weather.filter(judged_weather.status.isin(["kept", "superseded"]))
    rows = _vectors(rows)
    analyses = [
        (farm.id, source.model, source.point, source.delay_minutes, source.run_every_minutes, source.length_hours * 60)
        for farm in fleet.farms
        for source in farm.weather
        if source.kind == "analysis"
    ]
    sources = pd.DataFrame(analyses, columns=[*_SOURCE, "delay", "every", "length"])
    key = [*_SOURCE, "run_at", "valid_at", "available_at"]
    asked = {*given_columns(fleet), *(f"wind_{what}_{_STANDARD_M}m_{unit}" for what, unit in _WIND)}
    columns = [*key, "is_analysis", *(name for name in WEATHER if name in asked)]
    known = rows.filter(~rows.is_analysis).select(columns)
    if not sources.empty:
        # As often as pseudo-runs can contain one time.
        steps = sources.loc[sources.index.repeat(sources["length"] // sources["every"] + 1)].copy()
        steps["back"] = steps.groupby(list(_SOURCE)).cumcount()
        pseudo = rows.filter(rows.is_analysis).inner_join(ibis.memtable(steps), list(_SOURCE))
        # The newest run that has started, then earlier ones; counted from the epoch, which is at 00 UTC.
        minute = pseudo.valid_at.epoch_seconds() // 60
        begun = pseudo.valid_at - (minute % pseudo["every"]).as_interval("m") - pseudo.valid_at.second().as_interval("s")
        pseudo = pseudo.mutate(run_at=begun - (pseudo["back"] * pseudo["every"]).as_interval("m"))
        pseudo = pseudo.filter(pseudo.valid_at <= pseudo.run_at + pseudo["length"].as_interval("m"))
        pseudo = pseudo.mutate(available_at=pseudo.run_at + pseudo["delay"].as_interval("m"))
        known = known.union(pseudo.select(columns))
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    known = _in_use(known.filter(known.available_at <= as_of), fleet).order_by(key)
    frame = _at_hub(known.to_pandas(), fleet, data_engineering.wind_profile)
    frame = frame[[*_SOURCE, "run_at", "available_at", "valid_at", "is_analysis", *_GIVEN]]
    return in_utc(frame, ["run_at", "available_at", "valid_at"])


def _in_use(runs: Table, fleet: Fleet) -> Table:
    """The runs that begin in the period of their source."""
    dated = [(farm, source) for farm in fleet.farms for source in farm.weather if source.dated]
    if not dated:
        return runs
    sources = [(farm.id, source.model, source.point, *source.period(farm.time_zone)) for farm, source in dated]
    periods = pd.DataFrame(sources, columns=[*_SOURCE, "since", "until"]).astype(
        dict.fromkeys(("since", "until"), "datetime64[us]")
    )
    joined = runs.left_join(ibis.memtable(periods), list(_SOURCE))
    inside = (joined.run_at >= joined.since) & (joined.run_at < joined.until)
    return joined.filter(joined.since.isnull() | inside).select(runs.columns)


def list_runs(weather: Table) -> pd.DataFrame:
    """One row per farm, weather model, point, run and arrival (contract `WeatherRuns`), from rows of contract `Weather`."""
    by_arrival = weather.group_by(*_SOURCE, "run_at", "available_at")
    runs: pd.DataFrame = by_arrival.agg(
        is_analysis=lambda rows: rows.is_analysis.any(),
        rows=lambda rows: rows.count(),
        first_valid_at=lambda rows: rows.valid_at.min(),
        last_valid_at=lambda rows: rows.valid_at.max(),
    ).to_pandas()
    return runs


def _vectors(rows: Table) -> Table:
    """Fill in speed and direction from components and vice versa, at the standard height."""
    u, v = rows.wind_u_100m_ms, rows.wind_v_100m_ms
    from_vector: Any = (u * u + v * v).sqrt()
    # atan2(-u, -v) is the bearing the wind comes from; missing for calm wind.
    angle_of_vector = ((-u).atan2(-v).degrees() + 360.0) % 360.0
    angle = rows.wind_direction_100m_deg.radians()
    speed = ibis.coalesce(rows.wind_speed_100m_ms, from_vector)
    return rows.mutate(
        wind_speed_100m_ms=speed,
        wind_direction_100m_deg=ibis.coalesce(rows.wind_direction_100m_deg, ibis.ifelse(from_vector > 0, angle_of_vector, None)),
        wind_u_100m_ms=ibis.coalesce(u, -speed * angle.sin()),
        wind_v_100m_ms=ibis.coalesce(v, -speed * angle.cos()),
    )


def _at_hub(weather: pd.DataFrame, fleet: Fleet, profile: WindProfile) -> pd.DataFrame:
    """Add wind at 100 m where the source lacks this level, and wind and air density at hub height."""
    hub: Any = np.full(len(weather), np.nan)
    begins = weather["run_at"].to_numpy()
    for farm_id, places in weather.groupby("farm_id").indices.items():
        # By run, not by valid time: what is read between two times of a run would be of two heights.
        hub[places] = fleet.farm(str(farm_id)).hub_heights.at(begins[places])

    heights = [height for height in WIND_HEIGHTS_M if any(f"wind_{what}_{height}m_{unit}" in weather for what, unit in _WIND)]
    speed, direction, u, v = (
        weather.reindex(columns=[f"wind_{what}_{height}m_{unit}" for height in heights]).to_numpy(float, na_value=np.nan)
        for what, unit in _WIND
    )
    speed = np.where(np.isnan(speed), np.hypot(u, v), speed)
    direction = np.where(np.isnan(direction), bearing(u, v), direction)
    u = np.where(np.isnan(u), -speed * np.sin(np.radians(direction)), u)
    v = np.where(np.isnan(v), -speed * np.cos(np.radians(direction)), v)
    levels = Levels(heights, speed, direction, u, v)
    hub_speed, hub_direction = wind_at(hub, levels, profile)
    given: dict[str, Any] = dict(zip(_GIVEN, weather.reindex(columns=_GIVEN).to_numpy(float, na_value=np.nan).T, strict=True))
    missing = np.isnan(given["wind_speed_100m_ms"])
    if missing.any():
        found, angle = wind_at(np.full(len(weather), float(_STANDARD_M)), levels, profile)
        filled = {
            "wind_speed_100m_ms": found,
            "wind_direction_100m_deg": angle,
            "wind_u_100m_ms": -found * np.sin(np.radians(angle)),
            "wind_v_100m_ms": -found * np.cos(np.radians(angle)),
        }
        given |= {name: np.where(missing, values, given[name]) for name, values in filled.items()}
    density = given["air_density_kgm3"]
    given["air_density_kgm3"] = np.where(
        np.isnan(density), air_density(given["pressure_pa"], given["temperature_c"], hub), density
    )
    return weather.assign(**given | {"wind_speed_hub_ms": hub_speed, "wind_direction_hub_deg": hub_direction})
