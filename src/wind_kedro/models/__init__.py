"""Forecasting models: one family a file, one registry (`registry`), one protocol (`base`)."""
