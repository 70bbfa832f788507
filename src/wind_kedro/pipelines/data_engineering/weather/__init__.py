"""Weather runs, and wind at hub height."""
