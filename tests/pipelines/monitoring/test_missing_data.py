"""What did not come: how old the newest data may be, what an outage costs, and when an incident opens and closes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts import operation
from wind_kedro.contracts.forecasts import Scores
from wind_kedro.contracts.operation import Freshness, Incidents, Outbox
from wind_kedro.contracts.raw import Landings
from wind_kedro.datasets.history import History as Stored
from wind_kedro.datasets.parts import empty_table
from wind_kedro.failures import Failure, failures_table
from wind_kedro.feeds import FeedCards
from wind_kedro.notifications import ChannelCards
from wind_kedro.pipelines.monitoring.costs import newest_issues
from wind_kedro.pipelines.monitoring.freshness import check_freshness
from wind_kedro.pipelines.monitoring.nodes import raise_incidents
from wind_kedro.pipelines.monitoring.outbox import write_outbox
from wind_kedro.pipelines.monitoring.settings import Monitoring

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
MONITORING = Monitoring(tolerance_share=0.1, min_intervals=10)
NOW = pd.Timestamp("2024-03-31T06:30Z")
pytestmark = [
    # What Ibis says of DuckDB and pandas.
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]
HOUR, MINUTE = pd.Timedelta(hours=1), pd.Timedelta(minutes=1)


@pytest.fixture(scope="module")
def hills(fleet: Fleet) -> Fleet:
    """Three farms with forecast weather, in one hourly product of theirs; the runs of `alpha` come every 6 hours, after 2."""
    cards = fleet.model_dump(mode="json")
    hill, products = cards["farms"][0], cards["products"]
    farms = [hill | {"id": farm_id, "name": farm_id} for farm_id in ("hill", "moor", "down")]
    product = products[0] | {"members": ["hill", "moor", "down"]}
    return Fleet.from_config(farms, cards["markets"], [product])


# --- the tables -------------------------------------------------------------------------------------------------------


def weather_of(fleet: Fleet, blow: MakeTable, until: pd.Timestamp, days: float = 10, delay_hours: float = 2) -> pd.DataFrame:
    """Runs of every farm, one every six hours, the newest of ``until``; 12 hours long, as their card says."""
    rows = []
    for run_at in pd.date_range(end=until, periods=int(days * 4), freq="6h"):
        for hour in range(13):
            speed = 8 + np.sin(run_at.value % 97 + hour)
            row = {"run_at": run_at, "valid_at": run_at + hour * HOUR, "available_at": run_at + delay_hours * HOUR}
            rows += [row | {"farm_id": farm.id, "wind_speed_100m_ms": speed} for farm in fleet.farms]
    return blow(rows)


def signals_of(fleet: Fleet, until: pd.Timestamp, **until_of: pd.Timestamp) -> Any:
    """Readings of every turbine, every ten minutes; of a farm or turbine (``hill``, ``hill_T1``) until another time."""
    rows = []
    for farm in fleet.farms:
        for turbine in farm.turbines:
            end = until_of.get(f"{farm.id}_{turbine.id}", until_of.get(farm.id, until))
            for at in pd.date_range(end=end, periods=3, freq="10min"):
                rows.append((farm.id, turbine.id, at, at + 20 * MINUTE, 500.0))
    return as_table(rows)


def as_table(rows: list[Any]) -> Any:
    table = pd.DataFrame(rows, columns=["farm_id", "turbine_id", "valid_at", "available_at", "power_kw"])
    times = {name: pd.to_datetime(table[name]).dt.tz_localize(None) for name in ("valid_at", "available_at")}
    return ibis.memtable(table.assign(**times))


NO_LANDINGS = empty_table("wind_kedro.contracts.raw.Landings").astype({"landed_at": "datetime64[us, UTC]"})


def fresh_at(at: pd.Timestamp, fleet: Fleet, weather: pd.DataFrame, signals: Any, **changes: Any) -> pd.DataFrame:
    inputs = {
        "weather_runs": weather.assign(last_valid_at=weather["valid_at"]),  # as if every row had arrived alone
        "readiness": empty_table("wind_kedro.contracts.observations.Readiness"),
        "landings": NO_LANDINGS,
        "feeds": FeedCards(),
    } | changes
    return Freshness.validate(
        check_freshness(weather, signals=signals, fleet=fleet, clock=Clock(as_of=at), monitoring=MONITORING, **inputs)
    )


def states(freshness: pd.DataFrame, source: str) -> dict[tuple[str, str], str]:
    own = freshness[freshness["source"] == source]
    return dict(zip(zip(own["farm_id"], own["subject"], strict=True), own["state"], strict=True))


# --- weather ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_minutes", "state"),
    [
        # Two hours of delay, six until the next run, an hour of margin.
        pytest.param(9 * 60, "fresh", id="just before the next run has to be there"),
        pytest.param(9 * 60 + 1, "late", id="a minute later"),
        pytest.param(30 * 60, "missing", id="the run ended before the newest issue"),
    ],
)
def test_a_run_is_late_beyond_delay_cycle_and_margin(hills: Fleet, blow: MakeTable, age_minutes: int, state: str) -> None:
    weather = weather_of(hills, blow, NOW - age_minutes * MINUTE)
    found = fresh_at(NOW, hills, weather, signals_of(hills, NOW - 20 * MINUTE))
    assert set(states(found, "weather").values()) == {state}
    assert set(found.loc[found["source"] == "weather", "allowed_minutes"]) == {540}


@pytest.mark.parametrize(
    ("delay_hours", "days", "allowed_hours"),
    [
        pytest.param(2, 10, 9, id="as the card says"),
        pytest.param(4, 10, 11, id="always later than the card says"),
        pytest.param(4, 4, 9, id="too few runs to tell"),
        pytest.param(1, 10, 8, id="always sooner"),
        pytest.param(40, 10, 15, id="a history that landed at once excuses one cycle, no more"),
    ],
)
def test_what_is_usual_is_observed_and_bounded(
    hills: Fleet, blow: MakeTable, delay_hours: float, days: float, allowed_hours: float
) -> None:
    weather = weather_of(hills, blow, NOW - delay_hours * HOUR, days, delay_hours)
    found = fresh_at(NOW, hills, weather, signals_of(hills, NOW - 20 * MINUTE))
    assert set(found.loc[found["source"] == "weather", "allowed_minutes"]) == {allowed_hours * 60}


def test_what_is_not_available_yet_does_not_count(hills: Fleet, blow: MakeTable) -> None:
    weather = weather_of(hills, blow, NOW - HOUR)
    found = fresh_at(NOW, hills, weather, signals_of(hills, NOW - 20 * MINUTE))
    assert set(found.loc[found["source"] == "weather", "newest_at"]) == {NOW - 7 * HOUR}
    unknown = fresh_at(NOW, hills, weather[weather["available_at"] > NOW], signals_of(hills, NOW + HOUR))
    assert set(unknown["state"]) == {"missing"}
    assert unknown["newest_at"].isna().all()


def test_files_in_time_without_a_forecast_in_them(hills: Fleet, blow: MakeTable) -> None:
    signals, weather = signals_of(hills, NOW - 20 * MINUTE), weather_of(hills, blow, NOW - 3 * HOUR)
    newest = weather["run_at"] == weather["run_at"].max()
    flat = weather.assign(wind_speed_100m_ms=weather["wind_speed_100m_ms"].mask(newest & (weather["farm_id"] == "hill"), 5.0))
    found = fresh_at(NOW, hills, flat, signals)
    assert states(found, "weather") == {
        ("hill", "alpha/site"): "constant", ("moor", "alpha/site"): "fresh", ("down", "alpha/site"): "fresh"
    }  # fmt: skip
    assert found.loc[found["state"] == "constant", "detail"].item() == "all 13 wind speeds of the newest run are 5 m/s"
    # Shorter than half a day it may be calm, or rounded.
    short = flat[~newest | (flat["valid_at"] < flat["run_at"] + 11 * HOUR)]
    assert set(states(fresh_at(NOW, hills, short, signals), "weather").values()) == {"fresh"}


def test_a_frozen_feed_that_stamps_old_values_anew_is_found(hills: Fleet, blow: MakeTable, run_of: Any) -> None:
    gusty = [float(speed) for speed in np.random.default_rng(3).uniform(3, 15, 40)]
    start = NOW - 9 * HOUR
    rows = [*run_of(str(start.tz_localize(None)), gusty), *run_of(str((start + 6 * HOUR).tz_localize(None)), gusty[6:])]
    weather = blow([row | {"farm_id": farm.id} for row in rows for farm in hills.farms])
    found = fresh_at(NOW, hills, weather, signals_of(hills, NOW - 20 * MINUTE))
    assert set(states(found, "weather").values()) == {"constant"}
    assert "the newest run repeats the 34 wind speeds" in found["detail"].iloc[0]


def test_an_analysis_that_ends_now_is_as_fresh_as_it_can_be(fleet: Fleet, blow: MakeTable) -> None:
    """Pseudo-runs end where the record ends, which is not a run that did not come."""
    weather = weather_of(fleet, blow, NOW - 4 * HOUR)
    weather = weather.assign(is_analysis=weather["farm_id"] == "shore")
    ended = weather[weather["valid_at"] <= NOW]
    assert set(states(fresh_at(NOW, fleet, ended, signals_of(fleet, NOW - 20 * MINUTE)), "weather").values()) == {"fresh"}


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_minutes", "state"),
    # Ten minutes of latency, two cadences of ten, an hour of margin.
    [pytest.param(90, "fresh", id="at the limit"), pytest.param(91, "late", id="a minute beyond")],
)
def test_signals_are_late_beyond_latency_cadence_and_margin(hills: Fleet, blow: MakeTable, age_minutes: int, state: str) -> None:
    weather = weather_of(hills, blow, NOW - 3 * HOUR)
    found = fresh_at(NOW, hills, weather, signals_of(hills, NOW - age_minutes * MINUTE))
    assert set(states(found, "signals").values()) == {state}


def test_the_measured_latency_counts_where_it_is_longer(hills: Fleet, blow: MakeTable, assess: MakeTable) -> None:
    readiness = assess([{"farm_id": "hill", "latency_95_minutes": 100.0}, {"farm_id": "moor", "latency_95_minutes": None}])
    found = fresh_at(
        NOW, hills, weather_of(hills, blow, NOW - 3 * HOUR), signals_of(hills, NOW - 20 * MINUTE), readiness=readiness
    )
    allowed = found[found["source"] == "signals"].groupby("farm_id")["allowed_minutes"].max().to_dict()
    assert allowed == {"hill": 180, "moor": 90, "down": 90}


def test_rows_without_a_usable_power_are_silence(hills: Fleet, blow: MakeTable) -> None:
    rows = [("hill", "T0", NOW - 3 * HOUR, NOW - 3 * HOUR, 5.0), ("hill", "T0", NOW - 20 * MINUTE, NOW, None)]
    found = fresh_at(NOW, hills, weather_of(hills, blow, NOW - 3 * HOUR), as_table([*rows, ("hill", "T1", NOW, NOW, None)]))
    own = found[found["source"] == "signals"].set_index(["farm_id", "subject"])
    assert own.loc[("hill", "T0"), ["state", "detail"]].tolist() == [
        "late",
        "rows without usable power until 2024-03-31 06:10",
    ]
    assert own.loc[("hill", "T1"), "state"] == own.loc[("moor", "T0"), "state"] == "missing"


# --- feeds ------------------------------------------------------------------------------------------------------------

FEEDS = FeedCards({"inbox": {"kind": "drop_folder", "url": "inbox", "into": "hill"}})


def landings(times: list[pd.Timestamp], *faults: pd.Timestamp) -> pd.DataFrame:
    rows = [(at, "hill/x", "") for at in times] + [(at, "", "feed 'inbox': refused") for at in faults]
    table = pd.DataFrame(rows, columns=["landed_at", "folder", "fault"]).sort_values("landed_at")
    table["landed_at"] = pd.to_datetime(table["landed_at"], utc=True)
    table["landed_on"] = table["landed_at"].dt.strftime("%Y-%m-%d")
    return Landings.validate(table.assign(feed_id="inbox", files=1, bytes=1, rows=1)[list(Landings.to_schema().columns)])


@pytest.mark.parametrize(
    ("times", "state"),
    [
        # A batch a day: half a day more is within what is usual, and an hour of margin.
        pytest.param(pd.date_range(end=NOW - 37 * HOUR, periods=40, freq="1D"), "fresh", id="a daily feed within its gap"),
        pytest.param(pd.date_range(end=NOW - 37.1 * HOUR, periods=40, freq="1D"), "late", id="beyond it"),
        pytest.param(pd.date_range(end=NOW - 2.4 * HOUR, periods=900, freq="5min"), "fresh", id="every five minutes"),
        pytest.param(pd.date_range(end=NOW - 3.6 * HOUR, periods=900, freq="5min"), "late", id="and hours of nothing"),
        pytest.param(pd.date_range(end=NOW - 47 * HOUR, periods=3, freq="1D"), "fresh", id="too few to know what is usual"),
        pytest.param(pd.date_range(end=NOW - 49 * HOUR, periods=3, freq="1D"), "late", id="but two days are too long"),
        pytest.param(pd.DatetimeIndex([], tz="UTC"), "missing", id="never anything"),
        pytest.param(pd.date_range(NOW + HOUR, periods=3, freq="1D"), "not_yet", id="a past moment, before the feed was there"),
    ],
)
def test_a_feed_is_silent_beyond_its_usual_gap(hills: Fleet, blow: MakeTable, times: pd.DatetimeIndex, state: str) -> None:
    tables = (weather_of(hills, blow, NOW - 3 * HOUR), signals_of(hills, NOW - 20 * MINUTE))
    found = fresh_at(NOW, hills, *tables, feeds=FEEDS, landings=landings(list(times)))
    assert states(found, "feed") == {("", "inbox"): state}


def test_a_feed_that_fails_is_silent_with_its_fault(hills: Fleet, blow: MakeTable) -> None:
    tables = (weather_of(hills, blow, NOW - 3 * HOUR), signals_of(hills, NOW - 20 * MINUTE))
    failing = landings([NOW - 60 * HOUR], NOW - 2 * HOUR, NOW - HOUR)
    found = fresh_at(NOW, hills, *tables, feeds=FEEDS, landings=failing)
    assert found.loc[found["source"] == "feed", "detail"].item() == "2 fetches failed since, the last: feed 'inbox': refused"


# --- what it costs ----------------------------------------------------------------------------------------------------

ISSUE = pd.Timestamp("2024-03-31T06:00Z")
SCORES = {"champion": (0.04, 0.06), "persistence": (0.05, 0.15), "climatology": (0.12, 0.12)}


def issued(fleet: Fleet, fallbacks: dict[str, str] | None = None, **columns: Any) -> pd.DataFrame:
    """The newest issue of the hills: leads of 1 to 3 hours from a run three hours before; a fallback by farm."""
    rows = [
        {
            "product_id": "hours", "entity_id": farm.id, "model": "champion", "model_version": "1", "issued_at": ISSUE,
            "valid_at": ISSUE + hour * HOUR, "lead_minutes": hour * 60, "capacity_kw": 3000.0,
            "weather_run_at": ISSUE - 3 * HOUR, "fallback": (fallbacks or {}).get(farm.id, ""),
            "weather": FORECAST_WEATHER, "q100_kw": 0.0, "q500_kw": 300.0, "q900_kw": 600.0,
        } | columns
        for farm in fleet.farms
        for hour in (1, 2, 3)
    ]  # fmt: skip
    return as_forecasts(pd.DataFrame(rows))


def scores_of(fleet: Fleet) -> pd.DataFrame:
    """Backtest scores by lead time: over the first two hours and the next two, and over all."""
    rows = [
        {
            "product_id": "hours", "entity_id": farm.id, "model": model, "period": "all", "lead_from_minutes": begin,
            "lead_to_minutes": end, "metric": "pinball_share", "level": None, "value": value, "n": 100,
            "weather": FORECAST_WEATHER,
        }
        for farm in fleet.farms
        for model, (soon, later) in SCORES.items()
        for begin, end, value in ((0, 120, soon), (120, 240, later), (0, 240, (soon + later) / 2))
    ]  # fmt: skip
    return Scores.validate(pd.DataFrame(rows).astype({"level": float}))


class World:
    """All that monitoring reads, of a fleet in which all is well; a test changes what it is about."""

    def __init__(self, fleet: Fleet, blow: MakeTable, observe: MakeTable, assess: MakeTable) -> None:
        self.fleet = fleet
        self.weather = weather_of(fleet, blow, NOW - 3.5 * HOUR)
        self.signals = signals_of(fleet, NOW - 20 * MINUTE)
        self.forecasts = issued(fleet)
        self.scores = scores_of(fleet)
        self.observations = observe([])
        self.readiness = assess([{"farm_id": farm.id, "assessed_at": str(NOW - HOUR)[:19]} for farm in fleet.farms])
        self.decisions = (
            empty_table("wind_kedro.contracts.training.Decisions")
            .reindex([0])
            .assign(
                product_id="hours",
                entity_id="hill",
                decided_at=NOW - 5 * 24 * HOUR,
                promoted=True,
                code="better",
                challenger="x",
            )
        )
        self.landings, self.feeds = NO_LANDINGS, FeedCards()
        self.failures = empty_table("wind_kedro.contracts.operation.Failures")

    def found(self, at: pd.Timestamp = NOW) -> pd.DataFrame:
        freshness = fresh_at(
            at,
            self.fleet,
            self.weather,
            self.signals,
            readiness=self.readiness,
            landings=self.landings,
            feeds=self.feeds,
        )
        return Incidents.validate(
            raise_incidents(
                self.failures,
                empty_table("wind_kedro.contracts.observations.DataQuality"),
                empty_table("wind_kedro.contracts.operation.LiveJudgements"),
                self.readiness, self.decisions, freshness, self.forecasts, self.scores, self.observations, self.feeds,
                self.fleet, Clock(as_of=at), MONITORING,
            )
        )  # fmt: skip

    def short(self, at: pd.Timestamp = NOW) -> list[tuple[Any, ...]]:
        return list(self.found(at)[["kind", "severity", "entity_id", "subject"]].itertuples(index=False, name=None))


@pytest.fixture
def world(hills: Fleet, blow: MakeTable, observe: MakeTable, assess: MakeTable) -> World:
    return World(hills, blow, observe, assess)


def test_all_clear_says_what_was_checked(world: World) -> None:
    (row,) = world.found().to_dict("records")
    assert (row["kind"], row["message"]) == (
        "all_clear", "12 sources checked, none late; nothing that anybody needs to act on"
    )  # fmt: skip


def test_dead_weather_is_one_incident_of_all_farms_and_an_error_where_all_is_a_fallback(world: World) -> None:
    world.weather = world.weather[world.weather["run_at"] < NOW - 72 * HOUR]
    world.forecasts = issued(world.fleet, dict.fromkeys(["hill", "moor", "down"], "persistence"), weather_run_at=pd.NaT)
    weather, fallback = world.found().to_dict("records")
    assert (weather["kind"], weather["severity"], weather["subject"], weather["amount"]) == (
        "weather_missing",
        "error",
        "alpha",
        1.0,
    )
    assert weather["message"].startswith("weather 'alpha' is missing for 3 of 3 farms (down, hill, moor): newest run 2024-03-28")
    # At 1, 2 and 3 hours the champion loses .04, .05, .06, persistence .05, .10, .15: twice as much, of 9,000 kW.
    assert "100% of the issue of 2024-03-31 06:00 by a fallback, expected pinball_share +100% (+450 kW" in weather["evidence"]
    assert (fallback["kind"], fallback["severity"], fallback["product_id"], fallback["amount"]) == (
        "fallback_used",
        "error",
        "hours",
        1.0,
    )
    assert "no weather run reaches 100% of it" in fallback["evidence"]


@pytest.mark.parametrize(
    ("fallback", "severity"),
    [
        # One farm of three: a third of the issue. Persistence doubles its loss, climatology adds 140 %: a third, nearly half.
        pytest.param("persistence", "error", id="a third of the issue, a third more loss"),
        pytest.param("", "warning", id="missing, but older runs still serve"),
    ],
)
def test_severity_follows_what_it_costs(world: World, fallback: str, severity: str) -> None:
    world.weather = world.weather[(world.weather["farm_id"] != "hill") | (world.weather["run_at"] < NOW - 72 * HOUR)]
    world.forecasts = issued(world.fleet, {"hill": fallback})
    first = world.short()[0]
    assert first == ("weather_missing", severity, "", "alpha")


def test_a_fallback_as_good_as_the_champion_is_a_warning_by_its_share(world: World) -> None:
    world.scores = world.scores.assign(value=0.05)
    world.forecasts = issued(world.fleet, {"hill": "persistence"})
    assert world.short() == [("fallback_used", "warning", "", "")]


@pytest.mark.parametrize(
    ("share", "excess", "severity"),
    [
        pytest.param(0.5, 0.0, "error", id="half of the issue"),
        pytest.param(0.49, 0.0, "warning", id="less than half"),
        pytest.param(0.05, 0.0, "warning", id="two hours of 36"),
        pytest.param(0.04, 0.0, "info", id="less"),
        pytest.param(0.04, 0.25, "error", id="a quarter more loss"),
        pytest.param(0.04, 0.02, "warning", id="as much as a promotion needs"),
        pytest.param(0.04, 0.019, "info", id="less than a promotion needs"),
        pytest.param(0.04, np.nan, "info", id="not in the backtest"),
    ],
)
def test_severity_at_its_limits(hills: Fleet, share: float, excess: float, severity: str) -> None:
    from wind_kedro.pipelines.monitoring.costs import Issue

    rows = pd.DataFrame({"capacity_kw": [share, 1 - share], "fallback": ["persistence", ""]})
    rows["usual"] = 1.0
    rows["expected"] = [1 + excess / share, 1.0]
    issue = Issue(hills.product("hours"), NOW, rows)
    assert issue.severity(rows["fallback"] != "", MONITORING.cost) == severity


def test_a_late_run_costs_what_longer_leads_lose(world: World) -> None:
    """Late by less than a cycle, and the issue was made from what was there."""
    world.weather = world.weather[world.weather["run_at"] < NOW - 15 * HOUR]
    fresh = newest_issues(
        world.forecasts,
        world.scores,
        fresh_at(NOW, world.fleet, world.weather, world.signals),
        world.fleet,
        Clock(as_of=NOW),
    )
    assert not fresh["hours"].rows["older"].any()
    # Made from a run 11 hours before the issue, where 9 are allowed: leads two hours longer, .06 each instead of .04, .05, .06.
    world.forecasts = issued(world.fleet, weather_run_at=ISSUE - 11 * HOUR)
    (late,) = world.found().to_dict("records")
    assert (late["kind"], late["severity"], late["subject"]) == ("weather_missing", "warning", "alpha")
    assert "100% from an older run, expected pinball_share +20%" in late["evidence"]


def test_weather_that_no_product_uses_is_for_the_record(world: World) -> None:
    cards = world.fleet.model_dump(mode="json")
    beta = {**cards["farms"][0]["weather"][0], "model": "beta"}
    farms = [farm | {"weather": [*farm["weather"], beta]} for farm in cards["farms"]]
    world.fleet = Fleet.from_config(farms, cards["markets"], [cards["products"][0] | {"weather_models": ["alpha"]}])
    assert world.short() == [("weather_missing", "info", "", "beta")]


def test_a_silent_farm_is_a_warning_unless_its_forecast_is_made_of_its_production(world: World) -> None:
    world.signals = signals_of(world.fleet, NOW - 20 * MINUTE, hill=NOW - 72 * HOUR)
    (row,) = world.found().to_dict("records")
    assert (row["kind"], row["severity"], row["entity_id"], row["subject"]) == ("signals_silent", "warning", "hill", "")
    assert row["message"] == "no turbine has sent usable power since 2024-03-28 06:30"
    # The champion of the whole product repeats the last production.
    world.forecasts = issued(world.fleet).assign(model="persistence")
    world.signals = signals_of(world.fleet, NOW - 72 * HOUR)
    assert [row[1] for row in world.short()] == ["warning"] * 3, "a third of the product each"
    world.forecasts = world.forecasts[world.forecasts["entity_id"] == "hill"]
    assert ("signals_silent", "error", "hill", "") in world.short()


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        pytest.param(25, [], id="a shift of service"),
        pytest.param(27, [("signals_silent", "warning", "hill", "turbines")], id="more than a day, a third of the farm"),
    ],
)
def test_a_single_turbine_may_be_silent_for_a_day(world: World, hours: int, expected: list[Any]) -> None:
    world.signals = signals_of(world.fleet, NOW - 20 * MINUTE, hill_T1=NOW - hours * HOUR)
    assert world.short() == (expected or [("all_clear", "info", "", "")])


def test_a_silent_feed_names_its_farms(world: World) -> None:
    cards = world.fleet.model_dump(mode="json")
    farms = [farm | {"signals": farm["signals"] | {"path": f"{farm['id']}/*/x.csv"}} for farm in cards["farms"]]
    world.fleet = Fleet.from_config(farms, cards["markets"], cards["products"])
    world.landings, world.feeds = landings([NOW - 72 * HOUR], NOW - HOUR), FEEDS
    (row,) = world.found().to_dict("records")
    assert (row["kind"], row["severity"], row["subject"]) == ("feed_silent", "warning", "inbox")
    assert row["message"] == "feed 'inbox' has landed nothing since 2024-03-28 06:30; it feeds 1 farms (hill)"
    assert row["evidence"].endswith("refused")


@pytest.mark.parametrize(
    ("at", "lacking", "expected"),
    [
        pytest.param("2024-03-31T18:59Z", ["hill", "moor", "down"], [], id="within the hour after its time"),
        pytest.param("2024-03-31T19:00Z", ["hill", "moor", "down"], ["error"], id="an hour after"),
        pytest.param("2024-03-31T19:00Z", ["hill"], ["warning"], id="one of three farms"),
        pytest.param("2024-03-31T19:00Z", [], [], id="it is there"),
    ],
)
def test_a_forecast_is_overdue(world: World, at: str, lacking: list[str], expected: list[str]) -> None:
    evening = issued(world.fleet, issued_at=pd.Timestamp("2024-03-31T18:00Z"))
    evening["valid_at"] = evening["issued_at"] + pd.to_timedelta(evening["lead_minutes"], unit="min")
    world.forecasts = pd.concat([world.forecasts, evening[~evening["entity_id"].isin(lacking)]], ignore_index=True)
    found = world.found(pd.Timestamp(at))
    overdue = found[found["kind"] == "forecast_overdue"]
    assert overdue["severity"].tolist() == expected
    assert overdue["message"].str.contains(f"for {len(lacking)} of 3 members").all()


def test_an_issue_that_was_tried_and_failed_is_not_overdue(world: World) -> None:
    at, evening = pd.Timestamp("2024-03-31T19:00Z"), pd.Timestamp("2024-03-31T18:00Z")
    product = world.fleet.products[0].id
    about = {"product_id": product, "issued_at": evening}
    why = [
        Failure("forecasting", "forecast_not_issued", f"{name}: no features", "x", entity_id=name, **about)
        for name in ("hill", "moor")
    ]
    world.failures = failures_table(why, at)
    found = world.found(at)
    (overdue,) = found[found["kind"] == "forecast_overdue"].to_dict("records")
    assert "for 1 of 3 members (down)" in overdue["message"]
    assert found.loc[found["kind"] == "forecast_not_issued", "entity_id"].tolist() == ["hill", "moor"]


def test_what_makes_monitoring_blind_is_an_incident(world: World, observe: MakeTable) -> None:
    """Old inputs, no training for a season, and a week of forecasts of which less than half could be scored."""
    week = [issued(world.fleet, issued_at=ISSUE - day * 24 * HOUR) for day in range(1, 8)]
    past = pd.concat(week, ignore_index=True)
    past["valid_at"] = past["issued_at"] + pd.to_timedelta(past["lead_minutes"], unit="min")
    world.forecasts = pd.concat([world.forecasts, past], ignore_index=True)
    seen = past[past["entity_id"] != "hill"]
    world.observations = observe(seen[["entity_id", "valid_at"]].to_dict("records"))
    assert world.short() == [("not_scored", "warning", "", "")]
    assert world.found()["message"].item().startswith("forecasts of 1 of 3 entities (hill) could hardly be scored")
    world.observations = observe(past[["entity_id", "valid_at"]].to_dict("records"))
    assert world.short() == [("all_clear", "info", "", "")]
    world.decisions = world.decisions.assign(decided_at=NOW - 101 * 24 * HOUR)
    world.readiness = world.readiness.assign(assessed_at=NOW - 51 * HOUR)
    assert [row[0] for row in world.short()] == ["inputs_stale", "training_stale"]
    world.decisions, world.readiness = world.decisions.iloc[:0], world.readiness.iloc[:0]
    assert [row[0] for row in world.short()] == ["inputs_stale", "training_stale"], "nothing known is no all-clear"


# --- open and resolved ------------------------------------------------------------------------------------------------


class History:
    """Runs of monitoring one after another, with what they leave behind."""

    channels = ChannelCards.model_validate({"duty": {"kind": "log"}})

    def __init__(self) -> None:
        self.incidents, self.outbox, self.deliveries = (
            getattr(operation, name).validate(empty_table(f"wind_kedro.contracts.operation.{name}"))
            for name in ("Incidents", "Outbox", "Deliveries")
        )

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Subject and body of each message written, in order."""
        return list(self.outbox[["subject", "body"]].itertuples(index=False, name=None))

    def run(self, hours: float, *kinds: str, severity: str = "warning") -> list[tuple[Any, ...]]:
        at = NOW + hours * HOUR
        rows = [
            {
                "entity_id": "hill", "product_id": "", "kind": kind, "subject": "", "severity": severity, "amount": None,
                "message": f"{kind} of hill", "evidence": "", "action": "", "raised_at": at, "opened_at": at,
                "state": "open",
            }
            for kind in kinds or ("all_clear",)
        ]  # fmt: skip
        found = Incidents.validate(pd.DataFrame(rows).astype({"amount": float}))
        if not kinds:
            found["severity"] = "info"
        incidents, outbox = write_outbox(
            found, self.incidents, self.outbox, self.deliveries, self.channels, Clock(as_of=at), MONITORING
        )
        incidents, outbox = Incidents.validate(incidents), Outbox.validate(outbox)
        self.incidents = pd.concat([self.incidents[self.incidents["raised_at"] != at], incidents], ignore_index=True)
        self.outbox = pd.concat([self.outbox[self.outbox["created_at"] != at], outbox], ignore_index=True)
        opened = ((incidents["opened_at"] - NOW) / HOUR).tolist()
        return list(zip(incidents["kind"], incidents["state"], opened, strict=True))


