"""What is searched, over which past, and what may not be touched (`parameters_tuning.yml`)."""

from __future__ import annotations

import re
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wind_kedro.models.registry import ModelConfig, with_members
from wind_kedro.strict import Strict

Number = int | float
#: A stretch of the past, from inclusive, to exclusive.
Stretch = tuple[pd.Timestamp, pd.Timestamp]


class Range(Strict):
    """The values that a setting may take: from ``low`` to ``high``, whole numbers where both are, or one of ``choices``."""

    low: Number | None = None
    high: Number | None = None
    log: bool = Field(False, description="whether half and double are equally far")
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
                raise ValueError("on a logarithmic scale low is above nothing")
        return self

    def draw(self, trial: Any, name: str) -> Any:
        """The value that an Optuna trial proposes."""
        if self.choices is not None:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Tuning(Strict):
    """How settings are searched."""

    trials: int = Field(gt=0, description="of each candidate, those of earlier runs counted in")
    products: list[str] | None = Field(None, description="by whose forecasts settings are judged; none: all")
    folds: int = Field(
        gt=0, description="so many stretches, one after the other, each forecast by what was known at its beginning"
    )
    fold_days: int = Field(
        gt=0, description="the length of each; the last ends where that begins which training judges"
    )
    months: list[str] | None = Field(None, description="instead of folds: these months (2012-09), UTC")
    min_train_days: int = Field(gt=0, description="a fold with less history of a farm is left out for it")
    space: dict[str, dict[str, Range]] = Field(
        description="by candidate of training, the range of each of its settings; what is not named stays as it is"
    )

    @field_validator("months")
    @classmethod
    def _of_the_calendar(cls, months: list[str] | None) -> list[str] | None:
        for month in months or []:
            if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
                raise ValueError(f"'{month}' is not a month, such as 2012-09")
        return months

    def stretches(self, judged_from: pd.Timestamp) -> list[Stretch]:
        """The folds, the first first.

        Raises:
            ValueError: if one of them is judged by training too: settings cannot be judged on the data they were chosen on.
        """
        if self.months is None:
            step = pd.Timedelta(days=self.fold_days)
            return [
                (judged_from - (left + 1) * step, judged_from - left * step) for left in reversed(range(self.folds))
            ]
        begins = [pd.Timestamp(f"{month}-01", tz="UTC") for month in sorted(self.months)]
        ends = [begin + pd.offsets.MonthBegin() for begin in begins]
        if touched := [f"{begin:%Y-%m}" for begin, end in zip(begins, ends, strict=True) if end > judged_from]:
            raise ValueError(
                f"tuning.months: {', '.join(touched)} reach into what training.backtest judges, from {judged_from:%Y-%m-%d} on: "
                f"settings are chosen on earlier months"
            )
        return list(zip(begins, ends, strict=True))


class _Backtest(BaseModel):
    """Of `training.backtest`, when what is judged begins."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    days: int
    months: list[str] | None = None

    @field_validator("months", mode="before")
    @classmethod
    def _listed(cls, months: Any) -> Any:
        return months.split() if isinstance(months, str) else months


class Trained(BaseModel):
    """Of `training`, what tuning reads: the candidates as they are, and what is judged."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    seed: int
    backtest: _Backtest
    candidates: dict[str, ModelConfig]

    @field_validator("candidates")
    @classmethod
    def _with_members(cls, candidates: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        return with_members(candidates)

    def judged_from(self, training_time: pd.Timestamp) -> pd.Timestamp:
        """When that begins which training judges candidates by."""
        if self.backtest.months:
            return pd.Timestamp(f"{min(self.backtest.months)}-01", tz="UTC")
        return training_time - pd.Timedelta(days=self.backtest.days)
