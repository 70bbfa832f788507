"""Which column is which signal: by its name, checked by the numbers; where names say nothing, by the numbers, and then asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wind_kedro.cards import SIGNAL_UNITS, TURBINE, UNIT_CONVERSIONS

from . import names, physics
from .findings import Findings, OnboardingError
from .layouts import Series, Table

_ENOUGH = 200
_ENERGY_UNITS = frozenset({"kWh", "MWh"})
#: A direction that never leaves this range is none of the wind, but of the wind relative to the nacelle.
_LEAST_CIRCLE_DEG = 180.0
_LEAST_PLATEAU = 0.01
_LEAST_WIND = -0.5
_THREE = 3
#: A turbine draws a few per cent of its power at the most.
_LEAST_POWER_SHARE = -0.2


@dataclass(frozen=True)
class _Named:
    """A candidate whose name speaks of a signal; ``clear`` if it says nothing else."""

    series: Series
    word: str
    clear: bool

    @property
    def statistic(self) -> str | None:
        return names.statistic_of(_bare(self.series))


def _bare(series: Series) -> str:
    return series.name.replace(TURBINE, " ")


def find_signals(table: Table, found: Findings) -> dict[str, Series]:
    """The series of each signal that is there; without power, whoever is asked must name it."""
    named, unknown = _by_name(table.series)
    chosen: dict[str, Series] = {}
    for signal in SIGNAL_UNITS:
        field = f"signals.columns.{signal}.name"
        if field in found.given:
            given = found.add(field, None, "", proven=True)
            if given is not None:
                chosen[signal] = _called(given, table)
        elif named[signal]:
            series, proven, why = _one_of(signal, named[signal])
            chosen[signal] = series
            found.add(field, series.name, why, proven=proven)
    _by_physics([one for one in unknown if all(one is not other for other in chosen.values())], chosen, found)
    if "power_kw" not in chosen:
        shown = ", ".join(f"'{one.name}'" for one in table.series) or "none"
        found.asked(
            "signals.columns.power_kw.name", None, f"no column of numbers ({shown}) is power by its name or its numbers"
        )
        return chosen
    _check_curve(chosen, found)
    _check_direction(chosen, found)
    _find_sentinels(chosen, found)
    return chosen


def _called(name: str, table: Table) -> Series:
    for one in table.series:
        if one.name == name:
            return one
    raise OnboardingError(f"no column '{name}' has numbers; found are {', '.join(one.name for one in table.series)}")


def _by_name(every: Sequence[Series]) -> tuple[dict[str, list[_Named]], list[Series]]:
    """Candidates by the signal of which their names speak, and those whose names say nothing."""
    said = {id(one): names.meaning_of(_bare(one)) for one in every}
    # What stands in all names, as the farm's own does, distinguishes none of them.
    common = set.intersection(*(set(names.words(_bare(one))) for one in every)) if len(every) >= _THREE else set()
    named: dict[str, list[_Named]] = defaultdict(list)
    unknown: list[Series] = []
    for one in every:
        meaning = said[id(one)]
        signal = meaning.signal
        unit, foreign = names.unit_of(_bare(one), one.unit_beside), names.foreign_unit(_bare(one), one.unit_beside)
        if signal is None and not meaning.word and names.says(_bare(one), names.ENERGY_WORDS):
            signal = "power_kw"
        if signal is not None and _is_of(signal, unit, foreign):
            named[signal].append(_Named(one, meaning.word, clear=not set(meaning.rest) - common))
        elif signal is None and not meaning.word and foreign is None:
            unknown.append(one)
    return named, unknown


def _is_of(signal: str, unit: str | None, foreign: str | None) -> bool:
    """Whether a unit can be one of the signal; none can."""
    if unit is None:
        return foreign is None or (signal == "power_kw" and foreign in names.SHARE_UNITS)
    return (unit, SIGNAL_UNITS[signal]) in UNIT_CONVERSIONS or (signal == "power_kw" and unit in _ENERGY_UNITS)


def _one_of(signal: str, candidates: Sequence[_Named]) -> tuple[Series, bool, str]:
    """The mean among columns that speak of one signal."""
    if len(candidates) == 1:
        one = candidates[0]
        more = "" if one.clear else ", but may say more"
        return (
            one.series,
            one.clear and one.statistic in {None, "mean"},
            f"'{one.series.name}' is {signal} by its name{more}",
        )
    means = [one for one in candidates if one.statistic == "mean"]
    plain = [one for one in candidates if one.statistic is None]
    # Of columns without a statistic and of means, those whose names say nothing more.
    rest = _clear(means) or _clear(plain) or means or plain
    if len(rest) == 1 and rest[0].clear:
        kind = "the mean by its name" if means else f"{signal} by its name"
        return rest[0].series, True, f"'{rest[0].series.name}' is {kind}, beside {len(candidates) - 1} others"
    rest = rest or list(candidates)
    # Which of the names are about the same thing decides nothing; the order of their values may.
    order = physics.ordered({one.series.name: physics.clean_rows(one.series.values) for one in rest})
    if len(order) == _THREE:  # minimum, mean, maximum
        middle = next(one.series for one in rest if one.series.name == order[1])
        return middle, False, f"'{order[1]}' always lies between '{order[0]}' and '{order[2]}'"
    longest = max(rest, key=lambda one: (one.clear, len(one.word)))
    return longest.series, False, f"{', '.join(one.series.name for one in rest)} could all be it"


def _clear(candidates: Sequence[_Named]) -> list[_Named]:
    return [one for one in candidates if one.clear]


def _by_physics(unknown: Sequence[Series], chosen: dict[str, Series], found: Findings) -> None:
    """Columns whose names say nothing: a circle is the direction; the best power curve is power over wind."""
    left = [one for one in unknown if np.isfinite(one.values).sum() > _ENOUGH]
    if "wind_direction_deg" not in chosen and "signals.columns.wind_direction_deg.name" not in found.given:
        circles = [one for one in left if physics.is_direction(one.values)]
        if circles:
            chosen["wind_direction_deg"] = circles[0]
            why = f"'{circles[0].name}' goes round a full circle; a nacelle does too"
            found.asked("signals.columns.wind_direction_deg.name", circles[0].name, why)
            left = [one for one in left if all(one is not circle for circle in circles)]
    if "power_kw" in chosen and "wind_speed_ms" in chosen:
        return
    powers = [chosen["power_kw"]] if "power_kw" in chosen else left
    winds = [chosen["wind_speed_ms"]] if "wind_speed_ms" in chosen else left
    curves = [
        (fit, power, wind) for power in powers for wind in winds if power is not wind and (fit := _curve(power, wind))
    ]
    if not curves:
        if "power_kw" not in chosen and len(left) == 1:
            chosen["power_kw"] = left[0]
            found.asked(
                "signals.columns.power_kw.name", left[0].name, f"'{left[0].name}' is the only column of numbers"
            )
        return
    _, power, wind = max(curves, key=lambda item: item[0])
    for signal, one in (("power_kw", power), ("wind_speed_ms", wind)):
        if signal not in chosen and f"signals.columns.{signal}.name" not in found.given:
            chosen[signal] = one
            found.asked(
                f"signals.columns.{signal}.name", one.name, f"'{power.name}' over '{wind.name}' is a power curve"
            )


def _curve(power: Series, wind: Series) -> float:
    """How well one follows the other, if it is a power curve. Power has a plateau over wind, wind has none over power."""
    shape = physics.power_curve(physics.clean_rows(power.values), physics.clean_rows(wind.values))
    if (
        not shape
        or shape["plateau_share"] <= _LEAST_PLATEAU
        or float(np.nanmin(physics.clean(wind.values))) <= _LEAST_WIND
    ):
        return 0.0
    return shape["correlation"]


def _check_curve(chosen: Mapping[str, Series], found: Findings) -> None:
    """Names and numbers must agree: power follows wind, or both are asked."""
    if "wind_speed_ms" not in chosen:
        return
    power, wind = (physics.clean_rows(chosen[signal].values) for signal in ("power_kw", "wind_speed_ms"))
    if physics.power_curve(power, wind) is None:
        for signal in ("power_kw", "wind_speed_ms"):
            _doubt(f"signals.columns.{signal}.name", "but power does not follow wind", found)


def _check_direction(chosen: Mapping[str, Series], found: Findings) -> None:
    """A direction goes all round in the end; one that does not is relative to the nacelle, or the sample is of one wind."""
    if "wind_direction_deg" not in chosen:
        return
    own = physics.clean(chosen["wind_direction_deg"].values)
    if own.size < _ENOUGH:
        return
    low, high = np.quantile(own, [0.001, 0.999])
    in_radians = -2.1 * np.pi <= low and high <= 2.1 * np.pi
    if high - low < (np.radians(_LEAST_CIRCLE_DEG) if in_radians else _LEAST_CIRCLE_DEG):
        why = f"but it stays between {low:.1f} and {high:.1f}: relative to the nacelle?"
        _doubt("signals.columns.wind_direction_deg.name", why, found)


def _doubt(field: str, why: str, found: Findings) -> None:
    if field in found.by_field and found.by_field[field].proven:
        found.asked(field, found.value(field), f"{found.by_field[field].evidence}, {why}")


def _find_sentinels(chosen: Mapping[str, Series], found: Findings) -> None:
    """Values that mean 'none'."""
    for signal, series in chosen.items():
        field = f"signals.sentinels.{signal}"
        sure = (
            physics.sentinels(series.values, _LEAST_POWER_SHARE)
            if signal == "power_kw"
            else physics.sentinels(series.values)
        )
        odd = physics.strange(series.values) if signal != "pitch_deg" else []
        hidden = [value for value in physics.suspects(series.values) if value not in sure]
        every = sorted({*sure, *odd, *hidden})
        if every or field in found.given:
            why = "may be measured, or mean 'none'" if hidden else "comes again and again, far outside the rest"
            found.add(field, every, why, proven=not odd and not hidden)
