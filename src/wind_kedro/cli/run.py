"""Command ``kedro run``, with errors in one line and an exit code from the results."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from yaml import YAMLError

from wind_kedro.cli.exit_code import check_run
from wind_kedro.cli.terminal import OneLine, one_line, stand_in_project, suppress_duplicate_log
from wind_kedro.errors import WindKedroError
from wind_kedro.hooks import last_run


def _run(**options: Any) -> Any:
    stand_in_project()
    # Accept `--pipeline` without the deprecation warning of Kedro 1.7, which prefers `--pipelines`.
    if options.get("pipeline") and not options.get("pipelines"):
        options["pipelines"], options["pipeline"] = [options["pipeline"]], None
    assert kedro_run.callback is not None  # noqa: S101 - a Click command has one
    with suppress_duplicate_log(), one_line():
        if options.get("runner"):
            _check_runner(options["runner"])
        result = kedro_run.callback(**options)
        if (run := last_run()) is not None:
            check_run(run)
        return result


def _check_runner(name: str) -> None:
    """Raise for a runner that cannot be imported, before Kedro tries."""
    import kedro.runner
    from kedro.utils import load_obj

    try:
        load_obj(name, "kedro.runner")
    except (AttributeError, ImportError, ValueError):
        known = ", ".join(known for known in dir(kedro.runner) if known.endswith("Runner") and known[0] != "A")
        raise WindKedroError(f"--runner {name}: no such class; Kedro has {known}") from None


class _RunCommand(click.Command):
    """Kedro's command, whose options are read into values before it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = " ".join(args)
        with one_line():
            try:
                return super().parse_args(ctx, args)
            except (KedroCliError, YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise OneLine(
                    f"kedro run {typed[:200]}: cannot be read ({' '.join(str(error).split())[:200]}): close quotes and brackets, "
                    f"and write --params NAME=VALUE, or --config with a YAML file of options"
                ) from None


run = _RunCommand(name="run", callback=_run, params=kedro_run.params, help=kedro_run.help)
