"""Issue times in local time, days of delivery of 23 and 25 hours, gates by interval and by day."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Calendar, CardError, Fleet
from wind_kedro.clock import Clock

UTC = dt.UTC


def _calendar(cards: dict[str, Any], market: dict[str, Any] | None = None, **product: Any) -> Calendar:
    cards["markets"][0] |= {"time_zone": "Europe/Paris"} | (market or {})
    if market and "gate_closure_day" in market:
        del cards["markets"][0]["gate_closure_minutes"]
    if "delivery_days" in product:
        del cards["products"][0]["horizon_minutes"]
    cards["products"][0] |= product
    return Fleet.from_config(**cards).calendar("hours")


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


def _issues(calendar: Calendar, start: str, end: str) -> list[str]:
    return [f"{issue:%d %H:%M}" for issue in calendar.issues_between(_utc(start), _utc(end))]


def _starts(calendar: Calendar, issued_at: str) -> list[str]:
    """The intervals of one issue, in local time."""
    leads, covered = calendar.intervals(np.array([issued_at], dtype="datetime64[us]"))
    stamps = pd.Timestamp(issued_at, tz="UTC") + pd.to_timedelta(leads[0][covered[0]], unit="min")
    return [f"{stamp:%d %H:%M}" for stamp in stamps.tz_convert(calendar.market.time_zone)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param("2024-01-10", "2024-01-11", ["10 08:00", "10 16:30"], id="winter is UTC+1"),
        pytest.param("2024-07-10", "2024-07-11", ["10 07:00", "10 15:30"], id="summer is UTC+2"),
        pytest.param("2024-03-30T12:00", "2024-03-31T12:00", ["30 16:30", "31 07:00"], id="over the change in spring"),
        pytest.param("2024-10-26T12:00", "2024-10-27T12:00", ["26 15:30", "27 08:00"], id="over the change in autumn"),
    ],
)
def test_issue_times_of_a_zone_follow_its_clock(cards: dict[str, Any], start: str, end: str, expected: list[str]) -> None:
    calendar = _calendar(cards, issue_times=["09:00", "17:30"], time_zone="Europe/Paris")
    assert _issues(calendar, start, end) == expected


def test_a_time_that_the_clock_skips_is_issued_later_and_one_that_comes_twice_once(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, issue_times=["02:30"], time_zone="Europe/Paris")
    assert _issues(calendar, "2024-03-30T12:00", "2024-04-01T12:00") == ["31 01:30", "01 00:30"]  # 03:30 local time
    assert _issues(calendar, "2024-10-26T12:00", "2024-10-28T12:00") == ["27 00:30", "28 01:30"]


def test_two_times_that_the_clock_brings_together_are_one_issue(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, issue_times=["02:30", "03:30"], time_zone="Europe/Paris")
    assert _issues(calendar, "2024-03-30T23:00", "2024-03-31T12:00") == ["31 01:30"]


@pytest.mark.parametrize(
    ("issued_at", "hours", "first", "last"),
    [
        pytest.param("2024-01-10T08:00", 24, "11 00:00", "11 23:00", id="a day of 24 hours"),
        pytest.param("2024-01-10T23:30", 24, "12 00:00", "12 23:00", id="in the market it is the 11th"),
        pytest.param("2024-03-30T08:00", 23, "31 00:00", "31 23:00", id="spring: 23 hours"),
        pytest.param("2024-10-26T08:00", 25, "27 00:00", "27 23:00", id="autumn: 25 hours"),
    ],
)
def test_a_day_ahead_issue_covers_the_whole_next_local_day(
    cards: dict[str, Any], issued_at: str, hours: int, first: str, last: str
) -> None:
    starts = _starts(_calendar(cards, delivery_days=[1]), issued_at)
    assert (len(starts), starts[0], starts[-1]) == (hours, first, last)


def test_issues_of_unequal_days_stand_in_one_table(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, delivery_days=[1])
    issued_at = np.array(["2024-03-29T08:00", "2024-03-30T08:00", "2024-03-31T08:00"], dtype="datetime64[us]")
    leads, covered = calendar.intervals(issued_at)
    assert covered.sum(axis=1).tolist() == [24, 23, 24]
    assert leads[:, 0].tolist() == [15 * 60, 15 * 60, 14 * 60]


def test_today_and_tomorrow_end_with_tomorrow_and_begin_with_the_open_gate(cards: dict[str, Any]) -> None:
    starts = _starts(_calendar(cards, delivery_days=[0, 1]), "2024-01-10T08:00")  # 09:00 local; the gate is an hour ahead
    assert (starts[0], starts[-1], len(starts)) == ("10 10:00", "11 23:00", 14 + 24)


def test_a_day_that_begins_at_one_o_clock(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, {"time_zone": "Africa/Cairo"}, delivery_days=[1])  # its clock jumps from 00:00 to 01:00
    starts = _starts(calendar, "2024-04-25T08:00")
    assert (len(starts), starts[0], starts[-1]) == (23, "26 01:00", "26 23:00")


NOON = {"gate_closure_day": {"time": "12:00"}}
BUSINESS = {"gate_closure_day": {"time": "12:00", "business_days": True}, "holidays": ["2024-04-01"]}


@pytest.mark.parametrize(
    ("market", "issued_at", "days"),
    [
        pytest.param(NOON, "2024-01-10T11:00", ["11", "12", "13", "14", "15"], id="at noon, local time, still in time"),
        pytest.param(NOON, "2024-01-10T11:01", ["12", "13", "14", "15"], id="a minute later not"),
        pytest.param(NOON, "2024-07-10T10:00", ["11", "12", "13", "14", "15"], id="noon of summer time"),
        pytest.param(BUSINESS, "2024-01-12T11:00", ["13", "14", "15", "16", "17"], id="Friday: Saturday to Monday are open"),
        pytest.param(BUSINESS, "2024-01-12T11:01", ["16", "17"], id="Friday afternoon: Tuesday is the next"),
        pytest.param(BUSINESS, "2024-01-14T08:00", ["16", "17", "18", "19"], id="Sunday: Monday was closed on Friday"),
        pytest.param(BUSINESS, "2024-03-29T12:00", ["03"], id="over Easter: until Tuesday all closed on Good Friday"),
    ],
)
def test_gates_of_whole_days(cards: dict[str, Any], market: dict[str, Any], issued_at: str, days: list[str]) -> None:
    starts = _starts(_calendar(cards, market, delivery_days=[1, 2, 3, 4, 5]), issued_at)
    assert list(dict.fromkeys(start[:2] for start in starts)) == days
    assert len(starts) == 24 * len(days)


def test_an_issue_whose_gates_are_all_closed_is_none(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, BUSINESS, delivery_days=[1], issue_times=["09:00"])
    # From Saturday, 30 March, to Easter Monday the gates of the next day are closed; that of Tuesday closed on Good Friday.
    assert _issues(calendar, "2024-03-28", "2024-04-03") == ["28 09:00", "29 09:00", "02 09:00"]
    monday = Clock(as_of=_utc("2024-04-01T12:00"))
    assert monday.newest_issue(calendar) == _utc("2024-03-29T09:00")
    assert monday.issues(calendar) == [_utc("2024-03-29T09:00")]


def test_a_market_that_is_closed_for_months_has_no_newest_issue(cards: dict[str, Any]) -> None:
    closed = [f"{day:%Y-%m-%d}" for day in pd.date_range("2024-05-01", "2024-06-30")]
    calendar = _calendar(cards, BUSINESS | {"holidays": closed}, delivery_days=[1], issue_times=["09:00"])
    with pytest.raises(CardError, match=r"product 'hours' has no issue in the forty days before 2024-06-30.*holidays"):
        Clock(as_of=_utc("2024-06-30")).newest_issue(calendar)


@pytest.mark.parametrize(
    ("market", "product", "says"),
    [
        pytest.param({}, {"delivery_days": []}, "delivery_days: ", id="no day"),
        pytest.param({}, {"delivery_days": [1, 3]}, "consecutive", id="a gap"),
        pytest.param({}, {"delivery_days": [10**9]}, "and 31", id="in a million years"),
        pytest.param({}, {"delivery_days": "tomorrow"}, "delivery_days: ", id="a word"),
        pytest.param({}, {"delivery_days": [-1, 0]}, "between 0", id="yesterday"),
        pytest.param({}, {"time_zone": "CET+1"}, "IANA", id="no zone"),
        pytest.param({"time_zone": "Asia/Kolkata"}, {"delivery_days": [1]}, "give 15 or 30", id="days off the hour"),
        pytest.param(
            NOON, {"delivery_days": [1], "issue_times": ["13:00"]}, "issue earlier or cover later days", id="always late"
        ),
        pytest.param({"gate_closure_day": {"time": 720}}, {"delivery_days": [1]}, "put quotes", id="a time without quotes"),
        pytest.param({"gate_closure_day": {"time": "12:00+02:00"}}, {"delivery_days": [1]}, "without an offset", id="an offset"),
    ],
)
def test_a_calendar_that_cannot_be_is_one_line(
    cards: dict[str, Any], market: dict[str, Any], product: dict[str, Any], says: str
) -> None:
    with pytest.raises(CardError, match=says) as caught:
        _calendar(cards, market, **product)
    assert "\n" not in str(caught.value)


def test_a_horizon_is_given_in_one_way(cards: dict[str, Any]) -> None:
    both = cards | {"products": [cards["products"][0] | {"delivery_days": [1]}, *cards["products"][1:]]}
    with pytest.raises(CardError, match=r"horizon_minutes, delivery_days: give only one of them"):
        Fleet.from_config(**both)
    del cards["products"][0]["horizon_minutes"]
    with pytest.raises(CardError, match=r"horizon_minutes, delivery_days: give one of them"):
        Fleet.from_config(**cards)


def test_a_market_has_a_gate(cards: dict[str, Any]) -> None:
    del cards["markets"][0]["gate_closure_minutes"]
    with pytest.raises(CardError, match=r"markets.yml: market 'hourly': gate_closure_minutes, gate_closure_day: give"):
        Fleet.from_config(**cards)


# --- rules that change on a day ---------------------------------------------------------------------------------------


def test_a_new_gate_changes_no_day_before_it(cards: dict[str, Any]) -> None:
    # Until the end of 2026 the gate is an hour ahead; from 1 January 2027, local time, the day-ahead gate at noon holds too.
    change = {"valid_from": "2027-01-01", "gate_closure_day": {"time": "12:00"}}
    calendar = _calendar(cards, {"changes": [change]}, delivery_days=[0, 1])
    starts = _starts(calendar, "2026-12-31T08:00")
    assert (starts[0], starts[-1], len(starts)) == ("31 10:00", "01 23:00", 14 + 24)
    assert _starts(calendar, "2026-12-31T11:01")[-1] == "31 23:00"
    assert _starts(calendar, "2027-01-01T08:00")[0] == "02 00:00"
    assert _starts(calendar, "2026-12-30T12:00") == _starts(_calendar(cards, {"changes": []}), "2026-12-30T12:00")


def test_changes_are_in_order(cards: dict[str, Any]) -> None:
    changes = [{"valid_from": day} for day in ("2027-01-01", "2026-01-01")]
    with pytest.raises(CardError, match=r"market 'hourly': changes: give them in order of valid_from"):
        _calendar(cards, {"changes": changes})


def test_a_market_that_will_settle_finer_than_a_product_is_named_with_the_day(cards: dict[str, Any]) -> None:
    with pytest.raises(
        CardError, match=r"60 is coarser than the 15 minutes that market 'hourly' settles from 2026-12-31T23:00 UTC"
    ):
        _calendar(cards, {"changes": [{"valid_from": "2027-01-01", "settlement_minutes": 15}]})
