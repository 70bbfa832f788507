"""Rules for implausible values within the valid range: stuck sensors, spikes and wrong units. Each rule is a function.

A rule returns an expression of window columns. All windows use one order (first versions of a turbine by time), so that the
engine sorts once; rules that need more than a few neighbours are evaluated only for candidate rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.pipelines.data_engineering.parse.enums import enum_value
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, Spike, Spiky, Stuck
from wind_kedro.pipelines.data_engineering.signals.unit_checks import suspected_signals, with_suspicions
from wind_kedro.pipelines.data_engineering.signals.windows import Windows
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, materialized, microseconds

#: Number of intervals before and after a spike that are compared.
NEIGHBOURS = 2
#: Upper bound of the number of an interval since 1970: 300 years of seconds.
_INTERVALS = 10_000_000_000
#: Signals of observations, for which the time at which a spike was found is kept.
SPIKES_IN_TIME = ("power_kw", "wind_speed_ms")
#: Times at which the first state of a row ends.
CHANGES = ("superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME))
_SPIKED: tuple[Spiky, ...] = ("power_kw", "wind_speed_ms", "temperature_c")
#: Signals whose movement shows that the others should move: wind speed, and power for wind speed itself.
_MOVERS = ("power_kw", "wind_speed_ms")
_ENDS: dict[str, Literal["least", "greatest"]] = {"low": "least", "high": "greatest"}


def numbers_of_farms(fleet: Fleet) -> dict[str, int]:
    """Number of each farm in the fleet, which engines join and group by faster than text."""
    return {farm.id: number for number, farm in enumerate(fleet.farms)}


def turbines_of(fleet: Fleet) -> pd.DataFrame:
    """One row per turbine: ``farm_id``, ``turbine_id``, ``rated`` (kW), ``unit`` (its number in the fleet, for sorting)."""
    turbines = [(farm.id, turbine.id, turbine.rated_power_kw) for farm in fleet.farms for turbine in farm.turbines]
    table = pd.DataFrame(turbines, columns=["farm_id", "turbine_id", "rated"])
    return table.assign(unit=range(len(table)))


def with_turbines(rows: Table, fleet: Fleet) -> Table:
    """Add ``rated`` and ``unit``; null for a turbine that is on no card."""
    rows = rows.left_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    return rows.drop("farm_id_right", "turbine_id_right")


def by_cadence(fleet: Fleet, rule: Callable[[int], Any]) -> Any:
    """``rule(cadence)`` for the rows of each cadence of the fleet."""
    cadences = sorted({farm.signals.cadence_seconds for farm in fleet.farms})
    if len(cadences) == 1:
        return rule(cadences[0])
    return ibis.cases(*((ibis._.cadence == cadence, rule(cadence)) for cadence in cadences))


def clean_values(rows: Table, suspected_units: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Null values that are stuck, a spike or in another unit, and set ``<signal>_fault``.

    Only first versions are checked for ``stuck`` and ``spike``. ``stuck`` depends on earlier rows and holds from the row's
    arrival. ``spike`` depends on later rows, until which the value is used: for the signals of observations,
    ``<signal>_spiked`` keeps the value and ``<signal>_spiked_at`` the time at which it was found; both are null in all other
    rows. ``unit`` is checked for all versions, and the value is used until the unit is found to be wrong (`suspect_units`),
    as with a spike; values of signals without a ``_spiked`` column that arrived before are kept.
    ``rows`` are rows in time with their status and version (`time_signals`) and their turbines (`with_turbines`).
    """
    columns = [
        *(name for name in rows.columns if name not in ("unit", "rated")),
        *(f"{name}_suspected_at" for name in suspected_signals(suspected_units)),
    ]
    rows = _without_known_units(with_suspicions(rows, suspected_units, "valid_at"), suspected_units)
    rows = rows.mutate(judged=rows.status.isin(["kept", "superseded"]) & (rows.version == 0))
    # The cost of sorting grows with the width of rows: only the columns needed are sorted, and the values found joined back.
    faulty = materialized(_implausible(rows.filter(rows.judged), fleet, data_engineering))
    rows = rows.left_join(faulty, ["unit", "valid_at"])
    cleaned: dict[str, Any] = {}
    for name in sorted({*data_engineering.stuck.minutes, *_SPIKED}):
        no = ibis.literal(False)
        stays = (rows.judged & rows[f"{name}_stuck"]).fill_null(False) if f"{name}_stuck" in faulty.columns else no
        off = rows.judged & ~stays & rows[f"{name}_found_at"].notnull() if name in _SPIKED else no
        cleaned[name] = ibis.ifelse(stays | off, ibis.null("float64"), rows[name])
        cleaned[f"{name}_fault"] = ibis.cases(
            (stays, enum_value(rows, "stuck")), (off, enum_value(rows, "spike")), else_=rows[f"{name}_fault"]
        )
        if name in SPIKES_IN_TIME:
            cleaned[f"{name}_spiked"] = ibis.ifelse(off, rows[name], ibis.null("float64"))
            cleaned[f"{name}_spiked_at"] = ibis.ifelse(off, rows[f"{name}_found_at"], ibis.null("timestamp"))
    rows = rows.select(**{name: rows[name] for name in columns} | cleaned)
    return _without_units_found_later(rows, suspected_units)


