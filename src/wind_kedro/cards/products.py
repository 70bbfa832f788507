"""Products: what is forecast, when, and by which score it is judged."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from wind_kedro.cards.base import Card, Identifier, Positive, Share, _each_once

#: The quantile level that is the point forecast.
MEDIAN = 0.5


#: Scores that can decide; `scores.py` has a formula for each.
DecidingScore = Literal["pinball_share", "nmae_share", "nrmse_share", "crps_share", "money_per_mwh"]


class Goal(Card):
    """A target of the product's score, and since when it applies: targets change as evidence comes in."""

    target: Positive = Field(description="value of the deciding score to reach or stay below")
    since: dt.date


class Product(Card):
    """What is sold: a forecast of given members, granularity and horizon, issued at given times, judged by one score."""

    id: Identifier
    name: str
    market: Identifier
    granularity_minutes: int = Field(gt=0, le=1440)
    horizon_minutes: int = Field(gt=0, description="how far after the issue time the last interval starts, exclusive")
    issue_times: list[dt.time] = Field(min_length=1, description="UTC times of day")
    quantile_levels: list[float] = Field(min_length=1)
    deciding_score: DecidingScore
    goal: Goal
    promotion_margin_share: Share = Field(0.02, description="by how much a challenger must beat the champion")
    members: Annotated[list[Identifier], AfterValidator(_each_once)] = Field(
        min_length=1,
        description="farms or groups; a group whose farms are all members is forecast from them, another by a model of its own",
    )
    weather_models: Annotated[list[Identifier], AfterValidator(_each_once)] | None = Field(
        None, min_length=1, description="the weather models that it may be made from; none: all that its farms have"
    )

    @field_validator("quantile_levels")
    @classmethod
    def _levels(cls, levels: list[float]) -> list[float]:
        if levels != sorted(set(levels)) or not all(0 < level < 1 for level in levels):
            raise ValueError("must rise strictly between 0 and 1")
        if any(level != round(level, 3) for level in levels):
            raise ValueError("must be whole thousandths, such as 0.05 or 0.975")
        if MEDIAN not in levels:
            raise ValueError("0.5 is needed: the median is the point forecast")
        return levels

    @field_validator("issue_times", mode="before")
    @classmethod
    def _quoted(cls, times: Any) -> Any:
        if isinstance(times, list) and any(isinstance(time, int | float) for time in times):
            raise ValueError('put quotes around times of day ("18:00"): YAML reads 18:00 as the number 1080')
        return times

    @field_validator("issue_times")
    @classmethod
    def _in_utc(cls, times: list[dt.time]) -> list[dt.time]:
        if any(time.tzinfo is not None for time in times):
            raise ValueError("give times of day in UTC, without an offset")
        if len(set(times)) < len(times):
            raise ValueError("a time appears twice")
        return times

    @field_validator("granularity_minutes")
    @classmethod
    def _divides_the_day(cls, minutes: int) -> int:
        if 1440 % minutes:
            raise ValueError(f"{minutes} minutes do not divide a day")
        return minutes

    def issues_between(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Issue times in ``(start, end]``, UTC, in order."""
        start, end = start.astimezone(dt.UTC), end.astimezone(dt.UTC)
        days = (end.date() - start.date()).days
        stamps = (
            dt.datetime.combine(start.date() + dt.timedelta(days=day), time, dt.UTC)
            for day in range(days + 1)
            for time in sorted(self.issue_times)
        )
        return [stamp for stamp in stamps if start < stamp <= end]
