"""Is ``as_of`` a moment that the data can say anything about? Asked first, before anything earlier is overwritten."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.tables import Table
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import first_calibrations


class OutsideDataError(WindKedroError):
    """No farm has data for this moment."""


def check_as_of(parsed_signals: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Clock:
    """The clock of the run, if at least one farm's signals reach its ``as_of``.

    A farm's signals can be used from its first clock calibration on, and are too old ``max_age_days`` after the last row.

    Raises:
        OutsideDataError: one line that says, farm by farm, which moments can be chosen.
    """
    good = parsed_signals.filter(parsed_signals.reason.isnull())
    ends = good.group_by("farm_id").agg(last=good.wall_clock_is_utc.max()).to_pandas().set_index("farm_id")["last"]
    firsts = first_calibrations(parsed_signals, fleet, data_engineering.clock_search)
    longest = dt.timedelta(days=data_engineering.max_age_days)
    as_of = pd.Timestamp(clock.as_of).tz_localize(None)
    choices = [
        f"'{farm.id}' from {firsts[farm.id]:%Y-%m-%d} to {ends[farm.id] + longest:%Y-%m-%d}"
        for farm in fleet.farms
        if farm.id in firsts.index and firsts[farm.id] <= ends[farm.id] + longest
    ]
    if not any(firsts[farm_id] <= as_of <= ends[farm_id] + longest for farm_id in firsts.index):
        can = "; ".join(choices) or (
            "no moment: no farm has a readable row on "
            f"{data_engineering.clock_search.min_history_days} days, which its clock needs to be judged"
        )
        raise OutsideDataError(
            f"as_of {as_of:%Y-%m-%d %H:%M} UTC is outside the data; signals can be used as of: {can}"
        )
    return clock
