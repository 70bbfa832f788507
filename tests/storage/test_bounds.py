"""Compressed or nested input: what is sound comes through whole, a bomb is refused in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections import deque
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from wind_kedro.storage import bounds
from wind_kedro.storage.bounds import MalformedError, TooLargeError


def _write(folder: Path, content: bytes, name: str = "signals.csv.gz") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# --- gzip ------------------------------------------------------------------------------------------------------------

_ROWS = b"".join(b"2026-01-01 00:%02d,%d\n" % (minute % 60, minute) for minute in range(200_000))


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(_ROWS, mtime=0),
        gzip.compress(_ROWS[:1_000], mtime=0) + gzip.compress(_ROWS[1_000:], mtime=0),
        gzip.compress(_ROWS, mtime=0) + bytes(1_000_000),
        gzip.compress(b"", mtime=0) + gzip.compress(_ROWS, mtime=0) + gzip.compress(b"", mtime=0) + b"\0",
        b"".join(gzip.compress(_ROWS[at : at + 65_000], mtime=0) for at in range(0, len(_ROWS), 65_000)),
    ],
    ids=["one", "two members", "zero padding", "empty members", "many members"],
)
@pytest.mark.parametrize("block_bytes", [1_000, bounds.BLOCK_BYTES])
def test_sound_gzip_comes_through_whole(tmp_path: Path, packed: bytes, block_bytes: int) -> None:
    found = list(bounds.blocks(_write(tmp_path, packed), block_bytes=block_bytes))
    assert b"".join(found) == _ROWS
    assert max(map(len, found)) <= block_bytes


def test_a_plain_file_is_bounded_too(tmp_path: Path) -> None:
    path = _write(tmp_path, _ROWS, "signals.csv")
    assert b"".join(bounds.blocks(path)) == _ROWS
    with pytest.raises(TooLargeError, match=r"signals\.csv: holds more than 1,000 bytes"):
        list(bounds.blocks(path, max_bytes=1_000))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (gzip.compress(_ROWS, mtime=0)[:-9], "break off after"),
        (gzip.compress(_ROWS, mtime=0)[:5], "break off after 0"),
        (gzip.compress(_ROWS, mtime=0)[:-8] + b"\0" * 8, "data check"),
        (gzip.compress(_ROWS, mtime=0) + b"<html>", "something else stands behind"),
        (b"<html>", "not a sound gzip file"),
        (gzip.compress(_ROWS, mtime=0)[:1_000] + b"x" * 1_000, "not a sound gzip file"),
    ],
)
def test_damaged_gzip_is_refused(tmp_path: Path, packed: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        list(bounds.blocks(_write(tmp_path, packed)))


def _bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    part = b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes))
    return part + packer.flush()


def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = _write(tmp_path, _bomb(200))
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="more than 200 times"):
        deque(bounds.blocks(path), maxlen=0)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_equal_rows_below_the_floor_are_no_bomb(tmp_path: Path) -> None:
    zeros = bytes(bounds.RATIO_FLOOR_BYTES)
    assert sum(map(len, bounds.blocks(_write(tmp_path, gzip.compress(zeros))))) == len(zeros)


# --- zip -------------------------------------------------------------------------------------------------------------


def _zip(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_a_workbook_is_a_sound_zip(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for number in range(1_000):
        book.active.append(["2026-01-01 00:00", number])
    book.save(tmp_path / "export.xlsx")
    bounds.check_workbook(tmp_path / "export.xlsx")


@pytest.mark.parametrize("far", ["XFD1048576", "ZZ50000"])
def test_a_cell_far_beside_the_table(tmp_path: Path, far: str) -> None:
    """A parser makes the whole rectangle between the first and the last cell."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active["A1"] = book.active["AB900"] = 1.0
    book.save(tmp_path / "export.xlsx")
    bounds.check_workbook(tmp_path / "export.xlsx")
    book.active[far] = 1.0
    book.save(tmp_path / "far.xlsx")
    with pytest.raises(TooLargeError, match=r"span .* rows and .* columns"):
        bounds.check_workbook(tmp_path / "far.xlsx")


