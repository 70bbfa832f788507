"""Values that came as text: stamps, numbers with units, and the first thing that is wrong with a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table, conversion

__all__ = [
    "conversions",
    "first_fault",
    "has_text",
    "instant",
    "minus_minutes",
    "numbers",
    "quoted",
    "wall_and_offset",
]

#: ISO 8601 with a T or a blank, seconds and their fraction optional; an offset optional. Years from 1900 to 2199: times of pandas
#: end in 2262, and of no wind farm is anything older or newer.
_STAMP = r"^(?:19|2[01])\d{2}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?$"
_WALL = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)"
_OFFSET = r"([+-])(\d{2}):?(\d{2})?$"
_FARTHEST_OFFSET_MINUTES = 18 * 60
#: A date's own hyphens would pass for an offset: it is sought behind the time only.
_HAS_OFFSET = r"[T ]\d{2}:\d{2}.*[+-]\d{2}(:?\d{2})?$"

# --- times -----------------------------------------------------------------------------------------------------------


def minus_minutes(at: Any, minutes: Any) -> Any:
    """A time expression, some minutes earlier."""
    return at - minutes.as_interval("m")


def wall_and_offset(text: Any) -> tuple[Any, Any]:
    """The stamp without its offset, and the offset in minutes (null: none given); both null if it is no stamp."""
    import ibis

    text = text.strip()
    sound = text.re_search(_STAMP)
    wall = text.re_extract(_WALL, 1).try_cast("timestamp")
    hours = text.re_extract(_OFFSET, 2).try_cast("int64")
    minutes = text.re_extract(_OFFSET, 3).try_cast("int64").fill_null(0)
    east = ibis.ifelse(text.re_extract(_OFFSET, 1) == "-", -1, 1) * (hours * 60 + minutes)
    # Further from UTC than any place on Earth (and than ISO 8601's readers go) is no stamp.
    sound &= (east.abs() <= _FARTHEST_OFFSET_MINUTES).fill_null(True)
    offset = ibis.cases(
        (~sound, ibis.null("int64")),
        (text.endswith("Z"), ibis.literal(0, "int64")),
        (text.re_search(_HAS_OFFSET), east),
    )
    return ibis.ifelse(sound, wall, ibis.null("timestamp")), offset


def instant(text: Any) -> Any:
    """A stamp as UTC without zone; without an offset it is UTC already."""
    wall, offset = wall_and_offset(text)
    return minus_minutes(wall, offset.fill_null(0))


# --- numbers ---------------------------------------------------------------------------------------------------------


def conversions(units: Mapping[str, str], house: Mapping[str, str]) -> dict[str, float]:
    """Factor and offset per column; a column that is not mapped is null whatever they are."""
    found: dict[str, float] = {}
    for name, house_unit in house.items():
        factor, offset = conversion(units.get(name, house_unit), house_unit)
        found |= {f"{name}_factor": factor, f"{name}_offset": offset}
    return found


def has_text(column: Any, missing: Sequence[str]) -> Any:
    """Whether a text column has a value: neither null nor one of the words for missing."""
    return column.notnull() & ~column.strip().lower().isin(list(missing))


def numbers(rows: Table, names: Sequence[str], missing: Sequence[str]) -> Table:
    """Add each column as a number in the house's unit, ``_text`` as it came, ``_source`` in the source's unit and ``_bad``."""
    rows = rows.rename({f"{name}_text": name for name in names})
    rows = rows.mutate(**{f"{name}_source": _number(rows[f"{name}_text"].strip()) for name in names})
    finite = {
        name: rows[f"{name}_source"].notnull() & ~rows[f"{name}_source"].isinf() & ~rows[f"{name}_source"].isnan()
        for name in names
    }
    return rows.mutate(
        **{f"{name}_bad": has_text(rows[f"{name}_text"], missing) & ~finite[name] for name in names},
        **{
            name: finite[name].ifelse(rows[f"{name}_source"] * rows[f"{name}_factor"] + rows[f"{name}_offset"], None)
            for name in names
        },
    )


def _number(text: Any) -> Any:
    import ibis

    # DuckDB reads 1_000 as a number, and Spark 1d and 1f.
    foreign = text.contains("_") | text.right(1).isin(["d", "D", "f", "F"])
    return ibis.ifelse(foreign, ibis.null("float64"), text.try_cast("float64"))


# --- faults --------------------------------------------------------------------------------------------------------------


def quoted(what: str, value: Any, problem: str) -> Any:
    """A message that quotes a value: what it is, the value, and the problem."""
    return f"{what} '" + value.fill_null("") + f"' {problem}"


def first_fault(faults: Sequence[tuple[Any, str, Any]]) -> tuple[Any, Any]:
    """Reason and detail of the first fault that holds; null if none does."""
    import ibis

    reason = ibis.cases(*[(holds, ibis.literal(code)) for holds, code, _ in faults])
    detail = ibis.cases(*[(holds, text) for holds, _, text in faults])
    return reason, detail
