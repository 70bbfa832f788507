"""notification: messages of the outbox are delivered, and their delivery recorded."""

from wind_kedro.pipelines.notification.pipeline import create_pipeline

__all__ = ["create_pipeline"]
