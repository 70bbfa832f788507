"""Weather as it could be read: every run with its issue, its arrival and the times it is about."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock

from ._tables import Table, in_utc
from .weather_parsing import WEATHER

#: Specific gas constant of dry air, J/(kg K) (ISO 2533:1975).
DRY_AIR_J_PER_KG_K = 287.05287
ZERO_CELSIUS_K = 273.15


def judge_weather(parsed_weather: Table, fleet: Fleet, clock: Clock) -> Table:
    """Say of every weather row whether it counts.

    One row per row of a source that could be read and could be known by ``as_of``, with ``status``: ``kept``,
    ``duplicate`` (the same again) or ``quarantined`` (``reason`` and ``detail`` say why). Two different rows about the
    same run and time with an order of
    arrival: the first counts, the later is ``late_revision`` (what was known of a run never changes). Without an order,
        neither is
    believed: ``conflicting_stamp``.

    Args:
        parsed_weather: see `parse_weather`.
        fleet: the cards.
        clock: as of when.
    """
    import ibis

    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    sources = ibis.memtable(
        pd.DataFrame(
            {
                "farm_id": farm.id,
                "weather_model": source.model,
                "reach": source.length_hours * 60 - source.delay_minutes,
            }
            for farm in fleet.farms
            for source in farm.weather
        )
    )
    rows = parsed_weather.filter(parsed_weather.source_row > 0).inner_join(sources, ["farm_id", "weather_model"])
    # A row of an analysis is first seen in the oldest pseudo-run that reaches it.
    known_at = ibis.coalesce(rows.available_at, rows.valid_at - rows.reach.as_interval("m"))
    rows = rows.mutate(known_at=known_at, run_key=rows.run_at.fill_null(ibis.timestamp(1970, 1, 1, 0, 0, 0)))
    rows = rows.filter(rows.known_at.isnull() | (rows.known_at <= as_of))
    good = rows.reason.isnull()
    values = ibis.struct({name: rows[name] for name in WEATHER}).cast("string")
    rows = rows.mutate(values=values)
    key = [rows.farm_id, rows.weather_model, rows.run_key, rows.valid_at, rows.reason]
    order = [rows.known_at, rows["values"], rows.source_file, rows.source_row]
    in_order = ibis.window(group_by=key, order_by=order)
    rows = rows.mutate(repeated=good & (rows["values"] == rows["values"].lag().over(in_order)).fill_null(False))
    # Differing rows that came together, and whether there is an older one.
    together = ibis.window(group_by=[*(rows[name] for name in _KEY), rows.known_at, rows.repeated])
    before = ibis.window(
        group_by=[*(rows[name] for name in _KEY), rows.repeated],
        order_by=[rows.known_at, rows["values"], rows.source_row],
    )
    rows = rows.mutate(rivals=rows.source_row.count().over(together), place=ibis.row_number().over(before))
    good = rows.reason.isnull()
    conflict = good & ~rows.repeated & (rows.rivals > 1)
    late = good & ~rows.repeated & ~conflict & (rows.place > 0)
    return rows.select(
        "farm_id", "weather_model", "source_file", "source_row", "is_analysis", "run_at", "available_at", "valid_at", *WEATHER,
        status=ibis.cases((~good | conflict | late, "quarantined"), (rows.repeated, "duplicate"), else_="kept"),
        reason=ibis.cases((~good, rows.reason), (conflict, "conflicting_stamp"), (late, "late_revision")),
        detail=ibis.cases(
            (~good, rows.detail),
            (conflict, "another row of the same run and time has other values, and nothing says which came later"),
            (late, "came after another row of the same run and time: what is known of a run does not change"),
        ),
    )  # fmt: skip


_KEY = ("farm_id", "weather_model", "run_key", "valid_at", "reason")


def make_weather(judged_weather: Table, fleet: Fleet, clock: Clock) -> pd.DataFrame:
    """Bring forecasts and analyses into one form.

    One row per farm, weather model, run and valid time (contract `Weather`), only what was available by ``as_of``. A
    forecast's run is available when its source says, else its delay after its initialisation. An analysis enters as
    pseudo-runs, one every ``run_every_minutes`` from 00 UTC, each ``length_hours`` long and available ``delay_minutes``
    after its start: weather that never was a forecast, marked ``is_analysis``. Wind speed and direction (degrees it
    comes *from*, north 0, east 90) and its components (u east, v north, m/s) are filled from one another; missing air
    density from pressure and temperature by the law of dry ideal gas.

    Args:
        judged_weather: see `judge_weather`.
        fleet: the cards.
        clock: as of when.
    """
    import ibis

    rows = judged_weather.filter(judged_weather.status == "kept")
    rows = _vectors(rows)
    sources = pd.DataFrame(
        {
            "farm_id": farm.id,
            "weather_model": source.model,
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
    columns = ["farm_id", "weather_model", "run_at", "available_at", "valid_at", "is_analysis", *WEATHER]
    forecasts = rows.filter(~rows.is_analysis).select(columns)
    known = forecasts
    if not sources.empty:
        steps = sources.loc[sources.index.repeat(sources["runs"])].copy()
        steps["back"] = steps.groupby(["farm_id", "weather_model"]).cumcount()
        pseudo = rows.filter(rows.is_analysis).inner_join(ibis.memtable(steps), ["farm_id", "weather_model"])
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
    known = known.filter(known.available_at <= as_of).order_by(["farm_id", "weather_model", "run_at", "valid_at"])
    return in_utc(known.to_pandas(), ["run_at", "available_at", "valid_at"])


def _vectors(rows: Table) -> Table:
    import ibis

    u, v = rows.wind_u_100m_ms, rows.wind_v_100m_ms
    from_vector: Any = (u * u + v * v).sqrt()
    # atan2(-u, -v) is the bearing the wind comes from; a calm has none.
    bearing = ((-u).atan2(-v).degrees() + 360.0) % 360.0
    angle = rows.wind_direction_100m_deg.radians()
    speed = ibis.coalesce(rows.wind_speed_100m_ms, from_vector)
    kelvin = rows.temperature_c + ZERO_CELSIUS_K
    return rows.mutate(
        wind_speed_100m_ms=speed,
        wind_direction_100m_deg=ibis.coalesce(
            rows.wind_direction_100m_deg, ibis.ifelse(from_vector > 0, bearing, None)
        ),
        wind_u_100m_ms=ibis.coalesce(u, -speed * angle.sin()),
        wind_v_100m_ms=ibis.coalesce(v, -speed * angle.cos()),
        air_density_kgm3=ibis.coalesce(rows.air_density_kgm3, rows.pressure_pa / (DRY_AIR_J_PER_KG_K * kelvin)),
    )
