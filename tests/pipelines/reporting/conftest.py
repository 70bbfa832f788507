"""A small world of tables that keep their contracts: two farms and their group, a product of 36 hours, forty issues."""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, quantile_column
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Attributions
from wind_kedro.contracts.observations import (
    ClockCalibration,
    DataQuality,
    Observations,
    PowerCurve,
    Quarantine,
    Readiness,
    Signals,
    WeatherFit,
)
from wind_kedro.contracts.operation import Incidents, Outliers
from wind_kedro.contracts.training import Accuracy, Promotions
from wind_kedro.evaluation.scores import score_forecasts
from wind_kedro.failures import Failure, failures_table
from wind_kedro.pipelines.reporting.settings import Reporting

AS_OF = pd.Timestamp("2016-01-01T00:00Z")
LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]


def _farm(farm_id, name, east, kind):
    return {
        "id": farm_id,
        "name": name,
        "latitude_deg": 48.4,
        "longitude_deg": 5.6 + east,
        "time_zone": "Europe/Paris",
        "capacity_kw": 4000,
        "attribution": f"{name}, open data <licence>",
        "latency_minutes": 10,
        "turbines": [
            {
                "id": f"T{number}",
                "rated_power_kw": 2000,
                "hub_height_m": 80,
                "rotor_diameter_m": 82,
                "latitude_deg": 48.4 + number / 200,
                "longitude_deg": 5.6 + east,
            }
            for number in (1, 2)
        ],
        "signals": {
            "path": f"{farm_id}.csv",
            "timestamp": "time",
            "turbine": "turbine",
            "cadence_seconds": 600,
            "columns": {"power_kw": {"name": "power", "unit": "kW"}},
        },
        "weather": [
            {
                "model": "era5",
                "kind": kind,
                "path": "weather.csv",
                "valid_at": "time",
                "run_at": "run",
                "delay_minutes": 360,
                "length_hours": 48,
                "columns": {"wind_speed_100m_ms": {"name": "speed", "unit": "m/s"}},
            }
        ],
    }


def make_fleet(*, farms=1, kind="analysis"):
    cards = [_farm("north", "North & Sons", 0.0, kind), _farm("south", "South", 0.3, kind)][:farms]
    groups = [{"id": "both", "name": "Both", "farms": ["north", "south"]}] if farms > 1 else []
    return Fleet.from_config(
        cards,
        [
            {
                "id": "market",
                "name": "The market",
                "time_zone": "Europe/Paris",
                "settlement_minutes": 60,
                "gate_closure_minutes": 60,
                "currency": "EUR",
                "penalty": {"kind": "imbalance", "short_per_mwh": 12, "long_per_mwh": 8},
            }
        ],
        [
            {
                "id": "next_day",
                "name": "Hourly, 49 hours",
                "market": "market",
                "granularity_minutes": 60,
                "horizon_minutes": 49 * 60,
                "issue_times": ["06:00"],
                "quantile_levels": LEVELS,
                "deciding_score": "pinball_share",
                "goal": {"target": 0.03, "since": "2015-01-01"},
                "members": [card["id"] for card in cards + groups],
            }
        ],
        groups,
    )


TIERS_IN_TURN = ("local", "none", "physical", "blended", "global")


def make_readiness(fleet):
    """A row per farm: the first is sound, the second has somebody else's weather, the others in turn; then a later one."""
    rows = []
    for number, farm in enumerate(fleet.farms):
        row = {
            "farm_id": farm.id, "assessed_at": AS_OF, "tier": TIERS_IN_TURN[number % len(TIERS_IN_TURN)],
            "reason": f"{700 - number}.0 days with power & weather", "history_days": 730.0, "learnable_days": 700.0 - number / 2,
            "coverage_share": 0.97, "gaps": 2, "longest_gap_hours": 30.0, "silent_hours": 2.0,
            "latency_median_minutes": None if number % 2 else 12.0, "latency_95_minutes": None if number % 2 else 45.0,
            "reading": "wall_clock_is_utc", "offset_minutes": 4.0, "agrees": bool(number % 2), "stopped_rows_share": 0.01,
            "curtailed_rows_share": 0.02, "iced_rows_share": 0.0, "quarantined_rows_share": 0.001,
            "unreadable_sources": number % 3,
            "weather": FORECAST_WEATHER, "weather_days": 735.0, "missing_runs": number,
            "best_point": "alpha/site", "best_correlation": 0.83, "other_farm": "elsewhere", "other_correlation": 0.61,
            "wrong_point": number % 5 == 1,
        }  # fmt: skip
        rows += [row, row | {"assessed_at": AS_OF + pd.Timedelta(days=1), "tier": "none", "reason": "of another time"}]
    table = pd.DataFrame(rows).astype({"agrees": "boolean", "latency_median_minutes": float, "latency_95_minutes": float})
    return Readiness.validate(table)


