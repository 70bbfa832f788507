"""Find the layout of an export, and convert it to one table of turbine, stamp and candidate series for signals."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import TURBINE

from . import names, physics
from .findings import Findings, OnboardingError
from .physics import Reals
from .sample import Sample, is_number, numbers
from .stamps import Stamps

_MAX_TURBINES = 500
_MAX_TAGS = 5000
#: Upper limit (exclusive) of path parts before the turbine in a tag: country, site, line, turbine.
_MAX_PARTS = 6
#: A column is numeric if more than the first share of its cells, or of its filled cells, are numbers.
_NUMERIC_SHARE, _NUMERIC_FILLED_SHARE = 0.5, 0.9
#: Times count as repeated from this share of rows on.
_MIN_REPEATED = 0.01
#: Maximum share of repeated rows of one turbine and time.
_MAX_REPEATED = 0.05
#: Without a turbine's name, a column names turbines only if at least this share of times is repeated.
_MANY_REPEATED = 0.4


@dataclass
class Series:
    """A candidate for a signal: a column, a family of columns of a wide export, or a tag of a long export."""

    name: str
    values: Reals
    unit_beside: str = ""

    @property
    def bare_name(self) -> str:
        """The name without the placeholder of the turbine."""
        return self.name.replace(TURBINE, " ")


@dataclass
class Table:
    """The export as turbine, stamp and candidate series, independent of its layout.

    Attributes:
        turbine: turbine of each row; ``farm`` if the export names none.
        wall: stamp of each row, as written, without zone.
        zone: zone or offset written after the stamp.
        block: block of the sample of each row; rows of different blocks are not consecutive.
        series: candidates for signals.
        one_meter: whether the export names no turbine.
        every_turbine: whether the sample certainly has rows of every turbine.
    """

    turbine: np.ndarray[Any, Any]
    wall: pd.Series[Any]
    zone: pd.Series[Any]
    block: np.ndarray[Any, Any]
    series: list[Series]
    one_meter: bool = False
    every_turbine: bool = True


@dataclass
class _Cells:
    """Columns that are neither stamps nor arrival times, as text and as numbers; ``numeric`` names those of numbers."""

    text: dict[str, list[str]]
    values: dict[str, Reals]
    numeric: list[str]
    block: np.ndarray[Any, Any]


def lay_out(sample: Sample, found: Findings, stamps: Stamps, decimal: str, thousands: str | None) -> Table:
    """Find the layout and the source of the turbine's identifier; convert the sample to a `Table`."""
    used = {*stamps.columns, found.value("signals.received_at"), ""}
    text = {name: sample.column(name) for name in dict.fromkeys(sample.header) if name not in used}
    values = {name: numbers(column, decimal, thousands) for name, column in text.items()}
    doubled = sorted({name for name in text if sample.header.count(name) > 1})
    # Columns of the same name cannot be addressed individually.
    numeric = [name for name in text if name not in doubled and _is_numeric(text[name], values[name])]
    block = np.repeat(np.arange(len(sample.blocks)), [len(rows) for rows in sample.blocks])
    cells = _Cells(text, values, numeric, block)
    if (long := _long(found, stamps, cells)) is not None:
        return long
    turbine = _turbine_column(sample, found, stamps, cells)
    if turbine is None and (wide := _wide(sample, found, stamps, cells)) is not None:
        return wide
    many_files = len(sample.files) > 1
    found.proven("signals.layout", "table", "a row is one turbine at one time" if turbine or many_files else "one row per time")
    series = [Series(name, values[name], sample.units.get(name, "")) for name in numeric if name != turbine]
    powers = sum(names.signal_of(one.name) == "power_kw" for one in series)
    if doubled and not powers:
        below = sample.units.get(doubled[0], "")
        raise OnboardingError(
            f"{sample.files[0]}: columns of the same name ({', '.join(doubled)}) cannot be distinguished; "
            + (
                f"join the two header rows into one, such as '{doubled[0]} {below}'"
                if names.meaning_of(below).term
                else f"give each a unique name, such as 'T01 {doubled[0]}' if they belong to turbines"
            )
        )
    table = Table(np.full(len(block), "farm"), stamps.wall, stamps.zone, block, series)
    if turbine is not None:
        table.turbine = np.array(text[turbine])
        by_block = pd.Series(table.turbine).groupby(block).nunique()
        # A turbine may occur between blocks only, unless each block has every turbine.
        table.every_turbine = sample.whole or bool((by_block == len(set(table.turbine))).all())
        return table
    if many_files and (pattern := _pattern_of_files(sample, stamps, block)) is not None:
        found.proven("signals.turbine", None, "no column names a turbine")
        found.proven("signals.turbine_in_file", pattern[0], "files with different values of this part cover the same times")
        table.turbine = np.array(pattern[1])[block]
        return table
    table.one_meter = True
    repeated = stamps.wall.duplicated().mean() > _MIN_REPEATED
    if powers == 1 and not repeated:
        found.proven("signals.turbine", None, "no column names a turbine, and no time is repeated")
        return table
    # Columns of several turbines with uninformative names would be taken for one meter.
    why = f"no turbine is named, and {powers} columns are power by their names"
    for name in ("signals.layout", "signals.turbine"):
        found.asked(name, found.value(name), "times are repeated, and no column names a turbine" if repeated else why)
    return table


