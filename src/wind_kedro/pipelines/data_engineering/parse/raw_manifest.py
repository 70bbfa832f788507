"""Manifest of the raw files of a run, with their checksums."""

from __future__ import annotations

import pandas as pd


def list_raw_files(raw_files: pd.DataFrame) -> pd.DataFrame:
    """One row per farm and raw file that this run read, sorted; the audit and a rebuild refer to it."""
    return raw_files.sort_values(["farm_id", "source_table", "path"], ignore_index=True)
