"""Rows of stored tables that concern the issues of a run."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of

NO_TIME = pd.Timedelta(0)


def days_of_run(
    table: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    before: pd.Timedelta = NO_TIME,
    entities: Collection[str] | None = None,
) -> pd.DataFrame:
    """Rows of the days of all issues to forecast, and of a time before these, of some entities (none: of all); a table in memory
    as it is.
    """
    first, last = (time.tz_localize(None).floor("D") for time in _span(fleet, clock, before))
    if isinstance(table, pd.DataFrame):
        return table
    return table.frame(first=first, last=last, entities=entities)


def features_of_run(features: Derived | pd.DataFrame, fleet: Fleet, clock: Clock) -> pd.DataFrame:
    """Features of the issues to forecast; a table in memory as it is."""
    if isinstance(features, pd.DataFrame):
        return features
    first, last = (time.tz_localize(None).floor("D") for time in clock.issue_span(fleet))
    issues = {pd.Timestamp(issue) for product in fleet.products for issue in clock.issues(fleet.calendar(product.id))}
    return features.frame(first=first, last=last, among=("issued_at", sorted(issues)))


def forecasts_of_run(
    forecasts: Sliced | pd.DataFrame, fleet: Fleet, clock: Clock, before: pd.Timedelta = NO_TIME
) -> pd.DataFrame:
    """Forecasts issued since a time before the first issue to forecast; a table in memory as it is."""
    first, last = _span(fleet, clock, before)
    return frame_of(forecasts, first=first, last=last)


def of_issues(rows: pd.DataFrame, issues: pd.DatetimeIndex) -> pd.DataFrame:
    """Those rows of some issues; if these are all, without a copy, as features are wide and farms are many."""
    asked = rows["issued_at"].isin(issues).to_numpy()
    return rows if asked.all() else rows[asked]


def _span(fleet: Fleet, clock: Clock, before: pd.Timedelta) -> tuple[pd.Timestamp, pd.Timestamp]:
    first, last = clock.issue_span(fleet)
    return (first - before if first <= last else first), last
