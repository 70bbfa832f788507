"""The gate's statistics, on series short enough to reckon by hand, and against their textbook properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.contracts.training import REASONS
from wind_kedro.evaluation.gate import (
    Comparison,
    Forecasted,
    adjusted,
    bias_excess,
    by_issue,
    chance,
    compare,
    coverage_excess,
    extreme_excess,
    extreme_intervals,
    gain,
    judge,
    leaks,
    long_run_variance,
    overlapping,
    pair,
    verdict,
    worst_excess,
)
from wind_kedro.evaluation.settings import GateRules

RULES = GateRules(min_issues=10)
BEGIN = pd.Timestamp("2024-03-01", tz="UTC")


def forecasted(loss: Any, **changes: Any) -> Forecasted:
    """What a model did at issues, without bias, with bands that hold what they should, and no extreme hour."""
    loss = np.asarray(loss, dtype=float)
    given = {"error_share": np.zeros_like(loss), "inside": np.full_like(loss, 0.9), "nominal": 0.9,
             "strong_loss": np.zeros_like(loss), "change_loss": np.zeros_like(loss)} | changes  # fmt: skip
    return Forecasted(loss, **given)


# --- better, and by chance? ------------------------------------------------------------------------------------------


def test_the_gain_is_of_means() -> None:
    assert gain(np.array([0.1, 0.3]), np.array([0.1, 0.2])) == pytest.approx(0.25)
    assert gain(np.zeros(3), np.ones(3)) == 0.0
    assert gain(np.array([]), np.array([])) == 0.0


def test_the_long_run_variance_weighs_neighbours() -> None:
    values = np.array([1.0, -1.0, 1.0, -1.0])
    assert long_run_variance(values, lags=0) == pytest.approx(1.0)
    # Lag 1: three products of -1, a quarter each, weighted by a half, on both sides.
    assert long_run_variance(values, lags=1) == pytest.approx(1 - 2 * 0.5 * 3 / 4)
    assert long_run_variance(values, lags=99) >= 0


def test_chance_is_a_t_test_where_neighbours_do_not_resemble(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.stats import ttest_1samp

    difference = np.random.default_rng(1).normal(0.1, 1, 40)
    monkeypatch.setattr("wind_kedro.evaluation.gate.long_run_variance", lambda values, _: long_run_variance(values, lags=0))
    monkeypatch.setattr("wind_kedro.evaluation.gate.lags_of", lambda *_: 0)
    assert chance(difference, np.zeros(40)) == pytest.approx(ttest_1samp(difference, 0, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("champion", "challenger", "p"),
    [
        pytest.param([0.2] * 3, [0.2] * 3, 1.0, id="a tie"),
        pytest.param([0.2] * 3, [0.1] * 3, 0.0, id="better at every issue alike"),
        pytest.param([0.1] * 3, [0.2] * 3, 1.0, id="worse at every issue alike"),
        pytest.param([0.2], [0.1], 1.0, id="one issue says nothing"),
        pytest.param([], [], 1.0, id="none either"),
    ],
)
def test_chance_at_its_edges(champion: list[float], challenger: list[float], p: float) -> None:
    assert chance(np.array(champion), np.array(challenger)) == p


def _persistent(random: np.random.Generator, rho: float, n: int = 365) -> Any:
    noise = random.normal(size=n)
    for index in range(1, n):
        noise[index] += rho * noise[index - 1]
    return noise


def test_chance_keeps_its_level_where_days_resemble_each_other() -> None:
    random = np.random.default_rng(7)
    wrong = [chance(_persistent(random, 0.3), np.zeros(365)) <= 0.05 for _ in range(600)]
    assert 0.03 <= np.mean(wrong) <= 0.085  # a plain t test errs in about 12 %
    naive = [_persistent(random, 0.3) for _ in range(600)]
    plain = [values.mean() / values.std(ddof=1) * np.sqrt(365) > 1.65 for values in naive]
    assert np.mean(plain) > 0.09


def test_chance_keeps_its_level_where_issues_share_their_weather() -> None:
    # Eight issues in a row forecast some hours together: what one gets wrong they all do.
    random = np.random.default_rng(11)
    shared = [np.convolve(random.normal(size=247), np.ones(8), "valid") for _ in range(400)]
    assert np.mean([chance(values, np.zeros(240), overlap=8) <= 0.05 for values in shared]) <= 0.09
    assert np.mean([chance(values, np.zeros(240)) <= 0.05 for values in shared]) > 0.09


@pytest.mark.parametrize(
    ("apart", "horizon_minutes", "issues"),
    [
        pytest.param("1D", 1440, 1, id="each begins when the last has ended"),
        pytest.param("6h", 2160, 6, id="six share an hour"),
        pytest.param("30min", 1440, 48, id="every half-hour"),
        pytest.param("1D", 1500, 2, id="an hour in common"),
        pytest.param("1D", 60, 1, id="a gap between"),
    ],
)
def test_how_many_issues_overlap(apart: str, horizon_minutes: int, issues: int) -> None:
    issued = pd.date_range("2024-01-01", periods=50, freq=apart, tz="UTC").repeat(2)
    assert overlapping(issued[::-1], horizon_minutes) == issues
    assert overlapping(issued[:1], horizon_minutes) == 1


def test_a_series_that_does_not_hold_three_horizons_says_nothing() -> None:
    random = np.random.default_rng(2)
    better = random.normal(1, 0.1, 60)
    assert chance(better, np.zeros(60), overlap=21) == 1.0
    assert chance(better, np.zeros(60), overlap=20) < 0.05


@pytest.mark.parametrize(
    ("correction", "given", "found"),
    [
        pytest.param("holm", [0.01, 0.04, 0.03], [0.03, 0.06, 0.06], id="Holm"),
        pytest.param("hommel", [0.01, 0.04, 0.03], [0.03, 0.04, 0.04], id="Hommel finds more"),
        pytest.param("holm", [0.5, 0.9], [1.0, 1.0], id="never above one"),
        pytest.param("hommel", [0.02], [0.02], id="one alone stays"),
        pytest.param("hommel", [0.001, 0.01, 0.02, 0.03, 0.5], [0.005, 0.04, 0.045, 0.06, 0.5], id="Hommel of five"),
        pytest.param("hommel", [], [], id="nobody asked"),
    ],
)
def test_many_questions_at_once(correction: Any, given: list[float], found: list[float]) -> None:
    assert adjusted(given, correction) == pytest.approx(found)


def _closed_simes(given: list[float]) -> list[float]:
    """What Hommel's procedure stands for: the worst Simes p-value of all sets that a question is in."""
    from itertools import combinations

    n = len(given)
    worst = [0.0] * n
    for size in range(1, n + 1):
        for chosen in combinations(range(n), size):
            ordered = sorted(given[index] for index in chosen)
            simes = min(size * p / rank for rank, p in enumerate(ordered, start=1))
            for index in chosen:
                worst[index] = max(worst[index], simes)
    return worst


