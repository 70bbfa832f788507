"""An upgrade is taken only if forecasts stay the same or get better; what breaks them is named."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.evaluation.settings import GateRules

CLOCK = Clock.model_validate({"as_of": "2024-06-01"})


@pytest.fixture(scope="module")
def upgrade() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "upgrade.py"
    spec = importlib.util.spec_from_file_location("upgrade", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["upgrade"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_locks_changes_are_told_by_name(upgrade: ModuleType) -> None:
    old = "# made from x\n"
    old += "numpy==2.4.1 \\\n    --hash=sha256:a\npandas==3.1.0 ; python_version < '3.14' \\\n    --hash=b\ngone==1\n"
    new = "numpy==2.4.2 \\\n    --hash=sha256:c\npandas==3.1.0 ; python_version < '3.14'\nfresh==1.0\n"
    assert upgrade.changes(old, new) == {"numpy": ("2.4.1", "2.4.2"), "gone": ("1", "-"), "fresh": ("-", "1.0")}
    assert upgrade.changes(old, old) == {}


@pytest.fixture
def backtested(make_features: Callable[..., pd.DataFrame], observe: Callable[..., pd.DataFrame]) -> dict[str, Any]:
    """Sixty issues of the hill with an error each, what came, and the features."""
    rng = np.random.default_rng(5)
    issues = pd.date_range("2024-03-01 06:00", periods=60, freq="1D", tz="UTC", unit="us")
    keys = [{"issued_at": at, "valid_at": at + pd.Timedelta(hours=lead)} for at in issues for lead in (1, 2)]
    features = make_features(keys)
    error = rng.normal(0, 150, len(features))
    columns = ["product_id", "entity_id", "issued_at", "valid_at", "lead_minutes", "weather_run_at"]
    old = features[columns].assign(
        model="trees", model_version="backtest", capacity_kw=3000.0, fallback="", weather=FORECAST_WEATHER,
        q100_kw=1000 + error, q500_kw=1200 + error, q900_kw=1400 + error,
    )  # fmt: skip
    observations = observe([{"valid_at": key["valid_at"], "share": 0.4} for key in keys])
    return {"old": old, "observations": observations, "features": features, "clock": CLOCK}


def _moved(backtested: dict[str, Any], by: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Any]:
    levels = ["q100_kw", "q500_kw", "q900_kw"]
    return backtested | {"new": backtested["old"].assign(**by(backtested["old"][levels]).to_dict("series"))}


@pytest.mark.parametrize(
    ("by", "taken"),
    [
        pytest.param(lambda quantiles: quantiles, True, id="the same"),
        pytest.param(lambda quantiles: quantiles * (1 + 1e-12), True, id="the last bits"),
        pytest.param(lambda quantiles: 1200 + (quantiles - 1200) * 0.8, True, id="clearly better"),
        pytest.param(lambda quantiles: quantiles * 1.1, False, id="harmful"),
        pytest.param(lambda quantiles: quantiles + 0.05, False, id="other, and no better"),
        pytest.param(lambda quantiles: quantiles.mask(quantiles > 1500), False, id="not a number"),
    ],
)
def test_only_the_same_or_better_forecasts_are_taken(
    upgrade: ModuleType, backtested: dict[str, Any], fleet: Fleet, by: Callable[..., Any], taken: bool
) -> None:
    trial = upgrade.compare_backtests(**_moved(backtested, by), fleet=fleet, rules=GateRules())
    assert (trial.faults == []) == taken, trial
    if not taken:
        assert trial.faults[0].startswith("hours/hill 'trees': forecasts ")


def test_a_backtest_of_other_rows_is_refused(upgrade: ModuleType, backtested: dict[str, Any], fleet: Fleet) -> None:
    trial = upgrade.compare_backtests(**backtested, new=backtested["old"].iloc[1:], fleet=fleet, rules=GateRules())
    assert trial.faults == ["the backtest has other rows: 120 before, 119 after"]


def test_the_library_that_breaks_is_named_and_the_others_are_not(upgrade: ModuleType) -> None:
    changed = {"calm": ("1.0", "1.1"), "harm": ("1.0", "2.0")}
    found = upgrade.guilty(changed, lambda name: ["the backtest fails: x"] if name == "harm" else [])
    assert found == {"harm": ["the backtest fails: x"]}


# --- with wheels: minutes ----------------------------------------------------------------------------------------------

PROJECT = Path(__file__).parents[1]


def _newer(library: str, wheels: Path, patch: tuple[str, str, str] | None = None) -> str:
    """A wheel of an installed library with the next version, made of its files, one of them changed; its new version."""
    installed = importlib.metadata.distribution(library)
    version = f"{installed.version}.post99"
    stem = f"{library.replace('-', '_')}-{version}"
    text = installed.read_text("WHEEL")
    assert text is not None
    tags = re.findall(r"^Tag: (\S+)$", text, re.MULTILINE)
    python, abi, _ = tags[0].split("-")
    name = f"{stem}-{python}-{abi}-{'.'.join(sorted({tag.split('-')[2] for tag in tags}))}.whl"
    record = []
    with zipfile.ZipFile(wheels / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for file in installed.files or []:
            path, parts = Path(str(file.locate())), file.parts
            if ".." in parts or path.suffix == ".pyc" or path.name in {"RECORD", "INSTALLER", "REQUESTED"}:
                continue
            if parts[0].endswith(".dist-info"):
                parts = (f"{stem}.dist-info", *parts[1:])
            content = path.read_bytes()
            if path.name == "METADATA":
                content = re.sub(rb"(?m)^Version: .*$", f"Version: {version}".encode(), content, count=1)
            if patch is not None and str(file) == patch[0]:
                assert patch[1] in content.decode()
                content = content.decode().replace(patch[1], patch[2]).encode()
            wheel.writestr("/".join(parts), content)
            record.append("/".join(parts) + ",,")
        wheel.writestr(f"{stem}.dist-info/RECORD", "\n".join([*record, f"{stem}.dist-info/RECORD,,"]))
    return version


@pytest.mark.long
def test_a_harmless_wheel_is_taken_and_a_harmful_one_is_named(test_env_project: Path, tmp_path: Path) -> None:
    project, wheels = tmp_path / "project", tmp_path / "wheels"
    shutil.copytree(test_env_project, project)
    shutil.rmtree(project / "src")
    shutil.copytree(PROJECT / "src", project / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    (project / "benchmarks").mkdir()
    shutil.copy(PROJECT / "benchmarks" / "upgrade.py", project / "benchmarks")
    for name in ("README.md", "LICENSE"):
        shutil.copy(PROJECT / name, project)
    wheels.mkdir()
    harmless = _newer("windpowerlib", wheels)
    # Every power curve a twentieth too high.
    asked = "y = np.asarray(res.x, dtype=y.dtype)"
    harmful = _newer("scikit-learn", wheels, ("sklearn/isotonic.py", asked, f"{asked} * 1.05"))
    lock = project / "requirements.lock"
    before = lock.read_text("utf-8")

    def upgraded(*libraries: str) -> subprocess.CompletedProcess[str]:
        words = [word for name in libraries for word in ("--only", name)]
        command = [sys.executable, "benchmarks/upgrade.py", "--checks", "", "--find-links", str(wheels), *words]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=2400, check=False)

    both = upgraded("windpowerlib", "scikit-learn")
    assert both.returncode == 1, both.stdout + both.stderr
    broken = [line for line in both.stdout.splitlines() if " breaks: " in line]
    assert len(broken) == 1, both.stdout
    assert re.match(rf"scikit-learn \S+ -> {re.escape(harmful)} breaks: .* 'power_curve': forecasts up to", broken[0])
    assert lock.read_text("utf-8") == before

    alone = upgraded("windpowerlib")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert f"windpowerlib=={harmless}" in lock.read_text("utf-8")
    assert f"scikit-learn=={harmful}" not in lock.read_text("utf-8")
    assert lock.read_text("utf-8").splitlines()[0] == before.splitlines()[0]
