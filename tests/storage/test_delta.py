"""Predicates of Delta tables: they hold for the rows that pandas finds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.storage.delta import Delta, are_among, has_one_of, to_arrow, to_pandas, within

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


@pytest.mark.parametrize(("farms", "count"), [([], 0), (["a"], 6), (["a", "it's", "b"], 12)])
def test_rows_with_one_of_some_values_are_read(farms: list[str], count: int, tmp_path: Path) -> None:
    table = Delta(tmp_path / "table")
    table.append(to_arrow(ROWS))
    found = table.read(where=has_one_of("farm_id", farms))
    assert found is not None
    assert found.num_rows == count


def test_measured_values_are_stored_as_they_are(tmp_path: Path) -> None:
    rows = ROWS.assign(power_kw=[0.1, float("nan"), -0.0, *range(len(ROWS) - 3)], share=pd.array([None] * len(ROWS), "Float64"))
    table = Delta(tmp_path / "table")
    table.append(to_arrow(rows))
    table.compact()
    found = table.read(where=within("day", rows["day"].min(), rows["day"].max()))
    assert found is not None
    assert found.equals(to_arrow(rows).cast(found.schema))
