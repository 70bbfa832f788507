"""What is told of challengers that the gate did not let through."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.contracts.training import Decisions
from wind_kedro.pipelines.monitoring.challengers import failed_challengers

TRAINED = "2024-03-01 06:00"
AS_OF = pd.Timestamp("2024-03-03", tz="UTC")
EXCESSES = ("bias", "coverage", "strong_wind", "change", "worst")


def _decisions(*rows: dict[str, Any]) -> pd.DataFrame:
    usual = {
        "product_id": "hours", "entity_id": "hill", "decided_at": TRAINED, "champion": "old", "challenger": "new", "issues": 90,
        "champion_score": 0.1, "challenger_score": 0.1, "gain_share": 0.01, "p_value": 0.2, "p_adjusted": 0.4,
        "promoted": False, "code": "margin", "reason": "said so",
    } | {f"{name}_excess_share": 0.0 for name in EXCESSES}  # fmt: skip
    table = pd.DataFrame([usual | row for row in rows], columns=list(usual))
    table["decided_at"] = pd.to_datetime(table["decided_at"], utc=True)
    return Decisions.validate(table)


def _told(*rows: dict[str, Any], days: float = 7) -> list[dict[str, Any]]:
    return failed_challengers(_decisions(*rows), AS_OF, days)


def test_a_candidate_that_was_not_good_enough_is_one_row_for_all_its_entities() -> None:
    (row,) = _told(
        {"entity_id": "hill"},
        {"entity_id": "shore", "gain_share": -0.2, "code": "margin"},
        {"entity_id": "plain", "gain_share": 0.03, "code": "not_significant"},
        {"entity_id": "coast", "gain_share": 0.05, "code": "better", "promoted": True},
    )
    assert (row["kind"], row["severity"], row["product_id"], row["subject"]) == (
        "challenger_failed", "info", "hours", "new",
    )  # fmt: skip
    assert row["message"] == (
        "'new' did not win 3 of 4 entities: its gain is below the product's margin (2); its gain is not significant (1)"
    )
    assert row["amount"] == pytest.approx((0.01 - 0.2 + 0.03) / 3)
    assert "nearest: plain, +3.0% beside 'old' over 90 issues" in row["evidence"]


@pytest.mark.parametrize("code", ["strong_wind", "changing_wind", "worst_issues", "bias", "coverage", "surprising"])
def test_one_that_is_better_and_may_not_is_a_warning_of_its_own(code: str) -> None:
    row, other = _told(
        {"gain_share": 0.08, "code": code, "strong_wind_excess_share": 0.7},
        {"entity_id": "shore", "gain_share": 0.5, "code": code, "coverage_excess_share": np.nan},
    )
    assert (row["kind"], row["severity"], row["entity_id"], row["amount"]) == (
        "challenger_refused",
        "warning",
        "hill",
        0.08,
    )
    assert row["message"].startswith("'new' is 8.0% better, but ")
    assert "strong wind +70.0%" in row["evidence"]
    assert other["entity_id"] == "shore"
    assert "coverage" not in other["evidence"]
    assert "kedro wind approve" in row["action"]


def test_a_leak_is_told_with_what_was_seen() -> None:
    (row,) = _told({"code": "leak", "champion": "", "issues": 0, "gain_share": np.nan, "reason": "the fold had seen March"})
    assert (row["kind"], row["severity"]) == ("challenger_leaks", "warning")
    assert row["evidence"].endswith("the fold had seen March")
    assert "approve" not in row["action"]


@pytest.mark.parametrize("code", ["better", "approved", "overridden", "first_champion"])
def test_who_won_is_no_incident(code: str) -> None:
    assert _told({"code": code, "promoted": True}) == []


@pytest.mark.parametrize("code", ["another_is_better", "in_shadow", "held"])
def test_who_has_not_failed_is_no_incident(code: str) -> None:
    assert _told({"code": code}) == []


def test_only_the_newest_training_of_each_product_is_news_and_not_for_ever() -> None:
    old, later = "2024-02-28 06:00", "2024-03-04 06:00"
    table = ({"decided_at": old, "challenger": "older"}, {}, {"decided_at": later, "challenger": "later"})
    other = {"decided_at": old, "product_id": "quarters", "challenger": "older"}
    assert [(row["product_id"], row["subject"]) for row in _told(*table, other)] == [
        ("hours", "new"), ("quarters", "older"),
    ]  # fmt: skip
    assert _told(*table, other, days=1.5) == []


def test_before_any_training_there_is_nothing_to_tell() -> None:
    assert _told() == []
