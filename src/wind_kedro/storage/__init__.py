"""Writing of results: lease of an environment, temporary names, and bounds for untrusted input."""
