# ruff: noqa: E501 - messages read better whole
"""Whether `wind-kedro add-farm` reads exports in any dress: every field right or asked, none silently wrong.

One made farm, whose truth is known, is exported in many dresses: those that people wrote down, and dresses drawn by chance from
all that dresses differ in, so that generality is tested on exports that nobody looked at. Each field of the proposed card
is compared with the truth.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exports import DRESSES, NO_UNITS, RATED_KW, Dress, drawn, export
from record import record
from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS
from wind_kedro.onboarding import Findings, OnboardingError, propose

DRAWN = 40

# --- the truth of a card, and how a proposal compares --------------------------------------------------------------------


def _truths(dress: Dress) -> Iterator[tuple[str, Any]]:
    yield "signals.format", dress.format
    if dress.format == "csv":
        yield "signals.encoding", dress.encoding
        yield "signals.separator", dress.separator
        yield "signals.decimal", dress.decimal
        yield "signals.thousands", dress.thousands
    if dress.format == "excel":
        yield "signals.sheet", "Data" if dress.other_sheets else None
    if dress.format != "parquet":
        yield "signals.skip_rows", len(dress.title)
        yield "signals.units_rows", int(dress.units_row is not None)
        yield "signals.footer_rows", len(dress.footer)
    yield "signals.layout", dress.layout
    yield "signals.timestamp", dress.stamp
    yield "signals.time_of_day", dress.time_of_day
    yield "signals.stamp_format", dress.stamp_format
    yield "signals.turbine", None if dress.layout == "wide" else dress.turbine
    yield "signals.cadence_seconds", dress.cadence
    yield "signals.stamps", "interval_end" if dress.ends else "interval_start"
    yield "signals.clock", {"utc": "as_stamped", "local": "wall_clock_is_local", "offset": "as_stamped", "false_offset": "wall_clock_is_utc"}[dress.clock]  # fmt: skip
    if dress.layout == "long":
        yield "signals.signal", "Tag"
        yield "signals.value", "Value"
        yield "signals.quality", "Quality" if dress.quality else None
    if dress.per_file:
        yield "signals.turbine_in_file", None
    for signal, name in dress.names.items():
        yield f"signals.columns.{signal}.name", name
        yield f"signals.columns.{signal}.unit", dress.units.get(signal, SIGNAL_UNITS[signal])
        yield f"signals.sentinels.{signal}", [dress.sentinel[signal]] if signal in dress.sentinel else None
    for signal in SIGNAL_UNITS:
        if signal not in dress.names:  # a decoy must not pass for it
            yield f"signals.columns.{signal}.name", None
    yield "signals.received_at", dress.received
    yield "turbines", None if dress.meter else sorted(dress.ids)
    yield "capacity_kw", RATED_KW * len(dress.ids)


def _agrees(name: str, value: Any, true: Any, dress: Dress) -> bool:
    """Whether a proven field is the truth, or says the same in other words."""
    compare = _SAME.get("signals.sentinels" if name.startswith("signals.sentinels.") else name)
    return bool(value == true if compare is None else compare(value, true, dress))


def _same_encoding(value: Any, true: Any, dress: Dress) -> bool:
    # Code pages that read this file alike are the same answer.
    plain = "".join([*dress.names.values(), *dress.title]).isascii()
    return {"utf-8-sig": "utf-8"}.get(true, true) == value or (plain and {true, value} <= {"utf-8", "cp1252"})


def _same_stamp_format(value: Any, true: Any, dress: Dress) -> bool:
    same = {"iso_z": None, "iso_short": None, "%Y-%m-%d %H:%M:%S": None}
    return same.get(true, true) == same.get(value, value) or (dress.format == "excel" and value is None)


def _same_capacity(value: Any, true: Any, dress: Dress) -> bool:
    del dress
    return value is not None and abs(float(value) - float(true)) <= 0.01 * float(true)


def _same_turbines(value: Any, true: Any, dress: Dress) -> bool:
    # A file's name has the turbine's in it: WTGT01 is as good a name of T01.
    del dress
    return len(value) == len(true) and all(one.endswith(own) for one, own in zip(sorted(value), true, strict=True))


def _same_sentinels(value: Any, true: Any, dress: Dress) -> bool:
    del dress
    return bool(value == true or (value and true and len(value) == len(true) and np.allclose(sorted(value), sorted(true))))


_SAME: Mapping[str, Callable[[Any, Any, Dress], bool]] = {
    "signals.encoding": _same_encoding,
    "signals.stamp_format": _same_stamp_format,
    "capacity_kw": _same_capacity,
    "turbines": _same_turbines,
    "signals.sentinels": _same_sentinels,
}


def judge(dress: Dress, found: Findings | str) -> list[dict[str, str]]:
    """One row per field of the export: right, asked or wrong.

    Args:
        dress: the export.
        found: what was found, or the message with which it was refused.
    """
    if isinstance(found, str) or dress.refused:
        right = isinstance(found, str) and dress.refused is not None and dress.refused in found
        return [{"export": dress.id, "field": "refused, with the reason", "outcome": "right" if right else "wrong"}]
    return [{"export": dress.id, "field": name, "outcome": _outcome(name, true, found, dress)} for name, true in _truths(dress)]


def _outcome(name: str, true: Any, found: Findings, dress: Dress) -> str:
    finding = found.by_field.get(name)
    if finding is None:
        # What is not on the card is not assumed: a signal whose column was not found is asked for by its absence.
        signal = name.split(".")[2] if name.startswith(("signals.columns.", "signals.sentinels.")) else None
        if true and signal is not None and f"signals.columns.{signal}.name" not in found.by_field:
            return "asked"
        return "wrong" if true else "right"
    if not finding.proven:
        return "asked"
    return "right" if _is_right(name, finding.value, true, found, dress) else "wrong"


def _is_right(name: str, value: Any, true: Any, found: Findings, dress: Dress) -> bool:
    if name == "signals.turbine_in_file":
        return "{turbine}" in str(value)
    in_names = dress.layout == "wide" or (dress.layout == "long" and dress.turbine is None)
    if in_names and (name == "turbines" or (name.endswith(".name") and true)):
        return _same_columns(name, found, dress)
    if name == "signals.thousands" and value is None:
        return not dress.thousands or not _grouped(dress)
    return _agrees(name, value, true, dress)


def _same_columns(name: str, found: Findings, dress: Dress) -> bool:
    """With turbines in names: the same columns or tags; 'Eolienne 1' is as good a name of a turbine as '1'."""
    signals = [name.split(".")[2]] if name.endswith(".name") else ["power_kw"]
    ids = found.value("turbines")
    return all(
        {str(found.value(f"signals.columns.{signal}.name")).replace("{turbine}", one) for one in ids}
        == {dress.names[signal].replace("{turbine}", one) for one in dress.ids}
        for signal in signals
    )


def _grouped(dress: Dress) -> bool:
    """Whether any number of an export is long enough to be grouped."""
    unit = dress.units.get("power_kw", "kW")
    return unit not in NO_UNITS and 2000 / UNIT_CONVERSIONS[unit, "kW"][0] >= 1000


def proof(dresses: tuple[Dress, ...], folder: Path, seed: int = 7) -> pd.DataFrame:
    """Export, propose, compare."""
    rows = []
    for dress in dresses:
        files = export(dress, folder / dress.id, seed)
        try:
            found: Findings | str = propose(files)
        except OnboardingError as error:
            found = str(error)
        for row in judge(dress, found):
            if row["outcome"] == "wrong":
                print(f"{dress.id}: {row['field']}: {_shown(found, row['field'])}")
            rows.append(row)
    return pd.DataFrame(rows)


def _shown(found: Findings | str, name: str) -> str:
    finding = None if isinstance(found, str) else found.by_field.get(name)
    return str(found) if isinstance(found, str) else f"{finding.value!r} ({finding.evidence})" if finding else "not found"


def main() -> int:
    """Run the proof; 1 if any field is silently wrong."""
    with tempfile.TemporaryDirectory() as folder:
        table = proof((*DRESSES, *(drawn(seed) for seed in range(DRAWN))), Path(folder))
    counts = table.groupby([table["export"].str.startswith("drawn"), "outcome"]).size()
    record("proof-onboarding", table)
    print(counts.to_string())
    return int((table["outcome"] == "wrong").any())


if __name__ == "__main__":
    sys.exit(main())
