"""Notifications: messages about incidents, each sent once over the channels that the configuration names. One kind a file.

A new kind is a file with a `Channel` and a line in `CHANNELS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from wind_kedro.cards import CardError
from wind_kedro.errors import WindKedroError, settings_of
from wind_kedro.notifications.channel import Channel, ChannelCards, ChannelError
from wind_kedro.notifications.deduplication import due_incidents
from wind_kedro.notifications.message import Message, compose_message

__all__ = ["CHANNELS", "Channel", "ChannelCards", "ChannelError", "Message", "build_channels", "compose_message", "due_incidents"]

#: The kinds by the word that configuration uses, with module and class: a kind costs its import when it is first used.
CHANNELS: Mapping[str, tuple[str, str]] = {"log": ("log", "Log"), "webhook": ("webhook", "Webhook"), "email": ("email", "Email")}


def build_channels(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Channel]:
    """The channels of an environment, by id.

    Raises:
        CardError: one line a fault of any card, with channel and field and never with a value, which may be a secret.
    """
    channels: dict[str, Channel] = {}
    faults: list[str] = []
    for channel_id, config in configs.items():
        kind = str(config.get("kind", ""))
        if kind not in CHANNELS:
            faults.append(f"channel '{channel_id}': kind: '{kind}' is not known; known are {', '.join(CHANNELS)}")
            continue
        module, name = CHANNELS[kind]
        family: type[Channel] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        try:
            channels[channel_id] = settings_of(family, {**config, "id": channel_id}, f"channel '{channel_id}'")
        except WindKedroError as error:
            faults.append(str(error))
    if faults:
        raise CardError("\n".join(faults))
    return channels
