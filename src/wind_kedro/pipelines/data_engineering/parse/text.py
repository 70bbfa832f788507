"""Expressions that parse text: time stamps, numbers with units, and the first fault of a row."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table, conversion, ibis

#: ISO 8601 with a T or a blank; seconds, their fraction and an offset are optional. Years 1900 to 2199: timestamps of pandas end
#: in 2262.
_STAMP = r"^(?:19|2[01])\d{2}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?$"
_WALL = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)"
_OFFSET = r"([+-])(\d{2}):?(\d{2})?$"
#: Most stamps: two regular expressions and some cuts less than any stamp takes. Offsets are below the largest.
_PLAIN = r"^(?:19|2[01])\d{2}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{6})?(Z|[+-](0\d|1[0-6]):[0-5]\d)?$"
_FIRST_TIME, _END_OF_TIMES = dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)  # noqa: DTZ001
_FARTHEST_OFFSET_MINUTES = 18 * 60
#: An offset is matched after the time only, as the hyphens of the date would match too.
_HAS_OFFSET = r"[T ]\d{2}:\d{2}.*[+-]\d{2}(:?\d{2})?$"

# --- times -----------------------------------------------------------------------------------------------------------


def minus_minutes(at: Any, minutes: Any) -> Any:
    """Subtract minutes from a time expression."""
    return at - minutes.as_interval("m")


def wall_and_offset(text: Any) -> tuple[Any, Any]:
    """Split a stamp into wall-clock time and offset in minutes (null: none given); both are null if it is invalid."""
    plain = text.re_search(_PLAIN)
    length = ibis.ifelse(text.substr(19, 1) == ".", 26, 19)
    zone = text.substr(length)
    east = ibis.ifelse(zone.left(1) == "-", -1, 1) * (zone.substr(1, 2).try_cast("int64") * 60 + zone.right(2).try_cast("int64"))
    plain_offset = ibis.cases((zone == "", ibis.null("int64")), (zone == "Z", ibis.literal(0, "int64")), else_=east)
    wall, offset = _any_wall_and_offset(text)
    # Branches are computed for their own rows only.
    return ibis.ifelse(plain, text.left(length).try_cast("timestamp"), wall), ibis.ifelse(plain, plain_offset, offset)


def _any_wall_and_offset(text: Any) -> tuple[Any, Any]:
    text = text.strip()
    sound = text.re_search(_STAMP)
    wall = text.re_extract(_WALL, 1).try_cast("timestamp")
    hours = text.re_extract(_OFFSET, 2).try_cast("int64")
    minutes = text.re_extract(_OFFSET, 3).try_cast("int64").fill_null(0)
    east = ibis.ifelse(text.re_extract(_OFFSET, 1) == "-", -1, 1) * (hours * 60 + minutes)
    # No place on Earth has a larger offset from UTC, and parsers of ISO 8601 reject one.
    sound &= (east.abs() <= _FARTHEST_OFFSET_MINUTES).fill_null(True)
    offset = ibis.cases(
        (~sound, ibis.null("int64")), (text.endswith("Z"), ibis.literal(0, "int64")), (text.re_search(_HAS_OFFSET), east)
    )
    return ibis.ifelse(sound, wall, ibis.null("timestamp")), offset


def instant(text: Any) -> Any:
    """Parse a stamp to UTC without zone; a stamp without offset is taken as UTC. A column of times only has its years checked."""
    if text.type().is_timestamp():
        return ibis.ifelse((text >= _FIRST_TIME) & (text < _END_OF_TIMES), text, ibis.null("timestamp"))
    wall, offset = wall_and_offset(text)
    return minus_minutes(wall, offset.fill_null(0))


# --- numbers ---------------------------------------------------------------------------------------------------------


def conversions(units: Mapping[str, str], standard: Mapping[str, str]) -> dict[str, float]:
    """Factor and offset of every column from its unit to the standard unit; columns not mapped get 1 and 0."""
    found: dict[str, float] = {}
    for name, standard_unit in standard.items():
        factor, offset = conversion(units.get(name, standard_unit), standard_unit)
        found |= {f"{name}_factor": factor, f"{name}_offset": offset}
    return found


def has_text(column: Any, missing: Sequence[str]) -> Any:
    """Whether a text column has a value: neither null nor one of the texts that mean missing; of a typed one: not null."""
    if not column.type().is_string():
        return column.notnull()
    # `isin`, and `contains`, of more than a few texts are a join, computed for all rows wherever it stands.
    words = ibis.literal(list(missing), "array<string>")
    return column.notnull() & (words.index(column.strip().lower()) < 0)


def numbers(rows: Table, names: Sequence[str], missing: Sequence[str]) -> Table:
    """Parse columns of text to numbers in standard units; columns of numbers are converted.

    Adds ``<name>_text`` (the original text), ``<name>_source`` (in the source's unit) and ``<name>_bad`` (not a number).
    """
    rows = rows.rename({f"{name}_text": name for name in names})
    rows = rows.mutate(**{f"{name}_source": number(rows[f"{name}_text"]) for name in names})
    finite = {
        name: rows[f"{name}_source"].notnull() & ~rows[f"{name}_source"].isinf() & ~rows[f"{name}_source"].isnan()
        for name in names
    }
    return rows.mutate(
        **{f"{name}_bad": _is_bad(rows[f"{name}_text"], finite[name], missing) for name in names},
        **{
            name: finite[name].ifelse(rows[f"{name}_source"] * rows[f"{name}_factor"] + rows[f"{name}_offset"], None)
            for name in names
        },
    )


def _is_bad(value: Any, finite: Any, missing: Sequence[str]) -> Any:
    if value.type().is_floating():  # as text, it would be nan or inf
        return value.isinf() if "nan" in missing else value.notnull() & ~finite
    return ibis.ifelse(finite, False, has_text(value, missing))  # for few rows


def number(value: Any) -> Any:
    """Parse text to a number; null if it is none. A column of numbers is as it is."""
    if value.type().is_floating():
        return value
    # DuckDB skips blanks around a number, and parses 1_000 as one.
    return ibis.ifelse(value.contains("_"), ibis.null("float64"), value.try_cast("float64"))


# --- faults --------------------------------------------------------------------------------------------------------------


def quoted(what: str, value: Any, problem: str) -> Any:
    """Message of the form: what it is, the quoted value, the problem."""
    return f"{what} '" + value.cast("string").fill_null("") + f"' {problem}"


def first_fault(faults: Sequence[tuple[Any, str, Any]]) -> tuple[Any, Any]:
    """Reason and detail of the first fault whose condition holds; null if none does."""
    reason = ibis.cases(*[(holds, ibis.literal(code)) for holds, code, _ in faults])
    detail = ibis.cases(*[(holds, text) for holds, _, text in faults])
    return reason, detail
