"""Turbine signals become observations of farms and groups, with every version as it was known."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet, Group
from wind_kedro.clock import Clock

from ._tables import Table, exact, in_utc
from .settings import DataEngineering


def ill_fitting(fleet: Fleet) -> list[tuple[str, int, str]]:
    """Entity, granularity and farm where the farm's cadence does not divide the granularity: no observation can be made."""
    return [
        (entity.id, minutes, farm.id)
        for entity in _entities(fleet)
        for minutes in fleet.granularities_minutes
        for farm in fleet.farms_of(entity.id)
        if minutes * 60 % farm.signals.cadence_seconds
    ]


def _entities(fleet: Fleet) -> list[Farm | Group]:
    return [*fleet.farms, *fleet.groups]


def aggregate_observations(
    timed_signals: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering
) -> pd.DataFrame:
    """Sum turbines into entities, at every granularity that a product needs.

    One row per entity, granularity, interval and version (contract `Observations`). An interval is first given out when
    all its turbine intervals are in, or ``late_grace_minutes`` after its end with what is there; every row that comes
    or changes later makes a new version at its arrival. Each version is made of the newest versions of its rows at that
    time.

    ``power_kw`` is the sum over turbines of their mean power in the interval; a turbine counts if it reported at least
    ``min_turbine_coverage_share`` of it, and ``available_capacity_kw`` is the rated power of those that do.
    ``coverage_share`` is the share of the expected turbine minutes that they reported; a version with less than
    ``min_coverage_share`` is left out. ``wind_speed_ms`` is the mean over the same rows.

    Args:
        timed_signals: see `time_signals`.
        fleet: the cards.
        clock: as of when.
        data_engineering: the room's parameters.
    """
    import ibis

    settings = data_engineering.observations
    members = _members(fleet)
    columns = [
        "entity_id", "granularity_minutes", "valid_at", "available_at", "power_kw", "available_capacity_kw",
        "wind_speed_ms", "coverage_share", "turbines",
    ]  # fmt: skip
    rows = timed_signals.filter(timed_signals.status.isin(["kept", "superseded"]), timed_signals.power_kw.notnull())
    rows = rows.select(
        "farm_id",
        "turbine_id",
        "valid_at",
        "available_at",
        "superseded_at",
        "version",
        "cadence",
        "power_kw",
        "wind_speed_ms",
    )
    rows = rows.inner_join(ibis.memtable(members), ["farm_id", "turbine_id"])
    granularity = rows.granularity_minutes
    minute = rows.valid_at.epoch_seconds() // 60
    rows = rows.mutate(start=rows.valid_at - (minute % granularity).as_interval("m"))
    key = ["entity_id", "granularity_minutes", "start"]

    # When every expected turbine interval had come for the first time. A superseded version whose successor lost its
    # power
    # counts as come: it was there.
    first = rows.filter(rows.version == 0).group_by(key).agg(
        expected_minutes=lambda t: t.expected_minutes.max(), there=lambda t: t.cadence.sum() / 60,
        last=lambda t: t.available_at.max(),
    )  # fmt: skip
    end = first.start + first.granularity_minutes.as_interval("m")
    given_up = end + ibis.interval(minutes=settings.late_grace_minutes)
    complete = first.there >= first.expected_minutes
    first = first.mutate(given_out=ibis.ifelse(complete, ibis.least(first["last"], given_up), given_up))
    base = first.select(*key, known_at=first.given_out)
    changes = rows.inner_join(first.select(*key, "given_out"), key)
    later = changes.select(*key, "given_out", known_at=changes.available_at)
    gone = changes.filter(changes.superseded_at.notnull())
    later = later.union(gone.select(*key, "given_out", known_at=gone.superseded_at))
    later = later.filter(later.known_at > later.given_out).select(*key, "known_at")
    versions = base.union(later).distinct()
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    versions = versions.filter(versions.known_at <= as_of)

    known = versions.inner_join(rows, key)
    known = known.filter(
        known.available_at <= known.known_at, known.superseded_at.isnull() | (known.superseded_at > known.known_at)
    )
    turbines = known.group_by([*key, "known_at", "farm_id", "turbine_id"]).agg(
        power_kw=exact(known.power_kw).mean().cast("float64"),
        wind_speed_ms=exact(known.wind_speed_ms).mean().cast("float64"), minutes=known.cadence.sum() / 60,
        rated=known.rated.max(), expected_minutes=known.expected_minutes.max(),
    )  # fmt: skip
    turbines = turbines.filter(
        turbines.minutes >= settings.min_turbine_coverage_share * turbines.granularity_minutes.cast("float64")
    )
    entities = turbines.group_by([*key, "known_at"]).agg(
        power_kw=exact(turbines.power_kw).sum().cast("float64"),
        available_capacity_kw=exact(turbines.rated).sum().cast("float64"),
        wind_speed_ms=exact(turbines.wind_speed_ms).mean().cast("float64"),
        coverage_share=turbines.minutes.sum() / turbines.expected_minutes.max(), turbines=turbines.turbine_id.count(),
    )  # fmt: skip
    entities = entities.filter(entities.coverage_share >= settings.min_coverage_share)
    entities = entities.rename(valid_at="start", available_at="known_at").select(columns)
    frame = entities.order_by(["entity_id", "granularity_minutes", "valid_at", "available_at"]).to_pandas()
    return in_utc(frame, ["valid_at", "available_at"]).astype({"granularity_minutes": "int64", "turbines": "int64"})


def _members(fleet: Fleet) -> pd.DataFrame:
    """One row per entity, granularity and turbine behind it."""
    without = {(entity, minutes) for entity, minutes, _ in ill_fitting(fleet)}
    rows: list[dict[str, Any]] = [
        {
            "entity_id": entity.id,
            "granularity_minutes": minutes,
            "expected_minutes": minutes * sum(len(farm.turbines) for farm in fleet.farms_of(entity.id)),
            "farm_id": farm.id,
            "turbine_id": turbine.id,
            "rated": turbine.rated_power_kw,
        }
        for entity in _entities(fleet)
        for minutes in fleet.granularities_minutes
        if (entity.id, minutes) not in without
        for farm in fleet.farms_of(entity.id)
        for turbine in farm.turbines
    ]
    columns = ["entity_id", "granularity_minutes", "expected_minutes", "farm_id", "turbine_id", "rated"]
    return pd.DataFrame(rows, columns=columns).astype(
        {"entity_id": "str", "farm_id": "str", "turbine_id": "str", "rated": "float64"}
        | dict.fromkeys(["granularity_minutes", "expected_minutes"], "int64")
    )
