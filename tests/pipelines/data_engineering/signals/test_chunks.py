"""A table worked in chunks is the table worked whole."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.pipelines.data_engineering import nodes
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.signals.chunks import Chunks, near, plan

from ..conftest import gusty, signal_rows

Make = Callable[[list[dict[str, Any]]], Any]


def _spoilt(seed: int) -> list[dict[str, Any]]:
    """Three days of the hill with gaps, late and revised rows, repetitions, contradictions, stuck sensors and bad stamps."""
    numbers = np.random.default_rng(seed)
    rows = signal_rows(gusty(3 * 24, seed=seed), lambda at: at.isoformat())
    rows = [row for row in rows if numbers.random() > 0.05]
    for row in rows:
        at = pd.Timestamp(row["timestamp"])
        row["received_at"] = (at + pd.Timedelta(minutes=int(numbers.choice([15, 20, 200, 3000])))).isoformat()
    more = []
    for place in numbers.choice(len(rows), 200, replace=False):
        row = rows[place]
        kind = numbers.integers(6)
        if kind == 0:
            later = pd.Timestamp(row["received_at"]) + pd.Timedelta(days=2)
            more.append(row | {"power_kw": "123.4", "received_at": later.isoformat()})
        elif kind == 1:
            more.append(dict(row))
        elif kind == 2:
            more.append(row | {"wind_speed_ms": "1.5"})
        elif kind == 3:
            row["power_kw"] = "-900"
        elif kind == 4:
            row["timestamp"] = numbers.choice(["never", "2024-03-02T00:00:00+99:00", "2024-03-02T00:03:00Z"])
        else:
            row["turbine_id"] = numbers.choice(["T9", ""])
    # Sensors stuck over midnight, where chunks meet.
    for row in rows:
        if (row["turbine_id"] == "T1" and row["timestamp"][10:16] >= "T23:00") or row["timestamp"][10:16] < "T01:00":
            row["wind_direction_deg"] = "77.0"
    rows += more
    return [rows[place] for place in numbers.permutation(len(rows))]


@pytest.mark.parametrize(("seed", "chunk_rows"), [pytest.param(1, 250, id="parts of days"), pytest.param(2, 1000, id="days")])
def test_chunks_are_the_whole(
    seed: int,
    chunk_rows: int,
    raw_signals: Make,
    settle: Callable[[Any], Any],
    windy: Callable[..., Fleet],
    now: Clock,
    settings: DataEngineering,
) -> None:
    fleet = windy(received_at="received")
    parsed = settle(parse_signals(raw_signals(_spoilt(seed)), fleet, settings))
    calibration = pd.DataFrame([{"farm_id": "hill", "fitted_at": pd.Timestamp("2024-03-02", tz="UTC"), "reading": "as_stamped"}])

    def timed(most: int) -> Any:
        changed = settings.model_copy(update={"chunk_rows": most})
        return nodes.time_signals(parsed, calibration, SuspectedUnits.table([]), fleet, now, changed)

    whole, chunks = timed(10**9).to_pandas(), timed(chunk_rows)
    assert isinstance(chunks, Chunks)
    assert len(chunks) > 1
    assert list(chunks.columns) == list(whole.columns)
    in_parts = pd.concat([chunk.to_pandas() for chunk in chunks])
    key = ["source_file", "source_row"]
    pd.testing.assert_frame_equal(
        in_parts.sort_values(key, ignore_index=True), whole.sort_values(key, ignore_index=True), check_exact=True
    )
    faults = {"stuck", "spike", "out_of_range"} & set(in_parts.filter(like="_fault").to_numpy().ravel())
    assert {"stuck", "out_of_range"} <= faults
    assert set(in_parts["status"]) == {"kept", "superseded", "duplicate", "quarantined"}


def test_curves_signals_and_observations_of_chunks_are_those_of_the_whole(
    raw_signals: Make,
    settle: Callable[[Any], Any],
    windy: Callable[..., Fleet],
    now: Clock,
    settings: DataEngineering,
) -> None:
    fleet = windy(received_at="received")
    parsed = settle(parse_signals(raw_signals(_spoilt(5)), fleet, settings))
    calibration = pd.DataFrame([{"farm_id": "hill", "fitted_at": pd.Timestamp("2024-03-02", tz="UTC"), "reading": "as_stamped"}])
    timed = settle(nodes.time_signals(parsed, calibration, SuspectedUnits.table([]), fleet, now, settings))
    later = calibration.assign(fitted_at=pd.Timestamp("2024-03-04", tz="UTC"))
    both = pd.concat([calibration, later])
    curve = nodes.fit_power_curves(timed, both, fleet, settings)
    assert curve["fitted_at"].nunique() == 2
    small = settings.model_copy(update={"chunk_rows": 150})
    pd.testing.assert_frame_equal(nodes.fit_power_curves(timed, both, fleet, small), curve, check_exact=True)

    whole, chunks = (nodes.judge_signals(timed, curve, fleet, each) for each in (settings, small))
    assert isinstance(chunks, Chunks)
    assert len(chunks) > 1
    key = ["source_file", "source_row"]
    frame = whole.to_pandas().sort_values(key, ignore_index=True)
    in_parts = pd.concat([chunk.to_pandas() for chunk in chunks]).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(in_parts, frame, check_exact=True)
    assert {"", "off_curve"} <= set(frame["operating_state"])

    signals = settle(whole)
    tiny = settings.model_copy(update={"chunk_rows": 30})
    observed, summed = (nodes.aggregate_observations(signals, fleet, now, each) for each in (settings, tiny))
    assert observed.duplicated(["entity_id", "granularity_minutes", "valid_at"]).any()
    pd.testing.assert_frame_equal(summed, observed, check_exact=True)


def test_every_row_is_inside_one_chunk() -> None:
    numbers = np.random.default_rng(3)
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers.integers(0, 9 * 86400, 2000), unit="s")
    frame = pd.DataFrame(
        {
            "farm_id": numbers.choice(["a", "b"], 2000),
            "turbine_id": numbers.choice(["1", "2", None], 2000),
            "at": times.as_unit("us"),
            "number": np.arange(2000),
        }
    )
    frame.loc[frame["number"] % 50 == 0, "at"] = pd.NaT
    rows = ibis.memtable(frame)
    for max_rows in (1, 70, 300, 10_000):
        chunks = plan(rows, "at", max_rows)
        numbers_seen = list(
            itertools.chain.from_iterable(near(rows, chunk, "at", dt.timedelta()).to_pandas()["number"] for chunk in chunks)
        )
        assert sorted(numbers_seen) == list(range(2000))
