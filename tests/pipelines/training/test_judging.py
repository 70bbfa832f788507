"""What the gate is given: backtested candidates beside the champion's, and shadows beside what was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import ShadowForecasts
from wind_kedro.contracts.operation import Failures
from wind_kedro.contracts.training import BacktestFolds, Judgements, Promotions
from wind_kedro.evaluation.settings import GateRules, Scoring
from wind_kedro.models.registry import ModelConfig
from wind_kedro.models.tables import forecast_rows
from wind_kedro.pipelines.training import decisions
from wind_kedro.pipelines.training.decisions import judge_challengers
from wind_kedro.pipelines.training.settings import Backtest, Training

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
CLOCK = Clock.model_validate({"as_of": "2024-03-31T18:00"})
ISSUES = pd.date_range("2024-03-01 06:00", "2024-03-30 06:00", freq="D", tz="UTC")
RULES = GateRules(min_issues=10)
#: By how much each candidate misses, shares of capacity.
ERRORS = {"old": 0.10, "new": 0.05, "shade": 0.02}


def _training(**changes: Any) -> Training:
    candidates = {name: ModelConfig(type="climatology", shadow=name == "shade") for name in ERRORS}
    backtest = Backtest(days=30, refit_every_days=30, min_train_days=1)
    return Training(seed=1, backtest=backtest, gate=RULES, candidates=candidates, **changes)


def _world(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> dict[str, pd.DataFrame]:
    rows = [{"issued_at": at, "valid_at": at + pd.Timedelta(hours=lead)} for at in ISSUES for lead in (1, 2)]
    features = make_features(rows)
    observations = observe([{"valid_at": at, "share": 0.5} for at in features["valid_at"]])
    wobble = 1 + 0.1 * np.sin(np.arange(len(features)))
    product = fleet.product("hours")

    def forecast(name: str) -> pd.DataFrame:
        shares = np.tile((0.5 + ERRORS[name] * wobble)[:, None], (1, 3))
        return forecast_rows(features, shares, product, fleet, model=name, model_version="backtest")

    folds = pd.DataFrame(
        {"product_id": "hours", "entity_id": "hill", "model": list(ERRORS), "fold_begin": ISSUES[0],
         "fold_end": ISSUES[-1] + pd.Timedelta(days=1), "known_until": ISSUES[0],
         "trained_through": ISSUES[0] - pd.Timedelta(days=1),
         "rows": 9}
    )  # fmt: skip
    issued = pd.concat([forecast("shade").assign(role="shadow"), forecast("old").assign(role="champion", model="older")])
    return {
        "backtest_forecasts": pd.concat([forecast(name) for name in ERRORS], ignore_index=True),
        "backtest_folds": BacktestFolds.validate(folds),
        "model_input": features,
        "observations": observations,
        "shadow_forecasts_before": ShadowForecasts.validate(issued.assign(model_version="1")),
    }


def _promotions(*models: str) -> pd.DataFrame:
    time = pd.Timestamp("2024-02-20", tz="UTC")
    columns = Promotions.to_schema().columns
    required = [name for name, column in columns.items() if column.required]
    table = pd.DataFrame({"model": list(models)}, columns=required).assign(
        promotion=1, parent=0, action="train", author="", product_id="hours", entity_id="hill", model_version="1", run_id="r",
        deciding_score="pinball_share", score=0.1, champion_score=np.nan, reason="", promoted_at=time, trained_through=time,
        available_at=time, recorded_at=time, manifest_sha256="d" * 64,
    )  # fmt: skip
    return Promotions.validate(table)


def _judge(fleet: Fleet, world: dict[str, pd.DataFrame], *champions: str) -> dict[str, dict[str, Any]]:
    found, _ = judge_challengers(
        **world, promotions_before=_promotions(*champions), fleet=fleet, clock=CLOCK, training=_training(),
        scoring=Scoring(lead_edges_minutes=[0, 240]),
    )  # fmt: skip
    return {row["challenger"]: row for row in Judgements.validate(found).to_dict("records")}


def test_only_those_whose_turn_it_is_are_judged_with_their_share_of_the_significance(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(fleet, make_features, observe)
    real, used = decisions.judge, list[float]()

    def judge(issues: pd.DataFrame, champions: Any, margin: float, horizon: float, rules: GateRules = RULES, *rest: Any) -> Any:
        used.append(rules.significance)
        return real(issues, champions, margin, horizon, rules, *rest)

    monkeypatch.setattr(decisions, "judge", judge)

    def judged(*entities: str) -> pd.DataFrame:
        turns = pd.DataFrame({"product_id": "hours", "entity_id": list(entities), "model": "new"})
        given = {"promotions_before": _promotions("old"), "fleet": fleet, "clock": CLOCK, "training": _training()}
        return judge_challengers(**world, **given, scoring=Scoring(lead_edges_minutes=[0, 240]), turns=turns)[0]

    modelled = fleet.modelled(fleet.product("hours"))
    assert set(judged("hill")["challenger"]) == {"new", "shade"}
    assert set(used) == {RULES.significance / len(modelled)}
    assert judged(*(entity_id for entity_id in modelled if entity_id != "hill")).empty


def test_a_challenger_is_judged_on_its_backtest_and_a_shadow_on_what_it_issued(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable
) -> None:
    world = _world(fleet, make_features, observe)
    found = _judge(fleet, world, "old")
    assert found["new"]["code"] == "surprising"  # half the loss: somebody must look
    assert found["new"]["gain_share"] == found["new"]["gain_share"]
    assert found["shade"]["issues"] == len(ISSUES)
    assert found["shade"]["code"] == "surprising"
    few = world["shadow_forecasts_before"]
    found = _judge(fleet, world | {"shadow_forecasts_before": few[few["issued_at"] < ISSUES[5]]}, "old")
    assert (found["shade"]["code"], found["shade"]["issues"]) == ("in_shadow", 5)
    found = _judge(fleet, world | {"shadow_forecasts_before": few.iloc[:0]}, "old")
    assert (found["shade"]["code"], found["shade"]["issues"]) == ("in_shadow", 0)


def test_a_shadow_is_no_first_champion_but_goes_on_once_it_is_one(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable
) -> None:
    world = _world(fleet, make_features, observe)
    assert {name: row["code"] for name, row in _judge(fleet, world).items()} == {"shade": "in_shadow"}
    beside = _judge(fleet, world, "shade")
    assert set(beside) == {"old", "new"}
    assert {row["code"] for row in beside.values()} == {"margin"}


def test_a_fold_that_saw_too_much_is_refused_whoever_is_champion(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable
) -> None:
    world = _world(fleet, make_features, observe)
    folds = world["backtest_folds"]
    spoilt = folds.assign(known_until=folds["known_until"].mask(folds["model"] == "new", ISSUES[3]))
    assert _judge(fleet, world | {"backtest_folds": spoilt}, "old")["new"]["code"] == "leak"
    without = _judge(fleet, world | {"backtest_folds": spoilt})
    assert (without["new"]["code"], without["new"]["champion"]) == ("leak", "")


def test_an_entity_that_cannot_be_judged_is_a_row_and_the_others_are_judged(
    fleet: Fleet, make_features: MakeTable, observe: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(fleet, make_features, observe)
    names = ("backtest_forecasts", "backtest_folds", "model_input", "observations")
    two = {name: pd.concat([world[name], world[name].assign(entity_id="both")], ignore_index=True) for name in names}
    promotions = _promotions("old")
    promotions = pd.concat([promotions, promotions.assign(entity_id="both")], ignore_index=True)

    def judged() -> tuple[pd.DataFrame, pd.DataFrame]:
        return judge_challengers(
            **world | two, promotions_before=promotions, fleet=fleet, clock=CLOCK, training=_training(),
            scoring=Scoring(lead_edges_minutes=[0, 240]),
        )  # fmt: skip

    found, failures = judged()
    assert failures.empty
    assert set(found["entity_id"]) == {"hill", "both"}
    whole = decisions.by_issue

    def spoilt(intervals: pd.DataFrame) -> pd.DataFrame:
        if "both" in set(intervals["entity_id"]):
            raise RuntimeError("spoilt")
        return whole(intervals)

    monkeypatch.setattr(decisions, "by_issue", spoilt)
    found, failures = judged()
    (row,) = Failures.validate(failures).to_dict("records")
    assert (row["stage"], row["code"], row["entity_id"]) == ("gate", "challengers_not_judged", "both")
    assert row["message"] == "hours/both: its challengers are not judged: RuntimeError: spoilt"
    judged_by_issues = found[found["issues"] > 0]
    assert set(judged_by_issues["entity_id"]) == {"hill"}
    assert set(judged_by_issues["challenger"]) == {"new", "shade"}

    def all_spoilt(intervals: pd.DataFrame) -> pd.DataFrame:
        raise RuntimeError("spoilt")

    # Where nobody of a product can be judged, the other products still are: nothing is raised.
    monkeypatch.setattr(decisions, "by_issue", all_spoilt)
    found, failures = judged()
    assert sorted(failures["entity_id"]) == ["both", "hill"]
    assert found["issues"].eq(0).all()
