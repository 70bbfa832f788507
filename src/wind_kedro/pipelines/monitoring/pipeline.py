"""Monitoring: issued forecasts are scored and judged, sources checked for their age; problems become incidents and messages."""

from kedro.pipeline import Node, Pipeline

from wind_kedro.failures import STAGES
from wind_kedro.pipelines.monitoring.failures import collect_failures
from wind_kedro.pipelines.monitoring.freshness import check_freshness
from wind_kedro.pipelines.monitoring.nodes import judge_live, raise_incidents, score_issued
from wind_kedro.pipelines.monitoring.outbox import write_outbox


def create_pipeline() -> Pipeline:
    """Issued forecasts and observations in; live scores, judgements, outliers, incidents and messages to send out."""
    return Pipeline(
        [
            Node(
                score_issued,
                inputs=["forecasts", "observations", "params:fleet", "params:clock", "params:scoring"],
                outputs="live_scores",
                name="score_issued",
            ),
            Node(
                judge_live,
                inputs=[
                    "forecasts",
                    "backtest_forecasts",
                    "observations",
                    "features",
                    "params:fleet",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs=["live_judgements", "outliers"],
                name="judge_live",
            ),
            Node(
                check_freshness,
                inputs=[
                    "weather",
                    "signals",
                    "readiness",
                    "landings_before",
                    "params:feeds",
                    "params:fleet",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs="freshness",
                name="check_freshness",
            ),
            Node(
                collect_failures,
                inputs=["failures_before", "params:clock", *(f"{stage}_failures" for stage in STAGES)],
                outputs=["failures", "open_failures"],
                name="collect_failures",
            ),
            Node(
                raise_incidents,
                inputs=[
                    "open_failures",
                    "data_quality",
                    "live_judgements",
                    "readiness",
                    "decisions",
                    "freshness",
                    "forecasts",
                    "backtest_scores",
                    "observations",
                    "params:feeds",
                    "params:fleet",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs="incidents_found",
                name="raise_incidents",
            ),
            Node(
                write_outbox,
                inputs=[
                    "incidents_found",
                    "incidents_before",
                    "outbox_before",
                    "deliveries_before",
                    "params:notification_channels",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs=["incidents", "outbox"],
                name="write_outbox",
            ),
        ],
        tags="monitoring",
    )
