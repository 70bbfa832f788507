"""Calibration by what became of earlier issues: what is corrected, by how much, and that nothing is learnt from later."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.settings import Calibration

COLUMNS = quantile_columns([0.1, 0.5, 0.9])
FIRST = pd.Timestamp("2024-03-01", tz="UTC")
CAPACITY_KW = 3000.0


def rules(correction: str = "spread", **changes: Any) -> Calibration:
    given_rules = {
        "days": 10,
        "min_days": 1,
        "settle_days": 0,
        "candidates": {"m": correction},
        "portfolios": {"error_correlation": 0.2, "min_capacity_share": 0.5},
    }
    return Calibration.model_validate(given_rules | changes)


def issues(days: int = 12, shares: tuple[float, float, float] = (0.4, 0.5, 0.6), **columns: Any) -> pd.DataFrame:
    """Forecasts of hill, four hours at 06:00 and at 18:00 each day, all the same."""
    issued = pd.DataFrame({"issued_at": pd.date_range(FIRST, periods=2 * days, freq="12h") + pd.Timedelta(hours=6)})
    table = issued.merge(pd.DataFrame({"lead_minutes": [0, 60, 120, 180]}), how="cross")
    table = table.assign(
        product_id="hours",
        entity_id="hill",
        model="m",
        model_version="1",
        valid_at=table["issued_at"] + pd.to_timedelta(table["lead_minutes"], unit="min"),
        capacity_kw=CAPACITY_KW,
        weather_run_at=table["issued_at"],
        fallback="",
        weather="forecast weather",
        **dict(zip(COLUMNS, np.array(shares) * CAPACITY_KW, strict=True)),
    )
    return as_forecasts(table.assign(**columns))


def outcomes(forecasts: pd.DataFrame, shares: Any, hours_late: float = 1.0, **columns: Any) -> pd.DataFrame:
    """What came, known some hours after its interval began."""
    valid_at = forecasts["valid_at"].drop_duplicates()
    return pd.DataFrame(
        {
            "entity_id": "hill",
            "granularity_minutes": 60,
            "valid_at": valid_at,
            "available_at": valid_at + pd.Timedelta(hours=hours_late),
            "power_kw": np.resize(shares, len(valid_at)) * CAPACITY_KW,
            "available_capacity_kw": CAPACITY_KW,
            "imputed_share": 0.0,
            "method": "mean",
        }
        | columns
    )


def last(table: pd.DataFrame) -> Any:
    """Quantiles of the newest issue, shares."""
    own = table[table["issued_at"] == table["issued_at"].max()]
    return own[COLUMNS].to_numpy()[0] / CAPACITY_KW


#: Nine of ten hours lie as far from the median as the band's edges would have it, evenly on both sides.
EVEN = np.linspace(0.3, 0.7, 21)


@pytest.mark.parametrize(
    ("correction", "came", "expected"),
    [
        pytest.param("none", EVEN, [0.4, 0.5, 0.6], id="not corrected"),
        pytest.param("spread", EVEN, [0.34, 0.5, 0.66], id="a band that was too narrow is stretched"),
        pytest.param("spread", 0.5 + (EVEN - 0.5) / 2.5, [0.436, 0.5, 0.564], id="one that was too wide is drawn in"),
        pytest.param("spread", [0.5], [0.45, 0.5, 0.55], id="but by no more than half"),
        pytest.param("shift", EVEN + 0.1, [0.44, 0.6, 0.76], id="a bias is shifted away, each quantile on its own"),
        pytest.param("spread", EVEN + 0.1, [0.45, 0.5, 0.76], id="a spread leaves the median, and each side is its own"),
    ],
)
def test_quantiles_come_to_hold_what_they_promise(fleet: Fleet, correction: str, came: Any, expected: list[float]) -> None:
    table = issues(15)
    found = calibrated(table, table, outcomes(table, came), fleet, rules(correction))
    np.testing.assert_allclose(last(Forecasts.validate(found)), expected, atol=0.012)


def test_with_too_few_outcomes_nothing_is_corrected(fleet: Fleet) -> None:
    table = issues()
    found = calibrated(table, table, outcomes(table, EVEN), fleet, rules(min_days=3))
    corrected = (found[COLUMNS] != table[COLUMNS]).any(axis=1)
    # Two issues a day: of the third day the first is known when the second is issued.
    assert found.loc[corrected, "issued_at"].min() == FIRST + pd.Timedelta(days=2, hours=18)


def test_a_correction_grows_with_what_is_known(fleet: Fleet) -> None:
    table = issues(15)
    whole = calibrated(table, table, outcomes(table, EVEN), fleet, rules())
    half = calibrated(table, table, outcomes(table, EVEN), fleet, rules(settle_days=11))  # ten days back are of eleven days
    np.testing.assert_allclose(last(half) - last(table), (last(whole) - last(table)) / 2, atol=1e-9)


def test_only_the_last_days_count(fleet: Fleet) -> None:
    table = issues(30)
    old = table["valid_at"] < FIRST + pd.Timedelta(days=15)
    came = outcomes(table, EVEN)
    came.loc[old.to_numpy(), "power_kw"] = 0.0
    kept = calibrated(table, table, came, fleet, rules())
    np.testing.assert_allclose(last(kept), [0.34, 0.5, 0.66], atol=0.012)


def test_lead_times_are_corrected_apart_where_there_is_enough(fleet: Fleet) -> None:
    table = issues(15)
    sure = table["lead_minutes"] < 120
    came = outcomes(table, EVEN)
    came.loc[sure.to_numpy(), "power_kw"] = 1500.0
    found = calibrated(table, table, came, fleet, rules(lead_edges_minutes=[0, 120, 240]))
    width = found.groupby("lead_minutes")[["q100_kw", "q900_kw"]].last() @ [-1, 1] / CAPACITY_KW
    assert width.loc[[0, 60]].max() < 0.11
    assert width.loc[[120, 180]].min() > 0.25


@pytest.mark.parametrize("change", ["model", "product_id", "entity_id"])
def test_others_errors_correct_nothing(fleet: Fleet, change: str) -> None:
    table = issues()
    other = {"model": "n", "product_id": "quarters", "entity_id": "both"}[change]
    found = calibrated(table, table.assign(**{change: other}), outcomes(table, EVEN), fleet, rules())
    pd.testing.assert_frame_equal(found, table)


def test_what_was_filled_in_is_no_outcome(fleet: Fleet) -> None:
    table = issues()
    filled = calibrated(table, table, outcomes(table, EVEN, imputed_share=0.4), fleet, rules())
    pd.testing.assert_frame_equal(filled, table)


def test_a_revision_counts_from_when_it_came(fleet: Fleet) -> None:
    table = issues(20)
    came = outcomes(table, EVEN)
    revision_at = FIRST + pd.Timedelta(days=14)
    revised = came[came["valid_at"] < revision_at].assign(available_at=revision_at, power_kw=1500.0)
    first = calibrated(table, table, came, fleet, rules())
    both = calibrated(table, table, pd.concat([came, revised]), fleet, rules())
    before = table["issued_at"] < revision_at
    pd.testing.assert_frame_equal(first[before], both[before])
    at = both[both["issued_at"] >= revision_at].iloc[0]
    assert at["q900_kw"] - at["q100_kw"] < 0.11 * CAPACITY_KW


def test_a_product_may_have_its_own_rules(fleet: Fleet) -> None:
    table = issues()
    own = rules(products={"hours": {}})
    pd.testing.assert_frame_equal(calibrated(table, table, outcomes(table, EVEN), fleet, own), table)


def test_a_portfolio_is_always_corrected(cards: dict[str, Any]) -> None:
    cards["products"][0]["members"] = ["hill", "shore", "both"]
    fleet = Fleet.from_config(**cards)
    product = fleet.product("hours")
    none = rules(candidates={})
    assert none.correction_of(product, "both", "portfolio", fleet) == "spread"
    assert none.correction_of(product, "hill", "m", fleet) == "none"


@given(
    seed=st.integers(0, 10_000),
    day=st.integers(4, 11),
    correction=st.sampled_from(["spread", "shift"]),
    hours_late=st.sampled_from([0.5, 3.0, 30.0]),
)
@settings(max_examples=15, deadline=None)
def test_nothing_that_came_later_changes_an_issue(fleet: Fleet, seed: int, day: int, correction: str, hours_late: float) -> None:
    """Outcomes, revisions and forecasts that were not there at an issue time move nothing issued by then."""
    rng = np.random.default_rng(seed)
    table = issues(12)
    table[COLUMNS] = np.sort(rng.uniform(0, CAPACITY_KW, (len(table), 3)), axis=1)
    came = outcomes(table, rng.uniform(0, 1, 96), hours_late)
    revised = came.sample(20, random_state=seed).assign(power_kw=0.0)
    revised["available_at"] += pd.to_timedelta(rng.integers(1, 96, len(revised)), unit="h")
    came = pd.concat([came, revised], ignore_index=True)
    now = FIRST + pd.Timedelta(days=day, hours=6)
    later = came["available_at"] > now
    changed = came.assign(power_kw=came["power_kw"].where(~later, rng.uniform(0, CAPACITY_KW, len(came))))
    not_yet = table["issued_at"] > now
    history = table.copy()
    history.loc[not_yet, COLUMNS] = 0.0
    one = calibrated(table, table, came, fleet, rules(correction))[~not_yet]
    other = calibrated(table[~not_yet], history, changed, fleet, rules(correction))
    pd.testing.assert_frame_equal(one, other)
    gone = calibrated(table[~not_yet], table[~not_yet], came[~later], fleet, rules(correction))
    pd.testing.assert_frame_equal(one, gone)
    assert (one[COLUMNS].to_numpy() != table.loc[~not_yet, COLUMNS].to_numpy()).any() or hours_late > 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lead_edges_minutes": [120]}, "at least two, rising"),
        ({"lead_edges_minutes": [120, 0]}, "at least two, rising"),
        ({"candidates": {"m": "wider"}}, "'none', 'spread' or 'shift'"),
    ],
)
def test_wrong_rules_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rules(**change)
