"""Views of tables as of a time: newest versions, measurements, forecasts and scores known by ``as_of``."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pandas as pd

from wind_kedro.cards import Farm, Fleet, Product
from wind_kedro.cards.columns import quantile_column
from wind_kedro.clock import Clock
from wind_kedro.evaluation.scores import central_bands
from wind_kedro.pipelines.reporting.documents import EnergyFacts

MINUTES_PER_HOUR = 60
KW_PER_MW = 1000
#: Decimals of facts: more than any measurement has, and few enough to be equal on all machines.
DIGITS = 6


@dataclass(frozen=True)
class Member:
    """A member of a product: an entity that it forecasts."""

    product: Product
    entity_id: str
    name: str
    farms: tuple[Farm, ...]

    @property
    def capacity_kw(self) -> float:
        """Installed capacity."""
        return sum(farm.capacity_kw for farm in self.farms)

    @property
    def perfect_weather(self) -> bool:
        """Whether any of its weather is an analysis."""
        return any(farm.perfect_weather for farm in self.farms)

    @property
    def key(self) -> str:
        """Identifier: product and entity."""
        return f"{self.product.id}/{self.entity_id}"

    @property
    def label(self) -> str:
        """Label in menus."""
        return f"{self.name} · {self.product.name}"

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the member in a table with product and entity."""
        return table[(table["product_id"] == self.product.id) & (table["entity_id"] == self.entity_id)]


def members(fleet: Fleet, clock: Clock) -> list[Member]:
    """Every member of every product, in the order of the cards, with its farms as they are at ``as_of``."""
    return [
        Member(product, entity_id, fleet.name_of(entity_id), tuple(fleet.farms_at(entity_id, clock.as_of)))
        for product in fleet.products
        for entity_id in product.members
    ]


def known(table: pd.DataFrame, column: str, clock: Clock) -> pd.DataFrame:
    """Rows whose time in ``column`` is not after ``as_of``."""
    found: pd.DataFrame = table[table[column] <= pd.Timestamp(clock.as_of)]
    return found


def newest_fit(fits: pd.DataFrame, farm_id: str, clock: Clock) -> pd.DataFrame:
    """Rows of a farm's newest calibration by ``as_of``."""
    rows = known(fits[fits["farm_id"] == farm_id], "fitted_at", clock)
    newest: pd.DataFrame = rows[rows["fitted_at"] == rows["fitted_at"].max()]
    return newest


def measured(observations: pd.DataFrame, entity_id: str, granularity_minutes: int, clock: Clock) -> pd.DataFrame:
    """One row per interval, in order: the newest known version, with ``power_share`` of the available capacity."""
    rows = observations[(observations["entity_id"] == entity_id) & (observations["granularity_minutes"] == granularity_minutes)]
    rows = known(rows, "available_at", clock).sort_values(["valid_at", "available_at"])
    rows = rows.drop_duplicates("valid_at", keep="last").set_index("valid_at")
    return rows.assign(power_share=rows["power_kw"] / rows["available_capacity_kw"])


def band_levels(levels: list[float], band_share: float) -> tuple[float, float]:
    """The pair of symmetric levels whose band comes closest to ``band_share``; the median twice if there is none."""
    bands = central_bands(levels)
    if not bands:
        return 0.5, 0.5
    low, high, _ = min(bands, key=lambda band: abs(band[2] - band_share))
    return levels[low], levels[high]


def newest_issue(issued: pd.DataFrame, member: Member, clock: Clock) -> pd.DataFrame:
    """The member's newest forecast by ``as_of``, in order of time; empty if none was issued."""
    rows = known(member.rows(issued), "issued_at", clock)
    rows = rows[rows["issued_at"] == rows["issued_at"].max()]
    # A forecast is made by one model; of two, the one written later is used.
    rows = rows[rows["model_version"] == rows["model_version"].iloc[-1]] if len(rows) else rows
    return pd.DataFrame(rows.sort_values("valid_at"))


