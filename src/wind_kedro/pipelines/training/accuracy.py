"""Accuracy of the chosen model by cross-validation, in the backtest and as operated.

Cross-validation, as it is usually done, trains on data before and after the days that it forecasts, and leaves out issues without
weather. The backtest trains on what was known, refits as seldom as in operation, and reads the weather runs that were available.
In operation fallbacks forecast the intervals that no run reaches, and their errors count too. All are before calibration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.compute import Rows, Shared, Workers, map_farms
from wind_kedro.contracts.training import Accuracy
from wind_kedro.datasets.derived import Derived, days_of, portions, rows_of
from wind_kedro.evaluation.scores import interval_losses
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table, reason
from wind_kedro.models.ensembles.hand_over import FleetPart
from wind_kedro.models.tables import Shares, by_entity, forecasts_of, is_known
from wind_kedro.pipelines.training.backtest import KEY
from wind_kedro.pipelines.training.fitting import fleet_parts, forecast_ahead
from wind_kedro.pipelines.training.made_from import digest_sums, settings_of
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, mixed, number_of

#: Increase it if the accuracy of the same forecasts changes.
VERSION = 2

CROSS_VALIDATED, BACKTESTED, OPERATIONAL = "cross_validated", "backtested", "operational"


def compare_accuracy(
    model_input: Derived | pd.DataFrame,
    features: Derived | pd.DataFrame,
    backtest_model_forecasts: Derived,
    backtest_folds: pd.DataFrame,
    choices: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    training: Training,
    scoring: Scoring,
    workers: Workers,
    turns: pd.DataFrame | None = None,
    before: Derived | None = None,
) -> Recipe:
    """One row per product and entity: the deciding score of its chosen model cross-validated, backtested, and as operated.

    The first two are of the same intervals; the third has besides those that no weather run reached. Entities that were not
    backtested have no row; without ``backtest.cross_validation_blocks`` nobody has. Those that are not in ``turns`` keep the row
    that they have in ``before``.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    folds = dict(iter(backtest_folds.groupby(KEY)))
    chosen = {(row["product_id"], row["entity_id"]): row["model"] for row in choices.to_dict("records")}
    compares = training.backtest.cross_validation_blocks > 0
    chosen = {key: name for key, name in chosen.items() if compares and (*key, name) in folds}
    first = backtest_folds["fold_begin"].min().tz_localize(None)

    @cache
    def part_without(product_id: str, name: str, first: pd.Timestamp, last: pd.Timestamp) -> FleetPart | None:
        """What a candidate learns over all farms where a block of issues is left out of all of them; none: it looks at one."""
        if training.candidates[name].fleet_members is None:
            return None
        key = (product_id, name, training_time)
        return fleet_parts(model_input, [key], fleet, training, workers, without=(first, last)).results.get(key)

    def compared(keys: Sequence[tuple[str, str]], entities: Collection[str]) -> list[dict[str, Any]]:
        """Rows of some products and entities; why some of them cannot be compared is in the faults of the recipe."""
        tables = by_entity(rows_of(model_input, entities))
        known = rows_of(features, entities, first=first, last=training_time.tz_localize(None))
        due = by_entity(known[(known["issued_at"] <= training_time) & known["wind_speed_100m_ms"].isna()])
        observed = rows_of(observations, entities, first=first.floor("D"))
        blocks: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        windless: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        for key in keys:
            config = training.candidates[chosen[key]].of_farms(fleet.farms_at(key[1], training_time))
            given = (config, chosen[key], fleet.product(key[0]).quantile_levels, training.seed)
            own, table = folds[*key, chosen[key]], tables[key]
            span = table[(table["issued_at"] >= own["fold_begin"].min()) & (table["issued_at"] < own["fold_end"].max())]
            # Each block is a fit of all the others: the blocks of one farm, too, are worked side by side.
            issues = np.array_split(np.sort(span["issued_at"].unique()), training.backtest.cross_validation_blocks)
            for number, block in enumerate(issues):
                inside = table["issued_at"].isin(block)
                fleet_part = part_without(key[0], chosen[key], block.min(), block.max())
                blocks[*key, number] = (Rows.where(table, ~inside), Rows.where(table, inside), *given, Shared(fleet_part))
            for number, (past, ahead) in enumerate(_windless(table, due.get(key), own)):
                if (name := _stand_in(training, key[0])) is not None:
                    windless[*key, number] = (past, ahead, training.candidates[name], name, *given[2:], None)
        of_blocks = map_farms(forecast_ahead, blocks, workers=workers, label="accuracy")
        stood_in = map_farms(forecast_ahead, windless, workers=workers, label="fallbacks")
        recipe.faults.update({key[:2]: why for key, why in (of_blocks.failures | stood_in.failures).items()})
        backtested = rows_of(backtest_model_forecasts, entities).drop(columns="fold_begin")
        rows: list[dict[str, Any]] = []
        for key in keys:
            if key in recipe.faults:
                continue
            product = fleet.product(key[0])
            mine = (backtested["product_id"] == key[0]) & (backtested["entity_id"] == key[1])
            own = backtested[mine & (backtested["model"] == chosen[key])]
            try:
                parts = {
                    kind: forecasts_of(
                        [Shares(*forecast, kind, "backtest") for of, forecast in mapped.results.items() if of[:2] == key],
                        product,
                        fleet,
                    )
                    for kind, mapped in ((CROSS_VALIDATED, of_blocks), (OPERATIONAL, stood_in))
                }
                rows += _compared(parts, own, observed, product, fleet, training_time, scoring)
            except Exception as error:  # the other entities are compared all the same
                recipe.faults[key] = reason(error)
        return rows

    def work(part: pd.DataFrame) -> pd.DataFrame:
        keys = list(part[["product_id", "entity_id"]].itertuples(index=False, name=None))
        rows: list[dict[str, Any]] = []
        for entities in portions(model_input, {entity_id for _, entity_id in keys}):
            rows += compared([key for key in keys if key[1] in set(entities)], entities)
        return Accuracy.table(rows)

    wanted = _wanted(
        chosen, model_input, features, backtest_model_forecasts, observations, fleet, training_time, training, scoring
    )
    recipe = Recipe(_with_waiting(wanted, before if compares else None, turns), work)
    return recipe


