"""The parameters of training (`parameters_training.yml`)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from wind_kedro.evaluation.settings import GATE_RULES, GateRules
from wind_kedro.models.allowed import allow_classes, classes_of
from wind_kedro.models.registry import ModelConfig, with_members
from wind_kedro.strict import Strict


def _listed(words: Any) -> Any:
    return words.split() if isinstance(words, str) else words


#: A list that on the command line is words: --params "months=2013-01 2013-02".
Words = Annotated[list[str], BeforeValidator(_listed)]


class Backtest(Strict):
    """The stretch of the past in which candidates are backtested."""

    days: int = Field(gt=0, description="how many days before the training time the backtest begins")
    refit_every_days: int = Field(gt=0, description="how often candidates are refitted in it, as in operation")
    min_train_days: int = Field(gt=0, description="a fold with less history than this is left out")
    cross_validation_blocks: int = Field(
        0, ge=0, description="into how many stretches the backtest is cut to cross-validate the chosen model; 0: not at all"
    )
    months: Words | None = Field(
        None, description="instead of days: these months (2013-01), UTC, each with candidates fitted as of its beginning"
    )

    @field_validator("months")
    @classmethod
    def _of_the_calendar(cls, months: list[str] | None) -> list[str] | None:
        for month in months or []:
            if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
                raise ValueError(f"'{month}' is not a month, such as 2013-01")
        return months


class Training(Strict):
    """Which candidates are trained, and how they are compared (`parameters_training.yml`)."""

    seed: int
    products: Words | None = Field(None, description="which products are trained; none: all")
    fleet_rows: int = Field(
        50_000, gt=0, description="how many rows a model of the fleet learns from at most, an equal share of each farm"
    )
    backtest: Backtest
    gate: GateRules = GATE_RULES
    fallbacks: list[str] = Field(
        default_factory=list, description="candidates that stand in, in order, where there is no weather or the champion fails"
    )
    candidates: dict[str, ModelConfig] = Field(min_length=1)

    @field_validator("candidates")
    @classmethod
    def _blends_know_their_members(cls, candidates: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        return with_members(candidates)

    @model_validator(mode="after")
    def _fallbacks_are_candidates(self) -> Self:
        unknown = [name for name in self.fallbacks if name not in self.candidates]
        if unknown:
            raise ValueError(f"fallbacks: no candidate {', '.join(unknown)}; there are {', '.join(self.candidates)}")
        return self

    @model_validator(mode="after")
    def _stored_models_may_name_these(self) -> Self:
        allow_classes(classes_of({name: config.model_dump() for name, config in self.candidates.items()}))
        return self
