"""Convert opened files of any layout to rows: one per turbine and stamp, or per run and valid time.

Stamps are converted to ISO 8601 and numbers to a decimal point by the card; values that do not match the card are kept
unchanged, so that the row is quarantined with its original text. All values stay text.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wind_kedro.cards import LANDED_AT, SIGNAL_UNITS, TURBINE, WEATHER_UNITS, Farm, SignalSource, Source, Turbine, WeatherSource
from wind_kedro.readers.source_files import Choose, Opened, SourceError, check_columns, name, quoted, text

#: Offsets of zone abbreviations that loggers write.
ZONE_OFFSETS: Mapping[str, str] = {
    "UTC": "+00:00", "GMT": "+00:00", "WET": "+00:00", "WEST": "+01:00", "BST": "+01:00", "CET": "+01:00", "CEST": "+02:00",
    "MEZ": "+01:00", "MESZ": "+02:00", "EET": "+02:00", "EEST": "+03:00", "EST": "-05:00", "EDT": "-04:00",
    "CST": "-06:00", "CDT": "-05:00", "MST": "-07:00", "MDT": "-06:00", "PST": "-08:00", "PDT": "-07:00",
}  # fmt: skip
_ZONE = r":\d{2}(?:\.\d+)?(?: ?[AaPp]\.? ?[Mm]\.?)? *(Z|[+-]\d{2}(?::?\d{2})?|" + "|".join(ZONE_OFFSETS) + ")$"
_MIDNIGHT_AT_THE_END = r"(^|[ T])24:00(:00(?:\.0+)?)?"
AnySource = SignalSource | WeatherSource
_ISO = "%Y-%m-%dT%H:%M:%S.%f"
_LANDED = re.compile(rf"^{LANDED_AT}=(\d{{4}}-\d{{2}}-\d{{2}})T(\d{{2}})-(\d{{2}})-(\d{{2}}(?:\.\d+)?)Z$")


def chooser(farm: Farm, source: AnySource, path: Path, where: str) -> Choose:
    """A function that selects the columns that a card needs; it raises `SourceError` if one is missing."""

    def choose(found: Sequence[str]) -> list[str]:
        values = [column.name for column in source.columns.values()]
        if isinstance(source, WeatherSource):
            keys = [source.run_at, source.valid_at, source.lead.name if source.lead else None]
        else:
            keys = [source.timestamp, source.time_of_day, source.turbine]
            if source.layout == "long":
                values = [column for column in (source.signal, source.value, source.quality) if column is not None]
            elif source.layout == "wide":
                values = [
                    column
                    for turbine in farm.turbines
                    for column in _columns_of(turbine, source)
                    # A file may be from before a turbine came, or from after it left.
                    if not turbine.dated or column in found
                ]
        names = [column for column in [*keys, *values, *source.where] if column is not None]
        arrival, field = _arrival(source)
        if arrival is not None and not (arrival == LANDED_AT and landed_at(path) is not None):
            if arrival == LANDED_AT and LANDED_AT not in found:
                raise SourceError(
                    f"{where}: neither a column landed_at nor a folder landed_at=… above it; correct `{field}` in farms.yml"
                )
            names.append(arrival)
        check_columns(found, names, where)
        return names

    return choose


def _columns_of(turbine: Turbine, source: SignalSource) -> list[str]:
    """Columns of a turbine in a wide layout."""
    return [column.name.replace(TURBINE, turbine.name_in_data) for column in source.columns.values()]


def _arrival(source: AnySource) -> tuple[str | None, str]:
    """The card's value for the arrival time of rows, and the name of its field."""
    field = "available_at" if isinstance(source, WeatherSource) else "received_at"
    return getattr(source, field), field


#: What `selects` reads of the unit of a row, so that files of the same layout are converted by the same SQL.
OWN = ("farm_id", "source_file", "turbine_id", "landed_at", "weather_model", "weather_point")


