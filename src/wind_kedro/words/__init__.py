"""The words of the command line that are more than a look at a table, a file a subject."""
