"""Which entities a training trains, and which candidates it tries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.models.registry import ModelConfig
from wind_kedro.pipelines.training.backtest import KEY, backtest_candidates
from wind_kedro.pipelines.training.promotion import fit_fleet
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.pipelines.training.turns import has_turn, take_turns

from .backtesting import Backtests
from .test_training import (
    BOTH,
    CLOCK,
    INLINE,
    TRAINING_TIME,
    Registry,
    _choices,
    _fit,
    _promotions,
    _stored,
    _training,
    make_model_input,
    overrides,
)

FARMS = [("hours", f"farm_{number}") for number in range(60)]
DAY = pd.Timedelta(days=1)


def _admitted(*names: str, entities: tuple[tuple[str, str], ...] = BOTH) -> pd.DataFrame:
    rows = [{"product_id": product, "entity_id": entity, "model": name} for product, entity in entities for name in names]
    return pd.DataFrame(rows).assign(admitted=True)


def _with(training: Training, **settings: Any) -> Training:
    return Training.model_validate(training.model_dump() | settings)


@pytest.mark.parametrize("every_days", [1, 7, 56])
def test_each_farm_has_one_turn_in_the_period(every_days: int) -> None:
    days = [TRAINING_TIME + number * DAY for number in range(every_days)]
    turns = {key: sum(has_turn(key, every_days, day - DAY, day) for day in days) for key in FARMS}
    assert set(turns.values()) == {1}
    on_first = sum(has_turn(key, every_days, days[0] - DAY, days[0]) for key in FARMS)
    assert (on_first == len(FARMS)) == (every_days == 1)


def test_a_training_makes_up_for_the_days_since_the_last() -> None:
    assert all(has_turn(key, 7, TRAINING_TIME - 7 * DAY, TRAINING_TIME) for key in FARMS)
    assert not all(has_turn(key, 7, TRAINING_TIME - 3 * DAY, TRAINING_TIME) for key in FARMS)
    # The same day again has the same turns.
    again = TRAINING_TIME + pd.Timedelta(hours=2)
    assert [has_turn(key, 7, TRAINING_TIME - DAY, TRAINING_TIME) for key in FARMS] == [
        has_turn(key, 7, TRAINING_TIME, again) for key in FARMS
    ]


def test_a_try_falls_on_the_day_of_the_farm() -> None:
    for number in range(56):
        day = TRAINING_TIME + number * DAY
        assert all(has_turn(key, 7, day - DAY, day) for key in FARMS if has_turn(key, 56, day - DAY, day))


def test_a_try_on_other_days_is_refused() -> None:
    candidates = {"first": ModelConfig(type="climatology", try_every_days=10)}
    with pytest.raises(ValidationError, match=r"first\.try_every_days: 10 is no multiple of refit_every_days, 7"):
        _with(_training(), refit_every_days=7, candidates=candidates)


Before = tuple[Any, pd.DataFrame]


@pytest.fixture
def before(fleet: Fleet, tmp_path: Path) -> Before:
    """A version in force of both farms, with its promotion of the day before."""
    model = _stored(_fit(make_model_input(BOTH), _choices(hill="first", both="first"), fleet, _training()), tmp_path)
    rows = [("hours", entity_id, "first", "1", str(TRAINING_TIME - DAY)) for _, entity_id in BOTH]
    return Registry(model), _promotions(*rows).assign(action="train")


#: With a period in which neither farm has its day at the training time.
EVERY_DAYS = next(
    days for days in range(7, 100) if not any(has_turn(key, days, TRAINING_TIME - DAY, TRAINING_TIME) for key in BOTH)
)


def _turns(fleet: Fleet, before: Before, training: Training, *people: dict[str, Any], names: tuple[str, ...] = ("first",)) -> Any:
    registry, promotions = before
    admissions = _admitted(*names)
    return take_turns(admissions, promotions, registry, overrides(*people), fleet, CLOCK, training)


def test_without_a_period_all_are_trained(fleet: Fleet, before: Before) -> None:
    assert list(_turns(fleet, before, _training())["entity_id"]) == ["hill", "both"]


def test_a_new_farm_is_trained_at_once_and_the_others_wait(fleet: Fleet, before: Before) -> None:
    training = _with(_training(), refit_every_days=EVERY_DAYS)
    assert _turns(fleet, before, training).empty
    registry, promotions = before
    new = (registry, promotions[promotions["entity_id"] == "both"])
    assert list(_turns(fleet, new, training)["entity_id"]) == ["hill"]


def test_changed_settings_and_what_people_decide_are_trained_at_once(fleet: Fleet, before: Before) -> None:
    training = _with(_training(), refit_every_days=EVERY_DAYS)
    changed = _with(training, candidates={"first": ModelConfig(type="climatology", params={"min_rows": 3})})
    assert list(_turns(fleet, before, changed)["entity_id"]) == ["hill", "both"]
    decided = {"kind": "leave_out", "entity_id": "hill", "begin": "2024-03-05", "end": "2024-03-06"}
    told = [decided | {"effective_at": str(at)} for at in (TRAINING_TIME - pd.Timedelta(hours=1), TRAINING_TIME - 2 * DAY)]
    assert list(_turns(fleet, before, training, told[0])["entity_id"]) == ["hill"]
    assert _turns(fleet, before, training, told[1]).empty  # the last training knew of it


def test_a_candidate_is_tried_on_its_day_unless_it_is_the_champion_or_the_only_one(fleet: Fleet, before: Before) -> None:
    own = ModelConfig(type="climatology", try_every_days=EVERY_DAYS)
    training = _training(first="climatology", own="climatology")

    def tried(names: tuple[str, ...], **candidates: ModelConfig) -> list[tuple[str, str]]:
        given = _with(training, candidates=training.candidates | candidates)
        found = _turns(fleet, before, given, names=names)
        return list(found[["entity_id", "model"]].itertuples(index=False, name=None))

    both = ("first", "own")
    assert tried(both, own=own) == [("hill", "first"), ("both", "first")]
    assert tried(both, own=own.model_copy(update={"try_every_days": 1})) == [
        (entity, name) for _, entity in BOTH for name in both
    ]
    assert tried(both, first=own) == [(entity, name) for _, entity in BOTH for name in both]  # the champion
    assert tried(("own",), own=own) == [("hill", "own"), ("both", "own")]


def test_who_waits_keeps_folds_and_models(fleet: Fleet, tmp_path: Path) -> None:
    table, admissions = make_model_input(BOTH), _admitted("first")
    backtests = Backtests(tmp_path / "folds")
    earlier = Clock.model_validate({"as_of": "2024-03-31T18:00", "train_as_of": TRAINING_TIME - DAY})
    training = _training()
    backtests.run(table[table["target_available_at"] <= TRAINING_TIME - DAY], admissions, fleet, earlier, training, INLINE)
    stood = backtests.table.load().days
    turns = admissions.loc[admissions["entity_id"] == "hill", KEY]
    given = (table, admissions, fleet, CLOCK, training, INLINE, turns, backtests.table.load())
    now = backtests.stored(backtest_candidates(*given)).days
    assert {entity_id for _, entity_id, *_ in backtests.computed} == {"hill"}
    waiting = [days[days["entity_id"] == "both"].reset_index(drop=True) for days in (stood, now)]
    pd.testing.assert_frame_equal(*waiting)
    nobody = turns.iloc[:0]
    after = backtests.stored(backtest_candidates(*given[:6], nobody, backtests.table.load())).days
    assert backtests.computed == set()
    pd.testing.assert_frame_equal(after, now)


def test_a_training_in_which_nobody_has_a_turn_keeps_all_models(fleet: Fleet, before: Before) -> None:
    registry, promotions = before
    nobody = _choices(hill="first").iloc[:0]
    made, failures = fit_fleet(make_model_input(BOTH), nobody, promotions, registry, fleet, CLOCK, _training(), INLINE)
    assert failures.empty
    assert {key: member.object for key, member in made.members.items()} == {
        key: member.object for key, member in registry.model.members.items()
    }
