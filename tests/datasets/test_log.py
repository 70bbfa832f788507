"""Logs with real processes: two that want the same number, and one that is killed while it writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from wind_kedro.contracts.training import Promotions
from wind_kedro.datasets import Log
from wind_kedro.datasets.log import LostRaceError
from wind_kedro.errors import find_cause

TIME = pd.Timestamp("2024-03-01", tz="UTC")


def log(folder: Path | str, **options: bool) -> Log:
    return Log(filepath=str(folder), number="promotion", contract="wind_kedro.contracts.training.Promotions", **options)


def promotion(number: int, version: str = "1", entities: int = 2) -> pd.DataFrame:
    return Promotions.validate(
        pd.DataFrame({"entity_id": [f"farm_{index}" for index in range(entities)]}).assign(
            promotion=number, parent=number - 1, action="train", author="", product_id="hours", promoted_at=TIME, model="m",
            model_version=version, run_id="r", trained_through=TIME, available_at=TIME, deciding_score="nmae_share", score=0.1,
            champion_score=np.nan, reason="", recorded_at=TIME, manifest_sha256="d" * 64,
        )
    )  # fmt: skip


def test_entries_are_read_in_their_order(tmp_path: Path) -> None:
    assert not log(tmp_path).exists()
    assert Promotions.validate(log(tmp_path).load()).empty
    for number in (1, 2):
        log(tmp_path).save(promotion(number, str(number)))
    assert log(tmp_path).exists()
    loaded = Promotions.validate(log(tmp_path).load())
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


#: Waits for a sign, so that all begin at once; tries to write each promotion up to the number asked, and prints which it wrote.
RACER = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_log import DatasetError, LostRaceError, log, promotion
folder, name, rounds, place, signed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5] == "signed"
(folder / f"ready_{{name}}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
for number in range(1, rounds + 1):
    entry = promotion(number, name, entities=1000)
    try:
        log(place, signed=signed).save(entry)
        print("won", flush=True)
    except DatasetError as error:
        assert isinstance(error.__cause__, LostRaceError), error
        assert "look, and start again" in str(error.__cause__)
        assert "\\n" not in str(error.__cause__)
        print("lost", flush=True)
"""


def start(folder: Path, name: str, rounds: int, place: str | None = None, kind: str = "plain") -> subprocess.Popen[str]:
    code = RACER.format(tests=str(Path(__file__).parent))
    words = [str(folder), name, str(rounds), place or str(folder / "log"), kind]
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)


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
def test_of_four_that_promote_at_once_one_wins_each_number_and_the_chain_holds(
    tmp_path: Path, anywhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "keys"))
    rounds, names = 4, "1234"
    racers = [start(tmp_path, name, rounds, anywhere, "signed") for name in names]
    until_ready(tmp_path, list(names))
    (tmp_path / "go").touch()
    printed = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [len(words) for words in printed] == [rounds] * 4
    for number in range(rounds):
        assert sorted(words[number] for words in printed) == ["lost", "lost", "lost", "won"]
    chain = log(anywhere, signed=True).chain()
    assert (chain.fault, chain.refusal, len(chain.digests)) == ("", "", rounds)


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


# --- a signed log ----------------------------------------------------------------------------------------------------


def signed(folder: Path, **options: bool) -> Log:
    return log(folder, signed=True, **options)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def _rewrite(file: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(file)).to_parquet(file, index=False)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of keys of the test's own."""
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def promoted(tmp_path: Path, keys: Path) -> Path:
    """A signed log of three promotions, which this machine has seen."""
    for number in (1, 2, 3):
        signed(tmp_path / "log").save(promotion(number, str(number)))
    return tmp_path / "log"


def test_a_signed_log_holds_the_digests_of_what_was_promoted(promoted: Path) -> None:
    chain = signed(promoted).chain()
    assert (chain.fault, chain.refusal, len(chain.digests)) == ("", "", 3)
    assert chain.manifests() == dict.fromkeys(["1", "2", "3"], "d" * 64)
    loaded = Promotions.validate(signed(promoted, read_only=True, strict=True).load())
    assert loaded["promotion"].tolist() == [1, 1, 2, 2, 3, 3]
    assert loaded["chain"].nunique() == loaded["key_id"].nunique() == 1
    assert loaded["previous_sha256"].tolist()[::2] == ["0" * 64, *chain.digests[:2]]


def _signed_by_another(folder: Path) -> None:
    from wind_kedro.governance.promotions import link
    from wind_kedro.governance.signing import Keyring

    stranger = Keyring(folder.parent / "stranger")
    entry, _ = link(promotion(4, "1"), 4, signed(folder).chain(), stranger)
    entry.to_parquet(_file(folder, 4), index=False)


HOSTILE = [
    pytest.param(lambda folder: _file(folder, 3).unlink(), [1, 2], "promotion 3 removed", id="the newest removed"),
    pytest.param(
        lambda folder: [_file(folder, number).unlink() for number in (2, 3)],
        [1],
        "promotion 2 to 3 removed",
        id="two removed",
    ),
    pytest.param(lambda folder: _file(folder, 2).unlink(), [1], "promotion 2 was removed", id="one in the middle removed"),
    pytest.param(
        lambda folder: _rewrite(_file(folder, 3), lambda table: table.assign(model_version="1")),
        [1, 2],
        "promotion 3 was changed: the signature",
        id="another version",
    ),
    pytest.param(
        lambda folder: _rewrite(_file(folder, 3), lambda table: table.assign(manifest_sha256="e" * 64)),
        [1, 2],
        "promotion 3 was changed: the signature",
        id="another manifest",
    ),
    pytest.param(
        lambda folder: _rewrite(_file(folder, 3), lambda table: table.iloc[:1]),
        [1, 2],
        "promotion 3 was changed: the signature",
        id="a row taken out",
    ),
    pytest.param(
        lambda folder: _file(folder, 3).write_bytes(_file(folder, 1).read_bytes()),
        [1, 2],
        "promotion 3 was changed: the signature",
        id="an older entry in place of the newest",
    ),
    pytest.param(lambda folder: _file(folder, 2).write_bytes(b"garbage"), [1], "promotion 2 cannot be read", id="garbage"),
    pytest.param(shutil.rmtree, [], "promotion 1 to 3 removed", id="all removed"),
]


