"""Calls that are given up when they take too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from wind_kedro.compute.limits import TimeLimitError, call_within, has_given_up


def test_a_result_an_exception_and_the_context_are_those_of_the_call() -> None:
    assert call_within(60, lambda: 3) == 3
    assert call_within(0, threading.current_thread) is threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        call_within(60, lambda: 1 // 0)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        call_within(60, lambda: np.ones(1) / np.zeros(1))


def _wait_in_python() -> None:
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize("ends_itself", [True, False])
def test_a_call_that_takes_too_long_is_given_up(ends_itself: bool) -> None:
    going_on = threading.Event()
    never: Callable[[], object] = _wait_in_python if ends_itself else going_on.wait
    with pytest.raises(TimeLimitError, match=r"^did not return within 0.1 s$"):
        call_within(0.1, never)
    assert ends_itself or has_given_up()
    going_on.set()
    end = time.monotonic() + 60
    while has_given_up():
        assert time.monotonic() < end
        time.sleep(0.01)
