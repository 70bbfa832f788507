"""Logs: entries with a number, each written once, never changed; of two that want the same number, one is told to look again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wind_kedro.datasets.history import empty_table
from wind_kedro.datasets.parts import PassesOver, why_unreadable
from wind_kedro.datasets.written_aside import read_whole
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.paths import local_path
from wind_kedro.storage.temporary import neighbour_of


class LostRaceError(WindKedroError):
    """Another entry took the number meanwhile; nothing was written."""


class Log(PassesOver, AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """An append-only table: one Parquet file an entry, named by its number.

    Whoever writes has read the log, and numbers the entry one more than the newest that was there. The file is written aside
    and linked to its name, which the file system does for one only and in one step. So writing is a compare-and-swap: it
    succeeds only if nothing was added since, and a process that is killed leaves the whole entry or none.

    Example of a catalog entry::

        promotions:
          type: wind_kedro.datasets.Log
          filepath: data/06_models/promotions
          number: promotion
          contract: wind_kedro.contracts.Promotions
    """

    def __init__(
        self,
        *,
        filepath: str,
        number: str,
        contract: str,
        read_only: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Say where the log is.

        Args:
            filepath: its folder.
            number: the column that holds the number of the entry, from 1.
            contract: import path of the Pandera model, for the columns of an empty log.
            read_only: whether saving is refused: for a second catalog entry on the same log, which reads what earlier runs left.
            metadata: ignored by Kedro, read by Kedro-Viz.
        """
        self._filepath = local_path(filepath, "filepath")
        self._number = number
        self._contract = contract
        self._read_only = read_only
        self.metadata = metadata

    def writable(self) -> Log:
        """The same log, to add to: pipelines only read what people write."""
        return Log(filepath=str(self._filepath), number=self._number, contract=self._contract)

    def load(self) -> pd.DataFrame:
        """All entries, in order."""
        self._begin()
        parts = []
        for number in self._numbers():
            try:
                parts.append(read_whole(self._file(number)))
            except Exception as error:  # whatever a parser raises on whatever bytes
                self._pass_over(self._file(number), why_unreadable(error))
        if not parts:
            return empty_table(self._contract)
        return pd.concat(parts, ignore_index=True)

    def save(self, data: pd.DataFrame) -> None:
        """Add ``data``, all of one number, as the next entry.

        Raises:
            LostRaceError: if its number was taken since the log was read.
            DatasetError: if it has several numbers, or one that is not the next.
        """
        if self._read_only:
            raise DatasetError(f"{self._filepath} is read here, not written: it is a view of what earlier runs left")
        given = data[self._number].unique()
        if len(given) != 1:
            raise DatasetError(f"{self._filepath}: an entry has one {self._number}, not {list(given)}")
        number = int(given[0])
        newest = max(self._numbers(), default=0)
        if number > newest + 1:
            raise DatasetError(f"{self._filepath}: {self._number} {number} does not follow {newest}")
        self._filepath.mkdir(parents=True, exist_ok=True)
        neighbour = neighbour_of(self._file(number))
        try:
            data.to_parquet(neighbour, index=False)
            with neighbour.open("rb") as file:
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces: the second one fails.
            os.link(neighbour, self._file(number))
        except FileExistsError:
            raise LostRaceError(
                f"{self._number} {number} of {self._filepath} was written meanwhile by another run: nothing was added here; "
                f"look, and start again"
            ) from None
        finally:
            neighbour.unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        files = self._filepath.glob("*.parquet") if self._filepath.is_dir() else []
        return sorted(int(file.stem) for file in files if file.stem.isdigit())

    def _file(self, number: int) -> Path:
        return self._filepath / f"{number:06d}.parquet"

    def _exists(self) -> bool:
        return self._read_only or bool(self._numbers())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "number": self._number}
