"""What a point off the power curve is: stopped, curtailed, derated, iced, or just off. Fixed when the row arrives."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet

from ._tables import Table, naive
from .chunks import FARM, Chunk, Chunks, is_inside, near, plan
from .looks import Looks
from .parsing import SIGNALS
from .rules import SPIKES_IN_TIME, as_first_known, by_cadence, turbines_of
from .settings import DataEngineering, Labels

#: With these a turbine could not give what the wind offered: by order or by fault, not by weather.
NOT_AVAILABLE = ("stopped", "curtailed", "derated")
#: So many rows are the fewest that can be level.
_LEVEL_ROWS = 3
LABELS = ("", *NOT_AVAILABLE, "iced", "off_curve")


def judge_signals(
    timed_signals: Table, power_curve: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> Table | Chunks:
    """Say what each point off the power curve is, and give the signals out.

    One row per source row that counts (contract `Signals`), superseded versions included. ``label`` is by the newest curve
    fitted when the row became available, and by rows that were there by then: it never changes. It is empty on the curve, and
    where there is no curve or no wind speed; else the first that holds of

    - ``curtailed``: makes nothing although the wind would do, and so do all turbines of the farm;
    - ``stopped``: blades feathered in wind that would do, or makes nothing in such wind for ``stopped_minutes``;
    - ``derated``: below the curve, power held level for ``derated_minutes``;
    - ``curtailed``: below the curve, power held level for ``flat_minutes``, or blades pitched below rated power;
    - ``iced``: below the curve for ``iced_minutes``, in frost, blades as they should be;
    - ``off_curve``: below or above it, and none of these.

    Only a turbine's first versions have a past to be judged by; what needs one is not said of revisions.

    More rows than ``chunk_rows`` are given as chunks of farms and days, to be worked one by one: the same rows in all.

    Args:
        timed_signals: see `time_signals`.
        power_curve: contract `PowerCurve`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    rows = timed_signals.filter(timed_signals.status.isin(["kept", "superseded"]))
    curves = _curves(power_curve, data_engineering.power_curve.bin_width_ms)
    if rows.count().execute() <= data_engineering.chunk_rows:
        return _given_out(_judged(rows, curves, fleet, data_engineering))
    margin = _looks_back(fleet, data_engineering.labels)

    def worked(chunk: Chunk) -> Table:
        own = near(rows, chunk, "valid_at", margin)
        span = own.agg(first=own.available_at.min(), last=own.available_at.max()).to_pandas().iloc[0]
        # Of the curves of years, a chunk needs one or two.
        there = (curves["until"] > span["first"]) & (curves["fitted_at"] <= span["last"])
        judged = _judged(own, curves[there], fleet, data_engineering)
        return _given_out(judged.filter(is_inside(judged, chunk, "valid_at")))

    return Chunks(plan(rows, "valid_at", data_engineering.chunk_rows, FARM), worked)


def _looks_back(fleet: Fleet, settings: Labels) -> dt.timedelta:
    """How far before a row its label looks."""
    longest = max(farm.signals.cadence_seconds for farm in fleet.farms)
    minutes = max(settings.stopped_minutes, settings.derated_minutes, settings.flat_minutes, settings.iced_minutes)
    return dt.timedelta(seconds=max(minutes * 60, _LEVEL_ROWS * longest))


