"""Text of raw files becomes numbers and times."""
