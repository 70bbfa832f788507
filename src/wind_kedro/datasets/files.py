"""Kedro's file datasets with atomic writes: an interrupted run leaves the previous file intact.

Local paths only; object stores replace whole objects anyway. A table may also be a folder of parts: Spark writes nothing else,
and a table worked chunk by chunk is written as it comes.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import DatasetError
from kedro_datasets._typing import TablePreview
from kedro_datasets.ibis import FileDataset
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as PlotlyDataset
from kedro_datasets.text import TextDataset

from wind_kedro.datasets.connections import connect, literal
from wind_kedro.datasets.parts import PassesOver, columns_of, empty_table, visible_files, why_unreadable
from wind_kedro.storage.temporary import previous, written_aside


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
        """The first rows as plain values, which JSON knows: a time that is missing is none."""
        split: dict[str, Any] = self.load().head(nrows).astype(object).to_dict(orient="split")
        split["data"] = [[None if pd.isna(value) else value for value in row] for row in split["data"]]
        return split


class _InParts(FileDataset):
    """Kedro's dataset of Ibis tables, for tables that come as one and for tables that come in chunks."""

    def _connect(self) -> Any:
        return connect(self._connection_config)

    def save(self, data: Any) -> None:
        """Write a table, or one part per chunk."""
        import ibis.expr.types as ir

        if isinstance(data, ir.Table):
            super().save(data)
            return
        folder = Path(self._get_save_path())
        folder.mkdir(parents=True)
        for number, chunk in enumerate(data):
            self.connection.to_parquet(chunk, folder / f"part-{number:05d}.parquet", **self._save_args)


class IbisTable(_WrittenAside, _InParts, PassesOver):
    """An Ibis table in Parquet, written and read by its backend: a file, or a folder of parts.

    What is saved is a table, or an iterable of tables of the same columns, its chunks: these are worked and written one after
    the other, so that memory holds one of them at a time.
    """

    def load(self) -> Any:
        """The table, as it was before or after a save that goes on meanwhile; nothing is read yet."""
        path = Path(self._get_load_path())
        self._begin()
        if self._fs_prefix or self._file_format != "parquet":
            return super().load()
        if not path.exists() and previous(path).exists():
            path = previous(path)
        files = [path]
        if path.is_dir():
            files = self._parts(path)
        return self.connection.read_parquet(
            [literal(file) for file in files] if self.connection.name == "duckdb" else str(path),
            table_name=self._table_name,
            **self._load_args,
        )

    def _parts(self, folder: Path) -> list[Path]:
        """The parts of a table that can be read, all of the same columns; Spark's may be folders of parts."""
        parts: list[Path] = []
        columns = None
        for path in visible_files(folder):
            if path.name == "_SUCCESS":  # of Spark
                continue
            if not path.name.startswith("part-") or path.suffix != ".parquet":
                self._pass_over(path, "is no part of this table")
                continue
            try:
                found = columns_of(path)
            except Exception as error:  # whatever a parser raises on whatever bytes
                self._pass_over(path, why_unreadable(error))
                continue
            if columns is not None and not found.equals(columns):
                self._pass_over(path, "has other columns than the parts before it")
                continue
            columns = found
            parts.append(path)
        if not parts:
            raise DatasetError(f"{folder}: has no part that can be read; run the pipeline again that makes it")
        return parts

    def _exists(self) -> bool:
        return bool(super()._exists()) or previous(Path(self._filepath)).exists()


class Figure(_WrittenAside, PlotlyDataset):
    """A Plotly figure as JSON, which Kedro-Viz shows."""


class Document(_WrittenAside, TextDataset):
    """A text document, such as an HTML page."""


class JsonDocument(_WrittenAside, JSONDataset):
    """A JSON document."""
