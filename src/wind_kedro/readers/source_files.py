"""Read one raw file as rows of text, with its own columns and row numbers; nothing is parsed, no row dropped.

Weather in Parquet whose columns are times and numbers keeps these types: to write them as text and to parse this again would cost
several times what the rest of the reading does.

Each file is read separately, so that its content can fail this file only. Rows of small files stay in memory, so that many files
are converted in one step; those of others are written to a Parquet file.
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
from kedro.io.core import DatasetError

from wind_kedro.cards import LANDED_AT, Source, WeatherSource
from wind_kedro.datasets.connections import literal
from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.compaction import uncovered
from wind_kedro.storage import object_store
from wind_kedro.storage.bounds import MalformedError, TooLargeError, blocks, check_parquet, check_workbook
from wind_kedro.storage.paths import is_in_store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BLOCK_BYTES = 1 << 22
_BATCH_ROWS = 1 << 17
#: Rows of files up to this size stay in memory.
_HELD_ROWS, _HELD_BYTES = 20_000, 1 << 23
#: Most characters of a line: ten times those of two hundred turbines with forty signals.
MAX_LINE = 1 << 20
#: Most characters of the header: the csv module's limit of a field.
MAX_HEADER = 1 << 17
#: Most columns that a message lists.
_SHOWN_COLUMNS = 40
#: Hive's folder name of a missing partition value.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
#: Windows passes the few bytes through that its code pages do not define, as Latin-1; Python's codecs refuse them.
codecs.register_error("as_latin1", lambda error: (error.object[error.start : error.end].decode("latin-1"), error.end))  # type: ignore[attr-defined]


class SourceError(WindKedroError, DatasetError):
    """A source cannot be read; one line per source with farm, file, problem and remedy."""

    def __init__(self, message: str) -> None:
        # Escape control characters: messages are shown in terminals, tables and pages.
        super().__init__("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message))


@dataclass(frozen=True)
class Opened:
    """A file that was read completely without a fault.

    Attributes:
        path: the file.
        columns: names of its columns.
        rows: number of its rows.
        typed: whether times and numbers are so typed, in UTC without zone; else all values are text.
        select: SQL that gives the rows of ``FROM batch``: ``unit``, ``source_row``, ``fault`` and the chosen columns.
        batch: the rows before ``select``, without ``unit``; none: they are in a Parquet file, which ``select`` reads.
    """

    path: Path
    columns: Sequence[str]
    rows: int
    typed: bool
    select: str
    batch: pa.Table | None


@dataclass(frozen=True)
class Content:
    """The rows of a file, as its reader gives them.

    Attributes:
        columns: names of the file's columns.
        select: as of `Opened`.
        batches: the rows, read as they are asked for.
        counted: after these, number of rows counted independently.
        typed: as of `Opened`.
    """

    columns: Sequence[str]
    select: str
    batches: Iterator[pa.Table]
    counted: Callable[[], int]
    typed: bool = False


#: Selects columns of those in a file; raises `SourceError` if one is missing.
Choose = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Reading:
    """Arguments of reading a file."""

    engine: duckdb.DuckDBPyConnection  # a separate connection
    source: Source
    path: Path
    choose: Choose
    where: str  # farm and file, for messages
    target: Path  # the Parquet file to write

    @property
    def file(self) -> Path:
        """The file, or if its name is unusual a link to it, as libraries need UTF-8; a copy from an object store."""
        if not is_in_store(self.path) and self.path.as_posix().isascii():
            return self.path
        return self.target.with_suffix(".link.gz" if self.path.suffix == ".gz" else ".link")

    def error(self, problem: str | Exception) -> SourceError:
        """The error of a problem with the file."""
        return SourceError(f"{self.where}: {str(problem).removeprefix(f'{self.file.name}: ')}")


def open_file(reading: Reading) -> Opened:
    """Read a file by its card and write its rows as text; the message of a `SourceError` names the key of the card to set."""
    path, source = reading.path, reading.source
    try:
        if not path.is_file():
            missing = "the glob matches no file" if is_glob(source.path) else "the file is missing"
            found = "it is not a regular file" if path.exists() or path.is_symlink() else missing
            raise reading.error(f"{found}; put it there, or correct `path` in farms.yml")
        if path.stat().st_size == 0:
            raise reading.error("the file is empty; fetch it again")
        if is_in_store(path):
            object_store.download(path, reading.file)
        elif reading.file != path:
            reading.file.symlink_to(path.absolute())
        content = READERS[source.format](reading)
        batch, written = _held(content, reading)
        counted = content.counted()
    except OSError as error:
        raise reading.error(f"the file cannot be read ({error.strerror or one_line(error)})") from None
    except (MalformedError, TooLargeError) as error:
        raise reading.error(error) from None
    if counted == 0:
        raise reading.error("the file has a header but no rows; fetch it again")
    if written != counted:
        raise reading.error(
            f"{written:,} rows were read of {counted:,} that were counted in it; none is used. Please report this"
        )
    select = content.select if batch is not None else f"SELECT * FROM read_parquet({text(literal(reading.target))})"  # noqa: S608
    return Opened(path, content.columns, written, content.typed, select, batch)


def _held(content: Content, reading: Reading) -> tuple[pa.Table | None, int]:
    """The rows of a file and their number; of a large one none, as they are written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held: list[pa.Table] = []
    for batch in content.batches:
        held.append(batch)
        if sum(map(len, held)) > _HELD_ROWS or sum(part.nbytes for part in held) > _HELD_BYTES:
            break
    else:
        rows = pa.concat_tables(held)
        return rows, len(rows)
    written, writer = 0, None
    try:
        for batch in itertools.chain(iter(held), content.batches):
            reading.engine.register("batch", batch.append_column("unit", pa.repeat(pa.scalar(0, pa.int32()), len(batch))))
            rows = reading.engine.sql(content.select).to_arrow_table()
            # It is read once: dictionaries would take longer to make than they save.
            writer = writer or pq.ParquetWriter(reading.target, rows.schema, compression="lz4", use_dictionary=False)
            writer.write_table(rows)
            written += rows.num_rows
    finally:
        if writer is not None:
            writer.close()
    return None, written


