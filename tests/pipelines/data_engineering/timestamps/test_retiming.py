"""Rows that a clock change stamped twice go back to their hour where that can be proven, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.pipelines.data_engineering.settings import Retiming
from wind_kedro.pipelines.data_engineering.timestamps.retiming import Change, retime

SPRING, AUTUMN = Change(pd.Timestamp("2024-03-31T01:00"), 60), Change(pd.Timestamp("2024-03-31T03:00"), -60)
SURE = Retiming(min_probability=0.95, evidence_share=0.7)
HOUR = pd.Timedelta(hours=1)
CHANGE = pd.Timestamp("2024-03-31T02:00")


def made(missing: str = "before", *, received: bool = False, trend: float = 1.0, turbines: int = 1) -> pd.DataFrame:
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
    came = rows["true"] + pd.Timedelta(minutes=20)
    rows["received_at"] = came if received else pd.NaT
    ended = rows["valid_at"] + pd.Timedelta(minutes=10)
    rows["arrived_at"] = np.maximum(came, ended) if received else ended + pd.Timedelta(minutes=10)
    rows["reading"] = "as_stamped" if missing == "before" else "wall_clock_is_local"
    rows["available_at"] = rows["arrived_at"]
    rows["source_file"] = "hill.csv"
    rows = rows.sample(frac=1, random_state=3).reset_index(drop=True)  # the order in the file proves nothing
    return rows.assign(source_row=range(1, len(rows) + 1))


@pytest.mark.parametrize("missing", ["before", "after"])
@pytest.mark.parametrize("turbines", [1, 3])
def test_continuity_tells_the_hours_apart(missing: str, turbines: int) -> None:
    rows = made(missing, turbines=turbines)
    found = retime(rows, SPRING, 600, SURE).merge(rows, on="source_row", suffixes=("", "_stamped"))
    assert len(found) == 12 * turbines
    assert (found["valid_at"] == found["true"]).all()
    assert found["moved"].sum() == 6 * turbines
    # Known only when the row after both hours had come.
    assert (found["available_at"] == CHANGE + 2 * HOUR + pd.Timedelta(minutes=20)).all()


@pytest.mark.parametrize(("missing", "change"), [("before", SPRING), ("after", AUTUMN)])
def test_arrival_times_prove_it_row_by_row(missing: str, change: Change) -> None:
    rows = made(missing, received=True, trend=0.0, turbines=2)
    found = retime(rows, change, 600, SURE).merge(rows, on="source_row", suffixes=("", "_stamped"))
    assert len(found) == 12
    assert found["moved"].all()
    assert (found["valid_at"] == found["true"]).all()
    if missing == "after":
        assert (found["available_at"] == found["true"] + pd.Timedelta(minutes=20)).all()
    # What comes later changes none of it: each row is proven by itself, and by what came before it.
    noon = found["available_at"].sort_values().iloc[5]
    then = retime(rows[rows["available_at"] <= noon], change, 600, SURE)
    whole = retime(rows, change, 600, SURE)
    pd.testing.assert_frame_equal(
        then[then["available_at"] <= noon].sort_values("source_row", ignore_index=True),
        whole[whole["available_at"] <= noon].sort_values("source_row", ignore_index=True),
    )


def test_a_late_row_of_the_first_pass_is_not_taken_for_the_second() -> None:
    rows = made("after", received=True)
    late = rows["true"].between(CHANGE, CHANGE + HOUR, inclusive="left")
    rows.loc[late, "received_at"] += pd.Timedelta(hours=5)
    rows = rows[~rows["true"].between(CHANGE + HOUR, CHANGE + 2 * HOUR, inclusive="left")]
    assert retime(rows, AUTUMN, 600, SURE).empty


def test_what_is_not_sure_stays() -> None:
    assert retime(made(trend=0.0), SPRING, 600, SURE).empty


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
    assert retime(rows.reset_index(drop=True), SPRING, 600, SURE).empty
