"""Detection of power and wind speed in another unit than the card declares, such as kW for MW or m/s for km/h.

Below rated power, power is half of air density times rotor area times the power coefficient times the cube of the wind speed.
A wrong unit is a constant factor over the whole day, which weather cannot cause.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import SHARE, SIGNAL_UNITS, UNIT_CONVERSIONS, Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import SuspectedUnits
from wind_kedro.datasets.derived import Derived
from wind_kedro.pipelines.data_engineering.settings import DataEngineering, Units
from wind_kedro.pipelines.data_engineering.tables import Floats, Table, exact, ibis
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, around, mixed, of_cards

#: Change it when the daily sums, or the suspicions, change that the same input gives.
DAYS_VERSION, VERSION = 1, 1
#: Factors between units of power that are confused.
_POWERS = (1.0, 1000.0, 0.001)
#: Range in which power follows the cube of the wind speed, share of rated power.
_BELOW_RATED = (0.05, 0.8)
#: Range of wind speeds compared, as multiples of the wind speed at rated power; excludes faulty values.
_WIND_SHARE = (0.02, 20.0)
_WATTS_PER_KW = 1000.0
_FAR_FUTURE = pd.Timestamp(9999, 1, 1).as_unit("us")
_FAR_PAST = pd.Timestamp(1, 1, 1).as_unit("us")


def derive_turbine_days(parsed_signals: Derived, fleet: Fleet, data_engineering: DataEngineering) -> Recipe:
    """Sum up the rows of turbines and days (`daily_sums`): one shard per farm and day of the stamps."""
    settings = data_engineering.units
    days = around(parsed_signals.days, ["farm_id"])
    days = days[(days["day"] != NO_DAY) & days["farm_id"].isin([farm.id for farm in fleet.farms])]
    cards = {
        farm.id: [(turbine.id, turbine.rated_power_kw, turbine.rotor_diameter_m) for turbine in farm.turbines]
        for farm in fleet.farms
    }
    of_wind = [settings.power_coefficient, settings.air_density_kgm3, settings.specific_power_wm2]
    numbers = of_cards(cards, DAYS_VERSION, of_wind)
    step = numbers[days["farm_id"]].to_numpy()
    wanted = days[["farm_id", "day", "rows"]].assign(step=step, fingerprint=mixed(days["digest"], step))
    return Recipe(wanted, lambda part: daily_sums(parsed_signals.shards(part[["farm_id", "day"]]), fleet, settings))


def derive_suspected_units(turbine_days: Derived, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> Recipe:
    """Find turbines whose values are in another unit than declared (`suspect_units`): one shard per farm.

    A farm is assessed again when a day of it became known, or changed until it did.
    """
    as_of = pd.Timestamp(clock.as_of).tz_localize(None)
    days = turbine_days.days
    days = days[days["farm_id"].isin([farm.id for farm in fleet.farms])]
    known = days[days["first_known_at"] <= as_of]
    until = known["last_known_at"].where(known["last_known_at"] <= as_of, as_of)
    of_days = around(known.assign(digest=mixed(known["digest"], until), day=NO_DAY), ["farm_id"])
    cards = {
        farm.id: [farm.signals.cadence_seconds, [(name, column.unit) for name, column in farm.signals.columns.items()]]
        for farm in fleet.farms
    }
    numbers = of_cards(cards, VERSION, data_engineering.units)
    step = numbers[of_days["farm_id"]].to_numpy()
    wanted = of_days[["farm_id", "rows"]].assign(step=step, fingerprint=mixed(of_days["digest"], step))

    def work(part: pd.DataFrame) -> pd.DataFrame:
        rows = turbine_days.table()
        return suspect_units(rows.filter(rows.farm_id.isin(part["farm_id"].tolist())).to_pandas(), fleet, clock, data_engineering)

    return Recipe(wanted, work)


def suspect_units(turbine_days: pd.DataFrame, fleet: Fleet, clock: Clock, data_engineering: DataEngineering) -> pd.DataFrame:
    """Find turbines whose values are in another unit than their card declares, and the period.

    One row per farm, turbine, signal and period (contract `SuspectedUnits`). Every day of a turbine is classified from its rows
    that had arrived by the second midnight after the arrival of its first row; days with too little data are skipped.
    ``evidence_days`` consecutive days in another unit raise a suspicion (``found_at``), and as many days in the card's unit end
    it. It holds from ``since``, the day after the last day in the card's unit (null: there was none), to ``until``, when it
    ended (null: still open). Values under suspicion stay unused. Rows that arrive later never change an earlier finding.

    A day is classified by

    - power and wind speed, in rows between 5 and 80 % of rated power: their logarithms correlate (``min_correlation``), their
      distance scatters by at most ``max_scatter``, and it is nearest to that of another unit. The expected distance follows from
      `full_wind_ms`, later from the mean of the turbine's own valid days;
    - power alone, without wind speed: above twice rated power, or below a five-hundredth of it for ``alone_days``.

    ``turbine_days`` are the results of `daily_sums`, of all days.
    """
    settings = data_engineering.units
    days = turbine_days.rename(columns={"stamped_on": "day"})
    days = days[days["known_at"] <= pd.Timestamp(clock.as_of).tz_localize(None)]
    rows: list[dict[str, Any]] = []
    farms = {farm.id: farm for farm in fleet.farms}
    days = days.sort_values(["farm_id", "turbine_id", "known_at", "day"], ignore_index=True)
    for (farm_id, turbine_id), own in days.groupby(["farm_id", "turbine_id"], sort=True):
        farm = farms[str(farm_id)]
        for signal, verdict, needed in _verdicts(own.reset_index(drop=True), farm, settings):
            for stretch in _stretches(own, verdict, farm.signals.columns[signal].unit, needed):
                rows.append({"farm_id": farm_id, "turbine_id": turbine_id, "signal": signal} | stretch)
    return SuspectedUnits.table(rows)


def full_wind_ms(rated_power_kw: float, rotor_diameter_m: float | None, settings: Units) -> float:
    """Wind speed at which the cube law reaches rated power, m/s: the cube root of 2 P / (ρ cp A).

    Burton et al., Wind Energy Handbook, 3.2.
    """
    if rotor_diameter_m is None:
        power_per_area = settings.specific_power_wm2
    else:
        power_per_area = _WATTS_PER_KW * rated_power_kw / (math.pi * rotor_diameter_m**2 / 4)
    return float((2 * power_per_area / (settings.air_density_kgm3 * settings.power_coefficient)) ** (1 / 3))


# --- daily statistics ---------------------------------------------------------------------------------------------------


def daily_sums(parsed: Table, fleet: Fleet, settings: Units) -> pd.DataFrame:
    """Sums of logarithms and counts of rows by turbine and day of its stamps, by which `suspect_units` classifies the day.

    One row per turbine and day (``stamped_on``, read as UTC) with valid rows: sums over the rows that had arrived by
    ``known_at``, the second midnight after the first one arrived. Rows that arrive later change nothing.

    Args:
        parsed: parsed signals, with all rows of the days that are in it.
        fleet: the cards.
        settings: by which wind speed and power are compared.
    """
    full = [
        (farm.id, unit.id, unit.rated_power_kw, full_wind_ms(unit.rated_power_kw, unit.rotor_diameter_m, settings))
        for farm in fleet.farms
        for unit in farm.turbines
    ]
    turbines = ibis.memtable(pd.DataFrame(full, columns=["farm_id", "turbine_id", "rated", "full_wind"]))
    rows = parsed.filter(parsed.reason.isnull())
    # Includes values out of range, as values in a wrong unit are.
    values = {name: ibis.coalesce(rows[name], rows[f"{name}_outside"]) for name in ("power_kw", "wind_speed_ms")}
    rows = rows.select("farm_id", "turbine_id", "wall_clock_is_utc", "arrived", **values)
    rows = rows.inner_join(turbines, ["farm_id", "turbine_id"])
    low, high = _WIND_SHARE
    share, wind = rows.power_kw / rows.rated, rows.wind_speed_ms / rows.full_wind
    asked: dict[str, Any] = {}
    for place, times in enumerate(_POWERS):
        seen = share.between(_BELOW_RATED[0] * times, _BELOW_RATED[1] * times) & wind.between(low, high)
        # Logarithms may be undefined outside.
        x = exact(ibis.ifelse(seen, wind, 1.0).ln())
        y = exact(ibis.ifelse(seen, share / times, 1.0).ln())
        asked |= {
            f"n_{place}": seen.sum(), f"x_{place}": x.sum(), f"y_{place}": y.sum(), f"xx_{place}": exact(x * x).sum(),
            f"yy_{place}": exact(y * y).sum(), f"xy_{place}": exact(x * y).sum(),
        }  # fmt: skip
    asked |= {
        "power_small": share.between(1e-4, 2e-3).sum(),
        "power_usual": share.between(2e-3, 2).sum(),
        "power_large": share.between(2, 2000).sum(),
    }
    key = ["farm_id", "turbine_id", "stamped_on"]
    rows = rows.mutate(stamped_on=rows.wall_clock_is_utc.truncate("D"), came=rows.arrived.truncate("D"))
    by_arrival = rows.group_by([*key, "came"]).agg(**{name: sums.cast("float64") for name, sums in asked.items()})
    found = by_arrival.to_pandas().fillna(dict.fromkeys(asked, 0.0)).sort_values([*key, "came"])
    found["known_at"] = found.groupby(key)["came"].transform("min") + pd.Timedelta(days=2)
    known = found[found["came"] < found["known_at"]].groupby(key, as_index=False)
    days: pd.DataFrame = known.agg(dict.fromkeys(asked, "sum") | {"known_at": "first"})
    return days.astype({"stamped_on": "datetime64[us]", "known_at": "datetime64[us]"})


def of_turbine_days(rows: Table) -> dict[str, Any]:
    """Statistics: the times between which the day of each turbine becomes known (UTC without zone)."""
    return {"first_known_at": rows.known_at.min(), "last_known_at": rows.known_at.max()}


# --- classification of days ---------------------------------------------------------------------------------------------

#: Per day: the unit found (empty: unknown), and the evidence.
_Verdict = tuple[list[str], list[dict[str, Any]]]


def _verdicts(days: pd.DataFrame, farm: Farm, settings: Units) -> Iterator[tuple[str, _Verdict, int]]:
    """For each signal of the farm, the unit found on each day and the number of days needed as evidence."""
    columns = farm.signals.columns
    enough = settings.min_hours * 3600 / farm.signals.cadence_seconds
    powers = _others("power_kw", columns["power_kw"].unit) if "power_kw" in columns else {}
    if "power_kw" in columns and "wind_speed_ms" in columns:
        power, wind = _by_cube(days, powers, columns["power_kw"].unit, columns["wind_speed_ms"].unit, enough, settings)
        yield "power_kw", power, settings.evidence_days
        yield "wind_speed_ms", wind, settings.evidence_days
    elif "power_kw" in columns:
        verdict = _by_size(days, powers, columns["power_kw"].unit, enough)
        yield "power_kw", verdict, settings.alone_days


def _others(signal: str, unit: str) -> Mapping[float, str]:
    """Units that a unit may be confused with, by the factor by which values are then too large."""
    standard = SIGNAL_UNITS[signal]
    own = UNIT_CONVERSIONS[unit, standard][0]
    named: dict[float, str] = {}
    if unit == SHARE:  # relative to the turbine's rated power
        return named
    for (other, of), (factor, offset) in UNIT_CONVERSIONS.items():
        # Energies of an interval are confused with each other, not with power.
        alike = signal != "power_kw" or ("/" in unit) == ("/" in other)
        if of == standard and other not in {unit, SHARE} and offset == 0 and alike:
            named[own / factor] = other
    return named


def _by_cube(
    days: pd.DataFrame, powers: Mapping[float, str], power_unit: str, wind_unit: str, enough: float, settings: Units
) -> tuple[_Verdict, _Verdict]:
    """Units of power and wind speed, by the cube law."""
    counts = np.array([days[f"n_{place}"] for place in range(len(_POWERS))], dtype="float64")
    band = counts.argmax(axis=0)

    def of(name: str) -> Floats:
        stacked = np.array([days[f"{name}_{place}"] for place in range(len(_POWERS))], dtype="float64")
        chosen: Floats = stacked[band, np.arange(len(days))]
        return chosen

    n, x, y, xx, yy, xy = (of(name) for name in ("n", "x", "y", "xx", "yy", "xy"))
    with np.errstate(invalid="ignore", divide="ignore"):
        var_x, var_y, cov = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2, xy / n - x * y / n**2
        correlation = cov / np.sqrt(var_x * var_y)
        scatter = np.sqrt(np.maximum(var_x + var_y / 9 - 2 * cov / 3, 0.0))
        # Logarithm of the factor by which the wind speed is too high for the power.
        apart = x / n - y / n / 3
    conclusive = (n >= enough) & (correlation >= settings.min_correlation) & (scatter <= settings.max_scatter)
    units = {0.0: wind_unit} | {math.log(times): unit for times, unit in _others("wind_speed_ms", wind_unit).items()}
    steps = np.array(sorted(units))
    power: _Verdict = ([], [])
    wind: _Verdict = ([], [])
    good, goods = 0.0, 0
    for place, band_of_day in enumerate(band):
        experienced = goods >= settings.baseline_days
        off = apart[place] - (good / goods if experienced else 0.0)
        nearest = float(steps[np.abs(steps - off).argmin()]) if conclusive[place] else math.nan
        near = abs(nearest - off) <= (settings.tolerance if experienced else settings.first_tolerance)
        times = _POWERS[band_of_day]
        named = power_unit if times == 1.0 else _unit_by(powers, times)
        names, evidence = ("", ""), {}
        if conclusive[place] and near and named:
            names = (named, units[nearest])
            evidence = {
                "wind_for_its_power": round(math.exp(off), 3), "power_times": times, "rows": int(n[place]),
                "correlation": round(float(correlation[place]), 3),
            }  # fmt: skip
            if names == (power_unit, wind_unit):
                good, goods = good + apart[place], goods + 1
        for verdict, name in zip((power, wind), names, strict=True):
            verdict[0].append(name)
            verdict[1].append(evidence)
    return power, wind


def _unit_by(powers: Mapping[float, str], times: float) -> str:
    """The unit whose values are too large by this factor; empty if there is none."""
    return next((unit for other, unit in powers.items() if math.isclose(times, other)), "")


def _by_size(days: pd.DataFrame, powers: Mapping[float, str], unit: str, enough: float) -> _Verdict:
    """Unit of power by its magnitude alone."""
    small, usual, large = (days[f"power_{name}"].to_numpy() for name in ("small", "usual", "large"))
    units = np.select(
        [(large >= enough) & (large > usual), usual >= enough, (small >= enough) & (usual + large == 0)],
        [_unit_by(powers, 1000.0), unit, _unit_by(powers, 0.001)],
        default="",
    )
    evidence = [
        {"above_twice_rated": int(above), "below_a_five_hundredth": int(below), "between": int(between)}
        for below, between, above in zip(small, usual, large, strict=True)
    ]
    return units.tolist(), evidence


# --- periods ------------------------------------------------------------------------------------------------------------


def _stretches(days: pd.DataFrame, verdict: _Verdict, unit: str, needed: int) -> Iterator[dict[str, Any]]:
    """Periods in which a turbine's signal is under suspicion, from days in the order in which they became known."""
    units, evidence = verdict
    conclusive = [place for place, name in enumerate(units) if name]
    day, known_at = days["day"].tolist(), days["known_at"].tolist()
    suspected: dict[str, Any] | None = None
    run: list[int] = []
    last_good: pd.Timestamp | None = None
    free_from: pd.Timestamp | None = None
    for place in conclusive:
        other = units[place] != unit
        if run and (units[run[-1]] != unit) != other:
            run = []
        run.append(place)
        if suspected is None and other and len(run) == needed:
            since = None if last_good is None else last_good + pd.Timedelta(days=1)
            if free_from is not None and (since is None or since < free_from):
                since = free_from
            names = [units[of] for of in run]
            shown = {f"{day[of]:%Y-%m-%d}": evidence[of] for of in run}
            suspected = {
                "unit": unit,
                "suspected_unit": max(set(names), key=lambda name: (names.count(name), name)),
                "since": since,
                "found_at": known_at[place],
                "until": None,
                "evidence": json.dumps(shown),
            }
        elif suspected is not None and not other and len(run) == needed:
            # Found and ended at once: an imported history. Otherwise values were nulled on arrival, and the clock may place
            # them up to a day ahead.
            at_once = suspected["found_at"] == known_at[place]
            free_from = day[run[0]] if at_once else known_at[place] + pd.Timedelta(days=1)
            yield suspected | {"until": free_from}
            suspected = None
        if not other:
            last_good = day[place] if last_good is None else max(last_good, day[place])
    if suspected is not None:
        yield suspected


