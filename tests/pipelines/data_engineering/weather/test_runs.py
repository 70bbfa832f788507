"""Weather as it could be read: runs, arrivals, vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import WEATHER_UNITS, Fleet
from wind_kedro.cards.farms import at_leading_points
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Weather
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather, make_weather

Make = Callable[[list[dict[str, Any]]], Any]
RUN = {
    "weather_model": "alpha",
    "run_at": "2024-01-01T00:00Z",
    "valid_at": "2024-01-01T03:00Z",
    "wind_speed_100m_ms": "5",
}
SIX = RUN | {"wind_speed_100m_ms": "6"}
TRUTH = {"farm_id": "shore", "weather_model": "alpha", "wind_speed_100m_ms": "5"}


@pytest.fixture
def cards(cards: dict[str, Any]) -> dict[str, Any]:
    """The shared cards, whose weather has every column."""
    for farm in cards["farms"]:
        farm["weather"][0]["columns"] = {name: {"name": name, "unit": unit} for name, unit in WEATHER_UNITS.items()}
    return cards


@pytest.fixture
def fleet(cards: dict[str, Any]) -> Fleet:
    return Fleet.from_config(**cards)


@pytest.fixture
def judge(raw_weather: Make, settle: Any, fleet: Fleet, settings: DataEngineering, now: Clock) -> Callable[..., Any]:
    """Rows in, judged rows out."""
    return lambda rows, clock=now: settle(judge_weather(settle(parse_weather(raw_weather(rows), fleet, settings)), clock))


@pytest.fixture
def weather(judge: Callable[..., Any], fleet: Fleet, settings: DataEngineering, now: Clock) -> Callable[..., pd.DataFrame]:
    """Rows in, weather out."""

    def run(rows: list[dict[str, Any]], clock: Clock = now) -> pd.DataFrame:
        return Weather.validate(make_weather(judge(rows, clock), fleet, clock, settings))

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


def test_both_components_are_a_wind(weather: Any) -> None:
    half = RUN | {"wind_speed_100m_ms": None, "wind_u_100m_ms": "3"}
    whole = half | {"valid_at": "2024-01-01T04:00Z", "wind_v_100m_ms": "4"}
    assert weather([half, whole])["wind_speed_100m_ms"].tolist() == [5]


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
    parsed = settle(parse_weather(raw_weather(rows), fleet, settings))
    found = make_weather(settle(judge_weather(parsed, now)), fleet, now, settings)
    # ISO 2533 at 80 m, the hill's hubs: 14.48 degrees, 100367 Pa. Its 15 degrees are of sea level, here of 2 m above.
    assert found["air_density_kgm3"][0] == pytest.approx(1.2156, abs=1e-4)
    assert pd.isna(found["air_density_kgm3"][1])


def test_forecasts_are_available_when_they_say_or_after_their_delay(weather: Any) -> None:
    rows = [RUN, RUN | {"valid_at": "2024-01-01T04:00Z", "available_at": "2024-01-01T02:47Z"}]
    assert weather(rows)["available_at"].dt.strftime("%H:%M").tolist() == ["02:00", "02:47"]


@pytest.mark.parametrize(
    ("first", "every", "valid_at", "run_at"),
    [
        pytest.param(60, 1440, "2024-01-02T01:00Z", "02 00:00", id="the first hour of a run of the day"),
        pytest.param(60, 1440, "2024-01-03T00:00Z", "02 00:00", id="its last"),
        pytest.param(0, 1440, "2024-01-03T00:00Z", "03 00:00", id="a run that begins with its own time"),
        pytest.param(360, 360, "2024-01-02T11:00Z", "02 00:00", id="the latest that has reached its sixth hour"),
        pytest.param(360, 360, "2024-01-02T12:00Z", "02 06:00", id="and the next"),
    ],
)
def test_times_of_a_stitched_series_are_of_the_newest_run_that_reaches_them(
    first: int,
    every: int,
    valid_at: str,
    run_at: str,
    cards: dict[str, Any],
    raw_weather: Make,
    settle: Any,
    settings: Any,
    now: Clock,
) -> None:
    source = cards["farms"][0]["weather"][0]
    source |= {"run_at": None, "first_step_minutes": first, "run_every_minutes": every}
    fleet = Fleet.from_config(**cards)
    row = RUN | {"run_at": None, "valid_at": valid_at}
    parsed = settle(parse_weather(raw_weather([row]), fleet, settings))
    found = make_weather(settle(judge_weather(parsed, now)), fleet, now, settings).iloc[0]
    assert f"{found['run_at']:%d %H:%M}" == run_at
    # The card's delay of two hours counts from there.
    assert found["available_at"] - found["run_at"] == pd.Timedelta(hours=2)


@pytest.mark.parametrize(("unit", "lead"), [("h", "3"), ("h", " 3.0"), ("min", "180"), ("s", "10800")])
def test_valid_times_follow_from_lead_times(
    unit: str, lead: str, cards: dict[str, Any], raw_weather: Make, settle: Any, settings: Any, now: Clock
) -> None:
    cards["farms"][0]["weather"][0] |= {"valid_at": None, "lead": {"name": "hors", "unit": unit}}
    fleet = Fleet.from_config(**cards)
    rows = [RUN | {"valid_at": None, "lead": lead}, RUN | {"valid_at": None, "lead": "soon"}]
    judged = settle(judge_weather(settle(parse_weather(raw_weather(rows), fleet, settings)), now)).to_pandas()
    assert judged["valid_at"].tolist()[0] == pd.Timestamp("2024-01-01T03:00")
    assert judged[["reason", "detail"]].to_numpy().tolist()[1] == ["bad_stamp", "lead 'soon' is not a number"]


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
            [("kept", None), ("superseded", None)],
        ),
        (  # as it was before, after another: again a revision
            [RUN, SIX | {"available_at": "2024-01-01T05:00Z"}, RUN | {"available_at": "2024-01-01T06:00Z"}],
            [("kept", None), ("superseded", None), ("superseded", None)],
        ),
        (
            [RUN, RUN | {"available_at": "2024-01-01T05:00Z"}, SIX | {"available_at": "2024-01-01T06:00Z"}],
            [("duplicate", None), ("kept", None), ("superseded", None)],
        ),
        (  # two that differ came together later: what was known before holds
            [RUN, *({**row, "available_at": "2024-01-01T05:00Z"} for row in (SIX, RUN | {"wind_speed_100m_ms": "7"}))],
            [("kept", None), ("quarantined", "conflicting_stamp"), ("quarantined", "conflicting_stamp")],
        ),
        (  # nothing can repeat a row that was not believed
            [RUN, SIX, SIX | {"available_at": "2024-01-01T05:00Z"}],
            [("kept", None), ("quarantined", "conflicting_stamp"), ("quarantined", "conflicting_stamp")],
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


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "backwards"])
def test_a_revision_is_known_from_its_arrival_on(weather: Any, order: int) -> None:
    later = SIX | {"available_at": "2024-01-01T05:00Z"}
    rows = [RUN, later][::order]
    found = weather(rows)
    assert found["available_at"].dt.strftime("%H:%M").tolist() == ["02:00", "05:00"]
    assert found["wind_speed_100m_ms"].tolist() == [5, 6]
    before = Clock(as_of=pd.Timestamp("2024-01-01T04:59Z").to_pydatetime())
    assert weather(rows, before)["wind_speed_100m_ms"].tolist() == [5]


@pytest.fixture
def two_points(cards: dict[str, Any]) -> Fleet:
    """The hill with two points of its model, `ridge` the first on the card."""
    site = cards["farms"][0]["weather"][0]
    cards["farms"][0]["weather"] = [site | {"point": "ridge"}, site | {"point": "valley", "path": "valley.csv"}]
    return Fleet.from_config(**cards)


def test_points_of_a_model_are_told_apart(
    two_points: Fleet, raw_weather: Make, settle: Any, settings: DataEngineering, now: Clock
) -> None:
    rows = [RUN | {"weather_point": "valley"}, SIX | {"weather_point": "ridge"}]
    parsed = settle(parse_weather(raw_weather(rows), two_points, settings))
    judged = settle(judge_weather(parsed, now))
    found = Weather.validate(make_weather(judged, two_points, now, settings))
    assert found[["weather_point", "wind_speed_100m_ms"]].to_numpy().tolist() == [["ridge", 6.0], ["valley", 5.0]]
    assert at_leading_points(found, two_points.farms)["weather_point"].tolist() == ["ridge"]
    assert at_leading_points(found, two_points.farms[1:]) is found


NO_LEVEL = {"wind_speed_100m_ms": None}


@pytest.mark.parametrize(
    ("row", "hub", "at_100"),
    [
        # The hill's hubs are at 80 m.
        pytest.param({"wind_speed_80m_ms": "4"}, 4, 5, id="the hub's own level"),
        pytest.param({}, 5 * 0.8**0.143, 5, id="one level only: default exponent"),
        pytest.param(
            NO_LEVEL | {"wind_u_50m_ms": "-3", "wind_v_50m_ms": "0", "wind_u_120m_ms": "-5", "wind_v_120m_ms": "0"},
            3 + 2 * math.log(80 / 50) / math.log(120 / 50),
            3 + 2 * math.log(100 / 50) / math.log(120 / 50),
            id="between 50 and 120 m, for the hub and for 100 m",
        ),
        pytest.param(NO_LEVEL | {"wind_speed_10m_ms": "4"}, 4 * 8**0.143, 4 * 10**0.143, id="10 m alone"),
    ],
)
def test_wind_at_the_hub(weather: Any, row: dict[str, Any], hub: float, at_100: float) -> None:
    found = weather([RUN | row]).iloc[0]
    assert found["wind_speed_hub_ms"] == pytest.approx(hub)
    assert found["wind_speed_100m_ms"] == pytest.approx(at_100)
    if "wind_u_50m_ms" in row:
        assert found["wind_direction_hub_deg"] == pytest.approx(90)
        assert found["wind_u_100m_ms"] == pytest.approx(-at_100)


def test_a_density_that_the_source_gives_is_kept(weather: Any) -> None:
    found = weather([RUN | {"temperature_c": "15", "pressure_pa": "101325", "air_density_kgm3": "1.1"}])
    assert found["air_density_kgm3"].tolist() == [1.1]
