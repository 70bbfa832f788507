"""Figures of farms and their data: turbines, data quality, clock and power curve."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, frame_of, table_of
from wind_kedro.pipelines.reporting import drawing, views
from wind_kedro.pipelines.reporting.documents import Figure, Table
from wind_kedro.pipelines.reporting.drawing import Panel, View, draw_views, escaped, numbers, plain, times, views_of_farms
from wind_kedro.pipelines.reporting.settings import Reporting

#: Kilometres of one degree of latitude (mean meridian of the sphere of 6,371 km).
KM_PER_DEGREE = 111.195
SEVERITY_COLOURS = {"info": drawing.SKY, "warning": drawing.ORANGE, "error": drawing.VERMILION}
READINGS = {
    "as_stamped": "offset honoured, as stamped",
    "wall_clock_is_utc": "offset stripped, read as UTC",
    "wall_clock_is_local": "offset stripped, read as local time",
}
#: Checks that are not faults or have a figure of their own; their bars of 100 % would hide the others.
NO_FAULTS = ["rows_in", "kept", "clock_disagrees_with_card"]
#: Colour and symbol of each operating state; symbols distinguish them without colour.
_STATE_MARKS = {
    "stopped": (drawing.VERMILION, "x-thin"),
    "curtailed": (drawing.ORANGE, "line-ew"),
    "derated": (drawing.PURPLE, "line-ns"),
    "iced": (drawing.BLUE, "asterisk"),
    "off_curve": (drawing.GREEN, "cross-thin"),
}
#: Steps of the grid of the power curve, below the width of a pixel (25 m/s over 700 pixels, 110 % over 400).
_GRID_MS, _GRID_SHARE = 0.05, 0.005


def draw_farm_map(fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw maps of the turbines that stand in each farm with rotors to scale, after a map of the farms if there are several.

    Kilometres east and north of the centre on a plane, which is accurate over a few kilometres; without a background map.
    """
    shown, farms = [], fleet.at(clock.as_of).farms
    placed = [(farm, farm.place) for farm in farms if farm.place is not None]
    if len(farms) > 1 and placed:
        view = View("", f"All {len(farms)} farms")
        east, north = _kilometres([place for _, place in placed])
        view.add(
            "scatter", numbers(east), numbers(north), "farm",
            mode="markers+text" if len(placed) <= reporting.detailed_members else "markers",
            text=[escaped(farm.name) for farm, _ in placed], textposition="top center",
            customdata=[[farm.capacity_kw / views.KW_PER_MW, len(farm.turbines)] for farm, _ in placed],
            hover="<b>%{text}</b><br>%{customdata[0]:.3~g} MW, %{customdata[1]} turbines",
            marker={"size": 12, "color": drawing.BLUE, "line": {"color": "#ffffff", "width": 1}},
        )  # fmt: skip
        shown.append(view)
    for farm, view in views_of_farms(fleet, clock, reporting):
        view.label += f", {views.format_place(farm.latitude_deg, farm.longitude_deg)}"
        _add_turbines(view, farm)
        shown.append(view)
    return draw_views(
        "Positions of the turbines",
        shown,
        [Panel("east of the middle (km)", "north of the middle (km)", {}, {"scaleanchor": "x", "scaleratio": 1})],
        empty="The farm's card has no coordinates of turbines.",
        height=480,
        showlegend=False,
    )


