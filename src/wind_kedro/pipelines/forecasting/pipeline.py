r"""Forecasting: at every issue time, the champion that was promoted by then speaks, and says what moved it.

features ───────┬──────────────────────────────┐
model_versions ─┼── issue_forecasts ─ forecasts ─┴─ explain_forecasts ─ drivers
promotions ─────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.forecasting.explaining import explain_forecasts
from wind_kedro.pipelines.forecasting.nodes import issue_forecasts


def create_pipeline() -> Pipeline:
    """Features, registered models and promotions in; issued forecasts and what moved them out."""
    return Pipeline(
        [
            Node(
                issue_forecasts,
                inputs=["features", "model_versions", "promotions", "params:fleet", "params:clock"],
                outputs="forecasts",
                name="issue_forecasts",
            ),
            Node(
                explain_forecasts,
                inputs=["forecasts", "features", "model_versions", "params:fleet", "params:clock", "params:drivers"],
                outputs="drivers",
                name="explain_forecasts",
            ),
        ],
        tags="forecasting",
    )
