"""CatBoost: gradient-boosted trees that learn all quantiles at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wind_kedro.models.base import Array, Contributions, Parameters
from wind_kedro.models.quantile_levels import between_levels
from wind_kedro.models.spread import MIN_ROWS_TO_CALIBRATE, middle_of, spread_that_holds, stretched
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix, blocks_of_time, matrix_of

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

ARTEFACT = "model.cbm"
#: With fewer rows each tree sees all of them; CatBoost refuses to sample from next to nothing.
MIN_ROWS_TO_SAMPLE = 100


class CatBoostParameters(ColumnParameters):
    """Settings of `CatBoostModel`; those of trees are CatBoost's."""

    iterations: int = Field(150, gt=0, description="trees")
    learning_rate: float = Field(0.05, gt=0, le=1)
    depth: int = Field(6, ge=1, le=16)
    l2_leaf_reg: float = Field(3.0, ge=0)
    border_count: int = Field(64, ge=1, le=65535, description="splits tried per feature")
    random_strength: float = Field(1.0, ge=0, description="how much chance there is in the choice of a split")
    rsm: float = Field(0.2, gt=0, le=1, description="share of the features tried at each split")
    subsample: float = Field(0.5, gt=0, le=1, description="share of the rows each tree sees")
    learnt_levels: int | None = Field(
        None, ge=2, description="learn this many of the levels and read the others between them: time grows with the levels"
    )
    calibration_folds: int = Field(
        4, ge=0, description="blocks of time left out in turn to widen the quantiles to what they promise; below 2: not done"
    )
    thread_count: int = Field(1, description="1: farms are fitted side by side, each in its own process")


class CatBoostModel(ColumnForecaster, type_name="catboost"):
    """Quantiles by CatBoost's loss `MultiQuantile`, spread to what they promise; missing features take their own way.

    Defaults were chosen on GEFCom2014 wind (zones 1, 5, 9; trained to 2012-09, judged on 2012-10 to 12) and La Haute Borne
    in 2014: few, slow and random trees. More or deeper ones learn the rows by heart, which the tails show first.
    """

    parameters_type: ClassVar[type[Parameters]] = CatBoostParameters
    parameters: CatBoostParameters
    learnt = ("_spread",)
    _model: CatBoostRegressor
    _spread: Array

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        folds = self.parameters.calibration_folds
        self._spread = np.ones(len(self.levels))
        if folds >= 2 and len(share) >= MIN_ROWS_TO_CALIBRATE and len(self.levels) > 1:  # noqa: PLR2004 two blocks at least
            self._spread = self._calibrate(matrix, share, blocks_of_time(features, folds))
        self._model = self._train(matrix, share)

    def _train(self, matrix: Matrix, share: Array) -> CatBoostRegressor:
        from catboost import CatBoostRegressor

        alphas = ",".join(str(level) for level in self._learnt_levels)
        sampled = len(share) >= MIN_ROWS_TO_SAMPLE
        ours = {"features", "calibration_folds", "learnt_levels"}
        model = CatBoostRegressor(
            loss_function=("MultiQuantile:alpha=" if len(self.levels) > 1 else "Quantile:alpha=") + alphas,
            bootstrap_type="Bernoulli" if sampled else "No",
            random_seed=self.seed,
            allow_const_label=True,  # a farm that stood still all the time is forecast to stand still
            allow_writing_files=False,
            verbose=False,
            **self.parameters.model_dump(exclude=ours if sampled else ours | {"subsample"}),
        )
        return model.fit(matrix, share)

    def _calibrate(self, matrix: Matrix, share: Array, block: NDArray[np.intp]) -> Array:
        quantiles = np.empty((len(share), len(self.levels)))
        for number in range(int(block.max()) + 1):
            left_out = block == number
            quantiles[left_out] = self._raw(self._train(matrix[~left_out], share[~left_out]), matrix[left_out])
        return spread_that_holds(quantiles, share, self.levels)

    def _raw(self, model: CatBoostRegressor, matrix: Matrix) -> Array:
        learnt = self._learnt_levels
        raw = np.asarray(model.predict(matrix, thread_count=self.parameters.thread_count), dtype=np.float64)
        rising = np.sort(np.clip(raw.reshape(len(matrix), len(learnt)), 0.0, 1.0), axis=1)
        return between_levels(rising, learnt, self.levels)

    def _quantiles(self, matrix: Matrix) -> Array:
        return stretched(self._raw(self._model, matrix), self._spread, self.levels)

    def contributions(self, features: pd.DataFrame) -> Contributions:
        """Shapley values of the median (Lundberg and Lee, NeurIPS 2017), by CatBoost's own method for trees.

        They add up to the median before quantiles are sorted and kept within bounds.
        """
        from catboost import Pool

        self._need(features)
        matrix = matrix_of(features, self._columns)
        if not len(matrix):
            return Contributions(np.empty(0), pd.DataFrame(columns=self._columns, dtype=float))
        values = np.asarray(
            self._model.get_feature_importance(Pool(matrix), type="ShapValues", thread_count=self.parameters.thread_count)
        )
        own = values[:, middle_of(self._learnt_levels)] if len(self.levels) > 1 else values
        return Contributions(own[:, -1], pd.DataFrame(own[:, :-1], columns=self._columns, index=features.index))

    def _save(self, folder: Path) -> None:
        super()._save(folder)
        self._model.save_model(str(folder / ARTEFACT), format="cbm")

    def _load(self, folder: Path) -> None:
        from catboost import CatBoostRegressor

        super()._load(folder)
        self._model = CatBoostRegressor()
        self._model.load_model(str(folder / ARTEFACT), format="cbm")
