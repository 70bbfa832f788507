"""Change what could not be known at a time: no feature of an issue up to that time may move.

Worlds are made at random: runs that come late, in parts or not at all, in any order; observations that are late, missing and
revised. Then all that arrived after a moment is changed, taken away and added to. First at this room's own doors, many times and
fast; then through the whole chain, from raw text on, where what is fitted on the way could leak as well.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Weather
from wind_kedro.pipelines.feature_engineering import fits
from wind_kedro.pipelines.feature_engineering import other_farms as points
from wind_kedro.pipelines.feature_engineering.nodes import FeatureParameters, NoWeatherError
from wind_kedro.pipelines.feature_engineering.settings import BestPoint
from wind_kedro.pipelines.feature_engineering.winds import Grid

from .building import features_of

#: Every family, and points that are compared after a few hours.
PARAMETERS = FeatureParameters(
    neighbour_minutes=[-60, 60],
    window_minutes=[120],
    production_memory_hours=12,
    extremes_minutes=[120],
    other_farm_minutes=[-60, 60],
    edge_minutes=30,
    best_point=BestPoint(min_hours=6, margin=0),
)
#: A month begins on the third day: what is fitted then holds for the rest.
BEGIN, DAYS = pd.Timestamp("2024-02-28", tz="UTC"), 4
AS_OF = BEGIN + pd.Timedelta(days=DAYS)

Build = Callable[[pd.DataFrame, pd.DataFrame, Fleet], pd.DataFrame]


@dataclass(frozen=True)
class World:
    observations: pd.DataFrame
    weather: pd.DataFrame


def _hours(rng: np.random.Generator, most: float, size: int) -> pd.TimedeltaIndex:
    return pd.to_timedelta(rng.integers(0, int(most * 60), size), unit="min")


def _weather(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for farm_id in ("hill", "shore"):
        for model in ("alpha", "beta"):
            for run_at in pd.date_range(BEGIN, AS_OF, freq="6h", inclusive="left", unit="us"):
                if rng.random() < 0.2:
                    continue  # never came
                length = int(rng.choice([8, 24, 36]))
                arrived = run_at + _hours(rng, 9, 1)[0]
                later = arrived + _hours(rng, 6, 1)[0]
                in_parts = rng.random() < 0.4
                parts.append(
                    pd.DataFrame(
                        {
                            "farm_id": farm_id,
                            "weather_model": model,
                            "run_at": run_at,
                            "valid_at": [run_at + pd.Timedelta(hours=hour) for hour in range(length)],
                            "available_at": [later if in_parts and rng.random() < 0.5 else arrived for _ in range(length)],
                            "wind_speed_100m_ms": rng.uniform(0, 25, length),
                            "wind_u_100m_ms": rng.normal(size=length),
                            "wind_v_100m_ms": rng.normal(size=length),
                            "wind_u_10m_ms": rng.normal(size=length),
                            "wind_v_10m_ms": rng.normal(size=length),
                            "temperature_c": np.where(rng.random(length) < 0.1, np.nan, rng.normal(size=length)),
                        }
                    )
                )
                if rng.random() < 0.4:  # part of it is revised, up to half a day later
                    revised = parts[-1][rng.random(length) < 0.5].copy()
                    revised["available_at"] = later + _hours(rng, 12, len(revised)) + pd.Timedelta(minutes=1)
                    revised["wind_speed_100m_ms"] = rng.uniform(0, 25, len(revised))
                    parts.append(revised)
    columns = list(Weather.to_schema().columns)
    table = pd.concat(parts, ignore_index=True).reindex(columns=columns).assign(is_analysis=False, weather_point="site")
    return table.astype({name: float for name in columns if name.startswith(("wind", "temp", "press", "air"))})


def _observations(rng: np.random.Generator) -> pd.DataFrame:
    parts = []
    for entity_id, step in (("hill", 60), ("both", 60), ("shore", 15)):
        valid_at = pd.date_range(BEGIN - pd.Timedelta(days=1), AS_OF, freq=f"{step}min", unit="us")
        for delay in (1, 8):  # first versions, and revisions of some
            kept = valid_at[rng.random(len(valid_at)) < (0.9 if delay == 1 else 0.2)]
            parts.append(
                pd.DataFrame(
                    {
                        "entity_id": entity_id,
                        "granularity_minutes": step,
                        "valid_at": kept,
                        "available_at": kept + pd.Timedelta(minutes=step) + _hours(rng, delay, len(kept)),
                        "power_kw": rng.uniform(0, 1000, len(kept)),
                    }
                )
            )
    table = pd.concat(parts, ignore_index=True).assign(
        available_capacity_kw=1000.0,
        wind_speed_ms=8.0,
        coverage_share=1.0,
        turbines=1,
        stopped_share=0.0,
        curtailed_share=0.0,
    )
    table["imputed_share"] = np.where(rng.random(len(table)) < 0.1, 0.5, 0.0)
    return table.drop_duplicates(["entity_id", "valid_at", "available_at"], ignore_index=True)


def _world(seed: int) -> World:
    rng = np.random.default_rng(seed)
    return World(_observations(rng), _weather(rng))


def _another_future(world: World, moment: pd.Timestamp, seed: int) -> World:
    """The same up to the moment; after it, other values, other arrivals, rows gone and rows from elsewhere."""
    rng = np.random.default_rng(seed)
    tables = []
    another = _world(seed + 1)
    for table, value, other in (
        (world.observations, "power_kw", another.observations),
        (world.weather, "wind_speed_100m_ms", another.weather),
    ):
        past, future = table[table["available_at"] <= moment], table[table["available_at"] > moment]
        future = future[rng.random(len(future)) < 0.7].copy()
        future[value] = rng.uniform(0, 25, len(future))
        future["available_at"] = moment + pd.Timedelta(minutes=1) + _hours(rng, 12, len(future))
        elsewhere = other[rng.random(len(other)) < 0.3].copy()
        elsewhere["available_at"] = moment + pd.Timedelta(minutes=1) + _hours(rng, 12, len(elsewhere))
        key = (
            ["farm_id", "weather_model", "run_at", "valid_at", "available_at"]
            if "run_at" in table
            else ["entity_id", "valid_at", "available_at"]
        )
        tables.append(
            pd.concat([past, future, elsewhere])
            .drop_duplicates(key, keep="first")
            .sample(frac=1, random_state=seed, ignore_index=True)
        )
    return World(*tables)


def _up_to(moment: pd.Timestamp, world: World, fleet: Fleet, build: Build) -> pd.DataFrame:
    try:
        table = build(world.observations, world.weather, fleet)
    except NoWeatherError:
        return pd.DataFrame()
    return table[table["issued_at"] <= moment].sort_values(
        ["product_id", "entity_id", "issued_at", "valid_at"], ignore_index=True
    )


def moves(build: Build, fleet: Fleet, seed: int, minutes: int) -> bool:
    """Whether anything issued up to a moment moves when all that arrived after it is changed."""
    world, moment = _world(seed), BEGIN + pd.Timedelta(minutes=minutes)
    before = _up_to(moment, world, fleet, build)
    after = _up_to(moment, _another_future(world, moment, seed + 1), fleet, build)
    return not before.equals(after)


def _as_it_is(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    return features_of(observations, weather, fleet, Clock(as_of=AS_OF.to_pydatetime()), PARAMETERS)[0]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), minutes=st.integers(0, DAYS * 1440).map(lambda number: number // 10 * 10))
def test_no_feature_moves_when_its_future_does(fleet: Fleet, seed: int, minutes: int) -> None:
    assert not moves(_as_it_is, fleet, seed, minutes)


@pytest.mark.parametrize("hours", [24, 90])
def test_the_worlds_have_something_to_say(fleet: Fleet, hours: int) -> None:
    table = _up_to(BEGIN + pd.Timedelta(hours=hours), _world(1), fleet, _as_it_is)
    assert set(table["entity_id"]) == {"hill", "shore", "both"}
    for column in ("wind_speed_100m_ms", "last_power_share", "other_1_wind_speed_100m_ms", "power_share_mean_24h"):
        assert table[column].notna().mean() > 0.5, column
    assert table["wind_speed_100m_ms_last_run_change"].notna().any()
    assert table["wind_speed_100m_ms_runs_change"].notna().any()
    if hours > 48:  # a month has begun, and what is fitted at its beginning is in force
        assert table["last_error_share"].notna().any()
        beside = table["best_point_wind_speed_100m_ms"] != table["wind_speed_100m_ms"]
        assert (beside & table["wind_speed_100m_ms"].notna()).any()


@pytest.mark.parametrize(("as_of", "then"), [(12, 18), (30, 96), (60, 90)])
def test_a_backtest_sees_what_was_seen_live(fleet: Fleet, as_of: int, then: int) -> None:
    # The same issues, looked at when they were made and long after: not one number differs.
    world, live = _world(7), BEGIN + pd.Timedelta(hours=as_of)

    def build_at(hours: int) -> Build:
        time: dt.datetime = (BEGIN + pd.Timedelta(hours=hours)).to_pydatetime()
        return lambda observations, weather, cards: features_of(observations, weather, cards, Clock(as_of=time), PARAMETERS)[0]

    pd.testing.assert_frame_equal(_up_to(live, world, fleet, build_at(as_of)), _up_to(live, world, fleet, build_at(then)))


def _reads_runs_at_once(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    return _as_it_is(observations, weather.assign(available_at=weather["run_at"]), fleet)


def _reads_power_at_once(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    return _as_it_is(
        observations.assign(available_at=observations["valid_at"]).drop_duplicates(["entity_id", "valid_at"]),
        weather,
        fleet,
    )


def _knows_how_runs_go_on(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    first = weather.groupby(["farm_id", "weather_model", "run_at"])["available_at"].transform("min")
    return _as_it_is(observations, weather.assign(available_at=first), fleet)


def _knows_which_runs_will_be_whole(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    last = weather.groupby(["farm_id", "weather_model", "run_at"])["available_at"].transform("max")
    return _as_it_is(observations, weather.assign(available_at=last), fleet)


def _centres(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    table = _as_it_is(observations, weather, fleet)
    return table.assign(wind_speed_100m_ms=table["wind_speed_100m_ms"] - table["wind_speed_100m_ms"].mean())


def _fits_on_everything(observations: pd.DataFrame, weather: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    def at_once(grid: Grid, came: pd.DataFrame) -> points.Outcomes:
        known = real(grid, came)
        return points.Outcomes(known.share, np.where(np.isnat(known.known_at), known.known_at, grid.valid_at[0, 0]))

    real = fits.first_outcomes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits, "first_outcomes", at_once)
        return _as_it_is(observations, weather, fleet)


@pytest.mark.parametrize(
    "leaking",
    [
        _reads_runs_at_once,
        _reads_power_at_once,
        _knows_how_runs_go_on,
        _knows_which_runs_will_be_whole,
        _centres,
        _fits_on_everything,
    ],
)
def test_a_leak_would_be_found(fleet: Fleet, leaking: Build) -> None:
    assert any(moves(leaking, fleet, seed, 2880 + 60 * seed) for seed in range(12))
