"""The outbox is delivered: the messages that monitoring wrote go out, and each delivery is recorded."""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.notification.nodes import deliver_notifications


def create_pipeline() -> Pipeline:
    """Messages of the outbox in; the record of their delivery, and what failed, out."""
    return Pipeline(
        [
            Node(
                deliver_notifications,
                inputs=["outbox", "deliveries_before", "params:notification_channels", "params:clock"],
                outputs=["deliveries", "notification_failures"],
                name="deliver_notifications",
            ),
        ],
        tags="notification",
    )
