"""Ingestion: what is new outside lands in the raw folder."""

from wind_kedro.pipelines.ingestion.pipeline import create_pipeline

__all__ = ["create_pipeline"]
