"""Class ``weather``: the weather of a farm whose signals are sound, as text, Parquet or grids, damaged like signals and in its own ways."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .cases import Case, Step, generator
from .exports import MUTATIONS, Export, Record, blank_export, encode, pack, render, write
from .oracle import BAD, Verdict, judge_rows, worst
from .project import Ended, World, edit_yaml, run

COLUMNS = {"wind_u_100m_ms": "u100", "wind_v_100m_ms": "v100", "temperature_c": "t2m"}
STAMPS = ("run_at", "available_at", "valid_at")
#: Damages to text that do not depend on what the text is about.
_TEXT = [(stage, name) for stage in ("lines", "bytes", "packed", "place") for name in MUTATIONS[stage]]
_OWN: dict[str, Callable[[Export], None]] = {}
_PARQUET: dict[str, Callable[[Export, pa.Table], pa.Table | None]] = {}
_KELVIN = 273.15


def own(change: Callable[[Export], None]) -> Callable[[Export], None]:
    """Registers a mutation of the rows of weather."""
    _OWN[change.__name__] = change
    return change


def parquet(change: Callable[[Export, pa.Table], pa.Table | None]) -> Callable[[Export, pa.Table], pa.Table | None]:
    """Registers a mutation of a Parquet file of weather."""
    _PARQUET[change.__name__] = change
    return change


def _spoil(export: Export, name: str, texts: list[str], count: int, fate: str = "aside") -> None:
    for place in export.rng.choice(len(export.records), count, replace=False):
        record = export.records[int(place)]
        record.written[name] = str(export.rng.choice(texts))
        record.fate = fate


@own
def words_for_wind(export: Export) -> None:
    _spoil(export, "u100", ["#VALUE!", "--", "calm", "9.96921e+36x", "0x1F"], 30)


@own
def wind_that_cannot_be(export: Export) -> None:
    for place in export.rng.choice(len(export.records), 30, replace=False):
        record = export.records[int(place)]
        record.written["u100"] = str(export.rng.choice(["9.96921e+36", "-32768", "1e400", "inf", "nan", "", "-999"]))
        record.values["wind_u_100m_ms"] = float("nan")
        record.fate = "any"


@own
def words_for_every_wind(export: Export) -> None:
    _spoil(export, "u100", ["#VALUE!"], len(export.records))


@own
def runs_that_are_no_times(export: Export) -> None:
    _spoil(export, "run_at", ["", "never", "2024-02-30T00:00:00Z", "9" * 50], 30)


@own
def valid_times_of_other_centuries(export: Export) -> None:
    _spoil(
        export,
        "valid_at",
        ["9999-12-31T23:00:00Z", "0001-01-01T00:00:00Z", "2262-04-12T00:00:00Z", "-0044-03-15T00:00:00Z"],
        4,
        "free",
    )
    export.future += 4


@own
def runs_of_other_centuries(export: Export) -> None:
    _spoil(export, "run_at", ["9999-12-31T18:00:00Z", "0001-01-01T00:00:00Z", "294247-01-10T04:00:54Z"], 4, "free")
    export.future += 4


@own
def arrivals_of_other_centuries(export: Export) -> None:
    _spoil(export, "available_at", ["9999-12-31T18:00:00Z", "0001-01-01T00:00:00Z", "294247-01-10T04:00:54Z"], 4, "free")
    export.future += 4


@own
def rows_twice(export: Export) -> None:
    for record in export.records[:50]:
        record.copies = 2


@own
def rows_backwards(export: Export) -> None:
    export.records.reverse()


@parquet
def stamps_without_a_zone(export: Export, table: pa.Table) -> pa.Table:
    return table.set_column(0, "run_at", table["run_at"].cast(pa.timestamp("ns")))


@parquet
def a_column_twice(export: Export, table: pa.Table) -> pa.Table:
    export.refuse = "must"
    return table.append_column("u100", pa.array([7.0] * len(table)))


@parquet
def nested_wind(export: Export, table: pa.Table) -> pa.Table:
    for record in export.records:
        record.fate = "aside"
    return table.set_column(3, "u100", pa.array([[value] for value in table["u100"].to_pylist()]))


@parquet
def infinite_wind(export: Export, table: pa.Table) -> pa.Table:
    values = table["u100"].to_pylist()
    for place in export.rng.choice(len(values), 20, replace=False):
        values[int(place)] = float(export.rng.choice([np.inf, -np.inf, np.nan, 1e308]))
        export.records[int(place)].fate = "any"
        export.records[int(place)].values["wind_u_100m_ms"] = float("nan")
    return table.set_column(3, "u100", pa.array(values))


@parquet
def cut_short(export: Export, table: pa.Table) -> None:
    raw = _bytes(table)
    export.packed, export.refuse = raw[: int(export.rng.integers(4, len(raw)))], "must"


@parquet
def no_rows(export: Export, table: pa.Table) -> pa.Table:
    export.records.clear()
    export.refuse = "must"
    return table.slice(0, 0)


@parquet
def brackets_beside_the_plain_name(export: Export, table: pa.Table) -> None:
    half = len(table) // 2
    export.name = b"weather_[1].parquet"
    export.packed = _bytes(table.slice(0, half))
    export.beside[b"weather_1.parquet"] = _bytes(table.slice(half))
    export.card["signals"]["path"] = f"{export.farm_id}/*.parquet"


_GRIDS = {
    "netcdf": [
        b"",
        b"CDF\x01" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(500),
        b"<html></html>",
        b"CDF\x02" + b"\xff" * 2000,
    ],
    "grib": [
        b"",
        b"GRIB" + bytes(100),
        b"GRIB\x00\x00\x00\x02" + b"\xff" * 8 + b"7777",
        b"<html></html>",
        b"7777" * 100,
    ],
    "zarr": [b"", b"zip", b"{}"],
}


def _bytes(table: pa.Table) -> bytes:
    held = io.BytesIO()
    pq.write_table(table, held)
    return held.getvalue()


_EVERY = [("own", name) for name in _OWN] + [("parquet", name) for name in _PARQUET] + [("grid", name) for name in _GRIDS] + _TEXT
#: Damages to text of which signals have shown enough, and that take long.
_SLOW = {"a_bomb", "many_columns", "without_any_newline"}
_EVERY = [one for one in _EVERY if one[1] not in _SLOW]


@dataclass
class WeatherCase(Case):
    """A farm more, whose weather is hostile."""

    export: Export = field(kw_only=True)
    signals: Export = field(kw_only=True)

    def prepare(self, project: Path) -> None:
        """Add the farm's card and files."""
        card = self.signals.card | {"weather": [self.export.card["signals"]]}
        edit_yaml(project / "conf/test/farms.yml", lambda content: content["farms"].append(card))
        raw = project / "data/test/01_raw"
        write(self.signals, raw)
        (raw / "w").mkdir(exist_ok=True)
        write(self.export, raw / "w")

    def steps(self) -> list[Step]:
        """A run of data_engineering."""
        return [run("data_engineering")]

    @property
    def spoilt(self) -> set[str]:
        """The farm."""
        return {self.export.farm_id}

    def judge(self, project: Path, ended: list[Ended], found: dict[str, pd.DataFrame], *, alone: bool) -> Verdict:
        """What became of its weather; its signals must be whole."""
        del project
        weather = judge_rows(self.export, ended[-1], found, alone=alone, of="weather")
        signals = judge_rows(self.signals, ended[-1], found, alone=False)
        return worst([weather, signals]) if signals.verdict in BAD else weather


