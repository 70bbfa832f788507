"""When cycles are due: a function of the settings, the calendars, the attempts so far, and the time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from wind_kedro.cards import Calendar
from wind_kedro.operation.settings import WEEKDAYS, CycleSettings

Cause = Literal["issue", "schedule", "data", "deadline"]
Outcome = Literal["running", "succeeded", "with_failures", "failed", "interrupted", "stopped", "skipped"]

#: Outcomes after which a due time is not tried again.
DONE: Collection[Outcome] = ("succeeded", "with_failures", "skipped")
#: Outcomes of a cycle that wrote all its results; ``with_failures``: failures of single farms or incidents among them.
FINISHED: Collection[Outcome] = ("succeeded", "with_failures")
_LONGEST_WAIT = dt.timedelta(hours=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Attempt:
    """One attempt to run a cycle; contract `contracts.operation.Cycles` has the meaning of each field."""

    kind: str
    due_at: dt.datetime
    attempt: int
    cause: Cause
    as_of: dt.datetime | None
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    outcome: Outcome
    message: str = ""
    inputs: str = ""


@dataclass(frozen=True)
class Due:
    """A cycle that is to run now."""

    kind: str
    due_at: dt.datetime
    attempt: int
    cause: Cause
    #: Of cause ``deadline``: products whose deadline has passed.
    products: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What is to be done about a kind of cycle: the cycle that is due, if any, and the due times that are given up."""

    due: Due | None = None
    skipped: tuple[dt.datetime, ...] = ()


@dataclass(frozen=True)
class Now:
    """The situation in which is decided.

    Attributes:
        time: UTC.
        started_at: when the service started.
        inputs: digest of the files of the sources; empty: not known, or just changing.
        retry_seconds: see `Operation`.
    """

    time: dt.datetime
    started_at: dt.datetime
    inputs: str = ""
    retry_seconds: float = 60


def due_times(
    settings: CycleSettings, calendars: Iterable[Calendar], start: dt.datetime, end: dt.datetime
) -> dict[dt.datetime, Cause]:
    """Due times of a kind of cycle in ``(start, end]``, UTC, in order, each with its cause.

    A local time that the clock skips in spring is due as much later as the clock jumps, one that it passes twice in autumn at the
    first pass.
    """
    found: dict[dt.datetime, Cause] = {}
    if settings.every_minutes:
        step = dt.timedelta(minutes=settings.every_minutes)
        number = (start - _EPOCH) // step + 1
        found |= dict.fromkeys((_EPOCH + step * each for each in range(number, (end - _EPOCH) // step + 1)), "schedule")
    if settings.at:
        found |= dict.fromkeys(_local_times(settings, start, end), "schedule")
    if settings.at_issues:
        after = dt.timedelta(minutes=settings.after_minutes)
        for calendar in calendars:
            found |= dict.fromkeys((issue + after for issue in calendar.issues_between(start - after, end - after)), "issue")
    return dict(sorted(found.items()))


def _local_times(settings: CycleSettings, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    zone = ZoneInfo(settings.time_zone)
    first, last = start.astimezone(zone).date() - dt.timedelta(days=1), end.astimezone(zone).date()
    days = [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
    chosen = [day for day in days if WEEKDAYS[day.weekday()] in (settings.days or WEEKDAYS)]
    times = (dt.datetime.combine(day, time, zone).astimezone(dt.UTC) for day in chosen for time in settings.at or [])
    return [time for time in times if start < time <= end]


def decide(kind: str, settings: CycleSettings, calendars: Iterable[Calendar], attempts: Sequence[Attempt], now: Now) -> Decision:
    """Whether a kind of cycle is due now, and which due times are given up.

    What was done is a set of due times, so that a clock that is set back makes none due again, and one that was ahead for a while
    holds none up.

    Args:
        kind: of cycle.
        settings: of this kind.
        calendars: of all products.
        attempts: those of this kind that are known, in the order in which they began.
        now: the situation.
    """
    newest = {attempt.due_at: attempt for attempt in attempts}
    times = due_times(settings, calendars, now.time - dt.timedelta(hours=settings.max_age_hours), now.time)
    # Before the first record nothing was missed: the latest due time alone counts.
    known = [time for time in times if time >= min(newest)] if newest else list(times)[-1:]
    stopped = Counter(attempt.due_at for attempt in attempts if attempt.outcome == "stopped")
    left = [time for time in known if not _is_done(newest.get(time), stopped[time], settings)]
    if settings.catch_up == "all":
        skipped, left = [], left[:1]
    elif settings.catch_up == "none" and left and left[-1] <= now.started_at:
        skipped, left = left, []
    else:
        skipped, left = left[:-1], left[-1:]
    if not left:
        return Decision(_due_by_data(kind, settings, attempts, now), tuple(skipped))
    before = newest.get(left[0])
    due = Due(kind, left[0], 1 if before is None else before.attempt + 1, times[left[0]])
    return Decision(None if _is_waiting(before, now) else due, tuple(skipped))


def _is_done(attempt: Attempt | None, stopped: int, settings: CycleSettings) -> bool:
    """Whether a due time is not tried again; attempts that were stopped for a deadline do not count."""
    return attempt is not None and (attempt.outcome in DONE or attempt.attempt - stopped >= settings.attempts)


def _is_waiting(attempt: Attempt | None, now: Now) -> bool:
    """Whether it is too early to try again; what was interrupted is tried at once."""
    if attempt is None or attempt.outcome != "failed" or attempt.ended_at is None:
        return False
    wait = min(dt.timedelta(seconds=now.retry_seconds * 2 ** (attempt.attempt - 1)), _LONGEST_WAIT)
    return dt.timedelta() <= now.time - attempt.ended_at < wait


def _due_by_data(kind: str, settings: CycleSettings, attempts: Sequence[Attempt], now: Now) -> Due | None:
    """The cycle that is due as files have changed since the last one that finished began."""
    if settings.new_data_minutes is None or not now.inputs:
        return None
    begun = [attempt for attempt in attempts if attempt.started_at is not None]
    finished = [attempt for attempt in begun if attempt.outcome in FINISHED]
    if finished and finished[-1].inputs == now.inputs:
        return None
    last = begun[-1] if begun else None
    if last is not None and last.cause == "data" and last.inputs == now.inputs:
        again = last.attempt < settings.attempts and not _is_waiting(last, now)
        return Due(kind, last.due_at, last.attempt + 1, "data") if again else None
    if last is not None and last.started_at is not None:
        passed = now.time - last.started_at
        if dt.timedelta() <= passed < dt.timedelta(minutes=settings.new_data_minutes):
            return None
    return Due(kind, now.time.replace(microsecond=0), 1, "data")
