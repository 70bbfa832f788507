"""Readiness page: tier of every farm, and how well its weather explains its power."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.tiers import TIERS, assessed_by
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.pipelines.reporting.documents import Figure, ReadinessFacts
from wind_kedro.pipelines.reporting.drawing import BLUE, MUTED, VERMILION, Panel, View, draw_views, numbers
from wind_kedro.pipelines.reporting.pages import render
from wind_kedro.pipelines.reporting.settings import Reporting

_ROW_PIXELS = 22
_FRAME_PIXELS = 190


def readiness_facts(readiness: pd.DataFrame, farm_id: str, clock: Clock) -> ReadinessFacts | None:
    """Newest assessment of a farm by ``as_of``; None if there is none."""
    rows = assessed_by(readiness[readiness["farm_id"] == farm_id], clock.as_of)
    if rows.empty:
        return None
    row = rows.iloc[0]
    return ReadinessFacts(
        assessed_at=pd.Timestamp(row["assessed_at"]).to_pydatetime(warn=False),
        tier=row["tier"],
        reason=row["reason"],
        learnable_days=round(float(row["learnable_days"]), 2),
        wrong_point=bool(row["wrong_point"]),
    )


def draw_weather_fit(
    weather_fit: Derived | pd.DataFrame, readiness: Derived | pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting
) -> Figure:
    """Draw the correlation of each farm's power with its own weather points and the best points of other farms.

    Farms are sorted by how much another point is better than their own; the first ``readiness_farms`` are shown.
    """
    weather_fit, readiness = frame_of(weather_fit), frame_of(readiness)
    known = assessed_by(readiness, clock.as_of)
    fit = weather_fit.merge(known[["farm_id", "assessed_at", "wrong_point"]], on=["farm_id", "assessed_at"])
    fit = fit.dropna(subset="correlation").assign(own=lambda table: table["of_farm"] == table["farm_id"])
    best = fit.groupby(["farm_id", "own"])["correlation"].max().unstack().reindex(columns=[False, True])
    beaten = (best[False] - best[True]).fillna(-1.0)
    order = sorted(beaten.index, key=lambda farm_id: (-beaten[farm_id], farm_id))[: reporting.readiness_farms]
    names = {farm.id: farm.name for farm in fleet.farms}
    fit = fit[fit["farm_id"].isin(order)]
    shown = [names[farm_id] for farm_id in order]
    label = f"the {len(order)} of {len(beaten)} farms most in doubt" if len(beaten) > len(order) else "most in doubt first"
    view = View("", label)
    for name, rows, symbol, size, colour in (
        ("points of other farms", fit[~fit["own"]], "circle-open", 8, MUTED),
        ("its own points", fit[fit["own"] & ~fit["wrong_point"]], "circle", 12, BLUE),
        ("its own, and suspected to be wrong", fit[fit["own"] & fit["wrong_point"]], "x", 12, VERMILION),
    ):
        if rows.empty:
            continue
        texts = [
            f"{names[row['of_farm']]}: {row['weather_model']}/{row['weather_point']}, "
            f"{'' if pd.isna(row['distance_km']) else format(row['distance_km'], '.0f') + ' km, '}"
            f"{row['hours']:,} hours, rank {row['rank']}"
            for row in rows.to_dict("records")
        ]
        view.add(
            "scatter", numbers(rows["correlation"]), [names[farm_id] for farm_id in rows["farm_id"]], name, mode="markers",
            marker={"symbol": symbol, "size": size, "color": colour}, text=texts, hover="%{text}<br>correlation %{x:.3f}",
        )  # fmt: skip
    if readiness.empty:
        view.note = "No farm was assessed yet: run the pipeline data_engineering."
    elif not order:
        view.note = "No farm has enough hours to compare; every run of the pipeline data_engineering tries again."
    # First farm at the top.
    farms = {"categoryorder": "array", "categoryarray": shown[::-1], "dtick": 1, "type": "category"}
    panel = Panel("Correlation of hourly power with the wind at 100 m", "Farm", y_options=farms)
    height = _FRAME_PIXELS + _ROW_PIXELS * max(3, len(order))
    return draw_views("Does the weather explain the power?", [view], [panel], height=height)


def build_readiness_page(
    readiness: Derived | pd.DataFrame,
    observations: Derived | pd.DataFrame,
    weather_fit_figure: Figure,
    fleet: Fleet,
    clock: Clock,
) -> str:
    """Render the readiness page as self-contained HTML, with one row per farm that can be sorted and filtered."""
    observations = frame_of(observations)
    weeks = weekly_coverage(observations, fleet, clock)
    assessed = {row["farm_id"]: row for row in assessed_by(frame_of(readiness), clock.as_of).to_dict("records")}
    rows: list[dict[str, Any]] = [
        {str(name): None if pd.isna(value) else value for name, value in assessed[farm.id].items()}
        | {"card": farm, "weeks": weeks[farm.id]}
        for farm in fleet.at(clock.as_of).farms
        if farm.id in assessed
    ]
    rows.sort(key=lambda row: (TIERS.index(row["tier"]), not row["wrong_point"], row["learnable_days"], row["farm_id"]))
    return render(
        "readiness.html.j2",
        {"weather_fit": weather_fit_figure},
        as_of=clock.as_of,
        rows=rows,
        tiers={tier: sum(row["tier"] == tier for row in rows) for tier in TIERS},
        ranks={tier: number for number, tier in enumerate(TIERS)},
        suspected=sum(row["wrong_point"] for row in rows),
        unassessed=[farm.name for farm in fleet.farms if farm.id not in assessed],
    )


#: Number of weeks in the coverage calendar of a farm.
_WEEKS = 26


def weekly_coverage(observations: pd.DataFrame, fleet: Fleet, clock: Clock) -> dict[str, list[tuple[dt.datetime, float]]]:
    """Coverage of each farm's expected turbine readings by week before ``as_of``: start of the week and share."""
    end = pd.Timestamp(clock.as_of).floor("D")
    begin = end - pd.Timedelta(weeks=_WEEKS)
    farms = [farm.id for farm in fleet.farms]
    seen = observations[
        observations["entity_id"].isin(farms)
        & (observations["available_at"] <= clock.as_of)
        & (observations["valid_at"] >= begin)
        & (observations["valid_at"] < end)
    ]
    finest = seen.groupby("entity_id")["granularity_minutes"].transform("min")
    seen = seen[seen["granularity_minutes"] == finest].sort_values("available_at", kind="stable")
    seen = seen.drop_duplicates(["entity_id", "valid_at"], keep="last")
    week = ((seen["valid_at"] - begin) // pd.Timedelta(weeks=1)).rename("week")
    sums = (seen["coverage_share"] * seen["granularity_minutes"]).groupby([seen["entity_id"], week]).sum()
    minutes: dict[Any, float] = {key: float(value) for key, value in sums.items()}
    starts = [(begin + pd.Timedelta(weeks=number)).to_pydatetime() for number in range(_WEEKS)]
    whole = pd.Timedelta(weeks=1) / pd.Timedelta(minutes=1)
    return {
        farm_id: [(start, round(min(1.0, minutes.get((farm_id, number), 0.0) / whole), 3)) for number, start in enumerate(starts)]
        for farm_id in farms
    }
