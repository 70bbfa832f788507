"""Find the unit of each signal: by name if the values are plausible, else by magnitude if only one unit fits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wind_kedro.cards import SHARE, SIGNAL_UNITS, UNIT_CONVERSIONS

from . import names, physics
from .findings import Findings
from .layouts import Series

#: Intervals (seconds) of which a card can convert energy to power.
_PER = {3600: "h", 1800: "30min", 900: "15min", 600: "10min", 300: "5min", 60: "1min"}
#: Power of a whole farm, kW.
_METER_KW = (20.0, 3e6)
#: Ranges of the maximum of a share of capacity, as a share and in per cent. Small turbines in kW have the same range.
_SHARES = ((0.9, 1.1), (90.0, 110.0))
_KELVIN = 200.0
_TEMPERATURE_C = (-60.0, 55.0)
_MAX_RADIANS = 2.1 * np.pi
_WARM_IN_FAHRENHEIT = 48.0


def find_units(chosen: Mapping[str, Series], found: Findings, *, one_meter: bool) -> None:
    """Find the unit of each chosen signal."""
    wind, half = chosen.get("wind_speed_ms"), None
    if wind is not None and "power_kw" in chosen:
        half = physics.half_power_wind(physics.clean(chosen["power_kw"].values), physics.clean(wind.values))
    for signal, series in chosen.items():
        field = f"signals.columns.{signal}.unit"
        named_unit = names.unit_of(series.bare_name, series.unit_beside)
        if physics.known(series.values).size == 0:
            found.asked(field, named_unit or SIGNAL_UNITS[signal], "the column has no values")
        elif signal == "power_kw":
            _of_power(field, named_unit, series, found, one_meter=one_meter)
        elif signal == "wind_speed_ms":
            _of_wind(field, named_unit, float("nan") if half is None else half, found)
        elif signal == "temperature_c":
            _of_temperature(field, named_unit, series, found)
        else:
            low, high = np.quantile(physics.known(series.values), [0.001, 0.999])
            # More than one turn in radians must be degrees.
            is_degrees = high > _MAX_RADIANS or low < -_MAX_RADIANS
            guess = "rad" if signal == "wind_direction_deg" and not is_degrees and high > np.pi else "deg"
            unit = named_unit if named_unit in {"deg", "rad"} else guess
            why = f"{'by name' if unit == named_unit else 'no unit in the name'}; values up to {high:.2f}"
            found.add(field, unit, why, proven=unit == "deg" if is_degrees else unit == named_unit)
    if "power_kw" not in chosen:
        found.asked("signals.columns.power_kw.unit", None, "the column is not known")


def _of_power(field: str, named_unit: str | None, series: Series, found: Findings, *, one_meter: bool) -> None:
    name = series.bare_name
    high = float(np.quantile(physics.known(series.values), 0.999))
    seen = f"values up to {high:,.4g}"
    if named_unit in {"kWh", "MWh"} or names.has_term(name, "energy"):
        _of_energy(field, named_unit, series, high, found, one_meter=one_meter)
        return
    by_size = None if one_meter else physics.power_unit(high)
    term = names.meaning_of(name).term
    is_share = names.foreign_unit(name, series.unit_beside) in names.SHARE_UNITS
    if named_unit is not None:
        low, most = _METER_KW
        plausible = low <= high * UNIT_CONVERSIONS[named_unit, "kW"][0] <= most if one_meter else by_size == named_unit
        found.add(field, named_unit, f"by name; {seen}", proven=plausible)
    elif is_share or any(low <= high <= most for low, most in _SHARES):
        if high <= _SHARES[0][1]:
            sure = is_share and high >= _SHARES[0][0]
            found.add(field, SHARE, f"{seen}: a share of capacity" + ("" if sure else "?"), proven=sure)
        else:
            found.asked(field, None, f"{seen}: per cent of capacity? Cards support shares of 0 to 1; export these, or kW")
    elif by_size is not None:
        yielded = term in names.TERMS["yield"]
        why = f"{seen}: power of one turbine in {by_size}" + (", or energy per interval" if yielded else "")
        found.add(field, by_size, why, proven=bool(term) and not yielded)
    else:
        found.asked(field, "kW" if high > 100 else "MW", f"no unit in the name; {seen}")  # noqa: PLR2004


def _of_energy(field: str, named_unit: str | None, series: Series, high: float, found: Findings, *, one_meter: bool) -> None:
    cadence = int(found.value("signals.cadence_seconds"))
    guess = f"{named_unit or 'kWh'}/{_PER[cadence]}" if cadence in _PER else None
    rising = bool(np.mean(np.diff(physics.known(series.values)[:500]) >= 0) > 0.99)  # noqa: PLR2004
    size = physics.power_unit(high * UNIT_CONVERSIONS[guess, "kW"][0]) if guess else None
    why = f"energy per interval of {cadence} s, up to {high:,.1f}" + ("; it never decreases: a counter?" if rising else "")
    is_named = guess is not None and named_unit in {"kWh", "MWh"}
    found.add(field, guess, why, proven=is_named and not rising and (one_meter or size == "kW"))


def _of_wind(field: str, named_unit: str | None, half: float, found: Findings) -> None:
    fitting = physics.wind_units(half)
    if named_unit in physics.WIND_UNITS:
        why = f"by name; half of full power is at {half:.1f} in this unit"
        found.add(field, named_unit, why, proven=bool(np.isnan(half)) or named_unit in fitting)
    elif len(fitting) == 1:
        found.proven(field, fitting[0], f"half of full power is at {half:.1f}, which fits one unit only")
    else:
        found.asked(field, "m/s", "no unit in the name, and several fit")


def _of_temperature(field: str, named_unit: str | None, series: Series, found: Findings) -> None:
    low, middle, high = (float(value) for value in np.quantile(physics.known(series.values), [0.01, 0.5, 0.99]))
    if named_unit in {"degC", "K", "degF"}:
        factor, offset = UNIT_CONVERSIONS[str(named_unit), "degC"]
        coldest, warmest = _TEMPERATURE_C
        fits = coldest <= low * factor + offset and high * factor + offset <= warmest
        sure = fits and (middle > _KELVIN) == (named_unit == "K")
        found.add(field, named_unit, f"by name; the median is {middle:.1f}", proven=sure)
    elif middle > _KELVIN:
        found.proven(field, "K", f"the median is {middle:.1f}: kelvins")
    else:
        guess = "degF" if high > _WARM_IN_FAHRENHEIT else "degC"
        found.asked(field, guess, f"no unit in the name; the median is {middle:.1f}")
