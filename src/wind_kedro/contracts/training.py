"""Training: backtest folds, judgements, decisions, promotions, and what else the training catalog holds."""

from __future__ import annotations

from collections.abc import Mapping

import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.cards.tiers import TIERS
from wind_kedro.contracts.base import Contract, Utc
from wind_kedro.governance.overrides import KINDS

#: Reasons of decisions by their code.
REASONS: Mapping[str, str] = {
    "first_champion": "first champion: the best of the backtest",
    "cold_start": "too little history for the backtest: the candidate of the highest tier that needs none",
    "better": "better by the margin, significantly, and within all guard-rails",
    "another_is_better": "it passed, but another challenger that passed scores better",
    "in_shadow": "a shadow with too few issues to be compared",
    "leak": "it used data that were not known then",
    "too_little_data": "too few issues are paired with the champion's",
    "margin": "its gain is below the product's margin",
    "not_significant": "its gain is not significant",
    "bias": "its mean error is too large",
    "coverage": "its coverage is too far from nominal",
    "strong_wind": "its errors in strong wind are too large",
    "changing_wind": "its errors in changing wind are too large",
    "worst_issues": "its errors in the worst issues are too large",
    "surprising": "implausibly good: check for a leak, then approve",
    "held": "the entity's model is held by an override",
    "approved": "approved by an override",
    "overridden": "the model was chosen by an override",
}


class Admissions(Contract, key=["product_id", "entity_id", "model"]):
    """One row per product, entity and candidate: whether the entity's data allows it, as of the training time."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    needs: Series[str] = pa.Field(isin=TIERS, description="the least tier for it")
    tier: Series[str] = pa.Field(isin=TIERS, description="what the entity may have")
    admitted: Series[bool]
    needs_history: Series[bool] = pa.Field(description="whether the candidate needs a history of the entity's own")
    reason: Series[str] = pa.Field(description="why the entity has its tier")


class Turns(Contract, key=["product_id", "entity_id", "model"]):
    """One row per product, entity and candidate that a training deals with."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")


class Trials(Contract, key=["model", "trial"]):
    """One row per candidate and trial: settings, and the loss of what they would have forecast before what is judged."""

    model: Series[str] = pa.Field(description="name of the candidate")
    trial: Series[int] = pa.Field(ge=0, description="number of the trial in its search; 0: the settings as they are")
    settings: Series[str] = pa.Field(description="JSON")
    loss_share: Series[float] = pa.Field(nullable=True, ge=0, description="mean pinball loss; missing: the trial failed")
    seconds: Series[float] = pa.Field(nullable=True, ge=0)
    fault: Series[str] = pa.Field(description="why it failed; '': it did not")


class BacktestFolds(Contract, key=["product_id", "entity_id", "model", "fold_begin"]):
    """One row per product, entity, candidate and fold of the backtest: what it had learnt from."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    fold_begin: Series[Utc] = pa.Field(description="it was fitted as of then")
    fold_end: Series[Utc] = pa.Field(description="it forecast the issues before then")
    known_until: Series[Utc] = pa.Field(description="when the newest outcome that it learnt from became known")
    trained_through: Series[Utc] = pa.Field(description="the last interval that it has seen")
    rows: Series[int] = pa.Field(gt=0, description="learnt from")


class _Compared(Contract):
    """What a challenger is compared with its champion by, issue by issue."""

    product_id: Series[str]
    entity_id: Series[str]
    decided_at: Series[Utc] = pa.Field(description="the training time")
    champion: Series[str] = pa.Field(description="the candidate that the entity had; '': none")
    challenger: Series[str] = pa.Field(description="a candidate; where the code is 'held', the champion itself")
    issues: Series[int] = pa.Field(ge=0, description="paired; 0: nothing was compared")
    champion_score: Series[float] = pa.Field(nullable=True, description="mean loss by issue")
    challenger_score: Series[float] = pa.Field(nullable=True)
    gain_share: Series[float] = pa.Field(nullable=True, description="1 - challenger / champion")
    p_value: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="of so large a gain by chance")
    p_adjusted: Series[float] = pa.Field(nullable=True, ge=0, le=1, description="for all that is judged with it")
    bias_excess_share: Series[float] = pa.Field(nullable=True)
    coverage_excess_share: Series[float] = pa.Field(nullable=True)
    strong_wind_excess_share: Series[float] = pa.Field(nullable=True)
    change_excess_share: Series[float] = pa.Field(nullable=True)
    worst_excess_share: Series[float] = pa.Field(nullable=True)


class Judgements(_Compared, key=["product_id", "entity_id", "challenger"]):
    """One row per product, entity and challenger: what the gate finds beside the champion's candidate, issue by issue."""

    code: Series[str] = pa.Field(description="what decides: see docs/glossary.md")
    detail: Series[str]


