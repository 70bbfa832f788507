"""Every row has one fate, and every row is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.timestamps.placement import placed

Make = Callable[[list[dict[str, Any]]], Any]
FIRST_CALIBRATION = pd.Timestamp("2024-03-01", tz="UTC")
GOOD = {"turbine_id": "T0", "timestamp": "2024-03-10T12:00:00Z", "power_kw": "500", "wind_speed_ms": "8"}


def calibrated(reading: str = "as_stamped", farm_id: str = "hill") -> pd.DataFrame:
    return pd.DataFrame(
        [{"farm_id": farm_id, "fitted_at": FIRST_CALIBRATION, "reading": reading, "assumed": "as_stamped", "agrees": True,
          "offset_minutes": 0.0, "correlation": 0.9, "evidence": "{}", "rows": 100}]
    )  # fmt: skip


@pytest.fixture
def time(
    raw_signals: Make, settle: Callable[[Any], Any], windy: Callable[..., Fleet], now: Clock, settings: DataEngineering
) -> Callable[..., pd.DataFrame]:
    """Rows in, timed rows out, in the order in which they came in."""

    def run(rows: list[dict[str, Any]], clock: Clock = now, reading: str = "as_stamped", **signals: Any) -> pd.DataFrame:
        fleet = windy(**signals)
        parsed = settle(parse_signals(raw_signals([GOOD | row for row in rows]), fleet, settings))
        timed: pd.DataFrame = placed(parsed, calibrated(reading), SuspectedUnits.table([]), fleet, clock, settings).to_pandas()
        return timed.sort_values("source_row", ignore_index=True)

    return run


CASES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "one row": ([{}], ["kept"]),
    "the same again": ([{}, {}, {}], ["kept", "duplicate", "duplicate"]),
    "the same again, later": (
        [{"received_at": "2024-03-10T12:20:00Z"}, {"received_at": "2024-03-10T15:00:00Z"}],
        ["kept", "duplicate"],
    ),
    "revised": (
        [{"received_at": "2024-03-10T15:00:00Z", "power_kw": "600"}, {"received_at": "2024-03-10T12:20:00Z"}],
        ["kept", "superseded"],
    ),
    "revised and back": (
        [
            {"received_at": "2024-03-10T12:20:00Z"},
            {"received_at": "2024-03-10T13:00:00Z", "power_kw": "600"},
            {"received_at": "2024-03-10T14:00:00Z"},
        ],
        ["superseded", "superseded", "kept"],
    ),
    "contradicting": ([{}, {"power_kw": "600"}], ["quarantined", "quarantined"]),
    "contradicting, one twice": ([{}, {"power_kw": "600"}, {}], ["quarantined", "quarantined", "duplicate"]),
    "contradicting after one that stood": (
        [
            {"received_at": "2024-03-10T12:20:00Z"},
            {"received_at": "2024-03-10T13:00:00Z", "power_kw": "600"},
            {"received_at": "2024-03-10T13:00:00Z", "power_kw": "700"},
        ],
        ["kept", "quarantined", "quarantined"],
    ),
    "another turbine": ([{}, {"turbine_id": "T1", "power_kw": "600"}], ["kept", "kept"]),
    "off the grid": ([{"timestamp": "2024-03-10T12:03:00Z"}, {}], ["quarantined", "kept"]),
    "off by a second": ([{"timestamp": "2024-03-10T12:00:01Z"}, {}], ["quarantined", "kept"]),
    "a missing value is a value": ([{}, {"power_kw": None}], ["quarantined", "quarantined"]),
}


@pytest.fixture
def fates(time: Callable[..., pd.DataFrame]) -> dict[str, list[str]]:
    """All cases at once, each on a day of its own."""
    days = dict(zip(CASES, pd.date_range("2024-03-10", periods=len(CASES)).strftime("%Y-%m-%d"), strict=True))
    moved = {
        case: [
            {
                name: value.replace("2024-03-10", days[case]) if isinstance(value, str) else value
                for name, value in (GOOD | row).items()
            }
            for row in rows
        ]
        for case, (rows, _) in CASES.items()
    }
    timed = time([row for rows in moved.values() for row in rows])
    found, first = {}, 0
    for case, rows in moved.items():
        found[case] = timed["status"].iloc[first : first + len(rows)].tolist()
        first += len(rows)
    return found


def test_fates(fates: dict[str, list[str]]) -> None:
    assert fates == {case: expected for case, (_, expected) in CASES.items()}


def test_conflicts_and_stamps_off_the_grid_say_so(time: Callable[..., pd.DataFrame]) -> None:
    found = time([{}, {"power_kw": "600"}, {"timestamp": "2024-03-10T12:03:00Z"}])
    assert found["reason"].tolist() == ["conflicting_stamp", "conflicting_stamp", "off_grid"]
    assert "2024-03-10 12:03:00 UTC does not start on a multiple of 600 seconds" in found["detail"][2]


@pytest.mark.parametrize(
    ("reading", "rows", "times"),
    [
        (
            "as_stamped",
            [
                {},
                {"timestamp": "2024-03-10T14:00:00", "received_at": "2024-03-10T16:07:00Z"},
                {"timestamp": "2024-03-10T18:00:00", "received_at": "2024-03-10T17:00:00Z"},
            ],
            # Ten minutes long, ten minutes on the way, unless it says when it came; nothing is known before it is over.
            ["12:00 12:20", "14:00 16:07", "18:00 18:10"],
        ),
        ("wall_clock_is_utc", [{"timestamp": "2024-03-10T12:00:00+01:00"}], ["12:00 12:20"]),
        ("wall_clock_is_local", [{"timestamp": "2024-03-10T12:00:00+05:00"}], ["11:00 11:20"]),
    ],
)
def test_when_a_row_was_and_when_it_came(
    time: Callable[..., pd.DataFrame], reading: str, rows: list[dict[str, Any]], times: list[str]
) -> None:
    found = time(rows, reading=reading)
    assert [f"{row.valid_at:%H:%M} {row.arrived_at:%H:%M}" for row in found.itertuples()] == times
    assert (found["available_at"] == found["arrived_at"]).all()


def test_rows_older_than_the_first_calibration_wait_for_it(time: Callable[..., pd.DataFrame]) -> None:
    found = time([{"timestamp": "2024-02-10T12:00:00Z"}]).iloc[0]
    assert found["available_at"] == FIRST_CALIBRATION.tz_localize(None)
    assert found["arrived_at"] == pd.Timestamp("2024-02-10T12:20")


def test_what_comes_later_is_not_seen(time: Callable[..., pd.DataFrame]) -> None:
    clock = Clock(as_of=pd.Timestamp("2024-03-10T12:20:00Z").to_pydatetime())
    found = time([{}, {"timestamp": "2024-03-10T12:10:00Z"}, {"timestamp": "never"}], clock=clock)
    assert found["source_row"].tolist() == [1, 3]  # a row without a time cannot be said to be in the future


def stamped(count: int, **columns: list[str | None]) -> list[dict[str, Any]]:
    stamps = pd.date_range("2024-03-10T12:00:00", periods=count, freq="10min")
    return [
        {
            "timestamp": stamp.isoformat(),
            "wind_direction_deg": f"{200 + number}",
            "temperature_c": f"{10 + number / 10}",
        }
        | {name: values[number] for name, values in columns.items()}
        for number, stamp in enumerate(stamps)
    ]


MOVING: list[str | None] = ["8", "8.3", "8.6", "8.9", "9.2"]


STUCK: list[tuple[dict[str, list[str | None]], str, list[int]]] = [
    ({"power_kw": ["500"] * 5, "wind_speed_ms": MOVING}, "power_kw", [0, 0, 1, 1, 1]),
    ({"power_kw": ["500"] * 5, "wind_speed_ms": ["8"] * 5}, "power_kw", [0, 0, 0, 0, 0]),  # calm air, not a fault
    ({"power_kw": ["1000"] * 5, "wind_speed_ms": MOVING}, "power_kw", [0, 0, 0, 0, 0]),  # full load
    ({"power_kw": ["0"] * 5, "wind_speed_ms": MOVING}, "power_kw", [0, 0, 0, 0, 0]),  # standing still
    ({"power_kw": ["500", "500", None, "500", "500"], "wind_speed_ms": MOVING}, "power_kw", [0, 0, 0, 0, 0]),
    ({"power_kw": ["500", "500", "501", "500", "500"], "wind_speed_ms": MOVING}, "power_kw", [0, 0, 0, 0, 0]),
    ({"power_kw": ["400", "430", "470", "500", "540"], "wind_speed_ms": ["8"] * 5}, "wind_speed_ms", [0, 0, 1, 1, 1]),
    ({"power_kw": ["400", "405", "410", "415", "418"], "wind_speed_ms": ["8"] * 5}, "wind_speed_ms", [0] * 5),  # nor did power
]  # fmt: skip


def test_stuck_sensors(time: Callable[..., pd.DataFrame]) -> None:
    days = pd.date_range("2024-03-10", periods=len(STUCK)).strftime("%Y-%m-%d")
    rows = [
        row | {"timestamp": row["timestamp"].replace("2024-03-10", day)}
        for (columns, _, _), day in zip(STUCK, days, strict=True)
        for row in stamped(5, **columns)
    ]
    timed = time(rows)
    for number, (_, signal, stuck) in enumerate(STUCK):
        found = timed.iloc[5 * number : 5 * number + 5]
        struck = found[f"{signal}_fault"] == "stuck"
        assert struck.astype(int).tolist() == stuck, STUCK[number]
        assert found.loc[struck, signal].isna().all()


def test_a_gap_ends_the_memory_of_a_stuck_sensor(time: Callable[..., pd.DataFrame]) -> None:
    rows = stamped(5, power_kw=["500"] * 5, wind_speed_ms=MOVING)
    del rows[2]
    assert time(rows)["power_kw_fault"].isna().all()
