"""Text becomes numbers and times: one row out for every row in, and what cannot be used says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.cards import SIGNAL_UNITS, WEATHER_UNITS, Fleet

from ._tables import Table, conversion, local_offsets
from .settings import DataEngineering

SIGNALS = tuple(SIGNAL_UNITS)
WEATHER = tuple(WEATHER_UNITS)
READINGS = ("as_stamped", "wall_clock_is_utc", "wall_clock_is_local")

#: ISO 8601 with a T or a blank, seconds and their fraction optional; an offset optional.
_STAMP = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?$"
_WALL = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)"
_OFFSET = r"([+-])(\d{2}):?(\d{2})?$"
#: A date's own hyphens would pass for an offset: it is sought behind the time only.
_HAS_OFFSET = r"[T ]\d{2}:\d{2}.*[+-]\d{2}(:?\d{2})?$"
#: Sentinels are compared as published, often in single precision, which keeps seven digits.
_SINGLE_PRECISION = 1e-6


def parse_signals(signals_raw: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Read the signals' text by the cards: units, sentinels, ranges, and the three ways to read a stamp.

    One row per row of a source, and one with number 0 per source that could not be read (reason ``source_unreadable``).
    Signals are in the house's units; a value that is a sentinel or out of range is null and ``<signal>_fault`` says
    ``sentinel`` or ``out_of_range``. Times are UTC without zone: ``as_stamped``, ``wall_clock_is_utc`` and
    ``wall_clock_is_local`` are the start of the interval by that reading of the stamp. ``reason`` and ``detail`` are
    null in good rows, else the first of ``ragged``, ``unknown_turbine``, ``bad_stamp``, ``unparseable``.

    Args:
        signals_raw: contract `SignalsRaw`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    import ibis

    farms = pd.DataFrame(
        {
            "farm_id": farm.id,
            "time_zone": farm.time_zone,
            "end_shift": farm.signals.cadence_minutes if farm.signals.stamps == "interval_end" else 0,
            **_conversions({name: column.unit for name, column in farm.signals.columns.items()}, SIGNAL_UNITS),
        }
        for farm in fleet.farms
    )
    turbines = pd.DataFrame(
        {"farm_id": farm.id, "turbine_id": turbine.id, "rated_power_kw": turbine.rated_power_kw}
        for farm in fleet.farms
        for turbine in farm.turbines
    )
    rows = signals_raw.mutate(turbine_id=signals_raw.turbine_id.strip())
    rows = rows.inner_join(ibis.memtable(farms), "farm_id").left_join(
        ibis.memtable(turbines), ["farm_id", "turbine_id"]
    )
    rows = rows.drop("farm_id_right", "turbine_id_right")

    wall, stamped_minutes = _wall_and_offset(rows.timestamp)
    rows = rows.mutate(wall=wall, stamped_minutes=stamped_minutes, received=_instant(rows.received_at))
    offsets = ibis.memtable(local_offsets(farm.time_zone for farm in fleet.farms))
    rows = rows.mutate(wall_month=(rows.wall.year() * 12 + rows.wall.month()).cast("int64"))
    rows = rows.left_join(
        offsets,
        [
            rows.time_zone == offsets.time_zone,
            rows.wall_month == offsets.wall_month,
            rows.wall >= offsets.wall_from,
            rows.wall < offsets.wall_until,
        ],
    )
    start = _minus_minutes(rows.wall, rows.end_shift)
    rows = rows.mutate(
        as_stamped=_minus_minutes(start, rows.stamped_minutes.fill_null(0)),
        wall_clock_is_utc=start,
        wall_clock_is_local=_minus_minutes(start, rows.local_minutes),
    )

    rows = _numbers(rows, SIGNALS, data_engineering.missing_values)
    rows = _faults(rows, fleet, data_engineering)
    reason, detail = _first_fault(
        [
            (rows.source_row == 0, "source_unreadable", rows.fault),
            (rows.fault.notnull(), "ragged", rows.fault),
            (
                rows.rated_power_kw.isnull(),
                "unknown_turbine",
                _quoted("turbine", rows.turbine_id, "is on no card of the farm"),
            ),
            (
                rows.wall.isnull() | rows.local_minutes.isnull(),
                "bad_stamp",
                _quoted("stamp", rows.timestamp, "is not ISO 8601 (2015-01-31T23:50:00+01:00)"),
            ),
            (
                rows.received.isnull() & _has_text(rows.received_at, data_engineering.missing_values),
                "bad_stamp",
                _quoted("arrival", rows.received_at, "is not ISO 8601"),
            ),
            *[
                (rows[f"{name}_bad"], "unparseable", _quoted(name, rows[f"{name}_text"], "is not a number"))
                for name in SIGNALS
            ],
        ]
    )
    return rows.select(
        "farm_id",
        "turbine_id",
        "source_file",
        "source_row",
        received_at=rows.received,
        **{reading: rows[reading] for reading in READINGS},
        **{name: rows[name] for name in SIGNALS},
        **{f"{name}_fault": rows[f"{name}_fault"] for name in SIGNALS},
        reason=reason,
        detail=detail,
    )


def parse_weather(weather_raw: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Read the weather's text by the cards.

    One row per row of a source, and one with number 0 per source that could not be read (reason ``source_unreadable``),
    in the house's units; times are UTC without zone, a stamp without offset is UTC. A value out of range is null.
    ``run_at`` and ``available_at`` are null for an analysis. ``reason`` and ``detail`` are null in good rows, else the
    first of ``ragged``, ``bad_stamp``, ``unparseable``, ``missing_wind``.

    Args:
        weather_raw: contract `WeatherRaw`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    import ibis

    sources = pd.DataFrame(
        {
            "farm_id": farm.id,
            "weather_model": source.model,
            "is_analysis": source.kind == "analysis",
            "delay_minutes": source.delay_minutes,
            **_conversions({name: column.unit for name, column in source.columns.items()}, WEATHER_UNITS),
        }
        for farm in fleet.farms
        for source in farm.weather
    )
    rows = weather_raw.inner_join(ibis.memtable(sources), ["farm_id", "weather_model"])
    rows = rows.mutate(**{f"{name}_time": _instant(rows[name]) for name in ("valid_at", "run_at", "available_at")})
    rows = _numbers(rows, WEATHER, data_engineering.missing_values)
    rows = rows.mutate(
        **{
            name: ibis.ifelse(
                rows[name].between(*data_engineering.weather_ranges[name]), rows[name], ibis.null("float64")
            )
            for name in WEATHER
            if name in data_engineering.weather_ranges
        }
    )
    has_wind = rows.wind_speed_100m_ms.notnull() | (rows.wind_u_100m_ms.notnull() & rows.wind_v_100m_ms.notnull())
    missing = data_engineering.missing_values
    reason, detail = _first_fault(
        [
            (rows.source_row == 0, "source_unreadable", rows.fault),
            (rows.fault.notnull(), "ragged", rows.fault),
            (rows.valid_at_time.isnull(), "bad_stamp", _quoted("valid_at", rows.valid_at, "is not ISO 8601")),
            (
                rows.run_at_time.isnull() & ~rows.is_analysis,
                "bad_stamp",
                _quoted("run_at", rows.run_at, "is not ISO 8601"),
            ),
            (
                rows.available_at_time.isnull() & _has_text(rows.available_at, missing),
                "bad_stamp",
                _quoted("available_at", rows.available_at, "is not ISO 8601"),
            ),
            *[
                (rows[f"{name}_bad"], "unparseable", _quoted(name, rows[f"{name}_text"], "is not a number"))
                for name in WEATHER
            ],
            (~has_wind, "missing_wind", ibis.literal("no wind at 100 m, or out of range")),
        ]
    )
    arrival = ibis.coalesce(rows.available_at_time, _minus_minutes(rows.run_at_time, -rows.delay_minutes))
    return rows.select(
        "farm_id",
        "weather_model",
        "source_file",
        "source_row",
        "is_analysis",
        run_at=ibis.ifelse(rows.is_analysis, ibis.null("timestamp"), rows.run_at_time),
        available_at=ibis.ifelse(rows.is_analysis, ibis.null("timestamp"), arrival),
        valid_at=rows.valid_at_time,
        **{name: rows[name] for name in WEATHER},
        reason=reason,
        detail=detail,
    )


# --- times -----------------------------------------------------------------------------------------------------------


def _minus_minutes(at: Any, minutes: Any) -> Any:
    return at - minutes.as_interval("m")


def _wall_and_offset(text: Any) -> tuple[Any, Any]:
    """The stamp without its offset, and the offset in minutes (null: none given); both null if it is no stamp."""
    import ibis

    text = text.strip()
    sound = text.re_search(_STAMP)
    wall = text.re_extract(_WALL, 1).try_cast("timestamp")
    hours = text.re_extract(_OFFSET, 2).try_cast("int64")
    minutes = text.re_extract(_OFFSET, 3).try_cast("int64").fill_null(0)
    east = ibis.ifelse(text.re_extract(_OFFSET, 1) == "-", -1, 1) * (hours * 60 + minutes)
    offset = ibis.cases(
        (~sound, ibis.null("int64")),
        (text.endswith("Z"), ibis.literal(0, "int64")),
        (text.re_search(_HAS_OFFSET), east),
    )
    return ibis.ifelse(sound, wall, ibis.null("timestamp")), offset


def _instant(text: Any) -> Any:
    """A stamp as UTC without zone; without an offset it is UTC already."""
    wall, offset = _wall_and_offset(text)
    return _minus_minutes(wall, offset.fill_null(0))


# --- numbers ---------------------------------------------------------------------------------------------------------


def _conversions(units: Mapping[str, str], house: Mapping[str, str]) -> dict[str, float]:
    """Factor and offset per column; a column that is not mapped is null whatever they are."""
    found: dict[str, float] = {}
    for name, house_unit in house.items():
        factor, offset = conversion(units.get(name, house_unit), house_unit)
        found |= {f"{name}_factor": factor, f"{name}_offset": offset}
    return found


def _has_text(column: Any, missing: Sequence[str]) -> Any:
    return column.notnull() & ~column.strip().lower().isin(list(missing))


def _numbers(rows: Table, names: Sequence[str], missing: Sequence[str]) -> Table:
    """Add each column as a number in the house's unit, ``_text`` as it came, ``_source`` in the source's unit and ``_bad``."""
    rows = rows.rename({f"{name}_text": name for name in names})
    rows = rows.mutate(**{f"{name}_source": rows[f"{name}_text"].strip().try_cast("float64") for name in names})
    finite = {
        name: rows[f"{name}_source"].notnull() & ~rows[f"{name}_source"].isinf() & ~rows[f"{name}_source"].isnan()
        for name in names
    }
    return rows.mutate(
        **{f"{name}_bad": _has_text(rows[f"{name}_text"], missing) & ~finite[name] for name in names},
        **{
            name: finite[name].ifelse(rows[f"{name}_source"] * rows[f"{name}_factor"] + rows[f"{name}_offset"], None)
            for name in names
        },
    )


def _faults(rows: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Null sentinels and values out of range, and say so in ``<signal>_fault``."""
    import ibis

    faults = {}
    for name in SIGNALS:
        sentinels = [
            (rows.farm_id == farm.id)
            & ((rows[f"{name}_source"] - value).abs() <= _SINGLE_PRECISION * max(abs(value), 1.0))
            for farm in fleet.farms
            for value in farm.signals.sentinels.get(name, [])
        ]
        cases = [(reduce(lambda a, b: a | b, sentinels), ibis.literal("sentinel"))] if sentinels else []
        if name in data_engineering.signal_ranges:
            low, high = data_engineering.signal_ranges[name]
            scale: Any = rows.rated_power_kw if name == "power_kw" else ibis.literal(1.0)
            cases.append(((rows[name] < low * scale) | (rows[name] > high * scale), ibis.literal("out_of_range")))
        faults[f"{name}_fault"] = ibis.cases(*cases) if cases else ibis.null("string")
    rows = rows.mutate(**faults)
    return rows.mutate(
        **{name: ibis.ifelse(rows[f"{name}_fault"].isnull(), rows[name], ibis.null("float64")) for name in SIGNALS}
    )


def _quoted(what: str, value: Any, problem: str) -> Any:
    return f"{what} '" + value.fill_null("") + f"' {problem}"


def _first_fault(faults: Sequence[tuple[Any, str, Any]]) -> tuple[Any, Any]:
    """Reason and detail of the first fault that holds; null if none does."""
    import ibis

    reason = ibis.cases(*[(holds, ibis.literal(code)) for holds, code, _ in faults])
    detail = ibis.cases(*[(holds, text) for holds, _, text in faults])
    return reason, detail
