"""Compare the tables of two data folders, column by column under their new names: what a change of code changed in results.

``python benchmarks/compare_tables.py BEFORE AFTER --run NAME`` writes ``results/tables-NAME.csv``: a row per table with its rows
and columns, how many columns are equal in every value, which are not, and the largest absolute difference of a number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from record import record
from wind_kedro.datasets import tables_in

#: Tables and columns that issue 13 renamed; the first name is the old one.
RENAMED = {
    "replay_folds": "backtest_folds", "replay_forecasts": "backtest_forecasts", "replay_scores": "backtest_scores",
    "replay_model_forecasts": "backtest_model_forecasts", "drivers": "attributions", "driver": "feature_group",
    "label": "operating_state", "replay_loss": "backtest_loss", "replayed": "backtested",
}  # fmt: skip
#: Columns that no two runs share: the wall clock, and ids of runs and versions.
VOLATILE = {
    "recorded_at",
    "model_run_id",
    "run_id",
    "promotion",
    "sha256",
    "previous_sha256",
    "modified_ns",
    "sequence",
}
#: Values that are names of things that were renamed.
VALUES = {"behind_its_replay": "behind_its_backtest", "replay": "backtest"}


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Every table of a data folder by its path."""
    return tables_in(folder, without={"raw_rows", "kits", "objects", "failures"})


def compare(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per table and column; ``difference``: the largest of numbers, ``unequal``: how many values differ at all."""
    rows = []
    renamed = {"/".join(RENAMED.get(part, part) for part in name.split("/")): table for name, table in before.items()}
    for name in sorted({*renamed, *after}):
        old, new = renamed.get(name), after.get(name)
        if old is None or new is None:
            table = new if old is None else old
            rows.append(
                {
                    "table": name,
                    "column": "",
                    "note": "only after" if old is None else "only before",
                    "rows": len(table),
                }
            )
            continue
        old = _ordered(old.rename(columns=RENAMED))
        new = _ordered(new)
        for column in sorted({*old, *new}):
            row = {"table": name, "column": column, "rows": len(old), "rows_after": len(new), "note": ""}
            if column not in old or column not in new:
                row["note"] = "only after" if column not in old else "only before"
            elif len(old) != len(new):
                row["note"] = "other number of rows"
            elif column in VOLATILE:
                row["note"] = "not compared: differs between any two runs"
            else:
                row |= _difference(old[column], new[column])
            rows.append(row)
    return pd.DataFrame(rows)


def summary(columns: pd.DataFrame) -> pd.DataFrame:
    """One row per table of what `compare` found."""
    skipped = columns["note"].str.startswith("not compared")
    columns = columns.assign(skipped=skipped, differs=(columns["unequal"].fillna(0) > 0) | (columns["note"].ne("") & ~skipped))
    rows = []
    for name, own in columns.groupby("table"):
        different = own[own["differs"]]
        found = [f"{row['column']} {row['note']}".strip() for row in different.to_dict("records")]
        rows.append(
            {
                "table": name,
                "rows": int(own["rows"].max()),
                "columns": len(own),
                "equal": int((~own["differs"] & ~own["skipped"]).sum()),
                "not_compared": int(own["skipped"].sum()),
                "different": "; ".join(found),
                "largest_difference": different["difference"].max(),
            }
        )
    return pd.DataFrame(rows)


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in an order of their own, by what is no number and then by numbers."""
    keys = sorted((name for name in table if name not in VOLATILE), key=lambda name: (table[name].dtype.kind == "f", name))
    return table.iloc[table[keys].astype(str).sort_values(keys).index.to_numpy()].reset_index(drop=True)


def _difference(old: pd.Series, new: pd.Series) -> dict[str, object]:
    if old.dtype.kind in "fiu" and new.dtype.kind in "fiu":
        a, b = old.to_numpy(float), new.to_numpy(float)
        unequal = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        return {"difference": float(np.nanmax(np.abs(a - b))) if unequal.any() else 0.0, "unequal": int(unequal.sum())}
    texts, now_texts = (column.astype(str).fillna("missing") for column in (old, new))
    for word, now in VALUES.items():
        texts = texts.str.replace(rf"\b{word}\b", now, regex=True)
    return {"unequal": int((texts.to_numpy() != now_texts.to_numpy()).sum())}


def main() -> None:
    """Compare two folders and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--run", required=True, help="what was run: names the result")
    chosen = parser.parse_args()
    record(f"tables-{chosen.run}", summary(compare(tables(chosen.before), tables(chosen.after))))


if __name__ == "__main__":
    main()
