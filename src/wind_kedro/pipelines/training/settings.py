"""The parameters of training (`parameters_training.yml`)."""

from __future__ import annotations

import datetime as dt
from typing import Self

from pydantic import Field, model_validator

from wind_kedro.clock import Months
from wind_kedro.evaluation.settings import GATE_RULES, GateRules
from wind_kedro.models.allowed import allow_classes, classes_of
from wind_kedro.models.registry import Candidates
from wind_kedro.strict import Strict, Words


class Backtest(Strict):
    """The stretch of the past in which candidates are backtested."""

    days: int = Field(gt=0, description="the backtest begins with the fold that lies so many days before the training time")
    refit_every_days: int = Field(gt=0, description="length of a fold: how often candidates are refitted in it, as in operation")
    folds_from: dt.date = Field(
        dt.date(2000, 1, 1), description="day (UTC) on which a fold begins, from which all others are counted, before it too"
    )
    min_train_days: int = Field(gt=0, description="a fold with less history than this is left out")
    cross_validation_blocks: int = Field(
        0, ge=0, description="into how many stretches the backtest is cut to cross-validate the chosen model; 0: not at all"
    )
    months: Months | None = Field(
        None, description="instead of these: months (2013-01), UTC, each with candidates fitted as of its beginning"
    )


class Training(Strict):
    """Which candidates are trained, and how they are compared (`parameters_training.yml`)."""

    seed: int
    products: Words | None = Field(None, description="which products are trained; none: all")
    fleet_rows: int = Field(
        50_000, gt=0, description="how many rows a model of the fleet learns from at most, an equal share of each farm"
    )
    fleet_half_life_days: float | None = Field(
        None, gt=0, description="rows of a farm so many days older are drawn half as often; none: all alike"
    )
    refit_every_days: int | None = Field(
        None, gt=0, description="each entity is trained on one day in so many, found from its name; none: all in each training"
    )
    backtest: Backtest
    gate: GateRules = GATE_RULES
    fallbacks: list[str] = Field(
        default_factory=list, description="candidates that stand in, in order, where there is no weather or the champion fails"
    )
    candidates: Candidates

    @property
    def recency(self) -> list[float]:
        """What fingerprints contain of `fleet_half_life_days`: nothing without it."""
        return [] if self.fleet_half_life_days is None else [self.fleet_half_life_days]

    @model_validator(mode="after")
    def _fallbacks_are_candidates(self) -> Self:
        unknown = [name for name in self.fallbacks if name not in self.candidates]
        if unknown:
            raise ValueError(f"fallbacks: no candidate {', '.join(unknown)}; there are {', '.join(self.candidates)}")
        for name, config in self.candidates.items():
            if config.try_every_days is not None and config.try_every_days % (self.refit_every_days or 1):
                raise ValueError(
                    f"candidates.{name}.try_every_days: {config.try_every_days} is no multiple of refit_every_days, "
                    f"{self.refit_every_days}: the candidate would be tried on days on which the entity has no turn"
                )
        # Stored models may name the classes of these candidates.
        allow_classes(classes_of({name: config.model_dump() for name, config in self.candidates.items()}))
        return self
