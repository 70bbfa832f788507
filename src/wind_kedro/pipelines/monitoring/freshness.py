"""Freshness: how old the newest data of every source is as of now, beside how old it usually gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet, WeatherSource
from wind_kedro.cards.tiers import assessed_by
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import Freshness
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.feeds import FeedCards
from wind_kedro.pipelines.monitoring.settings import FreshnessRules, Monitoring

if TYPE_CHECKING:
    import ibis.expr.types as ir

    Table: TypeAlias = ir.Table
else:
    Table = Any  # Kedro resolves the hints of nodes when a run starts; importing Ibis would slow down every command

_RUN = ["farm_id", "weather_model", "weather_point", "run_at"]
_MINUTE = pd.Timedelta(minutes=1)


def check_freshness(
    weather: Derived | pd.DataFrame,
    weather_runs: Derived | pd.DataFrame,
    signals: Derived | Table,
    readiness: Derived | pd.DataFrame,
    landings: pd.DataFrame,
    feeds: FeedCards,
    fleet: Fleet,
    clock: Clock,
    monitoring: Monitoring,
) -> pd.DataFrame:
    """One row per feed, and per weather source and turbine of the cards of now: its newest data known as of now, and whether it
    is late.

    A source is late when its newest data is older than it gets in ordinary operation, by a margin. Of a weather source that
    is the usual delay of its runs and one interval between runs; of a turbine the farm's latency and two cadences; of a feed
    the usual gap between its batches.

    Returns:
        Contract `Freshness`.
    """
    at, rules = pd.Timestamp(clock.as_of), monitoring.freshness
    fleet = fleet.at(clock.as_of)
    rows = [
        *_weather(weather, frame_of(weather_runs), fleet, clock, rules),
        *_signals(signals, frame_of(readiness), fleet, clock, rules),
        *_feeds(landings, feeds, at, rules),
    ]
    table = pd.DataFrame(rows, columns=[name for name in Freshness.to_schema().columns if name != "age_minutes"])
    times = {name: pd.to_datetime(table[name], utc=True) for name in ("newest_at", "reach_at")}
    return table.assign(**times, checked_at=at, age_minutes=(at - times["newest_at"]) / _MINUTE)


# --- weather ----------------------------------------------------------------------------------------------------------


def products_of(fleet: Fleet, farm_id: str, weather_model: str | None = None) -> list[str]:
    """Products that are made from a farm's signals, or from its weather of one model."""
    return [
        product.id
        for product in fleet.products
        if any(farm_id == farm.id for entity_id in product.members for farm in fleet.farms_of(entity_id))
        and (weather_model is None or product.weather_models is None or weather_model in product.weather_models)
    ]


def _weather(
    weather: Derived | pd.DataFrame, weather_runs: pd.DataFrame, fleet: Fleet, clock: Clock, rules: FreshnessRules
) -> Iterable[dict[str, Any]]:
    known = weather_runs[weather_runs["available_at"] <= clock.as_of]
    runs = known.groupby(_RUN).agg(arrived=("available_at", "min"), reach=("last_valid_at", "max")).reset_index()
    by_source = {key: part.sort_values("run_at") for key, part in runs.groupby(_RUN[:3])}
    # The newest two runs of each source: a feed that froze repeats itself.
    newest_two = runs.sort_values("run_at").groupby(_RUN[:3]).tail(2)[_RUN]
    rows = _rows_of(weather, newest_two)
    rows = rows[rows["available_at"] <= clock.as_of].merge(newest_two, on=_RUN)
    values = dict(iter(rows.groupby(_RUN[:3])))
    for farm in fleet.farms:
        for source in farm.weather:
            key = (farm.id, source.model, source.point)
            relying = products_of(fleet, farm.id, source.model)
            row = {
                "source": "weather",
                "farm_id": farm.id,
                "subject": f"{source.model}/{source.point}",
                "relied_on": bool(relying),
                "allowed_minutes": source.delay_minutes + source.run_every_minutes + rules.margin_minutes,
            }
            if key not in by_source:
                yield row | {"state": "missing", "detail": "no run is known"}
                continue
            needed = max((clock.newest_issue(fleet.calendar(name)) for name in relying), default=None)
            yield row | _newest_run(by_source[key], values[key], source, needed, pd.Timestamp(clock.as_of), rules)


