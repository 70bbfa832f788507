"""Figures of scores: by lead time, reliability, in operation, and the gap from cross-validation to operation."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.pipelines.reporting import drawing, views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.drawing import Panel, draw_views, escaped, numbers, plain, views_of_members
from wind_kedro.pipelines.reporting.settings import Reporting

#: Line styles of models other than the champion, in order of their names.
_OTHER_LINES = [
    (drawing.ORANGE, "dash"),
    (drawing.GREEN, "dot"),
    (drawing.PURPLE, "dashdot"),
    (drawing.VERMILION, "longdash"),
    (drawing.SKY, "longdashdot"),
]
#: Names of deciding scores that are shares of capacity and means of losses, so that days can be averaged.
_SHARES = {"pinball_share": "pinball loss", "nmae_share": "nMAE", "crps_share": "CRPS"}
#: Column of `contracts.Accuracy`, label, colour.
_ACCURACY_BARS = (
    ("cross_validated", "cross-validated", drawing.ORANGE),
    ("backtested", "backtested, as known then", drawing.BLUE),
    ("operational", "as operated", drawing.GREEN),
)


def _any_perfect(*scores: pd.DataFrame) -> bool:
    return any((table["weather"] == PERFECT_WEATHER).any() for table in scores)


def draw_lead_times(
    backtest_scores: pd.DataFrame, promotions: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw error and pinball loss of every model in the backtest by lead time; lower is better."""
    shown = views_of_members(fleet, clock, reporting)
    for member, view in shown:
        scores = views.in_all(member.rows(backtest_scores))
        scores = scores[scores["metric"].isin(["nmae_share", "pinball_share"]) & scores["level"].isna()]
        view.perfect_weather = _any_perfect(scores)
        champion = next(reversed(views.champions(promotions, member, clock)), None)
        others = sorted(set(scores["model"]) - {champion})
        # The champion's line is the same in every figure.
        styles: dict[str, dict[str, Any]] = {champion: {"colour": drawing.BLUE, "width": 3}} if champion else {}
        for number, model in enumerate(others):
            colour, dash = _OTHER_LINES[number % len(_OTHER_LINES)]
            styles[model] = {"colour": colour, "dash": dash}
        for model, style in styles.items():
            for row, metric in enumerate(["nmae_share", "pinball_share"], start=1):
                leads = views.by_lead(scores[(scores["model"] == model) & (scores["metric"] == metric)], member.product)
                if leads.empty:
                    continue
                start, end = leads["lead_from_minutes"] / 60, leads["lead_to_minutes"] / 60
                view.line(
                    numbers((start + end) / 2, 2), numbers(leads["value"] * 100),
                    escaped(plain(model) + (" (the champion)" if model == champion else "")), **style, row=row,
                    mode="lines+markers", legendgroup=model, showlegend=row == 1,
                    customdata=[[f"{a:g}–{b:g} h", int(n)] for a, b, n in zip(start, end, leads["n"], strict=True)],
                    hover="%{customdata[0]}: %{y:.2f} % (%{customdata[1]:,} intervals)<extra>%{fullData.name}</extra>",
                )  # fmt: skip
    return draw_views(
        "Errors by lead time",
        [view for _, view in shown],
        [
            Panel("lead time (hours)", "nMAE (% of capacity)", drawing.FROM_ZERO, drawing.FROM_ZERO),
            Panel("lead time (hours)", "pinball loss (% of capacity)", drawing.FROM_ZERO, drawing.FROM_ZERO),
        ],
        empty="No model was backtested yet: run the pipeline training.",
        height=680,
    )


