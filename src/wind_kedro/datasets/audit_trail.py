"""Dataset of the audit: saving appends to the hash chain and never replaces records."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from wind_kedro.datasets.files import read_whole
from wind_kedro.datasets.parts import FolderTable
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.audit import LINKS, SUBJECT, Head, chain, differs_from, faults
from wind_kedro.governance.provenance import file_sha256
from wind_kedro.governance.signing import Keyring, Seen
from wind_kedro.storage.lease import lock_in
from wind_kedro.storage.paths import data_path, make_folder
from wind_kedro.storage.temporary import written_aside

logger = logging.getLogger(__name__)

#: What signatures are for: of the head, and of the records of one file.
_HEAD, _RECORDS = "audit head", "audit records"
#: Where a file of records has its signature: in the metadata of its Parquet schema.
_SIGNATURE = b"wind_kedro_signature"
#: First and last number of the records in a file.
_NAME = re.compile(r"\d{12}-\d{12}\.parquet", re.ASCII)


@dataclass(frozen=True)
class _Indexed:
    """A file of records as it was when it was last read.

    Attributes:
        size: bytes.
        modified_ns: its time.
        sha256: of its bytes.
        last_issue: newest issue time of its records, ISO 8601; empty: it cannot be read.
    """

    size: int
    modified_ns: int
    sha256: str
    last_issue: str


class BrokenChainError(WindKedroError, DatasetError):
    """The audit was altered; nothing is appended to it until it is adopted."""


class AuditTrail(FolderTable):
    """An append-only table of records in a chain of hashes: one Parquet file for each save, named by its first and last number.

    A save appends: a record about the same as an earlier one supersedes it, and both stay. Appending waits for its turn, so that
    two runs at once give one chain. Nothing is appended to a chain that was altered. A run that is killed leaves the chain as it
    was, or with its records whole: the file, which is signed, comes first, the head after it, and the next save moves it on. A
    chain of which nothing is left, neither records nor head, begins anew.

    Appending reads only files that are new or have another size or time than when they were last read (a hidden index, which may
    be deleted); `verify` reads all of them.

    The evidence is worth as much as the key: the owner of the private key can make the chain anew. This machine also keeps the
    newest head that it has seen beside its keys, so that a cut chain with an older head is found.
    """

    def __init__(self, *, head: str, **options: Any) -> None:
        """Set the location of the chain.

        Args:
            head: file of the signed head.
            options: of `FolderTable`.
        """
        super().__init__(**options)
        self._head = data_path(head, "head")

    def load(self) -> pd.DataFrame:
        """All records in order, the superseded ones too; files that are no part of the chain are named and passed over."""
        for name in self.strangers():
            logger.warning("%s: is no part of the audit, and is passed over", name)
        return self._completed(self._joined([table for file in self._files() if (table := _part(file)) is not None]))

    def save(self, data: pd.DataFrame) -> None:
        """Append records; their links are made here.

        Raises:
            BrokenChainError: if the chain was altered: nothing is written.
            KeyFileError: if this machine cannot sign.
        """
        records = data.drop(columns=LINKS, errors="ignore")
        if records.empty:
            return
        make_folder(self._filepath)
        make_folder(self._head.parent)
        with lock_in(self._filepath, "lock"):
            head = self._caught_up()
            linked, newest = chain(records, head, self._standing(records))
            with written_aside(self._filepath / f"{head.sequence + 1:012d}-{newest.sequence:012d}.parquet") as file:
                _write_signed(linked, asdict(newest), file)
            self._keep(newest)

    def head(self) -> Head:
        """Number and hash of the newest record, by the signed head; the beginning where no head verifies."""
        return self._signed_head()[0]

    def verify(self, head: Head | None = None) -> list[str]:
        """What is wrong with the chain, a line a fault; ``head``: one that was kept elsewhere."""
        kept, _, fault = self._signed_head()
        found = []
        if fault:
            # Without a head the records can only be held against one another.
            kept = self._end()
            found = [fault] if self._files() or self._head.exists() else []
        found += faults(self._records(), kept, self._reached(kept))
        seen = Keyring().seen(self._filepath)
        if seen is not None and self._hash_of(seen.number) != seen.digest:
            found.append(
                f"record {seen.number}: removed or rewritten: this machine has seen another chain here, up to that record; "
                f"if it was replaced on purpose: kedro wind keys adopt"
            )
        if head is not None and (other := differs_from(self._records(), head)):
            found.append(other)
        if seen is None and not found and not fault and kept.sequence:
            self._note(kept)
        return found

    def strangers(self) -> list[str]:
        """Files of the folder that are no part of the chain: of other names, or unreadable."""
        own = [file for file in self._files() if _part(file) is not None]
        found = sorted(self._filepath.iterdir()) if self._filepath.is_dir() else []
        return [str(file) for file in found if file.name != "lock" and not file.name.startswith(".") and file not in own]

    def adopt(self) -> Head:
        """Sign the chain as it is, after a person checked it: one of an earlier version, or one that was restored on purpose.

        Raises:
            BrokenChainError: if its records do not follow from one another.
        """
        with lock_in(self._filepath, "lock"):
            end = self._end()
            if broken := faults(self._records(), end, end):
                raise self._broken(broken)
            Keyring().forget(self._filepath)
            if end.sequence:
                self._keep(end)
            return end

    def _signed_head(self) -> tuple[Head, str, str]:
        """The head, the digest of the files up to it, and why it does not count; empty: it does."""
        if not self._head.is_file():
            fault = "is missing: removed, perhaps with records, or not written as the first run was killed"
            return Head(), "", f"{self._head}: the head {fault}"
        try:
            found = json.loads(self._head.read_text("utf-8"))
            content = {name: found[name] for name in ("sequence", "sha256", "files")}
            head, files = Head(int(content["sequence"]), str(content["sha256"])), str(content["files"])
            fault = Keyring().fault(_HEAD, content, found.get("key"), found.get("signature"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            fault = "is not signed (one of an earlier version: kedro wind keys adopt)"
        return (head, files, "") if not fault else (Head(), "", f"{self._head}: the head {fault}")

    def _keep(self, head: Head) -> None:
        content = asdict(head) | {"files": self._files_digest(head)}
        written = content | Keyring().sign(_HEAD, content)
        with written_aside(self._head) as file:
            file.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        self._note(head)

    def _reached(self, head: Head) -> Head:
        """The last of the records after the head that were signed: by runs that were killed before they moved the head on."""
        for file in self._files():
            if int(file.stem[:12]) == head.sequence + 1 and (signed := _signed_end(file)) is not None:
                head = signed
        return head

    def _note(self, head: Head) -> None:
        # The first record identifies the chain.
        Keyring().note(self._filepath, Seen(self._hash_of(1) or "", head.sequence, head.sha256))

    def _hash_of(self, number: int) -> str | None:
        for file in self._files():
            if int(file.stem[:12]) <= number <= int(file.stem[13:]) and (table := _part(file)) is not None:
                own = table.loc[table["sequence"] == number, "sha256"]
                return None if own.empty else str(own.iloc[0])
        return None

    def _end(self) -> Head:
        """The last record that is there, whatever was signed."""
        last = Head()
        for record in self._records():
            last = Head(record["sequence"], record["sha256"])
        return last

    def _records(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            table = _part(file)
            for record in [] if table is None else table.to_dict("records"):
                yield {str(name): value for name, value in record.items()}

    def _files(self) -> list[Path]:
        found = self._filepath.iterdir() if self._filepath.is_dir() else []
        return sorted(file for file in found if _NAME.fullmatch(file.name) and file.is_file())

    def _files_digest(self, head: Head) -> str:
        """Of the names and bytes of all files up to a head: an unaltered chain is found unaltered without parsing a record."""
        whole, index = hashlib.sha256(), self._index()
        for file in self._files():
            if int(file.stem[13:]) <= head.sequence:
                whole.update(f"{file.name} {index[file.name].sha256}\n".encode())
        return whole.hexdigest()

    def _index(self) -> dict[str, _Indexed]:
        """By name what is known of each file; only those that are new or have another size or time are read."""
        try:
            kept = {name: _Indexed(**entry) for name, entry in json.loads(self._index_file.read_text("utf-8")).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            kept = {}
        found = {}
        for file in self._files():
            status, entry = file.stat(), kept.get(file.name)
            if entry is None or (entry.size, entry.modified_ns) != (status.st_size, status.st_mtime_ns):
                entry = _Indexed(status.st_size, status.st_mtime_ns, file_sha256(file), _last_issue(file))
            found[file.name] = entry
        if found != kept and found:
            with written_aside(self._index_file) as file:
                file.write_text(json.dumps({name: asdict(entry) for name, entry in found.items()}), encoding="utf-8")
        return found

    @property
    def _index_file(self) -> Path:
        return self._filepath / ".index.json"

    def _caught_up(self) -> Head:
        """The newest record of an unaltered chain, over records too that a run wrote before it was killed.

        Raises:
            BrokenChainError: if the chain was altered.
        """
        if not self._files() and not self._head.exists():
            if Keyring().seen(self._filepath) is not None:
                logger.warning("%s: the audit that was here is gone; a new one begins", self._filepath)
                Keyring().forget(self._filepath)
            return Head()
        head, files, fault = self._signed_head()
        beyond = any(int(file.stem[13:]) > head.sequence for file in self._files())
        seen = Keyring().seen(self._filepath)
        older = seen is not None and (head.sequence, head.sha256) != (seen.number, seen.digest)
        if fault or beyond or older or files != self._files_digest(head):
            end = self._end()
            # The records of one run, the first, which was killed before it wrote a head.
            first = len(self._files()) == 1 and not self._head.exists() and seen is None and self._reached(Head()) == end
            if broken := faults(self._records(), end, end) if first else self.verify():
                raise self._broken(broken)
            return end
        return head

    def _broken(self, broken: list[str]) -> BrokenChainError:
        more = f" and {len(broken) - 1} more faults" if len(broken) > 1 else ""
        return BrokenChainError(f"the audit in {self._filepath} was altered: {broken[0]}{more}: kedro wind verify")

    def _standing(self, records: pd.DataFrame) -> dict[tuple[Any, ...], int]:
        """By subject the number of the newest record, of the issue times that come again."""
        first = records["issued_at"].min()
        standing: dict[tuple[Any, ...], int] = {}
        index = self._index()
        for file in self._files():
            last_issue = index[file.name].last_issue
            if last_issue and last_issue < first.isoformat():
                continue
            known = read_whole(file, columns=[*SUBJECT, "sequence"], filters=[("issued_at", ">=", first)])
            for *subject, sequence in known.itertuples(index=False, name=None):
                standing[tuple(subject)] = int(sequence)
        return standing

    def _exists(self) -> bool:
        return bool(self._files())


def _part(file: Path) -> pd.DataFrame | None:
    """The records of a file; none: it is no file of records."""
    try:
        table = read_whole(file)
    except Exception:  # whatever bytes are there
        return None
    known = {*LINKS, *SUBJECT} <= set(table.columns)
    return table if known and pd.api.types.is_integer_dtype(table["sequence"].dtype) else None


def _last_issue(file: Path) -> str:
    try:
        return str(read_whole(file, columns=["issued_at"])["issued_at"].max().isoformat())
    except Exception:  # whatever bytes are there
        return ""


def _write_signed(records: pd.DataFrame, end: dict[str, Any], file: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(records.to_parquet(index=False)))
    signature = json.dumps(end | Keyring().sign(_RECORDS, end)).encode()
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), _SIGNATURE: signature}), file)


def _signed_end(file: Path) -> Head | None:
    """The last record of a file, if it is signed; none: the file is not."""
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as content:
            found = json.loads((pq.read_schema(content).metadata or {})[_SIGNATURE])
        end = {"sequence": found["sequence"], "sha256": found["sha256"]}
        return None if Keyring().fault(_RECORDS, end, found.get("key"), found.get("signature")) else Head(**end)
    except Exception:  # whatever bytes are there
        return None
