"""What all cards share: their base class, and the types of their fields."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from wind_kedro.errors import WindKedroError, shown
from wind_kedro.strict import Strict


class CardError(WindKedroError):
    """A card is wrong. The message is one line per fault: file, card, field, what is wrong."""


#: Most characters of an identifier: with what is added to it, it must fit into a file name.
MAX_IDENTIFIER = 100
#: Most bytes of a file name, on every file system that is in use.
MAX_FILE_NAME_BYTES = 255
#: Most characters of any text on a card; the longest of the cards that are known, a list of rows in `where`, has 60.
MAX_TEXT = 1000
#: Years in which days of a calendar may lie.
FIRST_YEAR, LAST_YEAR = 1970, 2200


def _identifier(value: str) -> str:
    # Identifiers become file names, MLflow tags and YAML keys: what is safe in all of them.
    if not re.fullmatch(rf"[a-z0-9][a-z0-9_]{{0,{MAX_IDENTIFIER - 1}}}", value):
        raise ValueError(
            f"'{shown(value)}' is not an identifier: use lower case letters, digits and underscores, at most {MAX_IDENTIFIER}"
        )
    return value


def refuse(*faults: tuple[Any, str]) -> None:
    """Raise `ValueError` with the text of the first fault whose condition holds."""
    for condition, text in faults:
        if condition:
            raise ValueError(text)


def _file_path(value: str) -> str:
    name = f"'{shown(value)}'"
    unnamed = not value.strip() or any(len(part.encode()) > MAX_FILE_NAME_BYTES for part in value.split("/"))
    elsewhere = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", value)
    refuse(
        (elsewhere, f"{name} is on another machine: let a feed land it (docs/how-to/bring-data-in.md)"),
        (value.startswith(("/", "~")), f"{name} is absolute: write it relative to the raw folder, or put a link there"),
        (unnamed, f"{name} is no path: give 1 to {MAX_FILE_NAME_BYTES} bytes between slashes"),
    )
    return value


def _time_zone(value: str) -> str:
    # Some databases have these too: zones of the machine, without meaning, and of clocks that count leap seconds.
    if value in {"localtime", "posixrules", "Factory"} or value.startswith(("right/", "posix/")):
        raise ValueError(f"'{shown(value)}' is not an IANA time zone (for example Europe/Paris)")
    try:
        ZoneInfo(value)
    # A folder of the database (Europe) and a name that is too long are errors of the operating system.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"'{shown(value)}' is not an IANA time zone (for example Europe/Paris)") from error
    return value


def _each_once(values: list[str]) -> list[str]:
    # Twice would count a farm's capacity twice, or issue its forecast twice.
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"'{value}' appears twice")
    return values


def quoted_time(value: Any) -> Any:
    """The value; `ValueError` for a time of day without quotes, which YAML reads as a number."""
    if isinstance(value, int | float):
        raise ValueError('put quotes around times of day ("18:00"): YAML reads 18:00 as the number 1080')
    return value


def _written_as_day(value: Any) -> Any:
    # As a number it would be read as seconds since 1970.
    if isinstance(value, int | float):
        raise ValueError("write a day as 2027-01-31")
    return value


DateT = TypeVar("DateT", bound=dt.date)


def within_years(value: DateT) -> DateT:
    """The day or time; `ValueError` outside `FIRST_YEAR` to `LAST_YEAR`: near the ends of the calendar, UTC may not have it."""
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Day = Annotated[dt.date, BeforeValidator(_written_as_day), AfterValidator(within_years)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Minutes = Annotated[int, Field(ge=0)]


class Card(Strict):
    """What every card has in common: unknown fields are mistakes, and a card never changes once read."""

    @field_validator("*", mode="after")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise ValueError(f"'{shown(value)}' has {len(value):,} characters; at most {MAX_TEXT:,} are read")
            if not value.isprintable() and value != "\t":  # a separator
                raise ValueError(f"'{shown(value)}' has a character that cannot be printed, such as a line break")
        return value
