"""Forecasts at a deadline: issued from what is stored, and kept for intervals whose gates close before the issue is made."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, Product
from wind_kedro.cards.columns import OBSERVED_CLIMATOLOGY, OLDER_FORECAST, RUNGS
from wind_kedro.cards.dated import Times
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.datasets.models import NoModelError, RegisteredModels
from wind_kedro.datasets.parts import empty_table
from wind_kedro.failures import Failure, failures_table, first_of, noting
from wind_kedro.governance.champions import in_order, versions_at
from wind_kedro.models.ensembles.fleet_model import Member
from wind_kedro.models.tables import KEYS, Shares, forecasts_of, in_card_order, weather_run_age_minutes
from wind_kedro.pipelines.forecasting.due import DueClock
from wind_kedro.pipelines.forecasting.fallbacks import model_of, observed_climatology, predict_with_fallbacks
from wind_kedro.pipelines.forecasting.settings import Forecasting
from wind_kedro.pipelines.forecasting.slices import forecasts_of_run
from wind_kedro.pipelines.forecasting.together import Together
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration

_INTERVAL = ["entity_id", "valid_at"]
#: Numbers of issue times before the deadline's that are read until every interval has an older forecast.
_LOOKED_AT = (4, 16, 64)
#: Observations of so long make the climatology of an interval that no older forecast covers.
_OBSERVED = pd.Timedelta(days=60)
#: A message names so many entities.
_NAMED = 3
#: Codes of failures.
_LATE, _FALLBACK = "forecast_late", "deadline_fallback"


def select_model_issues(due_clock: Clock, fleet: Fleet, forecasting: Forecasting) -> Clock:
    """The clock of what models forecast: the issues that are due; at a deadline none, as they are made from what is stored."""
    if not forecasting.at_deadline:
        return due_clock
    return DueClock(**due_clock.model_dump(exclude={"due"}), due={product.id: [] for product in fleet.products})


def send_forecasts(
    calibrated_forecasts: pd.DataFrame,
    deadline_forecasts_before: Sliced | pd.DataFrame,
    deadline_failures_before: pd.DataFrame,
    forecasts_before: Sliced | pd.DataFrame,
    features: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    calibration: Calibration,
    forecasting: Forecasting,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Forecasts as issued, one row per product, entity, issue time and interval; those of them that were issued at a deadline;
    and a row per product and issue of which a deadline was missed, or that was made after gates had closed.

    At a deadline (``forecasting.at_deadline``) the issues that are due are made from what is stored, by the first of these that
    has the interval: the newest older forecast; the fallbacks of the model in force, where features are stored; the climatology
    of the observations. Portfolios are made from their farms.

    Otherwise the given forecasts are issued. Of an issue that was issued at a deadline before, what was sent then is kept for the
    intervals whose gates had closed by ``forecasting.made_at``.
    """
    made_at = forecasting.made_at or clock.as_of
    failures: list[Failure] = []
    sent: list[pd.DataFrame] = []
    parts: list[pd.DataFrame] = []
    at_deadlines = forecasts_of_run(deadline_forecasts_before, fleet, clock)
    for product in fleet.products:
        issues = clock.issues(fleet.calendar(product.id))
        if forecasting.at_deadline:
            sent += [
                _from_stored(
                    issue, forecasts_before, features, observations, model_versions, promotions, product, fleet, calibration,
                    forecasting, failures,
                )
                for issue in issues
            ]  # fmt: skip
        elif issues:
            issued = calibrated_forecasts[calibrated_forecasts["product_id"] == product.id]
            before = at_deadlines[(at_deadlines["product_id"] == product.id) & at_deadlines["issued_at"].isin(issues)]
            parts.append(_with_what_was_sent(issued, before, product, fleet, made_at, failures))
    nothing = empty_table("wind_kedro.contracts.forecasts.Forecasts")
    sent, parts = [part for part in sent if len(part)], [part for part in [*parts, *sent] if len(part)]
    failed = failures_table(failures, clock.as_of)
    still = _still_concerned(deadline_failures_before, fleet, clock)
    return (
        pd.concat(parts, ignore_index=True) if parts else nothing,
        pd.concat(sent, ignore_index=True) if sent else nothing,
        pd.concat([still, failed], ignore_index=True) if len(still) else failed,
    )


def _still_concerned(failures: pd.DataFrame, fleet: Fleet, clock: Clock) -> pd.DataFrame:
    """Failures of the newest issue of each product, but for what this run finds again; older ones are over."""
    keep = np.zeros(len(failures), dtype=bool)
    for product in fleet.products if len(failures) else ():
        calendar = fleet.calendar(product.id)
        again = (failures["code"] == _LATE) & failures["issued_at"].isin(clock.issues(calendar))
        newest = failures["issued_at"] >= clock.newest_issue(calendar)
        keep |= ((failures["product_id"] == product.id) & newest & ~again).to_numpy()
    return failures[keep]


# --- after a deadline ------------------------------------------------------------------------------------------------


