"""The pipelines. Each has its own schedule; none imports another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kedro.pipeline import Node


def step(function: Callable[..., Any], inputs: str | Mapping[str, str], outputs: str, namespace: str | None = None) -> Node:
    """A node with the name of its function.

    Args:
        function: what the node calls.
        inputs: datasets and parameters in the order of the function's arguments, separated by spaces; or by argument.
        outputs: datasets, likewise.
        namespace: step of the pipeline, which Kedro-Viz can collapse.
    """
    results = outputs.split()
    return Node(
        function,
        inputs.split() if isinstance(inputs, str) else dict(inputs),
        results if len(results) > 1 else results[0],
        name=function.__name__,
        namespace=namespace,
    )
