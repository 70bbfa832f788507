"""Parameters of the pipeline tuning (`parameters_tuning.yml`)."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from wind_kedro.clock import Months, stretches_of
from wind_kedro.models.registry import Candidates
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
    months: Months | None = Field(None, description="months (2012-09) to use instead of folds, UTC")
    min_train_days: int = Field(gt=0, description="minimum days of a farm's history before a fold")
    space: dict[str, dict[str, Range]] = Field(
        description="by candidate of training, the range of each setting to search; others keep their value"
    )

    def stretches(self, judged_from: pd.Timestamp) -> list[Stretch]:
        """Folds in order of time.

        Raises:
            ValueError: if a fold overlaps the backtest, as settings must not be scored on the data they were chosen on.
        """
        if self.months is None:
            step = pd.Timedelta(days=self.fold_days)
            return [(judged_from - (left + 1) * step, judged_from - left * step) for left in reversed(range(self.folds))]
        found = stretches_of(self.months)
        if touched := [f"{begin:%Y-%m}" for begin, end in found if end > judged_from]:
            raise ValueError(
                f"tuning.months: {', '.join(touched)} overlap training.backtest, which starts on {judged_from:%Y-%m-%d}: "
                f"choose earlier months"
            )
        return found


class _Backtest(BaseModel):
    """Period of `training.backtest`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    days: int
    months: Months | None = None


class Trained(BaseModel):
    """Parameters of training that tuning uses: candidates, and the period of the backtest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    seed: int
    backtest: _Backtest
    candidates: Candidates

    def judged_from(self, training_time: pd.Timestamp) -> pd.Timestamp:
        """Start of the backtest by which training compares candidates."""
        if self.backtest.months:
            return pd.Timestamp(f"{min(self.backtest.months)}-01", tz="UTC")
        return training_time - pd.Timedelta(days=self.backtest.days)
