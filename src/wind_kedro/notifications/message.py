"""Messages about incidents: composed by monitoring, kept in the outbox, sent as text or as JSON."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import pandas as pd

#: The body describes so many incidents; of more it gives the number, and where they are.
DESCRIBED = 20
_WORST_FIRST = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Message:
    """Incidents of one run, sent together over one channel.

    Attributes:
        id: the same whenever the message is sent again.
        channel: over which.
        created_at: as of which time the incidents were found.
        subject: one line.
        body: plain text.
        incidents: as JSON holds them, the worst first.
    """

    id: str
    channel: str
    created_at: dt.datetime
    subject: str
    body: str
    incidents: list[dict[str, Any]]

    @property
    def payload(self) -> dict[str, Any]:
        """The message for a machine. Chat services that take a `text` show it."""
        return {
            "id": self.id,
            "text": f"*{self.subject}*\n{self.body}",
            "subject": self.subject,
            "as_of": pd.Timestamp(self.created_at).isoformat(),
            "incidents": self.incidents,
        }


def compose_message(channel: str, incidents: pd.DataFrame, as_of: dt.datetime, fleet: str = "wind-kedro") -> Message:
    """One message about all of these incidents: a thousand farms that lost their weather are one message.

    Args:
        channel: over which it is to be sent.
        incidents: rows of `contracts.Incidents`.
        as_of: as of which time they were found.
        fleet: whose they are, for the subject.
    """
    rows = _worst_first(incidents)
    about = sorted(
        "\x1f".join(str(row[name]) for name in ("kind", "entity_id", "product_id", "subject", "state")) for row in rows
    )
    key = "\x1e".join([channel, pd.Timestamp(as_of).isoformat(), *about])
    return Message(
        id=hashlib.sha256(key.encode()).hexdigest()[:32],
        channel=channel,
        created_at=as_of,
        subject=_subject(incidents, rows, fleet),
        body=_body(rows, as_of),
        incidents=[{name: _plain(value) for name, value in row.items()} for row in rows],
    )


def _worst_first(incidents: pd.DataFrame) -> list[dict[str, Any]]:
    """The incidents as records: errors, then warnings, then infos, each in the order found; those resolved last."""
    order = incidents["severity"].map(_WORST_FIRST).where(incidents["state"] != "resolved", len(_WORST_FIRST))
    ordered = incidents.iloc[order.argsort(kind="stable")]
    return [{str(name): value for name, value in row.items()} for row in ordered.to_dict("records")]


def _subject(incidents: pd.DataFrame, rows: list[dict[str, Any]], fleet: str) -> str:
    """One line: how many of which severity or resolved, and the first of them."""
    counts = incidents["severity"].where(incidents["state"] != "resolved", "resolved").value_counts()
    numbers = ", ".join(
        f"{counts[word]} {word}{'s' if counts[word] > 1 and word in {'error', 'warning'} else ''}"
        for word in (*_WORST_FIRST, "resolved")
        if word in counts
    )
    first = " ".join(f"{_where(rows[0])}{rows[0]['kind']}".split())
    return f"[{fleet}] {numbers}: {first}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")


def _body(rows: list[dict[str, Any]], as_of: dt.datetime) -> str:
    """What, where, how much, the evidence, and what to do."""
    parts = [f"As of {as_of:%Y-%m-%d %H:%M} UTC"]
    for row in rows[:DESCRIBED]:
        head = row["severity"].upper() if row["state"] != "resolved" else "RESOLVED"
        lines = [f"{head} {_where(row)}{row['message'].removeprefix('resolved: ')}"]
        lines += [f"  {label}: {row[name]}" for label, name in (("Evidence", "evidence"), ("Do", "action")) if row[name]]
        parts.append("\n".join(lines))
    if len(rows) > DESCRIBED:
        parts.append(f"{len(rows) - DESCRIBED} more are in the report and in the table of incidents.")
    return "\n\n".join(parts)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if pd.isna(value) else value


def _where(row: dict[str, Any]) -> str:
    """``product/entity: ``, as much of it as there is."""
    named = "/".join(name for name in (row["product_id"], row["entity_id"]) if name)
    return f"{named}: " if named else ""
