"""The backtest as it would have been issued, by fold: with portfolios, and corrected by the errors of earlier issues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Observations
from wind_kedro.datasets.derived import Derived, days_of, frame_of
from wind_kedro.failures import Failure, failures_table, reason
from wind_kedro.pipelines.training.backtest import KEY, check_backtested
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration
from wind_kedro.storage.fingerprints import Recipe, mixed, number_of, overlapping, spans_of

#: Increase it if calibrated forecasts of the same backtest change.
VERSION = 1

#: What the corrections depend on of a product.
_OF_PRODUCT = {"quantile_levels", "point", "granularity_minutes"}


def calibrate_backtest(
    backtest_model_forecasts: Derived, observations: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, calibration: Calibration
) -> Recipe:
    """One row per product, entity, candidate, issue time and interval: what would have been issued, portfolios included.

    Corrected as live forecasting would have done it, from the backtest's own earlier issues, with what was known at each issue;
    a portfolio is of its farms' forecasts by the same candidate.

    Raises:
        NotEnoughHistoryError: if no candidate of any entity could be backtested.
    """
    shards = backtest_model_forecasts.days
    check_backtested(shards)
    shards = shards.loc[shards["rows"] > 0, [*KEY, "day", "rows", "digest"]]
    begins = np.sort(shards["day"].unique()).astype("datetime64[us]")
    training_time = np.datetime64(clock.training_time(fleet).replace(tzinfo=None), "us")
    ends = pd.Series([*begins[1:], training_time], index=begins, dtype="datetime64[us]")
    back = pd.Timedelta(days=calibration.days)
    wanted = pd.concat(_wanted(shards, ends, observations, product, fleet, calibration) for product in fleet.products)

    def work(part: pd.DataFrame) -> pd.DataFrame:
        first, last = part["day"].min(), part["day"].max()
        looks_back = bool(part["corrected"].any())
        # Folds follow each other: of those that begin before, only the newest reaches so far.
        since = pd.Timestamp(begins[begins <= first - back].max(initial=begins[0])) if looks_back else first
        forecasts = frame_of(backtest_model_forecasts, first=since, last=last).drop(columns="fold_begin")
        nothing = Observations.table([])
        outcomes = frame_of(observations, first=since.floor("D"), last=ends[last]) if looks_back else nothing

        def failed(product_id: str, entity_id: str, error: Exception) -> None:
            own = part[(part["product_id"] == product_id) & (part["entity_id"] == entity_id)]
            recipe.faults.update({(product_id, entity_id, model): reason(error) for model in own["model"]})

        every = add_portfolios(forecasts, fleet, calibration.portfolios, by_model=True, on_failure=failed)
        issued_at = every["issued_at"].dt.tz_localize(None).to_numpy("datetime64[us]")
        keys = every[KEY].assign(day=begins[np.searchsorted(begins, issued_at, side="right") - 1], place=np.arange(len(every)))
        asked = keys.merge(part[[*KEY, "day"]], on=[*KEY, "day"])
        now = every.iloc[asked["place"]].reset_index(drop=True)
        table = calibrated(now, every, outcomes, fleet, calibration, on_failure=failed)
        return table.assign(fold_begin=asked["day"].dt.tz_localize("UTC"))

    recipe = Recipe(wanted.reset_index(drop=True), work)
    return recipe


def _wanted(
    shards: pd.DataFrame,
    ends: pd.Series,
    observations: Derived | pd.DataFrame,
    product: Product,
    fleet: Fleet,
    calibration: Calibration,
) -> pd.DataFrame:
    """Folds of each candidate of a product, with what its forecasts as issued are made from."""
    own = shards[shards["product_id"] == product.id]
    sources = [own.assign(source=own["entity_id"])]
    for group in fleet.portfolios_of(product):
        members = own[own["entity_id"].isin(group.farm_ids)]
        sources.append(members.assign(source=members["entity_id"], entity_id=group.id))
    table = pd.concat(sources, ignore_index=True)
    pairs = table[["entity_id", "model"]].drop_duplicates()
    named = zip(pairs["entity_id"], pairs["model"], strict=True)
    kinds = [calibration.correction_of(product, entity_id, model, fleet) for entity_id, model in named]
    settings = zip(pairs["entity_id"], kinds, strict=True)
    steps = [number_of([kind, *_settings(product, entity_id, kind, fleet, calibration)]) for entity_id, kind in settings]
    steps_of = pairs.assign(corrected=[kind != "none" for kind in kinds], step=np.array(steps, dtype=np.uint64))
    table = table.merge(steps_of, on=["entity_id", "model"])
    # A correction reads earlier folds, and the outcomes that began before the last issue.
    first = table["day"].where(~table["corrected"], table["day"] - pd.Timedelta(days=calibration.days))
    series = table["source"] + "/" + table["model"]
    until = shards["day"].map(ends) - pd.Timedelta(microseconds=1)
    folds = pd.DataFrame({"series": own["entity_id"] + "/" + own["model"], "first": own["day"], "last": until[own.index]})
    folds = folds.assign(number=mixed(own["digest"], own["day"]))
    forecasts = overlapping(folds, pd.DataFrame({"series": series, "first": first, "last": table["day"]}), "series")
    observed = spans_of(days_of(observations, ["entity_id"], "valid_at"), "entity_id")
    asked = pd.DataFrame({"entity_id": table["entity_id"], "first": first.dt.floor("D"), "last": table["day"].map(ends)})
    outcomes = np.where(table["corrected"], overlapping(observed, asked, "entity_id"), np.uint64(0))
    names = np.array([number_of(name) for name in table["source"]], dtype=np.uint64)
    table = table.assign(number=mixed(forecasts, names), outcomes=outcomes)
    how = {"rows": "max", "corrected": "first", "step": "first", "number": "sum", "outcomes": "first"}
    # Sums of unsigned numbers wrap around.
    table = table.groupby([*KEY, "day"], as_index=False).agg(how)
    fingerprint = mixed(table["step"], table["number"], table["outcomes"])
    return table.assign(fingerprint=fingerprint).drop(columns=["number", "outcomes"])


def _settings(product: Product, entity_id: str, correction: str, fleet: Fleet, calibration: Calibration) -> list[Any]:
    """What the forecasts of an entity depend on of cards and settings."""
    settings: list[Any] = [product.model_dump(include=_OF_PRODUCT), VERSION]
    if correction != "none":
        settings.append(calibration.model_dump(exclude={"candidates", "products", "portfolios"}))
    for group in fleet.portfolios_of(product):
        if group.id == entity_id:
            capacities = fleet.capacities(group.id)
            steps = {
                farm_id: [steps.since.astype("str").tolist(), steps.values.tolist()] for farm_id, steps in capacities.items()
            }
            settings += [group.model_dump(exclude={"name"}), steps, calibration.portfolios]
    return settings


def note_uncalibrated(backtest_forecasts: Derived, clock: Clock) -> pd.DataFrame:
    """One row per entity whose backtest could not be calibrated, or per portfolio of which none could be made."""
    days = backtest_forecasts.days
    failed = days[days["fault"] != ""].drop_duplicates(["product_id", "entity_id"])
    action = "look at the observations and the backtest of it; it is judged as its models forecast"
    failures = []
    for row in failed.to_dict("records"):
        about = (row["product_id"], row["entity_id"])
        message = f"{'/'.join(about)}: its backtest is not calibrated: {row['fault']}"
        failures.append(Failure("backtest_calibration", "calibration_failed", message, action, "warning", *about))
    return failures_table(failures, clock.as_of)
