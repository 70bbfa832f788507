# ruff: noqa: E501 - tables of numbers and messages read better whole
"""From a sample to every field of the signals card: found with evidence, or asked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import SIGNAL_UNITS, TURBINE, UNIT_CONVERSIONS

from . import names, physics
from .findings import Findings, OnboardingError
from .physics import Reals
from .sample import Sample, common_start, is_number, read_sample
from .stamps import Reading, offset_minutes, parse, readings, rollovers

_MAX_TURBINES = 500
_MOST = 0.9
#: A column with fewer numbers than this share of its rows is none of numbers, unless all that is filled in are.
_HALF = 0.5


@dataclass
class Series:
    """One candidate for a signal: a column, a family of columns of a wide export, or a tag of a long one."""

    name: str
    values: Reals
    unit_beside: str = ""


@dataclass
class _Table:
    """The export as turbine, stamp and candidates, whatever its layout was."""

    turbine: np.ndarray[Any, Any]
    wall: pd.Series[Any]
    zone: pd.Series[Any]
    block: np.ndarray[Any, Any]
    series: list[Series]


def propose(files: Sequence[Path]) -> Findings:
    """Propose the fields of a farm's card from its export.

    Args:
        files: one export: a file, or files of one kind.

    Returns:
        Fields of the farm's card by their path (``signals.separator``, ``turbines``, ``capacity_kw``, …).

    Raises:
        OnboardingError: if the files cannot be made sense of at all.
    """
    sample = read_sample(files)
    found = sample.findings
    decimal, thousands = _decimals(sample, found)
    stamps = _stamps(sample, found)
    table = _layout(sample, found, stamps, decimal, thousands)
    _cadence(table, found)
    _clock(table, found, stamps)
    found.proven("newest_stamp", f"{stamps.wall.max():%Y-%m-%dT%H:%M:%S}", "the latest of the sample")
    _signals(table, found)
    _turbines(table, found)
    for name in ("id", "name", "latitude_deg", "longitude_deg", "time_zone", "hub_height_m"):
        if name not in found.by_field:
            found.asked(name, None, "an export does not say it")
    found.asked(
        "latency_minutes",
        10,
        "an export does not say when its rows arrived; feeds of this kind arrive within ten minutes",
    ) if not found.value("signals.received_at") else found.proven(
        "latency_minutes", 0, "the rows say when they arrived"
    )
    return found


# --- numbers ---------------------------------------------------------------------------------------------------------


def _decimals(sample: Sample, found: Findings) -> tuple[str, str | None]:
    """The decimal sign: proven by a number that can be read in one way only."""
    if sample.typed:
        found.proven("signals.decimal", ".", "numbers are typed")
        found.proven("signals.thousands", None, "numbers are typed")
        return ".", None
    forms: Counter[str] = Counter()
    for block in sample.blocks:
        for row in block[:: max(1, len(block) // 3000)]:
            for cell in map(str.strip, row):
                if not is_number(cell):
                    continue
                forms.update(_form(cell))
    grouped = next((mark for mark in (" ", "'") if forms[f"group {mark}"]), None)
    comma = forms["decimal ,"] > 20 * forms["decimal ."] and forms["decimal ,"] > 0
    point = forms["decimal ."] > 20 * forms["decimal ,"] and forms["decimal ."] > 0
    if comma or point:
        decimal = "," if comma else "."
        other = "." if comma else ","
        thousands = other if forms[f"group {other}"] else grouped
        shown = forms[f"decimal {decimal}"]
        found.proven("signals.decimal", decimal, f"{shown} numbers can be read with '{decimal}' before decimals only")
        # Between three digits a mark that is not the decimal one groups them.
        if thousands is None and forms[f"three {other}"]:
            thousands = other
        found.proven(
            "signals.thousands", thousands, f"'{thousands}' groups digits" if thousands else "no digits are grouped"
        )
        return decimal, thousands
    if not forms["three ,"] and not forms["three ."] and not forms["decimal ,"] and not forms["decimal ."]:
        found.proven("signals.decimal", ".", "no number has decimals")
        found.proven(
            "signals.thousands", grouped, "no digits are grouped" if grouped is None else f"'{grouped}' groups digits"
        )
        return ".", grouped
    guess = "," if forms["three ,"] + forms["decimal ,"] > forms["three ."] + forms["decimal ."] else "."
    found.asked(
        "signals.decimal", guess, "every number has three digits behind its mark, or the marks contradict each other"
    )
    found.asked("signals.thousands", None, "as the decimal sign")
    return guess, None


def _form(cell: str) -> list[str]:
    """What a number proves of its marks."""
    body = cell.lstrip("+-").partition("e")[0].partition("E")[0]
    marks = [character for character in body if not character.isdigit()]
    kinds = {"\u00a0": " ", "\u202f": " "}
    marks = [kinds.get(mark, mark) for mark in marks]
    if not marks:
        return []
    distinct = list(dict.fromkeys(marks))
    parts = re.split(r"[^\d]", body)
    if len(distinct) == 1 and len(marks) == 1:
        mark = distinct[0]
        if mark in " '":
            return [f"group {mark}"] if len(parts[1]) == 3 else []  # noqa: PLR2004
        plain = len(parts[1]) == 3 and 1 <= len(parts[0]) <= 3 and not parts[0].startswith("0")  # noqa: PLR2004
        return [f"three {mark}"] if plain else [f"decimal {mark}"]
    grouped = all(len(part) == 3 for part in parts[1:-1])  # noqa: PLR2004
    if len(distinct) == 1:
        return [f"group {distinct[0]}"] if grouped and len(parts[-1]) == 3 else []  # noqa: PLR2004
    if len(distinct) == 2 and marks.count(distinct[1]) == 1 and grouped and marks[-1] == distinct[1]:  # noqa: PLR2004
        return [f"group {distinct[0]}", f"decimal {distinct[1]}"]
    return []


# --- stamps ----------------------------------------------------------------------------------------------------------


@dataclass
class _Stamps:
    columns: list[str]
    reading: Reading
    wall: pd.Series[Any]
    zone: pd.Series[Any]


def _stamps(sample: Sample, found: Findings) -> _Stamps:
    whole: dict[str, list[Reading]] = {}
    dates: dict[str, list[Reading]] = {}
    times: list[str] = []
    for name in dict.fromkeys(sample.header):
        ways = readings(sample.column(name))
        if not ways:
            continue
        if all(way.has_date and way.has_time for way in ways):
            whole[name] = ways
        elif all(way.has_date for way in ways):
            dates[name] = ways
        elif not ways[0].has_date:
            times.append(name)
    received = [name for name in whole if names.says(name, names.RECEIVED_WORDS)]
    if received and len(whole) > len(received):
        found.proven("signals.received_at", received[0], f"'{received[0]}' says when a row arrived")
        for name in received:
            whole.pop(name)
    if not whole and dates and times:
        date, time = next(iter(dates)), times[0]
        cells = [f"{a} {b}" for a, b in zip(sample.column(date), sample.column(time), strict=True)]
        where = f"'{date}' is the date and '{time}' the time"
        found.add("signals.timestamp", date, where, proven=len(dates) == len(times) == 1)
        found.add("signals.time_of_day", time, where, proven=len(dates) == len(times) == 1)
        return _read(sample, found, [date, time], cells, readings(cells))
    if not whole and dates:
        # At midnight a spreadsheet shows the date alone.
        whole = dates
    if not whole:
        raise OnboardingError(
            f"{sample.files[0]}: none of its columns ({', '.join(sample.header)}) is a time stamp that can be read"
        )
    chosen, proven, why = _one_stamp(list(whole))
    found.add("signals.timestamp", chosen, why, proven=proven)
    return _read(sample, found, [chosen], sample.column(chosen), whole[chosen])


def _one_stamp(columns: Sequence[str]) -> tuple[str, bool, str]:
    """Of several columns of stamps: the start of the interval, or the one in UTC."""
    if len(columns) == 1:
        return columns[0], True, f"'{columns[0]}' is the only column of stamps"
    starts = [name for name in columns if names.says(name, names.START_WORDS)]
    ends = [name for name in columns if names.says(name, names.END_WORDS)]
    if len(columns) == 2 and len(starts) == 1 and len(ends) == 1 and starts != ends:  # noqa: PLR2004
        return starts[0], True, f"'{starts[0]}' and '{ends[0]}' are start and end of the interval"
    utc = [name for name in columns if names.says(name, names.UTC_WORDS)]
    alone = len(utc) == 1
    why = f"of the stamps {', '.join(columns)}" + (" one is UTC by its name" if alone else "")
    return (utc[0] if alone else columns[0]), alone, why


def _read(sample: Sample, found: Findings, columns: list[str], cells: list[str], ways: list[Reading]) -> _Stamps:
    """Settle the order of day and month: only one is valid, or days go on by one where the date changes."""
    if not ways:
        raise OnboardingError(
            f"{sample.files[0]}: the stamps in '{columns[0]}' cannot be read; {cells[0]!r} is the first"
        )
    sizes = [len(block) for block in sample.blocks]
    edges = np.cumsum([0, *sizes])

    def blocks(wall: pd.Series[Any]) -> list[pd.Series[Any]]:
        return [wall.iloc[a:b] for a, b in pairwise(edges)]

    read = {way.order: parse(cells, way) for way in ways}
    chosen, proven = ways[0], len(ways) == 1
    own = chosen.stamp_format
    why = (
        "ISO 8601"
        if own is None
        else f"no other order of day, month and year than {chosen.order or own} makes them dates"
    )
    if not proven:
        counts = {way.order: rollovers(blocks(read[way.order]["wall"])) for way in ways}
        fits = [way for way in ways if counts[way.order][0] >= 2 and counts[way.order][1] <= 0.2 * counts[way.order][0]]  # noqa: PLR2004
        proven = len(fits) == 1
        chosen = fits[0] if fits else next((way for way in ways if way.order == "DMY"), ways[0])
        why = (
            f"read as {chosen.order}, {counts[chosen.order][0]} dates follow the day before them"
            if proven
            else f"{' and '.join(way.order for way in ways)} both make them dates"
        )
    found.add("signals.stamp_format", chosen.stamp_format, why, proven=proven)
    frame = read[chosen.order]
    return _Stamps(columns, chosen, frame["wall"], frame["zone"])


# --- layout and turbines ---------------------------------------------------------------------------------------------


def _layout(sample: Sample, found: Findings, stamps: _Stamps, decimal: str, thousands: str | None) -> _Table:
    used = {*stamps.columns, found.value("signals.received_at")}
    rest = [name for name in dict.fromkeys(sample.header) if name not in used and name]
    doubled = [name for name in rest if sample.header.count(name) > 1]
    cells = {name: sample.column(name) for name in rest}
    values = {name: physics.numbers(column, decimal, thousands) for name, column in cells.items()}
    numeric = [
        name
        for name in rest
        if np.isfinite(values[name]).mean() > _HALF
        or (_mostly_numbers(cells[name]) and np.isfinite(values[name]).any())
    ]
    texts = [name for name in rest if name not in numeric and len(set(cells[name])) > 0 and any(cells[name])]
    block = np.repeat(np.arange(len(sample.blocks)), [len(rows) for rows in sample.blocks])
    if (long := _long(sample, found, stamps, texts, numeric, cells, values, block)) is not None:
        return long
    turbine = _turbine_column(sample, found, stamps, rest, cells, values)
    if turbine is None and (wide := _wide(sample, found, stamps, numeric, values, block)) is not None:
        return wide
    found.proven(
        "signals.layout",
        "table",
        "a row is one turbine at one time" if turbine or len(sample.files) > 1 else "one row per time",
    )
    series = [
        Series(name, values[name], sample.units.get(name, ""))
        for name in numeric
        if name != turbine and name not in doubled
    ]
    if turbine is not None:
        ids = np.array(cells[turbine])
    elif len(sample.files) > 1 and (pattern := _pattern_of_files(sample, stamps, block)) is not None:
        found.proven("signals.turbine", None, "no column names a turbine")
        found.proven(
            "signals.turbine_in_file", pattern[0], "the same times stand in every file, so each is of one turbine"
        )
        ids = np.array(pattern[1])[block]
    else:
        found.proven("signals.turbine", None, "no column names a turbine, and no time comes twice")
        ids = np.full(len(block), "farm")
        powers = sum(names.signal_of(one.name)[0] == "power_kw" for one in series)
        if powers != 1 or stamps.wall.duplicated().mean() > 0.01:  # noqa: PLR2004
            # Columns of several turbines whose names say nothing would pass for one meter.
            for name in ("signals.layout", "signals.turbine"):
                found.asked(
                    name, found.value(name), f"nothing names a turbine, and {powers} columns are power by their names"
                )
        found.proven("one_meter", True, "nothing names a turbine: the rows are about one meter")
    return _Table(ids, stamps.wall, stamps.zone, block, series)


def _mostly_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells[:: max(1, len(cells) // 2000)] if cell]
    return bool(filled) and sum(map(is_number, filled)) > _MOST * len(filled)


def _turbine_column(
    sample: Sample,
    found: Findings,
    stamps: _Stamps,
    rest: Sequence[str],
    cells: Mapping[str, list[str]],
    values: Mapping[str, Reals],
) -> str | None:
    """The column with which times come once; by its name where several do."""
    times = stamps.wall.astype("int64").to_numpy()
    doubled = pd.Series(times).duplicated().mean()
    fitting = []
    for name in rest:
        distinct = {cell for cell in cells[name] if cell}
        if not 1 <= len(distinct) <= min(_MAX_TURBINES, max(1, len(times) // 20)):
            continue
        named = names.says(name, names.TURBINE_WORDS)
        whole = (
            all(value.is_integer() for value in map(float, distinct))
            if all(_is_float(one) for one in distinct)
            else True
        )
        if not whole or (not named and (len(distinct) == 1 or doubled < 0.4)):  # noqa: PLR2004
            continue
        repeated = pd.DataFrame({"at": times, "id": cells[name]}).duplicated().mean()
        if repeated < 0.05 and (named or repeated < doubled / 3):  # noqa: PLR2004
            fitting.append((not named, repeated, name, len(distinct)))
    if not fitting:
        if doubled > 0.2 and len(sample.files) == 1:  # noqa: PLR2004
            # Times come again, and nothing says whose they are: that is for somebody to say.
            return None
        return None
    fitting.sort()
    name = fitting[0][2]
    alone = len(fitting) == 1 or (not fitting[0][0] and fitting[1][0])
    found.add(
        "signals.turbine", name, f"'{name}' has {fitting[0][3]} values, and with it a time comes once", proven=alone
    )
    return name


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _pattern_of_files(sample: Sample, stamps: _Stamps, block: np.ndarray[Any, Any]) -> tuple[str, list[str]] | None:
    """One file per turbine: the same times in each, and one place where their names differ."""
    files = list(dict.fromkeys(sample.block_files))
    of_file = [files.index(path) for path in sample.block_files]
    place = np.array(of_file)[block]
    at = pd.DataFrame({"at": stamps.wall, "file": place})
    spans = at.groupby("file")["at"].agg(["min", "max"])
    overlap = spans["min"].max() < spans["max"].min()
    if not overlap:
        return None
    every = [path.name for path in sample.files]
    head = common_start(every)
    tail = common_start([name[len(head) :][::-1] for name in every])[::-1]
    # A number is not cut in two: T01 and T02 are 01 and 02.
    head = re.sub(r"[A-Za-z0-9]+$", "", head)
    tail = re.sub(r"^[A-Za-z0-9]+", "", tail)
    ids = [path.name[len(head) : len(path.name) - len(tail)] for path in files]
    return head + TURBINE + tail, [ids[number] for number in of_file]


def _wide(
    sample: Sample,
    found: Findings,
    stamps: _Stamps,
    numeric: Sequence[str],
    values: Mapping[str, Reals],
    block: np.ndarray[Any, Any],
) -> _Table | None:
    """Columns that differ in one part only, the same parts for every signal."""
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name in numeric:
        for part in re.finditer(r"[A-Za-z]*[ _.-]?0*\d+[A-Za-z]?(?=$|[^0-9A-Za-z])|\d+", name):
            families[name[: part.start()] + TURBINE + name[part.end() :]][part.group()] = name
        for part in re.finditer(r"[^ _.:/|-]+", name):
            families[name[: part.start()] + TURBINE + name[part.end() :]][part.group()] = name
    sets: dict[frozenset[str], list[str]] = defaultdict(list)
    for template, members in families.items():
        signal = names.signal_of(template.replace(TURBINE, " "))[0]
        if len(members) > 1 and signal is not None:
            sets[frozenset(members)].append(template)
    if not sets:
        return None

    # A set of turbines has power; min and max of one signal differ in a part too, but not in all signals alike.
    def rank(item: tuple[frozenset[str], list[str]]) -> tuple[bool, bool, int, int, int]:
        ids, templates = item
        statistic = any(names.statistic_of(one) for one in ids)
        has_power = any(names.signal_of(t.replace(TURBINE, " "))[0] == "power_kw" for t in templates)
        digits = sum(any(c.isdigit() for c in one) for one in ids)
        return (not statistic, has_power, len(templates), digits, sum(map(len, ids)))

    ids, templates = max(sets.items(), key=rank)
    if any(names.statistic_of(one) for one in ids) or any(
        names.signal_of(one)[0] for one in ids if not re.search(r"\d", one)
    ):
        return None
    order = sorted(ids, key=lambda one: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", one)])
    found.proven(
        "signals.layout", "wide", f"{len(order)} columns of each of {len(templates)} signals differ in one part only"
    )
    found.proven("signals.turbine", None, "turbines are in the names of columns")
    count = len(block)
    series = [
        Series(
            template,
            np.concatenate([values[families[template][one]] for one in order]),
            next(
                (sample.units[families[template][one]] for one in order if families[template][one] in sample.units), ""
            ),
        )
        for template in templates
    ]
    many = len(order)
    return _Table(
        np.repeat(order, count),
        pd.concat([stamps.wall] * many, ignore_index=True),
        pd.concat([stamps.zone] * many, ignore_index=True),
        np.concatenate([block + number * len(sample.blocks) for number in range(many)]),
        series,
    )


def _long(
    sample: Sample, found: Findings, stamps: _Stamps, texts: Sequence[str], numeric: Sequence[str], cells: Mapping[str, list[str]],
    values: Mapping[str, Reals], block: np.ndarray[Any, Any],
) -> _Table | None:  # fmt: skip
    """One value a row, beside the name of its signal."""
    for tag in texts:
        tags = sorted(set(cells[tag]))
        if not 2 <= len(tags) <= 5000:  # noqa: PLR2004
            continue
        meant = {one: names.signal_of(re.sub(r"^.*?[/\\|]", "", one))[0] for one in tags}
        signals = {signal for signal in meant.values() if signal}
        if "power_kw" not in signals or len(signals) < 2 or not numeric:  # noqa: PLR2004
            continue
        value = max(numeric, key=lambda name: len(np.unique(values[name][np.isfinite(values[name])][:5000])))
        found.proven("signals.layout", "long", f"'{tag}' names {len(tags)} signals, '{value}' has their values")
        found.proven("signals.signal", tag, "its values are names of signals")
        found.proven("signals.value", value, "the column of numbers with the most different values")
        quality = [n for n in [*texts, *numeric] if n not in {tag, value} and names.says(n, names.QUALITY_WORDS)]
        others = [n for n in [*texts, *numeric] if n not in {tag, value, *quality}]
        if quality:
            counts = Counter(cells[quality[0]])
            best = counts.most_common(1)[0][0]
            certain = best.strip().lower() in {
                "good",
                "ok",
                "gut",
                "192",
                "bon",
                "buono",
                "bueno",
                "valid",
                "goed",
                "god",
            }
            found.proven("signals.quality", quality[0], "by its name")
            found.add(
                "signals.good_quality",
                [best],
                f"'{best}' stands in {counts[best]} of {len(block)} rows",
                proven=certain,
            )
        unit = next((n for n in others if {names.unit_of("", c) for c in set(cells[n])} - {None}), None)
        turbines = [n for n in others if n != unit and 1 <= len(set(cells[n])) <= _MAX_TURBINES]
        named = [n for n in turbines if names.says(n, names.TURBINE_WORDS)] or turbines
        frame = pd.DataFrame(
            {"tag": cells[tag], "wall": stamps.wall, "zone": stamps.zone, "value": values[value], "block": block}
        )
        frame["unit"] = cells[unit] if unit else ""
        if quality:
            frame.loc[np.array(cells[quality[0]]) != found.value("signals.good_quality")[0], "value"] = np.nan
        if named:
            frame["turbine"] = cells[named[0]]
            found.add("signals.turbine", named[0], f"'{named[0]}' is beside signal and value", proven=len(named) == 1)
        else:
            found.proven("signals.turbine", None, "turbines are in the names of signals")
            ids = {one: (match := re.match(r"^(.*?)[./\\|:_ ]", one)) and match.group(1) for one in tags}
            if not all(ids.values()) or not all(any(c.isdigit() for c in str(one)) for one in ids.values()):
                found.asked("signals.turbine", None, "the names of signals have no part that is a turbine")
                ids = dict.fromkeys(tags, "farm")
                found.proven("one_meter", True, "nothing names a turbine")
            else:
                frame["tag"] = [TURBINE + one[len(str(ids[one])) :] for one in frame["tag"]]
            frame["turbine"] = [ids[one] for one in cells[tag]]
        wide = frame.pivot_table(
            index=["turbine", "wall", "zone"],
            columns="tag",
            values="value",
            aggfunc="first",
            dropna=False,
            observed=True,
        ).dropna(how="all")
        first = frame.groupby(["turbine", "wall", "zone"])["block"].first()
        index = wide.index
        units = frame.groupby("tag")["unit"].first().to_dict()
        series = [
            Series(str(name), wide[name].to_numpy(dtype=float), str(units.get(name, ""))) for name in wide.columns
        ]
        return _Table(
            np.array(index.get_level_values("turbine").astype(str)), pd.Series(index.get_level_values("wall")),
            pd.Series(index.get_level_values("zone")), first.reindex(index).to_numpy(), series,
        )  # fmt: skip
    return None


# --- time ------------------------------------------------------------------------------------------------------------


def _cadence(table: _Table, found: Findings) -> None:
    frame = pd.DataFrame(
        {"turbine": table.turbine, "block": table.block, "wall": table.wall, "zone": table.zone}
    ).dropna(subset=["wall"])
    frame = frame.drop_duplicates(["turbine", "block", "wall"]).sort_values(["turbine", "block", "wall"])
    steps = frame.groupby(["turbine", "block"])["wall"].diff().dropna().dt.total_seconds()
    steps = steps[steps > 0]
    if steps.empty:
        found.asked("signals.cadence_seconds", 600, "no turbine has two times")
        return
    step, count = Counter(steps.round(3)).most_common(1)[0]
    share = count / len(steps)
    whole = float(step).is_integer() and step > 0
    near = float((np.abs(steps - step) <= 0.25 * step).mean()) if not whole else share
    found.add(
        "signals.cadence_seconds", round(step) or 1, f"{100 * share:.1f} % of the steps from one time of a turbine to its next",
        proven=whole and share >= _MOST and near >= _MOST and 86_400 % round(step) == 0,
    )  # fmt: skip


def _clock(table: _Table, found: Findings, stamps: _Stamps) -> None:
    cadence = float(found.value("signals.cadence_seconds"))
    column = " ".join(stamps.columns)
    # Which end of the interval a stamp names.
    start, end = names.says(column, names.START_WORDS), names.says(column, names.END_WORDS)
    if stamps.reading.midnight_24:
        found.proven("signals.stamps", "interval_end", "24:00 can only be an end")
    elif start != end:
        found.proven("signals.stamps", "interval_start" if start else "interval_end", f"the name '{column}' says so")
    else:
        walls = stamps.wall.dropna()
        seconds = (walls - walls.dt.floor("D")).dt.total_seconds()
        guess = (
            "interval_end"
            if not walls.empty and seconds.iloc[0] == cadence and seconds.iloc[-1] == 0
            else "interval_start"
        )
        found.asked("signals.stamps", guess, "a stamp can name the start or the end of its interval")
    # Offsets and clock changes.
    zones = [zone for zone in table.zone.unique() if zone]
    if stamps.reading.stamp_format in {"epoch_seconds", "epoch_milliseconds"}:
        found.proven("signals.clock", "as_stamped", "epochs are UTC")
        return
    jumps = _changes(table, cadence)
    if zones:
        offsets = {offset_minutes(zone) for zone in zones}
        if offsets == {0.0} and all(zone in {"Z", "UTC", "+00:00", "GMT", "+0000"} for zone in zones):
            found.add(
                "signals.clock",
                "as_stamped",
                "every stamp says UTC" + (f", but an hour is missing or double at {jumps[0]}" if jumps else ""),
                proven=not jumps,
            )
        elif len(offsets) > 1:
            broken = _changes(table, cadence, honour=True)
            found.add(
                "signals.clock", "wall_clock_is_utc" if broken and not jumps else "as_stamped",
                "the offset changes, and instants go on evenly across the change" if not broken else f"with the offsets honoured, an hour is missing or double at {broken[0]}",
                proven=not broken and bool(jumps),
            )  # fmt: skip
        else:
            found.asked(
                "signals.clock",
                "as_stamped",
                f"every stamp says {zones[0]}, and no clock change shows whether it is true",
            )
        return
    says_utc, says_local = names.says(column, names.UTC_WORDS), names.says(column, names.LOCAL_WORDS)
    if len(jumps) > 0:
        found.add(
            "signals.clock",
            "wall_clock_is_local",
            f"an hour is missing or double where clocks change: {', '.join(jumps[:2])}",
            proven=not says_utc,
        )
    elif says_utc:
        found.proven(
            "signals.clock",
            "as_stamped",
            f"the name '{column}' says UTC, and no hour is missing or double where clocks change",
        )
    else:
        guess = "wall_clock_is_local" if says_local else "as_stamped"
        found.asked(
            "signals.clock",
            guess,
            "no offset, no UTC in the name, no hour missing or double: UTC, or a zone without summer time",
        )


def _changes(table: _Table, cadence: float, *, honour: bool = False) -> list[str]:
    """Dates on which clocks change and on which one hour is missing (spring) or comes twice (autumn), in all turbines."""
    wall = table.wall
    if honour:
        wall = wall - pd.to_timedelta(table.zone.map(offset_minutes).fillna(0), unit="m")
    seen = pd.Series(wall.dropna().unique()).sort_values()
    if seen.empty:
        return []
    out = []
    counts = wall.value_counts()
    for year in range(seen.iloc[0].year, seen.iloc[-1].year + 1):
        for day in _change_days(year):
            hours = [day + pd.Timedelta(hours=hour) for hour in range(-2, 8)]
            size = [int(((seen >= at) & (seen < at + pd.Timedelta(hours=1))).sum()) for at in hours]
            rows = [
                int(counts[(counts.index >= at) & (counts.index < at + pd.Timedelta(hours=1))].sum()) for at in hours
            ]
            if min(size[0], size[-1]) == 0:
                continue
            usual = float(np.median(rows))
            empty = [at for at, count in zip(hours, size, strict=True) if count == 0]
            double = [at for at, count in zip(hours, rows, strict=True) if count > 1.5 * usual]
            if (len(empty) == 1 and not double) or (len(double) == 1 and not empty):
                out.append(f"{(empty or double)[0]:%Y-%m-%d %H:%M}")
    return out


def _change_days(year: int) -> list[pd.Timestamp]:
    """Sundays on which clocks change in Europe and North America."""

    def sundays(month: int) -> list[pd.Timestamp]:
        days = pd.date_range(f"{year}-{month:02d}-01", periods=31 if month in {3, 10} else 30, freq="D")
        return [day for day in days if day.weekday() == 6]  # noqa: PLR2004

    return [sundays(3)[1], sundays(3)[-1], sundays(10)[-1], sundays(11)[0]]


# --- signals ---------------------------------------------------------------------------------------------------------


def _signals(table: _Table, found: Findings) -> None:
    named: dict[str, list[Series]] = defaultdict(list)
    unknown: list[Series] = []
    for one in table.series:
        signal, word = names.signal_of(one.name.replace(TURBINE, " "))
        unit = names.unit_of(one.name.replace(TURBINE, " "), one.unit_beside)
        if (
            signal == "power_kw"
            and unit is not None
            and (unit, "kW") not in UNIT_CONVERSIONS
            and unit not in {"kWh", "MWh"}
        ):
            signal = None
        if signal is None and not word and names.says(one.name, names.ENERGY_WORDS):
            signal = "power_kw"
        if signal is not None:
            named[signal].append(one)
        elif not word:
            unknown.append(one)
    chosen: dict[str, Series] = {}
    for signal in SIGNAL_UNITS:
        if named[signal]:
            series, proven, why = _one_of(signal, named[signal])
            chosen[signal] = series
            found.add(f"signals.columns.{signal}.name", series.name, why, proven=proven)
    _by_physics(unknown, chosen, found)
    if "power_kw" not in chosen:
        best = ", ".join(one.name for one in table.series)
        raise OnboardingError(
            f"no column is power, neither by its name nor by its numbers ({best}); give --set signals.columns.power_kw.name=…"
        )
    _check_curve(chosen, found)
    _units(chosen, found, one_meter=bool(found.value("one_meter")))
    for signal, series in chosen.items():
        values = physics.sentinels(series.values)
        odd = physics.strange(series.values) if signal != "pitch_deg" else []
        hidden = [value for value in physics.suspects(series.values) if value not in values]
        if values or odd or hidden:
            why = (
                "comes again and again, far outside the rest"
                if not hidden
                else "comes far more often than the values beside it"
            )
            found.add(
                f"signals.sentinels.{signal}", sorted({*values, *odd, *hidden}), why, proven=not odd and not hidden
            )


def _one_of(signal: str, candidates: Sequence[Series]) -> tuple[Series, bool, str]:
    """The mean among columns that speak of one signal."""
    if len(candidates) == 1:
        one = candidates[0]
        statistic = names.statistic_of(one.name)
        return one, statistic in {None, "mean"}, f"'{one.name}' is {signal} by its name"
    statistics = {one.name: names.statistic_of(one.name) for one in candidates}
    means = [one for one in candidates if statistics[one.name] == "mean"]
    plain = [one for one in candidates if statistics[one.name] is None]
    rest = means or plain
    if len(rest) == 1 and (means or len(plain) < len(candidates)):
        return rest[0], True, f"'{rest[0].name}' is the mean by its name, beside {len(candidates) - 1} others"
    rest = rest or list(candidates)
    # Which of the names are about the same thing decides nothing; the order of their values may.
    order = physics.ordered({one.name: physics.clean_rows(one.values) for one in rest})
    if len(order) == 3:  # noqa: PLR2004 - minimum, mean, maximum
        middle = next(one for one in rest if one.name == order[1])
        return middle, False, f"'{order[1]}' always lies between '{order[0]}' and '{order[2]}'"
    longest = max(rest, key=lambda one: len(names.signal_of(one.name)[1]))
    return longest, False, f"{', '.join(one.name for one in rest)} could all be it"


def _by_physics(unknown: Sequence[Series], chosen: dict[str, Series], found: Findings) -> None:
    """Columns whose names say nothing: a circle is the direction; the best power curve is power over wind."""
    left = [one for one in unknown if np.isfinite(one.values).sum() > 200]  # noqa: PLR2004
    if "wind_direction_deg" not in chosen:
        circles = [one for one in left if physics.is_direction(one.values)]
        if circles:
            chosen["wind_direction_deg"] = circles[0]
            found.add(
                "signals.columns.wind_direction_deg.name", circles[0].name,
                f"'{circles[0].name}' goes round a full circle; a nacelle does too", proven=False,
            )  # fmt: skip
            left = [one for one in left if one not in circles]
    if "power_kw" in chosen and "wind_speed_ms" in chosen:
        return
    powers = [chosen["power_kw"]] if "power_kw" in chosen else left
    winds = [chosen["wind_speed_ms"]] if "wind_speed_ms" in chosen else left
    curves = []
    for power in powers:
        for wind in winds:
            if power is wind:
                continue
            shape = physics.power_curve(physics.clean_rows(power.values), physics.clean_rows(wind.values))
            # Power has a plateau over wind, wind has none over power: that tells the one from the other.
            if shape and shape["plateau_share"] > 0.01 and float(np.nanmin(physics.clean(wind.values))) > -0.5:  # noqa: PLR2004
                curves.append((shape["correlation"], power, wind))
    curves.sort(key=lambda item: item[0], reverse=True)
    if curves:
        _, power, wind = curves[0]
        for signal, one in (("power_kw", power), ("wind_speed_ms", wind)):
            if signal not in chosen:
                chosen[signal] = one
                found.asked(
                    f"signals.columns.{signal}.name", one.name, f"'{power.name}' over '{wind.name}' is a power curve"
                )


def _check_curve(chosen: Mapping[str, Series], found: Findings) -> None:
    """Names and numbers must agree: power follows wind, or both are asked."""
    if "wind_speed_ms" not in chosen:
        return
    curve = physics.power_curve(
        physics.clean_rows(chosen["power_kw"].values), physics.clean_rows(chosen["wind_speed_ms"].values)
    )
    for signal in ("power_kw", "wind_speed_ms"):
        field = found.by_field[f"signals.columns.{signal}.name"]
        if curve is None and field.proven:
            found.asked(field.field, field.value, f"{field.evidence}, but power does not follow wind")


def _units(chosen: Mapping[str, Series], found: Findings, *, one_meter: bool) -> None:
    power = chosen["power_kw"]
    wind = chosen.get("wind_speed_ms")
    curve = physics.power_curve(physics.clean_rows(power.values), physics.clean_rows(wind.values)) if wind else None
    half = curve["half_wind"] if curve else float("nan")
    for signal, series in chosen.items():
        field = f"signals.columns.{signal}.unit"
        said = names.unit_of(series.name.replace(TURBINE, " "), series.unit_beside)
        own = physics.clean(series.values)
        high = float(np.quantile(own, 0.999)) if own.size else float("nan")
        if signal == "power_kw":
            _power_unit(field, said, high, series, found, one_meter=one_meter)
        elif signal == "wind_speed_ms":
            by_data = physics.wind_unit(half)
            if said in physics.WIND_UNITS:
                fits = physics.fits_wind_unit(half, str(said))
                found.add(field, said, f"named so; half of full power is at {half:.1f} of it", proven=fits)
            else:
                found.add(
                    field,
                    by_data or "m/s",
                    f"half of full power is at {half:.1f}: that fits one unit only"
                    if by_data
                    else "no unit is named, and several fit",
                    proven=by_data is not None,
                )
        elif signal in {"wind_direction_deg", "pitch_deg"}:
            circle = physics.is_direction(series.values) if signal == "wind_direction_deg" else None
            low = float(np.quantile(own, 0.001)) if own.size else float("nan")
            # More than a turn in radians is none.
            by_size = "deg" if high > 2.1 * np.pi or low < -2.1 * np.pi else None
            unit = circle or by_size
            if said in {"deg", "rad"}:
                found.add(
                    field,
                    said,
                    "named so" + (f", and its values go round {'360' if circle == 'deg' else '2π'}" if circle else ""),
                    proven=unit in {None, said},
                )
            else:
                found.add(field, unit or "deg", f"values up to {high:.2f}", proven=unit is not None)
        else:
            middle = float(np.median(own)) if own.size else float("nan")
            if said in {"degC", "K", "degF"}:
                sound = (middle > 200) == (said == "K") and -60 <= _celsius(middle, str(said)) <= 55  # noqa: PLR2004
                found.add(field, said, f"named so; the median is {middle:.1f}", proven=sound)
            elif middle > 200:  # noqa: PLR2004
                found.proven(field, "K", f"the median is {middle:.1f}: kelvins")
            else:
                warm = float(np.quantile(own, 0.999)) if own.size else float("nan")
                found.asked(field, "degF" if warm > 48 else "degC", f"no unit is named; the median is {middle:.1f}")  # noqa: PLR2004


def _celsius(value: float, unit: str) -> float:
    factor, offset = UNIT_CONVERSIONS[unit, "degC"]
    return value * factor + offset


def _power_unit(field: str, said: str | None, high: float, series: Series, found: Findings, *, one_meter: bool) -> None:
    cadence = int(found.value("signals.cadence_seconds"))
    energy = said in {"kWh", "MWh"} or names.says(series.name, names.ENERGY_WORDS)
    if energy:
        per = {3600: "h", 1800: "30min", 900: "15min", 600: "10min", 300: "5min", 60: "1min"}.get(cadence)
        guess = f"{said or 'kWh'}/{per}" if per else None
        monotonic = bool(np.mean(np.diff(physics.clean(series.values)[:500]) >= 0) > 0.99)  # noqa: PLR2004
        known = guess if guess is not None and (guess, "kW") in UNIT_CONVERSIONS else None
        size = physics.power_unit(high * UNIT_CONVERSIONS[known, "kW"][0]) if known else None
        found.add(
            field, known, f"energy per interval of {cadence} s, up to {high:,.1f}" + ("; it only rises: a counter?" if monotonic else ""),
            proven=known is not None and said is not None and not monotonic and (one_meter or size == "kW"),
        )  # fmt: skip
        return
    by_size = None if one_meter else physics.power_unit(high)
    signal, word = names.signal_of(series.name.replace(TURBINE, " "))
    if said in {"kW", "MW", "W", "GW"}:
        plausible = 20 <= high * UNIT_CONVERSIONS[str(said), "kW"][0] <= 3e6 if one_meter else by_size == said  # noqa: PLR2004
        found.add(field, said, f"named so; values up to {high:,.4g}", proven=plausible)
    elif by_size is not None:
        found.add(
            field,
            by_size,
            f"values up to {high:,.4g}: one turbine's power in {by_size}",
            proven=signal == "power_kw" and bool(word),
        )
    else:
        found.asked(field, "kW" if high > 100 else "MW", f"no unit is named; values up to {high:,.4g}")  # noqa: PLR2004


# --- turbines --------------------------------------------------------------------------------------------------------


def _turbines(table: _Table, found: Findings) -> None:
    unit = found.value("signals.columns.power_kw.unit")
    column = found.value("signals.columns.power_kw.name")
    factor = UNIT_CONVERSIONS.get((str(unit), "kW"), (1.0, 0.0))[0]
    power = next(one for one in table.series if one.name == column).values * factor
    counts = Counter(table.turbine)
    usual = float(np.median(list(counts.values())))
    ids = [one for one in counts if counts[one] >= 0.01 * usual and str(one).strip()]
    rare = [one for one in counts if one not in ids]
    ids.sort(key=lambda one: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(one))])
    meter = bool(found.value("one_meter"))
    many = f"{len(ids)} turbines" + (
        f"; set aside as too rare to be one: {', '.join(map(str, rare[:3]))}" if rare else ""
    )
    found.add("turbines", [str(one) for one in ids], many if not meter else "one meter for all", proven=not meter)
    unit_sure = (
        found.by_field["signals.columns.power_kw.unit"].proven
        and found.by_field["signals.columns.power_kw.name"].proven
    )
    ratings = {}
    for one in ids:
        value, proven, why = physics.rated_power_kw(power[table.turbine == one])
        ratings[str(one)] = value
        found.add(f"rated_power_kw.{one}", value, why, proven=proven and unit_sure and not meter)
    total = float(sum(ratings.values()))
    sure = all(found.by_field[f"rated_power_kw.{one}"].proven for one in ids)
    found.add("capacity_kw", total, f"the sum of {len(ids)} turbines", proven=sure)


__all__ = ["propose"]