def _without_known_units(rows: Table, suspected_units: pd.DataFrame) -> Table:
    """Null values whose unit was known to be wrong when they arrived."""
    for name in suspected_signals(suspected_units):
        known = (rows[f"{name}_suspected_at"] <= rows.available_at).fill_null(False)
        faulty = known & (rows[name].notnull() | (rows[f"{name}_fault"] == "out_of_range").fill_null(False))
        rows = rows.mutate(**_in_another_unit(rows, name, faulty))
    return rows


def _in_another_unit(rows: Table, name: str, faulty: Any) -> dict[str, Any]:
    return {
        name: ibis.ifelse(faulty, ibis.null("float64"), rows[name]),
        f"{name}_fault": ibis.ifelse(faulty, enum_value(rows, "unit"), rows[f"{name}_fault"]),
    }


def _without_units_found_later(rows: Table, suspected_units: pd.DataFrame) -> Table:
    """Null values whose unit was found to be wrong after they arrived; they are used until then, like spikes."""
    for name in suspected_signals(suspected_units):
        if name in SPIKES_IN_TIME:
            found_at, spiked_at = rows[f"{name}_suspected_at"], rows[f"{name}_spiked_at"]
            late = (found_at > rows.available_at).fill_null(False)
            faulty = late & rows[name].notnull()
            earlier = (late & spiked_at.notnull(), ibis.least(spiked_at, found_at))
            spiked = {
                f"{name}_spiked": ibis.ifelse(faulty, rows[name], rows[f"{name}_spiked"]),
                f"{name}_spiked_at": ibis.cases((faulty, found_at), earlier, else_=spiked_at),
            }
            rows = rows.mutate(**_in_another_unit(rows, name, faulty), **spiked)
        rows = rows.drop(f"{name}_suspected_at")
    return rows


