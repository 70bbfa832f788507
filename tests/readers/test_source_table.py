"""Raw files of any shape become one table of text, and a bad one says so in one line."""

from __future__ import annotations

import codecs
import copy
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError

from wind_kedro.contracts.raw import SignalsRaw, WeatherRaw
from wind_kedro.datasets.connections import connect
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.readers import source_files, units
from wind_kedro.readers.kept import Kept
from wind_kedro.readers.source_files import MAX_LINE
from wind_kedro.readers.source_table import SourceError, SourceRows, SourceTable

# Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

CONNECTION = {"backend": "duckdb", "database": ":memory:"}
LINES = ["time,turbine,power", "2024-01-01T00:00:00+01:00,T0,1.5", "2024-01-01T00:10:00+01:00,T0,2.5"]


def table(root: Path, cards: dict[str, Any], kind: str = "signals") -> SourceTable:
    return SourceTable(kind=kind, root=str(root), farms=cards["farms"], connection=CONNECTION)  # type: ignore[arg-type]


def one_farm(cards: dict[str, Any], **signals: Any) -> dict[str, Any]:
    cards["farms"] = cards["farms"][:1]
    cards["farms"][0]["signals"] |= signals
    return cards


def read(root: Path, cards: dict[str, Any]) -> pd.DataFrame:
    frame: pd.DataFrame = table(root, cards).load().table().to_pandas()
    return frame.sort_values(["farm_id", "source_file", "source_row"], ignore_index=True)


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    data = ("\n".join(lines) + "\n").encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "settings", "encoding"),
    [
        ("hill.csv", {}, "utf-8"),
        ("hill.csv.gz", {}, "utf-8"),
        ("hill.csv", {}, "utf-8-sig"),
        ("hill.csv", {"encoding": "latin-1"}, "latin-1"),
        ("hill.csv", {"encoding": "utf-16"}, "utf-16"),
        ("hill.csv", {"separator": ";"}, "utf-8"),
        ("hill.csv", {"separator": "|"}, "utf-8"),
        ("hill.csv", {"separator": "\t"}, "utf-8"),
    ],
)
def test_rows_come_as_they_stand(
    tmp_path: Path, cards: dict[str, Any], name: str, settings: dict[str, str], encoding: str
) -> None:
    separator = settings.get("separator", ",")
    lines = [line.replace(",", separator).replace("T0", "Höhe") for line in LINES]
    write(tmp_path / name, lines, encoding)
    frame = read(tmp_path, one_farm(cards, path=name, **settings))
    assert frame["source_row"].tolist() == [1, 2]
    assert frame["power_kw"].tolist() == ["1.5", "2.5"]
    assert frame["turbine_id"].tolist() == ["Höhe", "Höhe"]
    assert frame["source_file"].unique().tolist() == [name]
    assert frame[["received_at", "pitch_deg", "fault"]].isna().all(axis=None)


@pytest.mark.parametrize("zone", ["2", 2], ids=["text", "number"])
def test_a_file_of_several_farms_is_read_by_what_stands_in_a_column(
    tmp_path: Path, cards: dict[str, Any], zone: str | int
) -> None:
    lines = ["time,turbine,power,zone", "2024-01-01,T0,1,1", "2024-01-01,T0,2,2", "broken", "2024-01-02,T0,3, 2"]
    write(tmp_path / "all.csv", lines)
    frame = read(tmp_path, one_farm(cards, path="all.csv", where={"zone": zone}))
    # A row that cannot be split may be one of them: it is told.
    assert frame["source_row"].tolist() == [2, 3, 4]
    assert frame["power_kw"].tolist()[::2] == ["2", "3"]
    assert "the row has 1 values" in frame["fault"][1]


