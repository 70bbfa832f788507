"""Gridded weather: values at the points of all farms from GRIB, NetCDF and Zarr, as rows like those of other sources.

Each file is read once for all farms: its fields are cut to the box around all points, interpolated to all of them at once, and
kept as Parquet until the file or the points change. The coordinates of run, step and valid time are found by the CF
conventions (``forecast_reference_time``, ``forecast_period``, ``time``) or by the names that cfgrib, ECMWF and NOAA use; a card
can override them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wind_kedro.cards import LANDED_AT, UNIT_CONVERSIONS, WEATHER_UNITS, Farm, WeatherColumn, WeatherSource
from wind_kedro.errors import WindKedroError
from wind_kedro.readers.source_files import is_glob, one_line
from wind_kedro.readers.source_rows import landed_at, shown, shown_of
from wind_kedro.storage.bounds import MAX_GRID_VALUES
from wind_kedro.storage.paths import make_folder
from wind_kedro.storage.temporary import local_copy, written_aside

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

Floats = NDArray[np.float64]
Open = Callable[[WeatherColumn], "xr.DataArray"]

#: Version of the reading, part of the cache key.
_VERSION = 3
_FAULTS, _COUNTS = b"wind_kedro_faults", b"wind_kedro_rows"

#: Names of coordinates without a standard name, in order of preference.
_RUN = ("forecast_reference_time", "reference_time", "run_at", "init_time", "initial_time", "analysis_time")
_STEP = ("step", "forecast_period", "lead_time", "leadtime", "prediction_timedelta", "forecast_time")
_VALID = ("valid_time", "valid_at", "time")
_MEMBER = ("number", "realization", "member", "ensemble", "ensemble_member")
_LATITUDE = ("latitude", "lat", "nav_lat")
_LONGITUDE = ("longitude", "lon", "nav_lon")
#: Spellings of units in files → their names on cards.
_UNITS = {
    "m s**-1": "m/s", "m s-1": "m/s", "m/s": "m/s", "meter / second": "m/s", "km h-1": "km/h", "km/h": "km/h",
    "knots": "kn", "kn": "kn", "degrees": "deg", "degree": "deg", "deg": "deg", "degree true": "deg", "radians": "rad",
    "rad": "rad", "k": "K", "kelvin": "K", "degc": "degC", "celsius": "degC", "degrees_celsius": "degC", "pa": "Pa",
    "hpa": "hPa", "mbar": "hPa", "millibars": "hPa", "kg m**-3": "kg/m3", "kg m-3": "kg/m3", "kg/m3": "kg/m3",
}  # fmt: skip


class GridFaultError(WindKedroError):
    """A fault of a gridded file or of a point in it, with the remedy."""


@dataclass(frozen=True)
class GridFault:
    """A source without values from a gridded file."""

    farm: Farm
    source: WeatherSource
    path: Path
    message: str


@dataclass(frozen=True)
class GridTable:
    """The rows of one gridded file.

    Attributes:
        path: Parquet file in the columns of ``weather_raw``, and ``tag``.
        tag: its value in all rows.
        states: by farm, what its rows were read from: the file's state and the farm's points.
        rows: by farm, its number of rows.
    """

    path: Path
    tag: str
    states: Mapping[str, Sequence[Any]]
    rows: Mapping[str, int]


@dataclass(frozen=True)
class _Place:
    """A source of a farm and the location of its point."""

    farm: Farm
    source: WeatherSource

    @property
    def point(self) -> tuple[float, float]:
        """Latitude and longitude in degrees; cards are validated to have one of each."""
        own = (self.source.latitude_deg, self.source.longitude_deg)
        of_farm = (self.farm.latitude_deg, self.farm.longitude_deg)
        latitude, longitude = (float(b if a is None else a) for a, b in zip(own, of_farm, strict=True))  # type: ignore[arg-type]
        return latitude, longitude

    @property
    def name(self) -> list[str]:
        return [self.farm.id, self.source.model, self.source.point]

    @property
    def reading(self) -> str:
        """Key of the reading; places with the same key are read together."""
        asked = ("format", "kind", "valid_at", "run_at", "available_at", "interpolation", "member", "columns")
        return self.source.model_dump_json(include=set(asked))


def read_grids(sources: Sequence[tuple[Farm, WeatherSource]], root: Path, kept: Path) -> tuple[list[GridTable], list[GridFault]]:
    """Read the values at the points of all sources, each file once.

    Args:
        sources: farms and their gridded weather sources.
        root: folder that the cards' paths start from.
        kept: folder of the cache; an unchanged file is not read again for the same points. The caller removes unused files.

    Returns:
        One table per file with values for any source; and the faults of the others.
    """
    places: dict[Path, list[_Place]] = defaultdict(list)
    faults, tables = [], []
    for farm, source in sources:
        paths = sorted(root.glob(source.path)) if is_glob(source.path) else [root / source.path]
        found = [path for path in paths if path.exists()]  # files, and folders of Zarr stores
        for path in found:
            places[path].append(_Place(farm, source))
        if not found:
            reason = "the glob matches nothing" if is_glob(source.path) else "it is missing"
            message = f"farm '{farm.id}', {root / source.path}: {reason}; put it there, or correct `path` in farms.yml"
            faults.append(GridFault(farm, source, root / source.path, message))
    make_folder(kept)
    for path, own in places.items():
        target, reasons = _read_or_kept(path, own, root, kept)
        by_name = {tuple(place.name): place for place in own}
        for name, reason in reasons:
            place = by_name[tuple(name)]
            faults.append(GridFault(place.farm, place.source, path, f"farm '{place.farm.id}', {path}: {reason}"))
        if target is not None:
            tables.append(target)
    return tables, faults


#: Names of places without values, with the reason.
_Faults = list[tuple[list[str], str]]


def _read_or_kept(path: Path, places: list[_Place], root: Path, kept: Path) -> tuple[GridTable | None, _Faults]:
    """The table of a file's points, if there are any, and the names of the others with the reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    asked = sorted([*place.name, shown_of(place.farm, place.source, path, root), *place.point, place.reading] for place in places)
    stats = [path.stat()] if path.is_file() else [file.stat() for file in path.rglob("*") if file.is_file()]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    read = [_VERSION, [len(stats), sum(stat.st_size for stat in stats), newest]]
    state = json.dumps([*read, asked])
    file = hashlib.sha256(shown(path, root).encode()).hexdigest()[:16]
    target = kept / f"{file}-{hashlib.sha256(state.encode()).hexdigest()[:16]}.parquet"
    try:
        with target.open("rb") as kept_file:
            metadata = pq.read_metadata(kept_file).metadata or {}
    except (OSError, ValueError, pa.ArrowException):
        metadata = {}
    if not {_FAULTS, _COUNTS} <= metadata.keys():
        try:
            table, faults = _read(path, places, root)
        except GridFaultError as error:
            return None, [(place.name, str(error)) for place in places]
        counts = table.column("farm_id").value_counts().to_pylist() if table.num_rows else []
        by_farm = {count["values"]: count["counts"] for count in counts}
        metadata = {_FAULTS: json.dumps(faults).encode(), _COUNTS: json.dumps(by_farm).encode()}
        with written_aside(target) as aside:
            tagged = table.append_column("tag", pa.repeat(pa.scalar(target.stem), len(table)))
            pq.write_table(tagged.replace_schema_metadata(metadata), aside, compression="zstd")
    rows = json.loads(metadata[_COUNTS])
    states = {farm_id: [*read, [one for one in asked if one[0] == farm_id]] for farm_id in rows}
    return (GridTable(target, target.stem, states, rows) if rows else None), json.loads(metadata[_FAULTS])


