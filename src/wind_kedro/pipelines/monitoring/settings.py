"""When somebody is told (`parameters_monitoring.yml`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Outliers(BaseModel):
    """Which hours are looked at one by one, and what tells a storm, the plant and the data from the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_entity: int = Field(20, gt=0, description="so many of a product and entity are kept, the worst")
    rare_share: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="a loss, wind, ramp or spread is rare if it was exceeded this seldom in the replay",
    )
    storm_wind_ms: float = Field(
        15, gt=0, description="rare wind is a storm only above this: a calm farm's rarest wind is none"
    )
    least_coverage_share: float = Field(
        0.8, gt=0, le=1, description="with fewer turbines behind it an actual is no judge"
    )
    unavailable_share: float = Field(
        0.2, gt=0, le=1, description="of turbines stopped or curtailed from which on they are the cause"
    )
    explained_share: float = Field(
        0.5, gt=0, le=1, description="of an error that a cause has to explain to be called it"
    )


class Monitoring(BaseModel):
    """When somebody is told (`parameters_monitoring.yml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance_share: float = Field(
        ge=0, description="how much worse than its replay in the same weather a model may score before it is said"
    )
    significance: float = Field(
        0.01, gt=0, lt=1, description="how often one false alarm among all products and entities is borne"
    )
    least_intervals: int = Field(gt=0, description="fewer scored intervals than this say nothing")
    least_issues: int = Field(
        14, ge=4, description="fewer scored issues than this say nothing: hours of one issue err together"
    )
    decision_days: float = Field(7, gt=0, description="how long it is told that a challenger failed")
    exit_code_on: Literal["error", "warning", "never"] = Field(
        "error",
        description="a run with an incident of this severity, or a worse one, ends with an exit code that is not 0",
    )
    worse_share: float = Field(0.25, ge=0, description="an incident that grew by this share is told again")
    outliers: Outliers = Outliers()
