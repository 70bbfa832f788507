"""Command ``add-farm``: from an export to a farm's card and the assessment of its data."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wind_kedro.cli.terminal import Options, configuration_of, open_project, print_table, stand_in_project, suppress_duplicate_log
from wind_kedro.errors import WindKedroError
from wind_kedro.hooks import data_folder, raw_folder, read_cards
from wind_kedro.storage.lease import Lease, LeaseSettings
from wind_kedro.storage.temporary import Scratch

if TYPE_CHECKING:
    from wind_kedro.onboarding import Findings

#: Columns that are not used are named up to so many.
_UNUSED_SHOWN = 12


@click.command("add-farm")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--id", "farm_id", help="The farm's identifier: lower case letters, digits, underscores.")
@click.option("--name", help="The farm's display name.")
@click.option("--latitude", type=float, help="Degrees north.")
@click.option("--longitude", type=float, help="Degrees east.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the card, such as hub_height_m=80.")
@click.option("--yes", is_flag=True, help="Do not ask; fields that the export does not prove must be set.")
@click.option("--dry-run", is_flag=True, help="Show the findings only; write nothing.")
@click.pass_obj
def add_farm(
    options: Options, files: tuple[Path, ...], farm_id: str | None, name: str | None, latitude: float | None,
    longitude: float | None, settings: tuple[str, ...], yes: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Propose a farm's card from its export, write it after confirmation, and assess the data.

    What the export proves is shown with its evidence; what it does not prove is asked.
    """
    import yaml

    from wind_kedro.onboarding import propose
    from wind_kedro.onboarding.card import answer, card_of, path_of
    from wind_kedro.onboarding.sample import files_of_export

    given: dict[str, Any] = {"id": farm_id, "name": name or farm_id, "latitude_deg": latitude, "longitude_deg": longitude}
    given = {field: value for field, value in given.items() if value is not None}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise WindKedroError(f"--set {setting}: write FIELD=VALUE")
        given[field.strip()] = answer(field.strip(), value)
    # Absolute, as the working directory changes before they are read again.
    every = files_of_export([path.absolute() for path in files])
    found = propose(every, given)
    _print_findings(found)
    if dry_run:
        return
    # Before the questions: an id that exists is refused first. A new environment has the farms of base.
    stand_in_project()
    source, environment = Path(options["conf_source"] or "conf"), options["env"] or os.getenv("KEDRO_ENV") or "base"
    there = options if (source / environment).is_dir() else {**options, "env": "base"}
    taken = {farm.id for farm in read_cards(configuration_of(there)).farms}
    _check_id(given.get("id"), taken)
    missing = [finding.field for finding in found.open]
    if yes and missing:
        raise WindKedroError(f"the export does not prove {', '.join(missing)}: give each with --set FIELD=VALUE")
    if missing:
        click.echo("\nWhat the export does not prove. Enter takes what is in brackets; null is for none.")
    while found.open:
        found = _ask(found, every, given, taken)
    card = card_of(found, path_of(every, str(found.value("id"))))
    click.echo("\n" + yaml.safe_dump([card], sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))
    if not yes and not click.confirm("Write this card?", default=True):
        click.echo("Nothing was written.")
        return
    _write(options, source, environment, card, every, str(found.value("newest_stamp")))


def _check_id(farm_id: str | None, taken: Collection[str]) -> None:
    if farm_id in taken:
        raise WindKedroError(f"farm '{farm_id}' already exists; choose another --id, or remove its card")


