"""The pipelines. Each has its own schedule; none imports another."""