def test_zip_bounds(tmp_path: Path) -> None:
    many = _write(tmp_path, _zip({f"{number}.xml": b"x" for number in range(11)}), "many.xlsx")
    with pytest.raises(TooLargeError, match="11 entries"):
        bounds.check_workbook(many, max_entries=10)
    bomb = _write(tmp_path, _zip({"sheet.xml": bytes(100 << 20)}), "bomb.xlsx")
    with pytest.raises(TooLargeError, match="200 times"):
        bounds.check_workbook(bomb)
    with pytest.raises(TooLargeError, match="more than 1,000 bytes"):
        bounds.check_workbook(bomb, max_bytes=1_000)


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    """Declared one byte, holds 100 MiB; every entry of the directory may point at the same data."""
    honest = _zip({"sheet.xml": bytes(100 << 20)})
    lie = honest.replace(struct.pack("<I", 100 << 20), struct.pack("<I", 1))
    assert lie != honest
    with pytest.raises(TooLargeError, match="200 times"):
        bounds.check_workbook(_write(tmp_path, lie, "lie.xlsx"))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x05\x06", b"<html>", _zip({"a": b"abc" * 1_000})[:-30]],
    ids=["empty", "end", "HTML", "cut off"],
)
def test_a_damaged_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MalformedError, match="not a sound zip"):
        bounds.check_workbook(_write(tmp_path, content, "export.xlsx"))


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {}, [], "[[[[", {"a": "]}", "b": ['\\"[', "\\", "{"]}, [{"power": 1.5, "text": "\\\\\"{[" * 50}] * 100, None,
        "\u20ac \U0001f300",
    ],
)  # fmt: skip
@pytest.mark.parametrize("ascii_only", [True, False])
def test_sound_json_comes_through(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert bounds.parse_json(text) == bounds.parse_json(b"\xef\xbb\xbf" + text.encode()) == value


def test_json_depth() -> None:
    assert bounds.parse_json("[" * 64 + "]" * 64)
    for opening, closing in ("[", "]"), ('{"a":', "}"), ('["]", {"a": ', "}]"):
        for depth in (65, 600, 1_000_000):
            with pytest.raises(TooLargeError, match="levels deep"):
                bounds.parse_json(opening * depth + "1" + closing * depth)


def test_brackets_in_strings_are_no_levels() -> None:
    assert bounds.parse_json(json.dumps({"a": "[" * 1_000, "b": '"' + "{" * 1_000, "c": "\\" + "[" * 1_000}))


def test_json_bounds() -> None:
    with pytest.raises(TooLargeError, match="at most 10"):
        bounds.parse_json(b"[1, 2, 3, 4, 5]", max_bytes=10)
    with pytest.raises(MalformedError, match="not UTF-8"):
        bounds.parse_json(b'"\xff"')
    for text in ("", "{", "[1,]", "9" * 5_000, "nul", "[" * 30):
        with pytest.raises(MalformedError, match="not JSON"):
            bounds.parse_json(text)
    assert bounds.parse_json('{"a": 1, "a": 2}') == {"a": 2}
    assert bounds.parse_json("9" * 5_000, parse_int=str) == "9" * 5_000


def test_half_a_surrogate_pair() -> None:
    for text in ('{"a": "\\ud800"}', '{"\\uDFFF": 1}', '["\\ud800\\ud800"]'):
        with pytest.raises(MalformedError, match="surrogate"):
            bounds.parse_json(text)
        assert bounds.parse_json(text, lone_surrogates=True) is not None
    assert bounds.parse_json('"\\ud83c\\udf00"') == "\U0001f300"
    assert [bounds.is_text(text) for text in ("\U0001f300", "\ud800", "a\0")] == [True, False, False]


# --- YAML ------------------------------------------------------------------------------------------------------------


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_sound_yaml_comes_through() -> None:
    text = "base: &base {a: 1, b: [1, 2]}\nfarm:\n  <<: *base\n  c: *base\n"
    assert bounds.check_yaml(text) == bounds.check_yaml(b"\xef\xbb\xbf" + text.encode()) == text
    assert yaml.safe_load(bounds.check_yaml(_laughs(3)))["a2"][9][9][9] == "lol"
    assert bounds.check_yaml("") == ""


def test_yaml_bounds() -> None:
    for levels in (9, 200):
        with pytest.raises(TooLargeError, match=r"farms\.yml: line \d+: (aliases stand for|more than)"):
            bounds.check_yaml(_laughs(levels), "farms.yml")
    with pytest.raises(TooLargeError, match="more than 64 levels"):
        bounds.check_yaml("[" * 100_000)
    chain = "a0: &a0 [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))
    with pytest.raises(TooLargeError, match="more than 64 levels"):
        bounds.check_yaml(chain)
    with pytest.raises(TooLargeError, match="at most 10"):
        bounds.check_yaml("a: 123456789", max_bytes=10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1, *a]", "line 1: alias '\\*a' stands inside of itself"),
        ("a: &a {b: *a}", "inside of itself"),
        (b"a: 1\nb: \xff", "line 2 is not UTF-8"),
        ("a: 'unclosed", "not YAML"),
        ("a: 1\n b: 2", "not YAML"),
    ],
)
def test_malformed_yaml_is_refused_in_one_line(text: str | bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as found:
        bounds.check_yaml(text, "farms.yml")
    assert "\n" not in str(found.value)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), path, row_group_size=1)
    bounds.check_parquet(path)
    with pytest.raises(TooLargeError, match="holds more than 10 bytes"):
        bounds.check_parquet(path, max_bytes=10)
    for name, most in (("COLUMNS", 1), ("ROW_GROUPS", 2), ("VALUES", 5), ("FOOTER_BYTES", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(bounds, f"MAX_PARQUET_{name}", most)
            with pytest.raises(TooLargeError, match=name.split("_")[0].lower()):
                bounds.check_parquet(path)


def test_a_damaged_parquet_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    pq.write_table(pa.table({"a": range(1_000)}), whole)
    content = whole.getvalue()
    for damaged in (
        b"",
        content[:-4],
        content[:100],
        content[:-8] + b"\xff\xff\xff\x7fPAR1",
        b"x" * 100 + content[-8:],
    ):
        with pytest.raises(MalformedError, match="Parquet"):
            bounds.check_parquet(_write(tmp_path, damaged, "part.parquet"))