def _kilometres(places: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Kilometres east and north of the mean of latitudes and longitudes (degrees)."""
    latitude, longitude = (sum(degrees) / len(places) for degrees in zip(*places, strict=True))
    shrink = math.cos(math.radians(latitude))
    east = [(place[1] - longitude) * KM_PER_DEGREE * shrink for place in places]
    return east, [(place[0] - latitude) * KM_PER_DEGREE for place in places]


def _add_turbines(view: View, farm: Farm) -> None:
    placed = [
        (turbine, (turbine.latitude_deg, turbine.longitude_deg))
        for turbine in farm.turbines
        if turbine.latitude_deg is not None and turbine.longitude_deg is not None
    ]
    if not placed:
        return
    east, north = _kilometres([place for _, place in placed])
    circle_x: list[float | None] = []
    circle_y: list[float | None] = []
    # Polygons of 24 corners as circles; None separates rotors.
    angles = [math.tau * corner / 24 for corner in range(25)]
    for (turbine, _), x, y in zip(placed, east, north, strict=True):
        radius = (turbine.rotor_diameter_m or 0) / 2 / 1000
        circle_x += [*numbers(x + radius * math.cos(angle) for angle in angles), None]
        circle_y += [*numbers(y + radius * math.sin(angle) for angle in angles), None]
    view.line(
        circle_x, circle_y, "rotor, to scale", drawing.BLUE, width=1, fill="toself", fillcolor=f"rgba({drawing.BLUE_RGB}, 0.15)"
    )
    view.add(
        "scatter", numbers(east), numbers(north), "turbine", mode="markers+text",
        text=[f"   {escaped(turbine.id)}" for turbine, _ in placed], textposition="middle right",
        customdata=[[turbine.rated_power_kw, turbine.hub_height_m, turbine.rotor_diameter_m or 0] for turbine, _ in placed],
        hover="<b>%{text}</b><br>%{customdata[0]:,.0f} kW, hub %{customdata[1]:.0f} m, rotor %{customdata[2]:.0f} m",
        marker={"size": 8, "color": drawing.BLUE},
    )  # fmt: skip


def draw_data_quality(
    data_quality: pd.DataFrame, observations: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the findings of data quality as shares of the values checked, and the coverage of turbine readings by week.

    The coverage of a week is the mean over its intervals; intervals without readings count as zero, so that gaps are visible.
    """
    observations = frame_of(observations)
    found = data_quality[(data_quality["count"] > 0) & (data_quality["of"] > 0) & ~data_quality["check"].isin(NO_FAULTS)]
    found = found.assign(
        share=found["count"] / found["of"],
        name=[
            escaped(f"{plain(check)} · {plain(signal)} ({table})")
            for check, signal, table in zip(found["check"], found["signal"], found["source_table"], strict=True)
        ],
    ).sort_values(["share", "check", "signal"])
    shown = views_of_farms(fleet, clock, reporting)
    for farm, view in shown:
        mine = found[found["farm_id"] == farm.id]
        view.categories = list(mine["name"])
        for severity, colour in SEVERITY_COLOURS.items():
            rows = mine[mine["severity"] == severity]
            if len(rows):
                view.add(
                    "bar", numbers(rows["share"] * 100, 4), list(rows["name"]), severity, orientation="h",
                    text=[f"{count:,} of {of:,}" for count, of in zip(rows["count"], rows["of"], strict=True)],
                    textposition="outside", cliponaxis=False, customdata=[[escaped(message)] for message in rows["message"]],
                    hover="%{y}<br>%{x:.3~g} % (%{text})<br>%{customdata[0]}", marker={"color": colour},
                )  # fmt: skip
        seen = observations[observations["entity_id"] == farm.id]
        if len(seen):
            step = int(seen["granularity_minutes"].min())
            share = views.measured(seen, farm.id, step, clock)["coverage_share"]
            whole = share.reindex(pd.date_range(share.index.min(), share.index.max(), freq=f"{step}min"), fill_value=0.0)
            weeks = whole.resample("W-MON", label="left", closed="left").mean()
            view.add(
                "scatter", times(weeks.index), numbers(weeks * 100, 1), "readings", row=2, mode="lines", showlegend=False,
                line={"color": drawing.BLUE, "shape": "hv"}, fill="tozeroy", fillcolor=f"rgba({drawing.BLUE_RGB}, 0.12)",
                hover="week of %{x|%-d %b %Y}: %{y:.1f} %",
            )  # fmt: skip
    checks = _by_name("check") | {"categoryorder": "array", "categoryarray": shown[0][1].categories if shown else []}
    return draw_views(
        "Data quality",
        [view for _, view in shown],
        [
            Panel("share of what was checked (%)", "check", drawing.FROM_ZERO, checks),
            Panel("week starting (UTC)", "usable readings (%)", {}, {"range": [0, 104]}),
        ],
        empty="Nothing was checked yet: the pipeline data_engineering has not run.",
        height=520 + 22 * max((len(view.categories) for _, view in shown), default=0),
        barmode="overlay",
        margin={"r": 130},  # room for the text behind the longest bar
    )


def _by_name(title: str) -> dict[str, Any]:
    return {"type": "category", "title": {"text": title, "standoff": 8}}


def draw_clock(clock_calibration: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw misalignment and correlation of the farm's wind with the weather under each reading of its time stamps."""
    shown, calibrations = views_of_farms(fleet, clock, reporting), frame_of(clock_calibration)
    for farm, view in shown:
        fits = views.newest_fit(calibrations, farm.id, clock)
        if fits.empty:
            view.note = "The clock was not checked yet: the pipeline data_engineering has not run."
            continue
        fit = fits.iloc[0]
        # JSON of `ClockCalibration.evidence`: misalignment (minutes) and correlation of each reading.
        evidence = {reading: measures for reading, measures in json.loads(fit["evidence"]).items() if isinstance(measures, dict)}
        for row, measure, form in ((1, "misalignment_minutes", "{:.0f} min"), (2, "correlation", "{:.3f}")):
            known = {reading: measures[measure] for reading, measures in evidence.items() if measures.get(measure) is not None}
            for used in (True, False):
                values = {READINGS.get(name, name): value for name, value in known.items() if (name == fit["reading"]) == used}
                if values:
                    view.add(
                        "bar", numbers(values.values()), list(values), "used" if used else "other readings", row=row,
                        orientation="h", text=[form.format(value) for value in values.values()], textposition="auto",
                        insidetextanchor="start", hover="%{y}: %{text}", marker={"color": drawing.BLUE if used else "#b8c4cd"},
                        textfont={"color": None if used else drawing.INK}, legendgroup=str(used), showlegend=row == 1,
                    )  # fmt: skip
    reading = _by_name("reading of the stamps")
    return draw_views(
        "Which reading of the time stamps fits the weather",
        [view for _, view in shown],
        [
            Panel("misalignment with the weather (minutes)", "", drawing.FROM_ZERO, reading),
            Panel("correlation with the weather's wind speed", "", drawing.FROM_ZERO, reading),
        ],
        empty="There was not enough wind and weather at the same time to compare.",
        height=520,
        barmode="overlay",
    )


def draw_power_curve(
    signals: Derived | Table, power_curve: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw turbine power over wind speed with the fitted curve, and readings off the curve by operating state.

    Points are rounded to a grid finer than a pixel, so that indistinguishable points are drawn once. All points with an operating
    state are drawn, and a sample of at most ``power_curve_points`` of the others over all farms.
    """
    shown = views_of_farms(fleet, clock, reporting)
    fits = frame_of(power_curve)
    points = _curve_points(table_of(signals), [fleet.farm(farm.id) for farm, _ in shown], clock)
    for farm, view in shown:
        mine = points[points["farm_id"] == farm.id].sort_values(["wind_speed_ms", "power_share"])
        agreeing = mine[mine["operating_state"] == ""]
        step = max(1, math.ceil(len(agreeing) * len(shown) / reporting.power_curve_points))
        drawn = [(agreeing.iloc[::step], drawing.SKY, "circle", 3, "agrees (a sample)")]
        for state, (colour, symbol) in _STATE_MARKS.items():
            rows = mine[mine["operating_state"] == state]
            name = f"{plain(state)}: {int(rows['rows'].sum()):,} of {int(mine['rows'].sum()):,} readings"
            drawn += [(rows, colour, symbol, 4, name)] if len(rows) else []
        for rows, colour, symbol, size, name in drawn:
            marker = {"color": colour, "size": size, "symbol": symbol, "line": {"color": colour, "width": 1}}
            x, y = numbers(rows["wind_speed_ms"], 2), numbers(rows["power_share"] * 100, 1)
            view.add("scatter", x, y, name, mode="markers", marker=marker)
        curve = views.newest_fit(fits, farm.id, clock).sort_values("wind_speed_ms")
        x = numbers(curve["wind_speed_ms"], 2)
        median, low, high = (numbers(curve[column] * 100, 1) for column in ("power_share", "low_share", "high_share"))
        view.line(x, median, "median", drawing.INK, width=2.5, legendgroup="median", hover="%{x:.2f} m/s: %{y:.0f} %")
        view.line(x, low, "limits", drawing.INK, width=1.2, dash="dot", legendgroup="limits")
        view.line(x, high, "limits", drawing.INK, width=1.2, dash="dot", legendgroup="limits", showlegend=False)
        if mine.empty:
            view.note = "No turbine readings yet: the pipeline data_engineering has not run."
    return draw_views(
        "Power curve",
        [view for _, view in shown],
        [Panel("wind speed at the turbine (m/s)", "power of a turbine (% of rated)", drawing.FROM_ZERO)],
        height=540,
        legend_rows=2,
    )


def _curve_points(signals: Table, farms: Sequence[Farm], clock: Clock) -> pd.DataFrame:
    """Number of readings by farm, cell of the grid and operating state, counted by the table's engine."""
    import ibis
    import pyarrow as pa

    turbines = [
        {"farm_id": farm.id, "turbine_id": turbine.id, "rated_power_kw": turbine.rated_power_kw}
        for farm in farms
        for turbine in farm.turbines
    ]
    # Through Arrow in both directions, as conversion of text columns between Ibis and pandas warns.
    rated = ibis.memtable(pa.Table.from_pylist(turbines))
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
