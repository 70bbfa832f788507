"""Functions shared by all commands: open the project, report errors in one line, print tables."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.utils import find_kedro_project

from wind_kedro.errors import WindKedroError, find_cause, format_validation_fault, shown
from wind_kedro.hooks import read_cards

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from wind_kedro.cards import Fleet


#: Options of the group ``wind``: ``env`` and ``conf_source``.
Options = dict[str, str | None]


class OneLine(click.ClickException):
    """An error that the user can fix, shown as its message only."""

    def show(self, file: Any = None) -> None:
        """Print the message to stderr, one line per fault."""
        for line in self.message.splitlines():
            click.secho(f"Error: {line}", fg="red", err=True)


#: Errors of the user's input or the machine: permissions, names that are too long, a full disk.
_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def _as_one_line(error: Exception) -> OneLine | None:
    """The message to show for an error; none for a bug, which is shown with its stack trace."""
    from kedro.config import MissingConfigException
    from kedro.io import DatasetError
    from kedro.validation.exceptions import DataValidationError, ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException
    from pydantic import ValidationError
    from yaml import YAMLError

    cause = find_cause(error)
    if cause is not None:
        return OneLine(str(cause))
    if isinstance(error, DataValidationError):  # a violated contract of the project's own tables is a bug
        return None
    if isinstance(error, ParameterValidationError):
        return OneLine("\n".join(_parameter_faults(str(error))))
    line = None
    # Unknown names on the command line: of a pipeline, or of nodes, tags or datasets in it.
    typed = isinstance(error, ValueError) and re.match(
        "Failed to find the pipeline|Pipeline (does not contain|contains no nodes)", str(error)
    )
    if isinstance(error, ValidationError) and error.title == "KedroMlflowConfig":
        line = "\n".join(f"mlflow.yml: {format_validation_fault(fault)}" for fault in error.errors())
    elif typed or isinstance(error, DatasetError | MissingConfigException | OmegaConfBaseException | YAMLError):
        # Delta's errors of an object store have colours and an arrow for each cause.
        line = " ".join(re.sub(r"\x1b\[[0-9;]*m|↳", "", str(error)).split())
    elif isinstance(error, getattr(sys.modules.get("sqlalchemy.exc"), "DBAPIError", ())):  # feeds name their own
        line = (
            f"the database of MLflow cannot be used ({getattr(error, 'orig', error)}): restore the file that "
            "mlflow_tracking_uri in mlflow.yml names, or move it away and train again"
        )
    elif isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        line = f"{shown(error.filename or 'the system')}: {error.strerror}"
    return None if line is None else OneLine(line)


def _parameter_faults(message: str) -> list[str]:
    """One line per fault of Kedro's message, which has pydantic's multi-line message of each parameter."""
    faults = []
    for parameter, details in re.findall(r"^- Parameter '([^']+)': (.*?)(?=^- Parameter |\Z)", message, re.M | re.S):
        found = re.findall(r"^(\S+)\n  (.+?) \[type=", details, re.M)
        where = f"parameters (conf/*/parameters_*.yml): {parameter}"
        faults += [f"{where}.{field}: {what}" for field, what in found] or [f"{where}: {' '.join(details.split())}"]
    return faults or [" ".join(message.split())]


@contextmanager
def one_line() -> Iterator[None]:
    """Convert errors that the user can fix to `OneLine`; bugs keep their stack trace."""
    try:
        yield
    except Exception as error:
        shown_error = _as_one_line(error)
        if shown_error is None:
            raise
        raise shown_error from None


class OneLineGroup(click.Group):
    """A group whose commands show errors that the user can fix in one line each."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with one_line():
            return super().invoke(ctx)


#: Kedro's loggers of a failed node, which repeat the error that is raised.
_LOGS_OF_FAILURE = ("kedro.pipeline.node", "kedro.runner.sequential_runner")


@contextmanager
def suppress_duplicate_log() -> Iterator[None]:
    """Suppress Kedro's log of the error that ends the run, which is shown anyway."""
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
    """Change to the project's folder from a folder below it, as Kedro does not make every configured path absolute."""
    project = find_kedro_project(Path.cwd())
    if project:
        os.chdir(project)


def configuration_of(options: Options) -> Any:
    """Load the configuration without a session, which would create an MLflow database."""
    from kedro.framework.project import settings

    folder = options["conf_source"] or str(Path.cwd() / settings.CONF_SOURCE)
    return settings.CONFIG_LOADER_CLASS(folder, options["env"] or os.getenv("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS)


def open_project(options: Options, as_of: str | None = None) -> tuple[Fleet, KedroContext]:
    """Cards and context of the selected environment; ``as_of`` replaces that of the configuration."""
    from kedro.framework.session import KedroSession

    stand_in_project()
    session = KedroSession.create(
        env=options["env"],
        conf_source=options["conf_source"],
        save_on_close=False,
        runtime_params={"as_of": as_of} if as_of else None,
    )
    context = session.load_context()
    return read_cards(context.config_loader), context


def print_table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table with columns of minimal width, the same in a terminal, a pipe and a log."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in [cells[0], ["-" * width for width in widths], *cells[1:]]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def utc(text: str, option: str) -> Any:
    """Parse a time, which is UTC unless it has an offset."""
    import pandas as pd

    time: Any = None
    with suppress(ValueError):
        time = pd.Timestamp(text)
    if pd.isna(time):
        raise WindKedroError(f"{option} {shown(text)}: is not a time; write 2015-11-01T06:00")
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