def _records(world: World) -> list[Record]:
    table = pd.read_csv(world.folder / "data/test/01_raw/north_ridge/weather_beta.csv.gz", dtype=str)
    table = table[table["run_at"] >= "2024-01-24"]
    records = []
    for row in table.to_dict("records"):
        written = {name: row[name] for name in (*STAMPS, *COLUMNS.values())}
        values = {name: float(row[column]) for name, column in COLUMNS.items()}
        values["temperature_c"] -= _KELVIN
        records.append(Record(pd.Timestamp(row["run_at"]), pd.Timestamp(row["valid_at"]), values, written))
    return records


def _render(export: Export) -> None:
    export.header = [*STAMPS, *COLUMNS.values()]
    rows = [(record, [record.written[name] for name in export.header]) for record in export.records]
    lines = [(export.separator.join(cells), record) for record, cells in rows for _ in range(record.copies)]
    export.lines = [line for line, _ in lines]
    export.owners = [[record] for _, record in lines]
    export.ends = ["\n"] * (len(lines) + 1)


def make_exports(world: World, seed: int, number: int) -> tuple[Export, Export]:
    """The hostile weather of a case, and the sound signals of its farm."""
    rng = generator("weather", number, seed)
    stage, name = _EVERY[number % len(_EVERY)]
    farm_id = f"w{number:04d}"
    signals = blank_export(world, farm_id, rng, "table")
    render(signals)
    encode(signals)
    pack(signals)
    export = Export(farm_id, {"signals": _source(farm_id, rng)}, "table", _records(world), rng, gz=bool(rng.random() < 0.5))
    export.name = b"weather.csv.gz" if export.gz else b"weather.csv"
    source = export.card["signals"]
    source["path"] = f"{farm_id}/{export.name.decode()}"
    export.done.append(name)
    if stage == "parquet":
        source |= {"format": "parquet", "path": f"{farm_id}/weather.parquet"}
        export.name = b"weather.parquet"
        stamps = {one: pa.array(pd.to_datetime([r.written[one] for r in export.records], utc=True)) for one in STAMPS}
        numbers = {column: pa.array([float(r.written[column]) for r in export.records]) for column in COLUMNS.values()}
        made = _PARQUET[name](export, pa.table(stamps | numbers))
        if made is not None:
            export.packed = _bytes(made)
    elif stage == "grid":
        _make_grid(export, name)
    else:
        _make_text(export, stage, name)
    source["path"] = f"w/{source['path']}"
    return export, signals


