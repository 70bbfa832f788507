"""Live scores against what the backtest promised, and who is told."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.cards.columns import FORECAST_WEATHER
from wind_kedro.clock import Clock
from wind_kedro.contracts.forecasts import Forecasts, Scores
from wind_kedro.contracts.observations import DataQuality
from wind_kedro.contracts.operation import Alarms, Incidents, LiveJudgements
from wind_kedro.datasets.history import empty_table
from wind_kedro.evaluation.scores import Scoring
from wind_kedro.notifications import Channel, Message
from wind_kedro.notifications.channel import PassingError
from wind_kedro.pipelines.monitoring.nodes import raise_incidents, score_issued, send_alarms
from wind_kedro.pipelines.monitoring.settings import Monitoring

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
CLOCK = Clock.model_validate({"as_of": "2024-03-03T00:00"})
MONITORING = Monitoring(tolerance_share=0.1, min_intervals=10)
SCORING = Scoring(lead_edges_minutes=[0, 120, 240])


def _forecasts(issued: list[str], model: str = "champion", median: float = 300.0) -> pd.DataFrame:
    rows = []
    for text in issued:
        issued_at = pd.Timestamp(text, tz="UTC")
        for lead in (60, 120):
            rows.append(
                {"issued_at": issued_at, "valid_at": issued_at + pd.Timedelta(minutes=lead), "lead_minutes": lead}
            )
    return Forecasts.validate(
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
    return Scores.validate(score_issued(forecasts, observations, fleet, CLOCK, SCORING))


def _value(
    scores: pd.DataFrame, metric: str, period: str, lead: tuple[int, int], model: str = "champion"
) -> tuple[float, int]:
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
    observations = observe(
        [{"valid_at": f"2024-03-0{day} 0{hour}:00", "share": 0.1} for day in (1, 2) for hour in (7, 8)]
    )
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
FRESH = empty_table("wind_kedro.contracts.operation.Freshness")


def _in_time(fleet: Fleet) -> pd.DataFrame:
    """The newest issue of every product and member."""
    rows = []
    for product in fleet.products:
        at = pd.Timestamp(CLOCK.newest_issue(product))
        rows += [
            _forecasts([str(at.tz_localize(None))]).assign(product_id=product.id, entity_id=name)
            for name in product.members
        ]
    return pd.concat(rows, ignore_index=True)


def _raise(
    quality: pd.DataFrame,
    judgements: pd.DataFrame,
    fleet: Fleet,
    readiness: pd.DataFrame = READY,
    decisions: pd.DataFrame = DECIDED,
) -> pd.DataFrame:
    return Incidents.validate(
        raise_incidents(
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
    assert incidents[["entity_id", "product_id", "kind", "severity", "message"]].to_numpy().tolist() == [
        ["hill", "", "clock_disagrees_with_card", "warning", "clock_disagrees_with_card!"],
        ["hill", "", "source_unreadable", "error", "source_unreadable!"],
        ["hill", "", "gap", "warning", "gap!"],
    ]
    assert incidents["action"].str.contains("farms.yml").tolist() == [True, False, False]
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


# --- people are told -------------------------------------------------------------------------------------------------


class _Channel(Channel):
    """Takes messages, or does not."""

    kind: str = "test"
    past_hours: float | None = None
    attempts: int = 1
    works: bool = True

    def tell(self, message: Message) -> None:
        if not self.works:
            raise PassingError("nobody listens")
        TOLD.append((self.id, message.incidents["kind"].tolist()))


TOLD: list[tuple[str, list[str]]] = []


def _send(found: pd.DataFrame, before: pd.DataFrame | None, **works: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    TOLD.clear()
    channels = {name: _Channel(id=name, works=does) for name, does in works.items()}
    if before is None:
        before = pd.DataFrame({name: pd.Series(dtype="object") for name in Alarms.to_schema().columns})
        before = Alarms.validate(before)
    earlier = Incidents.validate(empty_table("wind_kedro.contracts.operation.Incidents"))
    incidents, alarms = send_alarms(found, earlier, before, channels, CLOCK, MONITORING)
    return Incidents.validate(incidents), Alarms.validate(alarms)


def test_a_channel_that_fails_costs_nothing_but_an_incident_which_the_others_tell(fleet: Fleet) -> None:
    found = _raise(_quality(("gap", "warning")), _judgements(), fleet)
    incidents, alarms = _send(found, None, dead=False, alive=True)
    assert TOLD == [("alive", ["gap"]), ("alive", ["alarm_failed"])]
    assert incidents["kind"].tolist() == ["gap", "alarm_failed"]
    assert incidents["evidence"].iloc[1] == "alarm 'dead': nobody listens; tried once"
    assert alarms[["channel", "kind", "outcome"]].to_numpy().tolist() == [
        ["dead", "gap", "failed"],
        ["alive", "gap", "sent"],
        ["alive", "alarm_failed", "sent"],
    ]
    # The rerun tells who was not told, and forgets nobody.
    incidents, alarms = _send(found, alarms, dead=True, alive=True)
    assert TOLD == [("dead", ["gap"])]
    assert incidents["kind"].tolist() == ["gap"]
    assert len(alarms) == 4
    assert _send(found, alarms, dead=True, alive=True)[1]["incident"].tolist() == alarms["incident"].tolist()
    assert TOLD == []


def test_a_quiet_day_alarms_nobody(fleet: Fleet) -> None:
    incidents, alarms = _send(_raise(_quality(), _judgements(), fleet), None, dead=False)
    assert incidents["kind"].tolist() == ["all_clear"]
    assert (len(alarms), TOLD) == (0, [])
