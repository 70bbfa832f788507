"""Bounds for compressed or nested input: how much a file, an answer or a card may unpack to before it is refused.

Input from outside may be a few kilobytes that unpack to gigabytes, or nest so deeply that a recursive parser fails. Each
function here works in bounded memory, without recursion, and raises `MalformedError` for input that does not follow its format
and `TooLargeError` for input beyond a bound; those that read a file raise `OSError` if it cannot be read.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    import pyarrow as pa

MIB = 1 << 20
GIB = 1 << 30

#: Most bytes that one raw file may unpack to. Ten years of one-second SCADA data of a turbine are about 30 GiB of CSV.
MAX_FILE_BYTES = 64 * GIB
#: Most bytes out per byte in. SCADA exports compress 5 to 50 times; DEFLATE can reach 1032.
MAX_RATIO = 200
#: The ratio counts from so many unpacked bytes on: a small file of equal rows does no harm.
RATIO_FLOOR_BYTES = 64 * MIB
#: Bytes that are unpacked at a time.
BLOCK_BYTES = MIB
#: Packed bytes that are read at a time. zlib copies what stands behind a member, so many small members cost its square.
PACKED_BYTES = 64 * 1024

#: Most entries of a zip archive. A workbook has about one entry a sheet and a dozen more.
MAX_ZIP_ENTRIES = 10_000
#: Most bytes that a zip archive may unpack to. A workbook is parsed in memory; a full sheet of 20 columns has about 1 GiB of XML.
MAX_ZIP_BYTES = 2 * GIB
#: Most cells of the rectangle that the cells of a sheet span: a parser holds all of it, empty cells too, 32 bytes each. A sheet
#: of all its 1,048,576 rows may have 28 columns.
MAX_SHEET_CELLS = 30_000_000

#: Most bytes of a JSON document that is parsed in memory; Python objects take about ten times as much.
MAX_JSON_BYTES = 64 * MIB
#: Most levels of arrays and objects. Payloads of the known protocols have fewer than ten.
MAX_JSON_DEPTH = 64

#: Most bytes of a YAML file. Cards of 5,000 farms take about 10 MiB.
MAX_YAML_BYTES = 16 * MIB
#: Most levels of a YAML document. The deepest card has eight.
MAX_YAML_DEPTH = 64
#: Most nodes after each alias is replaced by what it stands for. Cards of 5,000 farms have about a million.
MAX_YAML_NODES = 4_000_000

#: Most bytes of a Parquet file's footer, which is parsed in memory.
MAX_PARQUET_FOOTER_BYTES = 64 * MIB
#: Most columns of a Parquet file: wide exports of a farm have a few thousand.
MAX_PARQUET_COLUMNS = 20_000
#: Most row groups of a Parquet file. A file written row by row has one a row, and each is read on its own.
MAX_PARQUET_ROW_GROUPS = 100_000
#: Most values (rows times columns): run lengths let a few bytes stand for billions of rows.
MAX_PARQUET_VALUES = 20_000_000_000

#: Most values of a field of a grid, cut to the box around the points: 4 GiB in memory.
MAX_GRID_VALUES = 500_000_000

_GZIP = 31  # zlib's window bits for a gzip header and trailer
_RAW = -15  # zlib's window bits for DEFLATE alone, as in zip archives
#: Where a cell or a row of a sheet is; Excel's last cell is XFD1048576.
_CELL = re.compile(rb"""[ \t\r\n]r=["']([A-Z]{0,3})([0-9]{1,7})["']""")
_CELL_BYTES = 16  # the longest of these
_ZIP_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, at the end of a local file header
_PARQUET_TAIL_BYTES = 8  # length of the footer and the magic number
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class TooLargeError(WindKedroError):
    """Input goes beyond a bound: which one, by how much, what to do."""


class MalformedError(WindKedroError):
    """Input does not follow its format: cut off, a wrong checksum, not JSON, not YAML."""


class Meter:
    """Counts bytes in and out of ``what`` against the bounds of compressed input.

    At most `MAX_RATIO` bytes may come out per byte in, once more than `RATIO_FLOOR_BYTES` came out.
    """

    def __init__(self, what: str, max_bytes: int) -> None:
        self._what, self._max_bytes = what, max_bytes
        self.read = self.written = 0

    def add(self, read: int = 0, written: int = 0) -> None:
        """Count; raises `TooLargeError` if a bound is passed."""
        self.read += read
        self.written += written
        if self.written > self._max_bytes:
            raise TooLargeError(f"{self._what}: holds more than {self._max_bytes:,} bytes unpacked; split it into smaller parts")
        if self.written > max(RATIO_FLOOR_BYTES, MAX_RATIO * self.read):
            raise TooLargeError(
                f"{self._what}: {self.read:,} bytes unpack to more than {MAX_RATIO} times as many, as only a "
                "decompression bomb or a file of equal rows does; unpack it by hand if it is genuine"
            )


def inflate(chunks: Iterable[bytes], meter: Meter, what: str, *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Unpack a stream of gzip members, as gzip(1) does: one behind the other, zeros behind the last are padding.

    ``meter`` counts what goes in and comes out; ``block_bytes`` are the most bytes of a block that is yielded.
    """
    unpack: Any = None
    members = 0
    for chunk in chunks:
        meter.add(read=len(chunk))
        rest = chunk
        while True:
            if unpack is None:
                rest = rest.lstrip(b"\0") if members else rest
                if not rest:
                    break
                unpack, members = zlib.decompressobj(_GZIP), members + 1
            try:
                block = unpack.decompress(rest, block_bytes)
            except zlib.error as error:
                foreign = members > 1 and "header" in str(error)
                reason = "something else stands behind the compressed data" if foreign else _line(error)
                raise MalformedError(f"{what}: not a sound gzip file ({reason}); fetch it again") from None
            meter.add(written=len(block))
            if block:
                yield block
            if unpack.eof:
                rest, unpack = unpack.unused_data, None
                continue
            rest = unpack.unconsumed_tail
            if not rest and not block:  # zlib holds back nothing any more
                break
    if unpack is not None:
        raise MalformedError(f"{what}: the compressed data break off after {meter.written:,} unpacked bytes; fetch it again")


def blocks(path: Path, *, max_bytes: int = MAX_FILE_BYTES, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes of a file in blocks; one whose name ends with ``.gz`` is unpacked, to at most `MAX_RATIO` times its size."""
    meter = Meter(path.name, max_bytes)
    with path.open("rb") as file:
        if path.suffix == ".gz":
            yield from inflate(_read(file, PACKED_BYTES), meter, path.name, block_bytes=block_bytes)
            return
        for block in _read(file, block_bytes):
            meter.add(len(block), len(block))
            yield block


def _read(file: BinaryIO, block_bytes: int, length: int | None = None) -> Iterator[bytes]:
    left = float("inf") if length is None else length
    while left > 0 and (block := file.read(int(min(left, block_bytes)))):
        left -= len(block)
        yield block


def check_workbook(path: Path, *, max_bytes: int = MAX_ZIP_BYTES, max_entries: int = MAX_ZIP_ENTRIES) -> None:
    """Check a workbook (.xlsx, a zip archive) before a parser opens it: entries, declared and real size, cells of each sheet.

    ``max_bytes`` is of all entries, unpacked.
    """
    what, size = path.name, path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error, UnicodeError) as error:
        raise MalformedError(f"{what}: not a sound zip archive ({_line(error)}); fetch it again") from None
    if len(entries) > max_entries:
        raise TooLargeError(f"{what}: holds {len(entries):,} entries, at most {max_entries:,} are read")
    # Entries may overlap, so what is read is counted once for the whole file and the declared sizes against it.
    Meter(what, max_bytes).add(size, sum(entry.file_size for entry in entries))
    real = Meter(what, max_bytes)
    real.add(size)
    with path.open("rb") as file:
        for entry in entries:
            rows, columns, rest = 1, 1, b""
            for block in _entry(file, entry, what):
                real.add(written=len(block))
                if entry.filename.startswith("xl/worksheets/"):
                    for column, row in _CELL.findall(rest + block):
                        rows, columns = max(rows, int(row)), max(columns, _column(column))
                    rest = (rest + block)[-_CELL_BYTES:]
            if rows * columns > MAX_SHEET_CELLS:
                raise TooLargeError(
                    f"{what}: the cells of a sheet span {rows:,} rows and {columns:,} columns, at most "
                    f"{MAX_SHEET_CELLS:,} cells are read; remove what stands far below or beside the table"
                )


def _entry(file: BinaryIO, entry: zipfile.ZipInfo, what: str) -> Iterator[bytes]:
    """The unpacked bytes of an entry as they are; `zipfile` reads no more than the entry declares, which a bomb lies about."""
    if entry.flag_bits & 1:
        raise MalformedError(f"{what}: is encrypted; save it without a password")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise MalformedError(f"{what}: compression method {entry.compress_type} is not supported; save it again")
    file.seek(entry.header_offset)
    header = file.read(_ZIP_HEADER.size)
    if len(header) < _ZIP_HEADER.size:
        raise MalformedError(f"{what}: not a sound zip archive (an entry is cut off); fetch it again")
    file.seek(sum(_ZIP_HEADER.unpack(header)), 1)
    packed = _read(file, BLOCK_BYTES, entry.compress_size)
    if entry.compress_type == zipfile.ZIP_STORED:
        yield from packed
        return
    unpack = zlib.decompressobj(_RAW)
    try:
        for chunk in itertools.chain(packed, [b""]):
            rest = chunk
            while not unpack.eof and ((block := unpack.decompress(rest, BLOCK_BYTES)) or unpack.unconsumed_tail):
                yield block
                rest = unpack.unconsumed_tail
    except zlib.error as error:
        raise MalformedError(f"{what}: not a sound zip archive ({error}); fetch it again") from None
    if not unpack.eof:
        raise MalformedError(f"{what}: not a sound zip archive (an entry is cut off); fetch it again")


def _column(letters: bytes) -> int:
    """The number of a column, 1 for A."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number


def parse_json(
    data: bytes | str,
    what: str = "JSON",
    *,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
    lone_surrogates: bool = False,
    **options: Any,
) -> Any:
    r"""Parse a JSON document, in bytes as UTF-8; of duplicate names the last counts.

    ``max_depth`` is of arrays and objects. With ``lone_surrogates`` text that UTF-8 cannot express, as ``"\ud800"``, and bytes
    that are not UTF-8 are kept, as ``surrogateescape`` does; otherwise they are refused. ``options`` are those of `json.loads`,
    for example ``parse_int``: `int`, the default, refuses more than 4,300 digits.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > max_bytes:
        raise TooLargeError(f"{what}: {len(raw):,} bytes, at most {max_bytes:,} are read")
    if (depth := _json_depth(raw)) > max_depth:
        raise TooLargeError(f"{what}: nested {depth:,} levels deep, at most {max_depth} are read")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig", "surrogateescape" if lone_surrogates else "strict")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{what}: not UTF-8 (byte {error.start:,})") from None
    try:
        value = json.loads(text, **options)
        if not lone_surrogates and _LONE_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise MalformedError(f"{what}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{what}: not JSON ({_line(error)})") from None
    return value


