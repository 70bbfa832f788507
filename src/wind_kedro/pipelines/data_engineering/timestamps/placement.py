"""Every signal row gets its place in time, and is kept, superseded, a duplicate or quarantined: exactly one of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import reduce
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError
from wind_kedro.pipelines.data_engineering.parse.enums import encode_columns, enum_value
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS, SIGNALS
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.signals.chunks import Chunk, Chunks, is_inside, near, plan
from wind_kedro.pipelines.data_engineering.signals.rules import clean_values, with_turbines
from wind_kedro.pipelines.data_engineering.tables import Table, held, microseconds, offset_minutes, transitions
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibration_spans
from wind_kedro.pipelines.data_engineering.timestamps.retiming import Change, retime

#: How far around a clock change rows are looked at, hours: more than any change.
_AROUND_CHANGE_HOURS = 8
_ROW = ("farm_id", "source_file", "source_row")
#: The reading of a stamp by which rows are dealt to chunks, and how far the right one can be from it: an offset is at most 18
#: hours (`wall_and_offset`), a clock change at most a few.
_STAMP = "wall_clock_is_utc"
_FARTHEST = dt.timedelta(days=1)
#: A spike is told by so many intervals on either side.
_NEIGHBOURS = 2


class NothingAvailableError(WindKedroError):
    """As of this time there is no signal of any farm."""


def time_signals(
    parsed_signals: Table,
    clock_calibration: pd.DataFrame,
    suspected_units: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Table | Chunks:
    """Put every signal row in time by the clock that was found, and settle repetitions, revisions and conflicts.

    One row per row of a source that could be known by ``as_of`` (a row without a readable stamp always could).
    ``valid_at`` is the start of its interval, ``arrived_at`` when it came (never before its interval ended),
    ``available_at`` when it could be used: arrived, and the farm's clock calibrated once. Times are UTC without zone.
    ``status`` is

    - ``kept``: the newest version of its turbine and interval,
    - ``superseded``: a version with other values came later, at ``superseded_at``,
    - ``duplicate``: the same values again,
    - ``quarantined``: ``reason`` and ``detail`` say why. Two rows that came together for one interval and differ are
      both set aside (``conflicting_stamp``), unless their arrival at a clock change explains them (`retime`; ``retimed``).

    A value that came again and again while the wind moved is null, and its fault is ``stuck``; a ``spike`` likewise, and
    ``unit``, a value whose unit is suspected (`clean_values`).

    The calibration in force when a row could first have arrived, by whichever reading, says how its stamp is read; rows
    older than the first calibration wait for it. So nothing that arrives later moves a row.

    More rows than ``chunk_rows`` are given as chunks of turbines and days, to be worked one by one: the same rows in all.

    Raises:
        NothingAvailableError: if no farm has a row by ``as_of``; it says what the data spans.
    """
    import ibis

    rows = parsed_signals.filter(parsed_signals.source_row > 0)

    def in_time(rows: Table) -> Table:
        return _known(_timed(rows, clock_calibration, fleet), clock)

    timed = in_time(rows)
    if not timed.filter(timed.reason.isnull()).limit(1).count().execute():
        raise NothingAvailableError(_nothing(_timed(rows, clock_calibration, fleet), clock))
    moved = _put_right(rows, in_time, fleet)

    def settled(rows: Table) -> Table:
        return with_turbines(_known(_moved(in_time(rows), moved), clock), fleet)

    if rows.count().execute() <= data_engineering.chunk_rows:
        return clean_values(_versions(settled(rows), rows), suspected_units, fleet, data_engineering)
    margin = looks_around(fleet, data_engineering)

    def worked(chunk: Chunk) -> Table:
        around = near(rows, chunk, _STAMP, margin + _FARTHEST)
        own = settled(around)
        # Where a row is only known once it has its time; one without a time stays where its stamp was.
        own = near(own.mutate(place=ibis.coalesce(own.valid_at, own[_STAMP])), chunk, "place", margin)
        own = own.filter(own.valid_at.notnull() | is_inside(own, chunk, "place"))
        cleaned = clean_values(_versions(own, around), suspected_units, fleet, data_engineering)
        return cleaned.filter(cleaned.valid_at.isnull() | is_inside(cleaned, chunk, "valid_at"))

    return Chunks(plan(rows, _STAMP, data_engineering.chunk_rows), worked)


def looks_around(fleet: Fleet, data_engineering: DataEngineering) -> dt.timedelta:
    """How far before and behind a row the rules look: the longest repetition, and the neighbours of a spike."""
    longest = max(farm.signals.cadence_seconds for farm in fleet.farms)
    stuck = data_engineering.stuck
    seconds = max(max(stuck.minutes.values()) * 60, max(stuck.min_repetitions, _NEIGHBOURS) * longest)
    return dt.timedelta(seconds=seconds)


def _known(rows: Table, clock: Clock) -> Table:
    import ibis

    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    return rows.filter(rows.available_at.isnull() | (rows.available_at <= as_of))


def _farms(fleet: Fleet) -> pd.DataFrame:
    return pd.DataFrame(
        {"farm_id": farm.id, "cadence": farm.signals.cadence_seconds, "latency": farm.latency_minutes}
        for farm in fleet.farms
    )


def _timed(parsed: Table, calibration: pd.DataFrame, fleet: Fleet) -> Table:
    """Add ``valid_at``, ``arrived_at`` and ``available_at`` by the calibration in force, and find stamps off the grid."""
    import ibis

    never = ibis.timestamp("9999-01-01 00:00:00")
    rows = parsed.inner_join(ibis.memtable(_farms(fleet)), "farm_id")
    end = rows.cadence.as_interval("s")
    earliest = ibis.coalesce(
        rows.received_at, ibis.least(*[rows[name] for name in READINGS]) + end + rows.latency.as_interval("m")
    )
    rows = rows.mutate(earliest=earliest)
    spans = ibis.memtable(_stretches(calibration))
    rows = rows.left_join(
        spans,
        [rows.farm_id == spans.farm_id, rows.earliest >= spans.holds_from, rows.earliest < spans.holds_until],
    ).drop("farm_id_right")
    others = [name for name in READINGS[1:] if (calibration["reading"] == name).any()]
    readings = [(rows.reading == name, rows[name]) for name in others]
    valid_at = ibis.cases(*readings, else_=rows.as_stamped) if readings else rows.as_stamped
    rows = rows.mutate(valid_at=valid_at)
    ended = rows.valid_at + rows.cadence.as_interval("s")
    arrived = ibis.ifelse(
        rows.received_at.notnull(),
        ibis.greatest(rows.received_at, ended),
        ended + rows.latency.as_interval("m"),
    )
    rows = rows.mutate(arrived_at=arrived)
    # A farm whose clock was never calibrated is not readable yet; a row without a stamp has no time at all. A row that cannot be
    # read waits for no clock: it is in quarantine from its arrival on.
    rows = rows.mutate(
        available_at=ibis.cases(
            (rows.valid_at.isnull(), rows.received_at),
            (rows.reason.notnull(), rows.arrived_at),
            else_=ibis.greatest(rows.arrived_at, rows.first_fitted_at.fill_null(never)),
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


def _stretches(calibration: pd.DataFrame) -> pd.DataFrame:
    """`calibration_spans`, those that follow each other with the same reading as one: few farms ever change theirs."""
    spans = calibration_spans(calibration).drop(columns="fitted_at")
    read = [column for column in spans.columns if not column.startswith("holds_")]
    changed = (spans[read] != spans[read].shift()).any(axis=1)
    ends = spans.groupby(changed.cumsum())["holds_until"].transform("last")
    return spans.assign(holds_until=ends)[changed]


def _nothing(rows: Table, clock: Clock) -> str:
    """One line a farm: from when to when its rows arrive."""
    good = rows.filter(rows.reason.isnull())
    spans = good.group_by("farm_id").agg(
        first=good.valid_at.min(), last=good.valid_at.max(), known=good.available_at.min()
    ).to_pandas()  # fmt: skip
    lines = [f"as_of {clock.as_of:%Y-%m-%d %H:%M} UTC: no signals can be known by then; set as_of later"]
    for row in spans.itertuples():
        text = f"farm '{row.farm_id}': its signals span {row.first:%Y-%m-%d %H:%M} to {row.last:%Y-%m-%d %H:%M} UTC"
        lines.append(text + ", and are used from its first clock calibration on")
    return "; ".join(lines)


# --- clock changes ----------------------------------------------------------------------------------------------------


def _put_right(parsed: Table, in_time: Callable[[Table], Table], fleet: Fleet) -> pd.DataFrame:
    """The rows that `retime` moves, farm by farm and change by change.

    Only rows whose stamp is near a change are put in time for it.
    """
    import ibis

    nothing = pd.DataFrame()
    stamp = parsed[_STAMP]
    span = parsed.agg(first=stamp.min(), last=stamp.max()).to_pandas().iloc[0]
    changes = _changes(fleet, span["first"] - _FARTHEST, span["last"] + _FARTHEST)
    if changes.empty:
        return nothing
    stretches = changes[["seen_from", "seen_until"]].drop_duplicates().itertuples(index=False)
    there = [(stamp >= begin - _FARTHEST) & (stamp < end + _FARTHEST) for begin, end in stretches]
    rows = in_time(parsed.filter(reduce(lambda one, other: one | other, there)))
    table = ibis.memtable(changes)
    good = rows.filter(rows.reason.isnull(), rows.received_at.notnull())
    around = good.inner_join(
        table,
        [good.farm_id == table.farm_id, good.valid_at >= table.seen_from, good.valid_at < table.seen_until],
    )
    around = around.select(
        *_ROW,
        "turbine_id",
        "reading",
        "valid_at",
        "received_at",
        "arrived_at",
        "available_at",
        *SIGNALS,
        "changed_at",
        "change_minutes",
        "cadence",
    )
    # Repetitions of a row are no second row.
    frame = around.to_pandas().sort_values(["arrived_at", "source_file", "source_row"])
    frame = frame.drop_duplicates(["farm_id", "turbine_id", "valid_at", "changed_at", *SIGNALS])
    pieces = []
    for (farm_id, at), own in frame.groupby(["farm_id", "changed_at"]):
        change = Change(at, int(own["change_minutes"].iloc[0]))
        right = retime(own, change, int(own["cadence"].iloc[0]))
        pieces.append(right.assign(farm_id=farm_id))
    return pd.concat(pieces, ignore_index=True) if pieces else nothing


def _moved(rows: Table, found: pd.DataFrame) -> Table:
    """The rows that were put right in their interval; adds ``retimed``."""
    import ibis

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
    """Changes of the farms' local clocks within the data, wherever the reading has put them (up to an offset away)."""
    rows = []
    for farm in fleet.farms:
        for at, before, after in transitions(farm.time_zone):
            naive = at.replace(tzinfo=None)
            shift = _reach(farm, at)
            if pd.isna(first) or not first - shift <= naive <= last + shift:
                continue
            around = dt.timedelta(hours=_AROUND_CHANGE_HOURS)
            rows.append((farm.id, naive, after - before, naive - around - shift, naive + around + shift))
    table = pd.DataFrame(rows, columns=["farm_id", "changed_at", "change_minutes", "seen_from", "seen_until"])
    return table.astype(dict.fromkeys(["changed_at", "seen_from", "seen_until"], "datetime64[us]"))


