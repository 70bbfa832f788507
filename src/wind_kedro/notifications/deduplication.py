"""What was told before: an incident goes out once, and again only if it grew worse or has gone on for long."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from wind_kedro.notifications.channel import SEVERITIES, Channel, ChannelError
from wind_kedro.notifications.message import Message

#: What makes an incident the same as one before: not its words, which count and measure anew in every run.
IDENTITY = ["kind", "entity_id", "product_id", "subject"]
_COLUMNS = [
    "raised_at", "channel", "incident", *IDENTITY, "severity", "amount", "state", "outcome", "attempts", "fault",
    "recorded_at",
]  # fmt: skip


def incident_id(row: Mapping[Any, Any]) -> str:
    """Sixteen hexadecimal digits that name an incident across runs."""
    return hashlib.sha256("\x1f".join(str(row[name]) for name in IDENTITY).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ledger:
    """What was told, rows of `contracts.Alarms`, and when an incident counts as grown worse.

    Attributes:
        told: of earlier runs.
        worse_share: an incident whose `amount` grew by this share since it was told is told again.
    """

    told: pd.DataFrame
    worse_share: float

    def due(self, incidents: pd.DataFrame, channel: Channel, as_of: dt.datetime) -> pd.DataFrame:
        """The incidents that the channel has to send now; one row each, however often found.

        A resolved one is due on a channel that sent it as open, whatever its severity is by then.
        """
        severe = SEVERITIES[SEVERITIES.index(channel.min_severity) :]
        wanted = incidents[incidents["severity"].isin(severe) | (incidents["state"] == "resolved")]
        wanted = wanted.assign(incident=[incident_id(row) for row in wanted.to_dict("records")])
        wanted = wanted.drop_duplicates("incident")
        # As of now: what a later run told says nothing about this one.
        known = self.told[
            (self.told["channel"] == channel.id)
            & (self.told["outcome"] == "sent")
            & (self.told["raised_at"] <= pd.Timestamp(as_of))
        ].sort_values(["raised_at", "recorded_at"], kind="stable")
        last = known.drop_duplicates("incident", keep="last").set_index("incident")
        due = [self._is_due(row, last, channel, as_of) for row in wanted.to_dict("records")]
        return wanted[pd.Series(due, index=wanted.index, dtype=bool)]

    def _is_due(self, row: Mapping[Any, Any], last: pd.DataFrame, channel: Channel, as_of: dt.datetime) -> bool:
        known = row["incident"] in last.index
        before: dict[Any, Any] = last.loc[str(row["incident"])].to_dict() if known else {"state": "resolved"}
        if "resolved" in {row["state"], before["state"]}:
            return bool(row["state"] != before["state"])
        if SEVERITIES.index(str(row["severity"])) > SEVERITIES.index(str(before["severity"])):
            return True
        if pd.Timestamp(as_of) - before["raised_at"] >= pd.Timedelta(hours=channel.again_after_hours):
            return True
        # False where either is not known.
        return bool(float(row["amount"]) > float(before["amount"]) * (1 + self.worse_share))

    def tell(
        self, incidents: pd.DataFrame, channel: Channel, as_of: dt.datetime, now: dt.datetime
    ) -> tuple[pd.DataFrame, ChannelError | None]:
        """Tell what is due; one row per incident told or not, and why the channel failed, if it did.

        Args:
            incidents: of this run.
            channel: over which.
            as_of: of the run.
            now: the wall clock: a run that looks at the past alarms nobody.
        """
        nothing = pd.DataFrame(columns=_COLUMNS)
        if channel.past_hours is not None and now - as_of > dt.timedelta(hours=channel.past_hours):
            return nothing, None
        due = self.due(incidents, channel, as_of)
        if due.empty:
            return nothing, None
        failure: ChannelError | None = None
        attempts = channel.attempts
        try:
            attempts = channel.send(Message(due.drop(columns="incident"), as_of))
        except ChannelError as error:
            failure = error
        # A library's surprise in one channel must not cost the run, nor the other channels theirs.
        except Exception as error:
            failure = channel.fault(f"unexpected {type(error).__name__}: {error}")
        rows = due.assign(
            channel=channel.id,
            outcome="sent" if failure is None else "failed",
            attempts=attempts,
            fault="" if failure is None else str(failure),
            recorded_at=pd.Timestamp(now),
        )
        return rows[_COLUMNS], failure
