"""Boosting from scikit-learn's extra-random trees: one sequence of trees for all quantiles."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wind_kedro.models.base import Array, Contributions, Parameters
from wind_kedro.models.quantile_levels import between_levels
from wind_kedro.models.shapley import tree_shapley
from wind_kedro.models.spread import middle_of
from wind_kedro.models.tabular import ColumnParameters, Matrix, matrix_of
from wind_kedro.models.trees import Ints, TreeForecaster, Trees, grow


class BoostingParameters(ColumnParameters):
    """Settings of `Boosting`; those of trees are scikit-learn's."""

    rounds: int = Field(150, gt=0, description="trees, one after the other")
    learning_rate: float = Field(0.06, gt=0, le=1)
    max_leaf_nodes: int = Field(24, ge=2)
    max_features: float = Field(0.3, gt=0, le=1, description="share of the features tried at each split")
    min_samples_leaf: int = Field(60, gt=0)
    subsample: float = Field(0.5, gt=0, le=1, description="share of the blocks of rows each tree sees")
    block_rows: int = Field(24, gt=0, description="rows that are drawn together: neighbouring hours are correlated")
    learnt_levels: int | None = Field(13, ge=2, description="learn this many levels and read the others between them")
    mixtures: int = Field(2, gt=0, description="random mixtures of the quantiles' gradients that a tree is grown for")
    repeats: int = Field(1, gt=0, description="boostings with other random numbers whose quantiles are averaged")


class Boosting(TreeForecaster, type_name="boosting"):
    """Gradient boosting of all quantiles with shared trees: a leaf holds a step of every quantile.

    Each tree is grown for a few random mixtures of the quantiles' gradients (two targets, not one a level: Iosipoi and
    Vakhrushev, NeurIPS 2022, "SketchBoost"), with extra-random splits; each leaf then moves every quantile by the quantile of
    what is left in it (Friedman, Annals of Statistics 29, 2001, for absolute loss). Time hardly grows with the levels.
    """

    parameters_type: ClassVar[type[Parameters]] = BoostingParameters
    parameters: BoostingParameters
    learnt = ("_steps", "_start")
    #: Each node's step per learnt level; the trees of all repeats follow each other.
    _steps: NDArray[np.float32]
    _start: Array

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        levels = np.asarray(self._learnt_levels)
        self._start = np.quantile(share, levels)
        trees, steps = [], []
        for repeat in range(self.parameters.repeats):
            rng = np.random.default_rng([self.seed, repeat])
            reached = np.tile(self._start, (len(share), 1))
            for _ in range(self.parameters.rounds):
                seen = self._drawn(len(share), rng)
                gradient = np.where(share[seen, None] > reached[seen], levels, levels - 1)
                mixture = gradient @ rng.normal(size=(len(levels), self.parameters.mixtures))
                tree = grow(matrix[seen], mixture, int(rng.integers(np.iinfo(np.int32).max)), **self._tree_settings)
                leaf = tree.apply(matrix)
                step = self.parameters.learning_rate * _leaf_quantiles(
                    share[seen, None] - reached[seen], leaf[seen], tree.node_count, levels
                )
                reached += step[leaf]
                trees.append(tree)
                steps.append(step.astype(np.float32))
        self._trees, self._steps = Trees.grown(trees), np.concatenate(steps)

    @property
    def _tree_settings(self) -> dict[str, Any]:
        return self.parameters.model_dump(include={"max_leaf_nodes", "max_features", "min_samples_leaf"})

    def _drawn(self, rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Rows of the blocks that a tree sees; never none."""
        block = np.arange(rows) // self.parameters.block_rows
        drawn = rng.random(int(block[-1]) + 1) < self.parameters.subsample
        drawn[rng.integers(len(drawn))] = True
        return np.flatnonzero(drawn[block])

    def _quantiles(self, matrix: Matrix) -> Array:
        leaves = self._trees.leaves(matrix)
        total = np.zeros((len(matrix), len(self._start)))
        for tree in range(leaves.shape[1]):
            total += self._steps[leaves[:, tree]]
        learnt = np.sort(self._start + total / self.parameters.repeats, axis=1)
        return between_levels(learnt, self._learnt_levels, self.levels)

    def contributions(self, features: pd.DataFrame) -> Contributions:
        """Shapley values of the median: trees add up to it. They do so before quantiles are sorted and kept within bounds."""
        self._need(features)
        middle = middle_of(self._learnt_levels)
        values = self._steps[:, middle].astype(np.float64) / self.parameters.repeats
        base, added = tree_shapley(self._trees, values, matrix_of(features, self._columns))
        attributed = pd.DataFrame(added, columns=self._columns, index=features.index)
        return Contributions(np.full(len(features), self._start[middle] + base), attributed)


def _leaf_quantiles(left: Array, leaf: Ints, nodes: int, levels: Array) -> Array:
    """Per node and level, the quantile of what is left in it; nothing where no row fell."""
    count = np.bincount(leaf, minlength=nodes)
    first = np.cumsum(count) - count
    filled = np.flatnonzero(count)
    result = np.zeros((nodes, len(levels)))
    for column, level in enumerate(levels):
        rising = np.argsort(left[:, column], kind="stable")
        values = left[rising[np.argsort(leaf[rising], kind="stable")], column]
        place = level * (count[filled] - 1)
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, count[filled] - 1)
        start, share = first[filled], place - below
        result[filled, column] = values[start + below] * (1 - share) + values[start + above] * share
    return result
