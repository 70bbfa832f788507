"""The outbox is delivered: the messages that monitoring wrote go out, and each delivery is recorded."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.notification.nodes import deliver_notifications


def create_pipeline() -> Pipeline:
    """Messages of the outbox in; the record of their delivery, and what failed, out."""
    inputs = "outbox deliveries_before params:notification_channels params:clock"
    return Pipeline([step(deliver_notifications, inputs, "deliveries notification_failures")], tags="notification")
