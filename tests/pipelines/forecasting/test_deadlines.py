"""What is issued at a deadline, from what is stored, and what is kept of it when the issue is made later.

The hill's product is issued at 06:00 and 08:00, each for three hours from the next one on; gates close an hour before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.contracts.operation import Failures, IssuesMade
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.tables import Shares, forecasts_of
from wind_kedro.pipelines.forecasting.deadlines import select_model_issues, send_forecasts
from wind_kedro.pipelines.forecasting.due import DueClock, find_due_issues
from wind_kedro.pipelines.forecasting.settings import FeatureGroups, Forecasting
from wind_kedro.postprocessing.settings import Calibration, Portfolios

CALIBRATION = Calibration(
    days=30, min_days=10, settle_days=0, portfolios=Portfolios(error_correlation=0.2, min_capacity_share=0.5)
)
AT_DEADLINE = Forecasting.model_validate({"at_deadline": ["hours"], "made_at": "2024-03-02T08:30Z"})
NO_FORECASTS = Forecasts.table([])
NO_FAILURES = Failures.table([])


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2024-03-{text}", tz="UTC").as_unit("us")


def clock_of(*issues: pd.Timestamp) -> DueClock:
    times = [issue.to_pydatetime() for issue in issues]
    return DueClock.model_validate({"as_of": "2024-03-02T08:00", "due": {"hours": times, "quarters": []}})


@pytest.fixture
def sold(cards: dict[str, Any]) -> Fleet:
    cards["products"][0] |= {"issue_times": ["06:00", "08:00"], "members": ["hill"]}
    return Fleet.from_config(**cards)


def forecast(fleet: Fleet, issue: pd.Timestamp, hours: list[str], share: float) -> pd.DataFrame:
    """Forecasts of the hill by the champion."""
    valid_at = pd.DatetimeIndex([at(hour) for hour in hours])
    rows = pd.DataFrame({"product_id": "hours", "entity_id": "hill", "issued_at": issue, "valid_at": valid_at})
    lead = ((rows["valid_at"] - issue).dt.total_seconds() // 60).astype(int)
    rows = rows.assign(lead_minutes=lead, weather_run_at=issue)
    shares = np.full((len(rows), 3), share)
    return Forecasts.validate(forecasts_of([Shares(rows, shares, "curve", "1")], fleet.product("hours"), fleet))


class Versions:
    """A registry whose only version has a climatology as fallback, or none."""

    def __init__(self, fallback: bool) -> None:
        model: Any = Climatology([0.1, 0.5, 0.9]).fit(pd.DataFrame({"hour_of_day": [10.0, 11.0]}), pd.Series([0.7, 0.7]))
        fallbacks = {("hours", "hill", "usual"): Member("usual", model)} if fallback else {}
        self._made = FleetModel(at("01 00:00"), {}, fallbacks=fallbacks)

    def version(self, _: str) -> FleetModel:
        return self._made


def promoted(entity_id: str = "hill") -> pd.DataFrame:
    row = {"promotion": 1, "product_id": "hours", "entity_id": entity_id, "model": "curve", "model_version": "1"}
    return pd.DataFrame([row | {"promoted_at": at("01 00:00"), "available_at": at("01 00:00")}])


def send(fleet: Fleet, clock: Clock, forecasting: Forecasting, **given: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    tables = {
        "calibrated": NO_FORECASTS, "at_deadlines": NO_FORECASTS, "failures": NO_FAILURES, "before": NO_FORECASTS,
        "features": None, "observations": None, "versions": Versions(fallback=False), "promotions": promoted(),
    } | given  # fmt: skip
    found = send_forecasts(*tables.values(), fleet, clock, CALIBRATION, forecasting)  # type: ignore[arg-type]
    return Forecasts.validate(found[0]), Forecasts.validate(found[1]), Failures.validate(found[2])


@pytest.fixture
def stored(sold: Fleet, make_features: Any, observe: Any) -> dict[str, Any]:
    """A forecast of 06:00, which covers one hour of the issue of 08:00, features of one more, and observations."""
    features = [{"issued_at": at("02 08:00"), "valid_at": at("02 10:00")}]
    observed = [{"valid_at": at(f"01 {hour}:00"), "share": 0.4} for hour in (9, 10, 11)]
    return {
        "before": forecast(sold, at("02 06:00"), ["02 07:00", "02 08:00", "02 09:00"], 0.5),
        "features": make_features(features),
        "observations": observe(observed),
    }


def shown(table: pd.DataFrame) -> list[tuple[str, str, str, float]]:
    rows = table.sort_values("valid_at")
    return [(f"{row.valid_at:%H}", str(row.rung), str(row.fallback), round(row.q500_kw / 3000, 3)) for row in rows.itertuples()]


@pytest.mark.parametrize(
    ("fallback", "tenth"),
    [(True, ("10", "fallback", "usual", 0.7)), (False, ("10", "climatology", "observed_climatology", 0.4))],
)
def test_at_a_deadline_each_interval_is_issued_by_the_next_rung(
    sold: Fleet, stored: dict[str, Any], fallback: bool, tenth: Any
) -> None:
    issued, kept, failures = send(sold, clock_of(at("02 08:00")), AT_DEADLINE, versions=Versions(fallback), **stored)
    assert shown(issued) == [
        ("09", "older_forecast", "older_forecast", 0.5),
        tenth,
        ("11", "climatology", "observed_climatology", 0.4),
    ]
    assert issued["lead_minutes"].tolist() == [60, 120, 180]
    assert (issued["issued_at"] == at("02 08:00")).all()
    pd.testing.assert_frame_equal(issued, kept)
    (failure,) = failures.to_dict("records")
    assert (failure["code"], failure["severity"], failure["issued_at"]) == ("deadline_fallback", "warning", at("02 08:00"))
    assert failure["message"].startswith("hours: not made by its deadline: issued from what is stored (older_forecast for 1, ")


def test_an_entity_of_which_nothing_is_stored_is_named_and_one_without_a_champion_is_not_issued(
    sold: Fleet, stored: dict[str, Any]
) -> None:
    nothing = stored | {"before": NO_FORECASTS, "features": stored["features"].iloc[:0]}
    nothing["observations"] = nothing["observations"].iloc[:0]
    issued, _, failures = send(sold, clock_of(at("02 08:00")), AT_DEADLINE, **nothing)
    assert issued.empty
    assert set(failures["code"]) == {"deadline_fallback", "forecast_not_issued"}
    issued, _, failures = send(sold, clock_of(at("02 08:00")), AT_DEADLINE, **stored | {"promotions": promoted("shore")})
    assert issued.empty
    assert set(failures["code"]) == {"deadline_fallback"}


@pytest.mark.parametrize(
    ("made_at", "shares"),
    [("08:00", [0.9, 0.9, 0.9]), ("08:30", [0.5, 0.9, 0.9]), ("09:30", [0.5, 0.4, 0.9]), ("12:00", [0.5, 0.4, 0.4])],
)
def test_the_issue_replaces_what_was_sent_at_the_deadline_where_gates_are_open(
    sold: Fleet, stored: dict[str, Any], made_at: str, shares: list[float]
) -> None:
    clock = clock_of(at("02 08:00"))
    _, sent, failures = send(sold, clock, AT_DEADLINE, **stored)
    given = {"calibrated": forecast(sold, at("02 08:00"), ["02 09:00", "02 10:00", "02 11:00"], 0.9)}
    later = Forecasting.model_validate({"made_at": f"2024-03-02T{made_at}Z"})
    issued, kept, noted = send(sold, clock, later, at_deadlines=sent, failures=failures, **given)
    assert [share for *_, share in shown(issued)] == shares
    assert kept.empty
    late = noted[noted["code"] == "forecast_late"]
    assert len(late) == (made_at != "08:00")
    if made_at == "09:30":
        assert "after the gates of 2 of 3 intervals had closed" in late["message"].iloc[0]
    # The missed deadline is a failure until the next issue, also when a run makes nothing.
    assert noted[noted["code"] == "deadline_fallback"].shape == failures.shape
    again = send(sold, clock_of(), later, failures=noted)[2]
    pd.testing.assert_frame_equal(again, noted)
    tomorrow = clock_of().model_copy(update={"as_of": at("03 06:00").to_pydatetime()})
    assert send(sold, tomorrow, later, failures=noted)[2].empty


@pytest.mark.parametrize(
    ("made_at", "is_stored", "due"),
    [("08:30", False, True), ("08:30", True, False), ("10:00", False, False), ("09:59", False, True)],
)
def test_at_a_deadline_the_newest_issue_is_due_that_is_not_stored_and_has_an_open_gate(
    sold: Fleet, make_features: Any, made_at: str, is_stored: bool, due: bool
) -> None:
    issue = at("02 08:00")
    stored = IssuesMade.table([{"product_id": "hours", "issued_at": issue, "fingerprint": "0"}] if is_stored else [])
    begun = IssuesMade.table([])
    clock = Clock.model_validate({"as_of": "2024-03-02T08:00", "issue_from": "2024-03-01T00:00"})
    settings = Forecasting.model_validate({"at_deadline": ["hours"], "made_at": f"2024-03-02T{made_at}Z"})
    features = make_features([{"issued_at": issue, "valid_at": issue + pd.Timedelta(hours=1)}])
    groups = FeatureGroups(groups={})
    table, found = find_due_issues(features, promoted(), stored, begun, begun, sold, clock, CALIBRATION, groups, settings)
    assert table.empty
    assert found.issues(sold.calendar("hours")) == ([issue.to_pydatetime()] if due else [])
    assert select_model_issues(found, sold, settings).issues(sold.calendar("hours")) == []
    assert select_model_issues(found, sold, Forecasting()) is found
