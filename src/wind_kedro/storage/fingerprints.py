"""Fingerprints of shards: what a shard of a derived table was made from, so that it is made again only when that changes.

A shard is a part of a derived table that is replaced whole: the rows of one key (a farm, a product and an entity) and one day.
Its *fingerprint* is a number made of everything that its rows depend on: the digests of the shards it reads, the values of the
cards and settings that the step reads, and the version of the step. Its *digest* is a number made of its rows. A step whose
output is equal to the previous one therefore stops what follows.

All numbers are unsigned 64-bit integers; they identify, and prove nothing against somebody who wants them to collide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

Numbers = NDArray[np.uint64]

#: Day of rows that have no time.
NO_DAY = pd.Timestamp(1970, 1, 1).as_unit("us")
DAY = pd.Timedelta(days=1)
#: Longest time between two days that are computed together.
MAX_GAP = pd.Timedelta(days=31)


@dataclass(frozen=True)
class Recipe:
    """How a derived table is made: which shards it is to have, and how some of them are computed.

    Attributes:
        wanted: one row per shard: the key columns, ``day`` (naive midnight; `NO_DAY`: rows without a time) and ``fingerprint``;
            optionally ``rows``, about how many it has, by which work is split, and ``step``, the part of the fingerprint that
            comes from cards, settings and the step's version, by which `wind plan` tells why a shard is computed again. A key
            that is replaced with all its days has no column ``day``.
        work: computes the rows of some shards: takes rows of ``wanted``, all keys of which are wanted on all their days, and
            returns a table (Ibis, Arrow or pandas) that holds all rows of these shards and no others.
        faults: filled by ``work``: why a shard could not be computed, by key, or by key and day (as text). Such a shard is
            computed again in the next run.
    """

    wanted: pd.DataFrame
    work: Callable[[pd.DataFrame], Any]
    faults: dict[tuple[str, ...], str] = field(default_factory=dict)


def number_of(value: Any) -> int:
    """A number that identifies a value made of cards, settings, texts, numbers, lists and mappings."""
    text = json.dumps(value, sort_keys=True, default=_canonical, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _canonical(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def mixed(*parts: Any) -> Numbers:
    """One number of several, elementwise; their order matters.

    Args:
        parts: arrays, series or scalars of integers or times (naive; missing ones count as a value of their own).
    """
    arrays = np.broadcast_arrays(*(_integers(part) for part in parts))
    result = np.zeros(arrays[0].shape, dtype=np.uint64)
    for array in arrays:
        with np.errstate(over="ignore"):
            result = _scrambled(result + array + np.uint64(0x9E3779B97F4A7C15))
    return result


def _integers(part: Any) -> Numbers:
    array = np.asarray(part)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[us]")
    if array.dtype.kind in "iumM" or array.dtype == bool:
        return array.astype("int64").view(np.uint64) if array.dtype.kind in "iM" else array.astype(np.uint64)
    return np.asarray(array, dtype=np.uint64)


def _scrambled(values: Numbers) -> Numbers:
    # splitmix64: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def around(days: pd.DataFrame, key: Sequence[str], *, before: int = 0, after: int = 0) -> pd.DataFrame:
    """What lies around each day: the shards that a step reads which looks ``before`` days back and ``after`` days ahead.

    Args:
        days: shards of an upstream table: ``key`` columns, ``day``, ``digest``; optionally ``first_at`` and ``last_at``, the
            times between which their rows became available (naive). Several rows of one key and day are combined.
        key: its columns.
        before: days.
        after: days.

    Returns:
        One row per key and day of ``days``: ``digest`` of all shards around it, ``rows`` of the day itself, and, if given, the
        least ``first_at`` and the greatest ``last_at`` around it. `NO_DAY` has no neighbours.
    """
    # Sums of unsigned numbers wrap around.
    how: dict[str, Any] = {"digest": "sum", "rows": "sum", "first_at": "min", "last_at": "max"}
    how = {name: reduce for name, reduce in how.items() if name in days}
    own = days.astype({"digest": "uint64"}).groupby([*key, "day"], as_index=False, observed=True).agg(how)
    pieces = []
    timeless = own["day"] == NO_DAY
    for offset in range(-before, after + 1):
        moved = own if offset == 0 else own[~timeless]
        digest = mixed(moved["digest"].to_numpy(dtype=np.uint64), np.int64(offset))
        pieces.append(moved.assign(day=moved["day"] - offset * DAY, digest=digest, rows=moved["rows"] if offset == 0 else 0))
    merged = pd.concat(pieces, ignore_index=True)
    combined = merged.groupby([*key, "day"], as_index=False, observed=True).agg(how)
    there = own[[*key, "day"]]
    return there.merge(combined, on=[*key, "day"])


def surrounding(shards: pd.DataFrame, before: int, after: int) -> pd.DataFrame:
    """These shards and those of the days before and after them, each once; `NO_DAY` has no neighbours.

    Args:
        shards: key columns and ``day``.
        before: days.
        after: days.
    """
    dated = shards[shards["day"] != NO_DAY]
    moved = [dated.assign(day=dated["day"] + offset * DAY) for offset in range(-before, after + 1) if offset]
    return pd.concat([shards, *moved], ignore_index=True).drop_duplicates(ignore_index=True)


def chunks(todo: pd.DataFrame, key: Sequence[str], max_rows: int) -> Iterable[pd.DataFrame]:
    """Split shards so that in each part all keys are wanted on all days: days with the same keys together.

    Days of a part are at most `MAX_GAP` apart, as what it is computed from is read from its first to its last day.

    Args:
        todo: the shards, with ``day`` and ``rows`` where they have these.
        key: their columns.
        max_rows: about how many rows a part may have; a day of one key is never split.
    """
    if todo.empty:
        return
    rows = todo["rows"] if "rows" in todo else pd.Series(0, index=todo.index)
    if "day" not in todo:
        yield from (part for _, part in todo.groupby((rows.cumsum() - rows) // max_rows, sort=True))
        return
    keys = pd.util.hash_pandas_object(todo[list(key)].astype("str"), index=False)
    by_day = pd.DataFrame({"day": todo["day"], "keys": keys, "rows": rows}).groupby("day", sort=True)
    of_days = by_day.agg(keys=("keys", "sum"), rows=("rows", "sum"))
    apart = of_days.index.to_series().diff() > MAX_GAP
    part = 0
    parts, seen, count = [], None, 0
    for far, keys_of_day, rows_of_day in zip(apart, of_days["keys"], of_days["rows"], strict=True):
        if seen is not None and (far or keys_of_day != seen or count + rows_of_day > max_rows):
            part, count = part + 1, 0
        seen, count = keys_of_day, count + rows_of_day
        parts.append(part)
    for _, own in todo.groupby(todo["day"].map(dict(zip(of_days.index, parts, strict=True))), sort=True):
        if own["day"].min() < own["day"].max():
            yield own
        else:
            before = rows.loc[own.index].cumsum() - rows.loc[own.index]
            yield from (some for _, some in own.groupby(before // max_rows))


def spans_of(days: pd.DataFrame, key: str) -> pd.DataFrame:
    """Shards of an upstream table (``key``, ``day``, ``digest``) as spans of a day each, for `overlapping`."""
    number = mixed(days["digest"], days["day"])
    return pd.DataFrame({key: days[key], "first": days["day"], "last": days["day"], "number": number})


def overlapping(spans: pd.DataFrame, asked: pd.DataFrame, key: str) -> Numbers:
    """Sum of the numbers of all spans of time that overlap each span asked for, such as the calibrations in force on a day.

    Args:
        spans: ``key``, ``first`` and ``last`` (naive times, inclusive), ``number``.
        asked: ``key``, ``first``, ``last``; without times it overlaps none.
        key: column that must be equal.

    Returns:
        One number per row of ``asked``.
    """
    codes = pd.factorize(pd.concat([spans[key], asked[key]], ignore_index=True))[0]
    own, other = codes[: len(spans)], codes[len(spans) :]
    numbers = spans["number"].to_numpy(dtype=np.uint64)

    def begun(column: str, until: str, *, inclusive: bool) -> Numbers:
        """Sum over spans whose ``column`` is before ``until``, and over all spans of keys with a lower code."""
        times = np.concatenate([_integers(spans[column]).view("int64"), _integers(asked[until]).view("int64")])
        is_asked = np.arange(len(times)) >= len(spans)
        order = np.lexsort((is_asked == inclusive, times, np.concatenate([own, other])))
        sums = np.cumsum(np.concatenate([numbers, np.zeros(len(asked), dtype=np.uint64)])[order], dtype=np.uint64)
        found = np.empty(len(times), dtype=np.uint64)
        found[order] = sums
        return found[len(spans) :]

    with np.errstate(over="ignore"):
        return begun("first", "last", inclusive=True) - begun("last", "first", inclusive=False)


def of_cards(cards: Mapping[str, Any], *common: Any) -> pd.Series:
    """A number per card, of the values of it that a step reads and of what it reads besides (settings, its version).

    Args:
        cards: the values by key, such as ``{farm.id: [farm.latency_minutes, farm.signals.cadence_seconds]}``.
        common: what holds for all.
    """
    shared = number_of(list(common))
    return pd.Series({name: mixed(number_of(value), shared)[()] for name, value in cards.items()}, dtype=np.uint64)
