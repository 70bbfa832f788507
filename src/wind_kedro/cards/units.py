"""Units of signals and weather, and the conversions that a card may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Signals of a farm and the unit in which tables hold them.
SIGNAL_UNITS: Mapping[str, str] = {
    "power_kw": "kW",
    "wind_speed_ms": "m/s",
    "wind_direction_deg": "deg",
    "temperature_c": "degC",
    "pitch_deg": "deg",
}

#: Heights above ground at which a source may give wind, metres.
WIND_HEIGHTS_M = (10, 50, 80, 100, 120, 150, 200)

#: Mean radius of the Earth, km (IUGG).
EARTH_RADIUS_KM = 6371.0


def great_circle_km(latitude_deg: Any, longitude_deg: Any, other_latitude_deg: Any, other_longitude_deg: Any) -> Any:
    """Great-circle distance between places or arrays of places (haversine)."""
    import numpy as np

    north, east, other_north, other_east = map(np.radians, (latitude_deg, longitude_deg, other_latitude_deg, other_longitude_deg))
    half = np.sin((north - other_north) / 2) ** 2
    half = half + np.cos(north) * np.cos(other_north) * np.sin((east - other_east) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


#: Weather quantities, at any height, and the unit in which tables hold them.
QUANTITY_UNITS: Mapping[str, str] = {
    "wind_speed_ms": "m/s",
    "wind_direction_deg": "deg",
    "wind_u_ms": "m/s",
    "wind_v_ms": "m/s",
    "temperature_c": "degC",
    "pressure_pa": "Pa",
    "air_density_kgm3": "kg/m3",
}

#: The weather variables a run may carry, with the quantity that each is: wind at every height, the rest once.
WEATHER_QUANTITIES: Mapping[str, str] = {
    **{
        f"{stem}_{height}m_{unit}": f"{stem}_{unit}"
        for height in WIND_HEIGHTS_M
        for stem, unit in (("wind_speed", "ms"), ("wind_direction", "deg"), ("wind_u", "ms"), ("wind_v", "ms"))
    },
    "temperature_c": "temperature_c",
    "pressure_pa": "pressure_pa",
    "air_density_kgm3": "air_density_kgm3",
}

#: Weather variables of a run and the unit in which tables hold them.
WEATHER_UNITS: Mapping[str, str] = {name: QUANTITY_UNITS[quantity] for name, quantity in WEATHER_QUANTITIES.items()}

#: Unit of a signal that is given as a share of the rated power of its turbine (of a meter: of the farm's capacity).
SHARE = "share"

#: Units of lead times, in minutes.
LEAD_UNITS: Mapping[str, float] = {"min": 1.0, "h": 60.0, "s": 1 / 60}

#: How many intervals an hour has.
_PER_HOUR = {"1min": 60, "5min": 12, "10min": 6, "15min": 4, "30min": 2, "h": 1}

#: Factor and offset that convert a source's unit: value = source * factor + offset.
UNIT_CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("kW", "kW"): (1.0, 0.0),
    ("MW", "kW"): (1000.0, 0.0),
    ("W", "kW"): (0.001, 0.0),
    ("GW", "kW"): (1e6, 0.0),
    # Of rated power: a share times what is rated, turbine by turbine, which is not known here.
    (SHARE, "kW"): (1.0, 0.0),
    # Energy of one interval: its mean power.
    **{(f"kWh/{per}", "kW"): (float(count), 0.0) for per, count in _PER_HOUR.items()},
    **{(f"MWh/{per}", "kW"): (1000.0 * count, 0.0) for per, count in _PER_HOUR.items()},
    ("m/s", "m/s"): (1.0, 0.0),
    ("km/h", "m/s"): (1 / 3.6, 0.0),
    ("kn", "m/s"): (1852 / 3600, 0.0),
    ("mph", "m/s"): (0.44704, 0.0),
    ("deg", "deg"): (1.0, 0.0),
    ("rad", "deg"): (57.29577951308232, 0.0),
    ("degC", "degC"): (1.0, 0.0),
    ("K", "degC"): (1.0, -273.15),
    ("degF", "degC"): (5 / 9, -160 / 9),
    ("Pa", "Pa"): (1.0, 0.0),
    ("hPa", "Pa"): (100.0, 0.0),
    ("kg/m3", "kg/m3"): (1.0, 0.0),
}
