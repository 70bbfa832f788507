"""Signals, units and clocks after any history of runs are those of one run over the final files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.readers.source_table import SourceTable
from wind_kedro.storage.delta import Delta
from wind_kedro.storage.fingerprints import Recipe

from ..conftest import gusty

CONNECTION = {"backend": "duckdb", "database": ":memory:"}
#: Options of a derived table in the catalog.
OPTIONS = ("key", "time", "whole_key", "contract", "statistics", "order")
TABLES = ("parsed_signals", "turbine_days", "suspected_units", "clock_sums", "clock_calibration")
#: Two weeks before and after the first of a month, in winter time until the 31st.
WIND = gusty(24 * 28, start="2024-03-18")[::3]


class Killed(BaseException):
    """What a kill leaves: nothing runs after it."""


@dataclass(frozen=True)
class State:
    """What one run finds.

    Attributes:
        files: numbers of the batches in each raw file.
        as_of: day of the run, counted from the first row.
        latency: minutes, on the card.
        unit: of wind speed, on the card.
        commits: after which the run is killed; none: it ends.
    """

    files: tuple[tuple[int, ...], ...]
    as_of: int
    latency: int
    unit: str
    commits: int | None


BATCHES = 6
numbers = st.permutations(range(BATCHES)).flatmap(
    lambda order: st.lists(st.integers(1, BATCHES - 1), max_size=3, unique=True).map(
        lambda cuts: tuple(tuple(part.tolist()) for part in np.split(np.array(order), sorted(cuts)))
    )
)
states = st.builds(
    State,
    files=st.tuples(numbers, st.integers(1, 4)).map(lambda found: found[0][: found[1]]),
    as_of=st.integers(6, 30),
    latency=st.sampled_from([10, 60]),
    unit=st.sampled_from(["m/s", "m/s", "km/h"]),
    commits=st.sampled_from([None, None, 1, 3, 6, 9]),
)


def rows_of(batch: int) -> pd.DataFrame:
    """Rows of some days; the last batch comes two weeks late, with revised values of the first."""
    day = (WIND.index - WIND.index[0]) // pd.Timedelta(days=1)
    late = batch == BATCHES - 1
    own = WIND[day // 6 == (0 if late else batch)]
    speed = own + 0.2 if late else own
    return pd.DataFrame(
        {
            "time": own.index.tz_convert("Europe/Paris").map(pd.Timestamp.isoformat),
            "turbine": "T0",
            "power": np.minimum(1000, speed.to_numpy() ** 3).round(3),
            "wind": speed.round(4).to_numpy(),
            "arrived": (own.index + pd.Timedelta(days=14 if late else 0, minutes=15)).map(pd.Timestamp.isoformat),
        }
    )


WEATHER = pd.DataFrame(
    [(at - pd.Timedelta(hours=int(at.hour % 6)), at, speed) for at, speed in WIND[WIND.index.minute == 0].items()],
    columns=["run_at", "valid_at", "wind_speed_100m_ms"],
)
WEATHER = WEATHER.assign(
    farm_id="hill", weather_model="alpha", weather_point="site", available_at=WEATHER["run_at"] + pd.Timedelta(hours=5)
)


@pytest.fixture
def fleet_of(cards: dict[str, Any]) -> Callable[[State], Fleet]:
    def fleet(state: State) -> Fleet:
        changed = json.loads(json.dumps(cards))
        changed["farms"] = changed["farms"][:1]
        changed["groups"] = []
        [farm] = changed["farms"]
        farm["latency_minutes"] = state.latency
        columns = {"power_kw": {"name": "power", "unit": "kW"}, "wind_speed_ms": {"name": "wind", "unit": state.unit}}
        farm["signals"] |= {"path": "hill_*.csv", "columns": columns, "received_at": "arrived", "cadence_seconds": 1800}
        changed["products"] = [product | {"members": ["hill"]} for product in changed["products"][:1]]
        return Fleet.from_config(**changed)

    return fleet


@dataclass(frozen=True)
class Environment:
    """An environment that lasts from run to run."""

    folder: Path
    entries: dict[str, Any]
    data_engineering: DataEngineering

    def table(self, name: str) -> DerivedTable:
        given = {key: self.entries[name][key] for key in OPTIONS if key in self.entries[name]}
        return DerivedTable(filepath=str(self.folder / name), connection=CONNECTION, **given)

    def derive(self, name: str, recipe: Recipe) -> Derived:
        self.table(name).save(recipe)
        return self.table(name).load()

    def run(self, state: State, fleet: Fleet) -> None:
        raw = self.folder / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for number in range(BATCHES):
            path = raw / f"hill_{number}.csv"
            path.unlink(missing_ok=True)
            if number < len(state.files):
                pd.concat([rows_of(batch) for batch in state.files[number]]).to_csv(path, index=False)
        clock = Clock(as_of=(WIND.index[0] + pd.Timedelta(days=state.as_of)).to_pydatetime())
        farms = [farm.model_dump(mode="json", exclude_none=True) for farm in fleet.farms]
        kept = str(self.folder / "kept")
        signals_raw = SourceTable(kind="signals", root=str(raw), farms=farms, connection=CONNECTION, kept=kept).load()
        weather = WEATHER[WEATHER["available_at"] <= clock.as_of]
        settings = self.data_engineering
        parsed = self.derive("parsed_signals", nodes.derive_parsed_signals(signals_raw, fleet, settings))
        days = self.derive("turbine_days", nodes.derive_turbine_days(parsed, fleet, settings))
        suspected = self.derive("suspected_units", nodes.derive_suspected_units(days, fleet, clock, settings))
        sums = self.derive("clock_sums", nodes.derive_clock_sums(parsed, weather, suspected, fleet, clock, settings))
        before = self.table("clock_calibration").load()
        self.derive("clock_calibration", nodes.derive_clock_calibration(parsed, sums, before, fleet, clock, settings))


@pytest.fixture
def environment(
    project_path: Path, settings: DataEngineering, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Environment]:
    entries = yaml.safe_load((project_path / "conf/base/catalog_data_engineering.yml").read_text())
    units = settings.units.model_copy(update={"evidence_days": 2, "baseline_days": 3})
    search = settings.clock_search.model_copy(update={"window_days": 14})
    own = settings.model_copy(update={"units": units, "clock_search": search})
    return lambda: Environment(tmp_path_factory.mktemp("environment"), entries, own)


def run_killed(environment: Environment, state: State, fleet: Fleet) -> None:
    """A run that ends before one of its commits."""
    write, commits = Delta._write, []

    def counted(*arguments: Any, **options: Any) -> None:
        if len(commits) == state.commits:
            raise Killed
        commits.append(1)
        write(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Delta, "_write", counted)
        try:
            environment.run(state, fleet)
        except Killed:
            return


def same(one: Environment, other: Environment) -> None:
    for name in TABLES:
        found, expected = one.table(name).load(), other.table(name).load()
        pd.testing.assert_frame_equal(found.frame(), expected.frame(), rtol=1e-9, obj=name)
        pd.testing.assert_frame_equal(found.days, expected.days, rtol=1e-9, check_dtype=False, obj=f"days of {name}")


@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(states, min_size=2, max_size=3))
# Killed before the first write of clock sums; then no farm is old enough for a calibration any more.
@example(
    history=[
        State(files=((3, 0, 1, 4, 2, 5),), as_of=7, latency=10, unit="km/h", commits=1),
        State(files=((0, 5),), as_of=14, latency=60, unit="m/s", commits=3),
        State(files=((3,),), as_of=17, latency=10, unit="m/s", commits=None),
    ]
)
def test_any_history_ends_as_one_run(
    history: Sequence[State], environment: Callable[[], Environment], fleet_of: Callable[[State], Fleet]
) -> None:
    lasting, anew = environment(), environment()
    # A later run never has an earlier as_of.
    times = sorted(state.as_of for state in history)
    history = [replace(state, as_of=time) for state, time in zip(history, times, strict=True)]
    for state in history:
        run_killed(lasting, state, fleet_of(state))
    last = replace(history[-1], commits=None)
    lasting.run(last, fleet_of(last))
    anew.run(last, fleet_of(last))
    same(lasting, anew)


def test_nothing_new_computes_nothing(environment: Callable[[], Environment], fleet_of: Callable[[State], Fleet]) -> None:
    state = State(files=((0, 1), (2, 3, 4), (5,)), as_of=30, latency=10, unit="m/s", commits=None)
    lasting = environment()
    lasting.run(state, fleet_of(state))
    assert len(lasting.table("clock_calibration").load().frame()) == 2
    run_killed(lasting, replace(state, commits=0), fleet_of(state))  # any commit would end it before the last table
    again = lasting.table("clock_calibration")
    assert again.load().days["rows"].sum() == 2
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Delta, "_write", lambda *_, **__: pytest.fail("something was computed"))
        lasting.run(state, fleet_of(state))
        lasting.run(replace(state, as_of=31), fleet_of(state))  # a new time alone changes nothing either


def test_a_wrong_unit_is_found_and_keeps_its_wind_from_the_clock(
    environment: Callable[[], Environment], fleet_of: Callable[[State], Fleet]
) -> None:
    state = State(files=((0, 1, 2, 3, 4),), as_of=30, latency=10, unit="km/h", commits=None)
    found = environment()
    found.run(state, fleet_of(state))
    suspected = found.table("suspected_units").load().frame()
    assert suspected["suspected_unit"].tolist() == ["m/s"]