def _with_waiting(wanted: pd.DataFrame, before: Derived | None, turns: pd.DataFrame | None) -> pd.DataFrame:
    """Shards that are wanted, and the stored ones of those whose turn it is not."""
    if turns is None or before is None:
        return wanted
    keys = KEY[:2]
    own = before.days[before.days["fault"] == ""].merge(turns[keys].drop_duplicates(), on=keys, how="left", indicator=True)
    waiting = own.loc[own["_merge"] == "left_only", wanted.columns]
    # Numbers of an empty table have no type: joined with these, those of the others would be rounded.
    return pd.concat([table for table in (wanted, waiting) if len(table)], ignore_index=True) if len(waiting) else wanted


def _wanted(
    chosen: Mapping[tuple[str, str], str],
    model_input: Derived | pd.DataFrame,
    features: Derived | pd.DataFrame,
    backtest_model_forecasts: Derived,
    observations: Derived | pd.DataFrame,
    fleet: Fleet,
    training_time: pd.Timestamp,
    training: Training,
    scoring: Scoring,
) -> pd.DataFrame:
    """One row per product and entity, with what its accuracy is computed from."""
    if not chosen:
        keys = ["product_id", "entity_id"]
        return pd.DataFrame({name: pd.Series(dtype="str") for name in keys}).assign(day=NO_DAY, step=0, fingerprint=0, rows=0)
    days = days_of(model_input, KEY[:2], "issued_at")
    sums, counts = digest_sums(days, KEY[:2]), days.groupby(KEY[:2])["rows"].sum()
    of_products: dict[str, Any] = {}
    for (product_id, _), number in sums.items():
        of_products[product_id] = np.sum([of_products.get(product_id, np.uint64(0)), number], dtype=np.uint64)
    until = training_time.tz_localize(None)
    backtested = digest_sums(backtest_model_forecasts.days, KEY, until)
    issued = digest_sums(days_of(features, KEY[:2], "issued_at"), KEY[:2], until)
    observed = digest_sums(days_of(observations, ["entity_id"], "valid_at"), ["entity_id"], until)
    common = [training_time.isoformat(), training.seed, training.backtest.cross_validation_blocks, training.fleet_rows]
    common += [scoring.rules, VERSION, *training.recency]
    rows = []
    for (product_id, entity_id), name in chosen.items():
        product, config = fleet.product(product_id), training.candidates[name]
        stand_in = _stand_in(training, product_id)
        settings = [name, settings_of(config.of_farms(fleet.farms_at(entity_id, training_time))), product, *common]
        settings += [fleet.market(product.market), stand_in, stand_in and settings_of(training.candidates[stand_in])]
        step = np.uint64(number_of(settings))
        of_fleet = np.uint64(0) if config.fleet_members is None else of_products[product_id]
        inputs = [sums[product_id, entity_id], of_fleet, backtested[product_id, entity_id, name]]
        inputs += [issued.get((product_id, entity_id), 0), observed.get((entity_id,), 0)]
        rows.append(
            {
                "product_id": product_id,
                "entity_id": entity_id,
                "day": until.floor("D"),
                "rows": int(counts[product_id, entity_id]) * training.backtest.cross_validation_blocks,
                "step": step,
                "fingerprint": mixed(step, *map(np.uint64, inputs))[()],
            }
        )
    return pd.DataFrame(rows)


