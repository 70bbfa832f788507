"""A small problem with sensible physics that every model can learn, and features with the faults of life."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

#: Wind speed in m/s at which half of capacity is made, and how steeply power rises there.
HALF_POWER_MS, STEEPNESS = 8.0, 0.9


def make_problem(days: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Daily issues of 24 hours: autocorrelated wind, power by an S-shaped curve of it, noisiest where that is steep."""
    rng = np.random.default_rng(seed)
    hours = days * 24
    shock = rng.normal(size=hours)
    state = np.zeros(hours)
    for hour in range(1, hours):
        state[hour] = 0.95 * state[hour - 1] + np.sqrt(1 - 0.95**2) * shock[hour]
    speed = 8.0 * np.exp(0.45 * state)
    clean = 1 / (1 + np.exp(-STEEPNESS * (speed - HALF_POWER_MS)))
    power = np.clip(clean + 0.35 * clean * (1 - clean) * rng.normal(size=hours), 0, 1)
    valid_at = pd.date_range("2024-01-01", periods=hours, freq="h", tz="UTC", unit="us")
    last = np.repeat(np.concatenate(([np.nan], power[23:-1:24])), 24)
    features = pd.DataFrame(
        {
            "product_id": "day_ahead",
            "entity_id": "hill",
            "issued_at": valid_at.floor("D"),
            "valid_at": valid_at,
            "weather_run_at": valid_at.floor("D"),
            "lead_minutes": np.tile(np.arange(24) * 60, days),
            "hour_of_day": np.tile(np.arange(24.0), days),
            "wind_speed_100m_ms": speed,
            "wind_speed_density_ms": speed,
            "temperature_c": 10 + rng.normal(size=hours),
            "weather_spread_ms": np.nan,  # one weather model has no spread: wholly missing
            "last_power_share": last,
        }
    )
    return features, pd.Series(power, name="power_share")


@pytest.fixture(scope="session")
def learning() -> tuple[pd.DataFrame, pd.Series]:
    return make_problem(days=120, seed=1)


@pytest.fixture(scope="session")
def asking() -> tuple[pd.DataFrame, pd.Series]:
    return make_problem(days=40, seed=2)


@pytest.fixture(scope="session", autouse=True)
def documented_package(tmp_path_factory: pytest.TempPathFactory, project_path: Path) -> Path:
    """The package of a user that `add-a-model.md` shows, as one that is installed: its file is in the page, word for word."""
    page = (project_path / "docs/how-to/add-a-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    package = tmp_path_factory.mktemp("site") / "wind_models"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "analogs.py").write_text(code, encoding="utf-8")
    sys.path.insert(0, str(package.parent))
    return package
