"""LightGBM: gradient-boosted trees, one boosting a quantile. An extra: `pip install wind-kedro[lgbm]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from wind_kedro.models.base import Array, Parameters
from wind_kedro.models.quantile_levels import between_levels
from wind_kedro.models.tabular import ColumnForecaster, ColumnParameters, Matrix

if TYPE_CHECKING:
    from types import ModuleType

    from lightgbm import Booster


class LightGBMParameters(ColumnParameters):
    """Settings of `LightGBMModel`; those of trees are LightGBM's."""

    rounds: int = Field(220, gt=0, description="trees a level")
    learning_rate: float = Field(0.05, gt=0, le=1)
    num_leaves: int = Field(20, ge=2)
    min_data_in_leaf: int = Field(20, ge=0)
    extra_trees: bool = Field(True, description="splits drawn at random instead of searched for")
    feature_fraction: float = Field(0.3, gt=0, le=1, description="share of the features each tree sees")
    bagging_fraction: float = Field(0.7, gt=0, le=1, description="share of the rows each tree sees")
    lambda_l2: float = Field(1.0, ge=0)
    max_bin: int = Field(63, ge=2, description="splits tried per feature")
    learnt_levels: int | None = Field(13, ge=2, description="learn this many levels and read the others between them")
    repeats: int = Field(1, gt=0, description="boostings with other random numbers whose quantiles are averaged")
    num_threads: int = Field(1, description="1: farms are fitted side by side, each in its own process")


class LightGBMModel(ColumnForecaster, type_name="lightgbm"):
    """Quantiles by LightGBM's loss `quantile`, a boosting for each learnt level; missing features take their own way."""

    parameters_type: ClassVar[type[Parameters]] = LightGBMParameters
    parameters: LightGBMParameters
    #: Per repeat, one boosting a learnt level.
    _boosters: list[list[Booster]]

    def _learn(self, matrix: Matrix, share: Array, features: pd.DataFrame) -> None:
        lightgbm = _library()
        ours = {"features", "rounds", "learnt_levels", "repeats"}
        settings = self.parameters.model_dump(exclude=ours) | {
            "objective": "quantile",
            "bagging_freq": 1,
            "deterministic": True,
            "force_col_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(matrix.astype(np.float64), share, params=settings, free_raw_data=False)
        self._boosters = [
            [
                lightgbm.train(
                    settings | {"alpha": level, "seed": self.seed + repeat}, data, num_boost_round=self.parameters.rounds
                )
                for level in self._learnt_levels
            ]
            for repeat in range(self.parameters.repeats)
        ]

    def _quantiles(self, matrix: Matrix) -> Array:
        table = matrix.astype(np.float64)
        threads = self.parameters.num_threads
        learnt = np.mean(
            [
                np.sort(np.column_stack([booster.predict(table, num_threads=threads) for booster in repeat]), axis=1)
                for repeat in self._boosters
            ],
            axis=0,
        )
        return between_levels(learnt, self._learnt_levels, self.levels)

    def _save(self, folder: Path) -> None:
        super()._save(folder)
        for repeat, boosters in enumerate(self._boosters):
            for number, booster in enumerate(boosters):
                booster.save_model(str(folder / _file(repeat, number)))

    def _load(self, folder: Path) -> None:
        lightgbm = _library()
        super()._load(folder)
        self._boosters = [
            [lightgbm.Booster(model_file=str(folder / _file(repeat, number))) for number in range(len(self._learnt_levels))]
            for repeat in range(self.parameters.repeats)
        ]


def _file(repeat: int, number: int) -> str:
    """LightGBM's own text, one file a boosting."""
    return f"repeat_{repeat}_level_{number}.txt"


def _library() -> ModuleType:
    try:
        import lightgbm
    except ImportError as error:
        raise ModuleNotFoundError(
            "a candidate of type 'lightgbm' needs LightGBM, which is an extra: pip install 'wind-kedro[lgbm]'"
        ) from error
    return lightgbm
