"""One raw file as a relation of DuckDB: its own columns as text, its true row numbers, nothing parsed, no row dropped."""

from __future__ import annotations

import codecs
import csv
import glob
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from kedro.io.core import DatasetError

from wind_kedro.cards import LANDED_AT, Source
from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.compaction import uncovered

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# A line is read whole and split afterwards, so the reader's own separator must be one that no file of signals has.
_NO_SEPARATOR = "\x1f"
_BLOCK_BYTES = 1 << 16
#: What a lake's folder is called where its column has no value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_CONTROLS = re.compile("[\x80-\x9f]")
#: What the code pages of Windows have where Latin-1 has another character. Python's own codecs refuse the few bytes that have
#: none, which Windows itself passes through.
_CODE_PAGES = {
    page: {
        code: character
        for code in range(0x80, 0x100)
        if (character := bytes([code]).decode(page, errors="ignore")) and character != chr(code)
    }
    for page in ("cp1252", "cp1250")
}


class SourceError(WindKedroError, DatasetError):
    """A source cannot be read: which farm, which file, what is wrong, what to do. One line per source."""


@dataclass(frozen=True)
class Opened:
    """A file that was read through once and found sound.

    Attributes:
        path: the file.
        columns: names of its columns, in their order.
        relation: SQL of ``source_row`` (1 is the first line after the header), ``fault`` (null, or why the row cannot be
            split into columns) and the wanted columns as text, under their own names.
    """

    path: Path
    columns: Sequence[str]
    relation: str


#: Which columns are wanted of those that are there: raises `SourceError` if one is missing.
Choose = Callable[[Sequence[str]], Sequence[str]]
Reader = Callable[["Backend", Source, Path, Choose, str], Opened]


def open_file(backend: Backend, source: Source, path: Path, choose: Choose, where: str) -> Opened:
    """Read a file through once, by its card.

    Args:
        backend: DuckDB.
        source: the card.
        path: the file.
        choose: given the file's columns, those that are wanted.
        where: farm and file, for messages.

    Raises:
        SourceError: if it cannot be read at all; it says which key of the card to set.
    """
    if not path.is_file():
        card = "the glob matches no file" if is_glob(source.path) else "the file is missing"
        raise SourceError(f"{where}: {card}; put it there, or correct `path` in farms.yml")
    if path.stat().st_size == 0:
        raise SourceError(f"{where}: the file is empty; fetch it again")
    return READERS[source.format](backend, source, path, choose, where)


def is_glob(path: str) -> bool:
    """Whether a path stands for several files."""
    return any(character in path for character in "*?[")


def files_of(root: Path, source: Source) -> list[Path]:
    """The files of a source, in the order of their names; what is hidden or set aside (``.…``, ``_…``) is none of them."""
    if not is_glob(source.path):
        return [path for path in [root / source.path] if path.is_file()]
    # What the card names itself may begin as it likes; what a * matches may not.
    own = set(Path(source.path).parts)

    def plain(path: Path) -> bool:
        return not any(part[0] in "._" and part not in own for part in path.relative_to(root).parts)

    # Path.glob fails when a folder goes while it looks, and feeds may be landing meanwhile.
    found = (root / name for name in glob.iglob(source.path, root_dir=root, recursive=True))  # noqa: PTH207
    return sorted(uncovered(path for path in found if path.is_file() and plain(path)))


# --- CSV -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """What reading a text file through has found: its header, and whether it has bytes that are control characters in Latin-1."""

    header: str
    controls: bool


