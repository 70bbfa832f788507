"""The parameters of forecasting."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import AwareDatetime, Field, field_validator

from wind_kedro.cards.columns import BASE, CORRECTIONS
from wind_kedro.strict import Strict, Words

#: Features that no group names.
OTHER = "other"


class FeatureGroups(Strict):
    """Groups of features (`parameters_attributions.yml`)."""

    groups: dict[str, list[str]] = Field(
        description="patterns of feature columns by what people call them; the first that fits counts"
    )

    @field_validator("groups")
    @classmethod
    def _not_ours(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        if taken := {BASE, CORRECTIONS, OTHER} & set(groups):
            raise ValueError(f"{', '.join(sorted(taken))}: these names have a meaning of their own; choose another")
        return groups

    def group_of(self, column: str) -> str:
        """The group of a feature."""
        for name, patterns in self.groups.items():
            if any(fnmatchcase(column, pattern) for pattern in patterns):
                return name
        return OTHER


class Forecasting(Strict):
    """Settings `forecasting` in ``parameters_forecasting.yml``."""

    model_limit_seconds: float = Field(
        60, ge=0, description="a model that takes longer to forecast one product and entity has failed there; 0: no limit"
    )
    products: Words | None = Field(None, description="only these are forecast; none: all")
    at_deadline: Words = Field(
        default_factory=list,
        description="products that are issued from what is stored, as their deadline has passed, and no other",
    )
    made_at: AwareDatetime | None = Field(
        None, description="when the run began by the wall clock, UTC, if that is later than its as_of; none: as_of"
    )
