"""The pipelines. Each has its own clock and meets the others only in the catalog; the default run is their sum, in order."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import data_engineering, feature_engineering, forecasting, monitoring, reporting, training


def register_pipelines() -> dict[str, Pipeline]:
    """The six rooms by name, and ``__default__``, their sum."""
    rooms = {
        "data_engineering": data_engineering.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "training": training.create_pipeline(),
        "forecasting": forecasting.create_pipeline(),
        "monitoring": monitoring.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
    return {"__default__": sum(rooms.values(), Pipeline([])), **rooms}