def _with_what_was_sent(
    issued: pd.DataFrame, before: pd.DataFrame, product: Product, fleet: Fleet, made_at: dt.datetime, failures: list[Failure]
) -> pd.DataFrame:
    """The forecasts of a product with those of a deadline in the place of intervals whose gates have closed."""
    if before.empty:
        return issued
    closures = fleet.calendar(product.id).gate_closures(_times(before["issued_at"]), _times(before["valid_at"]))
    held = before[closures < np.datetime64(made_at.astimezone(dt.UTC).replace(tzinfo=None))]
    for issued_at, rows in held.groupby("issued_at"):
        every = before[before["issued_at"] == issued_at]
        message = (
            f"{product.id}: made at {made_at:%Y-%m-%dT%H:%M}, after the gates of {rows['valid_at'].nunique()} of "
            f"{every['valid_at'].nunique()} intervals had closed: the forecast of the deadline holds for these"
        )
        action = "look into table cycles why the cycle took so long; model_forecasts has what the models give"
        failures.append(Failure("deadline", _LATE, message, action, "warning", product.id, "", pd.Timestamp(str(issued_at))))
    known = pd.MultiIndex.from_frame(held[KEYS])
    new = issued[~pd.MultiIndex.from_frame(issued[KEYS]).isin(known)] if len(issued) else issued
    return _ordered(pd.concat([part for part in (new, held) if len(part)], ignore_index=True), fleet) if len(held) else issued


# --- at a deadline ---------------------------------------------------------------------------------------------------


def _from_stored(
    issue: dt.datetime,
    forecasts_before: Sliced | pd.DataFrame,
    features: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    product: Product,
    fleet: Fleet,
    calibration: Calibration,
    forecasting: Forecasting,
    failures: list[Failure],
) -> pd.DataFrame:
    """The forecasts of one issue of a product, from what is stored."""
    issued_at, ordered = pd.Timestamp(issue), in_order(promotions[promotions["product_id"] == product.id])
    promoted_to = dict(iter(ordered.groupby("entity_id")))
    versions = {
        entity_id: next(iter(versions_at(promoted_to.get(entity_id, ordered.iloc[:0]), pd.DatetimeIndex([issued_at]))))
        for entity_id in fleet.modelled(product)
        if fleet.issues_for(entity_id, product, [issue])
    }
    # What had no champion yet is not issued by the models either.
    in_force = {entity_id: version for entity_id, version in versions.items() if version is not None}
    wanted = _intervals(list(in_force), product, fleet, issue)
    older = _older_forecasts(forecasts_before, wanted, product, fleet, issued_at)
    left = wanted[~pd.MultiIndex.from_frame(wanted[_INTERVAL]).isin(pd.MultiIndex.from_frame(older[_INTERVAL]))]
    rows = forecasts_of(
        _from_fallbacks(left, in_force, features, observations, model_versions, ordered, product, forecasting), product, fleet
    )
    issued = pd.concat([part for part in (older, rows) if len(part)], ignore_index=True) if len(older) or len(rows) else older
    portfolio_failed = noting(
        failures, "deadline", "portfolio_not_issued", "not issued", "see the failures of its farms", "error"
    )
    if len(issued):
        issued = add_portfolios(issued, fleet, calibration.portfolios, on_failure=portfolio_failed)
    failures += _noted(issued, list(in_force), product, issued_at)
    return _ordered(issued, fleet)


