"""Cards as parameters: what an environment configures about servers, with the names of their secrets and never a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, RootModel, field_validator

from .protocol import secrets_in

Cards = dict[str, dict[str, Any]]


class RemoteCards(RootModel[Cards]):
    """Cards by id, as configured; a card that is null is left out, so that an environment can drop one of base.

    Parameters reach logs and MLflow. So ``credentials`` is the name of an entry of credentials.yml, and a card that holds a
    secret itself is refused, by a message that does not quote it.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    #: What a card is of, in messages.
    noun: ClassVar[str] = "card"

    root: Cards = {}

    @field_validator("root", mode="before")
    @classmethod
    def _without_null(cls, cards: Any) -> Any:
        if not isinstance(cards, Mapping):
            return {} if cards is None else cards
        return {str(name): card for name, card in cards.items() if card is not None}

    @field_validator("root")
    @classmethod
    def _names_of_secrets_only(cls, cards: Cards) -> Cards:
        for name, card in cards.items():
            if not isinstance(card.get("credentials", ""), str):
                raise ValueError(f"{cls.noun} '{name}': credentials: write the name of an entry in credentials.yml")
            for place in secrets_in({field: value for field, value in card.items() if field != "credentials"}):
                raise ValueError(f"{cls.noun} '{name}': {place}: a secret does not belong on a card; give it under `credentials`")
        return cards

    def with_secrets(self, read_secrets: Callable[[str], Mapping[str, str]]) -> Cards:
        """The cards with secrets in place of their names, for the node that connects; ``read_secrets`` gives those of a name."""
        return {
            name: card | ({"credentials": read_secrets(card["credentials"])} if "credentials" in card else {})
            for name, card in self.root.items()
        }


class FeedCards(RemoteCards):
    """The feeds of an environment (`feeds` in parameters_ingestion.yml); `wind_kedro.feeds.FEEDS` has their kinds."""

    noun = "feed"
