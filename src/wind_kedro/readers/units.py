"""Read the units of raw files that are new or changed, and keep their rows; small files of the same layout in one step."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wind_kedro.cards import Farm
from wind_kedro.datasets.connections import literals
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers.kept import NO_FAULTS, Kept, KeptUnit
from wind_kedro.readers.source_files import Opened, Reading, SourceError, one_line, open_file, text
from wind_kedro.readers.source_rows import OWN, AnySource, chooser, columns_of, fault_row, no_rows, own_values, selects
from wind_kedro.storage.fingerprints import number_of
from wind_kedro.storage.temporary import folder_aside, written_aside

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

#: Version of the reading: increase it if the result for the same file and card changes.
VERSION = 3
#: Most rows of one turbine and stamp, or of one weather run and time: revisions and repetitions are compared in memory.
MAX_REPEATS = 100_000
#: So many rows are read before they are converted and written, and so many units; of a large file all rows are its own.
_ROWS_AT_ONCE, _UNITS_AT_ONCE = 1_000_000, 2_000


@dataclass(frozen=True)
class Unit:
    """Files of one source that are read together: one, or those of a long layout.

    Attributes:
        farm: the farm.
        source: the source of its card.
        files: the files.
        shown: their names in tables.
        read_by: JSON of what the reading depends on beside the files.
    """

    farm: Farm
    source: AnySource
    files: Sequence[Path]
    shown: Sequence[str]
    read_by: str

    @cached_property
    def name(self) -> str:
        """Its name, which stays when its content changes."""
        asked = [self.farm.id, *self.shown] if len(self.files) == 1 else [self.farm.id, self.source.path]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    @cached_property
    def tag(self) -> str:
        """The name, and the state of card and files."""
        stats = []
        for path in self.files:
            with suppress(OSError):
                stat = path.stat()
                stats.append([stat.st_size, stat.st_mtime_ns])
        state = json.dumps([self.read_by, list(self.shown), stats])
        return f"{self.name}-{hashlib.sha256(state.encode()).hexdigest()[:16]}"

    def fingerprint(self, checksums: Sequence[str], faults: Sequence[str]) -> int:
        """A number of what the rows depend on: the files' names and contents, their faults, and the card."""
        return number_of([list(self.shown), list(checksums), list(faults), self.read_by])


@dataclass
class _Read:
    """What was read of a unit."""

    unit: Unit
    opened: list[Opened] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.opened)

    @property
    def batch(self) -> pa.Table | None:
        """The rows of one file in memory, which may be converted together with those of others; else none."""
        return self.opened[0].batch if len(self.opened) == 1 and not self.failed else None


