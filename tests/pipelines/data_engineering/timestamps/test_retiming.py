"""Rows that a clock change stamped in the wrong hour go back to theirs where their arrival proves it, and only there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from wind_kedro.pipelines.data_engineering.timestamps.retiming import retime

SPRING, AUTUMN = (pd.Timestamp("2024-03-31T01:00"), 60), (pd.Timestamp("2024-03-31T03:00"), -60)
HOUR = pd.Timedelta(hours=1)
CHANGE = pd.Timestamp("2024-03-31T02:00")


def made(missing: str, *, turbines: int = 1) -> pd.DataFrame:
    """Rows every ten minutes; one hour is stamped as its neighbour, ``true`` is when it was."""
    frames = []
    for turbine in range(turbines):
        true = pd.date_range(CHANGE - 6 * HOUR, CHANGE + 8 * HOUR, freq="10min", inclusive="left").as_unit("us")
        frame = pd.DataFrame({"turbine_id": f"T{turbine}", "true": true})
        frames.append(frame)
    rows = pd.concat(frames, ignore_index=True)
    wrong, away = (CHANGE, HOUR) if missing == "before" else (CHANGE + HOUR, -HOUR)
    moved = (rows["true"] >= wrong) & (rows["true"] < wrong + HOUR)
    rows["valid_at"] = rows["true"].where(~moved, rows["true"] + away)
    came = rows["true"] + pd.Timedelta(minutes=20)
    rows["received_at"] = came
    rows["arrived_at"] = np.maximum(came, rows["valid_at"] + pd.Timedelta(minutes=10))
    rows["reading"] = "as_stamped" if missing == "before" else "wall_clock_is_local"
    rows["available_at"] = rows["arrived_at"]
    rows["source_file"] = "hill.csv"
    rows = rows.sample(frac=1, random_state=3).reset_index(drop=True)  # the order in the file proves nothing
    return rows.assign(source_row=range(1, len(rows) + 1))


@pytest.mark.parametrize(("missing", "change"), [("before", SPRING), ("after", AUTUMN)])
def test_arrival_times_prove_it_row_by_row(missing: str, change: tuple[pd.Timestamp, int]) -> None:
    rows = made(missing, turbines=2)
    found = retime(rows, *change, 600).merge(rows, on="source_row", suffixes=("", "_stamped"))
    assert len(found) == 12
    assert (found["valid_at"] == found["true"]).all()
    if missing == "after":
        assert (found["available_at"] == found["true"] + pd.Timedelta(minutes=20)).all()
    # What comes later changes none of it: each row is proven by itself, and by what came before it.
    noon = found["available_at"].sort_values().iloc[5]
    then = retime(rows[rows["available_at"] <= noon], *change, 600)
    whole = retime(rows, *change, 600)
    pd.testing.assert_frame_equal(
        then[then["available_at"] <= noon].sort_values("source_row", ignore_index=True),
        whole[whole["available_at"] <= noon].sort_values("source_row", ignore_index=True),
    )


def test_a_late_row_of_the_first_pass_is_not_taken_for_the_second() -> None:
    rows = made("after")
    late = rows["true"].between(CHANGE, CHANGE + HOUR, inclusive="left")
    rows.loc[late, "received_at"] += pd.Timedelta(hours=5)
    rows = rows[~rows["true"].between(CHANGE + HOUR, CHANGE + 2 * HOUR, inclusive="left")]
    assert retime(rows, *AUTUMN, 600).empty
