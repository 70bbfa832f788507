"""Tables of records that grow by partitions, on Delta: a rerun replaces its own partitions only."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from kedro.io import DatasetError
from kedro.utils import load_obj

from wind_kedro.datasets.parts import FolderTable, declared_columns, empty_table, why_unreadable
from wind_kedro.storage.delta import Delta, are_among, is_one_of, to_arrow, to_pandas, within
from wind_kedro.storage.paths import data_path
from wind_kedro.storage.temporary import keep_unreadable

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

#: Columns that the store adds: the month that names the folder, and the place of a row in what was saved.
_MONTH, _PLACE = "month", "place"


class History(FolderTable):
    """A table of records that grows by partitions: the rows of each value of ``partition_by``, in a Delta table by month.

    Saving replaces every partition that the table holds, in one commit; partitions it does not hold stay as they are. So a rerun
    gives the same result, and an interrupted run leaves the table as it was. Rows are loaded in the order of their partitions,
    within one as they were saved; an empty history loads as an empty table with the columns of its contract. A file that cannot
    be read is passed over and named (`passed_over`); a save that has to rewrite it keeps it beside under another name.
    """

    def __init__(self, *, partition_by: list[str], sliced: bool = False, **options: Any) -> None:
        """Set location and key of the history.

        Args:
            partition_by: columns whose values name a partition; the last is a time, a date or a text that begins with one.
            sliced: whether loading gives `Records`, of which nodes read what they need, instead of all rows; saving validates
                the rows by the contract then.
            options: of `FolderTable`.
        """
        super().__init__(**options)
        self._partition_by = partition_by
        self._sliced = sliced
        self._rows = Delta(self._filepath, [_MONTH])

    @property
    def location(self) -> Path:
        """The folder of the table."""
        return self._filepath

    @property
    def is_read_only(self) -> bool:
        """Whether saving is refused."""
        return self._read_only

    def load(self) -> pd.DataFrame | Records:
        """All rows, or `Records`; their columns may be those of several products, as these have quantile levels of their own."""
        self._begin()
        records = Records(self)
        return records if self._sliced else records.frame()

    def read(self, columns: Sequence[str] | None = None, first: Any = None, last: Any = None) -> pd.DataFrame:
        """Rows whose last column of ``partition_by`` is in [first, last]."""
        import pyarrow as pa

        where = within(self._partition_by[-1], first, last)
        wanted = None if columns is None else [*dict.fromkeys([*columns, *self._partition_by, _PLACE])]
        try:
            found = self._rows.read(wanted, where)
        except (OSError, pa.ArrowException):
            found = self._what_can_be_read(wanted, where)
        if found is None:
            return empty_table(self._contract)
        frame = to_pandas(found).sort_values([*self._partition_by, _PLACE], kind="stable", ignore_index=True)
        own = frame.drop(columns=[name for name in (_MONTH, _PLACE) if name in frame])
        return own[list(columns)] if columns else self._completed(own)

    def save(self, data: pd.DataFrame) -> None:
        """Replace the partitions that ``data`` holds; keep all others."""
        self._check_writable()
        if self._sliced:
            # Loading gives no table that a validator of the catalog could check.
            data = load_obj(self._contract).validate(data)
        unnamed = [column for column in self._partition_by if data[column].isna().any()]
        if unnamed:
            raise DatasetError(f"{self._filepath}: {', '.join(unnamed)} names the partition, but is missing in some rows")
        rows = self._as_stored(data)
        if data.empty:
            # A history without rows exists, too: its readers need not wait for its first row.
            if not self._rows.exists():
                self._rows.append(rows)
            return
        predicate = self._predicate(data)
        try:
            self._rows.replace(rows, predicate)
        except Exception:
            damaged = self._damaged()
            if not damaged:
                raise
            for path in damaged:
                if path.exists():
                    keep_unreadable(path)
            self._rows.forget_missing()
            self._rows.replace(rows, predicate)

    def maintain(self, before_month: str, keep_hours: int, retain_days: int | None = None) -> int:
        """Write each month into few files and remove those that no reader of the last hours can need.

        Args:
            before_month: such as 2015-06: the present one.
            keep_hours: hours.
            retain_days: rows of months that ended so many days ago or more are removed; None: none is.

        Returns:
            The number of files removed.
        """
        if self._read_only or not self._rows.exists():
            return 0
        if retain_days is not None:
            oldest = pd.Timestamp(f"{before_month}-01") - pd.Timedelta(days=retain_days)
            self._rows.delete(f"{_MONTH} < '{oldest:%Y-%m}'")
        self._rows.compact()
        return self._rows.vacuum(keep_hours)

    def _as_stored(self, data: pd.DataFrame) -> pa.Table:
        """The rows with month and place; a column without any value only if the contract has it, in its type."""
        declared = declared_columns(self._contract)
        empty = [name for name in data if name not in declared and data[name].isna().all()]
        data = data.drop(columns=empty)
        month = data[self._partition_by[-1]].astype("str").str[:7]
        added: dict[str, Any] = {_MONTH: month.astype("str"), _PLACE: range(len(data))}
        data = data.assign(**added)
        typeless = {str(name): declared[str(name)] for name in data if data[name].dtype == object and data[name].isna().all()}
        kinds = {name: "str" if kind is object else kind for name, kind in typeless.items()}
        return to_arrow(data.astype(kinds))

    def _predicate(self, data: pd.DataFrame) -> str:
        keys = data[self._partition_by].drop_duplicates()
        months = keys[self._partition_by[-1]].astype("str").str[:7].unique()
        return f"{is_one_of(_MONTH, months)} AND {are_among(keys)}"

    def _what_can_be_read(self, columns: Sequence[str] | None, where: Any) -> pa.Table | None:
        """The rows of the files that can be read; the others are passed over."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        damaged = self._damaged()
        for path, why in damaged.items():
            self._pass_over(path, why)
        files = [path for name in self._rows.files() if (path := data_path(name, "file")) not in damaged]
        tables = [pq.read_table(io.BytesIO(path.read_bytes()), filters=where) for path in files]
        there = [table.select([name for name in columns or table.column_names if name in table.column_names]) for table in tables]
        return pa.concat_tables(there, promote_options="default") if there else None

    def _damaged(self) -> dict[Path, str]:
        """Files of the table that are missing or cannot be read, and why."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        damaged = {}
        for path in (data_path(name, "file") for name in self._rows.files()):
            try:
                pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
            except (OSError, pa.ArrowException) as error:
                damaged[path] = why_unreadable(error)
        return damaged

    def _exists(self) -> bool:
        # A view of what earlier runs left is there even when they left nothing: the first training finds an empty history.
        return self._read_only or self._rows.exists()


@dataclass(frozen=True)
class Records:
    """The rows of a history, of which a node reads what it needs."""

    _history: History

    def frame(self, columns: Sequence[str] | None = None, *, first: Any = None, last: Any = None) -> pd.DataFrame:
        """Rows whose partition's time is in [first, last], in the order of partitions."""
        return self._history.read(columns, first, last)
