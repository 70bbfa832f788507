"""The findings of data quality."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.cards.dated import spans
from wind_kedro.clock import Clock
from wind_kedro.datasets.derived import Derived, frame_of
from wind_kedro.failures import Failure, failures_table
from wind_kedro.pipelines.data_engineering.assessment.counts import FAULTS, by_farm, total_counts
from wind_kedro.pipelines.data_engineering.assessment.statistics import of_signals, of_timed_signals
from wind_kedro.pipelines.data_engineering.parse.signals import of_parsed_signals, statistics_of
from wind_kedro.pipelines.data_engineering.settings import DataEngineering
from wind_kedro.pipelines.data_engineering.signals.aggregation import held_intervals
from wind_kedro.pipelines.data_engineering.tables import Table, naive
from wind_kedro.pipelines.data_engineering.timestamps.clock_sums import first_calibrations
from wind_kedro.pipelines.data_engineering.weather.recipes import of_judged
from wind_kedro.pipelines.data_engineering.weather.recipes import of_parsed as of_parsed_weather
from wind_kedro.readers.source_table import SourceRows

#: Messages of the reasons for quarantine.
REASONS: Mapping[str, str] = {
    "ragged": "rows have too few or too many values",
    "unknown_turbine": "rows are of a turbine that is on no card; add it to farms.yml, or leave its rows in quarantine",
    "bad_stamp": "rows have a time stamp that is not ISO 8601",
    "unparseable": "rows have a value that is not a number",
    "off_grid": "rows have a stamp between two intervals of the farm's cadence",
    "conflicting_stamp": "rows differ from another row of the same time and arrival, so that neither is used",
    "missing_wind": "rows have no wind speed at any height",
}
#: Messages of the operating states.
_OPERATING_STATES: Mapping[str, str] = {
    "stopped": "are of a turbine that stood still in sufficient wind; it does not count as available",
    "curtailed": "are of a turbine that was held below its power curve; it does not count as available",
    "derated": "are of a turbine that held one level below its power curve for hours; it does not count as available",
    "iced": "are below the power curve in frost; they are kept, as icing is an effect of the weather",
    "off_curve": "are off the power curve for an unknown reason: a start or stop within the interval, or a faulty sensor",
}

#: Of a weather source, in the table of runs.
_SOURCE = ["farm_id", "weather_model", "weather_point"]

_READINGS: Mapping[str, str] = {
    "as_stamped": "as stamped",
    "wall_clock_is_utc": "UTC, whatever their offset",
    "wall_clock_is_local": "the local wall clock, whatever their offset",
}


# --- data quality -----------------------------------------------------------------------------------------------------


@dataclass
class _Notes:
    """Adds findings about one table of one farm to ``rows``."""

    rows: list[dict[str, Any]]
    warning_share: float
    farm_id: str
    table: Literal["signals", "weather"]

    def add(self, check: str, signal: str, count: int, of: int, message: str, severity: str | None = None) -> None:
        """Add a finding; unless given, its severity follows from the share of rows affected."""
        if severity is None:
            severity = "warning" if count and count >= self.warning_share * of else "info"
        found = {"check": check, "signal": signal, "count": count, "of": of, "severity": severity, "message": message}
        self.rows.append({"farm_id": self.farm_id, "source_table": self.table, **found})


def assess_quality(
    signals_raw: SourceRows | Table,
    weather_raw: SourceRows | Table,
    parsed_signals: Derived | Table,
    timed_signals: Derived | Table,
    signal_counts: Derived | pd.DataFrame,
    signals: Derived | Table,
    parsed_weather: Derived | Table,
    judged_weather: Derived | Table,
    weather_runs: Derived | pd.DataFrame,
    quarantine: Derived | pd.DataFrame,
    clock_calibration: Derived | pd.DataFrame,
    suspected_units: Derived | pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    data_engineering: DataEngineering,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the findings in every farm's data, and list the data that cannot be used at all.

    One row per farm, table, check and signal (contract `DataQuality`), and one per finding of severity ``error`` that takes
    data from the run (contract `Failures`). For signals and weather, ``rows_in`` = ``kept`` + ``superseded`` + ``duplicate``
    + ``quarantined``, exactly. The counts come from different tables, so that a row lost between them is a finding
    ``rows_lost`` of severity ``error``.
    """
    rows: list[dict[str, Any]] = []
    clock_calibration, suspected_units = frame_of(clock_calibration), frame_of(suspected_units)
    arrivals = _arrivals(frame_of(weather_runs, [*_SOURCE, "run_at", "available_at"]))
    waits_until = _waits_until(statistics_of(parsed_signals), clock_calibration, fleet, data_engineering)
    counted = _counted(signals_raw, weather_raw, parsed_signals, parsed_weather, timed_signals, judged_weather, signals)
    set_aside = frame_of(quarantine, ["farm_id", "source_table", "reason"])
    reasons = set_aside.groupby(["farm_id", "source_table", "reason"]).size()
    aside: dict[tuple[str, str, str], int] = {key: int(count) for key, count in reasons.items()}  # type: ignore[misc]
    unreadable = {"signals": _unreadable(parsed_signals), "weather": _unreadable(parsed_weather)}
    values = total_counts(signal_counts).join(by_farm(signals, of_signals)[[*_OPERATING_STATES, "retimed"]])
    for farm in fleet.farms:
        about_signals = _Notes(rows, data_engineering.warning_share, farm.id, "signals")
        about_weather = _Notes(rows, data_engineering.warning_share, farm.id, "weather")
        for notes in (about_signals, about_weather):
            sources = unreadable[notes.table]
            for detail in sources.loc[sources["farm_id"] == farm.id, "detail"]:
                notes.add("source_unreadable", "row", 1, 1, str(detail), "error")
        _account(about_signals, counted, aside, waits_until.get(farm.id))
        if farm.id in values.index:
            _judge_signals(about_signals, farm, values.loc[farm.id].to_dict())
        _judge_clock(about_signals, farm, clock_calibration[clock_calibration["farm_id"] == farm.id])
        _judge_units(about_signals, farm, suspected_units[suspected_units["farm_id"] == farm.id])
        _account(about_weather, counted, aside)
        _judge_runs(about_weather, farm, arrivals)
    for entity_id, minutes, farm_id in held_intervals(fleet):
        cadence, name = fleet.farm(farm_id).signals.cadence_seconds, fleet.name_of(entity_id)
        message = f"{minutes}-minute observations of {name} hold the means of the farm's signals of {cadence} seconds"
        _Notes(rows, 0, farm_id, "signals").add("cadence_does_not_fit", "row", 1, 1, message, "info")
    failures = []
    for row in rows:
        check = row["check"]
        if row["severity"] == "error" and check in _NOT_USED:
            # The message of an unreadable source names the farm and the file.
            place = "" if check == "source_unreadable" else f"farm '{row['farm_id']}', {row['source_table']}: "
            failures.append(Failure("parsing", check, place + row["message"], _NOT_USED[check], entity_id=row["farm_id"]))
    return pd.DataFrame(rows), failures_table(failures, clock.as_of)


