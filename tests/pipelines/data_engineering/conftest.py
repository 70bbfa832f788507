"""The room's own rig: raw text in, every table out, through the real nodes."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
import yaml

from stored import OPTIONS
from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.base import RawTable
from wind_kedro.contracts.observations import (
    ClockCalibration,
    DataQuality,
    Observations,
    PowerCurve,
    Quarantine,
    Readiness,
    Signals,
    SuspectedUnits,
    Weather,
    WeatherFit,
)
from wind_kedro.contracts.raw import SignalsRaw, WeatherRaw
from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.assessment.readiness import assess_readiness
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, ReadinessSettings
from wind_kedro.pipelines.data_engineering.signals.unit_checks import daily_sums, suspect_units
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibrate_clocks
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather, make_weather
from wind_kedro.storage.fingerprints import Recipe

Frames = dict[str, pd.DataFrame]
Settle = Callable[[Any], Any]
CONNECTION = {"backend": "duckdb", "database": ":memory:"}
_ROW = {"farm_id", "unit", "source_file", "source_row", "fault"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ibis 12 about how it calls DuckDB 2 and pandas 3 itself."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"))


@pytest.fixture(scope="session")
def parameters(project_path: Path) -> dict[str, Any]:
    """The room's parameters as they ship."""
    text = (project_path / "conf/base/parameters_data_engineering.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["data_engineering"]
    return found


@pytest.fixture(scope="session")
def settings(parameters: dict[str, Any]) -> DataEngineering:
    """As they ship, but clocks are judged after two days: tests have little history, and weather that is exact."""
    found = copy.deepcopy(parameters)
    found["clock_search"] |= {"min_history_days": 2, "weekly_noise_minutes": 5}
    return DataEngineering.model_validate(found)


@pytest.fixture(scope="session")
def now() -> Clock:
    """After all data of these tests."""
    return Clock(as_of=pd.Timestamp("2030-01-01T00:00:00Z").to_pydatetime())


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One DuckDB for all tests of the room: that of the catalog's tables."""
    folder = str(tmp_path_factory.mktemp("tables"))
    return DerivedTable(filepath=folder, key=["farm_id"], time="valid_at", connection=CONNECTION)._connection


@pytest.fixture(scope="session")
def settle(backend: Any) -> Settle:
    """Writes a table down, as the catalog does between nodes."""

    def written(table: Any) -> Any:
        # Modules that take this fixture each have their own, on one connection.
        return backend.create_table(f"table_{uuid.uuid4().hex}", table)

    return written


@pytest.fixture(scope="session")
def derive(project_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Derived]:
    """Computes a table as the catalog does, in a folder of its own unless one is given."""
    entries = yaml.safe_load((project_path / "conf/base/catalog_data_engineering.yml").read_text())

    def derived(name: str, recipe: Recipe, folder: Path | None = None, **options: Any) -> Derived:
        given = {key: entries[name][key] for key in OPTIONS if key in entries.get(name, ())} | options
        table = DerivedTable(filepath=str((folder or tmp_path_factory.mktemp("derived")) / name), connection=CONNECTION, **given)
        table.save(recipe)
        return table.load()

    return derived


def raw(rows: list[dict[str, Any]], contract: type[RawTable]) -> pd.DataFrame:
    """A raw table from short rows: everything else is null, rows are numbered."""
    columns = [*sorted(_ROW), *sorted(contract.columns - _ROW)]
    frame = pd.DataFrame(
        [
            {"farm_id": "hill", "unit": "hill.csv", "source_file": "hill.csv", "source_row": number} | row
            for number, row in enumerate(rows, start=1)
        ],
        columns=columns,
    )
    return frame.astype(dict.fromkeys(columns, "str") | {"source_row": "int64"})


@pytest.fixture(scope="session")
def raw_signals(backend: Any, settle: Settle) -> Callable[[list[dict[str, Any]]], Any]:
    """Raw signals from short rows."""
    return lambda rows: settle(ibis.memtable(raw(rows, SignalsRaw)))


@pytest.fixture(scope="session")
def raw_weather(backend: Any, settle: Settle) -> Callable[[list[dict[str, Any]]], Any]:
    """Raw weather from short rows, at the farm's own point unless they say otherwise."""
    return lambda rows: settle(ibis.memtable(raw([{"weather_point": "site"} | row for row in rows], WeatherRaw)))


@pytest.fixture(scope="session")
def run_room(
    settle: Settle, derive: Callable[..., Derived], project_path: Path, runs_of: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[..., Frames]:
    """The whole room, node by node; every table of ours checked against its contract."""

    text = (project_path / "conf/base/parameters_readiness.yml").read_text()
    readiness = ReadinessSettings.model_validate(yaml.safe_load(text)["readiness"])

    def run(signals_raw: Any, weather_raw: Any, fleet: Fleet, clock: Clock, settings: DataEngineering) -> Frames:
        parsed_signals = settle(parse_signals(signals_raw, fleet, settings))
        parsed_weather = settle(parse_weather(weather_raw, fleet, settings))
        judged_weather = settle(judge_weather(parsed_weather, clock))
        weather = Weather.validate(make_weather(judged_weather, fleet, clock, settings))
        suspected = suspect_units(daily_sums(parsed_signals, fleet, settings.units), fleet, clock, settings)
        calibration = calibrate_clocks(parsed_signals, weather, suspected, fleet, clock, settings)
        timed = derive("timed_signals", nodes.time_signals(parsed_signals, calibration, suspected, fleet, clock, settings))
        counts = derive("cell_counts", nodes.count_cells(timed, calibration, fleet, settings))
        curve = derive("power_curve", nodes.fit_power_curves(counts, calibration, fleet, settings))
        signals = derive("signals", nodes.judge_signals(timed, curve, fleet, settings))
        observations = derive("observations", nodes.aggregate_observations(signals, fleet, clock, settings))
        judged = (timed, judged_weather, parsed_signals, parsed_weather, signals_raw, weather_raw)
        quarantine = derive("quarantine", nodes.build_quarantine(*judged, fleet, settings))
        of_days = derive("signal_counts", nodes.derive_signal_counts(timed, fleet, settings))
        quality, _ = nodes.assess_quality(
            signals_raw,
            weather_raw,
            parsed_signals,
            timed,
            of_days,
            signals,
            parsed_weather,
            judged_weather,
            runs_of(weather),
            quarantine,
            calibration,
            suspected,
            fleet,
            clock,
            settings,
        )
        times = sorted({pd.Timestamp(clock.training_time(fleet)), pd.Timestamp(clock.as_of)})
        ready, fit = assess_readiness(
            parsed_signals, parsed_weather, timed, signals, observations, weather, calibration, fleet, times, readiness
        )
        return {
            "timed_signals": timed.frame(),
            "signals": Signals.validate(signals.frame()),
            "quarantine": Quarantine.validate(quarantine.frame()),
            "clock_calibration": ClockCalibration.validate(calibration),
            "suspected_units": SuspectedUnits.validate(suspected),
            "power_curve": PowerCurve.validate(curve.frame()),
            "observations": Observations.validate(observations.frame()),
            "weather": weather,
            "data_quality": DataQuality.validate(quality),
            "readiness": Readiness.validate(ready),
            "weather_fit": WeatherFit.validate(fit),
        }

    return run


# --- a farm with weather -----------------------------------------------------------------------------------------------

#: What a farm of these tests sends beside its power.
COLUMNS = {
    "power_kw": {"name": "power", "unit": "kW"},
    "wind_speed_ms": {"name": "wind", "unit": "m/s"},
    "wind_direction_deg": {"name": "direction", "unit": "deg"},
    "temperature_c": {"name": "temperature", "unit": "degC"},
}


@pytest.fixture
def windy(cards: dict[str, Any]) -> Callable[..., Fleet]:
    """The shared fleet, whose farms also measure wind; keywords change the hill's signals."""

    def fleet(**signals: Any) -> Fleet:
        changed = copy.deepcopy(cards)
        for farm in changed["farms"]:
            farm["signals"]["columns"] = COLUMNS
        changed["farms"][0]["signals"] |= signals
        # One granularity, into which ten minutes fit: tables are short.
        changed["products"] = changed["products"][:1]
        return Fleet.from_config(**changed)

    return fleet


def gusty(hours: int, seed: int = 11, start: str = "2024-03-01") -> pd.Series:
    """Wind speed every ten minutes, m/s: weather systems of hours and a little noise, from ``start`` UTC on."""

    numbers = np.random.default_rng(seed)
    kicks = numbers.normal(0, 1, hours * 6)
    slow, fast = np.zeros(hours * 6), np.zeros(hours * 6)
    for step in range(1, hours * 6):
        slow[step] = 0.998 * slow[step - 1] + 0.063 * kicks[step]
        fast[step] = 0.9 * fast[step - 1] + 0.44 * numbers.normal()
    times = pd.date_range(start, periods=hours * 6, freq="10min", tz="UTC")
    return pd.Series(np.clip(8 + 3 * slow + 0.3 * fast, 0, 24), index=times)


def signal_rows(
    wind: pd.Series, offset: Callable[[pd.Timestamp], str], turbines: int = 3, **columns: Any
) -> list[dict[str, Any]]:
    """Raw rows of the hill: power follows the wind; ``offset`` writes the stamp."""
    rows = []
    for at, speed in wind.items():
        for turbine in range(turbines):
            own = max(speed + 0.2 * turbine, 0.0)
            rows.append(
                {
                    "turbine_id": f"T{turbine}",
                    "timestamp": offset(at),  # type: ignore[arg-type]
                    "power_kw": f"{min(1000.0, own**3):.3f}",
                    "wind_speed_ms": f"{own:.4f}",
                    "wind_direction_deg": f"{(240 + 3 * own) % 360:.2f}",
                    "temperature_c": f"{10 + own / 10:.3f}",
                }
                | columns
            )
    return rows


def weather_rows(wind: pd.Series) -> list[dict[str, Any]]:
    """Raw runs of the hill's model, four a day, as the wind came."""
    hourly = wind[wind.index.minute == 0]
    return [
        {
            "source_file": "alpha.csv",
            "weather_model": "alpha",
            "run_at": run.isoformat(),
            "valid_at": (run + pd.Timedelta(hours=lead)).isoformat(),
            "wind_speed_100m_ms": f"{hourly[run + pd.Timedelta(hours=lead)]:.3f}",
        }
        for run in hourly.index[hourly.index.hour % 6 == 0]
        for lead in range(13)
        if run + pd.Timedelta(hours=lead) in hourly.index
    ]
