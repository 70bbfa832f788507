"""What the data is worth: quality, and readiness for modelling."""
