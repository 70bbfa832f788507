"""The cards: what is forecast, for whom, by which rules, from which data.

A card is a row of ``conf/<env>/farms.yml``, ``markets.yml`` or ``products.yml``. Together they are the `Fleet`, the one typed
parameter that nodes take. Everything is checked when it is read; a bad card stops the run before any data is touched, with
a `CardError` that names the file, the card and the field.

Units are in the names: ``_kw`` kilowatts, ``_m`` metres, ``_minutes``, ``_deg`` degrees, ``_share`` a share of capacity in 0..1.
Times are UTC; ``time_zone`` is the IANA name of the zone in which a local clock or calendar is read.
"""

from __future__ import annotations

from wind_kedro.cards.base import Card, CardError, Identifier, Positive, Share
from wind_kedro.cards.calendar import Calendar
from wind_kedro.cards.dated import Steps
from wind_kedro.cards.farms import Farm, Group, Turbine
from wind_kedro.cards.fleet import Fleet
from wind_kedro.cards.markets import DayGate, Market, Penalty, RuleChange
from wind_kedro.cards.products import Product
from wind_kedro.cards.sources import LANDED_AT, TURBINE, SignalSource, Source, SourceColumn, WeatherColumn, WeatherSource
from wind_kedro.cards.units import (
    LEAD_UNITS,
    QUANTITY_UNITS,
    SHARE,
    SIGNAL_UNITS,
    UNIT_CONVERSIONS,
    WEATHER_QUANTITIES,
    WEATHER_UNITS,
    WIND_HEIGHTS_M,
)  # fmt: skip

__all__ = [
    "LANDED_AT", "LEAD_UNITS", "QUANTITY_UNITS", "SHARE", "SIGNAL_UNITS", "TURBINE", "UNIT_CONVERSIONS", "WEATHER_QUANTITIES",
    "WEATHER_UNITS", "WIND_HEIGHTS_M", "Calendar", "Card", "CardError", "DayGate", "Farm", "Fleet", "Group", "Identifier",
    "Market", "Penalty", "Positive", "Product", "RuleChange", "Share", "SignalSource", "Source", "SourceColumn", "Steps",
    "Turbine", "WeatherColumn", "WeatherSource",
]  # fmt: skip
