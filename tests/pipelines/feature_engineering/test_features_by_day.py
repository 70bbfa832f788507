"""Features by day: after any history of runs they equal those of an empty environment run once with the last inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets import DerivedTable
from wind_kedro.pipelines.feature_engineering import nodes
from wind_kedro.pipelines.feature_engineering.fits import fit_points, sum_outcomes
from wind_kedro.pipelines.feature_engineering.nodes import build_features, note_features_failures
from wind_kedro.storage.fingerprints import Recipe

from .building import INLINE
from .test_leakage import BEGIN, DAYS, PARAMETERS, World, _world

# Ibis 12 about DuckDB 2 and pandas 3.1.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

#: Time, contract and order of each table, as in the catalog.
TABLES = {
    "feature_fit_sums": ("month_begin", "FeatureFitSums", ["month_begin", "point", "bin"]),
    "feature_fits": ("fitted_at", "FeatureFits", ["fitted_at", "point", "wind_speed_ms"]),
    "features": ("issued_at", "Features", ["issued_at", "valid_at"]),
}
KEY = ["product_id", "entity_id"]


class Environment:
    """The derived tables of a folder, computed by the nodes of the pipeline."""

    def __init__(self, folder: Path) -> None:
        self.tables = {
            name: DerivedTable(
                filepath=str(folder / name),
                key=KEY,
                time=time,
                contract=f"wind_kedro.contracts.features.{contract}",
                order=[*KEY, *order],
                max_rows=400,
            )
            for name, (time, contract, order) in TABLES.items()
        }
        self.computed: dict[str, int] = {}

    def run(self, world: World, fleet: Fleet, hours: int) -> pd.DataFrame:
        """Run the pipeline as of so many hours after the beginning; its failures."""
        clock = Clock(as_of=(BEGIN + pd.Timedelta(hours=hours)).to_pydatetime())
        common: tuple[Any, ...] = (fleet, clock, PARAMETERS)
        # As the tables before would have them: nothing that is not available yet.
        known = [table[table["available_at"] <= clock.as_of] for table in (world.observations, world.weather)]
        self._save("feature_fit_sums", sum_outcomes(*known, *common, INLINE))
        self._save("feature_fits", fit_points(self.tables["feature_fit_sums"].load(), *common))
        self._save("features", build_features(*known, self.tables["feature_fits"].load(), *common, INLINE))
        return note_features_failures(self.tables["features"].load(), self.tables["feature_fit_sums"].load(), fleet, clock)

    def _save(self, name: str, recipe: Recipe) -> None:
        def counting(part: pd.DataFrame) -> Any:
            self.computed[name] += len(part)
            return recipe.work(part)

        self.computed[name] = 0
        self.tables[name].save(Recipe(recipe.wanted, counting, recipe.faults))

    def frames(self) -> dict[str, pd.DataFrame]:
        return {name: table.load().frame() for name, table in self.tables.items()}

    def shards(self) -> dict[str, pd.DataFrame]:
        columns = [*KEY, "day", "rows", "fault"]
        return {name: table.load().days[columns] for name, table in self.tables.items()}


def assert_same(one: Environment, other: Environment) -> None:
    for name, frame in one.frames().items():
        pd.testing.assert_frame_equal(frame, other.frames()[name], rtol=1e-9, atol=1e-12, obj=name)
    for name, shards in one.shards().items():
        pd.testing.assert_frame_equal(shards, other.shards()[name], obj=name)


def cards_of(capacity_kw: int, gate_minutes: int) -> Fleet:
    from tests.conftest import _CARDS

    cards = copy.deepcopy(_CARDS)
    shore = cards["farms"][1]
    shore["capacity_kw"] = shore["turbines"][0]["rated_power_kw"] = capacity_kw
    cards["markets"][0]["gate_closure_minutes"] = gate_minutes
    return Fleet.from_config(**cards)


@contextmanager
def broken(entity_id: str | None) -> Iterator[None]:
    """Features of one entity raise."""
    real = nodes.features_of_entity

    def raising(calendar: Any, name: str, *rest: Any) -> Any:
        if name == entity_id:
            raise ZeroDivisionError("broken")
        return real(calendar, name, *rest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nodes, "features_of_entity", raising)
        yield


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, int, str | None]]:
    """Runs: hours of as_of, what of the world is there, capacity and gate of the cards, an entity that raises."""
    runs = draw(st.integers(1, 3))
    return [
        (
            draw(st.integers(8, DAYS * 24)),
            draw(st.integers(0, 3)),
            draw(st.sampled_from([1000, 1000, 2000])),
            draw(st.sampled_from([60, 60, 120])),
            draw(st.sampled_from([None, None, "both"])),
        )
        for _ in range(runs)
    ]


def part_of(world: World, number: int) -> World:
    """The world without some rows, as files that come later hold; 0: all of it."""
    rng = np.random.default_rng(number)
    kept = [table[(number == 0) | (rng.random(len(table)) < 0.9)] for table in (world.observations, world.weather)]
    return World(*(table.reset_index(drop=True) for table in kept))


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 1000), history=histories())
@example(seed=1, history=[(40, 1, 1000, 60, None), (96, 2, 2000, 60, "both")])
def test_after_any_history_features_equal_a_rebuild(
    seed: int, history: list[tuple[int, int, int, int, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    world, one = _world(seed), Environment(tmp_path_factory.mktemp("one"))
    for hours, part, capacity_kw, gate_minutes, failing in history:
        with broken(failing):
            one.run(part_of(world, part), cards_of(capacity_kw, gate_minutes), hours)
    last = (world, cards_of(1000, 60), DAYS * 24)
    failures, anew = one.run(*last), Environment(tmp_path_factory.mktemp("anew"))
    pd.testing.assert_frame_equal(failures, anew.run(*last))
    assert_same(one, anew)
    one.run(*last)
    assert set(one.computed.values()) == {0}


@pytest.fixture(scope="module")
def world() -> World:
    return _world(5)


def test_a_new_run_computes_the_days_that_read_it(world: World, fleet: Fleet, tmp_path: Path) -> None:
    made = Environment(tmp_path)
    late = (world.weather["farm_id"] == "shore") & (world.weather["run_at"] >= BEGIN + pd.Timedelta(days=3))
    before = World(world.observations, world.weather[~late].reset_index(drop=True))
    made.run(before, fleet, DAYS * 24)
    days = made.computed["features"]
    made.run(world, fleet, DAYS * 24)
    # Issues of the fourth day of all three, as the shore's wind is looked at by the others; nothing that is fitted.
    assert 0 < made.computed["features"] <= 3 < days
    assert made.computed["feature_fits"] == 0


def test_time_that_passes_without_an_issue_computes_nothing(world: World, fleet: Fleet, tmp_path: Path) -> None:
    made = Environment(tmp_path)
    # Issues at 06:00, 06:10 and 18:00; what arrives in between is read by none of these.
    made.run(world, fleet, 3 * 24 + 18)
    known = world.observations["available_at"] <= BEGIN + pd.Timedelta(hours=3 * 24 + 18)
    arrived = world.weather["available_at"] <= BEGIN + pd.Timedelta(hours=3 * 24 + 18)
    made.run(World(world.observations[known], world.weather[arrived]), fleet, 3 * 24 + 23)
    assert set(made.computed.values()) == {0}


def test_a_failure_is_noted_until_it_is_mended(world: World, fleet: Fleet, tmp_path: Path) -> None:
    made = Environment(tmp_path)
    with broken("both"):
        failures = made.run(world, fleet, DAYS * 24)
    assert failures["message"].tolist() == ["hours/both: no features: ZeroDivisionError: broken"]
    assert "both" not in set(made.frames()["features"]["entity_id"])
    assert made.run(world, fleet, DAYS * 24).empty
    assert "both" in set(made.frames()["features"]["entity_id"])
