"""Check that ``as_of`` lies within the data, before any result is overwritten."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived
from wind_kedro.errors import WindKedroError
from wind_kedro.pipelines.data_engineering.parse.signals import statistics_of
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table
from wind_kedro.pipelines.data_engineering.timestamps.clock_sums import first_calibrations


class OutsideDataError(WindKedroError):
    """No farm has data for this moment."""


def check_as_of(parsed_signals: Derived | Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Clock:
    """Return the clock if at least one farm's signals cover its ``as_of``.

    A farm's signals can be used from its first clock calibration until ``max_age_days`` after the last row.

    Raises:
        OutsideDataError: with the valid range of every farm.
    """
    days = statistics_of(parsed_signals)
    ends = days.groupby("farm_id")["last_stamp"].max().dropna()
    firsts = first_calibrations(days, data_engineering.clock_search)
    longest = dt.timedelta(days=data_engineering.max_age_days)
    as_of = pd.Timestamp(clock.as_of).tz_localize(None)
    choices = [
        f"'{farm.id}' from {firsts[farm.id]:%Y-%m-%d} to {ends[farm.id] + longest:%Y-%m-%d}"
        for farm in fleet.farms
        if farm.id in firsts.index and firsts[farm.id] <= ends[farm.id] + longest
    ]
    if not any(firsts[farm_id] <= as_of <= ends[farm_id] + longest for farm_id in firsts.index):
        can = "; ".join(choices) or (
            f"no time: no farm has readable rows on {data_engineering.clock_search.min_history_days} days, which the first "
            "clock calibration needs"
        )
        raise OutsideDataError(f"as_of {as_of:%Y-%m-%d %H:%M} UTC is outside the data; signals can be used as of: {can}")
    return clock
