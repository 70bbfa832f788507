"""Dataset of the raw files of all farms as one table, read by their cards."""

from __future__ import annotations

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
from wind_kedro.readers.grids import read_grids
from wind_kedro.readers.kept import NO_FAULTS, Kept
from wind_kedro.readers.source_files import SourceError, files_of
from wind_kedro.readers.source_rows import columns_of, fault_row, no_rows, shown_of
from wind_kedro.readers.units import VERSION, Unit, UnitReader
from wind_kedro.storage.fingerprints import number_of
from wind_kedro.storage.paths import data_path
from wind_kedro.storage.temporary import Scratch

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["SourceError", "SourceRows", "SourceTable", "rows_of"]

#: The unit of sources on grids without values.
_UNSERVED = "unserved"
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
    _places: Mapping[str, _Place]
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
        for typed in (False, True):
            own = {name: self._places[name] for name in names if self._places[name].typed == typed}
            if own:
                # Files are matched by the names of their columns, which are the same.
                rows = self._backend.read_parquet(
                    literals(self._backend.con, dict.fromkeys(place.path for place in own.values()))
                )
                tags = ibis.memtable(pd.DataFrame({"tag": [place.tag for place in own.values()], "unit": list(own)}))
                parts.append(rows.inner_join(tags, "tag").select(*columns_of(self._kind), "unit"))
        if not parts:
            view = f"wind_kedro_no_{self._kind}"
            self._backend.raw_sql(f"CREATE OR REPLACE TEMP VIEW {view} AS {no_rows(self._kind)}")
            return [self._backend.table(view).drop("tag").mutate(unit=ibis.null("string"))]
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

    Each file is read separately and once; its rows are kept in a Parquet file of several units (`Kept`), with the checksum of the
    raw file, the time it was first seen, and its number of rows. It is read again when it or its card changes, and as long as it
    cannot be read. Small files of the same layout are converted in one step, those of a long layout are combined, so that all of
    them are read again when one is added. A loaded table does not change until
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
        return SourceRows(self._found.units, self._kind, self._found.places, self._connection)

    def _files(self) -> _Files:
        """Units of all sources and where their rows are, read now or before; a `SourceError` if no source can be read."""
        if self._kept is None:
            _SCRATCHES.append(Scratch("raw"))
            self._kept = Path(_SCRATCHES[-1].name)
        kept = Kept(self._kept / self._kind)
        units, on_grids = self._sources()
        reader = UnitReader(self._kind, self._root, kept)
        reader.read([unit for unit in units if not kept.has(unit.name, unit.tag)])
        found: list[tuple[str, str, int, int]] = []  # farm, unit, fingerprint and rows
        places: dict[str, _Place] = {}
        faults: list[str] = []
        readable = False
        for unit in units:
            known = kept.units[unit.name]
            reasons: list[str] = [] if known.faults == NO_FAULTS else json.loads(known.faults)
            found.append((unit.farm.id, unit.name, unit.fingerprint(list(json.loads(known.files)), reasons), known.rows))
            places[unit.name] = _Place(kept.path(unit.name), known.tag, known.typed)
            faults += reasons
            readable = readable or len(reasons) < len(unit.files)
        if on_grids:
            tables, unserved = read_grids(on_grids, self._root, kept.folder)
            for table in tables:
                name = table.tag.partition("-")[0]
                places[name] = _Place(table.path, table.tag, typed=True)
                found += [(farm_id, name, number_of(table.states[farm_id]), rows) for farm_id, rows in table.rows.items()]
            readable = readable or bool(tables)
            if unserved:
                rows = [fault_row(fault.farm, fault.source, fault.path, self._root, fault.message) for fault in unserved]
                places[_UNSERVED] = _Place(reader.write_faults(rows, _UNSERVED), _UNSERVED, typed=False)
                by_farm = pd.Series([fault.message for fault in unserved], index=[fault.farm.id for fault in unserved])
                found += [(str(farm_id), _UNSERVED, number_of(own.tolist()), 0) for farm_id, own in by_farm.groupby(level=0)]
                faults += by_farm.tolist()
        kept.keep([unit.name for unit in units], [place.path for place in places.values()])
        if faults and not readable:
            raise SourceError("\n".join(faults))
        types: dict[str, Any] = {"farm_id": "str", "unit": "str", "fingerprint": np.uint64, "rows": "int64"}
        return _Files(pd.DataFrame(found, columns=list(types)).astype(types), places)

    def _sources(self) -> tuple[list[Unit], list[tuple[Farm, WeatherSource]]]:
        """Units of all farms, and sources on grids."""
        units: list[Unit] = []
        on_grids: list[tuple[Farm, WeatherSource]] = []
        for farm in (Farm.model_validate(card) for card in self._farms):
            for source in [farm.signals] if self._kind == "signals" else farm.weather:
                if isinstance(source, WeatherSource) and source.is_grid:
                    on_grids.append((farm, source))
                    continue
                names = [turbine.name_in_data for turbine in farm.turbines]
                optional = [turbine.name_in_data for turbine in farm.turbines if turbine.dated]
                card = [source.model_dump(mode="json", exclude={"valid_from", "valid_until"}), names, *optional]
                read_by = json.dumps([VERSION, *card])
                paths = files_of(self._root, source) or [self._root / source.path]
                together = isinstance(source, SignalSource) and source.layout == "long"
                for files in [paths] if together else [[path] for path in paths]:
                    shown = [shown_of(farm, source, path, self._root) for path in files]
                    units.append(Unit(farm, source, files, shown, read_by))
        return units, on_grids

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
class _Place:
    """Where the rows of a unit are: a Parquet file, the value of ``tag`` in it, and whether times and numbers are typed."""

    path: Path
    tag: str
    typed: bool


@dataclass(frozen=True)
class _Files:
    """Units, and where the rows of each are."""

    units: pd.DataFrame
    places: dict[str, _Place]
