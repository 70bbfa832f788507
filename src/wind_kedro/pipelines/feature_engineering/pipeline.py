r"""As-of features, the same for training, backtest and live.

observations ──┬── sum_outcomes ── feature_fit_sums ── fit_points ── feature_fits
weather ───────┤                                                         │
               └──────────────────────────────────────── build_features ─┴── features ── note_features_failures
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.feature_engineering.fits import fit_points, sum_outcomes
from wind_kedro.pipelines.feature_engineering.nodes import build_features, note_features_failures


def create_pipeline() -> Pipeline:
    """Observations and weather in, one row per product, entity, issue time and interval out."""
    cards = "params:fleet params:clock"
    read, settings = "observations weather", f"{cards} params:features params:workers"
    return Pipeline(
        [
            step(sum_outcomes, f"{read} {settings}", "feature_fit_sums"),
            step(fit_points, f"feature_fit_sums {cards} params:features", "feature_fits"),
            step(build_features, f"{read} feature_fits {settings}", "features"),
            step(note_features_failures, f"features feature_fit_sums {cards}", "features_failures"),
        ],
        tags="feature_engineering",
    )
