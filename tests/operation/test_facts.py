"""What metrics and readiness are made from is what the tables hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from wind_kedro.contracts.operation import Failures, Incidents
from wind_kedro.datasets import History, ParquetTable
from wind_kedro.failures import Failure, failures_table
from wind_kedro.operation.facts import Facts, read_facts

NOW = pd.Timestamp("2024-03-31T12:00", tz="UTC")


def _tables(folder: Path) -> dict[str, Any]:
    contracts = "wind_kedro.contracts"
    return {
        "forecasts": History(
            filepath=str(folder / "forecasts"),
            partition_by=["product_id", "issued_at"],
            contract=f"{contracts}.forecasts.Forecasts",
        ),
        "failures": ParquetTable(filepath=str(folder / "failures.parquet"), contract=f"{contracts}.operation.Failures"),
        "incidents": History(
            filepath=str(folder / "incidents"), partition_by=["raised_at"], contract=f"{contracts}.operation.Incidents"
        ),
    }


def test_an_environment_without_tables_has_issued_nothing(tmp_path: Path) -> None:
    none = {"info": 0, "warning": 0, "error": 0}
    assert read_facts(_tables(tmp_path), ["hours"], NOW.to_pydatetime()) == Facts({}, none, none)


def test_the_newest_issues_and_what_is_open(tmp_path: Path) -> None:
    tables = _tables(tmp_path)
    issues = {
        "hours": ["2024-03-29T06:00", "2024-03-31T06:00", "2024-03-31T18:00"],
        "days": ["2024-03-12T06:00"],
        "gone": ["2024-03-31"],
    }
    rows = [(product, pd.Timestamp(time, tz="UTC")) for product, times in issues.items() for time in times]
    tables["forecasts"].save(pd.DataFrame(rows, columns=["product_id", "issued_at"]))
    failed = [Failure("fit", "model_not_fitted", f"m{number}", "look", "error") for number in range(2)]
    tables["failures"].save(Failures.validate(failures_table(failed, NOW)))
    columns = ["entity_id", "product_id", "kind", "subject", "message", "evidence", "action"]
    found = [("2024-03-30", "error", "open"), ("2024-03-31", "error", "resolved"), ("2024-03-31", "warning", "open")]
    incidents = [
        {"raised_at": time, "severity": severity, "state": state, "opened_at": time} | dict.fromkeys(columns, "x")
        for time, severity, state in found
    ]
    tables["incidents"].save(Incidents.table(incidents))
    facts = read_facts(tables, ["hours", "days", "never"], NOW.to_pydatetime())
    # An issue of the future, as after a clock was set back, is not the newest.
    assert {name: f"{time:%m-%dT%H}" for name, time in facts.newest.items()} == {"hours": "03-31T06", "days": "03-12T06"}
    assert facts.failures == {"info": 0, "warning": 0, "error": 2}
    assert facts.incidents == {"info": 0, "warning": 1, "error": 0}
