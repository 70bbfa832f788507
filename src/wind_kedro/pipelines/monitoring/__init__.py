"""Monitoring: scores of issued forecasts, incidents, and the outbox of messages."""

from wind_kedro.pipelines.monitoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
