"""Operating states of points off the power curve, determined when a row arrives."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.datasets.derived import Derived, days_of, frame_of, shards_of
from wind_kedro.pipelines.data_engineering.parse.enums import enum_value
from wind_kedro.pipelines.data_engineering.parse.signals import SIGNALS
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, OperatingStates
from wind_kedro.pipelines.data_engineering.shards import inside
from wind_kedro.pipelines.data_engineering.signals.rules import (
    SPIKES_IN_TIME,
    as_first_known,
    by_cadence,
    numbers_of_farms,
    turbines_of,
)
from wind_kedro.pipelines.data_engineering.signals.windows import Windows
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, materialized, microseconds, naive, zoned
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, around, mixed, of_cards, overlapping

#: Change it when the operating states change that the same input gives.
VERSION = 1
#: States in which a turbine was not available to use the wind, by order or by fault.
NOT_AVAILABLE = ("stopped", "curtailed", "derated")
#: Minimum number of rows of level power.
_LEVEL_ROWS = 3
_FAR_PAST, _FAR_FUTURE = pd.Timestamp(1, 1, 1).as_unit("us"), pd.Timestamp(9999, 1, 1).as_unit("us")


def judge_signals(
    timed_signals: Derived | Table,
    power_curve: Derived | pd.DataFrame,
    fleet: Fleet,
    data_engineering: DataEngineering,
) -> Recipe:
    """Determine the operating state of every signal row (`judged`).

    One shard per farm and day. It depends on the rows of its day and of the days before it, as far back as a state lasts, and on
    the curves in force when these became available.
    """
    days = days_of(timed_signals, ["farm_id"], "valid_at")
    days = days[days["farm_id"].isin([farm.id for farm in fleet.farms]) & (days["day"] != NO_DAY)]
    reaches = {farm.id: _reach_days(farm, data_engineering.operating_states) for farm in fleet.farms}
    parts = [around(own, ["farm_id"], before=reach) for reach, own in days.groupby(days["farm_id"].map(reaches))]
    found = pd.concat(parts, ignore_index=True) if parts else around(days, ["farm_id"])
    found = found.assign(first=found.get("first_at", _FAR_PAST), last=found.get("last_at", _FAR_FUTURE))
    curves = days_of(power_curve, ["farm_id"], "fitted_at").sort_values(["farm_id", "day"])
    until = curves.groupby("farm_id")["day"].shift(-1).fillna(_FAR_FUTURE)
    curves = curves.assign(first=curves["day"], last=until, number=mixed(curves["digest"], curves["day"]))
    cards = {
        farm.id: [farm.signals.cadence_seconds, [(turbine.id, turbine.rated_power_kw) for turbine in farm.turbines]]
        for farm in fleet.farms
    }
    numbers = of_cards(cards, VERSION, data_engineering.operating_states, data_engineering.power_curve.bin_width_ms)
    fingerprint = mixed(found["digest"], numbers[found["farm_id"]], overlapping(curves, found, "farm_id"))

    def work(part: pd.DataFrame) -> Table:
        rows = shards_of(timed_signals, part[["farm_id", "day"]], before=max(reaches.values()))
        return inside(judged(rows, frame_of(power_curve), fleet, data_engineering), part, "valid_at")

    return Recipe(found[["farm_id", "day", "rows"]].assign(fingerprint=fingerprint), work)


def _reach_days(farm: Farm, settings: OperatingStates) -> int:
    """Number of days before a day on whose rows its operating states depend."""
    minutes = max(settings.stopped_minutes, settings.derated_minutes, settings.flat_minutes, settings.iced_minutes)
    return math.ceil(max(dt.timedelta(minutes=minutes), _LEVEL_ROWS * farm.signals.cadence) / dt.timedelta(days=1))


def judged(timed_signals: Table, power_curve: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Rows in use with their operating state.

    One row per source row in use (contract `Signals`), including superseded versions. ``operating_state`` depends on the newest
    curve fitted when the row became available and on rows known by then, so it never changes. It is empty on the curve, and
    without a curve or wind speed; otherwise it is the first that applies of

    - ``curtailed``: idle in sufficient wind, together with all turbines of the farm;
    - ``stopped``: blades feathered in sufficient wind, or idle in such wind for ``stopped_minutes``;
    - ``derated``: below the curve, with level power for ``derated_minutes``;
    - ``curtailed``: below the curve, with level power for ``flat_minutes`` or blades pitched below rated power;
    - ``iced``: below the curve for ``iced_minutes`` in frost, blades not pitched;
    - ``off_curve``: below or above the curve, and none of these.

    States that depend on earlier rows are determined for first versions only, not for revisions.
    """
    rows = timed_signals.filter(timed_signals.status.isin(["kept", "superseded"]))
    curves = _curves(power_curve, data_engineering.power_curve.bin_width_ms)
    span = rows.agg(first=rows.available_at.min(), last=rows.available_at.max()).to_pandas().iloc[0]
    # Only the curves in force meanwhile.
    curves = curves[(curves["until"] > span["first"]) & (curves["fitted_at"] <= span["last"])]
    return _output(_judged(rows, curves, fleet, data_engineering))


