"""MQTT against a real Mosquitto: what is published lands once, whatever happens to consumer, connection or broker."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
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

from wind_kedro.cards import CardError
from wind_kedro.feeds import FeedError, Landing, build_feed
from wind_kedro.feeds.sparkplug import payload_class

Row = dict[str, Any]
Publish = Callable[..., None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A Mosquitto that keeps its sessions over restarts."""

    def __init__(self, folder: Path, *more: str) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("Mosquitto is not installed (Debian package mosquitto)")
        self.port = _free_port()
        self._program = program
        self._config = folder / "mosquitto.conf"
        user = ["user root"] if hasattr(os, "getuid") and os.getuid() == 0 else []
        access = [] if any(line.startswith("password_file") for line in more) else ["allow_anonymous true"]
        lines = [
            f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "autosave_interval 1",
            "max_queued_messages 0", *user, *access, *more,
        ]  # fmt: skip
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("the broker did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    server = Broker(folder)
    server.start()
    yield server
    server.stop()


class Publisher:
    """A real client that waits until the broker has each message."""

    def __init__(self, port: int, **login: str) -> None:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher", protocol=paho.MQTTv5)
        if login:
            self._client.username_pw_set(**login)
        self._client.max_inflight_messages_set(200)
        self.heard: list[bytes] = []
        self._client.on_message = lambda _, __, message: self.heard.append(message.payload)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __call__(self, topic: str, payload: Any, *, qos: int = 1, retain: bool = False) -> None:
        content = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        self._client.publish(topic, content, qos=qos, retain=retain).wait_for_publish(10)

    def begin(self, topic: str, payloads: list[str]) -> list[Any]:
        return [self._client.publish(topic, payload, qos=1) for payload in payloads]

    def many(self, topic: str, payloads: list[str]) -> None:
        for info in self.begin(topic, payloads):
            info.wait_for_publish(30)

    def listen(self, topic: str) -> None:
        self._client.subscribe(topic)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def publish(broker: Broker) -> Iterator[Publisher]:
    publisher = Publisher(broker.port)
    yield publisher
    publisher.close()


class Plant:
    """A feed with its landing folder."""

    def __init__(self, root: Path, port: int, **card: Any) -> None:
        self.card = {
            "kind": "mqtt", "into": "plant", "host": "127.0.0.1", "port": port, "client_id": "wind-kedro-test",
            "topics": ["{turbine}/{signal}"], "idle_seconds": 0.2, "attempts": 2, "longest_wait_seconds": 0.2,
        } | card  # fmt: skip
        self.feed = build_feed("plant", self.card)
        self.landing = Landing(root, "plant", "plant")

    def fetch(self) -> int:
        """Fetch once; the number of batches."""
        batches = 0
        with self.landing.locked() as scratch:
            last = self.landing.last()
            for batch in self.feed.fetch(None if last is None else last.checkpoint, scratch):
                self.landing.commit(batch)
                batches += 1
        return batches

    @property
    def rows(self) -> list[Row]:
        return [
            row for landed in self.landing.landed() for row in pq.read_table(landed.folder / "part.parquet").to_pylist()
        ]


@pytest.fixture
def make_plant(tmp_path: Path, broker: Broker) -> Callable[..., Plant]:
    """A plant whose session is there, so that the broker keeps what is published from now on."""

    def make(**card: Any) -> Plant:
        plant = Plant(tmp_path, broker.port, **card)
        plant.fetch()
        return plant

    return make


def _only(rows: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


# --- what messages become --------------------------------------------------------------------------------------------


def test_a_topic_per_signal_lands_as_long_rows(make_plant: Callable[..., Plant], publish: Publisher) -> None:
    plant = make_plant()
    publish("T1/power", "1234.5")
    publish("T1/wind", {"value": 8.1, "timestamp": "2024-05-01T10:00:00+02:00", "unit": "m/s"})
    publish("T2/power", "null")
    plant.fetch()
    assert _only(plant.rows, "topic", "turbine", "signal", "value", "stamped_by", "rest") == [
        ("T1/power", "T1", "power", "1234.5", "arrival", None),
        ("T1/wind", "T1", "wind", "8.1", "payload", '{"unit": "m/s"}'),
        ("T2/power", "T2", "power", None, "arrival", None),
    ]
    first, second, _ = plant.rows
    assert first["timestamp"] == first["received_at"]
    assert second["timestamp"] == "2024-05-01T10:00:00+02:00"
    assert _only(plant.rows, "fault", "raw", "retained", "qos") == [(None, None, False, 1)] * 3


def test_an_object_lands_as_a_row_and_an_array_as_its_rows(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(
        topics=["farm/{farm}/turbine/{turbine}/signals"], layout="table", signals=["power", "wind.mean"],
        timestamp="t", timestamp_unit="milliseconds",
    )  # fmt: skip
    publish(
        "farm/coast/turbine/T1/signals", {"t": 1714550400000, "power": 2.5, "wind": {"mean": 8, "max": 11}, "ok": True}
    )
    publish("farm/coast/turbine/T2/signals", [{"t": 1714550400000, "power": 1}, {"t": 1714551000000, "power": None}])
    plant.fetch()
    assert _only(plant.rows, "farm", "turbine", "timestamp", "power", "wind.mean", "rest") == [
        ("coast", "T1", "2024-05-01T08:00:00.000000+00:00", "2.5", "8", '{"ok": true, "wind.max": 11}'),
        ("coast", "T2", "2024-05-01T08:00:00.000000+00:00", "1", None, None),
        ("coast", "T2", "2024-05-01T08:10:00.000000+00:00", None, None, None),
    ]


def test_objects_in_long_form_keep_their_keys(make_plant: Callable[..., Plant], publish: Publisher) -> None:
    plant = make_plant(topics=["plant/#"], keys=["turbine"])
    publish("plant/a/b", [{"turbine": "T1", "power": 5, "wind": 7, "timestamp": "2024-05-01 10:00"}])
    publish("plant", {"turbine": "T2", "signal": "power", "value": "6,5"})
    plant.fetch()
    assert _only(plant.rows, "turbine", "signal", "value") == [
        ("T1", "power", "5"), ("T1", "wind", "7"), ("T2", "power", "6,5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "fault", "raw"),
    [
        pytest.param(b"{broken", "not JSON", "{broken", id="broken JSON"),
        pytest.param(b"", "not JSON", "", id="nothing"),
        pytest.param(b"\xff\xfe\x00", "not UTF-8; raw is base64", "//4A", id="no text"),
        pytest.param(b"[1, 2]", "no object", "1", id="values without times"),
        pytest.param(b"[]", "empty array", "[]", id="an empty array"),
        pytest.param(b"{}", "no signals", "{}", id="an empty object"),
        pytest.param(b"[" * 100_000, "not JSON", "[" * 100_000, id="nested without end"),
        pytest.param(b'{"value": 1, "timestamp": "', "not JSON", '{"value": 1, "timestamp": "', id="cut off"),
    ],
)
def test_what_cannot_be_read_lands_with_its_bytes(tmp_path: Path, payload: bytes, fault: str, raw: str) -> None:
    import datetime as dt

    from wind_kedro.feeds.mqtt import Mqtt
    from wind_kedro.feeds.payloads import Message
    from wind_kedro.feeds.sparkplug import Nodes

    feed = Plant(tmp_path, 1, topics=["{turbine}"]).feed
    assert isinstance(feed, Mqtt)
    row = feed.rows(Message("T1", payload, 1, False, dt.datetime(2024, 5, 1, tzinfo=dt.UTC)), Nodes())[0]
    assert fault in str(row["fault"])
    assert row["raw"] == raw
    assert (row["turbine"], row["timestamp"], row.get("value")) == ("T1", "2024-05-01T00:00:00.000000+00:00", None)


def test_a_bad_message_stops_nothing_and_is_not_sent_again(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(topics=["{turbine}/power", "other/#"])
    for payload in ["1", b"\x00\xff", {"value": 1}]:
        publish("T1/power", payload)
    publish("other/x", "7")
    assert plant.fetch() == 1
    assert plant.fetch() == 0
    assert [bool(row["fault"]) for row in plant.rows] == [True, True, False, True]


# --- retained, late, out of order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_retained_message_lands_once_and_says_so(
    tmp_path: Path, broker: Broker, publish: Publisher, protocol: str
) -> None:
    publish("T1/power", {"value": 5, "timestamp": "2020-01-01T00:00:00Z"}, retain=True)
    plant = Plant(tmp_path, broker.port, protocol=protocol)
    assert [plant.fetch() for _ in range(3)] == [1, 0, 0]
    publish("T1/power", {"value": 6, "timestamp": "2024-01-01T00:00:00Z"}, retain=True)
    assert [plant.fetch() for _ in range(2)] == [1, 0]
    assert _only(plant.rows, "value", "timestamp", "retained") == [
        ("5", "2020-01-01T00:00:00Z", True), ("6", "2024-01-01T00:00:00Z", False),
    ]  # fmt: skip


def test_a_retained_message_does_not_land_again_when_the_broker_forgot_the_session(
    make_plant: Callable[..., Plant], broker: Broker, publish: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    publish("T1/power", "5", retain=True)
    plant = make_plant()
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    other = paho.Client(CallbackAPIVersion.VERSION2, client_id="wind-kedro-test", protocol=paho.MQTTv5)
    other.connect("127.0.0.1", broker.port, clean_start=True)
    while not other.is_connected():
        other.loop(0.1)
    other.disconnect()
    assert plant.fetch() == 0
    assert "the broker has forgotten the session" in caplog.text
    assert _only(plant.rows, "value", "retained") == [("5", True)]


def test_messages_out_of_order_keep_their_own_times(make_plant: Callable[..., Plant], publish: Publisher) -> None:
    plant = make_plant()
    for minute in (20, 0, 10):
        publish("T1/power", {"value": minute, "timestamp": f"2024-05-01T10:{minute:02}:00Z"})
    plant.fetch()
    assert {row["value"]: row["timestamp"][14:16] for row in plant.rows} == {"20": "20", "0": "00", "10": "10"}


def test_the_same_value_twice_is_two_messages(make_plant: Callable[..., Plant], publish: Publisher) -> None:
    plant = make_plant()
    for _ in range(3):
        publish("T1/power", "5")
        plant.fetch()
    assert [row["value"] for row in plant.rows] == ["5"] * 3


def test_a_topic_taken_from_the_card_is_no_longer_heard(
    make_plant: Callable[..., Plant], tmp_path: Path, broker: Broker, publish: Publisher
) -> None:
    before = make_plant(topics=["a/{turbine}", "b/{turbine}"])
    publish("a/T1", {"power": 1})
    before.fetch()
    plant = Plant(tmp_path, broker.port, topics=["a/{turbine}"])
    plant.fetch()
    publish("b/T1", {"power": 2})
    publish("a/T1", {"power": 3})
    plant.fetch()
    assert _only(plant.rows, "topic", "value") == [("a/T1", "1"), ("a/T1", "3")]


# --- Sparkplug -------------------------------------------------------------------------------------------------------


def _sparkplug(seq: int | None, *metrics: dict[str, Any], timestamp: int = 1714550400000) -> bytes:
    payload = payload_class()(timestamp=timestamp)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        quality = metric.pop("quality", None)
        added = payload.metrics.add(**metric)
        if quality is not None:
            added.properties.keys.append("Quality")
            added.properties.values.add(type=3, int_value=quality)
    return bytes(payload.SerializeToString())


BIRTH = [
    {"name": "power", "alias": 1, "datatype": 9, "float_value": 12.3},
    {"name": "temperature", "alias": 2, "datatype": 2, "int_value": 2**32 - 5},
]
SPARKPLUG = {"topics": ["spBv1.0/plant/+/#"], "payload": "sparkplug_b"}


def test_sparkplug_names_come_from_the_birth_also_after_a_restart(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(**SPARKPLUG)
    publish("spBv1.0/plant/NBIRTH/edge", _sparkplug(0))
    publish("spBv1.0/plant/DBIRTH/edge/T1", _sparkplug(1, *BIRTH))
    plant.fetch()
    publish(
        "spBv1.0/plant/DDATA/edge/T1",
        _sparkplug(2, {"alias": 1, "float_value": 0.1, "timestamp": 1714550460000, "quality": 500},
                   {"alias": 2, "is_null": True}, {"name": "on", "datatype": 11, "boolean_value": True}),
    )  # fmt: skip
    plant.fetch()
    assert _only(plant.rows, "device_id", "signal", "value", "timestamp", "quality", "fault") == [
        (None, None, None, plant.rows[0]["received_at"], None, "the message has no metrics"),
        ("T1", "power", "12.3", "2024-05-01T08:00:00.000000+00:00", "192", None),
        ("T1", "temperature", "-5", "2024-05-01T08:00:00.000000+00:00", "192", None),
        ("T1", "power", "0.1", "2024-05-01T08:01:00.000000+00:00", "500", None),
        ("T1", "temperature", None, "2024-05-01T08:00:00.000000+00:00", "192", None),
        ("T1", "on", "true", "2024-05-01T08:00:00.000000+00:00", "192", None),
    ]


def test_a_gap_in_sparkplug_is_said_and_a_rebirth_asked_for(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(**SPARKPLUG, rebirth=True)
    publish.listen("spBv1.0/plant/NCMD/edge")
    publish("spBv1.0/plant/NBIRTH/edge", _sparkplug(0, {"name": "bdSeq", "datatype": 4, "long_value": 1}))
    publish("spBv1.0/plant/DDATA/edge/T1", _sparkplug(2, {"alias": 7, "datatype": 3, "int_value": 5}))
    plant.fetch()
    # Our own request is among what we listen to: it is no measurement.
    assert [(row["signal"], row["value"], (row["fault"] or "")[:40]) for row in plant.rows] == [
        ("bdSeq", "1", ""),
        (None, None, "sequence number 2 came after 0: messages"),
        (None, "5", "alias 7 has no name: its birth message w"),
        (None, None, "a message of type NCMD holds no measurem"),
    ]
    [request] = publish.heard
    [metric] = payload_class().FromString(request).metrics
    assert (metric.name, metric.boolean_value) == ("Node Control/Rebirth", True)


def test_sparkplug_style_json_lands_as_sparkplug_does(make_plant: Callable[..., Plant], publish: Publisher) -> None:
    plant = make_plant(topics=["turbines/{turbine}"], payload="sparkplug_json")
    metrics = [
        {"name": "power", "timestamp": 1714550460000, "value": 12.3},
        {"name": "wind", "value": 8},
        {"name": "bad"},
    ]
    publish("turbines/T1", {"timestamp": 1714550400000, "metrics": metrics, "seq": 3})
    publish("turbines/T1", {"power": 1})
    plant.fetch()
    assert _only(plant.rows, "turbine", "signal", "value", "timestamp", "fault")[:3] == [
        ("T1", "power", "12.3", "2024-05-01T08:01:00.000000+00:00", None),
        ("T1", "wind", "8", "2024-05-01T08:00:00.000000+00:00", None),
        ("T1", "bad", None, "2024-05-01T08:00:00.000000+00:00", "the metric has no value"),
    ]
    assert plant.rows[3]["fault"] == "the payload has no list of metrics"


def test_a_payload_that_is_not_sparkplug_lands_with_its_bytes(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(**SPARKPLUG)
    publish("spBv1.0/plant/DDATA/edge/T1", b"\x0a\xff\xff")
    publish("spBv1.0/plant/DDEATH/edge/T1", _sparkplug(1))
    plant.fetch()
    assert [row["fault"].split(":")[0] for row in plant.rows] == ["the payload is not Sparkplug B", "offline"]


# --- faults ----------------------------------------------------------------------------------------------------------


def test_an_unreachable_broker_is_one_line(tmp_path: Path) -> None:
    plant = Plant(tmp_path, _free_port())
    with pytest.raises(
        FeedError, match=r"feed 'plant': the broker at 127.0.0.1:\d+ cannot be reached .*; tried 2 times"
    ):
        plant.fetch()


def test_refused_credentials_are_said_once_and_not_shown(tmp_path: Path) -> None:
    password = "hunter-22"  # noqa: S105 - of the broker that this test starts
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords = folder / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (Debian package mosquitto)")
    subprocess.run([tool, "-b", "-c", str(passwords), "reader", password], check=True, capture_output=True)
    passwords.chmod(0o644)
    server = Broker(folder, f"password_file {passwords}")
    server.start()
    try:
        right = Plant(tmp_path, server.port, credentials={"username": "reader", "password": password})
        assert right.fetch() == 0
        wrong = Plant(tmp_path, server.port, credentials={"username": "reader", "password": password + "x"})
        begun = time.monotonic()
        with pytest.raises(FeedError, match=r"credentials in conf/local/credentials\.yml") as caught:
            wrong.fetch()
        assert time.monotonic() - begun < 2
        assert password not in str(caught.value) + repr(right.feed) + repr(wrong.feed)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("card", "words"),
    [
        pytest.param({"topics": ["a/{b"]}, "a level is plain text", id="an open brace"),
        pytest.param({"topics": ["#/a"]}, "a level is plain text", id="a wildcard in the middle"),
        pytest.param({"layout": "table"}, "one signal a message needs 'long'", id="a table with a signal in the topic"),
        pytest.param({"topics": ["a/{t}"], "layout": "table"}, "needs the names", id="a table without signals"),
        pytest.param({"signals": ["power"]}, "only 'table' has them", id="signals in long"),
        pytest.param({"topics": ["{topic}"]}, "column topic would be there twice", id="a column of ours"),
        pytest.param({"ca_file": "ca.pem"}, "needs `tls: true`", id="certificates without TLS"),
        pytest.param({"in_flight": 65_535}, "less than or equal to 32767", id="more than half the packet ids"),
        pytest.param({"client_id": ""}, "client_id", id="no client id"),
    ],
)
def test_a_wrong_card_says_what(tmp_path: Path, card: dict[str, Any], words: str) -> None:
    with pytest.raises(CardError, match=words):
        Plant(tmp_path, 1, **card)


def test_a_broker_restarted_in_the_middle_loses_and_doubles_nothing(
    make_plant: Callable[..., Plant], broker: Broker, publish: Publisher
) -> None:
    plant = make_plant(in_flight=50, attempts=20)
    publish.many("T1/power", [str(number) for number in range(200)])
    with plant.landing.locked() as scratch:
        last = plant.landing.last()
        fetching = plant.feed.fetch(None if last is None else last.checkpoint, scratch)
        for number, batch in enumerate(fetching):
            if number == 1:  # delivered, not landed: its packet ids die with the connection
                broker.stop()
                broker.start()
            plant.landing.commit(batch)
    assert Counter(row["value"] for row in plant.rows) == Counter(str(number) for number in range(200))


def test_a_landing_whose_acknowledgement_was_lost_does_not_land_again(
    make_plant: Callable[..., Plant], publish: Publisher
) -> None:
    plant = make_plant(in_flight=50)
    publish.many("T1/power", ["7"] * 120)  # equal ones: only the packet id tells them apart
    from dataclasses import replace

    for _ in range(3):
        with plant.landing.locked() as scratch:
            last = plant.landing.last()
            for batch in plant.feed.fetch(None if last is None else last.checkpoint, scratch):
                plant.landing.commit(replace(batch, landed=lambda: None))  # killed right after the rename
                break
    plant.fetch()
    assert len(plant.rows) == 120


# Everything is imported once; each consumer is a fork, which is killed as any process is.
CONSUMERS = textwrap.dedent("""
    import json, os, sys
    from pathlib import Path
    import encodings.idna, filelock, pyarrow.pandas_compat, paho.mqtt.client, pandas, pyarrow.parquet, tenacity
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
KILLS = 25


def test_killed_at_any_point_every_message_lands_once(
    make_plant: Callable[..., Plant], tmp_path: Path, publish: Publisher
) -> None:
    plant = make_plant(in_flight=40, batch_seconds=0.02)
    chance = random.Random(20)  # noqa: S311 - moments to kill at
    numbers = [str(number) for number in range(5000)]
    parent = subprocess.Popen(
        [sys.executable, "-c", CONSUMERS, str(tmp_path), json.dumps(plant.card)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdin is not None
    assert parent.stdout is not None
    published: list[Any] = []
    landings: list[int] = []

    def landed() -> int:
        return sum(1 for _ in plant.landing.folder.glob("landed_at=*"))

    try:
        assert parent.stdout.readline() == "ready\n"
        for kill in range(KILLS):
            before = landed()
            published += publish.begin("T1/power", numbers[kill * 200 : kill * 200 + 200])
            parent.stdin.write("go\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            if kill % 2:  # from connecting to the first batch
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
    assert min(landings) == 0 < max(landings), "all were killed at the same stage"
    batches = [found.rows or 0 for found in plant.landing.landed()]
    assert max(batches) == 40 < sum(batches) < len(numbers)
    Plant(tmp_path, **plant.card | {"in_flight": 2000}).fetch()
    assert Counter(row["value"] for row in plant.rows) == Counter(numbers)


LISTENER = textwrap.dedent("""
    import json, logging, sys
    from pathlib import Path
    from wind_kedro.errors import WindKedroError
    from wind_kedro.feeds import build_feed
    from wind_kedro.feeds.listening import Listener
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    try:
        Listener([build_feed("plant", json.loads(sys.argv[2]))], Path(sys.argv[1])).run()
    except WindKedroError as error:
        sys.exit(str(error))
""")


def _listen(root: Path, card: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LISTENER, str(root), json.dumps(card)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_listener_that_is_told_to_stop_lands_what_it_has(
    make_plant: Callable[..., Plant], tmp_path: Path, publish: Publisher
) -> None:
    plant = make_plant(batch_seconds=0.05)
    publish("T1/power", "1")
    listener = _listen(tmp_path, plant.card | {"idle_seconds": None})
    assert listener.stdout is not None
    assert "Feed 'plant': 1 rows landed in landed_at=" in listener.stdout.readline()
    publish("T1/power", "2")
    listener.send_signal(signal.SIGTERM)
    _, errors = listener.communicate(timeout=20)
    assert (listener.returncode, errors) == (0, "")
    plant.fetch()
    assert [row["value"] for row in plant.rows] == ["1", "2"]


def test_a_listener_without_a_broker_ends_with_one_line(tmp_path: Path) -> None:
    listener = _listen(tmp_path, Plant(tmp_path, _free_port()).card)
    _, errors = listener.communicate(timeout=30)
    assert listener.returncode == 1
    assert errors.startswith("feed 'plant': the broker at 127.0.0.1:")
    assert errors.count("\n") == 1


def test_a_feed_for_listening_alone_is_left_alone_by_a_fetch(tmp_path: Path) -> None:
    assert Plant(tmp_path, _free_port(), idle_seconds=None).fetch() == 0
