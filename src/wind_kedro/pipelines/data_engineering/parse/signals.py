"""Parse the text of signals into numbers and times, and flag what cannot be parsed."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import SHARE, SIGNAL_UNITS, Fleet
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering.parse.text import (
    conversions,
    first_fault,
    has_text,
    instant,
    minus_minutes,
    numbers,
    quoted,
    wall_and_offset,
)
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, local_offsets
from wind_kedro.readers.source_table import SourceRows
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, mixed, of_cards

#: Change it when the rows or the statistics change that the same input gives.
VERSION = 1
SIGNALS = tuple(SIGNAL_UNITS)
READINGS = ("as_stamped", "wall_clock_is_utc", "wall_clock_is_local")

#: Sentinels are compared as published, often in single precision, which keeps seven digits.
_SINGLE_PRECISION = 1e-6


def derive_parsed_signals(signals_raw: SourceRows, fleet: Fleet, data_engineering: DataEngineering) -> Recipe:
    """Parse the signals of units that are new or changed (`parse_signals`)."""
    cards = {
        farm.id: [
            farm.time_zone,
            farm.latency_minutes,
            farm.signals,
            [
                (turbine.id, turbine.name_in_data, turbine.rated_power_kw, turbine.period(farm.time_zone))
                for turbine in farm.turbines
            ],
        ]
        for farm in fleet.farms
    }
    numbers = of_cards(cards, VERSION, data_engineering.missing_values, data_engineering.signal_ranges)
    units = signals_raw.units
    step = numbers[units["farm_id"]].to_numpy()
    wanted = units.assign(step=step, fingerprint=mixed(units["fingerprint"], step))
    return Recipe(wanted, lambda part: parse_signals(signals_raw.table(part), fleet, data_engineering))


def parse_signals(signals_raw: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Parse signals as their cards describe: units, sentinels, ranges, and the three readings of a time stamp.

    One row per row of a source, and one with number 0 per source that could not be read (reason ``source_unreadable``).
    Signals are in standard units. A sentinel or a value out of range is null, with ``<signal>_fault`` set to ``sentinel`` or
    ``out_of_range``; ``<signal>_outside`` keeps the value out of range. Times are UTC without zone: ``as_stamped``,
    ``wall_clock_is_utc`` and ``wall_clock_is_local`` are the start of the interval under that reading of the stamp. Of the
    reading under which it is latest, ``ended`` is the end of the interval and ``arrived`` the arrival of the row.
    ``reason`` and ``detail`` are null in valid rows, else the first fault of ``ragged``, ``unknown_turbine``, ``bad_stamp``,
    ``unparseable``.
    """
    by_farm = []
    for farm in fleet.farms:
        units = {name: column.unit for name, column in farm.signals.columns.items()}
        length = farm.signals.cadence_seconds if farm.signals.stamps == "interval_end" else 0
        about = {"farm_id": farm.id, "time_zone": farm.time_zone, "power_is_share": units["power_kw"] == SHARE}
        about |= {"ahead": 60 * farm.signals.clock_ahead_minutes + length, "cadence": farm.signals.cadence_seconds}
        by_farm.append(about | {"latency": farm.latency_minutes} | conversions(units, SIGNAL_UNITS))
    turbines = pd.DataFrame(
        {"farm_id": farm.id, "turbine_id": turbine.name_in_data, "rated_power_kw": turbine.rated_power_kw}
        for farm in fleet.farms
        for turbine in farm.turbines
    ).drop_duplicates(["farm_id", "turbine_id"])
    rows = signals_raw.mutate(turbine_id=signals_raw.turbine_id.strip())
    rows = rows.inner_join(ibis.memtable(pd.DataFrame(by_farm)), "farm_id").left_join(
        ibis.memtable(turbines), ["farm_id", "turbine_id"]
    )
    rows = rows.drop("farm_id_right", "turbine_id_right")

    wall, stamped_minutes = wall_and_offset(rows.timestamp)
    rows = rows.mutate(wall=wall, stamped_minutes=stamped_minutes, received=instant(rows.received_at))
    offsets = ibis.memtable(local_offsets(farm.time_zone for farm in fleet.farms))
    rows = rows.mutate(wall_month=(rows.wall.year() * 12 + rows.wall.month()).cast("int64"))
    of_month = [rows[name] == offsets[name] for name in ("time_zone", "wall_month")]
    rows = rows.left_join(offsets, [*of_month, rows.wall >= offsets.wall_from, rows.wall < offsets.wall_until])
    start = rows.wall - rows.ahead.as_interval("s")
    rows = rows.mutate(
        as_stamped=minus_minutes(start, rows.stamped_minutes.fill_null(0)),
        wall_clock_is_utc=start,
        wall_clock_is_local=minus_minutes(start, rows.local_minutes),
    )

    rows = _standing(rows, fleet)
    rows = rows.mutate(ended=ibis.greatest(*[rows[reading] for reading in READINGS]) + rows.cadence.as_interval("s"))
    rows = numbers(rows, SIGNALS, data_engineering.missing_values)
    rows = rows.mutate(power_kw=rows.power_kw * ibis.ifelse(rows.power_is_share, rows.rated_power_kw, 1.0))
    rows = range_faults(rows, fleet, data_engineering)
    reason, detail = first_fault(
        [
            (rows.source_row == 0, "source_unreadable", rows.fault),
            (rows.fault.notnull(), "ragged", rows.fault),
            (rows.rated_power_kw.isnull(), "unknown_turbine", quoted("turbine", rows.turbine_id, "is on no card of the farm")),
            (rows.gone, "unknown_turbine", quoted("turbine", rows.turbine_id, "does not stand at that time by its card")),
            (
                rows.wall.isnull() | rows.local_minutes.isnull(),
                "bad_stamp",
                quoted("stamp", rows.timestamp, "is not ISO 8601 (2015-01-31T23:50:00+01:00)"),
            ),
            (
                ibis.ifelse(rows.received.isnull(), has_text(rows.received_at, data_engineering.missing_values), False),
                "bad_stamp",
                quoted("arrival", rows.received_at, "is not ISO 8601"),
            ),
            *[(rows[f"{name}_bad"], "unparseable", quoted(name, rows[f"{name}_text"], "is not a number")) for name in SIGNALS],
        ]
    )
    return rows.select(
        *("farm_id", "unit", "turbine_id", "source_file", "source_row"),
        received_at=rows.received,
        arrived=ibis.coalesce(rows.received, rows.ended + rows.latency.as_interval("m")),
        ended=rows.ended,
        **{name: rows[name] for name in (*READINGS, *SIGNALS)},
        **{f"{name}_{of}": rows[f"{name}_{of}"] for name in SIGNALS for of in ("fault", "outside")},
        reason=reason,
        detail=detail,
    )


