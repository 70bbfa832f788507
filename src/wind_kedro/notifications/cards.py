"""Cards of channels as parameters, and what of them decides which incidents are due on a channel."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wind_kedro.cards.base import Card
from wind_kedro.feeds.cards import RemoteCards


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
