"""A webhook: the incidents as JSON to a URL. Its `text` is what Slack, Mattermost and their kin show."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from wind_kedro.feeds.remote import HttpClient
from wind_kedro.notifications.channel import MAX_ANSWER_BYTES, Channel, PassingError
from wind_kedro.notifications.message import Message

_TOO_MANY, _TIMEOUT, _SERVERS_FAULT = 429, 408, 500
_SUCCESS = range(200, 300)


class Webhook(Channel):
    """POSTs `Message.payload`, with the message's id in it and in the header ``X-Message-Id``.

    A URL that is a secret is given in the credentials (``url``), and so is a bearer ``token``.
    """

    kind: Literal["webhook"]
    url: str | None = Field(None, pattern=r"^https?://", description="where to; or `url` in the credentials")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with it")

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Webhook:
        if self.url is None and "url" not in self.credentials:
            raise ValueError("no url: give it in the card, or as `url` in its credentials")
        return self

    def send_once(self, message: Message) -> None:
        """POST the payload; an answer below 300 is a success, 408, 429 and 5xx may pass."""
        try:
            import httpx  # noqa: F401 - `HttpClient` needs it
        except ImportError:
            raise self.fault("a webhook needs the extra 'alarms': pip install 'wind-kedro[alarms]'") from None
        token = self.secret("token")
        headers = self.headers | {"X-Message-Id": message.id} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = self.secret("url") or str(self.url)
        client = HttpClient(self, self.timeout_seconds, headers)
        try:
            # Of the URL only the host is shown: chat services put their secret into the path.
            answer = client.exchange(
                "POST", url, f"POST to {urlsplit(url).hostname}", json=message.payload, seconds=self.send_seconds,
                max_bytes=MAX_ANSWER_BYTES,
            )  # fmt: skip
        finally:
            client.close()
        if answer.status in {_TOO_MANY, _TIMEOUT} or answer.status >= _SERVERS_FAULT:
            raise PassingError(f"the server answers {answer.status} {answer.reason}")
        if answer.status not in _SUCCESS:
            # Redacted before it is cut: the end of a cut secret would stay.
            body = self.redact(answer.content.decode("utf-8", "replace"))[:200]
            raise self.fault(f"the server answers {answer.status} {answer.reason}: {body}")
