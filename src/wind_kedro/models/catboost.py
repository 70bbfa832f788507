"""CatBoost: gradient-boosted trees that learn all quantiles at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from wind_kedro.models.protocol import Array, Contributions, Forecaster, Parameters, numbers

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

ARTEFACT = "model.cbm"
LEARNT = "learnt.json"
#: With fewer rows each tree sees all of them; CatBoost refuses to sample from next to nothing.
MIN_ROWS_TO_SAMPLE = 100
#: With fewer rows the tails of what was left out are noise.
MIN_ROWS_TO_CALIBRATE = 1000
#: A quantile nearer to the median than this share of capacity is taken to be this far: nothing can be told from less.
LEAST_DISTANCE_SHARE = 0.003
#: Quantiles are not drawn in by more than half nor stretched beyond three times, whatever the rows left out say.
SPREAD_BOUNDS = (0.5, 3.0)
#: Columns of `contracts.ModelInput` that are what came. To learn from them would be to look it up.
TARGET_COLUMNS = frozenset({"power_share", "available_capacity_kw"})


class CatBoostParameters(Parameters):
    """Settings of `CatBoostModel`; those of trees are CatBoost's own words."""

    features: list[str] | None = Field(
        None, description="the columns to learn from; none given: every column of numbers that is not what came"
    )
    iterations: int = Field(150, gt=0, description="trees")
    learning_rate: float = Field(0.05, gt=0, le=1)
    depth: int = Field(6, ge=1, le=16)
    l2_leaf_reg: float = Field(3.0, ge=0)
    border_count: int = Field(64, ge=1, le=65535, description="splits tried per feature")
    rsm: float = Field(0.2, gt=0, le=1, description="share of the features tried at each split")
    subsample: float = Field(0.5, gt=0, le=1, description="share of the rows each tree sees")
    calibration_folds: int = Field(
        4,
        ge=0,
        description="blocks of time left out in turn to widen the quantiles to what they promise; below 2: not done",
    )
    thread_count: int = Field(1, description="1: farms are fitted side by side, each in its own process")

    @field_validator("features")
    @classmethod
    def _no_target(cls, features: list[str] | None) -> list[str] | None:
        if leaking := TARGET_COLUMNS & set(features or []):
            raise ValueError(f"{', '.join(sorted(leaking))} is what came: a forecast cannot know it")
        return features


