"""Parameters of the pipeline tuning (`parameters_tuning.yml`)."""

from __future__ import annotations

import re
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wind_kedro.models.registry import ModelConfig, with_members
from wind_kedro.strict import Strict

Number = int | float
#: Period of the past: start, inclusive, and end, exclusive.
Stretch = tuple[pd.Timestamp, pd.Timestamp]


class Range(Strict):
    """Values of a setting: from ``low`` to ``high``, integers if both are, or one of ``choices``."""

    low: Number | None = None
    high: Number | None = None
    log: bool = Field(False, description="whether values are sampled on a logarithmic scale")
    choices: list[Any] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = self.low is not None and self.high is not None
        if bounds == (self.choices is not None):
            raise ValueError("a range is `low` and `high`, or `choices`")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low {self.low} is not below high {self.high}")
            if self.log and self.low <= 0:
                raise ValueError("on a logarithmic scale low must be above 0")
        return self

    def __contains__(self, value: Any) -> bool:
        if self.low is not None and self.high is not None:
            return isinstance(value, int | float) and self.low <= value <= self.high
        return value in (self.choices or [])

    def draw(self, trial: Any, name: str) -> Any:
        """Sample a value from an Optuna trial."""
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Tuning(Strict):
    """How settings are searched."""

    trials: int = Field(gt=0, description="number of trials of each candidate, including those of earlier runs")
    products: list[str] | None = Field(None, description="products on whose forecasts settings are scored; none: all")
    folds: int = Field(gt=0, description="number of consecutive folds, each forecast from the data known at its start")
    fold_days: int = Field(gt=0, description="length of a fold, days; the last ends where the backtest begins")
    months: list[str] | None = Field(None, description="months (2012-09) to use instead of folds, UTC")
    min_train_days: int = Field(gt=0, description="minimum days of a farm's history before a fold")
    space: dict[str, dict[str, Range]] = Field(
        description="by candidate of training, the range of each setting to search; others keep their value"
    )

    @field_validator("months")
    @classmethod
    def _of_the_calendar(cls, months: list[str] | None) -> list[str] | None:
        for month in months or []:
            if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
                raise ValueError(f"'{month}' is not a month, such as 2012-09")
        return months

    def stretches(self, judged_from: pd.Timestamp) -> list[Stretch]:
        """Folds in order of time.

        Raises:
            ValueError: if a fold overlaps the backtest, as settings must not be scored on the data they were chosen on.
        """
        if self.months is None:
            step = pd.Timedelta(days=self.fold_days)
            return [(judged_from - (left + 1) * step, judged_from - left * step) for left in reversed(range(self.folds))]
        begins = [pd.Timestamp(f"{month}-01", tz="UTC") for month in sorted(self.months)]
        ends = [begin + pd.offsets.MonthBegin() for begin in begins]
        if touched := [f"{begin:%Y-%m}" for begin, end in zip(begins, ends, strict=True) if end > judged_from]:
            raise ValueError(
                f"tuning.months: {', '.join(touched)} overlap training.backtest, which starts on {judged_from:%Y-%m-%d}: "
                f"choose earlier months"
            )
        return list(zip(begins, ends, strict=True))


class _Backtest(BaseModel):
    """Period of `training.backtest`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    days: int
    months: list[str] | None = None

    @field_validator("months", mode="before")
    @classmethod
    def _listed(cls, months: Any) -> Any:
        return months.split() if isinstance(months, str) else months


class Trained(BaseModel):
    """Parameters of training that tuning uses: candidates, and the period of the backtest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    seed: int
    backtest: _Backtest
    candidates: dict[str, ModelConfig]

    @field_validator("candidates")
    @classmethod
    def _with_members(cls, candidates: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        return with_members(candidates)

    def judged_from(self, training_time: pd.Timestamp) -> pd.Timestamp:
        """Start of the backtest by which training compares candidates."""
        if self.backtest.months:
            return pd.Timestamp(f"{min(self.backtest.months)}-01", tz="UTC")
        return training_time - pd.Timedelta(days=self.backtest.days)
