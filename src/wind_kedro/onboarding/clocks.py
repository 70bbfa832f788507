"""Find the cadence of the rows, whether stamps mark the start or the end of the interval, and their clock."""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import names
from .findings import Findings
from .layouts import Table
from .stamps import Stamps, offset_minutes

_MIN_SHARE = 0.9
_DAY_SECONDS = 86_400
_HOUR = pd.Timedelta(hours=1)
_UTC = frozenset({"Z", "UTC", "+00:00", "GMT", "+0000", "+00"})


def find_cadence(table: Table, found: Findings) -> None:
    """Find the cadence: the most frequent step between consecutive rows of a turbine within a block."""
    frame = pd.DataFrame({"turbine": table.turbine, "block": table.block, "wall": table.wall}).dropna(subset=["wall"])
    frame = frame.drop_duplicates().sort_values(["turbine", "block", "wall"])
    steps = frame.groupby(["turbine", "block"])["wall"].diff().dropna().dt.total_seconds()
    steps = steps[steps > 0]
    if steps.empty:
        found.asked("signals.cadence_seconds", 600, "no turbine has two stamps")
        return
    counts = steps.round(3).value_counts(sort=True)
    step, share = float(counts.index[0]), float(counts.iloc[0] / len(steps))
    found.add(
        "signals.cadence_seconds", round(step) or 1, f"{100 * share:.1f} % of the steps from one time of a turbine to its next",
        proven=step.is_integer() and share >= _MIN_SHARE and _DAY_SECONDS % step == 0,
    )  # fmt: skip


def find_interval_end(found: Findings, stamps: Stamps) -> None:
    """Find whether stamps mark the start or the end of the interval."""
    column = " ".join(stamps.columns)
    start, end = names.has_term(column, "start"), names.has_term(column, "end")
    if stamps.reading.midnight_24:
        found.proven("signals.stamps", "interval_end", "24:00 can only be the end of an interval")
    elif start != end:
        found.proven("signals.stamps", "interval_start" if start else "interval_end", f"by the column name '{column}'")
    else:
        first, last = stamps.wall.min(), stamps.wall.max()
        # Days that run from the first interval's end to midnight: 00:10 … 24:00.
        cadence = pd.Timedelta(seconds=found.value("signals.cadence_seconds"))
        ends = first == first.floor("D") + cadence and last == last.floor("D")
        guess = "interval_end" if ends else "interval_start"
        found.asked("signals.stamps", guess, "stamps may mark the start or the end of the interval")


def find_clock(table: Table, found: Findings, stamps: Stamps) -> None:
    """Find the clock of the stamps from offsets and clock changes; ask if they are inconclusive."""
    if stamps.reading.stamp_format in {"epoch_seconds", "epoch_milliseconds"}:
        found.proven("signals.clock", "as_stamped", "epoch stamps are UTC")
        return
    jumps = _changes(table)
    zones = [str(zone) for zone in table.zone.unique() if zone]
    column = " ".join(stamps.columns)
    reading, proven = "as_stamped", False
    if len({offset_minutes(zone) for zone in zones}) > 1:
        broken = _changes(table, apply_offsets=True)
        reading, proven = "wall_clock_is_utc" if broken and not jumps else "as_stamped", not broken and bool(jumps)
        why = "the offset changes, and instants are evenly spaced across the change"
        if broken:
            why = f"with the offsets applied, an hour is missing or repeated at {broken[0]}"
    elif zones and set(zones) <= _UTC:
        proven, odd = not jumps, f", but an hour is missing or repeated at {jumps[0]}" if jumps else ""
        why = f"every stamp is marked UTC{odd}"
    elif zones:
        why = f"every stamp is marked {zones[0]}, and no clock change is available to verify it"
    elif jumps:
        reading, proven = "wall_clock_is_local", not names.has_term(column, "utc")
        why = f"an hour is missing or repeated at clock changes: {', '.join(jumps[:2])}"
    elif names.has_term(column, "utc"):
        proven, why = True, f"column '{column}' is UTC by its name, and no hour is missing or repeated at clock changes"
    else:
        reading = "wall_clock_is_local" if names.has_term(column, "local") else "as_stamped"
        why = "no offset, no UTC in the name, no hour missing or repeated: UTC, or a zone without daylight saving time"
    found.add("signals.clock", reading, why, proven=proven)


def _changes(table: Table, *, apply_offsets: bool = False) -> list[str]:
    """Clock changes (Europe, North America) at which one hour is missing (spring) or repeated (autumn) for all turbines."""
    wall = table.wall
    if apply_offsets:
        wall = wall - pd.to_timedelta(table.zone.map(offset_minutes).fillna(0), unit="m")
    rows = wall.dropna().dt.floor("h").value_counts()
    found = []
    for year in sorted({at.year for at in rows.index}):
        march, october, november = (
            pd.date_range(f"{year}-{month:02d}-01", f"{year}-{month:02d}-{last}", freq="W-SUN")
            for month, last in ((3, 31), (10, 31), (11, 30))
        )
        for day in (march[1], march[-1], october[-1], november[0]):
            hours = [day + hour * _HOUR for hour in range(-2, 8)]
            counts = [int(rows.get(at, 0)) for at in hours]
            if not min(counts[0], counts[-1]):
                continue
            usual = float(np.median(counts))
            missing = [at for at, count in zip(hours, counts, strict=True) if count == 0]
            double = [at for at, count in zip(hours, counts, strict=True) if count > 1.5 * usual]
            if len(missing) + len(double) == 1:
                found.append(f"{(missing or double)[0]:%Y-%m-%d %H:%M}")
    return found
