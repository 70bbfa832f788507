"""Plotly figures of the report: one function each, labelled with units and kind of weather.

With several farms or products, a figure has one view of each and a menu. Colours are those of Okabe and Ito (2008), which can be
distinguished with any kind of colour vision; lines also differ in dash for print without colour. Figures contain plain lists
with few digits, so that equal input gives equal files, which older versions of Plotly can read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.columns import PERFECT_WEATHER, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.evaluation.scores import central_bands
from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure, Table
from wind_kedro.pipelines.reporting.settings import Reporting

if TYPE_CHECKING:
    from plotly import graph_objects as go

INK, MUTED, GRID = "#1d2b36", "#5b6b78", "#e3e8ec"
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
BLUE_RGB = "0, 114, 178"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SEVERITY_COLOURS = {"info": SKY, "warning": ORANGE, "error": VERMILION}
READINGS = {
    "as_stamped": "offset honoured, as stamped",
    "wall_clock_is_utc": "offset stripped, read as UTC",
    "wall_clock_is_local": "offset stripped, read as local time",
}
#: Checks that are not faults or have a figure of their own; their bars of 100 % would hide the others.
NO_FAULTS = ["rows_in", "kept", "clock_disagrees_with_card"]
#: Line styles of models other than the champion, in order of their names.
OTHER_LINES = [(ORANGE, "dash"), (GREEN, "dot"), (PURPLE, "dashdot"), (VERMILION, "longdash"), (SKY, "longdashdot")]
#: Kilometres of one degree of latitude (mean meridian of the sphere of 6,371 km).
KM_PER_DEGREE = 111.195


@dataclass
class View:
    """View of one farm or product in a figure: an entry of its menu."""

    key: str
    label: str
    perfect_weather: bool
    traces: list[go.Scatter | go.Bar] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    note: str = ""
    categories: list[str] = field(default_factory=list)

    def add(self, trace: go.Scatter | go.Bar, row: int = 1) -> None:
        """Add a trace to a row of subplots."""
        self.traces.append(trace)
        self.rows.append(row)


@dataclass(frozen=True)
class Panel:
    """Pair of axes."""

    x: str
    y: str
    x_options: dict[str, Any] = field(default_factory=dict)
    y_options: dict[str, Any] = field(default_factory=dict)


def draw_views(
    title: str,
    shown: Sequence[View],
    panels: Sequence[Panel],
    *,
    height: int = 440,
    legend_rows: int = 1,
    **layout: Any,
) -> Figure:
    """Combine views in one figure with a menu; a view without data shows its note.

    ``legend_rows`` is the number of rows of the legend above the axes, for a page of usual width.
    """
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=len(panels), cols=1, vertical_spacing=_PANEL_GAP / height) if len(panels) > 1 else go.Figure()
    owner: list[int] = []
    for number, view in enumerate(shown):
        for trace, row in zip(view.traces, view.rows, strict=True):
            trace.visible = number == 0
            place = {"row": row, "col": 1} if len(panels) > 1 else {}
            figure.add_trace(trace, **place)
            owner.append(number)
    for number, panel in enumerate(panels, start=1):
        suffix = "" if number == 1 else str(number)
        figure.layout[f"xaxis{suffix}"].update(_AXIS | {"title": {"text": panel.x}} | panel.x_options)
        figure.layout[f"yaxis{suffix}"].update(_AXIS | {"title": {"text": panel.y}} | panel.y_options)
    first = shown[0] if shown else View("", "no farm", False, note="There is nothing to show.")
    above = 124 if len(shown) < 2 else 152  # noqa: PLR2004 a menu needs two
    figure.update_layout(
        {
            "template": go.layout.Template(),
            "title": _title(title, first)
            | {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}
            | {"pad": {"l": 12, "t": 14}, "font": {"size": 17}},
            "font": {"family": FONT, "size": 13, "color": INK},
            "annotations": _notes(first),
            "height": height,
            "margin": {"l": 70, "r": 24, "t": above + _LEGEND_ROW * (legend_rows - 1), "b": 60},
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "hoverlabel": {"font": {"family": FONT}},
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
            "showlegend": True,
        }
        | layout
    )
    if not owner:
        # Tick labels of axes without data are meaningless.
        figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
        figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
        figure.update_layout(height=_EMPTY_HEIGHT)
    if len(shown) > 1:
        figure.update_layout(updatemenus=[_menu(title, shown, owner)])
    return figure


#: Pixels between two panels: room for ticks and the title of the upper one.
_PANEL_GAP = 105
_EMPTY_HEIGHT = 280
_LEGEND_ROW = 20

_AXIS: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": MUTED,
    "zerolinecolor": GRID,
    "ticks": "outside",
    "tickcolor": MUTED,
    "automargin": True,
}


def _title(title: str, view: View) -> dict[str, Any]:
    label = f" · <b>{PERFECT_WEATHER}</b>" if view.perfect_weather else ""
    return {"text": title, "subtitle": {"text": f"{_escaped(view.label)}{label}", "font": {"size": 13, "color": MUTED}}}


def _escaped(text: str) -> str:
    # Plotly interprets some HTML in texts.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _notes(view: View) -> list[dict[str, Any]]:
    if not view.note:
        return []
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    return [place | {"text": view.note, "font": {"size": 15, "color": MUTED}}]


def _menu(title: str, shown: Sequence[View], owner: Sequence[int]) -> dict[str, Any]:
    buttons = []
    for number, view in enumerate(shown):
        layout: dict[str, Any] = {
            "annotations": _notes(view),
            "title.subtitle.text": _title(title, view)["subtitle"]["text"],
        }
        if any(other.categories for other in shown):
            layout["yaxis.categoryarray"] = view.categories
        buttons.append(
            {
                "label": _escaped(view.label),
                "name": view.key,  # by which the page's one menu finds it
                "method": "update",
                "args": [{"visible": [number == mine for mine in owner]}, layout],
            }
        )
    return {
        "buttons": buttons,
        "x": 1,
        "xanchor": "right",
        "y": 1.02,
        "yanchor": "bottom",
        "pad": {"b": 34},
        "showactive": True,
    }


def numbers(values: Any, digits: int = 3) -> list[float | None]:
    """Round numbers, with None for missing ones (null in JSON)."""
    return [None if value is None or not math.isfinite(value) else round(float(value), digits) for value in values]


def times(values: Any) -> list[str]:
    """Format times for Plotly."""
    return [f"{value:%Y-%m-%dT%H:%M}" for value in pd.DatetimeIndex(values)]


def detailed_members(fleet: Fleet, reporting: Reporting) -> list[views.Member]:
    """Members shown in figures."""
    return views.members(fleet)[: reporting.detailed_members]


def _farms(fleet: Fleet, reporting: Reporting) -> list[Farm]:
    return fleet.farms[: reporting.detailed_members]


# --- the farm ---------------------------------------------------------------------------------------------------------


def draw_farm_map(fleet: Fleet, reporting: Reporting) -> Figure:
    """Draw maps of the turbines of each farm with rotors to scale, after a map of the farms if there are several.

    Kilometres east and north of the centre on a plane, which is accurate over a few kilometres; without a background map.
    """
    from plotly import graph_objects as go

    shown = []
    placed = [(farm, farm.place) for farm in fleet.farms if farm.place is not None]
    if len(fleet.farms) > 1 and placed:
        places = [place for _, place in placed]
        east, north = _kilometres(places)
        view = View("", f"All {len(fleet.farms)} farms", False)
        view.add(
            go.Scatter(
                x=numbers(east),
                y=numbers(north),
                mode="markers+text" if len(places) <= reporting.detailed_members else "markers",
                text=[_escaped(farm.name) for farm, _ in placed],
                textposition="top center",
                customdata=[[farm.capacity_kw / views.KW_PER_MW, len(farm.turbines)] for farm, _ in placed],
                hovertemplate="<b>%{text}</b><br>%{customdata[0]:.3~g} MW, %{customdata[1]} turbines<extra></extra>",
                marker={"size": 12, "color": BLUE, "line": {"color": "#ffffff", "width": 1}},
                name="farm",
            )
        )
        shown.append(view)
    shown += [_map_of(farm) for farm in _farms(fleet, reporting)]
    return draw_views(
        "Where the turbines stand",
        shown,
        [Panel("east of the middle (km)", "north of the middle (km)", {}, {"scaleanchor": "x", "scaleratio": 1})],
        height=480,
        showlegend=False,
    )


def _kilometres(places: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    latitude = sum(place[0] for place in places) / len(places)
    longitude = sum(place[1] for place in places) / len(places)
    shrink = math.cos(math.radians(latitude))
    return (
        [(place[1] - longitude) * KM_PER_DEGREE * shrink for place in places],
        [(place[0] - latitude) * KM_PER_DEGREE for place in places],
    )


def _degrees(angle: float, positive: str, negative: str) -> str:
    return f"{abs(angle):.3f}° {positive if angle >= 0 else negative}"


def _map_of(farm: Farm) -> View:
    from plotly import graph_objects as go

    where = "place not known"
    if farm.place is not None:
        where = f"{_degrees(farm.place[0], 'N', 'S')} {_degrees(farm.place[1], 'E', 'W')}"
    view = View(farm.id, f"{farm.name}, {where}", False)
    placed = [
        (turbine, turbine.latitude_deg, turbine.longitude_deg)
        for turbine in farm.turbines
        if turbine.latitude_deg is not None and turbine.longitude_deg is not None
    ]
    if not placed:
        view.note = "The farm's card has no coordinates of turbines."
        return view
    east, north = _kilometres([(latitude, longitude) for _, latitude, longitude in placed])
    circle_x: list[float | None] = []
    circle_y: list[float | None] = []
    for (turbine, *_), x, y in zip(placed, east, north, strict=True):
        radius = (turbine.rotor_diameter_m or 0) / 2 / 1000
        # A polygon of 24 corners as circle; None separates rotors.
        corners = [math.tau * corner / 24 for corner in range(25)]
        circle_x += [*numbers(x + radius * math.cos(angle) for angle in corners), None]
        circle_y += [*numbers(y + radius * math.sin(angle) for angle in corners), None]
    view.add(
        go.Scatter(
            x=circle_x, y=circle_y, mode="lines", fill="toself", fillcolor=f"rgba({BLUE_RGB}, 0.15)",
            line={"color": BLUE, "width": 1}, hoverinfo="skip", name="rotor, to scale",
        )
    )  # fmt: skip
    view.add(
        go.Scatter(
            x=numbers(east),
            y=numbers(north),
            mode="markers+text",
            text=[f"   {_escaped(turbine.id)}" for turbine, *_ in placed],
            textposition="middle right",
            customdata=[[turbine.rated_power_kw, turbine.hub_height_m, turbine.rotor_diameter_m or 0] for turbine, *_ in placed],
            hovertemplate="<b>%{text}</b><br>%{customdata[0]:,.0f} kW, hub %{customdata[1]:.0f} m, "
            "rotor %{customdata[2]:.0f} m<extra></extra>",
            marker={"size": 8, "color": BLUE},
            name="turbine",
        )
    )
    return view


# --- data quality and the clock ---------------------------------------------------------------------------------------


def draw_data_quality(
    data_quality: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the findings of data quality as shares of the values checked, and the coverage of turbine readings by week.

    The coverage of a week is the mean over its intervals; intervals without readings count as zero, so that gaps are visible.
    """
    from plotly import graph_objects as go

    shown = []
    for farm in _farms(fleet, reporting):
        view = View(farm.id, farm.name, False)
        found = data_quality[(data_quality["farm_id"] == farm.id) & (data_quality["count"] > 0) & (data_quality["of"] > 0)]
        found = found[~found["check"].isin(NO_FAULTS)]
        found = found.assign(share=found["count"] / found["of"]).sort_values(["share", "check", "signal"])
        names = [
            _escaped(f"{check.replace('_', ' ')} · {signal.replace('_', ' ')} ({table})")
            for check, signal, table in zip(found["check"], found["signal"], found["source_table"], strict=True)
        ]
        view.categories = names
        for severity, colour in SEVERITY_COLOURS.items():
            is_it = found["severity"] == severity
            rows = found[is_it]
            if rows.empty:
                continue
            view.add(
                go.Bar(
                    orientation="h",
                    x=numbers(rows["share"] * 100, 4),
                    y=[name for name, wanted in zip(names, is_it, strict=True) if wanted],
                    text=[f"{count:,} of {of:,}" for count, of in zip(rows["count"], rows["of"], strict=True)],
                    textposition="outside",
                    cliponaxis=False,
                    customdata=[[_escaped(message)] for message in rows["message"]],
                    hovertemplate="%{y}<br>%{x:.3~g} % (%{text})<br>%{customdata[0]}<extra></extra>",
                    marker={"color": colour},
                    name=severity,
                )
            )
        weeks = _readings_by_week(observations, farm.id, clock)
        if len(weeks):
            view.add(
                go.Scatter(
                    x=times(weeks.index), y=numbers(weeks * 100, 1), mode="lines",
                    line={"color": BLUE, "shape": "hv"},
                    fill="tozeroy", fillcolor=f"rgba({BLUE_RGB}, 0.12)", showlegend=False, name="readings",
                    hovertemplate="week of %{x|%-d %b %Y}: %{y:.1f} %<extra></extra>",
                ),
                row=2,
            )  # fmt: skip
        if not view.traces:
            view.note = "Nothing was checked yet: the pipeline data_engineering has not run."
        shown.append(view)
    bars = max((len(view.categories) for view in shown), default=0)
    return draw_views(
        "Data quality",
        shown,
        [
            Panel("share of what was checked (%)", "check", {"rangemode": "tozero"}, _categories(shown)),
            Panel("week starting (UTC)", "usable readings (%)", {}, {"range": [0, 104]}),
        ],
        height=520 + 22 * bars,
        barmode="overlay",
        # Room for the text behind the longest bar.
        margin={"l": 70, "r": 130, "t": 124 if len(shown) < 2 else 152, "b": 60},  # noqa: PLR2004
    )


