"""What killed processes left is removed at the next start; what is in use, or is not ours, is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from wind_kedro.datasets import History
from wind_kedro.storage import temporary
from wind_kedro.storage.temporary import Scratch, neighbour_of, previous, sweep, sweep_scratch, written_aside


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_what_a_dead_process_was_writing_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "06_models/objects"
    folder.mkdir(parents=True)
    dead, digits = _dead_pid(), "0123456789abcdef" * 2
    left = [
        tmp_path / f"..lease-tables.{dead}-{digits}.json",
        folder / f".table.{dead}-{digits}.parquet",
        folder / f".{digits}.parquet",
        folder / f".{digits}",
    ]
    for path in left[:-1]:
        path.write_text("half")
    (left[-1] / "inner").mkdir(parents=True)
    raw = tmp_path / "01_raw/feed"
    raw.mkdir(parents=True)
    kept = [
        neighbour_of(folder / "table.parquet"),  # of a process that lives: this one
        previous(folder / "table.parquet"),  # the only copy while a folder takes its place
        folder / digits,
        folder / f"{digits}.parquet",
        folder / ".gitkeep",
        raw / f".{digits}.parquet",  # feeds clear their folders under their own locks
    ]
    for path in kept:
        path.write_text("whole")
    sweep(tmp_path)
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_a_save_that_is_killed_leaves_a_name_that_is_swept(tmp_path: Path) -> None:
    target = tmp_path / "02_intermediate/table.parquet"
    code = (
        "import os, sys; from pathlib import Path; from wind_kedro.storage.temporary import written_aside\n"
        "with written_aside(Path(sys.argv[1])) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, target], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(target.parent.iterdir())) == 1
    with written_aside(target) as path:
        path.write_text("whole")
        sweep(tmp_path)
    assert [path.name for path in target.parent.iterdir()] == ["table.parquet"]


def test_scratch_folders_go_with_their_process_or_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from wind_kedro.storage.temporary import Scratch; s = Scratch('raw'); print(s.name, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (tmp_path / "wind-kedro-of-somebody-else").mkdir()
    try:
        monkeypatch.setattr(temporary, "_SETTLED_AFTER", 0)
        time.sleep(0.01)
        sweep_scratch()
        assert folder.is_dir(), "it is in use"
    finally:
        process.kill()
        process.communicate()
    monkeypatch.setattr(temporary, "_SETTLED_AFTER", 60)
    sweep_scratch()
    assert folder.is_dir(), "it may be one that is just being made"
    monkeypatch.setattr(temporary, "_SETTLED_AFTER", 0)
    with Scratch("own") as own:
        sweep_scratch()
        assert Path(own).is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["wind-kedro-of-somebody-else"]


@pytest.mark.slow
def test_a_run_sweeps_and_names_what_it_passed_over(make_small_fleet: Callable[[], Path], inside: Callable[[Path], Path]) -> None:
    from click.testing import CliRunner

    from wind_kedro.cli import cli

    folder = inside(make_small_fleet())
    landings = folder / "data/02_intermediate/landings"
    stored = History(filepath=str(landings), partition_by=["landed_on"], contract="wind_kedro.contracts.raw.Landings")
    landed_at = pd.Timestamp("2024-03-01", tz="UTC")
    batch = {"feed_id": "coast", "landed_at": landed_at, "landed_on": "2024-03-01", "folder": "coast/1", "files": 1, "bytes": 1}
    stored.save(pd.DataFrame([batch | {"rows": 1, "fault": ""}]).astype({"rows": "Int64"}))
    (part,) = landings.rglob("*.parquet")
    part.write_bytes(b"not Parquet")
    left = landings / f".x.{_dead_pid()}-{'0' * 32}.parquet"
    left.write_text("half")
    result = CliRunner().invoke(cli, ["run", "--pipeline", "ingestion"])
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert f"{part.name}: cannot be read" in line
    assert part.read_bytes() == b"not Parquet"
    # Ingestion does not write tables: the next run that does sweeps.
    assert CliRunner().invoke(cli, ["run", "--pipeline", "forecasting"]).exit_code == 1
    assert not left.exists()
