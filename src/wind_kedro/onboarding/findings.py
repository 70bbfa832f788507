"""Findings about an export: a value, its evidence, and whether the evidence proves it.

A field is *proven* if only one reading fits:

- structure: every line of the sample can be parsed in this way and in no other known way;
- a name with data: a name, a unit or a term in the file indicates it, and the values are consistent with it;
- data alone: every alternative is physically impossible.

Every other field is *asked*, with the best guess. The user can override proven fields too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wind_kedro.errors import WindKedroError


class OnboardingError(WindKedroError):
    """An export cannot be interpreted; the message names the file, the problem and the remedy."""


@dataclass(frozen=True)
class Finding:
    """One field of the card.

    Attributes:
        field: its path in the farm's card, such as ``signals.columns.power_kw.unit``.
        value: the proposed value, or the best guess; none if there is no guess.
        evidence: the reason, in one line.
        proven: whether no other value fits the evidence.
    """

    field: str
    value: Any
    evidence: str
    proven: bool


@dataclass
class Findings:
    """The fields of a card, in the order in which they were found; a later finding replaces an earlier one.

    Attributes:
        by_field: the findings.
        given: the user's answers. They override any evidence, and fields derived from a field are derived from its answer.
        unused: columns, or tags of a long export, that the card does not use.
    """

    by_field: dict[str, Finding] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any, evidence: str, *, proven: bool) -> Any:
        """Add a field; return the value, or the user's answer if there is one."""
        if name in self.given:
            value, evidence, proven = self.given[name], "given", True
        self.by_field[name] = Finding(name, value, evidence, proven)
        return value

    def proven(self, name: str, value: Any, evidence: str) -> Any:
        """Add a proven field; return the value, or the user's answer if there is one."""
        return self.add(name, value, evidence, proven=True)

    def asked(self, name: str, guess: Any, evidence: str) -> Any:
        """Add a field that the user has to confirm; return the guess, or the user's answer if there is one."""
        return self.add(name, guess, evidence, proven=False)

    def confirm(self, name: str, value: Any) -> None:
        """Add an answer on which no other field depends."""
        self.given = {**self.given, name: value}
        self.proven(name, value, "given")

    def value(self, name: str, default: Any = None) -> Any:
        """The value found for a field, else `default`."""
        return self.by_field[name].value if name in self.by_field else default

    def is_proven(self, name: str) -> bool:
        """Whether a field was found and is proven."""
        return name in self.by_field and self.by_field[name].proven

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.by_field.values())

    @property
    def open(self) -> list[Finding]:
        """The fields that are not proven."""
        return [finding for finding in self if not finding.proven]
