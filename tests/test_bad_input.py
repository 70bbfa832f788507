"""What is wrong outside the code is one clear line: what, where, what to do. Nothing that was there before is touched."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from wind_kedro.cli import cli
from wind_kedro.datasets import read_table

pytestmark = [
    pytest.mark.slow,
    # What libraries say of one another: kedro-mlflow of Pydantic, Ibis of DuckDB and pandas, an import hook of lazy imports.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_ImportHookChainedLoader:ImportWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning"),
]

HOURS = 24
START = pd.Timestamp("2024-03-01", tz="UTC")
SIGNALS, WEATHER = "data/01_raw/hill.csv", "data/01_raw/alpha.csv"


def _edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def _only_the_hill(farms: Any) -> None:
    farms["farms"] = farms["farms"][:1]
    farms["groups"] = []


def _sold_by_the_hour(products: Any) -> None:
    products["products"] = [products["products"][0] | {"members": ["hill"]}]


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    """One farm and a day of its data, and something that earlier runs left."""
    folder = make_project()
    _edit(folder / "conf/base/farms.yml", _only_the_hill)
    _edit(folder / "conf/base/products.yml", _sold_by_the_hour)
    times = pd.date_range(START, periods=6 * HOURS, freq="10min")
    signals = pd.DataFrame([(f"{at:%Y-%m-%dT%H:%MZ}", f"T{turbine}", 500.0) for at in times for turbine in range(3)])
    runs = pd.date_range(START, periods=HOURS // 6, freq="6h")
    weather = pd.DataFrame(
        [(run.isoformat(), (run + pd.Timedelta(hours=lead)).isoformat(), 8.0) for run in runs for lead in range(13)]
    )
    # Its clock is judged after a day already.
    settings = folder / "conf/base/parameters_data_engineering.yml"
    _edit(settings, lambda content: content["data_engineering"]["clock_search"].update(min_history_days=1))
    (folder / "data/01_raw").mkdir(parents=True)
    signals.to_csv(folder / SIGNALS, header=["time", "turbine", "power"], index=False)
    weather.to_csv(folder / WEATHER, header=["run", "time", "wind"], index=False)
    for name in (
        "03_primary/data_quality.parquet",
        "07_model_output/outliers.parquet",
        "08_reporting/report.html",
    ):
        (folder / "data" / name).parent.mkdir(parents=True)
        (folder / "data" / name).write_text("what an earlier run left")
    return inside(folder)


def fingerprints(folder: Path) -> dict[Path, str]:
    """Of every file that is there, results of earlier runs above all; a lease is no result."""
    files = [path for path in (folder / "data").rglob("*") if path.is_file() and not path.name.startswith(".lease-")]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def one_line(result: Result, parts: list[str]) -> str:
    """The one line that a failed command says, with these parts in this order; no stack, and an exit code that is not 0."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code not in (0, None)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    assert "kedro/" not in result.output
    position = 0
    for part in parts:
        position = lines[0].find(part, position)
        assert position >= 0, f"'{part}' is not (in its place) in: {lines[0]}"
    return lines[0]


def type_in(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


# --- files -----------------------------------------------------------------------------------------------------------


def _gone(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_text("")


def _header_only(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0] + "\n")


def _no_table(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def _other_separator(path: Path) -> None:
    path.write_text(path.read_text().replace(",", ";"))


def _other_encoding(path: Path) -> None:
    path.write_bytes(path.read_text().replace("T0", "Süd").replace("08.0", "ü").encode("latin-1") + "ü".encode("latin-1"))


def _utf_16(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def _other_names(path: Path) -> None:
    path.write_text(path.read_text().replace("power", "Leistung", 1).replace("wind", "Wind", 1))


@pytest.mark.parametrize("file", [SIGNALS, WEATHER])
@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        pytest.param(_gone, ["missing", "put it there"], id="missing"),
        pytest.param(_empty, ["empty", "fetch it again"], id="empty"),
        pytest.param(_header_only, ["header but no rows"], id="header only"),
        pytest.param(_no_table, [], id="not a table"),
        pytest.param(_other_separator, ["separator"], id="separator"),
        pytest.param(_other_encoding, ["utf-8", "encoding"], id="encoding"),
        pytest.param(_utf_16, ["utf-8", "encoding"], id="another encoding"),
        pytest.param(_other_names, ["no column"], id="column"),
    ],
)
def test_a_csv_file_that_cannot_be_read(
    project: Path, caplog: pytest.LogCaptureFixture, file: str, spoil: Callable[[Path], None], parts: list[str]
) -> None:
    spoil(project / file)
    before = fingerprints(project)
    line = one_line(type_in("run"), ["farm 'hill'", Path(file).name, *parts])
    assert line.count("hill.csv" if file == SIGNALS else "alpha.csv") == 1
    after = fingerprints(project)
    assert {path: after[path] for path in before} == before
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        pytest.param("hill.csv.gz", lambda path: gzip.compress(path.read_bytes())[:-40], ["break off"], id="breaks off"),
        pytest.param("hill.csv.gz", lambda path: path.read_bytes(), ["not a sound gzip file"], id="not compressed"),
        pytest.param("hill.parquet", lambda _: b"PAR1" + bytes(100), ["not a Parquet file, or cut off"], id="not Parquet"),
    ],
)
def test_a_file_that_came_broken(project: Path, name: str, content: Callable[[Path], bytes], parts: list[str]) -> None:
    (project / "data/01_raw" / name).write_bytes(content(project / SIGNALS))
    source = {"path": name, "format": "parquet" if name.endswith("parquet") else "csv"}
    _edit(project / "conf/base/farms.yml", lambda cards: cards["farms"][0]["signals"].update(source))
    before = fingerprints(project)
    one_line(type_in("run"), ["farm 'hill'", name, *parts, "fetch it again"])
    after = fingerprints(project)
    assert {path: after[path] for path in before} == before


