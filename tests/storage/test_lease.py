"""One process at a time writes an environment: the others wait or are refused in one line; a dead one's lease is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from wind_kedro.cli import cli
from wind_kedro.errors import WindKedroError
from wind_kedro.storage.lease import HeldLeaseError, Lease, LeaseSettings

#: Takes the lease of the folder that is named, and keeps it until it is ended.
HOLD = """
import sys, time
from pathlib import Path
from wind_kedro.storage.lease import Lease
with Lease(Path(sys.argv[1]), sys.argv[2], 0):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that hold a lease; each is ended with the test."""
    processes = []

    def start(folder: Path, what: str = "tables") -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, folder, what], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_another_process_is_refused_in_one_line_that_names_the_holder_and_the_setting(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = hold(tmp_path)
    with pytest.raises(HeldLeaseError) as caught:
        Lease(tmp_path, "tables", 0.2).acquire()
    line = str(caught.value)
    assert "\n" not in line
    assert f"process {holder.pid} on {os.uname().nodename}" in line
    assert f"since {json.loads((tmp_path / '.lease-tables.json').read_text())['since']}" in line
    assert "lease.wait_seconds" in line
    assert "parameters_run.yml (it is 0.2)" in line


def test_leases_of_other_things_and_other_environments_are_free(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    hold(tmp_path / "one")
    for folder, what in ((tmp_path / "one", "landing"), (tmp_path / "two", "tables")):
        with Lease(folder, what, 0):
            pass


def test_a_run_waits_as_long_as_it_is_set_to(tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    holder = hold(tmp_path)
    begun = time.monotonic()
    with pytest.raises(HeldLeaseError):
        Lease(tmp_path, "tables", 1).acquire()
    assert time.monotonic() - begun >= 1
    holder.terminate()  # it ends without a word, as a run that a service manager stops
    with Lease(tmp_path, "tables", 30):
        assert holder.wait(5) == -signal.SIGTERM


def test_a_killed_holder_keeps_nothing(tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    holder = hold(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / ".lease-tables.json").read_text())["pid"] == holder.pid
    with Lease(tmp_path, "tables", 0):
        assert json.loads((tmp_path / ".lease-tables.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lease-tables.json").exists()


@pytest.mark.parametrize(
    "record",
    [
        # The id of the dead holder now belongs to a process that lives: this one.
        pytest.param(json.dumps({"pid": os.getpid(), "host": "here", "since": "then", "command": "kedro"}), id="reused"),
        pytest.param("\x00\x01 no record", id="garbage"),
        pytest.param("[]", id="another type"),
        pytest.param('{"pid": 1}', id="incomplete"),
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_the_record_alone_neither_keeps_nor_gives_a_lease(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]], record: str
) -> None:
    (tmp_path / ".lease-tables.json").write_text(record)
    (tmp_path / ".lease-tables.lock").write_bytes(os.urandom(100))
    with Lease(tmp_path, "tables", 0):
        pass
    hold(tmp_path)
    (tmp_path / ".lease-tables.json").write_text(record)
    with pytest.raises(HeldLeaseError):
        Lease(tmp_path, "tables", 0).acquire()


def test_two_runs_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with Lease(tmp_path, "tables", 0), pytest.raises(HeldLeaseError):
        Lease(tmp_path, "tables", 0).acquire()
    with Lease(tmp_path, "tables", 0):
        pass


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(WindKedroError, match=r"data: a run writes its results here, and cannot"):
        Lease(tmp_path / "data", "tables", 0).acquire()


@pytest.mark.parametrize("wait", [-1, "long", None, float("nan"), float("inf"), [1]])
def test_a_wrong_setting_is_one_line(wait: object) -> None:
    with pytest.raises(WindKedroError, match=r"parameters_run\.yml: lease: wait_seconds: "):
        LeaseSettings.of({"lease": {"wait_seconds": wait}})


# --- runs ------------------------------------------------------------------------------------------------------------

EARLIER, LATER = "2024-03-20T12:00:00Z", "2024-03-30T12:00:00Z"


def _kedro(folder: Path, as_of: str, *parameters: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Starts a run; it prints into a file."""
    printed = folder / f"printed-{as_of[:10]}.txt"
    words = ["run", "--pipelines", "data_engineering", "--params", ",".join([f"as_of={as_of}", *parameters])]
    with printed.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "kedro", *words], cwd=folder, stdout=file, stderr=file), printed


