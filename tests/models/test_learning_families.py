"""What is particular to forests, boostings, lines, regressors and blends, and to the pieces that they share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Forecaster, load_arrays, save_arrays
from wind_kedro.models.ensembles.blend import Blend, best_weights, smoothed
from wind_kedro.models.quantile_levels import between_levels, few_levels, weighted_quantiles
from wind_kedro.models.registry import ModelConfig, build, load_model
from wind_kedro.models.spread import spread_that_holds, stretched

LEVELS = [0.1, 0.5, 0.9]
PERCENTILES = [round(0.01 * number, 2) for number in range(1, 100)]


def fitted(kind: str, columns: dict[str, object], power: object, levels: list[float] = LEVELS, **params: object) -> Forecaster:
    model = build(kind, ModelConfig(type=kind, params=params), levels, seed=0)
    return model.fit(pd.DataFrame(columns), pd.Series(power, dtype=float))


# --- levels ---


@pytest.mark.parametrize(
    ("levels", "count", "chosen"),
    [
        pytest.param(LEVELS, None, LEVELS, id="all"),
        pytest.param(LEVELS, 9, LEVELS, id="fewer than asked for"),
        pytest.param(PERCENTILES, 5, [0.01, 0.26, 0.5, 0.74, 0.99], id="evenly, with ends and median"),
        pytest.param(PERCENTILES, 2, [0.01, 0.5, 0.99], id="never without the median"),
        pytest.param([0.5], 2, [0.5], id="one"),
    ],
)
def test_few_levels_keep_ends_and_median(levels: list[float], count: int | None, chosen: list[float]) -> None:
    few = few_levels(levels, count)
    assert few[0] == levels[0]
    assert few[-1] == levels[-1]
    np.testing.assert_allclose(few, chosen, atol=0.011)


def test_between_levels_lie_straight_lines() -> None:
    quantiles = between_levels(np.array([[0.0, 0.2, 1.0]]), [0.1, 0.5, 0.9], [0.1, 0.3, 0.5, 0.6, 0.9])
    np.testing.assert_allclose(quantiles, [[0.0, 0.1, 0.2, 0.4, 1.0]])


def test_weighted_quantiles_are_those_of_repeated_values() -> None:
    values, weights = np.array([0.1, 0.4, 0.8]), np.array([1.0, 2.0, 1.0])
    # Middles of the weights: 1/8, 1/2, 7/8.
    found = weighted_quantiles(values, weights, np.array([0.05, 0.125, 0.5, 0.6875, 0.95]))
    np.testing.assert_allclose(found, [0.1, 0.1, 0.4, 0.6, 0.8])


# --- calibration ---


def test_the_spread_that_holds_widens_what_is_too_narrow_on_its_side_only() -> None:
    # Actuals are even on 0..1 around 0.5; the forecast band 0.3..0.9 promises 80 %.
    share = np.linspace(0, 1, 1001)
    quantiles = np.tile([0.3, 0.5, 0.9], (len(share), 1))
    spread = spread_that_holds(quantiles, share, LEVELS)
    np.testing.assert_allclose(spread, [2.0, 1.0, 1.0], atol=0.01)
    np.testing.assert_allclose(stretched(quantiles[:1], spread, LEVELS), [[0.1, 0.5, 0.9]], atol=0.01)


# --- quantile forest ---


def test_a_forest_gives_what_came_in_hours_like_this_one() -> None:
    rng = np.random.default_rng(0)
    wind = np.repeat([4.0, 12.0], 500)
    power = np.where(wind < 8, rng.uniform(0.0, 0.2, 1000), rng.uniform(0.6, 1.0, 1000))
    model = fitted("quantile_forest", {"wind": wind}, power, trees=20, max_features=1.0)
    quantiles = model.predict(pd.DataFrame({"wind": [4.0, 12.0]}))
    np.testing.assert_allclose(quantiles, [[0.02, 0.1, 0.18], [0.64, 0.8, 0.96]], atol=0.03)


# --- trees that were tampered with ---


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        pytest.param("left", 10_000_000, "child is not in its tree", id="a child that is not there"),
        pytest.param("right", 0, "child is not in its tree", id="a walk without end"),
        pytest.param("feature", 77, "column that there is not", id="a column that is not there"),
    ],
)
def test_trees_that_point_out_of_themselves_are_not_read(tmp_path: Path, name: str, value: int, says: str) -> None:
    rng = np.random.default_rng(0)
    model = fitted("quantile_forest", {"a": rng.normal(size=200), "b": rng.normal(size=200)}, rng.random(200), trees=2)
    model.save(tmp_path)
    arrays = load_arrays(tmp_path / "trees.npz")
    arrays[name][0] = value
    save_arrays(tmp_path / "trees.npz", arrays)
    with pytest.raises(ValueError, match=says):
        load_model(tmp_path)


# --- boosting ---


def test_boosting_learns_spread_as_well_as_height() -> None:
    rng = np.random.default_rng(1)
    wind = rng.uniform(0, 10, 4000)
    # The higher the wind, the less is known.
    power = 0.3 + 0.03 * wind + rng.uniform(-0.02, 0.02, 4000) * wind
    model = fitted("boosting", {"wind": wind}, power, max_features=1.0)
    quantiles = model.predict(pd.DataFrame({"wind": [2.0, 9.0]}))
    np.testing.assert_allclose(quantiles[:, 1], [0.36, 0.57], atol=0.03)
    narrow, wide = quantiles[:, 2] - quantiles[:, 0]
    assert wide > 2 * narrow


def test_repeats_are_averaged() -> None:
    rng = np.random.default_rng(2)
    columns = {"wind": rng.uniform(0, 10, 500)}
    power = rng.uniform(size=500)
    once, thrice = (fitted("boosting", columns, power, repeats=repeats, rounds=30) for repeats in (1, 3))
    asked = pd.DataFrame({"wind": np.linspace(0, 10, 50)})
    assert not np.array_equal(once.predict(asked), thrice.predict(asked))
    assert np.abs(once.predict(asked) - thrice.predict(asked)).max() < 0.5


# --- lines ---


def test_a_line_is_found_with_its_quantiles() -> None:
    rng = np.random.default_rng(3)
    height = rng.uniform(0, 1, 3000)
    power = 0.2 + 0.4 * height + rng.uniform(-0.1, 0.1, 3000)
    quantiles = fitted("linear_quantile", {"height": height}, power).predict(pd.DataFrame({"height": [0.0, 1.0]}))
    np.testing.assert_allclose(quantiles, [[0.12, 0.2, 0.28], [0.52, 0.6, 0.68]], atol=0.015)


def test_the_winds_line_bends() -> None:
    wind = np.linspace(0, 20, 3000)
    power = np.clip((wind - 4) / 8, 0, 1)
    median = fitted("linear_quantile", {"wind_speed_100m_ms": wind}, power).predict(
        pd.DataFrame({"wind_speed_100m_ms": [2.0, 8.0, 18.0]})
    )[:, 1]
    np.testing.assert_allclose(median, [0.0, 0.5, 1.0], atol=0.08)


# --- any regressor ---


def test_a_regressor_by_its_path_says_how_much_and_its_misses_how_sure() -> None:
    rng = np.random.default_rng(4)
    height = rng.uniform(0, 1, 3000)
    power = 0.2 + 0.4 * height + rng.uniform(-0.1, 0.1, 3000)
    model = fitted("regressor", {"height": height}, power, regressor="sklearn.linear_model.Ridge", settings={"alpha": 1e-3})
    quantiles = model.predict(pd.DataFrame({"height": [0.1, 0.9]}))
    np.testing.assert_allclose(quantiles, [[0.16, 0.24, 0.32], [0.48, 0.56, 0.64]], atol=0.02)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("subprocess.Popen", "of Python's own library", id="Python's own library"),
        pytest.param("Ridge", "not an import path", id="no path"),
        pytest.param("sklearn.linear_model.Rdige", "cannot be made", id="no such class"),
    ],
)
def test_what_is_no_regressor_is_named(path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fitted("regressor", {"wind": [1.0, 2.0]}, [0.1, 0.2], regressor=path)


# --- blends ---


def test_the_best_weights_are_found() -> None:
    rng = np.random.default_rng(5)
    share = rng.uniform(size=2000)
    good = share[:, None] + np.array([-0.05, 0.0, 0.05])
    # Two that miss by as much to either side, and one that says nothing.
    members = np.stack([good + 0.1, good - 0.1, np.full_like(good, 0.5)])
    np.testing.assert_allclose(best_weights(members, share, LEVELS), [0.5, 0.5, 0.0], atol=0.02)


def test_a_blend_finds_out_who_knows() -> None:
    rng = np.random.default_rng(6)
    wind = rng.uniform(0, 12, 3000)
    power = np.clip((wind / 12) ** 2 + rng.normal(0, 0.05, 3000), 0, 1)
    columns = {
        "wind_speed_density_ms": wind,
        "wind_speed_100m_ms": wind,
        "hour_of_day": rng.integers(0, 24, 3000) * 1.0,
    }
    members = {"knows": {"type": "power_curve"}, "guesses": {"type": "climatology"}}
    model = fitted("blend", columns, power, members=members)
    assert isinstance(model, Blend)
    assert model.weights["knows"] > 0.9
    assert sum(model.weights.values()) == pytest.approx(1)
    quantiles = model.predict(pd.DataFrame(columns))
    inside = ((quantiles[:, 0] <= power) & (power <= quantiles[:, -1])).mean()
    assert 0.75 < inside < 0.85


def test_what_learnt_a_row_never_weighs_it() -> None:
    # A forest whose leaves hold one row knows by heart what it has learnt: judged there, it would take all.
    rng = np.random.default_rng(7)
    columns = {f"noise_{number}": rng.normal(size=1500) for number in range(3)} | {"hour_of_day": np.zeros(1500)}
    power = rng.uniform(size=1500)
    heart = {"type": "quantile_forest", "params": {"trees": 10, "min_samples_leaf": 1}}
    model = fitted("blend", columns, power, members={"heart": heart, "climatology": {"type": "climatology"}})
    assert isinstance(model, Blend)
    by_heart = fitted("quantile_forest", columns, power, trees=10, min_samples_leaf=1).predict(pd.DataFrame(columns))
    assert pinball_loss(power, by_heart, LEVELS).mean() < 0.05
    assert model.weights["climatology"] > 0.9


def test_without_folds_members_count_alike() -> None:
    members = {"one": {"type": "climatology"}, "two": {"type": "climatology", "params": {"min_rows": 1}}}
    model = fitted("blend", {"hour_of_day": [0.0, 1.0]}, [0.2, 0.6], members=members, folds=0)
    assert isinstance(model, Blend)
    assert model.weights == {"one": 0.5, "two": 0.5}


def test_weights_that_are_given_are_kept() -> None:
    members = {"one": {"type": "climatology"}, "two": {"type": "climatology", "params": {"min_rows": 1}}}
    columns = {"hour_of_day": np.tile(np.arange(24.0), 50)}
    power = np.random.default_rng(8).uniform(size=1200)
    model = fitted("blend", columns, power, members=members, weights={"two": 3.0, "one": 1.0})
    assert isinstance(model, Blend)
    assert model.weights == {"one": 0.25, "two": 0.75}


@pytest.mark.parametrize(
    ("weights", "says"),
    [({"one": 1.0}, "weights are of one, but members are one, two"), ({"one": 2.0, "two": -1.0}, "at least 0")],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, float], says: str) -> None:
    members = {"one": {"type": "climatology"}, "two": {"type": "climatology"}}
    with pytest.raises(ValueError, match=says):
        build("it", ModelConfig(type="blend", params={"members": members, "weights": weights}), LEVELS, seed=0)


def test_a_spread_that_is_given_stretches_the_quantiles() -> None:
    columns, power = {"hour_of_day": np.zeros(101)}, np.linspace(0.4, 0.6, 101)
    members = {"one": {"type": "climatology"}}
    plain, wide = (fitted("blend", columns, power, members=members, folds=0, spread=by) for by in (1.0, 1.5))
    low, middle, high = plain.predict(pd.DataFrame(columns))[0]
    expected = [middle + 1.5 * (low - middle), middle, middle + 1.5 * (high - middle)]
    np.testing.assert_allclose(wide.predict(pd.DataFrame(columns))[0], expected)


def test_a_member_gets_the_columns_that_it_is_given() -> None:
    members = {"forest": {"type": "quantile_forest", "params": {"trees": 2}, "features": ["wind*"]}}
    model = fitted("blend", {"wind_a": [1.0, 2.0], "noise": [3.0, 4.0]}, [0.1, 0.2], members=members, folds=0)
    assert model.needed_columns == ["wind_a"]


def test_names_of_members_are_resolved_by_training() -> None:
    with pytest.raises(ValueError, match="members are names of candidates"):
        build("it", ModelConfig(type="blend", params={"members": ["a"]}), LEVELS, seed=0)


def test_neighbours_of_the_same_issue_smooth_an_interval() -> None:
    lead = np.array([60.0, 120.0, 180.0, 60.0, 120.0])  # two issues, one after the other
    quantiles = np.array([[0.0], [0.4], [0.4], [0.8], [0.0]])
    np.testing.assert_allclose(smoothed(quantiles, lead, 0.25).ravel(), [0.1, 0.3, 0.4, 0.6, 0.2])
    np.testing.assert_array_equal(smoothed(quantiles[:1], lead[:1], 0.25), quantiles[:1])
    np.testing.assert_array_equal(smoothed(quantiles[[2, 3]], lead[[2, 3]], 0.25), quantiles[[2, 3]])


def test_a_smoothing_blend_smooths() -> None:
    columns = {"lead_minutes": [60.0, 120.0] * 200, "hour_of_day": [1.0, 2.0] * 200}
    members = {"hour": {"type": "climatology"}}
    plain, smooth = (
        fitted("blend", columns, [0.0, 0.6] * 200, members=members, folds=0, smoothing=share) for share in (0.0, 0.25)
    )
    asked = pd.DataFrame(columns)
    expected = smoothed(plain.predict(asked), asked["lead_minutes"].to_numpy(), 0.25)
    np.testing.assert_allclose(smooth.predict(asked), expected)
    assert not np.allclose(expected, plain.predict(asked))
    assert "lead_minutes" in smooth.needed_columns
