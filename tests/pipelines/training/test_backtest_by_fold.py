"""The backtest by fold: after several trainings it equals that of an empty environment, and only new folds are computed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.registry import ModelConfig
from wind_kedro.pipelines.training.settings import Training

from .backtesting import Backtests, backtest
from .test_training import BOTH, INLINE, OF_FLEET, TRAINING_TIME, _training, admitted, make_model_input

CANDIDATES = {"own": ModelConfig(type="climatology"), **OF_FLEET}
TRAINING = Training(**_training().model_dump(exclude={"candidates"}), candidates=CANDIDATES)
BEGINS = ("2024-03-11", "2024-03-19", "2024-03-27")


class Trainings:
    """Trainings one after another, each compared with that of an empty environment."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.stored, self.fleet = Backtests(folder), fleet

    def train(
        self, table: pd.DataFrame, training: Training = TRAINING, at: pd.Timestamp = TRAINING_TIME, fleet: Fleet | None = None
    ) -> set[tuple[str, str, str]]:
        """Train as of a time: the folds that were computed, as entity, candidate and begin."""
        fleet = fleet or self.fleet
        known = table[table["target_available_at"] <= at].reset_index(drop=True)
        clock = Clock.model_validate({"as_of": "2024-03-31T18:00", "train_as_of": at})
        admissions = admitted(fleet).drop_duplicates(["product_id", "entity_id"]).drop(columns="model")
        admissions = admissions.merge(pd.Series(list(training.candidates), name="model"), how="cross")
        given = (known, admissions, fleet, clock, training, INLINE)
        for found, expected in zip(self.stored.run(*given), backtest(*given), strict=True):
            pd.testing.assert_frame_equal(found, expected)
        return {(entity_id, name, day) for _, entity_id, name, day in self.stored.computed}


@pytest.fixture
def trainings(tmp_path: Path, fleet: Fleet) -> Trainings:
    return Trainings(tmp_path, fleet)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return make_model_input(BOTH)


def every(*begins: str, names: tuple[str, ...] = tuple(CANDIDATES), entities: tuple[str, ...] = ("hill", "both")) -> set[
    tuple[str, str, str]
]:  # fmt: skip
    return {(entity_id, name, begin) for entity_id in entities for name in names for begin in begins}


def test_a_training_with_nothing_new_computes_no_fold(trainings: Trainings, table: pd.DataFrame) -> None:
    assert trainings.train(table) == every(*BEGINS)
    assert trainings.train(table) == set()


def test_a_day_later_only_the_newest_fold_is_computed(trainings: Trainings, table: pd.DataFrame) -> None:
    for day, computed in [
        ("2024-03-25", every("2024-03-11", "2024-03-19")),  # the fold before has too little history
        ("2024-03-26", every("2024-03-19")),
        ("2024-03-28", every("2024-03-19", "2024-03-27")),  # the outcomes of the last two days of the fold before
        ("2024-03-29", every("2024-03-27")),
    ]:
        assert trainings.train(table, at=pd.Timestamp(day, tz="UTC")) == computed


def test_a_changed_candidate_computes_its_own_folds(trainings: Trainings, table: pd.DataFrame) -> None:
    trainings.train(table)
    changed = TRAINING.model_copy(
        update={"candidates": CANDIDATES | {"own": ModelConfig(type="climatology", params={"min_rows": 2})}}
    )
    assert trainings.train(table, changed) == every(*BEGINS, names=("own",))
    # Who may have it does not change what it forecasts, and a candidate less is removed.
    assert trainings.train(table, TRAINING.model_copy(update={"candidates": {"all": CANDIDATES["all"]}})) == set()
    shadow = CANDIDATES["all"].model_copy(update={"shadow": True, "tier": "physical"})
    assert trainings.train(table, TRAINING.model_copy(update={"candidates": {"all": shadow}})) == set()


def test_another_outcome_computes_the_folds_that_learn_from_it(trainings: Trainings, table: pd.DataFrame) -> None:
    trainings.train(table)
    # Of an issue of the second fold, of one farm: its own candidates learn from it in the third, those of the fleet for all.
    at = (table["issued_at"] == pd.Timestamp("2024-03-20 06:00", tz="UTC")) & (table["entity_id"] == "hill")
    revised = table.assign(power_share=table["power_share"].mask(at, 0.123))
    of_fleet = every("2024-03-27", names=tuple(OF_FLEET))
    assert trainings.train(revised) == of_fleet | {("hill", "own", "2024-03-27")}


def test_other_features_compute_the_fold_that_forecasts_with_them(trainings: Trainings, table: pd.DataFrame) -> None:
    trainings.train(table)
    at = (table["issued_at"] == pd.Timestamp("2024-03-28 06:00", tz="UTC")) & (table["entity_id"] == "hill")
    other = table.assign(wind_speed_100m_ms=table["wind_speed_100m_ms"].mask(at, 11.0))
    assert trainings.train(other) == every("2024-03-27", entities=("hill",))


def test_another_version_of_a_family_computes_its_candidates(
    trainings: Trainings, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(
        **_training().model_dump(exclude={"candidates"}), candidates=_training(own="climatology", last="persistence").candidates
    )
    trainings.train(table, training)
    monkeypatch.setattr(Climatology, "version", 2)
    assert trainings.train(table, training) == every(*BEGINS, names=("own",))


def test_a_fold_that_failed_is_computed_again_and_the_others_are_not(trainings: Trainings, table: pd.DataFrame) -> None:
    # Nothing can be learnt from a power that is missing, here of the first row of a farm, which all folds read.
    first = table.index == table.index[table["entity_id"] == "both"][0]
    spoilt = table.assign(power_share=table["power_share"].mask(first))
    own = TRAINING.model_copy(update={"candidates": {"own": CANDIDATES["own"]}})
    trainings.train(spoilt, own)
    assert trainings.train(spoilt, own) == every(*BEGINS, names=("own",), entities=("both",))
    assert trainings.train(table, own) == every(*BEGINS, names=("own",), entities=("both",))
    assert trainings.train(table, own) == set()


def test_another_capacity_computes_the_folds_of_its_time(trainings: Trainings, table: pd.DataFrame, fleet: Fleet) -> None:
    own = TRAINING.model_copy(update={"candidates": {"own": CANDIDATES["own"]}})
    trainings.train(table, own)
    farms = [farm.model_dump() for farm in fleet.farms]
    turbine = farms[0]["turbines"][0]
    farms[0]["turbines"].append(turbine | {"id": "new", "named": None, "valid_from": "2024-03-25"})
    extended = Fleet.model_validate(fleet.model_dump() | {"farms": farms})
    computed = trainings.train(table, own, fleet=extended)
    assert ("hill", "own", "2024-03-19") in computed
    assert ("hill", "own", "2024-03-27") in computed
    assert ("hill", "own", "2024-03-11") not in computed
