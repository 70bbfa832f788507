"""The fleet of any size: made alike again, with faults at the shares that are set; and conf/fleet runs through a cycle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from commands import type_in_turn
from synthetic import make_fleet
from synthetic.any_size import Batch, FleetSettings, batches, patterned
from synthetic.weather import distances_km, wind_field
from wind_kedro.cards import Farm
from wind_kedro.datasets import tables_in

PROJECT = Path(__file__).parents[1]
SETTINGS = FleetSettings.read(PROJECT / "conf/fleet/synthetic.yml")
WEATHER = yaml.safe_load((PROJECT / "conf/test/synthetic.yml").read_text("utf-8"))
AS_OF = pd.Timestamp(SETTINGS.as_of)


def with_shares(shares: Mapping[str, float]) -> FleetSettings:
    return FleetSettings.model_validate(SETTINGS.model_dump() | {"fault_shares": shares})


def made(settings: FleetSettings, count: int = 2, days: int = 2) -> list[Batch]:
    farms = settings.farms(count)
    return list(batches(farms, settings.recipe(WEATHER, farms, days, 1), AS_OF))


def test_the_same_numbers_give_the_same_files() -> None:
    first, again = made(SETTINGS), made(SETTINGS)
    assert [(batch.arrives_at, batch.path) for batch in first] == [(batch.arrives_at, batch.path) for batch in again]
    for one, other in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one.rows, other.rows)
    other = made(SETTINGS.model_copy(update={"seed": SETTINGS.seed + 1}))
    assert not first[0].rows.equals(other[0].rows)


def test_history_is_one_file_a_source_and_later_rows_come_every_six_hours() -> None:
    found = made(SETTINGS, count=1)
    history = [batch for batch in found if batch.arrives_at == AS_OF]
    assert len(history) == 3  # signals and two weather models
    for batch in found:
        arrived = batch.rows["received_at" if "signals" in batch.path else "available_at"]
        assert arrived.max() <= batch.arrives_at
        assert batch in history or arrived.min() > batch.arrives_at - pd.Timedelta(hours=6)
        assert Path(batch.path).match(Path(patterned(SETTINGS.farms(1)[0])["signals"]["path"]).parent.name + "/*_*.parquet")


def test_faults_have_the_shares_that_are_set() -> None:
    shares = {"stuck": 0.1, "gap": 0.2, "duplicate": 0.1, "curtailed": 0.1}
    settings = with_shares(shares)
    farms = settings.farms(20)
    recipe = settings.recipe(WEATHER, farms, 60, 0)
    counts = Counter(fault.kind for fault in recipe.faults)
    assert {kind: count / (20 * 60) for kind, count in counts.items()} == pytest.approx(shares, abs=0.04)
    # A longer history has the faults of a shorter one, and fewer farms have those of more.
    shorter = settings.recipe(WEATHER, farms[:5], 30, 0).faults
    assert shorter
    assert all(fault in recipe.faults for fault in shorter)


def signals(settings: FleetSettings) -> tuple[Farm, pd.DataFrame, pd.DataFrame]:
    farms = settings.farms(1)
    data = next(make_fleet(farms, settings.recipe(WEATHER, farms, 3, 0)))
    (rows,) = (file.rows for name, file in data.files.items() if "signals" in name)
    return farms[0], rows, data.faults


def test_a_curtailed_turbine_gives_no_more_than_its_share_of_rated_power() -> None:
    (_, free, _), (farm, held, faults) = signals(with_shares({})), signals(with_shares({"curtailed": 1.0}))
    assert len(faults) == 3
    differs = (free["power_kw"] != held["power_kw"]).to_numpy()
    assert 0 < differs.sum() <= faults["rows"].sum()
    rated = held["turbine_id"].map({turbine.id: turbine.rated_power_kw for turbine in farm.turbines})
    np.testing.assert_allclose(held["power_kw"][differs], 0.4 * rated[differs], atol=0.1)
    assert (held["pitch_deg"] > free["pitch_deg"])[differs].mean() > 0.95
    assert (free["power_kw"] >= held["power_kw"]).all()


def test_neighbours_have_similar_wind() -> None:
    farms = SETTINGS.farms(40)
    wind = wind_field(farms, SETTINGS.recipe(WEATHER, farms, 60, 0)).wind
    alike, far = np.abs(np.corrcoef(wind, rowvar=False)), distances_km(farms)
    pairs = np.triu_indices(len(farms), 1)
    near, distant = alike[pairs][far[pairs] < 150], alike[pairs][far[pairs] > 900]
    assert near.size > 5
    assert distant.size > 5
    assert near.min() > distant.max() + 0.05
    assert near.mean() > distant.mean() + 0.2


@pytest.mark.slow
def test_the_environment_runs_through_a_cycle(tmp_path: Path, mlflow_database: Path) -> None:
    for name in ("base", "fleet"):
        shutil.copytree(PROJECT / "conf" / name, tmp_path / "conf" / name)
    for name in ("conf/logging.yml", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    for name in ("src", "conf/local", "data/fleet"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(mlflow_database, tmp_path / "data/fleet")
    words: list[Any] = [sys.executable, PROJECT / "benchmarks/made_fleet.py", "--farms", "3", "--days", "8"]
    subprocess.run([*words, "--project", tmp_path], check=True, capture_output=True, text=True, timeout=100)
    cycle = ["run", "--env", "fleet", "--params", "workers.jobs=1,as_of=2024-03-30T12:00", "--pipelines"]
    type_in_turn(tmp_path, [*cycle, "data_engineering,feature_engineering,training,forecasting"])

    forecasts = next(table for path, table in tables_in(tmp_path / "data/fleet").items() if path.endswith("/forecasts"))
    assert set(forecasts["entity_id"]) == {"farm_0001", "farm_0002", "farm_0003", "all_farms"}
    assert (forecasts.groupby("entity_id").size() == 48).all()
    levels = [name for name in forecasts if name.startswith("q")]
    assert len(levels) == 9
    assert forecasts[levels].notna().all(axis=None)
