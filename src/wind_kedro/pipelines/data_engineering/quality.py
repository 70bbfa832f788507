"""What was set aside, and what was found: nothing is lost, and everything is counted in words people understand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet

from ._tables import Table, naive
from .aggregation import ill_fitting
from .parsing import SIGNALS
from .settings import DataEngineering

_ROW = ["farm_id", "source_file", "source_row"]

#: Reasons for quarantine, in words.
REASONS: Mapping[str, str] = {
    "ragged": "rows have too few or too many values",
    "unknown_turbine": "rows are of a turbine that is on no card; add it to farms.yml or leave it set aside",
    "bad_stamp": "rows have a time stamp that is not ISO 8601",
    "unparseable": "rows have a value that is not a number",
    "off_grid": "rows have a stamp between two intervals of the farm's cadence",
    "conflicting_stamp": "rows contradict another of the same time, and nothing says which is right",
    "missing_wind": "rows have no wind speed at 100 m",
    "late_revision": "rows change a run that had been read already",
}
_FAULTS: Mapping[str, str] = {
    "sentinel": "are the logger's code for 'missing'",
    "out_of_range": "are outside what can be",
    "stuck": "repeat to the last digit while the wind moved",
}


def set_aside(timed_signals: Table, judged_weather: Table, signals_raw: Table, weather_raw: Table) -> pd.DataFrame:
    """Collect the rows that are not used, as they came.

    One row per source row in quarantine (contract `Quarantine`): its reason, in detail, and the row as JSON.

    Args:
        timed_signals: see `time_signals`.
        judged_weather: see `judge_weather`.
        signals_raw: contract `SignalsRaw`.
        weather_raw: contract `WeatherRaw`.
    """
    pieces = [
        _with_raw(timed_signals, signals_raw).assign(source_table="signals"),
        _with_raw(judged_weather, weather_raw).assign(source_table="weather"),
    ]
    columns = ["farm_id", "source_table", "source_file", "source_row", "reason", "detail", "raw"]
    found = pd.concat(pieces, ignore_index=True)[columns]
    kinds = dict.fromkeys(columns, "str") | {"source_row": "int64"}
    return found.astype(kinds).sort_values(columns[:4], ignore_index=True)


def _with_raw(rows: Table, raw: Table) -> pd.DataFrame:
    import ibis

    bad = rows.filter(rows.status == "quarantined").select(*_ROW, "reason", "detail").to_pandas()
    if bad.empty:
        return bad.assign(raw="")
    as_came = raw.semi_join(ibis.memtable(bad[_ROW]), _ROW).to_pandas()
    words = [column for column in as_came.columns if column not in _ROW]
    as_came["raw"] = [
        json.dumps({key: value for key, value in row.items() if isinstance(value, str)}, ensure_ascii=False)
        for row in as_came[words].to_dict("records")
    ]
    return bad.merge(as_came[[*_ROW, "raw"]], on=_ROW, how="left")


# --- data quality ------------------------------------------------------------------------------------------------------


@dataclass
class _Findings:
    """Rows of the table of findings, in the order in which they are read."""

    warning_share: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        farm: str,
        table: str,
        check: str,
        signal: str,
        count: int,
        of: int,
        message: str,
        severity: str | None = None,
    ) -> None:
        if severity is None:
            severity = "warning" if count and count >= self.warning_share * of else "info"
        self.rows.append(
            {"farm_id": farm, "source_table": table, "check": check, "signal": signal, "count": int(count), "of": int(of),
             "severity": severity, "message": message}
        )  # fmt: skip


def assess_quality(
    parsed_signals: Table,
    timed_signals: Table,
    signals: Table,
    parsed_weather: Table,
    judged_weather: Table,
    weather: pd.DataFrame,
    quarantine: pd.DataFrame,
    clock_calibration: pd.DataFrame,
    fleet: Fleet,
    data_engineering: DataEngineering,
) -> pd.DataFrame:
    """Count what was found in every farm's data, and say what it means.

    One row per farm, table, check and signal (contract `DataQuality`). For signals, ``rows_in`` = ``kept`` + ``superseded`` + ``duplicate``
    + ``quarantined``, and for weather likewise, exactly; they are counted from different tables, so that a row lost on the way is seen.

    Args:
        parsed_signals: see `parse_signals`.
        timed_signals: see `time_signals`.
        signals: contract `Signals`.
        parsed_weather: see `parse_weather`.
        judged_weather: see `judge_weather`.
        weather: contract `Weather`.
        quarantine: contract `Quarantine`.
        clock_calibration: contract `ClockCalibration`.
        fleet: the cards.
        data_engineering: the room's parameters.

    Raises:
        RuntimeError: if a row was lost: a bug of this room, never of the data.
    """
    found = _Findings(data_engineering.warning_share)
    aside = quarantine.groupby(["farm_id", "source_table", "reason"]).size()
    counted = _Counts(
        parsed_signals=_per_farm(parsed_signals.filter(parsed_signals.source_row > 0)),
        timed=_statuses(timed_signals),
        signals=_statuses(signals),
        parsed_weather=_per_farm(parsed_weather.filter(parsed_weather.source_row > 0)),
        weather=_statuses(judged_weather),
        aside={key: int(count) for key, count in aside.items()},  # type: ignore[misc]
    )
    unreadable = pd.concat(
        [
            table.filter(table.reason == "source_unreadable")
            .select("farm_id", "source_file", "detail")
            .to_pandas()
            .assign(kind=kind)
            for kind, table in (("signals", parsed_signals), ("weather", parsed_weather))
        ]
    )
    values = _signal_counts(timed_signals)
    curve = (
        signals.group_by("farm_id")
        .agg(off=signals.off_curve.sum(), retimed=signals.retimed.sum())
        .to_pandas()
        .set_index("farm_id")
    )
    for farm in fleet.farms:
        for source in unreadable[unreadable["farm_id"] == farm.id].itertuples():
            found.add(farm.id, str(source.kind), "source_unreadable", "row", 1, 1, str(source.detail), "error")
        _account_signals(found, farm, counted)
        _judge_signals(found, farm, values, curve)
        _judge_clock(found, farm, clock_calibration[clock_calibration["farm_id"] == farm.id], data_engineering)
        _account_weather(found, farm, counted)
        _judge_runs(found, farm, weather[weather["farm_id"] == farm.id])
    for entity, minutes, farm_id in ill_fitting(fleet):
        cadence = fleet.farm(farm_id).signals.cadence_minutes
        found.add(
            farm_id, "signals", "cadence_does_not_fit", "row", 1, 1,
            f"no {minutes}-minute observations of {fleet.name_of(entity)}: the farm's {cadence} minutes do not divide them", "error",
        )  # fmt: skip
    return pd.DataFrame(found.rows)


@dataclass(frozen=True)
class _Counts:
    parsed_signals: Mapping[str, int]
    timed: Mapping[tuple[str, str], int]
    signals: Mapping[tuple[str, str], int]
    parsed_weather: Mapping[str, int]
    weather: Mapping[tuple[str, str], int]
    aside: Mapping[tuple[str, str, str], int]


def _per_farm(table: Table) -> dict[str, int]:
    frame = table.group_by("farm_id").agg(rows=table.count()).to_pandas()
    return dict(zip(frame["farm_id"], frame["rows"], strict=True))


def _statuses(table: Table) -> dict[tuple[str, str], int]:
    frame = table.group_by(["farm_id", "status"]).agg(rows=table.count()).to_pandas()
    return dict(zip(zip(frame["farm_id"], frame["status"], strict=True), frame["rows"], strict=True))


def _account_signals(found: _Findings, farm: Farm, counted: _Counts) -> None:
    known = sum(rows for (farm_id, _), rows in counted.timed.items() if farm_id == farm.id)
    unseen = counted.parsed_signals.get(farm.id, 0) - known
    parts = {
        "kept": (counted.signals.get((farm.id, "kept"), 0), "rows are used"),
        "superseded": (
            counted.signals.get((farm.id, "superseded"), 0),
            "rows were replaced by a later revision; both are kept",
        ),
        "duplicate": (
            counted.timed.get((farm.id, "duplicate"), 0),
            "rows came again with the same values; one is used",
        ),
    }
    _account(found, farm, "signals", known, unseen, parts, counted)
    if known == 0:
        found.add(
            farm.id, "signals", "nothing_available", "row", 0, unseen, "no signal of the farm can be known yet", "error"
        )


def _account_weather(found: _Findings, farm: Farm, counted: _Counts) -> None:
    known = sum(rows for (farm_id, _), rows in counted.weather.items() if farm_id == farm.id)
    unseen = counted.parsed_weather.get(farm.id, 0) - known
    parts = {
        "kept": (counted.weather.get((farm.id, "kept"), 0), "rows are used"),
        "duplicate": (
            counted.weather.get((farm.id, "duplicate"), 0),
            "rows came again with the same values; one is used",
        ),
    }
    _account(found, farm, "weather", known, unseen, parts, counted)
    if known == 0:
        found.add(
            farm.id,
            "weather",
            "nothing_available",
            "row",
            0,
            unseen,
            "no weather of the farm can be known yet",
            "error",
        )


def _account(
    found: _Findings,
    farm: Farm,
    table: str,
    known: int,
    unseen: int,
    parts: Mapping[str, tuple[int, str]],
    counted: _Counts,
) -> None:
    reasons = {reason: n for (farm_id, of, reason), n in counted.aside.items() if farm_id == farm.id and of == table}
    quarantined = sum(reasons.values())
    accounted = quarantined + sum(count for count, _ in parts.values())
    if accounted != known:
        raise RuntimeError(f"farm '{farm.id}': {known} {table} rows came in, {accounted} are accounted for")
    found.add(
        farm.id,
        table,
        "rows_in",
        "row",
        known,
        known + unseen,
        f"{known} of the source's rows can be known by now",
        "info",
    )
    for check, (count, message) in parts.items():
        found.add(farm.id, table, check, "row", count, known, f"{count} {message}", "info" if check == "kept" else None)
    found.add(
        farm.id,
        table,
        "quarantined",
        "row",
        quarantined,
        known,
        f"{quarantined} rows are set aside, each with its reason",
    )
    for reason, count in sorted(reasons.items()):
        found.add(farm.id, table, reason, "row", count, known, f"{count} {REASONS.get(reason, reason)}")


def _signal_counts(timed: Table) -> pd.DataFrame:
    """Per farm: rows, rows of the newest version, and per signal how many values are missing and why."""
    rows = timed.filter(timed.status.isin(["kept", "superseded"]))
    counts: dict[str, Any] = {"rows": rows.count(), "newest": (rows.status == "kept").sum()}
    for name in SIGNALS:
        counts[f"{name}:missing"] = (rows[name].isnull() & rows[f"{name}_fault"].isnull()).sum()
        for fault in _FAULTS:
            counts[f"{name}:{fault}"] = (rows[f"{name}_fault"] == fault).fill_null(False).sum()  # noqa: FBT003
    spans = {"first": rows.valid_at.min(), "last": rows.valid_at.max(), "cadence": rows.cadence.max()}
    return rows.group_by("farm_id").agg(**counts, **spans).to_pandas().set_index("farm_id")


def _judge_signals(found: _Findings, farm: Farm, values: pd.DataFrame, curve: pd.DataFrame) -> None:
    if farm.id not in values.index:
        return
    own = values.loc[farm.id]
    rows = int(own["rows"])
    intervals = int((own["last"] - own["first"]) / pd.Timedelta(minutes=int(own["cadence"]))) + 1
    expected = intervals * len(farm.turbines)
    gaps = expected - int(own["newest"])
    found.add(
        farm.id,
        "signals",
        "missing_interval",
        "row",
        gaps,
        expected,
        f"{gaps} turbine intervals between the first and the last have no row",
    )
    for name in SIGNALS:
        if name not in farm.signals.columns:
            continue
        blank = int(own[f"{name}:missing"])
        found.add(farm.id, "signals", "missing_value", name, blank, rows, f"{blank} values of {name} were left blank")
        for fault, words in _FAULTS.items():
            if count := int(own[f"{name}:{fault}"]):
                found.add(
                    farm.id,
                    "signals",
                    fault,
                    name,
                    count,
                    rows,
                    f"{count} values of {name} {words}; they count as missing",
                )
    off, moved = int(curve.loc[farm.id, "off"]), int(curve.loc[farm.id, "retimed"])
    found.add(
        farm.id,
        "signals",
        "off_curve",
        "power_kw",
        off,
        rows,
        f"{off} rows are off the power curve: turbine curtailed, iced or stopped, or a sensor that errs",
    )
    if moved:
        found.add(
            farm.id,
            "signals",
            "retimed",
            "row",
            moved,
            rows,
            f"{moved} rows were stamped an hour off at a clock change, and are put right",
            "warning",
        )


def _judge_clock(found: _Findings, farm: Farm, calibrations: pd.DataFrame, data_engineering: DataEngineering) -> None:
    if calibrations.empty:
        return
    newest = calibrations.sort_values("fitted_at").iloc[-1]
    rows = int(newest["rows"])
    evidence = json.loads(newest["evidence"])
    if pd.isna(newest["correlation"]):
        found.add(
            farm.id, "signals", "clock_not_checked", "row", 0, rows,
            f"the clock could not be checked ({evidence['decided'].removeprefix('not checked: ')}): stamps are read as "
            f"{_reading(newest['reading'])}", "warning",
        )  # fmt: skip
        return
    chosen, assumed = evidence[newest["reading"]], evidence[newest["assumed"]]
    if newest["agrees"]:
        found.add(
            farm.id, "signals", "clock_agrees", "row", rows, rows,
            f"the clock agrees with the weather: stamps are {_reading(newest['reading'])}, off by {chosen['misalignment_minutes']:.0f} min", "info",
        )  # fmt: skip
    else:
        found.add(
            farm.id, "signals", "clock_disagrees_with_card", "row", rows, rows,
            f"the card says that stamps are {_reading(newest['assumed'])}, but the weather says {_reading(newest['reading'])}: misalignment "
            f"{chosen['misalignment_minutes']:.0f} against {assumed['misalignment_minutes']:.0f} min, correlation of wind speeds "
            f"{chosen['correlation']:.3f} against {assumed['correlation']:.3f} over {rows} hours; they are read so. Correct `clock` in "
            "farms.yml if you agree", "warning",
        )  # fmt: skip
    shift = float(newest["offset_minutes"])
    limit = max(data_engineering.clock_search.shift_minutes, farm.signals.cadence_minutes)
    if abs(shift) >= limit:
        found.add(
            farm.id, "signals", "clock_shifted", "row", rows, rows,
            f"signals are {abs(shift):.0f} min {'late' if shift > 0 else 'early'} against the weather however they are read; not corrected, as "
            "the weather's point or model may be what is off: check the logger's clock", "warning",
        )  # fmt: skip


def _reading(reading: str) -> str:
    return {
        "as_stamped": "as stamped",
        "wall_clock_is_utc": "UTC, whatever offset is written on them",
        "wall_clock_is_local": "the local wall clock",
    }[reading]


def _judge_runs(found: _Findings, farm: Farm, weather: pd.DataFrame) -> None:
    """Forecast runs that never came or came late."""
    for source in farm.weather:
        runs = naive(weather[weather["weather_model"] == source.model], ["run_at", "available_at"])
        if source.kind == "analysis" or runs.empty:
            continue
        runs = runs.groupby("run_at")["available_at"].min().reset_index()
        every = pd.Timedelta(minutes=source.run_every_minutes)
        expected = int((runs["run_at"].max() - runs["run_at"].min()) / every) + 1
        missing = max(expected - len(runs), 0)
        signal = f"run of {source.model}"
        found.add(
            farm.id, "weather", "missing_run", signal, missing, expected, f"{missing} runs of {source.model} never came"
        )
        if source.available_at is not None:
            late = int((runs["available_at"] - runs["run_at"] > pd.Timedelta(minutes=source.delay_minutes)).sum())
            found.add(
                farm.id, "weather", "late_run", signal, late, len(runs),
                f"{late} runs of {source.model} came later than {source.delay_minutes} min after their start",
            )  # fmt: skip
