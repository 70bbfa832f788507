"""Errors that a person at the terminal can mend. Their message is one clear line: what, where, what to do."""

from __future__ import annotations


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
