"""Convert Sparkplug B 3.0 messages to rows: protobuf payloads with births, aliases and sequence numbers.

The schema is the part of Eclipse Tahu's ``sparkplug_b.proto`` that carries values; metrics of other types land with a ``fault``
and their bytes. It is built here field by field, so that no generated code has to match the installed protobuf.
Specification: https://sparkplug.eclipse.org/specification/ (chapters 4 to 6).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from .payloads import Message, Row, stamp, start, unread
from .records import UnreadableError, text_of

NAMESPACE = "spBv1.0"
#: Columns that a Sparkplug topic gives: namespace/group/type/node[/device].
COLUMNS = ("group_id", "message_type", "edge_node_id", "device_id")
_BIRTHS = {"NBIRTH", "DBIRTH"}
_DATA = _BIRTHS | {"NDATA", "DDATA"}
_DEATHS = {"NDEATH", "DDEATH"}
_SEQUENCE = 256
#: Most edge nodes, and most aliases of one, that are remembered: both stand in every checkpoint, and come from outside.
MAX_NODES, MAX_ALIASES = 10_000, 100_000
# Chapter 6.4.16, "Data Types": the numbers of the basic types.
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
_FLOAT = 9
_DATE_TIME = 13
_GOOD = "192"


@dataclass
class Node:
    """State of an edge node."""

    seq: int | None = None
    #: By alias: the metric's name and datatype.
    aliases: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass
class Nodes:
    """Edge nodes by ``group/node``, kept in the checkpoint."""

    known: dict[str, Node] = field(default_factory=dict)
    #: Nodes to ask for a rebirth; not kept: a gap asks again at the next message.
    lost: set[str] = field(default_factory=set)

    @classmethod
    def from_checkpoint(cls, kept: Mapping[str, Any]) -> Nodes:
        """Restore the result of `checkpoint`."""
        return cls(
            {
                name: Node(node["seq"], {alias: (metric, kind) for alias, (metric, kind) in node["aliases"].items()})
                for name, node in kept.items()
            }
        )

    def checkpoint(self) -> dict[str, Any]:
        """The state to keep, serialisable as JSON."""
        return {name: {"seq": node.seq, "aliases": node.aliases} for name, node in self.known.items()}


@dataclass(frozen=True)
class _Metric:
    name: str | None
    alias: int | None
    timestamp: Any
    datatype: int
    value: Any
    quality: str | None
    raw: bytes
    fault: str | None = None


@cache
def payload_class() -> Any:
    """The message class `Payload`.

    Raises:
        ImportError: without the extra `feeds`.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    proto: Any = descriptor_pb2.FieldDescriptorProto
    scalar = {
        "uint32": proto.TYPE_UINT32, "uint64": proto.TYPE_UINT64, "float": proto.TYPE_FLOAT, "double": proto.TYPE_DOUBLE,
        "bool": proto.TYPE_BOOL, "string": proto.TYPE_STRING, "bytes": proto.TYPE_BYTES,
    }  # fmt: skip
    value = [("int_value", "uint32"), ("long_value", "uint64"), ("float_value", "float"), ("double_value", "double"),
             ("boolean_value", "bool"), ("string_value", "string")]  # fmt: skip
    # By message: number, name, type; a `*` is repeated, a `|` one of the values.
    messages: dict[str, list[tuple[int, str, str]]] = {
        "PropertyValue": [(1, "type", "uint32"), (2, "is_null", "bool")]
        + [(number, f"|{name}", kind) for number, (name, kind) in enumerate(value, 3)],
        "PropertySet": [(1, "*keys", "string"), (2, "*values", "PropertyValue")],
        "Metric": [(1, "name", "string"), (2, "alias", "uint64"), (3, "timestamp", "uint64"), (4, "datatype", "uint32"),
                   (5, "is_historical", "bool"), (6, "is_transient", "bool"), (7, "is_null", "bool"),
                   (9, "properties", "PropertySet")]
        + [(number, f"|{name}", kind) for number, (name, kind) in enumerate([*value, ("bytes_value", "bytes")], 10)],
        "Payload": [(1, "timestamp", "uint64"), (2, "*metrics", "Metric"), (3, "seq", "uint64"), (4, "uuid", "string"),
                    (5, "body", "bytes")],
    }  # fmt: skip
    package = "org.eclipse.tahu.protobuf"
    file = descriptor_pb2.FileDescriptorProto(name="wind_kedro/sparkplug_b.proto", package=package, syntax="proto2")
    for message, fields in messages.items():
        entry = file.message_type.add(name=message)
        if any(name.startswith("|") for _, name, _ in fields):
            entry.oneof_decl.add(name="value")
        for number, name, kind in fields:
            added = entry.field.add(name=name.lstrip("*|"), number=number)
            added.label = proto.LABEL_REPEATED if name.startswith("*") else proto.LABEL_OPTIONAL
            added.type = scalar.get(kind, proto.TYPE_MESSAGE)
            if kind not in scalar:
                added.type_name = f".{package}.{kind}"
            if name.startswith("|"):
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Payload"))


def topic_columns(topic: str) -> dict[str, str] | None:
    """Group, message type, node and device of a Sparkplug topic; none for other topics."""
    namespace, *levels = topic.split("/")
    if namespace != NAMESPACE or len(levels) not in {3, 4}:
        return None
    return dict(zip(COLUMNS, levels, strict=False))


def rebirth_request(now: dt.datetime) -> bytes:
    """Payload of an NCMD that requests a node's birth message (chapter 6.4.21)."""
    milliseconds = int(now.timestamp() * 1000)
    payload = payload_class()(timestamp=milliseconds)
    payload.metrics.add(name="Node Control/Rebirth", timestamp=milliseconds, datatype=11, boolean_value=True)
    return bytes(payload.SerializeToString())


