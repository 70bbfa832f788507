"""The node that sends: each message of the outbox that was not delivered yet, over its channel."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pandas as pd

from wind_kedro.clock import Clock
from wind_kedro.configuration import ConfigurationError, read_secrets
from wind_kedro.contracts.operation import Deliveries
from wind_kedro.datasets.parts import with_same_parts
from wind_kedro.failures import Failure, failures_table
from wind_kedro.feeds.cards import Cards
from wind_kedro.notifications import Channel, ChannelError, Message, build_channels
from wind_kedro.pipelines.notification.settings import ChannelCards


def deliver_notifications(
    outbox: pd.DataFrame, deliveries_before: pd.DataFrame, notification_channels: ChannelCards, clock: Clock
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Send every message of the outbox that is not recorded as delivered, oldest first, each under its own id.

    A run that is killed after it sent a message and before its record is written sends it again with the same id, by which the
    receiver recognises it. Whether a message is too old is decided by the wall clock: it arrives now. A channel that fails is not
    tried again in the same run; its messages wait for the next one.

    Returns:
        `Deliveries`: every row of the days to which this adds some. `Failures`: the channels that failed.
    """
    done = deliveries_before.loc[deliveries_before["outcome"] != "failed", "message_id"]
    pending = outbox[~outbox["message_id"].isin(done)].sort_values(["created_at", "message_id"], kind="stable")
    cards = notification_channels.root
    faults, rows = dict[str, str](), list[dict[str, Any]]()
    channels = _build(notification_channels, {*pending["channel"]}, faults)
    for row in pending.to_dict("records"):
        channel, fields = row["channel"], ("channel", "created_at", "subject", "body")
        message = Message(id=row["message_id"], incidents=json.loads(row["incidents"]), **{name: row[name] for name in fields})
        now = dt.datetime.now(dt.UTC)
        if channel not in cards:
            outcome = {"outcome": "expired", "attempts": 0, "fault": f"channel '{channel}' is not configured any more"}
        elif channel in faults and channel in channels:  # failed with an earlier message of this run
            continue
        elif channel in faults:
            outcome = {"outcome": "failed", "attempts": 0, "fault": faults[channel]}
        else:
            outcome = _deliver(message, channels[channel], now)
            if outcome["outcome"] == "failed":
                faults[channel] = str(outcome["fault"])
        about = {"message_id": message.id, "created_at": message.created_at, "channel": channel}
        rows.append(about | outcome | {"recorded_at": now, "recorded_on": f"{now:%Y-%m-%d}"})
    failures = [
        Failure(
            "notification",
            "notification_failed",
            fault,
            "correct the channel's card or its credentials; the next run of notification tries again",
            severity="warning",
        )
        for fault in faults.values()
    ]
    record = with_same_parts(Deliveries.table(rows), deliveries_before, "recorded_on")
    return record, failures_table(failures, clock.as_of)


def _build(cards: ChannelCards, wanted: set[str], faults: dict[str, str]) -> dict[str, Channel]:
    """The channels of pending messages, with their secrets; one without them is a fault.

    Raises:
        CardError: with a line for each fault of a card.
    """
    ready: Cards = {}
    for name, card in cards.root.items():
        try:
            ready |= ChannelCards({name: card} if name in wanted else {}).with_secrets(read_secrets)
        except ConfigurationError as error:
            faults[name] = f"channel '{name}': {error}"
    return build_channels(ready)


def _deliver(message: Message, channel: Channel, now: dt.datetime) -> dict[str, Any]:
    """Send a message, unless it is too old for its channel."""
    if channel.past_hours is not None and now - message.created_at > dt.timedelta(hours=channel.past_hours):
        return {"outcome": "expired", "attempts": 0, "fault": f"older than past_hours of the channel ({channel.past_hours:g})"}
    try:
        return {"outcome": "delivered", "attempts": channel.send(message), "fault": ""}
    except ChannelError as error:
        return {"outcome": "failed", "attempts": channel.attempts, "fault": str(error)}
    # An unexpected error of a library in one channel must not stop the run, nor the other channels.
    except Exception as error:
        fault = channel.fault(f"unexpected {type(error).__name__}: {error}")
        return {"outcome": "failed", "attempts": 1, "fault": str(fault)}
