"""The service: decides once a second what is due, has it run, and records it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from wind_kedro.cards import Calendar, CardError, Fleet
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError
from wind_kedro.failures import reason
from wind_kedro.operation.deadlines import Deadline, Deadlines
from wind_kedro.operation.facts import Facts
from wind_kedro.operation.records import CycleRecords
from wind_kedro.operation.schedule import FINISHED, Attempt, Due, Now, Outcome, decide, due_times
from wind_kedro.operation.settings import DEADLINE, DEADLINE_CYCLE, CycleSettings, Operation
from wind_kedro.operation.watch import Watch
from wind_kedro.operation.worker import Result, Words, Worker

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
#: The loop has stopped if it did not turn for so long; writing a record may take seconds.
_HEALTHY_SECONDS = 120
#: A timer that runs `--once` may be so late.
_TIMER_LATE = dt.timedelta(minutes=5)
#: How far ahead the next due time is looked for: a day for most kinds, else a week.
_AHEAD = (dt.timedelta(days=1), dt.timedelta(days=8))

#: A run at a deadline is tried so often.
_DEADLINE_ATTEMPTS = 2
#: A cycle may take so much longer than the last one without missing its deadline.
_MARGIN = 1.5
#: What a cycle of an issue is taken to last before one has finished.
_USUAL = dt.timedelta(minutes=1)

#: Makes the commands that run a cycle: its settings, its cause, as of which time, and the products in the order of their gates.
Commands = Callable[[CycleSettings, Due, dt.datetime, list[list[str]]], list[Words]]


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Service:
    """Runs the cycles of an environment when they are due, one at a time.

    Args:
        settings: of the operation.
        fleet: the cards.
        records: of all attempts so far.
        worker: runs commands.
        commands: makes them.
        watch: looks at the files of the sources.
        read_facts: reads what the environment has issued, as of a time.
    """

    def __init__(
        self,
        settings: Operation,
        fleet: Fleet,
        records: CycleRecords,
        worker: Worker,
        commands: Commands,
        watch: Watch,
        read_facts: Callable[[dt.datetime], Facts],
    ) -> None:
        self.settings, self.records, self._worker = settings, records, worker
        self._commands, self._watch, self._read_facts = commands, watch, read_facts
        self.calendars: Mapping[str, Calendar] = {product.id: fleet.calendar(product.id) for product in fleet.products}
        deadline_minutes = [each.deadline_minutes_before_gate for each in settings.cycles.values() if each.at_issues]
        self._deadlines = Deadlines(self.calendars, self._after_minutes(), next(iter(deadline_minutes), None))
        self.started_at = _utc_now()
        #: Issues that were not made by their deadline, and those of them that were issued from what is stored, by product.
        self.missed: Counter[str] = Counter()
        self.issued_at_deadline: Counter[str] = Counter()
        self._tried: Counter[tuple[str, dt.datetime]] = Counter()
        self._missed_now: list[Deadline] = []
        #: Ends the loop; the cycle that runs may end.
        self.stopping = threading.Event()
        #: Stops the cycle that runs as well.
        self.at_once = threading.Event()
        #: Attempts that ended since the start, by kind and outcome.
        self.counts: Counter[tuple[str, str]] = Counter()
        self.facts = Facts()
        self.running: Attempt | None = None
        #: Why the loop itself cannot do its work; empty: it can.
        self.fault = ""
        self._begun = 0.0
        self._result: Result | None = None
        self._is_stale = True
        self._turned = time.monotonic()
        self._next_look = 0.0
        self._inputs = ""

    # --- what is asked over HTTP -----------------------------------------------------------------------------------------

    def is_healthy(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._turned < _HEALTHY_SECONDS

    def why_not_ready(self) -> list[str]:
        """Reasons why what consumers rely on is not there; none: it is."""
        reasons = [self.fault] if self.fault else []
        for kind in self.settings.cycles:
            last = self.records.last_ended(kind)
            # One that was stopped runs again; if a forecast is missing meanwhile, that is a reason of its own.
            if last is not None and last.outcome not in (*FINISHED, "stopped"):
                reasons.append(f"{kind}: the last cycle, due {last.due_at:%Y-%m-%dT%H:%M:%SZ}, {last.outcome}: {last.message}")
        return [*reasons, *self._late_products()]

    def _late_products(self) -> list[str]:
        late = dt.timedelta(minutes=self.settings.late_minutes + self._after_minutes())
        reasons = []
        for product_id, calendar in self.calendars.items():
            try:
                expected = Clock(as_of=_utc_now() - late).newest_issue(calendar)
            except CardError as error:  # it had no issue in the last forty days
                reasons.append(str(error))
                continue
            newest = self.facts.newest.get(product_id)
            if newest is None or newest < expected:
                found = "there is none" if newest is None else f"the newest is of {newest:%Y-%m-%dT%H:%MZ}"
                reasons.append(f"{product_id}: no forecast of {expected:%Y-%m-%dT%H:%MZ}: {found}")
        return reasons

    def _after_minutes(self) -> float:
        return max((cycle.after_minutes for cycle in self.settings.cycles.values() if cycle.at_issues), default=0)

    def next_due(self, kind: str) -> dt.datetime | None:
        """The next due time of a kind by its settings; None: within a week there is none."""
        now = _utc_now()
        for span in _AHEAD:
            if times := due_times(self.settings.cycles[kind], self.calendars.values(), now, now + span):
                return next(iter(times))
        return None

    # --- the loop --------------------------------------------------------------------------------------------------------

    def run(self, until: dt.datetime | None = None) -> None:
        """Run what is due until `stopping` is set or a time has come; then the cycle that runs may end.

        Args:
            until: UTC; None: without end.
        """
        while not self.stopping.is_set() and (until is None or _utc_now() < until):
            self._turn(self._tick)
            self.stopping.wait(_TICK_SECONDS)
        self._drain()

    def run_once(self) -> bool:
        """Run what is due now, each cycle once; whether all of it finished."""
        self.started_at -= _TIMER_LATE
        self.facts = self._read_facts(_utc_now())
        tried: set[tuple[str, dt.datetime]] = set()
        finished = True
        while not self.stopping.is_set() and (due := self._next(self._watch.digest(), tried)):
            tried.add((due.kind, due.due_at))
            self._start(due)
            while not self._has_ended():
                self._keep_deadlines()
                if self.stopping.wait(_TICK_SECONDS):
                    self._drain()
            last = self.records.last_ended(due.kind)
            if last is not None and last.outcome == "stopped":
                tried.discard((due.kind, due.due_at))  # it runs again
            else:
                finished = finished and last is not None and last.outcome in FINISHED
            self.facts = self._read_facts(_utc_now())
        self._drain()
        return finished

    def _turn(self, step: Callable[[], None]) -> None:
        """Do a step; a fault, such as a store that cannot be reached, is a reason for not being ready, and tried again."""
        try:
            step()
            self.fault = ""
        except Exception as error:  # whatever happens to the store or the files, the service goes on
            if not self.fault:
                logger.error("%s", reason(error), exc_info=not isinstance(error, WindKedroError | OSError))
            self.fault = reason(error)
            self.stopping.wait(min(self.settings.retry_seconds, self.settings.poll_seconds))
        self._turned = time.monotonic()

    def _tick(self) -> None:
        if self._is_stale:
            self.facts, self._is_stale = self._read_facts(_utc_now()), False
        if self.running is not None:
            if not self._has_ended():
                self._keep_deadlines()
        elif self._are_missed(_utc_now()):
            self._start(self._due_at_deadline())
        elif time.monotonic() >= self._next_look:
            due = self._next(self._watch.look())
            if due is not None:
                self._start(due)
            else:
                self._next_look = time.monotonic() + self._wait()

    def _wait(self) -> float:
        """Seconds to the next look: the files' or, if it is earlier, the next due time."""
        now = _utc_now()
        span = dt.timedelta(seconds=self.settings.poll_seconds)
        times = [
            time for each in self.settings.cycles.values() for time in due_times(each, self.calendars.values(), now, now + span)
        ]
        return min([self.settings.poll_seconds, *((time - now).total_seconds() for time in times)])

    def _next(self, inputs: str, tried: Collection[tuple[str, dt.datetime]] = ()) -> Due | None:
        """The first cycle that is due and was not tried; due times that are given up are recorded."""
        self._inputs = inputs
        now = Now(_utc_now(), self.started_at, inputs, self.settings.retry_seconds)
        if self._are_missed(now.time):
            return self._due_at_deadline()
        for kind, cycle in self.settings.cycles.items():
            decision = decide(kind, cycle, self.calendars.values(), self.records.of(kind), now)
            if decision.skipped:
                self._skip(kind, decision.skipped, now.time)
            if decision.due is None or (kind, decision.due.due_at) in tried:
                continue
            if cycle.at_issues or not self._would_delay_an_issue(kind, now.time):
                return decision.due
        return None

    def _skip(self, kind: str, times: tuple[dt.datetime, ...], now: dt.datetime) -> None:
        known = {attempt.due_at: attempt.attempt for attempt in self.records.of(kind)}
        self.records.save(
            Attempt(
                kind,
                time,
                known.get(time, 0) + 1,
                "schedule",
                None,
                None,
                now,
                "skipped",
                "a later one is due, or catch_up is none",
            )
            for time in times
        )
        self.counts[kind, "skipped"] += len(times)

    def _start(self, due: Due) -> None:
        now = _utc_now().replace(microsecond=0)
        # An issue is as of its due time, whenever it is made; everything else sees what is known by now.
        as_of = due.due_at if due.cause in {"issue", DEADLINE} else now
        attempt = Attempt(due.kind, due.due_at, due.attempt, due.cause, as_of, now, None, "running", inputs=self._inputs)
        self.records.save([attempt])
        logger.info("%s: the cycle due %s begins, as of %s", due.kind, due.due_at.isoformat(), as_of.isoformat())
        self.running, self._begun = attempt, time.monotonic()
        try:
            groups = self._deadlines.groups(due.due_at) if due.cause == "issue" else []
            self._worker.start(self._commands(self._cycle(due.kind), due, as_of, groups))
        except OSError as error:  # no memory or no process left
            self._result = "failed", reason(error)

    def _has_ended(self) -> bool:
        """Whether the cycle that runs has ended, which is recorded then."""
        if self.running is None:
            return True
        # A result that could not be recorded is kept for the next turn.
        self._result = self._result or self._worker.result()
        limit = self._cycle(self.running.kind).limit_minutes
        if self._result is None and time.monotonic() - self._begun > 60 * limit:
            self._stop(f"after limit_minutes ({limit:g})", "failed")
        if self._result is None:
            return False
        outcome, message = self._result
        ended = dataclasses.replace(self.running, outcome=outcome, message=message, ended_at=_utc_now())
        self.records.save([ended])
        logger.log(
            logging.INFO if outcome in FINISHED else logging.WARNING if outcome == "stopped" else logging.ERROR,
            "%s: the cycle due %s: %s after %.1f s%s",
            ended.kind,
            ended.due_at.isoformat(),
            outcome.replace("_", " "),
            time.monotonic() - self._begun,
            f": {message}" if message else "",
        )
        self.counts[ended.kind, outcome] += 1
        if ended.kind == DEADLINE and outcome in FINISHED:
            self.issued_at_deadline.update(each.product_id for each in self._missed_now)
        self.running, self._result, self._is_stale, self._next_look = None, None, True, 0.0
        return True

    def _cycle(self, kind: str) -> CycleSettings:
        return DEADLINE_CYCLE if kind == DEADLINE else self.settings.cycles[kind]

    def _stop(self, why: str, outcome: Outcome) -> None:
        self._worker.stop()
        self._result = outcome, f"was stopped {why}"

    # --- deadlines -------------------------------------------------------------------------------------------------------

    def _keep_deadlines(self) -> None:
        """Stop the cycle that runs if an issue would miss its deadline by it; if one has missed it, issue from what is stored."""
        now = _utc_now()
        if self.running is None or self.running.kind == DEADLINE:
            return
        if self._are_missed(now):
            names = ", ".join(f"{each.product_id} {each.issue:%Y-%m-%dT%H:%M}" for each in self._missed_now)
            self._stop(f"at the deadline of {names}", "stopped")
            self._has_ended()
            self._start(self._due_at_deadline())
        elif self.running.cause != "issue" and self._is_urgent(now):
            self._stop("for an issue that would miss its deadline", "stopped")

    def _missing(self, now: dt.datetime) -> list[Deadline]:
        """Newest issues that are due, open and not stored, of products that were issued before: others cannot be."""
        newest = self.facts.newest
        return [
            each
            for each in self._deadlines.newest(now)
            if each.product_id in newest and newest[each.product_id] < each.issue and now < each.closes_at
        ]

    def _is_urgent(self, now: dt.datetime) -> bool:
        """Whether an issue would miss its deadline unless its cycle begins now, and it would begin if no other ran."""
        if not any(self._latest_start(each) <= now for each in self._missing(now)):
            return False
        at = Now(now, self.started_at, self._inputs, self.settings.retry_seconds)
        decisions = [
            decide(kind, cycle, self.calendars.values(), self.records.of(kind), at).due
            for kind, cycle in self.settings.cycles.items()
            if cycle.at_issues
        ]
        return any(due is not None and due.cause == "issue" for due in decisions)

    def _are_missed(self, now: dt.datetime) -> bool:
        """Whether deadlines of issues have passed that are to be issued from what is stored; `_missed_now` has them."""

        def missed() -> list[Deadline]:
            return [
                each
                for each in self._missing(now)
                if each.at <= now and self._tried[each.product_id, each.issue] < _DEADLINE_ATTEMPTS
            ]

        self._missed_now = missed()
        if self._missed_now:  # the cycle that runs may have stored them
            self.facts = self._read_facts(now)
            self._missed_now = missed()
        return bool(self._missed_now)

    def _due_at_deadline(self) -> Due:
        """The run that issues what `_missed_now` has."""
        missed = self._missed_now
        for each in missed:
            key = each.product_id, each.issue
            self.missed[each.product_id] += not self._tried[key]
            self._tried[key] += 1
        due_at = max(each.due_at for each in missed)
        known = [attempt.attempt for attempt in self.records.of(DEADLINE) if attempt.due_at == due_at]
        return Due(DEADLINE, due_at, max(known, default=0) + 1, DEADLINE, tuple(each.product_id for each in missed))

    def _expected(self) -> dt.timedelta:
        """How long the cycle of an issue takes."""
        issues = [kind for kind, cycle in self.settings.cycles.items() if cycle.at_issues]
        return max((self._duration(kind) or _USUAL for kind in issues), default=_USUAL)

    def _duration(self, kind: str) -> dt.timedelta | None:
        last = self.records.last_finished(kind)
        return None if last is None or last.started_at is None or last.ended_at is None else last.ended_at - last.started_at

    def _latest_start(self, deadline: Deadline) -> dt.datetime:
        return max(deadline.due_at, deadline.at - _MARGIN * self._expected())

    def _would_delay_an_issue(self, kind: str, now: dt.datetime) -> bool:
        """Whether a cycle would run into the time in which an issue has to be made, and fits into a later one without any."""
        if self._is_urgent(now):
            return True
        duration = self._duration(kind)
        coming = self._deadlines.coming(now, now + dt.timedelta(days=2))
        starts = [self._latest_start(each) for each in [*self._missing(now), *coming]]
        if duration is None or not starts or now + duration <= min(starts):
            return False
        free = [later - (each.due_at + self._expected()) for each, later in zip(coming, starts[-len(coming) :][1:], strict=False)]
        return duration <= max(free, default=dt.timedelta())

    def _drain(self) -> None:
        """Wait for the cycle that runs, up to the limit; then stop it. The process of the cycles ends."""
        end = time.monotonic() + self.settings.drain_seconds
        try:
            while not self._has_ended():
                self._turned = time.monotonic()
                if self._turned >= end or self.at_once.is_set():
                    self._stop(f"after drain_seconds ({self.settings.drain_seconds:g})", "interrupted")
                else:
                    self.at_once.wait(_TICK_SECONDS / 5)
        finally:
            self._worker.stop()
