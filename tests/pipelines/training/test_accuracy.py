"""Cross-validated, backtested and operated: on a made farm whose level moves, so that knowing the future is worth something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.contracts.features import ModelInput
from wind_kedro.contracts.training import BacktestFolds
from wind_kedro.datasets import DerivedTable
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.models.registry import ModelConfig
from wind_kedro.pipelines.training.accuracy import compare_accuracy, note_accuracy
from wind_kedro.pipelines.training.settings import Backtest, Training

from .backtesting import Backtests

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


class Comparisons:
    """The table of accuracies in a folder, made by each run from what it then reads.

    Attributes:
        computed: whether the last run computed the accuracy of the hill.
    """

    def __init__(self, folder: Path, fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
        self.fleet = fleet
        self.features, self.model_input, self.observed = _tables(make_features, observe)
        self.backtests = Backtests(folder)
        self.table = DerivedTable(
            filepath=str(folder / "accuracy"),
            key=["product_id", "entity_id"],
            time="as_of",
            contract="wind_kedro.contracts.training.Accuracy",
        )
        self.computed = False

    def run(self, training: Training, model: str = "seasons") -> pd.DataFrame:
        """The accuracies."""
        admissions = pd.DataFrame([{"product_id": "hours", "entity_id": "hill", "model": model, "admitted": True}])
        _, folds, _ = self.backtests.run(self.model_input, admissions, self.fleet, CLOCK, training, INLINE)
        choices = pd.DataFrame([{"product_id": "hours", "entity_id": "hill", "model": model}])
        recipe = compare_accuracy(
            self.model_input, self.features, self.backtests.table.load(), BacktestFolds.validate(folds), choices, self.observed,
            self.fleet, CLOCK, training, Scoring(lead_edges_minutes=[0, 240]), INLINE,
        )  # fmt: skip
        self.computed = len(self.table.work(recipe)) > 0
        self.table.save(recipe)
        return self.table.load().frame()


@pytest.fixture
def comparisons(tmp_path: Path, fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> Comparisons:
    """Of a made farm, into an empty folder."""
    return Comparisons(tmp_path, fleet, make_features, observe)


def test_who_knows_the_future_promises_too_much(comparisons: Comparisons) -> None:
    (row,) = comparisons.run(_training()).to_dict("records")
    assert (row["product_id"], row["entity_id"], row["model"]) == ("hours", "hill", "seasons")
    assert row["cross_validated"] < row["backtested"]
    assert row["gap_share"] == pytest.approx(row["operational"] / row["cross_validated"] - 1)
    assert row["gap_share"] > 0.2
    # The issue without weather was forecast by the fallback: two of the intervals.
    assert row["fallback_share"] == pytest.approx(2 / row["intervals"])
    assert row["operational"] != row["backtested"]


def test_what_is_learnt_over_all_farms_leaves_the_same_days_out(comparisons: Comparisons) -> None:
    (alone,) = comparisons.run(_training()).to_dict("records")
    (of_all,) = comparisons.run(_training(), "of_all").to_dict("records")
    # Only one farm has rows: a model of all farms is its own once more, and has to know as little.
    scores = ["cross_validated", "backtested", "operational"]
    assert [of_all[name] for name in scores] == pytest.approx([alone[name] for name in scores])


def test_it_may_be_left_out(comparisons: Comparisons) -> None:
    assert comparisons.run(_training(blocks=0)).empty


def test_accuracy_is_computed_again_only_if_what_it_follows_from_changed(comparisons: Comparisons) -> None:
    first = comparisons.run(_training())
    assert comparisons.computed
    pd.testing.assert_frame_equal(comparisons.run(_training()), first)
    assert not comparisons.computed
    comparisons.run(_training(blocks=4))
    assert comparisons.computed
    comparisons.run(_training(), "of_all")
    assert comparisons.computed
    before = comparisons.run(_training())
    # A stand-in forecasts the issue without weather from its features.
    unreached = comparisons.features["wind_speed_100m_ms"].isna()
    comparisons.features.loc[unreached, "lead_minutes"] += 1
    comparisons.run(_training())
    assert comparisons.computed
    newest = comparisons.observed["valid_at"] == comparisons.observed["valid_at"].max()
    comparisons.observed.loc[newest, "power_kw"] += 30.0
    after = comparisons.run(_training())
    assert comparisons.computed
    assert after["backtested"].item() != before["backtested"].item()


def test_an_accuracy_that_cannot_be_computed_is_a_failure(comparisons: Comparisons, monkeypatch: pytest.MonkeyPatch) -> None:
    training = _training()
    comparisons.run(training)

    def unable(*_: Any) -> None:
        raise ValueError("out of ink")

    monkeypatch.setattr("wind_kedro.pipelines.training.accuracy._compared", unable)
    comparisons.observed["power_kw"] += 1.0
    assert comparisons.run(training).empty
    (row,) = note_accuracy(comparisons.table.load(), CLOCK).to_dict("records")
    assert (row["code"], row["entity_id"]) == ("accuracy_unknown", "hill")
    assert "out of ink" in row["message"]
    monkeypatch.undo()
    assert len(comparisons.run(training)) == 1  # computed again, though nothing else changed
    assert note_accuracy(comparisons.table.load(), CLOCK).empty
