"""An environment in an object store: conditional puts, the lease, and where its configuration is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from s3_server import BUCKET, client
from wind_kedro.errors import WindKedroError
from wind_kedro.storage import object_store
from wind_kedro.storage.backup import BackupError, back_up, restore
from wind_kedro.storage.lease import HeldLeaseError, Lease, LostLeaseError, ObjectLock
from wind_kedro.storage.paths import StoreError, data_path, is_in_store, store_options
from wind_kedro.storage.temporary import written_aside


@pytest.fixture
def place(s3: str) -> Path:
    return data_path(s3, "data")


def test_a_path_of_the_store_joins_as_others_do(place: Path, s3: str) -> None:
    assert str(place / "a" / "b.txt") == f"{s3}/a/b.txt"
    assert is_in_store(place / "a")
    assert data_path(place, "data") is place


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs://bucket/data", "is a URL"),
        ("s3:/bucket/data", "is a URL"),
        ("s3://", "write s3://bucket/folder"),
        ("s3://No/data", "write s3://bucket/folder"),
        ("", "is no path"),
        (5, "is no path"),
    ],
)
def test_what_is_no_path_is_refused(path: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_path(path, "globals.yml: data")


def test_a_network_without_encryption_is_refused_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example.org:9000")
    with pytest.raises(StoreError, match="is not encrypted: use https, or set AWS_ALLOW_HTTP=true"):
        data_path("s3://bucket/data", "data")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert store_options()["aws_allow_http"] == "true"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store.example.org")
    assert "aws_allow_http" not in store_options()


def test_an_object_is_created_once_and_replaced_only_as_it_was_seen(place: Path) -> None:
    etag = object_store.create(place / "a", b"one")
    with pytest.raises(FileExistsError):
        object_store.create(place / "a", b"two")
    newer = object_store.replace(place / "a", b"three", etag)
    with pytest.raises(FileExistsError):
        object_store.replace(place / "a", b"four", etag)
    with pytest.raises(FileExistsError):
        object_store.replace(place / "none", b"four", etag)
    found = object_store.state_of(place / "a")
    assert found is not None
    assert (found.etag, found.size) == (newer, 5)
    assert object_store.state_of(place / "none") is None


def test_files_and_folders_are_put_moved_and_removed(place: Path, tmp_path: Path) -> None:
    with written_aside(place / "folder") as aside:
        (aside / "below").mkdir(parents=True)
        (aside / "below" / "x").write_bytes(b"x")
    object_store.move(place / "folder", place / "moved")
    assert not (place / "folder").exists()
    object_store.download(place / "moved", tmp_path / "copy")
    assert (tmp_path / "copy" / "below" / "x").read_bytes() == b"x"
    with written_aside(place / "one", exclusive=True) as aside:
        aside.write_bytes(b"one")
    with pytest.raises(FileExistsError), written_aside(place / "one", exclusive=True) as aside:
        aside.write_bytes(b"two")
    assert (place / "one").read_bytes() == b"one"
    object_store.remove(place / "moved")
    object_store.remove(place / "moved")
    assert not (place / "moved").exists()


def test_a_backup_of_a_store_is_restored_to_a_store_and_to_a_disk(place: Path, tmp_path: Path) -> None:
    for name in ("01_raw/signals.csv", "03_primary/observations/rows/part.parquet"):
        with written_aside(place / "data" / name) as aside:
            aside.write_text(name)
    made = back_up({"data": place / "data"}, tmp_path / "backup")
    assert (made.files, made.copied) == (2, 2)
    for target in (place / "restored", tmp_path / "restored"):
        assert restore(tmp_path / "backup", {"data": target}).files == 2
        assert (target / "01_raw/signals.csv").read_text() == "01_raw/signals.csv"
        with pytest.raises(BackupError, match="exists; move it away first"):
            restore(tmp_path / "backup", {"data": target})


# --- the lease -------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from wind_kedro.storage.lease import Lease
from wind_kedro.storage.paths import data_path
with Lease(data_path(sys.argv[1], "data"), "tables", 0, float(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that hold a lease until they read a line; each is ended with the test."""
    processes = []

    def start(folder: str, expires_seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, folder, str(expires_seconds)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_lease_is_renewed_while_it_is_held_and_expires_when_its_holder_is_killed(
    s3: str, place: Path, hold: Callable[..., subprocess.Popen[str]]
) -> None:
    holder = hold(s3, 2)
    with pytest.raises(HeldLeaseError) as caught:
        Lease(place, "tables", 4, 2).acquire()  # twice as long as it lasts without being renewed
    assert f"process {holder.pid} on " in str(caught.value)
    assert "\n" not in str(caught.value)
    with Lease(place, "landing", 0, 2):  # of something else
        pass
    holder.kill()
    holder.wait()
    with Lease(place, "tables", 30, 2) as lease:
        lease.check()


@pytest.mark.slow
def test_a_lease_that_was_released_is_free_at_once(s3: str, place: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    holder = hold(s3, 60)
    holder.communicate("\n", timeout=30)
    for _ in range(2):
        with Lease(place, "tables", 0, 60):
            pass


@pytest.mark.slow
def test_who_loses_the_lease_is_refused_further_writing(s3_server: dict[str, str], place: Path) -> None:
    lease = Lease(place, "tables", 0, 2)
    lease.acquire()
    lease.check()
    key = f"{str(place).removeprefix(f's3://{BUCKET}/')}/.lease-tables.json"
    taken = b'{"expires_seconds": 60}'
    client(s3_server).put_object(Bucket=BUCKET, Key=key, Body=taken)
    until = time.monotonic() + 30
    with pytest.raises(LostLeaseError, match="another process may write here; this run stops"):
        _check_until(lease, until)
    lease.release()
    assert (place / ".lease-tables.json").read_bytes() == taken


def _check_until(lease: Lease, until: float) -> None:
    while time.monotonic() < until:
        lease.check()
        time.sleep(0.05)


def test_a_lock_of_a_folder_is_held_by_one(place: Path) -> None:
    lock, other = ObjectLock(place / "lock"), ObjectLock(place / "lock")
    lock.acquire(0)
    with pytest.raises(Timeout):
        other.acquire(0)
    lock.release()
    other.acquire(0)
    other.release()


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_missing_is_one_line() -> None:
    with pytest.raises(WindKedroError, match="a run writes its results here, and cannot"):
        Lease(data_path("s3://no-such-bucket/data", "data"), "tables", 0).acquire()
