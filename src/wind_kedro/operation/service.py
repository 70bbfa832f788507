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
from wind_kedro.operation.facts import Facts
from wind_kedro.operation.records import CycleRecords
from wind_kedro.operation.schedule import FINISHED, Attempt, Due, Now, Outcome, decide, due_times
from wind_kedro.operation.settings import CycleSettings, Operation
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

#: Makes the commands that run a cycle: its settings, its cause, and as of which time.
Commands = Callable[[CycleSettings, Due, dt.datetime], list[Words]]


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
        self.started_at = _utc_now()
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
            if last is not None and last.outcome not in FINISHED:
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
        tried: set[tuple[str, dt.datetime]] = set()
        finished = True
        while not self.stopping.is_set() and (due := self._next(self._watch.digest(), tried)):
            tried.add((due.kind, due.due_at))
            self._start(due)
            while not self._has_ended():
                if self.stopping.wait(_TICK_SECONDS):
                    self._drain()
            last = self.records.last_ended(due.kind)
            finished = finished and last is not None and last.outcome in FINISHED
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
            self._has_ended()
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
        for kind, cycle in self.settings.cycles.items():
            decision = decide(kind, cycle, self.calendars.values(), self.records.of(kind), now)
            if decision.skipped:
                self._skip(kind, decision.skipped, now.time)
            if decision.due is not None and (kind, decision.due.due_at) not in tried:
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
        as_of = due.due_at if due.cause == "issue" else now
        attempt = Attempt(due.kind, due.due_at, due.attempt, due.cause, as_of, now, None, "running", inputs=self._inputs)
        self.records.save([attempt])
        logger.info("%s: the cycle due %s begins, as of %s", due.kind, due.due_at.isoformat(), as_of.isoformat())
        self.running, self._begun = attempt, time.monotonic()
        try:
            self._worker.start(self._commands(self.settings.cycles[due.kind], due, as_of))
        except OSError as error:  # no memory or no process left
            self._result = "failed", reason(error)

    def _has_ended(self) -> bool:
        """Whether the cycle that runs has ended, which is recorded then."""
        if self.running is None:
            return True
        # A result that could not be recorded is kept for the next turn.
        self._result = self._result or self._worker.result()
        limit = self.settings.cycles[self.running.kind].limit_minutes
        if self._result is None and time.monotonic() - self._begun > 60 * limit:
            self._stop(f"limit_minutes ({limit:g})", "failed")
        if self._result is None:
            return False
        outcome, message = self._result
        ended = dataclasses.replace(self.running, outcome=outcome, message=message, ended_at=_utc_now())
        self.records.save([ended])
        logger.log(
            logging.INFO if outcome in FINISHED else logging.ERROR,
            "%s: the cycle due %s: %s after %.1f s%s",
            ended.kind,
            ended.due_at.isoformat(),
            outcome.replace("_", " "),
            time.monotonic() - self._begun,
            f": {message}" if message else "",
        )
        self.counts[ended.kind, outcome] += 1
        self.running, self._result, self._is_stale, self._next_look = None, None, True, 0.0
        return True

    def _stop(self, limit: str, outcome: Outcome) -> None:
        self._worker.stop()
        self._result = outcome, f"was stopped after {limit}"

    def _drain(self) -> None:
        """Wait for the cycle that runs, up to the limit; then stop it. The process of the cycles ends."""
        end = time.monotonic() + self.settings.drain_seconds
        try:
            while not self._has_ended():
                self._turned = time.monotonic()
                if self._turned >= end or self.at_once.is_set():
                    self._stop(f"drain_seconds ({self.settings.drain_seconds:g})", "interrupted")
                else:
                    self.at_once.wait(_TICK_SECONDS / 5)
        finally:
            self._worker.stop()
