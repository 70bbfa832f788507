"""The one clock of a run: as of which time everything is seen, and at which times models are trained and forecasts issued.

A run never asks the machine what time it is: `hooks.py` fixes ``as_of`` once, and every node that cares takes this `Clock`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, field_validator, model_validator

from wind_kedro.cards import Calendar, CardError, Fleet
from wind_kedro.cards.base import within_years
from wind_kedro.strict import Split, Strict


def _month(value: str) -> str:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value):
        raise ValueError(f"'{value}' is not a month, such as 2013-01")
    return value


#: Months of the calendar, UTC, such as 2013-01.
Months = Annotated[list[Annotated[str, AfterValidator(_month)]], Split]


def stretches_of(months: Iterable[str]) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Start, inclusive, and end, exclusive, of each month, in order of time."""
    begins = [pd.Timestamp(f"{month}-01", tz="UTC") for month in sorted(months)]
    return [(begin, begin + pd.offsets.MonthBegin()) for begin in begins]


class Clock(Strict):
    """When a run takes place. All times are UTC; a time without zone is read as UTC, a date as its midnight."""

    as_of: dt.datetime
    train_as_of: dt.datetime | None = None
    issue_from: dt.datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _dates_are_midnights(cls, data: Any) -> Any:
        # YAML reads an unquoted 2015-06-01 as a date.
        if isinstance(data, dict):
            return {
                key: dt.datetime.combine(value, dt.time())
                if isinstance(value, dt.date) and not isinstance(value, dt.datetime)
                else value
                for key, value in data.items()
            }
        return data

    @field_validator("as_of", "train_as_of", "issue_from")
    @classmethod
    def _in_utc(cls, value: dt.datetime | None) -> dt.datetime | None:
        if value is None:
            return None
        value = within_years(value)
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)

    def newest_issue(self, calendar: Calendar) -> dt.datetime:
        """The newest issue time of a product that is not after ``as_of``.

        Raises:
            CardError: if there is none in the forty days before ``as_of``.
        """
        # Two days hold an issue unless gates close for days at once: then weekends and holidays may lie between.
        for days in (2, 40):
            if issues := calendar.issues_between(self.as_of - dt.timedelta(days=days), self.as_of):
                return issues[-1]
        raise CardError(
            f"products.yml: product '{calendar.product.id}' has no issue in the forty days before {self.as_of:%Y-%m-%d}: "
            f"look at the holidays and the gate of market '{calendar.market.id}'"
        )

    def training_time(self, fleet: Fleet) -> dt.datetime:
        """As of when models are trained: ``train_as_of``, but early enough to serve the newest issue of every product.

        A forecast may use only a model that existed when it was issued; a run that trains and forecasts at the same
        ``as_of`` therefore trains as of the newest issue time, not of the minutes since.
        """
        newest = min(self.newest_issue(fleet.calendar(product.id)) for product in fleet.products)
        return newest if self.train_as_of is None else min(self.train_as_of, newest)

    def issue_span(self, fleet: Fleet) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The first and the last issue time to forecast of all products, UTC; of none the last is before the first."""
        issues = [issue for product in fleet.products for issue in self.issues(fleet.calendar(product.id))]
        first, last = min(issues, default=self.as_of), max(issues, default=self.as_of - dt.timedelta(days=1))
        return pd.Timestamp(first), pd.Timestamp(last)

    def issues(self, calendar: Calendar) -> list[dt.datetime]:
        """The issue times to forecast: all after ``issue_from``, or, without it, the newest."""
        newest = self.newest_issue(calendar)
        if self.issue_from is None or self.issue_from >= newest:
            return [newest]
        return calendar.issues_between(self.issue_from, self.as_of)
