"""The farm that ships with the project: what is known about its data is found by the pipeline alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.readers.source_table import SourceTable

from .conftest import Frames

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(project_path: Path, backend: Any, run_room: Callable[..., Frames], parameters: dict[str, Any]) -> Frames:
    """The room's tables at the end of the data, with the parameters that ship."""
    conf = project_path / "conf/base"
    cards = {name: yaml.safe_load((conf / f"{name}.yml").read_text()) for name in ("farms", "markets", "products")}
    fleet = Fleet.from_config(cards["farms"]["farms"], cards["markets"]["markets"], cards["products"]["products"])

    class OnTheRig(SourceTable):
        _connection = backend  # the rig's tables and the sources are joined

    root = str(project_path / "data/01_raw")
    farms = cards["farms"]["farms"]
    signals, weather = (OnTheRig(kind=kind, root=root, farms=farms).load().table() for kind in ("signals", "weather"))
    clock = Clock(as_of=pd.Timestamp("2016-01-01T12:00Z").to_pydatetime())
    return run_room(signals, weather, fleet, clock, DataEngineering.model_validate(parameters))


def count(found: Frames, check: str, signal: str = "row") -> int:
    row = found["data_quality"].query("source_table == 'signals' and check == @check and signal == @signal")
    return int(row["count"].iloc[0])


def test_the_clock_is_found_against_the_card(found: Frames) -> None:
    calibrations = found["clock_calibration"]
    assert set(calibrations["reading"]) == {"wall_clock_is_utc"}
    assert not calibrations["agrees"].any()
    evidence = json.loads(calibrations["evidence"].iloc[-1])
    # About 50 minutes off in winter and 120 in summer if the offset were honoured; 0 to 20 if it is stripped.
    parts = {name: one["offset_minutes"] for name, one in evidence["as_stamped"]["parts"].items()}
    assert -60 < parts["UTC+1"] < -40
    assert -120 < parts["UTC+2"] < -100
    assert evidence["wall_clock_is_utc"]["misalignment_minutes"] < 20
    warning = found["data_quality"].query("check == 'clock_disagrees_with_card'").iloc[0]
    assert warning["severity"] == "warning"
    assert "set clock: wall_clock_is_utc in farms.yml" in warning["message"]


def test_hourly_power_follows_the_analysed_wind(found: Frames) -> None:
    weather = found["weather"].drop_duplicates("valid_at")
    both = found["observations"].merge(weather[["valid_at", "wind_speed_100m_ms"]], on="valid_at")
    assert both["power_kw"].corr(both["wind_speed_100m_ms"]) == pytest.approx(0.830, abs=0.002)  # honouring the offset: .803


def test_all_rows_are_accounted_for_and_the_faults_are_counted(found: Frames) -> None:
    assert count(found, "rows_in") == 420_480
    assert count(found, "kept") + count(found, "quarantined") == 420_480
    assert count(found, "sentinel", "temperature_c") == 33
    assert count(found, "missing_value", "power_kw") == 2_569


def test_the_doubled_hours_of_spring_are_set_aside_never_guessed(found: Frames) -> None:
    signals, aside = found["signals"], found["quarantine"]
    assert set(aside["reason"]) == {"conflicting_stamp"}
    assert len(aside) == 2 * 2 * 6 * 4  # two springs, two rows, six stamps, four turbines
    assert not signals["retimed"].any()
    assert not signals.duplicated(["turbine_id", "valid_at"]).any()
