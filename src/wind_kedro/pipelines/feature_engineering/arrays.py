"""Times as numbers, values at times, and means without warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
TimeArray = NDArray[np.datetime64]
MINUTE = np.timedelta64(1, "m")


def naive(times: pd.Series) -> TimeArray:
    """UTC times as NumPy has them: without zone."""
    found: TimeArray = times.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return found


def minutes(times: Any) -> FloatArray:
    """Minutes since 1970."""
    return np.asarray(times).astype("datetime64[m]").astype(np.float64)


def from_minutes(since: FloatArray) -> TimeArray:
    """The reverse; not a number is NaT."""
    times = np.full(since.shape, np.datetime64("NaT"), dtype="datetime64[us]")
    known = ~np.isnan(since)
    times[known] = since[known].astype("int64").astype("datetime64[m]")
    return times


def looked_up(wanted: TimeArray, at: TimeArray, values: Any) -> Any:
    """The values at the wanted times; missing (NaN, NaT) where ``at``, which is ascending, has no such time."""
    if not len(at):
        return np.full(wanted.shape, np.nan)
    place = np.minimum(np.searchsorted(at, wanted), len(at) - 1)
    missing = np.datetime64("NaT") if values.dtype.kind == "M" else np.nan
    return np.where(at[place] == wanted, values[place], missing)


def quiet(reduce: Any, stacked: FloatArray) -> FloatArray:
    """A nan-reduction over the first axis; all missing is missing, without NumPy's warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reduced: FloatArray = reduce(stacked, axis=0)
    return reduced