def make_weather_fit(fleet):
    """Own points and those of the next farm; the second farm's own fits worst."""
    rows = []
    for number, farm in enumerate(fleet.farms):
        other = fleet.farms[(number + 1) % len(fleet.farms)]
        for of in {farm.id: farm, other.id: other}.values():
            mine = of.id == farm.id
            rows.append(
                {
                    "farm_id": farm.id, "assessed_at": AS_OF, "weather_model": "alpha", "weather_point": "site",
                    "of_farm": of.id, "distance_km": 0.0 if mine else 123.4,
                    "correlation": 0.8 - 0.3 * (mine and number % 5 == 1) - 0.2 * (not mine), "hours": 8000, "rank": 1,
                    "better_months_share": None if mine else 0.9,
                }
            )  # fmt: skip
    return WeatherFit.validate(pd.DataFrame(rows).astype({"better_months_share": float}))


@dataclass(frozen=True)
class World:
    """All tables that reporting reads."""

    fleet: Fleet
    clock: Clock
    reporting: Reporting
    signals: ibis.Table
    power_curve: pd.DataFrame
    clock_calibration: pd.DataFrame
    data_quality: pd.DataFrame
    readiness: pd.DataFrame
    weather_fit: pd.DataFrame
    quarantine: pd.DataFrame
    observations: pd.DataFrame
    forecasts: pd.DataFrame
    attributions: pd.DataFrame
    backtest_scores: pd.DataFrame
    live_scores: pd.DataFrame
    promotions: pd.DataFrame
    accuracy: pd.DataFrame
    incidents: pd.DataFrame
    open_failures: pd.DataFrame
    outliers: pd.DataFrame

    def pick(self, *names):
        return {name: getattr(self, name) for name in names}

    def but(self, **changes):
        return dataclasses.replace(self, **changes)


def installed_kw(fleet, entity_id):
    return sum(farm.capacity_kw for farm in fleet.farms_of(entity_id))


def _observations(fleet, rng):
    valid_at = pd.date_range("2015-11-15T00:00Z", AS_OF, freq="h", inclusive="left")
    tables = []
    for entity_id, capacity in [(entity, installed_kw(fleet, entity)) for entity in fleet.products[0].members]:
        # Weather that comes and goes within days, between calm and full power.
        weather = np.convolve(rng.normal(0, 1, len(valid_at) + 35), np.ones(36) / 6, "valid")
        share = 1 / (1 + np.exp(0.6 - 1.5 * weather))
        tables.append(
            pd.DataFrame(
                {
                    "entity_id": entity_id,
                    "granularity_minutes": 60,
                    "valid_at": valid_at,
                    "available_at": valid_at + pd.Timedelta(minutes=70),
                    "power_kw": share * capacity,
                    "available_capacity_kw": capacity,
                    "wind_speed_ms": 3 + 9 * share,
                    "coverage_share": 1.0,
                    "turbines": round(capacity / 2000),
                    "metered_power_kw": share * capacity,
                    "stopped_share": 0.0,
                    "curtailed_share": 0.0,
                    "imputed_share": 0.0,
                    "method": "mean",
                }
            )
        )
    table = Observations.validate(pd.concat(tables, ignore_index=True))
    gap = table["valid_at"].between("2015-12-05T00:00Z", "2015-12-06T11:00Z")
    return table[~gap].reset_index(drop=True)


def _forecasts(fleet, observations, rng, *, model, error, version, first, last):
    product = fleet.products[0]
    tables = []
    for entity_id in product.members:
        capacity = installed_kw(fleet, entity_id)
        power = observations[observations["entity_id"] == entity_id].set_index("valid_at")["power_kw"] / capacity
        for issued_at in pd.date_range(first, last, freq="D"):
            valid_at = pd.date_range(issued_at, periods=49, freq="h")
            lead = np.arange(49)
            spread = error * (0.4 + lead / 49)
            wrong = np.convolve(rng.normal(0, 1, 49 + 11), np.ones(12) / np.sqrt(12), "valid") * spread
            middle = np.clip(power.reindex(valid_at).fillna(0.4).to_numpy() + wrong, 0, 1)
            z = dict(zip(LEVELS, [-1.2816, -0.6745, 0, 0.6745, 1.2816], strict=True))
            tables.append(
                pd.DataFrame(
                    {
                        "product_id": product.id,
                        "entity_id": entity_id,
                        "model": model,
                        "model_version": version,
                        "issued_at": issued_at,
                        "valid_at": valid_at,
                        "lead_minutes": lead * 60,
                        "capacity_kw": capacity,
                        "weather_run_at": issued_at.normalize(),
                        "fallback": "",
                        "weather": PERFECT_WEATHER
                        if any(farm.perfect_weather for farm in fleet.farms_of(entity_id))
                        else FORECAST_WEATHER,
                    }
                    | {quantile_column(level): np.clip(middle + z[level] * spread, 0, 1) * capacity for level in LEVELS}
                )
            )
    return as_forecasts(pd.concat(tables, ignore_index=True))


