"""From the house's units to those of a source, with the digits that loggers and weather services write."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS, WEATHER_UNITS, SourceColumn

_UNITS = {**SIGNAL_UNITS, **WEATHER_UNITS}

#: Digits after the point, in the house's units, of what loggers and weather services write.
DECIMALS: Mapping[str, int] = {
    "power_kw": 1, "wind_speed_ms": 3, "wind_direction_deg": 2, "temperature_c": 2, "pitch_deg": 2,
    "wind_speed_100m_ms": 2, "wind_direction_100m_deg": 1, "wind_u_100m_ms": 2, "wind_v_100m_ms": 2,
    "wind_u_10m_ms": 2, "wind_v_10m_ms": 2, "pressure_pa": -1, "air_density_kgm3": 3,
}  # fmt: skip


def factor_of(name: str, column: SourceColumn) -> float:
    """What a value of the source is multiplied by to be in the house's unit."""
    return UNIT_CONVERSIONS[column.unit, _UNITS[name]][0]


def digits(name: str, column: SourceColumn) -> int:
    """Digits after the point that a source writes, in its unit."""
    return DECIMALS[name] + math.ceil(math.log10(factor_of(name, column)) - 1e-9)


def in_source_units(rows: pd.DataFrame, columns: Mapping[str, SourceColumn]) -> pd.DataFrame:
    """The columns that a card maps, under the source's names, in its units and with its digits."""
    converted = {}
    for name, column in columns.items():
        factor, offset = UNIT_CONVERSIONS[column.unit, _UNITS[name]]
        values = np.round((rows[name] - offset) / factor, digits(name, column))
        converted[column.name] = values + 0.0  # no minus zero
    return pd.DataFrame(converted)
