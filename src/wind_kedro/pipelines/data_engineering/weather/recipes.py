"""Weather as derived tables: which days of a farm are computed again, and from what.

A shard of ``judged_weather`` is a farm and a day of ``reference_at``, as all rows that are compared are of one reference time. A
shard of ``weather`` is a farm and a day of ``run_at``: of forecasts, the same rows; a pseudo-run reads the analyses of the days
that it covers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, Fleet, WeatherSource
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering.parse.weather import parse_weather
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.shards import known_until, of_shards
from wind_kedro.pipelines.data_engineering.tables import Table, ibis
from wind_kedro.pipelines.data_engineering.weather.runs import judge_weather, list_runs, make_weather
from wind_kedro.readers.source_table import SourceRows
from wind_kedro.storage.fingerprints import DAY, NO_DAY, Recipe, around, mixed, of_cards, surrounding

#: Increase it if the result for the same input changes.
PARSING_VERSION = JUDGING_VERSION = MAKING_VERSION = LISTING_VERSION = 1

_SHARD = ["farm_id", "day"]


def derive_parsed_weather(weather_raw: SourceRows, fleet: Fleet, data_engineering: DataEngineering) -> Recipe:
    """`parse_weather` of the files that are new or changed, or whose card has changed."""
    times = {"delay_minutes", "run_every_minutes", "first_step_minutes", "length_hours", "lead"}
    read = {"model", "point", "kind", "columns"} | times
    settings = [data_engineering.missing_values, data_engineering.weather_ranges, PARSING_VERSION]
    cards = of_cards({farm.id: [source.model_dump(include=read) for source in farm.weather] for farm in fleet.farms}, *settings)
    units = weather_raw.units
    fingerprint = mixed(units["fingerprint"], cards.reindex(units["farm_id"]).to_numpy())

    def work(part: pd.DataFrame) -> Table:
        tables = [parse_weather(rows, fleet, data_engineering) for rows in weather_raw.tables(part)]
        return tables[0].union(*tables[1:]) if len(tables) > 1 else tables[0]

    return Recipe(units[["farm_id", "unit", "rows"]].assign(fingerprint=fingerprint), work)


def derive_judged_weather(parsed_weather: Derived, clock: Clock) -> Recipe:
    """`judge_weather` of the days whose rows, or what of them is available, have changed."""
    days = around(parsed_weather.days, ["farm_id"])
    if not days.empty:
        days = days[days["first_at"] <= clock.as_of.replace(tzinfo=None)]
    return Recipe(
        days[[*_SHARD, "rows"]].assign(fingerprint=mixed(days["digest"], known_until(days, clock), JUDGING_VERSION)),
        lambda part: judge_weather(parsed_weather.shards(part[_SHARD]), clock),
    )


def derive_weather(judged_weather: Derived, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Recipe:
    """`make_weather` of the days whose rows, pseudo-runs or card have changed."""
    cards = of_cards({farm.id: _read_of(farm) for farm in fleet.farms}, data_engineering.wind_profile, MAKING_VERSION)
    judged = judged_weather.days
    judged = judged.loc[judged["farm_id"].isin(cards.index) & (judged["day"] != NO_DAY), [*_SHARD, "digest", "rows"]]
    analyses = {farm.id: own for farm in fleet.farms if (own := [one for one in farm.weather if one.kind == "analysis"])}
    days_ahead = {farm.id: _days_ahead(analyses.get(farm.id, [])) for farm in fleet.farms}
    pieces = [_of_runs(own, int(ahead)) for ahead, own in judged.groupby(judged["farm_id"].map(days_ahead))]
    days = pd.concat(pieces, ignore_index=True) if pieces else judged
    # A forecast that is judged is available; the last pseudo-run of a day may be available on a later one.
    delays = {farm_id: max(source.delay_minutes for source in own) for farm_id, own in analyses.items()}
    last_at = days["day"] + DAY + pd.to_timedelta(days["farm_id"].map(delays), unit="min")
    until = known_until(days.assign(last_at=last_at), clock)
    fingerprint = mixed(days["digest"], until, cards.reindex(days["farm_id"]).to_numpy())

    def work(part: pd.DataFrame) -> pd.DataFrame:
        ahead = max((days_ahead[farm_id] for farm_id in part["farm_id"].unique()), default=0)
        found = make_weather(judged_weather.shards(part[_SHARD], after=ahead), fleet, clock, data_engineering)
        return of_shards(found, part, "run_at") if ahead else found

    return Recipe(days[[*_SHARD, "rows"]].assign(fingerprint=fingerprint), work)


def derive_weather_runs(weather: Derived) -> Recipe:
    """`list_runs` of the days of weather that have changed."""
    days = weather.days[[*_SHARD, "digest", "rows"]]
    return Recipe(
        days[[*_SHARD, "rows"]].assign(fingerprint=mixed(days["digest"], LISTING_VERSION)),
        lambda part: list_runs(weather.shards(part[_SHARD])),
    )


def _read_of(farm: Farm) -> list[Any]:
    """What `make_weather` reads of a card."""
    hub = farm.hub_heights
    read = {"model", "point", "kind", "delay_minutes", "run_every_minutes", "length_hours", "valid_from", "valid_until"}
    sources = [source.model_dump(include=read) for source in farm.weather]
    return [farm.time_zone, hub.since.tolist(), hub.values.tolist(), sources]


def _days_ahead(analyses: list[WeatherSource]) -> int:
    """Number of days after that of its start into which a pseudo-run reaches."""
    return max((math.ceil(source.length_hours / 24) for source in analyses), default=0)


def _of_runs(judged: pd.DataFrame, days_ahead: int) -> pd.DataFrame:
    """The days on which runs begin, with the digest of all days that they cover."""
    if not days_ahead:
        return judged
    begun = surrounding(judged[_SHARD], days_ahead, 0).assign(digest=np.uint64(0), rows=0)
    return around(pd.concat([judged, begun], ignore_index=True), ["farm_id"], after=days_ahead)


# --- statistics of a day ----------------------------------------------------------------------------------------------


def of_parsed(rows: Table) -> dict[str, Any]:
    """When the rows became available; one without a time always is. And how many sources could not be read."""
    available_at = rows.available_at.fill_null(ibis.timestamp(str(NO_DAY)))
    return {"first_at": available_at.min(), "last_at": available_at.max(), "unreadable": (rows.source_row == 0).sum()}


def of_judged(rows: Table) -> dict[str, Any]:
    """Numbers of rows by status."""
    return {status: (rows.status == status).sum() for status in ("kept", "superseded", "duplicate", "quarantined")}


def of_weather(rows: Table) -> dict[str, Any]:
    """When the rows became available, and the times that they are valid for."""
    naive = {name: rows[name].cast("timestamp") for name in ("available_at", "valid_at")}
    return {
        "first_at": naive["available_at"].min(),
        "last_at": naive["available_at"].max(),
        "first_valid_at": naive["valid_at"].min(),
        "last_valid_at": naive["valid_at"].max(),
    }
