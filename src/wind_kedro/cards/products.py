"""Products: what is forecast, when, and by which score it is judged."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from wind_kedro.cards.base import Card, Identifier, Minutes, Positive, Share, TimeZone, _each_once, quoted_time, refuse

#: The quantile level that is the point forecast.
MEDIAN = 0.5
#: Scores that can decide; `scores.py` has a formula for each.
DecidingScore = Literal["pinball_share", "nmae_share", "nrmse_share", "crps_share", "money_per_mwh"]
#: Last day that an issue may cover, counted from its own: twice the reach of global weather models.
MAX_DELIVERY_DAY = 31
#: The longest lead: from the first minute of the day of issue to the end of the last day, which autumn makes longer.
MAX_HORIZON_MINUTES = (MAX_DELIVERY_DAY + 1) * 1440 + 60


def _consecutive(days: list[int]) -> list[int]:
    if not days or days[0] < 0 or days[-1] > MAX_DELIVERY_DAY or days != list(range(days[0], days[0] + len(days))):
        raise ValueError(f"must be consecutive days between 0 (the day of issue) and {MAX_DELIVERY_DAY}, such as [1] or [0, 1]")
    return days


def _quoted(times: Any) -> Any:
    return [quoted_time(time) for time in times] if isinstance(times, list) else times


def _whole_minutes(times: list[dt.time]) -> list[dt.time]:
    if any(time.tzinfo is not None for time in times):
        raise ValueError("give times of day without an offset; `time_zone` is the zone")
    if len(set(times)) < len(times):
        raise ValueError("a time appears twice")
    # Lead times are whole minutes.
    if any(time.second or time.microsecond for time in times):
        raise ValueError("give hours and minutes, such as 09:30, without seconds")
    return times


TimesOfDay = Annotated[list[dt.time], Field(min_length=1), BeforeValidator(_quoted), AfterValidator(_whole_minutes)]


class Revisions(Card):
    """When an issue is revised: its intervals are forecast again with what is known by then, until the next issue."""

    every_minutes: int | None = Field(None, gt=0, le=1440, description="a revision so often after each issue")
    times: TimesOfDay | None = Field(None, description="times of day in the product's `time_zone`, instead of every_minutes")
    min_change_share: Share = Field(
        0.0,
        description="smallest change worth sending, share of capacity: of the point forecast, where it differs most from the one "
        "that was sent last",
    )
    last_minutes: Minutes = Field(0, description="an interval is revised for the last time so long before its gate closes")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        refuse(((self.every_minutes is None) == (self.times is None), "every_minutes, times: give one of them"))
        return self


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
    issue_times: TimesOfDay = Field(description="times of day in `time_zone`")
    time_zone: TimeZone = Field("UTC", description="in which `issue_times` are read")
    revisions: Revisions | None = Field(None, description="none: an issue is not revised")
    delivery_days: Annotated[list[int], AfterValidator(_consecutive)] | None = Field(
        None,
        description="whole days of the market's calendar that an issue covers, counted from its own: [1] is the next "
        "day, with its 23, 24 or 25 hours; none: the intervals up to `horizon_minutes`",
    )
    horizon_minutes: int = Field(
        0,
        gt=0,
        le=MAX_HORIZON_MINUTES,
        validate_default=True,
        description="how far after the issue time the last interval starts, exclusive; not with `delivery_days`",
    )
    quantile_levels: list[float] = Field(min_length=1)
    point: Literal["median", "mean"] | float = Field(
        "median", description="the single number that is sold: the median, the mean, or one of the quantile levels"
    )
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
        rising = levels == sorted(set(levels)) and all(0 < level < 1 for level in levels)
        refuse(
            (not rising, "must rise strictly between 0 and 1"),
            (any(level != round(level, 3) for level in levels), "must be whole thousandths, such as 0.05 or 0.975"),
            (MEDIAN not in levels, "0.5 is needed: the median is shown and attributed"),
        )
        return levels

    @model_validator(mode="after")
    def _revises_at_other_times(self) -> Self:
        times = (self.revisions and self.revisions.times) or []
        both = sorted(set(times) & set(self.issue_times))
        refuse((both, f"revisions.times: {''.join(f'{time:%H:%M}' for time in both[:1])} is one of issue_times"))
        return self

    @field_validator("point")
    @classmethod
    def _is_a_level(cls, point: str | float, info: ValidationInfo) -> str | float:
        levels = info.data.get("quantile_levels")
        if levels and not isinstance(point, str) and point not in levels:
            raise ValueError(
                f"must be median, mean or one of the quantile_levels ({', '.join(f'{level:g}' for level in levels)})"
            )
        return point

    def point_of(self, quantiles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The single number of each row of quantiles, in their unit.

        The mean is the integral of the quantile function over all probabilities: linear between levels, the outermost quantiles
        beyond them. (Exponential tails that end at nothing and at capacity gave RMSEs up to .2 % higher on GEFCom2012 in 2010.)

        Args:
            quantiles: shape (rows, levels).
        """
        if self.point == "mean":
            levels = np.array(self.quantile_levels)
            edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
            # Not a product of matrices: the last digit of a row would depend on how many rows there are.
            mean: npt.NDArray[np.float64] = (quantiles * np.diff(edges)).sum(axis=1)
            return mean
        level = MEDIAN if isinstance(self.point, str) else self.point
        return quantiles[:, self.quantile_levels.index(level)]

    @model_validator(mode="before")
    @classmethod
    def _one_kind_of_horizon(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        days = given.get("delivery_days")
        if (days is None) == ("horizon_minutes" not in given):
            raise ValueError(f"horizon_minutes, delivery_days: give {'one' if days is None else 'only one'} of them")
        return given

    @field_validator("horizon_minutes", mode="before")
    @classmethod
    def _longest_lead(cls, minutes: Any, info: ValidationInfo) -> Any:
        # Only once `delivery_days` are read is it known how many they are; where they are wrong, they alone are the fault.
        if "delivery_days" not in info.data:
            return 1
        days = info.data["delivery_days"]
        return minutes if days is None else (days[-1] + 1) * 1440 + 60

    @field_validator("granularity_minutes")
    @classmethod
    def _divides_the_day(cls, minutes: int) -> int:
        if 1440 % minutes:
            raise ValueError(f"{minutes} minutes do not divide a day")
        return minutes
