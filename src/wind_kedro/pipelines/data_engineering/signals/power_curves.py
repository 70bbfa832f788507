"""Empirical power curves of farms, with bounds beyond which a point is off the curve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wind_kedro.cards import Farm, Fleet
from wind_kedro.contracts.observations import CellCounts, PowerCurve
from wind_kedro.datasets.derived import Derived, days_of, frame_of, shards_of
from wind_kedro.pipelines.data_engineering.settings import Curve, DataEngineering
from wind_kedro.pipelines.data_engineering.signals.rules import (
    CHANGES,
    SPIKES_IN_TIME,
    as_first_known,
    leaves_at,
    numbers_of_farms,
    turbines_of,
)
from wind_kedro.pipelines.data_engineering.tables import Table, ibis, naive
from wind_kedro.pipelines.data_engineering.timestamps.clock_search import calibration_spans
from wind_kedro.storage.fingerprints import NO_DAY, Recipe, mixed, of_cards, overlapping

#: Change it when the counts or the curves change that the same input gives.
VERSION = 1
Counts = NDArray[np.integer]
#: Power is counted in steps of this share of rated power; medians are interpolated inside a step.
_STEP_SHARE = 0.005
_FAR_PAST, _FAR_FUTURE = pd.Timestamp(1, 1, 1).as_unit("us"), pd.Timestamp(9999, 1, 1).as_unit("us")


def count_cells(
    timed_signals: Derived | Table, clock_calibration: Derived | pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> Recipe:
    """Count the rows of turbines by wind speed and power, of which power curves are fitted.

    One shard per farm and calibration, one row per cell (contract `CellCounts`): the number of rows that this calibration is the
    first to include. A row that is superseded, or has a value found to be a spike, is counted again with -1 at the next
    calibration, so that cumulative sums are the counts in force. A shard depends on the days of which anything changed between
    the calibration before and this one; what arrives after the newest calibration touches none.
    """
    spans = _spans(frame_of(clock_calibration), fleet)
    days = days_of(timed_signals, ["farm_id"], "valid_at")
    days = days[days["day"] != NO_DAY]
    days = days.assign(first=days.get("first_at", _FAR_PAST), last=days.get("last_at", _FAR_FUTURE))
    asked = spans.rename(columns={"after": "first", "fitted_at": "last"})
    touched = overlapping(days.assign(number=mixed(days["digest"], days["day"])), asked, "farm_id")
    cards = {farm.id: [(turbine.id, turbine.rated_power_kw) for turbine in farm.turbines] for farm in fleet.farms}
    numbers = of_cards(cards, VERSION, data_engineering.power_curve.bin_width_ms)[spans["farm_id"]]
    wanted = spans[["farm_id", "day"]].assign(
        rows=overlapping(days.assign(number=days["rows"]), asked, "farm_id").astype("int64"),
        fingerprint=mixed(touched, numbers, spans["after"], spans["fitted_at"]),
    )

    def work(part: pd.DataFrame) -> pd.DataFrame:
        own = spans.merge(part[["farm_id", "day"]], on=["farm_id", "day"])
        within = own.groupby("farm_id").agg(after=("after", "min"), fitted_at=("fitted_at", "max"))
        there = days.join(within, on="farm_id", how="inner")
        there = there[(there["last"] >= there["after"]) & (there["first"] <= there["fitted_at"])]
        rows = shards_of(timed_signals, there[["farm_id", "day"]])
        counts = _counted(rows.filter(rows.status.isin(["kept", "superseded"])), own, fleet, data_engineering.power_curve)
        return CellCounts.table(own.loc[counts["span"], ["farm_id", "fitted_at"]].reset_index(drop=True).join(counts))

    return Recipe(wanted, work)


def fit_power_curves(
    cell_counts: Derived | pd.DataFrame,
    clock_calibration: Derived | pd.DataFrame,
    fleet: Fleet,
    data_engineering: DataEngineering,
) -> Recipe:
    """Fit the power curve of every farm at every calibration.

    One shard per farm and calibration, one row per bin of wind speed (contract `PowerCurve`): the median power of its turbines
    as a share of their rated power, from all versions in force at the calibration. Bins are 0.5 m/s wide and need 30 minutes
    of data (method of bins of IEC 61400-12-1, with medians instead of means as outliers are included); other bins are
    omitted.

    A point is off the curve if it is beyond the curve shifted by ``shift_ms`` (the filter of OpenOA's example for La Haute
    Borne, which works by bins of power) by more than ``tolerance_share``. So ``low_share`` is the curve ``shift_ms`` below the
    bin minus the tolerance, ``high_share`` the curve ``shift_ms`` above it plus the tolerance.
    """
    curve = data_engineering.power_curve
    spans = _spans(frame_of(clock_calibration), fleet)
    counted = days_of(cell_counts, ["farm_id"], "fitted_at")
    counted = counted.assign(first=counted["day"], last=_FAR_FUTURE, number=mixed(counted["digest"], counted["day"]))
    so_far = overlapping(counted, spans[["farm_id"]].assign(first=spans["day"], last=spans["day"]), "farm_id")
    numbers = of_cards({farm.id: farm.signals.cadence_seconds for farm in fleet.farms}, VERSION, curve)[spans["farm_id"]]
    rows = spans.merge(counted[["farm_id", "day", "rows"]], on=["farm_id", "day"], how="left")["rows"].fillna(0)
    wanted = spans[["farm_id", "day"]].assign(rows=rows.astype("int64"), fingerprint=mixed(so_far, numbers))

    def work(part: pd.DataFrame) -> pd.DataFrame:
        first, last = part["day"].min(), part["day"].max()
        counts = frame_of(cell_counts, last=last)
        counts = naive(counts[counts["farm_id"].isin(part["farm_id"])], ["fitted_at"])
        # All calibrations before the first one asked for are one.
        counts["fitted_at"] = counts["fitted_at"].clip(lower=first)
        own = spans.merge(part[["farm_id", "day"]], on=["farm_id", "day"])
        times = {farm_id: of["fitted_at"].tolist() for farm_id, of in own.groupby("farm_id")}
        by_farm = counts.groupby("farm_id")
        pieces = [piece for farm_id, of in by_farm for piece in _fits(fleet.farm(str(farm_id)), of, times[farm_id], curve)]
        # Without wind speed, as in a fleet of meters, there is no curve.
        return PowerCurve.table(pd.concat(pieces, ignore_index=True) if pieces else [])

    return Recipe(wanted, work)


def _spans(calibration: pd.DataFrame, fleet: Fleet) -> pd.DataFrame:
    """Calibrations in order, each with the time of the one before (``after``) and its ``day``; UTC without zone."""
    spans = calibration_spans(calibration)
    spans = spans[spans["farm_id"].isin([farm.id for farm in fleet.farms])]
    after = spans.groupby("farm_id")["fitted_at"].shift(1).fillna(_FAR_PAST)
    spans = spans[["farm_id", "fitted_at"]].assign(after=after, day=spans["fitted_at"].dt.floor("D"))
    return spans.reset_index(drop=True)


def _counted(rows: Table, spans: pd.DataFrame, fleet: Fleet, curve: Curve) -> pd.DataFrame:
    """Counts of rows: ``span`` (index in ``spans``), ``bin``, ``step``, ``count``."""
    farms = numbers_of_farms(fleet)
    turbines = turbines_of(fleet)
    turbines = turbines.assign(farm=turbines["farm_id"].map(farms).astype("int64"))
    numbered = spans.assign(farm=spans["farm_id"].map(farms).astype("int64"), span=spans.index)
    entered = _by_cell(rows.mutate(at=rows.available_at), numbered, turbines, curve)
    gone = rows.filter(ibis.or_(*(rows[name].notnull() for name in CHANGES)))
    left = _by_cell(gone.mutate(at=leaves_at(gone)), numbered, turbines, curve)
    counts = pd.concat([entered, left.assign(count=-left["count"])], ignore_index=True).astype("int64")
    return counts.groupby(["span", "bin", "step"], as_index=False).sum()


def _by_cell(rows: Table, spans: pd.DataFrame, turbines: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """Number of rows in each cell, by the span of their time ``at``."""
    rows = rows.mutate(**{name: as_first_known(rows, name) for name in SPIKES_IN_TIME})
    rows = rows.filter(rows.power_kw.notnull(), rows.wind_speed_ms.notnull())
    # One table, so that rows meet no span of another farm: DuckDB may join spans by time first, each row with those of all farms.
    table = ibis.memtable(turbines.merge(spans[["farm", "span", "after", "fitted_at"]], on="farm").drop(columns="farm"))
    same = [rows[name] == table[name] for name in ("farm_id", "turbine_id")]
    rows = rows.inner_join(table, [*same, rows["at"] > table.after, rows["at"] <= table.fitted_at])
    rows = rows.select(
        "span",
        bin=(rows.wind_speed_ms / curve.bin_width_ms).floor().cast("int32"),
        step=(rows.power_kw / rows.rated / _STEP_SHARE).floor().cast("int32"),
    )  # fmt: skip
    counts: pd.DataFrame = rows.group_by("span", "bin", "step").agg(count=rows.count()).to_pandas()
    return counts


def _fits(farm: Farm, counts: pd.DataFrame, times: list[pd.Timestamp], curve: Curve) -> Iterator[pd.DataFrame]:
    """Curves of a farm at these calibrations, from counts accumulated up to each."""
    bins, row = np.unique(counts["bin"].to_numpy(), return_inverse=True)
    steps, column = np.unique(counts["step"].to_numpy(), return_inverse=True)
    count = counts["count"].to_numpy()
    places = counts.groupby("fitted_at").indices
    cells = np.zeros((len(bins), len(steps)), dtype="int64")
    for at in times:
        since = places.get(at, [])
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