def _attributions(forecasts):
    """Three attributions of every interval, which add up to its median."""
    median = forecasts[quantile_column(0.5)]
    start = forecasts["capacity_kw"] * 0.3
    keys = forecasts[["product_id", "entity_id", "issued_at", "valid_at", "model", "model_version"]]
    wind = (median - start) * 0.8
    tables = [
        keys.assign(feature_group="base", contribution_kw=start, feature="", feature_value=np.nan),
        keys.assign(feature_group="wind", contribution_kw=wind, feature="wind_speed_100m_ms", feature_value=8.25),
        keys.assign(feature_group="air", contribution_kw=median - start - wind, feature="pressure_pa", feature_value=np.nan),
    ]
    return Attributions.validate(pd.concat(tables, ignore_index=True))


def _signals(fleet, rng):
    tables = []
    for farm in fleet.farms:
        for turbine in farm.turbines:
            wind = rng.weibull(2, 600) * 8
            power = np.clip((wind - 3) / 9, 0, 1) ** 2 * 2000 + rng.normal(0, 30, 600)
            stopped = np.arange(600) % 20 == 0
            tables.append(
                pd.DataFrame(
                    {
                        "farm_id": farm.id,
                        "turbine_id": turbine.id,
                        "valid_at": pd.date_range("2015-11-15", periods=600, freq="10min", tz="UTC"),
                        "available_at": pd.date_range("2015-11-15T00:20", periods=600, freq="10min", tz="UTC"),
                        "power_kw": np.where(stopped, 0.0, power),
                        "wind_speed_ms": wind,
                        "wind_direction_deg": 200.0,
                        "temperature_c": 10.0,
                        "pitch_deg": 0.0,
                        "version": 0,
                        "status": "kept",
                        "superseded_at": pd.Series(pd.NaT, range(600), "datetime64[us, UTC]"),
                        "power_kw_spiked": np.nan,
                        "power_kw_spiked_at": pd.Series(pd.NaT, range(600), "datetime64[us, UTC]"),
                        "wind_speed_ms_spiked": np.nan,
                        "wind_speed_ms_spiked_at": pd.Series(pd.NaT, range(600), "datetime64[us, UTC]"),
                        "operating_state": np.where(stopped & (wind > 6), "stopped", ""),
                        "retimed": False,
                        "source_file": "signals.csv",
                        "source_row": np.arange(600),
                    }
                )
            )
    table = Signals.validate(pd.concat(tables, ignore_index=True))
    # In the engine's tables times have no zone and mean UTC.
    times = [name for name in table if name.endswith("_at")]
    return table.assign(**{name: table[name].dt.tz_localize(None) for name in times})


def _per_farm(fleet, contract, rows):
    return contract.validate(pd.DataFrame([{"farm_id": farm.id} | row for farm in fleet.farms for row in rows]))


