"""What is particular to a family, on tables small enough to check by hand."""

import numpy as np
import pandas as pd
import pytest

from wind_kedro.models.base import Forecaster
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tabular import blocks_of_time

LEVELS = [0.1, 0.5, 0.9]


def fitted(kind: str, columns: dict[str, object], power: object, **params: object) -> Forecaster:
    model = build(kind, ModelConfig(type=kind, params=params), LEVELS, seed=0)
    table = pd.DataFrame(columns)
    return model.fit(table, pd.Series(power, dtype=float))


# --- climatology ---


def test_climatology_knows_the_hour_and_falls_back_to_all() -> None:
    # Hour 6: always 0.2. Hour 18: always 0.6. Hour 3: one row of 1.0, too few to speak for itself.
    hours = [6.0] * 4 + [18.75] * 4 + [3.0]
    model = fitted("climatology", {"hour_of_day": hours}, [0.2] * 4 + [0.6] * 4 + [1.0], min_rows=4)
    median = model.predict(pd.DataFrame({"hour_of_day": [6.0, 6.5, 18.0, 3.0, 23.0, np.nan]}))[:, 1]
    np.testing.assert_allclose(median, [0.2, 0.2, 0.6, 0.6, 0.6, 0.6])


def test_climatology_gives_empirical_quantiles() -> None:
    # Type 8 of Hyndman and Fan on 1..9 tenths: position p·(n + 1/3) + 1/3 = 1.2667, 5, 8.7333.
    power = np.arange(1, 10) / 10
    model = fitted("climatology", {"hour_of_day": [0.0] * 9}, power, min_rows=1)
    expected = [[0.1 + 0.26666667 / 10, 0.5, 0.9 - 0.26666667 / 10]]
    np.testing.assert_allclose(model.predict(pd.DataFrame({"hour_of_day": [0.0]})), expected)


# --- persistence ---


def persistence_rows(lead: list[int], last: list[float]) -> dict[str, object]:
    return {"lead_minutes": lead, "last_power_share": last, "hour_of_day": [12.0] * len(lead)}


def test_persistence_says_what_was_and_widens_with_lead_time() -> None:
    # At lead 0 errors are −0.01, 0, 0.01; at lead 60 they are −0.2, 0, 0.2.
    error = [-0.01, 0.0, 0.01, -0.2, 0.0, 0.2]
    rows = persistence_rows([0, 0, 0, 60, 60, 60], [0.5] * 6)
    model = fitted("persistence", rows, 0.5 + np.array(error), lead_edges_minutes=[0, 60], min_rows=3)
    answer = model.predict(pd.DataFrame(persistence_rows([0, 59, 60, 5000], [0.4] * 4)))
    expected = [[0.39, 0.4, 0.41], [0.39, 0.4, 0.41], [0.2, 0.4, 0.6], [0.2, 0.4, 0.6]]
    np.testing.assert_allclose(answer, expected, atol=1e-12)


def test_the_median_of_persistence_is_the_last_power_even_if_power_rose_on_average() -> None:
    rows = persistence_rows([0] * 5, [0.3] * 5)
    model = fitted("persistence", rows, [0.4, 0.42, 0.44, 0.46, 0.48], min_rows=1)
    lower, median, upper = model.predict(pd.DataFrame(persistence_rows([0], [0.3])))[0]
    assert median == pytest.approx(0.3)
    assert lower == pytest.approx(0.3)  # what never happened below is not spread below
    assert upper > 0.45


def test_persistence_without_a_last_power_is_climatology() -> None:
    rows = persistence_rows([0] * 4, [0.5] * 4)
    model = fitted("persistence", rows, [0.1, 0.2, 0.3, 0.4], min_rows=1)
    assert model.predict(pd.DataFrame(persistence_rows([0], [np.nan])))[0, 1] == pytest.approx(0.25)


# --- power curve ---


def curve_rows(speed: object, **columns: object) -> dict[str, object]:
    return {"wind_speed_density_ms": speed, "hour_of_day": np.full(len(np.atleast_1d(speed)), 12.0), **columns}


def test_power_curve_is_the_quantiles_of_the_bin_in_straight_lines_between() -> None:
    # Bin 5.0–5.5 at mean speed 5.2: medians 0.2; bin 7.0–7.5 at mean speed 7.2: median 0.6.
    speed = [5.1, 5.2, 5.3, 7.1, 7.2, 7.3]
    model = fitted("power_curve", curve_rows(speed), [0.1, 0.2, 0.3, 0.5, 0.6, 0.7], min_rows=3)
    median = model.predict(pd.DataFrame(curve_rows([3.0, 5.2, 6.2, 7.2, 12.0])))[:, 1]
    np.testing.assert_allclose(median, [0.2, 0.2, 0.4, 0.6, 0.6])


