"""The audit as a dataset: saving appends to the chain, nothing is ever replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from kedro.io import AbstractDataset, DatasetError

from wind_kedro.audit import LINKS, SUBJECT, Head, chain, faults
from wind_kedro.datasets.history import empty_table
from wind_kedro.datasets.written_aside import aside, read_whole
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.paths import local_path


class BrokenChainError(WindKedroError, DatasetError):
    """The audit was changed: nothing is appended to it until people have looked."""


class AuditTrail(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """An append-only table of records in a chain of hashes: one Parquet file for each save, named by its first and last number.

    A save appends, whatever is there before: a record about the same as an earlier one supersedes it, and both stay. Appending
    waits for its turn, so that two runs at once give one chain. A run that is killed
    leaves the chain as it was, or with its records whole: the file comes first, the head after it, and the next save moves the
    head on.

    Example of a catalog entry::

        audit:
          type: wind_kedro.datasets.AuditTrail
          filepath: data/07_model_output/audit
          head: data/07_model_output/audit_head.json
          contract: wind_kedro.contracts.Audit
    """

    def __init__(self, *, filepath: str, head: str, contract: str, metadata: dict[str, Any] | None = None) -> None:
        """Say where the chain is.

        Args:
            filepath: folder of the records.
            head: file that keeps number and hash of the newest; on another disk it is worth more.
            contract: import path of the Pandera model, for the columns of an empty chain.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._filepath = local_path(filepath, "filepath")
        self._head = local_path(head, "head")
        self._contract = contract
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """All records in order, the superseded ones too."""
        parts = [read_whole(file) for file in self._files()]
        return pd.concat(parts, ignore_index=True) if parts else empty_table(self._contract)

    def save(self, data: pd.DataFrame) -> None:
        """Append records; their links are made here.

        Raises:
            BrokenChainError: if what is there does not go on from the head that was kept aside.
        """
        records = data.drop(columns=LINKS, errors="ignore")
        if records.empty:
            return
        self._filepath.mkdir(parents=True, exist_ok=True)
        self._head.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._filepath / "lock"):
            head = self._caught_up()
            linked, newest = chain(records, head, self._standing(records))
            name = f"{head.sequence + 1:012d}-{newest.sequence:012d}.parquet"
            with aside(self._filepath / name) as file:
                linked.to_parquet(file, index=False)
            self._keep(newest)

    def head(self) -> Head:
        """Number and hash of the newest record, as kept aside."""
        if not self._head.is_file():
            return Head()
        return Head(**json.loads(self._head.read_text("utf-8")))

    def verify(self, head: Head | None = None) -> list[str]:
        """What is wrong with the chain, a line a fault; ``head``: one that was kept elsewhere."""
        return faults(self._records(), self.head() if head is None else head)

    def _records(self) -> Iterator[dict[str, Any]]:
        for file in self._files():
            for record in read_whole(file).to_dict("records"):
                yield {str(name): value for name, value in record.items()}

    def _files(self) -> list[Path]:
        return sorted(file for file in self._filepath.glob("*.parquet") if not file.name.startswith("."))

    def _caught_up(self) -> Head:
        """The head, moved on over records that a run wrote before it was killed."""
        head = self.head()
        beyond = [file for file in self._files() if int(file.stem.partition("-")[2]) > head.sequence]
        if not beyond and (
            head.sequence == 0 or any(int(f.stem.partition("-")[2]) == head.sequence for f in self._files())
        ):
            return head
        broken = self.verify(head)
        if broken:
            raise BrokenChainError(
                f"the audit in {self._filepath} was changed: {broken[0]}"
                f"{f' and {len(broken) - 1} more faults' if len(broken) > 1 else ''}: kedro wind verify"
            )
        last = read_whole(self._files()[-1]).iloc[-1]
        return Head(int(last["sequence"]), str(last["sha256"]))

    def _standing(self, records: pd.DataFrame) -> dict[tuple[Any, ...], int]:
        """By subject the number of the newest record, of the issue times that come again."""
        first = records["issued_at"].min()
        standing: dict[tuple[Any, ...], int] = {}
        for file in self._files():
            known = read_whole(file, columns=[*SUBJECT, "sequence"], filters=[("issued_at", ">=", first)])
            for *subject, sequence in known.itertuples(index=False, name=None):
                standing[tuple(subject)] = int(sequence)
        return standing

    def _keep(self, head: Head) -> None:
        with aside(self._head) as file:
            file.write_text(json.dumps({"sequence": head.sequence, "sha256": head.sha256}) + "\n", encoding="utf-8")

    def _exists(self) -> bool:
        return bool(self._files())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "head": str(self._head)}
