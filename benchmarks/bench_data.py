"""Measurement: what cleaning and summing raw signals costs as they grow, against DuckDB merely reading them, and pandas.

    python benchmarks/bench_data.py --million 1 10 50

Made signals of a thousand turbines, ten a farm, with faults in them, are written in order of time as typed Parquet, in the
columns of `parsed_signals`, and as this derived table. Then every piece of work runs in a process of its own over the same
files, which were read once before. The rules are the pipeline's own functions. What was measured before for the same size and
work is kept (`--again` measures anew), so that a broken run goes on where it was. Leaves with code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench_start import CommandFailedError, measure
from record import PROJECT, RESULTS, record
from wind_kedro.storage.temporary import remove

TURBINES = 1000
#: Turbines of a farm.
TURBINES_A_FARM = 10
START = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - times inside the room are UTC without zone
SIGNALS = ("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg")
#: Rows of a file, about: what a day's landing of a large fleet is.
FILE_ROWS = 1_000_000
#: So many files are read at once by what is no node.
FILES_AT_ONCE = 6
#: pandas holds a whole table: at larger sizes it would not fit.
PANDAS_MILLION = 10
#: Larger pieces take so long that a disturbance evens out.
TURNS_MILLION, TURNS = 10, 3
MEMORY = "2000MB"
_HOUR = 3_600_000_000  # microseconds
WORK = {
    "make": "made signals, written as the pipeline stores them parsed",
    "sum_hours": "read and sum the columns of the parsed signals that range_and_hours takes: a baseline",
    "sum_parsed": "read and sum all columns of the parsed signals: a baseline",
    "range_and_hours": "range rules on parsed signals, and means by turbine and hour",
    "pandas_range_and_hours": "the same in pandas",
    "time_signals": "versions, duplicates, conflicts, stuck and spike, table to table",
    "sum_timed": "read and sum the columns of the timed signals that judge_signals takes: a baseline",
    "fit_power_curves": "power curves of all farms and months",
    "judge_signals": "operating states, table to table",
    "sum_signals": "read and sum the columns of the signals that observations are made of: a baseline",
    "observations": "observations of farms by the hour, all versions, table to table",
}
#: These write what others read, and are done once.
ALONE = ("make", "time_signals", "fit_power_curves", "judge_signals")
#: These are measured once: a derived table that is there is not computed again.
ONCE = (*ALONE, "observations")
#: What reads a table between two nodes; all else reads the parsed signals.
TABLE = {
    "sum_timed": "timed_signals", "fit_power_curves": "timed_signals", "judge_signals": "timed_signals",
    "sum_signals": "signals", "observations": "signals",
}  # fmt: skip
ENGINE = {"pandas_range_and_hours": "pandas"}
#: What is compared with which baseline, and times what it may take at most. All rules with windows are two nodes: together
#: against one reading, and each against reading what it reads.
BARS = {
    ("range_and_hours",): ("sum_hours", 4.0),
    ("observations",): ("sum_signals", 4.0),
    ("time_signals", "judge_signals"): ("sum_parsed", 40.0),
    ("time_signals",): ("sum_parsed", 40.0),
    ("judge_signals",): ("sum_timed", 40.0),
}
PEAK_MB_AT_MOST = 4000
PANDAS_SLOWER_AT_LEAST = 4.0


# --- the pieces of work, each in a process of its own -----------------------------------------------------------------


def make(folder: Path, rows: int, cadence: int) -> dict[str, Any]:
    """`write_rows`, and the table of parsed signals."""
    write_rows(folder, rows, cadence)
    _table(folder, "parsed_signals").save(_parsed(folder))
    return {"bytes_a_row": round(sum(file.stat().st_size for file in folder.glob("*.parquet")) / rows, 1)}


def write_rows(folder: Path, rows: int, cadence: int) -> None:
    """Signals as they are after parsing: repetitions, revisions, stuck sensors, spikes and values out of range in one per cent.

    Numbers come from a hash of turbine and time, so that the same size is the same data. Rows are in order of time, as feeds
    land them.
    """
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY})
    days = max(1, FILE_ROWS * cadence // (TURBINES * 86400))
    a_file = days * TURBINES * 86400 // cadence
    folder.mkdir(parents=True)
    con.execute(
        "CREATE TABLE turbines AS SELECT t::INTEGER AS t, "  # noqa: S608
        f"'farm_' || lpad((t // {TURBINES_A_FARM})::VARCHAR, 3, '0') AS farm_id, "
        f"'T' || (t % {TURBINES_A_FARM}) AS turbine_id FROM range({TURBINES}) AS r(t)"
    )

    def noise(bit: int, bits: int) -> str:
        return f"((dice >> {bit}) & {2**bits - 1}) / {2**bits}.0"

    for number in range(-(-rows // a_file)):
        first, here = number * a_file, min(a_file, rows - number * a_file)
        begin = int((START + number * dt.timedelta(days=days)).replace(tzinfo=dt.UTC).timestamp())
        con.execute(
            f"""
            COPY (
              WITH steps AS (
                SELECT i, (i % {TURBINES})::INTEGER AS t, {begin} + (i // {TURBINES}) * {cadence} AS s, hash(i + {first}) AS dice
                FROM range({here}) AS r(i)
              ), air AS (
                SELECT i, t, s, dice, make_timestamp(s * 1000000) AS moment, {noise(0, 16)} AS chance,
                  8 + 4 * sin(s / 21000.0 + t) + 2 * sin(s / 4000.0 + 3 * t) + {noise(16, 10)} AS wind FROM steps
              ), once AS (
                SELECT i, t, s, moment, chance,
                  round(CASE WHEN chance BETWEEN 0.001 AND 0.002 THEN 9999 WHEN chance BETWEEN 0.002 AND 0.003 THEN 0
                    ELSE 2000 * pow(greatest(0, least(1, (wind - 3) / 9)), 1.5) - 10 * {noise(26, 10)} END, 2) AS power_kw,
                  CASE WHEN chance BETWEEN 0.003 AND 0.004 THEN -1 ELSE round(wind, 2) END AS wind_speed_ms,
                  CASE WHEN s % 86400 BETWEEN 36000 AND 46000 AND t % 70 = 0 THEN 77
                    ELSE round(180 + 9 * wind + 10 * {noise(36, 10)}, 2) END AS wind_direction_deg,
                  round(10 + wind / 10 + {noise(46, 8)}, 1) AS temperature_c, round(greatest(0, wind - 10), 1) AS pitch_deg
                FROM air
              ), twice AS (
                SELECT *, 0 AS again FROM once UNION ALL SELECT *, 1 AS again FROM once WHERE chance < 0.001
              )
              SELECT farm_id, turbine_id, 'made' AS source_file, {first} + i + 1 + again * 1000000000000 AS source_row,
                moment + to_seconds({cadence + 60} + again * 86400) AS received_at,
                moment AS as_stamped, moment AS wall_clock_is_utc, moment AS wall_clock_is_local,
                power_kw + CASE WHEN chance < 0.0005 THEN again ELSE 0 END AS power_kw,
                wind_speed_ms, wind_direction_deg, temperature_c, pitch_deg,
                {", ".join(f"CAST(NULL AS VARCHAR) AS {name}_fault" for name in SIGNALS)},
                CAST(NULL AS VARCHAR) AS reason, CAST(NULL AS VARCHAR) AS detail
              FROM twice JOIN turbines USING (t)
            ) TO '{folder}/{number:05d}.parquet'
            """  # noqa: S608 - numbers of our own
        )


def _parsed(folder: Path) -> Any:
    """The recipe of `parsed_signals`, a unit a farm."""
    import ibis

    from wind_kedro.pipelines.data_engineering.shards import inside
    from wind_kedro.storage.fingerprints import Recipe

    rows = _backend(folder).read_parquet(f"{folder}/*.parquet")
    rows = rows.mutate(unit=rows.farm_id, arrived=rows.received_at, ended=rows.received_at - ibis.interval(minutes=1))
    days = rows.group_by("farm_id", "unit", day=rows.wall_clock_is_utc.truncate("D")).agg(rows=rows.count()).to_pandas()
    return Recipe(days.assign(fingerprint=1), lambda part: inside(rows, part, "wall_clock_is_utc"))


def _summed(files: str, columns: list[str]) -> dict[str, Any]:
    """Read and sum: numbers are summed, of times the greatest is sought, of text the values are counted."""
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY})
    described = con.execute(f"DESCRIBE SELECT * FROM read_parquet('{files}')").fetchall()  # noqa: S608 - paths of our own
    kinds = {row[0]: row[1] for row in described}
    how = {"VARCHAR": "count", "BOOLEAN": "count"}
    words = [
        f'{"max" if kinds[name].startswith("TIMESTAMP") else how.get(kinds[name], "sum")}("{name}")' for name in columns or kinds
    ]
    text = ", ".join(f"({word})::VARCHAR" for word in words)
    return {"rows": con.execute(f"SELECT count(*), {text} FROM read_parquet('{files}')").fetchall()[0][0]}  # noqa: S608


def sum_parsed(folder: Path, cadence: int) -> dict[str, Any]:
    """All columns: all of them are read by the rules with windows."""
    return _summed(f"{folder}/*.parquet", [])


def sum_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """The columns of `range_and_hours`."""
    return _summed(f"{folder}/*.parquet", ["farm_id", "turbine_id", "wall_clock_is_utc", *SIGNALS])


def sum_timed(folder: Path, cadence: int) -> dict[str, Any]:
    """The columns of `judge_signals`."""
    known = ["status", "cadence", "retimed", "source_file", "source_row", *SIGNALS]
    return _summed(_files(folder, "timed_signals"), [*_versions(), *known])


def sum_signals(folder: Path, cadence: int) -> dict[str, Any]:
    """The columns of `observations`."""
    return _summed(_files(folder, "signals"), [*_versions(), "operating_state", "power_kw", "wind_speed_ms"])


def _versions() -> list[str]:
    """Columns that tell rows and their versions apart."""
    from wind_kedro.pipelines.data_engineering.signals.rules import SPIKES_IN_TIME

    spiked = [f"{name}_{of}" for name in SPIKES_IN_TIME for of in ("spiked", "spiked_at")]
    return ["farm_id", "turbine_id", "valid_at", "available_at", "superseded_at", "version", *spiked]


def _files(folder: Path, name: str) -> str:
    return f"{_path(folder, name)}/rows/**/*.parquet"


def _path(folder: Path, name: str) -> Path:
    """Where a table between two nodes is, beside the parsed signals."""
    return folder.with_name(f"{folder.name}.{name}")


@cache
def _fleet(cadence: int) -> Any:
    from wind_kedro.cards import Fleet

    columns = {
        name: {"name": name, "unit": unit} for name, unit in zip(SIGNALS, ("kW", "m/s", "deg", "degC", "deg"), strict=True)
    }
    farms = [
        {
            "id": f"farm_{farm:03d}", "name": f"Farm {farm}", "latitude_deg": 50.0, "longitude_deg": 5.0, "time_zone": "Etc/UTC",
            "capacity_kw": 2000 * TURBINES_A_FARM, "latency_minutes": 1,
            "turbines": [
                {"id": f"T{number}", "rated_power_kw": 2000, "hub_height_m": 80} for number in range(TURBINES_A_FARM)
            ],
            "signals": {"path": f"farm_{farm:03d}.csv", "timestamp": "time", "turbine": "turbine", "received_at": "received",
                        "cadence_seconds": cadence, "columns": columns},
            "weather": [{"model": "alpha", "kind": "forecast", "path": "a.csv", "valid_at": "t", "run_at": "r",
                         "delay_minutes": 60, "run_every_minutes": 360, "length_hours": 12,
                         "columns": {"wind_speed_100m_ms": {"name": "w", "unit": "m/s"}}}],
        }
        for farm in range(TURBINES // TURBINES_A_FARM)
    ]  # fmt: skip
    market = {"id": "m", "name": "M", "time_zone": "Etc/UTC", "settlement_minutes": 60,
              "gate_closure_minutes": 60, "currency": "EUR",
              "penalty": {"kind": "imbalance", "short_per_mwh": 1, "long_per_mwh": 1}}  # fmt: skip
    product = {"id": "p", "name": "P", "market": "m", "granularity_minutes": 60, "horizon_minutes": 240, "issue_times": ["06:00"],
               "quantile_levels": [0.1, 0.5, 0.9], "deciding_score": "pinball_share",
               "goal": {"target": 0.05, "since": "2024-01-01"}, "members": [farm["id"] for farm in farms]}  # fmt: skip
    return Fleet.from_config(farms=farms, groups=[], markets=[market], products=[product])


@cache
def _settings() -> Any:
    from wind_kedro.pipelines.data_engineering.settings import DataEngineering

    text = (PROJECT / "conf" / "base" / "parameters_data_engineering.yml").read_text(encoding="utf-8")
    return DataEngineering.model_validate(yaml.safe_load(text)["data_engineering"])


def hours(rows: Any, cadence: int) -> Any:
    """Values out of range removed; means by turbine and hour, numbered since 1970 as observations are, and of how many values."""
    from wind_kedro.pipelines.data_engineering.parse.signals import range_faults
    from wind_kedro.pipelines.data_engineering.tables import microseconds

    rows = rows.mutate(rated_power_kw=2000.0, **{f"{name}_source": rows[name] for name in SIGNALS})
    rows = range_faults(rows, _fleet(cadence), _settings())
    rows = rows.mutate(hour=microseconds(rows, "wall_clock_is_utc") // _HOUR)
    return rows.group_by(["farm_id", "turbine_id", "hour"]).agg(
        **{name: rows[name].mean() for name in SIGNALS}, **{f"{name}_values": rows[name].count() for name in SIGNALS}
    )


def _sums(means: Any) -> pd.DataFrame:
    """One row: what was made, by the engine, so that no more than a chunk of it is ever held. Sums of decimals are exact."""
    from wind_kedro.pipelines.data_engineering.tables import exact

    sums = {name: exact(means[name]).sum().cast("float64") for name in SIGNALS}
    values = {f"{name}_values": means[f"{name}_values"].sum() for name in SIGNALS}
    return means.agg(groups=means.count(), **sums, **values).to_pandas()


def _summary(sums: pd.DataFrame) -> dict[str, Any]:
    total = sums.sum()
    counts = ["groups", *(f"{name}_values" for name in SIGNALS)]
    return {name: int(total[name]) for name in counts} | {name: round(float(total[name]), 3) for name in SIGNALS}


def _duckdb(folder: Path) -> dict[str, str]:
    return {"backend": "duckdb", "database": ":memory:", "memory_limit": MEMORY, "temp_directory": f"{folder}.spill"}


def _backend(folder: Path) -> Any:
    from wind_kedro.datasets.connections import connect

    return connect(_duckdb(folder))


def range_and_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """On DuckDB, some files at a time: they hold whole days, in order."""
    backend = _backend(folder)
    files = sorted(str(file) for file in folder.glob("*.parquet"))
    chunks = [files[place : place + FILES_AT_ONCE] for place in range(0, len(files), FILES_AT_ONCE)]
    return _summary(pd.concat([_sums(hours(backend.read_parquet(chunk), cadence)) for chunk in chunks]))


def pandas_range_and_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """In pandas."""
    columns = ["farm_id", "turbine_id", "wall_clock_is_utc", *SIGNALS]
    rows = pd.concat([pd.read_parquet(file, columns=columns) for file in sorted(folder.glob("*.parquet"))], ignore_index=True)
    for name, (low, high) in _settings().signal_ranges.items():
        scale = 2000.0 if name == "power_kw" else 1.0
        rows[name] = rows[name].mask((rows[name] < low * scale) | (rows[name] > high * scale))
    rows["hour"] = rows["wall_clock_is_utc"].dt.floor("h")
    found = rows.groupby(["farm_id", "turbine_id", "hour"])[list(SIGNALS)].agg(["mean", "count"])
    sums = {"groups": len(found)}
    for name in SIGNALS:
        # Decimals as `_sums` has them.
        sums |= {name: found[name, "mean"].round(6).sum(), f"{name}_values": found[name, "count"].sum()}
    return _summary(pd.DataFrame([sums]))


def _table(folder: Path, name: str, *, whole: bool = False) -> Any:
    """A derived table between two nodes, as the catalog has it; ``whole``: also the key of parsed signals."""
    from wind_kedro.datasets import DerivedTable

    catalog = yaml.safe_load((PROJECT / "conf" / "base" / "catalog_data_engineering.yml").read_text(encoding="utf-8"))
    # Made signals have values that parsing would refuse, so that contracts do not hold.
    without = {"type", "filepath", "connection", "metadata", "contract"}
    given = {key: value for key, value in catalog[name].items() if key not in without}
    if name == "parsed_signals" and not whole:
        given["whole_key"] = False  # a farm's made rows do not fit into memory at once
    return DerivedTable(filepath=str(_path(folder, name)), connection=_duckdb(folder), **given)


def _calibration(folder: Path, fleet: Any, cadence: int) -> pd.DataFrame:
    """As clocks are calibrated: after four weeks, then at the beginning of every month."""
    newest = max(int(file.stem) for file in folder.glob("*.parquet")) + 1
    begin = pd.Timestamp(START, tz="UTC")
    days = max(1, FILE_ROWS * cadence // (TURBINES * 86400))
    months = pd.date_range(begin, begin + pd.Timedelta(days=28 + newest * days), freq="MS")
    times = [begin + pd.Timedelta(days=28), *months[months > begin + pd.Timedelta(days=28)]]
    rows = [(farm.id, at, "as_stamped") for farm in fleet.farms for at in times]
    return pd.DataFrame(rows, columns=["farm_id", "fitted_at", "reading"])


def _clock() -> Any:
    from wind_kedro.clock import Clock

    return Clock(as_of=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))


def time_signals(folder: Path, cadence: int, *, whole: bool = False) -> dict[str, Any]:
    """The node, between its tables; ``whole`` as for `_table`."""
    from wind_kedro.contracts.observations import SuspectedUnits
    from wind_kedro.pipelines.data_engineering import nodes

    fleet, suspected = _fleet(cadence), SuspectedUnits.table([])
    parsed, calibration = _table(folder, "parsed_signals", whole=whole).load(), _calibration(folder, fleet, cadence)
    timed = nodes.time_signals(parsed, calibration, suspected, fleet, _clock(), _settings())
    _table(folder, "timed_signals").save(timed)
    return {}


def fit_power_curves(folder: Path, cadence: int) -> dict[str, Any]:
    """The nodes that count and fit, between their tables."""
    from wind_kedro.pipelines.data_engineering import nodes

    fleet = _fleet(cadence)
    calibration = _calibration(folder, fleet, cadence)
    counts, curves = _table(folder, "cell_counts"), _table(folder, "power_curve")
    counts.save(nodes.count_cells(_table(folder, "timed_signals").load(), calibration, fleet, _settings()))
    curves.save(nodes.fit_power_curves(counts.load(), calibration, fleet, _settings()))
    return {"curves": len(curves.load().frame())}


def judge_signals(folder: Path, cadence: int) -> dict[str, Any]:
    """The node, between its tables."""
    from wind_kedro.pipelines.data_engineering import nodes

    timed, curves = _table(folder, "timed_signals").load(), _table(folder, "power_curve").load()
    _table(folder, "signals").save(nodes.judge_signals(timed, curves, _fleet(cadence), _settings()))
    return {}


def found(folder: Path) -> dict[str, Any]:
    """How many rows have each status, fault and operating state: not measured."""
    timed, signals = (_table(folder, name).load().table() for name in ("timed_signals", "signals"))
    counts = {f"{name}_faults": timed[f"{name}_fault"].count() for name in SIGNALS}
    by_status, by_label = timed.status.value_counts(), signals.operating_state.value_counts()
    return {
        str(key): int(value)
        for table in (by_status, by_label)
        for key, value in table.to_pandas().sort_values(table.columns[0]).itertuples(index=False)
    } | {key: int(value) for key, value in timed.aggregate(**counts).to_pandas().iloc[0].items()}


def observations(folder: Path, cadence: int) -> dict[str, Any]:
    """The node, between its tables."""
    from wind_kedro.pipelines.data_engineering import nodes

    stored = _table(folder, "observations")
    stored.save(nodes.aggregate_observations(_table(folder, "signals").load(), _fleet(cadence), _clock(), _settings()))
    table = stored.load().frame()
    return {"observations": len(table), "power_kw": round(float(table["power_kw"].sum()), 3)}


# --- measuring --------------------------------------------------------------------------------------------------------


def _read_by(work: str, folder: Path) -> list[Path]:
    """The files that a piece of work reads."""
    if work == "make":
        return []
    if work == "time_signals" or work in TABLE:
        return sorted(_path(folder, TABLE.get(work, "parsed_signals")).rglob("*.parquet"))
    return sorted(folder.glob("*.parquet"))


def one(work: str, folder: Path, rows: int, cadence: int) -> dict[str, Any]:
    """Measure one piece of work in a process of its own; files are read once before, so that none is colder than another."""
    for file in _read_by(work, folder):
        with file.open("rb") as opened:
            while opened.read(1 << 24):
                pass
    words = [
        sys.executable,
        __file__,
        "--work",
        work,
        "--folder",
        str(folder),
        "--rows",
        str(rows),
        "--cadence",
        str(cadence),
    ]
    turns = []
    for _ in range(TURNS if work not in ONCE and rows <= TURNS_MILLION * 1_000_000 else 1):
        load = os.getloadavg()[0]
        measured = measure(words, PROJECT, dict(os.environ))
        result = yaml.safe_load(folder.with_name(f"{folder.name}.result").read_text(encoding="utf-8"))
        turns.append({**result, "peak_mb": round(measured.peak_mb), "load": round(load, 1)})
    turns.sort(key=lambda turn: turn["seconds"])
    middle = turns[len(turns) // 2]
    return {
        "rows": rows, "cadence_seconds": cadence, "engine": ENGINE.get(work, "duckdb"), "work": work,
        "seconds": middle["seconds"], "cpu_seconds": middle["cpu_seconds"],
        "peak_mb": max(turn["peak_mb"] for turn in turns), "load": max(turn["load"] for turn in turns),
        "turns": len(turns), "result": middle["found"], "what": WORK[work],
    }  # fmt: skip


def work_here(work: str, folder: Path, rows: int, cadence: int) -> None:
    """What a measured process does: its own start, imports, configuration and first connection are no part of the time.

    Seconds on the clock depend on what else the machine does; those of the processor much less.
    """
    warm_up(folder, cadence)
    begin, cpu = time.perf_counter(), _cpu_seconds()
    result = make(folder, rows, cadence) if work == "make" else globals()[work](folder, cadence)
    seconds = {"seconds": round(time.perf_counter() - begin, 2), "cpu_seconds": round(_cpu_seconds() - cpu, 2)}
    if work == "judge_signals":
        result = found(folder)
    text = yaml.safe_dump(seconds | {"found": result})
    folder.with_name(f"{folder.name}.result").write_text(text, encoding="utf-8")


def warm_up(folder: Path, cadence: int) -> None:
    """What is no part of the time: imports, configuration and a connection."""
    import duckdb  # noqa: F401
    import ibis.backends.duckdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from wind_kedro.datasets import DerivedTable  # noqa: F401
    from wind_kedro.pipelines.data_engineering import nodes  # noqa: F401

    _fleet(cadence), _settings(), _backend(folder)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per size and work with a baseline: how many times it takes, by the clock and by the processor."""
    rows = []
    for (size, cadence), own in table.groupby(["rows", "cadence_seconds"]):
        took = own.set_index("work")[["seconds", "cpu_seconds"]].astype(float)
        for works, (baseline, bar) in BARS.items():
            if baseline in took.index and set(works) <= set(took.index):
                times = took.loc[list(works)].sum() / took.loc[baseline]
                rows.append((size, cadence, " + ".join(works), baseline, *times.round(1), bar))
    columns = ["rows", "cadence_seconds", "work", "baseline", "times", "times_by_cpu", "bar"]
    return pd.DataFrame(rows, columns=columns)


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that are missed, and results that differ between engines, a line each."""
    lines = [
        f"{row.work} at {row.rows}: {row.times:.1f} times {row.baseline}, bar {row.bar:g}"
        for row in compared(table).itertuples()
        if not row.times <= row.bar
    ]
    for (rows, _), own in table.groupby(["rows", "cadence_seconds"]):
        seconds = own.set_index("work")["seconds"]
        results = own.set_index("work")["result"].map(str)
        lines += [
            f"{work} at {rows}: other results than range_and_hours"
            for work in ENGINE
            if work in results and "range_and_hours" in results and results[work] != results["range_and_hours"]
        ]
        slower = seconds.get("pandas_range_and_hours", float("inf")) / seconds.get("range_and_hours", 1.0)
        if not slower >= PANDAS_SLOWER_AT_LEAST:
            lines.append(f"pandas at {rows}: {slower:.1f} times slower, bar {PANDAS_SLOWER_AT_LEAST:g}")
        big = own[~own["work"].str.startswith("pandas") & ~(own["peak_mb"] <= PEAK_MB_AT_MOST)]
        lines += [f"{row.work} at {rows}: {row.peak_mb} MB, bar {PEAK_MB_AT_MOST}" for row in big.itertuples()]
    return lines


def main() -> int:
    """Measure, write, judge; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=float, nargs="+", default=[1, 10, 50, 100, 500], help="sizes, millions of rows")
    parser.add_argument("--cadence", type=int, default=600, help="seconds from row to row of a turbine")
    parser.add_argument("--again", action="store_true", help="measure again what stands in the results")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of bench-data.csv")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help="where the made data goes; default: the system's")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work_here(options.work, options.folder, options.rows, options.cadence)
        return 0
    path = options.into / "bench-data.csv"
    before = (
        pd.read_csv(path) if path.is_file() and not options.again else pd.DataFrame(columns=["rows", "work", "cadence_seconds"])
    )
    measured: list[dict[str, Any]] = before.to_dict("records")
    for million in options.million:
        rows = int(million * 1_000_000)
        skipped = {row["work"] for row in measured if (row["rows"], row["cadence_seconds"]) == (rows, options.cadence)}
        wanted = [work for work in WORK if not (work.startswith("pandas") and million > PANDAS_MILLION)]
        # What writes tables is done again for what is missing behind it.
        while wanted and wanted[-1] in skipped:
            wanted.pop()
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="wind-kedro-bench-", dir=options.folder) as place:
            for work in wanted:
                if work in skipped and work not in ALONE:
                    continue
                try:
                    row = one(work, Path(place) / "made", rows, options.cadence)
                except CommandFailedError as error:
                    print(error, file=sys.stderr)
                    return 2
                measured = [
                    other for other in measured
                    if (other["rows"], other["cadence_seconds"], other["work"]) != (rows, options.cadence, work)
                ] + [row]  # fmt: skip
                record("bench-data", pd.DataFrame(measured), options.into)
                if work == "judge_signals":
                    # Of half a billion rows, seven gigabytes that nobody reads any more.
                    remove(_path(Path(place) / "made", "timed_signals"))
    table = pd.DataFrame(measured)
    print("\n" + compared(table).to_string(index=False))
    over = missed(table)
    print("\n" + ("MISSED: " + "; ".join(over) if over else "Every bar is met."))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
