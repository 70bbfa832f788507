"""Tables that grow by partitions: one file per key, so that a rerun replaces its own partitions only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from wind_kedro.datasets.files import read_whole
from wind_kedro.datasets.parts import FolderTable, declared_columns, visible_files, why_unreadable
from wind_kedro.storage.temporary import UNREADABLE, keep_unreadable, written_aside


class History(FolderTable):
    """A table that grows by partitions: one Parquet file for each value of ``partition_by``.

    Saving writes every partition that the table holds, each aside and renamed; partitions it does not hold stay as they
    are. So a rerun gives the same result, and an interrupted run leaves every partition whole, old or new. Loading reads all
    partitions in the order of their names; an empty history loads as an empty table with the columns of its contract. A file that
    cannot be read, or is no partition of this history, is passed over and named (`passed_over`), and is never replaced: a save to
    its place keeps it beside under another name.
    """

    def __init__(self, *, partition_by: list[str], **options: Any) -> None:
        """Set location and key of the history.

        Args:
            partition_by: columns whose values name a partition; a time is written as 20151101T060000Z.
            options: of `FolderTable`.
        """
        super().__init__(**options)
        self._partition_by = partition_by

    def load(self) -> pd.DataFrame:
        """All partitions as one table; their columns may differ, as products have quantile levels of their own."""
        self._begin()
        parts = []
        for file in visible_files(self._filepath):
            part, fault = self._read(file)
            if fault:
                self._pass_over(file, fault)
            else:
                parts.append(part)
        return self._completed(self._joined(parts))

    def save(self, data: pd.DataFrame) -> None:
        """Replace the partitions that ``data`` holds; keep all others."""
        self._check_writable()
        unnamed = [column for column in self._partition_by if data[column].isna().any()]
        if unnamed:
            raise DatasetError(f"{self._filepath}: {', '.join(unnamed)} names the partition, but is missing in some rows")
        declared = declared_columns(self._contract)
        # A history without rows exists, too: its readers need not wait for its first row.
        self._filepath.mkdir(parents=True, exist_ok=True)
        for values, part in data.groupby(self._partition_by, sort=True):
            *folders, name = [_as_name(value) for value in values]
            target = self._filepath.joinpath(*folders, f"{name}.parquet")
            if target.exists() and self._read(target)[1]:
                keep_unreadable(target)
            with written_aside(target) as file:
                # Drop quantile levels of other products; keep columns of the contract, even if they are empty.
                empty = [column for column in part if column not in declared and part[column].isna().all()]
                part.drop(columns=empty).to_parquet(file, index=False)

    def _read(self, file: Path) -> tuple[pd.DataFrame, str]:
        """The rows of a file, and why it is no partition of this history; empty: it is one."""
        nothing = pd.DataFrame()
        if file.suffix != ".parquet":
            kept = f"{UNREADABLE}-" in file.name
            return nothing, "could not be read when its file was replaced" if kept else "is no Parquet file"
        try:
            part = read_whole(file)
        except Exception as error:  # whatever a parser raises on whatever bytes
            return nothing, why_unreadable(error)
        missing = [column for column in self._partition_by if column not in part]
        if missing:
            return nothing, f"is another table's: it has no column {missing[0]}"
        for values in part[self._partition_by].drop_duplicates().itertuples(index=False, name=None):
            *folders, name = [_as_name(value) for value in values]
            if self._filepath.joinpath(*folders, f"{name}.parquet") != file:
                return nothing, f"holds rows of {'/'.join([*folders, name])}, which is not its name"
        return part, ""

    def _exists(self) -> bool:
        # A view of what earlier runs left is there even when they left nothing: the first training finds an empty history.
        return self._read_only or self._filepath.is_dir()


def _as_name(value: Any) -> str:
    """A value as part of a file name: readable, sortable, the same on every system."""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y%m%dT%H%M%SZ")
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(value)) or "_"
