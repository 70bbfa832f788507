"""What was issued, scored against what came; and what somebody should know."""

from wind_kedro.pipelines.monitoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
