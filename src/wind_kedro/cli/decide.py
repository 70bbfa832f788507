"""Commands of people's decisions on models: ``rollback`` and the overrides ``hold``, ``approve`` and others."""

from __future__ import annotations

import getpass
from typing import Any

import click

from wind_kedro.cli.terminal import Options, open_project, utc
from wind_kedro.errors import WindKedroError, shown
from wind_kedro.governance.overrides import KINDS, Kind
from wind_kedro.hooks import lease_of


def _with_author_and_reason(command: Any) -> Any:
    command = click.option("--reason", required=True, help="The reason of the decision.")(command)
    return click.option("--author", default=getpass.getuser, show_default="the current user", help="The author of the decision.")(
        command
    )


@click.command()
@click.option("--to", "version", help="The version to go back to; without it, the one in force before.")
@_with_author_and_reason
@click.pass_obj
def rollback(options: Options, version: str | None, author: str, reason: str) -> None:
    """Roll back to an earlier version of the fleet's models."""
    from wind_kedro.governance import champions
    from wind_kedro.models.objects import is_whole

    _, context = open_project(options)
    catalog = context.catalog
    with lease_of(context):
        promotions = catalog.load("promotions")
        version = version or champions.version_before(promotions)
        registered = catalog.load("model_versions")
        manifest = registered.manifest(version)  # refused here if it is lost
        known: dict[str, bool] = {}
        damaged = [entry for entry in manifest["members"] if not is_whole(entry["object"], registered.objects, known)]
        entry = champions.rollback(promotions, version, author=author, reason=reason, at=context.params["clock"].as_of)
        catalog.save("promotions", entry)
        catalog.save("champion", version)
    for member in damaged:
        click.echo(
            f"{member['product_id']}/{member['entity_id']}: its model in version {version} is damaged: fallbacks replace it "
            f"until it is restored or trained again",
            err=True,
        )
    click.echo(
        f"Version {version} ({len(manifest['members'])} models) forecasts from {entry['promoted_at'].iloc[0]:%Y-%m-%d %H:%M} "
        f"UTC on (promotion {entry['promotion'].iloc[0]}). Nothing was deleted: --to goes to any version again."
    )


_MODEL = click.Option(["--model"], required=True, help="The candidate.")
_BEGIN = click.Option(["--begin"], required=True, help="Start, UTC.")
_END = click.Option(["--end"], required=True, help="End, UTC, exclusive.")


def _override(kind: Kind, *more: click.Option) -> click.Command:
    """The command of a kind of override of an entity's models, with further options."""

    @click.command(kind.replace("_", "-"), help=f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}.")
    @click.option("--farm", "entity_id", required=True, help="The farm or group.")
    @click.option("--product", "product_id", default="", help="Only this product; default: all.")
    @_with_author_and_reason
    @click.pass_obj
    def command(options: Options, /, entity_id: str, product_id: str, author: str, reason: str, **given: Any) -> None:
        from wind_kedro.contracts.training import Overrides
        from wind_kedro.governance.overrides import record_override

        fleet, context = open_project(options)
        fleet.farms_of(entity_id)
        if product_id:
            fleet.product(product_id)
        candidates = context.params["training"].candidates
        if "model" in given and given["model"] not in candidates:
            raise WindKedroError(f"no candidate '{shown(given['model'])}'; there are {', '.join(candidates)}")
        given |= {name: utc(given[name], f"--{name}") for name in ("begin", "end") if name in given}
        log = context.catalog["overrides"].writable()
        with lease_of(context):
            entry = record_override(
                log.load(), kind, entity_id, author=author, reason=reason, effective_at=context.params["clock"].as_of,
                product_id=product_id, **given,
            )  # fmt: skip
            log.save(Overrides.validate(entry))
        click.echo(f"Recorded as override {entry['override'].iloc[0]}; it applies from the next training on.")

    command.params += more
    return command


overrides = (
    _override("hold"), _override("approve", _MODEL), _override("override", _MODEL), _override("learn_from", _BEGIN),
    _override("leave_out", _BEGIN, _END), _override("release"),
)  # fmt: skip
