"""The registry of model families, and the configuration of candidates.

A new family is a file with a `Forecaster` and a line in `MODELS`; the conformance suite then tests it with the others. A class
of another package needs no line: configuration names it by its import path.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from wind_kedro.cards import Farm
from wind_kedro.cards.tiers import Tier
from wind_kedro.errors import format_validation_fault
from wind_kedro.models.allowed import NotAllowedError, allow_classes, classes_of, is_allowed
from wind_kedro.models.base import Forecaster, read_model_card
from wind_kedro.strict import Strict

PHYSICAL, BLEND, HAND_OVER = "physical", "blend", "hand_over"


#: The model families: where the class of each is. A new one is a file with a `Forecaster`, and a line here; a module is imported
#: when its family is first asked for.
MODELS: Mapping[str, str] = {
    "climatology": "wind_kedro.models.climatology.Climatology",
    "persistence": "wind_kedro.models.persistence.Persistence",
    PHYSICAL: "wind_kedro.models.physical.Physical",
    "power_curve": "wind_kedro.models.power_curve.PowerCurveModel",
    "linear_quantile": "wind_kedro.models.linear_quantile.LinearQuantile",
    "catboost": "wind_kedro.models.catboost.CatBoostModel",
    "boosting": "wind_kedro.models.boosting.Boosting",
    "quantile_forest": "wind_kedro.models.forest.QuantileForest",
    "regressor": "wind_kedro.models.regressor.Regressor",
    "lightgbm": "wind_kedro.models.lightgbm.LightGBMModel",
    "network": "wind_kedro.models.network.Network",
    BLEND: "wind_kedro.models.ensembles.blend.Blend",
    HAND_OVER: "wind_kedro.models.ensembles.hand_over.HandOver",
}


def family_of(name: str) -> type[Forecaster]:
    """The family of a name of `MODELS`, or the class at an import path (``my_package.my_module.MyModel``).

    The path is not followed into Python's own library, and what is found there must be a `Forecaster`.

    Raises:
        ValueError: if there is none.
    """
    module, _, attribute = MODELS.get(name, name).rpartition(".")
    known = f"known are {', '.join(MODELS)}, and import paths of own classes"
    if not module or module.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"no model type '{name}'; {known}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no model type '{name}': {error}; {known}") from error
    if not (isinstance(found, type) and issubclass(found, Forecaster)):
        raise ValueError(f"no model type '{name}': it is no Forecaster (wind_kedro.models.base); {known}")
    if found.type_name != name:
        raise ValueError(f"no model type '{name}': that class calls itself '{found.type_name}'")
    return found


class ModelConfig(Strict):
    """How a candidate is made: its family and what differs from the family's defaults."""

    type: str
    params: dict[str, Any] = Field(default_factory=dict)
    tier: Tier | None = Field(None, description="the least tier that an entity must have; without it, the family's")
    scope: Literal["farm", "fleet"] = Field(
        "farm", description="whose history it learns from: each farm's its own, or once from all members of a product"
    )
    shadow: bool = Field(
        False, description="issued beside the champion, never sent, and judged on what it issued instead of on its backtest"
    )
    try_every_days: int | None = Field(
        None, gt=0, description="where it is not the champion it is tried on one day in so many; none: in every training"
    )
    products: list[str] | None = Field(None, description="the products that it is for; none: all")
    features: list[str] | None = Field(
        None, description="the feature columns that it gets, as patterns (wind_*); one that begins with ! takes away; none: all"
    )

    @property
    def needs(self) -> Tier:
        """The least tier that an entity must have to be given this candidate."""
        return self.tier or family_of(self.type).min_tier

    @property
    def needs_history(self) -> bool:
        """Whether a farm must have a history of its own before it can be forecast by this."""
        members = self.params.get("members")
        if self.hands_over and isinstance(members, Mapping):
            return all(ModelConfig.model_validate(member).needs_history for member in members.values())
        return self.scope == "farm" and self.type != PHYSICAL

    @property
    def hands_over(self) -> bool:
        """Whether it leads from what others know to a farm's own model."""
        return self.type == HAND_OVER

    @property
    def fleet_members(self) -> dict[str, Any] | None:
        """What it learns from, or judges by, the whole fleet: members by name; none: it looks at its own farm alone."""
        if self.hands_over:
            return dict(self.params["members"])
        return None if self.scope == "farm" else {"": self.model_dump(mode="json", exclude_defaults=True)}

    def of_farms(self, farms: Sequence[Farm]) -> ModelConfig:
        """The same, with what its family, and those of its members, take from the cards of the farms that it is to forecast."""
        params = family_of(self.type).with_cards(self.params, farms)
        if self.type in _OF_MEMBERS:
            params["members"] = {
                name: ModelConfig.model_validate(member).of_farms(farms).model_dump(mode="json", exclude_defaults=True)
                for name, member in params["members"].items()
            }
        return self.model_copy(update={"params": params})

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
        family_of(name)
        return name