def _read(path: Path, places: list[_Place], root: Path) -> tuple[pa.Table, _Faults]:
    """Rows of all places in one file, and the faults of the others; any exception of the readers is a fault of one line."""
    import pyarrow as pa

    groups: dict[str, list[_Place]] = defaultdict(list)
    for place in places:
        groups[place.reading].append(place)
    tables, faults, kind = [], _Faults(), places[0].source.format
    try:
        with local_copy(path) as local, _opened(local, kind) as open_variable:
            for group in groups.values():
                try:
                    found, bad = _read_group(open_variable, path, group, root)
                except GridFaultError as error:
                    found, bad = [], [(place.name, str(error)) for place in group]
                tables += found
                faults += bad
    except GridFaultError:
        raise
    except ImportError as error:
        raise GridFaultError(f"cannot read {kind} ({error}); install wind-kedro[grids]") from None
    except Exception as error:
        raise GridFaultError(f"not readable as {kind} ({one_line(error)}); fetch it again, or correct `format`") from None
    return pa.concat_tables(tables) if tables else pa.table({"source_row": pa.array([], pa.int64())}), faults


def _read_group(open_variable: Open, path: Path, places: list[_Place], root: Path) -> tuple[list[pa.Table], _Faults]:
    """Rows of places with the same reading."""
    import pandas as pd

    source = places[0].source
    latitudes, longitudes = np.array([place.point for place in places]).T
    columns: dict[str, pd.DataFrame] = {}
    arrivals: pd.Series | None = None
    outside = np.zeros(len(places), dtype=bool)
    for name, column in source.columns.items():
        field = _one_member(_one_level(open_variable(column), column), source)
        _check_attributes(name, column, field)
        at_points, beyond = _at_points(field, latitudes, longitudes, source, WEATHER_UNITS[name] == "deg", column)
        outside |= beyond
        columns[name], arrived = _rows(at_points, source)
        arrivals = arrived if arrivals is None else arrivals.combine_first(arrived) if arrived is not None else arrivals
    index = pd.MultiIndex.from_tuples(
        sorted(set().union(*(set(frame.index) for frame in columns.values()))), names=["run_at", "valid_at"]
    )
    values = {name: frame.reindex(index).to_numpy(np.float32) for name, frame in columns.items()}
    landed = None
    if source.available_at == LANDED_AT and arrivals is None and (landed := landed_at(path)) is None:
        raise GridFaultError(f"no folder of its path is named {LANDED_AT}=…; correct `available_at` in farms.yml")
    tables, faults = [], _Faults()
    for number, place in enumerate(places):
        own = {name: table[:, number] for name, table in values.items()}
        there = ~np.all([np.isnan(column) for column in own.values()], axis=0)
        if outside[number]:
            where = "{:g}, {:g}".format(*place.point)
            reason = f"the point {where} is outside its grid; correct the card's latitude_deg and longitude_deg"
            faults.append((place.name, reason))
        elif not there.any():
            faults.append((place.name, "its fields have no value at the point; choose another point"))
        else:
            arrived = None if arrivals is None else arrivals.reindex(index).to_numpy()[there]
            file = shown_of(place.farm, place.source, path, root)
            kept = {name: column[there] for name, column in own.items()}
            tables.append(_table(place, file, index[there], kept, landed, arrived))
    return tables, faults


