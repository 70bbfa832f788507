"""Plotly figures with one view per farm or product, a menu, titles with units, and the kind of weather.

Colours are those of Okabe and Ito (2008), which can be distinguished with any kind of colour vision; lines also differ in dash.
Figures contain plain lists with few digits, so that equal input gives equal files, which older versions of Plotly can read.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.settings import Reporting

INK, MUTED, GRID = "#1d2b36", "#5b6b78", "#e3e8ec"
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
BLUE_RGB = "0, 114, 178"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FROM_ZERO = {"rangemode": "tozero"}

#: Pixels between two panels: room for ticks and the title of the upper one.
_PANEL_GAP = 105
_EMPTY_HEIGHT = 280
_LEGEND_ROW = 20
_AXIS = {
    "gridcolor": GRID, "linecolor": MUTED, "zerolinecolor": GRID, "ticks": "outside", "tickcolor": MUTED, "automargin": True,
}  # fmt: skip


@dataclass
class View:
    """View of one farm or product in a figure: an entry of its menu."""

    key: str
    label: str
    perfect_weather: bool = False
    note: str = ""
    categories: list[str] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, kind: str, x: Sequence[Any], y: Sequence[Any], name: str, *, row: int = 1, hover: str = "", **options: Any
    ) -> None:
        """Add a Plotly trace (``scatter`` or ``bar``) to a row of panels; no label without the template ``hover``."""
        shown = {"hovertemplate": hover if "<extra>" in hover else f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
        self.traces.append(
            {"type": kind, "x": x, "y": y, "name": name, "xaxis": f"x{row}", "yaxis": f"y{row}", **shown, **options}
        )

    def line(
        self, x: Sequence[Any], y: Sequence[Any], name: str, colour: str, width: float = 2, dash: str = "solid", **options: Any
    ) -> None:
        """Add a line; ``options`` as of `add`, and of Plotly's scatter."""
        line = {"color": colour, "width": width, "dash": dash}
        self.add("scatter", x, y, name, **{"mode": "lines", "line": line} | options)

    @property
    def subtitle(self) -> str:
        """Label, and the kind of weather if it is perfect, as HTML of Plotly."""
        return escaped(self.label) + (f" · <b>{PERFECT_WEATHER}</b>" if self.perfect_weather else "")

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """The note in the middle of the figure, if there is one."""
        place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        return [place | {"text": self.note, "font": {"size": 15, "color": MUTED}}] if self.note else []


@dataclass(frozen=True)
class Panel:
    """Titles of a pair of axes, with units, and Plotly's options of each."""

    x: str
    y: str
    x_options: dict[str, Any] = field(default_factory=dict)
    y_options: dict[str, Any] = field(default_factory=dict)


def draw_views(
    title: str,
    shown: Sequence[View],
    panels: Sequence[Panel],
    *,
    empty: str = "",
    height: int = 440,
    legend_rows: int = 1,
    **layout: Any,
) -> Figure:
    """Combine views in one figure with a menu; the first is visible, and one without traces shows its note, else ``empty``.

    ``height`` is in pixels; ``legend_rows`` is the number of rows of the legend above the axes, for a page of usual width.
    """
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=len(panels), cols=1, vertical_spacing=_PANEL_GAP / height)
    for view in shown:
        view.note = view.note or ("" if view.traces else empty)
        figure.add_traces([trace | {"visible": view is shown[0]} for trace in view.traces])
    for number, panel in enumerate(panels, start=1):
        figure.update_xaxes(_AXIS | {"title": {"text": panel.x}} | panel.x_options, row=number, col=1)
        figure.update_yaxes(_AXIS | {"title": {"text": panel.y}} | panel.y_options, row=number, col=1)
    first = shown[0] if shown else View("", "no farm", note="There is nothing to show.")
    has_menu = len(shown) > 1
    figure.update_layout(
        {
            "template": go.layout.Template(),
            "title": {
                "text": title, "subtitle": {"text": first.subtitle, "font": {"size": 13, "color": MUTED}},
                "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
                "pad": {"l": 12, "t": 14}, "font": {"size": 17},
            },
            "font": {"family": FONT, "size": 13, "color": INK},
            "annotations": first.annotations,
            "height": height,
            "margin": {"l": 70, "r": 24, "t": (152 if has_menu else 124) + _LEGEND_ROW * (legend_rows - 1), "b": 60},
            "paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff",
            "hoverlabel": {"font": {"family": FONT}},
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
            "showlegend": True,
        }
    )  # fmt: skip
    figure.update_layout(layout)
    if not figure.data:
        # Tick labels of axes without data are meaningless.
        figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
        figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
        figure.update_layout(height=_EMPTY_HEIGHT)
    if has_menu:
        owners = [view for view in shown for _ in view.traces]
        by_category = any(view.categories for view in shown)
        buttons = [
            {
                "label": escaped(view.label),
                "name": view.key,  # by which the page's one menu finds it
                "method": "update",
                "args": [
                    {"visible": [view is owner for owner in owners]},
                    {"annotations": view.annotations, "title.subtitle.text": view.subtitle}
                    | ({"yaxis.categoryarray": view.categories} if by_category else {}),
                ],
            }
            for view in shown
        ]
        place = {"x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom", "pad": {"b": 34}}
        figure.update_layout(updatemenus=[place | {"buttons": buttons, "showactive": True}])
    return figure


def views_of_farms(fleet: Fleet, clock: Clock, reporting: Reporting) -> list[tuple[Farm, View]]:
    """The farms shown in figures, each with an empty view."""
    return [(farm, View(farm.id, farm.name)) for farm in fleet.at(clock.as_of).farms[: reporting.detailed_members]]


def views_of_members(fleet: Fleet, clock: Clock, reporting: Reporting) -> list[tuple[views.Member, View]]:
    """The members of products shown in figures, each with an empty view."""
    shown = views.members(fleet, clock)[: reporting.detailed_members]
    return [(member, View(member.key, member.label, member.perfect_weather)) for member in shown]


def escaped(text: str) -> str:
    """Text in which Plotly, which interprets some HTML, finds none."""
    return html.escape(text, quote=False)


def plain(code: str) -> str:
    """A code, model or column as text."""
    return code.replace("_", " ")


def numbers(values: Any, digits: int = 3) -> list[float | None]:
    """Round numbers, with None for missing ones (null in JSON)."""
    return [None if value is None or not math.isfinite(value) else round(float(value), digits) for value in values]


def times(values: Any) -> list[str]:
    """Format times for Plotly."""
    return [f"{value:%Y-%m-%dT%H:%M}" for value in pd.DatetimeIndex(values)]
