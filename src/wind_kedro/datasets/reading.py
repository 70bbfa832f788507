"""Tables as they are on disk, read without a catalog: for notebooks, benchmarks and tests."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from wind_kedro.storage.delta import Delta, to_pandas
from wind_kedro.storage.paths import data_path
from wind_kedro.storage.temporary import local_copy

#: Columns that stores add to the rows.
_ADDED = ("day", "month", "part", "place")


def read_table(path: Path | str) -> pd.DataFrame:
    """All rows of a table: a Parquet file or a folder of them, a history, or the rows of a derived table.

    Args:
        path: as ``filepath`` in the catalog.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    path = data_path(path, "path")
    for rows, days in ((path / "rows", path / "days"), (path, None)):
        found = None
        if (rows / "_delta_log").is_dir():
            found = Delta(rows).read() if days is None else Delta(rows).as_of(_recorded(days)).read()
        if found is not None:
            if "place" in found.column_names:
                found = found.sort_by([("month", "ascending"), ("place", "ascending")])
            return to_pandas(found, without=_ADDED)
    with local_copy(path) as file:
        return pd.read_parquet(file)


def _recorded(days: Path) -> int:
    """The newest commit of rows that the ledger of a derived table records."""
    found = Delta(days).read(["rows_version"])
    return -1 if found is None else max(found["rows_version"].to_pylist(), default=-1)


def tables_in(folder: Path | str, without: Collection[str] = ()) -> dict[str, pd.DataFrame]:
    """Every table of an environment's data by its path, raw files left out.

    Args:
        folder: the environment's data, layer by layer.
        without: names of files or folders that are left out, anywhere.
    """
    folder = data_path(folder, "folder")
    found: set[Path] = set()
    for file in folder.glob("0[2-9]_*/**/*.parquet"):
        where = file.relative_to(folder)
        # Below `_delta_log` are checkpoints, also of a table without rows.
        if any(part.startswith((".", "_")) or part in without for part in where.parts):
            continue
        # A Delta table lies right below its layer or a folder of tables, as failures are.
        parents = [parent for parent in file.parents if parent.is_relative_to(folder)][::-1][2:]
        store = next((parent for parent in parents if (parent / "_delta_log").is_dir()), None)
        found.add((store.parent if store.name in {"rows", "days"} else store) if store else file)
    return {str(path.relative_to(folder)).removesuffix(".parquet"): read_table(path) for path in sorted(found)}
