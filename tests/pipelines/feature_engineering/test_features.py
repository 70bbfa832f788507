"""As-of features on hand-sized tables. The hill's product is hourly, issued at 06:00 and 18:00, with the gate an hour ahead."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wind_kedro.cards import CardError, Fleet
from wind_kedro.cards.dated import FAR_PAST
from wind_kedro.clock import Clock
from wind_kedro.contracts.features import Features as FeaturesContract
from wind_kedro.pipelines.feature_engineering.nodes import FeatureParameters, NoWeatherError
from wind_kedro.pipelines.feature_engineering.other_farms import other_farms
from wind_kedro.pipelines.feature_engineering.settings import COLUMNS_OF, family_of

from .building import features_of

PARAMETERS = FeatureParameters(neighbour_minutes=[-60, 60], window_minutes=[120], production_memory_hours=24)
RISING = [float(hour) for hour in range(25)]  # m/s: as many as hours since the run began

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
RunOf = Callable[..., list[dict[str, Any]]]
Features = Callable[..., pd.DataFrame]


@pytest.fixture
def features(fleet: Fleet, blow: MakeTable, observe: MakeTable) -> Features:
    def make(
        weather: list[dict[str, Any]],
        observations: list[dict[str, Any]] | None = None,
        *,
        as_of: str = "2024-03-01T12:00",
        entity: str = "hill",
        issued: str | None = None,
    ) -> pd.DataFrame:
        table, _ = features_of(
            observe(observations or []),
            blow(weather),
            fleet,
            Clock.model_validate({"as_of": as_of}),
            PARAMETERS,
        )
        table = FeaturesContract.validate(table)
        assert str(table["weather_run_at"].dtype) == "datetime64[us, UTC]"
        table = table[table["entity_id"] == entity]
        return table if issued is None else table[table["issued_at"] == pd.Timestamp(issued, tz="UTC")]

    return make


def _wind(table: pd.DataFrame) -> list[float]:
    return table["wind_speed_100m_ms"].tolist()


def _times(times: pd.Series) -> list[str]:
    return [f"{time:%d %H:%M}" for time in times]


NAN = pytest.approx(np.nan, nan_ok=True)


# --- which intervals -------------------------------------------------------------------------------------------------


def test_the_first_interval_is_the_first_whose_gate_is_open_and_the_last_starts_within_the_horizon(
    features: Features, run_of: RunOf
) -> None:
    table = features(run_of("2024-03-01 00:00", RISING))
    assert _times(table["issued_at"]) == ["01 06:00"] * 3
    assert _times(table["valid_at"]) == ["01 07:00", "01 08:00", "01 09:00"]
    assert table["lead_minutes"].tolist() == [60, 120, 180]
    assert table["hour_of_day"].tolist() == [7, 8, 9]


def test_a_quarter_hourly_product_keeps_to_the_grid_whatever_its_issue_time(features: Features, run_of: RunOf) -> None:
    # Issued 06:10, the gate 20 minutes ahead: 06:30 is open, and on the grid; 07:40 is the end of the horizon.
    table = features(run_of("2024-03-01 00:00", RISING, farm_id="shore"), entity="shore")
    assert _times(table["valid_at"]) == ["01 06:30", "01 06:45", "01 07:00", "01 07:15", "01 07:30"]
    assert table["lead_minutes"].tolist() == [20, 35, 50, 65, 80]
    # The middle of 06:30 to 06:45 is 6 hours and 37.5 minutes after the run began.
    assert _wind(table) == pytest.approx([6.625, 6.875, 7.125, 7.375, 7.625])
    assert table["hour_of_day"].tolist() == [6.5, 6.75, 7, 7.25, 7.5]


def test_a_gate_that_closes_just_then_is_closed_for_earlier_intervals_only(
    cards: dict[str, Any], blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    cards["markets"][0]["gate_closure_minutes"] = 61
    fleet = Fleet.from_config(**cards)
    clock = Clock.model_validate({"as_of": "2024-03-01T12:00"})
    table, _ = features_of(observe([]), blow(run_of("2024-03-01 00:00", RISING)), fleet, clock, PARAMETERS)
    assert table.loc[table["entity_id"] == "hill", "lead_minutes"].tolist() == [120, 180]


def test_revisions_have_features_of_what_is_left_of_their_issue(
    cards: dict[str, Any], blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    clock = Clock.model_validate({"as_of": "2024-03-01T12:00"})
    given = (observe([]), blow(run_of("2024-03-01 00:00", RISING)))
    plain, _ = features_of(*given, Fleet.from_config(**cards), clock, PARAMETERS)
    cards["products"][0]["revisions"] = {"every_minutes": 60}
    table, _ = features_of(*given, Fleet.from_config(**cards), clock, PARAMETERS)
    hill = table[table["entity_id"] == "hill"]
    assert dict(hill.groupby("issued_at")["lead_minutes"].agg(list).items()) == {
        pd.Timestamp(f"2024-03-01T{hour:02d}:00Z"): leads for hour, leads in ((6, [60, 120, 180]), (7, [60, 120]), (8, [60]))
    }
    issue = table[table["issued_at"].isin(plain["issued_at"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(issue, plain)


@pytest.mark.parametrize(
    ("as_of", "hours"),
    [
        pytest.param("2024-03-29T12:00", 24, id="an ordinary day"),
        pytest.param("2024-03-30T12:00", 23, id="the day of the change in spring"),
    ],
)
def test_a_day_ahead_product_has_the_hours_of_the_next_local_day(
    cards: dict[str, Any], blow: MakeTable, observe: MakeTable, run_of: RunOf, as_of: str, hours: int
) -> None:
    del cards["products"][0]["horizon_minutes"]
    cards["products"][0] |= {"delivery_days": [1], "issue_times": ["09:00"], "time_zone": "Europe/London"}
    fleet = Fleet.from_config(**cards)
    weather = blow(run_of("2024-03-29 00:00", [hour / 10 for hour in range(80)]))
    table, _ = features_of(observe([]), weather, fleet, Clock.model_validate({"as_of": as_of}), PARAMETERS)
    newest = table[(table["entity_id"] == "hill") & (table["issued_at"] == table["issued_at"].max())]
    starts = newest["valid_at"].dt.tz_convert("Europe/London")
    assert len(newest) == hours
    assert {f"{start:%d}" for start in starts} == {f"{pd.Timestamp(as_of) + pd.Timedelta(days=1):%d}"}
    assert newest["wind_speed_100m_ms"].notna().all()


def test_issues_run_from_the_first_weather_to_as_of(features: Features, run_of: RunOf) -> None:
    weather = run_of("2024-03-01 00:00", RISING, available_at=pd.Timestamp("2024-03-01 06:00", tz="UTC"))
    table = features(weather, as_of="2024-03-02T06:00")
    assert list(dict.fromkeys(_times(table["issued_at"]))) == ["01 06:00", "01 18:00", "02 06:00"]


# --- which run -------------------------------------------------------------------------------------------------------


def test_wind_is_read_in_the_middle_of_the_interval(features: Features, run_of: RunOf) -> None:
    table = features(run_of("2024-03-01 00:00", RISING))
    assert _wind(table) == [7.5, 8.5, 9.5]
    assert table["wind_speed_100m_cubed"].tolist() == pytest.approx([7.5**3, 8.5**3, 9.5**3])
    assert table["wind_speed_100m_ms_minus_60min"].tolist() == [6.5, 7.5, 8.5]
    assert table["wind_speed_100m_ms_plus_60min"].tolist() == [8.5, 9.5, 10.5]
    assert table["wind_speed_100m_ms_mean_120min"].tolist() == [7.5, 8.5, 9.5]
    # 6.5, 7, 7.5, 8, 8.5: squared deviations 1, 1/4, 0, 1/4, 1; their mean is a half.
    assert table["wind_speed_100m_ms_std_120min"].tolist() == pytest.approx([0.5**0.5] * 3)
    assert _times(table["weather_run_at"]) == ["01 00:00"] * 3
    assert table["weather_age_minutes"].tolist() == [360.0] * 3


def _run_at(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(_times(table["weather_run_at"].dropna())))


AVAILABLE = "available_at"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param(
            {"run_at": "2024-03-01 06:00", AVAILABLE: "2024-03-01 18:00"},
            "01 06:00",
            id="the newest that has arrived by then",
        ),
        pytest.param(
            {"run_at": "2024-03-01 06:00", AVAILABLE: "2024-03-01 18:01"},
            "01 00:00",
            id="not one that arrives a minute later",
        ),
        pytest.param(
            {"run_at": "2024-02-29 18:00", AVAILABLE: "2024-03-01 17:00"},
            "01 00:00",
            id="an older one that comes late does not replace a newer",
        ),
        pytest.param(
            {"run_at": "2024-03-01 06:00", AVAILABLE: "2024-03-01 12:00", "hours": 13},
            "01 00:00",
            id="not a newer one that breaks off before the horizon",
        ),
    ],
)
def test_the_newest_run_that_had_arrived_is_read(
    features: Features, run_of: RunOf, second: dict[str, Any], expected: str
) -> None:
    speeds = [100.0 - hour for hour in range(25)][: second.get("hours", 48)]
    other = run_of(second["run_at"], speeds, available_at=pd.Timestamp(second[AVAILABLE], tz="UTC"))
    table = features([*run_of("2024-03-01 00:00", RISING), *other], as_of="2024-03-01T18:00", issued="2024-03-01 18:00")
    assert _run_at(table) == [expected]
    began = pd.Timestamp(f"2024-03-{expected}", tz="UTC")
    hours = (table["valid_at"] - began) / pd.Timedelta(hours=1) + 0.5
    assert _wind(table) == pytest.approx((hours if expected == "01 00:00" else 100 - hours).tolist())


def _in_two_parts(run_of: RunOf, first_hours: int, second_part_at: str) -> list[dict[str, Any]]:
    rows = run_of("2024-03-01 06:00", [50.0] * 25, available_at=pd.Timestamp("2024-03-01 12:00", tz="UTC"))
    return rows[:first_hours] + [row | {AVAILABLE: pd.Timestamp(second_part_at, tz="UTC")} for row in rows[first_hours:]]


@pytest.mark.parametrize("as_of", ["2024-03-01T18:00", "2024-03-01T19:00", "2024-03-02T00:00"])
def test_a_run_that_had_not_wholly_arrived_is_not_read_whenever_one_looks(features: Features, run_of: RunOf, as_of: str) -> None:
    # At 18:00 the new run reaches 20:00, not the horizon at 22:00; what comes at 18:30 was not known. A backtest sees the same.
    weather = [*run_of("2024-03-01 00:00", RISING), *_in_two_parts(run_of, 15, "2024-03-01 18:30")]
    table = features(weather, as_of=as_of, issued="2024-03-01 18:00")
    assert _run_at(table) == ["01 00:00"]
    assert _wind(table) == [19.5, 20.5, 21.5]


def test_of_a_run_in_parts_only_what_had_arrived_is_read(features: Features, run_of: RunOf) -> None:
    # No other run there is: the hours up to 20:00 are better than nothing, and the rest is not known yet.
    for as_of in ("2024-03-01T18:00", "2024-03-02T00:00"):
        table = features(_in_two_parts(run_of, 15, "2024-03-01 18:30"), as_of=as_of, issued="2024-03-01 18:00")
        assert _wind(table) == [50, NAN, NAN]


def test_runs_are_never_mixed_nor_prolonged(features: Features, run_of: RunOf) -> None:
    # The run ends at 08:00: what the older run says about 09:00 is not put behind it, for both would break off at the join.
    weather = [*run_of("2024-02-29 18:00", [20.0] * 15), *run_of("2024-03-01 00:00", RISING[:9])]
    table = features(weather, issued="2024-03-01 06:00")
    assert _wind(table) == [7.5, NAN, NAN]
    assert table["wind_speed_100m_ms_plus_60min"].tolist() == [NAN, NAN, NAN]
    assert table["wind_speed_100m_ms_minus_60min"].tolist() == [6.5, 7.5, NAN]
    assert table["weather_run_at"].isna().tolist() == [False, True, True]
    # The window is cut at the end of the run: 6.5, 7, 7.5, 8 of five points.
    assert table["wind_speed_100m_ms_mean_120min"].tolist()[0] == 7.25


def test_a_missing_value_in_a_run_is_missing_in_its_features(features: Features, run_of: RunOf) -> None:
    weather = run_of("2024-03-01 00:00", RISING, temperature_c=10.0)
    weather[8] = weather[8] | {"temperature_c": None}
    table = features(weather)
    assert table["temperature_c"].tolist() == [NAN, NAN, 10.0]
    assert table["pressure_pa"].isna().all()
    assert _wind(table) == [7.5, 8.5, 9.5]


def test_what_came_after_as_of_does_not_exist(features: Features, run_of: RunOf) -> None:
    later = run_of("2024-03-01 06:00", RISING, available_at=pd.Timestamp("2024-03-01 12:01", tz="UTC"))
    pd.testing.assert_frame_equal(
        features([*run_of("2024-03-01 00:00", RISING), *later]), features(run_of("2024-03-01 00:00", RISING))
    )


# --- what is made of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("u", "v", "sine", "cosine"),
    [
        pytest.param(0, -10, 0, 1, id="north"),
        pytest.param(-10, 0, 1, 0, id="east"),
        pytest.param(0, 10, 0, -1, id="south"),
        pytest.param(10, 0, -1, 0, id="west"),
        pytest.param(-3, -3, 0.5**0.5, 0.5**0.5, id="north-east"),
    ],
)
def test_the_direction_is_where_the_wind_comes_from(
    features: Features, run_of: RunOf, u: float, v: float, sine: float, cosine: float
) -> None:
    table = features(run_of("2024-03-01 00:00", RISING, wind_u_100m_ms=u, wind_v_100m_ms=v))
    assert table["wind_direction_sin"].tolist() == pytest.approx([sine] * 3)
    assert table["wind_direction_cos"].tolist() == pytest.approx([cosine] * 3)


def test_between_north_west_and_north_east_the_wind_is_north_not_south(features: Features, run_of: RunOf) -> None:
    weather = run_of("2024-03-01 00:00", RISING, wind_v_100m_ms=-5.0)
    weather = [row | {"wind_u_100m_ms": 5.0 if hour % 2 else -5.0} for hour, row in enumerate(weather)]
    assert features(weather)["wind_direction_cos"].tolist() == pytest.approx([1.0] * 3)


def test_speed_is_brought_to_standard_density(features: Features, run_of: RunOf) -> None:
    # A density of 1.225 / 8 kg/m3 halves the speed that counts; where it is not known, it is taken as standard.
    thin = features(run_of("2024-03-01 00:00", RISING, air_density_kgm3=1.225 / 8))
    assert thin["wind_speed_density_ms"].tolist() == pytest.approx([3.75, 4.25, 4.75])
    assert features(run_of("2024-03-01 00:00", RISING))["wind_speed_density_ms"].tolist() == [7.5, 8.5, 9.5]


def test_models_are_averaged_and_their_spread_told(features: Features, run_of: RunOf) -> None:
    alpha, beta = (
        run_of("2024-03-01 00:00", RISING),
        run_of("2024-03-01 00:00", [speed + 4 for speed in RISING], weather_model="beta"),
    )
    both = features([*alpha, *beta])
    assert _wind(both) == [9.5, 10.5, 11.5]
    assert both["weather_models"].tolist() == [2] * 3
    assert both["weather_spread_ms"].tolist() == [2.0] * 3


def test_a_model_that_is_missing_is_not_counted(features: Features, run_of: RunOf) -> None:
    # beta breaks off at 09:00: the last interval has alpha alone, whose spread is not nothing but not known.
    beta = run_of("2024-03-01 00:00", [speed + 4 for speed in RISING[:10]], weather_model="beta")
    table = features([*run_of("2024-03-01 00:00", RISING), *beta])
    assert _wind(table) == [9.5, 10.5, 9.5]
    assert table["weather_models"].tolist() == [2, 2, 1]
    assert table["weather_spread_ms"].tolist() == [2, 2, NAN]


def test_the_age_is_that_of_the_newest_model(features: Features, run_of: RunOf) -> None:
    table = features([*run_of("2024-02-29 18:00", RISING), *run_of("2024-03-01 00:00", RISING, weather_model="beta")])
    assert table["weather_age_minutes"].tolist() == [360.0] * 3
    assert _run_at(table) == ["01 00:00"]


def test_a_group_is_averaged_by_capacity(features: Features, run_of: RunOf) -> None:
    # 3,000 kW of hill and 1,000 kW of shore: (3 * 7.5 + 1 * 11.5) / 4.
    weather = [
        *run_of("2024-03-01 00:00", RISING),
        *run_of("2024-03-01 00:00", [speed + 4 for speed in RISING], farm_id="shore"),
    ]
    assert _wind(features(weather, entity="both")) == [8.5, 9.5, 10.5]
    assert _wind(features(weather, entity="hill")) == [7.5, 8.5, 9.5]


def test_a_group_goes_on_with_the_farms_that_have_weather(features: Features, run_of: RunOf) -> None:
    shore = run_of("2024-03-01 00:00", [speed + 4 for speed in RISING[:9]], farm_id="shore")
    assert _wind(features([*run_of("2024-03-01 00:00", RISING), *shore], entity="both")) == [8.5, 8.5, 9.5]
    assert _wind(features(run_of("2024-03-01 00:00", RISING), entity="both")) == [7.5, 8.5, 9.5]


# --- last production -------------------------------------------------------------------------------------------------


def _production(table: pd.DataFrame) -> tuple[Any, Any]:
    pairs = table[["last_power_share", "last_power_age_minutes"]].drop_duplicates()
    assert len(pairs) == 1  # the same for every interval of an issue
    return tuple(pairs.iloc[0])


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        pytest.param([], (NAN, NAN), id="nothing known"),
        pytest.param(
            [{"valid_at": "2024-03-01 03:00", "share": 0.3}, {"valid_at": "2024-03-01 04:00", "share": 0.4}],
            (0.4, 120),
            id="the newest",
        ),
        pytest.param(
            [{"valid_at": "2024-03-01 03:00", "share": 0.3}, {"valid_at": "2024-03-01 05:00", "share": 0.5}],
            (0.3, 180),
            id="not one that arrives ten minutes later",
        ),
        pytest.param(
            [{"valid_at": "2024-03-01 04:00", "share": 0.4, "available_at": "2024-03-01 06:00"}],
            (0.4, 120),
            id="one that arrives just then",
        ),
        pytest.param(
            [
                {"valid_at": "2024-03-01 04:00", "share": 0.4},
                {"valid_at": "2024-03-01 04:00", "share": 0.6, "available_at": "2024-03-01 06:00"},
            ],
            (0.6, 120),
            id="the newest version",
        ),
        pytest.param(
            [
                {"valid_at": "2024-03-01 04:00", "share": 0.4},
                {"valid_at": "2024-03-01 04:00", "share": 0.6, "available_at": "2024-03-01 06:01"},
            ],
            (0.4, 120),
            id="not a revision to come",
        ),
        pytest.param(
            [
                {"valid_at": "2024-03-01 04:00", "share": 0.4},
                {"valid_at": "2024-03-01 03:00", "share": 0.9, "available_at": "2024-03-01 05:59"},
            ],
            (0.4, 120),
            id="not a late revision of an older interval",
        ),
        pytest.param([{"valid_at": "2024-02-29 06:00", "share": 0.2}], (0.2, 1440), id="as far as memory goes"),
        pytest.param([{"valid_at": "2024-02-29 05:00", "share": 0.2}], (NAN, NAN), id="and no further"),
        pytest.param(
            [{"valid_at": "2024-03-01 04:00", "power_kw": 500, "available_capacity_kw": 1000, "turbines": 1}],
            (0.5, 120),
            id="a share of what was available",
        ),
        pytest.param([{"valid_at": "2024-03-01 04:00", "share": 0.4, "entity_id": "both"}], (NAN, NAN), id="not another's"),
        pytest.param(
            [{"valid_at": "2024-03-01 04:00", "share": 0.4, "granularity_minutes": 15}],
            (NAN, NAN),
            id="not of another granularity",
        ),
    ],
)
def test_the_last_production_known(
    features: Features, run_of: RunOf, observations: list[dict[str, Any]], expected: tuple[Any, Any]
) -> None:
    assert _production(features(run_of("2024-03-01 00:00", RISING), observations)) == expected


# --- when there is nothing -------------------------------------------------------------------------------------------


def test_without_any_weather_one_line_says_so(features: Features) -> None:
    with pytest.raises(NoWeatherError, match=r"^no features as of 2024-03-01 12:00 UTC: the weather is empty$"):
        features([])


def test_before_the_first_weather_there_is_nothing(features: Features, run_of: RunOf) -> None:
    with pytest.raises(NoWeatherError, match="no features as of 2024-02-01"):
        features(run_of("2024-03-01 00:00", RISING), as_of="2024-02-01")


def test_an_entity_without_weather_is_left_out_and_the_others_are_not(features: Features, run_of: RunOf) -> None:
    weather = run_of("2024-03-01 00:00", RISING)
    assert features(weather, entity="shore").empty
    assert len(features(weather, entity="hill")) == 3


def test_a_farm_that_fails_does_not_stop_the_others(
    features: Features, run_of: RunOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from wind_kedro.pipelines.feature_engineering import nodes

    real = nodes.features_of_entity

    def breaks_at_both(product: Any, entity_id: str, *rest: Any) -> Any:
        if entity_id == "both":
            raise ZeroDivisionError("no farms")
        return real(product, entity_id, *rest)

    monkeypatch.setattr(nodes, "features_of_entity", breaks_at_both)
    assert features(run_of("2024-03-01 00:00", RISING), entity="both").empty
    assert len(features(run_of("2024-03-01 00:00", RISING), entity="hill")) == 3
    assert "hours/both: no features: ZeroDivisionError: no farms" in caplog.text


def test_where_all_fail_the_reasons_are_told(features: Features, run_of: RunOf, monkeypatch: pytest.MonkeyPatch) -> None:
    from wind_kedro.pipelines.feature_engineering import nodes

    def breaks(*arguments: Any) -> Any:
        raise ZeroDivisionError("no farms")

    monkeypatch.setattr(nodes, "features_of_entity", breaks)
    with pytest.raises(NoWeatherError, match="hill: ZeroDivisionError: no farms"):
        features(run_of("2024-03-01 00:00", RISING))


def test_the_inputs_are_left_as_they_are(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    weather, observations = (
        blow(run_of("2024-03-01 00:00", RISING)),
        observe([{"valid_at": "2024-03-01 03:00", "share": 0.3}]),
    )
    copies = weather.copy(), observations.copy()
    features_of(observations, weather, fleet, Clock(as_of=dt.datetime(2024, 3, 1, 12, tzinfo=dt.UTC)), PARAMETERS)
    pd.testing.assert_frame_equal(weather, copies[0])
    pd.testing.assert_frame_equal(observations, copies[1])


# --- versions and points of weather --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrived", "expected"),
    [("2024-03-01 06:00", [7.5, 9.5, 10.5]), ("2024-03-01 06:01", [7.5, 8.5, 9.5])],
    ids=["revised by the issue", "revised a minute later"],
)
def test_the_newest_version_of_a_run_by_the_issue_counts(
    features: Features, run_of: RunOf, arrived: str, expected: list[float]
) -> None:
    first = run_of("2024-03-01 00:00", RISING)
    # 9:00 becomes 11 m/s, the hours beside it stay: half way to them it is (8 + 11) / 2 and (11 + 10) / 2.
    revised = first[9] | {"wind_speed_100m_ms": 11.0, AVAILABLE: pd.Timestamp(arrived, tz="UTC")}
    assert _wind(features([revised, *first], issued="2024-03-01 06:00")) == expected


def test_of_several_points_the_first_on_the_card_is_read(
    cards: dict[str, Any], blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    site = cards["farms"][0]["weather"][0]
    cards["farms"][0]["weather"] = [site | {"point": "ridge"}, site | {"point": "valley"}]
    weather = run_of("2024-03-01 00:00", RISING, weather_point="ridge") + run_of(
        "2024-03-01 00:00", [20.0] * 25, weather_point="valley"
    )
    clock = Clock.model_validate({"as_of": "2024-03-01T12:00"})
    table, _ = features_of(observe([]), blow(weather), Fleet.from_config(**cards), clock, PARAMETERS)
    hill = table[table["entity_id"] == "hill"]
    assert _wind(hill) == [7.5, 8.5, 9.5]
    assert set(hill["weather_models"]) == {1.0}


# --- families --------------------------------------------------------------------------------------------------------


def _of(fleet: Fleet, blow: MakeTable, observe: MakeTable, weather: list[dict[str, Any]], **given: Any) -> pd.DataFrame:
    """The hill's features; ``given`` are settings, or the observations."""
    observations = observe(given.pop("observations", []))
    parameters = FeatureParameters(**(PARAMETERS.model_dump() | given))
    clock = Clock.model_validate({"as_of": "2024-03-01T12:00"})
    table, _ = features_of(observations, blow(weather), fleet, clock, parameters)
    return table[table["entity_id"] == "hill"]


