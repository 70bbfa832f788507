import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pytest

from wind_kedro import contracts
from wind_kedro.cards.columns import FORECAST_WEATHER, PERFECT_WEATHER, quantile_column, quantile_columns
from wind_kedro.contracts.base import Contract, RawTable
from wind_kedro.contracts.observations import ClockCalibration
from wind_kedro.contracts.raw import SignalsRaw, WeatherRaw

#: Pandera names one fault, or lists several where a column cannot be brought to its type.
REFUSALS = (pandera.errors.SchemaError, pandera.errors.SchemaErrors)
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.mark.parametrize(
    ("level", "unit", "name"),
    [
        (0.05, "kw", "q050_kw"),
        (0.5, "share", "q500_share"),
        (0.975, "kw", "q975_kw"),
        (0.001, "kw", "q001_kw"),
        (0.07, "kw", "q070_kw"),  # 0.07 * 1000 is 70.00000000000001
        (0.29, "kw", "q290_kw"),  # 0.29 * 1000 is 290.0, 0.58 * 500 is not
    ],
)
def test_names_of_quantiles(level: float, unit: Any, name: str) -> None:
    assert quantile_column(level, unit) == name


def test_levels_of_a_thousandth_each_have_their_own_name() -> None:
    names = quantile_columns([number / 1000 for number in range(1, 1000)])
    assert len(set(names)) == 999
    assert names == sorted(names)


TIME = pd.Timestamp("2024-03-01T06:00", tz="UTC")