def sparkplug_rows(message: Message, levels: Mapping[str, str], nodes: Nodes) -> Iterator[Row]:
    """Convert a Sparkplug message to rows: one per metric, and one per fault.

    Args:
        message: the message.
        levels: named levels of its topic.
        nodes: state of the edge nodes; updated by the message.
    """
    place = topic_columns(message.topic)
    columns = {**levels, **(place or {})}
    if place is not None and place["message_type"] not in _DATA | _DEATHS:
        # A command may have a signal's name, but its value is not a measurement.
        yield unread(message, columns, f"a message of type {place['message_type']} holds no measurements")
        return
    try:
        timestamp, seq, metrics = _from_protobuf(message)
    except UnreadableError as error:
        yield unread(message, columns, str(error))
        return
    node, faults = Node(), list[str]()
    if place is not None:
        if place["message_type"] in _DEATHS:
            yield start(message, columns) | {"fault": "offline: its last values are no longer valid"}
            return
        node, faults = _learn(nodes, place, seq, metrics, message)
    if not metrics:
        faults.append("the message has no metrics")
    for fault in faults:
        yield start(message, columns) | {"fault": fault}
    for metric in metrics:
        yield _row(message, columns, metric, node, timestamp)
        if metric.name is None and str(metric.alias) not in node.aliases and place is not None:
            nodes.lost.add(f"{place['group_id']}/{place['edge_node_id']}")


def _learn(
    nodes: Nodes, place: Mapping[str, str], seq: int | None, metrics: list[_Metric], message: Message
) -> tuple[Node, list[str]]:
    """Update the state of the message's node; return it and the faults."""
    name, kind = f"{place['group_id']}/{place['edge_node_id']}", place["message_type"]
    node, faults = nodes.known.get(name, Node()), []
    if name in nodes.known or len(nodes.known) < MAX_NODES:
        nodes.known[name] = node
    else:
        faults.append(f"more than {MAX_NODES:,} edge nodes: this one is not remembered")
    if gap := _gap(node, kind, seq, message):
        nodes.lost.add(name)
        faults.append(gap)
    if kind == "NBIRTH":  # a new birth invalidates earlier aliases
        node.aliases.clear()
    if kind in _BIRTHS:
        nodes.lost.discard(name)
        node.aliases |= {str(m.alias): (m.name, m.datatype) for m in metrics if m.alias is not None and m.name}
        if len(node.aliases) > MAX_ALIASES:
            faults.append(f"more than {MAX_ALIASES:,} aliases: they are not remembered")
            node.aliases.clear()
    return node, faults


def _gap(node: Node, kind: str, seq: int | None, message: Message) -> str | None:
    """Fault text of a gap in the sequence numbers, if there is one; updates the node's number."""
    if seq is None or message.retained:
        return None
    before, node.seq = node.seq, seq
    # A birth restarts the sequence.
    if kind == "NBIRTH" or before is None or seq == (before + 1) % _SEQUENCE:
        return None
    return f"sequence number {seq} came after {before}: messages of this node are missing or out of order"


def _row(message: Message, columns: Mapping[str, str], metric: _Metric, node: Node, timestamp: Any) -> Row:
    name, datatype = node.aliases.get(str(metric.alias), (None, 0))
    name, datatype = metric.name or name, metric.datatype or datatype
    time = metric.timestamp if metric.timestamp is not None else timestamp
    fault = metric.fault or (None if name else f"alias {metric.alias} has no name: its birth message was not seen")
    row = start(message, columns) if fault is None else unread(message, columns, fault, metric.raw)
    return stamp(row, time, "milliseconds") | {
        "signal": name, "value": None if metric.fault else _text(metric.value, datatype), "quality": metric.quality,
    }  # fmt: skip


def _text(value: Any, datatype: int) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and datatype in _SIGNED_BITS:
        # Negative whole numbers travel as their two's complement in an unsigned field.
        bits = _SIGNED_BITS[datatype]
        value &= (1 << bits) - 1
        value -= (value >> (bits - 1)) << bits
    if isinstance(value, float) and datatype == _FLOAT and math.isfinite(value):
        import numpy as np

        return str(np.float32(value))  # the shortest text of a 32-bit float: 12.3, not 12.300000190734863
    if datatype == _DATE_TIME and isinstance(value, int):
        return stamp({}, value, "milliseconds")["timestamp"]  # type: ignore[return-value]  # a text by `stamp`
    return text_of(value)


def _from_protobuf(message: Message) -> tuple[Any, int | None, list[_Metric]]:
    from google.protobuf.message import DecodeError

    try:
        payload = payload_class().FromString(message.payload)
    except DecodeError as error:
        raise UnreadableError(f"the payload is not Sparkplug B: {str(error).splitlines()[0]}") from None
    return (_given(payload, "timestamp"), _given(payload, "seq"), [_protobuf_metric(metric) for metric in payload.metrics])


def _protobuf_metric(metric: Any) -> _Metric:
    held = metric.WhichOneof("value")
    fault = None
    if held == "bytes_value" or (held is None and not metric.is_null):
        fault = f"a value of datatype {metric.datatype} is no number or text"
    return _Metric(
        _given(metric, "name"), _given(metric, "alias"), _given(metric, "timestamp"), metric.datatype,
        None if held is None or metric.is_null else getattr(metric, held), _quality(metric), metric.SerializeToString(), fault,
    )  # fmt: skip


def _given(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _quality(metric: Any) -> str | None:
    # The property `Quality` is 0 bad, 192 good, 500 stale; a metric without it is good.
    for key, value in zip(metric.properties.keys, metric.properties.values, strict=False):
        held = value.WhichOneof("value")
        if key.lower() == "quality" and held:
            return text_of(getattr(value, held))
    return _GOOD