def _json_depth(raw: bytes) -> int:
    """The most brackets that are open at once outside of strings."""
    if raw.count(b"[") + raw.count(b"{") <= 1:
        return raw.count(b"[") + raw.count(b"{")
    import numpy as np

    # Without escapes every quote begins or ends a string, so strings can be taken out without a parser.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = re.sub(rb'"[^"]*("|$)', b"", bare.translate(None, _ALL_BUT_QUOTES_AND_BRACKETS))
    codes = np.frombuffer(brackets, np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), 1, -1)
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


_ALL_BUT_QUOTES_AND_BRACKETS = bytes(set(range(256)) - set(b'"[]{}'))


def check_yaml(data: bytes | str, what: str = "YAML", *, max_bytes: int = MAX_YAML_BYTES) -> str:
    """Check a YAML document, in bytes as UTF-8, before a parser builds its values; returns its text."""
    import yaml

    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > max_bytes:
        raise TooLargeError(f"{what}: {len(raw):,} bytes, at most {max_bytes:,} are read")
    try:
        text = raw.decode("utf-8-sig")
        _check_events(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), what)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise MalformedError(f"{what}: line {line} is not UTF-8; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise MalformedError(f"{what}: not YAML ({_line(error)})") from None
    return text


def _check_events(events: Iterable[Any], what: str) -> None:
    """Count the nodes and levels of a YAML document by its events, each alias as what it stands for."""
    import yaml

    #: By anchor: nodes and levels of what it stands for; none while that is open.
    anchors: dict[str | None, tuple[int, int] | None] = {}
    #: Of each open list or mapping, the outermost first: its anchor, nodes and levels so far.
    opened: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in events:
        anchor, line, added = getattr(event, "anchor", None), event.start_mark.line + 1, None
        if isinstance(event, yaml.CollectionStartEvent):
            anchors[anchor] = None
            opened.append((anchor, 0, 0))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, nodes, levels = opened.pop()
            added = (nodes + 1, levels + 1)
        elif isinstance(event, yaml.AliasEvent):
            added = anchors.get(anchor, (1, 0))  # an unknown alias is the parser's to refuse
            if added is None:
                raise MalformedError(f"{what}: line {line}: alias '*{anchor}' stands inside of itself")
        elif isinstance(event, yaml.ScalarEvent):
            added = (1, 0)
        if added is not None:
            anchors[anchor] = added
            outer, nodes, levels = opened[-1]
            opened[-1] = (outer, nodes + added[0], max(levels, added[1]))
        if opened[-1][1] > MAX_YAML_NODES:
            raise TooLargeError(f"{what}: line {line}: aliases stand for more than {MAX_YAML_NODES:,} nodes")
        if len(opened) - 1 + (added[1] if added else 0) > MAX_YAML_DEPTH:
            raise TooLargeError(f"{what}: line {line}: more than {MAX_YAML_DEPTH} levels deep")


def check_parquet(source: Path | pa.NativeFile, what: str | None = None, *, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Check a Parquet file by its footer before its data are read: sizes, columns, row groups, values.

    An open file is left where it was read to. ``max_bytes`` is what its pages unpack to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(source, Path):
        with pa.OSFile(str(source)) as file:
            return check_parquet(file, what or source.name, max_bytes=max_bytes)
    what, size = what or "Parquet", source.size()
    source.seek(max(0, size - _PARQUET_TAIL_BYTES))
    tail = source.read(_PARQUET_TAIL_BYTES)
    if len(tail) < _PARQUET_TAIL_BYTES or tail[4:] not in {b"PAR1", b"PARE"}:
        raise MalformedError(f"{what}: not a Parquet file, or cut off; fetch it again")
    footer = int.from_bytes(tail[:4], "little")
    if footer > size:
        raise MalformedError(f"{what}: not a sound Parquet file (its footer is cut off); fetch it again")
    if footer > MAX_PARQUET_FOOTER_BYTES:
        raise TooLargeError(f"{what}: a footer of {footer:,} bytes; at most {MAX_PARQUET_FOOTER_BYTES:,} are read")
    try:
        found = pq.read_metadata(source)
    except (pa.ArrowException, ValueError) as error:
        raise MalformedError(f"{what}: not a sound Parquet file ({_line(error)}); fetch it again") from None
    for count, most, name in (
        (found.num_columns, MAX_PARQUET_COLUMNS, "columns"),
        (found.num_row_groups, MAX_PARQUET_ROW_GROUPS, "row groups"),
        (found.num_rows * found.num_columns, MAX_PARQUET_VALUES, "values"),
    ):
        if count > most:
            raise TooLargeError(f"{what}: {count:,} {name}; at most {most:,} are read")
    groups = [found.row_group(index) for index in range(found.num_row_groups)]
    if sum(group.num_rows for group in groups) != found.num_rows:
        raise MalformedError(f"{what}: the rows of its row groups are not as many as it declares; fetch it again")
    Meter(what, max_bytes).add(size, sum(group.total_byte_size for group in groups))


def is_text(value: str) -> bool:
    """Whether UTF-8 and every reader of Parquet can express a text: no half of a surrogate pair, no NUL."""
    return "\0" not in value and not _SURROGATE.search(value)


def escape(content: bytes | str) -> str:
    r"""Content as text that can be stored: what is not UTF-8, and NUL, in the escapes of Python, as ``\xff``."""
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return raw.decode("utf-8", "backslashreplace").replace("\0", r"\x00")


def _line(error: BaseException) -> str:
    """The beginning of an error's message, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
