"""What is new outside lands in the raw folder, batch by batch; the record of it is appended."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: object) -> Pipeline:
    """The room's nodes and what they exchange; see the room's README."""
    return Pipeline(
        [
            # Landing is what saving `landed` does: fetching is IO, which datasets do.
            Node(nodes.choose_feeds, ["feeds", "params:ingestion"], "landed", name="choose_feeds"),
            Node(nodes.list_landings, ["landed", "landings_before"], "landings", name="list_landings"),
        ],
        tags="ingestion",
    )
