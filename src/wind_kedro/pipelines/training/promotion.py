"""Fitting what was chosen, and putting it into force: a version of the whole fleet, promoted as one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Workers
from wind_kedro.datasets.derived import Derived, rows_of
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.failures import Failure, Severity, failures_table
from wind_kedro.governance.champions import champions_at, newest_number, version_in_force
from wind_kedro.models.ensembles.fleet_model import FleetModel, Member
from wind_kedro.models.tables import model_table
from wind_kedro.pipelines.training.fitting import FitKey, fit_candidates
from wind_kedro.pipelines.training.made_from import fits_made_from
from wind_kedro.pipelines.training.nodes import NotEnoughHistoryError, last_intervals
from wind_kedro.pipelines.training.settings import Training

#: How many rows of features a version shows of itself: enough for its signature, whatever the size of the fleet.
_EXAMPLES = 10


def fit_fleet(
    model_input: Derived | pd.DataFrame,
    choices: pd.DataFrame,
    promotions_before: pd.DataFrame,
    model_versions_before: RegisteredModels,
    fleet: Fleet,
    clock: Clock,
    training: Training,
    workers: Workers,
) -> tuple[FleetModel, pd.DataFrame]:
    """The models of the fleet after this training: what was chosen, fitted with all that was known, and all others as they are.
    And one row per model that could not be fitted. A model of the version in force that was fitted from the same is not fitted
    again.

    Raises:
        NotEnoughHistoryError: if no model could be fitted.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    before = champions_at(promotions_before, training_time)
    at = training_time + pd.Timedelta(microseconds=1)  # all rows were known at the training time
    through = last_intervals(model_input)
    newest = max(through.values())
    failures: list[Failure] = []

    def failed(key: tuple[str, str], code: str, message: str, severity: Severity = "error") -> None:
        action = "see the candidate's parameters and the farm's features, then run training; its earlier model stays in use"
        failures.append(Failure("fit", code, f"{key[0]}/{key[1]}: {message}", action, severity, *key))

    chosen = {(row["product_id"], row["entity_id"]): row["model"] for row in choices.to_dict("records")}
    shadows = [name for name, config in training.candidates.items() if config.shadow]
    # For every entity that has history, whose champion it is not, and whose product may have it.
    beside = {
        role: [
            (*key, name)
            for name in names
            for key, model in chosen.items()
            if model != name and key in through and training.candidates[name].is_for(key[0])
        ]
        for role, names in (("fallback", training.fallbacks), ("shadow", shadows))
    }
    wanted = list(dict.fromkeys([*((*key, name) for key, name in chosen.items()), *beside["fallback"], *beside["shadow"]]))
    made_from = fits_made_from(wanted, model_input, fleet, training, at)
    undamaged: dict[str, bool] = {}
    stored = _stored_fits(version_in_force(before), model_versions_before)
    members: dict[FitKey, Member] = {}
    for fit in wanted:
        member = stored.get((*fit, made_from[fit]))
        if member is not None and member.is_whole(undamaged):
            members[fit] = member
    found = fit_candidates(model_input, [fit for fit in wanted if fit not in members], fleet, training, workers, at)
    for fit, forecaster in found.results.items():
        # Without a history of its own it has seen what the fleet has.
        members[fit] = Member(fit[2], forecaster, through.get(fit[:2], newest), made_from=made_from[fit])
    fitted = {key: members[*key, name] for key, name in chosen.items() if (*key, name) in members}
    if chosen and not fitted:
        raise NotEnoughHistoryError("no model could be fitted: " + "; ".join(sorted(set(found.failures.values()))))
    for key, name in chosen.items():
        if key not in fitted:
            failed(key, "model_not_fitted", f"'{name}' could not be fitted: {found.failures[*key, name]}")
    for role, fits in beside.items():
        for product_id, entity_id, name in fits:
            if (product_id, entity_id, name) not in members:
                why = found.failures[product_id, entity_id, name]
                failed((product_id, entity_id), "model_not_fitted", f"{role} '{name}' could not be fitted: {why}", "warning")
    kept, kept_beside, lost = _kept(before, set(fitted), model_versions_before, fleet, shadows)
    for key, why in lost.items():
        failed(key, "model_unusable", f"its champion is lost: {why}")
    learnt = [key for key in fitted if key in through] or list(through)
    shown = {entity_id for _, entity_id in learnt[:_EXAMPLES]}
    example = rows_of(model_input, shown).groupby(["product_id", "entity_id"]).tail(1)
    made = FleetModel(
        max(through[key] for key in learnt),
        fitted | kept,
        model_table(example.head(_EXAMPLES)),
        shadows=kept_beside["shadows"] | {key: members[key] for key in beside["shadow"] if key in members},
        fallbacks=kept_beside["fallbacks"] | {key: members[key] for key in beside["fallback"] if key in members},
        parent=version_in_force(before),
    )
    return made, failures_table(failures, clock.as_of)


