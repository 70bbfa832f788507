"""What every feed does about faults: wait for those that pass, say the others in one line, and never say a secret."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from .protocol import Feed, FeedError

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")
#: The first wait, and what the doubling starts from.
FIRST_WAIT_SECONDS = 0.5
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class PassingError(Exception):
    """A fault that may pass by waiting: a timeout, a refused connection, a server's own fault.

    Args:
        message: one line that says what failed.
        wait_seconds: how long the other side asks to be left alone; none if it does not say.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def patiently(feed: Feed, call: Callable[[], Result]) -> Result:
    """Call until it succeeds: waits double from `FIRST_WAIT_SECONDS` up to the card's longest, with jitter.

    Args:
        feed: whose ``attempts`` and ``longest_wait_seconds`` hold.
        call: raises `PassingError` for what may pass; anything else goes through.

    Raises:
        FeedError: when attempts are used up, or the other side asks for more patience than the card has.
    """
    from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    # Jitter: a thousand farms that lost the same server do not come back to it in the same second.
    backing_off = wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=feed.longest_wait_seconds)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.wait_seconds if isinstance(error, PassingError) else None
        if asked is None:
            return backing_off(state)
        if asked > feed.longest_wait_seconds:
            raise fault(
                feed, f"{error}; it asks to wait {asked:.0f} s, `longest_wait_seconds` is {feed.longest_wait_seconds:g}"
            )
        return asked

    retrying = Retrying(
        sleep=time.sleep,
        stop=stop_after_attempt(feed.attempts),
        wait=wait,
        retry=retry_if_exception_type(PassingError),
    )
    try:
        return retrying(call)
    except RetryError as error:
        last = error.last_attempt.exception()
        times = "once" if feed.attempts == 1 else f"{feed.attempts} times"
        raise fault(feed, f"{last}; tried {times}, the next fetch goes on from here") from None


def fault(feed: Feed, message: object) -> FeedError:
    """The error of a feed: one line, its secrets blotted out wherever they came from."""
    line = " ".join(_COLOURS.sub("", str(message)).split())
    for credential in feed.credentials.values():
        secret = credential.get_secret_value().strip()
        # A server or a driver may quote what it was sent, as it is or as it stands in a URL.
        for written in {secret, quote(secret, safe="")} - {""}:
            line = line.replace(written, "***")
    return FeedError(f"feed '{feed.id}': {line}")
