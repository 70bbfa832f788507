"""Power curves, observations, quarantine and findings on tables small enough to reckon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest

from stored import store
from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.observations import PowerCurve
from wind_kedro.datasets.derived import Derived
from wind_kedro.evaluation.scores import latest_versions
from wind_kedro.pipelines.data_engineering import create_pipeline, nodes
from wind_kedro.pipelines.data_engineering.signals.aggregation import observed
from wind_kedro.pipelines.data_engineering.signals.operating_states import judged
from wind_kedro.pipelines.data_engineering.validators import BrokenContractError, CountedSignals
from wind_kedro.storage.fingerprints import Recipe

from .conftest import Frames, gusty, signal_rows, weather_rows

Table = pd.DataFrame
SIGNALS = ("power_kw", "wind_speed_ms", "wind_direction_deg", "temperature_c", "pitch_deg")


def timed(rows: list[dict[str, Any]]) -> Any:
    """Timed signals of the hill from short rows: ten minutes each, available twenty after their start."""
    spiked = [f"{name}_{of}" for name in ("power_kw", "wind_speed_ms") for of in ("spiked", "spiked_at")]
    full = []
    for number, row in enumerate(rows, start=1):
        at = pd.Timestamp(row["valid_at"])
        available = pd.Timestamp(row.get("available_at", at + pd.Timedelta(minutes=20)))
        base = {"farm_id": "hill", "turbine_id": "T0", "source_file": "hill.csv", "source_row": number, "superseded_at": pd.NaT,
                "version": 0, "cadence": 600, "retimed": False, "status": "kept", "wind_speed_ms": 8.0}  # fmt: skip
        full.append(base | row | {"valid_at": at, "available_at": available, "arrived_at": available})
    frame = pd.DataFrame(full)
    frame = frame.reindex(columns=[*frame, *(name for name in (*SIGNALS, *spiked) if name not in frame)])
    times = [name for name in frame if name.endswith("_at")]
    numbers = [*SIGNALS, *(name for name in spiked if name not in times)]
    return ibis.memtable(frame.astype(dict.fromkeys(times, "datetime64[us]") | dict.fromkeys(numbers, "float64")))


def labelled(rows: list[dict[str, Any]]) -> Any:
    """Signals of the hill from short rows, on the power curve unless they say otherwise."""
    return timed([{"operating_state": ""} | row for row in rows])


def hour(power: float = 100.0, turbines: int = 3, intervals: int = 6, **row: Any) -> list[dict[str, Any]]:
    """An hour of the hill from noon on; turbine n makes n × power more."""
    return [
        {"turbine_id": f"T{turbine}", "valid_at": f"2024-03-10T12:{10 * step:02d}", "power_kw": power * (turbine + 1)} | row
        for turbine in range(turbines)
        for step in range(intervals)
    ]


@pytest.fixture
def observe(windy: Callable[..., Fleet], now: Clock, settings: Any) -> Callable[..., Table]:
    """Short rows in, the hill's hourly observations out."""

    def run(rows: list[dict[str, Any]], entity: str = "hill", clock: Clock = now, fleet: Fleet | None = None) -> Table:
        found = observed(labelled(rows), fleet or windy(), clock, settings)
        return found[found["entity_id"] == entity].reset_index(drop=True)

    return run


def brief(found: Table) -> list[tuple[str, float, float, float]]:
    return [
        (f"{r.available_at:%H:%M}", r.power_kw, r.available_capacity_kw, round(r.coverage_share, 3)) for r in found.itertuples()
    ]


def test_a_full_hour_is_given_out_when_its_last_row_is_in(observe: Callable[..., Table]) -> None:
    found = observe(hour())
    assert brief(found) == [("13:10", 600.0, 3000.0, 1.0)]
    assert found["valid_at"][0] == pd.Timestamp("2024-03-10T12:00Z")
    assert found["wind_speed_ms"][0] == 8.0


