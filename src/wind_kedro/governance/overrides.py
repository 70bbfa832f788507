"""What people decided, farm by farm: held, approved, overridden, released; from when to when a model may learn. Append-only."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal, get_args

import pandas as pd

from wind_kedro.errors import WindKedroError

Kind = Literal["hold", "approve", "override", "learn_from", "leave_out", "release"]
#: What each means.
KINDS: dict[str, str] = {
    "hold": "keep the stored model that the entity has, whatever later trainings find",
    "approve": "promote a challenger although the gate rejects it, unless it leaks",
    "override": "use this candidate at every training",
    "learn_from": "fit the entity's models to issues since a time only",
    "leave_out": "exclude the issues of a period from fitting the entity's models",
    "release": "end all earlier overrides of the entity",
}
assert set(KINDS) == set(get_args(Kind))  # noqa: S101 - two lists of the same names


class OverrideError(WindKedroError):
    """What a person asked for cannot be written down."""


@dataclass(frozen=True)
class Standing:
    """The overrides of a product's entity that are in force."""

    held: bool = False
    approved: frozenset[str] = frozenset()
    override: str | None = None
    learn_from: pd.Timestamp | None = None
    left_out: tuple[tuple[pd.Timestamp, pd.Timestamp], ...] = ()
    #: Author and reason by kind.
    reasons: dict[str, str] = field(default_factory=dict)


def standing(overrides: pd.DataFrame, product_id: str, entity_id: str, at: pd.Timestamp) -> Standing:
    """What holds for an entity of a product at a time: all since its last release, the newest first where only one can hold."""
    own = overrides[
        (overrides["entity_id"] == entity_id) & overrides["product_id"].isin(["", product_id]) & (overrides["effective_at"] <= at)
    ].sort_values(["effective_at", "override"], kind="stable")
    released = own.index[own["kind"] == "release"]
    if len(released):
        own = own.loc[released[-1] :].iloc[1:]
    reasons = {str(row["kind"]): f"{row['author']}: {row['reason']}" for row in own.to_dict("records")}
    kinds = {str(kind): rows for kind, rows in own.groupby("kind")}
    return Standing(
        held="hold" in kinds,
        approved=frozenset(kinds["approve"]["model"]) if "approve" in kinds else frozenset(),
        override=str(kinds["override"]["model"].iloc[-1]) if "override" in kinds else None,
        learn_from=kinds["learn_from"]["begin"].iloc[-1] if "learn_from" in kinds else None,
        left_out=tuple(zip(kinds["leave_out"]["begin"], kinds["leave_out"]["end"], strict=True)) if "leave_out" in kinds else (),
        reasons=reasons,
    )


def record_override(
    before: pd.DataFrame,
    kind: Kind,
    entity_id: str,
    *,
    author: str,
    reason: str,
    effective_at: dt.datetime,
    product_id: str = "",
    model: str = "",
    begin: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """One row of `contracts.Overrides`, the next after ``before``.

    Raises:
        OverrideError: if author, reason or subject is missing.
    """
    if not author.strip() or not reason.strip():
        raise OverrideError(f"{kind}: give an author and a reason (--author, --reason)")
    if kind == "leave_out" and (begin is None or end is None or not begin < end):
        raise OverrideError("leave_out: from when to when? (--begin, --end, the second after the first)")
    number = 1 if before.empty else int(before["override"].max()) + 1
    row = {
        "override": number,
        "recorded_at": pd.Timestamp(dt.datetime.now(dt.UTC)),
        "effective_at": pd.Timestamp(effective_at),
        "kind": kind,
        "product_id": product_id,
        "entity_id": entity_id,
        "model": model,
        "begin": pd.NaT if begin is None else begin,
        "end": pd.NaT if end is None else end,
        "author": author.strip(),
        "reason": reason.strip(),
    }
    return pd.DataFrame([row])


def learnable(table: pd.DataFrame, overrides: pd.DataFrame, product_id: str, entity_id: str, at: pd.Timestamp) -> pd.DataFrame:
    """The rows of model input of one entity that its models may learn from."""
    in_force = standing(overrides, product_id, entity_id, at)
    kept = pd.Series(True, index=table.index)
    if in_force.learn_from is not None:
        kept &= table["issued_at"] >= in_force.learn_from
    for begin, end in in_force.left_out:
        kept &= (table["issued_at"] < begin) | (table["issued_at"] >= end)
    return table[kept]
