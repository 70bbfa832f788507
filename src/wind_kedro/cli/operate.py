"""Command ``operate``: the service that runs each cycle of an environment when it is due."""

from __future__ import annotations

import datetime as dt
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wind_kedro.cli.exit_code import RunFaultsError
from wind_kedro.cli.terminal import Options, configuration_of, stand_in_project, utc
from wind_kedro.errors import WindKedroError, find_cause, settings_of
from wind_kedro.failures import reason
from wind_kedro.hooks import data_folder, raw_place, read_cards
from wind_kedro.storage.lease import HeldLeaseError, Lease, LeaseSettings

if TYPE_CHECKING:
    from wind_kedro.operation.schedule import Due
    from wind_kedro.operation.service import Commands, Service
    from wind_kedro.operation.settings import CycleSettings
    from wind_kedro.operation.worker import Result, Words

#: How long a cycle waits for another process that writes, such as a command of a person, seconds.
_LEASE_SECONDS = 600
#: Messages of an attempt are cut to so many characters: the tables of failures have all of them.
_LONGEST = 500


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Of health, readiness and metrics; 0: any that is free.")
@click.option("--once", is_flag=True, help="Run what is due now and end, for cron or a timer of systemd; no port is opened.")
@click.option("--until", help="End at this time, UTC.")
@click.pass_obj
def operate(options: Options, port: int | None, once: bool, until: str | None) -> None:
    """Run each cycle of the environment when it is due, until stopped by SIGTERM or SIGINT.

    The cycle that runs may end, for up to operation.drain_seconds; at a second signal it is stopped at once.
    """
    from wind_kedro.operation.web import Web

    end = None if until is None else utc(until, "--until").to_pydatetime()
    stand_in_project()
    # Without a session: this process needs no MLflow, as cycles run in another one.
    loader = configuration_of(options)
    project = Path.cwd()
    expires_seconds = LeaseSettings.of(loader["parameters"]).expires_seconds
    try:
        with Lease(data_folder(loader, project), "operation", 0, expires_seconds):
            service = _service(options, loader, project)
            before = {number: signal.signal(number, lambda *_: _stop(service)) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                if once:
                    _check_once(service.run_once(), service)
                    return
                with Web(service, service.settings.port if port is None else port) as web:
                    click.echo(f"{web.address}: /health /ready /metrics")
                    service.run(end)
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
    except HeldLeaseError as error:
        raise WindKedroError(f"kedro wind operate: one process operates an environment: {error}") from None


def _service(options: Options, loader: Any, project: Path) -> Service:
    from wind_kedro.operation.facts import read_facts
    from wind_kedro.operation.records import CycleRecords
    from wind_kedro.operation.service import Service
    from wind_kedro.operation.settings import Operation
    from wind_kedro.operation.watch import Watch
    from wind_kedro.operation.worker import Worker

    fleet, parameters = read_cards(loader), loader["parameters"]
    settings = settings_of(Operation, parameters.get("operation", {}), "parameters_operation.yml: operation")
    _check_pipelines(settings.cycles)
    if not parameters.get("feeds"):
        fetched = {kind: cycle for kind, cycle in settings.cycles.items() if cycle.pipelines != ["ingestion"]}
        settings = settings.model_copy(update={"cycles": fetched})
    tables = _tables(loader)
    products = [product.id for product in fleet.products]
    waits = [60 * each.new_data_minutes for each in settings.cycles.values() if each.new_data_minutes is not None]
    return Service(
        settings,
        fleet,
        CycleRecords(tables["cycles"], dt.datetime.now(dt.UTC)),
        Worker(run_commands, settings.cycles_per_process),
        _commands(options),
        Watch(raw_place(loader, project), fleet, max([settings.poll_seconds, *waits])),
        lambda now: read_facts(tables, products, now),
    )


def _tables(loader: Any) -> dict[str, Any]:
    """The tables that the service keeps or reads, as the catalog has them."""
    from kedro.io import DataCatalog

    names = ("cycles", "forecasts", "failures", "incidents")
    # Their contracts are checked where they are written.
    entries = {name: {key: value for key, value in loader["catalog"][name].items() if key != "validator"} for name in names}
    catalog = DataCatalog.from_config(entries)
    return {name: catalog[name] for name in names}


def _check_pipelines(cycles: dict[str, CycleSettings]) -> None:
    from kedro.framework.project import pipelines

    pipelines.set_requested(None)
    for kind, cycle in cycles.items():
        if unknown := sorted(set(cycle.pipelines) - set(pipelines)):
            raise WindKedroError(
                f"parameters_operation.yml: operation.cycles.{kind}.pipelines: no pipeline is called {', '.join(unknown)}; "
                f"there are {', '.join(sorted(pipelines))}"
            )


def _stop(service: Service) -> None:
    if service.stopping.is_set():
        service.at_once.set()
    service.stopping.set()


def _check_once(finished: bool, service: Service) -> None:
    if not finished:
        failed = [last for kind in service.settings.cycles if (last := service.records.last_ended(kind))]
        lines = [f"{last.kind}: {last.outcome}: {last.message}" for last in failed if last.outcome in {"failed", "interrupted"}]
        raise WindKedroError("\n".join(lines) or "a cycle did not finish; the table cycles has the reason")


def _commands(options: Options) -> Commands:
    """What makes the words of the commands that run a cycle in the environment of the service."""
    given = (("--env", options["env"]), ("--conf-source", options["conf_source"]))
    chosen = [word for name, value in given if value for word in (name, value)]

    def commands(cycle: CycleSettings, due: Due, as_of: dt.datetime, groups: list[list[str]]) -> list[Words]:
        if cycle.command:
            return [["wind", *chosen, cycle.command]]
        # What was noticed has landed: to fetch again would bring new data, and with it the next cycle, without end.
        pipelines = [name for name in cycle.pipelines if due.cause != "data" or name != "ingestion"]
        made_at = dt.datetime.now(dt.UTC).replace(microsecond=0)
        parameters = {
            "as_of": as_of.isoformat(),
            "lease.wait_seconds": str(_LEASE_SECONDS),
            "forecasting.made_at": made_at.isoformat(),
        }

        def run(names: list[str], **more: str) -> Words:
            given = parameters | {name.replace("_", ".", 1): value for name, value in more.items()}
            return ["run", *chosen, "--pipelines", ",".join(names), "--params", ",".join(map("=".join, given.items()))]

        if due.products:
            return [run(pipelines, forecasting_at_deadline=" ".join(due.products))]
        # Products of the nearest gate first: those of later ones do not delay them. The last run is of all that are left.
        earlier = [" ".join(group) for group in groups[:-1]]
        if not earlier or "forecasting" not in pipelines:
            return [run(pipelines)]
        place = pipelines.index("forecasting")
        return [
            run(pipelines[: place + 1], forecasting_products=earlier[0]),
            *(run(["forecasting"], forecasting_products=group) for group in earlier[1:]),
            run(pipelines[place:]),
        ]

    return commands


def run_commands(commands: list[Words]) -> Result:
    """Run commands of the project in this process.

    Args:
        commands: words of each, as typed after ``kedro``.

    Returns:
        The outcome of the first that failed, or else of the last that had failures, or else ``succeeded``; and the reason in one
        line. What follows a command that failed is not run.
    """
    from kedro.framework.project import PACKAGE_NAME, configure_project

    from wind_kedro.cli import cli

    if PACKAGE_NAME is None:
        configure_project("wind_kedro")
    outcome: Result = "succeeded", ""
    for words in commands:
        try:
            cli.main(words, standalone_mode=False)
        except Exception as error:  # whatever a cycle raises is its outcome
            message = error.format_message() if isinstance(error, click.ClickException) else reason(error)
            if not isinstance(error, click.ClickException):
                sys.excepthook(type(error), error, error.__traceback__)
            shown = "; ".join(message.splitlines())[:_LONGEST]
            if not isinstance(find_cause(error), RunFaultsError):
                return "failed", shown
            # Its results are written: what follows can run.
            outcome = "with_failures", shown
    return outcome
