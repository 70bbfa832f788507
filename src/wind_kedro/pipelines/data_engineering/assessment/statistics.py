"""Statistics of shards of signals and observations, kept with them in the ledger of their table."""

from __future__ import annotations

from typing import Any

from wind_kedro.pipelines.data_engineering.signals.rules import CHANGES
from wind_kedro.pipelines.data_engineering.tables import Table, ibis

#: All but that of a point on the power curve.
OPERATING_STATES = ("stopped", "curtailed", "derated", "iced", "off_curve")


def of_timed_signals(rows: Table) -> dict[str, Any]:
    """First and last change, and numbers of rows by status."""
    statuses = ("kept", "superseded", "duplicate", "quarantined")
    return _changes(rows) | {status: (rows.status == status).sum() for status in statuses}


def of_signals(rows: Table) -> dict[str, Any]:
    """First and last change, and numbers of rows by status and operating state."""
    found = {status: (rows.status == status).sum() for status in ("kept", "superseded")}
    found |= {state: (rows.operating_state == state).sum() for state in OPERATING_STATES}
    return _changes(rows) | found | {"retimed": rows.retimed.sum()}


def of_observations(rows: Table) -> dict[str, Any]:
    """When the first and the last version became available, and the start of the last interval; UTC without zone."""
    found = {"first_at": rows.available_at.min(), "last_at": rows.available_at.max(), "last_valid_at": rows.valid_at.max()}
    return {name: time.cast("timestamp") for name, time in found.items()}


def _changes(rows: Table) -> dict[str, Any]:
    """``first_at``: when the first row became available; ``last_at``: when anything of a row last changed (UTC without zone)."""
    # A cast of each row would take as long as all else.
    last_at = ibis.greatest(*(rows[name].max() for name in ("available_at", *CHANGES)))
    return {"first_at": rows.available_at.min().cast("timestamp"), "last_at": last_at.cast("timestamp")}
