"""Messages about incidents: composed by monitoring, kept in the outbox, sent as text or as JSON."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import pandas as pd

#: The body describes so many incidents; of more it gives the number, and where they are.
DESCRIBED = 20
_RANKS = {"error": 0, "warning": 1, "info": 2, "resolved": 3}


@dataclass(frozen=True)
class Message:
    """Incidents of one run, the worst first, sent together over one channel; ``id`` is the same whenever it is sent again."""

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


def compose_message(channel: str, incidents: pd.DataFrame, as_of: dt.datetime) -> Message:
    """One message about all of these incidents: a thousand farms that lost their weather are one message."""
    # Errors, then warnings, then infos, each in the order found; those resolved last.
    order = incidents["severity"].where(incidents["state"] != "resolved", "resolved").map(_RANKS)
    ordered = incidents.iloc[order.argsort(kind="stable")].to_dict("records")
    rows = [{str(name): _plain(value) for name, value in row.items()} for row in ordered]
    identity = ("kind", "entity_id", "product_id", "subject", "state")
    about = sorted("\x1f".join(str(row[name]) for name in identity) for row in rows)
    key = "\x1e".join([channel, pd.Timestamp(as_of).isoformat(), *about])
    counts = {word: int((order == rank).sum()) for word, rank in _RANKS.items()}
    numbers = ", ".join(
        f"{count} {word}{'s' if count > 1 and word in {'error', 'warning'} else ''}" for word, count in counts.items() if count
    )
    first = " ".join(f"{_where(rows[0])}{rows[0]['kind']}".split())
    parts = [f"As of {as_of:%Y-%m-%d %H:%M} UTC"]
    for row in rows[:DESCRIBED]:
        head = row["severity"].upper() if row["state"] != "resolved" else "RESOLVED"
        lines = [f"{head} {_where(row)}{row['message'].removeprefix('resolved: ')}"]
        lines += [f"  {label}: {row[name]}" for label, name in (("Evidence", "evidence"), ("Do", "action")) if row[name]]
        parts.append("\n".join(lines))
    if len(rows) > DESCRIBED:
        parts.append(f"{len(rows) - DESCRIBED} more are in the report and in the table of incidents.")
    return Message(
        id=hashlib.sha256(key.encode()).hexdigest()[:32],
        channel=channel,
        created_at=as_of,
        subject=f"[wind-kedro] {numbers}: {first}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else ""),
        body="\n\n".join(parts),
        incidents=rows,
    )


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if pd.isna(value) else value


def _where(row: dict[str, Any]) -> str:
    """``product/entity: ``, as much of it as there is."""
    named = "/".join(name for name in (row["product_id"], row["entity_id"]) if name)
    return f"{named}: " if named else ""
