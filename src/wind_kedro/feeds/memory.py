"""Short hashes of landed rows, so that rows read again in a look-back do not land again."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable

# 12 bytes are 16 letters. Among a million rows, two different ones share a hash with a chance of 6e-18.
_BYTES = 12
_LETTERS = 16


def row_hash(values: object) -> str:
    """A short hash of a row's values, which can be serialised as JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(hashlib.blake2b(text.encode(), digest_size=_BYTES).digest()).decode()


def pack(hashes: Iterable[str]) -> str:
    """Concatenate hashes for a checkpoint."""
    return "".join(sorted(hashes))


def unpack(packed: str) -> set[str]:
    """Split the result of `pack`."""
    return {packed[start : start + _LETTERS] for start in range(0, len(packed), _LETTERS)}
