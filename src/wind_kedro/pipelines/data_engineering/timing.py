"""Every signal row gets its place in time, and is kept, superseded, a duplicate or quarantined: exactly one of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.errors import WindKedroError

from ._tables import Table, offset_minutes, transitions
from .clocks import calibration_spans
from .parsing import READINGS, SIGNALS
from .retiming import Change, retime
from .settings import DataEngineering, Stuck

#: How far around a clock change rows are looked at, hours: the doubled and the missing stretch, and hours to learn its
#: steps from.
_AROUND_CHANGE_HOURS = 8
_ROW = ("farm_id", "source_file", "source_row")


class NothingAvailableError(WindKedroError):
    """As of this time there is no signal of any farm."""


def time_signals(
    parsed_signals: Table,
    clock_calibration: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> Table:
    """Put every signal row in time by the clock that was found, and settle repetitions, revisions and conflicts.

    One row per row of a source that could be known by ``as_of`` (a row without a readable stamp always could).
    ``valid_at`` is the start of its interval, ``arrived_at`` when it came (never before its interval ended),
    ``available_at`` when it could be used: arrived, and the farm's clock calibrated once. Times are UTC without zone.
    ``status`` is

    - ``kept``: the newest version of its turbine and interval,
    - ``superseded``: a version with other values came later, at ``superseded_at``,
    - ``duplicate``: the same values again,
    - ``quarantined``: ``reason`` and ``detail`` say why. Two rows that came together for one interval and differ are
      both set aside (``conflicting_stamp``), unless a clock change explains them (`retime`; ``retimed``).

    A value that came again and again while the wind moved is null, and its fault is ``stuck``.

    The calibration in force when a row could first have arrived, by whichever reading, says how its stamp is read; rows
    older than the first calibration wait for it. So nothing that arrives later moves a row.

    Args:
        parsed_signals: see `parse_signals`.
        clock_calibration: contract `ClockCalibration`.
        fleet: the cards.
        clock: as of when.
        data_engineering: the room's parameters.

    Raises:
        NothingAvailableError: if no farm has a row by ``as_of``; it says what the data spans.
    """
    rows = _timed(parsed_signals.filter(parsed_signals.source_row > 0), clock_calibration, fleet)
    as_of = clock.as_of.replace(tzinfo=None)
    seen = rows.filter(rows.available_at.isnull() | (rows.available_at <= as_of))
    if not seen.filter(seen.reason.isnull()).limit(1).count().execute():
        raise NothingAvailableError(_nothing(rows, clock))
    seen = _versions(_retimed(seen, fleet, clock, data_engineering))
    return _unstuck(seen, fleet, data_engineering.stuck)


def _farms(fleet: Fleet) -> pd.DataFrame:
    return pd.DataFrame(
        {"farm_id": farm.id, "cadence": farm.signals.cadence_seconds, "latency": farm.latency_minutes}
        for farm in fleet.farms
    )


def _timed(parsed: Table, calibration: pd.DataFrame, fleet: Fleet) -> Table:
    """Add ``valid_at``, ``arrived_at`` and ``available_at`` by the calibration in force, and find stamps off the grid."""
    import ibis

    never = ibis.timestamp(9999, 1, 1, 0, 0, 0)
    rows = parsed.inner_join(ibis.memtable(_farms(fleet)), "farm_id")
    end = rows.cadence.as_interval("s")
    earliest = ibis.coalesce(
        rows.received_at, ibis.least(*[rows[name] for name in READINGS]) + end + rows.latency.as_interval("m")
    )
    rows = rows.mutate(earliest=earliest)
    spans = ibis.memtable(calibration_spans(calibration).drop(columns="fitted_at"))
    rows = rows.left_join(
        spans,
        [rows.farm_id == spans.farm_id, rows.earliest >= spans.holds_from, rows.earliest < spans.holds_until],
    ).drop("farm_id_right")
    valid_at = ibis.cases(*[(rows.reading == name, rows[name]) for name in READINGS], else_=rows.as_stamped)
    rows = rows.mutate(valid_at=valid_at)
    ended = rows.valid_at + rows.cadence.as_interval("s")
    arrived = ibis.ifelse(
        rows.received_at.notnull(),
        ibis.greatest(rows.received_at, ended),
        ended + rows.latency.as_interval("m"),
    )
    rows = rows.mutate(arrived_at=arrived)
    # A farm whose clock was never calibrated is not readable yet; a row without a stamp has no time at all.
    rows = rows.mutate(
        available_at=ibis.ifelse(
            rows.valid_at.isnull(),
            rows.received_at,
            ibis.greatest(rows.arrived_at, rows.first_fitted_at.fill_null(never)),
        )
    )
    second = rows.valid_at.epoch_seconds()
    off_grid = rows.reason.isnull() & ((second % rows.cadence != 0) | (rows.valid_at.microsecond() != 0))
    return rows.mutate(
        reason=ibis.ifelse(off_grid, "off_grid", rows.reason),
        detail=ibis.ifelse(
            off_grid,
            "interval of " + rows.valid_at.strftime("%Y-%m-%d %H:%M:%S") + " UTC does not start on a multiple of "
            + rows.cadence.cast("string") + " seconds",
            rows.detail,
        ),
    )  # fmt: skip


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


def _retimed(rows: Table, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Table:
    """Put right the rows that clock changes doubled; adds ``retimed``."""
    import ibis

    span = rows.agg(first=rows.valid_at.min(), last=rows.valid_at.max()).to_pandas().iloc[0]
    changes = _changes(fleet, span["first"], span["last"])
    found = pd.DataFrame({"farm_id": pd.Series(dtype="str")})
    if not changes.empty:
        table = ibis.memtable(changes)
        good = rows.filter(rows.reason.isnull())
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
            right = retime(own, change, int(own["cadence"].iloc[0]), data_engineering.retiming)
            pieces.append(right.assign(farm_id=farm_id))
        found = pd.concat(pieces, ignore_index=True) if pieces else found
    if found.empty:
        return rows.mutate(retimed=ibis.literal(False))
    moved = ibis.memtable(found.rename(columns={"valid_at": "right_valid_at", "available_at": "right_available_at"}))
    rows = rows.left_join(moved, list(_ROW)).drop(*(f"{name}_right" for name in _ROW))
    as_of = ibis.literal(clock.as_of.replace(tzinfo=None), "timestamp")
    rows = rows.mutate(
        valid_at=ibis.coalesce(rows.right_valid_at, rows.valid_at),
        # With an arrival time of its own, a row comes in that order; without, it counts from when it was put right.
        arrived_at=ibis.ifelse(
            rows.moved.fill_null(False) & rows.received_at.notnull(),
            ibis.greatest(rows.received_at, rows.right_valid_at + rows.cadence.as_interval("s")),
            ibis.ifelse(rows.right_valid_at.notnull(), rows.right_available_at, rows.arrived_at),
        ),
        available_at=ibis.coalesce(rows.right_available_at, rows.available_at),
        retimed=rows.moved.fill_null(False),
    ).drop("right_valid_at", "right_available_at", "moved")
    return rows.filter(rows.available_at.isnull() | (rows.available_at <= as_of))


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


def _versions(rows: Table) -> Table:
    """Settle which rows of one turbine and interval are repetitions, conflicts and revisions."""
    import ibis

    values = ibis.struct({name: rows[name] for name in SIGNALS}).cast("string")
    rows = rows.mutate(good=rows.reason.isnull(), values=values)
    key = ["farm_id", "turbine_id", "valid_at", "good"]
    in_order = ibis.window(group_by=key, order_by=["arrived_at", "values", "source_file", "source_row"])
    again = (rows["values"] == rows["values"].lag().over(in_order)).fill_null(False)
    rows = rows.mutate(duplicate=rows.good & again)
    together = ibis.window(group_by=[*key, "arrived_at", "duplicate"])
    rows = rows.mutate(conflict=rows.good & ~rows.duplicate & (rows.source_row.count().over(together) > 1))
    rows = rows.mutate(counts=rows.good & ~rows.duplicate & ~rows.conflict)
    by_version = ibis.window(group_by=[*key, "counts"], order_by=["arrived_at", "source_file", "source_row"])
    rows = rows.mutate(
        superseded_at=ibis.ifelse(rows.counts, rows.available_at.lead().over(by_version), ibis.null("timestamp")),
        version=ibis.row_number().over(by_version),
    )
    return rows.select(
        "farm_id", "turbine_id", "source_file", "source_row", "valid_at", "arrived_at", "available_at", "superseded_at",
        "version", "cadence", "retimed", *SIGNALS, *(f"{name}_fault" for name in SIGNALS),
        status=ibis.cases(
            (rows.duplicate, "duplicate"),
            (~rows.counts, "quarantined"),
            (rows.superseded_at.notnull(), "superseded"),
            else_="kept",
        ),
        reason=ibis.ifelse(rows.conflict, "conflicting_stamp", rows.reason),
        detail=ibis.ifelse(
            rows.conflict,
            "another row of the same turbine and interval has other values, and nothing says which is right",
            rows.detail,
        ),
    )  # fmt: skip


# --- stuck sensors ----------------------------------------------------------------------------------------------------


def _unstuck(rows: Table, fleet: Fleet, stuck: Stuck) -> Table:
    """Null values that repeat to the last digit while the wind moved: from the given repetition on, as a live row is judged.

    Only first versions are judged, and only by rows that were there by then: a value can lose its own past to a gap or
    to a late row, never gain it.
    """
    import ibis

    turbines = ibis.memtable(
        pd.DataFrame(
            {"farm_id": farm.id, "turbine_id": turbine.id, "rated": turbine.rated_power_kw}
            for farm in fleet.farms
            for turbine in farm.turbines
        )
    )
    rows = rows.left_join(turbines, ["farm_id", "turbine_id"]).drop("farm_id_right", "turbine_id_right")
    rows = rows.mutate(judged=rows.status.isin(["kept", "superseded"]) & (rows.version == 0))
    found: dict[str, Any] = {}
    for name, count in stuck.intervals.items():
        back = ibis.window(
            group_by=["farm_id", "turbine_id", "judged"],
            order_by=["valid_at", "source_row"],
            preceding=count - 1,
            following=0,
        )
        contiguous = rows.valid_at.min().over(back) == rows.valid_at - (rows.cadence * (count - 1)).as_interval("s")
        there = (rows[name].count().over(back) == count) & (rows.available_at.max().over(back) <= rows.available_at)
        same = rows[name].min().over(back) == rows[name].max().over(back)
        if name == "wind_speed_ms":
            moved = (
                rows.power_kw.max().over(back) - rows.power_kw.min().over(back)
            ) >= stuck.power_moves_share * rows.rated
        else:
            moved = (rows.wind_speed_ms.max().over(back) - rows.wind_speed_ms.min().over(back)) >= stuck.wind_moves_ms
        if name == "power_kw":
            low, high = stuck.power_between_share
            moved = moved & rows.power_kw.between(low * rows.rated, high * rows.rated)
        found[f"{name}_stuck"] = (rows.judged & contiguous & there & same & moved).fill_null(False)
    rows = rows.mutate(**found)
    cleaned: dict[str, Any] = {}
    for name in stuck.intervals:
        cleaned[name] = ibis.ifelse(rows[f"{name}_stuck"], ibis.null("float64"), rows[name])
        cleaned[f"{name}_fault"] = ibis.ifelse(rows[f"{name}_stuck"], "stuck", rows[f"{name}_fault"])
    return rows.mutate(**cleaned).drop("judged", "rated", *(f"{name}_stuck" for name in stuck.intervals))
