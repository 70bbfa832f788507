"""Groups made of their farms: what adds up, what offsets, and what is said when a farm is missing. Hill has 3 MW, shore 1 MW."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Portfolios

COLUMNS = ["q100_kw", "q500_kw", "q900_kw"]


@pytest.fixture
def sold(cards: dict[str, Any]) -> Fleet:
    """The small fleet, where the product `hours` is of both farms and their group."""
    cards["products"][0]["members"] = ["hill", "shore", "both"]
    return Fleet.from_config(**cards)


def rows(*forecasts: tuple[str, list[float]], issued: str = "2024-03-01 06:00", **columns: Any) -> pd.DataFrame:
    """One interval's forecasts: farm and quantiles in kW."""
    issued_at = pd.Timestamp(issued, tz="UTC")
    table = pd.DataFrame(
        {
            "product_id": "hours",
            "entity_id": farm_id,
            "model": "m",
            "model_version": "3",
            "issued_at": issued_at,
            "valid_at": issued_at + pd.Timedelta(hours=1),
            "lead_minutes": 60,
            "capacity_kw": {"hill": 3000.0, "shore": 1000.0, "both": 4000.0}[farm_id],
            "weather_run_at": issued_at,
            "fallback": "",
            "weather": "forecast weather",
            **dict(zip(COLUMNS, quantiles, strict=True)),
        }
        | columns
        for farm_id, quantiles in forecasts
    )
    return as_forecasts(table)


FARMS = (("hill", [900.0, 1500.0, 2100.0]), ("shore", [200.0, 500.0, 950.0]))


def rules(correlation: float = 0.0, least: float = 0.5) -> Portfolios:
    return Portfolios(error_correlation=correlation, min_capacity_share=least)


def of_group(table: pd.DataFrame) -> pd.DataFrame:
    return Forecasts.validate(table)[lambda found: found["entity_id"] == "both"]


@pytest.mark.parametrize(
    ("correlation", "quantiles"),
    [
        pytest.param(1.0, [1100, 2000, 3050], id="errors that are the same everywhere: quantiles add up"),
        pytest.param(0.0, [2000 - np.hypot(600, 300), 2000, 2000 + np.hypot(600, 450)], id="independent: by Pythagoras"),
        pytest.param(0.5, [1206.3, 2000, 2912.4], id="between the two"),
    ],
)
def test_medians_add_up_and_errors_offset_each_other(sold: Fleet, correlation: float, quantiles: list[float]) -> None:
    group = of_group(add_portfolios(rows(*FARMS), sold, rules(correlation)))
    np.testing.assert_allclose(group[COLUMNS].to_numpy()[0], quantiles, atol=0.1)
    assert group["capacity_kw"].to_list() == [4000]
    assert group[["model", "model_version", "fallback"]].to_numpy().tolist() == [["portfolio", "3", ""]]


def test_farms_rows_stay_as_they_are(sold: Fleet) -> None:
    given = rows(*FARMS)
    pd.testing.assert_frame_equal(add_portfolios(given, sold, rules()).iloc[: len(given)], given)


def test_a_backtest_has_a_portfolio_of_each_candidate(sold: Fleet) -> None:
    given = pd.concat([rows(*FARMS, model="one"), rows(*FARMS[:1], ("shore", [0.0, 100.0, 300.0]), model="two")])
    group = of_group(add_portfolios(given, sold, rules(1.0), by_model=True))
    assert dict(zip(group["model"], group["q500_kw"], strict=True)) == {"one": 2000, "two": 1600}


def test_a_missing_farm_is_scaled_for_and_named(sold: Fleet) -> None:
    group = of_group(add_portfolios(rows(FARMS[0]), sold, rules()))
    np.testing.assert_allclose(group[COLUMNS].to_numpy()[0], np.array([900, 1500, 2100]) * 4 / 3)
    assert group["fallback"].to_list() == ["without shore"]


def test_each_issue_says_what_it_lacks(sold: Fleet) -> None:
    later = rows(FARMS[0], issued="2024-03-01 18:00", fallback="climatology")
    group = of_group(add_portfolios(pd.concat([later, rows(*FARMS)]), sold, rules()))
    assert group["fallback"].to_list() == ["", "without shore; hill: climatology"]


def test_the_rung_of_a_group_is_the_last_of_its_farms(sold: Fleet) -> None:
    shore = rows(FARMS[1], rung="climatology", fallback="observed_climatology")
    group = of_group(add_portfolios(pd.concat([shore, rows(FARMS[0], rung="fallback", fallback="persistence")]), sold, rules()))
    assert group["rung"].tolist() == ["climatology"]
    assert (group["point_kw"] == group["q500_kw"]).all()


def test_of_too_few_farms_there_is_no_portfolio(sold: Fleet) -> None:
    assert of_group(add_portfolios(rows(FARMS[1]), sold, rules(least=0.5))).empty
    assert len(of_group(add_portfolios(rows(FARMS[1]), sold, rules(least=0.25)))) == 1


def test_versions_and_labels_of_all_farms_show(sold: Fleet) -> None:
    given = pd.concat([rows(FARMS[0]), rows(FARMS[1], model="other", model_version="5", weather="perfect weather")])
    group = of_group(add_portfolios(given, sold, rules()))
    assert group[["model", "model_version", "weather"]].to_numpy().tolist() == [["portfolio", "3+5", "perfect weather"]]


def test_quantiles_stay_between_nothing_and_capacity(sold: Fleet) -> None:
    group = of_group(add_portfolios(rows(("hill", [0.0, 100.0, 3000.0]), ("shore", [0.0, 900.0, 1000.0])), sold, rules(1.0)))
    assert group[COLUMNS].to_numpy().min() >= 0
    assert group[COLUMNS].to_numpy().max() <= 4000


def test_a_group_whose_farms_are_not_all_members_is_left_to_a_model(fleet: Fleet, sold: Fleet) -> None:
    hours = fleet.product("hours")
    assert fleet.portfolios_of(hours) == []
    assert fleet.modelled(hours) == ["hill", "both"]
    assert sold.modelled(sold.product("hours")) == ["hill", "shore"]
    assert [group.id for group in sold.portfolios_of(sold.product("hours"))] == ["both"]
    given = rows(FARMS[0], ("both", [1.0, 2.0, 3.0]))
    assert add_portfolios(given, fleet, rules()) is given
