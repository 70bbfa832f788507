"""What a training costs to log: the scores, decisions, models and promotion of many farms into one MLflow run.

Farms and numbers are made; what writes them is what a training writes them with: the datasets of the catalog. A fleet of 1,000
farms must take seconds. Starting MLflow and making its database are not counted: they do not grow.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from record import record
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.registry import ModelConfig, build

SIZES = (100, 1000)
#: Farms of a round before, which pays for imports.
WARM_UP = 10
CANDIDATES = ("climatology", "persistence", "power_curve", "catboost")
METRICS = ("pinball_share", "crps_share", "nmae_share", "nrmse_share", "bias_share", "coverage", "width_share")
EDGES = (0, 360, 720, 1440, 2880)
HORIZON = 2880


def made_scores(farms: int) -> pd.DataFrame:
    """Rows of `contracts.Scores`: every farm, candidate, bucket and the whole horizon, metric."""
    random = np.random.default_rng(1)
    buckets = [*itertools.pairwise(EDGES), (0, HORIZON)]
    index = pd.MultiIndex.from_product(
        [[f"farm_{number:04d}" for number in range(farms)], CANDIDATES, range(len(buckets)), METRICS],
        names=["entity_id", "model", "bucket", "metric"],
    )
    table = index.to_frame(index=False)
    spans = np.asarray(buckets)[table.pop("bucket")]
    return table.assign(
        product_id="day_ahead", period="all", lead_from_minutes=spans[:, 0], lead_to_minutes=spans[:, 1], level=np.nan,
        value=random.uniform(0.03, 0.1, len(table)), n=1000, weather=FORECAST_WEATHER,
    )  # fmt: skip


def made_decisions(farms: int) -> pd.DataFrame:
    """Rows of `contracts.Decisions`."""
    random = np.random.default_rng(2)
    excess = [f"{name}_excess_share" for name in ("bias", "coverage", "strong_wind", "change", "worst")]
    return pd.DataFrame({"entity_id": [f"farm_{number:04d}" for number in range(farms)]}).assign(
        product_id="day_ahead", decided_at=pd.Timestamp("2024-03-01", tz="UTC"), champion="power_curve", challenger="catboost",
        issues=365, champion_score=0.08, challenger_score=0.07, gain_share=random.normal(0.05, 0.05, farms), p_value=0.01,
        p_adjusted=0.02, promoted=True, code="better", reason="", **dict.fromkeys(excess, 0.0),
    )  # fmt: skip


def made_models(farms: int) -> FleetModel:
    """A small model of its own for each farm."""
    hours = pd.DataFrame({"hour_of_day": np.arange(24.0)})
    members = {}
    for number in range(farms):
        model = build("m", ModelConfig(type="climatology", params={"min_rows": 1}), [0.1, 0.5, 0.9], seed=0)
        share = pd.Series(np.linspace(0.1, 0.8, 24) + number * 1e-5)
        members["day_ahead", f"farm_{number:04d}"] = Member("climatology", model.fit(hours, share))
    example = hours.head(3).assign(product_id="day_ahead", entity_id="farm_0000")
    return FleetModel(pd.Timestamp("2024-02-29T23:00", tz="UTC"), members, example)


def measured(farms: int, folder: Path) -> list[dict[str, Any]]:
    """Seconds of each thing that a training logs."""
    import mlflow
    from kedro_mlflow.io.artifacts import MlflowArtifactDataset
    from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset

    from wind_kedro.datasets import ModelVersions
    from wind_kedro.pipelines.training.tracking import draw_decisions, summarise_training

    scores, decisions, models = made_scores(farms), made_decisions(farms), made_models(farms)
    objects = folder / f"objects_{farms}"

    def artefact(name: str, kind: str) -> Any:
        return MlflowArtifactDataset(dataset={"type": f"wind_kedro.datasets.{kind}", "filepath": str(folder / name)})

    registry = ModelVersions(
        registered_model_name=f"fleet_{farms}", objects=str(objects), promotions=str(folder / f"promotions_{farms}")
    )

    def again() -> None:
        """A training after which one farm in a hundred has a new model: the others are referred to."""
        before = registry.load().version("1")
        fresh = made_models(farms).members
        chosen = {key: fresh[key] if number % 100 == 0 else member for number, (key, member) in enumerate(before.members.items())}
        registry.save(FleetModel(models.trained_through, chosen, models.example, parent="1"))

    metrics = summarise_training(scores, decisions)
    steps: dict[str, Callable[[], Any]] = {
        f"{len(metrics)} fleet metrics": lambda: MlflowMetricsHistoryDataset(prefix="backtest").save(metrics),
        f"{len(scores)} scores as a table": lambda: artefact("scores.parquet", "ParquetTable").save(scores),
        "decisions as a figure": lambda: artefact("decisions.json", "Figure").save(draw_decisions(decisions)),
        "models stored and registered": lambda: registry.save(models),
        "the next version, 1 % new": again,
    }
    rows = []
    with mlflow.start_run(run_name="training"):
        for what, step in steps.items():
            begun = time.perf_counter()
            step()
            rows.append({"farms": farms, "what": what, "seconds": round(time.perf_counter() - begun, 2)})
    return [*rows, {"farms": farms, "what": "together", "seconds": round(sum(row["seconds"] for row in rows), 2)}]


def main(words: list[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(words)
    import mlflow

    with tempfile.TemporaryDirectory(prefix="wind-kedro-bench-mlflow-") as name:
        folder = Path(name)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_registry_uri(f"sqlite:///{folder}/mlflow.db")
        made = mlflow.create_experiment("bench", artifact_location=(folder / "artefacts").as_uri())
        mlflow.set_experiment(experiment_id=made)
        measured(WARM_UP, folder)
        rows = [row for size in SIZES for row in measured(size, folder)]
    record("bench-mlflow", pd.DataFrame(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
