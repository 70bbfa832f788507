"""The decision, farm by farm: what the gate found, what people decided, and which candidate is fitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.tiers import TIERS
from wind_kedro.clock import Clock
from wind_kedro.contracts.training import REASONS, Choices, Decisions, Judgements
from wind_kedro.datasets.derived import Derived, portions, rows_of
from wind_kedro.errors import WindKedroError
from wind_kedro.evaluation.gate import by_issue, judge, leaks, mark_extremes
from wind_kedro.evaluation.scores import deciding_scores, interval_losses
from wind_kedro.evaluation.settings import GateRules, Scoring
from wind_kedro.failures import Failure, by_entity_where_it_raises, failures_table, isolated, noting
from wind_kedro.governance.champions import champion_models
from wind_kedro.governance.overrides import Standing, standing
from wind_kedro.models.tables import KEYS, by_entity
from wind_kedro.pipelines.training.nodes import NotEnoughHistoryError, entities_of
from wind_kedro.pipelines.training.settings import Training
from wind_kedro.pipelines.training.turns import due_entities

logger = logging.getLogger(__name__)

#: Codes of the gate that a person may approve. A leak is none of them: there is nothing to judge.
_APPROVABLE = frozenset(REASONS) - {"leak", "better", "another_is_better"}


class AllHeldError(WindKedroError):
    """People hold every entity: there is nothing to train."""


def judge_challengers(
    backtest_forecasts: Derived | pd.DataFrame,
    backtest_folds: pd.DataFrame,
    model_input: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    promotions_before: pd.DataFrame,
    shadow_forecasts_before: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    training: Training,
    scoring: Scoring,
    turns: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity and challenger that was backtested beside the champion's candidate: what the gate finds. And
    one row per entity whose challengers could not be judged.

    All challengers of a product's entities are one family: the more are asked, the surer must each be. Shadows are judged on what
    they issued, beside what was issued and sent.

    Of entities that are not in ``turns`` none is judged. The significance is spread over the entities: of a training that judges
    a seventh of them it is a seventh, so that the chance of an error in a week is what it is if all are judged at once.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    champions = champion_models(promotions_before, training_time)
    failures: list[Failure] = []
    action = "look at its observations and its backtest; the champion's candidate stays until its challengers are judged"
    failed = noting(failures, "gate", "challengers_not_judged", "its challengers are not judged", action)
    # What is made of others' forecasts, as a portfolio is, has no fold of its own.
    trained = backtest_folds[["product_id", "entity_id"]].drop_duplicates()
    found: dict[tuple[str, str, str], str] = {}
    shadows = {name for name, config in training.candidates.items() if config.shadow}
    before = shadow_forecasts_before[shadow_forecasts_before["issued_at"] < training_time]
    of_products = {
        product.id: {entity_id: model for (product_id, entity_id), model in champions.items() if product_id == product.id}
        for product in fleet.products
    }

    def issue_losses(forecasts: pd.DataFrame, product: Product, entities: Collection[str]) -> pd.DataFrame:
        """One row per entity, model and issue of the forecasts of a product."""
        market = fleet.market(product.market)
        weather = rows_of(model_input, entities, [*KEYS, "wind_speed_100m_ms"])
        weather = weather[weather["product_id"] == product.id]
        observed = rows_of(observations, entities)

        def of_rows(rows: pd.DataFrame) -> pd.DataFrame:
            losses = interval_losses(rows, observed, product, market, training_time, scoring.rules)
            return by_issue(mark_extremes(losses, weather, training.gate))

        parts = by_entity_where_it_raises(of_rows, forecasts, product.id, failed)
        return pd.concat(parts) if parts else pd.DataFrame(columns=["product_id", "entity_id", "model", "issued_at"])

    # The issues of all entities are small; the intervals behind them are read entity by entity.
    issues: dict[str, list[pd.DataFrame]] = {product.id: [] for product in fleet.products}
    backtested = {product.id: set[tuple[str, str]]() for product in fleet.products}
    due = None if turns is None else set(turns[["product_id", "entity_id"]].itertuples(index=False, name=None))
    shares = _shares_due(fleet, due)
    for entities in portions(backtest_forecasts, None if due is None else {entity_id for _, entity_id in due}):
        forecasts = _of_due(rows_of(backtest_forecasts, entities), due)
        own_folds = backtest_folds[backtest_folds["entity_id"].isin(entities)]
        found |= leaks(own_folds, forecasts.merge(trained, on=["product_id", "entity_id"]))
        for product in fleet.products:
            own = forecasts[forecasts["product_id"] == product.id]
            if own.empty:
                continue
            backtested[product.id].update(own[["entity_id", "model"]].drop_duplicates().itertuples(index=False, name=None))
            is_champion = own["model"] == own["entity_id"].map(of_products[product.id])
            issues[product.id].append(issue_losses(own[is_champion | ~own["model"].isin(shadows)], product, entities))
    tables = []
    for product in (product for product in fleet.products if backtested[product.id]):
        champion_of = of_products[product.id]
        of_product = {
            entity_id: champion_of[entity_id] for entity_id in champion_of if due is None or (product.id, entity_id) in due
        }
        gate = training.gate.model_copy(update={"significance": training.gate.significance * shares[product.id]})

        def judged(
            losses: pd.DataFrame,
            leaking: Mapping[tuple[str, str, str], str] | None = None,
            product: Product = product,
            champions: Mapping[str, str] = of_product,
            gate: GateRules = gate,
        ) -> pd.DataFrame:
            return judge(losses, champions, product.promotion_margin_share, product.horizon_minutes, gate, leaking, failed)

        def judged_issued(
            forecasts: pd.DataFrame, product: Product = product, judged: Callable[[pd.DataFrame], pd.DataFrame] = judged
        ) -> pd.DataFrame:
            return judged(issue_losses(forecasts, product, set(forecasts["entity_id"])))

        losses = pd.concat(issues[product.id]).sort_values(["entity_id", "model", "issued_at"], kind="stable")
        tables.append(judged(losses, found))
        names = backtested[product.id]
        for name in sorted(shadows & {model for _, model in names}):
            entity_ids = {entity_id for entity_id, model in names if model == name}
            tables.append(_judge_shadow(name, entity_ids, before, of_product, product, judged_issued))
    table = pd.concat(tables or [judge(Judgements.table([]), {}, 0, 1)], ignore_index=True)
    # What leaks and was compared with nobody may not be the first champion either.
    known = set(table[["product_id", "entity_id", "challenger"]].itertuples(index=False, name=None))
    alone = [
        {"product_id": product_id, "entity_id": entity_id, "champion": "", "challenger": model, "issues": 0}
        | {"code": "leak", "detail": why}
        for (product_id, entity_id, model), why in found.items()
        if (product_id, entity_id, model) not in known
    ]
    for (product_id, entity_id, model), why in found.items():
        logger.error("%s/%s: '%s' leaks and is not chosen: %s", product_id, entity_id, model, why)
    table = pd.concat([table, pd.DataFrame(alone, columns=table.columns)], ignore_index=True)
    return table.assign(decided_at=training_time), failures_table(failures, clock.as_of)


def _of_due(forecasts: pd.DataFrame, due: set[tuple[str, str]] | None) -> pd.DataFrame:
    keys = zip(forecasts["product_id"], forecasts["entity_id"], strict=True)
    return forecasts if due is None else forecasts[[key in due for key in keys]]


def _shares_due(fleet: Fleet, due: set[tuple[str, str]] | None) -> dict[str, float]:
    """Which share of the entities of each product has its turn; 1 without turns."""
    shares = {}
    for product in fleet.products:
        entities = fleet.modelled(product)
        own = [entity_id for entity_id in entities if due is None or (product.id, entity_id) in due]
        shares[product.id] = len(own) / len(entities) if entities else 1.0
    return shares


def _judge_shadow(
    name: str,
    backtested: Collection[str],
    issued: pd.DataFrame,
    champions: Mapping[str, str],
    product: Product,
    judged: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """One row per entity: a shadow's issues beside those that were sent by the champions of their time."""
    others = [entity_id for entity_id, champion in champions.items() if champion != name]
    own = issued[(issued["product_id"] == product.id) & issued["entity_id"].isin(others)]
    mine = own[(own["role"] == "shadow") & (own["model"] == name)]
    sent = own[own["role"] == "champion"]
    sent = sent.assign(model=sent["entity_id"].map(champions))
    both = pd.concat([mine, sent.merge(mine[KEYS], on=KEYS)], ignore_index=True).drop(columns="role")
    found = judged(both) if len(both) else pd.DataFrame(columns=["entity_id", "code"])
    found.loc[found["code"] == "too_little_data", "code"] = "in_shadow"
    rows = [
        {"product_id": product.id, "entity_id": entity_id, "champion": champions.get(entity_id, ""), "challenger": name}
        | {"issues": 0, "code": "in_shadow", "detail": ""}
        for entity_id in sorted(set(backtested) - set(found["entity_id"]))
        if champions.get(entity_id) != name
    ]
    return pd.concat([found, pd.DataFrame(rows)], ignore_index=True)


