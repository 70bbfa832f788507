"""Settings of calibration and portfolios (`parameters_calibration.yml`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from wind_kedro.cards import Fleet, Product
from wind_kedro.strict import Strict

#: ``spread`` stretches each quantile's distance from the median, ``shift`` moves each quantile, ``none`` leaves them.
Correction = Literal["none", "spread", "shift"]


class Portfolios(Strict):
    """How groups are forecast from their farms (`parameters_calibration.yml`)."""

    error_correlation: float = Field(
        ge=0, le=1, description="of two farms' errors at the same interval: what the spread of a sum is made with"
    )
    min_capacity_share: float = Field(
        gt=0, le=1, description="a group of which fewer of its farms are forecast, by capacity, is not"
    )


class Calibration(Strict):
    """How forecasts are corrected by their own past (`parameters_calibration.yml`)."""

    days: int = Field(gt=0, description="how far back the errors of earlier issues are looked at")
    min_days: int = Field(gt=0, description="with fewer days of which an outcome is known nothing is corrected")
    settle_days: int = Field(
        ge=0, description="a correction counts days known / (days known + this): half of it once so many are known"
    )
    lead_edges_minutes: list[int] = Field(
        default_factory=list,
        description="lead times between two of these are corrected apart, where of each enough days are known; none: together",
    )
    candidates: dict[str, Correction] = Field(
        default_factory=dict, description="how forecasts of a candidate are corrected; one that is not named is not"
    )
    products: dict[str, dict[str, Correction]] = Field(
        default_factory=dict, description="by product: candidates, instead of those above"
    )
    portfolios: Portfolios

    @field_validator("lead_edges_minutes")
    @classmethod
    def _rising(cls, edges: list[int]) -> list[int]:
        if edges != sorted(set(edges)) or len(edges) == 1:
            raise ValueError("give at least two, rising")
        return edges

    def correction_of(self, product: Product, entity_id: str, model: str, fleet: Fleet) -> Correction:
        """How a series is corrected. A portfolio always is: its spread is a guess until its own errors are known."""
        if entity_id in {group.id for group in fleet.portfolios_of(product)}:
            return "spread"
        return self.products.get(product.id, self.candidates).get(model, "none")