def test_hommel_is_the_closed_test_of_simes() -> None:
    random = np.random.default_rng(3)
    for _ in range(50):
        given = list(random.uniform(size=6) ** 3)
        assert adjusted(given, "hommel") == pytest.approx(_closed_simes(given))
        assert (adjusted(given, "hommel") <= adjusted(given, "holm") + 1e-12).all()


# --- guard-rails -----------------------------------------------------------------------------------------------------


def test_guard_rails_measure_what_they_say() -> None:
    before = forecasted([0.1, 0.2], error_share=np.array([0.02, 0.0]), inside=np.array([0.8, 0.9]))  # fmt: skip
    after = forecasted([0.1, 0.1], error_share=np.array([-0.03, -0.03]), inside=np.array([0.6, 0.8]))  # fmt: skip
    assert bias_excess(before, after) == pytest.approx(0.02)
    assert coverage_excess(before, after) == pytest.approx(0.15)
    assert extreme_excess(np.array([0.5, 0.0]), np.array([0.8, 0.0])) == pytest.approx(0.6)
    assert worst_excess(before, after, 0.5) == pytest.approx(-0.5)
    assert coverage_excess(forecasted([0.1], nominal=float("nan")), forecasted([0.1])) == 0.0
    assert extreme_excess(np.zeros(2), np.ones(2)) == 0.0


