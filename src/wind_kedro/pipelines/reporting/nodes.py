"""Nodes that build the summary document and the report page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.failures import over_issues
from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import (
    CheckFacts,
    ClockFacts,
    EnergyFacts,
    Fact,
    FailureFacts,
    FarmFacts,
    Figure,
    ForecastFacts,
    MemberFacts,
    ModelFacts,
    OutlierFacts,
    ScoreFacts,
    Summary,
    Warned,
    weather_label,
)
from wind_kedro.pipelines.reporting.pages import moment, mwh, reading, render
from wind_kedro.pipelines.reporting.readiness import readiness_facts
from wind_kedro.pipelines.reporting.settings import Reporting
from wind_kedro.pipelines.reporting.views import Member

#: Decimals of facts: more than any measurement has, and few enough to be equal on all machines.
DIGITS = 6

_SEVERITIES = ("error", "warning", "info")


# --- the facts --------------------------------------------------------------------------------------------------------


def build_summary(
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    backtest_scores: pd.DataFrame,
    live_scores: pd.DataFrame,
    promotions: pd.DataFrame,
    incidents: pd.DataFrame,
    open_failures: pd.DataFrame,
    clock_calibration: pd.DataFrame,
    data_quality: pd.DataFrame,
    quarantine: pd.DataFrame,
    readiness: pd.DataFrame,
    outliers: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> dict[str, Any]:
    """Build the `Summary` of everything on the page, as of the clock's time, ready for JSON.

    Tables may be empty: unknown facts are null or empty lists, and the headline states it.
    """
    live_scores = views.known_periods(live_scores, clock)
    farms = [
        _farm_facts(farm, observations, clock_calibration, data_quality, quarantine, readiness, fleet, clock)
        for farm in fleet.farms
    ]
    members = [
        _member_facts(member, forecasts, observations, backtest_scores, live_scores, promotions, fleet, clock, reporting)
        for member in views.members(fleet)
    ]
    labels = {farm.weather for farm in farms} | {member.weather for member in members}
    summary = Summary(
        as_of=clock.as_of,
        weather=weather_label(weather_label(True) in labels),
        band_share=reporting.band_share,
        monitored_at=_newest(incidents, "raised_at", clock),
        inputs={
            "observations": max((farm.observed_to for farm in farms if farm.observed_to), default=None),
            "forecasts": _newest(forecasts, "issued_at", clock),
            "weather_run": _newest(forecasts, "weather_run_at", clock),
            "readiness": _newest(readiness, "assessed_at", clock),
        },
        warnings=_warnings(incidents, farms, members, clock, reporting),
        failures=_failure_facts(views.known(open_failures, "raised_at", clock)),
        farms=farms,
        members=members,
        outliers=_worst_hours(outliers, reporting),
        attributions=sorted({farm.attribution for farm in fleet.farms if farm.attribution}),
    )
    return summary.model_dump(mode="json")


def _failure_facts(failures: pd.DataFrame) -> list[FailureFacts]:
    found = [
        FailureFacts(
            **{name: row[name] for name in ("stage", "code", "severity", "product_id", "entity_id", "message", "action")},
            issues=len(row["issues"]),
            first_issue=_time(row["issues"][0]) if len(row["issues"]) else None,
            last_issue=_time(row["issues"][-1]) if len(row["issues"]) else None,
            raised_at=_time(row["raised_at"]),
        )
        for row in over_issues(failures)
    ]
    return sorted(found, key=lambda fact: (_SEVERITIES.index(fact.severity), fact.product_id, fact.entity_id, fact.stage))


def _worst_hours(outliers: pd.DataFrame, reporting: Reporting) -> list[OutlierFacts]:
    worst = outliers.sort_values("loss", ascending=False, kind="stable").head(reporting.outliers)
    return [OutlierFacts.model_validate(_plain(OutlierFacts, row)) for row in worst.to_dict("records")]


def _plain(facts: type[Fact], row: Mapping[Any, Any]) -> dict[str, Any]:
    """Select the fields of a kind of facts from a table's row, with numbers rounded."""

    def plain(value: Any) -> Any:
        if isinstance(value, pd.Timestamp):
            return _time(value)
        return _round(value) if isinstance(value, float) else value

    return {name: plain(row[name]) for name in facts.model_fields}


