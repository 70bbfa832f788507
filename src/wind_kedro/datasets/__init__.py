"""Datasets beyond Kedro's: atomically replaced tables, histories appended by key, the model registry.

Names are resolved when they are asked for, so that a catalog entry costs the import of what it needs and no more.
"""

from __future__ import annotations

import importlib
from typing import Any

#: Where each dataset lives.
_HOMES = {
    "ParquetTable": "files",
    "Figure": "files",
    "Document": "files",
    "JsonDocument": "files",
    "YamlDocument": "files",
    "DerivedTable": "derived",
    "History": "history",
    "Log": "log",
    "AuditTrail": "audit_trail",
    "ModelVersions": "models",
    "ModelAlias": "models",
    "TrainingKits": "training_kit",
    "TrialStore": "trials",
    "read_table": "reading",
    "tables_in": "reading",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are resolved by __getattr__, so there is no list to write twice


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