def _rows(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({name: value if isinstance(value, list) else [value, value] for name, value in columns.items()})


#: A right table of each contract that a pipeline's table of its own must keep: two rows each.
_JUDGED: dict[str, Any] = {
    "product_id": "hours", "entity_id": "hill", "decided_at": TIME, "champion": "old", "challenger": ["new", "newer"],
    "issues": 365, "champion_score": 0.1, "challenger_score": [0.09, None], "gain_share": 0.1, "p_value": 0.01,
    "p_adjusted": 0.02, "bias_excess_share": 0.0, "coverage_excess_share": 0.0, "strong_wind_excess_share": 0.0,
    "change_excess_share": 0.0,
    "worst_excess_share": [0.0, None], "code": ["better", "margin"],
}  # fmt: skip
RIGHT: dict[str, Callable[[], pd.DataFrame]] = {
    "Signals": lambda: _rows(
        farm_id="hill",
        turbine_id=["T1", "T2"],
        valid_at=TIME,
        available_at=TIME,
        power_kw=[1.0, None],
        wind_speed_ms=8.0,
        wind_direction_deg=180.0,
        temperature_c=10.0,
        pitch_deg=0.0,
        version=[1, 0],
        status=["kept", "superseded"],
        superseded_at=[pd.NaT, TIME],
        power_kw_spiked=[None, 2.0],
        power_kw_spiked_at=[pd.NaT, TIME],
        wind_speed_ms_spiked=[None, 30.0],
        wind_speed_ms_spiked_at=[pd.NaT, TIME],
        operating_state=["", "stopped"],
        retimed=False,
        source_file="a.csv",
        source_row=[1, 2],
    ),
    "Quarantine": lambda: _rows(
        farm_id="hill",
        source_table=["signals", "weather"],
        valid_at=[TIME, pd.NaT],
        source_file="a.csv",
        source_row=[1, 2],
        reason="bad_stamp",
        detail="",
        raw="{}",
    ),
    "CellCounts": lambda: _rows(farm_id="hill", fitted_at=TIME, bin=[0, 30], step=[-1, 200], count=[3, -1]),
    "WeatherRuns": lambda: _rows(
        farm_id="hill",
        weather_model="alpha",
        weather_point="",
        run_at=TIME,
        available_at=[TIME, TIME + pd.Timedelta(hours=1)],
        is_analysis=False,
        rows=[48, 1],
        first_valid_at=TIME,
        last_valid_at=TIME,
    ),
    "ClockCalibration": lambda: _rows(
        farm_id="hill",
        fitted_at=TIME,
        reading="as_stamped",
        assumed=["as_stamped", "wall_clock_is_utc"],
        agrees=[True, False],
        offset_minutes=0.0,
        noise_minutes=[8.0, None],
        shifted=False,
        jumped_at=[TIME, pd.NaT],
        correlation=[0.8, None],
        evidence="[]",
        rows=[100, 0],
    ),
    "SuspectedUnits": lambda: _rows(
        farm_id="hill",
        turbine_id="T0",
        signal="wind_speed_ms",
        unit="m/s",
        suspected_unit="km/h",
        since=[TIME, pd.NaT],
        found_at=TIME,
        until=[TIME, pd.NaT],
        evidence="{}",
    ),
    "PowerCurve": lambda: _rows(
        farm_id="hill",
        fitted_at=TIME,
        wind_speed_ms=[0.25, 0.75],
        power_share=0.0,
        low_share=-0.05,
        high_share=0.05,
        rows=[10, 20],
    ),
    "Observations": lambda: _rows(
        entity_id="hill",
        granularity_minutes=60,
        valid_at=TIME,
        available_at=[TIME, TIME + pd.Timedelta(hours=1)],
        power_kw=[100.0, 110.0],
        available_capacity_kw=3000.0,
        metered_power_kw=100.0,
        wind_speed_ms=[8.0, None],
        coverage_share=1.0,
        turbines=3,
        stopped_share=0.0,
        curtailed_share=0.0,
        imputed_share=0.0,
        method="mean",
    ),
    "Weather": lambda: _rows(
        farm_id="hill",
        weather_model="alpha",
        weather_point="site",
        run_at=TIME,
        available_at=TIME,
        valid_at=[TIME, TIME + pd.Timedelta(hours=1)],
        is_analysis=False,
        wind_speed_100m_ms=8.0,
        wind_direction_100m_deg=180.0,
        wind_u_100m_ms=0.0,
        wind_v_100m_ms=8.0,
        wind_u_10m_ms=None,
        wind_v_10m_ms=None,
        wind_speed_hub_ms=7.5,
        wind_direction_hub_deg=None,
        temperature_c=None,
        pressure_pa=None,
        air_density_kgm3=None,
    ),
    "DataQuality": lambda: _rows(
        farm_id="hill",
        source_table="signals",
        check="stuck",
        signal="power_kw",
        count=[0, 3],
        of=10,
        severity=["info", "warning"],
        message="",
    ),
    "Features": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        issued_at=TIME,
        valid_at=TIME,
        lead_minutes=0,
        weather_run_at=[TIME, pd.NaT],
        any_number=1.0,
    ),
    "FeatureFitSums": lambda: _rows(
        product_id="hours",
        entity_id="hill",
        month_begin=TIME,
        point=["", "shore"],
        bin=12,
        n=3.0,
        wind=18.6,
        share=0.9,
        wind_wind=115.4,
        share_share=0.3,
        wind_share=5.6,
    ),
    "FeatureFits": lambda: _rows(
        product_id="hours",
        entity_id="hill",
        fitted_at=TIME,
        point=["", "shore"],
        wind_speed_ms=6.25,
        power_share=0.3,
        correlation=[0.8, None],
    ),
    "IssuesMade": lambda: _rows(product_id=["hours", "quarters"], issued_at=TIME, fingerprint="00ff00ff00ff00ff"),
    "ModelInput": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        issued_at=TIME,
        valid_at=TIME,
        lead_minutes=0,
        weather_run_at=TIME,
        any_number=1.0,
        target_available_at=TIME,
        power_share=0.5,
        available_capacity_kw=3000.0,
    ),
    "Landings": lambda: _rows(
        feed_id="mast",
        landed_at=[TIME, TIME + pd.Timedelta(minutes=5)],
        landed_on="2024-03-01",
        folder=["hill/landed_at=1", ""],
        files=[1, 0],
        bytes=[10, 0],
        rows=pd.array([3, None], dtype="Int64").tolist(),
        fault=["", "refused"],
    ).astype({"rows": "Int64"}),
    "Readiness": lambda: _rows(
        farm_id=["hill", "shore"],
        assessed_at=TIME,
        tier=["local", "none"],
        reason="because",
        history_days=[300.0, 0.0],
        learnable_days=[290.0, 0.0],
        coverage_share=[0.9, None],
        gaps=[2, 0],
        longest_gap_hours=[3.0, None],
        silent_hours=[1.0, None],
        latency_median_minutes=[10.0, None],
        latency_95_minutes=[20.0, None],
        reading=["as_stamped", ""],
        offset_minutes=[5.0, None],
        agrees=[True, None],
        stopped_rows_share=[0.1, None],
        curtailed_rows_share=[0.0, None],
        iced_rows_share=[0.0, None],
        quarantined_rows_share=[0.01, None],
        unreadable_sources=[0, 1],
        weather=FORECAST_WEATHER,
        weather_days=[400.0, 0.0],
        missing_runs=[1, 0],
        best_point=["alpha/site", ""],
        best_correlation=[0.8, None],
        other_farm=["shore", ""],
        other_correlation=[0.7, None],
        wrong_point=[False, False],
    ),
    "WeatherFit": lambda: _rows(
        farm_id="hill",
        assessed_at=TIME,
        weather_model="alpha",
        weather_point="site",
        of_farm=["hill", "shore"],
        distance_km=[0.0, 12.0],
        correlation=[0.8, None],
        hours=[900, 0],
        rank=[1, 2],
        better_months_share=[None, 0.1],
    ),
    "Admissions": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        needs="physical",
        tier=["local", "none"],
        admitted=[True, False],
        needs_history=[True, True],
        reason="because",
    ),
    "Turns": lambda: _rows(product_id="hours", entity_id=["hill", "both"], model="climatology"),
    "Trials": lambda: _rows(
        model="catboost",
        trial=[0, 1],
        settings="{}",
        loss_share=[0.04, None],
        seconds=[1.5, None],
        fault=["", "cannot"],
    ),
    "BacktestFolds": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        fold_begin=TIME,
        fold_end=TIME,
        known_until=TIME,
        trained_through=TIME,
        rows=9,
    ),
    "Judgements": lambda: _rows(**_JUDGED, detail=""),
    "Decisions": lambda: _rows(**_JUDGED, promoted=True, reason="because"),
    "Accuracy": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        as_of=TIME,
        deciding_score="pinball_share",
        cross_validated=0.03,
        backtested=0.033,
        operational=0.034,
        gap_share=[0.1, None],
        intervals=900,
        fallback_share=0.01,
    ),
    "Overrides": lambda: _rows(
        override=[1, 2],
        recorded_at=TIME,
        effective_at=TIME,
        kind=["hold", "leave_out"],
        product_id="",
        entity_id="hill",
        model="",
        begin=[pd.NaT, TIME],
        end=[pd.NaT, TIME],
        author="Ada",
        reason="because",
    ),
    "Choices": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        deciding_score="nmae_share",
        score=0.1,
        champion_score=[None, 0.2],
        reason="first",
    ),
    "Promotions": lambda: _rows(
        promotion=[1, 2],
        parent=[0, 1],
        action=["train", "rollback"],
        author=["", "somebody"],
        product_id="hours",
        entity_id=["hill", "both"],
        promoted_at=TIME,
        model="climatology",
        model_version="1",
        run_id="a",
        trained_through=TIME,
        available_at=TIME,
        deciding_score="nmae_share",
        score=0.1,
        champion_score=[None, 0.2],
        reason="first",
        recorded_at=TIME,
        manifest_sha256="d" * 64,
        chain="c",
        previous_sha256="0" * 64,
        key_id="k",
        signature="5" * 128,
    ),
    "Forecasts": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        model_version="1",
        issued_at=TIME,
        valid_at=TIME,
        lead_minutes=0,
        capacity_kw=3000.0,
        revised_issue_at=TIME,
        revision=0,
        weather_run_at=[TIME, pd.NaT],
        weather_run_age_minutes=[0.0, None],
        rung="champion",
        point_kw=1.0,
        fallback="",
        weather=FORECAST_WEATHER,
        q500_kw=1.0,
        q900_kw=[2.0, None],
    ),
    "BacktestForecasts": lambda: RIGHT["Forecasts"]().assign(fold_begin=TIME),
    "PortfolioSums": lambda: RIGHT["Forecasts"]().assign(made_from="0f"),
    "ShadowForecasts": lambda: RIGHT["Forecasts"]().assign(role="shadow"),
    "Attributions": lambda: _rows(
        product_id="hours",
        entity_id="hill",
        issued_at=TIME,
        valid_at=TIME,
        model="catboost",
        model_version="1",
        feature_group=["base", "wind"],
        contribution_kw=[900.0, -60.0],
        feature=["", "wind_speed_100m_ms"],
        feature_value=[None, 5.0],
    ),
    "Scores": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="climatology",
        period="all",
        lead_from_minutes=0,
        lead_to_minutes=60,
        metric="nmae_share",
        level=[None, 0.5],
        value=[0.1, None],
        n=[3, 0],
        weather=PERFECT_WEATHER,
    ),
    "LiveScores": lambda: RIGHT["Scores"]().assign(scored_on=[TIME, pd.NaT]),
    "Incidents": lambda: _rows(
        raised_at=TIME,
        entity_id="hill",
        product_id=["", "hours"],
        kind="stuck",
        subject=["", "signals.power_kw"],
        severity="warning",
        amount=[None, 0.1],
        message="",
        evidence="",
        action="",
        state=["open", None],
        opened_at=[TIME, None],
    ),
    "RawManifest": lambda: _rows(
        farm_id=["hill", "shore"],
        source_table="signals",
        path="export.csv",
        bytes=100,
        modified_ns=1_700_000_000_000_000_000,
        sha256="a" * 64,
    ),
    "Audit": lambda: _rows(
        product_id="hours",
        entity_id="hill",
        issued_at=TIME,
        model="catboost",
        model_version="1",
        revised_issue_at=[TIME, pd.NaT],
        revision=[0.0, None],
        rung=["champion", None],
        run_id="abc",
        fallback="",
        forecast_sha256="a",
        features_sha256="b",
        data_sha256="c",
        weather_runs="{}",
        weather_runs_missing="{}",
        failure_code=["", "forecast_not_issued"],
        failure_message=["", "hours/hill: not issued: no features"],
        failure_action=["", "run feature_engineering"],
        as_of=TIME,
        recorded_at=TIME,
        git_commit="c",
        configuration_sha256="d",
        lock_sha256="e",
        python="3.11.9",
        platform="Linux x86_64, 2 cores",
        libraries="{}",
        sequence=[1, 2],
        supersedes=[0, 1],
        previous_sha256="0" * 64,
        sha256="1" * 64,
    ),
    "Failures": lambda: _rows(
        stage="forecasting",
        product_id="hours",
        entity_id=["hill", "both"],
        issued_at=[TIME, None],
        code=["forecast_not_issued", "model_unusable"],
        severity=["error", "warning"],
        message="hours/hill: damaged",
        action="restore the model",
        raised_at=TIME,
    ),
    "LiveJudgements": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="catboost",
        issues=[40, 0],
        intervals=[160, 0],
        loss=0.05,
        backtest_loss=[0.04, None],
        expected_loss=[0.05, None],
        excess_share=[-0.01, None],
        p_value=[0.6, None],
        verdict=["weather", "unknown"],
    ),
    "Outliers": lambda: _rows(
        product_id="hours",
        entity_id=["hill", "both"],
        model="catboost",
        model_version="1",
        issued_at=TIME,
        valid_at=TIME,
        lead_minutes=0,
        loss=0.4,
        expected_loss=[0.1, None],
        median_share=0.9,
        actual_share=-0.01,
        wind_speed_ms=[24.0, None],
        wind_rank=[1.0, None],
        ramp_ms=[3.0, None],
        ramp_rank=[0.5, None],
        spread_ms=None,
        spread_rank=None,
        later_wind_speed_ms=[20.0, None],
        measured_wind_speed_ms=[18.0, None],
        coverage_share=1.0,
        stopped_share=0.0,
        curtailed_share=0.0,
        verdict=["storm", "data"],
        evidence="wind of 24.0 m/s",
    ),
    "Freshness": lambda: _rows(
        checked_at=TIME,
        source=["weather", "feed"],
        farm_id=["hill", ""],
        subject=["alpha/site", "inbox"],
        relied_on=True,
        newest_at=[TIME, None],
        reach_at=[TIME, None],
        age_minutes=[30.0, None],
        allowed_minutes=540.0,
        state=["fresh", "missing"],
        detail="",
    ),
    "Outbox": lambda: _rows(
        message_id=["0123456789abcdef", "fedcba9876543210"],
        created_at=TIME,
        channel=["log", "duty"],
        subject="[wind-kedro] 1 warning: hours/hill: behind_its_backtest",
        body="WARNING hours/hill: 'catboost' is 30% worse",
        incidents="[]",
    ),
    "Deliveries": lambda: _rows(
        message_id="0123456789abcdef",
        created_at=TIME,
        channel="duty",
        outcome=["failed", "delivered"],
        attempts=[4, 1],
        fault=["channel 'duty': refused", ""],
        recorded_at=[TIME, TIME + pd.Timedelta("1h")],
        recorded_on="2024-03-01",
    ),
    "Cycles": lambda: _rows(
        kind="forecast",
        due_at=TIME,
        attempt=[1, 2],
        cause="issue",
        as_of=TIME,
        started_at=TIME,
        ended_at=[TIME, pd.NaT],
        outcome=["failed", "running"],
        message=["the disk is full", ""],
        inputs="00ff00ff00ff00ff",
    ),
}