def _round(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), DIGITS)


def _time(value: Any) -> dt.datetime:
    return pd.Timestamp(value).to_pydatetime(warn=False)


def _newest(table: pd.DataFrame, column: str, clock: Clock) -> dt.datetime | None:
    newest = views.known(table, column, clock)[column].max()
    return None if pd.isna(newest) else _time(newest)


def _farm_facts(
    farm: Farm,
    observations: pd.DataFrame,
    clock_calibration: pd.DataFrame,
    data_quality: pd.DataFrame,
    quarantine: pd.DataFrame,
    readiness: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
) -> FarmFacts:
    mine = observations[observations["entity_id"] == farm.id]
    step = int(mine["granularity_minutes"].min()) if len(mine) else fleet.granularities_minutes[0]
    seen = views.measured(mine, farm.id, step, clock)
    fit = views.newest_fit(clock_calibration, farm.id, clock)
    found = data_quality[data_quality["farm_id"] == farm.id].sort_values(["source_table", "check", "signal"])
    quarantined = quarantine.loc[quarantine["farm_id"] == farm.id, "reason"].value_counts().sort_index()
    until = seen.index.max() + pd.Timedelta(minutes=step) if len(seen) else None
    expected = (until - seen.index.min()) / pd.Timedelta(minutes=step) if until is not None else 0
    return FarmFacts(
        farm_id=farm.id,
        name=farm.name,
        latitude_deg=farm.latitude_deg,
        longitude_deg=farm.longitude_deg,
        capacity_kw=farm.capacity_kw,
        turbines=len(farm.turbines),
        hub_height_m=round(farm.hub_height_m, 1),
        time_zone=farm.time_zone,
        weather=weather_label(farm.perfect_weather),
        attribution=farm.attribution,
        observed_from=_time(seen.index.min()) if len(seen) else None,
        observed_to=_time(until) if until is not None else None,
        mean_power_share=_round(seen["power_share"].mean()) if len(seen) else None,
        # Intervals without readings have no row and count as zero.
        readings_share=_round(seen["coverage_share"].sum() / expected) if expected else None,
        clock=_clock_facts(fit.iloc[0]) if len(fit) else None,
        readiness=readiness_facts(readiness, farm.id, clock),
        data_quality=[
            CheckFacts(**{str(name): value for name, value in row.items() if name != "farm_id"})
            for row in found.to_dict("records")
        ],
        set_aside_rows={str(reason): int(count) for reason, count in quarantined.items()},
    )


def _clock_facts(fit: pd.Series) -> ClockFacts:
    return ClockFacts(
        fitted_at=_time(fit["fitted_at"]),
        reading=fit["reading"],
        assumed=fit["assumed"],
        agrees=bool(fit["agrees"]),
        offset_minutes=round(float(fit["offset_minutes"]), 1),
        correlation=_round(fit["correlation"]),
        hours_compared=int(fit["rows"]),
    )


