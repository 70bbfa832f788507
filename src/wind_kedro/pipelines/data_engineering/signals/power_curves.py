"""Empirical power curves of farms, with bounds beyond which a point is off the curve."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.pipelines.data_engineering.settings import Curve, DataEngineering
from wind_kedro.pipelines.data_engineering.signals.chunks import near, plan
from wind_kedro.pipelines.data_engineering.signals.rules import (
    CHANGES,
    SPIKES_IN_TIME,
    as_first_known,
    leaves_at,
    numbers_of_farms,
    turbines_of,
)
from wind_kedro.pipelines.data_engineering.tables import Table, ibis
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibration_spans

Counts = NDArray[np.integer]
#: Power is counted in steps of this share of rated power; medians are interpolated inside a step.
_STEP_SHARE = 0.005


def fit_power_curves(
    timed_signals: Table, clock_calibration: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> pd.DataFrame:
    """Fit the power curve of every farm at every calibration.

    One row per farm, calibration and bin of wind speed (contract `PowerCurve`): the median power of its turbines as a
    share of their rated power, from all versions in force at the calibration. Bins are 0.5 m/s wide and need 30 minutes
    of data (method of bins of IEC 61400-12-1, with medians instead of means as outliers are included); other bins are
    omitted.

    A point is off the curve if it is beyond the curve shifted by ``shift_ms`` (the filter of OpenOA's example for La Haute
    Borne, which works by bins of power) by more than ``tolerance_share``. So ``low_share`` is the curve ``shift_ms`` below the
    bin minus the tolerance, ``high_share`` the curve ``shift_ms`` above it plus the tolerance.
    """
    # In order; a calibration is the first to include rows available in `(after, fitted_at]`.
    spans = calibration_spans(clock_calibration)
    spans["after"] = spans.groupby("farm_id")["fitted_at"].shift(1).fillna(pd.Timestamp(1, 1, 1).as_unit("us"))
    in_fleet = spans["farm_id"].isin([farm.id for farm in fleet.farms])
    spans = spans.loc[in_fleet, ["farm_id", "fitted_at", "after"]].reset_index(drop=True)
    counts = _counts(timed_signals, spans, fleet, data_engineering)
    pieces = [
        piece
        for farm in fleet.farms
        if farm.id in counts
        for piece in _fits(farm, counts.pop(farm.id), spans, data_engineering.power_curve)
    ]
    columns = ["farm_id", "fitted_at", "wind_speed_ms", "power_share", "low_share", "high_share", "rows"]
    # Without wind speed, as in a fleet of meters, there is no curve.
    fitted = pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)
    fitted["fitted_at"] = pd.to_datetime(fitted["fitted_at"]).astype("datetime64[us]").dt.tz_localize("UTC")
    return fitted.astype({"farm_id": "str", "rows": "int64"} | dict.fromkeys(columns[2:6], "float64"))


def _counts(timed: Table, spans: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering) -> dict[str, pd.DataFrame]:
    """Numbers of rows of each farm by cell of wind speed and power, and by the first calibration (``span``) to include them.

    A row that is superseded, or has a value found to be a spike, is counted again with -1 at the next calibration, so that
    cumulative sums are the counts in force.
    """
    farms = numbers_of_farms(fleet)
    turbines = turbines_of(fleet)
    turbines = turbines.assign(farm=turbines["farm_id"].map(farms).astype("int64"))
    numbered = spans.assign(farm=spans["farm_id"].map(farms).astype("int64"), span=np.arange(len(spans)))
    rows = timed.filter(timed.status.isin(["kept", "superseded"]))
    max_rows = data_engineering.chunk_rows
    chunks = plan(rows, "valid_at", max_rows) if timed.count().execute() > max_rows else [None]
    pieces: dict[str, list[pd.DataFrame]] = {}
    for chunk in chunks:
        own = near(rows, chunk, "valid_at", dt.timedelta()) if chunk else rows
        counts = _counted(own, numbered, turbines, data_engineering.power_curve)
        for farm_id, some in counts.groupby(spans["farm_id"].to_numpy()[counts["span"]]):
            pieces.setdefault(str(farm_id), []).append(some)
    return {farm_id: pd.concat(some, ignore_index=True) for farm_id, some in pieces.items()}


def _counted(rows: Table, spans: pd.DataFrame, turbines: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """Counts of rows as 32-bit integers: ``span``, ``bin``, ``step``, ``count``."""
    first, last = rows.agg(first=rows.available_at.min(), last=rows.available_at.max()).to_pandas().iloc[0]
    # Only calibrations within the range of arrivals matter for rows entering, and all later ones for rows leaving.
    later = spans[spans["fitted_at"] >= first]
    soon = later[later["after"] < last]
    entered = _by_cell(rows.mutate(at=rows.available_at), soon, turbines, curve)
    gone = rows.filter(ibis.or_(*(rows[name].notnull() for name in CHANGES)))
    left = _by_cell(gone.mutate(at=leaves_at(gone)), later, turbines, curve)
    return pd.concat([entered, left.assign(count=-left["count"])], ignore_index=True).astype("int32")


def _by_cell(rows: Table, spans: pd.DataFrame, turbines: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """Number of rows in each cell, by the span of their time ``at``."""
    rows = rows.mutate(**{name: as_first_known(rows, name) for name in SPIKES_IN_TIME})
    rows = rows.filter(rows.power_kw.notnull(), rows.wind_speed_ms.notnull())
    rows = rows.inner_join(ibis.memtable(turbines), ["farm_id", "turbine_id"])
    rows = rows.select(
        "farm", "at",
        bin=(rows.wind_speed_ms / curve.bin_width_ms).floor().cast("int32"),
        step=(rows.power_kw / rows.rated / _STEP_SHARE).floor().cast("int32"),
    )  # fmt: skip
    table = ibis.memtable(spans[["farm", "span", "after", "fitted_at"]])
    rows = rows.inner_join(table, [rows.farm == table.farm, rows["at"] > table.after, rows["at"] <= table.fitted_at])
    counts: pd.DataFrame = rows.group_by("span", "bin", "step").agg(count=rows.count()).to_pandas()
    return counts


def _fits(farm: Farm, counts: pd.DataFrame, spans: pd.DataFrame, curve: Curve) -> Iterator[pd.DataFrame]:
    """Curves of a farm, one per calibration, from counts accumulated up to it."""
    bins, row = np.unique(counts["bin"].to_numpy(), return_inverse=True)
    steps, column = np.unique(counts["step"].to_numpy(), return_inverse=True)
    count = counts["count"].to_numpy()
    places = counts.groupby("span").indices
    cells = np.zeros((len(bins), len(steps)), dtype="int64")
    for span, at in spans.loc[spans["farm_id"] == farm.id, "fitted_at"].items():
        since = places.get(span, [])
        np.add.at(cells, (row[since], column[since]), count[since])
        enough = cells.sum(axis=1) * farm.signals.cadence_seconds >= curve.min_bin_minutes * 60
        if enough.any():
            yield _fit(cells[enough], bins[enough], steps, curve).assign(farm_id=farm.id, fitted_at=at)


def _fit(cells: Counts, bins: Counts, steps: Counts, curve: Curve) -> pd.DataFrame:
    # Medians of the histograms of power, interpolated within the step that holds the median.
    running = np.cumsum(cells, axis=1)
    half = running[:, -1:] / 2
    place = np.argmax(running >= half, axis=1)[:, np.newaxis]
    count = np.take_along_axis(cells, place, axis=1)
    below = np.take_along_axis(running, place, axis=1) - count
    medians = ((steps[place] + (half - below) / count) * _STEP_SHARE)[:, 0]
    speed = (bins.astype("float64") + 0.5) * curve.bin_width_ms
    # Bounds from the monotone curve: stops in storms must not lower the bounds at lower wind speeds.
    rising = np.maximum.accumulate(medians)
    low = np.interp(speed - curve.shift_ms, speed, np.minimum(rising, medians)) - curve.tolerance_share
    high = np.interp(speed + curve.shift_ms, speed, rising) + curve.tolerance_share
    return pd.DataFrame(
        {"wind_speed_ms": speed, "power_share": medians, "low_share": low, "high_share": high, "rows": cells.sum(axis=1)}
    )
