"""Kedro's file datasets, written aside and renamed: an interrupted run leaves the previous file whole.

Kedro opens the target itself and writes into it. Here it writes into a neighbour of the same suffix, which then replaces the
target in one step (`os.replace` is atomic within a file system). Local paths only; object stores replace whole objects anyway.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro_datasets.ibis import FileDataset
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as PlotlyDataset
from kedro_datasets.text import TextDataset


@contextmanager
def aside(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; on success it replaces the target, on failure it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    neighbour = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield neighbour
        os.replace(neighbour, target)  # noqa: PTH105 - replaces atomically; Path.replace is the same call
    finally:
        neighbour.unlink(missing_ok=True)


def read_whole(path: Path, **options: Any) -> pd.DataFrame:
    """Read a Parquet file that may be replaced meanwhile. Given a path, pandas opens it twice, and may meet two files."""
    with path.open("rb") as file:
        return pd.read_parquet(file, **options)


class _WrittenAside:
    """Mixin for Kedro's file datasets: `save` writes aside, then renames."""

    _filepath: PurePosixPath
    _version: Any

    def save(self, data: Any) -> None:
        """Save ``data``; the previous file stays until the new one is whole."""
        if self._version is not None or getattr(self, "_protocol", "file") != "file" or getattr(self, "_fs_prefix", ""):
            super().save(data)  # type: ignore[misc]  # versions are never overwritten; remote stores replace whole objects
            return
        target = self._filepath
        with aside(Path(target)) as neighbour:
            self._filepath = PurePosixPath(neighbour)
            try:
                super().save(data)  # type: ignore[misc]
            finally:
                self._filepath = target


class ParquetTable(_WrittenAside, ParquetDataset):
    """A pandas table in a Parquet file."""

    def load(self) -> pd.DataFrame:
        """The whole table, as it was before or after a save that goes on meanwhile."""
        path = Path(self._get_load_path())
        if self._protocol != "file" or path.is_dir():
            table: pd.DataFrame = super().load()
            return table
        return read_whole(path, **self._load_args)


class IbisTable(_WrittenAside, FileDataset):
    """An Ibis table in a Parquet file, written and read by its backend."""


class Figure(_WrittenAside, PlotlyDataset):
    """A Plotly figure as JSON, which Kedro-Viz shows."""


class Document(_WrittenAside, TextDataset):
    """A text document, such as an HTML page."""


class JsonDocument(_WrittenAside, JSONDataset):
    """A JSON document."""
