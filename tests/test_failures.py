"""One farm is broken in each stage: the others are forecast as before, and the failure is a row, an incident and an answer."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from stored import store
from wind_kedro.cli import cli
from wind_kedro.contracts.operation import FAILURE_CODES, Failures
from wind_kedro.datasets import ModelVersions, read_table

from .conftest import mlflow_kept

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

ISSUE = "2024-03-31T06:00"
OUTPUT = "data/07_model_output"
FARMS = ("hill", "dale", "moor", "fell")
#: What a run as of the newest issue needs, from the raw files to the incidents.
DAILY = "data_engineering,feature_engineering,forecasting,monitoring"


def type_in(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def replace_features(folder: Path, features: pd.DataFrame) -> None:
    """Store other features, as if they had been computed."""
    key = ["product_id", "entity_id"]
    store(folder / "data/04_feature/features", {"key": key, "time": "issued_at", "order": [*key, "issued_at"]}, features)


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _moved(farm: dict[str, Any], name: str) -> dict[str, Any]:
    moved = copy.deepcopy(farm) | {
        "id": name,
        "name": name.title(),
        "capacity_kw": 1000,
        "turbines": farm["turbines"][:1],
    }
    moved["signals"]["path"] = f"{name}.csv"
    moved["weather"][0]["path"] = f"{name}_alpha.csv"
    return moved


@pytest.fixture(scope="module")
def run_in() -> Callable[..., Result]:
    """Types a command inside a project."""
    from kedro.framework.project import configure_project
    from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

    configure_project("wind_kedro")

    def run(folder: Path, *words: str) -> Result:
        with pytest.MonkeyPatch.context() as patch, mlflow_kept():
            patch.chdir(folder)
            result = type_in(*words)
            mlflow_hook.run_id = None
        return result

    return run


@pytest.fixture(scope="module")
def sound(make_small_fleet: Callable[[], Path], run_in: Callable[..., Result]) -> Path:
    """Four farms of one turbine with files of their own, dale and moor a portfolio: trained, and forecast for one issue."""
    folder = make_small_fleet()
    base, raw = folder / "conf/base", folder / "data/01_raw"

    def farms(content: Any) -> None:
        content["farms"] = [_moved(content["farms"][0], name) for name in FARMS]
        content["groups"] = [{"id": "both", "name": "Dale and moor", "farms": ["dale", "moor"]}]

    _edit(base / "farms.yml", farms)
    _edit(base / "products.yml", lambda content: content["products"][0].update(members=[*FARMS, "both"]))
    _edit(
        base / "parameters_run.yml",
        lambda content: content["clock"].update(train_as_of=f"{ISSUE}:00Z", issue_from=None),
    )
    signals = pd.read_csv(raw / "hill.csv")
    own = signals[signals["turbine"] == "T0"]
    for number, name in enumerate(FARMS):  # of other power each: equal models would be stored as one
        own.assign(power=own["power"] * (1 - number / 10)).to_csv(raw / f"{name}.csv", index=False)
        shutil.copy(raw / "alpha.csv", raw / f"{name}_alpha.csv")
    result = run_in(folder, "run", "--pipelines", f"{DAILY},training")
    assert result.exit_code == 0, result.output
    assert failures_of(folder).empty
    return folder


def forecasts_of(folder: Path) -> pd.DataFrame:
    table = read_table(folder / OUTPUT / "forecasts")
    return table.sort_values(["entity_id", "valid_at"], ignore_index=True)


def failures_of(folder: Path) -> pd.DataFrame:
    return Failures.validate(pd.read_parquet(folder / OUTPUT / "failures.parquet"))


def incidents_of(folder: Path) -> pd.DataFrame:
    table = read_table(folder / OUTPUT / "incidents")
    return table[(table["state"] == "open") & table["kind"].isin(list(FAILURE_CODES))]


def assert_equal_to_the_byte(folder: Path, sound: Path, *entities: str) -> None:
    now, before = forecasts_of(folder), forecasts_of(sound)
    for entity_id in entities:
        expected = before[before["entity_id"] == entity_id].reset_index(drop=True)
        assert len(expected) > 0
        found = now[now["entity_id"] == entity_id].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.fixture(scope="module")
def raw_broken(sound: Path, tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., Result]) -> tuple[Path, Result]:
    """The weather of dale and the signals of moor are no tables; all turbines of fell have stood still for twenty days."""
    folder = tmp_path_factory.mktemp("raw_broken") / "project"
    shutil.copytree(sound, folder)
    raw = folder / "data/01_raw"
    for name in ("dale_alpha", "moor"):
        (raw / f"{name}.csv").write_bytes(np.random.default_rng(7).bytes(20_000))
    signals = pd.read_csv(raw / "fell.csv")
    signals.loc[signals["time"] >= "2024-03-11", "power"] = 0.0
    signals.to_csv(raw / "fell.csv", index=False)
    return folder, run_in(folder, "run", "--pipelines", DAILY)


@pytest.fixture(scope="module")
def model_broken(sound: Path, tmp_path_factory: pytest.TempPathFactory, run_in: Callable[..., Result]) -> tuple[Path, Result]:
    """The stored model of fell is gone, and the features of moor are NaN."""
    folder = tmp_path_factory.mktemp("model_broken") / "project"
    shutil.copytree(sound, folder)
    features = read_table(folder / "data/04_feature/features")
    numbers = features.columns[features.dtypes == "float64"]
    features.loc[features["entity_id"] == "moor", numbers.drop("lead_minutes", errors="ignore")] = np.nan
    replace_features(folder, features)
    registered = ModelVersions(
        registered_model_name="wind_kedro",
        objects=str(folder / "data/06_models/objects"),
        promotions=str(folder / "data/06_models/promotions"),
    )
    with mlflow_kept():
        mlflow.set_tracking_uri(f"sqlite:///{sound}/mlflow.db")
        (fell,) = (row for row in registered.load().manifest("1")["members"] if row["entity_id"] == "fell")
    shutil.rmtree(folder / "data/06_models/objects" / fell["object"])
    return folder, run_in(folder, "run", "--pipelines", "forecasting,monitoring")


def test_raw_data_of_some_farms_that_cannot_be_used_stop_no_other(sound: Path, raw_broken: tuple[Path, Result]) -> None:
    folder, _ = raw_broken
    assert_equal_to_the_byte(folder, sound, "hill")
    assert set(forecasts_of(folder)["entity_id"]) >= {"hill", "moor", "fell"}


def test_models_and_features_of_some_farms_that_cannot_be_used_stop_no_other(
    sound: Path, model_broken: tuple[Path, Result]
) -> None:
    folder, _ = model_broken
    assert_equal_to_the_byte(folder, sound, "hill", "dale")


@pytest.mark.parametrize(
    ("broken", "stage", "code", "entity_id", "severity", "text"),
    [
        ("raw_broken", "parsing", "source_unreadable", "moor", "error", "moor.csv"),
        ("raw_broken", "parsing", "source_unreadable", "dale", "error", "dale_alpha.csv"),
        ("raw_broken", "features", "features_not_made", "dale", "error", "no features"),
        ("raw_broken", "forecasting", "forecast_not_issued", "dale", "error", "no features"),
        ("model_broken", "forecasting", "forecast_not_issued", "moor", "error", "no weather reaches it"),
        ("model_broken", "forecasting", "model_unusable", "fell", "error", "no such model in the store"),
    ],
)
def test_a_failure_is_one_row_one_incident_and_an_error_of_the_run(
    request: pytest.FixtureRequest, broken: str, stage: str, code: str, entity_id: str, severity: str, text: str
) -> None:
    folder, result = request.getfixturevalue(broken)
    failures = failures_of(folder)
    (row,) = failures[(failures["stage"] == stage) & (failures["code"] == code) & (failures["entity_id"] == entity_id)].to_dict(
        "records"
    )
    assert row["severity"] == severity
    assert text in row["message"]
    assert row["action"]
    found = incidents_of(folder)
    (incident,) = found[(found["subject"] == stage) & (found["kind"] == code) & (found["entity_id"] == entity_id)].to_dict(
        "records"
    )
    assert incident["severity"] == severity
    assert incident["message"].startswith(row["message"])
    assert result.exit_code == 1
    assert f"Error: {incident['message']}" in result.output


def test_nothing_else_failed(raw_broken: tuple[Path, Result], model_broken: tuple[Path, Result]) -> None:
    key = ["stage", "code", "entity_id"]
    rows = [sorted(failures_of(folder)[key].itertuples(index=False, name=None)) for folder, _ in (raw_broken, model_broken)]
    assert rows == [
        [
            ("calibration", "fallback_used", "both"),
            ("features", "features_not_made", "dale"),
            ("forecasting", "forecast_not_issued", "dale"),
            ("parsing", "source_unreadable", "dale"),
            ("parsing", "source_unreadable", "moor"),
        ],
        [
            ("calibration", "fallback_used", "both"),
            ("forecasting", "fallback_used", "fell"),
            ("forecasting", "forecast_not_issued", "moor"),
            ("forecasting", "model_unusable", "fell"),
        ],
    ]


@pytest.mark.parametrize(
    ("broken", "entity_id", "message", "because"),
    [
        ("raw_broken", "dale", "hours/dale: not issued: no features", {"source_unreadable", "features_not_made"}),
        ("model_broken", "moor", "hours/moor: not issued: no weather reaches it", set()),
    ],
)
def test_explain_answers_for_an_issue_that_was_not_made(
    request: pytest.FixtureRequest,
    run_in: Callable[..., Result],
    broken: str,
    entity_id: str,
    message: str,
    because: set[str],
) -> None:
    folder, _ = request.getfixturevalue(broken)
    words = ("wind", "explain", "--farm", entity_id, "--issued-at", ISSUE)
    result = run_in(folder, *words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["not_issued"]["code"] == "forecast_not_issued"
    assert found["not_issued"]["message"] == message
    assert found["not_issued"]["action"]
    assert {row["code"] for row in found["failures"]} == {"forecast_not_issued"} | because
    # The record of the issue that the sound run made is superseded, not replaced.
    assert len(found["audit"]) == 2
    shown = run_in(folder, *words)
    assert shown.exit_code == 0, shown.output
    assert "not issued" in shown.stdout
    assert "what to do" in shown.stdout
    assert run_in(folder, "wind", "verify").exit_code == 0


def test_explain_of_an_issue_by_a_fallback_has_the_failure_of_the_model(
    model_broken: tuple[Path, Result], run_in: Callable[..., Result]
) -> None:
    folder, _ = model_broken
    found = json.loads(run_in(folder, "wind", "explain", "--farm", "fell", "--issued-at", ISSUE, "--json").stdout)
    assert found["model"]["fallback"] == "observed_climatology"
    assert {row["code"] for row in found["failures"]} == {"model_unusable", "fallback_used"}


def test_what_is_mended_is_a_failure_no_more(
    sound: Path, model_broken: tuple[Path, Result], tmp_path: Path, run_in: Callable[..., Result]
) -> None:
    folder = tmp_path / "mended"
    shutil.copytree(model_broken[0], folder)
    for name in ("data/06_models/objects", "data/04_feature"):
        shutil.rmtree(folder / name)
        shutil.copytree(sound / name, folder / name)
    result = run_in(folder, "run", "--pipelines", "forecasting,monitoring")
    assert result.exit_code == 0, result.output
    assert failures_of(folder).empty
    assert incidents_of(folder).empty
    assert_equal_to_the_byte(folder, sound, *FARMS, "both")


@pytest.mark.parametrize(("setting", "code"), [("never", 0), ("warning", 1)])
def test_the_exit_code_is_as_configured(
    model_broken: tuple[Path, Result], tmp_path: Path, run_in: Callable[..., Result], setting: str, code: int
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(model_broken[0], folder)
    _edit(
        folder / "conf/base/parameters_monitoring.yml",
        lambda content: content["monitoring"].update(exit_code_on=setting),
    )
    result = run_in(folder, "run", "--pipeline", "forecasting")
    assert result.exit_code == code, result.output
    assert ("hours/both: without moor" in result.stderr.split("Error:", 1)[-1]) == (setting == "warning")


def test_where_nothing_can_be_issued_the_reasons_are_written_and_monitoring_runs(
    sound: Path, tmp_path: Path, run_in: Callable[..., Result]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    shutil.rmtree(folder / OUTPUT / "forecasts")
    shutil.rmtree(folder / OUTPUT / "model_forecasts")
    features = read_table(folder / "data/04_feature/features")
    replace_features(folder, features[features["issued_at"] < pd.Timestamp(ISSUE, tz="UTC")])
    result = run_in(folder, "run", "--pipelines", "forecasting,monitoring")
    assert result.exit_code == 1
    failures = failures_of(folder)
    assert failures[["code", "entity_id"]].to_numpy().tolist() == [
        *(["forecast_not_issued", name] for name in sorted(FARMS)), ["portfolio_not_issued", "both"],
    ]  # fmt: skip
    assert incidents_of(folder)["entity_id"].tolist() == [*sorted(FARMS), "both"]
    found = json.loads(run_in(folder, "wind", "explain", "--entity", "both", "--issued-at", ISSUE, "--json").stdout)
    assert found["not_issued"]["code"] == "portfolio_not_issued"
    assert "hours/dale: not issued: no features" in found["not_issued"]["message"]


def test_a_missed_deadline_is_issued_from_what_is_stored_told_and_superseded(
    sound: Path, run_in: Callable[..., Result], tmp_path: Path
) -> None:
    folder = shutil.copytree(sound, tmp_path / "deadline")
    _edit(folder / "conf/base/products.yml", lambda content: content["products"][0].update(issue_times=["06:00", "08:00"]))
    issue = "2024-03-31T08:00"
    keys = ["entity_id", "valid_at"]

    def run(pipelines: str, *parameters: str, reported: str) -> pd.DataFrame:
        result = run_in(folder, "run", "--pipelines", pipelines, "--params", ",".join([f"as_of={issue}:00Z", *parameters]))
        assert reported in result.output, result.output
        table = read_table(folder / OUTPUT / "forecasts")
        return table[table["issued_at"] == pd.Timestamp(issue, tz="UTC")].sort_values(keys, ignore_index=True)

    late = ("forecasting.at_deadline=hours", "forecasting.made_at=2024-03-31T08:30:00Z")
    sent = run("forecasting,monitoring", *late, reported="100% of the newest issue comes from observed_climatology and older")
    assert set(sent["entity_id"]) == {*FARMS, "both"}
    assert sent.groupby("entity_id")["rung"].agg(tuple).unique().tolist() == [("older_forecast", "climatology", "climatology")]
    before = read_table(folder / OUTPUT / "forecasts")
    before = before[(before["issued_at"] == pd.Timestamp(ISSUE, tz="UTC")) & (before["entity_id"] == "hill")]
    assert sent[sent["entity_id"] == "hill"]["q500_kw"].iloc[0] == before.sort_values("valid_at")["q500_kw"].iloc[-1]
    assert "deadline_fallback" in set(incidents_of(folder)["kind"])

    # Nothing is noted as made; the issue is made, and replaces what was sent where the gate is open.
    issued = run("feature_engineering,forecasting,monitoring", "forecasting.made_at=2024-03-31T08:45:00Z", reported="")
    assert issued.groupby("entity_id")["rung"].agg(tuple).unique().tolist() == [("older_forecast", "champion", "champion")]
    pd.testing.assert_frame_equal(issued[issued["rung"] == "older_forecast"], sent[sent["rung"] == "older_forecast"])
    kept = read_table(folder / OUTPUT / "deadline_forecasts").sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(kept[sent.columns], sent)
    assert {"deadline_fallback", "forecast_late"} <= set(incidents_of(folder)["kind"])
    made = read_table(folder / OUTPUT / "issues_made")
    assert pd.Timestamp(issue, tz="UTC") in set(made["issued_at"])

    words = ("wind", "explain", "--farm", "hill", "--issued-at", issue)
    found = json.loads(run_in(folder, *words, "--json").stdout)
    assert [row["rung"] for row in found["audit"]] == ["older_forecast", "older_forecast"]
    assert len({row["forecast_sha256"] for row in found["audit"]}) == 2
    assert {row["code"] for row in found["failures"]} == {"deadline_fallback", "forecast_late"}
    shown = " ".join(run_in(folder, *words).stdout.split())
    assert "(older_forecast, recorded " in shown
    assert run_in(folder, "wind", "verify").exit_code == 0


def test_a_full_disk_is_one_line_and_the_next_run_is_right(sound: Path, run_in: Callable[..., Result], tmp_path: Path) -> None:
    folder = shutil.copytree(sound, tmp_path / "full")
    # As the card has changed, the issue is made again.
    _edit(folder / "conf/base/products.yml", lambda content: content["products"][0].update(point=0.1))
    words = ["run", "--pipelines", "forecasting", "--params", f"as_of={ISSUE}:00Z"]
    command = [sys.executable, "-m", "kedro", *words]
    # No file can have more bytes: what a full disk is to a process, without one.
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command]
    done = subprocess.run(limited, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "File too large" in error
    assert "Traceback" not in done.stderr
    pd.testing.assert_frame_equal(forecasts_of(folder), forecasts_of(sound))

    result = run_in(folder, *words)
    assert result.exit_code == 0, result.output
    issued, before = forecasts_of(folder), forecasts_of(sound)
    pd.testing.assert_frame_equal(issued.drop(columns="point_kw"), before.drop(columns="point_kw"))
    assert (issued["point_kw"] == issued["q100_kw"]).all()
