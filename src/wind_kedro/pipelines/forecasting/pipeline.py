"""Forecasting: at every issue time the champion promoted by then issues the forecast, with its attributions and audit records.

An issue that was already made from the same features, promotions, cards and settings is not made again.
At a deadline (parameter ``forecasting.at_deadline``) models forecast nothing: `send_forecasts` issues from what is stored.

Each node but record_issues also writes its failures (<stage>_failures): issues not made, fallbacks used, models that failed.
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.forecasting.attributions import explain_forecasts
from wind_kedro.pipelines.forecasting.audit_records import record_issues
from wind_kedro.pipelines.forecasting.deadlines import select_model_issues, send_forecasts
from wind_kedro.pipelines.forecasting.due import find_due_issues, note_issues_made
from wind_kedro.pipelines.forecasting.nodes import calibrate_forecasts, issue_forecasts
from wind_kedro.pipelines.forecasting.shadows import issue_shadows


def create_pipeline() -> Pipeline:
    """Features, registered models and promotions in; issued forecasts and what moved them out."""
    cards = "params:fleet due_clock"
    modelled = "params:fleet model_clock"
    models = f"model_versions promotions {modelled}"
    stages = "forecasting_failures calibration_failures shadows_failures attributions_failures"
    return Pipeline(
        [
            step(
                find_due_issues,
                "features promotions forecasts_before due_issues_before issues_made_before params:fleet params:clock "
                "params:calibration params:attributions params:forecasting",
                "due_issues due_clock",
            ),
            step(select_model_issues, "due_clock params:fleet params:forecasting", "model_clock"),
            step(
                issue_forecasts,
                f"features observations {models} params:forecasting",
                "model_forecasts forecasting_failures",
            ),
            step(
                calibrate_forecasts,
                "model_forecasts backtest_model_forecasts forecasts_before observations portfolio_sums_before "
                f"forecasting_failures {modelled} params:calibration",
                "calibrated_forecasts portfolio_sums calibration_failures",
            ),
            step(
                send_forecasts,
                "calibrated_forecasts deadline_forecasts_before deadline_failures_before forecasts_before features observations "
                f"model_versions promotions {cards} params:calibration params:forecasting",
                "forecasts deadline_forecasts deadline_failures",
            ),
            step(issue_shadows, f"model_forecasts features {models} params:forecasting", "shadow_forecasts shadows_failures"),
            step(
                explain_forecasts,
                f"forecasts features model_versions {modelled} params:attributions",
                "attributions attributions_failures",
            ),
            step(
                record_issues,
                "forecasts features weather_runs promotions raw_manifest forecasting_failures calibration_failures "
                f"{cards} params:provenance",
                "audit",
            ),
            step(note_issues_made, f"due_issues {modelled} {stages}", "issues_made"),
        ],
        tags="forecasting",
    )