def test_an_hour_with_a_hole_waits_for_the_grace(observe: Callable[..., Table]) -> None:
    assert brief(observe(hour()[:-1])) == [("14:00", 600.0, 3000.0, round(17 / 18, 3))]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A turbine with less than half of its hour does not count; nor does its capacity.
        (hour(turbines=2) + hour(turbines=3)[12:14], [("14:00", 300.0, 2000.0, 0.667)]),
        (hour(turbines=2) + hour(turbines=3)[12:15], [("14:00", 600.0, 3000.0, 0.833)]),
        (hour(turbines=1), []),  # one third is less than half
        (hour(power_kw=None), []),
    ],
)
def test_coverage(observe: Callable[..., Table], rows: list[dict[str, Any]], expected: list[Any]) -> None:
    assert brief(observe(rows)) == expected


def test_late_and_revised_rows_make_versions(observe: Callable[..., Table]) -> None:
    rows = hour()
    rows[0]["available_at"] = "2024-03-10T15:30"  # T0, first interval: late
    rows[17] |= {"superseded_at": pd.Timestamp("2024-03-10T16:00"), "status": "superseded"}
    rows.append(
        rows[17]
        | {
            "power_kw": 360.0,
            "available_at": "2024-03-10T16:00",
            "superseded_at": pd.NaT,
            "status": "kept",
            "version": 1,
        }
    )
    assert brief(observe(rows)) == [
        ("14:00", 600.0, 3000.0, round(17 / 18, 3)),
        ("15:30", 600.0, 3000.0, 1.0),
        ("16:00", 610.0, 3000.0, 1.0),
    ]
    early = Clock(as_of=pd.Timestamp("2024-03-10T15:45Z").to_pydatetime())
    assert len(observe(rows, clock=early)) == 2


def test_a_spike_counts_until_it_is_found(observe: Callable[..., Table]) -> None:
    rows = hour()
    rows[0] |= {"power_kw": None, "power_kw_spiked": 700.0, "power_kw_spiked_at": "2024-03-10T13:30"}
    rows[0] |= {"wind_speed_ms": None, "wind_speed_ms_spiked": 26.0, "wind_speed_ms_spiked_at": "2024-03-10T13:40"}
    found = observe(rows)
    assert brief(found) == [
        ("13:10", 700.0, 3000.0, 1.0),
        ("13:30", 600.0, 3000.0, round(17 / 18, 3)),
        ("13:40", 600.0, 3000.0, round(17 / 18, 3)),
    ]
    # The first turbine's mean is (26 + 5 × 8) / 6 until its power, and with it the row, is gone.
    assert found["wind_speed_ms"].round(6).tolist() == [9.0, 8.0, 8.0]


@pytest.mark.parametrize("operating_state", ["stopped", "curtailed", "derated"])
def test_power_is_of_the_turbines_that_were_available(observe: Callable[..., Table], operating_state: str) -> None:
    rows = hour()
    for row in rows[:6]:  # T0 for the hour
        row |= {"operating_state": operating_state, "power_kw": -3.0}
    for row in rows[6:8]:  # T1 for a third of it: it counts by the rest
        row |= {"operating_state": operating_state, "power_kw": 20.0}
    (found,) = observe(rows).to_dict("records")
    assert (found["power_kw"], found["available_capacity_kw"], found["turbines"]) == (500.0, 2000.0, 2)
    assert found["metered_power_kw"] == pytest.approx(-3.0 + (2 * 20 + 4 * 200) / 6 + 300.0, abs=1e-5)
    shares = (found["stopped_share"], found["curtailed_share"])
    assert shares == pytest.approx((8 / 18, 0.0) if operating_state == "stopped" else (0.0, 8 / 18), abs=1e-6)
    assert found["coverage_share"] == 1.0


def test_ice_is_weather_and_stays_in(observe: Callable[..., Table]) -> None:
    assert brief(observe(hour(operating_state="iced"))) == [("13:10", 600.0, 3000.0, 1.0)]


def test_an_hour_without_an_available_turbine_says_nothing(observe: Callable[..., Table]) -> None:
    assert observe(hour(operating_state="stopped", power=-1.0)).empty


def at_hour(rows: list[dict[str, Any]], start: int) -> list[dict[str, Any]]:
    return [row | {"valid_at": row["valid_at"].replace("T12", f"T{start}")} for row in rows]


