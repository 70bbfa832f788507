"""The made fleet: its physics is sensible, its faults are what the list says, and it can be made again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from synthetic import Recipe, made_up_farms, make_fleet, write_files
from synthetic.__main__ import main
from synthetic.recipe import Climate, Scale
from synthetic.turbines import (
    _stopped_by_storm,
    power_curve_share,
    turbine_signals,
    wake_deficit,
)
from synthetic.units import digits
from synthetic.weather import (
    Weather,
    distances_km,
    forecast_wind,
    process,
    season_of,
    solar_hour,
    speed_and_direction,
    weather_rows,
    wind_field,
)
from wind_kedro.cards import Farm, Fleet, SignalSource, Source

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf" / "test"
RAW = ROOT / "data" / "test" / "01_raw"
SUMMER_TIME = pd.Timestamp("2024-03-31T01:00Z")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((CONF / name).read_text("utf-8"))


FLEET = Fleet.from_config(
    read_yaml("farms.yml")["farms"],
    read_yaml("markets.yml")["markets"],
    read_yaml("products.yml")["products"],
    read_yaml("farms.yml")["groups"],
)
RECIPE = Recipe.model_validate(read_yaml("synthetic.yml"))
FAULTS = pd.read_csv(RAW / "faults.csv", keep_default_na=False, parse_dates=["start", "end"])
STEP, END = pd.Timedelta(minutes=5), pd.Timestamp(RECIPE.end)


def read_raw(source: Source, folder: Path = RAW) -> pd.DataFrame:
    """A source as it came: text from CSV, types from Parquet."""
    files = sorted(folder.glob(source.path))
    assert files, source.path
    if source.format == "parquet":
        return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    options = {"sep": source.separator, "encoding": source.encoding, "dtype": str, "keep_default_na": False}
    return pd.concat([pd.read_csv(file, **options) for file in files], ignore_index=True)  # type: ignore[call-overload]


# --- the committed data ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    main(["--farms", str(CONF / "farms.yml"), "--recipe", str(CONF / "synthetic.yml"), "--out", str(folder)])
    return folder


@pytest.mark.slow
def test_the_committed_files_are_those_that_are_made(made_again: Path) -> None:
    def tree(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in {".csv", ".gz", ".parquet"}}

    assert tree(made_again) == tree(RAW)
    assert (made_again / "faults.csv").read_text("utf-8") == (RAW / "faults.csv").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("farm", FLEET.farms, ids=lambda farm: farm.id)
def test_the_committed_values_are_those_that_are_made(farm: Farm, made_again: Path) -> None:
    for source in [farm.signals, *farm.weather]:
        old, new = read_raw(source), read_raw(source, made_again)
        numbers = {column.name: digits(name, column) for name, column in source.columns.items()}
        pd.testing.assert_frame_equal(new.drop(columns=list(numbers)), old.drop(columns=list(numbers)))
        for name, decimals in numbers.items():
            was, now = (pd.to_numeric(table[name], errors="coerce") for table in (old, new))
            # Another processor may round a last digit the other way; directions go round.
            apart = (was - now).abs()
            apart = apart.where(apart < 180, 360 - apart) if "irection" in name or "richtung" in name else apart
            assert apart.max() <= 1.5 * 10.0**-decimals
            assert was.isna().equals(now.isna())


def test_the_whole_folder_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in RAW.rglob("*")) < 4_000_000


# --- the faults, counted in the files without the generator ----------------------------------------------------------------


def signals_of(farm: Farm) -> pd.DataFrame:
    """The signals under the house's names: ``at`` is the true start in UTC (null: no time), values as they came."""
    card = farm.signals
    raw = read_raw(card).rename(columns={column.name: name for name, column in card.columns.items()})
    raw = raw.rename(columns={card.timestamp: "stamp", card.turbine: "turbine_id", str(card.received_at): "received_at"})
    if farm.id == "east_plain":
        raw["at"] = raw["stamp"].dt.tz_localize("Europe/Berlin").dt.tz_convert("UTC")
    else:
        # The wall clocks of both other farms are UTC, whatever stands behind them.
        wall = pd.to_datetime(raw["stamp"].str[:19], errors="coerce", format="ISO8601")
        raw["at"] = wall.dt.tz_localize("UTC") - pd.Timedelta(minutes=15 if card.stamps == "interval_end" else 0)
    if card.received_at:
        raw["received_at"] = pd.to_datetime(raw["received_at"], utc=True)
    return raw