class UnitReader:
    """Reads units and keeps their rows.

    Args:
        kind: ``signals`` or ``weather``.
        root: folder that the cards' paths start from.
        kept: where the rows are kept.
    """

    def __init__(self, kind: Literal["signals", "weather"], root: Path, kept: Kept) -> None:
        self._kind, self._root, self._kept = kind, root, kept

    @cached_property
    def _engine(self) -> duckdb.DuckDBPyConnection:
        """A separate connection, which a bad file cannot affect beyond this dataset."""
        import duckdb

        return duckdb.connect()

    def read(self, units: Sequence[Unit]) -> None:
        """Read units and note them in the index; what cannot be read is one row per file, number 0."""
        left = iter(enumerate(units))
        while True:
            with folder_aside(self._kept.folder / "read") as folder:
                reads, rows = list[_Read](), 0
                for number, unit in left:
                    reads.append(self._open(unit, folder, number))
                    rows += reads[-1].rows
                    if rows > _ROWS_AT_ONCE or len(reads) == _UNITS_AT_ONCE:
                        break
                if not reads:
                    return
                self._convert(reads)

    def write_faults(self, rows: Sequence[Mapping[str, Any]], tag: str) -> Path:
        """Write rows of files without any other row to a file of their own."""
        target = self._kept.folder / f"{tag}.parquet"
        self._copy("SELECT * FROM faults", target, typed=False, faults=_faults(rows, self._kind, tag))
        return target

    def _open(self, unit: Unit, folder: Path, number: int) -> _Read:
        known = self._kept.units.get(unit.name)
        before = json.loads(known.files) if known else {}
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        read = _Read(unit)
        for place, path in enumerate(unit.files):
            where, part = f"farm '{unit.farm.id}', {path}", folder / f"{number}-{place}.parquet"
            try:
                choose = chooser(unit.farm, unit.source, path, where)
                opened = open_file(Reading(self._engine, unit.source, path, choose, where, part))
                sha256 = file_sha256(path)
            except (SourceError, OSError) as error:
                read.failed[path] = str(error)
                continue
            read.opened.append(opened)
            first = before.get(sha256, {}).get("first_seen_at", now)
            read.files[sha256] = {"first_seen_at": first, "rows": opened.rows}
        return read

    def _convert(self, reads: Sequence[_Read]) -> None:
        """Convert rows to the columns of the raw table, those of the same layout in one step, and write them."""
        groups: dict[Any, list[_Read]] = {}
        for number, read in enumerate(reads):
            if read.opened:
                batch = read.batch
                of_layout = (self._sql(read), str(batch.schema)) if batch is not None else number
                groups.setdefault(of_layout, []).append(read)
        for group in groups.values():
            self._convert_group(group)
        self._write_failed([read for read in reads if not read.opened])

    def _sql(self, read: _Read) -> str:
        """SQL of the rows of a unit: from ``batch_0``, ``batch_1`` … of its files, ``own_0`` … and ``faults``."""
        ready = [
            f"file_{place} AS (SELECT rows.*, own.* EXCLUDE (unit) "  # noqa: S608
            f"FROM ({_select(file, place)}) AS rows JOIN own_{place} AS own USING (unit))"
            for place, file in enumerate(read.opened)
        ]
        every = [no_rows(self._kind, typed=read.opened[0].typed)]
        every += selects(read.unit.farm, read.unit.source, read.opened, self._root)
        every += ["SELECT * FROM faults"] if read.failed else []
        return f"WITH {', '.join(ready)} {' UNION ALL BY NAME '.join(every)}"

    def _convert_group(self, reads: Sequence[_Read]) -> None:
        """Convert and write units of the same layout; if that fails, one by one, so that only a bad one fails."""
        import duckdb

        first, target = reads[0], self._target(reads)
        try:
            given = self._given(reads)
            size = self._copy(self._sql(first), target, typed=first.opened[0].typed, **given)
            problems = self._repeated(target, typed=first.opened[0].typed)
        except duckdb.Error as error:  # not found by a reader
            if len(reads) > 1:
                for read in reads:
                    self._convert_group([read])
                return
            size, problems = 0, {first.unit.tag: f"its rows cannot be read by the card ({one_line(error)})"}
        if not problems:
            counts = self._counts(target)
            for read in reads:
                self._note(read, target, size, counts.get(read.unit.tag, 0))
            return
        failed = [read for read in reads if read.unit.tag in problems]
        for read in failed:
            read.opened.clear()
            for path in read.unit.files:
                reason = f"farm '{read.unit.farm.id}', {path}: {problems[read.unit.tag]}"
                read.failed.setdefault(path, str(SourceError(reason)))
        self._write_failed(failed)
        if len(failed) < len(reads):
            self._convert_group([read for read in reads if read.opened])

    def _given(self, reads: Sequence[_Read]) -> dict[str, pa.Table]:
        """The relations that `_sql` reads, of units of the same layout: their rows end to end."""
        import pyarrow as pa

        given: dict[str, pa.Table] = {}
        if len(reads) == 1 and reads[0].failed:
            given["faults"] = _faults(self._fault_rows(reads[0]), self._kind, reads[0].unit.tag)
        for place in range(len(reads[0].opened)):
            files = [read.opened[place] for read in reads]
            batches = [file.batch for file in files if file.batch is not None]
            if batches:
                units = pa.concat_arrays(
                    [pa.repeat(pa.scalar(unit, pa.int32()), len(batch)) for unit, batch in enumerate(batches)]
                )
                given[f"batch_{place}"] = pa.concat_tables(batches).append_column("unit", units)
            own = [
                own_values(read.unit.farm, read.unit.source, file.path, self._root)
                for read, file in zip(reads, files, strict=True)
            ]
            texts = {f"own:{name}": pa.array([values[name] for values in own], pa.string()) for name in OWN}
            texts["tag"] = pa.array([read.unit.tag for read in reads], pa.string())
            given[f"own_{place}"] = pa.table({"unit": pa.array(range(len(reads)), pa.int32())} | texts)
        return given

    def _write_failed(self, reads: Sequence[_Read]) -> None:
        """Write the rows of units of which no file could be read."""
        if not reads:
            return
        import pyarrow as pa

        tables = [_faults(self._fault_rows(read), self._kind, read.unit.tag) for read in reads]
        target = self._target(reads)
        size = self._copy("SELECT * FROM faults", target, typed=False, faults=pa.concat_tables(tables))
        for read in reads:
            self._note(read, target, size, 0)

    def _target(self, reads: Sequence[_Read]) -> Path:
        tags = json.dumps([read.unit.tag for read in reads])
        return self._kept.folder / f"{hashlib.sha256(tags.encode()).hexdigest()[:16]}.parquet"

    def _fault_rows(self, read: _Read) -> list[dict[str, Any]]:
        return [fault_row(read.unit.farm, read.unit.source, path, self._root, reason) for path, reason in read.failed.items()]

    def _note(self, read: _Read, target: Path, size: int, rows: int) -> None:
        faults = json.dumps(list(read.failed.values())) if read.failed else NO_FAULTS
        typed = bool(read.opened) and read.opened[0].typed
        self._kept.note(KeptUnit(read.unit.name, read.unit.tag, target.name, size, typed, rows, faults, json.dumps(read.files)))

    def _copy(self, select: str, target: Path, *, typed: bool, **given: pa.Table) -> int:
        """Write the result of a SELECT statement, with all columns of the raw table, to a Parquet file; return its size."""
        every = f"{no_rows(self._kind, typed=typed)} UNION ALL BY NAME ({select})" if select.startswith("SELECT") else select
        for name, rows in given.items():
            self._engine.register(name, rows)
        with written_aside(target) as neighbour:
            self._engine.execute(f"COPY ({every}) TO {text(str(neighbour))} (FORMAT parquet, COMPRESSION zstd)")
            return neighbour.stat().st_size

    def _counts(self, target: Path) -> dict[str, int]:
        """Number of rows of each unit in a file, without those numbered 0."""
        [path] = literals(self._engine, [target])
        rows = f"SELECT tag, count(*) FROM read_parquet({text(path)}) WHERE source_row > 0 GROUP BY tag"  # noqa: S608 - quoted by text
        return dict(self._engine.execute(rows).fetchall())

    def _repeated(self, target: Path, *, typed: bool) -> dict[str, str]:
        """By tag, the fault of units in which one time has more rows than can be compared in memory."""
        key = "turbine_id, timestamp" if self._kind == "signals" else "run_at, valid_at, lead"
        stamp = "timestamp" if self._kind == "signals" else "coalesce(valid_at, run_at)"
        is_time = f"{stamp} IS NOT NULL" if typed else f"regexp_matches({stamp}, '^\\d{{4}}-')"
        found = self._engine.execute(
            f"SELECT tag, max({{'times': times, 'stamp': CAST(stamp AS VARCHAR)}}) FROM ("  # noqa: S608 - quoted by text
            f"SELECT tag, {stamp} AS stamp, count(*) AS times FROM read_parquet({text(literals(self._engine, [target])[0])}) "
            f"WHERE fault IS NULL AND {is_time} GROUP BY tag, {key} HAVING times > {MAX_REPEATS}) GROUP BY tag"
        ).fetchall()
        return {
            tag: f"{one['times']:,} rows are of the same time ({one['stamp']}), at most {MAX_REPEATS:,} are compared; "
            "remove the repetitions"
            for tag, one in found
        }


def _select(file: Opened, place: int) -> str:
    """`Opened.select`, reading the rows of a file among others."""
    if file.batch is None:
        return file.select
    before, batch, after = file.select.rpartition("FROM batch")
    return f"{before}{batch}_{place}{after}"


def _faults(rows: Sequence[Mapping[str, Any]], kind: str, tag: str) -> pa.Table:
    """Rows of files that could not be read, in the columns of the raw table and ``tag``."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.int64() if name == "source_row" else pa.string()) for name in [*columns_of(kind), "tag"]])
    return pa.Table.from_pylist([{**row, "tag": tag} for row in rows], schema)
