"""Weather as it could be read: runs, arrivals, vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts import Weather
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.settings import DataEngineering

Make = Callable[[list[dict[str, Any]]], Any]
RUN = {
    "weather_model": "alpha",
    "run_at": "2024-01-01T00:00Z",
    "valid_at": "2024-01-01T03:00Z",
    "wind_speed_100m_ms": "5",
}
TRUTH = {"farm_id": "shore", "weather_model": "alpha", "wind_speed_100m_ms": "5"}


@pytest.fixture
def judge(raw_weather: Make, settle: Any, fleet: Fleet, settings: DataEngineering, now: Clock) -> Callable[..., Any]:
    """Rows in, judged rows out."""
    return lambda rows, clock=now: settle(
        nodes.judge_weather(settle(nodes.parse_weather(raw_weather(rows), fleet, settings)), fleet, clock)
    )


@pytest.fixture
def weather(judge: Callable[..., Any], fleet: Fleet, now: Clock) -> Callable[..., pd.DataFrame]:
    """Rows in, weather out."""

    def run(rows: list[dict[str, Any]], clock: Clock = now) -> pd.DataFrame:
        return Weather.validate(nodes.make_weather(judge(rows, clock), fleet, clock))

    return run


def test_direction_is_where_the_wind_comes_from(weather: Any) -> None:
    # A north wind blows southwards.
    cases = [(0, -5, 0), (-5, 0, 90), (0, 5, 180), (5, 0, 270), (3, 4, 216.87)]
    calm = {"wind_speed_100m_ms": None}
    rows = [
        RUN | calm | {"valid_at": f"2024-01-01T0{n}:00Z", "wind_u_100m_ms": str(u), "wind_v_100m_ms": str(v)}
        for n, (u, v, _) in enumerate(cases)
    ]
    rows += [
        RUN | {"valid_at": f"2024-01-01T0{n + 5}:00Z", "wind_direction_100m_deg": str(angle)}
        for n, (_, _, angle) in enumerate(cases)
    ]
    found = weather(rows)
    assert found["wind_speed_100m_ms"].to_numpy() == pytest.approx(5)
    assert found["wind_direction_100m_deg"].to_numpy() == pytest.approx([angle for *_, angle in cases] * 2, abs=0.01)
    assert found["wind_u_100m_ms"].to_numpy() == pytest.approx([u for u, _, _ in cases] * 2, abs=0.001)
    assert found["wind_v_100m_ms"].to_numpy() == pytest.approx([v for _, v, _ in cases] * 2, abs=0.001)


def test_a_calm_has_no_direction(weather: Any) -> None:
    row = weather([RUN | {"wind_speed_100m_ms": None, "wind_u_100m_ms": "0", "wind_v_100m_ms": "0"}]).iloc[0]
    assert row["wind_speed_100m_ms"] == 0
    assert pd.isna(row["wind_direction_100m_deg"])


def test_density_of_the_standard_atmosphere(
    cards: dict[str, Any], raw_weather: Make, settle: Any, settings: Any, now: Clock
) -> None:
    fleet = Fleet.from_config(**cards)
    rows = [
        RUN | {"temperature_c": "15", "pressure_pa": "101325"},
        RUN | {"valid_at": "2024-01-01T04:00Z", "temperature_c": "15"},
    ]
    parsed = settle(nodes.parse_weather(raw_weather(rows), fleet, settings))
    found = nodes.make_weather(settle(nodes.judge_weather(parsed, fleet, now)), fleet, now)
    assert found["air_density_kgm3"][0] == pytest.approx(1.225, abs=1e-4)  # ISO 2533
    assert pd.isna(found["air_density_kgm3"][1])


def test_forecasts_are_available_when_they_say_or_after_their_delay(weather: Any) -> None:
    rows = [RUN, RUN | {"valid_at": "2024-01-01T04:00Z", "available_at": "2024-01-01T02:47Z"}]
    assert weather(rows)["available_at"].dt.strftime("%H:%M").tolist() == ["02:00", "02:47"]


def test_what_is_not_available_is_not_seen(weather: Any) -> None:
    rows = [RUN, RUN | {"run_at": "2024-01-01T06:00Z", "valid_at": "2024-01-01T09:00Z"}]
    at_eight = Clock(as_of=pd.Timestamp("2024-01-01T08:00Z").to_pydatetime())
    assert len(weather(rows, at_eight)) == 2
    assert len(weather(rows, Clock(as_of=at_eight.as_of - pd.Timedelta(minutes=1)))) == 1


def test_an_analysis_enters_as_pseudo_runs(weather: Any) -> None:
    # The shore: a run every six hours, twelve hours long, two hours on its way.
    found = weather([TRUTH | {"valid_at": stamp} for stamp in ("2024-01-02T07:00Z", "2024-01-02T12:00Z")])
    runs = found.assign(**{name: found[name].dt.strftime("%d %H") for name in ("run_at", "available_at", "valid_at")})
    assert sorted(runs[["valid_at", "run_at", "available_at"]].itertuples(index=False, name=None)) == [
        ("02 07", "02 00", "02 02"),
        ("02 07", "02 06", "02 08"),
        ("02 12", "02 00", "02 02"),  # its last hour
        ("02 12", "02 06", "02 08"),
        ("02 12", "02 12", "02 14"),
    ]
    assert found["is_analysis"].all()


@pytest.mark.parametrize(
    ("rows", "fates"),
    [
        ([RUN, RUN], [("duplicate", None), ("kept", None)]),
        ([RUN, RUN | {"wind_speed_100m_ms": "6"}], [("quarantined", "conflicting_stamp")] * 2),
        (
            [RUN, RUN | {"wind_speed_100m_ms": "6", "available_at": "2024-01-01T05:00Z"}],
            [("kept", None), ("quarantined", "late_revision")],
        ),
        ([TRUTH | {"valid_at": "2024-01-01"}] * 2, [("quarantined", "bad_stamp")] * 2),
        (
            [
                TRUTH | {"valid_at": "2024-01-01T00:00"},
                TRUTH | {"valid_at": "2024-01-01T00:00", "wind_speed_100m_ms": "6"},
            ],
            [("quarantined", "conflicting_stamp")] * 2,
        ),
    ],
)
def test_fates(judge: Any, rows: list[dict[str, Any]], fates: list[tuple[str, str | None]]) -> None:
    found = judge(rows).to_pandas()
    assert sorted(
        (row.status, None if pd.isna(row.reason) else row.reason) for row in found.itertuples()
    ) == sorted(fates)  # fmt: skip