def _implausible(judged: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Turbine intervals with an implausible value: ``<signal>_stuck``, and ``<signal>_found_at`` of a spike.

    Few values repeat or deviate: one pass over all rows finds candidates, and the rules are evaluated for these and their
    neighbours only.
    """
    still, off = data_engineering.stuck, data_engineering.spike
    seen = {*still.minutes, *_SPIKED, "pitch_deg"}
    # Consecutive intervals of a turbine have consecutive numbers.
    place = judged.unit * _INTERVALS + microseconds(judged, "valid_at") // (judged.cadence * 1_000_000)
    rows = judged.select("unit", "rated", "cadence", "valid_at", "available_at", *sorted(seen), place=place)
    # Both are materialized, so that the engine knows their sizes and builds the hash table of the smaller one.
    rows = materialized(rows)
    places = _candidates(rows, still, off)
    near = [places.select(place=places.place + step) for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]
    rows = rows.semi_join(materialized(reduce(lambda one, other: one.union(other), near)), "place")
    windows = Windows(rows, ["unit"], "valid_at")
    repeated = {f"{name}_repeats": repeats(windows, name) for name in still.minutes}
    standing = {f"{name}_deviates": deviates(windows, name, off) for name in _SPIKED}
    found = {f"{name}_found_at": spike(windows, name, off) for name in _SPIKED}
    ends = {f"{name}_{end}": _of_three(windows, name, how) for name in _MOVERS for end, how in _ENDS.items()}
    follows = {
        _follows(place): windows.at("valid_at", place) == rows.valid_at + (rows.cadence * place).as_interval("s")
        for place in range(-NEIGHBOURS, NEIGHBOURS + 1)
        if place
    }
    came = _of_three(windows, "available_at", "greatest")
    rows = windows.made().mutate(**repeated, **standing)
    rows = rows.filter(ibis.or_(*(rows[name] for name in [*repeated, *standing])))
    rows = rows.mutate(**follows).mutate(**found, **ends, all_came_at=came)
    in_a_row = ibis._[_follows(-1)] & ibis._[_follows(-2)]
    rows = rows.mutate(**{name: (ibis._[name] & in_a_row).fill_null(False) for name in repeated})
    rows = rows.drop(*windows.names, *follows, *standing)
    for name in still.minutes:
        again = Windows(rows, ["unit", f"{name}_repeats"], "valid_at")
        faulty = by_cadence(fleet, partial(stuck, again, name, still))
        rows = again.made().mutate(**{f"{name}_stuck": faulty}).drop(*again.names)
    stuck_for = [f"{name}_stuck" for name in still.minutes]
    rows = rows.filter(ibis.or_(*(rows[name] for name in stuck_for), *(rows[name].notnull() for name in found)))
    return rows.select("unit", "valid_at", *stuck_for, *found)


def _candidates(rows: Table, still: Stuck, off: Spike) -> Table:
    """Places (numbers of turbine and interval) of candidate rows: equal to the two rows before, or different from one of them.

    Sorting by one number takes half the time of sorting by turbine and time. The first rows of a turbine are compared with the
    last rows of another, which may add candidates but loses none.
    """
    names = sorted({*still.minutes, *_SPIKED})
    rows = rows.select("unit", "rated", "place", *names)
    windows = Windows(rows, [], "place")
    seen = [repeats(windows, name) for name in still.minutes]
    seen += [far(windows, name, before, off) for name in _SPIKED for before in (-1, -2)]
    return windows.made().filter(ibis.or_(*seen)).select("place")


def _follows(place: int) -> str:
    """Name of the column that holds whether the row ``place`` rows later (negative: earlier) is consecutive."""
    return f"follows:{place:+d}"


def _of_three(windows: Windows, column: str, how: Literal["least", "greatest"]) -> Any:
    """Least or greatest value of a row and the two before it."""
    return getattr(ibis, how)(ibis._[column], windows.at(column, -1), windows.at(column, -2))


def repeats(windows: Windows, name: str) -> Any:
    """Whether a value equals those of the two rows before."""
    value = ibis._[name]
    return (value == windows.at(name, -1)) & (value == windows.at(name, -2))


def stuck(windows: Windows, name: str, settings: Stuck, cadence: int) -> Any:
    """Whether a value repeats while the signal that drives it moved: from the given number of repetitions on.

    ``windows`` holds rows that repeat the two before them, which are two fewer than the equal values; the range of the driving
    signal covers all three rows. All rows must have been available when the current one was, so that a row that arrives late
    never changes the result for an earlier row.
    """
    here = ibis._
    count = max(settings.min_repetitions, settings.minutes[name] * 60 // cadence) - 2
    mover, minimum = (
        ("power_kw", here.rated * settings.power_moves_share)
        if name == "wind_speed_ms"
        else ("wind_speed_ms", settings.wind_moves_ms)
    )
    moved = (windows.last("greatest", f"{mover}_high", count) - windows.last("least", f"{mover}_low", count)) >= minimum
    if name == "power_kw":
        low, high = settings.power_between_share
        moved = moved & here.power_kw.between(here.rated * low, here.rated * high)
    in_time = windows.last("greatest", "all_came_at", count) <= here.available_at
    return (here[f"{name}_repeats"] & windows.follow(count, cadence) & in_time & moved).fill_null(False)


def far(windows: Windows, name: Spiky, place: int, settings: Spike) -> Any:
    """Whether a value differs by a spike's threshold from the value ``place`` rows later (negative: earlier)."""
    here = ibis._
    least: Any = here.rated * settings.min_deviation[name] if name == "power_kw" else settings.min_deviation[name]
    return (here[name] - windows.at(name, place)).abs() >= least


def deviates(windows: Windows, name: Spiky, settings: Spike) -> Any:
    """Whether a value deviates from both sides, so that it may be a spike or one of two."""

    def off(place: int) -> Any:
        return far(windows, name, place, settings)

    both = (off(-1) & (off(1) | off(2))) | (off(-2) & off(1))
    return both & (ibis._.cadence <= settings.max_cadence_minutes * 60)


def spike(windows: Windows, name: Spiky, settings: Spike) -> Any:
    """Time at which a value was found to be a spike; null if it is none.

    A spike deviates from both sides by at least the threshold of its signal, the sides agree, and the signals that would follow
    a real step did not move: wind speed and pitch for power, power for wind speed. One or two values may deviate, so the sides
    are the intervals before and after, or those around a second value that deviates too.
    """
    here = ibis._
    value = here[name]
    least: Any = here.rated * settings.min_deviation[name] if name == "power_kw" else settings.min_deviation[name]

    def near(column: str, place: int) -> Any:
        return windows.at(column, place)

    def sided(left: int, right: int) -> Any:
        before, behind = near(name, left), near(name, right)
        up, down = ibis.least(value - before, value - behind), ibis.least(before - value, behind - value)
        off = ibis.greatest(up, down)
        agree = (before - behind).abs() <= off * settings.sides_agree_share
        if (left, right) == (-1, 1):
            agree &= (near(name, -2) - before).abs() <= off * settings.sides_agree_share
        else:
            second = near(name, -1 if left == -NEIGHBOURS else 1)
            agree &= ((second - before) * (value - before) > 0) & ((second - before).abs() >= least)

        def moved(column: str) -> Any:
            return near(column, 0).abs() - (near(column, left).abs() + near(column, right).abs()) / 2

        if name == "power_kw":
            wind = ibis.greatest(ibis.ifelse(up > down, moved("wind_speed_ms"), -moved("wind_speed_ms")), 0.0)
            found = off - (here.rated * settings.power_per_ms * wind).fill_null(0.0) >= least
            # Blades that feather for an interval cause a real dip: a short stop.
            found &= (up > down) | (moved("pitch_deg") <= settings.pitch_still_deg).fill_null(True)
        elif name == "wind_speed_ms":
            still = (moved("power_kw").abs() <= here.rated * settings.power_still_share).fill_null(True)
            found = (off >= least) & still
        else:
            found = off >= least
        places = range(-NEIGHBOURS if right == 1 else left, right + 1)
        known = reduce(ibis.greatest, [near("available_at", place) for place in places])
        there = reduce(lambda one, other: one & other, [here[_follows(place)] for place in places if place])
        return ibis.ifelse(there & found & agree, known, ibis.null("timestamp"))

    times = [sided(-1, 1), sided(-1, 2), sided(-2, 1)]
    first = _earliest(times)
    return ibis.ifelse(here[f"{name}_deviates"], first, ibis.null("timestamp"))


def as_first_known(rows: Table, name: str) -> Any:
    """Value when its row became available, including spikes found later."""
    later = rows[f"{name}_spiked_at"] > rows.available_at
    return ibis.ifelse(later.fill_null(False), rows[f"{name}_spiked"], rows[name])


def leaves_at(rows: Table) -> Any:
    """When the first state of a row ended: superseded, or a value found to be a spike after the row became available."""
    found = [rows[f"{name}_spiked_at"] for name in SPIKES_IN_TIME]
    later = [ibis.ifelse(at > rows.available_at, at, ibis.null("timestamp")) for at in found]
    return _earliest([rows.superseded_at, *later]).cast(rows.available_at.type())


def _earliest(times: Sequence[Any]) -> Any:
    """The earliest of times that may be null."""
    return reduce(lambda one, other: ibis.coalesce(ibis.least(one, other), one, other), times)
