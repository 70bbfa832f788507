"""The calendar of a product: at which times it is issued, and which intervals each issue covers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from wind_kedro.cards.dated import Times
from wind_kedro.cards.markets import DayGate, Market
from wind_kedro.cards.products import Product

_MINUTE = np.timedelta64(1, "m")
#: Saturday and Sunday, as `datetime.date.weekday` counts.
_WEEKEND = (5, 6)


@dataclass(frozen=True)
class Calendar:
    """Issue times, revisions and intervals of a product in its market. `Fleet.calendar` makes it."""

    product: Product
    market: Market

    def issues_between(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Issue times in ``(start, end]``, UTC, in order, those of revisions included.

        A time at which every gate of its intervals is closed is none. ``issue_times`` are read in the product's time zone. A time
        that the clock skips in spring is issued as much later as the clock jumps, one that it passes twice in autumn at the first
        pass.
        """
        start, end = start.astimezone(dt.UTC), end.astimezone(dt.UTC)
        firsts, revisions = self._times(start, end)
        issues = sorted(stamp for stamp in firsts | revisions if start < stamp <= end)
        return [issue for issue, open_ in zip(issues, self._any_gate_open(_stamps(issues)), strict=True) if open_]

    def revisions(self, issued_at: Times) -> tuple[Times, npt.NDArray[np.int64]]:
        """Which issue each issue time revises.

        Args:
            issued_at: issue times, shape (issues,), UTC, as ``datetime64[us]`` without zone.

        Returns:
            The issue times of the issues that are revised, and the numbers of the revisions, both of shape (issues,). An issue
            that revises none has its own time and number 0. Numbers count all times of revisions, also those that are not sent.
        """
        if self.product.revisions is None or not len(issued_at):
            return issued_at, np.zeros(len(issued_at), dtype=np.int64)
        bounds = (pd.Timestamp(stamp, tz="UTC").to_pydatetime() for stamp in (issued_at.min(), issued_at.max()))
        firsts, later = (_stamps(sorted(times)) for times in self._times(*bounds))
        revised = firsts[np.searchsorted(firsts, issued_at, side="right") - 1]
        number = np.searchsorted(later, issued_at, side="right") - np.searchsorted(later, revised, side="right")
        return revised, number.astype(np.int64)

    def _times(self, start: dt.datetime, end: dt.datetime) -> tuple[set[dt.datetime], set[dt.datetime]]:
        """Times of issues and of revisions, UTC, from the last issue before ``start`` or earlier to ``end`` or later."""
        zone = ZoneInfo(self.product.time_zone)
        first, last = start.astimezone(zone).date() - dt.timedelta(days=2), end.astimezone(zone).date()

        def local(times: list[dt.time]) -> set[dt.datetime]:
            days = [first + dt.timedelta(days=day) for day in range((last - first).days + 1)]
            return {dt.datetime.combine(day, time, zone).astimezone(dt.UTC) for day in days for time in times}

        issues, rules = local(self.product.issue_times), self.product.revisions
        if rules is None:
            return issues, set()
        if rules.times is not None:
            return issues, local(rules.times) - issues
        ordered, step = sorted(issues), dt.timedelta(minutes=rules.every_minutes or 0)
        following = [*ordered[1:], ordered[-1] + dt.timedelta(days=2)]
        return issues, {
            issue + step * number
            for issue, until in zip(ordered, following, strict=True)
            for number in range(1, -(-(until - issue) // step))
        }

    def _revised_for(self, issued_at: Times) -> tuple[Times, npt.NDArray[np.int64]]:
        """The issue that each issue time revises, and how many minutes earlier than others its gates close."""
        revised, number = self.revisions(issued_at)
        last_minutes = 0 if self.product.revisions is None else self.product.revisions.last_minutes
        return revised, np.where(number > 0, last_minutes, 0)

    def intervals(self, issued_at: npt.NDArray[np.datetime64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Lead times of the intervals of each issue.

        Args:
            issued_at: shape (issues,), UTC, as ``datetime64[us]`` without zone.

        Returns:
            Minutes from the issue to the start of each interval, shape (issues, most intervals of an issue), and which of them
            the issue covers: inside the horizon or the days of delivery, and with an open gate. A revision covers those of the
            issue that it revises which are still open.
        """
        first, end = self._bounds(issued_at)
        steps = np.arange(0, max((end - first).max(initial=0), 0), self.product.granularity_minutes)
        leads = first[:, None] + steps[None, :]
        return leads, (leads < end[:, None]) & self._gates_open(issued_at, leads)

    def _bounds(self, issued_at: npt.NDArray[np.datetime64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Lead times of the first interval of each issue that may be open, and of the end, exclusive."""
        product, step = self.product, self.product.granularity_minutes
        revised, earlier = self._revised_for(issued_at)
        if product.delivery_days is None:
            # The first interval, counted from the issue time, whose gate may still be open, on the grid of the granularity.
            gate = min(market.gate_closure_minutes for _, market in self.market.versions) + earlier
            offset = (issued_at - issued_at.astype("datetime64[D]")) // _MINUTE
            first = (-(-(offset + gate) // step) * step - offset).astype(np.int64)
            return first, product.horizon_minutes - ((issued_at - revised) // _MINUTE).astype(np.int64)
        days = self._local_days(revised)
        first, end = (
            ((self._midnights(days + np.timedelta64(day, "D")) - issued_at) // _MINUTE).astype(np.int64)
            for day in (product.delivery_days[0], product.delivery_days[-1] + 1)
        )
        return first, end

    def _any_gate_open(self, issued_at: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
        """Which issues have an interval whose gate is open.

        Under the same rules, a gate never closes later than that of a later interval: the last interval under each decides.
        """
        first, end = self._bounds(issued_at)
        until = [np.minimum(end, (since - issued_at) // _MINUTE) for since, _ in self.market.versions[1:]] + [end]
        step = self.product.granularity_minutes
        last = np.stack([first + (each - 1 - first) // step * step for each in until], axis=1).astype(np.int64)
        exists = last >= first[:, None]
        opened: npt.NDArray[np.bool_] = exists & self._gates_open(issued_at, np.where(exists, last, first[:, None]))
        found: npt.NDArray[np.bool_] = np.logical_or.reduce(opened, axis=1)
        return found

    def gate_closures(self, issued_at: Times, valid_at: Times) -> Times:
        """When the gates of intervals close for the issues that cover them.

        Args:
            issued_at: issue time of each row, shape (rows,), UTC, as ``datetime64[us]`` without zone.
            valid_at: start of the interval of each row, likewise.

        Returns:
            The last times at which a forecast is accepted, likewise.
        """
        return self._closures(issued_at, ((valid_at - issued_at) // _MINUTE).astype(np.int64)[:, None])[:, 0]

    def gates_of(self, issued_at: dt.datetime) -> list[dt.datetime]:
        """The times at which gates of the intervals of an issue close, each once, rising, UTC."""
        issues = _stamps([issued_at.astimezone(dt.UTC)])
        leads, covered = self.intervals(issues)
        closures = np.unique(self._closures(issues, leads)[covered])
        return [pd.Timestamp(stamp, tz="UTC").to_pydatetime() for stamp in closures]

    def _gates_open(self, issued_at: npt.NDArray[np.datetime64], leads: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        open_: npt.NDArray[np.bool_] = issued_at[:, None] <= self._closures(issued_at, leads)
        return open_

    def _closures(self, issued_at: Times, leads: npt.NDArray[np.int64]) -> Times:
        """When the gates of intervals close, by issue and lead time, shape (issues, intervals)."""
        _, earlier = self._revised_for(issued_at)
        valid_at = (issued_at[:, None] + leads * _MINUTE).astype("datetime64[us]")
        closures = valid_at.copy()
        holidays = frozenset(self.market.holidays)
        for mask, market in self.market.by_rules(valid_at):
            closing = valid_at[mask] - market.gate_closure_minutes * _MINUTE
            if market.gate_closure_day is not None:
                each, where = np.unique(self._local_days(valid_at[mask]), return_inverse=True)
                gates = _stamps([self._gate(day, market.gate_closure_day, holidays) for day in each.tolist()])
                closing = np.minimum(closing, gates[where])
            closures[mask] = closing
        found: Times = (closures - earlier[:, None] * _MINUTE).astype(closures.dtype)
        return found

    def _gate(self, delivery_day: dt.date, gate: DayGate, holidays: frozenset[dt.date]) -> dt.datetime:
        day = delivery_day
        for _ in range(gate.days_before):
            day -= dt.timedelta(days=1)
            while gate.business_days and (day.weekday() in _WEEKEND or day in holidays):
                day -= dt.timedelta(days=1)
        return dt.datetime.combine(day, gate.time, ZoneInfo(self.market.time_zone)).astimezone(dt.UTC)

    def _local_days(self, stamps: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
        local = pd.DatetimeIndex(stamps, tz="UTC").tz_convert(self.market.time_zone).tz_localize(None)
        return local.to_numpy().astype("datetime64[D]")

    def _midnights(self, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
        """When local days begin, UTC. In a zone that changes its clock at midnight, a day begins at its first minute."""
        local = pd.DatetimeIndex(days.astype("datetime64[us]"))
        first_pass = np.ones(len(local), dtype=bool)
        begun = local.tz_localize(self.market.time_zone, ambiguous=first_pass, nonexistent="shift_forward")
        return begun.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")


def _stamps(times: list[dt.datetime]) -> npt.NDArray[np.datetime64]:
    return np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[us]")
