"""Exports of any dress become the same rows, once their card says how they are dressed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openpyxl import Workbook
from pydantic import ValidationError

from wind_kedro.cards import Farm
from wind_kedro.readers.source_table import SourceError, SourceTable

# Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]


def read(root: Path, cards: dict[str, Any], **signals: Any) -> pd.DataFrame:
    farm = cards["farms"][0]
    farm["signals"] |= signals
    farm["signals"] = {key: value for key, value in farm["signals"].items() if value is not None}
    table = SourceTable(kind="signals", root=str(root), farms=[farm], connection={"backend": "duckdb", "database": ":memory:"})
    frame: pd.DataFrame = table.load().table().to_pandas()
    return frame.sort_values(["source_file", "source_row"], ignore_index=True)


def write(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\r\n".join([*lines, ""]).encode(encoding))


def columns(power: str = "power", **others: str) -> dict[str, Any]:
    return {"power_kw": {"name": power, "unit": "kW"}} | {key: {"name": name, "unit": "m/s"} for key, name in others.items()}


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("1.234,5", {"decimal": ",", "thousands": "."}, "1234.5"),
        ("1,5", {"decimal": ","}, "1.5"),
        ("-0,25", {"decimal": ","}, "-0.25"),
        ("1 234,5", {"decimal": ",", "thousands": " "}, "1234.5"),
        ("1,234.5", {"thousands": ","}, "1234.5"),
        ("1.234", {"decimal": ","}, '"1.234"'),  # a point where the card knows none: no number
        ("12.34,5", {"decimal": ",", "thousands": "."}, "12.34,5"),
        ("n/a", {"decimal": ","}, "n/a"),
    ],
)
def test_numbers_are_read_as_the_card_says_or_not_at_all(
    tmp_path: Path, cards: dict[str, Any], text: str, settings: dict[str, str], expected: str
) -> None:
    write(tmp_path / "hill.csv", "time;turbine;power", f"2024-01-01;T0;{text}")
    assert read(tmp_path, cards, separator=";", **settings)["power_kw"].tolist() == [expected]


@pytest.mark.parametrize(
    ("text", "stamp_format", "expected"),
    [
        ("31.12.2023 23:50", "%d.%m.%Y %H:%M", "2023-12-31T23:50:00.000000"),
        ("12/31/2023 1:05:00 PM", "%m/%d/%Y %I:%M:%S %p", "2023-12-31T13:05:00.000000"),
        ("12/31/2023 1:05 p. m.", "%m/%d/%Y %I:%M %p", "2023-12-31T13:05:00.000000"),
        ("31.12.2023 24:00", "%d.%m.%Y %H:%M", "2024-01-01T00:00:00.000000"),
        ("31.12.2023 23:50 CET", "%d.%m.%Y %H:%M", "2023-12-31T23:50:00.000000+01:00"),
        ("31-12-2023 23:50+0200", "%d-%m-%Y %H:%M", "2023-12-31T23:50:00.000000+0200"),
        ("2023-12-31T24:00:00Z", None, "2024-01-01T00:00:00Z"),
        ("2024-01-24T00:24:00Z", None, "2024-01-24T00:24:00Z"),
        ("1704067200", "epoch_seconds", "2024-01-01T00:00:00.000000+00:00"),
        ("1e300", "epoch_seconds", "1e300"),
        ("999999999999999999", "epoch_seconds", "999999999999999999"),
        ("1e300", "excel", "1e300"),
        ("1704067200500", "epoch_milliseconds", "2024-01-01T00:00:00.500000+00:00"),
        ("45292.25", "excel", "2024-01-01T06:00:00.000000"),
        ("2023/31/12", "%d.%m.%Y %H:%M", "2023/31/12"),  # stays, and is a bad stamp
    ],
)
def test_stamps_become_iso_or_stay_as_they_came(
    tmp_path: Path, cards: dict[str, Any], text: str, stamp_format: str | None, expected: str
) -> None:
    write(tmp_path / "hill.csv", "time,turbine,power", f"{text},T0,1")
    assert read(tmp_path, cards, stamp_format=stamp_format)["timestamp"].tolist() == [expected]


def test_titles_units_comments_and_footers_are_no_rows(tmp_path: Path, cards: dict[str, Any]) -> None:
    lines = [
        "Bericht für Höhe €",
        "",
        "Datum;Zeit;turbine;power",
        ";;;kW",
        "01.02.2024;00:10;T0;1",
        "# note",
        "01.02.2024;00:20;T0;2",
        "Summe;;;3",
    ]
    write(tmp_path / "hill.csv", *lines, encoding="cp1252")
    frame = read(
        tmp_path, cards, separator=";", encoding="cp1252", skip_rows=2, units_rows=1, comment="#", footer_rows=1,
        timestamp=["Datum", "Zeit"], stamp_format="%d.%m.%Y %H:%M",
    )  # fmt: skip
    assert frame["source_row"].tolist() == [2, 4]
    assert frame["timestamp"].tolist() == ["2024-02-01T00:10:00.000000", "2024-02-01T00:20:00.000000"]
    assert frame["fault"].isna().all()


@pytest.mark.parametrize(
    ("encoding", "word"), [("cp1252", "Höhe"), ("cp1252", "Höhe €"), ("cp1250", "Průměr"), ("cp1250", "Prędkość")]
)
def test_code_pages_are_read_whichever_letters_are_in_them(
    tmp_path: Path, cards: dict[str, Any], encoding: str, word: str
) -> None:
    write(
        tmp_path / "hill.csv",
        f"time,turbine,{word}",
        f"2024-01-01,{word},1",
        f'2024-01-02,"{word},2",2',
        encoding=encoding,
    )
    frame = read(tmp_path, cards, encoding=encoding, columns=columns(word))
    assert frame["turbine_id"].tolist() == [word, f"{word},2"]
    assert frame["power_kw"].tolist() == ["1", "2"]
    assert frame["source_row"].tolist() == [1, 2]


def test_a_wide_export_is_a_row_per_turbine(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "hill.csv", "time,T0_P,T1_P,T2_P", "2024-01-01,1,2,3", "2024-01-02,4,5")
    frame = read(tmp_path, cards, layout="wide", turbine=None, columns=columns("{turbine}_P"))
    sound = frame[frame["fault"].isna()]
    assert dict(zip(sound["turbine_id"], sound["power_kw"], strict=True)) == {"T0": "1", "T1": "2", "T2": "3"}
    assert sound["source_file"].tolist() == ["hill.csv#T0", "hill.csv#T1", "hill.csv#T2"]
    assert frame["fault"].notna().sum() == 1


def test_a_late_part_of_a_long_row_completes_it(tmp_path: Path, cards: dict[str, Any]) -> None:
    head = "time,turbine,tag,value,quality"
    for folder, lines in {
        "landed_at=2024-01-01T00-11-00.000000Z": ["2024-01-01,T0,P,1,Good", "2024-01-01,T0,W,9,Bad"],
        "landed_at=2024-01-01T01-00-00.000000Z": ["2024-01-01,T0,W,5,Good", "2024-01-01,T0,other,5,Good"],
        ".aside-1": ["2024-01-01,T0,P,99,Good"],
    }.items():
        write(tmp_path / "feed" / folder / "part.csv", head, *lines)
    frame = read(
        tmp_path, cards, path="feed/*/part.csv", layout="long", signal="tag", value="value",
        quality="quality", good_quality=["Good"], received_at="landed_at", columns=columns("P", wind_speed_ms="W"),
    )  # fmt: skip
    assert frame["power_kw"].tolist() == ["1", "1"]
    assert frame["wind_speed_ms"].fillna("").tolist() == ["", "5"]
    assert frame["received_at"].tolist() == ["2024-01-01T00:11:00.000000+00:00", "2024-01-01T01:00:00.000000+00:00"]


def test_a_value_that_came_twice_makes_a_second_row(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(
        tmp_path / "hill.csv",
        "time,tag,value",
        "2024-01-01,T0.P,1",
        "2024-01-01,T0.W,5",
        "2024-01-01,T0.P,2",
        "2024-01-01,T1.P,8",
    )
    frame = read(
        tmp_path,
        cards,
        layout="long",
        signal="tag",
        value="value",
        turbine=None,
        columns=columns("{turbine}.P", wind_speed_ms="{turbine}.W"),
    )
    assert frame[["turbine_id", "power_kw", "source_row"]].to_numpy().tolist() == [
        ["T0", "1", 2],
        ["T0", "2", 3],
        ["T1", "8", 4],
    ]
    assert frame["wind_speed_ms"].fillna("").tolist() == ["5", "5", ""]


def test_one_file_per_turbine(tmp_path: Path, cards: dict[str, Any]) -> None:
    for one in ("T0", "T1"):
        write(tmp_path / f"WTG_{one}_2024.csv", "time,power", "2024-01-01,1")
    frame = read(tmp_path, cards, path="WTG_*.csv", turbine=None, turbine_in_file="WTG_{turbine}_*.csv")
    assert frame["turbine_id"].tolist() == ["T0", "T1"]


def test_a_sheet_of_a_workbook(tmp_path: Path, cards: dict[str, Any]) -> None:
    book = Workbook()
    sheet = book.create_sheet("Data")
    for row in (
        ["Report"],
        ["time", "turbine", "power"],
        ["", "", "kW"],
        [pd.Timestamp("2024-01-01 00:10").to_pydatetime(), "T0", 1.5],
    ):
        sheet.append(row)
    book.save(tmp_path / "hill.xlsx")
    frame = read(tmp_path, cards, path="hill.xlsx", format="excel", sheet="Data", skip_rows=1, units_rows=1)
    assert frame[["timestamp", "turbine_id", "power_kw", "source_row"]].to_numpy().tolist() == [
        ["2024-01-01T00:10:00", "T0", "1.5", 2]
    ]
    with pytest.raises(SourceError, match="no sheet 'Other'; sheets are Sheet, Data; set `sheet`"):
        read(tmp_path, cards, sheet="Other")


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ({"layout": "long"}, "needs `signal` and `value`"),
        ({"layout": "wide"}, "every name holds {turbine}"),
        ({"turbine": None}, "the card may have only one"),
        ({"turbine_in_file": "{turbine}.csv"}, "give one of turbine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_that_cannot_be_read_by_is_refused(cards: dict[str, Any], signals: dict[str, Any], message: str) -> None:
    card = cards["farms"][0]
    card["signals"] |= signals
    with pytest.raises(ValidationError, match=message):
        Farm.model_validate(card)


def test_a_wide_export_from_before_a_turbine_came_lacks_its_columns(tmp_path: Path, cards: dict[str, Any]) -> None:
    write(tmp_path / "wide/2023.csv", "time,T0_P,T1_P", "2023-01-01,1,2")
    write(tmp_path / "wide/2024.csv", "time,T0_P,T1_P,T2_P", "2024-01-01,3,4,5")
    wide = {"layout": "wide", "turbine": None, "path": "wide/*.csv", "columns": columns("{turbine}_P")}
    faults = read(tmp_path, copy.deepcopy(cards), **wide)["fault"].dropna().tolist()
    assert len(faults) == 1
    assert "2023.csv: no column T2_P" in faults[0]
    cards["farms"][0]["turbines"][2]["valid_from"] = "2024-01-01"
    cards["farms"][0]["capacity_kw"] = 2000
    frame = read(tmp_path, cards, **wide)
    assert frame["fault"].isna().all()
    assert frame[["turbine_id", "power_kw"]].to_numpy().tolist() == [
        ["T0", "1"],
        ["T1", "2"],
        ["T0", "3"],
        ["T1", "4"],
        ["T2", "5"],
    ]
