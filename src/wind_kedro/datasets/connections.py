"""Connections to the engines that hold tables of rows: one per engine and settings in a process.

Most engines are made of their settings alone, as in ``kedro_datasets.ibis``. Spark wants a session, which is made here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io.core import DatasetError

from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    from ibis.backends import BaseBackend

#: Settings of Spark for the same results as DuckDB; a configuration cannot override them.
_SAME_AS_DUCKDB = {
    "spark.sql.session.timeZone": "UTC",
    # Invalid stamps are null by `try_cast`, not by the engine's rule.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.session.localRelationCacheThreshold": "67108864",
}


class EngineError(WindKedroError, DatasetError):
    """The engine of `tables` in globals.yml cannot be started."""


def connect(settings: Mapping[str, Any]) -> BaseBackend:
    """A connection to an Ibis backend.

    Args:
        settings: ``backend`` and what its ``connect`` takes. For ``pyspark``, ``session`` holds Spark's own settings
            (``spark.master`` and so on).

    Raises:
        EngineError: if Spark, or the Java that it runs on, is not there.
    """
    import ibis

    # To fuse selects into one takes Ibis a quarter of the time in which it compiles; engines do so themselves.
    ibis.options.sql.fuse_selects = False
    options = dict(settings)
    name = options.pop("backend")
    if name == "pyspark":
        return _spark(options)
    backend = getattr(ibis, name).connect(**options)
    if name == "duckdb":
        # A table of many parts is opened anew for each chunk of it. DuckDB looks whether a file was replaced meanwhile.
        backend.raw_sql("SET parquet_metadata_cache = true")
    return backend


def literal(path: Path) -> str:
    """A path as DuckDB reads it: it takes every name for a pattern, also ``signals_[1].csv``."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def _spark(options: dict[str, Any]) -> BaseBackend:
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineError("tables on Spark need the extra 'spark': pip install 'wind-kedro[spark]'") from None
    home = environ.get("JAVA_HOME")
    if shutil.which("java") is None and not (home and Path(home, "bin", "java").is_file()):
        raise EngineError("Spark needs Java 17 or newer: install it, or set JAVA_HOME to where it is")
    import ibis

    builder = SparkSession.builder.appName("wind-kedro")
    for key, value in ({str(key): value for key, value in options.pop("session", {}).items()} | _SAME_AS_DUCKDB).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return ibis.pyspark.connect(session, **options)