def _member_facts(
    member: Member,
    forecasts: pd.DataFrame,
    observations: pd.DataFrame,
    backtest_scores: pd.DataFrame,
    live_scores: pd.DataFrame,
    promotions: pd.DataFrame,
    fleet: Fleet,
    clock: Clock,
    reporting: Reporting,
) -> MemberFacts:
    product, market = member.product, fleet.market(member.product.market)
    newest = views.newest_issue(forecasts, member, clock)
    forecast, headline = None, "No forecast was issued yet."
    if len(newest):
        actual = views.measured(observations, member.entity_id, product.granularity_minutes, clock)
        window = views.headline_window(newest, member, market.time_zone, clock)
        forecast = _forecast_facts(newest, forecasts, actual, window, member, clock, reporting)
        headline = _headline(window.describe(clock.as_of, market.time_zone), forecast.energy)
    promotion = views.newest_promotion(promotions, member, clock)
    backtest, live = member.rows(backtest_scores), member.rows(live_scores)
    perfect = fleet.perfect_weather(member.entity_id) or any(
        (table["weather"] == weather_label(True)).any() for table in (newest, backtest, live)
    )
    return MemberFacts(
        product_id=product.id,
        product_name=product.name,
        entity_id=member.entity_id,
        entity_name=member.name,
        market=market.name,
        capacity_kw=member.capacity_kw,
        granularity_minutes=product.granularity_minutes,
        horizon_minutes=product.horizon_minutes,
        deciding_score=product.deciding_score,
        goal=product.goal.target,
        goal_since=product.goal.since,
        weather=weather_label(perfect),
        headline=headline,
        portfolio_of=[
            farm_id for group in fleet.portfolios_of(product) if group.id == member.entity_id for farm_id in group.farms
        ],
        forecast=forecast,
        model=None if promotion is None else ModelFacts(**_plain(ModelFacts, promotion.to_dict())),
        backtest=_score_facts(backtest, member, reporting),
        live=_score_facts(live, member, reporting),
    )


def _forecast_facts(
    newest: pd.DataFrame,
    forecasts: pd.DataFrame,
    actual: pd.DataFrame,
    window: views.Window,
    member: Member,
    clock: Clock,
    reporting: Reporting,
) -> ForecastFacts:
    energy = views.energy_range(
        forecasts,
        newest,
        actual,
        window,
        member,
        clock,
        band_share=reporting.band_share,
        min_issues=reporting.energy_range_issues,
    )
    low, high = views.band_levels(member.product.quantile_levels, reporting.band_share)
    hours = (window.end - window.start) / pd.Timedelta(hours=1)
    first = newest.iloc[0]
    return ForecastFacts(
        issued_at=_time(first["issued_at"]),
        first_valid_at=_time(first["valid_at"]),
        last_valid_at=_time(newest["valid_at"].iloc[-1]),
        model=first["model"],
        model_version=first["model_version"],
        fallback=first["fallback"],
        energy=EnergyFacts(
            kind=window.kind,
            start=_time(window.start),
            end=_time(window.end),
            expected_mwh=round(energy.expected_mwh, DIGITS),
            low_mwh=round(energy.low_mwh, DIGITS),
            high_mwh=round(energy.high_mwh, DIGITS),
            nominal_share=round(high - low, DIGITS),
            full_load_share=round(energy.expected_mwh / (member.capacity_kw / views.KW_PER_MW * hours), DIGITS),
            past_issues=energy.past_issues,
        ),
    )


def _headline(when: str, energy: EnergyFacts) -> str:
    tenths = round(energy.nominal_share * 10, DIGITS)
    cases = f"{tenths:.0f} of 10 cases" if tenths.is_integer() else f"{energy.nominal_share:.0%} of cases"
    more = "" if energy.past_issues else " or more"
    return (
        f"{when}: {mwh(energy.expected_mwh)} MWh expected, between {mwh(energy.low_mwh)} and {mwh(energy.high_mwh)} "
        f"in {cases}{more}."
    )


def _score_facts(scores: pd.DataFrame, member: Member, reporting: Reporting) -> list[ScoreFacts]:
    """One entry per model, best deciding score or nMAE first."""
    scores = views.over_all_leads(views.in_all(scores), member.product)
    low, high = views.band_levels(member.product.quantile_levels, reporting.band_share)
    facts = []
    for model, rows in scores.groupby("model"):
        plain = rows[rows["level"].isna()]
        inside = rows[(rows["metric"] == "coverage") & ((rows["level"] - (high - low)).abs() < 10**-DIGITS)]
        means = {
            metric: _round(views.weighted_mean(plain[plain["metric"] == metric]))
            for metric in ("nmae_share", "pinball_share", "bias_share")
        }
        facts.append(
            ScoreFacts(
                model=str(model),
                weather=weather_label(bool((rows["weather"] == weather_label(True)).any())),
                intervals=int(plain.loc[plain["metric"] == "nmae_share", "n"].sum()),
                coverage_share=_round(views.weighted_mean(inside)),
                **means,
            )
        )
    return sorted(facts, key=lambda fact: (fact.pinball_share is None, fact.pinball_share, fact.model))


