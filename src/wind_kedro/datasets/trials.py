"""Trials of hyperparameter searches in an append-only journal of Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import DatasetError

from wind_kedro.datasets.parts import PathDataset
from wind_kedro.errors import WindKedroError
from wind_kedro.storage import object_store
from wind_kedro.storage.paths import is_in_store


class NoOptunaError(WindKedroError):
    """The extra is not installed."""


class TrialStore(PathDataset):
    """An Optuna storage that writes each trial as a line, or as an object of a store, so that a killed process loses no reported
    trial.
    """

    def load(self) -> Any:
        """The storage, for ``optuna.create_study``."""
        try:
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ModuleNotFoundError as error:
            raise NoOptunaError("tuning needs Optuna: pip install 'wind-kedro[tune]'") from error
        if is_in_store(self._filepath):
            return JournalStorage(_ObjectJournal(self._filepath))  # type: ignore[arg-type]  # it has the two methods that are used
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(self._filepath)))

    def save(self, data: Any) -> NoReturn:
        """Trials write themselves."""
        raise DatasetError("trials are written by their search, one by one")

    def _exists(self) -> bool:
        # An empty one is made when it is read.
        return True


class _ObjectJournal:
    """A journal backend of Optuna: each append is an object, named by the number of its first entry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[int, list[dict[str, Any]]] = {}  # objects never change

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries from a number on."""
        self._look()
        for first, entries in sorted(self._known.items()):
            yield from entries[max(log_number_from - first, 0) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries after the last, whatever other processes add."""
        content = json.dumps(logs).encode()
        while True:
            self._look()
            end = max((first + len(entries) for first, entries in self._known.items()), default=0)
            try:
                object_store.create(self._folder / f"{end:012d}.json", content)
            except FileExistsError:
                continue
            self._known[end] = logs
            return

    def _look(self) -> None:
        try:
            files = list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):  # before the first append
            return
        for file in files:
            if file.stem.isdigit() and int(file.stem) not in self._known:
                self._known[int(file.stem)] = json.loads(object_store.read(file))
