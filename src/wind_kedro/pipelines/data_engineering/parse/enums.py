"""Text columns with few distinct values as DuckDB's ENUM.

To write a text column as Parquet, DuckDB builds its dictionary value by value, which takes ten times as long as a column of
timestamps. An ENUM already is a dictionary. Ibis and readers of the table see text; other engines keep plain text.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import cache
from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table, ibis

#: Values of status, fault and operating state (`time_signals`, `clean_values`, `judge_signals`, `parse_signals`).
ENUM_VALUES = (
    "kept", "superseded", "duplicate", "quarantined",
    "sentinel", "out_of_range", "stuck", "spike", "unit",
    "", "stopped", "curtailed", "derated", "iced", "off_curve",
)  # fmt: skip
#: Columns with more distinct values (rows of unreadable files have many) stay text.
_MAX_VALUES = 10_000


def enum_value(rows: Table, text: Any) -> Any:
    """Cast one of `ENUM_VALUES`, or a column of them, to the ENUM; a case expression over such values keeps the type."""
    engine = rows.get_backend()
    value = ibis.literal(text) if isinstance(text, str) else text
    if engine.name != "duckdb":
        return value
    engine.raw_sql(f"CREATE TEMP MACRO IF NOT EXISTS wind_kedro_enum(text) AS CAST(text AS {_enum_type(ENUM_VALUES)})")
    return _enum_macro()(value)


def encode_columns(rows: Table, source: Table, columns: Iterable[str]) -> Table:
    """Cast text columns to ENUMs of the values found in ``source``: the same rows still in their file."""
    engine = rows.get_backend()
    if engine.name != "duckdb":
        return rows
    names = tuple(rows.columns)
    for column in columns:
        found = source.filter(source[column].notnull()).select(column).distinct().limit(_MAX_VALUES + 1)
        values = found.to_pandas()[column]
        if not 0 < len(values) <= _MAX_VALUES:
            continue
        # An ENUM sorts by position, so that the values are sorted first.
        codes = _codes(engine, sorted(values))
        rows = rows.left_join(codes, rows[column] == codes.text)
        rows = rows.mutate(**{column: rows.encoded}).drop("text", "encoded")
    return rows.select(*names)


def _codes(engine: Any, values: list[str]) -> Table:
    """Temporary table of ``text`` and ``encoded`` (the ENUM), dropped with its last reference."""
    name = ibis.util.gen_name("codes")
    engine.raw_sql(
        f'CREATE TEMP TABLE "{name}" AS SELECT text, CAST(text AS {_enum_type(values)}) AS encoded '  # noqa: S608 - quoted below
        f"FROM (SELECT unnest([{_quoted(values)}]) AS text)"
    )
    table = engine.table(name, database=("temp", "main"))
    weakref.finalize(table.op(), engine.raw_sql, f'DROP TABLE IF EXISTS "{name}"').atexit = False
    return table


def _enum_type(values: Iterable[str]) -> str:
    return f"ENUM({_quoted(values)})"


def _quoted(values: Iterable[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


@cache
def _enum_macro() -> Any:
    def wind_kedro_enum(text: str) -> str:
        raise NotImplementedError(text)  # the macro of this name

    return ibis.udf.scalar.builtin(name="wind_kedro_enum", signature=(("string",), "string"))(wind_kedro_enum)
