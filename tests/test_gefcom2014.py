"""The environment of GEFCom2014, run on a file of the shape of the competition's own, which is not ours to ship."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import configure_project
from kedro.framework.session import KedroSession

from wind_kedro.datasets import tables_in

from .conftest import PROJECT, mlflow_kept

pytestmark = [
    pytest.mark.slow,
    # Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

ZONES = range(1, 11)
#: Three months: two (and the days that make sixty) to learn from, March to forecast.
STAMPS = pd.date_range("2011-12-30 01:00", "2012-04-01 00:00", freq="h", unit="us")
LEVELS = np.arange(1, 100) / 100
WHEN = {"as_of": "2012-04-02", "train_as_of": "2012-04-02", "months": "2012-03"}


def _zone(zone: int) -> pd.DataFrame:
    numbers = np.random.default_rng(zone)
    slow = np.convolve(numbers.normal(size=len(STAMPS) + 23), np.ones(24) / 24, "valid") * 12
    u, v = 5 + slow, 3 + numbers.normal(size=len(STAMPS))
    speed = np.hypot(u, v)
    share = np.clip(((speed + np.roll(speed, 1)) / 2 - 3) / 10 + numbers.normal(scale=0.05, size=len(STAMPS)), 0, 1)
    share[40] = np.nan  # a few are missing, as there
    table = {"ZONEID": zone, "TIMESTAMP": STAMPS, "TARGETVAR": share.round(6)}
    return pd.DataFrame(table | {"U10": u / 2, "V10": v / 2, "U100": u, "V100": v, "task": 0})


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """The file: zones one below the other."""
    return pd.concat([_zone(zone) for zone in ZONES], ignore_index=True)


@pytest.fixture(scope="module")
def project(raw: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which the environment was backtested for March, both products."""
    folder = tmp_path_factory.mktemp("gefcom")
    for name in ("base", "gefcom2014"):
        shutil.copytree(PROJECT / "conf" / name, folder / "conf" / name)
    shutil.copy(PROJECT / "conf" / "logging.yml", folder / "conf")
    shutil.copy(PROJECT / "pyproject.toml", folder)
    for name in ("src", "conf/local", "data/01_raw/gefcom2014"):
        (folder / name).mkdir(parents=True)
    mlflow = folder / "conf" / "gefcom2014" / "mlflow.yml"
    mlflow.write_text(mlflow.read_text("utf-8").replace("sqlite:///data", f"sqlite:///{folder}/data"))
    # Two files: a month that comes later may be one of its own.
    early = raw["TIMESTAMP"] <= "2012-03-01"
    raw[early].to_parquet(folder / "data/01_raw/gefcom2014/to_february.parquet", index=False)
    raw[~early].to_parquet(folder / "data/01_raw/gefcom2014/march.parquet", index=False)
    configure_project("wind_kedro")
    with mlflow_kept(), pytest.MonkeyPatch.context() as patch:
        from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

        patch.chdir(folder)
        asked = [("data_engineering", None), ("feature_engineering", None), ("training", ["backtest.score_backtest"])]
        for room, to_nodes in asked:
            with KedroSession.create(folder, env="gefcom2014", runtime_params=WHEN, save_on_close=False) as session:
                session.run(pipeline_names=[room], to_nodes=to_nodes)
            mlflow_hook.run_id = None
        yield folder


def _read(project: Path, name: str) -> pd.DataFrame:
    return next(table for path, table in tables_in(project / "data" / "gefcom2014").items() if path.endswith(f"/{name}"))


def test_every_zone_is_a_farm_of_its_own_rows(project: Path, raw: pd.DataFrame) -> None:
    found = _read(project, "observations")
    assert set(found["entity_id"]) == {f"zone_{zone}" for zone in ZONES} | {"all_zones"}
    power = found.pivot_table(index="valid_at", columns="entity_id", values="power_kw").dropna()
    assert power["all_zones"].to_numpy() == pytest.approx(power.drop(columns="all_zones").sum(axis=1).to_numpy())
    for zone in (1, 10):
        own = found[found["entity_id"] == f"zone_{zone}"].sort_values("valid_at")
        sent = raw[(raw["ZONEID"] == zone) & raw["TARGETVAR"].notna()]
        # An hour is named by its start, and its share is of the nominal capacity.
        assert (own["valid_at"].dt.tz_localize(None) + pd.Timedelta(hours=1)).tolist() == sent["TIMESTAMP"].tolist()
        assert own["power_kw"].to_numpy() == pytest.approx(sent["TARGETVAR"].to_numpy() * 1000, abs=1e-5)
    assert _read(project, "quarantine").empty


