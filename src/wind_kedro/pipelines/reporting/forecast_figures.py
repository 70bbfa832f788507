"""Figures of the newest forecast: fan chart and attributions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import BASE, PERFECT_WEATHER, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, Sliced, frame_of
from wind_kedro.evaluation.scores import central_bands
from wind_kedro.pipelines.reporting import drawing, views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.drawing import Panel, View, draw_views, numbers, times, views_of_members
from wind_kedro.pipelines.reporting.settings import Reporting

_GROUP_COLOURS = (
    drawing.BLUE,
    drawing.SKY,
    drawing.GREEN,
    drawing.ORANGE,
    drawing.PURPLE,
    drawing.VERMILION,
    drawing.MUTED,
    "#f0e442",
    "#8c564b",
)


def draw_forecast(
    forecasts: Sliced | pd.DataFrame, observations: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the newest forecast as a fan chart, with measured power before and since, in MW."""
    forecasts, observations = frame_of(forecasts), frame_of(observations)
    shown = views_of_members(fleet, clock, reporting)
    for member, view in shown:
        newest = views.newest_issue(forecasts, member, clock)
        if len(newest):
            actual = views.measured(observations, member.entity_id, member.product.granularity_minutes, clock)
            _label_issue(view, newest, member)
            _add_fan(view, newest, actual, member, reporting)
    return draw_views(
        "The newest forecast, and power measured since",
        [view for _, view in shown],
        [Panel("start of the interval (UTC)", "power (MW)", {"type": "date"}, drawing.FROM_ZERO)],
        empty="No forecast was issued yet: run the pipeline forecasting.",
        height=480,
        hovermode="x unified",
    )


def _label_issue(view: View, newest: pd.DataFrame, member: views.Member) -> None:
    issued = newest["issued_at"].iloc[0]
    view.perfect_weather = view.perfect_weather or bool((newest["weather"] == PERFECT_WEATHER).any())
    view.label = f"{member.label}, issued {issued.day} {issued:%b %Y %H:%M} UTC"


def _add_fan(view: View, newest: pd.DataFrame, actual: pd.DataFrame, member: views.Member, reporting: Reporting) -> None:
    levels, issued = member.product.quantile_levels, newest["issued_at"].iloc[0]
    x = times(newest["valid_at"])
    main = views.band_levels(levels, reporting.band_share)
    for number, (low, high, nominal) in enumerate(central_bands(levels)):
        is_main = (levels[low], levels[high]) == main
        band: dict[str, Any] = {
            "name": f"{nominal * 100:g} % range",
            "colour": drawing.BLUE,
            "width": 0,
            "legendgroup": f"{nominal}",
        }
        upper: dict[str, Any] = {"fill": "tonexty", "fillcolor": f"rgba({drawing.BLUE_RGB}, {0.12 + 0.08 * number:.2f})"}
        for level, fill in ((levels[low], dict[str, Any]()), (levels[high], upper)):
            hover = f"{level:.1%} level: %{{y:.2f}} MW".replace(".0%", "%") if is_main else ""
            y = numbers(newest[quantile_column(level)] / views.KW_PER_MW)
            view.line(x, y, hover=hover, showlegend=bool(fill), **fill, **band)
    median = numbers(newest[quantile_column(0.5)] / views.KW_PER_MW)
    view.line(x, median, "forecast (median)", drawing.BLUE, width=2.5, hover="forecast: %{y:.2f} MW")
    step = pd.Timedelta(minutes=member.product.granularity_minutes)
    before = issued - pd.Timedelta(hours=reporting.fan_history_hours)
    seen = actual.loc[(actual.index >= before) & (actual.index < newest["valid_at"].max() + step), "power_share"]
    # Missing intervals are null, so that lines do not cross gaps.
    if len(seen):
        seen = seen.reindex(pd.date_range(seen.index.min(), seen.index.max(), freq=step))
    capacity_mw = float(newest["capacity_kw"].max()) / views.KW_PER_MW
    measured = numbers(seen * capacity_mw)
    view.line(times(seen.index), measured, "measured", drawing.INK, width=1.8, connectgaps=False, hover="measured: %{y:.2f} MW")
    height = [0, round(capacity_mw, 3)]
    view.line(times([issued, issued]), height, "issued", drawing.MUTED, width=1, dash="dash", showlegend=False)


def draw_attributions(
    attributions: pd.DataFrame, forecasts: Sliced | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the contribution of each group of inputs to the newest forecast by interval, and its median, in MW.

    Bars are stacked from the model's base value (the start) and sum to the median.
    """
    forecasts = frame_of(forecasts)
    shown = views_of_members(fleet, clock, reporting)
    for member, view in shown:
        newest = views.newest_issue(forecasts, member, clock)
        rows = member.rows(attributions).merge(newest[["issued_at", "valid_at"]], on=["issued_at", "valid_at"])
        if len(rows):
            _label_issue(view, newest, member)
            _add_contributions(view, rows, newest)
        elif len(newest):
            view.note = f"The model '{newest['model'].iloc[0]}' provides no attributions to the pipeline forecasting."
    return draw_views(
        "What moved the newest forecast",
        [view for _, view in shown],
        [Panel("start of the interval (UTC)", "power above the start (MW)", {"type": "date"})],
        empty="No forecast was issued yet: run the pipeline forecasting.",
        height=510,
        legend_rows=3,
        barmode="relative",
        bargap=0.08,
        hovermode="x unified",
    )


def _add_contributions(view: View, rows: pd.DataFrame, newest: pd.DataFrame) -> None:
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
    view.label += f" · start: {base:.2f} MW" + (f", by {who}" if who else "")
    # Largest first: nearest to the start, and first in the legend.
    order = moved.drop(columns=BASE).abs().sum().sort_values(ascending=False, kind="stable").index
    for group, colour in zip(order, _GROUP_COLOURS, strict=False):
        most = ", most by %{customdata}" if leading[group].str.len().any() else ""
        view.add(
            "bar", x, numbers(moved[group]), group, marker={"color": colour, "line": {"width": 0}},
            customdata=list(leading[group]), hover=f"{group}: %{{y:+.2f}} MW{most}",
        )  # fmt: skip
    medians = newest[quantile_column(0.5)] / views.KW_PER_MW
    view.line(
        x, numbers(medians - base), "forecast, less the start", drawing.INK, customdata=numbers(medians),
        hover="forecast: %{customdata:.2f} MW",
    )  # fmt: skip
