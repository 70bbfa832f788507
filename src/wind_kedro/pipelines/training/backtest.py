"""The backtest: what each candidate would have forecast, computed by fold, and again only where what the fold reads has changed.

In a fold a candidate is fitted once, as of its beginning, with what had arrived by then, and forecasts the issues up to the
next fold. Folds lie on a fixed calendar, so that a later training has the same ones and a few new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock, stretches_of
from wind_kedro.compute import Rows, Shared, Workers, map_farms
from wind_kedro.contracts.forecasts import BacktestForecasts
from wind_kedro.datasets.derived import Derived, portions, rows_of
from wind_kedro.datasets.parts import empty_table
from wind_kedro.failures import Failure, Severity, failures_table
from wind_kedro.models.tables import by_entity, forecast_rows, is_known
from wind_kedro.pipelines.training.fitting import PartKey, fleet_parts, forecast_ahead
from wind_kedro.pipelines.training.made_from import (
    has_shared_models,
    judged_settings,
    places_of,
    read_numbers,
    row_numbers,
    settings_of,
)
from wind_kedro.pipelines.training.nodes import NotEnoughHistoryError, check_learnable
from wind_kedro.pipelines.training.settings import Backtest, Training
from wind_kedro.storage.fingerprints import Recipe, mixed, number_of

#: Increase it if backtest forecasts of the same model input change; of one family of models, increase its ``version`` instead.
VERSION = 1

#: Key of a fold, beside the day on which it begins.
KEY = ["product_id", "entity_id", "model"]
#: Begins the fault of a fold in which nothing could be learnt over all farms.
_ALL_FARMS = "over all farms: "
_UTC = "UTC"
#: Of known rows what `BacktestFolds` has of them.
_SEEN: dict[str, Any] = {
    "known_until": ("target_available_at", "max"),
    "trained_through": ("valid_at", "max"),
    "rows": ("issued_at", "count"),
}


def folds_of(training_time: pd.Timestamp, backtest: Backtest) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Begin and end of each fold up to the training time; the last ends there."""
    if backtest.months is not None:
        stretches = stretches_of(backtest.months)
        return [(begin, min(end, training_time)) for begin, end in stretches if begin < training_time]
    step, origin = pd.Timedelta(days=backtest.refit_every_days), pd.Timestamp(backtest.folds_from, tz=_UTC)
    first = origin + (training_time - pd.Timedelta(days=backtest.days) - origin) // step * step
    starts = pd.date_range(first, training_time, freq=step, inclusive="left")
    return [(begin, min(begin + step, training_time)) for begin in starts]


def backtest_candidates(
    model_input: Derived | pd.DataFrame,
    admissions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    training: Training,
    workers: Workers,
    turns: pd.DataFrame | None = None,
    before: Derived | None = None,
) -> Recipe:
    """One row per product, entity, candidate, issue time and interval: what the candidate would have forecast.

    An entity is backtested with the candidates that it may have. Each is refitted every ``refit_every_days`` with the
    outcomes that had arrived by then. Of an entity that is not in ``turns`` the folds stay as they are in ``before``.

    Raises:
        NotEnoughHistoryError: if no issue has an outcome yet, or no fold of any entity has ``min_train_days`` of history.
    """
    training_time = pd.Timestamp(clock.training_time(fleet))
    check_learnable(model_input, training_time)
    folds = folds_of(training_time, training.backtest)
    numbers = _numbered(model_input, folds, fleet)
    tried = admissions if turns is None else admissions.merge(turns, on=KEY)
    wanted = pd.DataFrame(_folds_wanted(numbers, tried, fleet, training))
    if turns is not None and before is not None:
        standing = _standing_folds(before.days, admissions, turns, folds)
        wanted = pd.concat([wanted, standing], ignore_index=True) if len(wanted) else standing
    if wanted.empty:
        begins = min(numbers["first_issued_at"])
        raise NotEnoughHistoryError(
            f"too little history to backtest candidates as of {training_time:%Y-%m-%d %H:%M} UTC: it begins "
            f"{begins:%Y-%m-%d}, and training.backtest asks for {training.backtest.min_train_days} days "
            f"before it; choose a later as_of or fewer min_train_days"
        )
    ends = dict(folds)
    recipe = Recipe(wanted, lambda part: _forecasts(part, model_input, ends, fleet, training, workers, recipe.faults))
    return recipe