def _categories(shown: Sequence[View]) -> dict[str, Any]:
    first = shown[0].categories if shown else []
    return {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": first,
        "title": {"text": "check", "standoff": 8},
    }


def _readings_by_week(observations: pd.DataFrame, farm_id: str, clock: Clock) -> pd.Series:
    mine = observations[observations["entity_id"] == farm_id]
    if mine.empty:
        return pd.Series(dtype=float)
    step = int(mine["granularity_minutes"].min())
    share = views.measured(mine, farm_id, step, clock)["coverage_share"]
    whole = share.reindex(pd.date_range(share.index.min(), share.index.max(), freq=f"{step}min"), fill_value=0.0)
    return whole.resample("W-MON", label="left", closed="left").mean()


def draw_clock(clock_calibration: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw misalignment and correlation of the farm's wind with the weather under each reading of its time stamps."""
    shown = []
    for farm in _farms(fleet, reporting):
        view = View(farm.id, farm.name, False)
        fit = views.newest_fit(clock_calibration, farm.id, clock)
        if fit.empty:
            view.note = "The clock was not checked yet: the pipeline data_engineering has not run."
        else:
            _add_clock(view, fit.iloc[0])
        shown.append(view)
    reading = {"type": "category", "title": {"text": "reading of the stamps", "standoff": 8}}
    return draw_views(
        "Which reading of the time stamps fits the weather",
        shown,
        [
            Panel("misalignment with the weather (minutes)", "reading of the stamps", {"rangemode": "tozero"}, reading),
            Panel("correlation with the weather's wind speed", "reading of the stamps", {"rangemode": "tozero"}, reading),
        ],
        height=520,
        barmode="overlay",
    )


def _add_clock(view: View, fit: pd.Series) -> None:
    from plotly import graph_objects as go

    evidence = clock_evidence(fit["evidence"])
    for row, measure, form in ((1, "misalignment_minutes", "{:.0f} min"), (2, "correlation", "{:.3f}")):
        for used in (True, False):
            rows = [one for one in evidence if one[measure] is not None and (one["reading"] == fit["reading"]) == used]
            if rows:
                view.add(
                    go.Bar(
                        orientation="h",
                        x=numbers(one[measure] for one in rows),
                        y=[READINGS.get(one["reading"], one["reading"]) for one in rows],
                        text=[form.format(one[measure]) for one in rows],
                        textposition="auto",
                        insidetextanchor="start",
                        hovertemplate="%{y}: %{text}<extra></extra>",
                        marker={"color": BLUE if used else "#b8c4cd"},
                        textfont={"color": None if used else INK},
                        name="used" if used else "other readings",
                        legendgroup="used" if used else "other",
                        showlegend=row == 1,
                    ),
                    row=row,
                )
    if not view.traces:
        view.note = "There was not enough wind and weather at the same time to compare."


def clock_evidence(evidence: str) -> list[dict[str, Any]]:
    """Misalignment (minutes) and correlation of each reading, from the JSON of `ClockCalibration.evidence`."""
    found = json.loads(evidence)
    return [
        {
            "reading": name,
            "correlation": one.get("correlation"),
            "misalignment_minutes": one.get("misalignment_minutes"),
        }
        for name, one in found.items()
        if isinstance(one, dict)
    ]


def draw_power_curve(signals: Table, power_curve: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw turbine power over wind speed with the fitted curve, and readings off the curve by operating state.

    Points are rounded to a grid finer than a pixel, so that indistinguishable points are drawn once. All points with an operating
    state are drawn, and a sample of at most ``power_curve_points`` of the others over all farms.
    """
    from plotly import graph_objects as go

    farms = _farms(fleet, reporting)
    points = _curve_points(signals, farms, clock)
    shown = []
    for farm in farms:
        view = View(farm.id, farm.name, False)
        mine = points[points["farm_id"] == farm.id].sort_values(["wind_speed_ms", "power_share"])
        agreeing = mine[mine["operating_state"] == ""]
        step = max(1, math.ceil(len(agreeing) * len(farms) / reporting.power_curve_points))
        shares = [(agreeing.iloc[::step], SKY, "circle", 3, "agrees (a sample)")]
        for label, (colour, symbol) in _LABEL_MARKS.items():
            rows = mine[mine["operating_state"] == label]
            name = f"{label.replace('_', ' ')}: {int(rows['rows'].sum()):,} of {int(mine['rows'].sum()):,} readings"
            shares += [(rows, colour, symbol, 4, name)] if len(rows) else []
        for rows, colour, symbol, size, name in shares:
            view.add(
                go.Scatter(
                    x=numbers(rows["wind_speed_ms"], 2), y=numbers(rows["power_share"] * 100, 1),
                    mode="markers", name=name,
                    marker={"color": colour, "size": size, "symbol": symbol, "line": {"color": colour, "width": 1}},
                    hoverinfo="skip",
                )
            )  # fmt: skip
        curve = views.newest_fit(power_curve, farm.id, clock).sort_values("wind_speed_ms")
        for column, name, dash, width in (
            ("power_share", "median", "solid", 2.5),
            ("low_share", "limits", "dot", 1.2),
            ("high_share", "limits", "dot", 1.2),
        ):
            view.add(
                go.Scatter(
                    x=numbers(curve["wind_speed_ms"], 2), y=numbers(curve[column] * 100, 1), mode="lines", name=name,
                    line={"color": INK, "dash": dash, "width": width},
                    showlegend=column != "high_share", legendgroup=name,
                    hovertemplate="%{x:.2f} m/s: %{y:.0f} %<extra></extra>" if column == "power_share" else None,
                    hoverinfo=None if column == "power_share" else "skip",
                )
            )  # fmt: skip
        if mine.empty:
            view.note = "No turbine readings yet: the pipeline data_engineering has not run."
        shown.append(view)
    return draw_views(
        "Power curve",
        shown,
        [Panel("wind speed at the turbine (m/s)", "power of a turbine (% of rated)", {"rangemode": "tozero"})],
        height=540,
        legend_rows=2,
    )


#: Colour and symbol of each operating state; symbols distinguish them without colour.
_LABEL_MARKS = {
    "stopped": (VERMILION, "x-thin"),
    "curtailed": (ORANGE, "line-ew"),
    "derated": (PURPLE, "line-ns"),
    "iced": (BLUE, "asterisk"),
    "off_curve": (GREEN, "cross-thin"),
}
#: Steps of the grid, below the width of a pixel (25 m/s over 700 pixels, 110 % over 400).
_GRID_MS, _GRID_SHARE = 0.05, 0.005


def _curve_points(signals: Table, farms: Sequence[Farm], clock: Clock) -> pd.DataFrame:
    """Number of readings by farm, cell of the grid and operating state, counted by the table's engine."""
    import ibis
    import pyarrow as pa

    turbines = [(farm.id, turbine.id, turbine.rated_power_kw) for farm in farms for turbine in farm.turbines]
    # Through Arrow in both directions, as conversion of text columns between Ibis and pandas warns.
    rated = ibis.memtable(
        pa.table(dict(zip(("farm_id", "turbine_id", "rated_power_kw"), map(list, zip(*turbines, strict=True)), strict=True)))
    )
    # Times are UTC, with or without a zone depending on the engine.
    zone = signals["available_at"].type().timezone
    as_of = ibis.timestamp(clock.as_of.replace(tzinfo=None).isoformat(), timezone=zone)
    kept = signals.filter(
        (signals["status"] == "kept")
        & signals["power_kw"].notnull()
        & signals["wind_speed_ms"].notnull()
        & (signals["available_at"] <= as_of)
    )
    cells = kept.inner_join(rated, ["farm_id", "turbine_id"]).mutate(
        wind_speed_ms=(ibis._.wind_speed_ms / _GRID_MS).round() * _GRID_MS,
        power_share=(ibis._.power_kw / ibis._.rated_power_kw / _GRID_SHARE).round() * _GRID_SHARE,
    )
    counted = cells.group_by(["farm_id", "wind_speed_ms", "power_share", "operating_state"]).aggregate(rows=ibis._.count())
    found: pd.DataFrame = counted.to_pyarrow().to_pandas()
    return found


# --- forecasts --------------------------------------------------------------------------------------------------------


def draw_forecast(
    forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the newest forecast as a fan chart, with measured power before and since, in MW."""
    from plotly import graph_objects as go

    shown = []
    for member in detailed_members(fleet, reporting):
        view = View(member.key, member.label, fleet.perfect_weather(member.entity_id))
        newest = views.newest_issue(forecasts, member, clock)
        if newest.empty:
            view.note = "No forecast was issued yet: run the pipeline forecasting."
        else:
            actual = views.measured(observations, member.entity_id, member.product.granularity_minutes, clock)
            _add_fan(view, newest, actual, member, reporting, go)
        shown.append(view)
    return draw_views(
        "The newest forecast, and power measured since",
        shown,
        [Panel("start of the interval (UTC)", "power (MW)", {"type": "date"}, {"rangemode": "tozero"})],
        height=480,
        hovermode="x unified",
    )


def _add_fan(view: View, newest: pd.DataFrame, actual: pd.DataFrame, member: views.Member, reporting: Reporting, go: Any) -> None:
    levels = member.product.quantile_levels
    issued = newest["issued_at"].iloc[0]
    view.perfect_weather = view.perfect_weather or bool((newest["weather"] == PERFECT_WEATHER).any())
    view.label = f"{member.label}, issued {issued.day} {issued:%b %Y %H:%M} UTC"
    x = times(newest["valid_at"])
    main = views.band_levels(levels, reporting.band_share)
    for number, (low, high, nominal) in enumerate(central_bands(levels)):
        is_main = (levels[low], levels[high]) == main
        for level, fill in ((levels[low], None), (levels[high], "tonexty")):
            hover = f"{level:.1%}".replace(".0%", "%")
            view.add(
                go.Scatter(
                    x=x, y=numbers(newest[quantile_column(level)] / views.KW_PER_MW), mode="lines", line={"width": 0},
                    fill=fill, fillcolor=f"rgba({BLUE_RGB}, {0.12 + 0.08 * number:.2f})" if fill else None,
                    name=f"{nominal * 100:g} % range", legendgroup=f"{nominal}", showlegend=fill is not None,
                    hovertemplate=f"{hover} level: %{{y:.2f}} MW<extra></extra>" if is_main else None,
                    hoverinfo=None if is_main else "skip",
                )
            )  # fmt: skip
    view.add(
        go.Scatter(
            x=x, y=numbers(newest[quantile_column(0.5)] / views.KW_PER_MW), mode="lines", name="forecast (median)",
            line={"color": BLUE, "width": 2.5}, hovertemplate="forecast: %{y:.2f} MW<extra></extra>",
        )
    )  # fmt: skip
    step = pd.Timedelta(minutes=member.product.granularity_minutes)
    before = issued - pd.Timedelta(hours=reporting.fan_history_hours)
    seen = actual[(actual.index >= before) & (actual.index < newest["valid_at"].max() + step)]
    # Missing intervals are null, so that lines do not cross gaps.
    seen = seen["power_share"] * member.capacity_kw / views.KW_PER_MW
    if len(seen):
        seen = seen.reindex(pd.date_range(seen.index.min(), seen.index.max(), freq=step))
    view.add(
        go.Scatter(
            x=times(seen.index), y=numbers(seen), mode="lines", name="measured", connectgaps=False,
            line={"color": INK, "width": 1.8}, hovertemplate="measured: %{y:.2f} MW<extra></extra>",
        )
    )  # fmt: skip
    view.add(
        go.Scatter(
            x=times([issued, issued]), y=[0, round(member.capacity_kw / views.KW_PER_MW, 3)],
            mode="lines", name="issued",
            line={"color": MUTED, "width": 1, "dash": "dash"}, hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip


# --- scores -----------------------------------------------------------------------------------------------------------


def _lines(models: Sequence[str], champion: str | None) -> dict[str, dict[str, Any]]:
    """Colour and dash of each model; those of the champion are the same in every figure."""
    others = iter(sorted(set(models) - {champion}))
    styles: dict[str, dict[str, Any]] = {}
    if champion is not None:
        styles[champion] = {"color": BLUE, "width": 3}
    for number, model in enumerate(others):
        colour, dash = OTHER_LINES[number % len(OTHER_LINES)]
        styles[model] = {"color": colour, "dash": dash, "width": 2}
    return styles


def _any_perfect(scores: pd.DataFrame) -> bool:
    return bool((scores["weather"] == PERFECT_WEATHER).any())


def draw_lead_times(
    backtest_scores: pd.DataFrame, promotions: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw error and pinball loss of every model in the backtest by lead time; lower is better."""
    from plotly import graph_objects as go

    metrics = {"nmae_share": 1, "pinball_share": 2}
    shown = []
    for member in detailed_members(fleet, reporting):
        scores = views.in_all(member.rows(backtest_scores))
        scores = scores[scores["metric"].isin(metrics) & scores["level"].isna()]
        view = View(member.key, member.label, _any_perfect(scores))
        promoted = views.champions(promotions, member, clock)
        champion = promoted[-1] if promoted else None
        for model, line in _lines(list(scores["model"].unique()), champion).items():
            for metric, row in metrics.items():
                of_model = scores[(scores["model"] == model) & (scores["metric"] == metric)]
                leads = views.by_lead(of_model, member.product)
                middle = (leads["lead_from_minutes"] + leads["lead_to_minutes"]) / 2 / views.MINUTES_PER_HOUR
                if leads.empty:
                    continue
                view.add(
                    go.Scatter(
                        x=numbers(middle, 2),
                        y=numbers(leads["value"] * 100),
                        mode="lines+markers",
                        line=line,
                        name=_escaped(model.replace("_", " ") + (" (the champion)" if model == champion else "")),
                        legendgroup=model,
                        showlegend=row == 1,
                        customdata=[
                            [f"{start / 60:g}–{end / 60:g} h", int(n)]
                            for start, end, n in zip(
                                leads["lead_from_minutes"], leads["lead_to_minutes"], leads["n"], strict=True
                            )
                        ],
                        hovertemplate="%{customdata[0]}: %{y:.2f} % (%{customdata[1]:,} intervals)"
                        "<extra>%{fullData.name}</extra>",
                    ),
                    row=row,
                )
        if not view.traces:
            view.note = "No model was backtested yet: run the pipeline training."
        shown.append(view)
    return draw_views(
        "Errors by lead time",
        shown,
        [
            Panel("lead time (hours)", "nMAE (% of capacity)", {"rangemode": "tozero"}, {"rangemode": "tozero"}),
            Panel("lead time (hours)", "pinball loss (% of capacity)", {"rangemode": "tozero"}, {"rangemode": "tozero"}),
        ],
        height=680,
    )


def draw_reliability(
    backtest_scores: pd.DataFrame,
    live_scores: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> Figure:
    """Draw the observed frequency of actuals below each quantile against its level (reliability diagram)."""
    from plotly import graph_objects as go

    shown = []
    for member in detailed_members(fleet, reporting):
        promoted = views.champions(promotions, member, clock)
        backtest = _frequencies(member.rows(backtest_scores), promoted[-1:], member)
        live = _frequencies(views.known_periods(member.rows(live_scores), clock), promoted, member)
        view = View(member.key, member.label, _any_perfect(backtest) or _any_perfect(live))
        for rows, name, colour, symbol in (
            (backtest, "in the backtest", BLUE, "circle"),
            (live, "in operation", ORANGE, "square"),
        ):
            points = [
                (level, views.weighted_mean(at_level), int(at_level["n"].sum())) for level, at_level in rows.groupby("level")
            ]
            if points:
                view.add(
                    go.Scatter(
                        x=numbers(float(str(level)) * 100 for level, _, _ in points),
                        y=numbers((math.nan if seen is None else seen * 100 for _, seen, _ in points), 2),
                        mode="lines+markers",
                        name=name,
                        line={"color": colour, "width": 2},
                        marker={"symbol": symbol, "size": 8},
                        customdata=[[n] for _, _, n in points],
                        hovertemplate="promised %{x:.3~g} %, came %{y:.1f} % (%{customdata[0]:,} intervals)<extra></extra>",
                    )
                )
        if view.traces:
            view.add(
                go.Scatter(
                    x=[0, 100], y=[0, 100], mode="lines", line={"color": MUTED, "dash": "dash", "width": 1},
                    name="as promised", hoverinfo="skip",
                )
            )  # fmt: skip
        else:
            view.note = "No scores yet: run the pipeline training."
        shown.append(view)
    return draw_views(
        "Are the ranges honest?",
        shown,
        [
            Panel(
                "promised: share of cases below the level (%)",
                "came: share of cases below the level (%)",
                {"range": [0, 100], "constrain": "domain"},
                {"range": [0, 100], "scaleanchor": "x", "scaleratio": 1},
            )
        ],
        height=560,
    )


def _frequencies(scores: pd.DataFrame, promoted: list[str], member: views.Member) -> pd.DataFrame:
    scores = views.over_all_leads(views.in_all(scores), member.product)
    return views.of_champions(scores[scores["metric"] == "observed_frequency"], promoted)


def draw_live_performance(
    live_scores: pd.DataFrame,
    backtest_scores: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> Figure:
    """Draw the deciding score of issued forecasts by day, with that of the backtest and the product's goal."""
    from plotly import graph_objects as go

    shown = []
    for member in detailed_members(fleet, reporting):
        metric = member.product.deciding_score if member.product.deciding_score in SHARES else "nmae_share"
        promoted = views.champions(promotions, member, clock)
        live = views.known_periods(member.rows(live_scores), clock)
        live = views.of_champions(live[(live["metric"] == metric) & live["level"].isna()], promoted)
        live = views.over_all_leads(views.by_period(live, "day"), member.product)
        view = View(member.key, f"{member.label}, {SHARES[metric]}", _any_perfect(live))
        if live.empty:
            view.note = "No issued forecast could be scored yet: run the pipeline monitoring once actuals have arrived."
        else:
            backtest = member.rows(backtest_scores)
            backtest = views.of_champions(backtest[(backtest["metric"] == metric) & backtest["level"].isna()], promoted[-1:])
            goal = member.product.goal.target if metric == member.product.deciding_score else None
            promise = views.weighted_mean(views.over_all_leads(views.in_all(backtest), member.product))
            _add_days(view, live, promise, goal, reporting, go)
        shown.append(view)
    return draw_views(
        "In operation: is it as good as promised?",
        shown,
        [Panel("day of issue (UTC)", "score (% of capacity)", {"type": "date"}, {"rangemode": "tozero"})],
        height=440,
    )


#: Names of deciding scores that are shares of capacity and means of losses, so that days can be averaged.
SHARES = {"pinball_share": "pinball loss", "nmae_share": "nMAE", "crps_share": "CRPS"}


def _add_days(view: View, live: pd.DataFrame, promise: float | None, goal: float | None, reporting: Reporting, go: Any) -> None:
    loss = (live["value"] * live["n"]).groupby(live["period"]).sum()
    count = live["n"].groupby(live["period"]).sum()
    days = pd.DataFrame({"loss": loss, "n": count})
    days.index = pd.DatetimeIndex(pd.to_datetime(days.index))
    rolled = days.rolling(f"{reporting.live_average_days}D").sum()
    x = [f"{day:%Y-%m-%d}" for day in days.index]
    view.add(
        go.Scatter(
            x=x, y=numbers(days["loss"] / days["n"] * 100), mode="markers", name="each day",
            marker={"color": SKY, "size": 7}, hovertemplate="%{x|%-d %b %Y}: %{y:.2f} %<extra></extra>",
        )
    )  # fmt: skip
    view.add(
        go.Scatter(
            x=x, y=numbers(rolled["loss"] / rolled["n"] * 100), mode="lines", line={"color": BLUE, "width": 2.5},
            name=f"mean of {reporting.live_average_days} days", hovertemplate="mean: %{y:.2f} %<extra></extra>",
        )
    )  # fmt: skip
    for value, name, colour, dash in (
        (promise, "promised by the backtest", ORANGE, "dash"),
        (goal, "goal", GREEN, "dot"),
    ):
        if value is not None:
            view.add(
                go.Scatter(
                    x=[x[0], x[-1]], y=numbers([value * 100] * 2), mode="lines",
                    line={"color": colour, "dash": dash, "width": 2},
                    name=f"{name}: {value * 100:.2f} %", hoverinfo="skip",
                )
            )  # fmt: skip
