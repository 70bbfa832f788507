"""Training: candidates are backtested as of each issue time, and only what they would have forecast counts.

A fold of the backtest refits every candidate at a moment with what had arrived by then, and forecasts the issues up to the next
refit; together the folds are what would have been issued. Cross-validation, which mixes past and future, is not used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.tiers import TIERS, Ready, reaches, ready_entities
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Scores
from wind_kedro.datasets.derived import Derived, days_of, entity_ids, frame_of, portions, rows_of
from wind_kedro.errors import WindKedroError
from wind_kedro.evaluation.scores import latest_versions, score_forecasts
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table, first_of, noting
from wind_kedro.governance.champions import champion_models
from wind_kedro.governance.overrides import learnable, standing
from wind_kedro.models.registry import ModelConfig
from wind_kedro.models.tables import by_entity
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.storage.fingerprints import Recipe, mixed, number_of, overlapping, spans_of

if TYPE_CHECKING:
    from ibis.expr.types import Table

logger = logging.getLogger(__name__)


#: Increase it if model input of the same features and observations changes.
VERSION = 1

_ENTITY = ["product_id", "entity_id"]


class NotEnoughHistoryError(WindKedroError):
    """There is too little history to train on."""


class NotReadyError(WindKedroError):
    """No farm's data allows any model."""


#: How many farms a message names: of a thousand, the others are in the table.
_NAMED = 3


def admit_candidates(
    readiness: Derived | pd.DataFrame, promotions_before: pd.DataFrame, fleet: Fleet, clock: Clock, training: Training
) -> pd.DataFrame:
    """One row per product, entity and candidate: may the entity have it, by what was known of its data at the training time?

    A candidate needs a tier (its ``tier``, else its family's). An entity of tier ``none`` gets no model, unless it is new, its
    weather known and nothing but its history missing: then it gets such as need none. The others go on. A hand-over is no
    candidate where nobody hands anything over: for the only entity of a product that may have a model of its own, unless it has
    the hand-over already.

    Raises:
        NotReadyError: if no entity may have any candidate; with the reasons of the first few.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    ready = ready_entities(frame_of(readiness), fleet, training_time)
    champions = champion_models(promotions_before, training_time)
    own = [config for config in training.candidates.values() if not config.hands_over]

    def is_over(product: Product, entity_id: str, name: str) -> bool:
        """Whether there is nothing to hand over, and a model of its own to be had."""
        grown_alone = len(fleet.modelled(product)) == 1 and ready[entity_id].tier == TIERS[-1]
        has_it = champions.get((product.id, entity_id)) == name
        return grown_alone and not has_it and any(config.is_for(product.id) for config in own)

    rows = [
        {
            "product_id": product.id,
            "entity_id": entity_id,
            "model": name,
            "needs": config.needs,
            "tier": ready[entity_id].tier,
            "admitted": _may_have(ready[entity_id], config),
            "needs_history": config.needs_history,
            "reason": ready[entity_id].reason,
        }
        for product in (fleet.products if training.products is None else map(fleet.product, training.products))
        for entity_id in fleet.modelled(product)
        for name, config in training.candidates.items()
        if config.is_for(product.id) and not (config.hands_over and is_over(product, entity_id, name))
    ]
    table = pd.DataFrame(rows)
    without = table.groupby("entity_id", sort=False).filter(lambda own: not own["admitted"].any())
    reasons = without.drop_duplicates("entity_id").set_index("entity_id")["reason"]
    for entity_id, why in reasons.items():
        logger.warning("%s is not trained: %s", entity_id, why)
    if not table["admitted"].any():
        listed = first_of((f"{entity_id}: {why}" for entity_id, why in reasons.items()), _NAMED)
        raise NotReadyError(f"nothing is ready to be trained as of {training_time:%Y-%m-%d %H:%M} UTC: {listed}")
    return table


def _may_have(ready: Ready, config: ModelConfig) -> bool:
    if ready.tier == "none" and not (ready.new and not config.needs_history):
        return False
    return reaches(ready.tier, config.needs)


def assemble_model_input(
    features: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    admissions: pd.DataFrame,
    overrides: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
) -> Recipe:
    """One row of features with the observed power, a share of available capacity, as known at the training time.

    Only of entities that may have a model, and without the issues that people left out. A shard is a product, an entity and a
    day of issue, made again where its features or the outcomes of its intervals changed.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    until = training_time.tz_localize(None)
    granularity = {product.id: product.granularity_minutes for product in fleet.products}
    ahead = {product.id: pd.Timedelta(minutes=product.horizon_minutes).ceil("D") for product in fleet.products}
    modelled = admissions.loc[admissions["admitted"], _ENTITY].drop_duplicates()
    days = days_of(features, _ENTITY, "issued_at")
    days = days[(days["day"] <= until) & (days["rows"] > 0)].merge(modelled, on=_ENTITY)

    def work(part: pd.DataFrame) -> pd.DataFrame:
        first, last = part["day"].min(), part["day"].max()
        issued = frame_of(features, first=first, last=last)
        day = issued["issued_at"].dt.tz_localize(None).dt.floor("D").astype(part["day"].dtype)
        shards = part[[*_ENTITY, "day"]]
        issued = issued[issued["issued_at"] <= training_time].assign(day=day).merge(shards, on=[*_ENTITY, "day"])
        last_interval = last + pd.Timedelta(days=1) + max(ahead.values()) if len(part) else last
        newest = latest_versions(frame_of(observations, first=first, last=last_interval), training_time)
        targets = newest.assign(power_share=newest["power_kw"] / newest["available_capacity_kw"]).rename(
            columns={"available_at": "target_available_at"}
        )[["entity_id", "granularity_minutes", "valid_at", "power_share", "available_capacity_kw", "target_available_at"]]
        issued = issued.drop(columns="day").assign(granularity_minutes=issued["product_id"].map(granularity).astype("int64"))
        table = issued.merge(targets, on=["entity_id", "granularity_minutes", "valid_at"], validate="many_to_one")
        # Without any wind there is nothing to learn from a row: the run was missing.
        table = table[table["wind_speed_100m_ms"].notna()].drop(columns="granularity_minutes")
        if len(overrides) and len(table):
            parts = [learnable(rows, overrides, *key, training_time) for key, rows in by_entity(table).items()]
            table = pd.concat(parts).sort_index()
        return table.reset_index(drop=True)

    return Recipe(_days_wanted(days, observations, overrides, granularity, ahead, until), work)


