"""Weather as derived tables: after any history of files, times and cards, they are those of an empty environment run once."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather, make_weather
from wind_kedro.readers.source_table import SourceTable

START = pd.Timestamp("2024-01-30")
#: First valid or run times of rows: over the end of a month.
TIMES = [START + pd.Timedelta(hours=9 * number) for number in range(12)]
TABLES = ("parsed_weather", "judged_weather", "weather", "weather_runs")


class Rig:
    """The nodes of weather with the tables of the catalog in one folder, and raw files that all rigs share."""

    def __init__(self, folder: Path, raw: Path, project: Path, data_engineering: DataEngineering) -> None:
        self.raw, self.settings = raw, data_engineering
        catalog = yaml.safe_load((project / "conf/base/catalog_data_engineering.yml").read_text())
        self.tables = {}
        for name in TABLES:
            options = {key: value for key, value in catalog[name].items() if key not in {"type", "metadata", "connection"}}
            self.tables[name] = DerivedTable(**(options | {"filepath": str(folder / name)}))
        self.kept = folder / "raw_rows"

    def run(self, cards: dict[str, Any], as_of: pd.Timestamp) -> dict[str, Derived]:
        fleet, clock = Fleet.from_config(**cards), Clock(as_of=as_of.to_pydatetime().replace(tzinfo=dt.UTC))
        raw = SourceTable(kind="weather", root=str(self.raw), farms=cards["farms"], kept=str(self.kept)).load()
        tables = self.tables
        tables["parsed_weather"].save(nodes.derive_parsed_weather(raw, fleet, self.settings))
        tables["judged_weather"].save(nodes.derive_judged_weather(tables["parsed_weather"].load(), clock))
        tables["weather"].save(nodes.derive_weather(tables["judged_weather"].load(), fleet, clock, self.settings))
        tables["weather_runs"].save(nodes.derive_weather_runs(tables["weather"].load()))
        return {name: table.load() for name, table in tables.items()}


@pytest.fixture
def rig(project_path: Path, settings: DataEngineering) -> Callable[[Path, Path], Rig]:
    return lambda folder, raw: Rig(folder, raw, project_path, settings)


@pytest.fixture
def two_farms(cards: dict[str, Any]) -> dict[str, Any]:
    """The hill has forecasts, the shore an analysis and forecasts; both state when rows arrived, in files of any cut."""
    hill, shore = cards["farms"]
    for farm in (hill, shore):
        farm["weather"][0] |= {"path": f"{farm['id']}/*.csv", "available_at": "arrived"}
    shore["weather"][0] |= {"path": "shore_analysis.csv", "length_hours": 30, "available_at": None}
    shore["weather"].append(hill["weather"][0] | {"model": "beta", "path": "shore/*.csv"})
    return cards


def write(raw: Path, rows: dict[str, list[tuple[int, int, int, str]]]) -> None:
    """Write and remove raw files: lines by file, each of time, lead, hours until it arrived, and wind."""
    analysis = [f"{TIMES[0] + pd.Timedelta(hours=hour)},{5 + hour % 7}" for hour in range(0, 60, 5)]
    texts = {raw / "shore_analysis.csv": "\n".join(["time,wind", *analysis, ""])}
    for name, lines in rows.items():
        text = ["run,time,arrived,wind"]
        for time, lead, wait, wind in lines:
            run = TIMES[time]
            text.append(f"{run},{run + pd.Timedelta(hours=lead)},{run + pd.Timedelta(hours=wait)},{wind}")
        texts[raw / name] = "\n".join([*text, ""])
    for old in set(raw.rglob("*.csv")) - set(texts):
        old.unlink()
    for file, content in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != content:
            file.write_text(content)


lines = st.tuples(
    st.integers(0, len(TIMES) - 1), st.integers(0, 2), st.sampled_from([3, 4, 30]), st.sampled_from(["5", "6", "x"])
)
files = st.dictionaries(
    st.sampled_from(["hill/1.csv", "hill/2.csv", "shore/1.csv"]), st.lists(lines, min_size=1, max_size=8), min_size=1
)
steps = st.tuples(files, st.integers(0, 140), st.sampled_from([None, "delay", "hub", "unit", "length"]))


def changed(cards: dict[str, Any], what: str | None) -> dict[str, Any]:
    cards = copy.deepcopy(cards)
    hill, shore = cards["farms"]
    match what:
        case "delay":
            shore["weather"][0]["delay_minutes"] = 300
        case "hub":
            hill["turbines"].append(hill["turbines"][0] | {"id": "T9", "hub_height_m": 110, "valid_from": "2024-02-01"})
        case "unit":
            hill["weather"][0]["columns"]["wind_speed_100m_ms"]["unit"] = "km/h"
        case "length":
            shore["weather"][0]["length_hours"] = 12
    return cards


@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # constants
)
@given(history=st.lists(steps, min_size=2, max_size=3))
def test_any_history_ends_as_a_rebuild(
    history: list[tuple[dict[str, Any], int, str | None]],
    rig: Callable[[Path, Path], Rig],
    two_farms: dict[str, Any],
    runs_of: Callable[[pd.DataFrame], pd.DataFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("weather")
    raw, going = folder / "raw", rig(folder / "going", folder / "raw")
    for rows, hours, change in history:
        write(raw, rows)
        cards, as_of = changed(two_farms, change), START + pd.Timedelta(hours=hours)
        found = going.run(cards, as_of)
    anew = rig(folder / "anew", raw)
    expected = anew.run(cards, as_of)
    for name in TABLES:
        pd.testing.assert_frame_equal(found[name].frame(), expected[name].frame(), check_exact=True)
        shards = ["farm_id", "day", "digest", "rows"]
        held = [table[name].days[table[name].days["rows"] > 0].reset_index(drop=True) for table in (found, expected)]
        pd.testing.assert_frame_equal(held[0][shards], held[1][shards])
    # The whole tables, computed at once from the same files.
    fleet, clock = Fleet.from_config(**cards), Clock(as_of=as_of.to_pydatetime().replace(tzinfo=dt.UTC))
    source = SourceTable(kind="weather", root=str(raw), farms=cards["farms"], kept=str(folder / "kept")).load()
    judged = judge_weather(parse_weather(source, fleet, going.settings), clock)
    whole = make_weather(judged, fleet, clock, going.settings)
    key = ["farm_id", "weather_model", "weather_point", "run_at", "valid_at", "available_at"]
    pd.testing.assert_frame_equal(found["weather"].frame(), whole.sort_values(key, ignore_index=True), check_dtype=False)
    runs = found["weather_runs"].frame()
    pd.testing.assert_frame_equal(runs, runs_of(whole)[runs.columns], check_dtype=False)


def computed(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """By table, how many of how many shards were computed."""
    found = {}
    for record in caplog.records:
        if record.name == "wind_kedro.datasets.derived":
            name, done, wanted, gone = record.args  # type: ignore[misc]
            found[str(name)] = f"{done} of {wanted}, {gone} gone"
    caplog.clear()
    return found


def test_only_days_that_changed_are_computed(
    rig: Callable[[Path, Path], Rig], two_farms: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wind_kedro.datasets.derived")
    raw, tables = tmp_path / "raw", rig(tmp_path / "tables", tmp_path / "raw")
    first = {"hill/1.csv": [(time, lead, 3, "5") for time in range(8) for lead in range(3)]}
    first["shore/1.csv"] = first["hill/1.csv"]
    late = START + pd.Timedelta(days=20)
    write(raw, first)
    tables.run(two_farms, late)
    caplog.clear()

    tables.run(two_farms, late)
    assert computed(caplog) == {}  # nothing new
    tables.run(two_farms, late + pd.Timedelta(days=1))
    assert computed(caplog) == {}  # all was there before

    write(raw, first | {"hill/2.csv": [(7, 3, 4, "5")]})  # a late part of the last run
    tables.run(two_farms, late)
    assert computed(caplog) == {
        "parsed_weather": "1 of 4, 0 gone",
        "judged_weather": "1 of 7, 0 gone",
        "weather": "1 of 8, 0 gone",
        "weather_runs": "1 of 8, 0 gone",
    }
    # A duplicate changes what is judged, and no weather.
    write(raw, first | {"hill/2.csv": [(7, 3, 4, "5"), (7, 3, 4, "5")]})
    tables.run(two_farms, late)
    assert computed(caplog) == {
        "parsed_weather": "1 of 4, 0 gone",
        "judged_weather": "1 of 7, 0 gone",
        "weather": "1 of 8, 0 gone",
    }


def test_a_fleet_without_weather_has_empty_tables(
    rig: Callable[[Path, Path], Rig], cards: dict[str, Any], tmp_path: Path
) -> None:
    for farm in cards["farms"]:
        farm["weather"] = []
    found = rig(tmp_path / "tables", tmp_path).run(cards, START)
    assert all(table.frame().empty and table.table().count().execute() == 0 for table in found.values())
    assert "wind_speed_hub_ms" in found["weather"].frame()
