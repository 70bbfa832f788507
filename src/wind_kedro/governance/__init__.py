"""Who decided what, and evidence of it that nobody without the key can make."""
