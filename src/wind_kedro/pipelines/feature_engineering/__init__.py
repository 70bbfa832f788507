"""What was known at each issue time, as numbers."""

from wind_kedro.pipelines.feature_engineering.pipeline import create_pipeline

__all__ = ["create_pipeline"]
