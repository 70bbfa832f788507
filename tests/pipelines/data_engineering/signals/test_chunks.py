"""A table worked in chunks is the table worked whole."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pandas as pd

from wind_kedro.pipelines.data_engineering.signals.chunks import near, plan

Make = Callable[[list[dict[str, Any]]], Any]


def test_every_row_is_inside_one_chunk() -> None:
    numbers = np.random.default_rng(3)
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers.integers(0, 9 * 86400, 2000), unit="s")
    frame = pd.DataFrame(
        {
            "farm_id": numbers.choice(["a", "b"], 2000),
            "turbine_id": numbers.choice(["1", "2", None], 2000),
            "at": times.as_unit("us"),
            "number": np.arange(2000),
        }
    )
    frame.loc[frame["number"] % 50 == 0, "at"] = pd.NaT
    rows = ibis.memtable(frame)
    for max_rows in (1, 70, 300, 10_000):
        chunks = plan(rows, "at", max_rows)
        numbers_seen = list(
            itertools.chain.from_iterable(near(rows, chunk, "at", dt.timedelta()).to_pandas()["number"] for chunk in chunks)
        )
        assert sorted(numbers_seen) == list(range(2000))
