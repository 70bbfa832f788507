"""Many small Parquet files of a stream put together by hour, day and month, so that there are never more than some hundreds.

What landed in an hour that is over becomes one folder, ``landed_at=2026-01-01T10``, the hours of a day that is over another,
``landed_at=2026-01-01``, and its days ``landed_at=2026-01``; rows keep the time when they landed in a column ``landed_at``. Such
a folder appears in one rename and *covers* those whose names begin with its own: whoever lists the folders reads either them or
it (`uncovered`), never both. The covered ones stay for a day, for readers that listed them before, and are removed then.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: Subfolders are named as Hive partitions are, which every engine reads; colons are not safe on every file system.
PREFIX = "landed_at="
#: The one file of a batch of a stream.
PART = "part.parquet"
#: The column of a row's own landing, in files that hold several.
COLUMN = "landed_at"
#: How much of a folder's name says the period: an hour, a day, a month.
HOUR = len(f"{PREFIX}2026-01-01T10")
PERIODS = (HOUR, len(f"{PREFIX}2026-01-01"), len(f"{PREFIX}2026-01"))
#: Rows are gathered to so many before they are written: a reader wants few and large row groups.
_ROWS = 100_000


#: What a column of a source's own is called if its name is that of `COLUMN`: it must not date the rows.
FOREIGN_COLUMN = "source_landed_at"


class NotOneTableError(Exception):
    """Files that cannot be put together: their columns contradict each other, or one is broken."""


def foreign_names(names: Iterable[str]) -> list[str]:
    """The names of a source's columns, as they land: none is that of the column that this project adds."""
    return [FOREIGN_COLUMN if name.lower() == COLUMN else name for name in names]


def is_covered(name: str, names: Collection[str]) -> bool:
    """Whether what is in a folder is in another one too.

    Args:
        name: of the folder.
        names: of the folders beside it.
    """
    return any(period in names for period in periods_of(name))


def is_period(name: str) -> bool:
    """Whether a folder is one of batches that were put together."""
    return len(name) in PERIODS


def periods_of(name: str) -> list[str]:
    """The folders that may cover one."""
    return [name[:length] for length in PERIODS if length < len(name)]


def uncovered(paths: Iterable[Path]) -> list[Path]:
    """The files of a listing, each row of theirs once: without those in folders that another folder of the listing covers."""
    files = list(paths)
    folders = {folder for path in files for folder in path.parents if folder.name.startswith(PREFIX)}
    beside: dict[Path, set[str]] = {}
    for folder in folders:
        beside.setdefault(folder.parent, set()).add(folder.name)
    covered = {folder for folder in folders if is_covered(folder.name, beside[folder.parent])}
    return [path for path in files if covered.isdisjoint(path.parents)]


def over(names: Sequence[str], length: int) -> dict[str, list[str]]:
    """The periods that are over and hold more than one folder, by name: the folders in them, oldest first.

    A period is over when something landed after it. The newest folder, with the checkpoint that is gone on from, is in none.

    Args:
        names: of the folders that nothing covers, sorted.
        length: of the periods' names, one of `PERIODS`.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if len(name) > length and name[:length] != names[-1][:length]:
            found.setdefault(name[:length], []).append(name)
    return {period: parts for period, parts in found.items() if len(parts) > 1}


def put_together(parts: Sequence[tuple[dt.datetime, Path]], target: Path) -> int:
    """Write the rows of several files as one, in their order, each with the time when it landed; returns how many.

    A column that is not in all files is empty in the rows of the others.

    Args:
        parts: when each landed, and the file.
        target: to be written.

    Raises:
        NotOneTableError: if a column is of one type here and of another there, or a file cannot be read.
    """
    import pyarrow as pa

    try:
        return _write(parts, target)
    except pa.ArrowException as error:
        raise NotOneTableError(str(error)) from None


def _write(parts: Sequence[tuple[dt.datetime, Path]], target: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.unify_schemas([pq.read_schema(path) for _, path in parts])
    if COLUMN not in schema.names:
        schema = schema.append(pa.field(COLUMN, pa.timestamp("us", "UTC")))
    count = 0
    with pq.ParquetWriter(target, schema) as writer:
        waiting: list[pa.RecordBatch] = []
        for at, path in parts:
            with pq.ParquetFile(path) as file:
                for rows in file.iter_batches(_ROWS):
                    waiting.append(_complete(rows, at, schema))
                    count += rows.num_rows
                    if sum(one.num_rows for one in waiting) >= _ROWS:
                        writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=2 * _ROWS)
                        waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=2 * _ROWS)
    return count


def _complete(rows: pa.RecordBatch, at: dt.datetime, schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = []
    for column in schema:
        if column.name in rows.schema.names:
            columns.append(rows.column(column.name).cast(column.type))
        elif column.name == COLUMN:
            columns.append(pa.repeat(pa.scalar(at, pa.timestamp("us", "UTC")), rows.num_rows).cast(column.type))
        else:
            columns.append(pa.nulls(rows.num_rows, column.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
