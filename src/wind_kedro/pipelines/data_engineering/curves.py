"""The power curve of a farm's turbines as it is lived, and the points that are off it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Fleet

from ._tables import Table, naive
from .clocks import calibration_spans
from .rules import SPIKES_IN_TIME, as_first_known, leaves_at, turbines_of
from .settings import Curve, DataEngineering

Floats = NDArray[np.float64]
#: Power is counted in steps of this share of rated power; medians are interpolated inside a step.
_STEP_SHARE = 0.005
_MICROSECOND = pd.Timedelta(microseconds=1)


def fit_power_curves(
    timed_signals: Table, clock_calibration: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> pd.DataFrame:
    """Fit the power curve of every farm at every calibration.

    One row per farm, calibration and bin of wind speed (contract `PowerCurve`): the median power of its turbines as a
    share of their rated power, from all versions in force at the calibration. Bins are 0.5 m/s wide and need 30 minutes
    of data (IEC 61400-12-1, its method of bins, with the median for its mean as outliers are still in); a bin with too
    little is left out.

    A point is off the curve if the curve reaches its power only ``shift_ms`` earlier or later (the filter of OpenOA's
    example for La Haute Borne, which it applies bin of power by bin of power), and by more than ``tolerance_share``. So
    ``low_share`` is the curve ``shift_ms`` below the bin, less the tolerance, ``high_share`` the curve ``shift_ms``
    above, plus the tolerance.

    Args:
        timed_signals: see `time_signals`.
        clock_calibration: contract `ClockCalibration`; its times are used.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    curve = data_engineering.power_curve
    counts = _counts(timed_signals, clock_calibration, fleet, curve)
    calibrations = naive(clock_calibration[["farm_id", "fitted_at"]], ["fitted_at"])
    pieces = [
        _fit(
            farm.id,
            at,
            counts[(counts["farm_id"] == farm.id) & (counts["block"] <= at)],
            farm.signals.cadence_seconds,
            curve,
        )
        for farm in fleet.farms
        for at in calibrations.loc[calibrations["farm_id"] == farm.id, "fitted_at"]
    ]
    columns = ["farm_id", "fitted_at", "wind_speed_ms", "power_share", "low_share", "high_share", "rows"]
    # A fleet of meters, that measure no wind, has no curve.
    found = [piece for piece in pieces if not piece.empty]
    fitted = pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)
    fitted["fitted_at"] = pd.to_datetime(fitted["fitted_at"]).astype("datetime64[us]").dt.tz_localize("UTC")
    return fitted.astype({"farm_id": "str", "rows": "int64"} | dict.fromkeys(columns[2:6], "float64"))


def _counts(timed: Table, calibration: pd.DataFrame, fleet: Fleet, curve: Curve) -> pd.DataFrame:
    """How many rows in each cell of wind speed and power, by the calibration (``block``) at which they count first.

    A row that is superseded, or whose value was found to be a spike, counts once more with -1 at the calibration after
    that, so that running sums are what was in force.
    """
    import ibis

    rows = timed.mutate(**{name: as_first_known(timed, name) for name in SPIKES_IN_TIME})
    rows = rows.filter(rows.status.isin(["kept", "superseded"]), rows.power_kw.notnull(), rows.wind_speed_ms.notnull())
    rows = rows.inner_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    spans = calibration_spans(calibration)
    # (previous, this]: the calibration at which what became available in between counts first.
    spans["after"] = spans.groupby("farm_id")["fitted_at"].shift(1).fillna(pd.Timestamp(1, 1, 1).as_unit("us"))
    table = ibis.memtable(spans[["farm_id", "fitted_at", "after"]])
    rows = rows.mutate(
        bin=(rows.wind_speed_ms / curve.bin_width_ms).floor().cast("int64"),
        step=(rows.power_kw / rows.rated / _STEP_SHARE).floor().cast("int64"),
    )
    entered = rows.select("farm_id", "bin", "step", at=rows.available_at, sign=ibis.literal(1))
    rows = rows.mutate(left_at=leaves_at(rows))
    left = rows.filter(rows.left_at.notnull())
    moves = entered.union(left.select("farm_id", "bin", "step", at=left.left_at, sign=ibis.literal(-1)))
    moves = moves.inner_join(
        table, [moves.farm_id == table.farm_id, moves.at > table.after, moves.at <= table.fitted_at]
    )
    counts: pd.DataFrame = (
        moves.group_by(["farm_id", moves.fitted_at.name("block"), "bin", "step"])
        .agg(count=moves.sign.sum())
        .to_pandas()
    )
    return counts


def _fit(farm_id: str, at: pd.Timestamp, counts: pd.DataFrame, cadence: int, curve: Curve) -> pd.DataFrame:
    cells = counts.groupby(["bin", "step"])["count"].sum().unstack(fill_value=0).sort_index()
    cells = cells[cells.sum(axis=1) * cadence >= curve.min_bin_minutes * 60] if not cells.empty else cells
    if cells.empty:
        return pd.DataFrame()
    cells = cells[sorted(cells.columns)]
    medians = np.array([_median(row, cells.columns.to_numpy()) for row in cells.to_numpy()])
    speed = (cells.index.to_numpy(dtype="float64") + 0.5) * curve.bin_width_ms
    # Bounds from a curve that never falls: storms, where turbines stop, must not lower what is expected of less wind.
    rising = np.maximum.accumulate(medians)
    low = np.interp(speed - curve.shift_ms, speed, np.minimum(rising, medians)) - curve.tolerance_share
    high = np.interp(speed + curve.shift_ms, speed, rising) + curve.tolerance_share
    return pd.DataFrame(
        {
            "farm_id": farm_id,
            "fitted_at": at,
            "wind_speed_ms": speed,
            "power_share": medians,
            "low_share": low,
            "high_share": high,
            "rows": cells.sum(axis=1).to_numpy(),
        }
    )


def _median(counts: Any, steps: Any) -> float:
    """Median of counts in steps of power, interpolated inside the step where half of them are reached."""
    running = np.cumsum(counts)
    half = running[-1] / 2
    place = int(np.searchsorted(running, half))
    below = running[place] - counts[place]
    return float((steps[place] + (half - below) / counts[place]) * _STEP_SHARE)
