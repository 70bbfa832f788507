"""Dataset of the raw files of all farms as one table, read by their cards."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import pandas as pd
from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._utils import ConnectionMixin

from wind_kedro.cards import Farm, SignalSource, WeatherSource
from wind_kedro.datasets.connections import connect, literals
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers.grids import read_grids
from wind_kedro.readers.source_files import Opened, Reading, SourceError, files_of, is_typed, one_line, open_file, text
from wind_kedro.readers.source_rows import AnySource, chooser, columns_of, fault_row, no_rows, selects, shown_of
from wind_kedro.storage.fingerprints import number_of
from wind_kedro.storage.paths import data_path, make_folder
from wind_kedro.storage.temporary import Scratch, folder_aside, written_aside

if TYPE_CHECKING:
    import duckdb
    import ibis.expr.types as ir

__all__ = ["SourceError", "SourceRows", "SourceTable", "rows_of"]

#: Version of the reading: increase it if the result for the same file and card changes.
VERSION = 2
_RECORD = "wind_kedro"
#: Most rows of one turbine and stamp, or of one weather run and time: revisions and repetitions are compared in memory.
MAX_REPEATS = 100_000
#: Folders of datasets without `kept`, which last until the process ends: lazy tables may outlive their dataset.
_SCRATCHES: list[Scratch] = []


@dataclass(frozen=True)
class SourceRows:
    """The rows of sources, read by unit: a raw file, or the files of a long layout.

    Attributes:
        units: one row per farm and unit (a gridded file is a unit of several farms): ``farm_id``, ``unit`` (its name, which
            stays when its content changes), ``fingerprint`` (of content and card; of a fault that keeps it from being read,
            its message) and ``rows`` without those numbered 0.
    """

    units: pd.DataFrame
    _kind: Literal["signals", "weather"]
    _paths: Mapping[str, Path]
    _typed: frozenset[str]
    _backend: Any

    def table(self, units: pd.DataFrame | None = None) -> ir.Table:
        """Rows of some units as a lazy table: the columns of the raw contract, as text, and ``unit``.

        Args:
            units: columns ``farm_id`` and ``unit``, rows of ``self.units``; without it all.
        """
        parts = [_as_text(part) for part in self.tables(units)]
        return parts[0].union(*parts[1:]) if len(parts) > 1 else parts[0]

    def tables(self, units: pd.DataFrame | None = None) -> list[ir.Table]:
        """`table` in parts: units of text, and units whose times (UTC without zone) and numbers are so typed.

        Args:
            units: as for `table`.
        """
        import ibis

        asked = self.units if units is None else units[["farm_id", "unit"]].drop_duplicates()
        names = asked["unit"].unique()
        parts = []
        for own in ([name for name in names if name not in self._typed], [name for name in names if name in self._typed]):
            if own:
                paths = literals(self._backend.con, [self._paths[name] for name in own])
                # Files are matched by the names of their columns, which are the same; the rest of a file's name is its state.
                rows = self._backend.read_parquet(paths, filename=True)
                unit = rows.filename.re_extract(r"([^/\\]+?)(-[0-9a-f]+)?\.parquet$", 1)
                parts.append(rows.select(*columns_of(self._kind), unit=unit))
        if not parts:
            view = f"wind_kedro_no_{self._kind}"
            self._backend.raw_sql(f"CREATE OR REPLACE TEMP VIEW {view} AS {no_rows(self._kind)}")
            return [self._backend.table(view).mutate(unit=ibis.null("string"))]
        if len(asked) < self.units["unit"].isin(names).sum():  # a unit of other farms too
            pairs = ibis.memtable(asked[["farm_id", "unit"]].reset_index(drop=True))
            parts = [part.semi_join(pairs, ["farm_id", "unit"]) for part in parts]
        return parts

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns of `table`."""
        return (*columns_of(self._kind), "unit")


def _as_text(rows: ir.Table) -> ir.Table:
    columns = rows.schema()
    times = {name: rows[name].strftime("%Y-%m-%dT%H:%M:%S.%f") + "+00:00" for name in columns if columns[name].is_timestamp()}
    numbers = {name: rows[name].cast("string") for name in columns if columns[name].is_floating()}
    return rows.mutate(**times, **numbers)


