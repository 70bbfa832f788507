"""Predicates of Delta tables: they hold for the rows that pandas finds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.storage.delta import Delta, are_among, to_arrow, to_pandas, within

ROWS = pd.DataFrame(
    [(farm, unit, day) for farm in ("a", "it's") for unit in ("x", "y") for day in pd.date_range("2015-01-01", periods=3)],
    columns=["farm_id", "unit", "day"],
).astype({"day": "datetime64[us]"})


@pytest.mark.parametrize("columns", [["day"], ["farm_id", "day"], ["farm_id", "unit", "day"]])
@pytest.mark.parametrize("kept", [[], [4], [0, 7, 7, 11]])
def test_rows_are_found_by_their_keys(columns: list[str], kept: list[int], tmp_path: Path) -> None:
    table = Delta(tmp_path / "table")
    table.append(to_arrow(ROWS))
    keys = ROWS.loc[kept, columns]
    table.delete(are_among(keys))
    left = table.read()
    assert left is not None
    expected = ROWS[~pd.MultiIndex.from_frame(ROWS[columns]).isin(pd.MultiIndex.from_frame(keys))]
    order = list(ROWS)
    pd.testing.assert_frame_equal(to_pandas(left).sort_values(order, ignore_index=True), expected.reset_index(drop=True))


def test_bounds_are_included_and_may_be_missing(tmp_path: Path) -> None:
    table = Delta(tmp_path / "table")
    table.append(to_arrow(ROWS))
    days = sorted(ROWS["day"].unique())
    for first, last, count in ((days[1], days[1], 4), (days[1], None, 8), (None, days[1], 8), (None, None, 12)):
        found = table.read(where=within("day", first, last))
        assert found is not None
        assert found.num_rows == count
        assert list(to_pandas(found, without=["unit", "none"])) == ["farm_id", "day"]