def _judged(rows: Table, curves: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    turbines = turbines_of(fleet)
    numbers = numbers_of_farms(fleet)
    turbines["farm"] = turbines["farm_id"].map(numbers).astype("int64")
    curves = curves.assign(farm=curves["farm_id"].map(numbers).astype("int64")).drop(columns="farm_id")
    rows = rows.inner_join(ibis.memtable(turbines), ["farm_id", "turbine_id"])
    # The cost of sorting grows with the width of rows: only the columns needed are sorted, and the states joined back.
    values = {f"{name}_first": as_first_known(rows, name) for name in SPIKES_IN_TIME}
    names = ("farm", "unit", "rated", "cadence", "version", "valid_at", "available_at", "pitch_deg", "temperature_c")
    narrow = _with_curve(rows.select(*names, **values), curves, data_engineering.power_curve.bin_width_ms)
    judged = materialized(_operating_states(narrow, fleet, data_engineering.operating_states))
    rows = rows.left_join(judged, ["unit", "valid_at", "version"])
    return rows.mutate(operating_state=rows.operating_state.fill_null(enum_value(rows, "")))


def _output(rows: Table) -> Table:
    """Columns of the contract, with times in UTC."""
    times = ("valid_at", "available_at", "superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME))
    return rows.select(
        "farm_id", "turbine_id", **{name: zoned(rows, name) for name in times},
        **{name: rows[name] for name in SIGNALS}, **{f"{name}_spiked": rows[f"{name}_spiked"] for name in SPIKES_IN_TIME},
        version=rows.version, status=rows.status, operating_state=rows.operating_state, retimed=rows.retimed,
        source_file=rows.source_file, source_row=rows.source_row,
    )  # fmt: skip


def _curves(power_curve: pd.DataFrame, width: float) -> pd.DataFrame:
    """Curves by bin of wind speed, with the end of their validity (UTC without zone)."""
    curves = naive(power_curve, ["fitted_at"]).drop(columns=["rows"])
    curves["bin"] = np.floor(curves.pop("wind_speed_ms") / width).astype("int64")
    times = curves[["farm_id", "fitted_at"]].drop_duplicates().sort_values(["farm_id", "fitted_at"])
    times["until"] = times.groupby("farm_id")["fitted_at"].shift(-1).fillna(pd.Timestamp(9999, 1, 1).as_unit("us"))
    return curves.merge(times, on=["farm_id", "fitted_at"]).rename(columns={"power_share": "expected"})


def _with_curve(rows: Table, curves: pd.DataFrame, width: float) -> Table:
    """Add ``share`` of rated power, ``expected`` by the curve in force, and whether it is ``below`` or ``above`` its bounds."""
    table = ibis.memtable(curves)
    rows = rows.mutate(bin=(rows.wind_speed_ms_first / width).floor().cast("int64"), share=rows.power_kw_first / rows.rated)
    in_force = [rows.available_at >= table.fitted_at, rows.available_at < table.until]
    rows = rows.left_join(table, [rows.farm == table.farm, rows["bin"] == table["bin"], *in_force]).drop(
        "farm_right", "bin_right"
    )
    below, above = rows.share < rows.low_share, rows.share > rows.high_share
    return rows.mutate(below=below.fill_null(False), above=above.fill_null(False))


def _operating_states(rows: Table, fleet: Fleet, settings: OperatingStates) -> Table:
    """Operating state of every version of a turbine interval, without empty states."""
    here = ibis._
    feathered = (rows.pitch_deg.abs() >= settings.feathered_deg).fill_null(False)
    pitched = (rows.pitch_deg.abs() >= settings.pitched_deg).fill_null(False) & (rows.share < settings.full_share)
    cold = (rows.temperature_c < settings.iced_below_c).fill_null(False)
    idle = ((rows.share <= settings.idle_share) & (rows.expected >= settings.expected_share)).fill_null(False)
    slow = (rows.below & (rows.share > settings.idle_share)).fill_null(False)
    rows = materialized(rows.select(
        "farm", "unit", "cadence", "version", "valid_at", "available_at", "share", "expected",
        first=rows.version == 0, feathered=feathered, pitched=pitched.fill_null(False), idle=idle, slow=slow,
        off=rows.below | rows.above, iced=slow & cold & ~pitched.fill_null(False),
    ))  # fmt: skip
    all_idle = _all_idle(rows, settings.common_turbines)
    level = _level(rows, {settings.flat_minutes, settings.derated_minutes}, fleet, settings.flat_share)
    # Most rows are on the curve and running; states are determined for the others only.
    rows = rows.filter(rows.idle | rows.feathered | rows.off)
    for flag, minutes in (("idle", settings.stopped_minutes), ("iced", settings.iced_minutes)):
        rows = _lasting(rows, flag, minutes, fleet)
    for minutes, found in level.items():
        mark = {f"level:{minutes}": ibis.literal(True)}
        rows = rows.left_join(found.mutate(**mark), ["unit", "valid_at", "version"])
        rows = rows.drop(*(name for name in rows.columns if name.endswith("_right")))
    states = [
        (here.idle & (here.feathered | here["idle_lasts"]), "stopped"),
        (here.feathered & (here.expected >= settings.feathered_expected_share), "stopped"),
        (here[f"level:{settings.derated_minutes}"], "derated"),
        (here[f"level:{settings.flat_minutes}"] | (here.slow & here.pitched), "curtailed"),
        (here["iced_lasts"], "iced"),
        (here.off, "off_curve"),
    ]
    rows = rows.left_join(all_idle, ["unit", "valid_at"])
    together = here.idle & here["first"] & here.all_idle.fill_null(False)
    cases = [(holds.fill_null(False), enum_value(rows, state)) for holds, state in [(together, "curtailed"), *states]]
    operating_state = ibis.cases(*cases, else_=enum_value(rows, ""))
    return rows.select("unit", "valid_at", "version", operating_state=operating_state).filter(here.operating_state != "")


def _lasting(rows: Table, flag: str, minutes: float, fleet: Fleet) -> Table:
    """Add ``<flag>_lasts``: whether the flag has held for so many minutes, including the row."""
    here = ibis._
    windows = Windows(rows, ["unit", "first", flag], "valid_at")

    def rule(cadence: int) -> Any:
        count = max(1, int(minutes * 60 // cadence))
        return here[flag] if count == 1 else here[flag] & here["first"] & windows.whole(count, cadence)

    lasts = by_cadence(fleet, rule)
    return windows.made().mutate(**{f"{flag}_lasts": lasts.fill_null(False)}).drop(*windows.names)


def _level(rows: Table, lengths: set[float], fleet: Fleet, flat_share: float) -> dict[float, Table]:
    """By duration in minutes, the slow rows whose power was level for that long.

    Rows that are level for a longer duration are searched only among those level for a shorter one, so that few are sorted.
    """
    here = ibis._
    rows = rows.filter(rows["first"])
    few, found = rows.filter(rows.slow), {}
    longest = max(farm.signals.cadence_seconds for farm in fleet.farms)
    for minutes in sorted(lengths):
        # Rows of the same turbines in the same and the previous stretch of so much time.
        microseconds_each = max(int(minutes * 60), _LEVEL_ROWS * longest) * 1_000_000
        stretch = microseconds(few, "valid_at") // microseconds_each
        stretches = few.select("unit", stretch=stretch).union(few.select("unit", stretch=stretch - 1))
        numbered = rows.mutate(stretch=microseconds(rows, "valid_at") // microseconds_each)
        # Materialized, so that the engine knows that they are few and builds the hash table of them.
        before = numbered.semi_join(materialized(stretches), ["unit", "stretch"]).drop("stretch")
        windows = Windows(before, ["unit"], "valid_at")

        def rule(cadence: int, minutes: float = minutes, windows: Windows = windows) -> Any:
            count = max(_LEVEL_ROWS, int(minutes * 60 // cadence))
            span = windows.last("greatest", "share", count) - windows.last("least", "share", count)
            there = windows.last("count", "share", count) == count
            return (span <= flat_share) & there & windows.whole(count, cadence)

        held_level = by_cadence(fleet, rule)
        level = windows.made().filter(here.slow & held_level.fill_null(False))
        few = found[minutes] = materialized(level.select("unit", "valid_at", "version"))
    return found


def _all_idle(rows: Table, common_turbines: int) -> Table:
    """First versions of intervals in which all turbines of the farm that had arrived by then, a minimum number, are idle.

    Turbines of an interval are ordered by arrival; those that arrived together are counted together.
    """
    rows = rows.filter(rows["first"])
    idle = rows.filter(rows.idle)
    many = idle.group_by(["farm", "valid_at"]).agg(idle=idle.count())
    # Only the few intervals with that many idle turbines are sorted.
    some = rows.semi_join(many.filter(many["idle"] >= common_turbines), ["farm", "valid_at"])
    come = ibis.range_window(group_by=["farm", "valid_at"], order_by="available_at", preceding=None, following=0)
    there = some.share.count().over(come)
    some = some.mutate(all_idle=(some.idle.cast("int64").sum().over(come) == there) & (there >= common_turbines))
    return some.filter(some.all_idle).select("unit", "valid_at", "all_idle")
