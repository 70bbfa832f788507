"""How turbines and signals lie in rows and columns, and the export as one table of turbine, stamp and candidates for signals."""

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
#: A tag's path to its turbine has fewer parts: country, site, line, turbine.
_MAX_PARTS = 6
_MOST = 0.9
#: A column with fewer numbers than this share of its rows is none of numbers, unless all that is filled in are.
_HALF = 0.5
_NEARLY_NONE = 0.01
#: With the column of turbines, a time comes once; a few rows may come twice all the same.
_MAX_REPEATED = 0.05
_MANY_DOUBLED = 0.4
_GOOD_WORDS = frozenset({
    "good", "ok", "gut", "192", "bon", "bonne", "buono", "buona", "bueno", "buena", "valid", "goed", "god", "dobra",
    "正常", "良好",
})  # fmt: skip


@dataclass
class Series:
    """One candidate for a signal: a column, a family of columns of a wide export, or a tag of a long one."""

    name: str
    values: Reals
    unit_beside: str = ""


@dataclass
class Table:
    """The export as turbine, stamp and candidates, whatever its layout was.

    Attributes:
        turbine: of each row; ``farm`` where nothing names one.
        wall: the stamp of each row, as it stands.
        zone: what stands behind it.
        block: the block of the sample each row is from; rows of different blocks are not neighbours.
        series: candidates for signals.
        one_meter: whether nothing names a turbine.
        every_turbine: whether the sample is sure to have a row of each turbine.
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
    """Columns that are neither stamps nor arrival times: as text, as numbers, and which of them are numbers."""

    text: dict[str, list[str]]
    values: dict[str, Reals]
    numeric: list[str]
    block: np.ndarray[Any, Any]

    @property
    def texts(self) -> list[str]:
        return [name for name, cells in self.text.items() if name not in self.numeric and any(cells)]


def lay_out(sample: Sample, found: Findings, stamps: Stamps, decimal: str, thousands: str | None) -> Table:
    """Find the layout and what names a turbine; bring the sample into one form."""
    cells = _cells(sample, found, stamps, decimal, thousands)
    doubled = sorted({name for name in cells.text if sample.header.count(name) > 1})
    # Of columns of one name only the first can be read, and which of them that is says nothing.
    cells.numeric = [name for name in cells.numeric if name not in doubled]
    if (long := _long(sample, found, stamps, cells)) is not None:
        return long
    turbine = _turbine_column(sample, found, stamps, cells)
    if turbine is None and (wide := _wide(sample, found, stamps, cells)) is not None:
        return wide
    many_files = len(sample.files) > 1
    found.proven(
        "signals.layout", "table", "a row is one turbine at one time" if turbine or many_files else "one row per time"
    )
    series = [Series(name, cells.values[name], sample.units.get(name, "")) for name in cells.numeric if name != turbine]
    if doubled and not any(names.signal_of(one.name)[0] == "power_kw" for one in series):
        below = sample.units.get(doubled[0], "")
        raise OnboardingError(
            f"{sample.files[0]}: columns of one name ({', '.join(doubled)}) cannot be told apart; "
            + (
                f"join the two rows of names into one, such as '{doubled[0]} {below}'"
                if names.meaning_of(below).word
                else f"give each a name of its own, such as 'T01 {doubled[0]}' if each is of a turbine"
            )
        )
    table = Table(np.full(len(cells.block), "farm"), stamps.wall, stamps.zone, cells.block, series)
    if turbine is not None:
        table.turbine = np.array(cells.text[turbine])
        table.every_turbine = sample.whole or _in_every_block(table)
        return table
    if many_files and (pattern := _pattern_of_files(sample, stamps, cells.block)) is not None:
        found.proven("signals.turbine", None, "no column names a turbine")
        found.proven(
            "signals.turbine_in_file", pattern[0], "the same times stand in files of each, so each is of one turbine"
        )
        table.turbine = np.array(pattern[1])[cells.block]
        return table
    _one_meter(found, stamps, table)
    return table


def _one_meter(found: Findings, stamps: Stamps, table: Table) -> None:
    table.one_meter = True
    powers = sum(names.signal_of(one.name)[0] == "power_kw" for one in table.series)
    again = stamps.wall.duplicated().mean() > _NEARLY_NONE
    if powers == 1 and not again:
        found.proven("signals.turbine", None, "no column names a turbine, and no time comes twice")
        return
    # Columns of several turbines whose names say nothing would pass for one meter.
    why = (
        "times come again, and nothing says whose they are"
        if again
        else f"nothing names a turbine, and {powers} columns are power by their names"
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
    """Whether each stretch of the file has every turbine: then none stands between the stretches only."""
    frame = pd.DataFrame({"block": table.block, "turbine": table.turbine})
    return bool((frame.groupby("block")["turbine"].nunique() == frame["turbine"].nunique()).all())


# --- a column of turbines --------------------------------------------------------------------------------------------


def _turbine_column(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> str | None:
    """The column with which times come once; by its name where several do."""
    if "signals.turbine" in found.given:
        given: str | None = found.proven("signals.turbine", None, "")
        if given is not None and given not in cells.text:
            raise OnboardingError(f"{sample.files[0]}: no column '{given}'; found are {', '.join(sample.header)}")
        return given
    times = stamps.wall.astype("int64").to_numpy()
    doubled = float(pd.Series(times).duplicated().mean())
    fitting = []
    for name, column in cells.text.items():
        distinct = {cell for cell in column if cell}
        if not _may_be_turbines(name, distinct, len(times), doubled):
            continue
        named = names.says(name, names.TURBINE_WORDS)
        repeated = float(pd.DataFrame({"at": times, "id": column}).duplicated().mean())
        if repeated < _MAX_REPEATED and (named or repeated < doubled / 3):
            fitting.append((not named, repeated, name, len(distinct)))
    if not fitting:
        return None
    fitting.sort()
    name = fitting[0][2]
    alone = len(fitting) == 1 or (not fitting[0][0] and fitting[1][0])
    found.add(
        "signals.turbine", name, f"'{name}' has {fitting[0][3]} values, and with it a time comes once", proven=alone
    )
    return name


def _may_be_turbines(name: str, distinct: set[str], rows: int, doubled: float) -> bool:
    if not 1 <= len(distinct) <= min(_MAX_TURBINES, max(1, rows // 20)) or names.says(name, names.CODE_WORDS):
        return False
    named = names.says(name, names.TURBINE_WORDS)
    if names.meaning_of(name).word and not named:
        return False
    # Numbers with decimals are measured, not counted.
    if all(map(_is_float, distinct)) and not all(float(one).is_integer() for one in distinct):
        return False
    # Where no time comes twice there is one turbine: a column of several values is about something else.
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
    """The part of the files' names that is the turbine's: files of different turbines have the same times, those of one do not.

    Returns:
        The card's pattern, and the turbine of each block.
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
        if not all(_apart([spans[path] for path in paths if path in spans]) for paths in by_id.values()):
            continue
        whole = [_union([spans[path] for path in paths if path in spans]) for paths in by_id.values()]
        if len(by_id) < 2 or max(low for low, _ in whole) >= min(high for _, high in whole):  # noqa: PLR2004
            continue
        first = next(iter(parts.values()))
        name = [TURBINE if at == place else "*" if at in varying else first[at] for at in range(width)]
        # A file is read with its pattern's letters around the turbine, so the shortest part that varies is no id of two.
        return "".join(name), [parts[path][place] for path in sample.block_files]
    return None


