"""Features and model input."""

from __future__ import annotations

import pandera.pandas as pa
from pandera.typing import Series

from wind_kedro.contracts.base import Contract, Utc


class Features(Contract, key=["product_id", "entity_id", "issued_at", "valid_at"], strict=False):
    """One row per product, entity, issue time and interval: what was known at the issue time, all numbers.

    The feature columns follow from `parameters_features.yml`; the keys are fixed. A missing value means 'not known then'.
    """

    product_id: Series[str]
    entity_id: Series[str]
    issued_at: Series[Utc]
    valid_at: Series[Utc]
    lead_minutes: Series[int] = pa.Field(ge=0)
    weather_run_at: Series[Utc] = pa.Field(nullable=True, description="newest run behind the row")


class FeatureFitSums(Contract, key=["product_id", "entity_id", "month_begin", "point", "bin"]):
    """One row per product, entity, month, point and bin of wind speed: sums over forecasts whose outcome became known then.

    Of an outcome its first version counts that is not imputed.
    """

    product_id: Series[str]
    entity_id: Series[str]
    month_begin: Series[Utc] = pa.Field(description="an outcome known just then is of the month before")
    point: Series[str] = pa.Field(description="'': the entity's own point; else the other farm's")
    bin: Series[int] = pa.Field(ge=0, description="of wind speed, from 0; its width is best_point.bin_width_ms")
    n: Series[float] = pa.Field(gt=0, description="forecast intervals")
    wind: Series[float] = pa.Field(description="sum of wind speeds, m/s")
    share: Series[float] = pa.Field(description="sum of power as a share of available capacity")
    wind_wind: Series[float] = pa.Field(description="sum of squares")
    share_share: Series[float] = pa.Field(description="sum of squares")
    wind_share: Series[float] = pa.Field(description="sum of products")


class FeatureFits(Contract, key=["product_id", "entity_id", "fitted_at", "point", "wind_speed_ms"]):
    """One row per product, entity, month, point and bin of wind speed: the power curve known when the month began.

    Points are the own one and those of other farms whose wind explained the power better.
    """

    product_id: Series[str]
    entity_id: Series[str]
    fitted_at: Series[Utc] = pa.Field(description="beginning of the month whose issues use what was known then")
    point: Series[str] = pa.Field(description="'': the entity's own point; else the other farm's")
    wind_speed_ms: Series[float] = pa.Field(ge=0, description="middle of the bin")
    power_share: Series[float] = pa.Field(description="mean of the bin, share of available capacity")
    correlation: Series[float] = pa.Field(nullable=True, description="of power and wind speed; null: too few hours are known")


class ModelInput(Features):
    """One row of `Features` with the observed power, as known when training."""

    target_available_at: Series[Utc] = pa.Field(description="when that observation could be read: a fold may use it from then on")
    power_share: Series[float] = pa.Field(description="power as a share of the capacity that was available")
    available_capacity_kw: Series[float] = pa.Field(gt=0)
