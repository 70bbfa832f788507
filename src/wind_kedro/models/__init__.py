"""The models: one family a file, one registry, so that configuration names a model and nothing else needs to know it.

A new family is a file with a `Forecaster` and a line in `MODELS`; the conformance suite then tests it with the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from wind_kedro.models.catboost import CatBoostModel
from wind_kedro.models.climatology import Climatology
from wind_kedro.models.persistence import Persistence
from wind_kedro.models.power_curve import PowerCurveModel
from wind_kedro.models.protocol import Contributions, Forecaster, read_model_card
from wind_kedro.tiers import Tier

__all__ = ["MODELS", "Contributions", "Forecaster", "ModelConfig", "build", "load_model"]

#: The families by the word that configuration and files use. Each imports its heavy library when it first needs it.
MODELS: Mapping[str, type[Forecaster]] = {
    family.type_name(): family for family in (Climatology, Persistence, PowerCurveModel, CatBoostModel)
}


class ModelConfig(BaseModel):
    """How a candidate is made: its family and what differs from the family's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    params: dict[str, Any] = Field(default_factory=dict)
    tier: Tier | None = Field(None, description="the least tier that an entity must have; without it, the family's")
    products: list[str] | None = Field(None, description="the products that it is for; none: all")
    features: list[str] | None = Field(
        None,
        description="the feature columns that it gets, as patterns (wind_*); one that begins with ! takes away; none: all",
    )

    @property
    def needs(self) -> Tier:
        """The least tier that an entity must have to be given this candidate."""
        return self.tier or MODELS[self.type].least_tier

    def is_for(self, product_id: str) -> bool:
        """Whether a product may have this candidate."""
        return self.products is None or product_id in self.products

    def columns_of(self, columns: Iterable[str]) -> list[str]:
        """Those of the feature columns that it gets, in their order: what a pattern of ``features`` gives and none takes away."""
        patterns = self.features or []
        given = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
        taken = [pattern[1:] for pattern in patterns if pattern.startswith("!")]

        def fits(column: str, some: list[str]) -> bool:
            return any(fnmatchcase(column, pattern) for pattern in some)

        return [column for column in columns if fits(column, given) and not fits(column, taken)]

    @field_validator("type")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in MODELS:
            raise ValueError(f"no model type '{name}'; known are {', '.join(MODELS)}")
        return name


def build(name: str, config: ModelConfig, levels: Sequence[float], seed: int) -> Forecaster:
    """An unfitted model.

    Args:
        name: what the candidate is called, for messages.
        config: its family and settings.
        levels: quantile levels that it is to give.
        seed: of all its random numbers.

    Raises:
        ValueError: if a setting is unknown or wrong, naming candidate and setting.
    """
    family = MODELS[config.type]
    try:
        parameters = family.parameters_type.model_validate(config.params)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise ValueError(f"model '{name}' ({config.type}): {faults}") from None
    return family(levels, seed, parameters)


def load_model(folder: Path) -> Forecaster:
    """The fitted model that was saved into ``folder``, of whatever family.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: if this version cannot read it, or does not know its family.
    """
    name = read_model_card(folder)["type"]
    if name not in MODELS:
        raise ValueError(f"{folder}: no model type '{name}'; known are {', '.join(MODELS)}")
    return MODELS[name].load(folder)
