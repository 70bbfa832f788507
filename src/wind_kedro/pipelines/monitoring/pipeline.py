"""Monitoring: issued forecasts are scored and judged, sources checked for their age; problems become incidents and messages."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.failures import STAGES
from wind_kedro.pipelines import step
from wind_kedro.pipelines.monitoring.failures import collect_failures
from wind_kedro.pipelines.monitoring.freshness import check_freshness
from wind_kedro.pipelines.monitoring.live_scores import note_unscored, score_issued, sum_losses
from wind_kedro.pipelines.monitoring.nodes import judge_live, raise_incidents
from wind_kedro.pipelines.monitoring.outbox import write_outbox


def create_pipeline() -> Pipeline:
    """Issued forecasts and observations in; live scores, judgements, outliers, incidents and messages to send out."""
    cards = "params:fleet params:clock"
    # Notification delivers what this pipeline writes, so its failures are those of its run before.
    stages = " ".join([*(f"{stage}_failures" for stage in STAGES), "notification_failures_before"])
    return Pipeline(
        [
            step(sum_losses, f"forecasts observations due_issues issues_made {cards} params:scoring", "live_score_sums"),
            step(score_issued, "live_score_sums params:fleet", "live_scores"),
            step(note_unscored, "live_score_sums params:clock", "live_scoring_failures"),
            step(
                judge_live,
                f"forecasts backtest_forecasts observations features {cards} params:monitoring",
                "live_judgements outliers",
            ),
            step(
                check_freshness,
                f"weather weather_runs signals readiness landings_before params:feeds {cards} params:monitoring",
                "freshness",
            ),
            step(collect_failures, f"failures_before params:clock {stages}", "failures open_failures"),
            step(
                raise_incidents,
                "open_failures data_quality live_judgements readiness decisions freshness forecasts backtest_scores observations "
                f"params:feeds {cards} params:monitoring",
                "incidents_found",
            ),
            step(
                write_outbox,
                "incidents_found incidents_before outbox_before deliveries_before params:notification_channels params:clock "
                "params:monitoring",
                "incidents outbox",
            ),
        ],
        tags="monitoring",
    )
