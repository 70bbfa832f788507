"""An environment whose data is in an object store has the tables of one on a disk, and computes nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from s3_server import put_folder
from wind_kedro.datasets import tables_in
from wind_kedro.storage.delta import Delta
from wind_kedro.storage.paths import data_path

_IN_TURN = """
import json, sys
from kedro.framework.project import configure_project
configure_project("wind_kedro")
from wind_kedro.cli import cli
for words in json.loads(sys.argv[1]):
    try:
        cli(words, standalone_mode=True)
    except SystemExit as stop:
        if stop.code not in {0, None}:
            sys.exit(f"{words}: {stop.code}")
"""
#: Columns of the wall clock, of commits, and of MLflow's ids, which no two environments share; fingerprints contain promotions.
VOLATILE = {
    "chain", "configuration_sha256", "fingerprint", "git_commit", "lock_sha256", "manifest_sha256", "modified_ns", "platform",
    "previous_sha256", "recorded_at", "run_id", "sha256", "signature",
}  # fmt: skip


def run(folder: Path, *commands: list[str]) -> None:
    command = [sys.executable, "-c", _IN_TURN, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def comparable(data: str) -> dict[str, pd.DataFrame]:
    """The tables, their rows in one order: that of a Delta table's files has no meaning."""
    found = {}
    for name, whole in tables_in(data, without={"raw_rows", "kits", "objects"}).items():
        table = whole.drop(columns=VOLATILE & set(whole.columns))
        texts = {column: table[column].astype("str") for column in table if table[column].dtype == object}
        order = pd.util.hash_pandas_object(table.assign(**texts), index=False).argsort()
        found[name] = table.iloc[order.to_numpy()].reset_index(drop=True)
    return found


def assert_same_tables(one: str, other: str, *expected: str) -> None:
    before, after = comparable(one), comparable(other)
    assert set(before) == set(after)
    assert {"03_primary/observations", *expected} <= set(before)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, after[name], obj=name, check_exact=True)


def commits(data: str) -> dict[str, int]:
    """By derived table, how many commits its rows and its shards have had."""
    logs = data_path(data, "data").glob("0*/*/*/_delta_log/00000000000000000000.json")
    tables = {str(log.parent.parent) for log in logs}
    return {table.removeprefix(data): Delta(table).version() for table in sorted(tables)}


def use_store(project: Path, configuration: str, s3: str, server: dict[str, str], raw: Path) -> None:
    """Let an environment have its data in the store, raw files included."""
    file = project / configuration / "globals.yml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text("utf-8")) | {"data": s3}, sort_keys=False), encoding="utf-8")
    put_folder(server, raw, f"{s3.removeprefix('s3://bucket/')}/01_raw")
    shutil.rmtree(raw)


@pytest.mark.long
def test_a_small_fleet_has_the_same_tables_on_a_disk_and_in_a_store(
    make_small_fleet: Callable[[], Path], s3: str, s3_server: dict[str, str]
) -> None:
    on_disk, in_store = make_small_fleet(), make_small_fleet()
    use_store(in_store, "conf/base", s3, s3_server, in_store / "data/01_raw")
    command = ["run", "--pipeline", "data_engineering"]
    run(on_disk, command)
    run(in_store, command, command)
    assert_same_tables(str(on_disk / "data"), s3)
    # The second run found nothing to compute.
    assert commits(s3) == commits(str(on_disk / "data"))
    assert len(commits(s3)) > 10
    assert not list((in_store / "data").rglob("*.parquet"))


@pytest.mark.long
def test_the_test_fleet_has_the_same_tables_on_a_disk_and_in_a_store(
    test_env_project: Path, make_checkout: Callable[[], Path], s3: str, s3_server: dict[str, str]
) -> None:
    project = make_checkout()
    use_store(project, "conf/test", s3, s3_server, project / "data/test/01_raw")
    run(project, ["run", "--env", "test"])
    expected = ["07_model_output/forecasts", "06_models/promotions/000001", "06_models/backtest_scores"]
    assert_same_tables(str(test_env_project / "data/test"), s3, *expected)
    before = commits(s3)
    run(project, ["run", "--env", "test", "--pipelines", "data_engineering,feature_engineering"])
    assert commits(s3) == before
    run(project, ["wind", "--env", "test", "housekeeping"], ["wind", "--env", "test", "verify"])
    assert_same_tables(str(test_env_project / "data/test"), s3, *expected)
