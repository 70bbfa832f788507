"""Turbine signals: implausible values, operating states, aggregation to observations."""
