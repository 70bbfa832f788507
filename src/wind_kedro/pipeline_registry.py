"""The pipelines. Each has its own clock and meets the others only in the catalog; the default run is their sum, in order.

``ingestion`` is not in that sum: it asks other people's servers, on a clock of its own, and meets the others only in the raw
folder, which Kedro cannot see. Nor is ``tuning``: what it finds counts when somebody puts it into the configuration.
``cleaning`` and ``assessment`` are the parts of ``data_engineering``: forecasts wait for the first only.
"""

from __future__ import annotations

from importlib import import_module

from kedro.pipeline import Pipeline

#: Pipelines of the default run, in its order, and those that are apart from it.
_DEFAULT = ("data_engineering", "feature_engineering", "training", "forecasting", "monitoring", "notification", "reporting")
_APART = ("ingestion", "tuning")
#: Parts of ``data_engineering``.
PARTS = ("cleaning", "assessment")


def register_pipelines() -> dict[str, Pipeline]:
    """The pipelines by name, the parts of ``data_engineering``, and ``__default__``, the sum of all but those that are apart."""
    found = {name: import_module(f"wind_kedro.pipelines.{name}").create_pipeline() for name in (*_APART, *_DEFAULT)}
    data = import_module("wind_kedro.pipelines.data_engineering")
    parts = dict(zip(PARTS, (data.create_cleaning(), data.create_assessment()), strict=True))
    return {"__default__": sum((found[name] for name in _DEFAULT), Pipeline([])), **found, **parts}
