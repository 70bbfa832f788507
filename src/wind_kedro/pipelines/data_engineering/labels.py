"""What a point off the power curve is: stopped, curtailed, derated, iced, or just off. Fixed when the row arrives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet

from ._tables import Table, naive
from .parsing import SIGNALS
from .rules import SPIKES_IN_TIME, as_first_known, back, by_cadence, turbines_of, whole
from .settings import DataEngineering, Labels

#: With these a turbine could not give what the wind offered: by order or by fault, not by weather.
NOT_AVAILABLE = ("stopped", "curtailed", "derated")
LABELS = ("", *NOT_AVAILABLE, "iced", "off_curve")


def judge_signals(
    timed_signals: Table, power_curve: pd.DataFrame, fleet: Fleet, data_engineering: DataEngineering
) -> Table:
    """Say what each point off the power curve is, and give the signals out.

    One row per source row that counts (contract `Signals`), superseded versions included. ``label`` is by the newest curve
    fitted when the row became available, and by rows that were there by then: it never changes. It is empty on the curve, and
    where there is no curve or no wind speed; else the first that holds of

    - ``curtailed``: makes nothing although the wind would do, and so do all turbines of the farm;
    - ``stopped``: blades feathered in wind that would do, or makes nothing in such wind for ``stopped_minutes``;
    - ``derated``: below the curve, power held level for ``derated_minutes``;
    - ``curtailed``: below the curve, power held level for ``flat_minutes``, or blades pitched below rated power;
    - ``iced``: below the curve for ``iced_minutes``, in frost, blades as they should be;
    - ``off_curve``: below or above it, and none of these.

    Only a turbine's first versions have a past to be judged by; what needs one is not said of revisions.

    Args:
        timed_signals: see `time_signals`.
        power_curve: contract `PowerCurve`.
        fleet: the cards.
        data_engineering: the room's parameters.
    """
    import ibis

    rows = timed_signals.filter(timed_signals.status.isin(["kept", "superseded"]))
    rows = rows.inner_join(ibis.memtable(turbines_of(fleet)), ["farm_id", "turbine_id"])
    rows = rows.mutate(
        **{f"{name}_first": as_first_known(rows, name) for name in SPIKES_IN_TIME}, first=rows.version == 0
    )
    rows = _with_curve(rows, power_curve, data_engineering.power_curve.bin_width_ms)
    rows = rows.mutate(label=_label(rows, fleet, data_engineering.labels))
    utc = "timestamp('UTC')"
    times = ("valid_at", "available_at", "superseded_at", *(f"{name}_spiked_at" for name in SPIKES_IN_TIME))
    return rows.select(
        "farm_id", "turbine_id", **{name: rows[name].cast(utc) for name in times},
        **{name: rows[name] for name in SIGNALS}, **{f"{name}_spiked": rows[f"{name}_spiked"] for name in SPIKES_IN_TIME},
        version=rows.version, status=rows.status, label=rows.label, retimed=rows.retimed,
        source_file=rows.source_file, source_row=rows.source_row,
    )  # fmt: skip


def _with_curve(rows: Table, power_curve: pd.DataFrame, width: float) -> Table:
    """Add ``share`` and what the curve in force says of it: ``expected``, ``below``, ``above``."""
    import ibis

    curves = naive(power_curve, ["fitted_at"]).drop(columns=["rows"])
    curves["bin"] = np.floor(curves.pop("wind_speed_ms") / width).astype("int64")
    times = curves[["farm_id", "fitted_at"]].drop_duplicates().sort_values(["farm_id", "fitted_at"])
    times["until"] = times.groupby("farm_id")["fitted_at"].shift(-1).fillna(pd.Timestamp(9999, 1, 1).as_unit("us"))
    curves = curves.merge(times, on=["farm_id", "fitted_at"]).rename(columns={"power_share": "expected"})
    table = ibis.memtable(curves)
    rows = rows.mutate(
        bin=(rows.wind_speed_ms_first / width).floor().cast("int64"), share=rows.power_kw_first / rows.rated
    )
    rows = rows.left_join(
        table,
        [
            rows.farm_id == table.farm_id,
            rows["bin"] == table["bin"],
            rows.available_at >= table.fitted_at,
            rows.available_at < table.until,
        ],
    )
    return rows.mutate(
        below=(rows.share < rows.low_share).fill_null(False), above=(rows.share > rows.high_share).fill_null(False)
    )


def _label(rows: Table, fleet: Fleet, settings: Labels) -> Any:
    import ibis

    order = {"group_by": ["farm_id", "turbine_id", "first"], "order_by": ["valid_at", "source_row"]}
    # Turbines of one interval in the order in which they came; those that came together see each other.
    together = ibis.range_window(
        group_by=["farm_id", "valid_at", "first"], order_by="available_at", preceding=None, following=0
    )
    idle = (rows.share <= settings.idle_share) & (rows.expected >= settings.expected_share)
    rows_below = rows.below & (rows.share > settings.idle_share)

    def lasting(flag: Any, minutes: float) -> Any:
        def rule(cadence: int) -> Any:
            count = max(1, int(minutes * 60 // cadence))
            frame = back(order, count)
            held = (flag.cast("int64").sum().over(frame) == count) & whole(rows, frame, count, cadence)
            return held if count == 1 else held & rows["first"]

        return by_cadence(rows, fleet, rule)

    def level(minutes: float) -> Any:
        def rule(cadence: int) -> Any:
            # Three are the fewest that can be level.
            count = max(3, int(minutes * 60 // cadence))
            frame = back(order, count)
            flat = (rows.share.max().over(frame) - rows.share.min().over(frame)) <= settings.flat_share
            return flat & (rows.share.count().over(frame) == count) & whole(rows, frame, count, cadence)

        return by_cadence(rows, fleet, rule)

    feathered = (rows.pitch_deg.abs() >= settings.feathered_deg).fill_null(False)
    pitched = (rows.pitch_deg.abs() >= settings.pitched_deg).fill_null(False) & (rows.share < settings.full_share)
    all_idle = (idle.fill_null(False).cast("int64").sum().over(together) == rows.share.count().over(together)) & (
        rows.share.count().over(together) >= settings.common_turbines
    )
    cold = (rows.temperature_c < settings.iced_below_c).fill_null(False)
    words = [
        (idle & rows["first"] & all_idle, "curtailed"),
        (idle & (feathered | lasting(idle.fill_null(False), settings.stopped_minutes)), "stopped"),
        (feathered & (rows.expected >= settings.feathered_expected_share), "stopped"),
        (rows_below & rows["first"] & level(settings.derated_minutes), "derated"),
        (rows_below & (pitched | (rows["first"] & level(settings.flat_minutes))), "curtailed"),
        (lasting(rows_below & cold & ~pitched, settings.iced_minutes), "iced"),
        (rows.below | rows.above, "off_curve"),
    ]
    return ibis.cases(*((holds.fill_null(False), word) for holds, word in words), else_="")
