"""Commands: ``wind-kedro …`` from the wheel, ``kedro wind …`` in the project, and ``kedro run`` with one-line errors."""

from __future__ import annotations

import getpass
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS, ENV_HELP, KedroCliError, validate_conf_source
from yaml import YAMLError

from wind_kedro.cards.tiers import TIERS
from wind_kedro.cli.audit import explain, verify
from wind_kedro.cli.exit_code import check_run
from wind_kedro.cli.keys import keys
from wind_kedro.cli.rebuild import reproduce
from wind_kedro.cli.terminal import OneLine
from wind_kedro.cli.terminal import configuration_of as _configuration
from wind_kedro.cli.terminal import one_line as _one_line
from wind_kedro.cli.terminal import open_project as _open
from wind_kedro.cli.terminal import print_table as _print_table
from wind_kedro.cli.terminal import stand_in_project as _stand_in_project
from wind_kedro.cli.terminal import suppress_duplicate_log as _suppress_duplicate_log
from wind_kedro.cli.terminal import utc as _utc
from wind_kedro.governance.overrides import KINDS, Kind
from wind_kedro.hooks import data_folder, last_run, lease_of, read_cards
from wind_kedro.storage.lease import Lease, LeaseSettings
from wind_kedro.storage.temporary import Scratch

if TYPE_CHECKING:
    from collections.abc import Collection

    from wind_kedro.cards import Fleet
    from wind_kedro.onboarding import Findings


def _run(**options: Any) -> Any:
    _stand_in_project()
    # Accept `--pipeline` without the deprecation warning of Kedro 1.7, which prefers `--pipelines`.
    if options.get("pipeline") and not options.get("pipelines"):
        options["pipelines"], options["pipeline"] = [options["pipeline"]], None
    assert kedro_run.callback is not None  # noqa: S101 - a Click command has one
    with _suppress_duplicate_log(), _one_line():
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

    from wind_kedro.errors import WindKedroError

    try:
        load_obj(name, "kedro.runner")
    except (AttributeError, ImportError, ValueError):
        known = ", ".join(known for known in dir(kedro.runner) if known.endswith("Runner") and known[0] != "A")
        raise WindKedroError(f"--runner {name}: no such class; Kedro has {known}") from None


