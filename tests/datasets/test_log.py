"""Logs with real processes: two that want the same number, and one that is killed while it writes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from wind_kedro import contracts
from wind_kedro.datasets import Log
from wind_kedro.datasets.log import LostRaceError
from wind_kedro.errors import find_cause

TIME = pd.Timestamp("2024-03-01", tz="UTC")


def log(folder: Path, **options: bool) -> Log:
    return Log(filepath=str(folder), number="promotion", contract="wind_kedro.contracts.Promotions", **options)


def promotion(number: int, version: str = "1", entities: int = 2) -> pd.DataFrame:
    return contracts.Promotions.validate(
        pd.DataFrame({"entity_id": [f"farm_{index}" for index in range(entities)]}).assign(
            promotion=number, parent=number - 1, action="train", author="", product_id="hours", promoted_at=TIME, model="m",
            model_version=version, run_id="r", trained_through=TIME, available_at=TIME, deciding_score="nmae_share", score=0.1,
            champion_score=np.nan, reason="", recorded_at=TIME,
        )
    )  # fmt: skip


def test_entries_are_read_in_their_order(tmp_path: Path) -> None:
    assert not log(tmp_path).exists()
    assert contracts.Promotions.validate(log(tmp_path).load()).empty
    for number in (1, 2):
        log(tmp_path).save(promotion(number, str(number)))
    assert log(tmp_path).exists()
    loaded = contracts.Promotions.validate(log(tmp_path).load())
    pd.testing.assert_frame_equal(loaded, pd.concat([promotion(1, "1"), promotion(2, "2")], ignore_index=True))


def test_who_did_not_see_the_newest_is_told_and_changes_nothing(tmp_path: Path) -> None:
    log(tmp_path).save(promotion(1))
    with pytest.raises(DatasetError) as caught:
        log(tmp_path).save(promotion(1, "2"))
    told = find_cause(caught.value)
    assert isinstance(told, LostRaceError)
    assert "promotion 1 of " in str(told)
    assert "was written meanwhile by another run: nothing was added" in str(told)
    assert "\n" not in str(told)
    assert set(log(tmp_path).load()["model_version"]) == {"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["000001.parquet"]


def test_an_entry_has_one_number_that_follows(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="promotion 2 does not follow 0"):
        log(tmp_path).save(promotion(2))
    with pytest.raises(DatasetError, match="has one promotion"):
        log(tmp_path).save(pd.concat([promotion(1), promotion(2)]))
    with pytest.raises(DatasetError, match="is read here, not written"):
        log(tmp_path, read_only=True).save(promotion(1))
    assert log(tmp_path, read_only=True).exists()


#: Waits for a sign, so that all begin at once; tries to write promotion 1 as often as asked, and says how often it won.
RACER = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_log import DatasetError, LostRaceError, log, promotion
folder, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / f"ready_{{name}}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
for number in range(1, rounds + 1):
    entry = promotion(number, name, entities=1000)
    try:
        log(folder / "log").save(entry)
        print("won", flush=True)
    except DatasetError as error:
        assert isinstance(error.__cause__, LostRaceError), error
        print("lost", flush=True)
"""


def start(folder: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    code = RACER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), name, str(rounds)], stdout=subprocess.PIPE, text=True
    )


def until_ready(folder: Path, names: list[str]) -> None:
    until = time.monotonic() + 60
    while not all((folder / f"ready_{name}").exists() for name in names):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_of_two_at_once_one_wins_each_number_and_the_other_is_told(tmp_path: Path) -> None:
    rounds = 30
    racers = [start(tmp_path, name, rounds) for name in "12"]
    until_ready(tmp_path, ["1", "2"])
    (tmp_path / "go").touch()
    said = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [len(words) for words in said] == [rounds, rounds]
    assert sum(words.count("won") for words in said) == rounds
    table = log(tmp_path / "log").load()
    assert table.groupby("promotion")["model_version"].nunique().eq(1).all()
    assert table.groupby("promotion").size().eq(1000).all()
    for name, words in zip("12", said, strict=True):
        won = [number for number, word in enumerate(words, start=1) if word == "won"]
        assert sorted(table.loc[table["model_version"] == name, "promotion"].unique()) == won


@pytest.mark.slow
def test_whenever_a_writer_is_killed_every_entry_is_whole(tmp_path: Path) -> None:
    moments = np.random.default_rng(20251125)
    racer = start(tmp_path, "0", 10_000)
    until_ready(tmp_path, ["0"])
    (tmp_path / "go").touch()
    until = time.monotonic() + 60
    while not (tmp_path / "log" / "000003.parquet").exists():
        assert time.monotonic() < until
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.05))
    racer.kill()
    racer.communicate()
    table = log(tmp_path / "log").load()
    written = table.groupby("promotion").size()
    assert written.eq(1000).all()
    assert list(written.index) == list(range(1, len(written) + 1))
    log(tmp_path / "log").save(promotion(len(written) + 1, "9"))  # what it left aside is in nobody's way