def choose(
    judgements: pd.DataFrame,
    backtest_scores: pd.DataFrame,
    model_input: Derived | pd.DataFrame,
    admissions: pd.DataFrame,
    promotions_before: pd.DataFrame,
    overrides: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    turns: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row per product and entity: the candidate that is to be fitted for it; one per decision taken, with what was found; and
    one per entity for which no candidate could be chosen.

    Rules, in this order:

    1. Where people hold an entity it keeps the model that it has, and is not in the first table.
    2. Where they decided for a candidate, it is that one.
    3. Without a champion, or where its candidate is no longer backtested, the best of the backtest (ties: the first by name).
    4. A challenger that the gate lets through, the best of them; else one that people approved, the best of them.
    5. Else the champion's candidate, fitted with the newest data. So a tie changes nothing, and neither does too little data.

    An entity whose history is too short for the backtest, and that has no champion yet, gets unscored the last of its candidates
    that need no history, else the most demanding of those that need tier ``physical`` at most: nothing that learns much of one
    farm goes live untested.

    Raises:
        NotEnoughHistoryError: if no candidate of any entity has the deciding score, and none can do without.
        AllHeldError: if there is nobody to train a model for.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    champions = champion_models(promotions_before, training_time)
    learnable = entities_of(model_input)
    candidates, judged, due = by_entity(admissions), by_entity(judgements), due_entities(turns, admissions)
    choices: list[dict[str, Any]] = []
    decisions: list[dict[Any, Any]] = []
    failures: list[Failure] = []
    action = "look at its scores, judgements and overrides; its earlier model stays in use"
    failed = noting(failures, "choice", "model_not_chosen", "no candidate is chosen", action, "error")
    for product in fleet.products:
        deciding = dict(iter(deciding_scores(backtest_scores, product).groupby("entity_id")))
        for entity_id in sorted(fleet.modelled(product)):
            key = (product.id, entity_id)
            if key not in candidates or key not in due:
                continue
            with isolated(failed, *key):  # whatever it is, a candidate is chosen for the others all the same
                in_force = standing(overrides, *key, training_time)
                scores = deciding[entity_id].set_index("model")["value"].dropna() if entity_id in deciding else None
                found, champion = judged.get(key, judgements.iloc[:0]), champions.get(key)
                code, model = _decide(scores, found, candidates[key], champion, in_force, key in learnable)
                if code is None:
                    if scores is not None:
                        logger.error("%s/%s: no candidate has a %s in the backtest: nothing chosen", *key, product.deciding_score)
                    continue
                about = _about(product, entity_id, code, model, scores, champion, found, in_force)
                made = _decisions(about, found, champion, training_time)
                about["reason"] += _waiting(candidates[key])
                decisions += made
                if code != "held":
                    choices.append(about)
    if not choices and due:
        if decisions:
            raise AllHeldError("every entity that could be trained is held: kedro wind release --farm … lets one go")
        why = "; ".join(failure.message for failure in failures) or "no candidate has a deciding score in the backtest"
        raise NotEnoughHistoryError(f"nothing to choose by as of {training_time:%Y-%m-%d %H:%M} UTC: {why}")
    return Choices.table(choices), Decisions.table(decisions), failures_table(failures, clock.as_of)


def _decide(
    scores: pd.Series | None,
    found: pd.DataFrame,
    candidates: pd.DataFrame,
    champion: str | None,
    in_force: Standing,
    learnable: bool,
) -> tuple[str | None, str]:
    """The code of the decision and the candidate; no code: nothing to choose from. Without scores it was not backtested."""
    if in_force.held and champion is not None:
        return "held", champion
    if in_force.override is not None:
        if in_force.override in set(candidates.loc[candidates["admitted"], "model"]):
            return "overridden", in_force.override
        logger.error("candidate '%s' of an override is not available for this entity", in_force.override)
    if scores is None:
        stand_in = _unbacktested(candidates, champion, learnable)
        return (None, "") if stand_in is None else ("cold_start", stand_in)
    # A backtest cannot show a leak, and a shadow is judged on what it issued.
    scores = scores.drop(labels=list(found.loc[found["code"].isin(["leak", "in_shadow"]), "challenger"]), errors="ignore")
    if champion is None or champion not in scores.index:
        return (None, "") if scores.empty else ("first_champion", str(scores.sort_index().idxmin()))
    passed = found.loc[found["code"] == "better", "challenger"]
    if len(passed):
        return "better", str(passed.iloc[0])
    approved = found["challenger"].isin(list(in_force.approved)) & found["code"].isin(_APPROVABLE)
    names = [name for name in found.loc[approved, "challenger"] if name in scores.index]
    return ("approved", str(scores[names].idxmin())) if names else ("stays", champion)


def _about(
    product: Product, entity_id: str, code: str, model: str, scores: pd.Series | None, champion: str | None,
    found: pd.DataFrame, in_force: Standing,
) -> dict[str, Any]:  # fmt: skip
    """The choice of one entity, with the reason in words."""
    known = {} if scores is None else scores.to_dict()
    who = {"held": "hold", "overridden": "override", "approved": "approve"}.get(code)
    why = f" ({in_force.reasons[who]})" if who else ""
    return {
        "product_id": product.id,
        "entity_id": entity_id,
        "code": code,
        "model": model,
        "deciding_score": product.deciding_score,
        "score": float(known.get(model, np.nan)),
        "champion_score": float(known.get(champion, np.nan)) if code not in {"first_champion", "cold_start"} else np.nan,
        "reason": _reason(code, model, champion, product.promotion_margin_share, found) + why,
    }


def _reason(code: str, model: str, champion: str | None, margin: float, found: pd.DataFrame) -> str:
    if code == "better":
        row = found[found["challenger"] == model].iloc[0]
        return (
            f"beats '{champion}' by {row['gain_share']:.1%} over {row['issues']} issues, margin {margin:.1%}, "
            f"chance {row['p_adjusted']:.2g}"
        )
    if code != "stays":
        return REASONS[code]
    if found.empty:
        return "the champion's model is the only one: refitted"
    best = found.sort_values(["gain_share", "challenger"], ascending=[False, True], kind="stable").iloc[0]
    if best["gain_share"] <= 0 and best["code"] != "leak":
        return "the champion's model is still the best of the backtest: refitted"
    why = REASONS[best["code"]]
    return f"'{best['challenger']}' is better by {best['gain_share']:.1%}, but {why}: the champion's model stays"


def _decisions(
    about: Mapping[str, Any], found: pd.DataFrame, champion: str | None, decided_at: pd.Timestamp
) -> list[dict[Any, Any]]:
    """One row for each challenger, and one for the entity where what decides is no challenger's result."""
    rows: list[dict[Any, Any]] = []
    for row in found.to_dict("records"):
        promoted = about["code"] in {"better", "approved", "overridden"} and row["challenger"] == about["model"]
        code = about["code"] if promoted else row["code"]
        reason = about["reason"] if promoted else row["detail"] or REASONS[code]
        rows.append(row | {"decided_at": decided_at, "promoted": promoted, "code": code, "reason": reason})
    if about["code"] in {"first_champion", "cold_start", "held"} or (
        about["code"] == "overridden" and not any(row["promoted"] for row in rows)
    ):
        rows = [row for row in rows if row["challenger"] != about["model"]]
        same = ("product_id", "entity_id", "champion_score", "code", "reason")
        own = {"decided_at": decided_at, "champion": champion or "", "challenger": about["model"], "issues": 0}
        own |= {"challenger_score": about["score"], "promoted": about["code"] != "held"}
        rows.append({name: about[name] for name in same} | own)
    return rows


def _unbacktested(candidates: pd.DataFrame, champion: str | None, learnable: bool) -> str | None:
    """The candidate that may go live without having been backtested, if there is one.

    Of those that need no history the last in the configuration; a champion of theirs is fitted anew, as history grows.
    """
    admitted = candidates[candidates["admitted"]]
    beginners = list(admitted.loc[~admitted["needs_history"], "model"])
    if champion is not None:
        return champion if champion in beginners else None
    if beginners:
        return str(beginners[-1])
    simple = admitted[admitted["needs"].isin(TIERS[: TIERS.index("physical") + 1])]
    if simple.empty or not learnable:
        return None
    return str(max(simple.to_dict("records"), key=lambda row: TIERS.index(row["needs"]))["model"])


def _waiting(candidates: pd.DataFrame) -> str:
    """What the entity may not have yet, and why."""
    refused = candidates[~candidates["admitted"]]
    if refused.empty:
        return ""
    first = refused.iloc[0]
    names = ", ".join(f"'{row['model']}' needs tier {row['needs']}" for row in refused.to_dict("records"))
    return f"; {names}, it has {first['tier']}: {first['reason']}"
