"""The commands as people type them: what they see when all is well, and the one line when it is not."""

from __future__ import annotations

import json
import os
import re
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
from wind_kedro.contracts.observations import Signals, Weather
from wind_kedro.datasets import History, ModelVersions, read_table, tables_in
from wind_kedro.storage.layout import record_layout

# One project, and in it one training, serve all of them.
pytestmark = [
    pytest.mark.slow,
    # What Ibis says of DuckDB and pandas.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

Command = Callable[..., Result]


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def empty(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    """A project without data, of one's own to spoil."""
    return inside(make_project())


def kedro(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, as in life; MLflow's state would otherwise be this process's."""
    command = [sys.executable, "-m", "kedro", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def type_in(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def _one_line(result: Result, *parts: str) -> str:
    """The one line that a failed command says, which holds these parts in this order; no stack, exit code 1."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    position = 0
    for part in parts:
        position = lines[0].find(part, position)
        assert position >= 0, f"'{part}' is not (in its place) in: {lines[0]}"
    return lines[0]


# --- nothing is well -------------------------------------------------------------------------------------------------


def test_a_wrong_card_is_one_line(empty: Path) -> None:
    _edit(empty / "conf/base/farms.yml", lambda content: content["farms"][0].update(capacity_kw=-5))
    for words in (["run"], ["run", "--pipeline", "forecasting"], ["wind", "farms"], ["wind", "forecast"]):
        _one_line(type_in(*words), "conf/base/farms.yml: farm 'hill': capacity_kw: ", "greater than 0")


def test_each_fault_has_its_line(empty: Path) -> None:
    _edit(empty / "conf/base/farms.yml", lambda content: content["farms"][0].update(capacity_kw=-5))
    _edit(empty / "conf/base/markets.yml", lambda content: content["markets"][0].update(currency="euro"))
    result = type_in("run")
    assert result.exit_code == 1
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines() if line.startswith("Error: ")] == [
        "conf/base/farms.yml",
        "conf/base/markets.yml",
    ]


def test_an_overlay_is_named_where_it_is_the_one_that_is_wrong(empty: Path) -> None:
    (empty / "conf/mine").mkdir()
    products = yaml.safe_load((empty / "conf/base/products.yml").read_text("utf-8"))
    products["products"][0]["market"] = "bazaar"
    (empty / "conf/mine/products.yml").write_text(yaml.safe_dump(products), encoding="utf-8")
    _one_line(type_in("run", "--env", "mine"), "conf/mine/products.yml: products.hours.market: unknown market 'bazaar'")
    assert type_in("wind", "farms").exit_code == 0


@pytest.mark.parametrize(
    ("pipeline", "missing", "maker"),
    [
        ("feature_engineering", "observations", "data_engineering"),
        ("training", "features", "feature_engineering"),
        ("forecasting", "features", "feature_engineering"),
        ("monitoring", "backtest_forecasts", "training"),
    ],
)
def test_what_is_missing_is_named_with_the_pipeline_that_makes_it(empty: Path, pipeline: str, missing: str, maker: str) -> None:
    result = type_in("run", "--pipeline", pipeline)
    _one_line(result, f"'{missing}' is missing: pipeline '{maker}' makes it (kedro run --pipeline {maker})")
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []
    assert mlflow.active_run() is None


def test_missing_raw_data_are_named(empty: Path) -> None:
    result = type_in("run")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert [line.split(": ")[1] for line in lines] == [
        "farm 'hill', data/01_raw/hill.csv",
        "farm 'shore', data/01_raw/shore.csv",
    ]
    assert all("the file is missing; put it there" in line for line in lines)


@pytest.mark.parametrize(
    ("spoil", "words", "parts"),
    [
        pytest.param(
            None,
            ["run", "--pipeline", "nonsense"],
            ["Failed to find the pipeline named 'nonsense'"],
            id="unknown pipeline",
        ),
        pytest.param(None, ["run", "--params", "as_of=yesterday"], ["clock.as_of", "valid datetime"], id="as_of is a word"),
        pytest.param(
            "training: {seed: many}",
            ["run", "--pipeline", "training"],
            ["training.seed", "valid integer"],
            id="a parameter of the wrong type",
        ),
        pytest.param(
            "features: {windw: 3}",
            ["run", "--pipeline", "feature_engineering"],
            ["features.windw", "not permitted"],
            id="an unknown parameter",
        ),
        pytest.param("features: {window_minutes: [", ["run"], ["parameters_mine"], id="YAML that breaks off"),
        pytest.param("features: {window_minutes: '${globals:nothing}'}", ["run"], ["nothing"], id="a global that is not there"),
    ],
)
def test_wrong_words_are_one_line(empty: Path, spoil: str | None, words: list[str], parts: list[str]) -> None:
    if spoil:
        (empty / "conf/local/parameters_mine.yml").write_text(spoil, encoding="utf-8")
    _one_line(type_in(*words), *parts)


def test_without_forecasts_the_command_says_what_to_run(empty: Path) -> None:
    _one_line(type_in("wind", "forecast"), "no forecast was issued yet: kedro run --pipeline forecasting")


# --- all is well -----------------------------------------------------------------------------------------------------


def test_farms_lists_them_and_says_that_the_cards_are_right(empty: Path) -> None:
    (empty / "mlflow.db").unlink()
    result = type_in("wind", "farms")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["hill", "shore"]
    assert "3,000 kW" in lines[2]
    assert "alpha (forecast)" in lines[2]
    assert lines[2].endswith("hours")
    assert "alpha (analysis)" in lines[3]
    assert lines[3].endswith("hours, quarters")  # shore is sold in the group too
    assert lines[4] == "All cards are valid: 2 farms, 1 groups, 2 markets, 2 products (environment 'base')."
    assert not (empty / "mlflow.db").exists()  # a look at the cards leaves nothing behind


def test_the_wheel_finds_its_configuration_anywhere(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = type_in("wind", "--conf-source", str(empty / "conf"), "farms")
    assert result.exit_code == 0, result.output
    assert "All cards are valid" in result.stdout


BEGIN, END = pd.Timestamp("2024-03-01", tz="UTC"), pd.Timestamp("2024-04-01", tz="UTC")
ENTITIES = [("hill", 60, 3000.0), ("both", 60, 4000.0), ("shore", 15, 1000.0)]


def _wind_at(times: pd.DatetimeIndex) -> np.ndarray[Any, Any]:
    hours = np.asarray((times - BEGIN) / pd.Timedelta(hours=1))
    return 9 + 5 * np.sin(hours / 17) + 2 * np.sin(hours / 5)


def _world() -> dict[str, pd.DataFrame]:
    """What data_engineering would leave: a month of wind, and power that follows it."""
    runs = []
    for farm_id, is_analysis in (("hill", False), ("shore", True)):
        for run_at in pd.date_range(BEGIN, END, freq="12h", unit="us"):
            valid_at = pd.date_range(run_at, periods=25, freq="h", unit="us")
            available_at = run_at + pd.Timedelta(hours=2)
            runs.append(
                pd.DataFrame(
                    {
                        "farm_id": farm_id,
                        "weather_model": "alpha",
                        "weather_point": "site",
                        "run_at": run_at,
                        "available_at": available_at,
                        "valid_at": valid_at,
                        "is_analysis": is_analysis,
                        "wind_speed_100m_ms": _wind_at(valid_at),
                        "wind_speed_hub_ms": _wind_at(valid_at),
                    }
                )
            )
    weather = pd.concat(runs, ignore_index=True)
    for name in Weather.to_schema().columns.keys() - set(weather.columns):
        weather[name] = np.nan
    tables = []
    for entity_id, minutes, capacity in ENTITIES:
        valid_at = pd.date_range(BEGIN, END, freq=f"{minutes}min", inclusive="left", unit="us")
        noise = np.random.default_rng(minutes).normal(0, 0.03, len(valid_at))
        share = np.clip((_wind_at(valid_at + pd.Timedelta(minutes=minutes / 2)) / 14) ** 3 + noise, 0, 1)
        tables.append(
            pd.DataFrame(
                {
                    "entity_id": entity_id,
                    "granularity_minutes": minutes,
                    "valid_at": valid_at,
                    "available_at": valid_at + pd.Timedelta(minutes=minutes + 10),
                    "power_kw": share * capacity,
                    "available_capacity_kw": capacity,
                    "wind_speed_ms": 8.0,
                    "coverage_share": 1.0,
                    "turbines": 1,
                    "metered_power_kw": share * capacity,
                    "stopped_share": 0.0,
                    "curtailed_share": 0.0,
                    "imputed_share": 0.0,
                    "method": "mean",
                }
            )
        )
    quality = pd.DataFrame(
        {
            "farm_id": ["hill"],
            "source_table": ["signals"],
            "check": ["stuck"],
            "signal": ["power_kw"],
            "count": [3],
            "of": [9],
            "severity": ["warning"],
            "message": ["stuck!"],
        }
    )
    manifest = pd.DataFrame(
        {
            "farm_id": ["hill"], "source_table": ["signals"], "path": ["hill.csv"], "bytes": [9], "modified_ns": [9],
            "sha256": ["a" * 64],
        }
    )  # fmt: skip
    observations = pd.concat(tables, ignore_index=True)
    key = ["farm_id", "weather_model", "weather_point", "run_at", "available_at"]
    weather_runs = weather.groupby(key, as_index=False).agg(
        is_analysis=("is_analysis", "first"),
        rows=("valid_at", "count"),
        first_valid_at=("valid_at", "min"),
        last_valid_at=("valid_at", "max"),
    )
    tables = {"weather": weather, "weather_runs": weather_runs, "observations": observations, "data_quality": quality}
    tables |= {"raw_manifest": manifest}
    return tables | {"signals": _signals()}


def _signals() -> pd.DataFrame:
    """The last day's readings of every turbine."""
    parts = []
    for farm_id, turbines in (("hill", 3), ("shore", 1)):
        for number in range(turbines):
            valid_at = pd.date_range(END - pd.Timedelta(days=1), END, freq="10min", inclusive="left", unit="us")
            part = pd.DataFrame({"valid_at": valid_at, "available_at": valid_at + pd.Timedelta(minutes=20)})
            parts.append(part.assign(farm_id=farm_id, turbine_id=f"T{number}", power_kw=500.0, wind_speed_ms=8.0))
    signals = pd.concat(parts, ignore_index=True)
    signals = signals.assign(version=0, status="kept", operating_state="", retimed=False, source_file="x.csv")
    signals["source_row"] = range(1, len(signals) + 1)
    missing = Signals.to_schema().columns.keys() - set(signals.columns)
    signals = signals.assign(**{name: pd.NaT if name.endswith("_at") else np.nan for name in missing})
    return Signals.validate(signals)


@pytest.fixture(scope="module")
def trained(make_project: Callable[[], Path], assess: Callable[[list[dict[str, object]]], pd.DataFrame]) -> Path:
    """A project in which everything after data_engineering has run, as another process did it."""
    folder = make_project()
    catalog = yaml.safe_load((folder / "conf/base/catalog_data_engineering.yml").read_text("utf-8"))
    readiness = assess([{"farm_id": "hill"}, {"farm_id": "shore", "tier": "physical", "reason": "9.0 days of weather"}])
    manifest = pd.DataFrame(
        [
            {
                "farm_id": "hill",
                "source_table": "signals",
                "path": "hill.csv",
                "bytes": 1,
                "modified_ns": 1,
                "sha256": "0" * 64,
            }
        ]
    )
    for name, table in (_world() | {"readiness": readiness, "raw_manifest": manifest}).items():
        file = folder / catalog[name]["filepath"].replace("${globals:data}", "data")
        file.parent.mkdir(parents=True, exist_ok=True)
        if catalog[name]["type"].endswith("DerivedTable"):
            store(file, catalog[name], table)
        else:
            table.to_parquet(file)
    record_layout(folder / "data")
    run = kedro("run", "--pipelines", "feature_engineering,training,forecasting,monitoring", folder=folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def _folder(folder: Path, name: str) -> list[str]:
    return sorted(str(path.relative_to(folder / name)) for path in (folder / name).rglob("*.parquet"))


def test_a_run_leaves_what_its_pipelines_make(trained: Path) -> None:
    assert _folder(trained, "data/06_models/promotions") == ["000001.parquet"]
    issued = read_table(trained / "data/07_model_output/forecasts")[["product_id", "issued_at"]].drop_duplicates()
    assert issued["issued_at"].min() == pd.Timestamp("2024-03-21 18:00", tz="UTC")
    assert len(issued) == 20 + 10  # from the evening of the 21st to the morning of the 31st; quarters once a day
    incidents = read_table(trained / "data/07_model_output/incidents")
    assert "stuck" in set(incidents["kind"])


def test_each_pipeline_runs_alone_from_what_the_others_left(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    before = _made(trained)
    for pipeline in ("feature_engineering", "forecasting", "monitoring"):
        result = type_in("run", "--pipeline", pipeline)
        assert result.exit_code == 0, result.output
    assert _made(trained) == before


def _made(folder: Path) -> dict[str, int]:
    """Rows of every result but the audit, which is added to by every run."""
    found = tables_in(folder / "data", without={"audit"})
    return {name: len(table) for name, table in found.items() if name.startswith("07_model_output")}


def test_readiness_prints_tier_and_reason_of_each_farm(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    result = type_in("wind", "readiness")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:5] for line in lines[2:4]] == [
        ["hill", "local", "700", "97%", "0.83"],
        ["shore", "physical", "700", "97%", "0.83"],
    ]
    assert lines[3].endswith("9.0 days of weather")
    assert lines[-1] == "As of 2024-03-01 00:00 UTC: 1 physical, 1 local."
    only = type_in("wind", "readiness", "--tier", "physical").stdout.splitlines()
    assert [line.split()[0] for line in only[2:-1]] == ["shore"]


def test_readiness_before_any_assessment_is_one_line(empty: Path) -> None:
    result = type_in("wind", "readiness")
    assert result.exit_code == 1
    assert "no farm was assessed yet: kedro run --pipeline data_engineering" in result.output


def test_forecast_prints_the_newest_of_each(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    result = type_in("wind", "forecast")
    assert result.exit_code == 0, result.output
    headings = [line for line in result.stdout.splitlines() if " · " in line]
    assert [heading.split(" by ")[0] for heading in headings] == [
        "Hours · Hill and shore · issued 2024-03-31 06:00 UTC",
        "Hours · Hill · issued 2024-03-31 06:00 UTC",
        "Quarters · Shore · issued 2024-03-31 06:10 UTC",
    ]
    assert headings[0].endswith("version 1 · perfect weather")
    assert headings[1].endswith("version 1 · forecast weather")
    assert "10% quantile" in result.stdout
    assert "2024-03-31 07:00  1 h " in result.stdout


@pytest.mark.parametrize(
    ("words", "entities"),
    [
        (["--product", "quarters"], ["Shore"]),
        (["--entity", "hill"], ["Hill"]),
        (["--product", "hours", "--entity", "both"], ["Hill and shore"]),
    ],
)
def test_forecast_of_one(trained: Path, inside: Callable[[Path], Path], words: list[str], entities: list[str]) -> None:
    inside(trained)
    result = type_in("wind", "forecast", *words)
    assert [line.split(" · ")[1] for line in result.stdout.splitlines() if " · " in line] == entities


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--product", "luck"], ["no product 'luck'; there are hours, quarters"]),
        (["--entity", "dale"], ["no farm or group 'dale'; there are hill, shore, both"]),
    ],
)
def test_forecast_of_what_is_not_there_is_one_line(
    trained: Path, inside: Callable[[Path], Path], words: list[str], parts: list[str]
) -> None:
    inside(trained)
    _one_line(type_in("wind", "forecast", *words), *parts)


def test_drivers_prints_what_moved_each_interval(empty: Path) -> None:
    at = pd.Timestamp("2024-03-31T06:00Z")
    rows = [
        (at, hour, attribution, kw + hour, feature, value)
        for hour in (1, 2)
        for attribution, kw, feature, value in (
            ("base", 900.0, "", np.nan),
            ("wind", 250.0, "wind_speed_100m_ms", 9.25),
            ("air", -30.0, "pressure_pa", np.nan),
        )
    ]
    table = pd.DataFrame(
        rows, columns=["issued_at", "valid_at", "feature_group", "contribution_kw", "feature", "feature_value"]
    ).assign(product_id="hours", entity_id="hill", model="catboost", model_version="3")
    table["valid_at"] = at + pd.to_timedelta(table["valid_at"], unit="h")
    History(
        filepath=str(empty / "data/07_model_output/attributions"),
        partition_by=["product_id", "issued_at"],
        contract="wind_kedro.contracts.forecasts.Attributions",
    ).save(table)

    result = type_in("wind", "attributions", "--entity", "hill")
    assert result.exit_code == 0, result.output
    heading, columns, first, second = [line for line in result.stdout.splitlines() if line.strip("- ")]
    assert heading == "Hours · Hill · issued 2024-03-31 06:00 UTC by catboost version 3"
    assert columns.split() == ["valid", "at", "(UTC)", "median", "base", "wind", "air", "most", "of", "all"]
    assert first.split() == ["2024-03-31", "07:00", "1,123", "kW", "901", "+251", "-29", "wind_speed_100m_ms", "9.25"]
    assert second.split()[:4] == ["2024-03-31", "08:00", "1,126", "kW"]
    again = type_in("wind", "attributions", "--entity", "hill", "--issued-at", "2024-03-31T08:00+02:00")
    assert again.stdout == result.stdout

    missing = [
        "no attributions of a forecast of 'hill' issued at 2024-04-01",
        "kedro run --pipeline forecasting",
    ]
    _one_line(type_in("wind", "attributions", "--entity", "hill", "--issued-at", "2024-04-01"), *missing)
    _one_line(type_in("wind", "attributions", "--entity", "hill", "--issued-at", "noon"), "--issued-at noon: is not a time")
    _one_line(type_in("wind", "attributions", "--entity", "dale"), "no farm or group 'dale'")


def test_as_of_a_time_before_all_data_is_one_line_and_touches_nothing(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)

    def results() -> dict[Path, int]:
        """When each was written, but for the records that an issue was due and was not made."""
        found = (path for path in (trained / "data").rglob("*.*") if not re.search("/audit|/failures|/due_issues", str(path)))
        return {path: path.stat().st_mtime_ns for path in found}

    before = results()
    for pipeline, message in {
        "feature_engineering": "no features as of 2010-01-01 00:00 UTC",
        "training": "nothing is ready to be trained as of 2009-12-31 06:10 UTC",
    }.items():
        _one_line(type_in("run", "--pipeline", pipeline, "--params", "as_of=2010-01-01"), message)
    result = type_in("run", "--pipeline", "forecasting", "--params", "as_of=2010-01-01")
    assert result.exit_code == 1
    assert "Error: hours/hill: not issued: no champion (the first was promoted at" in result.output
    assert results() == before


def test_a_run_is_tagged_with_all_it_was_made_from(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db", f"sqlite:///{trained}/mlflow.db")
    experiment = client.get_experiment_by_name("wind_kedro")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    # Training is tracked; the pipelines of every day, when they run alone, are not.
    assert not {run.info.run_name for run in runs} & {"feature_engineering", "forecasting", "monitoring"}
    run = runs[0]
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert tags["as_of"] == "2024-03-31T12:00:00Z"
    assert tags["seed"] == "7"
    assert tags["git_commit"].startswith("not a checkout (wind-kedro ")
    assert tags["lock_sha256"] == "no requirements.lock here"
    assert {len(tags[name]) for name in ("configuration_sha256", "data_sha256")} == {64}
    assert {"backtest.hours.climatology.pinball_share", "backtest.quarters.power_curve.nmae_share"} <= set(run.data.metrics)
    assert client.get_model_version_by_alias("wind_kedro", "champion").version == 1
    assert not list((trained / "mlartifacts").rglob("*.pkl"))


def test_a_rerun_of_training_adds_a_version_and_its_promotion(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    result = type_in("run", "--pipeline", "training")
    assert result.exit_code == 0, result.output
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db", f"sqlite:///{trained}/mlflow.db")
    assert client.get_model_version_by_alias("wind_kedro", "champion").version == 2
    promotions = pd.read_parquet(trained / "data/06_models/promotions")
    assert promotions.groupby("promotion")["model_version"].unique().map(list).to_dict() == {1: ["1"], 2: ["2"]}
    assert set(promotions.loc[promotions["promotion"] == 2, "parent"]) == {1}


def test_an_earlier_version_is_put_into_force_again_and_nothing_is_lost(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db", f"sqlite:///{trained}/mlflow.db")
    result = type_in("wind", "rollback", "--author", "Ada", "--reason", "bids were off")
    assert result.exit_code == 0, result.output
    assert "Version 1 (" in result.output
    assert "forecasts from 2024-03-31 12:00 UTC on (promotion 3)" in result.output
    promotions = pd.read_parquet(trained / "data/06_models/promotions")
    last = promotions[promotions["promotion"] == 3]
    assert set(last["model_version"]) == {"1"}
    assert set(last["entity_id"]) == set(promotions.loc[promotions["promotion"] == 1, "entity_id"])
    assert last[["action", "author", "reason", "parent"]].drop_duplicates().to_numpy().tolist() == [
        ["rollback", "Ada", "bids were off", 2]
    ]
    assert sorted(promotions["promotion"].unique()) == [1, 2, 3]
    assert client.get_model_version_by_alias("wind_kedro", "champion").version == 1
    assert type_in("wind", "rollback", "--to", "2", "--reason", "they were not").exit_code == 0
    assert client.get_model_version_by_alias("wind_kedro", "champion").version == 2
    refused = type_in("wind", "rollback", "--to", "9", "--reason", "a slip")
    assert refused.exit_code == 1
    assert "version 9 of model 'wind_kedro' is refused: no signed promotion names it" in refused.output


def _forecasts(folder: Path) -> pd.DataFrame:
    table = read_table(folder / "data/07_model_output/model_forecasts")
    return table.sort_values(["product_id", "entity_id", "issued_at", "valid_at"], ignore_index=True)


@pytest.fixture
def copied(trained: Path, tmp_path: Path, inside: Callable[[Path], Path]) -> Path:
    """A copy in which forecasting has run: this machine has seen its promotions."""
    shutil.copytree(trained, tmp_path / "copy")
    folder = inside(tmp_path / "copy")
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 0, result.output
    return folder


def _make_again(folder: Path) -> None:
    """Forget which issues were made: they are made once from the same inputs."""
    shutil.rmtree(folder / "data/07_model_output/issues_made")


def test_a_damaged_model_stops_no_other_farm_and_is_an_error_of_the_run(copied: Path) -> None:
    before = _forecasts(copied)
    promotions = pd.read_parquet(copied / "data/06_models/promotions")
    registered = ModelVersions(
        registered_model_name="wind_kedro", objects="data/06_models/objects", promotions="data/06_models/promotions"
    ).load()
    version = str(promotions.sort_values("promotion")["model_version"].iloc[-1])
    (entry,) = (row for row in registered.manifest(version)["members"] if row["entity_id"] == "hill")
    shutil.rmtree(copied / "data/06_models/objects" / entry["object"])
    _make_again(copied)
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 1
    assert f"Error: hours/hill: champion '{entry['model']}' of version {version}: " in result.output
    now = _forecasts(copied)
    hill = now["entity_id"] == "hill"
    pd.testing.assert_frame_equal(now[~hill], before[before["entity_id"] != "hill"], check_exact=True)
    assert set(now.loc[hill, "fallback"]) == {"observed_climatology"}
    failures = pd.read_parquet(copied / "data/07_model_output/failures/forecasting.parquet")
    assert set(failures.loc[failures["entity_id"] == "hill", "code"]) == {"model_unusable", "fallback_used"}
    assert set(failures.loc[failures["severity"] == "error", "entity_id"]) == {"hill"}


def test_an_older_promotion_is_refused_until_somebody_adopts_it(copied: Path) -> None:
    log = copied / "data/06_models/promotions"
    newest = max(log.glob("*.parquet"))
    assert newest.name > "000001.parquet", "an older one is left"
    newest.unlink()
    _make_again(copied)
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 1
    assert f"promotion {int(newest.stem)} removed: this machine has seen promotion {int(newest.stem)}" in result.output
    assert set(_forecasts(copied)["fallback"]) == {"observed_climatology"}
    for words in (("wind", "rollback", "--reason", "a try"), ("run", "--pipeline", "training")):
        refused = type_in(*words)
        assert refused.exit_code == 1
        assert f"promotion {int(newest.stem)} removed" in refused.output
    listed = type_in("wind", "keys", "adopt")
    assert "Nothing was signed" in listed.output or listed.exit_code == 1
    adopted = type_in("wind", "keys", "adopt", "--yes")
    assert adopted.exit_code == 0, adopted.output
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 0, result.output
    assert set(_forecasts(copied)["fallback"]) == {""}


def test_what_an_earlier_version_left_unsigned_is_adopted_by_one_command(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As before signatures: no keys, no signed columns, a plain head.
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "keys"))
    for file in (copied / "data/06_models/promotions").glob("*.parquet"):
        links = ["chain", "previous_sha256", "key_id", "signature", "manifest_sha256"]
        pd.read_parquet(file).drop(columns=links).to_parquet(file, index=False)
    head = copied / "data/07_model_output/audit_head.json"
    head.write_text(json.dumps({name: json.loads(head.read_text())[name] for name in ("sequence", "sha256")}))
    for file in (copied / "data/07_model_output/audit").glob("*.parquet"):
        pd.read_parquet(file).to_parquet(file, index=False)
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 1
    assert "kedro wind keys adopt" in result.output
    refused = type_in("wind", "verify")
    assert (refused.exit_code, "kedro wind keys adopt" in refused.output) == (1, True)
    adopted = type_in("wind", "keys", "adopt", "--yes")
    assert adopted.exit_code == 0, adopted.output
    assert type_in("wind", "verify").exit_code == 0
    result = type_in("run", "--pipeline", "forecasting")
    assert result.exit_code == 0, result.output
    assert set(_forecasts(copied)["fallback"]) == {""}


def test_keys_are_listed_exported_rotated_trusted_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "one"))
    assert "has no key yet" in type_in("wind", "keys", "list").output
    made = type_in("wind", "keys", "rotate").output.split()[1]
    pem = type_in("wind", "keys", "export").output
    (tmp_path / "key.pem").write_text(pem)
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "two"))
    assert type_in("wind", "keys", "trust", str(tmp_path / "key.pem")).output == f"Key {made} is trusted on this machine.\n"
    assert "this machine verifies and does not promote" in type_in("wind", "keys", "list").output
    assert type_in("wind", "keys", "rotate").exit_code == 1
    assert type_in("wind", "keys", "revoke", made).exit_code == 0
    assert f"{made}  revoked" in type_in("wind", "keys", "list").output
    (tmp_path / "key.pem").write_text("garbage")
    refused = type_in("wind", "keys", "trust", str(tmp_path / "key.pem"))
    assert (refused.exit_code, "is no public key in PEM" in refused.output) == (1, True)


def test_what_people_decide_is_written_down(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    farm = ("--farm", "hill", "--author", "Ada", "--reason", "new blades")
    assert type_in("wind", "hold", *farm).exit_code == 0
    assert type_in("wind", "override", *farm, "--model", "climatology", "--product", "hours").exit_code == 0
    result = type_in("wind", "leave-out", *farm, "--begin", "2024-03-02", "--end", "2024-03-03T12:00")
    assert "Recorded as override 3; it applies from the next training on." in result.output
    written = pd.read_parquet(trained / "data/05_model_input/overrides")
    assert written[["kind", "entity_id", "product_id", "model"]].to_numpy().tolist() == [
        ["hold", "hill", "", ""],
        ["override", "hill", "hours", "climatology"],
        ["leave_out", "hill", "", ""],
    ]
    assert set(written["author"] + ": " + written["reason"]) == {"Ada: new blades"}
    assert set(written["effective_at"]) == {pd.Timestamp("2024-03-31T12:00", tz="UTC")}
    assert f"{written['end'].iloc[2]:%d %H:%M}" == "03 12:00"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["hold", "--farm", "moor", "--reason", "x"], "moor", id="no such farm"),
        pytest.param(["hold", "--farm", "hill", "--reason", " "], "give an author and a reason", id="no reason"),
        pytest.param(
            ["approve", "--farm", "hill", "--model", "magic", "--reason", "x"],
            "no candidate 'magic'; there are",
            id="no model",
        ),
        pytest.param(
            ["leave-out", "--farm", "hill", "--begin", "2024-03-03", "--end", "2024-03-02", "--reason", "x"],
            "from when to when?",
            id="no span",
        ),
        pytest.param(["learn-from", "--farm", "hill", "--begin", "soon", "--reason", "x"], "is not a time", id="no time"),
    ],
)
def test_what_cannot_be_written_down_is_one_line(
    trained: Path, inside: Callable[[Path], Path], words: list[str], says: str
) -> None:
    inside(trained)
    before = _folder(trained, "data/06_models")
    result = type_in("wind", *words)
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert says in line
    assert _folder(trained, "data/06_models") == before


