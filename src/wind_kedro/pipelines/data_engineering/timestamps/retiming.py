"""Correction of rows stamped in the wrong hour at a clock change, by their arrival times."""

from __future__ import annotations

from typing import Any

import pandas as pd


def retime(rows: pd.DataFrame, changed_at: Any, change_minutes: int, cadence_seconds: int) -> pd.DataFrame:
    """Correct wrong stamps around one change of the local clock.

    Each row is corrected by its own arrival time, so that later rows change nothing:

    - A row that arrived more than half the change before the end of its interval belongs to the interval one change earlier.
    - In the hour repeated by a local clock, stamps are read as the first pass. A row that arrived after the second pass of its
      interval, when another row had arrived before that, belongs to the second pass.

    Without arrival times, rows of one interval with different values remain in conflict (docs/decisions.md, 42).

    Args:
        rows: a farm's rows with arrival times around the change, without repetitions: ``turbine_id``, ``source_file``,
            ``source_row``, ``reading``, ``valid_at``, ``received_at`` and ``available_at``.
        changed_at: change of the local clock, UTC without zone.
        change_minutes: by how much, forward positive.
        cadence_seconds: interval between stamps.

    Returns:
        One row per row moved: ``source_file, source_row, valid_at, available_at``.
    """
    step = pd.Timedelta(seconds=cadence_seconds)
    length = pd.Timedelta(minutes=abs(change_minutes))
    out: list[tuple[str, int, Any, Any]] = []
    early = rows[rows["received_at"] < rows["valid_at"] + step - length / 2]
    row: Any
    for row in early.to_dict("records"):
        before = row["valid_at"] - length
        out.append((row["source_file"], row["source_row"], before, max(row["available_at"], before + step)))
    repeated = rows[
        (change_minutes < 0)
        & (rows["reading"] == "wall_clock_is_local")
        & (rows["valid_at"] >= changed_at - length)
        & (rows["valid_at"] < changed_at)
    ].sort_values(["received_at", "source_file", "source_row"])
    for _, versions in repeated.groupby(["turbine_id", "valid_at"]):
        second: Any = versions["valid_at"].iloc[0] + length
        over = versions["received_at"] >= second + step
        if len(versions) > 1 and not over.iloc[0] and over.any():
            row = versions[over].iloc[0]
            out.append((row["source_file"], row["source_row"], second, max(row["available_at"], second + step)))
    kinds = {"source_file": "str", "source_row": "int64", "valid_at": "datetime64[us]", "available_at": "datetime64[us]"}
    return pd.DataFrame(out, columns=list(kinds)).astype(kinds)
