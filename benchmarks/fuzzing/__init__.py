"""Hostile inputs from a seed, run in a small real project, and judged by what their generator knows of them."""