def _put(**values: Any) -> Spoil:
    return lambda table: table.assign(**values)


def _same_key(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table.iloc[:1], table.iloc[:1]], ignore_index=True)


#: Defects by contract, and the column or word that the refusal names.
DEFECTS: list[tuple[str, str, Spoil, str]] = [
    ("Signals", "unknown status", _put(status="lost"), "status"),
    ("Signals", "wind from nowhere", _put(wind_direction_deg=361.0), "wind_direction_deg"),
    ("Signals", "colder than any place", _put(temperature_c=-273.2), "temperature_c"),
    ("Signals", "wind below nothing", _put(wind_speed_ms=-1.0), "wind_speed_ms"),
    ("CellCounts", "wind below nothing", _put(bin=-1), "bin"),
    ("WeatherRuns", "same arrival twice", _same_key, "unique"),
    ("Quarantine", "unknown table", _put(source_table="rumours"), "source_table"),
    ("ClockCalibration", "unknown reading", _put(reading="sundial"), "reading"),
    ("ClockCalibration", "noise of nothing", _put(noise_minutes=0.0), "noise_minutes"),
    ("SuspectedUnits", "never found", _put(found_at=pd.NaT), "found_at"),
    ("ClockCalibration", "impossible correlation", _put(correlation=1.5), "correlation"),
    ("PowerCurve", "rows below nothing", _put(rows=-1), "rows"),
    ("Observations", "same version twice", _same_key, "unique"),
    ("Observations", "no capacity", _put(available_capacity_kw=0.0), "available_capacity_kw"),
    ("Observations", "more than everything", _put(coverage_share=1.2), "coverage_share"),
    ("Observations", "unknown power", _put(power_kw=None), "power_kw"),
    ("Observations", "no turbine", _put(turbines=0), "turbines"),
    ("Weather", "same time of a run twice", _same_key, "unique"),
    ("Weather", "storm beyond measure", _put(wind_speed_100m_ms=101.0), "wind_speed_100m_ms"),
    ("Weather", "no wind", _put(wind_speed_100m_ms=None), "wind_speed_100m_ms"),
    ("DataQuality", "unknown severity", _put(severity="panic"), "severity"),
    ("DataQuality", "count below nothing", _put(count=-1), "count"),
    ("Features", "same interval twice", _same_key, "unique"),
    ("Features", "before the issue", _put(lead_minutes=-60), "lead_minutes"),
    ("Features", "no issue time", _put(issued_at=pd.NaT), "issued_at"),
    ("FeatureFitSums", "of no interval", _put(n=0), "n"),
    ("FeatureFitSums", "same bin twice", _same_key, "unique"),
    ("FeatureFits", "negative wind", _put(wind_speed_ms=-1), "wind_speed_ms"),
    ("FeatureFits", "same bin twice", _same_key, "unique"),
    ("IssuesMade", "same issue twice", _same_key, "unique"),
    ("ModelInput", "unknown outcome", _put(power_share=None), "power_share"),
    ("ModelInput", "outcome that never arrived", _put(target_available_at=pd.NaT), "target_available_at"),
    ("ModelInput", "same interval twice", _same_key, "unique"),
    ("Landings", "a day that is none", _put(landed_on="today"), "landed_on"),
    ("Landings", "fewer than no bytes", _put(bytes=-1), "bytes"),
    ("Readiness", "unknown tier", _put(tier="splendid"), "tier"),
    ("Readiness", "impossible correlation", _put(best_correlation=1.5), "best_correlation"),
    ("Readiness", "same assessment twice", _same_key, "unique"),
    ("WeatherFit", "no rank", _put(rank=0), "rank"),
    ("WeatherFit", "same point twice", _same_key, "unique"),
    ("Admissions", "unknown tier", _put(needs="splendid"), "needs"),
    ("Admissions", "same candidate twice", _same_key, "unique"),
    ("Turns", "same candidate twice", _same_key, "unique"),
    ("Trials", "same trial twice", _put(trial=0), "unique"),
    ("BacktestFolds", "same fold twice", _same_key, "unique"),
    ("BacktestFolds", "learnt from nothing", _put(rows=0), "rows"),
    ("Judgements", "more than certain", _put(p_value=1.5), "p_value"),
    ("Judgements", "same challenger twice", _same_key, "unique"),
    ("Decisions", "unknown code", _put(code="whim"), "code"),
    ("Decisions", "same challenger twice", _same_key, "unique"),
    ("Accuracy", "fallbacks beyond all", _put(fallback_share=1.2), "fallback_share"),
    ("Accuracy", "same entity twice", _same_key, "unique"),
    ("Overrides", "nobody's", _put(author=""), "author"),
    ("Overrides", "unknown kind", _put(kind="wish"), "kind"),
    ("Overrides", "same number twice", _same_key, "unique"),
    ("Choices", "no reason", _put(reason=None), "reason"),
    ("Promotions", "no version", _put(model_version=None), "model_version"),
    ("Promotions", "same entity twice", _put(promotion=1, entity_id="hill"), "unique"),
    ("Promotions", "half a signature", _put(signature="5"), "signature"),
    ("Forecasts", "same interval twice", _same_key, "unique"),
    ("Forecasts", "power below nothing", _put(q900_kw=-1.0), "q900_kw"),
    ("Forecasts", "no median", _put(q500_kw=None), "q500_kw"),
    ("Forecasts", "no median column", lambda table: table.drop(columns="q500_kw"), "q500_kw"),
    ("Forecasts", "quantile named by hand", lambda table: table.rename(columns={"q900_kw": "p90"}), "p90"),
    ("Forecasts", "unknown weather", _put(weather="sunny"), "weather"),
    ("Forecasts", "unknown rung", _put(rung="ladder"), "rung"),
    ("Forecasts", "no capacity", _put(capacity_kw=0.0), "capacity_kw"),
    ("BacktestForecasts", "no fold", _put(fold_begin=pd.NaT), "fold_begin"),
    ("LiveScores", "unlabelled weather", _put(weather=""), "weather"),
    ("PortfolioSums", "made from nothing known", _put(made_from=None), "made_from"),
    ("ShadowForecasts", "unknown role", _put(role="star"), "role"),
    ("Attributions", "same attribution twice", lambda table: table.assign(feature_group="wind"), "unique"),
    ("Attributions", "moved by nothing known", _put(contribution_kw=None), "contribution_kw"),
    ("Scores", "coverage of more than all", _put(level=1.5), "level"),
    ("Scores", "an empty bucket", _put(lead_to_minutes=0), "lead_to_minutes"),
    ("Scores", "unlabelled weather", _put(weather=""), "weather"),
    ("Incidents", "unknown severity", _put(severity="panic"), "severity"),
    ("RawManifest", "a file twice", _same_key, "unique"),
    ("RawManifest", "no checksum", _put(sha256="abc"), "sha256"),
    ("Audit", "a number twice", _same_key, "unique"),
    ("Audit", "no link", _put(previous_sha256=""), "previous_sha256"),
    ("Failures", "unknown code", _put(code="mishap"), "code"),
    ("Failures", "neither note, warning nor error", _put(severity="fatal"), "severity"),
    ("Failures", "the same twice", _same_key, "unique"),
    ("LiveJudgements", "unknown verdict", _put(verdict="guilty"), "verdict"),
    ("LiveJudgements", "twice", _same_key, "product_id"),
    ("Outliers", "a rank above all", _put(wind_rank=1.1), "wind_rank"),
    ("Outliers", "unknown cause", _put(verdict="fate"), "verdict"),
    ("Outliers", "an hour twice", _same_key, "product_id"),
    ("Outbox", "a message twice", _same_key, "message_id"),
    ("Cycles", "an attempt twice", _put(attempt=1), "unique"),
    ("Cycles", "no such outcome", _put(outcome="perhaps"), "outcome"),
    ("Deliveries", "neither delivered nor failed", _put(outcome="perhaps"), "outcome"),
    ("Deliveries", "a message delivered twice", _put(outcome="delivered"), "each_delivered_once"),
    ("Deliveries", "an attempt twice", _same_key, "recorded_at"),
    ("Incidents", "neither open nor resolved", _put(state="perhaps"), "state"),
    ("Freshness", "a source twice", _same_key, "unique"),
    ("Freshness", "no age allowed", _put(allowed_minutes=0.0), "allowed_minutes"),
]


