"""Clocks are found by the wind, with what was known then."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import ClockCalibration, SuspectedUnits
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibrate_clocks
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather, make_weather

from ..conftest import gusty, signal_rows, weather_rows

PARIS = "Europe/Paris"
#: Six weeks and a half before and behind that.
LONG = gusty(24 * 92, start="2024-02-14")
#: Sixteen days before and after the clock change of 2024-03-31: each time is judged apart from two weeks on.
WIND = gusty(24 * 32, start="2024-03-15")
STAMPS: dict[str, Callable[[pd.Timestamp], str]] = {
    "honest offset": lambda at: at.tz_convert(PARIS).isoformat(),
    "no offset, UTC": lambda at: at.tz_localize(None).isoformat(),
    # The wall clock of Paris is written on what is UTC.
    "UTC with a false offset": lambda at: at.tz_localize(None).tz_localize(PARIS, nonexistent="shift_forward").isoformat(),
    "local without offset": lambda at: at.tz_convert(PARIS).tz_localize(None).isoformat(),
    "45 minutes early": lambda at: (at - pd.Timedelta(minutes=45)).tz_localize(None).isoformat(),
    "an hour and a half early since 5 April": lambda at: (
        (at + pd.Timedelta(minutes=-90 if at >= pd.Timestamp("2024-04-05", tz="UTC") else 0)).tz_localize(None).isoformat()
    ),
    "two hours late": lambda at: (at + pd.Timedelta(hours=2)).tz_localize(None).isoformat(),
}


@pytest.fixture
def calibrate(
    raw_signals: Any, raw_weather: Any, settle: Any, windy: Any, now: Clock, settings: Any
) -> Callable[..., pd.DataFrame]:
    """Wind as stamped → calibrations."""

    def run(
        stamp: str, card: str, wind: pd.Series = WIND, known: pd.Series = WIND, clock: Clock = now, **changed: Any
    ) -> pd.DataFrame:
        fleet: Fleet = windy(clock=card, **changed)
        parsed = settle(parse_signals(raw_signals(signal_rows(wind, STAMPS[stamp], turbines=1)), fleet, settings))
        judged = settle(judge_weather(settle(parse_weather(raw_weather(weather_rows(known)), fleet, settings)), clock))
        weather = make_weather(judged, fleet, clock, settings)
        return ClockCalibration.validate(calibrate_clocks(parsed, weather, SuspectedUnits.table([]), fleet, clock, settings))

    return run


@pytest.mark.parametrize(
    ("stamp", "card", "reading"),
    [
        ("honest offset", "as_stamped", "as_stamped"),
        ("honest offset", "wall_clock_is_utc", "as_stamped"),
        ("no offset, UTC", "as_stamped", "as_stamped"),
        ("no offset, UTC", "wall_clock_is_local", "as_stamped"),
        ("UTC with a false offset", "as_stamped", "wall_clock_is_utc"),
        ("UTC with a false offset", "wall_clock_is_utc", "wall_clock_is_utc"),
        ("local without offset", "wall_clock_is_local", "wall_clock_is_local"),
        ("local without offset", "as_stamped", "wall_clock_is_local"),
    ],
)
def test_the_reading_is_found(calibrate: Callable[..., pd.DataFrame], stamp: str, card: str, reading: str) -> None:
    newest = calibrate(stamp, card).iloc[-1]
    # Without offset, as stamped and UTC are one reading; the card's word is kept.
    same = {"as_stamped", "wall_clock_is_utc"} if stamp == "no offset, UTC" else {reading}
    assert newest["reading"] in same
    assert newest["agrees"] == (newest["reading"] == card)
    assert abs(newest["offset_minutes"]) < 10
    assert newest["correlation"] > 0.9
    evidence = json.loads(newest["evidence"])
    assert evidence[newest["reading"]]["misalignment_minutes"] < 10
    if card not in same:
        assert evidence[card]["misalignment_minutes"] > 50


def test_calibrations_come_after_two_days_and_on_the_first_of_months(calibrate: Callable[..., pd.DataFrame]) -> None:
    found = calibrate("honest offset", "as_stamped")
    assert found["fitted_at"].dt.strftime("%m-%d").tolist() == ["03-17", "04-01", "05-01"]
    early = calibrate("honest offset", "as_stamped", clock=Clock(as_of=pd.Timestamp("2024-04-02T00:00Z").to_pydatetime()))
    pd.testing.assert_frame_equal(early, found.iloc[:2])


@pytest.mark.parametrize(("stamp", "minutes"), [("two hours late", 120), ("45 minutes early", -45)])
def test_a_constant_error_is_no_false_offset(calibrate: Callable[..., pd.DataFrame], stamp: str, minutes: int) -> None:
    # Summer and winter time have six weeks each: their offsets agree under the reading that is right.
    newest = calibrate(stamp, "as_stamped", LONG, LONG).iloc[-1]
    assert newest["reading"] == "as_stamped"
    assert newest["shifted"]
    assert newest["offset_minutes"] == pytest.approx(minutes, abs=10)
    assert pd.isna(newest["jumped_at"])


def test_a_jump_is_found_from_five_weeks_on_and_holds_from_then(calibrate: Callable[..., pd.DataFrame]) -> None:
    found = calibrate("an hour and a half early since 5 April", "as_stamped", LONG, LONG).set_index("fitted_at")
    before, newest = found.loc[pd.Timestamp("2024-04-01", tz="UTC")], found.iloc[-1]
    assert not before["shifted"]
    assert newest["shifted"]
    assert newest["offset_minutes"] == pytest.approx(-90, abs=15)
    assert abs(newest["jumped_at"] - pd.Timestamp("2024-04-05", tz="UTC")) <= pd.Timedelta(days=7)


def test_a_shift_with_every_reading_is_told_with_its_size(calibrate: Callable[..., pd.DataFrame]) -> None:
    newest = calibrate("two hours late", "as_stamped").iloc[-1]
    # The local reading is nearer by the zone's offset, but is off by another amount in summer.
    off = {name: one["misalignment_minutes"] for name, one in json.loads(newest["evidence"]).items() if name != "decided"}
    assert off["as_stamped"] == pytest.approx(120, abs=10)
    assert newest["offset_minutes"] == pytest.approx(off[newest["reading"]], abs=1)


def test_without_weather_the_card_is_believed_and_that_is_said(calibrate: Callable[..., pd.DataFrame]) -> None:
    found = calibrate("honest offset", "wall_clock_is_utc", known=WIND.iloc[:6])
    assert set(found["reading"]) == {"wall_clock_is_utc"}
    assert found["correlation"].isna().all()
    assert "not checked" in json.loads(found["evidence"].iloc[-1])["decided"]


def test_weather_that_has_nothing_to_do_with_it_decides_nothing(calibrate: Callable[..., pd.DataFrame]) -> None:
    found = calibrate("honest offset", "wall_clock_is_utc", known=gusty(24 * 32, seed=5, start="2024-03-15")).iloc[-1]
    assert found["reading"] == "wall_clock_is_utc"
    assert pd.isna(found["correlation"])


def test_where_nothing_can_be_compared_it_says_what_is_missing(calibrate: Callable[..., pd.DataFrame]) -> None:
    power_only = {"power_kw": {"name": "power", "unit": "kW"}}
    later = WIND.set_axis(WIND.index + pd.Timedelta(days=200))
    for changed, why in (
        ({"columns": power_only}, "no wind is measured to compare with the weather"),
        ({}, "no hours with both measured wind and weather"),
    ):
        found = calibrate("honest offset", "as_stamped", known=later, **changed)
        assert json.loads(found["evidence"].iloc[-1])["decided"] == f"not checked: {why}"
