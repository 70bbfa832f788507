"""Linear quantile regression, with a bent line for the wind: the simplest model that learns from all features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.models.base import Array, Parameters, load_arrays, save_arrays
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix, center_and_scale, standardised

ARTEFACT = "linear.npz"


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
    _center: Array
    _scale: Array
    #: Which columns bend, and at which standardised values: shapes (bent,) and (bent, knots).
    _bent: Array
    _knots: Array
    #: Shape (1 + columns + bends, levels).
    _slopes: Array

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        from scipy.optimize import minimize

        self._center, self._scale = center_and_scale(matrix)
        bent = [self._columns.index(name) for name in self.parameters.bent if name in self._columns]
        self._bent = np.array(bent, dtype=np.float64)
        self._knots = np.zeros((len(self._bent), 0))
        standard = standardised(matrix, self._center, self._scale)
        at = np.arange(1, self.parameters.knots + 1) / (self.parameters.knots + 1)
        self._knots = np.array([np.quantile(standard[:, int(column)], at) for column in self._bent]).reshape(
            len(self._bent), len(at)
        )
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
        standard = standardised(matrix, self._center, self._scale)
        bends = [np.maximum(standard[:, [int(column)]] - knots, 0) for column, knots in zip(self._bent, self._knots, strict=True)]
        return np.column_stack([np.ones(len(matrix)), standard, *bends])

    def _quantiles(self, matrix: Matrix) -> Array:
        return self._basis(matrix) @ self._slopes

    def _keep(self, folder: Path) -> dict[str, Any]:
        arrays = {
            "center": self._center,
            "scale": self._scale,
            "bent": self._bent,
            "knots": self._knots,
            "slopes": self._slopes,
        }
        save_arrays(folder / ARTEFACT, arrays)
        return {}

    def _recall(self, folder: Path, learnt: dict[str, Any]) -> None:
        stored = load_arrays(folder / ARTEFACT)
        self._center, self._scale, self._bent = stored["center"], stored["scale"], stored["bent"]
        self._knots, self._slopes = stored["knots"], stored["slopes"]
