"""The whole way, from raw signals to report, on the test fleet: asserted on what came out, never on logs.

The fleet's faults are known (`data/test/01_raw/faults.csv`), so what was found can be counted. Every test here looks at
one run of `kedro run --env test`, or compares it with another run that must come to the same.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import CatalogConfigResolver

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.datasets import DerivedTable, read_table
from wind_kedro.governance.promotions import LINKS
from wind_kedro.pipeline_registry import register_pipelines
from wind_kedro.settings import CONFIG_LOADER_ARGS

pytestmark = pytest.mark.slow

#: From conf/test/parameters_run.yml: trained and issued from, now, and a moment in between for the tests of leakage.
TRAINED = pd.Timestamp("2024-04-01T00:00Z")
NOW = pd.Timestamp("2024-04-10T00:00Z")
THEN = pd.Timestamp("2024-04-05T12:00Z")
FARMS = ["north_ridge", "east_plain", "south_bay"]
ROOMS = [
    "data_engineering",
    "feature_engineering",
    "training",
    "forecasting",
    "monitoring",
    "notification",
    "reporting",
]
#: What runs of the same model and data share to the last bit, by folder under data/test.
TABLES = {
    "signals": "02_intermediate/signals",
    "quarantine": "02_intermediate/quarantine",
    "clock_calibration": "02_intermediate/clock_calibration",
    "power_curve": "02_intermediate/power_curve",
    "observations": "03_primary/observations",
    "weather": "02_intermediate/weather",
    "data_quality": "03_primary/data_quality.parquet",
    "features": "04_feature/features",
    "model_input": "05_model_input/model_input",
    "choices": "06_models/choices.parquet",
    "promotions": "06_models/promotions",
    "backtest_model_forecasts": "06_models/backtest_model_forecasts",
    "backtest_forecasts": "06_models/backtest_forecasts",
    "backtest_scores": "06_models/backtest_scores.parquet",
    "model_forecasts": "07_model_output/model_forecasts",
    "forecasts": "07_model_output/forecasts",
    "live_scores": "07_model_output/live_scores",
    "incidents": "07_model_output/incidents",
}
#: Says when and by which MLflow run, which no two runs share.
NEVER_THE_SAME = ["run_id", "recorded_at", "manifest_sha256", *LINKS]  # a manifest names its run


_ORDER = [
    "source_file", "source_row", "product_id", "entity_id", "farm_id", "granularity_minutes", "model", "weather_model",
    "weather_point", "fitted_at", "wind_speed_ms", "run_at", "issued_at", "valid_at", "available_at", "period", "bucket",
    "metric", "level", "raised_at", "kind", "signal", "message",
]  # fmt: skip


def read(project: Path, name: str) -> pd.DataFrame:
    path = project / "data/test" / TABLES[name]
    table = read_table(path)
    # Tables that grow have no order of their own.
    order = [column for column in _ORDER if column in table]
    return table if path.is_file() else table.sort_values(order, kind="stable", ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """To the last bit, and in the same order."""
    assert len(one) == len(other) > 0
    pd.testing.assert_frame_equal(
        one.drop(columns=NEVER_THE_SAME, errors="ignore").reset_index(drop=True),
        other.drop(columns=NEVER_THE_SAME, errors="ignore").reset_index(drop=True),
        check_exact=True,
    )


#: Several runs in one process, each as if typed: starting Python and importing costs more than a run.
_IN_TURN = """
import json, sys
from wind_kedro.__main__ import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{words}: {stop.code}")
"""


def run_in_turn(folder: Path, *commands: list[str]) -> None:
    words = [["--env", "test", *command] for command in commands]
    command = [sys.executable, "-c", _IN_TURN, json.dumps(words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def config(test_env_project):
    return OmegaConfigLoader(str(test_env_project / "conf"), env="test", **CONFIG_LOADER_ARGS)


@pytest.fixture(scope="module")
def fleet(config):
    cards = config["globals"]
    return Fleet.from_config(cards["farms"], cards["markets"], cards["products"], cards["groups"])


@pytest.fixture(scope="module")
def out(test_env_project):
    """Every table that the run left, by its name in the catalog."""
    return {name: read(test_env_project, name) for name in TABLES}


@pytest.fixture(scope="module")
def faults(test_env_project):
    table = pd.read_csv(test_env_project / "data/test/01_raw/faults.csv", keep_default_na=False)
    for name in ("start", "end"):
        table[name] = pd.to_datetime(table[name], utc=True)
    return table


# --- everything is there ---------------------------------------------------------------------------------------------


def _path_of(entry):
    return entry.get("filepath") or entry.get("dataset", {}).get("filepath")


def test_every_output_of_the_catalog_exists(test_env_project, config):
    catalog = config["catalog"]
    outputs = register_pipelines()["__default__"].all_outputs()
    assert len(outputs) > 25
    resolver = CatalogConfigResolver(dict(catalog))
    catalog = catalog | {name: entry for name in outputs - set(catalog) if (entry := resolver.resolve_pattern(name))}
    assert outputs <= set(catalog), "an output that the catalog does not declare is lost when the run ends"
    paths = {name: _path_of(catalog[name]) for name in outputs}
    elsewhere = {name for name, path in paths.items() if path is None}
    assert elsewhere == {"model_versions", "champion", "training_metrics"} | {
        "checked_clock",
        "due_clock",
        "model_clock",
        "calibrated_forecasts",
    }  # MLflow, and memory
    # No candidate is a shadow here, and no deadline is missed.
    for name in outputs - elsewhere - {"shadow_forecasts", "deadline_forecasts"}:
        path = test_env_project / paths[name]
        files = [path] if path.is_file() else list(path.rglob("*.json" if name == "training_kit" else "*.parquet"))
        assert files, f"{name}: nothing at {path}"
        assert all(file.stat().st_size > 0 for file in files), name


def test_nothing_half_written_is_left(test_env_project):
    hidden = {path.name for path in (test_env_project / "data").rglob(".*")}
    left = {".lease-tables.lock", ".lease-landing.lock"}  # the locks of leases stay, without a holder
    assert hidden <= left | {".index.json"}  # and the index of the audit, written when it is verified


# --- what was wrong with the data, and what was found ----------------------------------------------------------------


def _found(data_quality, farm, table, check, signal="row"):
    row = data_quality[
        (data_quality["farm_id"] == farm)
        & (data_quality["source_table"] == table)
        & (data_quality["check"] == check)
        & (data_quality["signal"] == signal)
    ]
    return int(row["count"].iloc[0]) if len(row) else 0


def _injected(faults, farm, table, kind):
    return faults[(faults["farm_id"] == farm) & (faults["source_table"] == table) & (faults["kind"] == kind)]


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("duplicate", "duplicate"),
        ("revision", "superseded"),
        ("off_grid", "off_grid"),
        ("unknown_turbine", "unknown_turbine"),
        ("unparseable", "unparseable"),
        ("bad_stamp", "bad_stamp"),
        ("late", "late_row"),
    ],
)
@pytest.mark.parametrize("table", ["signals", "weather"])
@pytest.mark.parametrize("farm", FARMS)
def test_faulty_rows_are_found_exactly(out, faults, farm, table, kind, check):
    assert _found(out["data_quality"], farm, table, check) == _injected(faults, farm, table, kind)["rows"].sum()


def test_every_kind_of_fault_is_in_the_data(faults):
    # Otherwise the counts above compare nothing with nothing.
    for kind in (
        "duplicate",
        "revision",
        "off_grid",
        "unknown_turbine",
        "unparseable",
        "bad_stamp",
        "late",
        "conflict",
    ):
        assert faults[faults["kind"] == kind]["rows"].sum() > 0, kind


@pytest.mark.parametrize("check", ["sentinel", "out_of_range", "missing_value"])
@pytest.mark.parametrize("farm", FARMS)
def test_faulty_values_are_found_exactly(out, faults, farm, check):
    injected = _injected(faults, farm, "signals", check).groupby("signal")["rows"].sum()
    rows = out["data_quality"].query("farm_id == @farm and source_table == 'signals' and check == @check and count > 0")
    assert rows.set_index("signal")["count"].to_dict() == injected.to_dict()


@pytest.mark.parametrize("farm", FARMS)
def test_stuck_sensors_are_found(out, faults, farm):
    # Not exactly: only from a repetition on, and only while the wind moved, can a value be known as stuck.
    injected = _injected(faults, farm, "signals", "stuck").groupby("signal")["rows"].sum()
    rows = out["data_quality"].query("farm_id == @farm and check == 'stuck' and count > 0")
    found = rows.set_index("signal")["count"]
    assert set(found.index) == set(injected.index)
    assert (found >= 0.4 * injected).all()
    assert (found <= injected).all()


@pytest.mark.parametrize("farm", FARMS)
def test_conflicts_and_the_missing_hour_are_set_aside(out, faults, farm):
    conflicts = _injected(faults, farm, "signals", "conflict")["rows"].sum()
    restamped = _injected(faults, farm, "signals", "clock_change_restamped")["rows"].sum()
    # Without arrival times nothing proves the hour of a row stamped twice: it is set aside, and so is its twin.
    assert _found(out["data_quality"], farm, "signals", "conflicting_stamp") == conflicts + 2 * restamped


@pytest.mark.parametrize("farm", FARMS)
def test_gaps_are_counted_exactly(out, faults, farm):
    def rows(kind):
        return _injected(faults, farm, "signals", kind)["rows"].sum()

    # What is set aside leaves its interval without a row; of a conflict, both rows are of one interval. The hour that a clock
    # change left out and the one that it stamped twice are both without a row.
    expected = rows("gap") + rows("off_grid") + rows("unparseable") + rows("bad_stamp") + rows("conflict") // 2
    restamped = rows("clock_change_restamped")
    assert _found(out["data_quality"], farm, "signals", "missing_interval") == expected + 2 * restamped


@pytest.mark.parametrize("kind", ["missing_run", "late_run"])
@pytest.mark.parametrize("model", ["alpha", "beta"])
@pytest.mark.parametrize("farm", FARMS)
def test_weather_runs_are_counted_exactly(out, faults, farm, model, kind):
    rows_of_a_run = 49  # every hour from 0 to 48
    injected = _injected(faults, farm, "weather", kind)
    expected = injected[injected["weather_model"] == model]["rows"].sum() / rows_of_a_run
    assert expected > 0
    assert _found(out["data_quality"], farm, "weather", kind, f"run of {model}") == expected


def test_faults_are_found_where_they_are(out, faults):
    """Not only how many: the values that went are those of the turbine and the hours in which they were spoilt."""
    signals = out["signals"]
    seen = 0
    for fault in faults[faults["source_table"] == "signals"].to_dict("records"):
        own = signals[
            (signals["farm_id"] == fault["farm_id"])
            & (signals["valid_at"] >= fault["start"])
            & (signals["valid_at"] < fault["end"])
            & (signals["turbine_id"].eq(fault["turbine_id"]) if fault["turbine_id"] else True)
        ]
        if fault["kind"] in ("sentinel", "missing_value") and fault["turbine_id"]:
            seen += 1
            assert len(own) == fault["rows"], fault
            assert own[fault["signal"]].isna().all(), fault
        if fault["kind"] == "gap":
            seen += 1
            assert own.empty, fault
        if fault["kind"] in ("turbine_stopped", "out_of_order"):
            seen += 1
            assert len(own) == fault["rows"], fault
            assert own["power_kw"].notna().all(), fault
    assert seen >= 15


def _rows_in_file(path: Path) -> int:
    if path.suffix == ".parquet":
        return len(pd.read_parquet(path))
    with gzip.open(path) as file:
        return sum(1 for line in file if line.strip()) - 1


@pytest.mark.parametrize(
    ("table", "files", "parts"),
    [
        ("signals", "signals*", ["kept", "superseded", "duplicate", "quarantined"]),
        ("weather", "weather*", ["kept", "duplicate", "quarantined"]),
    ],
)
@pytest.mark.parametrize("farm", FARMS)
def test_every_row_is_accounted_for(test_env_project, out, fleet, farm, table, files, parts):
    in_files = sum(_rows_in_file(path) for path in (test_env_project / "data/test/01_raw" / farm).glob(files))
    quality = out["data_quality"]
    own = quality[(quality["farm_id"] == farm) & (quality["source_table"] == table)]
    rows_in = own[own["check"] == "rows_in"].iloc[0]
    assert rows_in["of"] == in_files
    assert rows_in["count"] == sum(_found(quality, farm, table, part) for part in parts)
    # The last interval ends with the data, and arrives later.
    not_yet = in_files - rows_in["count"]
    assert not_yet == (len(fleet.farm(farm).turbines) if table == "signals" else 0)
    # The tables themselves hold so many.
    aside = out["quarantine"][(out["quarantine"]["farm_id"] == farm) & (out["quarantine"]["source_table"] == table)]
    assert len(aside) == _found(quality, farm, table, "quarantined")
    assert aside["raw"].map(json.loads).map(len).gt(0).all()
    if table == "signals":
        statuses = out["signals"].query("farm_id == @farm")["status"].value_counts()
        assert statuses.get("kept", 0) == _found(quality, farm, table, "kept")
        assert statuses.get("superseded", 0) == _found(quality, farm, table, "superseded")


def test_the_false_clock_is_found_and_named(out):
    newest = out["clock_calibration"].sort_values("fitted_at").groupby("farm_id").tail(1).set_index("farm_id")
    assert newest["reading"].to_dict() == {
        "north_ridge": "wall_clock_is_utc",
        "east_plain": "wall_clock_is_local",
        "south_bay": "as_stamped",
    }
    assert newest["agrees"].to_dict() == {"north_ridge": False, "east_plain": True, "south_bay": True}
    assert (newest["offset_minutes"].abs() < 15).all()
    quality = out["data_quality"]
    warned = quality[quality["check"] == "clock_disagrees_with_card"]
    assert warned["farm_id"].tolist() == ["north_ridge"]
    assert warned["severity"].tolist() == ["warning"]
    assert "wall_clock_is_utc" in warned["message"].iloc[0]
    assert set(quality[quality["check"] == "clock_agrees"]["farm_id"]) == {"east_plain", "south_bay"}
    raised = out["incidents"][out["incidents"]["kind"] == "clock_disagrees_with_card"]
    assert raised["entity_id"].tolist() == ["north_ridge"]
    assert "signals.clock" in raised["action"].iloc[0]


# --- revisions -------------------------------------------------------------------------------------------------------


def test_a_revision_is_a_second_version(out, faults):
    observations = out["observations"]
    revisions = faults[(faults["kind"] == "revision") & (faults["start"] >= TRAINED)]
    assert len(revisions) == 2
    for revision in revisions.itertuples():
        own = observations[
            (observations["entity_id"] == revision.farm_id)
            & (observations["valid_at"] >= revision.start)
            & (observations["valid_at"] < revision.end)
        ]
        versions = own.groupby(["granularity_minutes", "valid_at"])
        assert (versions["available_at"].nunique() >= 2).all()
        assert (versions["power_kw"].nunique() >= 2).mean() > 0.9


def test_an_issue_knows_the_version_of_its_time(out, fleet):
    """Reckoned again from the observations: the last production known at each issue, in the version known then."""
    issues = out["features"][["product_id", "entity_id", "issued_at", "last_power_share", "last_power_age_minutes"]]
    issues = issues.drop_duplicates(["product_id", "entity_id", "issued_at"])
    issues = issues[(issues["issued_at"] > TRAINED) & issues["last_power_share"].notna()]
    assert len(issues) > 100
    observations = dict(iter(out["observations"].groupby(["entity_id", "granularity_minutes"])))
    older_versions = 0
    for issue in issues.to_dict("records"):
        own = observations[issue["entity_id"], fleet.product(issue["product_id"]).granularity_minutes]
        known = own[own["available_at"] <= issue["issued_at"]].sort_values(["valid_at", "available_at"]).iloc[-1]
        assert issue["last_power_share"] == known["power_kw"] / known["available_capacity_kw"], issue
        assert issue["last_power_age_minutes"] == (issue["issued_at"] - known["valid_at"]).total_seconds() / 60, issue
        final = own[own["valid_at"] == known["valid_at"]].sort_values("available_at").iloc[-1]
        older_versions += final["power_kw"] != known["power_kw"]
    assert older_versions > 0, "no issue fell between a report and its revision: the test shows nothing"


# --- what was issued -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["hourly_36h", "quarter_hourly_24h"])
def product(request, fleet):
    return fleet.product(request.param)


@pytest.fixture(scope="module")
def issued(out, product):
    return out["forecasts"][out["forecasts"]["product_id"] == product.id]


def test_quantiles_rise_within_capacity(issued, product, fleet):
    columns = quantile_columns(product.quantile_levels)
    quantiles = issued[columns].to_numpy()
    assert not np.isnan(quantiles).any()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles >= 0).all()
    capacity = pd.concat(
        [
            pd.Series(fleet.capacity_kw(entity_id, own["valid_at"].dt.tz_localize(None).to_numpy()), own.index)
            for entity_id, own in issued.groupby("entity_id")
        ]
    )
    assert (issued["capacity_kw"] == capacity).all()
    assert (quantiles <= capacity.to_numpy()[:, None]).all()
    # Ranges have a width, and not always the same: a constant would pass all of the above.
    assert (issued[columns[-1]] - issued[columns[0]]).std() > 0.01 * capacity.min()


def test_every_issue_and_interval_is_there_and_no_other(issued, product, fleet):
    issues = pd.DatetimeIndex(fleet.calendar(product.id).issues_between(TRAINED, NOW))
    gate = fleet.market(product.market).gate_closure_minutes
    leads = pd.to_timedelta(range(gate, product.horizon_minutes, product.granularity_minutes), unit="min")
    expected = {(entity, at, at + lead) for entity in product.members for at in issues for lead in leads}
    # An issue between two intervals forecasts from the first whole one after the gate on.
    aligned = {key for key in expected if key[2] == key[2].floor(f"{product.granularity_minutes}min")}
    assert set(issued[["entity_id", "issued_at", "valid_at"]].itertuples(index=False, name=None)) == aligned
    lead = (issued["valid_at"] - issued["issued_at"]).dt.total_seconds() / 60
    assert (issued["lead_minutes"] == lead).all()


def test_only_weather_that_had_arrived_is_behind_a_forecast(issued, out, fleet):
    arrived = out["weather"].groupby(["farm_id", "run_at"])["available_at"].min()
    for entity, rows in issued.groupby("entity_id"):
        runs = rows[["issued_at", "weather_run_at"]].drop_duplicates()
        assert runs["weather_run_at"].notna().all()
        # Of a group, the newest run of any of its farms is named.
        known = pd.concat([runs["weather_run_at"].map(arrived[farm.id]) for farm in fleet.farms_of(entity)], axis=1)
        assert (known.min(axis=1) <= runs["issued_at"]).all(), entity


def test_the_version_promoted_by_then_issued(issued, out, product, fleet):
    promotions = out["promotions"].query("product_id == @product.id").set_index("entity_id")
    assert set(promotions.index) == set(fleet.modelled(product))
    issued = issued[issued["entity_id"].isin(promotions.index)]
    assert (promotions["promoted_at"] == TRAINED).all()
    assert (promotions["trained_through"] < TRAINED).all()
    assert (issued["issued_at"] > issued["entity_id"].map(promotions["promoted_at"])).all()
    assert (issued["model_version"] == issued["entity_id"].map(promotions["model_version"])).all()
    assert (issued["model"] == issued["entity_id"].map(promotions["model"])).all()
    assert (issued["fallback"] == "").all()
    assert (issued["weather"] == "forecast weather").all()


def test_a_portfolio_is_issued_and_backtested_from_its_farms(out, fleet):
    """The coast beside both its farms: medians add up, and the errors of both offset each other in the band."""
    hourly = out["forecasts"].query("product_id == 'hourly_36h'")
    keys = ["issued_at", "valid_at"]
    farms = hourly[hourly["entity_id"].isin(["north_ridge", "south_bay"])].groupby(keys)
    coast = hourly[hourly["entity_id"] == "coast"].set_index(keys).sort_index()
    assert set(coast["model"]) == {"portfolio"}
    assert set(coast["fallback"]) == {""}
    assert coast["q500_kw"].to_numpy() == pytest.approx(farms["q500_kw"].sum().to_numpy())
    summed = farms[["q100_kw", "q900_kw"]].sum()
    assert (coast["q900_kw"] - coast["q100_kw"]).mean() < 0.9 * (summed["q900_kw"] - summed["q100_kw"]).mean()
    backtested = out["backtest_scores"].query("product_id == 'hourly_36h' and entity_id == 'coast'")
    assert set(backtested["model"]) == set(out["backtest_forecasts"]["model"])
    live = out["live_scores"].query("product_id == 'hourly_36h' and entity_id == 'coast' and metric == 'coverage'")
    assert len(live)


def test_the_group_is_what_its_farms_are(out, fleet):
    """Where one of its farms is no member the coast has a model of its own: near the sum of its farms, and moving with it."""
    forecasts = out["forecasts"]
    coast = forecasts[(forecasts["entity_id"] == "coast") & (forecasts["product_id"] == "quarter_hourly_24h")]
    coast = coast.assign(valid_at=coast["valid_at"].dt.floor("h"), issued_at=coast["issued_at"].dt.floor("h"))
    coast = coast.groupby(["issued_at", "valid_at"])["q500_kw"].mean()
    hourly = forecasts[(forecasts["product_id"] == "hourly_36h") & forecasts["entity_id"].isin(["north_ridge", "south_bay"])]
    farms = hourly.groupby(["issued_at", "valid_at"])["q500_kw"].agg(["sum", "count"]).query("count == 2")["sum"]
    both = pd.concat([coast.rename("coast"), farms.rename("farms")], axis=1, join="inner")
    assert len(both) > 300
    assert both.corr().loc["coast", "farms"] > 0.95
    assert (both["coast"] - both["farms"]).abs().mean() < 0.05 * sum(farm.capacity_kw for farm in fleet.farms_of("coast"))


# --- scores ----------------------------------------------------------------------------------------------------------


def _whole(scores, product, metric):
    return scores[
        (scores["product_id"] == product.id)
        & (scores["metric"] == metric)
        & scores["level"].isna()
        & (scores["period"] == "all")
        & (scores["lead_from_minutes"] == 0)
        & (scores["lead_to_minutes"] == product.horizon_minutes)
    ].set_index(["entity_id", "model"])["value"]


@pytest.mark.parametrize("metric", ["pinball_share", "nmae_share", "money_per_mwh"])
def test_weather_beats_climatology_in_the_backtest(out, product, metric):
    scores = _whole(out["backtest_scores"], product, metric).unstack()
    assert list(scores.index) == sorted(product.members)
    for model in ("power_curve", "catboost"):
        assert (scores[model] < 0.7 * scores["climatology"]).all(), model


def test_what_was_issued_beats_climatology_too(out, product):
    live = _whole(out["live_scores"], product, "pinball_share").droplevel("model")
    climatology = _whole(out["backtest_scores"], product, "pinball_share").xs("climatology", level="model")
    assert sorted(live.index) == sorted(product.members)
    assert (live < 0.8 * climatology).all()


def test_the_live_score_is_the_error_of_what_was_issued(out, product, fleet):
    """One score reckoned again from forecasts and observations: nMAE of the median, in the newest version."""
    newest = out["observations"].query("granularity_minutes == @product.granularity_minutes and available_at <= @NOW")
    newest = newest.sort_values("available_at").drop_duplicates(["entity_id", "valid_at"], keep="last")
    newest = newest[newest["imputed_share"] == 0]  # what was filled in did not come
    both = out["forecasts"].query("product_id == @product.id").merge(newest, on=["entity_id", "valid_at"])
    # The forecast is of all turbines; what stood still is taken from it in proportion.
    forecast = both["q500_kw"] / both["capacity_kw"]
    error = (forecast - both["power_kw"] / both["available_capacity_kw"]).abs().groupby(both["entity_id"]).mean()
    scored = _whole(out["live_scores"], product, "nmae_share").droplevel("model")
    pd.testing.assert_series_equal(scored.sort_index(), error.sort_index(), check_names=False, rtol=1e-9)


# --- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry(test_env_project):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{test_env_project / 'data/test/mlflow.db'}")


@pytest.fixture(scope="module")
def version(registry):
    return registry.get_model_version_by_alias("wind_kedro", "champion")


@pytest.fixture(scope="module")
def tracked(registry, version):
    return registry.get_run(version.run_id)


@pytest.fixture(scope="module")
def model_folder(test_env_project, version):
    folders = list((test_env_project / "data/test/mlartifacts/models").glob("*/artifacts"))
    assert len(folders) == 1
    return folders[0]


def test_promotions_and_registry_agree(out, registry, version):
    assert [one.version for one in registry.search_model_versions("name = 'wind_kedro'")] == [version.version]
    assert set(out["promotions"]["model_version"]) == {str(version.version)}
    assert set(out["promotions"]["run_id"]) == {version.run_id}
    assert out["promotions"]["trained_through"].max().isoformat() == version.tags["trained_through"]


def test_the_run_says_what_it_was_made_from(test_env_project, out, tracked, config):
    tags = tracked.data.tags
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=test_env_project, capture_output=True, text=True, check=True)
    assert tags["git_commit"] == head.stdout.strip()
    lock = (test_env_project / "requirements.lock").read_bytes()
    assert tags["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    table = DerivedTable(
        filepath=str(test_env_project / "data/test" / TABLES["model_input"]), key=["product_id", "entity_id"], time="issued_at"
    )
    shards = table.load().days.sort_values(["product_id", "entity_id", "day"])
    assert tags["data_sha256"] == hashlib.sha256(shards["fingerprint"].to_numpy().tobytes()).hexdigest()
    assert re.fullmatch(r"[0-9a-f]{64}", tags["configuration_sha256"])
    assert tags["seed"] == str(config["parameters"]["training"]["seed"])
    assert pd.Timestamp(tags["as_of"]) == NOW
    assert tracked.info.status == "FINISHED"


def test_the_run_has_metrics_and_artefacts(test_env_project, out, registry, tracked, product):
    metrics = tracked.data.metrics
    for model in ("climatology", "persistence", "power_curve", "catboost"):
        mean = _whole(out["backtest_scores"], product, "pinball_share").xs(model, level="model").mean()
        (logged,) = (value for name, value in metrics.items() if name.endswith(f"{product.id}.{model}.pinball_share"))
        assert logged == pytest.approx(mean)
    assert {file.path for file in registry.list_artifacts(tracked.info.run_id)} >= {
        "backtest_scores.parquet",
        "choices.parquet",
    }
    (kept,) = (test_env_project / "data/test/mlartifacts").glob("*/artifacts/backtest_scores.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(kept), out["backtest_scores"])


def test_only_training_is_tracked(registry, tracked):
    runs = registry.search_runs([tracked.info.experiment_id])
    assert [run.info.run_id for run in runs] == [tracked.info.run_id]


def test_the_model_has_signature_and_example_and_speaks(model_folder, fleet):
    import mlflow
    import yaml

    described = yaml.safe_load((model_folder / "MLmodel").read_text("utf-8"))
    inputs = json.loads(described["signature"]["inputs"])
    assert {"product_id", "entity_id", "wind_speed_100m_ms"} <= {column["name"] for column in inputs}
    assert described["signature"]["outputs"]
    model = mlflow.pyfunc.load_model(str(model_folder))
    example = model.input_example
    keys = {(product.id, member) for product in fleet.products for member in fleet.modelled(product)}
    assert set(example[["product_id", "entity_id"]].itertuples(index=False, name=None)) == keys
    shares = model.predict(example)
    assert len(shares) == len(example)
    assert shares["q500_share"].between(0, 1).all()


def test_no_pickle_anywhere(test_env_project):
    """Neither by name nor by content: a pickle of protocol 2 or later begins with 0x80 and the protocol's number."""
    folders = [test_env_project / "data/test" / name for name in ("mlartifacts", "06_models/objects")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        start = path.read_bytes()[:2]
        assert path.suffix not in {".pkl", ".pickle", ".joblib", ".cloudpickle"}, path
        assert not (len(start) == 2 and start[0] == 0x80 and start[1] in range(2, 6)), path
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype != object for name in arrays), path


