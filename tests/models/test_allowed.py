"""What a stored model may name: nothing that runs code, whatever bytes are in its files."""

from __future__ import annotations

import importlib
import inspect
import json
import operator
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from wind_kedro.models.allowed import (
    PARTS,
    REGRESSORS,
    NotAllowedError,
    allow_classes,
    check_skops,
    classes_of,
    load_regressor,
)
from wind_kedro.models.base import FORMAT
from wind_kedro.models.registry import ModelConfig, build, load_model

LEVELS = [0.1, 0.5, 0.9]
ROWS = 200


def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(ROWS, 3))
    return matrix, 0.5 + 0.1 * np.tanh(matrix[:, 0]) + 0.01 * rng.uniform(size=ROWS)


def named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


# --- the list ---


@pytest.mark.parametrize("path", sorted(set().union(*PARTS.values())))
def test_all_that_is_allowed_is_a_class_that_holds_data_and_cannot_be_called(path: str) -> None:
    found = named(path)
    assert inspect.isclass(found), "no function"
    assert not issubclass(found, FunctionTransformer | partial | operator.methodcaller | operator.attrgetter)
    assert "__call__" not in vars(found) or path.startswith(("sklearn._loss", "builtins."))
    if path in REGRESSORS:
        assert issubclass(found, BaseEstimator)
        assert issubclass(found, RegressorMixin)
    elif path.startswith("sklearn."):
        assert not (issubclass(found, BaseEstimator) and path != BIN_MAPPER), "an estimator that is no regressor"
    else:
        assert path.partition(".")[0] in {"builtins", "numpy"}


BIN_MAPPER = "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper"


def test_no_kind_of_node_that_holds_a_callable_is_allowed() -> None:
    from skops.io._audit import NODE_TYPE_MAPPING

    known = {kind for kind, _ in NODE_TYPE_MAPPING}
    assert set(PARTS) <= known
    assert {"FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode"} <= known - set(PARTS)


@pytest.mark.parametrize("path", sorted(REGRESSORS))
def test_every_regressor_of_the_list_is_read_again_and_forecasts_the_same(path: str) -> None:
    import skops.io

    matrix, share = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few iterations do not converge
        model = named(path)().fit(matrix, share)
    again = load_regressor(skops.io.dumps(model), "it")
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.predict(matrix), model.predict(matrix))


# --- what is refused ---


class Unlisted(Ridge):  # type: ignore[misc]
    """A regressor that is not on the list."""


def pipeline_that_runs_code(flag: Path) -> Pipeline:
    """`numpy.testing.measure` compiles and executes its argument, which `numpy.full_like` makes of any input."""
    return Pipeline(
        [
            (
                "code",
                FunctionTransformer(np.full_like, kw_args={"fill_value": f"open({str(flag)!r}, 'w')", "dtype": "O"}),
            ),
            ("run", FunctionTransformer(np.testing.measure)),
        ]
    )


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(pipeline_that_runs_code, id="a pipeline of functions"),
        pytest.param(lambda _: FunctionTransformer(np.add), id="a function transformer over a ufunc"),
        pytest.param(lambda _: np.add, id="a ufunc that skops trusts"),
        pytest.param(lambda _: partial(print, "from inside"), id="a partial"),
        pytest.param(lambda _: [operator.attrgetter("__class__")], id="an operator"),
        pytest.param(lambda _: {"key": [Ridge().fit]}, id="a method"),
        pytest.param(lambda _: (np.testing.measure,), id="a function in a tuple"),
        pytest.param(lambda _: TransformedTargetRegressor(Ridge(), func=np.exp), id="a regressor that holds a function"),
        pytest.param(lambda _: RandomForestRegressor(oob_score=np.mean), id="a listed regressor that holds a function"),
        pytest.param(lambda _: HistGradientBoostingRegressor(scoring=np.mean), id="a scoring function"),
        pytest.param(lambda _: Pipeline([("it", Ridge())], memory="cache"), id="a pipeline, which caches by pickle"),
        pytest.param(lambda _: Unlisted(), id="a class that is on no list"),
        pytest.param(lambda _: {1.5: FunctionTransformer}, id="a class as a value"),
    ],
)
def test_a_stored_regressor_holds_nothing_that_could_be_called(hostile: Callable[[Path], Any], tmp_path: Path) -> None:
    import skops.io

    rows = pd.DataFrame({"wind": np.linspace(0, 20, ROWS)})
    build("it", ModelConfig(type="regressor", params={"regressor": "sklearn.linear_model.Ridge"}), LEVELS, 0).fit(
        rows, pd.Series(np.linspace(0, 1, ROWS))
    ).save(tmp_path / "model")
    load_model(tmp_path / "model").predict(rows)
    skops.io.dump(hostile(tmp_path / "ran"), tmp_path / "model" / "regressor.skops")
    with pytest.raises(NotAllowedError, match="which a stored regressor may not hold"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x80\x04."], ids=["empty", "no schema", "a pickle"])
def test_a_file_that_is_no_skops_file_is_refused(content: bytes) -> None:
    with pytest.raises(NotAllowedError, match="it: is no skops file"):
        check_skops(content, "it")


def test_what_could_not_be_read_again_is_refused_at_training(tmp_path: Path) -> None:
    config = ModelConfig(type="regressor", params={"regressor": "sklearn.neighbors.KNeighborsRegressor"})
    rows = pd.DataFrame({"wind": np.linspace(0, 20, ROWS)})
    model = build("it", config, LEVELS, 0).fit(rows, pd.Series(np.linspace(0, 1, ROWS)))
    with pytest.raises(NotAllowedError, match=r"model 'regressor': holds sklearn\..* which a stored regressor may not"):
        model.save(tmp_path)


# --- what the configuration adds ---


def test_the_class_of_a_configured_regressor_is_allowed_and_no_function_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skops.io

    from wind_kedro.models import allowed

    monkeypatch.setattr(allowed, "_configured", set())
    (tmp_path / "my_regressors.py").write_text(
        "from sklearn.linear_model import Ridge\n\n\nclass MyRidge(Ridge):\n    pass\n\n\ndef made(*_):\n    return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_regressors

    matrix, share = problem()
    content = skops.io.dumps(my_regressors.MyRidge().fit(matrix, share))
    with pytest.raises(NotAllowedError, match="MyRidge"):
        load_regressor(content, "it")
    allow_classes(["my_regressors.MyRidge", "my_regressors.made"])
    assert load_regressor(content, "it").predict(matrix).shape == (ROWS,)
    with pytest.raises(NotAllowedError, match=r"my_regressors\.made \(FunctionNode\)"):
        load_regressor(skops.io.dumps(my_regressors.made), "it")


def test_a_stored_model_is_no_reason_to_import_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps({"format": FORMAT, "type": "hostile_module.Model"}))
    with pytest.raises(NotAllowedError, match=r"no model type 'hostile_module\.Model' that may be loaded"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "ran").exists()


def test_classes_of_candidates_are_found_at_any_depth() -> None:
    candidates = {
        "own": {"type": "my_package.models.Mine"},
        "line": {
            "type": "regressor",
            "params": {"regressor": "sklearn.linear_model.Ridge", "settings": {"alpha": 1.5}},
        },
        "both": {"type": "blend", "params": {"members": {"a": {"type": "my_package.other.Yours"}}}},
    }
    assert set(classes_of(candidates)) == {
        "my_package.models.Mine", "sklearn.linear_model.Ridge", "my_package.other.Yours",
    }  # fmt: skip
