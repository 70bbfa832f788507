"""What every channel is: a card that sends a message, with retries, and raises one line when it could not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from pydantic import Field

from wind_kedro.cards.base import Card
from wind_kedro.errors import WindKedroError
from wind_kedro.feeds.cards import RemoteCards
from wind_kedro.feeds.remote import PassingError, Remote
from wind_kedro.notifications.message import Message

__all__ = ["SEVERITIES", "Channel", "ChannelError", "PassingError"]

#: From the least to the worst.
SEVERITIES = ("info", "warning", "error")
#: Most bytes of a server's answer to a message, unpacked. Chat services answer with a few hundred.
MAX_ANSWER_BYTES = 1 << 20


class ChannelRules(Card):
    """Which incidents are sent over a channel, and how often."""

    min_severity: Literal["info", "warning", "error"] = Field("warning", description="less severe ones are not sent")
    again_after_hours: float = Field(
        24, gt=0, description="an incident that goes on is sent again after this; before, only if it grew worse"
    )


class ChannelCards(RemoteCards):
    """The channels of an environment (`notification_channels` in parameters_notification.yml)."""

    noun = "channel"

    def rules(self) -> dict[str, ChannelRules]:
        """What decides which incidents are due, by channel; needs no secret."""
        fields = ChannelRules.model_fields
        return {
            name: ChannelRules.model_validate({field: card[field] for field in fields if field in card})
            for name, card in self.root.items()
        }


class ChannelError(WindKedroError):
    """A channel did not take a message: which one and why, in one line. Never holds a secret."""


class Channel(Remote, ChannelRules, ABC):
    """One way to notify people."""

    noun = "channel"

    past_hours: float | None = Field(
        24, gt=0, description="a message made as of a time further back than this is not sent (null: each is)"
    )
    attempts: int = Field(4, ge=1, description="a message is tried so often before the channel counts as failed")
    longest_wait_seconds: float = Field(30, gt=0, description="waits between attempts double up to this")
    timeout_seconds: float = Field(10, gt=0, description="a server that does not answer is given up after this")
    send_seconds: float = Field(60, gt=0, description="one attempt ends within this, however slowly the server answers")

    @abstractmethod
    def send_once(self, message: Message) -> None:
        """Hand the message over, in one attempt.

        Raises:
            PassingError: for what may pass.
            ChannelError: for what will not: a wrong password, an address that is not known.
        """

    def send(self, message: Message) -> int:
        """Hand the message over, in several attempts if need be; the number of attempts that it took.

        Raises:
            ChannelError: when attempts are used up, or more of them would not help.
        """
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            self.send_once(message)

        self.retry(attempt)
        return attempts

    def fault(self, message: object) -> ChannelError:
        """The error of this channel; see `Remote.fault`."""
        return ChannelError(str(super().fault(message)))

    def secret(self, name: str) -> str | None:
        """A credential in the clear, for the one call that needs it; none if it is not given."""
        credential = self.credentials.get(name)
        return None if credential is None else credential.get_secret_value()