def _open_csv(backend: Backend, source: Source, path: Path, choose: Choose, where: str) -> Opened:
    found = _read_through(path, source, where)
    header = [name.strip() for name in next(csv.reader(io.StringIO(found.header), delimiter=source.separator))]
    if len(header) == 1:
        _only_one_column(header[0], choose, source, where)
    names = choose(header)
    separator = text(source.separator)
    # Most lines have no quotes and split plainly. The pattern is RFC 4180's: a quoted value may hold the separator and
    # doubled quotes. Every match begins with a separator, so that no match is empty.
    escaped = "\\" + source.separator if not source.separator.isspace() else source.separator
    quoted = text(f'{escaped}("(?:[^"]|"")*"|[^{escaped}]*)')
    cells = (
        f"CASE WHEN contains(line, '\"') THEN regexp_extract_all({separator} || line, {quoted}, 1) "
        f"ELSE string_split(line, {separator}) END"
    )
    page = _CODE_PAGES.get(source.encoding)
    if page is not None and found.controls:
        # DuckDB refuses such bytes in Latin-1, the only code page it reads by itself: the lines are decoded here.
        numbered = f"SELECT line, number - {1 + source.skip_rows} AS source_row FROM {_decoded(backend, path, page)}"  # noqa: S608
    else:
        line = (
            "line"
            if page is None
            else f"translate(line, {text(''.join(map(chr, page)))}, {text(''.join(page.values()))})"
        )
        lines = (
            f"read_csv({text(str(path))}, auto_detect=false, header=false, delim={text(_NO_SEPARATOR)}, quote='', escape='', "
            f"columns={{'line': 'VARCHAR'}}, encoding={text(source.encoding if page is None else 'latin-1')}, "
            f"compression='{_compression(path)}')"
        )
        # Insertion order is kept by DuckDB unless told otherwise: the number is the line's place in the file.
        numbered = (
            f"SELECT {line} AS line, "  # noqa: S608 - quoted by name and text
            f"row_number() OVER () - {1 + source.skip_rows} AS source_row FROM {lines}"
        )
    kept = [f"source_row > {source.units_rows}", "trim(line) <> ''"]
    if source.comment:
        kept.append(f"NOT starts_with(ltrim(line), {text(source.comment)})")
    rows = f"SELECT line, source_row, {cells} AS cells FROM ({numbered}) WHERE {' AND '.join(kept)}"  # noqa: S608
    if source.footer_rows:
        rows = (
            f"SELECT * EXCLUDE (place, filled) FROM (SELECT *, row_number() OVER (ORDER BY source_row) AS place, "  # noqa: S608
            f"count(*) OVER () AS filled FROM ({rows})) WHERE place <= filled - {source.footer_rows}"
        )
    return Opened(path, header, _split(rows, header, names, quoted=True))


def _decoded(backend: Backend, path: Path, page: Mapping[int, str]) -> str:
    """The lines of a file in a code page, each with its ``number`` from 1, as a table of DuckDB."""
    import pyarrow as pa

    lines = b"".join(_blocks(path)).decode("latin-1").translate(dict(page)).split("\n")
    numbers = pa.array(range(1, len(lines) + 1), pa.int64())
    return hold(backend, path, pa.table({"line": pa.array([line.rstrip("\r") for line in lines]), "number": numbers}))


def _only_one_column(header: str, choose: Choose, source: Source, where: str) -> None:
    try:
        choose([header])
    except SourceError:
        raise SourceError(
            f"{where}: with separator '{source.separator}' there is only one column, '{header}'; set `separator` in "
            "farms.yml, or `skip_rows` if lines stand above the header"
        ) from None


def _split(rows: str, header: Sequence[str], names: Sequence[str], *, quoted: bool) -> str:
    """Rows of ``line``, ``source_row`` and ``cells`` as columns; a row of another width is a fault, as it came."""
    values = "".join(
        f", CASE WHEN ragged THEN NULL ELSE {_unquoted(cell) if quoted else cell} END AS {name(column)}"
        for column in dict.fromkeys(names)
        for cell in [f"cells[{list(header).index(column) + 1}]"]
    )
    fault = f"'the row has ' || len(cells) || ' values where the header has {len(header)}: ' || line"
    return (
        f"SELECT source_row, CASE WHEN ragged THEN {fault} END AS fault{values} "  # noqa: S608
        f"FROM (SELECT *, len(cells) <> {len(header)} AS ragged FROM ({rows}))"
    )


def _unquoted(cell: str) -> str:
    return f"CASE WHEN starts_with({cell}, '\"') THEN replace({cell}[2:-2], '\"\"', '\"') ELSE {cell} END"


