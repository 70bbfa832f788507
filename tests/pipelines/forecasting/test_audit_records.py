"""What an issue was made from: hashes that follow every bit, and the weather runs that were there or not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import AuditRecords
from wind_kedro.failures import Failure, failures_table
from wind_kedro.governance.provenance import Provenance
from wind_kedro.pipelines.forecasting.audit_records import record_issues

Tables = dict[str, Any]
NO_FAILURES = failures_table([], dt.datetime(2024, 3, 1, tzinfo=dt.UTC))
CLOCK = Clock.model_validate({"as_of": "2024-03-01T19:00", "issue_from": "2024-03-01T00:00"})


@pytest.fixture
def tables(
    fleet: Fleet,
    make_features: Callable[..., pd.DataFrame],
    blow: Callable[..., pd.DataFrame],
    run_of: Callable[..., Any],
    runs_of: Callable[..., pd.DataFrame],
) -> Tables:
    """Two issues of the hill; the second could have had a run that never came."""
    keys = [
        {"issued_at": f"2024-03-01 {hour:02d}:00", "valid_at": f"2024-03-01 {hour + lead:02d}:00"}
        for hour in (6, 18)
        for lead in (1, 2)
    ]
    features = make_features(keys)
    forecasts = features[["product_id", "entity_id", "issued_at", "valid_at", "lead_minutes", "weather_run_at"]].assign(
        model="trees", model_version="3", capacity_kw=3000.0, fallback="", weather=FORECAST_WEATHER,
        q100_kw=100.0, q500_kw=500.0, q900_kw=900.0,
    )  # fmt: skip
    return {
        "forecasts": as_forecasts(forecasts),
        "features": features,
        # The card: every 6 h, two hours later. At 18:00 the run of 12:00 is due, and late; that of 06:00 was there.
        "weather_runs": runs_of(
            blow(
                run_of("2024-03-01 00:00", [8.0, 9.0])
                + run_of("2024-03-01 06:00", [8.0, 9.0])
                + run_of("2024-03-01 12:00", [8.0, 9.0], available_at=pd.Timestamp("2024-03-01 18:01", tz="UTC"))
            )
        ),
        "promotions": pd.DataFrame({"product_id": ["hours"], "entity_id": ["hill"], "model_version": ["3"], "run_id": ["abc"]}),
        "raw_manifest": pd.DataFrame(
            {"farm_id": ["hill", "shore"], "path": ["hill.csv", "shore.csv"], "sha256": ["a" * 64, "b" * 64]}
        ),
        "forecasting_failures": NO_FAILURES,
        "calibration_failures": NO_FAILURES,
        "fleet": fleet,
        "clock": CLOCK,
        "provenance": Provenance.collect(Path.cwd(), {"training": {"seed": 1}}),
    }


def _record(tables: Tables) -> pd.DataFrame:
    return AuditRecords().validate(record_issues(**tables))


def test_every_issue_has_a_record_of_all_that_it_was_made_from(tables: Tables) -> None:
    found = _record(tables)
    assert (
        found[["product_id", "entity_id", "model", "model_version", "run_id"]].to_numpy().tolist()
        == [["hours", "hill", "trees", "3", "abc"]] * 2
    )
    morning, evening = found.to_dict("records")
    assert morning["issued_at"] < evening["issued_at"]
    assert json.loads(morning["weather_runs"]) == {"hill/alpha/site": "2024-03-01T00:00Z"}
    assert "2024-03-01T00:00Z" not in json.loads(morning["weather_runs_missing"])["hill/alpha/site"]
    assert json.loads(evening["weather_runs"]) == {"hill/alpha/site": "2024-03-01T06:00Z"}
    assert json.loads(evening["weather_runs_missing"])["hill/alpha/site"][-1] == "2024-03-01T12:00Z"
    assert "numpy" in json.loads(morning["libraries"])
    assert set(found["configuration_sha256"]) == {tables["provenance"].configuration_sha256}
    assert morning["forecast_sha256"] != evening["forecast_sha256"]


def test_the_hashes_follow_every_bit_of_their_own_issue_and_nothing_else(tables: Tables) -> None:
    before = _record(tables)
    names = ["forecast_sha256", "features_sha256", "data_sha256"]

    def changed(**change: pd.DataFrame) -> list[list[bool]]:
        return (_record(tables | change)[names] != before[names]).to_numpy().tolist()

    assert changed(forecasts=tables["forecasts"].iloc[::-1], features=tables["features"].iloc[::-1]) == [[False] * 3] * 2
    forecasts = tables["forecasts"].copy()
    forecasts.loc[0, "q900_kw"] += 1e-12 * 900
    assert changed(forecasts=forecasts) == [[True, False, False], [False] * 3]
    features = tables["features"].copy()
    features.loc[3, "wind_speed_100m_ms"] = None
    assert changed(features=features) == [[False] * 3, [False, True, False]]
    raw = tables["raw_manifest"].assign(sha256=["c" * 64, "b" * 64])
    assert changed(raw_manifest=raw) == [[False, False, True]] * 2
    raw = tables["raw_manifest"].assign(sha256=["a" * 64, "c" * 64])
    assert changed(raw_manifest=raw) == [[False] * 3] * 2, "another farm's file"


def test_what_other_runs_issued_is_not_recorded_again(tables: Tables) -> None:
    later = Clock.model_validate({"as_of": "2024-03-01T19:00"})
    assert _record(tables | {"clock": later})["issued_at"].dt.hour.tolist() == [18]


def test_an_issue_that_was_not_made_is_recorded_with_its_reason(tables: Tables) -> None:
    evening = pd.Timestamp("2024-03-01 18:00", tz="UTC")
    failed = [
        Failure("forecasting", code, "hours/hill: not issued: no features", "run feature_engineering",
                product_id="hours", entity_id="hill", issued_at=evening)
        for code in ("forecast_not_issued", "fallback_used")
    ]  # fmt: skip
    made = tables["forecasts"][tables["forecasts"]["issued_at"] != evening]
    found = _record(tables | {"forecasts": made, "forecasting_failures": failures_table(failed, CLOCK.as_of)})
    morning, later = found.to_dict("records")
    assert (morning["failure_code"], morning["failure_message"], morning["failure_action"]) == ("", "", "")
    assert (later["issued_at"], later["failure_code"]) == (evening, "forecast_not_issued")
    assert later["failure_message"] == "hours/hill: not issued: no features"
    assert later["failure_action"] == "run feature_engineering"
    assert (later["model"], later["model_version"], later["forecast_sha256"]) == ("", "", "")
    # What was there to make it from is kept.
    assert json.loads(later["weather_runs"]) == {"hill/alpha/site": "2024-03-01T06:00Z"}
    assert len(later["features_sha256"]) == 64
