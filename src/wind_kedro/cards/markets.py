"""Markets: gates, penalties, and what an error costs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from wind_kedro.cards.base import Card, Day, Identifier, Minutes, TimeZone, quoted_time
from wind_kedro.cards.dated import FAR_PAST, midnight, spans


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


class DayGate(Card):
    """A gate that closes for a whole day of delivery at once, as day-ahead auctions do."""

    time: dt.time = Field(description="local time of day in the market's time zone")
    days_before: int = Field(1, ge=0, le=14, description="days before the day of delivery")
    business_days: bool = Field(
        False, description="count only business days: neither Saturdays and Sundays nor the market's `holidays`"
    )

    @field_validator("time", mode="before")
    @classmethod
    def _quoted(cls, time: Any) -> Any:
        return quoted_time(time)

    @field_validator("time")
    @classmethod
    def _without_offset(cls, time: dt.time) -> dt.time:
        if time.tzinfo is not None:
            raise ValueError("give the time of day without an offset; the market's `time_zone` is the zone")
        return time


class RuleChange(Card):
    """Rules of a market that change on a day; what is not given stays as it was."""

    valid_from: Day = Field(description="first day of delivery, in the market's calendar, to which the rules apply")
    settlement_minutes: int | None = Field(None, gt=0, le=1440)
    gate_closure_minutes: Minutes | None = None
    gate_closure_day: DayGate | None = None
    penalty: Penalty | None = None

    @field_validator("settlement_minutes", "gate_closure_minutes", "penalty", mode="before")
    @classmethod
    def _is_given(cls, value: Any) -> Any:
        if value is None:  # only a gate by day can be taken away
            raise ValueError("give a value; a field that is left out stays as it was")
        return value


class Market(Card):
    """Where power is sold: its clock, its units, and what an error costs."""

    id: Identifier
    name: str
    time_zone: TimeZone = Field(description="the calendar in which its days and gate closures are read")
    settlement_minutes: int = Field(gt=0, le=1440, description="length of an interval that is settled")
    gate_closure_minutes: Minutes = Field(0, description="how long before an interval starts its gate closes")
    gate_closure_day: DayGate | None = Field(
        None, description="a gate that closes for whole days of delivery; none: by interval only"
    )
    holidays: list[Day] = Field(default_factory=list, description="days on which the market is closed, beside weekends")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    power_unit: Literal["kW", "MW"] = "MW"
    penalty: Penalty
    changes: list[RuleChange] = Field(default_factory=list, description="rules that replace those above from a day on, in order")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not {"gate_closure_minutes", "gate_closure_day"} & self.model_fields_set:
            raise ValueError("gate_closure_minutes, gate_closure_day: give at least one of them")
        days = [change.valid_from for change in self.changes]
        if days != sorted(set(days)):
            raise ValueError("changes: give them in order of valid_from, each day once")
        return self

    @property
    def versions(self) -> list[tuple[np.datetime64, Market]]:
        """The market as its rules make it: from when on, UTC, each with no further changes. The first applies from ever."""
        now = self.model_copy(update={"changes": []})
        found: list[tuple[np.datetime64, Market]] = [(FAR_PAST, now)]
        for change in self.changes:
            given = change.model_dump(exclude_unset=True, exclude={"valid_from"})
            now = now.model_copy(update={name: getattr(change, name) for name in given})
            found.append((midnight(change.valid_from, self.time_zone), now))
        return found

    def by_rules(self, valid_at: npt.NDArray[np.datetime64]) -> Iterator[tuple[npt.NDArray[np.bool_], Market]]:
        """Which intervals the rules of each time apply to; those that apply to none are left out.

        Args:
            valid_at: starts of intervals, UTC, as ``datetime64`` without zone, of any shape.

        Yields:
            A mask of that shape, and the market under those rules.
        """
        for since, until, market in spans(self.versions):
            if (mask := (valid_at >= since) & (valid_at < until)).any():
                yield mask, market