def is_glob(path: str) -> bool:
    """Whether a path is a glob pattern."""
    return any(character in path for character in "*?[")


def files_of(root: Path, source: Source) -> list[Path]:
    """The files of a source, sorted by name, without hidden ones (``.…``, ``_…``).

    Names that are neither files nor folders, such as broken links, are included: reading them fails with the reason.
    """
    if not is_glob(source.path):
        return [path for path in [root / source.path] if path.is_file()]
    # Hidden parts are allowed if the card names them literally.
    own = set(Path(source.path).parts)

    def plain(path: Path) -> bool:
        return not any(part[0] in "._" and part not in own for part in path.relative_to(root).parts)

    if is_in_store(root):
        return sorted(uncovered(path for path in root.glob(source.path) if path.is_file() and plain(path)))
    # Path.glob fails if a folder disappears during the search, as it may while feeds land.
    found = (root / name for name in glob.iglob(source.path, root_dir=root, recursive=True))  # noqa: PTH207
    return sorted(uncovered(path for path in found if not path.is_dir() and plain(path)))


class _Lines:
    """Lines of a text file, decoded block by block and counted in both characters and bytes.

    A line ends with LF, CR LF or CR, in any mixture; a lone CR is kept at the end of its line. A line longer than `MAX_LINE`
    characters is truncated.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.number = 0  # lines given so far
        self._ends = _LineEnds(reading.source.encoding)

    @property
    def counted(self) -> int:
        """Number of lines in the bytes read so far."""
        return self._ends.count

    def __iter__(self) -> Iterator[list[str]]:
        encoding = self._reading.source.encoding
        codec = codecs.getincrementaldecoder({"utf-8": "utf-8-sig"}.get(encoding, encoding))
        decoder = io.IncrementalNewlineDecoder(codec("as_latin1" if encoding.startswith("cp") else "strict"), translate=False)
        begun: list[str] = []  # pieces of the unfinished line of the last block
        kept = 0
        try:
            for block in itertools.chain(blocks(self._reading.file, block_bytes=_BLOCK_BYTES), [b""]):
                self._ends.add(block)
                text = decoder.decode(block, final=not block).replace("\r\n", "\n").replace("\r", "\r\n")
                first, *others = text.split("\n")
                if kept <= MAX_LINE:
                    begun.append(first[: MAX_LINE + 1 - kept])
                    kept += len(begun[-1])
                if others:
                    lines = ["".join(begun), *others[:-1]]
                    begun, kept = [others[-1][: MAX_LINE + 1]], min(len(others[-1]), MAX_LINE + 1)
                    self.number += len(lines)
                    yield lines
            if kept:
                self.number += 1
                yield ["".join(begun)]
        except UnicodeDecodeError as error:
            line = self.number + error.object[: error.start].count(b"\n") + 1
            raise self._reading.error(f"line {line} has text that is not {encoding}; set `encoding` in farms.yml") from None
        except UnicodeError:
            raise self._reading.error(f"the text is not {encoding}; set `encoding` in farms.yml") from None
        except MalformedError as error:
            what = str(error).removeprefix(f"{self._reading.file.name}: ")
            raise self._reading.error(f"after line {self.number} or soon after, {what}") from None


class _LineEnds:
    """Counts line ends in bytes, to verify the lines that `_Lines` finds in characters."""

    def __init__(self, encoding: str) -> None:
        self._unit: str | None = "<u2" if encoding == "utf-16" else None  # without a mark it is little-endian
        self._rest = self._last = b""
        self._ends = 0

    @property
    def count(self) -> int:
        return self._ends + (self._last not in {b"", b"\n", b"\r"})

    def add(self, block: bytes) -> None:
        if self._unit is not None:
            block = self._rest + block
            if not self._last and block.startswith(codecs.BOM_UTF16_BE):
                self._unit = ">u2"
            whole = len(block) - len(block) % 2
            units, self._rest = np.frombuffer(block[:whole], self._unit), block[whole:]
            block = np.minimum(units, 0xFF).astype(np.uint8).tobytes()
        self._ends += block.count(b"\n")
        if b"\r" in block or self._last == b"\r":
            self._ends += block.count(b"\r") - (self._last + block).count(b"\r\n")
        self._last = block[-1:] or self._last


def _read_csv(reading: Reading) -> Content:
    """The rows of a text file; they are counted in its bytes."""
    source = reading.source
    lines = _Lines(reading)
    batches = iter(lines)
    above = source.skip_rows + 1
    begun: list[str] = []
    while len(begun) < above and (more := next(batches, None)) is not None:
        begun += more
    header = _header(reading, begun[:above])
    names = reading.choose(header)
    split = _split(header, names, source.separator)
    number = emitted = 0
    open_line: list[tuple[int, str]] = []  # ends with a lone CR: the next line shows whether it is complete
    held: list[tuple[int, str]] = []  # possible footer

    def rows() -> Iterator[pa.Table]:
        nonlocal number, emitted, open_line, held
        for batch in itertools.chain([begun[above:]], batches, [[]]):
            numbered = _joined([*open_line, *enumerate(batch, number + 1)], source.separator, len(header) - 1)
            number += len(batch)
            open_line = [numbered.pop()] if batch and numbered and numbered[-1][1].endswith("\r") else []
            kept = [
                (row, line.removesuffix("\r"))
                for row, line in numbered
                if row > source.units_rows
                and line.strip(" \r")
                and not (source.comment and line.lstrip(" ").startswith(source.comment))
            ]
            kept = held + kept
            last = max(len(kept) - source.footer_rows, 0)
            kept, held = kept[:last], kept[last:]
            emitted += len(kept)
            yield _table([row for row, _ in kept], line=[line for _, line in kept])

    return Content(header, split, rows(), lambda: lines.counted - (above + number - emitted))


def _joined(numbered: Iterable[tuple[int, str]], separator: str, separators: int) -> list[tuple[int, str]]:
    """Join lines, which keep lone CRs at their end, at these, unless a row follows that has all its ``separators``.

    Elsewhere the CR is part of a value.
    """
    numbered, found = list(numbered), list[tuple[int, str]]()
    if all(line[-1:] != "\r" for _, line in numbered):
        return numbered
    for row, line in numbered:
        if found and found[-1][1].endswith("\r") and line.strip(" \r") and line.count(separator) != separators:
            found[-1] = (found[-1][0], found[-1][1] + line)
        else:
            found.append((row, line))
    return found


def _header(reading: Reading, begun: Sequence[str]) -> list[str]:
    """Names of the columns; ``begun`` are the lines up to the header."""
    if not any(line.strip() for line in begun):
        raise reading.error("the file is empty; fetch it again")
    above, separator = reading.source.skip_rows + 1, reading.source.separator
    header = begun[above - 1] if len(begun) == above else ""
    if not header.strip():
        raise reading.error(f"line {above}, where the header should be, is empty; set `skip_rows` in farms.yml")
    if len(header) > MAX_HEADER:
        raise reading.error(
            f"line {above}, the header, is longer than {MAX_HEADER:,} characters; set `skip_rows` in farms.yml, or fetch it again"
        )
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    if len(names) == 1:
        try:
            reading.choose(names)
        except SourceError:
            raise reading.error(
                f"with separator '{separator}' there is only one column, '{names[0][:_SHOWN_COLUMNS]}'; set `separator` in "
                "farms.yml, or `skip_rows` if lines precede the header"
            ) from None
    return names


def _split(header: Sequence[str], names: Sequence[str], separator: str | None) -> str:
    """SQL that splits rows of ``source_row`` and ``line`` into columns; a row of another width is a fault with its line.

    A line is split by RFC 4180: a quoted value may contain the separator and doubled quotes. Without a separator the rows have
    ``cells`` already.
    """
    cells, values = "cells", ""
    if separator is not None:
        # Every match begins with a separator, so that no match is empty. Lines without quotes take a faster path.
        escaped = "\\" + separator if not separator.isspace() else separator
        pattern = text(f'{escaped}("(?:[^"]|"")*"|[^{escaped}]*)')
        matches = f"regexp_extract_all({text(separator)} || line, {pattern}, 1)"
        cells = f"CASE WHEN contains(line, '\"') THEN {matches} ELSE string_split(line, {text(separator)}) END"
    for column in dict.fromkeys(names):
        cell = f"cells[{list(header).index(column) + 1}]"
        if separator is not None:
            whole = f"starts_with({cell}, '\"') AND ends_with({cell}, '\"') AND length({cell}) > 1"
            cell = f"CASE WHEN {whole} THEN replace({cell}[2:-2], '\"\"', '\"') ELSE {cell} END"
        values += f", CASE WHEN fault IS NULL THEN {cell} END AS {name(column)}"
    # Text after a closing quote is in no cell.
    torn = "contains(line, '\"') AND length(array_to_string(cells, '')) + len(cells) <= length(line)"
    fault = (
        f"CASE WHEN length(line) > {MAX_LINE} THEN 'the line is longer than {MAX_LINE:,} characters; it begins ' || line[:200] "
        f"WHEN len(cells) <> {len(header)} "
        f"THEN 'the row has ' || len(cells) || ' values where the header has {len(header)}: ' || line "
        + (f"WHEN {torn} THEN 'a quoted value has text behind its closing quote: ' || line " if separator is not None else "")
        + "END"
    )
    return (
        f"SELECT unit, source_row, fault{values} FROM "  # noqa: S608
        f"(SELECT *, {fault} AS fault FROM (SELECT unit, source_row, line, {cells} AS cells FROM batch))"
    )


def _table(numbers: Sequence[int], **columns: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    given = {
        name: pa.array(values, pa.list_(pa.string()) if name == "cells" else pa.string()) for name, values in columns.items()
    }
    return pa.table({"source_row": pa.array(numbers, pa.int64()), **given})


def _read_excel(reading: Reading) -> Content:
    """The rows of a sheet of a workbook. Typed cells become text: numbers with the card's decimal sign, times as ISO 8601."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise reading.error("reading Excel needs the extra 'excel': pip install 'wind-kedro[excel]'") from None
    source, sheet = reading.source, reading.source.sheet
    with reading.file.open("rb") as file:
        packed = file.read(2) == b"PK"  # workbooks before 2007 are not zip archives
    if packed:
        check_workbook(reading.file)
    try:
        with CalamineWorkbook.from_path(reading.file) as book:
            if not book.sheet_names or sheet not in {None, *book.sheet_names}:
                found = ", ".join(book.sheet_names) or "none"
                raise reading.error(f"no sheet '{sheet or 1}'; sheets are {found}; set `sheet` in farms.yml")
            typed = book.get_sheet_by_name(sheet or book.sheet_names[0]).to_python(skip_empty_area=False)
    except CalamineError as error:
        raise reading.error(f"not a readable workbook ({one_line(error)}); fetch it again") from None
    table = [[_cell(value, source.decimal) for value in row] for row in typed]
    if len(table) <= source.skip_rows:
        raise reading.error("the sheet ends before its header; set `skip_rows` or `sheet` in farms.yml")
    header = [cell.strip() for cell in table[source.skip_rows]]
    while header and not header[-1]:  # formatted but empty columns
        header.pop()
    names = reading.choose(header)
    first = source.skip_rows + 1 + source.units_rows
    rows = [(number - source.skip_rows, cells) for number, cells in enumerate(table) if number >= first and any(cells)]
    if source.comment:
        rows = [row for row in rows if not row[1][0].startswith(source.comment)]
    rows = rows[: len(rows) - source.footer_rows]
    # Cells beyond the header must be empty, else the header is not where the card puts it.
    trimmed = [cells[: len(header)] if not any(cells[len(header) :]) else cells for _, cells in rows]
    batch = _table([number for number, _ in rows], cells=trimmed, line=[";".join(cells) for cells in trimmed])
    return Content(header, _split(header, names, None), iter([batch]), lambda: len(rows))


