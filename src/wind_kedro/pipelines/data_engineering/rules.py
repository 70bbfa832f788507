"""Values that no turbine measured although they could be: sensors that are stuck, spikes, units. Each rule is one function.

A rule turns the columns of a table into a true-or-false expression. All share one order (a turbine's first versions by time),
so that the tables' engine sorts once.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import pandas as pd

from wind_kedro.cards import Fleet

from ._tables import Table
from .settings import DataEngineering, Spike, Spiky, Stuck
from .units import suspected_signals, with_suspicions

#: How many intervals before and behind a spike are looked at.
NEIGHBOURS = 2
#: The values of observations: for them it matters when a spike was found.
SPIKES_IN_TIME = ("power_kw", "wind_speed_ms")
_SPIKED: tuple[Spiky, ...] = ("power_kw", "wind_speed_ms", "temperature_c")


def turbines_of(fleet: Fleet) -> pd.DataFrame:
    """One row per turbine: ``farm_id``, ``turbine_id``, ``rated`` (kW)."""
    return pd.DataFrame(
        {"farm_id": farm.id, "turbine_id": turbine.id, "rated": turbine.rated_power_kw}
        for farm in fleet.farms
        for turbine in farm.turbines
    )


def cadences_of(fleet: Fleet) -> list[int]:
    """Lengths of the fleet's turbine intervals, seconds: frames of rows need numbers, and few fleets have many."""
    return sorted({farm.signals.cadence_seconds for farm in fleet.farms})


def by_cadence(rows: Table, fleet: Fleet, rule: Any) -> Any:
    """``rule(cadence)`` for the rows of each cadence of the fleet."""
    import ibis

    first, *others = cadences_of(fleet)
    if not others:
        return rule(first)
    return ibis.cases(*((rows.cadence == cadence, rule(cadence)) for cadence in [first, *others]))


def back(order: dict[str, list[str]], count: int) -> Any:
    """The row and those before it, ``count`` in all."""
    import ibis

    return ibis.window(**order, preceding=count - 1, following=0)


def whole(rows: Table, frame: Any, count: int, cadence: int) -> Any:
    """Whether the frame's rows follow each other without a gap, and all were there when the last could be used.

    So a late row can take a row's past away, and never give it one: what a live run saw is what any later run sees.
    """
    since = rows.valid_at - (rows.cadence * 0 + cadence * (count - 1)).as_interval("s")
    return (rows.valid_at.min().over(frame) == since) & (rows.available_at.max().over(frame) <= rows.available_at)