@pytest.mark.parametrize(("spoil", "left", "told"), HOSTILE)
def test_a_log_that_was_cut_off_or_changed_is_refused_as_a_whole(
    promoted: Path, spoil: Callable[[Path], object], left: list[int], told: str
) -> None:
    spoil(promoted)
    assert told in signed(promoted).chain().refusal
    assert signed(promoted).load()["promotion"].unique().tolist() == left
    assert signed(promoted).exists(), "its readers are to name it"
    if not left:
        return
    for attempt in (
        lambda: signed(promoted).save(promotion(4)),
        lambda: signed(promoted, read_only=True, strict=True).load(),
    ):
        with pytest.raises(DatasetError) as caught:
            attempt()
        refused = find_cause(caught.value)
        assert told in str(refused)
        assert "\n" not in str(refused)


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        pytest.param(lambda folder: promotion(4, "1").to_parquet(_file(folder, 4)), "promotion 4 is not signed", id="unsigned"),
        pytest.param(
            lambda folder: pd.read_parquet(_file(folder, 1)).assign(promotion=4).to_parquet(_file(folder, 4)),
            "promotion 4 was changed",
            id="an older one with a new number",
        ),
        pytest.param(lambda folder: _file(folder, 4).write_bytes(b""), "promotion 4 cannot be read", id="no bytes"),
        pytest.param(_signed_by_another, "which is not trusted on this machine", id="another key"),
        pytest.param(
            lambda folder: promotion(4).to_parquet(_file(folder, 900_000)),
            "promotion 4 was removed",
            id="a number far ahead",
        ),
    ],
)
def test_a_forged_entry_is_passed_over_and_what_was_seen_holds(promoted: Path, forge: Callable[[Path], None], told: str) -> None:
    forge(promoted)
    chain = signed(promoted).chain()
    assert (told in chain.fault, chain.refusal) == (True, "")
    assert signed(promoted).load()["promotion"].unique().tolist() == [1, 2, 3]
    with pytest.raises(DatasetError) as caught:
        signed(promoted, read_only=True, strict=True).load()
    assert told in str(find_cause(caught.value))


def test_another_log_put_in_place_of_the_one_seen_is_refused(promoted: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        signed(tmp_path / "other").save(promotion(number, "9"))
    shutil.rmtree(promoted)
    shutil.copytree(tmp_path / "other", promoted)
    assert "another log than this machine has seen there" in signed(promoted).chain().refusal
    assert signed(tmp_path / "other").chain().refusal == ""


def test_who_deletes_all_data_begins_anew(promoted: Path) -> None:
    before = signed(promoted).chain().id
    shutil.rmtree(promoted)
    assert signed(promoted, read_only=True, strict=True).load().empty
    signed(promoted).save(promotion(1, "1"))
    chain = signed(promoted).chain()
    assert (chain.refusal, chain.fault, len(chain.digests)) == ("", "", 1)
    assert chain.id != before


def test_a_copy_of_a_project_goes_its_own_way(promoted: Path, tmp_path: Path) -> None:
    shutil.copytree(promoted, tmp_path / "copy")
    signed(tmp_path / "copy").save(promotion(4, "4"))
    assert signed(promoted).chain().refusal == ""
    assert signed(tmp_path / "copy").chain().refusal == ""


def test_a_machine_with_public_keys_only_verifies_and_cannot_promote(
    promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wind_kedro.governance.signing import KeyFileError, Keyring

    pem = Keyring().export()
    monkeypatch.setenv("WIND_KEDRO_KEYS", str(tmp_path / "reader"))
    shutil.copytree(promoted, tmp_path / "synced")
    assert "which is not trusted on this machine" in signed(tmp_path / "synced").chain().refusal
    Keyring().trust(pem)
    assert signed(tmp_path / "synced").load()["promotion"].max() == 3
    for attempt in (
        lambda: signed(tmp_path / "synced").save(promotion(4)),
        lambda: signed(tmp_path / "synced", read_only=True, strict=True).load(),
    ):
        with pytest.raises(DatasetError) as caught:
            attempt()
        assert isinstance(find_cause(caught.value), KeyFileError)
    assert len(list((tmp_path / "synced").iterdir())) == 3


def test_keys_rotate_and_a_revoked_key_counts_no_longer(promoted: Path) -> None:
    from wind_kedro.governance.signing import Keyring

    old = str(Keyring().current())
    new = Keyring().rotate()
    signed(promoted).save(promotion(4, "4"))
    table = signed(promoted).load()
    assert table.groupby("promotion")["key_id"].first().tolist() == [old, old, old, new]
    Keyring().revoke(old)
    assert f"promotion 1 is signed by key {old}, which was revoked" in signed(promoted).chain().refusal
