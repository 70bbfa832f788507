"""The raw files of all farms as one table, whatever their names, separators and encodings: what the cards say, nothing more."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._utils import ConnectionMixin

from wind_kedro.cards import SIGNAL_UNITS, WEATHER_UNITS, Farm, SignalSource, Source, WeatherSource
from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

#: Columns of a raw table that are not in the source's own words.
ROW_COLUMNS = ("farm_id", "source_file", "source_row", "fault")
SIGNAL_COLUMNS = ("turbine_id", "timestamp", "received_at", *SIGNAL_UNITS)
WEATHER_COLUMNS = ("weather_model", "run_at", "available_at", "valid_at", *WEATHER_UNITS)

# A line is read whole and split afterwards, so the reader's own separator must be one that no file of signals has.
_NO_SEPARATOR = "\x1f"
_BLOCK_BYTES = 1 << 16


class SourceError(WindKedroError, DatasetError):
    """A source cannot be read: which farm, which file, what is wrong, what to do. One line per source."""


class SourceTable(ConnectionMixin, AbstractDataset[Any, "ir.Table"]):
    """Read-only: the files that the farms' cards name, as one Ibis table of text.

    One row per row of a file (row 1 is the first after the header), its columns named as in the house; what a card does
    not map is null. Nothing is parsed and no row is dropped:

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
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if kind not in {"signals", "weather"}:
            raise DatasetError(f"kind: '{kind}' is neither signals nor weather")
        self._kind = kind
        self._root = Path(root)
        self._farms = farms
        self._connection_config = dict(connection or {"backend": "duckdb", "database": ":memory:"})
        self.metadata = metadata

    def _connect(self) -> Any:
        import ibis

        config = dict(self._connection_config)
        return getattr(ibis, config.pop("backend")).connect(**config)

    def load(self) -> ir.Table:
        """Read the sources; see the class."""
        backend: Backend = self._connection
        if backend.name != "duckdb":
            raise DatasetError(f"raw files are read with DuckDB; '{backend.name}' is not supported")
        selects: list[str] = []
        faults: list[str] = []
        for farm in (Farm.model_validate(card) for card in self._farms):
            for source in [farm.signals] if self._kind == "signals" else farm.weather:
                for path in self._files(source) or [self._root / source.path]:
                    try:
                        selects.append(_select(backend, farm, source, path, self._root))
                    except SourceError as error:
                        faults.append(str(error))
                        selects.append(_select_fault(farm, source, path, self._root, str(error)))
        if len(faults) == len(selects):
            raise SourceError("\n".join(faults) or f"no farm has {self._kind}")
        view = f"wind_kedro_{self._kind}_raw"
        backend.con.sql(f"CREATE OR REPLACE TEMP VIEW {view} AS {' UNION ALL '.join(selects)}")
        return backend.table(view)

    def save(self, data: Any) -> NoReturn:
        """Raw files are never written."""
        raise DatasetError("a SourceTable is read-only: raw files are never written")

    def _files(self, source: Source) -> list[Path]:
        if any(character in source.path for character in "*?["):
            return sorted(path for path in self._root.glob(source.path) if path.is_file())
        return [path for path in [self._root / source.path] if path.is_file()]

    def _exists(self) -> bool:
        # Which files are missing is said by loading, farm by farm; a plain 'not there' would say less.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._kind, "root": str(self._root), "farms": [card.get("id") for card in self._farms]}


# --- one file as one SELECT ------------------------------------------------------------------------------------------


def _wanted(source: Source) -> dict[str, str | None]:
    """The house's column → the source's column, or none where the card maps nothing."""
    if isinstance(source, SignalSource):
        keys: dict[str, str | None] = {
            "turbine_id": source.turbine,
            "timestamp": source.timestamp,
            "received_at": source.received_at,
        }
        units, mapped = SIGNAL_UNITS, source.columns
    elif isinstance(source, WeatherSource):
        keys = {"run_at": source.run_at, "available_at": source.available_at, "valid_at": source.valid_at}
        units, mapped = WEATHER_UNITS, source.columns
    else:  # pragma: no cover
        raise TypeError(f"unknown source {type(source).__name__}")
    return keys | {column: mapped[column].name if column in mapped else None for column in units}


