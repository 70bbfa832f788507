"""Read a sample of an export as a grid of text, and find the format of the file."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wind_kedro.storage import bounds

from . import names
from .findings import Findings, OnboardingError
from .stamps import looks_like_stamp

#: Maximum size of a file that is read whole; a larger one is read in blocks from start to end.
_WHOLE_BYTES = 12 << 20
_BLOCK_BYTES = 1 << 19
_BLOCKS = 16
#: Maximum characters of a line, as the csv module's limit of a field.
_LONGEST_LINE = 1 << 17
_LEAST_BLOCKS = 3
#: Single-byte code pages of Western and Central Europe.
CODE_PAGES = ("cp1252", "cp1250")
_SEPARATORS = ("\t", ";", "|", ",")
_WIDTHS_AGREE_SHARE = 0.9
_HEAD_LINES = 60
_TAIL_LINES = 12
_NUMBER = re.compile(r"^[+-]?[\d.,' \u00a0\u202f]*\d[\d.,]*([eE][+-]?\d+)?$")


@dataclass
class Sample:
    """Rows of an export, in blocks that are contiguous in the file.

    Attributes:
        files: the files, sorted by name.
        header: names of the columns.
        units: cells of the row of units by column; empty if there is none.
        blocks: contiguous rows; each row is as wide as the header.
        block_files: the file of each block.
        findings: findings about the format of the file.
        whole: whether it contains every row of every file.
        typed: whether the format has typed values (Parquet), so that the decimal sign is known.
    """

    files: Sequence[Path]
    header: list[str]
    units: dict[str, str]
    blocks: list[list[list[str]]]
    block_files: list[Path]
    findings: Findings
    whole: bool
    typed: bool = False

    def column(self, name: str) -> list[str]:
        """All cells of a column."""
        place = self.header.index(name)
        return [row[place].strip() for block in self.blocks for row in block]


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any locale."""
    return bool(_NUMBER.match(cell))


def files_of_export(paths: Sequence[Path]) -> list[Path]:
    """List the files of an export, sorted by name; a folder means all its files that are not hidden.

    Raises:
        OnboardingError: if one is missing, empty or an archive.
    """
    files = []
    for path in paths:
        inside = [one for one in path.iterdir() if one.is_file() and one.name[0] not in "._"] if path.is_dir() else [path]
        if not inside:
            raise OnboardingError(f"{path}: the folder has no files")
        files += inside
    for path in files:
        if not path.is_file():
            raise OnboardingError(f"{path}: there is no such file")
        if path.stat().st_size == 0:
            raise OnboardingError(f"{path}: the file is empty; export it again")
        if path.suffix.lower() in {".zip", ".7z", ".rar", ".tar", ".tgz"}:
            raise OnboardingError(f"{path}: an archive; unpack it and pass its files")
    return sorted(path.absolute() for path in files)