def _days_wanted(
    days: pd.DataFrame,
    observations: Derived | pd.DataFrame,
    overrides: pd.DataFrame,
    granularity: dict[str, int],
    ahead: dict[str, pd.Timedelta],
    until: pd.Timestamp,
) -> pd.DataFrame:
    """Days of issue of each product and entity, with what their rows of model input are made from."""
    observed = days_of(observations, ["entity_id"], "valid_at")
    last = days["day"] + pd.Timedelta(days=1) + days["product_id"].map(ahead)
    asked = days[["entity_id"]].assign(first=days["day"], last=last)
    outcomes = overlapping(spans_of(observed, "entity_id"), asked, "entity_id")
    # Versions that arrive after the training time are not known: which these are depends on it.
    late = observed[observed["last_at"] > until] if "last_at" in observed else observed
    depends = (overlapping(spans_of(late, "entity_id"), asked, "entity_id") != 0) | (days["day"] + pd.Timedelta(days=1) > until)
    at = np.where(depends, np.uint64(number_of(until.isoformat())), np.uint64(0))
    settings = {
        (product_id, entity_id): number_of([granularity[product_id], VERSION, _left_out(overrides, product_id, entity_id, until)])
        for product_id, entity_id in days[_ENTITY].drop_duplicates().itertuples(index=False, name=None)
    }
    keys = zip(days["product_id"], days["entity_id"], strict=True)
    step = np.array([settings[key] for key in keys], dtype=np.uint64)
    fingerprint = mixed(step, days["digest"], outcomes, at)
    return days[[*_ENTITY, "day", "rows"]].assign(step=step, fingerprint=fingerprint)


def _left_out(overrides: pd.DataFrame, product_id: str, entity_id: str, until: pd.Timestamp) -> list[str]:
    """What people decided that an entity's models may not learn from."""
    if overrides.empty:
        return []
    in_force = standing(overrides, product_id, entity_id, until.tz_localize("UTC"))
    return [str(in_force.learn_from), str(in_force.left_out)]


def check_learnable(model_input: Derived | pd.DataFrame, training_time: pd.Timestamp) -> None:
    """Raise `NotEnoughHistoryError` if no issue has an outcome yet."""
    if not entity_ids(model_input):
        raise NotEnoughHistoryError(
            f"nothing to train on as of {training_time:%Y-%m-%d %H:%M} UTC: no issue before it has both weather and an outcome"
        )


def entities_of(model_input: Derived | pd.DataFrame) -> set[tuple[str, str]]:
    """Product and entity of all that have rows."""
    rows = model_input if isinstance(model_input, pd.DataFrame) else model_input.days[model_input.days["rows"] > 0]
    return set(rows[_ENTITY].drop_duplicates().itertuples(index=False, name=None))


def of_model_input(rows: Table) -> dict[str, Any]:
    """Statistics of a shard of model input: the start of its last interval, UTC without zone."""
    return {"last_valid_at": rows.valid_at.max().cast("timestamp")}


def last_intervals(model_input: Derived | pd.DataFrame) -> dict[tuple[str, str], pd.Timestamp]:
    """The start of the last interval of each product and entity."""
    if isinstance(model_input, pd.DataFrame):
        last = model_input.groupby(_ENTITY)["valid_at"].max().reset_index(name="last")
    else:
        last = model_input.days.groupby(_ENTITY)["last_valid_at"].max().dropna().dt.tz_localize("UTC").reset_index(name="last")
    return dict(zip(zip(last["product_id"], last["entity_id"], strict=True), last["last"], strict=True))


def score_backtest(
    backtest_forecasts: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    scoring: Scoring,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, candidate, bucket of lead time, metric and level, as known at the training time. And one row
    per entity that could not be scored.
    """
    failures: list[Failure] = []
    action = "look at its observations and its backtest; its earlier model goes on until it is scored"
    tables = [
        score_forecasts(
            rows_of(backtest_forecasts, entities),
            rows_of(observations, entities),
            fleet,
            scoring.lead_edges_minutes,
            as_of=clock.training_time(fleet),
            rules=scoring.rules,
            on_failure=noting(failures, "backtest_scoring", "scores_unknown", "its backtest is not scored", action, "error"),
        )
        for entities in portions(backtest_forecasts)
    ]
    table = Scores.table(pd.concat(tables, ignore_index=True) if tables else [])
    # By product, as the scores of all entities at once would be.
    return table.sort_values("product_id", kind="stable", ignore_index=True), failures_table(failures, clock.as_of)