#: Every table's contract by its name.
CONTRACTS = {
    name: value
    for room in pkgutil.iter_modules(contracts.__path__)
    for name, value in vars(importlib.import_module(f"wind_kedro.contracts.{room.name}")).items()
    if isinstance(value, type)
    and issubclass(value, pa.DataFrameModel)
    and value not in {Contract, pa.DataFrameModel}
    and not name.startswith("_")
}


@pytest.mark.parametrize("contract", RIGHT)
def test_a_right_table_is_right_and_in_the_types_of_the_house(contract: str) -> None:
    table = CONTRACTS[contract].validate(RIGHT[contract]())
    assert len(table) == 2
    times = {str(table[name].dtype) for name in table if name.endswith("_at") or name == "trained_through"}
    assert times <= {"datetime64[us, UTC]"}
    assert "object" not in {str(dtype) for dtype in table.dtypes}


@pytest.mark.parametrize(
    ("contract", "spoil", "names"),
    [pytest.param(contract, spoil, names, id=f"{contract}: {defect}") for contract, defect, spoil, names in DEFECTS],
)
def test_a_defect_is_refused_by_name(contract: str, spoil: Spoil, names: str) -> None:
    with pytest.raises(REFUSALS, match=names):
        CONTRACTS[contract].validate(spoil(RIGHT[contract]()))


