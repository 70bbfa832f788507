"""What holds for any mix of faults: every row is accounted for, no rule touches a healthy row, and the order of the file
changes nothing. Hypothesis chooses the faults, the real nodes judge them. (That a rerun changes nothing: `tests/test_killed.py`.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from wind_kedro.clock import Clock

from .conftest import Frames, gusty, signal_rows, weather_rows

WIND = gusty(4 * 24)
TURBINES = 3
#: Faults are put into places so far apart that each is judged by healthy neighbours.
APART = 24
PLACES = [(step, turbine) for step in range(APART, len(WIND) - APART, APART) for turbine in range(TURBINES)]
VALUES = ["power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c"]
#: What other rooms read.
OUTPUTS = [
    "signals",
    "quarantine",
    "suspected_units",
    "clock_calibration",
    "power_curve",
    "observations",
    "weather",
    "data_quality",
]
#: How long a stuck sensor repeats itself, intervals.
STUCK = 9

Row = dict[str, Any]


def healthy() -> list[Row]:
    rows = signal_rows(WIND, lambda at: at.isoformat(), turbines=TURBINES)
    for number, row in enumerate(rows):
        row["received_at"] = (WIND.index[number // TURBINES] + pd.Timedelta(minutes=20)).isoformat()
    return rows


def later(row: Row, hours: float) -> str:
    return (pd.Timestamp(row["received_at"]) + pd.Timedelta(hours=hours)).isoformat()


def other_power(row: Row) -> str:
    """Another plausible value."""
    return f"{float(row['power_kw']) * 0.97 + 1:.3f}"


#: Each turns the row at its place into the rows that are sent instead, and says what becomes of them.
#: Status and reason of each row sent, in order; ``touched`` marks faults that change values of rows that count.
FAULTS: dict[str, tuple[Callable[[Row], list[Row]], list[tuple[str, str]]]] = {
    "duplicate": (lambda row: [row, dict(row)], [("kept", ""), ("duplicate", "")]),
    "duplicate_later": (
        lambda row: [row, row | {"received_at": later(row, 5)}],
        [("kept", ""), ("duplicate", "")],
    ),
    "revision": (
        lambda row: [row, row | {"power_kw": other_power(row), "received_at": later(row, 5)}],
        [("superseded", ""), ("kept", "")],
    ),
    "conflict": (
        lambda row: [row, row | {"power_kw": other_power(row)}],
        [("quarantined", "conflicting_stamp"), ("quarantined", "conflicting_stamp")],
    ),
    "late": (lambda row: [row | {"received_at": later(row, 30)}], [("kept", "")]),
    "lost": (lambda _: [], []),
    "bad_stamp": (lambda row: [row | {"timestamp": "yesterday noon"}], [("quarantined", "bad_stamp")]),
    "unparseable": (lambda row: [row | {"wind_speed_ms": "8,4 m/s"}], [("quarantined", "unparseable")]),
    "off_grid": (
        lambda row: [row | {"timestamp": (pd.Timestamp(row["timestamp"]) + pd.Timedelta(minutes=3)).isoformat()}],
        [("quarantined", "off_grid")],
    ),
    "unknown_turbine": (lambda row: [row | {"turbine_id": "T99"}], [("quarantined", "unknown_turbine")]),
    "ragged": (lambda row: [row | {"fault": "the row has 3 values"}], [("quarantined", "ragged")]),
    "out_of_range": (lambda row: [row | {"wind_speed_ms": "77"}], [("kept", "")]),
    "sentinel": (lambda row: [row | {"power_kw": "-999"}], [("kept", "")]),
    "spike": (lambda row: [row | {"temperature_c": "48.5"}], [("kept", "")]),
    "blank": (lambda row: [row | {"power_kw": ""}], [("kept", "")]),
}


#: A turbine whose wind or power is in another unit than the card says, all along: none, or which signal by how much.
UNITS: dict[str, tuple[str, float]] = {"m/s as km/h": ("wind_speed_ms", 3.6), "kW as MW": ("power_kw", 0.001)}
UNIT_TURBINE = 2


def sent(
    faults: dict[tuple[int, int], str], unit: str = "", fast_minutes: int = 0
) -> tuple[list[Row], Counter[tuple[str, str]], dict[int, Row]]:
    """The rows of a farm with these faults, what should become of them, and the healthy ones by their number in the file."""
    out: list[Row] = []
    untouched: dict[int, Row] = {}
    expected: Counter[tuple[str, str]] = Counter()
    touched = set(faults)
    stuck = {(step + back, turbine): step for (step, turbine), kind in faults.items() if kind == "stuck" for back in range(STUCK)}
    touched |= set(stuck)
    rows = healthy()
    for row in rows:
        row["timestamp"] = (pd.Timestamp(row["timestamp"]) + pd.Timedelta(minutes=fast_minutes)).isoformat()
    for number, row in enumerate(rows):
        place = divmod(number, TURBINES)
        if unit and place[1] == UNIT_TURBINE:
            touched.add(place)
            signal, times = UNITS[unit]
            row |= {signal: f"{float(row[signal]) * times:.6f}"}
        if place in stuck:
            first = rows[stuck[place] * TURBINES + place[1]]
            out.append(row | {"wind_direction_deg": first["wind_direction_deg"]})
            expected["kept", ""] += 1
            continue
        change, fates = FAULTS.get(faults.get(place, ""), (lambda own: [own], [("kept", "")]))
        changed = change(row)
        assert len(changed) == len(fates)
        if place not in touched:
            untouched[len(out) + 1] = row
        out += changed
        expected.update(fates)
    return out, expected, untouched


some_faults = st.dictionaries(
    st.sampled_from(PLACES), st.sampled_from([*FAULTS, "stuck"]), min_size=len(FAULTS), max_size=len(PLACES)
)


#: One of each kind, turbine after turbine.
EVERY_FAULT = dict(zip(PLACES[::4], FAULTS, strict=False)) | {PLACES[-1]: "stuck"}


def without_places(found: Frames) -> Frames:
    """Tables without the number of the row in its file, in an order of their own."""
    out = {}
    for name in OUTPUTS:
        table = found[name]
        plain = table.drop(columns=["source_row"], errors="ignore")
        out[name] = plain.sort_values(list(plain.columns), ignore_index=True)
    return out


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, id="one of each", marks=pytest.mark.slow), pytest.param(60, id="many", marks=pytest.mark.long)],
)
def examples(request: pytest.FixtureRequest) -> int:
    """How many mixes: one that has every fault, and those that Hypothesis chooses."""
    return int(request.param)


def test_any_mix_of_faults(
    examples: int,
    raw_signals: Any,
    raw_weather: Any,
    run_room: Callable[..., Frames],
    windy: Any,
    settings: Any,
    now: Clock,
) -> None:
    fleet = windy(received_at="received")
    weather = raw_weather(weather_rows(WIND))

    def run(rows: list[Row]) -> Frames:
        return run_room(raw_signals(rows), weather, fleet, now, settings)

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        # The first that Hypothesis chooses is always the simplest, which has less than the one given here.
        phases=[Phase.explicit] if examples == 1 else [Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(some_faults, st.sampled_from(["", *UNITS]), st.integers(-9, 9), st.integers(0, 2**32 - 1))
    @hypothesis.example(EVERY_FAULT, "m/s as km/h", 6, 1)
    def holds(faults: dict[tuple[int, int], str], unit: str, fast: int, seed: int) -> None:
        rows, expected, untouched = sent(faults, unit, 10 * fast)
        found = run(rows)
        accounted_for(found, rows, expected)
        nothing_healthy_was_touched(found, untouched)
        assert set(found["suspected_units"]["turbine_id"]) <= ({f"T{UNIT_TURBINE}"} if unit else set())
        np.random.default_rng(seed).shuffle(rows)
        other = run(rows)
        one, two = without_places(found), without_places(other)
        for name in OUTPUTS:
            pd.testing.assert_frame_equal(one[name], two[name], obj=f"{name}, in another order")

    holds()


def accounted_for(found: Frames, rows: list[Row], expected: Counter[tuple[str, str]]) -> None:
    """Rows in = kept + superseded + duplicate + quarantined, each as its fault says."""
    timed = found["timed_signals"]
    reasons = timed["reason"].fillna("")
    assert len(timed) == len(rows)
    assert Counter(zip(timed["status"], reasons, strict=True)) == expected
    assert len(found["signals"]) == expected["kept", ""] + expected["superseded", ""]
    assert len(found["quarantine"]) == sum(n for (status, _), n in expected.items() if status == "quarantined")


def nothing_healthy_was_touched(found: Frames, untouched: dict[int, Row]) -> None:
    signals = found["signals"].query("farm_id == 'hill'").set_index("source_row")
    assert len(untouched) > TURBINES * len(WIND) / 4
    for number, row in untouched.items():
        kept = signals.loc[number]
        assert kept["status"] == "kept"
        assert [kept[name] for name in VALUES] == [float(row[name]) for name in VALUES], row
