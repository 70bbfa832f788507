"""What is kept of a training, so that its models can be made again: every input of the fit, bit for bit, and where it ran.

A kit is a JSON document of a training's MLflow run, and names its parts by content. A training table is kept in parts, one per
month of issue: what an earlier training kept already costs nothing again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wind_kedro.datasets.derived import Derived, portions, rows_of
from wind_kedro.datasets.parts import PathDataset
from wind_kedro.errors import WindKedroError
from wind_kedro.governance.provenance import Provenance, sha256
from wind_kedro.governance.signing import Keyring
from wind_kedro.models.tables import KEYS
from wind_kedro.storage.paths import local_path
from wind_kedro.storage.temporary import keep_unreadable, written_aside

#: What the document of a training is signed for.
_PURPOSE = "training kit"


class NoKitError(WindKedroError):
    """A training was not kept, or what was kept of it is not whole any more."""


@dataclass(frozen=True)
class Kits:
    """The kits of an environment: ``<run_id>.json`` in ``folder``, their parts below ``objects``, each named by its SHA-256."""

    folder: Path

    def put(self, content: bytes) -> str:
        """Keep a part; its name is returned. What is there is left as it is; what is damaged is kept under another name."""
        name = sha256(content)
        path = self._path(name)
        if path.exists() and (path.is_dir() or sha256(path.read_bytes()) != name):
            keep_unreadable(path)
        if not path.exists():
            with written_aside(path) as file:
                file.write_bytes(content)
        return name

    def get(self, name: str) -> bytes:
        """A part.

        Raises:
            NoKitError: if it is gone, or does not match its name.
        """
        path = self._path(name)
        if not path.is_file():
            raise NoKitError(f"{path}: a part of the training is gone")
        content = path.read_bytes()
        if sha256(content) != name:
            raise NoKitError(f"{path}: was changed after it was kept")
        return content

    def keep(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Write the document of a training, after all its parts, and sign it: it names code and libraries that are run again."""
        content = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
        self._sign(run_id, content)
        with written_aside(self.folder / f"{run_id}.json") as file:
            file.write_bytes(content)

    def adopt(self) -> int:
        """Sign the documents that no trusted key has signed, after a person checked them; returns their number."""
        adopted = 0
        for path in sorted(self.folder.glob("*.json")):
            content = path.read_bytes()
            if self._fault(path.stem, content):
                self._sign(path.stem, content)
                adopted += 1
        return adopted

    def document(self, run_id: str) -> dict[str, Any]:
        """What was kept of a training.

        Raises:
            NoKitError: if nothing was, or the document is not what was signed.
        """
        path = self.folder / f"{run_id}.json"
        if not path.is_file():
            raise NoKitError(f"nothing was kept of training run '{run_id}' ({path}): its models cannot be rebuilt")
        try:
            content = path.read_bytes()
            if fault := self._fault(run_id, content):
                raise NoKitError(f"{path}: {fault}; if it is of an earlier version: kedro wind keys adopt")
            document: dict[str, Any] = json.loads(content)
        except (OSError, ValueError, RecursionError) as error:
            raise NoKitError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from None
        return document

    def _fault(self, run_id: str, content: bytes) -> str:
        """Why the document of a training does not count; empty: a trusted key has signed it."""
        try:
            signed = json.loads((self.folder / f"{run_id}.sig").read_text("utf-8"))
            about = {"run_id": run_id, "sha256": sha256(content)}
            return Keyring().fault(_PURPOSE, about, signed.get("key"), signed.get("signature"))
        except (OSError, ValueError, AttributeError, RecursionError):
            return "is not signed"

    def _sign(self, run_id: str, content: bytes) -> None:
        signature = Keyring().sign(_PURPOSE, {"run_id": run_id, "sha256": sha256(content)})
        with written_aside(self.folder / f"{run_id}.sig") as file:
            file.write_text(json.dumps(signature), encoding="utf-8")

    def put_table(self, table: pd.DataFrame) -> dict[str, Any]:
        """Keep a table: in parts by month of issue, where it has issues and comes back the same from them, else whole."""
        if "issued_at" in table and len(table):
            parts = [self.put(_parquet(part)) for _, part in table.groupby(table["issued_at"].dt.strftime("%Y-%m"))]
            description = {"parts": parts, "sorted_by": [name for name in KEYS if name in table]}
            if self._same(description, table):
                return description
        description = {"parts": [self.put(_parquet(table))], "sorted_by": []}
        if not self._same(description, table):
            raise NoKitError("a table does not come back from Parquet as it was; it cannot be kept")
        return description

    def put_portions(self, table: Derived) -> dict[str, Any]:
        """Keep a table of any size: entity by entity, and in parts by month of issue."""
        parts = [self.put_table(rows_of(table, entities))["parts"] for entities in portions(table)]
        # In the order in which it is read: by its keys.
        return {"parts": [name for names in parts for name in names], "sorted_by": list(KEYS)}

    def get_table(self, description: Mapping[str, Any]) -> pd.DataFrame:
        """A table as it was kept."""
        parts = [pd.read_parquet(io.BytesIO(self.get(name))) for name in description["parts"]]
        table = pd.concat(parts, ignore_index=True)
        if description["sorted_by"]:
            table = table.sort_values(list(description["sorted_by"]), kind="stable", ignore_index=True)
        return table

    def _same(self, description: Mapping[str, Any], table: pd.DataFrame) -> bool:
        found = self.get_table(description)
        return found.equals(table) and found.dtypes.equals(table.dtypes)

    def _path(self, name: str) -> Path:
        return self.folder / "objects" / name[:2] / name


@dataclass(frozen=True)
class TrainingKit:
    """What a fit was made from: its tables by dataset, its parameters as JSON, the manifest of raw files, and where it ran."""

    tables: Mapping[str, pd.DataFrame | Derived]
    parameters: Mapping[str, Any]
    raw_manifest: pd.DataFrame
    provenance: Provenance


class TrainingKits(PathDataset):
    """The kits of an environment: saving keeps one under the active MLflow run, loading returns all.

    Without an active run, as in an environment that does not track its trainings, nothing is kept: a version names the run that
    fitted it, and its kit is found by that.
    """

    def __init__(self, *, path: str, **options: Any) -> None:
        """``path`` is the project's ``requirements.lock``, which is kept with each kit if it is there."""
        super().__init__(**options)
        self._lock = local_path(path, "path")

    def load(self) -> Kits:
        """All kits."""
        return Kits(self._filepath)

    def save(self, data: TrainingKit) -> None:
        """Keep a kit under the active MLflow run."""
        import mlflow

        active = mlflow.active_run()
        if active is not None:
            keep_training(Kits(self._filepath), active.info.run_id, data, self._lock)

    def _exists(self) -> bool:
        return self._filepath.is_dir()


def keep_training(kits: Kits, run_id: str, kit: TrainingKit, lock: Path) -> None:
    """Keep what the fit of an MLflow run was made from, with ``requirements.lock`` of the project if it is there."""
    kits.keep(
        run_id,
        {
            "run_id": run_id,
            "tables": {
                name: kits.put_portions(table) if isinstance(table, Derived) else kits.put_table(table.reset_index(drop=True))
                for name, table in kit.tables.items()
            },
            "parameters": kits.put(json.dumps(kit.parameters, sort_keys=True).encode()),
            "raw_manifest": kits.put_table(kit.raw_manifest),
            "lock": kits.put(lock.read_bytes()) if lock.is_file() else None,
            "provenance": kit.provenance.model_dump(exclude={"configuration"}),
        },
    )


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.reset_index(drop=True).to_parquet(buffer, index=False)
    return buffer.getvalue()
