"""Which issues are made: none a second time from the same inputs, and all again of which something has changed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import IssuesMade
from wind_kedro.failures import Failure, failures_table
from wind_kedro.pipelines.forecasting.due import find_due_issues, note_issues_made
from wind_kedro.pipelines.forecasting.settings import FeatureGroups
from wind_kedro.postprocessing.settings import Calibration, Portfolios

#: Issues of `hours` at 06:00 and 18:00 of two days, of `quarters` at 06:10.
CLOCK = Clock.model_validate({"as_of": "2024-03-02T20:00", "issue_from": "2024-03-01T00:00"})
CALIBRATION = Calibration(
    days=30, min_days=10, settle_days=0, portfolios=Portfolios(error_correlation=0.2, min_capacity_share=0.5)
)
NOTHING = IssuesMade.table([])


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2024-03-{text}", tz="UTC")


@pytest.fixture(scope="module")
def given(make_features: Any) -> dict[str, Any]:
    """Features of all issues, and a promotion."""
    issues = {"hill": ["01 06:00", "01 18:00", "02 06:00", "02 18:00"], "shore": ["01 06:10", "02 06:10"]}
    product = {"hill": "hours", "shore": "quarters"}
    rows = [
        {"product_id": product[entity], "entity_id": entity, "issued_at": at(time), "valid_at": at(time) + pd.Timedelta(hours=1)}
        for entity, times in issues.items()
        for time in times
    ]
    return {"features": make_features(rows), "promotions": promoted(1, "2024-02-01")}


def promoted(number: int, since: str, entity_id: str = "hill") -> pd.DataFrame:
    time = pd.Timestamp(since, tz="UTC").as_unit("us")
    row = {"promotion": number, "product_id": "hours", "entity_id": entity_id, "model": "curve", "model_version": str(number)}
    return pd.DataFrame([row | {"promoted_at": time, "available_at": time}])


def due(
    given: dict[str, Any],
    fleet: Fleet,
    made: pd.DataFrame,
    stored: pd.DataFrame | None = None,
    begun: pd.DataFrame | None = None,
) -> list[str]:
    """Issues that are due, once some were begun, made and stored."""
    found, clock = find_due_issues(
        given["features"],
        given["promotions"],
        made if stored is None else stored,
        made if begun is None else begun,
        made,
        fleet,
        CLOCK,
        given.get("calibration", CALIBRATION),
        FeatureGroups(groups={}),
    )
    by_clock = {(product.id, issue) for product in fleet.products for issue in clock.issues(fleet.calendar(product.id))}
    assert by_clock == set(zip(found["product_id"], found["issued_at"], strict=True))
    return [f"{row['product_id']} {row['issued_at']:%d %H:%M}" for row in found.to_dict("records")]


ALL = ["hours 01 06:00", "hours 01 18:00", "hours 02 06:00", "hours 02 18:00", "quarters 01 06:10", "quarters 02 06:10"]


@pytest.fixture
def made(given: dict[str, Any], fleet: Fleet) -> pd.DataFrame:
    common = (fleet, CLOCK, CALIBRATION, FeatureGroups(groups={}))
    return find_due_issues(given["features"], given["promotions"], NOTHING, NOTHING, NOTHING, *common)[0]


def test_at_first_all_are_due_and_then_none(given: dict[str, Any], fleet: Fleet, made: pd.DataFrame) -> None:
    assert due(given, fleet, NOTHING) == ALL
    assert due(given, fleet, made) == []


def test_what_was_made_and_is_not_stored_is_due(given: dict[str, Any], fleet: Fleet, made: pd.DataFrame) -> None:
    assert due(given, fleet, made, stored=made.iloc[1:]) == ALL[:1]


def test_what_a_killed_run_began_to_make_of_something_else_is_due(
    given: dict[str, Any], fleet: Fleet, made: pd.DataFrame
) -> None:
    begun = made.assign(fingerprint=made["fingerprint"].where(made.index > 0, "0"))
    assert due(given, fleet, made, begun=begun) == ALL[:1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"promotions": [1, 2]}, ALL[2:4], id="a promotion: the issues of its product from then on"),
        pytest.param({"wind": "02 06:00"}, ALL[2:4], id="features: the issues of that day"),
        pytest.param({"calibration": 45}, ALL, id="settings: all"),
    ],
)
def test_what_has_changed_is_due(
    given: dict[str, Any], fleet: Fleet, made: pd.DataFrame, change: dict[str, Any], expected: list[str]
) -> None:
    other = dict(given)
    if "promotions" in change:
        other["promotions"] = pd.concat([given["promotions"], promoted(2, "2024-03-02")], ignore_index=True)
    if "wind" in change:
        features = given["features"].copy()
        features.loc[features["issued_at"] == at(change["wind"]), "wind_speed_100m_ms"] = 9.0
        other["features"] = features
    if "calibration" in change:
        other["calibration"] = CALIBRATION.model_copy(update={"days": change["calibration"]})
    assert due(other, fleet, made) == expected


def test_a_corrected_card_makes_the_issues_of_its_product_due(
    given: dict[str, Any], cards: dict[str, Any], fleet: Fleet, made: pd.DataFrame
) -> None:
    shore = cards["farms"][1]
    shore["capacity_kw"] = shore["turbines"][0]["rated_power_kw"] = 1200
    cards["groups"] = []
    cards["products"][0]["members"] = ["hill"]
    alone = Fleet.from_config(**cards)
    before = find_due_issues(
        given["features"], given["promotions"], NOTHING, NOTHING, NOTHING, alone, CLOCK, CALIBRATION, FeatureGroups(groups={})
    )[0]
    shore["capacity_kw"] = shore["turbines"][0]["rated_power_kw"] = 1300
    assert due(given, Fleet.from_config(**cards), before) == ALL[4:]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        pytest.param(None, ALL, id="none"),
        pytest.param(("hours", at("01 06:00")), ALL[1:], id="of an issue"),
        pytest.param(("hours", None), ALL[4:], id="of a product"),
        pytest.param(("", None), [], id="of all"),
    ],
)
def test_an_issue_with_a_failure_is_made_again(
    fleet: Fleet, made: pd.DataFrame, failure: tuple[str, pd.Timestamp | None] | None, expected: list[str]
) -> None:
    rows = (
        [Failure("forecasting", "model_unusable", "broken", "mend it", product_id=failure[0], issued_at=failure[1])]
        if failure
        else []
    )
    earlier = made.assign(issued_at=made["issued_at"] - pd.Timedelta(days=40))
    begun = pd.concat([earlier, made], ignore_index=True)  # as stored, with those of other runs
    found = note_issues_made(begun, fleet, CLOCK, failures_table([], CLOCK.as_of), failures_table(rows, CLOCK.as_of))
    assert [f"{row['product_id']} {row['issued_at']:%d %H:%M}" for row in found.to_dict("records")] == expected


def test_where_nothing_is_due_nothing_is_noted(given: dict[str, Any], fleet: Fleet, made: pd.DataFrame) -> None:
    common = (fleet, CLOCK, CALIBRATION, FeatureGroups(groups={}))
    none, clock = find_due_issues(given["features"], given["promotions"], made, made, made, *common)
    for stored in (none, made):
        found = note_issues_made(stored, fleet, clock, failures_table([], CLOCK.as_of))
        assert IssuesMade.validate(found).empty
