"""Pipeline that searches settings of candidates on data before the backtest; trials are kept, so that a search resumes."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.tuning.nodes import name_best, search_settings


def create_pipeline() -> Pipeline:
    """Model input and stored trials in; trials and the best settings out."""
    searched = "model_input trial_store params:tuning params:training params:fleet params:clock params:workers"
    return Pipeline(
        [step(search_settings, searched, "trials"), step(name_best, "trials params:training", "tuned_settings tuning_metrics")],
        tags="tuning",
    )
