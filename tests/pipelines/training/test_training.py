"""Training on tables small enough to reckon by hand, with models that remember what they were shown."""

import datetime as dt
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from stored import store
from wind_kedro.cards import CardError, Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.contracts.features import ModelInput
from wind_kedro.contracts.forecasts import Forecasts, Scores
from wind_kedro.contracts.operation import Failures
from wind_kedro.contracts.training import (
    Admissions,
    BacktestFolds,
    Choices,
    Decisions,
    Judgements,
    Overrides,
    Promotions,
)
from wind_kedro.datasets.models import NoModelError
from wind_kedro.evaluation import scores as scores_module
from wind_kedro.evaluation.gate import leaks
from wind_kedro.evaluation.scores import deciding_scores
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.governance.champions import champion_models
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.ensembles.hand_over import HandOver
from wind_kedro.models.registry import ModelConfig
from wind_kedro.pipelines.training import decisions as decisions_module
from wind_kedro.pipelines.training import fitting as scopes
from wind_kedro.pipelines.training.backtest import folds_of
from wind_kedro.pipelines.training.decisions import AllHeldError, choose
from wind_kedro.pipelines.training.fitting import fit_candidates, sample_of_farms
from wind_kedro.pipelines.training.nodes import (
    NotEnoughHistoryError,
    NotReadyError,
    admit_candidates,
    assemble_model_input,
    check_learnable,
    score_backtest,
)
from wind_kedro.pipelines.training.promotion import fit_fleet, promote
from wind_kedro.pipelines.training.settings import Backtest, Training
from wind_kedro.pipelines.training.tracking import draw_decisions, summarise_training
from wind_kedro.postprocessing import calibration
from wind_kedro.postprocessing.settings import Calibration

from .backtesting import BACKTEST, Calibrations
from .backtesting import backtest as run_backtest

INLINE = Workers(backend="threading", jobs=1)
TRAIN_AT = "2024-03-31T18:00"
CLOCK = Clock.model_validate({"as_of": TRAIN_AT})  # the newest issue of `quarters`, at 06:10, is the training time
TRAINING_TIME = pd.Timestamp("2024-03-31 06:10", tz="UTC")
FOLDS_FROM = dt.date(2024, 3, 11)
MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]


def _training(days: int = 20, every: int = 8, least: int = 5, **candidates: str) -> Training:
    kinds = candidates or {"first": "climatology"}
    return Training(
        seed=7,
        backtest=Backtest(days=days, refit_every_days=every, min_train_days=least, folds_from=FOLDS_FROM),
        candidates={name: ModelConfig(type=kind) for name, kind in kinds.items()},
    )


def assessed(tiers: dict[str, str], at: str = "2024-03-31T06:10", reason: str = "as it is") -> pd.DataFrame:
    """What readiness says of farms, as far as training reads it."""
    return pd.DataFrame(
        {"farm_id": farm_id, "assessed_at": pd.Timestamp(at, tz="UTC"), "tier": tier, "reason": reason}
        for farm_id, tier in tiers.items()
    )


#: Every farm may have every model.
READY = assessed({"hill": "local", "shore": "local"})


def admitted(fleet: Fleet, *names: str, readiness: pd.DataFrame = READY, **types: str) -> pd.DataFrame:
    """Who may have which candidate; those only named are climatologies."""
    kinds = types or dict.fromkeys(names or ("first", "second"), "climatology")
    return Admissions.validate(admit_candidates(readiness, _promotions(), fleet, CLOCK, _training(**kinds)))


def make_model_input(
    entities: tuple[tuple[str, str], ...] = (("hours", "hill"),), first: str = "2024-03-01", late_hours: float = 0
) -> pd.DataFrame:
    """Two issues a day of three hours each, whose outcomes arrive 70 minutes after their interval begins (or later)."""
    tables = []
    for product_id, entity_id in entities:
        issued_at = pd.date_range(pd.Timestamp(first, tz="UTC"), TRAINING_TIME, freq="12h", unit="us") + pd.Timedelta(hours=6)
        rows = pd.DataFrame({"issued_at": issued_at}).merge(pd.DataFrame({"lead_minutes": [60, 120, 180]}), how="cross")
        rows["valid_at"] = rows["issued_at"] + pd.to_timedelta(rows["lead_minutes"], unit="min")
        rows["target_available_at"] = rows["valid_at"] + pd.Timedelta(minutes=70) + pd.Timedelta(hours=late_hours)
        tables.append(rows.assign(product_id=product_id, entity_id=entity_id))
    table = pd.concat(tables, ignore_index=True)
    table = table[table["target_available_at"] <= TRAINING_TIME].reset_index(drop=True)
    hour = table["valid_at"].dt.hour.astype(float)
    return ModelInput.validate(
        table.assign(
            weather_run_at=table["issued_at"],
            wind_speed_100m_ms=8.0,
            hour_of_day=hour,
            last_power_share=0.4,
            power_share=(np.arange(len(table)) * 0.37) % 1,
            available_capacity_kw=3000.0,
        )
    )


@dataclass
class Spy:
    """Makes models that write down what they see, and forecast a number that depends on it."""

    fits: list[dict[str, Any]] = field(default_factory=list)
    fails: Callable[[str, pd.DataFrame], bool] = lambda name, features: False

    def build(self, name: str, config: ModelConfig, levels: list[float], seed: int) -> Any:
        spy = self

        class Model:
            needs_shared: tuple[str, ...] = ()

            def fit(self, features: pd.DataFrame, power_share: pd.Series) -> Any:
                if spy.fails(name, features):
                    raise ValueError(f"'{name}' cannot")
                self.seen = float(power_share.sum())
                spy.fits.append({"name": name, "features": features, "share": power_share, "levels": levels, "seed": seed})
                return self

            def predict(self, features: pd.DataFrame) -> np.ndarray[Any, Any]:
                spy.fits[-1]["ahead"] = features
                return np.tile(np.linspace(0.1, 0.9, len(levels)), (len(features), 1)) * (1 + self.seen % 0.1)

        return Model()


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    spy = Spy()
    monkeypatch.setattr(scopes, "build", spy.build)
    return spy


# --- model input -----------------------------------------------------------------------------------------------------

ISSUE = {"issued_at": "2024-03-30 06:00", "valid_at": "2024-03-30 07:00"}


def _assembled(*given: Any) -> pd.DataFrame:
    recipe = assemble_model_input(*given, CLOCK)
    table: pd.DataFrame = recipe.work(recipe.wanted)
    return table