def grid(farm: Farm) -> pd.MultiIndex:
    cadence = farm.signals.cadence
    times = pd.date_range(RECIPE.start, RECIPE.end, freq=cadence, inclusive="left", unit="us")
    return pd.MultiIndex.from_product([[turbine.id for turbine in farm.turbines], times], names=["turbine_id", "at"])


def number(rows: pd.DataFrame, signal: str) -> pd.Series:
    return pd.to_numeric(rows[signal], errors="coerce")


def sentinels(farm: Farm, rows: pd.DataFrame) -> int:
    return sum(int(number(rows, signal).isin(values).sum()) for signal, values in farm.signals.sentinels.items())


def out_of_range(farm: Farm, rows: pd.DataFrame) -> int:
    wind = 50 * (3.6 if farm.signals.columns["wind_speed_ms"].unit == "km/h" else 1)
    power = farm.turbines[0].rated_power_kw * 1.25 / (1000 if farm.signals.columns["power_kw"].unit == "MW" else 1)
    beyond = (number(rows, "wind_speed_ms") > wind) | (number(rows, "power_kw") > power)
    return int((beyond | (number(rows, "wind_direction_deg") > 360)).sum())


def stuck(farm: Farm, rows: pd.DataFrame) -> int:
    """Readings of a sensor that gave one value for more than two hours, though it was neither none nor a sentinel."""
    count = 0
    for signal in ("power_kw", "wind_speed_ms"):
        for _, one in rows[rows["turbine_id"] != ""].sort_values("at").groupby("turbine_id"):
            values = number(one, signal)
            values = values[~values.isin(farm.signals.sentinels.get(signal, []))].dropna()
            length = values.groupby((values != values.shift()).cumsum()).transform("size")
            count += int((length * farm.signals.cadence_seconds > 7200).sum())
    return count


def missing_values(farm: Farm, rows: pd.DataFrame) -> int:
    return int(sum((rows[signal].isna() | (rows[signal] == "")).sum() for signal in farm.signals.columns))


def unparseable(farm: Farm, rows: pd.DataFrame) -> int:
    return int(sum((number(rows, name).isna() & rows[name].notna() & (rows[name] != "")).sum() for name in farm.signals.columns))


def bad_stamps(farm: Farm, rows: pd.DataFrame) -> int:
    return int(rows["at"].isna().sum())


def off_grid(farm: Farm, rows: pd.DataFrame) -> int:
    at = rows["at"].dropna()
    return int((at != at.dt.floor(farm.signals.cadence)).sum())


def unknown_turbines(farm: Farm, rows: pd.DataFrame) -> int:
    return int((~rows["turbine_id"].isin([turbine.id for turbine in farm.turbines])).sum())


def duplicates(farm: Farm, rows: pd.DataFrame) -> int:
    # Stamps that are all alike because they are no times do not make rows alike.
    return int(rows.dropna(subset="at").drop(columns="at").duplicated().sum())


