"""Find the decimal sign and the digit grouping of numbers of any locale."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .findings import Findings
from .physics import Reals
from .sample import Sample, is_number

_MAX_SAMPLED_ROWS = 3000
_CLEARLY = 20
_GROUP = 3


def decimal_marks(sample: Sample, found: Findings) -> tuple[str, str | None]:
    """Find the decimal sign and the digit grouping from numbers that can be read in one way only."""
    if sample.typed:
        return found.proven("signals.decimal", ".", "numbers are typed"), found.proven(
            "signals.thousands", None, "numbers are typed"
        )
    forms: Counter[str] = Counter()
    for block in sample.blocks:
        for row in block[:: max(1, len(block) // _MAX_SAMPLED_ROWS)]:
            for cell in map(str.strip, row):
                if is_number(cell):
                    forms.update(_form(cell))
    grouped = next((mark for mark in (" ", "'") if forms[f"group {mark}"]), None)
    comma = forms["decimal ,"] > _CLEARLY * forms["decimal ."] and forms["decimal ,"] > 0
    point = forms["decimal ."] > _CLEARLY * forms["decimal ,"] and forms["decimal ."] > 0
    if comma or point:
        decimal, other = (",", ".") if comma else (".", ",")
        # A mark before three digits that is not the decimal sign groups digits.
        thousands = other if forms[f"group {other}"] or (grouped is None and forms[f"three {other}"]) else grouped
        why = f"{forms[f'decimal {decimal}']} numbers can only be read with '{decimal}' as the decimal sign"
        return found.proven("signals.decimal", decimal, why), found.proven("signals.thousands", thousands, _grouping(thousands))
    if not any(forms[form] for form in ("three ,", "three .", "decimal ,", "decimal .")):
        return (
            found.proven("signals.decimal", ".", "no number has decimals"),
            found.proven("signals.thousands", grouped, _grouping(grouped)),
        )
    guess = "," if forms["three ,"] + forms["decimal ,"] > forms["three ."] + forms["decimal ."] else "."
    why = "all numbers have three digits after the mark, or the marks are inconsistent"
    return found.asked("signals.decimal", guess, why), found.asked("signals.thousands", None, "as the decimal sign")


def _grouping(mark: str | None) -> str:
    return f"'{mark}' groups digits" if mark else "no digits are grouped"


def _form(cell: str) -> list[str]:
    """Marks that a number proves: ``decimal`` or ``group``, or ``three`` if ambiguous."""
    body = cell.lstrip("+-").partition("e")[0].partition("E")[0]
    blanks = {"\u00a0": " ", "\u202f": " "}
    marks = [blanks.get(character, character) for character in body if not character.isdigit()]
    distinct = list(dict.fromkeys(marks))
    parts = re.split(r"[^\d]", body)
    grouped = all(len(part) == _GROUP for part in parts[1:-1])
    if len(marks) == 1:
        return _one_mark(marks[0], parts)
    if len(distinct) == 1:
        return [f"group {distinct[0]}"] if grouped and len(parts[-1]) == _GROUP else []
    if len(distinct) == 2 and marks.count(distinct[1]) == 1 and grouped and marks[-1] == distinct[1]:  # noqa: PLR2004
        return [f"group {distinct[0]}", f"decimal {distinct[1]}"]
    return []


def _one_mark(mark: str, parts: Sequence[str]) -> list[str]:
    three = len(parts[1]) == _GROUP
    if mark in " '":
        return [f"group {mark}"] if three else []
    either = three and 1 <= len(parts[0]) <= _GROUP and not parts[0].startswith("0")
    return [f"three {mark}"] if either else [f"decimal {mark}"]


def numbers(cells: Sequence[str], decimal: str, thousands: str | None) -> Reals:
    """Convert cells to numbers; invalid ones are NaN."""
    import pandas as pd

    text: Any = pd.Series(list(cells), dtype="str").str.strip()
    if thousands:
        text = text.str.replace(r"[ \u00a0\u202f]" if thousands == " " else thousands, "", regex=thousands == " ")
    if decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    found: Reals = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float)
    return found
