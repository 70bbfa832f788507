"""data_engineering: raw turbine signals and weather → observations, weather, quarantine, data quality."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
