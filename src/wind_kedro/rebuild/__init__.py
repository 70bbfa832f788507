"""Refit registered models from their training kits and verify that they are identical."""
