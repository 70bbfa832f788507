"""Spikes and operating states, rule by rule, on rows small enough to see why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.pipelines.data_engineering.signals.operating_states import judged
from wind_kedro.pipelines.data_engineering.signals.rules import clean_values, with_turbines

from ..test_tables import timed

BEGIN = pd.Timestamp("2024-03-10T12:00")


def series(turbine: str = "T0", **columns: list[Any]) -> list[dict[str, Any]]:
    """Rows of one turbine, ten minutes each."""
    count = len(next(iter(columns.values())))
    return [
        {"turbine_id": turbine, "valid_at": BEGIN + pd.Timedelta(minutes=10 * number)}
        | {name: values[number] for name, values in columns.items()}
        for number in range(count)
    ]


@pytest.fixture
def clean(windy: Callable[..., Fleet], settings: Any) -> Callable[..., pd.DataFrame]:
    """Short rows in, cleaned rows out, in order of time."""

    def run(rows: list[dict[str, Any]], **signals: Any) -> pd.DataFrame:
        faults = {f"{name}_fault": None for name in ("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c")}
        cadence = signals.get("cadence_seconds", 600)
        table = timed([row | {"cadence": cadence} for row in rows])
        bare = table.drop(*(name for name in table.columns if "spiked" in name))
        bare = bare.mutate(**dict.fromkeys(faults, ibis.null("string")))
        fleet = windy(**signals)
        cleaned = clean_values(with_turbines(bare, fleet), SuspectedUnits.table([]), fleet, settings)
        return cleaned.order_by("valid_at").to_pandas()

    return run


STEADY = [500.0, 505.0, 498.0, 502.0, 499.0, 501.0]


@pytest.mark.parametrize(
    ("columns", "signal", "found"),
    [
        pytest.param({"power_kw": [500, 505, 900, 502, 499, 501]}, "power_kw", [2], id="one up"),
        pytest.param({"power_kw": [500, 505, 100, 502, 499, 501]}, "power_kw", [2], id="one down"),
        pytest.param({"power_kw": [500, 505, 900, 880, 499, 501]}, "power_kw", [2, 3], id="two"),
        pytest.param({"power_kw": [500, 505, 900, 880, 890, 501]}, "power_kw", [], id="three are no spike"),
        pytest.param({"power_kw": [500, 505, 900, 910, 905, 899]}, "power_kw", [], id="a step"),
        pytest.param({"power_kw": [500, 505, 498, 502, 499, 900]}, "power_kw", [], id="the newest is not known yet"),
        pytest.param(
            {"power_kw": [500, 505, 900, 502, 499, 501], "wind_speed_ms": [8, 8, 10, 8, 8, 8]},
            "power_kw",
            [],
            id="a gust",
        ),
        pytest.param(
            {"power_kw": [500, 505, 0, 502, 499, 501], "pitch_deg": [0, 0, 80, 0, 0, 0]},
            "power_kw",
            [],
            id="a short stop",
        ),
        pytest.param(
            {"power_kw": STEADY, "wind_speed_ms": [8, 8.1, 18, 8, 8.2, 8]},
            "wind_speed_ms",
            [2],
            id="wind without power",
        ),
        pytest.param(
            {"power_kw": [500, 505, 900, 502, 499, 501], "wind_speed_ms": [8, 8.1, 13, 8, 8.2, 8]},
            "wind_speed_ms",
            [],
            id="wind with power",
        ),
        pytest.param({"power_kw": STEADY, "temperature_c": [10, 10, 48, 10, 10, 10]}, "temperature_c", [2], id="temperature"),
    ],
)
def test_spikes(clean: Callable[..., pd.DataFrame], columns: dict[str, list[Any]], signal: str, found: list[int]) -> None:
    rows = clean(series(**columns))
    struck = rows.index[rows[f"{signal}_fault"] == "spike"].tolist()
    assert struck == found
    assert rows.loc[struck, signal].isna().all()
    assert rows[signal].notna().sum() == len(rows) - len(found)


def test_a_spike_is_found_when_the_row_behind_it_has_come(clean: Callable[..., pd.DataFrame]) -> None:
    rows = clean(series(power_kw=[500, 505, 900, 502, 499, 501]))
    assert rows["power_kw_spiked"].dropna().tolist() == [900.0]
    assert rows["power_kw_spiked_at"].dropna().tolist() == [rows["available_at"][3]]
    two = clean(series(power_kw=[500, 505, 900, 880, 499, 501]))
    assert two["power_kw_spiked_at"].dropna().tolist() == [two["available_at"][4]] * 2


@pytest.mark.parametrize(("seconds", "repetitions"), [(60, 30), (600, 3), (3600, 3)])
def test_a_sensor_is_stuck_after_as_many_minutes_at_any_cadence(
    clean: Callable[..., pd.DataFrame], seconds: int, repetitions: int
) -> None:
    count = repetitions + 2
    rows = [
        {
            "turbine_id": "T0",
            "valid_at": BEGIN + pd.Timedelta(seconds=seconds * number),
            "available_at": BEGIN + pd.Timedelta(seconds=seconds * (number + 1)),
            "power_kw": 500.0,
            "wind_speed_ms": 8.0 + 0.5 * (number % 2),
        }
        for number in range(count)
    ]
    struck = clean(rows, cadence_seconds=seconds)["power_kw_fault"] == "stuck"
    assert struck.tolist() == [False] * (repetitions - 1) + [True] * 3


@pytest.fixture
def operating_state(windy: Callable[..., Fleet], settings: Any) -> Callable[..., list[str]]:
    """Short rows in, the operating states of T0 out; the curve gives half of rated power at 8 m/s."""
    curve = pd.DataFrame(
        {
            "farm_id": "hill",
            "fitted_at": pd.Timestamp("2024-03-01", tz="UTC"),
            "wind_speed_ms": [3.25, 8.25],
            "power_share": [0.0, 0.5],
            "low_share": [-0.1, 0.3],
            "high_share": [0.1, 0.7],
            "rows": 100,
        }
    )

    def run(rows: list[dict[str, Any]]) -> list[str]:
        found = judged(timed(rows), curve, windy(), settings).to_pandas().sort_values("valid_at")
        return found.loc[found["turbine_id"] == "T0", "operating_state"].tolist()

    return run


UNEVEN = [200.0, 150.0, 240.0, 170.0, 210.0, 160.0, 230.0]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"power_kw": STEADY}, [""] * 6, id="on the curve"),
        pytest.param({"power_kw": [-3.0] * 3}, ["stopped"] * 3, id="no power, no pitch"),
        pytest.param({"power_kw": [60.0] * 2, "pitch_deg": [60.0] * 2}, ["stopped"] * 2, id="feathered within the interval"),
        pytest.param({"power_kw": [-3.0] * 3, "wind_speed_ms": [3.1] * 3}, [""] * 3, id="waits for wind"),
        pytest.param({"power_kw": [200.0] * 4}, ["off_curve"] * 2 + ["curtailed"] * 2, id="level"),
        pytest.param({"power_kw": UNEVEN[:3], "pitch_deg": [9.0] * 3}, ["curtailed"] * 3, id="pitched"),
        pytest.param({"power_kw": [200.0] * 37}, ["off_curve"] * 2 + ["curtailed"] * 33 + ["derated"] * 2, id="level for long"),
        pytest.param({"power_kw": UNEVEN, "temperature_c": [-4.0] * 7}, ["off_curve"] * 5 + ["iced"] * 2, id="frost"),
        pytest.param({"power_kw": UNEVEN, "temperature_c": [9.0] * 7}, ["off_curve"] * 7, id="no frost"),
        pytest.param({"power_kw": [900.0] * 2}, ["off_curve"] * 2, id="above"),
        pytest.param({"power_kw": [None, 500.0]}, ["", ""], id="nothing to judge"),
    ],
)
def test_operating_states(operating_state: Callable[..., list[str]], columns: dict[str, list[Any]], expected: list[str]) -> None:
    assert operating_state(series(**columns)) == expected


def test_a_farm_that_stands_still_at_once_was_told_to(operating_state: Callable[..., list[str]]) -> None:
    still = [row for name in ("T0", "T1", "T2") for row in series(name, power_kw=[-3.0])]
    assert operating_state(still) == ["curtailed"]
    assert operating_state(still[:2]) == ["stopped"]  # two of a farm are no order
    still[2]["available_at"] = BEGIN + pd.Timedelta(hours=5)  # what comes later says nothing of those before
    assert operating_state(still) == ["stopped"]


def test_a_late_row_gives_no_row_a_past(operating_state: Callable[..., list[str]]) -> None:
    rows = series(power_kw=[200.0] * 4)
    rows[1]["available_at"] = BEGIN + pd.Timedelta(hours=5)
    assert operating_state(rows)[2:] == ["off_curve"] * 2
