"""The base class of what is configured: settings, rules and cards."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _split(words: Any) -> Any:
    return words.split() if isinstance(words, str) else words


#: What reads a list that on the command line is words: --params "months=2013-01 2013-02".
Split = BeforeValidator(_split)
Words = Annotated[list[str], Split]


class Strict(BaseModel):
    """A model that refuses unknown fields and infinite numbers, and never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """The model itself: Kedro copies parameters for every node, and a fleet of a thousand farms takes a second."""
        return self