def test_an_incident_opens_once_closes_once_and_opens_anew() -> None:
    history = History()
    assert history.run(0, "weather_late") == [("weather_late", "open", 0)]
    assert history.run(6, "weather_late") == [("weather_late", "open", 0)]
    assert history.run(12) == [("all_clear", "open", 12), ("weather_late", "resolved", 0)]
    assert history.run(18) == [("all_clear", "open", 18)]
    assert [subject for subject, _ in history.messages] == [
        "[wind-kedro] 1 warning: hill: weather_late", "[wind-kedro] 1 resolved: hill: weather_late"
    ]  # fmt: skip
    assert (
        "RESOLVED hill: weather_late of hill\n  Evidence: open since 2024-03-31 06:30, not found as of 2024-03-31 18:30"
        in history.messages[1][1]
    )
    # Within a day of the first, which would not be told again if it had gone on.
    assert history.run(20, "weather_late") == [("weather_late", "open", 20)]
    assert len(history.messages) == 3


def test_a_rerun_gives_the_same_rows_and_sends_nothing() -> None:
    history = History()
    history.run(0, "weather_late", "signals_silent")
    first = history.run(6, "signals_silent")
    assert first == [("signals_silent", "open", 0), ("weather_late", "resolved", 0)]
    sent = len(history.messages)
    assert history.run(6, "signals_silent") == first
    assert len(history.messages) == sent
    # A rerun of the same time with the data that came since: it is closed, and said once.
    assert history.run(6) == [
        ("all_clear", "open", 6), ("weather_late", "resolved", 0), ("signals_silent", "resolved", 0)
    ]  # fmt: skip
    assert len(history.messages) == sent + 1


