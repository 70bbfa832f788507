"""The backend dask: a scheduler and workers in processes of their own on loopback, with TLS; and processes of this machine."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from commands import type_in_turn
from dask_cluster import (
    CountedTable,
    DaskCluster,
    free_port,
    halve,
    note_and_wait,
    served,
    tasks_of_scheduler,
    total,
    whereabouts,
    write_certificates,
)
from wind_kedro.compute import Mapped, Rows, Shared, Workers, cluster, map_farms
from wind_kedro.compute.cluster import ClusterError
from wind_kedro.datasets import tables_in

# Dask leaves sockets of connections that were lost, and of clusters that end, to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ADDRESS = "tls://10.0.0.5:8786"
#: Tables and columns that no two runs share: what a run cost, the wall clock, ids of runs and versions, what signs them.
VOLATILE_TABLES = {"raw_rows", "kits", "objects", "failures"}
VOLATILE = {
    "recorded_at", "model_run_id", "run_id", "promotion", "sha256", "previous_sha256", "modified_ns", "sequence", "first_seen_at",
    "manifest_sha256", "chain", "signature",
}  # fmt: skip
TLS = {"ca": "ca.pem", "certificate": "certificate.pem", "key": "key.pem"}


@pytest.fixture(scope="module", autouse=True)
def _disconnected() -> Iterator[None]:
    """What is left to the garbage collector is collected here, and not in the test of another file."""
    yield
    for client in cluster._clients.values():
        own = client.cluster
        client.close()
        if own is not None:
            own.close()
    cluster._clients.clear()
    gc.collect()


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with served(tmp_path_factory.mktemp("dask")) as running:
        yield running


def _workers(of: DaskCluster, **settings: object) -> Workers:
    return Workers.model_validate({"backend": "dask", "scheduler": of.address, "tls": of.tls} | settings)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"scheduler": "tcp://10.0.0.5:8786"}, "tcp://10.0.0.5:8786 is not encrypted"),
        ({"scheduler": "tcp://scheduler.example:8786"}, "not encrypted"),
        ({"scheduler": "ws://127.0.0.1:8786"}, "write tls://host:port"),
        ({"scheduler": "127.0.0.1:8786"}, "write tls://host:port"),
        ({"scheduler": "tls://10.0.0.5"}, "write tls://host:port"),
        ({"scheduler": "tls://10.0.0.5:port"}, "write tls://host:port"),
        ({"scheduler": ADDRESS}, "set tls.ca, tls.certificate and tls.key"),
        ({"tls": TLS}, "set scheduler"),
        ({"backend": "loky", "scheduler": ADDRESS}, "only with backend: dask"),
        ({"backend": "loky", "time_limit_seconds": 60}, "only with backend: dask"),
        ({"time_limit_seconds": 0}, "greater than 0"),
    ],
)
def test_settings_that_are_unsafe_or_do_nothing_are_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Workers.model_validate({"backend": "dask"} | settings)


@pytest.mark.parametrize(
    "settings",
    [{"scheduler": ADDRESS, "tls": TLS}, {"scheduler": "tcp://localhost:1"}, {"scheduler": "tcp://[::1]:8786"}, {"jobs": 2}],
)
def test_tls_and_loopback_are_accepted(settings: dict[str, object]) -> None:
    Workers.model_validate({"backend": "dask"} | settings)


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_results_and_failures_are_those_of_this_machine(dask_cluster: DaskCluster) -> None:
    tasks = {("hours", number): (float(number), 0.2 if number == 0 else 0.0) for number in range(-1, 300)}
    expected = map_farms(halve, tasks, workers=Workers(backend="threading", jobs=1), label="halve")
    assert expected.failures == {("hours", -1): "ValueError: -1.0 is below nothing"}
    spread = map_farms(halve, tasks, workers=_workers(dask_cluster), label="halve all")
    assert list(spread.results.items()) == list(expected.results.items())
    assert spread.failures == expected.failures
    assert map_farms(halve, {}, workers=_workers(dask_cluster), label="halve") == Mapped()


def test_tasks_are_computed_in_all_workers_and_not_here(dask_cluster: DaskCluster) -> None:
    cluster.connected(_workers(dask_cluster)).wait_for_workers(2, timeout=60)
    found = map_farms(whereabouts, dict.fromkeys(range(8), (0.2,)), workers=_workers(dask_cluster), label="where")
    processes = set(found.results.values())
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.slow
def test_what_tasks_share_is_sent_once(dask_cluster: DaskCluster) -> None:
    numbers = np.random.default_rng(7)
    tables = [CountedTable({"power": numbers.normal(size=50)}) for _ in range(2)]
    CountedTable.sent = 0
    factor = Shared(CountedTable({"factor": [2.0]}))
    tasks = {
        (number, place): (Rows.where(table, numbers.random(50) < 0.5), factor, number == 1 and place == 20)
        for number, table in enumerate(tables)
        for place in range(40)
    }
    expected = {key: total(rows.take(), factor.value, end=False) for key, (rows, _, end) in tasks.items() if not end}
    found = map_farms(total, tasks, workers=_workers(dask_cluster), label="rows")
    assert found.results == expected
    assert list(found.failures) == [(1, 20)]  # what its worker had of the table is sent again by the scheduler
    assert CountedTable.sent <= 2 * (len(tables) + 1)
    _nothing_is_left(dask_cluster)


def test_a_worker_that_is_killed_costs_no_result(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    tasks = {name: (str(tmp_path), name, 60.0 if name == "c" else 0.0) for name in "abcdef"}

    def kill() -> None:
        _until(lambda: (tmp_path / "c").exists() and (tmp_path / "c").read_text("utf-8") != "", "the task does not begin")
        os.kill(int((tmp_path / "c").read_text("utf-8")), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = map_farms(note_and_wait, tasks, workers=_workers(dask_cluster), label="killed")
    killer.join()
    assert found == Mapped(results={name: name for name in tasks})


def test_a_farm_that_exceeds_the_time_limit_costs_only_itself(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    tasks = {name: (str(tmp_path), name, 600.0 if name == "f" else 0.0) for name in "abcdefghijklmnop"}
    found = map_farms(note_and_wait, tasks, workers=_workers(dask_cluster, time_limit_seconds=1), label="slow")
    assert found.failures == {"f": "TimeoutError: it took longer than 1 s (workers.time_limit_seconds)"}
    assert found.results == {name: name for name in tasks if name != "f"}
    process = int((tmp_path / "f").read_text("utf-8"))
    _until(lambda: not _runs(process), "the process in which it runs goes on")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_few_tasks_are_sent_at_a_time(dask_cluster: DaskCluster) -> None:
    counts = map_farms(tasks_of_scheduler, dict.fromkeys(range(60), ()), workers=_workers(dask_cluster), label="count")
    assert not counts.failures
    # Two shards for each of two workers; one more may be on its way out.
    assert max(counts.results.values()) <= 5


def test_an_interrupt_cancels_what_was_not_computed(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    tasks = {str(number): (str(tmp_path), str(number), 0.5) for number in range(100)}

    def interrupt() -> None:
        _until(lambda: any(tmp_path.iterdir()), "no task begins")
        os.kill(os.getpid(), signal.SIGINT)

    # Processes of pytest-xdist ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            map_farms(note_and_wait, tasks, workers=_workers(dask_cluster), label="interrupted")
    finally:
        signal.signal(signal.SIGINT, before)
    _nothing_is_left(dask_cluster)
    assert len(list(tmp_path.iterdir())) < 10


@pytest.mark.slow
def test_the_tasks_of_a_process_that_is_terminated_are_cancelled(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    program = (
        "from dask_cluster import note_and_wait; from wind_kedro.compute import Workers, map_farms; "
        f"tasks = {{str(number): ({str(tmp_path)!r}, str(number), 0.5) for number in range(100)}}; "
        f"workers = Workers.model_validate({_workers(dask_cluster).model_dump()!r}); "
        "map_farms(note_and_wait, tasks, workers=workers, label='terminated')"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    _until(lambda: any(tmp_path.iterdir()), "no task begins")
    driver.terminate()
    driver.wait(30)
    _nothing_is_left(dask_cluster)
    assert len(list(tmp_path.iterdir())) < 10


def _nothing_is_left(of: DaskCluster) -> None:
    client = cluster.connected(_workers(of))
    _until(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)), "tasks are left")


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_worker_of_another_version_is_refused(dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cluster.environment() | {"wind-kedro": "9.9.9 (abc)"}
    monkeypatch.setattr(cluster, "own_environment", lambda: own)
    with pytest.raises(ClusterError, match=r"worker tls://.* has wind-kedro .*, and this process 9\.9\.9"):
        map_farms(halve, {"a": (2.0,)}, workers=_workers(dask_cluster), label="halve")


def test_certificates_of_another_authority_are_refused(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    workers = _workers(dask_cluster, tls=write_certificates(tmp_path), connect_seconds=1)
    with pytest.raises(ClusterError, match="no scheduler of Dask answers at tls://") as caught:
        map_farms(halve, {"a": (2.0,)}, workers=workers, label="halve")
    assert "\n" not in str(caught.value)


def test_a_path_of_a_certificate_may_be_a_variable(dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_FILES", str(Path(dask_cluster.tls["key"]).parent))
    tls = {name: f"$DASK_FILES/{name}.pem" for name in dask_cluster.tls}
    assert map_farms(halve, {"a": (2.0,)}, workers=_workers(dask_cluster, tls=tls), label="halve").results == {"a": 1.0}
    monkeypatch.delenv("DASK_FILES")
    with pytest.raises(ClusterError, match=r"workers\.tls\.ca: there is no file \$DASK_FILES/ca\.pem"):
        map_farms(halve, {"a": (2.0,)}, workers=_workers(dask_cluster, tls=tls | {"key": "other"}), label="halve")


def test_no_scheduler_is_one_line() -> None:
    workers = Workers(backend="dask", scheduler=f"tcp://127.0.0.1:{free_port()}", connect_seconds=0.5)
    with pytest.raises(ClusterError, match="no scheduler of Dask answers at tcp://127") as caught:
        map_farms(halve, {"a": (2.0,)}, workers=workers, label="halve")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_scheduler_that_is_lost_ends_the_step_and_the_next_one_is_right(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    workers = _workers(dask_cluster)
    tasks = {str(number): (str(tmp_path), str(number), 0.5) for number in range(100)}

    def kill() -> None:
        _until(lambda: any(tmp_path.iterdir()), "no task begins")
        dask_cluster.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterError, match=r"the scheduler was lost \(tls://.*start it and run again") as caught:
        map_farms(note_and_wait, tasks, workers=workers, label="lost")
    killer.join()
    assert "\n" not in str(caught.value)
    dask_cluster.start(workers=1)
    assert map_farms(halve, {"a": (2.0,), "b": (4.0,)}, workers=workers, label="halve").results == {"a": 1.0, "b": 2.0}


@pytest.mark.slow
def test_processes_of_this_machine_need_no_scheduler() -> None:
    workers = Workers(backend="dask", jobs=2, time_limit_seconds=30)
    found = map_farms(whereabouts, dict.fromkeys(range(6), (0.2,)), workers=workers, label="where")
    assert len(set(found.results.values())) == 2
    assert os.getpid() not in found.results.values()


@pytest.mark.long
def test_the_tables_of_a_run_are_those_of_this_machine(make_checkout: Callable[[], Path], tmp_path: Path) -> None:
    pipelines = ["run", "--env", "test", "--pipelines", "data_engineering,feature_engineering,training,forecasting"]
    here, spread = make_checkout(), make_checkout()
    type_in_turn(here, pipelines, allowed=(0, 1))  # 1: faults of the fleet
    with served(tmp_path) as running:
        path = spread / "conf/test/parameters_run.yml"
        settings = yaml.safe_load(path.read_text("utf-8"))
        workers = _workers(running, time_limit_seconds=300)
        path.write_text(yaml.safe_dump(settings | {"workers": workers.model_dump()}), encoding="utf-8")
        killer = threading.Thread(target=_kill_worker_that_computes, args=(workers, "backtest"))
        killer.start()
        type_in_turn(spread, pipelines, allowed=(0, 1))
        killer.join()
    expected, found = (tables_in(folder / "data/test", without=VOLATILE_TABLES) for folder in (here, spread))
    assert set(found) == set(expected)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(_sorted(found[name]), _sorted(table), rtol=1e-9, atol=1e-12, check_like=True, obj=name)
    assert len(expected["06_models/backtest_model_forecasts"]) > 1000


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Without what no two runs share, in the order of its keys."""
    own = table.drop(columns=VOLATILE, errors="ignore")
    arrays = [column for column in own if isinstance(own[column].iloc[:1].squeeze(), np.ndarray)]
    keys = [column for column in own if column not in arrays and not pd.api.types.is_float_dtype(own[column])]
    return own.sort_values([*keys, *own.columns.difference([*keys, *arrays])], ignore_index=True)


def _kill_worker_that_computes(workers: Workers, label: str) -> None:
    client = cluster.connected(workers)
    found: list[str] = []

    def is_found() -> bool:
        found.extend(address for address, keys in client.processing().items() if any(label in str(key) for key in keys))
        return bool(found)

    deadline = time.monotonic() + 300
    while not is_found():
        assert time.monotonic() < deadline, f"no task of {label}"
        time.sleep(0.02)
    os.kill(client.run(os.getpid, workers=found[:1])[found[0]], signal.SIGKILL)
