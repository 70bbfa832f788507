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
from wind_kedro.pipelines.training.backtest import KEY, backtest_candidates, note_folds
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.storage.fingerprints import Recipe


class Backtests:
    """The table of backtest forecasts in a folder.

    Attributes:
        computed: folds that the last run computed: product, entity, candidate, and the day on which it begins.
    """

    def __init__(self, folder: Path) -> None:
        self.table = DerivedTable(
            filepath=str(folder / "backtest_model_forecasts"),
            key=KEY,
            time="fold_begin",
            contract="wind_kedro.contracts.forecasts.BacktestModelForecasts",
            order=[*KEY, "issued_at", "valid_at"],
        )
        self.computed: set[tuple[str, str, str, str]] = set()

    def run(
        self, table: pd.DataFrame, admissions: pd.DataFrame, fleet: Fleet, clock: Clock, training: Training, workers: Workers
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Forecasts in the order of the table, folds, and failures."""
        recipe = backtest_candidates(table, admissions, fleet, clock, training, workers)
        self.computed = set()

        def counting(part: pd.DataFrame) -> Any:
            self.computed |= set(part[[*KEY, "day"]].astype("str").itertuples(index=False, name=None))
            return recipe.work(part)

        self.table.save(Recipe(recipe.wanted, counting, recipe.faults))
        stored = self.table.load()
        return (stored.frame().drop(columns="fold_begin"), *note_folds(stored, table, fleet, clock, training))


def backtest(*given: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All folds, into an empty folder."""
    with TemporaryDirectory() as folder:
        return Backtests(Path(folder)).run(*given)
