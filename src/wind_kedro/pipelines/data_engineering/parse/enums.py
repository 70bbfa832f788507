"""Text columns with few known values as DuckDB's ENUM, which takes a byte a value while rows are compared and sorted.

Ibis and readers of the table see text.
"""

from __future__ import annotations

from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table, engine_function, ibis

#: Values of status, fault and operating state (`time_signals`, `clean_values`, `judge_signals`, `parse_signals`).
ENUM_VALUES = (
    "kept", "superseded", "duplicate", "quarantined",
    "sentinel", "out_of_range", "stuck", "spike", "unit",
    "", "stopped", "curtailed", "derated", "iced", "off_curve",
)  # fmt: skip


def enum_value(rows: Table, text: Any) -> Any:
    """Cast one of `ENUM_VALUES`, or a column of them, to the ENUM; a case expression over such values keeps the type."""
    value = ibis.literal(text) if isinstance(text, str) else text
    kind = ", ".join(f"'{each}'" for each in ENUM_VALUES)
    rows.get_backend().raw_sql(f"CREATE TEMP MACRO IF NOT EXISTS wind_kedro_enum(text) AS CAST(text AS ENUM({kind}))")
    return engine_function("wind_kedro_enum", "string", "string")(value)