@dataclass(frozen=True)
class Window:
    """Period of a forecast: a calendar day of the market, or the whole forecast."""

    kind: Literal["day", "horizon"]
    start: pd.Timestamp
    end: pd.Timestamp

    def describe(self, as_of: dt.datetime, time_zone: str) -> str:
        """Description relative to ``as_of``, such as tomorrow's date."""
        first = self.start.tz_convert(time_zone)
        if self.kind == "horizon":
            hours = (self.end - self.start) / pd.Timedelta(hours=1)
            return f"The {hours:g} hours from {format_date(first)}, {first:%H:%M} local time"
        away = (first.date() - pd.Timestamp(as_of).tz_convert(time_zone).date()).days
        near = {-1: "Yesterday, ", 0: "Today, ", 1: "Tomorrow, "}.get(away, "")
        return f"{near}{first:%A} {format_date(first)}"


def format_date(time: pd.Timestamp | dt.datetime) -> str:
    """Format a date as ``1 January 2016``."""
    return f"{time.day} {time:%B %Y}"


def format_place(latitude_deg: float | None, longitude_deg: float | None) -> str:
    """Format coordinates as ``48.452° N, 5.588° E``."""
    if latitude_deg is None or longitude_deg is None:
        return "place not known"
    return f"{abs(latitude_deg):.3f}° {'NS'[latitude_deg < 0]}, {abs(longitude_deg):.3f}° {'EW'[longitude_deg < 0]}"


def headline_window(forecast: pd.DataFrame, member: Member, time_zone: str, clock: Clock) -> Window:
    """Period of the headline: the first whole future day of the market, else the current one, else the last, else the horizon.

    ``forecast`` is not empty; days of ``time_zone`` have 23 to 25 hours.
    """
    step = pd.Timedelta(minutes=member.product.granularity_minutes)
    start, end = forecast["valid_at"].min(), forecast["valid_at"].max() + step
    first = start.tz_convert(time_zone).normalize()
    # Local midnights, across clock changes.
    midnights = [
        pd.Timestamp(first.date() + dt.timedelta(days=day)).tz_localize(time_zone).tz_convert("UTC")
        for day in range((end - start).days + 3)
    ]
    whole = [Window("day", day, after) for day, after in pairwise(midnights) if start <= day and after <= end]
    as_of = pd.Timestamp(clock.as_of)
    for wanted in ([day for day in whole if day.start > as_of], [day for day in whole if day.end > as_of][:1], whole[-1:]):
        if wanted:
            return wanted[0]
    return Window("horizon", start, end)


def energy_range(
    issued: pd.DataFrame,
    forecast: pd.DataFrame,
    actual: pd.DataFrame,
    window: Window,
    member: Member,
    clock: Clock,
    *,
    band_share: float,
    min_issues: int,
) -> EnergyFacts:
    """Energy expected in a window, with a calibrated range.

    Summed hourly limits are too wide for an energy, as errors of hours are not perfectly correlated. So both halves of the summed
    band are scaled by split conformal prediction (Lei et al. 2018, "Distribution-free predictive inference for regression", JASA
    113): the score of a past issue is the distance of its energy, over the same lead times, from the summed median, in units of
    the half of the summed band on that side; the scale is the score of rank ⌈(n + 1)·share⌉. With fewer than ``min_issues``
    the summed limits are returned, and ``past_issues`` is 0.
    """
    low_level, high_level = band_levels(member.product.quantile_levels, band_share)
    columns = {"low": quantile_column(low_level), "mid": quantile_column(0.5), "high": quantile_column(high_level)}
    hours = member.product.granularity_minutes / MINUTES_PER_HOUR
    inside = forecast[(forecast["valid_at"] >= window.start) & (forecast["valid_at"] < window.end)]
    low, mid, high = (float(inside[column].sum()) * hours / KW_PER_MW for column in columns.values())

    leads = inside["lead_minutes"]
    past = known(member.rows(issued), "issued_at", clock)
    past = past[(past["issued_at"] < forecast["issued_at"].iloc[0]) & past["lead_minutes"].between(leads.min(), leads.max())]
    past = past.assign(actual=past["valid_at"].map(actual["power_share"]) * past["capacity_kw"])
    sums = past.groupby("issued_at").agg(
        rows=("actual", "count"), actual=("actual", "sum"), **{name: (column, "sum") for name, column in columns.items()}
    )
    sums = sums[sums["rows"] == len(inside)]
    half = (sums["high"] - sums["mid"]).where(sums["actual"] >= sums["mid"], sums["mid"] - sums["low"])
    away = ((sums["actual"] - sums["mid"]).abs() / half)[half > 0].sort_values()
    rank = math.ceil((len(away) + 1) * band_share)
    calibrated = len(away) >= min_issues and rank <= len(away)
    if calibrated:
        scale = float(away.iloc[rank - 1])
        full_load = float(inside["capacity_kw"].sum()) / KW_PER_MW * hours
        low, high = max(0.0, mid - scale * (mid - low)), min(full_load, mid + scale * (high - mid))
    full_power = float(inside["capacity_kw"].mean()) / KW_PER_MW * ((window.end - window.start) / pd.Timedelta(hours=1))
    return EnergyFacts(
        kind=window.kind,
        start=window.start.to_pydatetime(),
        end=window.end.to_pydatetime(),
        expected_mwh=round(mid, DIGITS),
        low_mwh=round(low, DIGITS),
        high_mwh=round(high, DIGITS),
        nominal_share=round(high_level - low_level, DIGITS),
        full_load_share=round(mid / full_power, DIGITS),
        past_issues=len(away) if calibrated else 0,
    )