#: Families that are made of other candidates.
_OF_MEMBERS = {BLEND, HAND_OVER}


def versions_of(config: ModelConfig) -> dict[str, int]:
    """The versions of the families of a candidate and of its members."""
    members = config.params.get("members")
    of_members = [ModelConfig.model_validate(member) for member in members.values()] if isinstance(members, Mapping) else []
    versions = {config.type: family_of(config.type).version}
    for member in of_members:
        versions |= versions_of(member)
    return versions


def with_members(candidates: Mapping[str, ModelConfig]) -> dict[str, ModelConfig]:
    """The candidates, each blend and hand-over with what its members are in place of their names.

    Raises:
        ValueError: if one names a candidate that there is not or that has members itself, or if a blend names one of the fleet.
    """
    resolved = dict(candidates)
    for name, config in candidates.items():
        names = config.params.get("members")
        if config.type not in _OF_MEMBERS or not isinstance(names, list):
            continue
        for member in names:
            if member not in candidates or candidates[member].type in _OF_MEMBERS:
                known = ", ".join(other for other in candidates if candidates[other].type not in _OF_MEMBERS)
                raise ValueError(f"{config.type} '{name}' has no member '{member}' to take; there are {known}")
            if config.type == BLEND and candidates[member].scope == "fleet":
                raise ValueError(f"blend '{name}' is of one farm, but its member '{member}' of the fleet: make it a hand_over")
        members = {member: candidates[member].model_dump(mode="json", exclude_defaults=True) for member in names}
        resolved[name] = config.model_copy(update={"params": config.params | {"members": members}})
    return resolved


#: Candidates by name, each blend and hand-over with what its members are.
Candidates = Annotated[dict[str, ModelConfig], Field(min_length=1), AfterValidator(with_members)]


def build(name: str, config: ModelConfig, levels: Sequence[float], seed: int) -> Forecaster:
    """An unfitted model; ``name`` is that of the candidate, for messages.

    Raises:
        ValueError: if a setting is unknown or wrong, naming candidate and setting.
    """
    family = family_of(config.type)
    try:
        parameters = family.parameters_type.model_validate(config.params)
    except ValidationError as error:
        faults = "; ".join(map(format_validation_fault, error.errors()))
        raise ValueError(f"model '{name}' ({config.type}): {faults}") from None
    allow_classes(classes_of(config.model_dump()))
    return family(levels, seed, parameters)


def load_model(folder: Path) -> Forecaster:
    """The fitted model that was saved into ``folder``, of whatever family.

    Raises:
        FileNotFoundError: if there is no model.
        NotAllowedError: if its family is neither one of `MODELS` nor a class that the configuration names.
        ValueError: if this version cannot read it, or does not know its family.
    """
    name = read_model_card(folder)["type"]
    if name not in MODELS and not is_allowed(name):
        raise NotAllowedError(
            f"{folder}: no model type '{name}' that may be loaded: it is named by a stored file, and by no candidate of the "
            f"configuration (training.candidates)"
        )
    try:
        family = family_of(name)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return family.load(folder)
