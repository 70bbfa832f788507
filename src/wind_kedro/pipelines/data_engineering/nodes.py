"""Nodes of the pipeline data_engineering."""

import pandas as pd

from wind_kedro.pipelines.data_engineering.assessment.counts import derive_signal_counts
from wind_kedro.pipelines.data_engineering.assessment.quality import assess_quality
from wind_kedro.pipelines.data_engineering.assessment.quarantine import build_quarantine
from wind_kedro.pipelines.data_engineering.assessment.readiness import derive_readiness
from wind_kedro.pipelines.data_engineering.parse.signals import derive_parsed_signals
from wind_kedro.pipelines.data_engineering.parse.time_span import check_as_of
from wind_kedro.pipelines.data_engineering.signals.aggregation import aggregate_observations
from wind_kedro.pipelines.data_engineering.signals.operating_states import judge_signals
from wind_kedro.pipelines.data_engineering.signals.power_curves import count_cells, fit_power_curves
from wind_kedro.pipelines.data_engineering.signals.unit_checks import derive_suspected_units, derive_turbine_days
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import derive_clock_calibration
from wind_kedro.pipelines.data_engineering.timestamps.clock_sums import derive_clock_sums
from wind_kedro.pipelines.data_engineering.timestamps.placement import time_signals
from wind_kedro.pipelines.data_engineering.weather.recipes import (
    derive_judged_weather,
    derive_parsed_weather,
    derive_weather,
    derive_weather_runs,
)

__all__ = [
    "aggregate_observations",
    "assess_quality",
    "build_quarantine",
    "check_as_of",
    "count_cells",
    "derive_clock_calibration",
    "derive_clock_sums",
    "derive_judged_weather",
    "derive_parsed_signals",
    "derive_parsed_weather",
    "derive_readiness",
    "derive_signal_counts",
    "derive_suspected_units",
    "derive_turbine_days",
    "derive_weather",
    "derive_weather_runs",
    "fit_power_curves",
    "judge_signals",
    "list_raw_files",
    "time_signals",
]


def list_raw_files(raw_files: pd.DataFrame) -> pd.DataFrame:
    """One row per farm and raw file that this run read, sorted, with its checksum; the audit and a rebuild refer to it."""
    return raw_files.sort_values(["farm_id", "source_table", "path"], ignore_index=True)