def _table(
    place: _Place, file: str, index: pd.MultiIndex, values: Mapping[str, NDArray[np.float32]], landed: str | None, arrived: Any
) -> pa.Table:
    """Rows of ``weather_raw`` with times in UTC, without zone; each value is the shortest decimal of its 32 bits."""
    import pyarrow as pa

    def at(times: Any) -> Any:
        return pa.array(np.asarray(times, dtype="datetime64[us]"), mask=np.isnat(np.asarray(times, dtype="datetime64[us]")))

    source, rows = place.source, len(index)
    texts = {"farm_id": place.farm.id, "source_file": file, "fault": None} | {
        "weather_model": source.model,
        "weather_point": source.point,
    }
    arrival = None if landed is None else np.full(rows, np.datetime64(landed.removesuffix("+00:00")))
    times = {
        "run_at": None if source.kind == "analysis" else index.get_level_values("run_at"),
        "available_at": arrival if arrived is None else arrived,
        "valid_at": index.get_level_values("valid_at"),
    }
    numbers = {name: pa.array(column, mask=np.isnan(column)).cast(pa.string()) for name, column in values.items()}
    return pa.table(
        {name: pa.repeat(pa.scalar(one, pa.string()), rows) for name, one in texts.items()}
        | {"source_row": pa.array(np.arange(1, rows + 1))}
        | {name: pa.nulls(rows, pa.timestamp("us")) if one is None else at(one) for name, one in times.items()}
        | {"lead": pa.nulls(rows, pa.float64())}
        | {name: numbers[name].cast(pa.float64()) if name in numbers else pa.nulls(rows, pa.float64()) for name in WEATHER_UNITS}
    )


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Open]:
    """Yield a function that returns a lazy variable of the file with its coordinates."""
    import xarray as xr

    if kind == "grib":
        yield _grib(path)
        return
    options: dict[str, Any] = {"engine": "zarr", "consolidated": None} if kind == "zarr" else {"engine": "h5netcdf"}
    with xr.open_dataset(path, decode_timedelta=True, **options) as dataset:

        def variable(column: WeatherColumn) -> xr.DataArray:
            if column.name not in dataset:
                known = ", ".join(map(str, dataset.data_vars))
                raise GridFaultError(f"no variable {column.name}; variables are {known}; correct the card's columns in farms.yml")
            return dataset[column.name]

        yield variable


