"""Text becomes numbers and times, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering

Make = Callable[[list[dict[str, Any]]], Any]
GOOD = {"turbine_id": "T0", "timestamp": "2024-01-15T12:00:00+01:00", "power_kw": "500"}


STAMPS = [
    # The hill stands in France: UTC+1 in winter, UTC+2 in summer.
    ("2024-01-15T12:00:00+01:00", "11:00", "12:00", "11:00"),
    ("2024-07-15T12:00:00+02:00", "10:00", "12:00", "10:00"),
    ("2024-07-15T12:00:00+01:00", "11:00", "12:00", "10:00"),
    ("2024-07-15T12:00:00-0330", "15:30", "12:00", "10:00"),
    ("2024-07-15 12:00:00", "12:00", "12:00", "10:00"),
    ("2024-07-15T12:00Z", "12:00", "12:00", "10:00"),
    ("2024-07-15 12:00:00.000000+00", "12:00", "12:00", "10:00"),
    # Spring: 02:30 does not exist, and runs on from the hour before. Autumn: 02:30 is read as its first pass.
    ("2024-03-31T02:30:00", "02:30", "02:30", "01:30"),
    ("2024-03-31T03:30:00", "03:30", "03:30", "01:30"),
    ("2024-10-27T02:30:00", "02:30", "02:30", "00:30"),
    ("2024-10-27T03:30:00", "03:30", "03:30", "02:30"),
]
UNUSABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"timestamp": "15/01/2024 12:00"}, "bad_stamp", "stamp '15/01/2024 12:00' is not ISO 8601"),
    ({"timestamp": "2024-02-30T12:00:00"}, "bad_stamp", "2024-02-30"),
    ({"timestamp": "2024-01-15"}, "bad_stamp", "2024-01-15"),
    ({"timestamp": None}, "bad_stamp", "stamp ''"),
    ({"timestamp": "1850-01-15T12:00:00"}, "bad_stamp", "1850"),
    ({"timestamp": "9999-12-31T23:45:00Z"}, "bad_stamp", "9999"),
    ({"timestamp": "2262-04-12T00:00:00"}, "bad_stamp", "2262"),
    ({"timestamp": "0001-01-01T00:00:00"}, "bad_stamp", "0001"),
    ({"received_at": "soon"}, "bad_stamp", "arrival 'soon'"),
    ({"turbine_id": "T9"}, "unknown_turbine", "turbine 'T9' is on no card of the farm"),
    ({"power_kw": "1,5"}, "unparseable", "power_kw '1,5' is not a number"),
    ({"power_kw": "inf"}, "unparseable", "power_kw 'inf'"),
    ({"power_kw": "1_000"}, "unparseable", "power_kw '1_000'"),
    ({"power_kw": "1d"}, "unparseable", "power_kw '1d'"),
    ({"fault": "the row has 2 values"}, "ragged", "the row has 2 values"),
    ({"fault": "the file is missing", "source_row": 0}, "source_unreadable", "the file is missing"),
]
VALUES = [
    ("500", 500.0, None),
    (" 5e2 ", 500.0, None),
    ("-999", None, "sentinel"),
    ("-999.00006", None, "sentinel"),  # the same in single precision
    ("-998.9", None, "out_of_range"),
    ("1250", 1250.0, None),
    ("1251", None, "out_of_range"),
    ("-100", -100.0, None),
    ("-101", None, "out_of_range"),
    ("", None, None),
    ("NaN", None, None),
    ("NULL", None, None),
]


def parse(make: Make, fleet: Fleet, settings: DataEngineering, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows in, parsed rows out, in their order."""
    numbered = [{"source_file": f"{number:03d}.csv"} | GOOD | row for number, row in enumerate(rows)]
    found: pd.DataFrame = parse_signals(make(numbered), fleet, settings).to_pandas()
    return found.sort_values("source_file", ignore_index=True)


