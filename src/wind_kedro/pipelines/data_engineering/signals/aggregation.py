"""Aggregation of turbine signals to observations of farms and groups, with all versions."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.cards.dated import spans
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import Observations
from wind_kedro.datasets.derived import Derived, days_of, shards_of
from wind_kedro.pipelines.data_engineering.settings import Aggregation, DataEngineering
from wind_kedro.pipelines.data_engineering.shards import known_until, of_shards, with_neighbours
from wind_kedro.pipelines.data_engineering.signals.operating_states import NOT_AVAILABLE
from wind_kedro.pipelines.data_engineering.signals.rules import CHANGES, SPIKES_IN_TIME
from wind_kedro.pipelines.data_engineering.tables import Table, exact, ibis, in_utc, microseconds
from wind_kedro.storage.fingerprints import DAY, Recipe, around, mixed, number_of, of_cards, overlapping

_SECOND = 1_000_000  # microseconds
_MINUTE = 60 * _SECOND
_KEY = ["entity_id", "granularity_minutes", "start"]
#: Unique key of observations, and their order.
_ORDER = ["entity_id", "granularity_minutes", "valid_at", "available_at"]
#: Change it when the observations change that the same input gives.
VERSION = 1
_FAR = pd.Timedelta(days=36500)


def held_intervals(fleet: Fleet) -> list[tuple[str, int, str]]:
    """Entity, granularity and farm where the farm's cadence does not divide the granularity, so that its signals are held."""
    return [
        (entity_id, minutes, farm.id)
        for entity_id in _entity_ids(fleet)
        for minutes in fleet.granularities_minutes
        for farm in fleet.farms_of(entity_id)
        if minutes * 60 % farm.signals.cadence_seconds
    ]


def _entity_ids(fleet: Fleet) -> list[str]:
    return [*(farm.id for farm in fleet.farms), *(group.id for group in fleet.groups)]


