"""Kedro's file datasets with atomic writes: an interrupted run leaves the previous file intact."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro.io import DatasetError
from kedro_datasets._typing import TablePreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.plotly import JSONDataset as PlotlyDataset
from kedro_datasets.text import TextDataset
from kedro_datasets.yaml import YAMLDataset

from wind_kedro.datasets.parts import as_preview, empty_table
from wind_kedro.storage import object_store
from wind_kedro.storage.paths import data_path
from wind_kedro.storage.temporary import Scratch, written_aside

#: The folder of local copies, which lasts until the process ends.
_COPIES: list[Scratch] = []


def read_whole(path: Path, **options: Any) -> pd.DataFrame:
    """Read a Parquet file that may be replaced meanwhile; given a path, pandas opens it twice, possibly two versions."""
    with path.open("rb") as file:
        return pd.read_parquet(file, **options)


class _WrittenAside:
    """Mixin for Kedro's file datasets: `save` writes aside, then renames.

    Of a file in an object store the dataset has a local copy, which is fetched to be read and put when it is saved; so MLflow
    logs it as it logs other files.
    """

    _filepath: PurePosixPath
    _version: Any

    def __init__(self, *, filepath: str, **options: Any) -> None:
        """``filepath`` is the file, ``options`` are those of Kedro's dataset."""
        self._stored = data_path(filepath, "filepath") if str(filepath).startswith("s3://") else None
        if self._stored is not None:
            if options.get("version") is not None:
                raise DatasetError(f"{filepath}: versions are not kept in an object store; remove `versioned`")
            filepath = str(_local_copies() / hashlib.sha256(filepath.encode()).hexdigest()[:16] / self._stored.name)
        super().__init__(filepath=filepath, **options)  # type: ignore[call-arg]

    def save(self, data: Any) -> None:
        """Save ``data``; the previous file stays until the new one is whole."""
        if self._stored is not None:
            super().save(data)  # type: ignore[misc]
            object_store.upload(Path(self._filepath), self._stored)
            return
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

    def _get_load_path(self) -> PurePosixPath:
        if self._stored is not None:
            with written_aside(Path(self._filepath)) as aside:
                object_store.download(self._stored, aside)
        path: PurePosixPath = super()._get_load_path()  # type: ignore[misc]
        return path

    def _exists(self) -> bool:
        return self._stored.exists() if self._stored is not None else bool(super()._exists())  # type: ignore[misc]

    def _describe(self) -> dict[str, Any]:
        described: dict[str, Any] = super()._describe()  # type: ignore[misc]
        return described if self._stored is None else described | {"filepath": str(self._stored)}


@functools.cache
def _local_copies() -> Path:
    _COPIES.append(Scratch("copies"))
    return Path(_COPIES[0].name)


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
        if self._contract is not None and not super()._exists():
            return empty_table(self._contract)
        path = Path(self._get_load_path())
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


class YamlDocument(_WrittenAside, YAMLDataset):
    """A YAML document."""