def _standing_folds(
    days: pd.DataFrame, admissions: pd.DataFrame, turns: pd.DataFrame, folds: Sequence[tuple[pd.Timestamp, pd.Timestamp]]
) -> pd.DataFrame:
    """Folds as they are stored, of candidates of entities whose turn it is not."""
    may_have = admissions.loc[admissions["admitted"], KEY].merge(
        turns[KEY[:2]].drop_duplicates(), on=KEY[:2], how="left", indicator=True
    )
    waiting = may_have.loc[may_have["_merge"] == "left_only", KEY]
    begins = [start.tz_localize(None) for start, _ in folds]
    own = days[days["day"].isin(begins) & (days["fault"] == "")]
    return own[[*KEY, "day", "rows", "step", "fingerprint"]].merge(waiting, on=KEY)


def _numbered(
    model_input: Derived | pd.DataFrame, folds: Sequence[tuple[pd.Timestamp, pd.Timestamp]], fleet: Fleet
) -> pd.DataFrame:
    """One row per product, entity and fold: how many rows it could learn from (``known``) and forecasts (``ahead``), a number of
    either, ``first_issued_at``, when the entity's history begins, and ``columns``, a number of their names.
    """
    found = []
    for entities in portions(model_input):
        table = rows_of(model_input, entities)
        learnt, read, columns = row_numbers(table), read_numbers(table, fleet), number_of(list(table.columns))
        issued_at = table["issued_at"].reset_index(drop=True)
        places_by_entity = places_of(table)
        for start, end in folds:
            learnable = is_known(table, start).to_numpy()
            is_ahead = ((issued_at >= start) & (issued_at < end)).to_numpy()
            for (product_id, entity_id), places in places_by_entity.items():
                known, ahead = places[learnable[places]], places[is_ahead[places]]
                found.append(
                    {
                        "product_id": product_id,
                        "entity_id": entity_id,
                        "start": start,
                        "known": len(known),
                        "learnt": learnt[known].sum(dtype=np.uint64),
                        "ahead": len(ahead),
                        "read": read[ahead].sum(dtype=np.uint64),
                        "first_issued_at": issued_at.iloc[places].min(),
                        "first_known_at": issued_at.iloc[known].min(),
                        "columns": columns,
                    }
                )
    return pd.DataFrame(found).sort_values(["start", "product_id", "entity_id"], kind="stable", ignore_index=True)


