r"""As-of features, the same for training, backtest and live.

observations ──┐
               ├── build_features ── features, features_failures
weather ───────┘
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.feature_engineering.nodes import build_features


def create_pipeline() -> Pipeline:
    """Observations and weather in, one row per product, entity, issue time and interval out."""
    inputs = "observations weather params:fleet params:clock params:features params:workers"
    return Pipeline([step(build_features, inputs, "features features_failures")], tags="feature_engineering")
