"""Connections to the engine that holds tables of rows: one per settings in a process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibis.backends import BaseBackend


def connect(settings: Mapping[str, Any]) -> BaseBackend:
    """A connection to DuckDB through Ibis.

    Args:
        settings: what ``ibis.duckdb.connect`` takes, beside ``backend``, as in ``kedro_datasets.ibis``.
    """
    import ibis

    # To fuse selects into one takes Ibis a quarter of the time in which it compiles; DuckDB does so itself.
    ibis.options.sql.fuse_selects = False
    backend = ibis.duckdb.connect(**{name: value for name, value in settings.items() if name != "backend"})
    # A table of many parts is opened anew for each chunk of it. DuckDB looks whether a file was replaced meanwhile.
    backend.raw_sql("SET parquet_metadata_cache = true")
    return backend


def literal(path: Path) -> str:
    """A path as DuckDB reads it: it takes every name for a pattern, also ``signals_[1].csv``."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))
