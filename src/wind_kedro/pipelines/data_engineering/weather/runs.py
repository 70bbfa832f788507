"""Weather as it could be read: every run with its issue, its arrival and the times it is about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import WIND_HEIGHTS_M, Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.data_engineering.parse.weather import WEATHER
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, WindProfile
from wind_kedro.pipelines.data_engineering.tables import Table, in_utc
from wind_kedro.pipelines.data_engineering.weather.heights import Levels, air_density, bearing, wind_at

#: What says which source a row is of.
_SOURCE = ("farm_id", "weather_model", "weather_point")
_KEY = (*_SOURCE, "run_key", "valid_at")
#: The height at which every farm's wind is given, m, beside that of its hubs.
_STANDARD_M = 100
#: What is given out of the variables that sources carry; the other heights serve for the wind at the hub.
_GIVEN = (
    "wind_speed_100m_ms", "wind_direction_100m_deg", "wind_u_100m_ms", "wind_v_100m_ms", "wind_u_10m_ms", "wind_v_10m_ms",
    "wind_speed_hub_ms", "wind_direction_hub_deg", "temperature_c", "pressure_pa", "air_density_kgm3",
)  # fmt: skip


def judge_weather(parsed_weather: Table, fleet: Fleet, clock: Clock) -> Table:
    """Say of every weather row whether it counts, and until when.

    One row per row of a source that could be read and could be known by ``as_of``, with ``status``:

    - ``kept``: the newest version of its run and time;
    - ``superseded``: a version with other values came later; it was what was known until then, and stays;
    - ``duplicate``: the same values again, together with a version or after it;
    - ``quarantined``: ``reason`` and ``detail`` say why. Rows that differ and came together, with no order of arrival to
      tell which is the later, are all ``conflicting_stamp``: none is believed, and what was known before holds.
    """
    import ibis

    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    sources = ibis.memtable(
        pd.DataFrame(
            [
                (farm.id, source.model, source.point, source.length_hours * 60 - source.delay_minutes)
                for farm in fleet.farms
                for source in farm.weather
            ],
            columns=[*_SOURCE, "reach"],
        ).astype(dict.fromkeys(_SOURCE, "str") | {"reach": "int64"})
    )
    rows = parsed_weather.filter(parsed_weather.source_row > 0).inner_join(sources, list(_SOURCE))
    # A row of an analysis is first seen in the oldest pseudo-run that reaches it.
    known_at = ibis.coalesce(rows.available_at, rows.valid_at - rows.reach.as_interval("m"))
    rows = rows.mutate(known_at=known_at, run_key=rows.run_at.fill_null(ibis.timestamp("1970-01-01 00:00:00")))
    rows = rows.filter(rows.known_at.isnull() | (rows.known_at <= as_of))
    values = ibis.struct({name: rows[name] for name in WEATHER}).cast("string")
    rows = rows.mutate(values=values, good=rows.reason.isnull())

    # Together: the same run and time, by the same arrival.
    together = [*(rows[name] for name in _KEY), rows.known_at, rows.good]
    in_order = ibis.window(group_by=[*together, rows["values"]], order_by=[rows.source_file, rows.source_row])
    rows = rows.mutate(
        conflict=rows.good
        & (rows["values"].min().over(group_by=together) != rows["values"].max().over(group_by=together)),
        again=rows.good & (ibis.row_number().over(in_order) > 0),
    )
    # A conflict is nothing that the next arrival could repeat or replace.
    rows = rows.mutate(arrival=rows.good & ~rows.conflict & ~rows.again)
    arrivals = ibis.window(group_by=[*(rows[name] for name in _KEY), rows.arrival], order_by=[rows.known_at])
    same = (rows["values"] == rows["values"].lag().over(arrivals)).fill_null(False)
    rows = rows.mutate(version=rows.arrival & ~same)
    versions = ibis.window(group_by=[*(rows[name] for name in _KEY), rows.version], order_by=[rows.known_at])
    replaced = rows.known_at.lead().over(versions).notnull()
    return rows.select(
        *_SOURCE, "source_file", "source_row", "is_analysis", "run_at", "available_at", "valid_at", *WEATHER,
        status=ibis.cases(
            (~rows.good | rows.conflict, "quarantined"), (~rows.version, "duplicate"), (replaced, "superseded"), else_="kept"
        ),
        reason=ibis.cases((~rows.good, rows.reason), (rows.conflict, "conflicting_stamp")),
        detail=ibis.cases(
            (~rows.good, rows.detail),
            (rows.conflict, "another row of the same run and time has other values, and nothing says which came later"),
        ),
    )  # fmt: skip


def make_weather(judged_weather: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> pd.DataFrame:
    """Bring forecasts and analyses into one form.

    One row per farm, weather model, point, run, valid time and version (contract `Weather`), only what was available by
    ``as_of``: a revision is a row of its own with a later ``available_at``. A forecast's run is available when its source
    says, else its delay after its initialisation. An analysis enters as pseudo-runs, one every ``run_every_minutes`` from
    00 UTC, each ``length_hours`` long and available ``delay_minutes`` after its start: weather that never was a forecast,
    marked ``is_analysis``. Wind speed and direction (degrees it comes *from*, north 0, east 90) and its components (u east,
    v north, m/s) are filled from one another, wind at 100 m and at the mean height of the farm's hubs from the levels that
    the source has, missing air density at the hubs from pressure and temperature (`levels`).
    """
    import ibis

    rows = judged_weather.filter(judged_weather.status.isin(["kept", "superseded"]))
    rows = _vectors(rows)
    sources = pd.DataFrame(
        {
            "farm_id": farm.id,
            "weather_model": source.model,
            "weather_point": source.point,
            "delay": source.delay_minutes,
            "every": source.run_every_minutes,
            "length": source.length_hours * 60,
            # How many pseudo-runs can reach one time.
            "runs": source.length_hours * 60 // source.run_every_minutes + 1,
        }
        for farm in fleet.farms
        for source in farm.weather
        if source.kind == "analysis"
    )
    key = [*_SOURCE, "run_at", "valid_at", "available_at"]
    columns = [*key, "is_analysis", *WEATHER]
    forecasts = rows.filter(~rows.is_analysis).select(columns)
    known = forecasts
    if not sources.empty:
        steps = sources.loc[sources.index.repeat(sources["runs"])].copy()
        steps["back"] = steps.groupby(list(_SOURCE)).cumcount()
        pseudo = rows.filter(rows.is_analysis).inner_join(ibis.memtable(steps), list(_SOURCE))
        # The newest run that has begun, then those before it; counted from the epoch, which is a 00 UTC.
        minute = pseudo.valid_at.epoch_seconds() // 60
        begun = (
            pseudo.valid_at - (minute % pseudo["every"]).as_interval("m") - pseudo.valid_at.second().as_interval("s")
        )
        pseudo = pseudo.mutate(run_at=begun - (pseudo["back"] * pseudo["every"]).as_interval("m"))
        pseudo = pseudo.filter(pseudo.valid_at <= pseudo.run_at + pseudo["length"].as_interval("m"))
        pseudo = pseudo.mutate(available_at=pseudo.run_at + pseudo["delay"].as_interval("m"))
        known = forecasts.union(pseudo.select(columns))
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    known = known.filter(known.available_at <= as_of).order_by(key)
    frame = _at_hub(known.to_pandas(), fleet, data_engineering.wind_profile)
    frame = frame[[*_SOURCE, "run_at", "available_at", "valid_at", "is_analysis", *_GIVEN]]
    return in_utc(frame, ["run_at", "available_at", "valid_at"])


def _vectors(rows: Table) -> Table:
    """Speed and direction from components and the reverse, at the standard height."""
    import ibis

    u, v = rows.wind_u_100m_ms, rows.wind_v_100m_ms
    from_vector: Any = (u * u + v * v).sqrt()
    # atan2(-u, -v) is the bearing the wind comes from; a calm has none.
    angle_of_vector = ((-u).atan2(-v).degrees() + 360.0) % 360.0
    angle = rows.wind_direction_100m_deg.radians()
    speed = ibis.coalesce(rows.wind_speed_100m_ms, from_vector)
    return rows.mutate(
        wind_speed_100m_ms=speed,
        wind_direction_100m_deg=ibis.coalesce(
            rows.wind_direction_100m_deg, ibis.ifelse(from_vector > 0, angle_of_vector, None)
        ),
        wind_u_100m_ms=ibis.coalesce(u, -speed * angle.sin()),
        wind_v_100m_ms=ibis.coalesce(v, -speed * angle.cos()),
    )


def _at_hub(weather: pd.DataFrame, fleet: Fleet, profile: WindProfile) -> pd.DataFrame:
    """Wind at 100 m where the source has no such level, wind at the hubs, and the density of the air there."""
    hub: Any = weather["farm_id"].map({farm.id: farm.hub_height_m for farm in fleet.farms}).to_numpy(float)

    def at_heights(stem: str, unit: str) -> Any:
        names = [f"{stem}_{height}m_{unit}" for height in WIND_HEIGHTS_M]
        return weather[names].to_numpy(float, na_value=np.nan)

    speed, direction = at_heights("wind_speed", "ms"), at_heights("wind_direction", "deg")
    u, v = at_heights("wind_u", "ms"), at_heights("wind_v", "ms")
    speed = np.where(np.isnan(speed), np.hypot(u, v), speed)
    direction = np.where(np.isnan(direction), bearing(u, v), direction)
    u = np.where(np.isnan(u), -speed * np.sin(np.radians(direction)), u)
    v = np.where(np.isnan(v), -speed * np.cos(np.radians(direction)), v)
    levels = Levels(WIND_HEIGHTS_M, speed, direction, u, v)
    hub_speed, hub_direction = wind_at(hub, levels, profile)
    given: dict[str, Any] = {name: weather[name].to_numpy(float, na_value=np.nan) for name in _GIVEN if name in weather}
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
    return weather.assign(**given, wind_speed_hub_ms=hub_speed, wind_direction_hub_deg=hub_direction)
