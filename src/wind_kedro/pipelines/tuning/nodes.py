"""Search of candidates' settings with Optuna, on rolling origins before the backtest of training.

The value of a trial is the mean pinball loss of a candidate with these settings, fitted at the beginning of each fold to the
outcomes that had arrived by then. Each trial is stored when it is finished; an interrupted search resumes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.compute import Rows, Workers, map_farms
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.errors import WindKedroError
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import feature_matrix, is_known

from .settings import Range, Stretch, Trained, Tuning

logger = logging.getLogger(__name__)


class NothingToTuneError(WindKedroError):
    """The search is not possible with these parameters."""


def search_settings(
    model_input: Derived | pd.DataFrame,
    trial_store: Any,
    tuning: Tuning,
    training: Trained,
    fleet: Fleet,
    clock: Clock,
    workers: Workers,
) -> pd.DataFrame:
    """Search the settings of every candidate in ``tuning.space``.

    One row per candidate and trial, with settings and mean pinball loss. Trials of an earlier run count if candidate, space,
    folds and their rows are the same. A trial that was running when a run was killed is repeated.

    Raises:
        NothingToTuneError: if a candidate is missing or cannot be tuned, a setting is unknown, a fold overlaps the backtest, or
            no fold has enough history.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    judged_from = training.judged_from(training_time)
    try:
        stretches = tuning.stretches(judged_from)
    except ValueError as error:
        raise NothingToTuneError(str(error)) from error
    model_input = frame_of(model_input)
    # Later outcomes are dropped here, so that nothing below can use them.
    known = model_input[(model_input["target_available_at"] <= judged_from) & (model_input["valid_at"] < judged_from)]
    if tuning.products is not None:
        known = known[known["product_id"].isin(tuning.products)]
    rows = []
    for name, space in tuning.space.items():
        candidate = _tunable(name, space, training)
        folds = _folds(known, candidate, stretches, tuning.min_train_days)
        if not folds:
            raise NothingToTuneError(
                f"'{name}': no farm has {tuning.min_train_days} days of history before {stretches[-1][0]:%Y-%m-%d}, the last "
                f"fold before the backtest of training; set a lower tuning.min_train_days, shorter folds or a later backtest"
            )
        study = _study(name, candidate, space, stretches, known, trial_store, training.seed)
        done = sum(trial.state.is_finished() and trial.value is not None for trial in study.trials)
        logger.info("tuning '%s': %d of %d trials are done", name, done, tuning.trials)
        for _ in range(tuning.trials - done):
            _try(study, name, candidate, space, folds, fleet, training.seed, workers)
        rows += [_row(name, trial, candidate) for trial in study.trials if trial.state.is_finished()]
    return pd.DataFrame(rows)


def _tunable(name: str, space: dict[str, Range], training: Trained) -> ModelConfig:
    candidate = training.candidates.get(name)
    if candidate is None:
        raise NothingToTuneError(f"tuning.space: no candidate '{name}'; known are {', '.join(training.candidates)}")
    if candidate.fleet_members is not None:
        raise NothingToTuneError(
            f"tuning.space: '{name}' is fitted to the whole fleet; tune its members as candidates of single farms"
        )
    for setting, values in space.items():
        tried = values.low if values.choices is None else values.choices[0]
        try:
            build(name, _with(candidate, {setting: tried}), [0.5], 0)
        except ValueError as error:
            raise NothingToTuneError(f"tuning.space: {error}") from error
    return candidate


def _with(candidate: ModelConfig, settings: dict[str, Any]) -> ModelConfig:
    return candidate.model_copy(update={"params": dict(candidate.params) | settings})


#: Rows known at the start of a fold, and rows to forecast, by product, entity and start.
_Folds = dict[tuple[str, str, pd.Timestamp], tuple[Rows, Rows]]


def _folds(known: pd.DataFrame, candidate: ModelConfig, stretches: list[Stretch], min_train_days: int) -> _Folds:
    folds = {}
    for (product_id, entity_id), table in known.groupby(["product_id", "entity_id"]):
        if not candidate.is_for(str(product_id)):
            continue
        for start, end in stretches:
            past = Rows.where(table, is_known(table, start))
            ahead = Rows.where(table, (table["issued_at"] >= start) & (table["issued_at"] < end))
            least = pd.Timedelta(days=min_train_days)
            if not len(ahead) or not len(past) or start - table["issued_at"].iloc[past.places].min() < least:
                continue
            folds[str(product_id), str(entity_id), start] = (past, ahead)
    return folds