def _standing(rows: Table, fleet: Fleet) -> Table:
    """Give rows of turbines with a period the identifier and the rated power of the turbine that stands at their time.

    ``gone`` marks rows of a name that no turbine has at their time. The time is that of the reading on the card.
    """
    dated = [(farm, turbine) for farm in fleet.farms for turbine in farm.turbines if turbine.dated or turbine.named]
    if not dated:
        return rows.mutate(gone=ibis.literal(False))
    found = [(farm.id, turbine.name_in_data, turbine.id, turbine.rated_power_kw, farm.signals.clock) for farm, turbine in dated]
    periods = pd.DataFrame(found, columns=["farm_id", "turbine_id", "unit_id", "unit_kw", "clock"])
    times = np.array([turbine.period(farm.time_zone) for farm, turbine in dated])
    periods = periods.assign(since=times[:, 0], until=times[:, 1])
    names = periods.groupby(["farm_id", "turbine_id"], as_index=False).agg(clock=("clock", "first"))
    key = ["farm_id", "turbine_id"]
    rows = rows.left_join(ibis.memtable(names), key).drop("farm_id_right", "turbine_id_right")
    rows = rows.mutate(at=ibis.cases(*((rows.clock == reading, rows[reading]) for reading in READINGS)))
    units = ibis.memtable(periods.drop(columns="clock"))
    same = [rows[name] == units[name] for name in key]
    rows = rows.left_join(units, [*same, rows["at"] >= units.since, rows["at"] < units.until])
    return rows.drop("farm_id_right", "turbine_id_right").mutate(
        gone=rows["at"].notnull() & rows.unit_id.isnull(),
        turbine_id=ibis.coalesce(rows.unit_id, rows.turbine_id),
        rated_power_kw=ibis.coalesce(rows.unit_kw, rows.rated_power_kw),
    )