def _reach(farm: Farm, at: dt.datetime) -> dt.timedelta:
    """A wall clock read as UTC puts the change a zone's offset away."""
    return dt.timedelta(minutes=abs(offset_minutes(farm.time_zone, at)))


# --- versions ---------------------------------------------------------------------------------------------------------


_INTERVAL = ("unit", "valid_at")
#: So many intervals are asked at once whether one comes twice: bits of half a number, so that sums of them fit.
_STRETCH = 32
_SETTLED = (
    "farm_id", "turbine_id", "unit", "rated", *_ROW[1:], "valid_at", "arrived_at", "available_at", "cadence", "retimed",
    *SIGNALS, *(f"{name}_fault" for name in SIGNALS), "reason", "detail",
)  # fmt: skip


def _versions(rows: Table, parsed: Table) -> Table:
    """Settle which rows of one turbine and interval are repetitions, conflicts and revisions.

    Nearly every row is alone in its interval, and has its fate without being sorted: only those with a rival are. What is asked
    more than once is held: engines would put every row in time anew for each question.
    """
    import ibis

    rows = rows.mutate(**{f"{name}_fault": enum_value(rows, rows[f"{name}_fault"]) for name in SIGNALS})
    rows = held(encode_columns(rows.select(*_SETTLED), parsed, ("farm_id", "turbine_id", "source_file")))
    rivalled = held(_rivalled(rows.filter(rows.reason.isnull())))
    no, never = ibis.literal(False), ibis.null("timestamp")
    alone = rows.anti_join(rivalled, _INTERVAL)
    alone = alone.mutate(duplicate=no, conflict=no, superseded_at=never, version=ibis.literal(0, "int64"))
    return _fates(alone).union(held(_fates(_contest(rows.semi_join(rivalled, _INTERVAL)))))


