"""Any regressor with scikit-learn's interface, named by its import path: its prediction plus the quantiles of its past errors."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from wind_kedro.models.allowed import check_skops, load_regressor
from wind_kedro.models.base import Array, Parameters
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix, blocks_of_time

ARTEFACT = "regressor.skops"
#: With fewer rows there is nothing to leave out.
MIN_ROWS_TO_LEAVE_OUT = 50


class RegressorParameters(ColumnParameters):
    """Settings of `Regressor`."""

    regressor: str = Field(
        "sklearn.ensemble.HistGradientBoostingRegressor",
        description="import path of a class with fit(X, y), predict(X) and get_params()",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="what the class is made with")
    folds: int = Field(4, ge=2, description="blocks of time left out in turn, to learn how far it misses")
    rows_per_bin: int = Field(300, gt=0, description="forecasts that are judged together, by their height: tails need dozens")

    @field_validator("regressor")
    @classmethod
    def _a_path(cls, path: str) -> str:
        package = path.partition(".")[0]
        if not all(part.isidentifier() for part in path.split(".")) or "." not in path:
            raise ValueError(f"'{path}' is not an import path, such as sklearn.linear_model.Ridge")
        if package in sys.stdlib_module_names:
            raise ValueError(f"'{path}' is not a regressor: it is of Python's own library")
        return path


class Regressor(ColumnForecaster, type_name="regressor"):
    """Quantiles of the observed power by the level of the forecast, from forecasts of blocks of time left out in turn.

    Conformal in spirit: the spread is that of forecasts which the regressor had not learnt from (Vovk, Annals of Mathematics
    and Artificial Intelligence 74, 2015), per bin of equally many forecasts, in straight lines between the bins. Columns are
    standardised, and a missing value is taken to be the mean, for most regressors bear none.
    """

    parameters_type: ClassVar[type[Parameters]] = RegressorParameters
    parameters: RegressorParameters
    standardises = True
    learnt = ("_heights", "_misses")
    _regressor: Any
    #: Mean forecast of each bin, rising, and quantiles of observed minus forecast power.
    _heights: Array
    _misses: Array

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        self._regressor = self._new().fit(matrix, share)
        forecast = np.asarray(self._regressor.predict(matrix), dtype=np.float64)
        if len(share) >= MIN_ROWS_TO_LEAVE_OUT:
            block = blocks_of_time(features, self.parameters.folds)
            for number in range(self.parameters.folds):
                left_out = block == number
                learnt = self._new().fit(matrix[~left_out], share[~left_out])
                forecast[left_out] = learnt.predict(matrix[left_out])
        rising = np.argsort(forecast, kind="stable")
        bins = np.array_split(rising, max(1, len(rising) // self.parameters.rows_per_bin))
        self._heights = np.array([forecast[rows].mean() for rows in bins])
        self._misses = np.array([np.quantile(share[rows] - forecast[rows], self.levels) for rows in bins])

    def _new(self) -> Any:
        module, _, name = self.parameters.regressor.rpartition(".")
        try:
            regressor = getattr(importlib.import_module(module), name)(**self.parameters.settings)
        except (ImportError, AttributeError, TypeError) as error:
            raise ValueError(f"{self}: {self.parameters.regressor} cannot be made: {error}") from error
        if "random_state" in regressor.get_params():
            regressor.set_params(random_state=self.seed)
        return regressor

    def _quantiles(self, matrix: Matrix) -> Array:
        forecast = np.asarray(self._regressor.predict(matrix), dtype=np.float64)
        misses = np.column_stack([np.interp(forecast, self._heights, column) for column in self._misses.T])
        return np.asarray(forecast[:, None] + misses, dtype=np.float64)

    def _save(self, folder: Path) -> None:
        import skops.io

        content = skops.io.dumps(self._regressor)
        # What could not be read again is refused when it is trained, not when it is to forecast.
        check_skops(content, str(self))
        (folder / ARTEFACT).write_bytes(content)
        super()._save(folder)

    def _load(self, folder: Path) -> None:
        super()._load(folder)
        self._regressor = load_regressor((folder / ARTEFACT).read_bytes(), str(folder / ARTEFACT))
