"""Assign columns to signals by name and check them against the values. The user has to name other columns."""

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
#: A direction within a smaller range is taken as relative to the nacelle.
_LEAST_CIRCLE_DEG = 180.0
_THREE = 3
#: A turbine's own consumption is a few per cent of its power at most.
_LEAST_POWER_SHARE = -0.2


@dataclass(frozen=True)
class _Named:
    """A candidate named after a signal; ``clear`` if its name has no unexplained tokens."""

    series: Series
    term: str
    clear: bool

    @property
    def statistic(self) -> str | None:
        return names.statistic_of(_bare(self.series))


def _bare(series: Series) -> str:
    return series.name.replace(TURBINE, " ")


def find_signals(table: Table, found: Findings) -> dict[str, Series]:
    """Find the series of each signal; a missing column of power is asked for."""
    named = _by_name(table.series)
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
    if "power_kw" not in chosen:
        shown = ", ".join(f"'{one.name}'" for one in table.series) or "none"
        found.asked("signals.columns.power_kw.name", None, f"no column of numbers ({shown}) is named as power")
        return chosen
    _check_curve(chosen, found)
    _check_direction(chosen, found)
    _find_sentinels(chosen, found)
    return chosen


def _called(name: str, table: Table) -> Series:
    for one in table.series:
        if one.name == name:
            return one
    raise OnboardingError(f"no column '{name}' has numbers; columns are {', '.join(one.name for one in table.series)}")


def _by_name(every: Sequence[Series]) -> dict[str, list[_Named]]:
    """Candidates by signal, from their names."""
    meanings = {id(one): names.meaning_of(_bare(one)) for one in every}
    # Tokens common to all names, such as the farm's name, do not distinguish them.
    common = set.intersection(*(set(names.tokens(_bare(one))) for one in every)) if len(every) >= _THREE else set()
    named: dict[str, list[_Named]] = defaultdict(list)
    for one in every:
        meaning = meanings[id(one)]
        signal = meaning.signal
        unit, foreign = names.unit_of(_bare(one), one.unit_beside), names.foreign_unit(_bare(one), one.unit_beside)
        if signal is None and not meaning.term and names.has_term(_bare(one), names.ENERGY_TERMS):
            signal = "power_kw"
        if signal is not None and _is_of(signal, unit, foreign):
            named[signal].append(_Named(one, meaning.term, clear=not set(meaning.unexplained) - common))
    return named


def _is_of(signal: str, unit: str | None, foreign: str | None) -> bool:
    """Whether a unit is one of the signal; a missing unit is accepted."""
    if unit is None:
        return foreign is None or (signal == "power_kw" and foreign in names.SHARE_UNITS)
    return (unit, SIGNAL_UNITS[signal]) in UNIT_CONVERSIONS or (signal == "power_kw" and unit in _ENERGY_UNITS)


def _one_of(signal: str, candidates: Sequence[_Named]) -> tuple[Series, bool, str]:
    """Choose among the candidates for one signal, the mean first."""
    if len(candidates) == 1:
        one = candidates[0]
        more = "" if one.clear else ", but the name has other parts"
        return (one.series, one.clear and one.statistic in {None, "mean"}, f"'{one.series.name}' is {signal} by its name{more}")
    means = [one for one in candidates if one.statistic == "mean"]
    plain = [one for one in candidates if one.statistic is None]
    # Prefer names without unexplained tokens, then means, then names without a statistic.
    rest = _clear(means) or _clear(plain) or means or plain
    if len(rest) == 1 and rest[0].clear:
        kind = "the mean by its name" if means else f"{signal} by its name"
        return rest[0].series, True, f"'{rest[0].series.name}' is {kind}, beside {len(candidates) - 1} others"
    rest = rest or list(candidates)
    longest = max(rest, key=lambda one: (one.clear, len(one.term)))
    return longest.series, False, f"{', '.join(one.series.name for one in rest)} are all candidates"


def _clear(candidates: Sequence[_Named]) -> list[_Named]:
    return [one for one in candidates if one.clear]


def _check_curve(chosen: Mapping[str, Series], found: Findings) -> None:
    """Ask for power and wind speed if power does not follow wind."""
    if "wind_speed_ms" not in chosen:
        return
    power, wind = (physics.clean_rows(chosen[signal].values) for signal in ("power_kw", "wind_speed_ms"))
    if physics.power_curve(power, wind) is None:
        for signal in ("power_kw", "wind_speed_ms"):
            _doubt(f"signals.columns.{signal}.name", "but power does not follow wind", found)


def _check_direction(chosen: Mapping[str, Series], found: Findings) -> None:
    """Ask for a direction that does not cover the circle: it may be relative to the nacelle."""
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
    """Find values that mark missing data."""
    for signal, series in chosen.items():
        field = f"signals.sentinels.{signal}"
        sure = physics.sentinels(series.values, _LEAST_POWER_SHARE) if signal == "power_kw" else physics.sentinels(series.values)
        odd = physics.strange(series.values) if signal != "pitch_deg" else []
        hidden = [value for value in physics.suspects(series.values) if value not in sure]
        every = sorted({*sure, *odd, *hidden})
        if every or field in found.given:
            why = "may be measured, or mark missing data" if hidden else "repeated values far outside the range of the rest"
            found.add(field, every, why, proven=not odd and not hidden)
