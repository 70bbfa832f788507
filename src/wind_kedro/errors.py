"""Errors that a user can fix. Their message is one line with place, problem and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

Settings = TypeVar("Settings", bound="BaseModel")


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


def settings_of(model: type[Settings], values: Any, where: str) -> Settings:
    """Validate settings.

    Args:
        model: what they are validated by.
        values: as configured.
        where: where they are configured, for messages, such as ``parameters_run.yml: lease``.

    Raises:
        WindKedroError: with a line for each fault, of where it is, field and problem.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise WindKedroError("\n".join(f"{where}: {format_validation_fault(fault)}" for fault in error.errors())) from None


def shown(value: object) -> str:
    """A value for a message: without control characters, and truncated to a line."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value)[:81])
    return f"{text[:80]}…" if len(text) > 80 else text  # noqa: PLR2004
