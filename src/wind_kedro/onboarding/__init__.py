"""A newcomer's export, read without being told how: what its card should say, and why."""

from .findings import Finding, Findings, OnboardingError
from .proposal import propose

__all__ = ["Finding", "Findings", "OnboardingError", "propose"]
