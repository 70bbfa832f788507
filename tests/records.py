"""Tables of forecasts for tests."""

from __future__ import annotations

import pandas as pd

from wind_kedro.contracts.forecasts import Forecasts


def as_forecasts(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Forecasts`: columns that are not given are those of issues of champions that revise none and sell the median."""
    age = (table["issued_at"] - pd.to_datetime(table["weather_run_at"], utc=True)).dt.total_seconds() / 60
    usual = {
        "revised_issue_at": table["issued_at"],
        "revision": 0,
        "rung": "champion",
        "weather_run_age_minutes": age,
        "point_kw": table["q500_kw"],
    }
    return Forecasts.validate(table.assign(**{name: values for name, values in usual.items() if name not in table}))
