"""Incidents of challengers that the gate refused in the last training, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wind_kedro.contracts.training import REASONS

#: It was better by the margin and not by chance, and still may not: somebody has to look.
_REFUSED = frozenset({"strong_wind", "changing_wind", "worst_issues", "bias", "coverage", "surprising"})
#: It was not good enough. Nothing to do, but on the record.
_BEATEN = frozenset({"margin", "not_significant", "too_little_data"})
_LOOK = {
    "leak": "mend the candidate: its backtest reads what was not known then; until then its scores are meaningless",
    "surprising": "look for a leak; if there is none, kedro wind approve lets it through at the next training",
}
_ELSE = "look at its hours of that kind (kedro wind decisions); mend it, or kedro wind approve if it may be so"


def failed_challengers(decisions: pd.DataFrame, as_of: pd.Timestamp, days: float) -> list[dict[str, Any]]:
    """Incidents of each product's newest training, if it is not older than ``days``.

    ``challenger_leaks`` and ``challenger_refused`` are of one entity and candidate. ``challenger_failed`` is of one candidate and
    all entities of a product that it did not win: with six candidates and a thousand farms nobody would read a row for each.

    Args:
        decisions: rows of `contracts.Decisions`, a history.
        as_of: nothing decided later counts.
        days: how long a decision is news.
    """
    known = decisions[(decisions["decided_at"] <= as_of) & (decisions["decided_at"] > as_of - pd.Timedelta(days=days))]
    newest = known[known["decided_at"] == known.groupby("product_id")["decided_at"].transform("max")]
    open_ones = newest[~newest["promoted"]]
    alone = open_ones[open_ones["code"].isin(_REFUSED | {"leak"})]
    rows = [_refused(row) for row in alone.sort_values(["product_id", "entity_id", "challenger"]).to_dict("records")]
    beaten = open_ones[open_ones["code"].isin(_BEATEN)]
    for (product_id, challenger), own in beaten.groupby(["product_id", "challenger"]):
        won = newest[(newest["product_id"] == product_id) & (newest["challenger"] == challenger) & newest["promoted"]]
        rows.append(_failed(str(product_id), str(challenger), own, len(won)))
    return rows


def _refused(row: Mapping[Any, Any]) -> dict[str, Any]:
    leaks = row["code"] == "leak"
    better = "" if leaks or pd.isna(row["gain_share"]) else f"'{row['challenger']}' is {row['gain_share']:.1%} better, but "
    return {
        "kind": "challenger_leaks" if leaks else "challenger_refused",
        "severity": "warning",
        "entity_id": row["entity_id"],
        "product_id": row["product_id"],
        "subject": row["challenger"],
        "amount": row["gain_share"],
        "message": f"'{row['challenger']}': {REASONS['leak']}" if leaks else f"{better}{REASONS[row['code']]}",
        "evidence": f"training of {row['decided_at']:%Y-%m-%d %H:%M}, {row['issues']} issues beside '{row['champion']}': "
        + (row["reason"] if leaks else _measured(row)),
        "action": _LOOK.get(row["code"], _ELSE),
    }


def _measured(row: Mapping[Any, Any]) -> str:
    parts = {
        "strong wind": "strong_wind_excess_share", "changing wind": "change_excess_share",
        "worst issues": "worst_excess_share", "bias": "bias_excess_share", "coverage": "coverage_excess_share",
    }  # fmt: skip
    found = ", ".join(f"{words} {row[name]:+.1%}" for words, name in parts.items() if not pd.isna(row[name]))
    return f"p = {row['p_adjusted']:.2g}; beyond the champion's: {found}"


def _failed(product_id: str, challenger: str, own: pd.DataFrame, won: int) -> dict[str, Any]:
    counts = own["code"].value_counts()
    why = "; ".join(f"{REASONS[str(code)]} ({count})" for code, count in sorted(counts.items()))
    nearest = own.sort_values(["gain_share", "entity_id"], ascending=[False, True], kind="stable").iloc[0]
    return {
        "kind": "challenger_failed",
        "severity": "info",
        "product_id": product_id,
        "subject": challenger,
        "amount": own["gain_share"].mean(),
        "message": f"'{challenger}' did not win {len(own)} of {len(own) + won} entities: {why}",
        "evidence": f"training of {nearest['decided_at']:%Y-%m-%d %H:%M}; nearest: {nearest['entity_id']}, "
        f"{nearest['gain_share']:+.1%} beside '{nearest['champion']}' over {nearest['issues']} issues",
        "action": "nothing: the champions stay",
    }
