"""Feed of an MQTT broker: messages of a persistent session land first and are acknowledged afterwards."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from wind_kedro.feeds.remote import PassingError
from wind_kedro.storage.bounds import is_text

from .compaction import PART
from .payloads import Message, Row, Template, TimestampUnit, json_rows, unread
from .protocol import Batch, Checkpoint, Feed
from .sparkplug import COLUMNS, NAMESPACE, Node, Nodes, rebirth_request, sparkplug_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from paho.mqtt.client import Client, MQTTMessage

logger = logging.getLogger(__name__)

_QOS = 1
#: Duration of one network loop, after which a stop is checked.
_TURN_SECONDS = 0.1
_REBIRTH_EVERY_SECONDS = 60.0
_DIGEST_BYTES = 8
#: Upper limit of unacknowledged messages, whatever receive maximum the broker applies.
_PACKET_IDS = 65_535
#: Half the packet ids: a broker that counts them up does not reuse one within this number of messages.
_MOST = 32_767
#: Topic without subscription: the response to unsubscribing shows that the broker has processed earlier packets.
_MARK = "wind-kedro/mark"
#: Most bytes of the rows of one message: each row repeats the topic.
_MAX_ROW_BYTES = 64 << 20
#: Most topics whose retained message is remembered; others may land again.
_MAX_RETAINED = 100_000
# MQTT 5, section 3.2.2.2: permanent refusals. paho gives those of 3.1.1 the same numbers.
_REFUSED_FOR_GOOD = {
    132: "the broker does not support this version; set `protocol`",
    133: "the broker does not accept this `client_id`; correct it",
    134: "the broker refuses the credentials; correct `username` and `password` in conf/local/credentials.yml",
    135: "the broker does not authorise these credentials; correct them in conf/local/credentials.yml",
    138: "the broker has banned this client; ask its operator",
}
_TAKEN_OVER = 142
_REFUSED = 128
#: Columns of every landed row besides the levels of its topic, its keys and its signals.
_FIRST = ("topic",)
_LAST = ("rest", "timestamp", "stamped_by", "received_at", "retained", "qos", "fault", "raw")


class Mqtt(Feed):
    """Messages of an MQTT broker with QoS 1, from a persistent session.

    - **Nothing is lost.** A message of QoS 1 or 2 is acknowledged after its batch was renamed into place. A message of QoS 0 (as
      Sparkplug's data) has no acknowledgement: what was received and not landed when the process is killed is gone.
    - **Nothing lands twice.** A message that comes again is a redelivery with the same packet id, topic and payload (MQTT 5,
      sections 3.3.1.1 and 4.4). The checkpoint holds a digest of these three for each message whose acknowledgement is in doubt:
      those that landed since the broker last answered a request sent after acknowledgements.
    - **A retained message lands once**: its digest is kept in case the broker loses the session, and for 3.1.1.

    A broker that loses its state, or reuses a packet id within two batches, may still send a row twice; rows with the payload's
    time are then equal, and the rules for duplicates find them.
    """

    in_parts = True

    kind: Literal["mqtt"]
    host: str
    port: int | None = Field(None, gt=0, lt=65536, description="without it 1883, with TLS 8883")
    tls: bool = False
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: str = Field(min_length=1, description="name of the session at the broker; unique to the environment")
    topics: list[str] = Field(min_length=1, description="templates: levels in braces become columns; `+` and `#` as in MQTT")
    payload: Literal["json", "sparkplug_b"] = "json"
    layout: Literal["long", "table"] = "long"
    timestamp: str = Field("timestamp", description="field of a JSON object with the time")
    timestamp_unit: TimestampUnit = Field("text", description="unit of a numeric time since 1970 UTC")
    signal: str = Field("signal", description="field of a JSON object with the name of its signal")
    value: str = Field("value", description="field of a JSON object with the value of its signal")
    keys: list[str] = Field(default_factory=list, description="fields of a JSON object that become columns")
    signals: list[str] = Field(default_factory=list, description="table: fields that become columns; others go to `rest`")
    rebirth: bool = Field(False, description="Sparkplug: request a birth message if a sequence number or a name is missing")
    in_flight: int | None = Field(
        None,
        gt=0,
        le=_MOST,
        description="most unacknowledged messages, and most of a batch; default 2,000. 3.1.1 cannot negotiate it, so it must not "
        "exceed the broker's limit; default 20, as Mosquitto's",
    )
    batch_seconds: float = Field(30, gt=0, description="maximum delay until received messages land")
    idle_seconds: float | None = Field(
        5, gt=0, description="a fetch ends after this time without messages; null: only `kedro wind listen` serves this feed"
    )
    fetch_seconds: float = Field(240, gt=0, description="maximum duration of a fetch; the next one continues")
    session_days: float = Field(7, gt=0, lt=49_710, description="how long the broker keeps messages of the session (MQTT 5)")
    keep_alive_seconds: int = Field(60, gt=0, lt=65_536)
    max_payload_bytes: int = Field(16 << 20, gt=0, description="a larger message lands with a `fault` and its first 16 MiB")
    max_batch_bytes: int = Field(
        256 << 20, gt=0, description="received messages land once their payloads, or their rows, have this size"
    )
    connect_seconds: float = Field(10, gt=0, description="timeout of a connection")

    @field_validator("topics")
    @classmethod
    def _are_templates(cls, topics: list[str]) -> list[str]:
        for topic in topics:
            Template(topic)
        return topics

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.layout == "table" and (self.payload != "json" or "signal" in self.level_names):
            raise ValueError("layout: one signal a message needs 'long'; 'table' is for JSON objects with many")
        if (self.layout == "table") != bool(self.signals):
            raise ValueError("signals: only 'table' has them, and it needs the names of the fields that become columns")
        twice = sorted({name for name in self._columns if self._columns.count(name) > 1} - {"signal"})
        if twice:
            raise ValueError(f"topics, keys, signals: the column {', '.join(twice)} would be there twice; rename it")
        if not self.tls and not {"ca_file", "verify_server"}.isdisjoint(self.model_fields_set):
            raise ValueError("ca_file, verify_server: need `tls: true`")
        return self

    @cached_property
    def templates(self) -> list[Template]:
        """Templates of the topics."""
        return [Template(topic) for topic in self.topics]

    @cached_property
    def level_names(self) -> list[str]:
        """Distinct named levels of all topics."""
        return list(dict.fromkeys(name for topic in self.topics for name in Template(topic).names))

    @property
    def address(self) -> str:
        """Host and port of the broker."""
        return f"{self.host}:{self.port or (8883 if self.tls else 1883)}"

    @property
    def max_in_flight(self) -> int:
        """Most unacknowledged messages."""
        return self.in_flight or (2000 if self.protocol == "5" else 20)

    @property
    def _columns(self) -> list[str]:
        sparkplug = [*COLUMNS, "quality"] if self.payload != "json" else []
        signals = self.signals if self.layout == "table" else ["signal", "value"]
        return [*_FIRST, *self.level_names, *sparkplug, *self.keys, *signals, *_LAST]

    def fetch(self, checkpoint: Checkpoint | None, scratch: Path) -> Iterator[Batch]:
        """Receive messages until none arrive for ``idle_seconds``; see `Feed.fetch`."""
        if self.idle_seconds is not None:
            end = time.monotonic() + self.fetch_seconds
            yield from self.listen(checkpoint, lambda: time.monotonic() >= end, self.idle_seconds)

    def listen(
        self, checkpoint: Checkpoint | None, stop: Callable[[], bool], idle_seconds: float | None = None
    ) -> Iterator[Batch]:
        """Yield batches until ``stop``, called several times per second, is true; the last one has the messages received by then.

        With ``idle_seconds`` stop also after this time without messages. Raises `FeedError` if the broker cannot be reached, or
        refuses the connection.
        """
        with contextlib.closing(_Session(self, checkpoint)) as session:
            session.open()
            while True:
                if not session.is_full():
                    session.turn()
                stopping, quiet = stop(), idle_seconds is not None and session.quiet_seconds >= idle_seconds
                if session.held and (stopping or quiet or session.due):
                    yield session.batch()
                elif quiet:
                    return
                if stopping:
                    return

    def rows(self, message: Message, nodes: Nodes) -> list[Row]:
        """Convert a message to rows, at least one; ``nodes``, the state of the Sparkplug edge nodes, is updated by it."""
        levels = next((found for template in self.templates if (found := template.match(message.topic)) is not None), None)
        if levels is None:
            return [unread(message, {}, "no template of `topics` fits this topic")]
        if len(message.payload) > self.max_payload_bytes:
            return [unread(message, levels, f"larger than `max_payload_bytes` ({self.max_payload_bytes:,})")]
        try:
            is_json = self.payload == "json"
            rows = list(json_rows(message, levels, self) if is_json else sparkplug_rows(message, levels, nodes))
        except Exception as error:  # a bug of the reader must not recur with the same message at every start
            logger.exception("feed '%s': a message on %r cannot be read", self.id, message.topic)
            return [unread(message, levels, f"cannot be read ({type(error).__name__})")]
        texts = [[value for value in row.values() if isinstance(value, str)] for row in rows]
        if sum(len(text) for row in texts for text in row) > _MAX_ROW_BYTES:
            return [unread(message, levels, f"its rows would take more than {_MAX_ROW_BYTES:,} bytes")]
        sound = [row for row, own in zip(rows, texts, strict=True) if all(map(is_text, own))]
        if len(sound) < len(rows):
            sound.append(unread(message, levels, "holds what is no text: NUL, or half of a surrogate pair"))
        return sound

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of all batches: text except ``retained`` and ``qos``."""
        import pyarrow as pa

        kinds = {"retained": pa.bool_(), "qos": pa.int8()}
        return pa.schema([(name, kinds.get(name, pa.string())) for name in dict.fromkeys(self._columns)])


@dataclass(frozen=True)
class _Delivery:
    """A message with its packet id and connection, for the acknowledgement."""

    message: Message
    client: Client
    mid: int

    @property
    def digest(self) -> str:
        found = hashlib.blake2b(self.mid.to_bytes(2, "big"), digest_size=_DIGEST_BYTES)
        found.update(self.message.topic.encode() + b"\0" + self.message.payload)
        return found.hexdigest()

    @property
    def retained_digest(self) -> str:
        return hashlib.blake2b(self.message.payload, digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True)
class _Memory:
    """Content of the checkpoint."""

    landed: deque[str]
    retained: dict[str, str]
    nodes: Nodes

    @classmethod
    def read(cls, kept: Checkpoint) -> _Memory:
        packed, letters = kept.get("landed", ""), 2 * _DIGEST_BYTES
        landed = (packed[at : at + letters] for at in range(0, len(packed), letters))
        nodes = Nodes({name: Node(**node) for name, node in kept.get("nodes", {}).items()})
        return cls(deque(landed, _PACKET_IDS), dict(kept.get("retained", {})), nodes)

    def write(self, topics: list[str]) -> dict[str, Any]:
        nodes = {name: asdict(node) for name, node in self.nodes.known.items()}
        return {"topics": topics, "landed": "".join(self.landed), "retained": self.retained, "nodes": nodes}


class _Session:
    """The session at the broker, over one or more connections, and messages that have not landed."""

    def __init__(self, feed: Mqtt, checkpoint: Checkpoint | None) -> None:
        self._feed = feed
        self._memory = _Memory.read(checkpoint or {})
        self._filters = [template.filter for template in feed.templates]
        self._subscribed: list[str] = list((checkpoint or {}).get("topics", []))
        self._begun = checkpoint is not None
        self.held: list[_Delivery] = []
        self._held_bytes = 0
        self._client: Client | None = None
        self._connected_at = self._arrived_at = self._first_at = time.monotonic()
        self._arrived = False
        self._short_lives = 0
        self._refusal: Any = None
        self._granted: list[Any] = []
        self._ready = False
        self._asked: dict[str, float] = {}
        #: Packet id of a pending request, and the number of landed messages that its response confirms.
        self._mark: tuple[int | None, int] | None = None

    @property
    def quiet_seconds(self) -> float:
        """Seconds since the last message."""
        return time.monotonic() - self._arrived_at

    def is_full(self) -> bool:
        """Whether held messages must land before more are received."""
        # A method: callbacks change it while `loop` runs, which a type checker cannot see.
        return len(self.held) >= self._feed.max_in_flight or self._held_bytes >= self._feed.max_batch_bytes

    @property
    def due(self) -> bool:
        """Whether held messages should land now."""
        return self.is_full() or time.monotonic() - self._first_at >= self._feed.batch_seconds

    def batch(self) -> Batch:
        """Build a batch of the held messages."""
        import pyarrow as pa

        held, memory, rows, size = list[_Delivery](), copy.deepcopy(self._memory), list[Row](), 0
        for delivery in self.held:
            own = self._feed.rows(delivery.message, memory.nodes)
            rows += own
            held.append(delivery)
            size += sum(len(value) for row in own for value in row.values() if isinstance(value, str))
            if size >= self._feed.max_batch_bytes:  # the others land next
                break
        memory.landed.extend(delivery.digest for delivery in held if delivery.message.qos)
        memory.retained.update({d.message.topic: d.retained_digest for d in held if d.message.retained})
        for topic in list(memory.retained)[:-_MAX_RETAINED]:
            del memory.retained[topic]
        table = pa.Table.from_pylist(rows, schema=self._feed.schema)
        return Batch({PART: table}, memory.write(self._filters), len(rows), landed=lambda: self._landed(held, memory))

    def _landed(self, held: list[_Delivery], memory: _Memory) -> None:
        self._keep(self.held[len(held) :])
        self._memory = memory
        for delivery in held:
            # Packet ids belong to a connection; on a new one this message is redelivered and recognised.
            if delivery.client is self._client and delivery.message.qos:
                delivery.client.ack(delivery.mid, _QOS)
        if self._client is not None and self._mark is None:
            self._mark = (self._client.unsubscribe(_MARK)[1], len(memory.landed))
        self._arrived_at = time.monotonic()  # a broker at its limit continues now
        lost, now = memory.nodes.lost if self._feed.rebirth else set(), time.monotonic()
        for name in lost:
            if self._client is not None and now - self._asked.get(name, -_REBIRTH_EVERY_SECONDS) >= _REBIRTH_EVERY_SECONDS:
                self._asked[name] = now
                group, node = name.split("/")
                self._client.publish(f"{NAMESPACE}/{group}/NCMD/{node}", rebirth_request(dt.datetime.now(dt.UTC)))
        lost.clear()

    def _keep(self, held: list[_Delivery]) -> None:
        self.held = held
        self._held_bytes = sum(len(delivery.message.payload) for delivery in held)

    def open(self) -> None:
        """Connect and subscribe, with retries."""
        self._feed.retry(self._connect)

    def turn(self) -> None:
        """Run the network loop once; reconnect if the connection is lost."""
        assert self._client is not None  # noqa: S101 - `open` comes first
        if self._client.loop(_TURN_SECONDS) == 0:
            self._check_rights()
            return
        if getattr(self._refusal, "value", 0) == _TAKEN_OVER:
            whose = f"give each its own `client_id` ('{self._feed.client_id}')"
            raise self._feed.fault(f"another client has taken the session; {whose}")
        logger.warning("feed '%s': connection lost (%s)", self._feed.id, self._refusal)
        lived = time.monotonic() - self._connected_at
        # Limit reconnections to a broker that closes the connection each time.
        self._short_lives = 0 if self._arrived or lived > self._feed.longest_wait_seconds else self._short_lives + 1
        if self._short_lives >= self._feed.attempts:
            raise self._feed.fault(f"the broker closes the connection each time ({self._refusal}); look into its log")
        time.sleep(min(self._feed.longest_wait_seconds, 0.5 * self._short_lives))
        self.open()

    def close(self) -> None:
        """Send pending acknowledgements and disconnect; the session persists."""
        client, self._client = self._client, None
        if client is None:
            return
        end = time.monotonic() + self._feed.connect_seconds
        with contextlib.suppress(OSError):
            while client.want_write() and time.monotonic() < end and client.loop_write() == 0:
                time.sleep(0.001)
            client.disconnect()

    def _connect(self) -> None:
        where = self._feed.address
        client, options = self._make_client()
        self._mark = None
        self._client, self._refusal, self._granted, self._ready, self._arrived = client, None, [], False, False
        try:
            client.connect(self._feed.host, int(where.rpartition(":")[2]), self._feed.keep_alive_seconds, **options)
            end = time.monotonic() + self._feed.connect_seconds
            # A broker may send all kept messages before it responds; stop at the limit.
            while not self._ready and not self.is_full() and time.monotonic() < end:
                if client.loop(_TURN_SECONDS) != 0:
                    break
        except OSError as error:
            if (untrusted := self._feed.untrusted(where, error)) is not None:
                raise untrusted from None
            raise PassingError(f"the broker at {where} cannot be reached ({error})") from None
        if not self._ready and not self.is_full():
            code = getattr(self._refusal, "value", 0)
            if code in _REFUSED_FOR_GOOD:
                raise self._feed.fault(f"{where}: {_REFUSED_FOR_GOOD[code]}")
            raise PassingError(f"the broker at {where} did not answer" + (f" ({self._refusal})" if code else ""))
        self._check_rights()
        logger.info("feed '%s': connected to %s as '%s'", self._feed.id, where, self._feed.client_id)
        self._connected_at = self._arrived_at = time.monotonic()

    def _check_rights(self) -> None:
        refused = [topic for topic, code in zip(self._filters, self._granted, strict=False) if code.value >= _REFUSED]
        if refused:
            raise self._feed.fault(
                f"{self._feed.address}: no right to read {', '.join(refused)}; ask for it, or correct `topics`"
            )

    def _make_client(self) -> tuple[Client, dict[str, Any]]:
        """Create a client for one connection, so that acknowledgements cannot reach another."""
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        feed, options, is_5 = self._feed, dict[str, Any](), self._feed.protocol == "5"
        if is_5:
            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
            properties.SessionExpiryInterval = round(feed.session_days * 86_400)
            properties.ReceiveMaximum = feed.max_in_flight
            options = {"clean_start": False, "properties": properties}
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=feed.client_id,
            clean_session=None if is_5 else False,
            protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
            manual_ack=True,
        )
        client.connect_timeout = feed.connect_seconds
        if "username" in feed.credentials:
            client.username_pw_set(feed.secret("username"), feed.secret("password"))
        if feed.tls:
            client.tls_set_context(feed.tls_context())
            client.tls_insecure_set(not feed.verify_server)
        elif feed.credentials:
            feed.warn_in_the_clear(feed.host)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        return client, options

    def _on_connect(self, client: Client, _: Any, flags: Any, reason: Any, __: Any) -> None:
        from paho.mqtt.subscribeoptions import SubscribeOptions

        if reason.is_failure:
            self._refusal = reason
            return
        if flags.session_present:
            # The broker sends these again with new packet ids.
            self._keep([delivery for delivery in self.held if not delivery.message.qos])
        else:
            if self._begun:
                logger.warning(
                    "feed '%s': the broker has lost the session; messages sent while disconnected are lost", self._feed.id
                )
            self._memory.landed.clear()
            self._subscribed = []
        self._begun = True
        if gone := [topic for topic in self._subscribed if topic not in self._filters]:
            client.unsubscribe(gone)
        if self._feed.protocol == "5":
            new_only = SubscribeOptions(_QOS, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            client.subscribe([(topic, new_only) for topic in self._filters])
        # 3.1.1 sends retained messages at every subscription, so each topic is subscribed once.
        elif new := [topic for topic in self._filters if topic not in self._subscribed]:
            client.subscribe([(topic, _QOS) for topic in new])
        else:
            self._ready = True

    def _on_subscribe(self, client: Client, _: Any, __: int, reasons: list[Any], ___: Any) -> None:
        self._ready, self._granted, self._subscribed = True, reasons, list(self._filters)

    def _on_unsubscribe(self, client: Client, _: Any, mid: int, *__: Any) -> None:
        if self._mark is not None and mid == self._mark[0]:
            for _number in range(min(self._mark[1], len(self._memory.landed))):
                self._memory.landed.popleft()
            self._mark = None

    def _on_disconnect(self, client: Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        self._refusal = self._refusal or reason

    def _on_message(self, client: Client, _: Any, received: MQTTMessage) -> None:
        try:
            topic = received.topic
            if not is_text(topic):
                raise UnicodeError
        except UnicodeError:
            topic = "\ufffd"  # matches no template, so it lands with its bytes and a fault
        now = dt.datetime.now(dt.UTC)
        message = Message(topic, bytes(received.payload), received.qos, bool(received.retain), now)
        delivery = _Delivery(message, client, received.mid)
        self._arrived, self._arrived_at = True, time.monotonic()
        if self._known(delivery, received.dup):
            if message.qos:
                client.ack(received.mid, _QOS)
            return
        if not self.held:
            self._first_at = self._arrived_at
        self.held.append(delivery)
        self._held_bytes += len(message.payload)

    def _known(self, delivery: _Delivery, redelivered: bool) -> bool:
        """Whether a message has landed or is held already."""
        if redelivered and delivery.digest in self._memory.landed:
            return True
        message = delivery.message
        return message.retained and (
            self._memory.retained.get(message.topic) == delivery.retained_digest
            or any(
                held.message.retained and (held.message.topic, held.message.payload) == (message.topic, message.payload)
                for held in self.held
            )
        )