def _rivalled(good: Table) -> Table:
    """The intervals that more than one row is of.

    To count rows by interval makes a group of nearly every row. So stretches are asked first, by a power of two for each of
    their intervals: the sum of these is their bitwise or only if none comes twice.
    """
    import ibis

    some = good.select(*_INTERVAL, number=microseconds(good, "valid_at") // (good.cadence * 1_000_000))
    # Ibis knows no bitwise or on Spark, which counts all.
    if good.get_backend().name == "duckdb":
        # Before 1970 the rest is negative, and different all the same.
        bit = ibis.literal(1, "int64") << (some.number % _STRETCH).abs()
        some = some.mutate(stretch=some.number // _STRETCH, bit=bit)
        stretches = some.group_by("unit", "stretch").agg(added=some.bit.sum(), seen=some.bit.bit_or())
        some = some.semi_join(stretches.filter(stretches.added != stretches.seen), ["unit", "stretch"])
    counted = some.group_by(*_INTERVAL).agg(rivals=some.count())
    return counted.filter(counted.rivals > 1).select(*_INTERVAL)


def _contest(rows: Table) -> Table:
    """Add ``duplicate``, ``conflict``, ``superseded_at`` and ``version``, by comparing the rows of each interval."""
    import ibis

    rows = rows.mutate(good=rows.reason.isnull())
    key = [*_INTERVAL, "good"]
    # By their values, so that equal rows that came together stand side by side.
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


def _fates(rows: Table) -> Table:
    """``status``, ``reason`` and ``detail`` of rows that were compared."""
    import ibis

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
            "another row of the same turbine and interval has other values, and nothing says which is right",
            rows.detail,
        ),
    )  # fmt: skip