def test_more_wind_is_never_less_power_up_to_cut_out() -> None:
    # The dip at 9 m/s is levelled with its neighbour (mean of 0.8 and 0.6); beyond cut-out the stop is kept.
    speed = [7.0, 8.0, 9.0, 26.0]
    model = fitted("power_curve", curve_rows(speed), [0.5, 0.8, 0.6, 0.0], min_rows=1)
    median = model.predict(pd.DataFrame(curve_rows(speed)))[:, 1]
    np.testing.assert_allclose(median, [0.5, 0.7, 0.7, 0.0], atol=1e-12)


def test_a_bin_with_few_rows_is_bridged() -> None:
    speed = [5.1, 5.1, 6.1, 7.1, 7.1]
    model = fitted("power_curve", curve_rows(speed), [0.2, 0.2, 0.9, 0.4, 0.4], min_rows=2)
    assert model.predict(pd.DataFrame(curve_rows([6.1])))[0, 1] == pytest.approx(0.3)


def test_where_density_is_not_known_plain_wind_speed_counts_and_else_climatology() -> None:
    speed = np.repeat([5.1, 7.1], 3)
    model = fitted("power_curve", curve_rows(speed), [0.2] * 3 + [0.6] * 3, min_rows=3)
    asked = pd.DataFrame(curve_rows([np.nan, np.nan], wind_speed_100m_ms=[7.1, np.nan]))
    np.testing.assert_allclose(model.predict(asked)[:, 1], [0.6, 0.4])


# --- catboost ---


def test_catboost_does_not_learn_from_what_came() -> None:
    rng = np.random.default_rng(0)
    power = rng.uniform(size=200)
    wind = rng.uniform(size=200)
    features = {"wind": wind, "power_share": power, "available_capacity_kw": power * 100}
    model = fitted("catboost", features, power, iterations=5)
    assert model.needed_columns == ["wind"]


def test_catboost_learns_from_the_columns_it_is_told() -> None:
    rng = np.random.default_rng(0)
    wind = rng.uniform(size=200)
    model = fitted("catboost", {"wind": wind, "noise": wind[::-1]}, wind, iterations=5, features=["wind"])
    assert model.needed_columns == ["wind"]
    model.predict(pd.DataFrame({"wind": [0.5]}))


def test_catboost_asks_for_the_columns_it_is_told_before_learning() -> None:
    with pytest.raises(ValueError, match="no feature column gust"):
        fitted("catboost", {"wind": [0.1, 0.2]}, [0.1, 0.2], features=["gust"])


def test_catboost_with_nothing_to_learn_from_says_so() -> None:
    with pytest.raises(ValueError, match=r"no feature column varies: each of wind, spread"):
        fitted("catboost", {"wind": [5.0, 5.0], "spread": [np.nan, np.nan]}, [0.1, 0.2])


def test_catboost_tells_missing_from_small() -> None:
    wind = np.where(np.arange(400) % 4 == 0, np.nan, np.arange(400) % 4)
    model = fitted("catboost", {"wind": wind}, np.where(np.isnan(wind), 0.9, 0.1), learning_rate=0.3)
    median = model.predict(pd.DataFrame({"wind": [np.nan, 1.0]}))[:, 1]
    np.testing.assert_allclose(median, [0.9, 0.1], atol=0.05)


def test_catboost_spreads_its_quantiles_to_what_they_promise() -> None:
    # Nothing but noise to learn from: trees that learn it by heart give bands that are too narrow for any other row.
    rng = np.random.default_rng(3)
    features = {f"noise_{number}": rng.normal(size=2000) for number in range(5)}
    power = rng.uniform(0.3, 0.7, size=2000)
    heart = {"iterations": 100, "depth": 8, "learning_rate": 0.2, "rsm": 1.0, "subsample": 1.0}
    fresh = pd.DataFrame({column: rng.normal(size=2000) for column in features})
    came = rng.uniform(0.3, 0.7, size=2000)

    def coverage(folds: int) -> float:
        quantiles = fitted("catboost", features, power, calibration_folds=folds, **heart).predict(fresh)
        return float(((quantiles[:, 0] <= came) & (came <= quantiles[:, -1])).mean())

    assert coverage(0) < 0.65
    # A little too wide: the models that were judged had learnt from fewer rows than the one that is kept.
    assert 0.75 < coverage(4) < 0.9


def test_catboost_leaves_out_blocks_of_time() -> None:
    valid_at = pd.to_datetime(["2024-01-04", "2024-01-01", "2024-01-03", "2024-01-02"], utc=True)
    by_time = blocks_of_time(pd.DataFrame({"valid_at": valid_at}), 2)
    assert by_time.tolist() == [1, 0, 1, 0]
    assert blocks_of_time(pd.DataFrame({"wind": [1.0, 2.0, 3.0, 4.0]}), 2).tolist() == [0, 0, 1, 1]


def test_catboost_draws_its_random_numbers_from_the_seed() -> None:
    rng = np.random.default_rng(5)
    features = pd.DataFrame({f"x{number}": rng.normal(size=300) for number in range(4)})
    power = pd.Series(rng.uniform(size=300))
    config = ModelConfig(type="catboost", params={"iterations": 20})
    one, two = (build("it", config, LEVELS, seed).fit(features, power).predict(features) for seed in (1, 2))
    assert not np.array_equal(one, two)
