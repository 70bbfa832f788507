"""Ingestion: what is new outside lands in the raw folder."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
