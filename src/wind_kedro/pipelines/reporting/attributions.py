"""Figure of the attributions of the newest forecast."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import BASE, PERFECT_WEATHER, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.figures import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Panel,
    View,
    detailed_members,
    draw_views,
    numbers,
    times,
)
from wind_kedro.pipelines.reporting.settings import Reporting

_COLOURS = (BLUE, SKY, GREEN, ORANGE, PURPLE, VERMILION, MUTED, "#f0e442", "#8c564b")


def draw_attributions(
    attributions: pd.DataFrame, forecasts: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the contribution of each group of inputs to the newest forecast by interval, and its median, in MW.

    Bars are stacked from the model's base value (the start) and sum to the median.
    """
    shown = []
    for member in detailed_members(fleet, reporting):
        view = View(member.key, member.label, fleet.perfect_weather(member.entity_id))
        newest = views.newest_issue(forecasts, member, clock)
        rows = member.rows(attributions).merge(newest[["issued_at", "valid_at"]], on=["issued_at", "valid_at"])
        if newest.empty:
            view.note = "No forecast was issued yet: run the pipeline forecasting."
        elif rows.empty:
            view.note = f"The model '{newest['model'].iloc[0]}' provides no attributions to the pipeline forecasting."
        else:
            view.perfect_weather = view.perfect_weather or bool((newest["weather"] == PERFECT_WEATHER).any())
            _add_bars(view, rows, newest, member)
        shown.append(view)
    return draw_views(
        "What moved the newest forecast",
        shown,
        [Panel("start of the interval (UTC)", "power above the start (MW)", {"type": "date"})],
        height=510,
        legend_rows=3,
        barmode="relative",
        bargap=0.08,
        hovermode="x unified",
    )


def _add_bars(view: View, rows: pd.DataFrame, newest: pd.DataFrame, member: views.Member) -> None:
    from plotly import graph_objects

    issued = newest["issued_at"].iloc[0]
    x = times(newest["valid_at"])
    moved = rows.pivot(index="valid_at", columns="feature_group", values="contribution_kw") / views.KW_PER_MW
    leading = rows.assign(
        text=[
            f"{feature} {value:.3g}" if feature and not pd.isna(value) else feature
            for feature, value in zip(rows["feature"], rows["feature_value"], strict=True)
        ]
    ).pivot(index="valid_at", columns="feature_group", values="text")
    base = moved[BASE].mean()
    who = rows.loc[rows["feature_group"] == BASE, "feature"].iloc[0]
    start = f"start: {base:.2f} MW" + (f", by {who}" if who else "")
    view.label = f"{member.label}, issued {issued.day} {issued:%b %Y %H:%M} UTC · {start}"
    # Largest first: nearest to the start, and first in the legend.
    order = moved.drop(columns=BASE).abs().sum().sort_values(ascending=False, kind="stable").index
    for attribution, colour in zip(order, _COLOURS, strict=False):
        view.add(
            graph_objects.Bar(
                x=x, y=numbers(moved[attribution]), name=attribution,
                marker={"color": colour, "line": {"width": 0}}, customdata=list(leading[attribution]),
                hovertemplate=f"{attribution}: %{{y:+.2f}} MW, most by %{{customdata}}<extra></extra>"
                if leading[attribution].str.len().any()
                else f"{attribution}: %{{y:+.2f}} MW<extra></extra>",
            )
        )  # fmt: skip
    medians = newest[quantile_column(0.5)] / views.KW_PER_MW
    view.add(
        graph_objects.Scatter(
            x=x, y=numbers(medians - base), mode="lines", name="forecast, less the start",
            line={"color": INK, "width": 2}, customdata=numbers(medians),
            hovertemplate="forecast: %{customdata:.2f} MW<extra></extra>",
        )
    )  # fmt: skip
