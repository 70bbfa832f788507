"""Settings of `kedro wind operate`: ``operation`` in ``parameters_operation.yml``."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from wind_kedro.cards.base import TimeZone, refuse
from wind_kedro.cards.products import TimesOfDay
from wind_kedro.strict import Strict, Words

#: Days of the week, as `datetime.date.weekday` counts.
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class CycleSettings(Strict):
    """What a kind of cycle runs, and when it is due."""

    pipelines: Words = Field(default_factory=list)
    command: Literal["housekeeping"] | None = Field(None, description="a command of `kedro wind`, instead of pipelines")
    at_issues: bool = Field(False, description="due at each issue time of each product")
    after_minutes: float = Field(0, ge=0, le=1440, description="so long after it: for data that arrives late")
    deadline_minutes_before_gate: float | None = Field(
        None,
        ge=0,
        description="of `at_issues`: an issue that is not made so long before the nearest gate is issued from what is stored, "
        "and made again; none: cycles are not interrupted",
    )
    new_data_minutes: float | None = Field(
        None, ge=0, description="due when files of the sources have changed, so long after the last cycle began at the earliest"
    )
    every_minutes: int | None = Field(None, gt=0, le=10080, description="due so often, counted from midnight UTC of 1970-01-01")
    at: TimesOfDay | None = Field(None, description="due at these times of day in `time_zone`")
    days: list[Weekday] | None = Field(None, min_length=1, description="on which `at` holds; none: on all")
    time_zone: TimeZone = "UTC"
    catch_up: Literal["latest", "all", "none"] = Field(
        "latest", description="which of several due times that were missed are made up"
    )
    max_age_hours: float = Field(24, gt=0, le=24 * 31, description="an older due time is not made up, and not tried again")
    attempts: int = Field(5, ge=1, description="a cycle that failed or was interrupted is tried so often in all")
    limit_minutes: float = Field(240, gt=0, description="an attempt that takes longer is stopped, and has failed")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        refuse(
            (bool(self.pipelines) == bool(self.command), "pipelines, command: give one of them"),
            (
                not (self.at_issues or self.at or self.every_minutes or self.new_data_minutes is not None),
                "at_issues, at, every_minutes, new_data_minutes: give at least one of them",
            ),
            (
                self.deadline_minutes_before_gate is not None and not self.at_issues,
                "deadline_minutes_before_gate: only a cycle with at_issues: true has deadlines",
            ),
        )
        return self


#: Kind of the runs that issue from what is stored; no key of `operation.cycles`.
DEADLINE: Final = "deadline"
#: How these runs are limited.
DEADLINE_CYCLE = CycleSettings(pipelines=["forecasting"], at_issues=True, limit_minutes=15)


class Operation(Strict):
    """Settings `operation` in ``parameters_operation.yml``."""

    port: int = Field(9808, ge=0, le=65535, description="of health, readiness and metrics on 127.0.0.1; 0: any that is free")
    poll_seconds: float = Field(10, gt=0, le=3600, description="how often the files of the sources are looked at")
    late_minutes: float = Field(30, ge=0, description="an issue that is missing so long after its due time makes /ready fail")
    retry_seconds: float = Field(
        60, ge=0, description="wait before a second attempt; it doubles with each further one, to an hour"
    )
    drain_seconds: float = Field(300, ge=0, description="after SIGTERM, the cycle that runs is stopped if it takes longer")
    cycles_per_process: int = Field(
        50, ge=1, description="the process that runs cycles is replaced after so many, and after each that failed"
    )
    cycles: Annotated[dict[str, CycleSettings], Field(min_length=1)] = Field(
        description="by kind; of several that are due the first one runs first"
    )

    @field_validator("cycles")
    @classmethod
    def _names_are_free(cls, cycles: dict[str, CycleSettings]) -> dict[str, CycleSettings]:
        refuse((DEADLINE in cycles, f"'{DEADLINE}' is the kind of the runs at deadlines: choose another name"))
        return cycles

    @field_validator("cycles", mode="before")
    @classmethod
    def _without_null(cls, cycles: Any) -> Any:
        # An environment drops a kind of base with null.
        return {kind: cycle for kind, cycle in cycles.items() if cycle is not None} if isinstance(cycles, dict) else cycles
