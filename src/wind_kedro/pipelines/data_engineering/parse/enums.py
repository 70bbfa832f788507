"""Text columns with few distinct values as DuckDB's ENUM.

To write a text column as Parquet, DuckDB builds its dictionary value by value, which takes ten times as long as a column of
timestamps. An ENUM already is a dictionary. Ibis and readers of the table see text; other engines keep plain text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table, engine_function, ibis, temporary_table

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
    return engine_function("wind_kedro_enum", "string", "string")(value)


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
        ordered = sorted(values)
        cast = f"SELECT text, CAST(text AS {_enum_type(ordered)}) AS encoded"
        codes = temporary_table(engine, f"{cast} FROM (SELECT unnest([{_quoted(ordered)}]) AS text)")
        rows = rows.left_join(codes, rows[column] == codes.text)
        rows = rows.mutate(**{column: rows.encoded}).drop("text", "encoded")
    return rows.select(*names)


def _enum_type(values: Iterable[str]) -> str:
    return f"ENUM({_quoted(values)})"


def _quoted(values: Iterable[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
