r"""Monitoring: did what was issued come true, and does anybody need to act?

forecasts, observations, ──┬─ score_issued ── live_scores
replay_forecasts, features ├─ find_outliers ─ outliers
                           └─ judge_live ──── live_judgements ─┐
data_quality, readiness, decisions ────────────────────────────┴─ raise_incidents ─ incidents_found ─┐
alarm_channels, alarms_before ───────────────────────────────────────────────────────────────────────┴─ send_alarms
                                                                               incidents, alarms ──────────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.monitoring.nodes import raise_incidents, score_issued, send_alarms
from wind_kedro.pipelines.monitoring.outliers import find_outliers
from wind_kedro.pipelines.monitoring.regimes import judge_live

_IN_ITS_WEATHER = [
    "forecasts", "replay_forecasts", "observations", "features", "params:fleet", "params:clock", "params:monitoring",
]  # fmt: skip


def create_pipeline() -> Pipeline:
    """Issued forecasts and observations in; live scores, judgements, outliers and incidents out, and people told."""
    return Pipeline(
        [
            Node(
                score_issued,
                inputs=["forecasts", "observations", "params:fleet", "params:clock", "params:scoring"],
                outputs="live_scores",
                name="score_issued",
            ),
            Node(judge_live, inputs=_IN_ITS_WEATHER, outputs="live_judgements", name="judge_live"),
            Node(find_outliers, inputs=_IN_ITS_WEATHER, outputs="outliers", name="find_outliers"),
            Node(
                raise_incidents,
                inputs=[
                    "data_quality",
                    "live_judgements",
                    "readiness",
                    "decisions",
                    "params:fleet",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs="incidents_found",
                name="raise_incidents",
            ),
            Node(
                send_alarms,
                inputs=["incidents_found", "alarms_before", "alarm_channels", "params:clock", "params:monitoring"],
                outputs=["incidents", "alarms"],
                name="send_alarms",
            ),
        ],
        tags="monitoring",
    )