@pytest.fixture(scope="module")
def parsed(raw_signals: Make, fleet: Fleet, settings: DataEngineering) -> dict[str, pd.DataFrame]:
    """All cases, parsed at once."""
    cases = {
        "stamps": [{"timestamp": stamp} for stamp, *_ in STAMPS],
        "unusable": [row for row, *_ in UNUSABLE],
        "values": [{"power_kw": text} for text, *_ in VALUES],
    }
    rows = parse(raw_signals, fleet, settings, [row for group in cases.values() for row in group])
    found, first = {}, 0
    for name, group in cases.items():
        found[name] = rows.iloc[first : first + len(group)].reset_index(drop=True)
        first += len(group)
    return found


@pytest.mark.parametrize("case", range(len(STAMPS)), ids=[stamp for stamp, *_ in STAMPS])
def test_the_three_readings_of_a_stamp(parsed: dict[str, pd.DataFrame], case: int) -> None:
    row = parsed["stamps"].loc[case]
    assert pd.isna(row["reason"])
    found = [f"{row[name]:%H:%M}" for name in ("as_stamped", "wall_clock_is_utc", "wall_clock_is_local")]
    assert found == list(STAMPS[case][1:])


def test_stamps_of_interval_ends_become_starts(raw_signals: Make, cards: dict[str, Any], settings: DataEngineering) -> None:
    cards["farms"][0]["signals"]["stamps"] = "interval_end"
    row = parse(raw_signals, Fleet.from_config(**cards), settings, [{}]).loc[0]
    assert row["wall_clock_is_utc"] == pd.Timestamp("2024-01-15T11:50")


@pytest.mark.parametrize(("ahead", "start"), [(40, "11:20"), (-20, "12:20")])
def test_a_clock_that_is_known_to_be_ahead_is_put_back(
    raw_signals: Make, cards: dict[str, Any], settings: DataEngineering, ahead: int, start: str
) -> None:
    cards["farms"][0]["signals"]["clock_ahead_minutes"] = ahead
    row = parse(raw_signals, Fleet.from_config(**cards), settings, [{}]).loc[0]
    assert f"{row['wall_clock_is_utc']:%H:%M}" == start


@pytest.mark.parametrize("case", range(len(UNUSABLE)), ids=[str(row) for row, *_ in UNUSABLE])
def test_rows_that_cannot_be_used_say_why(parsed: dict[str, pd.DataFrame], case: int) -> None:
    found = parsed["unusable"].loc[case]
    assert found["reason"] == UNUSABLE[case][1]
    assert UNUSABLE[case][2] in found["detail"]


@pytest.mark.parametrize("case", range(len(VALUES)), ids=[repr(text) for text, *_ in VALUES])
def test_values_that_are_no_measurement_become_missing(parsed: dict[str, pd.DataFrame], case: int) -> None:
    row, (_, value, fault) = parsed["values"].loc[case], VALUES[case]
    assert pd.isna(row["reason"])
    assert (None if pd.isna(row["power_kw"]) else row["power_kw"]) == value
    assert (None if pd.isna(row["power_kw_fault"]) else row["power_kw_fault"]) == fault


def test_units_are_the_houses(raw_signals: Make, cards: dict[str, Any], settings: DataEngineering) -> None:
    cards["farms"][0]["signals"]["columns"] = {
        "power_kw": {"name": "p", "unit": "MW"},
        "wind_speed_ms": {"name": "w", "unit": "km/h"},
        "temperature_c": {"name": "t", "unit": "K"},
    }
    sent = {"power_kw": "0.5", "wind_speed_ms": "36", "temperature_c": "273.15"}
    row = parse(raw_signals, Fleet.from_config(**cards), settings, [sent]).loc[0]
    assert (row["power_kw"], row["wind_speed_ms"], row["temperature_c"]) == (500.0, 10.0, 0.0)


