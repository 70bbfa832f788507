"""Read a sample of an export as a grid of text, and find the format of the file and of its numbers."""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.storage import bounds

from . import names
from .findings import Findings, OnboardingError
from .physics import Reals
from .stamps import looks_like_stamp

#: Maximum size of a file that is read whole; of a larger one, blocks from start to end are read.
_WHOLE_BYTES = 12 << 20
_BLOCK_BYTES = 1 << 19
_MIN_BLOCKS = 3
#: Maximum characters of a line, as the csv module's limit of a field.
_MAX_LINE = 1 << 17
#: Single-byte code pages of Western and Central Europe.
CODE_PAGES = ("cp1252", "cp1250")
_SEPARATORS = ("\t", ";", "|", ",")
_WIDTHS_AGREE_SHARE = 0.9
_HEAD_LINES = 60
_TAIL_LINES = 12
#: A Parquet file with more rows is read in part.
_MAX_PARQUET_ROWS = 1_000_000
_NUMBER = re.compile(r"^[+-]?[\d.,' \u00a0\u202f]*\d[\d.,]*([eE][+-]?\d+)?$")
#: One decimal sign is used if it occurs so many times as often as the other.
_CLEARLY = 20
_MAX_SAMPLED_ROWS = 3000

_Rows = list[list[str]]


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
    blocks: list[_Rows]
    block_files: list[Path]
    findings: Findings
    whole: bool
    typed: bool = False

    def column(self, name: str) -> list[str]:
        """All cells of a column."""
        place = self.header.index(name)
        return [row[place].strip() for block in self.blocks for row in block]

    def existing(self, name: str, among: Collection[str] | None = None) -> str:
        """The name; raise `OnboardingError` if there is no such column."""
        if name not in (self.header if among is None else among):
            raise OnboardingError(f"{self.files[0]}: no column '{name}'; columns are {', '.join(self.header)}")
        return name


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
    samples = [_read(path, Findings(given=given), max(_BLOCK_BYTES, _WHOLE_BYTES // len(every))) for path in every]
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


def _read(path: Path, findings: Findings, max_bytes: int) -> Sample:
    import pyarrow as pa

    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            bounds.check_parquet(path)
            return _read_parquet(path, findings)
        if path.suffix.lower() in {".xlsx", ".xls", ".xlsb", ".ods", ".xlsm"}:
            if magic[:2] == b"PK":  # workbooks before 2007 are not zip archives
                bounds.check_workbook(path)
            return _read_excel(path, findings)
        return _read_csv(path, findings, max_bytes)
    except OSError as error:
        raise OnboardingError(f"{path}: the file cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise OnboardingError(f"{path}: unterminated quoted value ({error}); export it again") from None
    except pa.ArrowException as error:
        raise OnboardingError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    except (bounds.MalformedError, bounds.TooLargeError) as error:
        raise OnboardingError(f"{path}: {str(error).removeprefix(f'{path.name}: ')}") from None


# --- text ------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, findings: Findings, max_bytes: int) -> Sample:
    blocks, whole = _raw_blocks(path, max_bytes)
    encoding = _encoding(blocks, findings)
    lines = _lines(path, blocks, encoding)
    findings.proven("signals.format", "csv", "text file")
    separator = _separator(lines[0][: 20 * _HEAD_LINES], findings, path)
    rows = [
        list(csv.reader(block, delimiter=separator))
        if any('"' in line for line in block)
        else [one.split(separator) for one in block]
        for block in lines
    ]
    return _grid(path, lines, rows, findings, whole)


def _raw_blocks(path: Path, max_bytes: int) -> tuple[list[bytes], bool]:
    """Every n-th block of a file and its last, with n growing as needed; and whether they are the whole file."""
    kept: list[tuple[int, bytes]] = []
    step, number, block = 1, 0, b""
    for number, block in enumerate(bounds.blocks(path, block_bytes=_BLOCK_BYTES)):
        if number % step == 0:
            kept.append((number, block))
        if len(kept) > max(_MIN_BLOCKS, max_bytes // _BLOCK_BYTES):
            step *= 2
            kept = [(place, one) for place, one in kept if place % step == 0]
    if not kept:
        raise OnboardingError(f"{path}: the file is empty; export it again")
    if step == 1:
        return [b"".join(one for _, one in kept)], True
    return [one for _, one in kept] + ([block] if kept[-1][0] != number else []), False


def _encoding(blocks: Sequence[bytes], findings: Findings) -> str:
    """The encoding, by byte order mark or validity; else the code page in which more names are recognised.

    If the code pages differ and none is better, it is asked.
    """
    field = "signals.encoding"
    for marks, name, codec in (
        ((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16", "utf-16"),
        ((codecs.BOM_UTF8,), "utf-8", "utf-8-sig"),
    ):
        if blocks[0].startswith(marks):
            findings.proven(field, name, "the file has a byte order mark")
            return codec
    try:
        for block in blocks:
            # A block may begin or end within a character, so only its complete lines are decoded.
            (block if len(blocks) == 1 else block.partition(b"\n")[2].rpartition(b"\n")[0]).decode("utf-8")
    except UnicodeDecodeError as error:
        text, at = error.object, error.start
    else:
        plain = all(block[:4096].isascii() for block in blocks)
        findings.proven(field, "utf-8", "plain ASCII" if plain else "valid UTF-8")
        return "utf-8"
    lines = b"\n".join([line for line in text.split(b"\n")[: 20 * _HEAD_LINES] if not line.isascii()])
    known = {}
    for page in CODE_PAGES:
        cells = {cell.strip() for cell in re.split(r'[;\t|,"\r\n]', lines.decode(page, errors="replace"))}
        known[page] = sum(names.signal_of(cell) is not None or names.has_term(cell, "turbine") for cell in cells)
    page = max(CODE_PAGES, key=lambda one: known[one])
    around = text[max(0, at - 12) : at + 12]
    shown = " ".join(around.decode(page, errors="replace").split())
    alike = len({around.decode(other, errors="replace") for other in CODE_PAGES}) == 1
    sure = alike or all(known[other] < known[page] for other in CODE_PAGES if other != page)
    found: str = findings.add(field, page, f"not UTF-8; text reads {shown!r}", proven=sure)
    return found


def _lines(path: Path, blocks: Sequence[bytes], encoding: str) -> list[list[str]]:
    """Complete lines of each block."""
    found = []
    little = blocks[0].startswith(codecs.BOM_UTF16_LE)
    later = ("utf-16-le" if little else "utf-16-be") if encoding == "utf-16" else encoding
    for number, block in enumerate(blocks):
        lines = block.decode(later if number else encoding, errors="replace").split("\n")
        lines = lines[1 if number else 0 : -1 if number < len(blocks) - 1 else None]
        if (longest := max(map(len, lines), default=0)) > _MAX_LINE:
            raise OnboardingError(
                f"{path}: a line has {longest:,} characters, at most {_MAX_LINE:,} are read; the file is not a table"
            )
        found.append([line.rstrip("\r") for line in lines])
    while found[-1] and not found[-1][-1].strip():
        found[-1].pop()
    return found


def _separator(lines: Sequence[str], findings: Findings, path: Path) -> str:
    filled = [line for line in lines if line.strip()]
    for separator in _SEPARATORS:
        width, count = Counter(len(row) for row in csv.reader(filled, delimiter=separator)).most_common(1)[0]
        if width > 1 and count >= _WIDTHS_AGREE_SHARE * (len(filled) - _HEAD_LINES // 4):
            shown = {"\t": "tab"}.get(separator, separator)
            why = f"{shown!r} splits {count} of {len(filled)} lines into {width} columns"
            found: str = findings.proven("signals.separator", separator, why)
            return found
    raise OnboardingError(f"{path}: none of the separators {', '.join(map(repr, _SEPARATORS))} splits its lines into columns")


def _grid(path: Path, lines: list[list[str]], rows: list[_Rows], findings: Findings, whole: bool) -> Sample:
    """Find header, units, rows and footer in a grid of cells."""
    head = rows[0]
    width = Counter(len(row) for row in head[-2000:]).most_common(1)[0][0]
    starts = [line.lstrip() for line in lines[0][:_HEAD_LINES]]
    comment = next((mark for mark in ("#", "%", "//") if any(line.startswith(mark) for line in starts)), None)
    remarks = {number for number, line in enumerate(starts) if comment is not None and line.startswith(comment)}
    first = next(
        (number for number, row in enumerate(head[:_HEAD_LINES]) if number not in remarks and len(row) == width and _is_row(row)),
        None,
    )
    if first is None:
        raise OnboardingError(f"{path}: none of the first {_HEAD_LINES} lines has a time stamp and a number")
    # The header is the first line of names above the rows, else the last comment with names.
    named = [number for number in range(first) if len(head[number]) == width and _names(head[number]) > width / 2]
    top = next((number for number in [*(one for one in named if one not in remarks), *reversed(named)]), None)
    if top is None:
        raise OnboardingError(
            f"{path}: no line of {width} names precedes the first row, line {first + 1}; add a header to the export"
        )
    header = [cell.strip().strip('"') for cell in head[top]]
    units: dict[str, str] = {}
    for number in range(top + 1, first):
        if number not in remarks:
            units |= {name: cell.strip() for name, cell in zip(header, head[number], strict=False) if cell.strip()}
    title = f"line {top + 1} is the first with {width} names" if top else "the first line is the header"
    findings.proven("signals.skip_rows", top, title)
    findings.proven("signals.units_rows", first - top - 1, f"the first row with a stamp is line {first + 1}")
    inside = [line for block in lines for line in block[:5000]]
    if comment is not None and any(line.lstrip().startswith(comment) for line in inside[top + 1 :]):
        findings.proven("signals.comment", comment, f"lines that begin with {comment} are comments")
    body = [head[first:], *rows[1:]]
    body[-1] = body[-1][: _end_of_rows(body[-1], width, findings)]
    blocks = [[row for row in block if len(row) == width and any(map(str.strip, row)) and _may_be_row(row)] for block in body]
    blocks = [block for block in blocks if block]
    return Sample([path], header, units, blocks, [path] * len(blocks), findings, whole)


def _end_of_rows(body: _Rows, width: int, findings: Findings) -> int:
    """Index of the first footer line: lines at the end with another width, or without a stamp if rows have one."""
    stamped = sum(map(_has_stamp, body[:100])) > len(body[:100]) / 2
    footer, end = 0, len(body)
    for place in range(len(body) - 1, max(-1, len(body) - 1 - _TAIL_LINES), -1):
        row = body[place]
        if any(map(str.strip, row)):
            if len(row) == width and _is_row(row) and (not stamped or _has_stamp(row)):
                break
            footer, end = footer + 1, place
    if footer >= _TAIL_LINES:
        footer, end = 0, len(body)
    findings.proven("signals.footer_rows", footer, "the last lines are not rows" if footer else "the last line is a row")
    return end


def _names(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) and not is_number(cell.strip()) for cell in row)


def _numbers(row: Sequence[str]) -> int:
    return sum(is_number(cell.strip()) for cell in row)


def _has_stamp(row: Sequence[str]) -> bool:
    return any(looks_like_stamp(cell.strip()) for cell in row)


def _may_be_row(row: Sequence[str]) -> bool:
    return _has_stamp(row) or _numbers(row) >= 2  # noqa: PLR2004


def _is_row(row: Sequence[str]) -> bool:
    """Whether a line has a stamp and another value, or at least two numbers (a stamp can be a number)."""
    stamps = sum(looks_like_stamp(cell.strip()) for cell in row)
    return (stamps > 0 and (_numbers(row) > 0 or len(row) > stamps)) or _numbers(row) >= max(2, len(row) - 2)


# --- Excel and Parquet -----------------------------------------------------------------------------------------------


def _read_excel(path: Path, findings: Findings) -> Sample:
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
    # The sheet with the most rows; asked if another has a similar number.
    ranked = sorted(grids, key=lambda name: -len(grids[name]))
    sheet, count = ranked[0], len(grids[ranked[0]])
    clear = len(ranked) == 1 or len(grids[ranked[1]]) < count / 4
    if sheet != next(iter(grids)) or not clear or "signals.sheet" in findings.given:
        why = f"the longest of {len(ranked)} sheets, {count} rows"
        if not clear:
            why += f", but {ranked[1]} is of similar length; save each sheet as a file if there is one per turbine"
        sheet = findings.add("signals.sheet", sheet, why, proven=clear)
        if sheet not in grids:
            raise OnboardingError(f"{path}: no sheet '{sheet}'; sheets are {', '.join(grids)}")
    rows = [[_cell(value) for value in row] for row in grids[sheet]]
    width = max((place + 1 for row in rows for place, text in enumerate(row) if text), default=0)
    rows = [row[:width] for row in rows]
    sample = _grid(path, [[";".join(row) for row in rows]], [rows], findings, whole=True)
    sample.typed = any(isinstance(value, float) for row in grids[sheet][-50:] for value in row)
    return sample


def _cell(value: Any) -> str:
    if isinstance(value, dt.datetime):
        rounded = value + dt.timedelta(milliseconds=0.5)
        return rounded.replace(microsecond=rounded.microsecond // 1000 * 1000).isoformat(sep="T")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value)


def _read_parquet(path: Path, findings: Findings) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    findings.proven("signals.format", "parquet", "by the file's signature")
    file = pq.ParquetFile(path)
    groups = range(file.num_row_groups)
    whole = file.metadata.num_rows <= _MAX_PARQUET_ROWS
    blocks = []
    for group in groups if whole else sorted({groups[0], groups[len(groups) // 2], groups[-1]}):
        columns = []
        for column in file.read_row_group(group).columns:
            if pa.types.is_timestamp(column.type):
                times = column.cast(pa.timestamp("us", tz=column.type.tz)).to_pandas()
                times = times.dt.tz_convert("UTC") if column.type.tz else times
                columns.append(
                    times.dt.strftime("%Y-%m-%dT%H:%M:%S.%f" + ("+00:00" if column.type.tz else "")).fillna("").tolist()
                )
            else:
                columns.append(["" if value is None or value != value else str(value) for value in column.to_pylist()])  # noqa: PLR0124 - NaN
        blocks.append([list(row) for row in zip(*columns, strict=True)])
    return Sample([path], list(file.schema_arrow.names), {}, blocks, [path] * len(blocks), findings, whole, typed=True)


# --- numbers ---------------------------------------------------------------------------------------------------------


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any locale."""
    return bool(_NUMBER.match(cell))


def numbers(cells: Sequence[str], decimal: str, thousands: str | None) -> Reals:
    """Convert cells to numbers; invalid ones are NaN."""
    text: Any = pd.Series(list(cells), dtype="str").str.strip()
    if thousands:
        text = text.str.replace(r"[ \u00a0\u202f]" if thousands == " " else thousands, "", regex=thousands == " ")
    if decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    return np.asarray(pd.to_numeric(text, errors="coerce"), dtype=float)


def decimal_marks(sample: Sample) -> tuple[str, str | None]:
    """Find the decimal sign and the digit grouping from numbers that can be read in one way only."""
    found, forms = sample.findings, Counter[str]()
    if not sample.typed:
        for block in sample.blocks:
            for row in block[:: max(1, len(block) // _MAX_SAMPLED_ROWS)]:
                for cell in map(str.strip, row):
                    if is_number(cell):
                        forms.update(_forms(cell))
    thousands = next((mark for mark in (" ", "'") if forms[f"group {mark}"]), None)
    decimal, why, proven = ".", "numbers are typed" if sample.typed else "no number has decimals", True
    point, comma = forms["decimal ."], forms["decimal ,"]
    if max(point, comma) > _CLEARLY * min(point, comma):
        decimal, other = (",", ".") if comma > point else (".", ",")
        why = f"{forms[f'decimal {decimal}']} numbers can only be read with '{decimal}' as the decimal sign"
        # A mark before three digits that is not the decimal sign groups digits.
        thousands = other if forms[f"group {other}"] or (thousands is None and forms[f"three {other}"]) else thousands
    elif point or comma or forms["three ,"] or forms["three ."]:
        decimal, thousands, proven = "," if forms["three ,"] + comma > forms["three ."] + point else ".", None, False
        why = "all numbers have three digits after the mark, or the marks are inconsistent"
    grouping = f"'{thousands}' groups digits" if thousands else "no digits are grouped"
    return (
        found.add("signals.decimal", decimal, why, proven=proven),
        found.add("signals.thousands", thousands, grouping if proven else "as the decimal sign", proven=proven),
    )


def _forms(cell: str) -> list[str]:
    """Marks that a number proves: ``decimal`` or ``group``, or ``three`` if ambiguous."""
    body = re.sub("[\u00a0\u202f]", " ", re.split("[eE]", cell.lstrip("+-"))[0])
    marks, parts = re.sub(r"\d", "", body), re.split(r"\D", body)
    three = len(parts[-1]) == 3  # noqa: PLR2004
    if len(marks) == 1:
        if marks in " '":
            return [f"group {marks}"] if three else []
        return [f"three {marks}"] if three and 1 <= len(parts[0]) <= 3 and parts[0][0] != "0" else [f"decimal {marks}"]  # noqa: PLR2004
    if not marks or any(len(part) != 3 for part in parts[1:-1]):  # noqa: PLR2004
        return []
    if len(set(marks)) == 1:
        return [f"group {marks[0]}"] if three else []
    one_decimal = len(set(marks)) == 2 and marks.count(marks[-1]) == 1  # noqa: PLR2004
    return [f"group {marks[0]}", f"decimal {marks[-1]}"] if one_decimal else []