def test_a_short_gap_is_filled_from_the_other_turbines_and_says_so(observe: Callable[..., Table]) -> None:
    alone = hour(turbines=1)
    rows = hour() + [row for start in (13, 14, 15) for row in at_hour(alone, start)]
    found = observe(rows)
    assert found["valid_at"].dt.hour.tolist() == [12, 13, 14]  # max_gap_minutes is two hours
    assert found["imputed_share"].tolist() == pytest.approx([0.0, 2 / 3, 2 / 3])
    assert found["power_kw"].tolist() == [600.0, 300.0, 300.0]  # a tenth of rated power, by the one that reported
    assert found["available_capacity_kw"].tolist() == [3000.0] * 3
    assert found["metered_power_kw"].tolist() == [600.0, 100.0, 100.0]
    assert found["turbines"].tolist() == [3, 1, 1]


def test_a_gap_is_not_filled_by_what_was_not_known_yet(observe: Callable[..., Table]) -> None:
    before = [row | {"available_at": "2024-03-11T00:00"} for row in hour()]
    found = observe(before + at_hour(hour(turbines=1), 13))
    assert found["imputed_share"].tolist() == [0.0]


def test_what_was_filled_in_is_no_actual(observe: Callable[..., Table]) -> None:
    found = observe(hour() + at_hour(hour(turbines=1), 13))
    assert len(found) == 2
    assert latest_versions(found, None)["valid_at"].dt.hour.tolist() == [12]


