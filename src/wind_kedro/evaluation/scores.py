"""Every score, one signature, one long table.

`score_forecasts` serves the backtest of candidates and the monitoring of what was issued alike. Each score is a small
function of arrays with its formula and source; the score of a group of intervals is the mean of its losses, unless
`METRICS` has another formula.

Power is a share of the capacity that was available: actual = power / available capacity, forecast = quantile / the
capacity it was issued for. So a turbine that did not report is nobody's error. Where kW or MWh are asked for, shares
are brought back by the capacity that was available.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, quantile_columns
from wind_kedro.evaluation.settings import SCORE_RULES, ScoreRules
from wind_kedro.failures import OnFailure, by_entity_where_it_raises

if TYPE_CHECKING:
    from wind_kedro.cards import Fleet, Market, Penalty, Product

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.intp]
Period = Literal["all", "month", "day"]
#: Name and level of a metric, its value for every group of intervals, and the number of intervals behind each.
Metric = tuple[str, float, Array, Array]

#: The models that skill is measured against, by the names under which they are backtested.
REFERENCE_MODELS: tuple[str, ...] = ("persistence", "climatology")

#: What each metric of the table is. The point forecast is the number that the product sells: median, mean or a level.
METRICS: Mapping[str, str] = {
    "nmae_share": "mean |point − actual|, share of available capacity",
    "nrmse_share": "root of the mean (point − actual)², share of available capacity",
    "bias_share": "mean of point − actual, share of available capacity; positive: too much was forecast",
    "mape_share": "mean |point − actual| / actual, only where actual exceeds the floor (5 % of available capacity)",
    "mae_kw": "mean |point − actual|, kW of the capacity that was available",
    "rmse_kw": "root of the mean (point − actual)², kW of the capacity that was available",
    "pinball_share": "mean quantile loss, share of available capacity: at a level, or (no level) the mean over levels",
    "crps_share": "continuous ranked probability score from the quantiles, share of available capacity",
    "coverage": "how often the actual lay inside the central band of that nominal coverage (the level)",
    "width_share": "mean width of the central band of that nominal coverage (the level), share of capacity",
    "observed_frequency": "how often the actual did not exceed the quantile of that level; reliable: equal to it",
    "ramp_hit_rate": "of the observed ramps, the share forecast for that interval and direction; n: ramps observed",
    "ramp_false_alarm_ratio": "of the ramps forecast, the share not observed in that interval and direction; n: ramps forecast",
    "money_per_mwh": "the market's penalty for selling the point forecast, per MWh produced, in the market's currency",
    **{
        f"skill_{score}_vs_{model}": f"1 − {score} / that of {model} on the same intervals; 1: perfect, 0: no better"
        for score in ("nmae", "pinball")
        for model in REFERENCE_MODELS
    },
}


# --- scores of single intervals ---------------------------------------------------------------------------------------


def pinball_loss(actual: Array, quantiles: Array, levels: Sequence[float]) -> Array:
    """Quantile loss: τ·(y − q) where y ≥ q, else (1 − τ)·(q − y); one column a level.

    Source: Koenker and Bassett, Regression quantiles, Econometrica 46, 1978.
    """
    error = actual[:, None] - quantiles
    return np.maximum(np.asarray(levels) * error, (np.asarray(levels) - 1) * error)


def crps_from_pinball(pinball: Array, levels: Sequence[float]) -> Array:
    """Continuous ranked probability score: twice the integral of the quantile loss over the levels 0..1.

    Source: Laio and Tamea, Hydrology and Earth System Sciences 11, 2007, doi:10.5194/hess-11-1267-2007. The integral is
    the trapezoid rule over the levels at hand. Beyond the outermost levels the loss is taken to fall in a straight line
    to zero at 0 and at 1, where the quantiles of a power between nothing and capacity are known.
    """
    edges = np.concatenate(([0.0], np.asarray(levels, dtype=np.float64), [1.0]))
    weights = (edges[2:] - edges[:-2]) / 2
    # Not a product of matrices: the last digit of a row would depend on how many rows there are.
    return np.asarray(2 * (pinball * weights).sum(axis=1), dtype=np.float64)


def percentage_error(point: Array, actual: Array, floor: float) -> Array:
    """|point − actual| / actual; not a number where actual does not exceed ``floor``, where it is undefined."""
    counted = actual > floor
    return np.where(counted, np.abs(point - actual) / np.where(counted, actual, 1.0), np.nan)


def inside_band(actual: Array, lower: Array, upper: Array) -> Flags:
    """Whether the actual lies in the closed band.

    Quantiles of power end at nothing and at capacity. So a calm hour is inside a band that reaches down to nothing, also
    where the farm draws a little power for itself, and likewise at the top.
    """
    possible = np.clip(actual, 0.0, 1.0)
    return (lower <= possible) & (possible <= upper)


def central_bands(levels: Sequence[float]) -> list[tuple[int, int, float]]:
    """Pairs of symmetric levels: positions of the lower and the upper one, nominal coverage."""
    position = {round(level, 6): index for index, level in enumerate(levels)}
    return [
        (index, position[round(1 - level, 6)], round(1 - 2 * level, 6))
        for index, level in enumerate(levels)
        if level < 0.5 and round(1 - level, 6) in position  # noqa: PLR2004 the middle
    ]


def ramp_direction(change: Array, threshold: float) -> NDArray[np.int8]:
    """1 where power rose by ``threshold`` or more, −1 where it fell by as much, else 0, also where that is unknown."""
    # A hair of tolerance: in binary 0.7 − 0.4 is a little less than 0.3.
    least = threshold - 1e-9
    return (change >= least).astype(np.int8) - (change <= -least).astype(np.int8)


def deviation_cost(penalty: Penalty, deviation: Array, capacity_mwh: Array) -> Array:
    """What a deviation costs, in the market's currency.

    Args:
        penalty: the market's rule.
        deviation: produced minus sold, share of the capacity available.
        capacity_mwh: energy of the settled interval at full capacity, MWh.

    ``imbalance``: the missing energy times its price, or the surplus times its. ``bands``: each slice of the absolute
    deviation pays the rate of its band, what lies beyond the last band pays the last rate (the scheme of India's
    deviation settlement).
    """
    if penalty.kind == "imbalance":
        short, long = np.maximum(-deviation, 0), np.maximum(deviation, 0)
        return (short * penalty.short_per_mwh + long * penalty.long_per_mwh) * capacity_mwh
    size = np.abs(deviation)
    cost = np.zeros_like(size)
    lower = 0.0
    for number, band in enumerate(penalty.bands):
        upper = np.inf if number == len(penalty.bands) - 1 else band.up_to_share
        cost += np.clip(size - lower, 0, upper - lower) * band.rate_per_mwh
        lower = band.up_to_share
    return cost * capacity_mwh


def skill(score: Array, reference: Array) -> Array:
    """1 − score / reference; not a number where the reference made no error at all."""
    return 1 - np.divide(score, reference, out=np.full_like(score, np.nan), where=reference != 0)


# --- the table --------------------------------------------------------------------------------------------------------


def score_forecasts(
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    lead_edges_minutes: Sequence[int],
    by: Period = "all",
    as_of: dt.datetime | None = None,
    *,
    paired: bool = True,
    rules: ScoreRules = SCORE_RULES,
    on_failure: OnFailure | None = None,
) -> pd.DataFrame:
    """Score forecasts against observations.

    One row of the result per product, entity, model, period, bucket of lead time, metric (`METRICS`) and level. Buckets
    are ``[from, to)`` between consecutive edges, and besides the whole horizon ``[0, horizon)`` of the product. A
    bucket without a scored interval has no row. The label is "perfect weather" as soon as one interval behind the row
    has it.

    What is scored: intervals with an observation, of the product's granularity, in its version latest at ``as_of``;
    with a quantile for every level that the product declares; and, if ``paired``, only issue times and intervals that
    every model of the product and entity has, so that models are compared on the same rows. A skill needs that and is
    left out otherwise.

    Args:
        forecasts: quantiles in kW, of any models, products and entities.
        observations: power in kW and the capacity that was available, with versions.
        fleet: the cards: levels, granularity and horizon of products, penalties of markets.
        lead_edges_minutes: edges of the buckets, rising; fewer than two leave only the whole horizon.
        by: one row for all, or one per month or UTC day of issue.
        as_of: only what was observed and known by then counts; `None`: everything.
        paired: score models on the intervals they share. Without it each is scored on its own, as when one model
            followed another in operation.
        rules: thresholds of MAPE and of ramps.
        on_failure: takes what raises for one entity, which then has no row; none: it is raised.

    Raises:
        ValueError: if the edges do not rise from 0 or above, if `by` is unknown, or if a column of a declared
            quantile is missing.
        CardError: if a forecast is of a product that no card describes.
    """
    edges = [int(edge) for edge in lead_edges_minutes]
    if edges != sorted(set(edges)) or any(edge < 0 for edge in edges):
        raise ValueError(f"lead_edges_minutes: must rise strictly from 0 or above, not {list(lead_edges_minutes)}")
    if by not in {"all", "month", "day"}:
        raise ValueError(f"by: 'all', 'month' or 'day', not '{by}'")
    known = latest_versions(observations, as_of)
    tables: list[pd.DataFrame] = []
    for product_id, own in forecasts.groupby("product_id"):
        product = fleet.product(str(product_id))

        def score(given: pd.DataFrame, product: Product = product) -> pd.DataFrame:
            rows = _join(given, known, product)
            rows = _paired(rows, product.id) if paired else rows
            return _score_product(rows, product, fleet.market(product.market), edges, by, rules, paired) if len(rows) else rows

        tables += by_entity_where_it_raises(score, own, product.id, on_failure)
    from wind_kedro.contracts.forecasts import Scores

    scored = [table for table in tables if len(table)]
    return Scores.validate(Scores.table(pd.concat(scored, ignore_index=True) if scored else []))


def score_sums(
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    fleet: Fleet,
    lead_edges_minutes: Sequence[int],
    as_of: dt.datetime,
    rules: ScoreRules = SCORE_RULES,
    on_failure: OnFailure | None = None,
) -> pd.DataFrame:
    """What the scores of forecasts of whole days of issue are made of (`scores_of_sums`); each model is on its own.

    Args:
        forecasts: see `score_forecasts`, as the others.
        observations: with versions.
        fleet: the cards.
        lead_edges_minutes: edges of the buckets.
        as_of: only what was observed and known by then counts.
        rules: thresholds of MAPE and of ramps.
        on_failure: takes what raises for one entity.

    Returns:
        One row per product, entity, model, day of issue (``period``) and bucket: lists ``totals`` and ``counts`` of its terms.
    """
    known = latest_versions(observations, as_of)
    tables: list[pd.DataFrame] = []
    for product_id, own in forecasts.groupby("product_id"):
        product = fleet.product(str(product_id))

        def summed(given: pd.DataFrame, product: Product = product) -> pd.DataFrame:
            rows = _join(given, known, product)
            found = _sums(rows, product, fleet.market(product.market), lead_edges_minutes, "day", rules) if len(rows) else ()
            parts = [sums.keys.assign(totals=list(sums.totals), counts=list(sums.counts)) for sums in found]
            return pd.concat([pd.DataFrame(columns=SUMS), *parts], ignore_index=True).assign(product_id=product.id)

        tables += by_entity_where_it_raises(summed, own, product.id, on_failure)
    return pd.concat([pd.DataFrame(columns=SUMS), *tables], ignore_index=True)


#: Columns of `score_sums`.
SUMS = ["product_id", "entity_id", "model", "period", "lead_from_minutes", "lead_to_minutes", "totals", "counts"]


def scores_of_sums(sums: pd.DataFrame, product: Product) -> pd.DataFrame:
    """Scores of one product, as those of `score_forecasts`, from rows of `score_sums` with any periods: equal ones are added up.

    They equal those of the intervals themselves but for the last digits.
    """
    keys, group = _grouped(sums[["entity_id", "model", "period", "lead_from_minutes", "lead_to_minutes"]])
    totals, counts = (_added(group, np.stack(sums[name].to_list(), axis=1), len(keys)) for name in ("totals", "counts"))
    return _scores(_Sums(keys, totals, counts), product, paired=False)


def deciding_scores(scores: pd.DataFrame, product: Product) -> pd.DataFrame:
    """Of a table of scores the rows by which models of a product are compared: its deciding score, over the whole horizon."""
    return scores[
        (scores["product_id"] == product.id)
        & (scores["metric"] == product.deciding_score)
        & scores["level"].isna()
        & (scores["period"] == "all")
        & (scores["lead_from_minutes"] == 0)
        & (scores["lead_to_minutes"] == product.horizon_minutes)
    ]


def latest_versions(observations: pd.DataFrame, as_of: dt.datetime | None) -> pd.DataFrame:
    """One row per entity, granularity and interval: its newest version that was known at ``as_of`` (`None`: of all).

    These are the targets of training and the actuals of scores. Intervals with imputed turbines (``imputed_share``) are left
    out.
    """
    if as_of is not None:
        observations = observations.loc[observations["available_at"] <= pd.Timestamp(as_of)]
    key = ["entity_id", "granularity_minutes", "valid_at"]
    newest = observations.sort_values("available_at", kind="stable").drop_duplicates(key, keep="last")
    return newest[newest["imputed_share"] == 0]


def interval_losses(
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    product: Product,
    market: Market,
    as_of: dt.datetime | None = None,
    rules: ScoreRules = SCORE_RULES,
) -> pd.DataFrame:
    """One row per entity, model, issue time and interval of a product: what it adds to the deciding score, models paired.

    The deciding score of some rows is the mean of ``loss``, or what follows from it: of ``nrmse_share`` the loss is the squared
    error, of ``money_per_mwh`` the cost, which is divided by an energy that is the same for all models. Beside it ``error_share``
    (point − actual) and ``inside``, whether the actual lay in the widest central band (1 or 0; no number where there is
    none), whose nominal coverage is ``nominal``.
    """
    rows = _paired(_join(forecasts, latest_versions(observations, as_of), product), product.id)
    keys = ["entity_id", "model", "issued_at", "valid_at", "lead_minutes", "weather_run_at"]
    if rows.empty:
        nothing = dict.fromkeys(("loss", "error_share", "inside", "nominal"), pd.Series(dtype=float))
        return rows[keys].assign(product_id=pd.Series(dtype=str), **nothing)
    losses = _losses(rows, product, market, rules)
    nominal, inside, _ = max(losses.bands, key=lambda band: band[0], default=(np.nan, np.full(len(rows), np.nan), None))
    return rows[keys].assign(
        product_id=product.id, loss=_deciding(losses, product), error_share=losses.error,
        inside=inside.astype(np.float64), nominal=nominal,
    )  # fmt: skip


def deciding_loss(rows: pd.DataFrame, product: Product, market: Market) -> Array:
    """What each interval adds to the product's deciding score, as `interval_losses` has it.

    Args:
        rows: forecasts with what was measured: ``power_kw``, ``available_capacity_kw``; no quantile is missing.
        product: its levels and deciding score.
        market: where it is sold.
    """
    return _deciding(_losses(rows, product, market, SCORE_RULES), product) if len(rows) else np.zeros(0)


def _deciding(losses: _Losses, product: Product) -> Array:
    found: Mapping[str, Array] = {
        "pinball_share": losses.pinball.mean(axis=1),
        "crps_share": losses.crps,
        "nmae_share": np.abs(losses.error),
        "nrmse_share": losses.error**2,
        "money_per_mwh": losses.cost,
    }
    return found[product.deciding_score]


def _join(forecasts: pd.DataFrame, observations: pd.DataFrame, product: Product) -> pd.DataFrame:
    """One row per forecast interval of the product that can be scored, in order of issue and interval."""
    observed = observations.loc[
        observations["granularity_minutes"] == product.granularity_minutes,
        ["entity_id", "valid_at", "power_kw", "available_capacity_kw"],
    ]
    missing = [column for column in quantile_columns(product.quantile_levels) if column not in forecasts]
    if missing:
        raise ValueError(f"forecasts of product '{product.id}' lack {', '.join(missing)}")
    usable = (
        forecasts[quantile_columns(product.quantile_levels)].notna().all(axis=1)
        & forecasts["lead_minutes"].ge(0)
        & forecasts["lead_minutes"].lt(product.horizon_minutes)
    )
    rows = forecasts.loc[usable].merge(observed, on=["entity_id", "valid_at"], how="inner", validate="many_to_one")
    return rows.sort_values(["entity_id", "model", "issued_at", "valid_at"], kind="stable", ignore_index=True)


def _paired(rows: pd.DataFrame, product_id: str) -> pd.DataFrame:
    """The rows whose issue time and interval every model of the entity has."""
    having = rows.groupby(["entity_id", "issued_at", "valid_at"], sort=False)["model"].transform("size")
    models = rows.groupby("entity_id")["model"].nunique()
    kept: pd.DataFrame = rows.loc[having.to_numpy() == rows["entity_id"].map(models).to_numpy()]
    for entity_id in sorted(set(rows["entity_id"]) - set(kept["entity_id"])):
        names = ", ".join(sorted(rows.loc[rows["entity_id"] == entity_id, "model"].unique()))
        logger.warning("%s, %s: no interval has a forecast of each of %s: nothing scored", product_id, entity_id, names)
    return kept.reset_index(drop=True)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


@dataclass(frozen=True)
class _Sums:
    """Sums over groups of intervals, of which their scores are made; those of disjoint groups add up.

    Attributes:
        keys: one row per group: ``entity_id``, ``model``, ``period``, ``lead_from_minutes``, ``lead_to_minutes``.
        totals: one row per group, one column per term (`_terms_of`); what is not a number counts as 0.
        counts: how many numbers are behind each of them.
    """

    keys: pd.DataFrame
    totals: Array
    counts: Array


def _grouped(keys: pd.DataFrame) -> tuple[pd.DataFrame, Codes]:
    """The keys, each once, and which of them each row has."""
    grouped = keys.groupby(list(keys.columns), sort=True)
    return grouped.size().index.to_frame(index=False), grouped.ngroup().to_numpy().astype(np.intp)


def _added(group: Codes, columns: Iterable[Array], groups: int) -> Array:
    """Sums of each column by group."""
    return np.stack([np.bincount(group, weights=column, minlength=groups) for column in columns], axis=1).astype(np.float64)


def _score_product(
    rows: pd.DataFrame, product: Product, market: Market, edges: Sequence[int], by: Period, rules: ScoreRules, paired: bool
) -> pd.DataFrame:
    tables = [_scores(sums, product, paired=paired) for sums in _sums(rows, product, market, edges, by, rules)]
    return pd.concat(tables, ignore_index=True)


def _sums(
    rows: pd.DataFrame, product: Product, market: Market, edges: Sequence[int], by: Period, rules: ScoreRules
) -> Iterator[_Sums]:
    """Sums over the whole horizon, and over each bucket of lead time."""
    losses = _losses(rows, product, market, rules)
    whole = (0, product.horizon_minutes)
    buckets = [bucket for bucket in pairwise(edges) if bucket != whole]
    # Each issue time is written once: there are many intervals to one.
    issue, issues = pd.factorize(rows["issued_at"])
    shapes = {"all": "all", "month": "%Y-%m", "day": "%Y-%m-%d"}
    periods = pd.DatetimeIndex(issues).strftime(shapes[by]).to_numpy(dtype=object)
    series = rows[["entity_id", "model"]].assign(period=periods[issue])
    lead = rows["lead_minutes"].to_numpy()
    bucket_of = np.full(len(rows), -1)
    for number, (start, end) in enumerate(buckets):
        bucket_of[(start <= lead) & (lead < end)] = number
    for codes, bounds in ((np.zeros(len(rows), dtype=int), [whole]), (bucket_of, buckets)):
        chosen = codes >= 0
        if not chosen.any():
            continue
        span = np.asarray(bounds)[codes[chosen]]
        keys, group = _grouped(series.loc[chosen].assign(lead_from_minutes=span[:, 0], lead_to_minutes=span[:, 1]))
        # One term at a time: all together would need many times the memory of the forecasts.
        totals, counts = (
            _added(group, (of(values[chosen]) for values in _terms(losses, rows)), len(keys)) for of in (np.nan_to_num, _is_known)
        )
        yield _Sums(keys, totals, counts)


def _is_known(values: Array) -> Array:
    return (~np.isnan(values)).astype(np.float64)


def _scores(sums: _Sums, product: Product, *, paired: bool) -> pd.DataFrame:
    """Scores of the groups of one product, metric by metric."""
    terms = _terms_of(product.quantile_levels)
    perfect = sums.totals[:, terms.index(_PERFECT)] > 0
    keys = sums.keys.assign(weather=np.where(perfect, PERFECT_WEATHER, FORECAST_WEATHER))
    metrics = _metrics(terms, sums.totals, sums.counts)
    if paired:
        metrics += _skills(keys, metrics)
    tables = [keys.assign(metric=name, level=level, value=value, n=n.astype(np.int64)) for name, level, value, n in metrics]
    return pd.concat(tables, ignore_index=True).assign(product_id=product.id)


@dataclass(frozen=True)
class _Losses:
    """What every row adds to the scores; shares unless named otherwise."""

    levels: list[float]
    error: Array
    percentage: Array
    available_capacity_kw: Array
    pinball: Array
    crps: Array
    not_exceeded: Flags
    bands: list[tuple[float, Flags, Array]]
    ramp_observed: NDArray[np.int8]
    ramp_forecast: NDArray[np.int8]
    cost: Array
    produced_mwh: Array


def _losses(rows: pd.DataFrame, product: Product, market: Market, rules: ScoreRules) -> _Losses:
    levels = product.quantile_levels
    available = rows["available_capacity_kw"].to_numpy(dtype=np.float64)
    actual = rows["power_kw"].to_numpy(dtype=np.float64) / available
    quantiles = rows[quantile_columns(levels)].to_numpy(dtype=np.float64)
    quantiles = quantiles / rows["capacity_kw"].to_numpy(dtype=np.float64)[:, None]
    point = product.point_of(quantiles)
    pinball = pinball_loss(actual, quantiles, levels)
    # For each row, the position of the row of the same issue some minutes earlier; -1 where there is none. Path and lead in one
    # number are a key, as the lead times of one issue are unique.
    path = rows.groupby(["entity_id", "model", "issued_at"], sort=False).ngroup().to_numpy()
    lead = rows["lead_minutes"].to_numpy(dtype=np.int64)
    key = path * (int(lead.max()) + 1) + lead
    before = np.where(lead >= rules.ramp_minutes, pd.Index(key).get_indexer(pd.Index(key - rules.ramp_minutes)), -1)

    def ramps(values: Array) -> NDArray[np.int8]:
        return ramp_direction(np.where(before >= 0, values - values[before], np.nan), rules.ramp_share)

    cost, produced = _settle(rows, actual, point, product, market)
    return _Losses(
        levels=levels,
        error=point - actual,
        percentage=percentage_error(point, actual, rules.mape_floor_share),
        available_capacity_kw=available,
        pinball=pinball,
        crps=crps_from_pinball(pinball, levels),
        not_exceeded=actual[:, None] <= quantiles,
        bands=[
            (nominal, inside_band(actual, lower, upper), upper - lower)
            for low, high, nominal in central_bands(levels)
            for lower, upper in [(quantiles[:, low], quantiles[:, high])]
        ],
        ramp_observed=ramps(actual),
        ramp_forecast=ramps(point),
        cost=cost,
        produced_mwh=produced,
    )


def _settle(rows: pd.DataFrame, actual: Array, point: Array, product: Product, market: Market) -> tuple[Array, Array]:
    """Cost of selling the product's point forecast (``point``) and energy produced (MWh), per row.

    Several intervals of a product that fall into one settled interval of the market offset each other, as they do in
    its books; each then bears an equal part of the cost. Settled intervals count from midnight of the market's day.
    """
    # Not the quantiles: each part is a copy.
    rows = rows[["entity_id", "model", "issued_at", "valid_at", "available_capacity_kw"]]
    cost, produced = np.empty(len(rows)), np.empty(len(rows))
    for mask, rules in market.by_rules(rows["valid_at"].dt.tz_localize(None).to_numpy()):
        cost[mask], produced[mask] = _settle_by(rows[mask], actual[mask], point[mask], product, rules)
    return cost, produced


def _settle_by(rows: pd.DataFrame, actual: Array, point: Array, product: Product, market: Market) -> tuple[Array, Array]:
    hours = product.granularity_minutes / 60
    capacity_mwh = rows["available_capacity_kw"].to_numpy(dtype=np.float64) / 1000 * hours
    sold, produced = point * capacity_mwh, actual * capacity_mwh
    if product.granularity_minutes == market.settlement_minutes:
        return deviation_cost(market.penalty, actual - point, capacity_mwh), produced
    local = rows["valid_at"].dt.tz_convert(market.time_zone).dt
    into = (local.hour * 60 + local.minute) % market.settlement_minutes
    settled = rows[["entity_id", "model", "issued_at"]].assign(settled_at=rows["valid_at"] - pd.to_timedelta(into, unit="min"))
    codes = settled.groupby(list(settled.columns), sort=False).ngroup().to_numpy().astype(np.intp)
    size, capacity = np.bincount(codes), np.bincount(codes, weights=capacity_mwh).astype(np.float64)
    deviation: Array = np.bincount(codes, weights=produced - sold) / capacity
    return (deviation_cost(market.penalty, deviation, capacity) / size)[codes], produced


#: Terms that are no metrics by themselves: flags of ramps, cost, energy, intervals, intervals with perfect weather.
_RAMPS = ("ramps_observed", None), ("ramps_forecast", None), ("ramps_hit", None)
_MONEY = ("cost", None), ("produced_mwh", None)
_ROWS, _PERFECT = ("intervals", None), ("perfect", None)
#: Metrics that are the root of a mean.
_ROOTS = {"nrmse_share", "rmse_kw"}


def _terms_of(levels: Sequence[float]) -> list[tuple[str, float | None]]:
    """What is summed up over intervals, in order: metric and level where that is the mean or its root, or another term."""
    bands = [nominal for *_, nominal in central_bands(levels)]
    return [
        *((name, None) for name in ("nmae_share", "bias_share", "mape_share", "mae_kw", "pinball_share")),
        *(("pinball_share", level) for level in levels),
        ("crps_share", None),
        *(("observed_frequency", level) for level in levels),
        *(("coverage", nominal) for nominal in bands),
        *(("width_share", nominal) for nominal in bands),
        *((name, None) for name in ("nrmse_share", "rmse_kw")),
        *_RAMPS, *_MONEY, _ROWS, _PERFECT,
    ]  # fmt: skip


def _terms(losses: _Losses, rows: pd.DataFrame) -> Iterator[Array]:
    """The values of `_terms_of` for each interval."""
    error = losses.error
    error_kw = error * losses.available_capacity_kw
    hit = (losses.ramp_observed != 0) & (losses.ramp_observed == losses.ramp_forecast)
    values = (
        np.abs(error), error, losses.percentage, np.abs(error_kw), losses.pinball.mean(axis=1), *losses.pinball.T, losses.crps,
        *losses.not_exceeded.T, *(inside for _, inside, _ in losses.bands), *(width for *_, width in losses.bands),
        error**2, error_kw**2, losses.ramp_observed != 0, losses.ramp_forecast != 0, hit, losses.cost, losses.produced_mwh,
        np.ones(len(error)), rows["weather"].to_numpy() == PERFECT_WEATHER,
    )  # fmt: skip
    for value in values:
        yield np.asarray(value, dtype=np.float64)


def _metrics(terms: Sequence[tuple[str, float | None]], totals: Array, counts: Array) -> list[Metric]:
    metrics: list[Metric] = []
    for place, (name, level) in enumerate(terms):
        if name in METRICS:
            n = counts[:, place]
            mean = _ratio(totals[:, place], n)
            metrics.append((name, np.nan if level is None else level, np.sqrt(mean) if name in _ROOTS else mean, n))

    def total(term: tuple[str, float | None]) -> Array:
        return totals[:, terms.index(term)]

    observed, forecast, hits = (total(term) for term in _RAMPS)
    cost, produced = (total(term) for term in _MONEY)
    return [
        *metrics,
        ("ramp_hit_rate", np.nan, _ratio(hits, observed), observed),
        ("ramp_false_alarm_ratio", np.nan, _ratio(forecast - hits, forecast), forecast),
        ("money_per_mwh", np.nan, _ratio(cost, produced), total(_ROWS)),
    ]


def _skills(keys: pd.DataFrame, metrics: Sequence[Metric]) -> list[Metric]:
    """Skill against each reference model that was scored."""
    overall = {name: (value, n) for name, level, value, n in metrics if np.isnan(level)}
    compared = ["entity_id", "period", "lead_from_minutes", "lead_to_minutes"]
    skills: list[Metric] = []
    for model in REFERENCE_MODELS:
        of_model = keys.loc[keys["model"] == model, compared].assign(position=lambda found: found.index)
        position = keys[compared].merge(of_model, on=compared, how="left")["position"].to_numpy(dtype=np.float64)
        if np.isnan(position).all():
            continue
        at = np.where(np.isnan(position), 0, position).astype(np.intp)
        for name in ("nmae", "pinball"):
            value, n = overall[f"{name}_share"]
            reference = np.where(np.isnan(position), np.nan, value[at])
            skills.append((f"skill_{name}_vs_{model}", np.nan, skill(value, reference), n))
    return skills