def test_an_earlier_moment_run_later_knows_nothing_of_what_came_after() -> None:
    history = History()
    history.run(12, "weather_late")
    assert history.run(6) == [("all_clear", "open", 6)]
    assert history.run(18) == [("all_clear", "open", 18), ("weather_late", "resolved", 12)]


def test_a_closing_message_that_was_not_written_is_written_by_a_later_run() -> None:
    history = History()
    history.run(0, "weather_late")
    kept = history.outbox
    assert ("weather_late", "resolved", 0) in history.run(6)
    history.outbox = kept  # the run was killed between its incidents and its messages
    assert history.run(12) == [("all_clear", "open", 12), ("weather_late", "resolved", 0)]
    assert [subject for subject, _ in history.messages] == [
        "[wind-kedro] 1 warning: hill: weather_late", "[wind-kedro] 1 resolved: hill: weather_late"
    ]  # fmt: skip
    assert history.run(18) == [("all_clear", "open", 18)]


def test_what_was_never_sent_needs_no_closing_message() -> None:
    history = History()
    history.run(0, "hard_weather", severity="info")
    assert history.run(6) == [("all_clear", "open", 6), ("hard_weather", "resolved", 0)]
    assert history.messages == []


def test_news_of_a_training_ends_without_a_message() -> None:
    history = History()
    history.run(0, "challenger_refused")
    assert history.run(6) == [("all_clear", "open", 6)]
    assert len(history.messages) == 1