def _row_columns(farm: Farm, path: Path, root: Path, row: str, fault: str, source: Source) -> str:
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    model = f", {_text(source.model)} AS weather_model" if isinstance(source, WeatherSource) else ""
    return (
        f"{_text(farm.id)} AS farm_id, {_text(str(shown))} AS source_file, CAST({row} AS BIGINT) AS source_row, "
        f"CAST({fault} AS VARCHAR) AS fault{model}"
    )


def _select_fault(farm: Farm, source: Source, path: Path, root: Path, message: str) -> str:
    """The one row, number 0, that stands for a source that cannot be read."""
    nothing = ", ".join(f"CAST(NULL AS VARCHAR) AS {column}" for column in _wanted(source))
    return f"SELECT {_row_columns(farm, path, root, '0', _text(message), source)}, {nothing}"


def _select(backend: Backend, farm: Farm, source: Source, path: Path, root: Path) -> str:
    where = f"farm '{farm.id}', {path}"
    if not path.is_file():
        card = "the glob matches no file" if any(c in source.path for c in "*?[") else "the file is missing"
        raise SourceError(f"{where}: {card}; put it there, or correct `path` in farms.yml")
    if path.stat().st_size == 0:
        raise SourceError(f"{where}: the file is empty; fetch it again")
    if source.format == "parquet":
        return _select_parquet(backend, farm, source, path, root, where)
    return _select_csv(farm, source, path, root, where)


def _select_csv(farm: Farm, source: Source, path: Path, root: Path, where: str) -> str:
    header = _header(path, source, where)
    wanted = _wanted(source)
    _check_header(header, [name for name in wanted.values() if name is not None], source, where)
    separator = _text(source.separator)
    # Most lines have no quotes and split plainly. The pattern is RFC 4180's: a quoted value may hold the separator and
    # doubled quotes. Every match begins with a separator, so that no match is empty.
    escaped = "\\" + source.separator if not source.separator.isspace() else source.separator
    quoted = _text(f'{escaped}("(?:[^"]|"")*"|[^{escaped}]*)')
    cells = (
        f"CASE WHEN contains(line, '\"') THEN regexp_extract_all({separator} || line, {quoted}, 1) "
        f"ELSE string_split(line, {separator}) END"
    )
    values = ", ".join(
        f"CASE WHEN ragged THEN NULL ELSE {_unquoted(f'cells[{header.index(name) + 1}]')} END AS {column}"
        if name is not None
        else f"CAST(NULL AS VARCHAR) AS {column}"
        for column, name in wanted.items()
    )
    fault = f"CASE WHEN ragged THEN 'the row has ' || len(cells) || ' values where the header has {len(header)}: ' || line END"
    lines = (
        f"read_csv({_text(str(path))}, auto_detect=false, header=false, delim={_text(_NO_SEPARATOR)}, quote='', escape='', "
        f"columns={{'line': 'VARCHAR'}}, encoding={_text(source.encoding)}, compression='{_compression(path)}')"
    )
    return (  # names and literals are quoted by _name and _text
        f"SELECT {_row_columns(farm, path, root, 'source_row', fault, source)}, {values} FROM ("  # noqa: S608
        f"SELECT *, len(cells) <> {len(header)} AS ragged FROM ("
        f"SELECT line, number AS source_row, {cells} AS cells FROM ("
        # Insertion order is kept by DuckDB unless told otherwise: the number is the line's place in the file.
        f"SELECT line, row_number() OVER () - 1 AS number FROM {lines}"
        f") WHERE number > 0 AND trim(line) <> ''))"
    )


def _unquoted(cell: str) -> str:
    return f"CASE WHEN starts_with({cell}, '\"') THEN replace({cell}[2:-2], '\"\"', '\"') ELSE {cell} END"


