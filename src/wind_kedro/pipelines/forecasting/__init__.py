"""The champion of the moment issues the forecast."""

from wind_kedro.pipelines.forecasting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