def _judged(rows: Table, curves: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    import ibis

    rows = rows.inner_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    # Sorting costs by the width of a row: what is judged is sorted without all else, and only what is labelled is joined back.
    values = {f"{name}_first": as_first_known(rows, name) for name in SPIKES_IN_TIME}
    names = ("farm_id", "unit", "rated", "cadence", "version", "valid_at", "available_at", "pitch_deg", "temperature_c")
    narrow = _with_curve(rows.select(*names, **values), curves, data_engineering.power_curve.bin_width_ms)
    labelled = _labels(narrow, fleet, data_engineering.labels)
    rows = rows.left_join(labelled, ["unit", "valid_at", "version"])
    return rows.mutate(label=rows.label.fill_null(""))


def _given_out(rows: Table) -> Table:
    """The columns of the contract, times in UTC."""
    utc = "timestamp('UTC')"
    times = ("valid_at", "available_at", "superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME))
    return rows.select(
        "farm_id", "turbine_id", **{name: rows[name].cast(utc) for name in times},
        **{name: rows[name] for name in SIGNALS}, **{f"{name}_spiked": rows[f"{name}_spiked"] for name in SPIKES_IN_TIME},
        version=rows.version, status=rows.status, label=rows.label, retimed=rows.retimed,
        source_file=rows.source_file, source_row=rows.source_row,
    )  # fmt: skip


def _curves(power_curve: pd.DataFrame, width: float) -> pd.DataFrame:
    """Curves by bin of wind speed, and until when each is in force (UTC without zone)."""
    curves = naive(power_curve, ["fitted_at"]).drop(columns=["rows"])
    curves["bin"] = np.floor(curves.pop("wind_speed_ms") / width).astype("int64")
    times = curves[["farm_id", "fitted_at"]].drop_duplicates().sort_values(["farm_id", "fitted_at"])
    times["until"] = times.groupby("farm_id")["fitted_at"].shift(-1).fillna(pd.Timestamp(9999, 1, 1).as_unit("us"))
    return curves.merge(times, on=["farm_id", "fitted_at"]).rename(columns={"power_share": "expected"})


def _with_curve(rows: Table, curves: pd.DataFrame, width: float) -> Table:
    """Add ``share`` and what the curve in force says of it: ``expected``, ``below``, ``above``."""
    import ibis

    table = ibis.memtable(curves)
    rows = rows.mutate(
        bin=(rows.wind_speed_ms_first / width).floor().cast("int64"), share=rows.power_kw_first / rows.rated
    )
    rows = rows.left_join(
        table,
        [
            rows.farm_id == table.farm_id,
            rows["bin"] == table["bin"],
            rows.available_at >= table.fitted_at,
            rows.available_at < table.until,
        ],
    ).drop("farm_id_right", "bin_right")
    return rows.mutate(
        below=(rows.share < rows.low_share).fill_null(False), above=(rows.share > rows.high_share).fill_null(False)
    )


def _labels(rows: Table, fleet: Fleet, settings: Labels) -> Table:
    """The label of every version of a turbine interval that has one."""
    import ibis

    here = ibis._
    feathered = (rows.pitch_deg.abs() >= settings.feathered_deg).fill_null(False)
    pitched = (rows.pitch_deg.abs() >= settings.pitched_deg).fill_null(False) & (rows.share < settings.full_share)
    cold = (rows.temperature_c < settings.iced_below_c).fill_null(False)
    idle = ((rows.share <= settings.idle_share) & (rows.expected >= settings.expected_share)).fill_null(False)
    slow = (rows.below & (rows.share > settings.idle_share)).fill_null(False)
    rows = rows.select(
        "farm_id", "unit", "cadence", "version", "valid_at", "available_at", "share", "expected",
        first=rows.version == 0, feathered=feathered, pitched=pitched.fill_null(False), idle=idle, slow=slow,
        off=rows.below | rows.above, idle_row=idle.cast("int64"),
        iced_row=(slow & cold & ~pitched.fill_null(False)).cast("int64"),
    )  # fmt: skip
    told = _all_idle(rows, settings.common_turbines)
    looks = Looks(rows, ["unit", "first"], "valid_at")

    def lasting(flag: str, minutes: float) -> Any:
        def rule(cadence: int) -> Any:
            count = max(1, int(minutes * 60 // cadence))
            if count == 1:
                return here[flag] == 1
            return here["first"] & (looks.last("sum", flag, count) == count) & looks.whole(count, cadence)

        return by_cadence(fleet, rule)

    def level(minutes: float) -> Any:
        def rule(cadence: int) -> Any:
            count = max(_LEVEL_ROWS, int(minutes * 60 // cadence))
            span = looks.last("greatest", "share", count) - looks.last("least", "share", count)
            there = looks.last("count", "share", count) == count
            return here["first"] & (span <= settings.flat_share) & there & looks.whole(count, cadence)

        return by_cadence(fleet, rule)

    words = [
        (here.idle & (here.feathered | lasting("idle_row", settings.stopped_minutes)), "stopped"),
        (here.feathered & (here.expected >= settings.feathered_expected_share), "stopped"),
        (here.slow & level(settings.derated_minutes), "derated"),
        (here.slow & (here.pitched | level(settings.flat_minutes)), "curtailed"),
        (lasting("iced_row", settings.iced_minutes), "iced"),
        (here.off, "off_curve"),
    ]
    label = ibis.cases(*((holds.fill_null(False), word) for holds, word in words), else_="")
    # Most rows are on the curve and turn: the words are sought for the others.
    rows = looks.made().filter(here.idle | here.feathered | here.off)
    rows = rows.mutate(label=label).left_join(told, ["unit", "valid_at"])
    label = ibis.ifelse(rows.idle & rows["first"] & rows.all_idle.fill_null(False), "curtailed", rows.label)
    return rows.select("unit", "valid_at", "version", label=label).filter(here.label != "")


def _all_idle(rows: Table, common_turbines: int) -> Table:
    """First versions of intervals in which all turbines of the farm that had come by then make nothing, and are enough.

    Turbines of one interval in the order in which they came; those that came together see each other.
    """
    import ibis

    rows = rows.filter(rows["first"])
    idle = rows.filter(rows.idle)
    many = idle.group_by(["farm_id", "valid_at"]).agg(idle=idle.count())
    # Few intervals have so many: only they are sorted.
    some = rows.semi_join(many.filter(many["idle"] >= common_turbines), ["farm_id", "valid_at"])
    come = ibis.range_window(group_by=["farm_id", "valid_at"], order_by="available_at", preceding=None, following=0)
    there = some.share.count().over(come)
    some = some.mutate(all_idle=(some.idle_row.sum().over(come) == there) & (there >= common_turbines))
    return some.filter(some.all_idle).select("unit", "valid_at", "all_idle")