def _spans(sample: Sample, stamps: Stamps, block: np.ndarray[Any, Any]) -> dict[Path, tuple[Any, Any]]:
    at = pd.DataFrame({"at": stamps.wall, "file": [sample.block_files[number] for number in block]}).dropna()
    return {Path(str(path)): (own["at"].min(), own["at"].max()) for path, own in at.groupby("file")}


def _union(spans: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    return min(low for low, _ in spans), max(high for _, high in spans)


def _apart(spans: Sequence[tuple[Any, Any]]) -> bool:
    """Whether files follow one another: the end of one may be the start of the next."""
    order = sorted(spans)
    return bool(spans) and all(one[1] <= other[0] for one, other in pairwise(order))


# --- wide ------------------------------------------------------------------------------------------------------------


def _wide(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """Columns that differ in one part only, the same parts for every signal."""
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
        "signals.layout", "wide", f"{len(ids)} columns of each of {len(templates)} signals differ in one part only"
    )
    # Whoever is asked may know of columns whose names say nothing, or something else.
    given = [name for field, name in found.given.items() if re.fullmatch(r"signals\.columns\.\w+\.name", field)]
    templates += [one for one in given if one in families and ids <= set(families[one]) and one not in templates]
    return _stacked(sample, found, stamps, cells, {one: families[one] for one in templates}, in_order(list(ids)))


def _without_total(members: Mapping[str, str], cells: _Cells) -> Mapping[str, str]:
    """The columns of power but for one that is the sum of the others: the farm's own, not a turbine's."""
    total = physics.sum_of_the_others({one: cells.values[name] for one, name in members.items()})
    return {one: name for one, name in members.items() if one != total}


def _are_turbines(ids: frozenset[str], templates: Sequence[str]) -> bool:
    """Turbines have power; and minimum and maximum of a signal, or words of signals, differ in a part too."""
    if any(names.statistic_of(one) for one in ids) or any(names.unit_of(f"x [{one}]") for one in ids):
        return False
    if any(names.meaning_of(one).word for one in ids if not re.search(r"\d", one)):
        return False
    return any(names.signal_of(template.replace(TURBINE, " "))[0] == "power_kw" for template in templates)


def _stacked(
    sample: Sample,
    found: Findings,
    stamps: Stamps,
    cells: _Cells,
    templates: Mapping[str, Mapping[str, str]],
    ids: Sequence[str],
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
    """Identifiers by their letters, and the numbers in them by their size."""
    return sorted(
        ids,
        key=lambda one: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", one)
        ],
    )


# --- long ------------------------------------------------------------------------------------------------------------


def _long(sample: Sample, found: Findings, stamps: Stamps, cells: _Cells) -> Table | None:
    """One value a row, beside the name of its signal."""
    if not cells.numeric:
        return None
    value = max(
        cells.numeric, key=lambda name: len(np.unique(cells.values[name][np.isfinite(cells.values[name])][:5000]))
    )
    if (
        names.signal_of(value)[0] is not None and names.signal_of(value)[1] != "output"
    ):  # that of a table with one signal
        return None
    for tag in cells.texts:
        tags = in_order(list(set(cells.text[tag])))
        if not 2 <= len(tags) <= _MAX_TAGS:  # noqa: PLR2004
            continue
        signals = {signal for one in tags if (signal := names.signal_of(_leaf(one))[0])}
        if "power_kw" not in signals or len(signals) == 1:
            continue
        found.proven("signals.layout", "long", f"'{tag}' names {len(tags)} signals, '{value}' has their values")
        found.proven("signals.signal", tag, "its values are names of signals")
        found.proven("signals.value", value, "the column of numbers with the most different values")
        return _pivoted(found, stamps, cells, tag, value)
    return None


def _leaf(tag: str) -> str:
    """A tag without the path before it."""
    return re.sub(r"^.*?[/\\|]", "", tag)


def _pivoted(found: Findings, stamps: Stamps, cells: _Cells, tag: str, value: str) -> Table:
    others = [name for name in [*cells.texts, *cells.numeric] if name not in {tag, value}]
    frame = pd.DataFrame(
        {
            "tag": cells.text[tag],
            "wall": stamps.wall,
            "zone": stamps.zone,
            "value": cells.values[value],
            "block": cells.block,
        }
    )
    quality = next((name for name in others if names.says(name, names.QUALITY_WORDS)), None)
    if quality is not None:
        others.remove(quality)
        frame.loc[~np.isin(cells.text[quality], _good_quality(found, quality, cells.text[quality])), "value"] = np.nan
    unit = next((name for name in others if {names.unit_of("", cell) for cell in set(cells.text[name])} - {None}), None)
    frame["unit"] = cells.text[unit] if unit else ""
    turbines = [name for name in others if name != unit and 1 <= len(set(cells.text[name])) <= _MAX_TURBINES]
    turbines = [name for name in turbines if not names.says(name, names.CODE_WORDS)]
    named = [name for name in turbines if names.says(name, names.TURBINE_WORDS)] or turbines
    one_meter = False
    if named:
        name = found.add(
            "signals.turbine", named[0], f"'{named[0]}' is beside signal and value", proven=len(named) == 1
        )
        frame["turbine"] = cells.text[name]
    else:
        one_meter = _turbines_in_tags(found, frame)
    keys = ["turbine", "wall", "zone"]
    wide = frame.pivot_table(
        index=keys, columns="tag", values="value", aggfunc="first", dropna=False, observed=True
    ).dropna(how="all")
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


def _good_quality(found: Findings, quality: str, said: Sequence[str]) -> list[str]:
    counts = Counter(said)
    best = counts.most_common(1)[0][0]
    found.proven("signals.quality", quality, "by its name")
    good: list[str] = found.add(
        "signals.good_quality",
        [best],
        f"'{best}' stands in {counts[best]} of {len(said)} rows",
        proven=best.strip().lower() in _GOOD_WORDS,
    )
    return good


def _beginnings(tags: Sequence[str], parts: int) -> dict[str, str] | None:
    """What each tag begins with, so many parts of it; none if a tag has fewer, or a beginning ends without a number."""
    mark = r"[./\\|:_ ]"
    pattern = re.compile(rf"(.*?(?:{mark}.*?){{{parts - 1}}}){mark}")
    found = {tag: match.group(1) for tag in tags if (match := pattern.match(tag))}
    return found if len(found) == len(tags) and all(any(c.isdigit() for c in one) for one in found.values()) else None


def _filled_share(ids: Mapping[str, str]) -> float:
    """Of every signal for every turbine, how many there are."""
    signals = {tag[len(turbine) :] for tag, turbine in ids.items()}
    return len(ids) / (len(signals) * len(set(ids.values())))


def _turbines_in_tags(found: Findings, frame: pd.DataFrame) -> bool:
    """Take the turbine out of the tags; whether there is none in them."""
    tags = sorted(set(frame["tag"]))
    found.proven("signals.turbine", None, "turbines are in the names of signals")
    ways = [ids for parts in range(1, _MAX_PARTS) if (ids := _beginnings(tags, parts)) is not None]
    if not ways:
        found.asked("signals.turbine", None, "the names of signals have no part that is a turbine")
        frame["turbine"] = "farm"
        return True
    # What all tags begin with is the farm: turbines are what all signals come again for.
    ids = max((one for one in ways if len(set(one.values())) > 1), key=_filled_share, default=ways[0])
    if ids is not ways[0]:
        one = next(iter(ids.values()))
        found.asked(
            "signals.turbine", None, f"no column: '{one}' in the tags is taken for one, as its signals come again"
        )
    frame["turbine"] = frame["tag"].map(ids)
    frame["tag"] = [TURBINE + tag[len(str(ids[tag])) :] for tag in frame["tag"]]
    return False
