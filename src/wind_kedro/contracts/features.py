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


class ModelInput(Features):
    """One row of `Features` with the observed power, as known when training."""

    target_available_at: Series[Utc] = pa.Field(description="when that observation could be read: a fold may use it from then on")
    power_share: Series[float] = pa.Field(description="power as a share of the capacity that was available")
    available_capacity_kw: Series[float] = pa.Field(gt=0)
