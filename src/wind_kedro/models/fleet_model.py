"""The models of a whole fleet as one thing: saved in one folder, asked in one call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from wind_kedro.columns import quantile_columns
from wind_kedro.models import load_model
from wind_kedro.models.protocol import FORMAT, Forecaster

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Member:
    """One fitted model, and the name of the candidate that it is."""

    model: str
    forecaster: Forecaster


@dataclass(frozen=True)
class FleetModel:
    """One fitted model per product and entity.

    Attributes:
        trained_through: the last interval that any of them has seen, UTC.
        members: the models, by product and entity; each may be another candidate.
        example: a row of features for each, from which the registry reads the signature. Not saved with the model.
    """

    trained_through: pd.Timestamp
    members: Mapping[tuple[str, str], Member]
    example: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)

    @property
    def levels(self) -> list[float]:
        """Every quantile level that any of its products declares, rising."""
        return sorted({level for member in self.members.values() for level in member.forecaster.levels})

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
        of_whom = features[["product_id", "entity_id"]]
        # Numbered in order of first appearance, which is also the order that drop_duplicates keeps.
        number = of_whom.groupby(list(of_whom.columns), sort=False).ngroup().to_numpy()
        for group, (product_id, entity_id) in enumerate(of_whom.drop_duplicates().itertuples(index=False, name=None)):
            rows = np.flatnonzero(number == group)
            if (product_id, entity_id) not in self.members:
                known = ", ".join(f"{product} of {entity}" for product, entity in self.members)
                raise KeyError(f"no model of {product_id} of {entity_id}; there are {known}")
            forecaster = self.members[product_id, entity_id].forecaster
            at = [columns.index(column) for column in quantile_columns(forecaster.levels, "share")]
            quantiles[rows[:, None], at] = forecaster.predict(features.iloc[rows])
        return pd.DataFrame(quantiles, columns=columns, index=features.index)

    def save(self, folder: Path) -> None:
        """Write `MANIFEST` and one folder per product and entity."""
        members = []
        for (product_id, entity_id), member in sorted(self.members.items()):
            member.forecaster.save(folder / product_id / entity_id)
            members.append(
                {
                    "product_id": product_id,
                    "entity_id": entity_id,
                    "model": member.model,
                    "type": member.forecaster.type_name(),
                    "levels": member.forecaster.levels,
                    "folder": f"{product_id}/{entity_id}",
                }
            )
        manifest = {
            "format": FORMAT,
            "trained_through": self.trained_through.isoformat(),
            "levels": self.levels,
            "members": members,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no fleet of models in ``folder``, or one of them is gone.
            ValueError: if this version cannot read it.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file, so there are no models of a fleet in this folder")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise ValueError(
                f"{path}: layout {manifest.get('format')}, but this version reads {FORMAT}; train the models anew"
            )
        return cls(
            trained_through=pd.Timestamp(manifest["trained_through"]),
            members={
                (member["product_id"], member["entity_id"]): Member(
                    member["model"], load_model(folder / member["folder"])
                )
                for member in manifest["members"]
            },
        )
