"""The six rooms of the house, each a pipeline with its own clock. None imports another."""
