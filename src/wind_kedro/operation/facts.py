"""What an environment has issued and what is wrong with it, as its tables have it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

#: Spans in which the newest rows are looked for: months before are files of their own, which need not be read.
_SPANS = (dt.timedelta(days=2), dt.timedelta(days=40))


@dataclass(frozen=True)
class Facts:
    """What metrics and readiness are made from.

    Attributes:
        newest: issue time of the newest forecast by product; a product without one in the last forty days is missing.
        failures: number of rows of the table ``failures``, by severity.
        incidents: number of incidents that are open, by severity.
    """

    newest: Mapping[str, dt.datetime] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    incidents: Mapping[str, int] = field(default_factory=dict)


def read_facts(tables: Mapping[str, Any], products: Iterable[str], now: dt.datetime) -> Facts:
    """Read the facts.

    Args:
        tables: the datasets ``forecasts``, ``failures`` and ``incidents``.
        products: identifiers.
        now: UTC.
    """
    failures = tables["failures"]
    failed = failures.load()["severity"].value_counts() if failures.exists() else pd.Series(dtype=int)
    found = tables["incidents"].read(["raised_at", "severity", "state"], first=pd.Timestamp(now - _SPANS[-1]))
    found = found[(found["raised_at"] == found["raised_at"].max()) & (found["state"] != "resolved")]
    return Facts(
        _newest(tables["forecasts"], set(products), now),
        {severity: int(failed.get(severity, 0)) for severity in ("info", "warning", "error")},
        {severity: int((found["severity"] == severity).sum()) for severity in ("info", "warning", "error")},
    )


def _newest(forecasts: Any, products: set[str], now: dt.datetime) -> dict[str, dt.datetime]:
    newest: dict[str, dt.datetime] = {}
    for span in _SPANS:
        issues = forecasts.read(["product_id", "issued_at"], first=pd.Timestamp(now - span))
        own = issues[(issues["issued_at"] <= now) & issues["product_id"].isin(products)]
        newest = {str(name): time.to_pydatetime() for name, time in own.groupby("product_id")["issued_at"].max().items()}
        if set(newest) == products:
            break
    return newest
