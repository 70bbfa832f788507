"""Class ``signals_tables``: signals in Parquet and Excel, of other types than the card's, damaged, or made to burst."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .cases import generator
from .exports import SIGNALS, Export, Record, blank_export
from .project import World
from .signals import SignalsCase

Change = Callable[[Export, pa.Table], "pa.Table | None"]
PARQUET: dict[str, Change] = {}
EXCEL: dict[str, Callable[[Export, Any], None]] = {}
_NAMES = {
    "power_kw": "power",
    "wind_speed_ms": "wind",
    "wind_direction_deg": "direction",
    "temperature_c": "temp",
    "pitch_deg": "pitch",
}


def parquet(change: Change) -> Change:
    """Registers a mutation of a Parquet file: it gives the table to write, or none where it made the bytes itself."""
    PARQUET[change.__name__] = change
    return change


def excel(change: Callable[[Export, Any], None]) -> Callable[[Export, Any], None]:
    """Registers a mutation of a workbook, before or after it is saved."""
    EXCEL[change.__name__] = change
    return change


def _table(records: list[Record]) -> pa.Table:
    return pa.table(
        {
            "time": pa.array([r.at.to_pydatetime() for r in records], pa.timestamp("us", "UTC")),
            "turbine": [r.turbine for r in records],
        }
        | {_NAMES[name]: pa.array([r.values[name] for r in records], pa.float64()) for name in SIGNALS}
    )


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def _bytes(table: pa.Table, **options: Any) -> bytes:
    held = io.BytesIO()
    pq.write_table(table, held, **options)
    return held.getvalue()


def _nothing(export: Export) -> None:
    export.records.clear()
    export.refuse = "must"


def _aside(export: Export, fate: str = "aside") -> None:
    for record in export.records:
        record.fate = fate


@parquet
def stamps_without_a_zone(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "time", table["time"].cast(pa.timestamp("us")))


@parquet
def stamps_of_another_zone(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "time", table["time"].cast(pa.timestamp("us", "Australia/Adelaide")))


@parquet
def stamps_of_any_unit(export: Export, table: pa.Table) -> pa.Table:
    unit = str(export.rng.choice(["s", "ms", "ns"]))
    zone = "UTC" if export.rng.random() < 0.5 else None
    return _with(
        table,
        "time",
        table["time"].cast(pa.timestamp("us")).cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
        if zone is None
        else table["time"].cast(pa.timestamp(unit, zone)),
    )


@parquet
def stamps_with_nanoseconds(export: Export, table: pa.Table) -> pa.Table:
    values = np.array([r.at.tz_localize(None).to_datetime64() for r in export.records], "datetime64[ns]") + np.timedelta64(
        1, "ns"
    )
    _aside(export, "any")
    return _with(table, "time", pa.array(values, pa.timestamp("ns", "UTC")))


@parquet
def stamps_as_text(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "time", pa.array([f"{r.at:%Y-%m-%dT%H:%M:%SZ}" for r in export.records]))


@parquet
def stamps_as_numbers(export: Export, table: pa.Table) -> pa.Table:
    unit = str(export.rng.choice(["epoch_seconds", "epoch_milliseconds"]))
    factor = 1 if unit == "epoch_seconds" else 1000
    export.card["signals"]["stamp_format"] = unit
    return _with(table, "time", pa.array([int(r.at.timestamp()) * factor for r in export.records], pa.int64()))


@parquet
def stamps_as_numbers_undeclared(export: Export, table: pa.Table) -> pa.Table:
    _aside(export)
    return _with(table, "time", pa.array([int(r.at.timestamp()) for r in export.records], pa.int64()))


@parquet
def stamps_as_dates(export: Export, table: pa.Table) -> pa.Table:
    _aside(export, "free")
    export.more += len(export.records)
    return _with(table, "time", table["time"].cast(pa.date32()))


@parquet
def stamps_out_of_any_range(export: Export, table: pa.Table) -> pa.Table:
    values = table["time"].cast(pa.int64()).to_pylist()
    for place in export.rng.choice(len(values), 5, replace=False):
        values[int(place)] = int(export.rng.choice([2**62, -(2**62), 2**63 - 1, -(2**63) + 1, 0]))
        export.records[int(place)].fate = "free"
    export.future = 5
    return _with(table, "time", pa.array(values, pa.int64()).cast(pa.timestamp("us", "UTC"), safe=False))


@parquet
def stamps_that_are_null(export: Export, table: pa.Table) -> pa.Table:
    values = table["time"].to_pylist()
    for place in export.rng.choice(len(values), 20, replace=False):
        values[int(place)] = None
        export.records[int(place)].fate = "aside"
    return _with(table, "time", pa.array(values, pa.timestamp("us", "UTC")))


@parquet
def numbers_as_text(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "power", pa.array([repr(r.values["power_kw"]) for r in export.records]))


@parquet
def numbers_as_decimals(export: Export, table: pa.Table) -> pa.Table:
    from decimal import Decimal

    return _with(table, "power", pa.array([Decimal(repr(r.values["power_kw"])) for r in export.records], pa.decimal128(38, 10)))


@parquet
def numbers_in_half_precision(export: Export, table: pa.Table) -> pa.Table:
    kind = np.float16 if export.rng.random() < 0.5 else np.float32
    for record in export.records:
        record.values["wind_speed_ms"] = float(kind(record.values["wind_speed_ms"]))
        record.fate = "any" if kind is np.float16 else record.fate
    return _with(table, "wind", pa.array(np.array([r.values["wind_speed_ms"] for r in export.records], kind)))


@parquet
def integers_without_sign(export: Export, table: pa.Table) -> pa.Table:
    for record in export.records:
        record.values["power_kw"] = float(max(int(record.values["power_kw"]), 0))
    return _with(table, "power", pa.array([int(r.values["power_kw"]) for r in export.records], pa.uint64()))


@parquet
def nan_and_null(export: Export, table: pa.Table) -> pa.Table:
    values = table["wind"].to_pylist()
    for place in export.rng.choice(len(values), 60, replace=False):
        values[int(place)] = None if export.rng.random() < 0.5 else float("nan")
        export.records[int(place)].values["wind_speed_ms"] = float("nan")
    return _with(table, "wind", pa.array(values, pa.float64()))


@parquet
def infinities(export: Export, table: pa.Table) -> pa.Table:
    values = table["power"].to_pylist()
    for place in export.rng.choice(len(values), 30, replace=False):
        values[int(place)] = float(export.rng.choice([np.inf, -np.inf, 1e308, -1e308, 5e-324]))
        record = export.records[int(place)]
        record.values["power_kw"], record.fate = values[int(place)], "any"
    return _with(table, "power", pa.array(values, pa.float64()))


@parquet
def truths_for_numbers(export: Export, table: pa.Table) -> pa.Table:
    _aside(export)
    return _with(table, "power", pa.array([True] * len(table)))


@parquet
def bytes_for_text(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "turbine", pa.array([r.turbine.encode() for r in export.records], pa.binary()))


@parquet
def bytes_that_are_no_text(export: Export, table: pa.Table) -> pa.Table:
    _aside(export)
    return _with(table, "turbine", pa.array([b"\xff\x00\xfe"] * len(table), pa.binary()))


@parquet
def text_that_is_not_utf_8(export: Export, table: pa.Table) -> pa.Table:
    values = pa.array([r.turbine.encode() for r in export.records[:-5]] + [b"S\xff"] * 5, pa.binary())
    for record in export.records[-5:]:
        record.fate = "aside"
    return _with(table, "turbine", pa.Array.from_buffers(pa.string(), len(values), values.buffers()))


@parquet
def a_dictionary(export: Export, table: pa.Table) -> pa.Table:
    return _with(table, "turbine", table["turbine"].dictionary_encode())


@parquet
def nested_columns(export: Export, table: pa.Table) -> pa.Table:
    kind = int(export.rng.integers(4))
    values = [r.values["power_kw"] for r in export.records]
    made = [
        pa.array([[v] for v in values]),
        pa.array([{"value": v} for v in values]),
        pa.array([[("a", v)] for v in values], pa.map_(pa.string(), pa.float64())),
        pa.array([[[v]] for v in values]),
    ][kind]
    _aside(export)
    return _with(table, "power", made)


@parquet
def strange_columns_beside(export: Export, table: pa.Table) -> pa.Table:
    names = [
        "source_row",
        "file_row_number",
        "fault",
        "x'; --",
        'q"uote',
        "größe",
        "",
        "Power",
        "filename",
        "a.b",
        "landed_at",
        "source_file",
    ]
    for name in export.rng.choice(names, 4, replace=False):
        table = table.append_column(str(name), pa.array([1] * len(table)))
    return table


@parquet
def a_column_twice(export: Export, table: pa.Table) -> pa.Table:
    export.refuse = "must"
    return table.append_column("power", pa.array([7.0] * len(table)))


@parquet
def a_column_in_two_cases(export: Export, table: pa.Table) -> pa.Table:
    # Exact names: the card's is the one in lower case.
    at = 0 if export.rng.random() < 0.5 else len(table.schema.names)
    return table.add_column(at, "POWER", pa.array([7.0] * len(table)))


@parquet
def a_column_missing(export: Export, table: pa.Table) -> pa.Table:
    export.refuse = "must"
    return table.drop_columns([str(export.rng.choice(["time", "turbine", "power"]))])


@parquet
def no_rows(export: Export, table: pa.Table) -> pa.Table:
    _nothing(export)
    return table.slice(0, 0)


@parquet
def no_columns(export: Export, table: pa.Table) -> pa.Table:
    _nothing(export)
    return pa.table({"x": pa.array([], pa.null())}) if export.rng.random() < 0.5 else pa.table({"x": pa.nulls(10)})


@parquet
def many_row_groups(export: Export, table: pa.Table) -> None:
    export.packed = _bytes(table, row_group_size=7)


@parquet
def any_compression(export: Export, table: pa.Table) -> None:
    codec = str(export.rng.choice(["snappy", "gzip", "zstd", "lz4", "brotli", "none"]))
    version = str(export.rng.choice(["1.0", "2.4", "2.6"]))
    export.packed = _bytes(table, compression=codec, version=version, data_page_version=str(export.rng.choice(["1.0", "2.0"])))


@parquet
def cut_short(export: Export, table: pa.Table) -> None:
    raw = _bytes(table)
    export.packed = raw[: int(export.rng.integers(4, len(raw)))]
    export.refuse = "must"


@parquet
def a_flipped_byte_in_a_page(export: Export, table: pa.Table) -> None:
    raw = bytearray(_bytes(table, compression="zstd", write_page_checksum=True))
    footer = int.from_bytes(raw[-8:-4], "little")
    for _ in range(3):
        raw[int(export.rng.integers(4, len(raw) - footer - 8))] ^= 0xFF
    export.packed = bytes(raw)
    # Pages have checksums: what they do not fit must not be used as if they did.
    _aside(export, "any")


@parquet
def a_flipped_byte_in_the_footer(export: Export, table: pa.Table) -> None:
    raw = bytearray(_bytes(table))
    footer = int.from_bytes(raw[-8:-4], "little")
    raw[int(export.rng.integers(len(raw) - footer - 8, len(raw) - 8))] ^= 0xFF
    export.packed = bytes(raw)
    _aside(export, "any")
    export.more = export.fewer = len(export.records)


@parquet
def enormous_sizes_declared(export: Export, table: pa.Table) -> None:
    raw = bytearray(_bytes(table))
    if export.rng.random() < 0.5:
        raw[-8:-4] = (2**31 - 1).to_bytes(4, "little")
    else:  # the rows of the file, as a varint somewhere in the footer
        count = _varint(2 * len(export.records))
        place = bytes(raw).rfind(count)
        raw[place : place + len(count)] = b"\xff" * (len(count) - 1) + b"\x7f"
    export.packed = bytes(raw)
    _aside(export, "any")
    export.more = export.fewer = len(export.records)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@parquet
def a_bomb_of_one_value(export: Export, table: pa.Table) -> None:
    rows = int(export.rng.choice([1_000_000, 5_000_000]))
    same = pa.table({name: pa.repeat(table[name][0], rows) for name in table.schema.names})
    export.packed = _bytes(same, compression="zstd", row_group_size=rows)
    export.records.clear()
    export.refuse = "bomb"


@parquet
def a_cell_of_megabytes(export: Export, table: pa.Table) -> pa.Table:
    values = [r.turbine for r in export.records]
    values[5] = "x" * int(export.rng.choice([3_000_000, 100_000_000]))
    export.records[5].fate = "aside"
    return _with(table, "turbine", pa.array(values))


@parquet
def not_parquet(export: Export, table: pa.Table) -> None:
    export.packed = [
        b"PAR1",
        b"PAR1PAR1",
        b"PAR1" + bytes(100),
        b"",
        b"time,turbine\n",
        b"PARE" + bytes(50) + b"PARE",
        export.rng.bytes(5000),
    ][int(export.rng.integers(7))]
    _nothing(export)


@parquet
def brackets_beside_the_plain_name(export: Export, table: pa.Table) -> None:
    half = len(table) // 2
    pairs = [
        (b"signals_[1]", b"signals_1"),
        (b"signals_*", b"signals_x"),
        (b"signals_?", b"signals_x"),
        (b"signals_{a,b}", b"signals_a"),
        (b"a'b", b"b"),
    ]
    one, other = pairs[int(export.rng.integers(len(pairs)))]
    export.name = one + b".parquet"
    export.packed = _bytes(table.slice(0, half))
    export.beside[other + b".parquet"] = _bytes(table.slice(half))
    export.card["signals"]["path"] = f"{export.farm_id}/*.parquet"


@parquet
def files_of_other_schemas(export: Export, table: pa.Table) -> None:
    half = len(table) // 2
    export.name = b"a.parquet"
    export.packed = _bytes(table.slice(0, half))
    second = _with(table, "power", pa.array([repr(r.values["power_kw"]) for r in export.records])).slice(half)
    export.beside[b"b.parquet"] = _bytes(second.select(sorted(second.schema.names)))
    export.card["signals"]["path"] = f"{export.farm_id}/*.parquet"


@parquet
def a_name_that_is_not_utf_8(export: Export, table: pa.Table) -> None:
    export.name = b"signals_\xff.parquet"
    export.packed = _bytes(table)
    export.card["signals"]["path"] = f"{export.farm_id}/*.parquet"


@parquet
def folders_that_name_columns(export: Export, table: pa.Table) -> None:
    raw = _bytes(table)

    def place(folder: Path) -> None:
        deeper = folder / str(export.rng.choice(["power=7", "landed_at=2015-01-01T00-00-00Z", "turbine=S9", "x=..", "time=1"]))
        deeper.mkdir()
        (deeper / "signals.parquet").write_bytes(raw)

    # The file has these columns itself.
    export.card["signals"]["path"] = f"{export.farm_id}/*/*.parquet"
    export.packed, export.place = raw, place


# --- Excel -----------------------------------------------------------------------------------------------------------


@excel
def a_sound_workbook(export: Export, book: Any) -> None:
    return


@excel
def an_unknown_sheet(export: Export, book: Any) -> None:
    export.card["signals"]["sheet"] = "nothing"
    export.refuse = "must"


@excel
def another_sheet_first(export: Export, book: Any) -> None:
    book.create_sheet("Cover", 0)["A1"] = "Export"
    if export.rng.random() < 0.5:
        export.card["signals"]["sheet"] = "Data"
    else:
        export.refuse = "must"


@excel
def formulas(export: Export, book: Any) -> None:
    sheet = book["Data"]
    for row in export.rng.choice(np.arange(2, sheet.max_row + 1), 20, replace=False):
        # No program has worked them out: a cell without value.
        sheet.cell(int(row), 4).value = "=1+1"
        record = export.records[int(row) - 2]
        record.values["wind_speed_ms"] = float("nan")
        record.fate = "any"


@excel
def errors(export: Export, book: Any) -> None:
    sheet = book["Data"]
    for row in export.rng.choice(np.arange(2, sheet.max_row + 1), 20, replace=False):
        sheet.cell(int(row), 3).value = str(export.rng.choice(["#VALUE!", "#REF!", "#DIV/0!", "#N/A"]))
        # A cell of Excel's own type for errors: a missing value, or a row set aside, and no number.
        record = export.records[int(row) - 2]
        record.fate, record.values["power_kw"] = "any", float("nan")


@excel
def merged_cells(export: Export, book: Any) -> None:
    sheet = book["Data"]
    sheet.merge_cells("A10:A12")
    for record in export.records[8:11]:
        record.fate = "any"


@excel
def dates_as_text(export: Export, book: Any) -> None:
    sheet = book["Data"]
    for row in range(2, sheet.max_row + 1, int(export.rng.integers(1, 5))):
        sheet.cell(row, 1).value = f"{export.records[row - 2].at:%Y-%m-%d %H:%M:%S}"


@excel
def dates_as_serials(export: Export, book: Any) -> None:
    sheet = book["Data"]
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, 1).value = (export.records[row - 2].at - pd.Timestamp("1899-12-30", tz="UTC")) / pd.Timedelta(days=1)
        sheet.cell(row, 1).number_format = "General"
    _aside(export, "aside")


@excel
def blank_rows_and_columns(export: Export, book: Any) -> None:
    sheet = book["Data"]
    sheet.insert_rows(20, 3)
    sheet.cell(sheet.max_row + 200, 1).value = " "
    sheet.cell(1, 40).value = "remark"
    export.more += 2


@excel
def an_empty_sheet(export: Export, book: Any) -> None:
    sheet = book["Data"]
    sheet.delete_rows(1 if export.rng.random() < 0.5 else 2, sheet.max_row)
    _nothing(export)


@excel
def a_header_twice(export: Export, book: Any) -> None:
    sheet = book["Data"]
    column = sheet.max_column + 1
    sheet.cell(1, column).value = "power"
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, column).value = 7.0
    export.refuse = "must"


@excel
def a_name_of_a_sheet(export: Export, book: Any) -> None:
    book["Data"].title = str(export.rng.choice(["it's", "größe", "a;b", "${x}", "x" * 31]))
    export.card["signals"]["sheet"] = book.worksheets[0].title.replace("${x}", "${x}")


@excel
def long_cells(export: Export, book: Any) -> None:
    book["Data"].cell(9, 2).value = "x" * 32_000
    export.records[7].fate = "aside"


def _rewrite(raw: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return held.getvalue()


def _of_sheet(raw: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return _rewrite(raw, lambda name, part: change(part) if name.startswith("xl/worksheets/sheet") else part)


def _saved(change: Callable[[Export, bytes], bytes]) -> None:
    def later(export: Export, book: Any) -> None:
        export.after = lambda raw: change(export, raw)  # type: ignore[attr-defined] # of this class only

    EXCEL[change.__name__.strip("_")] = later


def workbook_cut_short(export: Export, raw: bytes) -> bytes:
    export.refuse = "must"
    return raw[: int(export.rng.integers(10, len(raw) - 30))]


def workbook_with_a_flipped_byte(export: Export, raw: bytes) -> bytes:
    changed = bytearray(raw)
    with zipfile.ZipFile(io.BytesIO(raw)) as book:
        part = book.getinfo("xl/worksheets/sheet1.xml")
    changed[part.header_offset + 100 + int(export.rng.integers(part.compress_size // 2))] ^= 0xFF
    export.refuse = "must"
    return bytes(changed)


def workbook_bomb(export: Export, raw: bytes) -> bytes:
    size = int(export.rng.choice([200, 600]))
    export.records.clear()
    export.refuse = "bomb"
    held = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(raw)) as old,
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for name in old.namelist():
            part = old.read(name)
            if not name.startswith("xl/worksheets/sheet"):
                new.writestr(name, part)
                continue
            head, rest = part.split(b"<sheetData>", 1)
            row = b'<row><c t="inlineStr"><is><t>' + b"x" * 1_000 + b"</t></is></c></row>"
            with new.open(name, "w", force_zip64=True) as file:
                file.write(head + b"<sheetData>" + rest.split(b"</row>", 1)[0] + b"</row>")
                for _ in range(size):
                    file.write(row * 1_000)
                file.write(b"</sheetData></worksheet>")
    return held.getvalue()


def workbook_with_far_cells(export: Export, raw: bytes) -> bytes:
    # A sheet is read as a rectangle: one cell far out makes it enormous.
    export.refuse = "bomb"
    return _of_sheet(
        raw,
        lambda part: part.replace(b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'),
    )


def workbook_with_a_wrong_dimension(export: Export, raw: bytes) -> bytes:
    return _of_sheet(raw, lambda part: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', part))


def workbook_with_entities(export: Export, raw: bytes) -> bytes:
    lol = (
        b'<!DOCTYPE x [<!ENTITY a "lol">'
        + b"".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">'.encode() for n in range(9))
        + b'<!ENTITY p SYSTEM "file:///etc/passwd">]>'
    )
    _aside(export, "any")
    return _of_sheet(raw, lambda part: lol + re.sub(rb"^<\?xml.*?\?>", b"", part).replace(b"<t>S1</t>", b"<t>&j;&p;</t>", 1))


def workbook_without_its_sheet(export: Export, raw: bytes) -> bytes:
    export.refuse = "must"
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(held, "w") as new:
        for name in old.namelist():
            if not name.startswith("xl/worksheets/sheet"):
                new.writestr(name, old.read(name))
    return held.getvalue()


def not_a_workbook(export: Export, raw: bytes) -> bytes:
    _nothing(export)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as new:
        new.writestr("../../etc/x", "x")
    return [
        b"",
        b"time;power\n1;2\n",
        b"<html></html>",
        b"PK\x05\x06" + bytes(18),
        held.getvalue(),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
        export.rng.bytes(4000),
    ][int(export.rng.integers(7))]


def workbook_with_a_password(export: Export, raw: bytes) -> bytes:
    # As Excel writes one: a compound file whose stream is called EncryptedPackage.
    _nothing(export)
    name = "EncryptedPackage".encode("utf-16-le")
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + b"\xfd\xff\xff\xff" * 128 + name.ljust(512, b"\0")


for _change in (
    workbook_cut_short,
    workbook_with_a_flipped_byte,
    workbook_bomb,
    workbook_with_far_cells,
    workbook_with_a_wrong_dimension,
    workbook_with_entities,
    workbook_without_its_sheet,
    not_a_workbook,
    workbook_with_a_password,
):
    _saved(_change)

_EVERY = [("parquet", name) for name in PARQUET] + [("excel", name) for name in EXCEL]


def make_export(world: World, seed: int, number: int) -> Export:
    """The export of a case: each mutation in turn, then those of chance again."""
    rng = generator("signals_tables", number, seed)
    kind, name = _EVERY[number % len(_EVERY)]
    export = blank_export(world, f"t{number:04d}", rng, "table")
    signals = export.card["signals"]
    for key in ("separator", "encoding", "stamp_format"):
        signals.pop(key, None)
    ending = "parquet" if kind == "parquet" else "xlsx"
    signals |= {"format": kind, "path": f"{export.farm_id}/signals.{ending}"}
    export.name = f"signals.{ending}".encode()
    export.done.append(name)
    if kind == "parquet":
        table = PARQUET[name](export, _table(export.records))
        if table is not None:
            export.packed = _bytes(table)
        return export
    export.records = export.records[:400]
    book = _workbook(export.records)
    export.after = lambda raw: raw  # type: ignore[attr-defined] # of this class only
    EXCEL[name](export, book)
    held = io.BytesIO()
    book.save(held)
    export.packed = export.after(held.getvalue())  # type: ignore[attr-defined]
    return export


def _workbook(records: list[Record]) -> Any:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "Data"
    sheet.append(["time", "turbine", *_NAMES.values()])
    for record in records:
        stamp = record.at.tz_localize(None).to_pydatetime()
        sheet.append([stamp, record.turbine, *(record.values[name] for name in SIGNALS)])
    return book


def make(world: World, seed: int, number: int) -> SignalsCase:
    """A case of this class."""
    export = make_export(world, seed, number)
    return SignalsCase("signals_tables", number, seed, [_EVERY[number % len(_EVERY)][0], *export.done], export=export)


#: How many cases a full run has.
COUNT = len(_EVERY)