class CatBoostModel(Forecaster):
    """Quantiles by CatBoost's loss `MultiQuantile`, spread to what they promise; missing features take their own way.

    Defaults were chosen on GEFCom2014 wind (zones 1, 5, 9; trained to 2012-09, judged on 2012-10 to 12) and La Haute Borne
    in 2014: few, slow and random trees. More or deeper ones learn the rows by heart, which the tails show first.
    """

    parameters_type: ClassVar[type[Parameters]] = CatBoostParameters
    parameters: CatBoostParameters
    _columns: list[str]
    _model: CatBoostRegressor
    _spread: Array

    @classmethod
    def type_name(cls) -> str:
        """See `Forecaster`."""
        return "catboost"

    @property
    def needed_columns(self) -> list[str]:
        """See `Forecaster`. Once it has learnt: all that it has learnt from."""
        return list(self._columns if self._fitted else self.parameters.features or [])

    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        columns = self.parameters.features or _columns_of_numbers(features)
        matrix = _matrix(features, columns)
        if not any(_varies(values) for values in matrix.T):
            raise ValueError(
                f"{self}: no feature column says anything: each of {', '.join(columns)} has one value only"
            )
        folds = self.parameters.calibration_folds
        self._spread = np.ones(len(self.levels))
        if folds >= 2 and len(share) >= MIN_ROWS_TO_CALIBRATE and len(self.levels) > 1:  # noqa: PLR2004 two blocks at least
            self._spread = self._calibrate(matrix, share, _blocks_of_time(features, folds))
        self._model = self._train(matrix, share)
        self._columns = columns

    def _train(self, matrix: NDArray[np.float32], share: Array) -> CatBoostRegressor:
        from catboost import CatBoostRegressor

        alphas = ",".join(str(level) for level in self.levels)
        sampled = len(share) >= MIN_ROWS_TO_SAMPLE
        ours = {"features", "calibration_folds"}
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

    def _calibrate(self, matrix: NDArray[np.float32], share: Array, block: NDArray[np.intp]) -> Array:
        """By how much to stretch each quantile's distance from the median, so that it holds on blocks of time left out.

        Trees know their own rows too well: their bands are too narrow elsewhere. This is conformalised quantile
        regression (Romano, Patterson and Candès, NeurIPS 2019), scaled by the band's width, over blocks instead of one
        split (Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015).
        """
        quantiles = np.empty((len(share), len(self.levels)))
        for number in range(int(block.max()) + 1):
            left_out = block == number
            quantiles[left_out] = self._quantiles(self._train(matrix[~left_out], share[~left_out]), matrix[left_out])
        middle = quantiles[:, self._middle]
        spread = np.ones(len(self.levels))
        for column, level in enumerate(self.levels):
            if column == self._middle:
                continue
            side = 1.0 if column > self._middle else -1.0
            distance = np.maximum(side * (quantiles[:, column] - middle), LEAST_DISTANCE_SHARE)
            # How far beyond the middle, on this side, the actual lay, in units of the forecast distance.
            reached = side * (share - middle) / distance
            spread[column] = np.quantile(reached, level if side > 0 else 1 - level)
        return np.clip(spread, *SPREAD_BOUNDS)

    @property
    def _middle(self) -> int:
        """Which level is the median, or comes nearest to it."""
        return int(np.argmin(np.abs(np.asarray(self.levels) - 0.5)))

    def _quantiles(self, model: CatBoostRegressor, matrix: NDArray[np.float32]) -> Array:
        raw = np.asarray(model.predict(matrix, thread_count=self.parameters.thread_count), dtype=np.float64)
        return np.sort(np.clip(raw.reshape(len(matrix), len(self.levels)), 0.0, 1.0), axis=1)

    def _predict(self, features: pd.DataFrame) -> Array:
        quantiles = self._quantiles(self._model, _matrix(features, self._columns))
        middle = quantiles[:, [self._middle]]
        return middle + (quantiles - middle) * self._spread

    def contributions(self, features: pd.DataFrame) -> Contributions:
        """Shapley values of the median (Lundberg and Lee, NeurIPS 2017), by CatBoost's own method for trees.

        They add up to the median before quantiles are sorted and kept within bounds.
        """
        from catboost import Pool

        self._need(features)
        matrix = _matrix(features, self._columns)
        if not len(matrix):
            return Contributions(np.empty(0), pd.DataFrame(columns=self._columns, dtype=float))
        values = np.asarray(
            self._model.get_feature_importance(
                Pool(matrix), type="ShapValues", thread_count=self.parameters.thread_count
            )
        )
        own = values[:, self._middle] if len(self.levels) > 1 else values
        return Contributions(own[:, -1], pd.DataFrame(own[:, :-1], columns=self._columns, index=features.index))

    def _save(self, folder: Path) -> None:
        self._model.save_model(str(folder / ARTEFACT), format="cbm")
        learnt = {"columns": self._columns, "spread": self._spread.tolist()}
        (folder / LEARNT).write_text(json.dumps(learnt, indent=2) + "\n", encoding="utf-8")

    def _load(self, folder: Path) -> None:
        from catboost import CatBoostRegressor

        learnt = json.loads((folder / LEARNT).read_text(encoding="utf-8"))
        self._columns, self._spread = learnt["columns"], np.asarray(learnt["spread"])
        self._model = CatBoostRegressor()
        self._model.load_model(str(folder / ARTEFACT), format="cbm")


def _blocks_of_time(features: pd.DataFrame, blocks: int) -> NDArray[np.intp]:
    """The block of each row: equal numbers of rows in order of time, or in their own order where that is not known.

    Rows of one interval, forecast at several issue times, stay together but for those on an edge.
    """
    order = np.arange(len(features))
    if "valid_at" in features:
        order = np.argsort(features["valid_at"].to_numpy(), kind="stable")
    block = np.empty(len(features), dtype=np.intp)
    block[order] = np.arange(len(features)) * blocks // len(features)
    return block


def _columns_of_numbers(features: pd.DataFrame) -> list[str]:
    chosen = features.select_dtypes(["number", "bool"]).columns
    return [str(column) for column in chosen if column not in TARGET_COLUMNS]


def _matrix(features: pd.DataFrame, columns: list[str]) -> NDArray[np.float32]:
    # CatBoost's own precision.
    return np.column_stack([numbers(features, column) for column in columns]).astype(np.float32)


def _varies(values: NDArray[np.float32]) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and (len(known) < len(values) or bool(known.min() < known.max()))
