"""Readiness: every tier and reason, wrong points and mixed-up farms found, and nothing of the future."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from synthetic import Recipe, made_up_farms
from synthetic.turbines import power_curve_share
from synthetic.weather import (
    forecast_wind,
    season_of,
    solar_hour,
    speed_and_direction,
    weather_rows,
    wind_field,
)
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.cards.tiers import TIERS, assessed_by, ready_entities
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Readiness, WeatherFit
from wind_kedro.pipelines.data_engineering.assessment.readiness import assess_readiness, judge
from wind_kedro.pipelines.data_engineering.settings import ReadinessSettings

from ..conftest import Frames, gusty, signal_rows
from ..conftest import weather_rows as raw_runs

START = pd.Timestamp("2024-01-01", tz="UTC")
DAYS = 150
END = START + pd.Timedelta(days=DAYS)


@pytest.fixture(scope="session")
def shipped(project_path: Path) -> dict[str, Any]:
    """The thresholds as they ship."""
    found: dict[str, Any] = yaml.safe_load((project_path / "conf/base/parameters_readiness.yml").read_text())["readiness"]
    return found


@pytest.fixture(scope="session")
def thresholds(shipped: dict[str, Any]) -> ReadinessSettings:
    return ReadinessSettings.model_validate(shipped)


# --- the verdict -----------------------------------------------------------------------------------------------------

#: A farm without a fault, with two years of everything.
SOUND: dict[str, Any] = {
    "history_days": 700.0, "learnable_days": 668.4, "coverage_share": 0.98, "weather_days": 700.0, "offset_minutes": 5.0,
    "stopped_rows_share": 0.02, "curtailed_rows_share": 0.03, "iced_rows_share": 0.0, "quarantined_rows_share": 0.001,
    "unreadable_sources": 0, "best_correlation": 0.83, "best_point": "alpha/site", "other_farm": "b", "other_correlation": 0.7,
    "wrong_point": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "tier", "reason"),
    [
        pytest.param({}, "local", "668.4 days with power and weather; a model of its own needs 240", id="all is well"),
        pytest.param({"learnable_days": 240.0}, "local", "240.0 days", id="just enough for its own"),
        pytest.param({"learnable_days": 239.9}, "blended", "239.9 days .*; tier local needs 240", id="a hair less"),
        pytest.param({"learnable_days": 30.0}, "blended", "tier local needs 240", id="a month"),
        pytest.param({"learnable_days": 29.9}, "global", "29.9 days .*; tier blended needs 30", id="less than a month"),
        pytest.param({"learnable_days": 13.9}, "physical", "13.9 days .*; tier global needs 14", id="under two weeks"),
        pytest.param({"learnable_days": 7.0}, "physical", "tier global needs 14", id="a week"),
        pytest.param({"learnable_days": 6.9}, "none", "6.9 days with power and weather; a power curve needs 7", id="days"),
        pytest.param({"history_days": 0.0, "learnable_days": 0.0}, "none", "^no power is known yet$", id="no history"),
        pytest.param(
            {"history_days": 0.0, "unreadable_sources": 2},
            "none",
            "no power is known yet; 2 of its sources cannot be read: see data_quality",
            id="sources unreadable",
        ),
        pytest.param({"unreadable_sources": 1}, "local", "668.4 days", id="one file unreadable of many"),
        pytest.param({"weather_days": 0.0, "learnable_days": 0.0}, "none", "^no weather is known yet$", id="no weather"),
        pytest.param(
            {"best_correlation": 0.29},
            "none",
            "does not explain its power: correlation 0.29, at least 0.3 is needed",
            id="somebody else's weather",
        ),
        pytest.param({"best_correlation": 0.3}, "local", "668.4 days", id="weather that explains just enough"),
        pytest.param({"best_correlation": None, "learnable_days": 20.0}, "global", "20.0 days", id="too few hours for a fit"),
        pytest.param(
            {"offset_minutes": -60.0},
            "physical",
            "its clock is 60 minutes off, a learned model allows less than 60",
            id="a clock an hour early",
        ),
        pytest.param({"offset_minutes": 59.0}, "local", "668.4 days", id="a clock less off"),
        pytest.param({"offset_minutes": None}, "local", "668.4 days", id="a clock never checked"),
        pytest.param(
            {"stopped_rows_share": 0.3, "curtailed_rows_share": 0.15, "iced_rows_share": 0.06},
            "physical",
            "51% of its rows are stopped, curtailed or iced, a learned model allows 50%",
            id="held back",
        ),
        pytest.param({"stopped_rows_share": 0.25, "curtailed_rows_share": 0.25}, "local", "668.4", id="half held back"),
        pytest.param({"stopped_rows_share": None, "iced_rows_share": None}, "local", "668.4 days", id="no labels"),
        pytest.param(
            {"quarantined_rows_share": 0.6}, "physical", "60% of its rows cannot be used", id="most rows unreadable"
        ),
        pytest.param(
            {"quarantined_rows_share": 0.6, "offset_minutes": 90.0},
            "physical",
            "90 minutes off.*; 60% of its rows",
            id="two faults are both told",
        ),
        pytest.param({"quarantined_rows_share": 0.6, "learnable_days": 3.0}, "none", "3.0 days", id="the least counts"),
        pytest.param(
            {"wrong_point": True, "other_correlation": 0.91},
            "local",
            r"668.4 days.*; the weather of 'b' explains its power better \(0.91\) than its own \(0.83\): is its point right\?",
            id="a wrong point is said, whatever the tier",
        ),
    ],
)  # fmt: skip
def test_the_tier_and_its_reason(thresholds: ReadinessSettings, changed: dict[str, Any], tier: str, reason: str) -> None:
    import re

    found, why = judge(SOUND | changed, thresholds)
    assert found == tier
    assert re.search(reason, why), why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(("tier_days", "local"), 700, id="local"),
        pytest.param(("max_misalignment_minutes",), 4, id="misalignment"),
        pytest.param(("max_not_available_share",), 0.01, id="held back"),
        pytest.param(("max_quarantined_share",), 0.0001, id="quarantined"),
        pytest.param(("weather_fit", "min_correlation"), 0.9, id="correlation"),
    ],
)
def test_every_threshold_can_strike(shipped: dict[str, Any], path: tuple[str, ...], value: float) -> None:
    changed = copy.deepcopy(shipped)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert judge(SOUND, ReadinessSettings.model_validate(changed))[0] != "local"


def test_days_that_fall_are_refused(shipped: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must not fall"):
        ReadinessSettings.model_validate(shipped | {"tier_days": shipped["tier_days"] | {"global": 31}})


# --- a made fleet ----------------------------------------------------------------------------------------------------


class Made:
    """A fleet's observations and weather, made from one field of wind; tables of signals as small as they can be."""

    def __init__(self, project_path: Path, count: int = 6) -> None:
        recipe = yaml.safe_load((project_path / "conf/test/synthetic.yml").read_text())
        changed = {"start": START.isoformat(), "end": END.isoformat(), "step_minutes": 60, "faults": [], "stamping": {}}
        # No gusts: hourly means have none.
        changed |= {"climates": {}, "scales": [
            {"share": 0.6, "hours": 48, "kilometres": 900},
            {"share": 0.4, "hours": 6, "kilometres": 300, "smooth": True},
        ]}  # fmt: skip
        self.recipe = Recipe.model_validate(recipe | changed)
        self.recipe = self.recipe.model_copy(update={"weather_models": self.recipe.weather_models[:1]})
        farms = made_up_farms(count, 5, weather_models=[self.recipe.weather_models[0].id])
        product = {
            "id": "hours", "name": "Hours", "market": "m", "granularity_minutes": 60, "horizon_minutes": 1440,
            "issue_times": ["00:00"], "quantile_levels": [0.5], "deciding_score": "nmae_share",
            "goal": {"target": 0.1, "since": "2024-01-01"}, "members": [farm.id for farm in farms],
        }  # fmt: skip
        market = {
            "id": "m", "name": "M", "time_zone": "UTC", "settlement_minutes": 60, "gate_closure_minutes": 0,
            "currency": "EUR", "penalty": {"kind": "imbalance"},
        }  # fmt: skip
        groups = [{"id": "pair", "name": "Pair", "farms": [farm.id for farm in farms[:2]]}]
        self.fleet = Fleet.from_config([farm.model_dump(mode="json") for farm in farms], [market], [product], groups)
        self.farm_ids = [farm.id for farm in farms]
        field = wind_field(farms, self.recipe)
        hour, season = solar_hour(field.times, farms), season_of(field.times)
        climates = [self.recipe.climate(farm.id) for farm in farms]
        speed, _ = speed_and_direction(field.wind, climates, hour, season)
        share = power_curve_share(speed, 3000.0, 110.0)
        inside = (field.times >= START) & (field.times < END)
        times = field.times[inside]
        self.observations = pd.concat(
            pd.DataFrame(
                {
                    "entity_id": farm.id, "granularity_minutes": 60, "valid_at": times,
                    "available_at": times + pd.Timedelta(minutes=70), "power_kw": share[inside, number] * farm.capacity_kw,
                    "available_capacity_kw": farm.capacity_kw, "coverage_share": 1.0, "imputed_share": 0.0,
                }
            )
            for number, farm in enumerate(farms)
        ).reset_index(drop=True)  # fmt: skip
        model = self.recipe.weather_models[0]
        runs = forecast_wind(farms, model, field, self.recipe)
        tables = []
        for number, farm in enumerate(farms):
            rows = weather_rows(farm, number, model, runs, field, self.recipe, hour[:, [number]], season)[
                ["run_at", "available_at", "valid_at", "wind_speed_100m_ms"]
            ]
            tables.append(rows.assign(farm_id=farm.id, weather_model=model.id, weather_point="site", is_analysis=False))
        self.weather = pd.concat(tables, ignore_index=True)

    def signals(self, **changed: Any) -> dict[str, pd.DataFrame]:
        """Ten rows a farm, ten days apart: what engines count."""
        at = pd.date_range(START, END, periods=11, inclusive="left").tz_localize(None).astype("datetime64[us]")
        rows = pd.DataFrame({"farm_id": self.farm_ids}).merge(pd.DataFrame({"valid_at": at}), how="cross")
        rows["cadence"], rows["version"], rows["source_row"] = 900, 0, 1
        rows["retimed"], rows["status"], rows["reason"], rows["operating_state"] = False, "kept", None, ""
        rows["arrived_at"] = rows["valid_at"] + pd.Timedelta(minutes=15 + 20)
        rows["available_at"] = rows["arrived_at"]
        return {"timed": rows.assign(**changed).astype({"reason": "str"})}

    def assess(
        self,
        settings: ReadinessSettings,
        observations: pd.DataFrame | None = None,
        weather: pd.DataFrame | None = None,
        timed: pd.DataFrame | None = None,
        unreadable: tuple[str, ...] = (),
        clock: Clock | None = None,
        calibration: pd.DataFrame | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Both tables, checked against their contracts."""
        rows = self.signals()["timed"] if timed is None else timed
        broken = pd.DataFrame({"farm_id": [*unreadable, "nobody"], "source_row": [0] * len(unreadable) + [1]})
        columns = ["farm_id", "fitted_at", "reading", "offset_minutes", "agrees"]
        calibrated = pd.DataFrame(columns=columns) if calibration is None else calibration
        clock = clock or Clock(as_of=END.to_pydatetime())
        readiness, fit = assess_readiness(
            ibis.memtable(broken),
            ibis.memtable(broken.iloc[-1:]),
            ibis.memtable(rows),
            ibis.memtable(rows[["farm_id", "available_at", "operating_state"]]),
            self.observations if observations is None else observations,
            self.weather if weather is None else weather,
            calibrated.astype({"fitted_at": "datetime64[us, UTC]"}),
            self.fleet,
            sorted({pd.Timestamp(clock.training_time(self.fleet)), pd.Timestamp(clock.as_of)}),
            settings,
        )
        return Readiness.validate(readiness), WeatherFit.validate(fit)


@pytest.fixture(scope="module")
def made(project_path: Path) -> Made:
    return Made(project_path)


def _by_farm(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["farm_id"]: row for row in table.to_dict("records")}


def test_a_sound_fleet_is_sound(made: Made, thresholds: ReadinessSettings) -> None:
    readiness, fit = made.assess(thresholds)
    assert set(readiness["tier"]) == {"blended"}
    assert not readiness["wrong_point"].any()
    own = fit[fit["of_farm"] == fit["farm_id"]]
    assert set(own["rank"]) == {1}
    assert own["correlation"].min() > 0.7
    assert set(readiness["weather"]) == {FORECAST_WEATHER}
    row = readiness.iloc[0]
    assert (row["gaps"], row["longest_gap_hours"], row["coverage_share"]) == (0, 0.0, 1.0)
    assert row["history_days"] == pytest.approx(DAYS - 1 / 24, abs=0.06)
    assert row["latency_median_minutes"] == row["latency_95_minutes"] == 20.0


def _swapped(weather: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    return weather.assign(farm_id=weather["farm_id"].replace({one: other, other: one}))


def test_two_farms_mixed_up_are_both_found_and_told_apart(made: Made, thresholds: ReadinessSettings) -> None:
    one, other = made.farm_ids[1], made.farm_ids[4]
    readiness, fit = made.assess(thresholds, weather=_swapped(made.weather, one, other))
    found = _by_farm(readiness)
    assert [farm_id for farm_id in made.farm_ids if found[farm_id]["wrong_point"]] == [one, other]
    assert (found[one]["other_farm"], found[other]["other_farm"]) == (other, one)
    assert f"the weather of '{other}' explains its power better" in found[one]["reason"]
    best = fit[(fit["farm_id"] == one) & (fit["rank"] == 1)].iloc[0]
    assert best["of_farm"] == other
    assert best["better_months_share"] == 1.0
    assert best["distance_km"] > 100


def test_a_single_wrong_point_is_found_among_two(made: Made, thresholds: ReadinessSettings) -> None:
    # A second point, a stranger's, beside the right one does no harm: the best of its own counts.
    one, other = made.farm_ids[:2]
    stranger = made.weather[made.weather["farm_id"] == other].assign(farm_id=one, weather_point="north")
    readiness, fit = made.assess(thresholds, weather=pd.concat([made.weather, stranger]))
    row = _by_farm(readiness)[one]
    assert row["best_point"].endswith("/site")
    assert not row["wrong_point"]
    mine = fit[(fit["farm_id"] == one) & (fit["of_farm"] == one)].set_index("weather_point")
    assert mine.loc["site", "rank"] < mine.loc["north", "rank"]
    # Without the right one it is the wrong one.
    alone = pd.concat([made.weather[made.weather["farm_id"] != one], stranger])
    assert _by_farm(made.assess(thresholds, weather=alone)[0])[one]["best_correlation"] < row["best_correlation"] - 0.05


def test_farms_that_share_a_point_are_tied_and_not_flagged(made: Made, thresholds: ReadinessSettings) -> None:
    one, other = made.farm_ids[:2]
    shared = made.weather[made.weather["farm_id"] == one].assign(farm_id=other)
    twin = made.observations[made.observations["entity_id"] == one].assign(entity_id=other)
    observations = pd.concat([made.observations[made.observations["entity_id"] != other], twin])
    weather = pd.concat([made.weather[made.weather["farm_id"] != other], shared])
    readiness, fit = made.assess(thresholds, observations=observations, weather=weather)
    assert not readiness["wrong_point"].any()
    ranks = fit[(fit["farm_id"] == one) & (fit["of_farm"].isin([one, other]))]["rank"]
    assert ranks.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changed", "flagged"),
    [
        pytest.param({}, True, id="as shipped"),
        pytest.param({"margin": 0.9}, False, id="margin"),
        pytest.param({"min_hours": 24 * DAYS}, False, id="hours"),
    ],
)
def test_the_limits_of_a_wrong_point_can_strike(
    made: Made, shipped: dict[str, Any], changed: dict[str, Any], flagged: bool
) -> None:
    settings = ReadinessSettings.model_validate(shipped | {"weather_fit": shipped["weather_fit"] | changed})
    readiness, _ = made.assess(settings, weather=_swapped(made.weather, *made.farm_ids[1:3]))
    assert readiness["wrong_point"].any() == flagged


def test_a_point_that_was_better_in_one_month_only_is_not_flagged(made: Made, thresholds: ReadinessSettings) -> None:
    one = made.farm_ids[1]
    # For the newest third the farm's weather is noise: the others' is better then, and over all, but not month by month.
    late = (made.weather["farm_id"] == one) & (made.weather["valid_at"] >= END - pd.Timedelta(days=50))
    noise = np.random.default_rng(1).uniform(0, 20, len(made.weather))
    weather = made.weather.assign(wind_speed_100m_ms=made.weather["wind_speed_100m_ms"].where(~late, noise))
    readiness, fit = made.assess(thresholds, weather=weather)
    row = _by_farm(readiness)[one]
    best = fit[(fit["farm_id"] == one) & (fit["of_farm"] == row["other_farm"])].iloc[0]
    assert 0 < best["better_months_share"] < thresholds.weather_fit.better_months_share
    assert not row["wrong_point"]


def test_one_table_of_every_trouble(made: Made, thresholds: ReadinessSettings) -> None:
    """No farm's trouble is an exception, and none touches the others."""
    silent, weatherless, young, gappy, late, sound = made.farm_ids
    observations = made.observations[made.observations["entity_id"] != silent]
    entity, at = observations["entity_id"], observations["valid_at"]
    observations = observations[(entity != young) | (at >= END - pd.Timedelta(days=3))]
    entity, at = observations["entity_id"], observations["valid_at"]
    gap = (at >= START + pd.Timedelta(days=10)) & (at < START + pd.Timedelta(days=12))
    short = (at >= START + pd.Timedelta(days=20)) & (at < START + pd.Timedelta(days=20, hours=5))
    observations = observations[(entity != gappy) | ~(gap | short)]
    weather = made.weather[made.weather["farm_id"] != weatherless]
    # Every second run of one farm never came.
    gone = (weather["farm_id"] == late) & (weather["run_at"].dt.hour.isin([6, 18]))
    readiness, _ = made.assess(thresholds, observations, weather[~gone], unreadable=(silent, silent, sound))
    found = _by_farm(readiness)
    assert {farm_id: found[farm_id]["tier"] for farm_id in made.farm_ids} == {
        silent: "none", weatherless: "none", young: "none", gappy: "blended", late: "blended", sound: "blended",
    }  # fmt: skip
    assert found[silent]["reason"] == "no power is known yet; 2 of its sources cannot be read: see data_quality"
    assert found[weatherless]["reason"] == "no weather is known yet"
    assert found[young]["reason"].startswith("3.0 days with power and weather; a power curve needs 7")
    assert (found[gappy]["gaps"], found[gappy]["longest_gap_hours"]) == (1, 48.0)
    assert found[gappy]["coverage_share"] == pytest.approx(1 - (48 + 5) / (DAYS * 24), abs=1e-3)
    assert found[late]["missing_runs"] == pytest.approx(2 * DAYS, abs=2)
    assert found[sound]["unreadable_sources"] == 1
    assert found[sound]["missing_runs"] == 0


def test_labels_and_rows_set_aside_are_counted(made: Made, thresholds: ReadinessSettings) -> None:
    timed = made.signals()["timed"]
    first = timed["farm_id"] == made.farm_ids[0]
    number = timed.groupby("farm_id").cumcount()
    labels = {0: "stopped", 1: "curtailed", 2: "derated", 3: "iced", 4: "off_curve"}
    timed["operating_state"] = number.map(labels).fillna("").where(first, "")
    aside = first & (number >= 8)
    timed["status"], timed["reason"] = (
        timed["status"].mask(aside, "quarantined"),
        timed["reason"].mask(aside, "off_grid"),
    )
    row = _by_farm(made.assess(thresholds, timed=timed)[0])[made.farm_ids[0]]
    shares = [row[f"{name}_rows_share"] for name in ("stopped", "curtailed", "iced", "quarantined")]
    assert shares == pytest.approx([0.1, 0.2, 0.1, 0.2])


def test_a_calibration_is_read_as_of_the_time(made: Made, thresholds: ReadinessSettings) -> None:
    farm_id = made.farm_ids[0]
    calibration = pd.DataFrame(
        {
            "farm_id": farm_id,
            "fitted_at": pd.to_datetime(["2024-02-01", "2024-04-01", "2030-01-01"], utc=True),
            "reading": ["as_stamped", "wall_clock_is_utc", "wall_clock_is_local"],
            "offset_minutes": [1.0, -75.0, 3.0],
            "agrees": [True, False, True],
        }
    )
    row = _by_farm(made.assess(thresholds, calibration=calibration)[0])[farm_id]
    assert (row["reading"], row["offset_minutes"], row["agrees"]) == ("wall_clock_is_utc", -75.0, False)
    assert row["tier"] == "physical"


def test_training_and_run_have_a_row_each(made: Made, thresholds: ReadinessSettings) -> None:
    at = START + pd.Timedelta(days=20)
    clock = Clock(as_of=END.to_pydatetime(), train_as_of=at.to_pydatetime())
    readiness, _ = made.assess(thresholds, clock=clock)
    assert readiness.groupby("farm_id")["assessed_at"].apply(list).tolist() == [[at, END]] * len(made.farm_ids)
    assert set(assessed_by(readiness, at)["tier"]) == {"global"}
    assert set(assessed_by(readiness, END)["tier"]) == {"blended"}
    # And the earlier is what a run of that time finds.
    then, _ = made.assess(thresholds, clock=Clock(as_of=at.to_pydatetime()))
    pd.testing.assert_frame_equal(assessed_by(readiness, at).reset_index(drop=True), then)


def test_what_comes_later_changes_no_row(made: Made, thresholds: ReadinessSettings) -> None:
    at = START + pd.Timedelta(days=60)
    clock = Clock(as_of=END.to_pydatetime(), train_as_of=at.to_pydatetime())
    late = made.observations["available_at"] > at
    observations = made.observations.assign(power_kw=made.observations["power_kw"].mask(late, 1.0))
    revised = made.observations[~late].assign(available_at=at + pd.Timedelta(minutes=1), power_kw=0.0)
    later_run = made.weather["available_at"] > at
    weather = made.weather.assign(wind_speed_100m_ms=made.weather["wind_speed_100m_ms"].mask(later_run, 3.0))
    timed = made.signals()["timed"]
    other = timed.assign(operating_state=timed["operating_state"].mask(timed["available_at"] > at.tz_localize(None), "stopped"))
    before = made.assess(thresholds, clock=clock)
    after = made.assess(thresholds, pd.concat([observations, revised]), weather, other, clock=clock)
    for one, two in zip(before, after, strict=True):
        then, now = (table[table["assessed_at"] == at].reset_index(drop=True) for table in (one, two))
        pd.testing.assert_frame_equal(then, now)
        assert not one.equals(two)  # the other future was another: the test can fail


def test_order_and_reruns_change_nothing(made: Made, thresholds: ReadinessSettings) -> None:
    first = made.assess(thresholds)
    shuffled = made.assess(
        thresholds, made.observations.sample(frac=1, random_state=3), made.weather.sample(frac=1, random_state=4)
    )
    for one, other in zip(first, shuffled, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_group_has_the_lowest_tier_of_its_farms(made: Made, thresholds: ReadinessSettings) -> None:
    one, other = made.farm_ids[:2]
    readiness, _ = made.assess(thresholds, weather=made.weather[made.weather["farm_id"] != other])
    found = ready_entities(readiness, made.fleet, END)
    assert found[one].tier == "blended"
    assert found["pair"] == ("none", f"its farm '{other}': no weather is known yet", False)


def test_a_farm_never_assessed_may_have_nothing(made: Made, thresholds: ReadinessSettings) -> None:
    readiness, _ = made.assess(thresholds)
    found = ready_entities(readiness, made.fleet, START)
    assert {ready.tier for ready in found.values()} == {TIERS[0]}
    assert "not assessed by 2024-01-01 00:00 UTC: run data_engineering" in found[made.farm_ids[0]].reason


# --- on the real nodes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("received", [True, False], ids=["arrival times", "latency only"])
def test_through_the_room_the_future_moves_no_row(
    raw_signals: Any,
    raw_weather: Any,
    run_room: Callable[..., Frames],
    windy: Callable[..., Fleet],
    settings: Any,
    received: bool,
) -> None:
    wind = gusty(24 * 16)
    at = pd.Timestamp("2024-03-11T00:00", tz="UTC")
    fleet = windy(**({"received_at": "received"} if received else {}))
    clock = Clock(as_of=dt.datetime(2024, 3, 16, 12, tzinfo=dt.UTC), train_as_of=at.to_pydatetime())
    rows = signal_rows(wind, lambda time: time.isoformat(), turbines=2)
    for number, row in enumerate(rows):
        # An interval of ten minutes, and then as long as it took, or as the card says.
        row["came"] = wind.index[number // 2] + pd.Timedelta(minutes=25 if received else 20)
        if received:
            row["received_at"] = row["came"].isoformat()
    spoilt = [
        row if row["came"] <= at else row | {"power_kw": "1.0", "wind_speed_ms": "bad" if number % 2 else "3"}
        for number, row in enumerate(rows)
    ]

    def run(signals: list[dict[str, Any]]) -> Frames:
        plain = [{name: value for name, value in row.items() if name != "came"} for row in signals]
        return run_room(raw_signals(plain), raw_weather(raw_runs(wind)), fleet, clock, settings)

    before, after = run(rows), run(spoilt)
    for name in ("readiness", "weather_fit"):
        then, now = (frames[name][frames[name]["assessed_at"] <= at] for frames in (before, after))
        assert len(then)
        pd.testing.assert_frame_equal(then.reset_index(drop=True), now.reset_index(drop=True))
    row = before["readiness"].query("farm_id == 'hill'").iloc[0]
    assert (row["tier"], row["weather"]) == ("physical", FORECAST_WEATHER)
    assert row["latency_median_minutes"] == pytest.approx(15.0 if received else np.nan, nan_ok=True)
    assert not before["readiness"].equals(after["readiness"])
