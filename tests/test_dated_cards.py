"""Cards with dates: what stands, belongs and is read at a time. The hill has 3 MW, the shore 1 MW; both are in Paris."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import CardError, Fleet
from wind_kedro.cards.dated import FAR_PAST
from wind_kedro.cards.tiers import ready_entities
from wind_kedro.contracts.observations import Readiness
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Portfolios

#: Midnight of 1 March 2027 in Paris, and the minutes beside it.
BEFORE, SINCE = np.array(["2027-02-28T22:59", "2027-02-28T23:00"], dtype="datetime64[us]")
TIMES = np.array([BEFORE, SINCE])
T = "2027-03-01"
NEW = {"id": "T3", "rated_power_kw": 2000, "hub_height_m": 110, "valid_from": T}


def _utc(time: np.datetime64) -> dt.datetime:
    return pd.Timestamp(time, tz="UTC").to_pydatetime()


def _hill(cards: dict[str, Any], turbines: dict[str, Any]) -> Fleet:
    """The fleet with fields of the hill's turbines changed, by identifier; an unknown identifier is a turbine that is added."""
    hill = cards["farms"][0]
    known = {turbine["id"]: turbine for turbine in hill["turbines"]}
    hill["turbines"] = [known.get(name, {}) | turbines.get(name, {}) for name in dict.fromkeys([*known, *turbines])]
    return Fleet.from_config(**cards)


@pytest.mark.parametrize(
    ("turbines", "capacity_kw", "standing", "hub_height_m"),
    [
        pytest.param({"T3": NEW}, [3000, 5000], ["T0", "T1", "T2", "T3"], 87.5, id="an extension"),
        pytest.param({"T2": {"valid_until": T}}, [3000, 2000], ["T0", "T1"], 80, id="a turbine is taken down"),
        pytest.param({"T2": {"valid_until": T}, "T3": NEW}, [3000, 4000], ["T0", "T1", "T3"], 90, id="a turbine is repowered"),
    ],
)
def test_turbines_and_capacity_follow_the_card(
    cards: dict[str, Any], turbines: dict[str, Any], capacity_kw: list[float], standing: list[str], hub_height_m: float
) -> None:
    fleet = _hill(cards, turbines)
    assert fleet.capacity_kw("hill", TIMES).tolist() == capacity_kw
    assert fleet.capacity_kw("both", TIMES[:, None]).tolist() == [[kw + 1000] for kw in capacity_kw]
    before, since = (fleet.at(_utc(time)).farm("hill") for time in TIMES)
    assert [turbine.id for turbine in before.turbines] == ["T0", "T1", "T2"]
    assert [turbine.id for turbine in since.turbines] == standing
    assert [before.capacity_kw, since.capacity_kw] == capacity_kw
    assert (before.hub_height_m, since.hub_height_m) == (80, hub_height_m)
    assert fleet.farm("hill").hub_heights.at(TIMES).tolist() == [80, hub_height_m]
    # What is left has no dates any more, so that it is the same at any time.
    assert fleet.at(_utc(SINCE)).at(_utc(BEFORE)) == fleet.at(_utc(SINCE))


def test_a_farm_that_is_not_built_yet_has_no_capacity_and_no_issues(cards: dict[str, Any]) -> None:
    fleet = _hill(cards, {name: {"valid_from": T} for name in ("T0", "T1", "T2")})
    assert fleet.capacity_kw("hill", TIMES).tolist() == [0, 3000]
    assert fleet.at(_utc(BEFORE)).farm("hill").turbines == []
    assert fleet.farm("hill").hub_heights.at(TIMES).tolist() == [80, 80]
    product = fleet.product("hours")
    issues = [dt.datetime(2027, 2, 27, 6, tzinfo=dt.UTC), dt.datetime(2027, 2, 28, 22, tzinfo=dt.UTC)]
    assert fleet.issues_for("hill", product, issues) == issues[1:]
    assert fleet.issues_for("shore", product, issues) == issues


def test_a_nameplate_that_is_rounded_stays_rounded(cards: dict[str, Any]) -> None:
    cards["farms"][0]["capacity_kw"] = 2990
    assert _hill(cards, {"T3": NEW}).capacity_kw("hill", TIMES).tolist() == [2990, 4990]


def test_without_dates_a_fleet_is_the_same_at_any_time(fleet: Fleet) -> None:
    assert all(farm.at(_utc(BEFORE)) is farm for farm in fleet.farms)
    assert fleet.at(_utc(BEFORE)) == fleet
    assert fleet.versions_of("both") == [(FAR_PAST, fleet.farms)]


def test_farms_of_a_group_join_and_leave(cards: dict[str, Any]) -> None:
    cards["groups"][0]["farms"] = [{"farm": "hill", "valid_until": T}, {"farm": "shore", "valid_from": T}]
    fleet = Fleet.from_config(**cards)
    assert fleet.capacity_kw("both", TIMES).tolist() == [3000, 1000]
    assert [[farm.id for farm in fleet.farms_at("both", _utc(time))] for time in TIMES] == [["hill"], ["shore"]]
    assert [fleet.at(_utc(time)).groups[0].farm_ids for time in TIMES] == [["hill"], ["shore"]]
    assert [farm.id for farm in fleet.farms_of("both")] == ["hill", "shore"]
    # The shore's weather is an analysis.
    assert fleet.perfect_weather("both", TIMES).tolist() == [False, True]


