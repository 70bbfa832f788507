"""Connections to the engine that holds tables of rows: one per settings in a process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wind_kedro.storage.paths import is_in_store

if TYPE_CHECKING:
    import duckdb
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


def literals(engine: duckdb.DuckDBPyConnection, paths: Iterable[Path]) -> list[str]:
    """`literal` of paths that an engine is about to read; one in an object store is made known to it."""
    found = list(paths)
    for path in found:
        # Through fsspec: DuckDB's own reader of object stores is an extension, which it would download.
        if is_in_store(path) and path.fs.protocol[0] not in engine.list_filesystems():  # type: ignore[attr-defined]
            engine.register_filesystem(path.fs)  # type: ignore[attr-defined]
    # Ibis would load that extension for s3://; s3a:// is the same store.
    return [literal(path).replace("s3://", "s3a://", 1) if is_in_store(path) else literal(path) for path in found]


def literal(path: Path) -> str:
    """A path as DuckDB reads it: it takes every name for a pattern, also ``signals_[1].csv``."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))