def own_values(farm: Farm, source: AnySource, path: Path, root: Path) -> dict[str, str | None]:
    """The values of `OWN` of a file."""
    named = {"farm_id": farm.id, "source_file": shown_of(farm, source, path, root), "landed_at": landed_at(path)}
    if isinstance(source, SignalSource):
        return named | {"turbine_id": _turbine_of(farm, source, path), "weather_model": None, "weather_point": None}
    return named | {"turbine_id": None, "weather_model": source.model, "weather_point": source.point}


def selects(farm: Farm, source: AnySource, files: Sequence[Opened], root: Path) -> Iterator[str]:
    """SELECT statements of the raw table's columns, and ``tag``, for the valid files of a source.

    They read relations ``file_0``, ``file_1`` …, one a file: the rows of `Opened.select`, with ``tag`` and `OWN`.
    """
    rows = {f"file_{number}": file for number, file in enumerate(files)}
    if source.where:  # rows that cannot be split are kept
        equal = " AND ".join(f"trim({name(column)}) = {text(value)}" for column, value in source.where.items())
        own = f"WHERE fault IS NOT NULL OR ({equal})"
        rows = {f"(SELECT * FROM {relation} {own})": file for relation, file in rows.items()}  # noqa: S608
    if not isinstance(source, SignalSource):
        yield from (_rows(source, file, relation) for relation, file in rows.items())
    elif source.layout == "long":
        # Values of one stamp may be in several files, so the files are combined.
        yield from [_long(farm, source, rows, root)] if files else []
    else:
        for relation, file in rows.items():
            there = [unit.name_in_data for unit in farm.turbines if set(_columns_of(unit, source)) <= set(file.columns)]
            turbines = dict.fromkeys(there) if source.layout == "wide" else [None]
            yield from (_rows(source, file, relation, turbine, first=turbine in {None, *there[:1]}) for turbine in turbines)


def fault_row(farm: Farm, source: AnySource, path: Path, root: Path, message: str) -> dict[str, Any]:
    """The single row, number 0, of a file that cannot be read."""
    of_weather = {"weather_model": source.model, "weather_point": source.point} if isinstance(source, WeatherSource) else {}
    return {"farm_id": farm.id, "source_file": shown(path, root), "source_row": 0, "fault": message} | of_weather


def columns_of(kind: str) -> list[str]:
    """Columns of the raw table of ``signals`` or ``weather``."""
    columns = ["turbine_id", "timestamp", "received_at", *SIGNAL_UNITS]
    if kind == "weather":
        columns = ["weather_model", "weather_point", "run_at", "available_at", "valid_at", "lead", *WEATHER_UNITS]
    return ["farm_id", "source_file", "fault", *columns, "source_row"]


#: Columns of weather that are no text where a file has typed ones.
TYPED = dict.fromkeys(("run_at", "available_at", "valid_at"), "TIMESTAMP") | dict.fromkeys(("lead", *WEATHER_UNITS), "DOUBLE")


def no_rows(kind: str, *, typed: bool = False) -> str:
    """A SELECT of all columns of the raw table, and ``tag``, without rows."""
    types = {column: (TYPED if typed else {}).get(column, "VARCHAR") for column in [*columns_of(kind), "tag"]}
    types["source_row"] = "BIGINT"
    return f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {column}' for column, kind in types.items())} WHERE false"


def shown(path: Path, root: Path) -> str:
    """Name of a file in tables; bytes that are not UTF-8 are escaped."""
    return os.fsencode(str(path.relative_to(root) if path.is_relative_to(root) else path)).decode("utf-8", "backslashreplace")


def shown_of(farm: Farm, source: AnySource, path: Path, root: Path) -> str:
    """Name of a source's file in tables; of weather it includes the source if several of a farm share the file."""
    if isinstance(source, WeatherSource) and sum(other.path == source.path for other in farm.weather) > 1:
        return f"{shown(path, root)}#{source.model}@{source.point}"
    return shown(path, root)