@pytest.mark.parametrize("seconds", [1, 60, 3600])
def test_any_cadence_states_its_coverage(observe: Callable[..., Table], windy: Callable[..., Fleet], seconds: int) -> None:
    fleet = windy(cadence_seconds=seconds)
    begin = pd.Timestamp("2024-03-10T12:00")
    rows = [
        {
            "turbine_id": f"T{turbine}",
            "valid_at": begin + pd.Timedelta(seconds=number * seconds),
            "available_at": begin + pd.Timedelta(minutes=70),
            "power_kw": 100.0 * (turbine + 1),
        }
        for turbine in range(3)
        for number in range(3600 // seconds)
    ]
    assert brief(observe(rows, fleet=fleet)) == [("13:10", 600.0, 3000.0, 1.0)]
    last = rows[: -len(rows) // 3] if seconds == 3600 else rows[: -len(rows) // 12]
    covered = round(len(last) / len(rows), 3)
    (found,) = brief(observe(last, fleet=fleet))
    assert found[3] == pytest.approx(covered, abs=1e-3)
    assert found[0] == "14:00"


def test_a_group_is_all_its_farms_turbines(observe: Callable[..., Table]) -> None:
    shore = [row | {"farm_id": "shore", "power_kw": 50.0} for row in hour(turbines=1)]
    assert brief(observe(hour() + shore, "both")) == [("13:10", 650.0, 4000.0, 1.0)]
    assert brief(observe(hour(), "both")) == [("14:00", 600.0, 3000.0, 0.75)]


def test_a_cadence_that_does_not_divide_is_noted_and_its_signals_are_held(
    windy: Callable[..., Fleet], run_room: Callable[..., Frames], raw_signals: Any, raw_weather: Any, now: Clock, settings: Any
) -> None:
    fleet = windy(cadence_seconds=2400)
    wind = gusty(24 * 4)[::12]  # every two hours
    signals = raw_signals(signal_rows(wind, lambda at: at.isoformat()))
    found = run_room(signals, raw_weather(weather_rows(gusty(24 * 4))), fleet, now, settings)
    assert set(found["observations"].query("entity_id == 'hill' and granularity_minutes == 60")["method"]) == {"held"}
    notes = found["data_quality"].query("check == 'cadence_does_not_fit'")
    assert notes["severity"].unique().tolist() == ["info"]
    assert "60-minute observations of Hill hold the means of the farm's signals of 2400 seconds" in notes["message"].tolist()


def _readings(power_kw: list[float], seconds: int) -> list[dict[str, Any]]:
    """Signals of one turbine from noon on, one after the other, each available ten minutes after its end."""
    begin, length = pd.Timestamp("2024-03-10T12:00"), pd.Timedelta(seconds=seconds)
    return [
        {
            "farm_id": "shore",
            "turbine_id": "T0",
            "valid_at": begin + number * length,
            "available_at": begin + (number + 1) * length + pd.Timedelta(minutes=10),
            "power_kw": power,
        }
        for number, power in enumerate(power_kw)
    ]


def _fleet_of(cards: dict[str, Any], seconds: int, minutes: int) -> Fleet:
    """The shared fleet with signals of that cadence and one product of that granularity."""
    for farm in cards["farms"]:
        farm["signals"]["cadence_seconds"] = seconds
    cards["products"] = [cards["products"][0] | {"granularity_minutes": minutes}]
    return Fleet.from_config(**cards)


@pytest.mark.parametrize(
    ("seconds", "minutes", "power_kw", "expected"),
    [
        pytest.param(900, 5, [300, 600], [300, 300, 300, 600, 600, 600], id="5 of 15 minutes: each part has the mean"),
        pytest.param(900, 10, [300, 600], [300, 450, 600], id="10 of 15 minutes: the middle is half of each"),
        pytest.param(600, 15, [300, 600, 900], [400, 800], id="15 of 10 minutes: two thirds and one third"),
    ],
)
def test_an_interval_that_is_finer_than_the_signals_holds_their_mean(
    observe: Callable[..., Table],
    cards: dict[str, Any],
    seconds: int,
    minutes: int,
    power_kw: list[float],
    expected: list[float],
) -> None:
    fleet = _fleet_of(cards, seconds, minutes)
    found = observe(_readings(power_kw, seconds), "shore", fleet=fleet).query(f"granularity_minutes == {minutes}")
    assert found["power_kw"].tolist() == pytest.approx(expected)
    assert found["coverage_share"].tolist() == [1.0] * len(expected)
    assert set(found["method"]) == {"held"}
    assert found["valid_at"].diff().dropna().unique().tolist() == [pd.Timedelta(minutes=minutes)]
    # Nothing is known of a part before the row that it is part of has arrived.
    rows = _readings(power_kw, seconds)
    last = [
        max(row["available_at"] for row in rows if row["valid_at"] < at + pd.Timedelta(minutes=minutes))
        for at in found["valid_at"].dt.tz_localize(None)
    ]
    assert found["available_at"].dt.tz_localize(None).tolist() == last


def test_a_part_that_is_revised_makes_a_version_of_its_intervals_only(
    observe: Callable[..., Table], cards: dict[str, Any]
) -> None:
    rows = _readings([300, 600], 900)
    rows[0]["superseded_at"] = pd.Timestamp("2024-03-10T14:00")
    rows[0]["status"] = "superseded"
    rows.append(
        rows[0]
        | {
            "power_kw": 360.0,
            "available_at": pd.Timestamp("2024-03-10T14:00"),
            "superseded_at": pd.NaT,
            "status": "kept",
            "version": 1,
        }
    )
    found = observe(rows, "shore", fleet=_fleet_of(cards, 900, 5)).query("granularity_minutes == 5")
    by_interval = found.groupby("valid_at")["power_kw"].agg(list).tolist()
    assert by_interval == [[300, 360]] * 3 + [[600]] * 3


def _any_signals(numbers: np.random.Generator, seconds: dict[str, int], faults: bool) -> list[dict[str, Any]]:
    """A day of both farms; with faults, rows are missing, late, stopped or revised."""
    begin, rows = pd.Timestamp("2024-03-10"), []
    for farm_id, turbine in [("hill", 0), ("hill", 1), ("hill", 2), ("shore", 0)]:
        length = pd.Timedelta(seconds=seconds[farm_id])
        for number in range(pd.Timedelta(days=1) // length):
            chance = numbers.random() if faults else 1.0
            end = begin + (number + 1) * length
            late = pd.Timedelta(minutes=10 if chance > 0.15 else int(numbers.choice([40, 75, 600])))
            row = {
                "farm_id": farm_id,
                "turbine_id": f"T{turbine}",
                "valid_at": end - length,
                "available_at": end + late,
                "power_kw": float(numbers.integers(1000)),
                "operating_state": "stopped" if 0.15 < chance < 0.2 else "",
            }
            if chance < 0.05:
                continue
            if 0.1 < chance < 0.15:
                at = row["available_at"] + pd.Timedelta(minutes=45)
                rows.append(row | {"superseded_at": at, "status": "superseded"})
                row |= {"power_kw": float(numbers.integers(1000)), "available_at": at, "version": 1}
            rows.append(row)
    return rows


_CADENCES = [(600, 900), (1800, 600), (900, 3600), (2400, 300)]


def _two_cadences(cards: dict[str, Any], seconds: tuple[int, int]) -> Fleet:
    """Hill and shore with a cadence each, and products of 5 to 60 minutes."""
    for farm, cadence in zip(cards["farms"], seconds, strict=True):
        farm["signals"]["cadence_seconds"] = cadence
    hours = cards["products"][0]
    cards["products"] = [hours | {"id": f"of_{minutes}", "granularity_minutes": minutes} for minutes in (5, 10, 20, 60)]
    return Fleet.from_config(**cards)


@pytest.mark.parametrize("seconds", _CADENCES)
def test_energy_is_the_same_at_any_granularity(
    cards: dict[str, Any], now: Clock, settings: Any, seconds: tuple[int, int]
) -> None:
    fleet = _two_cadences(cards, seconds)
    rows = _any_signals(np.random.default_rng(seconds), dict(zip(("hill", "shore"), seconds, strict=True)), faults=False)
    found = latest_versions(observed(labelled(rows), fleet, now, settings), None)
    energy = (found["power_kw"] * found["granularity_minutes"]).groupby([found["entity_id"], found["granularity_minutes"]]).sum()
    expected = {farm_id: sum(row["power_kw"] for row in rows if row["farm_id"] == farm_id) for farm_id in ("hill", "shore")}
    made = {farm_id: power * each / 60 for (farm_id, power), each in zip(expected.items(), seconds, strict=True)}
    for entity_id, kw_minutes in (made | {"both": sum(made.values())}).items():
        assert energy[entity_id].tolist() == pytest.approx([kw_minutes] * 4), entity_id


@pytest.mark.parametrize("seconds", _CADENCES)
def test_any_signals_give_the_same_day_by_day_and_nothing_early(
    cards: dict[str, Any], now: Clock, settings: Any, seconds: tuple[int, int], derive: Callable[..., Derived], tmp_path: Path
) -> None:
    fleet = _two_cadences(cards, seconds)
    numbers = np.random.default_rng(seconds)
    rows = _any_signals(numbers, dict(zip(("hill", "shore"), seconds, strict=True)), faults=True)
    rows = [row | {"valid_at": row["valid_at"] + day, "available_at": row["available_at"] + day,
                   "superseded_at": row.get("superseded_at", pd.NaT) + day}
            for day in (pd.Timedelta(days=number) for number in range(2)) for row in rows]  # fmt: skip
    whole = observed(labelled(rows), fleet, now, settings)
    entry = {"key": ["farm_id"], "time": "valid_at"}
    signals = store(tmp_path / "signals", entry, labelled(rows).to_pandas())
    by_day = derive("observations", nodes.aggregate_observations(signals, fleet, now, settings), max_rows=1)
    pd.testing.assert_frame_equal(by_day.frame(), whole)
    # What is known at a time is made of the rows that had arrived by then.
    for hours in numbers.integers(2, 50, 2).tolist():
        at = pd.Timestamp("2024-03-10") + pd.Timedelta(hours=hours)
        there = [row for row in rows if row["available_at"] <= at]
        there = [row | ({"superseded_at": pd.NaT, "status": "kept"} if row["superseded_at"] > at else {}) for row in there]
        clock = Clock(as_of=at.to_pydatetime())
        then = observed(labelled(there), fleet, clock, settings)
        known = whole[whole["available_at"] <= at.tz_localize("UTC")].reset_index(drop=True)
        pd.testing.assert_frame_equal(then.reset_index(drop=True), known)


# --- power curve -------------------------------------------------------------------------------------------------------


def calibrated(*times: str) -> Table:
    return pd.DataFrame({"farm_id": "hill", "fitted_at": pd.to_datetime(list(times), utc=True), "reading": "as_stamped"})


def fitted(rows: Any, calibration: Table, fleet: Fleet, settings: Any) -> Table:
    """Curves of rows in memory."""
    counts = nodes.count_cells(rows, calibration, fleet, settings)
    fits = nodes.fit_power_curves(counts.work(counts.wanted), calibration, fleet, settings)
    found: Table = fits.work(fits.wanted)
    return found


def cloud(day: str = "2024-03-10") -> list[dict[str, Any]]:
    """Five points in each bin from 3 to 12 m/s, around ten per cent of rated power a metre per second."""
    stamps = iter(pd.date_range(day, periods=200, freq="10min"))
    return [
        {"valid_at": str(next(stamps)), "wind_speed_ms": 3.25 + 0.5 * place, "power_kw": 50.0 * place + deviation}
        for place in range(18)
        for deviation in (-10, -5, 0, 5, 400)
    ]


def test_the_curve_is_the_median_of_each_bin_and_outliers_do_not_move_it(windy: Callable[..., Fleet], settings: Any) -> None:
    curve = fitted(timed(cloud()), calibrated("2024-03-12"), windy(), settings)
    assert curve["wind_speed_ms"].tolist() == [3.25 + 0.5 * place for place in range(18)]
    assert curve["rows"].tolist() == [5] * 18
    assert curve["power_share"].to_numpy() == pytest.approx([0.05 * place for place in range(18)], abs=0.005)
    middle = curve.loc[9]  # 1.5 m/s are three bins, and the tolerance is one more
    assert middle["low_share"] == pytest.approx(0.45 - 0.15 - 0.05, abs=0.005)
    assert middle["high_share"] == pytest.approx(0.45 + 0.15 + 0.05, abs=0.005)


def test_a_fleet_of_meters_that_measure_no_wind_has_no_curve(windy: Callable[..., Fleet], settings: Any) -> None:
    rows = timed([row | {"wind_speed_ms": None} for row in cloud()])
    curve = fitted(rows, calibrated("2024-03-12"), windy(), settings)
    assert PowerCurve.validate(curve).empty
    assert (judged(rows, curve, windy(), settings).to_pandas()["operating_state"] == "").all()


def test_points_are_judged_by_the_curve_in_force(windy: Callable[..., Fleet], settings: Any) -> None:
    fleet = windy()
    rows = timed(cloud() + cloud("2024-03-13"))
    curve = fitted(rows, calibrated("2024-03-12", "2024-04-01"), fleet, settings)
    assert curve.groupby("fitted_at")["rows"].max().tolist() == [5, 10]
    found = judged(rows, curve, fleet, settings).to_pandas()
    off = found.loc[found["operating_state"] != "", ["valid_at", "power_kw"]]
    assert len(off) == 18  # of the second day; on the first there was no curve
    assert (off["valid_at"] >= "2024-03-13").all()


def test_a_superseded_row_counts_until_it_is_superseded(windy: Callable[..., Fleet], settings: Any) -> None:
    rows = cloud()
    for row in rows:
        row |= {"superseded_at": pd.Timestamp("2024-03-20"), "status": "superseded"}
    curve = fitted(timed(rows), calibrated("2024-03-12", "2024-04-01"), windy(), settings)
    assert curve["fitted_at"].unique().tolist() == [pd.Timestamp("2024-03-12", tz="UTC")]


# --- nothing is lost ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoilt() -> list[dict[str, Any]]:
    """Four days of the hill, with one of everything."""
    rows = signal_rows(gusty(24 * 4), lambda at: at.isoformat())
    rows[30] |= {"power_kw": "#N/A!"}
    rows[31] |= {"turbine_id": "T9"}
    rows[32] |= {"timestamp": "noon"}
    rows[33] |= {"timestamp": rows[33]["timestamp"].replace(":00+", ":07+")}
    rows[34] |= {"fault": "the row has 3 values"}
    rows[35] |= {"power_kw": "-999"}
    rows += [dict(rows[60]), rows[61] | {"power_kw": "1.5"}]
    return rows


def test_every_row_is_accounted_for(
    spoilt: list[dict[str, Any]],
    run_room: Callable[..., Frames],
    raw_signals: Any,
    raw_weather: Any,
    windy: Any,
    settings: Any,
    now: Clock,
) -> None:
    weather = weather_rows(gusty(24 * 4))
    weather += [dict(weather[5]), weather[6] | {"wind_speed_100m_ms": "x"}]
    why = "farm 'shore', shore.csv: the file is missing"
    unreadable = [{"farm_id": "shore", "source_file": "shore.csv", "source_row": 0, "fault": why}]
    found = run_room(raw_signals(spoilt + unreadable), raw_weather(weather), windy(), now, settings)
    quality = found["data_quality"].set_index(["farm_id", "source_table", "check"])["count"]
    hill = quality["hill", "signals"]
    assert hill["rows_in"] == len(spoilt) == hill["kept"] + hill["superseded"] + hill["duplicate"] + hill["quarantined"]
    assert len(found["signals"]) + hill["duplicate"] + len(found["quarantine"].query("source_table == 'signals'")) == len(spoilt)
    assert hill["duplicate"] == 1
    reasons = found["quarantine"].query("source_table == 'signals'")["reason"].value_counts().to_dict()
    assert reasons == {
        "conflicting_stamp": 2,
        "unparseable": 1,
        "unknown_turbine": 1,
        "bad_stamp": 1,
        "off_grid": 1,
        "ragged": 1,
    }
    row = found["quarantine"].query("reason == 'unparseable' and source_table == 'signals'").iloc[0]
    assert row["detail"] == "power_kw '#N/A!' is not a number"
    assert '"power_kw": "#N/A!"' in row["raw"]
    assert row["source_row"] == 31
    assert quality["hill", "weather"].loc[["rows_in", "kept", "duplicate", "quarantined"]].tolist() == [
        len(weather),
        len(weather) - 2,
        1,
        1,
    ]
    shore = found["data_quality"].query("farm_id == 'shore' and check == 'source_unreadable'").iloc[0]
    assert (shore["severity"], shore["message"]) == ("error", why)


def test_a_lost_row_is_a_finding_of_severity_error(
    spoilt: list[dict[str, Any]],
    run_room: Callable[..., Frames],
    raw_signals: Any,
    raw_weather: Any,
    windy: Any,
    settings: Any,
    now: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = nodes.build_quarantine

    lost: list[int] = []

    def losing(*tables: Any) -> Recipe:
        made = honest(*tables)

        def work(part: Table) -> Table:
            lost.append(1)
            found: Table = made.work(part).iloc[int(len(lost) == 1) :]
            return found

        return Recipe(made.wanted, work)

    monkeypatch.setattr(nodes, "build_quarantine", losing)
    found = run_room(raw_signals(spoilt), raw_weather(weather_rows(gusty(24 * 4))), windy(), now, settings)
    lost = found["data_quality"].query("check == 'rows_lost'")
    assert lost[["farm_id", "source_table", "count", "severity"]].to_numpy().tolist() == [["hill", "signals", 1, "error"]]


def test_a_farm_without_a_readable_row_has_all_of_them_in_quarantine(
    run_room: Callable[..., Frames], raw_signals: Any, raw_weather: Any, windy: Any, settings: Any, now: Clock
) -> None:
    rows = signal_rows(gusty(24 * 4), lambda at: at.isoformat())
    bad = [row | {"farm_id": "shore", "source_file": "shore.csv", "turbine_id": "T0", "power_kw": "#VALUE!"} for row in rows]
    weather = weather_rows(gusty(24 * 4))
    found = run_room(raw_signals(rows + bad), raw_weather(weather), windy(), now, settings)
    quality = found["data_quality"].query("source_table == 'signals'").set_index(["farm_id", "check"])
    shore = quality.loc["shore"]
    assert shore.loc["rows_in", "count"] == shore.loc["quarantined", "count"] == shore.loc["unparseable", "count"] == len(bad)
    assert shore.loc["quarantined", "severity"] == "error"
    assert (found["quarantine"]["farm_id"] == "shore").sum() == len(bad)
    assert quality.loc[("hill", "quarantined"), "count"] == 0


def test_a_farm_of_a_few_days_says_how_long_it_waits(
    run_room: Callable[..., Frames], raw_signals: Any, raw_weather: Any, windy: Any, settings: Any
) -> None:
    rows = signal_rows(gusty(24 * 4), lambda at: at.isoformat())
    clock = Clock(as_of=(pd.Timestamp(rows[-1]["timestamp"]) + pd.Timedelta(hours=1)).to_pydatetime())
    young = [row | {"farm_id": "shore", "source_file": "shore.csv", "turbine_id": "T0"} for row in rows[-12:]]
    found = run_room(raw_signals(rows + young), raw_weather(weather_rows(gusty(24 * 4))), windy(), clock, settings)
    own = found["data_quality"].query("farm_id == 'shore' and source_table == 'signals'").set_index("check")
    assert own.loc["clock_not_calibrated", ["count", "severity"]].tolist() == [len(young), "warning"]
    assert "when the farm's clock is first checked, which needs 2 days" in own.loc["clock_not_calibrated", "message"]
    assert "nothing_available" not in own.index


def test_a_fleet_without_a_usable_row_has_all_of_them_in_quarantine(
    run_room: Callable[..., Frames], raw_signals: Any, raw_weather: Any, windy: Any, settings: Any
) -> None:
    rows = signal_rows(gusty(24 * 4), lambda at: (at + pd.Timedelta(minutes=3)).isoformat())
    clock = Clock(as_of=(pd.Timestamp(rows[-1]["timestamp"]) + pd.Timedelta(hours=1)).to_pydatetime())
    found = run_room(raw_signals(rows), raw_weather(weather_rows(gusty(24 * 4))), windy(), clock, settings)
    assert set(found["quarantine"]["reason"]) == {"off_grid"}
    assert len(found["quarantine"]) == len(rows)
    assert found["observations"].empty
    checks = found["data_quality"].query("farm_id == 'hill' and source_table == 'signals'").set_index("check")
    assert checks.loc["quarantined", "severity"] == "error"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"status": "lost"}, "status is none of kept, superseded in 1 rows"),
        ({"wind_speed_ms": -1.0}, "wind_speed_ms is below 0 in 1 rows"),
        ({"wind_direction_deg": 361.0}, "wind_direction_deg is above 360 in 1 rows"),
        ({"turbine_id": None}, "turbine_id is missing in 1 rows"),
    ],
)
def test_the_counted_contract_of_signals_can_fail(spoil: dict[str, Any], message: str, windy: Any, settings: Any) -> None:
    rows = timed(cloud())
    signals = judged(rows, fitted(rows, calibrated("2024-03-12"), windy(), settings), windy(), settings)
    CountedSignals().validate(signals)
    wrong = {
        column: ibis.ifelse(signals.source_row == 4, ibis.literal(value, signals[column].type()), signals[column])
        for column, value in spoil.items()
    }
    with pytest.raises(BrokenContractError, match=message):
        CountedSignals().validate(signals.mutate(**wrong))
    with pytest.raises(BrokenContractError, match="columns missing or unknown: status"):
        CountedSignals().validate(signals.drop("status"))


def test_the_pipeline_gives_what_the_other_rooms_read() -> None:
    outputs = create_pipeline().all_outputs()
    assert {
        "signals",
        "quarantine",
        "clock_calibration",
        "suspected_units",
        "power_curve",
        "observations",
        "weather",
        "data_quality",
    } <= outputs
    assert create_pipeline().inputs() == {
        "clock_calibration_before",
        "raw_files",
        "signals_raw",
        "weather_raw",
        "params:fleet",
        "params:clock",
        "params:data_engineering",
        "params:readiness",
    }