def read_sample(files: Sequence[Path], given: Mapping[str, Any]) -> Sample:
    """Read a sample of one export, which may be several files of the same kind.

    Args:
        files: the files.
        given: fields that are known.

    Raises:
        OnboardingError: if a file cannot be read, or has no recognisable header or rows.
    """
    every = files_of_export(files)
    # Share the limit among the files.
    most = max(_BLOCK_BYTES, _WHOLE_BYTES // len(every))
    samples = [_read(path, given, most) for path in every]
    first = samples[0]
    for other in samples[1:]:
        if other.header != first.header:
            raise OnboardingError(
                f"{other.files[0]}: its columns differ from those of {first.files[0].name}; add files of one kind at a time"
            )
        first.blocks += other.blocks
        first.block_files += other.block_files
        first.whole = first.whole and other.whole
    first.files = every
    return first


def _read(path: Path, given: Mapping[str, Any], most: int) -> Sample:
    findings = Findings(given=given)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return _read_parquet(path, findings)
        if path.suffix.lower() in {".xlsx", ".xls", ".xlsb", ".ods", ".xlsm"}:
            if magic[:2] == b"PK":  # workbooks before 2007 are not zip archives
                bounds.check_workbook(path)
            return _read_excel(path, findings)
        return _read_csv(path, findings, most)
    except OSError as error:
        raise OnboardingError(f"{path}: the file cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise OnboardingError(f"{path}: unterminated quoted value ({error}); export it again") from None
    except (bounds.MalformedError, bounds.TooLargeError) as error:
        raise OnboardingError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from None


# --- text ------------------------------------------------------------------------------------------------------------


def _raw_blocks(path: Path, most: int) -> tuple[list[bytes], bool]:
    """Read blocks of bytes from start to end of a file; return them and whether they are the whole file."""
    if path.suffix == ".gz":
        return _packed_blocks(path, most)
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= most:
            return [file.read()], True
        count = max(_LEAST_BLOCKS, min(_BLOCKS, most // _BLOCK_BYTES))
        blocks = []
        for number in range(count):
            start = max(0, size - _BLOCK_BYTES) * number // (count - 1)
            file.seek(start - start % 2)  # keep the alignment of UTF-16
            blocks.append(file.read(_BLOCK_BYTES + 1))
        return blocks, False


def _packed_blocks(path: Path, most: int) -> tuple[list[bytes], bool]:
    """Read blocks of a compressed file, which cannot be sought: keep every n-th block, with n growing as needed."""
    kept: list[tuple[int, bytes]] = []
    step, number, last = 1, 0, b""
    for block in bounds.blocks(path, block_bytes=_BLOCK_BYTES):
        last = block
        if number % step == 0:
            kept.append((number, block))
        if len(kept) > max(_LEAST_BLOCKS, most // _BLOCK_BYTES):
            step *= 2
            kept = [(place, one) for place, one in kept if place % step == 0]
        number += 1
    if not kept:
        raise OnboardingError(f"{path}: the file is empty; export it again")
    if step == 1:
        return [b"".join(block for _, block in kept)], True
    return [block for _, block in kept] + ([last] if kept[-1][0] != number - 1 else []), False


def _encoding(blocks: Sequence[bytes], findings: Findings) -> str:
    head = blocks[0]
    name = "signals.encoding"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        findings.proven(name, "utf-16", "the file has a byte order mark")
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8):
        findings.proven(name, "utf-8", "the file has a byte order mark")
        return "utf-8-sig"
    try:
        for block in blocks:
            # A block may begin or end within a character, so only its complete lines are decoded.
            (block if len(blocks) == 1 else block.partition(b"\n")[2].rpartition(b"\n")[0]).decode("utf-8")
    except UnicodeDecodeError as error:
        return _code_page(error.object, error.start, findings)
    plain = all(byte < 128 for block in blocks for byte in block[:4096])  # noqa: PLR2004 - ASCII
    findings.proven(name, "utf-8", "plain ASCII" if plain else "valid UTF-8")
    return "utf-8"


def _code_page(text: bytes, at: int, findings: Findings) -> str:
    """Choose the Windows code page in which more names are recognised; ask if the code pages differ and none is better."""
    lines = b"\n".join([line for line in text.split(b"\n")[: 20 * _HEAD_LINES] if not line.isascii()])
    known = {}
    for page in CODE_PAGES:
        cells = {cell.strip() for cell in re.split(r'[;\t|,"\r\n]', lines.decode(page, errors="replace"))}
        known[page] = sum(names.signal_of(cell)[0] is not None or names.has_term(cell, names.TURBINE_TERMS) for cell in cells)
    page = max(CODE_PAGES, key=lambda one: known[one])
    around = text[max(0, at - 12) : at + 12]
    shown = " ".join(around.decode(page, errors="replace").split())
    alike = len({around.decode(other, errors="replace") for other in CODE_PAGES}) == 1
    sure = alike or all(known[other] < known[page] for other in CODE_PAGES if other != page)
    found: str = findings.add("signals.encoding", page, f"not UTF-8; text reads {shown!r}", proven=sure)
    return found


def _lines(blocks: Sequence[bytes], encoding: str) -> list[list[str]]:
    """Complete lines of each block."""
    found = []
    for number, block in enumerate(blocks):
        little = blocks[0].startswith(codecs.BOM_UTF16_LE)
        later = ("utf-16-le" if little else "utf-16-be") if encoding == "utf-16" else encoding
        text = block.decode(encoding if number == 0 else later, errors="replace")
        lines = text.split("\n")
        if number > 0:
            lines = lines[1:]
        if number < len(blocks) - 1:
            lines = lines[:-1]
        if (longest := max(map(len, lines), default=0)) > _LONGEST_LINE:
            raise OnboardingError(
                f"a line has {longest:,} characters, at most {_LONGEST_LINE:,} are read; the file is not a table"
            )
        found.append([line.rstrip("\r") for line in lines])
    while found[-1] and not found[-1][-1].strip():
        found[-1].pop()
    return found


def _separator(lines: Sequence[str], findings: Findings, path: Path) -> str:
    filled = [line for line in lines if line.strip()]
    for separator in _SEPARATORS:
        widths = Counter(len(row) for row in csv.reader(filled, delimiter=separator))
        width, count = widths.most_common(1)[0]
        if width > 1 and count >= _WIDTHS_AGREE_SHARE * (len(filled) - _HEAD_LINES // 4):
            shown = {"\t": "tab"}.get(separator, separator)
            why = f"{shown!r} splits {count} of {len(filled)} lines into {width} columns"
            found: str = findings.proven("signals.separator", separator, why)
            return found
    raise OnboardingError(f"{path}: none of the separators {', '.join(map(repr, _SEPARATORS))} splits its lines into columns")


def _read_csv(path: Path, findings: Findings, most: int) -> Sample:
    blocks, whole = _raw_blocks(path, most)
    try:
        encoding = _encoding(blocks, findings)
        lines = _lines(blocks, encoding)
    except OnboardingError as error:
        raise OnboardingError(f"{path}: {error}") from None
    findings.proven("signals.format", "csv", "text file")
    separator = _separator(lines[0][: 20 * _HEAD_LINES], findings, path)
    rows = [
        list(csv.reader(block, delimiter=separator))
        if any('"' in line for line in block)
        else [line.split(separator) for line in block]
        for block in lines
    ]
    return _grid(path, lines, rows, findings, whole)


def _grid(path: Path, lines: list[list[str]], rows: list[list[list[str]]], findings: Findings, whole: bool) -> Sample:
    """Find header, units, rows and footer in a grid of cells."""
    width = Counter(len(row) for row in rows[0][-2000:]).most_common(1)[0][0]
    comment = next(
        (mark for mark in ("#", "%", "//") if any(line.lstrip().startswith(mark) for line in lines[0][:_HEAD_LINES])), None
    )

    def remark(number: int) -> bool:
        return comment is not None and number < len(lines[0]) and lines[0][number].lstrip().startswith(comment)

    def may_be_row(number: int) -> bool:
        row = rows[0][number]
        return not remark(number) and len(row) == width and _is_row(row)

    first = next((number for number in range(min(len(rows[0]), _HEAD_LINES)) if may_be_row(number)), None)
    if first is None:
        raise OnboardingError(f"{path}: none of the first {_HEAD_LINES} lines has a time stamp and a number")
    top = _header(rows[0], first, width, remark)
    if top is None:
        raise OnboardingError(
            f"{path}: no line of {width} names precedes the first row, line {first + 1}; add a header to the export"
        )
    header = [cell.strip().strip('"') for cell in rows[0][top]]
    units: dict[str, str] = {}
    for number in range(top + 1, first):
        if not remark(number):
            units |= {name: cell.strip() for name, cell in zip(header, rows[0][number], strict=False) if cell.strip()}
    title = f"line {top + 1} is the first with {width} names" if top else "the first line is the header"
    findings.proven("signals.skip_rows", top, title)
    findings.proven("signals.units_rows", first - top - 1, f"the first row with a stamp is line {first + 1}")
    inside = [line for block in lines for line in block[:5000]]
    if comment is not None and any(line.lstrip().startswith(comment) for line in inside[top + 1 :]):
        findings.proven("signals.comment", comment, f"lines that begin with {comment} are comments")
    body = [block[first:] if number == 0 else block for number, block in enumerate(rows)]
    end = _footer(body[-1], width, findings)
    body[-1] = body[-1][:end]
    sound = [
        [row for row in block if len(row) == width and any(cell.strip() for cell in row) and _has_stamp(row)] for block in body
    ]
    return Sample([path], header, units, [b for b in sound if b], [path for b in sound if b], findings, whole)


def _header(rows: Sequence[Sequence[str]], first: int, width: int, remark: Callable[[int], bool]) -> int | None:
    """Index of the header: the first line of names above the rows, else the last comment with names."""
    named = [number for number in range(first) if len(rows[number]) == width and _filled(rows[number]) > width / 2]
    plain = [number for number in named if not remark(number)]
    remarks = [number for number in named if remark(number)]
    return plain[0] if plain else remarks[-1] if remarks else None


def _footer(body: Sequence[Sequence[str]], width: int, findings: Findings) -> int:
    """Index of the first footer line: lines at the end with another width, or without a stamp if rows have one."""
    stamped = sum(any(looks_like_stamp(cell.strip()) for cell in row) for row in body[:100]) > len(body[:100]) / 2
    footer, end = 0, len(body)
    for place in range(len(body) - 1, max(-1, len(body) - 1 - _TAIL_LINES), -1):
        row = body[place]
        if row and any(cell.strip() for cell in row):
            if len(row) == width and _is_row(row) and (not stamped or any(looks_like_stamp(c.strip()) for c in row)):
                break
            footer, end = footer + 1, place
    if footer >= _TAIL_LINES:
        footer, end = 0, len(body)
    findings.proven("signals.footer_rows", footer, "the last lines are not rows" if footer else "the last line is a row")
    return end


def _filled(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) and not is_number(cell.strip()) for cell in row)


def _has_stamp(row: Sequence[str]) -> bool:
    return any(looks_like_stamp(cell.strip()) for cell in row) or sum(is_number(cell.strip()) for cell in row) >= 2  # noqa: PLR2004


def _is_row(row: Sequence[str]) -> bool:
    """Whether a line has a stamp and a number, or at least two numbers (a stamp can be a number)."""
    numbers = sum(is_number(cell.strip()) for cell in row)
    stamps = sum(looks_like_stamp(cell.strip()) for cell in row)
    return (stamps > 0 and (numbers > 0 or len(row) > stamps)) or numbers >= max(2, len(row) - 2)


# --- Excel and Parquet -----------------------------------------------------------------------------------------------


def _read_excel(path: Path, findings: Findings) -> Sample:
    import datetime as dt

    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError:
        raise OnboardingError(f"{path}: reading Excel needs the extra 'excel': pip install 'wind-kedro[excel]'") from None
    findings.proven("signals.format", "excel", "a workbook")
    try:
        with CalamineWorkbook.from_path(path) as book:
            grids = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    except CalamineError as error:
        raise OnboardingError(f"{path}: not a readable workbook ({str(error).splitlines()[0]})") from None
    sheet = _sheet(path, {name: len(grid) for name, grid in grids.items()}, findings)

    def cell(value: Any) -> str:
        if isinstance(value, dt.datetime):
            rounded = value + dt.timedelta(milliseconds=0.5)
            return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000).isoformat(sep="T")
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() else repr(value)
        return "" if value is None else str(value)

    rows = [[cell(value) for value in row] for row in grids[sheet]]
    width = max((len(row) for row in rows), default=0)
    while width and not any(row[width - 1] for row in rows if len(row) >= width):
        width -= 1
    rows = [row[:width] for row in rows]
    typed = any(isinstance(value, float) for row in grids[sheet][-50:] for value in row)
    sample = _grid(path, [[";".join(row) for row in rows]], [rows], findings, whole=True)
    sample.typed = typed
    return sample


def _sheet(path: Path, sizes: Mapping[str, int], findings: Findings) -> str:
    """Choose the sheet with the most rows; ask if another has a similar number."""
    ranked = sorted(sizes, key=lambda name: -sizes[name])
    longest, first = ranked[0], next(iter(sizes))
    clear = len(ranked) == 1 or sizes[ranked[1]] < sizes[longest] / 4
    why = f"the longest of {len(ranked)} sheets, {sizes[longest]} rows"
    if not clear:
        why += f", but {ranked[1]} is of similar length; save each sheet as a file if there is one per turbine"
    if longest == first and clear and "signals.sheet" not in findings.given:
        return longest
    sheet: str = findings.add("signals.sheet", longest, why, proven=clear)
    if sheet not in sizes:
        raise OnboardingError(f"{path}: no sheet '{sheet}'; sheets are {', '.join(sizes)}")
    return sheet


def _read_parquet(path: Path, findings: Findings) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    findings.proven("signals.format", "parquet", "by the file's signature")
    bounds.check_parquet(path)
    try:
        return _parquet_sample(path, pq.ParquetFile(path), findings)
    except pa.ArrowException as error:
        raise OnboardingError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _parquet_sample(path: Path, file: Any, findings: Findings) -> Sample:
    import pyarrow as pa

    groups = list(range(file.num_row_groups))
    whole = file.metadata.num_rows <= 1_000_000  # noqa: PLR2004
    chosen = groups if whole else sorted({groups[0], groups[len(groups) // 2], groups[-1]})
    blocks = []
    for group in chosen:
        table = file.read_row_group(group)
        columns = []
        for column in table.columns:
            if pa.types.is_timestamp(column.type):
                zone = column.type.tz
                times = column.cast(pa.timestamp("us", tz=zone)).to_pandas()
                shown = (
                    times.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")
                    if zone
                    else times.dt.strftime("%Y-%m-%dT%H:%M:%S.%f")
                )
                columns.append(shown.fillna("").tolist())
            else:
                columns.append(["" if value is None or value != value else str(value) for value in column.to_pylist()])  # noqa: PLR0124 - NaN
        blocks.append([list(row) for row in zip(*columns, strict=True)])
    header = list(file.schema_arrow.names)
    return Sample([path], header, {}, blocks, [path] * len(blocks), findings, whole, typed=True)


def common_start(texts: Sequence[str]) -> str:
    """Common prefix of texts."""
    first, last = min(texts), max(texts)
    return next((first[:place] for place, letter in enumerate(first) if last[place : place + 1] != letter), first)
