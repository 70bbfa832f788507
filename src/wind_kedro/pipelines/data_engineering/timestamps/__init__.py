"""Time of measurement: clock calibration, clock changes, versions."""
