"""Scope: what is learnt once over all farms of a product, what of each farm alone, and how both meet in a farm's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.compute import Mapped, Workers, map_farms
from wind_kedro.failures import reason
from wind_kedro.models.base import Forecaster
from wind_kedro.models.ensembles.hand_over import FleetPart, HandOver, HandOverParameters, learn_from_fleet
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import KEYS, feature_matrix, known_at
from wind_kedro.pipelines.training.settings import Training

#: Product, candidate, and the moment as of which was learnt.
PartKey = tuple[str, str, pd.Timestamp]
#: Of a product's farms at most this share is forecast as if it were new: the others are to be a fleet still.
_JUDGED_SHARE = 1 / 3


def fleet_parts(
    model_input: pd.DataFrame,
    wanted: Iterable[PartKey],
    fleet: Fleet,
    training: Training,
    workers: Workers,
    min_train_days: float = 0,
) -> Mapped[PartKey, FleetPart]:
    """What candidates learn over all farms of a product as of a time: with rows whose outcome was known then.

    Memory is bounded whatever the size of the fleet: each farm gives an equal share of ``fleet_rows``, drawn by the seed,
    and a few farms all of theirs, which a hand-over judges. Candidates that look at one farm alone are left out, and so is a
    time with less than ``min_train_days`` of history of the whole fleet.
    """
    tasks, seed = {}, training.seed
    for product_id, name, start in dict.fromkeys(wanted):
        config = training.candidates[name]
        members = config.fleet_members
        if members is None:
            continue
        known = known_at(model_input[model_input["product_id"] == product_id], start)
        if known.empty or start - known["issued_at"].min() < pd.Timedelta(days=min_train_days):
            continue
        parameters = HandOverParameters.model_validate(config.params) if config.hands_over else None
        pool = sample_of_farms(known, training.fleet_rows, seed)
        judged = {} if parameters is None else _judged(known, parameters.judged_farms, fleet, seed)
        product = fleet.product(product_id)
        given = (members, pool, judged, product.quantile_levels, seed, parameters, len(product.members) == 1)
        tasks[product_id, name, start] = given
    return map_farms(learn_from_fleet, tasks, workers=workers, label="fleet")


def sample_of_farms(table: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Of each entity an equal share of so many rows, drawn by the seed; in order of issue, then interval."""
    farms = dict(iter(table.groupby("entity_id")))
    each = max(1, rows // len(farms))
    rng = np.random.default_rng(seed)
    drawn = [own if len(own) <= each else own.iloc[np.sort(rng.choice(len(own), each, replace=False))] for own in farms.values()]
    return pd.concat(drawn).sort_values(["issued_at", "valid_at", "entity_id"], kind="stable", ignore_index=True)


def _judged(known: pd.DataFrame, count: int, fleet: Fleet, seed: int) -> dict[str, tuple[pd.DataFrame, Sequence[Farm]]]:
    farms = sorted(known["entity_id"].unique())
    drawn = np.random.default_rng(seed).permutation(farms)[: max(1, min(count, int(len(farms) * _JUDGED_SHARE)))]
    return {str(farm): (known[known["entity_id"] == farm], fleet.farms_of(str(farm))) for farm in drawn}


def fit_candidate(
    table: pd.DataFrame, config: ModelConfig, name: str, levels: list[float], seed: int, part: FleetPart | None = None
) -> Forecaster:
    """The candidate, fitted with these rows; models of the fleet are in ``part``, and still to be attached to a hand-over."""
    if config.scope == "fleet" and part is not None:
        return next(iter(part.models.values()))
    known = feature_matrix(table)
    # A fitted model looks for its own columns: what it never saw it does not ask for.
    known = known[config.columns_of(known.columns)]
    model = build(name, config, levels, seed)
    if isinstance(model, HandOver):
        model.with_fleet(part or FleetPart())
        known = known.assign(valid_at=table["valid_at"])
    return model.fit(known, table["power_share"])


def attach_shared_models(model: Forecaster, part: FleetPart | None) -> Forecaster:
    """The model, with the shared models that it needs."""
    for name in model.needs_shared:
        model.attach_shared_model(name, (part or FleetPart()).models[name])
    return model


def forecast_ahead(
    past: pd.DataFrame,
    ahead: pd.DataFrame,
    config: ModelConfig,
    name: str,
    levels: list[float],
    seed: int,
    part: FleetPart | None,
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Keys of the rows ahead, and their quantiles as shares by a candidate fitted with past rows."""
    model = attach_shared_models(fit_candidate(past, config, name, levels, seed, part), part)
    return ahead[[*KEYS, "lead_minutes", "weather_run_at"]], model.predict(feature_matrix(ahead))


def fit_candidates(
    model_input: pd.DataFrame,
    wanted: Mapping[tuple[str, str], str],
    fleet: Fleet,
    training: Training,
    workers: Workers,
    at: pd.Timestamp,
) -> Mapped[tuple[str, str], Forecaster]:
    """A fitted model for each product and entity of ``wanted``, with all that was known.

    A model of the fleet is fitted once, and is one and the same object in all who have it or need it. An entity may have
    no row yet, where its candidate needs no history.
    """
    named = [(product_id, name, at) for (product_id, _), name in wanted.items()]
    learnt = fleet_parts(model_input, named, fleet, training, workers)
    parts = learnt.results
    groups = dict(iter(model_input.groupby(["product_id", "entity_id"])))
    tasks = {}
    shared: dict[tuple[str, str], Forecaster] = {}
    for (product_id, entity_id), name in wanted.items():
        config = training.candidates[name].of_farms(fleet.farms_at(entity_id, at))
        part = parts.get((product_id, name, at))
        if config.scope == "fleet" and part is not None:
            shared[product_id, entity_id] = next(iter(part.models.values()))
            continue
        table = groups.get((product_id, entity_id), model_input.iloc[:0])
        levels = fleet.product(product_id).quantile_levels
        # The fleet's models stay here: they are attached afterwards, one object to all.
        fleet_part = None if part is None else part.without_models()
        tasks[product_id, entity_id] = (table, config, name, levels, training.seed, fleet_part)
    mapped = map_farms(fit_candidate, tasks, workers=workers, label="fit") if tasks else Mapped()
    attached, failures = {}, dict(mapped.failures)
    for key, model in mapped.results.items():
        part_key = (key[0], wanted[key], at)
        try:
            attached[key] = attach_shared_models(model, parts.get(part_key))
        except Exception as error:  # a model that the fleet shares could not be learnt: its reason is the farm's
            failures[key] = learnt.failures.get(part_key, reason(error))
    return Mapped({key: (shared | attached)[key] for key in wanted if key in shared or key in attached}, failures)
