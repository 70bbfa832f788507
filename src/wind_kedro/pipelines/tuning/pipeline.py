"""Trials of settings are made on the past before what training judges; they are kept, so that a search goes on."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: object) -> Pipeline:
    """The room's nodes and what they exchange; see the room's README."""
    return Pipeline(
        [
            Node(
                nodes.search_settings,
                [
                    "model_input",
                    "trial_store",
                    "params:tuning",
                    "params:training",
                    "params:fleet",
                    "params:clock",
                    "params:workers",
                ],
                "trials",
                name="search_settings",
            ),
            Node(
                nodes.name_best, ["trials", "params:training"], ["tuned_settings", "tuning_metrics"], name="name_best"
            ),
        ],
        tags="tuning",
    )
