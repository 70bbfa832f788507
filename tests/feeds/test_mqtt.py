"""MQTT against a real Mosquitto: what is published lands once, whatever happens to consumer, connection or broker."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from wind_kedro.cards import CardError
from wind_kedro.feeds import FeedError
from wind_kedro.feeds.sparkplug import payload_class

Row = dict[str, Any]
#: A plant, a broker and a publisher are those of conftest.py.
MakePlant = Callable[..., Any]
Publish = Any


def _only(rows: list[Row], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


# --- what messages become --------------------------------------------------------------------------------------------


def test_a_topic_per_signal_lands_as_long_rows(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant()
    publish("T1/power", "1234.5")
    publish("T1/wind", {"value": 8.1, "timestamp": "2024-05-01T10:00:00+02:00", "unit": "m/s"})
    publish("T2/power", "null")
    plant.fetch()
    assert _only(plant.rows, "topic", "turbine", "signal", "value", "stamped_by", "rest") == [
        ("T1/power", "T1", "power", "1234.5", "arrival", None),
        ("T1/wind", "T1", "wind", "8.1", "payload", '{"unit":"m/s"}'),
        ("T2/power", "T2", "power", None, "arrival", None),
    ]
    first, second, _ = plant.rows
    assert first["timestamp"] == first["received_at"]
    assert second["timestamp"] == "2024-05-01T10:00:00+02:00"
    assert _only(plant.rows, "fault", "raw", "retained", "qos") == [(None, None, False, 1)] * 3


def test_an_object_lands_as_a_row_and_an_array_as_its_rows(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant(
        topics=["farm/{farm}/turbine/{turbine}/signals"], layout="table", signals=["power", "wind.mean"],
        timestamp="t", timestamp_unit="milliseconds",
    )  # fmt: skip
    publish("farm/coast/turbine/T1/signals", {"t": 1714550400000, "power": 2.5, "wind": {"mean": 8, "max": 11}, "ok": True})
    publish("farm/coast/turbine/T2/signals", [{"t": 1714550400000, "power": 1}, {"t": 1714551000000, "power": None}])
    plant.fetch()
    assert _only(plant.rows, "farm", "turbine", "timestamp", "power", "wind.mean", "rest") == [
        ("coast", "T1", "2024-05-01T08:00:00.000000+00:00", "2.5", "8", '{"ok":true,"wind.max":11}'),
        ("coast", "T2", "2024-05-01T08:00:00.000000+00:00", "1", None, None),
        ("coast", "T2", "2024-05-01T08:10:00.000000+00:00", None, None, None),
    ]


def test_objects_in_long_form_keep_their_keys(make_plant: MakePlant, publish: Publish) -> None:
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
        pytest.param(b"\xff\xfe\x00", "not JSON", "//4A", id="no text"),
        pytest.param(b"[1, 2]", "not an object", "1", id="values without times"),
        pytest.param(b"[]", "empty array", "[]", id="an empty array"),
        pytest.param(b"{}", "no signals", "{}", id="an empty object"),
        pytest.param(b"[" * 100_000, "levels deep", "[" * 100_000, id="nested without end"),
        pytest.param(b'{"value": 1, "timestamp": "', "not JSON", '{"value": 1, "timestamp": "', id="cut off"),
    ],
)
def test_what_cannot_be_read_lands_with_its_bytes(new_plant: MakePlant, payload: bytes, fault: str, raw: str) -> None:
    import datetime as dt

    from wind_kedro.feeds.mqtt import Mqtt
    from wind_kedro.feeds.payloads import Message
    from wind_kedro.feeds.sparkplug import Nodes

    feed = new_plant(1, topics=["{turbine}"]).feed
    assert isinstance(feed, Mqtt)
    row = feed.rows(Message("T1", payload, 1, False, dt.datetime(2024, 5, 1, tzinfo=dt.UTC)), Nodes())[0]
    assert fault in str(row["fault"])
    assert row["raw"] == raw
    assert (row["turbine"], row["timestamp"], row.get("value")) == ("T1", "2024-05-01T00:00:00.000000+00:00", None)


def test_a_bad_message_stops_nothing_and_is_not_sent_again(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant(topics=["{turbine}/power", "other/#"])
    for payload in ["1", b"\x00\xff", {"value": 1}]:
        publish("T1/power", payload)
    publish("other/x", "7")
    assert plant.fetch() == 1
    assert plant.fetch() == 0
    assert [bool(row["fault"]) for row in plant.rows] == [True, True, False, True]


POISON = [
    br'{"value": "\ud800"}', br'"\udfff"', br'{"\ud800": 1}', br'{"value": "\u0000"}', br'{"a": {"b": 1, "b": 2}}',
    b'{"value": ' + b"[" * 600 + b"]" * 600 + b"}", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 1_000_000,
    b'{"value": "\xff\xfe"}', b"\0", b'{"": 1}', b'{"' + b"n" * 5_000 + b'": 1}', b"[" + b"1," * 100_000 + b"1]",
]  # fmt: skip


@pytest.mark.parametrize("payload", ["json", "sparkplug_b"])
def test_poison_lands_as_faults_and_what_comes_after_it_lands(make_plant: MakePlant, publish: Publish, payload: str) -> None:
    topic = "T1/power" if payload == "json" else "spBv1.0/coast/DDATA/node/T1"
    sound: Any = {
        "json": {"value": 5},
        "sparkplug_b": _one_metric(1),
    }[payload]
    plant = make_plant(topics=["#"], payload=payload)
    for poison in POISON:
        publish(topic, poison)
        publish(topic, sound)
    while plant.fetch():
        pass
    rows = plant.rows
    assert len([row for row in rows if row["value"] == "5" and row["fault"] is None]) == len(POISON)
    raws = [row for row in rows if row["raw"] is not None]
    found = {base64.b64decode(row["raw"]) if "base64" in row["fault"] else row["raw"].encode() for row in raws}
    assert not [poison[:60] for poison in POISON if poison not in found]
    assert plant.fetch() == 0


def _one_metric(seq: int) -> bytes:
    payload = payload_class()(seq=seq)
    payload.metrics.add(name="power", datatype=3, int_value=5)
    return bytes(payload.SerializeToString())


def test_one_bad_item_of_an_array_costs_its_own_row(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant(topics=["{turbine}/power"])
    publish("T1/power", rb'[{"value": 1, "power": 1}, {"value": "\ud800"}, {"power": 1, "power": 2}, {"power": 1e999}]')
    plant.fetch()
    assert _only(plant.rows, "signal", "value", "raw") == [
        ("value", "1", None), ("power", "1", None), (None, None, r'{"value":"\ud800"}'),
        (None, None, '{"power":1,"power":2}'), ("power", "1e999", None),
    ]  # fmt: skip


def test_large_messages_land_and_stay_within_their_bounds(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant(topics=["{turbine}/power"], max_payload_bytes=1_000, max_batch_bytes=3_000)
    for number in range(8):
        publish("T1/power", json.dumps({"number": number, "filler": "x" * 800}))
    publish("T1/power", "x" * 1_001)
    assert plant.fetch() >= 3
    values = [row["value"] for row in plant.rows if row["signal"] != "filler"]
    assert values == [*map(str, range(8)), None]
    assert plant.rows[-1]["raw"] == "x" * 1_001
    assert "larger than `max_payload_bytes`" in plant.rows[-1]["fault"]


def test_what_is_remembered_of_edge_nodes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime as dt

    from wind_kedro.feeds import sparkplug
    from wind_kedro.feeds.payloads import Message

    monkeypatch.setattr(sparkplug, "MAX_NODES", 2)
    monkeypatch.setattr(sparkplug, "MAX_ALIASES", 3)
    nodes = sparkplug.Nodes()
    faults = []
    for number in range(4):
        metrics = [{"name": f"m{n}", "alias": n, "datatype": 3, "int_value": 1} for n in range(number + 1)]
        topic, now = f"spBv1.0/g/NBIRTH/n{number}", dt.datetime.now(dt.UTC)
        rows = list(sparkplug.sparkplug_rows(Message(topic, _sparkplug(0, *metrics), 1, False, now), {}, nodes))
        assert len([row for row in rows if row.get("value") == "1"]) == number + 1
        faults += [row["fault"] for row in rows if row.get("fault")]
    assert len(nodes.known) == 2
    assert any("more than 2 edge nodes" in str(fault) for fault in faults)
    assert any("more than 3 aliases" in str(fault) for fault in faults)


# --- retained, late, out of order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_retained_message_lands_once_and_says_so(new_plant: MakePlant, broker: Any, publish: Publish, protocol: str) -> None:
    publish("T1/power", {"value": 5, "timestamp": "2020-01-01T00:00:00Z"}, retain=True)
    plant = new_plant(broker.port, protocol=protocol)
    assert [plant.fetch() for _ in range(3)] == [1, 0, 0]
    publish("T1/power", {"value": 6, "timestamp": "2024-01-01T00:00:00Z"}, retain=True)
    assert [plant.fetch() for _ in range(2)] == [1, 0]
    assert _only(plant.rows, "value", "timestamp", "retained") == [
        ("5", "2020-01-01T00:00:00Z", True), ("6", "2024-01-01T00:00:00Z", False),
    ]  # fmt: skip


def test_a_retained_message_does_not_land_again_when_the_broker_forgot_the_session(
    make_plant: MakePlant, broker: Any, publish: Publish, caplog: pytest.LogCaptureFixture
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
    assert "the broker has lost the session" in caplog.text
    assert _only(plant.rows, "value", "retained") == [("5", True)]


def test_messages_out_of_order_keep_their_own_times(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant()
    for minute in (20, 0, 10):
        publish("T1/power", {"value": minute, "timestamp": f"2024-05-01T10:{minute:02}:00Z"})
    plant.fetch()
    assert {row["value"]: row["timestamp"][14:16] for row in plant.rows} == {"20": "20", "0": "00", "10": "10"}


def test_the_same_value_twice_is_two_messages(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant()
    for _ in range(3):
        publish("T1/power", "5")
        plant.fetch()
    assert [row["value"] for row in plant.rows] == ["5"] * 3


def test_a_topic_taken_from_the_card_is_no_longer_heard(
    make_plant: MakePlant, new_plant: MakePlant, broker: Any, publish: Publish
) -> None:
    before = make_plant(topics=["a/{turbine}", "b/{turbine}"])
    publish("a/T1", {"power": 1})
    before.fetch()
    plant = new_plant(broker.port, topics=["a/{turbine}"])
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


def test_sparkplug_names_come_from_the_birth_also_after_a_restart(make_plant: MakePlant, publish: Publish) -> None:
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


def test_a_gap_in_sparkplug_is_said_and_a_rebirth_asked_for(make_plant: MakePlant, publish: Publish) -> None:
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


def test_a_payload_that_is_not_sparkplug_lands_with_its_bytes(make_plant: MakePlant, publish: Publish) -> None:
    plant = make_plant(**SPARKPLUG)
    publish("spBv1.0/plant/DDATA/edge/T1", b"\x0a\xff\xff")
    publish("spBv1.0/plant/DDEATH/edge/T1", _sparkplug(1))
    plant.fetch()
    assert [row["fault"].split(":")[0] for row in plant.rows] == ["the payload is not Sparkplug B", "offline"]


# --- faults ----------------------------------------------------------------------------------------------------------


def test_an_unreachable_broker_is_one_line(new_plant: MakePlant, free_port: int) -> None:
    plant = new_plant(free_port)
    with pytest.raises(FeedError, match=r"feed 'plant': the broker at 127.0.0.1:\d+ cannot be reached .*; tried 2 times"):
        plant.fetch()


def test_refused_credentials_are_said_once_and_not_shown(
    new_plant: MakePlant, make_broker: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    password = "hunter-22"  # noqa: S105 - of the broker that this test starts
    port = make_broker(username="reader", password=password).port
    right = new_plant(port, credentials={"username": "reader", "password": password})
    assert right.fetch() == 0
    wrong = new_plant(port, credentials={"username": "reader", "password": password + "x"})
    with pytest.raises(FeedError, match=r"correct them in conf/local/credentials\.yml$") as caught:
        wrong.fetch()
    assert f"connected to 127.0.0.1:{port}" in caplog.text
    assert password not in str(caught.value) + repr(right.feed) + repr(wrong.feed) + caplog.text


@pytest.mark.parametrize(
    ("card", "words"),
    [
        pytest.param({"topics": ["a/{b"]}, "a level is plain text", id="an open brace"),
        pytest.param({"topics": ["#/a"]}, "a level is plain text", id="a wildcard in the middle"),
        pytest.param({"layout": "table"}, "one signal a message needs 'long'", id="a table with a signal in the topic"),
        pytest.param({"topics": ["a/{t}"], "layout": "table"}, "needs the names", id="a table without signals"),
        pytest.param({"signals": ["power"]}, "only 'table' has them", id="signals in long"),
        pytest.param({"topics": ["{topic}"]}, "column topic would be there twice", id="a column of ours"),
        pytest.param({"ca_file": "ca.pem"}, "need `tls: true`", id="certificates without TLS"),
        pytest.param({"in_flight": 65_535}, "less than or equal to 32767", id="more than half the packet ids"),
        pytest.param({"client_id": ""}, "client_id", id="no client id"),
    ],
)
def test_a_wrong_card_says_what(new_plant: MakePlant, card: dict[str, Any], words: str) -> None:
    with pytest.raises(CardError, match=words):
        new_plant(1, **card)


def test_a_broker_restarted_in_the_middle_loses_and_doubles_nothing(make_plant: MakePlant, broker: Any, publish: Publish) -> None:
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


def test_a_landing_whose_acknowledgement_was_lost_does_not_land_again(make_plant: MakePlant, publish: Publish) -> None:
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
