"""Files of the sources: whether they have changed, and whether they are still changing."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from wind_kedro.cards import Fleet
from wind_kedro.readers.source_files import files_of


def digest_of_files(root: Path, fleet: Fleet) -> str:
    """Digest of name, size and time of change of all files that the cards of a fleet name.

    Args:
        root: the raw folder.
        fleet: the cards.
    """
    digest = hashlib.sha256()
    for farm in fleet.farms:
        for source in [farm.signals, *farm.weather]:
            for path in files_of(root, source):
                try:
                    state = path.stat()
                except OSError:  # removed meanwhile, or a broken link
                    continue
                digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


class Watch:
    """Whether the files of a fleet are as they were at the look before, so that none of them is being written.

    Args:
        root: the raw folder.
        fleet: the cards.
        longest_seconds: files that change at every look count as they are after so long.
    """

    def __init__(self, root: Path, fleet: Fleet, longest_seconds: float) -> None:
        self._root, self._fleet, self._longest_seconds = root, fleet, longest_seconds
        self._seen = ""
        self._since = time.monotonic()

    def digest(self) -> str:
        """Digest of the files as they are."""
        return digest_of_files(self._root, self._fleet)

    def look(self) -> str:
        """Digest of the files; empty while they change."""
        before, self._seen = self._seen, self.digest()
        if self._seen == before or time.monotonic() - self._since > self._longest_seconds:
            self._since = time.monotonic()
            return self._seen
        return ""
