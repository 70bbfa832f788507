"""Build a farm's card from findings, append it to ``farms.yml``, and copy files and configuration for it."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Mapping, Sequence
from os.path import commonprefix
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from wind_kedro.cards import SIGNAL_UNITS, UNIT_CONVERSIONS, Farm, SignalSource, Turbine
from wind_kedro.errors import format_validation_fault
from wind_kedro.storage.temporary import written_aside

from .findings import Findings, OnboardingError

#: Name of the environment of `write_isolated_configuration`.
ENVIRONMENT = "newcomer"
#: Fields of the signals that are copied to the card unchanged.
_PLAIN = tuple(name for name in SignalSource.model_fields if name not in {"path", "columns", "sentinels"})
#: Fields of the farm likewise.
_OWN = ("id", "name", "latitude_deg", "longitude_deg", "time_zone", "capacity_kw", "latency_minutes")


#: Fields whose value is text even if it looks like another type: 007 is an identifier, No a name.
_TEXTS = frozenset(
    ["id", "name", "time_zone"]
    + [f"signals.{name}" for name, field in SignalSource.model_fields.items() if "str" in str(field.annotation)]
    + [f"signals.{name}" for name in ("format", "encoding", "decimal", "thousands", "layout", "stamps", "clock")]
    + [f"signals.columns.{signal}.{what}" for signal in SIGNAL_UNITS for what in ("name", "unit")]
) - {"signals.good_quality", "signals.columns"}
_FIELDS = (
    _TEXTS
    | {*_OWN, "turbines", "rated_power_kw", "hub_height_m"}
    | {f"signals.{name}" for name in _PLAIN}
    | {f"signals.sentinels.{signal}" for signal in SIGNAL_UNITS}
)


def answer(field: str, text: str) -> Any:
    """Convert an answer to the value of a field; ``null`` means none.

    Raises:
        OnboardingError: if there is no such field, or the text is not a valid value.
    """
    if field not in _FIELDS and not field.startswith("rated_power_kw."):
        near = difflib.get_close_matches(field, _FIELDS, n=3)
        raise OnboardingError(f"no field '{field}'" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    if field in _TEXTS:
        value: Any = {"null": None, "tab": "\t"}.get(text, text)
    else:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise OnboardingError(
                f"{field}: '{text}' is not a valid value; write a number, or a list such as [T01, T02]"
            ) from None
    if (known := _model_field(field)) is not None:
        try:
            TypeAdapter(Annotated[known.annotation, known]).validate_python(value)  # type: ignore[arg-type] # found at run time
        except ValidationError as error:
            what = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise OnboardingError(f"{field}: {what} (given: '{text}')") from None
    if field.endswith(".unit") and (value, SIGNAL_UNITS[field.split(".")[2]]) not in UNIT_CONVERSIONS:
        raise OnboardingError(f"{field}: unknown unit '{value}'; choose one of {', '.join(choices(field))}")
    return value


def choices(field: str) -> list[str]:
    """Permitted values of a field if they can be listed, else an empty list."""
    if field.endswith(".unit"):
        return [unit for unit, target in UNIT_CONVERSIONS if target == SIGNAL_UNITS[field.split(".")[2]]]
    known = _model_field(field)
    return [str(one) for one in get_args(known.annotation)] if known and get_origin(known.annotation) is Literal else []


def _model_field(field: str) -> FieldInfo | None:
    """The pydantic field of the card's models that validates an answer, if there is one."""
    if field == "hub_height_m" or field.partition(".")[0] == "rated_power_kw":
        return Turbine.model_fields[field.partition(".")[0]]
    if field == "turbines":  # a list of identifiers here, of objects on the card
        return None
    room, _, name = field.rpartition(".")
    rooms: Mapping[str, type[BaseModel]] = {"": Farm, "signals": SignalSource}
    return rooms[room].model_fields.get(name) if room in rooms else None


def card_of(found: Findings, path: str) -> dict[str, Any]:
    """Build the farm's card.

    Args:
        found: the fields; open fields take their guess.
        path: of its files below the raw folder.

    Raises:
        OnboardingError: if the card is not valid; one line per fault.
    """
    signals: dict[str, Any] = {"path": path}
    defaults = {name: field.get_default(call_default_factory=True) for name, field in SignalSource.model_fields.items()}
    for name in _PLAIN:
        value = found.value(f"signals.{name}", defaults[name])
        if value != defaults[name] or name == "timestamp":
            signals[name] = value
    signals["columns"] = {
        signal: {"name": found.value(f"signals.columns.{signal}.name"), "unit": found.value(f"signals.columns.{signal}.unit")}
        for signal in SIGNAL_UNITS
        if found.value(f"signals.columns.{signal}.name")
    }
    sentinels = {signal: found.value(f"signals.sentinels.{signal}") for signal in SIGNAL_UNITS}
    if any(sentinels.values()):
        signals["sentinels"] = {signal: values for signal, values in sentinels.items() if values}
    card: dict[str, Any] = {name: found.value(name) for name in _OWN}
    height = found.value("hub_height_m")
    card["turbines"] = [
        {"id": one, "rated_power_kw": found.value(f"rated_power_kw.{one}", found.value("rated_power_kw")), "hub_height_m": height}
        for one in found.value("turbines")
    ]
    card["signals"] = signals
    card["weather"] = []
    try:
        Farm.model_validate(card)
    except ValidationError as error:
        raise OnboardingError("\n".join(map(format_validation_fault, error.errors()))) from None
    return card