def _cell(value: Any, decimal: str) -> str:
    import datetime as dt

    if isinstance(value, dt.datetime):
        # Serial dates have a resolution of milliseconds.
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


def _read_parquet(reading: Reading) -> Content:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_parquet(reading.file)

    def unreadable(error: Exception) -> SourceError:
        return reading.error(f"not a readable Parquet file ({one_line(error)}); fetch it again")

    try:
        # DuckDB does not verify the checksums of pages.
        file = pq.ParquetFile(reading.file, page_checksum_verification=True)
        found = file.schema_arrow.names
        folders = {column: value for column, value in _in_folders(reading.path).items() if column not in found}
        wanted = list(dict.fromkeys(reading.choose([*found, *folders])))
        own = [column for column in wanted if column in found] or found[:1]
        kinds = [file.schema_arrow.field(column).type for column in own]
        # Types that DuckDB cannot read: values without their dictionary, and half precision.
        kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
        kinds = [pa.float32() if pa.types.is_float16(kind) else kind for kind in kinds]
        schema = pa.schema([(f"c{at}", kind) for at, kind in enumerate(kinds)])
        types = _types_of(schema, reading.engine)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise unreadable(error) from None
    typed = _are_typed(dict(zip(own, types, strict=True)), reading.source)
    as_value = _parquet_typed if typed else _parquet_text
    given = {
        column: as_value(f"c{at}", kind, reading.source) for at, (column, kind) in enumerate(zip(own, types, strict=True))
    } | folders
    values = "".join(f", {given[column]} AS {name(column)}" for column in wanted)

    def rows() -> Iterator[pa.Table]:
        number = 1
        try:
            with file:
                for part in file.iter_batches(_BATCH_ROWS, columns=own):
                    columns = [part.column(column).cast(kind) for column, kind in zip(own, kinds, strict=True)]
                    numbers = pa.array(np.arange(number, number + part.num_rows, dtype=np.int64))
                    number += part.num_rows
                    yield pa.Table.from_arrays([*columns, numbers], [*schema.names, "source_row"])
            if number == 1:
                yield schema.append(pa.field("source_row", pa.int64())).empty_table()
        except (pa.ArrowException, OSError) as error:
            raise unreadable(error) from None

    select = f"SELECT unit, source_row, CAST(NULL AS VARCHAR) AS fault{values} FROM batch"  # noqa: S608
    declared = file.metadata.num_rows
    return Content([*found, *folders], select, rows(), lambda: declared, typed)


