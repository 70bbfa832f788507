"""Production of an entity known at each issue: power, errors of a power curve, availability."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from wind_kedro.cards import Steps
from wind_kedro.cards.dated import total

from .arrays import MINUTE, FloatArray, TimeArray, looked_up, naive
from .settings import FeatureParameters


def known_production(
    issued_at: TimeArray,
    observations: pd.DataFrame,
    expected: tuple[TimeArray, FloatArray],
    capacity_by_farm: Mapping[str, Steps],
    families: Collection[str],
    parameters: FeatureParameters,
) -> dict[str, FloatArray]:
    """The production of an entity that was known at each issue time; arrays of one value per issue.

    Of every interval the newest version that had arrived counts. ``last_…`` are of the newest interval known, if not older than
    the memory, ``…_mean_<n>h`` are means over the intervals known of the last n hours before the issue.

    Args:
        issued_at: the issue times.
        observations: contract `Observations`, of the entity and one granularity.
        expected: intervals, rising, and the power of each by the curve; see `errors_by_interval`.
        capacity_by_farm: installed capacity of the entity's farms by time, kW.
        families: production, errors, availability, or some of them.
        parameters: spans and memory.
    """
    wanted = {
        "production": ["last_power_share", "last_power_age_minutes", *_means("power_share", parameters.production_mean_hours)],
        "errors": ["last_error_share", *_means("error_share", parameters.error_mean_hours)],
        "availability": ["last_available_share", "last_stopped_share", "last_curtailed_share"],
    }  # fmt: skip
    names = [name for family, columns in wanted.items() if family in families for name in columns]
    result = {name: np.full(len(issued_at), np.nan) for name in names}
    if observations.empty or not names:
        return result
    # Arrays: a fleet has thousands of these tables, and pandas would take longer to sort each than to read it.
    valid, arrived = naive(observations["valid_at"]), naive(observations["available_at"])
    order = np.lexsort((arrived, valid))
    valid, arrived = valid[order], arrived[order]

    def column(name: str) -> FloatArray:
        return observations[name].to_numpy(float)[order]

    available_kw = column("available_capacity_kw")
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {
            "power_share": column("power_kw") / available_kw,
            "available_share": available_kw / total(capacity_by_farm.values(), valid),
            "stopped_share": column("stopped_share"),
            "curtailed_share": column("curtailed_share"),
        }
    values["error_share"] = values["power_share"] - looked_up(valid, *expected)
    hours_of = {"power_share": parameters.production_mean_hours, "error_share": parameters.error_mean_hours}
    spans = {
        name: (stem, hours)
        for stem, every in hours_of.items()
        for hours, name in zip(every, _means(stem, every), strict=True)
        if name in result
    }
    memory = np.timedelta64(parameters.production_memory_hours, "h")
    longest = max([memory, *(np.timedelta64(hours, "h") for _, hours in spans.values())])
    starts, ends = np.searchsorted(valid, issued_at - longest), np.searchsorted(valid, issued_at)
    for number, (issue, start, end) in enumerate(zip(issued_at, starts, ends, strict=True)):
        rows = np.arange(start, end)[arrived[start:end] <= issue]
        if not len(rows):
            continue
        # Versions of an interval lie next to each other, oldest first: the last of them counts.
        rows = rows[np.append(valid[rows][1:] != valid[rows][:-1], True)]
        remembered = rows[valid[rows] >= issue - memory]
        for stem in values:
            # Not every interval was forecast: the newest error known may be older than the newest power.
            known = remembered[~np.isnan(values[stem][remembered])]
            if (name := f"last_{stem}") in result and len(known):
                result[name][number] = values[stem][known[-1]]
        if "last_power_age_minutes" in result and len(remembered):
            result["last_power_age_minutes"][number] = (issue - valid[remembered[-1]]) / MINUTE
        for name, (stem, hours) in spans.items():
            of_span = values[stem][rows[valid[rows] >= issue - np.timedelta64(hours, "h")]]
            known = of_span[~np.isnan(of_span)]
            if len(known):
                result[name][number] = known.mean()
    return result


def _means(stem: str, hours: Sequence[int]) -> list[str]:
    return [f"{stem}_mean_{count}h" for count in hours]
