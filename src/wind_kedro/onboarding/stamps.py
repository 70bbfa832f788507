"""Find the one or two columns of time stamps, their format in any locale, and parse them."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import names
from .findings import Findings, OnboardingError

if TYPE_CHECKING:
    from .sample import Sample

#: Zone abbreviations after stamps, as `SourceTable` reads them, and their minutes east of UTC.
_ZONE_MINUTES = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "MEZ": 60, "MESZ": 120, "EET": 120, "EEST": 180,
    "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
}  # fmt: skip
_DATE = (
    r"(?P<date>\d{4}(?P<s1>[./-])\d{1,2}(?P=s1)\d{1,2}|\d{1,2}(?P<s2>[./-])\d{1,2}(?P=s2)(?:\d{4}|\d{2})|\d{8}"
    r"|\d{1,2}(?P<s3>[ -])[A-Za-z]{3}(?P=s3)\d{4})"
)
_HALF = r" ?[AaPp]\.? ?[Mm]\.?"
_TIME = rf"(?P<time>\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?)(?P<half>{_HALF})?"
_OFFSET = rf"Z|[+-]\d{{2}}(?::?\d{{2}})?|{'|'.join(_ZONE_MINUTES)}"
_STAMP = re.compile(rf"^(?:{_DATE})?(?P<between>[T ,_]*)(?:{_TIME})? *(?P<zone>{_OFFSET})?$")
_COMPACT = re.compile(r"^(20\d{2})(0[1-9]|1[0-2])([0-2]\d|3[01])([T _]?)([01]\d|2[0-4])([0-5]\d)([0-5]\d)?$")
_EARLIEST, _LATEST = dt.datetime(1995, 1, 1), dt.datetime(2045, 1, 1)  # noqa: DTZ001 - wall clocks
#: Numbers that are stamps: milliseconds per unit, and the range of these years; Excel counts days since 1899-12-30.
_EPOCH_S = (_EARLIEST.timestamp(), _LATEST.timestamp())
_NUMERIC = {
    "epoch_seconds": (1e3, *_EPOCH_S),
    "epoch_milliseconds": (1.0, *(1e3 * limit for limit in _EPOCH_S)),
    "excel": (86_400_000.0, 34700.0, 53000.0),
}
#: Orders of day, month and year by the position of the year.
_YEAR_FIRST, _YEAR_LAST = {"YMD": "%Y{0}%m{0}%d"}, {"DMY": "%d{0}%m{0}%Y", "MDY": "%m{0}%d{0}%Y"}
_SHORT_YEAR = {"DMY": "%d{0}%m{0}%y", "MDY": "%m{0}%d{0}%y", "YMD": "%y{0}%m{0}%d"}
_ENOUGH_SHARE = 0.97
_MAX_STRAY_ROLLOVERS = 0.2
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Reading:
    """A candidate format of a column of stamps.

    Attributes:
        stamp_format: as on the card; none for ISO 8601.
        order: ``YMD``, ``DMY``, ``MDY`` or ``""`` for numbers.
        has_date: whether stamps have a date.
        has_time: whether stamps have a time of day.
        midnight_24: whether 24:00 occurs.
    """

    stamp_format: str | None
    order: str
    has_date: bool = True
    has_time: bool = True
    midnight_24: bool = False


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


def looks_like_stamp(cell: str) -> bool:
    """Whether a cell is a date, or a date and time, in a common format."""
    found = _STAMP.match(cell)
    return bool(found and found["date"]) or bool(_COMPACT.match(cell))


# --- formats ---------------------------------------------------------------------------------------------------------


def readings(cells: Sequence[str]) -> list[Reading]:
    """All formats that parse a column as stamps, allowing a few invalid cells, which are quarantined later."""
    filled = [cell for cell in cells if cell]
    some = filled[:: max(1, len(filled) // 4000)]
    if not some or (numeric := _numeric(some)):
        return numeric if some else []
    matches = [found for cell in some if (found := _STAMP.match(cell)) and (found["date"] or found["time"])]
    if len(matches) < _ENOUGH_SHARE * len(some):
        return []
    has_date, has_time = (sum(found[part] is not None for found in matches) > len(matches) / 2 for part in ("date", "time"))
    late = any((found["time"] or "").startswith("24:00") for found in matches)
    halves = [found["half"] for found in matches if found["half"]]
    time = _time_format([found["time"] or "" for found in matches], halves) if has_time else ""
    if not has_date:
        return [Reading(time, "", has_date=False, midnight_24=late)]
    between = Counter(found["between"] for found in matches if found["time"]).most_common(1)
    join = between[0][0] if between else ""
    out = []
    for order, date in _date_formats(sorted({found["date"] for found in matches if found["date"]})):
        iso = date == "%Y-%m-%d" and join in {"T", " ", ""} and has_time and not halves
        iso = iso and all(found["zone"] not in _ZONE_MINUTES and len(found["date"] or "") == 10 for found in matches)  # noqa: PLR2004
        out.append(Reading(None if iso else date + join + time, order, has_time=has_time, midnight_24=late))
    return out


def _numeric(cells: Sequence[str]) -> list[Reading]:
    compact = [found for cell in cells if (found := _COMPACT.match(cell))]
    if len(compact) >= _ENOUGH_SHARE * len(cells):
        return [Reading(f"%Y%m%d{compact[0][4]}%H%M" + ("%S" if compact[0][7] else ""), "YMD")]
    try:
        values = np.array([float(cell) for cell in cells])
    except ValueError:
        return []
    fits = [name for name, (_, low, high) in _NUMERIC.items() if np.all((values >= low) & (values <= high))]
    return [Reading(name, "") for name in fits if np.ptp(values) > 0]


def _time_format(times: Sequence[str], halves: Sequence[str]) -> str:
    shown = max(times, key=len)
    seconds = (":%S" if shown.count(":") == 2 else "") + (".%f" if "." in shown else "")  # noqa: PLR2004
    if not halves:
        return f"%H:%M{seconds}"
    return f"%I:%M{seconds}" + (" %p" if any(half.startswith(" ") for half in halves) else "%p")


def _date_formats(dates: Sequence[str]) -> list[tuple[str, str]]:
    """Orders of day, month and year in which the dates are valid, and their formats."""
    mark = next((character for character in dates[0] if not character.isdigit()), "")
    if all(re.fullmatch(r"\d{8}", date) for date in dates):
        orders = _YEAR_FIRST | _YEAR_LAST
    elif any(character.isalpha() for character in dates[0]):
        orders = {"DMY": "%d{0}%b{0}%Y"}
    else:
        first, *_, last = map(len, dates[0].split(mark))
        orders = _YEAR_FIRST if first == 4 else _YEAR_LAST if last == 4 else _SHORT_YEAR  # noqa: PLR2004
    found = []
    for order, pattern in orders.items():
        form = pattern.format(mark)
        read = pd.to_datetime(pd.Series(dates), format=form, errors="coerce")
        if read.between(_EARLIEST, _LATEST).mean() >= _ENOUGH_SHARE:
            found.append((order, form))
    return found


def parse(cells: Sequence[str], reading: Reading) -> pd.DataFrame:
    """Parse stamps to ``wall`` (naive, NaT if invalid) and ``zone`` (the text after it)."""
    text, form = pd.Series(list(cells), dtype="str").str.strip(), reading.stamp_format
    if form in _NUMERIC:
        millis = (pd.to_numeric(text, errors="coerce") * _NUMERIC[form][0]).round()
        wall = pd.to_datetime(millis, unit="ms", origin="1899-12-30" if form == "excel" else "unix", errors="coerce")
        return pd.DataFrame({"wall": wall.astype("datetime64[us]"), "zone": "" if form == "excel" else "Z"})
    zone = text.str.extract(rf"(?::\d{{2}}(?:\.\d+)?(?:{_HALF})?) *({_OFFSET})$")[0].fillna("")
    body = pd.Series([cell.removesuffix(end).rstrip() for cell, end in zip(text, zone, strict=True)], dtype="str")
    late = body.str.contains(r"(?:^|[ T])24:00", regex=True)
    body = body.where(~late, body.str.replace("24:00", "00:00", n=1))
    if form is not None and "%p" in form:
        body = body.str.replace(r"([AaPp])\. ?([Mm])\.?$", r"\1\2", regex=True).str.upper()
    wall = pd.to_datetime(body, format="ISO8601" if form is None else form, errors="coerce")
    return pd.DataFrame({"wall": wall.astype("datetime64[us]") + pd.to_timedelta(late.astype(int), unit="D"), "zone": zone})


def offset_minutes(zone: str) -> float:
    """Offset of a zone in minutes east of UTC; NaN without zone."""
    if not zone:
        return float("nan")
    if zone == "Z" or zone in _ZONE_MINUTES:
        return float(_ZONE_MINUTES.get(zone, 0))
    sign = -1 if zone[0] == "-" else 1
    return float(sign * (int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)))


# --- columns ---------------------------------------------------------------------------------------------------------


def read_stamps(sample: Sample, found: Findings) -> Stamps:
    """Find and parse the stamps.

    Raises:
        OnboardingError: if no column has stamps.
    """
    ways = {name: readings(sample.column(name)) for name in dict.fromkeys(sample.header)}
    whole = {name: own for name, own in ways.items() if own and all(way.has_date and way.has_time for way in own)}
    dates = {name: own for name, own in ways.items() if own and name not in whole and all(way.has_date for way in own)}
    times = [name for name, own in ways.items() if own and not own[0].has_date]
    received = [name for name in whole if names.has_term(name, "received")]
    if received and len(whole) > len(received):
        found.proven("signals.received_at", received[0], f"'{received[0]}' is the time of arrival by its name")
        whole = {name: own for name, own in whole.items() if name not in received}
    if not whole and dates and times:
        alone = len(dates) == len(times) == 1
        where = f"'{next(iter(dates))}' is the date and '{times[0]}' the time"
        date = sample.existing(found.add("signals.timestamp", next(iter(dates)), where, proven=alone))
        time = sample.existing(found.add("signals.time_of_day", times[0], where, proven=alone))
        cells = [f"{day} {hour}" for day, hour in zip(sample.column(date), sample.column(time), strict=True)]
        return _read(sample, found, [date, time], cells, readings(cells))
    # Spreadsheets show midnight as a date only.
    whole = whole or dates or _as_given(sample, found)
    if not whole:
        raise OnboardingError(
            f"{sample.files[0]}: none of its columns ({', '.join(sample.header)}) is a valid time stamp; "
            "give another format, such as --set 'signals.stamp_format=%d.%m.%Y %H.%M'"
        )
    chosen, proven, why = _one_stamp(list(whole))
    chosen = sample.existing(found.add("signals.timestamp", chosen, why, proven=proven))
    return _read(sample, found, [chosen], sample.column(chosen), whole.get(chosen) or ways[chosen])


def _as_given(sample: Sample, found: Findings) -> dict[str, list[Reading]]:
    """The columns that the user's stamp format parses."""
    if (form := found.given.get("signals.stamp_format")) is None:
        return {}
    reading = Reading(form, "given")
    walls = {name: parse(sample.column(name), reading)["wall"] for name in dict.fromkeys(sample.header)}
    return {name: [reading] for name, wall in walls.items() if wall.notna().mean() >= _ENOUGH_SHARE}


