"""The audit's chain: every record carries the hash of the one before, so that none can be changed or taken out unseen.

What a record says is hashed with its number and the hash of the record before it. Whoever changes one has to
change all later ones, and the head, which is kept aside (and can be kept on another machine: `kedro wind verify` prints it).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

#: What the chain adds to a record.
LINKS = ["sequence", "supersedes", "previous_sha256", "sha256"]
#: The hash before the first record.
GENESIS = "0" * 64
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
    """Records with their links, in the order given, and the new head.

    Args:
        records: what they say.
        head: of the chain so far.
        superseded: by `SUBJECT` the number of the record that stands so far.
    """
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


def faults(records: Iterable[dict[str, Any]], head: Head) -> list[str]:
    """What is wrong with a chain, one line a fault, naming the record; empty: it is whole.

    Args:
        records: all that are there, by number.
        head: as kept aside.
    """
    found = []
    last = Head()
    kept = ""
    for record in records:
        about = f"record {record['sequence']} ({_about(record)})"
        if record["sequence"] > last.sequence + 1:
            gone = f"record {last.sequence + 1}" + (
                f" to {record['sequence'] - 1}" if record["sequence"] > last.sequence + 2 else ""
            )
            found.append(f"{gone}: removed: the next that is there is {about}")
        elif record["sequence"] <= last.sequence:
            found.append(f"{about}: stands twice")
            continue
        elif record["previous_sha256"] != last.sha256:
            found.append(f"{about}: does not follow from record {last.sequence} as it stands")
        if digest(record) != record["sha256"]:
            found.append(f"{about}: changed: its content does not give its hash")
        last = Head(record["sequence"], record["sha256"])
        if last.sequence == head.sequence:
            kept = last.sha256
    if last.sequence < head.sequence:
        gone = f"record {last.sequence + 1}" + (f" to {head.sequence}" if head.sequence > last.sequence + 1 else "")
        found.append(f"{gone}: removed: the head that was kept aside is record {head.sequence}")
    elif head.sequence and kept != head.sha256:
        found.append(
            f"record {head.sequence}: its hash is not that of the head that was kept aside: the chain was made anew"
        )
    return found


def _about(record: dict[str, Any]) -> str:
    return f"{record['product_id']}/{record['entity_id']} issued {pd.Timestamp(record['issued_at']):%Y-%m-%dT%H:%M}"