class Decisions(_Compared, key=["product_id", "entity_id", "decided_at", "challenger"]):
    """One row per product, entity, training and challenger: what was found, and what was decided. A history."""

    promoted: Series[bool] = pa.Field(description="the entity gets this candidate")
    code: Series[str] = pa.Field(isin=sorted(REASONS), description="what decided: see docs/glossary.md")
    reason: Series[str] = pa.Field(description="a sentence")


class Accuracy(Contract, key=["product_id", "entity_id"]):
    """One row per product and entity: the deciding score of its chosen model cross-validated, backtested, and as operated."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    as_of: Series[Utc] = pa.Field(description="time of the training")
    deciding_score: Series[str]
    cross_validated: Series[float] = pa.Field(description="mean loss: learnt from before and after, weather always there")
    backtested: Series[float] = pa.Field(description="of the same intervals: learnt and read as known then")
    operational: Series[float] = pa.Field(description="besides, fallbacks where no weather run reached an interval")
    gap_share: Series[float] = pa.Field(nullable=True, description="operational / cross_validated - 1")
    intervals: Series[int] = pa.Field(ge=0, description="behind the operational score")
    fallback_share: Series[float] = pa.Field(ge=0, le=1, description="share of the intervals that a fallback forecast")


class Overrides(Contract, key=["override"]):
    """One row per override of an entity's models. Append-only."""

    override: Series[int] = pa.Field(ge=1, description="its number")
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    effective_at: Series[Utc] = pa.Field(description="applies to trainings as of this time and later")
    kind: Series[str] = pa.Field(isin=sorted(KINDS), description="see docs/glossary.md")
    product_id: Series[str] = pa.Field(description="'': all products")
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="the candidate it is about; '': none")
    begin: Series[Utc] = pa.Field(nullable=True, description="of the span that it is about")
    end: Series[Utc] = pa.Field(nullable=True, description="likewise, exclusive")
    author: Series[str] = pa.Field(str_length={"min_value": 1})
    reason: Series[str] = pa.Field(str_length={"min_value": 1})


class Choices(Contract):
    """One row per product and entity: the candidate that is to forecast it, and why."""

    product_id: Series[str]
    entity_id: Series[str]
    model: Series[str] = pa.Field(description="name of the candidate")
    deciding_score: Series[str]
    score: Series[float] = pa.Field(nullable=True, description="of the backtest, out of sample; null: not backtested yet")
    champion_score: Series[float] = pa.Field(nullable=True, description="of the model it had to beat, on the same issues")
    reason: Series[str]


class Promotions(Contract, key=["promotion", "product_id", "entity_id"]):
    """One row per promotion, product and entity: from `promoted_at` on, this version forecasts. Append-only, each whole."""

    promotion: Series[int] = pa.Field(ge=1, description="its number: of two that hold at a time, the greater counts")
    parent: Series[int] = pa.Field(ge=0, description="the newest promotion that it knew of; 0: there was none")
    action: Series[str] = pa.Field(isin=["train", "rollback"], description="what made it")
    author: Series[str] = pa.Field(description="of the override; '': decided by the gate")
    product_id: Series[str]
    entity_id: Series[str]
    promoted_at: Series[Utc]
    model: Series[str] = pa.Field(description="name of the candidate")
    model_version: Series[str] = pa.Field(description="version in the model registry")
    run_id: Series[str] = pa.Field(description="MLflow run of the training that made the entity's model")
    trained_through: Series[Utc] = pa.Field(description="the last interval that model has seen")
    available_at: Series[Utc] = pa.Field(description="when it could first be used")
    deciding_score: Series[str]
    score: Series[float] = pa.Field(nullable=True, description="of the backtest, out of sample; null: not backtested yet")
    champion_score: Series[float] = pa.Field(nullable=True, description="of the model it had to beat, on the same issues")
    reason: Series[str]
    recorded_at: Series[Utc] = pa.Field(description="wall clock")
    manifest_sha256: Series[str] = pa.Field(description="digest of the version's manifest; '': not known, so it is refused")
    # Made by the log when it writes the entry (`governance.promotions`).
    chain: Series[str] | None = pa.Field(description="id of the chain of promotions")
    previous_sha256: Series[str] | None = pa.Field(str_length=64, description="digest of the entry before")
    key_id: Series[str] | None = pa.Field(description="of the key that signed the entry")
    signature: Series[str] | None = pa.Field(str_length=128, description="Ed25519, of the entry and previous_sha256")