def _grib(path: Path) -> Open:
    """Variables of a GRIB file. Headers are read once; a variable is built from its own messages only.

    A file with several kinds of levels or steps is no single cube, which is why each variable is opened apart.
    """
    import xarray as xr
    from cfgrib.messages import FileStream

    stream = FileStream(str(path), errors="raise")
    keys = ("shortName", "cfVarName", "typeOfLevel", "level", "stepType")
    headers = {offset: {key: message.get(key) for key in keys} for offset, message in stream.items()}
    if not headers:
        raise GridFaultError("no GRIB message in the file; fetch it again")

    def variable(column: WeatherColumn) -> xr.DataArray:
        level = "" if column.level is None else f"{column.level:g}"
        of_name = {
            offset: header
            for offset, header in headers.items()
            if {header["shortName"], header["cfVarName"]} & {column.name, level + column.name}
            and (not level or (header["typeOfLevel"], header["level"]) == ("heightAboveGround", column.level))
        }
        asked = f"{column.name}{f' at {level} m' if level else ''}"
        if not of_name:
            found = sorted({f"{h['shortName']} ({h['typeOfLevel']} {h['level']})" for h in headers.values()})
            raise GridFaultError(f"no {asked}; variables are {', '.join(found)}; correct the card's columns in farms.yml")
        instant = {offset: header for offset, header in of_name.items() if header["stepType"] == "instant"}
        if not instant:
            kinds = ", ".join(sorted({header["stepType"] for header in of_name.values()}))
            raise GridFaultError(f"{asked} is available as {kinds} over the step only, not as an instant; fetch another variable")
        levels = sorted({(header["typeOfLevel"], header["level"]) for header in instant.values()})
        if len(levels) > 1:
            known = ", ".join(f"{kind} {height}" for kind, height in levels)
            raise GridFaultError(f"{column.name} has several levels ({known}); set `level` on the card")
        # cfgrib writes no index beside a mapping of messages; raw folders may be read-only.
        dataset = xr.open_dataset(_Messages(stream, instant), engine="cfgrib", decode_timedelta=True)  # type: ignore[arg-type]
        return dataset[next(iter(dataset.data_vars))]

    return variable