class _RunCommand(click.Command):
    """Kedro's command, whose options are read into values before it is called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = " ".join(args)
        with _one_line():
            try:
                return super().parse_args(ctx, args)
            except (KedroCliError, YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise OneLine(
                    f"kedro run {typed[:200]}: cannot be read ({' '.join(str(error).split())[:200]}): close quotes and brackets, "
                    f"and write --params NAME=VALUE, or --config with a YAML file of options"
                ) from None


run = _RunCommand(name="run", callback=_run, params=kedro_run.params, help=kedro_run.help)


@click.group(name="wind", context_settings=CONTEXT_SETTINGS)
@click.option("--env", "-e", help=ENV_HELP)
@click.option("--conf-source", callback=validate_conf_source, help="Folder or archive with the configuration.")
@click.pass_context
def wind(ctx: click.Context, env: str | None, conf_source: str | None) -> None:
    """Show farms and forecasts, and decide on models."""
    ctx.obj = {"env": env, "conf_source": conf_source}


@wind.command()
@click.pass_obj
def farms(options: dict[str, str | None]) -> None:
    """List the farms and validate all cards."""
    _stand_in_project()
    environment = options["env"] or os.getenv("KEDRO_ENV")
    with _one_line():
        fleet = read_cards(_configuration(options))
    _print_table(
        ["farm", "name", "capacity", "turbines", "time zone", "weather", "products"],
        [
            [
                farm.id,
                farm.name,
                f"{farm.capacity_kw:,.0f} kW",
                str(len(farm.turbines)),
                farm.time_zone,
                ", ".join(f"{source.model} ({source.kind})" for source in farm.weather),
                ", ".join(product.id for product in fleet.products if _sells(fleet, product.members, farm.id)),
            ]
            for farm in fleet.farms
        ],
    )
    click.echo(
        f"All cards are right: {len(fleet.farms)} farms, {len(fleet.groups)} groups, {len(fleet.markets)} markets, "
        f"{len(fleet.products)} products (environment '{environment or 'base'}')."
    )


def _must_be_on_cards(fleet: Fleet, entity_id: str | None, product_id: str | None) -> None:
    """Raise for a farm, group or product that no card has; none is accepted."""
    if entity_id:
        fleet.farms_of(entity_id)
    if product_id:
        fleet.product(product_id)


def _sells(fleet: Fleet, members: list[str], farm_id: str) -> bool:
    return any(farm.id == farm_id for member in members for farm in fleet.farms_of(member))


@wind.command()
@click.option("--product", help="Only this product.")
@click.option("--entity", help="Only this farm or group.")
@click.pass_obj
def forecast(options: dict[str, str | None], product: str | None, entity: str | None) -> None:
    """Print the newest forecast of every product and entity."""
    from wind_kedro.cards.columns import quantile_column
    from wind_kedro.errors import WindKedroError

    fleet, context = _open(options)
    with _one_line():
        _must_be_on_cards(fleet, entity, product)
        table = context.catalog.load("forecasts")
        table = table[table["product_id"].isin([product or card.id for card in fleet.products])]
        table = table[table["entity_id"].isin([entity or name for card in fleet.products for name in card.members])]
        if table.empty:
            raise WindKedroError("no forecast was issued yet: kedro run --pipeline forecasting")
    for (product_id, entity_id), rows in table.groupby(["product_id", "entity_id"]):
        newest = rows[rows["issued_at"] == rows["issued_at"].max()].sort_values("valid_at")
        levels = fleet.product(product_id).quantile_levels
        low, middle, high = levels[0], 0.5, levels[-1]
        click.secho(
            f"\n{fleet.product(product_id).name} · {fleet.name_of(entity_id)} · "
            f"issued {newest['issued_at'].iloc[0]:%Y-%m-%d %H:%M} UTC "
            f"by {newest['model'].iloc[0]} version {newest['model_version'].iloc[0]} · {newest['weather'].iloc[0]}",
            bold=True,
        )
        _print_table(
            ["valid at (UTC)", "lead", f"{100 * low:g}% quantile", "median", f"{100 * high:g}% quantile"],
            [
                [f"{row['valid_at']:%Y-%m-%d %H:%M}", f"{row['lead_minutes'] / 60:g} h"]
                + [f"{row[quantile_column(level)]:,.0f} kW" for level in (low, middle, high)]
                for _, row in newest.iterrows()
            ],
        )


@wind.command()
@click.option("--entity", required=True, help="The farm or group.")
@click.option("--product", help="Only this product.")
@click.option("--issued-at", help="The issue time, UTC (2015-11-01T06:00); without it, the newest.")
@click.pass_obj
def attributions(options: dict[str, str | None], entity: str, product: str | None, issued_at: str | None) -> None:
    """Print the attributions of a forecast per interval, in kW of its median."""
    from wind_kedro.cards.columns import BASE
    from wind_kedro.errors import WindKedroError

    fleet, context = _open(options)
    with _one_line():
        _must_be_on_cards(fleet, entity, product)
        table = context.catalog.load("attributions")
        table = table[table["product_id"].isin([product or card.id for card in fleet.products])]
        table = table[table["entity_id"] == entity]
        if issued_at:
            table = table[table["issued_at"] == _utc(issued_at, "--issued-at")]
        if table.empty:
            when = f" issued at {issued_at}" if issued_at else ""
            raise WindKedroError(
                f"no attributions of a forecast of '{entity}'{when}: issue it with kedro run --pipeline forecasting "
                f"and a model family that has them"
            )
    for product_id, rows in table.groupby("product_id"):
        newest = rows[rows["issued_at"] == rows["issued_at"].max()]
        first = newest.iloc[0]
        click.secho(
            f"\n{fleet.product(str(product_id)).name} · {fleet.name_of(entity)} · issued {first['issued_at']:%Y-%m-%d %H:%M} UTC "
            f"by {first['model']} version {first['model_version']}",
            bold=True,
        )
        moved = newest.pivot(index="valid_at", columns="feature_group", values="contribution_kw")
        order = [BASE, *moved.drop(columns=BASE).abs().sum().sort_values(ascending=False, kind="stable").index]
        # The input with the largest attribution per interval.
        felt = newest[newest["feature"] != ""].set_index("valid_at")
        most = felt.iloc[felt["contribution_kw"].abs().argsort(kind="stable")].groupby(level=0).last()
        _print_table(
            ["valid at (UTC)", "median", *order, "most of all"],
            [
                [f"{at:%Y-%m-%d %H:%M}", f"{row.sum():,.0f} kW"]
                + [f"{row[name]:,.0f}" if name == BASE else f"{row[name]:+,.0f}" for name in order]
                + [f"{most.loc[at, 'feature']} {most.loc[at, 'feature_value']:.3g}" if at in most.index else ""]
                for at, row in moved.iterrows()
            ],
        )


@wind.command()
@click.option("--tier", type=click.Choice(TIERS), help="Only farms of this tier.")
@click.pass_obj
def readiness(options: dict[str, str | None], tier: str | None) -> None:
    """Print the readiness tier of each farm with the reason."""
    from wind_kedro.cards.tiers import assessed_by
    from wind_kedro.errors import WindKedroError

    fleet, context = _open(options)
    with _one_line():
        if not context.catalog.exists("readiness"):
            raise WindKedroError("no farm was assessed yet: kedro run --pipeline data_engineering")
        table = context.catalog.load("readiness")
    # The table is as of the last run.
    table = assessed_by(table, table["assessed_at"].max()).set_index("farm_id")
    known = table.reindex([farm.id for farm in fleet.farms if farm.id in table.index])
    shown = known[known["tier"] == tier] if tier else known
    _print_table(
        ["farm", "tier", "days", "coverage", "weather fit", "why"],
        [
            [
                row["farm_id"],
                row["tier"],
                f"{row['learnable_days']:.0f}",
                "-" if math.isnan(row["coverage_share"]) else f"{row['coverage_share']:.0%}",
                "-" if math.isnan(row["best_correlation"]) else f"{row['best_correlation']:.2f}",
                row["reason"],
            ]
            for row in shown.reset_index().to_dict("records")
        ],
    )
    counts = ", ".join(f"{(known['tier'] == name).sum()} {name}" for name in TIERS if (known["tier"] == name).any())
    click.echo(f"As of {known['assessed_at'].max():%Y-%m-%d %H:%M} UTC: {counts or 'no farm of these cards'}.")


_AUTHOR_AND_REASON = (
    click.option("--author", default=getpass.getuser, show_default="the current user", help="The author of the decision."),
    click.option("--reason", required=True, help="The reason of the decision."),
)


def _with_author_and_reason(command: Any) -> Any:
    """Add the options of author and reason."""
    for option in reversed(_AUTHOR_AND_REASON):
        command = option(command)
    return command


@wind.command()
@click.option("--to", "version", help="The version to go back to; without it, the one in force before.")
@_with_author_and_reason
@click.pass_obj
def rollback(options: dict[str, str | None], version: str | None, author: str, reason: str) -> None:
    """Roll back to an earlier version of the fleet's models."""
    from wind_kedro.governance.champions import rollback as promotion_back_to
    from wind_kedro.governance.champions import version_before
    from wind_kedro.models.objects import is_whole

    _, context = _open(options)
    with _one_line(), lease_of(context):
        catalog = context.catalog
        promotions = catalog.load("promotions")
        version = version or version_before(promotions)
        registered = catalog.load("model_versions")
        manifest = registered.manifest(version)  # refused here if it is lost
        damaged = [entry for entry in manifest["members"] if not is_whole(entry["object"], registered.objects)]
        entry = promotion_back_to(promotions, version, author=author, reason=reason, at=context.params["clock"].as_of)
        catalog.save("promotions", entry)
        catalog.save("champion", version)
    for member in damaged:
        click.echo(
            f"{member['product_id']}/{member['entity_id']}: its model in version {version} is damaged: fallbacks stand in until "
            f"it is restored or trained again",
            err=True,
        )
    click.echo(
        f"Version {version} ({len(manifest['members'])} models) forecasts from {entry['promoted_at'].iloc[0]:%Y-%m-%d %H:%M} "
        f"UTC on (promotion {entry['promotion'].iloc[0]}). Nothing was taken away: --to goes anywhere again."
    )


