"""Scope: what is learnt once over all farms of a product, what of each farm alone, and how both meet in a farm's model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet
from wind_kedro.compute import Mapped, Workers, map_farms
from wind_kedro.datasets.derived import Derived, portions, rows_of
from wind_kedro.failures import reason
from wind_kedro.models.base import Forecaster
from wind_kedro.models.ensembles.hand_over import FleetPart, HandOver, HandOverParameters, learn_from_fleet
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import KEYS, feature_matrix, known_at
from wind_kedro.pipelines.training.settings import Training

#: Product, candidate, and the moment as of which was learnt.
PartKey = tuple[str, str, pd.Timestamp]
#: Product, entity and candidate.
FitKey = tuple[str, str, str]
#: Of a product's farms at most this share is forecast as if it were new: the others are to be a fleet still.
_JUDGED_SHARE = 1 / 3
_SECONDS_PER_DAY = 86_400


def fleet_parts(
    model_input: Derived | pd.DataFrame,
    wanted: Iterable[PartKey],
    fleet: Fleet,
    training: Training,
    workers: Workers,
    min_train_days: float = 0,
    without: tuple[pd.Timestamp, pd.Timestamp] | None = None,
) -> Mapped[PartKey, FleetPart]:
    """What candidates learn over all farms of a product as of a time: with rows whose outcome was known then.

    Memory is bounded whatever the size of the fleet: each farm gives an equal share of ``fleet_rows``, drawn by the seed,
    and a few farms all of theirs, which a hand-over judges. Candidates that look at one farm alone are left out, and so is a
    time with less than ``min_train_days`` of history of the whole fleet. Issues between the times of ``without`` are left out.
    """
    keys = [key for key in dict.fromkeys(wanted) if training.candidates[key[1]].fleet_members is not None]
    samples = _Samples(model_input, {(product_id, start) for product_id, _, start in keys}, training, without)
    tasks, seed = {}, training.seed
    judging: dict[PartKey, list[str]] = {}
    for product_id, name, start in keys:
        first = samples.first(product_id, start)
        if first is None or start - first < pd.Timedelta(days=min_train_days):
            continue
        config = training.candidates[name]
        count = HandOverParameters.model_validate(config.params).judged_farms if config.hands_over else 0
        judging[product_id, name, start] = _judged(samples.entities(product_id, start), count, seed) if count else []
    whole = {(key[0], key[2]): set[str]() for key in judging}
    for (product_id, _, start), farms in judging.items():
        whole[product_id, start].update(farms)
    pools, histories = samples.read(whole)
    for (product_id, name, start), farms in judging.items():
        config, product = training.candidates[name], fleet.product(product_id)
        parameters = HandOverParameters.model_validate(config.params) if config.hands_over else None
        judged = {farm: (histories[product_id, start, farm], fleet.farms_of(farm)) for farm in farms}
        given = (config.fleet_members, pools[product_id, start], judged, product.quantile_levels, seed, parameters)
        tasks[product_id, name, start] = (*given, len(product.members) == 1)
    return map_farms(learn_from_fleet, tasks, workers=workers, label="fleet")


class _Samples:
    """Of model input the rows that models of the fleet learn from, read entity by entity: first how many there are, then those
    that are drawn.
    """

    def __init__(
        self,
        model_input: Derived | pd.DataFrame,
        wanted: Collection[tuple[str, pd.Timestamp]],
        training: Training,
        without: tuple[pd.Timestamp, pd.Timestamp] | None,
    ) -> None:
        self._model_input, self._training, self._without = model_input, training, without
        #: Issues of the rows that were known, by product and time, then by entity in order of their names.
        self._known: dict[tuple[str, pd.Timestamp], dict[str, pd.Series]] = {key: {} for key in wanted}
        for entities in portions(model_input) if wanted else []:
            for key, entity_id, rows in self._rows(entities, ["product_id", "entity_id", "issued_at", "target_available_at"]):
                if len(rows):
                    self._known[key][entity_id] = rows["issued_at"]
        self._known = {key: dict(sorted(counts.items())) for key, counts in self._known.items()}

    def first(self, product_id: str, start: pd.Timestamp) -> pd.Timestamp | None:
        """The first issue of a product that was known; none: there was none."""
        return min((issued_at.min() for issued_at in self._known[product_id, start].values()), default=None)

    def entities(self, product_id: str, start: pd.Timestamp) -> list[str]:
        """Those that had rows, in order of their names."""
        return list(self._known[product_id, start])

    def read(
        self, whole: Mapping[tuple[str, pd.Timestamp], Collection[str]]
    ) -> tuple[dict[tuple[str, pd.Timestamp], pd.DataFrame], dict[tuple[str, pd.Timestamp, str], pd.DataFrame]]:
        """Samples by product and time, and all rows of some entities.

        Args:
            whole: by product and time the entities of which all rows are wanted.
        """
        places = {
            key: drawn_places(
                self._known[key], self._training.fleet_rows, self._training.seed, self._training.fleet_half_life_days
            )
            for key in whole
        }
        drawn: dict[tuple[str, pd.Timestamp], dict[str, pd.DataFrame]] = {key: {} for key in whole}
        histories = {}
        wanted = {entity_id for key in whole for entity_id in places[key]}
        for entities in portions(self._model_input, wanted) if wanted else []:
            for key, entity_id, rows in self._rows(entities):
                if key not in whole or rows.empty:
                    continue
                chosen = places[key][entity_id]
                drawn[key][entity_id] = rows if chosen is None else rows.iloc[chosen].copy()
                if entity_id in whole[key]:
                    histories[*key, entity_id] = rows
        return {key: _pooled(own) for key, own in drawn.items()}, histories

    def _rows(
        self, entities: Collection[str], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[tuple[str, pd.Timestamp], str, pd.DataFrame]]:
        """Rows that were known, by product and time, and entity."""
        table = rows_of(self._model_input, entities, columns)
        if self._without is not None:
            first, last = self._without
            table = table[(table["issued_at"] < first) | (table["issued_at"] > last)]
        for (product_id, entity_id), rows in table.groupby(["product_id", "entity_id"]):
            for key in self._known:
                if key[0] == product_id:
                    yield key, str(entity_id), known_at(rows, key[1])


def drawn_places(
    issued_at: Mapping[str, pd.Series], rows: int, seed: int, half_life_days: float | None = None
) -> dict[str, NDArray[np.intp] | None]:
    """Which of the rows of each entity are drawn, an equal share of so many of each; none: all of them.

    Args:
        issued_at: of the rows of each entity; their order is that of the draws.
        rows: of all entities together, at most.
        seed: of the draws.
        half_life_days: rows so many days older than the newest of the entity are drawn half as often; none: all alike.
    """
    each, rng = max(1, rows // max(len(issued_at), 1)), np.random.default_rng(seed)
    places: dict[str, NDArray[np.intp] | None] = {}
    for name, issues in issued_at.items():
        weights = None
        if half_life_days is not None:
            age_days = (issues.max() - issues).dt.total_seconds().to_numpy() / _SECONDS_PER_DAY
            weights = 0.5 ** (age_days / half_life_days)
            weights /= weights.sum()
        drawn = None if len(issues) <= each else rng.choice(len(issues), each, replace=False, p=weights)
        places[name] = None if drawn is None else np.sort(drawn).astype(np.intp)
    return places


def sample_of_farms(table: pd.DataFrame, rows: int, seed: int, half_life_days: float | None = None) -> pd.DataFrame:
    """Of each entity an equal share of so many rows, drawn by the seed (`drawn_places`); in order of issue, then interval."""
    farms = {str(name): own for name, own in table.groupby("entity_id")}
    places = drawn_places({name: own["issued_at"] for name, own in farms.items()}, rows, seed, half_life_days)
    return _pooled({name: own if (at := places[name]) is None else own.iloc[at] for name, own in farms.items()})


def _pooled(farms: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    pool = pd.concat([own for _, own in sorted(farms.items())])
    return pool.sort_values(["issued_at", "valid_at", "entity_id"], kind="stable", ignore_index=True)


def _judged(farms: Sequence[str], count: int, seed: int) -> list[str]:
    """The farms that are forecast as if they were new, of farms in order of their names."""
    number = max(1, min(count, int(len(farms) * _JUDGED_SHARE)))
    return [str(farm) for farm in np.random.default_rng(seed).permutation(list(farms))[:number]]


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
    model_input: Derived | pd.DataFrame,
    wanted: Iterable[FitKey],
    fleet: Fleet,
    training: Training,
    workers: Workers,
    at: pd.Timestamp,
) -> Mapped[FitKey, Forecaster]:
    """A fitted model for each product, entity and candidate of ``wanted``, with all that was known.

    A model of the fleet is fitted once, and is one and the same object in all who have it or need it. An entity may have
    no row yet, where its candidate needs no history.
    """
    wanted = list(dict.fromkeys(wanted))
    learnt = fleet_parts(model_input, [(product_id, name, at) for product_id, _, name in wanted], fleet, training, workers)
    parts = learnt.results
    found: dict[FitKey, Forecaster] = {}
    failures: dict[FitKey, str] = {}
    own = []
    for key in wanted:
        part = parts.get((key[0], key[2], at))
        if training.candidates[key[2]].scope == "fleet" and part is not None:
            found[key] = next(iter(part.models.values()))
        else:
            own.append(key)
    names = {entity_id for _, entity_id, _ in own}
    groups = portions(model_input, names) if names else []
    # Those without a row are fitted too.
    without = sorted(names - {entity_id for group in groups for entity_id in group})
    for entities in [*groups, without] if without else groups:
        table = rows_of(model_input, entities)
        rows = {(str(product_id), str(entity_id)): given for (product_id, entity_id), given in table.groupby(KEYS[:2])}
        tasks = {}
        for key in (key for key in own if key[1] in set(entities)):
            product_id, entity_id, name = key
            config = training.candidates[name].of_farms(fleet.farms_at(entity_id, at))
            part = parts.get((product_id, name, at))
            # The fleet's models stay here: they are attached afterwards, one object to all.
            fleet_part = None if part is None else part.without_models()
            levels = fleet.product(product_id).quantile_levels
            tasks[key] = (rows.get(key[:2], table.iloc[:0]), config, name, levels, training.seed, fleet_part)
        mapped = map_farms(fit_candidate, tasks, workers=workers, label="fit")
        failures |= mapped.failures
        for key, model in mapped.results.items():
            part_key = (key[0], key[2], at)
            try:
                found[key] = attach_shared_models(model, parts.get(part_key))
            except Exception as error:  # a model that the fleet shares could not be learnt: its reason is the farm's
                failures[key] = learnt.failures.get(part_key, reason(error))
    return Mapped({key: found[key] for key in wanted if key in found}, failures)