def rows_of(raw: SourceRows | ir.Table) -> ir.Table:
    """`SourceRows.table`, or a table in memory as it is."""
    return raw.table() if isinstance(raw, SourceRows) else raw


class SourceTable(ConnectionMixin, AbstractDataset[NoReturn, SourceRows]):
    """Read-only: the files of the farms' cards as tables of text.

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
        self._root = data_path(root, "root")
        self._farms = farms
        self._kept = None if kept is None else data_path(kept, "kept")
        self._found: _Files | None = None
        self._connection_config = dict(connection or {"backend": "duckdb", "database": ":memory:"})
        self.metadata = metadata

    def _connect(self) -> Any:
        return connect(self._connection_config)

    def load(self) -> SourceRows:
        """Read the sources; see the class."""
        if self._found is None:
            self._found = self._files()
        return SourceRows(self._found.units, self._kind, self._found.paths, self._found.typed, self._connection)

    def _files(self) -> _Files:
        """Units of all sources and their Parquet files, read now or before; a `SourceError` if no source can be read."""
        import duckdb

        if self._kept is None:
            _SCRATCHES.append(Scratch("raw"))
            self._kept = Path(_SCRATCHES[-1].name)
        kept = self._kept / self._kind
        make_folder(kept)
        found: list[tuple[str, Path, int, int]] = []  # farm, file, fingerprint and rows
        typed: set[Path] = set()
        faults: list[str] = []
        on_grids: list[tuple[Farm, WeatherSource]] = []
        readable = False
        engine = duckdb.connect()  # a separate connection, which a bad file cannot affect beyond this call
        for farm in (Farm.model_validate(card) for card in self._farms):
            for source in [farm.signals] if self._kind == "signals" else farm.weather:
                if isinstance(source, WeatherSource) and source.is_grid:
                    on_grids.append((farm, source))
                    continue
                names = [turbine.name_in_data for turbine in farm.turbines]
                optional = [turbine.name_in_data for turbine in farm.turbines if turbine.dated]
                card = [source.model_dump(mode="json", exclude={"valid_from", "valid_until"}), names, *optional]
                paths = files_of(self._root, source) or [self._root / source.path]
                together = isinstance(source, SignalSource) and source.layout == "long"
                for files in [paths] if together else [[path] for path in paths]:
                    unit = _Unit(farm, source, files, self._root, card)
                    target, record, rows = unit.kept_in(kept, engine)
                    found.append((farm.id, target, unit.fingerprint(record), rows))
                    typed |= {target} if record["typed"] else set()
                    faults += record["faults"]
                    readable = readable or len(record["faults"]) < len(files)
        if on_grids:
            tables, unserved = read_grids(on_grids, self._root, kept)
            for table in tables:
                found += [(farm_id, table.path, number_of(table.states[farm_id]), rows) for farm_id, rows in table.rows.items()]
            typed |= {table.path for table in tables}
            readable = readable or bool(tables)
            lines = [fault_row(fault.farm, fault.source, fault.path, self._root, fault.message) for fault in unserved]
            if lines:
                target = kept / "unserved.parquet"
                _write(engine, lines, self._kind, target, {})
                by_farm = pd.Series([fault.message for fault in unserved], index=[fault.farm.id for fault in unserved])
                found += [(str(farm_id), target, number_of(own.tolist()), 0) for farm_id, own in by_farm.groupby(level=0)]
                faults += by_farm.tolist()
        by_unit = {_unit_of(path): path for _, path, _, _ in found}
        for old in set(kept.glob("[!.]*.parquet")) - set(by_unit.values()):
            old.unlink(missing_ok=True)
        if faults and not readable:
            raise SourceError("\n".join(faults))
        return _Files(_units(found), by_unit, frozenset(map(_unit_of, typed)))

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
class _Files:
    """Units, the Parquet file of each, and those whose file is typed."""

    units: pd.DataFrame
    paths: dict[str, Path]
    typed: frozenset[str]


def _unit_of(path: Path) -> str:
    return path.stem.partition("-")[0]


def _units(found: Sequence[tuple[str, Path, int, int]]) -> pd.DataFrame:
    types: dict[str, Any] = {"farm_id": "str", "unit": "str", "fingerprint": np.uint64, "rows": "int64"}
    rows = [(farm_id, _unit_of(path), fingerprint, count) for farm_id, path, fingerprint, count in found]
    return pd.DataFrame(rows, columns=list(types)).astype(types)


@dataclass(frozen=True)
class _Unit:
    """Files of one source that are read in one step."""

    farm: Farm
    source: AnySource
    files: Sequence[Path]
    root: Path
    card: Sequence[Any]  # what the reading depends on beside the files

    def fingerprint(self, record: Mapping[str, Any]) -> int:
        """A number of what the rows depend on: the files' names and contents, their faults, and the card."""
        return number_of([VERSION, self._names, list(record["files"]), record["faults"], self.card])

    @property
    def _names(self) -> list[str]:
        return [shown_of(self.farm, self.source, path, self.root) for path in self.files]

    def kept_in(self, kept: Path, engine: duckdb.DuckDBPyConnection) -> tuple[Path, dict[str, Any], int]:
        """Return the Parquet file, its record and its number of rows without those numbered 0.

        The files are read unless it is up to date with them and their card.
        """
        names = self._names
        asked = [self.farm.id, *names] if len(self.files) == 1 else [self.farm.id, self.source.path]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        stats = [path.stat() if path.is_file() else None for path in self.files]
        states = [stat and [stat.st_size, stat.st_mtime_ns] for stat in stats]
        state = json.dumps([VERSION, names, states, *self.card])
        target = kept / f"{key}-{hashlib.sha256(state.encode()).hexdigest()[:16]}.parquet"
        known = _record(target)
        if known is None or known[0]["faults"]:  # the cause may be outside the file
            before = [found[0] for found in map(_record, kept.glob(f"{key}-*.parquet")) if found is not None]
            self._read(target, before, engine)
            known = _record(target)
            assert known is not None  # noqa: S101 - it was just written
        record, rows = known
        return target, record, rows - len(record["faults"])

    def _read(self, target: Path, before: Sequence[Mapping[str, Any]], engine: duckdb.DuckDBPyConnection) -> None:
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
            record["typed"] = any(file.typed for file in opened)  # weather, of one file
            _write(engine, [*rows, *selects(self.farm, self.source, opened, self.root)], kind, target, record)

        with folder_aside(target) as folder:
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