def newest_promotion(promotions: pd.DataFrame, member: Member, clock: Clock) -> pd.Series | None:
    """Promotion in force by ``as_of``; None if no model was promoted yet."""
    rows = known(member.rows(promotions), "promoted_at", clock).sort_values(["promoted_at", "recorded_at"], kind="stable")
    return None if rows.empty else rows.iloc[-1]


def over_all_leads(scores: pd.DataFrame, product: Product) -> pd.DataFrame:
    """Scores over the whole horizon of the product."""
    return scores[(scores["lead_from_minutes"] == 0) & (scores["lead_to_minutes"] == product.horizon_minutes)]


def by_lead(scores: pd.DataFrame, product: Product) -> pd.DataFrame:
    """Scores by bucket of lead time, in order; those over the whole horizon if there are no buckets."""
    whole = over_all_leads(scores, product)
    rows = scores.drop(whole.index) if len(whole) < len(scores) else whole
    return rows.sort_values(["model", "metric", "lead_from_minutes"], kind="stable")


def by_day(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores by day of issue, in order; other periods are ``all`` and months such as 2015-11."""
    return scores[scores["period"].str.len() == len("2015-11-03")].sort_values("period", kind="stable")


def in_all(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores over the whole period; those of days or else months, to be averaged, if there are no others."""
    whole, days = scores[scores["period"] == "all"], by_day(scores)
    return whole if len(whole) else days if len(days) else scores


def weighted_mean(scores: pd.DataFrame) -> float | None:
    """Mean of ``value`` weighted by the number of intervals; None without any. Only for scores that are means."""
    rows = scores[scores["value"].notna() & (scores["n"] > 0)]
    if rows.empty:
        return None
    return float((rows["value"] * rows["n"]).sum() / rows["n"].sum())


def weighted_means(scores: pd.DataFrame) -> dict[tuple[str, str], float]:
    """`weighted_mean` of each model and metric that has one."""
    rows = scores[scores["value"].notna() & (scores["n"] > 0)]
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    # A few dozen rows for each of a thousand members: grouping by pandas takes ten times as long.
    for model, metric, value, n in zip(*(rows[name].tolist() for name in ("model", "metric", "value", "n")), strict=True):
        total, count = sums.get((model, metric), (0.0, 0))
        sums[model, metric] = total + value * n, count + n
    return {key: total / count for key, (total, count) in sums.items()}


def known_periods(scores: pd.DataFrame, clock: Clock) -> pd.DataFrame:
    """Scores whose period had begun by ``as_of``, and those over all periods."""
    # ISO dates and months compare as text: '2015-11' comes before '2015-11-03'.
    return scores[(scores["period"] == "all") | (scores["period"] <= f"{clock.as_of:%Y-%m-%d}")]


def champions(promotions: pd.DataFrame, member: Member, clock: Clock) -> list[str]:
    """Models promoted by ``as_of``, newest last."""
    rows = known(member.rows(promotions), "promoted_at", clock).sort_values("promoted_at", kind="stable")
    return list(dict.fromkeys(reversed(rows["model"].to_list())))[::-1]


def of_champions(scores: pd.DataFrame, promoted: list[str]) -> pd.DataFrame:
    """Scores of promoted models; all scores before the first promotion."""
    rows = scores[scores["model"].isin(promoted)]
    return rows if len(rows) else scores
