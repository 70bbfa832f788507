"""Tuning: search for the best settings of candidates, on data before the backtest."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