def clean_values(rows: Table, suspected_units: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Null what is stuck, a spike or in another unit, and say so in ``<signal>_fault``.

    Only first versions are judged. ``stuck`` is judged by what came before, and holds from the row's arrival. ``spike`` needs
    what came behind: until then the value counts. So ``<signal>_spiked`` keeps it and ``<signal>_spiked_at`` says until when,
    for the values of which observations are made; both are null in all other rows. A ``unit`` is judged of all versions, and
    counts like a spike until it was found (`suspect_units`); a value of another signal that came before stays.

    Args:
        rows: rows in time with their status and version, see `time_signals`.
        suspected_units: contract `SuspectedUnits`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    import ibis

    rows = rows.left_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    rows = rows.drop("farm_id_right", "turbine_id_right")
    rows = _without_known_units(with_suspicions(rows, suspected_units, "valid_at"), suspected_units)
    rows = rows.mutate(judged=rows.status.isin(["kept", "superseded"]) & (rows.version == 0))
    order = {"group_by": ["farm_id", "turbine_id", "judged"], "order_by": ["valid_at", "source_row"]}
    made = {
        f"{name}_stuck": by_cadence(rows, fleet, partial(stuck, rows, order, name, data_engineering.stuck))
        for name in data_engineering.stuck.minutes
    }
    rows = rows.mutate(**made, **_neighbours(rows, order))
    columns = [*rows.columns]
    found = {name: spike(rows, name, data_engineering.spike) for name in _SPIKED}
    rows = rows.mutate(**{f"{name}_found_at": at for name, at in found.items()})
    cleaned: dict[str, Any] = {}
    for name in sorted({*data_engineering.stuck.minutes, *_SPIKED}):
        still = (
            (rows.judged & rows[f"{name}_stuck"]).fill_null(False)
            if f"{name}_stuck" in columns
            else ibis.literal(False)
        )
        off = rows.judged & ~still & rows[f"{name}_found_at"].notnull() if name in _SPIKED else ibis.literal(False)
        cleaned[name] = ibis.ifelse(still | off, ibis.null("float64"), rows[name])
        cleaned[f"{name}_fault"] = ibis.cases((still, "stuck"), (off, "spike"), else_=rows[f"{name}_fault"])
        if name in SPIKES_IN_TIME:
            cleaned[f"{name}_spiked"] = ibis.ifelse(off, rows[name], ibis.null("float64"))
            cleaned[f"{name}_spiked_at"] = ibis.ifelse(off, rows[f"{name}_found_at"], ibis.null("timestamp"))
    helpers = [column for column in columns if column.startswith("near_") or column.endswith("_stuck")]
    rows = rows.mutate(**cleaned).drop("judged", "rated", *helpers, *(f"{name}_found_at" for name in _SPIKED))
    return _without_units_found_later(rows, suspected_units)


def _without_known_units(rows: Table, suspected_units: pd.DataFrame) -> Table:
    """Null what was known to be in another unit when it came."""
    import ibis

    for name in suspected_signals(suspected_units):
        known = (rows[f"{name}_suspected_at"] <= rows.available_at).fill_null(False)
        struck = known & (rows[name].notnull() | (rows[f"{name}_fault"] == "out_of_range").fill_null(False))
        rows = rows.mutate(
            **{
                name: ibis.ifelse(struck, ibis.null("float64"), rows[name]),
                f"{name}_fault": ibis.ifelse(struck, "unit", rows[f"{name}_fault"]),
            }
        )
    return rows


def _without_units_found_later(rows: Table, suspected_units: pd.DataFrame) -> Table:
    """What was found to be in another unit after it came counts until then, as a spike does."""
    import ibis

    for name in suspected_signals(suspected_units):
        found_at = rows[f"{name}_suspected_at"]
        if name in SPIKES_IN_TIME:
            late = (found_at > rows.available_at).fill_null(False)
            struck = late & rows[name].notnull()
            spiked_at = rows[f"{name}_spiked_at"]
            rows = rows.mutate(
                **{
                    name: ibis.ifelse(struck, ibis.null("float64"), rows[name]),
                    f"{name}_fault": ibis.ifelse(struck, "unit", rows[f"{name}_fault"]),
                    f"{name}_spiked": ibis.ifelse(struck, rows[name], rows[f"{name}_spiked"]),
                    f"{name}_spiked_at": ibis.cases(
                        (struck, found_at),
                        (late & spiked_at.notnull(), ibis.least(spiked_at, found_at)),
                        else_=spiked_at,
                    ),
                }
            )
        rows = rows.drop(f"{name}_suspected_at")
    return rows


def stuck(rows: Table, order: dict[str, list[str]], name: str, settings: Stuck, cadence: int) -> Any:
    """A value that repeats to the last digit while what moves it moved: from the given repetition on."""
    count = max(settings.min_repetitions, settings.minutes[name] * 60 // cadence)
    frame = back(order, count)
    there = (rows[name].count().over(frame) == count) & whole(rows, frame, count, cadence)
    same = rows[name].min().over(frame) == rows[name].max().over(frame)
    mover, least = (
        ("power_kw", settings.power_moves_share * rows.rated)
        if name == "wind_speed_ms"
        else ("wind_speed_ms", settings.wind_moves_ms)
    )
    moved = (rows[mover].max().over(frame) - rows[mover].min().over(frame)) >= least
    if name == "power_kw":
        low, high = settings.power_between_share
        moved = moved & rows.power_kw.between(low * rows.rated, high * rows.rated)
    return there & same & moved


def _neighbours(rows: Table, order: dict[str, list[str]]) -> dict[str, Any]:
    """``near_<column>_<place>`` for the two intervals before and behind: null if that interval is not there."""
    import ibis

    window = ibis.window(**order)
    near = {}
    for place in (*range(-NEIGHBOURS, 0), *range(1, NEIGHBOURS + 1)):
        there = _at(rows.valid_at, place).over(window) == rows.valid_at + (rows.cadence * place).as_interval("s")
        for column in ("available_at", *_SPIKED, "pitch_deg"):
            kind = "timestamp" if column == "available_at" else "float64"
            near[f"near_{column}_{place}"] = ibis.ifelse(there, _at(rows[column], place).over(window), ibis.null(kind))
    return near


def _at(column: Any, place: int) -> Any:
    return column.lead(place) if place > 0 else column.lag(-place)


def spike(rows: Table, name: Spiky, settings: Spike) -> Any:
    """When a value was found to be a spike; null if it is none.

    A spike stands off both sides by at least the threshold of its signal, the sides agree, and nothing that would have
    moved with a true step did: power moves with the wind and the blades, the wind with power. One or two values can be
    off; so the sides are the intervals before and behind, or those around a second one that is off likewise.
    """
    import ibis

    value = rows[name]
    least = settings.least[name] * (rows.rated if name == "power_kw" else 1.0)

    def near(column: str, place: int) -> Any:
        return rows[f"near_{column}_{place}"] if place else rows[column]

    def sided(left: int, right: int) -> Any:
        before, behind = near(name, left), near(name, right)
        up, down = ibis.least(value - before, value - behind), ibis.least(before - value, behind - value)
        off = ibis.greatest(up, down)
        agree = (before - behind).abs() <= settings.sides_agree_share * off
        if (left, right) == (-1, 1):
            agree &= (near(name, -2) - before).abs() <= settings.sides_agree_share * off
        else:
            second = near(name, -1 if left == -NEIGHBOURS else 1)
            agree &= ((second - before) * (value - before) > 0) & ((second - before).abs() >= least)

        def moved(column: str) -> Any:
            return near(column, 0).abs() - (near(column, left).abs() + near(column, right).abs()) / 2

        if name == "power_kw":
            wind = ibis.greatest(ibis.ifelse(up > down, moved("wind_speed_ms"), -moved("wind_speed_ms")), 0.0)
            found = off - (settings.power_per_ms * rows.rated * wind).fill_null(0.0) >= least
            # Blades that turn out of the wind for an interval make a true dip: a short stop.
            found &= (up > down) | (moved("pitch_deg") <= settings.pitch_still_deg).fill_null(True)
        elif name == "wind_speed_ms":
            found = (off >= least) & (moved("power_kw").abs() <= settings.power_still_share * rows.rated).fill_null(
                True
            )
        else:
            found = off >= least
        places = sorted({left, -1, 0, right - 1, right} | ({-2} if (left, right) == (-1, 1) else set()))
        known = reduce(ibis.greatest, [near("available_at", place) for place in places])
        return ibis.ifelse(found & agree, known, ibis.null("timestamp"))

    times = [sided(-1, 1), sided(-1, 2), sided(-2, 1)]
    # The first of the three that could be told: a later one says nothing new.
    first = reduce(lambda one, other: ibis.coalesce(ibis.least(one, other), one, other), times)
    return ibis.ifelse(rows.cadence <= settings.max_cadence_minutes * 60, first, ibis.null("timestamp"))


def as_first_known(rows: Table, name: str) -> Any:
    """A value as it was when its row could first be used: a spike that was found later still counts."""
    import ibis

    later = rows[f"{name}_spiked_at"] > rows.available_at
    return ibis.ifelse(later.fill_null(False), rows[f"{name}_spiked"], rows[name])


def leaves_at(rows: Table) -> Any:
    """When a row as it came was in force no more: superseded, or one of its values found to be a spike after it was used."""
    import ibis

    found = [rows[f"{name}_spiked_at"] for name in SPIKES_IN_TIME]
    later = [ibis.ifelse(at > rows.available_at, at, ibis.null("timestamp")) for at in found]
    left = reduce(lambda one, other: ibis.coalesce(ibis.least(one, other), one, other), [rows.superseded_at, *later])
    return left.cast(rows.available_at.type())