SOUND = Comparison(
    issues=365, champion_score=0.1, challenger_score=0.097, gain_share=0.03, p_value=0.001, bias_excess_share=0.0,
    coverage_excess_share=0.0, strong_wind_excess_share=0.0, change_excess_share=0.0, worst_excess_share=0.0)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "p_adjusted", "code"),
    [
        pytest.param({}, 0.01, "better", id="sound"),
        pytest.param({"gain_share": 0.02}, 0.01, "better", id="just the margin"),
        pytest.param({"gain_share": 0.019}, 0.01, "margin", id="below the margin"),
        pytest.param({"gain_share": -0.1}, 1.0, "margin", id="worse"),
        pytest.param({}, 0.06, "not_significant", id="by chance"),
        pytest.param({"issues": 59}, 0.01, "too_little_data", id="too few issues"),
        pytest.param({"bias_excess_share": 0.02}, 0.01, "bias", id="biased"),
        pytest.param({"coverage_excess_share": 0.05}, 0.01, "coverage", id="bands too narrow"),
        pytest.param({"strong_wind_excess_share": 0.2}, 0.01, "strong_wind", id="ruinous in the storm"),
        pytest.param({"change_excess_share": 0.2}, 0.01, "changing_wind", id="ruinous in ramps"),
        pytest.param({"worst_excess_share": 0.2}, 0.01, "worst_issues", id="ruinous on some days"),
        pytest.param({"gain_share": 0.5}, 0.01, "surprising", id="too good to be believed"),
    ],
)
def test_the_first_thing_that_is_wrong_decides(changes: dict[str, float], p_adjusted: float, code: str) -> None:
    found = Comparison(**(vars(SOUND) | changes))
    assert verdict(found, p_adjusted, 0.02) == code
    assert code in REASONS


def test_without_a_margin_a_tie_is_still_no_gain() -> None:
    assert verdict(Comparison(**(vars(SOUND) | {"gain_share": 0.0})), 0.0, 0.0) == "margin"


def test_nothing_shared_is_too_little() -> None:
    nobody = forecasted([])
    assert verdict(compare(nobody, nobody), 1.0, 0.02) == "too_little_data"


# --- from tables -------------------------------------------------------------------------------------------------------


def _weather(speeds: list[float], entity_id: str = "hill") -> pd.DataFrame:
    times = pd.date_range(BEGIN, periods=len(speeds), freq="h")
    return pd.DataFrame({"product_id": "p", "entity_id": entity_id, "issued_at": BEGIN, "valid_at": times,
                         "wind_speed_100m_ms": speeds})  # fmt: skip


def test_extreme_hours_are_the_windiest_and_the_fastest_changing_of_each_entity() -> None:
    steady = [5.0] * 18
    rules = GateRules(extreme_share=0.04)
    calm, windy = _weather([*steady, 9.0, 5.0]), _weather([v + 10 for v in [*steady, 5.0, 5.0]], "shore")
    table = pd.concat([windy, calm], ignore_index=True).sample(frac=1, random_state=0)
    table = table.join(extreme_intervals(table, rules))
    hill = table[table["entity_id"] == "hill"].sort_values("valid_at")
    assert hill["strong"].tolist() == [False] * 18 + [True, False]
    assert hill["change"].tolist() == [False] * 18 + [True, True]  # up to the gust and down from it


def _issues(**losses: Any) -> pd.DataFrame:
    """Rows of `by_issue` of one farm; what is not said is without fault."""
    parts = []
    for name, given in losses.items():
        loss = np.asarray(given, dtype=float)
        at = pd.date_range(BEGIN, periods=len(loss), freq="D")
        faultless = {"error_share": 0.0, "inside": 0.9, "nominal": 0.9, "strong_loss": 0.0, "change_loss": 0.0}
        keys = {"product_id": "p", "entity_id": "hill", "model": name, "issued_at": at, "loss": loss}
        parts.append(pd.DataFrame(keys | faultless))
    return pd.concat(parts, ignore_index=True)


def test_intervals_are_summed_by_issue() -> None:
    intervals = pd.DataFrame(
        {"product_id": "p", "entity_id": "hill", "model": "m", "issued_at": [BEGIN, BEGIN, BEGIN + pd.Timedelta(days=1)],
         "loss": [0.1, 0.3, 0.5], "error_share": [0.1, -0.3, 0.0], "inside": [1.0, 0.0, 1.0], "nominal": 0.9,
         "strong": [False, True, False], "change": [True, True, False]}
    )  # fmt: skip
    first, second = by_issue(intervals).to_dict("records")
    assert first["loss"] == pytest.approx(0.2)
    assert first["error_share"] == pytest.approx(-0.1)
    assert (first["inside"], first["strong_loss"], first["change_loss"]) == (0.5, 0.3, 0.4)
    assert (second["loss"], second["strong_loss"]) == (0.5, 0.0)


