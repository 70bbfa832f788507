"""OpenSTEF's forecasts of the rows that it is handed, for `bench_peer`: run by a Python that has it, not by ours.

Its own preset with its defaults, learnt as of the beginning of each month, asked at each issue with the load known until then.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from openstef_core.datasets import TimeSeriesDataset
from openstef_core.types import LeadTime, Q
from openstef_models.presets import ForecastingWorkflowConfig, create_forecasting_workflow

HOUR = timedelta(hours=1)
#: How much of the past it is shown at an issue: its longest lag is 14 days.
SHOWN = pd.Timedelta(days=21)
#: It refuses to forecast where the load has been the same for a day; a wind farm in a calm is no fault.
FLAT = timedelta(days=30)


def forecasts_of(rows: pd.DataFrame, asked: pd.DataFrame, levels: list[float], model: str) -> pd.DataFrame:
    """One row per asked issue and interval of one farm, with a column a level (``q_0.5``), and ``fit_seconds``.

    Args:
        rows: every hour of the farm, by its start: ``load``, as a share of capacity, and weather.
        asked: ``issued_at`` and ``valid_at``, in order.
        levels: quantile levels.
        model: one of the preset's.
    """
    hours = rows.set_index("valid_at").sort_index().asfreq("h")
    parts = []
    for month, of_month in asked.groupby(asked["issued_at"].dt.strftime("%Y-%m")):
        start = pd.Timestamp(f"{month}-01", tz="UTC")
        config = ForecastingWorkflowConfig(
            model_id="farm",
            model=model,
            quantiles=[Q(level) for level in levels],
            sample_interval=HOUR,
            horizons=[LeadTime.from_string("PT17H")],
            wind_speed_column="wind_speed_100m_ms",
            flatliner_threshold=FLAT,
            mlflow_storage=None,
        )
        workflow = create_forecasting_workflow(config)
        began = time.process_time()
        workflow.fit(TimeSeriesDataset(hours[hours.index < start].copy(), HOUR))
        took = time.process_time() - began
        for issued_at, of_issue in of_month.groupby("issued_at"):
            end = of_issue["valid_at"].max()
            known = hours[(hours.index >= issued_at - SHOWN) & (hours.index <= end)].copy()
            known.loc[known.index >= issued_at, "load"] = float("nan")
            said = workflow.predict(TimeSeriesDataset(known, HOUR), forecast_start=issued_at).data
            found = pd.DataFrame({f"q_{level}": said[Q(level).format()] for level in levels})
            found = found.reindex(of_issue["valid_at"]).reset_index(names="valid_at")
            parts.append(found.assign(issued_at=issued_at, fit_seconds=took))
    return pd.concat(parts, ignore_index=True)


def main(folder: Path, model: str, levels: list[float]) -> None:
    """Read ``rows.parquet`` and ``asked.parquet``, write ``said.parquet``."""
    rows, asked = pd.read_parquet(folder / "rows.parquet"), pd.read_parquet(folder / "asked.parquet")
    parts = [
        forecasts_of(own.drop(columns="entity_id"), asked[asked["entity_id"] == farm], levels, model).assign(entity_id=farm)
        for farm, own in rows.groupby("entity_id")
    ]
    pd.concat(parts, ignore_index=True).to_parquet(folder / "said.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [float(level) for level in sys.argv[3].split(",")])
