"""Thirty hostile cases of the fuzz suite (`make fuzz`), and the judge of them: a judge that cannot fail proves nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
#: Class and number, spread over the classes and quick; farms with hostile files share a run.
CASES = [
    # text: every power cell an error, words in cells, stamps of other centuries, an unclosed quote, newlines of every kind,
    # lone carriage returns, a header twice, UTF-16 big endian, zeros behind a gzip, a truncated gzip, names that are patterns
    ("signals_text", 0), ("signals_text", 2), ("signals_text", 11), ("signals_text", 22), ("signals_text", 23),
    ("signals_text", 30), ("signals_text", 41), ("signals_text", 54), ("signals_text", 70), ("signals_text", 74),
    ("signals_text", 82), ("signals_text", 85),
    ("signals_tables", 8), ("signals_tables", 24), ("signals_tables", 33), ("signals_tables", 41),
    ("weather", 1), ("weather", 17), ("weather", 30),
    ("cards", 1), ("cards", 34), ("cards", 44), ("cards", 51), ("cards", 55), ("cards", 62),
    ("payloads", 0), ("payloads", 34),
    ("cli", 0), ("cli", 4), ("cli", 15),
]  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], tuple[str, str]]:
    """What became of the cases: they run in one process, which imports once and forks for each."""
    found = tmp_path_factory.mktemp("fuzz") / "verdicts.json"
    words = ["--only", ",".join(f"{kind}:{number}" for kind, number in CASES), "--json", str(found), "--batch", "12"]
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert found.exists(), done.stdout + done.stderr
    return {(kind, number): (verdict, why) for kind, number, _, verdict, why in json.loads(found.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_a_hostile_case_ends_as_it_should(verdicts: dict[tuple[str, int], tuple[str, str]], kind: str, number: int) -> None:
    verdict, why = verdicts[kind, number]
    assert verdict in {"right", "clear_error"}, why


# --- the judge -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[Any]:
    """The modules of the suite, by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))


AT = pd.date_range("2024-01-20", periods=4, freq="15min", tz="UTC")


@pytest.fixture
def export(fuzzing: Any) -> Any:
    """A farm whose file has four rows, of which the last must be set aside."""
    exports = fuzzing("fuzzing.exports")
    records = [exports.Record("S1", at, {"power_kw": 100.0 + place}, {}) for place, at in enumerate(AT)]
    records[-1].fate = "aside"
    return exports.Export("h", {"signals": {}}, "table", records, np.random.default_rng(0))


@pytest.fixture
def right() -> dict[str, pd.DataFrame]:
    """The tables of a run that did with them as it should."""
    counts = {"rows_in": 4, "kept": 3, "superseded": 0, "duplicate": 0, "quarantined": 1}
    quality = [("h", "signals", check, "row", count, 4, "") for check, count in counts.items()]
    names = ["farm_id", "source_table", "check", "signal", "count", "of", "message"]
    return {
        "signals": pd.DataFrame({"farm_id": "h", "turbine_id": "S1", "valid_at": AT[:3], "power_kw": [100.0, 101.0, 102.0]}),
        "quarantine": pd.DataFrame({"farm_id": ["h"], "source_table": "signals", "source_row": 4, "reason": "unparseable"}),
        "data_quality": pd.DataFrame(quality, columns=names),
    }


def _judge(fuzzing: Any, export: Any, tables: dict[str, pd.DataFrame], code: int = 0, stderr: str = "") -> str:
    ended = fuzzing("fuzzing.project").Ended(code, "", stderr, 1.0)
    verdict: str = fuzzing("fuzzing.oracle").judge_rows(export, ended, tables, alone=True).verdict
    return verdict


def test_all_rows_accounted_for_is_right(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame]) -> None:
    assert _judge(fuzzing, export, right) == "right"


def test_a_row_that_is_nowhere_is_lost(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame]) -> None:
    right["data_quality"].loc[right["data_quality"]["check"] == "quarantined", "count"] = 0
    right["quarantine"] = right["quarantine"].iloc[:0]
    assert _judge(fuzzing, export, right) == "lost"


def test_fewer_rows_than_were_written_are_lost(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame]) -> None:
    right["data_quality"].loc[:, "of"] = 3
    right["data_quality"].loc[right["data_quality"]["check"] == "quarantined", "count"] = 0
    right["quarantine"] = right["quarantine"].iloc[:0]
    assert _judge(fuzzing, export, right) == "lost"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda table: table.assign(power_kw=[100.0, 10.0, 102.0]), id="another value"),
        pytest.param(lambda table: table.assign(valid_at=AT[[0, 1, 3]]), id="the row that must be set aside"),
        pytest.param(lambda table: table.assign(turbine_id=["S1", "S1", "S2"]), id="a row that nobody wrote"),
        pytest.param(lambda table: table.iloc[:2], id="a sound row set aside"),
    ],
)
def test_values_that_were_not_written_are_wrong(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame], change: Any) -> None:
    right["signals"] = change(right["signals"])
    assert _judge(fuzzing, export, right) == "wrong"


