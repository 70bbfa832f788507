"""Records of cycles: a row per attempt in the store, written when it begins and when it ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from wind_kedro.contracts.operation import Cycles
from wind_kedro.operation.schedule import FINISHED, Attempt

if TYPE_CHECKING:
    from wind_kedro.datasets.history import History

#: Attempts that are kept in memory, longer than any due time is made up.
_KEPT = dt.timedelta(days=40)


class CycleRecords:
    """The attempts of the last weeks, by kind, in memory as in the store.

    The process that makes it has to hold the lease ``operation``: attempts that are still recorded as running were interrupted.

    Args:
        history: dataset ``cycles``.
        now: UTC.
    """

    def __init__(self, history: History, now: dt.datetime) -> None:
        self._history = history
        self._attempts: dict[str, list[Attempt]] = {}
        frame = history.read(first=pd.Timestamp(now - _KEPT)).sort_values(["started_at", "attempt"], na_position="first")
        attempts = [_attempt(row) for row in frame.to_dict("records")]
        for attempt in attempts:
            self._keep(attempt)
        killed = [attempt for attempt in attempts if attempt.outcome == "running"]
        self.save(
            dataclasses.replace(attempt, outcome="interrupted", ended_at=now, message="its process ended") for attempt in killed
        )

    def of(self, kind: str) -> list[Attempt]:
        """The attempts of a kind, in the order in which they began."""
        return self._attempts.get(kind, [])

    def last_ended(self, kind: str) -> Attempt | None:
        """The last attempt of a kind that began and ended; None: there is none."""
        ended = [attempt for attempt in self.of(kind) if attempt.started_at and attempt.outcome != "running"]
        return ended[-1] if ended else None

    def last_finished(self, kind: str) -> Attempt | None:
        """The last attempt of a kind that wrote all its results; None: there is none."""
        finished = [attempt for attempt in self.of(kind) if attempt.outcome in FINISHED]
        return finished[-1] if finished else None

    def save(self, attempts: Iterable[Attempt]) -> None:
        """Store attempts in one commit; one that is known is replaced."""
        given = {(attempt.kind, attempt.due_at, attempt.attempt): attempt for attempt in attempts}
        if not given:
            return
        # A partition of the history is a due time with all its attempts.
        times = {(kind, due_at) for kind, due_at, _ in given}
        known = [attempt for kind in {kind for kind, _ in times} for attempt in self.of(kind) if (kind, attempt.due_at) in times]
        rows = {(attempt.kind, attempt.due_at, attempt.attempt): attempt for attempt in known} | given
        self._history.save(Cycles.validate(Cycles.table(dataclasses.asdict(row) for row in rows.values())))
        for attempt in given.values():
            self._keep(attempt)

    def _keep(self, attempt: Attempt) -> None:
        key = (attempt.due_at, attempt.attempt)
        kept = self._attempts.setdefault(attempt.kind, [])
        places = [place for place, other in enumerate(kept) if (other.due_at, other.attempt) == key]
        if places:
            kept[places[0]] = attempt
            return
        kept.append(attempt)
        oldest = attempt.due_at - _KEPT
        kept[:] = [other for other in kept if other.due_at >= oldest]


def _attempt(row: Mapping[Any, Any]) -> Attempt:
    times = {name: _time(row[name]) for name in ("due_at", "as_of", "started_at", "ended_at")}
    return Attempt(**{field.name: row[field.name] for field in dataclasses.fields(Attempt)} | times)


def _time(value: Any) -> dt.datetime | None:
    return None if pd.isna(value) else pd.Timestamp(value).to_pydatetime()
