"""Errors that a user can fix. Their message is one line with place, problem and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WindKedroError(Exception):
    """A fault outside the code, such as in a card, a file or an option. It is shown without a stack trace; others are bugs."""


def find_cause(error: BaseException) -> WindKedroError | None:
    """The `WindKedroError` that caused an exception, through Kedro's wrappers; none if it is a bug."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, WindKedroError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def format_validation_fault(fault: Mapping[str, Any]) -> str:
    """Format one of pydantic's validation errors as one line: the field, if there is one, and the problem."""
    field = ".".join(str(part) for part in fault["loc"])
    problem = " ".join(fault["msg"].removeprefix("Value error, ").split())
    return f"{field}: {problem}" if field else problem


def shown(value: object) -> str:
    """A value for a message: without control characters, and truncated to a line."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value)[:81])
    return f"{text[:80]}…" if len(text) > 80 else text  # noqa: PLR2004
