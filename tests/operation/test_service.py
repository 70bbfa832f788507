"""The service as people run it: a process, its records, its port, its end."""

from __future__ import annotations

import json
import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from wind_kedro.cards import Fleet
from wind_kedro.datasets import History, read_table
from wind_kedro.operation.facts import Facts
from wind_kedro.operation.records import CycleRecords
from wind_kedro.operation.service import Service
from wind_kedro.operation.settings import Operation
from wind_kedro.operation.watch import Watch
from wind_kedro.operation.worker import Worker

#: Nothing that is waited for takes longer, seconds; on a busy machine.
PATIENCE = 120


def _wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


class Running:
    """A service that runs in a folder."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self._log = folder, log
        command = [sys.executable, "-m", "kedro", "wind", "operate", "--port", "0"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    def log(self) -> str:
        return self._log.read_text("utf-8")

    def address(self) -> str:
        def found() -> str:
            assert self.process.poll() is None, self.log()
            return "".join(re.findall(r"http://127\.0\.0\.1:\d+", self.log())[:1])

        return str(_wait_for(found))

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address() + path, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float | None:
        """The value of a metric with its labels; None: it is not there."""
        found = [line.rpartition(" ")[2] for line in self.ask("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
        return float(found[0]) if found else None

    def wait_for(self, name: str, value: float) -> None:
        assert _wait_for(lambda: self.metric(name) == value), self.log()

    def signal(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def _running(folder: Path, log: Path) -> Iterator[Running]:
    running = Running(folder, log)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()


def _today(folder: Path) -> pd.Timestamp:
    """Move the last days of the small fleet's data to the present, and its issue to their end; the time of that issue."""
    raw, base = folder / "data/01_raw", folder / "conf/base"
    issue = pd.Timestamp.now("UTC").floor("6h")
    moved = issue - pd.Timestamp("2024-03-31T12:00", tz="UTC")
    for name, columns in (("hill.csv", ["time"]), ("alpha.csv", ["run", "time"])):
        table = pd.read_csv(raw / name)
        for column in columns:
            table[column] = pd.to_datetime(table[column], utc=True) + moved
        recent = table[table[columns[0]] >= issue - pd.Timedelta(days=40)]
        recent.to_csv(raw / name, index=False, date_format="%Y-%m-%dT%H:%MZ")
    _edit(base / "products.yml", lambda given: given["products"][0].update(issue_times=[f"{issue:%H:%M}"]))
    trained = (issue - pd.Timedelta(days=1)).isoformat()
    _edit(base / "parameters_run.yml", lambda given: given["clock"].update(train_as_of=trained, issue_from=None))
    return issue


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _operate(folder: Path) -> None:
    """Two kinds of cycles, the first of which trains what the second needs; data is noticed at once."""
    cycles = {
        "training": {
            "pipelines": ["data_engineering", "feature_engineering", "training"],
            "every_minutes": 10080,
            "max_age_hours": 200,
            "attempts": 2,
        },
        "forecast": {
            "pipelines": ["ingestion", "data_engineering", "feature_engineering", "forecasting"],
            "at_issues": True,
            "new_data_minutes": 0,
        },
    }
    settings = {"poll_seconds": 0.2, "late_minutes": 0, "retry_seconds": 1, "cycles": cycles}
    (folder / "conf/base/parameters_operation.yml").write_text(
        yaml.safe_dump({"operation": settings}, sort_keys=False), encoding="utf-8"
    )


def _cycles(folder: Path) -> list[tuple[str, int, str, str]]:
    table = read_table(folder / "data/07_model_output/cycles").sort_values("started_at")
    return [tuple(row) for row in table[["kind", "attempt", "cause", "outcome"]].to_numpy()]


#: As in the catalog.
CYCLES = {"partition_by": ["kind", "due_at"], "contract": "wind_kedro.contracts.operation.Cycles"}
SUCCEEDED = 'wind_kedro_cycles_total{kind="forecast",outcome="succeeded"}'


