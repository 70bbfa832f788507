"""The parameters of forecasting."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import Field, field_validator

from wind_kedro.cards.columns import BASE, CORRECTIONS
from wind_kedro.strict import Strict

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
