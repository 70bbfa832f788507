"""Weather on grids: real GRIB2, NetCDF and Zarr, written by their own libraries, read through the real SourceTable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.contracts.raw import WeatherRaw
from wind_kedro.readers import grids
from wind_kedro.readers.source_table import SourceError, SourceRows, SourceTable

# Ibis 12 about how it calls DuckDB 2 and pandas 3 itself; zarr 3 and xarray about each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

RUNS = [pd.Timestamp("2024-03-01T00:00"), pd.Timestamp("2024-03-01T06:00")]
STEPS = [0, 1, 2]
LEVELS = [50, 80, 100]
#: North to south, as weather services write.
LATITUDES = np.arange(51.0, 48.9, -0.5)
LONGITUDES = np.arange(4.0, 6.1, 0.5)
Field = Callable[[int, int, int], np.ndarray]


def u_field(run: int, step: int, level: int) -> np.ndarray:
    """Wind towards east, m/s: linear in place, so that bilinear interpolation is exact, and in run, step and level."""
    return (LATITUDES[:, None] - 48) + 2 * (LONGITUDES[None, :] - 3) + run + step + level / 50


def v_field(run: int, step: int, level: int) -> np.ndarray:
    return 1 - u_field(run, step, level) / 2


def temperature(run: int, step: int, _: int) -> np.ndarray:
    return 270 + LATITUDES[:, None] / 10 + LONGITUDES[None, :] + run + step


def u_at(latitude: float, longitude: float, run: int, step: int, level: int) -> float:
    """By hand: the same plane at a point."""
    return (latitude - 48) + 2 * (longitude - 3) + run + step + level / 50


def write_grib(path: Path, members: tuple[int | None, ...] = (None,), longitudes: np.ndarray = LONGITUDES, **keys: Any) -> Path:
    """All fields as GRIB2, two runs in one file, wind at three levels; written by ecCodes."""
    import eccodes

    #: Category and number of the parameter (GRIB2 code tables 4.1 and 4.2), level.
    fields = [(2, 2, level, u_field) for level in LEVELS] + [(2, 3, level, v_field) for level in LEVELS]
    fields += [(0, 0, 2, temperature)]
    with path.open("wb") as file:
        for number, run in enumerate(RUNS):
            for step in STEPS:
                for member in members:
                    for category, parameter, level, field in fields:
                        message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                        values = {
                            "centre": "ecmf", "Ni": len(longitudes), "Nj": len(LATITUDES),
                            "latitudeOfFirstGridPointInDegrees": LATITUDES[0], "latitudeOfLastGridPointInDegrees": LATITUDES[-1],
                            "longitudeOfFirstGridPointInDegrees": longitudes[0] % 360,
                            "longitudeOfLastGridPointInDegrees": longitudes[-1] % 360,
                            "iDirectionIncrementInDegrees": 0.5, "jDirectionIncrementInDegrees": 0.5,
                            "parameterCategory": category, "parameterNumber": parameter,
                            "typeOfLevel": "heightAboveGround", "level": level,
                            "dataDate": int(run.strftime("%Y%m%d")), "dataTime": run.hour * 100, "stepUnits": "h",
                            "forecastTime": step, "bitsPerValue": 24,
                        }  # fmt: skip
                        if member is not None:
                            eccodes.codes_set(message, "productDefinitionTemplateNumber", 1)
                            values["perturbationNumber"] = member
                        for key, value in (values | keys).items():
                            eccodes.codes_set(message, key, value)
                        grid = field(number, step, level) + (member or 0)
                        eccodes.codes_set_values(message, grid.ravel())
                        eccodes.codes_write(message, file)
                        eccodes.codes_release(message)
    return path


def cube() -> Any:
    """All fields as xarray has them: dimensions of run, step, level and place."""
    import xarray as xr

    def stacked(field: Field, levels: list[int]) -> np.ndarray:
        return np.array([[[field(r, s, level) for level in levels] for s in STEPS] for r in range(2)], dtype="float32")

    dims = ("forecast_reference_time", "forecast_period", "height", "lat", "lon")
    names = {
        "u": (dims, stacked(u_field, LEVELS), {"units": "m s-1"}),
        "v": (dims, stacked(v_field, LEVELS), {"units": "m s-1"}),
    }
    flat = tuple(dim for dim in dims if dim != "height")
    names["t2m"] = (flat, stacked(temperature, [0])[:, :, 0], {"units": "K"})
    return xr.Dataset(
        names,
        coords={
            "forecast_reference_time": ("forecast_reference_time", pd.DatetimeIndex(RUNS), {"standard_name": dims[0]}),
            "forecast_period": ("forecast_period", pd.to_timedelta(STEPS, unit="h"), {"standard_name": dims[1]}),
            "height": ("height", np.array(LEVELS, dtype="float64"), {"axis": "Z", "units": "m"}),
            "lat": ("lat", LATITUDES, {"standard_name": "latitude"}),
            # The same meridians, counted eastwards from Greenwich all the way round.
            "lon": ("lon", LONGITUDES + 360, {"standard_name": "longitude"}),
        },
    )


def write_netcdf(path: Path, dataset: Any = None) -> Path:
    (cube() if dataset is None else dataset).to_netcdf(path, engine="h5netcdf")
    return path


def write_zarr(path: Path) -> Path:
    cube().to_zarr(path, zarr_format=2, consolidated=True)
    return path


WIND = {f"wind_{part}_{level}m_ms": {"name": part, "unit": "m/s", "level": level} for part in "uv" for level in LEVELS}
COLUMNS = WIND | {"temperature_c": {"name": "t2m", "unit": "K"}}


def source(path: str, form: str, **more: Any) -> dict[str, Any]:
    card = {
        "model": "ifs", "path": path, "format": form, "kind": "forecast", "delay_minutes": 300, "run_every_minutes": 360,
        "length_hours": 2, "columns": COLUMNS,
    }  # fmt: skip
    return card | more


@pytest.fixture
def farms(cards: dict[str, Any]) -> Callable[..., list[dict[str, Any]]]:
    """The hill and the shore with these sources of weather, the hill at 50.1 N 5.2 E, the shore at 49.75 N 4.3 E."""

    def place(hill: list[dict[str, Any]], shore: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        first, second = cards["farms"]
        first |= {"latitude_deg": 50.1, "longitude_deg": 5.2, "weather": hill}
        second |= {"latitude_deg": 49.75, "longitude_deg": 4.3, "weather": shore or []}
        return [first] if shore is None else [first, second]

    return place


def read(root: Path, farms: list[dict[str, Any]], **more: Any) -> pd.DataFrame:
    table = SourceTable(kind="weather", root=str(root), farms=farms, **more)
    frame: pd.DataFrame = WeatherRaw().validate(table.load()).table().to_pandas()
    return frame.sort_values(["farm_id", "weather_model", "weather_point", "source_row"], ignore_index=True)


def values(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as times and numbers."""
    times = {name: pd.to_datetime(frame[name], utc=True) for name in ("run_at", "valid_at")}
    return pd.DataFrame(times | {name: frame[name].astype(float) for name in COLUMNS})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fields in every format."""
    root = tmp_path_factory.mktemp("grids")
    write_grib(root / "ifs.grib2")
    write_netcdf(root / "ifs.nc")
    write_zarr(root / "ifs.zarr")
    rows = [
        {
            "run": run.isoformat(), "time": (run + pd.Timedelta(hours=step)).isoformat(), "t2m": 270 + 5.01 + 5.2 + number + step,
            **{f"u{level}": u_at(50.1, 5.2, number, step, level) for level in LEVELS},
            **{f"v{level}": 1 - u_at(50.1, 5.2, number, step, level) / 2 for level in LEVELS},
        }
        for number, run in enumerate(RUNS)
        for step in STEPS
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "ifs.csv", index=False)
    return root


CSV = {
    "valid_at": "time", "run_at": "run",
    "columns": {name: {"name": f"{name[5]}{name.split('_')[2][:-1]}", "unit": "m/s"} for name in WIND}
    | {"temperature_c": {"name": "t2m", "unit": "K"}},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "suffix"), [("grib", "grib2"), ("netcdf", "nc"), ("zarr", "zarr")])
def test_a_field_is_the_same_in_every_format(written: Path, farms: Any, kind: str, suffix: str) -> None:
    by_hand = values(read(written, farms([source("ifs.csv", "csv", **CSV)])))
    found = read(written, farms([source(f"ifs.{suffix}", kind)]))
    assert found["source_row"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["source_file"].unique().tolist() == [f"ifs.{suffix}"]
    assert found[["fault", "available_at", "air_density_kgm3", "wind_speed_100m_ms"]].isna().all(axis=None)
    # GRIB packs into 24 bits, NetCDF and Zarr hold 32.
    pd.testing.assert_frame_equal(values(found), by_hand, rtol=1e-6, atol=1e-5)


def test_values_are_the_shortest_text_of_their_32_bits(written: Path, farms: Any) -> None:
    frame = read(written, farms([source("ifs.nc", "netcdf", latitude_deg=50.5, longitude_deg=4.5)]))
    assert frame["wind_u_50m_ms"].tolist() == ["6.5", "7.5", "8.5", "7.5", "8.5", "9.5"]
    assert frame["run_at"].unique().tolist() == ["2024-03-01T00:00:00.000000+00:00", "2024-03-01T06:00:00.000000+00:00"]


def test_points_of_all_farms_are_read_together(written: Path, farms: Any) -> None:
    north = source("ifs.nc", "netcdf", point="north", latitude_deg=51, longitude_deg=6)
    frame = read(written, farms([source("ifs.nc", "netcdf"), north], [source("ifs.nc", "netcdf")]))
    first = frame[frame["source_row"] == 1]
    assert first[["farm_id", "weather_point", "source_file"]].to_numpy().tolist() == [
        ["hill", "north", "ifs.nc#ifs@north"],
        ["hill", "site", "ifs.nc#ifs@site"],
        ["shore", "site", "ifs.nc"],
    ]
    expected = [u_at(*place, 0, 0, 100) for place in ((51, 6), (50.1, 5.2), (49.75, 4.3))]
    assert first["wind_u_100m_ms"].astype(float).tolist() == pytest.approx(expected, abs=1e-5)


def test_farms_that_share_a_file_have_rows_and_fingerprints_of_their_own(written: Path, farms: Any) -> None:
    card = source("ifs.nc", "netcdf")

    def load(*sources: Any) -> SourceRows:
        return SourceTable(kind="weather", root=str(written), farms=farms(*sources)).load()

    alone, both = load([card]).units, load([card], [card])
    assert len(set(both.units["unit"])) == 1
    assert both.units["rows"].tolist() == [len(RUNS) * len(STEPS)] * 2
    pd.testing.assert_frame_equal(both.units[both.units["farm_id"] == "hill"], alone)
    hill = both.table(both.units[both.units["farm_id"] == "hill"]).to_pandas()
    assert hill["farm_id"].unique().tolist() == ["hill"]
    assert len(hill) == len(RUNS) * len(STEPS)


@pytest.mark.parametrize(
    ("point", "node"),
    [((50.1, 5.2), (50.0, 5.0)), ((50.3, 5.3), (50.5, 5.5)), ((49.0, 6.0), (49.0, 6.0))],
    ids=["below", "above", "on the corner"],
)
def test_the_nearest_node_on_request(written: Path, farms: Any, point: Any, node: Any) -> None:
    nearest = source("ifs.nc", "netcdf", interpolation="nearest", latitude_deg=point[0], longitude_deg=point[1])
    frame = read(written, farms([nearest]))
    assert float(frame["wind_u_100m_ms"][0]) == pytest.approx(u_at(*node, 0, 0, 100), abs=1e-5)


def test_direction_is_turned_not_averaged(tmp_path: Path, farms: Any) -> None:
    import xarray as xr

    # 350 degrees to the west of the point and 10 to the east: between them the wind is from the north.
    dims = ("time", "latitude", "longitude")
    west_east = np.broadcast_to(np.array([350.0, 10.0], dtype="float32"), (1, 2, 2))
    dataset = xr.Dataset(
        {"dir": (dims, west_east, {"units": "degrees"}), "speed": (dims, np.full((1, 2, 2), 8, "float32"))},
        coords={"time": [RUNS[0]], "latitude": [50.0, 51.0], "longitude": [5.0, 5.4]},
    )
    write_netcdf(tmp_path / "a.nc", dataset)
    columns = {
        "wind_speed_80m_ms": {"name": "speed", "unit": "m/s"},
        "wind_direction_80m_deg": {"name": "dir", "unit": "deg"},
    }
    frame = read(tmp_path, farms([source("a.nc", "netcdf", kind="analysis", columns=columns)]))
    assert float(frame["wind_direction_80m_deg"][0]) % 360 == pytest.approx(0, abs=1e-3)
    assert frame["run_at"].isna().all()


def test_a_grid_around_the_earth_has_no_seam(tmp_path: Path, farms: Any) -> None:
    import xarray as xr

    longitudes = np.arange(0.0, 360.0, 90.0)
    dataset = xr.Dataset(
        {name: (("time", "latitude", "longitude"), np.array([[[0.0, 1, 2, 4]] * 2])) for name in ("u", "v")},
        coords={"time": [RUNS[0]], "latitude": [40.0, 60.0], "longitude": longitudes},
    )
    write_netcdf(tmp_path / "a.nc", dataset)
    columns = {f"wind_{part}_100m_ms": {"name": part, "unit": "m/s"} for part in "uv"}
    # A quarter of a turn west of Greenwich lies between 270 and 360 = 0 degrees; half way it is (4 + 0) / 2.
    west = source("a.nc", "netcdf", kind="analysis", columns=columns, latitude_deg=50, longitude_deg=-45)
    assert float(read(tmp_path, farms([west]))["wind_u_100m_ms"][0]) == pytest.approx(2)


def test_when_a_run_could_be_read_is_a_coordinate_the_folder_or_the_delay(tmp_path: Path, farms: Any) -> None:
    arrived = [RUNS[0] + pd.Timedelta(hours=5), RUNS[1] + pd.Timedelta(hours=7)]
    write_netcdf(tmp_path / "a.nc", cube().assign_coords(came=("forecast_reference_time", pd.DatetimeIndex(arrived))))
    frame = read(tmp_path, farms([source("a.nc", "netcdf", available_at="came")]))
    assert frame["available_at"].tolist() == [f"{at.isoformat()}.000000+00:00" for at in arrived for _ in STEPS]
    folder = tmp_path / "ifs/landed_at=2024-03-01T05-13-51.123456Z"
    folder.mkdir(parents=True)
    write_grib(folder / "a.grib2")
    frame = read(tmp_path, farms([source("ifs/*/*.grib2", "grib", available_at="landed_at")]))
    assert frame["available_at"].unique().tolist() == ["2024-03-01T05:13:51.123456+00:00"]
    # Nothing is left beside files that may be read-only.
    assert [path.name for path in folder.iterdir()] == ["a.grib2"]


def test_a_member_of_an_ensemble(tmp_path: Path, farms: Any) -> None:
    write_grib(tmp_path / "ens.grib2", members=(0, 1))
    frame = read(tmp_path, farms([source("ens.grib2", "grib", member=1)]))
    assert float(frame["wind_u_100m_ms"][0]) == pytest.approx(u_at(50.1, 5.2, 0, 0, 100) + 1, abs=1e-4)


def faulty(root: Path, defect: str) -> dict[str, Any]:  # noqa: PLR0911, PLR0912 - one return a defect
    """Write a file with a defect, or spoil the card; the card."""
    whole = source("a.grib2", "grib")
    match defect:
        case "missing":
            return source("nowhere.grib2", "grib")
        case "no match":
            return source("nowhere/*.grib2", "grib")
        case "outside":
            write_grib(root / "a.grib2")
            return whole | {"latitude_deg": 12, "longitude_deg": 5}
        case "broken off":
            write_grib(root / "a.grib2")
            data = (root / "a.grib2").read_bytes()
            (root / "a.grib2").write_bytes(data[: len(data) - 100])
            return whole
        case "no grid at all":
            (root / "a.nc").write_text("time,wind\n")
            return source("a.nc", "netcdf")
        case "ensemble":
            write_grib(root / "a.grib2", members=(0, 1))
            return whole
        case "no such variable":
            write_grib(root / "a.grib2")
            return whole | {"columns": WIND | {"pressure_pa": {"name": "sp", "unit": "Pa"}}}
        case "no such level":
            write_netcdf(root / "a.nc")
            return source("a.nc", "netcdf", columns={"wind_speed_120m_ms": {"name": "u", "unit": "m/s", "level": 120}})
        case "which level":
            write_grib(root / "a.grib2")
            return whole | {"columns": {"wind_speed_100m_ms": {"name": "u", "unit": "m/s"}}}
        case "accumulated":
            write_grib(root / "a.grib2", productDefinitionTemplateNumber=8, typeOfStatisticalProcessing=1)
            return whole
        case "another unit":
            write_netcdf(root / "a.nc")
            return source("a.nc", "netcdf", columns=WIND | {"temperature_c": {"name": "t2m", "unit": "degC"}})
        case "no landing":
            write_netcdf(root / "a.nc")
            return source("a.nc", "netcdf", available_at="landed_at")
        case "no run":
            dataset = cube().isel(forecast_reference_time=0, drop=True).drop_vars("forecast_period")
            write_netcdf(
                root / "a.nc",
                dataset.rename(forecast_period="time").assign_coords(time=pd.date_range(RUNS[0], periods=3)),
            )
            return source("a.nc", "netcdf")
    raise AssertionError(defect)


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("missing", "it is missing"),
        ("no match", "the glob matches nothing"),
        ("outside", "the point 12, 5 is outside its grid"),
        ("broken off", "not readable as grib"),
        ("no grid at all", "not readable as netcdf"),
        ("ensemble", "an ensemble of members 0, 1; set `member` on the card"),
        ("no such variable", "no sp; variables are"),
        ("no such level", "u has no level 120 m, but 50, 80, 100"),
        ("which level", "set `level` on the card"),
        ("accumulated", "not as an instant"),
        ("another unit", "t2m is in K in the file, but in degC on the card"),
        ("no landing", "landed_at=…; correct `available_at`"),
        ("no run", "no coordinate has the time of the run"),
    ],
)
def test_what_is_wrong_is_one_line_and_costs_one_source(
    tmp_path: Path, farms: Any, written: Path, defect: str, words: str
) -> None:
    shutil.copy(written / "ifs.nc", tmp_path / "sound.nc")
    card = faulty(tmp_path, defect)
    frame = read(tmp_path, farms([card], [source("sound.nc", "netcdf")])).set_index("farm_id")
    fault = frame.loc[["hill"], ["source_row", "fault"]]
    assert fault["source_row"].tolist() == [0]
    assert fault["fault"].iloc[0].startswith("farm 'hill', ")
    assert words in fault["fault"].iloc[0]
    assert "\n" not in fault["fault"].iloc[0]
    assert frame.loc["shore", "source_row"].tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(SourceError, match=r"^farm 'hill'"):
        read(tmp_path, farms([card]))


def test_a_file_is_read_once_until_it_or_the_points_change(tmp_path: Path, farms: Any) -> None:
    write_netcdf(tmp_path / "a.nc")
    kept = tmp_path / "kept"
    cards = farms([source("a.nc", "netcdf")], [source("a.nc", "netcdf", latitude_deg=0, longitude_deg=0)])
    first = read(tmp_path, cards, kept=str(kept))
    [table] = kept.glob("weather/*-*.parquet")
    made = table.stat().st_mtime_ns
    # What was kept is used, faults and all: the file itself could not be read any more.
    before = (tmp_path / "a.nc").stat()
    (tmp_path / "a.nc").write_bytes(bytes(before.st_size))
    os.utime(tmp_path / "a.nc", ns=(before.st_atime_ns, before.st_mtime_ns))
    pd.testing.assert_frame_equal(read(tmp_path, cards, kept=str(kept)), first)
    assert table.stat().st_mtime_ns == made
    write_netcdf(tmp_path / "a.nc", cube() + 1)
    assert float(read(tmp_path, cards, kept=str(kept))["wind_u_100m_ms"][0]) == float(first["wind_u_100m_ms"][0]) + 1
    assert len(list(kept.glob("weather/*-*.parquet"))) == 1


def test_a_table_shared_by_two_points_has_rows_of_its_own_for_each(written: Path, farms: Any, cards: Any) -> None:
    two = [source("ifs.csv", "csv", **CSV), source("ifs.csv", "csv", point="other", **CSV)]
    Fleet.from_config(**cards | {"farms": farms(two, [source("ifs.csv", "csv", **CSV)])})
    frame = read(written, farms(two))
    assert frame["source_file"].unique().tolist() == ["ifs.csv#ifs@other", "ifs.csv#ifs@site"]
    assert not frame.duplicated(["farm_id", "source_file", "source_row"]).any()


def test_values_around_the_points_are_bounded(tmp_path: Path, farms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_netcdf(tmp_path / "a.nc")
    monkeypatch.setattr(grids, "MAX_GRID_VALUES", 3)
    with pytest.raises(SourceError, match="values around the points, at most 3 are read"):
        read(tmp_path, farms([source("a.nc", "netcdf")]))