@pytest.mark.slow
def test_the_service_issues_once_survives_a_kill_notices_data_and_drains(
    make_small_fleet: Callable[[], Path], tmp_path: Path
) -> None:
    folder = make_small_fleet()
    issue = _today(folder)
    _operate(folder)
    with _running(folder, tmp_path / "first.log") as first:
        _wait_for((folder / "data/.lease-tables.json").exists)  # its first cycle writes
        assert first.ask("/health") == (200, '{"healthy": true}\n')
        status, answer = first.ask("/ready")
        assert status == 503
        assert any("hours: no forecast of" in reason for reason in json.loads(answer)["reasons"])
        assert first.metric('wind_kedro_newest_forecast_age_seconds{product="hours"}') == float("inf")
        assert first.signal(signal.SIGKILL) == -signal.SIGKILL
    with _running(folder, tmp_path / "second.log") as second:
        second.wait_for(SUCCEEDED, 1)
        second.wait_for("wind_kedro_ready", 1)
        assert second.ask("/ready") == (200, '{"ready": true, "reasons": []}\n')
        age = second.metric('wind_kedro_newest_forecast_age_seconds{product="hours"}')
        assert age is not None
        assert abs(pd.Timestamp.now("UTC") - issue - pd.Timedelta(seconds=age)) < pd.Timedelta(minutes=1)

        # Another process for the same environment is refused in a line, while this one goes on with what arrives.
        other = Running(folder, tmp_path / "other.log")
        raw = folder / "data/01_raw/alpha.csv"
        run = (issue - pd.Timedelta(hours=6)).strftime("%Y-%m-%dT%H:%MZ")
        raw.write_text(re.sub(rf"^({run},[^,]+),.*$", r"\1,20.0", raw.read_text("utf-8"), flags=re.MULTILINE), encoding="utf-8")
        before = _forecasts(folder)
        second.wait_for(SUCCEEDED, 2)
        after = _forecasts(folder)
        assert (after["issued_at"] == issue).all()
        assert not after.duplicated(["product_id", "entity_id", "issued_at", "valid_at"]).any()
        assert (after["q500_kw"] > before["q500_kw"]).any()
        assert other.process.wait(PATIENCE) == 1
        assert "one process operates an environment" in other.log()
        assert "Traceback" not in other.log()

        # The cycle that runs ends before the service does.
        os.utime(raw)
        second.wait_for('wind_kedro_cycle_running{kind="forecast"}', 1)
        assert second.signal(signal.SIGTERM) == 0
    assert _cycles(folder) == [
        ("training", 1, "schedule", "interrupted"),
        ("training", 2, "schedule", "succeeded"),
        ("forecast", 1, "issue", "succeeded"),
        ("forecast", 1, "data", "succeeded"),
        ("forecast", 1, "data", "succeeded"),
    ]


def test_what_runs_when_the_drain_ends_is_stopped_and_run_again_by_the_next_service(fleet: Fleet, tmp_path: Path) -> None:
    def service(run: Any, **settings: Any) -> Service:
        every = {"pipelines": ["forecasting"], "every_minutes": 1440, "max_age_hours": 48}
        operation = Operation.model_validate({"poll_seconds": 0.1, "retry_seconds": 0, "cycles": {"forecast": every}} | settings)
        history = History(filepath=str(tmp_path / "cycles"), **CYCLES)
        records = CycleRecords(history, pd.Timestamp.now("UTC").to_pydatetime())
        return Service(
            operation,
            fleet,
            records,
            Worker(run, 1),
            lambda *_: 1000,
            Watch(tmp_path, fleet, 1),
            lambda _: Facts(),  # type: ignore[arg-type, return-value]
        )

    def end_when_it_runs(started: Service) -> None:
        _wait_for(lambda: started.running is not None)
        started.stopping.set()

    first = service(time.sleep, drain_seconds=0)
    thread = threading.Thread(target=end_when_it_runs, args=[first])
    thread.start()
    first.run()
    thread.join()
    (attempt,) = first.records.of("forecast")
    assert (attempt.attempt, attempt.outcome, attempt.message) == (1, "interrupted", "was stopped after drain_seconds (0)")

    # It takes too long there, and its process ends by itself in a third.
    second = service(time.sleep, cycles={"forecast": first.settings.cycles["forecast"].model_dump() | {"limit_minutes": 0.001}})
    assert second.run_once() is False
    assert service(os._exit).run_once() is False
    outcomes = [(each.due_at, each.attempt, each.outcome) for each in service(time.sleep).records.of("forecast")]
    assert outcomes == [
        (attempt.due_at, number, what) for number, what in ((1, "interrupted"), (2, "failed"), (3, "interrupted"))
    ]


def test_a_store_that_cannot_be_written_is_a_reason_for_not_being_ready_and_no_end(fleet: Fleet, tmp_path: Path) -> None:
    every = {"pipelines": ["forecasting"], "every_minutes": 1440, "max_age_hours": 48}
    operation = Operation.model_validate({"poll_seconds": 0.1, "retry_seconds": 0.1, "cycles": {"forecast": every}})
    records = CycleRecords(History(filepath=str(tmp_path / "cycles"), **CYCLES), pd.Timestamp.now("UTC").to_pydatetime())
    (tmp_path / "cycles").write_text("a file where the folder of the table belongs")
    run = Worker(operator.itemgetter(0), 1)  # type: ignore[arg-type]
    service = Service(
        operation,
        fleet,
        records,
        run,
        lambda *_: [("succeeded", "")],
        Watch(tmp_path, fleet, 1),
        lambda _: Facts(),  # type: ignore[list-item]
    )
    thread = threading.Thread(target=service.run)
    thread.start()
    _wait_for(lambda: service.fault)
    assert service.is_healthy()
    assert service.fault in service.why_not_ready()
    assert service.running is None
    (tmp_path / "cycles").unlink()
    _wait_for(lambda: service.counts["forecast", "succeeded"])
    service.stopping.set()
    thread.join()
    assert service.fault == ""


def _forecasts(folder: Path) -> pd.DataFrame:
    table = read_table(folder / "data/07_model_output/forecasts")
    return table.sort_values(["product_id", "entity_id", "issued_at", "valid_at"], ignore_index=True)
