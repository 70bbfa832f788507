"""The calibrated backtest by fold equals that of all forecasts at once, and only folds with another input are computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stored import store
from wind_kedro.cards import Fleet
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration

from .backtesting import BACKTEST, Backtests, Calibrations
from .test_training import CLOCK, INLINE, _training, admitted, make_model_input

# Ibis 12 about DuckDB 2 and pandas 3.1.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]
MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
FARMS = ("hill", "shore")
ORDER = ["product_id", "entity_id", "model", "issued_at", "valid_at"]
SPREAD = {
    "days": 5, "min_days": 2, "settle_days": 1, "candidates": {"first": "spread"}, "products": {},
    "portfolios": {"error_correlation": 0.2, "min_capacity_share": 0.5},
}  # fmt: skip


@pytest.fixture
def sold(cards: dict[str, Any]) -> Fleet:
    """The product `hours` is of both farms and their group."""
    cards["products"][0]["members"] = [*FARMS, "both"]
    return Fleet.from_config(**cards)


@pytest.fixture
def backtested(tmp_path: Path, sold: Fleet) -> pd.DataFrame:
    """Of two candidates, of which only the first is corrected."""
    table = make_model_input(tuple(("hours", farm) for farm in FARMS))
    training = _training(first="climatology", second="persistence")
    backtests = Backtests(tmp_path / "made")
    backtests.run(table, admitted(sold, "first", "second"), sold, CLOCK, training, INLINE)
    return backtests.table.load().frame()


@pytest.fixture
def outcomes(observe: MakeTable) -> pd.DataFrame:
    table = make_model_input(tuple(("hours", farm) for farm in (*FARMS, "both")))
    rows = table[["entity_id", "valid_at", "power_share"]].rename(columns={"power_share": "share"})
    return observe(rows.to_dict("records"))


def at_once(backtested: pd.DataFrame, outcomes: pd.DataFrame, sold: Fleet, rules: Calibration) -> pd.DataFrame:
    every = add_portfolios(backtested.drop(columns="fold_begin"), sold, rules.portfolios, by_model=True)
    return calibrated(every, every, outcomes, sold, rules).sort_values(ORDER, ignore_index=True)


@pytest.mark.parametrize("corrected", [True, False])
def test_folds_equal_all_forecasts_at_once(
    tmp_path: Path, sold: Fleet, backtested: pd.DataFrame, outcomes: pd.DataFrame, corrected: bool
) -> None:
    rules = Calibration.model_validate(SPREAD | ({} if corrected else {"candidates": {}}))
    stored, calibrations = store(tmp_path / "backtest", BACKTEST, backtested), Calibrations(tmp_path)
    found, failures = calibrations.run(stored, outcomes, sold, CLOCK, rules)
    pd.testing.assert_frame_equal(found, at_once(backtested, outcomes, sold, rules)[list(found)], rtol=1e-9)
    assert set(found["entity_id"]) == {*FARMS, "both"}
    assert failures.empty
    assert len(calibrations.computed) == 3 * 2 * 3  # entities, candidates, folds
    calibrations.run(stored, outcomes, sold, CLOCK, rules)
    assert calibrations.computed == set()


def test_another_forecast_computes_its_fold_its_portfolio_and_what_looks_back_on_it(
    tmp_path: Path, sold: Fleet, backtested: pd.DataFrame, outcomes: pd.DataFrame
) -> None:
    rules, calibrations = Calibration.model_validate(SPREAD), Calibrations(tmp_path)
    calibrations.run(store(tmp_path / "backtest", BACKTEST, backtested), outcomes, sold, CLOCK, rules)
    at = (backtested["issued_at"] == pd.Timestamp("2024-03-25 06:00", tz="UTC")) & (backtested["entity_id"] == "hill")
    other = backtested.assign(q500_kw=backtested["q500_kw"].mask(at, backtested["q500_kw"] + 1))
    found, _ = calibrations.run(store(tmp_path / "backtest", BACKTEST, other), outcomes, sold, CLOCK, rules)
    pd.testing.assert_frame_equal(found, at_once(other, outcomes, sold, rules)[list(found)], rtol=1e-9)
    own, next_fold = "2024-03-19", "2024-03-27"
    # Portfolios are always corrected; of the farm, only the first candidate is.
    assert calibrations.computed == {
        *(("hours", "hill", model, begin) for model, begin in (("first", own), ("first", next_fold), ("second", own))),
        *(("hours", "both", model, begin) for model in ("first", "second") for begin in (own, next_fold)),
    }


def test_another_outcome_computes_only_what_is_corrected_by_it(
    tmp_path: Path, sold: Fleet, backtested: pd.DataFrame, outcomes: pd.DataFrame
) -> None:
    rules, calibrations = Calibration.model_validate(SPREAD), Calibrations(tmp_path)
    stored = store(tmp_path / "backtest", BACKTEST, backtested)
    calibrations.run(stored, outcomes, sold, CLOCK, rules)
    at = (outcomes["valid_at"] == pd.Timestamp("2024-03-29 07:00", tz="UTC")) & (outcomes["entity_id"] == "shore")
    other = outcomes.assign(power_kw=outcomes["power_kw"].mask(at, 1.0))
    found, _ = calibrations.run(stored, other, sold, CLOCK, rules)
    pd.testing.assert_frame_equal(found, at_once(backtested, other, sold, rules)[list(found)], rtol=1e-9)
    assert calibrations.computed == {("hours", "shore", "first", "2024-03-27")}