def _compression(path: Path) -> str:
    return "gzip" if path.suffix == ".gz" else "none"


def _blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if _compression(path) == "gzip" else path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _read_through(path: Path, source: Source, where: str) -> _Lines:
    """Read the whole file once, checking checksum and encoding; return its header."""
    page = _CODE_PAGES.get(source.encoding)
    codec = "latin-1" if page is not None else {"utf-8": "utf-8-sig"}.get(source.encoding, source.encoding)
    decoder = codecs.getincrementaldecoder(codec)()
    above = source.skip_rows + 1
    begun = ""
    lines = 0
    rest = controls = False
    try:
        for block in _blocks(path):
            part = decoder.decode(block)
            if begun.count("\n") < above:
                begun += part
                rest = bool("".join(begun.split("\n")[above:]).strip())
            else:
                rest = rest or bool(part.strip())
            lines += part.count("\n")
            controls = controls or _CONTROLS.search(part) is not None
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
        raise SourceError(f"{where}: not a sound gzip file ({one_line(error)}); fetch it again") from None
    if not begun.strip():
        raise SourceError(f"{where}: the file is empty; fetch it again")
    header = [*begun.split("\n"), *[""] * above][above - 1].strip("\r")
    if page is not None:
        header = header.translate(page)
    if not header.strip():
        raise SourceError(
            f"{where}: line {above}, where the header should stand, is empty; set `skip_rows` in farms.yml"
        )
    if not rest:
        raise SourceError(f"{where}: the file has a header but no rows; fetch it again")
    return _Lines(header, controls)


# --- Excel -----------------------------------------------------------------------------------------------------------


def _open_excel(backend: Backend, source: Source, path: Path, choose: Choose, where: str) -> Opened:
    """A sheet of a workbook. Typed cells become text: numbers with the card's decimal sign, times as ISO 8601."""
    import pyarrow as pa

    table = sheet_rows(path, source.sheet, source.decimal, where)
    if len(table) <= source.skip_rows:
        raise SourceError(f"{where}: the sheet ends before its header; set `skip_rows` or `sheet` in farms.yml")
    header = [cell.strip() for cell in table[source.skip_rows]]
    while header and not header[-1]:  # formatted but empty columns
        header.pop()
    names = choose(header)
    first = source.skip_rows + 1 + source.units_rows
    rows = [(number - source.skip_rows, cells) for number, cells in enumerate(table) if number >= first and any(cells)]
    if source.comment:
        rows = [row for row in rows if not row[1][0].startswith(source.comment)]
    rows = rows[: len(rows) - source.footer_rows]
    if not rows:
        raise SourceError(f"{where}: the sheet has a header but no rows; fetch it again")
    # A sheet is a rectangle: what is beyond the header must be empty, else the header is not where the card says.
    trimmed = [cells[: len(header)] if not any(cells[len(header) :]) else cells for _, cells in rows]
    held = pa.table(
        {
            "source_row": pa.array([number for number, _ in rows], pa.int64()),
            "cells": pa.array(trimmed, pa.list_(pa.string())),
            "line": pa.array([";".join(cells) for cells in trimmed], pa.string()),
        }
    )
    return Opened(path, header, _split(f"SELECT * FROM {hold(backend, path, held)}", header, names, quoted=False))  # noqa: S608


def sheet_rows(path: Path, sheet: str | None, decimal: str, where: str) -> list[list[str]]:
    """Every row of a sheet as text, an empty cell as ``''``.

    Raises:
        SourceError: if the library is missing, the file is no workbook, or it has no such sheet.
    """
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise SourceError(f"{where}: reading Excel needs the extra 'excel': pip install 'wind-kedro[excel]'") from None
    try:
        with CalamineWorkbook.from_path(path) as book:
            if sheet is not None and sheet not in book.sheet_names:
                raise SourceError(
                    f"{where}: no sheet '{sheet}'; found are {', '.join(book.sheet_names)}; set `sheet` in farms.yml"
                )
            rows = book.get_sheet_by_name(sheet or book.sheet_names[0]).to_python(skip_empty_area=False)
    except CalamineError as error:
        raise SourceError(f"{where}: not a readable workbook ({one_line(error)}); fetch it again") from None
    return [[_cell(value, decimal) for value in row] for row in rows]


