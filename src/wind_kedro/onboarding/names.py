"""Derive signal, statistic and unit from names of columns and tags; the terms are in ``terms.yml``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "Ae", "ı": "i", "đ": "d", "œ": "oe"})  # noqa: RUF001
_BRACKETS = re.compile(r"[\[(<{（【]\s*([^\])>}）】]{0,24}?)\s*[\])>}）】]")  # noqa: RUF001 - Chinese brackets
_WORD = re.compile(r"[^\W\d_]+|\d+")
#: Code points from here on belong to scripts written without spaces.
_UNSPACED = "\u2e80"


def _plain(text: str) -> str:
    """Lower case without the accents of Latin, Greek and Cyrillic; in other scripts, marks distinguish letters."""
    apart = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart)).lower()


def _words(text: str) -> str:
    return " ".join(_WORD.findall(_plain(text)))


_TERMS = yaml.safe_load(Path(__file__).with_name("terms.yml").read_text("utf-8"))
#: Spellings of units → their names on cards.
UNITS: dict[str, str] = {spelling: unit for unit, spellings in _TERMS.pop("units").items() for spelling in spellings}
FOREIGN_UNITS, SHARE_UNITS = frozenset(_TERMS.pop("foreign_units")), frozenset(_TERMS.pop("share_units"))
GOOD_VALUES = frozenset(_TERMS.pop("good_quality"))
_SIGNALS, _STATISTICS = (
    {key: tuple(map(_words, terms)) for key, terms in _TERMS.pop(name).items()} for name in ("signals", "statistics")
)
#: Terms by subject, without accents.
TERMS: dict[str, tuple[str, ...]] = {subject: tuple(map(_words, terms)) for subject, terms in _TERMS.items()}
_STATISTIC_TERMS = {term for terms in _STATISTICS.values() for term in terms}


@dataclass(frozen=True)
class NameMeaning:
    """The meaning of a column's or tag's name.

    Attributes:
        signal: name of the signal; none for another quantity or an unknown name.
        term: the term that was recognised, of the signal or of the other quantity.
        unexplained: remaining tokens, which may qualify the name.
    """

    signal: str | None
    term: str
    unexplained: tuple[str, ...] = ()


def tokens(name: str) -> list[str]:
    """Tokens of a name: lower case, without accents, camel case split, units in brackets removed."""

    def opened(match: re.Match[str]) -> str:
        inside = match.group(1).strip().lower()
        return " " if inside in UNITS or inside in FOREIGN_UNITS | SHARE_UNITS or not inside else f" {match.group(1)} "

    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", _BRACKETS.sub(opened, name))
    return _WORD.findall(_plain(re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", apart)))


def _texts(name: str) -> tuple[str, str]:
    """The tokens as text, and without splitting camel case, which can split names such as 'ActPWR' wrongly."""
    joined = _BRACKETS.sub(lambda match: "" if match.group(1).lower() in UNITS else match.group(), name)
    return " ".join(tokens(name)), _words(joined)


def _has(text: str, term: str) -> bool:
    if term[0] >= _UNSPACED:
        return term in text
    return re.search(rf"(?:^| ){re.escape(term)}(?: |$)", text) is not None


def _any_has(texts: Iterable[str], terms: Sequence[str]) -> bool:
    return any(_has(text, term) for text in texts for term in terms)


def has_term(name: str, *subjects: str) -> bool:
    """Whether a name contains a term of one of these subjects."""
    return any(_any_has(_texts(name), TERMS[subject]) for subject in subjects)


def meaning_of(name: str) -> NameMeaning:
    """Find the signal and the term that a name contains."""
    split, joined = (re.sub(r"\bwind (?=turbine|farm|park)", "", text) for text in _texts(name))
    for other in TERMS["other_quantity"]:
        if _any_has((split, joined), [other]):
            return NameMeaning(None, other)
    best: tuple[int, str, str] | None = None
    for signal, terms in _SIGNALS.items():
        for term in terms:
            # A long term may be part of a compound, as in German.
            in_compound = len(term) >= 6 and term.replace(" ", "") in split.replace(" ", "")  # noqa: PLR2004
            if in_compound or _any_has((split, joined), [term]):
                # A character of a script without spaces carries more information.
                size = len(term) * (4 if term[0] >= _UNSPACED else 1)
                if best is None or size > best[0]:
                    best = (size, signal, term)
    return NameMeaning(None, "") if best is None else NameMeaning(best[1], best[2], _unexplained(split, joined, best[2]))


def _unexplained(split: str, joined: str, term: str) -> tuple[str, ...]:
    """Tokens of a name that are neither part of its recognised term nor neutral."""
    text = joined if _has(joined, term) and not _has(split, term) else split
    if not _has(text, term):  # the term is part of a compound
        text, term = text.replace(" ", "") if " " in term else text, term.replace(" ", "")
    neutral = {*_STATISTIC_TERMS, *TERMS["neutral"], *TERMS["minutes"], *UNITS, *TERMS["turbine"]} - {"generator"}
    return tuple(
        part
        for part in text.replace(term, " ", 1).split()
        if not part.isdigit()
        and part not in neutral
        and not any(known in part for known in _STATISTIC_TERMS if known[0] >= _UNSPACED)
    )


def signal_of(name: str) -> str | None:
    """Signal of a name; none for another quantity."""
    return meaning_of(name).signal


def statistic_of(name: str) -> str | None:
    """Statistic in a name: ``mean``, ``min``, ``max`` or ``std``, if there is one."""
    found = tokens(name)
    # '10 min' is ten minutes.
    found = [
        token for place, token in enumerate(found) if not (token in TERMS["minutes"] and place and found[place - 1].isdigit())
    ]
    if "ø" in name.lower() and not re.search(r"\wø|ø\w", name.lower()):
        return "mean"
    text = " ".join(found)
    return next((kind for kind, terms in _STATISTICS.items() if _any_has([text], terms)), None)


def _unit_texts(name: str, beside: str) -> list[str]:
    return [text.strip().lower() for text in [beside, *_BRACKETS.findall(beside), *reversed(_BRACKETS.findall(name))]]


def unit_of(name: str, beside: str = "") -> str | None:
    """Unit in a name or in the cell below it in the row of units, if there is one."""
    for text in _unit_texts(name, beside):
        if text in UNITS:
            return UNITS[text]
    parts = re.split(r"[\s_.,;:-]+", name.strip())
    last = parts[-1].lower()
    if len(parts) > 1 and last in UNITS and last not in {"w", "c", "k", "f", "ms"}:
        return UNITS[last]
    if len(parts) > 1 and last in {"ms", "c"} and signal_of(name) in {"wind_speed_ms", "temperature_c"}:
        return UNITS[last]
    found = re.search(r"(?:^|[\s_])(km/h|m/s|°C|°F|°)\s*$", name)
    return UNITS[found.group(1).lower()] if found else None


def foreign_unit(name: str, beside: str = "") -> str | None:
    """Unit in a name that no signal has, such as kvar, rpm or ``%``, if there is one."""
    tail = re.split(r"[\s_]+", name.strip())[-1].lower()
    texts = [*_unit_texts(name, beside), *([tail] if tail in {"kvar", "kva", "rpm", "hz", "%", "pct", "percent"} else [])]
    return next((text for text in texts if text in FOREIGN_UNITS | SHARE_UNITS), None)
