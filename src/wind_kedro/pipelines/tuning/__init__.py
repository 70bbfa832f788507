"""Tuning: search for the best settings of candidates, on data before the backtest."""

from wind_kedro.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
