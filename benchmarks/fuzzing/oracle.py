"""What is right, worked out from what the generator knows and never by the project's own code."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .exports import TURBINES, Export
from .project import Ended

#: Verdicts, the worst last. The last four must not occur.
VERDICTS = ("right", "clear_error", "traceback", "wrong", "lost", "stops_others")
#: Those of which a run of the suite must have none.
BAD = VERDICTS[2:]
#: A message of more characters is no line that anybody reads.
MESSAGE_CHARACTERS = 2_000


@dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`, and what was seen."""

    verdict: str
    why: str = ""


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of some verdicts; right if there are none."""
    return max(verdicts, key=lambda one: VERDICTS.index(one.verdict), default=Verdict("right"))


def error_lines(ended: Ended) -> list[str]:
    """Lines of the error stream that are errors."""
    return [line for line in ended.stderr.split("\n") if line.startswith("Error: ")]


def faults_of_the_end(ended: Ended) -> list[Verdict]:
    """What is wrong with the way a command ended, whatever it had to do."""
    if ended.killed:
        return [Verdict("stops_others", f"killed for its {ended.killed} after {ended.seconds:.0f} s")]
    found = []
    if "Traceback (most recent call last)" in ended.stderr + ended.stdout:
        found.append(Verdict("traceback", _last_line(ended)))
    elif ended.code not in (0, 1, 2):
        found.append(Verdict("traceback", f"exit code {ended.code}: {_last_line(ended)}"))
    elif ended.code and not error_lines(ended):
        found.append(Verdict("traceback", f"exit code {ended.code} without an error's line: {_last_line(ended)}"))
    for line in error_lines(ended):
        if len(line) > MESSAGE_CHARACTERS:
            found.append(Verdict("traceback", f"a message of {len(line)} characters: {line[:200]} …"))
        if re.search("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", line):
            found.append(Verdict("traceback", f"control characters in a message: {line!r:.300}"))
    return found


def _last_line(ended: Ended) -> str:
    lines = [line for line in ended.stderr.split("\n") if line.strip() and not line.startswith((" ", "nanobind"))]
    return lines[-1][:400] if lines else ""


# --- tables ----------------------------------------------------------------------------------------------------------

#: Columns by which the rows of other farms are chosen.
_OF = {
    "observations": "entity_id",
    "signals": "farm_id",
    "weather": "farm_id",
    "data_quality": "farm_id",
    "readiness": "farm_id",
}


def same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables have the same rows, in any order."""
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return False
    # A column of integers is one of floats where other farms have none.
    one, other = one.convert_dtypes(), other.convert_dtypes()
    keys = list(one.columns)
    return one.sort_values(keys, ignore_index=True).equals(other.sort_values(keys, ignore_index=True))


def others_changed(
    undisturbed: dict[str, pd.DataFrame],
    found: dict[str, pd.DataFrame],
    spoilt: set[str],
    names: tuple[str, ...] = tuple(_OF),
) -> list[Verdict]:
    """Whether any farm but the spoilt has other rows than after the undisturbed run."""
    faults = []
    for name in names:
        if name not in found:
            return [Verdict("stops_others", f"there is no table {name}")]
        before = undisturbed[name]
        entities = set(before[_OF[name]]) - spoilt
        before = before[before[_OF[name]].isin(entities)]
        now = found[name][found[name][_OF[name]].isin(entities)]
        if not same_rows(before, now):
            faults.append(
                Verdict(
                    "stops_others",
                    f"{name} of other farms has {len(now)} rows, undisturbed {len(before)}, or other values",
                )
            )
    return faults


# --- rows of a source ------------------------------------------------------------------------------------------------

#: The key of a table's rows.
KEYS = {"signals": ("turbine_id", "valid_at"), "weather": ("run_at", "valid_at")}


def judge_rows(export: Export, ended: Ended, found: dict[str, pd.DataFrame], *, alone: bool, of: str = "signals") -> Verdict:
    """The verdict on one farm's signals or weather after a run."""
    quality = found["data_quality"]
    own = quality[(quality["farm_id"] == export.farm_id) & (quality["source_table"] == of)]
    unread = own.loc[own["check"] == "source_unreadable", "message"].tolist()
    rows = found[of]
    rows = rows[rows["farm_id"] == export.farm_id]
    faults: list[Verdict] = []
    lines = [line for line in error_lines(ended) if export.farm_id in line]
    if unread:
        faults += _refused(export, ended, unread, lines)
    quarantine = found["quarantine"]
    chosen = (quarantine["farm_id"] == export.farm_id) & (quarantine["source_table"] == of)
    faults += _counted(export, own, int((chosen & (quarantine["source_row"] > 0)).sum()), refused=bool(unread))
    faults += _values(export, rows, own, of, refused=bool(unread))
    if not unread and export.refuse in {"must", "bomb"}:
        if export.records:
            faults.append(Verdict("wrong", f"read although it cannot be: {len(rows)} rows are used"))
        elif len(rows):
            faults.append(Verdict("wrong", f"{len(rows)} rows are used of a file that has none"))
        elif not (own["count"][own["check"] == "quarantined"].sum() or lines):
            faults.append(Verdict("lost", "the file is mentioned nowhere"))
    if not unread and not len(rows) and not lines:
        faults.append(Verdict("wrong", f"none of the {of} is used, and the run ends with {ended.code} without a line on it"))
    if alone and ended.code and not lines and not faults:
        faults.append(Verdict("traceback", f"exit code {ended.code}, and no line names the farm: {ended.stderr[-300:]}"))
    return worst(faults or [Verdict("clear_error" if lines else "right", lines[0][:300] if lines else "")])


