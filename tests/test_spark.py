"""The same expressions on a real Spark session of this machine give the tables that DuckDB gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

PROJECT = Path(__file__).parents[1]
#: What the room leaves behind, and what tells one row from another.
TABLES = {
    "02_intermediate/timed_signals.parquet": ["farm_id", "source_file", "source_row"],
    "02_intermediate/signals.parquet": ["farm_id", "source_file", "source_row"],
    "02_intermediate/quarantine.parquet": ["farm_id", "source_table", "source_file", "source_row"],
    "02_intermediate/clock_calibration.parquet": ["farm_id", "fitted_at"],
    "02_intermediate/power_curve.parquet": ["farm_id", "fitted_at", "wind_speed_ms"],
    "02_intermediate/weather.parquet": ["farm_id", "weather_model", "run_at", "valid_at", "available_at"],
    "03_primary/observations.parquet": ["entity_id", "granularity_minutes", "valid_at", "available_at"],
    "03_primary/data_quality.parquet": ["farm_id", "source_table", "check", "signal"],
}
#: For the few rows of the test fleet: what Java and Spark compile to be quick with many rows costs more than it saves.
FEW_ROWS = {"spark.sql.shuffle.partitions": 1, "spark.sql.codegen.wholeStage": False}
FEW_ROWS_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def _read(folder: Path, name: str) -> pd.DataFrame:
    """In an order of its own; times in UTC, as Spark writes all of them, and without the fitting's last digits."""
    table = pd.read_parquet(folder / name)
    times = {column: pd.to_datetime(table[column], utc=True) for column in table.select_dtypes(["datetime", "datetimetz"])}
    return table.assign(**times).drop(columns="evidence", errors="ignore").sort_values(TABLES[name], ignore_index=True)


@pytest.mark.slow
def test_spark_gives_the_tables_that_duckdb_gives(make_checkout: Callable[[], Path], request: pytest.FixtureRequest) -> None:
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none here")
    project = make_checkout()
    shutil.copytree(PROJECT / "conf" / "spark", project / "conf" / "spark")
    tables = yaml.safe_load((PROJECT / "conf" / "spark" / "globals.yml").read_text(encoding="utf-8"))
    session = tables["tables"]["session"]
    session |= FEW_ROWS
    session["spark.driver.extraJavaOptions"] += f" {FEW_ROWS_JAVA}"
    overlay = project / "conf" / "test" / "globals.yml"
    overlay.write_text(overlay.read_text(encoding="utf-8") + yaml.safe_dump(tables), encoding="utf-8")
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline", "data_engineering"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "data/test/02_intermediate/timed_signals.parquet").is_dir()
    # Only now: while another worker makes it, this one is not to wait.
    test_env_project = request.getfixturevalue("test_env_project")
    for name in TABLES:
        spark, duckdb = _read(project / "data/test", name), _read(test_env_project / "data/test", name)
        # Spark rounds the mean of decimals to ten digits, and its sines differ in the last bit. A turbine's mean that lies in the
        # middle of two steps of the sixth decimal goes up in one engine and down in the other.
        pd.testing.assert_frame_equal(
            spark[duckdb.columns], duckdb, check_exact=False, rtol=1e-8, atol=1e-6, check_dtype=False, obj=name
        )