def _input(features: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    return ModelInput.validate(_assembled(features, observations, admitted(fleet), overrides(), fleet))


@pytest.mark.parametrize(
    ("observations", "share", "arrived"),
    [
        pytest.param([{"share": 0.4}], 0.4, "30 08:10", id="what came"),
        pytest.param(
            [{"share": 0.4}, {"share": 0.6, "available_at": "2024-03-31 06:10"}],
            0.6,
            "31 06:10",
            id="a revision that arrived just in time",
        ),
        pytest.param(
            [{"share": 0.4}, {"share": 0.6, "available_at": "2024-03-31 06:11"}],
            0.4,
            "30 08:10",
            id="not one that came a minute later",
        ),
        pytest.param(
            [{"share": 0.6, "available_at": "2024-03-31 01:00"}, {"share": 0.4}],
            0.6,
            "31 01:00",
            id="whatever the order of rows",
        ),
        pytest.param(
            [{"power_kw": 500, "available_capacity_kw": 1000, "turbines": 1}],
            0.5,
            "30 08:10",
            id="a share of what was available",
        ),
        pytest.param(
            [{"share": 0.4}, {"share": 0.9, "granularity_minutes": 15}, {"share": 0.8, "entity_id": "both"}],
            0.4,
            "30 08:10",
            id="of the same entity and granularity",
        ),
    ],
)
def test_an_outcome_is_taken_as_known_at_the_training_time(
    fleet: Fleet,
    make_features: MakeTable,
    observe: MakeTable,
    observations: list[dict[str, Any]],
    share: float,
    arrived: str,
) -> None:
    table = _input(make_features([ISSUE]), observe([{"valid_at": "2024-03-30 07:00"} | row for row in observations]), fleet)
    assert table["power_share"].tolist() == pytest.approx([share])
    assert f"{table['target_available_at'].iloc[0]:%d %H:%M}" == arrived


@pytest.mark.parametrize(
    ("features", "observations"),
    [
        pytest.param([ISSUE], [], id="no outcome"),
        pytest.param([ISSUE], [{"valid_at": "2024-03-30 07:00", "available_at": "2024-03-31 06:11"}], id="outcome too late"),
        pytest.param([ISSUE | {"wind_speed_100m_ms": None}], [{"valid_at": "2024-03-30 07:00"}], id="no weather"),
        pytest.param(
            [{"issued_at": "2024-03-31 06:11", "valid_at": "2024-03-31 07:00"}],
            [{"valid_at": "2024-03-31 07:00", "available_at": "2024-03-31 06:00"}],
            id="issued later",
        ),
    ],
)
def test_where_nothing_is_known_one_line_says_so(
    fleet: Fleet,
    make_features: MakeTable,
    observe: MakeTable,
    features: list[dict[str, Any]],
    observations: list[dict[str, Any]],
) -> None:
    with pytest.raises(NotEnoughHistoryError, match=r"^nothing to train on as of 2024-03-31 06:10 UTC: .*$"):
        check_learnable(
            _assembled(make_features(features), observe(observations), admitted(fleet), overrides(), fleet), TRAINING_TIME
        )


def test_features_keep_their_columns_and_no_helper_stays(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
    features = make_features([ISSUE])
    table = _input(features, observe([{"valid_at": "2024-03-30 07:00"}]), fleet)
    assert set(table) - set(features) == {"power_share", "available_capacity_kw", "target_available_at"}
    assert set(features) <= set(table)


# --- backtest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "every", "begins"),
    [
        pytest.param(20, 8, ["03-11", "03-19", "03-27"], id="the last is shorter"),
        pytest.param(21, 8, ["03-03", "03-11", "03-19", "03-27"], id="the first is longer"),
        pytest.param(20, 10, ["03-11", "03-21", "03-31"], id="it divides"),
        pytest.param(5, 30, ["03-11"], id="one fold"),
    ],
)
def test_folds_lie_on_a_calendar_without_gap_or_overlap(days: int, every: int, begins: list[str]) -> None:
    backtest = Backtest(days=days, refit_every_days=every, min_train_days=1, folds_from=FOLDS_FROM)
    folds = folds_of(TRAINING_TIME, backtest)
    assert [f"{begin:%m-%d}" for begin, _ in folds] == begins
    assert folds[0][0] <= TRAINING_TIME - pd.Timedelta(days=days) < folds[0][1]
    assert folds[-1][1] == TRAINING_TIME
    assert [end for _, end in folds[:-1]] == [start for start, _ in folds[1:]]
    # A day later they are the same, but for the end of the last.
    later = dict(folds_of(TRAINING_TIME + pd.Timedelta(days=1), backtest))
    assert all(later[begin] == end for begin, end in folds[1:-1])
    assert folds[-1][0] in later


@pytest.mark.parametrize(
    ("months", "folds"),
    [
        pytest.param(["2024-02"], ["2024-02-01 00:00 2024-03-01 00:00"], id="one"),
        pytest.param("2024-02 2023-12", ["2023-12-01 00:00 2024-01-01 00:00", "2024-02-01 00:00 2024-03-01 00:00"], id="words"),
        pytest.param(["2024-03"], ["2024-03-01 00:00 2024-03-31 06:10"], id="up to the training time"),
        pytest.param(["2024-05"], [], id="none that is still to come"),
    ],
)  # fmt: skip
def test_folds_may_be_months_of_the_calendar(months: Any, folds: list[str]) -> None:
    backtest = Backtest(days=20, refit_every_days=8, min_train_days=1, months=months)
    found = folds_of(TRAINING_TIME, backtest)
    assert [f"{begin:%Y-%m-%d %H:%M} {end:%Y-%m-%d %H:%M}" for begin, end in found] == folds


@pytest.mark.parametrize("month", ["2024-13", "May", "2024-5"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(ValueError, match=f"'{month}' is not a month, such as 2013-01"):
        Backtest(days=1, refit_every_days=1, min_train_days=1, months=[month])


def test_a_candidate_is_fitted_with_the_columns_that_it_gets(fleet: Fleet, spy: Spy) -> None:
    candidate = ModelConfig(type="climatology", features=["*_day", "wind_*", "!wind_speed_*"])
    _backtest(make_model_input(), fleet, _training().model_copy(update={"candidates": {"first": candidate}}))
    assert {tuple(fit["features"]) for fit in spy.fits} == {("hour_of_day",)}


def test_a_candidate_of_another_product_is_not_backtested(fleet: Fleet, spy: Spy) -> None:
    candidates = {
        "first": ModelConfig(type="climatology"),
        "second": ModelConfig(type="climatology", products=["quarters"]),
    }
    training = _training().model_copy(update={"candidates": candidates})
    table = admit_candidates(READY, _promotions(), fleet, CLOCK, training)
    assert set(table.loc[table["product_id"] == "hours", "model"]) == {"first"}
    assert set(table.loc[table["product_id"] == "quarters", "model"]) == {"first", "second"}


@pytest.mark.parametrize("products", ["quarters", ["quarters"]])
def test_of_several_products_only_some_may_be_trained(fleet: Fleet, products: Any) -> None:
    training = Training(**(_training().model_dump() | {"products": products}))
    assert set(admit_candidates(READY, _promotions(), fleet, CLOCK, training)["product_id"]) == {"quarters"}


def test_to_train_a_product_that_no_card_describes_is_refused(fleet: Fleet) -> None:
    training = Training(**(_training().model_dump() | {"products": ["minutes"]}))
    with pytest.raises(CardError, match="no product 'minutes'"):
        admit_candidates(READY, _promotions(), fleet, CLOCK, training)


def _backtest(model_input: pd.DataFrame, fleet: Fleet, training: Training) -> pd.DataFrame:
    return Forecasts.validate(run_backtest(model_input, admitted(fleet, *training.candidates), fleet, CLOCK, training, INLINE)[0])


def test_every_issue_of_the_backtest_is_forecast_once_by_every_candidate(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input()
    backtested = _backtest(table, fleet, _training(first="climatology", second="persistence"))
    expected = table[(table["issued_at"] >= pd.Timestamp(FOLDS_FROM, tz="UTC")) & (table["issued_at"] < TRAINING_TIME)]
    for name in ("first", "second"):
        issued = backtested.loc[backtested["model"] == name, ["issued_at", "valid_at"]].sort_values("valid_at")
        pd.testing.assert_frame_equal(issued.reset_index(drop=True), expected[["issued_at", "valid_at"]].reset_index(drop=True))
    assert set(backtested["model_version"]) == {"backtest"}


@pytest.mark.parametrize("late_hours", [0, 30])
def test_a_fold_sees_no_outcome_that_arrived_after_it_began(fleet: Fleet, spy: Spy, late_hours: float) -> None:
    table = make_model_input(late_hours=late_hours)
    _backtest(table, fleet, _training())
    assert len(spy.fits) == 3
    for (begun, _), fit in zip(folds_of(TRAINING_TIME, _training().backtest), spy.fits, strict=True):
        seen, ahead = table.loc[fit["features"].index], table.loc[fit["ahead"].index]
        assert begun <= ahead["issued_at"].min()
        assert seen["target_available_at"].max() <= begun
        # And all that had arrived is there, the newest outcome too.
        assert len(seen) == ((table["target_available_at"] <= begun) & (table["issued_at"] < begun)).sum()


def test_models_see_features_only(fleet: Fleet, spy: Spy) -> None:
    _backtest(make_model_input(), fleet, _training())
    assert {tuple(fit[what]) for fit in spy.fits for what in ("features", "ahead")} == {
        ("lead_minutes", "wind_speed_100m_ms", "hour_of_day", "last_power_share")
    }
    assert {(tuple(fit["levels"]), fit["seed"]) for fit in spy.fits} == {((0.1, 0.5, 0.9), 7)}


FOLD = pd.Timestamp("2024-03-19", tz="UTC")  # the second of three


def _changed_after(table: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    later = table["target_available_at"] > moment
    return table.assign(power_share=table["power_share"].mask(later, table["power_share"] ** 2))


@pytest.mark.parametrize("spied", [True, False], ids=["any model", "climatology"])
def test_other_outcomes_after_a_fold_began_do_not_move_its_forecasts(
    fleet: Fleet, request: pytest.FixtureRequest, spied: bool
) -> None:
    if spied:
        request.getfixturevalue("spy")
    table = make_model_input()
    before, after = (_backtest(data, fleet, _training()) for data in (table, _changed_after(table, FOLD)))
    until = FOLD + pd.Timedelta(days=8)
    pd.testing.assert_frame_equal(before[before["issued_at"] < until], after[after["issued_at"] < until])
    # It can fail: the next fold has seen them, and speaks otherwise.
    assert not before[before["issued_at"] >= until].equals(after[after["issued_at"] >= until])


def test_a_leaking_backtest_would_be_found(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input(late_hours=30)
    leaking = table.assign(target_available_at=table["valid_at"] - pd.Timedelta(days=9))
    changed = leaking.assign(power_share=_changed_after(table, FOLD)["power_share"])
    before, after = (_backtest(data, fleet, _training()) for data in (leaking, changed))
    until = FOLD + pd.Timedelta(days=8)
    assert not before[before["issued_at"] < until].equals(after[after["issued_at"] < until])


def test_a_fold_with_too_little_history_is_left_out(fleet: Fleet, spy: Spy) -> None:
    backtested = _backtest(make_model_input(first="2024-03-10"), fleet, _training(least=5))
    # The first fold begins on 11 March, a day after the first issue; the second has nine days.
    assert backtested["issued_at"].min() == pd.Timestamp("2024-03-19 06:00", tz="UTC")


def test_history_is_counted_for_each_entity(fleet: Fleet, spy: Spy) -> None:
    old, young = make_model_input(), make_model_input((("hours", "both"),), first="2024-03-28")
    backtested = _backtest(pd.concat([old, young], ignore_index=True), fleet, _training())
    assert set(backtested["entity_id"]) == {"hill"}


def test_too_little_history_says_what_is_asked_for(fleet: Fleet, spy: Spy) -> None:
    with pytest.raises(NotEnoughHistoryError) as caught:
        _backtest(make_model_input(first="2024-03-28"), fleet, _training(least=14))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("too little history to backtest candidates as of 2024-03-31 06:10 UTC: it begins 2024-03-28")
    assert "asks for 14 days" in line
    assert "choose a later as_of or fewer min_train_days" in line


def test_a_candidate_that_fails_for_one_farm_leaves_the_others(fleet: Fleet, spy: Spy, caplog: pytest.LogCaptureFixture) -> None:
    table = make_model_input((("hours", "hill"), ("hours", "both")))
    table["wind_speed_100m_ms"] = table["entity_id"].map({"hill": 8.0, "both": 9.0})
    spy.fails = lambda name, features: name == "second" and features["wind_speed_100m_ms"].iloc[0] == 9.0
    backtested = _backtest(table, fleet, _training(first="climatology", second="persistence"))
    pairs = set(backtested[["entity_id", "model"]].itertuples(index=False, name=None))
    assert pairs == {("hill", "first"), ("hill", "second"), ("both", "first")}
    # The row of `backtest_failures` names the first fold in which it failed.
    assert caplog.text.count("ValueError: 'second' cannot") == 1


def test_where_every_candidate_fails_the_reasons_are_told(fleet: Fleet, spy: Spy) -> None:
    spy.fails = lambda name, features: True
    with pytest.raises(
        NotEnoughHistoryError,
        match=r"^every candidate failed: ValueError: 'first' cannot; ValueError: 'second' cannot$",
    ):
        _backtest(make_model_input(), fleet, _training(first="climatology", second="persistence"))


def test_each_product_has_its_own_levels(fleet: Fleet) -> None:
    table = pd.concat([make_model_input(), make_model_input((("quarters", "shore"),))], ignore_index=True)
    backtested = _backtest(table, fleet, _training()).set_index("product_id")
    assert backtested.loc["hours", ["q100_kw", "q500_kw", "q900_kw"]].notna().all().all()
    assert backtested.loc["quarters", ["q250_kw", "q500_kw", "q750_kw"]].notna().all().all()
    assert backtested.loc["quarters", ["q100_kw", "q900_kw"]].isna().all().all()
    assert set(backtested["capacity_kw"]) == {3000.0, 1000.0}


def test_the_backtest_is_scored_as_known_at_the_training_time(fleet: Fleet, observe: MakeTable) -> None:
    table = make_model_input()
    backtested = _backtest(table, fleet, _training())
    rows = [{"valid_at": row.valid_at, "share": row.power_share} for row in table.itertuples()]
    later = [row | {"share": 0.0, "available_at": TRAINING_TIME + pd.Timedelta(minutes=1)} for row in rows]
    scoring = Scoring(lead_edges_minutes=[0, 120, 240])
    scores = score_backtest(backtested, observe(rows), fleet, CLOCK, scoring)[0]
    Scores.validate(scores)
    pd.testing.assert_frame_equal(scores, score_backtest(backtested, observe(rows + later), fleet, CLOCK, scoring)[0])
    whole = scores[(scores["metric"] == "nmae_share") & (scores["lead_from_minutes"] == 0) & (scores["lead_to_minutes"] == 240)]
    assert whole["n"].tolist() == [len(backtested)]


# --- the choice ------------------------------------------------------------------------------------------------------


def _scores(**values: float | dict[str, float]) -> pd.DataFrame:
    """Deciding scores over the whole horizon, and a bucket that says the opposite and must not count."""
    rows = []
    for name, value in values.items():
        for entity_id, score in (value if isinstance(value, dict) else {"hill": value}).items():
            product = {
                "hill": ("hours", "pinball_share", 240),
                "both": ("hours", "pinball_share", 240),
                "shore": ("quarters", "nmae_share", 90),
            }
            product_id, metric, horizon = product[entity_id]
            row = {
                "product_id": product_id,
                "entity_id": entity_id,
                "model": name,
                "period": "all",
                "lead_from_minutes": 0,
            }
            row |= {
                "lead_to_minutes": horizon,
                "metric": metric,
                "level": np.nan,
                "value": score,
                "n": 9,
                "weather": FORECAST_WEATHER,
            }
            opposite = {"value": 1 - score}
            rows += [
                row,
                row | opposite | {"lead_to_minutes": 60},
                row | opposite | {"metric": "nmae_share" if metric != "nmae_share" else "pinball_share"},
            ]
            rows += [row | opposite | {"level": 0.5}, row | opposite | {"period": "2024-03"}]
    return Scores.validate(pd.DataFrame(rows))


def _promotions(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    """Rows of product, entity, model, version and time."""
    table = pd.DataFrame(rows, columns=["product_id", "entity_id", "model", "model_version", "promoted_at"])
    time = pd.to_datetime(table["promoted_at"], utc=True, format="ISO8601")
    table = table.assign(promoted_at=time, trained_through=time, available_at=time, recorded_at=time, manifest_sha256="d" * 64)
    table = table.assign(promotion=range(1, len(table) + 1), parent=range(len(table)), action="train", author="")
    return Promotions.validate(
        table.assign(run_id="r", deciding_score="pinball_share", score=0.1, champion_score=np.nan, reason="")
    )


def _judged(scores: pd.DataFrame, promotions: pd.DataFrame, fleet: Fleet, codes: dict[str, str]) -> pd.DataFrame:
    """What the gate would find if chance were no matter: ``better`` from the margin on, or the code given for a challenger."""
    champions = champion_models(promotions, TRAINING_TIME)
    rows = []
    for product in fleet.products:
        for entity_id, own in deciding_scores(scores, product).groupby("entity_id"):
            values = own.set_index("model")["value"].dropna()
            champion = champions.get((product.id, entity_id))
            for challenger, value in values.items() if champion in values.index else ():
                gain = 1 - value / values[champion] if values[champion] else 0.0
                code = "better" if gain >= product.promotion_margin_share - 1e-12 else "margin"
                if challenger != champion:
                    rows.append(
                        {"product_id": product.id, "entity_id": entity_id, "champion": champion, "challenger": challenger,
                         "champion_score": values[champion], "challenger_score": value, "gain_share": gain,
                         "code": codes.get(challenger, code)}
                    )  # fmt: skip
            for challenger, code in codes.items():
                if champion is None and code == "leak" and challenger in values.index:
                    rows.append(
                        {
                            "product_id": product.id,
                            "entity_id": entity_id,
                            "champion": "",
                            "challenger": challenger,
                            "code": code,
                        }
                    )
    table = pd.DataFrame(rows, columns=list(Judgements.to_schema().columns))
    numbers = table.columns[table.columns.str.endswith(("_share", "_score", "value"))]
    table = table.astype(dict.fromkeys(numbers, float))
    table = table.assign(issues=365, p_value=0.005, p_adjusted=0.01, detail="", decided_at=TRAINING_TIME)
    return Judgements.validate(table)


def overrides(*rows: dict[str, Any]) -> pd.DataFrame:
    """What people decided, from rows that say what matters."""
    table = pd.DataFrame(
        [
            {"override": number, "kind": "hold", "product_id": "", "entity_id": "hill", "model": "", "begin": pd.NaT,
             "end": pd.NaT, "author": "Ada", "reason": "because", "effective_at": "2024-03-20"} | row
            for number, row in enumerate(rows, start=1)
        ],
        columns=list(Overrides.to_schema().columns),
    )  # fmt: skip
    times = {name: pd.to_datetime(table[name], utc=True) for name in ("effective_at", "begin", "end")}
    return Overrides.validate(table.assign(**times, recorded_at=pd.Timestamp("2024-03-20", tz="UTC")))


def _decide(
    scores: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    admissions: pd.DataFrame | None = None,
    model_input: pd.DataFrame | None = None,
    people: pd.DataFrame | None = None,
    codes: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = sorted(set(scores["model"])) or ["first"]
    choices, decisions, _ = choose(
        _judged(scores, promotions, fleet, codes or {}),
        scores,
        make_model_input() if model_input is None else model_input,
        admitted(fleet, *names) if admissions is None else admissions,
        promotions,
        overrides() if people is None else people,
        fleet,
        CLOCK,
    )
    return Choices.validate(choices), Decisions.validate(decisions)


def _choose(*arguments: Any, **options: Any) -> pd.DataFrame:
    return _decide(*arguments, **options)[0]


EARLIER = ("hours", "hill", "old", "1", "2024-03-01")


@pytest.mark.parametrize(
    ("scores", "before", "model", "champion_score", "reason"),
    [
        pytest.param({"old": 0.2, "new": 0.1}, [], "new", None, "first champion: the best of the backtest", id="the first"),
        pytest.param(
            {"old": 0.2, "new": 0.1},
            [EARLIER],
            "new",
            0.2,
            "beats 'old' by 50.0% over 365 issues, margin 2.0%, chance 0.01",
            id="better by more than the margin",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.098},
            [EARLIER],
            "new",
            0.1,
            "beats 'old' by 2.0% over 365 issues, margin 2.0%",
            id="better by the margin",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.099},
            [EARLIER],
            "old",
            0.1,
            "'new' is better by 1.0%, but its gain is below the product's margin: the champion's model stays",
            id="better by less",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.2},
            [EARLIER],
            "old",
            0.1,
            "the champion's model is still the best of the backtest: refitted",
            id="still the best",
        ),
        pytest.param({"a_new": 0.1, "old": 0.1}, [EARLIER], "old", 0.1, "still the best", id="a tie"),
        pytest.param({"a_new": 0.0, "old": 0.0}, [EARLIER], "old", 0.0, "still the best", id="nothing to improve"),
        pytest.param(
            {"new": 0.1, "other": 0.2},
            [EARLIER],
            "new",
            None,
            "first champion",
            id="the champion is no candidate any more",
        ),
        pytest.param({"old": float("nan"), "new": 0.3}, [EARLIER], "new", None, "first champion", id="the champion has no score"),
        pytest.param(
            {"old": 0.1, "new": 0.099},
            [EARLIER, ("hours", "hill", "new", "2", "2024-03-15")],
            "new",
            0.099,
            "still the best",
            id="the newest promotion counts",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.099},
            [("hours", "hill", "new", "2", "2024-03-31T06:10"), EARLIER],
            "old",
            0.1,
            "'new' is better by 1.0%, but",
            id="not one of this time: a rerun decides as before",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.099},
            [EARLIER, ("hours", "hill", "new", "3", "2024-05-01")],
            "old",
            0.1,
            "'new' is better by 1.0%, but",
            id="nor a later one: a backtest knows no future",
        ),
        pytest.param(
            {"old": 0.1, "new": 0.099},
            [("hours", "both", "old", "1", "2024-03-01")],
            "new",
            None,
            "first champion",
            id="another's champion",
        ),
    ],
)
def test_the_choice(
    fleet: Fleet, scores: dict[str, float], before: list[Any], model: str, champion_score: float | None, reason: str
) -> None:
    choices = _choose(_scores(**scores), _promotions(*before), fleet)
    (row,) = choices.to_dict("records")
    assert (row["product_id"], row["entity_id"], row["model"], row["deciding_score"]) == (
        "hours",
        "hill",
        model,
        "pinball_share",
    )
    assert row["score"] == scores[model]
    assert row["champion_score"] == (pytest.approx(np.nan, nan_ok=True) if champion_score is None else champion_score)
    assert row["reason"].startswith(reason) or reason in row["reason"]


#: The champion of two entities, and what their decisions are about.
OLD = [EARLIER, ("hours", "both", "old", "1", "2024-03-01")]
SCORES: dict[str, Any] = {"old": {"hill": 0.1, "both": 0.1}, "new": {"hill": 0.05, "both": 0.05}}


def test_a_held_entity_keeps_its_model_and_the_others_go_on(fleet: Fleet) -> None:
    choices, decisions = _decide(_scores(**SCORES), _promotions(*OLD), fleet, people=overrides({"kind": "hold"}))
    assert choices[["entity_id", "model"]].to_numpy().tolist() == [["both", "new"]]
    told = decisions.set_index(["entity_id", "challenger"])
    assert told.loc[("hill", "old"), ["code", "promoted"]].tolist() == ["held", False]
    assert told.loc[("hill", "old"), "reason"] == "the entity's model is held by an override (Ada: because)"
    assert told.loc[("both", "new"), ["code", "promoted"]].tolist() == ["better", True]
    everybody = overrides({"kind": "hold"}, {"kind": "hold", "entity_id": "both"})
    with pytest.raises(AllHeldError, match="every entity that could be trained is held"):
        _decide(_scores(**SCORES), _promotions(*OLD), fleet, people=everybody)


@pytest.mark.parametrize(
    ("people", "codes", "model", "code"),
    [
        pytest.param([], {"new": "strong_wind"}, "old", None, id="a guard-rail holds it back"),
        pytest.param([{"kind": "approve", "model": "new"}], {"new": "strong_wind"}, "new", "approved", id="approved"),
        pytest.param(
            [{"kind": "approve", "model": "new"}, {"kind": "release"}],
            {"new": "strong_wind"},
            "old",
            None,
            id="released",
        ),
        pytest.param([{"kind": "approve", "model": "new"}], {"new": "leak"}, "old", None, id="a leak is never approved"),
        pytest.param(
            [{"kind": "approve", "model": "new", "effective_at": "2024-04-02"}],
            {"new": "margin"},
            "old",
            None,
            id="later",
        ),
        pytest.param(
            [{"kind": "approve", "model": "new", "product_id": "quarters"}],
            {"new": "margin"},
            "old",
            None,
            id="other product",
        ),
        pytest.param([{"kind": "override", "model": "old"}], {}, "old", None, id="overridden for the champion"),
        pytest.param([{"kind": "override", "model": "new"}], {"new": "margin"}, "new", "overridden", id="overridden"),
        pytest.param([{"kind": "override", "model": "gone"}], {}, "new", "better", id="for what there is not"),
        pytest.param([], {"new": "surprising"}, "old", None, id="too good to be believed"),
    ],
)
def test_people_decide(fleet: Fleet, people: list[dict[str, Any]], codes: dict[str, str], model: str, code: str | None) -> None:
    choices, decisions = _decide(_scores(**SCORES), _promotions(*OLD), fleet, people=overrides(*people), codes=codes)
    assert choices.set_index("entity_id").loc["hill", "model"] == model
    told = decisions.set_index(["entity_id", "challenger"]).loc["hill"]
    assert told.loc["new", "code"] == (code or codes.get("new", "better"))
    assert told.loc["new", "promoted"] == (model == "new")


def test_what_leaks_is_not_even_the_first_champion(fleet: Fleet) -> None:
    choices, decisions = _decide(_scores(honest=0.2, sees_all=0.01), _promotions(), fleet, codes={"sees_all": "leak"})
    assert choices["model"].tolist() == ["honest"]
    assert decisions.set_index("challenger")["code"].to_dict() == {"honest": "first_champion", "sees_all": "leak"}


def test_people_say_what_may_be_learnt_from(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
    rows = [{"issued_at": f"2024-03-{day} 06:00", "valid_at": f"2024-03-{day} 07:00"} for day in (20, 21, 22, 23)]
    features = make_features(rows)
    observations = observe([{"valid_at": row["valid_at"]} for row in rows])

    def days(*said: dict[str, Any]) -> list[int]:
        table = _assembled(features, observations, admitted(fleet), overrides(*said), fleet)
        return list(table["issued_at"].dt.day)

    since = {"kind": "learn_from", "begin": "2024-03-21"}
    span = {"kind": "leave_out", "begin": "2024-03-21", "end": "2024-03-23"}
    assert days() == [20, 21, 22, 23]
    assert days(since) == [21, 22, 23]
    assert days(span) == [20, 23]
    assert days(since, span) == [23]
    assert days(since, span, {"kind": "release"}, span) == [20, 23]
    assert days(span | {"entity_id": "both"}) == [20, 21, 22, 23]


def test_each_entity_of_each_product_is_chosen_for_by_its_own_score(fleet: Fleet) -> None:
    scores = _scores(first={"hill": 0.1, "both": 0.3, "shore": 0.2}, second={"hill": 0.2, "both": 0.2, "shore": 0.1})
    choices = _choose(scores, _promotions(), fleet)
    assert choices[["product_id", "entity_id", "model", "deciding_score"]].to_numpy().tolist() == [
        ["hours", "both", "second", "pinball_share"],
        ["hours", "hill", "first", "pinball_share"],
        ["quarters", "shore", "second", "nmae_share"],
    ]


def test_an_entity_without_any_score_is_left_out_and_named(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    choices = _choose(_scores(first={"hill": 0.1, "both": float("nan")}), _promotions(), fleet)
    assert choices["entity_id"].tolist() == ["hill"]
    assert "hours/both: no candidate has a pinball_share in the backtest" in caplog.text


def test_without_any_score_one_line_says_so(fleet: Fleet) -> None:
    with pytest.raises(NotEnoughHistoryError, match="nothing to choose by as of 2024-03-31 06:10 UTC"):
        _choose(_scores(first=float("nan")), _promotions(), fleet)


# --- the gate --------------------------------------------------------------------------------------------------------

KINDS = {"seasons": "climatology", "curve": "power_curve", "trees": "catboost"}


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        pytest.param(
            {"hill": "local", "shore": "local"},
            {name: ["curve", "seasons", "trees"] for name in ("hill", "shore", "both")},
            id="all ready",
        ),
        pytest.param(
            {"hill": "blended", "shore": "local"},
            {"hill": ["curve", "seasons"], "shore": ["curve", "seasons", "trees"], "both": ["curve", "seasons"]},
            id="a group has the lowest",
        ),
        pytest.param(
            {"hill": "physical", "shore": "none"},
            {"hill": ["curve", "seasons"], "shore": [], "both": []},
            id="one that may have none stops no other",
        ),
        pytest.param({"hill": "local"}, {"hill": ["curve", "seasons", "trees"], "shore": [], "both": []}, id="one not assessed"),
    ],
)  # fmt: skip
def test_a_candidate_needs_its_tier(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, tiers: dict[str, str], expected: dict[str, list[str]]
) -> None:
    table = admitted(fleet, readiness=assessed(tiers), **KINDS)
    found = {str(entity_id): sorted(own.loc[own["admitted"], "model"]) for entity_id, own in table.groupby("entity_id")}
    assert found == expected
    for entity_id, models in expected.items():
        assert (f"{entity_id} is not trained: " in caplog.text) == (not models)


def test_a_card_may_ask_for_another_tier_than_its_family(fleet: Fleet) -> None:
    training = _training(**KINDS)
    eager = ModelConfig(type="catboost", tier="global")
    training = training.model_copy(update={"candidates": training.candidates | {"trees": eager}})
    table = admit_candidates(assessed({"hill": "global", "shore": "global"}), _promotions(), fleet, CLOCK, training)
    assert table["admitted"].all()
    assert table.set_index("model")["needs"].to_dict() == {"seasons": "none", "curve": "physical", "trees": "global"}


def test_the_assessment_of_the_training_time_counts(fleet: Fleet) -> None:
    both = pd.concat(
        [
            assessed({"hill": "none", "shore": "none"}, at="2024-03-01"),
            assessed({"hill": "physical", "shore": "physical"}, at="2024-03-31T06:10"),
            assessed({"hill": "local", "shore": "local"}, at="2024-03-31T06:11"),
        ]
    )
    assert set(admitted(fleet, readiness=both, **KINDS)["tier"]) == {"physical"}


def test_where_nobody_is_ready_one_line_says_why(fleet: Fleet) -> None:
    with pytest.raises(NotReadyError) as caught:
        admitted(fleet, readiness=assessed({"hill": "none", "shore": "none"}, reason="no weather is known yet"))
    assert str(caught.value) == (
        "nothing is ready to be trained as of 2024-03-31 06:10 UTC: hill: no weather is known yet; "
        "both: its farm 'hill': no weather is known yet; shore: no weather is known yet"
    )


def test_who_may_have_no_model_is_not_learnt_from(fleet: Fleet, make_features: MakeTable, observe: MakeTable) -> None:
    features = pd.concat([make_features([ISSUE]), make_features([ISSUE | {"entity_id": "both"}])])
    came = observe([{"valid_at": "2024-03-30 07:00"}, {"valid_at": "2024-03-30 07:00", "entity_id": "both"}])
    admissions = admitted(fleet, readiness=assessed({"hill": "physical", "shore": "none"}))
    table = _assembled(features, came, admissions, overrides(), fleet)
    assert table["entity_id"].tolist() == ["hill"]


def test_a_candidate_that_is_not_admitted_is_not_backtested(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input((("hours", "hill"), ("quarters", "shore")))
    training = _training(**KINDS)
    admissions = admitted(fleet, readiness=assessed({"hill": "local", "shore": "physical"}), **KINDS)
    backtested, *_ = run_backtest(table, admissions, fleet, CLOCK, training, INLINE)
    pairs = set(backtested[["entity_id", "model"]].itertuples(index=False, name=None))
    assert pairs == {("hill", name) for name in KINDS} | {("shore", "seasons"), ("shore", "curve")}


def test_the_choice_says_what_the_entity_may_not_have_yet(fleet: Fleet) -> None:
    admissions = admitted(
        fleet,
        readiness=assessed({"hill": "physical", "shore": "local"}, reason="9 days; tier global needs 14"),
        **KINDS,
    )
    choices = _choose(_scores(seasons=0.2, curve=0.1), _promotions(), fleet, admissions)
    assert choices["reason"].tolist() == [
        "first champion: the best of the backtest; 'trees' needs tier local, it has physical: 9 days; tier global needs 14"
    ]


def test_a_new_farm_gets_the_physical_model_before_it_can_be_backtested(fleet: Fleet) -> None:
    young = make_model_input((("quarters", "shore"),), first="2024-03-25")
    table = pd.concat([make_model_input(), young], ignore_index=True)
    admissions = admitted(fleet, readiness=assessed({"hill": "local", "shore": "local"}), **KINDS)
    choices = _choose(_scores(trees=0.1, curve=0.2), _promotions(), fleet, admissions, table)
    chosen = choices.set_index("entity_id")
    # Trees would be allowed, but nothing that learns much goes live untested.
    assert chosen["model"].to_dict() == {"hill": "trees", "shore": "curve"}
    assert np.isnan(chosen.loc["shore", "score"])
    assert (
        chosen.loc["shore", "reason"] == "too little history for the backtest: the candidate of the highest tier that needs none"
    )
    model = _fit(table, choices, fleet, _training(curve="persistence", trees="climatology"))
    assert set(model.members) == {("hours", "hill"), ("quarters", "shore")}


def test_a_champion_is_not_replaced_unscored(fleet: Fleet) -> None:
    table = pd.concat([make_model_input(), make_model_input((("quarters", "shore"),))], ignore_index=True)
    before = _promotions(("quarters", "shore", "trees", "1", "2024-03-01"))
    choices = _choose(_scores(first=0.1), before, fleet, model_input=table)
    assert choices["entity_id"].tolist() == ["hill"]


# --- fit and promote -------------------------------------------------------------------------------------------------


def _choices(**models: str) -> pd.DataFrame:
    product = {"hill": "hours", "both": "hours", "shore": "quarters"}
    rows = [{"product_id": product[entity_id], "entity_id": entity_id, "model": model} for entity_id, model in models.items()]
    return Choices.validate(
        pd.DataFrame(rows).assign(deciding_score="pinball_share", score=0.1, champion_score=np.nan, reason="")
    )


class Versions:
    """A registry that has version 1 for every entity, and counts nothing else."""

    def __init__(self, members: dict[tuple[str, str], Member]) -> None:
        self.members = members
        self.fallbacks = {(*key, "last"): member for key, member in members.items()}
        self.shadows: dict[tuple[str, str, str], Member] = {}

    def version(self, version: str) -> Any:
        if version != "1":
            raise NoModelError(f"there is no version {version}")
        return self


def _fit(
    table: pd.DataFrame,
    choices: pd.DataFrame,
    fleet: Fleet,
    training: Training | None = None,
    before: pd.DataFrame | None = None,
    versions: Versions | None = None,
) -> FleetModel:
    training = _training() if training is None else training
    before = _promotions() if before is None else before
    made, _ = fit_fleet(table, choices, before, versions or Versions({}), fleet, CLOCK, training, INLINE)  # type: ignore[arg-type]
    return made


def test_the_chosen_of_each_entity_is_fitted_with_all_that_was_known(fleet: Fleet) -> None:
    table = pd.concat([make_model_input(), make_model_input((("quarters", "shore"),))], ignore_index=True)
    model = _fit(table, _choices(hill="second", shore="first"), fleet, _training(first="climatology", second="persistence"))
    assert {
        key: (member.model, member.forecaster.type_name, member.forecaster.levels) for key, member in model.members.items()
    } == {
        ("hours", "hill"): ("second", "persistence", [0.1, 0.5, 0.9]),
        ("quarters", "shore"): ("first", "climatology", [0.25, 0.5, 0.75]),
    }


def test_what_stands_in_is_fitted_too_and_kept_in_its_order(fleet: Fleet) -> None:
    training = _training(first="climatology", second="persistence", third="climatology")
    named = training.model_copy(update={"fallbacks": ["third", "first"]})
    model = _fit(make_model_input(), _choices(hill="first"), fleet, named)
    assert list(model.fallbacks) == [("hours", "hill", "third")]  # nobody stands in for himself
    with pytest.raises(ValueError, match="fallbacks: no candidate nobody; there are"):
        Training.model_validate(training.model_dump() | {"fallbacks": ["nobody"]})


def _stored(model: FleetModel, folder: Path) -> FleetModel:
    """The model as a later training reads it."""
    model.save(folder / "version", folder / "objects", run_id="first run")
    return FleetModel.load(folder / "version")


class Registry:
    """A registry whose only version is 1."""

    def __init__(self, model: FleetModel) -> None:
        self.model = model

    def version(self, version: str) -> FleetModel:
        if version != "1":
            raise NoModelError(f"there is no version {version}")
        return self.model


def _fit_again(fleet: Fleet, folder: Path, table: pd.DataFrame, training: Training) -> dict[str, bool]:
    """Of the chosen model and its fallback whether the second training took over that of the first."""
    chosen, before = _choices(hill="first"), _promotions(("hours", "hill", "first", "1", "2024-01-01"))
    named = _training(first="climatology", second="persistence").model_copy(update={"fallbacks": ["second"]})
    registry = Registry(_stored(_fit(make_model_input(), chosen, fleet, named), folder))
    versions: Any = registry
    again = _fit(table, chosen, fleet, training.model_copy(update={"fallbacks": ["second"]}), before, versions)
    return {member.model: member.run_id == "first run" for member in (*again.members.values(), *again.fallbacks.values())}


def test_a_model_is_fitted_again_only_if_what_it_is_fitted_from_changed(fleet: Fleet, tmp_path: Path) -> None:
    table, training = make_model_input(), _training(first="climatology", second="persistence")
    assert _fit_again(fleet, tmp_path / "same", table, training) == {"first": True, "second": True}
    revised = table.assign(power_share=table["power_share"].where(table.index > 0, 0.5))
    assert _fit_again(fleet, tmp_path / "rows", revised, training) == {"first": False, "second": False}
    candidates = training.candidates | {"first": ModelConfig(type="climatology", params={"min_rows": 3})}
    other = training.model_copy(update={"candidates": candidates})
    assert _fit_again(fleet, tmp_path / "settings", table, other) == {"first": False, "second": True}
    seeded = training.model_copy(update={"seed": training.seed + 1})
    assert _fit_again(fleet, tmp_path / "seed", table, seeded) == {"first": False, "second": False}


def test_another_release_of_a_library_fits_again(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, training, chosen = make_model_input(), _training(first="climatology"), _choices(hill="first")
    versions: Any = Registry(_stored(_fit(table, chosen, fleet, training), tmp_path))
    before = _promotions(("hours", "hill", "first", "1", "2024-01-01"))
    assert _fit(table, chosen, fleet, training, before, versions).members["hours", "hill"].run_id == "first run"
    monkeypatch.setattr("wind_kedro.pipelines.training.made_from.importlib.metadata.version", lambda name: f"{name} 99")
    assert _fit(table, chosen, fleet, training, before, versions).members["hours", "hill"].run_id == ""


def test_a_damaged_model_is_fitted_again(fleet: Fleet, tmp_path: Path) -> None:
    table, training, chosen = make_model_input(), _training(first="climatology"), _choices(hill="first")
    stored = _stored(_fit(table, chosen, fleet, training), tmp_path)
    file = tmp_path / "objects" / str(stored.members["hours", "hill"].object) / "model.json"
    file.write_text(file.read_text("utf-8").replace("}", " }", 1), "utf-8")
    versions: Any = Registry(stored)
    before = _promotions(("hours", "hill", "first", "1", "2024-01-01"))
    assert _fit(table, chosen, fleet, training, before, versions).members["hours", "hill"].object is None


def test_what_was_seen_is_written_down(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input((("hours", "hill"), ("hours", "both")))
    model = _fit(table, _choices(hill="first"), fleet)
    (fit,) = spy.fits
    assert len(fit["features"]) == (table["entity_id"] == "hill").sum()
    assert model.trained_through == table["valid_at"].max()
    assert model.example[["product_id", "entity_id"]].to_numpy().tolist() == [["hours", "hill"]]


def test_a_farm_whose_model_cannot_be_fitted_leaves_the_others(fleet: Fleet, spy: Spy, caplog: pytest.LogCaptureFixture) -> None:
    table = make_model_input((("hours", "hill"), ("hours", "both")))
    table["wind_speed_100m_ms"] = table["entity_id"].map({"hill": 8.0, "both": 9.0})
    spy.fails = lambda name, features: features["wind_speed_100m_ms"].iloc[0] == 9.0
    model = _fit(table, _choices(hill="first", both="first"), fleet)
    assert list(model.members) == [("hours", "hill")]
    assert caplog.text.count("model_not_fitted: hours/both: 'first' could not be fitted: ValueError: 'first' cannot") == 1
    spy.fails = lambda name, features: True
    with pytest.raises(NotEnoughHistoryError, match=r"^no model could be fitted: ValueError: 'first' cannot$"):
        _fit(table, _choices(hill="first"), fleet)


def test_who_is_not_trained_keeps_the_very_model_it_has(fleet: Fleet, spy: Spy, caplog: pytest.LogCaptureFixture) -> None:
    kept = Member("old", object(), run_id="earlier")  # type: ignore[arg-type]
    before = _promotions(
        ("hours", "both", "old", "1", "2024-03-01"),
        ("quarters", "shore", "old", "2", "2024-03-01"),
        ("hours", "hill", "old", "1", "2024-03-01"),
        ("hours", "gone", "old", "1", "2024-03-01"),
    )
    versions = Versions({("hours", "both"): kept, ("hours", "hill"): kept, ("hours", "gone"): kept})
    model = _fit(make_model_input(), _choices(hill="first"), fleet, before=before, versions=versions)
    assert set(model.members) == {("hours", "hill"), ("hours", "both")}
    assert model.members["hours", "both"] is kept
    assert model.fallbacks == {("hours", "both", "last"): kept}
    assert model.members["hours", "hill"] is not kept
    assert "quarters/shore: its champion is lost: there is no version 2" in caplog.text
    assert model.parent == "1"


@dataclass(frozen=True)
class Registered:
    """A registry with one version, which holds models of these entities."""

    members: dict[tuple[str, str], object]
    version_number: str = "7"

    def made(self) -> Any:
        from wind_kedro.datasets.models import RegisteredVersion

        return RegisteredVersion(self.version_number, "run", pd.Timestamp("2024-03-31 04:00", tz="UTC"))

    def version(self, version: str) -> Any:
        assert version == self.version_number
        return self

    def manifest_sha256(self, version: str) -> str:
        assert version == self.version_number
        return "d" * 64


def _promote(fleet: Fleet, before: list[Any], **models: str) -> tuple[pd.DataFrame, str]:
    named = {"hill": "first", "both": "first", "shore": "second"} | models
    members = {
        (product.id, entity_id): Member(named[entity_id], object())  # type: ignore[arg-type]
        for product in fleet.products
        for entity_id in product.members
    }
    promotions, champion = promote(Registered(members), _choices(**models), _promotions(*before), fleet, CLOCK)  # type: ignore[arg-type]
    return Promotions.validate(promotions), champion


def test_a_promotion_counts_from_the_training_time_on(fleet: Fleet) -> None:
    before = dt.datetime.now(dt.UTC)
    promotions, champion = _promote(fleet, [EARLIER], hill="first", shore="second")
    assert champion == "7"
    assert promotions[["product_id", "entity_id", "model", "model_version", "run_id"]].to_numpy().tolist() == [
        ["hours", "hill", "first", "7", "run"],
        ["quarters", "shore", "second", "7", "run"],
    ]
    assert set(promotions["promoted_at"]) == set(promotions["available_at"]) == {TRAINING_TIME}
    assert set(promotions["trained_through"]) == {pd.Timestamp("2024-03-31 04:00", tz="UTC")}
    assert before <= promotions["recorded_at"].iloc[0] <= dt.datetime.now(dt.UTC)
    assert promotions[["promotion", "parent", "action"]].drop_duplicates().to_numpy().tolist() == [[2, 1, "train"]]


def test_who_was_not_trained_is_in_the_promotion_with_what_it_has(fleet: Fleet) -> None:
    both = ("hours", "both", "old", "1", "2024-03-01")
    members = {
        ("hours", "hill"): Member("first", object()),
        ("hours", "both"): Member("old", object(), run_id="earlier"),
    }  # type: ignore[arg-type]
    promotions, _ = promote(Registered(members), _choices(hill="first"), _promotions(EARLIER, both), fleet, CLOCK)  # type: ignore[arg-type]
    kept = Promotions.validate(promotions).set_index("entity_id").loc["both"]
    assert (kept["model_version"], kept["run_id"], kept["model"]) == ("7", "earlier", "old")
    assert kept["reason"] == "not trained again: its stored model stays in use"


@pytest.mark.parametrize(
    ("before", "champion"),
    [
        pytest.param([EARLIER], "7", id="the newest"),
        pytest.param([("hours", "hill", "old", "3", "2024-03-31T06:10")], "7", id="a rerun of the same time"),
        pytest.param(
            [("hours", "hill", "old", "5", "2024-05-01"), ("hours", "hill", "old", "4", "2024-04-01")],
            "5",
            id="a backtest of the past moves no alias",
        ),
    ],
)
def test_the_champion_is_that_of_the_newest_promotion(fleet: Fleet, before: list[Any], champion: str) -> None:
    assert _promote(fleet, before, hill="first")[1] == champion


def test_who_is_not_in_the_version_is_not_promoted(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        promotions, _ = promote(
            Registered({("hours", "hill"): Member("first", object())}),  # type: ignore[arg-type]
            _choices(hill="first", both="first"),
            _promotions(),
            fleet,
            CLOCK,
        )  # type: ignore[arg-type]
    assert promotions["entity_id"].tolist() == ["hill"]


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_means_over_entities_of_the_whole_horizon(fleet: Fleet) -> None:
    scores = _scores(first={"hill": 0.1, "both": 0.3, "shore": 0.2}, second={"hill": float("nan"), "both": 0.2})
    _, decisions = _decide(_scores(**SCORES), _promotions(*OLD), fleet)
    accuracy = pd.DataFrame(
        [
            {"product_id": "hours", "cross_validated": value, "backtested": value + 0.1, "operational": value + 0.2}
            for value in (0.1, 0.3)
        ]
    )
    metrics = summarise_training(scores[scores["period"] == "all"], decisions, accuracy)
    assert all(math.isfinite(point["value"]) for point in metrics.values())
    assert metrics["hours.entities_with_another_model"]["value"] == 2
    assert metrics["hours.decisions.better"]["value"] == 2
    assert {
        name: point["value"] for name, point in metrics.items() if name.endswith(("first.pinball_share", "first.nmae_share"))
    } == {
        "hours.first.pinball_share": pytest.approx(0.2),
        "hours.first.nmae_share": pytest.approx(0.8),
        "quarters.first.nmae_share": pytest.approx(0.2),
        "quarters.first.pinball_share": pytest.approx(0.8),
    }
    assert metrics["hours.second.pinball_share"]["value"] == pytest.approx(0.2)
    assert metrics["hours.accuracy.operational"]["value"] == pytest.approx(0.4)
    assert {point["step"] for point in metrics.values()} == {0}


def test_the_figure_has_a_point_for_every_comparison(fleet: Fleet) -> None:
    _, decisions = _decide(_scores(**SCORES), _promotions(*OLD), fleet)
    figure = draw_decisions(decisions)
    assert sorted(value for trace in figure.data for value in trace.x) == pytest.approx([50.0, 50.0])
    _, first = _decide(_scores(**SCORES), _promotions(), fleet)
    assert "Nothing was compared" in draw_decisions(first).layout.title.text


# --- what is learnt over all farms -----------------------------------------------------------------------------------

SEASONS = {"type": "climatology"}
OF_FLEET = {
    "all": ModelConfig(type="climatology", scope="fleet"),
    "mix": ModelConfig(
        type="hand_over",
        params={
            "members": {"own": SEASONS, "fleet": SEASONS | {"scope": "fleet"}, "physical": {"type": "physical"}},
            "judged_days": 4,
            "lengths_days": [3],
            "cuts": 1,
            "min_rows": 2,
        },
    ),
}
WITH_FLEET = Training(seed=7, backtest=_training().backtest, candidates=OF_FLEET, fleet_rows=40)
BOTH = (("hours", "hill"), ("hours", "both"))


def _fleet_admissions(fleet: Fleet, readiness: pd.DataFrame = READY) -> pd.DataFrame:
    return admit_candidates(readiness, _promotions(), fleet, CLOCK, WITH_FLEET)


def _backtest_fleet(table: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    forecasts, folds, _ = run_backtest(table, _fleet_admissions(fleet), fleet, CLOCK, WITH_FLEET, INLINE)
    BacktestFolds.validate(folds)
    assert leaks(folds, forecasts) == {}
    return forecasts


@given(farm=st.sampled_from(["hill", "both"]), seed=st.integers(0, 100))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_farms_later_outcomes_move_a_forecast(fleet: Fleet, farm: str, seed: int) -> None:
    """Leakage through the other farms: what came to any farm after a fold began is not in its forecasts."""
    table = make_model_input(BOTH)
    later = (table["target_available_at"] > FOLD) & (table["entity_id"] == farm)
    noise = pd.Series(np.random.default_rng(seed).uniform(size=len(table)), index=table.index)
    changed = table.assign(power_share=table["power_share"].mask(later, noise))
    before, after = (_backtest_fleet(data, fleet) for data in (table, changed))
    until = FOLD + pd.Timedelta(days=8)
    assert set(before["model"]) == {"all", "mix"}
    pd.testing.assert_frame_equal(before[before["issued_at"] < until], after[after["issued_at"] < until])
    # It can fail: the next fold has seen them, also where they are another farm's.
    other = before["entity_id"] != farm
    assert not before[other & (before["issued_at"] >= until)].equals(after[other & (after["issued_at"] >= until)])


def test_each_farm_gives_an_equal_share_of_a_bounded_number_of_rows() -> None:
    table = make_model_input((("hours", "hill"), ("hours", "both"), ("hours", "shore")))
    drawn = sample_of_farms(table, 60, seed=1)
    assert drawn["entity_id"].value_counts().to_dict() == {"hill": 20, "both": 20, "shore": 20}
    assert drawn["issued_at"].is_monotonic_increasing
    pd.testing.assert_frame_equal(drawn, sample_of_farms(table, 60, seed=1))
    assert not drawn.equals(sample_of_farms(table, 60, seed=2))
    recent = sample_of_farms(table, 60, seed=1, half_life_days=3)
    assert recent["entity_id"].value_counts().to_dict() == {"hill": 20, "both": 20, "shore": 20}
    assert recent["issued_at"].mean() > drawn["issued_at"].mean() + pd.Timedelta(days=3)


def test_a_model_of_the_fleet_is_one_object_for_all(fleet: Fleet) -> None:
    table = make_model_input(BOTH)
    wanted = {("hours", "hill"): "all", ("hours", "both"): "all"}
    fitted = _fitted_of(table, wanted, fleet)
    assert fitted["hours", "hill"] is fitted["hours", "both"]
    mixes = _fitted_of(table, dict.fromkeys(wanted, "mix"), fleet)
    one, two = mixes.values()
    assert isinstance(one, HandOver)
    assert one is not two
    assert one.shared_models.keys() == two.shared_models.keys() <= {"fleet"}
    assert all(one.shared_models[name] is two.shared_models[name] for name in one.shared_models)


def _fitted_of(table: pd.DataFrame, wanted: dict[tuple[str, str], str], fleet: Fleet):  # type: ignore[no-untyped-def]
    training = _training().model_copy(update={"candidates": OF_FLEET, "fleet_rows": 40})
    fitted = fit_candidates(table, [(*key, name) for key, name in wanted.items()], fleet, training, INLINE, TRAINING_TIME).results
    return {key[:2]: model for key, model in fitted.items()}


@pytest.mark.parametrize("model", ["all", "mix"])
def test_a_farm_without_history_is_fitted_and_forecast(fleet: Fleet, model: str) -> None:
    table = make_model_input((("hours", "hill"),))
    fitted = _fitted_of(table, {("hours", "both"): model}, fleet)["hours", "both"]
    asked = scopes.feature_matrix(make_model_input((("hours", "both"),)))
    assert np.isfinite(fitted.predict(asked)).all()


def test_a_young_farm_is_backtested_by_what_the_fleet_knows(fleet: Fleet) -> None:
    young = make_model_input((("hours", "both"),), first="2024-03-28")
    backtested = _backtest_fleet(pd.concat([make_model_input(), young], ignore_index=True), fleet)
    assert set(backtested.loc[backtested["entity_id"] == "both", "model"]) == {"all", "mix"}


def test_a_new_farm_may_have_what_needs_no_history_if_its_weather_is_known(fleet: Fleet) -> None:
    training = WITH_FLEET.model_copy(update={"candidates": OF_FLEET | {"own": ModelConfig(type="climatology")}})
    told = assessed({"hill": "local", "shore": "none"})

    def may(**facts: float) -> set[str]:
        table = admit_candidates(told.assign(**facts), _promotions(), fleet, CLOCK, training)
        return set(table.loc[(table["entity_id"] == "shore") & table["admitted"], "model"])

    assert may(weather_days=30.0, best_correlation=np.nan) == {"all", "mix"}
    assert may(weather_days=0.0, best_correlation=np.nan) == set()
    # There is history, and the weather does not explain it: no lack of days.
    assert may(weather_days=30.0, best_correlation=0.1) == set()


def test_who_is_alone_and_has_a_history_of_its_own_is_handed_nothing_over(fleet: Fleet) -> None:
    """Of the products' only farm: the farm's own models are candidates themselves, and a hand-over would cost as much again."""
    own = WITH_FLEET.model_copy(update={"candidates": OF_FLEET | {"own": ModelConfig(type="climatology")}})

    def may(tier: str = "local", has: str = "own", training: Training = own) -> dict[str, set[str]]:
        readiness = assessed({"hill": "local", "shore": tier})
        table = admit_candidates(readiness, _promotions(("quarters", "shore", has, "1", "2024-03-01")), fleet, CLOCK, training)
        assert table["admitted"].all()
        return {str(key): set(names) for key, names in table.groupby("entity_id")["model"]}

    assert may() == {"hill": {"all", "mix", "own"}, "both": {"all", "mix", "own"}, "shore": {"all", "own"}}
    # While it is young; where its champion would vanish unjudged; where it would be left with nothing.
    assert "mix" in may("blended")["shore"]
    assert "mix" in may(has="mix")["shore"]
    only = {"mix": OF_FLEET["mix"]}
    assert may(training=WITH_FLEET.model_copy(update={"candidates": only}))["shore"] == {"mix"}


def test_a_new_farm_is_given_the_last_that_needs_no_history(fleet: Fleet) -> None:
    table = make_model_input()
    told = assessed({"hill": "local", "shore": "none"}).assign(weather_days=30.0, best_correlation=np.nan)
    admissions = _fleet_admissions(fleet, told)
    scores = _scores(all=0.2, mix=0.1)
    chosen = _choose(scores, _promotions(), fleet, admissions, table)
    assert chosen.set_index("entity_id")["model"].to_dict() == {"hill": "mix", "both": "mix", "shore": "mix"}
    # And as long as it cannot be backtested it is fitted anew each time.
    before = _promotions(("quarters", "shore", "all", "1", "2024-03-01"))
    again = _choose(scores, before, fleet, admissions, table)
    assert again.set_index("entity_id")["model"].to_dict()["shore"] == "all"


# --- what fails for one entity is a row, and the others go on ------------------------------------------------------------

TWO = (("hours", "hill"), ("hours", "both"))
Raise = Callable[..., None]


@pytest.fixture
def raise_for_both(monkeypatch: pytest.MonkeyPatch) -> Raise:
    """Makes a function of a module raise where the rows, series or key that it is given are of the entity 'both'."""

    def patch(module: Any, name: str) -> None:
        whole = getattr(module, name)

        def spoilt(given: Any, *others: Any) -> Any:
            named = set(given["entity_id"]) if isinstance(given, pd.DataFrame) and "entity_id" in given else set()
            if "both" in named | {other for other in others if isinstance(other, str)}:
                raise RuntimeError("spoilt")
            return whole(given, *others)

        monkeypatch.setattr(module, name, spoilt)

    return patch


def the_row(failures: pd.DataFrame) -> dict[str, Any]:
    (row,) = Failures.validate(failures).to_dict("records")
    assert (row["product_id"], row["entity_id"]) == ("hours", "both")
    return {name: row[name] for name in ("stage", "code", "severity", "message")}


def test_a_candidate_that_cannot_be_backtested_is_a_row(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input(TWO)
    table["wind_speed_100m_ms"] = table["entity_id"].map({"hill": 8.0, "both": 9.0})

    def backtest(*names: str) -> pd.DataFrame:
        spy.fails = lambda name, features: name in names and features["wind_speed_100m_ms"].iloc[0] == 9.0
        training = _training(first="climatology", second="persistence")
        return run_backtest(table, admitted(fleet, "first", "second"), fleet, CLOCK, training, INLINE)[2]

    assert the_row(backtest("second")) == {
        "stage": "backtest", "code": "backtest_failed", "severity": "warning",
        "message": "hours/both: candidate 'second' in the fold of 2024-03-11: ValueError: 'second' cannot",
    }  # fmt: skip
    assert backtest("first", "second")["severity"].tolist() == ["error", "error"]  # it is left without any


def test_a_model_that_cannot_be_fitted_is_a_row(fleet: Fleet, spy: Spy) -> None:
    table = make_model_input(TWO)
    table["wind_speed_100m_ms"] = table["entity_id"].map({"hill": 8.0, "both": 9.0})
    spy.fails = lambda name, features: features["wind_speed_100m_ms"].iloc[0] == 9.0
    choices = _choices(hill="first", both="first")
    failures = fit_fleet(table, choices, _promotions(), Versions({}), fleet, CLOCK, _training(), INLINE)[1]  # type: ignore[arg-type]
    assert the_row(failures) == {
        "stage": "fit", "code": "model_not_fitted", "severity": "error",
        "message": "hours/both: 'first' could not be fitted: ValueError: 'first' cannot",
    }  # fmt: skip


def test_a_backtest_that_cannot_be_calibrated_is_a_row(
    fleet: Fleet, observe: MakeTable, raise_for_both: Raise, tmp_path: Path
) -> None:
    table = make_model_input(TWO)
    backtested = _backtest(table, fleet, _training())
    raise_for_both(calibration, "_corrected_series")
    rules = Calibration.model_validate(
        {"days": 20, "min_days": 1, "settle_days": 1, "candidates": {"first": "spread"},
         "portfolios": {"error_correlation": 0.2, "min_capacity_share": 0.5}}
    )  # fmt: skip
    observed = observe([{"valid_at": row.valid_at, "share": row.power_share} for row in make_model_input().itertuples()])
    stored = store(tmp_path / "backtest", BACKTEST, backtested.assign(fold_begin=FOLD))
    found, failures = Calibrations(tmp_path).run(stored, observed, fleet, CLOCK, rules)
    assert the_row(failures) == {
        "stage": "backtest_calibration", "code": "calibration_failed", "severity": "warning",
        "message": "hours/both: its backtest is not calibrated: RuntimeError: spoilt",
    }  # fmt: skip
    both = found["entity_id"] == "both"
    pd.testing.assert_frame_equal(found[both], backtested[both])
    assert not found[~both].equals(backtested[~both])


def test_an_entity_that_cannot_be_scored_is_a_row(fleet: Fleet, observe: MakeTable, raise_for_both: Raise) -> None:
    backtested = _backtest(make_model_input(TWO), fleet, _training())
    rows = [
        {"valid_at": row.valid_at, "share": row.power_share, "entity_id": row.entity_id}
        for row in make_model_input(TWO).itertuples()
    ]
    scoring = Scoring(lead_edges_minutes=[0, 240])
    whole = score_backtest(backtested, observe(rows), fleet, CLOCK, scoring)[0]
    raise_for_both(scores_module, "_score_product")
    found, failures = score_backtest(backtested, observe(rows), fleet, CLOCK, scoring)
    assert the_row(failures) == {
        "stage": "backtest_scoring", "code": "scores_unknown", "severity": "error",
        "message": "hours/both: its backtest is not scored: RuntimeError: spoilt",
    }  # fmt: skip
    pd.testing.assert_frame_equal(found, whole[whole["entity_id"] == "hill"].reset_index(drop=True))


def test_an_entity_for_which_nothing_can_be_chosen_is_a_row(fleet: Fleet, raise_for_both: Raise) -> None:
    scores = _scores(first={"hill": 0.1, "both": 0.2})
    raise_for_both(decisions_module, "standing")
    given = (scores, make_model_input(TWO), admitted(fleet, "first"), _promotions(), overrides(), fleet, CLOCK)
    choices, decisions, failures = choose(_judged(scores, _promotions(), fleet, {}), *given)
    assert the_row(failures) == {
        "stage": "choice", "code": "model_not_chosen", "severity": "error",
        "message": "hours/both: no candidate is chosen: RuntimeError: spoilt",
    }  # fmt: skip
    assert choices["entity_id"].tolist() == decisions["entity_id"].tolist() == ["hill"]
