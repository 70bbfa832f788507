"""From the forecast of a model to the forecast that is issued: calibration and portfolios."""
