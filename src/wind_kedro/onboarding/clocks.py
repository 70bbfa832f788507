"""Find the cadence of the rows, whether stamps mark the start or the end of the interval, and their clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import names
from .findings import Findings
from .layouts import Table
from .stamp_columns import Stamps
from .stamps import offset_minutes

_MOST = 0.9
_WOBBLE = 0.25
_DAY_SECONDS = 86_400
_UTC = frozenset({"Z", "UTC", "+00:00", "GMT", "+0000", "+00"})
_SUNDAY = 6


def find_cadence(table: Table, found: Findings) -> None:
    """Find the cadence: the most frequent step between consecutive rows of a turbine within a block."""
    frame = pd.DataFrame({"turbine": table.turbine, "block": table.block, "wall": table.wall}).dropna(subset=["wall"])
    frame = frame.drop_duplicates().sort_values(["turbine", "block", "wall"])
    steps = frame.groupby(["turbine", "block"])["wall"].diff().dropna().dt.total_seconds()
    steps = steps[steps > 0]
    if steps.empty:
        found.asked("signals.cadence_seconds", 600, "no turbine has two stamps")
        return
    step, count = Counter(steps.round(3)).most_common(1)[0]
    share = count / len(steps)
    whole = float(step).is_integer() and step > 0
    near = float((np.abs(steps - step) <= _WOBBLE * step).mean()) if not whole else share
    found.add(
        "signals.cadence_seconds", round(step) or 1, f"{100 * share:.1f} % of the steps from one time of a turbine to its next",
        proven=whole and share >= _MOST and near >= _MOST and _DAY_SECONDS % round(step) == 0,
    )  # fmt: skip


def find_interval_end(found: Findings, stamps: Stamps) -> None:
    """Find whether stamps mark the start or the end of the interval."""
    column = " ".join(stamps.columns)
    start, end = names.has_term(column, names.START_TERMS), names.has_term(column, names.END_TERMS)
    if stamps.reading.midnight_24:
        found.proven("signals.stamps", "interval_end", "24:00 can only be the end of an interval")
    elif start != end:
        found.proven("signals.stamps", "interval_start" if start else "interval_end", f"by the column name '{column}'")
    else:
        guess = "interval_end" if _begins_after_midnight(found, stamps) else "interval_start"
        found.asked("signals.stamps", guess, "stamps may mark the start or the end of the interval")


def _begins_after_midnight(found: Findings, stamps: Stamps) -> bool:
    """Whether days run from the first interval's end to midnight: 00:10 … 24:00."""
    walls = stamps.wall.dropna()
    if walls.empty:
        return False
    first, last = walls.min(), walls.max()
    return bool((first - first.floor("D")).total_seconds() == found.value("signals.cadence_seconds") and last == last.floor("D"))


def find_clock(table: Table, found: Findings, stamps: Stamps) -> None:
    """Find the clock of the stamps from offsets and clock changes; ask if they are inconclusive."""
    if stamps.reading.stamp_format in {"epoch_seconds", "epoch_milliseconds"}:
        found.proven("signals.clock", "as_stamped", "epoch stamps are UTC")
        return
    jumps = _changes(table)
    zones = [str(zone) for zone in table.zone.unique() if zone]
    if zones:
        _with_offsets(table, found, zones, jumps)
        return
    column = " ".join(stamps.columns)
    named_utc, named_local = names.has_term(column, names.UTC_TERMS), names.has_term(column, names.LOCAL_TERMS)
    if jumps:
        why = f"an hour is missing or repeated at clock changes: {', '.join(jumps[:2])}"
        found.add("signals.clock", "wall_clock_is_local", why, proven=not named_utc)
    elif named_utc:
        why = f"column '{column}' is UTC by its name, and no hour is missing or repeated at clock changes"
        found.proven("signals.clock", "as_stamped", why)
    else:
        why = "no offset, no UTC in the name, no hour missing or repeated: UTC, or a zone without daylight saving time"
        found.asked("signals.clock", "wall_clock_is_local" if named_local else "as_stamped", why)


def _with_offsets(table: Table, found: Findings, zones: Sequence[str], jumps: Sequence[str]) -> None:
    if len({offset_minutes(zone) for zone in zones}) > 1:
        broken = _changes(table, apply_offsets=True)
        found.add(
            "signals.clock", "wall_clock_is_utc" if broken and not jumps else "as_stamped",
            f"with the offsets applied, an hour is missing or repeated at {broken[0]}" if broken
            else "the offset changes, and instants are evenly spaced across the change",
            proven=not broken and bool(jumps),
        )  # fmt: skip
    elif set(zones) <= _UTC:
        odd = f", but an hour is missing or repeated at {jumps[0]}" if jumps else ""
        found.add("signals.clock", "as_stamped", "every stamp is marked UTC" + odd, proven=not jumps)
    else:
        found.asked(
            "signals.clock", "as_stamped", f"every stamp is marked {zones[0]}, and no clock change is available to verify it"
        )


def _changes(table: Table, *, apply_offsets: bool = False) -> list[str]:
    """Clock changes at which one hour is missing (spring) or repeated (autumn) for all turbines."""
    wall = table.wall
    if apply_offsets:
        wall = wall - pd.to_timedelta(table.zone.map(offset_minutes).fillna(0), unit="m")
    seen = pd.Series(wall.dropna().unique()).sort_values()
    if seen.empty:
        return []
    counts = wall.value_counts()
    found = []
    for year in range(seen.iloc[0].year, seen.iloc[-1].year + 1):
        for day in _change_days(year):
            hour = _odd_hour(seen, counts, day)
            if hour is not None:
                found.append(f"{hour:%Y-%m-%d %H:%M}")
    return found


def _odd_hour(seen: pd.Series[Any], counts: pd.Series[Any], day: pd.Timestamp) -> pd.Timestamp | None:
    """The single hour around a clock change that is missing or has twice the rows of the others, if there is one."""
    hours = [day + pd.Timedelta(hours=hour) for hour in range(-2, 8)]
    hour = pd.Timedelta(hours=1)
    times = [int(((seen >= at) & (seen < at + hour)).sum()) for at in hours]
    rows = [int(counts[(counts.index >= at) & (counts.index < at + hour)].sum()) for at in hours]
    if min(times[0], times[-1]) == 0:
        return None
    usual = float(np.median(rows))
    missing = [at for at, count in zip(hours, times, strict=True) if count == 0]
    double = [at for at, count in zip(hours, rows, strict=True) if count > 1.5 * usual]
    return (missing or double)[0] if len(missing) + len(double) == 1 else None


def _change_days(year: int) -> list[pd.Timestamp]:
    """Sundays of clock changes in Europe and North America."""

    def sundays(month: int) -> list[pd.Timestamp]:
        days = pd.date_range(f"{year}-{month:02d}-01", periods=pd.Timestamp(year, month, 1).days_in_month, freq="D")
        return [day for day in days if day.weekday() == _SUNDAY]

    return [sundays(3)[1], sundays(3)[-1], sundays(10)[-1], sundays(11)[0]]
