"""Turbine signals become observations of farms and groups, with every version as it was known."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet, Group
from wind_kedro.clock import Clock

from ._tables import Table, exact, in_utc
from .labels import NOT_AVAILABLE
from .rules import SPIKES_IN_TIME
from .settings import Aggregation, DataEngineering

_KEY = ["entity_id", "granularity_minutes", "start"]
_TIMES = ("valid_at", "available_at", "superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME))
_COLUMNS = [
    "entity_id", "granularity_minutes", "valid_at", "available_at", "power_kw", "available_capacity_kw", "metered_power_kw",
    "wind_speed_ms", "coverage_share", "turbines", "stopped_share", "curtailed_share", "imputed_share",
]  # fmt: skip


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
    signals: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering
) -> pd.DataFrame:
    """Sum turbines into entities, at every granularity that a product needs.

    One row per entity, granularity, interval and version (contract `Observations`). An interval is first given out when
    all its turbine intervals are in, or ``late_grace_minutes`` after its end with what is there; every row that comes
    or changes later, and every spike found later, makes a new version at its time. Each version is made of the newest
    versions of its rows at that time.

    A turbine counts in an interval if it reported at least ``min_turbine_coverage_share`` of it; it was available if it reported
    so much without a label of `NOT_AVAILABLE`. ``power_kw`` is the sum over available turbines of their mean power in the
    rows without such a label, ``available_capacity_kw`` their rated power, ``turbines`` their number; ``metered_power_kw`` is
    the sum over all turbines that count. An interval without an available turbine says nothing of the wind, and is
    left out. ``coverage_share``, ``stopped_share`` and ``curtailed_share`` are of the expected turbine minutes.

    A version with less coverage than ``min_coverage_share`` is left out, unless the interval before, or one at most
    ``max_gap_minutes`` earlier, was known well enough by then: then the turbines that did not report are filled in with the
    mean share of those that did, and ``imputed_share`` says how much of the capacity that is. `latest_versions` leaves such
    intervals out of targets and actuals.

    Args:
        signals: contract `Signals`.
        fleet: the cards.
        clock: as of when.
        data_engineering: the room's parameters.
    """
    import ibis

    settings = data_engineering.observations
    rows = signals.select(
        "farm_id", "turbine_id", "version", "label",
        **{name: signals[name].cast("timestamp") for name in _TIMES},
        **{name: ibis.coalesce(signals[name], signals[f"{name}_spiked"]) for name in SPIKES_IN_TIME},
    )  # fmt: skip
    # A spike that was found when its row came was never in force.
    rows = rows.filter(rows.power_kw.notnull() & ~(rows.power_kw_spiked_at <= rows.available_at).fill_null(False))
    rows = rows.inner_join(ibis.memtable(_members(fleet)), ["farm_id", "turbine_id"])
    second = rows.valid_at.epoch_seconds()
    rows = rows.mutate(start=rows.valid_at - (second % (rows.granularity_minutes * 60)).as_interval("s"))
    versions = _versions(rows, clock, settings.late_grace_minutes)

    known = versions.inner_join(rows, _KEY)
    in_force = (known.available_at <= known.known_at) & ~(known.superseded_at <= known.known_at).fill_null(False)
    known = known.filter(in_force & ~(known.power_kw_spiked_at <= known.known_at).fill_null(False))
    wind_off = (known.wind_speed_ms_spiked_at <= known.known_at).fill_null(False)
    available = ~known.label.isin(NOT_AVAILABLE)
    minutes = known.cadence / 60
    nothing = ibis.null("float64")
    turbines = known.group_by([*_KEY, "known_at", "farm_id", "turbine_id"]).agg(
        metered_kw=exact(known.power_kw).mean().cast("float64"),
        power_kw=exact(ibis.ifelse(available, known.power_kw, nothing)).mean().cast("float64"),
        wind_speed_ms=exact(ibis.ifelse(wind_off, nothing, known.wind_speed_ms)).mean().cast("float64"),
        seconds=known.cadence.sum(), available_seconds=ibis.ifelse(available, known.cadence, 0).sum(),
        stopped_minutes=ibis.ifelse(known.label == "stopped", minutes, 0.0).sum(),
        curtailed_minutes=ibis.ifelse(known.label.isin(["curtailed", "derated"]), minutes, 0.0).sum(),
        rated=known.rated.max(), expected_minutes=known.expected_minutes.max(), entity_kw=known.entity_kw.max(),
    )  # fmt: skip
    enough = settings.min_turbine_coverage_share * turbines.granularity_minutes * 60.0
    turbines = turbines.filter(turbines.seconds >= enough)
    counts = turbines.available_seconds >= enough
    entities = turbines.group_by([*_KEY, "known_at"]).agg(
        power_kw=exact(ibis.ifelse(counts, turbines.power_kw, nothing)).sum().cast("float64"),
        available_capacity_kw=exact(ibis.ifelse(counts, turbines.rated, nothing)).sum().cast("float64"),
        metered_power_kw=exact(turbines.metered_kw).sum().cast("float64"),
        missing_kw=turbines.entity_kw.max() - exact(turbines.rated).sum().cast("float64"),
        wind_speed_ms=exact(turbines.wind_speed_ms).mean().cast("float64"),
        coverage_share=turbines.seconds.sum() / 60 / turbines.expected_minutes.max(),
        turbines=counts.cast("int64").sum(),
        stopped_share=exact(turbines.stopped_minutes).sum().cast("float64") / turbines.expected_minutes.max(),
        curtailed_share=exact(turbines.curtailed_minutes).sum().cast("float64") / turbines.expected_minutes.max(),
    )  # fmt: skip
    entities = entities.filter(entities.turbines > 0).rename(valid_at="start", available_at="known_at")
    frame = entities.order_by(["entity_id", "granularity_minutes", "valid_at", "available_at"]).to_pandas()
    frame = _filled(frame.astype({"granularity_minutes": "int64", "turbines": "int64"}), settings)
    return in_utc(frame, ["valid_at", "available_at"])[_COLUMNS]


def _versions(rows: Table, clock: Clock, late_grace_minutes: int) -> Table:
    """Every interval with the times (``known_at``) at which what is known of it changed, from when it is given out."""
    import ibis

    # When every expected turbine interval had come for the first time. A superseded version whose successor lost its
    # power counts as come: it was there.
    first = rows.filter(rows.version == 0).group_by(_KEY).agg(
        expected_minutes=lambda t: t.expected_minutes.max(), there=lambda t: t.cadence.sum(),
        last=lambda t: t.available_at.max(),
    )  # fmt: skip
    end = first.start + first.granularity_minutes.as_interval("m")
    given_up = end + ibis.interval(minutes=late_grace_minutes)
    complete = first.there >= first.expected_minutes * 60
    first = first.mutate(given_out=ibis.ifelse(complete, ibis.least(first["last"], given_up), given_up))
    versions = first.select(*_KEY, known_at=first.given_out)
    changes = rows.inner_join(first.select(*_KEY, "given_out"), _KEY)
    later = changes.select(*_KEY, "given_out", known_at=changes.available_at)
    for change in ("superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME)):
        gone = changes.filter(changes[change].notnull())
        later = later.union(gone.select(*_KEY, "given_out", known_at=gone[change].cast(gone.available_at.type())))
    versions = versions.union(later.filter(later.known_at > later.given_out).select(*_KEY, "known_at")).distinct()
    return versions.filter(versions.known_at <= ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp"))


def _filled(frame: pd.DataFrame, settings: Aggregation) -> pd.DataFrame:
    """Versions with coverage enough, and those without whose gap is short, filled in from the turbines that reported."""
    good = frame["coverage_share"] >= settings.min_coverage_share
    times = ["entity_id", "granularity_minutes", "valid_at"]
    known_from = frame[good].groupby(times)["available_at"].min().rename("known_from").reset_index()
    poor = frame[~good]
    near = pd.Series(False, index=poor.index)
    for minutes in sorted(poor["granularity_minutes"].unique().tolist()):
        rows = poor[poor["granularity_minutes"] == minutes]
        for back in range(minutes, settings.max_gap_minutes + 1, minutes):
            earlier = rows[times].assign(valid_at=rows["valid_at"] - pd.Timedelta(minutes=back))
            since = earlier.merge(known_from, on=times, how="left")["known_from"].to_numpy()
            near.loc[rows.index] |= since <= rows["available_at"].to_numpy()
    frame = frame[good | near.reindex(frame.index, fill_value=False)].reset_index(drop=True)
    fill_kw = frame["missing_kw"].where(frame["coverage_share"] < settings.min_coverage_share, 0.0)
    capacity = frame["available_capacity_kw"] + fill_kw
    return frame.assign(
        power_kw=frame["power_kw"].where(fill_kw == 0, frame["power_kw"] / frame["available_capacity_kw"] * capacity),
        available_capacity_kw=capacity,
        imputed_share=fill_kw / capacity,
    )


def _members(fleet: Fleet) -> pd.DataFrame:
    """One row per entity, granularity and turbine behind it."""
    without = {(entity, minutes) for entity, minutes, _ in ill_fitting(fleet)}
    rows: list[dict[str, Any]] = [
        {
            "entity_id": entity.id,
            "granularity_minutes": minutes,
            "expected_minutes": minutes * sum(len(farm.turbines) for farm in fleet.farms_of(entity.id)),
            "entity_kw": sum(unit.rated_power_kw for farm in fleet.farms_of(entity.id) for unit in farm.turbines),
            "farm_id": farm.id,
            "turbine_id": turbine.id,
            "cadence": farm.signals.cadence_seconds,
            "rated": turbine.rated_power_kw,
        }
        for entity in _entities(fleet)
        for minutes in fleet.granularities_minutes
        if (entity.id, minutes) not in without
        for farm in fleet.farms_of(entity.id)
        for turbine in farm.turbines
    ]
    kinds = {"entity_id": "str", "farm_id": "str", "turbine_id": "str", "rated": "float64", "entity_kw": "float64"}
    counts = dict.fromkeys(["granularity_minutes", "expected_minutes", "cadence"], "int64")
    return pd.DataFrame(rows, columns=[*kinds, *counts]).astype(kinds | counts)