def aggregate_observations(signals: Derived | Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Recipe:
    """Aggregate turbines to entities, at every granularity that a product needs (`observed`).

    One shard per entity and day. It depends on the rows of its farms on that day and, for intervals that are filled in, before
    it, on the turbines that stand then, and on ``as_of`` until its rows have settled and the grace of its last interval is over.
    """
    settings = data_engineering.observations
    before, after = _reach_days(fleet, settings)
    farms = pd.DataFrame(
        [(entity_id, farm.id) for entity_id in _entity_ids(fleet) for farm in fleet.farms_of(entity_id)],
        columns=["entity_id", "farm_id"],
    ).astype("str")
    days = days_of(signals, ["farm_id"], "valid_at").merge(farms, on="farm_id")
    days = days.assign(digest=mixed(days["digest"], of_cards({farm.id: farm.id for farm in fleet.farms})[days["farm_id"]]))
    # An interval may begin on the day before its rows.
    days = with_neighbours(days, "entity_id") if after else days
    found = around(days, ["entity_id"], before=before, after=after)
    grace_end = found["day"] + DAY + dt.timedelta(minutes=max(fleet.granularities_minutes) + settings.late_grace_minutes)
    settled_at = found["last_at"].clip(lower=grace_end).fillna(grace_end) if "last_at" in found else found["day"] + _FAR
    window = found[["entity_id"]].assign(first=found["day"] - before * DAY, last=found["day"] + (1 + after) * DAY)
    teams = overlapping(_teams(fleet), window, "entity_id")
    until = known_until(found.assign(last_at=settled_at), clock)
    fingerprint = mixed(found["digest"], teams, until, number_of([settings, VERSION]))
    wanted = found[["entity_id", "day"]].assign(rows=found["rows"] * len(fleet.granularities_minutes), fingerprint=fingerprint)

    def work(part: pd.DataFrame) -> pd.DataFrame:
        own = part[["entity_id", "day"]]
        if own.empty:
            return Observations.table([])
        rows = shards_of(
            signals, own.merge(farms, on="entity_id")[["farm_id", "day"]].drop_duplicates(), before=before, after=after
        )
        frame = observed(rows, fleet, clock, data_engineering, set(own["entity_id"]))
        return of_shards(frame, own, "valid_at", "entity_id")

    return Recipe(wanted, work)


def _reach_days(fleet: Fleet, settings: Aggregation) -> tuple[int, int]:
    """Numbers of days before and after a day on whose rows its observations depend."""
    lengths = [dt.timedelta(minutes=minutes) for minutes in fleet.granularities_minutes]
    lengths += [farm.signals.cadence for farm in fleet.farms]
    before = dt.timedelta(minutes=settings.max_gap_minutes) + 2 * max(lengths)
    crossing = any(dt.timedelta(days=1) % length for length in lengths)
    return math.ceil(before / dt.timedelta(days=1)), int(crossing)


def _teams(fleet: Fleet) -> pd.DataFrame:
    """Numbers of the turbines of each entity by time, and of the times at which they change."""
    rows: list[tuple[str, Any, Any, int]] = []
    for entity_id in _entity_ids(fleet):
        for since, until, farms in spans(fleet.versions_of(entity_id)):
            team = [
                (farm.id, farm.signals.cadence_seconds, [(turbine.id, turbine.rated_power_kw) for turbine in farm.turbines])
                for farm in farms
            ]
            rows.append((entity_id, since, until, number_of([team, fleet.granularities_minutes])))
            rows.append((entity_id, since, since, number_of(since)))
    found = pd.DataFrame(rows, columns=["entity_id", "first", "last", "number"])
    return found.astype({"entity_id": "str", "first": "datetime64[us]", "last": "datetime64[us]", "number": "uint64"})


def observed(
    signals: Table,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
    entity_ids: Collection[str] | None = None,
) -> pd.DataFrame:
    """Observations of all entities, or of some.

    One row per entity, granularity, interval and version (contract `Observations`). The first version of an interval is made
    when all its turbine intervals have arrived, or ``late_grace_minutes`` after its end from those that have. A row that arrives
    or changes later, or a spike found later, makes a new version at that time. A version is made of the newest versions of its
    rows at that time.

    A turbine counts in an interval if it reported at least ``min_turbine_coverage_share`` of it; it was available if it reported
    as much without an operating state of `NOT_AVAILABLE`. ``power_kw`` is the sum over available turbines of their mean power in
    rows without such a state, ``available_capacity_kw`` their rated power, ``turbines`` their number; ``metered_power_kw`` is
    the sum over all turbines that count. Intervals without an available turbine are omitted. ``coverage_share``,
    ``stopped_share`` and ``curtailed_share`` are relative to the expected turbine minutes.

    Turbines and farms count only in intervals that begin within their period on the cards.

    A version with less coverage than ``min_coverage_share`` is omitted, unless an interval at most ``max_gap_minutes`` earlier
    had enough coverage by then: missing turbines are then filled in with the mean share of the others, and ``imputed_share`` is
    their share of the capacity. `latest_versions` excludes such intervals from targets and actuals.

    ``method`` is ``held`` where the cadence of a farm does not divide the granularity, as 15-minute signals and a 10-minute
    product: each part of a signal interval then has the mean of the whole. Elsewhere it is ``mean``.
    """
    members = _members(fleet)
    if entity_ids is not None:
        members = members[members["entity_id"].isin(list(entity_ids))]
    settings = data_engineering.observations
    frame = _aggregated(signals, members, clock, settings).rename(columns={"start": "valid_at", "known_at": "available_at"})
    frame = _filled(frame.astype({"granularity_minutes": "int64", "turbines": "int64"}), settings)
    held = members.loc[members["parts"] > 1, ["entity_id", "granularity_minutes"]].drop_duplicates()
    frame = frame.merge(held.assign(method="held"), on=["entity_id", "granularity_minutes"], how="left")
    frame = in_utc(frame.fillna({"method": "mean"}), ["valid_at", "available_at"])
    return Observations.table(frame.sort_values(_ORDER, ignore_index=True))


def _aggregated(signals: Table, members: pd.DataFrame, clock: Clock, settings: Aggregation) -> pd.DataFrame:
    """All versions of the observations of these rows.

    Most intervals have one version: no row was revised, late or found to be a spike, or all rows were late and became available
    together, as at the first calibration of a farm's clock. These are aggregated by turbine, then by entity; for the others,
    rows are joined with every version of their interval.
    """
    rows = signals.mutate(**{name: ibis.coalesce(signals[name], signals[f"{name}_spiked"]) for name in SPIKES_IN_TIME})
    # A spike found by the time its row became available was never used.
    rows = rows.filter(rows.power_kw.notnull() & ~(rows.power_kw_spiked_at <= rows.available_at).fill_null(False))
    rows = rows.mutate(at=microseconds(rows, "valid_at"))
    by_length = [_by_turbine(_fitting(rows, members, minutes), minutes) for minutes in members["granularity_minutes"].unique()]
    turbines = reduce(lambda one, other: one.union(other), by_length)
    turbines = turbines.inner_join(ibis.memtable(members), ["farm_id", "turbine_id", "granularity_minutes"])
    at = turbines.slot * turbines.granularity_minutes * _MINUTE
    turbines = turbines.filter((at >= turbines.since) & (at < turbines.until))
    turbines = turbines.mutate(
        seconds=turbines.rows * turbines.cadence,
        available_seconds=(turbines.rows - turbines.stopped_rows - turbines.curtailed_rows) * turbines.cadence,
        stopped_minutes=turbines.stopped_rows * turbines.cadence / 60,
        curtailed_minutes=turbines.curtailed_rows * turbines.cadence / 60,
    )
    arrival = {
        "changed": turbines.changed.sum(), "there": turbines.seconds.sum(),
        "first": turbines["first"].min(), "last": turbines["last"].max(),
    }  # fmt: skip
    intervals = _by_entity(turbines, ["entity_id", "granularity_minutes", "slot"], settings, arrival)
    intervals = intervals.mutate(
        start=ibis.timestamp("1970-01-01 00:00:00") + (intervals.slot * intervals.granularity_minutes * 60).as_interval("s"),
        first=intervals["first"].cast("timestamp"), last=intervals["last"].cast("timestamp"),
    )  # fmt: skip
    intervals = _with_aggregation_time(intervals, settings.late_grace_minutes)
    apart = (intervals["last"] > intervals.grace_end) & (intervals["first"] != intervals["last"])
    intervals = intervals.mutate(
        unsettled=(intervals.changed > 0) | apart,
        # If all rows arrived after the grace period, the interval is known from the first arrival on.
        known_at=ibis.greatest(intervals.aggregated_at, intervals["first"]),
    )
    found = intervals.drop("changed", "there", "first", "last", "slot", "aggregated_at", "grace_end").to_pandas()
    settled = ~found["unsettled"] & (found["turbines"] > 0) & (found["known_at"] <= _as_of(clock))
    frame: pd.DataFrame = found[settled].drop(columns=["unsettled", "expected_minutes"])
    unsettled = found.loc[found["unsettled"], _KEY].reset_index(drop=True)
    if unsettled.empty:
        return frame
    changed = _by_entity(_by_version(rows, unsettled, members, clock, settings), ["interval", "known_at"], settings)
    changed = changed.filter(changed.turbines > 0).to_pandas().merge(unsettled, left_on="interval", right_index=True)
    versions: list[pd.DataFrame] = [frame, changed[frame.columns]]
    return pd.concat(versions, ignore_index=True)


def _fitting(rows: Table, members: pd.DataFrame, minutes: int) -> Table:
    """Rows that lie within one interval of this length each: those of a cadence that does not divide it in equal parts."""
    own = members[(members["granularity_minutes"] == minutes) & (members["parts"] > 1)]
    farms = own[["farm_id", "parts", "cadence"]].drop_duplicates()
    if farms.empty:
        return rows
    parts = farms.loc[farms.index.repeat(farms["parts"])]
    after = (parts.groupby("farm_id").cumcount() * parts["cadence"]).astype("int64") * _SECOND
    split = rows.inner_join(ibis.memtable(parts[["farm_id"]].assign(after=after)), "farm_id")
    split = split.mutate(at=split["at"] + split.after).drop("after")
    return rows.filter(rows.farm_id.notin(farms["farm_id"].tolist())).union(split)


def _by_turbine(rows: Table, minutes: int) -> Table:
    """One row per turbine and interval of this length: means over all rows, and the number of rows that changed later."""
    length = int(minutes) * _MINUTE
    slot = rows["at"] // length
    changed = ibis.or_(*(rows[name].notnull() for name in CHANGES))
    stopped, curtailed = rows.operating_state == "stopped", rows.operating_state.isin(["curtailed", "derated"])
    summed = rows.group_by("farm_id", "turbine_id", slot=slot).agg(
        metered_kw=exact(rows.power_kw).mean(), power_kw=exact(rows.power_kw).mean(where=~(stopped | curtailed)),
        wind_speed_ms=exact(rows.wind_speed_ms).mean(), rows=rows.count(), stopped_rows=rows.count(where=stopped),
        curtailed_rows=rows.count(where=curtailed), first=rows.available_at.min(), last=rows.available_at.max(),
        changed=rows.count(where=changed | (rows.version > 0)),
    )  # fmt: skip
    values = ("metered_kw", "power_kw", "wind_speed_ms")
    return summed.mutate(
        granularity_minutes=ibis.literal(int(minutes), "int64"), **{name: summed[name].cast("float64") for name in values}
    )


def _by_version(rows: Table, intervals: pd.DataFrame, members: pd.DataFrame, clock: Clock, settings: Aggregation) -> Table:
    """One row per turbine, interval and version of an entity; ``interval`` is the index in ``intervals``."""
    # Rows carry only the number of their interval, to save memory.
    about = members[["entity_id", "granularity_minutes", "team", "since", "until", "expected_minutes", "entity_kw"]]
    about = intervals.assign(interval=intervals.index).merge(about.drop_duplicates(), on=["entity_id", "granularity_minutes"])
    start = about["start"].to_numpy().astype("datetime64[us]").astype("int64")
    about = about[(start >= about.pop("since")) & (start < about.pop("until"))]
    behind = about.merge(members[["team", "farm_id", "cadence"]].drop_duplicates(), on="team")
    seconds = (behind["start"] - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    behind["slot"] = seconds // (behind["granularity_minutes"] * 60)
    times = ["available_at", *CHANGES]
    picked = []
    for minutes in sorted(behind["granularity_minutes"].unique().tolist()):
        own = behind.loc[behind["granularity_minutes"] == minutes, ["farm_id", "slot", "interval", "cadence"]]
        numbered = _fitting(rows, members, minutes)
        numbered = numbered.mutate(slot=numbered["at"] // (minutes * _MINUTE))
        numbered = numbered.select("farm_id", "turbine_id", "slot", "version", "operating_state", *SPIKES_IN_TIME, *times)
        picked.append(numbered.inner_join(ibis.memtable(own), ["farm_id", "slot"]).drop("slot"))
    rows = reduce(lambda one, other: one.union(other), picked)
    rows = rows.mutate(**{name: rows[name].cast("timestamp") for name in times})
    asked = ibis.memtable(about.drop(columns="entity_id"))
    asked = asked.mutate(start=asked.start.cast("timestamp"))
    known = _versions(rows, asked, clock, settings.late_grace_minutes).inner_join(rows, "interval")
    in_force = (known.available_at <= known.known_at) & ~(known.superseded_at <= known.known_at).fill_null(False)
    known = known.filter(in_force & ~(known.power_kw_spiked_at <= known.known_at).fill_null(False))
    wind_off = (known.wind_speed_ms_spiked_at <= known.known_at).fill_null(False)
    available = ~known.operating_state.isin(NOT_AVAILABLE)
    minutes = known.cadence / 60
    nothing = ibis.null("float64")
    turbines = known.group_by(["interval", "known_at", "farm_id", "turbine_id"]).agg(
        metered_kw=exact(known.power_kw).mean().cast("float64"),
        power_kw=exact(ibis.ifelse(available, known.power_kw, nothing)).mean().cast("float64"),
        wind_speed_ms=exact(ibis.ifelse(wind_off, nothing, known.wind_speed_ms)).mean().cast("float64"),
        seconds=known.cadence.sum(), available_seconds=ibis.ifelse(available, known.cadence, 0).sum(),
        stopped_minutes=ibis.ifelse(known.operating_state == "stopped", minutes, 0.0).sum(),
        curtailed_minutes=ibis.ifelse(known.operating_state.isin(["curtailed", "derated"]), minutes, 0.0).sum(),
    )  # fmt: skip
    rated = ibis.memtable(members[["team", "farm_id", "turbine_id", "rated"]])
    return turbines.inner_join(asked, "interval").inner_join(rated, ["team", "farm_id", "turbine_id"])


def _by_entity(turbines: Table, key: list[str], settings: Aggregation, more: dict[str, Any] | None = None) -> Table:
    """One row per entity and interval or version: sums over turbines that count, and the aggregates ``more`` over all."""
    nothing = ibis.null("float64")
    enough = settings.min_turbine_coverage_share * turbines.granularity_minutes * 60.0
    counts, available = turbines.seconds >= enough, turbines.available_seconds >= enough

    def counted(value: Any) -> Any:
        return exact(ibis.ifelse(counts, value, nothing))

    expected = turbines.expected_minutes.max()
    return turbines.group_by(key).agg(
        power_kw=exact(ibis.ifelse(available, turbines.power_kw, nothing)).sum().cast("float64"),
        available_capacity_kw=exact(ibis.ifelse(available, turbines.rated, nothing)).sum().cast("float64"),
        metered_power_kw=counted(turbines.metered_kw).sum().cast("float64"),
        missing_kw=turbines.entity_kw.max() - counted(turbines.rated).sum().cast("float64"),
        wind_speed_ms=counted(turbines.wind_speed_ms).mean().cast("float64"),
        coverage_share=ibis.ifelse(counts, turbines.seconds, 0).sum() / 60 / expected,
        turbines=available.cast("int64").sum(),
        stopped_share=counted(turbines.stopped_minutes).sum().cast("float64") / expected,
        curtailed_share=counted(turbines.curtailed_minutes).sum().cast("float64") / expected,
        expected_minutes=expected,
        **more or {},
    )  # fmt: skip


def _as_of(clock: Clock) -> pd.Timestamp:
    return pd.Timestamp(clock.as_of).tz_localize(None)


def _with_aggregation_time(intervals: Table, late_grace_minutes: int) -> Table:
    """Add ``grace_end``, and ``aggregated_at``: when all expected rows had arrived, at the latest the end of the grace period."""
    end = intervals.start + intervals.granularity_minutes.as_interval("m")
    intervals = intervals.mutate(grace_end=end + ibis.interval(minutes=late_grace_minutes))
    complete = intervals.there >= intervals.expected_minutes * 60
    aggregated_at = ibis.ifelse(complete, ibis.least(intervals["last"], intervals.grace_end), intervals.grace_end)
    return intervals.mutate(aggregated_at=aggregated_at)


def _versions(rows: Table, intervals: Table, clock: Clock, late_grace_minutes: int) -> Table:
    """Every interval with the times (``known_at``) of its versions: its first aggregation, and every later change."""
    # Arrival of the first versions, including superseded ones whose successor has no power.
    first = rows.filter(rows.version == 0)
    first = first.group_by("interval").agg(there=first.cadence.sum(), last=first.available_at.max())
    first = _with_aggregation_time(first.inner_join(intervals, "interval"), late_grace_minutes)
    versions = first.select("interval", known_at=first.aggregated_at)
    changes = rows.inner_join(first.select("interval", "aggregated_at"), "interval")
    later = changes.select("interval", "aggregated_at", known_at=changes.available_at)
    for change in CHANGES:
        gone = changes.filter(changes[change].notnull())
        known_at = gone[change].cast(gone.available_at.type())
        later = later.union(gone.select("interval", "aggregated_at", known_at=known_at))
    later = later.filter(later.known_at > later.aggregated_at)
    versions = versions.union(later.select("interval", "known_at")).distinct()
    return versions.filter(versions.known_at <= _as_of(clock))


def _filled(frame: pd.DataFrame, settings: Aggregation) -> pd.DataFrame:
    """Keep versions with enough coverage, and fill in those of short gaps from the turbines that reported."""
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
    """One row per entity, granularity, turbine and time in which the entity has the same turbines.

    That time is from ``since`` until ``until`` (microseconds since 1970), its turbines are numbered as a ``team``; ``parts`` of a
    row of signals, of ``cadence`` seconds, fit the granularity.
    """
    teams = [
        (entity_id, minutes, since, until, farms)
        for entity_id in _entity_ids(fleet)
        for minutes in fleet.granularities_minutes
        for since, until, farms in spans(fleet.versions_of(entity_id))
    ]
    rows: list[dict[str, Any]] = [
        {
            "entity_id": entity_id,
            "granularity_minutes": minutes,
            "team": number,
            "since": int(since.astype("int64")),
            "until": int(until.astype("int64")),
            "expected_minutes": minutes * sum(len(farm.turbines) for farm in farms),
            "entity_kw": sum(unit.rated_power_kw for farm in farms for unit in farm.turbines),
            "farm_id": farm.id,
            "turbine_id": turbine.id,
            "cadence": (part := math.gcd(farm.signals.cadence_seconds, minutes * 60)),
            "parts": farm.signals.cadence_seconds // part,
            "rated": turbine.rated_power_kw,
        }
        for number, (entity_id, minutes, since, until, farms) in enumerate(teams)
        for farm in farms
        for turbine in farm.turbines
    ]
    kinds = {"entity_id": "str", "farm_id": "str", "turbine_id": "str", "rated": "float64", "entity_kw": "float64"}
    counts = dict.fromkeys(["granularity_minutes", "team", "since", "until", "expected_minutes", "cadence", "parts"], "int64")
    return pd.DataFrame(rows, columns=[*kinds, *counts]).astype(kinds | counts)
