"""Base class of feeds: a card that fetches new data since a checkpoint, in batches that land atomically."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.remote import Remote

if TYPE_CHECKING:
    import pyarrow as pa

#: State of a feed between two fetches, serialisable as JSON. It lands with its batch.
Checkpoint = Mapping[str, Any]


#: Names of fields that hold secrets: sslpassword, client_secret, X-API-Key, aws_access_key_id; not token_url.
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|pwd|secret|(^|[^a-z])token|authorization|signature|(^|[^a-z])sig"
    r"|(api|access|account|private|secret)[-_]?key([-_]?id)?)$",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"://[^/?#\s]*@")
_PARAMETERS_OF_URL = re.compile(r"[?&]([^=&#]+)=")


def names_a_secret(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(value: Any, place: str = "", name: str = "") -> Iterator[str]:
    """Yield the paths of secrets on a card: under a secret's name, or in a URL."""
    if isinstance(value, Mapping):
        for key, inside in value.items():
            yield from secrets_in(inside, f"{place}.{key}" if place else str(key), str(key))
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from secrets_in(inside, place, name)
    elif isinstance(value, str) and value:
        parameters = _PARAMETERS_OF_URL.findall(value) if "://" in value else []
        if _USER_IN_URL.search(value) or any(map(names_a_secret, [name, *parameters])):
            yield place


class FeedError(WindKedroError):
    """A feed cannot be read; the message has the feed, the problem and the remedy, and no secret."""


def _inside(value: str) -> str:
    path = Path(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(part[0] in "._" for part in path.parts):
        raise ValueError(f"'{value}' is not a plain folder below 01_raw")
    return value


@dataclass(frozen=True)
class Batch:
    """Files and checkpoint that land together, atomically.

    Attributes:
        files: content by name: bytes, a file in ``scratch`` to move, or a table to write as Parquet.
        checkpoint: where the next fetch continues once this batch has landed.
        rows: number of rows, if known.
        faults: data that could not land, with the reasons; recorded with the batch.
        landed: called when the batch is on disk; a broker's messages are acknowledged here, not before.
    """

    files: Mapping[str, bytes | Path | pa.Table]
    checkpoint: Checkpoint
    rows: int | None = None
    faults: tuple[str, ...] = ()
    landed: Callable[[], None] | None = None


class Feed(Remote, ABC):
    """Card of an external source. Fetching again from the same checkpoint gives the same data again, without repetitions."""

    #: Whether each batch is one file `part.parquet` of the same table, so that small ones can be compacted.
    in_parts: ClassVar[bool] = False
    noun = "feed"

    into: Annotated[str, AfterValidator(_inside)] = Field(
        description="folder below 01_raw in which its batches land, one subfolder `landed_at=…` each"
    )

    def fault(self, message: object) -> FeedError:
        """The error of this feed; see `Remote.fault`."""
        return FeedError(str(super().fault(message)))

    @model_validator(mode="after")
    def _no_secret_on_the_card(self) -> Self:
        # Cards are committed, and messages quote their addresses.
        for place in secrets_in(self.model_dump(exclude={"credentials"})):
            raise ValueError(f"{place}: a secret does not belong on a card; give it under `credentials`")
        return self

    @abstractmethod
    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """Yield new data since ``checkpoint`` (none: all data), oldest first.

        Args:
            checkpoint: checkpoint of the last landed batch.
            scratch: an empty folder on the landing's file system, removed afterwards.

        Raises:
            FeedError: when attempts are used up, or the source does not match the card.
        """

    def secret(self, name: str) -> str:
        """The value of a credential."""
        try:
            return self.credentials[name].get_secret_value()
        except KeyError:
            raise FeedError(
                f"feed '{self.id}': its credentials have no '{name}'; give it in conf/local/credentials.yml"
            ) from None


# 12 bytes are 16 letters. Among a million rows, two different ones share a hash with a chance of 6e-18.
_BYTES, _LETTERS = 12, 16


def row_hash(values: object) -> str:
    """A short hash of a row's values, which can be serialised as JSON, so that a row read again does not land again."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return base64.b64encode(hashlib.blake2b(text.encode(), digest_size=_BYTES).digest()).decode()


def pack(hashes: Iterable[str]) -> str:
    """Concatenate hashes for a checkpoint."""
    return "".join(sorted(hashes))


def unpack(packed: str) -> set[str]:
    """Split the result of `pack`."""
    return {packed[start : start + _LETTERS] for start in range(0, len(packed), _LETTERS)}
