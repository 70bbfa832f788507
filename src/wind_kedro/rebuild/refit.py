"""Refit the models of a training from its kit, and compare them with the registered ones bit for bit.

Runs in whatever environment it is started in: `python -m wind_kedro.rebuild` in a clean one, or in the present one.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pandas as pd

from wind_kedro.compute import Workers
from wind_kedro.datasets.training_kit import Kits
from wind_kedro.governance.provenance import Provenance
from wind_kedro.models.objects import fetch, store
from wind_kedro.models.tables import model_table
from wind_kedro.storage.temporary import Scratch

if TYPE_CHECKING:
    from wind_kedro.models.ensembles.fleet_model import FleetModel

#: The node that is run again.
FIT = "promotion.fit_fleet"
#: For fewer models no processes are started.
_WORTH_PROCESSES = 8
#: So many rows of a difference are quoted.
_QUOTED = 3


class _NoVersions:
    """Replaces the registry: models that a training took over from earlier ones are not refitted."""

    def version(self, version: str) -> Any:
        from wind_kedro.datasets.models import NoModelError

        raise NoModelError(f"version {version} was not fitted by this training")


def refit(kits: Kits, run_id: str, wanted: Collection[tuple[str, str]] | None = None) -> FleetModel:
    """Refit the models of a training: those of ``wanted`` products and entities, else all that it chose a model for."""
    from wind_kedro.pipelines.training import create_pipeline

    document = kits.document(run_id)
    own = json.loads(kits.get(document["parameters"]))
    (node,) = create_pipeline().only_nodes(FIT).nodes
    names = inspect.signature(node.func).parameters
    hints = get_type_hints(node.func)
    given: dict[str, Any] = {}
    for argument, dataset in zip(names, node.inputs, strict=True):
        if dataset in document["tables"]:
            given[argument] = kits.get_table(document["tables"][dataset])
            if dataset == "choices" and wanted is not None:
                keys = given[argument][["product_id", "entity_id"]].itertuples(index=False, name=None)
                given[argument] = given[argument][[key in wanted for key in keys]]
        elif dataset.startswith("params:"):
            given[argument] = hints[argument].model_validate(own[dataset.removeprefix("params:")])
            if dataset == "params:workers":
                given[argument] = _local(given[argument], few=wanted is not None and len(wanted) < _WORTH_PROCESSES)
        else:
            given[argument] = _NoVersions()
    with _quiet():  # that the models of others are not here is known
        made: FleetModel = node.func(**given)[0]
    return made


def _local(workers: Workers, *, few: bool) -> Workers:
    """Workers of this machine, as a cluster that fitted a model may be gone, or have other libraries."""
    if few:
        return workers.inline()
    return Workers() if workers.backend == "dask" else workers


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(f"wind_kedro.{name}") for name in ("pipelines.training", "failures")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def compare(kits: Kits, run_id: str, entries: list[dict[str, Any]], objects: Path) -> dict[str, Any]:
    """Refit a training and compare each model with the registered one (``entries`` of a manifest) on all its training data.

    Returns:
        ``members``: per entry whether model files and forecasts are the same, how many rows were compared and how far they
        are apart at most (share of capacity); ``provenance`` of this environment.
    """
    made = refit(kits, run_id, {(entry["product_id"], entry["entity_id"]) for entry in entries})
    table = kits.get_table(kits.document(run_id)["tables"]["model_input"])
    inputs = model_table(table)
    rows_of = inputs.groupby(["product_id", "entity_id"]).indices
    members = []
    with Scratch("refit") as folder:
        for entry in entries:
            key = (entry["product_id"], entry["entity_id"])
            about = {"product_id": key[0], "entity_id": key[1], "model": entry["model"]}
            if key not in made.members:
                members.append(about | {"same": False, "rows": 0, "difference": None, "fault": "was not fitted this time"})
                continue
            again = made.members[key].forecaster
            try:
                there = fetch(entry["object"], objects)
            except Exception as error:  # a damaged file: the other models are compared all the same
                members.append(about | {"same": False, "rows": 0, "difference": None, "fault": f"is damaged: {error}"})
                continue
            rows = inputs.iloc[rows_of[key]]
            was, now = there.predict(rows), again.predict(rows)
            members.append(
                about
                | {
                    "files_same": store(again, Path(folder)) == entry["object"],
                    "same": was.tobytes() == now.tobytes(),
                    "rows": len(rows),
                    "difference": float(np.nanmax(np.abs(was - now))) if was.shape == now.shape and was.size else None,
                    "first": _first(table.iloc[rows_of[key]], was, now),
                    "fault": "",
                }
            )
    here = Provenance.collect(Path.cwd(), {})
    return {"members": members, "provenance": here.model_dump(exclude={"configuration", "configuration_sha256"})}


def _first(rows: pd.DataFrame, was: Any, now: Any) -> list[str]:
    """The first rows that differ."""
    if was.shape != now.shape:
        return []
    apart = np.flatnonzero((was != now).any(axis=1))[:_QUOTED]
    times = rows.iloc[apart][["issued_at", "valid_at"]].itertuples(index=False, name=None)
    return [f"issued {issued:%Y-%m-%dT%H:%M} for {valid:%Y-%m-%dT%H:%M}" for issued, valid in times]
