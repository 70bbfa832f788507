"""Parse the text of weather files into numbers and times, and flag what cannot be parsed."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import LEAD_UNITS, WEATHER_QUANTITIES, WEATHER_UNITS, WIND_HEIGHTS_M, Fleet
from wind_kedro.pipelines.data_engineering.parse.text import (
    conversions,
    first_fault,
    has_text,
    instant,
    minus_minutes,
    number,
    numbers,
    quoted,
)
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table, ibis
from wind_kedro.readers.source_table import SourceRows, rows_of

WEATHER = tuple(WEATHER_UNITS)


def given_columns(fleet: Fleet) -> list[str]:
    """Those of `WEATHER` that any source has: most have few, and each costs an engine as much as the next."""
    return [name for name in WEATHER if any(name in source.columns for farm in fleet.farms for source in farm.weather)]


def parse_weather(weather_raw: SourceRows | Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Parse weather as its cards describe.

    One row per row of a source, and one with number 0 per source that could not be read (reason ``source_unreadable``), in
    standard units; times are UTC without zone, a stamp without offset is UTC. A value out of range is null. ``run_at`` is null
    for an analysis; in a stitched series it is derived from ``valid_at``. Of a source with lead times, ``valid_at`` is derived
    from them. ``reference_at`` is the time of the run, of an analysis the valid time (the forecast reference time of the CF
    conventions). An analysis is available with the oldest pseudo-run that contains it (`make_weather`). ``reason`` and ``detail``
    are null in valid rows, else the first fault of ``ragged``, ``bad_stamp``, ``unparseable``, ``missing_wind``.
    """
    # Explicit types, as the table is empty for a fleet without weather.
    types = {
        "farm_id": "str", "weather_model": "str", "weather_point": "str", "is_analysis": "bool", "delay_minutes": "int64",
        "run_every_minutes": "int64", "first_step_minutes": "Int64", "reach_minutes": "int64", "lead_minutes": "float64",
        **dict.fromkeys(conversions({}, WEATHER_UNITS), "float64"),
    }  # fmt: skip
    sources = [
        (
            farm.id, source.model, source.point, source.kind == "analysis", source.delay_minutes, source.run_every_minutes,
            source.first_step_minutes, source.length_hours * 60 - source.delay_minutes,
            LEAD_UNITS[source.lead.unit] if source.lead else None,
            *conversions({name: column.unit for name, column in source.columns.items()}, WEATHER_UNITS).values(),
        )
        for farm in fleet.farms
        for source in farm.weather
    ]  # fmt: skip
    by_source = ibis.memtable(pd.DataFrame(sources, columns=list(types)).astype(types))
    rows = rows_of(weather_raw).inner_join(by_source, ["farm_id", "weather_model", "weather_point"])
    rows = rows.mutate(**{f"{name}_time": instant(rows[name]) for name in ("valid_at", "run_at", "available_at")})
    lead_s = (number(rows["lead"]) * rows.lead_minutes * 60).round().cast("int64")
    rows = rows.mutate(valid_at_time=ibis.coalesce(rows.valid_at_time, rows.run_at_time + lead_s.as_interval("s")))
    # Of a series stitched together of runs, a time is of the newest run whose first step it has reached.
    minute = rows.valid_at_time.epoch_seconds() // 60
    into = (minute - rows.first_step_minutes) % rows.run_every_minutes + rows.first_step_minutes
    stitched = rows.valid_at_time.truncate("m") - into.as_interval("m")
    rows = rows.mutate(run_at_time=ibis.coalesce(rows.run_at_time, stitched))
    given, nothing = given_columns(fleet), ibis.null("float64")
    rows = numbers(rows, given, data_engineering.missing_values)
    ranges = {name: data_engineering.weather_ranges.get(WEATHER_QUANTITIES[name]) for name in given}
    rows = rows.mutate(
        **{name: ibis.ifelse(rows[name].between(*limits), rows[name], nothing) for name, limits in ranges.items() if limits},
        **{name: nothing for name in WEATHER if name not in given},
    )
    has_wind = ibis.or_(
        *(
            rows[f"wind_speed_{height}m_ms"].notnull()
            | (rows[f"wind_u_{height}m_ms"].notnull() & rows[f"wind_v_{height}m_ms"].notnull())
            for height in WIND_HEIGHTS_M
        )
    )
    missing = data_engineering.missing_values
    reason, detail = first_fault(
        [
            (rows.source_row == 0, "source_unreadable", rows.fault),
            (rows.fault.notnull(), "ragged", rows.fault),
            (
                rows.valid_at_time.isnull() & rows.lead_minutes.isnull(),
                "bad_stamp",
                quoted("valid_at", rows.valid_at, "is not ISO 8601"),
            ),
            (rows.run_at_time.isnull() & ~rows.is_analysis, "bad_stamp", quoted("run_at", rows.run_at, "is not ISO 8601")),
            (rows.valid_at_time.isnull(), "bad_stamp", quoted("lead", rows.lead, "is not a number")),
            (
                rows.available_at_time.isnull() & has_text(rows.available_at, missing),
                "bad_stamp",
                quoted("available_at", rows.available_at, "is not ISO 8601"),
            ),
            *[(rows[f"{name}_bad"], "unparseable", quoted(name, rows[f"{name}_text"], "is not a number")) for name in given],
            (~has_wind, "missing_wind", ibis.literal("no wind at any height, or out of range")),
        ]
    )
    run_at = ibis.ifelse(rows.is_analysis, ibis.null("timestamp"), rows.run_at_time)
    arrival = ibis.coalesce(rows.available_at_time, minus_minutes(rows.run_at_time, -rows.delay_minutes))
    return rows.select(
        *("farm_id", "unit", "weather_model", "weather_point", "source_file", "source_row", "is_analysis"),
        reference_at=ibis.coalesce(run_at, rows.valid_at_time),
        run_at=run_at,
        available_at=ibis.ifelse(rows.is_analysis, minus_minutes(rows.valid_at_time, rows.reach_minutes), arrival),
        valid_at=rows.valid_at_time,
        **{name: rows[name] for name in WEATHER},
        reason=reason,
        detail=detail,
    )
