"""Failures of all stages, gathered into one history, and the incidents that follow from those that are open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from wind_kedro.clock import Clock
from wind_kedro.failures import first_of, over_issues

#: A message names so many failures of one incident.
_NAMED = 2
#: Codes whose incidents are made elsewhere: per product with its cost (`missing_data.unissued`), and per channel (`outbox`).
_MADE_ELSEWHERE = ("fallback_used", "notification_failed")


def collect_failures(failures_before: pd.DataFrame, clock: Clock, *stages: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The history of failures with those of the newest run of each stage, and these alone: they are open.

    A stage's table is replaced whole when its pipeline runs, so what is in it is open until then, whichever run made it. Of the
    history the rows raised as of this run are replaced, also by none; a stage that never ran has an empty table. Rows of severity
    ``info`` are open until then, too, and not kept in the history: nothing failed, and the audit has them.
    """
    found = pd.concat(stages, ignore_index=True)
    # A failure that is known only later than this run sees was raised by a run as of a later time.
    found = found[found["raised_at"] <= pd.Timestamp(clock.as_of)].reset_index(drop=True)
    kept = failures_before[failures_before["raised_at"] != pd.Timestamp(clock.as_of)]
    failed = found[found["severity"] != "info"]
    return pd.concat([kept, failed], ignore_index=True).drop_duplicates(ignore_index=True), found


def failure_incidents(open_failures: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """One incident per code, product, entity and stage, with its first messages and their issue times."""
    same = ["code", "product_id", "entity_id", "stage"]
    table = open_failures[~open_failures["code"].isin(_MADE_ELSEWHERE) & (open_failures["severity"] != "info")]
    for (code, product_id, entity_id, stage), rows in table.groupby(same, sort=True):
        entries = over_issues(rows)
        severities = {entry["severity"] for entry in entries}
        yield {
            "kind": code,
            "product_id": product_id,
            "entity_id": entity_id,
            "subject": stage,
            "severity": "error" if "error" in severities else "warning",
            "message": first_of((entry["text"] for entry in entries), _NAMED),
            "evidence": f"{len(rows)} rows of {stage}_failures, raised as of {rows['raised_at'].max():%Y-%m-%d %H:%M}",
            "action": entries[0]["action"],
        }
