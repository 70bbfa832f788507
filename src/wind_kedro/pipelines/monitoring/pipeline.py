r"""Monitoring: did what was issued come true, and does anybody need to act?

forecasts ─────┐
               ├─ score_issued ─ live_scores ─┐
observations ──┘                              ├─ raise_incidents ─ incidents
replay_scores ────────────────────────────────┤
data_quality, readiness ──────────────────────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.monitoring.nodes import raise_incidents, score_issued


def create_pipeline() -> Pipeline:
    """Issued forecasts and observations in; live scores and incidents out."""
    return Pipeline(
        [
            Node(
                score_issued,
                inputs=["forecasts", "observations", "params:fleet", "params:clock", "params:scoring"],
                outputs="live_scores",
                name="score_issued",
            ),
            Node(
                raise_incidents,
                inputs=[
                    "data_quality",
                    "live_scores",
                    "replay_scores",
                    "readiness",
                    "params:fleet",
                    "params:clock",
                    "params:monitoring",
                ],
                outputs="incidents",
                name="raise_incidents",
            ),
        ],
        tags="monitoring",
    )
