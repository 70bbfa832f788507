"""Find the turbines and their rated power."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from wind_kedro.cards import SHARE, UNIT_CONVERSIONS

from . import names, physics
from .findings import Findings
from .layouts import Series, Table, in_order

#: Identifiers with less than this share of the usual number of rows are no turbines.
_RARE = 0.01


def find_turbines(table: Table, power: Series | None, found: Findings) -> None:
    """Find identifiers and ratings: ``rated_power_kw`` if all turbines are alike, else ``rated_power_kw.<turbine>``."""
    counts = Counter(str(one) for one in table.turbine)
    usual = float(np.median(list(counts.values())))
    often = in_order([one for one in counts if counts[one] >= _RARE * usual and one.strip()])
    rare = [one for one in counts if one not in often]
    total = None
    if power is not None:  # the farm's meter is no turbine
        rows = pd.DataFrame({"at": table.wall.to_numpy(), "id": table.turbine.astype(str), "power": power.values})
        by_id = rows.pivot_table(index="at", columns="id", values="power", aggfunc="first")
        total = physics.sum_of_the_others({one: by_id[one].to_numpy() for one in often if one in by_id})
    often = [one for one in often if one != total]
    if table.one_meter:
        why = "no turbine is named: one meter for the farm, or one turbine"
    else:
        why = f"{len(often)} turbines" + (f"; too rare to be turbines: {', '.join(rare[:3])}" if rare else "")
        why += "" if table.every_turbine else "; parts of the sample have different ones, so there may be more"
    why += f"; the power of '{total}' is the sum of theirs" if total is not None else ""
    ids = [str(one) for one in found.add("turbines", often, why, proven=not table.one_meter and table.every_turbine)]
    if power is None:
        found.asked("rated_power_kw", None, "the column of power is not known")
        found.asked("capacity_kw", None, "the column of power is not known")
    else:
        _find_ratings(table, power, ids, found)
    # A column may name farms or zones, if neither its name nor a rating shows that it names turbines.
    column, finding = found.value("signals.turbine"), found.by_field["turbines"]
    shown = column is None or names.has_term(column, "turbine") or found.is_proven("rated_power_kw")
    if not shown and finding.proven and "turbines" not in found.given:
        found.asked("turbines", finding.value, f"{finding.evidence} by '{column}', if it names turbines")


def _find_ratings(table: Table, power: Series, ids: list[str], found: Findings) -> None:
    unit = str(found.value("signals.columns.power_kw.unit"))
    power_kw = power.values * UNIT_CONVERSIONS.get((unit, "kW"), (1.0, 0.0))[0]
    sure = not table.one_meter and all(found.is_proven(f"signals.columns.power_kw.{what}") for what in ("unit", "name"))
    of = table.turbine.astype(str)
    ratings = {one: physics.rated_power_kw(power_kw[of == one]) for one in ids}
    if unit == SHARE:
        ratings = dict.fromkeys(ids, (None, False, "power is a share of an unknown rating"))
    if "capacity_kw" in found.given and "rated_power_kw" not in found.given:
        equal = float(found.given["capacity_kw"]) / len(ids)
        found.proven("rated_power_kw", equal, "the capacity that was given, in equal parts")
    elif len({value for value, _, _ in ratings.values()}) == 1 or "rated_power_kw" in found.given:
        first, _, why = ratings[ids[0]]
        found.add("rated_power_kw", first, why, proven=sure and all(proven for _, proven, _ in ratings.values()))
    else:
        # A curtailed turbine has a plateau too, so differing ratings are asked.
        for one, (value, _, why) in ratings.items():
            found.asked(f"rated_power_kw.{one}", value, why)
    for one in ids:
        if f"rated_power_kw.{one}" in found.given:
            found.proven(f"rated_power_kw.{one}", None, "")
    fields = [f"rated_power_kw.{one}" if f"rated_power_kw.{one}" in found.by_field else "rated_power_kw" for one in ids]
    rated = [found.value(field) for field in fields]
    total = None if None in rated else float(sum(float(value) for value in rated))
    found.add("capacity_kw", total, f"the sum of {len(ids)} turbines", proven=all(map(found.is_proven, fields)))
