import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock

UTC = dt.UTC


def _clock(**times: Any) -> Clock:
    return Clock.model_validate(times)


def _text(time: dt.datetime) -> str:
    return f"{time:%d %H:%M}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("2024-03-02T12:00:00Z", "2024-03-02T12:00:00+00:00", id="UTC"),
        pytest.param("2024-03-02T12:00", "2024-03-02T12:00:00+00:00", id="no zone is UTC"),
        pytest.param("2024-03-02T12:00:00+05:30", "2024-03-02T06:30:00+00:00", id="another zone"),
        pytest.param("2024-03-02", "2024-03-02T00:00:00+00:00", id="a date as text"),
        pytest.param(dt.date(2024, 3, 2), "2024-03-02T00:00:00+00:00", id="a date as YAML reads it"),
        pytest.param(dt.datetime(2024, 3, 2, 12), "2024-03-02T12:00:00+00:00", id="a time as YAML reads it"),  # noqa: DTZ001
        pytest.param(
            dt.datetime(2024, 3, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            "2024-03-01T23:00:00+00:00",
            id="the day before",
        ),
    ],
)
def test_every_time_is_brought_to_utc(given: Any, expected: str) -> None:
    clock = _clock(as_of=given, train_as_of=given, issue_from=given)
    assert [time.isoformat() for time in (clock.as_of, clock.train_as_of, clock.issue_from) if time] == [expected] * 3


@pytest.mark.parametrize(
    ("times", "field"),
    [
        pytest.param({"as_of": "tomorrow"}, "as_of", id="a word"),
        pytest.param({"as_of": None}, "as_of", id="nothing"),
        pytest.param({}, "as_of", id="missing"),
        pytest.param({"as_of": "2024-02-30"}, "as_of", id="no such day"),
        pytest.param({"as_of": "0001-01-01"}, "as_of", id="the first year"),
        pytest.param({"as_of": "9999-12-31T23:00-05:00"}, "as_of", id="after the last year"),
        pytest.param({"as_of": "2024-03-02", "train_from": "2024-01-01"}, "train_from", id="unknown"),
    ],
)
def test_a_wrong_time_is_refused(times: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=rf"(?s)1 validation error for Clock\n{field}\n"):
        Clock.model_validate(times)


@pytest.mark.parametrize(
    ("as_of", "hours", "quarters"),
    [
        pytest.param("2024-03-02T06:00", "02 06:00", "01 06:10", id="an issue at as_of counts"),
        pytest.param("2024-03-02T05:59", "01 18:00", "01 06:10", id="yesterday's"),
        pytest.param("2024-03-02T23:59", "02 18:00", "02 06:10", id="today's last"),
        pytest.param("2024-03-01T00:00", "29 18:00", "29 06:10", id="on a leap day"),
    ],
)
def test_newest_issue(fleet: Fleet, as_of: str, hours: str, quarters: str) -> None:
    clock = _clock(as_of=as_of)
    assert [_text(clock.newest_issue(fleet.calendar(product.id))) for product in fleet.products] == [hours, quarters]


@pytest.mark.parametrize(
    ("as_of", "train_as_of", "expected"),
    [
        pytest.param("2024-03-02T12:00", None, "02 06:00", id="in time for the newest issue of every product"),
        pytest.param("2024-03-02T06:05", None, "01 06:10", id="the product that waited longest decides"),
        pytest.param("2024-03-02T12:00", "2024-02-20T00:00", "20 00:00", id="earlier, as asked"),
        pytest.param("2024-03-02T12:00", "2024-03-02T11:00", "02 06:00", id="never after the newest issue"),
        pytest.param("2024-03-02T12:00", "2024-03-09T00:00", "02 06:00", id="never in the future"),
    ],
)
def test_training_time(fleet: Fleet, as_of: str, train_as_of: str | None, expected: str) -> None:
    clock = _clock(as_of=as_of, train_as_of=train_as_of)
    assert _text(clock.training_time(fleet)) == expected
    assert all(clock.training_time(fleet) <= clock.newest_issue(fleet.calendar(product.id)) for product in fleet.products)


@pytest.mark.parametrize(
    ("issue_from", "expected"),
    [
        pytest.param(None, ["03 06:00"], id="without it, the newest"),
        pytest.param("2024-03-02T06:00", ["02 18:00", "03 06:00"], id="all after it, not at it"),
        pytest.param("2024-03-02T05:59", ["02 06:00", "02 18:00", "03 06:00"], id="all after it"),
        pytest.param("2024-03-03T06:00", ["03 06:00"], id="the newest at least"),
        pytest.param("2025-01-01T00:00", ["03 06:00"], id="the newest even if it says later"),
    ],
)
def test_issues(fleet: Fleet, issue_from: str | None, expected: list[str]) -> None:
    clock = _clock(as_of="2024-03-03T12:00", issue_from=issue_from)
    assert [_text(issue) for issue in clock.issues(fleet.calendar("hours"))] == expected
