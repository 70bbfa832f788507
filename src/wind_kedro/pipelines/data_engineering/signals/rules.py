"""Values that no turbine measured although they could be: sensors that are stuck, spikes, units. Each rule is one function.

A rule says what it looks at, and makes an expression of it. All look along one order (a turbine's first versions by time), so
that the tables' engine sorts once; what takes more than a few neighbours to say is asked only of the rows that it can be true of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, Literal

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.pipelines.data_engineering.parse.enums import enum_value
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, Spike, Spiky, Stuck
from wind_kedro.pipelines.data_engineering.signals.unit_checks import suspected_signals, with_suspicions
from wind_kedro.pipelines.data_engineering.signals.windows import Looks
from wind_kedro.pipelines.data_engineering.tables import Table, held, microseconds

#: How many intervals before and behind a spike are looked at.
NEIGHBOURS = 2
#: More intervals than there are between 1970 and any time of ours, were they seconds: three hundred years.
_INTERVALS = 10_000_000_000
#: The values of observations: for them it matters when a spike was found.
SPIKES_IN_TIME = ("power_kw", "wind_speed_ms")
_SPIKED: tuple[Spiky, ...] = ("power_kw", "wind_speed_ms", "temperature_c")
#: What moves the other signals: the wind all, and power shows that there is wind.
_MOVERS = ("power_kw", "wind_speed_ms")
_ENDS: dict[str, Literal["least", "greatest"]] = {"low": "least", "high": "greatest"}


def numbers_of_farms(fleet: Fleet) -> dict[str, int]:
    """Each farm's number in the fleet: text is slow to look up, to hold and to count by."""
    return {farm.id: number for number, farm in enumerate(fleet.farms)}


def turbines_of(fleet: Fleet) -> pd.DataFrame:
    """One row per turbine: ``farm_id``, ``turbine_id``, ``rated`` (kW), ``unit`` (its number in the fleet, for sorting)."""
    turbines = [(farm.id, turbine.id, turbine.rated_power_kw) for farm in fleet.farms for turbine in farm.turbines]
    table = pd.DataFrame(turbines, columns=["farm_id", "turbine_id", "rated"])
    return table.assign(unit=range(len(table)))


def with_turbines(rows: Table, fleet: Fleet) -> Table:
    """Add ``rated`` and ``unit``; null for a turbine that no card names."""
    import ibis

    rows = rows.left_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    return rows.drop("farm_id_right", "turbine_id_right")


def cadences_of(fleet: Fleet) -> list[int]:
    """Lengths of the fleet's turbine intervals, seconds: frames of rows need numbers, and few fleets have many."""
    return sorted({farm.signals.cadence_seconds for farm in fleet.farms})


def by_cadence(fleet: Fleet, rule: Callable[[int], Any]) -> Any:
    """``rule(cadence)`` for the rows of each cadence of the fleet."""
    import ibis

    first, *others = cadences_of(fleet)
    if not others:
        return rule(first)
    return ibis.cases(*((ibis._.cadence == cadence, rule(cadence)) for cadence in [first, *others]))


