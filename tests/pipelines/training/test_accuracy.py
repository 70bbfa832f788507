"""Cross-validated, backtested and operated: on a made farm whose level moves, so that knowing the future is worth something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.contracts.features import ModelInput
from wind_kedro.contracts.training import Accuracy, BacktestFolds
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.models.registry import ModelConfig
from wind_kedro.pipelines.training.accuracy import compare_accuracy
from wind_kedro.pipelines.training.settings import Backtest, Training

from .backtesting import backtest

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
INLINE = Workers(backend="threading", jobs=1)
CLOCK = Clock.model_validate({"as_of": "2024-03-31T18:00"})
TRAINING_TIME = pd.Timestamp("2024-03-31 06:10", tz="UTC")


def _training(blocks: int = 3) -> Training:
    return Training(
        seed=1,
        backtest=Backtest(
            days=20, refit_every_days=10, folds_from="2024-03-11", min_train_days=5, cross_validation_blocks=blocks
        ),
        fallbacks=["seasons"],
        candidates={
            "seasons": ModelConfig(type="climatology", params={"min_rows": 1}),
            "of_all": ModelConfig(type="climatology", params={"min_rows": 1}, scope="fleet"),
        },
    )


def _tables(make_features: MakeTable, observe: MakeTable) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Features (one issue of the 25th without weather), model input and observations: power rises from day to day."""
    issues = pd.date_range("2024-03-01 06:00", "2024-03-30 06:00", freq="D", tz="UTC")
    rows = [{"issued_at": at, "valid_at": at + pd.Timedelta(hours=lead)} for at in issues for lead in (1, 2)]
    features = make_features(rows)
    share = (features["issued_at"].dt.day / 40).to_numpy()
    observed = observe([{"valid_at": at, "share": value} for at, value in zip(features["valid_at"], share, strict=True)])
    lost = features["issued_at"].dt.day == 25
    features.loc[lost, "wind_speed_100m_ms"] = np.nan
    table = features[~lost].assign(
        power_share=share[~lost],
        available_capacity_kw=3000.0,
        target_available_at=features["valid_at"] + pd.Timedelta(minutes=70),
    )
    return features, ModelInput.validate(table.reset_index(drop=True)), observed


def _compare(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable, training: Training, model: str = "seasons"
) -> pd.DataFrame:
    features, table, observed = _tables(make_features, observe)
    admissions = pd.DataFrame([{"product_id": "hours", "entity_id": "hill", "model": model, "admitted": True}])
    forecasts, folds, _ = backtest(table, admissions, fleet, CLOCK, training, INLINE)
    choices = pd.DataFrame([{"product_id": "hours", "entity_id": "hill", "model": model}])
    found, _ = compare_accuracy(
        table, features, forecasts, BacktestFolds.validate(folds), choices, observed, fleet, CLOCK, training,
        Scoring(lead_edges_minutes=[0, 240]), INLINE,
    )  # fmt: skip
    return Accuracy.validate(found)


def test_who_knows_the_future_promises_too_much(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
    (row,) = _compare(fleet, make_features, observe, _training()).to_dict("records")
    assert (row["product_id"], row["entity_id"], row["model"]) == ("hours", "hill", "seasons")
    assert row["cross_validated"] < row["backtested"]
    assert row["gap_share"] == pytest.approx(row["operational"] / row["cross_validated"] - 1)
    assert row["gap_share"] > 0.2
    # The issue without weather was forecast by the fallback: two of the intervals.
    assert row["fallback_share"] == pytest.approx(2 / row["intervals"])
    assert row["operational"] != row["backtested"]


def test_what_is_learnt_over_all_farms_leaves_the_same_days_out(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable
) -> None:
    (alone,) = _compare(fleet, make_features, observe, _training()).to_dict("records")
    (of_all,) = _compare(fleet, make_features, observe, _training(), "of_all").to_dict("records")
    # Only one farm has rows: a model of all farms is its own once more, and has to know as little.
    scores = ["cross_validated", "backtested", "operational"]
    assert [of_all[name] for name in scores] == pytest.approx([alone[name] for name in scores])


def test_it_may_be_left_out(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
    assert _compare(fleet, make_features, observe, _training(blocks=0)).empty
