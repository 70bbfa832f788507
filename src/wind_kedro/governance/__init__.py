"""Decisions on models, and evidence of them that is signed with a key."""
