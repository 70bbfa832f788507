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
from .records import text_of

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
_PACKAGE = "org.eclipse.tahu.protobuf"
#: Fields by message: number, name, type; a `*` is repeated, a `|` one of the values.
_MESSAGES = {
    "PropertyValue": "1 type uint32, 2 is_null bool, 3 |int_value uint32, 4 |long_value uint64, 5 |float_value float, "
    "6 |double_value double, 7 |boolean_value bool, 8 |string_value string",
    "PropertySet": "1 *keys string, 2 *values PropertyValue",
    "Metric": "1 name string, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 7 is_null bool, 9 properties PropertySet, "
    "10 |int_value uint32, 11 |long_value uint64, 12 |float_value float, 13 |double_value double, 14 |boolean_value bool, "
    "15 |string_value string, 16 |bytes_value bytes",
    "Payload": "1 timestamp uint64, 2 *metrics Metric, 3 seq uint64",
}


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


@cache
def payload_class() -> Any:
    """The message class `Payload`; needs the extra `feeds`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    proto: Any = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="wind_kedro/sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _MESSAGES.items():
        entry = file.message_type.add(name=message)
        if "|" in fields:
            entry.oneof_decl.add(name="value")
        for number, name, kind in (one.split() for one in fields.split(", ")):
            added = entry.field.add(name=name.lstrip("*|"), number=int(number))
            added.label = proto.LABEL_REPEATED if name.startswith("*") else proto.LABEL_OPTIONAL
            added.type = getattr(proto, f"TYPE_{kind.upper()}", proto.TYPE_MESSAGE)
            if added.type == proto.TYPE_MESSAGE:
                added.type_name = f".{_PACKAGE}.{kind}"
            if name.startswith("|"):
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


def rebirth_request(now: dt.datetime) -> bytes:
    """Payload of an NCMD that requests a node's birth message (chapter 6.4.21)."""
    milliseconds = int(now.timestamp() * 1000)
    payload = payload_class()(timestamp=milliseconds)
    payload.metrics.add(name="Node Control/Rebirth", timestamp=milliseconds, datatype=11, boolean_value=True)
    return bytes(payload.SerializeToString())


def sparkplug_rows(message: Message, levels: Mapping[str, str], nodes: Nodes) -> Iterator[Row]:
    """Convert a Sparkplug message to rows: one per metric, and one per fault.

    ``levels`` are the named levels of its topic; ``nodes``, the state of the edge nodes, is updated by the message.
    """
    from google.protobuf.message import DecodeError

    namespace, *rest = message.topic.split("/")
    # Other topics have none of these columns, and their aliases are not known.
    place = dict(zip(COLUMNS, rest, strict=False)) if namespace == NAMESPACE and len(rest) in {3, 4} else {}
    columns, kind = {**levels, **place}, place.get("message_type")
    if kind is not None and kind not in _DATA | _DEATHS:
        # A command may have a signal's name, but its value is not a measurement.
        yield unread(message, columns, f"a message of type {kind} holds no measurements")
        return
    try:
        payload = payload_class().FromString(message.payload)
    except DecodeError as error:
        yield unread(message, columns, f"the payload is not Sparkplug B: {str(error).splitlines()[0]}")
        return
    if kind in _DEATHS:
        yield start(message, columns) | {"fault": "offline: its last values are no longer valid"}
        return
    node, faults, name = Node(), list[str](), ""
    if kind is not None:
        name = f"{place['group_id']}/{place['edge_node_id']}"
        node, faults = _learn(nodes, name, kind, payload, message.retained)
    if not payload.metrics:
        faults.append("the message has no metrics")
    for fault in faults:
        yield start(message, columns) | {"fault": fault}
    for metric in payload.metrics:
        yield _row(message, columns, metric, node, payload)
        if name and not metric.HasField("name") and str(_given(metric, "alias")) not in node.aliases:
            nodes.lost.add(name)


def _learn(nodes: Nodes, name: str, kind: str, payload: Any, is_retained: bool) -> tuple[Node, list[str]]:
    """Update the state of the message's node; return it and the faults."""
    node, faults = nodes.known.get(name, Node()), []
    if name in nodes.known or len(nodes.known) < MAX_NODES:
        nodes.known[name] = node
    else:
        faults.append(f"more than {MAX_NODES:,} edge nodes: this one is not remembered")
    seq = _given(payload, "seq")
    if seq is not None and not is_retained:
        before, node.seq = node.seq, seq
        # A birth restarts the sequence.
        if kind != "NBIRTH" and before is not None and seq != (before + 1) % _SEQUENCE:
            nodes.lost.add(name)
            faults.append(f"sequence number {seq} came after {before}: messages of this node are missing or out of order")
    if kind == "NBIRTH":  # a new birth invalidates earlier aliases
        node.aliases.clear()
    if kind in _BIRTHS:
        nodes.lost.discard(name)
        node.aliases |= {str(m.alias): (m.name, m.datatype) for m in payload.metrics if m.HasField("alias") and m.name}
        if len(node.aliases) > MAX_ALIASES:
            faults.append(f"more than {MAX_ALIASES:,} aliases: they are not remembered")
            node.aliases.clear()
    return node, faults


def _row(message: Message, columns: Mapping[str, str], metric: Any, node: Node, payload: Any) -> Row:
    alias, time, held = _given(metric, "alias"), _given(metric, "timestamp"), metric.WhichOneof("value")
    name, datatype = node.aliases.get(str(alias), (None, 0))
    name, datatype = _given(metric, "name") or name, metric.datatype or datatype
    fault, value = None if name else f"alias {alias} has no name: its birth message was not seen", None
    if held == "bytes_value" or (held is None and not metric.is_null):
        fault = f"a value of datatype {metric.datatype} is no number or text"
    elif not metric.is_null:
        value = _text(getattr(metric, held), datatype)
    row = start(message, columns) if fault is None else unread(message, columns, fault, metric.SerializeToString())
    # The property `Quality` is 0 bad, 192 good, 500 stale; a metric without it is good.
    properties = {
        key.lower(): text_of(getattr(one, one.WhichOneof("value")))
        for key, one in zip(metric.properties.keys, metric.properties.values, strict=False)
        if one.WhichOneof("value")
    }
    row |= {"signal": name, "value": value, "quality": properties.get("quality", _GOOD)}
    return stamp(row, time if time is not None else _given(payload, "timestamp"), "milliseconds")


def _given(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


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
