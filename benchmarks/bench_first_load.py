"""Measurement: the first load of a fleet of small farms, from text to observations.

    python benchmarks/bench_first_load.py --farms 50 --days 365

The made signals of `bench_data`, with two turbines a farm, are written as one CSV file a farm. Then every step of the first load
runs in a process of its own, from its tables to its own, as in the catalog; the weather, by which clocks are calibrated, is left
out. Seconds of the processor are those of the work, without start-up. The row ``first_load`` is the sum of all steps. Leaves with
code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import bench_data
from bench_start import measure
from record import PROJECT, RESULTS, record

CADENCE = 600
TURBINES_A_FARM = 2
US_A_ROW_AT_MOST, PEAK_MB_AT_MOST = 15.0, 4000


def make(folder: Path, rows: int) -> None:
    """The files of farms: times in ISO 8601, empty where there is no value."""
    import duckdb

    bench_data.write_rows(folder, rows, CADENCE)
    (folder / "raw").mkdir()
    con = duckdb.connect(config={"memory_limit": bench_data.MEMORY})
    columns = ", ".join(
        [
            *(f"strftime({name}, '%Y-%m-%dT%H:%M:%SZ') AS {header}" for name, header in _TIMES.items()),
            "turbine_id AS turbine",
            *bench_data.SIGNALS,
        ]
    )
    for farm in bench_data._fleet(CADENCE).farms:
        con.execute(
            f"COPY (SELECT {columns} FROM read_parquet('{folder}/*.parquet') WHERE farm_id = '{farm.id}' ORDER BY source_row) "  # noqa: S608
            f"TO '{folder}/raw/{farm.signals.path}' (FORMAT csv, HEADER)"
        )


_TIMES = {"wall_clock_is_utc": "time", "received_at": "received"}


def read_raw(folder: Path) -> None:
    """Read the files as text."""
    _raw(folder).load()


def _raw(folder: Path) -> Any:
    from wind_kedro.readers.source_table import SourceTable

    cards = [farm.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for farm in bench_data._fleet(CADENCE).farms]
    kept = str(folder / "raw_rows")
    return SourceTable(kind="signals", root=str(folder / "raw"), farms=cards, connection=bench_data._duckdb(folder), kept=kept)


def parse(folder: Path) -> None:
    """The node, between its tables."""
    from wind_kedro.pipelines.data_engineering import nodes

    recipe = nodes.derive_parsed_signals(_raw(folder).load(), bench_data._fleet(CADENCE), bench_data._settings())
    bench_data._table(folder, "parsed_signals", whole=True).save(recipe)


def turbine_days(folder: Path) -> None:
    """The node, between its tables."""
    from wind_kedro.pipelines.data_engineering import nodes

    parsed = bench_data._table(folder, "parsed_signals", whole=True).load()
    recipe = nodes.derive_turbine_days(parsed, bench_data._fleet(CADENCE), bench_data._settings())
    bench_data._table(folder, "turbine_days").save(recipe)


def time_signals(folder: Path) -> None:
    """The node, between its tables."""
    bench_data.time_signals(folder, CADENCE, whole=True)


WORK: dict[str, Callable[[Path], Any]] = {
    "read_raw": read_raw,
    "parse": parse,
    "turbine_days": turbine_days,
    "time_signals": time_signals,
    "fit_power_curves": lambda folder: bench_data.fit_power_curves(folder, CADENCE),
    "judge_signals": lambda folder: bench_data.judge_signals(folder, CADENCE),
    "observations": lambda folder: bench_data.observations(folder, CADENCE),
}


def work_here(work: str, folder: Path, rows: int) -> None:
    """Do one step, and write what it took."""
    if work == "make":
        make(folder, rows)
        return
    bench_data.warm_up(folder, CADENCE)
    begin, cpu = time.perf_counter(), bench_data._cpu_seconds()
    WORK[work](folder)
    took = {"wall_s": time.perf_counter() - begin, "cpu_s": bench_data._cpu_seconds() - cpu}
    took["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    folder.with_name(f"{folder.name}.result").write_text(yaml.safe_dump(took), encoding="utf-8")


def measured(farms: int, days: int, place: Path) -> pd.DataFrame:
    """One row per step."""
    folder, rows, found = place / "made", farms * TURBINES_A_FARM * days * 86400 // CADENCE, []
    words = [sys.executable, __file__, "--farms", str(farms), "--days", str(days), "--folder", str(folder), "--work"]
    measure([*words, "make"], PROJECT, dict(os.environ))
    for work in WORK:
        measure([*words, work], PROJECT, dict(os.environ))
        took = yaml.safe_load(folder.with_name(f"{folder.name}.result").read_text(encoding="utf-8"))
        found.append({"step": work} | took)
        print(f"{work}: {took['cpu_s']:.1f} s of processor, {took['peak_mb']:.0f} MB", flush=True)
    table = pd.DataFrame(found)
    total = {
        "step": "first_load",
        "wall_s": table["wall_s"].sum(),
        "cpu_s": table["cpu_s"].sum(),
        "peak_mb": table["peak_mb"].max(),
    }
    table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
    table = table.assign(farms=farms, days=days, rows=rows, us_a_row=table["cpu_s"] / rows * 1e6, load=os.getloadavg()[0])
    table = table[["farms", "days", "rows", "step", "wall_s", "cpu_s", "us_a_row", "peak_mb", "load"]]
    return table.round({"wall_s": 1, "cpu_s": 1, "us_a_row": 2, "peak_mb": 0, "load": 1})


def main() -> int:
    """Measure, write, judge; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", type=int, default=50)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of bench-first-load.csv (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=None, help="where the made data goes; default: the system's")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    bench_data.TURBINES, bench_data.TURBINES_A_FARM = options.farms * TURBINES_A_FARM, TURBINES_A_FARM
    if options.work:
        work_here(options.work, options.folder, options.farms * TURBINES_A_FARM * options.days * 86400 // CADENCE)
        return 0
    with tempfile.TemporaryDirectory(prefix="wind-kedro-bench-", dir=options.folder) as place:
        table = measured(options.farms, options.days, Path(place))
    record("bench-first-load", table, options.out, key=["farms", "days", "step"])
    total = table.iloc[-1]
    missed = total["us_a_row"] > US_A_ROW_AT_MOST or total["peak_mb"] > PEAK_MB_AT_MOST
    print("MISSED" if missed else "Every bar is met.", f"{total['us_a_row']} µs a row, {total['peak_mb']:.0f} MB")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