def _same_stamp(farm: Farm, rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.dropna(subset="at").drop_duplicates(rows.columns.difference(["at"]).tolist())
    return rows[rows.duplicated(["turbine_id", "at"], keep=False)]


def conflicts(farm: Farm, rows: pd.DataFrame) -> int:
    same = _same_stamp(farm, rows)
    if farm.signals.received_at:
        same = same[same.groupby(["turbine_id", "at"])["received_at"].transform("nunique") == 1]
    # The doubled hour of the clock change is counted elsewhere.
    return int((~same["stamp"].astype(str).str.startswith("2024-03-31T03")).sum())


def revisions(farm: Farm, rows: pd.DataFrame) -> int:
    if not farm.signals.received_at:
        return 0
    same = _same_stamp(farm, rows)
    return int((same["received_at"] < same.groupby(["turbine_id", "at"])["received_at"].transform("max")).sum())


def late(farm: Farm, rows: pd.DataFrame) -> int:
    if not farm.signals.received_at:
        return 0
    rows = rows.dropna(subset="at").drop_duplicates(["turbine_id", "at"], keep="first")
    return int((rows["received_at"] - rows["at"] > pd.Timedelta(hours=1)).sum())


def gaps(farm: Farm, rows: pd.DataFrame) -> int:
    """Turbine intervals without any row, but for those whose row has lost its stamp, and the hour stamped as the next."""
    there = pd.MultiIndex.from_frame(rows[["turbine_id", "at"]].dropna())
    relabelled = len(farm.turbines) * 12 if farm.id == "north_ridge" else 0
    lost = bad_stamps(farm, rows) + off_grid(farm, rows)
    return len(grid(farm).difference(there)) - relabelled - lost


def doubled_hour(farm: Farm, rows: pd.DataFrame) -> int:
    hour = rows[rows["stamp"].astype(str).str.startswith("2024-03-31T03") & (farm.id == "north_ridge")]
    return int(hour.duplicated(["turbine_id", "stamp"]).sum())


COUNTS: dict[str, Callable[[Farm, pd.DataFrame], int]] = {
    "sentinel": sentinels,
    "out_of_range": out_of_range,
    "stuck": stuck,
    "missing_value": missing_values,
    "unparseable": unparseable,
    "bad_stamp": bad_stamps,
    "off_grid": off_grid,
    "unknown_turbine": unknown_turbines,
    "duplicate": duplicates,
    "conflict": conflicts,
    "revision": revisions,
    "late": late,
    "gap": gaps,
    "clock_change_restamped": doubled_hour,
}


@pytest.fixture(scope="module")
def signals() -> dict[str, pd.DataFrame]:
    return {farm.id: signals_of(farm) for farm in FLEET.farms}


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize("farm", FLEET.farms, ids=lambda farm: farm.id)
def test_the_list_of_faults_agrees_with_the_signals(farm: Farm, kind: str, signals: dict[str, pd.DataFrame]) -> None:
    told = FAULTS[(FAULTS["farm_id"] == farm.id) & (FAULTS["source_table"] == "signals") & (FAULTS["kind"] == kind)]
    assert COUNTS[kind](farm, signals[farm.id]) == told["rows"].sum()


@pytest.mark.parametrize("farm", FLEET.farms, ids=lambda farm: farm.id)
def test_every_row_of_the_signals_is_accounted_for(farm: Farm, signals: dict[str, pd.DataFrame]) -> None:
    told = FAULTS[(FAULTS["farm_id"] == farm.id) & (FAULTS["source_table"] == "signals")]
    rows = told.groupby("kind")["rows"].sum()
    extra = rows.reindex(["duplicate", "revision", "unknown_turbine"], fill_value=0).sum()
    # A conflict adds one row to the one that was right.
    assert len(signals[farm.id]) == len(grid(farm)) - rows["gap"] + extra + rows["conflict"] // 2


def test_every_kind_of_fault_is_in_the_list() -> None:
    counted = {*COUNTS, "turbine_stopped", "out_of_order", "false_offset", "late_run", "missing_run"}
    assert set(FAULTS["kind"]) == counted


def weather_counts(source: Source) -> dict[str, int]:
    rows = read_raw(source)
    names = ("run_at", "valid_at", "available_at")
    times = {name: pd.to_datetime(rows[name], utc=True, errors="coerce") for name in names}
    runs = pd.date_range(RECIPE.start, RECIPE.end, freq="6h", inclusive="left")
    numbers = {column.name: pd.to_numeric(rows[column.name], errors="coerce") for column in source.columns.values()}
    return {
        "missing_run": 49 * len(runs.difference(pd.DatetimeIndex(times["run_at"]))),
        "late_run": int((times["available_at"] - times["run_at"] > pd.Timedelta(hours=7)).sum()),
        "duplicate": int(rows.duplicated().sum()),
        "bad_stamp": int(times["valid_at"].isna().sum()),
        "unparseable": int(sum(values.isna().sum() for values in numbers.values())),
        "out_of_range": int(sum((values > 100).sum() for name, values in numbers.items() if name in {"wind_speed_100m", "u100"})),
    }


@pytest.mark.parametrize("model", ["alpha", "beta"])
@pytest.mark.parametrize("farm", FLEET.farms, ids=lambda farm: farm.id)
def test_the_list_of_faults_agrees_with_the_weather(farm: Farm, model: str) -> None:
    told = FAULTS[(FAULTS["farm_id"] == farm.id) & (FAULTS["weather_model"] == model)]
    counted = weather_counts(next(source for source in farm.weather if source.model == model))
    assert {kind: count for kind, count in counted.items() if count} == told.groupby("kind")["rows"].sum().to_dict()


def test_the_local_clock_skips_an_hour_in_spring(signals: dict[str, pd.DataFrame]) -> None:
    day = signals["east_plain"].query("'2024-03-31' <= stamp < '2024-04-01'")
    assert 2 not in set(day["stamp"].dt.hour)
    assert day["at"].is_monotonic_increasing


def test_the_false_offset_changes_with_summer_time(signals: dict[str, pd.DataFrame]) -> None:
    good = signals["north_ridge"].dropna(subset="at")
    summer = good["at"] >= SUMMER_TIME + pd.Timedelta(hours=2)
    assert set(good.loc[~summer, "stamp"].str[19:]) == {"+01:00"}
    assert set(good.loc[summer, "stamp"].str[19:]) == {"+02:00"}


# --- the physics -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [False, True], ids=["first order", "smooth"])
def test_a_process_has_the_variance_and_correlation_it_says(smooth: bool) -> None:
    rows = process(np.random.default_rng(1), 20_000, 0.25, 2.0, 8, smooth=smooth)
    assert rows.mean() == pytest.approx(0, abs=0.05)
    assert rows.std() == pytest.approx(1, abs=0.03)
    for lag_hours in (1, 2, 4):
        lag = int(lag_hours / 0.25)
        expected = np.exp(-lag_hours / 2) * (1 + lag_hours / 2 if smooth else 1)
        found = np.mean(rows[:-lag] * rows[lag:]) / np.mean(rows**2)
        assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("shape", [1.8, 2.0, 2.4])
def test_speed_is_weibull(shape: float) -> None:
    rng = np.random.default_rng(2)
    wind = (rng.standard_normal(100_000) + 1j * rng.standard_normal(100_000))[:, None]
    # Seven in the evening in mid April: neither time of day nor season change the speed.
    hour, season = np.full(wind.shape, 19.0), np.full(wind.shape, 0.25 + 15 / 365)
    speed, direction = speed_and_direction(wind, [Climate(mean_speed_ms=8, weibull_shape=shape)], hour, season)
    assert speed.mean() == pytest.approx(8, rel=0.01)
    scale = np.quantile(speed, 1 - np.exp(-1))
    for level in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(speed, level) == pytest.approx(scale * (-np.log(1 - level)) ** (1 / shape), rel=0.02)
    mean = np.degrees(np.angle(np.exp(1j * np.radians(direction)).mean())) % 360
    assert mean == pytest.approx(240, abs=2)  # from where it prevails
    assert np.histogram(direction, bins=12, range=(0, 360))[0].min() > 0.03 * len(direction)  # and from everywhere


@pytest.fixture(scope="module")
def truth() -> Weather:
    return wind_field(FLEET.farms, RECIPE)


def test_wind_has_the_memory_of_a_real_farm() -> None:
    # Autocorrelation of La Haute Borne's hourly wind speed, 2014-2015: 0.94, 0.80, 0.65, 0.33 at 1, 3, 6, 24 h.
    farms = FLEET.farms[:1]
    long = RECIPE.model_copy(update={"end": RECIPE.start.replace(year=RECIPE.start.year + 2), "step_minutes": 15})
    weather = wind_field(farms, long)
    speed, _ = speed_and_direction(weather.wind, [Climate()], solar_hour(weather.times, farms), season_of(weather.times))
    hourly = pd.Series(speed[:, 0], weather.times).resample("1h").mean()
    found = [hourly.autocorr(lag) for lag in (1, 3, 6, 24)]
    assert found == pytest.approx([0.94, 0.80, 0.65, 0.33], abs=0.08)


def test_farms_are_alike_by_distance() -> None:
    farms = made_up_farms(6, seed=3)
    scale = Scale(share=1, hours=1, kilometres=400)
    recipe = RECIPE.model_copy(update={"scales": [scale], "step_minutes": 15})
    found = np.corrcoef(wind_field(farms, recipe).wind.real, rowvar=False)
    np.testing.assert_allclose(found, np.exp(-distances_km(farms) / 400), atol=0.08)


def test_distance_is_the_great_circle() -> None:
    paris, berlin = (
        {"latitude_deg": 48.8566, "longitude_deg": 2.3522},
        {"latitude_deg": 52.52, "longitude_deg": 13.405},
    )
    farms = [made_up_farms(1, 0)[0].model_copy(update=place) for place in (paris, berlin)]
    assert distances_km(farms)[0, 1] == pytest.approx(878, abs=2)


def test_power_follows_the_curve() -> None:
    speed = np.linspace(0, 30, 301)
    share = power_curve_share(speed, rated_power_kw=2050, diameter_m=82)
    assert share[speed < 3].max() == 0
    assert (np.diff(share) >= 0).all()
    assert share.max() <= 1
    assert np.interp(14.5, speed, share) == pytest.approx(0.98, abs=0.01)


def test_a_storm_stops_a_turbine_until_it_calms() -> None:
    speed = np.array([[24.0], [26.0], [23.0], [21.0], [24.0]])
    assert _stopped_by_storm(speed)[:, 0].tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("from_deg", "loser"),
    [
        pytest.param(270, "E2", id="west wind"),
        pytest.param(90, "E1", id="east wind"),
        pytest.param(0, None, id="across the row"),
    ],
)
def test_wakes_fall_behind_turbines(from_deg: float, loser: str | None) -> None:
    farm = FLEET.farm("east_plain").model_copy(update={"turbines": FLEET.farm("east_plain").turbines[:2]})
    deficit = wake_deficit(farm, np.array([8.0]), np.array([from_deg]))[0]
    by_turbine = dict(zip(["E1", "E2"], deficit, strict=True))
    for turbine, lost in by_turbine.items():
        if turbine == loser:
            assert 0.15 < lost < 0.5
        else:
            assert lost < 0.01