class _Messages(Mapping[Any, Any]):
    """Selected messages of a GRIB file, each read on access."""

    def __init__(self, stream: Any, offsets: Iterable[Any]) -> None:
        self._stream = stream
        self._offsets = list(offsets)

    def __getitem__(self, offset: Any) -> Any:
        return self._stream[offset]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)


def _coordinate(field: xr.DataArray, names: Sequence[str], standard_name: str) -> str | None:
    """The coordinate with this standard name, else the first with one of these names."""
    for name, coordinate in field.coords.items():
        if coordinate.attrs.get("standard_name") == standard_name:
            return str(name)
    return next((name for name in names if name in field.coords), None)


def _one_level(field: xr.DataArray, column: WeatherColumn) -> xr.DataArray:
    for name, coordinate in field.coords.items():
        is_named = name in {"height", "heightAboveGround", "level", "z"}
        if is_named or coordinate.attrs.get("axis") == "Z" or "positive" in coordinate.attrs:
            several = f"{column.name} has several levels (%s); set `level` on the card"
            missing = f"{column.name} has no level {column.level or 0:g} m, but %s; correct `level` on the card"
            return _only(field, str(name), column.level, several, missing)
    if column.level is not None:
        raise GridFaultError(f"{column.name} has no levels; leave `level` out of the card")
    return field


def _one_member(field: xr.DataArray, source: WeatherSource) -> xr.DataArray:
    if (name := _coordinate(field, _MEMBER, "realization")) is None:
        return field
    missing = f"it has no member {source.member}, but %s; correct `member` in the card"
    return _only(field, name, source.member, "it is an ensemble of members %s; set `member` on the card", missing)


def _only(field: xr.DataArray, name: str, wanted: float | None, several: str, missing: str) -> xr.DataArray:
    """The field at the wanted value of a coordinate, or at its only one; else the fault, with the values that are known."""
    values = np.atleast_1d(field[name].to_numpy())
    known = f"{', '.join(f'{value:g}' for value in values[:9])}{', ...' if values.size > 9 else ''}"  # noqa: PLR2004 - enough
    if wanted is None and values.size > 1:
        raise GridFaultError(several % known)
    if wanted is not None and wanted not in values:
        raise GridFaultError(missing % known)
    place = 0 if wanted is None else int(np.argmax(values == wanted))
    return field.isel({name: place}) if name in field.dims else field


def _check_attributes(name: str, column: WeatherColumn, field: xr.DataArray) -> None:
    """Raise if the attributes of a variable contradict the card or the column's quantity."""
    written = str(field.attrs.get("units", "")).strip()
    unit = _UNITS.get(written.lower())
    if unit is not None and unit != column.unit and (unit, WEATHER_UNITS[name]) in UNIT_CONVERSIONS:
        raise GridFaultError(f"{column.name} is in {unit} in the file, but in {column.unit} on the card; correct its unit")
    if unit is not None and (unit, WEATHER_UNITS[name]) not in UNIT_CONVERSIONS:
        raise GridFaultError(f"{column.name} is in {written}, which is not a unit of {name}; correct the card's columns")
    if method := re.search(r"\btime: (sum|mean|maximum|minimum)\b", str(field.attrs.get("cell_methods", ""))):
        raise GridFaultError(f"{column.name} is the {method[1]} over the step, not an instant; fetch another variable")
    if field.attrs.get("GRIB_uvRelativeToGrid") == 1 and re.match(r"wind_[uv]_", name):
        raise GridFaultError(
            f"{column.name} is relative to the grid's axes, not to east and north; fetch it relative to the earth"
        )