def append_card(file: Path, card: Mapping[str, Any], start: Path | None = None) -> None:
    """Append a card to ``farms.yml`` atomically, keeping its comments.

    Args:
        file: the environment's ``farms.yml``.
        card: the card.
        start: the file to copy first if ``file`` does not exist: the cards that the environment inherits.

    Raises:
        OnboardingError: if the id is taken, or a card cannot be appended to the file.
    """
    source = file if file.is_file() else start
    text = source.read_text(encoding="utf-8") if source is not None and source.is_file() else "farms:\n"
    before = (yaml.safe_load(text) or {}).get("farms") or []
    if any(one.get("id") == card["id"] for one in before):
        raise OnboardingError(f"{file}: farm '{card['id']}' already exists; choose another --id, or remove its card")
    node = next((value for key, value in getattr(yaml.compose(text), "value", []) if key.value == "farms"), None)
    if node is None:
        raise OnboardingError(f"{file}: there is no list `farms:`; add it by hand")
    while not isinstance(node.value, str) and node.value:  # to the last value of the last farm
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    lines = text.rstrip("\n").split("\n")
    place = node.end_mark.line + 1
    indent = next((found.group(1) for line in lines[:place] if (found := re.match(r"^( *)- +id:", line))), "  ")
    shown = yaml.safe_dump([dict(card)], sort_keys=False, allow_unicode=True, default_flow_style=None, width=130)
    new = [indent + line if line else line for line in shown.rstrip("\n").split("\n")]
    if lines[:place] and re.match(r"^farms: *\[ *\] *(#.*)?$", lines[place - 1]):
        lines[place - 1] = "farms:"
    whole = "\n".join([*lines[:place], *new, *lines[place:]]) + "\n"
    try:
        after = yaml.safe_load(whole)["farms"]
    except yaml.YAMLError:
        after = None
    if after != [*before, dict(card)]:
        raise OnboardingError(f"{file}: a card cannot be appended to its list of farms; add it by hand:\n{shown}")
    with written_aside(file) as aside:
        aside.write_text(whole, encoding="utf-8")


def bring_files(files: Sequence[Path], folder: Path) -> str:
    """Copy the files below the raw folder; return the card's path, relative to its parent.

    Raises:
        OnboardingError: if a file of the same name with other content exists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        target = folder / path.name
        if target.exists():
            if target.samefile(path) or target.read_bytes() == path.read_bytes():
                continue
            raise OnboardingError(f"{target}: another file of that name exists; choose another --id")
        with written_aside(target) as aside:
            shutil.copyfile(path, aside)
    return path_of(files, folder.name)


def path_of(files: Sequence[Path], folder: str) -> str:
    """The card's path of files in a folder: the file, or the glob of several."""
    if len(files) == 1:
        return f"{folder}/{files[0].name}"
    names = [path.name for path in files]
    head = commonprefix(names)  # noqa: RUF071 - of names, not of paths
    tail = commonprefix([name[len(head) :][::-1] for name in names])[::-1]  # noqa: RUF071
    return f"{folder}/{head}*{tail}"


def write_isolated_configuration(
    conf: Path, environment: str, card: Mapping[str, Any], products: Sequence[Mapping[str, Any]], raw: Path, folder: Path
) -> Path:
    """Copy the configuration with the new farm only, so that assessing its data changes nothing of the fleet.

    Args:
        conf: the project's configuration.
        environment: the environment to which the farm was added.
        card: the farm's card.
        products: the fleet's products, for their granularities; the farm is their only member in the copy.
        raw: the raw folder with the farm's files.
        folder: an empty folder for the copy and its results.

    Returns:
        The copied configuration; `ENVIRONMENT` is the environment to run.
    """
    copied = folder / "conf"
    shutil.copytree(conf, copied)
    own = copied / ENVIRONMENT
    if environment == "base":
        own.mkdir()
    else:
        shutil.copytree(copied / environment, own)
    files = own / "globals.yml"
    shared = (yaml.safe_load(files.read_text("utf-8")) or {}) if files.is_file() else {}
    _write(files, {**shared, "data": str(folder / "data")})
    _write(own / "farms.yml", {"farms": [dict(card)], "groups": []})
    _write(own / "products.yml", {"products": [{**product, "members": [card["id"]]} for product in products]})
    place = folder / "data" / "01_raw"
    place.mkdir(parents=True)
    (place / str(card["id"])).symlink_to((raw / str(card["id"])).absolute(), target_is_directory=True)
    return copied


def _write(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
