"""The backtest as the pipeline computes it: into a stored table, fold by fold."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.datasets import DerivedTable
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.training.backtest import KEY, backtest_candidates, note_folds
from wind_kedro.pipelines.training.calibrating import calibrate_backtest, note_uncalibrated
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.postprocessing.settings import Calibration
from wind_kedro.storage.fingerprints import Recipe

#: Of the catalog, what both tables of the backtest have.
BACKTEST = {"key": KEY, "time": "fold_begin", "order": [*KEY, "issued_at", "valid_at"]}
CONTRACT = "wind_kedro.contracts.forecasts.BacktestForecasts"


class _Folds:
    """A table of the backtest in a folder.

    Attributes:
        computed: folds that the last run computed: product, entity, candidate, and the day on which it begins.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.table = DerivedTable(filepath=str(folder / self.name), contract=CONTRACT, **BACKTEST)
        self.computed: set[tuple[str, str, str, str]] = set()

    def stored(self, recipe: Recipe) -> Derived:
        """The table as saving a recipe leaves it."""
        self.computed = set()

        def counting(part: pd.DataFrame) -> Any:
            self.computed |= set(part[[*KEY, "day"]].astype("str").itertuples(index=False, name=None))
            return recipe.work(part)

        self.table.save(Recipe(recipe.wanted, counting, recipe.faults))
        return self.table.load()


class Backtests(_Folds):
    """The table of backtest forecasts."""

    name = "backtest_model_forecasts"

    def run(
        self, table: pd.DataFrame, admissions: pd.DataFrame, fleet: Fleet, clock: Clock, training: Training, workers: Workers
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Forecasts in the order of the table, folds, and failures."""
        stored = self.stored(backtest_candidates(table, admissions, fleet, clock, training, workers))
        return (stored.frame().drop(columns="fold_begin"), *note_folds(stored, table, fleet, clock, training))


def backtest(*given: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All folds, into an empty folder."""
    with TemporaryDirectory() as folder:
        return Backtests(Path(folder)).run(*given)


class Calibrations(_Folds):
    """The table of backtest forecasts as they would have been issued."""

    name = "backtest_forecasts"

    def run(
        self, backtested: Derived, observations: pd.DataFrame, fleet: Fleet, clock: Clock, calibration: Calibration
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Forecasts in the order of the table, and failures."""
        stored = self.stored(calibrate_backtest(backtested, observations, fleet, clock, calibration))
        return stored.frame().drop(columns="fold_begin"), note_uncalibrated(stored, clock)
