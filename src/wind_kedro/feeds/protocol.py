"""What every feed is: a card that knows how to fetch what is new since a checkpoint, in batches that land whole or not at all."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.remote import Remote

if TYPE_CHECKING:
    import pyarrow as pa

#: What a feed remembers between two fetches: anything JSON can hold. It lands with the batch it belongs to.
Checkpoint = Mapping[str, Any]


#: How fields are called that hold secrets: sslpassword, client_secret, X-API-Key, aws_access_key_id; not token_url.
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|pwd|secret|(^|[^a-z])token|authorization|signature|(^|[^a-z])sig"
    r"|(api|access|account|private|secret)[-_]?key([-_]?id)?)$",
    re.IGNORECASE,
)
_USER_IN_URL = re.compile(r"://[^/?#\s]*@")
_PARAMETERS_OF_URL = re.compile(r"[?&]([^=&#]+)=")


def names_a_secret(name: str) -> bool:
    """Whether a field so called holds a secret."""
    return _SECRET_NAME.search(name) is not None


def secrets_in(value: Any, place: str = "", name: str = "") -> Iterator[str]:
    """Where on a card a secret stands: under a name of one, or in a URL."""
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
    """A feed cannot be read: which one, what is wrong, what to do. Never holds a secret."""


def _inside(value: str) -> str:
    path = Path(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(part[0] in "._" for part in path.parts):
        raise ValueError(f"'{value}' is not a plain folder below 01_raw")
    return value


def _nothing() -> None:
    """A batch that nobody needs to be told of."""


@dataclass(frozen=True)
class Batch:
    """What lands together, in one step.

    Attributes:
        files: by name: bytes, a file to move in (it is in ``scratch``), or a table, which becomes a Parquet file.
        checkpoint: where the next fetch goes on once this batch has landed.
        rows: how many, if the feed knows.
        faults: what could not land with it, and why; recorded with the batch.
        landed: called when the batch is safe on disk; a broker's messages are acknowledged here, not before.
    """

    files: Mapping[str, bytes | Path | pa.Table]
    checkpoint: Checkpoint
    rows: int | None = None
    faults: tuple[str, ...] = ()
    landed: Callable[[], None] = field(default=_nothing)


class Feed(Remote, ABC):
    """One source outside the house. Fetching again from the same checkpoint gives the same again, and nothing twice."""

    #: Each batch is one file `part.parquet` of the same table, so that many small ones may be put together.
    in_parts: ClassVar[bool] = False
    noun = "feed"
    extra = "feeds"

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
        """Yield what is new since ``checkpoint`` (null: everything), oldest first.

        Args:
            checkpoint: of the last batch that landed.
            scratch: an empty folder on the landing's file system, removed afterwards.

        Raises:
            FeedError: when attempts are used up, or the source is not what the card says.
        """

    def secret(self, name: str) -> str:
        """A credential in the clear, for the one call that needs it."""
        try:
            return self.credentials[name].get_secret_value()
        except KeyError:
            raise FeedError(
                f"feed '{self.id}': its credentials have no '{name}'; give it in conf/local/credentials.yml"
            ) from None
