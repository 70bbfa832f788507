"""Derived tables of signals: after any history of runs they equal those of one run over the final data."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS, parse_signals
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather
from wind_kedro.storage.fingerprints import Recipe, number_of

from .conftest import gusty, signal_rows, weather_rows

FARMS = ("hill", "shore")
#: A clock change in Paris is within.
START, DAYS = pd.Timestamp("2024-03-29"), 6
CALIBRATED = {"hill": ["2024-03-30", "2024-04-01"], "shore": ["2024-03-31", "2024-04-02"]}
KEYS = {
    "timed_signals": ["farm_id", "source_file", "source_row"],
    "cell_counts": ["farm_id", "fitted_at", "bin", "step"],
    "power_curve": ["farm_id", "fitted_at", "wind_speed_ms"],
    "signals": ["farm_id", "source_file", "source_row"],
    "observations": ["entity_id", "granularity_minutes", "valid_at", "available_at"],
    "quarantine": ["farm_id", "source_table", "source_file", "source_row"],
}


def any_rows(numbers: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of two farms: late, revised, repeated, contradicting, stuck, off the scale, with bad and very old stamps."""
    rows = []
    for farm_id in FARMS:
        own = signal_rows(gusty(DAYS * 24, int(numbers.integers(99)), str(START.date())), lambda at: at.isoformat(), turbines=2)
        for row in own:
            at = pd.Timestamp(row["timestamp"])
            row |= {
                "farm_id": farm_id,
                "received_at": at + pd.Timedelta(minutes=int(numbers.choice([20] * 30 + [15, 200, 3000]))),
            }
            if farm_id == "shore" and not 4 <= at.hour < 20:
                row["wind_direction_deg"] = "77.0"
        for place in numbers.choice(len(own), 120, replace=False):
            row = own[place]
            changes: list[dict[str, Any]] = [
                {"power_kw": "123.4", "received_at": row["received_at"] + pd.Timedelta(hours=int(numbers.integers(60)))},
                {},
                {"wind_speed_ms": "1.5"},
                {"power_kw": "-900"},
                {"timestamp": str(numbers.choice(["never", "1970-01-01T00:00:00Z", "2024-03-31T00:03:00Z", "1969-12-31T12:00"]))},
                {"turbine_id": str(numbers.choice(["T9", ""]))},
                {"received_at": row["received_at"] - pd.Timedelta(hours=1)},
            ]
            change = changes[int(numbers.integers(len(changes)))]
            if "received_at" in change or not change or "wind_speed_ms" in change:
                own.append(row | change)
            else:
                row |= change
        rows += own
    order = numbers.permutation(len(rows))
    for number, place in enumerate(order):
        rows[place] |= {"source_file": f"{rows[place]['farm_id']}/{number % 5}.csv", "source_row": number // 5 + 1}
    return [rows[place] | {"arrived": rows[place]["received_at"], "received_at": rows[place]["received_at"].isoformat()}
            for place in order]  # fmt: skip


def parsed_by_farm(parsed: Any, given: list[dict[str, Any]], fleet: Fleet) -> Recipe:
    """Parsed rows as a derived table, all rows of a farm together."""
    content = {farm: [[row for row in given if row["farm_id"] == farm], fleet.farm(farm)] for farm in FARMS}
    numbers = np.array([number_of(value) for value in content.values()], dtype=np.uint64)
    wanted = pd.DataFrame({"farm_id": FARMS, "unit": FARMS, "fingerprint": numbers})
    rows = parsed.mutate(unit=parsed.farm_id)
    return Recipe(wanted, lambda part: rows.filter(rows.farm_id.isin(part["farm_id"].tolist())))


@pytest.fixture
def compute(
    raw_signals: Any, raw_weather: Any, derive: Callable[..., Derived], settings: DataEngineering
) -> Callable[..., dict[str, Derived]]:
    """One run of the steps into a folder."""
    weather = raw_weather([row | {"wind_speed_100m_ms": row["wind_speed_100m_ms"] if number else "x"}
                           for number, row in enumerate(weather_rows(gusty(24)))])  # fmt: skip

    def run(folder: Path, rows: list[dict[str, Any]], fleet: Fleet, as_of: pd.Timestamp, suspected: pd.DataFrame) -> Any:
        clock = Clock(as_of=as_of.tz_localize("UTC").to_pydatetime())
        fitted = [(farm, pd.Timestamp(at), reading) for farm, times in CALIBRATED.items()
                  for at, reading in zip(times, READINGS[::2], strict=True) if pd.Timestamp(at) <= as_of]  # fmt: skip
        calibration = pd.DataFrame(fitted, columns=["farm_id", "fitted_at", "reading"])
        calibration["fitted_at"] = pd.to_datetime(calibration["fitted_at"]).dt.tz_localize("UTC")
        suspected = suspected[suspected["found_at"] <= as_of.tz_localize("UTC")]
        given = [{name: row[name] for name in row if name != "arrived"} for row in rows]
        text = raw_signals(given)
        parsed = derive("parsed_signals", parsed_by_farm(parse_signals(text, fleet, settings), given, fleet), folder)
        timed = derive("timed_signals", nodes.time_signals(parsed, calibration, suspected, fleet, clock, settings), folder)
        counts = derive("cell_counts", nodes.count_cells(timed, calibration, fleet, settings), folder)
        curve = derive("power_curve", nodes.fit_power_curves(counts, calibration, fleet, settings), folder)
        signals = derive("signals", nodes.judge_signals(timed, curve, fleet, settings), folder)
        observations = derive("observations", nodes.aggregate_observations(signals, fleet, clock, settings), folder)
        parsed_weather = parse_weather(weather, fleet, settings)
        judged = (timed, judge_weather(parsed_weather, clock), parsed, parsed_weather, text, weather)
        quarantine = derive("quarantine", nodes.build_quarantine(*judged, fleet, settings), folder)
        return {
            "timed_signals": timed,
            "cell_counts": counts,
            "power_curve": curve,
            "signals": signals,
            "observations": observations,
            "quarantine": quarantine,
        }

    return run


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(810148984, id="a day changes only because rows of the next one shift or repeat"),
        *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8)),
    ],
)
def test_any_history_ends_as_one_run(
    compute: Callable[..., dict[str, Derived]], windy: Callable[..., Fleet], tmp_path: Path, seed: int
) -> None:
    fleet = windy(received_at="received")
    numbers = np.random.default_rng(seed)
    rows = any_rows(numbers)
    suspected = any_suspicions(numbers)
    first, second = sorted(START + pd.to_timedelta(numbers.uniform(1.5, DAYS + 3, 2), unit="D").floor("min"))
    # What the last run adds are hours before or after a midnight, and perhaps a corrected card.
    midnight = START + pd.Timedelta(days=int(numbers.integers(1, DAYS)))
    hours = ((-4, 0), (0, 4))[int(numbers.integers(2))]
    withheld = [(midnight + pd.Timedelta(hours=hour)).isoformat() for hour in hours]
    cards = [fleet, fleet, corrected_card(fleet) if seed % 2 else fleet]
    for as_of, card, gap in zip([first, second, second], cards, [[], withheld, []], strict=True):
        shown = [row for row in rows if row["arrived"].tz_localize(None) <= as_of or row["source_row"] % 9 == 0]
        shown = [row for row in shown if not gap or not gap[0] <= row["timestamp"] < gap[1]]
        found = compute(tmp_path / "one", shown, card, as_of, suspected)
    anew = compute(tmp_path / "anew", shown, card, second, suspected)
    for name, table in found.items():
        one, two = (ordered(each.frame(), name) for each in (table, anew[name]))
        pd.testing.assert_frame_equal(one, two, rtol=1e-9, obj=name)
        pd.testing.assert_frame_equal(table.days, anew[name].days, rtol=1e-9, obj=f"shards of {name}")
        assert len(one), name


