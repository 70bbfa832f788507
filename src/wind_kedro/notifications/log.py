"""The log of the run."""

from __future__ import annotations

import logging
from typing import Literal

from wind_kedro.notifications.channel import Channel
from wind_kedro.notifications.message import Message

logger = logging.getLogger(__name__)
_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


class Log(Channel):
    """Writes each incident as a line of its severity."""

    kind: Literal["log"]
    past_hours: float | None = None  # read by the person who started the run

    def send_once(self, message: Message) -> None:
        """One line an incident; the worst comes first."""
        for row in message.incidents:
            where = "/".join(name for name in (row["product_id"], row["entity_id"]) if name)
            level = _LEVELS[row["severity"]] if row["state"] != "resolved" else logging.INFO
            logger.log(level, "%s: %s%s", row["kind"], f"{where}: " if where else "", row["message"])
