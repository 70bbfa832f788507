# ruff: noqa: E501 - long tables and messages
"""Detect and parse time stamp formats of any locale."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

#: Zone abbreviations after stamps, as `SourceTable` reads them.
ZONES = ("UTC", "GMT", "WET", "WEST", "BST", "CET", "CEST", "MEZ", "MESZ", "EET", "EEST", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT")  # fmt: skip
_DATE = r"(?P<date>\d{4}(?P<s1>[./-])\d{1,2}(?P=s1)\d{1,2}|\d{1,2}(?P<s2>[./-])\d{1,2}(?P=s2)(?:\d{4}|\d{2})|\d{8}|\d{1,2}(?P<s3>[ -])[A-Za-z]{3}(?P=s3)\d{4})"
_TIME = r"(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?P<half> ?[AaPp]\.? ?[Mm]\.?)?"
_OFFSET = rf"Z|[+-]\d{{2}}(?::?\d{{2}})?|{'|'.join(ZONES)}"
_ZONE = rf" *(?P<zone>{_OFFSET})?"
_STAMP = re.compile(rf"^(?:{_DATE})?(?P<between>[T ,_]*)(?:{_TIME})?{_ZONE}$")
_COMPACT = re.compile(r"^(20\d{2})(0[1-9]|1[0-2])([0-2]\d|3[01])[T _]?([01]\d|2[0-4])([0-5]\d)([0-5]\d)?$")
_EARLIEST, _LATEST = dt.datetime(1995, 1, 1), dt.datetime(2045, 1, 1)  # noqa: DTZ001 - wall clocks
_EPOCH_S = (_EARLIEST.timestamp(), _LATEST.timestamp())
_EXCEL = (34700.0, 53000.0)  # the same years as days since 1899-12-30
_ENOUGH_SHARE = 0.97
_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Reading:
    """A candidate format of a column of stamps.

    Attributes:
        stamp_format: as on the card; none for ISO 8601.
        order: ``YMD``, ``DMY``, ``MDY`` or ``""`` for numbers.
        has_date: whether stamps have a date.
        has_time: whether stamps have a time of day.
        zones: zones written after stamps; ``""`` for none.
        midnight_24: whether 24:00 occurs.
    """

    stamp_format: str | None
    order: str
    has_date: bool
    has_time: bool
    zones: tuple[str, ...] = field(default=("",))
    midnight_24: bool = False


def looks_like_stamp(cell: str) -> bool:
    """Whether a cell is a date, or a date and time, in a common format."""
    found = _STAMP.match(cell)
    return bool(found and found["date"]) or bool(_COMPACT.match(cell))


def readings(cells: Sequence[str]) -> list[Reading]:
    """All formats that parse a column as stamps, allowing a few invalid cells, which are quarantined later."""
    filled = [cell for cell in cells if cell]
    if not filled:
        return []
    some = filled[:: max(1, len(filled) // 4000)]
    numeric = _numeric(some)
    if numeric:
        return numeric
    matches = [found for cell in some if (found := _STAMP.match(cell)) and (found["date"] or found["time"])]
    if len(matches) < _ENOUGH_SHARE * len(some):
        return []
    has_date = sum(found["date"] is not None for found in matches) > len(matches) / 2
    has_time = sum(found["time"] is not None for found in matches) > len(matches) / 2
    zones = tuple(name for name, _ in Counter(found["zone"] or "" for found in matches).most_common())
    late = any((found["time"] or "").startswith("24:00") for found in matches)
    half = any(found["half"] for found in matches)
    time = _time_format(matches, half) if has_time else ""
    between = Counter(found["between"] for found in matches if found["time"]).most_common(1)
    if not has_date:
        return [Reading(time, "", has_date=False, has_time=True, zones=zones, midnight_24=late)]
    join = between[0][0] if between else ""
    out = []
    for order, date in _date_formats(matches):
        iso = order == "YMD" and date == "%Y-%m-%d" and join in {"T", " ", ""} and not half
        iso = iso and all(zone not in ZONES for zone in zones)
        whole = date + join + time
        own = None if iso and (has_time and all(len(f["date"]) == 10 for f in matches)) else whole  # noqa: PLR2004
        out.append(Reading(own, order, has_date=True, has_time=has_time, zones=zones, midnight_24=late))
    return out


def _numeric(cells: Sequence[str]) -> list[Reading]:
    if sum(bool(_COMPACT.match(cell)) for cell in cells) >= _ENOUGH_SHARE * len(cells):
        seconds = len(re.sub(r"\D", "", cells[0])) > 12  # noqa: PLR2004
        mark = next((c for c in cells[0] if not c.isdigit()), "")
        own = "%Y%m%d" + mark + ("%H%M%S" if seconds else "%H%M")
        return [Reading(own, "YMD", has_date=True, has_time=True)]
    try:
        values = np.array([float(cell) for cell in cells])
    except ValueError:
        return []
    for name, scale, (low, high) in (
        ("epoch_seconds", 1, _EPOCH_S), ("epoch_milliseconds", 1000, _EPOCH_S), ("excel", 1, _EXCEL),
    ):  # fmt: skip
        if np.all((values >= low * scale) & (values <= high * scale)) and np.ptp(values) > 0:
            zones = ("",) if name == "excel" else ("Z",)
            return [Reading(name, "", has_date=True, has_time=True, zones=zones)]
    return []


def _time_format(matches: Sequence[re.Match[str]], half: bool) -> str:
    shown = max((found["time"] or "" for found in matches), key=len)
    hour = "%I" if half else "%H"
    seconds = ":%S" if shown.count(":") == 2 else ""  # noqa: PLR2004
    fraction = ".%f" if "." in shown else ""
    blank = " " if any((found["half"] or "").startswith(" ") for found in matches) else ""
    return f"{hour}:%M{seconds}{fraction}{blank + '%p' if half else ''}"


def _date_formats(matches: Sequence[re.Match[str]]) -> list[tuple[str, str]]:
    """Orders of day, month and year in which the dates are valid."""
    dates = sorted({found["date"] for found in matches if found["date"]})
    if all(re.fullmatch(r"\d{8}", date) for date in dates):
        orders = {"YMD": "%Y%m%d", "DMY": "%d%m%Y", "MDY": "%m%d%Y"}
    elif any(character.isalpha() for character in dates[0]):
        mark = dates[0].lstrip("0123456789")[0]
        orders = {"DMY": f"%d{mark}%b{mark}%Y"}
    else:
        mark = next(character for character in dates[0] if not character.isdigit())
        if len(dates[0].split(mark)[0]) == 4:  # noqa: PLR2004
            orders = {"YMD": f"%Y{mark}%m{mark}%d"}
        elif len(dates[0].split(mark)[2]) == 4:  # noqa: PLR2004
            orders = {"DMY": f"%d{mark}%m{mark}%Y", "MDY": f"%m{mark}%d{mark}%Y"}
        else:
            orders = {"DMY": f"%d{mark}%m{mark}%y", "MDY": f"%m{mark}%d{mark}%y", "YMD": f"%y{mark}%m{mark}%d"}
    found = []
    for order, form in orders.items():
        read = pd.to_datetime(pd.Series(dates), format=form, errors="coerce")
        sound = read.between(_EARLIEST, _LATEST)
        if sound.mean() >= _ENOUGH_SHARE:
            found.append((order, form))
    return found


def parse(cells: Sequence[str], reading: Reading) -> pd.DataFrame:
    """Parse stamps to ``wall`` (naive, NaT if invalid) and ``zone`` (the text after it)."""
    text = pd.Series(list(cells), dtype="str").str.strip()
    if reading.stamp_format in {"epoch_seconds", "epoch_milliseconds", "excel"}:
        number = pd.to_numeric(text, errors="coerce")
        scale = {"epoch_seconds": 1e3, "epoch_milliseconds": 1.0, "excel": 86_400_000.0}[str(reading.stamp_format)]
        millis = (number * scale).round()
        origin = "1899-12-30" if reading.stamp_format == "excel" else "unix"
        wall = pd.to_datetime(millis, unit="ms", origin=origin, errors="coerce").astype("datetime64[us]")
        return pd.DataFrame({"wall": wall, "zone": reading.zones[0]})
    zone = text.str.extract(rf"(?::\d{{2}}(?:\.\d+)?(?: ?[AaPp]\.? ?[Mm]\.?)?) *({_OFFSET})$")[0].fillna("")
    lengths = zone.str.len()
    body = pd.Series([cell[: len(cell) - size].rstrip() for cell, size in zip(text, lengths, strict=True)], dtype="str")
    late = body.str.contains("24:00", regex=False) & body.str.contains(r"(?:^|[ T])24:00", regex=True)
    body = body.where(~late, body.str.replace("24:00", "00:00", n=1))
    if reading.stamp_format is None:
        wall = pd.to_datetime(body, format="ISO8601", errors="coerce")
    else:
        own = reading.stamp_format
        if "%p" in own:
            body = body.str.replace(r"([AaPp])\. ?([Mm])\.?$", r"\1\2", regex=True).str.upper()
        wall = pd.to_datetime(body, format=own, errors="coerce")
    wall = wall.astype("datetime64[us]") + pd.to_timedelta(np.where(late, 1, 0), unit="D").to_numpy()
    return pd.DataFrame({"wall": wall, "zone": zone})


def offset_minutes(zone: str) -> float:
    """Offset of a zone in minutes east of UTC; NaN without zone."""
    fixed = {
        "": float("nan"), "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "MEZ": 60, "MESZ": 120,
        "EET": 120, "EEST": 180, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480,
        "PDT": -420,
    }  # fmt: skip
    if zone in fixed:
        return float(fixed[zone])
    sign = -1 if zone[0] == "-" else 1
    return float(sign * (int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)))


def rollovers(walls: Sequence[Any]) -> tuple[int, int]:
    """Count the changes of date between consecutive rows: by one day, and by any other number of days."""
    on, other = 0, 0
    for wall in walls:
        days = pd.Series(wall).dropna().dt.floor("D").drop_duplicates().to_numpy()
        steps = np.diff(days)
        on += int((np.abs(steps) == _DAY).sum())
        other += int((np.abs(steps) != _DAY).sum())
    return on, other
