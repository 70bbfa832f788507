"""The models of a whole fleet as one thing: a manifest of stored models, asked in one call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from wind_kedro.cards.columns import quantile_columns
from wind_kedro.models.base import Array, Forecaster
from wind_kedro.models.objects import ChangedObjectError, digest_of, fetch, is_whole, store
from wind_kedro.models.tables import feature_matrix
from wind_kedro.storage.paths import data_path

MANIFEST = "manifest.json"
#: Of the layout of a manifest. 1: models were folders beside it.
FORMAT = 2


@dataclass(frozen=True)
class Stored:
    """A member: its folder and its entry in the manifest."""

    objects: Path
    object: str
    type: str
    levels: list[float]


@dataclass(eq=False)
class Member:
    """One fitted model, and the name of the candidate that it is. A stored one is read when it is first asked for.

    Attributes:
        model: name of the candidate.
        source: the fitted model, or where it is stored.
        trained_through: the last interval that it has seen; none: that of the fleet's model that it is in.
        run_id: of the training that made it; empty: that of the fleet's model that it is in.
        made_from: identifies rows, settings and libraries that it was fitted from; empty: they are not known.
    """

    model: str
    source: Forecaster | Stored
    trained_through: pd.Timestamp | None = None
    run_id: str = ""
    made_from: str = ""

    @cached_property
    def forecaster(self) -> Forecaster:
        """The fitted model."""
        return fetch(self.source.object, self.source.objects) if isinstance(self.source, Stored) else self.source

    @property
    def levels(self) -> list[float]:
        """Its quantile levels."""
        return self.source.levels

    @property
    def object(self) -> str | None:
        """Its digest in the store; none: it is not stored yet."""
        return self.source.object if isinstance(self.source, Stored) else None

    def is_whole(self, known: dict[str, bool]) -> bool:
        """Whether it is in memory, or is stored and undamaged with the models that it shares; ``known`` as in `objects`."""
        return not isinstance(self.source, Stored) or is_whole(self.source.object, self.source.objects, known)

    def has_levels(self, levels: Sequence[float]) -> bool:
        """Whether it has learnt all of these levels."""
        return set(levels) <= set(self.levels)

    def shares(self, rows: pd.DataFrame, levels: Sequence[float]) -> Array:
        """Its quantiles at these of its levels, shares of capacity: (rows, levels).

        Args:
            rows: of `contracts.Features`, of one product and entity.
            levels: which it `has_levels`.

        Raises:
            ValueError: if it gives another number of rows.
        """
        at = [self.levels.index(level) for level in levels]
        found = self.forecaster.predict(feature_matrix(rows).astype(float))[:, at]
        if len(found) != len(rows):
            raise ValueError(f"{self.forecaster}: gives {len(found)} rows of quantiles for {len(rows)} of features")
        return found

    def entry(self, objects: Path, known: dict[int, str]) -> dict[str, Any]:
        """Its entry in a manifest; it is stored first where it is not. ``known``: digests by identity of the model."""
        source = self.source
        if isinstance(source, Stored) and source.objects == objects:
            return {"type": source.type, "levels": source.levels, "object": source.object}
        forecaster = self.forecaster
        digest = store(forecaster, objects, known)
        return {"type": forecaster.type_name, "levels": forecaster.levels, "object": digest}


@dataclass(frozen=True)
class FleetModel:
    """One fitted model per product and entity.

    Attributes:
        trained_through: the last interval that any of them has seen, UTC.
        members: the models, by product and entity; each may be another candidate, and made by an earlier training.
        shadows: challengers that are issued too but never sent, by product, entity and name of the candidate.
        fallbacks: what stands in where a member cannot forecast, by product, entity and name, in order of preference.
        parent: the version that was champion when this one was made; none: there was none.
        example: a row of features for some, from which the registry reads the signature. Not saved with the model.
    """

    trained_through: pd.Timestamp
    members: Mapping[tuple[str, str], Member]
    example: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)
    shadows: Mapping[tuple[str, str, str], Member] = field(default_factory=dict)
    fallbacks: Mapping[tuple[str, str, str], Member] = field(default_factory=dict)
    parent: str | None = None

    def beside(self, role: Literal["shadows", "fallbacks"], product_id: str, entity_id: str) -> dict[str, Member]:
        """The shadows or fallbacks of one member by name, in order of preference."""
        members: Mapping[tuple[str, str, str], Member] = getattr(self, role)
        return {name: member for (*key, name), member in members.items() if key == [product_id, entity_id]}

    @property
    def levels(self) -> list[float]:
        """Every quantile level that any of its products declares, rising."""
        return sorted({level for member in self.members.values() for level in member.levels})

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """One row per row of ``features``, order and index kept: quantiles as shares of capacity.

        Of the keys it reads product and entity only: no model looks at a time but through its features.

        Columns of quantiles are those of `contracts.quantile_column` in the unit ``share``, of all levels of the fleet;
        a level that a product does not declare is missing there.

        Raises:
            KeyError: if there is no model of a product and entity, naming it.
            ValueError: if a feature column that a model needs is missing.
        """
        columns = quantile_columns(self.levels, "share")
        quantiles = np.full((len(features), len(columns)), np.nan)
        groups: Mapping[Any, Any] = features.groupby(["product_id", "entity_id"], sort=False).indices
        for (product_id, entity_id), rows in groups.items():
            if (product_id, entity_id) not in self.members:
                known = ", ".join(f"{product} of {entity}" for product, entity in self.members)
                raise KeyError(f"no model of {product_id} of {entity_id}; there are {known}")
            forecaster = self.members[product_id, entity_id].forecaster
            at = [columns.index(column) for column in quantile_columns(forecaster.levels, "share")]
            quantiles[rows[:, None], at] = forecaster.predict(features.iloc[rows])
        return pd.DataFrame(quantiles, columns=columns, index=features.index)

    def save(self, folder: Path, objects: Path, run_id: str = "") -> None:
        """Write `MANIFEST` into ``folder``, and into ``objects`` those models that are not there yet.

        A model that several members share is stored once. ``run_id`` is written down for members that have none yet.
        """
        objects = objects.resolve()
        known: dict[int, str] = {}

        def entries(members: Mapping[Any, Member]) -> list[dict[str, Any]]:
            return [
                {
                    "product_id": product_id,
                    "entity_id": entity_id,
                    "model": member.model,
                    "trained_through": (member.trained_through or self.trained_through).isoformat(),
                    "run_id": member.run_id or run_id,
                    "made_from": member.made_from,
                }
                | member.entry(objects, known)
                for (product_id, entity_id, *_), member in members.items()
            ]

        manifest = {
            "format": FORMAT,
            "objects": str(objects),
            "parent": self.parent,
            "trained_through": self.trained_through.isoformat(),
            "levels": self.levels,
            "members": entries(dict(sorted(self.members.items()))),
            "shadows": entries(dict(sorted(self.shadows.items()))),
            "fallbacks": entries(self.fallbacks),  # in order of preference
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, objects: Path | None = None, sha256: str | None = None) -> Self:
        """Read what `save` wrote; the models are read when they are asked for.

        Args:
            folder: of the manifest.
            objects: where the models are, if no longer at the manifest's path.
            sha256: digest that the manifest must have; none: any, which is for models that nobody else could have written.

        Raises:
            FileNotFoundError: if there is no manifest in ``folder``.
            ChangedObjectError: if the manifest has another digest.
            ValueError: if this version cannot read it.
        """
        manifest = read_manifest(folder, sha256)
        place = data_path(manifest["objects"], "objects") if objects is None else objects.resolve()

        def members(role: str, *key: str) -> dict[Any, Member]:
            return {
                tuple(entry[name] for name in ("product_id", "entity_id", *key)): Member(
                    entry["model"],
                    Stored(place, entry["object"], entry["type"], entry["levels"]),
                    pd.Timestamp(entry["trained_through"]),
                    entry["run_id"],
                    entry.get("made_from", ""),
                )
                for entry in manifest[role]
            }

        return cls(
            trained_through=pd.Timestamp(manifest["trained_through"]),
            members=members("members"),
            shadows=members("shadows", "model"),
            fallbacks=members("fallbacks", "model"),
            parent=manifest["parent"],
        )


def read_manifest(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """The manifest in ``folder``; with ``sha256``, its digest is compared before a byte of it is parsed.

    Raises:
        FileNotFoundError: if there is none.
        ChangedObjectError: if it has another digest.
        ValueError: if it is of another layout.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so there are no models of a fleet in this folder")
    content = path.read_bytes()
    if sha256 is not None and digest_of(content) != sha256:
        raise ChangedObjectError(f"{path}: is not the manifest that was promoted (its digest is {digest_of(content)})")
    manifest: dict[str, Any] = json.loads(content)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: layout {manifest.get('format')}, but this version reads {FORMAT}; train the models again")
    return manifest


def manifest_digest(folder: Path) -> str:
    """SHA-256 of the manifest in ``folder``."""
    return digest_of((folder / MANIFEST).read_bytes())