def test_a_product_gets_its_own_families_and_the_wind_speed_always(
    fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    weather = run_of("2024-03-01 00:00", RISING)
    table = _of(fleet, blow, observe, weather, families=["wind"], products={"hours": {"families": ["calendar", "neighbours"]}})
    fixed = {"product_id", "entity_id", "issued_at", "valid_at", "lead_minutes", "weather_run_at", "wind_speed_100m_ms"}
    named = {str(name) for name in table.dropna(axis=1, how="all").columns} - fixed
    assert {family_of(name) for name in named} == {"calendar", "neighbours"}


def test_families_of_a_product_that_no_card_describes_are_refused(
    fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    with pytest.raises(CardError, match="no product 'minutes'"):
        _of(fleet, blow, observe, run_of("2024-03-01 00:00", RISING), products={"minutes": {"families": ["wind"]}})


def test_every_column_is_of_one_family() -> None:
    for family, patterns in COLUMNS_OF.items():
        for pattern in patterns:
            example = pattern.replace("[uv]", "u").replace("*", "1")
            assert family_of(example) == family, pattern


def test_a_column_of_no_family_is_refused() -> None:
    with pytest.raises(ValueError, match="feature column 'tomorrows_power' is of no family; add its pattern to COLUMNS_OF"):
        family_of("tomorrows_power")


# --- the same run, further --------------------------------------------------------------------------------------------


def test_beyond_its_ends_a_run_holds_for_half_a_step(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    # The run's times are 08:00 to 09:00; the intervals' middles are 07:30, 08:30 and 09:30.
    weather = run_of("2024-03-01 00:00", RISING)[8:10]
    assert _wind(_of(fleet, blow, observe, weather)) == [NAN, 8.5, NAN]
    assert _wind(_of(fleet, blow, observe, weather, edge_minutes=30)) == [8.0, 8.5, 9.0]
    assert _wind(_of(fleet, blow, observe, weather, edge_minutes=29)) == [NAN, 8.5, NAN]


def test_shear_and_veer(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    # From the north below and from the east above: a quarter turn clockwise. Twice the speed over ten times the height.
    aloft = {"wind_u_100m_ms": -8.0, "wind_v_100m_ms": 0.0, "wind_u_10m_ms": 0.0, "wind_v_10m_ms": -4.0}
    table = _of(fleet, blow, observe, run_of("2024-03-01 00:00", [8.0] * 25, **aloft))
    assert table["wind_veer_deg"].tolist() == pytest.approx([90.0] * 3)
    assert table["wind_shear_ms"].tolist() == [4.0] * 3
    assert table["wind_shear_exponent"].tolist() == pytest.approx([np.log10(2)] * 3)


def test_a_calm_has_neither_shear_nor_veer(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    still = dict.fromkeys(["wind_u_100m_ms", "wind_v_100m_ms", "wind_u_10m_ms", "wind_v_10m_ms"], 0.0)
    table = _of(fleet, blow, observe, run_of("2024-03-01 00:00", [0.0] * 25, **still))
    assert table[["wind_veer_deg", "wind_shear_exponent"]].isna().all(axis=None)


def test_min_and_most_of_a_window_and_of_the_run(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    table = _of(fleet, blow, observe, run_of("2024-03-01 00:00", RISING), extremes_minutes=[120])
    assert table["wind_speed_100m_ms_min_120min"].tolist() == [6.5, 7.5, 8.5]
    assert table["wind_speed_100m_ms_max_120min"].tolist() == [8.5, 9.5, 10.5]
    assert table["wind_speed_100m_ms_run_mean"].tolist() == [8.5] * 3
    assert table["wind_speed_100m_ms_run_min"].tolist() == [7.5] * 3
    assert table["wind_speed_100m_ms_run_max"].tolist() == [9.5] * 3


def test_components_before_and_after(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    weather = [row | {"wind_u_100m_ms": 10.0 * hour} for hour, row in enumerate(run_of("2024-03-01 00:00", RISING))]
    table = _of(fleet, blow, observe, weather, component_minutes=[-30, 90])
    assert table["wind_u_100m_ms_minus_30min"].tolist() == [70, 80, 90]
    assert table["wind_u_100m_ms_plus_90min"].tolist() == [90, 100, 110]


def test_what_the_newest_run_changed(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    before = run_of("2024-02-29 18:00", [20.0] * 40)
    table = _of(fleet, blow, observe, [*before, *run_of("2024-03-01 00:00", RISING)])
    assert table["wind_speed_100m_ms_last_run_change"].tolist() == [-12.5, -11.5, -10.5]
    alone = _of(fleet, blow, observe, run_of("2024-03-01 00:00", RISING))
    assert alone["wind_speed_100m_ms_last_run_change"].isna().all()


def test_what_the_last_runs_say(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    runs = [
        *run_of("2024-02-29 12:00", [4.0] * 20),
        *run_of("2024-02-29 18:00", [20.0] * 40),
        *run_of("2024-03-01 00:00", RISING),
    ]
    table = _of(fleet, blow, observe, runs, runs=3, run_weight=0.5, run_minutes=[-60]).tail(3)
    # At 07:30, 08:30 and 09:30 the newest run has 7.5, 8.5 and 9.5 m/s; the oldest ended at 07:00.
    mean = [(7.5 + 10) / 1.5, (8.5 + 10) / 1.5, (9.5 + 10) / 1.5]
    assert table["wind_speed_100m_ms_runs_mean"].tolist() == pytest.approx(mean)
    assert table["wind_speed_100m_ms_runs_change"].tolist() == [-12.5, -11.5, -10.5]
    assert table["wind_speed_100m_ms_runs_std"].tolist() == [6.25, 5.75, 5.25]
    assert table["wind_speed_100m_ms_runs_min"].tolist() == [7.5, 8.5, 9.5]
    assert table["wind_speed_100m_ms_runs_max"].tolist() == [20.0] * 3
    # An hour earlier the oldest still counts, a quarter.
    first = (6.5 + 0.5 * 20 + 0.25 * 4) / 1.75
    assert table["wind_speed_100m_ms_runs_mean_minus_60min"].tolist() == pytest.approx([first, *mean[:2]])


def test_the_newest_run_alone_has_nothing_to_change(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    table = _of(fleet, blow, observe, run_of("2024-03-01 00:00", RISING), runs=4)
    assert table["wind_speed_100m_ms_runs_mean"].tolist() == table["wind_speed_100m_ms"].tolist()
    assert table["wind_speed_100m_ms_runs_std"].tolist() == [0.0] * 3
    assert table["wind_speed_100m_ms_runs_change"].isna().all()


# --- other farms -------------------------------------------------------------------------------------------------------


def test_other_farms_are_columns_by_rank(fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf) -> None:
    shore = run_of("2024-03-01 00:00", [speed + 4 for speed in RISING], farm_id="shore")
    table = _of(fleet, blow, observe, [*run_of("2024-03-01 00:00", RISING), *shore], other_farm_minutes=[60])
    assert table["other_1_wind_speed_100m_ms"].tolist() == [11.5, 12.5, 13.5]
    assert table["other_1_wind_speed_100m_ms_plus_60min"].tolist() == [12.5, 13.5, 14.5]
    assert table["fleet_wind_speed_100m_ms"].tolist() == [9.5, 10.5, 11.5]
    assert table["fleet_spread_ms"].tolist() == [2.0] * 3
    # The group of both looks at two: of the hill's rows there is nothing in that column.
    assert not [name for name in table.dropna(axis=1, how="all") if str(name).startswith("other_2")]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        pytest.param([(50, 5), (60, 5), (51, 5), (52, 5)], ["c", "d", "b"], id="the nearest first"),
        pytest.param([(50, 5), None, (51, 5), None], ["c", "b", "d"], id="those of unknown place last, as on the cards"),
        pytest.param([None, (50, 5), (51, 5), (52, 5)], ["b", "c", "d"], id="without a place of its own, as on the cards"),
    ],
)
def test_which_farms_are_looked_at_first(
    cards: dict[str, Any], places: list[tuple[float, float] | None], expected: list[str]
) -> None:
    farm = cards["farms"][0]
    cards["farms"] = [
        farm | {"id": name, "latitude_deg": place and place[0], "longitude_deg": place and place[1]}
        for name, place in zip("abcd", places, strict=True)
    ]
    cards["groups"] = [{"id": "two", "name": "Two", "farms": ["a", "d"]}]
    cards["products"] = [cards["products"][0] | {"members": ["a"]}]
    found = Fleet.from_config(**cards)
    assert other_farms("a", found, 9) == [(FAR_PAST, expected)]
    assert other_farms("a", found, 1) == [(FAR_PAST, expected[:1])]
    assert other_farms("two", found, 2) == [(FAR_PAST, ["a", "d"])]


def _history(run_of: RunOf, days: int = 40) -> tuple[list[Any], list[Any]]:
    """Daily runs of both farms, whose winds have nothing to do with each other, and the hill's power: the shore's wind."""
    numbers = np.random.default_rng(3)
    weather, power = [], []
    for day in pd.date_range("2024-02-01", periods=days, tz="UTC"):
        for farm_id in ("hill", "shore"):
            speeds = numbers.uniform(3, 12, 25).round(3).tolist()
            weather += run_of(f"{day:%Y-%m-%d %H:%M}", speeds, farm_id=farm_id)
            if farm_id == "shore":
                at = [day + pd.Timedelta(hours=hour) for hour in range(24)]
                middles = [(speeds[hour] + speeds[hour + 1]) / 2 for hour in range(24)]
                power += [
                    {"valid_at": f"{time:%Y-%m-%d %H:%M}", "share": middle / 15} for time, middle in zip(at, middles, strict=True)
                ]
    return weather, power


def test_the_best_point_is_taken_from_the_month_on_in_which_it_is_known(
    fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    weather, power = _history(run_of)
    clock = Clock.model_validate({"as_of": "2024-03-10T12:00"})
    parameters = FeatureParameters(**(PARAMETERS.model_dump() | {"best_point": {"min_hours": 100}}))
    table, _ = features_of(observe(power), blow(weather), fleet, clock, parameters)
    hill = table[(table["entity_id"] == "hill") & table["wind_speed_100m_ms"].notna()]
    own, other = hill["wind_speed_100m_ms"], hill["other_1_wind_speed_100m_ms"]
    later = hill["issued_at"] >= pd.Timestamp("2024-03-01", tz="UTC")
    assert hill.loc[~later, "best_point_wind_speed_100m_ms"].equals(own[~later])
    assert hill.loc[later, "best_point_wind_speed_100m_ms"].equals(other[later])
    # The curve of that wind gives the power to within a bin: errors are small, and known from March on only.
    assert hill.loc[~later, "last_error_share"].isna().all()
    errors = hill.loc[later, "last_error_share"].dropna()
    assert len(errors) > 10
    assert errors.abs().max() < 0.25 / 15
    with_few = FeatureParameters(**(PARAMETERS.model_dump() | {"best_point": {"min_hours": 10_000}}))
    same, _ = features_of(observe(power), blow(weather), fleet, clock, with_few)
    assert same["best_point_wind_speed_100m_ms"].equals(same["wind_speed_100m_ms"])


# --- means of what is known --------------------------------------------------------------------------------------------


def test_means_of_known_production_and_what_was_available(
    fleet: Fleet, blow: MakeTable, observe: MakeTable, run_of: RunOf
) -> None:
    # Issued at 06:00. 05:00 has not arrived by then; 04:00 was revised; 01:00 is too long ago for the mean of three hours.
    observations = [
        {"valid_at": "2024-03-01 05:00", "share": 0.9},
        {"valid_at": "2024-03-01 04:00", "share": 0.1},
        {"valid_at": "2024-03-01 04:00", "share": 0.4, "available_at": "2024-03-01 05:30"},
        {"valid_at": "2024-03-01 03:00", "share": 0.2, "curtailed_share": 0.25},
        {"valid_at": "2024-03-01 01:00", "share": 0.0},
    ]
    table = _of(fleet, blow, observe, run_of("2024-03-01 00:00", RISING), observations=observations)
    assert table["power_share_mean_3h"].tolist() == pytest.approx([0.3] * 3)
    assert table["power_share_mean_24h"].tolist() == pytest.approx([0.2] * 3)
    assert table["last_available_share"].tolist() == [1.0] * 3
    assert table["last_curtailed_share"].tolist() == [0.0] * 3
