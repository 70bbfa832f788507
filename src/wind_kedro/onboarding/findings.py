"""What is found about an export: a value, its evidence, and whether the evidence proves it.

The rule of confidence, for every field: *proven* is what only one reading fits. That is one of

- structure: every line of the sample reads so, and no other way that the house knows;
- a name with data: a name, a unit or a word of the file says so, and the numbers do not contradict;
- data alone: physics excludes every alternative.

Everything else is *asked*, with the best guess. What is proven may still be overruled by whoever is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wind_kedro.errors import WindKedroError


class OnboardingError(WindKedroError):
    """An export cannot be made sense of: which file, what is wrong, what to do."""


@dataclass(frozen=True)
class Finding:
    """One field of the card.

    Attributes:
        field: its path in the farm's card, such as ``signals.columns.power_kw.unit``.
        value: what it should be, or the best guess (none: no guess).
        evidence: why, in one line.
        proven: whether the evidence leaves no other reading.
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
        given: answers of whoever was asked. They stand above any evidence, and what follows from a field follows from the answer.
        unused: columns, or tags of a long export, that the card will not read.
    """

    by_field: dict[str, Finding] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any, evidence: str, *, proven: bool) -> Any:
        """Note a field; return what counts: the value, or the answer that was given."""
        if name in self.given:
            value, evidence, proven = self.given[name], "given", True
        self.by_field[name] = Finding(name, value, evidence, proven)
        return value

    def proven(self, name: str, value: Any, evidence: str) -> Any:
        """Note a field that the evidence proves; return what counts."""
        return self.add(name, value, evidence, proven=True)

    def asked(self, name: str, guess: Any, evidence: str) -> Any:
        """Note a field that somebody has to confirm; return what counts until then."""
        return self.add(name, guess, evidence, proven=False)

    def confirm(self, name: str, value: Any) -> None:
        """Note an answer on which nothing else depends."""
        self.given = {**self.given, name: value}
        self.proven(name, value, "given")

    def value(self, name: str, default: Any = None) -> Any:
        """What was found of a field."""
        return self.by_field[name].value if name in self.by_field else default

    def is_proven(self, name: str) -> bool:
        """Whether a field was found, and is proven."""
        return name in self.by_field and self.by_field[name].proven

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.by_field.values())

    @property
    def open(self) -> list[Finding]:
        """The fields that have to be asked."""
        return [finding for finding in self if not finding.proven]
