"""Tuning: which settings of a candidate are the best, on months that are not judged?"""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
