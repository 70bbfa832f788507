r"""As-of features, the same for training, backtest and live.

observations ──┐
               ├── build_features ── features, features_failures
weather ───────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.feature_engineering.nodes import build_features


def create_pipeline() -> Pipeline:
    """Observations and weather in, one row per product, entity, issue time and interval out."""
    return Pipeline(
        [
            Node(
                build_features,
                inputs=["observations", "weather", "params:fleet", "params:clock", "params:features", "params:workers"],
                outputs=["features", "features_failures"],
                name="build_features",
            ),
        ],
        tags="feature_engineering",
    )
