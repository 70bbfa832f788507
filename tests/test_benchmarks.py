"""The judges of the proofs: a proof that cannot fail proves nothing."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.models.ensembles.blend import BlendParameters
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.onboarding import Findings
from wind_kedro.postprocessing.settings import Calibration

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts as they import one another when they are run: from their own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        loaded = {}
        for name in (
            "record",
            "bench_start",
            "proof_start",
            "exports",
            "proof_onboarding",
            "gefcom2014",
            "gefcom2012",
            "proof_readiness",
            "proof_gate",
            "ablation",
            "bench_peer",
            "proof_portfolio",
            "costs",
        ):
            spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded
    finally:
        sys.path.remove(str(BENCHMARKS))


def missing_names(source: str) -> list[str]:
    """What a script takes from the package by name, and is not there: imported names, and attributes of imported modules."""
    tree, modules, missing = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wind_kedro"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                try:
                    found = getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                except ImportError:
                    missing.append(f"{node.module}.{alias.name}")
                else:
                    modules |= {alias.asname or alias.name: found} if isinstance(found, ModuleType) else {}
    return missing + [
        f"{modules[node.value.id].__name__}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
        and not hasattr(modules[node.value.id], node.attr)
    ]


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.name)
def test_a_script_takes_from_the_package_what_is_there(path: Path) -> None:
    assert not missing_names(path.read_text(encoding="utf-8"))


def test_a_name_that_left_the_package_is_found() -> None:
    source = "from wind_kedro.datasets import SourceTable\nfrom wind_kedro import clock\nclock.Clock, clock.Watch"
    assert missing_names(source) == ["wind_kedro.datasets.SourceTable", "wind_kedro.clock.Watch"]


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
        pytest.param({"power_curve": {1: 0.05, 8: 0.05}}, ["power_curve at 1, 8 h"], id="power curve wins first and last"),
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
def test_the_claim_is_judged(scripts: dict[str, ModuleType], changes: dict[str, dict[int, float]], expected: list[str]) -> None:
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


def test_a_commit_is_marked_when_code_changed_but_not_when_results_did(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
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


# --- GEFCom2014 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tasks"), [("4-9", [4, 5, 6, 7, 8, 9]), ("7", [7]), ("9,1-2", [1, 2, 9]), ("10-15", list(range(10, 16)))]
)
def test_tasks_are_read(scripts: dict[str, ModuleType], text: str, tasks: list[int]) -> None:
    assert scripts["gefcom2014"].parse_tasks(text) == tasks


@pytest.mark.parametrize("text", ["0-3", "16", "x", ""])
def test_what_is_no_task_is_refused(scripts: dict[str, ModuleType], text: str) -> None:
    with pytest.raises(ValueError, match=r"tasks are 1 to 15|invalid literal"):
        scripts["gefcom2014"].parse_tasks(text)


@pytest.mark.parametrize(("task", "month"), [(1, "2012-10"), (4, "2013-01"), (9, "2013-06"), (15, "2013-12")])
def test_a_task_is_a_month(scripts: dict[str, ModuleType], task: int, month: str) -> None:
    assert str(scripts["gefcom2014"].month_of(task)) == month


def _scored(value: float, n: int, metric: str = "pinball_share", level: float = np.nan) -> dict[str, object]:
    keys = {"product_id": "competition", "model": "ours", "lead_from_minutes": 0, "lead_to_minutes": 1440}
    return keys | {"metric": metric, "level": level, "value": value, "n": n}


def test_scores_of_farms_are_weighted_by_their_hours(scripts: dict[str, ModuleType]) -> None:
    others = [_scored(0.1, 1, "nmae_share"), _scored(0.8, 1, "coverage", 0.8), _scored(0.5, 1, "coverage", 0.9)]
    others += [_scored(0.3, 1, "width_share", 0.8), _scored(9.0, 1, "pinball_share", 0.5)]
    scores = pd.DataFrame([_scored(0.04, 300), _scored(0.08, 100), *others])
    found = scripts["gefcom2014"].score_rows(scores, "competition", "ours", (0, 1440))
    assert found == pytest.approx({"pinball": 0.05, "nmae": 0.1, "coverage_80": 0.8, "width_80": 0.3})
    with pytest.raises(KeyError, match="'theirs' of 'competition' has no pinball_share"):
        scripts["gefcom2014"].score_rows(scores, "competition", "theirs", (0, 1440))


def _backtested(pinball: float) -> dict[str, object]:
    own = {"pinball": pinball, "nmae": 0.1, "coverage_80": 0.8, "width_80": 0.3}
    return {"seconds": 60.0, "scores": {"all": {"ours": own, "other": own | {"pinball": 1.0}}}}


def test_our_entry_stands_beside_what_was_published(scripts: dict[str, ModuleType]) -> None:
    published = pd.read_csv(scripts["gefcom2014"].PUBLISHED)
    table = scripts["gefcom2014"].competition_table({4: _backtested(0.03), 12: _backtested(0.05)}, published, "ours")
    columns = ["task", "pinball", "winner", "benchmark", "nmae", "coverage_80", "width_80", "seconds"]
    assert list(table.columns) == columns
    assert table.loc[0, ["pinball", "winner", "benchmark"]].tolist() == [0.03, 0.03562, 0.07536]
    # What was not published where we looked is empty.
    assert table.loc[1, ["winner", "benchmark"]].isna().all()
    best = scripts["gefcom2014"].candidates_table({4: _backtested(0.03), 12: _backtested(0.05)})
    assert best["mean"].to_dict() == {"ours": 0.04, "other": 1.0}


@pytest.mark.parametrize(
    ("changes", "minutes", "expected"),
    [
        pytest.param({}, 59, [], id="every bar is met"),
        pytest.param({"pinball": 0.0361}, 59, ["mean pinball 0.03610, bar 0.0355"], id="no better than the winner"),
        pytest.param({"coverage_80": 0.83}, 59, ["mean coverage 0.830, bar 0.78 to 0.82"], id="smeared"),
        pytest.param({}, 61, ["61.0 min, bar 60"], id="too slow"),
    ],
)
def test_the_bars_of_the_six_tasks_are_judged(
    scripts: dict[str, ModuleType], changes: dict[str, object], minutes: float, expected: list[str]
) -> None:
    table = pd.DataFrame({"task": range(4, 10), "pinball": 0.035, "coverage_80": 0.8}).assign(**changes)
    assert scripts["gefcom2014"].missed(table, minutes, 3000.0) == expected


def test_issues_are_those_of_blanks_and_the_same_pattern_before_them(scripts: dict[str, ModuleType]) -> None:
    first = pd.Timestamp("2011-01-01", tz="UTC")
    found = scripts["gefcom2012"].issues_of(["2010-12", "2011-01"], first)
    assert first in found
    assert (found[0], found[-1]) == (pd.Timestamp("2010-12-04", tz="UTC"), pd.Timestamp("2011-01-29", tz="UTC"))
    assert set(np.diff(found)) == {np.timedelta64(84, "h")}
    assert scripts["gefcom2012"].issues_of(["2010-12"], first)[-1] < first


def test_hours_of_blanks_are_known_after_all_others(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = pd.date_range("2011-01-01", periods=3, freq="h", tz="UTC")
    power = pd.DataFrame({"time": times, "wp1": 0.5, "usage": ["known", "blank", "blank"]})
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(scripts["gefcom2012"], "RAW", tmp_path / "raw")
    with pytest.raises(FileNotFoundError, match=r"0 files weather\*.parquet"):
        scripts["gefcom2012"].bring_in(data)
    power.to_parquet(data / "power_to_2011.parquet")
    (data / "weather_runs.parquet").write_text("runs")
    first, known_at = scripts["gefcom2012"].bring_in(data)
    assert (first, known_at) == (times[0], times[2] + pd.Timedelta(days=1))
    found = pd.read_parquet(tmp_path / "raw" / "power_to_2011.parquet")
    assert found["received_at"].tolist() == [times[0], known_at, known_at]
    assert (tmp_path / "raw" / "weather_runs.parquet").read_text() == "runs"


def test_scores_of_all_farms_are_those_of_all_hours(scripts: dict[str, ModuleType]) -> None:
    about = {"model": "ours", "lead_from_minutes": 0, "lead_to_minutes": 2880, "level": np.nan}
    values = {"nrmse_share": (0.3, 0.4), "nmae_share": (0.1, 0.2), "pinball_share": (0.1, 0.3)}
    rows = [
        about | {"entity_id": farm, "metric": metric, "value": value, "n": n}
        for metric, pair in values.items()
        for farm, value, n in zip(("a", "b"), pair, (30, 10), strict=True)
    ]
    of_levels = [("coverage", 0.8, 0.7), ("coverage", 0.6, 0.1), ("pinball_share", 0.8, 9.0)]
    rows += [about | {"entity_id": "a", "metric": m, "level": at, "value": value, "n": 30} for m, at, value in of_levels]
    rows += [about | {"entity_id": "a", "lead_to_minutes": 360, "metric": "nrmse_share", "value": 0.2, "n": 5}]
    table = scripts["gefcom2012"].scores_table(pd.DataFrame(rows)).set_index(["farm", "lead"])
    assert table.loc[("all", "all"), "rmse"] == pytest.approx(np.sqrt((30 * 0.09 + 10 * 0.16) / 40))
    assert table.loc[("all", "all"), ["nmae", "pinball", "coverage_80"]].tolist() == pytest.approx([0.125, 0.15, 0.7])
    assert table.loc[("a", "0-6"), "rmse"] == pytest.approx(0.2)
    assert set(table.index) == {("a", "all"), ("b", "all"), ("all", "all"), ("a", "0-6"), ("all", "0-6")}


def test_the_best_candidate_is_judged(scripts: dict[str, ModuleType]) -> None:
    rows = [
        {"model": "ours", "farm": "all", "lead": "all", "rmse": 0.151, "pinball": 0.034, "coverage_80": 0.79},
        {"model": "other", "farm": "all", "lead": "all", "rmse": 0.152, "pinball": 0.030, "coverage_80": 0.80},
        {"model": "other", "farm": "all", "lead": "0-6", "rmse": 0.1, "pinball": 0.030, "coverage_80": 0.80},
    ]
    assert scripts["gefcom2012"].missed(pd.DataFrame(rows)) == ["ours: RMSE 0.1510, bar 0.149"]


def test_the_published_scores_give_the_published_mean(scripts: dict[str, ModuleType]) -> None:
    published = pd.read_csv(scripts["gefcom2014"].PUBLISHED)
    assert published["task"].tolist() == [4, 5, 6, 7, 8, 9]
    assert published["winner"].mean() == pytest.approx(0.03613, abs=5e-6)
    assert (published["winner"] < published["benchmark"] / 1.8).all()


def test_files_are_linked_in_and_older_ones_go(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["gefcom2014"], "RAW", tmp_path / "raw")
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        scripts["gefcom2014"].bring_in(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.parquet").write_text(name)
        (file,) = scripts["gefcom2014"].bring_in(tmp_path / name)
        assert (file.name, file.read_text()) == (f"{name}.parquet", name)
    # Where they lie already they stay.
    assert scripts["gefcom2014"].bring_in(tmp_path / "raw") == [file]


def test_a_family_is_left_out_and_added(scripts: dict[str, ModuleType]) -> None:
    families = ["wind", "air", "calendar"]
    found = scripts["ablation"].variants(families, families[1:])
    assert list(found) == ["all", "without_air", "up_to_air", "without_calendar", "up_to_calendar"]
    assert found["all"] == found["up_to_calendar"] == []
    assert found["without_calendar"] == found["up_to_air"] == ["!hour_of_day"]
    assert found["without_air"] == ["!temperature_c", "!pressure_pa", "!air_density_kgm3"]


def test_what_a_family_is_worth(scripts: dict[str, ModuleType]) -> None:
    pinball = {"all": 0.04, "up_to_wind": 0.05, "without_wind": 0.044, "up_to_air": 0.04, "without_air": 0.04}
    table = scripts["ablation"].table_of(pinball, ["wind", "air"], "competition", None)
    assert table["added_gain"].tolist() == pytest.approx([np.nan, 0.2], nan_ok=True)
    assert table["left_out_loss"].tolist() == pytest.approx([0.1, 0.0])
    assert scripts["ablation"].table_of(pinball, ["wind"], "operational", 0.1)["added_gain"].tolist() == [0.5]


def test_parts_of_the_entry_are_left_out_one_by_one(scripts: dict[str, ModuleType]) -> None:
    members = {"forest": {"type": "quantile_forest"}, "network": {"type": "network"}}
    weights = {"forest": 3.0, "network": 1.0}
    entry = BlendParameters(members=members, folds=0, weights=weights, smoothing=0.25, spread=1.1)
    found = scripts["ablation"].blends(entry)
    assert found == {
        "all": (weights, 0.25, 1.1),
        "without_smoothing": (weights, 0.0, 1.1),
        "without_spread": (weights, 0.25, 1.0),
        "without_forest": ({"network": 1.0}, 0.25, 1.1),
        "without_network": ({"forest": 3.0}, 0.25, 1.1),
        "only_forest": ({"forest": 1.0}, 0.25, 1.0),
        "only_network": ({"network": 1.0}, 0.25, 1.0),
    }
    with pytest.raises(ValueError, match="weights are learnt"):
        scripts["ablation"].blends(BlendParameters(members=members))


def test_the_ablation_blends_as_the_blend_does(scripts: dict[str, ModuleType]) -> None:
    levels, hours = [0.1, 0.5, 0.9], 48
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"lead_minutes": np.arange(hours) % 24 * 60.0, "wind_speed_100m_ms": rng.uniform(0, 15, hours)})
    power = pd.Series(np.clip(features["wind_speed_100m_ms"] / 15 + rng.normal(0, 0.1, hours), 0, 1))
    members = {
        "one": {"type": "boosting", "params": {"rounds": 5}},
        "two": {"type": "quantile_forest", "params": {"trees": 5}},
    }
    params = {"members": members, "folds": 0, "weights": {"one": 1.0, "two": 3.0}, "smoothing": 0.25, "spread": 1.2}
    config = ModelConfig(type="blend", params=params)
    whole = build("blend", config, levels, 7).fit(features, power).predict(features)
    said = {
        name: build(name, ModelConfig.model_validate(member), levels, 7).fit(features, power).predict(features)
        for name, member in members.items()
    }
    variant = scripts["ablation"].blends(BlendParameters.model_validate(params))["all"]
    again = scripts["ablation"].blended(said, features["lead_minutes"].to_numpy(), variant, levels)
    assert again == pytest.approx(whole)


def test_the_peer_is_judged_on_the_rows_that_both_forecast(scripts: dict[str, ModuleType]) -> None:
    asked = pd.DataFrame({"power_share": [0.5, 0.2, 0.9]})
    wide = np.tile(np.linspace(0.1, 0.9, 9), (3, 1))
    theirs = wide + 0.1
    theirs[2] = np.nan
    found = scripts["bench_peer"].scores(asked, {"ours": (wide, 2.0), "openstef": (theirs, 5.0)}).set_index("forecast")
    assert found["hours"].tolist() == [2, 2]
    assert found["nmae"].tolist() == pytest.approx([0.15, 0.25])
    assert found["coverage_80"].tolist() == [1.0, 1.0]
    assert found["pinball"].tolist() == pytest.approx([0.06944, 0.09167])


# --- onboarding ------------------------------------------------------------------------------------------------------


def _judged(scripts: dict[str, ModuleType], dress: str, proven: dict[str, object], asked: dict[str, object]) -> dict[str, str]:
    found = Findings()
    for name, value in proven.items():
        found.proven(name, value, "test")
    for name, value in asked.items():
        found.asked(name, value, "test")
    own = next(one for one in scripts["exports"].DRESSES if one.id == dress)
    return {row["field"]: row["outcome"] for row in scripts["proof_onboarding"].judge(own, found)}


def test_a_proven_field_that_is_not_the_truth_is_wrong(scripts: dict[str, ModuleType]) -> None:
    proven = {
        "signals.separator": ";",
        "signals.decimal": ".",
        "signals.columns.power_kw.name": "wind_speed_ms",
        "capacity_kw": 6000.0,
    }
    judged = _judged(scripts, "plain", proven, {"signals.clock": "wall_clock_is_local"})
    assert {name: judged[name] for name in [*proven, "signals.clock"]} == {
        "signals.separator": "wrong",
        "signals.decimal": "right",
        "signals.columns.power_kw.name": "wrong",
        "capacity_kw": "wrong",
        "signals.clock": "asked",
    }
    # What is not found is wrong where there is something, and right where there is nothing.
    assert (judged["signals.cadence_seconds"], judged["signals.received_at"]) == ("wrong", "right")


def test_a_decoy_that_passes_for_a_signal_is_wrong(scripts: dict[str, ModuleType]) -> None:
    judged = _judged(scripts, "hot_only", {"signals.columns.temperature_c.name": "Temperatura multiplicadora (°C)"}, {})
    assert judged["signals.columns.temperature_c.name"] == "wrong"


def test_an_export_is_refused_for_its_reason_or_wrongly(scripts: dict[str, ModuleType]) -> None:
    judge, dresses = scripts["proof_onboarding"].judge, {one.id: one for one in scripts["exports"].DRESSES}
    outcomes = [
        judge(dresses[name], found)[0]["outcome"]
        for name, found in (
            ("hours_of_the_day", "x.csv: 'Date' has dates only"),
            ("hours_of_the_day", "x.csv: the file is empty"),
            ("hours_of_the_day", Findings()),
            ("plain", "x.csv: the file is empty"),
        )
    ]
    assert outcomes == ["right", "wrong", "wrong", "wrong"]


# --- readiness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flagged", "expected"),
    [
        (["zone_1"], []),
        ([], ["zone_1 is not found"]),
        (["zone_1", "zone_3"], ["zone_3 is found, and its point is right"]),
    ],
)
def test_only_the_wrong_point_may_be_found(scripts: dict[str, ModuleType], flagged: list[str], expected: list[str]) -> None:
    table = pd.DataFrame({"farm_id": [f"zone_{number}" for number in range(1, 11)]})
    table["wrong_point"] = table["farm_id"].isin(flagged)
    assert scripts["proof_readiness"].failures(table) == expected


# --- portfolio -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        pytest.param({"gain": 0.06, "coverage_80": 0.8}, [], id="as it is to be"),
        pytest.param({"gain": 0.059, "coverage_80": 0.8}, ["gain 5.9%, bar 6%"], id="hardly better than the sum"),
        pytest.param({"gain": 0.1, "coverage_80": 0.97}, ["mean coverage 0.970, bar 0.78 to 0.82"], id="a band that is too wide"),
    ],
)
def test_a_portfolio_is_judged_by_its_mean(scripts: dict[str, ModuleType], mean: dict[str, float], expected: list[str]) -> None:
    table = pd.DataFrame([{"task": "4", "gain": 0.0, "coverage_80": 0.5}, {"task": "mean", **mean}])
    assert scripts["proof_portfolio"].missed(table) == expected


def test_a_group_whose_zones_err_apart_gains(scripts: dict[str, ModuleType], cards: dict[str, Any]) -> None:
    """The three that are compared, of forecasts whose bands hold for each farm: summed, they are too wide for the group."""
    proof = scripts["proof_portfolio"]
    cards["groups"][0]["id"] = proof.GROUP
    cards["products"][0] |= {
        "id": proof.COMPETITION,
        "members": ["hill", "shore", proof.GROUP],
        "issue_times": ["00:00"],
        "horizon_minutes": 1440,
    }
    fleet = Fleet.from_config(**cards)
    rng = np.random.default_rng(5)
    valid_at = pd.date_range("2012-10-01", "2013-01-31 23:00", freq="h", tz="UTC", unit="us")
    capacity = {"hill": 3000.0, "shore": 1000.0}
    error = {farm: rng.normal(0, 0.1 * size, len(valid_at)) for farm, size in capacity.items()}
    error[proof.GROUP] = error["hill"] + error["shore"]
    came = pd.concat(
        pd.DataFrame(
            {
                "entity_id": name, "granularity_minutes": 60, "valid_at": valid_at,
                "available_at": valid_at + pd.Timedelta(hours=1), "power_kw": size / 2 + error[name],
                "available_capacity_kw": size, "imputed_share": 0.0,
            }
        )
        for name, size in (capacity | {proof.GROUP: 4000.0}).items()
    )  # fmt: skip
    said = pd.concat(
        pd.DataFrame(
            {
                "product_id": proof.COMPETITION, "entity_id": name, "model": "quick", "model_version": "backtest",
                "issued_at": valid_at.floor("D"), "valid_at": valid_at, "lead_minutes": valid_at.hour * 60,
                "capacity_kw": size, "weather_run_at": valid_at.floor("D"), "fallback": "", "weather": "forecast weather",
                "revised_issue_at": valid_at.floor("D"), "revision": 0, "rung": "champion", "weather_run_age_minutes": 0.0,
                "point_kw": size * 0.5,
                "q100_kw": size * (0.5 - 0.12816), "q500_kw": size * 0.5, "q900_kw": size * (0.5 + 0.12816),
            }
        )
        for name, size in capacity.items()
    )  # fmt: skip
    rules = Calibration.model_validate(
        {
            "days": 60, "min_days": 10, "settle_days": 0,
            "portfolios": {"error_correlation": 0.6, "min_capacity_share": 0.5},
        }
    )  # fmt: skip
    table = proof.table_of(proof.of_the_group(said, came, fleet, rules), came, fleet, [4]).set_index("task")
    task = table.loc["4"]
    assert task["summed_coverage_80"] > 0.85
    assert task["coverage_80"] == pytest.approx(0.8, abs=0.03)
    assert task["recalibrated_pinball"] < task["narrowed_pinball"] < task["summed_pinball"]
    assert task["gain"] == pytest.approx(1 - task["recalibrated_pinball"] / task["summed_pinball"], abs=1e-3)
    assert table.loc["mean", "gain"] == task["gain"]


# --- the gate ------------------------------------------------------------------------------------------------------------


def test_a_made_year_is_of_whole_blocks(scripts: dict[str, ModuleType]) -> None:
    proof = scripts["proof_gate"]
    drawn = proof.draw(np.random.default_rng(0), 365)
    assert len(drawn) == proof.ISSUES
    steps = np.diff(drawn).reshape(-1)
    inside = np.arange(1, len(drawn)) % proof.BLOCK != 0
    assert set(steps[inside]) <= {1, -364}  # the next issue, or the first after the last


def test_noise_moves_winds_and_nothing_else(scripts: dict[str, ModuleType]) -> None:
    proof = scripts["proof_gate"]
    names = ["wind_speed_100m_ms", "wind_u_100m_ms_minus_30min", "hour_of_day", "power_share"]
    table = pd.DataFrame({name: np.zeros(500) for name in names})
    moved = proof.noisy(table, proof.Challenger([], noise_ms=0.5))
    assert moved[names[:2]].std().round(1).tolist() == [0.5, 0.5]
    assert (moved[names[2:]] == 0).all().all()
    pd.testing.assert_frame_equal(proof.noisy(table, proof.Challenger([])), table)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({}, [], id="all hold"),
        pytest.param({(0, "false_family_share"): 0.06}, ["a over b: falsely promoted in 6.0% of years"], id="false"),
        pytest.param({(1, "promoted_share"): 0.7}, ["gains 3 to 4 %: found in 70% only"], id="not found"),
        pytest.param({(1, "promoted_share"): np.nan}, ["gains 3 to 4 %: found in nan% only"], id="nobody"),
        pytest.param({(2, "promoted_share"): 0.01}, ["storm c: promoted in 1.0%"], id="ruinous"),
        pytest.param({(3, "promoted_share"): 1.0}, ["leak d: promoted in 100.0%"], id="leaking"),
    ],
)
def test_the_bars_of_the_gate_are_judged(
    scripts: dict[str, ModuleType], changes: dict[tuple[int, str], float], says: list[str]
) -> None:
    proof = scripts["proof_gate"]
    table = pd.DataFrame(
        {
            "case": ["gain", "gain", "storm", "leak"],
            "champion": ["b", "every pair", "b", "b"],
            "challenger": ["a", proof.THREE, "c", "d"],
            "promoted_share": [0.9, 0.85, 0.0, 0.0],
            "false_family_share": [0.0, np.nan, 0.0, 0.0],
        }
    )
    for (row, column), value in changes.items():
        table.loc[row, column] = value
    assert proof.missed(table) == says


def test_costs_follow_from_what_was_measured(scripts: dict[str, ModuleType]) -> None:
    """Of a cycle of 10 s and 20 ms a farm, 1,000 farms fit into 30 s; of 2 GB and 3 MB a farm, 2,000 into 8 GB."""
    steps = {"cycle_warm": (10, 0.02), "monitor": (10, 0.01), "train": (10, 1.0)}
    measured = pd.DataFrame(
        [
            {"farms": farms, "step": step, "wall_s": fixed + each * farms, "peak_mb": 2000 + 3 * farms}
            for step, (fixed, each) in steps.items()
            for farms in (100, 300, 500)
        ]
    )
    prices = {"date": "2026-06-17", "currency": "USD", "machine_hour": 0.1, "machine_memory_mb": 8000, "disk_gb_month": 0.0}
    table = scripts["costs"].on_paper(measured, prices).set_index(["farms", "window_s"])
    assert table.loc[(10_000, 30), ["farms_per_machine", "limited_by", "machines"]].tolist() == [1000, "window", 10]
    assert table.loc[(10_000, 30), "money_per_farm_month"] == pytest.approx(10 * 730 * 0.1 / 10_000)
    assert table.loc[(100_000, 600), ["farms_per_machine", "limited_by", "machines"]].tolist() == [2000, "memory", 50]
    # Cycles, monitoring and a weekly training of 2,000 farms.
    hours = (730 / 6 * 50 + 730 * 30 + 730 / 168 * 2010) / 3600
    assert table.loc[(100_000, 600), "busy_hours"] == pytest.approx(hours, abs=0.05)
    assert table.loc[(100_000, 600), "busy_only"] == pytest.approx(50 * hours * 0.1 / 100_000, abs=0.0001)
    with pytest.raises(SystemExit, match="run make bench-fleet with two or more"):
        scripts["costs"].on_paper(measured[measured["farms"] == 100], prices)
