"""Tables that are folders of files: a part that cannot be read is named and passed over, and no save replaces or deletes it.

Loading does not fail if parts are missing. A dataset keeps the parts that it passed over in `passed_over`, for which `kedro run`
returns an exit code other than 0 once all results are written.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from wind_kedro.storage.paths import data_path

logger = logging.getLogger(__name__)


class PassesOver:
    """Mixin for datasets that pass over parts of a table."""

    _passed_over: dict[Path, str] | None = None

    @property
    def passed_over(self) -> list[str]:
        """What the last load left out, a line a part."""
        return [f"{path}: {why}" for path, why in (self._passed_over or {}).items()]

    def _begin(self) -> None:
        self._passed_over = {}

    def _pass_over(self, path: Path, why: str) -> None:
        assert self._passed_over is not None  # noqa: S101 - _begin comes first
        self._passed_over[path] = f"{why}; it is left out: restore it from a backup, or move it away"
        logger.warning("%s: %s; it is left out", path, why)


class PathDataset(AbstractDataset[Any, Any]):
    """Base class of datasets in a file or folder, of this machine or of an object store."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """``filepath`` is the file or folder; ``metadata`` is ignored by Kedro, and read by Kedro-Viz."""
        self._filepath = data_path(filepath, "filepath")
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class FolderTable(PassesOver, PathDataset):
    """Base class of tables that are a folder of Parquet files, to which saving adds."""

    def __init__(self, *, contract: str, read_only: bool = False, **options: Any) -> None:
        """Set the location of the table.

        Args:
            contract: import path of the Pandera model, for the columns of an empty table and of an earlier version's.
            read_only: whether saving is refused: for a second entry on the same table, which reads what earlier runs left.
            options: of `PathDataset`.
        """
        super().__init__(**options)
        self._contract = contract
        self._read_only = read_only

    def _joined(self, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """The parts as one table, with the union of their columns; without parts an empty one with those of the contract."""
        return pd.concat(parts, ignore_index=True) if parts else empty_table(self._contract)

    def _completed(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with all columns of the contract: nulls in those that were added since its parts were written."""
        new = {name: kind for name, kind in declared_columns(self._contract).items() if name not in table}
        return table.assign(**{name: pd.Series(index=table.index, dtype=kind) for name, kind in new.items()})

    def _check_writable(self) -> None:
        if self._read_only:
            raise DatasetError(f"{self._filepath} is read here, not written: it is a view of what earlier runs left")


def why_unreadable(error: Exception) -> str:
    """What reading a part raised, as one line."""
    return f"cannot be read ({' '.join(str(error).split())[:200] or type(error).__name__})"


def columns_of(path: Path) -> Any:
    """Names and types of a Parquet file's columns, from its footer."""
    import pyarrow.parquet as pq

    return pq.read_schema(path).remove_metadata()


def declared_columns(contract: str) -> dict[str, Any]:
    """The columns that a contract names, with their types; not those that it knows by a pattern only."""
    from kedro.utils import load_obj

    columns = load_obj(contract).to_schema().columns
    return {name: column.dtype.type if column.dtype else object for name, column in columns.items() if not column.regex}


def empty_table(contract: str) -> pd.DataFrame:
    """No row, with the columns that a contract names."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in declared_columns(contract).items()})


def with_same_parts(new: pd.DataFrame, before: pd.DataFrame, part: str) -> pd.DataFrame:
    """New rows of a history after the earlier rows of the same parts: saving replaces a part whole."""
    same = before[before[part].isin(new[part])]
    return pd.concat([same, new], ignore_index=True) if len(same) else new


def as_preview(table: pd.DataFrame) -> TablePreview:
    """Rows as plain values, which JSON knows: a time that is missing is none, an array a list."""
    split: dict[str, Any] = table.astype(object).to_dict(orient="split")
    split["data"] = [[_plain(value) for value in row] for row in split["data"]]
    return TablePreview(split)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if pd.isna(value) else value