def _windless(table: pd.DataFrame, unreached: pd.DataFrame | None, folds: pd.DataFrame) -> Iterator[tuple[Rows, pd.DataFrame]]:
    """What was known when a fold began, and the intervals in it that no weather run reached, of folds that have such."""
    if unreached is None:
        return
    for begin, end in folds[["fold_begin", "fold_end"]].itertuples(index=False, name=None):
        ahead = unreached[(unreached["issued_at"] >= begin) & (unreached["issued_at"] < end)]
        if len(ahead):
            yield Rows.where(table, is_known(table, begin)), ahead


def _stand_in(training: Training, product_id: str) -> str | None:
    """The first of the fallbacks that a product may have."""
    return next((name for name in training.fallbacks if training.candidates[name].is_for(product_id)), None)


def note_accuracy(accuracy: Derived, clock: Clock) -> pd.DataFrame:
    """One row per product and entity of which the accuracy could not be computed."""
    failures = []
    for row in accuracy.days[accuracy.days["fault"] != ""].to_dict("records"):
        key = (row["product_id"], row["entity_id"])
        message = f"{'/'.join(key)}: the accuracy of its model is not known: {row['fault']}"
        action = "nothing for the forecasts; see the failures of its backtest and fit"
        failures.append(Failure("accuracy", "accuracy_unknown", message, action, "warning", *key))
    return failures_table(failures, clock.as_of)


def _compared(
    parts: dict[str, pd.DataFrame],
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
    paired = pd.concat([parts[CROSS_VALIDATED], own.assign(model=BACKTESTED)], ignore_index=True)
    operated = pd.concat([own.assign(model=OPERATIONAL), parts[OPERATIONAL]], ignore_index=True)
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
        | {"as_of": training_time, "deciding_score": product.deciding_score}
        | scores
        | {
            "gap_share": scores[OPERATIONAL] / scores[CROSS_VALIDATED] - 1 if scores[CROSS_VALIDATED] else np.nan,
            "intervals": len(losses[1]),
            "fallback_share": 1 - len(own) / len(operated),
        }
    ]
