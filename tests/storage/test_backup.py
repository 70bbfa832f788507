"""Backup and restoring: everything comes back, and nothing is restored from a backup that is not whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from wind_kedro.storage.backup import BackupError, back_up, restore


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    data = tmp_path / "project/data"
    (data / "03_primary").mkdir(parents=True)
    (data / "03_primary/observations").write_bytes(b"rows")
    (data / "03_primary/copy").write_bytes(b"rows")
    (data / ".lease-tables.lock").write_text("")
    database = tmp_path / "project/mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.execute("INSERT INTO runs VALUES ('first')")
    connection.close()
    return {"data": data, "mlflow": database, "artifacts": tmp_path / "project/none"}


def elsewhere(tmp_path: Path) -> dict[str, Path]:
    return {"data": tmp_path / "new/data", "mlflow": tmp_path / "new/mlflow.db"}


def names_of_runs(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    found = [name for (name,) in connection.execute("SELECT name FROM runs")]
    connection.close()
    return found


def test_what_is_lost_comes_back(places: dict[str, Path], tmp_path: Path) -> None:
    made = back_up(places, tmp_path / "backup")
    assert (made.files, made.copied) == (3, 2)
    restored = restore(tmp_path / "backup", elsewhere(tmp_path))
    assert restored.files == 3
    assert restored.made_at == made.made_at
    there = tmp_path / "new/data/03_primary/observations"
    assert there.read_bytes() == b"rows"
    assert there.stat().st_mtime_ns == (places["data"] / "03_primary/observations").stat().st_mtime_ns
    assert names_of_runs(tmp_path / "new/mlflow.db") == ["first"]


def test_a_database_is_copied_as_of_one_moment(places: dict[str, Path], tmp_path: Path) -> None:
    writing = sqlite3.connect(places["mlflow"])
    writing.execute("INSERT INTO runs VALUES ('not committed')")
    back_up(places, tmp_path / "backup")
    writing.rollback()
    writing.close()
    restore(tmp_path / "backup", elsewhere(tmp_path))
    assert names_of_runs(tmp_path / "new/mlflow.db") == ["first"]


def test_a_second_backup_copies_what_is_new_and_the_first_can_still_be_restored(places: dict[str, Path], tmp_path: Path) -> None:
    back_up(places, tmp_path / "backup")
    (places["data"] / "03_primary/observations").write_bytes(b"more rows")
    assert back_up(places, tmp_path / "backup").copied == 1
    first, second = sorted((tmp_path / "backup").glob("backup-*.json"))
    restore(first, elsewhere(tmp_path))
    assert (tmp_path / "new/data/03_primary/observations").read_bytes() == b"rows"
    restore(second, {"data": tmp_path / "newer/data"})
    assert (tmp_path / "newer/data/03_primary/observations").read_bytes() == b"more rows"


def test_nothing_is_restored_over_what_is_there(places: dict[str, Path], tmp_path: Path) -> None:
    back_up(places, tmp_path / "backup")
    with pytest.raises(BackupError, match="exists; move it away"):
        restore(tmp_path / "backup", places)


@pytest.mark.parametrize("content", [None, b"altered"])
def test_nothing_is_restored_from_a_damaged_backup(places: dict[str, Path], tmp_path: Path, content: bytes | None) -> None:
    back_up(places, tmp_path / "backup")
    (path,) = [path for path in (tmp_path / "backup/objects").rglob("*") if path.is_file() and path.read_bytes() == b"rows"]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(BackupError, match="missing or altered; nothing was restored"):
        restore(tmp_path / "backup", elsewhere(tmp_path))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": {}}', b'{"made_at": "x", "files": {"data/a": {}}}'])
def test_what_is_no_backup_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backup.json").write_bytes(content)
    with pytest.raises(BackupError, match="is no list of a backup"):
        restore(tmp_path, elsewhere(tmp_path))


def test_a_list_names_no_file_outside_of_its_place(places: dict[str, Path], tmp_path: Path) -> None:
    back_up(places, tmp_path / "backup")
    listed = tmp_path / "backup/backup.json"
    listed.write_text(listed.read_text().replace("data/03_primary/observations", "data/../../outside"))
    restore(tmp_path / "backup", elsewhere(tmp_path))
    assert not (tmp_path / "outside").exists()


def test_a_backup_is_not_put_into_what_is_backed_up(places: dict[str, Path]) -> None:
    with pytest.raises(BackupError, match="another disk"):
        back_up(places, places["data"] / "backup")
