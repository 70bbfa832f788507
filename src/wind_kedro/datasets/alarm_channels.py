"""The channels over which an environment tells incidents, as a dataset: Kedro puts secrets in place of their names here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from wind_kedro.notifications import Channel, build_channels


class AlarmChannels(AbstractDataset[NoReturn, dict[str, Channel]]):
    """Read-only: the channels that an environment names, as `Channel` by id. Loading checks their cards and connects to nothing.

    Example of a catalog entry::

        alarm_channels:
          type: wind_kedro.datasets.AlarmChannels
          channels:
            duty:
              kind: email
              host: smtp.example.org
              sender: forecasts@example.org
              to: [duty@example.org]
              credentials: duty_mail
    """

    def __init__(
        self, *, channels: Mapping[str, Mapping[str, Any]] | None, metadata: dict[str, Any] | None = None
    ) -> None:
        """Say which channels there are.

        Args:
            channels: cards by id; `wind_kedro.notifications.CHANNELS` has their kinds.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._channels = channels or {}
        self.metadata = metadata

    def load(self) -> dict[str, Channel]:
        """The channels; `CardError` with one line a fault if a card is wrong."""
        return build_channels(self._channels)

    def save(self, data: NoReturn) -> NoReturn:
        """Channels are configuration."""
        raise DatasetError("channels are read from the configuration, never written")

    def _init_config(self) -> dict[str, Any]:
        # Kedro keeps what a dataset was made with, and can write it out. Secrets are not for that.
        config: dict[str, Any] = super()._init_config()
        channels = {
            channel_id: {name: value for name, value in card.items() if name != "credentials"}
            for channel_id, card in self._channels.items()
        }
        return config | {"channels": channels}

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"channels": {channel_id: card.get("kind") for channel_id, card in self._channels.items()}}
