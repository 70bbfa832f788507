"""Drop folders on real servers: only what is new, whole, once; and what a server does to those who rely on it."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wind_kedro.cards import CardError
from wind_kedro.feeds import FeedError, Landed, Landing, build_feed, drop_folder
from wind_kedro.feeds.drop_folder import DropFolder
from wind_kedro.feeds.protocol import unpack


@pytest.fixture
def make_feed(remote: Any) -> Callable[..., DropFolder]:
    def make(**changes: Any) -> DropFolder:
        card = {
            "kind": "drop_folder",
            "into": "coast/drop",
            "glob": "**/*.csv",
            "attempts": 2,
            "longest_wait_seconds": 0.05,
        }
        feed = build_feed("coast", card | remote.card() | changes)
        assert isinstance(feed, DropFolder)
        return feed

    return make


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "01_raw"


def pull(raw: Path, feed: DropFolder) -> list[Landed]:
    return list(Landing(raw, feed.into, feed.id).pull(feed.fetch))


def contents(batches: list[Landed]) -> list[tuple[str, str]]:
    return sorted((name, (batch.folder / name).read_text()) for batch in batches for name in batch.files)


def test_only_what_is_new_or_changed_lands(remote: Any, make_feed: Callable[..., DropFolder], raw: Path) -> None:
    remote.put("2026/01/power.csv", "january")
    remote.put("2026/02/power.csv", "february")
    remote.put("today.csv", "today")
    remote.put("read me.txt", "not data")
    remote.put(".hidden/power.csv", "being written")
    remote.put("_tmp.csv", "being written")
    first = pull(raw, make_feed())
    assert contents(first) == [
        ("2026/01/power.csv", "january"),
        ("2026/02/power.csv", "february"),
        ("today.csv", "today"),
    ]
    assert pull(raw, make_feed()) == []

    remote.put("2026/03/power.csv", "of last year, and late", age_seconds=400 * 86_400)
    remote.put("today.csv", "today, revised", age_seconds=1800)
    remote.remove("2026/01/power.csv")
    second = pull(raw, make_feed())
    assert contents(second) == [("2026/03/power.csv", "of last year, and late"), ("today.csv", "today, revised")]
    assert second[0].landed_at > first[0].landed_at
    # What is gone there is forgotten here: the checkpoint is as large as the folder.
    assert second[-1].checkpoint is not None
    assert len(unpack(second[-1].checkpoint["taken"])) == 3
    assert pull(raw, make_feed()) == []
    assert contents(first)[2] == ("today.csv", "today"), "what landed before was changed"


def test_many_files_land_in_pieces(remote: Any, make_feed: Callable[..., DropFolder], raw: Path) -> None:
    for number in range(5):
        remote.put(f"{number}.csv", str(number), age_seconds=3600 - number)
    batches = pull(raw, make_feed(glob="*.csv", max_files=2))
    assert [len(batch.files) for batch in batches] == [2, 2, 1]
    assert len(contents(batches)) == 5
    assert pull(raw, make_feed(glob="*.csv", max_files=2)) == []


def test_a_server_that_is_away_costs_one_line_and_nothing_else(
    remote: Any, make_feed: Callable[..., DropFolder], raw: Path, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    remote.put("a.csv", "a")
    pull(raw, make_feed())
    remote.put("b.csv", "b")
    remote.stop()
    with pytest.raises(FeedError) as caught:
        pull(raw, make_feed())
    remote.start()
    line = str(caught.value)
    assert line.startswith("feed 'coast': ")
    assert "\n" not in line
    assert ("no such folder" if remote.kind == "folder" else "tried 2 times") in line
    assert password not in line + caplog.text
    assert contents(pull(raw, make_feed())) == [("b.csv", "b")]


def test_a_wrong_password_is_not_tried_again(
    remote: Any, make_feed: Callable[..., DropFolder], raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if remote.kind not in {"ftp", "sftp"}:
        return  # a folder has none, and the S3 store of the tests takes any
    caplog.set_level(logging.DEBUG)
    with pytest.raises(FeedError, match=r"check the feed's credentials") as caught:
        pull(raw, make_feed(credentials={"username": "turbine", "password": "a-wr0ng-one"}, attempts=50))
    assert "a-wr0ng-one" not in str(caught.value) + caplog.text


def test_a_file_that_is_being_written_waits(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("folder")
    card = {"kind": "drop_folder", "into": "drop", "settle_seconds": 60, **remote.card()}
    feed = build_feed("coast", card)
    assert isinstance(feed, DropFolder)
    remote.put("done.csv", "done", age_seconds=61)
    remote.put("writing.csv", "half", age_seconds=30)
    assert contents(pull(raw, feed)) == [("done.csv", "done")]
    remote.put("writing.csv", "half and half", age_seconds=61)
    assert contents(pull(raw, feed)) == [("writing.csv", "half and half")]


def test_a_transfer_that_breaks_off_is_tried_again_and_one_that_grows_waits(
    open_remote: Callable[[str], Any], raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_remote("folder")
    remote.put("a.csv", "0123456789")
    feed = build_feed("coast", {"kind": "drop_folder", "into": "drop", "longest_wait_seconds": 0.01, **remote.card()})
    assert isinstance(feed, DropFolder)
    sent = ["0123", "0123456789"]

    monkeypatch.setattr(drop_folder, "_open_local", lambda path, folder: io.BytesIO(sent.pop(0).encode()))
    assert contents(pull(raw, feed)) == [("a.csv", "0123456789")]

    remote.put("a.csv", "0123456789A", age_seconds=1800)
    sent[:] = ["0123456789ABC", *["0123"] * 5]
    assert pull(raw, feed) == []
    with pytest.raises(FeedError, match=r"a\.csv broke off after 4 of 11 bytes; tried 5 times"):
        pull(raw, feed)


# --- names and links from outside ------------------------------------------------------------------------------------


def test_names_from_outside_never_act_as_marks_of_a_landing(
    remote: Any, make_feed: Callable[..., DropFolder], raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = {"a.csv": "a", "x=1/b.csv": "b", "Landed.csv": "c"}
    for name, content in sound.items():
        remote.put(name, content)
    for name in ("landed_at=2015-01-01T00-00-00.000000Z/d.csv", "x/LANDED_AT=2015/e.csv", "landed_at=2015.csv"):
        remote.put(name, "backdated")
    for name in ("_landing.json", "x/_batches.json", ".aside-1/f.csv", "x/_landing.json/g.csv"):
        remote.put(name, "hidden")
    feed = make_feed(glob="**/*")
    landed = pull(raw, feed)
    assert contents(landed) == sorted(sound.items())
    faults = [fault for batch in landed for fault in batch.faults]
    assert len(faults) == 3
    assert all("looks like a folder of this project (landed_at=…): refused" in fault for fault in faults)
    assert "refused" in caplog.text
    assert pull(raw, feed) == []  # recorded once
    remote.put("h.csv", "later")
    assert contents(pull(raw, feed)) == [("h.csv", "later")]


@pytest.mark.parametrize("kind", ["folder", "sftp"])
def test_links_are_not_followed(open_remote: Callable[[str], Any], raw: Path, tmp_path: Path, kind: str) -> None:
    remote = open_remote(kind)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/passwd.csv").write_text("root")
    remote.put("sound.csv", "sound")
    remote.put("sub/sound.csv", "below")
    for name, target in [
        ("passwd.csv", "/etc/passwd"), ("near.csv", "sound.csv"), ("folder", tmp_path / "secret"), ("up", ".."),
        ("dangling.csv", "nowhere"), ("sub/loop", "."),
    ]:  # fmt: skip
        (remote.root / name).symlink_to(target)
    os.mkfifo(remote.root / "pipe.csv")
    card = {"kind": "drop_folder", "into": "drop", "glob": "**/*", "settle_seconds": 0, **remote.card()}
    feed = build_feed("coast", card)
    assert isinstance(feed, DropFolder)
    landed = pull(raw, feed)
    assert contents(landed) == [("sound.csv", "sound"), ("sub/sound.csv", "below")]
    faults = sorted(fault for batch in landed for fault in batch.faults)
    assert sum("is a symbolic link, which is not followed: refused" in fault for fault in faults) == 6
    assert sum("is neither a file nor a folder" in fault for fault in faults) == 1
    assert pull(raw, feed) == []
    assert list(raw.rglob("passwd*")) == []


def test_a_link_that_takes_the_place_of_a_listed_file_is_not_followed(
    open_remote: Callable[[str], Any], raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_remote("folder")
    (tmp_path / "secret").mkdir()
    for folder in (tmp_path / "secret", remote.root / "sub", remote.root):
        folder.mkdir(exist_ok=True)
        (folder / "a.csv").write_text("12345")
    feed = build_feed("coast", {"kind": "drop_folder", "into": "drop", "glob": "**/*", "settle_seconds": 0, **remote.card()})
    assert isinstance(feed, DropFolder)
    settled = DropFolder._settled

    def swap(self: DropFolder, place: Any, files: list[Any]) -> list[Any]:
        found = settled(self, place, files)
        (remote.root / "a.csv").unlink()
        (remote.root / "a.csv").symlink_to(tmp_path / "secret/a.csv")
        (remote.root / "sub").rename(remote.root / "other")
        (remote.root / "sub").symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(DropFolder, "_settled", swap)
    assert contents(pull(raw, feed)) == []


def test_names_that_no_folder_can_hold_are_refused(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("folder")
    remote.put("sound.csv", "sound")
    for name in (b"caf\xe9.csv", b"line\nbreak.csv"):
        Path(os.fsdecode(os.fsencode(remote.root) + b"/" + name)).write_text("x")
    card = {"kind": "drop_folder", "into": "drop", "settle_seconds": 0, "max_file_bytes": 10, **remote.card()}
    remote.put("large.csv", "x" * 11)
    feed = build_feed("coast", card)
    assert isinstance(feed, DropFolder)
    landed = pull(raw, feed)
    assert contents(landed) == [("sound.csv", "sound")]
    reasons = [fault.partition("' ")[2] for batch in landed for fault in batch.faults]
    assert sorted(reasons) == sorted(
        ["holds control characters, or is not UTF-8: refused"] * 2 + ["is larger than `max_file_bytes` (11 bytes): refused"]
    )


def test_what_is_too_deep_is_refused_and_the_rest_lands(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("folder")
    remote.put("sound.csv", "sound")
    remote.put("/".join(["d"] * 80 + ["deep.csv"]), "x")
    feed = build_feed("coast", {"kind": "drop_folder", "into": "drop", "settle_seconds": 0, "glob": "**/*.csv", **remote.card()})
    assert isinstance(feed, DropFolder)
    landed = pull(raw, feed)
    assert contents(landed) == [("sound.csv", "sound")]
    [fault] = [fault for batch in landed for fault in batch.faults]
    assert fault.endswith("is more than 64 folders deep: refused")


def test_a_bucket_may_hold_a_file_and_a_folder_of_one_name(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("s3")
    for name in ("a", "a/b", "a/b/c"):
        remote.put(name, name)
    feed = build_feed("coast", {"kind": "drop_folder", "into": "drop", "glob": "**/*", **remote.card()})
    assert isinstance(feed, DropFolder)
    assert contents(pull(raw, feed)) == [("a", "a"), ("a/b", "a/b"), ("a/b/c", "a/b/c")]


@pytest.mark.parametrize(
    "name",
    ["", "/a", "../a", "a/../b", "a//b", ".a", "a/_b", "landed_at=x", "a/landed_at=2015-01-01/b", "a\0b", "x" * 256],
)
def test_no_batch_lands_under_such_a_name(raw: Path, name: str) -> None:
    from wind_kedro.feeds import Batch

    landing = Landing(raw, "drop", "coast")
    with landing.locked(), pytest.raises(FeedError, match="no file may land under it"):
        landing.commit(Batch({name: b"x"}, {}))
    assert landing.landed() == []


# --- host keys -------------------------------------------------------------------------------------------------------


def sftp_card(remote: Any, **changes: Any) -> dict[str, Any]:
    card = {"kind": "drop_folder", "into": "drop", **remote.card()}
    del card["host_key"]
    return card | changes


def test_the_switch_accepts_any_host_key_and_warns_each_time(
    open_remote: Callable[[str], Any], raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote = open_remote("sftp")
    remote.put("a.csv", "a")
    card = sftp_card(remote, known_hosts=str(raw / "nowhere"), verify_server=False)
    feed = build_feed("coast", card)
    assert isinstance(feed, DropFolder)
    assert contents(pull(raw, feed)) == [("a.csv", "a")]
    assert pull(raw, feed) == []
    assert caplog.text.count("verify_server is false") == 2


def test_a_server_that_is_not_the_one_expected_gets_no_password(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("sftp")
    remote.put("a.csv", "a")
    unknown = raw.parent / "known_hosts"
    for card, said in [
        (sftp_card(remote, host_key="SHA256:" + "A" * 43), "the card expects SHA256:AAA"),
        (sftp_card(remote, known_hosts=str(unknown)), "set host_key on the card"),
    ]:
        with pytest.raises(FeedError, match=said) as caught:
            pull(raw, build_feed("coast", card))  # type: ignore[arg-type]
        assert remote.fingerprint in str(caught.value)
    unknown.write_text(remote.known_host)
    assert contents(pull(raw, build_feed("coast", sftp_card(remote, known_hosts=str(unknown))))) == [("a.csv", "a")]  # type: ignore[arg-type]


# --- cards -----------------------------------------------------------------------------------------------------------

_API = {"kind": "http_api", "url": "https://host/x"}
_LAKE = {"kind": "delta_table", "table": "/srv/lake"}
_HISTORIAN = {"kind": "sql_historian", "url": "postgresql://host/x", "table": "readings", "cursor": "id"}
_BROKER = {"kind": "mqtt", "host": "host", "client_id": "me", "topics": ["{turbine}/{signal}"]}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"kind": "carrier_pigeon"}, "kind: 'carrier_pigeon' is not known; known are drop_folder,"),
        ({"url": "sftp://me:hidden-w0rd@host/x"}, "url: a user or password does not belong here"),
        ({"url": "gopher://host/x"}, "url: 'gopher://' is not known"),
        ({"url": "sftp:///x"}, "url: the host is missing"),
        ({"url": "/x", "host_key": "SHA256:" + "A" * 43}, "host_key: only for sftp://"),
        ({"url": "sftp://host/x", "endpoint_url": "http://host"}, "endpoint_url: only for s3://"),
        ({"into": "../etc"}, "into: '../etc' is not a plain folder below 01_raw"),
        ({"credentials": {"password": 12345}}, "credentials.password: is not text: put quotes around it"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"password": "hidden-w0rd"}, "password: a secret does not belong on a card; give it under `credentials`"),
        ({"url": "s3://b", "endpoint_url": "https://me:hidden-w0rd@host"}, "endpoint_url: a secret does not belong"),
        (_API | {"headers": {"Authorization": "Bearer hidden-w0rd"}}, "headers.Authorization: a secret does not"),
        (_API | {"params": {"api_key": "hidden-w0rd"}}, "params.api_key: a secret does not belong on a card"),
        (_API | {"auth": {"kind": "bearer", "token": "hidden-w0rd"}}, "auth.token: a secret does not belong"),
        (
            _LAKE | {"storage_options": {"aws_secret_access_key": "hidden-w0rd"}},
            "storage_options.aws_secret_access_key: a",
        ),
        (_LAKE | {"table": "s3://me:hidden-w0rd@bucket/x"}, "table: a secret does not belong on a card"),
        (
            _HISTORIAN | {"url": "postgresql://host/x?sslpassword=hidden-w0rd"},
            "url: a secret does not belong on a card",
        ),
        (_BROKER | {"host": "mqtt://me:hidden-w0rd@host"}, "host: a secret does not belong on a card"),
    ],
)
def test_a_wrong_card_is_said_in_one_line_without_a_secret(card: dict[str, Any], said: str) -> None:
    base = {"into": "drop"} if "kind" in card else {"kind": "drop_folder", "url": "/srv", "into": "drop"}
    with pytest.raises(CardError) as caught:
        build_feed("coast", base | card)
    message = str(caught.value)
    assert message.startswith(f"feed 'coast': {said}")
    assert "\n" not in message
    assert "hidden-w0rd" not in message
    assert "12345" not in message


# --- two at once, and death ------------------------------------------------------------------------------------------


def test_a_second_process_is_told_that_the_folder_is_held(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("folder")
    remote.put("a.csv", "a")
    feed = build_feed("coast", {"kind": "drop_folder", "into": "drop", **remote.card()})
    assert isinstance(feed, DropFolder)
    code = (
        "import sys, pathlib; from wind_kedro.feeds import Landing\n"
        "with Landing(pathlib.Path(sys.argv[1]), 'drop', 'coast').locked(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(raw)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FeedError, match=r"feed 'coast': another process is landing into .*drop"):
            pull(raw, feed)
        other.kill()
    assert contents(pull(raw, feed)) == [("a.csv", "a")]


#: Kills a fetch at every single file operation it makes, and after each death looks at what is left and fetches again.
DEATHS = """
import json, os, shutil, signal, sys, warnings
from pathlib import Path
from wind_kedro.feeds import Landing, build_feed
from wind_kedro.governance.provenance import file_sha256