def _override(name: str, kind: Kind, *, about: str) -> None:
    """Create the command of an override of an entity's models."""

    @wind.command(name, help=f"{KINDS[kind][0].upper()}{KINDS[kind][1:]}.")
    @click.option("--farm", "entity_id", required=True, help="The farm or group.")
    @click.option("--product", "product_id", default="", help="Only this product; default: all.")
    @_with_author_and_reason
    @click.pass_obj
    def command(
        options: dict[str, str | None],
        /,
        entity_id: str,
        product_id: str,
        author: str,
        reason: str,
        **given: Any,
    ) -> None:
        from wind_kedro.contracts.training import Overrides
        from wind_kedro.errors import WindKedroError, shown
        from wind_kedro.governance.overrides import record_override

        fleet, context = _open(options)
        with _one_line():
            _must_be_on_cards(fleet, entity_id, product_id)
            candidates = context.params["training"].candidates
            if given.get("model") and given["model"] not in candidates:
                raise WindKedroError(f"no candidate '{shown(given['model'])}'; there are {', '.join(candidates)}")
            span = {name: _utc(given[name], f"--{name}") for name in ("begin", "end") if given.get(name)}
            log = context.catalog["overrides"].writable()
            with lease_of(context):
                entry = record_override(
                    log.load(), kind, entity_id, author=author, reason=reason, effective_at=context.params["clock"].as_of,
                    product_id=product_id, model=given.get("model") or "", **span,
                )  # fmt: skip
                log.save(Overrides.validate(entry))
        click.echo(f"Recorded as override {entry['override'].iloc[0]}; it applies from the next training on.")

    if about == "model":
        command.params.append(click.Option(["--model"], required=True, help="The candidate."))
    if about in {"begin", "span"}:
        command.params.append(click.Option(["--begin"], required=True, help="Start, UTC."))
    if about == "span":
        command.params.append(click.Option(["--end"], required=True, help="End, UTC, exclusive."))


