"""Find the layout of an export, and convert it to one table of turbine, stamp and candidate series for signals."""

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

from wind_kedro.cards import TURBINE

from . import names, physics
from .findings import Findings, OnboardingError
from .numerals import numbers
from .physics import Reals
from .sample import Sample, is_number
from .stamp_columns import Stamps

_MAX_TURBINES = 500
_MAX_TAGS = 5000
#: Upper limit (exclusive) of path parts before the turbine in a tag: country, site, line, turbine.
_MAX_PARTS = 6
_MOST = 0.9
#: Minimum share of numbers in a numeric column, unless all its filled cells are numbers.
_HALF = 0.5
_NEARLY_NONE = 0.01
#: Maximum share of repeated rows of one turbine and time.
_MAX_REPEATED = 0.05
_MANY_DOUBLED = 0.4
_GOOD_VALUES = frozenset({
    "good", "ok", "gut", "192", "bon", "bonne", "buono", "buona", "bueno", "buena", "valid", "goed", "god", "dobra",
    "正常", "良好",
})  # fmt: skip


@dataclass
class Series:
    """A candidate for a signal: a column, a family of columns of a wide export, or a tag of a long export."""

    name: str
    values: Reals
    unit_beside: str = ""


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
    """Columns that are neither stamps nor arrival times, as text and as numbers."""

    text: dict[str, list[str]]
    values: dict[str, Reals]
    numeric: list[str]
    block: np.ndarray[Any, Any]

    @property
    def texts(self) -> list[str]:
        return [name for name, cells in self.text.items() if name not in self.numeric and any(cells)]


def lay_out(sample: Sample, found: Findings, stamps: Stamps, decimal: str, thousands: str | None) -> Table:
    """Find the layout and the source of the turbine's identifier; convert the sample to a `Table`."""
    cells = _cells(sample, found, stamps, decimal, thousands)
    doubled = sorted({name for name in cells.text if sample.header.count(name) > 1})
    # Columns of the same name cannot be addressed individually.
    cells.numeric = [name for name in cells.numeric if name not in doubled]
    if (long := _long(sample, found, stamps, cells)) is not None:
        return long
    turbine = _turbine_column(sample, found, stamps, cells)
    if turbine is None and (wide := _wide(sample, found, stamps, cells)) is not None:
        return wide
    many_files = len(sample.files) > 1
    found.proven("signals.layout", "table", "a row is one turbine at one time" if turbine or many_files else "one row per time")
    series = [Series(name, cells.values[name], sample.units.get(name, "")) for name in cells.numeric if name != turbine]
    if doubled and not any(names.signal_of(one.name)[0] == "power_kw" for one in series):
        below = sample.units.get(doubled[0], "")
        raise OnboardingError(
            f"{sample.files[0]}: columns of the same name ({', '.join(doubled)}) cannot be distinguished; "
            + (
                f"join the two header rows into one, such as '{doubled[0]} {below}'"
                if names.meaning_of(below).term
                else f"give each a unique name, such as 'T01 {doubled[0]}' if they belong to turbines"
            )
        )
    table = Table(np.full(len(cells.block), "farm"), stamps.wall, stamps.zone, cells.block, series)
    if turbine is not None:
        table.turbine = np.array(cells.text[turbine])
        table.every_turbine = sample.whole or _in_every_block(table)
        return table
    if many_files and (pattern := _pattern_of_files(sample, stamps, cells.block)) is not None:
        found.proven("signals.turbine", None, "no column names a turbine")
        found.proven("signals.turbine_in_file", pattern[0], "files with different values of this part cover the same times")
        table.turbine = np.array(pattern[1])[cells.block]
        return table
    _one_meter(found, stamps, table)
    return table


def _one_meter(found: Findings, stamps: Stamps, table: Table) -> None:
    table.one_meter = True
    powers = sum(names.signal_of(one.name)[0] == "power_kw" for one in table.series)
    again = stamps.wall.duplicated().mean() > _NEARLY_NONE
    if powers == 1 and not again:
        found.proven("signals.turbine", None, "no column names a turbine, and no time is repeated")
        return
    # Columns of several turbines with uninformative names would be taken for one meter.
    why = (
        "times are repeated, and no column names a turbine"
        if again
        else f"no turbine is named, and {powers} columns are power by their names"
    )
    for name in ("signals.layout", "signals.turbine"):
        found.asked(name, found.value(name), why)


def _cells(sample: Sample, found: Findings, stamps: Stamps, decimal: str, thousands: str | None) -> _Cells:
    used = {*stamps.columns, found.value("signals.received_at"), ""}
    text = {name: sample.column(name) for name in dict.fromkeys(sample.header) if name not in used}
    values = {name: numbers(column, decimal, thousands) for name, column in text.items()}

    def is_numeric(name: str) -> bool:
        finite = np.isfinite(values[name])
        return bool(finite.mean() > _HALF or (_mostly_numbers(text[name]) and finite.any()))

    block = np.repeat(np.arange(len(sample.blocks)), [len(rows) for rows in sample.blocks])
    return _Cells(text, values, [name for name in text if is_numeric(name)], block)


