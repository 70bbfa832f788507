"""Training: candidates are backtested, judged by the gate, fitted and promoted. The README draws its nodes and tables."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.training.accuracy import compare_accuracy, note_accuracy
from wind_kedro.pipelines.training.backtest import backtest_candidates, note_folds
from wind_kedro.pipelines.training.calibrating import calibrate_backtest, note_uncalibrated
from wind_kedro.pipelines.training.decisions import choose, judge_challengers
from wind_kedro.pipelines.training.kit import assemble_training_kit
from wind_kedro.pipelines.training.nodes import (
    admit_candidates,
    assemble_model_input,
    score_backtest,
)
from wind_kedro.pipelines.training.promotion import fit_fleet, promote
from wind_kedro.pipelines.training.tracking import draw_decisions, summarise_training
from wind_kedro.pipelines.training.turns import take_turns


def create_pipeline() -> Pipeline:
    """Readiness, features and observations in; backtest, scores, a registered model and its promotion out. A namespace a step."""
    cards = "params:fleet params:clock"
    # What the fit is made from; the training kit keeps all of it but the models of earlier trainings.
    fit = f"model_input choices promotions_before model_versions_before {cards} params:training params:workers"
    kept = ["raw_manifest", "params:provenance", *(name for name in fit.split() if name != "model_versions_before")]
    return Pipeline(
        [
            step(admit_candidates, f"readiness promotions_before {cards} params:training", "admissions", "backtest"),
            step(
                take_turns,
                f"admissions promotions_before model_versions_before overrides {cards} params:training",
                "turns",
                "backtest",
            ),
            step(assemble_model_input, f"features observations admissions overrides {cards}", "model_input", "backtest"),
            step(
                backtest_candidates,
                f"model_input admissions {cards} params:training params:workers turns backtest_model_forecasts_before",
                "backtest_model_forecasts",
                "backtest",
            ),
            step(
                note_folds,
                f"backtest_model_forecasts model_input {cards} params:training",
                "backtest_folds backtest_failures",
                "backtest",
            ),
            step(
                calibrate_backtest,
                f"backtest_model_forecasts observations {cards} params:calibration",
                "backtest_forecasts",
                "backtest",
            ),
            step(note_uncalibrated, "backtest_forecasts params:clock", "backtest_calibration_failures", "backtest"),
            step(
                score_backtest,
                f"backtest_forecasts observations {cards} params:scoring",
                "backtest_scores backtest_scoring_failures",
                "backtest",
            ),
            step(
                judge_challengers,
                "backtest_forecasts backtest_folds model_input observations promotions_before shadow_forecasts_before "
                f"{cards} params:training params:scoring turns",
                "judgements gate_failures",
                "gate",
            ),
            step(
                choose,
                f"judgements backtest_scores model_input admissions promotions_before overrides {cards} turns",
                "choices decisions choice_failures",
                "gate",
            ),
            step(assemble_training_kit, {name.removeprefix("params:"): name for name in kept}, "training_kit", "promotion"),
            step(fit_fleet, fit, "model_versions fit_failures", "promotion"),
            step(promote, f"model_versions choices promotions_before {cards}", "promotions champion", "promotion"),
            step(summarise_training, "backtest_scores decisions accuracy", "training_metrics", "gate"),
            step(
                compare_accuracy,
                "model_input features backtest_model_forecasts backtest_folds choices observations "
                f"{cards} params:training params:scoring params:workers turns accuracy_before",
                "accuracy",
                "gate",
            ),
            step(note_accuracy, "accuracy params:clock", "accuracy_failures", "gate"),
            step(draw_decisions, "decisions", "decisions_figure", "gate"),
        ],
        tags="training",
    )
