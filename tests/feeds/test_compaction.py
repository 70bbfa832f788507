"""Small files of a stream put together: few, every row once and with its own arrival, killed anywhere, read meanwhile."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wind_kedro.cards import SignalSource
from wind_kedro.contracts.raw import Landings
from wind_kedro.feeds import Batch, Landing
from wind_kedro.feeds.compaction import uncovered
from wind_kedro.pipelines.ingestion.nodes import list_landings
from wind_kedro.readers.source_files import files_of
from wind_kedro.readers.source_table import SourceTable

START = dt.datetime(2026, 1, 1, 22, tzinfo=dt.UTC)
Clock = Callable[[dt.timedelta], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time, as an age since `START`."""
    now = [START]
    monkeypatch.setattr("wind_kedro.feeds.landing._now", lambda: now[0])

    def put(age: dt.timedelta) -> None:
        now[0] = START + age

    return put


def minutes(number: float) -> dt.timedelta:
    return dt.timedelta(minutes=number)


def land(landing: Landing, number: int, *, tidy: bool = True, **columns: Any) -> None:
    """One batch of two rows."""
    table = pa.table({"number": [str(number), str(number)], **columns})

    def fetch(_: Any, __: Path) -> Iterator[Batch]:
        yield Batch({"part.parquet": table}, {"number": number}, 2)

    list(landing.pull(fetch, in_parts=tidy))


def names(landing: Landing) -> list[str]:
    return sorted(folder.name.removeprefix("landed_at=") for folder in landing.folder.glob("landed_at=*"))


def rows(root: Path) -> list[tuple[str, str | None]]:
    """All rows as the house reads them: what is in them, and when it landed."""
    found = SourceTable(kind="signals", root=str(root), farms=[FARM]).load().table().to_pandas()
    assert found["fault"].isna().all(), found["fault"].tolist()
    return sorted(zip(found["timestamp"], found["received_at"], strict=True))


FARM: dict[str, Any] = {
    "id": "hill", "name": "Hill", "latitude_deg": 50.0, "longitude_deg": 5.0, "time_zone": "Europe/Paris",
    "capacity_kw": 1000, "turbines": [{"id": "T0", "rated_power_kw": 1000, "hub_height_m": 80}], "latency_minutes": 10,
    "signals": {
        "path": "stream/**/*.parquet", "format": "parquet", "timestamp": "number", "received_at": "landed_at",
        "cadence_seconds": 600, "columns": {"power_kw": {"name": "number", "unit": "kW"}},
    },
    "weather": [{
        "model": "alpha", "kind": "analysis", "path": "x.csv", "valid_at": "time", "delay_minutes": 0, "length_hours": 12,
        "columns": {"wind_speed_100m_ms": {"name": "wind", "unit": "m/s"}},
    }],
}  # fmt: skip
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]


def test_hours_and_days_that_are_over_become_one_folder_each(tmp_path: Path, clock: Clock) -> None:
    stream = Landing(tmp_path, "stream", "stream")
    for number in range(73):
        clock(minutes(40 * number))
        land(stream, number)
    read = [one for one in names(stream) if not any(one != other and one.startswith(other) for other in names(stream))]
    # From 22:00 to 22:00 two days on: two days that are over, 22 hours (every other one with a single batch), the newest.
    assert read[:3] == ["2026-01-01", "2026-01-02", "2026-01-03T00"]
    assert len(read) == 2 + 22 + 1
    # What is covered is gone a day later.
    assert "2026-01-02T10" in names(stream)
    assert not [one for one in names(stream) if one.startswith("2026-01-01T")]
    assert rows(tmp_path) == sorted(
        (str(number), (START + minutes(40 * number)).isoformat(timespec="microseconds")) for number in range(73) for _ in "ab"
    )


