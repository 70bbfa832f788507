"""Units that are not the card's are found from the data, with what was there by then, and what is in them is not learnt from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.signals.unit_checks import daily_sums, full_wind_ms, suspect_units

from ..conftest import gusty, signal_rows, weather_rows

Rows = list[dict[str, Any]]
WIND = gusty(24 * 40, start="2024-04-01")
SIGNALS = {
    "power_kw": {"name": "power", "unit": "kW"},
    "wind_speed_ms": {"name": "wind", "unit": "m/s"},
    "wind_direction_deg": {"name": "direction", "unit": "deg"},
    "temperature_c": {"name": "temperature", "unit": "degC"},
    "pitch_deg": {"name": "pitch", "unit": "deg"},
}
BEGIN, SWITCH, BACK = (pd.Timestamp(day, tz="UTC") for day in ("2024-04-01", "2024-04-15T15:00", "2024-05-01"))


def healthy() -> Rows:
    """Turbines of 1 MW whose power follows the cube of the wind, a little differently in each, and that pitch at full load."""
    rows = signal_rows(WIND, lambda at: at.isoformat(), turbines=3)
    for number, row in enumerate(rows):
        wind = float(row["wind_speed_ms"])
        row["true"] = WIND.index[number // 3]
        row["wind_direction_deg"] = f"{(240 + 40 * np.sin(number / 500) + 9 * wind) % 360:.2f}"
        row["pitch_deg"] = f"{max(0.0, 2 * (wind - 10)):.2f}"
    return rows


def changed(signal: str, how: Callable[[float], float], who: str = "T1", since: Any = SWITCH, until: Any = BACK) -> Rows:
    """The healthy rows with a signal of a turbine (``""``: of all) in another unit for some time."""
    rows = healthy()
    for row in rows:
        if row["turbine_id"].startswith(who or "T") and since <= row["true"] < until:
            row[signal] = f"{how(float(row[signal])):.6f}"
    return rows


def sent(rows: Rows) -> Rows:
    return [{name: value for name, value in row.items() if name != "true"} for row in rows]


@pytest.fixture
def suspect(raw_signals: Any, settle: Any, windy: Any, now: Clock, settings: DataEngineering) -> Callable[..., pd.DataFrame]:
    """Rows of the hill → suspicions."""

    def run(rows: Rows, clock: Clock = now, columns: dict[str, Any] = SIGNALS) -> pd.DataFrame:
        fleet: Fleet = windy(columns=columns)
        parsed = settle(parse_signals(raw_signals(sent(rows)), fleet, settings))
        return SuspectedUnits.validate(suspect_units(daily_sums(parsed, fleet, settings.units), fleet, clock, settings))

    return run


def test_a_healthy_farm_is_not_suspected(suspect: Callable[..., pd.DataFrame]) -> None:
    assert suspect(healthy()).empty


@pytest.mark.parametrize(
    ("signal", "how", "unit"),
    [
        ("wind_speed_ms", lambda v: v * 3.6, "km/h"),
        ("wind_speed_ms", lambda v: v * 3600 / 1852, "kn"),
        ("wind_speed_ms", lambda v: v / 0.44704, "mph"),
        ("power_kw", lambda v: v / 1000, "MW"),
        ("power_kw", lambda v: v * 1000, "W"),
    ],
    ids=["km/h", "knots", "mph", "MW", "W"],
)
def test_a_turbine_that_changes_its_unit_and_changes_back(
    suspect: Callable[..., pd.DataFrame], signal: str, how: Callable[[float], float], unit: str
) -> None:
    found = suspect(changed(signal, how))
    assert found[["turbine_id", "signal", "suspected_unit"]].to_numpy().tolist() == [["T1", signal, unit]]
    one = found.iloc[0]
    # To the day; the day of the change is neither, and may be set aside whole.
    assert SWITCH.floor("D") <= one["since"] <= SWITCH.floor("D") + pd.Timedelta(days=1)
    assert one["since"] + pd.Timedelta(days=3) <= one["found_at"] <= one["since"] + pd.Timedelta(days=12)
    assert BACK < one["until"] <= BACK + pd.Timedelta(days=12)


@pytest.mark.parametrize(
    ("column", "how", "unit"),
    [
        ("power_kw", lambda v: v / 1000, "MW"),
        ("wind_speed_ms", lambda v: v * 3.6, "km/h"),
    ],
)
def test_a_whole_farm_that_never_was_as_the_card_says(
    suspect: Callable[..., pd.DataFrame], column: str, how: Callable[[float], float], unit: str
) -> None:
    found = suspect(changed(column, how, who="", since=BEGIN, until=WIND.index[-1] + pd.Timedelta(days=1)))
    assert found["turbine_id"].tolist() == ["T0", "T1", "T2"]
    assert set(found["suspected_unit"]) == {unit}
    assert found["since"].isna().all()
    assert found["until"].isna().all()


@pytest.mark.parametrize(
    ("column", "card", "unit"),
    [
        ("power_kw", "MW", "kW"),
        ("wind_speed_ms", "km/h", "m/s"),
    ],
)
def test_a_card_that_says_the_larger_unit(suspect: Callable[..., pd.DataFrame], column: str, card: str, unit: str) -> None:
    found = suspect(healthy(), columns=SIGNALS | {column: SIGNALS[column] | {"unit": card}})
    assert set(found["signal"]) == {column}
    assert set(found["suspected_unit"]) == {unit}
    assert set(found["unit"]) == {card}


def test_power_alone_needs_longer(suspect: Callable[..., pd.DataFrame]) -> None:
    alone = {"power_kw": SIGNALS["power_kw"]}
    rows = changed("power_kw", lambda v: v / 1000, who="", since=BEGIN, until=WIND.index[-1] + pd.Timedelta(days=1))
    found = suspect(rows, columns=alone)
    assert set(found["suspected_unit"]) == {"MW"}
    assert (found["found_at"] >= BEGIN + pd.Timedelta(days=28)).all()
    assert suspect(healthy(), columns=alone).empty


def test_a_curtailed_or_stopped_turbine_speaks_no_other_unit(suspect: Callable[..., pd.DataFrame]) -> None:
    held = changed("power_kw", lambda v: min(v, 150.0))
    stopped = changed("power_kw", lambda v: 0.4, who="T2")
    rows = [one if one["turbine_id"] == "T1" else other for one, other in zip(held, stopped, strict=True)]
    assert suspect(rows).empty


def test_what_comes_later_changes_nothing_that_was_found(suspect: Callable[..., pd.DataFrame]) -> None:
    rows = changed("wind_speed_ms", lambda v: v * 3.6)
    whole = suspect(rows).iloc[0]
    for days in (-1, 0, 5):
        at = whole["found_at"] + pd.Timedelta(days=days)
        then = suspect(rows, clock=Clock(as_of=at.to_pydatetime()))
        known = [row for row in rows if row["true"] < at]
        other = suspect(known)
        if days < 0:
            assert then.empty
            continue
        for found in (then, other.assign(until=pd.NaT)):
            assert found.iloc[0][["since", "found_at", "suspected_unit"]].equals(whole[["since", "found_at", "suspected_unit"]])
        assert then["until"].isna().all()


def test_full_wind_needs_the_rotor_or_takes_the_usual_one(settings: DataEngineering) -> None:
    # Senvion MM82: 2,050 kW, 82 m; its data sheet: rated power at 14.5 m/s, where the cube law has bent over.
    assert full_wind_ms(2050, 82, settings.units) == pytest.approx(11.55, abs=0.01)
    assert full_wind_ms(2050, None, settings.units) == pytest.approx(11.16, abs=0.01)


@pytest.mark.slow
def test_values_in_another_unit_are_set_aside_and_what_was_used_is_withdrawn(
    raw_signals: Any, raw_weather: Any, run_room: Callable[..., Any], windy: Any, settings: DataEngineering, now: Clock
) -> None:
    fleet: Fleet = windy(columns=SIGNALS)
    rows = changed("power_kw", lambda v: v / 1000, who="", until=WIND.index[-1] + pd.Timedelta(days=1))
    weather = raw_weather(weather_rows(WIND))

    def run(clock: Clock) -> Any:
        return run_room(raw_signals(sent(rows)), weather, fleet, clock, settings)

    found = run(now)
    found_at = found["suspected_units"]["found_at"].min()
    assert len(found["suspected_units"]) == 3
    day = SWITCH.floor("D") + pd.Timedelta(days=1)
    later = found["signals"].query("farm_id == 'hill' and valid_at >= @day")
    assert later["power_kw"].isna().all()
    used = later[later["available_at"] < found_at]
    assert (used["power_kw_spiked_at"] == found_at).all()
    # As of the day before it was found, it was used; as of any later time, nothing of it is left.
    then = run(Clock(as_of=(found_at - pd.Timedelta(days=1)).to_pydatetime()))
    assert (then["observations"]["valid_at"] >= day).any()
    newest = found["observations"].sort_values("available_at").groupby(["entity_id", "granularity_minutes", "valid_at"])
    poisoned = newest.tail(1).query("valid_at >= @day and entity_id == 'hill'")
    assert poisoned.empty or (poisoned["available_at"] < found_at).all()
    told = found["data_quality"].query("check == 'unit_suspected'").iloc[0]
    assert told["severity"] == "error"
    assert "all turbines appears to be in MW since 2024-04-1" in told["message"]
    assert "have the data corrected at the source" in told["message"]
