"""When a row was measured: clocks, clock changes, duplicates."""
