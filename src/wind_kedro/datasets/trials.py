"""Trials of hyperparameter searches in an append-only file of Optuna."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io.core import DatasetError

from wind_kedro.datasets.parts import LocalDataset
from wind_kedro.errors import WindKedroError


class NoOptunaError(WindKedroError):
    """The extra is not installed."""


class TrialStore(LocalDataset):
    """An Optuna storage that writes each trial as a line, so that a killed process loses no reported trial."""

    def load(self) -> Any:
        """The storage, for ``optuna.create_study``."""
        try:
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ModuleNotFoundError as error:
            raise NoOptunaError("tuning needs Optuna: pip install 'wind-kedro[tune]'") from error
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(self._filepath)))

    def save(self, data: Any) -> NoReturn:
        """Trials write themselves."""
        raise DatasetError("trials are written by their search, one by one")

    def _exists(self) -> bool:
        # An empty one is made when it is read.
        return True
