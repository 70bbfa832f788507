"""Issue times in local time, days of delivery of 23 and 25 hours, gates by interval and by day."""

from __future__ import annotations

import datetime as dt
import random
import time
from typing import Any
from zoneinfo import ZoneInfo

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
        pytest.param({"time_zone": "Asia/Kolkata"}, {"delivery_days": [1]}, "minutes that divide 30", id="days off the hour"),
        pytest.param(
            NOON, {"delivery_days": [1], "issue_times": ["13:00"]}, "issue earlier or cover later intervals", id="always late"
        ),
        pytest.param(
            {"time_zone": "Asia/Kathmandu"},
            {"delivery_days": [1], "granularity_minutes": 30},
            "minutes that divide 15",
            id="days off the half hour",
        ),
        pytest.param(
            {}, {"delivery_days": [0], "issue_times": ["22:30"]}, "in January.*60 minutes ahead;", id="the day is over by then"
        ),
        pytest.param({}, {"horizon_minutes": 61, "issue_times": ["06:10"]}, "60 minutes ahead;", id="no interval on the grid"),
        pytest.param(NOON, {"delivery_days": [1], "issue_times": ["10:30"]}, "in July.*at 12:00 local", id="late in summer"),
        pytest.param(
            {"changes": [{"valid_from": "2024-06-01", "gate_closure_minutes": 500}]},
            {},
            "500 minutes ahead by the rules from 2024-06-01 on",
            id="late by new rules",
        ),
        *(
            pytest.param({"changes": [{"valid_from": "2027-01-01", name: None}]}, {}, f"changes.0.{name}: give a value", id=name)
            for name in ("settlement_minutes", "gate_closure_minutes", "penalty")
        ),
        pytest.param({"changes": [{"valid_from": "0001-01-01"}]}, {}, "valid_from: must lie in the years", id="year 1"),
        pytest.param({"holidays": [0]}, {}, "holidays.0: write a day as", id="a day as a number"),
        pytest.param({}, {"issue_times": ["09:30:30"]}, "issue_times: .*without seconds", id="seconds"),
        pytest.param({}, {"horizon_minutes": 10**12}, "horizon_minutes: .*46140", id="a million years"),
        pytest.param({"time_zone": "localtime"}, {}, "IANA", id="the zone of the machine"),
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


@pytest.mark.parametrize("days", [["1"], [1.0], (1,)])
def test_the_horizon_reaches_as_far_as_the_days_however_they_are_written(cards: dict[str, Any], days: Any) -> None:
    assert _calendar(cards, delivery_days=days).product.horizon_minutes == 2 * 1440 + 60


def test_of_a_day_an_issue_covers_what_its_gate_leaves_or_does_not_exist(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, delivery_days=[0], issue_times=["06:00", "22:30"])  # the gate is an hour ahead
    assert _issues(calendar, "2024-01-10", "2024-01-12") == ["10 06:00", "11 06:00"]


def test_thousands_of_holidays_are_looked_up_quickly(cards: dict[str, Any]) -> None:
    closed = [f"{day:%Y-%m-%d}" for day in pd.date_range("1970-01-01", "2199-12-31", freq="2D")]
    calendar = _calendar(cards, BUSINESS | {"holidays": closed}, delivery_days=[1], issue_times=["09:00"])
    start = time.monotonic()
    assert calendar.issues_between(_utc("2014-01-01"), _utc("2024-01-01"))
    assert time.monotonic() - start < 20  # looking through the list took minutes


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


# --- the same, reckoned minute by minute ------------------------------------------------------------------------------

MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
#: Zones with the weeks, in 2023 to 2024, around their clock changes; some change at midnight, some by half an hour, some never.
ZONES = {
    "Europe/Paris": ["2023-10-26", "2024-03-28"],
    "America/Havana": ["2023-11-02", "2024-03-07"],
    "Africa/Cairo": ["2023-10-24", "2024-04-23"],
    "Asia/Beirut": ["2023-10-26", "2024-03-28"],
    "America/Asuncion": ["2024-03-21", "2024-10-03"],
    "America/Nuuk": ["2024-03-28", "2024-10-24"],
    "Africa/Casablanca": ["2024-03-08", "2024-04-12"],
    "Australia/Lord_Howe": ["2024-04-04", "2024-10-03"],
    "Asia/Kathmandu": ["2024-02-27"],
    "Australia/Eucla": ["2023-12-28"],
    "Asia/Kolkata": ["2024-03-28"],
    "Pacific/Kiritimati": ["2023-12-29"],
    "UTC": ["2024-02-27"],
}


