"""Which classes a stored model may name: those of this project, a short list of scikit-learn's, and what the configuration names.

A stored file is data that somebody else may have written. It never decides which module is imported or which function is called.
"""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Regressors that a skops file may hold: classes that keep numbers, arrays and each other, and call nothing that a file can name.
REGRESSORS = frozenset(
    {
        "sklearn.dummy.DummyRegressor",
        "sklearn.ensemble._forest.ExtraTreesRegressor",
        "sklearn.ensemble._forest.RandomForestRegressor",
        "sklearn.ensemble._gb.GradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
        "sklearn.linear_model._base.LinearRegression",
        "sklearn.linear_model._bayes.ARDRegression",
        "sklearn.linear_model._bayes.BayesianRidge",
        "sklearn.linear_model._coordinate_descent.ElasticNet",
        "sklearn.linear_model._coordinate_descent.Lasso",
        "sklearn.linear_model._glm.glm.GammaRegressor",
        "sklearn.linear_model._glm.glm.PoissonRegressor",
        "sklearn.linear_model._glm.glm.TweedieRegressor",
        "sklearn.linear_model._huber.HuberRegressor",
        "sklearn.linear_model._quantile.QuantileRegressor",
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.linear_model._stochastic_gradient.SGDRegressor",
        "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
        "sklearn.svm._classes.LinearSVR",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._classes.ExtraTreeRegressor",
    }
)
_LOSSES = (
    "AbsoluteError", "HalfGammaLoss", "HalfPoissonLoss", "HalfSquaredError", "HalfTweedieLoss", "HalfTweedieLossIdentity",
    "HuberLoss", "PinballLoss",
)  # fmt: skip
#: What these regressors are made of, by the kind of node in which skops stores it.
PARTS: Mapping[str, frozenset[str]] = {
    "DictNode": frozenset({"builtins.dict"}),
    "JsonNode": frozenset({"builtins.str"}),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "TypeNode": frozenset({"builtins.int", "builtins.str"}),  # of the keys of a dictionary
    "NdArrayNode": frozenset(
        f"numpy.{name}"
        for name in ("ndarray", "bool", "float32", "float64", "int8", "int32", "int64", "uint8", "uint32", "uint64")
    ),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "TreeNode": frozenset({"sklearn.tree._tree.Tree"}),
    "LossNode": frozenset(f"sklearn._loss._loss.Cy{name}" for name in _LOSSES),
    "ObjectNode": REGRESSORS
    | frozenset(f"sklearn._loss.link.{name}" for name in ("IdentityLink", "Interval", "LogLink"))
    | frozenset(f"sklearn._loss.loss.{name}" for name in _LOSSES)
    | {
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    },
}

#: Import paths that the configuration of this process names.
_configured: set[str] = set()


class NotAllowedError(ValueError):
    """A stored model names something that it may not name."""


def allow_classes(paths: Iterable[str]) -> None:
    """Let stored models name these import paths. Call it with what the configuration names, never with what a file names."""
    _configured.update(paths)


def is_allowed(path: str) -> bool:
    """Whether the configuration names this import path."""
    return path in _configured


def classes_of(candidates: Any) -> Iterator[str]:
    """Import paths that candidates name as their ``type`` or ``regressor``, at any depth: members of blends have their own."""
    if isinstance(candidates, Mapping):
        for name, value in candidates.items():
            if name in {"type", "regressor"} and isinstance(value, str) and "." in value:
                yield value
            else:
                yield from classes_of(value)
    elif isinstance(candidates, list | tuple):
        for value in candidates:
            yield from classes_of(value)


def load_regressor(content: bytes, name: str) -> Any:
    """The regressor in a skops file, after every class in it was found allowed.

    skops itself trusts all estimators of scikit-learn and NumPy's and SciPy's ufuncs; here nothing is trusted but the lists above
    and the classes of the configured regressors.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        NotAllowedError: if the file names anything else, or is no skops file.
    """
    import skops.io

    check_skops(content, name)
    return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))


def check_skops(content: bytes, name: str) -> None:
    """Raise `NotAllowedError` if a skops file names a class or function that a stored regressor may not name."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise NotAllowedError(f"{name}: is no skops file: {type(error).__name__}: {error}") from error
    left = [schema]  # without recursion: the depth is whatever the file has
    while left:
        node = left.pop()
        left += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if not isinstance(node, dict) or "__loader__" not in node:
            continue
        kind, path = str(node["__loader__"]), f"{node.get('__module__')}.{node.get('__class__')}"
        if path in PARTS.get(kind, ()) or (kind == "ObjectNode" and path in _configured_regressors()):
            continue
        raise NotAllowedError(
            f"{name}: holds {path} ({kind}), which a stored regressor may not hold; allowed are the regressors of "
            f"wind_kedro.models.allowed and the class that a candidate of the configuration names"
        )


def _configured_regressors() -> set[str]:
    """Where the classes of the configured regressors are defined: files name them by that, people by a shorter path."""
    found = set()
    for path in _configured:
        module, _, name = path.rpartition(".")
        try:
            named = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        if isinstance(named, type) and hasattr(named, "fit") and hasattr(named, "predict"):
            found.add(f"{named.__module__}.{named.__qualname__}")
    return found