def _rows_of(weather: Derived | pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of weather on the days of some runs, which may be years apart where a source has ended."""
    if isinstance(weather, pd.DataFrame):
        return weather
    days = runs[["farm_id"]].assign(day=runs["run_at"].dt.tz_localize(None).dt.floor("D")).drop_duplicates(ignore_index=True)
    rows: pd.DataFrame = weather.shards(days).to_pandas()
    return rows


def _newest_run(
    runs: pd.DataFrame, values: pd.DataFrame, source: WeatherSource, needed: Any, at: pd.Timestamp, rules: FreshnessRules
) -> dict[str, Any]:
    usual = _usual_delay(runs, source, at, rules)
    allowed = usual + source.run_every_minutes + rules.margin_minutes
    newest, reach = runs["run_at"].iloc[-1], runs["reach"].max()
    state, detail = "fresh", ""
    if needed is not None and reach <= needed:
        state = "missing"
        detail = f"the runs known end at {reach:%Y-%m-%d %H:%M}, before the newest issue at {needed:%Y-%m-%d %H:%M}"
    elif (at - newest) / _MINUTE > allowed:
        state, detail = "late", f"runs usually arrive within {usual / 60:.1f} h"
    elif detail := _no_forecast(values, source, rules):
        state = "constant"
    return {"newest_at": newest, "reach_at": reach, "allowed_minutes": allowed, "state": state, "detail": detail}


def _usual_delay(runs: pd.DataFrame, source: WeatherSource, at: pd.Timestamp, rules: FreshnessRules) -> float:
    """Minutes from a run's initialisation until it can be read, at the longest in ordinary operation."""
    recent = runs[runs["run_at"] > at - pd.Timedelta(days=rules.usual_days)]
    if len(recent) < rules.min_observed:
        return float(source.delay_minutes)
    delays = (recent["arrived"] - recent["run_at"]).dt.total_seconds() / 60
    observed = float(delays.quantile(rules.usual_quantile))
    # A history that landed at once arrived late as a whole: it may not excuse every outage of the next month.
    return min(observed, float(source.delay_minutes + source.run_every_minutes))


def _no_forecast(values: pd.DataFrame, source: WeatherSource, rules: FreshnessRules) -> str:
    """Why the newest run is no forecast although it arrived in time; '' if it is one."""
    values = values.sort_values("available_at").drop_duplicates(["run_at", "valid_at"], keep="last")
    known = values.dropna(subset=["wind_speed_100m_ms"])
    runs = [run.set_index("valid_at")["wind_speed_100m_ms"] for _, run in known.groupby("run_at")]
    if not runs:
        return ""
    *before, newest = runs
    if len(newest) >= rules.constant_values and (newest == newest.iloc[0]).all():
        return f"all {len(newest)} wind speeds of the newest run are {newest.iloc[0]:g} m/s"
    # Runs of an analysis are cut from one series.
    if not before or source.kind != "forecast":
        return ""
    both = pd.concat([before[-1], newest], axis=1, join="inner")
    if len(both) >= rules.constant_values and bool((both.iloc[:, 0] == both.iloc[:, 1]).all()):
        return f"the newest run repeats the {len(both)} wind speeds of the one before it"
    return ""


# --- signals ----------------------------------------------------------------------------------------------------------


#: Days in which the newest row of a turbine is searched, one after the other; then all.
_SEARCHED_DAYS = (7, 60)


def _newest_rows(signals: Derived | Table, fleet: Fleet, clock: Clock) -> pd.DataFrame:
    """Start of the newest row of each turbine, and of the newest one with power: ``farm_id, turbine_id, row, power``."""
    if not isinstance(signals, Derived):
        return _newest_in(signals, clock)
    last = pd.Timestamp(clock.as_of).tz_localize(None).as_unit("us")
    for days in _SEARCHED_DAYS:
        found = _newest_in(signals.table(last.floor("D") - pd.Timedelta(days=days), last), clock)
        if found["power"].notna().sum() == sum(len(farm.turbines) for farm in fleet.farms):
            return found
    return _newest_in(signals.table(), clock)


def _newest_in(signals: Table, clock: Clock) -> pd.DataFrame:
    import ibis

    moment = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    known = signals.filter(signals.available_at <= moment)
    newest = known.group_by(["farm_id", "turbine_id"]).agg(
        row=known.valid_at.max(), power=known.valid_at.max(where=known.power_kw.notnull())
    )
    found: pd.DataFrame = newest.to_pandas()
    return found.assign(**{name: pd.to_datetime(found[name], utc=True) for name in ("row", "power")})


def _signals(
    signals: Derived | Table, readiness: pd.DataFrame, fleet: Fleet, clock: Clock, rules: FreshnessRules
) -> Iterable[dict[str, Any]]:
    found = _newest_rows(signals, fleet, clock).set_index(["farm_id", "turbine_id"])
    known_of: Mapping[Any, Mapping[Any, Any]] = found.to_dict("index")
    latencies = assessed_by(readiness, clock.as_of).set_index("farm_id")["latency_95_minutes"].to_dict()
    at = pd.Timestamp(clock.as_of)
    for farm in fleet.farms:
        latency = np.nanmax([float(farm.latency_minutes), latencies.get(farm.id, np.nan)])
        # An interval is known one cadence and the latency after its start; the next one a cadence later.
        allowed = latency + 2 * farm.signals.cadence_seconds / 60 + rules.margin_minutes
        relied_on = bool(products_of(fleet, farm.id))
        for turbine in farm.turbines:
            own = known_of.get((farm.id, turbine.id), {"row": pd.NaT, "power": pd.NaT})
            row, power = own["row"], own["power"]
            state, detail = "fresh", ""
            if pd.isna(power):
                state, detail = "missing", "no usable power is known"
            elif (at - power) / _MINUTE > allowed:
                state, detail = "late", f"rows without usable power until {row:%Y-%m-%d %H:%M}" if row > power else ""
            yield {
                "source": "signals", "farm_id": farm.id, "subject": turbine.id, "relied_on": relied_on, "newest_at": power,
                "allowed_minutes": allowed, "state": state, "detail": detail,
            }  # fmt: skip


# --- feeds ------------------------------------------------------------------------------------------------------------


def _feeds(landings: pd.DataFrame, feeds: FeedCards, at: pd.Timestamp, rules: FreshnessRules) -> Iterable[dict[str, Any]]:
    for feed_id in feeds.root:
        own = landings[landings["feed_id"] == feed_id].sort_values("landed_at")
        known = own[own["landed_at"] <= at]
        batches = known.loc[known["folder"] != "", "landed_at"]
        # Batches that land within one hour are one delivery: a backlog would make every gap after it unusual.
        gaps = batches[batches > at - pd.Timedelta(days=rules.usual_days)].dt.floor("h").drop_duplicates().diff().dropna()
        allowed = rules.feed_hours * 60
        if len(gaps) >= rules.min_observed:
            allowed = rules.feed_factor * float((gaps / _MINUTE).quantile(rules.usual_quantile)) + rules.margin_minutes
        newest = batches.iloc[-1] if len(batches) else pd.NaT
        since = known if pd.isna(newest) else known[known["landed_at"] > newest]
        faults = since.loc[since["fault"] != "", "fault"]
        if pd.isna(newest):
            # As of a past time the feed may not have existed.
            state = "not_yet" if len(own) and known.empty else "missing"
        else:
            state = "late" if (at - newest) / _MINUTE > allowed else "fresh"
        detail = f"{len(faults)} fetches failed since, the last: {faults.iloc[-1]}" if len(faults) else ""
        yield {
            "source": "feed", "farm_id": "", "subject": feed_id, "relied_on": True, "newest_at": newest,
            "allowed_minutes": allowed, "state": state, "detail": detail,
        }  # fmt: skip
