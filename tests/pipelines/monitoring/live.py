"""Scores of what was issued, as the pipeline computes them: into stored tables, day by day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from stored import store
from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets import DerivedTable
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.pipelines.monitoring.live_scores import KEY, note_unscored, score_issued, sum_losses
from wind_kedro.storage.fingerprints import Recipe

OBSERVATIONS = {
    "key": ["entity_id"],
    "time": "valid_at",
    "statistics": "wind_kedro.pipelines.data_engineering.assessment.statistics.of_observations",
}


def issues_of(forecasts: pd.DataFrame, fingerprint: str = "0f") -> pd.DataFrame:
    """The issues of forecasts, as forecasting notes them."""
    return forecasts[["product_id", "issued_at"]].drop_duplicates(ignore_index=True).assign(fingerprint=fingerprint)


class LiveScored:
    """The tables of scores in a folder.

    Attributes:
        computed: shards that the last run computed, by table: entity and day.
    """

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.folder, self.fleet = folder, fleet
        options = {"live_score_sums": {"time": "issued_on"}, "live_scores": {"time": "scored_on"}}
        options["live_scores"] |= {"contract": "wind_kedro.contracts.forecasts.LiveScores"}
        self.tables: dict[str, DerivedTable] = {
            name: DerivedTable(filepath=str(folder / name), key=KEY, **given) for name, given in options.items()
        }
        self.computed: dict[str, set[tuple[str, str]]] = {}

    def run(
        self,
        forecasts: pd.DataFrame,
        observations: pd.DataFrame,
        clock: Clock,
        scoring: Scoring,
        due: pd.DataFrame | None = None,
        made: pd.DataFrame | None = None,
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores, ordered, and failures; without ``due`` and ``made`` all issues were made once."""
        issues = issues_of(forecasts)
        known = (issues if due is None else due, issues if made is None else made)
        observed = store(self.folder / "observations", OBSERVATIONS, observations)
        self._save("live_score_sums", sum_losses(forecasts, observed, *known, self.fleet, clock, scoring))
        sums = self.tables["live_score_sums"].load()
        self._save("live_scores", score_issued(sums, self.fleet))
        scores = self.tables["live_scores"].load().frame()
        order = [*KEY, "model", "period", "metric", "level", "lead_from_minutes", "lead_to_minutes"]
        return scores.sort_values(order, ignore_index=True), note_unscored(sums, clock)

    def _save(self, name: str, recipe: Recipe) -> None:
        computed = self.computed[name] = set()

        def counting(part: pd.DataFrame) -> Any:
            computed.update(part[["entity_id", "day"]].astype("str").itertuples(index=False, name=None))
            return recipe.work(part)

        self.tables[name].save(Recipe(recipe.wanted, counting, recipe.faults))
