"""Who may write the results of an environment, and the names of files that are still being written."""