STRICT = [name for name in RIGHT if name not in {"Features", "ModelInput"}]


@pytest.mark.parametrize("contract", STRICT)
def test_an_unknown_column_is_refused(contract: str) -> None:
    with pytest.raises(REFUSALS, match="surprise"):
        CONTRACTS[contract].validate(RIGHT[contract]().assign(surprise=1))


@pytest.mark.parametrize("contract", RIGHT)
def test_a_column_that_is_not_there_is_named(contract: str) -> None:
    columns = CONTRACTS[contract].to_schema().columns
    declared = [name for name, column in columns.items() if not column.regex and column.required]
    for name in declared:
        with pytest.raises(REFUSALS, match=name):
            CONTRACTS[contract].validate(RIGHT[contract]().drop(columns=name))


def test_every_contract_of_the_house_is_tested_here() -> None:
    assert set(CONTRACTS) == set(RIGHT)
    assert {contract for contract, *_ in DEFECTS} == set(RIGHT)


@pytest.mark.parametrize("contract", [SignalsRaw, WeatherRaw])
def test_a_raw_table_is_judged_by_its_columns(contract: type[RawTable]) -> None:
    table = pd.DataFrame(columns=sorted(contract.columns))
    assert contract().validate(table) is table
    assert contract().validate(table.assign(more=1)) is not None
    with pytest.raises(ValueError, match=rf"{contract.__name__}: no column farm_id"):
        contract().validate(table.drop(columns="farm_id"))


def test_a_table_of_rows_has_the_columns_and_types_of_its_contract() -> None:
    nothing = ClockCalibration.table([])
    row = {"farm_id": "hill", "fitted_at": pd.Timestamp("2024-01-01"), "jumped_at": None, "rows": 3, "agrees": True}
    full = row | {
        "reading": "as_stamped",
        "assumed": "as_stamped",
        "shifted": False,
        "evidence": "{}",
        "offset_minutes": 0,
    }
    found = ClockCalibration.table([full])
    assert list(found.columns) == list(nothing.columns) == list(ClockCalibration.to_schema().columns)
    assert found["fitted_at"].tolist() == [pd.Timestamp("2024-01-01", tz="UTC")]
    assert found["noise_minutes"].isna().all()
    assert found.dtypes.equals(nothing.dtypes)
    ClockCalibration.validate(found)
