"""A limit of time for code that may never return, such as the prediction of one farm's model."""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from wind_kedro.errors import WindKedroError

Result = TypeVar("Result")

#: Threads of calls that were given up.
_given_up: list[threading.Thread] = []


class TimeLimitError(WindKedroError):
    """A call did not return within its limit."""


def call_within(seconds: float, function: Callable[[], Result]) -> Result:
    """What a function returns, if it does so in time.

    The function runs in a thread of its own, as neither a signal nor an exception ends a call into a library that is not
    Python. A thread that is given up ends when it returns to Python; until then it keeps its memory, and a processor if it
    computes (`has_given_up`).

    Args:
        seconds: the limit; 0: none.
        function: is called once.

    Raises:
        TimeLimitError: if it does not return in time.
        BaseException: whatever the function raises.
    """
    if not seconds:
        return function()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # raised below, in the thread of the caller
            errors.append(error)

    # Settings of libraries that belong to the context, such as `numpy.errstate`, hold in the thread as well.
    thread = threading.Thread(target=contextvars.copy_context().run, args=[run], name="limited", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _given_up.append(thread)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        raise TimeLimitError(f"did not return within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def has_given_up() -> bool:
    """Whether a call that was given up still runs: this process should be replaced."""
    return any(thread.is_alive() for thread in _given_up)
