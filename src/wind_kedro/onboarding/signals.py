"""Assign columns to signals by name and check them against the values. The user has to name other columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS

from . import names, physics
from .findings import Findings, OnboardingError
from .layouts import Series, Table

_MIN_ROWS = 200
#: Minimum number of columns whose common tokens are taken for the farm's name.
_MIN_COMMON = 3
_ENERGY_UNITS = frozenset({"kWh", "MWh"})
#: A direction within a smaller range is taken as relative to the nacelle.
_MIN_CIRCLE_DEG = 180.0
#: A turbine's own consumption is a few per cent of its power at most.
_MIN_POWER_SHARE = -0.2


@dataclass(frozen=True)
class _Named:
    """A candidate named after a signal; ``clear`` if its name has no unexplained tokens."""

    series: Series
    term: str
    clear: bool

    @property
    def statistic(self) -> str | None:
        return names.statistic_of(self.series.bare_name)


def find_signals(table: Table, found: Findings) -> dict[str, Series]:
    """Find the series of each signal; a missing column of power is asked for."""
    named = _by_name(table.series)
    chosen: dict[str, Series] = {}
    for signal in SIGNAL_UNITS:
        field = f"signals.columns.{signal}.name"
        if field in found.given:
            given = found.proven(field, None, "")
            by_name = {one.name: one for one in table.series}
            if given is not None and given not in by_name:
                raise OnboardingError(f"no column '{given}' has numbers; columns are {', '.join(by_name)}")
            if given is not None:
                chosen[signal] = by_name[given]
        elif named[signal]:
            chosen[signal], proven, why = _choose(signal, named[signal])
            found.add(field, chosen[signal].name, why, proven=proven)
    if "power_kw" not in chosen:
        shown = ", ".join(f"'{one.name}'" for one in table.series) or "none"
        found.asked("signals.columns.power_kw.name", None, f"no column of numbers ({shown}) is named as power")
        return chosen
    _check_values(chosen, found)
    _find_sentinels(chosen, found)
    return chosen


def _by_name(every: Sequence[Series]) -> dict[str, list[_Named]]:
    """Candidates by signal, from their names; a unit of another signal excludes one, a missing unit does not."""
    # Tokens common to all names, such as the farm's name, do not distinguish them.
    common = set.intersection(*(set(names.tokens(one.bare_name)) for one in every)) if len(every) >= _MIN_COMMON else set()
    named: dict[str, list[_Named]] = defaultdict(list)
    for one in every:
        meaning = names.meaning_of(one.bare_name)
        signal = meaning.signal
        unit, foreign = names.unit_of(one.bare_name, one.unit_beside), names.foreign_unit(one.bare_name, one.unit_beside)
        if signal is None and not meaning.term and names.has_term(one.bare_name, "energy"):
            signal = "power_kw"
        if signal is None:
            continue
        is_power = signal == "power_kw"
        if unit is None:
            fits = foreign is None or (is_power and foreign in names.SHARE_UNITS)
        else:
            fits = (unit, SIGNAL_UNITS[signal]) in UNIT_CONVERSIONS or (is_power and unit in _ENERGY_UNITS)
        if fits:
            named[signal].append(_Named(one, meaning.term, clear=not set(meaning.unexplained) - common))
    return named


def _choose(signal: str, candidates: Sequence[_Named]) -> tuple[Series, bool, str]:
    """Choose among the candidates for one signal, the mean first."""
    if len(candidates) == 1:
        one = candidates[0]
        more = "" if one.clear else ", but the name has other parts"
        return one.series, one.clear and one.statistic in {None, "mean"}, f"'{one.series.name}' is {signal} by its name{more}"
    means = [one for one in candidates if one.statistic == "mean"]
    plain = [one for one in candidates if one.statistic is None]
    # Prefer names without unexplained tokens, then means, then names without a statistic.
    clear_means, clear_plain = ([one for one in some if one.clear] for some in (means, plain))
    rest = clear_means or clear_plain or means or plain or list(candidates)
    if len(rest) == 1 and rest[0].clear and (means or plain):
        kind = "the mean by its name" if means else f"{signal} by its name"
        return rest[0].series, True, f"'{rest[0].series.name}' is {kind}, beside {len(candidates) - 1} others"
    longest = max(rest, key=lambda one: (one.clear, len(one.term)))
    return longest.series, False, f"{', '.join(one.series.name for one in rest)} are all candidates"


def _check_values(chosen: Mapping[str, Series], found: Findings) -> None:
    """Ask for power and wind speed if power does not follow wind, and for a direction that does not cover the circle."""

    def doubt(signal: str, why: str) -> None:
        finding = found.by_field.get(f"signals.columns.{signal}.name")
        if finding is not None and finding.proven:
            found.asked(finding.field, finding.value, f"{finding.evidence}, {why}")

    if "wind_speed_ms" in chosen:
        power, wind = (physics.clean(chosen[signal].values) for signal in ("power_kw", "wind_speed_ms"))
        if physics.half_power_wind(power, wind) is None:
            doubt("power_kw", "but power does not follow wind")
            doubt("wind_speed_ms", "but power does not follow wind")
    if "wind_direction_deg" in chosen:
        own = physics.known(chosen["wind_direction_deg"].values)
        if own.size < _MIN_ROWS:
            return
        low, high = np.quantile(own, [0.001, 0.999])
        in_radians = -2.1 * np.pi <= low and high <= 2.1 * np.pi
        if high - low < (np.radians(_MIN_CIRCLE_DEG) if in_radians else _MIN_CIRCLE_DEG):
            doubt("wind_direction_deg", f"but it stays between {low:.1f} and {high:.1f}: relative to the nacelle?")


def _find_sentinels(chosen: Mapping[str, Series], found: Findings) -> None:
    """Find values that mark missing data."""
    for signal, series in chosen.items():
        field = f"signals.sentinels.{signal}"
        min_share = _MIN_POWER_SHARE if signal == "power_kw" else -np.inf
        sure, doubtful, strange = physics.missing_marks(series.values, min_share)
        odd = strange if signal != "pitch_deg" else []
        every = sorted({*sure, *odd, *doubtful})
        if every or field in found.given:
            why = "may be measured, or mark missing data" if doubtful else "repeated values far outside the range of the rest"
            found.add(field, every, why, proven=not odd and not doubtful)
