"""Measurement: what cleaning and summing raw signals costs as they grow, against DuckDB merely reading them, and pandas.

    python benchmarks/bench_data.py --million 5 50 500

Made signals of ten turbines a farm, with faults in them, are written day by day as typed Parquet, in the columns of
`parsed_signals`. Then every piece of work runs in a process of its own over the same files, which were read once before.
The rules are the pipeline's own functions. What was measured before for the same size and work is kept (`--again` measures
anew), so that a broken run goes on where it was. Leaves with code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench_start import CommandFailedError, measure
from record import PROJECT, RESULTS, record

TURBINES = 50
START = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - times inside the room are UTC without zone
SIGNALS = ("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg")
#: pandas holds a whole table: at larger sizes it would not fit.
PANDAS_MILLION = 5
SPARK_MILLION = 5
MEMORY = "1500MB"
WORK = ["make", "duckdb_sum", "range_and_hours", "all_rules", "pandas_range_and_hours", "spark_range_and_hours"]
WHAT = {
    "make": "made signals, written day by day",
    "duckdb_sum": "read and sum the same columns: the baseline",
    "range_and_hours": "range rules, and means by turbine and hour",
    "all_rules": "versions and all rules with windows, by turbine and day, written to Parquet",
    "pandas_range_and_hours": "the same in pandas",
    "spark_range_and_hours": "the same expressions on Spark, its start included",
}
ENGINE = {"pandas_range_and_hours": "pandas", "spark_range_and_hours": "spark"}
#: Times the baseline, at most.
BARS = {"range_and_hours": 4.0, "all_rules": 40.0}
PEAK_MB_AT_MOST = 4000
PANDAS_SLOWER_AT_LEAST = 4.0


# --- the pieces of work, each in a process of its own -----------------------------------------------------------------


def make(folder: Path, rows: int, cadence: int) -> None:
    """Signals as they are after parsing: repetitions, revisions, stuck sensors, spikes and values out of range in one per cent.

    Numbers come from a hash of turbine and time, so that the same size is the same data.
    """
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY})
    a_day = TURBINES * 86400 // cadence
    folder.mkdir(parents=True)
    for day in range(-(-rows // a_day)):
        here = min(a_day, rows - day * a_day)
        first = START + dt.timedelta(days=day)
        dice = "(hash(i, {}) % 1000000) / 1e6"
        con.execute(
            f"""
            COPY (
              WITH steps AS (
                SELECT {day * a_day} + i AS i, i % {TURBINES} AS t,
                  TIMESTAMP '{first}' + to_seconds((i // {TURBINES}) * {cadence}) AS moment, i // {TURBINES} * {cadence} AS s,
                  {dice.format(1)} AS chance FROM range({here}) AS range(i)
              ), winds AS (
                SELECT *, round(8 + 5 * sin(({day} * 86400 + s) / 21000.0 + t) + {dice.format(2)}, 2) AS wind FROM steps
              )
              SELECT 'farm_' || (t // 10) AS farm_id, 'T' || (t % 10) AS turbine_id, 'made' AS source_file,
                i + 1 + copy * 1000000000000 AS source_row,
                moment + to_seconds({cadence} + 60) + to_days(copy) AS received_at,
                moment AS as_stamped, moment AS wall_clock_is_utc, moment AS wall_clock_is_local,
                round(CASE WHEN chance BETWEEN 0.001 AND 0.002 THEN 9999 WHEN chance BETWEEN 0.002 AND 0.003 THEN 0
                  ELSE least(2000, wind * wind * wind * 2) + CASE WHEN chance < 0.0005 THEN copy ELSE 0 END END, 1) AS power_kw,
                CASE WHEN chance BETWEEN 0.003 AND 0.004 THEN -1 ELSE wind END AS wind_speed_ms,
                CASE WHEN s % 86400 BETWEEN 36000 AND 46000 AND t % 7 = 0 THEN 77
                  ELSE round((240 + 3 * wind) % 360, 1) END AS wind_direction_deg,
                round(10 + wind / 10, 1) AS temperature_c, round(greatest(0, wind - 10), 1) AS pitch_deg,
                {", ".join(f"CAST(NULL AS VARCHAR) AS {name}_fault" for name in SIGNALS)},
                CAST(NULL AS VARCHAR) AS reason, CAST(NULL AS VARCHAR) AS detail
              FROM winds, unnest(CASE WHEN chance < 0.001 THEN [0, 1] ELSE [0] END) AS came(copy)
            ) TO '{folder}/{day:05d}.parquet'
            """  # noqa: S608 - numbers of our own
        )


def _columns() -> list[str]:
    return [f"sum({name})" for name in SIGNALS] + [
        "count(farm_id)", "count(turbine_id)", "max(wall_clock_is_utc)", "max(received_at)"
    ]  # fmt: skip


def duckdb_sum(folder: Path, cadence: int) -> dict[str, Any]:
    """The baseline."""
    import duckdb

    con = duckdb.connect(config={"memory_limit": MEMORY})
    found = con.execute(f"SELECT count(*), {', '.join(_columns())} FROM read_parquet('{folder}/*.parquet')")  # noqa: S608
    return {"rows": found.fetchall()[0][0]}


def _fleet(cadence: int) -> Any:
    from wind_kedro.cards import Fleet

    columns = {
        name: {"name": name, "unit": unit}
        for name, unit in zip(SIGNALS, ("kW", "m/s", "deg", "degC", "deg"), strict=True)
    }
    farms = [
        {
            "id": f"farm_{farm}", "name": f"Farm {farm}", "latitude_deg": 50.0, "longitude_deg": 5.0, "time_zone": "Etc/UTC",
            "capacity_kw": 20000, "latency_minutes": 1,
            "turbines": [{"id": f"T{number}", "rated_power_kw": 2000, "hub_height_m": 80} for number in range(10)],
            "signals": {"path": "made", "timestamp": "time", "turbine": "turbine", "received_at": "received",
                        "cadence_seconds": cadence, "columns": columns},
            "weather": [{"model": "alpha", "kind": "forecast", "path": "a.csv", "valid_at": "t", "run_at": "r",
                         "delay_minutes": 60, "run_every_minutes": 360, "length_hours": 12,
                         "columns": {"wind_speed_100m_ms": {"name": "w", "unit": "m/s"}}}],
        }
        for farm in range(TURBINES // 10)
    ]  # fmt: skip
    market = {"id": "m", "name": "M", "time_zone": "Etc/UTC", "settlement_minutes": 60,
              "gate_closure_minutes": 60, "currency": "EUR",
              "penalty": {"kind": "imbalance", "short_per_mwh": 1, "long_per_mwh": 1}}  # fmt: skip
    product = {"id": "p", "name": "P", "market": "m", "granularity_minutes": 60, "horizon_minutes": 240, "issue_times": ["06:00"],
               "quantile_levels": [0.1, 0.5, 0.9], "deciding_score": "pinball_share",
               "goal": {"target": 0.05, "since": "2024-01-01"}, "members": [farm["id"] for farm in farms]}  # fmt: skip
    return Fleet.from_config(farms=farms, groups=[], markets=[market], products=[product])


def _settings() -> Any:
    from wind_kedro.pipelines.data_engineering.settings import DataEngineering

    text = (PROJECT / "conf" / "base" / "parameters_data_engineering.yml").read_text(encoding="utf-8")
    return DataEngineering.model_validate(yaml.safe_load(text)["data_engineering"])


def hours(rows: Any, cadence: int) -> Any:
    """Values out of range removed and counted, and means by turbine and hour."""
    from wind_kedro.pipelines.data_engineering.parsing import range_faults

    rows = rows.mutate(rated_power_kw=2000.0, **{f"{name}_source": rows[name] for name in SIGNALS})
    rows = range_faults(rows, _fleet(cadence), _settings())
    grouped = rows.group_by(["farm_id", "turbine_id", rows.wall_clock_is_utc.truncate("h").name("hour")])
    return grouped.agg(
        **{name: rows[name].mean() for name in SIGNALS},
        **{f"{name}_faults": rows[f"{name}_fault"].count() for name in SIGNALS},
    )


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "groups": len(table),
        **{f"{name}_faults": int(table[f"{name}_faults"].sum()) for name in SIGNALS},
        **{name: round(float(table[name].sum()), 3) for name in SIGNALS},
    }


def _duckdb(folder: Path) -> dict[str, str]:
    return {"backend": "duckdb", "database": ":memory:", "memory_limit": MEMORY, "temp_directory": f"{folder}.spill"}


def _backend(folder: Path, kind: str = "duckdb") -> Any:
    from wind_kedro.datasets.connections import connect

    if kind == "duckdb":
        return connect(_duckdb(folder))
    overlay = yaml.safe_load((PROJECT / "conf" / "spark" / "globals.yml").read_text(encoding="utf-8"))
    return connect(overlay["tables"])


def range_and_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """On DuckDB."""
    backend = _backend(folder)
    return _summary(hours(backend.read_parquet(f"{folder}/*.parquet"), cadence).to_pandas())


def spark_range_and_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """On a local Spark session."""
    backend = _backend(folder, "pyspark")
    return _summary(hours(backend.read_parquet(str(folder)), cadence).to_pandas())


def pandas_range_and_hours(folder: Path, cadence: int) -> dict[str, Any]:
    """In pandas."""
    columns = ["farm_id", "turbine_id", "wall_clock_is_utc", *SIGNALS]
    rows = pd.concat(
        [pd.read_parquet(file, columns=columns) for file in sorted(folder.glob("*.parquet"))], ignore_index=True
    )
    for name, (low, high) in _settings().signal_ranges.items():
        scale = 2000.0 if name == "power_kw" else 1.0
        bad = (rows[name] < low * scale) | (rows[name] > high * scale)
        rows[f"{name}_faults"] = bad
        rows[name] = rows[name].mask(bad)
    rows["hour"] = rows["wall_clock_is_utc"].dt.floor("h")
    how = dict.fromkeys(SIGNALS, "mean") | {f"{name}_faults": "sum" for name in SIGNALS}
    return _summary(rows.groupby(["farm_id", "turbine_id", "hour"]).agg(how).reset_index())


def all_rules(folder: Path, cadence: int) -> dict[str, Any]:
    """`time_signals` as the pipeline runs it, from Parquet to Parquet."""
    from wind_kedro.clock import Clock
    from wind_kedro.datasets import IbisTable
    from wind_kedro.pipelines.data_engineering.timing import time_signals
    from wind_kedro.pipelines.data_engineering.units import nothing_suspected

    target = folder.with_name(f"{folder.name}.timed.parquet")
    dataset = IbisTable(filepath=str(target), connection=_duckdb(folder))
    fleet = _fleet(cadence)
    calibration = pd.DataFrame(
        [
            {"farm_id": farm.id, "fitted_at": pd.Timestamp(START, tz="UTC"), "reading": "as_stamped"}
            for farm in fleet.farms
        ]
    )
    clock = Clock(as_of=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
    timed = time_signals(
        dataset.connection.read_parquet(f"{folder}/*.parquet"),
        calibration,
        nothing_suspected(),
        fleet,
        clock,
        _settings(),
    )
    dataset.save(timed)
    table = dataset.load()
    found = table.group_by("status").agg(rows=table.count()).to_pandas()
    counted = {f"{name}_faults": table[f"{name}_fault"].count() for name in SIGNALS}
    counts = table.aggregate(**counted).to_pandas().iloc[0].to_dict()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return dict(zip(found["status"], found["rows"].astype(int), strict=True)) | {
        key: int(value) for key, value in counts.items()
    }


# --- measuring --------------------------------------------------------------------------------------------------------


def one(work: str, folder: Path, rows: int, cadence: int) -> dict[str, Any]:
    """Measure one piece of work in a process of its own; files are read once before, so that none is colder than another."""
    for file in folder.glob("*.parquet") if work != "make" else []:
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
    measured = measure(words, PROJECT, dict(os.environ))
    result = yaml.safe_load(folder.with_name(f"{folder.name}.result").read_text(encoding="utf-8"))
    return {
        "rows": rows, "cadence_seconds": cadence, "engine": ENGINE.get(work, "duckdb"), "work": work, "what": WHAT[work],
        "seconds": result["seconds"], "peak_mb": round(measured.peak_mb), "result": result["found"],
    }  # fmt: skip


def work_here(work: str, folder: Path, rows: int, cadence: int) -> None:
    """What a measured process does: its own start and imports are no part of the time."""
    functions: dict[str, Callable[..., Any]] = {
        "duckdb_sum": duckdb_sum, "range_and_hours": range_and_hours, "all_rules": all_rules,
        "pandas_range_and_hours": pandas_range_and_hours, "spark_range_and_hours": spark_range_and_hours,
    }  # fmt: skip
    import duckdb  # noqa: F401
    import ibis  # noqa: F401

    begin = time.perf_counter()
    found: Any
    if work == "make":
        make(folder, rows, cadence)
        found = {"bytes_a_row": round(sum(file.stat().st_size for file in folder.glob("*.parquet")) / rows, 1)}
    else:
        found = functions[work](folder, cadence)
    seconds = round(time.perf_counter() - begin, 2)
    text = yaml.safe_dump({"seconds": seconds, "found": found})
    folder.with_name(f"{folder.name}.result").write_text(text, encoding="utf-8")


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that are missed, and results that differ between engines, a line each."""
    lines = []
    for (rows, _), own in table.groupby(["rows", "cadence_seconds"]):
        seconds = own.set_index("work")["seconds"]
        lines += [
            f"{work} at {rows}: {seconds[work] / seconds['duckdb_sum']:.1f} times the baseline, bar {bar:g}"
            for work, bar in BARS.items()
            if work in seconds and not seconds[work] <= bar * seconds["duckdb_sum"]
        ]
        results = own.set_index("work")["result"].map(str)
        lines += [
            f"{work} at {rows}: other results than range_and_hours"
            for work in ENGINE
            if work in results and "range_and_hours" in results and results[work] != results["range_and_hours"]
        ]
        slower = seconds.get("pandas_range_and_hours", float("inf")) / seconds.get("range_and_hours", 1.0)
        if not slower >= PANDAS_SLOWER_AT_LEAST:
            lines.append(f"pandas at {rows}: {slower:.1f} times slower, bar {PANDAS_SLOWER_AT_LEAST:g}")
        big = own[~own["work"].str.startswith(("pandas", "spark")) & ~(own["peak_mb"] <= PEAK_MB_AT_MOST)]
        lines += [f"{row.work} at {rows}: {row.peak_mb} MB, bar {PEAK_MB_AT_MOST}" for row in big.itertuples()]
    return lines


def main() -> int:
    """Measure, write, judge; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=float, nargs="+", default=[5, 50, 500], help="sizes, millions of rows")
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
        pd.read_csv(path)
        if path.is_file() and not options.again
        else pd.DataFrame(columns=["rows", "work", "cadence_seconds"])
    )
    measured: list[dict[str, Any]] = before.to_dict("records")
    for million in options.million:
        rows = int(million * 1_000_000)
        skipped = {row["work"] for row in measured if (row["rows"], row["cadence_seconds"]) == (rows, options.cadence)}
        wanted = [
            work for work in WORK
            if not (work.startswith("pandas") and million > PANDAS_MILLION)
            and not (work.startswith("spark") and million > SPARK_MILLION)
        ]  # fmt: skip
        if set(wanted) <= skipped:
            continue
        with tempfile.TemporaryDirectory(prefix="wind-kedro-bench-", dir=options.folder) as place:
            for work in wanted:
                if work in skipped and work != "make":
                    continue
                try:
                    found = one(work, Path(place) / "made", rows, options.cadence)
                except CommandFailedError as error:
                    print(error, file=sys.stderr)
                    return 2
                measured = [
                    row for row in measured
                    if (row["rows"], row["cadence_seconds"], row["work"]) != (rows, options.cadence, work)
                ] + [found]  # fmt: skip
                record("bench-data", pd.DataFrame(measured), options.into)
    table = pd.DataFrame(measured)
    over = missed(table)
    print("\n" + ("MISSED: " + "; ".join(over) if over else "Every bar is met."))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