def test_only_shared_issues_are_paired() -> None:
    table = _issues(old=[0.1, 0.2, 0.3], new=[0.5, 0.4, 0.3])
    ours, theirs = pair(table.drop(index=[1, 5]), "old", "new")
    assert (ours.loss.tolist(), theirs.loss.tolist()) == ([0.1], [0.5])


def test_judged_are_all_challengers_of_who_has_a_champion() -> None:
    random = np.random.default_rng(0)
    old = 0.1 + 0.02 * random.uniform(size=100)
    table = _issues(old=old, best=old * 0.9, good=old * 0.95, same=old, leaking=old * 0.9)
    stranger = _issues(old=old, best=old).assign(entity_id="shore")
    found = judge(
        pd.concat([table, stranger]), {"hill": "old"}, 0.02, 60, RULES, {("p", "hill", "leaking"): "it saw the end"}
    ).set_index("challenger")
    assert set(found["entity_id"]) == {"hill"}
    assert found["code"].to_dict() == {
        "best": "better",
        "good": "another_is_better",
        "same": "margin",
        "leaking": "leak",
    }
    assert found.loc["leaking", "detail"] == "it saw the end"
    assert judge(table, {}, 0.02, 60, RULES).empty


def test_more_questions_need_surer_answers() -> None:
    random = np.random.default_rng(5)
    old = 0.1 + 0.02 * random.uniform(size=60)
    new = old - 0.0025 + random.normal(0, 0.009, 60)
    alone = judge(_issues(old=old, new=new), {"hill": "old"}, 0.02, 60, RULES)
    assert alone["code"].tolist() == ["better"]
    useless = {f"noise_{number}": old + random.normal(0.001, 0.009, 60) for number in range(30)}
    among = judge(_issues(old=old, new=new, **useless), {"hill": "old"}, 0.02, 60, RULES).set_index("challenger")
    assert among.loc["new", "p_value"] == pytest.approx(alone["p_value"].iloc[0])
    assert among.loc["new", "p_adjusted"] > 10 * alone["p_adjusted"].iloc[0]


# --- leaks -------------------------------------------------------------------------------------------------------------


DAY = pd.Timedelta(days=1)


@pytest.mark.parametrize(
    ("fold", "run", "says"),
    [
        pytest.param({}, -1, None, id="honest"),
        pytest.param({"known_until": BEGIN + DAY}, -1, "had learnt from 2024-03-02", id="an outcome known later"),
        pytest.param({"trained_through": BEGIN + 3 * DAY}, -1, "had learnt from 2024-03-04", id="trained inside"),
        pytest.param({}, 1, "was made with the weather run of 2024-03-02", id="a later run"),
        pytest.param({"fold_end": BEGIN + DAY}, -1, "without a record of its training data", id="issues beyond its folds"),
    ],
)
def test_what_saw_too_much_is_found(fold: dict[str, Any], run: int, says: str | None) -> None:
    about = {"product_id": "p", "entity_id": "hill", "model": "m"}
    seen = pd.DataFrame(
        [about | {"fold_begin": BEGIN, "fold_end": BEGIN + 10 * DAY, "known_until": BEGIN, "trained_through": BEGIN - DAY} | fold]
    )
    issued = pd.DataFrame(
        [about | {"issued_at": BEGIN + number * DAY, "weather_run_at": BEGIN + (number + run) * DAY} for number in (0, 1)]
    )
    found = leaks(seen, issued)
    assert list(found) == ([] if says is None else [("p", "hill", "m")])
    assert says is None or says in found["p", "hill", "m"]


def test_who_says_nothing_is_not_believed() -> None:
    seen = pd.DataFrame(columns=["product_id", "entity_id", "model", "fold_begin", "fold_end", "known_until", "trained_through"])
    issued = pd.DataFrame([{"product_id": "p", "entity_id": "hill", "model": "m", "issued_at": BEGIN, "weather_run_at": BEGIN}])
    assert list(leaks(seen, issued)) == [("p", "hill", "m")]