def _print_findings(found: Findings) -> None:
    print_table(
        ["field", "value", "", "evidence"],
        [[finding.field, _shown(finding.value), "proven" if finding.proven else "asked", finding.evidence] for finding in found],
    )
    if found.unused:
        more = len(found.unused) - _UNUSED_SHOWN
        click.echo(
            f"Not used: {', '.join(found.unused[:_UNUSED_SHOWN])}{f' and {more} more' if more > 0 else ''}. "
            "If one is a signal, name it: --set signals.columns.SIGNAL.name=COLUMN"
        )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ask(found: Findings, files: list[Path], given: dict[str, Any], taken: Collection[str]) -> Findings:
    """Ask for the first open field; if the answer differs from the guess, propose again, as other fields may depend on it."""
    from wind_kedro.onboarding import propose
    from wind_kedro.onboarding.card import answer, choices

    finding = found.open[0]
    guess = None if finding.value is None else _shown(finding.value)
    options = " | ".join(choices(finding.field))
    click.echo(f"{finding.evidence}{': ' if options else ''}{options}")
    while True:
        text = str(click.prompt(finding.field, default=guess))
        try:
            value = finding.value if text == guess else answer(finding.field, text)
            if finding.field == "id":
                _check_id(value, taken)
            known = {**given, finding.field: value}
            if finding.field.startswith("rated_power_kw") or (finding.field.startswith("signals.") and value != finding.value):
                found = propose(files, known)
            else:
                found.confirm(finding.field, value)
        except WindKedroError as error:
            click.secho(f"Error: {error}", fg="red", err=True)
            continue
        given.update(known)
        return found


def _write(options: Options, source: Path, environment: str, card: dict[str, Any], files: list[Path], newest: str) -> None:
    """Write the card, copy the files, and assess the new farm's data in a copy of the configuration."""
    from wind_kedro.onboarding.card import ENVIRONMENT, append_card, bring_files, write_isolated_configuration

    farm_id = card["id"]
    if not source.is_dir():
        raise WindKedroError(f"{source}: an archive cannot be written to; unpack it, or add the card above by hand")
    (source / environment).mkdir(exist_ok=True)  # the farm may be the first of its environment
    data = data_folder(configuration_of(options), Path())
    raw = raw_folder(configuration_of(options), Path())
    # A lease of its own: a new card and new files concern no run that is at work, but another add-farm.
    with Lease(data, "cards", LeaseSettings().wait_seconds):
        # Once more: questions take their time.
        fleet = read_cards(configuration_of(options))
        _check_id(farm_id, {farm.id for farm in fleet.farms})
        bring_files(files, raw / farm_id)
        append_card(source / environment / "farms.yml", card, source / "base" / "farms.yml")
    click.echo(f"Written to {source / environment / 'farms.yml'}; the files are in {raw / farm_id}.")
    with Scratch("newcomer") as aside:
        products = [product.model_dump(mode="json") for product in fleet.products]
        copied = write_isolated_configuration(source, environment, card, products, raw, Path(aside))
        _assess({"env": ENVIRONMENT, "conf_source": str(copied)}, farm_id, newest)
    click.echo(f"The fleet's results are as they were; its next run has '{farm_id}'.")
    click.echo("Next: its weather in farms.yml, and its name in a product of products.yml (docs/how-to/add-a-farm.md).")


def _assess(options: Options, farm_id: str, newest: str) -> None:
    """Run data_engineering as of the farm's newest row, and print the assessment of its data."""
    from kedro.framework.session import KedroSession

    from wind_kedro.pipelines.data_engineering.parse.time_span import OutsideDataError

    # A day on, its last rows have arrived whatever its clock is.
    as_of = {"as_of": (datetime.fromisoformat(newest) + timedelta(days=1)).isoformat()}
    with suppress_duplicate_log():
        with KedroSession.create(env=options["env"], conf_source=options["conf_source"], runtime_params=as_of) as session:
            runner: Any = session  # typed as its abstract base, whose run takes nothing
            try:
                runner.run(pipeline_names=["data_engineering"])
            except OutsideDataError as error:  # an export of a few days
                click.echo(f"Its data cannot be assessed yet: {error}")
                return
        _, context = open_project(options)
    table = context.catalog.load("data_quality")
    own = table[(table["farm_id"] == farm_id) & ~((table["count"] == 0) & (table["severity"] == "info"))]
    print_table(["table", "check", "signal", "finding"], own[["source_table", "check", "signal", "message"]].to_numpy().tolist())
    ready = context.catalog.load("readiness").frame()
    for row in ready[ready["farm_id"] == farm_id].tail(1).to_dict("records"):
        click.echo(f"Ready for: {row['tier']} ({row['reason']})")
