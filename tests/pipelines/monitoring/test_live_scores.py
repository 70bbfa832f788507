"""Live scores by day: they equal those of all forecasts at once, and only days with something new are scored again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.contracts.operation import Failures
from wind_kedro.evaluation import scores as scores_module
from wind_kedro.evaluation.scores import score_forecasts

from .live import LiveScored, issues_of
from .test_monitoring import SCORING, _forecasts

# Ibis 12 about DuckDB 2 and pandas 3.1.
pytestmark = [
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option:DeprecationWarning"),
]

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]
DAYS = [f"2024-03-0{day} 06:00" for day in (1, 2, 3, 4)]
CLOCK = Clock.model_validate({"as_of": "2024-03-05T00:00"})
ALL = "1970-01-01"


@pytest.fixture
def live(tmp_path: Path, fleet: Fleet) -> LiveScored:
    return LiveScored(tmp_path, fleet)


@pytest.fixture
def forecasts() -> pd.DataFrame:
    parts = [_forecasts(DAYS, "old", 900.0).head(4), _forecasts(DAYS, "new", 1200.0).tail(4)]
    return pd.concat([*parts, *(part.assign(entity_id="both") for part in parts)], ignore_index=True)


@pytest.fixture
def outcomes(observe: MakeTable) -> pd.DataFrame:
    shares = {"hill": (0.1, 0.45), "both": (0.7, 0.2)}
    rows = [
        {"entity_id": entity_id, "valid_at": f"{day[:10]} 0{hour}:00", "share": share + 0.01 * place}
        for entity_id, given in shares.items()
        for place, day in enumerate(DAYS)
        for hour, share in zip((7, 8), given, strict=True)
    ]
    return observe(rows)


def whole(forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet, clock: Clock = CLOCK) -> pd.DataFrame:
    """The scores of all forecasts at once."""
    known = forecasts[forecasts["issued_at"] <= clock.as_of]
    overall, daily = (
        score_forecasts(
            known, outcomes, fleet, SCORING.lead_edges_minutes, by=by, as_of=clock.as_of, paired=False, rules=SCORING.rules
        )
        for by in ("all", "day")
    )
    daily = daily[(daily["lead_from_minutes"] == 0) & (daily["lead_to_minutes"] == 240)]
    order = ["product_id", "entity_id", "model", "period", "metric", "level", "lead_from_minutes", "lead_to_minutes"]
    return pd.concat([overall, daily]).sort_values(order, ignore_index=True)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found[list(expected)], expected, rtol=1e-9, check_dtype=False)


def days(*found: str, entities: tuple[str, ...] = ("hill", "both")) -> set[tuple[str, str]]:
    return {(entity_id, day) for entity_id in entities for day in found}


def test_scores_equal_those_of_all_forecasts_at_once(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet
) -> None:
    found, failures = live.run(forecasts, outcomes, CLOCK, SCORING)
    expected = whole(forecasts, outcomes, fleet)
    assert set(expected["period"]) == {"all", *(day[:10] for day in DAYS)}
    same(found, expected)
    assert failures.empty


def test_with_nothing_new_no_day_is_scored(live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    live.run(forecasts, outcomes, CLOCK, SCORING)
    assert live.computed["live_scores"] == days(*(day[:10] for day in DAYS), ALL)
    live.run(forecasts, outcomes, Clock.model_validate({"as_of": "2024-03-05T00:15"}), SCORING)
    assert live.computed == {"live_score_sums": set(), "live_scores": set()}


def test_a_late_outcome_scores_its_days_and_all(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet
) -> None:
    late = (outcomes["valid_at"] == pd.Timestamp("2024-03-02 08:00", tz="UTC")) & (outcomes["entity_id"] == "hill")
    same(live.run(forecasts, outcomes[~late], CLOCK, SCORING)[0], whole(forecasts, outcomes[~late], fleet))
    same(live.run(forecasts, outcomes, CLOCK, SCORING)[0], whole(forecasts, outcomes, fleet))
    # Issues of the day before may reach it.
    assert live.computed["live_score_sums"] == days("2024-03-01", "2024-03-02", entities=("hill",))
    assert live.computed["live_scores"] == days("2024-03-02", ALL, entities=("hill",))


def test_an_earlier_time_knows_what_was_known_then(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet
) -> None:
    live.run(forecasts, outcomes, CLOCK, SCORING)
    for as_of in ("2024-03-03T07:30", "2024-03-03T09:15", "2024-03-05T00:00"):
        clock = Clock.model_validate({"as_of": as_of})
        same(live.run(forecasts, outcomes, clock, SCORING)[0], whole(forecasts, outcomes, fleet, clock))


def test_an_issue_that_was_made_again_is_scored_again(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet
) -> None:
    live.run(forecasts, outcomes, CLOCK, SCORING)
    at = forecasts["issued_at"] == pd.Timestamp(DAYS[2], tz="UTC")
    again = forecasts.assign(q500_kw=forecasts["q500_kw"].mask(at, 300.0), point_kw=forecasts["point_kw"].mask(at, 300.0))
    issues = pd.concat([issues_of(forecasts[~at]), issues_of(forecasts[at], "a1")], ignore_index=True)
    same(live.run(again, outcomes, CLOCK, SCORING, issues, issues)[0], whole(again, outcomes, fleet))
    sums = live.computed["live_score_sums"]
    assert days(DAYS[2][:10]) <= sums
    assert {day for _, day in sums} == {DAYS[2][:10]}


def test_an_issue_that_was_not_made_whole_is_scored_in_every_run(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet
) -> None:
    due = issues_of(forecasts)
    made = due[due["issued_at"] < pd.Timestamp("2024-03-04", tz="UTC")]
    part = forecasts[(forecasts["entity_id"] == "hill") | (forecasts["issued_at"] < pd.Timestamp("2024-03-04", tz="UTC"))]
    same(live.run(part, outcomes, CLOCK, SCORING, due, made)[0], whole(part, outcomes, fleet))
    clock = Clock.model_validate({"as_of": "2024-03-05T00:15"})
    same(live.run(forecasts, outcomes, clock, SCORING, due, made)[0], whole(forecasts, outcomes, fleet, clock))
    assert {day for _, day in live.computed["live_score_sums"]} == {"2024-03-04"}


def test_an_entity_that_cannot_be_scored_is_a_row_until_it_can(
    live: LiveScored, forecasts: pd.DataFrame, outcomes: pd.DataFrame, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = scores_module._losses

    def spoilt(rows: pd.DataFrame, *others: Any) -> Any:
        if "both" in set(rows["entity_id"]):
            raise RuntimeError("spoilt")
        return sound(rows, *others)

    with monkeypatch.context() as patch:
        patch.setattr(scores_module, "_losses", spoilt)
        found, failures = live.run(forecasts, outcomes, CLOCK, SCORING)
    (row,) = Failures.validate(failures).to_dict("records")
    assert (row["stage"], row["code"], row["severity"]) == ("live_scoring", "scores_unknown", "warning")
    assert row["message"] == "hours/both: what it issued is not scored: RuntimeError: spoilt"
    same(found, whole(forecasts[forecasts["entity_id"] == "hill"], outcomes, fleet))
    found, failures = live.run(forecasts, outcomes, CLOCK, SCORING)
    assert failures.empty
    same(found, whole(forecasts, outcomes, fleet))