def _cell(value: Any, decimal: str) -> str:
    import datetime as dt

    if isinstance(value, dt.datetime):
        # A serial date has no more than milliseconds in its digits.
        rounded = value + dt.timedelta(microseconds=500)
        return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000).isoformat(sep="T")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        shown = str(int(value)) if value.is_integer() else repr(value)
        return shown.replace(".", decimal)
    return "" if value is None else str(value)


def hold(backend: Backend, path: Path, table: Any) -> str:
    """Give an Arrow table to DuckDB under a name of its file's own; the same file again replaces it."""
    held = "wind_kedro_file_" + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    backend.con.register(held, table)
    return held


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _open_parquet(backend: Backend, source: Source, path: Path, choose: Choose, where: str) -> Opened:
    import duckdb

    def read(options: str = "") -> str:
        return f"read_parquet({text(str(path))}, hive_partitioning=false{options})"

    try:
        table = backend.con.sql(f"SELECT * FROM {read()}")  # noqa: S608
        types = dict(zip(table.columns, map(str, table.types), strict=True))
        folders = {column: value for column, value in _in_folders(path).items() if column not in types}
        names = list(dict.fromkeys(choose([*types, *folders])))
        # Reads every value once: a page that is broken is found here, not in the middle of a pipeline.
        counts = "".join(f", bit_xor(hash({name(column)}))" for column in names if column in types)
        found = backend.con.sql(f"SELECT count(*){counts} FROM {read()}").fetchall()  # noqa: S608
    except duckdb.Error as error:
        raise SourceError(f"{where}: not a readable Parquet file ({one_line(error)}); fetch it again") from None
    if found[0][0] == 0:
        raise SourceError(f"{where}: the file has columns but no rows; fetch it again")
    values = "".join(
        f", {_parquet_text(column, types[column], source) if column in types else folders[column]} AS {name(column)}"
        for column in names
    )
    return Opened(
        path,
        [*types, *folders],
        f"SELECT file_row_number + 1 AS source_row, CAST(NULL AS VARCHAR) AS fault{values} "  # noqa: S608
        f"FROM {read(', file_row_number=true')}",
    )


def _in_folders(path: Path) -> dict[str, str]:
    """The columns that the folders of a lake name (``turbine=T1``), as SQL.

    DuckDB's own reading of folders would take a feed's ``landed_at=…`` for one, and before a column of the file's own.
    """
    found = {}
    for folder in path.parent.parts:
        column, equals, value = folder.partition("=")
        if column and equals and column != LANDED_AT:
            found[column] = "CAST(NULL AS VARCHAR)" if value == _NO_VALUE else text(unquote(value))
    return found


def _parquet_text(column: str, kind: str, source: Source) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":  # its text would depend on the session's zone
        return f"strftime({name(column)} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f') || '+00:00'"
    shown = f"CAST({name(column)} AS VARCHAR)"
    if source.decimal != "." and (kind in {"FLOAT", "DOUBLE"} or kind.startswith("DECIMAL")):
        return f"replace({shown}, '.', {text(source.decimal)})"
    return shown


#: How each format is opened.
READERS: Mapping[str, Reader] = {"csv": _open_csv, "excel": _open_excel, "parquet": _open_parquet}


# --- words -----------------------------------------------------------------------------------------------------------


def check_columns(found: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise a `SourceError` that names the columns which are not there."""
    missing = sorted(set(names) - set(found))
    if missing:
        raise SourceError(
            f"{where}: no column {', '.join(missing)}; found are {', '.join(found)}; correct the card's columns in farms.yml"
        )


def one_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().splitlines()[0].rstrip(".")


def text(value: str) -> str:
    """A text literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """A column's name in SQL."""
    return '"' + value.replace('"', '""') + '"'
