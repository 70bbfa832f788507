"""Quantile forest: the observed power of similar past hours. Extra-random trees of scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.models.base import Array, Parameters
from wind_kedro.models.quantile_levels import weighted_quantiles
from wind_kedro.models.tabular import ColumnParameters, Matrix
from wind_kedro.models.trees import ROWS_AT_ONCE, Ints, TreeForecaster, Trees, grow


class QuantileForestParameters(ColumnParameters):
    """Settings of `QuantileForest`; those of trees are scikit-learn's."""

    trees: int = Field(150, gt=0)
    max_features: float = Field(0.4, gt=0, le=1, description="share of the features tried at each split")
    min_samples_leaf: int = Field(5, gt=0, description="the least number of past hours in a leaf")


class QuantileForest(TreeForecaster, type_name="quantile_forest"):
    """Quantiles of past power, each past hour weighted by how often it shares a leaf with the hour asked for.

    Quantile regression forests (Meinshausen, Journal of Machine Learning Research 7, 2006) on extra-random trees. The weights
    of all pairs of rows are one product of two sparse tables, so that any number of levels costs as much as one.
    """

    parameters_type: ClassVar[type[Parameters]] = QuantileForestParameters
    parameters: QuantileForestParameters
    learnt = ("_share", "_leaves")
    #: Power of the rows learnt from, rising, and the leaves they fell into.
    _share: Array
    _leaves: Ints

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        seeds = np.random.default_rng(self.seed).integers(np.iinfo(np.int32).max, size=self.parameters.trees)
        settings = self.parameters.model_dump(include={"max_features", "min_samples_leaf"})
        self._trees = Trees.grown([grow(matrix, share, int(seed), **settings) for seed in seeds])
        order = np.argsort(share, kind="stable")
        self._share, self._leaves = share[order], self._trees.leaves(matrix[order])

    def _quantiles(self, matrix: Matrix) -> Array:
        from scipy.sparse import csr_matrix

        def in_leaves(leaves: Ints) -> Any:
            rows, trees = leaves.shape
            starts = np.arange(rows + 1) * trees
            return csr_matrix((np.ones(leaves.size, np.float32), leaves.ravel(), starts), (rows, self._trees.nodes))

        learnt = in_leaves(self._leaves)
        rows_in_leaf = np.maximum(np.asarray(learnt.sum(axis=0)).ravel(), 1)
        # Each tree gives its leaf's rows one vote in all.
        learnt.data /= rows_in_leaf[learnt.indices]
        levels, votes_of = np.asarray(self.levels), learnt.T.tocsr()
        quantiles = np.empty((len(matrix), len(levels)))
        for start in range(0, len(matrix), ROWS_AT_ONCE):
            weights = in_leaves(self._trees.leaves(matrix[start : start + ROWS_AT_ONCE])) @ votes_of
            weights.sort_indices()
            for row in range(weights.shape[0]):
                own = slice(weights.indptr[row], weights.indptr[row + 1])
                quantiles[start + row] = weighted_quantiles(
                    self._share[weights.indices[own]], weights.data[own].astype(np.float64), levels
                )
        return quantiles
