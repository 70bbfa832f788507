"""The test fleet, run once as people run it: every forecast explains itself, the audit is whole, the models can be made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from wind_kedro.cli import cli
from wind_kedro.datasets import read_table
from wind_kedro.datasets.audit_trail import AuditTrail

pytestmark = pytest.mark.slow


@pytest.fixture
def type_in(test_env_project: Path, inside: Callable[[Path], Path]) -> Callable[..., Result]:
    inside(test_env_project)
    return lambda *words: CliRunner().invoke(cli, ["wind", "--env", "test", *words])


@pytest.fixture
def audit(test_env_project: Path) -> pd.DataFrame:
    files = sorted((test_env_project / "data/test/07_model_output/audit").glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def test_every_forecast_that_was_issued_is_in_the_audit_and_explains_itself(
    test_env_project: Path, type_in: Callable[..., Result], audit: pd.DataFrame
) -> None:
    forecasts = read_table(test_env_project / "data/test/07_model_output/forecasts")
    key = ["product_id", "entity_id", "issued_at"]
    issued = set(forecasts[key].drop_duplicates().astype(str).itertuples(index=False, name=None))
    assert issued == set(audit[key].astype(str).itertuples(index=False, name=None))
    # A portfolio is made of its farms' forecasts, by no model of its own.
    assert (audit.loc[audit["model"] != "portfolio", "run_id"] != "").all()
    row = audit[audit["entity_id"] == "north_ridge"].iloc[3]
    result = type_in("explain", "--farm", "north_ridge", "--issued-at", f"{row['issued_at']:%Y-%m-%dT%H:%M}", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["model"]["model_version"] == row["model_version"]
    assert found["model"]["run_id"] == row["run_id"]
    assert found["made_from"]["git_commit"][:40] == row["git_commit"][:40]
    assert found["made_from"]["features_now"] == "as then"
    assert found["weather_runs"]
    assert found["outcome"]["intervals"] > 0
    assert found["causes"][0]["cause"]
    assert found["audit"][0]["sequence"] == row["sequence"]
    told = type_in("explain", "--farm", "north_ridge", "--issued-at", f"{row['issued_at']:%Y-%m-%dT%H:%M}")
    assert told.exit_code == 0, told.output
    for word in ("likely cause", "weather runs", "promotions since", "configuration"):
        assert word in told.stdout


def test_an_issue_that_never_was_is_refused_with_the_nearest(type_in: Callable[..., Result]) -> None:
    result = type_in("explain", "--farm", "north_ridge", "--issued-at", "2001-01-01T00:00")
    assert result.exit_code == 1
    assert "has no issue at 2001-01-01T00:00; the nearest are 20" in result.stderr


def test_the_audit_of_a_run_is_whole_and_a_change_is_named(
    test_env_project: Path, tmp_path: Path, type_in: Callable[..., Result], audit: pd.DataFrame
) -> None:
    result = type_in("verify")
    assert result.stdout == f"The audit is whole: {len(audit)} records, head {len(audit)}:{audit['sha256'].iloc[-1]}\n"
    forged = type_in("verify", "--head", f"{len(audit)}:{'a' * 64}")
    assert (forged.exit_code, "rewritten" in forged.stderr) == (1, True)
    output = test_env_project / "data/test/07_model_output"
    shutil.copytree(output / "audit", tmp_path / "audit")
    shutil.copy(output / "audit_head.json", tmp_path)
    file = sorted((tmp_path / "audit").glob("*.parquet"))[0]
    table = pd.read_parquet(file)
    table.loc[5, "model_version"] = "9"
    table.to_parquet(file, index=False)
    trail = AuditTrail(
        filepath=str(tmp_path / "audit"),
        head=str(tmp_path / "audit_head.json"),
        contract="wind_kedro.contracts.operation.Audit",
    )
    (fault,) = trail.verify()
    assert fault.startswith("record 6 (")
    assert "changed" in fault


def test_a_registered_version_is_rebuilt_bit_for_bit(type_in: Callable[..., Result]) -> None:
    result = type_in("reproduce", "--version", "1", "--here", "--farm", "north_ridge", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    # The forecasts, not the files: CatBoost signs each file anew.
    assert [(row["entity_id"], row["same"]) for row in found["members"]] == [("north_ridge", True)]
    assert found["members"][0]["rows"] > 100
    assert found["faults"] == []


def test_a_kit_that_was_changed_is_the_datas_fault(
    test_env_project: Path, tmp_path: Path, inside: Callable[[Path], Path]
) -> None:
    shutil.copytree(test_env_project, tmp_path / "copy")
    folder = inside(tmp_path / "copy")
    kits = folder / "data/test/06_models/kits"
    document = json.loads(next(kits.glob("*.json")).read_text())
    part = document["tables"]["model_input"]["parts"][0]
    (kits / "objects" / part[:2] / part).write_bytes(b"other")
    result = CliRunner().invoke(cli, ["wind", "--env", "test", "reproduce", "--version", "1", "--here"])
    assert result.exit_code == 1
    assert "data: " in result.stderr
    assert "was changed after it was kept" in result.stderr
