"""Names that tables and code share: the columns of quantiles, the labels of weather. Cheap to import; `contracts` is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

#: The weather label of scores, figures and pages that are made from an analysis.
PERFECT_WEATHER = "perfect weather"
#: The weather label of all others.
FORECAST_WEATHER = "forecast weather"

#: Name of the fallback that is made from observations when it is needed, and needs no stored model.
OBSERVED_CLIMATOLOGY = "observed_climatology"
#: Stands as the fallback of a forecast that was issued at a deadline from that of an older issue.
OLDER_FORECAST = "older_forecast"
#: How far down a forecast had to step: the champion, an older forecast, a fallback of its version, the climatology of the
#: observations.
Rung = Literal["champion", "older_forecast", "fallback", "climatology"]
RUNGS: tuple[Rung, ...] = ("champion", "older_forecast", "fallback", "climatology")

#: Feature groups that are no inputs: the output without any input; what postprocessing changed (sorted, bounded, calibrated).
BASE, CORRECTIONS = "base", "corrections"


def quantile_column(level: float, unit: Literal["kw", "share"] = "kw") -> str:
    """Name of the column of the quantile of ``level``: thousandths and unit. ``0.05`` → ``q050_kw``, ``q050_share``."""
    return f"q{round(level * 1000):03d}_{unit}"


def quantile_columns(levels: Sequence[float], unit: Literal["kw", "share"] = "kw") -> list[str]:
    """Names of the columns of several levels, in their order."""
    return [quantile_column(level, unit) for level in levels]
