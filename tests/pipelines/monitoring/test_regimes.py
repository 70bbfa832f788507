"""A model that fell behind is told from weather that was harder, and the worst hours get the verdict of their cause."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import LiveJudgements, Outliers
from wind_kedro.pipelines.monitoring.nodes import judge_live
from wind_kedro.pipelines.monitoring.regimes import weather_of
from wind_kedro.pipelines.monitoring.settings import Monitoring

MONITORING = Monitoring(tolerance_share=0.1, min_intervals=40, min_issues=14)
LEADS = (60, 120, 180)


@dataclass(frozen=True)
class World:
    """Power is wind over 25 m/s, forecast with an error that grows with the wind; 60 days of backtest, then live."""

    forecasts: pd.DataFrame
    backtest: pd.DataFrame
    observations: pd.DataFrame
    features: pd.DataFrame
    clock: Clock


def _world(seed: int = 1, *, live_days: int = 40, stormy: float = 0.0, worse: float = 0.0) -> World:
    rng = np.random.default_rng(seed)
    issues = pd.date_range("2024-01-01 06:00", periods=60 + live_days, freq="1D", tz="UTC", unit="us")
    rows = pd.DataFrame([(at, lead) for at in issues for lead in LEADS], columns=["issued_at", "lead_minutes"])
    rows["valid_at"] = rows["issued_at"] + pd.to_timedelta(rows["lead_minutes"], unit="m")
    live = (rows["issued_at"] >= issues[60]).to_numpy()
    # Errors of one issue go together, as in life.
    wind = np.repeat(rng.uniform(3, 13, len(issues)), len(LEADS)) + rng.normal(0, 0.5, len(rows))
    wind = np.where(live & (rng.random(len(rows)) < stormy), wind.clip(min=11), wind)
    own = np.repeat(rng.normal(0, 1, len(issues)), len(LEADS)) + rng.normal(0, 1, len(rows))
    error = own * 0.004 * wind * np.where(live, 1 + worse, 1)
    actual = wind / 25
    keys = {"product_id": "hours", "entity_id": "hill"}
    median = (actual + error).clip(0, 1) * 3000
    table = rows.assign(
        **keys, model="champion", capacity_kw=3000.0, weather_run_at=rows["issued_at"], fallback="",
        weather=FORECAST_WEATHER, q100_kw=(median - 150).clip(lower=0) if isinstance(median, pd.Series) else median,
        q500_kw=median, q900_kw=median + 150,
    )  # fmt: skip
    table["q100_kw"] = (table["q500_kw"] - 150).clip(lower=0)
    # As the gate leaves it: the backtest ends where the live months begin.
    return World(
        forecasts=table[live].assign(model_version="1"),
        backtest=table[~live].assign(model_version="backtest"),
        observations=pd.DataFrame(
            {
                "entity_id": "hill", "granularity_minutes": 60, "valid_at": rows["valid_at"],
                "available_at": rows["valid_at"] + pd.Timedelta("70min"), "power_kw": actual * 3000,
                "available_capacity_kw": 3000.0, "metered_power_kw": actual * 3000, "wind_speed_ms": wind,
                "coverage_share": 1.0, "turbines": 3, "stopped_share": 0.0, "curtailed_share": 0.0, "imputed_share": 0.0,
                "method": "mean",
            }
        ),
        features=rows.assign(**keys, weather_run_at=rows["issued_at"], wind_speed_100m_ms=wind),
        clock=Clock.model_validate({"as_of": issues[-1] + pd.Timedelta("1D")}),
    )  # fmt: skip


def _judge(world: World, fleet: Fleet, monitoring: Monitoring = MONITORING) -> dict[Any, Any]:
    table = LiveJudgements.validate(
        judge_live(world.forecasts, world.backtest, world.observations, world.features, fleet, world.clock, monitoring)[0]
    )
    (row,) = table.to_dict("records")
    return row


def test_a_model_as_good_as_its_backtest_is_left_alone(fleet: Fleet) -> None:
    verdicts = [_judge(_world(seed), fleet)["verdict"] for seed in range(20)]
    assert "behind" not in verdicts


def test_a_model_that_fell_behind_is_found(fleet: Fleet) -> None:
    rows = [_judge(_world(seed, worse=1.0), fleet) for seed in range(10)]
    assert [row["verdict"] for row in rows] == ["behind"] * 10
    assert all(row["excess_share"] > 0.1 and row["p_value"] < 0.01 for row in rows)


def test_harder_weather_is_not_held_against_the_model(fleet: Fleet) -> None:
    rows = [_judge(_world(seed, stormy=0.9), fleet) for seed in range(10)]
    raw = [row["loss"] / row["backtest_loss"] - 1 for row in rows]
    assert np.median(raw) > 0.15, "the mean alone would have blamed the model"
    assert [row["verdict"] for row in rows].count("behind") == 0
    assert "weather" in [row["verdict"] for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"live_days": 10}, id="few issues"),
        pytest.param({"backtest": None}, id="no backtest"),
        pytest.param({"model": "other"}, id="backtest of another model"),
    ],
)
def test_too_little_is_no_verdict(fleet: Fleet, change: dict[str, Any]) -> None:
    world = _world(live_days=change.get("live_days", 40), worse=3.0)
    if "backtest" in change:
        world = replace(world, backtest=world.backtest.iloc[:0])
    if "model" in change:
        world = replace(world, backtest=world.backtest.assign(model="other"))
    assert _judge(world, fleet)["verdict"] == "unknown"


def test_what_a_fallback_issued_and_what_came_after_now_do_not_count(fleet: Fleet) -> None:
    world = _world(worse=3.0)
    half = world.forecasts["issued_at"] < world.forecasts["issued_at"].median()
    world = replace(world, forecasts=world.forecasts.assign(fallback=np.where(half, "climatology", "")))
    assert _judge(world, fleet)["issues"] == 20
    earlier = replace(world, clock=Clock.model_validate({"as_of": world.forecasts["issued_at"].iloc[-31]}))
    assert _judge(earlier, fleet)["issues"] < 20


@pytest.mark.parametrize(
    ("score", "loss"),
    [
        # An hour of 3 MW of which half is made; forecast were 20, 40 and 80 % at the levels .1, .5 and .9.
        ("pinball_share", (0.1 * 0.3 + 0.5 * 0.1 + 0.1 * 0.3) / 3),
        ("crps_share", 2 * (0.25 * 0.03 + 0.4 * 0.05 + 0.25 * 0.03)),  # trapezoids over 0, .1, .5, .9, 1
        ("nmae_share", 0.1),
        ("nrmse_share", 0.01),  # its square
        ("money_per_mwh", 0.1 * 3 * 5),  # 0.3 MWh more than sold, at 5 a MWh
    ],
)
def test_the_loss_is_that_of_the_deciding_score(cards: dict[str, Any], score: str, loss: float) -> None:
    cards["products"][0]["deciding_score"] = score
    world = _world()
    one = world.forecasts.iloc[:1].assign(q100_kw=600.0, q500_kw=1200.0, q900_kw=2400.0)
    observed = world.observations[world.observations["valid_at"].isin(one["valid_at"])].assign(power_kw=1500.0)
    row = _judge(replace(world, forecasts=one, observations=observed), Fleet.from_config(**cards))
    assert row["loss"] == pytest.approx(loss)


def test_a_ramp_is_the_steepest_change_to_a_neighbour_within_the_issue() -> None:
    at = pd.to_datetime(["2024-01-01 06:00"] * 3 + ["2024-01-02 06:00"], utc=True)
    features = pd.DataFrame(
        {
            "product_id": "hours", "entity_id": "hill", "issued_at": at, "valid_at": at + pd.to_timedelta([1, 2, 3, 1], unit="h"),
            "wind_speed_100m_ms": [5.0, 6.0, 9.0, 20.0],
        }
    )  # fmt: skip
    assert weather_of(features)["ramp_ms"].tolist()[:3] == [1.0, 3.0, 3.0]
    assert np.isnan(weather_of(features)["ramp_ms"].iloc[3])


# --- single hours ----------------------------------------------------------------------------------------------------


def _verdict(world: World, fleet: Fleet, change: dict[str, Any]) -> tuple[str, str]:
    """Of the live interval that is spoilt so."""
    spoilt = world.forecasts.index[30]
    at = world.forecasts.loc[spoilt, "valid_at"]
    forecasts, observations, features = (table.copy() for table in (world.forecasts, world.observations, world.features))
    forecasts.loc[spoilt, ["q100_kw", "q500_kw", "q900_kw"]] = change.pop("forecast_kw", 2400.0)
    for name, value in change.items():
        table = features if name == "wind_speed_100m_ms" else observations
        table.loc[table["valid_at"] == at, name] = value
    features = pd.concat([features, *change_later(features, at, change)], ignore_index=True)
    found = Outliers.validate(judge_live(forecasts, world.backtest, observations, features, fleet, world.clock, MONITORING)[1])
    (row,) = found[found["valid_at"] == at].to_dict("records")
    return row["verdict"], row["evidence"]


def change_later(features: pd.DataFrame, at: pd.Timestamp, change: dict[str, Any]) -> list[pd.DataFrame]:
    """A later issue that saw another wind for the same interval, if the case has one."""
    if "later" not in change:
        return []
    row = features[features["valid_at"] == at].iloc[:1]
    return [row.assign(issued_at=row["issued_at"] + pd.Timedelta("30min"), wind_speed_100m_ms=change["later"])]


@pytest.mark.parametrize(
    ("change", "verdict", "evidence"),
    [
        pytest.param({"coverage_share": 0.5}, "data", "only 50%", id="few turbines reported"),
        pytest.param({"curtailed_share": 0.4}, "availability", "40% curtailed", id="curtailed"),
        pytest.param(
            {"power_kw": 100.0, "wind_speed_ms": 12.0, "forecast_kw": 1440.0, "wind_speed_100m_ms": 12.0},
            "availability", "turbines held back", id="no power in plenty of wind",
        ),
        pytest.param(
            {"wind_speed_100m_ms": 24.0, "power_kw": 0.0, "wind_speed_ms": 3.0}, "storm", "wind of 24.0 m/s", id="storm"
        ),
        pytest.param(
            {"power_kw": 600.0, "wind_speed_ms": 5.0, "wind_speed_100m_ms": 13.0, "forecast_kw": 1560.0, "ramp": False},
            "weather", "5.0 m/s was measured", id="the wind forecast was wrong",
        ),
    ],
)  # fmt: skip
def test_the_worst_hours_get_the_verdict_of_their_cause(
    fleet: Fleet, change: dict[str, Any], verdict: str, evidence: str
) -> None:
    change = dict(change)
    world = _world()
    if change.pop("ramp", None) is False:  # its neighbours blow the same, so that nothing is steep
        issue = world.forecasts["issued_at"].iloc[30]
        features = world.features.copy()
        features.loc[features["issued_at"] == issue, "wind_speed_100m_ms"] = change["wind_speed_100m_ms"]
        world = replace(world, features=features)
    if verdict == "availability" and "power_kw" in change:
        issue = world.forecasts["issued_at"].iloc[30]
        features = world.features.copy()
        features.loc[features["issued_at"] == issue, "wind_speed_100m_ms"] = 12.0
        world = replace(world, features=features)
    found = _verdict(world, fleet, change)
    assert found[0] == verdict, found
    assert evidence in found[1]


def test_a_miss_in_usual_weather_is_the_models(fleet: Fleet) -> None:
    world = _world()
    issue = world.forecasts["issued_at"].iloc[30]
    same = {"wind_speed_100m_ms": 8.0}
    features = world.features.copy()
    features.loc[features["issued_at"] == issue, "wind_speed_100m_ms"] = 8.0
    verdict, evidence = _verdict(
        replace(world, features=features),
        fleet,
        same | {"power_kw": 960.0, "wind_speed_ms": 8.0, "forecast_kw": 2400.0},
    )
    assert verdict == "model"
    assert "+48%" in evidence


def test_only_the_worst_are_kept_and_each_hour_once(fleet: Fleet) -> None:
    world = _world(worse=6.0)
    twice = pd.concat([world.forecasts, world.forecasts.assign(issued_at=world.forecasts["issued_at"] - pd.Timedelta("1h"))])
    few = MONITORING.model_copy(update={"outliers": MONITORING.outliers.model_copy(update={"per_entity": 5})})
    _, found = judge_live(twice, world.backtest, world.observations, world.features, fleet, world.clock, few)
    assert len(Outliers.validate(found)) == 5
    assert found["valid_at"].is_unique