# --- cards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "change", "parts"),
    [
        pytest.param(
            "farms",
            lambda cards: cards["farms"][0]["signals"]["columns"]["power_kw"].update(unit="hp"),
            ["farms.yml", "farm 'hill'", "signals", "columns.power_kw.unit: 'hp'", "known are kW, MW, W"],
            id="unit",
        ),
        pytest.param(
            "farms",
            lambda cards: cards["farms"][0].update(capacity_kw=-3000),
            ["farm 'hill'", "capacity_kw"],
            id="capacity",
        ),
        pytest.param(
            "products",
            lambda cards: cards["products"][0].update(members=["hil"]),
            ["products.yml", "products.hours.members", "'hil'", "known are hill"],
            id="farm",
        ),
        pytest.param(
            "products",
            lambda cards: cards["products"][0].update(market="bourse"),
            ["products.yml", "products.hours.market", "'bourse'", "known are hourly, quarterly"],
            id="market",
        ),
        pytest.param("farms", lambda cards: cards.pop("farms"), ["farms.yml"], id="no farms"),
    ],
)
def test_a_card_that_is_wrong(project: Path, file: str, change: Callable[[Any], None], parts: list[str]) -> None:
    _edit(project / f"conf/base/{file}.yml", change)
    before = fingerprints(project)
    one_line(type_in("run"), parts)
    assert fingerprints(project) == before


def test_a_file_that_is_not_yaml(project: Path) -> None:
    (project / "conf/base/farms.yml").write_text("farms: [\n  - id: hill\n")
    one_line(type_in("run"), ["farms.yml"])


# --- times and words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "parts"),
    [
        pytest.param(
            "2010-01-01", ["as_of 2010-01-01 00:00 UTC", "outside", "'hill' from 2024-03-02 to 2024-03-31"], id="before"
        ),
        pytest.param(
            "2030-01-01",
            ["as_of 2030-01-01 00:00 UTC", "outside", "'hill' from 2024-03-02 to 2024-03-31"],
            id="long after",
        ),
        pytest.param("tomorrow", ["clock.as_of", "datetime"], id="no date"),
        pytest.param("2024-02-30", ["clock.as_of", "datetime"], id="no such day"),
    ],
)
def test_a_time_outside_the_data(project: Path, caplog: pytest.LogCaptureFixture, as_of: str, parts: list[str]) -> None:
    before = fingerprints(project)
    one_line(type_in("run", "--params", f"as_of={as_of}"), parts)
    after = fingerprints(project)
    assert {path: after[path] for path in before} == before
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        pytest.param(["--pipeline", "forecastin"], ["forecastin"], id="pipeline"),
        pytest.param(["--env", "tset"], ["tset"], id="environment"),
        pytest.param(["--nodes", "no_such_node"], ["no_such_node"], id="node"),
    ],
)
def test_a_word_that_nobody_knows(project: Path, words: list[str], parts: list[str]) -> None:
    before = fingerprints(project)
    one_line(type_in("run", *words), parts)
    assert fingerprints(project) == before


