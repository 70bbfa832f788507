"""Training: candidates are backtested, judged by the gate, fitted and promoted. The README draws its nodes and tables."""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.training.accuracy import compare_accuracy
from wind_kedro.pipelines.training.decisions import choose, judge_challengers
from wind_kedro.pipelines.training.kit import assemble_training_kit
from wind_kedro.pipelines.training.nodes import (
    admit_candidates,
    assemble_model_input,
    backtest_candidates,
    calibrate_backtest,
    score_backtest,
)
from wind_kedro.pipelines.training.promotion import fit_fleet, promote
from wind_kedro.pipelines.training.tracking import draw_decisions, summarise_training

#: What the fit is made from; the training kit keeps all of it but the models of earlier trainings.
_FIT = [
    "model_input",
    "choices",
    "promotions_before",
    "model_versions_before",
    "params:fleet",
    "params:clock",
    "params:training",
    "params:workers",
]


def create_pipeline() -> Pipeline:
    """Readiness, features and observations in; backtest, scores, a registered model and its promotion out. A namespace a step."""
    return Pipeline(
        [
            Node(
                admit_candidates,
                inputs=["readiness", "promotions_before", "params:fleet", "params:clock", "params:training"],
                outputs="admissions",
                name="admit_candidates",
                namespace="backtest",
            ),
            Node(
                assemble_model_input,
                inputs=["features", "observations", "admissions", "overrides", "params:fleet", "params:clock"],
                outputs="model_input",
                name="assemble_model_input",
                namespace="backtest",
            ),
            Node(
                backtest_candidates,
                inputs=[
                    "model_input",
                    "admissions",
                    "params:fleet",
                    "params:clock",
                    "params:training",
                    "params:workers",
                ],
                outputs=["backtest_model_forecasts", "backtest_folds", "backtest_failures"],
                name="backtest_candidates",
                namespace="backtest",
            ),
            Node(
                calibrate_backtest,
                inputs=[
                    "backtest_model_forecasts",
                    "observations",
                    "params:fleet",
                    "params:clock",
                    "params:calibration",
                ],
                outputs=["backtest_forecasts", "backtest_calibration_failures"],
                name="calibrate_backtest",
                namespace="backtest",
            ),
            Node(
                score_backtest,
                inputs=["backtest_forecasts", "observations", "params:fleet", "params:clock", "params:scoring"],
                outputs="backtest_scores",
                name="score_backtest",
                namespace="backtest",
            ),
            Node(
                judge_challengers,
                inputs=[
                    "backtest_forecasts",
                    "backtest_folds",
                    "model_input",
                    "observations",
                    "promotions_before",
                    "shadow_forecasts_before",
                    "params:fleet",
                    "params:clock",
                    "params:training",
                    "params:scoring",
                ],
                outputs="judgements",
                name="judge_challengers",
                namespace="gate",
            ),
            Node(
                choose,
                inputs=[
                    "judgements",
                    "backtest_scores",
                    "model_input",
                    "admissions",
                    "promotions_before",
                    "overrides",
                    "params:fleet",
                    "params:clock",
                ],
                outputs=["choices", "decisions"],
                name="choose",
                namespace="gate",
            ),
            Node(
                assemble_training_kit,
                inputs={
                    "raw_manifest": "raw_manifest",
                    "provenance": "params:provenance",
                    **{name.removeprefix("params:"): name for name in _FIT if name != "model_versions_before"},
                },
                outputs="training_kit",
                name="assemble_training_kit",
                namespace="promotion",
            ),
            Node(
                fit_fleet,
                inputs=_FIT,
                outputs=["model_versions", "fit_failures"],
                name="fit_fleet",
                namespace="promotion",
            ),
            Node(
                promote,
                inputs=["model_versions", "choices", "promotions_before", "params:fleet", "params:clock"],
                outputs=["promotions", "champion"],
                name="promote",
                namespace="promotion",
            ),
            Node(
                summarise_training,
                inputs=["backtest_scores", "decisions"],
                outputs="training_metrics",
                name="summarise_training",
                namespace="gate",
            ),
            Node(
                compare_accuracy,
                inputs=[
                    "model_input",
                    "features",
                    "backtest_model_forecasts",
                    "backtest_folds",
                    "choices",
                    "observations",
                    "params:fleet",
                    "params:clock",
                    "params:training",
                    "params:scoring",
                    "params:workers",
                ],
                outputs=["accuracy", "accuracy_failures"],
                name="compare_accuracy",
                namespace="gate",
            ),
            Node(draw_decisions, inputs="decisions", outputs="decisions_figure", name="draw_decisions", namespace="gate"),
        ],
        tags="training",
    )
