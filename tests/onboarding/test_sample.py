"""How a file is written: found from its lines, or refused with file and reason."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.onboarding import OnboardingError
from wind_kedro.onboarding.sample import files_of_export, read_sample

Export = Callable[..., Path]
ROW = b"2024-01-01,1\n"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, {"separator": ",", "skip_rows": 0, "units_rows": 0, "footer_rows": 0, "encoding": "utf-8"}, id="plain"),
        pytest.param({"separator": ";", "decimal": ","}, {"separator": ";"}, id="semicolons around decimal commas"),
        pytest.param({"above": ["Report", ""]}, {"skip_rows": 2}, id="a title"),
        pytest.param({"between": [",,kW,m/s,deg,degC"]}, {"units_rows": 1}, id="a row of units"),
        pytest.param({"below": ["End"]}, {"footer_rows": 1}, id="a footer"),
        pytest.param({"below": ["Sum,,1,2,3,4"]}, {"footer_rows": 1}, id="sums as wide as the rows"),
        pytest.param({"encoding": "utf-8-sig"}, {"encoding": "utf-8"}, id="a byte order mark"),
        pytest.param({"encoding": "utf-16"}, {"encoding": "utf-16"}, id="two bytes a letter"),
    ],
)
def test_the_writing_is_proven(
    signals: pd.DataFrame,
    header: dict[str, str],
    write: Export,
    settings: dict[str, object],
    expected: dict[str, object],
) -> None:
    sample = read_sample([write(signals, header, **settings)], {})
    for field, value in expected.items():
        assert (sample.findings.value(f"signals.{field}"), sample.findings.is_proven(f"signals.{field}")) == (
            value,
            True,
        )
    assert sample.header == list(header.values())
    assert sum(map(len, sample.blocks)) == len(signals)


@pytest.mark.parametrize(("encoding", "wind"), [("cp1252", "Windgeschwindigkeit Böe"), ("cp1250", "Prędkość wiatru")])
def test_the_code_page_is_the_one_whose_words_make_sense(
    signals: pd.DataFrame, header: dict[str, str], write: Export, encoding: str, wind: str
) -> None:
    sample = read_sample([write(signals, header | {"wind": wind}, encoding=encoding)], {})
    assert sample.findings.value("signals.encoding") == encoding
    assert wind in sample.header


def test_an_encoding_that_is_not_known_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "gbk.csv"
    path.write_bytes("时间,功率\n".encode("gbk") + b"2024-01-01 00:00,1.5\n2024-01-01 00:10,2.5\n")
    assert not read_sample([path], {}).findings.is_proven("signals.encoding")


def test_a_header_may_be_the_last_remark(signals: pd.DataFrame, header: dict[str, str], write: Export) -> None:
    sample = read_sample([write(signals, header | {"at": "# Time"}, above=["# Made by hand", "#"])], {})
    assert sample.findings.value("signals.skip_rows") == 2
    assert sample.header[0] == "# Time"


def test_of_a_large_file_some_stretches_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wind_kedro.onboarding.sample._WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr("wind_kedro.onboarding.sample._BLOCK_BYTES", 1 << 16)
    path = tmp_path / "large.csv"
    lines = "".join(f"2024-01-01 00:00:{second:02},T1,{second * 7.25}\n" for second in range(60))
    path.write_text("Time,Turbine,Power\n" + lines * 900, encoding="utf-8")
    packed = tmp_path / "large.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
    for one in (path, packed):
        sample = read_sample([one], {})
        assert not sample.whole
        assert len(sample.blocks) > 3
        assert 1_000 < sum(map(len, sample.blocks)) < 54_000
        assert all(len(row) == 3 for block in sample.blocks for row in block)


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert [path.name for path in files_of_export([tmp_path])] == ["a.csv", "b.csv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no such file"),
        ("empty.csv", b"", "the file is empty"),
        ("all.zip", b"PK", "an archive; unpack it"),
        ("words.csv", b"one\ntwo\nthree\n", "none of the separators"),
        ("bare.csv", b"2024-01-01 00:00,1.5\n2024-01-01 00:10,2.5\n", "add a header to the export"),
        ("broken.csv.gz", b"\x1f\x8b\x08rubbish", "not a sound gzip file"),
        ("book.xlsx", b"no workbook", "not a readable workbook"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OnboardingError, match=message) as error:
        read_sample([path], {})
    assert name in str(error.value)


def test_files_of_two_kinds_are_refused(tmp_path: Path) -> None:
    for name, column in (("a.csv", "Power"), ("b.csv", "Leistung")):
        (tmp_path / name).write_text(f"Time,{column}\n2024-01-01 00:00,1.5\n2024-01-01 00:10,2.5\n", encoding="utf-8")
    with pytest.raises(OnboardingError, match=r"b\.csv: its columns differ from those of a\.csv"):
        read_sample([tmp_path / "a.csv", tmp_path / "b.csv"], {})


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("bomb.csv.gz", gzip.compress(b"time,power\n" + bytes(80 << 20), mtime=0), "times as many"),
        ("cut.csv.gz", gzip.compress(b"time,power\n1,2\n", mtime=0)[:-9], "break off"),
        ("long.csv", b"time,power\n" + b"1" * 200_000 + b",2\n", "a line has 200,002 characters"),
        ("open.csv", b"time,power\n" + ROW * 3000 + b'"' + ROW * 20_000, "unterminated quoted value"),
        ("false.xlsx", b"PK\x03\x04 nothing", "not a sound zip archive"),
        ("false.parquet", b"PAR1 nothing PAR1", "not a sound Parquet file"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(OnboardingError, match=words) as raised:
        read_sample([tmp_path / name], {})
    assert str(raised.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(raised.value)
