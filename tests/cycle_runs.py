"""What a process of cycles runs in tests of the service: it has to be importable by its name."""

from __future__ import annotations

import threading
import time

from wind_kedro.compute.limits import TimeLimitError, call_within
from wind_kedro.operation.worker import Result


def wait(seconds: float) -> Result:
    """Take a time."""
    time.sleep(seconds)
    return "succeeded", ""


def hang(_: object) -> Result:
    """Give a call up that never returns."""
    try:
        call_within(0.01, threading.Event().wait)
    except TimeLimitError as error:
        return "with_failures", str(error)
    return "failed", "it returned"