def _folds_wanted(numbers: pd.DataFrame, admissions: pd.DataFrame, fleet: Fleet, training: Training) -> Iterator[dict[str, Any]]:
    """Folds of each candidate that have issues, with what their forecasts are made from."""
    may_have = admissions.loc[admissions["admitted"], KEY]
    admitted = set(may_have.itertuples(index=False, name=None))
    least = pd.Timedelta(days=training.backtest.min_train_days)
    of_product: Any
    for of_product, rows in numbers.groupby(["start", "product_id"]):
        start, product_id = of_product
        product = fleet.product(product_id)
        alone = len(product.members) == 1
        fleet_knows = bool(rows["known"].sum()) and start - rows["first_known_at"].min() >= least
        of_fleet = rows["learnt"].to_numpy(dtype=np.uint64).sum(dtype=np.uint64)
        judged = {
            name: judged_settings(config, sorted(rows["entity_id"]), fleet)
            for name, config in training.candidates.items()
            if fleet_knows and config.fleet_members is not None
        }
        sold = [product.quantile_levels, product.point, training.seed, int(rows["columns"].iloc[0]), VERSION]
        for row in rows[rows["ahead"] > 0].to_dict("records"):
            entity_id = row["entity_id"]
            farms = fleet.farms_at(entity_id, start)
            enough = row["known"] > 0 and start - row["first_issued_at"] >= least
            inputs = mixed(np.uint64(row["learnt"]), np.uint64(row["read"]), row["ahead"])[()]
            for name, config in training.candidates.items():
                if (product_id, entity_id, name) not in admitted:
                    continue
                shares = name in judged
                # What the fleet knows needs no history of this farm.
                if not (enough and config.scope == "farm") and not (shares and has_shared_models(config, alone=alone)):
                    continue
                settings = [settings_of(config.of_farms(farms)), *sold]
                if shares:
                    settings += [training.fleet_rows, alone, judged[name], *training.recency]
                step = np.uint64(number_of(settings))
                yield {
                    "product_id": product_id,
                    "entity_id": entity_id,
                    "model": name,
                    "day": start.tz_localize(None),
                    "rows": row["ahead"],
                    "step": step,
                    "fingerprint": mixed(step, inputs, of_fleet if shares else np.uint64(0))[()],
                }


def _forecasts(
    part: pd.DataFrame,
    model_input: Derived | pd.DataFrame,
    ends: Mapping[pd.Timestamp, pd.Timestamp],
    fleet: Fleet,
    training: Training,
    workers: Workers,
    faults: dict[tuple[str, ...], str],
) -> pd.DataFrame:
    """Rows of `BacktestForecasts` of some folds."""
    starts = part["day"].dt.tz_localize(_UTC)
    folds = list(zip(part["product_id"], part["entity_id"], part["model"], starts, strict=True))
    shared = [(product_id, name, start) for product_id, _, name, start in folds]
    learnt_by_fleet = fleet_parts(model_input, shared, fleet, training, workers, training.backtest.min_train_days)
    least = pd.Timedelta(days=training.backtest.min_train_days)
    forecasts = []
    for entities in portions(model_input, set(part["entity_id"])):
        tables, tasks = by_entity(rows_of(model_input, entities)), {}
        for product_id, entity_id, name, start in folds:
            if (product_id, entity_id) not in tables:
                continue
            config, table = training.candidates[name], tables[product_id, entity_id]
            key: PartKey = (product_id, name, start)
            # The table of an entity travels once for all its folds and candidates, and a fold gets only what it can use.
            past = Rows.where(table, is_known(table, start))
            if key in learnt_by_fleet.failures:
                faults[_fold_key(product_id, entity_id, name, start)] = _ALL_FARMS + learnt_by_fleet.failures[key]
                if config.scope == "fleet" or not len(past) or start - table["issued_at"].min() < least:
                    continue
            ahead = Rows.where(table, (table["issued_at"] >= start) & (table["issued_at"] < ends[start]))
            farms, levels = fleet.farms_at(entity_id, start), fleet.product(product_id).quantile_levels
            fleet_part = Shared(learnt_by_fleet.results.get(key))
            given = (past, ahead, config.of_farms(farms), name, levels, training.seed, fleet_part)
            tasks[product_id, entity_id, name, start] = given
        mapped = map_farms(forecast_ahead, tasks, workers=workers, label="backtest")
        for fold, why in mapped.failures.items():
            faults[_fold_key(*fold)] = why
        for (product_id, _, name, start), (rows, shares) in mapped.results.items():
            made = forecast_rows(rows, shares, fleet.product(product_id), fleet, model=name, model_version="backtest")
            forecasts.append(made.assign(fold_begin=start))
    if not forecasts:
        return empty_table(f"{BacktestForecasts.__module__}.{BacktestForecasts.__name__}")
    return pd.concat(forecasts, ignore_index=True)


def _fold_key(product_id: str, entity_id: str, name: str, start: pd.Timestamp) -> tuple[str, ...]:
    return product_id, entity_id, name, str(start.tz_localize(None))


