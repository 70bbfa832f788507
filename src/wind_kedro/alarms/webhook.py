"""A webhook: the incidents as JSON to a URL. Its `text` is what Slack, Mattermost and their kin show."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .channel import Channel, PassingError
from .message import Message

_TOO_MANY, _TIMEOUT, _SERVERS_FAULT = 429, 408, 500


class Webhook(Channel):
    """POSTs `Message.payload`. A URL that is a secret stands in the credentials (``url``), and so does a bearer ``token``."""

    kind: Literal["webhook"]
    url: str | None = Field(None, pattern=r"^https?://", description="where to; or `url` in the credentials")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with it")

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Webhook:
        if self.url is None and "url" not in self.credentials:
            raise ValueError("no url: give it in the card, or as `url` in its credentials")
        return self

    def tell(self, message: Message) -> None:
        """POST the payload; any answer below 300 is a yes, 408, 429 and 5xx may pass."""
        try:
            import httpx
        except ImportError:
            raise self.fault("a webhook needs the extra 'alarms': pip install 'wind-kedro[alarms]'") from None
        token = self.secret("token")
        headers = self.headers | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            answer = httpx.post(
                self.secret("url") or str(self.url),
                json=message.payload,
                headers=headers,
                timeout=self.timeout_seconds,
            )
        except httpx.InvalidURL as error:
            raise self.fault(error) from None
        except httpx.HTTPError as error:
            raise PassingError(f"{type(error).__name__}: {error}") from None
        if answer.status_code in {_TOO_MANY, _TIMEOUT} or answer.status_code >= _SERVERS_FAULT:
            raise PassingError(f"the server answers {answer.status_code} {answer.reason_phrase}")
        if not answer.is_success:
            raise self.fault(f"the server answers {answer.status_code} {answer.reason_phrase}: {answer.text[:200]}")
