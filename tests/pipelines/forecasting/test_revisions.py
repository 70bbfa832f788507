"""Revisions: which are sent, what is noted of the others, and what records have of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.contracts.operation import Failures
from wind_kedro.failures import failures_table
from wind_kedro.models.tables import forecast_rows
from wind_kedro.pipelines.forecasting.revisions import SENT, without_small_revisions
from wind_kedro.pipelines.monitoring.failures import collect_failures, failure_incidents

FIRST = pd.Timestamp("2024-03-01 06:00", tz="UTC")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def revised(cards: dict[str, Any]) -> Fleet:
    """The product `hours` is revised every hour where that changes at least 10 % of capacity."""
    cards["products"][0] |= {"issue_times": ["06:00"], "revisions": {"every_minutes": 60, "min_change_share": 0.1}}
    return Fleet.from_config(**cards)


def issue(number: int, median: float, farm: str = "hill", **columns: Any) -> pd.DataFrame:
    """Revision `number` of the issue of 06:00: 10:00 and 11:00, at `median` of 3 MW, at 11:00 a little less."""
    at = FIRST + number * HOUR
    table = pd.DataFrame({"valid_at": [FIRST + 4 * HOUR, FIRST + 5 * HOUR], "q500_kw": [3000 * median, 3000 * median - 30]})
    return as_forecasts(
        table.assign(
            product_id="hours", entity_id=farm, model="m", model_version="1", issued_at=at, revised_issue_at=FIRST,
            lead_minutes=[240 - 60 * number, 300 - 60 * number], revision=number, capacity_kw=3000.0, weather_run_at=at,
            fallback="", weather="forecast weather", q100_kw=0.0, q900_kw=3000.0,
        ).assign(**columns)
    )  # fmt: skip


def sent(issued: list[pd.DataFrame], before: list[pd.DataFrame], fleet: Fleet) -> tuple[list[tuple[str, int]], list[Any]]:
    earlier = pd.concat([*before, issue(0, 0.5).iloc[:0]])[SENT]
    table, notes = without_small_revisions(pd.concat(issued, ignore_index=True), earlier, fleet.product("hours"))
    keys = table[["entity_id", "revision"]].drop_duplicates()
    return list(keys.itertuples(index=False, name=None)), notes


def test_a_revision_is_compared_with_what_was_sent_last(revised: Fleet) -> None:
    issued = [issue(0, 0.50), issue(1, 0.55), issue(2, 0.59), issue(3, 0.61), issue(4, 0.52)]
    # 0.55 and 0.59 are too near to 0.50, 0.61 is not; 0.52 is too near to 0.61.
    found, notes = sent(issued, [], revised)
    assert found == [("hill", 0), ("hill", 3)]
    assert [note.issued_at for note in notes] == [FIRST + 1 * HOUR, FIRST + 2 * HOUR, FIRST + 4 * HOUR]
    assert notes[0].message == "hours/hill: the revision changes at most 5.0% of capacity, less than 10.0%"


def test_it_is_compared_with_what_an_earlier_run_sent(revised: Fleet) -> None:
    before = [issue(0, 0.5), issue(1, 0.7)]
    assert sent([issue(2, 0.52)], before, revised)[0] == [("hill", 2)]
    assert sent([issue(2, 0.72)], before, revised)[0] == []
    # What an earlier run sent at the same time is replaced, not compared with.
    assert sent([issue(1, 0.52)], before, revised)[0] == []


def test_farms_are_compared_each_for_itself(revised: Fleet) -> None:
    before = [issue(0, 0.5), issue(0, 0.5, farm="shore")]
    found, notes = sent([issue(1, 0.51), issue(1, 0.9, farm="shore")], before, revised)
    assert found == [("shore", 1)]
    assert [note.entity_id for note in notes] == ["hill"]


def test_where_nothing_was_sent_before_a_revision_is_sent(revised: Fleet) -> None:
    assert sent([issue(1, 0.5)], [], revised) == ([("hill", 1)], [])


@pytest.mark.parametrize("least", [0.0, None])
def test_without_a_smallest_change_every_revision_is_sent(cards: dict[str, Any], least: float | None) -> None:
    if least is not None:
        cards["products"][0]["revisions"] = {"every_minutes": 60, "min_change_share": least}
    issued = [issue(0, 0.5), issue(1, 0.5)]
    assert sent(issued, [], Fleet.from_config(**cards)) == ([("hill", 0), ("hill", 1)], [])


def test_what_is_not_sent_is_noted_and_is_no_incident(revised: Fleet) -> None:
    _, notes = sent([issue(1, 0.51)], [issue(0, 0.5)], revised)
    table = Failures.validate(failures_table(notes, FIRST + HOUR))
    assert table[["code", "severity"]].to_numpy().tolist() == [["revision_not_sent", "info"]]

    class Clock:
        as_of = FIRST + HOUR

    history, open_failures = collect_failures(table.iloc[:0], Clock, table)  # type: ignore[arg-type]
    assert history.empty
    # It is open, so that the issue is not overdue.
    assert open_failures["code"].tolist() == ["revision_not_sent"]
    assert list(failure_incidents(open_failures)) == []


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        pytest.param("median", 1500, id="the median"),
        pytest.param(0.9, 2700, id="a quantile"),
        # 0.3 (10 %) to 0.5 (50 %) to 0.9 (90 %) of 3 MW: 0.1 * 0.3 + 0.4 * 0.4 + 0.4 * 0.7 + 0.1 * 0.9 = 0.56.
        pytest.param("mean", 1680, id="the mean"),
    ],
)
def test_records_have_the_revision_the_rung_the_age_of_the_weather_and_the_point(
    cards: dict[str, Any], point: str | float, expected: float
) -> None:
    cards["products"][0] |= {"issue_times": ["06:00"], "revisions": {"every_minutes": 60}, "point": point}
    fleet = Fleet.from_config(**cards)
    rows = pd.DataFrame(
        {
            "product_id": "hours", "entity_id": "hill", "issued_at": FIRST + 2 * HOUR, "valid_at": [FIRST + 4 * HOUR],
            "lead_minutes": 120, "weather_run_at": FIRST - 6 * HOUR,
        }
    )  # fmt: skip
    shares = np.array([[0.3, 0.5, 0.9]])
    for fallback, rung in (("", "champion"), ("persistence", "fallback"), ("observed_climatology", "climatology")):
        [row] = forecast_rows(
            rows, shares, fleet.product("hours"), fleet, model="m", model_version="1", fallback=fallback
        ).to_dict("records")
        assert (row["revised_issue_at"], row["revision"], row["rung"]) == (FIRST, 2, rung)
        assert row["weather_run_age_minutes"] == 8 * 60
        assert row["point_kw"] == pytest.approx(expected)
