"""What was read: the raw files of a run, kept with their checksums."""

from __future__ import annotations

import pandas as pd


def take_stock(raw_files: pd.DataFrame) -> pd.DataFrame:
    """One row per farm and raw file as this run read it, in order: the audit and a rebuild name the data by it."""
    return raw_files.sort_values(["farm_id", "source_table", "path"], ignore_index=True)
