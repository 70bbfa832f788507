"""Text that repeats in every row, as the number of its word: DuckDB's ENUM.

To write a column of text as Parquet, DuckDB looks each of its values up in a dictionary that it makes meanwhile: ten times what a
column of times costs, in every table anew. An ENUM is its dictionary. For Ibis, and for whoever reads the table, it is text; on
other engines it is nothing else.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import cache
from typing import Any

from wind_kedro.pipelines.data_engineering.tables import Table

#: All that this room says of a row or a value (`time_signals`, `clean_values`, `judge_signals`, `parse_signals`).
WORDS = (
    "kept", "superseded", "duplicate", "quarantined",
    "sentinel", "out_of_range", "stuck", "spike", "unit",
    "", "stopped", "curtailed", "derated", "iced", "off_curve",
)  # fmt: skip
#: Of more different names in one chunk (rows of unreadable files have many), none is listed.
_MOST = 10_000


def said(rows: Table, text: Any) -> Any:
    """A word of `WORDS`, or a column of them, to be written into the rows; what is chosen among such stays listed."""
    import ibis

    engine = rows.get_backend()
    value = ibis.literal(text) if isinstance(text, str) else text
    if engine.name != "duckdb":
        return value
    engine.raw_sql(f"CREATE TEMP MACRO IF NOT EXISTS wind_kedro_word(text) AS CAST(text AS {_kind(WORDS)})")
    return _word_on_duckdb()(value)


def listed(rows: Table, source: Table, columns: Iterable[str]) -> Table:
    """The rows with these columns of names listed. ``source`` is where the names are looked for: rows still in their file."""
    engine = rows.get_backend()
    if engine.name != "duckdb":
        return rows
    names = tuple(rows.columns)
    for column in columns:
        found = source.filter(source[column].notnull()).select(column).distinct().limit(_MOST + 1).to_pandas()[column]
        if not 0 < len(found) <= _MOST:
            continue
        # Words of an ENUM are ordered by their place in it, and rows by these.
        words = _table(engine, sorted(found))
        rows = rows.left_join(words, rows[column] == words.word)
        rows = rows.mutate(**{column: rows.listed}).drop("word", "listed")
    return rows.select(*names)


def _table(engine: Any, words: list[str]) -> Table:
    """``word`` as text, ``listed`` as ENUM; as long as it is used."""
    import ibis

    name = ibis.util.gen_name("words")
    engine.raw_sql(
        f'CREATE TEMP TABLE "{name}" AS SELECT word, CAST(word AS {_kind(words)}) AS listed '  # noqa: S608 - quoted below
        f"FROM (SELECT unnest([{_quoted(words)}]) AS word)"
    )
    table = engine.table(name, database=("temp", "main"))
    weakref.finalize(table.op(), engine.raw_sql, f'DROP TABLE IF EXISTS "{name}"').atexit = False
    return table


def _kind(words: Iterable[str]) -> str:
    return f"ENUM({_quoted(words)})"


def _quoted(words: Iterable[str]) -> str:
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words)


@cache
def _word_on_duckdb() -> Any:
    import ibis

    def wind_kedro_word(text: str) -> str:
        raise NotImplementedError(text)  # the macro of this name

    return ibis.udf.scalar.builtin(name="wind_kedro_word", signature=(("string",), "string"))(wind_kedro_word)