def _wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes], printed: Path) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, printed.read_text()
        assert time.monotonic() < deadline, printed.read_text()
        time.sleep(0.05)


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    files = [file for layer in ("02_intermediate", "03_primary") for file in (folder / "data" / layer).glob("[!.]*.parquet")]
    tables = {file.stem: pd.read_parquet(file) for file in files}
    # When a raw file was written differs between the two folders.
    tables = {name: table.drop(columns="modified_ns", errors="ignore") for name, table in tables.items()}
    return {name: table.sort_values(list(table.columns), ignore_index=True) for name, table in tables.items()}


@pytest.mark.slow
def test_runs_as_of_two_times_started_together_do_not_mix(make_small_fleet: Callable[[], Path]) -> None:
    undisturbed, folder = make_small_fleet(), make_small_fleet()
    alone, of_alone = _kedro(undisturbed, LATER)  # meanwhile
    first, of_first = _kedro(folder, EARLIER)
    _wait_for((folder / "data/.lease-tables.json").exists, first, of_first)
    first.send_signal(signal.SIGSTOP)  # in the middle of its work, however fast this machine is
    second, of_second = _kedro(folder, LATER, "lease.wait_seconds=600")
    _wait_for(lambda: "waiting for up to 600 s" in of_second.read_text(), second, of_second)
    assert f"process {first.pid} on" in of_second.read_text()
    first.send_signal(signal.SIGCONT)
    assert [first.wait(600), second.wait(600)] == [0, 0], of_first.read_text() + of_second.read_text()
    assert alone.wait(600) == 0, of_alone.read_text()
    left, expected = _tables(folder), _tables(undisturbed)
    assert set(left) == set(expected)
    assert [name for name, table in left.items() if not table.equals(expected[name])] == []
    assert not list((folder / "data").glob(".lease-*.json"))


@pytest.fixture
def project(make_project: Callable[[], Path], inside: Callable[[Path], Path]) -> Path:
    folder = inside(make_project())
    file = folder / "conf/base/parameters_run.yml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"lease": {"wait_seconds": 0}}))
    return folder


DECIDE = ["--author", "me", "--reason", "because"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "what", "refused"),
    [
        (["run"], "tables", True),
        (["run", "--pipeline", "monitoring"], "tables", True),
        (["run", "--pipeline", "ingestion"], "landing", True),
        (["run", "--pipeline", "ingestion"], "tables", False),
        (["wind", "rollback", *DECIDE], "tables", True),
        (["wind", "hold", "--farm", "hill", *DECIDE], "tables", True),
        (
            ["wind", "leave-out", "--farm", "hill", "--begin", "2024-01-01", "--end", "2024-01-02", *DECIDE],
            "tables",
            True,
        ),
        (["wind", "farms"], "tables", False),
        (["wind", "forecast"], "tables", False),
        (["wind", "readiness"], "tables", False),
        (["wind", "decisions"], "tables", False),
        (["wind", "verify"], "tables", False),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else str(value),
)
def test_what_writes_takes_the_lease_and_what_reads_does_not(
    project: Path, hold: Callable[..., subprocess.Popen[str]], words: list[str], what: str, refused: bool
) -> None:
    holder = hold(project / "data", what)
    result = CliRunner().invoke(cli, words)
    assert (f"process {holder.pid} on" in result.stderr) == refused, result.stderr
    if refused:
        assert result.exit_code == 1
        assert next(line for line in result.stderr.splitlines() if "Error: " in line).endswith("(it is 0)")
        assert not [path for path in (project / "data").rglob("*") if path.is_file() and ".lease-" not in path.name]


@pytest.mark.slow
def test_a_refused_or_failed_run_leaves_the_lease_free(project: Path) -> None:
    for words in (["run"], ["run", "--pipeline", "forecasting"], ["run", "--params", "as_of=never"]):
        assert CliRunner().invoke(cli, words).exit_code == 1
        with Lease(project / "data", "tables", 0):
            pass


#: A cell of a notebook that takes the lease as a run does, and is interrupted.
CELL = """
import sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from kedro.pipeline import Node, Pipeline
from wind_kedro.hooks import RunStart
from wind_kedro.storage.lease import Lease
hook = RunStart()
hook._data, hook._parameters = Path(sys.argv[1]), {"lease": {"wait_seconds": 0}}
def take():
    hook._take(Pipeline([Node(lambda: 1, None, "out", name="make")]))
    raise KeyboardInterrupt
shell = InteractiveShell.instance()
shell.user_ns["take"] = take
assert isinstance(shell.run_cell("take()").error_in_exec, KeyboardInterrupt)
with Lease(hook._data, "tables", 0):
    print("free")
"""


def test_a_run_interrupted_in_a_notebook_gives_the_lease_back(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CELL, tmp_path], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.rstrip().endswith("free"), done.stdout + done.stderr
