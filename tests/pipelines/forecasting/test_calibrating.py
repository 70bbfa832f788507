"""What is issued of what models say: portfolios are made, errors are looked back on, and what is missing is told."""

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from records import as_forecasts
from stored import store
from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Forecasts, PortfolioSums
from wind_kedro.failures import Failure, failures_table
from wind_kedro.pipelines.forecasting.earlier import folds_between
from wind_kedro.pipelines.forecasting.nodes import calibrate_forecasts
from wind_kedro.postprocessing.settings import Calibration

COLUMNS = ["q100_kw", "q500_kw", "q900_kw"]
CAPACITY_KW = {"hill": 3000.0, "shore": 1000.0}
NOW = pd.Timestamp("2024-03-31 06:00", tz="UTC")
NO_FAILURES = failures_table([], dt.datetime(2024, 3, 1, tzinfo=dt.UTC))
CLOCK = Clock.model_validate({"as_of": "2024-03-31T12:00"})
RULES = Calibration.model_validate(
    {
        "days": 20,
        "min_days": 3,
        "settle_days": 0,
        "candidates": {"new": "spread", "old": "spread"},
        "portfolios": {"error_correlation": 0.0, "min_capacity_share": 0.5},
    }
)


@pytest.fixture
def sold(cards: dict[str, Any]) -> Fleet:
    """The product `hours` is of both farms and their group."""
    cards["products"][0]["members"] = ["hill", "shore", "both"]
    return Fleet.from_config(**cards)


def said(model: str, days: int, ending: pd.Timestamp, farms: tuple[str, ...] = ("hill", "shore")) -> pd.DataFrame:
    """Two issues a day of four hours, 40, 50 and 60 % of capacity, for so many days up to and with a time."""
    issued = pd.DataFrame({"issued_at": pd.date_range(end=ending, periods=2 * days, freq="12h", unit="us")})
    table = issued.merge(pd.DataFrame({"lead_minutes": [0, 60, 120, 180]}), how="cross")
    table = table.merge(pd.DataFrame({"entity_id": list(farms)}), how="cross")
    capacity = table["entity_id"].map(CAPACITY_KW)
    return as_forecasts(
        table.assign(
            product_id="hours",
            model=model,
            model_version="1",
            valid_at=table["issued_at"] + pd.to_timedelta(table["lead_minutes"], unit="min"),
            capacity_kw=capacity,
            weather_run_at=table["issued_at"],
            fallback="",
            weather="forecast weather",
            q100_kw=0.4 * capacity,
            q500_kw=0.5 * capacity,
            q900_kw=0.6 * capacity,
        )
    )


def came(half_width: float) -> pd.DataFrame:
    """Power of farms and group, evenly to both sides of the median; eight of ten lie within 0.8 of the half width."""
    valid_at = pd.date_range("2024-03-01", NOW.tz_localize(None), freq="h", tz="UTC", unit="us")
    share = np.resize(np.linspace(0.5 - half_width, 0.5 + half_width, 21), len(valid_at))
    parts = [
        pd.DataFrame(
            {
                "entity_id": entity_id,
                "granularity_minutes": 60,
                "valid_at": valid_at,
                "available_at": valid_at + pd.Timedelta(hours=1),
                "power_kw": share * capacity,
                "available_capacity_kw": capacity,
                "imputed_share": 0.0,
                "method": "mean",
            }
        )
        for entity_id, capacity in (CAPACITY_KW | {"both": 4000.0}).items()
    ]
    return pd.concat(parts, ignore_index=True)


def width(table: pd.DataFrame, entity_id: str) -> float:
    """Of the band, a share of capacity, mean over the newest issue."""
    own = table[(table["entity_id"] == entity_id) & (table["issued_at"] == NOW)]
    return float(((own["q900_kw"] - own["q100_kw"]) / own["capacity_kw"]).mean())


