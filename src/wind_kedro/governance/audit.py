"""The audit's chain: every record carries the hash of the one before, and the newest hash is in a head that is signed.

What a record holds is hashed with its number and the hash of the record before it. So a change is found unless all later records
and the head are made anew, which needs the private key (`governance.signing`). Those who have the key, which includes the user
that runs the forecasts, can do so; then only a head helps that was kept elsewhere (`kedro wind verify` prints it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from wind_kedro.governance.signing import GENESIS

#: What the chain adds to a record.
LINKS = ["sequence", "supersedes", "previous_sha256", "sha256"]
#: What a record is about: a later one about the same supersedes it, and both are kept.
SUBJECT = ["product_id", "entity_id", "issued_at"]


@dataclass(frozen=True)
class Head:
    """The newest record: its number and hash."""

    sequence: int = 0
    sha256: str = GENESIS


def digest(record: dict[str, Any]) -> str:
    """Of a record without its own hash, in one spelling: sorted names, times in ISO 8601 and UTC."""
    plain = {
        str(name): value.isoformat() if isinstance(value, pd.Timestamp) else None if pd.isna(value) else value
        for name, value in record.items()
        if name != "sha256"
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=_number).encode()).hexdigest()


def _number(value: Any) -> Any:
    # numpy's numbers are not JSON's, but know how to become them.
    return value.item()


def chain(records: pd.DataFrame, head: Head, superseded: dict[tuple[Any, ...], int]) -> tuple[pd.DataFrame, Head]:
    """Records with their links, in the order given, and the new head; ``superseded`` has the newest number of each `SUBJECT`."""
    linked = []
    for row in records.to_dict("records"):
        subject = tuple(row[name] for name in SUBJECT)
        record = {str(name): value for name, value in row.items()} | {
            "sequence": head.sequence + 1,
            "supersedes": superseded.get(subject, 0),
            "previous_sha256": head.sha256,
        }
        record["sha256"] = digest(record)
        head = Head(record["sequence"], record["sha256"])
        superseded[subject] = head.sequence
        linked.append(record)
    return pd.DataFrame(linked, columns=[*records.columns, *LINKS]), head


def faults(records: Iterable[dict[str, Any]], head: Head, reached: Head) -> list[str]:
    """What is wrong with a chain, one line a fault, naming the record; empty: it is whole.

    Args:
        records: all that are there, by number.
        head: the signed head.
        reached: the last record after it that a run signed before it was killed; the head itself, where there is none.
    """
    found = []
    last = Head()
    kept = {0: Head().sha256}
    for record in records:
        about = f"record {record['sequence']} ({_about(record)})"
        if record["sequence"] > last.sequence + 1:
            found.append(f"{_span(last.sequence + 1, record['sequence'] - 1)}: removed: the next that is there is {about}")
        elif record["sequence"] <= last.sequence:
            found.append(f"{about}: stands twice")
            continue
        elif record["previous_sha256"] != last.sha256:
            found.append(f"{about}: does not follow from record {last.sequence} as it stands")
        if _changed(record):
            found.append(f"{about}: changed: its content does not give its hash")
        last = Head(record["sequence"], record["sha256"])
        kept[last.sequence] = last.sha256
    if last.sequence < head.sequence:
        found.append(f"{_span(last.sequence + 1, head.sequence)}: removed: the signed head is record {head.sequence}")
    elif kept.get(head.sequence) != head.sha256:
        found.append(f"record {head.sequence}: its hash is not that of the signed head: the chain was rewritten")
    if last.sequence > reached.sequence:
        found.append(f"{_span(reached.sequence + 1, last.sequence)}: added after the signed head, and not signed")
    elif head.sequence < reached.sequence and kept.get(reached.sequence) != reached.sha256:
        found.append(f"record {reached.sequence}: its hash is not the one that was signed with it")
    return found


def differs_from(records: Iterable[dict[str, Any]], head: Head) -> str:
    """Why a chain is not the one of which a head was kept elsewhere; empty: it is, or has grown since."""
    found = {record["sequence"]: record["sha256"] for record in records}
    if head.sequence == 0 or found.get(head.sequence) == head.sha256:
        return ""
    if head.sequence not in found:
        return f"record {head.sequence}: removed: the head that was kept elsewhere is record {head.sequence}"
    return f"record {head.sequence}: its hash is not that of the head that was kept elsewhere: the chain was rewritten"


def _changed(record: dict[str, Any]) -> bool:
    try:
        return bool(digest(record) != record["sha256"])
    except (AttributeError, TypeError, ValueError):  # a value of a type that no record has
        return True


def _span(first: int, last: int) -> str:
    return f"record {first}" + (f" to {last}" if last > first else "")


def _about(record: dict[str, Any]) -> str:
    return f"{record['product_id']}/{record['entity_id']} issued {str(record['issued_at'])[:16].replace(' ', 'T')}"