def _types_of(schema: pa.Schema, engine: duckdb.DuckDBPyConnection) -> list[str]:
    """The engine's types of Arrow columns; those of plain columns are known without asking it, which takes a millisecond."""
    import pyarrow as pa

    plain = {pa.float64(): "DOUBLE", pa.float32(): "FLOAT", pa.string(): "VARCHAR", pa.large_string(): "VARCHAR"}
    plain |= {pa.int64(): "BIGINT", pa.timestamp("us"): "TIMESTAMP", pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE"}
    if all(kind in plain for kind in schema.types):
        return [plain[kind] for kind in schema.types]
    engine.register("batch", schema.empty_table())
    return list(map(str, engine.sql("SELECT * FROM batch").types))


def _in_folders(path: Path) -> dict[str, str]:
    """Hive partition columns of the folders (``turbine=T1``), as SQL.

    DuckDB's own support would include a feed's ``landed_at=…``, and prefer it to a column of the file.
    """
    pairs = [folder.partition("=") for folder in path.parent.parts]
    return {
        column: "CAST(NULL AS VARCHAR)" if value == _NO_VALUE else text(unquote(value))
        for column, equals, value in pairs
        if column and equals and column != LANDED_AT
    }


def _are_typed(kinds: Mapping[str, str], source: Source) -> bool:
    """Whether a weather source's times are times and its values numbers, by the engine's types of the file's columns."""
    if not isinstance(source, WeatherSource) or source.stamp_format is not None:
        return False
    times = {source.run_at, source.valid_at, source.available_at} - {None, LANDED_AT}
    values = {column.name for column in source.columns.values()}
    lead = source.lead.name if source.lead else None
    return (
        all(kinds.get(str(column), "").startswith("TIMESTAMP") for column in times)
        and all(kinds.get(column, "") in {"FLOAT", "DOUBLE"} for column in values)
        and (lead is None or kinds.get(lead, "").endswith(("INT", "INTEGER", "FLOAT", "DOUBLE")))
        and not times & values
        and lead not in times | values
        and not (times | values | {lead}) & set(source.where)
    )


def _parquet_typed(column: str, kind: str, source: Source) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"{quoted(column)} AT TIME ZONE 'UTC'"
    if kind.startswith("TIMESTAMP"):
        return f"CAST({quoted(column)} AS TIMESTAMP)"
    # The shortest notation of a number in single precision is the number that was meant.
    if kind == "FLOAT":
        return f"CAST(CAST({quoted(column)} AS VARCHAR) AS DOUBLE)"
    return quoted(column) if kind == "DOUBLE" else _parquet_text(column, kind, source)


def _parquet_text(column: str, kind: str, source: Source) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":  # a cast would depend on the session's zone
        return f"strftime({quoted(column)} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f') || '+00:00'"
    shown = f"CAST({quoted(column)} AS VARCHAR)"
    if source.decimal != "." and (kind in {"FLOAT", "DOUBLE"} or kind.startswith("DECIMAL")):
        return f"replace({shown}, '.', {text(source.decimal)})"
    return shown


#: Reader of each format.
READERS: Mapping[str, Callable[[Reading], Content]] = {
    "csv": _read_csv,
    "excel": _read_excel,
    "parquet": _read_parquet,
}


def check_columns(found: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise a `SourceError` that names missing or repeated columns."""
    missing = sorted(set(names) - set(found))
    if missing:
        more = f" and {len(found) - _SHOWN_COLUMNS} more" if len(found) > _SHOWN_COLUMNS else ""
        shown = ", ".join(column[:_SHOWN_COLUMNS] for column in found[:_SHOWN_COLUMNS])
        raise SourceError(
            f"{where}: no column {', '.join(missing)}; found are {shown}{more}; correct the card's columns in farms.yml"
        )
    for column in dict.fromkeys(names):
        places = [str(place) for place, other in enumerate(found, 1) if other.casefold() == column.casefold()]
        if len(places) > 1:
            raise SourceError(
                f"{where}: column '{column}' occurs {len(places)} times (columns {', '.join(places)}), and a card cannot choose "
                "between them; rename one in the file"
            )


def one_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def text(value: str) -> str:
    """An SQL string literal; NUL and bytes of a file name that are not UTF-8 are escaped."""
    sound = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return "'" + sound.replace("'", "''") + "'"


def quoted(value: str) -> str:
    """An SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def name(column: str) -> str:
    """SQL identifier of a file's column, prefixed so that it cannot clash with ``source_row`` or ``fault``."""
    return quoted(f"file:{column}")
