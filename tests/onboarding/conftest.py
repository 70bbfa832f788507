"""A small farm whose numbers are like a real one's, and exports of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

Export = Callable[..., Path]
RATED_KW = 2000.0


def _signals(turbines: Sequence[str], start: str, days: int, minutes: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    times = pd.date_range(start, periods=days * 24 * 60 // minutes, freq=f"{minutes}min")
    parts = []
    for turbine in turbines:
        # Gusts around weather that changes over days, and a direction that goes round.
        slow = 9 + 5 * np.sin(np.arange(len(times)) * 2 * np.pi * minutes / (60 * 31)) + 3 * np.sin(np.arange(len(times)) / 97)
        wind = np.clip(slow + rng.normal(0, 0.8, len(times)), 0.3, None)
        power = np.clip(RATED_KW * ((wind - 3) / 9.5) ** 3, 0, RATED_KW) * (1 + rng.normal(0, 0.004, len(times)))
        direction = np.cumsum(rng.normal(0, 12, len(times))) % 360
        temperature = 8 + 6 * np.sin(np.arange(len(times)) * 2 * np.pi * minutes / 1440) + rng.normal(0, 0.3, len(times))
        parts.append(
            pd.DataFrame(
                {"at": times, "turbine": turbine}
                | {
                    "power": power.round(3),
                    "wind": wind.round(3),
                    "direction": direction.round(2),
                    "temperature": temperature.round(2),
                }
            )
        )
    return pd.concat(parts).sort_values(["at", "turbine"], ignore_index=True)


@pytest.fixture(scope="session")
def signals() -> pd.DataFrame:
    """Two turbines, twelve days of May 2024, every ten minutes: at, turbine, power (kW), wind (m/s), direction, temperature."""
    return _signals(("T1", "T2"), "2024-05-13", 12, 10)


@pytest.fixture(scope="session")
def make_signals() -> Callable[[Sequence[str], str, int, int], pd.DataFrame]:
    """Makes such signals of other turbines, start, days and minutes."""
    return _signals


@pytest.fixture
def write(tmp_path: Path) -> Export:
    """Writes a table as text: columns renamed, stamps formatted, decimal sign, lines above and below."""

    def to_file(
        table: pd.DataFrame, header: dict[str, str], *, name: str = "export.csv", separator: str = ",", decimal: str = ".",
        stamps: str = "%Y-%m-%d %H:%M:%S", above: Sequence[str] = (), between: Sequence[str] = (), below: Sequence[str] = (),
        encoding: str = "utf-8",
    ) -> Path:  # fmt: skip
        shown = table.rename(columns=header)[[*dict.fromkeys(header.values())]]
        for column in shown.select_dtypes("datetime"):
            shown[column] = shown[column].dt.strftime(stamps)
        head, _, body = shown.to_csv(index=False, sep=separator, decimal=decimal).partition("\n")
        path = tmp_path / name
        path.write_bytes("\n".join([*above, head, *between, body.rstrip("\n"), *below, ""]).encode(encoding))
        return path

    return to_file


@pytest.fixture
def header() -> dict[str, str]:
    """Plain names."""
    return {
        "at": "Time (UTC)", "turbine": "Turbine", "power": "Power (kW)", "wind": "Wind speed (m/s)",
        "direction": "Wind direction (deg)", "temperature": "Ambient temperature (degC)",
    }  # fmt: skip