def test_an_analysis_counts_until_its_last_run_ends(cards: dict[str, Any]) -> None:
    cards["farms"][1]["weather"][0]["valid_until"] = T  # its runs are 12 hours long
    ends = SINCE + np.timedelta64(12, "h")
    at = np.array([SINCE, ends - 1, ends])
    assert Fleet.from_config(**cards).perfect_weather("shore", at).tolist() == [True, True, False]


def test_the_tier_of_a_group_is_that_of_its_farms_of_then(cards: dict[str, Any]) -> None:
    cards["groups"][0]["farms"] = ["hill", {"farm": "shore", "valid_from": T}]
    fleet = Fleet.from_config(**cards)
    rows = [
        {"farm_id": farm, "assessed_at": pd.Timestamp("2026-01-01", tz="UTC"), "tier": tier, "reason": "days"}
        for farm, tier in (("hill", "local"), ("shore", "physical"))
    ]
    readiness = pd.DataFrame(rows, columns=list(Readiness.to_schema().columns))
    assert [ready_entities(readiness, fleet, _utc(time))["both"].tier for time in TIMES] == ["local", "physical"]


@pytest.mark.parametrize("ending", [None, T], ids=["joins", "joins for a day"])
def test_a_portfolio_has_the_farms_of_the_interval(cards: dict[str, Any], ending: str | None) -> None:
    until = {} if ending is None else {"valid_until": "2027-03-02"}
    cards["groups"][0]["farms"] = ["hill", {"farm": "shore", "valid_from": T} | until]
    cards["products"][0]["members"] = ["hill", "shore", "both"]
    fleet = Fleet.from_config(**cards)
    valid_at = pd.to_datetime([BEFORE, SINCE, SINCE + np.timedelta64(24, "h")]).tz_localize("UTC").floor("h")
    rows = as_forecasts(pd.DataFrame(
        [
            {"entity_id": name, "valid_at": at, "capacity_kw": kw, "q100_kw": 0.4 * kw, "q500_kw": 0.5 * kw, "q900_kw": 0.6 * kw}
            for name, kw in (("hill", 3000.0), ("shore", 1000.0))
            for at in valid_at
        ]
    ).assign(
        product_id="hours", model="m", model_version="1", issued_at=valid_at[0], lead_minutes=60, weather_run_at=valid_at[0],
        fallback="", weather="forecast weather",
    ))  # fmt: skip
    rules = Portfolios(error_correlation=0.5, min_capacity_share=0.5)
    found = add_portfolios(rows, fleet, rules).query("entity_id == 'both'").sort_values("valid_at")
    last = 3000 if ending else 4000
    assert found["capacity_kw"].tolist() == [3000, 4000, last]
    assert found["q500_kw"].tolist() == [1500, 2000, last / 2]
    # A farm that does not belong to the group is not missing.
    assert (found["fallback"] == "").all()


def _set(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(cards: dict[str, Any]) -> None:
        place: Any = cards
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            _set(["farms", 0, "turbines", 0, "valid_from"], 20270301),
            "farms.yml: farm 'hill': turbines.0.valid_from: write a day as 2027-01-31 (given: 20270301)",
            id="a day as a number",
        ),
        pytest.param(
            _set(["farms", 0, "weather", 0, "valid_until"], "3027-03-01"),
            "farms.yml: farm 'hill': weather.0.valid_until: must lie in the years 1970 to 2200 (given: '3027-03-01')",
            id="a year out of range",
        ),
        pytest.param(
            _set(["farms", 0, "turbines", 0], {**NEW, "valid_until": T}),
            "farms.yml: farm 'hill': turbines.0: valid_until: 2027-03-01 is not after valid_from, 2027-03-01",
            id="ends before it begins",
        ),
        pytest.param(
            _set(["farms", 0, "turbines", 0, "valid_from"], T),
            "farms.yml: farm 'hill': capacity_kw: 3000 kW, but its turbines of the first day add up to 2000 kW",
            id="the capacity of a later day",
        ),
        pytest.param(
            _set(["farms", 0, "turbines", 0, "named"], "T1"),
            "farms.yml: farm 'hill': turbines: two have the same name in the data at the same time; give valid_from and "
            "valid_until",
            id="a name twice",
        ),
        pytest.param(
            _set(["groups", 0, "farms", 1], {"farm": "shore", "since": T}),
            "farms.yml: group 'both': farms.1.since: Extra inputs are not permitted",
            id="an unknown field",
        ),
        pytest.param(
            _set(["groups", 0, "farms"], ["hill", {"farm": "hill", "valid_from": T}]),
            "farms.yml: group 'both': farms: 'hill' appears twice",
            id="a farm twice",
        ),
    ],
)
def test_a_wrong_date_is_one_line(cards: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str) -> None:
    changed = copy.deepcopy(cards)
    change(changed)
    with pytest.raises(CardError) as error:
        Fleet.from_config(**changed)
    assert str(error.value) == message
