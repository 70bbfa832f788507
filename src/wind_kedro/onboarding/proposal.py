"""Propose every field of a farm's card from the files of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wind_kedro.cards import TURBINE

from .clocks import find_cadence, find_clock, find_interval_end
from .findings import Findings
from .layouts import Table, lay_out
from .sample import Sample, decimal_marks, read_sample
from .signals import find_signals
from .stamps import Stamps, read_stamps
from .turbines import find_turbines
from .units import find_units

#: Fields that no export contains.
_NOT_IN_EXPORT = ("id", "name", "latitude_deg", "longitude_deg", "time_zone", "hub_height_m")


def propose(files: Sequence[Path], given: Mapping[str, Any] | None = None) -> Findings:
    """Propose the fields of a farm's card from its export.

    Args:
        files: one export: a file, or files of one kind.
        given: known fields by their path; fields that depend on them are derived from them.

    Returns:
        Fields of the farm's card by their path (``signals.separator``, ``turbines``, ``capacity_kw``, …).

    Raises:
        OnboardingError: if the files cannot be interpreted.
    """
    sample = read_sample(files, given or {})
    found = sample.findings
    marks = decimal_marks(sample)
    stamps = read_stamps(sample, found)
    table = lay_out(sample, found, stamps, *marks)
    find_cadence(table, found)
    find_interval_end(found, stamps)
    find_clock(table, found, stamps)
    found.proven("newest_stamp", f"{stamps.wall.max():%Y-%m-%dT%H:%M:%S}", "the latest stamp of the sample")
    chosen = find_signals(table, found)
    find_units(chosen, found, one_meter=table.one_meter)
    find_turbines(table, chosen.get("power_kw"), found)
    found.unused = _unused(sample, table, [one.name for one in chosen.values()], found, stamps)
    for name in _NOT_IN_EXPORT:
        found.asked(name, None, "not part of an export")
    if found.value("signals.received_at"):
        found.proven("latency_minutes", 0, "the rows carry their time of arrival")
    else:
        found.asked("latency_minutes", 10, "an export has no time of arrival; ten minutes are common for feeds")
    for name in found.given:
        if name not in found.by_field:
            found.proven(name, found.given[name], "given")
    return found


def _unused(sample: Sample, table: Table, chosen: Sequence[str], found: Findings, stamps: Stamps) -> list[str]:
    """Columns, and tags of a long export, that the card does not use."""
    named = {found.value(f"signals.{name}") for name in ("turbine", "signal", "value", "quality", "received_at")}
    every = [name for name in dict.fromkeys(sample.header) if name and name not in named and name not in stamps.columns]
    if found.value("signals.layout") == "long":
        every = [*every, *(one.name for one in table.series)]
    turbines = found.value("turbines") or []
    read = {name.replace(TURBINE, turbine) for name in chosen for turbine in [TURBINE, *turbines]}
    return list(dict.fromkeys(_as_on_a_card(name, sample.header, turbines) for name in every if name not in read))


def _as_on_a_card(name: str, header: Sequence[str], turbines: Sequence[str]) -> str:
    """The card's name of a column of a wide export: one template for all turbines, if each turbine has the column."""
    for turbine in turbines:
        template = name.replace(turbine, TURBINE, 1)
        if template != name and len(turbines) > 1 and all(template.replace(TURBINE, other) in header for other in turbines):
            return template
    return name