def _mostly_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells[:: max(1, len(cells) // 2000)] if cell]
    return bool(filled) and sum(map(is_number, filled)) > _MOST * len(filled)


def _in_every_block(table: Table) -> bool:
    """Whether each block has every turbine, so that no turbine occurs only between blocks."""
    frame = pd.DataFrame({"block": table.block, "turbine": table.turbine})
    return bool((frame.groupby("block")["turbine"].nunique() == frame["turbine"].nunique()).all())


# --- a column of turbines --------------------------------------------------------------------------------------------


def _turbine_column(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> str | None:
    """Find the column that makes times unique; choose by name among several."""
    if "signals.turbine" in found.given:
        given: str | None = found.proven("signals.turbine", None, "")
        if given is not None and given not in cells.text:
            raise OnboardingError(f"{sample.files[0]}: no column '{given}'; columns are {', '.join(sample.header)}")
        return given
    times = stamps.wall.astype("int64").to_numpy()
    doubled = float(pd.Series(times).duplicated().mean())
    fitting = []
    for name, column in cells.text.items():
        distinct = {cell for cell in column if cell}
        if not _may_be_turbines(name, distinct, len(times), doubled):
            continue
        named = names.has_term(name, names.TURBINE_TERMS)
        repeated = float(pd.DataFrame({"at": times, "id": column}).duplicated().mean())
        if repeated < _MAX_REPEATED and (named or repeated < doubled / 3):
            fitting.append((not named, repeated, name, len(distinct)))
    if not fitting:
        return None
    fitting.sort()
    name = fitting[0][2]
    alone = len(fitting) == 1 or (not fitting[0][0] and fitting[1][0])
    found.add("signals.turbine", name, f"'{name}' has {fitting[0][3]} values, and times are unique for each", proven=alone)
    return name


def _may_be_turbines(name: str, distinct: set[str], rows: int, doubled: float) -> bool:
    if not 1 <= len(distinct) <= min(_MAX_TURBINES, max(1, rows // 20)) or names.has_term(name, names.CODE_TERMS):
        return False
    named = names.has_term(name, names.TURBINE_TERMS)
    if names.meaning_of(name).term and not named:
        return False
    # Numbers with decimals are measurements, not identifiers.
    if all(map(_is_float, distinct)) and not all(float(one).is_integer() for one in distinct):
        return False
    # Without repeated times there is one turbine, so a column of several values is something else.
    if len(distinct) > 1 and doubled < _NEARLY_NONE:
        return False
    return named or (len(distinct) > 1 and doubled >= _MANY_DOUBLED)


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# --- one file per turbine --------------------------------------------------------------------------------------------


def _pattern_of_files(sample: Sample, stamps: Stamps, block: np.ndarray[Any, Any]) -> tuple[str, list[str]] | None:
    """Find the part of the file names that identifies the turbine: files of different turbines overlap in time, others do not.

    Returns:
        The card's pattern and the turbine of each block.
    """
    parts = {path: re.split(r"([^A-Za-z0-9]+)", path.name) for path in sample.files}
    if len({len(one) for one in parts.values()}) != 1:
        return None
    spans = _spans(sample, stamps, block)
    width = len(next(iter(parts.values())))
    varying = [place for place in range(width) if len({one[place] for one in parts.values()}) > 1]
    for place in varying:
        by_id: dict[str, list[Path]] = defaultdict(list)
        for path, one in parts.items():
            by_id[one[place]].append(path)
        if not all(_are_disjoint([spans[path] for path in paths if path in spans]) for paths in by_id.values()):
            continue
        whole = [_union([spans[path] for path in paths if path in spans]) for paths in by_id.values()]
        if len(by_id) < 2 or max(low for low, _ in whole) >= min(high for _, high in whole):  # noqa: PLR2004
            continue
        first = next(iter(parts.values()))
        name = [TURBINE if at == place else "*" if at in varying else first[at] for at in range(width)]
        # The pattern keeps the characters around the identifier, so that a short part does not match several turbines.
        return "".join(name), [parts[path][place] for path in sample.block_files]
    return None


def _spans(sample: Sample, stamps: Stamps, block: np.ndarray[Any, Any]) -> dict[Path, tuple[Any, Any]]:
    at = pd.DataFrame({"at": stamps.wall, "file": [sample.block_files[number] for number in block]}).dropna()
    return {Path(str(path)): (own["at"].min(), own["at"].max()) for path, own in at.groupby("file")}


def _union(spans: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    return min(low for low, _ in spans), max(high for _, high in spans)


def _are_disjoint(spans: Sequence[tuple[Any, Any]]) -> bool:
    """Whether time spans do not overlap; the end of one may be the start of the next."""
    order = sorted(spans)
    return bool(spans) and all(one[1] <= other[0] for one, other in pairwise(order))


# --- wide ------------------------------------------------------------------------------------------------------------


def _wide(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """Detect a wide layout: column names that differ in one part only, with the same set of parts for every signal."""
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name in cells.numeric:
        for pattern in (r"[A-Za-z]*[ _.-]?0*\d+[A-Za-z]?(?=$|[^0-9A-Za-z])|\d+", r"[^ _.:/|-]+"):
            for part in re.finditer(pattern, name):
                families[name[: part.start()] + TURBINE + name[part.end() :]][part.group()] = name
    signals = {
        template: _without_total(members, cells) if signal == "power_kw" else members
        for template, members in families.items()
        if len(members) > 1 and (signal := names.signal_of(template.replace(TURBINE, " "))[0]) is not None
    }
    sets: dict[frozenset[str], list[str]] = defaultdict(list)
    for template, members in signals.items():
        sets[frozenset(members)].append(template)
    sets = {ids: templates for ids, templates in sets.items() if _are_turbines(ids, templates)}
    if not sets:
        return None

    def rank(item: tuple[frozenset[str], list[str]]) -> tuple[int, int, int]:
        ids, templates = item
        return len(templates), sum(any(c.isdigit() for c in one) for one in ids), sum(map(len, ids))

    ids, templates = max(sets.items(), key=rank)
    found.proven(
        "signals.layout", "wide", f"{len(ids)} columns of each of {len(templates)} signals differ in one part of the name only"
    )
    # The user may have named columns that are not recognised by their names.
    given = [name for field, name in found.given.items() if re.fullmatch(r"signals\.columns\.\w+\.name", field)]
    templates += [one for one in given if one in families and ids <= set(families[one]) and one not in templates]
    return _stacked(sample, found, stamps, cells, {one: families[one] for one in templates}, in_order(list(ids)))


def _without_total(members: Mapping[str, str], cells: _Cells) -> Mapping[str, str]:
    """Columns of power without one that is the sum of the others, which is the farm's total."""
    total = physics.sum_of_the_others({one: cells.values[name] for one, name in members.items()})
    return {one: name for one, name in members.items() if one != total}


def _are_turbines(ids: frozenset[str], templates: Sequence[str]) -> bool:
    """Whether the varying parts identify turbines, not statistics, units or signals; one of the signals must be power."""
    if any(names.statistic_of(one) for one in ids) or any(names.unit_of(f"x [{one}]") for one in ids):
        return False
    if any(names.meaning_of(one).term for one in ids if not re.search(r"\d", one)):
        return False
    return any(names.signal_of(template.replace(TURBINE, " "))[0] == "power_kw" for template in templates)


def _stacked(
    sample: Sample, found: Findings, stamps: Stamps, cells: _Cells, templates: Mapping[str, Mapping[str, str]], ids: Sequence[str]
) -> Table:
    found.proven("signals.turbine", None, "turbines are in the names of columns")
    many = len(ids)

    def unit(template: str) -> str:
        return next((sample.units[name] for name in templates[template].values() if name in sample.units), "")

    return Table(
        np.repeat(ids, len(cells.block)),
        pd.concat([stamps.wall] * many, ignore_index=True),
        pd.concat([stamps.zone] * many, ignore_index=True),
        np.concatenate([cells.block + number * len(sample.blocks) for number in range(many)]),
        [
            Series(one, np.concatenate([cells.values[members[id_]] for id_ in ids]), unit(one))
            for one, members in templates.items()
        ],
    )


def in_order(ids: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Sort identifiers in natural order."""
    return sorted(
        ids, key=lambda one: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", one)]
    )


# --- long ------------------------------------------------------------------------------------------------------------


def _long(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """Detect a long layout: one value per row, with the name of its signal."""
    if not cells.numeric:
        return None
    value = max(cells.numeric, key=lambda name: len(np.unique(cells.values[name][np.isfinite(cells.values[name])][:5000])))
    if names.signal_of(value)[0] is not None and names.signal_of(value)[1] != "output":  # a table with one signal
        return None
    for tag in cells.texts:
        tags = in_order(list(set(cells.text[tag])))
        if not 2 <= len(tags) <= _MAX_TAGS:  # noqa: PLR2004
            continue
        signals = {signal for one in tags if (signal := names.signal_of(_leaf(one))[0])}
        if "power_kw" not in signals or len(signals) == 1:
            continue
        found.proven("signals.layout", "long", f"'{tag}' names {len(tags)} signals, '{value}' has the values")
        found.proven("signals.signal", tag, "its values are names of signals")
        found.proven("signals.value", value, "the numeric column with the most distinct values")
        return _pivoted(found, stamps, cells, tag, value)
    return None


def _leaf(tag: str) -> str:
    """A tag without its path."""
    return re.sub(r"^.*?[/\\|]", "", tag)


def _pivoted(found: Findings, stamps: Stamps, cells: _Cells, tag: str, value: str) -> Table:
    others = [name for name in [*cells.texts, *cells.numeric] if name not in {tag, value}]
    frame = pd.DataFrame(
        {"tag": cells.text[tag], "wall": stamps.wall, "zone": stamps.zone, "value": cells.values[value], "block": cells.block}
    )
    quality = next((name for name in others if names.has_term(name, names.QUALITY_TERMS)), None)
    if quality is not None:
        others.remove(quality)
        frame.loc[~np.isin(cells.text[quality], _good_quality(found, quality, cells.text[quality])), "value"] = np.nan
    unit = next((name for name in others if {names.unit_of("", cell) for cell in set(cells.text[name])} - {None}), None)
    frame["unit"] = cells.text[unit] if unit else ""
    turbines = [name for name in others if name != unit and 1 <= len(set(cells.text[name])) <= _MAX_TURBINES]
    turbines = [name for name in turbines if not names.has_term(name, names.CODE_TERMS)]
    named = [name for name in turbines if names.has_term(name, names.TURBINE_TERMS)] or turbines
    one_meter = False
    if named:
        name = found.add(
            "signals.turbine", named[0], f"'{named[0]}' is a column next to signal and value", proven=len(named) == 1
        )
        frame["turbine"] = cells.text[name]
    else:
        one_meter = _turbines_in_tags(found, frame)
    keys = ["turbine", "wall", "zone"]
    wide = frame.pivot_table(index=keys, columns="tag", values="value", aggfunc="first", dropna=False, observed=True).dropna(
        how="all"
    )
    units = frame.groupby("tag")["unit"].first().to_dict()
    index = wide.index
    return Table(
        np.array(index.get_level_values("turbine").astype(str)),
        pd.Series(index.get_level_values("wall")),
        pd.Series(index.get_level_values("zone")),
        frame.groupby(keys)["block"].first().reindex(index).to_numpy(),
        [Series(str(name), wide[name].to_numpy(dtype=float), str(units.get(name, ""))) for name in wide.columns],
        one_meter=one_meter,
    )  # fmt: skip


def _good_quality(found: Findings, quality: str, values: Sequence[str]) -> list[str]:
    counts = Counter(values)
    best = counts.most_common(1)[0][0]
    found.proven("signals.quality", quality, "by its name")
    good: list[str] = found.add(
        "signals.good_quality",
        [best],
        f"'{best}' occurs in {counts[best]} of {len(values)} rows",
        proven=best.strip().lower() in _GOOD_VALUES,
    )
    return good


def _beginnings(tags: Sequence[str], parts: int) -> dict[str, str] | None:
    """The first ``parts`` parts of each tag; none if a tag has fewer, or if they contain no digit."""
    mark = r"[./\\|:_ ]"
    pattern = re.compile(rf"(.*?(?:{mark}.*?){{{parts - 1}}}){mark}")
    found = {tag: match.group(1) for tag in tags if (match := pattern.match(tag))}
    return found if len(found) == len(tags) and all(any(c.isdigit() for c in one) for one in found.values()) else None


def _filled_share(ids: Mapping[str, str]) -> float:
    """Share of the combinations of signal and turbine that occur."""
    signals = {tag[len(turbine) :] for tag, turbine in ids.items()}
    return len(ids) / (len(signals) * len(set(ids.values())))


def _turbines_in_tags(found: Findings, frame: pd.DataFrame) -> bool:
    """Move the turbine from the tags to a column; return whether the tags contain none."""
    tags = sorted(set(frame["tag"]))
    found.proven("signals.turbine", None, "turbines are in the names of signals")
    ways = [ids for parts in range(1, _MAX_PARTS) if (ids := _beginnings(tags, parts)) is not None]
    if not ways:
        found.asked("signals.turbine", None, "no part of the names of signals is a turbine")
        frame["turbine"] = "farm"
        return True
    # A prefix of all tags is the farm; the signals are repeated for each turbine.
    ids = max((one for one in ways if len(set(one.values())) > 1), key=_filled_share, default=ways[0])
    if ids is not ways[0]:
        one = next(iter(ids.values()))
        found.asked(
            "signals.turbine",
            None,
            f"no column; '{one}' in the tags is taken for a turbine, as the signals are repeated for each",
        )
    frame["turbine"] = frame["tag"].map(ids)
    frame["tag"] = [TURBINE + tag[len(str(ids[tag])) :] for tag in frame["tag"]]
    return False
