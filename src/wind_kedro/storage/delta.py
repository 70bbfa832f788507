"""Delta tables: append, replace by predicate, read the files that matter. The only module that writes them.

A commit of a Delta table is atomic: a reader sees the table before or after it, and a killed writer leaves files that no
version names (`vacuum` removes them). Nothing is atomic across tables.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wind_kedro.storage.paths import store_options

if TYPE_CHECKING:
    import deltalake
    import pandas as pd
    import pyarrow as pa


#: Rows of a group of a Parquet file. Readers skip whole groups by their statistics: of rows ordered by day, other days.
_GROUP_ROWS = 32_768


class Delta:
    """A Delta table that exists from its first write on.

    Args:
        location: folder, or address in an object store.
        partition_by: columns whose values name folders.
        storage: options of the object store, as ``deltalake`` takes them; without it `paths.store_options`.
        at: the commit as of which the table is read; without it the newest.
    """

    def __init__(
        self,
        location: str | Path,
        partition_by: Sequence[str] = (),
        storage: Mapping[str, str] | None = None,
        at: int | None = None,
    ) -> None:
        self.location = str(location)
        self._at = at
        self._partition_by = list(partition_by)
        self._storage = dict(storage or (store_options() if self.location.startswith("s3://") else {})) or None
        self._opened: deltalake.DeltaTable | None = None

    def as_of(self, version: int) -> Delta:
        """The table as a commit left it, for reading; -1: before the first."""
        return Delta(self.location, self._partition_by, self._storage, at=version)

    def roll_back(self, version: int) -> None:
        """Undo all commits after ``version``, in one commit; -1: remove all rows."""
        table = self._table()
        if table is not None and version < 0:
            table.delete()
        elif table is not None and table.version() > version:
            table.restore(version)

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._table() is not None

    def version(self) -> int:
        """Number of the newest commit, from 0; -1 before the first."""
        table = self._table()
        return -1 if table is None else int(table.version())

    def files(self, predicate: str | None = None) -> list[str]:
        """Paths of the files in which ``predicate`` (SQL) may hold, by partitions and statistics."""
        table = self._table()
        if table is None:
            return []
        return sorted(path.removeprefix("file://") for path in table.file_uris(file_pruning_predicate=predicate))

    def read(self, columns: Sequence[str] | None = None, where: Any = None) -> pa.Table | None:
        """Rows for which the expression of ``pyarrow.dataset`` holds; None before the first write."""
        table = self._table()
        if table is None:
            return None
        return table.to_pyarrow_dataset().to_table(columns=list(columns) if columns else None, filter=where)

    def nothing(self) -> pa.Table:
        """A table of the same columns without rows; the table has to exist."""
        import pyarrow as pa

        table = self._table()
        if table is None:
            raise FileNotFoundError(f"{self.location} was never written")
        return pa.schema(table.schema().to_arrow()).empty_table()

    def head(self, count: int) -> pa.Table | None:
        """Some rows, at most ``count``; None before the first write."""
        table = self._table()
        return None if table is None else table.to_pyarrow_dataset().head(count)

    def append(self, rows: pa.Table) -> None:
        """Add rows."""
        self._write(rows, mode="append")

    def replace(self, rows: pa.Table, predicate: str) -> None:
        """Replace the rows for which ``predicate`` (SQL) holds by ``rows``, for all of which it holds, in one commit."""
        if self._table() is None:
            self._write(rows, mode="append")
        else:
            self._write(rows, mode="overwrite", predicate=predicate)

    def forget_missing(self) -> None:
        """Commit that files which are not there any more are no part of the table."""
        table = self._table()
        if table is not None:
            table.repair()

    def overwrite(self, rows: pa.Table) -> None:
        """Replace all rows in one commit."""
        self._write(rows, mode="overwrite")

    def compact(self, partitions: Sequence[tuple[str, str, Any]] = ()) -> None:
        """Write the rows of each partition into few files; the rows stay the same."""
        import pyarrow as pa

        table = self._table()
        if table is not None:
            writer = _writer(pa.schema(table.schema()))
            table.optimize.compact(partition_filters=list(partitions) or None, writer_properties=writer)

    def vacuum(self, keep_hours: int) -> int:
        """Remove files that no version of the last hours names, and old entries of the log; the number of files."""
        table = self._table()
        if table is None:
            return 0
        removed = table.vacuum(keep_hours, dry_run=False, enforce_retention_duration=False)
        table.create_checkpoint()
        table.cleanup_metadata()
        return len(removed)

    def delete(self, predicate: str) -> None:
        """Remove the rows for which ``predicate`` (SQL) holds."""
        table = self._table()
        if table is not None:
            table.delete(predicate)

    def _write(self, rows: pa.Table, **how: Any) -> None:
        from deltalake import write_deltalake

        table = self._table()
        # A column that is new since the table was begun is added to it.
        write_deltalake(
            self.location if table is None else table,
            rows,
            partition_by=self._partition_by or None,
            storage_options=self._storage,
            schema_mode="merge",
            writer_properties=_writer(rows.schema),
            **how,
        )

    def _table(self) -> deltalake.DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if self._at is not None and self._at < 0:
            return None
        if self._opened is None:
            try:
                self._opened = DeltaTable(self.location, self._at, storage_options=self._storage)
            except TableNotFoundError:
                return None
        elif self._at is None:
            self._opened.update_incremental()
        return self._opened


def _writer(schema: pa.Schema) -> deltalake.WriterProperties:
    import pyarrow as pa
    from deltalake import ColumnProperties, WriterProperties

    # Measured values seldom repeat and no predicate is of them: dictionaries and statistics take most of the time of a commit.
    plain = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    measured = {field.name: plain for field in schema if pa.types.is_floating(field.type)}
    return WriterProperties(compression="SNAPPY", max_row_group_size=_GROUP_ROWS, column_properties=measured)


def is_one_of(column: str, values: Iterable[Any]) -> str:
    """A predicate in SQL: the column has one of these values (texts or times)."""
    shown = sorted("'" + str(value).replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(shown)})" if shown else "false"


def are_among(keys: pd.DataFrame) -> str:
    """A predicate in SQL: the columns of ``keys`` (texts or times) have the values of one of its rows."""
    *outer, inner = keys.columns
    if not outer:
        return is_one_of(inner, keys[inner].unique())
    groups = [
        [*(is_one_of(name, [value]) for name, value in zip(outer, values, strict=True)), is_one_of(inner, own[inner])]
        for values, own in keys.drop_duplicates().groupby(outer, sort=True)
    ]
    return "(" + (" OR ".join(f"({' AND '.join(group)})" for group in groups) or "false") + ")"


def within(column: str, first: Any = None, last: Any = None) -> Any:
    """An expression of ``pyarrow.dataset``: the column is in [first, last]; None without bounds."""
    import pyarrow.dataset as ds

    if first is not None and last is not None and first > last:
        return ds.scalar(False)  # no file is opened
    value = ds.field(column)
    bounds = [] if first is None else [value >= first]
    if last is not None:
        bounds.append(value <= last)
    return all_hold(bounds)


def has_one_of(column: str, values: Iterable[Any]) -> Any:
    """An expression of ``pyarrow.dataset``: the column has one of these values."""
    import pyarrow.dataset as ds

    wanted = list(values)
    # Of no values, Arrow knows no type to compare the column with.
    return ds.field(column).isin(wanted) if wanted else ds.scalar(False)


def all_hold(expressions: Iterable[Any]) -> Any:
    """An expression of ``pyarrow.dataset``: those that are not None hold; None without any."""
    there = [expression for expression in expressions if expression is not None]
    return reduce(operator.and_, there) if there else None


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """A pandas table, without its index, as an Arrow table."""
    import pyarrow as pa

    with warnings.catch_warnings():
        # PyArrow 25 uses what pandas 3.1 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pa.Table.from_pandas(frame, preserve_index=False)


def to_pandas(table: pa.Table, without: Collection[str] = ()) -> pd.DataFrame:
    """An Arrow table as a pandas table, without some columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frame: pd.DataFrame = table.select([name for name in table.column_names if name not in without]).to_pandas()
        return frame