def _select_parquet(backend: Backend, farm: Farm, source: Source, path: Path, root: Path, where: str) -> str:
    import duckdb

    wanted = _wanted(source)
    try:
        table = backend.con.sql(f"SELECT * FROM read_parquet({_text(str(path))})")  # noqa: S608
        types = dict(zip(table.columns, map(str, table.types), strict=True))
        names = [name for name in wanted.values() if name is not None]
        _check_columns(list(types), names, where)
        # Reads every value once: a page that is broken is found here, not in the middle of a pipeline.
        counts = ", ".join(f"bit_xor(hash({_name(name)}))" for name in names)
        found = backend.con.sql(f"SELECT count(*), {counts} FROM read_parquet({_text(str(path))})").fetchall()  # noqa: S608
    except duckdb.Error as error:
        raise SourceError(f"{where}: not a readable Parquet file ({_one_line(error)}); fetch it again") from None
    if found[0][0] == 0:
        raise SourceError(f"{where}: the file has columns but no rows; fetch it again")
    values = ", ".join(
        f"{_parquet_text(name, types[name])} AS {column}" if name is not None else f"CAST(NULL AS VARCHAR) AS {column}"
        for column, name in wanted.items()
    )
    return (
        f"SELECT {_row_columns(farm, path, root, 'file_row_number + 1', 'NULL', source)}, {values} "  # noqa: S608
        f"FROM read_parquet({_text(str(path))}, file_row_number=true)"
    )


def _parquet_text(name: str, kind: str) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":  # its text would depend on the session's zone
        return f"strftime({_name(name)} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f') || '+00:00'"
    return f"CAST({_name(name)} AS VARCHAR)"


# --- what can be wrong with a file -----------------------------------------------------------------------------------


def _compression(path: Path) -> str:
    return "gzip" if path.suffix == ".gz" else "none"


def _blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if _compression(path) == "gzip" else path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _header(path: Path, source: Source, where: str) -> list[str]:
    """Read the whole file once, checking checksum and encoding; return the header's column names."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if source.encoding == "utf-8" else source.encoding)()
    first: str | None = None
    begun = ""
    lines = 0
    rest = False
    try:
        for block in _blocks(path):
            text = decoder.decode(block)
            if first is None:
                begun += text
                if "\n" in begun:
                    first, _, after = begun.partition("\n")
                    rest = bool(after.strip())
            else:
                rest = rest or bool(text.strip())
            lines += text.count("\n")
        begun += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{where}: line {line} has text that is not {source.encoding}; set `encoding` in farms.yml"
        ) from None
    except UnicodeError:
        raise SourceError(f"{where}: the text is not {source.encoding}; set `encoding` in farms.yml") from None
    except EOFError:
        raise SourceError(
            f"{where}: the compressed file breaks off after line {lines} or soon after; fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{where}: not a sound gzip file ({_one_line(error)}); fetch it again") from None
    header = (begun if first is None else first).strip("\r\n")
    if not header.strip():
        raise SourceError(f"{where}: the file is empty; fetch it again")
    if not rest:
        raise SourceError(f"{where}: the file has a header but no rows; fetch it again")
    return [name.strip() for name in next(csv.reader(io.StringIO(header), delimiter=source.separator))]


def _check_header(header: list[str], names: Sequence[str], source: Source, where: str) -> None:
    if len(header) == 1 and len(set(names)) > 1:
        raise SourceError(
            f"{where}: with separator '{source.separator}' there is only one column, '{header[0]}'; set `separator` in farms.yml"
        )
    _check_columns(header, names, where)


def _check_columns(found: Sequence[str], names: Sequence[str], where: str) -> None:
    missing = sorted(set(names) - set(found))
    if missing:
        raise SourceError(
            f"{where}: no column {', '.join(missing)}; found are {', '.join(found)}; correct the card's columns in farms.yml"
        )


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _text(value: str) -> str:
    """A text literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """A column's name in SQL."""
    return '"' + value.replace('"', '""') + '"'
