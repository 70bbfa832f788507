"""Whose turn it is: which entities a training trains, and which candidates it tries for them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.governance.champions import champion_models, version_in_force
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.pipelines.training.made_from import releases, settings_digest
from wind_kedro.pipelines.training.settings import Training

_ENTITY = ["product_id", "entity_id"]


def take_turns(
    admissions: pd.DataFrame,
    promotions_before: pd.DataFrame,
    model_versions_before: RegisteredModels,
    overrides: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    training: Training,
) -> pd.DataFrame:
    """One row per product, entity and candidate of ``admissions`` that this training deals with.

    With ``training.refit_every_days`` an entity has its turn on one day in so many, found from its name. At once are due entities
    without a champion, those whose champion's settings have changed, and those about which people decided since the last
    training. A candidate with ``try_every_days`` is tried on one day in so many where it is not the champion; if an entity had
    no other candidate, all of its candidates are tried.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    earlier = promotions_before[promotions_before["promoted_at"] < training_time]
    trained = earlier.loc[earlier["action"] == "train", "promoted_at"]
    since = None if trained.empty else pd.Timestamp(trained.max())
    champions = champion_models(promotions_before, training_time)
    table = admissions.reset_index(drop=True)
    keys: list[tuple[str, str]] = list(zip(table["product_id"], table["entity_id"], strict=True))
    entities = list(dict.fromkeys(keys))
    due = set(entities)
    if training.refit_every_days is not None:
        decided = overrides[overrides["effective_at"] <= training_time]
        decided = decided if since is None else decided[decided["effective_at"] > since]
        at_once = _changed(champions, earlier, model_versions_before, fleet, training, training_time)
        at_once |= {key for key in entities if key not in champions or _is_about(decided, *key)}
        due = at_once | {key for key in entities if has_turn(key, training.refit_every_days, since, training_time)}
    tried = [
        key in due and (champions.get(key) == name or _is_tried(key, name, since, training_time, training))
        for key, name in zip(keys, table["model"], strict=True)
    ]
    may = table["admitted"] & np.array(tried, dtype=bool)
    some = set(table.loc[may, _ENTITY].itertuples(index=False, name=None))
    kept = [key in due and (is_tried or key not in some) for key, is_tried in zip(keys, tried, strict=True)]
    return table.loc[kept, [*_ENTITY, "model"]].reset_index(drop=True)


def has_turn(key: tuple[str, str], every_days: int, since: pd.Timestamp | None, until: pd.Timestamp) -> bool:
    """Whether the day of an entity, one in so many, is that of ``until``, or after that of ``since`` (none: it is the first)."""
    last = until.floor("D").toordinal()
    first = last if since is None else min(since.floor("D").toordinal() + 1, last)
    slot = zlib.crc32("/".join(key).encode()) % every_days
    # The last day of the entity that is not after `until`.
    return bool(last - (last - slot) % every_days >= first)


def due_entities(turns: pd.DataFrame | None, admissions: pd.DataFrame) -> set[tuple[str, str]]:
    """Product and entity of those whose turn it is; without turns, of all."""
    table = admissions if turns is None else turns
    return set(table[_ENTITY].drop_duplicates().itertuples(index=False, name=None))


def _is_tried(key: tuple[str, str], name: str, since: pd.Timestamp | None, until: pd.Timestamp, training: Training) -> bool:
    every_days = training.candidates[name].try_every_days
    return every_days is None or has_turn(key, every_days, since, until)


def _changed(
    champions: Mapping[tuple[str, str], str],
    promotions: pd.DataFrame,
    versions: RegisteredModels,
    fleet: Fleet,
    training: Training,
    training_time: pd.Timestamp,
) -> set[tuple[str, str]]:
    """Entities whose model in force was fitted with other settings than its candidate now has, or is not known."""
    version = version_in_force(promotions)
    members: Mapping[tuple[str, str], Member] = {}
    try:
        members = members if version is None else versions.version(version).members
    except NoModelError:  # nothing of it can be taken over
        members = {}
    at = training_time + pd.Timedelta(microseconds=1)
    installed, changed = releases(), set()
    for (product_id, entity_id), name in champions.items():
        member = members.get((product_id, entity_id))
        made_from = "" if member is None or name not in training.candidates else member.made_from
        if not made_from or not made_from.startswith(
            settings_digest((product_id, entity_id, name), fleet, training, at, installed)
        ):
            changed.add((product_id, entity_id))
    return changed


def _is_about(overrides: pd.DataFrame, product_id: str, entity_id: str) -> bool:
    return bool(((overrides["entity_id"] == entity_id) & overrides["product_id"].isin(["", product_id])).any())
