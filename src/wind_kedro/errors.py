"""Errors that a person at the terminal can mend. Their message is one clear line: what, where, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WindKedroError(Exception):
    """Something outside the code is wrong: a card, a file, a date. Shown without a stack; anything else is a bug of ours."""


def find_cause(error: BaseException) -> WindKedroError | None:
    """The mendable error behind an exception, through Kedro's wrappers; none if it is a bug."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, WindKedroError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def said_of_field(fault: Mapping[str, Any]) -> str:
    """One of Pydantic's faults as one line: the field, if it is of one, and what is wrong with it."""
    field = ".".join(str(part) for part in fault["loc"])
    problem = " ".join(fault["msg"].removeprefix("Value error, ").split())
    return f"{field}: {problem}" if field else problem


def shown(value: object) -> str:
    """A value as a message quotes it: no control characters, and not more than a line holds."""
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value)[:81]
    )
    return f"{text[:80]}…" if len(text) > 80 else text  # noqa: PLR2004