def _repeated(engine: duckdb.DuckDBPyConnection, kind: str, target: Path) -> str:
    """The fault if one time has more rows than can be compared in memory, else empty."""
    key = "turbine_id, timestamp" if kind == "signals" else "run_at, valid_at"
    stamp = key.partition(", ")[2]
    is_time = f"{stamp} IS NOT NULL" if is_typed(target) else f"regexp_matches({stamp}, '^\\d{{4}}-')"
    found = engine.execute(
        f"SELECT {stamp}, count(*) AS times FROM read_parquet({text(literals(engine, [target])[0])}) "  # noqa: S608 - quoted by text
        f"WHERE fault IS NULL AND {is_time} GROUP BY {key} HAVING times > {MAX_REPEATS} LIMIT 1"
    ).fetchone()
    if found is None:
        return ""
    return f"{found[1]:,} rows are of the same time ({found[0]}), at most {MAX_REPEATS:,} are compared; remove the repetitions"


def _record(path: Path) -> tuple[dict[str, Any], int] | None:
    """Metadata record of a Parquet file and its number of rows; none if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            metadata = pq.read_metadata(file)
        return json.loads(metadata.metadata[_RECORD.encode()]), int(metadata.num_rows)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _write(engine: duckdb.DuckDBPyConnection, rows: Sequence[str], kind: str, target: Path, record: Mapping[str, Any]) -> None:
    """Write the results of SELECT statements to one Parquet file."""
    every = " UNION ALL BY NAME ".join([no_rows(kind, typed=record.get("typed", False)), *rows])
    with written_aside(target) as neighbour:
        engine.execute(
            f"COPY ({every}) TO {text(str(neighbour))} (FORMAT parquet, COMPRESSION zstd, "
            f"KV_METADATA {{{_RECORD}: {text(json.dumps(record))}}})"
        )
