"""Every score against a case worked by hand, then the table: joins, versions, buckets, pairing."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import CardError, Fleet, Penalty, RuleChange
from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, quantile_columns
from wind_kedro.evaluation.scores import (
    METRICS,
    central_bands,
    crps_from_pinball,
    deviation_cost,
    inside_band,
    percentage_error,
    pinball_loss,
    ramp_direction,
    score_forecasts,
    skill,
)
from wind_kedro.evaluation.settings import ScoreRules

LEVELS = [0.1, 0.5, 0.9]
CAPACITY_KW = 1000.0
MIDNIGHT = pd.Timestamp("2024-01-01T00:00:00Z")


# --- scores of single intervals ---


@pytest.mark.parametrize(
    ("actual", "quantile", "level", "loss"),
    [
        pytest.param(0.5, 0.3, 0.9, 0.18, id="too low at a high level: 0.9 · 0.2"),
        pytest.param(0.3, 0.5, 0.9, 0.02, id="too high at a high level: 0.1 · 0.2"),
        pytest.param(0.5, 0.3, 0.5, 0.10, id="the median: half the absolute error"),
        pytest.param(0.4, 0.4, 0.1, 0.00, id="exact"),
    ],
)
def test_pinball(actual: float, quantile: float, level: float, loss: float) -> None:
    assert pinball_loss(np.array([actual]), np.array([[quantile]]), [level])[0, 0] == pytest.approx(loss)


def test_crps_by_hand() -> None:
    # Loss 0 at 0, .02 at .1, .1 at .5, .06 at .9, 0 at 1:
    # twice .1·(0+.02)/2 + .4·(.02+.1)/2 + .4·(.1+.06)/2 + .1·(.06+0)/2 = 2 · .06
    assert crps_from_pinball(np.array([[0.02, 0.1, 0.06]]), LEVELS)[0] == pytest.approx(0.12)


def test_crps_of_a_uniform_forecast_is_the_closed_form() -> None:
    # Forecast uniform on 0..1, actual y: CRPS = y² − y + 1/3 (Jordan, Krüger and Lerch, J. Stat. Software 90, 2019).
    levels = np.arange(1, 1000) / 1000
    actual = np.array([0.0, 0.25, 0.9])
    pinball = pinball_loss(actual, np.tile(levels, (3, 1)), list(levels))
    np.testing.assert_allclose(crps_from_pinball(pinball, list(levels)), actual**2 - actual + 1 / 3, atol=1e-5)


def test_percentage_error_counts_only_above_the_floor() -> None:
    errors = percentage_error(np.array([0.3, 0.3, 0.3]), np.array([0.2, 0.05, 0.0]), floor=0.05)
    np.testing.assert_allclose(errors, [0.5, np.nan, np.nan])


def test_a_band_is_closed() -> None:
    actual = np.array([0.0, 0.1, 0.2, 0.3])
    assert inside_band(actual, np.full(4, 0.0), np.full(4, 0.2)).tolist() == [True, True, True, False]


def test_a_farm_that_draws_a_little_power_is_inside_a_band_that_reaches_down_to_nothing() -> None:
    actual = np.array([-0.01, -0.01, 1.02])
    assert inside_band(actual, np.array([0.0, 0.1, 0.9]), np.array([0.2, 0.2, 1.0])).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("levels", "bands"),
    [
        pytest.param([0.05, 0.25, 0.5, 0.75, 0.95], [(0, 4, 0.9), (1, 3, 0.5)], id="two bands"),
        pytest.param([0.1, 0.5, 0.8], [], id="nothing symmetric"),
        pytest.param([0.1, 0.5, 0.9], [(0, 2, 0.8)], id="1 − 0.9 is not 0.1 in binary"),
    ],
)
def test_central_bands(levels: list[float], bands: list[tuple[int, int, float]]) -> None:
    assert central_bands(levels) == bands


def test_ramps_have_a_direction() -> None:
    change = np.array([0.3, 0.29, -0.3, -0.8, np.nan, 0.7 - 0.4])
    assert ramp_direction(change, 0.3).tolist() == [1, 0, -1, -1, 0, 1]


IMBALANCE = Penalty(kind="imbalance", short_per_mwh=12, long_per_mwh=8)
BANDS = Penalty.model_validate(
    {
        "kind": "bands",
        "bands": [
            {"up_to_share": 0.1, "rate_per_mwh": 0},
            {"up_to_share": 0.2, "rate_per_mwh": 10},
            {"up_to_share": 0.3, "rate_per_mwh": 20},
        ],
    }
)


@pytest.mark.parametrize(
    ("penalty", "deviation", "cost"),
    [
        pytest.param(IMBALANCE, -0.5, 60.0, id="short: 5 MWh at 12"),
        pytest.param(IMBALANCE, 0.5, 40.0, id="long: 5 MWh at 8"),
        pytest.param(BANDS, 0.1, 0.0, id="within the free band"),
        pytest.param(BANDS, -0.15, 5.0, id="half a MWh in the second band at 10, whatever its sign"),
        pytest.param(BANDS, 0.25, 20.0, id="one MWh at 10 and half a MWh at 20"),
        pytest.param(BANDS, 0.5, 70.0, id="one MWh at 10 and three at 20: beyond the last band its rate goes on"),
    ],
)
def test_money(penalty: Penalty, deviation: float, cost: float) -> None:
    assert deviation_cost(penalty, np.array([deviation]), np.array([10.0]))[0] == pytest.approx(cost)


def test_skill() -> None:
    np.testing.assert_allclose(skill(np.array([0.05, 0.2, 0.1]), np.array([0.1, 0.1, 0.0])), [0.5, -1.0, np.nan])


# --- the table ---


def a_fleet(
    granularity: int = 60,
    settlement: int = 60,
    penalty: Penalty = IMBALANCE,
    levels: list[float] | None = None,
    point: str | float = "median",
) -> Fleet:
    farm = {
        "id": "hill",
        "name": "Hill",
        "latitude_deg": 20.0,
        "longitude_deg": 75.0,
        "time_zone": "Asia/Kolkata",
        "capacity_kw": CAPACITY_KW,
        "turbines": [{"id": "T1", "rated_power_kw": CAPACITY_KW, "hub_height_m": 80}],
        "latency_minutes": 10,
        "signals": {
            "path": "hill.csv",
            "timestamp": "time",
            "turbine": "turbine",
            "cadence_seconds": 600,
            "columns": {"power_kw": {"name": "power", "unit": "kW"}},
        },
        "weather": [
            {
                "path": "weather.csv",
                "model": "ifs",
                "kind": "analysis",
                "valid_at": "time",
                "delay_minutes": 360,
                "length_hours": 48,
                "columns": {"wind_speed_100m_ms": {"name": "ws", "unit": "m/s"}},
            }
        ],
    }
    market = {
        "id": "market",
        "name": "Market",
        "time_zone": "Asia/Kolkata",
        "settlement_minutes": settlement,
        "gate_closure_minutes": 60,
        "currency": "EUR",
        "penalty": penalty.model_dump(),
    }
    product = {
        "id": "product",
        "name": "Product",
        "market": "market",
        "granularity_minutes": granularity,
        "horizon_minutes": 1440,
        "issue_times": ["00:00"],
        "quantile_levels": levels or LEVELS,
        "point": point,
        "deciding_score": "pinball_share",
        "goal": {"target": 0.1, "since": "2024-01-01"},
        "members": ["hill"],
    }
    return Fleet.from_config([farm], [market], [product])


def forecasts_of(
    medians: list[float],
    *,
    model: str = "mine",
    issued_at: pd.Timestamp = MIDNIGHT,
    granularity: int = 60,
    half_band: float = 0.1,
    capacity_kw: float = CAPACITY_KW,
    weather: str = FORECAST_WEATHER,
) -> pd.DataFrame:
    """One issue: medians as shares, the 80 % band ``half_band`` to either side."""
    lead = np.arange(len(medians)) * granularity
    shares = np.array(medians)[:, None] + [-half_band, 0, half_band]
    frame = pd.DataFrame(
        {
            "product_id": "product",
            "entity_id": "hill",
            "model": model,
            "model_version": "backtest",
            "issued_at": issued_at,
            "valid_at": issued_at + pd.to_timedelta(lead, unit="min"),
            "lead_minutes": lead,
            "capacity_kw": capacity_kw,
            "weather_run_at": issued_at,
            "fallback": "",
            "weather": weather,
        }
    )
    frame[quantile_columns(LEVELS)] = shares.clip(0, 1) * capacity_kw
    return frame


def observed(
    shares: list[float],
    *,
    start: pd.Timestamp = MIDNIGHT,
    granularity: int = 60,
    capacity_kw: float = CAPACITY_KW,
    delay: str = "70min",
) -> pd.DataFrame:
    valid_at = start + pd.to_timedelta(np.arange(len(shares)) * granularity, unit="min")
    return pd.DataFrame(
        {
            "entity_id": "hill",
            "granularity_minutes": granularity,
            "valid_at": valid_at,
            "available_at": valid_at + pd.Timedelta(delay),
            "power_kw": np.array(shares) * capacity_kw,
            "available_capacity_kw": capacity_kw,
            "wind_speed_ms": 8.0,
            "coverage_share": 1.0,
            "turbines": 1,
            "imputed_share": 0.0,
            "method": "mean",
        }
    )


def value(
    scores: pd.DataFrame,
    metric: str,
    level: float | None = None,
    model: str = "mine",
    bucket: tuple[int, int] = (0, 1440),
) -> float:
    """The one value of that metric; fails if there is none or more than one."""
    rows = scores.loc[
        (scores["metric"] == metric)
        & (scores["model"] == model)
        & (scores["lead_from_minutes"] == bucket[0])
        & (scores["lead_to_minutes"] == bucket[1])
        & (scores["level"].isna() if level is None else np.isclose(scores["level"], level if level is not None else 0))
    ]
    assert len(rows) == 1, rows
    return float(rows["value"].iloc[0])


MEDIANS, ACTUALS = [0.4, 0.5, 0.6, 0.02], [0.4, 0.7, 0.3, 0.0]
#: median − actual: 0, −0.2, 0.3, 0.02


@pytest.fixture(scope="module")
def four_hours() -> pd.DataFrame:
    return score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(), [])


@pytest.mark.parametrize(
    ("metric", "level", "expected"),
    [
        ("nmae_share", None, (0 + 0.2 + 0.3 + 0.02) / 4),
        ("nrmse_share", None, np.sqrt((0 + 0.04 + 0.09 + 0.0004) / 4)),
        ("bias_share", None, (0 - 0.2 + 0.3 + 0.02) / 4),
        ("mape_share", None, (0 + 0.2 / 0.7 + 0.3 / 0.3) / 3),  # the calm hour does not count
        ("mae_kw", None, 130.0),
        ("rmse_kw", None, 1000 * np.sqrt(0.1304 / 4)),
        ("pinball_share", 0.5, 0.065),
        # q10 is 0.3, 0.4, 0.5, 0: losses 0.1·0.1, 0.1·0.3, 0.9·0.2, 0
        ("pinball_share", 0.1, (0.01 + 0.03 + 0.18 + 0) / 4),
        # q90 is 0.5, 0.6, 0.7, 0.12: losses 0.1·0.1, 0.9·0.1, 0.1·0.4, 0.1·0.12
        ("pinball_share", 0.9, (0.01 + 0.09 + 0.04 + 0.012) / 4),
        ("pinball_share", None, (0.055 + 0.065 + 0.038) / 3),
        # weights of the trapezoid: (0.5 − 0)/2, (0.9 − 0.1)/2, (1 − 0.5)/2
        ("crps_share", None, 2 * (0.25 * 0.055 + 0.4 * 0.065 + 0.25 * 0.038)),
        ("coverage", 0.8, 2 / 4),  # hours one and four
        ("width_share", 0.8, (0.2 + 0.2 + 0.2 + 0.12) / 4),
        ("observed_frequency", 0.1, 2 / 4),  # 0.3 ≤ 0.5 and 0 ≤ 0
        ("observed_frequency", 0.5, 3 / 4),
        ("observed_frequency", 0.9, 3 / 4),
        # short 0.3 and 0.02 MWh at 12, long 0.2 MWh at 8, over 1.4 MWh produced
        ("money_per_mwh", None, (0.32 * 12 + 0.2 * 8) / 1.4),
    ],
)
def test_scores_by_hand(four_hours: pd.DataFrame, metric: str, level: float | None, expected: float) -> None:
    assert value(four_hours, metric, level) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("point", "errors"),
    [
        # Bands reach 0.1 to either side, but for the last hour, of 0, 0.02 and 0.12, whose mean is 0.3 · (0 + 0.12) + 0.4 · 0.02.
        pytest.param("mean", [0, -0.2, 0.3, 0.044], id="mean"),
        pytest.param(0.9, [0.1, -0.1, 0.4, 0.12], id="a level"),
    ],
)
def test_the_number_that_is_sold_is_judged(point: str | float, errors: list[float]) -> None:
    scores = score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(point=point), [])
    assert value(scores, "nmae_share") == pytest.approx(np.abs(errors).mean())
    assert value(scores, "nrmse_share") == pytest.approx(np.sqrt(np.square(errors).mean()))
    assert value(scores, "bias_share") == pytest.approx(np.mean(errors))
    assert value(scores, "pinball_share", 0.5) == pytest.approx(0.065)


def test_counts(four_hours: pd.DataFrame) -> None:
    n = four_hours.loc[four_hours["level"].isna()].set_index("metric")["n"]
    assert (n["nmae_share"], n["mape_share"], n["ramp_hit_rate"]) == (4, 3, 0)


def test_every_metric_is_described_and_every_description_has_its_metric() -> None:
    both = [forecasts_of(MEDIANS, model=name) for name in ("mine", "persistence", "climatology")]
    scores = score_forecasts(pd.concat(both), observed(ACTUALS), a_fleet(), [])
    assert set(scores["metric"]) == set(METRICS)


def test_power_is_measured_by_the_capacity_that_was_available() -> None:
    # Half the farm reported 200 of 500 kW; the forecast of 400 of 1000 kW was right.
    scores = score_forecasts(forecasts_of([0.4]), observed([0.4], capacity_kw=500), a_fleet(), [])
    assert value(scores, "nmae_share") == pytest.approx(0)
    scores = score_forecasts(forecasts_of([0.5]), observed([0.4], capacity_kw=500), a_fleet(), [])
    assert value(scores, "mae_kw") == pytest.approx(50)  # kW of what was there


def test_the_latest_version_known_then_counts() -> None:
    first, revised = observed([0.4]), observed([0.5], delay="10D")
    versions = pd.concat([revised, first])
    at = {
        None: 0.0,
        dt.datetime(2024, 1, 2, tzinfo=dt.UTC): 0.1,
        dt.datetime(2024, 1, 11, tzinfo=dt.UTC): 0.0,
    }
    found = {as_of: score_forecasts(forecasts_of([0.5]), versions, a_fleet(), [], as_of=as_of) for as_of in at}
    assert {as_of: value(scores, "nmae_share") for as_of, scores in found.items()} == pytest.approx(at)


def test_what_was_not_observed_yet_is_not_scored() -> None:
    as_of = dt.datetime(2024, 1, 1, 3, 0, tzinfo=dt.UTC)  # hours 0 and 1 have come in
    scores = score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(), [], as_of=as_of)
    assert scores.loc[scores["metric"] == "nmae_share", "n"].to_list() == [2]


def test_another_granularity_is_not_an_observation_of_this_product() -> None:
    quarters = observed([0.9] * 4, granularity=15)
    scores = score_forecasts(forecasts_of([0.4]), pd.concat([quarters, observed([0.4])]), a_fleet(), [])
    assert value(scores, "nmae_share") == pytest.approx(0)


def test_buckets_are_half_open_and_the_whole_horizon_is_there_once() -> None:
    scores = score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(), [0, 60, 180, 600, 1440])
    found = {
        (row.lead_from_minutes, row.lead_to_minutes): (round(row.value, 6), row.n)
        for row in scores.loc[scores["metric"] == "nmae_share"].itertuples()
    }
    assert found == {(0, 60): (0, 1), (60, 180): (0.25, 2), (180, 600): (0.02, 1), (0, 1440): (0.13, 4)}
    scores = score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(), [0, 1440])
    assert (scores["metric"] == "nmae_share").sum() == 1


def test_the_last_bucket_is_half_open_too() -> None:
    scores = score_forecasts(forecasts_of(MEDIANS), observed(ACTUALS), a_fleet(), [60, 120])
    assert value(scores, "nmae_share", bucket=(60, 120)) == pytest.approx(0.2)


def test_beyond_the_products_horizon_nothing_is_scored() -> None:
    long = forecasts_of([0.5] * 26)
    scores = score_forecasts(long, observed([0.5] * 26), a_fleet(), [0, 1440, 2880])
    assert scores["lead_to_minutes"].max() == 1440
    assert scores.loc[scores["metric"] == "nmae_share", "n"].to_list() == [24]


@pytest.mark.parametrize(
    ("by", "periods"),
    [("all", ["all"]), ("month", ["2024-01", "2024-02"]), ("day", ["2024-01-01", "2024-01-31", "2024-02-01"])],
)
def test_periods_are_those_of_issue(by: str, periods: list[str]) -> None:
    issues = [MIDNIGHT, pd.Timestamp("2024-01-31T23:00:00Z"), pd.Timestamp("2024-02-01T00:00:00Z")]
    forecasts = pd.concat([forecasts_of([0.5, 0.5], issued_at=issue) for issue in issues])
    scores = score_forecasts(forecasts, observed([0.5] * 24 * 40), a_fleet(), [], by=by)
    assert scores["period"].unique().tolist() == periods


def test_models_are_compared_on_the_intervals_they_share() -> None:
    mine, other = forecasts_of([0.5, 0.5, 0.5]), forecasts_of([0.1], model="other")
    forecasts, truth = pd.concat([mine, other]), observed([0.5, 0.9, 0.9])
    scores = score_forecasts(forecasts, truth, a_fleet(), [])
    assert scores.loc[scores["metric"] == "nmae_share", "n"].to_list() == [1, 1]
    assert value(scores, "nmae_share") == pytest.approx(0)
    alone = score_forecasts(forecasts, truth, a_fleet(), [], paired=False)
    assert value(alone, "nmae_share") == pytest.approx(0.8 / 3)


def test_a_row_without_a_declared_quantile_is_scored_for_nobody() -> None:
    mine, other = forecasts_of([0.5, 0.5]), forecasts_of([0.5, 0.5], model="other")
    other.loc[1, "q900_kw"] = np.nan
    scores = score_forecasts(pd.concat([mine, other]), observed([0.5, 0.9]), a_fleet(), [])
    assert scores.loc[scores["metric"] == "nmae_share", "n"].to_list() == [1, 1]


def test_models_that_share_nothing_are_said_to(caplog: pytest.LogCaptureFixture) -> None:
    mine = forecasts_of([0.5])
    other = forecasts_of([0.5], model="other", issued_at=MIDNIGHT + pd.Timedelta("1h"))
    scores = score_forecasts(pd.concat([mine, other]), observed([0.5] * 3), a_fleet(), [])
    assert scores.empty
    assert "product, hill: no interval has a forecast of each of mine, other" in caplog.text


def test_skill_against_the_references() -> None:
    forecasts = pd.concat(
        [
            forecasts_of([0.5, 0.5]),
            forecasts_of([0.3, 0.3], model="persistence"),
            forecasts_of([0.2, 0.2], model="climatology"),
        ]
    )
    scores = score_forecasts(forecasts, observed([0.6, 0.6]), a_fleet(), [])
    assert value(scores, "skill_nmae_vs_persistence") == pytest.approx(1 - 0.1 / 0.3)
    assert value(scores, "skill_nmae_vs_climatology") == pytest.approx(1 - 0.1 / 0.4)
    assert value(scores, "skill_nmae_vs_persistence", model="persistence") == pytest.approx(0)
    mine, reference = (value(scores, "pinball_share", model=model) for model in ("mine", "climatology"))
    assert value(scores, "skill_pinball_vs_climatology") == pytest.approx(1 - mine / reference)
    unpaired = score_forecasts(forecasts, observed([0.6, 0.6]), a_fleet(), [], paired=False)
    assert not unpaired["metric"].str.startswith("skill").any()


def test_skill_is_taken_in_its_own_bucket_and_period() -> None:
    forecasts = pd.concat([forecasts_of([0.5, 0.5]), forecasts_of([0.3, 0.4], model="persistence")])
    scores = score_forecasts(forecasts, observed([0.6, 0.6]), a_fleet(), [0, 60, 120], by="day")
    assert value(scores, "skill_nmae_vs_persistence", bucket=(0, 60)) == pytest.approx(1 - 0.1 / 0.3)
    assert value(scores, "skill_nmae_vs_persistence", bucket=(60, 120)) == pytest.approx(1 - 0.1 / 0.2)


@pytest.mark.parametrize(
    ("median", "actual", "hits", "false_alarms"),
    [
        pytest.param([0.1, 0.5, 0.5], [0.1, 0.5, 0.5], 1.0, 0.0, id="it came as forecast"),
        pytest.param([0.1, 0.1, 0.5], [0.1, 0.5, 0.5], 0.0, 1.0, id="an hour late"),
        pytest.param([0.5, 0.1, 0.1], [0.1, 0.5, 0.5], 0.0, 1.0, id="the wrong way"),
        pytest.param([0.3, 0.3, 0.3], [0.1, 0.5, 0.5], 0.0, None, id="none forecast"),
        pytest.param([0.1, 0.5, 0.5], [0.3, 0.3, 0.3], None, 1.0, id="none came"),
    ],
)
def test_ramps(median: list[float], actual: list[float], hits: float | None, false_alarms: float | None) -> None:
    rules = ScoreRules(ramp_share=0.3, ramp_minutes=60)
    scores = score_forecasts(forecasts_of(median), observed(actual), a_fleet(), [], rules=rules)
    expected = [np.nan if share is None else share for share in (hits, false_alarms)]
    found = [value(scores, metric) for metric in ("ramp_hit_rate", "ramp_false_alarm_ratio")]
    np.testing.assert_allclose(found, expected)


def test_a_ramp_lies_on_the_path_of_one_issue() -> None:
    # Each issue is flat; only from one issue to the next does the forecast jump.
    later = MIDNIGHT + pd.Timedelta("1h")
    forecasts = pd.concat([forecasts_of([0.1, 0.1]), forecasts_of([0.9, 0.9], issued_at=later)])
    rules = ScoreRules(ramp_minutes=60)
    scores = score_forecasts(forecasts, observed([0.1] * 3), a_fleet(), [], rules=rules)
    assert scores.loc[scores["metric"] == "ramp_false_alarm_ratio", "n"].to_list() == [0]


def test_a_gap_in_the_path_is_no_ramp() -> None:
    observations = observed([0.1, 0.1, 0.9]).drop(index=1)
    rules = ScoreRules(ramp_minutes=60)
    scores = score_forecasts(forecasts_of([0.1, 0.1, 0.9]), observations, a_fleet(), [], rules=rules)
    assert scores.loc[scores["metric"] == "ramp_hit_rate", "n"].to_list() == [0]


def test_deviations_within_a_settled_interval_offset_each_other() -> None:
    # Clocks in India are 30 minutes off the UTC hour: the settled hours are [23:30, 00:30) and [00:30, 01:30) UTC.
    # Quarters: +0.2, −0.2 | 0.4 long, 0, 0, 0. The first two cancel, the rest is 0.1 MWh long, at 8; 0.85 MWh are made.
    medians, actuals = [0.5] * 6, [0.7, 0.3, 0.9, 0.5, 0.5, 0.5]
    fleet = a_fleet(granularity=15, settlement=60)
    scores = score_forecasts(forecasts_of(medians, granularity=15), observed(actuals, granularity=15), fleet, [0, 30, 90])
    assert value(scores, "money_per_mwh", bucket=(0, 30)) == pytest.approx(0)
    assert value(scores, "money_per_mwh") == pytest.approx(0.1 * 8 / 0.85)
    alone = score_forecasts(forecasts_of(medians, granularity=15), observed(actuals, granularity=15), a_fleet(15, 15), [])
    assert value(alone, "money_per_mwh") == pytest.approx((0.05 * 8 + 0.05 * 12 + 0.1 * 8) / 0.85)


def test_each_interval_costs_what_the_rules_of_its_day_say() -> None:
    # In India 2 January begins at 18:30 UTC: of two quarters at 0.1 MWh short, the first costs 12 a MWh, the second 30.
    start = pd.Timestamp("2024-01-01T18:15:00Z")
    change = RuleChange(valid_from=dt.date(2024, 1, 2), penalty=Penalty(kind="imbalance", short_per_mwh=30))
    fleet = a_fleet(granularity=15, settlement=15)
    market = fleet.markets[0].model_copy(update={"changes": [change]})
    dated = fleet.model_copy(update={"markets": [market]})
    tables = forecasts_of([0.9, 0.9], granularity=15, issued_at=start), observed([0.5, 0.5], granularity=15, start=start)
    assert value(score_forecasts(*tables, fleet, []), "money_per_mwh") == pytest.approx(2 * 0.1 * 12 / 0.25)
    assert value(score_forecasts(*tables, dated, []), "money_per_mwh") == pytest.approx(0.1 * (12 + 30) / 0.25)


def test_money_where_nothing_was_produced_is_unknown() -> None:
    assert np.isnan(value(score_forecasts(forecasts_of([0.5]), observed([0.0]), a_fleet(), []), "money_per_mwh"))


def test_one_interval_of_perfect_weather_labels_the_score() -> None:
    tomorrow = MIDNIGHT + pd.Timedelta("1D")
    forecasts = pd.concat([forecasts_of([0.5]), forecasts_of([0.5], issued_at=tomorrow, weather=PERFECT_WEATHER)])
    scores = score_forecasts(forecasts, observed([0.5] * 48), a_fleet(), [])
    assert set(scores["weather"]) == {PERFECT_WEATHER}
    daily = score_forecasts(forecasts, observed([0.5] * 48), a_fleet(), [], by="day")
    assert daily.groupby("period")["weather"].unique().str[0].to_dict() == {
        "2024-01-01": FORECAST_WEATHER,
        "2024-01-02": PERFECT_WEATHER,
    }


def test_the_key_of_the_table_is_unique() -> None:
    forecasts = pd.concat([forecasts_of(MEDIANS), forecasts_of(MEDIANS, model="climatology")])
    scores = score_forecasts(forecasts, observed(ACTUALS), a_fleet(), [0, 60, 120, 1440])
    key = scores.columns.difference(["value", "n", "weather"]).to_list()
    assert not scores.duplicated(key).any()


@pytest.mark.parametrize("forecasts", [forecasts_of([0.5]).iloc[:0], forecasts_of([0.5])], ids=["no forecasts", "no truth"])
def test_nothing_to_score_gives_an_empty_table(forecasts: pd.DataFrame) -> None:
    scores = score_forecasts(forecasts, observed([0.5]).iloc[:0], a_fleet(), [0, 60])
    assert scores.empty
    assert "metric" in scores


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        pytest.param({"lead_edges_minutes": [60, 0]}, ValueError, "must rise", id="edges that fall"),
        pytest.param({"lead_edges_minutes": [-60, 0]}, ValueError, "from 0", id="an edge before issue"),
        pytest.param({"by": "week"}, ValueError, "'week'", id="an unknown period"),
        pytest.param({"forecasts": forecasts_of([0.5]).assign(product_id="x")}, CardError, "no product 'x'", id="no card"),
        pytest.param(
            {"forecasts": forecasts_of([0.5]).drop(columns="q900_kw")},
            ValueError,
            "lack q900_kw",
            id="a level is missing",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict[str, object], error: type[Exception], says: str) -> None:
    given = {"forecasts": forecasts_of([0.5]), "observations": observed([0.5]), "lead_edges_minutes": []} | change
    with pytest.raises(error, match=says):
        score_forecasts(fleet=a_fleet(), **given)


def test_inputs_stay_as_they_were() -> None:
    forecasts, observations = forecasts_of(MEDIANS), observed(ACTUALS)
    before = forecasts.copy(), observations.copy()
    score_forecasts(forecasts, observations, a_fleet(), [0, 60])
    pd.testing.assert_frame_equal(forecasts, before[0])
    pd.testing.assert_frame_equal(observations, before[1])


@pytest.mark.parametrize("models", [2, 3])
def test_scores_are_the_same_whoever_else_is_scored(models: int) -> None:
    rng = np.random.default_rng(models)
    actuals = rng.uniform(size=24)
    names = ["mine", "other", "climatology"][:models]
    forecasts = pd.concat([forecasts_of(list(rng.uniform(size=24)), model=name) for name in names])
    together = score_forecasts(forecasts.sample(frac=1, random_state=0), observed(list(actuals)), a_fleet(), [0, 360])
    mine = score_forecasts(forecasts.loc[forecasts["model"] == "mine"], observed(list(actuals)), a_fleet(), [0, 360])
    in_both = together.loc[(together["model"] == "mine") & ~together["metric"].str.startswith("skill")]
    pd.testing.assert_frame_equal(in_both.reset_index(drop=True), mine.reset_index(drop=True))
