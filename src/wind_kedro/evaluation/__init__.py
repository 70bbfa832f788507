"""How good a forecast is, and whether a challenger may replace the deployed model."""
