"""The outbox: which incidents are open, which ended, and the messages that are to be sent about them."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pandas as pd

from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import Outbox
from wind_kedro.notifications import ChannelCards, compose_message, due_incidents
from wind_kedro.notifications.deduplication import IDENTITY, incidents_of
from wind_kedro.pipelines.monitoring.nodes import incidents_table
from wind_kedro.pipelines.monitoring.settings import Monitoring


def write_outbox(
    incidents_found: pd.DataFrame,
    incidents_before: pd.DataFrame,
    outbox_before: pd.DataFrame,
    deliveries_before: pd.DataFrame,
    notification_channels: ChannelCards,
    clock: Clock,
    monitoring: Monitoring,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The incidents, open and resolved, and a message for each channel on which some are due. Nothing is sent here.

    Returns:
        `Incidents`, with one more per channel that failed in the last run of notification, and `Outbox`, each of this run.
    """
    at = pd.Timestamp(clock.as_of)
    rules = notification_channels.rules()
    known = incidents_of(outbox_before[outbox_before["created_at"] <= at])
    known = known[known["channel"].isin(list(rules))]
    faults = _channel_faults(deliveries_before[deliveries_before["created_at"] <= at], rules)
    found = incidents_found
    if faults:
        found = pd.concat([found[found["kind"] != "all_clear"], incidents_table(faults, clock)[found.columns]], ignore_index=True)
    incidents = continue_incidents(found, incidents_before, known, at)
    messages = []
    for channel, rule in rules.items():
        # The failure of a channel is sent over the others; its own messages are tried again anyway.
        own = (incidents["kind"] == _FAILED) & (incidents["subject"] == channel)
        due = due_incidents(incidents[~own], known, channel, rule, clock.as_of, monitoring.worse_share)
        if len(due):
            message = compose_message(channel, due, clock.as_of)
            messages.append(
                {
                    "message_id": message.id,
                    "created_at": at,
                    "channel": channel,
                    "subject": message.subject,
                    "body": message.body,
                    "incidents": json.dumps(message.incidents),
                }
            )
    # A rerun adds to its own part: messages written before may be on their way.
    mine = outbox_before[outbox_before["created_at"] == at]
    new = Outbox.table(messages)
    return incidents, pd.concat([mine, new], ignore_index=True) if len(mine) else new


_FAILED = "notification_failed"
_NO_CHANNEL = {
    "kind": _FAILED,
    "severity": "warning",
    "message": "no notification channel is configured: incidents are not sent",
    "evidence": "notification_channels in parameters_notification.yml is empty",
    "action": "name a channel: docs/how-to/be-alarmed.md",
}


def _channel_faults(deliveries: pd.DataFrame, channels: Collection[str]) -> list[dict[str, Any]]:
    """One incident per channel whose last attempt failed; one if there is no channel."""
    if not channels:
        return [_NO_CHANNEL]
    newest = deliveries.sort_values("recorded_at", kind="stable").drop_duplicates("message_id", keep="last")
    rows = []
    for channel, own in newest[newest["channel"].isin(list(channels))].groupby("channel"):
        failed = own[own["outcome"] == "failed"]
        # The last attempt counts: after it succeeded, the messages before it are only waiting.
        if (failed["recorded_at"] == own["recorded_at"].max()).any():
            rows.append(
                {
                    "kind": _FAILED,
                    "subject": str(channel),
                    "severity": "warning",
                    "message": f"{len(failed)} message{'s' if len(failed) > 1 else ''} not delivered over channel '{channel}'",
                    "evidence": str(failed["fault"].iloc[-1]),
                    "action": "correct the channel's card or its credentials; the next run of notification tries again",
                }
            )
    return rows


def continue_incidents(found: pd.DataFrame, before: pd.DataFrame, written: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """The incidents found, with the time since when they are open; and as resolved those that were open and are not found.

    The same incident is one of the same `IDENTITY`. It is open from the first of an unbroken series of runs that find it, and
    resolved in the first run that does not, and again in later ones until each channel's closing message is written. News of one
    training (`challenger_…`) is neither: it is only shown for a while.

    Args:
        found: rows of this run.
        before: contract `Incidents`, of all runs; only what could be known at ``at`` counts.
        written: incidents of the messages written so far, as `incidents_of` returns them.
        at: as of which time this run is; an earlier attempt of it counts as before, so that a rerun gives the same rows.
    """
    before = before[(before["raised_at"] <= at) & ~before["kind"].str.startswith(("challenger_", "all_clear"))]
    before = before.assign(
        opened_at=before["opened_at"].fillna(before["raised_at"]), state=before["state"].fillna("open")
    ).sort_values("raised_at", kind="stable")
    earlier, mine = before[before["raised_at"] < at], before[before["raised_at"] == at]
    last = earlier[(earlier["raised_at"] == earlier["raised_at"].max()) & (earlier["state"] == "open")]
    known = pd.concat([last, mine]).drop_duplicates(IDENTITY)
    opened = dict(zip(_identities(known), known["opened_at"], strict=True))
    now = set(_identities(found))
    found = pd.DataFrame(found).assign(opened_at=[opened.get(key, at) for key in _identities(found)])
    newest = written.drop_duplicates(["channel", *IDENTITY], keep="last")
    unclosed = set(_identities(newest[newest["state"] == "open"]))
    owed = before[[key in unclosed for key in _identities(before)]].iloc[::-1]
    gone = pd.concat([known, owed]).drop_duplicates(IDENTITY)
    gone = gone[[key not in now for key in _identities(gone)]]
    if gone.empty:
        return found
    since = gone["opened_at"].dt.strftime("%Y-%m-%d %H:%M")
    resolved: pd.DataFrame = gone.assign(
        raised_at=at,
        state="resolved",
        message=gone["message"].str.removeprefix(_RESOLVED).radd(_RESOLVED),
        evidence=since.radd("open since ") + f", not found as of {at:%Y-%m-%d %H:%M}",
        action="",
    )
    return pd.concat([found, resolved[found.columns]], ignore_index=True)


def _identities(rows: pd.DataFrame) -> list[Any]:
    return list(rows[IDENTITY].itertuples(index=False, name=None))


_RESOLVED = "resolved: "
