"""The gate: may a challenger take a champion's place? Statistics of paired forecasts, and nothing of pipelines.

Both have forecast the same issues out of sample. A challenger is let through if it gains the margin, if the gain is no chance,
and if no guard-rail breaks. Each rule is a small function with a code of its own, so that a decision can name it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.evaluation.settings import GATE_RULES, Correction, GateRules
from wind_kedro.failures import OnFailure, isolated

Array = NDArray[np.float64]

# --- paired forecasts ------------------------------------------------------------------------------------------------


def extreme_intervals(weather: pd.DataFrame, rules: GateRules = GATE_RULES) -> pd.DataFrame:
    """For each row of features whether it is of an extreme hour: ``strong`` wind, or a large ``change`` from the interval before.

    Conditioned on the forecast, not on the outcome: scores of observed extremes reward forecasts that are always extreme (Lerch,
    Thorarinsdottir, Ravazzolo and Gneiting, Statistical Science 32, 2017). Of each entity the ``extreme_share`` of its rows.
    """
    keys = ["product_id", "entity_id"]
    ordered = weather.sort_values([*keys, "issued_at", "valid_at"], kind="stable")
    wind = ordered["wind_speed_100m_ms"].astype(float)
    change = wind_change(ordered)
    found = {}
    for name, values in (("strong", wind), ("change", change)):
        edge = values.groupby([ordered[key] for key in keys]).transform("quantile", 1 - rules.extreme_share)
        found[name] = values >= edge
    return pd.DataFrame(found).reindex(weather.index)


def wind_change(ordered: pd.DataFrame) -> pd.Series:
    """Absolute change of the forecast wind from the interval before in its issue, m/s: a ramp of the weather.

    Args:
        ordered: features in order of product, entity, issue and interval.
    """
    issue = [ordered[name] for name in ("product_id", "entity_id", "issued_at")]
    return ordered["wind_speed_100m_ms"].astype(float).groupby(issue, sort=False).diff().abs()


def mark_extremes(losses: pd.DataFrame, weather: pd.DataFrame, rules: GateRules = GATE_RULES) -> pd.DataFrame:
    """Rows of `scores.interval_losses` with the columns of `extreme_intervals`; what has no row in ``weather`` is not extreme."""
    keys = ["product_id", "entity_id", "issued_at", "valid_at"]
    extreme = weather[keys].join(extreme_intervals(weather, rules))
    marked = losses.merge(extreme, on=keys, how="left", validate="many_to_one")
    return marked.assign(**{name: marked[name].astype("boolean").fillna(False) for name in ("strong", "change")})


def by_issue(intervals: pd.DataFrame) -> pd.DataFrame:
    """One row per product, entity, model and issue from rows of `mark_extremes`.

    ``loss``, ``error_share`` and ``inside`` are means over its intervals, ``strong_loss`` and ``change_loss`` sums over its
    extreme ones, ``nominal`` as given.
    """
    keys = ["product_id", "entity_id", "model", "issued_at"]
    loss = intervals["loss"].to_numpy(dtype=np.float64)
    extreme = {f"{name}_loss": loss * intervals[name].to_numpy(dtype=np.float64) for name in ("strong", "change")}
    table = intervals[[*keys, "loss", "error_share", "inside", "nominal"]].assign(**extreme)
    means = dict.fromkeys(("loss", "error_share", "inside", "nominal"), "mean")
    return table.groupby(keys, sort=True).agg(means | dict.fromkeys(extreme, "sum")).reset_index()


@dataclass(frozen=True)
class Forecasted:
    """What one model did at each issue, in order of time."""

    loss: Array
    error_share: Array
    inside: Array
    nominal: float
    strong_loss: Array
    change_loss: Array

    def take(self, issues: NDArray[np.intp]) -> Forecasted:
        """The same at some issues."""
        return Forecasted(**{name: value if name == "nominal" else value[issues] for name, value in vars(self).items()})


def pair(issues: pd.DataFrame, champion: str, challenger: str) -> tuple[Forecasted, Forecasted]:
    """Champion and challenger of one entity at the issues that both have, from rows of `by_issue`."""
    tables = [issues[issues["model"] == name].set_index("issued_at") for name in (champion, challenger)]
    shared = tables[0].index.intersection(tables[1].index).sort_values()
    names = ("loss", "error_share", "inside", "strong_loss", "change_loss")
    found = []
    for table in tables:
        rows = table.loc[shared]
        values = {name: rows[name].to_numpy(dtype=np.float64) for name in names}
        found.append(Forecasted(**values, nominal=float(rows["nominal"].mean()) if len(rows) else float("nan")))
    return found[0], found[1]


# --- is it better, and by chance? --------------------------------------------------------------------------------------


def gain(champion: Array, challenger: Array) -> float:
    """1 − mean loss of the challenger / that of the champion; 0 where the champion makes no error at all."""
    mean = float(champion.mean()) if len(champion) else 0.0
    return 1 - float(challenger.mean()) / mean if mean > 0 else 0.0


#: What is smaller than this, in parts of a whole, is none.
_ROUNDING = 1e-12


def overlapping(issued: pd.DatetimeIndex, horizon_minutes: float) -> int:
    """How many issues in a row forecast some interval together: 1 where each begins when the last one's horizon has ended."""
    times = issued.unique().sort_values()
    if len(times) < 2:  # noqa: PLR2004 - a distance needs two
        return 1
    apart_minutes = float(np.median(np.diff(times.to_numpy()) / np.timedelta64(1, "m")))
    return max(1, math.ceil(horizon_minutes / apart_minutes))


