"""Kedro's file datasets with atomic writes: an interrupted run leaves the previous file intact.

Local paths only; object stores replace whole objects anyway.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro_datasets._typing import TablePreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as PlotlyDataset
from kedro_datasets.text import TextDataset

from wind_kedro.datasets.parts import as_preview, empty_table
from wind_kedro.storage.temporary import written_aside


def read_whole(path: Path, **options: Any) -> pd.DataFrame:
    """Read a Parquet file that may be replaced meanwhile; given a path, pandas opens it twice, possibly two versions."""
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
        with written_aside(Path(target)) as neighbour:
            self._filepath = PurePosixPath(neighbour)
            try:
                super().save(data)  # type: ignore[misc]
            finally:
                self._filepath = target


class ParquetTable(_WrittenAside, ParquetDataset):
    """A pandas table in a Parquet file."""

    def __init__(self, *, contract: str | None = None, **options: Any) -> None:
        """Set the location of the table.

        Args:
            contract: import path of the Pandera model; with it a table that no run has written yet loads as an empty one.
            options: of `ParquetDataset`.
        """
        super().__init__(**options)
        self._contract = contract

    def load(self) -> pd.DataFrame:
        """The whole table, as it was before or after a save that goes on meanwhile."""
        path = Path(self._get_load_path())
        if self._contract is not None and not super()._exists():
            return empty_table(self._contract)
        if self._protocol != "file" or path.is_dir():
            table: pd.DataFrame = super().load()
            return table
        return read_whole(path, **self._load_args)

    def _exists(self) -> bool:
        return self._contract is not None or bool(super()._exists())

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows, as `as_preview` shows them."""
        return as_preview(self.load().head(nrows))


class Figure(_WrittenAside, PlotlyDataset):
    """A Plotly figure as JSON, which Kedro-Viz shows."""


class Document(_WrittenAside, TextDataset):
    """A text document, such as an HTML page."""


class JsonDocument(_WrittenAside, JSONDataset):
    """A JSON document."""