def _intervals(entities: Sequence[str], product: Product, fleet: Fleet, issue: dt.datetime) -> pd.DataFrame:
    """Keys and lead time of the intervals of an issue, for each entity those in which it has any capacity."""
    issued_at = pd.Timestamp(issue).tz_convert("UTC").as_unit("us")
    leads, covered = fleet.calendar(product.id).intervals(np.array([issued_at.tz_localize(None).to_datetime64()]))
    lead_minutes = leads[covered]
    valid_at = pd.DatetimeIndex(issued_at + pd.to_timedelta(lead_minutes, unit="min")).as_unit("us")
    there = {entity_id: fleet.capacity_kw(entity_id, valid_at.tz_localize(None).to_numpy()) > 0 for entity_id in entities}
    tables = [
        pd.DataFrame(
            {"product_id": product.id, "entity_id": name, "issued_at": issued_at, "valid_at": valid_at[has],
             "lead_minutes": lead_minutes[has]}
        )
        for name, has in there.items()
    ]  # fmt: skip
    columns = [*KEYS, "lead_minutes"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _older_forecasts(
    forecasts: Sliced | pd.DataFrame, wanted: pd.DataFrame, product: Product, fleet: Fleet, issued_at: pd.Timestamp
) -> pd.DataFrame:
    """Forecasts of the intervals that are wanted, of the newest issue before that has them, as forecasts of this issue."""
    calendar = fleet.calendar(product.id)
    horizon = pd.Timedelta(minutes=product.horizon_minutes)
    earlier = calendar.issues_between((issued_at - horizon).to_pydatetime(), issued_at.to_pydatetime())
    earlier = [issue for issue in earlier if issue < issued_at]
    found = empty_table("wind_kedro.contracts.forecasts.Forecasts")
    for number in _LOOKED_AT if earlier and len(wanted) else ():
        stored = frame_of(forecasts, first=pd.Timestamp(earlier[-number:][0]), last=pd.Timestamp(earlier[-1]))
        stored = stored[(stored["product_id"] == product.id) & (stored["issued_at"] < issued_at)]
        newest = stored.sort_values("issued_at", kind="stable").drop_duplicates(_INTERVAL, keep="last")
        found = newest.drop(columns=["issued_at", "lead_minutes"]).merge(
            wanted[[*_INTERVAL, "issued_at", "lead_minutes"]], on=_INTERVAL
        )
        if len(found) == len(wanted) or number >= len(earlier):
            break
    revised, revision = calendar.revisions(_times(found["issued_at"]))
    rungs = np.maximum(pd.Categorical(found["rung"], RUNGS).codes, RUNGS.index("older_forecast"))
    return found.assign(
        revised_issue_at=pd.DatetimeIndex(revised).tz_localize("UTC"),
        revision=revision,
        weather_run_age_minutes=weather_run_age_minutes(found),
        rung=np.take(RUNGS, rungs),
        fallback=OLDER_FORECAST,
    )


def _from_fallbacks(
    left: pd.DataFrame,
    versions: dict[str, str],
    features: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    model_versions: RegisteredModels,
    promotions: pd.DataFrame,
    product: Product,
    forecasting: Forecasting,
) -> list[Shares]:
    """Forecasts of intervals by the fallbacks of the version in force, where features are stored, and by the climatology."""
    if left.empty:
        return []
    issued_at = left["issued_at"].iloc[0]
    day = issued_at.tz_localize(None).floor("D")
    known = frame_of(features, first=day, last=day)
    known = known[(known["product_id"] == product.id) & (known["issued_at"] == issued_at)]
    observed = frame_of(observations, first=day - _OBSERVED, last=day + pd.Timedelta(days=1))
    observed_of = dict(iter(observed.groupby("entity_id")))
    found: list[Shares] = []
    for entity_id, rows in left.groupby("entity_id"):
        name, version = str(entity_id), versions[str(entity_id)]
        own = observed_of.get(name, observed.iloc[:0])
        due = known[(known["entity_id"] == name) & known["valid_at"].isin(rows["valid_at"])]
        model = model_of(promotions, product, name, version)
        if len(due):
            # Its failures are those of the run that makes the issue; the deadline has one row.
            forecast = predict_with_fallbacks(
                None, _fallbacks(model_versions, version, product, name), due, own, product, name, version, [],
                Together((), forecasting.model_limit_seconds),
            )  # fmt: skip
            found += [Shares(served, shares, model, version, fallback) for fallback, (served, shares) in forecast.items()]
        rest = rows.loc[~rows["valid_at"].isin(due["valid_at"])]
        rest = rest.assign(weather_run_at=pd.Series(pd.NaT, index=rest.index, dtype=rows["issued_at"].dtype))
        shares = observed_climatology(rest, own, product, name)
        whole = np.flatnonzero(np.isfinite(shares).all(axis=1))
        found.append(Shares(rest.iloc[whole], shares[whole], model, version, OBSERVED_CLIMATOLOGY))
    return [one for one in found if len(one.rows)]


def _fallbacks(versions: RegisteredModels, version: str, product: Product, entity_id: str) -> dict[str, Member]:
    try:
        return versions.version(version).beside("fallbacks", product.id, entity_id)
    except NoModelError:
        return {}


def _noted(issued: pd.DataFrame, entities: Sequence[str], product: Product, issued_at: pd.Timestamp) -> list[Failure]:
    """The missed deadline, and the entities that nothing was stored for."""
    counts = Counter(issued[issued["entity_id"].isin(entities)].drop_duplicates(["entity_id", "rung"])["rung"])
    by = ", ".join(f"{rung} for {counts[rung]}" for rung in RUNGS if counts[rung])
    message = (
        f"{product.id}: not made by its deadline: issued from what is stored ({by or 'nothing'}; of {len(entities)} entities)"
    )
    action = "nothing: it is made again and replaces this one where gates are open; table cycles has how long cycles take"
    found = [Failure("deadline", _FALLBACK, message, action, "warning", product.id, "", issued_at)]
    lacking = [entity_id for entity_id in entities if entity_id not in set(issued["entity_id"])]
    if lacking:
        message = f"{product.id}: not issued at the deadline: nothing is stored of {first_of(lacking, _NAMED)}"
        action = "wait for the run that makes the issue"
        found.append(Failure("deadline", "forecast_not_issued", message, action, "error", product.id, "", issued_at))
    return found


def _ordered(forecasts: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    """Forecasts by entity, in the order of the cards, issue and interval: the audit records the rung of the first interval."""
    return in_card_order(forecasts.sort_values(["issued_at", "valid_at"], kind="stable"), fleet)


def _times(column: pd.Series) -> Times:
    times: Times = column.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return times