# --- what people and machines read -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summary(test_env_project):
    return json.loads((test_env_project / "data/test/08_reporting/summary.json").read_text("utf-8"))


def test_the_summary_obeys_its_schema(summary, project_path):
    from jsonschema import Draft202012Validator

    schema = json.loads((project_path / "docs/summary.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(summary)] == []
    spoilt = summary | {"as_of": 20240410}
    assert list(validator.iter_errors(spoilt)), "the schema lets anything through"


def test_the_summary_says_what_the_tables_say(summary, out, fleet):
    assert pd.Timestamp(summary["as_of"]) == NOW
    assert [farm["farm_id"] for farm in summary["farms"]] == FARMS
    for farm in summary["farms"]:
        aside = out["quarantine"].query("farm_id == @farm['farm_id']")["reason"].value_counts().to_dict()
        assert farm["set_aside_rows"] == aside
        counts = {(row["source_table"], row["check"], row["signal"]): row["count"] for row in farm["data_quality"]}
        own = out["data_quality"].query("farm_id == @farm['farm_id']")
        table = own.set_index(["source_table", "check", "signal"])["count"].to_dict()
        assert counts
        assert all(table[key] == count for key, count in counts.items())
    members = {(member["product_id"], member["entity_id"]): member for member in summary["members"]}
    assert set(members) == {(product.id, member) for product in fleet.products for member in product.members}
    for (product_id, entity_id), member in members.items():
        own = out["forecasts"].query("product_id == @product_id and entity_id == @entity_id")
        newest = own[own["issued_at"] == own["issued_at"].max()]
        hours = fleet.product(product_id).granularity_minutes / 60
        assert pd.Timestamp(member["forecast"]["issued_at"]) == newest["issued_at"].iloc[0]
        assert member["forecast"]["model_version"] == newest["model_version"].iloc[0]
        energy = member["forecast"]["energy"]
        within = newest[newest["valid_at"].between(energy["start"], energy["end"], inclusive="left")]
        assert energy["expected_mwh"] == pytest.approx(within["q500_kw"].sum() * hours / 1000, rel=1e-3)
        assert energy["low_mwh"] <= energy["expected_mwh"] <= energy["high_mwh"]
        scores = _whole(out["backtest_scores"], fleet.product(product_id), "nmae_share")
        for score in member["backtest"]:
            assert score["nmae_share"] == pytest.approx(scores[entity_id, score["model"]], abs=1e-6)
    told = out["incidents"][out["incidents"]["severity"] != "info"]
    raised = told[["kind", "entity_id", "product_id"]].itertuples(index=False, name=None)
    assert {(one["kind"], one["entity_id"], one["product_id"]) for one in summary["warnings"]} == set(raised)


def test_the_report_needs_no_network_and_has_every_farm(test_env_project, fleet):
    page = (test_env_project / "data/test/08_reporting/report.html").read_text("utf-8")
    # Outside of scripts: Plotly's own code holds addresses of map tiles, which no figure here asks for.
    plain = re.sub(r"<script\b.*?</script>", "", page, flags=re.S)
    tags = r"script|img|link|iframe|source|video|audio|object|embed"
    loads = re.findall(rf"<(?:{tags})\b[^>]*?(?:src|href|data)\s*=\s*[\"']?([^\"'> ]+)", page)
    assert [address for address in loads if not address.startswith(("data:", "#"))] == []
    assert re.findall(r"@import|url\(\s*[\"']?(?!data:|#)", plain) == []
    for farm in fleet.farms:
        assert farm.name in plain
    for product in fleet.products:
        assert product.name in plain
    assert "The coast" in plain


# --- each pipeline alone, and again ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(make_checkout):
    """A fresh clone in which the six pipelines ran one by one, started in a folder below."""
    project = make_checkout()
    run_in_turn(project / "notebooks", *(["--pipeline", room] for room in ROOMS))
    return project


@pytest.mark.long
@pytest.mark.parametrize("name", TABLES)
def test_pipelines_one_by_one_come_to_the_same(alone, out, name):
    same(read(alone, name), out[name])


@pytest.mark.long
def test_a_run_started_below_leaves_nothing_there(alone):
    assert [path.suffix for path in (alone / "notebooks").iterdir()] == [".ipynb"]


@pytest.mark.long
@pytest.mark.parametrize("document", ["summary.json", "forecast.json", "power_curve.json"])
def test_documents_come_to_the_same(alone, test_env_project, document):
    def content(project):
        text = (project / "data/test/08_reporting" / document).read_text("utf-8")
        return re.sub(r'"run_id": "\w+"', "", text)

    assert content(alone) == content(test_env_project)


@pytest.fixture(scope="module")
def backtested(test_env_project, tmp_path_factory):
    """A copy of the project, in which a past moment was backtested with the models that were there."""
    project = shutil.copytree(test_env_project, tmp_path_factory.mktemp("later") / "project")
    rooms = ["data_engineering", "feature_engineering", "forecasting", "monitoring"]
    run_in_turn(project, *(["--pipeline", room, "--params", f"as_of={THEN:%Y-%m-%dT%H:%M}"] for room in rooms))
    return project


def test_a_backtest_sees_nothing_later(backtested):
    project = backtested
    assert read(project, "observations")["available_at"].max() <= THEN
    assert read(project, "weather")["available_at"].max() <= THEN
    assert read(project, "signals")["available_at"].max() <= THEN
    assert read(project, "clock_calibration")["fitted_at"].max() <= THEN
    assert read(project, "power_curve")["fitted_at"].max() <= THEN
    assert read(project, "features")["issued_at"].max() == THEN


def test_a_backtest_knows_what_was_known_then(backtested, out):
    project = backtested
    for name, column in {
        "observations": "available_at",
        "weather": "available_at",
        "clock_calibration": "fitted_at",
        "power_curve": "fitted_at",
        "features": "issued_at",
    }.items():
        same(read(project, name), out[name][out[name][column] <= THEN])


def test_a_backtest_issues_what_was_issued_then(backtested, out):
    project = backtested
    # All that was issued: what the backtest wrote again, and what later issues left.
    same(read(project, "forecasts"), out["forecasts"])


# --- leakage ---------------------------------------------------------------------------------------------------------


def _spoil_csv(path: Path, separator: str, encoding: str, late, columns: list[str]) -> None:
    """Rewrite the rows that became available after THEN: values scaled, every seventh row gone; the others stay as text."""
    table = pd.read_csv(path, sep=separator, encoding=encoding, dtype=str, keep_default_na=False)
    after = late(table)
    assert after.any()
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce")
        table.loc[after, column] = (values[after] * 0.3 + 1).map("{:.3f}".format)
    gone = after & (np.arange(len(table)) % 7 == 0)
    table[~gone].to_csv(path, sep=separator, encoding=encoding, index=False, lineterminator="\n")


def _spoil_parquet(path: Path, arrived: str, columns: list[str], stamp: str | None = None) -> None:
    table = pd.read_parquet(path)
    after = table[arrived] > THEN
    assert after.any()
    table.loc[after, columns] = table.loc[after, columns] * 0.3 + 1
    if stamp:  # what arrives later may also speak of earlier hours: a revision, or a lie
        moved = after & (np.arange(len(table)) % 5 == 0)
        table.loc[moved, stamp] = table.loc[moved, stamp] - pd.Timedelta(days=2)
    table[~(after & (np.arange(len(table)) % 7 == 0))].to_parquet(path, index=False)


@pytest.fixture(scope="module")
def spoilt(make_checkout, test_env_project):
    """A project with the models of the first, whose raw files differ in all that arrived after THEN."""
    project = make_checkout()
    shutil.copytree(test_env_project / "data/test/06_models", project / "data/test/06_models")
    shutil.copy(test_env_project / "data/test/mlflow.db", project / "data/test")
    raw = project / "data/test/01_raw"

    def after_the_clock(table):  # UTC with a false offset; five minutes' interval, five minutes' latency
        wall = pd.to_datetime(table["time"].str[:19], errors="coerce", utc=True)
        return wall + pd.Timedelta(minutes=10) > THEN

    _spoil_csv(raw / "north_ridge/signals.csv.gz", ",", "utf-8", after_the_clock, ["power", "wind_speed"])
    _spoil_csv(
        raw / "north_ridge/weather_beta.csv.gz",
        ",",
        "utf-8",
        lambda table: pd.to_datetime(table["available_at"], utc=True) > THEN,
        ["u100", "v100"],
    )
    _spoil_csv(
        raw / "south_bay/signals_2024-04.csv.gz",
        ";",
        "latin-1",
        lambda table: pd.to_datetime(table["Empfangen"], utc=True) > THEN,
        ["Leistung (kW)", "Wind (km/h)"],
    )
    _spoil_parquet(raw / "east_plain/signals.parquet", "received_at", ["active_power", "wind"], stamp="local_time")
    for farm in FARMS:
        _spoil_parquet(raw / farm / "weather_alpha.parquet", "available_at", ["wind_speed_100m"])
    for farm in ("east_plain", "south_bay"):
        _spoil_parquet(raw / farm / "weather_beta.parquet", "available_at", ["u100", "v100"])
    run_in_turn(project, *(["--pipeline", room] for room in ["data_engineering", "feature_engineering", "forecasting"]))
    return project


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("clock_calibration", "fitted_at"),
        ("power_curve", "fitted_at"),
        ("observations", "available_at"),
        ("weather", "available_at"),
        ("features", "issued_at"),
        ("forecasts", "issued_at"),
    ],
)
def test_the_raw_future_moves_nothing_of_the_past(spoilt, out, name, column):
    found = read(spoilt, name)
    past, future = found[column] <= THEN, found[column] > THEN
    same(found[past], out[name][out[name][column] <= THEN])
    if name not in ("clock_calibration", "power_curve"):  # those are made on the first of a month
        there = out[name][out[name][column] > THEN]
        assert not found[future].reset_index(drop=True).equals(there.reset_index(drop=True)), "the raw data was not changed"