def _refused(export: Export, ended: Ended, unread: list[str], lines: list[str]) -> list[Verdict]:
    faults = []
    if ended.code == 0:
        faults.append(Verdict("wrong", f"a file is refused, and the run ends with 0: {unread[0][:300]}"))
    elif not lines:
        faults.append(Verdict("traceback", f"no error's line names the farm: {error_lines(ended)[:2]}"))
    stem = re.sub(r"[^A-Za-z0-9]+", " ", export.name.decode("ascii", "ignore")).split()
    words = export.shown or [max(stem[:1] or [""], key=len)]
    if not any(all(word in line for word in words) for line in unread):
        faults.append(Verdict("traceback", f"the finding does not name the file: {unread[0][:300]}"))
    if any("\n" in line for line in unread):
        faults.append(Verdict("traceback", f"the finding is of several lines: {unread[0]!r:.300}"))
    return faults


def _counted(export: Export, own: pd.DataFrame, aside: int, *, refused: bool) -> list[Verdict]:
    counts = own[own["signal"] == "row"].drop_duplicates("check").set_index("check")
    if "rows_in" not in counts.index:
        return [] if refused else [Verdict("lost", "the farm's rows are counted nowhere")]
    total = int(counts.loc["rows_in", "of"])
    fates = [name for name in ("kept", "superseded", "duplicate", "quarantined") if name in counts.index]
    parts = {name: int(counts.loc[name, "count"]) for name in fates}
    faults = []
    nowhere = total - sum(parts.values())
    if nowhere > export.future:
        faults.append(Verdict("lost", f"{nowhere} of {total} rows are neither used nor set aside: {parts}"))
    if nowhere < 0:
        faults.append(Verdict("wrong", f"{-nowhere} rows are counted twice of {total}: {parts}"))
    if aside != parts.get("quarantined", 0):
        faults.append(Verdict("lost", f"{parts.get('quarantined')} rows count as set aside, {aside} are"))
    written = sum(record.copies for record in export.records)
    least, most = written - export.fewer, written + export.more
    if total < least and not refused:
        faults.append(Verdict("lost", f"{written} rows were written, {total} are counted (at least {least})"))
    if total > most and export.refuse != "bomb" and (export.records or export.refuse != "must"):
        faults.append(Verdict("wrong", f"{written} rows were written, {total} are counted (at most {most})"))
    return faults


def _values(export: Export, rows: pd.DataFrame, own: pd.DataFrame, of: str, *, refused: bool) -> list[Verdict]:
    expected: dict[tuple[Any, Any], list[Any]] = {}
    for record in export.records:
        expected.setdefault((record.turbine, record.at), []).append(record)
    faults: list[Verdict] = []
    free = any(record.fate == "free" for record in export.records)
    nulls: Counter[str] = Counter()
    used: set[tuple[Any, Any]] = set()
    strange: list[str] = []
    first, second = KEYS[of]
    for row in rows.to_dict("records"):
        key = (row[first], row[second])
        used.add(key)
        candidates = [r for r in expected.get(key, []) if r.fate != "aside"]
        differing = [_difference(record.values, row) for record in candidates]
        if all(differing):
            # A stamp without a fate of its own may be any other.
            if (free and not expected.get(key)) or any(r.fate == "free" for r in candidates):
                continue
            strange.append(f"{key[0]} {key[1]:%Y-%m-%d %H:%M}: {differing[0] if differing else 'must not be used'}")
        for name in candidates[0].values if candidates else ():
            if math.isnan(row[name]) and not math.isnan(candidates[0].values[name]):
                nulls[name] += 1
    if strange:
        faults.append(Verdict("wrong", f"{len(strange)} rows: {'; '.join(strange[:2])}"))
    reasons = own[own["check"].isin(["sentinel", "out_of_range", "stuck", "unit", "spike", "missing_value"])]
    for name, count in nulls.items():
        explained = int(reasons.loc[reasons["signal"] == name, "count"].sum())
        if count > explained:
            faults.append(Verdict("lost", f"{count} values of {name} are missing, {explained} with a reason"))
    if not refused and export.refuse == "may":
        unused = [r for key, rs in expected.items() if key not in used for r in rs]
        sound = [record for record in unused if record.fate == "kept"]
        if sound:
            at = f"{sound[0].turbine} at {sound[0].at}"
            faults.append(Verdict("wrong", f"{len(sound)} sound rows are not used, the first of {at}"))
        some = [record for record in unused if record.fate == "some"]
        if len(some) > export.fewer + 4 * len(TURBINES):
            faults.append(Verdict("wrong", f"{len(some)} rows are not used, of which a few were damaged"))
    return faults


def _difference(values: dict[str, float], row: dict[str, Any]) -> str:
    for name, value in values.items():
        seen = row[name]
        if math.isnan(seen):
            continue  # counted, and held against what is known of missing values
        if math.isnan(value) or abs(seen - value) > 1e-6 * max(abs(value), 1.0):
            return f"{name} is {seen:g}, written was {value:g}"
    return ""
