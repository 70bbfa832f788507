"""What every model must do, whatever its family: those registered, and the class of another package that the docs show."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Forecaster
from wind_kedro.models.registry import MODELS, ModelConfig, build, load_model, with_members

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]
#: Settings that make a family fit in a blink.
QUICK: dict[str, dict[str, object]] = {
    "catboost": {"iterations": 40, "depth": 4},
    "boosting": {"rounds": 60},
    "quantile_forest": {"trees": 20, "max_features": 0.8, "min_samples_leaf": 3},
    "lightgbm": {"rounds": 40, "learning_rate": 0.1, "feature_fraction": 0.6},
    "network": {"hidden_layer_sizes": [32, 32], "max_iter": 60, "alpha": 0.01, "repeats": 1},
    "regressor": {"regressor": "sklearn.ensemble.HistGradientBoostingRegressor", "settings": {"max_iter": 40}},
    "blend": {"members": ["curve", "forest"]},
    "hand_over": {"members": ["curve", "forest", "physical"], "full_days": 100},
}
#: What blend and hand-over are of.
MEMBERS = {
    "curve": ModelConfig(type="power_curve"),
    "physical": ModelConfig(type="physical"),
    "forest": ModelConfig(type="quantile_forest", params={"trees": 20}),
}
#: Who know no wind: the references that the others are to beat.
WINDLESS = {"climatology", "persistence"}
#: Who learn nothing of a farm: what came there changes nothing.
UNTAUGHT = {"physical"}

Problem = tuple[pd.DataFrame, pd.Series]


#: A user's own class, named by its import path (`conftest.documented_package`).
OWN = "wind_models.analogs.Analogs"


@pytest.fixture(params=[*sorted(MODELS), OWN])
def model(request: pytest.FixtureRequest) -> Forecaster:
    return made(request.param)


def made(name: str, seed: int = 7, levels: list[float] | None = None) -> Forecaster:
    configs = with_members(MEMBERS | {"it": ModelConfig(type=name, params=QUICK.get(name, {}))})
    return build("it", configs["it"], levels or LEVELS, seed)


def test_fit_returns_the_model_itself(model: Forecaster, learning: Problem) -> None:
    assert model.fit(*learning) is model


def test_one_row_per_row_and_one_column_per_level(model: Forecaster, learning: Problem, asking: Problem) -> None:
    assert model.fit(*learning).predict(asking[0]).shape == (len(asking[0]), len(LEVELS))


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(model: Forecaster, learning: Problem, asking: Problem, rows: int) -> None:
    model.fit(*learning)
    answer = model.predict(asking[0].iloc[:rows])
    assert answer.shape == (rows, len(LEVELS))
    np.testing.assert_allclose(answer, model.predict(asking[0])[:rows])


def test_what_moved_a_median_adds_up_to_it(model: Forecaster, learning: Problem, asking: Problem) -> None:
    model.fit(*learning)
    told = model.contributions(asking[0])
    if told is None:  # the family cannot say: a right answer, and no half-said one
        return
    said = told.base + told.columns.to_numpy().sum(axis=1)
    median = model.predict(asking[0])[:, LEVELS.index(0.5)]
    # Before quantiles are put in order and kept within bounds.
    assert np.abs(np.clip(said, 0, 1) - median).mean() < 0.01
    assert set(told.columns) <= set(asking[0].columns)
    assert model.contributions(asking[0].iloc[:0]).columns.empty  # type: ignore[union-attr]


def test_a_single_level(model: Forecaster, learning: Problem, asking: Problem) -> None:
    median = made(model.type_name, levels=[0.5]).fit(*learning).predict(asking[0])
    assert median.shape == (len(asking[0]), 1)


def test_quantiles_rise_and_stay_between_nothing_and_capacity(model: Forecaster, learning: Problem, asking: Problem) -> None:
    quantiles = model.fit(*learning).predict(asking[0])
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert quantiles.min() >= 0
    assert quantiles.max() <= 1


def test_power_beyond_the_bounds_is_learnt_from_but_not_forecast(model: Forecaster, learning: Problem) -> None:
    # A farm draws power in a calm and a nameplate is rounded.
    features, power = learning
    quantiles = model.fit(features, power * 1.1 - 0.05).predict(features)
    assert quantiles.min() >= 0
    assert quantiles.max() <= 1


def test_same_seed_same_model(model: Forecaster, learning: Problem, asking: Problem) -> None:
    first = model.fit(*learning).predict(asking[0])
    second = made(model.type_name).fit(*learning).predict(asking[0])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("column", ["wind_speed_density_ms", "last_power_share", "hour_of_day", "lead_minutes"])
def test_a_column_that_is_wholly_missing(model: Forecaster, learning: Problem, asking: Problem, column: str) -> None:
    blind = learning[0].assign(**{column: np.nan})
    for features in (asking[0], asking[0].assign(**{column: np.nan})):
        assert np.isfinite(model.fit(blind, learning[1]).predict(features)).all()


def test_values_missing_only_when_asked(model: Forecaster, learning: Problem, asking: Problem) -> None:
    blind = asking[0].assign(wind_speed_density_ms=np.nan, wind_speed_100m_ms=np.nan, last_power_share=np.nan)
    assert np.isfinite(model.fit(*learning).predict(blind)).all()


def test_nullable_numbers_of_pandas(model: Forecaster, learning: Problem, asking: Problem) -> None:
    plain = model.fit(*learning).predict(asking[0])
    nullable = asking[0].astype({"last_power_share": "Float64", "lead_minutes": "Int64"})
    np.testing.assert_allclose(model.predict(nullable), plain)


def test_a_needed_column_that_is_absent_is_named(model: Forecaster, learning: Problem, asking: Problem) -> None:
    model.fit(*learning)
    for column in model.needed_columns:
        with pytest.raises(ValueError, match=column):
            model.predict(asking[0].drop(columns=column))


def test_saved_and_loaded_says_the_same(model: Forecaster, learning: Problem, asking: Problem, tmp_path: Path) -> None:
    before = model.fit(*learning).predict(asking[0])
    model.save(tmp_path / "model")
    for loaded in (load_model(tmp_path / "model"), type(model).load(tmp_path / "model")):
        assert type(loaded) is type(model)
        assert (loaded.levels, loaded.seed, loaded.parameters) == (model.levels, model.seed, model.parameters)
        np.testing.assert_array_equal(loaded.predict(asking[0]), before)


def test_artefacts_are_native(model: Forecaster, learning: Problem, tmp_path: Path) -> None:
    model.fit(*learning).save(tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".npz", ".cbm", ".txt", ".skops"}
    assert json.loads((tmp_path / "model" / "model.json").read_text())["type"] == model.type_name


def test_a_saved_model_can_be_overwritten(model: Forecaster, learning: Problem, asking: Problem, tmp_path: Path) -> None:
    model.fit(*learning).save(tmp_path)
    model.fit(*asking).save(tmp_path)
    np.testing.assert_array_equal(load_model(tmp_path).predict(asking[0]), model.predict(asking[0]))


def test_two_models_share_nothing(model: Forecaster, learning: Problem, asking: Problem) -> None:
    before = model.fit(*learning).predict(asking[0])
    made(model.type_name).fit(asking[0], asking[1] * 0.5)
    np.testing.assert_array_equal(model.predict(asking[0]), before)


def test_learning_again_forgets(model: Forecaster, learning: Problem, asking: Problem) -> None:
    fresh = made(model.type_name).fit(*learning).predict(asking[0])
    again = model.fit(asking[0], asking[1] * 0.5).fit(*learning).predict(asking[0])
    np.testing.assert_array_equal(again, fresh)


def test_inputs_stay_as_they_were(model: Forecaster, learning: Problem) -> None:
    features, power = learning[0].copy(), learning[1].copy()
    model.fit(features, power).predict(features)
    pd.testing.assert_frame_equal(features, learning[0])
    pd.testing.assert_series_equal(power, learning[1])


def test_rows_are_matched_by_place_not_by_index(model: Forecaster, learning: Problem, asking: Problem) -> None:
    features, power = learning
    shuffled = features.set_axis(np.arange(len(features))[::-1])
    np.testing.assert_array_equal(
        model.fit(shuffled, power).predict(asking[0]), made(model.type_name).fit(features, power).predict(asking[0])
    )


def test_columns_are_found_by_name_not_by_place(model: Forecaster, learning: Problem, asking: Problem) -> None:
    turned = asking[0][asking[0].columns[::-1]].assign(new_since="something", newer=1.0)
    np.testing.assert_array_equal(model.fit(*learning).predict(turned), model.predict(asking[0]))


def test_a_farm_that_it_never_saw(model: Forecaster, learning: Problem, asking: Problem) -> None:
    # Whose farm a row is of is for whoever chooses the model: it looks at features alone.
    other = asking[0].assign(entity_id="elsewhere")
    np.testing.assert_array_equal(model.fit(*learning).predict(other), model.predict(asking[0]))


def test_a_farm_that_always_stood_still(model: Forecaster, learning: Problem, asking: Problem) -> None:
    if model.type_name in UNTAUGHT:
        return
    features = learning[0].assign(last_power_share=0.0)
    quantiles = model.fit(features, learning[1] * 0).predict(asking[0].assign(last_power_share=0.0))
    np.testing.assert_allclose(quantiles, 0, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 30])
def test_a_farm_with_hardly_any_history(model: Forecaster, learning: Problem, asking: Problem, rows: int) -> None:
    quantiles = model.fit(learning[0].iloc[:rows], learning[1].iloc[:rows]).predict(asking[0])
    assert np.isfinite(quantiles).all()
    assert quantiles.min() >= 0
    assert quantiles.max() <= 1


@pytest.mark.parametrize(
    ("rows", "power", "says"),
    [
        pytest.param(0, [], "no row", id="no rows"),
        pytest.param(3, [0.1, 0.2], "3 rows of features, but 2", id="lengths differ"),
        pytest.param(3, [0.1, np.nan, 0.2], "1 of 3 powers", id="a power is missing"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    model: Forecaster, learning: Problem, rows: int, power: list[float], says: str
) -> None:
    if rows == 0 and not model.needs_history:
        answer = model.fit(learning[0].iloc[:0], pd.Series([], dtype=float)).predict(learning[0].iloc[:5])
        assert np.isfinite(answer).all()
        return
    with pytest.raises(ValueError, match=says):
        model.fit(learning[0].iloc[:rows], pd.Series(power, dtype=float))


def test_before_learning_it_neither_predicts_nor_saves(model: Forecaster, asking: Problem, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not learnt"):
        model.predict(asking[0])
    with pytest.raises(RuntimeError, match="not learnt"):
        model.save(tmp_path)


@pytest.mark.parametrize("name", sorted(set(MODELS) - WINDLESS - UNTAUGHT))
def test_who_knows_the_wind_beats_climatology(name: str, learning: Problem, asking: Problem) -> None:
    def loss(forecaster: Forecaster) -> float:
        quantiles = forecaster.fit(*learning).predict(asking[0])
        return float(pinball_loss(asking[1].to_numpy(), quantiles, LEVELS).mean())

    # The wind explains nearly all of this problem's power.
    assert loss(made(name)) < 0.5 * loss(made("climatology"))


@pytest.mark.parametrize("name", sorted(set(MODELS) - UNTAUGHT))
def test_the_80_percent_band_holds_about_80_percent(name: str, learning: Problem, asking: Problem) -> None:
    quantiles = made(name).fit(*learning).predict(asking[0])
    actual = asking[1].to_numpy()
    inside = ((quantiles[:, 0] <= actual) & (actual <= quantiles[:, -1])).mean()
    assert 0.65 < inside < 0.95
