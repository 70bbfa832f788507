"""Convert messages of an IoT stream to rows: topics with named levels, JSON payloads, unreadable payloads.

All values are text; times given as text are not changed. A message becomes at least one row, so that every message can be found
where it landed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from wind_kedro.errors import WindKedroError

from .records import UnreadableError, check_text, fault_columns, flatten, raw_of, read_json, text_of, write_json

if TYPE_CHECKING:
    from .mqtt import Mqtt

Row = dict[str, str | int | bool | None]
TimestampUnit = Literal["text", "seconds", "milliseconds"]

#: Most items of an array in one message: each becomes a row or more.
MAX_ITEMS = 100_000
_LEVEL = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True)
class Message:
    """A message delivered by the broker."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    received_at: dt.datetime


class Template:
    """Template of topics with named levels: ``farm/{farm}/turbine/{turbine}/signals``. ``+`` and a last ``#`` are as in MQTT.

    Raises `ValueError` if a level is neither a name in braces, a wildcard, nor plain text, or a name comes twice.
    """

    def __init__(self, text: str) -> None:
        pattern, filters, names = "", list[str](), list[str]()
        levels = text.split("/")
        for place, level in enumerate(levels):
            slash = "/" if place else ""
            if named := _LEVEL.fullmatch(level):
                names.append(named.group(1))
                filters.append("+")
                pattern += f"{slash}([^/]*)"
            elif level == "#" and place == len(levels) - 1:
                filters.append("#")
                # MQTT: `a/#` is also the topic `a` itself.
                pattern += "(?:/.*)?" if place else ".*"
            elif level == "+" or not any(character in level for character in "{}+#"):
                filters.append(level)
                pattern += slash + ("[^/]*" if level == "+" else re.escape(level))
            else:
                raise ValueError(
                    f"'{text}': a level is plain text, '+', a name in braces like {{turbine}}, or a last '#'; '{level}' is not"
                )
        if not text or len(set(names)) < len(names):
            raise ValueError(f"'{text}': a template has levels, and each name once")
        self.filter = "/".join(filters)
        self.names = tuple(names)
        self._pattern = re.compile(pattern, re.S)

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic; none if it does not match."""
        found = self._pattern.fullmatch(topic)
        return None if found is None else dict(zip(self.names, found.groups(), strict=True))


def start(message: Message, levels: Mapping[str, str]) -> Row:
    """Common columns of the rows of a message; its stamp is the arrival unless the payload has one."""
    arrival = utc_text(message.received_at)
    return {
        "topic": message.topic, **levels, "timestamp": arrival, "stamped_by": "arrival", "received_at": arrival,
        "retained": message.retained, "qos": message.qos,
    }  # fmt: skip


def unread(message: Message, levels: Mapping[str, str], fault: str, raw: bytes | None = None) -> Row:
    """The row of an unreadable message: the reason and the original bytes."""
    return start(message, levels) | fault_columns(fault, message.payload if raw is None else raw)


def stamp(row: Row, value: Any, unit: TimestampUnit) -> Row:
    """The row with the payload's time, if there is one.

    Text is not changed, as the farm's card defines its clock; ``unit`` is that of a number since 1970 in UTC.
    """
    if value is None:
        return row
    text = text_of(value) or ""
    if unit != "text":
        try:
            # Whole numbers: a float of milliseconds since 1970 is not exact to the microsecond.
            scale = 1 if unit == "milliseconds" else 1000
            epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
            text = utc_text(epoch + dt.timedelta(microseconds=round(float(value) * 1000 * scale)))
        except (TypeError, ValueError, OverflowError):
            pass  # the text is kept; parsing the rows will report it
    return row | {"timestamp": text, "stamped_by": "payload"}


def utc_text(time: dt.datetime) -> str:
    """ISO 8601 in UTC with microseconds, so that texts sort by time."""
    return time.astimezone(dt.UTC).isoformat(timespec="microseconds")


def json_rows(message: Message, levels: Mapping[str, str], feed: Mqtt) -> Iterator[Row]:
    """Rows of a JSON payload: an object, an array of objects, or a value on a topic with the signal's name."""
    try:
        content = read_json(message.payload)
    except WindKedroError as error:
        yield unread(message, levels, str(error))
        return
    if content == [] or (isinstance(content, list) and len(content) > MAX_ITEMS):
        fault = f"the array has more than {MAX_ITEMS:,} items" if content else "the payload is an empty array"
        yield unread(message, levels, fault)
        return
    for item in content if isinstance(content, list) else [content]:
        base = start(message, levels)
        try:
            if isinstance(item, dict):
                yield from _object_rows(base, item, feed)
            elif isinstance(content, list):
                raise UnreadableError("the array holds an item that is not an object, so it has no time")
            elif "signal" not in levels:
                raise UnreadableError("the payload is a single value, and the topic has no {signal}")
            else:
                check_text(item, "the payload")
                yield base | {"value": text_of(item)}
        except UnreadableError as error:
            yield unread(message, levels, str(error), raw_of(item) if isinstance(content, list) else None)


def _object_rows(base: Row, item: Mapping[str, Any], feed: Mqtt) -> Iterator[Row]:
    found = flatten(item)
    row = stamp(base, found.pop(feed.timestamp, None), feed.timestamp_unit)
    row |= {key: text_of(found.pop(key, None)) for key in feed.keys}
    if feed.layout == "table":
        row |= {signal: text_of(found.pop(signal, None)) for signal in feed.signals}
        yield row | {"rest": _rest(found)}
        return
    signal = row.get("signal")
    if signal is None and feed.value in found:
        signal = text_of(found.pop(feed.signal, None))
    if signal is not None and feed.value in found:
        value = text_of(found.pop(feed.value))
        yield row | {"signal": signal, "value": value, "rest": _rest(found)}
        return
    if not found:
        raise UnreadableError("the payload has no signals")
    before = "" if signal is None else f"{signal}."
    for name, value in found.items():
        yield row | {"signal": before + name, "value": text_of(value)}


def _rest(fields: Mapping[str, Any]) -> str | None:
    return write_json(dict(sorted(fields.items()))) if fields else None