def test_decisions_are_printed(trained: Path, inside: Callable[[Path], Path]) -> None:
    inside(trained)
    result = type_in("wind", "decisions", "--farm", "hill")
    assert result.exit_code == 0, result.output
    assert "* first_champion" in result.output
    assert "shore" not in result.output


# --- as a process ----------------------------------------------------------------------------------------------------


def test_the_process_ends_with_one_line_and_code_1(empty: Path) -> None:
    _edit(empty / "conf/base/farms.yml", lambda content: content["farms"][0].update(capacity_kw=-5))
    (empty / "mlflow.db").unlink()
    run = kedro("run", folder=empty)
    assert run.returncode == 1
    assert [line for line in run.stderr.splitlines() if "Error" in line] == [
        "Error: conf/base/farms.yml: farm 'hill': capacity_kw: Input should be greater than 0 (given: -5)"
    ]
    assert "Traceback" not in run.stdout + run.stderr
    assert not (empty / "data").exists()
    assert not (empty / "mlflow.db").exists()


# --- a newcomer ------------------------------------------------------------------------------------------------------


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two turbines, six weeks of hours, as somebody in Germany may export them."""
    times = pd.date_range("2024-02-01", periods=1000, freq="h")
    rng = np.random.default_rng(3)
    lines = ["Zeit;Anlage;Leistung [kW];Windgeschw. [m/s]"]
    for number, at in enumerate(times):
        for turbine in ("W1", "W2"):
            wind = 9 + 6 * np.sin(number / 19) + rng.normal(0, 0.4)
            power = min(2000.0, max(0.0, 2000 * ((wind - 3) / 9) ** 3)) * (1 + rng.normal(0, 0.003))
            cells = [f"{at:%d.%m.%Y %H:%M}", turbine, f"{power:.1f}", f"{max(wind, 0.2):.2f}"]
            lines.append(";".join(cells).replace(".", ",").replace(",", ".", 2))
    path = tmp_path / "moor.csv"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


#: What the export does not prove, in the order in which it is asked.
ANSWERS = {
    "signals.stamps": "interval_end",
    "signals.clock": "as_stamped",
    "id": "moor",
    "name": "Moor",
    "latitude_deg": "53",
    "longitude_deg": "8",
    "time_zone": "Europe/Berlin",
    "hub_height_m": "100",
    "latency_minutes": "15",
}


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_newcomer_is_only_looked_at_with_dry_run(empty: Path, export: Path) -> None:
    before = _contents(empty)
    result = type_in("wind", "add-farm", str(export), "--dry-run")
    assert result.exit_code == 0, result.output
    assert re.search(r"signals\.columns\.power_kw\.name +Leistung \[kW\] +proven", result.stdout)
    assert re.search(r"hub_height_m +null +asked", result.stdout)
    assert _contents(empty) == before


def test_what_an_export_does_not_prove_has_to_be_given(empty: Path, export: Path) -> None:
    before = _contents(empty)
    _one_line(
        type_in("wind", "add-farm", str(export), "--yes", "--id", "moor"),
        "does not prove signals.stamps",
        "hub_height_m",
    )
    _one_line(
        type_in("wind", "add-farm", str(export), "--set", "signals.stamp=x"),
        "no field 'signals.stamp'; did you mean signals.stamps",
    )
    _one_line(type_in("wind", "add-farm", str(export), "--set", "hub_height_m"), "--set hub_height_m: write FIELD=VALUE")
    _one_line(type_in("wind", "add-farm", str(export.with_name("nowhere.csv"))), "nowhere.csv: there is no such file")
    given = [word for field, value in (ANSWERS | {"id": "hill"}).items() for word in ("--set", f"{field}={value}")]
    _one_line(type_in("wind", "add-farm", str(export), "--yes", *given), "farm 'hill' already exists")
    assert _contents(empty) == before


def test_a_name_that_is_taken_is_asked_for_again_and_a_folder_below_the_project_will_do(
    empty: Path, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = empty / "notebooks"
    below.mkdir(exist_ok=True)
    monkeypatch.chdir(below)
    words = [word for answer in ANSWERS.values() for word in (["hill", "moor"] if answer == "moor" else [answer])]
    relative = os.path.relpath(export, below)
    result = CliRunner().invoke(cli, ["wind", "add-farm", relative], input="\n".join([*words, "n", ""]))
    assert result.exit_code == 0, result.output
    assert "farm 'hill' already exists" in result.stderr
    assert "Nothing was written." in result.stdout
    # Given with --id, before anything is asked.
    _one_line(type_in("wind", "add-farm", str(export), "--id", "hill"), "farm 'hill' already exists")


def test_a_no_writes_nothing(empty: Path, export: Path) -> None:
    before = _contents(empty)
    result = CliRunner().invoke(cli, ["wind", "add-farm", str(export)], input="\n".join([*ANSWERS.values(), "n", ""]))
    assert result.exit_code == 0, result.output
    assert "Nothing was written." in result.stdout
    assert _contents(empty) == before


# Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")
@pytest.mark.parametrize("asked", [True, False], ids=["answered", "given"])
def test_a_newcomer_gets_its_card_and_its_data_is_looked_at(empty: Path, export: Path, asked: bool) -> None:
    file = empty / "conf/base/farms.yml"
    text = "# The farms.\n" + file.read_text("utf-8")
    file.write_text(text, encoding="utf-8")
    if asked:
        # An answer that cannot be is asked for again.
        answers = list(ANSWERS.values())
        answers[answers.index("53")] = "530\n53"
        result = CliRunner().invoke(cli, ["wind", "add-farm", str(export)], input="\n".join([*answers, "y", ""]))
        assert "latitude_deg: Input should be less than or equal to 90" in result.stderr
    else:
        given = [word for field, value in ANSWERS.items() for word in ("--set", f"{field}={value}")]
        result = type_in("wind", "add-farm", str(export), "--yes", *given)
    assert result.exit_code == 0, result.output
    card = yaml.safe_load(file.read_text("utf-8"))["farms"][-1]
    assert card["id"] == "moor"
    assert card["capacity_kw"] == 4000
    assert card["signals"]["path"] == "moor/moor.csv"
    assert card["signals"]["stamps"] == "interval_end"
    assert [line for line in text.splitlines() if line not in file.read_text("utf-8").splitlines()] == []
    assert (empty / "data/01_raw/moor/moor.csv").read_bytes() == export.read_bytes()
    # Its rows were read by the card, and nothing of the fleet's results was touched.
    assert re.search(r"signals +rows_in +row +2000 of the source's rows", result.stdout)
    assert not re.search("quarantined", result.stdout)
    assert "Ready for: none (no weather is known yet)" in result.stdout
    written = [path for path in (empty / "data").rglob("[!.]*") if path.is_file()]
    assert written == [empty / "data/01_raw/moor/moor.csv"]
    assert type_in("wind", "farms").exit_code == 0


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning")
def test_a_newcomer_may_be_the_first_of_its_environment_and_have_little_history(empty: Path, export: Path) -> None:
    lines = export.read_text("utf-8").splitlines()
    export.write_text("\n".join([*lines[: 2 * 24 * 20], ""]), encoding="utf-8")
    given = [word for field, value in ANSWERS.items() for word in ("--set", f"{field}={value}")]
    result = type_in("wind", "--env", "mine", "add-farm", str(export), "--yes", *given)
    assert result.exit_code == 0, result.output
    assert "Its data cannot be assessed yet" in result.stdout
    assert "no farm has readable rows on 28 days" in result.stdout
    assert yaml.safe_load((empty / "conf/mine/farms.yml").read_text("utf-8"))["farms"][-1]["id"] == "moor"
    assert "moor" not in (empty / "conf/base/farms.yml").read_text("utf-8")
