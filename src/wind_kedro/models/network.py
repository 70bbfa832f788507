"""Network: how likely power stays below each of a row of thresholds, by a small neural network from scikit-learn."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.models.base import Array
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix

#: Shares of capacity up to this are nothing: calm hours are a lump of the distribution, which a threshold of its own keeps.
NOTHING = 0.0005
#: How far from their mean features are let in, in standard deviations: a network has no bounds of its own, as trees have.
FARTHEST = 5.0


class NetworkParameters(ColumnParameters):
    """Settings of `Network`; those of the network are scikit-learn's."""

    hidden_layer_sizes: tuple[int, ...] = Field((64, 64), min_length=1)
    alpha: float = Field(1.0, ge=0, description="penalty on the squares of the weights")
    max_iter: int = Field(40, gt=0, description="times that it sees every row")
    learning_rate_init: float = Field(1e-3, gt=0)
    batch_size: int = Field(128, gt=0)
    thresholds: int = Field(30, ge=2, description="shares of capacity, even between nothing and all")
    repeats: int = Field(2, gt=0, description="networks with other random numbers whose distributions are averaged")


class Network(ColumnForecaster, type_name="network"):
    """The distribution function of power at even thresholds, learnt by squared loss; quantiles are read from it.

    The squared loss of "power is at most this" summed over even thresholds is the continuous ranked probability score, so that
    the network learns what it is judged by (Gneiting and Raftery, Journal of the American Statistical Association 102, 2007).
    Alone it is behind trees; it errs differently, and so helps in a blend. Columns are standardised, and a missing value is
    taken to be the mean.
    """

    parameters_type: ClassVar[type[NetworkParameters]] = NetworkParameters
    parameters: NetworkParameters
    standardises = True
    learnt = ("_range", "_layers")
    #: Lowest and highest power of the training data; the model does not extrapolate.
    _range: Array
    #: Weights and offsets of each layer (``0_2w``, ``0_2b``: of the third of the first repeat).
    _layers: dict[str, Matrix]

    @property
    def _edges(self) -> Array:
        return np.append(NOTHING, np.arange(1, self.parameters.thresholds) / self.parameters.thresholds)

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        self._range = np.array([share.min(), share.max()])
        standard, reached = _bounded(matrix), (share[:, None] <= self._edges).astype(np.float32)
        settings = self.parameters.model_dump(
            include={"hidden_layer_sizes", "alpha", "max_iter", "learning_rate_init", "batch_size"}
        )
        settings["batch_size"] = min(settings["batch_size"], len(share))
        self._layers = {}
        for repeat in range(self.parameters.repeats):
            seed = int(np.random.default_rng([self.seed, repeat]).integers(np.iinfo(np.int32).max))
            with warnings.catch_warnings():
                # It ends after max_iter on purpose: to stop early is what keeps it from learning by heart.
                warnings.simplefilter("ignore", ConvergenceWarning)
                learnt = MLPRegressor(**settings, random_state=seed).fit(standard, reached)
            for layer, (weights, offsets) in enumerate(zip(learnt.coefs_, learnt.intercepts_, strict=True)):
                self._layers |= {f"{repeat}_{layer}w": weights, f"{repeat}_{layer}b": offsets}

    def _below(self, standard: Matrix, repeat: int) -> Matrix:
        """How likely power is at most each threshold, by one network: rectified linear layers and a linear last layer."""
        values, last = standard, len(self.parameters.hidden_layer_sizes)
        for layer in range(last + 1):
            values = values @ self._layers[f"{repeat}_{layer}w"] + self._layers[f"{repeat}_{layer}b"]
            if layer < last:
                values = np.maximum(values, 0.0)
        return values

    def _quantiles(self, matrix: Matrix) -> Array:
        standard, repeats = _bounded(matrix), self.parameters.repeats
        below = sum(self._below(standard, repeat).astype(np.float64) for repeat in range(repeats)) / repeats
        # A distribution function rises; a level that several thresholds share is read at the first of them.
        below = np.clip(np.maximum.accumulate(below, axis=1), 0.0, 1.0)
        edges = np.concatenate([[0.0], self._edges[1:], [1.0]])
        quantiles = np.empty((len(matrix), len(self.levels)))
        for row, reached in enumerate(np.column_stack([below, np.ones(len(below))])):
            rising = np.append(True, np.diff(reached) > 0)
            at, shares = reached[rising], edges[rising]
            quantiles[row] = np.interp(self.levels, np.append(0.0, at), np.append(0.0, shares))
        return np.clip(quantiles, *self._range)


def _bounded(matrix: Matrix) -> Matrix:
    # In 32 bits it learns in half the time, and no worse.
    return np.clip(matrix, -FARTHEST, FARTHEST).astype(np.float32)