def test_a_share_is_of_the_turbines_own_rated_power(raw_signals: Make, cards: dict[str, Any], settings: DataEngineering) -> None:
    hill = cards["farms"][0]
    hill["signals"]["columns"] = {"power_kw": {"name": "p", "unit": "share"}}
    hill["turbines"][1]["rated_power_kw"], hill["capacity_kw"] = 2000, 4000
    rows = [{"power_kw": "0.5"}, {"power_kw": "0.5", "turbine_id": "T1"}, {"power_kw": "1.3"}]
    found = parse(raw_signals, Fleet.from_config(**cards), settings, rows)
    assert found["power_kw"].tolist()[:2] == [500.0, 1000.0]
    assert found["power_kw_fault"].tolist()[2] == "out_of_range"


WEATHER: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"valid_at": "tomorrow"}, "bad_stamp"),
    ({"run_at": None}, "bad_stamp"),
    ({"available_at": "later"}, "bad_stamp"),
    ({"wind_speed_100m_ms": "***"}, "unparseable"),
    ({"wind_speed_100m_ms": None}, "missing_wind"),
    ({"wind_speed_100m_ms": "101"}, "missing_wind"),
    ({"wind_speed_100m_ms": None, "wind_u_100m_ms": "3", "wind_v_100m_ms": "4"}, "missing_wind"),  # not on its card
]


@pytest.fixture(scope="module")
def parsed_weather(raw_weather: Make, fleet: Fleet, settings: DataEngineering) -> pd.DataFrame:
    """All cases of weather, parsed at once."""
    good = {
        "weather_model": "alpha",
        "run_at": "2024-01-01T00:00:00Z",
        "valid_at": "2024-01-01 03:00",
        "wind_speed_100m_ms": "5",
    }
    found: pd.DataFrame = parse_weather(raw_weather([good | row for row, _ in WEATHER]), fleet, settings).to_pandas()
    return found.sort_values("source_row", ignore_index=True)


@pytest.mark.parametrize("case", range(len(WEATHER)), ids=[str(row) for row, _ in WEATHER])
def test_weather_rows(parsed_weather: pd.DataFrame, case: int) -> None:
    found, reason = parsed_weather.loc[case], WEATHER[case][1]
    assert (None if pd.isna(found["reason"]) else found["reason"]) == reason
    if reason is None:
        assert found["available_at"] == pd.Timestamp("2024-01-01T02:00")  # two hours after the run


def test_a_name_in_the_data_is_the_turbine_that_stands_at_its_time(
    raw_signals: Make, cards: dict[str, Any], settings: DataEngineering
) -> None:
    """T2 is replaced by a larger one of the same name; between them there is none, and T1 has no dates."""
    turbines = cards["farms"][0]["turbines"]
    turbines[2]["valid_until"] = "2024-01-15"
    turbines.append({"id": "T2b", "named": "T2", "rated_power_kw": 2000, "hub_height_m": 80, "valid_from": "2024-01-17"})
    days = ["2024-01-14T22:50Z", "2024-01-14T23:00Z", "2024-01-16T22:50Z", "2024-01-16T23:00Z"]  # midnight in Paris is 23:00
    rows = [{"turbine_id": "T2", "timestamp": day, "power_kw": "1500"} for day in [*days, "nonsense"]]
    found = parse(raw_signals, Fleet.from_config(**cards), settings, [*rows, {"turbine_id": "T1", "timestamp": days[1]}])
    assert found["turbine_id"].tolist() == ["T2", "T2", "T2", "T2b", "T2", "T1"]
    unknown = "unknown_turbine"
    assert found["reason"].fillna("").tolist() == ["", unknown, unknown, "", "bad_stamp", ""]
    assert found.loc[1, "detail"] == "turbine 'T2' does not stand at that time by its card"
    # Above 125 % of 1 MW, and within what 2 MW may give.
    assert found["power_kw_fault"].fillna("").tolist()[:4:3] == ["out_of_range", ""]