#: Findings of severity ``error`` that take data from a run, and the action to take.
_NOT_USED = {
    "source_unreadable": "repair the file or fetch it again; the farm has no new data until then",
    "rows_lost": "report it: rows must not be lost",
    "quarantined": "look at quarantine for the reasons, and at the farm's card",
}


# --- row accounting


def _counted(
    signals_raw: SourceRows | Table,
    weather_raw: SourceRows | Table,
    parsed_signals: Derived | Table,
    parsed_weather: Derived | Table,
    timed: Derived | Table,
    judged: Derived | Table,
    signals: Derived | Table,
) -> dict[tuple[str, str, str], int]:
    """Numbers of rows by farm, table and what was counted: ``raw``, ``parsed``, and by status those known and in `Signals`."""
    found: dict[tuple[str, str, str], int] = {}
    for table, raw in (("signals", signals_raw), ("weather", weather_raw)):
        if isinstance(raw, SourceRows):
            counts = raw.units.groupby("farm_id")["rows"].sum().reset_index()
        else:
            counts = raw.filter(raw.source_row > 0).group_by("farm_id").agg(rows=lambda t: t.count()).to_pandas()
        found |= {(farm_id, table, "raw"): int(count) for farm_id, count in counts.itertuples(index=False)}
    for table, rows, statistics in (
        ("signals", parsed_signals, of_parsed_signals),
        ("weather", parsed_weather, of_parsed_weather),
    ):
        counts = by_farm(rows, statistics)
        readable = counts["rows"] - counts["unreadable"]
        found |= {(str(farm_id), table, "parsed"): int(count) for farm_id, count in readable.items()}
    for table, what, rows, statistics in (
        ("signals", "known", timed, of_timed_signals),
        ("weather", "known", judged, of_judged),
        ("signals", "used", signals, of_signals),
    ):
        counts = by_farm(rows, statistics)
        for status in counts.columns.intersection(["kept", "superseded", "duplicate", "quarantined"]):
            found |= {(str(farm_id), table, f"{what} {status}"): int(count) for farm_id, count in counts[status].items()}
    return found