def _one_stamp(columns: Sequence[str]) -> tuple[str, bool, str]:
    """Choose among columns of stamps: the start of the interval, or the one in UTC."""
    if len(columns) == 1:
        return columns[0], True, f"'{columns[0]}' is the only column of stamps"
    starts = [name for name in columns if names.has_term(name, "start", "from")]
    ends = [name for name in columns if names.has_term(name, "end", "to")]
    if len(columns) == 2 and len(starts) == len(ends) == 1 and starts != ends:  # noqa: PLR2004
        return starts[0], True, f"'{starts[0]}' and '{ends[0]}' are start and end of the interval"
    utc = [name for name in columns if names.has_term(name, "utc")]
    alone = len(utc) == 1
    why = f"of the stamps {', '.join(columns)}" + (" one is UTC by its name" if alone else "")
    return (utc[0] if alone else columns[0]), alone, why


def _read(sample: Sample, found: Findings, columns: list[str], cells: list[str], ways: list[Reading]) -> Stamps:
    """Parse the stamps; of several orders of day and month, choose the one in which dates are consecutive."""
    if not ways:
        first = next((cell for cell in cells if cell), "")
        raise OnboardingError(f"{sample.files[0]}: the stamps in '{columns[0]}' cannot be parsed, such as {first!r}")
    read = {way.order: parse(cells, way) for way in ways}
    chosen, proven, why = ways[0], True, f"only {ways[0].order or ways[0].stamp_format} gives valid dates"
    if len(ways) > 1:
        edges = [0, *accumulate(map(len, sample.blocks))]
        steps = {way.order: _days_between(read[way.order]["wall"], edges) for way in ways}
        near = {order: int((days == 1).sum()) for order, days in steps.items()}
        fits = [
            way for way in ways if near[way.order] > 1 and (steps[way.order] != 1).sum() <= _MAX_STRAY_ROLLOVERS * near[way.order]
        ]
        proven = len(fits) == 1
        chosen = fits[0] if fits else next((way for way in ways if way.order == "DMY"), ways[0])
        why = f"{' and '.join(way.order for way in ways)} both give valid dates"
        if proven:
            why = f"read as {chosen.order}, {near[chosen.order]} dates follow the previous day"
    elif chosen.stamp_format is None:
        why = "ISO 8601"
    own = found.add("signals.stamp_format", chosen.stamp_format, why, proven=proven)
    if own != chosen.stamp_format:
        chosen = next((way for way in ways if way.stamp_format == own), replace(chosen, stamp_format=own, order="given"))
    frame = read[chosen.order] if chosen.order in read else parse(cells, chosen)
    days = frame["wall"].nunique()
    # More rows of each date than turbines alone would make.
    if not chosen.has_time and days and len(frame) / days > 10 * max(1, len(sample.files)):
        raise OnboardingError(
            f"{sample.files[0]}: '{columns[0]}' has dates only, {len(frame) / days:.0f} rows of each, and no column has valid "
            "times of day (such as 13:00); export date and time"
        )
    return Stamps(columns, chosen, frame["wall"], frame["zone"])


def _days_between(wall: pd.Series[Any], edges: Sequence[int]) -> Any:
    """Number of days between the dates of consecutive rows of a block, where the date changes."""
    blocks = [wall.iloc[a:b].dropna().dt.floor("D").drop_duplicates().to_numpy() for a, b in pairwise(edges)]
    return np.abs(np.concatenate([np.diff(days) for days in blocks]) // _DAY)