# --- use ----------------------------------------------------------------------------------------------------------------


def with_suspicions(rows: Table, suspected_units: pd.DataFrame, stamp: str) -> Table:
    """Add ``<signal>_suspected_at``: when the value's unit was found to be wrong; only for signals with any suspicion.

    Args:
        rows: rows of signals.
        suspected_units: contract `SuspectedUnits`.
        stamp: the column of their time.
    """
    for signal, own in suspected_units.groupby("signal"):
        found_at = f"{signal}_suspected_at"
        plain = own[["farm_id", "turbine_id"]].astype("str").assign(
            unit_since=own["since"].dt.tz_localize(None).fillna(_FAR_PAST),
            unit_until=own["until"].dt.tz_localize(None).fillna(_FAR_FUTURE),
            **{found_at: own["found_at"].dt.tz_localize(None)},
        )  # fmt: skip
        table = ibis.memtable(plain)
        same = [rows[name] == table[name] for name in ("farm_id", "turbine_id")]
        rows = rows.left_join(table, [*same, rows[stamp] >= table.unit_since, rows[stamp] < table.unit_until])
        rows = rows.drop("farm_id_right", "turbine_id_right", "unit_since", "unit_until")
    return rows


def suspected_signals(suspected_units: pd.DataFrame) -> list[str]:
    """Signals with any suspicion."""
    return sorted(suspected_units["signal"].unique().tolist())
