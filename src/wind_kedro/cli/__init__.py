"""Commands: ``wind-kedro …`` from the wheel, ``kedro wind …`` in the project, and ``kedro run`` with one-line errors."""

from __future__ import annotations

import gc

import click
from kedro.framework.cli.utils import CONTEXT_SETTINGS, ENV_HELP, validate_conf_source

from wind_kedro.cli.add_farm import add_farm
from wind_kedro.cli.audit import explain, verify
from wind_kedro.cli.decide import overrides, rollback
from wind_kedro.cli.keys import keys
from wind_kedro.cli.listen import listen
from wind_kedro.cli.maintain import backup, housekeeping, migrate, restore
from wind_kedro.cli.operate import operate
from wind_kedro.cli.plan import plan
from wind_kedro.cli.rebuild import reproduce
from wind_kedro.cli.run import run
from wind_kedro.cli.show import attributions, decisions, farms, forecast, readiness
from wind_kedro.cli.terminal import OneLineGroup

# By default Python looks for cycles in all objects of a process, of which the libraries make a million, each time some have been
# added: a sixth of the processor time of a run of a small fleet.
gc.set_threshold(50_000, 20, 100)


@click.group(name="wind", cls=OneLineGroup, context_settings=CONTEXT_SETTINGS)
@click.option("--env", "-e", help=ENV_HELP)
@click.option("--conf-source", callback=validate_conf_source, help="Folder or archive with the configuration.")
@click.pass_context
def wind(ctx: click.Context, env: str | None, conf_source: str | None) -> None:
    """Show farms, forecasts and decisions; add farms; override, roll back and verify models."""
    ctx.obj = {"env": env, "conf_source": conf_source}


for command in (
    add_farm, attributions, backup, decisions, explain, farms, forecast, housekeeping, keys, listen, migrate, operate, plan,
    readiness, reproduce, restore, rollback, verify, *overrides,
):  # fmt: skip
    wind.add_command(command)
#: The earlier name, for one release.
wind.add_command(attributions, "drivers")


@click.group(name="wind-kedro", commands=[run, wind])
def cli() -> None:
    """Commands that Kedro adds in this project."""


def wind_kedro() -> None:
    """Console script of the wheel: `wind` outside a project."""
    from kedro.framework.project import configure_project

    configure_project("wind_kedro")
    wind(prog_name="wind-kedro")
