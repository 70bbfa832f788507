"""Parts of cards with a period: a turbine that is added, a farm that joins a group, a weather model that is replaced."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from wind_kedro.cards.base import Card, Day, refuse

#: Before and after all times of tables.
FAR_PAST = np.datetime64("0001-01-01", "us")
FAR_FUTURE = np.datetime64("9999-12-31", "us")
ValueT = TypeVar("ValueT")
Times = npt.NDArray[np.datetime64]


class Dated(Card):
    """A card that applies from a day on, or until one; the days are those of the farm's calendar."""

    valid_from: Day | None = Field(None, description="first day to which it applies, in the farm's calendar; none: always")
    valid_until: Day | None = Field(None, description="first day to which it no longer applies; none: for good")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        backwards = self.valid_from is not None and self.valid_until is not None and self.valid_from >= self.valid_until
        refuse((backwards, f"valid_until: {self.valid_until} is not after valid_from, {self.valid_from}"))
        return self

    @property
    def dated(self) -> bool:
        """Whether it has any date."""
        return self.valid_from is not None or self.valid_until is not None

    def period(self, time_zone: str) -> tuple[np.datetime64, np.datetime64]:
        """Begin and exclusive end of its time, UTC without zone, with the days of this zone."""
        begin = FAR_PAST if self.valid_from is None else midnight(self.valid_from, time_zone)
        return begin, FAR_FUTURE if self.valid_until is None else midnight(self.valid_until, time_zone)


@dataclass(frozen=True)
class Steps:
    """A number that changes at given times.

    Attributes:
        since: rising times, UTC without zone; the first is `FAR_PAST`.
        values: what applies from each of them on.
    """

    since: Times
    values: npt.NDArray[np.float64]

    def at(self, times: Times) -> npt.NDArray[np.float64]:
        """The number at each time, UTC without zone, in an array of the shape of ``times``."""
        # Without a common unit, the first time would overflow where the others are nanoseconds.
        since = np.searchsorted(self.since, times.astype("datetime64[us]"), side="right")
        found: npt.NDArray[np.float64] = self.values[since - 1]
        return found


def total(numbers: Iterable[Steps], times: Times) -> npt.NDArray[np.float64]:
    """Sum of numbers at each time, in an array of the shape of ``times``."""
    return sum((number.at(times) for number in numbers), np.zeros(times.shape))


def spans(versions: Sequence[tuple[np.datetime64, ValueT]]) -> list[tuple[np.datetime64, np.datetime64, ValueT]]:
    """Versions, each with its begin, as begin, exclusive end and version."""
    ends = [since for since, _ in versions[1:]] + [FAR_FUTURE]
    return [(since, until, value) for (since, value), until in zip(versions, ends, strict=True)]


def midnight(day: dt.date, time_zone: str) -> np.datetime64:
    """When a local day begins, UTC without zone."""
    return utc(dt.datetime.combine(day, dt.time(), ZoneInfo(time_zone)))


def utc(time: dt.datetime) -> np.datetime64:
    """A time with a zone as UTC without one."""
    return np.datetime64(time.astimezone(dt.UTC).replace(tzinfo=None), "us")
