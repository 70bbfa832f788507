"""The heart: what arrives after a time T, signals or weather, changes nothing that could be used by T. On the real nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.clock import Clock

from .conftest import Frames, gusty, signal_rows, weather_rows

WIND = gusty(24 * 24, start="2024-03-18")
#: Just after the clocks have changed and the second calibration: the newest weather run is not readable yet.
T = pd.Timestamp("2024-04-01T00:37", tz="UTC")
TABLES = ("signals", "observations", "clock_calibration", "power_curve", "weather")


def stamp(at: pd.Timestamp) -> str:
    """UTC with a false offset, as at La Haute Borne: the clock has to be found. The hour left out is stamped as the next."""
    return at.tz_localize(None).tz_localize("Europe/Paris", nonexistent=pd.Timedelta(hours=1)).isoformat()


def sent(received: bool) -> list[dict[str, Any]]:
    """Raw rows: some late, some revised, some twice, some in conflict, a sensor stuck at T."""
    numbers = np.random.default_rng(2)
    rows = []
    for number, row in enumerate(signal_rows(WIND, stamp)):
        at = WIND.index[number // 3]
        row["true"] = at
        row["arrived"] = at + pd.Timedelta(minutes=20)
        luck = numbers.random()
        if abs(at - T) < pd.Timedelta(hours=12) and row["turbine_id"] != "T2":
            row["power_kw"] = "321.0"
        quiet = row["turbine_id"] == "T2" and abs(at - T) < pd.Timedelta(hours=1)
        luck = 1.0 if quiet else luck
        if quiet and at == T.floor("10min") - pd.Timedelta(minutes=20):
            # Known at T; that it is a spike, only later.
            row["power_kw"] = f"{float(row['power_kw']) + (400 if float(row['power_kw']) < 500 else -400):.3f}"
        if luck < 0.01:
            rows.append(
                row | {"power_kw": "600.125"} | ({"arrived": row["arrived"] + pd.Timedelta(hours=30)} if received else {})
            )
        elif luck < 0.02:
            rows.append(dict(row))
        elif luck < 0.12 and received:
            row["arrived"] += pd.Timedelta(hours=float(numbers.integers(1, 60)))
        elif luck < 0.13:
            continue
        rows.append(row)
    if received:
        for row in rows:
            row["received_at"] = row["arrived"].isoformat()
    return rows


def without_helpers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in {"true", "arrived"}} for row in rows]


def spoilt(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What arrives after T is another story: half the power, other wind, bad values, rows missing, rows that revise."""
    past = [row for row in rows if row["arrived"] <= T]
    future = [
        row
        | {
            "power_kw": f"{float(row['power_kw']) / 2:.3f}",
            "wind_speed_ms": f"{24 - float(row['wind_speed_ms']):.4f}",
            "temperature_c": "bad" if number % 2 else "3",
        }
        for number, row in enumerate(row for row in rows if row["arrived"] > T)
        if number % 10
    ]
    late = T + pd.Timedelta(hours=7)
    revised = [
        row | {"power_kw": "1.0", "arrived": late, "received_at": late.isoformat()}
        for row in past[-300::7]
        if "received_at" in row
    ]
    return past + future + revised


def blown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Weather read after T is another."""
    return [
        row if pd.Timestamp(row["run_at"]) + pd.Timedelta(hours=2) <= T else row | {"wind_speed_100m_ms": "1.234"} for row in rows
    ]


def known_by_then(found: Frames, table: str) -> pd.DataFrame:
    frame = found[table]
    time = "fitted_at" if "fitted_at" in frame else "available_at"
    frame = frame[frame[time] <= T]
    # A spike counts until its neighbours have come: what was known at T had it still.
    for name in ("power_kw", "wind_speed_ms") if table == "signals" else ():
        later = frame[f"{name}_spiked_at"] > T
        frame = frame.assign(**{name: frame[name].mask(later, frame[f"{name}_spiked"])})
    # Rows are numbered by their place in the file, which is not theirs; whether a row is superseded or a spike is as of the run.
    as_of_run = [name for name in frame if "spiked" in name or name == "superseded_at"]
    frame = frame.drop(columns=["source_row", "status", *as_of_run], errors="ignore")
    return frame.sort_values(list(frame.columns), ignore_index=True)


@pytest.fixture(scope="module", params=[True, False], ids=["arrival times", "latency only"])
def cast(request: pytest.FixtureRequest) -> bool:
    """Whether the source says when rows came."""
    return bool(request.param)


@pytest.mark.slow
def test_the_future_moves_nothing(
    cast: bool,
    raw_signals: Any,
    raw_weather: Any,
    run_room: Callable[..., Frames],
    windy: Any,
    settings: Any,
    now: Clock,
) -> None:
    fleet = windy(**({"received_at": "received"} if cast else {}))
    rows, weather = sent(cast), weather_rows(WIND)

    def run(signals: list[dict[str, Any]], runs: list[dict[str, Any]], clock: Clock) -> Frames:
        return run_room(raw_signals(without_helpers(signals)), raw_weather(runs), fleet, clock, settings)

    full = run(rows, weather, now)
    other = run(spoilt(rows), blown(weather), now)
    then = run(rows, weather, Clock(as_of=T.to_pydatetime()))
    for table in TABLES:
        expected = known_by_then(full, table)
        assert len(expected), table
        pd.testing.assert_frame_equal(known_by_then(other, table), expected, obj=f"{table}, another future")
        pd.testing.assert_frame_equal(known_by_then(then, table), expected, obj=f"{table}, as of then")
        # And the other future was another: the test can fail.
        assert len(full[table]) > len(expected)
    assert not full["observations"].equals(other["observations"])
    assert set(full["clock_calibration"].query("farm_id == 'hill'")["reading"]) == {"wall_clock_is_utc"}
    # Only arrival proves the hour of a row.
    assert full["signals"]["retimed"].any() == cast
    found_later = full["signals"].query("available_at <= @T and power_kw_spiked_at > @T")
    assert found_later["turbine_id"].tolist() == ["T2"]