folder = Path(sys.argv[1])
drop, raw = folder / "drop", folder / "raw"
OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "shutil.copyfile"}

def put(name, content, changed_at):
    (drop / name).write_text(content)
    os.utime(drop / name, (changed_at, changed_at))

def pull():
    feed = build_feed("coast", {"kind": "drop_folder", "url": str(drop), "into": "in", "max_files": 2, "attempts": 1})
    return list(Landing(raw, feed.into, feed.id).pull(feed.fetch))

def whole(batch):
    sums = json.loads((batch.folder / "_landing.json").read_bytes())["files"]
    return sums == {name: file_sha256(batch.folder / name) for name in batch.files}

def landed():
    batches = Landing(raw, "in", "coast").landed()
    assert all(whole(batch) for batch in batches), "torn"
    return sorted((name, (batch.folder / name).read_text()) for batch in batches for name in batch.files)

def prepare():
    shutil.rmtree(folder, ignore_errors=True)
    drop.mkdir(parents=True)
    for number in range(3):
        put(f"{number}.csv", f"{number} first", 1000 + number)
    pull()
    earlier = landed()
    put("1.csv", "1 second", 2000)
    put("3.csv", "3 first", 2001)
    put("4.csv", "4 first", 2002)
    return earlier

prepare(); pull()
uninterrupted = landed()
deaths = 0
while True:
    earlier = prepare()
    child = os.fork()
    if child == 0:
        seen = 0
        def strike(event, arguments):
            global seen
            if event in OPERATIONS and str(folder) in str(arguments[:2]):
                seen += 1
                if seen > deaths:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(strike)
        pull()
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = landed()
    assert all(one in left for one in earlier), "an earlier landing is gone"
    pull()
    assert landed() == uninterrupted, (deaths, landed())
    assert not list(raw.glob("in/.aside-*")), "litter"
    if not killed:
        break
    deaths += 1
