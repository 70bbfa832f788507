"""What the tables of this room must be. At signal scale the rules are counted by the tables' own engine, not row by row."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from wind_kedro.clock import Clock
from wind_kedro.contracts.base import Contract
from wind_kedro.contracts.observations import Signals
from wind_kedro.pipelines.data_engineering.parse.signals import READINGS, SIGNALS
from wind_kedro.pipelines.data_engineering.parse.weather import WEATHER
from wind_kedro.pipelines.data_engineering.signals.rules import SPIKES_IN_TIME
from wind_kedro.pipelines.data_engineering.tables import Table


class BrokenContractError(ValueError):
    """A table of ours is not what it promises to be: a bug, never the data's fault."""


class CheckedClock:
    """The clock of the run."""

    def validate(self, data: Any) -> Any:
        """Return ``data`` if it is a clock; raise `BrokenContractError` otherwise."""
        if not isinstance(data, Clock):
            raise BrokenContractError(f"a clock, not {type(data).__name__}")
        return data


class HasColumns:
    """An Ibis table with certain columns; no row is read."""

    columns: ClassVar[frozenset[str]] = frozenset()

    def validate(self, data: Table) -> Table:
        """Return ``data``; raise `BrokenContractError` if a column is missing."""
        if missing := self.columns - set(data.columns):
            raise BrokenContractError(f"{type(self).__name__}: no column {', '.join(sorted(missing))}")
        return data


_SOURCE = frozenset({"farm_id", "source_file", "source_row", "reason", "detail"})


class ParsedSignals(HasColumns):
    """One row per source row of signals, as numbers and times, or with the reason why not."""

    columns = (
        _SOURCE
        | {"turbine_id", "received_at", *READINGS, *SIGNALS}
        | {f"{name}_{of}" for name in SIGNALS for of in ("fault", "outside")}
    )


class ParsedWeather(HasColumns):
    """One row per source row of weather, as numbers and times, or with the reason why not."""

    columns = _SOURCE | {
        "weather_model",
        "weather_point",
        "is_analysis",
        "run_at",
        "available_at",
        "valid_at",
        *WEATHER,
    }


class JudgedWeather(HasColumns):
    """One row per source row of weather that can be known, with what becomes of it."""

    columns = ParsedWeather.columns | {"status"}


class TimedSignals(HasColumns):
    """One row per source row of signals that can be known, in time, with what becomes of it."""

    columns = _SOURCE | {
        "turbine_id", "valid_at", "arrived_at", "available_at", "superseded_at", "version", "cadence", "retimed", "status",
        *SIGNALS, *(f"{name}_fault" for name in SIGNALS),
        *(f"{name}_{of}" for name in SPIKES_IN_TIME for of in ("spiked", "spiked_at")),
    }  # fmt: skip


class CountedContract:
    """A contract of `wind_kedro.contracts`, its rules counted over an Ibis table in one query.

    The rules are those of the Pandera model (columns, missing values, ranges, allowed values): said once, checked at
    any scale.
    """

    contract: ClassVar[type[Contract]]

    @cached_property
    def _rules(self) -> list[tuple[str, str, str, Any]]:
        """Column, rule in words, kind of rule, its limit."""
        rules: list[tuple[str, str, str, Any]] = []
        for name, column in self.contract.to_schema().columns.items():
            if not column.nullable:
                rules.append((name, "is missing", "null", None))
            for check in column.checks:
                limits = check.statistics or {}
                if "min_value" in limits:
                    rules.append((name, f"is below {limits['min_value']}", "below", limits["min_value"]))
                if "max_value" in limits:
                    rules.append((name, f"is above {limits['max_value']}", "above", limits["max_value"]))
                if "allowed_values" in limits:
                    allowed = list(limits["allowed_values"])
                    rules.append((name, f"is none of {', '.join(map(str, allowed))}", "other", allowed))
        return rules

    def validate(self, data: Table) -> Table:
        """Return ``data``; raise `BrokenContractError` with the number of rows that break each rule."""
        name = type(self).__name__
        expected = set(self.contract.to_schema().columns)
        if wrong := expected ^ set(data.columns):
            raise BrokenContractError(f"{name}: columns missing or unknown: {', '.join(sorted(wrong))}")
        broken = {
            "null": lambda column, _: column.isnull(),
            "below": lambda column, limit: column < limit,
            "above": lambda column, limit: column > limit,
            "other": lambda column, allowed: ~column.isin(allowed),
        }
        counts = {
            str(place): broken[kind](data[column], limit).fill_null(False).sum().fill_null(0)  # type: ignore[no-untyped-call]
            for place, (column, _, kind, limit) in enumerate(self._rules)
        }
        found = data.aggregate(**counts).to_pandas().iloc[0]
        faults = [
            f"{column} {words} in {int(found[str(place)])} rows"
            for place, (column, words, _, _) in enumerate(self._rules)
            if found[str(place)]
        ]
        if faults:
            raise BrokenContractError(f"{name}: " + "; ".join(faults))
        return data


class CountedSignals(CountedContract):
    """`Signals`, counted."""

    contract = Signals
