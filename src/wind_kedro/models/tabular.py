"""What families that learn from a table of numbers have in common: its columns, its matrix, its blocks of time."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from wind_kedro.models.base import Array, Forecaster, Parameters, numbers
from wind_kedro.models.quantile_levels import few_levels

#: Columns of `contracts.ModelInput` that hold the observed power: targets, never features.
TARGET_COLUMNS = frozenset({"power_share", "available_capacity_kw"})

Matrix = NDArray[np.floating[Any]]


class ColumnParameters(Parameters):
    """Settings of every `ColumnForecaster`."""

    features: list[str] | None = Field(
        None, description="the columns to learn from; none given: every numeric column that does not hold the observed power"
    )

    @field_validator("features")
    @classmethod
    def _no_target(cls, features: list[str] | None) -> list[str] | None:
        if leaking := TARGET_COLUMNS & set(features or []):
            raise ValueError(f"{', '.join(sorted(leaking))} holds the observed power, which a forecast cannot know")
        return features


class ColumnForecaster(Forecaster):
    """A model of a matrix: rows in the order given, columns found by name, whatever the order they come in.

    A family writes how it learns from the matrix (`_learn`), its quantiles (`_quantiles`), and the names of what it has learnt
    (`learnt`). Missing is not-a-number; of a family that `standardises`, columns come in standard deviations from their mean, and
    a missing value is the mean.
    """

    parameters_type: ClassVar[type[Parameters]] = ColumnParameters
    parameters: ColumnParameters
    standardises: ClassVar[bool] = False
    learnt: ClassVar[tuple[str, ...]] = ("_columns", "_center", "_scale")
    _columns: list[str]
    _center: Array = np.empty(0)
    _scale: Array = np.empty(0)

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`. Once it has learnt: all that it has learnt from."""
        return list(self._columns if self._fitted else self.parameters.features or [])

    @property
    def _learnt_levels(self) -> list[float]:
        """The levels that are learnt; the others are read between them."""
        return few_levels(self.levels, getattr(self.parameters, "learnt_levels", None))

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        columns = self.parameters.features or columns_of_numbers(features)
        matrix = matrix_of(features, columns)
        if not any(_varies(values) for values in matrix.T):
            raise ValueError(f"{self}: no feature column varies: each of {', '.join(columns)} has one value only")
        self._columns = columns
        if self.standardises:
            self._center, self._scale = center_and_scale(matrix)
        self._learn(self._prepared(matrix), share, features)

    def _predict(self, features: pd.DataFrame) -> Array:
        return self._quantiles(self._prepared(matrix_of(features, self._columns)))

    def _prepared(self, matrix: Matrix) -> Matrix:
        if not self.standardises:
            return matrix
        standard = (matrix - self._center) / self._scale
        return np.where(np.isnan(standard), 0.0, standard)

    @abstractmethod
    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        """Learn from the matrix; ``features`` are the same rows, for models that need their times."""

    @abstractmethod
    def _quantiles(self, matrix: Matrix) -> Array:
        """Quantiles, one column per level, not yet sorted or clipped."""


def columns_of_numbers(features: pd.DataFrame) -> list[str]:
    """Every column that can be learnt from."""
    chosen = features.select_dtypes(["number", "bool"]).columns
    return [str(column) for column in chosen if column not in TARGET_COLUMNS]


def matrix_of(features: pd.DataFrame, columns: list[str]) -> Matrix:
    """The columns as 32-bit floats, the precision of trees; not-a-number where missing."""
    return np.column_stack([numbers(features, column) for column in columns]).astype(np.float32)


def center_and_scale(matrix: Matrix) -> tuple[Array, Array]:
    """Mean and standard deviation of each column's known values; 0 where nothing is known, and 1 where nothing varies."""
    known = ~np.isnan(matrix)
    count = np.maximum(known.sum(axis=0), 1)
    center = np.where(known, matrix, 0).astype(np.float64).sum(axis=0) / count
    deviation = np.sqrt((np.where(known, matrix - center, 0) ** 2).sum(axis=0) / count)
    return center, np.where(deviation > 0, deviation, 1.0)


def blocks_of_time(features: pd.DataFrame, blocks: int) -> NDArray[np.intp]:
    """The block of each row: equal numbers of rows in order of time, or in their own order where that is not known.

    Training hands rows over in order of issue. Rows of one interval, forecast at several issue times, stay together but for
    those on an edge.
    """
    order = np.arange(len(features))
    if "valid_at" in features:
        order = np.argsort(features["valid_at"].to_numpy(), kind="stable")
    block = np.empty(len(features), dtype=np.intp)
    block[order] = np.arange(len(features)) * blocks // len(features)
    return block


def _varies(values: Matrix) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and (len(known) < len(values) or bool(known.min() < known.max()))
