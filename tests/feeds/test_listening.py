"""The consumer of MQTT that is killed, and the one that is told to stop: nothing is lost, nothing lands twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from wind_kedro.feeds import Landing
from wind_kedro.feeds.sparkplug import payload_class

#: A plant, a broker and a publisher are those of conftest.py.
MakePlant = Callable[..., Any]
Publish = Any

# Everything is imported once; each consumer is a fork, which is killed as any process is.
CONSUMERS = textwrap.dedent("""
    import json, os, sys
    from pathlib import Path
    import encodings.idna, filelock, pyarrow.pandas_compat, paho.mqtt.client, pandas, pyarrow.parquet
    from wind_kedro.feeds import Landing, build_feed
    feed, landing = build_feed("plant", json.loads(sys.argv[2])), Landing(Path(sys.argv[1]), "plant", "plant")
    print("ready", flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            print("ended by", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            for _ in landing.pull(lambda checkpoint, scratch: feed.listen(checkpoint, lambda: False)):
                pass
""")


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.long)])
def test_killed_at_any_point_every_message_lands_once(
    make_plant: MakePlant, new_plant: MakePlant, tmp_path: Path, publish: Publish, kills: int
) -> None:
    plant = make_plant(in_flight=40, batch_seconds=0.02)
    chance = random.Random(20)  # noqa: S311 - moments to kill at
    # So many a kill that no consumer lands them all before it is killed, however late a busy machine wakes this process.
    each = 1000
    numbers = [str(number) for number in range(each * kills)]
    parent = subprocess.Popen(
        [sys.executable, "-c", CONSUMERS, str(tmp_path), json.dumps(plant.card)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdin is not None
    assert parent.stdout is not None
    published: list[Any] = []
    landings: list[int] = []

    def landed() -> int:
        return sum(1 for _ in plant.landing.folder.glob("landed_at=*Z"))

    try:
        assert parent.stdout.readline() == "ready\n"
        for kill in range(kills):
            before = landed()
            published += publish.begin("T1/power", numbers[kill * each : kill * each + each])
            parent.stdin.write("go\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            if kill % 2:  # from its first breath to the first batches
                time.sleep(chance.uniform(0, 0.1))
            else:  # from the acknowledgements of the first batch to the next ones
                while landed() == before:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
            assert parent.stdout.readline() == f"ended by {-signal.SIGKILL}\n"
            landings.append(landed() - before)
    finally:
        parent.stdin.close()
        parent.wait(10)
        parent.stdout.close()
    for one in published:
        one.wait_for_publish(30)
    assert len(set(landings)) > 1, "all were killed at the same stage"
    batches = [found.rows or 0 for found in plant.landing.landed()]
    assert max(batches) == 40 < sum(batches) < len(numbers)
    rest = new_plant(**plant.card | {"in_flight": 2000, "idle_seconds": 2})
    for _ in range(10):  # a broker that is busy saving may be quiet for longer than a fetch waits
        rest.fetch()
        if sum(found.rows or 0 for found in plant.landing.landed()) >= len(numbers):
            break
    rest.fetch()
    assert Counter(row["value"] for row in plant.rows) == Counter(numbers)


LISTENER = textwrap.dedent("""
    import json, logging, sys
    from pathlib import Path
    from wind_kedro.errors import WindKedroError
    from wind_kedro.feeds import build_feed
    from wind_kedro.feeds.listening import land_messages
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    try:
        land_messages([build_feed("plant", json.loads(sys.argv[2]))], Path(sys.argv[1]))
    except WindKedroError as error:
        sys.exit(str(error))
""")


@contextlib.contextmanager
def _listener(command: list[str], **where: Any) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], None]]]:
    """A listening process, and what waits for a line of what it says."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **where)
    assert process.stdout is not None
    lines = process.stdout

    def wait_for(words: str) -> None:
        said = []
        for line in lines:
            said.append(line)
            if words in line:
                return
        raise AssertionError(f"ended without saying '{words}': {said}")

    with lines:
        try:
            yield process, wait_for
        finally:
            process.kill()
            process.wait()


def _alone(root: Path, card: dict[str, Any]) -> list[str]:
    return [sys.executable, "-c", LISTENER, str(root), json.dumps(card)]


def test_a_listener_that_is_told_to_stop_lands_what_it_has(make_plant: MakePlant, tmp_path: Path, publish: Publish) -> None:
    plant = make_plant(batch_seconds=0.05)
    publish("T1/power", "1")
    with _listener(_alone(tmp_path, plant.card | {"idle_seconds": None})) as (process, wait_for):
        wait_for("feed 'plant': 1 rows landed in landed_at=")
        publish("T1/power", "2")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    plant.fetch()
    assert [row["value"] for row in plant.rows] == ["1", "2"]


def test_a_listener_without_a_broker_ends_with_one_line(new_plant: MakePlant, tmp_path: Path, free_port: int) -> None:
    with _listener(_alone(tmp_path, new_plant(free_port).card)) as (process, _):
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 1
    assert said.splitlines()[-1].startswith(f"feed 'plant': the broker at 127.0.0.1:{free_port}")


def test_a_feed_for_listening_alone_is_left_alone_by_a_fetch(new_plant: MakePlant, free_port: int) -> None:
    assert new_plant(free_port, idle_seconds=None).fetch() == 0


# --- kedro wind listen -----------------------------------------------------------------------------------------------


def _birth() -> bytes:
    payload = payload_class()(timestamp=1714550400000, seq=0)
    payload.metrics.add(name="power", alias=1, datatype=9, float_value=12.5)
    return bytes(payload.SerializeToString())


@pytest.mark.slow
def test_the_command_listens_to_every_broker_until_it_is_told_to_stop(
    make_project: Callable[[], Path], make_broker: Callable[..., Any], open_publisher: Callable[..., Any]
) -> None:
    login = {"username": "reader", "password": "no-log-has-this"}
    port, folder = make_broker(**login).port, make_project()
    every = {"kind": "mqtt", "host": "127.0.0.1", "port": port, "idle_seconds": None, "credentials": "coast"}
    feeds = {
        # What is in flight lands when it is full, and what has come beyond it when the process is told to stop.
        "signals": every | {"client_id": "a", "topics": ["coast/{turbine}/{signal}"], "into": "coast/signals", "in_flight": 5,
                            "batch_seconds": 600},
        "sparkplug": every | {"client_id": "b", "topics": ["spBv1.0/coast/+/#"], "payload": "sparkplug_b",
                              "into": "coast/sparkplug", "batch_seconds": 600},
    }  # fmt: skip
    (folder / "conf/feeds").mkdir()
    (folder / "conf/feeds/parameters_ingestion.yml").write_text(yaml.safe_dump({"feeds": feeds}, sort_keys=False))
    (folder / "conf/local/credentials.yml").write_text("coast: {username: reader, password: '${oc.env:COAST_PASSWORD}'}")
    command = [sys.executable, "-m", "kedro", "wind", "--env", "feeds", "listen"]
    environment = dict(os.environ) | {"COAST_PASSWORD": login["password"]}
    publish = open_publisher(port, **login)
    publish("coast/T1/state", '"old"', retain=True)
    said = ""
    with _listener(command, cwd=folder, env=environment) as (process, wait_for):
        wait_for("connected to")
        wait_for("connected to")
        for minute in (20, 0, 10, 30, 50, 40):
            publish("coast/T1/power", {"value": minute, "timestamp": f"2024-05-01T10:{minute:02}:00Z"})
        publish("spBv1.0/coast/DBIRTH/edge/T2", _birth())
        wait_for("feed 'signals': 5 rows landed in landed_at=")
        time.sleep(2)  # the other two messages are on their way
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert {line.split(" in ")[0].split("  ")[-1].strip() for line in said.splitlines() if "INFO" in line} == {
        "feed 'signals': 2 rows landed",
        "feed 'sparkplug': 1 rows landed",
        "stopped: the brokers keep messages that have not landed",
    }

    def landed(into: str) -> list[dict[str, Any]]:
        parts = sorted((folder / "data/01_raw" / into).glob("landed_at=*/part.parquet"))
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    signals = landed("coast/signals")
    assert [(row["value"], row["retained"]) for row in signals] == [
        ("old", True), ("20", False), ("0", False), ("10", False), ("30", False), ("50", False), ("40", False),
    ]  # fmt: skip
    assert [row["timestamp"][14:16] for row in signals[1:]] == ["20", "00", "10", "30", "50", "40"]
    assert [(row["device_id"], row["signal"], row["value"]) for row in landed("coast/sparkplug")] == [("T2", "power", "12.5")]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if login["password"].encode() in path.read_bytes()] == []
    assert login["password"] not in said


def test_one_feed_that_fails_however_it_fails_ends_no_other(
    new_plant: MakePlant, broker: Any, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broker is not there, one feed's folder is full, one has a fault of its own: the fourth lands all the same."""
    import threading

    from wind_kedro.feeds.listening import land_messages
    from wind_kedro.feeds.mqtt import Mqtt

    plants = {
        name: new_plant(port, client_id=name, into=name, attempts=1, batch_seconds=0.05, topics=["{turbine}/{signal}"])
        for name, port in [("away", 9), ("full", broker.port), ("broken", broker.port), ("sound", broker.port)]
    }
    feeds = [plant.feed.model_copy(update={"id": name}) for name, plant in plants.items()]
    listen, commit = Mqtt.listen, Landing.commit

    def broken(self: Mqtt, *rest: Any) -> Any:
        if self.id == "broken":
            raise RuntimeError("a fault of the code")
        return listen(self, *rest)

    def full(self: Landing, batch: Any) -> Any:
        if self.folder.name == "full":
            raise OSError(28, "No space left on device")
        return commit(self, batch)

    monkeypatch.setattr(Mqtt, "listen", broken)
    monkeypatch.setattr(Landing, "commit", full)
    stop = threading.Event()
    sound = Landing(tmp_path, "sound", "sound")

    def run() -> None:
        for _ in range(200):
            time.sleep(0.05)
            publish("T1/power", r'{"value": "\ud800"}')
            publish("T1/power", "5")
            if sum(batch.rows or 0 for batch in sound.landed()) >= 20:
                break
        stop.set()

    thread = threading.Thread(target=run)
    thread.start()
    land_messages(feeds, tmp_path, stop)
    thread.join()
    rows = [row for batch in sound.landed() for row in pq.read_table(batch.folder / "part.parquet").to_pylist()]
    assert len(rows) >= 20
    assert {row["value"] for row in rows} == {"5", None}