def _study(
    name: str,
    candidate: ModelConfig,
    space: dict[str, Range],
    stretches: list[Stretch],
    known: pd.DataFrame,
    store: Any,
    seed: int,
) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    behind = pd.util.hash_pandas_object(known[["entity_id", "issued_at", "valid_at", "power_share"]], index=False)
    searched = {
        "candidate": candidate.model_dump(mode="json"),
        "space": {setting: values.model_dump(mode="json") for setting, values in space.items()},
        "folds": [[start.isoformat(), end.isoformat()] for start, end in stretches],
        "columns": list(known.columns),
        "rows": hashlib.sha256(behind.to_numpy().tobytes()).hexdigest(),
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(searched, sort_keys=True, default=str).encode()).hexdigest()[:16]
    study_name = f"{name}-{digest}"
    before = {summary.study_name for summary in optuna.get_all_study_summaries(storage=store)}
    study = optuna.create_study(storage=store, study_name=study_name, direction="minimize", load_if_exists=True)
    if study_name not in before:
        # The current settings are the first trial, as the baseline.
        current = build("current", candidate, [0.5], 0).parameters.model_dump(mode="json")
        study.enqueue_trial({setting: current[setting] for setting, values in space.items() if current[setting] in values})
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    # The seed depends on the number of trials, so that a resumed search does not repeat its first proposals.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _try(
    study: Any,
    name: str,
    candidate: ModelConfig,
    space: dict[str, Range],
    folds: _Folds,
    fleet: Fleet,
    seed: int,
    workers: Workers,
) -> None:
    from optuna.trial import TrialState

    began = time.perf_counter()
    trial = study.ask()
    config = _with(candidate, {setting: values.draw(trial, setting) for setting, values in space.items()})
    tasks = {
        key: (past, ahead, config.of_farms(fleet.farms_of(key[1])), name, fleet.product(key[0]).quantile_levels, seed)
        for key, (past, ahead) in folds.items()
    }
    mapped = map_farms(_loss, tasks, workers=workers, label=f"trial {trial.number} of {name}")
    trial.set_user_attr("seconds", round(time.perf_counter() - began, 1))
    if mapped.failures:  # the mean over other farms would not be comparable
        trial.set_user_attr("fault", next(iter(mapped.failures.values())))
        study.tell(trial, state=TrialState.FAIL)
        return
    losses = np.array([loss for loss, _ in mapped.results.values()])
    counts = np.array([count for _, count in mapped.results.values()])
    study.tell(trial, float((losses * counts).sum() / counts.sum()))


def _loss(
    past: pd.DataFrame, ahead: pd.DataFrame, config: ModelConfig, name: str, levels: list[float], seed: int
) -> tuple[float, int]:
    """Mean pinball loss over a fold, share of capacity, and the number of intervals."""
    features = feature_matrix(past)
    model = build(name, config, levels, seed).fit(features[config.columns_of(features.columns)], past["power_share"])
    quantiles = model.predict(feature_matrix(ahead))
    return float(pinball_loss(ahead["power_share"].to_numpy(np.float64), quantiles, levels).mean()), len(ahead)


def _row(name: str, trial: Any, candidate: ModelConfig) -> dict[str, Any]:
    return {
        "model": name,
        "trial": trial.number,
        "settings": json.dumps(dict(candidate.params) | trial.params, sort_keys=True),
        "loss_share": np.nan if trial.value is None else trial.value,
        "seconds": float(trial.user_attrs.get("seconds", np.nan)),
        "fault": trial.user_attrs.get("fault", "" if trial.value is not None else "the run was killed; the trial is repeated"),
    }


def name_best(trials: pd.DataFrame, training: Trained) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Best settings of each candidate, as a block for `parameters_training.yml`, and their losses as metrics.

    Raises:
        NothingToTuneError: if no trial of any candidate succeeded, with the first fault.
    """
    done = trials.dropna(subset="loss_share")
    if done.empty:
        raise NothingToTuneError(f"no trial succeeded: {trials['fault'].iloc[0]}")
    best = done.loc[done.groupby("model")["loss_share"].idxmin()]
    candidates, metrics = {}, {}
    for row in best.to_dict("records"):
        config = training.candidates[row["model"]].model_dump(mode="json", exclude_defaults=True)
        candidates[row["model"]] = config | {"params": json.loads(row["settings"])}
        metrics[f"{row['model']}.loss_share"] = {"value": float(row["loss_share"]), "step": int(row["trial"])}
        logger.info("tuned '%s': pinball %.5f of capacity in trial %d", row["model"], row["loss_share"], row["trial"])
    import yaml

    block = {"training": {"candidates": candidates}}
    logger.info("to paste into parameters_training.yml:\n%s", yaml.safe_dump(block, sort_keys=False))
    return block, metrics