def test_turbines_measure_what_they_can(truth: Weather) -> None:
    farm = FLEET.farms[0]
    hour, season = solar_hour(truth.times, FLEET.farms)[:, [0]], season_of(truth.times)
    rows = turbine_signals(farm, 0, truth, RECIPE, hour, season)
    assert len(rows) == len(grid(farm))
    assert rows["power_kw"].between(-0.005 * 2050, 1.02 * 2050).all()
    assert rows["wind_speed_ms"].between(0, 40).all()
    assert rows["wind_direction_deg"].between(0, 360).all()
    assert 0.2 < rows["power_kw"].mean() / 2050 < 0.5  # the capacity factor of a windy winter
    at_speed = rows.groupby(rows["wind_speed_ms"].round())["power_kw"].median()
    assert at_speed[14] > 0.9 * 2050 > at_speed[8] > 0.2 * 2050 > at_speed[3]


def test_forecasts_err_more_the_further_they_look(truth: Weather) -> None:
    farms = FLEET.farms
    hours, season = solar_hour(truth.times, farms), season_of(truth.times)
    bias = {}
    for model in RECIPE.weather_models:
        runs = forecast_wind(farms, model, truth, RECIPE)
        errors = []
        for place, farm in enumerate(farms):
            hour = hours[:, [place]]
            speed, _ = speed_and_direction(truth.resolved[:, [place]], [RECIPE.climate(farm.id)], hour, season)
            rows = weather_rows(farm, place, model, runs, truth, RECIPE, hour, season)
            error = rows["wind_speed_100m_ms"].to_numpy() - speed[runs.valid_index.ravel(), 0]
            errors.append(error.reshape(runs.valid_index.shape))
        error = np.stack(errors)
        rmse = [np.sqrt(np.mean(error[:, :, lead : lead + 12] ** 2)) for lead in (0, 12, 24, 36)]
        assert rmse == sorted(rmse)
        assert rmse[0] > 0.5
        assert 1.2 * rmse[0] < rmse[-1] < 3
        # A run that errs now errs in an hour; the next run errs alike, less so.
        along, between = (
            np.corrcoef(error[..., :-1].ravel(), error[..., 1:].ravel())[0, 1],
            np.corrcoef(error[:, :-1, 6:].ravel(), error[:, 1:, :-6].ravel())[0, 1],
        )
        assert along > 0.7
        assert 0.2 < between < along
        bias[model.id] = error.mean()
    assert bias["alpha"] > 0.2
    assert bias["beta"] < -0.2


