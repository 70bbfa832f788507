"""What every model can do, so that nothing else needs to know which one it is.

A `Forecaster` learns from features and the observed power, and gives quantiles of power as shares of capacity. A family
writes its parameters, how it fits, how it predicts, and which attributes it has learnt. The rest is the same for all and stands
here: input is checked, quantiles are sorted and clipped, artefacts are native (no pickle).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm
from wind_kedro.cards.tiers import Tier
from wind_kedro.strict import Strict

Array = NDArray[np.float64]

#: Files of a saved model: its card (family and settings), what it has learnt, and the arrays of that.
MODEL_FILE, LEARNT_FILE, ARRAYS_FILE = "model.json", "learnt.json", "learnt.npz"
#: Of the layout of a saved model; raised when an older file can no longer be read. 1: each family had files of its own.
FORMAT = 2


class Parameters(Strict):
    """Settings of a model: unknown ones are mistakes, and they never change."""


@dataclass(frozen=True)
class Contributions:
    """What moved the medians of a table of features, in shares of capacity: a row's ``base`` and columns add up to its median.

    Of a blend, to the median of the members that have attributions.

    Attributes:
        base: the output without any feature known, one value a row.
        columns: one row per row of features, one column per feature that the model has learnt from.
        attributed_by: of a blend, the members with attributions and their weights; empty: the whole model.
    """

    base: Array
    columns: pd.DataFrame
    attributed_by: Mapping[str, float] = field(default_factory=dict)


class Forecaster(ABC):
    """A probabilistic model of power.

    Args:
        levels: quantile levels, rising strictly between 0 and 1.
        seed: of all its random numbers: the same seed and data give the same model.
        parameters: settings; the family's defaults where `None`.
    """

    #: Type of the family's settings.
    parameters_type: ClassVar[type[Parameters]] = Parameters
    #: The least tier that an entity must have to be given a model of this family: what learns much needs much.
    min_tier: ClassVar[Tier] = "local"

    #: Increase it if the same data and settings give other forecasts: backtests are computed anew.
    version: ClassVar[int] = 1
    #: Names of the attributes that it has learnt, in addition to those of its base class: arrays, other models, dictionaries of
    #: either, and what JSON can hold.
    learnt: ClassVar[tuple[str, ...]] = ()
    #: Feature columns without which it cannot work, where these are always the same.
    needed: ClassVar[tuple[str, ...]] = ()
    #: The name of the family in configuration and files; of a class of another package, its import path.
    type_name: ClassVar[str]

    def __init_subclass__(cls, type_name: str = "") -> None:
        cls.type_name = type_name or f"{cls.__module__}.{cls.__qualname__}"

    def __init__(self, levels: Sequence[float], seed: int = 0, parameters: Parameters | None = None) -> None:
        self.levels = [float(level) for level in levels]
        self.seed = seed
        self.parameters = self.parameters_type() if parameters is None else parameters
        #: The attached models of the fleet, by name.
        self.shared_models: dict[str, Forecaster] = {}
        self._fitted = False

    def fit(self, features: pd.DataFrame, power_share: pd.Series) -> Self:
        """Learn from rows of `contracts.Features` and the observed power, as a share of available capacity.

        Missing features mean 'not known then' and are no error. Learning again forgets what was learnt before.

        Raises:
            ValueError: if there is no row though it needs some, lengths differ, a power is missing, or a column that it needs is.
        """
        if len(features) != len(power_share):
            raise ValueError(f"{self}: {len(features)} rows of features, but {len(power_share)} of power")
        if not len(features) and self.needs_history:
            raise ValueError(f"{self}: no row to learn from")
        share = power_share.to_numpy(dtype=np.float64, na_value=np.nan)
        if not np.isfinite(share).all():
            raise ValueError(f"{self}: {int((~np.isfinite(share)).sum())} of {len(share)} powers are missing")
        self._need(features)
        self._fit(features, share)
        self._fitted = True
        return self

    def predict(self, features: pd.DataFrame) -> Array:
        """Quantiles of power as shares of capacity: one row per row of ``features``, one column per level.

        They rise along the levels and lie in 0..1: sorting repairs crossed quantiles (Chernozhukov, Fernández-Val and
        Galichon, Econometrica 78, 2010), and power beyond nothing or capacity is not forecast.

        Raises:
            ValueError: if a column that it needs is missing.
            RuntimeError: if it has not learnt yet.
        """
        if not self._fitted:
            raise RuntimeError(f"{self}: has not learnt yet; call fit or load first")
        self._need(features)
        if features.empty:
            return np.empty((0, len(self.levels)))
        return np.sort(np.clip(self._predict(features), 0.0, 1.0), axis=1)

    def contributions(self, features: pd.DataFrame) -> Contributions | None:
        """By how much each feature moved the median of each row; none where the family has no attributions."""
        return None

    @classmethod
    def with_cards(cls, params: Mapping[str, Any], farms: Sequence[Farm]) -> dict[str, Any]:
        """Settings with what the family takes from the cards of the farms that it is to forecast: most take nothing."""
        return dict(params)

    @property
    def needs_history(self) -> bool:
        """Whether it must be given rows to learn from: what needs none forecasts a farm from its first day."""
        return True

    @property
    def needs_shared(self) -> list[str]:
        """Names of models of the whole fleet that must be attached before it predicts; they are not saved with it."""
        return []

    def attach_shared_model(self, name: str, model: Forecaster) -> None:
        """Attach one of the models that `needs_shared` names; `ValueError` for another."""
        if name not in self.needs_shared:
            raise ValueError(f"{self}: needs no shared model called '{name}'")
        self.shared_models[name] = model

    def save(self, folder: Path) -> None:
        """Write the fitted model into ``folder``: `MODEL_FILE` and native artefacts beside it.

        Raises:
            RuntimeError: if it has not learnt yet.
        """
        if not self._fitted:
            raise RuntimeError(f"{self}: has not learnt yet; there is nothing to save")
        folder.mkdir(parents=True, exist_ok=True)
        self._save(folder)
        card = {
            "format": FORMAT,
            "type": self.type_name,
            "levels": self.levels,
            "seed": self.seed,
            "parameters": self.parameters.model_dump(mode="json"),
        }
        (folder / MODEL_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no model in ``folder``.
            ValueError: if the model there is of another type or layout.
        """
        card = read_model_card(folder)
        if card["type"] != cls.type_name:
            raise ValueError(f"{folder}: holds a model of type '{card['type']}', not '{cls.type_name}'")
        model = cls(card["levels"], card["seed"], cls.parameters_type.model_validate(card["parameters"]))
        model._load(folder)
        model._fitted = True
        return model

    @property
    def needed_columns(self) -> list[str]:
        """Feature columns without which it cannot work; their values may be missing."""
        return list(self.needed)

    @abstractmethod
    def _fit(self, features: pd.DataFrame, share: Array) -> None:
        """Learn; ``features`` have the needed columns and are not to be changed."""

    @abstractmethod
    def _predict(self, features: pd.DataFrame) -> Array:
        """Quantiles, one column per level, not yet sorted or clipped."""

    def _save(self, folder: Path) -> None:
        """Write what was learnt; a family whose library has a format of its own adds its files."""
        arrays: dict[str, NDArray[Any]] = {}
        models: dict[str, list[str]] = {}
        plain: dict[str, Any] = {}
        for name in self._learnt_attributes():
            value = getattr(self, name)
            # A single one is stored under an empty key.
            entries = value if isinstance(value, dict) else {"": value}
            if entries and all(isinstance(entry, np.ndarray) for entry in entries.values()):
                arrays |= {f"{name}.{key}": entry for key, entry in entries.items()}
            elif entries and all(isinstance(entry, Forecaster) for entry in entries.values()):
                models[name] = list(entries)
                for number, entry in enumerate(entries.values()):
                    entry.save(_place(folder, name, number))
            else:
                plain[name] = value
        if arrays:
            save_arrays(folder / ARRAYS_FILE, arrays)
        text = json.dumps({"models": models, "plain": plain}, indent=2)
        (folder / LEARNT_FILE).write_text(text + "\n", encoding="utf-8")

    def _load(self, folder: Path) -> None:
        """Read what `_save` wrote."""
        from wind_kedro.models.registry import load_model

        stored = json.loads((folder / LEARNT_FILE).read_text(encoding="utf-8"))
        arrays = load_arrays(folder / ARRAYS_FILE) if (folder / ARRAYS_FILE).is_file() else {}
        for name in self._learnt_attributes():
            # The names of folders follow from the attribute, never from the file.
            keys = enumerate(stored["models"].get(name, []))
            entries: dict[str, Any] = {key: load_model(_place(folder, name, number)) for number, key in keys}
            entries |= {path.removeprefix(f"{name}."): array for path, array in arrays.items() if path.startswith(f"{name}.")}
            single = entries[""] if set(entries) == {""} else entries
            setattr(self, name, single if entries else stored["plain"][name])

    @classmethod
    def _learnt_attributes(cls) -> list[str]:
        return [name for base in reversed(cls.__mro__) for name in vars(base).get("learnt", ())]

    def _need(self, features: pd.DataFrame) -> None:
        missing = [column for column in self.needed_columns if column not in features]
        if missing:
            raise ValueError(f"{self}: no feature column {', '.join(missing)}")

    def __str__(self) -> str:
        return f"model '{self.type_name}'"


def _place(folder: Path, attribute: str, number: int) -> Path:
    return folder / f"{attribute.strip('_')}_{number}"


def read_model_card(folder: Path) -> dict[str, Any]:
    """The content of `MODEL_FILE` in ``folder``: type, levels, seed, parameters.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another layout.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so there is no model in this folder")
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if card.get("format") != FORMAT:
        raise ValueError(f"{path}: layout {card.get('format')}, but this version reads {FORMAT}; train the model again")
    return card


def numbers(features: pd.DataFrame, column: str) -> Array:
    """A feature column as floats, missing values as not-a-number."""
    return features[column].to_numpy(dtype=np.float64, na_value=np.nan)


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as ``.npz``."""
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays of a ``.npz``; refuses pickled ones, which could run code."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