def _at_points(
    field: xr.DataArray, latitudes: Floats, longitudes: Floats, source: WeatherSource, is_angle: bool, column: WeatherColumn
) -> tuple[xr.DataArray, NDArray[np.bool_]]:
    """Interpolate a field to the points (dimension ``point``); return it and which points are outside the grid.

    Angles are interpolated by sine and cosine.
    """
    latitude = _coordinate(field, _LATITUDE, "latitude")
    longitude = _coordinate(field, _LONGITUDE, "longitude")
    if latitude is None or longitude is None:
        raise GridFaultError(f"{column.name} has no latitude and longitude; coordinates are {', '.join(map(str, field.coords))}")
    if field[latitude].ndim != 1 or field[latitude].dims == field[longitude].dims:
        if source.interpolation != "nearest":
            raise GridFaultError("its grid is not regular in latitude and longitude; set `interpolation: nearest` on the card")
        return _nearest_of_curved(field, latitude, longitude, latitudes, longitudes)
    field, east, outside = _box(field, latitude, longitude, latitudes, longitudes)

    def read(values: xr.DataArray) -> xr.DataArray:
        import xarray as xr

        where = {
            latitude: xr.DataArray(np.where(outside, np.nan, latitudes), dims="point"),
            longitude: xr.DataArray(np.where(outside, np.nan, east), dims="point"),
        }
        return values.interp(where, method="linear" if source.interpolation == "bilinear" else "nearest")

    if outside.all():
        return field.isel({latitude: [0] * len(outside), longitude: 0}).rename({latitude: "point"}) * np.nan, outside
    if not is_angle or source.interpolation == "nearest":
        return read(field), outside
    turn = 360.0 if column.unit == "deg" else 2 * np.pi
    radians: Any = field * (2 * np.pi / turn)
    angle: Any = np.arctan2(read(np.sin(radians)), read(np.cos(radians)))
    turned: xr.DataArray = angle * (turn / (2 * np.pi)) % turn
    return turned, outside


def _loaded(field: xr.DataArray) -> xr.DataArray:
    """Load a field of bounded size; a store may declare any number of values without holding them."""
    if field.size > MAX_GRID_VALUES:
        raise GridFaultError(
            f"{field.name}: {field.size:,} values around the points, at most {MAX_GRID_VALUES:,} are read; split the file by run"
        )
    return field.load()


def _box(
    field: xr.DataArray, latitude: str, longitude: str, latitudes: Floats, longitudes: Floats
) -> tuple[xr.DataArray, Floats, NDArray[np.bool_]]:
    """Load the part of the field around the points; return it, their longitudes in the grid's range, and which are outside.

    A global grid is extended by its first meridian after the last.
    """
    import xarray as xr

    field = field.sortby([latitude, longitude])
    lines, meridians = field[latitude].to_numpy().astype(float), field[longitude].to_numpy().astype(float)
    east = meridians[0] + (longitudes - meridians[0]) % 360
    # A point just west of the first meridian by rounding is moved onto it.
    east = np.where(east - meridians[0] > 360 - 1e-9, meridians[0], east)
    if len(meridians) > 1 and meridians[0] + 360 - meridians[-1] <= 1.5 * (meridians[1] - meridians[0]):
        again = field.isel({longitude: [0]}).assign_coords({longitude: [meridians[0] + 360]})
        field = xr.concat([field, again], longitude)
        meridians = field[longitude].to_numpy().astype(float)
    outside = (latitudes < lines[0]) | (latitudes > lines[-1]) | (east > meridians[-1])
    if not outside.all():
        field = field.isel({latitude: _around(lines, latitudes[~outside]), longitude: _around(meridians, east[~outside])})
    return _loaded(field), east, outside


def _around(nodes: Floats, points: Floats) -> slice:
    first = max(int(np.searchsorted(nodes, points.min(), side="right")) - 1, 0)
    last = min(int(np.searchsorted(nodes, points.max(), side="left")), len(nodes) - 1)
    # Interpolation needs at least two nodes.
    return slice(min(first, max(len(nodes) - 2, 0)), max(last, first + 1) + 1)


