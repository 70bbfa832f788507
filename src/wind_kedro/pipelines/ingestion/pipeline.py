"""What is new outside lands in the raw folder, batch by batch; the record of it is appended."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.ingestion.nodes import fetch_feeds


def create_pipeline() -> Pipeline:
    """Cards of feeds in; batches in the raw folder, their record and the failed fetches out."""
    inputs = "landings_before params:feeds params:ingestion params:clock"
    return Pipeline([step(fetch_feeds, inputs, "landings ingestion_failures")], tags="ingestion")
