"""Every table of the project: what one row is, its columns, its key. One file for each stage of the pipelines.

Each class is attached to a dataset by the catalog's ``validator:`` key. A broken contract on a table of our own is a bug and
stops the run; what is wrong with data from outside is split off into `Quarantine` before it gets here.

Times are UTC with microseconds, intervals are named by their start. `docs/glossary.md` has every name once.
"""
