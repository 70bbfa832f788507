"""JSON records as flat rows of text, and what becomes of those that cannot be stored.

A record that no column of text can hold (half of a surrogate pair, NUL, a name twice, nesting without end) is an
`UnreadableError`; it lands as a row with ``fault`` and its own bytes in ``raw``, and those beside it land as they are.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from wind_kedro.storage.bounds import MAX_JSON_BYTES, MAX_JSON_DEPTH, TooLargeError, is_text, parse_json

#: Columns of a row that could not be read: why, and its bytes.
FAULT, RAW = "fault", "raw"
#: Most fields of a record, most characters of a field's name. The widest exports have some thousand signals.
MAX_FIELDS = 20_000
MAX_NAME_LENGTH = 1_000
#: Most bytes of a field. A column of text of Parquet has at most 2 GiB a page, and DuckDB reads pages whole.
MAX_FIELD_BYTES = 16 << 20
#: A span that is nested too deeply stands in the parsed document as text that begins with this; nobody outside knows it.
_DEEP = f"deep-{secrets.token_hex(16)}:"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class UnreadableError(ValueError):
    """A payload, or a part of it, that makes no row of values. The message is for the row's ``fault``."""


class Number(str):
    """A JSON number as its digits came: a float would round 0.30000000000000001 and lose the zero of 1.10."""

    __slots__ = ()


class Repeated(dict[str, Any]):
    """A JSON object with a name twice; it holds the last value of each."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def read_json(data: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The value of a JSON document: numbers as `Number`, an object with a name twice as `Repeated`.

    Text that is not UTF-8 and spans that are nested more than `MAX_JSON_DEPTH` levels deep do not fail the document; the
    record that holds them is found by `flatten`.

    Raises:
        WindKedroError: if it is not JSON, or larger than ``max_bytes``.
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
    """The document with each span beyond `MAX_JSON_DEPTH` as a text that holds it."""
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
    """A value of `read_json` as JSON again: numbers with the digits they came with, names twice if they came twice."""
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
    """A value of `read_json` as text: what is text stays, what is null is none."""
    if value is None or (isinstance(value, str) and not value.startswith(_DEEP)):
        return value
    return write_json(value)


def flatten(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object and of the objects in it, named with dots; lists stay as they are.

    Raises:
        UnreadableError: if there is a field that cannot be stored under its name, or as text.
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
    """Check that a value of `read_json` can be stored as text.

    Raises:
        UnreadableError: if not, and why.
    """
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
    """The columns of what cannot be read: why, and the bytes as they came, as text or else as Base64."""
    fault = fault.encode("ascii", "backslashreplace").decode()  # it quotes names from outside
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
    """The bytes of a value of `read_json`, as good as they can be had: what was not UTF-8 comes back as it was."""
    text = write_json(value)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an escape for half of a surrogate pair: written as one again
        return "".join(c if is_text(c) else json.dumps(c)[1:-1] for c in text).encode()
