"""Deadlines of issues: a set time before the gates of their intervals close."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from wind_kedro.cards import Calendar

#: Issues of so long are looked at; between two of a product may lie holidays, but then no deadline is near.
_SPAN = dt.timedelta(days=2)


@dataclass(frozen=True)
class Deadline:
    """By when an issue has to be made.

    Attributes:
        product_id: of the issue.
        issue: issue time, UTC.
        due_at: since when its cycle is due.
        at: the deadline.
        closes_at: when the last gate of its intervals closes.
    """

    product_id: str
    issue: dt.datetime
    due_at: dt.datetime
    at: dt.datetime
    closes_at: dt.datetime


class Deadlines:
    """The deadlines of all products.

    The deadline of an issue belongs to the nearest gate of its intervals whose deadline is later than the issue is due; a gate
    that closes earlier cannot be met by any cycle.

    Args:
        calendars: by product.
        after_minutes: from an issue time until its cycle is due.
        before_minutes: from a deadline to its gate; None: there are no deadlines.
    """

    def __init__(self, calendars: Mapping[str, Calendar], after_minutes: float, before_minutes: float | None) -> None:
        self._calendars, self._before_minutes = calendars, before_minutes
        self._after = dt.timedelta(minutes=after_minutes)
        self._of = lru_cache(maxsize=10_000)(self._deadline)
        self._issues_at: tuple[dt.datetime, dt.datetime] | None = None
        self._issues: dict[str, list[dt.datetime]] = {}

    def newest(self, now: dt.datetime) -> list[Deadline]:
        """The deadline of the newest issue that is due of each product; products whose issue has none are left out."""
        found = []
        for product_id, issues in self._near(now).items():
            due = [issue for issue in issues if issue + self._after <= now]
            if due and (deadline := self._of(product_id, due[-1])):
                found.append(deadline)
        return found

    def coming(self, now: dt.datetime, until: dt.datetime) -> list[Deadline]:
        """The deadlines of issues that become due in ``(now, until]``, in the order of their due times; of two days at most."""
        found = [
            deadline
            for product_id, issues in self._near(now).items()
            for issue in issues
            if now < issue + self._after <= until and (deadline := self._of(product_id, issue))
        ]
        return sorted(found, key=lambda deadline: (deadline.due_at, deadline.at))

    def groups(self, due_at: dt.datetime) -> list[list[str]]:
        """The products with an issue that is due at a time, those of one nearest gate together, in the order of these gates."""
        by_gate: dict[dt.datetime, list[str]] = {}
        for product_id, calendar in self._calendars.items():
            for issue in calendar.issues_between(due_at - self._after - dt.timedelta(microseconds=1), due_at - self._after):
                gates = calendar.gates_of(issue)
                nearest = next((gate for gate in gates if gate > due_at), gates[-1])
                by_gate.setdefault(nearest, []).append(product_id)
        return [by_gate[gate] for gate in sorted(by_gate)]

    def _near(self, now: dt.datetime) -> dict[str, list[dt.datetime]]:
        """Issue times from two days before to two days after a time, by product; none if there are no deadlines."""
        if self._before_minutes is None:
            return {}
        if self._issues_at is None or not self._issues_at[0] <= now <= self._issues_at[1]:
            self._issues_at = now, now + dt.timedelta(hours=1)
            self._issues = {
                product_id: calendar.issues_between(now - self._after - _SPAN, now - self._after + _SPAN)
                for product_id, calendar in self._calendars.items()
            }
        return self._issues

    def _deadline(self, product_id: str, issue: dt.datetime) -> Deadline | None:
        gates, due_at = self._calendars[product_id].gates_of(issue), issue + self._after
        before = dt.timedelta(minutes=self._before_minutes or 0)
        at = next((gate - before for gate in gates if gate - before > due_at), None)
        return None if at is None else Deadline(product_id, issue, due_at, at, gates[-1])
