"""Rebuild a version training by training, and find the first cause of a difference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wind_kedro.datasets.training_kit import Kits, NoKitError
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.provenance import lock
from wind_kedro.rebuild.clean import CannotRebuildError, compare_clean
from wind_kedro.rebuild.refit import compare


class DifferentError(WindKedroError):
    """A rebuilt model differs from the registered one; the message has the first cause."""


def reproduce_version(
    kits: Kits, manifest: Mapping[str, Any], objects: Path, project: Path, *, entity: str | None = None, here: bool = False
) -> dict[str, Any]:
    """Refit every model of a version by its training, and compare it.

    Returns:
        ``members``: as returned by `refit.compare`, with their ``run_id``; ``where`` it was run; ``faults``: one line per
        training whose models differ, with the first cause: data, configuration, code, library, machine.

    Raises:
        NoKitError: if a training was not kept.
        CannotRebuildError: if its environment cannot be made, or ``here`` is another one.
    """
    trainings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in manifest["members"]:
        if entity in {None, entry["entity_id"]}:
            trainings[entry["run_id"]].append(entry)
    if not trainings:
        raise CannotRebuildError(f"the version has no model of '{entity}'")
    members, faults = [], []
    for run_id, entries in sorted(trainings.items()):
        document = kits.document(run_id)
        try:
            if here:
                then, now = document["provenance"]["lock_sha256"], lock(project)
                if then != now:
                    raise CannotRebuildError(
                        f"--here: requirements.lock is another one ({now[:12]}…, the training's was {then[:12]}…): "
                        f"leave --here away"
                    )
                found = compare(kits, run_id, entries, objects)
            else:
                found = compare_clean(kits, run_id, entries, objects, project)
        except NoKitError as error:
            faults.append(f"training run {run_id}: data: {error}")
            continue
        members += [row | {"run_id": run_id} for row in found["members"]]
        apart = [row for row in found["members"] if not row["same"]]
        if apart:
            worst = max(apart, key=lambda row: row["difference"] or 0)
            faults.append(
                f"training run {run_id}: {len(apart)} of {len(found['members'])} models forecast otherwise, by up to "
                f"{worst['difference'] or 0:.3g} of capacity ({worst['product_id']}/{worst['entity_id']}"
                f"{', ' + worst['first'][0] if worst.get('first') else ''}): "
                f"{first_cause(kits, document, found['provenance'])}"
            )
    where = "in this environment" if here else "in an environment made from its own lock and commit"
    return {"members": members, "faults": faults, "where": where}


def first_cause(kits: Kits, document: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """First changed dependency of a fit: data, configuration, code, library, machine."""
    then = document["provenance"]
    kept = {
        "data": [part for description in document["tables"].values() for part in description["parts"]],
        "configuration": [document["parameters"]],
    }
    for cause, parts in kept.items():
        try:
            for part in parts:
                kits.get(part)
        except NoKitError as error:
            return f"{cause}: {error}"
    if then["git_commit"] != now["git_commit"] or "(changed since)" in then["git_commit"]:
        return f"code: fitted by {then['git_commit']}, rebuilt by {now['git_commit']}"
    libraries = {**dict.fromkeys(now["libraries"], "none"), **then["libraries"]}
    differing = [
        *(("library", name, libraries[name], now["libraries"].get(name, "none")) for name in sorted(libraries)),
        ("library", "requirements.lock", then["lock_sha256"], now["lock_sha256"]),
        *(("machine", name, then[name], now[name]) for name in ("python", "platform", "threads")),
    ]
    for cause, name, was, is_now in differing:
        if was != is_now:
            return f"{cause}: {name} was {was}, is {is_now}"
    return "no cause: data, configuration, code, libraries and machine are as they were: the fit itself is not repeatable"
