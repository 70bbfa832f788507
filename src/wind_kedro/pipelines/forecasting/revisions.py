"""Revisions: which of them change enough to be sent."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import Product
from wind_kedro.failures import Failure

#: Columns of earlier forecasts that `without_small_revisions` reads.
SENT = ["product_id", "entity_id", "issued_at", "revised_issue_at", "valid_at", "point_kw"]


def without_small_revisions(issued: pd.DataFrame, before: pd.DataFrame, product: Product) -> tuple[pd.DataFrame, list[Failure]]:
    """Forecasts of one product without the revisions that change less than ``min_change_share``, and a note of each of these.

    A revision is compared with the newest forecast of the same issue and entity that was sent before it: the change is the
    largest difference of ``point_kw`` over the intervals of both, as a share of capacity. Where nothing was sent before, a
    revision is sent.

    Args:
        issued: rows of `contracts.Forecasts` of a run.
        before: columns `SENT` of forecasts that earlier runs sent.
        product: whose.
    """
    if product.revisions is None or not product.revisions.min_change_share or not (issued["revision"] > 0).any():
        return issued, []
    least, key = product.revisions.min_change_share, ["entity_id", "revised_issue_at", "valid_at"]
    now = issued["issued_at"].unique()
    earlier = before[(before["product_id"] == product.id) & ~before["issued_at"].isin(now)]
    sent, keep, notes = earlier[[*key, "issued_at", "point_kw"]], pd.Series(True, index=issued.index), []
    for issue in sorted(now):
        rows = issued[issued["issued_at"] == issue]
        last = sent[sent["issued_at"] < issue].sort_values("issued_at").drop_duplicates(key, keep="last")
        compared = rows.merge(last[[*key, "point_kw"]], on=key, suffixes=("", "_before"))
        change = (compared["point_kw"] - compared["point_kw_before"]).abs() / compared["capacity_kw"]
        largest = change.groupby(compared["entity_id"]).max()
        small = largest[largest < least]
        keep[rows.index] = ~rows["entity_id"].isin(small.index) | (rows["revision"] == 0)
        sent = pd.concat([sent, rows.loc[keep[rows.index], [*key, "issued_at", "point_kw"]]])
        notes += [
            Failure(
                "calibration",
                "revision_not_sent",
                f"{product.id}/{entity_id}: the revision changes at most {share:.1%} of capacity, less than {least:.1%}",
                "nothing: the forecast that was sent last holds (revisions.min_change_share on the product's card)",
                "info",
                product.id,
                str(entity_id),
                issue,
            )
            for entity_id, share in small.items()
            if rows.loc[rows["entity_id"] == entity_id, "revision"].iloc[0] > 0
        ]
    return issued[keep].reset_index(drop=True), notes