def _stored_fits(version: str | None, versions: RegisteredModels) -> dict[tuple[str, str, str, str], Member]:
    """Models of a version by product, entity, candidate and what they were fitted from."""
    try:
        model = None if version is None else versions.version(version)
    except NoModelError:  # what cannot be read is fitted again
        model = None
    if model is None:
        return {}
    found = {(*key, member.model): member for key, member in model.members.items()} | {**model.shadows, **model.fallbacks}
    return {(*key, member.made_from): member for key, member in found.items() if member.made_from}


def _kept(
    champions: pd.DataFrame, fitted: set[tuple[str, str]], versions: RegisteredModels, fleet: Fleet, shadows: Collection[str]
) -> tuple[dict[tuple[str, str], Member], dict[str, dict[tuple[str, str, str], Member]], dict[tuple[str, str], str]]:
    """The champions of those that were not fitted, their fallbacks and those shadows that still are candidates, as far as they
    are on the cards; why some are lost.
    """
    wanted = {(product.id, entity_id) for product in fleet.products for entity_id in fleet.modelled(product)} - fitted
    members: dict[tuple[str, str], Member] = {}
    beside: dict[str, dict[tuple[str, str, str], Member]] = {"fallbacks": {}, "shadows": {}}
    lost: dict[tuple[str, str], str] = {}
    for row in champions.to_dict("records"):
        key = (row["product_id"], row["entity_id"])
        if key not in wanted:
            continue
        try:
            version = versions.version(row["model_version"])
            if key not in version.members:
                raise NoModelError(f"version {row['model_version']} has no model of it")
            members[key] = version.members[key]
            beside["fallbacks"] |= {whose: member for whose, member in version.fallbacks.items() if whose[:2] == key}
            of_shadows = {whose: member for whose, member in version.shadows.items() if whose[:2] == key}
            beside["shadows"] |= {whose: member for whose, member in of_shadows.items() if whose[2] in shadows}
        except NoModelError as error:
            lost[key] = str(error)
    return members, beside, lost


def promote(
    model_versions: RegisteredModels, choices: pd.DataFrame, promotions_before: pd.DataFrame, fleet: Fleet, clock: Clock
) -> tuple[pd.DataFrame, str]:
    """One row per product and entity that from the training time on is forecast by the version just registered; and the champion.

    An entity that was not fitted is in the version with its earlier model, and goes on with it. The promotion follows the
    newest that this training knew of: if another was recorded since, the log refuses it. The champion is the version that counts
    last: a backtest of the past adds its promotion but moves no alias.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    made = model_versions.made()
    members = model_versions.version(made.version).members
    before = champions_at(promotions_before, training_time)
    shared = [column for column in choices.columns if column != "model"]
    earlier = before[shared].assign(reason="not trained again: its stored model stays in use")
    sources = pd.concat([choices[shared], earlier]).drop_duplicates(["product_id", "entity_id"], keep="first")
    parent = newest_number(promotions_before)
    rows = [
        row
        | {
            "model": member.model,
            "run_id": member.run_id or made.run_id,
            "trained_through": member.trained_through or made.trained_through,
        }
        for row in sources.to_dict("records")
        if (member := members.get((row["product_id"], row["entity_id"]))) is not None
    ]
    promotions = pd.DataFrame(rows).assign(
        promotion=parent + 1,
        parent=parent,
        action="train",
        author="",
        promoted_at=training_time,
        model_version=made.version,
        manifest_sha256=model_versions.manifest_sha256(made.version),
        available_at=training_time,
        recorded_at=pd.Timestamp(dt.datetime.now(dt.UTC)),
    )
    return promotions, str(version_in_force(pd.concat([promotions_before, promotions])))