_override("hold", "hold", about="")
_override("approve", "approve", about="model")
_override("override", "override", about="model")
_override("learn-from", "learn_from", about="begin")
_override("leave-out", "leave_out", about="span")
_override("release", "release", about="")


@wind.command()
@click.option("--farm", "entity_id", help="Only this farm or group.")
@click.option("--product", "product_id", help="Only this product.")
@click.pass_obj
def decisions(options: dict[str, str | None], entity_id: str | None, product_id: str | None) -> None:
    """Print the gate's evidence and decision of the last training, per challenger."""
    from wind_kedro.errors import WindKedroError

    fleet, context = _open(options)
    with _one_line():
        _must_be_on_cards(fleet, entity_id, product_id)
        table = context.catalog.load("decisions")
        if table.empty:
            raise WindKedroError("no training has been run yet: kedro run --pipeline training")
    table = table[table["decided_at"] == table["decided_at"].max()]
    table = table[table["entity_id"].isin([entity_id] if entity_id else table["entity_id"])]
    table = table[table["product_id"].isin([product_id] if product_id else table["product_id"])]

    def share(value: float, form: str = "+.1%") -> str:
        return "-" if math.isnan(value) else format(value, form)

    _print_table(
        ["product", "entity", "champion", "challenger", "issues", "gain", "chance", "strong wind", "code", "why"],
        [
            [
                row["product_id"], row["entity_id"], row["champion"] or "-", row["challenger"], str(row["issues"]),
                share(row["gain_share"]), share(row["p_adjusted"], ".2g"), share(row["strong_wind_excess_share"]),
                ("* " if row["promoted"] else "") + row["code"], row["reason"],
            ]
            for row in table.to_dict("records")
        ],
    )  # fmt: skip
    click.echo("* is fitted and goes live.")