def issue(now: pd.DataFrame, backtested: pd.DataFrame, fleet: Fleet, half_width: float = 0.05) -> pd.DataFrame:
    found, _, _ = calibrate_forecasts(now, backtested, NOTHING, came(half_width), NO_SUMS, NO_FAILURES, fleet, CLOCK, RULES)
    return Forecasts.validate(found)


NOTHING = said("new", 1, NOW).iloc[:0]
NO_SUMS = NOTHING.assign(made_from="")


def test_only_the_issues_of_the_run_are_issued_farms_and_portfolio(sold: Fleet) -> None:
    table = issue(said("new", 5, NOW), NOTHING, sold)
    assert set(table["issued_at"]) == {NOW}
    assert {name: len(rows) for name, rows in table.groupby("entity_id")} == {"hill": 4, "shore": 4, "both": 4}
    assert set(table.loc[table["entity_id"] == "both", "model"]) == {"portfolio"}
    assert table.loc[table["entity_id"] == "both", "q500_kw"].unique().tolist() == [2000.0]


def test_without_a_past_nothing_is_corrected(sold: Fleet) -> None:
    table = issue(said("new", 1, NOW), NOTHING, sold)
    assert width(table, "hill") == pytest.approx(0.2)
    # Half bands of 300 and 100 kW, of errors that do not correlate.
    assert width(table, "both") == pytest.approx(2 * np.hypot(300, 100) / 4000)


@pytest.mark.parametrize("live", [True, False], ids=["of the history", "of the backtest, where there is no history"])
def test_errors_of_earlier_issues_correct_farms_and_portfolio(sold: Fleet, live: bool) -> None:
    past = said("new", 15, NOW)
    now, backtested = (past, NOTHING) if live else (past[past["issued_at"] == NOW], past[past["issued_at"] < NOW])
    # A fifth of ±5 % lies outside ±4 %: farms are drawn in by half, the most that is allowed, the group to that.
    table = issue(now, backtested, sold)
    assert width(table, "hill") == pytest.approx(0.1, abs=0.005)
    assert width(table, "both") == pytest.approx(0.08, abs=0.01)