def _rows(source: AnySource, file: Opened, relation: str, turbine: str | None = None, *, first: bool = True) -> str:
    """Rows of a table, or one turbine's rows of a wide table, whose file name is then ``file#turbine``."""
    columns = {key: column.name.replace(TURBINE, turbine or "") for key, column in source.columns.items()}
    if isinstance(source, SignalSource):
        own_turbine = name(source.turbine) if source.turbine is not None else _own("turbine_id")
        keys = {"turbine_id": text(turbine) if turbine else own_turbine, "timestamp": _signal_stamp(source)}
        keys["received_at"] = _arrived(source, file)
        keys |= {key: number(name(columns[key]), source) if key in columns else _NOTHING for key in SIGNAL_UNITS}
    else:
        if file.typed:
            keys = _typed(source, file)
        else:
            times = {"run_at": source.run_at, "valid_at": source.valid_at}
            keys = {key: stamp(name(column), source) if column else _NOTHING for key, column in times.items()}
            keys["available_at"] = _arrived(source, file)
            keys["lead"] = number(name(source.lead.name), source) if source.lead else _NOTHING
            keys |= {key: number(name(columns[key]), source) if key in columns else _NOTHING for key in WEATHER_UNITS}
        keys |= {key: _own(key) for key in ("weather_model", "weather_point")}
    keys |= {"farm_id": _own("farm_id"), "source_file": _own("source_file") + (f" || {text(f'#{turbine}')}" if turbine else "")}
    values = ", ".join(f"{value} AS {key}" for key, value in keys.items())
    # A row that cannot be split is reported once, not per turbine.
    only = "" if first else " WHERE fault IS NULL"
    return f"SELECT tag, CAST(source_row AS BIGINT) AS source_row, fault, {values} FROM {relation}{only}"  # noqa: S608


def _own(key: str) -> str:
    return quoted(f"own:{key}")


def _typed(source: WeatherSource, file: Opened) -> dict[str, str]:
    """SQL of the columns of `TYPED`, of a file whose times and numbers are so typed."""
    given = {"run_at": source.run_at, "valid_at": source.valid_at, "available_at": source.available_at}
    given |= {key: column.name for key, column in source.columns.items()}
    keys = {key: "NULL" if given.get(key) is None else name(str(given[key])) for key in TYPED}
    keys["lead"] = f"CAST({name(source.lead.name)} AS DOUBLE)" if source.lead else "NULL"
    if source.available_at == LANDED_AT and landed_at(file.path) is not None:
        keys["available_at"] = f"CAST(replace({_own('landed_at')}, '+00:00', '') AS TIMESTAMP)"
    return keys


