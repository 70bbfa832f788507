"""Training: candidates are backtested as of each issue time, and only what they would have forecast counts.

A fold of the backtest refits every candidate at a moment with what had arrived by then, and forecasts the issues up to the next
refit; together the folds are what would have been issued. Cross-validation, which mixes past and future, is not used.
"""

from __future__ import annotations

import logging

import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.tiers import TIERS, Ready, reaches, ready_entities
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.errors import WindKedroError
from wind_kedro.evaluation.scores import latest_versions, score_forecasts
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table, first_of, noting
from wind_kedro.governance.champions import champion_models
from wind_kedro.governance.overrides import learnable
from wind_kedro.models.registry import ModelConfig
from wind_kedro.models.tables import in_card_order
from wind_kedro.pipelines.training.settings import Training

logger = logging.getLogger(__name__)


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
    features: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    admissions: pd.DataFrame,
    overrides: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
) -> pd.DataFrame:
    """One row of features with the observed power, a share of available capacity, as known at the training time.

    Only of entities that may have a model, and without the issues that people left out.

    Raises:
        NotEnoughHistoryError: if no issue has an outcome yet.
    """
    observations = frame_of(observations)
    training_time = pd.Timestamp(clock.training_time(fleet))
    newest = latest_versions(observations, training_time)
    targets = newest.assign(power_share=newest["power_kw"] / newest["available_capacity_kw"]).rename(
        columns={"available_at": "target_available_at"}
    )[["entity_id", "granularity_minutes", "valid_at", "power_share", "available_capacity_kw", "target_available_at"]]
    granularity = {product.id: product.granularity_minutes for product in fleet.products}
    modelled = admissions.loc[admissions["admitted"], ["product_id", "entity_id"]].drop_duplicates()
    known = in_card_order(frame_of(features, last=training_time.tz_localize(None)), fleet)
    issued = known[known["issued_at"] <= training_time].merge(modelled, on=["product_id", "entity_id"])
    issued = issued.assign(granularity_minutes=issued["product_id"].map(granularity).astype("int64"))
    table = issued.merge(targets, on=["entity_id", "granularity_minutes", "valid_at"], validate="many_to_one")
    # Without any wind there is nothing to learn from a row: the run was missing.
    table = table[table["wind_speed_100m_ms"].notna()].drop(columns="granularity_minutes").reset_index(drop=True)
    if len(overrides):
        parts = [learnable(rows, overrides, *key, training_time) for key, rows in by_entity(table).items()]
        table = pd.concat(parts).sort_index().reset_index(drop=True) if parts else table
    if table.empty:
        raise NotEnoughHistoryError(
            f"nothing to train on as of {training_time:%Y-%m-%d %H:%M} UTC: no issue before it has both weather and an outcome"
        )
    return table


def by_entity(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each product and entity."""
    return {
        (str(product_id), str(entity_id)): rows for (product_id, entity_id), rows in table.groupby(["product_id", "entity_id"])
    }


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
    observations = frame_of(observations)
    failures: list[Failure] = []
    action = "look at its observations and its backtest; its earlier model goes on until it is scored"
    table = score_forecasts(
        frame_of(backtest_forecasts),
        observations,
        fleet,
        scoring.lead_edges_minutes,
        as_of=clock.training_time(fleet),
        rules=scoring.rules,
        on_failure=noting(failures, "backtest_scoring", "scores_unknown", "its backtest is not scored", action, "error"),
    )
    return table, failures_table(failures, clock.as_of)