def test_of_a_stored_backtest_only_the_folds_are_read_that_count(sold: Fleet, tmp_path: Path) -> None:
    past = said("new", 25, NOW)
    now, backtested = past[past["issued_at"] == NOW], past[past["issued_at"] < NOW]
    days = (NOW - backtested["issued_at"]).dt.days
    # Folds of six days; a calibration looks back 20 days.
    backtested = backtested.assign(fold_begin=NOW.floor("D") - pd.to_timedelta(days // 6 * 6 + 6, unit="D"))
    entry = {"key": ["product_id", "entity_id", "model"], "time": "fold_begin"}
    stored = store(tmp_path, entry, backtested)
    read = folds_between(stored, NOW.tz_localize(None) - pd.Timedelta(days=RULES.days), NOW.tz_localize(None))
    assert read["issued_at"].min() <= NOW - pd.Timedelta(days=20)
    assert 0 < len(read) < len(backtested)
    found, _, _ = calibrate_forecasts(now, stored, NOTHING, came(0.05), NO_SUMS, NO_FAILURES, sold, CLOCK, RULES)
    pd.testing.assert_frame_equal(found, issue(now, backtested.drop(columns="fold_begin"), sold))


def test_a_model_that_is_new_is_judged_by_its_own_backtest(sold: Fleet) -> None:
    old = said("old", 15, NOW - pd.Timedelta(hours=12)).assign(q100_kw=0.0, q900_kw=lambda rows: rows["capacity_kw"])
    now = pd.concat([old, said("new", 1, NOW).query("issued_at == @NOW")])
    backtested = said("new", 15, NOW - pd.Timedelta(hours=12))
    table = issue(now, backtested, sold)
    assert width(table, "hill") == pytest.approx(0.1, abs=0.005)
    # Of the old model's bands, which were too wide by far, the portfolio would be drawn in by half.
    assert width(table, "both") == pytest.approx(0.08, abs=0.01)


def test_what_a_later_issue_is_made_of_moves_no_earlier_one(sold: Fleet) -> None:
    """A model that is promoted between two issues of one run."""
    earlier = NOW - pd.Timedelta(hours=12)
    old, backtested = said("old", 15, earlier), said("new", 15, earlier).assign(q100_kw=1.0)
    both = Clock.model_validate({"as_of": CLOCK.as_of, "issue_from": earlier - pd.Timedelta(hours=1)})
    alone = Clock.model_validate({"as_of": earlier})
    now = pd.concat([old, said("new", 1, NOW).query("issued_at == @NOW")])
    together, _, _ = calibrate_forecasts(now, backtested, NOTHING, came(0.1), NO_SUMS, NO_FAILURES, sold, both, RULES)
    apart, _, _ = calibrate_forecasts(old, backtested, NOTHING, came(0.1), NO_SUMS, NO_FAILURES, sold, alone, RULES)
    assert set(together["issued_at"]) == {earlier, NOW}
    pd.testing.assert_frame_equal(together[together["issued_at"] == earlier].reset_index(drop=True), apart.reset_index(drop=True))


def test_a_portfolio_is_corrected_by_the_sums_that_earlier_runs_stored(sold: Fleet) -> None:
    only_portfolios = RULES.model_copy(update={"candidates": {}, "products": {}})
    past = said("new", 15, NOW)
    now, observed = past[past["issued_at"] == NOW], came(0.05)
    expected, sums, _ = calibrate_forecasts(past, NOTHING, NOTHING, observed, NO_SUMS, NO_FAILURES, sold, CLOCK, only_portfolios)
    PortfolioSums.validate(sums)
    assert set(sums["issued_at"]) == set(past["issued_at"])
    found, new, _ = calibrate_forecasts(now, NOTHING, NOTHING, observed, sums, NO_FAILURES, sold, CLOCK, only_portfolios)
    assert width(found, "both") < 0.7 * width(issue(now, NOTHING, sold), "both")
    pd.testing.assert_frame_equal(found, expected)
    assert set(new["issued_at"]) == {NOW}, "an issue of the run is summed again"
    # Sums of a model that is not the champion any more do not count.
    other = now.assign(model="other")
    found, _, _ = calibrate_forecasts(other, NOTHING, NOTHING, observed, sums, NO_FAILURES, sold, CLOCK, only_portfolios)
    assert width(found, "both") == width(issue(now, NOTHING, sold), "both")


def test_a_missing_farm_stops_nothing_and_is_told(sold: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = issue(said("new", 1, NOW, farms=("hill",)), NOTHING, sold)
    assert set(table.loc[table["entity_id"] == "both", "fallback"]) == {"without shore"}
    assert "fallback_used: hours/both: without shore (issue of 2024-03-31T06:00)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        table = issue(said("new", 1, NOW, farms=("shore",)), NOTHING, sold)
    assert set(table["entity_id"]) == {"shore"}
    assert "portfolio_not_issued: hours/both: not issued: too few of its farms are forecast" in caplog.text


def _not_issued(entity_id: str, severity: Any) -> pd.DataFrame:
    failure = Failure(
        "forecasting", "forecast_not_issued", f"hours/{entity_id}: not issued: no features", "", severity,
        product_id="hours", entity_id=entity_id, issued_at=NOW,
    )  # fmt: skip
    return failures_table([failure], NOW)


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_a_portfolio_that_is_not_issued_names_the_reason_of_its_farm(sold: Fleet, severity: str) -> None:
    only_shore = said("new", 1, NOW, farms=("shore",))
    _, _, failures = calibrate_forecasts(
        only_shore, NOTHING, NOTHING, came(0.1), NO_SUMS, _not_issued("hill", severity), sold, CLOCK, RULES
    )
    (failure,) = failures.to_dict("records")
    assert (failure["code"], failure["entity_id"], failure["issued_at"]) == ("portfolio_not_issued", "both", NOW)
    assert failure["severity"] == severity, "as bad as what it lacks"
    assert failure["message"] == (
        "hours/both: not issued: too few of its farms are forecast: hours/hill: not issued: no features"
    )


def test_where_no_farm_is_forecast_the_portfolio_is_a_failure_too(sold: Fleet) -> None:
    table, _, failures = calibrate_forecasts(
        NOTHING, NOTHING, NOTHING, came(0.1), NO_SUMS, _not_issued("hill", "error"), sold, CLOCK, RULES
    )
    assert table.empty
    assert failures["code"].tolist() == ["portfolio_not_issued"]


@pytest.mark.parametrize("broken", ["hill", "both"])
def test_a_calibration_that_raises_stops_no_other(sold: Fleet, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    from wind_kedro.postprocessing import calibration

    whole = calibration._corrected_series

    def breaks(rows: pd.DataFrame, *arguments: Any) -> Any:
        if rows["entity_id"].iloc[0] == broken:
            raise ZeroDivisionError("no days")
        return whole(rows, *arguments)

    days = said("new", 10, NOW)
    expected, _, none = calibrate_forecasts(days, NOTHING, NOTHING, came(0.1), NO_SUMS, NO_FAILURES, sold, CLOCK, RULES)
    assert none.empty
    monkeypatch.setattr(calibration, "_corrected_series", breaks)
    found, _, failures = calibrate_forecasts(days, NOTHING, NOTHING, came(0.1), NO_SUMS, NO_FAILURES, sold, CLOCK, RULES)
    others = found["entity_id"] != broken
    pd.testing.assert_frame_equal(found[others], expected[others], check_exact=True)
    as_given = found.loc[~others, COLUMNS].to_numpy()
    assert not np.allclose(as_given, expected.loc[~others, COLUMNS].to_numpy()), "it would have been corrected"
    if broken == "hill":
        given = days[(days["entity_id"] == broken) & (days["issued_at"] == NOW)]
        np.testing.assert_array_equal(as_given, given[COLUMNS].to_numpy())
    assert failures[["code", "entity_id", "severity", "message"]].to_numpy().tolist() == [
        ["calibration_failed", broken, "warning",
         f"hours/{broken}: issued as the models gave it, without calibration: ZeroDivisionError: no days"]
    ]  # fmt: skip


def test_a_revision_that_changes_too_little_is_left_out_and_noted(cards: dict[str, Any]) -> None:
    """At 12:00 the issue of 06:00 is revised: the hill as before, the shore by 8 % more."""
    revisions = {"every_minutes": 360, "min_change_share": 0.05}
    cards["products"][0] |= {
        "members": ["hill", "shore"],
        "issue_times": ["06:00"],
        "horizon_minutes": 1440,
        "revisions": revisions,
    }
    fleet = Fleet.from_config(**cards)
    before = said("new", 1, NOW)[lambda table: table["issued_at"] == NOW]
    noon = {"issued_at": NOW + pd.Timedelta(hours=6), "revised_issue_at": NOW, "revision": 1}
    now = as_forecasts(before.assign(**noon, lead_minutes=0, valid_at=before["valid_at"] + pd.Timedelta(hours=4)))
    now.loc[now["entity_id"] == "shore", ["q500_kw", "point_kw"]] = 580.0
    sent = before.assign(valid_at=now["valid_at"])
    table, _, failures = calibrate_forecasts(now, NOTHING, sent, came(0.1), NO_SUMS, NO_FAILURES, fleet, CLOCK, RULES)
    assert set(table["entity_id"]) == {"shore"}
    assert failures[["entity_id", "code", "severity"]].to_numpy().tolist() == [["hill", "revision_not_sent", "info"]]