def make_world(*, farms=1, kind="analysis", reporting=None):
    """The world; the same seed, the same tables."""
    fleet, rng = make_fleet(farms=farms, kind=kind), np.random.default_rng(7)
    observations = _observations(fleet, rng)
    fitted_at = pd.Timestamp("2015-12-31T00:00Z")
    forecasts = _forecasts(
        fleet,
        observations,
        rng,
        model="catboost",
        error=0.1,
        version="3",
        first="2015-11-22T06:00Z",
        last="2015-12-31T06:00Z",
    )
    past = {"version": "backtest", "first": "2015-11-16T06:00Z", "last": "2015-11-21T06:00Z"}
    backtested = pd.concat(
        [
            _forecasts(fleet, observations, rng, model=model, error=error, **past)
            for model, error in [("catboost", 0.08), ("climatology", 0.3), ("persistence", 0.2), ("power_curve", 0.14)]
        ]
    )
    edges = [0, 60, 180, 360, 720, 1440, 2160, 2940]
    curve = [{"fitted_at": fitted_at, "wind_speed_ms": ws, "rows": 40} for ws in np.arange(0.25, 20, 0.5)]
    for row in curve:
        share = float(np.clip((row["wind_speed_ms"] - 3) / 9, 0, 1) ** 2)
        row |= {"power_share": share, "low_share": share - 0.2, "high_share": share + 0.2}
    return World(
        fleet=fleet,
        clock=Clock(as_of=AS_OF.to_pydatetime()),
        reporting=reporting or Reporting(),
        signals=ibis.memtable(pa.Table.from_pandas(_signals(fleet, rng))),
        power_curve=_per_farm(fleet, PowerCurve, curve),
        clock_calibration=_per_farm(
            fleet,
            ClockCalibration,
            [
                {
                    "fitted_at": fitted_at,
                    "reading": "wall_clock_is_utc",
                    "assumed": "as_stamped",
                    "agrees": False,
                    "offset_minutes": 10.0,
                    "noise_minutes": 5.0,
                    "shifted": False,
                    "jumped_at": pd.NaT,
                    "correlation": 0.83,
                    "evidence": json.dumps(EVIDENCE),
                    "rows": 17000,
                }
            ],
        ),
        readiness=make_readiness(fleet),
        weather_fit=make_weather_fit(fleet),
        data_quality=_per_farm(
            fleet,
            DataQuality,
            [
                {
                    "source_table": "signals",
                    "check": check,
                    "signal": signal,
                    "count": count,
                    "of": 1200,
                    "severity": severity,
                    "message": f"{count} of them.",
                }
                for check, signal, count, severity in [
                    ("missing", "power_kw", 12, "info"),
                    ("sentinel", "temperature_c", 3, "info"),
                    ("stuck", "wind_speed_ms", 40, "warning"),
                    ("duplicate", "row", 0, "info"),
                    ("kept", "row", 1200, "info"),
                ]
            ],
        ),
        quarantine=_per_farm(
            fleet,
            Quarantine,
            [
                {
                    "source_table": "signals",
                    "valid_at": pd.NaT,
                    "source_file": "signals.csv",
                    "source_row": row,
                    "reason": "conflicting_stamp",
                    "detail": "",
                    "raw": "{}",
                }
                for row in range(3)
            ],
        ),
        observations=observations,
        forecasts=forecasts,
        attributions=_attributions(forecasts),
        backtest_scores=score_forecasts(backtested, observations, fleet, edges),
        live_scores=score_forecasts(forecasts, observations, fleet, edges, by="day", as_of=AS_OF, paired=False),
        accuracy=Accuracy.validate(
            pd.DataFrame(
                [
                    {
                        "product_id": "next_day",
                        "entity_id": entity_id,
                        "model": "catboost",
                        "as_of": pd.Timestamp(AS_OF),
                        "deciding_score": "pinball_share",
                        "cross_validated": 0.03,
                        "backtested": 0.032,
                        "operational": 0.033,
                        "gap_share": 0.1,
                        "intervals": 2000,
                        "fallback_share": 0.012,
                    }
                    for entity_id in fleet.product("next_day").members
                ]
            )
        ),
        promotions=Promotions.validate(
            pd.DataFrame(
                [
                    {
                        "promotion": 1,
                        "parent": 0,
                        "action": "train",
                        "author": "",
                        "product_id": "next_day",
                        "entity_id": entity_id,
                        "promoted_at": "2015-11-21T12:00Z",
                        "model": "catboost",
                        "model_version": "3",
                        "run_id": "0123456789abcdef",
                        "trained_through": "2015-11-15T00:00Z",
                        "available_at": "2015-11-21T12:00Z",
                        "deciding_score": "pinball_share",
                        "score": 0.0312,
                        "champion_score": None,
                        "reason": "the first <champion>",
                        "recorded_at": "2026-01-01T00:00Z",
                        "manifest_sha256": "d" * 64,
                    }
                    for entity_id in fleet.products[0].members
                ]
            ).astype({"champion_score": float})
        ),
        open_failures=failures_table(
            [
                Failure(
                    "forecasting",
                    "forecast_not_issued",
                    "next_day/north: not issued: <b>no features</b>",
                    "run feature_engineering",
                    product_id="next_day",
                    entity_id="north",
                    issued_at=pd.Timestamp(f"2015-12-{day}T12:00Z"),
                )
                for day in (29, 30)
            ]
            + [Failure("features", "features_not_made", "north: no weather", "see its weather", entity_id="north")],
            dt.datetime(2015, 12, 31, 12, tzinfo=dt.UTC),
        ),
        incidents=Incidents.validate(
            pd.DataFrame(
                [
                    {
                        "raised_at": "2015-12-31T12:00Z",
                        "opened_at": "2015-12-31T12:00Z",
                        "state": "open",
                        "entity_id": "north",
                        "product_id": "next_day",
                        "kind": "error_spike",
                        "subject": "",
                        "amount": 4.0,
                        "evidence": "loss .2 in outliers",
                        "severity": "error",
                        "message": "The error of yesterday was five times the usual.",
                        "action": "Look at the turbines <script>alert(1)</script>.",
                    },
                    {
                        "raised_at": "2015-10-01T12:00Z",
                        "opened_at": "2015-10-01T12:00Z",
                        "state": "open",
                        "entity_id": "north",
                        "product_id": "",
                        "kind": "long_ago",
                        "subject": "",
                        "amount": None,
                        "evidence": "",
                        "severity": "error",
                        "message": "This is history.",
                        "action": "",
                    },
                ]
            )
        ),
        outliers=Outliers.validate(
            pd.DataFrame(
                [
                    {
                        "product_id": "next_day",
                        "entity_id": "north",
                        "model": "catboost",
                        "model_version": "3",
                        "issued_at": f"2015-12-{day}T06:00Z",
                        "valid_at": f"2015-12-{day}T17:00Z",
                        "lead_minutes": 660,
                        "loss": 0.1 + day / 100,
                        "expected_loss": 0.05,
                        "median_share": 0.9,
                        "actual_share": 0.1,
                        "wind_speed_ms": 24.5,
                        "wind_rank": 0.998,
                        "ramp_ms": 2.5,
                        "ramp_rank": 0.9,
                        "spread_ms": None,
                        "spread_rank": None,
                        "later_wind_speed_ms": 23.0,
                        "measured_wind_speed_ms": 18.0,
                        "coverage_share": 1.0,
                        "stopped_share": 0.0,
                        "curtailed_share": 0.0,
                        "verdict": "storm",
                        "evidence": "wind of 24.5 m/s: more than in 99.8% of <the> backtest",
                    }
                    for day in range(10, 26)
                ]
            ).astype({"spread_ms": float, "spread_rank": float})
        ),
    )


