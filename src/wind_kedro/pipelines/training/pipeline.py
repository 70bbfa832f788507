r"""Training: what would each candidate have forecast, and which one goes live?

readiness ─── admit_candidates ── admissions, which the next two and choose take

features ─────┐
              ├─ assemble_model_input ─ model_input ─┬─ replay_candidates ─ replay_model_forecasts
observations ─┘                                      │                               │
      ├──────────────────────────────────────────────│──────────────── calibrate_replay ─ replay_forecasts
      └──────────────────────────────────────────────│──────────────────── score_replay ─────────┘
                                                     │                           │
                                                     │   promotions_before ── choose ─ choices
                                                     └─────────────────────────────┴─ fit_fleet ─ model_versions
                                                                                                        │
                                           promotions, champion ─── promote ────────────────────────────┘
"""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.training.nodes import (
    admit_candidates,
    assemble_model_input,
    calibrate_replay,
    choose,
    replay_candidates,
    score_replay,
    summarise_training,
)
from wind_kedro.pipelines.training.promoting import fit_fleet, promote


def create_pipeline() -> Pipeline:
    """Readiness, features and observations in; replay, scores, a registered model and its promotion out."""
    return Pipeline(
        [
            Node(
                admit_candidates,
                inputs=["readiness", "params:fleet", "params:clock", "params:training"],
                outputs="admissions",
                name="admit_candidates",
            ),
            Node(
                assemble_model_input,
                inputs=["features", "observations", "admissions", "params:fleet", "params:clock"],
                outputs="model_input",
                name="assemble_model_input",
            ),
            Node(
                replay_candidates,
                inputs=[
                    "model_input",
                    "admissions",
                    "params:fleet",
                    "params:clock",
                    "params:training",
                    "params:workers",
                ],
                outputs="replay_model_forecasts",
                name="replay_candidates",
            ),
            Node(
                calibrate_replay,
                inputs=["replay_model_forecasts", "observations", "params:fleet", "params:calibration"],
                outputs="replay_forecasts",
                name="calibrate_replay",
            ),
            Node(
                score_replay,
                inputs=["replay_forecasts", "observations", "params:fleet", "params:clock", "params:scoring"],
                outputs="replay_scores",
                name="score_replay",
            ),
            Node(
                choose,
                inputs=[
                    "replay_scores",
                    "model_input",
                    "admissions",
                    "promotions_before",
                    "params:fleet",
                    "params:clock",
                ],
                outputs="choices",
                name="choose",
            ),
            Node(
                fit_fleet,
                inputs=[
                    "model_input",
                    "choices",
                    "promotions_before",
                    "model_versions_before",
                    "params:fleet",
                    "params:clock",
                    "params:training",
                    "params:workers",
                ],
                outputs="model_versions",
                name="fit_fleet",
            ),
            Node(
                promote,
                inputs=["model_versions", "choices", "promotions_before", "params:fleet", "params:clock"],
                outputs=["promotions", "champion"],
                name="promote",
            ),
            Node(summarise_training, inputs="replay_scores", outputs="training_metrics", name="summarise_training"),
        ],
        tags="training",
    )