def _source(farm_id: str, rng: np.random.Generator) -> dict[str, Any]:
    del farm_id
    units = {"wind_u_100m_ms": "m/s", "wind_v_100m_ms": "m/s", "temperature_c": "K"}
    return {
        "model": "gamma",
        "kind": "forecast",
        "path": "",
        "separator": str(rng.choice([",", ";"])),
        "encoding": "utf-8",
        "run_at": "run_at",
        "valid_at": "valid_at",
        "available_at": "available_at",
        "delay_minutes": 390,
        "run_every_minutes": 360,
        "length_hours": 48,
        "columns": {key: {"name": column, "unit": units[key]} for key, column in COLUMNS.items()},
    }


def _make_grid(export: Export, kind: str) -> None:
    source = export.card["signals"]
    for key in ("separator", "encoding", "available_at", "run_at", "valid_at"):
        source.pop(key)
    contents = _GRIDS[kind]
    content = contents[int(export.rng.integers(len(contents)))]
    name = f"weather.{ {'netcdf': 'nc', 'grib': 'grib2', 'zarr': 'zarr'}[kind] }"
    source |= {"format": kind, "path": f"{export.farm_id}/{name}"}
    export.name, export.packed = name.encode(), content
    export.records.clear()
    export.refuse = "must"
    if kind == "zarr":
        declared = b'{"zarr_format": 2, "shape": [1000000000, 1000000000], "chunks": [1000000000, 1000000000], "dtype": "<f8", "compressor": null, "fill_value": 0, "filters": null, "order": "C"}'

        def place(folder: Path) -> None:
            (folder / name / "u100").mkdir(parents=True)
            (folder / name / ".zgroup").write_bytes(b'{"zarr_format": 2}' if content != b"zip" else b"\xff")
            (folder / name / "u100" / ".zarray").write_bytes(declared)
            (folder / name / "u100" / ".zattrs").write_bytes(b'{"_ARRAY_DIMENSIONS": ["latitude", "longitude"]}')

        export.place = place


def _make_text(export: Export, stage: str, name: str) -> None:
    if stage == "own":
        _OWN[name](export)
    _render(export)
    if stage == "lines":
        MUTATIONS["lines"][name](export)
    encode(export)
    if stage == "bytes":
        MUTATIONS["bytes"][name](export)
    pack(export)
    if stage in {"packed", "place"}:
        MUTATIONS[stage][name](export)


def make(world: World, seed: int, number: int) -> WeatherCase:
    """A case of this class."""
    export, signals = make_exports(world, seed, number)
    stage = _EVERY[number % len(_EVERY)][0]
    return WeatherCase("weather", number, seed, [stage, *export.done], export=export, signals=signals)


#: How many cases a full run has.
COUNT = len(_EVERY)
