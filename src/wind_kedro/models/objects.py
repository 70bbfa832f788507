"""Fitted models by their content: a folder is named by the digest of what it holds, so that it never changes and is kept once.

Versions of the fleet refer to these folders. A farm that was not trained anew costs a line in the next version, not a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

from wind_kedro.models.base import Forecaster
from wind_kedro.models.registry import load_model
from wind_kedro.storage.paths import is_in_store, make_folder
from wind_kedro.storage.temporary import Scratch, folder_aside, keep_unreadable, place

#: In a stored model's folder: the digests of the shared models that are attached to it, by name.
SHARED_MODELS = "shared_models.json"
#: Safety bound on what is read into memory for one stored model, bytes.
MAX_OBJECT_BYTES = 2 << 30
#: So many bytes of stored models are kept loaded in a process.
MAX_LOADED_BYTES = 1 << 29


class ChangedObjectError(ValueError):
    """A stored model whose content does not match its digest."""


def digest_of(content: bytes) -> str:
    """SHA-256, as hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest(folder: Path) -> str:
    """SHA-256 over the files of a folder: of each, in order of its path, the path and the digest of its bytes.

    Raises:
        ChangedObjectError: if the folder has more bytes than a stored model may have.
    """
    return _digest(_contents(folder))


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by path, each read once: what is verified is what is parsed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if sum(path.stat().st_size for path in files) > MAX_OBJECT_BYTES:
        raise ChangedObjectError(f"{folder}: has more than {MAX_OBJECT_BYTES >> 20} MiB; no stored model is so large")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _digest(contents: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for path in sorted(contents):
        whole.update(path.encode() + b"\0")
        whole.update(hashlib.sha256(contents[path]).digest())
    return whole.hexdigest()


def store(forecaster: Forecaster, objects: Path, known: dict[int, str] | None = None) -> str:
    """Save a fitted model into ``objects`` under its digest, which is returned; what is there is left, unless it is damaged.

    Shared models are stored beside it, not in it: a model of the fleet is stored once, and those that need it name it. ``known``:
    digests of models already stored, by identity; added to.
    """
    known = {} if known is None else known
    if id(forecaster) in known:
        return known[id(forecaster)]
    shared = {name: store(model, objects, known) for name, model in forecaster.shared_models.items()}
    make_folder(objects)
    with folder_aside(objects / "model") as aside:
        forecaster.save(aside)
        if shared:
            (aside / SHARED_MODELS).write_text(json.dumps(shared, indent=2) + "\n", encoding="utf-8")
        name = digest(aside)
        if (objects / name).exists() and _intact(name, objects) is None:
            keep_unreadable(objects / name)
        if not (objects / name).exists():
            try:
                place(aside, objects / name)
            except OSError:
                # Another process stored the same meanwhile; anything else is a fault.
                if not (objects / name).exists():
                    raise
    known[id(forecaster)] = name
    return name


def is_whole(name: str, objects: Path, known: dict[str, bool] | None = None) -> bool:
    """Whether the stored model of that digest, and those that it shares, are there and are what was stored.

    ``known``: what was found of others, by digest, as many members share a model; added to.
    """
    known = {} if known is None else known
    if name not in known:
        contents = _intact(name, objects) or {}
        shared = json.loads(contents[SHARED_MODELS]) if SHARED_MODELS in contents else {}
        known[name] = bool(contents) and all(is_whole(other, objects, known) for other in shared.values())
    return known[name]


def _intact(name: str, objects: Path) -> dict[str, bytes] | None:
    """The files of the stored model of that digest; None: it is not there, or is not what was stored."""
    try:
        contents = _contents(objects / name)
    except (OSError, ChangedObjectError):
        return None
    return contents if _digest(contents) == name else None


def fetch(name: str, objects: Path) -> Forecaster:
    """The fitted model of that digest, which is verified before any parser sees a byte.

    Raises:
        FileNotFoundError: if there is none.
        ChangedObjectError: if its files are others than those that were stored.
    """
    folder = objects / name
    if not re.fullmatch("[0-9a-f]{64}", name):
        raise ChangedObjectError(f"{name!r} is no digest, so no stored model has this name")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such model in the store")
    # A service forecasts again and again with the same models; files that were touched since are read and verified anew.
    state = None if is_in_store(folder) else (str(folder.absolute()), *_state(folder))
    if state is not None and (known := _LOADED.get(state)) is not None:
        return known
    contents = _contents(folder)
    found = _digest(contents)
    if found != name:
        raise ChangedObjectError(f"{folder}: was changed after it was stored (its files have digest {found})")
    # A private copy of the verified bytes: a concurrent write to the store does not change what is parsed.
    with tempfile.TemporaryDirectory(dir=_scratch(os.getpid()).name) as private:
        for path, content in contents.items():
            file = Path(private) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        model = load_model(Path(private))
    if SHARED_MODELS in contents:
        for shared, digest_of_shared in json.loads(contents[SHARED_MODELS]).items():
            model.attach_shared_model(shared, _shared_model(digest_of_shared, objects.resolve()))
    if state is not None:
        _LOADED.add(state, model, sum(map(len, contents.values())))
    return model


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Files of a folder, with size and time of the last change."""
    stats = [(path.as_posix(), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


class _Loaded:
    """Models in memory, those that were used last; as many as their files have `MAX_LOADED_BYTES` in all."""

    def __init__(self) -> None:
        self._models: OrderedDict[object, tuple[Forecaster, int]] = OrderedDict()
        self._bytes = 0

    def get(self, state: object) -> Forecaster | None:
        if state not in self._models:
            return None
        self._models.move_to_end(state)
        return self._models[state][0]

    def add(self, state: object, model: Forecaster, size: int) -> None:
        self._models[state] = (model, size)
        self._bytes += size
        while self._bytes > MAX_LOADED_BYTES and len(self._models) > 1:
            _, (_, oldest) = self._models.popitem(last=False)
            self._bytes -= oldest


_LOADED = _Loaded()


@lru_cache(maxsize=1)
def _scratch(process: int) -> Scratch:
    """A folder of this process for private copies: one for all models, as a fleet has thousands."""
    return Scratch(f"models-{process}")


@lru_cache(maxsize=16)
def _shared_model(name: str, objects: Path) -> Forecaster:
    """One and the same object for all models of a version that need it."""
    return fetch(name, objects)
