"""Validation of the contract `Signals` by the table's engine: Pandera is too slow for signals."""

from __future__ import annotations

from typing import Any

from wind_kedro.contracts.observations import Signals
from wind_kedro.pipelines.data_engineering.tables import Table


class BrokenContractError(ValueError):
    """A table violates its contract: a bug of wind-kedro, not a fault of the data."""


class CountedSignals:
    """Validator that counts violations of the Pandera model `Signals` in an Ibis table with one query.

    Checks columns, missing values, ranges and allowed values.
    """

    @staticmethod
    def validate(data: Table) -> Table:
        """Return ``data``; raise `BrokenContractError` with the number of rows that break each rule."""
        columns = Signals.to_schema().columns
        if wrong := set(columns) ^ set(data.columns):
            raise BrokenContractError(f"Signals: columns missing or unknown: {', '.join(sorted(wrong))}")
        rules: dict[str, Any] = {}
        for name, column in columns.items():
            value = data[name]
            if not column.nullable:
                rules[f"{name} is missing"] = value.isnull()
            for limits in (check.statistics or {} for check in column.checks):
                if (low := limits.get("min_value")) is not None:
                    rules[f"{name} is below {low}"] = value < low
                if (high := limits.get("max_value")) is not None:
                    rules[f"{name} is above {high}"] = value > high
                if "allowed_values" in limits:
                    allowed = list(limits["allowed_values"])
                    rules[f"{name} is none of {', '.join(map(str, allowed))}"] = ~value.isin(allowed)
        broken = {str(place): rule.fill_null(False).sum().fill_null(0) for place, rule in enumerate(rules.values())}
        counts = data.aggregate(**broken).to_pandas().iloc[0]
        faults = [f"{rule} in {int(counts[str(place)])} rows" for place, rule in enumerate(rules) if counts[str(place)]]
        if faults:
            raise BrokenContractError(f"Signals: {'; '.join(faults)}")
        return data
