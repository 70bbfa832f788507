"""Pipeline that searches settings of candidates on data before the backtest; trials are kept, so that a search resumes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline tuning; see README.md in this folder."""
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
            Node(nodes.name_best, ["trials", "params:training"], ["tuned_settings", "tuning_metrics"], name="name_best"),
        ],
        tags="tuning",
    )
