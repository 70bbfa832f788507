"""When cycles are due: by calendars and the clock, after an outage, after a failure, when data arrives."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from wind_kedro.cards import Calendar, Fleet
from wind_kedro.operation.schedule import Attempt, Decision, Now, Outcome, decide, due_times
from wind_kedro.operation.settings import CycleSettings, Operation


def at(text: str) -> dt.datetime:
    """A time of March 2024, such as ``21 06:00``, or any time, UTC."""
    return dt.datetime.fromisoformat(text if "T" in text else f"2024-03-{text}").replace(tzinfo=dt.UTC)


def cycle(**given: Any) -> CycleSettings:
    return CycleSettings(**({"pipelines": ["forecasting"], "at": ["06:00", "18:00"]} | given))


def attempt(due_at: str, outcome: Outcome = "succeeded", number: int = 1, **given: Any) -> Attempt:
    times: dict[str, Any] = {"as_of": at(due_at), "started_at": at(due_at), "ended_at": at(due_at) + dt.timedelta(minutes=1)}
    return Attempt("forecast", at(due_at), number, **({"cause": "schedule", "outcome": outcome} | times | given))


def decided(now: str, settings: CycleSettings, *attempts: Attempt, inputs: str = "", started_at: str = "01 00:00") -> Decision:
    return decide("forecast", settings, [], attempts, Now(at(now), at(started_at), inputs, retry_seconds=60))


def due(found: Decision) -> tuple[dt.datetime, int] | None:
    return None if found.due is None else (found.due.due_at, found.due.attempt)


# --- due times -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "start", "end", "times"),
    [
        pytest.param({}, "20 06:00", "21 06:00", ["20 18:00", "21 06:00"], id="after the start, up to the end"),
        pytest.param({"at": None, "every_minutes": 360}, "20 05:59", "20 12:00", ["20 06:00", "20 12:00"], id="every six hours"),
        pytest.param({"days": ["wednesday"]}, "19 00:00", "26 00:00", ["20 06:00", "20 18:00"], id="on a day of the week"),
        pytest.param(
            {"at": ["01:30"], "time_zone": "Europe/Paris"}, "30 12:00", "31 12:00", ["31 00:30"], id="before spring's change"
        ),
        pytest.param(
            {"at": ["02:30"], "time_zone": "Europe/Paris"}, "30 12:00", "31 12:00", ["31 01:30"], id="skipped: an hour later"
        ),
        pytest.param(
            {"at": ["02:30"], "time_zone": "Europe/Paris"},
            "2024-10-26T12:00",
            "2024-10-27T12:00",
            ["2024-10-27T00:30"],
            id="twice in autumn: the first pass",
        ),
    ],
)
def test_due_times_of_a_schedule(settings: dict[str, Any], start: str, end: str, times: list[str]) -> None:
    assert list(due_times(cycle(**settings), [], at(start), at(end))) == [at(time) for time in times]


def test_issues_of_all_products_are_due_after_their_allowance(fleet: Fleet) -> None:
    calendars: list[Calendar] = [fleet.calendar(product.id) for product in fleet.products]
    settings = cycle(at=None, at_issues=True, after_minutes=5)
    found = due_times(settings, calendars, at("20 06:05"), at("21 06:15"))
    # Products at 06:00 and 18:00, and at 06:10.
    assert found == dict.fromkeys([at("20 06:15"), at("20 18:05"), at("21 06:05"), at("21 06:15")], "issue")


# --- what is made up -------------------------------------------------------------------------------------------------

BEFORE = attempt("20 06:00")


@pytest.mark.parametrize(
    ("catch_up", "first", "skipped"),
    [
        ("latest", "21 18:00", ["20 18:00", "21 06:00"]),
        ("all", "20 18:00", []),
        ("none", None, ["20 18:00", "21 06:00", "21 18:00"]),
    ],
)
def test_what_was_missed_while_the_service_was_down(catch_up: str, first: str | None, skipped: list[str]) -> None:
    found = decided("21 19:00", cycle(catch_up=catch_up, max_age_hours=48), BEFORE, started_at="21 18:30")
    assert due(found) == (None if first is None else (at(first), 1))
    assert list(found.skipped) == [at(time) for time in skipped]


def test_what_is_older_than_the_maximum_is_neither_made_up_nor_recorded() -> None:
    found = decided("21 19:00", cycle(catch_up="all", max_age_hours=12.5), BEFORE)
    assert (due(found), found.skipped) == ((at("21 18:00"), 1), ())
    assert decided("21 19:00", cycle(catch_up="all", max_age_hours=0.5), BEFORE) == Decision()


def test_a_new_environment_missed_nothing() -> None:
    for catch_up in ("latest", "all"):
        found = decided("21 19:00", cycle(catch_up=catch_up, max_age_hours=72))
        assert (due(found), found.skipped) == ((at("21 18:00"), 1), ())


def test_a_cycle_that_comes_due_while_the_service_runs_is_run_whatever_is_made_up() -> None:
    found = decided("20 18:01", cycle(catch_up="none"), BEFORE, started_at="20 17:00")
    assert due(found) == (at("20 18:00"), 1)


@pytest.mark.parametrize(
    ("catch_up", "first", "skipped"),
    [("latest", "21 18:00", ["21 06:00"]), ("all", "21 06:00", []), ("none", "21 18:00", ["21 06:00"])],
)
def test_a_cycle_longer_than_its_interval_delays_the_next_and_replaces_those_between(
    catch_up: str, first: str, skipped: list[str]
) -> None:
    long = attempt("20 18:00", ended_at=at("21 18:20"))
    found = decided("21 18:20", cycle(catch_up=catch_up, max_age_hours=48), BEFORE, long)
    assert (due(found), found.skipped) == ((at(first), 1), tuple(at(time) for time in skipped))


@pytest.mark.parametrize("outcome", ["succeeded", "with_failures", "skipped"])
def test_a_due_time_that_is_done_is_not_due_again(outcome: Outcome) -> None:
    assert decided("20 18:30", cycle(), attempt("20 18:00", outcome)) == Decision()


def test_a_clock_that_is_set_back_makes_nothing_due_again() -> None:
    done = [BEFORE, attempt("20 18:00")]
    assert decided("20 17:00", cycle(), *done) == Decision()
    assert decided("20 18:30", cycle(), *done) == Decision()


def test_a_clock_that_was_years_ahead_holds_nothing_up() -> None:
    ahead = attempt("2031-01-01T06:00")
    assert due(decided("20 18:30", cycle(), BEFORE, ahead)) == (at("20 18:00"), 1)


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "number", "again"),
    [
        ("20 18:01:59", 1, None),
        ("20 18:02", 1, 2),
        ("20 18:04:59", 3, None),
        ("20 18:05", 3, 4),
        ("20 18:30", 5, None),
        ("20 17:00", 1, None),
    ],
)
def test_a_cycle_that_failed_is_tried_again_after_a_wait_that_doubles(now: str, number: int, again: int | None) -> None:
    found = decided(now, cycle(), attempt("20 18:00", "failed", number))
    assert due(found) == (None if again is None else (at("20 18:00"), again))


def test_a_wait_does_not_outlast_a_clock_that_is_set_back() -> None:
    late = attempt("20 18:00", "failed", ended_at=at("20 23:00"))
    assert due(decided("20 18:10", cycle(), late)) == (at("20 18:00"), 2)


def test_a_cycle_that_was_interrupted_is_tried_again_at_once_but_not_for_ever() -> None:
    assert due(decided("20 18:01:01", cycle(), attempt("20 18:00", "interrupted", 4))) == (at("20 18:00"), 5)
    assert decided("20 18:01:01", cycle(), attempt("20 18:00", "interrupted", 5)) == Decision()


def test_what_was_stopped_for_a_deadline_is_run_again_at_once_and_uses_up_no_attempt() -> None:
    stopped = [attempt("20 18:00", "stopped", number) for number in (1, 2)]
    assert due(decided("20 18:01", cycle(attempts=1), *stopped)) == (at("20 18:00"), 3)
    assert decided("20 18:30", cycle(attempts=1), *stopped, attempt("20 18:00", "failed", 3)) == Decision()


def test_a_later_due_time_replaces_one_that_still_waits() -> None:
    found = decided("21 06:00", cycle(), attempt("20 18:00", "failed", 1, ended_at=at("21 05:59:30")))
    assert (due(found), found.skipped) == ((at("21 06:00"), 1), (at("20 18:00"),))


# --- new data --------------------------------------------------------------------------------------------------------

NEW = cycle(at=None, new_data_minutes=5)


@pytest.mark.parametrize(
    ("now", "inputs", "attempts", "expected"),
    [
        pytest.param("20 18:00", "b", [], ("20 18:00", 1), id="never run"),
        pytest.param("20 18:00", "a", [attempt("20 06:00", inputs="a")], None, id="unchanged"),
        pytest.param("20 18:00", "", [attempt("20 06:00", inputs="a")], None, id="still changing"),
        pytest.param("20 18:00", "b", [attempt("20 06:00", inputs="a")], ("20 18:00", 1), id="changed"),
        pytest.param("20 06:04", "b", [attempt("20 06:00", inputs="a")], None, id="changed too soon"),
        pytest.param("20 05:00", "b", [attempt("20 06:00", inputs="a")], ("20 05:00", 1), id="clock set back"),
        pytest.param("20 06:02", "b", [attempt("20 06:00", "failed", cause="data", inputs="b")], ("20 06:00", 2), id="failed"),
        pytest.param("20 06:01", "b", [attempt("20 06:00", "failed", cause="data", inputs="b")], None, id="failed, waits"),
        pytest.param("20 07:00", "b", [attempt("20 06:00", "failed", 5, cause="data", inputs="b")], None, id="given up"),
        pytest.param("20 07:00", "c", [attempt("20 06:00", "failed", 5, cause="data", inputs="b")], ("20 07:00", 1), id="mended"),
    ],
)
def test_new_data_makes_a_cycle_due(now: str, inputs: str, attempts: list[Attempt], expected: Any) -> None:
    found = due(decided(now, NEW, *attempts, inputs=inputs))
    assert found == (None if expected is None else (at(expected[0]), expected[1]))


def test_the_cycle_of_an_issue_reads_new_data_too() -> None:
    both = cycle(new_data_minutes=0)
    found = decided("20 18:00", both, attempt("20 06:00", inputs="a"), inputs="b").due
    assert found is not None
    assert found.cause == "schedule"
    assert decided("20 18:01", both, attempt("20 18:00", inputs="b"), inputs="b") == Decision()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"pipelines": []}, "pipelines, command: give one of them"),
        ({"command": "housekeeping"}, "pipelines, command: give one of them"),
        ({"at": None}, "at_issues, at, every_minutes, new_data_minutes: give at least one"),
        ({"at": [1080]}, "put quotes around times of day"),
        ({"days": ["someday"]}, "days.0"),
        ({"time_zone": "Europe"}, "is not an IANA time zone"),
        ({"catch_up": "some"}, "catch_up"),
        ({"deadline_minutes_before_gate": 5}, "only a cycle with at_issues: true has deadlines"),
        ({"every": 5}, "every"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        cycle(**given)


def test_the_kind_of_runs_at_deadlines_is_no_kind_of_cycle() -> None:
    with pytest.raises(ValidationError, match="choose another name"):
        Operation.model_validate({"cycles": {"deadline": {"pipelines": ["forecasting"], "at_issues": True}}})


def test_an_environment_drops_a_kind_of_cycle_with_null() -> None:
    kept = {"pipelines": ["forecasting"], "at_issues": True}
    assert list(Operation.model_validate({"cycles": {"forecast": kept, "training": None}}).cycles) == ["forecast"]
