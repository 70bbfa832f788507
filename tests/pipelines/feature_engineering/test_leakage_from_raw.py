"""From raw text to features: what arrives after a time, signals or weather, moves nothing that was issued by then.

Hypothesis draws the time and what the other future is like; the rows go through the real nodes of data_engineering and this room,
so that whatever is fitted on the way (clock, power curve, best point, errors) could leak and would show.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.feature_engineering.nodes import FeatureParameters
from wind_kedro.pipelines.feature_engineering.settings import BestPoint

from ..data_engineering import conftest as room
from .building import features_of

# Fixtures of the room before: raw text in, every table out, through its real nodes.
backend, settle, derive, parameters = room.backend, room.settle, room.derive, room.parameters
raw_signals, raw_weather, run_room = room.raw_signals, room.raw_weather, room.run_room
pytestmark = [
    pytest.mark.slow,
    # Ibis 12 about how it calls DuckDB 2 and pandas 3 itself.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

Rows = list[dict[str, Any]]
#: Over the end of a month, where what is fitted monthly changes, and over the change of the clocks.
DAYS = 7
WIND = room.gusty(24 * DAYS, start="2024-03-28")
#: The other farm's wind: the same weather somewhat later, and better at telling the hill's power than the hill's own forecast.
BESIDE = room.gusty(24 * DAYS, seed=12, start="2024-03-28")
NOW = Clock(as_of=(WIND.index[-1] + pd.Timedelta(days=1)).to_pydatetime())
DELAY = pd.Timedelta(hours=2)
FEATURES = FeatureParameters(
    neighbour_minutes=[-60, 60],
    window_minutes=[120],
    extremes_minutes=[240],
    other_farm_minutes=[-60],
    edge_minutes=30,
    best_point=BestPoint(min_hours=6, margin=0),
    production_memory_hours=12,
)


def _signals() -> Rows:
    """Raw rows of the hill: some late, some sent again with other values; ``arrived`` says when."""
    numbers = np.random.default_rng(5)
    rows = []
    for number, row in enumerate(room.signal_rows(WIND, lambda at: at.isoformat())):
        at = WIND.index[number // 3]
        row["arrived"] = at + pd.Timedelta(minutes=20)
        if numbers.random() < 0.1:
            row["arrived"] += pd.Timedelta(hours=float(numbers.integers(1, 30)))
        rows.append(row)
        if numbers.random() < 0.02:
            later = row["arrived"] + pd.Timedelta(hours=float(numbers.integers(1, 40)))
            rows.append(row | {"power_kw": f"{numbers.uniform(0, 1000):.3f}", "arrived": later})
    return rows


def _weather() -> Rows:
    """Raw runs of both farms; the hill's say less of its wind than the shore's."""
    numbers = np.random.default_rng(6)
    rows = []
    for farm_id, wind in (("hill", 0.5 * WIND + 0.5 * BESIDE), ("shore", WIND)):
        for row in room.weather_rows(wind):
            speed = float(row["wind_speed_100m_ms"])
            angle = numbers.uniform(0, 2 * np.pi)
            own = {"wind_u_100m_ms": f"{speed * np.cos(angle):.3f}", "wind_v_100m_ms": f"{speed * np.sin(angle):.3f}"}
            low = {
                "wind_u_10m_ms": f"{speed / 2 * np.cos(angle):.3f}",
                "wind_v_10m_ms": f"{speed / 2 * np.sin(angle):.3f}",
            }
            rows.append(row | own | low | {"farm_id": farm_id, "arrived": pd.Timestamp(row["run_at"]) + DELAY})
    return rows


SIGNALS, WEATHER = _signals(), _weather()
_COMPONENTS = ("wind_u_100m_ms", "wind_v_100m_ms", "wind_u_10m_ms", "wind_v_10m_ms")
_NUMBERS = ("power_kw", "wind_speed_ms", "wind_speed_100m_ms", "wind_u_100m_ms", "wind_v_10m_ms")


def _another_future(rows: Rows, moment: pd.Timestamp, seed: int) -> Rows:
    """The same up to the moment; after it other values, rows missing, rows that cannot be read, and revisions of the past."""
    numbers = np.random.default_rng(seed)
    past = [row for row in rows if row["arrived"] <= moment]
    future = []
    for row in rows:
        luck = numbers.random()
        if row["arrived"] <= moment or luck < 0.2:
            continue
        changed = {name: f"{numbers.uniform(0, 24):.3f}" for name in _NUMBERS if name in row}
        future.append(row | changed | ({next(iter(changed)): "bad"} if luck < 0.3 else {}))
    again = [
        row | {"power_kw": f"{numbers.uniform(0, 1000):.3f}", "arrived": moment + pd.Timedelta(minutes=1)}
        for row in past[-200:]
        if "power_kw" in row and numbers.random() < 0.2
    ]
    return past + future + again


def _sent(rows: Rows) -> Rows:
    """As they stand in a file: with their arrival as text."""
    return [
        {name: value for name, value in row.items() if name != "arrived"}
        | ({"received_at": row["arrived"].isoformat()} if "power_kw" in row else {"available_at": row["arrived"].isoformat()})
        for row in rows
    ]


@pytest.fixture(scope="module")
def chain(raw_signals: Any, raw_weather: Any, run_room: Any, settings_of_the_room: Any) -> Callable[..., pd.DataFrame]:
    """Raw rows in, features out."""
    cards = settings_of_the_room[0].model_dump(mode="json")
    for farm in cards["farms"]:
        for source in farm["weather"]:
            source["columns"] |= {name: {"name": name, "unit": "m/s"} for name in _COMPONENTS}
    fleet = Fleet.model_validate(cards)

    def run(signals: Rows, weather: Rows, clock: Clock = NOW) -> pd.DataFrame:
        found = run_room(raw_signals(_sent(signals)), raw_weather(_sent(weather)), fleet, clock, settings_of_the_room[1])
        return features_of(found["observations"], found["weather"], fleet, clock, FEATURES)[0]

    return run


@pytest.fixture(scope="module")
def settings_of_the_room(parameters: dict[str, Any]) -> tuple[Fleet, Any]:
    """Both farms with forecasts of their own, sold together and alone by the hour; clocks judged after two days."""
    from wind_kedro.pipelines.data_engineering.settings import DataEngineering

    changed = copy.deepcopy(parameters)
    changed["clock_search"]["min_history_days"] = 2
    return _cards(), DataEngineering.model_validate(changed)


def _cards() -> Fleet:
    source = {
        "model": "alpha",
        "kind": "forecast",
        "path": "alpha.csv",
        "valid_at": "time",
        "run_at": "run",
        "available_at": "came",
        "delay_minutes": 120,
        "run_every_minutes": 360,
        "length_hours": 12,
        "columns": {"wind_speed_100m_ms": {"name": "wind", "unit": "m/s"}},
    }
    farms = [
        {
            "id": farm_id,
            "name": farm_id,
            "latitude_deg": 50.0,
            "longitude_deg": 5.0,
            "time_zone": "Europe/Paris",
            "capacity_kw": 3000,
            "turbines": [{"id": f"T{number}", "rated_power_kw": 1000, "hub_height_m": 80} for number in range(3)],
            "latency_minutes": 10,
            "signals": {
                "path": f"{farm_id}.csv",
                "timestamp": "time",
                "turbine": "turbine",
                "received_at": "received",
                "cadence_seconds": 600,
                "columns": room.COLUMNS,
            },
            "weather": [source],
        }
        for farm_id in ("hill", "shore")
    ]
    market = {
        "id": "hourly",
        "name": "Hourly",
        "time_zone": "Europe/London",
        "settlement_minutes": 60,
        "gate_closure_minutes": 60,
        "currency": "GBP",
        "penalty": {"kind": "imbalance"},
    }
    product = {
        "id": "hours",
        "name": "Hours",
        "market": "hourly",
        "granularity_minutes": 60,
        "horizon_minutes": 480,
        "issue_times": ["02:00", "08:00", "14:00", "20:00"],
        "quantile_levels": [0.5],
        "deciding_score": "pinball_share",
        "goal": {"target": 0.05, "since": "2024-01-01"},
        "members": ["hill", "both"],
    }
    return Fleet.from_config(farms, [market], [product], [{"id": "both", "name": "Both", "farms": ["hill", "shore"]}])


@pytest.fixture(scope="module")
def as_it_is(chain: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """What comes of the rows as they were sent."""
    return chain(SIGNALS, WEATHER)


def _by(table: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    keys = ["product_id", "entity_id", "issued_at", "valid_at"]
    return table[table["issued_at"] <= moment].sort_values(keys, ignore_index=True)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    # An example takes seconds: what fails is shown as it was found, not made smaller for minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(minutes=st.integers(48 * 60, (DAYS * 24 - 6) * 60), seed=st.integers(0, 10_000))
# Just after a month has begun, and what is fitted monthly with it.
@example(minutes=(4 * 24 + 2) * 60, seed=1)
def test_another_future_moves_nothing_that_was_issued(
    chain: Callable[..., pd.DataFrame], as_it_is: pd.DataFrame, minutes: int, seed: int
) -> None:
    moment = WIND.index[0] + pd.Timedelta(minutes=minutes)
    other = chain(_another_future(SIGNALS, moment, seed), _another_future(WEATHER, moment, seed + 1))
    pd.testing.assert_frame_equal(_by(other, moment), _by(as_it_is, moment))
    # And the other future was another.
    assert not other[other["issued_at"] > moment].equals(as_it_is[as_it_is["issued_at"] > moment])


def test_what_is_issued_then_is_what_a_backtest_sees(chain: Callable[..., pd.DataFrame], as_it_is: pd.DataFrame) -> None:
    moment = WIND.index[0] + pd.Timedelta(days=4, hours=3)
    live = chain(SIGNALS, WEATHER, Clock(as_of=moment.to_pydatetime()))
    pd.testing.assert_frame_equal(_by(live, moment), _by(as_it_is, moment))


def test_the_rows_have_something_to_say(as_it_is: pd.DataFrame) -> None:
    """Every family that could leak has values, before and after a month began."""
    hill = as_it_is[(as_it_is["entity_id"] == "hill") & (as_it_is["issued_at"] >= pd.Timestamp("2024-04-01", tz="UTC"))]
    known = hill[hill["wind_speed_100m_ms"].notna()]
    assert len(known) > 50
    for column in (
        "last_power_share",
        "power_share_mean_24h",
        "last_error_share",
        "error_share_mean_24h",
        "wind_veer_deg",
    ):
        assert known[column].notna().mean() > 0.5, column
    # The shore's forecast tells the hill's power better, and that was known.
    assert known["best_point_wind_speed_100m_ms"].equals(known["other_1_wind_speed_100m_ms"])
