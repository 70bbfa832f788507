"""Looking after an environment: the disk is lost and the environment goes on from its backup; a plan computes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from commands import type_in_turn
from wind_kedro.cli import cli
from wind_kedro.datasets import read_table
from wind_kedro.datasets.parts import empty_table


@pytest.mark.slow
def test_the_disk_is_lost_and_the_environment_goes_on_from_its_backup(
    make_small_fleet: Callable[[], Path], tmp_path: Path
) -> None:
    folder = make_small_fleet()
    everything = "data_engineering,feature_engineering,training,forecasting"
    printed = type_in_turn(
        folder,
        ["run", "--pipelines", everything, "--params", "as_of=2024-03-25T12:00"],
        ["wind", "backup", str(tmp_path / "backup"), "--keys", str(tmp_path / "keys")],
        ["run", "--pipelines", "data_engineering,feature_engineering,forecasting", "--params", "as_of=2024-03-26T12:00"],
    )
    assert "of them new" in printed
    before = read_table(folder / "data/07_model_output/forecasts")
    for name in ("data", "mlartifacts"):
        shutil.rmtree(folder / name)
    (folder / "mlflow.db").unlink()
    printed = type_in_turn(folder, ["wind", "restore", str(tmp_path / "backup")])
    assert "were restored in" in printed
    assert "is lost" in printed
    backed_up = read_table(folder / "data/07_model_output/forecasts")
    assert backed_up["issued_at"].max() < before["issued_at"].max()
    printed = type_in_turn(
        folder,
        ["wind", "keys", "adopt", "--yes"],
        ["wind", "verify"],
        ["wind", "plan", "--json"],
        ["run", "--pipelines", "data_engineering,feature_engineering,forecasting", "--params", "as_of=2024-03-26T12:00"],
        ["wind", "housekeeping"],
    )
    order = ["product_id", "entity_id", "issued_at", "valid_at"]
    again = read_table(folder / "data/07_model_output/forecasts")
    pd.testing.assert_frame_equal(
        again.sort_values(order, ignore_index=True), before.sort_values(order, ignore_index=True), check_like=True
    )


# Ibis 12 about DuckDB 2, and scikit-learn about MLflow's import.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_environment_of_an_earlier_version_is_migrated_and_goes_back(
    make_small_fleet: Callable[[], Path], inside: Callable[[Path], Path]
) -> None:
    folder = inside(make_small_fleet())
    outbox = folder / "data/07_model_output/outbox"
    outbox.mkdir(parents=True)
    created = pd.Timestamp("2024-03-01", tz="UTC")
    rows = (
        empty_table("wind_kedro.contracts.operation.Outbox")
        .reindex([0, 1])
        .assign(created_at=[created, created + pd.Timedelta(days=1)], channel="log")
    )
    for place in (0, 1):
        rows.iloc[[place]].to_parquet(outbox / f"2024030{place + 1}T000000Z.parquet", index=False)
    (folder / "data/02_intermediate").mkdir()
    old = folder / "data/02_intermediate/parsed_signals.parquet"
    rows.to_parquet(old)

    def type_in(*words: str) -> Result:
        return CliRunner().invoke(cli, list(words))

    refused = type_in("run", "--pipeline", "data_engineering")
    assert refused.exit_code == 1
    assert "is of an earlier version (layout 1): kedro wind migrate" in refused.output
    done = type_in("wind", "migrate")
    assert done.exit_code == 0, done.output
    assert "2 rows of histories" in done.output
    assert read_table(outbox)["created_at"].tolist() == rows["created_at"].tolist()
    assert not old.exists()
    assert "nothing to migrate" in type_in("wind", "migrate").output
    back = type_in("wind", "migrate", "--undo")
    assert back.exit_code == 0, back.output
    assert old.exists()
    assert len(list(outbox.glob("*.parquet"))) == len(rows)
    assert "kedro wind migrate" in type_in("run", "--pipeline", "data_engineering").output