def _warnings(
    incidents: pd.DataFrame, farms: list[FarmFacts], members: list[MemberFacts], clock: Clock, reporting: Reporting
) -> list[Warned]:
    """Warnings, worst first: incidents open as of the newest monitoring, and problems found in the report's tables."""
    known = views.known(incidents, "raised_at", clock)
    newest = known["raised_at"].max()
    still_open = known[(known["raised_at"] == newest) & (known["state"] != "resolved") & (known["severity"] != "info")]
    still_open = still_open.drop_duplicates(["entity_id", "product_id", "kind", "subject"], keep="last")
    still_open = still_open.assign(opened_at=still_open["opened_at"].fillna(still_open["raised_at"]))
    rows = still_open.drop(columns=["subject", "amount", "state"]).to_dict("records")
    found = [Warned(**row | {"raised_at": _time(row["raised_at"]), "opened_at": _time(row["opened_at"])}) for row in rows]
    if pd.isna(newest) or clock.as_of - newest > dt.timedelta(hours=reporting.monitoring_hours):
        last = "has not run yet" if pd.isna(newest) else f"ran last as of {moment(newest)}"
        found.append(
            Warned(
                raised_at=clock.as_of,
                severity="warning",
                kind="monitoring_stale",
                entity_id="",
                product_id="",
                message=f"Monitoring {last}: warnings may be missing here.",
                action="Run the pipeline monitoring.",
            )
        )
    warned_kinds = {(warned.entity_id, warned.kind) for warned in found}
    for farm in farms:
        # Monitoring may have raised it already, under a code of its own.
        if (
            farm.clock
            and not farm.clock.agrees
            and not any(farm.farm_id == who and "clock" in kind for who, kind in warned_kinds)
        ):
            found.append(
                Warned(
                    raised_at=farm.clock.fitted_at,
                    severity="warning",
                    kind="clock_disagrees_with_card",
                    entity_id=farm.farm_id,
                    product_id="",
                    message=f"{farm.name}: the card's reading of time stamps is '{reading(farm.clock.assumed)}', but the wind "
                    f"agrees with the weather under the reading '{reading(farm.clock.reading)}', which is used everywhere here.",
                    action="Ask the sender of the data, then correct 'clock' on the farm's card.",
                )
            )
    for member in members:
        if member.forecast and member.forecast.last_valid_at + dt.timedelta(minutes=member.granularity_minutes) <= clock.as_of:
            found.append(
                Warned(
                    raised_at=clock.as_of,
                    severity="error",
                    kind="forecast_is_over",
                    entity_id=member.entity_id,
                    product_id=member.product_id,
                    message=f"{member.entity_name}, {member.product_name}: the newest forecast ended at "
                    f"{moment(member.forecast.last_valid_at)}.",
                    action="Run the pipeline forecasting.",
                )
            )
    return sorted(found, key=lambda warned: (_SEVERITIES.index(warned.severity), warned.entity_id, warned.kind))


# --- the page ---------------------------------------------------------------------------------------------------------


def build_report(summary: Mapping[str, Any], reporting: Reporting, **figures: Figure) -> str:
    """Render the report page from the summary and the figures, as self-contained HTML.

    Args:
        summary: the facts.
        reporting: parameters of the pipeline.
        figures: by their names in the catalog, ``forecast_figure`` and so on.
    """
    facts = Summary.model_validate(summary)
    return render(
        "report.html.j2",
        {name.removesuffix("_figure"): figure for name, figure in figures.items()},
        facts=facts,
        farms={farm.farm_id: farm for farm in facts.farms},
        detailed=facts.members[: reporting.detailed_members],
        failures_shown=reporting.failures,
    )
