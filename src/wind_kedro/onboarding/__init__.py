"""A newcomer's export, read without being told how: what its card should say, and why."""