@wind.command("add-farm")
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
    options: dict[str, str | None], files: tuple[Path, ...], farm_id: str | None, name: str | None, latitude: float | None,
    longitude: float | None, settings: tuple[str, ...], yes: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Propose a farm's card from its export, write it after confirmation, and assess the data.

    What the export proves is shown with its evidence; what it does not prove is asked.
    """
    import yaml

    from wind_kedro.errors import WindKedroError
    from wind_kedro.onboarding import propose
    from wind_kedro.onboarding.card import answer, card_of, path_of
    from wind_kedro.onboarding.sample import files_of_export

    given: dict[str, Any] = {
        "id": farm_id,
        "name": name or farm_id,
        "latitude_deg": latitude,
        "longitude_deg": longitude,
    }
    given = {field: value for field, value in given.items() if value is not None}
    with _one_line():
        for setting in settings:
            field, equals, value = setting.partition("=")
            if not equals:
                raise WindKedroError(f"--set {setting}: write FIELD=VALUE")
            given[field.strip()] = answer(field.strip(), value)
        # Absolute, as the project's folder is gone to before they are read again.
        every = files_of_export([path.absolute() for path in files])
        found = propose(every, given)
        _print_findings(found)
        if dry_run:
            return
        # Before any question: who has answered them all is not to hear that the name is taken.
        taken = _taken(options)
        _not_taken(given.get("id"), taken)
        missing = [finding.field for finding in found.open]
        if yes and missing:
            raise WindKedroError(f"the export does not prove {', '.join(missing)}: give each with --set FIELD=VALUE")
        if missing:
            click.echo("\nWhat the export does not prove. Enter takes what is in brackets; null is for none.")
    while found.open:
        found = _ask(found, every, given, taken)
    with _one_line():
        card = card_of(found, path_of(every, str(found.value("id"))))
    click.echo("\n" + yaml.safe_dump([card], sort_keys=False, allow_unicode=True, default_flow_style=None, width=120))
    if not yes and not click.confirm("Write this card?", default=True):
        click.echo("Nothing was written.")
        return
    _join(options, card, every, str(found.value("newest_stamp")))


def _taken(options: dict[str, str | None]) -> set[str]:
    """Ids of existing farms; a new environment has those of base."""
    _stand_in_project()
    source, environment = _place_of_cards(options)
    there = (source / environment).is_dir()
    return {farm.id for farm in read_cards(_configuration(options if there else {**options, "env": "base"})).farms}


def _place_of_cards(options: dict[str, str | None]) -> tuple[Path, str]:
    """Folder or archive of the configuration, and the selected environment."""
    return Path(options["conf_source"] or "conf"), options["env"] or os.getenv("KEDRO_ENV") or "base"


def _not_taken(farm_id: str | None, taken: Collection[str]) -> None:
    from wind_kedro.errors import WindKedroError

    if farm_id in taken:
        raise WindKedroError(f"farm '{farm_id}' already exists; choose another --id, or remove its card")


def _join(options: dict[str, str | None], card: dict[str, Any], files: list[Path], newest: str) -> None:
    """Write the card, copy the files, and assess the new farm's data separately."""
    from wind_kedro.errors import WindKedroError
    from wind_kedro.onboarding.apart import ENVIRONMENT, write_isolated_configuration
    from wind_kedro.onboarding.card import append_card, bring_files

    farm_id = card["id"]
    _stand_in_project()
    with _one_line():
        source, environment = _place_of_cards(options)
        if not source.is_dir():
            raise WindKedroError(f"{source}: an archive cannot be written to; unpack it, or add the card above by hand")
        (source / environment).mkdir(exist_ok=True)  # the farm may be the first of its environment
        data = data_folder(_configuration(options), Path())
        raw = data / "01_raw"
        # A lease of its own: a new card and new files are no matter of a run that is at work, but of another add-farm.
        with Lease(data, "cards", LeaseSettings().wait_seconds):
            # Once more: questions take their time.
            fleet = read_cards(_configuration(options))
            _not_taken(farm_id, {farm.id for farm in fleet.farms})
            bring_files(files, raw / farm_id)
            append_card(source / environment / "farms.yml", card, source / "base" / "farms.yml")
    click.echo(f"Written to {source / environment / 'farms.yml'}; the files are in {raw / farm_id}.")
    with Scratch("newcomer") as aside:
        products = [product.model_dump(mode="json") for product in fleet.products]
        copied = write_isolated_configuration(source, environment, card, products, raw, Path(aside))
        _look_at({"env": ENVIRONMENT, "conf_source": str(copied)}, farm_id, newest)
    click.echo(f"The fleet's results are as they were; its next run has '{farm_id}'.")
    click.echo("Next: its weather in farms.yml, and its name in a product of products.yml (docs/how-to/add-a-farm.md).")


