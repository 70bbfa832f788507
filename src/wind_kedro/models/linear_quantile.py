"""Linear quantile regression, with a bent line for the wind: the simplest model that learns from all features."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.models.base import Array, Parameters
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix


class LinearQuantileParameters(ColumnParameters):
    """Settings of `LinearQuantile`."""

    bent: list[str] = Field(
        ["wind_speed_100m_ms", "wind_speed_density_ms"],
        description="columns whose line may bend, where they are: power is no straight line of wind speed",
    )
    knots: int = Field(6, ge=0, description="bends of such a line, at evenly spread quantiles of the column")
    penalty: float = Field(1e-4, ge=0, description="on the squares of slopes; collinear features share one")
    smoothing_share: float = Field(0.01, gt=0, description="width in which the loss's kink is rounded, share of capacity")
    max_iterations: int = Field(300, gt=0)


class LinearQuantile(ColumnForecaster, type_name="linear_quantile"):
    """A line for each level in standardised features, by the pinball loss with its kink rounded.

    Koenker and Bassett, Econometrica 46, 1978. As a linear programme, 99 levels of a year of hours take minutes; with the
    kink rounded (Zheng, International Journal of Machine Learning and Cybernetics 2, 2011) the loss has a gradient, and
    L-BFGS takes seconds. A missing value is taken to be the column's mean.
    """

    parameters_type: ClassVar[type[Parameters]] = LinearQuantileParameters
    parameters: LinearQuantileParameters
    standardises = True
    learnt = ("_bent", "_knots", "_slopes")
    #: Which columns bend, and at which standardised values: shapes (bent,) and (bent, knots).
    _bent: list[int]
    _knots: Array
    #: Shape (1 + columns + bends, levels).
    _slopes: Array

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        from scipy.optimize import minimize

        self._bent = [self._columns.index(name) for name in self.parameters.bent if name in self._columns]
        at = np.arange(1, self.parameters.knots + 1) / (self.parameters.knots + 1)
        knots = np.array([np.quantile(matrix[:, column], at) for column in self._bent])
        self._knots = knots.reshape(len(self._bent), len(at))
        basis = self._basis(matrix)
        width, penalty, rows = self.parameters.smoothing_share, self.parameters.penalty, len(share)

        def loss(slopes: Array, level: float) -> tuple[float, Array]:
            missed = (share - basis @ slopes) / width
            # level·r + width·log(1 + exp(−r/width)) is the pinball loss with its kink rounded.
            value = float(np.mean(level * missed + np.logaddexp(0, -missed)) * width + penalty * slopes[1:] @ slopes[1:])
            pull = level - np.exp(-np.logaddexp(0, missed))
            gradient = -(basis.T @ pull) / rows
            gradient[1:] += 2 * penalty * slopes[1:]
            return value, gradient

        fitted = []
        for level in self.levels:
            start = np.zeros(basis.shape[1])
            start[0] = np.quantile(share, level)
            options = {"maxiter": self.parameters.max_iterations}
            slopes = start
            if share.min() < share.max():  # a farm that stood still all the time has no slopes
                slopes = minimize(loss, start, (level,), "L-BFGS-B", jac=True, options=options).x
            # The rounded kink moves outer levels outwards: it is shifted until the share of rows below it is its level.
            slopes[0] += np.quantile(share - basis @ slopes, level)
            fitted.append(slopes)
        self._slopes = np.column_stack(fitted)

    def _basis(self, matrix: Matrix) -> Array:
        bends = [np.maximum(matrix[:, [column]] - knots, 0) for column, knots in zip(self._bent, self._knots, strict=True)]
        return np.column_stack([np.ones(len(matrix)), matrix, *bends])

    def _quantiles(self, matrix: Matrix) -> Array:
        return self._basis(matrix) @ self._slopes
