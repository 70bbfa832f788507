"""Scores of issued forecasts by day of issue: only days are scored again whose forecasts or observations have changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from wind_kedro.cards import Fleet, Product
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import LiveScores
from wind_kedro.datasets.derived import Derived, Sliced, days_of, frame_of
from wind_kedro.evaluation.scores import SUMS, score_sums, scores_of_sums
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table, reason
from wind_kedro.storage.fingerprints import DAY, NO_DAY, Recipe, mixed, number_of, overlapping, spans_of

#: Increase them if sums of the same forecasts and observations, or scores of the same sums, change.
SUMS_VERSION = SCORES_VERSION = 2

KEY = ["product_id", "entity_id"]
_MADE = ["product_id", "issued_at", "fingerprint"]
#: What sums depend on of a product and of its market.
_OF_PRODUCT = {"quantile_levels", "granularity_minutes", "horizon_minutes", "point"}
_OF_MARKET = {"time_zone", "settlement_minutes", "penalty", "changes"}
_TYPES = pa.schema(
    {
        **dict.fromkeys(SUMS[:3], pa.string()), "issued_on": pa.timestamp("us", "UTC"),
        **dict.fromkeys(SUMS[4:6], pa.int64()), **dict.fromkeys(SUMS[6:], pa.list_(pa.float64())),
    }
)  # fmt: skip


def sum_losses(
    forecasts: Sliced | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    due_issues: Sliced | pd.DataFrame,
    issues_made: Sliced | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    scoring: Scoring,
) -> Recipe:
    """One row per product, entity, model, day of issue and bucket of lead time: sums over the intervals that were issued by
    ``as_of``, of which their scores are made.

    A forecast is known by its issue: with which fingerprint a run began to make it, and whether it was made without a failure.
    One that was not may be stored in part, or be made again, so it is scored in every run.
    """
    as_of = np.datetime64(clock.as_of.replace(tzinfo=None), "us")
    issues = _issues(frame_of(due_issues), frame_of(issues_made), clock)
    days = days_of(observations, ["entity_id"], "valid_at")
    observed = spans_of(days, "entity_id")
    # Of a day with versions that are not known yet, what is read depends on as_of.
    later = observed[days["last_at"].to_numpy() > as_of] if "last_at" in days else observed
    parts = []
    for product in fleet.products:
        own = issues[issues["product_id"] == product.id]
        each, place = np.unique(own["issued_at"].to_numpy("datetime64[D]"), return_inverse=True)
        of_issues = np.zeros(len(each), dtype=np.uint64)
        np.add.at(of_issues, place, own["number"].to_numpy(np.uint64))
        rows = np.bincount(place, minlength=len(each)) * (product.horizon_minutes // product.granularity_minutes)
        rules = fleet.market(product.market).model_dump(include=_OF_MARKET)
        step = np.uint64(number_of([product.model_dump(include=_OF_PRODUCT), rules, scoring, SUMS_VERSION]))
        wanted = pd.DataFrame({"day": each.astype("datetime64[us]"), "issues": of_issues, "rows": rows})
        wanted = pd.DataFrame({"entity_id": product.members}).merge(wanted, how="cross")
        asked = wanted[["entity_id"]].assign(first=wanted["day"], last=wanted["day"] + _reach(product) * DAY)
        unknown = overlapping(later.assign(number=np.uint64(1)), asked, "entity_id") > 0
        outcomes = mixed(overlapping(observed, asked, "entity_id"), np.where(unknown, as_of, NO_DAY.to_datetime64()))
        fingerprint = mixed(wanted["issues"], outcomes, step)
        parts.append(wanted.drop(columns="issues").assign(product_id=product.id, step=step, fingerprint=fingerprint))

    def work(part: pd.DataFrame) -> pa.Table:
        if part.empty:  # the first write of a table that has no shard yet
            return _TYPES.empty_table()
        first, last = part["day"].min(), part["day"].max()
        issued = frame_of(forecasts, first=first.tz_localize("UTC"), last=min(last + DAY, pd.Timestamp(as_of)).tz_localize("UTC"))
        reach = max(map(_reach, fleet.products)) * DAY
        outcomes = frame_of(observations, first=first, last=last + reach)
        issued = issued[issued["issued_at"] <= clock.as_of]
        issued = issued.assign(day=issued["issued_at"].dt.tz_localize(None).dt.floor("D").astype("datetime64[us]"))
        issued = issued.merge(part[[*KEY, "day"]], on=[*KEY, "day"]).drop(columns="day")

        def failed(product_id: str, entity_id: str, error: Exception) -> None:
            recipe.faults[product_id, entity_id] = reason(error)

        edges = scoring.lead_edges_minutes
        sums = score_sums(issued, outcomes, fleet, edges, clock.as_of, scoring.rules, on_failure=failed)
        sums = sums.assign(issued_on=pd.to_datetime(sums["period"]))
        return pa.table({field.name: pa.array(sums[field.name].tolist(), field.type) for field in _TYPES}, schema=_TYPES)

    recipe = Recipe(pd.concat(parts, ignore_index=True), work)
    return recipe


def _reach(product: Product) -> int:
    """How many days after its day of issue the last interval of an issue may begin."""
    return product.horizon_minutes // 1440 + 1


def _issues(due: pd.DataFrame, made: pd.DataFrame, clock: Clock) -> pd.DataFrame:
    """Issues by ``as_of``, with a number of what each was made from."""
    begun = due.loc[due["issued_at"] <= clock.as_of, _MADE]
    found = begun.merge(made[_MADE].drop_duplicates(), on=_MADE, how="left", indicator="found")
    numbers = np.array([int(text, 16) for text in found["fingerprint"]], dtype=np.uint64)
    issued_at = found["issued_at"].dt.tz_localize(None).to_numpy("datetime64[us]")
    unmade = np.where(found["found"] == "both", NO_DAY.to_datetime64(), np.datetime64(clock.as_of.replace(tzinfo=None), "us"))
    return pd.DataFrame({"product_id": found["product_id"], "issued_at": issued_at, "number": mixed(numbers, issued_at, unmade)})


def score_issued(live_score_sums: Derived, fleet: Fleet) -> Recipe:
    """One row per product, entity, model, period, bucket of lead time, metric and level, of what was issued by ``as_of``.

    Period ``all`` has every bucket of lead time; each day of issue has the whole horizon. Models are not paired: after a
    promotion another model issues, and the two share no issue.
    """
    known = live_score_sums.days
    known = known.loc[known["rows"] > 0, [*KEY, "day", "digest"]]
    step = known["product_id"].map({product.id: _step(product) for product in fleet.products}).to_numpy(np.uint64)
    by_day = known.assign(step=step, fingerprint=mixed(known["digest"], step)).drop(columns="digest")
    of_all = known.assign(step=step, fingerprint=mixed(known["digest"], known["day"], step)).drop(columns="digest")
    # Sums of unsigned numbers wrap around.
    of_all = of_all.groupby(KEY, as_index=False).agg({"step": "first", "fingerprint": "sum"}).assign(day=NO_DAY)

    def work(part: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(_scored(part, live_score_sums, fleet) or [LiveScores.table([])], ignore_index=True)

    return Recipe(pd.concat([by_day, of_all], ignore_index=True), work)


def _step(product: Product) -> int:
    return number_of([product.quantile_levels, product.horizon_minutes, SCORES_VERSION])


def _scored(part: pd.DataFrame, live_score_sums: Derived, fleet: Fleet) -> list[pd.DataFrame]:
    """Scores of some days, and of all days where these are asked for."""
    tables = []
    for whole, asked in part.groupby(part["day"] == NO_DAY):
        first, last = (None, None) if whole else (asked["day"].min(), asked["day"].max())
        sums = live_score_sums.frame(first=first, last=last)
        sums = sums.assign(day=sums["issued_on"].dt.tz_localize(None))
        sums = sums.merge(asked[KEY if whole else [*KEY, "day"]])
        sums = sums.assign(period="all" if whole else sums["day"].dt.strftime("%Y-%m-%d"))
        for product_id, own in sums.groupby("product_id"):
            product = fleet.product(str(product_id))
            whole_horizon = (own["lead_from_minutes"] == 0) & (own["lead_to_minutes"] == product.horizon_minutes)
            scores = scores_of_sums(own if whole else own[whole_horizon], product)
            # Of 'all' there is no day.
            scored_on = pd.to_datetime(scores["period"], utc=True, format="%Y-%m-%d", errors="coerce")
            tables.append(scores.assign(scored_on=scored_on.astype("datetime64[us, UTC]")))
    return tables


def note_unscored(live_score_sums: Derived, clock: Clock) -> pd.DataFrame:
    """One row per product and entity that could not be scored."""
    days = live_score_sums.days
    failed = days[days["fault"] != ""].sort_values("day").drop_duplicates(KEY, keep="last")
    action = "look at its observations and its forecasts; the forecasts are issued all the same"
    failures = [
        Failure(
            "live_scoring",
            "scores_unknown",
            f"{row['product_id']}/{row['entity_id']}: what it issued is not scored: {row['fault']}",
            action,
            "warning",
            row["product_id"],
            row["entity_id"],
        )
        for row in failed.to_dict("records")
    ]
    return failures_table(failures, clock.as_of)
