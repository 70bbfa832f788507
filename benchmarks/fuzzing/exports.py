"""Hostile exports of one farm's signals: text files whose every row is known, and how each was damaged.

An `Export` is made in five stages: records (values by their names), lines (by the layout), bytes (by the encoding), the packed
file, and its place in the raw folder. A mutation belongs to one stage and writes down what it did: the fate of each record, how many
rows may be counted more or fewer, and whether the file must be refused.
"""

from __future__ import annotations

import copy
import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .project import World

SIGNALS = ("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg")
TURBINES = ("S1", "S2")
CADENCE = pd.Timedelta(minutes=15)


@dataclass
class Record:
    """One turbine's values at one time.

    Attributes:
        turbine: as the card names it.
        at: start of the interval, UTC.
        values: what was measured, by signal, in the units of the house; what the pipeline must show if it keeps the row.
        written: the text that stands in the file, by signal, and under "turbine" and "stamp".
        fate: "kept": it must be among the rows that are used, with its values; "aside": it must be set aside; "any": either.
        copies: how often it stands in the file.
    """

    turbine: str
    at: pd.Timestamp
    values: dict[str, float]
    written: dict[str, str]
    fate: str = "kept"
    copies: int = 1


@dataclass
class Export:
    """A farm's file of signals in the making, with what is known of it."""

    farm_id: str
    card: dict[str, Any]
    layout: str
    records: list[Record]
    rng: np.random.Generator
    done: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    owners: list[list[Record]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    above: str = ""
    raw: bytes = b""
    packed: bytes = b""
    name: bytes = b"signals.csv"
    gz: bool = False
    fewer: int = 0
    more: int = 0
    future: int = 0
    refuse: str = "may"
    shown: list[str] = field(default_factory=list)
    beside: dict[bytes, bytes] = field(default_factory=dict)
    beside_records: list[Record] = field(default_factory=list)
    place: Callable[[Path], None] | None = None
    meanwhile: Callable[[Path], None] | None = None

    @property
    def separator(self) -> str:
        """What separates cells."""
        return self.card["signals"].get("separator", ",")

    def some(self, most: int) -> list[int]:
        """Numbers of some lines, in order, at most so many."""
        count = int(self.rng.integers(1, most + 1))
        return sorted(int(one) for one in self.rng.choice(len(self.lines), min(count, len(self.lines)), replace=False))

    def some_records(self, most: int) -> list[Record]:
        """Some records, at most so many."""
        count = int(self.rng.integers(1, most + 1))
        return [self.records[int(one)] for one in self.rng.choice(len(self.records), count, replace=False)]

    def doubt(self, *lines: int, fate: str = "any") -> None:
        """Records of these lines may be set aside, or counted as one row less."""
        for line in lines:
            for record in self.owners[line]:
                record.fate = fate if record.fate == "kept" else record.fate
                self.fewer += 1
            self.more += 1


# --- making ----------------------------------------------------------------------------------------------------------


def blank_export(world: World, farm_id: str, rng: np.random.Generator, layout: str) -> Export:
    """A sound export in a layout, some of its dress drawn by chance: records only, no lines yet."""
    table = world.rows["south_bay"]
    columns = world.farm("south_bay")["signals"]["columns"]
    stamps = pd.to_datetime(table["Zeitstempel (UTC)"], utc=True) - CADENCE  # they are those of the end
    records = []
    cells = {name: table[columns[name]["name"]].tolist() for name in SIGNALS}
    for row, (at, turbine) in enumerate(zip(stamps, table["Anlage"], strict=True)):
        written = {name: cells[name][row] for name in SIGNALS}
        written["wind_speed_ms"] = repr(round(float(written["wind_speed_ms"]) / 3.6, 3))
        if float(written["wind_speed_ms"]) < 0:
            written["wind_speed_ms"] = "4.25"
        values = {name: float(text) for name, text in written.items()}
        written |= {"turbine": turbine, "stamp": ""}
        records.append(Record(turbine, at, values, written))
    records.sort(key=lambda record: (record.at, record.turbine))
    card = copy.deepcopy(world.farm("south_bay"))
    separator = str(rng.choice([",", ";", "\t"]))
    encoding = str(rng.choice(["utf-8", "latin-1", "cp1252", "utf-16"], p=[0.6, 0.2, 0.1, 0.1]))
    signals: dict[str, Any] = {
        "path": f"{farm_id}/signals.csv",
        "separator": separator,
        "encoding": encoding,
        "timestamp": "time",
        "layout": layout,
        "cadence_seconds": 900,
        "clock": "as_stamped",
        "columns": {},
    }
    names = {
        "power_kw": "power",
        "wind_speed_ms": "wind",
        "wind_direction_deg": "direction",
        "temperature_c": "temp",
        "pitch_deg": "pitch",
    }
    units = {
        "power_kw": "kW",
        "wind_speed_ms": "m/s",
        "wind_direction_deg": "deg",
        "temperature_c": "degC",
        "pitch_deg": "deg",
    }
    prefix = {"wide": "{turbine}_", "long": "", "table": ""}[layout]
    signals["columns"] = {name: {"name": prefix + names[name], "unit": units[name]} for name in SIGNALS}
    if layout != "wide":
        signals["turbine"] = "turbine"
    if layout == "long":
        signals |= {"signal": "tag", "value": "value"}
    form = str(rng.choice(["iso", "offset", "german"]))
    for record in records:
        record.written["stamp"] = _stamp(record.at, form)
    if form == "german":
        signals["stamp_format"] = "%d.%m.%Y %H:%M"
    card |= {"id": farm_id, "name": farm_id, "latency_minutes": 10, "signals": signals}
    card["weather"] = [world.farm("south_bay")["weather"][0]]
    export = Export(farm_id, card, layout, records, rng, gz=bool(rng.random() < 0.5))
    export.name = b"signals.csv.gz" if export.gz else b"signals.csv"
    signals["path"] = f"{farm_id}/{export.name.decode()}"
    return export


def _stamp(at: pd.Timestamp, form: str) -> str:
    if form == "iso":
        return f"{at:%Y-%m-%dT%H:%M:%S}Z"
    if form == "offset":
        return f"{at + pd.Timedelta(hours=1):%Y-%m-%d %H:%M:%S}+01:00"
    return f"{at:%d.%m.%Y %H:%M}"


def render(export: Export) -> None:
    """Records become lines, by the layout."""
    signals, join = export.card["signals"], export.separator.join
    names = {name: column["name"] for name, column in signals["columns"].items()}
    lines: list[tuple[str, list[Record]]] = []
    if export.layout == "wide":
        export.header = [signals["timestamp"], *(n.replace("{turbine}", t) for n in names.values() for t in TURBINES)]
        by_stamp: dict[str, dict[str, Record]] = {}
        alone = []
        for record in export.records:
            # A stamp or turbine that is not written as it was has a line of its own.
            slot = by_stamp.setdefault(record.written["stamp"], {})
            if record.turbine in slot:
                alone.append(record)
            else:
                slot[record.turbine] = record
        for stamp, slot in [*by_stamp.items(), *((r.written["stamp"], {r.turbine: r}) for r in alone)]:
            cells = [slot[t].written[name] if t in slot else "" for name in names for t in TURBINES]
            owners = list(slot.values())
            lines += [(join([stamp, *cells]), owners)] * max(record.copies for record in owners)
            # A turbine without a cell has a row of nothing there.
            export.more += len(TURBINES) - len(slot)
    elif export.layout == "long":
        export.header = [signals["timestamp"], signals["turbine"], signals["signal"], signals["value"]]
        for record in export.records:
            for name, column in names.items():
                line = join([record.written["stamp"], record.written["turbine"], column, record.written[name]])
                lines += [(line, [record])] * record.copies
    else:
        export.header = [signals["timestamp"], signals["turbine"], *names.values()]
        for record in export.records:
            cells = [record.written["stamp"], record.written["turbine"], *(record.written[name] for name in names)]
            lines += [(join(cells), [record])] * record.copies
    export.lines = [line for line, _ in lines]
    export.owners = [owners for _, owners in lines]
    export.ends = ["\n"] * (len(lines) + 1)  # the first is the header's


def encode(export: Export) -> None:
    """Lines become bytes."""
    text = export.above + export.separator.join(export.header) + export.ends[0]
    text += "".join(line + end for line, end in zip(export.lines, export.ends[1:], strict=True))
    export.raw = text.encode(
        export.card["signals"]["encoding"],
        "surrogateescape" if export.card["signals"]["encoding"] == "utf-8" else "strict",
    )


def pack(export: Export) -> None:
    """Bytes become the file."""
    export.packed = gzip.compress(export.raw, 1, mtime=0) if export.gz else export.raw


def write(export: Export, raw: Path) -> None:
    """Put the files into the raw folder."""
    folder = raw / export.farm_id
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in export.beside.items():
        _put(folder, name, content)
    if export.place is None:
        _put(folder, export.name, export.packed)
    else:
        export.place(folder)


def _put(folder: Path, name: bytes, content: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(content)  # noqa: PTH118 - names are bytes


# --- mutations -------------------------------------------------------------------------------------------------------

Mutation = Callable[[Export], None]
STAGES = ("records", "lines", "bytes", "packed", "place")
MUTATIONS: dict[str, dict[str, Mutation]] = {stage: {} for stage in STAGES}


def mutation(stage: str) -> Callable[[Mutation], Mutation]:
    """Registers a mutation of a stage under its function's name."""

    def register(change: Mutation) -> Mutation:
        MUTATIONS[stage][change.__name__.strip("_")] = change
        return change

    return register


def _spoil(records: list[Record], name: str, texts: list[str], rng: np.random.Generator, fate: str = "aside") -> None:
    for record in records:
        record.written[name] = str(rng.choice(texts))
        record.fate = fate


# records: values and stamps


@mutation("records")
def errors_in_every_power_cell(export: Export) -> None:
    _spoil(export.records, "power_kw", ["#VALUE!"], export.rng)


@mutation("records")
def errors_in_every_stamp(export: Export) -> None:
    _spoil(export.records, "stamp", ["#REF!"], export.rng)
    export.fewer = len(export.records) if export.layout == "long" else 0


@mutation("records")
def words_in_cells(export: Export) -> None:
    words = [
        "#N/A",
        "Bad Input",
        "--",
        "1 234",
        "12,5" if export.separator != "," else "12'5",
        "0x1F",
        "1e5e5",
        "٣٤",
        "１２",
        "=1+1",
        "1_000",
        "12%",
        "true",
    ]
    _spoil(export.some_records(40), str(export.rng.choice(SIGNALS)), words, export.rng)


@mutation("records")
def numbers_that_are_none(export: Export) -> None:
    for record in export.some_records(40):
        name = str(export.rng.choice(SIGNALS))
        record.written[name] = str(export.rng.choice(["inf", "-inf", "1e400", "Infinity", "-1e308", "9" * 400]))
        record.values[name] = float("nan")
        record.fate = "any"


@mutation("records")
def nan_and_blanks(export: Export) -> None:
    for record in export.some_records(40):
        name = str(export.rng.choice(SIGNALS[1:]))
        record.written[name] = str(export.rng.choice(["", "NaN", "null", " ", "n/a"]))
        record.values[name] = float("nan")


@mutation("records")
def spaces_around_numbers(export: Export) -> None:
    for record in export.some_records(400):
        name = str(export.rng.choice(SIGNALS))
        record.written[name] = f"  {record.written[name]} "


@mutation("records")
def other_blanks_around_numbers(export: Export) -> None:
    blank = (
        "\u00a0"
        if export.card["signals"]["encoding"] != "utf-8"
        else str(export.rng.choice(["\u00a0", "\u2009", "\u200b", "\ufeff", "\u3000"]))
    )
    for record in export.some_records(40):
        record.written["power_kw"] = blank + record.written["power_kw"]
        record.fate = "any"


@mutation("records")
def decimal_commas_in_some(export: Export) -> None:
    if export.separator == ",":
        return words_in_cells(export)
    records = [r for r in export.some_records(60) if "." in r.written["power_kw"]]
    for record in records:
        record.written["power_kw"] = record.written["power_kw"].replace(".", ",")
        record.fate = "any"
    return None


@mutation("records")
def thousands_in_some(export: Export) -> None:
    mark = "'" if export.separator == "," else str(export.rng.choice([",", "'", " "]))
    for record in export.some_records(60):
        if record.values["power_kw"] >= 1000:
            record.written["power_kw"] = f"{record.values['power_kw']:,.1f}".replace(",", mark)
            record.fate = "any"


@mutation("records")
def decimal_commas_by_the_card(export: Export) -> None:
    if export.separator == ",":
        export.card["signals"]["separator"] = ";"
    export.card["signals"]["decimal"] = ","
    for record in export.records:
        for name in SIGNALS:
            record.written[name] = record.written[name].replace(".", ",")


@mutation("records")
def impossible_stamps(export: Export) -> None:
    bad = [
        "2024-02-30T12:00:00Z",
        "2024-13-01T00:00:00Z",
        "00.00.0000 00:00",
        "2024-01-21T25:61:00Z",
        "never",
        "-1",
        "1e99",
        "9" * 60,
        "0000-00-00",
        "2024-01-21T12:00:00+99:00",
    ]
    records = export.some_records(20)
    _spoil(records, "stamp", bad, export.rng)
    if export.layout != "table":
        export.fewer += 2 * len(records)
        export.more += 6 * len(records)


@mutation("records")
def stamps_of_other_centuries(export: Export) -> None:
    german = export.card["signals"].get("stamp_format")
    bad = (
        ["01.01.0001 00:00", "31.12.9999 23:45"]
        if german
        else [
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:45:00Z",
            "1900-01-01T00:00:00Z",
            "2262-04-12T00:00:00Z",
            "2999-06-01T00:00:00Z",
            "-0044-03-15T00:00:00Z",
            "294247-01-10T04:00:54Z",
        ]
    )
    stamps = list(export.rng.choice(bad, min(len(bad), 3), replace=False))
    records = [export.records[int(i)] for i in export.rng.choice(len(export.records), len(stamps), replace=False)]
    for record, stamp in zip(records, stamps, strict=True):
        record.written["stamp"], record.fate = str(stamp), "free"
    export.future += 6 * len(records)
    if export.layout != "table":
        export.fewer += 2 * len(records)
        export.more += 6 * len(records)


@mutation("records")
def stamps_off_the_grid(export: Export) -> None:
    form = "{:%d.%m.%Y %H:%M}" if export.card["signals"].get("stamp_format") else "{:%Y-%m-%dT%H:%M:%S}Z"
    for record in export.some_records(20):
        record.written["stamp"] = form.format(record.at + pd.Timedelta(minutes=7))
        record.fate = "aside"
    if export.layout == "wide":
        export.more += 20


@mutation("records")
def backwards(export: Export) -> None:
    export.records.reverse()


@mutation("records")
def shuffled(export: Export) -> None:
    export.rng.shuffle(export.records)  # type: ignore[arg-type]


@mutation("records")
def rows_twice(export: Export) -> None:
    for record in export.some_records(50):
        record.copies = 2
    if export.layout == "wide":
        for record in export.records:
            twin = next((r for r in export.records if r.at == record.at and r.copies == 2), None)
            record.copies = 2 if twin else record.copies


@mutation("records")
def rows_that_contradict(export: Export) -> None:
    for record in export.some_records(20):
        other = copy.deepcopy(record)
        other.written["power_kw"] = repr(round(record.values["power_kw"] + 111.0, 1))
        other.fate = record.fate = "aside"
        export.records.append(other)
        if export.layout == "wide":  # the other turbine's cells of that line are blank, which contradicts, too
            export.more += 1
            for twin in export.records:
                if twin.at == record.at and twin.turbine != record.turbine and twin.fate == "kept":
                    twin.fate = "any"
        if export.layout == "long":
            # Its other values stand twice: how these become rows is the pipeline's to say.
            other.fate = record.fate = "any"
            other.values["power_kw"] = float(other.written["power_kw"])
            export.fewer += 1


@mutation("records")
def unknown_turbines(export: Export) -> None:
    if export.layout == "wide":
        return
    names = ["S9", "", "s1", "S1'; DROP TABLE signals; --", "Ѕ1", "S1\u200b"]
    if export.card["signals"]["encoding"] in {"latin-1", "cp1252"}:
        names = names[:4]
    names = [name for name in names if export.separator not in name]
    records = export.some_records(20)
    for record in records:
        record.written["turbine"] = str(export.rng.choice(names))
        record.fate = "aside"


@mutation("records")
def control_characters_in_cells(export: Export) -> None:
    for record in export.some_records(20):
        name = str(export.rng.choice(["power_kw", "turbine", "stamp"]))
        if export.layout == "wide" and name == "turbine":
            name = "power_kw"
        mark = str(export.rng.choice(["\x00", "\x1f", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\x7f", "\x1a", "\x08"]))
        if export.card["signals"]["encoding"] == "cp1252" and mark == "\x85":
            mark = "\x1f"
        text = record.written[name]
        record.written[name] = text[:1] + mark + text[1:]
        # A control character is no part of a value: the row is set aside, or the character was taken for a blank.
        record.fate = "any"
        export.fewer += 1 if export.layout != "table" else 0
        export.more += 6


@mutation("records")
def line_separators_of_unicode(export: Export) -> None:
    if export.card["signals"]["encoding"] in {"latin-1", "cp1252"}:
        export.card["signals"]["encoding"] = "utf-8"
    for record in export.some_records(20):
        record.written["power_kw"] += str(export.rng.choice(["\u2028", "\u2029", "\u0085"]))
        record.fate = "any"


@mutation("records")
def a_long_cell(export: Export) -> None:
    record = export.records[int(export.rng.integers(len(export.records)))]
    record.written["power_kw"] = "x" * int(export.rng.choice([70_000, 140_000, 2_100_000, 11_000_000]))
    record.fate = "aside"
    export.fewer, export.more = export.fewer + 2, export.more + 2
    if export.layout == "wide":  # a line that is too long is set aside as a whole
        for other in export.records:
            if other.at == record.at and other is not record:
                other.fate = "any"


@mutation("records")
def quoted_cells(export: Export) -> None:
    for record in export.some_records(300):
        name = str(export.rng.choice(["power_kw", "stamp", "wind_speed_ms"]))
        record.written[name] = f'"{record.written[name]}"'
    if export.layout == "wide":  # a quoted stamp is another text of the same time
        for record in export.records:
            record.written["stamp"] = record.written["stamp"].strip('"')


@mutation("records")
def an_unclosed_quote(export: Export) -> None:
    for record in export.some_records(3):
        record.written["power_kw"] = '"' + record.written["power_kw"]
        record.fate = "any"
        export.fewer, export.more = export.fewer + 2, export.more + 2


# lines


@mutation("lines")
def mixed_newlines(export: Export) -> None:
    for place in range(len(export.ends)):
        export.ends[place] = "\r\n" if place % 2 else "\n"


@mutation("lines")
def random_newlines(export: Export) -> None:
    share = float(export.rng.random())
    export.ends = ["\r\n" if export.rng.random() < share else "\n" for _ in export.ends]


@mutation("lines")
def one_crlf(export: Export) -> None:
    export.ends[int(export.rng.integers(1, len(export.ends)))] = "\r\n"


@mutation("lines")
def one_lf_among_crlf(export: Export) -> None:
    export.ends = ["\r\n"] * len(export.ends)
    export.ends[int(export.rng.integers(1, len(export.ends)))] = "\n"


@mutation("lines")
def all_crlf(export: Export) -> None:
    export.ends = ["\r\n"] * len(export.ends)


@mutation("lines")
def crcrlf(export: Export) -> None:
    export.ends = ["\r\r\n"] * len(export.ends)


@mutation("lines")
def only_cr(export: Export) -> None:
    export.ends = ["\r"] * len(export.ends)


@mutation("lines")
def lone_crs(export: Export) -> None:
    for line in export.some(4):
        export.ends[line + 1] = "\r"
        export.doubt(line, *([line + 1] if line + 1 < len(export.lines) else []))


@mutation("lines")
def cr_inside_a_line(export: Export) -> None:
    for line in export.some(4):
        text = export.lines[line]
        place = int(export.rng.integers(1, len(text)))
        export.lines[line] = text[:place] + "\r" + text[place:]
        export.doubt(line)
        export.more += 1


@mutation("lines")
def no_newline_at_the_end(export: Export) -> None:
    export.ends[-1] = ""


@mutation("lines")
def blank_lines(export: Export) -> None:
    for line in export.some(30):
        blank = str(export.rng.choice(["\n", "\n\n", "   \n", "\t\n"]))
        export.ends[line + 1] += blank
        # A line of a separator alone is blank, or a row of two cells that are.
        export.more += len(TURBINES) if blank[0] == "\t" else 0


@mutation("lines")
def ragged_lines(export: Export) -> None:
    join = export.separator
    for line in export.some(30):
        cells = export.lines[line].split(join)
        export.lines[line] = join.join(cells[:-1]) if export.rng.random() < 0.5 else join.join([*cells, "7"])
        export.doubt(line, fate="aside")


@mutation("lines")
def garbage_lines(export: Export) -> None:
    junk = [
        "no table",
        "\x00" * 20,
        "-" * 80,
        "<html><body>502 Bad Gateway</body></html>",
        '{"error": 1}',
        "'; SELECT 1; --",
        "," * 500,
        ";" * 500,
        '"',
        "\x1b[31mred",
    ]
    for line in export.some(5):
        export.ends[line + 1] += str(export.rng.choice(junk)) + "\n"
        export.more += len(TURBINES)


@mutation("lines")
def header_again(export: Export) -> None:
    for line in export.some(3):
        export.ends[line + 1] += export.separator.join(export.header) + "\n"
        export.more += len(TURBINES)


@mutation("lines")
def two_lines_in_one(export: Export) -> None:
    for line in export.some(3):
        export.ends[line + 1] = ""
        export.doubt(line, *([line + 1] if line + 1 < len(export.lines) else []))


@mutation("lines")
def a_quote_over_lines(export: Export) -> None:
    for line in export.some(3):
        export.lines[line] += '"broken\nremark"'
        export.doubt(line)
        export.more += 2


@mutation("lines")
def a_column_with_newlines_in_quotes(export: Export) -> None:
    export.header.append("remark")
    own = set(export.some(5))
    export.lines = [
        line + export.separator + ('"two\nlines"' if number in own else "") for number, line in enumerate(export.lines)
    ]
    for line in own:
        export.doubt(line)
        export.more += 2


@mutation("lines")
def another_column(export: Export) -> None:
    export.header.insert(
        1, str(export.rng.choice(["Größe", "x y", "select", "'", "a.b", "{turbine}", "source_row", "fault", "line"]))
    )
    cells = [line.split(export.separator) for line in export.lines]
    export.lines = [export.separator.join([row[0], "1", *row[1:]]) for row in cells]


@mutation("lines")
def a_header_twice(export: Export) -> None:
    place = int(export.rng.integers(1, len(export.header)))
    export.header.append(export.header[place])
    export.lines = [f"{line}{export.separator}7.0" for line in export.lines]
    # Which of the two is meant, nobody can know.
    export.refuse = "must"


@mutation("lines")
def a_header_in_capitals(export: Export) -> None:
    place = int(export.rng.integers(0, len(export.header)))
    export.header[place] = export.header[place].upper() if place else "Time"
    export.refuse = "must"


@mutation("lines")
def spaces_around_headers(export: Export) -> None:
    export.header = [f" {name} " for name in export.header]


@mutation("lines")
def a_long_header(export: Export) -> None:
    export.header.append("q" * int(export.rng.choice([1_000, 70_000, 140_000, 1_100_000])))
    export.lines = [f"{line}{export.separator}1" for line in export.lines]


@mutation("lines")
def many_columns(export: Export) -> None:
    count = int(export.rng.choice([500, 5_000]))
    export.lines, export.owners = export.lines[:400], export.owners[:400]
    _keep_only(export)
    export.header += [f"c{number}" for number in range(count)]
    export.lines = [line + (export.separator + "1") * count for line in export.lines]


@mutation("lines")
def a_quote_in_the_header(export: Export) -> None:
    export.header.append('"broken')
    export.lines = [f"{line}{export.separator}1" for line in export.lines]


@mutation("lines")
def only_a_header(export: Export) -> None:
    _none_left(export)


@mutation("lines")
def lines_above_the_header(export: Export) -> None:
    export.above = "Export of 1 March\n\n"
    if export.rng.random() < 0.5:
        export.card["signals"]["skip_rows"] = 2
    else:
        export.refuse = "must"


@mutation("lines")
def without_a_header(export: Export) -> None:
    export.header = export.lines[0].split(export.separator)
    export.refuse = "must"


@mutation("lines")
def cells_that_hold_code(export: Export) -> None:
    export.header.append("note")
    code = ["'); COPY signals TO '/tmp/x'; --", "=cmd|' /C calc'!A0", "${globals:data}", "{{7*7}}", "%s%s%n"]
    export.lines = [line + export.separator + str(code[number % len(code)]) for number, line in enumerate(export.lines)]


def _none_left(export: Export) -> None:
    export.lines, export.owners, export.ends = [], [], export.ends[:1]
    export.records.clear()
    export.refuse = "must"


def _keep_only(export: Export) -> None:
    """Only records with a line left are in the file."""
    left = {id(record) for owners in export.owners for record in owners}
    if export.layout == "long":  # of the last, only some values
        whole = {
            id(r) for r in export.records if sum(o is r for owners in export.owners for o in owners) >= len(SIGNALS) * r.copies
        }
        for record in export.records:
            if id(record) in left - whole:
                record.fate = "free"
                export.fewer += 1
    export.records[:] = [record for record in export.records if id(record) in left]
    export.ends = export.ends[: len(export.lines) + 1]


# bytes


def _recode(export: Export, codec: str) -> None:
    export.raw = export.raw.decode(export.card["signals"]["encoding"], "surrogateescape").encode(
        codec, "surrogateescape" if codec == "utf-8" else "replace"
    )


@mutation("bytes")
def a_byte_order_mark(export: Export) -> None:
    export.card["signals"]["encoding"] = "utf-8"
    _recode_from_lines(export, "utf-8")
    export.raw = b"\xef\xbb\xbf" + export.raw


@mutation("bytes")
def two_byte_order_marks(export: Export) -> None:
    a_byte_order_mark(export)
    export.raw = b"\xef\xbb\xbf" + export.raw


def _recode_from_lines(export: Export, codec: str) -> None:
    before = export.card["signals"]["encoding"]
    export.card["signals"]["encoding"] = codec
    encode(export)
    export.card["signals"]["encoding"] = before


@mutation("bytes")
def utf_16_undeclared(export: Export) -> None:
    codec = str(export.rng.choice(["utf-16", "utf-16-le", "utf-16-be"]))
    _recode_from_lines(export, codec)
    export.card["signals"]["encoding"] = str(export.rng.choice(["utf-8", "latin-1"]))
    export.refuse = "must"


@mutation("bytes")
def utf_16_big_endian(export: Export) -> None:
    export.card["signals"]["encoding"] = "utf-16"
    _recode_from_lines(export, "utf-16-be")
    export.raw = b"\xfe\xff" + export.raw


@mutation("bytes")
def utf_16_without_a_mark(export: Export) -> None:
    export.card["signals"]["encoding"] = "utf-16"
    _recode_from_lines(export, str(export.rng.choice(["utf-16-be", "utf-16-le"])))


@mutation("bytes")
def utf_16_cut_in_a_character(export: Export) -> None:
    export.card["signals"]["encoding"] = "utf-16"
    _recode_from_lines(export, "utf-16")
    export.raw = export.raw[:-1]
    export.doubt(len(export.lines) - 1)


@mutation("bytes")
def utf_32(export: Export) -> None:
    _recode_from_lines(export, "utf-32")
    export.card["signals"]["encoding"] = "utf-8"
    export.refuse = "must"


@mutation("bytes")
def control_bytes_of_latin_1(export: Export) -> None:
    encoding = str(export.rng.choice(["latin-1", "cp1252", "cp1250"]))
    export.header.append("note")
    export.lines = [f"{line}{export.separator}@" for line in export.lines]
    _recode_from_lines(export, "latin-1")
    export.card["signals"]["encoding"] = encoding
    bad = [0x80, 0x81, 0x8D, 0x8F, 0x90, 0x9D, 0x9F, 0xA0]
    raw = bytearray(export.raw)
    for place in [p for p, byte in enumerate(raw) if byte == ord("@")][:: int(export.rng.integers(1, 50))]:
        raw[place] = int(export.rng.choice(bad))
    export.raw = bytes(raw)


@mutation("bytes")
def broken_utf_8(export: Export) -> None:
    export.card["signals"]["encoding"] = "utf-8"
    _recode_from_lines(export, "utf-8")
    junk = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf", b"\xe2\x28\xa1"]
    place = int(export.rng.integers(200, len(export.raw)))
    export.raw = export.raw[:place] + junk[int(export.rng.integers(len(junk)))] + export.raw[place:]
    _doubt_all(export, 2)


@mutation("bytes")
def latin_1_undeclared(export: Export) -> None:
    export.header.append("Größe")
    export.lines = [f"{line}{export.separator}°" for line in export.lines]
    _recode_from_lines(export, "latin-1")
    export.card["signals"]["encoding"] = "utf-8"
    export.refuse = "must"


@mutation("bytes")
def nul_bytes(export: Export) -> None:
    _recode_from_lines(export, "utf-8")
    export.card["signals"]["encoding"] = "utf-8"
    place = int(export.rng.integers(200, len(export.raw)))
    export.raw = export.raw[:place] + bytes(int(export.rng.choice([1, 512, 4096]))) + export.raw[place:]
    _doubt_all(export, 2)


@mutation("bytes")
def zeros_at_the_end(export: Export) -> None:
    export.raw += bytes(int(export.rng.choice([1, 2, 512, 4096])))
    export.more += len(TURBINES)


@mutation("bytes")
def ctrl_z_at_the_end(export: Export) -> None:
    _recode_from_lines(export, "utf-8")
    export.card["signals"]["encoding"] = "utf-8"
    export.raw += b"\x1a"
    export.more += len(TURBINES)


@mutation("bytes")
def cut_in_the_middle(export: Export) -> None:
    # Nobody can know that a text file has lost its end, but its last line may be half a line.
    place = int(export.rng.integers(len(export.raw) // 2, len(export.raw)))
    place -= place % 2
    codec = export.card["signals"]["encoding"]
    whole = export.raw[:place].decode(codec, "ignore")
    export.raw = export.raw[:place]
    count = max(whole.count("\n") - 1, 1)
    export.lines, export.owners = export.lines[: count + 1], export.owners[: count + 1]
    _keep_only(export)
    export.doubt(len(export.lines) - 1, fate="free")


@mutation("bytes")
def without_any_newline(export: Export) -> None:
    size = int(export.rng.choice([100_000, 4_000_000, 16_000_000]))
    line = (export.separator.join(export.header) + export.separator).encode()
    export.raw = (line * (size // len(line) + 1))[:size]
    export.card["signals"]["encoding"] = "utf-8"
    _nothing_to_read(export)


@mutation("bytes")
def a_long_line(export: Export) -> None:
    size = int(export.rng.choice([1_000_000, 2_100_000, 12_000_000]))
    end = "" if export.rng.random() < 0.5 else "\n"
    export.ends[-1] = "\n"
    encode(export)
    codec = export.card["signals"]["encoding"]
    tail = (export.lines[-1] + "x" * size + end).encode("utf-16-le" if codec == "utf-16" else codec)
    export.raw += tail
    export.fewer, export.more = export.fewer + 2, export.more + 2
    # Its beginning is a row that is there already: it may be set aside for that.
    export.doubt(len(export.lines) - 1)


@mutation("bytes")
def empty(export: Export) -> None:
    export.raw = b""
    _nothing_to_read(export)


@mutation("bytes")
def only_blanks(export: Export) -> None:
    export.raw = [b"\n", b"\r\n" * 100, b" " * 1000, b"\xef\xbb\xbf", b"\x00" * 1000, b"\t\n\t\n"][int(export.rng.integers(6))]
    _nothing_to_read(export)


@mutation("bytes")
def another_kind_of_file(export: Export) -> None:
    export.raw = [
        b"<!DOCTYPE html><html><head><title>Login</title></head><body>\n<p>Sign in</p>\n</body></html>\n",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        b"PAR1" + bytes(200) + b"PAR1",
        b"PK\x03\x04" + bytes(200),
        b"SQLite format 3\x00" + bytes(200),
        export.rng.bytes(20_000),
        b'[{"time": "2024-01-20T00:00:00Z", "power": 1}]',
    ][int(export.rng.integers(7))]
    _nothing_to_read(export)


def _nothing_to_read(export: Export) -> None:
    export.records.clear()
    export.fewer = export.more = 0
    export.refuse = "must"


def _doubt_all(export: Export, lines: int) -> None:
    """A few of the lines are damaged, and it is not known which."""
    export.fewer += lines * len(TURBINES)
    export.more += lines * len(TURBINES)
    for record in export.records:
        record.fate = "some" if record.fate == "kept" else record.fate


# packed


def _gzip(export: Export) -> None:
    if not export.gz:
        export.gz = True
        export.name = export.name + b".gz"
        export.card["signals"]["path"] += ".gz"
    pack(export)


@mutation("packed")
def zeros_behind_the_gzip(export: Export) -> None:
    _gzip(export)
    export.packed += bytes(int(export.rng.choice([1, 512, 10_240])))


@mutation("packed")
def garbage_behind_the_gzip(export: Export) -> None:
    _gzip(export)
    export.packed += export.rng.bytes(int(export.rng.choice([1, 8, 512])))


@mutation("packed")
def members_of_gzip(export: Export) -> None:
    _gzip(export)
    cut = sorted(int(one) for one in export.rng.integers(0, len(export.raw), 5))
    parts = [export.raw[a:b] for a, b in zip([0, *cut], [*cut, len(export.raw)], strict=True)]
    export.packed = b"".join(gzip.compress(part, 1, mtime=0) for part in parts)


@mutation("packed")
def gzip_with_a_name_and_a_remark(export: Export) -> None:
    _gzip(export)
    flags = bytes([export.packed[3] | 0x08 | 0x10])
    export.packed = export.packed[:3] + flags + export.packed[4:10] + b"../../etc/passwd\x00remark\x00" + export.packed[10:]


@mutation("packed")
def gzip_cut_short(export: Export) -> None:
    _gzip(export)
    export.packed = export.packed[: -int(export.rng.integers(1, len(export.packed) // 2))]
    export.refuse = "must"


@mutation("packed")
def gzip_with_a_wrong_checksum(export: Export) -> None:
    _gzip(export)
    export.packed = export.packed[:-8] + struct.pack("<I", zlib.crc32(export.raw) ^ 1) + export.packed[-4:]
    export.refuse = "must"


@mutation("packed")
def gzip_with_a_flipped_bit(export: Export) -> None:
    _gzip(export)
    raw = bytearray(export.packed)
    raw[int(export.rng.integers(20, len(raw) - 8))] ^= 1 << int(export.rng.integers(8))
    export.packed = bytes(raw)
    export.refuse = "must"


@mutation("packed")
def not_gzip_at_all(export: Export) -> None:
    _gzip(export)
    export.packed = export.raw


@mutation("packed")
def gzip_in_gzip(export: Export) -> None:
    _gzip(export)
    export.packed = gzip.compress(export.packed, 1, mtime=0)
    export.refuse = "must"


@mutation("packed")
def gzip_without_the_ending(export: Export) -> None:
    if export.gz:
        export.name = export.name.removesuffix(b".gz")
        export.card["signals"]["path"] = export.card["signals"]["path"].removesuffix(".gz")
    export.packed = gzip.compress(export.raw, 1, mtime=0)


@mutation("packed")
def zip_called_gz(export: Export) -> None:
    import zipfile

    _gzip(export)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("signals.csv", export.raw)
    export.packed = held.getvalue()
    export.refuse = "must"


@mutation("packed")
def a_bomb(export: Export) -> None:
    _gzip(export)
    size = int(export.rng.choice([300, 1_000]))
    fill = [b"\n", b"x", b"\x00", b"0,0,0,0,0,0,0\n"][int(export.rng.integers(4))]
    held = io.BytesIO()
    with gzip.GzipFile(fileobj=held, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(export.separator.join(export.header).encode() + b"\n")
        block = fill * (1 << 20 if len(fill) == 1 else (1 << 20) // len(fill))
        for _ in range(size):
            file.write(block)
    export.packed = held.getvalue()
    export.card["signals"]["encoding"] = "utf-8"
    _nothing_to_read(export)
    export.refuse = "bomb"


# place


def _name(export: Export, name: bytes, path: str | None = None) -> None:
    ending = b".csv.gz" if export.gz else b".csv"
    export.name = name + ending
    signals = export.card["signals"]
    signals["path"] = f"{export.farm_id}/" + (path or f"*{ending.decode()}")


def _second_file(export: Export, name: bytes) -> None:
    """The second half of the rows in a file of another name; both are of the source."""
    half = len(export.lines) // 2
    head = export.separator.join(export.header)
    other = head + "\n" + "".join(line + "\n" for line in export.lines[half:])
    content = other.encode(
        export.card["signals"]["encoding"],
        "surrogateescape" if export.card["signals"]["encoding"] == "utf-8" else "strict",
    )
    export.beside[name + (b".csv.gz" if export.gz else b".csv")] = gzip.compress(content, 1, mtime=0) if export.gz else content
    export.beside_records = []
    kept = list(export.lines), list(export.ends)
    export.lines, export.ends = export.lines[:half], export.ends[: half + 1]
    encode(export)
    pack(export)
    export.lines, export.ends = kept


@mutation("place")
def brackets_beside_the_plain_name(export: Export) -> None:
    _name(export, b"signals_[1]")
    _second_file(export, b"signals_1")


@mutation("place")
def a_name_that_is_a_pattern(export: Export) -> None:
    names = [
        (b"signals_*", b"signals_a"),
        (b"signals_?", b"signals_a"),
        (b"signals_[ab]", b"signals_a"),
        (b"[!a]", b"b"),
        (b"signals_{a,b}", b"signals_a"),
        (b"**", b"x"),
    ]
    name, other = names[int(export.rng.integers(len(names)))]
    _name(export, name)
    _second_file(export, other)


@mutation("place")
def a_name_to_quote(export: Export) -> None:
    names = [
        b"it's",
        b'say "so"',
        b"semi;colon",
        b"per%20cent",
        b"a b  c",
        b"hash#S1",
        b"dollar$x",
        b"at@site",
        b"\\back\\slash",
        b"-rf",
        b"a=b",
        b"~",
        b"new\nline",
        b"tab\tname",
        b"\x1b[31m",
        "größe".encode(),
        b"x" * 240,
    ]
    _name(export, names[int(export.rng.integers(len(names)))])


@mutation("place")
def a_name_that_is_not_utf_8(export: Export) -> None:
    _name(export, [b"signals_\xff", b"\x80abc", b"gr\xf6\xdfe", b"\xed\xa0\x80"][int(export.rng.integers(4))])


@mutation("place")
def a_hidden_name(export: Export) -> None:
    # Hidden files are being written, or of the system: they are no files of the source.
    ending = b".csv.gz" if export.gz else b".csv"
    _name(export, b"signals")
    export.beside[[b".signals", b"._signals", b"_signals"][int(export.rng.integers(3))] + ending] = b"\x00\x05\x16\x07"


@mutation("place")
def a_link_to_the_file(export: Export) -> None:
    _name(export, b"signals")

    def place(folder: Path) -> None:
        other = folder.parent / f"elsewhere_{export.farm_id}"
        other.mkdir()
        _put(other, export.name, export.packed)
        (folder / export.name.decode()).symlink_to(other / export.name.decode())

    export.place = place


@mutation("place")
def a_link_to_nowhere(export: Export) -> None:
    _name(export, b"signals", "signals.csv.gz" if export.gz else "signals.csv")
    export.place = lambda folder: (folder / export.name.decode()).symlink_to("/nowhere/at/all")
    _nothing_to_read(export)


@mutation("place")
def a_link_in_a_circle(export: Export) -> None:
    _name(export, b"signals")

    def place(folder: Path) -> None:
        _put(folder, export.name, export.packed)
        (folder / "deeper").symlink_to(folder)
        (folder / "loop.csv").symlink_to(folder / "loop.csv")

    export.card["signals"]["path"] = f"{export.farm_id}/**/*" + (".csv.gz" if export.gz else ".csv")
    export.place = place
    # The same file is found by several ways: whether its rows count once or are named as repetitions.
    for record in export.records:
        record.fate = "kept" if record.fate == "kept" else record.fate
    export.more += 50 * len(export.records)


@mutation("place")
def a_folder_of_that_name(export: Export) -> None:
    one = export.rng.random() < 0.5
    name = export.name.decode()

    def place(folder: Path) -> None:
        (folder / name).mkdir()
        if not one:
            _put(folder, b"other-" + export.name, export.packed)

    export.place = place
    if one:
        _nothing_to_read(export)
    else:
        export.card["signals"]["path"] = f"{export.farm_id}/*" + (".csv.gz" if export.gz else ".csv")


@mutation("place")
def a_pipe_of_that_name(export: Export) -> None:
    name = export.name.decode()
    export.place = lambda folder: os.mkfifo(folder / name)
    if export.rng.random() < 0.5:
        export.card["signals"]["path"] = f"{export.farm_id}/*"
    _nothing_to_read(export)


@mutation("place")
def no_file(export: Export) -> None:
    export.place = lambda folder: None
    if export.rng.random() < 0.5:
        export.card["signals"]["path"] = f"{export.farm_id}/nothing_*.csv"
        export.shown = ["nothing_"]
    _nothing_to_read(export)


@mutation("place")
def strangers_in_the_folder(export: Export) -> None:
    export.beside |= {
        b"README.txt": b"hello",
        b"Thumbs.db": bytes(500),
        b"desktop.ini": b"[x]",
        b"signals.csv.part": b"x",
    }
