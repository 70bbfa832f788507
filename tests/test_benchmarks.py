"""The judges of the proofs: a proof that cannot fail proves nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts as they import one another when they are run: from their own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        loaded = {}
        for name in ("record", "bench_start", "proof_start"):
            spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded
    finally:
        sys.path.remove(str(BENCHMARKS))


def _proof(**changes: dict[int, float]) -> pd.DataFrame:
    """Errors by hour of lead time 1…8 where the claim holds; ``changes`` overrides single hours of a model."""
    hours = np.arange(1, 9)
    table = pd.DataFrame(
        {
            "product_id": "intraday",
            "entity_id": "farm",
            "lead_hours": hours,
            "climatology": 0.2,
            "persistence": np.where(hours < 6, 0.01, 0.15),
            "power_curve": 0.08,
            "catboost": 0.06,
        }
    )
    for model, values in changes.items():
        for hour, value in values.items():
            table.loc[table["lead_hours"] == hour, model] = value
    return table


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="holds, though persistence wins the first hours"),
        pytest.param({"climatology": {3: 0.05}}, ["climatology at 3 h"], id="climatology wins once"),
        pytest.param(
            {"power_curve": {1: 0.05, 8: 0.05}}, ["power_curve at 1, 8 h"], id="power curve wins first and last"
        ),
        pytest.param({"persistence": {6: 0.05}}, ["persistence at 6 h"], id="persistence wins at six hours"),
        pytest.param({"persistence": {5: 0.05}}, [], id="persistence may win at five"),
        pytest.param({"power_curve": {2: 0.06}}, ["power_curve at 2 h"], id="a draw is no win"),
        pytest.param(
            {"catboost": {7: np.nan}},
            ["climatology at 7 h", "power_curve at 7 h", "persistence at 7 h"],
            id="no score is no win",
        ),
    ],
)
def test_the_claim_is_judged(
    scripts: dict[str, ModuleType], changes: dict[str, dict[int, float]], expected: list[str]
) -> None:
    lines = scripts["proof_start"].failures(_proof(**changes))
    assert [line.partition("does not beat ")[2] for line in lines] == expected


def test_nothing_scored_proves_nothing(scripts: dict[str, ModuleType]) -> None:
    assert scripts["proof_start"].failures(_proof().iloc[:0]) == ["nothing was scored"]


def _bench(scripts: dict[str, ModuleType], **changes: float) -> pd.DataFrame:
    good = {"install": 100.0, "first": 90.0, "test": 40.0, "ours": 3.0, "empty": 2.7}
    memory = changes.pop("memory", 2000.0)
    values = good | changes
    again = scripts["bench_start"].Measured(seconds=80.0, peak_mb=memory)
    table: pd.DataFrame = scripts["bench_start"].bench_table(again=again, **values)
    return table


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="every bar is met"),
        pytest.param({"install": 181.0}, ["install: 181 s, bar 180"], id="slow install"),
        pytest.param({"first": 501.0}, ["first_run: 601 s, bar 600"], id="installing counts in the first run"),
        pytest.param({"memory": 3001.0}, ["second_run_peak_memory: 3001 MB, bar 3000"], id="too much memory"),
        pytest.param(
            {"memory": float("nan")}, ["second_run_peak_memory: nan MB, bar 3000"], id="what is not measured is not met"
        ),
        pytest.param({"ours": 3.3}, ["registry_list_added_by_us: 0.6 s, bar 0.5"], id="slow imports"),
        pytest.param({"test": 60.0}, [], id="a bar is met by its own value"),
    ],
)
def test_bars_are_judged(scripts: dict[str, ModuleType], changes: dict[str, float], expected: list[str]) -> None:
    assert scripts["bench_start"].missed(_bench(scripts, **changes)) == expected


def test_a_command_is_measured_with_its_children(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    # The child of a child holds 60 MB, as a worker process does.
    grandchild = "import time; held = b'x' * 60_000_000; time.sleep(1.2)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)"
    measured = scripts["bench_start"].measure([sys.executable, "-c", child], tmp_path, dict(os.environ))
    assert measured.seconds > 1.2
    if Path("/proc/self/stat").is_file():
        assert 60 < measured.peak_mb < 400


def test_a_failed_command_is_no_measurement(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(scripts["bench_start"].CommandFailedError, match="no such farm"):
        scripts["bench_start"].measure(["sh", "-c", "echo no such farm; exit 3"], tmp_path, dict(os.environ))


def test_a_result_says_where_it_was_measured(
    scripts: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame({"name": ["install"], "value": [1.5], "bar": [None]})
    path = scripts["record"].record("some-name", table, tmp_path)
    written = pd.read_csv(path)
    assert path == tmp_path / "some-name.csv"
    assert list(written.columns) == ["name", "value", "bar", "commit", "date", "cores", "python"]
    assert written["value"].tolist() == [1.5]
    assert written["cores"].iloc[0] >= 1
    assert "install" in capsys.readouterr().out


def test_a_commit_is_marked_when_code_changed_but_not_when_results_did(
    scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    commit = scripts["record"].commit
    assert commit(tmp_path) == "none"
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "x.csv").write_text("1")
    (tmp_path / "code.py").write_text("1")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    clean = commit(tmp_path)
    assert len(clean) == 12
    (results / "x.csv").write_text("2")
    assert commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert commit(tmp_path) == f"{clean} (changed since)"