#: Columns that are not used are named up to so many.
_UNUSED_SHOWN = 12


def _print_findings(found: Findings) -> None:
    _print_table(
        ["field", "value", "", "evidence"],
        [[finding.field, _shown(finding.value), "proven" if finding.proven else "asked", finding.evidence] for finding in found],
    )
    if found.unused:
        more = len(found.unused) - _UNUSED_SHOWN
        click.echo(
            f"Not used: {', '.join(found.unused[:_UNUSED_SHOWN])}{f' and {more} more' if more > 0 else ''}. "
            "If one is a signal, name it: --set signals.columns.SIGNAL.name=COLUMN"
        )


def _ask(found: Findings, files: list[Path], given: dict[str, Any], taken: Collection[str]) -> Findings:
    """Ask for the first open field; if the answer differs from the guess, propose again, as other fields may depend on it."""
    from wind_kedro.errors import WindKedroError
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
                _not_taken(value, taken)
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


def _shown(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _look_at(options: dict[str, str | None], farm_id: str, newest: str) -> None:
    """Run data_engineering as of the farm's newest row, and print the assessment of its data."""
    from datetime import datetime, timedelta

    from kedro.framework.session import KedroSession

    from wind_kedro.pipelines.data_engineering.parse.time_span import OutsideDataError

    # A day on, its last rows have arrived whatever its clock is.
    as_of = (datetime.fromisoformat(newest) + timedelta(days=1)).isoformat()
    with _suppress_duplicate_log(), _one_line():
        with KedroSession.create(
            env=options["env"], conf_source=options["conf_source"], runtime_params={"as_of": as_of}
        ) as session:
            runner: Any = session  # typed as its abstract base, whose run takes nothing
            try:
                runner.run(pipeline_names=["data_engineering"])
            except OutsideDataError as error:  # an export of a few days
                click.echo(f"Its data cannot be assessed yet: {error}")
                return
        _, context = _open(options)
        table = context.catalog.load("data_quality")
        own = table[(table["farm_id"] == farm_id) & ~((table["count"] == 0) & (table["severity"] == "info"))]
        _print_table(
            ["table", "check", "signal", "finding"],
            own[["source_table", "check", "signal", "message"]].astype(str).to_numpy().tolist(),
        )
        ready = context.catalog.load("readiness")
    for row in ready[ready["farm_id"] == farm_id].tail(1).to_dict("records"):
        click.echo(f"Ready for: {row['tier']} ({row['reason']})")


@wind.command()
@click.option("--feed", "feed_id", help="Only this feed; without it, every feed of kind mqtt.")
@click.pass_obj
def listen(options: dict[str, str | None], feed_id: str | None) -> None:
    """Land messages of MQTT brokers until stopped."""
    from wind_kedro.configuration import read_secrets
    from wind_kedro.errors import WindKedroError
    from wind_kedro.feeds import build_feeds
    from wind_kedro.feeds.listening import Listener
    from wind_kedro.feeds.mqtt import Mqtt

    _, context = _open(options)
    with _one_line():
        every = build_feeds(context.params["feeds"].with_secrets(read_secrets))
        if feed_id is not None and feed_id not in every:
            raise WindKedroError(f"no feed '{feed_id}'; the configuration has {', '.join(every) or 'none'}")
        feeds = [feed for feed in every.values() if isinstance(feed, Mqtt) and feed_id in {None, feed.id}]
        if not feeds:
            raise WindKedroError("no feed of kind mqtt to listen to; conf/feeds/examples.yml shows one")
        Listener(feeds, data_folder(context.config_loader, context.project_path) / "01_raw").run()


wind.add_command(explain)
#: The earlier name, for one release.
wind.add_command(attributions, "drivers")
wind.add_command(verify)
wind.add_command(reproduce)
wind.add_command(keys)


@click.group(name="wind-kedro")
def cli() -> None:
    """Commands that Kedro adds in this project."""


cli.add_command(run)
cli.add_command(wind)


def wind_kedro() -> None:
    """Console script of the wheel: `wind` outside a project."""
    from kedro.framework.project import configure_project

    configure_project("wind_kedro")
    wind(prog_name="wind-kedro")
