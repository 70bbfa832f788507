"""Compact the small Parquet files of a stream by hour, day and month, so that there are never more than a few hundred.

The batches of a completed hour become one folder ``landed_at=2026-01-01T10``, the hours of a completed day
``landed_at=2026-01-01``, and the days of a month ``landed_at=2026-01``; rows keep their landing time in a column ``landed_at``.
Such a folder appears by one rename and *covers* those whose names begin with its own: readers use either it or them
(`uncovered`), never both. Covered folders are removed after a day, when readers that listed them before are done.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

#: Subfolders are named as Hive partitions; colons are not safe on every file system.
PREFIX = "landed_at="
#: The file of a batch of a stream.
PART = "part.parquet"
#: Column of a row's landing time in compacted files, and the new name of a source's own column of this name.
COLUMN, FOREIGN_COLUMN = "landed_at", "source_landed_at"
#: Length of the part of a folder's name that is the period: hour, day, month.
HOUR = len(f"{PREFIX}2026-01-01T10")
PERIODS = (HOUR, len(f"{PREFIX}2026-01-01"), len(f"{PREFIX}2026-01"))
#: Rows are collected up to this number before they are written, for few and large row groups.
_ROWS = 100_000


def foreign_names(names: Iterable[str]) -> list[str]:
    """Names of a source's columns for landing, with `COLUMN` renamed."""
    return [FOREIGN_COLUMN if name.lower() == COLUMN else name for name in names]


def is_covered(name: str, names: Collection[str]) -> bool:
    """Whether the rows of a folder are in a compacted folder too; ``names`` are those of the folders beside it."""
    return any(name[:length] in names for length in PERIODS if length < len(name))


def uncovered(paths: Iterable[Path]) -> list[Path]:
    """The files of a listing without those in covered folders, so that each row is read once."""
    files = list(paths)
    folders = {folder for path in files for folder in path.parents if folder.name.startswith(PREFIX)}
    beside: dict[Path, set[str]] = defaultdict(set)
    for folder in folders:
        beside[folder.parent].add(folder.name)
    covered = {folder for folder in folders if is_covered(folder.name, beside[folder.parent])}
    return [path for path in files if covered.isdisjoint(path.parents)]


def over(names: Sequence[str], length: int) -> dict[str, list[str]]:
    """Completed periods of a ``length`` of `PERIODS` with more than one folder, by name, with their folders, oldest first.

    A period is complete once a batch landed after it. The newest folder, with the current checkpoint, is in none. ``names``
    are the sorted names of the folders that are not covered.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if len(name) > length and name[:length] != names[-1][:length]:
            found[name[:length]].append(name)
    return {period: parts for period, parts in found.items() if len(parts) > 1}


def put_together(parts: Sequence[tuple[dt.datetime, Path]], target: Path) -> int:
    """Concatenate files in order, with the landing time of each row; return the number of rows.

    A column that a file does not have is null in its rows. Raises `pyarrow.ArrowException` if a column has different types, or a
    file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    schema = pa.unify_schemas([pq.read_schema(path) for _, path in parts])
    if COLUMN not in schema.names:
        schema = schema.append(pa.field(COLUMN, pa.timestamp("us", "UTC")))
    at_column = schema.get_field_index(COLUMN)
    count, waiting = 0, list[pa.RecordBatch]()
    with pq.ParquetWriter(target, schema) as writer:

        def write() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=2 * _ROWS)
                waiting.clear()

        for at, path in parts:
            is_stamped = COLUMN in pq.read_schema(path).names
            stamp = pa.scalar(at, schema.field(at_column).type)
            for rows in ds.dataset(path, schema=schema).to_batches(batch_size=_ROWS, use_threads=False):
                stamped = rows if is_stamped else rows.set_column(at_column, COLUMN, pa.repeat(stamp, rows.num_rows))
                waiting.append(stamped)
                count += rows.num_rows
                if sum(one.num_rows for one in waiting) >= _ROWS:
                    write()
        write()
    return count
