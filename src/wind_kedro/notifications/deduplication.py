"""Which incidents are due on a channel: each once, and again only if it grew worse or has gone on for long."""

from __future__ import annotations

import datetime as dt
import json

import pandas as pd

from wind_kedro.notifications.channel import SEVERITIES, ChannelRules

#: What makes an incident the same as one before: not its message, which counts and measures anew in every run.
IDENTITY = ["kind", "entity_id", "product_id", "subject"]


def incidents_of(outbox: pd.DataFrame) -> pd.DataFrame:
    """One row per message of the outbox and incident in it, with `channel` and `created_at`, oldest first."""
    rows = [
        {**incident, "channel": message["channel"], "created_at": message["created_at"]}
        for message in outbox.sort_values("created_at", kind="stable").to_dict("records")
        for incident in json.loads(message["incidents"])
    ]
    return pd.DataFrame(rows, columns=[*IDENTITY, "severity", "amount", "state", "channel", "created_at"])


def due_incidents(
    incidents: pd.DataFrame, before: pd.DataFrame, channel: str, rules: ChannelRules, as_of: dt.datetime, worse_share: float
) -> pd.DataFrame:
    """The incidents to be sent over a channel now; one row each, however often found.

    A resolved one is due on a channel that had it as open, whatever its severity is by then; an open one again if it is more
    severe, if its `amount` grew by ``worse_share``, or after `again_after_hours`. Of ``before`` (`incidents_of`) only messages
    written by ``as_of`` count.
    """
    severe = SEVERITIES[SEVERITIES.index(rules.min_severity) :]
    wanted = incidents[incidents["severity"].isin(severe) | (incidents["state"] == "resolved")].drop_duplicates(IDENTITY)
    known = before[(before["channel"] == channel) & (before["created_at"] <= pd.Timestamp(as_of))]
    known = known.drop_duplicates(IDENTITY, keep="last")[[*IDENTITY, "severity", "amount", "state", "created_at"]]
    both = wanted.merge(known, on=IDENTITY, how="left", suffixes=("", "_before"))
    is_open, was_open = both["state"] != "resolved", both["state_before"] == "open"
    rank = {severity: float(number) for number, severity in enumerate(SEVERITIES)}
    again = (
        (both["severity"].map(rank).astype(float) > both["severity_before"].map(rank).astype(float))
        | (pd.Timestamp(as_of) - pd.to_datetime(both["created_at"], utc=True) >= pd.Timedelta(hours=rules.again_after_hours))
        | (both["amount"].astype(float) > both["amount_before"].astype(float) * (1 + worse_share))
    )
    return wanted[((is_open != was_open) | (is_open & again)).to_numpy(bool)]
