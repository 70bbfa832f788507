"""Valid time, arrival and status (kept, superseded, duplicate or quarantined) of every signal row."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, days_of, frame_of, table_of
from wind_kedro.pipelines.data_engineering.parse.enums import enum_value
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS, SIGNALS
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.shards import inside, known_until, with_neighbours
from wind_kedro.pipelines.data_engineering.signals.rules import clean_values, with_turbines
from wind_kedro.pipelines.data_engineering.tables import (
    FIRST_YEAR,
    LAST_YEAR,
    Table,
    ibis,
    materialized,
    microseconds,
    naive,
    offset_minutes,
    transitions,
)
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibration_spans
from wind_kedro.pipelines.data_engineering.timestamps.retiming import retime
from wind_kedro.storage.fingerprints import DAY, NO_DAY, Recipe, around, mixed, of_cards, overlapping, surrounding

#: Change it when the rows change that the same input gives.
VERSION = 1
#: Rows this far around a clock change are checked, hours: more than any change.
_AROUND_CHANGE_HOURS = 8
_ROW = ("farm_id", "source_file", "source_row")
#: Reading of stamps whose day is that of parsed rows, and its largest distance from the correct reading: an offset is at most
#: 18 hours (`wall_and_offset`), a clock change at most a few.
_STAMP = "wall_clock_is_utc"
_FARTHEST = dt.timedelta(hours=21)
#: Days of stamps whose local time is known (`local_offsets`), less those by which a card may shift them. A row of another day may
#: have no valid time.
_FIRST_DAY, _LAST_DAY = pd.Timestamp(FIRST_YEAR, 1, 4), pd.Timestamp(LAST_YEAR - 1, 12, 28)
_NEVER = pd.Timestamp(9999, 1, 1).as_unit("us")
#: Number of intervals on either side on which a spike depends.
_NEIGHBOURS = 2


def time_signals(
    parsed_signals: Derived | Table,
    clock_calibration: Derived | pd.DataFrame,
    suspected_units: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Recipe:
    """Assign times to every signal row by the calibrated clock, and resolve repetitions, revisions and conflicts (`placed`).

    One shard per farm and day of valid time; rows without a valid time are a shard too. A shard depends on the rows of its day
    and of the days around it, as far as an offset may shift a row and rules look back or ahead, on the calibrations in force when
    these arrived, and on the suspicions of these days.
    """
    stamps = days_of(parsed_signals, ["farm_id"], _STAMP)
    calibration, suspected = frame_of(clock_calibration), frame_of(suspected_units)
    wanted = _wanted(stamps, calibration, suspected, fleet, clock, data_engineering)

    def work(part: pd.DataFrame) -> Table:
        rows = table_of(parsed_signals)
        if isinstance(parsed_signals, Derived):
            rows = parsed_signals.shards(stamps_behind(parsed_signals, part[["farm_id", "day"]], fleet, data_engineering))
        found = placed(rows, calibration, suspected, fleet, clock, data_engineering)
        return inside(found, part, "valid_at")

    return Recipe(wanted, work)


def _wanted(
    stamps: pd.DataFrame,
    calibration: pd.DataFrame,
    suspected_units: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> pd.DataFrame:
    """Shards with their fingerprints, from the shards of stamps."""
    found = around_stamps(stamps, fleet, data_engineering, suspected_units)
    cards = {
        farm.id: [
            farm.time_zone,
            farm.latency_minutes,
            farm.signals.cadence_seconds,
            [(turbine.id, turbine.rated_power_kw) for turbine in farm.turbines],
        ]
        for farm in fleet.farms
    }
    numbers = of_cards(cards, VERSION, data_engineering.stuck, data_engineering.spike)
    arrived = found["last_at"] if "last_at" in found else pd.Series(_NEVER, index=found.index)
    spans = _reading_spans(calibration)
    readings = spans["reading"].map(READINGS.index).astype("int64")
    spans = spans.assign(
        first=spans["holds_from"], last=_NEVER, number=mixed(readings, spans["first_fitted_at"], spans["holds_from"])
    )
    in_force = overlapping(spans, found[["farm_id"]].assign(first=arrived, last=arrived), "farm_id")
    fingerprint = mixed(found["digest"], numbers[found["farm_id"]], in_force, known_until(found, clock))
    return found[["farm_id", "day", "rows"]].assign(fingerprint=fingerprint)


def around_stamps(
    stamps: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering, suspected_units: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What lies around each day of valid time, as `around` gives it: the shards of stamps that rows of that day depend on.

    Args:
        stamps: shards of parsed rows.
        fleet: the cards.
        data_engineering: the parameters.
        suspected_units: contract `SuspectedUnits`, to include what is suspected on these days.
    """
    days = with_neighbours(_odd_together(stamps[stamps["farm_id"].isin([farm.id for farm in fleet.farms])]))
    if suspected_units is not None:
        days = pd.concat([days, _suspicions(suspected_units, days)], ignore_index=True)
    reaches = {farm.id: _reach_days(farm, data_engineering) for farm in fleet.farms}
    parts = [
        around(own, ["farm_id"], before=reach, after=reach) for reach, own in days.groupby(days["farm_id"].map(reaches))
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else around(days, ["farm_id"])


def stamps_behind(parsed: Derived, part: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> pd.DataFrame:
    """Shards of stamps that rows of these days of valid time depend on: ``farm_id``, ``day``."""
    reach = max(_reach_days(farm, data_engineering) for farm in fleet.farms)
    odd = part[_is_odd(part["day"])]
    stamps = parsed.days.loc[_is_odd(parsed.days["day"]), ["farm_id", "day"]]
    stamps = stamps[stamps["farm_id"].isin(odd["farm_id"])]
    return pd.concat([surrounding(part, reach, reach), stamps]).drop_duplicates(ignore_index=True)


def _is_odd(days: pd.Series) -> pd.Series:
    return ~days.between(_FIRST_DAY, _LAST_DAY)


def _odd_together(stamps: pd.DataFrame) -> pd.DataFrame:
    """Give all odd days of a farm, and that of rows without a time, one digest: a row of any of them may have no valid time."""
    odd = stamps[_is_odd(stamps["day"])]
    if odd.empty:
        return stamps
    together = around(odd.assign(day=NO_DAY), ["farm_id"])
    each = odd[["farm_id", "day"]].merge(together.drop(columns="day"), on="farm_id")
    return pd.concat([stamps[~_is_odd(stamps["day"])], together, each[each["day"] != NO_DAY]], ignore_index=True)


def _suspicions(suspected_units: pd.DataFrame, days: pd.DataFrame) -> pd.DataFrame:
    """What is suspected on each day, as additional digests of these days."""
    spans = naive(suspected_units, ["since", "until", "found_at"])
    spans = spans.assign(name=pd.util.hash_pandas_object(spans[["turbine_id", "signal"]].astype("str"), index=False))
    each = days[["farm_id", "day"]].drop_duplicates().merge(spans, on="farm_id")
    end = each["day"] + DAY
    each = each[~(each["since"] >= end) & ~(each["until"] <= each["day"])]
    since, until = each["since"].clip(lower=each["day"]), each["until"].clip(upper=each["day"] + DAY)
    digest = mixed(each["name"], since.fillna(each["day"]), until.fillna(each["day"] + DAY), each["found_at"])
    return each[["farm_id", "day"]].assign(digest=digest, rows=0)


def _reach_days(farm: Farm, data_engineering: DataEngineering) -> int:
    """Number of days before and after a day whose stamps its rows depend on."""
    return math.ceil((time_margin(farm, data_engineering) + _FARTHEST) / dt.timedelta(days=1))


def placed(
    parsed_signals: Table,
    clock_calibration: pd.DataFrame,
    suspected_units: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Table:
    """Rows with valid time, arrival and status.

    One row per row of a source that was available by ``as_of``, or has no readable stamp. ``valid_at`` is the start of its
    interval, ``arrived_at`` its arrival (never before its interval ended), ``available_at`` when it could be used: after its
    arrival and the first calibration of the farm's clock. Times are UTC without zone. ``status`` is

    - ``kept``: the newest version of its turbine and interval,
    - ``superseded``: a version with other values arrived later, at ``superseded_at``,
    - ``duplicate``: repeats the values of an earlier row,
    - ``quarantined``: not usable, see ``reason`` and ``detail``. Two rows of one interval that arrived together and differ are
      both quarantined (``conflicting_stamp``), unless their arrival shows a clock change (`retime`; ``retimed``).

    Values that are stuck, spikes or in a suspected unit are null, with the fault ``stuck``, ``spike`` or ``unit``
    (`clean_values`).

    A stamp is read by the calibration in force at the earliest possible arrival of its row under any reading; rows older than
    the first calibration are available from it on. So rows that arrive later never move a row.
    """
    rows = parsed_signals.filter(parsed_signals.source_row > 0).drop("unit", "arrived", "ended")

    def in_time(rows: Table) -> Table:
        return _known(_timed(rows, clock_calibration, fleet), clock)

    moved = _retimed_rows(rows, in_time, fleet)
    settled = with_turbines(_known(_moved(in_time(rows), moved), clock), fleet)
    return clean_values(_versions(settled), suspected_units, fleet, data_engineering)


def time_margin(farm: Farm, data_engineering: DataEngineering) -> dt.timedelta:
    """Longest time before and after a row on which rules depend: repetitions, and the neighbours of a spike."""
    stuck = data_engineering.stuck
    count = max(stuck.min_repetitions, _NEIGHBOURS)
    return max(dt.timedelta(minutes=max(stuck.minutes.values())), count * farm.signals.cadence)


def _known(rows: Table, clock: Clock) -> Table:
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    return rows.filter(rows.available_at.isnull() | (rows.available_at <= as_of))


def _timed(parsed: Table, calibration: pd.DataFrame, fleet: Fleet) -> Table:
    """Add ``valid_at``, ``arrived_at`` and ``available_at`` by the calibration in force, and flag stamps off the grid."""
    never = ibis.timestamp("9999-01-01 00:00:00")
    farms = pd.DataFrame(
        {"farm_id": farm.id, "cadence": farm.signals.cadence_seconds, "latency": farm.latency_minutes} for farm in fleet.farms
    )
    rows = parsed.inner_join(ibis.memtable(farms), "farm_id")
    length, latency = rows.cadence.as_interval("s"), rows.latency.as_interval("m")
    earliest = ibis.coalesce(rows.received_at, ibis.least(*[rows[name] for name in READINGS]) + length + latency)
    rows = rows.mutate(earliest=earliest)
    spans = ibis.memtable(_reading_spans(calibration))
    in_force = [rows.farm_id == spans.farm_id, rows.earliest >= spans.holds_from, rows.earliest < spans.holds_until]
    rows = rows.left_join(spans, in_force).drop("farm_id_right")
    others = [name for name in READINGS[1:] if (calibration["reading"] == name).any()]
    readings = [(rows.reading == name, rows[name]) for name in others]
    rows = rows.mutate(valid_at=ibis.cases(*readings, else_=rows.as_stamped) if readings else rows.as_stamped)
    ended = rows.valid_at + rows.cadence.as_interval("s")
    received = ibis.greatest(rows.received_at, ended)
    rows = rows.mutate(arrived_at=ibis.ifelse(rows.received_at.notnull(), received, ended + rows.latency.as_interval("m")))
    # Rows are not available before the farm's first calibration. Rows without a stamp have no valid time, and invalid rows are in
    # quarantine from their arrival on.
    available = ibis.greatest(rows.arrived_at, rows.first_fitted_at.fill_null(never))
    rows = rows.mutate(
        available_at=ibis.cases(
            (rows.valid_at.isnull(), rows.received_at), (rows.reason.notnull(), rows.arrived_at), else_=available
        )
    )
    off_grid = rows.reason.isnull() & (microseconds(rows, "valid_at") % (rows.cadence * 1_000_000) != 0)
    return rows.mutate(
        reason=ibis.ifelse(off_grid, "off_grid", rows.reason),
        detail=ibis.ifelse(
            off_grid,
            "interval of " + rows.valid_at.strftime("%Y-%m-%d %H:%M:%S") + " UTC does not start on a multiple of "
            + rows.cadence.cast("string") + " seconds",
            rows.detail,
        ),
    )  # fmt: skip


def _reading_spans(calibration: pd.DataFrame) -> pd.DataFrame:
    """`calibration_spans`, of which consecutive ones of the same reading are merged."""
    every = calibration_spans(calibration).drop(columns="fitted_at")
    read = every[[column for column in every.columns if not column.startswith("holds_")]]
    changed = (read != read.shift()).any(axis=1)
    ends = every.groupby(changed.cumsum())["holds_until"].transform("last")
    return every.assign(holds_until=ends)[changed]


# --- clock changes ----------------------------------------------------------------------------------------------------


def _retimed_rows(parsed: Table, in_time: Callable[[Table], Table], fleet: Fleet) -> pd.DataFrame:
    """Rows moved by `retime`, over all farms and clock changes; only rows with stamps near a change are timed for it."""
    stamp = parsed[_STAMP]
    span = parsed.agg(first=stamp.min(), last=stamp.max()).to_pandas().iloc[0]
    changes = _changes(fleet, span["first"] - _FARTHEST, span["last"] + _FARTHEST)
    if changes.empty:
        return pd.DataFrame()
    stretches = changes[["seen_from", "seen_until"]].drop_duplicates().itertuples(index=False)
    there = [(stamp >= begin - _FARTHEST) & (stamp < end + _FARTHEST) for begin, end in stretches]
    rows = in_time(parsed.filter(reduce(lambda one, other: one | other, there)))
    table = ibis.memtable(changes)
    good = rows.filter(rows.reason.isnull(), rows.received_at.notnull())
    near_change = [good.farm_id == table.farm_id, good.valid_at >= table.seen_from, good.valid_at < table.seen_until]
    around = good.inner_join(table, near_change).select(
        *_ROW, "turbine_id", "reading", "valid_at", "received_at", "arrived_at", "available_at", *SIGNALS, "changed_at",
        "change_minutes", "cadence",
    )  # fmt: skip
    # Without repetitions.
    frame = around.to_pandas().sort_values(["arrived_at", "source_file", "source_row"])
    frame = frame.drop_duplicates(["farm_id", "turbine_id", "valid_at", "changed_at", *SIGNALS])
    pieces = [
        retime(own, at, int(own["change_minutes"].iloc[0]), int(own["cadence"].iloc[0])).assign(farm_id=farm_id)
        for (farm_id, at), own in frame.groupby(["farm_id", "changed_at"])
    ]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()


def _moved(rows: Table, found: pd.DataFrame) -> Table:
    """Apply the corrected times, and add ``retimed``."""
    if found.empty:
        return rows.mutate(retimed=ibis.literal(False))
    moved = ibis.memtable(found.rename(columns={"valid_at": "right_valid_at", "available_at": "right_available_at"}))
    rows = rows.left_join(moved, list(_ROW)).drop(*(f"{name}_right" for name in _ROW))
    retimed = rows.right_valid_at.notnull()
    ended = rows.right_valid_at + rows.cadence.as_interval("s")
    return rows.mutate(
        valid_at=ibis.coalesce(rows.right_valid_at, rows.valid_at),
        arrived_at=ibis.ifelse(retimed, ibis.greatest(rows.received_at, ended), rows.arrived_at),
        available_at=ibis.coalesce(rows.right_available_at, rows.available_at),
        retimed=retimed,
    ).drop("right_valid_at", "right_available_at")


def _changes(fleet: Fleet, first: Any, last: Any) -> pd.DataFrame:
    """Changes of the farms' local clocks within the data, up to one UTC offset away, as the reading may be wrong."""
    rows = []
    for farm in fleet.farms:
        for at, before, after in transitions(farm.time_zone):
            naive = at.replace(tzinfo=None)
            shift = dt.timedelta(minutes=abs(offset_minutes(farm.time_zone, at)))
            if not pd.isna(first) and first - shift <= naive <= last + shift:
                around = shift + dt.timedelta(hours=_AROUND_CHANGE_HOURS)
                rows.append((farm.id, naive, after - before, naive - around, naive + around))
    table = pd.DataFrame(rows, columns=["farm_id", "changed_at", "change_minutes", "seen_from", "seen_until"])
    return table.astype(dict.fromkeys(["changed_at", "seen_from", "seen_until"], "datetime64[us]"))


# --- versions ---------------------------------------------------------------------------------------------------------


_INTERVAL = ("unit", "valid_at")
#: Number of intervals checked for repetition at once: half the bits of an integer, so that sums fit.
_STRETCH = 32
_SETTLED = (
    "farm_id", "turbine_id", "unit", "rated", *_ROW[1:], "valid_at", "arrived_at", "available_at", "cadence", "retimed",
    *SIGNALS, *(f"{name}_fault" for name in SIGNALS), "reason", "detail",
)  # fmt: skip


def _versions(rows: Table) -> Table:
    """Determine which rows of one turbine and interval are repetitions, conflicts and revisions.

    Only rows that share their interval with another are sorted, which are few. Tables used more than once are materialized, as
    the engine would otherwise compute the times of all rows again.
    """
    rows = rows.mutate(**{f"{name}_fault": enum_value(rows, rows[f"{name}_fault"]) for name in SIGNALS})
    rows = materialized(rows.select(*_SETTLED))
    shared = materialized(_shared_intervals(rows.filter(rows.reason.isnull())))
    no, never = ibis.literal(False), ibis.null("timestamp")
    alone = rows.anti_join(shared, _INTERVAL)
    alone = alone.mutate(duplicate=no, conflict=no, superseded_at=never, version=ibis.literal(0, "int64"))
    return _with_status(alone).union(materialized(_with_status(_compared(rows.semi_join(shared, _INTERVAL)))))


def _shared_intervals(good: Table) -> Table:
    """Intervals with more than one row.

    Counting rows by interval would make as many groups as rows. So blocks of intervals are checked first: each interval is a
    power of two, and their sum equals their bitwise or only if none is repeated.
    """
    some = good.select(*_INTERVAL, number=microseconds(good, "valid_at") // (good.cadence * 1_000_000))
    # Before 1970 the remainder is negative; its absolute value is distinct too.
    bit = ibis.literal(1, "int64") << (some.number % _STRETCH).abs()
    some = some.mutate(stretch=some.number // _STRETCH, bit=bit)
    stretches = some.group_by("unit", "stretch").agg(added=some.bit.sum(), seen=some.bit.bit_or())
    some = some.semi_join(stretches.filter(stretches.added != stretches.seen), ["unit", "stretch"])
    counted = some.group_by(*_INTERVAL).agg(rivals=some.count())
    return counted.filter(counted.rivals > 1).select(*_INTERVAL)


def _compared(rows: Table) -> Table:
    """Add ``duplicate``, ``conflict``, ``superseded_at`` and ``version``, by comparing the rows of each interval."""
    rows = rows.mutate(good=rows.reason.isnull())
    key = [*_INTERVAL, "good"]
    # Sorted by value, so that equal rows that arrived together are adjacent.
    in_order = ibis.window(group_by=key, order_by=["arrived_at", *SIGNALS, "source_file", "source_row"])
    again = rows.source_row.lag().over(in_order).notnull()
    for name in SIGNALS:
        again &= rows[name].identical_to(rows[name].lag().over(in_order))
    rows = rows.mutate(duplicate=rows.good & again)
    together = ibis.window(group_by=[*key, "arrived_at", "duplicate"])
    rows = rows.mutate(conflict=rows.good & ~rows.duplicate & (rows.source_row.count().over(together) > 1))
    rows = rows.mutate(counts=rows.good & ~rows.duplicate & ~rows.conflict)
    by_version = ibis.window(group_by=[*key, "counts"], order_by=["arrived_at", "source_file", "source_row"])
    return rows.mutate(
        superseded_at=ibis.ifelse(rows.counts, rows.available_at.lead().over(by_version), ibis.null("timestamp")),
        version=ibis.row_number().over(by_version).cast("int64"),
    )


def _with_status(rows: Table) -> Table:
    """``status``, ``reason`` and ``detail`` of rows that were compared."""
    return rows.select(
        "unit", "rated", "farm_id", "turbine_id", "source_file", "source_row", "valid_at", "arrived_at", "available_at",
        "superseded_at", "version", "cadence", "retimed", *SIGNALS, *(f"{name}_fault" for name in SIGNALS),
        status=ibis.cases(
            (rows.duplicate, enum_value(rows, "duplicate")),
            (rows.conflict | rows.reason.notnull(), enum_value(rows, "quarantined")),
            (rows.superseded_at.notnull(), enum_value(rows, "superseded")),
            else_=enum_value(rows, "kept"),
        ),
        reason=ibis.ifelse(rows.conflict, "conflicting_stamp", rows.reason),
        detail=ibis.ifelse(
            rows.conflict,
            "another row of the same turbine and interval has other values and arrived at the same time",
            rows.detail,
        ),
    )  # fmt: skip
