# ruff: noqa: E501 - long messages
"""Find the one or two columns of stamps of an export, and the order of day and month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import pandas as pd

from . import names
from .findings import Findings, OnboardingError
from .sample import Sample
from .stamps import Reading, parse, readings, rollovers

_MAX_STRAY_ROLLOVERS = 0.2


@dataclass
class Stamps:
    """Stamps of the rows of a sample.

    Attributes:
        columns: one column, or the columns of date and time.
        reading: their format.
        wall: as written, without zone; NaT if invalid.
        zone: zone or offset written after them.
    """

    columns: list[str]
    reading: Reading
    wall: pd.Series[Any]
    zone: pd.Series[Any]


def read_stamps(sample: Sample, found: Findings) -> Stamps:
    """Find and parse the stamps.

    Raises:
        OnboardingError: if no column has stamps.
    """
    whole, dates, times = _candidates(sample)
    received = [name for name in whole if names.has_term(name, names.RECEIVED_TERMS)]
    if received and len(whole) > len(received):
        found.proven("signals.received_at", received[0], f"'{received[0]}' is the time of arrival by its name")
        whole = {name: ways for name, ways in whole.items() if name not in received}
    if not whole and dates and times:
        alone = len(dates) == len(times) == 1
        where = f"'{next(iter(dates))}' is the date and '{times[0]}' the time"
        date = _of(sample, found.add("signals.timestamp", next(iter(dates)), where, proven=alone))
        time = _of(sample, found.add("signals.time_of_day", times[0], where, proven=alone))
        cells = [f"{a} {b}" for a, b in zip(sample.column(date), sample.column(time), strict=True)]
        return _read(sample, found, [date, time], cells, readings(cells))
    # Spreadsheets show midnight as a date only.
    whole = whole or dates
    if not whole:
        raise OnboardingError(f"{sample.files[0]}: none of its columns ({', '.join(sample.header)}) is a valid time stamp")
    chosen, proven, why = _one_stamp(list(whole))
    chosen = _of(sample, found.add("signals.timestamp", chosen, why, proven=proven))
    return _read(sample, found, [chosen], sample.column(chosen), whole.get(chosen) or readings(sample.column(chosen)))


def _of(sample: Sample, column: str) -> str:
    if column not in sample.header:
        raise OnboardingError(f"{sample.files[0]}: no column '{column}'; columns are {', '.join(sample.header)}")
    return column


def _candidates(sample: Sample) -> tuple[dict[str, list[Reading]], dict[str, list[Reading]], list[str]]:
    """Columns of stamps, of dates, and of times of day."""
    whole: dict[str, list[Reading]] = {}
    dates: dict[str, list[Reading]] = {}
    times: list[str] = []
    for name in dict.fromkeys(sample.header):
        ways = readings(sample.column(name))
        if ways and all(way.has_date and way.has_time for way in ways):
            whole[name] = ways
        elif ways and all(way.has_date for way in ways):
            dates[name] = ways
        elif ways and not ways[0].has_date:
            times.append(name)
    return whole, dates, times


def _one_stamp(columns: Sequence[str]) -> tuple[str, bool, str]:
    """Choose among columns of stamps: the start of the interval, or the one in UTC."""
    if len(columns) == 1:
        return columns[0], True, f"'{columns[0]}' is the only column of stamps"
    starts = [name for name in columns if names.has_term(name, names.FROM_TERMS)]
    ends = [name for name in columns if names.has_term(name, names.TO_TERMS)]
    if len(columns) == 2 and len(starts) == 1 and len(ends) == 1 and starts != ends:  # noqa: PLR2004
        return starts[0], True, f"'{starts[0]}' and '{ends[0]}' are start and end of the interval"
    utc = [name for name in columns if names.has_term(name, names.UTC_TERMS)]
    alone = len(utc) == 1
    why = f"of the stamps {', '.join(columns)}" + (" one is UTC by its name" if alone else "")
    return (utc[0] if alone else columns[0]), alone, why


def _read(sample: Sample, found: Findings, columns: list[str], cells: list[str], ways: list[Reading]) -> Stamps:
    """Parse the stamps; of several orders of day and month, choose the one in which dates are consecutive."""
    if not ways:
        first = next((cell for cell in cells if cell), "")
        raise OnboardingError(f"{sample.files[0]}: the stamps in '{columns[0]}' cannot be parsed, such as {first!r}")
    read = {way.order: parse(cells, way) for way in ways}
    chosen, proven, why = _order(ways, read, [0, *accumulate(map(len, sample.blocks))])
    own = found.add("signals.stamp_format", chosen.stamp_format, why, proven=proven)
    if own != chosen.stamp_format:
        chosen = next((way for way in ways if way.stamp_format == own), replace(chosen, stamp_format=own, order="given"))
    frame = read[chosen.order] if chosen.order in read else parse(cells, chosen)
    if not chosen.has_time:
        _only_dates(sample, columns[0], frame["wall"])
    return Stamps(columns, chosen, frame["wall"], frame["zone"])


def _order(ways: Sequence[Reading], read: Mapping[str, pd.DataFrame], edges: Sequence[int]) -> tuple[Reading, bool, str]:
    if len(ways) == 1:
        own, order = ways[0].stamp_format, ways[0].order
        why = f"only {order or own} gives valid dates"
        return ways[0], True, "ISO 8601" if own is None else why
    counts = {
        way.order: rollovers([read[way.order]["wall"].iloc[a:b] for a, b in pairwise(edges)]) for way in ways
    }  # fmt: skip
    fits = [
        way for way in ways if counts[way.order][0] > 1 and counts[way.order][1] <= _MAX_STRAY_ROLLOVERS * counts[way.order][0]
    ]
    if len(fits) == 1:
        return fits[0], True, f"read as {fits[0].order}, {counts[fits[0].order][0]} dates follow the previous day"
    guess = fits[0] if fits else next((way for way in ways if way.order == "DMY"), ways[0])
    return guess, False, f"{' and '.join(way.order for way in ways)} both give valid dates"


def _only_dates(sample: Sample, column: str, wall: pd.Series[Any]) -> None:
    """Raise if dates without times have many rows each."""
    days = wall.nunique()
    if days and len(wall) / days > 10 * max(1, len(sample.files)):  # more than turbines alone would make
        raise OnboardingError(
            f"{sample.files[0]}: '{column}' has dates only, {len(wall) / days:.0f} rows of each, and no column has valid times of day "
            "(such as 13:00); export date and time"
        )
