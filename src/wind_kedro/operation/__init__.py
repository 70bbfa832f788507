"""Operation: when each cycle of an environment is due, the process that runs it, and the records of both."""
