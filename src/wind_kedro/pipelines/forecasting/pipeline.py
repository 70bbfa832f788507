r"""Forecasting: at every issue time, the champion that was promoted by then speaks.

features ───────┐
model_versions ─┼── issue_forecasts ── forecasts
promotions ─────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.forecasting.nodes import issue_forecasts


def create_pipeline() -> Pipeline:
    """Features, registered models and promotions in, issued forecasts out."""
    return Pipeline(
        [
            Node(
                issue_forecasts,
                inputs=["features", "model_versions", "promotions", "params:fleet", "params:clock"],
                outputs="forecasts",
                name="issue_forecasts",
            ),
        ],
        tags="forecasting",
    )