def test_months_that_are_over_become_one_folder_each_unless_they_are_large(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Landing(tmp_path, "stream", "stream")
    for number in range(18):
        clock(minutes(5 * 24 * 60 * number))
        if number == 9:
            size = stream.landed()[0].bytes
            monkeypatch.setattr("wind_kedro.feeds.landing._MOST_BYTES", 5 * size)
        land(stream, number)
    # From 1 January to 27 March, every five days: 7 and 5 batches in months that are over, of which the second is large.
    assert [name for name in names(stream) if len(name) < len("2026-01-01T00")] == ["2026-01"]
    assert sum(name.startswith("2026-02-") for name in names(stream)) == 5
    assert not [name for name in names(stream) if name.startswith("2026-01-")]
    assert len(rows(tmp_path)) == 2 * 18


def test_the_record_knows_every_batch_also_of_folders_that_are_gone(tmp_path: Path, clock: Clock) -> None:
    stream, plain = Landing(tmp_path / "tidy", "stream", "stream"), Landing(tmp_path / "plain", "stream", "stream")
    before = record = pd.DataFrame({name: [] for name in Landings.to_schema().columns}).astype({"folder": str})
    for number in range(25):
        clock(minutes(200 * number))
        land(stream, number)
        land(plain, number, tidy=False)
        if number == 5:  # the rest is recorded only after it was put together, and its folders are gone
            record = list_landings(tmp_path / "tidy", [], before)
    later = list_landings(tmp_path / "tidy", [], record)
    record = pd.concat([record[~record["landed_on"].isin(later["landed_on"])], later], ignore_index=True)
    whole = list_landings(tmp_path / "plain", [], before)
    assert len(whole) == 25
    assert not (tmp_path / "tidy" / whole["folder"][10]).exists()
    pd.testing.assert_frame_equal(record.sort_values("landed_at", ignore_index=True), whole)


def test_the_newest_batch_stays_and_is_gone_on_from(tmp_path: Path, clock: Clock) -> None:
    stream = Landing(tmp_path, "stream", "stream")
    for number in range(8):
        clock(minutes(30 * number))
        land(stream, number)
    last = stream.last()
    assert last is not None
    assert last.checkpoint == {"number": 7}
    # Fetching the last hours again: without the newest folders, what was put together before them is gone on from.
    for folder in stream.folder.glob("landed_at=2026-01-02T0*"):
        if folder.name >= "landed_at=2026-01-02T01":
            for path in [*folder.iterdir()]:
                path.unlink()
            folder.rmdir()
    last = stream.last()
    assert last is not None
    assert last.checkpoint == {"number": 5}
    clock(minutes(130))  # the clock was put back into the hour that was put together: nothing lands where nobody looks
    land(stream, 99)
    assert [row for row, _ in rows(tmp_path)].count("99") == 2
    assert len(rows(tmp_path)) == 2 * 7


def test_columns_that_come_and_go_are_empty_elsewhere(tmp_path: Path, clock: Clock) -> None:
    stream = Landing(tmp_path, "stream", "stream")
    for number, more in enumerate([{}, {"wind": ["1", "2"]}, {"wind": ["3", None]}, {}, {}]):
        clock(minutes(20 * number))
        land(stream, number, **more)
    table = pq.read_table(stream.folder / "landed_at=2026-01-01T22" / "part.parquet")
    assert table.column_names == ["number", "wind", "landed_at"]
    assert table["wind"].to_pylist() == [None, None, "1", "2", "3", None]


@pytest.mark.parametrize("fault", ["another type", "a broken file", "a broken manifest"])
def test_what_cannot_be_put_together_stays_and_stops_nothing(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    stream = Landing(tmp_path, "stream", "stream")
    land(stream, 0, power=[1.5, 2.5])
    clock(minutes(20))
    land(stream, 1, power=["1", "x"] if fault == "another type" else [1.0, 2.0])
    [first, _] = sorted(stream.folder.glob("landed_at=*"))
    if fault == "a broken file":
        (first / "part.parquet").write_bytes(b"PAR1")
    if fault == "a broken manifest":
        (first / "_landing.json").write_text("{")
    clock(minutes(70))
    land(stream, 2)
    clock(minutes(80))
    land(stream, 3)
    assert "landed_at=2026-01-01T22 stays in 2 folders" in caplog.text
    assert len(names(stream)) == 4
    assert not list(stream.folder.glob(".aside-*"))


def test_a_listing_reads_either_the_parts_or_the_whole(tmp_path: Path) -> None:
    listing = [
        tmp_path / folder / "part.parquet"
        for folder in (
            "a/landed_at=2026-01-01T10-00-00.000000Z", "a/landed_at=2026-01-01T10", "a/landed_at=2026-01-01T11-00-00.000000Z",
            "b/landed_at=2026-01-01T10-00-00.000000Z", "b/landed_at=2026-01-01T10/deep", "c/landed_at=2026-01-01T10-00-00.0Z/in",
            "c/landed_at=2026-01-01T10", "c/landed_at=2026-01-01", "d",
        )
    ]  # fmt: skip
    assert [path.parent.relative_to(tmp_path).as_posix() for path in uncovered(listing)] == [
        "a/landed_at=2026-01-01T10", "a/landed_at=2026-01-01T11-00-00.000000Z", "b/landed_at=2026-01-01T10/deep",
        "c/landed_at=2026-01-01", "d",
    ]  # fmt: skip


# Lands, puts together and removes over four days, in a fork that is killed at the n-th file operation, for every n.
DEATHS = textwrap.dedent("""
    import datetime as dt, os, shutil, signal, sys
    from pathlib import Path
    import filelock, pyarrow as pa, pyarrow.pandas_compat, pyarrow.parquet as pq
    from wind_kedro.feeds import Batch, Landing, landing as module
    from wind_kedro.feeds.compaction import uncovered

    root, every = Path(sys.argv[1]), int(sys.argv[2])
    stream = Landing(root, "stream", "stream")
    OPERATIONS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open", "shutil.rmtree", "os.scandir", "os.listdir"}
    NUMBERS = [str(number) for number in range(16)]
    HOURS = [20, 20.3, 21, 21.5, 25, 25.4, 26, 26.1, 27, 49, 49.2, 75, 75.5, 99, 780, 790]

    def go_on():
        last = stream.last()
        done = 0 if last is None else last.checkpoint["done"]
        for number in range(done, len(NUMBERS)):
            module._now = lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=HOURS[number])
            def fetch(checkpoint, scratch):
                yield Batch({"part.parquet": pa.table({"number": [NUMBERS[number]]})}, {"done": number + 1}, 1)
            list(stream.pull(fetch, in_parts=True))
        list(stream.pull(lambda checkpoint, scratch: iter(()), in_parts=True))

    def read():
        files = sorted(uncovered(stream.folder.glob("landed_at=*/part.parquet")))
        return [row for file in files for row in pq.read_table(file, partitioning=None)["number"].to_pylist()]

    def folders():
        return sorted(file.parent.name for file in uncovered(stream.folder.glob("landed_at=*/part.parquet")))

    go_on()
    uninterrupted = folders()
    assert read() == NUMBERS
    assert len(uninterrupted) == 3 < len(list(stream.folder.glob("landed_at=*")))
    deaths = 0
    while True:
        shutil.rmtree(stream.folder)
        child = os.fork()
        if child == 0:
            seen = 0
            def strike(event, arguments):
                global seen
                if event in OPERATIONS and str(stream.folder) in str(arguments[:2]):
                    seen += 1
                    if seen > deaths:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(strike)
            go_on()
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if stream.folder.exists():
            left = read()
            assert left == NUMBERS[:len(left)], (deaths, left)
        go_on()
        assert read() == NUMBERS, (deaths, read())
        assert [batch.rows for batch in stream.landed()] == [1] * len(NUMBERS), deaths
        assert folders() == uninterrupted, deaths
        assert not list(stream.folder.glob(".aside-*")), "litter"
        if not killed:
            break
        deaths += every
    print(deaths)
""")


def _die(tmp_path: Path, every: int) -> int:
    command = [sys.executable, "-c", DEATHS, str(tmp_path), str(every)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_killed_while_files_are_put_together_every_row_is_there_once(tmp_path: Path) -> None:
    assert _die(tmp_path, 89) > 500


@pytest.mark.long
def test_killed_at_any_file_operation_every_row_is_there_once(tmp_path: Path) -> None:
    assert _die(tmp_path, 3) > 500


def test_a_reader_meanwhile_sees_every_row_once(tmp_path: Path, clock: Clock) -> None:
    source = SignalSource.model_validate(FARM["signals"])
    stream, landed, ahead = Landing(tmp_path, "stream", "stream"), [0], threading.Semaphore(10)

    def write() -> None:
        for number in range(120):
            ahead.acquire()  # never so far ahead of a reader as a day is long
            clock(minutes(20 * number))
            land(stream, number)
            landed[0] = number + 1

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive():
        least = landed[0]
        found: list[int] = []
        for path in files_of(tmp_path, source):
            found += [int(number) for number in pq.read_table(path, partitioning=None)["number"].to_pylist()[::2]]
        assert sorted(found) == list(range(len(found)))
        assert least <= len(found) <= landed[0] + 1
        reads += 1
        ahead.release(10)
    writer.join()
    assert reads >= 12
    assert len(files_of(tmp_path, source)) < 3 + 24 + 3
