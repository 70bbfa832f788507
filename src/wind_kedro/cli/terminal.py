"""What every command shares: how it opens the project, says what is wrong in one line, and prints a table."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.utils import find_kedro_project

from wind_kedro.errors import find_cause, format_validation_fault, shown
from wind_kedro.hooks import read_cards

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from wind_kedro.cards import Fleet


class OneLine(click.ClickException):
    """An error that a person can mend, shown as its message and nothing else."""

    def show(self, file: Any = None) -> None:
        """Print the message, one line a fault, to the terminal's error stream."""
        for line in self.message.splitlines():
            click.secho(f"Error: {line}", fg="red", err=True)


#: Faults of what was typed or of the machine, which no code can mend: rights, names that are too long, a full disk.
_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def _mendable(error: Exception) -> OneLine | None:
    """What to show of an error; none if it is a bug of ours, whose stack is wanted."""
    from kedro.config import MissingConfigException
    from kedro.io import DatasetError
    from kedro.validation.exceptions import DataValidationError, ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException
    from pydantic import ValidationError
    from yaml import YAMLError

    cause = find_cause(error)
    if cause is not None:
        return OneLine(str(cause))
    if isinstance(error, DataValidationError):  # a broken contract on a table of our own is a bug
        return None
    if isinstance(error, ParameterValidationError):
        return OneLine("\n".join(_parameter_faults(str(error))))
    line = None
    # Names that were typed: of a pipeline, and of nodes, tags or datasets in it.
    typed = isinstance(error, ValueError) and re.match(
        "Failed to find the pipeline|Pipeline (does not contain|contains no nodes)", str(error)
    )
    if isinstance(error, ValidationError) and error.title == "KedroMlflowConfig":
        line = "\n".join(f"mlflow.yml: {format_validation_fault(fault)}" for fault in error.errors())
    elif typed or isinstance(error, DatasetError | MissingConfigException | OmegaConfBaseException | YAMLError):
        line = " ".join(str(error).split())
    elif isinstance(error, getattr(sys.modules.get("sqlalchemy.exc"), "DBAPIError", ())):  # feeds name their own
        line = (
            f"the database of MLflow cannot be used ({getattr(error, 'orig', error)}): restore the file that "
            "mlflow_tracking_uri in mlflow.yml names, or move it away and train again"
        )
    elif isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        line = f"{shown(error.filename or 'the system')}: {error.strerror}"
    return None if line is None else OneLine(line)


def _parameter_faults(message: str) -> list[str]:
    """One line a fault from Kedro's message, which is Pydantic's over several lines for each parameter."""
    faults = []
    for parameter, details in re.findall(r"^- Parameter '([^']+)': (.*?)(?=^- Parameter |\Z)", message, re.M | re.S):
        found = re.findall(r"^(\S+)\n  (.+?) \[type=", details, re.M)
        where = f"parameters (conf/*/parameters_*.yml): {parameter}"
        faults += [f"{where}.{field}: {what}" for field, what in found] or [f"{where}: {' '.join(details.split())}"]
    return faults or [" ".join(message.split())]


@contextmanager
def one_line() -> Iterator[None]:
    """Turns an error that a person can mend into its line; a bug of ours keeps its stack."""
    try:
        yield
    except Exception as error:
        mendable = _mendable(error)
        if mendable is None:
            raise
        raise mendable from None


#: Kedro logs why a node failed, and how to go on from there, before it raises the same.
_LOGS_OF_FAILURE = ("kedro.pipeline.node", "kedro.runner.sequential_runner")


@contextmanager
def suppress_duplicate_log() -> Iterator[None]:
    """Keeps Kedro from logging what the error that ends the run says anyway."""
    loggers = [logging.getLogger(name) for name in _LOGS_OF_FAILURE]

    def harmless(record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING

    for logger in loggers:
        logger.addFilter(harmless)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(harmless)


def stand_in_project() -> None:
    """Go to the project's folder from any folder below it: not every path in the configuration is made absolute by Kedro."""
    project = find_kedro_project(Path.cwd())
    if project:
        os.chdir(project)


def configuration_of(options: dict[str, str | None]) -> Any:
    """The configuration alone: a session would make an MLflow database for a look at the cards."""
    from kedro.framework.project import settings

    folder = options["conf_source"] or str(Path.cwd() / settings.CONF_SOURCE)
    return settings.CONFIG_LOADER_CLASS(folder, options["env"] or os.getenv("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS)


def open_project(options: dict[str, str | None]) -> tuple[Fleet, KedroContext]:
    """The cards and the context of the environment asked for."""
    from kedro.framework.session import KedroSession

    stand_in_project()
    with one_line():
        session = KedroSession.create(env=options["env"], conf_source=options["conf_source"], save_on_close=False)
        context = session.load_context()
        return read_cards(context.config_loader), context


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A table whose columns are as wide as they need to be: the same in a terminal, a pipe and a log."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def utc(text: str, option: str) -> Any:
    """A time as typed, which is UTC unless it says otherwise."""
    import pandas as pd

    from wind_kedro.errors import WindKedroError

    time: Any = None
    with suppress(ValueError):
        time = pd.Timestamp(text)
    if pd.isna(time):
        raise WindKedroError(f"{option} {shown(text)}: is no time; write 2015-11-01T06:00")
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