# --- any fleet -------------------------------------------------------------------------------------------------------------


def short(**changes: Any) -> Recipe:
    """A recipe of two days without faults."""
    days = {"start": "2024-10-26T00:00Z", "end": "2024-10-28T00:00Z", "step_minutes": 15, "faults": [], "stamping": {}}
    return Recipe.model_validate(RECIPE.model_dump() | days | changes)


def test_a_fleet_can_have_any_number_of_farms(tmp_path: Path) -> None:
    farms = made_up_farms(5, seed=1)
    assert made_up_farms(3, seed=1) == farms[:3]
    for data in make_fleet(farms, short()):
        write_files(data, tmp_path)
        signals = read_raw(data.farm.signals, tmp_path)
        assert len(signals) == 2 * 96 * len(data.farm.turbines)
        assert len(read_raw(data.farm.weather[0], tmp_path)) == 8 * 49
        assert data.faults.empty


def one_farm(**signals: Any) -> Farm:
    farm = made_up_farms(1, seed=1)[0]
    card = SignalSource.model_validate(farm.signals.model_dump() | signals)
    return farm.model_copy(update={"signals": card, "time_zone": "Europe/Paris", "turbines": farm.turbines[:1]})


@pytest.mark.parametrize(
    ("stamping", "stamps"),
    [
        pytest.param("utc", ["2024-10-27 00:30:00", "2024-10-27 01:30:00", "2024-10-27 02:30:00"], id="UTC"),
        pytest.param("local", ["2024-10-27 02:30:00", "2024-10-27 02:30:00", "2024-10-27 03:30:00"], id="local, repeats an hour"),
        pytest.param(
            "utc_with_false_offset",
            ["2024-10-27T00:30:00+02:00", "2024-10-27T01:30:00+02:00", "2024-10-27T02:30:00+01:00"],
            id="UTC with a false offset",
        ),
    ],
)
def test_clocks_in_autumn(stamping: str, stamps: list[str]) -> None:
    farm = one_farm(format="csv", path="signals.csv", received_at=None)
    (data,) = make_fleet([farm], short(stamping={farm.id: stamping}))
    rows = data.files["signals.csv"].rows
    assert rows["timestamp"].iloc[[98, 102, 106]].tolist() == stamps