def test_a_value_that_is_missing_without_a_reason_is_lost(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame]) -> None:
    right["signals"].loc[1, "power_kw"] = float("nan")
    assert _judge(fuzzing, export, right) == "lost"


def _refused(tables: dict[str, pd.DataFrame], message: str) -> None:
    row = ["h", "signals", "source_unreadable", "row", 1, 1, message]
    tables["data_quality"] = pd.DataFrame([row], columns=tables["data_quality"].columns)
    tables["signals"], tables["quarantine"] = tables["signals"].iloc[:0], tables["quarantine"].iloc[:0]


@pytest.mark.parametrize(
    ("message", "code", "expected"),
    [
        pytest.param("farm 'h', h/signals.csv: broken; fetch it again", 1, "clear_error", id="clear"),
        pytest.param("farm 'h', h/signals.csv: broken; fetch it again", 0, "wrong", id="exit code 0"),
        pytest.param("farm 'h': broken; fetch it again", 1, "traceback", id="names no file"),
        pytest.param("farm 'h', h/signals.csv: broken\nfetch it again", 1, "traceback", id="two lines"),
    ],
)
def test_a_refusal_is_one_clear_line(
    fuzzing: Any, export: Any, right: dict[str, pd.DataFrame], message: str, code: int, expected: str
) -> None:
    _refused(right, message)
    assert _judge(fuzzing, export, right, code, f"Error: {message}\n" if code else "") == expected


def test_a_file_that_must_be_refused_is_wrong_if_it_is_read(fuzzing: Any, export: Any, right: dict[str, pd.DataFrame]) -> None:
    export.refuse = "must"
    assert _judge(fuzzing, export, right) == "wrong"


@pytest.mark.parametrize(
    ("code", "stderr", "killed", "expected"),
    [
        pytest.param(0, "", "", [], id="well"),
        pytest.param(1, "Error: conf/farms.yml: no\n", "", [], id="refused"),
        pytest.param(1, "Traceback (most recent call last):\n  File x\nValueError: no\n", "", ["traceback"], id="stack"),
        pytest.param(1, "no\n", "", ["traceback"], id="no error's line"),
        pytest.param(1, f"Error: {'x' * 5000}\n", "", ["traceback"], id="endless line"),
        pytest.param(1, "Error: a\x1b[31m\n", "", ["traceback"], id="control characters"),
        pytest.param(-11, "", "", ["traceback"], id="crash"),
        pytest.param(None, "", "time", ["stops_others"], id="hang"),
        pytest.param(None, "", "memory", ["stops_others"], id="memory"),
    ],
)
def test_how_a_command_ends(fuzzing: Any, code: int | None, stderr: str, killed: str, expected: list[str]) -> None:
    ended = fuzzing("fuzzing.project").Ended(code, "", stderr, 1.0, killed)
    assert [fault.verdict for fault in fuzzing("fuzzing.oracle").faults_of_the_end(ended)] == expected


def test_another_farm_that_changes_is_stopped(fuzzing: Any) -> None:
    before = {"observations": pd.DataFrame({"entity_id": ["a", "h"], "power_kw": [1.0, 2.0]})}
    changed = fuzzing("fuzzing.oracle").others_changed
    other = {"observations": pd.DataFrame({"entity_id": ["a", "h"], "power_kw": [1.0, 9.0]})}
    assert changed(before, other, {"h"}, ("observations",)) == []
    assert [fault.verdict for fault in changed(before, other, set(), ("observations",))] == ["stops_others"]
    assert [fault.verdict for fault in changed(before, {}, {"h"}, ("observations",))] == ["stops_others"]


# --- the record ------------------------------------------------------------------------------------------------------


def test_only_what_was_measured_is_written_over(fuzzing: Any, tmp_path: Path) -> None:
    fuzz = fuzzing("fuzz")
    columns = ["class", "tried", *fuzz.VERDICTS, "seed"]
    both = pd.DataFrame([["cards", 10, 10, 0, 0, 0, 0, 0, 1], ["cli", 5, 5, 0, 0, 0, 0, 0, 1]], columns=columns)
    path = fuzz.write_down(both, tmp_path)
    fuzz.write_down(pd.DataFrame([["cli", 6, 5, 1, 0, 0, 0, 0, 1]], columns=columns), tmp_path)
    fuzz.write_down(pd.DataFrame([["cli", 7, 7, 0, 0, 0, 0, 0, 2]], columns=columns), tmp_path)
    rows = pd.read_csv(path).set_index(["class", "seed"])["tried"].to_dict()
    assert rows == {("cards", 1): 10, ("cli", 1): 6, ("cli", 2): 7}


def test_cases_are_made_of_class_number_and_seed_alone(fuzzing: Any) -> None:
    draws = fuzzing("fuzzing.cases").generator
    assert draws("cli", 3, 7).random(5).tolist() == draws("cli", 3, 7).random(5).tolist()
    others = [("cli", 4, 7), ("cli", 3, 8), ("cards", 3, 7)]
    assert all(draws(*one).random() != draws("cli", 3, 7).random() for one in others)
