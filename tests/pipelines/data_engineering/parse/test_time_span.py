"""A run as of a moment that no farm's data reaches stops before it overwrites anything, and says what can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.data_engineering import create_cleaning, nodes
from wind_kedro.pipelines.data_engineering.parse.signals import parse_signals
from wind_kedro.pipelines.data_engineering.parse.time_span import OutsideDataError
from wind_kedro.pipelines.data_engineering.settings import DataEngineering

#: Rows of every hour of 1 to 10 March: judged after two days, too old thirty days after the last.
HOURS = pd.date_range("2024-03-01", "2024-03-10 23:00", freq="h", tz="UTC")


@pytest.fixture
def check(
    raw_signals: Callable[..., Any],
    settle: Callable[[Any], Any],
    windy: Callable[..., Fleet],
    settings: DataEngineering,
) -> Callable[[str], Clock]:
    def run(as_of: str) -> Clock:
        rows = [{"turbine_id": "T0", "timestamp": hour.isoformat(), "power_kw": "500", "wind_speed_ms": "8"} for hour in HOURS]
        parsed = settle(parse_signals(raw_signals(rows), windy(), settings))
        clock = Clock(as_of=pd.Timestamp(as_of, tz="UTC").to_pydatetime())
        return nodes.check_as_of(parsed, windy(), clock, settings)

    return run


@pytest.mark.parametrize("as_of", ["2024-03-04", "2024-03-10", "2024-04-09"])
def test_a_moment_within_the_data_is_passed_on(check: Callable[[str], Clock], as_of: str) -> None:
    assert check(as_of).as_of == pd.Timestamp(as_of, tz="UTC")


@pytest.mark.parametrize("as_of", ["2013-01-01", "2024-03-01 12:00", "2024-04-11", "2030-01-01"])
def test_a_moment_outside_is_refused_in_one_line_with_the_choice(check: Callable[[str], Clock], as_of: str) -> None:
    with pytest.raises(OutsideDataError, match=r"outside the data.*'hill' from 2024-03-0\d to 2024-04-09") as raised:
        check(as_of)
    assert "\n" not in str(raised.value)


def test_whatever_is_as_of_a_time_waits_for_the_check() -> None:
    # Assessment, which also runs alone, reads only what cleaning stored after the check.
    pipeline = create_cleaning()
    assert [node.name for node in pipeline.nodes if "params:clock" in node.inputs] == ["parse.check_as_of"]