def clean_values(rows: Table, suspected_units: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """Null what is stuck, a spike or in another unit, and say so in ``<signal>_fault``.

    Only first versions are judged. ``stuck`` is judged by what came before, and holds from the row's arrival. ``spike`` needs
    what came behind: until then the value counts. So ``<signal>_spiked`` keeps it and ``<signal>_spiked_at`` says until when,
    for the values of which observations are made; both are null in all other rows. A ``unit`` is judged of all versions, and
    counts like a spike until it was found (`suspect_units`); a value of another signal that came before stays.

    Args:
        rows: rows in time with their status and version, see `time_signals`, and their turbines (`with_turbines`).
        suspected_units: contract `SuspectedUnits`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    import ibis

    columns = [
        *(name for name in rows.columns if name not in ("unit", "rated")),
        *(f"{name}_suspected_at" for name in suspected_signals(suspected_units)),
    ]
    rows = _without_known_units(with_suspicions(rows, suspected_units, "valid_at"), suspected_units)
    rows = rows.mutate(judged=rows.status.isin(["kept", "superseded"]) & (rows.version == 0))
    # Sorting costs by the width of a row: what is judged is sorted without all else, and only what is struck is joined back.
    struck = held(_struck(rows.filter(rows.judged), fleet, data_engineering))
    rows = rows.left_join(struck, ["unit", "valid_at"])
    cleaned: dict[str, Any] = {}
    for name in sorted({*data_engineering.stuck.minutes, *_SPIKED}):
        no = ibis.literal(False)
        stays = (rows.judged & rows[f"{name}_stuck"]).fill_null(False) if f"{name}_stuck" in struck.columns else no
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
    """Null what was known to be in another unit when it came."""
    import ibis

    for name in suspected_signals(suspected_units):
        known = (rows[f"{name}_suspected_at"] <= rows.available_at).fill_null(False)
        struck = known & (rows[name].notnull() | (rows[f"{name}_fault"] == "out_of_range").fill_null(False))
        rows = rows.mutate(
            **{
                name: ibis.ifelse(struck, ibis.null("float64"), rows[name]),
                f"{name}_fault": ibis.ifelse(struck, enum_value(rows, "unit"), rows[f"{name}_fault"]),
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
                    f"{name}_fault": ibis.ifelse(struck, enum_value(rows, "unit"), rows[f"{name}_fault"]),
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


def _struck(judged: Table, fleet: Fleet, data_engineering: DataEngineering) -> Table:
    """The turbine intervals with a value that is no measurement: ``<signal>_stuck``, and ``<signal>_found_at`` of a spike.

    Hardly any value repeats or stands off: one order of all rows finds those that do, and the rules judge them alone, with
    their neighbours.
    """
    import ibis

    still, off = data_engineering.stuck, data_engineering.spike
    seen = {*still.minutes, *_SPIKED, "pitch_deg"}
    rows = judged.select("unit", "rated", "cadence", "valid_at", "available_at", *sorted(seen), place=_place(judged))
    # Both held: an engine that does not know which are few looks the many up among the few the wrong way round.
    rows = held(rows)
    rows = rows.semi_join(held(_with_neighbours(_conspicuous(rows, still, off))), "place")
    looks = Looks(rows, ["unit"], "valid_at")
    repeated = {f"{name}_repeats": repeats(looks, name) for name in still.minutes}
    standing = {f"{name}_stands_off": stands_off(looks, name, off) for name in _SPIKED}
    found = {f"{name}_found_at": spike(looks, name, off) for name in _SPIKED}
    ends = {f"{name}_{end}": _of_three(looks, name, how) for name in _MOVERS for end, how in _ENDS.items()}
    follows = {
        _follows(place): looks.at("valid_at", place) == rows.valid_at + (rows.cadence * place).as_interval("s")
        for place in range(-NEIGHBOURS, NEIGHBOURS + 1)
        if place
    }
    came = _of_three(looks, "available_at", "greatest")
    rows = looks.made().mutate(**repeated, **standing)
    rows = rows.filter(reduce(lambda one, other: one | other, [rows[name] for name in [*repeated, *standing]]))
    rows = rows.mutate(**follows).mutate(**found, **ends, all_came_at=came)
    in_a_row = ibis._[_follows(-1)] & ibis._[_follows(-2)]
    rows = rows.mutate(**{name: (ibis._[name] & in_a_row).fill_null(False) for name in repeated})
    rows = rows.drop(*looks.names, *follows, *standing)
    for name in still.minutes:
        again = Looks(rows, ["unit", f"{name}_repeats"], "valid_at")
        struck = by_cadence(fleet, partial(stuck, again, name, still))
        rows = again.made().mutate(**{f"{name}_stuck": struck}).drop(*again.names)
    stuck_for = [f"{name}_stuck" for name in still.minutes]
    strikes = [rows[name] for name in stuck_for] + [rows[name].notnull() for name in found]
    rows = rows.filter(reduce(lambda one, other: one | other, strikes))
    return rows.select("unit", "valid_at", *stuck_for, *found)


def _conspicuous(rows: Table, still: Stuck, off: Spike) -> Table:
    """The places (`_place`) of all rows that can be struck, and not many more: like the two before, or unlike one of the two.

    In one order of numbers, rows are sorted in half the time that orders by turbine take. The first rows of a turbine are
    compared with the last of another, which does no harm.
    """
    names = sorted({*still.minutes, *_SPIKED})
    rows = rows.select("unit", "rated", "place", *names)
    # Spark has no such order for several machines, and deals rows out by turbine.
    looks = Looks(rows, [] if rows.get_backend().name == "duckdb" else ["unit"], "place")
    seen = [repeats(looks, name) for name in still.minutes]
    seen += [far(looks, name, before, off) for name in _SPIKED for before in (-1, -2)]
    return looks.made().filter(reduce(lambda one, other: one | other, seen)).select("place")


def _place(rows: Table) -> Any:
    """Turbine and interval as one number: neighbours in time have neighbouring numbers."""
    return rows.unit * _INTERVALS + microseconds(rows, "valid_at") // (rows.cadence * 1_000_000)


def _with_neighbours(places: Table) -> Table:
    """These places, and those so near that a rule looks at them."""
    near = [places.select(place=places.place + step) for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]
    return reduce(lambda one, other: one.union(other), near)


def _follows(place: int) -> str:
    """Column: whether the row so many places behind (negative: before) is of the interval there, without a gap."""
    return f"follows:{place:+d}"


def _of_three(looks: Looks, column: str, how: Literal["least", "greatest"]) -> Any:
    """Of a row and the two before it."""
    import ibis

    return getattr(ibis, how)(ibis._[column], looks.at(column, -1), looks.at(column, -2))


def repeats(looks: Looks, name: str) -> Any:
    """Whether a value is that of the two rows before, to the last digit: no fewer are a repetition."""
    import ibis

    value = ibis._[name]
    return (value == looks.at(name, -1)) & (value == looks.at(name, -2))


def stuck(looks: Looks, name: str, settings: Stuck, cadence: int) -> Any:
    """A value that repeats to the last digit while what moves it moved: from the given repetition on.

    Looked at are the rows that repeat the two before them, two fewer than values that are the same; what moves it is that of
    all three rows. All were there in time if the last could only be used after them: so a late row can take a row's past away,
    and never give it one, and what a live run saw is what any later run sees.
    """
    import ibis

    here = ibis._
    count = max(settings.min_repetitions, settings.minutes[name] * 60 // cadence) - 2
    mover, least = (
        ("power_kw", here.rated * settings.power_moves_share)
        if name == "wind_speed_ms"
        else ("wind_speed_ms", settings.wind_moves_ms)
    )
    moved = (looks.last("greatest", f"{mover}_high", count) - looks.last("least", f"{mover}_low", count)) >= least
    if name == "power_kw":
        low, high = settings.power_between_share
        moved = moved & here.power_kw.between(here.rated * low, here.rated * high)
    in_time = looks.last("greatest", "all_came_at", count) <= here.available_at
    return (here[f"{name}_repeats"] & looks.follow(count, cadence) & in_time & moved).fill_null(False)


def far(looks: Looks, name: Spiky, place: int, settings: Spike) -> Any:
    """Whether a value differs from that so many rows behind (negative: before) by as much as a spike does."""
    import ibis

    here = ibis._
    least: Any = here.rated * settings.least[name] if name == "power_kw" else settings.least[name]
    return (here[name] - looks.at(name, place)).abs() >= least


def stands_off(looks: Looks, name: Spiky, settings: Spike) -> Any:
    """Whether a value is so far from those on both sides that it can be a spike, or one of two."""
    import ibis

    def off(place: int) -> Any:
        return far(looks, name, place, settings)

    both = (off(-1) & (off(1) | off(2))) | (off(-2) & off(1))
    return both & (ibis._.cadence <= settings.max_cadence_minutes * 60)


def spike(looks: Looks, name: Spiky, settings: Spike) -> Any:
    """When a value was found to be a spike; null if it is none.

    A spike stands off both sides by at least the threshold of its signal, the sides agree, and nothing that would have
    moved with a true step did: power moves with the wind and the blades, the wind with power. One or two values can be
    off; so the sides are the intervals before and behind, or those around a second one that is off likewise.
    """
    import ibis

    here = ibis._
    value = here[name]
    least: Any = here.rated * settings.least[name] if name == "power_kw" else settings.least[name]

    def near(column: str, place: int) -> Any:
        return looks.at(column, place)

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
            # Blades that turn out of the wind for an interval make a true dip: a short stop.
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
    # The first of the three that could be told: a later one says nothing new.
    first = reduce(lambda one, other: ibis.coalesce(ibis.least(one, other), one, other), times)
    return ibis.ifelse(here[f"{name}_stands_off"], first, ibis.null("timestamp"))


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
