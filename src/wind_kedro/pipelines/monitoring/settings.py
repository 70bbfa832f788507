"""Settings of monitoring (`parameters_monitoring.yml`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wind_kedro.strict import Strict


class Outliers(Strict):
    """Which hours are examined one by one, and the thresholds that attribute a miss to storm, plant, data or model."""

    per_entity: int = Field(20, gt=0, description="so many of a product and entity are kept, the worst")
    rare_share: float = Field(
        0.01, gt=0, lt=1, description="a loss, wind, ramp or spread is rare if it was exceeded this seldom in the backtest"
    )
    storm_wind_ms: float = Field(15, gt=0, description="rare wind is a storm only above this: a calm farm's rarest wind is none")
    min_coverage_share: float = Field(0.8, gt=0, le=1, description="with fewer turbines behind it an actual is no judge")
    unavailable_share: float = Field(
        0.2, gt=0, le=1, description="of turbines stopped or curtailed from which on they are the cause"
    )
    explained_share: float = Field(0.5, gt=0, le=1, description="of an error that a cause has to explain to be called it")


class FreshnessRules(Strict):
    """How old the newest data of a source may be, and the products' outputs."""

    usual_days: float = Field(30, gt=0, description="what is usual is read from the last days")
    usual_quantile: float = Field(0.95, gt=0, lt=1, description="of delays and of gaps between batches: the longest usual")
    min_observed: int = Field(20, gt=0, description="with fewer runs or batches the card's delay counts")
    margin_minutes: float = Field(60, ge=0, description="beyond the longest usual age before a source is late")
    turbine_hours: float = Field(24, gt=0, description="a single turbine may send nothing for so long")
    feed_factor: float = Field(1.5, ge=1, description="a feed may send nothing for so many of its longest usual gaps")
    feed_hours: float = Field(48, gt=0, description="a feed with too few batches may send nothing for so long")
    constant_values: int = Field(12, gt=1, description="so many equal wind speeds of a run are no forecast")
    stale_hours: float = Field(26, gt=0, description="data_engineering may have run so long ago")
    issue_grace_minutes: float = Field(60, ge=0, description="a forecast is overdue so long after its issue time")
    training_days: float = Field(100, gt=0, description="a product may go without a training for so long")
    scored_days: float = Field(7, gt=0, description="forecasts of the last days should have been scored")
    scored_delay_hours: float = Field(24, ge=0, description="... whose intervals ended so long ago")
    min_scored_share: float = Field(0.5, gt=0, le=1, description="... at least this share of their intervals")


class CostRules(Strict):
    """Which severity an outage has, by what it costs the newest issue of a product."""

    error_share: float = Field(0.5, gt=0, le=1, description="of the issue, by capacity and interval, not by its champion")
    warning_share: float = Field(0.05, gt=0, le=1, description="likewise, for a warning")
    error_excess: float = Field(0.25, gt=0, description="expected increase of the deciding score, a share of it")
    warning_excess: float = Field(0.02, gt=0, description="likewise, for a warning")
    turbine_share: float = Field(0.1, gt=0, le=1, description="of a farm's capacity that sends nothing, for a warning")


class Monitoring(Strict):
    """Settings of monitoring (`parameters_monitoring.yml`)."""

    tolerance_share: float = Field(
        ge=0, description="how much worse than its backtest in the same weather a model may score before an incident is raised"
    )
    significance: float = Field(
        0.01, gt=0, lt=1, description="how often one false alarm among all products and entities is borne"
    )
    min_intervals: int = Field(gt=0, description="fewer scored intervals than this give no verdict")
    min_issues: int = Field(
        14, ge=4, description="fewer scored issues than this give no verdict: errors within an issue are correlated"
    )
    decision_days: float = Field(7, gt=0, description="for how long a refused challenger stays an incident")
    exit_code_on: Literal["error", "warning", "never"] = Field(
        "error", description="a run with an incident of this severity, or a worse one, ends with an exit code that is not 0"
    )
    worse_share: float = Field(0.25, ge=0, description="an incident that grew by this share is sent again")
    outliers: Outliers = Outliers()
    freshness: FreshnessRules = FreshnessRules()
    cost: CostRules = CostRules()
