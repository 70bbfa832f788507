"""Tables as a farm and its weather services send them: columns, units, clocks, arrivals, and the recipe's faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, Source, SourceColumn, WeatherSource

from . import faults as made
from .faults import FAULT, TRUE_TIME, FaultLog, mark, of_kinds, pick
from .recipe import Recipe
from .units import digits, in_source_units
from .weather import random_stream

# A column of ours that rides along: by how much a stamp is off the grid.
_SHIFT = "_shift"


@dataclass(frozen=True)
class SourceFile:
    """One file as a farm or a weather service sends it."""

    source: Source
    rows: pd.DataFrame


@dataclass(frozen=True)
class FarmData:
    """One farm's files by their path below the raw folder, and the faults that were put into them."""

    farm: Farm
    files: Mapping[str, SourceFile]
    faults: pd.DataFrame


Made = tuple[dict[str, SourceFile], list[dict[str, Any]]]


def signal_files(farm: Farm, measured: pd.DataFrame, recipe: Recipe) -> Made:
    """The farm's signal files, faults and all, and the list of those faults.

    Args:
        farm: the card.
        measured: see `turbines.turbine_signals`.
        recipe: clocks and faults.
    """
    card = farm.signals
    faults = [fault for fault in recipe.faults if fault.farm in {None, farm.id} and fault.weather_model is None]
    rng = random_stream(recipe.seed, "faults", farm.id)
    log = FaultLog(farm, "signals")
    measured = measured.rename(columns={"valid_at": TRUE_TIME}).assign(**{FAULT: ""})
    for fault in of_kinds(faults, made.PHYSICAL):
        picked = pick(measured, fault, "turbine_id")
        if fault.kind == "curtailed":
            made.curtail(measured, picked, farm, fault)
        else:
            made.stop_turbine(measured, picked, farm, rng)
        log.add(fault, len(picked), made.PHYSICAL[fault.kind])

    rows = in_source_units(measured, card.columns)
    rows[card.turbine] = measured["turbine_id"]
    rows[[TRUE_TIME, FAULT]] = measured[[TRUE_TIME, FAULT]]
    rows[_SHIFT] = pd.Timedelta(0)
    if card.received_at:
        sent = rows[TRUE_TIME] + card.cadence + pd.Timedelta(minutes=farm.latency_minutes)
        # One message an interval carries all turbines; it takes up to a minute.
        seconds = pd.Series(rng.integers(0, 60, rows[TRUE_TIME].nunique()), index=rows[TRUE_TIME].unique())
        rows[card.received_at] = sent + pd.to_timedelta(rows[TRUE_TIME].map(seconds), unit="s")
    for fault in of_kinds(faults, made.VALUES):
        picked = pick(rows, fault, card.turbine)
        made.spoil_values(rows, picked, card.columns[str(fault.signal)].name, fault)
        log.add(fault, len(picked), made.VALUES[fault.kind])
    for fault in of_kinds(faults, made.ROWS):
        rows, count = made.spoil_rows(rows, pick(rows, fault, card.turbine), fault, farm)
        log.add(fault, count, made.ROWS[fault.kind])

    rows = _in_order_of_the_file(rows, farm, recipe, rng)
    for fault in of_kinds(faults, made.ORDERS):
        picked = pick(rows, fault, card.turbine)
        mark(rows, picked, fault)
        rows = pd.concat([rows.drop(index=picked), rows.loc[picked]], ignore_index=True)
        log.add(fault, len(picked), made.ORDERS[fault.kind])

    _log_clock(log, rows[TRUE_TIME], farm, recipe)
    rows[card.timestamp] = _stamps(rows[TRUE_TIME] + rows[_SHIFT], farm, recipe)
    if card.format == "csv":
        rows = _as_text(rows, card.columns)
    for fault in of_kinds(faults, made.TEXTS):
        picked = pick(rows, fault, card.turbine)
        made.spoil_text(rows, picked, fault, card)
        log.add(fault, len(picked), made.TEXTS[fault.kind])
    names = [card.timestamp, card.turbine, *(column.name for column in card.columns.values()), card.received_at]
    return _by_month(card, rows, [name for name in names if name]), log.faults


def weather_files(farm: Farm, source: WeatherSource, table: pd.DataFrame, recipe: Recipe) -> Made:
    """The farm's files of one weather model, faults and all, and the list of those faults.

    Args:
        farm: the card.
        source: its weather model.
        table: see `weather.weather_rows`.
        recipe: faults; their windows are of run times.
    """
    faults = [fault for fault in recipe.faults if fault.farm in {None, farm.id} and fault.weather_model == source.model]
    log = FaultLog(farm, "weather")
    times = {source.run_at: "run_at", source.available_at: "available_at", source.valid_at: "valid_at"}
    rows = in_source_units(table, source.columns)
    for name, ours in times.items():
        if name:
            rows[name] = table[ours]
    rows[TRUE_TIME] = table["run_at"]
    rows[FAULT] = ""
    for fault in of_kinds(faults, made.WEATHER):
        picked = pick(rows, fault)
        rows = made.spoil_weather(rows, picked, fault, source)
        log.add(fault, len(picked), made.WEATHER[fault.kind])
    # A file grows as runs arrive: a late run stands after the one that overtook it.
    order = [name for name in (source.available_at, source.run_at) if name]
    rows = rows.sort_values(order, kind="stable", ignore_index=True)
    if source.format == "csv":
        rows = _as_text(rows, source.columns)
    for fault in of_kinds(faults, made.TEXTS):
        picked = pick(rows, fault)
        made.spoil_text(rows, picked, fault, source)
        log.add(fault, len(picked), made.TEXTS[fault.kind])
    names = [*times, *(column.name for column in source.columns.values())]
    return _by_month(source, rows, [name for name in names if name]), log.faults


