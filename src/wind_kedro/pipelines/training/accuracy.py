"""Accuracy of the chosen model by cross-validation, in the backtest and as operated.

Cross-validation, as it is usually done, trains on data before and after the days that it forecasts, and leaves out issues without
weather. The backtest trains on what was known, refits as seldom as in operation, and reads the weather runs that were available.
In operation fallbacks forecast the intervals that no run reaches, and their errors count too. All are before calibration.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers, map_farms
from wind_kedro.contracts.training import Accuracy
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.evaluation.scores import interval_losses
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table, reason
from wind_kedro.models.ensembles.hand_over import FleetPart
from wind_kedro.models.tables import forecast_rows, known_at
from wind_kedro.pipelines.training.fitting import fleet_parts, forecast_ahead
from wind_kedro.pipelines.training.nodes import by_entity
from wind_kedro.pipelines.training.settings import Training

CROSS_VALIDATED, BACKTESTED, OPERATIONAL = "cross_validated", "backtested", "operational"


def compare_accuracy(
    model_input: pd.DataFrame,
    features: Sliced | pd.DataFrame,
    backtest_model_forecasts: Derived | pd.DataFrame,
    backtest_folds: pd.DataFrame,
    choices: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    training: Training,
    scoring: Scoring,
    workers: Workers,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product and entity: the deciding score of its chosen model cross-validated, backtested, and as operated. And
    one row per product and entity for which it could not be computed.

    The first two are of the same intervals; the third has besides those that no weather run reached. Entities that were not
    backtested have no row; without ``backtest.cross_validation_blocks`` nobody has.
    """
    observations = frame_of(observations)
    backtested = frame_of(backtest_model_forecasts).drop(columns="fold_begin", errors="ignore")
    training_time = pd.Timestamp(clock.training_time(fleet))
    known = frame_of(features, last=training_time.tz_localize(None))
    tables, due = by_entity(model_input), by_entity(known[known["issued_at"] <= training_time])
    folds = dict(iter(backtest_folds.groupby(["product_id", "entity_id", "model"])))
    chosen: dict[tuple[str, str], str] = {}
    blocks: dict[tuple[str, str, int], tuple[Any, ...]] = {}
    windless: dict[tuple[str, str, int], tuple[Any, ...]] = {}

    @cache
    def part_without(product_id: str, name: str, first: pd.Timestamp, last: pd.Timestamp) -> FleetPart | None:
        """What a candidate learns over all farms where a block of issues is left out of all of them; none: it looks at one."""
        if training.candidates[name].fleet_members is None:
            return None
        rest = model_input[(model_input["issued_at"] < first) | (model_input["issued_at"] > last)]
        key = (product_id, name, training_time)
        return fleet_parts(rest, [key], fleet, training, workers).results.get(key)

    for choice in choices.to_dict("records"):
        key, name = (choice["product_id"], choice["entity_id"]), choice["model"]
        config = training.candidates[name].of_farms(fleet.farms_at(key[1], training_time))
        if not training.backtest.cross_validation_blocks or (*key, name) not in folds:
            continue
        levels = fleet.product(key[0]).quantile_levels
        chosen[key] = name
        own, table = folds[*key, name], tables[key]
        span = table[(table["issued_at"] >= own["fold_begin"].min()) & (table["issued_at"] < own["fold_end"].max())]
        # Each block is a fit of all the others: the blocks of one farm, too, are worked side by side.
        issues = np.array_split(np.sort(span["issued_at"].unique()), training.backtest.cross_validation_blocks)
        for number, block in enumerate(issues):
            inside, part = table["issued_at"].isin(block), part_without(key[0], name, block.min(), block.max())
            blocks[*key, number] = (table[~inside], table[inside], config, name, levels, training.seed, part)
        stand_in = next((other for other in training.fallbacks if training.candidates[other].is_for(key[0])), None)
        unreached = due[key][due[key]["wind_speed_100m_ms"].isna()]
        for number, fold in enumerate(own.to_dict("records")):
            ahead = unreached[(unreached["issued_at"] >= fold["fold_begin"]) & (unreached["issued_at"] < fold["fold_end"])]
            if len(ahead) and stand_in is not None:
                given = (known_at(table, fold["fold_begin"]), ahead, training.candidates[stand_in], stand_in)
                windless[*key, number] = (*given, levels, training.seed, None)
    of_blocks = map_farms(forecast_ahead, blocks, workers=workers, label="accuracy")
    stood_in = map_farms(forecast_ahead, windless, workers=workers, label="fallbacks")
    failed = {key[:2]: why for key, why in (of_blocks.failures | stood_in.failures).items()}
    rows = []
    for key, name in chosen.items():
        if key in failed:
            continue
        product = fleet.product(key[0])
        own = backtested[
            (backtested["product_id"] == key[0]) & (backtested["entity_id"] == key[1]) & (backtested["model"] == name)
        ]
        try:
            parts = {
                kind: [
                    forecast_rows(*part, product, fleet, model=kind, model_version="backtest")
                    for of, part in mapped.results.items()
                    if of[:2] == key
                ]
                for kind, mapped in ((CROSS_VALIDATED, of_blocks), (OPERATIONAL, stood_in))
            }
            rows += _compared(parts, own, observations, product, fleet, training_time, scoring)
        except Exception as error:  # the other entities are compared all the same
            failed[key] = reason(error)
    failures = []
    for key, why in failed.items():
        message = f"{key[0]}/{key[1]}: the accuracy of its model '{chosen[key]}' is not known: {why}"
        action = "nothing for the forecasts; see the failures of its backtest and fit"
        failures.append(Failure("accuracy", "accuracy_unknown", message, action, "warning", *key))
    return Accuracy.table(rows), failures_table(failures, clock.as_of)


def _compared(
    parts: dict[str, list[pd.DataFrame]],
    own: pd.DataFrame,
    observations: pd.DataFrame,
    product: Product,
    fleet: Fleet,
    training_time: pd.Timestamp,
    scoring: Scoring,
) -> list[dict[str, Any]]:
    """The row of one product and entity; none where one of the scores has no interval.

    ``parts`` are forecasts of its model cross-validated, and those of a fallback where no weather run arrived; ``own`` is its
    backtest.
    """
    paired = pd.concat([*parts[CROSS_VALIDATED], own.assign(model=BACKTESTED)], ignore_index=True)
    operated = pd.concat([own.assign(model=OPERATIONAL), *parts[OPERATIONAL]], ignore_index=True)
    losses = [
        interval_losses(table, observations, product, fleet.market(product.market), training_time, scoring.rules)
        for table in (paired, operated)
    ]
    score = pd.concat(losses).groupby("model")["loss"].mean()
    if not {CROSS_VALIDATED, BACKTESTED, OPERATIONAL} <= set(score.index):
        return []
    scores = {kind: float(score[kind]) for kind in (CROSS_VALIDATED, BACKTESTED, OPERATIONAL)}
    return [
        {name: own[name].iloc[0] for name in ("product_id", "entity_id", "model")}
        | {"deciding_score": product.deciding_score}
        | scores
        | {
            "gap_share": scores[OPERATIONAL] / scores[CROSS_VALIDATED] - 1 if scores[CROSS_VALIDATED] else np.nan,
            "intervals": len(losses[1]),
            "fallback_share": 1 - len(own) / len(operated),
        }
    ]