FAULT = {"farm": "farm_0001", "kind": "gap", "start": "2024-10-26T06:00Z", "end": "2024-10-26T12:00Z"}
TWICE, LATE, TEXT = {"kind": "duplicate"}, {"kind": "late", "hours": 2}, {"kind": "bad_stamp", "value": "soon"}


@pytest.mark.parametrize(
    ("farm", "faults", "message"),
    [
        pytest.param({}, [FAULT, FAULT], "strikes no row", id="nothing left to strike"),
        pytest.param(
            {},
            [FAULT | TWICE, FAULT | LATE],
            "'duplicate' is there",
            id="two on a row",
        ),
        pytest.param({}, [FAULT | {"count": 1000}], "only 24 rows for 1000", id="more than there are"),
        pytest.param({}, [FAULT | {"farm": "nowhere"}], "unknown farms: nowhere", id="unknown farm"),
        pytest.param({}, [FAULT | TEXT], "needs a text file", id="text into Parquet"),
        pytest.param(
            {"received_at": None},
            [FAULT | LATE],
            "no received_at",
            id="late, but no arrival times",
        ),
        pytest.param({"cadence_seconds": 600}, [], "no multiple of 15 min", id="cadence finer than the step"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(farm: dict[str, Any], faults: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(make_fleet([one_farm(**farm)], short(faults=faults)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"end": "2024-10-25T00:00Z"}, "start is not before end", id="ends before it starts"),
        pytest.param({"scales": [{"share": 0.5, "hours": 1, "kilometres": 1}]}, "add up to 1", id="half the variance"),
        pytest.param({"faults": [FAULT | {"kind": "sentinel"}]}, "needs signal", id="fault without its signal"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        short(**change)
