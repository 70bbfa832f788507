"""Flatten JSON records to rows of text, with a fault for those that cannot be stored.

A record that cannot be stored as text (lone surrogates, NUL, repeated names, excessive nesting) is an `UnreadableError`; it
lands as a row with ``fault`` and its bytes in ``raw``, and other records land normally.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from wind_kedro.storage.bounds import MAX_JSON_BYTES, MAX_JSON_DEPTH, TooLargeError, is_text, parse_json

#: Columns of an unreadable row: reason and bytes.
FAULT, RAW = "fault", "raw"
#: Most fields of a record, most characters of a field's name. The widest exports have some thousand signals.
MAX_FIELDS = 20_000
MAX_NAME_LENGTH = 1_000
#: Most bytes of a field. A column of text of Parquet has at most 2 GiB a page, and DuckDB reads pages whole.
MAX_FIELD_BYTES = 16 << 20
#: Random prefix of text that replaces spans nested too deeply in the parsed document.
_DEEP = f"deep-{secrets.token_hex(16)}:"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class UnreadableError(ValueError):
    """A payload or a part of it cannot be converted to a row. The message is for the row's ``fault``."""


class Number(str):
    """A JSON number with its original digits, which a float would round (0.30000000000000001, 1.10)."""

    __slots__ = ()


class Repeated(dict[str, Any]):
    """A JSON object with repeated names; it holds the last value of each."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def read_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON document: numbers as `Number`, objects with repeated names as `Repeated`.

    Text that is not UTF-8 and spans nested more than `MAX_JSON_DEPTH` levels deep do not fail the document; `flatten` raises
    for the record that holds them. Raises `WindKedroError` if it is not JSON, or larger than ``max_bytes``.
    """
    options: dict[str, Any] = {
        "max_bytes": max_bytes, "lone_surrogates": True, "parse_int": Number, "parse_float": Number,
        "parse_constant": Number, "object_pairs_hook": _pairs, "strict": False,
    }  # fmt: skip
    try:
        return parse_json(data, "the payload", **options)
    except TooLargeError:
        if len(data) > max_bytes:
            raise
        return parse_json(_without_deep_spans(data), "the payload", **(options | {"max_bytes": 2 * max_bytes + 1024}))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(pairs)


def _without_deep_spans(data: bytes) -> str:
    """The document with each span beyond `MAX_JSON_DEPTH` replaced by a string of it."""
    text = data.decode("utf-8-sig", "surrogateescape")
    parts, depth, end, start = [], 0, 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_JSON_DEPTH + 1:
                start = token.start()
        elif token[0] in "]}":
            if depth == MAX_JSON_DEPTH + 1:
                parts += [text[end:start], json.dumps(_DEEP + text[start : token.end()], ensure_ascii=False)]
                end = token.end()
            depth -= 1
    return "".join([*parts, text[end:]])


def write_json(value: Any) -> str:
    """Serialise a value of `read_json`, with original digits and repeated names."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(write_json, value))}]"
    if isinstance(value, dict):
        pairs = value.pairs if isinstance(value, Repeated) else value.items()
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{write_json(item)}" for key, item in pairs) + "}"
    if isinstance(value, str) and value.startswith(_DEEP):
        return value.removeprefix(_DEEP)
    return json.dumps(value, ensure_ascii=False)


def text_of(value: Any) -> str | None:
    """Convert a value of `read_json` to text; null becomes none."""
    if value is None or (isinstance(value, str) and not value.startswith(_DEEP)):
        return value
    return write_json(value)


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten an object and its nested objects to fields with dotted names; lists are kept.

    Raises `UnreadableError` if a field cannot be stored under its name, or as text.
    """
    found: dict[str, Any] = {}
    for name, value in _fields(record, ""):
        if name in found:
            raise UnreadableError(f"the field '{name}' is there twice")
        found[name] = value
        if len(found) > MAX_FIELDS:
            raise UnreadableError(f"the object has more than {MAX_FIELDS:,} fields")
    return found


def _fields(record: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in record.pairs if isinstance(record, Repeated) else record.items():
        name = f"{before}{key}"
        if not key or len(name) > MAX_NAME_LENGTH or not is_text(name):
            raise UnreadableError("a field has no name, a very long one, or one that is no text")
        if isinstance(value, dict) and value:
            yield from _fields(value, f"{name}.")
        else:
            check_text(value, f"the field '{name}'")
            yield name, value


def check_text(value: Any, what: str) -> None:
    """Raise `UnreadableError` if a value of `read_json` cannot be stored as text."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, Repeated):
            raise UnreadableError(f"{what} holds an object with a name twice")
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, str):
            if one.startswith(_DEEP):
                raise UnreadableError(f"{what} is nested more than {MAX_JSON_DEPTH} levels deep")
            if not is_text(one):
                raise UnreadableError(f"{what} holds what is no text: NUL, half of a surrogate pair, or not UTF-8")
            if len(one) > MAX_FIELD_BYTES:
                raise UnreadableError(f"{what} has more than {MAX_FIELD_BYTES:,} characters")


def fault_columns(fault: str, content: bytes) -> dict[str, str]:
    """Columns of an unreadable record: the reason, and the original bytes as text or Base64."""
    fault = fault.encode("ascii", "backslashreplace").decode()  # it may quote external names
    if len(content) > MAX_FIELD_BYTES:
        fault = f"{fault}; of {len(content):,} bytes the first {MAX_FIELD_BYTES:,} are kept"
        content = content[:MAX_FIELD_BYTES]
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if is_text(text):
        return {FAULT: fault, RAW: text}
    return {FAULT: f"{fault}; raw is base64", RAW: base64.b64encode(content).decode()}


def raw_of(value: Any) -> bytes:
    """Bytes of a value of `read_json`, restoring invalid UTF-8 where possible."""
    text = write_json(value)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an escape for half of a surrogate pair: written as one again
        return "".join(c if is_text(c) else json.dumps(c)[1:-1] for c in text).encode()
