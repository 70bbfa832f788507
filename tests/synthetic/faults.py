"""Faults, put in on purpose and written down. No row has two, so that every count has one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, SignalSource, WeatherSource

from .recipe import Fault
from .turbines import FEATHERED_PITCH_DEG, STANDBY_SHARE
from .units import digits, factor_of

# Columns of ours that ride along until a table is written: true time, fault on the row.
TRUE_TIME, FAULT = "_true_time", "_fault"
# Blades turn out so far for each share of the rated power that is to be lost: about what pitch curves of large turbines show.
CURTAILED_PITCH_DEG = 20.0
# What becomes of the rows of a fault, by the step at which it is put in.
PHYSICAL = {"turbine_stopped": "kept", "curtailed": "kept"}
VALUES = {"sentinel": "nulled", "out_of_range": "nulled", "stuck": "nulled", "missing_value": "nulled"}
ROWS = {
    "gap": "absent", "duplicate": "duplicate", "conflict": "quarantined", "revision": "superseded", "late": "kept",
    "off_grid": "quarantined", "unknown_turbine": "quarantined",
}  # fmt: skip
ORDERS = {"out_of_order": "kept"}
TEXTS = {"unparseable": "quarantined", "bad_stamp": "quarantined"}
WEATHER = {"missing_run": "absent", "late_run": "kept", "duplicate": "duplicate", "out_of_range": "quarantined"}


FAULT_COLUMNS = [
    "farm_id", "source_table", "weather_model", "kind", "turbine_id", "signal",
    "start", "end", "rows", "outcome", "note",
]  # fmt: skip


class FaultLog:
    """The faults of one table, as they were put in: one row a fault (`FAULT_COLUMNS`)."""

    def __init__(self, farm: Farm, source_table: str) -> None:
        self.faults: list[dict[str, Any]] = []
        self._empty = dict.fromkeys(FAULT_COLUMNS, "") | {"farm_id": farm.id, "source_table": source_table}

    def add(self, fault: Fault, rows: int, outcome: str) -> None:
        """Note a fault of the recipe, how many rows it concerns and what is to become of them."""
        told = {
            "weather_model": fault.weather_model, "kind": fault.kind, "turbine_id": fault.turbine,
            "signal": fault.signal, "start": fault.start, "end": fault.end, "rows": rows, "outcome": outcome,
            "note": fault.note,
        }  # fmt: skip
        self.faults.append(self._empty | {name: value for name, value in told.items() if value is not None})

    def add_clock(self, kind: str, times: pd.Series[Any], width: pd.Timedelta, outcome: str, note: str) -> None:
        """Note what a wrong clock does to the rows of these true times, each ``width`` long."""
        told = {"start": times.min(), "end": times.max() + width, "rows": len(times), "outcome": outcome, "note": note}
        self.faults.append(self._empty | {"kind": kind} | told)


def of_kinds(faults: Sequence[Fault], kinds: Mapping[str, str]) -> list[Fault]:
    """Those of the faults that are put in at one step."""
    return [fault for fault in faults if fault.kind in kinds]


def _name(fault: Fault) -> str:
    return f"fault '{fault.kind}' of farm '{fault.farm or 'every'}' at {fault.start:%Y-%m-%d %H:%M}"


def pick(rows: pd.DataFrame, fault: Fault, turbine_column: str | None = None) -> pd.Index[Any]:
    """The index of the rows that a fault strikes.

    Raises:
        ValueError: if there are none, or if another fault has struck one of them.
    """
    chosen = (rows[TRUE_TIME] >= fault.start) & (rows[TRUE_TIME] < fault.end)
    if fault.turbine is not None and turbine_column is not None:
        chosen &= rows[turbine_column] == fault.turbine
    index = rows.index[chosen]
    if fault.count is not None:
        if fault.count > len(index):
            raise ValueError(f"{_name(fault)}: only {len(index)} rows for {fault.count}")
        index = index[np.linspace(0, len(index) - 1, fault.count).round().astype(int)]
    if index.empty:
        raise ValueError(f"{_name(fault)}: strikes no row")
    struck = rows.loc[index, FAULT]
    if (struck != "").any():
        other = struck[struck != ""].iloc[0]
        raise ValueError(f"{_name(fault)}: '{other}' is there already")
    return index


def mark(rows: pd.DataFrame, picked: pd.Index[Any], fault: Fault) -> None:
    """Note on the rows themselves that they are taken."""
    rows.loc[picked, FAULT] = fault.kind


def stop_turbine(rows: pd.DataFrame, picked: pd.Index[Any], farm: Farm, rng: np.random.Generator) -> None:
    """A machine at rest in any wind: it draws a little power, its blades are feathered."""
    rated = rows.loc[picked, "turbine_id"].map({turbine.id: turbine.rated_power_kw for turbine in farm.turbines})
    rows.loc[picked, "power_kw"] = -STANDBY_SHARE * rated * (1 + 0.1 * rng.standard_normal(len(picked)))
    rows.loc[picked, "pitch_deg"] = FEATHERED_PITCH_DEG + 0.05 * rng.standard_normal(len(picked))
    rows.loc[picked, FAULT] = "turbine_stopped"


def curtail(rows: pd.DataFrame, picked: pd.Index[Any], farm: Farm, fault: Fault) -> None:
    """Power held at or below a share of rated power (``value``); blades turn out of the wind where that takes power away."""
    rated = rows.loc[picked, "turbine_id"].map({turbine.id: turbine.rated_power_kw for turbine in farm.turbines})
    excess = (rows.loc[picked, "power_kw"] - float(fault.value or 0) * rated).clip(lower=0)
    rows.loc[picked, "power_kw"] -= excess
    rows.loc[picked, "pitch_deg"] += CURTAILED_PITCH_DEG * excess / rated
    rows.loc[picked, FAULT] = fault.kind


def spoil_values(rows: pd.DataFrame, picked: pd.Index[Any], column: str, fault: Fault) -> None:
    """Put a wrong number into a column, or none; a stuck sensor repeats the first of its values."""
    mark(rows, picked, fault)
    if fault.kind == "missing_value":
        rows.loc[picked, [column]] = np.nan
    else:
        rows.loc[picked, [column]] = rows.loc[picked[0], column] if fault.kind == "stuck" else float(fault.value or 0)


def spoil_rows(rows: pd.DataFrame, picked: pd.Index[Any], fault: Fault, farm: Farm) -> tuple[pd.DataFrame, int]:
    """Lose, double, contradict, delay or misname rows.

    Returns:
        The rows, and how many of them meet the fault's outcome.

    Raises:
        ValueError: if arrival is at fault and the farm tells no arrival times.
    """
    card = farm.signals
    if fault.kind in {"late", "revision"} and card.received_at is None:
        raise ValueError(f"{_name(fault)}: the card has no received_at")
    mark(rows, picked, fault)
    later = pd.Timedelta(hours=fault.hours or 0)
    if fault.kind == "gap":
        return rows.drop(index=picked).reset_index(drop=True), len(picked)
    if fault.kind == "late":  # a broken line: all that gathered arrives at once when it is mended
        rows.loc[picked, card.received_at] = pd.Timestamp(fault.end) + later
        return rows, len(picked)
    if fault.kind == "off_grid":
        rows.loc[picked, "_shift"] = pd.Timedelta(minutes=fault.minutes or 0)
        return rows, len(picked)
    copies = rows.loc[picked].copy()
    if fault.kind == "unknown_turbine":
        copies[card.turbine] = str(fault.value)
    elif fault.kind == "conflict":  # nothing tells which of the two is right: both are lost
        _alter(copies, copies.index, farm)
    elif fault.kind == "revision":  # the first report was wrong, the later one is right
        _alter(rows, picked, farm)
        copies[card.received_at] += later
    # Beside the rows they belong to, as a stable sort keeps them.
    together = pd.concat([rows, copies]).sort_index(kind="stable").reset_index(drop=True)
    return together, len(copies) * (2 if fault.kind == "conflict" else 1)


def _alter(rows: pd.DataFrame, picked: pd.Index[Any], farm: Farm) -> None:
    """Other values that are just as likely: two fifths less power and 50 kW more, a little less wind."""
    for name, (share, more) in {"power_kw": (0.6, 50.0), "wind_speed_ms": (0.8, 1.0)}.items():
        if name in farm.signals.columns:
            column = farm.signals.columns[name]
            altered = share * rows.loc[picked, [column.name]] + more / factor_of(name, column)
            rows.loc[picked, [column.name]] = altered.round(digits(name, column))


def spoil_text(table: pd.DataFrame, picked: pd.Index[Any], fault: Fault, source: SignalSource | WeatherSource) -> None:
    """Write what is no number, or no time, into the rows of a text file."""
    if source.format != "csv":
        raise ValueError(f"{_name(fault)}: needs a text file, '{source.path}' has typed columns")
    mark(table, picked, fault)
    if fault.kind == "unparseable":
        column = source.columns[str(fault.signal)].name
    else:
        column = source.timestamp if isinstance(source, SignalSource) else str(source.valid_at)  # a table has one
    table.loc[picked, [column]] = str(fault.value)


def spoil_weather(rows: pd.DataFrame, picked: pd.Index[Any], fault: Fault, source: WeatherSource) -> pd.DataFrame:
    """Lose, delay, double or corrupt rows of a weather model."""
    mark(rows, picked, fault)
    if fault.kind == "missing_run":
        rows = rows.drop(index=picked)
    elif fault.kind == "late_run":
        if source.available_at is None:
            raise ValueError(f"{_name(fault)}: the card has no available_at")
        rows.loc[picked, source.available_at] += pd.Timedelta(hours=fault.hours or 0)
    elif fault.kind == "duplicate":
        rows = pd.concat([rows, rows.loc[picked]])
    else:
        spoil_values(rows, picked, source.columns[str(fault.signal)].name, fault)
    return rows.reset_index(drop=True)
