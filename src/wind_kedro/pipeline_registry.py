"""The pipelines. Each has its own clock and meets the others only in the catalog; the default run is their sum, in order.

``ingestion`` is not in that sum: it asks other people's servers, on a clock of its own, and meets the others only in the raw
folder, which Kedro cannot see. Nor is ``tuning``: what it finds counts when somebody puts it into the configuration.
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import (
    data_engineering,
    feature_engineering,
    forecasting,
    ingestion,
    monitoring,
    notification,
    reporting,
    training,
    tuning,
)


def register_pipelines() -> dict[str, Pipeline]:
    """The rooms by name, and ``__default__``, the sum of all but ``ingestion`` and ``tuning``."""
    rooms = {
        "data_engineering": data_engineering.create_pipeline(),
        "feature_engineering": feature_engineering.create_pipeline(),
        "training": training.create_pipeline(),
        "forecasting": forecasting.create_pipeline(),
        "monitoring": monitoring.create_pipeline(),
        "notification": notification.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
    apart = {"ingestion": ingestion.create_pipeline(), "tuning": tuning.create_pipeline()}
    return {"__default__": sum(rooms.values(), Pipeline([])), **apart, **rooms}
