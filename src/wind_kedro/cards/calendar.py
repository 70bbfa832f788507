"""The calendar of a product: at which times it is issued, and which intervals each issue covers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from wind_kedro.cards.markets import DayGate, Market
from wind_kedro.cards.products import Product

_MINUTE = np.timedelta64(1, "m")
#: Saturday and Sunday, as `datetime.date.weekday` counts.
_WEEKEND = (5, 6)


@dataclass(frozen=True)
class Calendar:
    """Issue times and intervals of a product in its market. `Fleet.calendar` makes it."""

    product: Product
    market: Market

    def issues_between(self, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Issue times in ``(start, end]``, UTC, in order; those at which every gate of their intervals is closed are none.

        ``issue_times`` are read in the product's time zone. A time that the clock skips in spring is issued as much later as the
        clock jumps, one that it passes twice in autumn at the first pass.
        """
        start, end = start.astimezone(dt.UTC), end.astimezone(dt.UTC)
        zone = ZoneInfo(self.product.time_zone)
        first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
        local = [
            dt.datetime.combine(first + dt.timedelta(days=day), time, zone)
            for day in range((last - first).days + 1)
            for time in self.product.issue_times
        ]
        issues = sorted({stamp for stamp in (time.astimezone(dt.UTC) for time in local) if start < stamp <= end})
        return [issue for issue, open_ in zip(issues, self._any_gate_open(_stamps(issues)), strict=True) if open_]

    def intervals(self, issued_at: npt.NDArray[np.datetime64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Lead times of the intervals of each issue.

        Args:
            issued_at: shape (issues,), UTC, as ``datetime64[us]`` without zone.

        Returns:
            Minutes from the issue to the start of each interval, shape (issues, most intervals of an issue), and which of them
            the issue covers: inside the horizon or the days of delivery, and with an open gate.
        """
        first, end = self._bounds(issued_at)
        steps = np.arange(0, max((end - first).max(initial=0), 0), self.product.granularity_minutes)
        leads = first[:, None] + steps[None, :]
        return leads, (leads < end[:, None]) & self._gates_open(issued_at, leads)

    def _bounds(self, issued_at: npt.NDArray[np.datetime64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Lead times of the first interval of each issue that may be open, and of the end, exclusive."""
        product, step = self.product, self.product.granularity_minutes
        if product.delivery_days is None:
            # The first interval, counted from the issue time, whose gate may still be open, on the grid of the granularity.
            gate = min(market.gate_closure_minutes for _, market in self.market.versions)
            offset = (issued_at - issued_at.astype("datetime64[D]")) // _MINUTE
            first = (-(-(offset + gate) // step) * step - offset).astype(np.int64)
            return first, np.full(len(first), product.horizon_minutes)
        days = self._local_days(issued_at)
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

    def _gates_open(self, issued_at: npt.NDArray[np.datetime64], leads: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        open_ = np.zeros(leads.shape, dtype=bool)
        valid_at = issued_at[:, None] + leads * _MINUTE
        holidays = frozenset(self.market.holidays)
        for mask, market in self.market.by_rules(valid_at):
            in_time = leads[mask] >= market.gate_closure_minutes
            if market.gate_closure_day is not None:
                each, where = np.unique(self._local_days(valid_at[mask]), return_inverse=True)
                gates = _stamps([self._gate(day, market.gate_closure_day, holidays) for day in each.tolist()])
                in_time &= np.broadcast_to(issued_at[:, None], leads.shape)[mask] <= gates[where]
            open_[mask] = in_time
        return open_

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
