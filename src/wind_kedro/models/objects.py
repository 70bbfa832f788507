"""Fitted models by their content: a folder is named by the digest of what it holds, so that it never changes and is kept once.

Versions of the fleet refer to these folders. A farm that was not trained anew costs a line in the next version, not a copy.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import lru_cache
from pathlib import Path

from wind_kedro.models import load_model
from wind_kedro.models.protocol import Forecaster
from wind_kedro.storage.temporary import neighbour_of

#: In a stored model's folder: the digests of the models that it was lent, by the name that it has for them.
LENT = "lent.json"


class ChangedObjectError(ValueError):
    """A stored model is not what its name says."""


def digest(folder: Path) -> str:
    """SHA-256 over the files of a folder: of each, in order of its path, the path and the digest of its bytes."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file():
            whole.update(path.relative_to(folder).as_posix().encode() + b"\0")
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def store(forecaster: Forecaster, objects: Path, known: dict[int, str] | None = None) -> str:
    """Save a fitted model into ``objects`` under its digest, which is returned; what is there already is left as it is.

    What it was lent is stored beside it, not in it: a model of the fleet is there once, and its borrowers name it. ``known``:
    digests of models already stored, by identity; added to.
    """
    known = {} if known is None else known
    if id(forecaster) in known:
        return known[id(forecaster)]
    lent = {name: store(model, objects, known) for name, model in forecaster.lent.items()}
    objects.mkdir(parents=True, exist_ok=True)
    neighbour = neighbour_of(objects / "model")
    try:
        forecaster.save(neighbour)
        if lent:
            (neighbour / LENT).write_text(json.dumps(lent, indent=2) + "\n", encoding="utf-8")
        name = digest(neighbour)
        if not (objects / name).exists():
            try:
                neighbour.rename(objects / name)
            except OSError:
                # Another process stored the same meanwhile; anything else is a fault.
                if not (objects / name).exists():
                    raise
    finally:
        shutil.rmtree(neighbour, ignore_errors=True)
    known[id(forecaster)] = name
    return name


def fetch(name: str, objects: Path) -> Forecaster:
    """The fitted model of that digest.

    Raises:
        FileNotFoundError: if there is none.
        ChangedObjectError: if its files are others than those that were stored.
    """
    folder = objects / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such model in the store")
    found = digest(folder)
    if found != name:
        raise ChangedObjectError(f"{folder}: was changed after it was stored (its files have digest {found})")
    model = load_model(folder)
    if (folder / LENT).is_file():
        for borrowed, digest_of_lent in json.loads((folder / LENT).read_text(encoding="utf-8")).items():
            model.lend(borrowed, _lent(digest_of_lent, objects.resolve()))
    return model


@lru_cache(maxsize=16)
def _lent(name: str, objects: Path) -> Forecaster:
    """One and the same object for all borrowers of a version."""
    return fetch(name, objects)