def note_folds(
    backtest_model_forecasts: Derived, model_input: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, training: Training
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per product, entity, candidate and fold: what it had learnt from. And one per product, entity and candidate that
    could not be backtested in some fold.

    Raises:
        NotEnoughHistoryError: if no candidate of any entity could be backtested.
    """
    days = backtest_model_forecasts.days
    failures = _failures(days)
    check_backtested(days)
    ends = dict(folds_of(pd.Timestamp(clock.training_time(fleet)), training.backtest))
    made = days.loc[days["rows"] > 0, [*KEY, "day"]]
    seen = _seen(model_input, [day.tz_localize(_UTC) for day in sorted(made["day"].unique())])
    folds = []
    for product_id, entity_id, name, day in made.itertuples(index=False, name=None):
        start = day.tz_localize(_UTC)
        # A model of the fleet may have drawn from all that was known of its product.
        shared = training.candidates[name].fleet_members is not None
        own, all_farms = seen[product_id, entity_id, start], seen[product_id, "", start]
        learnt = all_farms | {"rows": own["rows"] + all_farms["rows"]} if shared else own
        about = {"product_id": product_id, "entity_id": entity_id, "model": name}
        folds.append(about | {"fold_begin": start, "fold_end": ends[start]} | learnt)
    return pd.DataFrame(folds), failures_table(failures, clock.as_of)


def _seen(
    model_input: Derived | pd.DataFrame, starts: Sequence[pd.Timestamp]
) -> dict[tuple[str, str, pd.Timestamp], dict[str, Any]]:
    """The training data of folds as in a row of contract `BacktestFolds`, by product, entity (``""``: all) and begin."""
    tables = []
    for entities in portions(model_input):
        times = rows_of(model_input, entities, ["product_id", "entity_id", "issued_at", "valid_at", "target_available_at"])
        for start in starts:
            known = times.where(is_known(times, start))
            known = known.assign(product_id=times["product_id"], entity_id=times["entity_id"])
            tables.append(known.groupby(KEY[:2], as_index=False).agg(**_SEEN).assign(start=start))
    own = pd.concat(tables, ignore_index=True)
    newest = {name: (name, "max" if name != "rows" else "sum") for name in _SEEN}
    every = own.groupby(["product_id", "start"], as_index=False).agg(**newest).assign(entity_id="")
    rows = pd.concat([own, every], ignore_index=True).set_index(["product_id", "entity_id", "start"])[list(_SEEN)]
    return dict(zip(rows.index, rows.to_dict("records"), strict=True))


def check_backtested(days: pd.DataFrame) -> None:
    """Raise `NotEnoughHistoryError` if none of the shards of `backtest_candidates` has forecasts."""
    if not days["rows"].sum():
        raise NotEnoughHistoryError("every candidate failed: " + "; ".join(sorted(set(days["fault"]) - {""})))


def _failures(days: pd.DataFrame) -> list[Failure]:
    """Candidates that failed in some fold; an error where the entity is left without any."""
    backtested = set(days.loc[days["rows"] > 0, KEY[:2]].itertuples(index=False, name=None))
    first: dict[tuple[str, str, str], str] = {}
    for row in days[days["fault"] != ""].sort_values("day", kind="stable").to_dict("records"):
        fault = row["fault"].removeprefix(_ALL_FARMS)
        entity_id = "" if fault != row["fault"] else row["entity_id"]
        first.setdefault((row["product_id"], entity_id, row["model"]), f"in the fold of {row['day']:%Y-%m-%d}: {fault}")
    action = "see the candidate's parameters and the farm's features; it is judged without the folds that failed"
    failures = []
    for (product_id, entity_id, name), why in first.items():
        message = f"{product_id}/{entity_id or 'all'}: candidate '{name}' {why}"
        severity: Severity = "warning" if not entity_id or (product_id, entity_id) in backtested else "error"
        failures.append(Failure("backtest", "backtest_failed", message, action, severity, product_id, entity_id))
    return failures
