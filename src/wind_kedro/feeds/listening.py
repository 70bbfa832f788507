"""Consumer of `kedro wind listen`: one thread per broker, one batch per commit, until it is stopped."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from .landing import Landing
from .mqtt import Mqtt
from .protocol import FeedError

logger = logging.getLogger(__name__)

#: Time to wait for a thread to end; the broker keeps messages that have not landed.
_GRACE_SECONDS = 10.0


def land_messages(feeds: Sequence[Mqtt], root: Path, stop: threading.Event | None = None) -> None:
    """Land the messages of the brokers of feeds until SIGINT, SIGTERM or ``stop``; received messages land first.

    Call it in the main thread; ``root`` is the raw folder of the environment. Among several feeds, one that fails is retried
    after its `longest_wait_seconds`, and the others continue. The error of a single feed is raised.
    """
    stop, errors = stop or threading.Event(), list[Exception]()

    def serve(feed: Mqtt) -> None:
        while not stop.is_set():
            try:
                for landed in Landing(root, feed.into, feed.id).pull(
                    lambda checkpoint, _: feed.listen(checkpoint, stop.is_set), in_parts=feed.in_parts
                ):
                    logger.info("feed '%s': %s rows landed in %s", feed.id, landed.rows, landed.folder.name)
            except Exception as error:  # such as a full disk or a bug: the other feeds continue
                if len(feeds) == 1:
                    errors.append(error)
                    stop.set()
                    return
                logger.error("%s", error if isinstance(error, FeedError) else feed.fault(f"{type(error).__name__}: {error}"))
                if not isinstance(error, FeedError):
                    logger.debug("%s", feed.redact(traceback.format_exc()))
                stop.wait(feed.longest_wait_seconds)

    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = [threading.Thread(target=serve, args=[feed], name=feed.id, daemon=True) for feed in feeds]
    try:
        for thread in threads:
            thread.start()
        stop.wait()
        for thread in threads:
            thread.join(_GRACE_SECONDS)
        logger.info("stopped: the brokers keep messages that have not landed")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if errors:
        raise errors[0]
