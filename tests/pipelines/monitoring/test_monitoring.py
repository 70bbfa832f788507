"""Live scores against what the backtest promised, and who is told."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest

from records import as_forecasts
from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts import operation
from wind_kedro.contracts.observations import DataQuality
from wind_kedro.contracts.operation import Deliveries, Failures, Incidents, LiveJudgements, Outbox
from wind_kedro.datasets.parts import empty_table
from wind_kedro.evaluation.settings import Scoring
from wind_kedro.failures import Failure, failures_table
from wind_kedro.notifications import ChannelCards
from wind_kedro.pipelines.monitoring.failures import collect_failures
from wind_kedro.pipelines.monitoring.nodes import raise_incidents
from wind_kedro.pipelines.monitoring.outbox import write_outbox
from wind_kedro.pipelines.monitoring.settings import Monitoring

from .live import LiveScored

# Ibis 12 about DuckDB 2 and pandas 3.1.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
CLOCK = Clock.model_validate({"as_of": "2024-03-03T00:00"})
MONITORING = Monitoring(tolerance_share=0.1, min_intervals=10)
SCORING = Scoring(lead_edges_minutes=[0, 120, 240])


def _forecasts(issued: list[str], model: str = "champion", median: float = 300.0) -> pd.DataFrame:
    rows = []
    for text in issued:
        issued_at = pd.Timestamp(text, tz="UTC")
        for lead in (60, 120):
            rows.append({"issued_at": issued_at, "valid_at": issued_at + pd.Timedelta(minutes=lead), "lead_minutes": lead})
    return as_forecasts(
        pd.DataFrame(rows).assign(
            product_id="hours",
            entity_id="hill",
            model=model,
            model_version="1",
            capacity_kw=3000.0,
            weather_run_at=pd.NaT,
            fallback="",
            weather=FORECAST_WEATHER,
            q100_kw=0.0,
            q500_kw=median,
            q900_kw=600.0,
        )
    )


def _score(forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    with TemporaryDirectory() as folder:
        return LiveScored(Path(folder), fleet).run(forecasts, observations, CLOCK, SCORING)[0]


def _value(scores: pd.DataFrame, metric: str, period: str, lead: tuple[int, int], model: str = "champion") -> tuple[float, int]:
    row = scores[
        (scores["metric"] == metric)
        & scores["level"].isna()
        & (scores["period"] == period)
        & (scores["model"] == model)
        & (scores["lead_from_minutes"] == lead[0])
        & (scores["lead_to_minutes"] == lead[1])
    ]
    assert len(row) == 1
    return float(row["value"].iloc[0]), int(row["n"].iloc[0])


WHOLE = (0, 240)


def test_what_was_issued_is_scored_in_all_and_day_by_day(fleet: Fleet, observe: MakeTable) -> None:
    # Forecast .1 of capacity: the first day .2 came, the second .1 and nothing, which at 08:00 is off by .1.
    observations = observe(
        [{"valid_at": f"2024-03-01 {hour}", "share": 0.2} for hour in ("07:00", "08:00")]
        + [{"valid_at": "2024-03-02 07:00", "share": 0.1}, {"valid_at": "2024-03-02 08:00", "share": 0.0}]
    )
    scores = _score(_forecasts(["2024-03-01 06:00", "2024-03-02 06:00"]), observations, fleet)
    assert _value(scores, "nmae_share", "all", WHOLE) == (pytest.approx(0.075), 4)
    assert _value(scores, "nmae_share", "all", (0, 120)) == (pytest.approx(0.05), 2)
    assert _value(scores, "nmae_share", "all", (120, 240)) == (pytest.approx(0.1), 2)
    assert _value(scores, "nmae_share", "2024-03-01", WHOLE) == (pytest.approx(0.1), 2)
    assert _value(scores, "nmae_share", "2024-03-02", WHOLE) == (pytest.approx(0.05), 2)
    # A day has too few intervals to be cut by lead time.
    daily = scores[scores["period"] != "all"]
    assert set(zip(daily["lead_from_minutes"], daily["lead_to_minutes"], strict=True)) == {WHOLE}


def test_what_is_not_known_yet_is_not_scored(fleet: Fleet, observe: MakeTable) -> None:
    observations = observe(
        [
            {"valid_at": "2024-03-01 07:00", "share": 0.2},
            {"valid_at": "2024-03-01 08:00", "share": 0.9, "available_at": "2024-03-03 00:01"},
        ]
    )
    scores = _score(_forecasts(["2024-03-01 06:00", "2024-03-03 06:00"]), observations, fleet)
    assert _value(scores, "nmae_share", "all", WHOLE) == (pytest.approx(0.1), 1)
    assert set(scores["period"]) == {"all", "2024-03-01"}


def test_models_that_followed_one_another_are_scored_each_on_its_own_issues(fleet: Fleet, observe: MakeTable) -> None:
    observations = observe([{"valid_at": f"2024-03-0{day} 0{hour}:00", "share": 0.1} for day in (1, 2) for hour in (7, 8)])
    issued = pd.concat(
        [_forecasts(["2024-03-01 06:00"], "old"), _forecasts(["2024-03-02 06:00"], "new", median=0.0)],
        ignore_index=True,
    )
    scores = _score(issued, observations, fleet)
    assert _value(scores, "nmae_share", "all", WHOLE, "old") == (pytest.approx(0.0), 2)
    assert _value(scores, "nmae_share", "all", WHOLE, "new") == (pytest.approx(0.1), 2)


def test_before_anything_came_there_are_no_scores(fleet: Fleet, observe: MakeTable) -> None:
    assert _score(_forecasts(["2024-03-01 06:00"]), observe([]), fleet).empty


# --- incidents -------------------------------------------------------------------------------------------------------


def _quality(*rows: tuple[str, str]) -> pd.DataFrame:
    columns = list(DataQuality.to_schema().columns)
    full = [
        {
            "farm_id": "hill",
            "source_table": "signals",
            "check": check,
            "signal": "row",
            "count": 1,
            "of": 2,
            "severity": severity,
            "message": f"{check}!",
        }
        for check, severity in rows
    ]
    return DataQuality.validate(pd.DataFrame(full, columns=columns))


def _judgements(**columns: Any) -> pd.DataFrame:
    row = {
        "product_id": "hours",
        "entity_id": "hill",
        "model": "champion",
        "issues": 40,
        "intervals": 160,
        "loss": 0.13,
        "backtest_loss": 0.1,
        "expected_loss": 0.104,
        "excess_share": 0.25,
        "p_value": 0.001,
        "verdict": "as_promised",
    }
    return LiveJudgements.validate(pd.DataFrame([row | columns]))


#: Both farms are ready.
READY = pd.DataFrame(
    {
        "farm_id": ["hill", "shore"],
        "assessed_at": pd.Timestamp("2024-03-02 12:00", tz="UTC"),
        "tier": "local",
        "reason": "",
        "wrong_point": False,
    }
)

#: What was trained lately, and challenged by nobody.
DECIDED = pd.DataFrame(
    {
        "product_id": ["hours", "quarters"],
        "entity_id": ["hill", "shore"],
        "decided_at": pd.Timestamp("2024-03-01", tz="UTC"),
        "promoted": True,
        "code": "better",
        "challenger": "x",
    }
)

#: What `silence` looks at has tests of its own: here every source is fresh, and every product issued in time.
NO_FAILURES = empty_table("wind_kedro.contracts.operation.Failures")
FRESH = empty_table("wind_kedro.contracts.operation.Freshness")


def _in_time(fleet: Fleet) -> pd.DataFrame:
    """The newest issue of every product and member."""
    rows = []
    for product in fleet.products:
        at = pd.Timestamp(CLOCK.newest_issue(fleet.calendar(product.id)))
        rows += [
            _forecasts([str(at.tz_localize(None))]).assign(product_id=product.id, entity_id=name) for name in product.members
        ]
    return pd.concat(rows, ignore_index=True)


def _raise(
    quality: pd.DataFrame,
    judgements: pd.DataFrame,
    fleet: Fleet,
    readiness: pd.DataFrame = READY,
    decisions: pd.DataFrame = DECIDED,
    failures: pd.DataFrame = NO_FAILURES,
) -> pd.DataFrame:
    return Incidents.validate(
        raise_incidents(
            failures,
            quality,
            judgements,
            readiness,
            decisions,
            FRESH,
            _in_time(fleet),
            empty_table("wind_kedro.contracts.forecasts.Scores"),
            empty_table("wind_kedro.contracts.observations.Observations"),
            {},
            fleet,
            CLOCK,
            MONITORING,
        )
    )


def test_a_farm_that_may_have_no_model_and_a_wrong_point_are_told(
    fleet: Fleet, assess: Callable[[list[dict[str, Any]]], pd.DataFrame]
) -> None:
    readiness = assess(
        [
            {"farm_id": "hill", "wrong_point": True, "reason": "the weather of 'shore' explains its power better"},
            {"farm_id": "shore", "tier": "none", "reason": "no weather is known yet"},
            {"farm_id": "shore", "assessed_at": "2023-01-01"},
            {"farm_id": "hill", "tier": "none", "assessed_at": "2050-01-01"},
        ]
    )
    found = _raise(_quality(("stuck", "info")), _judgements(), fleet, readiness)
    assert found[["entity_id", "kind", "severity", "message"]].to_numpy().tolist() == [
        ["hill", "wrong_point", "warning", "the weather of 'shore' explains its power better"],
        ["shore", "not_ready", "warning", "no weather is known yet"],
    ]


def test_a_quiet_day_says_so_and_so_replaces_what_an_earlier_run_found(fleet: Fleet) -> None:
    incidents = _raise(_quality(("stuck", "info")), _judgements(), fleet)
    assert incidents[["kind", "severity"]].to_numpy().tolist() == [["all_clear", "info"]]


def test_what_the_data_warn_of_is_told_with_what_to_do(fleet: Fleet) -> None:
    quality = _quality(
        ("stuck", "info"), ("clock_disagrees_with_card", "warning"), ("source_unreadable", "error"), ("gap", "warning")
    )
    incidents = _raise(quality, _judgements(), fleet)
    # An unreadable source is a row of failures, and an incident by that.
    assert incidents[["entity_id", "product_id", "kind", "severity", "message"]].to_numpy().tolist() == [
        ["hill", "", "clock_disagrees_with_card", "warning", "clock_disagrees_with_card!"],
        ["hill", "", "gap", "warning", "gap!"],
    ]
    assert incidents["action"].str.contains("farms.yml").tolist() == [True, False]
    assert (incidents["action"] != "").all()
    assert set(incidents["raised_at"]) == {pd.Timestamp("2024-03-03", tz="UTC")}


def test_incidents_say_what_shows_them_and_how_much(fleet: Fleet) -> None:
    (row,) = _raise(_quality(("gap", "warning")), _judgements(), fleet).to_dict("records")
    assert (row["subject"], row["amount"], row["evidence"]) == ("signals.row", 0.5, "1 of 2 in data_quality")


def test_a_model_behind_its_backtest_is_told(fleet: Fleet) -> None:
    (row,) = _raise(_quality(), _judgements(verdict="behind"), fleet).to_dict("records")
    assert (row["kind"], row["entity_id"], row["product_id"]) == ("behind_its_backtest", "hill", "hours")
    assert (row["subject"], row["severity"], row["amount"]) == ("champion", "warning", 0.25)
    assert row["message"] == "'champion' is 25% worse than its backtest was in the same weather"
    assert "its backtest 0.1000, in the same weather 0.1040; p = 0.001; 40 issues, 160 intervals" in row["evidence"]


def test_hard_weather_is_for_the_record_only(fleet: Fleet) -> None:
    (row,) = _raise(_quality(), _judgements(verdict="weather", excess_share=0.02), fleet).to_dict("records")
    assert (row["kind"], row["severity"]) == ("hard_weather", "info")
    assert "scores 30% worse" in row["message"]


@pytest.mark.parametrize("verdict", ["as_promised", "unknown"])
def test_a_model_that_does_as_promised_is_no_incident(fleet: Fleet, verdict: str) -> None:
    assert _raise(_quality(), _judgements(verdict=verdict), fleet)["kind"].tolist() == ["all_clear"]


# --- the outbox ------------------------------------------------------------------------------------------------------

CHANNELS = ChannelCards.model_validate({"duty": {"kind": "log"}, "chat": {"kind": "log", "min_severity": "error"}})


def _nothing(name: str) -> Any:
    return getattr(operation, name).validate(empty_table(f"wind_kedro.contracts.operation.{name}"))


def _write(found: pd.DataFrame, outbox: pd.DataFrame | None = None, deliveries: pd.DataFrame | None = None) -> Any:
    outbox = _nothing("Outbox") if outbox is None else outbox
    deliveries = _nothing("Deliveries") if deliveries is None else deliveries
    incidents, written = write_outbox(found, _nothing("Incidents"), outbox, deliveries, CHANNELS, CLOCK, MONITORING)
    return Incidents.validate(incidents), Outbox.validate(written)


def test_a_message_is_a_row_of_the_outbox_for_each_channel_that_wants_it(fleet: Fleet) -> None:
    found = _raise(_quality(("gap", "warning"), ("nothing_available", "error")), _judgements(), fleet)
    incidents, outbox = _write(found)
    assert incidents["kind"].tolist() == ["gap", "nothing_available"]
    assert outbox["channel"].tolist() == ["duty", "chat"]
    assert [[row["kind"] for row in json.loads(text)] for text in outbox["incidents"]] == [
        ["nothing_available", "gap"], ["nothing_available"],
    ]  # fmt: skip
    assert set(outbox["created_at"]) == {pd.Timestamp(CLOCK.as_of)}
    # A rerun writes the same messages, and no others.
    pd.testing.assert_frame_equal(_write(found, outbox)[1], outbox)


def test_a_channel_that_failed_is_an_incident_which_goes_over_the_others(fleet: Fleet) -> None:
    found = _raise(_quality(("nothing_available", "error")), _judgements(), fleet)
    _, outbox = _write(found)
    failed = outbox[outbox["channel"] == "chat"]
    deliveries = Deliveries.validate(
        pd.DataFrame(
            {
                "message_id": failed["message_id"], "created_at": failed["created_at"], "channel": "chat",
                "outcome": "failed", "attempts": 4, "fault": "channel 'chat': nobody listens; tried 4 times",
                "recorded_at": failed["created_at"], "recorded_on": "2024-03-03",
            }
        )
    )  # fmt: skip
    incidents, now = _write(found, outbox, deliveries)
    row = incidents[incidents["kind"] == "notification_failed"].iloc[0]
    assert (row["subject"], row["severity"]) == ("chat", "warning")
    assert row["message"] == "1 message not delivered over channel 'chat'"
    assert row["evidence"] == "channel 'chat': nobody listens; tried 4 times"
    new = now[~now["message_id"].isin(outbox["message_id"])]
    assert [(one["channel"], json.loads(one["incidents"])[0]["kind"]) for one in new.to_dict("records")] == [
        ("duty", "notification_failed")
    ]
    # Delivered in the next run: the incident ends.
    later = deliveries.assign(outcome="delivered", fault="", recorded_at=deliveries["recorded_at"] + pd.Timedelta("1h"))
    incidents, _ = _write(found, now, Deliveries.validate(pd.concat([deliveries, later], ignore_index=True)))
    assert "notification_failed" not in set(incidents.loc[incidents["state"] == "open", "kind"])


def test_a_quiet_day_writes_no_message(fleet: Fleet) -> None:
    incidents, outbox = _write(_raise(_quality(), _judgements(), fleet))
    assert incidents["kind"].tolist() == ["all_clear"]
    assert len(outbox) == 0


# --- failures of the stages ----------------------------------------------------------------------------------------------


def _failed(code: str, *issues: str, stage: str = "forecasting", entity_id: str = "hill", **more: Any) -> list[Failure]:
    failure = Failure(stage, code, f"{entity_id}: {code}", "do it", product_id="hours", entity_id=entity_id)
    failure = failure._replace(**more)
    return [failure._replace(issued_at=pd.Timestamp(issue, tz="UTC")) for issue in issues] or [failure]


def test_failures_of_one_code_product_entity_and_stage_are_one_incident_with_their_issues(fleet: Fleet) -> None:
    failures = failures_table(
        _failed("forecast_not_issued", "2024-03-01 06:00", "2024-03-01 18:00", "2024-03-02 06:00")
        + _failed("forecast_not_issued", "2024-03-02 06:00", entity_id="both", severity="warning")
        + _failed("model_unusable")
        + _failed("model_unusable", stage="shadows", severity="warning")
        + _failed("fallback_used", "2024-03-02 06:00", severity="warning"),
        CLOCK.as_of,
    )
    incidents = _raise(_quality(), _judgements(), fleet, failures=failures)
    told = incidents[["kind", "entity_id", "product_id", "subject", "severity"]].to_numpy().tolist()
    # A fallback's incident is one per product, by what it costs; see missing_data.
    assert told == [
        ["forecast_not_issued", "both", "hours", "forecasting", "warning"],
        ["forecast_not_issued", "hill", "hours", "forecasting", "error"],
        ["model_unusable", "hill", "hours", "forecasting", "error"],
        ["model_unusable", "hill", "hours", "shadows", "warning"],
    ]
    assert incidents["message"].iloc[1] == ("hill: forecast_not_issued (3 issues from 2024-03-01T06:00 to 2024-03-02T06:00)")
    assert incidents["evidence"].iloc[1].startswith("3 rows of forecasting_failures, raised as of 2024-03-03")


def test_a_rerun_replaces_its_own_failures_even_by_none_and_keeps_those_of_other_runs() -> None:
    earlier, now = dt.datetime(2024, 3, 2, tzinfo=dt.UTC), CLOCK.as_of
    trained = failures_table(_failed("model_not_fitted", stage="fit"), earlier)
    forecast = failures_table(_failed("forecast_not_issued", "2024-03-02 06:00"), now)
    history, found = collect_failures(NO_FAILURES, CLOCK, trained, forecast, NO_FAILURES)
    assert history["code"].tolist() == found["code"].tolist() == ["model_not_fitted", "forecast_not_issued"]
    Failures.validate(history)
    # The stage of the earlier run has not run since: its failure stays open, and is in the history once.
    history, found = collect_failures(history, CLOCK, trained, NO_FAILURES)
    assert history["code"].tolist() == found["code"].tolist() == ["model_not_fitted"]
    # It ran again, as of later and without a failure: nothing is open, and what it had failed at is still known.
    history, found = collect_failures(history, CLOCK, NO_FAILURES, NO_FAILURES)
    assert (history["code"].tolist(), found["code"].tolist()) == (["model_not_fitted"], [])


def test_a_run_as_of_the_past_sees_no_later_failure() -> None:
    later = failures_table(_failed("model_not_fitted", stage="fit"), dt.datetime(2024, 6, 1, tzinfo=dt.UTC))
    history, found = collect_failures(NO_FAILURES, CLOCK, later)
    assert history.empty
    assert found.empty