def _closes(market: Any, valid_at: dt.datetime) -> dt.datetime:
    """When the gate of one interval closes."""
    zone = ZoneInfo(market.time_zone)
    day = valid_at.astimezone(zone).date()
    minutes, by_day = market.gate_closure_minutes, market.gate_closure_day
    for change in market.changes:
        if day >= change.valid_from:
            minutes = change.gate_closure_minutes if "gate_closure_minutes" in change.model_fields_set else minutes
            by_day = change.gate_closure_day if "gate_closure_day" in change.model_fields_set else by_day
    closes = valid_at - minutes * MINUTE
    if by_day is None:
        return closes
    left = by_day.days_before
    while left:
        day -= DAY
        left -= not (by_day.business_days and (day.weekday() >= 5 or day in market.holidays))
    return min(closes, dt.datetime.combine(day, by_day.time, zone).astimezone(UTC))


def _covered_by_the_minute(calendar: Calendar, issue: dt.datetime) -> list[dt.datetime]:
    product, market = calendar.product, calendar.market
    zone = ZoneInfo(market.time_zone)
    midnight = issue.replace(hour=0, minute=0)
    grid = [midnight + number * product.granularity_minutes * MINUTE for number in range(5 * 1440 // product.granularity_minutes)]
    if product.delivery_days is None:
        inside = [start for start in grid if issue <= start < issue + product.horizon_minutes * MINUTE]
    else:
        days = [issue.astimezone(zone).date() + day * DAY for day in product.delivery_days]
        yesterday = [start - DAY for start in grid if start < midnight + DAY]
        inside = [start for start in [*yesterday, *grid] if start.astimezone(zone).date() in days]
    return [start for start in inside if issue <= _closes(market, start)]


def _issues_by_the_minute(calendar: Calendar, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    zone, times = ZoneInfo(calendar.product.time_zone), set(calendar.product.issue_times)
    found = set()
    now = start - DAY
    before = (now - MINUTE).astimezone(zone).replace(tzinfo=None)
    while now <= end:
        local = now.astimezone(zone)
        shown = local.replace(tzinfo=None)
        if local.fold == 0 and local.time() in times:
            found.add(now)
        skipped = before + MINUTE
        while skipped < shown:  # the clock jumped: as much later
            if skipped.time() in times:
                found.add(now + (skipped - before - MINUTE))
            skipped += MINUTE
        before, now = shown, now + MINUTE
    return sorted(issue for issue in found if start < issue <= end and _covered_by_the_minute(calendar, issue))


def _any_calendar(cards: dict[str, Any], chance: random.Random, zone: str, day: str) -> Calendar:
    other = chance.choice([zone, zone, "UTC", "Europe/Paris", "Asia/Kathmandu"])
    market: dict[str, Any] = {"time_zone": zone, "gate_closure_minutes": chance.choice([0, 20, 60, 95])}

    def gate() -> dict[str, Any]:
        at = f"{chance.randrange(8, 24):02}:{chance.choice([0, 0, 30, 59]):02}"
        return {"time": at, "days_before": chance.choice([0, 1, 1, 2]), "business_days": chance.random() < 0.5}

    if chance.random() < 0.5:
        market["gate_closure_day"] = gate()
    first = dt.date.fromisoformat(day)
    market["holidays"] = [f"{first + chance.randrange(6) * DAY}"]
    market["changes"] = chance.choice(
        [[], [{"valid_from": f"{first + chance.randrange(6) * DAY}", "gate_closure_day": chance.choice([None, gate()])}]]
    )
    step = chance.choice([5, 15, 15, 30, 60])
    product: dict[str, Any] = {"granularity_minutes": step, "time_zone": other}
    times = {"00:00", "00:30", "02:30", f"{chance.randrange(24):02}:{chance.randrange(60):02}"}
    product["issue_times"] = chance.sample(sorted(times), chance.randrange(1, 4))
    if chance.random() < 0.7:
        begin = chance.randrange(3)
        product["delivery_days"] = list(range(begin, begin + chance.randrange(1, 3)))
    else:
        product["horizon_minutes"] = chance.choice([240, 1000, 2000])
    changed = {kind: [dict(card) for card in listed] for kind, listed in cards.items()}
    changed["markets"][0] |= market
    if "delivery_days" in product:
        del changed["products"][0]["horizon_minutes"]
    changed["products"][0] |= product
    return Fleet.from_config(**changed).calendar("hours")


@pytest.mark.parametrize("zone", ZONES)
def test_any_calendar_agrees_with_one_reckoned_by_the_minute(cards: dict[str, Any], zone: str) -> None:
    chance = random.Random(zone)  # noqa: S311 - any numbers do
    looked_at = 0
    while looked_at < 6:
        day = chance.choice(ZONES[zone])
        try:
            calendar = _any_calendar(cards, chance, zone, day)
        except CardError:  # a gate that is never open, or days off the grid
            continue
        looked_at += 1
        start, end = _utc(day), _utc(day) + 6 * DAY
        issues = calendar.issues_between(start, end)
        assert issues == _issues_by_the_minute(calendar, start, end), calendar
        if not issues:
            continue
        leads, covered = calendar.intervals(np.array([issue.replace(tzinfo=None) for issue in issues], dtype="datetime64[us]"))
        for number, issue in enumerate(issues):
            found = [issue + int(lead) * MINUTE for lead in leads[number][covered[number]]]
            assert found == _covered_by_the_minute(calendar, issue), (calendar, issue)


# --- revisions ----------------------------------------------------------------------------------------------------------


def _revisions(calendar: Calendar, start: str, end: str) -> list[str]:
    """Issue times with the issue that each revises and the number of the revision."""
    issues = calendar.issues_between(_utc(start), _utc(end))
    stamps = np.array([issue.replace(tzinfo=None) for issue in issues], dtype="datetime64[us]")
    revised, number = calendar.revisions(stamps)
    return [
        f"{pd.Timestamp(at):%H:%M} {pd.Timestamp(first):%H:%M} {count}"
        for at, first, count in zip(stamps, revised, number, strict=True)
    ]


def test_an_issue_is_revised_so_often_until_the_next_one(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, issue_times=["06:00", "12:00"], revisions={"every_minutes": 150}, horizon_minutes=1440)
    assert _revisions(calendar, "2024-01-10", "2024-01-10T16:00") == [
        "00:30 12:00 5", "03:00 12:00 6", "05:30 12:00 7",  # of the day before
        "06:00 06:00 0", "08:30 06:00 1", "11:00 06:00 2", "12:00 12:00 0", "14:30 12:00 1",
    ]  # fmt: skip


def test_revisions_have_times_of_day_of_the_products_zone(cards: dict[str, Any]) -> None:
    calendar = _calendar(
        cards, issue_times=["09:00"], time_zone="Europe/Paris", revisions={"times": ["10:30", "11:00"]}, horizon_minutes=2880
    )
    assert _revisions(calendar, "2024-01-10", "2024-01-11") == ["08:00 08:00 0", "09:30 08:00 1", "10:00 08:00 2"]
    assert _revisions(calendar, "2024-07-10", "2024-07-11") == ["07:00 07:00 0", "08:30 07:00 1", "09:00 07:00 2"]


def test_a_revision_covers_what_is_left_of_its_issue(cards: dict[str, Any]) -> None:
    revisions = {"every_minutes": 60, "last_minutes": 30}
    calendar = _calendar(
        cards, {"time_zone": "UTC"}, issue_times=["06:00"], horizon_minutes=480, revisions=revisions
    )  # the gate closes 60 minutes ahead
    assert _starts(calendar, "2024-01-10T06:00") == [f"10 {hour:02d}:00" for hour in range(7, 14)]
    # Half an hour earlier than others: 09:00 would have to be revised by 07:30.
    assert _starts(calendar, "2024-01-10T08:00") == [f"10 {hour:02d}:00" for hour in range(10, 14)]
    # The last interval starts at 13:00, so it is revised until 11:30.
    assert _issues(calendar, "2024-01-10", "2024-01-11") == [f"10 {hour:02d}:00" for hour in range(6, 12)]


def test_a_revision_of_a_day_ahead_issue_covers_the_same_day(cards: dict[str, Any]) -> None:
    market = {"gate_closure_day": {"time": "12:00"}}
    revisions = {"every_minutes": 30, "last_minutes": 45}
    calendar = _calendar(cards, market, issue_times=["09:30"], time_zone="Europe/Paris", delivery_days=[1], revisions=revisions)
    # 12:00 in Paris is 11:00 UTC; revisions have to be there 45 minutes before.
    assert _issues(calendar, "2024-01-10", "2024-01-11") == ["10 08:30", "10 09:00", "10 09:30", "10 10:00"]
    assert _starts(calendar, "2024-01-10T10:00") == _starts(calendar, "2024-01-10T08:30")


def test_revisions_across_midnight_stay_with_the_day_of_their_issue(cards: dict[str, Any]) -> None:
    calendar = _calendar(
        cards, issue_times=["20:00"], time_zone="Europe/Paris", delivery_days=[1], revisions={"every_minutes": 300}
    )
    starts = _starts(calendar, "2024-01-11T00:00")  # 01:00 in Paris, five hours after the issue of the evening before
    assert (starts[0], starts[-1]) == ("11 02:00", "11 23:00")


def test_without_revisions_every_issue_is_itself(cards: dict[str, Any]) -> None:
    calendar = _calendar(cards, issue_times=["06:00"])
    at = np.array(["2024-01-10T06:00", "2024-01-11T06:00"], dtype="datetime64[us]")
    revised, number = calendar.revisions(at)
    assert (revised.tolist(), number.tolist()) == (at.tolist(), [0, 0])
