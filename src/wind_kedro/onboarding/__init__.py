"""Propose a farm's card from its export, with the evidence for each field."""

from .findings import Finding, Findings, OnboardingError
from .proposal import propose

__all__ = ["Finding", "Findings", "OnboardingError", "propose"]
