"""Consumer of `kedro wind listen`: one thread per broker, one batch per commit, until it is stopped."""

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
#: Time to wait for a thread to end; the broker keeps messages that have not landed.
_GRACE_SECONDS = 10.0


class Listener:
    """Lands the messages of the brokers of feeds below ``root``, the raw folder of the environment."""

    def __init__(self, feeds: Sequence[Mqtt], root: Path) -> None:
        self._feeds = feeds
        self._root = root
        self._stop = threading.Event()
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Listen until SIGINT or SIGTERM; received messages land first. Call it in the main thread.

        Among several feeds, one that fails is retried after its `longest_wait_seconds`; the others continue. The error of a
        single feed is raised.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _STOPS}
        threads = [threading.Thread(target=self._serve, args=[feed], name=feed.id, daemon=True) for feed in self._feeds]
        try:
            for thread in threads:
                thread.start()
            self._stop.wait()
            for thread in threads:
                thread.join(_GRACE_SECONDS)
            logger.info("stopped: the brokers keep messages that have not landed")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._errors:
            raise self._errors[0]

    def _on_signal(self, *_: Any) -> None:
        self._stop.set()

    def _serve(self, feed: Mqtt) -> None:
        while not self._stop.is_set():
            try:
                listened = Landing(self._root, feed.into, feed.id).pull(
                    lambda checkpoint, _: feed.listen(checkpoint, self._stop.is_set), in_parts=feed.in_parts
                )
                for landed in listened:
                    logger.info("feed '%s': %s rows landed in %s", feed.id, landed.rows, landed.folder.name)
            except Exception as error:  # such as a full disk or a bug: the other feeds continue
                line = error if isinstance(error, FeedError) else feed.fault(f"{type(error).__name__}: {error}")
                if len(self._feeds) > 1:
                    logger.error("%s", line)
                    if not isinstance(error, FeedError):
                        logger.debug("%s", feed.redact(traceback.format_exc()))
                    self._stop.wait(feed.longest_wait_seconds)
                    continue
                self._errors.append(error)
                self._stop.set()