@pytest.mark.parametrize(
    ("room", "missing", "maker"),
    [
        ("feature_engineering", "weather", "data_engineering"),
        ("training", "features", "feature_engineering"),
        ("forecasting", "promotions", "training"),
        ("monitoring", "live_scores", None),
        ("reporting", "summary", None),
    ],
)
def test_a_pipeline_without_its_inputs(project: Path, room: str, missing: str, maker: str | None) -> None:
    before = fingerprints(project)
    line = one_line(type_in("run", "--pipeline", room), [])
    if maker:
        assert f"'{missing}' is missing: pipeline '{maker}' makes it (kedro run --pipeline {maker})" in line
    else:  # its own outputs are not its inputs
        assert f"'{missing}' is missing" not in line
        assert "is missing: pipeline '" in line
    assert fingerprints(project) == before


# --- in processes of their own, as people meet them ------------------------------------------------------------------


def _lines(words: list[str], folder: Path) -> tuple[int, list[str], str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    said = done.stderr + done.stdout
    return done.returncode, [line for line in done.stderr.splitlines() if "Error: " in line], said


@pytest.mark.parametrize("command", [["-m", "kedro", "run"], ["-m", "wind_kedro"]], ids=["kedro run", "the wheel"])
def test_a_process_says_one_line_and_no_stack(project: Path, command: list[str]) -> None:
    (project / SIGNALS).unlink()
    code, errors, said = _lines([sys.executable, *command], project)
    assert code == 1
    assert len(errors) == 1
    assert said.count("hill.csv") == 1, "said twice"
    assert "Traceback" not in said
    assert " ERROR " not in said
    assert "site-packages/kedro/" not in said


def test_one_bad_farm_of_three_does_not_stop_the_others(make_checkout: Callable[[], Path], test_env_project: Path) -> None:
    """Two sources of the test fleet cannot be read: everything else is made, and the end says so, a line for each."""
    folder = make_checkout()
    raw = folder / "data/test/01_raw"
    (raw / "east_plain/signals.parquet").write_bytes((raw / "east_plain/signals.parquet").read_bytes()[:-1000])
    (raw / "south_bay/weather_beta.parquet").unlink()
    # One fold, and quantiles as they are learnt: how candidates compare is not asked here.
    shorter = (
        "training.backtest.days=15,training.backtest.cross_validation_blocks=0,"
        "training.candidates.catboost.params.calibration_folds=0"
    )
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--params", shorter]
    code, said_errors, said = _lines(command, folder)
    errors = [line for line in said_errors if line.startswith("Error: ")]  # the log of alarms quotes what the reader said
    assert code == 1
    assert "farm 'east_plain'" in errors[0]
    assert "signals.parquet" in errors[0]
    assert "farm 'south_bay'" in errors[1]
    assert "weather_beta.parquet" in errors[1]
    # Behind them what follows from it, as incidents; none of the two comes twice.
    assert [line for line in errors[2:] if "source_unreadable" in line or not re.match(r"Error: [a-z0-9_]+[:/]", line)] == []
    assert said.rstrip().endswith(errors[-1])
    assert "Traceback" not in said

    def read(project: Path, path: str) -> pd.DataFrame:
        return read_table(project / "data/test" / path)

    quality = read(folder, "03_primary/data_quality.parquet")
    unread = quality[quality["check"] == "source_unreadable"]
    assert unread[["farm_id", "source_table", "severity"]].to_dict("split")["data"] == [
        ["east_plain", "signals", "error"],
        ["south_bay", "weather", "error"],
    ]
    incidents = read(folder, "07_model_output/incidents")
    raised = incidents[incidents["kind"] == "source_unreadable"]
    assert sorted(raised["entity_id"]) == ["east_plain", "south_bay"]
    assert raised["action"].str.len().gt(0).all()
    # The farm that is whole is forecast in full, and nearly as before: it only misses what it saw of the others' weather. The one
    # with one weather model is forecast by that one.
    ours, theirs = (read(project, "07_model_output/forecasts") for project in (folder, test_env_project))
    key = ["product_id", "entity_id", "issued_at", "valid_at"]
    whole = [table[table["entity_id"] == "north_ridge"].set_index(key).sort_index() for table in (ours, theirs)]
    assert whole[0].index.equals(whole[1].index)
    moved = (whole[0]["q500_kw"] - whole[1]["q500_kw"]).abs() / whole[0]["capacity_kw"]
    assert moved.mean() < 0.05
    assert {"south_bay", "coast"} <= set(ours["entity_id"])
    assert (folder / "data/test/08_reporting/report.html").stat().st_size > 1_000_000
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'data/test/mlflow.db'}")
    version = client.get_model_version_by_alias("wind_kedro", "champion")
    assert client.get_run(version.run_id).info.status == "FINISHED"
