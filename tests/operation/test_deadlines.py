"""Deadlines: which there are, what is stopped for them, what is issued at them, and in which order products are forecast."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cycle_runs import hang, wait
from wind_kedro.cards import Fleet
from wind_kedro.cli.operate import _commands
from wind_kedro.datasets import History
from wind_kedro.operation.deadlines import Deadlines
from wind_kedro.operation.facts import Facts
from wind_kedro.operation.records import CycleRecords
from wind_kedro.operation.schedule import Attempt, Due
from wind_kedro.operation.service import Service
from wind_kedro.operation.settings import CycleSettings, Operation
from wind_kedro.operation.watch import Watch
from wind_kedro.operation.worker import Worker

#: Nothing that is waited for takes longer, seconds; on a busy machine.
PATIENCE = 120
CYCLES = {"partition_by": ["kind", "due_at"], "contract": "wind_kedro.contracts.operation.Cycles"}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2024-03-{text}").replace(tzinfo=dt.UTC)


# --- which there are -------------------------------------------------------------------------------------------------


def deadlines(fleet: Fleet, before_minutes: float | None, after_minutes: float = 0) -> Deadlines:
    calendars = {product.id: fleet.calendar(product.id) for product in fleet.products}
    return Deadlines(calendars, after_minutes, before_minutes)


@pytest.mark.parametrize(
    ("before_minutes", "after_minutes", "hours", "quarters"),
    [
        # Hours of 06:00: gates at 06:00, 07:00, 08:00. Quarters of 06:10: gates from 06:10 on, every quarter of an hour.
        (10, 0, "20 06:50", "20 06:15"),
        (10, 55, "20 07:50", None),
        (0, 0, "20 07:00", "20 06:25"),
        (119, 0, "20 06:01", None),
        (None, 0, None, None),
    ],
)
def test_a_deadline_belongs_to_the_nearest_gate_that_a_cycle_can_meet(
    fleet: Fleet, before_minutes: float | None, after_minutes: float, hours: str | None, quarters: str | None
) -> None:
    found = {each.product_id: each.at for each in deadlines(fleet, before_minutes, after_minutes).newest(at("20 07:06"))}
    expected = {"hours": hours, "quarters": quarters}
    assert found == {product_id: at(time) for product_id, time in expected.items() if time}


def test_coming_deadlines_and_what_a_clock_that_jumps_changes(fleet: Fleet) -> None:
    given = deadlines(fleet, 10)
    for _ in range(2):  # there and back again
        assert [each.issue for each in given.coming(at("20 07:00"), at("21 07:00"))] == [
            at("20 18:00"),
            at("21 06:00"),
            at("21 06:10"),
        ]
        assert {each.issue for each in given.newest(at("25 07:00"))} == {at("25 06:00"), at("25 06:10")}


def test_products_of_the_nearest_gate_are_forecast_first(cards: dict[str, Any]) -> None:
    cards["products"][1]["issue_times"] = ["06:00"]
    groups = deadlines(Fleet.from_config(**cards), 10).groups(at("20 06:00"))
    assert groups == [["quarters"], ["hours"]]
    make = _commands({"env": "", "conf_source": ""})  # type: ignore[typeddict-item]
    cycle = CycleSettings(pipelines=["feature_engineering", "forecasting", "monitoring"], at_issues=True)
    words = make(cycle, Due("forecast", at("20 06:00"), 1, "issue"), at("20 06:00"), groups)
    assert [each[2] for each in words] == ["feature_engineering,forecasting", "forecasting,monitoring"]
    assert [re.findall(r"forecasting\.products=([^,]*)", each[4]) for each in words] == [["quarters"], []]
    assert [each[2] for each in make(cycle, Due("forecast", at("20 18:00"), 1, "issue"), at("20 18:00"), [["hours"]])] == [
        ",".join(cycle.pipelines)
    ]
    (run,) = make(cycle, Due("deadline", at("20 06:00"), 1, "deadline", ("hours", "quarters")), at("20 06:00"), [])
    assert "forecasting.at_deadline=hours quarters" in run[4]


# --- what the service does -------------------------------------------------------------------------------------------


class Place:
    """An environment with one product, of which an issue is due now, and was made before."""

    def __init__(self, cards: dict[str, Any], folder: Path, in_minutes: float = 0) -> None:
        self.issue = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) + dt.timedelta(minutes=in_minutes)
        cards["products"] = [cards["products"][0] | {"issue_times": [f"{self.issue:%H:%M}"], "members": ["hill"]}]
        self.fleet = Fleet.from_config(**cards | {"groups": []})
        self.newest = self.issue - dt.timedelta(days=1)
        self.ran: list[str] = []
        self._folder = folder

    def minutes_before_gate(self, deadline: dt.datetime) -> float:
        """From a deadline to a gate that is an hour away or more, so that the nearest one does not matter."""
        gate = self.fleet.calendar("hours").gates_of(self.issue)[1]
        return (gate - deadline).total_seconds() / 60

    def records(self, *attempts: Attempt) -> CycleRecords:
        records = CycleRecords(History(filepath=str(self._folder / "cycles"), **CYCLES), dt.datetime.now(dt.UTC))
        records.save(attempts)
        return records

    def service(self, seconds: Callable[[Due], float], records: CycleRecords, **cycles: Any) -> Service:
        """A service whose cycles take times; those that issue make the newest issue."""

        def commands(_: CycleSettings, due: Due, as_of: dt.datetime, __: list[list[str]]) -> float:
            self.ran.append(due.kind)
            if (taken := seconds(due)) < PATIENCE and due.kind != "training":
                self.newest = as_of
            return taken

        return Service(
            Operation.model_validate({"poll_seconds": 0.1, "cycles": cycles}),
            self.fleet,
            records,
            Worker(wait, 50),  # type: ignore[arg-type]
            commands,  # type: ignore[arg-type]
            Watch(self._folder, self.fleet, 1),
            lambda _: Facts({"hours": self.newest}),
        )


@pytest.fixture
def place(cards: dict[str, Any], tmp_path: Path) -> Place:
    return Place(cards, tmp_path)


def outcomes(service: Service, kind: str) -> list[tuple[int, str, str]]:
    return [(each.attempt, each.cause, each.outcome) for each in service.records.of(kind)]


def run_until(service: Service, done: Callable[[], bool]) -> None:
    thread = threading.Thread(target=service.run)
    thread.start()
    end = time.monotonic() + PATIENCE
    while not (is_done := done()) and time.monotonic() < end:
        time.sleep(0.05)
    service.at_once.set()
    service.stopping.set()
    thread.join()
    assert is_done


@pytest.mark.slow
@pytest.mark.parametrize("once", [True, False])
def test_an_issue_that_is_not_made_by_its_deadline_is_issued_from_what_is_stored_and_made_again(place: Place, once: bool) -> None:
    before = place.minutes_before_gate(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2))
    forecast = {"pipelines": ["forecasting"], "at_issues": True, "deadline_minutes_before_gate": before}
    service = place.service(
        lambda due: 1000.0 if due.kind == "forecast" and due.attempt == 1 else 0.0, place.records(), forecast=forecast
    )
    if once:
        assert service.run_once()
    else:
        run_until(service, lambda: service.counts["forecast", "succeeded"] > 0)
    assert outcomes(service, "forecast") == [(1, "issue", "stopped"), (2, "issue", "succeeded")]
    assert outcomes(service, "deadline") == [(1, "deadline", "succeeded")]
    assert place.ran == ["forecast", "deadline", "forecast"]
    first, second = service.records.of("forecast")
    assert first.message == f"was stopped at the deadline of hours {place.issue:%Y-%m-%dT%H:%M}"
    assert first.as_of == second.as_of == service.records.of("deadline")[0].as_of == place.issue
    assert (service.missed["hours"], service.issued_at_deadline["hours"]) == (1, 1)


@pytest.mark.slow
def test_training_is_stopped_for_an_issue_that_would_miss_its_deadline_and_runs_again(place: Place) -> None:
    before = place.minutes_before_gate(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60))
    cycles = {
        "training": {"pipelines": ["training"], "every_minutes": 1440, "max_age_hours": 48, "attempts": 1},
        "forecast": {"pipelines": ["forecasting"], "at_issues": True, "deadline_minutes_before_gate": before},
    }
    yesterday, place.newest = place.newest, place.issue

    def seconds(due: Due) -> float:
        # The issue is missing only once training runs: else its cycle, which is urgent, would come first.
        if place.ran == ["training"]:
            place.newest = yesterday
            service.facts = Facts({"hours": yesterday})
        return 1000.0 if due.kind == "training" else 0.0

    service = place.service(seconds, place.records(), **cycles)

    def runs_again() -> bool:
        return service.running is not None and place.ran.count("training") > 1 and service.why_not_ready() == []

    run_until(service, runs_again)
    assert outcomes(service, "forecast") == [(1, "issue", "succeeded")]
    assert outcomes(service, "training")[0] == (1, "schedule", "stopped")
    assert service.records.of("training")[0].message == "was stopped for an issue that would miss its deadline"
    assert place.ran == ["training", "forecast", "training"]


@pytest.mark.parametrize(("hours", "runs"), [(0.5, False), (30, True)])
def test_training_waits_for_an_issue_unless_it_fits_between_no_two(
    cards: dict[str, Any], tmp_path: Path, hours: float, runs: bool
) -> None:
    place = Place(cards, tmp_path, in_minutes=3)
    ended = place.issue - dt.timedelta(days=3)
    last = Attempt("training", ended, 1, "schedule", ended, ended - dt.timedelta(hours=hours), ended, "succeeded")
    before = place.minutes_before_gate(place.issue + dt.timedelta(minutes=10))
    cycles = {
        "training": {"pipelines": ["training"], "every_minutes": 1440, "max_age_hours": 48},
        "forecast": {
            "pipelines": ["forecasting"], "at_issues": True, "deadline_minutes_before_gate": before, "max_age_hours": 1
        },
    }  # fmt: skip
    service = place.service(lambda _: 0.0, place.records(last), **cycles)
    assert service.run_once()
    assert place.ran == (["training"] if runs else [])


@pytest.mark.slow
def test_a_process_with_a_call_that_was_given_up_is_replaced() -> None:
    worker = Worker(hang, 50)  # type: ignore[arg-type]
    try:
        for _ in range(2):
            worker.start([])
            end = time.monotonic() + PATIENCE
            while (result := worker.result()) is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert result == ("with_failures", "did not return within 0.01 s")
            process = worker._process
            process.join(PATIENCE)
            assert process.exitcode == 0
    finally:
        worker.stop()
