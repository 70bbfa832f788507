"""Which incidents are due on a channel: each once, and again only if it grew worse or has gone on for long."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from wind_kedro.notifications.cards import ChannelRules
from wind_kedro.notifications.channel import SEVERITIES

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


@dataclass(frozen=True)
class AlertDeduplicator:
    """What earlier messages are about, and when an incident counts as grown worse.

    Attributes:
        before: as `incidents_of` returns it.
        worse_share: an incident whose `amount` grew by this share since its last message is due again.
    """

    before: pd.DataFrame
    worse_share: float

    def due(self, incidents: pd.DataFrame, channel: str, rules: ChannelRules, as_of: dt.datetime) -> pd.DataFrame:
        """The incidents to be sent over a channel now; one row each, however often found.

        A resolved one is due on a channel that had it as open, whatever its severity is by then.
        """
        severe = SEVERITIES[SEVERITIES.index(rules.min_severity) :]
        wanted = incidents[incidents["severity"].isin(severe) | (incidents["state"] == "resolved")]
        wanted = wanted.drop_duplicates(IDENTITY)
        # As of now: the messages of a later run change nothing in this one.
        known = self.before[
            (self.before["channel"] == channel) & (self.before["created_at"] <= pd.Timestamp(as_of))
        ].drop_duplicates(IDENTITY, keep="last")
        last = {tuple(row[name] for name in IDENTITY): row for row in known.to_dict("records")}
        due = [
            self._is_due(row, last.get(tuple(row[name] for name in IDENTITY), {"state": "resolved"}), rules, as_of)
            for row in wanted.to_dict("records")
        ]
        return wanted[pd.Series(due, index=wanted.index, dtype=bool)]

    def _is_due(self, row: Mapping[Any, Any], before: Mapping[Any, Any], rules: ChannelRules, as_of: dt.datetime) -> bool:
        if "resolved" in {row["state"], before["state"]}:
            return bool(row["state"] != before["state"])
        if SEVERITIES.index(str(row["severity"])) > SEVERITIES.index(str(before["severity"])):
            return True
        if pd.Timestamp(as_of) - before["created_at"] >= pd.Timedelta(hours=rules.again_after_hours):
            return True
        if pd.isna(row["amount"]) or pd.isna(before["amount"]):
            return False
        return float(row["amount"]) > float(before["amount"]) * (1 + self.worse_share)