def _is_numeric(text: Sequence[str], values: Reals) -> bool:
    finite = np.isfinite(values)
    if finite.mean() > _NUMERIC_SHARE or not finite.any():
        return bool(finite.any())
    filled = [cell for cell in text[:: max(1, len(text) // 2000)] if cell]
    return sum(map(is_number, filled)) > _NUMERIC_FILLED_SHARE * len(filled)


# --- a column of turbines --------------------------------------------------------------------------------------------


def _turbine_column(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> str | None:
    """Find the column that makes times unique; choose by name among several."""
    if "signals.turbine" in found.given:
        given: str | None = found.proven("signals.turbine", None, "")
        return given if given is None else sample.existing(given, cells.text)
    times = stamps.wall.astype("int64")
    doubled = float(times.duplicated().mean())
    fitting = []
    for name, column in cells.text.items():
        distinct = {cell for cell in column if cell}
        if not _may_be_turbines(name, distinct, len(times), doubled):
            continue
        named = names.has_term(name, "turbine")
        repeated = float(pd.DataFrame({"at": times, "id": column}).duplicated().mean())
        if repeated < _MAX_REPEATED and (named or repeated < doubled / 3):
            fitting.append((not named, repeated, name, len(distinct)))
    if not fitting:
        return None
    fitting.sort()
    unnamed, _, name, count = fitting[0]
    alone = len(fitting) == 1 or (not unnamed and fitting[1][0])
    found.add("signals.turbine", name, f"'{name}' has {count} values, and times are unique for each", proven=alone)
    return name


def _may_be_turbines(name: str, distinct: set[str], rows: int, doubled: float) -> bool:
    if not 1 <= len(distinct) <= min(_MAX_TURBINES, max(1, rows // 20)) or names.has_term(name, "quality", "code"):
        return False
    named = names.has_term(name, "turbine")
    if names.meaning_of(name).term and not named:
        return False
    # Numbers with decimals are measurements, not identifiers.
    values = pd.to_numeric(pd.Series(sorted(distinct)), errors="coerce")
    if values.notna().all() and (values % 1 != 0).any():
        return False
    # Without repeated times there is one turbine, so a column of several values is something else.
    return named if len(distinct) == 1 else doubled >= (_MIN_REPEATED if named else _MANY_REPEATED)


# --- one file per turbine --------------------------------------------------------------------------------------------


def _pattern_of_files(sample: Sample, stamps: Stamps, block: np.ndarray[Any, Any]) -> tuple[str, list[str]] | None:
    """Find the part of the file names that identifies the turbine: files of different turbines overlap in time, others do not.

    Returns:
        The card's pattern and the turbine of each block.
    """
    parts = {path: re.split(r"([^A-Za-z0-9]+)", path.name) for path in sample.files}
    first = next(iter(parts.values()))
    if any(len(one) != len(first) for one in parts.values()):
        return None
    at = pd.DataFrame({"at": stamps.wall, "file": [sample.block_files[number] for number in block]}).dropna()
    spans = {Path(str(path)): (own["at"].min(), own["at"].max()) for path, own in at.groupby("file")}
    varying = [place for place in range(len(first)) if len({one[place] for one in parts.values()}) > 1]
    for place in varying:
        by_id: dict[str, list[Any]] = defaultdict(list)
        for path in sorted(spans, key=lambda path: spans[path]):
            by_id[parts[path][place]].append(spans[path])
        if len(by_id) < 2:  # noqa: PLR2004
            continue
        # The end of one file may be the start of the next.
        disjoint = all(one[1] <= other[0] for own in by_id.values() for one, other in pairwise(own))
        latest_start, earliest_end = max(own[0][0] for own in by_id.values()), min(own[-1][1] for own in by_id.values())
        if disjoint and latest_start < earliest_end:
            name = [TURBINE if at == place else "*" if at in varying else first[at] for at in range(len(first))]
            # The pattern keeps the characters around the identifier, so that a short part does not match several turbines.
            return "".join(name), [parts[path][place] for path in sample.block_files]
    return None


# --- wide ------------------------------------------------------------------------------------------------------------


def _wide(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """Detect a wide layout: column names that differ in one part only, with the same set of parts for every signal."""
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name in cells.numeric:
        for pattern in (r"[A-Za-z]*[ _.-]?0*\d+[A-Za-z]?(?=$|[^0-9A-Za-z])|\d+", r"[^ _.:/|-]+"):
            for part in re.finditer(pattern, name):
                families[name[: part.start()] + TURBINE + name[part.end() :]][part.group()] = name
    sets: dict[frozenset[str], list[str]] = defaultdict(list)
    with_power = set()
    for template, members in families.items():
        signal = names.signal_of(template.replace(TURBINE, " ")) if len(members) > 1 else None
        ids = set(members)
        if signal == "power_kw":  # without the farm's total
            ids -= {physics.sum_of_the_others({one: cells.values[name] for one, name in members.items()})}
            with_power.add(frozenset(ids))
        if signal is not None:
            sets[frozenset(ids)].append(template)
    ranked = [
        (len(templates), sum(any(c.isdigit() for c in one) for one in ids), sum(map(len, ids)), ids, templates)
        for ids, templates in sets.items()
        if ids in with_power and not any(map(_is_word, ids))
    ]
    if not ranked:
        return None
    *_, chosen, templates = max(ranked, key=lambda one: one[:3])
    turbines = in_order(chosen)
    why = f"{len(turbines)} columns of each of {len(templates)} signals differ in one part of the name only"
    found.proven("signals.layout", "wide", why)
    found.proven("signals.turbine", None, "turbines are in the names of columns")
    # The user may have named columns that are not recognised by their names.
    given = [name for field, name in found.given.items() if re.fullmatch(r"signals\.columns\.\w+\.name", field)]
    templates += [one for one in given if one in families and chosen <= set(families[one]) and one not in templates]
    return Table(
        np.repeat(turbines, len(cells.block)),
        pd.concat([stamps.wall] * len(turbines), ignore_index=True),
        pd.concat([stamps.zone] * len(turbines), ignore_index=True),
        np.concatenate([cells.block + number * len(sample.blocks) for number in range(len(turbines))]),
        [
            Series(
                one,
                np.concatenate([cells.values[families[one][id_]] for id_ in turbines]),
                next((sample.units[name] for name in families[one].values() if name in sample.units), ""),
            )
            for one in templates
        ],
    )


def _is_word(part: str) -> bool:
    """Whether the varying part of a name is a statistic, a unit or a signal, not a turbine."""
    unnumbered = not re.search(r"\d", part) and names.meaning_of(part).term
    return bool(names.statistic_of(part) or names.unit_of(f"x [{part}]") or unnumbered)


def in_order(ids: Iterable[str]) -> list[str]:
    """Sort identifiers in natural order."""
    return sorted(
        ids, key=lambda one: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", one)]
    )


# --- long ------------------------------------------------------------------------------------------------------------


def _long(found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """Detect a long layout: one value per row, with the name of its signal."""
    if not cells.numeric:
        return None
    value = max(cells.numeric, key=lambda name: len(np.unique(cells.values[name][np.isfinite(cells.values[name])][:5000])))
    meaning = names.meaning_of(value)
    if meaning.signal is not None and meaning.term != "output":  # a table with one signal
        return None
    texts = [name for name, text in cells.text.items() if name not in cells.numeric and any(text)]
    for tag in texts:
        tags = set(cells.text[tag])
        if not 2 <= len(tags) <= _MAX_TAGS:  # noqa: PLR2004
            continue
        signals = {names.signal_of(re.sub(r"^.*?[/\\|]", "", one)) for one in tags} - {None}
        if "power_kw" in signals and len(signals) > 1:
            found.proven("signals.layout", "long", f"'{tag}' names {len(tags)} signals, '{value}' has the values")
            found.proven("signals.signal", tag, "its values are names of signals")
            found.proven("signals.value", value, "the numeric column with the most distinct values")
            others = [name for name in [*texts, *cells.numeric] if name not in {tag, value}]
            return _pivoted(found, stamps, cells, tag, value, others)
    return None


def _pivoted(found: Findings, stamps: Stamps, cells: _Cells, tag: str, value: str, others: list[str]) -> Table:
    frame = pd.DataFrame(
        {"tag": cells.text[tag], "wall": stamps.wall, "zone": stamps.zone, "value": cells.values[value], "block": cells.block}
    )
    quality = next((name for name in others if names.has_term(name, "quality")), None)
    if quality is not None:
        others.remove(quality)
        found.proven("signals.quality", quality, "by its name")
        best, count = Counter(cells.text[quality]).most_common(1)[0]
        why = f"'{best}' occurs in {count} of {len(frame)} rows"
        good = found.add("signals.good_quality", [best], why, proven=best.strip().lower() in names.GOOD_VALUES)
        frame.loc[~np.isin(cells.text[quality], good), "value"] = np.nan
    unit = next((name for name in others if {names.unit_of("", cell) for cell in set(cells.text[name])} - {None}), None)
    units = pd.Series(cells.text[unit], index=cells.text[tag]).groupby(level=0).first().to_dict() if unit else {}
    turbines = [name for name in others if name != unit and 1 <= len(set(cells.text[name])) <= _MAX_TURBINES]
    turbines = [name for name in turbines if not names.has_term(name, "quality", "code")]
    named = [name for name in turbines if names.has_term(name, "turbine")] or turbines
    one_meter = False
    if named:
        why = f"'{named[0]}' is a column next to signal and value"
        frame["turbine"] = cells.text[found.add("signals.turbine", named[0], why, proven=len(named) == 1)]
    else:
        found.proven("signals.turbine", None, "turbines are in the names of signals")
        ids = _turbines_in_tags(found, sorted(set(frame["tag"])))
        one_meter = ids is None
        frame["turbine"] = "farm" if ids is None else frame["tag"].map(ids)
        if ids is not None:
            bare = {one: TURBINE + one.removeprefix(turbine) for one, turbine in ids.items()}
            units = {bare[str(one)]: text for one, text in units.items()}
            frame["tag"] = frame["tag"].map(bare)
    keys = ["turbine", "wall", "zone"]
    wide = frame.pivot_table(index=keys, columns="tag", values="value", aggfunc="first", dropna=False, observed=True)
    wide = wide.dropna(how="all")
    rows = wide.index.to_frame(index=False)
    return Table(
        rows["turbine"].astype(str).to_numpy(),
        rows["wall"],
        rows["zone"],
        frame.groupby(keys)["block"].first().reindex(wide.index).to_numpy(),
        [Series(str(name), wide[name].to_numpy(dtype=float), units.get(str(name), "")) for name in wide.columns],
        one_meter=one_meter,
    )  # fmt: skip


def _turbines_in_tags(found: Findings, tags: Sequence[str]) -> Mapping[str, str] | None:
    """The turbine of each tag: its first part or parts, which contain a digit; none if the tags have no such parts."""
    ways = []
    mark = r"[./\\|:_ ]"
    for parts in range(1, _MAX_PARTS):
        start = re.compile(rf"(.*?(?:{mark}.*?){{{parts - 1}}}){mark}")
        ids = {tag: match.group(1) for tag in tags if (match := start.match(tag))}
        if len(ids) == len(tags) and all(any(c.isdigit() for c in one) for one in ids.values()):
            ways.append(ids)
    if not ways:
        found.asked("signals.turbine", None, "no part of the names of signals is a turbine")
        return None

    def filled_share(ids: Mapping[str, str]) -> float:
        """Share of the combinations of signal and turbine that occur."""
        return len(ids) / (len({tag[len(turbine) :] for tag, turbine in ids.items()}) * len(set(ids.values())))

    # A prefix of all tags is the farm; the signals are repeated for each turbine.
    chosen = max((one for one in ways if len(set(one.values())) > 1), key=filled_share, default=ways[0])
    if chosen is not ways[0]:
        one = next(iter(chosen.values()))
        why = f"no column; '{one}' in the tags is taken for a turbine, as the signals are repeated for each"
        found.asked("signals.turbine", None, why)
    return chosen
