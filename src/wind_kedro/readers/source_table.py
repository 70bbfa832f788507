"""Dataset of the raw files of all farms as one table, read by their cards."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._utils import ConnectionMixin

from wind_kedro.cards import Farm, SignalSource, WeatherSource
from wind_kedro.datasets.connections import connect, literal
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers.grids import read_grids
from wind_kedro.readers.source_files import Opened, Reading, SourceError, files_of, one_line, open_file, text
from wind_kedro.readers.source_rows import AnySource, chooser, fault_row, no_rows, selects, shown_of
from wind_kedro.storage.paths import local_path
from wind_kedro.storage.temporary import Scratch, neighbour_of, written_aside

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

__all__ = ["SourceError", "SourceTable"]

#: Version of the reading: increase it if the result for the same file and card changes.
VERSION = 1
_RECORD = "wind_kedro"
#: Most rows of one turbine and stamp, or of one weather run and time: revisions and repetitions are compared in memory.
MAX_REPEATS = 100_000
#: Folders of datasets without `kept`, which last until the process ends: lazy tables may outlive their dataset.
_SCRATCHES: list[Scratch] = []


class SourceTable(ConnectionMixin, AbstractDataset[Any, "ir.Table"]):
    """Read-only: the files of the farms' cards as one Ibis table of text.

    One row per row of a file (row 1 is the first after the header), in the columns of the raw contract; columns that a card
    does not map are null. A wide file has one row per turbine and row, a long one per turbine, stamp and arrival. Stamps are
    converted to ISO 8601 and numbers to a decimal point by the card; nothing else is parsed, and no row is dropped: one that
    cannot be split has the reason and its line in ``fault``, and a source that cannot be read is *one* row, number 0. Loading
    fails only if no source can be read, with a `SourceError` of one line each.

    Each file is read separately and once into a Parquet file in ``kept``, whose metadata hold the checksum of the raw file, the
    time it was first seen, and its number of rows; it is read again when it or its card changes, and as long as it cannot be
    read. The files of a long layout are combined, so all are read again when one is added. A loaded table does not change until
    the dataset is released, even if new files land.

    Args:
        kind: ``signals`` or ``weather``.
        root: folder that the cards' paths start from.
        farms: farm cards, as in ``farms.yml``.
        connection: the Ibis backend, as for ``kedro_datasets.ibis``; the same settings share one connection.
        kept: folder of the Parquet files; without it, a temporary one for this process.
        metadata: for plugins.
    """

    # As kedro_datasets.ibis: equal settings share a connection, so that tables of both can be joined.
    _CONNECTION_GROUP = "ibis"

    def __init__(
        self,
        *,
        kind: Literal["signals", "weather"],
        root: str,
        farms: Sequence[Mapping[str, Any]],
        connection: Mapping[str, Any] | None = None,
        kept: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if kind not in {"signals", "weather"}:
            raise DatasetError(f"kind: '{kind}' is neither signals nor weather")
        self._kind = kind
        self._root = local_path(root, "root")
        self._farms = farms
        self._kept = None if kept is None else local_path(kept, "kept")
        self._found: list[Path] | None = None
        self._connection_config = dict(connection or {"backend": "duckdb", "database": ":memory:"})
        self.metadata = metadata

    def _connect(self) -> Any:
        return connect(self._connection_config)

    def load(self) -> ir.Table:
        """Read the sources; see the class."""
        if self._connection.name == "duckdb":
            return self._read(self._connection)
        import ibis

        # Read with DuckDB, and pass the table to another engine through a Parquet file. Tables are lazy: it exists as long as
        # this dataset.
        self._aside = Scratch("raw")
        path = Path(self._aside.name) / f"{self._kind}.parquet"
        reader = ibis.duckdb.connect()
        reader.to_parquet(self._read(reader), path)
        reader.disconnect()
        return self._connection.read_parquet(str(path))

    def _read(self, backend: Backend) -> ir.Table:
        if self._found is None:
            self._found = self._files()
        rows = no_rows(self._kind)
        if self._found:  # farms under assessment have no weather
            paths = ", ".join(text(literal(path)) for path in self._found)
            # By name: grids have different columns.
            rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{paths}], union_by_name=true)"  # noqa: S608
        view = f"wind_kedro_{self._kind}_raw"
        backend.con.sql(f"CREATE OR REPLACE TEMP VIEW {view} AS {rows}")
        return backend.table(view)

    def _files(self) -> list[Path]:
        """Parquet files of all sources, read now or before; a `SourceError` if no source can be read."""
        import duckdb

        if self._kept is None:
            _SCRATCHES.append(Scratch("raw"))
            self._kept = Path(_SCRATCHES[-1].name)
        kept = self._kept / self._kind
        kept.mkdir(parents=True, exist_ok=True)
        found: list[Path] = []
        faults: list[str] = []
        on_grids: list[tuple[Farm, WeatherSource]] = []
        readable = False
        engine = duckdb.connect()  # a separate connection, which a bad file cannot affect beyond this call
        for farm in (Farm.model_validate(card) for card in self._farms):
            for source in [farm.signals] if self._kind == "signals" else farm.weather:
                if isinstance(source, WeatherSource) and source.is_grid:
                    on_grids.append((farm, source))
                    continue
                paths = files_of(self._root, source) or [self._root / source.path]
                together = isinstance(source, SignalSource) and source.layout == "long"
                for files in [paths] if together else [[path] for path in paths]:
                    target, record = _Unit(farm, source, files, self._root).kept_in(kept, engine)
                    found.append(target)
                    faults += record["faults"]
                    readable = readable or len(record["faults"]) < len(files)
        if on_grids:
            tables, unserved = read_grids(on_grids, self._root, kept)
            found += tables
            faults += [fault.message for fault in unserved]
            readable = readable or bool(tables)
            rows = [fault_row(fault.farm, fault.source, fault.path, self._root, fault.message) for fault in unserved]
            if rows:
                found.append(kept / "unserved.parquet")
                _write(engine, rows, self._kind, found[-1], {})
        for old in set(kept.glob("[!.]*.parquet")) - set(found):
            old.unlink(missing_ok=True)
        if faults and not readable:
            raise SourceError("\n".join(faults))
        return found

    def _release(self) -> None:
        self._found = None

    def save(self, data: Any) -> NoReturn:
        """Raw files are never written."""
        raise DatasetError("a SourceTable is read-only: raw files are never written")

    def _exists(self) -> bool:
        # Loading reports missing files by farm.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._kind, "root": str(self._root), "farms": [card.get("id") for card in self._farms]}


@dataclass(frozen=True)
class _Unit:
    """Files of one source that are read in one step."""

    farm: Farm
    source: AnySource
    files: Sequence[Path]
    root: Path

    def kept_in(self, kept: Path, engine: duckdb.DuckDBPyConnection) -> tuple[Path, dict[str, Any]]:
        """Return the Parquet file and its record; read the files unless it is up to date with them and their card."""
        names = [shown_of(self.farm, self.source, path, self.root) for path in self.files]
        asked = [self.farm.id, *names] if len(self.files) == 1 else [self.farm.id, self.source.path]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        stats = [path.stat() if path.is_file() else None for path in self.files]
        states = [stat and [stat.st_size, stat.st_mtime_ns] for stat in stats]
        turbines = [turbine.id for turbine in self.farm.turbines]
        state = json.dumps([VERSION, names, states, self.source.model_dump(mode="json"), turbines])
        target = kept / f"{key}-{hashlib.sha256(state.encode()).hexdigest()[:16]}.parquet"
        record = _record(target)
        if record is None or record["faults"]:  # the cause may be outside the file
            before = [found for found in map(_record, kept.glob(f"{key}-*.parquet")) if found is not None]
            record = self._read(target, before, engine)
        return target, record

    def _read(self, target: Path, before: Sequence[Mapping[str, Any]], engine: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        import duckdb

        seen = {sha256: file["first_seen_at"] for record in before for sha256, file in record["files"].items()}
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        kind = "signals" if isinstance(self.source, SignalSource) else "weather"
        opened: list[Opened] = []
        failed: dict[Path, str] = {}
        record: dict[str, Any] = {"files": {}, "faults": []}

        def write() -> None:
            record["faults"] = list(failed.values())
            rows = [fault_row(self.farm, self.source, path, self.root, message) for path, message in failed.items()]
            _write(engine, [*rows, *selects(self.farm, self.source, opened, self.root)], kind, target, record)

        folder = neighbour_of(target)
        folder.mkdir()
        try:
            for number, path in enumerate(self.files):
                where, part = f"farm '{self.farm.id}', {path}", folder / f"{number}.parquet"
                choose = chooser(self.farm, self.source, path, where)
                try:
                    opened.append(open_file(Reading(engine, self.source, path, choose, where, part)))
                    sha256 = file_sha256(path)
                except (SourceError, OSError) as error:
                    failed[path] = str(error)
                    continue
                record["files"][sha256] = {"first_seen_at": seen.get(sha256, now), "rows": opened[-1].rows}
            try:
                write()
                problem = _repeated(engine, kind, target)
            except duckdb.Error as error:  # not found by a reader
                problem = f"its rows cannot be read by the card ({one_line(error)})"
            if problem:
                for path in self.files:
                    failed.setdefault(path, str(SourceError(f"farm '{self.farm.id}', {path}: {problem}")))
                opened.clear()
                write()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return record


def _repeated(engine: duckdb.DuckDBPyConnection, kind: str, target: Path) -> str:
    """The fault if one time has more rows than can be compared in memory, else empty."""
    key = "turbine_id, timestamp" if kind == "signals" else "run_at, valid_at"
    stamp = key.partition(", ")[2]
    found = engine.execute(
        f"SELECT {stamp}, count(*) AS times FROM read_parquet({text(literal(target))}) "  # noqa: S608 - quoted by text
        f"WHERE fault IS NULL AND regexp_matches({stamp}, '^\\d{{4}}-') GROUP BY {key} HAVING times > {MAX_REPEATS} LIMIT 1"
    ).fetchone()
    if found is None:
        return ""
    return f"{found[1]:,} rows are of the same time ({found[0]}), at most {MAX_REPEATS:,} are compared; remove the repetitions"


def _record(path: Path) -> dict[str, Any] | None:
    """Metadata record of a Parquet file; none if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        record: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[_RECORD.encode()])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return record


def _write(engine: duckdb.DuckDBPyConnection, rows: Sequence[str], kind: str, target: Path, record: Mapping[str, Any]) -> None:
    """Write the results of SELECT statements to one Parquet file."""
    every = " UNION ALL BY NAME ".join([no_rows(kind), *rows])
    with written_aside(target) as neighbour:
        engine.execute(
            f"COPY ({every}) TO {text(str(neighbour))} (FORMAT parquet, COMPRESSION zstd, "
            f"KV_METADATA {{{_RECORD}: {text(json.dumps(record))}}})"
        )
