"""Settings of scores and of the gate, parts of `parameters_scoring.yml` and `parameters_training.yml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wind_kedro.strict import Strict

Correction = Literal["hommel", "holm"]


class ScoreRules(Strict):
    """The thresholds behind scores that need one."""

    mape_floor_share: float = Field(0.05, gt=0, lt=1, description="MAPE counts only intervals above it: it divides by the actual")
    ramp_share: float = Field(
        0.3,
        gt=0,
        le=1,
        description="a ramp changes power by at least this share of capacity. What is a ramp is a convention: first "
        "definition of Ferreira et al., A survey on wind power ramp forecasting, ANL/DIS-10-13, 2010; the threshold is "
        "ours, moderate, so that a farm has enough ramps to count",
    )
    ramp_minutes: int = Field(240, gt=0, description="... between two intervals that far apart")


SCORE_RULES = ScoreRules()


class Scoring(Strict):
    """How forecasts are scored, in the backtest and in operation (`parameters_scoring.yml`)."""

    lead_edges_minutes: list[int] = Field(min_length=2, description="edges of the buckets of lead time, rising from 0")
    rules: ScoreRules = SCORE_RULES


class GateRules(Strict):
    """When a challenger is let through (`parameters_training.yml`). The margin is the product's."""

    significance: float = Field(0.05, gt=0, lt=1, description="the most that chance may have to do with it")
    correction: Correction = Field("hommel", description="for many farms and challengers judged at once")
    min_issues: int = Field(60, ge=10, description="fewer paired issues than this judge nothing")
    bias_share: float = Field(0.01, ge=0, description="by how much its mean error may be further from nothing, of capacity")
    coverage_share: float = Field(
        0.04, ge=0, description="by how much the coverage of its widest band may be further from nominal"
    )
    extreme_share: float = Field(
        0.05, gt=0, lt=0.5, description="an hour is extreme whose forecast wind, or change of wind, is among these"
    )
    extreme_excess_share: float = Field(0.10, ge=0, description="how much worse it may be in extreme hours")
    worst_share: float = Field(0.05, gt=0, lt=0.5, description="of all issues, those that each forecast worst")
    worst_excess_share: float = Field(0.10, ge=0, description="how much worse its worst issues may be")
    surprise_share: float = Field(0.4, gt=0, le=1, description="a gain beyond this waits for a person: look for a leak")


GATE_RULES = GateRules()
