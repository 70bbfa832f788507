"""The chain of promotions: each entry is signed together with the digest of the one before.

So no entry can be changed, inserted or taken out of the middle. That the newest ones were not cut off is known from what this
machine has seen before (`signing.Seen`).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.errors import WindKedroError
from wind_kedro.governance.signing import GENESIS, Keyring, Seen, message_of

#: What the chain adds to each row of an entry.
LINKS = ["chain", "previous_sha256", "key_id", "signature"]
_PURPOSE = "promotion"


class RefusedPromotionsError(WindKedroError):
    """The log of promotions was changed, cut off or replaced: nothing is promoted until a person has checked it."""


@dataclass(frozen=True)
class Chain:
    """What of a log of promotions holds.

    Attributes:
        entries: the verified entries, in order.
        id: of the chain; empty: there is no verified entry.
        digests: of the entries.
        fault: why the entry after the last verified one does not hold; empty: all hold.
        refusal: why none of it may be used: it ends before what this machine has seen, or is another chain; empty: it may.
    """

    entries: list[pd.DataFrame]
    id: str = ""
    digests: tuple[str, ...] = ()
    fault: str = ""
    refusal: str = ""

    def manifests(self) -> dict[str, str]:
        """By version the digest of its manifest."""
        return {
            str(row["model_version"]): str(row["manifest_sha256"])
            for table in self.entries
            for row in table.drop_duplicates("model_version").to_dict("records")
        }


def table_digest(table: pd.DataFrame) -> str:
    """SHA-256 over names and values of the columns, in the order of the rows; the same before and after a Parquet file."""
    whole = hashlib.sha256()
    for name in sorted(map(str, table.columns)):
        column = table[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            kind, content = "time", column.astype("datetime64[us, UTC]").astype("int64").to_numpy().tobytes()
        elif pd.api.types.is_integer_dtype(column.dtype):
            kind, content = "integer", column.to_numpy(np.int64).tobytes()
        elif pd.api.types.is_float_dtype(column.dtype):
            values = column.to_numpy(np.float64, na_value=np.nan)
            kind, content = "number", np.where(np.isnan(values), np.nan, values).tobytes()
        else:
            kind = "text"
            texts = column.astype(object).where(column.notna(), None).tolist()
            content = json.dumps(texts, default=str).encode()
        whole.update(json.dumps([name, kind, len(column)]).encode())
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


def link(entry: pd.DataFrame, number: int, chain: Chain, keyring: Keyring) -> tuple[pd.DataFrame, Seen]:
    """An entry with its links and signature, the next of a chain; and what is seen with it.

    The first entry begins a chain of a new id.
    """
    chain_id = chain.id if number > 1 else uuid.uuid4().hex
    previous = chain.digests[number - 2] if number > 1 else GENESIS
    content = _content(entry, number, chain_id, previous)
    signed = keyring.sign(_PURPOSE, content)
    links = {"chain": chain_id, "previous_sha256": previous, "key_id": signed["key"], "signature": signed["signature"]}
    return entry.drop(columns=LINKS, errors="ignore").assign(**links), Seen(chain_id, number, _entry_digest(content))


def _content(entry: pd.DataFrame, number: int, chain_id: str, previous: str) -> dict[str, Any]:
    table = entry.drop(columns=LINKS, errors="ignore")
    return {"chain": chain_id, "number": number, "previous": previous, "table": table_digest(table)}


def _entry_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(message_of(_PURPOSE, content)).hexdigest()


def _verify_entry(entry: pd.DataFrame, number: int, before: Chain, keyring: Keyring) -> tuple[str, str]:
    """Digest of an entry, and why it does not hold; empty: it does."""
    if not {*LINKS, "manifest_sha256", "model_version"} <= set(entry.columns):
        return "", "is not signed: if it is of a version of wind-kedro that did not sign, kedro wind keys adopt"
    if len(entry[LINKS].drop_duplicates()) != 1:
        return "", "was changed: its rows are of several entries"
    first = entry.iloc[0]
    content = _content(entry, number, str(first["chain"]), str(first["previous_sha256"]))
    fault = keyring.fault(_PURPOSE, content, first["key_id"], first["signature"])
    if not fault and number > 1 and first["chain"] != before.id:
        fault = "is of another chain"
    if not fault and first["previous_sha256"] != (before.digests[-1] if before.digests else GENESIS):
        fault = "does not follow from the one before"
    return _entry_digest(content), fault


def verify(entries: dict[int, pd.DataFrame | str], place: Path, keyring: Keyring, seen: Seen | None) -> Chain:
    """What of a log of promotions holds. The newest entry that holds is noted.

    Args:
        entries: by number; a text is why a file cannot be read.
        place: folder of the log.
        keyring: of this machine.
        seen: what this machine had seen of the log before the entries were read.
    """
    chain = Chain([])
    for number in range(1, max(entries, default=0) + 1):
        entry = entries.get(number, "was removed")
        digest, fault = ("", entry) if isinstance(entry, str) else _verify_entry(entry, number, chain, keyring)
        if fault:
            chain = Chain(chain.entries, chain.id, chain.digests, f"{place}: promotion {number} {fault}")
            break
        assert isinstance(entry, pd.DataFrame)  # noqa: S101 - a text is a fault
        chain = Chain([*chain.entries, entry], str(entry["chain"].iloc[0]), (*chain.digests, digest))
    refusal = _refusal(chain, seen, place)
    if not refusal and chain.digests:
        keyring.note(place, Seen(chain.id, len(chain.digests), chain.digests[-1]))
    return Chain(chain.entries, chain.id, chain.digests, chain.fault, refusal)


def _refusal(chain: Chain, seen: Seen | None, place: Path) -> str:
    held = len(chain.digests)
    if seen is None:
        return chain.fault
    if held < seen.number:
        if chain.fault:
            return chain.fault
        gone = f"promotion {held + 1}" + (f" to {seen.number}" if seen.number > held + 1 else "")
        return (
            f"{place}: {gone} removed: this machine has seen promotion {seen.number}, and models older than that are not used; "
            f"if an older state was restored on purpose: kedro wind keys adopt"
        )
    if chain.id != seen.chain or chain.digests[seen.number - 1] != seen.digest:
        return (
            f"{place}: another log than this machine has seen there (up to promotion {seen.number}); "
            f"if it was replaced on purpose: kedro wind keys adopt"
        )
    return ""