print(deaths)
"""


def test_a_fetch_killed_at_any_file_operation_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DEATHS, str(tmp_path / "deaths")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 20


def test_a_server_lost_in_the_middle_of_a_fetch_leaves_what_landed(open_remote: Callable[[str], Any], raw: Path) -> None:
    remote = open_remote("sftp")
    for number in range(6):
        remote.put(f"{number}.csv", str(number), age_seconds=3600 - number)
    card = {"kind": "drop_folder", "into": "drop", "max_files": 2, "attempts": 2, "longest_wait_seconds": 0.05}
    feed = build_feed("coast", card | remote.card())
    batches = Landing(raw, feed.into, feed.id).pull(feed.fetch)
    before = [next(batches)]
    remote.stop()
    with pytest.raises(FeedError, match="tried 2 times"):
        list(batches)
    remote.start()
    landed = before + pull(raw, feed)  # type: ignore[arg-type]
    assert [name for name, _ in contents(landed)] == [f"{number}.csv" for number in range(6)]


def test_a_server_that_falls_silent_is_given_up(raw: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(silent.accept()[0]))
        thread.start()
        card = {"kind": "drop_folder", "into": "drop", "url": f"ftp://127.0.0.1:{port}/", "attempts": 1}
        begun = time.monotonic()
        with pytest.raises(FeedError, match=r"timed out; tried once"):
            pull(raw, build_feed("coast", card | {"timeout_seconds": 0.3}))  # type: ignore[arg-type]
        assert time.monotonic() - begun < 10
        thread.join()
        accepted[0].close()