# --- clocks ----------------------------------------------------------------------------------------------------------


def _stamps(true_start: pd.Series[Any], farm: Farm, recipe: Recipe) -> pd.Series[Any]:
    """Time stamps as the farm's logger writes them."""
    times = true_start.dt.as_unit("us")
    if farm.signals.stamps == "interval_end":
        times = times + pd.Timedelta(farm.signals.cadence)
    match _stamping(farm, recipe):
        case "local":
            stamps = times.dt.tz_convert(farm.time_zone).dt.tz_localize(None)
        case "utc":
            stamps = times.dt.tz_localize(None)
        case "utc_with_false_offset":
            # The fault of La Haute Borne: the logger's clock is UTC, and an export took it for local time. The hour
            # that local time leaves out in spring got the stamps of the next; of the hour that it repeats in autumn,
            # the export took the second.
            local = _taken_for_local(times, farm.time_zone, pd.Timedelta(hours=1))
            text = local.dt.strftime("%Y-%m-%dT%H:%M:%S%z")
            stamps = text.str[:-2] + ":" + text.str[-2:]
    return pd.Series(stamps)


def _stamping(farm: Farm, recipe: Recipe) -> str:
    return recipe.stamping.get(farm.id, "local" if farm.signals.clock == "wall_clock_is_local" else "utc")


def _taken_for_local(times: pd.Series[Any], time_zone: str, nonexistent: Any) -> pd.Series[Any]:
    """A UTC wall clock, read as if it showed local time."""
    second = np.zeros(len(times), dtype=bool)
    return pd.Series(times.dt.tz_localize(None).dt.tz_localize(time_zone, nonexistent=nonexistent, ambiguous=second))


def _in_order_of_the_file(rows: pd.DataFrame, farm: Farm, recipe: Recipe, rng: np.random.Generator) -> pd.DataFrame:
    """A log grows as rows arrive; without arrival times it is an export in the order of its stamps."""
    if farm.signals.received_at:
        return rows.sort_values(farm.signals.received_at, kind="stable", ignore_index=True)
    shown = rows[TRUE_TIME]
    if _stamping(farm, recipe) == "utc_with_false_offset":
        # Where stamps come twice, their order in the file is chance, as at La Haute Borne: it proves nothing.
        left_out = _taken_for_local(shown, farm.time_zone, "NaT").isna()
        shown = shown.where(~left_out, shown + pd.Timedelta(hours=1))
        return rows.iloc[np.lexsort((rng.random(len(rows)), shown))].reset_index(drop=True)
    return rows.iloc[np.argsort(shown.to_numpy(), kind="stable")].reset_index(drop=True)


def _log_clock(log: FaultLog, times: pd.Series[Any], farm: Farm, recipe: Recipe) -> None:
    """Write down a false clock, and the hour that it stamped twice."""
    if _stamping(farm, recipe) != "utc_with_false_offset":
        return
    width = pd.Timedelta(farm.signals.cadence)
    log.add_clock("false_offset", times, width, "kept", "stamps are UTC with a false local offset")
    left_out = _taken_for_local(times, farm.time_zone, "NaT").isna()
    if left_out.any():
        note = "the hour that local time leaves out, stamped as the next: quarantined with the rows of that one"
        log.add_clock("clock_change_restamped", times[left_out], width, "quarantined", note)


# --- files -----------------------------------------------------------------------------------------------------------


def _as_text(rows: pd.DataFrame, columns: Mapping[str, SourceColumn]) -> pd.DataFrame:
    """Every column as a CSV file has it; true times stay times."""
    text = rows.copy()
    for name, column in columns.items():
        form = f"{{:.{max(digits(name, column), 0)}f}}"
        text[column.name] = rows[column.name].map(form.format).where(rows[column.name].notna(), "")
    for time, dtype in rows.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype) and time != TRUE_TIME:
            text[time] = rows[time].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif pd.api.types.is_datetime64_dtype(dtype):
            text[time] = rows[time].dt.strftime("%Y-%m-%d %H:%M:%S")
    return text


def _by_month(source: Source, rows: pd.DataFrame, columns: list[str]) -> dict[str, SourceFile]:
    """One file, or, where the card's path is a glob, one file a month."""
    if "*" not in source.path:
        return {source.path: SourceFile(source, rows[columns])}
    months = rows.groupby(rows[TRUE_TIME].dt.strftime("%Y-%m"))
    return {source.path.replace("*", str(month)): SourceFile(source, part[columns]) for month, part in months}


def write_files(data: FarmData, folder: Path) -> None:
    """Write a farm's files below ``folder``: the same rows, the same bytes."""
    for name, file in data.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.source.format == "parquet":
            file.rows.to_parquet(path, index=False, compression="zstd", compression_level=19)
        else:
            # gzip would write the time of day into its header.
            packed: Any = {"method": "gzip", "mtime": 0, "compresslevel": 9} if name.endswith(".gz") else None
            file.rows.to_csv(
                path,
                index=False,
                sep=file.source.separator,
                encoding=file.source.encoding,
                compression=packed,
                lineterminator="\n",
            )
