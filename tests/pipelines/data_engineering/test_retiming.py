"""Rows that a clock change stamped twice go back to their hour where that can be proven, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.pipelines.data_engineering.retiming import retime
from wind_kedro.pipelines.data_engineering.settings import Retiming

SURE = Retiming(min_probability=0.95, evidence_share=0.7)
HOUR = pd.Timedelta(hours=1)
CHANGE = pd.Timestamp("2024-03-31T02:00")


def made(
    missing: str = "before", wait: pd.Timedelta | None = None, trend: float = 1.0, turbines: int = 1
) -> pd.DataFrame:
    """Rows every ten minutes, their wind rising with ``trend``; one hour is stamped as its neighbour, ``true`` is when it was."""
    numbers = np.random.default_rng(7)
    frames = []
    for turbine in range(turbines):
        true = pd.date_range(CHANGE - 6 * HOUR, CHANGE + 8 * HOUR, freq="10min", inclusive="left").as_unit("us")
        steps = np.arange(len(true)) * trend
        frame = pd.DataFrame(
            {
                "turbine_id": f"T{turbine}",
                "true": true,
                "wind_speed_ms": 5 + steps * 0.05 + numbers.normal(0, 0.01, len(true)),
                "wind_direction_deg": (350 + steps + numbers.normal(0, 0.2, len(true))) % 360,
                "temperature_c": 10 - steps * 0.02 + numbers.normal(0, 0.01, len(true)),
            }
        )
        frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    wrong, away = (CHANGE, HOUR) if missing == "before" else (CHANGE + HOUR, -HOUR)
    moved = (rows["true"] >= wrong) & (rows["true"] < wrong + HOUR)
    rows["valid_at"] = rows["true"].where(~moved, rows["true"] + away)
    known = rows["true"] if wait is not None else rows["valid_at"]
    rows["arrived_at"] = known + pd.Timedelta(minutes=20)
    rows["available_at"] = rows["arrived_at"]
    rows["source_file"] = "hill.csv"
    rows = rows.sample(frac=1, random_state=3).reset_index(drop=True)  # the order in the file proves nothing
    return rows.assign(source_row=range(1, len(rows) + 1))


@pytest.mark.parametrize("missing", ["before", "after"])
@pytest.mark.parametrize("turbines", [1, 3])
def test_continuity_tells_the_hours_apart(missing: str, turbines: int) -> None:
    rows = made(missing, turbines=turbines)
    found = retime(rows, 60, 10, SURE).merge(rows, on="source_row", suffixes=("", "_stamped"))
    assert len(found) == 12 * turbines
    assert (found["valid_at"] == found["true"]).all()
    assert found["moved"].sum() == 6 * turbines
    # Known only when the row after both hours had come.
    assert (found["available_at"] == CHANGE + 2 * HOUR + pd.Timedelta(minutes=20)).all()


def test_the_order_of_arrival_tells_them_apart() -> None:
    rows = made("after", wait=HOUR, trend=0.0)
    found = retime(rows, 60, 10, SURE).merge(rows, on="source_row", suffixes=("", "_stamped"))
    assert (found["valid_at"] == found["true"]).all()
    assert (found["available_at"] == found["true"] + pd.Timedelta(minutes=20)).all()


def test_what_is_not_sure_stays() -> None:
    assert retime(made(trend=0.0), 60, 10, SURE).empty


def without(rows: pd.DataFrame, keep: Any) -> pd.DataFrame:
    return rows[keep].reset_index(drop=True)


@pytest.mark.parametrize(
    "case",
    [
        "the hour before is there",
        "one stamp came once",
        "one stamp came thrice",
        "nothing came after",
        "nothing came before",
        "no change",
    ],
)
def test_without_the_mark_of_a_clock_change_nothing_moves(case: str) -> None:
    rows = made()
    doubled = rows[rows.duplicated("valid_at", keep=False)].sort_values("valid_at")
    if case == "the hour before is there":
        rows = pd.concat([rows, doubled.head(1).assign(valid_at=CHANGE)])
    elif case == "one stamp came once":
        rows = rows.drop(doubled.index[0])
    elif case == "one stamp came thrice":
        rows = pd.concat([rows, doubled.head(1)])
    elif case == "nothing came after":
        rows = rows[rows["valid_at"] < CHANGE + 2 * HOUR]
    elif case == "nothing came before":
        rows = rows[rows["valid_at"] >= CHANGE]
    else:
        rows = rows[~rows["valid_at"].isin(doubled["valid_at"])]
    assert retime(rows.reset_index(drop=True), 60, 10, SURE).empty
