"""Forecasting: at every issue time the champion promoted by then issues the forecast, with its attributions and audit records.

Each node but record_issues also writes its failures (<stage>_failures): issues not made, fallbacks used, models that failed.
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.forecasting.attributions import explain_forecasts
from wind_kedro.pipelines.forecasting.audit_records import record_issues
from wind_kedro.pipelines.forecasting.nodes import calibrate_forecasts, issue_forecasts
from wind_kedro.pipelines.forecasting.shadows import issue_shadows


def create_pipeline() -> Pipeline:
    """Features, registered models and promotions in; issued forecasts and what moved them out."""
    return Pipeline(
        [
            Node(
                issue_forecasts,
                inputs=["features", "observations", "model_versions", "promotions", "params:fleet", "params:clock"],
                outputs=["model_forecasts", "forecasting_failures"],
                name="issue_forecasts",
            ),
            Node(
                calibrate_forecasts,
                inputs=[
                    "model_forecasts",
                    "backtest_model_forecasts",
                    "observations",
                    "forecasting_failures",
                    "params:fleet",
                    "params:clock",
                    "params:calibration",
                ],
                outputs=["forecasts", "calibration_failures"],
                name="calibrate_forecasts",
            ),
            Node(
                issue_shadows,
                inputs=["model_forecasts", "features", "model_versions", "promotions", "params:fleet", "params:clock"],
                outputs=["shadow_forecasts", "shadows_failures"],
                name="issue_shadows",
            ),
            Node(
                explain_forecasts,
                inputs=[
                    "forecasts",
                    "features",
                    "model_versions",
                    "params:fleet",
                    "params:clock",
                    "params:attributions",
                ],
                outputs=["attributions", "attributions_failures"],
                name="explain_forecasts",
            ),
            Node(
                record_issues,
                inputs=[
                    "forecasts",
                    "features",
                    "weather",
                    "promotions",
                    "raw_manifest",
                    "forecasting_failures",
                    "calibration_failures",
                    "params:fleet",
                    "params:clock",
                    "params:provenance",
                ],
                outputs="audit",
                name="record_issues",
            ),
        ],
        tags="forecasting",
    )
