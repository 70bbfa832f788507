from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.contracts.features import ModelInput
from wind_kedro.contracts.forecasts import Forecasts
from wind_kedro.models.tables import KEYS, NOT_FEATURES, feature_matrix, forecast_rows

MakeTable = Callable[[list[dict[str, Any]]], pd.DataFrame]


def test_no_model_sees_a_key_or_the_outcome() -> None:
    names = list(ModelInput.to_schema().columns)
    table = pd.DataFrame({name: [1.0] for name in [*names, "wind_speed_100m_ms"]})
    # The lead is known when a forecast is made, and is a feature like any other.
    assert list(feature_matrix(table)) == ["lead_minutes", "wind_speed_100m_ms"]
    assert set(KEYS) < set(NOT_FEATURES)


def test_a_forecast_has_no_outcome_to_take_away(make_features: MakeTable) -> None:
    features = make_features([{"issued_at": "2024-03-01 06:00", "valid_at": "2024-03-01 07:00"}])
    assert set(feature_matrix(features)) == {"lead_minutes", "wind_speed_100m_ms", "hour_of_day"}


def test_shares_become_kilowatts_of_each_entity_and_say_what_weather_they_are_made_of(
    fleet: Fleet, make_features: MakeTable
) -> None:
    issue = {"issued_at": "2024-03-01 06:00", "valid_at": "2024-03-01 07:00"}
    rows = make_features([issue | {"entity_id": "both"}, issue | {"entity_id": "hill", "weather_run_at": pd.NaT}])
    rows.index = pd.Index([7, 3])  # as a filter leaves it
    shares = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    table = Forecasts.validate(
        forecast_rows(rows, shares, fleet.product("hours"), fleet, model="climatology", model_version="3", fallback="persistence")
    )
    assert table[["entity_id", "capacity_kw", "q100_kw", "q500_kw", "q900_kw", "weather"]].to_numpy().tolist() == [
        ["both", 4000, 400, 800, 1200, "perfect weather"],
        ["hill", 3000, 1200, 1500, 1800, "forecast weather"],
    ]
    assert set(table["model"] + table["model_version"] + table["fallback"]) == {"climatology3persistence"}
    assert table["lead_minutes"].tolist() == [60, 60]
    assert table["weather_run_at"].isna().tolist() == [False, True]
