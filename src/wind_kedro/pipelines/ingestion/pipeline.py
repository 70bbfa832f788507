"""What is new outside lands in the raw folder, batch by batch; the record of it is appended."""

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.ingestion.nodes import fetch_feeds


def create_pipeline() -> Pipeline:
    """Cards of feeds in; batches in the raw folder, their record and the failed fetches out."""
    return Pipeline(
        [
            Node(
                fetch_feeds,
                inputs=["landings_before", "params:feeds", "params:ingestion", "params:clock"],
                outputs=["landings", "ingestion_failures"],
                name="fetch_feeds",
            ),
        ],
        tags="ingestion",
    )
