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
    """The fields of a card, in the order in which they were found; a later finding replaces an earlier one."""

    by_field: dict[str, Finding] = field(default_factory=dict)

    def proven(self, name: str, value: Any, evidence: str) -> None:
        """Note a field that the evidence proves."""
        self.by_field[name] = Finding(name, value, evidence, proven=True)

    def asked(self, name: str, guess: Any, evidence: str) -> None:
        """Note a field that somebody has to confirm."""
        self.by_field[name] = Finding(name, guess, evidence, proven=False)

    def add(self, name: str, value: Any, evidence: str, *, proven: bool) -> None:
        """Note a field."""
        self.by_field[name] = Finding(name, value, evidence, proven)

    def value(self, name: str, default: Any = None) -> Any:
        """What was found of a field."""
        return self.by_field[name].value if name in self.by_field else default

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.by_field.values())

    @property
    def open(self) -> list[Finding]:
        """The fields that have to be asked."""
        return [finding for finding in self if not finding.proven]

    def answered(self, answers: Mapping[str, Any]) -> Findings:
        """The same with answers, each of which is its own evidence."""
        found = Findings(dict(self.by_field))
        for name, value in answers.items():
            found.proven(name, value, "given")
        return found