def test_the_run_of_a_day_is_of_its_midnight_and_readable_by_setting(project: Path) -> None:
    found = _read(project, "weather")
    assert (found["run_at"] == (found["valid_at"] - pd.Timedelta(minutes=1)).dt.floor("D")).all()
    delay = (found["available_at"] - found["run_at"]).groupby(found["weather_model"]).unique()
    assert delay["ecmwf_at_once"].tolist() == [pd.Timedelta(0)]
    assert delay["ecmwf"].tolist() == [pd.Timedelta(minutes=372)]


@pytest.fixture(scope="module")
def features(project: Path) -> pd.DataFrame:
    """What was known, by product, of zone 2."""
    found = _read(project, "features")
    return found[found["entity_id"] == "zone_2"].sort_values(["product_id", "issued_at", "valid_at"], ignore_index=True)


def test_the_competition_knows_the_days_own_run_and_no_production(features: pd.DataFrame, raw: pd.DataFrame) -> None:
    own = features[(features["product_id"] == "competition") & (features["issued_at"] < pd.Timestamp("2012-04-01", tz="UTC"))]
    assert sorted(own["lead_minutes"].unique()) == list(range(0, 1440, 60))
    assert not own.filter(regex="power_share|last_|error_").notna().any(axis=None)
    assert (own["weather_run_at"] == own["issued_at"]).all()
    sent = raw[raw["ZONEID"] == 2]
    speed = np.hypot(sent["U100"], sent["V100"]).to_numpy()
    assert own["wind_speed_100m_ms_plus_30min"].to_numpy() == pytest.approx(speed, abs=1e-9)
    # Before the first hour's end there is nothing in the run: its own value holds for half an hour, and no other run's.
    midnight = own["lead_minutes"] == 0
    assert own.loc[midnight, "wind_speed_100m_ms"].to_numpy() == pytest.approx(speed[::24], abs=1e-9)
    assert own.loc[midnight, "wind_speed_100m_ms_minus_30min"].isna().all()
    assert own.loc[own["lead_minutes"] == 1380, "wind_speed_100m_ms_plus_90min"].isna().all()


def test_the_operator_knows_what_had_arrived_by_seven(features: pd.DataFrame) -> None:
    own = features[(features["product_id"] == "operational") & features["last_power_share"].notna()]
    assert sorted(own["lead_minutes"].unique()) == list(range(0, 1020, 60))
    # The hour from six ends at seven, and its row comes ten minutes later.
    assert own["last_power_age_minutes"].min() == 120


def test_a_month_is_forecast_and_scored_as_the_competition_does(project: Path, raw: pd.DataFrame) -> None:
    issued = _read(project, "backtest_forecasts")
    assert set(issued["issued_at"].dt.strftime("%Y-%m")) == {"2012-03"}
    assert set(issued["product_id"]) == {"competition", "operational"}
    # The official score by hand: over quantiles, hours and zones.
    own = issued[(issued["product_id"] == "competition") & (issued["model"] == "power_curve")]
    own = own.assign(ZONEID=own["entity_id"].str.removeprefix("zone_").astype("int64"))
    own["TIMESTAMP"] = own["valid_at"].dt.tz_localize(None) + pd.Timedelta(hours=1)
    joined = own.merge(raw, on=["ZONEID", "TIMESTAMP"]).dropna(subset="TARGETVAR")
    assert len(joined) == 31 * 24 * 10
    quantiles = joined[[f"q{round(level * 1000):03d}_kw" for level in LEVELS]].to_numpy() / 1000
    error = joined["TARGETVAR"].to_numpy()[:, None] - quantiles
    by_hand = np.where(error >= 0, LEVELS * error, (LEVELS - 1) * error).mean()
    scores = _read(project, "backtest_scores")
    whole = scores[
        (scores["product_id"] == "competition")
        & (scores["model"] == "power_curve")
        & (scores["metric"] == "pinball_share")
        & scores["level"].isna()
        & (scores["lead_from_minutes"] == 0)
        & (scores["lead_to_minutes"] == 1440)
    ]
    assert len(whole) == 10
    assert (whole["value"] * whole["n"]).sum() / whole["n"].sum() == pytest.approx(by_hand, abs=1e-6)
    # Two months of history are no reason for a model of many trees, and production is nothing for the competition.
    assert set(scores.loc[scores["product_id"] == "competition", "model"]) >= {"climatology", "power_curve"}
    assert "persistence" not in set(scores.loc[scores["product_id"] == "competition", "model"])
    assert "persistence" in set(scores.loc[scores["product_id"] == "operational", "model"])