def _long(farm: Farm, source: SignalSource, files: Mapping[str, Opened], root: Path) -> str:
    """Pivot values by turbine, stamp and arrival; a signal that is not repeated keeps its newest value.

    A value that occurs twice in the same arrival makes a second row, which is then found to be a repetition or a conflict. The
    row's number is that of its last value in the file.
    """
    parts = []
    cases = {
        (key, turbine.name_in_data if TURBINE in column.name else None): column.name.replace(TURBINE, turbine.name_in_data)
        for key, column in source.columns.items()
        for turbine in farm.turbines
    }
    tag = name(source.signal or "")
    is_signal = " ".join(f"WHEN trim({tag}) = {text(column)} THEN {text(key)}" for (key, _), column in cases.items())
    is_turbine = " ".join(f"WHEN trim({tag}) = {text(column)} THEN {text(one)}" for (_, one), column in cases.items() if one)
    value = number(name(source.value or ""), source)
    if source.quality:
        good = ", ".join(text(value) for value in source.good_quality)
        value = f"CASE WHEN trim({name(source.quality)}) IN ({good}) THEN {value} END"
    by_column = None if source.turbine is None else name(source.turbine)
    for relation, file in files.items():
        turbine = f"CASE {is_turbine} END" if is_turbine else by_column or text(_turbine_of(farm, source, file.path))
        parts.append(
            f"SELECT tag, {text(shown(file.path, root))} AS source_file, source_row, fault, {turbine} AS turbine_id, "  # noqa: S608
            f"{_signal_stamp(source)} AS timestamp, {_arrived(source, file)} AS received_at, "
            f"CASE {is_signal} END AS signal, {value} AS value FROM {relation}"
        )
    every = f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE fault IS NOT NULL OR signal IS NOT NULL"  # noqa: S608
    # A line that cannot be split is a row of its own.
    place = "CASE WHEN fault IS NOT NULL THEN source_row END"
    order = "received_at NULLS FIRST, source_file, source_row"
    together = f"turbine_id, timestamp, received_at, {place}"
    counted = f"SELECT *, row_number() OVER (PARTITION BY {together}, signal ORDER BY {order}) AS part FROM ({every})"  # noqa: S608
    pivoted = ", ".join(f"max(value) FILTER (signal = {text(key)}) AS {key}" for key in source.columns)
    rows = (
        f"SELECT any_value(tag) AS tag, turbine_id, timestamp, received_at, part, any_value(fault) AS fault, "  # noqa: S608
        f"max({{'file': source_file, 'row': source_row}}) AS last, {pivoted} "
        f"FROM ({counted}) GROUP BY {together}, part"
    )
    newest = "PARTITION BY turbine_id, timestamp, fault ORDER BY received_at NULLS FIRST, part"
    values = ", ".join(
        f"last_value({key} IGNORE NULLS) OVER ({newest} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS {key}"
        if key in source.columns
        else f"{_NOTHING} AS {key}"
        for key in SIGNAL_UNITS
    )
    return (
        f"SELECT tag, {text(farm.id)} AS farm_id, last.file AS source_file, last.row AS source_row, fault, "  # noqa: S608
        f"turbine_id, timestamp, received_at, {values} FROM ({rows})"
    )


def _turbine_of(farm: Farm, source: SignalSource, path: Path) -> str:
    """The turbine of a file whose rows do not name it."""
    if source.turbine_in_file is None:
        return farm.turbines[0].name_in_data
    pattern = re.escape(source.turbine_in_file).replace(re.escape(TURBINE), "(.+?)").replace(r"\*", ".*")
    found = re.fullmatch(pattern, path.name)
    # A file without a match has its name as the unknown turbine.
    return found.group(1) if found else path.name


def _signal_stamp(source: SignalSource) -> str:
    if source.time_of_day is None:
        return stamp(name(source.timestamp), source)
    # A date typed as a time has a time of midnight.
    date = rf"regexp_replace(trim({name(source.timestamp)}), '[T ]00:00:00(\.0+)?$', '')"
    return stamp(f"({date} || ' ' || trim({name(source.time_of_day)}))", source)


def _arrived(source: AnySource, file: Opened) -> str:
    arrival, _ = _arrival(source)
    if arrival is None:
        return _NOTHING
    if arrival == LANDED_AT and landed_at(file.path) is not None:
        # All rows of a batch have the same arrival, whatever a column holds; merged batches have it in a column.
        return _own("landed_at")
    return stamp(name(arrival), source)


def landed_at(path: Path) -> str | None:
    """Landing time of a batch, from the name of the outermost folder; folders below it come from the source."""
    for folder in reversed(path.parents):
        if found := _LANDED.match(folder.name):
            day, hour, minute, second = found.groups()
            at = dt.datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}+00:00")
            return at.isoformat(timespec="microseconds")
    return None


_NOTHING = "CAST(NULL AS VARCHAR)"


