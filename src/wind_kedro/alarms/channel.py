"""What every channel is: a card that knows how to tell a message, patiently, and says in one line when it could not."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from wind_kedro.cards import Card, Identifier
from wind_kedro.errors import WindKedroError

from .message import Message

#: From the least to the worst.
SEVERITIES = ("info", "warning", "error")
#: The first wait, and what the doubling starts from.
FIRST_WAIT_SECONDS = 0.5


class ChannelError(WindKedroError):
    """A channel did not take a message: which one and why, in one line. Never holds a secret."""


class PassingError(Exception):
    """A fault that may pass by waiting: a timeout, a refused connection, a server's own fault."""


class Channel(Card, ABC):
    """One way to tell people."""

    id: Identifier
    kind: str
    least_severity: Literal["info", "warning", "error"] = Field(
        "warning", description="incidents below it are not told here"
    )
    again_after_hours: float = Field(
        24, gt=0, description="an incident that goes on is told again after this; before, only if it grew worse"
    )
    past_hours: float | None = Field(
        24, gt=0, description="runs as of a moment further back than this stay silent (null: none does)"
    )
    credentials: dict[str, SecretStr] = Field(
        default_factory=dict, description="from credentials.yml or the environment; never shown"
    )
    attempts: int = Field(4, ge=1, description="a message is tried so often before the channel counts as failed")
    longest_wait_seconds: float = Field(30, gt=0, description="waits between attempts double up to this")
    timeout_seconds: float = Field(10, gt=0, description="a silent server is given up after this")

    @abstractmethod
    def tell(self, message: Message) -> None:
        """Hand the message over, once.

        Raises:
            PassingError: for what may pass.
            ChannelError: for what will not: a wrong password, an address that is not known.
        """

    def send(self, message: Message) -> int:
        """Tell, again and again if need be; the number of attempts that it took.

        Raises:
            ChannelError: when attempts are used up, or more of them would not help.
        """
        if self.attempts == 1:
            return self._once(message)
        try:
            from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt
            from tenacity import wait_random_exponential as backing_off
        except ImportError:
            raise self.fault(
                "more than one attempt needs the extra 'alarms': pip install 'wind-kedro[alarms]'"
            ) from None
        retrying = Retrying(
            sleep=time.sleep,
            stop=stop_after_attempt(self.attempts),
            wait=backing_off(multiplier=FIRST_WAIT_SECONDS, max=self.longest_wait_seconds),
            retry=retry_if_exception_type(PassingError),
        )
        try:
            retrying(self.tell, message)
        except RetryError as error:
            raise self.fault(f"{error.last_attempt.exception()}; tried {self.attempts} times") from None
        return int(retrying.statistics["attempt_number"])

    def _once(self, message: Message) -> int:
        try:
            self.tell(message)
        except PassingError as error:
            raise self.fault(error) from None
        return 1

    def fault(self, what: object) -> ChannelError:
        """The error of this channel: one line, its secrets blotted out wherever they came from."""
        line = " ".join(str(what).split())
        for credential in self.credentials.values():
            secret = credential.get_secret_value().strip()
            # A server may quote what it was sent, as it is or as it stands in a URL.
            for written in {secret, quote(secret, safe="")} - {""}:
                line = line.replace(written, "***")
        return ChannelError(f"alarm '{self.id}': {line}")

    def secret(self, name: str) -> str | None:
        """A credential in the clear, for the one call that needs it; none if it is not given."""
        credential = self.credentials.get(name)
        return None if credential is None else credential.get_secret_value()
