"""The raw files of all farms as one table, whatever their names, separators and encodings: what the cards say, nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._utils import ConnectionMixin

from wind_kedro.cards import Farm, WeatherSource
from wind_kedro.storage.paths import local_path
from wind_kedro.storage.temporary import Scratch

from .connections import connect
from .grids import read_grids
from .source_files import SourceError, files_of, open_file, text
from .source_rows import chooser, fault_row, nothing, selects

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

__all__ = ["SourceError", "SourceTable"]


class SourceTable(ConnectionMixin, AbstractDataset[Any, "ir.Table"]):
    """Read-only: the files that the farms' cards name, as one Ibis table of text.

    One row per row of a file (row 1 is the first after the header), its columns named as in the house; what a card does
    not map is null. Of a wide file it is one row per turbine and row, of a long one per turbine, stamp and arrival. Stamps are
    brought to ISO 8601 and numbers to a decimal point by the card; else nothing is parsed, and no row is dropped:

    - a row with too few or too many values keeps its number and says so in ``fault``, with the line as it came;
    - a source that cannot be read at all is *one* row, number 0, whose ``fault`` says why, and the other farms go on.

    Only if no source can be read does loading fail, with a `SourceError` of one line each.

    Every file is read through once before it is used: DuckDB neither checks the checksum of a compressed file nor says
    before a query runs that a file breaks off in the middle.

    Args:
        kind: ``signals`` or ``weather``.
        root: folder that the cards' paths start from.
        farms: farm cards, as they stand in ``farms.yml``.
        connection: the Ibis backend, as for ``kedro_datasets.ibis``; the same settings share one connection.
        grids: folder that keeps what was read of weather grids, so that a file is read once; without it, for this load only.
        metadata: for plugins.
    """

    # The group of kedro_datasets.ibis: equal settings give the same connection, so tables of both can be joined.
    _CONNECTION_GROUP = "ibis"

    def __init__(
        self,
        *,
        kind: Literal["signals", "weather"],
        root: str,
        farms: Sequence[Mapping[str, Any]],
        connection: Mapping[str, Any] | None = None,
        grids: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if kind not in {"signals", "weather"}:
            raise DatasetError(f"kind: '{kind}' is neither signals nor weather")
        self._kind = kind
        self._root = local_path(root, "root")
        self._farms = farms
        self._grids = None if grids is None else local_path(grids, "grids")
        self._connection_config = dict(connection or {"backend": "duckdb", "database": ":memory:"})
        self.metadata = metadata

    def _connect(self) -> Any:
        return connect(self._connection_config)

    def load(self) -> ir.Table:
        """Read the sources; see the class."""
        if self._connection.name == "duckdb":
            return self._read(self._connection)
        return self._handed_over()

    def _handed_over(self) -> ir.Table:
        """What DuckDB reads, for another engine: by way of a Parquet file, which goes with the table that reads it."""
        import ibis

        reader = ibis.duckdb.connect()
        folder = Scratch("raw")
        path = Path(folder.name) / f"{self._kind}.parquet"
        reader.to_parquet(self._read(reader), path)
        reader.disconnect()
        table = self._connection.read_parquet(str(path))
        # Tables are lazy: the file must be there as long as this dataset, which lives as long as its run's catalog.
        self._aside = folder
        return table

    def _read(self, backend: Backend) -> ir.Table:
        rows: list[str] = []
        faults: list[str] = []
        on_grids: list[tuple[Farm, WeatherSource]] = []
        for farm in (Farm.model_validate(card) for card in self._farms):
            for source in [farm.signals] if self._kind == "signals" else farm.weather:
                if isinstance(source, WeatherSource) and source.is_grid:
                    on_grids.append((farm, source))
                    continue
                opened = []
                for path in files_of(self._root, source) or [self._root / source.path]:
                    where = f"farm '{farm.id}', {path}"
                    try:
                        opened.append(open_file(backend, source, path, chooser(farm, source, path, where), where))
                    except SourceError as error:
                        faults.append(str(error))
                        rows.append(fault_row(farm, source, path, self._root, str(error)))
                rows += selects(farm, source, opened, self._root)
        if on_grids:
            tables, unserved = read_grids(on_grids, self._root, self._grid_folder())
            paths = ", ".join(text(str(path)) for path in tables)
            rows += [f"SELECT * FROM read_parquet([{paths}])"] if tables else []  # noqa: S608 - paths are quoted by text
            faults += [fault.message for fault in unserved]
            rows += [fault_row(fault.farm, fault.source, fault.path, self._root, fault.message) for fault in unserved]
        if not rows:  # farms that are only looked at have no weather
            return backend.table(nothing(backend, self._kind))
        if len(faults) == len(rows):
            raise SourceError("\n".join(faults))
        view = f"wind_kedro_{self._kind}_raw"
        # By name: layouts write their columns in an order of their own.
        backend.con.sql(f"CREATE OR REPLACE TEMP VIEW {view} AS {' UNION ALL BY NAME '.join(rows)}")
        return backend.table(view)

    def _grid_folder(self) -> Path:
        if self._grids is not None:
            return self._grids
        # As with the hand-over above, the files must be there as long as the table that reads them.
        self._aside = Scratch("grids")
        return Path(self._aside.name)

    def save(self, data: Any) -> NoReturn:
        """Raw files are never written."""
        raise DatasetError("a SourceTable is read-only: raw files are never written")

    def _exists(self) -> bool:
        # Which files are missing is said by loading, farm by farm; a plain 'not there' would say less.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._kind, "root": str(self._root), "farms": [card.get("id") for card in self._farms]}
