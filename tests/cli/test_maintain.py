"""Looking after an environment: the disk is lost and the environment goes on from its backup; a plan computes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.datasets import read_table

#: Several commands in one process, each as if typed: starting Python and importing costs more than a run.
_IN_TURN = """
import json, sys
from wind_kedro.cli import cli
for words in json.loads(sys.argv[1]):
    try:
        cli(words, standalone_mode=True)
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{words}: {stop.code}")
"""


def type_in(folder: Path, *commands: list[str]) -> str:
    command = [sys.executable, "-c", f"from kedro.framework.project import configure_project as c; c('wind_kedro')\n{_IN_TURN}"]
    done = subprocess.run([*command, json.dumps(commands)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_disk_is_lost_and_the_environment_goes_on_from_its_backup(
    make_small_fleet: Callable[[], Path], tmp_path: Path
) -> None:
    folder = make_small_fleet()
    everything = "data_engineering,feature_engineering,training,forecasting"
    printed = type_in(
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
    printed = type_in(folder, ["wind", "restore", str(tmp_path / "backup")])
    assert "were restored in" in printed
    assert "is lost" in printed
    backed_up = read_table(folder / "data/07_model_output/forecasts")
    assert backed_up["issued_at"].max() < before["issued_at"].max()
    printed = type_in(
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
