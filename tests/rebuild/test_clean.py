"""A version rebuilt from its kit alone, in an environment made from its own lock and commit. Minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command by the checkout's own code, whatever is installed."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False)


@pytest.mark.long
def test_a_version_is_rebuilt_in_a_clean_environment_and_other_code_is_the_cause(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(checkout)], check=True, capture_output=True)
    kedro = [sys.executable, "-m", "kedro"]
    trained = _run(checkout, *kedro, "run", "--env", "test")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    reproduce = [*kedro, "wind", "--env", "test", "reproduce", "--version", "1", "--json"]

    clean = _run(checkout, *reproduce)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    told = json.loads(clean.stdout)
    assert told["where"] == "in an environment made from its own lock and commit"
    assert {row["model"] for row in told["members"]} >= {"catboost", "power_curve"}
    assert all(row["same"] and row["rows"] > 0 for row in told["members"])

    curve = checkout / "src" / "wind_kedro" / "models" / "power_curve.py"
    asked = "self._quantiles.reshape(len(full), len(self.levels))"
    assert asked in curve.read_text("utf-8")
    curve.write_text(curve.read_text("utf-8").replace(asked, f"{asked} * 0.999"), encoding="utf-8")
    subprocess.run([*GIT, "commit", "--all", "--quiet", "--message", "Other curves"], cwd=checkout, check=True)
    other = _run(checkout, *reproduce, "--here")
    assert other.returncode == 1, other.stdout
    faults = json.loads(other.stdout)["faults"]
    assert len(faults) == 1
    assert ": code: " in faults[0]
    assert {row["model"] for row in json.loads(other.stdout)["members"] if not row["same"]} == {"power_curve"}