def draw_reliability(
    backtest_scores: pd.DataFrame,
    live_scores: Derived | pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> Figure:
    """Draw the observed frequency of actuals below each quantile against its level (reliability diagram)."""
    shown, live_scores = views_of_members(fleet, clock, reporting), frame_of(live_scores)
    for member, view in shown:
        promoted = views.champions(promotions, member, clock)
        backtest = _frequencies(member.rows(backtest_scores), promoted[-1:], member)
        live = _frequencies(views.known_periods(member.rows(live_scores), clock), promoted, member)
        view.perfect_weather = _any_perfect(backtest, live)
        for rows, name, colour, symbol in (
            (backtest, "in the backtest", drawing.BLUE, "circle"),
            (live, "in operation", drawing.ORANGE, "square"),
        ):
            if rows["level"].notna().any():
                by_level = {float(str(level)): at_level for level, at_level in rows.groupby("level")}
                seen = [views.weighted_mean(at_level) for at_level in by_level.values()]
                view.line(
                    numbers(level * 100 for level in by_level), numbers((math.nan if s is None else s * 100 for s in seen), 2),
                    name, colour, mode="lines+markers", marker={"symbol": symbol, "size": 8},
                    customdata=[[int(at_level["n"].sum())] for at_level in by_level.values()],
                    hover="forecast %{x:.3~g} %, observed %{y:.1f} % (%{customdata[0]:,} intervals)",
                )  # fmt: skip
        if view.traces:
            view.line([0, 100], [0, 100], "perfectly reliable", drawing.MUTED, width=1, dash="dash")
    axes = {"range": [0, 100]}
    return draw_views(
        "Are the ranges reliable?",
        [view for _, view in shown],
        [
            Panel(
                "nominal share of cases below the level (%)",
                "observed share of cases below the level (%)",
                axes | {"constrain": "domain"},
                axes | {"scaleanchor": "x", "scaleratio": 1},
            )
        ],
        empty="No scores yet: run the pipeline training.",
        height=560,
    )


def _frequencies(scores: pd.DataFrame, promoted: list[str], member: views.Member) -> pd.DataFrame:
    scores = views.over_all_leads(views.in_all(scores), member.product)
    return views.of_champions(scores[scores["metric"] == "observed_frequency"], promoted)


def draw_live_performance(
    live_scores: Derived | pd.DataFrame,
    backtest_scores: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> Figure:
    """Draw the deciding score of issued forecasts by day, with that of the backtest and the product's goal."""
    shown, live_scores = views_of_members(fleet, clock, reporting), frame_of(live_scores)
    for member, view in shown:
        product = member.product
        metric = product.deciding_score if product.deciding_score in _SHARES else "nmae_share"
        promoted = views.champions(promotions, member, clock)
        live = views.known_periods(member.rows(live_scores), clock)
        live = views.of_champions(live[(live["metric"] == metric) & live["level"].isna()], promoted)
        live = views.over_all_leads(views.by_day(live), product)
        view.label, view.perfect_weather = f"{member.label}, {_SHARES[metric]}", _any_perfect(live)
        if live.empty:
            continue
        days = live.assign(loss=live["value"] * live["n"]).groupby("period")[["loss", "n"]].sum()
        days.index = pd.DatetimeIndex(pd.to_datetime(days.index))
        rolled = days.rolling(f"{reporting.live_average_days}D").sum()
        x = [f"{day:%Y-%m-%d}" for day in days.index]
        view.add(
            "scatter", x, numbers(days["loss"] / days["n"] * 100), "each day", mode="markers",
            marker={"color": drawing.SKY, "size": 7}, hover="%{x|%-d %b %Y}: %{y:.2f} %",
        )  # fmt: skip
        mean = f"mean of {reporting.live_average_days} days"
        view.line(x, numbers(rolled["loss"] / rolled["n"] * 100), mean, drawing.BLUE, width=2.5, hover="mean: %{y:.2f} %")
        backtest = member.rows(backtest_scores)
        backtest = views.of_champions(backtest[(backtest["metric"] == metric) & backtest["level"].isna()], promoted[-1:])
        expected = views.weighted_mean(views.over_all_leads(views.in_all(backtest), product))
        goal = product.goal.target if metric == product.deciding_score else None
        for value, name, colour, dash in (
            (expected, "expected from the backtest", drawing.ORANGE, "dash"),
            (goal, "goal", drawing.GREEN, "dot"),
        ):
            if value is not None:
                view.line([x[0], x[-1]], numbers([value * 100] * 2), f"{name}: {value * 100:.2f} %", colour, dash=dash)
    return draw_views(
        "In operation: is it as good as in the backtest?",
        [view for _, view in shown],
        [Panel("day of issue (UTC)", "score (% of capacity)", {"type": "date"}, drawing.FROM_ZERO)],
        empty="No issued forecast could be scored yet: run the pipeline monitoring once actuals have arrived.",
    )


def draw_accuracy(accuracy: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw the deciding score of each model, cross-validated, backtested and as operated; labels contain the gap."""
    accuracy, shown = frame_of(accuracy), views_of_members(fleet, clock, reporting)
    for member, view in shown:
        for row in member.rows(accuracy).to_dict("records"):
            view.label = (
                f"{member.label}, {plain(row['model'])}: gap {100 * row['gap_share']:+.1f} %, "
                f"fallbacks in {100 * row['fallback_share']:.1f} % of the intervals"
            )
            for column, name, colour in _ACCURACY_BARS:
                view.add("bar", [name], numbers([row[column]], 5), name, marker={"color": colour}, hover=f"{name}: %{{y:.4f}}")
    return draw_views(
        "Accuracy before and in operation",
        [view for _, view in shown],
        [Panel("how it was measured", "mean loss of the deciding score", {"type": "category"}, drawing.FROM_ZERO)],
        empty="Nothing was cross-validated: run the pipeline training, with backtest.cross_validation_blocks.",
        height=380,
    )
