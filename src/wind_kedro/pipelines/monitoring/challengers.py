"""Incidents of challengers that the gate refused in the last training, with the reasons."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wind_kedro.contracts.training import REASONS

#: Better by the margin and beyond chance, and refused all the same: a person has to decide.
_REFUSED = frozenset({"strong_wind", "changing_wind", "worst_issues", "bias", "coverage", "surprising"})
#: It was not good enough. Nothing to do, but on the record.
_BEATEN = frozenset({"margin", "not_significant", "too_little_data"})
_LOOK = {
    "leak": "mend the candidate: its backtest reads what was not known then; until then its scores are meaningless",
    "surprising": "look for a leak; if there is none, kedro wind approve lets it through at the next training",
}
_EXCESSES = {
    "strong wind": "strong_wind_excess_share", "changing wind": "change_excess_share", "worst issues": "worst_excess_share",
    "bias": "bias_excess_share", "coverage": "coverage_excess_share",
}  # fmt: skip
_ELSE = "look at its hours of that kind (kedro wind decisions); mend it, or kedro wind approve if it may be so"


def failed_challengers(decisions: pd.DataFrame, as_of: pd.Timestamp, days: float) -> list[dict[str, Any]]:
    """Incidents of each product's newest training, if it is not older than ``days``.

    ``challenger_leaks`` and ``challenger_refused`` are of one entity and candidate. ``challenger_failed`` is of one candidate and
    all entities of a product that it did not win, as a row for each of them would be too many.
    """
    known = decisions[(decisions["decided_at"] <= as_of) & (decisions["decided_at"] > as_of - pd.Timedelta(days=days))]
    newest = known[known["decided_at"] == known.groupby("product_id")["decided_at"].transform("max")]
    alone = newest[~newest["promoted"] & newest["code"].isin(_REFUSED | {"leak"})]
    rows = []
    for row in alone.sort_values(["product_id", "entity_id", "challenger"]).to_dict("records"):
        leaks = row["code"] == "leak"
        better = "" if leaks or pd.isna(row["gain_share"]) else f"'{row['challenger']}' is {row['gain_share']:.1%} better, but "
        beyond = ", ".join(f"{name} {row[column]:+.1%}" for name, column in _EXCESSES.items() if not pd.isna(row[column]))
        measured = row["reason"] if leaks else f"p = {row['p_adjusted']:.2g}; beyond the champion's: {beyond}"
        rows.append(
            {
                "kind": "challenger_leaks" if leaks else "challenger_refused",
                "severity": "warning",
                "entity_id": row["entity_id"],
                "product_id": row["product_id"],
                "subject": row["challenger"],
                "amount": row["gain_share"],
                "message": f"'{row['challenger']}': {REASONS['leak']}" if leaks else f"{better}{REASONS[row['code']]}",
                "evidence": f"training of {row['decided_at']:%Y-%m-%d %H:%M}, {row['issues']} issues beside '{row['champion']}': "
                f"{measured}",
                "action": _LOOK.get(row["code"], _ELSE),
            }
        )
    for (product_id, challenger), every in newest.groupby(["product_id", "challenger"]):
        own = every[~every["promoted"] & every["code"].isin(_BEATEN)]
        if own.empty:
            continue
        counts = own["code"].value_counts()
        why = "; ".join(f"{REASONS[str(code)]} ({count})" for code, count in sorted(counts.items()))
        nearest = own.sort_values(["gain_share", "entity_id"], ascending=[False, True], kind="stable").iloc[0]
        rows.append(
            {
                "kind": "challenger_failed",
                "severity": "info",
                "product_id": str(product_id),
                "subject": str(challenger),
                "amount": own["gain_share"].mean(),
                "message": f"'{challenger}' did not win {len(own)} of {len(own) + every['promoted'].sum()} entities: {why}",
                "evidence": f"training of {nearest['decided_at']:%Y-%m-%d %H:%M}; nearest: {nearest['entity_id']}, "
                f"{nearest['gain_share']:+.1%} beside '{nearest['champion']}' over {nearest['issues']} issues",
                "action": "nothing: the champions stay",
            }
        )
    return rows