def stamp(value: str, source: Source) -> str:
    """SQL that converts a stamp to ISO 8601 by the card's ``stamp_format``; other values are kept unchanged."""
    written = f"trim({value})"
    match source.stamp_format:
        case None:
            day = f"try_cast(regexp_replace({written}, {text(_MIDNIGHT_AT_THE_END + '.*$')}, '') AS DATE)"
            zone = f"regexp_extract({written}, {text(_MIDNIGHT_AT_THE_END + '(.*)$')}, 3)"
            midnight = f"strftime(TRY({day} + INTERVAL 1 DAY), '%Y-%m-%dT00:00:00') || {zone}"
            # A typed cell at midnight is read as a date only.
            plain = f"CASE WHEN length({written}) = 10 THEN {written} || 'T00:00:00' ELSE {value} END"
            plain = plain if source.format == "excel" else value
            # `contains` is a fast filter; 00:24:00 is not a midnight.
            late = f"contains({value}, '24:00') AND regexp_matches({written}, {text(_MIDNIGHT_AT_THE_END)})"
            return f"CASE WHEN {late} THEN coalesce({midnight}, {value}) ELSE {plain} END"
        case "excel":
            # Days since 1899-12-30, with a resolution of milliseconds.
            moment = f"TIMESTAMP '1899-12-30' + to_milliseconds(CAST(round(try_cast({written} AS DOUBLE) * 86400000) AS BIGINT))"
            return f"coalesce(strftime(TRY({moment}), {text(_ISO)}), {value})"
        case "epoch_seconds" | "epoch_milliseconds":
            micros = 1_000_000 if source.stamp_format == "epoch_seconds" else 1_000
            moment = f"make_timestamp(CAST(try_cast({written} AS DECIMAL(24, 6)) * {micros} AS BIGINT))"
            return f"coalesce(strftime(TRY({moment}), {text(_ISO + '+00:00')}), {value})"
    own = source.stamp_format
    zone = f"regexp_extract({written}, {text(_ZONE)}, 1)"
    body = f"rtrim(left({written}, length({written}) - length({zone})))"
    if "%p" in own:  # p.m., P. M. and pm are all PM
        body = rf"upper(regexp_replace({body}, '([AaPp])\. ?([Mm])\.?$', '\1\2'))"
    late = f"regexp_matches({body}, {text(_MIDNIGHT_AT_THE_END)})"
    body = rf"regexp_replace({body}, {text(_MIDNIGHT_AT_THE_END)}, '\1' || '00:00' || '\2')"
    moment = f"(try_strptime({body}, {text(own)}) + CASE WHEN {late} THEN INTERVAL 1 DAY ELSE INTERVAL 0 DAY END)"
    offset = " ".join(f"WHEN {text(zone_name)} THEN {text(hours)}" for zone_name, hours in ZONE_OFFSETS.items())
    return f"coalesce(strftime(TRY({moment}), {text(_ISO)}) || CASE {zone} {offset} ELSE {zone} END, {value})"


def number(value: str, source: Source) -> str:
    """SQL that converts a number to a decimal point without digit grouping, by the card.

    A number in another notation, such as ``1.234`` with a decimal comma and no grouping, would be misread: it is put in quotes,
    so that it is quarantined as unreadable.
    """
    if source.decimal == "." and source.thousands is None:
        return value
    written = f"trim({value})"
    point = re.escape(source.decimal)
    digits = r"\d+"
    bare = written
    if source.thousands is not None:
        # Digits may be grouped with non-breaking spaces.
        group = "[ \u00a0\u202f]" if source.thousands == " " else re.escape(source.thousands)
        digits = rf"(\d+|\d{{1,3}}({group}\d{{3}})+)"
        bare = f"regexp_replace({written}, {text(group)}, '', 'g')"
    pattern = rf"^[+-]?({digits}({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$"
    read = bare if source.decimal == "." else f"replace({bare}, {text(source.decimal)}, '.')"
    return (
        f"CASE WHEN regexp_matches({written}, {text(pattern)}) THEN {read} "
        f"WHEN try_cast({written} AS DOUBLE) IS NOT NULL AND regexp_matches({written}, '\\d') "
        f"THEN '\"' || {written} || '\"' ELSE {value} END"
    )
