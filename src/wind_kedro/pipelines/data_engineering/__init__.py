"""data_engineering: raw turbine signals and weather → observations, weather, quarantine, data quality."""

from wind_kedro.pipelines.data_engineering.pipeline import create_assessment, create_cleaning, create_pipeline

__all__ = ["create_assessment", "create_cleaning", "create_pipeline"]
