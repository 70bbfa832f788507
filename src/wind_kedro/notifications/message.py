"""What people are told: incidents as a subject, as text, and as JSON."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pandas as pd

#: A message tells so many incidents in words; of more it says how many, and where they stand.
TOLD_IN_WORDS = 20
_WORST_FIRST = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Message:
    """Incidents of one run, to be told together: a thousand farms that lost their weather are one message.

    Attributes:
        incidents: rows of `contracts.Incidents`.
        as_of: as of which time they were found.
        fleet: whose they are, as people call it.
    """

    incidents: pd.DataFrame
    as_of: dt.datetime
    fleet: str = "wind-kedro"

    @property
    def worst_first(self) -> list[dict[str, Any]]:
        """The incidents as records: errors, then warnings, then infos, each in the order found; those resolved last."""
        order = (
            self.incidents["severity"].map(_WORST_FIRST).where(self.incidents["state"] != "resolved", len(_WORST_FIRST))
        )
        ordered = self.incidents.iloc[order.argsort(kind="stable")]
        return [{str(name): value for name, value in row.items()} for row in ordered.to_dict("records")]

    @property
    def subject(self) -> str:
        """One line: how many of which severity or resolved, and the first of them."""
        rows = self.worst_first
        counts = self.incidents["severity"].where(self.incidents["state"] != "resolved", "resolved").value_counts()
        told = ", ".join(
            f"{counts[word]} {word}{'s' if counts[word] > 1 and word in {'error', 'warning'} else ''}"
            for word in (*_WORST_FIRST, "resolved")
            if word in counts
        )
        first = " ".join(f"{_where(rows[0])}{rows[0]['kind']}".split())
        return f"[{self.fleet}] {told}: {first}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")

    @property
    def text(self) -> str:
        """The incidents in words: what, where, how much, the evidence, and what to do."""
        rows = self.worst_first
        parts = [f"As of {self.as_of:%Y-%m-%d %H:%M} UTC"]
        for row in rows[:TOLD_IN_WORDS]:
            head = row["severity"].upper() if row["state"] != "resolved" else "RESOLVED"
            lines = [f"{head} {_where(row)}{row['message'].removeprefix('resolved: ')}"]
            lines += [
                f"  {label}: {row[name]}" for label, name in (("Evidence", "evidence"), ("Do", "action")) if row[name]
            ]
            parts.append("\n".join(lines))
        if len(rows) > TOLD_IN_WORDS:
            parts.append(f"{len(rows) - TOLD_IN_WORDS} more stand in the report and in the table of incidents.")
        return "\n\n".join(parts)

    @property
    def payload(self) -> dict[str, Any]:
        """The same for a machine. Chat services that take a `text` show it."""
        return {
            "text": f"*{self.subject}*\n{self.text}",
            "subject": self.subject,
            "as_of": pd.Timestamp(self.as_of).isoformat(),
            "incidents": [{name: _plain(value) for name, value in row.items()} for row in self.worst_first],
        }


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if pd.isna(value) else value


def _where(row: dict[str, Any]) -> str:
    """``product/entity: ``, as much of it as there is."""
    named = "/".join(name for name in (row["product_id"], row["entity_id"]) if name)
    return f"{named}: " if named else ""