def range_faults(rows: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Null sentinels and values out of range, and set ``<signal>_fault``; ``<signal>_outside`` keeps values out of range."""
    columns: dict[str, Any] = {}
    nothing = ibis.null("float64")
    for name in SIGNALS:
        sentinels = [
            (rows.farm_id == farm.id) & ((rows[f"{name}_source"] - value).abs() <= _SINGLE_PRECISION * max(abs(value), 1.0))
            for farm in fleet.farms
            for value in farm.signals.sentinels.get(name, [])
        ]
        faults = [(reduce(lambda a, b: a | b, sentinels), "sentinel")] if sentinels else []
        if name in data_engineering.signal_ranges:
            low, high = data_engineering.signal_ranges[name]
            scale: Any = rows.rated_power_kw if name == "power_kw" else ibis.literal(1.0)
            faults.append(((rows[name] < low * scale) | (rows[name] > high * scale), "out_of_range"))
        if not faults:
            columns |= {f"{name}_fault": ibis.null("string"), f"{name}_outside": nothing}
            continue
        # Reusing the comparisons costs half as much as comparing with the fault column.
        columns[f"{name}_fault"] = ibis.cases(*faults)
        columns[f"{name}_outside"] = ibis.cases(
            *((faulty, rows[name] if fault == "out_of_range" else nothing) for faulty, fault in faults), else_=nothing
        )
        columns[name] = ibis.cases(*((faulty, nothing) for faulty, _ in faults), else_=rows[name])
    return rows.mutate(**columns)


def of_parsed_signals(rows: Table) -> dict[str, Any]:
    """Statistics of parsed signals, times in UTC without zone.

    ``first_at`` and ``last_at`` are the times between which the rows become available, whatever the reading of their stamps;
    ``valid`` is the number of valid rows, ``first_arrived`` and ``last_arrived`` the times between which these arrived, and
    ``last_stamp`` the latest of their stamps; ``unreadable`` is the number of sources that could not be read.
    """
    readings = [rows[reading] for reading in READINGS]
    earliest = rows.arrived - (ibis.greatest(*readings) - ibis.least(*readings))
    valid = rows.reason.isnull()
    return {
        "first_at": ibis.coalesce(rows.received_at, earliest).min(),
        "last_at": ibis.greatest(rows.arrived, rows.ended).max(),
        "valid": valid.sum(),
        "first_arrived": rows.arrived.min(where=valid),
        "last_arrived": rows.arrived.max(where=valid),
        "last_stamp": rows.wall_clock_is_utc.max(where=valid),
        "unreadable": (rows.source_row == 0).sum(),
    }


def statistics_of(parsed_signals: Derived | Table) -> pd.DataFrame:
    """`of_parsed_signals` by ``farm_id`` and ``day`` of the stamps; of a derived table, nothing but its shards is read."""
    if isinstance(parsed_signals, Derived):
        return parsed_signals.days
    day: Any = parsed_signals.wall_clock_is_utc.truncate("D").fill_null(NO_DAY.to_pydatetime())
    rows = parsed_signals.mutate(day=day)
    found: pd.DataFrame = rows.group_by(["farm_id", "day"]).agg(**of_parsed_signals(rows)).to_pandas()
    return found