def test_a_column_to_choose_rows_by_must_be_there(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", LINES)
    with pytest.raises(SourceError, match="no column zone"):
        read(tmp_path, one_farm(cards, where={"zone": 1}))


def test_a_typed_column_chooses_rows_too(tmp_path: Path, cards: dict[str, Any]) -> None:
    times = pd.to_datetime(["2024-01-01", "2024-01-01"])
    table = pd.DataFrame({"time": times, "turbine": "T0", "power": [1.0, 2.0], "zone": [1, 2]})
    table.to_parquet(tmp_path / "all.parquet")
    frame = read(tmp_path, one_farm(cards, path="all.parquet", format="parquet", where={"zone": 2}))
    assert frame["power_kw"].tolist() == ["2.0"]


def test_quotes_hold_separators_and_quotes(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", [LINES[0], '2024-01-01,"T0, ""east""","1,5"', ',"",2'])
    frame = read(tmp_path, one_farm(cards))
    assert frame["turbine_id"].tolist() == ['T0, "east"', ""]
    assert frame["power_kw"].tolist() == ["1,5", "2"]


ROWS = [LINES[0], *(f"2024-01-01T{number // 60:02d}:{number % 60:02d}:00,T0,{number}" for number in range(1000))]
BYTES = ("\n".join(ROWS) + "\n").encode()


def at(number: int, change: Callable[[bytes], bytes], data: bytes = BYTES) -> bytes:
    """The file with one of its lines changed."""
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:number], change(lines[number]), *lines[number + 1 :]])


@pytest.mark.parametrize(
    ("name", "data", "settings"),
    [
        ("a.csv", b"".join(line + (b"\r\n" if n % 2 else b"\n") for n, line in enumerate(BYTES.splitlines())), {}),
        ("a.csv", at(500, lambda line: line[:-1] + b"\r\n"), {}),
        ("a.csv", at(500, lambda line: line[:-1] + b"\r"), {}),
        ("a.csv", BYTES.replace(b"\n", b"\r"), {}),
        ("a.csv", BYTES[:-1], {}),
        ("a.csv", BYTES.replace(b"\n", b"\r")[:-1], {}),
        ("a.csv", at(999, lambda line: line[:-1] + b"\r"), {}),
        ("a.csv.gz", gzip.compress(BYTES) + bytes(512), {}),
        ("a.csv.gz", gzip.compress(BYTES[:5000]) + gzip.compress(BYTES[5000:]), {}),
        ("a.csv", BYTES.replace(b"\n", b",\x80\n"), {"encoding": "latin-1"}),
        ("a.csv", BYTES.replace(b"\n", b",\x00\x1f\x85\x0c\n"), {"encoding": "latin-1"}),
        ("a.csv", BYTES.replace(b"\n", ",\u2028\u0085\n".encode()), {}),
        ("a.csv", codecs.BOM_UTF16_BE + BYTES.decode().encode("utf-16-be"), {"encoding": "utf-16"}),
        ("a.csv", BYTES.decode().replace("\n", ",\u0a0d\n").encode("utf-16"), {"encoding": "utf-16"}),
    ],
    ids=[
        "mixed newlines", "one CRLF", "one CR", "CR alone", "no last newline", "no last CR", "a CR near the end",
        "zeros behind gzip", "members of gzip",
        "0x80 in Latin-1", "controls", "separators of Unicode", "big-endian", "code units that look like newlines",
    ],
)  # fmt: skip
def test_odd_bytes_lose_no_row(tmp_path: Path, cards: dict[str, Any], name: str, data: bytes, settings: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(data)
    frame = read(tmp_path, one_farm(cards, path=name, **settings))
    assert frame["source_row"].tolist() == list(range(1, 1001))
    assert frame["power_kw"].astype(float).tolist() == list(range(1000))
    assert frame["fault"].isna().all()


@pytest.mark.parametrize("number", [500, 1000])
def test_a_carriage_return_inside_a_value_cuts_it_in_no_two(tmp_path: Path, cards: dict[str, Any], number: int) -> None:
    data = at(number, lambda line: line[:-1] + b"\r.45\n")
    (tmp_path / "hill.csv").write_bytes(data if number < 1000 else data[:-1])
    frame = read(tmp_path, one_farm(cards)).set_index("source_row")
    assert len(frame) == 1000
    assert frame.loc[number, "power_kw"] == f"{number - 1}\r.45"  # no number, so it is set aside


def test_a_separator_of_records_in_a_cell_is_text_of_that_cell(tmp_path: Path, cards: dict[str, Any]) -> None:
    (tmp_path / "hill.csv").write_bytes(at(300, lambda line: line.replace(b",", b"\x1f", 1)))
    frame = read(tmp_path, one_farm(cards)).set_index("source_row")
    assert frame.index[frame["fault"].notna()].tolist() == [300]
    assert "\x1f" in frame.loc[300, "fault"]
    assert len(frame) == 1000


@pytest.mark.parametrize("where", [500, 1000])
def test_a_line_beyond_the_bound_is_one_row_with_a_fault(tmp_path: Path, cards: dict[str, Any], where: int) -> None:
    def lengthened(line: bytes) -> bytes:
        return line.strip() + b"x" * 3 * MAX_LINE + (b"\n" if where < 1000 else b"")

    (tmp_path / "hill.csv").write_bytes(at(where, lengthened))
    frame = read(tmp_path, one_farm(cards)).set_index("source_row")
    assert frame.index.tolist() == list(range(1, 1001))
    assert frame.index[frame["fault"].notna()].tolist() == [where]
    assert frame.loc[where, "fault"].startswith("the line is longer than 1,048,576 characters; it begins 2024-01-01T")


@pytest.mark.parametrize("data", [b"x" * 3 * MAX_LINE, at(0, lambda line: line[:-1] + b"," + b"q" * 140_000 + b"\n")])
def test_a_header_beyond_the_bound_is_refused_by_its_line(tmp_path: Path, cards: dict[str, Any], data: bytes) -> None:
    (tmp_path / "hill.csv").write_bytes(data)
    with pytest.raises(SourceError, match="line 1, the header, is longer than 131,072 characters; set `skip_rows`"):
        read(tmp_path, one_farm(cards))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("odd", ["[1]", "*", "?", "'", '"', " ", "\n", "{a,b}", "%31", os.fsdecode(b"\xff"), "é"])
def test_names_are_names_and_no_patterns(tmp_path: Path, cards: dict[str, Any], suffix: str, odd: str) -> None:
    folder = tmp_path / f"raw{odd}"
    folder.mkdir()
    for number, name in enumerate(["hill_1", f"hill_{odd}", f"hill_1{odd}"]):
        path = folder / f"{name}{suffix}"
        if suffix == ".parquet":
            rows = pd.DataFrame({"time": ["2024-01-01"], "turbine": ["T0"], "power": [str(number)]})
            with path.open("wb") as file:
                rows.to_parquet(file)
        else:
            write(path, [LINES[0], f"2024-01-01,T0,{number}"])
    settings = {"path": f"hill_*{suffix}", "format": "parquet" if suffix == ".parquet" else "csv"}
    cards = one_farm(cards, **settings)
    kept = tmp_path / ("kept" if odd == os.fsdecode(b"\xff") else f"kept{odd}")
    found = SourceTable(kind="signals", root=str(folder), farms=cards["farms"], connection=CONNECTION, kept=str(kept))
    frame: pd.DataFrame = found.load().table().to_pandas()
    assert sorted(frame["power_kw"]) == ["0", "1", "2"]
    assert frame["source_file"].nunique() == 3
    assert frame["fault"].isna().all()


def test_a_wanted_column_that_stands_twice_is_refused(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", ["time,turbine,power,power", "2024-01-01,T0,7,1"])
    with pytest.raises(SourceError, match=r"column 'power' occurs 2 times \(columns 3, 4\)"):
        read(tmp_path, one_farm(cards))
    write(tmp_path / "hill.csv", ["time,turbine,power,Power", "2024-01-01,T0,7,1"])
    with pytest.raises(SourceError, match=r"column 'power' occurs 2 times \(columns 3, 4\)"):
        read(tmp_path, one_farm(cards))
    write(tmp_path / "hill.csv", ["time,turbine,power,note,note,fault,source_row", "2024-01-01,T0,7,1,2,x,9"])
    frame = read(tmp_path, one_farm(cards))
    assert frame[["power_kw", "source_row"]].to_numpy().tolist() == [["7", 1]]
    assert frame["fault"].isna().all()


def test_a_column_of_parquet_that_stands_twice_is_refused(tmp_path: Path, cards: dict[str, Any]) -> None:
    columns = [pa.array([text]) for text in ("2024-01-01", "T0", "7", "1")]
    pq.write_table(pa.Table.from_arrays(columns, ["time", "turbine", "power", "power"]), tmp_path / "hill.parquet")
    with pytest.raises(SourceError, match=r"column 'power' occurs 2 times"):
        read(tmp_path, one_farm(cards, path="hill.parquet", format="parquet"))


def test_a_page_that_does_not_fit_its_checksum_is_refused(tmp_path: Path, cards: dict[str, Any]) -> None:
    rows = pd.DataFrame({"time": "2024-01-01", "turbine": "T0", "power": [float(number) for number in range(1000)]})
    rows.to_parquet(tmp_path / "hill.parquet", compression=None, use_dictionary=False, write_page_checksum=True)
    cards = one_farm(cards, path="hill.parquet", format="parquet")
    assert len(read(tmp_path, cards)) == 1000
    data = (tmp_path / "hill.parquet").read_bytes()
    at = data.index(np.arange(500, 510, dtype=float).tobytes())
    (tmp_path / "hill.parquet").write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(SourceError, match="CRC checksum verification failed"):
        read(tmp_path, cards)


def test_names_that_are_no_files_are_faults(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill_1.csv", LINES)
    (tmp_path / "hill_2.csv").mkdir()
    (tmp_path / "hill_3.csv").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "hill_4.csv")
    frame = read(tmp_path, one_farm(cards, path="hill_*.csv"))
    faults = frame[frame["source_row"] == 0].set_index("source_file")["fault"]
    assert faults.index.tolist() == ["hill_3.csv", "hill_4.csv"]
    assert faults.str.contains("it is not a regular file").all()


def test_rows_that_a_reader_loses_are_found(tmp_path: Path, cards: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "hill.csv", ROWS)
    whole = source_files._Lines.__iter__

    def lossy(self: Any) -> Iterator[list[str]]:
        for lines in whole(self):
            yield lines[:-1]

    monkeypatch.setattr(source_files._Lines, "__iter__", lossy)
    with pytest.raises(SourceError, match="999 rows were read of 1,000 that were counted in it"):
        read(tmp_path, one_farm(cards))


def test_a_time_that_is_repeated_beyond_the_bound_is_refused(
    tmp_path: Path, cards: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "MAX_REPEATS", 3)
    write(tmp_path / "hill.csv", [LINES[0], *["2024-01-01,T0,1"] * 3, *["#REF!,T0,1"] * 9])
    assert len(read(tmp_path, one_farm(cards))) == 12
    write(tmp_path / "hill.csv", [LINES[0], *["2024-01-01,T0,1"] * 4])
    with pytest.raises(SourceError, match=r"hill\.csv: 4 rows are of the same time \(2024-01-01\), at most 3 are compared"):
        read(tmp_path, one_farm(cards))


def test_a_message_holds_no_control_characters_of_a_file(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", ["time,turbine,\x1b[2J\x07energy", "2024-01-01,T0,1"])
    with pytest.raises(SourceError) as raised:
        read(tmp_path, one_farm(cards))
    assert r"found are time, turbine, \x1b[2J\x07energy" in str(raised.value)


class TestKept:
    """Each file is read once, until it or its card changes."""

    @pytest.fixture
    def load(self, tmp_path: Path, cards: dict[str, Any]) -> Callable[..., pd.DataFrame]:
        def load(**signals: Any) -> pd.DataFrame:
            farms = one_farm(copy.deepcopy(cards), path="hill*.csv", **signals)["farms"]
            found = SourceTable(
                kind="signals", root=str(tmp_path), farms=farms, connection=CONNECTION, kept=str(tmp_path / "kept")
            )
            frame: pd.DataFrame = found.load().table().to_pandas()
            return frame.sort_values(["source_file", "source_row"], ignore_index=True)

        return load

    def kept(self, tmp_path: Path) -> dict[str, dict[str, Any]]:
        """By pack: what is noted of the files of its units."""
        known = Kept(tmp_path / "kept/signals").units.values()
        packs = {path.name for path in (tmp_path / "kept/signals").iterdir()} - {"index.parquet"}
        assert packs == {unit.pack for unit in known}
        return {name: json.loads(unit.files) for name in packs for unit in known if unit.pack == name}

    def test_a_file_is_read_again_when_it_changes_and_not_before(
        self, tmp_path: Path, load: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        write(tmp_path / "hill_2.csv", LINES)
        first, before = load(), self.kept(tmp_path)
        assert len(before) == 1  # files of the same layout are in one pack
        with monkeypatch.context() as patched:
            patched.setattr(units, "open_file", lambda _: pytest.fail("read again"))
            pd.testing.assert_frame_equal(load(), first)
        write(tmp_path / "hill_2.csv", [*LINES, "2024-01-01T00:20:00+01:00,T0,3.5"])
        assert load()["power_kw"].tolist() == ["1.5", "2.5", "1.5", "2.5", "3.5"]
        after = self.kept(tmp_path)
        assert len(after) == 2
        assert before.keys() < after.keys()
        (tmp_path / "hill_1.csv").unlink()
        assert load()["power_kw"].tolist() == ["1.5", "2.5", "3.5"]
        assert self.kept(tmp_path).keys() == after.keys() - before.keys()

    def test_a_file_counts_from_when_its_content_was_first_seen(self, tmp_path: Path, load: Callable[..., pd.DataFrame]) -> None:
        write(tmp_path / "hill.csv", LINES)
        load()
        [before] = self.kept(tmp_path).values()
        assert next(iter(before.values()))["rows"] == 2
        assert list(before) == [file_sha256(tmp_path / "hill.csv")]
        load(thousands=" ")  # the card changes, the content does not
        assert list(self.kept(tmp_path).values()) == [before]

    def test_one_bad_file_among_those_of_its_layout_fails_alone(
        self, tmp_path: Path, load: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(units, "MAX_REPEATS", 1)
        for number, stamp in enumerate(["10:00", "20:00", "10:00"]):
            write(tmp_path / f"hill_{number}.csv", [*LINES, f"2024-01-01T00:{stamp}+01:00,T0,3.5"])
        found = load().groupby("source_file")
        assert found["source_row"].apply(list).to_dict() == {"hill_0.csv": [0], "hill_1.csv": [1, 2, 3], "hill_2.csv": [0]}
        assert found["fault"].first().dropna().index.tolist() == ["hill_0.csv", "hill_2.csv"]

    def test_rows_are_the_same_whether_files_are_read_alone_together_or_in_parts(
        self, tmp_path: Path, load: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(4):
            write(tmp_path / f"hill_{number}.csv", [*LINES, f"2024-01-01T00:{number}0:00+01:00,T0,{number}.5", "odd"])
        together = load()
        for settings in ({"_UNITS_AT_ONCE": 1}, {"_HELD_ROWS": 1}, {"_HELD_ROWS": 2, "_BLOCK_BYTES": 32}):
            shutil.rmtree(tmp_path / "kept")
            with monkeypatch.context() as patched:
                for name, value in settings.items():
                    patched.setattr(units if name == "_UNITS_AT_ONCE" else source_files, name, value)
                pd.testing.assert_frame_equal(load(), together, check_like=True)

    def test_what_could_not_be_read_is_tried_again(
        self, tmp_path: Path, load: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        write(tmp_path / "hill_2.csv", LINES)

        def refuse(reading: Any) -> Any:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setitem(source_files.READERS, "csv", refuse)
            with pytest.raises(SourceError, match=r"hill_1\.csv: the file cannot be read \(Input/output error\)"):
                load()
        assert load()["fault"].isna().all()

    def test_a_kept_file_that_is_damaged_is_made_anew(self, tmp_path: Path, load: Callable[..., pd.DataFrame]) -> None:
        write(tmp_path / "hill.csv", LINES)
        first = load()
        [pack] = self.kept(tmp_path)
        for name in (pack, "index.parquet"):
            (tmp_path / "kept/signals" / name).write_bytes(b"PAR1")
            pd.testing.assert_frame_equal(load(), first)

    def test_a_table_stays_as_it_was_loaded_until_it_is_released(self, tmp_path: Path, cards: dict[str, Any]) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        dataset = table(tmp_path, one_farm(cards, path="hill_*.csv"))
        assert dataset.load().table().count().execute() == 2
        write(tmp_path / "hill_2.csv", LINES)
        assert dataset.load().table().count().execute() == 2
        dataset.release()
        assert dataset.load().table().count().execute() == 4


@pytest.mark.parametrize(
    ("cell", "value", "fault"),
    [
        ('"656.9', '"656.9', None),  # a quote that is never closed stays, and is no number
        ('"', '"', None),
        ('""', "", None),
        ('"6""5"', '6"5', None),
        ('6"5', '6"5', None),
        ('"12"5', None, "a quoted value has text behind its closing quote"),
        ('""125', None, "a quoted value has text behind its closing quote"),
    ],
)
def test_quotes_take_no_character_of_a_value(
    tmp_path: Path, cards: dict[str, Any], cell: str, value: str | None, fault: str | None
) -> None:
    write(tmp_path / "hill.csv", [LINES[0], f"2024-01-01,T0,{cell}"])
    [row] = read(tmp_path, one_farm(cards)).to_dict("records")
    assert (None if pd.isna(row["power_kw"]) else row["power_kw"]) == value
    assert pd.isna(row["fault"]) if fault is None else fault in row["fault"]


def test_ragged_rows_keep_their_number_and_say_so(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", [*LINES, "2024-01-01T00:20:00,T0", "", "a,b,c,d", '"open,T0', "2024-01-01T00:30:00,T0,4"])
    frame = read(tmp_path, one_farm(cards)).set_index("source_row")
    assert frame.index.tolist() == [1, 2, 3, 5, 6, 7]  # the blank line has a number, and no row
    assert frame["fault"].notna().tolist() == [False, False, True, True, True, False]
    assert "4 values where the header has 3: a,b,c,d" in frame.loc[5, "fault"]
    assert frame.loc[7, "power_kw"] == "4"


def test_several_files_of_one_farm(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill_1.csv", LINES)
    write(tmp_path / "hill_2.csv.gz", ["power,time,turbine", "9,2024-01-02,T1"])  # its own order of columns
    frame = read(tmp_path, one_farm(cards, path="hill_*"))
    assert frame["power_kw"].tolist() == ["1.5", "2.5", "9"]
    assert frame["source_row"].tolist() == [1, 2, 1]


def test_folders_of_a_lake_are_columns_and_that_of_a_feed_is_an_arrival(tmp_path: Path, cards: dict[str, Any]) -> None:
    for landed, site, turbine in [("10", "a%20b", "T0"), ("11", "c", "__HIVE_DEFAULT_PARTITION__"), ("12", "d", "T1")]:
        folder = tmp_path / f"lake/landed_at=2024-01-02T{landed}-30-00.000000Z/site={site}/turbine={turbine}"
        folder.mkdir(parents=True)
        # A column of the file's own goes before its folder's.
        own = {"site": ["of the file"]} if site == "d" else {}
        pd.DataFrame({"time": ["2024-01-01"], "power": [5.0], **own}).to_parquet(folder / "part.parquet")
    settings = {"path": "lake/**/*.parquet", "format": "parquet", "received_at": "landed_at"}
    frame = read(tmp_path, one_farm(cards, **settings))
    assert frame["turbine_id"].fillna("").tolist() == ["T0", "", "T1"]
    assert frame["received_at"].tolist() == [f"2024-01-02T{hour}:30:00.000000+00:00" for hour in (10, 11, 12)]
    assert frame["fault"].isna().all()
    frame = read(tmp_path, one_farm(cards, **settings, turbine="site"))
    assert frame["turbine_id"].tolist() == ["a b", "c", "of the file"]


def test_names_and_columns_from_outside_backdate_no_batch(tmp_path: Path, cards: dict[str, Any]) -> None:
    folder = tmp_path / "drop/landed_at=2024-01-02T10-30-00.000000Z/landed_at=2015-01-01T00-00-00.000000Z"
    folder.mkdir(parents=True)
    write(folder / "hill.csv", ["time,turbine,power,landed_at", "2024-01-01,T0,5,2015-01-01T00:00:00Z"])
    frame = read(tmp_path, one_farm(cards, path="drop/**/*.csv", received_at="landed_at"))
    assert frame["received_at"].tolist() == ["2024-01-02T10:30:00.000000+00:00"]


def test_parquet_is_text_too(tmp_path: Path, cards: dict[str, Any]) -> None:
    stamps = pd.Series(pd.to_datetime(["2024-03-31T01:00:00Z", None]))
    columns = {"time": stamps, "local": stamps.dt.tz_localize(None), "turbine": "T0", "power": [1.5, float("nan")]}
    pd.DataFrame(columns).to_parquet(tmp_path / "hill.parquet")
    frame = read(tmp_path, one_farm(cards, path="hill.parquet", format="parquet", received_at="local"))
    assert frame["timestamp"][0] == "2024-03-31T01:00:00.000000+00:00"
    assert frame["received_at"][0] == "2024-03-31 01:00:00"
    assert frame["timestamp"].isna().tolist() == [False, True]
    assert frame["power_kw"][0] == "1.5"
    assert frame["source_row"].tolist() == [1, 2]


def broken(tmp_path: Path, defect: str) -> dict[str, Any]:  # noqa: PLR0911 - one return a defect
    """Write a spoilt file; return what its card says."""
    path = tmp_path / "hill.csv"
    lines = [LINES[0], *(f"2024-01-01T00:00:00,T0,{number}" for number in range(5000))]
    match defect:
        case "missing":
            return {}
        case "no match":
            return {"path": "hill_*.csv"}
        case "empty":
            path.touch()
        case "nothing inside":
            (tmp_path / "hill.csv.gz").write_bytes(gzip.compress(b""))
            return {"path": "hill.csv.gz"}
        case "header only":
            write(path, LINES[:1])
        case "separator":
            write(path, [line.replace(",", ";") for line in LINES])
        case "encoding":
            write(path, [*lines, "2024-01-01,Höhe,1"], "latin-1")
        case "column":
            write(path, ["time,turbine,energy", *LINES[1:]])
        case "breaks off" | "flipped" | "not gzip":
            whole = write(tmp_path / "hill.csv.gz", lines).read_bytes()
            spoilt = {
                "breaks off": whole[: len(whole) // 2],
                "flipped": whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 255]) + whole[len(whole) // 2 + 1 :],
                "not gzip": "\n".join(lines).encode(),
            }
            (tmp_path / "hill.csv.gz").write_bytes(spoilt[defect])
            return {"path": "hill.csv.gz"}
        case "parquet":
            path.write_bytes(b"PAR1 nothing that is one PAR1")
            return {"format": "parquet"}
        case "parquet page":
            target = tmp_path / "hill.parquet"
            numbers = [str(number) for number in range(20000)]
            pd.DataFrame({"time": numbers, "turbine": numbers, "power": numbers}).to_parquet(target, compression="zstd")
            data = bytearray(target.read_bytes())
            data[4:60] = bytes([255] * 56)  # the first page's header; the file's own footer is sound
            target.write_bytes(bytes(data))
            return {"format": "parquet", "path": "hill.parquet"}
    return {}


DEFECTS = {
    "missing": "is missing; put it there",
    "no match": "matches no file",
    "empty": "is empty",
    "nothing inside": "is empty",
    "header only": "a header but no rows",
    "separator": "with separator ',' there is only one column, 'time;turbine;power'",
    "encoding": "line 5002 has text that is not utf-8",
    "column": "no column power; found are time, turbine, energy",
    "breaks off": "or soon after, the compressed data break off",
    "flipped": "fetch it again",
    "not gzip": "not a sound gzip file",
    "parquet": "not a sound Parquet file",
    "parquet page": "not a readable Parquet file",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_source_says_what_where_and_what_to_do(tmp_path: Path, cards: dict[str, Any], defect: str) -> None:
    settings = broken(tmp_path, defect)
    with pytest.raises(SourceError) as raised:
        table(tmp_path, one_farm(cards, **settings)).load()
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("farm 'hill', ")
    assert str(tmp_path) in message
    assert DEFECTS[defect] in message


def test_a_bad_farm_does_not_stop_the_others(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "shore.csv", LINES)
    frame = read(tmp_path, cards)
    hill, shore = frame[frame["farm_id"] == "hill"], frame[frame["farm_id"] == "shore"]
    assert hill["source_row"].tolist() == [0]
    assert "hill.csv: the file is missing" in hill["fault"].iloc[0]
    assert shore["source_row"].tolist() == [1, 2]
    assert shore["fault"].isna().all()


def test_no_farm_readable_names_them_all(tmp_path: Path, cards: dict[str, Any]) -> None:
    with pytest.raises(SourceError) as raised:
        table(tmp_path, cards).load()
    assert [line.split(",")[0] for line in str(raised.value).splitlines()] == ["farm 'hill'", "farm 'shore'"]


def test_tables_keep_their_contracts_and_join_with_saved_ones(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", LINES)
    write(tmp_path / "alpha.csv", ["time,run,wind", "2024-01-01,2024-01-01,5"])
    cards = one_farm(cards)
    signals, weather = table(tmp_path, cards).load(), table(tmp_path, cards, "weather").load()
    SignalsRaw().validate(signals)
    WeatherRaw().validate(weather)
    weather.table().to_parquet(tmp_path / "saved.parquet")
    saved = connect(copy.deepcopy(CONNECTION)).read_parquet(tmp_path / "saved.parquet")
    assert signals.table().inner_join(weather.table(), "farm_id").count().execute() == 2
    assert saved.count().execute() == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_lead_times_are_read_in_place_of_valid_times(tmp_path: Path, cards: dict[str, Any], suffix: str) -> None:
    write(tmp_path / "hill.csv", LINES)
    rows = pd.DataFrame({"run": pd.to_datetime(["2024-01-01", "2024-01-01"]), "hors": [1, 48], "wind": [5.0, 6.0]})
    if suffix == ".csv":
        rows.to_csv(tmp_path / "alpha.csv", index=False)
    else:
        rows.astype({"hors": "int16"}).to_parquet(tmp_path / "alpha.parquet")
    source = one_farm(cards)["farms"][0]["weather"][0]
    source |= {"path": f"alpha{suffix}", "format": suffix[1:], "valid_at": None, "lead": {"name": "hors", "unit": "h"}}
    weather = table(tmp_path, cards, "weather").load()
    WeatherRaw().validate(weather)
    found = weather.table().order_by("source_row").to_pandas()
    assert found["lead"].astype(float).tolist() == [1.0, 48.0]
    assert found["valid_at"].isna().all()
    assert found["wind_speed_100m_ms"].astype(float).tolist() == [5.0, 6.0]


def test_farms_without_weather_have_a_table_of_it_all_the_same(tmp_path: Path, cards: dict[str, Any]) -> None:
    cards["farms"] = [farm | {"weather": []} for farm in cards["farms"]]
    weather = table(tmp_path, cards, "weather").load()
    WeatherRaw().validate(weather)
    assert weather.table().count().execute() == 0


def test_it_is_read_only_and_leaves_it_to_loading_to_say_what_is_missing(tmp_path: Path, cards: dict[str, Any]) -> None:
    dataset = table(tmp_path, cards)
    assert dataset.exists()
    with pytest.raises(DatasetError, match=r"hill\.csv: the file is missing"):
        dataset.load()
    with pytest.raises(DatasetError, match="read-only"):
        dataset.save(cards)
    with pytest.raises(DatasetError, match="neither signals nor weather"):
        SourceTable(kind="meters", root=str(tmp_path), farms=[])  # type: ignore[arg-type]


class TestUnits:
    """The rows of some files without the others."""

    @pytest.fixture
    def load(self, tmp_path: Path, cards: dict[str, Any]) -> Callable[..., SourceRows]:
        def load(**signals: Any) -> SourceRows:
            farms = one_farm(copy.deepcopy(cards), path="hill_*.csv", **signals)["farms"]
            kept = str(tmp_path / "kept")
            found = SourceTable(kind="signals", root=str(tmp_path), farms=farms, connection=CONNECTION, kept=kept).load()
            return found

        return load

    def test_a_unit_is_a_file_and_its_fingerprint_follows_content_and_card(
        self, tmp_path: Path, load: Callable[..., SourceRows]
    ) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        write(tmp_path / "hill_2.csv", LINES[:2])
        first = load().units.sort_values("rows", ignore_index=True)
        assert first["rows"].tolist() == [1, 2]
        assert first["farm_id"].unique().tolist() == ["hill"]
        pd.testing.assert_frame_equal(load().units.sort_values("rows", ignore_index=True), first)
        write(tmp_path / "hill_2.csv", [*LINES, "2024-01-01T00:20:00+01:00,T0,3.5"])
        changed = load().units.merge(first, on="unit", suffixes=("", "_before")).set_index("rows")
        assert (changed["fingerprint"] != changed["fingerprint_before"]).to_dict() == {2: False, 3: True}
        other = load(thousands=" ").units.merge(first, on="unit", suffixes=("", "_before"))
        assert (other["fingerprint"] != other["fingerprint_before"]).tolist() == [True, True]

    def test_rows_of_one_unit_are_read_alone(self, tmp_path: Path, load: Callable[..., SourceRows]) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        write(tmp_path / "hill_2.csv", LINES[:2])
        found = load()
        every = found.table().to_pandas()
        counts = every.groupby("unit").size()
        assert counts.to_dict() == found.units.set_index("unit")["rows"].to_dict()
        own = found.table(found.units[found.units["rows"] == 1]).to_pandas()
        assert own["source_file"].tolist() == ["hill_2.csv"]
        assert found.table(found.units.iloc[:0]).count().execute() == 0
        assert found.table(found.units.iloc[:0]).schema().equals(found.table().schema())

    def test_a_file_that_cannot_be_read_is_a_unit_without_rows(self, tmp_path: Path, load: Callable[..., SourceRows]) -> None:
        write(tmp_path / "hill_1.csv", LINES)
        write(tmp_path / "hill_2.csv", ["time,turbine", "2024-01-01,T0"])
        first = load()
        assert sorted(first.units["rows"]) == [0, 2]
        assert first.table(first.units[first.units["rows"] == 0]).to_pandas()["source_row"].tolist() == [0]
        pd.testing.assert_frame_equal(load().units, first.units)  # the same fault again
