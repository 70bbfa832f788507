"""The small consumer behind `kedro wind listen`: a thread per broker, a batch per commit, an end when told."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .landing import Landing
from .mqtt import Mqtt
from .protocol import FeedError

logger = logging.getLogger(__name__)

_STOPS = (signal.SIGINT, signal.SIGTERM)
#: A thread that is in the middle of a wait is not waited for: what it has not landed, the broker keeps.
_GRACE_SECONDS = 10.0


class Listener:
    """Lands what the brokers of some feeds send.

    Args:
        feeds: to listen to.
        root: the raw folder of the environment.
    """

    def __init__(self, feeds: Sequence[Mqtt], root: Path) -> None:
        self._feeds = feeds
        self._root = root
        self._stop = threading.Event()
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Listen until SIGINT or SIGTERM; what has come until then lands. Call it in the main thread.

        Among several feeds, one that fails is tried again after its `longest_wait_seconds`, and the others go on.

        Raises:
            Exception: what the only feed failed with.
        """
        before = {number: signal.signal(number, self._told) for number in _STOPS}
        threads = [threading.Thread(target=self._serve, args=[feed], name=feed.id, daemon=True) for feed in self._feeds]
        try:
            for thread in threads:
                thread.start()
            self._stop.wait()
            for thread in threads:
                thread.join(_GRACE_SECONDS)
            logger.info("stopped: what has not landed, the brokers keep")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._errors:
            raise self._errors[0]

    def _told(self, *_: Any) -> None:
        self._stop.set()

    def _serve(self, feed: Mqtt) -> None:
        while not self._stop.is_set():
            try:
                listened = Landing(self._root, feed.into, feed.id).pull(
                    lambda checkpoint, _: feed.listen(checkpoint, self._stop.is_set), in_parts=feed.in_parts
                )
                for landed in listened:
                    logger.info("feed '%s': %s rows landed in %s", feed.id, landed.rows, landed.folder.name)
            except Exception as error:  # a full disk, or a fault of this code: the other feeds go on all the same
                line = error if isinstance(error, FeedError) else feed.fault(f"{type(error).__name__}: {error}")
                if len(self._feeds) > 1:
                    logger.error("%s", line)
                    if not isinstance(error, FeedError):
                        logger.debug("%s", feed.redact(traceback.format_exc()))
                    self._stop.wait(feed.longest_wait_seconds)
                    continue
                self._errors.append(error)
                self._stop.set()
