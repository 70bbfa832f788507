"""Nodes that build the summary document and the report page."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pandas as pd

from wind_kedro.cards import Farm, Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import FAILURE_CODES
from wind_kedro.datasets.derived import Sliced, frame_of
from wind_kedro.failures import over_issues
from wind_kedro.models.tables import rows_at
from wind_kedro.pipelines.reporting import documents, views
from wind_kedro.pipelines.reporting.documents import FarmFacts, Figure, MemberFacts, Summary, Warned, weather_label
from wind_kedro.pipelines.reporting.pages import moment, mwh, reading, render
from wind_kedro.pipelines.reporting.readiness import readiness_facts
from wind_kedro.pipelines.reporting.settings import Reporting
from wind_kedro.pipelines.reporting.views import DIGITS, Member
from wind_kedro.strict import Strict

_SEVERITIES = ("error", "warning", "info")
#: Failures of an entity's data, from which later failures of the same entity follow.
_FIRST_CAUSES = ("source_unreadable", "quarantined", "features_not_made")
_ORDER = {code: number for number, code in enumerate(FAILURE_CODES)}
Listed = TypeVar("Listed", Warned, documents.FailureFacts)
Tables = Mapping[str, pd.DataFrame]


# --- the facts --------------------------------------------------------------------------------------------------------


def build_summary(fleet: Fleet, clock: Clock, reporting: Reporting, **given: Sliced | pd.DataFrame) -> dict[str, Any]:
    """Build the `Summary` of everything on the page, as of the clock's time, ready for JSON.

    Tables, named as in `pipeline.FACTS`, may be empty: unknown facts are null or empty lists, and the headline states it.
    """
    tables = {name: frame_of(table) for name, table in given.items()}
    tables["live_scores"] = views.known_periods(tables["live_scores"], clock)
    of_farms = [
        _by(tables, ["farm_id"], "data_quality", "quarantine", "clock_calibration", "readiness"),
        _by(tables, ["entity_id"], "observations"),
    ]
    of_members = _by(tables, ["product_id", "entity_id"], "forecasts", "promotions", "backtest_scores", "live_scores")
    farms = [
        _farm_facts(farm, {name: of(farm.id) for own in of_farms for name, of in own.items()}, fleet, clock)
        for farm in fleet.at(clock.as_of).farms
    ]
    members = []
    for member in views.members(fleet, clock):
        own = {name: of((member.product.id, member.entity_id)) for name, of in of_members.items()}
        own["observations"] = of_farms[1]["observations"](member.entity_id)
        members.append(_member_facts(member, own, fleet, clock, reporting))
    labels = {farm.weather for farm in farms} | {member.weather for member in members}
    worst = tables["outliers"].sort_values("loss", ascending=False, kind="stable").head(reporting.outliers)
    summary = Summary(
        as_of=clock.as_of,
        weather=weather_label(weather_label(True) in labels),
        band_share=reporting.band_share,
        monitored_at=_newest(tables["incidents"], "raised_at", clock),
        inputs={
            "observations": max((farm.observed_to for farm in farms if farm.observed_to), default=None),
            "forecasts": _newest(tables["forecasts"], "issued_at", clock),
            "weather_run": _newest(tables["forecasts"], "weather_run_at", clock),
            "readiness": _newest(tables["readiness"], "assessed_at", clock),
        },
        warnings=_warnings(tables["incidents"], farms, members, clock, reporting),
        failures=_failure_facts(views.known(tables["open_failures"].query("severity != 'info'"), "raised_at", clock)),
        farms=farms,
        members=members,
        outliers=[documents.OutlierFacts(**_plain(documents.OutlierFacts, row)) for row in worst.to_dict("records")],
        attributions=sorted({farm.attribution for farm in fleet.farms if farm.attribution}),
    )
    return summary.model_dump(mode="json")


def _by(tables: Tables, columns: list[str], *names: str) -> dict[str, Callable[[Any], pd.DataFrame]]:
    """For some tables, what gives the rows of one value of the columns.

    Places are found once for all values: a filter for each of a thousand members would read the table a thousand times.
    """

    def rows_by(table: pd.DataFrame) -> Callable[[Any], pd.DataFrame]:
        places: dict[Any, Any] = table.groupby(columns if len(columns) > 1 else columns[0]).indices

        def rows(key: Any) -> pd.DataFrame:
            own = places.get(key)
            return table.iloc[:0] if own is None else rows_at(table, own)

        return rows

    return {name: rows_by(tables[name]) for name in names}


def _plain(facts: type[Strict], row: Any, **others: Any) -> dict[str, Any]:
    """Select the fields of a kind of facts from a table's row, with numbers rounded and Python's times; and ``others``."""
    fields = {name: row[name] for name in facts.model_fields if name not in others}
    return {name: _round(value) if isinstance(value, float) else _time(value) for name, value in fields.items()} | others


def _round(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), DIGITS)


def _time(value: Any) -> Any:
    return value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value


def _newest(table: pd.DataFrame, column: str, clock: Clock) -> dt.datetime | None:
    newest = views.known(table, column, clock)[column].max()
    return None if pd.isna(newest) else _time(newest)


def _failure_facts(failures: pd.DataFrame) -> list[documents.FailureFacts]:
    found = []
    for row in over_issues(failures):
        times = row["issues"]
        first, last = (_time(times[0]), _time(times[-1])) if len(times) else (None, None)
        found.append(
            documents.FailureFacts(**_plain(documents.FailureFacts, row, issues=len(times), first_issue=first, last_issue=last))
        )
    return sorted(found, key=lambda fact: (_SEVERITIES.index(fact.severity), fact.product_id, fact.entity_id, fact.stage))


def _farm_facts(farm: Farm, tables: Tables, fleet: Fleet, clock: Clock) -> FarmFacts:
    quality, quarantine = (tables[name][tables[name]["farm_id"] == farm.id] for name in ("data_quality", "quarantine"))
    mine = tables["observations"][tables["observations"]["entity_id"] == farm.id]
    step = int(mine["granularity_minutes"].min()) if len(mine) else fleet.granularities_minutes[0]
    seen = views.measured(mine, farm.id, step, clock)
    fit = views.newest_fit(tables["clock_calibration"], farm.id, clock)
    until = seen.index.max() + pd.Timedelta(minutes=step) if len(seen) else None
    expected = (until - seen.index.min()) / pd.Timedelta(minutes=step) if until is not None else 0
    return FarmFacts(
        farm_id=farm.id, name=farm.name, latitude_deg=farm.latitude_deg, longitude_deg=farm.longitude_deg,
        capacity_kw=farm.capacity_kw, turbines=len(farm.turbines),
        hub_height_m=round(farm.hub_height_m, 1) if farm.turbines else None,
        time_zone=farm.time_zone, weather=weather_label(farm.perfect_weather), attribution=farm.attribution,
        observed_from=_time(seen.index.min()) if len(seen) else None,
        observed_to=_time(until),
        mean_power_share=_round(seen["power_share"].mean()) if len(seen) else None,
        # Intervals without readings have no row and count as zero.
        readings_share=_round(seen["coverage_share"].sum() / expected) if expected else None,
        clock=_clock_facts(fit.iloc[0]) if len(fit) else None,
        readiness=readiness_facts(tables["readiness"], farm.id, clock),
        data_quality=[
            documents.CheckFacts(**_plain(documents.CheckFacts, row))
            for row in quality.sort_values(["source_table", "check", "signal"]).to_dict("records")
        ],
        set_aside_rows={str(reason): int(count) for reason, count in quarantine["reason"].value_counts().sort_index().items()},
    )  # fmt: skip


def _clock_facts(fit: pd.Series) -> documents.ClockFacts:
    offset = round(float(fit["offset_minutes"]), 1)
    return documents.ClockFacts(
        **_plain(documents.ClockFacts, fit, agrees=bool(fit["agrees"]), offset_minutes=offset, hours_compared=int(fit["rows"]))
    )


def _member_facts(member: Member, tables: Tables, fleet: Fleet, clock: Clock, reporting: Reporting) -> MemberFacts:
    product, market = member.product, fleet.market(member.product.market)
    newest = views.newest_issue(tables["forecasts"], member, clock)
    forecast, headline = None, "No forecast was issued yet."
    if len(newest):
        actual = views.measured(tables["observations"], member.entity_id, product.granularity_minutes, clock)
        window = views.headline_window(newest, member, market.time_zone, clock)
        share, least = reporting.band_share, reporting.energy_range_issues
        energy = views.energy_range(
            tables["forecasts"], newest, actual, window, member, clock, band_share=share, min_issues=least
        )  # fmt: skip
        first, last = _time(newest["valid_at"].iloc[0]), _time(newest["valid_at"].iloc[-1])
        forecast = documents.ForecastFacts(
            **_plain(documents.ForecastFacts, newest.iloc[0], first_valid_at=first, last_valid_at=last, energy=energy)
        )
        headline = _headline(window.describe(clock.as_of, market.time_zone), energy)
    promotion = views.newest_promotion(tables["promotions"], member, clock)
    backtest, live = member.rows(tables["backtest_scores"]), member.rows(tables["live_scores"])
    perfect = member.perfect_weather or any((table["weather"] == weather_label(True)).any() for table in (newest, backtest, live))
    return MemberFacts(
        product_id=product.id, product_name=product.name, entity_id=member.entity_id, entity_name=member.name,
        market=market.name, capacity_kw=member.capacity_kw, granularity_minutes=product.granularity_minutes,
        horizon_minutes=product.horizon_minutes, deciding_score=product.deciding_score, goal=product.goal.target,
        goal_since=product.goal.since, weather=weather_label(perfect), headline=headline,
        portfolio_of=[farm.id for farm in member.farms] if member.entity_id not in fleet.modelled(product) else [],
        forecast=forecast,
        model=None if promotion is None else documents.ModelFacts(**_plain(documents.ModelFacts, promotion)),
        backtest=_score_facts(backtest, member, reporting),
        live=_score_facts(live, member, reporting),
    )  # fmt: skip


def _headline(when: str, energy: documents.EnergyFacts) -> str:
    tenths = round(energy.nominal_share * 10, DIGITS)
    cases = f"{tenths:.0f} of 10 cases" if tenths.is_integer() else f"{energy.nominal_share:.0%} of cases"
    low, high, more = mwh(energy.low_mwh), mwh(energy.high_mwh), "" if energy.past_issues else " or more"
    return f"{when}: {mwh(energy.expected_mwh)} MWh expected, between {low} and {high} in {cases}{more}."


def _score_facts(scores: pd.DataFrame, member: Member, reporting: Reporting) -> list[documents.ScoreFacts]:
    """One entry per model, the best pinball loss first."""
    scores = views.over_all_leads(views.in_all(scores), member.product)
    low, high = views.band_levels(member.product.quantile_levels, reporting.band_share)
    facts = []
    plain = scores[scores["level"].isna()]
    inside = scores[(scores["metric"] == "coverage") & ((scores["level"] - (high - low)).abs() < 10**-DIGITS)]
    means, coverage = (views.weighted_means(rows) for rows in (plain, inside))
    intervals = plain[plain["metric"] == "nmae_share"].groupby("model")["n"].sum()
    perfect = set(scores.loc[scores["weather"] == weather_label(True), "model"])
    for model in sorted(scores["model"].unique()):
        facts.append(
            documents.ScoreFacts(
                model=str(model),
                weather=weather_label(model in perfect),
                intervals=int(intervals.get(model, 0)),
                coverage_share=_round(coverage.get((model, "coverage"))),
                **{name: _round(means.get((model, name))) for name in ("nmae_share", "pinball_share", "bias_share")},
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
    found = [Warned(**_plain(Warned, row)) for row in still_open.to_dict("records")]
    if pd.isna(newest) or clock.as_of - newest > dt.timedelta(hours=reporting.monitoring_hours):
        last = "has not run yet" if pd.isna(newest) else f"ran last as of {moment(newest)}"
        found.append(
            Warned(
                raised_at=clock.as_of, severity="warning", kind="monitoring_stale", entity_id="", product_id="",
                message=f"Monitoring {last}: warnings may be missing here.",
                action="Run the pipeline monitoring.",
            )
        )  # fmt: skip
    # Monitoring may have raised it already, under a code of its own.
    warned_clocks = {warned.entity_id for warned in found if "clock" in warned.kind}
    found += [
        Warned(
            raised_at=farm.clock.fitted_at, severity="warning", kind="clock_disagrees_with_card", entity_id=farm.farm_id,
            product_id="",
            message=f"{farm.name}: the card's reading of time stamps is '{reading(farm.clock.assumed)}', but the wind "
            f"agrees with the weather under the reading '{reading(farm.clock.reading)}', which is used everywhere here.",
            action="Ask the sender of the data, then correct 'clock' on the farm's card.",
        )
        for farm in farms
        if farm.clock and not farm.clock.agrees and farm.farm_id not in warned_clocks
    ]  # fmt: skip
    found += [
        Warned(
            raised_at=clock.as_of, severity="error", kind="forecast_is_over", entity_id=member.entity_id,
            product_id=member.product_id,
            message=f"{member.entity_name}, {member.product_name}: the newest forecast ended at "
            f"{moment(member.forecast.last_valid_at)}.",
            action="Run the pipeline forecasting.",
        )
        for member in members
        if member.forecast and member.forecast.last_valid_at + dt.timedelta(minutes=member.granularity_minutes) <= clock.as_of
    ]  # fmt: skip
    return sorted(found, key=lambda warned: (_SEVERITIES.index(warned.severity), warned.entity_id, warned.kind))


# --- the page ---------------------------------------------------------------------------------------------------------


def first_causes(listed: Iterable[Listed], code_field: str) -> list[tuple[Listed, int]]:
    """Leave out what follows from an earlier failure of the same entity's data; with each entry, the number left out for it.

    A source that cannot be read leaves a farm without features, and so without a forecast: one entry with two consequences.
    """
    entries = [(entry, getattr(entry, code_field)) for entry in listed]
    causes = defaultdict(list)
    for entry, code in entries:
        if entry.entity_id and entry.severity == "error" and code in _FIRST_CAUSES:
            causes[entry.entity_id].append((_ORDER[code], entry))
    cause_of = {}
    for entry, code in entries:
        earlier = [
            cause
            for cause in causes[entry.entity_id]
            if cause[0] < _ORDER.get(code, -1) and cause[1].product_id in {"", entry.product_id}
        ]
        cause_of[id(entry)] = id(min(earlier, key=lambda cause: cause[0])[1]) if earlier else id(entry)
    counts = Counter(cause_of.values())
    return [(entry, counts[id(entry)] - 1) for entry, _ in entries if cause_of[id(entry)] == id(entry)]


def build_report(summary: Mapping[str, Any], reporting: Reporting, **figures: Figure) -> str:
    """Render the report page from the summary and the figures (``forecast_figure`` and others), as self-contained HTML."""
    facts = Summary.model_validate(summary)
    return render(
        "report.html.j2",
        {name.removesuffix("_figure"): figure for name, figure in figures.items()},
        facts=facts,
        farms={farm.farm_id: farm for farm in facts.farms},
        detailed=facts.members[: reporting.detailed_members],
        warnings=first_causes(facts.warnings, "kind"),
        failures=first_causes(facts.failures, "code"),
        failures_shown=reporting.failures,
    )