#: As data_engineering writes it: misalignment and correlation of every reading.
EVIDENCE = {
    "as_stamped": {"misalignment_minutes": 80.0, "correlation": 0.803, "parts": {}},
    "wall_clock_is_utc": {"misalignment_minutes": 10.0, "correlation": 0.83, "parts": {}},
    "wall_clock_is_local": {"misalignment_minutes": 80.0, "correlation": 0.803, "parts": {}},
    "decided": "the best aligned reading",
}


@pytest.fixture(scope="session")
def world():
    return make_world()


@pytest.fixture(scope="session")
def forecast_world():
    return make_world(kind="forecast")


@pytest.fixture(scope="session")
def fleet_world():
    return make_world(farms=2)


@pytest.fixture(scope="session")
def bare_world(world):
    """Cards and nothing else: what reporting sees before anything ran."""
    tables = {
        name: getattr(world, name).iloc[:0]
        for name in (
            "power_curve", "clock_calibration", "data_quality", "readiness", "weather_fit", "quarantine", "observations",
            "forecasts", "attributions", "backtest_scores", "live_scores", "promotions", "accuracy", "incidents",
            "open_failures", "outliers",
        )
    }  # fmt: skip
    return world.but(**tables, signals=world.signals.limit(0))


def draw_all(world):
    """Every figure by the name of its dataset, as the pipeline draws them."""
    from wind_kedro.pipelines.reporting import create_pipeline

    drawn = {}
    for node in create_pipeline().nodes:
        if node.namespace == "figures":
            drawn[node.outputs[0]] = node.func(*(getattr(world, name.removeprefix("params:")) for name in node.inputs))
    return drawn


@pytest.fixture(scope="session")
def draw():
    return draw_all


@pytest.fixture(scope="session")
def write():
    return write_page


@pytest.fixture(scope="session", params=["world", "fleet_world", "bare_world"])
def any_world(request):
    return request.getfixturevalue(request.param)


def write_page(world):
    """Summary and page, as the pipeline makes them."""
    from wind_kedro.pipelines.reporting import nodes

    facts = nodes.build_summary(
        **world.pick(
            "forecasts", "observations", "backtest_scores", "live_scores", "promotions", "incidents", "open_failures",
            "clock_calibration", "data_quality", "quarantine", "readiness", "outliers", "fleet", "clock", "reporting",
        )
    )  # fmt: skip
    shown = {name: figure for name, figure in draw_all(world).items() if name != "weather_fit_figure"}
    return facts, nodes.build_report(summary=facts, **shown, reporting=world.reporting)