def test_without_any_channel_nobody_is_reached_and_nothing_is_all_clear() -> None:
    history = History()
    history.run(0)
    calm = history.incidents
    incidents, _ = write_outbox(
        calm,
        history.incidents.iloc[:0],
        history.outbox,
        history.deliveries,
        ChannelCards(),
        Clock(as_of=NOW),
        MONITORING,
    )
    assert incidents[["kind", "severity"]].to_numpy().tolist() == [["notification_failed", "warning"]]


def test_histories_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have no `state` and no `opened_at`: what was found last is open since then."""
    history = History()
    history.run(0, "weather_late")
    earlier = history.incidents.drop(columns=["state", "opened_at"])
    contract = "wind_kedro.contracts.operation.Incidents"
    stored = Stored(filepath=str(tmp_path), partition_by=["raised_at"], contract=contract)
    stored.save(earlier)
    history.incidents = Incidents.validate(stored.load())
    assert history.run(6, "weather_late") == [("weather_late", "open", 0)]
    assert history.run(12) == [("all_clear", "open", 12), ("weather_late", "resolved", 0)]
    assert len(history.messages) == 2


def test_what_stands_and_is_read_at_the_time_is_watched(hills: Fleet, blow: MakeTable) -> None:
    """A turbine that is gone or not there yet, and a weather model that was replaced, are not missed."""
    cards = hills.model_dump(mode="json")
    hill, moor, _ = cards["farms"]
    hill["turbines"][0]["valid_until"] = "2024-03-01"
    hill["turbines"].append(hill["turbines"][1] | {"id": "T9", "valid_from": "2024-05-01"})
    moor["weather"].append(moor["weather"][0] | {"model": "beta", "valid_until": "2024-03-01"})
    changed = Fleet.model_validate(cards)
    at = pd.Timestamp(NOW)
    found = fresh_at(at, changed, weather_of(hills, blow, NOW - 3 * HOUR), signals_of(changed.at(at), NOW - 20 * MINUTE))
    assert {subject for farm, subject in states(found, "signals") if farm == "hill"} == {"T1", "T2"}
    assert {subject for farm, subject in states(found, "weather") if farm == "moor"} == {"alpha/site"}
    assert set(found["state"]) == {"fresh"}
