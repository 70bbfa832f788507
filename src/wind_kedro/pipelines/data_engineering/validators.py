"""Validation of the contract `Signals` by the table's engine: Pandera is too slow for signals."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from wind_kedro.contracts.observations import Signals
from wind_kedro.pipelines.data_engineering.tables import Table


class BrokenContractError(ValueError):
    """A table violates its contract: a bug of wind-kedro, not a fault of the data."""


class CountedSignals:
    """Validator that counts violations of the Pandera model `Signals` in an Ibis table with one query.

    Checks columns, missing values, ranges and allowed values.
    """

    @cached_property
    def _rules(self) -> list[tuple[str, str, str, Any]]:
        """Column, description, kind and limit of every rule."""
        rules: list[tuple[str, str, str, Any]] = []
        for name, column in Signals.to_schema().columns.items():
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
        name = "Signals"
        expected = set(Signals.to_schema().columns)
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
            f"{column} {description} in {int(found[str(place)])} rows"
            for place, (column, description, _, _) in enumerate(self._rules)
            if found[str(place)]
        ]
        if faults:
            raise BrokenContractError(f"{name}: " + "; ".join(faults))
        return data
