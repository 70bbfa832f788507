"""Rebuilding a registered model from what was kept with it, and proving that it is the same."""
