"""Shapley values of trees against their definition: every set of columns, known or not."""

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from wind_kedro.models.registry import ModelConfig, build, with_members
from wind_kedro.models.shapley import tree_shapley
from wind_kedro.models.trees import LEAF, Trees, grow

Problem = tuple[pd.DataFrame, pd.Series]


def grown(matrix: NDArray[np.float32], target: NDArray[np.float64], **settings: int) -> tuple[Trees, NDArray[np.float64]]:
    """Three trees, and the values of all their nodes."""
    found = [grow(matrix, target, seed, **settings) for seed in range(3)]
    return Trees.grown(found), np.concatenate([tree.value[:, 0, 0] for tree in found])


def knowing(trees: Trees, values: NDArray[np.float64], row: NDArray[np.float32]) -> Callable[[frozenset[int]], float]:
    """What the trees say of a row of which only some columns are known: others go both ways, as the rows did that grew them."""

    def of(node: int, root: int, known: frozenset[int]) -> float:
        if trees.left[node] == LEAF:
            return float(values[node])
        left, right = int(trees.left[node]) + root, int(trees.right[node]) + root
        column = int(trees.feature[node])
        if column in known:
            x = row[column]
            goes_left = bool(trees.missing_left[node]) if np.isnan(x) else bool(x <= trees.threshold[node])
            return of(left if goes_left else right, root, known)
        shares = trees.cover[[left, right]] / trees.cover[node]
        return float(shares[0] * of(left, root, known) + shares[1] * of(right, root, known))

    return lambda known: sum(of(int(root), int(root), known) for root in trees.starts[:-1])


def by_definition(says: Callable[[frozenset[int]], float], column: int, columns: int) -> float:
    """Shapley (1953): the mean over all orders in which columns become known of what this one adds."""
    others = [other for other in range(columns) if other != column]
    return sum(
        factorial(size) * factorial(columns - size - 1) / factorial(columns)
        * (says(frozenset(known) | {column}) - says(frozenset(known)))
        for size in range(columns)
        for known in combinations(others, size)
    )  # fmt: skip


@pytest.mark.parametrize("leaves", [2, 7, 40])
def test_they_are_what_shapley_says(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    matrix = rng.normal(size=(200, 5)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    target = np.nan_to_num(matrix[:, 0]) * np.nan_to_num(matrix[:, 1]) + np.nan_to_num(matrix[:, 2])
    trees, values = grown(matrix, target, max_leaf_nodes=leaves)
    base, added = tree_shapley(trees, values, matrix[:4])
    for row in range(4):
        says = knowing(trees, values, matrix[row])
        assert base == pytest.approx(says(frozenset()))
        expected = [by_definition(says, column, 5) for column in range(5)]
        np.testing.assert_allclose(added[row], expected, atol=1e-10)


def test_what_they_add_up_to_is_what_the_trees_say() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(500, 12)).astype(np.float32)
    trees, values = grown(matrix, matrix @ rng.normal(size=12), min_samples_leaf=3)
    base, added = tree_shapley(trees, values, matrix)
    np.testing.assert_allclose(base + added.sum(axis=1), values[trees.leaves(matrix)].sum(axis=1), atol=1e-9)


def test_a_tree_that_asks_nothing_says_the_same_of_all() -> None:
    matrix = np.zeros((5, 2), dtype=np.float32)
    trees, values = grown(matrix, np.full(5, 0.4))
    base, added = tree_shapley(trees, values, matrix)
    assert base == pytest.approx(1.2)
    assert not added.any()


LEVELS = [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95]


@pytest.mark.parametrize("family", ["catboost", "boosting"])
def test_of_a_few_levels_that_were_learnt_the_median_is_told(family: str, learning: Problem, asking: Problem) -> None:
    quick = {"catboost": {"iterations": 20, "calibration_folds": 0}, "boosting": {"rounds": 20}}[family]
    model = build("it", ModelConfig(type=family, params={"learnt_levels": 4, **quick}), LEVELS, 1).fit(*learning)
    told = model.contributions(asking[0])
    assert told is not None
    said = told.base + told.columns.to_numpy().sum(axis=1)
    np.testing.assert_allclose(np.clip(said, 0, 1), model.predict(asking[0])[:, LEVELS.index(0.5)], atol=0.02)
    assert told.attributed_by == {}


def test_of_a_blend_those_who_can_say_do(learning: Problem, asking: Problem) -> None:
    candidates = {
        "forest": ModelConfig(type="quantile_forest", params={"trees": 5}),
        "boosting": ModelConfig(type="boosting", params={"rounds": 20}),
        "catboost": ModelConfig(type="catboost", params={"iterations": 20, "calibration_folds": 0}, features=["wind_*"]),
    }
    weights = {"forest": 0.5, "boosting": 0.3, "catboost": 0.2}
    blend = ModelConfig(type="blend", params={"members": [*weights], "weights": weights, "folds": 0})
    model = build("it", with_members(candidates | {"it": blend})["it"], LEVELS, 1).fit(*learning)
    told = model.contributions(asking[0])
    assert told is not None
    assert told.attributed_by == {"boosting": 0.3, "catboost": 0.2}
    own = {
        name: build(name, candidates[name], LEVELS, 1)
        .fit(learning[0][candidates[name].columns_of(learning[0].columns)], learning[1])
        .contributions(asking[0])
        for name in told.attributed_by
    }
    for column in ("wind_speed_100m_ms", "hour_of_day"):
        parts = [0.6 * own["boosting"].columns[column]]  # type: ignore[union-attr]
        if column.startswith("wind"):
            parts.append(0.4 * own["catboost"].columns[column])  # type: ignore[union-attr]
        np.testing.assert_allclose(told.columns[column], sum(parts), atol=1e-9)
    assert not told.columns.columns.has_duplicates


def test_a_blend_of_members_that_cannot_say_cannot(learning: Problem, asking: Problem) -> None:
    members = {"forest": {"type": "quantile_forest", "params": {"trees": 5}}, "climatology": {"type": "climatology"}}
    blend = build("it", ModelConfig(type="blend", params={"members": members, "folds": 0}), LEVELS, 1)
    assert blend.fit(*learning).contributions(asking[0]) is None
