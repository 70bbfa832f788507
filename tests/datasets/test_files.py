import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError

from wind_kedro import datasets
from wind_kedro.storage.temporary import written_aside

# Ibis 12 about DuckDB 2 and pandas 3, which it supports all the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]


def _table(number: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(number, number + 3)})


def _figure(number: int) -> go.Figure:
    return go.Figure(go.Scatter(y=[number, number + 1]))


#: Each dataset with its suffix, how its content is made from a number, and how the number is read again.
KINDS: dict[str, tuple[str, Callable[[int], Any], Callable[[Any], int]]] = {
    "ParquetTable": (".parquet", _table, lambda data: int(data["number"].iloc[0])),
    "Figure": (".json", _figure, lambda data: int(data.data[0].y[0])),
    "Document": (".html", str, int),
    "JsonDocument": (".json", lambda number: {"number": number}, lambda data: int(data["number"])),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dataset(kind: str, tmp_path: Path) -> Any:
    return getattr(datasets, kind)(filepath=str(tmp_path / "there" / f"thing{KINDS[kind][0]}"))


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "there").iterdir())


def test_what_is_saved_is_what_is_loaded_and_a_save_replaces_it(kind: str, dataset: Any, tmp_path: Path) -> None:
    suffix, make, read = KINDS[kind]
    for number in (1, 2):
        dataset.save(make(number))
        assert read(dataset.load()) == number
    assert dataset.exists()
    assert _files(tmp_path) == [f"thing{suffix}"]


class Unwritable:
    """What no dataset can write to its end."""

    def __iter__(self) -> Iterator[Any]:
        raise OSError("no space left on device")


def test_an_interrupted_save_leaves_the_old_file_and_no_litter(
    kind: str, dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, make, read = KINDS[kind]
    dataset.save(make(1))
    before = (tmp_path / "there" / f"thing{suffix}").read_bytes()
    parent = type(dataset).__mro__[2]
    written: list[str] = []

    def breaks_off(self: Any, data: Any) -> None:
        path = Path(str(self._filepath))
        path.write_bytes(b"half of it")
        written.append(path.name)
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        # In the middle of Kedro's own writing, whatever library does it.
        patch.setattr(parent, "save", breaks_off)
        with pytest.raises((OSError, DatasetError), match="no space left"):
            dataset.save(make(2))
    assert len(written) == 1
    assert written[0] != f"thing{suffix}"
    assert written[0].endswith(suffix)
    assert _files(tmp_path) == [f"thing{suffix}"]
    assert (tmp_path / "there" / f"thing{suffix}").read_bytes() == before
    assert read(dataset.load()) == 1
    dataset.save(make(3))
    assert read(dataset.load()) == 3


def test_what_cannot_be_written_leaves_nothing(dataset: Any, tmp_path: Path) -> None:
    with pytest.raises((DatasetError, TypeError, AttributeError)):
        dataset.save(Unwritable())
    assert _files(tmp_path) == []
    assert not dataset.exists()


def test_who_reads_meanwhile_sees_the_old_or_the_new_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "there" / "table.parquet"
    sizes = (1_000, 60_000)
    tables = [pd.DataFrame({"number": range(size)}) for size in sizes]
    writer, reader = datasets.ParquetTable(filepath=str(path)), datasets.ParquetTable(filepath=str(path))
    writer.save(tables[0])
    stop = threading.Event()
    seen: list[int] = []
    faults: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(len(reader.load()))
            except BaseException as error:
                faults.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 0.7
    turn = 0
    while time.monotonic() < deadline:
        turn += 1
        writer.save(tables[turn % 2])
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert set(seen) == set(sizes)


def test_a_versioned_dataset_keeps_its_versions(tmp_path: Path) -> None:
    from kedro.io import Version

    for version, number in (("one", 1), ("two", 2)):
        datasets.JsonDocument(filepath=str(tmp_path / "thing.json"), version=Version(None, version)).save({"number": number})
    assert [path.name for path in sorted((tmp_path / "thing.json").iterdir())] == ["one", "two"]
    assert datasets.JsonDocument(filepath=str(tmp_path / "thing.json"), version=Version(None, None)).load() == {"number": 2}


def test_aside_makes_the_folders_and_cleans_up_after_an_interrupt(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "note.txt"

    def interrupted() -> None:
        with written_aside(target) as neighbour:
            assert neighbour.parent == target.parent
            neighbour.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(target.parent.iterdir()) == []


def test_what_stands_beside_the_target_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".note.txt").write_text("mine")
    with written_aside(tmp_path / "note.txt") as neighbour:
        neighbour.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {".note.txt": "mine", "note.txt": "new"}


def test_every_name_of_the_package_resolves_and_no_other_does() -> None:
    assert all(getattr(datasets, name).__name__ == name for name in datasets.__all__)
    assert dir(datasets) == datasets.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        datasets.__getattr__("Nonsense")
