"""The recipe of a fleet: everything that its cards do not say. Values stand in ``conf/test/synthetic.yml``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from wind_kedro.cards import Card, Identifier


class Scale(Card):
    """One scale of the weather: how much of the wind's variance it has, how long it lasts, how far it reaches."""

    share: float = Field(gt=0, le=1, description="of the variance; the shares of all scales add up to 1")
    hours: float = Field(gt=0, description="time constant")
    kilometres: float = Field(gt=0, description="e-folding distance of the correlation between sites")
    smooth: bool = Field(False, description="a second-order process: no jumps, as a passing front has none")
    seen_by_models: bool = Field(True, description="whether a weather model resolves it")


class Climate(Card):
    """The wind of one site at 100 m."""

    mean_speed_ms: float = Field(7.5, gt=0)
    weibull_shape: float = Field(2.1, gt=1)
    prevailing_from_deg: float = Field(240, ge=0, lt=360)
    prevalence: float = Field(0.55, ge=0, lt=1, description="0: every direction alike; towards 1: hardly any other")


class WeatherModel(Card):
    """How a weather model errs, and when its runs can be read."""

    id: Identifier
    error_share: float = Field(gt=0, lt=1, description="share of the variance that is error at the start of a run")
    error_share_per_hour: float = Field(gt=0, description="how much of it is added per hour of lead time")
    error_hours: float = Field(gt=0, description="how long an error lasts along a run")
    error_kilometres: float = Field(gt=0)
    shared_between_runs: float = Field(ge=0, lt=1, description="share of the error that successive runs have in common")
    phase_minutes_per_hour: float = Field(ge=0, description="deviation of the timing, growing with lead time")
    speed_factor: float = Field(gt=0, description="bias")
    speed_offset_ms: float = Field(0.0, description="bias")
    temperature_error_c: float = Field(1.0, ge=0)
    delay_minutes: int = Field(ge=0, description="from a run's initialisation until it can be read, at the least")
    delay_jitter_minutes: int = Field(ge=0)


class Fault(Card):
    """A fault put in on purpose. Rows are those of ``[start, end)`` in true UTC, or ``count`` of them spread evenly."""

    farm: Identifier | None = Field(None, description="none: every farm")
    kind: Literal[
        "turbine_stopped", "curtailed", "sentinel", "out_of_range", "stuck", "missing_value",
        "gap", "duplicate", "conflict", "revision", "late", "off_grid", "unknown_turbine",
        "out_of_order", "unparseable", "bad_stamp", "late_run", "missing_run",
    ]  # fmt: skip
    start: dt.datetime
    end: dt.datetime
    turbine: str | None = Field(None, description="none: all of them")
    weather_model: Identifier | None = Field(None, description="where the fault is in the weather")
    signal: str | None = Field(None, description="the house's name of the column")
    count: int | None = Field(None, gt=0, description="none: every row")
    value: float | str | None = Field(None, description="as it stands in the file")
    hours: float | None = Field(None, description="how much later")
    minutes: int | None = Field(None, description="by how much the stamp is off")
    note: str = ""

    @field_validator("start", "end")
    @classmethod
    def _utc(cls, value: dt.datetime) -> dt.datetime:
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"{self.kind}: start is not before end")
        for field in _NEEDS.get(self.kind, ()):
            if getattr(self, field) is None:
                raise ValueError(f"{self.kind}: needs {field}")
        return self


_NEEDS: Mapping[str, tuple[str, ...]] = {
    "curtailed": ("value",),
    "sentinel": ("signal", "value"),
    "out_of_range": ("signal", "value"),
    "stuck": ("signal", "turbine"),
    "missing_value": ("signal",),
    "revision": ("hours",),
    "late": ("hours",),
    "unparseable": ("signal", "value"),
    "bad_stamp": ("value",),
    "off_grid": ("minutes",),
    "unknown_turbine": ("value",),
    "late_run": ("weather_model", "hours"),
    "missing_run": ("weather_model",),
}

#: How the logger of a farm stamps its rows; the card may say otherwise, as cards do.
Stamping = Literal["utc", "local", "utc_with_false_offset"]


class Recipe(Card):
    """Everything that makes a fleet, beside its cards."""

    seed: int
    start: dt.datetime
    end: dt.datetime = Field(description="the end of the signals; forecasts reach beyond it")
    step_minutes: int = Field(5, gt=0, description="of the simulation; divides every farm's cadence")
    scales: list[Scale] = Field(min_length=1)
    climates: dict[Identifier, Climate] = Field(default_factory=dict, description="farms not named have the default climate")
    stamping: dict[Identifier, Stamping] = Field(default_factory=dict, description="farms not named stamp as their card says")
    weather_models: list[WeatherModel] = Field(min_length=1)
    faults: list[Fault] = Field(default_factory=list)

    @field_validator("start", "end")
    @classmethod
    def _utc(cls, value: dt.datetime) -> dt.datetime:
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(sum(scale.share for scale in self.scales) - 1) > 1e-6:
            raise ValueError("scales: the shares must add up to 1")
        if not any(scale.seen_by_models for scale in self.scales):
            raise ValueError("scales: one at least must be seen by the weather models")
        if self.start >= self.end:
            raise ValueError("start is not before end")
        return self

    def climate(self, farm_id: str) -> Climate:
        """The climate of a farm."""
        return self.climates.get(farm_id, Climate())
