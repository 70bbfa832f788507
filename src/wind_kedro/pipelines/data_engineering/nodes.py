"""The nodes of this room, in the order in which they run. Each lives with what it needs."""

from .aggregation import aggregate_observations
from .clocks import calibrate_clocks
from .curves import fit_power_curves
from .labels import judge_signals
from .parsing import parse_signals
from .quality import assess_quality, set_aside
from .readiness import assess_readiness
from .runs import judge_weather, make_weather
from .span import check_as_of
from .stock import take_stock
from .timing import time_signals
from .units import suspect_units
from .weather_parsing import parse_weather

__all__ = [
    "aggregate_observations",
    "assess_quality",
    "assess_readiness",
    "calibrate_clocks",
    "check_as_of",
    "fit_power_curves",
    "judge_signals",
    "judge_weather",
    "make_weather",
    "parse_signals",
    "parse_weather",
    "set_aside",
    "suspect_units",
    "take_stock",
    "time_signals",
]