def lags_of(count: int, overlap: int) -> int:
    """How far the variance of a mean of issues looks back: twice as far as they overlap, and at least 4·(n/100)^(2/9).

    The rule is that of Newey and West, Review of Economic Studies 61, 1994. Their triangle gives the farthest neighbours the
    least weight, so that a reach of the overlap alone would find too little. No more than a third of the series is spent.
    """
    return min(max(2 * overlap if overlap > 1 else 0, int(4 * (count / 100) ** (2 / 9))), count // 3)


def long_run_variance(values: Array, lags: int) -> float:
    """Variance of the mean of a series times its length, where neighbours resemble each other.

    Newey and West, Econometrica 55, 1987: autocovariances up to ``lags``, weighted by Bartlett's triangle, never below nothing.
    """
    n = len(values)
    centred = values - values.mean()
    variance = float(centred @ centred) / n
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    return max(variance, 0.0)


def chance(champion: Array, challenger: Array, overlap: int = 1) -> float:
    """The probability of so large a gain if there were none: one-sided test of Diebold and Mariano on paired losses by issue.

    Diebold and Mariano, Journal of Business and Economic Statistics 13, 1995, with `long_run_variance`, the correction for small
    samples of Harvey, Leybourne and Newbold, International Journal of Forecasting 13, 1997, where ``overlap`` is their number of
    steps ahead, and Student's t with 3/2·n/lags degrees of freedom, those of a variance by Bartlett's triangle (Priestley,
    Spectral Analysis and Time Series, 1981, table 6.2). Equal losses throughout are no gain: 1. So is a series shorter than three
    horizons, whose autocorrelation cannot be estimated.
    """
    from scipy.stats import t

    difference = champion - challenger
    n = len(difference)
    if n < max(2, 3 * overlap) or not np.any(difference):
        return 1.0
    if np.ptp(difference) <= _ROUNDING * np.abs(difference).max():  # the same gain at every issue
        return 0.0 if difference.mean() > 0 else 1.0
    lags = lags_of(n, overlap)
    variance = long_run_variance(difference, lags) / n
    correction = (n + 1 - 2 * overlap + overlap * (overlap - 1) / n) / n
    statistic = difference.mean() / np.sqrt(variance) * np.sqrt(correction)
    return float(t.sf(statistic, min(n - 1, 1.5 * n / max(lags, 1))))


def adjusted(chances: Sequence[float], correction: Correction = "hommel") -> Array:
    """P-values for a family of questions asked at once, in the order given.

    ``holm`` (Scandinavian Journal of Statistics 6, 1979) keeps the chance of a single false promotion below the level whatever
    hangs together; ``hommel`` (Biometrika 75, 1988; the algorithm is Wright's, Biometrics 48, 1992) finds more, and needs that
    what hangs together does so positively, as losses under the same weather do.
    """
    given = np.asarray(chances, dtype=np.float64)
    n = len(given)
    if n == 0:
        return given
    order = np.argsort(given, kind="stable")
    rising = given[order]
    found = np.maximum.accumulate(rising * np.arange(n, 0, -1)) if correction == "holm" else _hommel(rising)
    out = np.empty(n)
    out[order] = np.minimum(found, 1.0)
    return out


def _hommel(rising: Array) -> Array:
    """Wright's algorithm on rising p-values."""
    n = len(rising)
    found = np.full(n, (n * rising / np.arange(1, n + 1)).min())
    for m in range(n - 1, 1, -1):
        first, last = np.arange(n - m + 1), np.arange(n - m + 1, n)
        least = (m * rising[last] / np.arange(2, m + 1)).min()
        lower = np.minimum(m * rising[first], least)
        candidates = np.full(n, lower[-1])
        candidates[first] = lower
        found = np.maximum(found, candidates)
    return np.asarray(np.maximum(found, rising), dtype=np.float64)


# --- guard-rails -------------------------------------------------------------------------------------------------------


def bias_excess(champion: Forecasted, challenger: Forecasted) -> float:
    """By how much the mean error is further from nothing than the champion's, share of capacity."""
    return abs(float(challenger.error_share.mean())) - abs(float(champion.error_share.mean()))


def coverage_excess(champion: Forecasted, challenger: Forecasted) -> float:
    """By how much the coverage of the widest band is further from nominal than the champion's; nothing where there is no band."""
    if np.isnan(champion.nominal):
        return 0.0
    away = [abs(float(model.inside.mean()) - model.nominal) for model in (champion, challenger)]
    return away[1] - away[0]


def extreme_excess(champion: Array, challenger: Array) -> float:
    """How much worse it is in extreme hours, share of the champion's loss there; nothing where there was none."""
    before = float(champion.sum())
    return float(challenger.sum()) / before - 1 if before > 0 else 0.0


def worst_excess(champion: Forecasted, challenger: Forecasted, worst_share: float) -> float:
    """How much worse its worst issues are than the champion's worst, which may be others."""
    count = max(1, round(worst_share * len(champion.loss)))
    before, after = (float(np.sort(model.loss)[-count:].mean()) for model in (champion, challenger))
    return after / before - 1 if before > 0 else 0.0


@dataclass(frozen=True)
class Comparison:
    """Statistics of the paired issues of champion and challenger, before the correction for multiple tests."""

    issues: int
    champion_score: float
    challenger_score: float
    gain_share: float
    p_value: float
    bias_excess_share: float
    coverage_excess_share: float
    strong_wind_excess_share: float
    change_excess_share: float
    worst_excess_share: float


def compare(champion: Forecasted, challenger: Forecasted, rules: GateRules = GATE_RULES, overlap: int = 1) -> Comparison:
    """All that the rules look at; ``overlap`` as in `overlapping`."""
    if not len(champion.loss):
        return Comparison(0, np.nan, np.nan, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Comparison(
        issues=len(champion.loss),
        champion_score=float(champion.loss.mean()),
        challenger_score=float(challenger.loss.mean()),
        gain_share=gain(champion.loss, challenger.loss),
        p_value=chance(champion.loss, challenger.loss, overlap),
        bias_excess_share=bias_excess(champion, challenger),
        coverage_excess_share=coverage_excess(champion, challenger),
        strong_wind_excess_share=extreme_excess(champion.strong_loss, challenger.strong_loss),
        change_excess_share=extreme_excess(champion.change_loss, challenger.change_loss),
        worst_excess_share=worst_excess(champion, challenger, rules.worst_share),
    )


#: The guard-rails, in the order in which they are named: code, statistic of a `Comparison`, and the rule that bounds it.
_RAILS = (
    ("strong_wind", "strong_wind_excess_share", "extreme_excess_share"),
    ("changing_wind", "change_excess_share", "extreme_excess_share"),
    ("worst_issues", "worst_excess_share", "worst_excess_share"),
    ("bias", "bias_excess_share", "bias_share"),
    ("coverage", "coverage_excess_share", "coverage_share"),
)


def verdict(found: Comparison, p_adjusted: float, margin_share: float, rules: GateRules = GATE_RULES) -> str:
    """The code of `contracts.training.REASONS` that decides: ``better``, or the first thing that is wrong."""
    # A tolerance of rounding: a gain of exactly the margin is one.
    if found.issues < rules.min_issues:
        return "too_little_data"
    if found.gain_share <= 0 or found.gain_share < margin_share - 1e-12:
        return "margin"
    if p_adjusted > rules.significance:
        return "not_significant"
    for code, statistic, rule in _RAILS:
        if getattr(found, statistic) > getattr(rules, rule):
            return code
    return "surprising" if found.gain_share > rules.surprise_share else "better"


# --- what a model has seen ---------------------------------------------------------------------------------------------


def leaks(seen: pd.DataFrame, forecasts: pd.DataFrame) -> dict[tuple[str, str, str], str]:
    """What is wrong with the backtest of candidates, by product, entity and candidate: nothing for an honest one.

    A fold may have learnt from outcomes that were known when it began, from intervals that had begun by then, and forecast with
    weather runs initialised by the issue. An issue without a record of it counts as a leak.

    Args:
        seen: one row per product, entity, candidate (``model``) and fold: ``fold_begin``, ``fold_end``, ``known_until`` (when the
            newest outcome that it learnt from became known) and ``trained_through`` (the start of the newest interval).
        forecasts: its forecasts, with ``issued_at`` and ``weather_run_at``.
    """
    keys = ["product_id", "entity_id", "model"]
    found: dict[Any, str] = {}
    for key, rows in forecasts[forecasts["weather_run_at"] > forecasts["issued_at"]].groupby(keys):
        issued_at, run_at = (rows[name].iloc[0] for name in ("issued_at", "weather_run_at"))
        found[key] = f"issue {issued_at:%Y-%m-%d %H:%M} was made with the weather run of {run_at:%Y-%m-%d %H:%M}"
    knew = seen[(seen["known_until"] > seen["fold_begin"]) | (seen["trained_through"] >= seen["fold_begin"])]
    for key, rows in knew.groupby(keys):
        row = rows.iloc[0]
        newest = max(row["known_until"], row["trained_through"])
        found[key] = f"the fold of {row['fold_begin']:%Y-%m-%d %H:%M} had learnt from {newest:%Y-%m-%d %H:%M}"
    issued = forecasts.groupby(keys)["issued_at"].agg(["min", "max"])
    known = issued.join(seen.groupby(keys).agg(begin=("fold_begin", "min"), end=("fold_end", "max")), how="left").reset_index()
    unknown = known["begin"].isna() | (known["min"] < known["begin"]) | (known["max"] >= known["end"])
    for key in known.loc[unknown, keys].itertuples(index=False, name=None):
        found.setdefault(key, "it has forecast issues without a record of its training data")
    return found


# --- the decision ------------------------------------------------------------------------------------------------------


def judge(
    issues: pd.DataFrame,
    champions: Mapping[str, str],
    margin_share: float,
    horizon_minutes: float,
    rules: GateRules = GATE_RULES,
    leaking: Mapping[tuple[str, str, str], str] | None = None,
    on_failure: OnFailure | None = None,
) -> pd.DataFrame:
    """One row per entity and challenger of one product: what was found, and the code that decides.

    All challengers of all entities of the product are one family for the correction.

    Args:
        issues: rows of `by_issue` of one product.
        champions: the champion's model by entity; entities without one are left out.
        margin_share: the product's.
        horizon_minutes: the product's: issues less apart share their weather.
        rules: of the gate.
        leaking: what `leaks` found.
        on_failure: takes what raises for one entity, which then has no row; none: it is raised.
    """
    found: list[tuple[dict[str, str], Comparison]] = []
    for (product_id, entity_id), own in issues.groupby(["product_id", "entity_id"], sort=True):
        champion = champions.get(str(entity_id))
        names = sorted(own["model"].unique())
        if champion not in names:
            continue
        about = {"product_id": str(product_id), "entity_id": str(entity_id), "champion": str(champion)}
        with isolated(on_failure, str(product_id), str(entity_id)):
            overlap = overlapping(pd.DatetimeIndex(own["issued_at"]), horizon_minutes)
            found += [
                (about | {"challenger": name}, compare(*pair(own, str(champion), name), rules, overlap))
                for name in names
                if name != champion
            ]
    p_adjusted = adjusted([comparison.p_value for _, comparison in found], rules.correction)
    rows = []
    for (about, comparison), p_value in zip(found, p_adjusted.tolist(), strict=True):
        leak = (leaking or {}).get((about["product_id"], about["entity_id"], about["challenger"]), "")
        code = "leak" if leak else verdict(comparison, p_value, margin_share, rules)
        rows.append(about | vars(comparison) | {"p_adjusted": p_value, "code": code, "detail": leak})
    columns = [
        "product_id", "entity_id", "champion", "challenger", *Comparison.__annotations__, "p_adjusted", "code", "detail",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    passed = table[table["code"] == "better"].sort_values(["challenger_score", "challenger"], kind="stable")
    second = passed.index.difference(passed.drop_duplicates("entity_id").index)
    table.loc[second, "code"] = "another_is_better"
    return table
