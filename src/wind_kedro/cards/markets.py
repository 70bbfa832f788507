"""Markets: gates, penalties, and what an error costs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from wind_kedro.cards.base import Card, Identifier, Minutes, TimeZone


class Band(Card):
    """A step of a deviation charge: up to this share of available capacity, this rate (per MWh of deviation inside the step)."""

    up_to_share: float = Field(gt=0)
    rate_per_mwh: float = Field(ge=0)


class Penalty(Card):
    """What a deviation from the forecast costs, per MWh.

    ``imbalance``: a shortfall (produced less than sold) costs ``short_per_mwh``, a surplus ``long_per_mwh``.
    ``bands``: the absolute deviation as a share of available capacity is charged step by step (as India's deviation
    settlement does); the part beyond the last band pays the last band's rate.
    """

    kind: Literal["imbalance", "bands"]
    short_per_mwh: float = Field(0.0, ge=0)
    long_per_mwh: float = Field(0.0, ge=0)
    bands: list[Band] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "bands":
            edges = [band.up_to_share for band in self.bands]
            if not edges or edges != sorted(set(edges)):
                raise ValueError("bands: give at least one, with up_to_share rising")
        elif self.bands:
            raise ValueError("bands: only for kind 'bands'")
        return self


class Market(Card):
    """Where power is sold: its clock, its units, and what an error costs."""

    id: Identifier
    name: str
    time_zone: TimeZone = Field(description="the calendar in which its days and gate closures are read")
    settlement_minutes: int = Field(gt=0, le=1440, description="length of an interval that is settled")
    gate_closure_minutes: Minutes = Field(description="how long before an interval starts its gate closes")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    power_unit: Literal["kW", "MW"] = "MW"
    penalty: Penalty