def _unreadable(parsed: Derived | Table) -> pd.DataFrame:
    """``farm_id`` and ``detail`` of the sources that could not be read; of a derived table only their shards are read."""
    if isinstance(parsed, Derived):
        shards = parsed.days.loc[parsed.days["unreadable"].fillna(0) > 0, ["farm_id", "unit", "day"]]
        if shards.empty:
            return pd.DataFrame(columns=["farm_id", "detail"])
        parsed = parsed.shards(shards)
    found: pd.DataFrame = parsed.filter(parsed.source_row == 0).select("farm_id", "detail").to_pandas()
    return found.sort_values(["farm_id", "detail"])


def _waits_until(
    days: pd.DataFrame, clock_calibration: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> dict[str, str]:
    """Message for every farm without a clock calibration: when the first is made, and what it needs."""
    uncalibrated = {farm.id for farm in fleet.farms} - set(clock_calibration["farm_id"])
    if not uncalibrated:
        return {}
    search = data_engineering.clock_search
    firsts = first_calibrations(days, search)
    return {
        farm_id: f"before {first:%Y-%m-%d}, when the farm's clock is first checked, which needs {search.min_history_days} days "
        "with rows (clock_search.min_history_days)"
        for farm_id, first in firsts.items()
        if farm_id in uncalibrated
    }


def _account(
    notes: _Notes,
    counted: Mapping[tuple[str, str, str], int],
    aside: Mapping[tuple[str, str, str], int],
    waits_until: str | None = None,
) -> None:
    def count(what: str) -> int:
        return counted.get((notes.farm_id, notes.table, what), 0)

    used = "used" if notes.table == "signals" else "known"
    parts = {
        "kept": (count(f"{used} kept"), "rows are used"),
        "superseded": (count(f"{used} superseded"), "rows were replaced by a later revision; both are kept"),
        "duplicate": (count("known duplicate"), "rows were repeated with the same values; one is used"),
    }
    reasons = {reason: n for (of, kind, reason), n in aside.items() if (of, kind) == (notes.farm_id, notes.table)}
    quarantined = sum(reasons.values())
    raw, parsed = count("raw"), count("parsed")
    known = sum(count(f"known {status}") for status in ("kept", "superseded", "duplicate", "quarantined"))
    unseen = parsed - known
    accounted = quarantined + sum(rows for rows, _ in parts.values())
    if accounted != known or raw != parsed:
        message = (
            f"of {raw} rows read {parsed} were parsed, and of {known} rows known {accounted} are accounted for: an error of "
            f"wind-kedro; please report it"
        )
        notes.add("rows_lost", "row", abs(raw - parsed) + abs(known - accounted), raw, message, "error")
    notes.add("rows_in", "row", known, known + unseen, f"{known} of the source's rows are available by as_of", "info")
    for check, (rows, message) in parts.items():
        notes.add(check, "row", rows, known, f"{rows} {message}", "info" if check == "kept" else None)
    severity = "error" if known and quarantined == known else None
    notes.add("quarantined", "row", quarantined, known, f"{quarantined} rows are in quarantine, each with its reason", severity)
    for reason, rows in sorted(reasons.items()):
        notes.add(reason, "row", rows, known, f"{rows} {REASONS.get(reason, reason)}")
    if unseen and waits_until is not None:
        message = f"{unseen} rows are not used {waits_until}"
        notes.add("clock_not_calibrated", "row", unseen, known + unseen, message, "warning")
    elif known == 0:
        message = f"none of the farm's {notes.table} are available by as_of"
        notes.add("nothing_available", "row", 0, unseen, message, "error")


# --- findings about values


def _judge_signals(notes: _Notes, farm: Farm, own: Mapping[Any, Any]) -> None:
    rows = int(own["rows_known"])
    expected = _expected_rows(farm, own["first"].to_datetime64(), own["last"].to_datetime64(), int(own["cadence"]))
    gaps = expected - int(own["newest"])
    message = f"{gaps} turbine intervals between the first and the last have no row"
    notes.add("missing_interval", "row", gaps, expected, message)
    if farm.signals.received_at is not None:
        late = int(own["late"])
        message = f"{late} rows arrived after their interval had been aggregated without them"
        notes.add("late_row", "row", late, rows, message)
    for name in farm.signals.columns:
        blank = int(own[f"{name}:missing"])
        notes.add("missing_value", name, blank, rows, f"{blank} values of {name} are blank")
        for fault, description in FAULTS.items():
            if count := int(own[f"{name}:{fault}"]):
                notes.add(fault, name, count, rows, f"{count} values of {name} {description}; they count as missing")
    for operating_state, description in _OPERATING_STATES.items():
        count = int(own[operating_state])
        notes.add(operating_state, "power_kw", count, rows, f"{count} rows {description}")
    if moved := int(own["retimed"]):
        message = f"{moved} rows were stamped an hour off at a clock change, and are corrected"
        notes.add("retimed", "row", moved, rows, message, "warning")


def _expected_rows(farm: Farm, first: np.datetime64, last: np.datetime64, cadence_seconds: int) -> int:
    """Number of rows of all turbines that stand, from the first interval to the last."""
    cadence, rows = np.timedelta64(cadence_seconds, "s"), 0
    for since, until, version in spans(farm.versions):
        length = min(until, last + cadence) - max(since, first)
        rows += max(0, -int(-length // cadence)) * len(version.turbines)
    return rows


def _judge_units(notes: _Notes, farm: Farm, suspected: pd.DataFrame) -> None:
    """Add one finding per signal and unit: turbines, period, evidence, and the action to take."""
    for (signal, unit), own in suspected.groupby(["signal", "suspected_unit"], sort=True):
        turbines = sorted(own["turbine_id"].unique())
        every = len(turbines) == len(farm.turbines)
        who = "all turbines" if every and len(turbines) > 1 else ", ".join(turbines)
        since, until = own["since"].min(), own["until"].max()
        when = "from the first day on" if own["since"].isna().any() else f"since {since:%Y-%m-%d}"
        going_on = own["until"].isna().any()
        when += "" if going_on else f" until {until:%Y-%m-%d}"
        days = json.loads(own.sort_values("found_at").iloc[0]["evidence"])
        first = next(iter(days))
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in days[first].items())
        always = every and own["since"].isna().all() and going_on
        do = f"set unit: {unit} for {signal} in farms.yml" if always else "have the data corrected at the source and sent again"
        message = (
            f"{signal} of {who} appears to be in {unit} {when}; the card has {own['unit'].iloc[0]} ({first}: {shown}). "
            f"Found {own['found_at'].min():%Y-%m-%d}; the values are not used. If you agree, {do}"
        )
        notes.add("unit_suspected", str(signal), len(turbines), len(farm.turbines), message, "error" if going_on else "warning")


def _judge_clock(notes: _Notes, farm: Farm, calibrations: pd.DataFrame) -> None:
    if calibrations.empty:
        return
    newest = calibrations.sort_values("fitted_at").iloc[-1]
    hours = int(newest["rows"])
    evidence = json.loads(newest["evidence"])
    reading, assumed = _READINGS[newest["reading"]], _READINGS[newest["assumed"]]
    if pd.isna(newest["correlation"]):
        why = evidence["decided"].removeprefix("not checked: ")
        message = f"the clock could not be checked ({why}): stamps are read as {reading}, as assumed"
        notes.add("clock_not_checked", "row", 0, hours, message, "warning")
        return
    chosen, other = evidence[newest["reading"]], evidence[newest["assumed"]]
    off = f"{chosen['misalignment_minutes']:.0f} min"
    if newest["agrees"]:
        message = f"the clock agrees with the weather: stamps are {reading}, off by {off}"
        notes.add("clock_agrees", "row", hours, hours, message, "info")
    else:
        message = (
            f"on the card stamps are {assumed}, but the weather shows that they are {reading}: misalignment {off} "
            f"against {other['misalignment_minutes']:.0f} min, correlation {chosen['correlation']:.3f} against "
            f"{other['correlation']:.3f} over {hours} hours. This reading is used. If you agree, set clock: "
            f"{newest['reading']} in farms.yml"
        )
        notes.add("clock_disagrees_with_card", "row", hours, hours, message, "warning")
    shift, since = float(newest["offset_minutes"]), newest["jumped_at"]
    when = "" if pd.isna(since) else f" since the week of {since:%Y-%m-%d}"
    if newest["shifted"]:
        # A multiple of the cadence, so that rows stay on the grid of their intervals.
        cadence = math.ceil(farm.signals.cadence_seconds / 60)
        right = farm.signals.clock_ahead_minutes + cadence * round(shift / cadence)
        message = (
            f"signals are {abs(shift):.0f} min (± {newest['noise_minutes']:.0f}) {'late' if shift > 0 else 'early'} against the "
            f"weather{when}, in winter and summer alike; not corrected, as the cause may be the weather's point or model: "
            f"check the logger's clock. If the clock is wrong, set clock_ahead_minutes: {right} in farms.yml"
        )
        notes.add("clock_shifted", "row", hours, hours, message, "warning")
    elif when:
        message = f"the clock has jumped: stamps are {reading} and off by {abs(shift):.0f} min only{when}"
        notes.add("clock_jumped", "row", hours, hours, message, "warning")


def _arrivals(weather_runs: pd.DataFrame) -> dict[tuple[str, str, str], pd.Series]:
    """By farm, model and point: when each run first arrived, by ``run_at``, rising; both naive."""
    first = weather_runs.groupby([*_SOURCE, "run_at"], observed=True)[["available_at"]].min().reset_index()
    runs = naive(first, ["run_at", "available_at"]).set_index("run_at")
    return {key: own["available_at"] for key, own in runs.groupby(_SOURCE, observed=True)}  # type: ignore[misc]


def _judge_runs(notes: _Notes, farm: Farm, arrived: Mapping[tuple[str, str, str], pd.Series]) -> None:
    """Add findings of missing and late forecast runs."""
    for source in farm.weather:
        arrivals = arrived.get((farm.id, source.model, source.point))
        if source.kind == "analysis" or arrivals is None:
            continue
        every = pd.Timedelta(minutes=source.run_every_minutes)
        expected = int((arrivals.index[-1] - arrivals.index[0]) / every) + 1
        missing = max(expected - len(arrivals), 0)
        alone = sum(other.model == source.model for other in farm.weather) == 1
        name = source.model if alone else f"{source.model} at {source.point}"
        signal = f"run of {name}"
        notes.add("missing_run", signal, missing, expected, f"{missing} runs of {name} never arrived")
        # A run is late if a newer one arrived before it: it is not used.
        newer = arrivals[::-1].cummin()[::-1].shift(-1)
        late = int((arrivals >= newer).sum())
        notes.add("late_run", signal, late, len(arrivals), f"{late} runs of {name} arrived after a newer one")