def corrected_card(fleet: Fleet) -> Fleet:
    """The hill's first turbine has another rated power, and the shore another latency."""
    config = copy.deepcopy(fleet)
    hill, shore = config.farms[0], config.farms[1]
    turbines = [hill.turbines[0].model_copy(update={"rated_power_kw": 1200.0}), *hill.turbines[1:]]
    changed = [hill.model_copy(update={"turbines": turbines}), shore.model_copy(update={"latency_minutes": 25})]
    return config.model_copy(update={"farms": [*changed, *config.farms[2:]]})


def any_suspicions(numbers: np.random.Generator) -> pd.DataFrame:
    """A unit that is suspected for some days, and one that goes on."""
    days = [START + pd.Timedelta(days=int(day)) for day in np.sort(numbers.integers(0, DAYS, 3))]
    rows = [
        {"farm_id": "hill", "turbine_id": "T1", "signal": "power_kw", "since": days[0], "until": days[2], "found_at": days[1]},
        {"farm_id": "shore", "turbine_id": "T0", "signal": "wind_speed_ms", "since": days[1], "until": None,
         "found_at": days[1] + pd.Timedelta(days=2)},
    ]  # fmt: skip
    return SuspectedUnits.table([row | {"unit": "kW", "suspected_unit": "MW", "evidence": "{}"} for row in rows])


def ordered(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame.sort_values(KEYS[name], ignore_index=True)
