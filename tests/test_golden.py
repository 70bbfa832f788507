"""The output of every step that computes shards, and its version: a change of the one is a change of the other.

Stored shards are not computed again because a step's code changed, only because its ``VERSION`` did. So the tables of the test
environment are kept here as sums (`golden.json`). If a change is meant, raise the version named below, and write the sums anew
from a project in which ``kedro run --env test`` ran: ``python tests/test_golden.py PROJECT``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.utils import load_obj

from wind_kedro.datasets import read_table
from wind_kedro.models.registry import MODELS, family_of

GOLDEN = Path(__file__).with_name("golden.json")
_ROOM = "wind_kedro.pipelines.data_engineering"
#: The version of the step that makes a table.
STEPS = {
    "parsed_signals": f"{_ROOM}.parse.signals.VERSION",
    "parsed_weather": f"{_ROOM}.weather.recipes.PARSING_VERSION",
    "judged_weather": f"{_ROOM}.weather.recipes.JUDGING_VERSION",
    "weather": f"{_ROOM}.weather.recipes.MAKING_VERSION",
    "weather_runs": f"{_ROOM}.weather.recipes.LISTING_VERSION",
    "turbine_days": f"{_ROOM}.signals.unit_checks.DAYS_VERSION",
    "suspected_units": f"{_ROOM}.signals.unit_checks.VERSION",
    "clock_sums": f"{_ROOM}.timestamps.clock_sums.VERSION",
    "clock_calibration": f"{_ROOM}.timestamps.clock_search.VERSION",
    "signal_counts": f"{_ROOM}.assessment.counts.VERSION",
    "timed_signals": f"{_ROOM}.timestamps.placement.VERSION",
    "cell_counts": f"{_ROOM}.signals.power_curves.VERSION",
    "power_curve": f"{_ROOM}.signals.power_curves.VERSION",
    "signals": f"{_ROOM}.signals.operating_states.VERSION",
    "observations": f"{_ROOM}.signals.aggregation.VERSION",
    "quarantine": f"{_ROOM}.assessment.quarantine.VERSION",
    "readiness": f"{_ROOM}.assessment.readiness.VERSION",
    "weather_fit": f"{_ROOM}.assessment.readiness.VERSION",
    "feature_fit_sums": "wind_kedro.pipelines.feature_engineering.fits.SUMS_VERSION",
    "feature_fits": "wind_kedro.pipelines.feature_engineering.fits.FITS_VERSION",
    "features": "wind_kedro.pipelines.feature_engineering.nodes.FEATURES_VERSION",
    "model_input": "wind_kedro.pipelines.training.nodes.VERSION",
    "backtest_model_forecasts": "wind_kedro.pipelines.training.backtest.VERSION",
    "backtest_forecasts": "wind_kedro.pipelines.training.calibrating.VERSION",
    "accuracy": "wind_kedro.pipelines.training.accuracy.VERSION",
    "live_score_sums": "wind_kedro.pipelines.monitoring.live_scores.SUMS_VERSION",
    "live_scores": "wind_kedro.pipelines.monitoring.live_scores.SCORES_VERSION",
}
#: What follows from fitted models, whose numbers depend a little on the processor; of a family of models, raise its ``version``.
FITTED = {"backtest_model_forecasts", "backtest_forecasts", "accuracy", "live_score_sums", "live_scores"}
#: Of the machine or the day, not of the step.
VOLATILE = {"unit"}


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Number of rows; by column how many values there are, and their sum (of text: of its lengths, of times: in hours)."""
    found: dict[str, Any] = {"rows": len(table)}
    for name in sorted(set(table.columns) - VOLATILE):
        values = table[name].dropna()
        if pd.api.types.is_datetime64_any_dtype(values):
            total = float((values.astype("int64") / 3.6e9).sum())
        elif pd.api.types.is_numeric_dtype(values):
            total = float(values.astype("float64").sum())
        else:
            total = float(values.astype("str").str.len().sum())
        found[name] = [len(values), total]
    return found


def outputs(project: Path) -> dict[str, dict[str, Any]]:
    """The summary of every derived table of a project in which the test environment ran."""
    folders = {path.parent.name: path.parent for path in (project / "data/test").glob("0*/*/days")}
    return {name: summary(read_table(folders[name])) for name in sorted(folders)}


def versions() -> dict[str, int]:
    """The version of each step; of fitted models with those of all families."""
    families = sum(family_of(name).version for name in MODELS)
    return {name: int(load_obj(path)) + families * (name in FITTED) for name, path in STEPS.items()}


def same(one: dict[str, Any], other: dict[str, Any], rel: float = 1e-6) -> bool:
    def close(a: Any, b: Any) -> bool:
        if isinstance(a, list):
            return a[0] == b[0] and a[1] == pytest.approx(b[1], rel=rel, abs=1e-6)
        return bool(a == b)

    return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)


def test_an_output_changes_only_with_the_version_of_its_step(test_env_project: Path) -> None:
    found, kept = outputs(test_env_project), json.loads(GOLDEN.read_text("utf-8"))
    assert set(found) == set(STEPS), "name the version of each step that computes shards in STEPS"
    now = versions()
    tolerance = {name: 1e-3 if name in FITTED else 1e-6 for name in found}
    changed = [name for name in found if not same(found[name], kept["outputs"].get(name, {}), tolerance[name])]
    silent = [STEPS[name] for name in changed if now[name] == kept["versions"].get(name)]
    assert not silent, f"other output, same version: raise {', '.join(silent)}"
    assert not changed, f"{changed}: python tests/test_golden.py PROJECT"
    assert now == kept["versions"], "python tests/test_golden.py PROJECT"


if __name__ == "__main__":
    lines = [f" {json.dumps(name)}: {json.dumps(found)}" for name, found in outputs(Path(sys.argv[1])).items()]
    text = ",\n".join(lines)
    GOLDEN.write_text(f'{{"versions": {json.dumps(versions())},\n"outputs": {{\n{text}\n}}}}\n', encoding="utf-8")
