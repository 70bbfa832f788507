"""Rows of raw files that were read: packs, which are Parquet files of the rows of several units, and an index of the units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wind_kedro.storage.paths import make_folder
from wind_kedro.storage.temporary import written_aside

_INDEX = "index.parquet"
#: `KeptUnit.faults` of a unit of which all files were read.
NO_FAULTS = "[]"


@dataclass(frozen=True)
class KeptUnit:
    """A unit that was read, as the index has it.

    Attributes:
        unit: its name, which stays when its content changes.
        tag: column ``tag`` of its rows: the name, and the state of files and card in which it was read.
        pack: name of the Parquet file with its rows.
        size: bytes of the pack.
        typed: whether times and numbers are typed.
        rows: number of rows without those numbered 0.
        faults: JSON list of messages, why files could not be read.
        files: JSON object by checksum of a file: when it was first seen, and its number of rows.
    """

    unit: str
    tag: str
    pack: str
    size: int
    typed: bool
    rows: int
    faults: str
    files: str


class Kept:
    """The units in a folder. A pack is written once; it is removed when no unit of the index is in it.

    Args:
        folder: where packs and index are.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self.units = self._read()
        self._written = dict(self.units)
        self._sound: dict[str, int] = {}

    def has(self, unit: str, tag: str) -> bool:
        """Whether a unit was read in this state without a fault, whose cause may be outside the file."""
        known = self.units.get(unit)
        return known is not None and known.tag == tag and known.faults == NO_FAULTS and self._size(known.pack) == known.size

    def note(self, known: KeptUnit) -> None:
        """Add a unit that was read, in place of what was read of it before."""
        self.units[known.unit] = known
        self._sound[known.pack] = known.size

    def path(self, unit: str) -> Path:
        """The pack of a unit."""
        return self.folder / self.units[unit].pack

    def keep(self, units: Iterable[str], others: Iterable[Path]) -> None:
        """Write the index with these units only, and remove all files but their packs and ``others``."""
        wanted = set(units)
        self.units = {name: known for name, known in self.units.items() if name in wanted}
        if self.units != self._written:
            self._write()
        used = {self.folder / known.pack for known in self.units.values()} | {self.folder / _INDEX, *others}
        for old in set(self.folder.glob("[!.]*.parquet")) - used:
            old.unlink(missing_ok=True)

    def _size(self, pack: str) -> int:
        if pack not in self._sound:
            try:
                self._sound[pack] = (self.folder / pack).stat().st_size
            except OSError:
                self._sound[pack] = -1
        return self._sound[pack]

    def _read(self) -> dict[str, KeptUnit]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with (self.folder / _INDEX).open("rb") as file:
                rows = pq.read_table(file).to_pydict()
            units = [KeptUnit(*values) for values in zip(*(rows[name] for name in KeptUnit.__annotations__), strict=True)]
        except (OSError, pa.ArrowException, KeyError, ValueError):
            return {}  # everything is read again
        return {known.unit: known for known in units}

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types: Mapping[str, pa.DataType] = {"size": pa.int64(), "rows": pa.int64(), "typed": pa.bool_()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in KeptUnit.__annotations__])
        with written_aside(self.folder / _INDEX) as neighbour:
            pq.write_table(pa.Table.from_pylist([asdict(known) for known in self.units.values()], schema), neighbour)
        self._written = dict(self.units)