def _nearest_of_curved(
    field: xr.DataArray, latitude: str, longitude: str, latitudes: Floats, longitudes: Floats
) -> tuple[xr.DataArray, NDArray[np.bool_]]:
    """Select the nearest nodes of a curvilinear grid."""
    import xarray as xr
    from scipy.spatial import cKDTree

    def on_sphere(degrees_north: Floats, degrees_east: Floats) -> Floats:
        north, east = np.radians(degrees_north), np.radians(degrees_east)
        return np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])

    nodes = on_sphere(*(field[name].to_numpy().astype(float).ravel() for name in (latitude, longitude)))
    tree = cKDTree(nodes)
    away, best = tree.query(on_sphere(latitudes, longitudes))
    # A point inside the grid is within the diagonal of a cell of its nearest node, or twice that for stretched cells.
    outside = away > 2 * tree.query(nodes[best], k=2)[0][:, 1]
    picked = np.unravel_index(best, field[latitude].shape)
    where = {dim: xr.DataArray(places, dims="point") for dim, places in zip(field[latitude].dims, picked, strict=True)}
    return _loaded(field.isel(where)), outside


def _rows(field: xr.DataArray, source: WeatherSource) -> tuple[pd.DataFrame, pd.Series | None]:
    """One row per run and valid time, one column per point; and the arrival time of each row, if a coordinate has it."""
    import pandas as pd

    run, valid = _times(field, source)
    others = [dim for dim in field.dims if dim != "point"]
    for dim in others:
        if field.sizes[dim] > 1 and dim not in {*run.dims, *valid.dims}:
            raise GridFaultError(f"unknown dimension {dim}; set `run_at` and `valid_at` on the card")
    shape = field.isel(point=0, drop=True)

    def flat(times: xr.DataArray) -> Any:
        return times.broadcast_like(shape).transpose(*others).to_numpy().ravel().astype("datetime64[us]")

    index = pd.MultiIndex.from_arrays([flat(run), flat(valid)], names=["run_at", "valid_at"])
    if index.has_duplicates:
        raise GridFaultError(f"it has {index[index.duplicated()][0][1]} twice for one run; fetch it again")
    values = field.transpose(*others, "point").to_numpy().reshape(len(index), field.sizes["point"])
    arrived = None
    if source.available_at is not None and (source.available_at != LANDED_AT or LANDED_AT in field.coords):
        if source.available_at not in field.coords:
            raise GridFaultError(f"no coordinate {source.available_at}; correct `available_at` in the card")
        arrived = pd.Series(flat(field[source.available_at]), index)
    return pd.DataFrame(values, index), arrived


def _times(field: xr.DataArray, source: WeatherSource) -> tuple[xr.DataArray, xr.DataArray]:
    """Run and valid times of a field; the run of an analysis is zero."""
    import xarray as xr

    step = _coordinate(field, _STEP, "forecast_period")
    if step is not None and field[step].dtype.kind != "m":
        raise GridFaultError(f"its coordinate {step} has no unit of time; set `valid_at` on the card")
    run = source.run_at or _coordinate(field, _RUN, "forecast_reference_time")
    valid = source.valid_at or next((name for name in _VALID if name in field.coords and name != run), None)
    # cfgrib and ECMWF name the run `time` if the valid time is `valid_time`, or if there are steps.
    if run is None and "time" in field.coords and (valid not in {"time", None} or step is not None):
        run = "time"
        valid = None if valid == "time" else valid
    for name, field_name in ((run, "run_at"), (valid, "valid_at")):
        if name is not None and (name not in field.coords or field[name].dtype.kind != "M"):
            raise GridFaultError(f"no times in a coordinate {name}; correct `{field_name}` on the card")
    if run is None and source.kind == "forecast":
        raise GridFaultError("no coordinate has the time of the run; set `run_at` on the card")
    if valid is None and (run is None or step is None):
        raise GridFaultError("no coordinate has the valid time; set `valid_at` on the card")
    about = field[valid] if valid is not None else field[run] + field[step]
    if source.kind == "analysis":
        return xr.zeros_like(about.drop_vars(list(about.coords))), about
    return field[run], about
