"""Command ``reproduce``: refit a registered version and verify that it is identical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from wind_kedro.cli.terminal import Options, open_project, print_table


@click.command()
@click.option("--version", required=True, help="The version in the registry.")
@click.option(
    "--here", is_flag=True, help="Use the present environment, which must have the lock of the training; default: a new one."
)
@click.option("--farm", "--entity", "entity", help="Only this farm or group.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def reproduce(options: Options, version: str, here: bool, entity: str | None, as_json: bool) -> None:
    """Refit a version from its training kits and compare its forecasts bit for bit; a difference is an error."""
    from wind_kedro.rebuild.reproducing import DifferentError, reproduce_version

    _, context = open_project(options)
    catalog = context.catalog
    registered: Any = catalog.load("model_versions")
    report = reproduce_version(
        catalog.load("training_kit"),
        registered.manifest(version),
        registered.objects,
        Path(context.project_path),
        entity=entity,
        here=here,
    )
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_table(
            ["product", "entity", "model", "training run", "rows", "forecasts", "model files"],
            [
                [
                    row["product_id"], row["entity_id"], row["model"], row["run_id"], f"{row['rows']:,}",
                    "the same" if row["same"] else f"apart by {row['difference'] or 0:.3g}",
                    "the same" if row.get("files_same") else "others",
                ]
                for row in report["members"]
            ],
        )  # fmt: skip
    if report["faults"]:
        raise DifferentError("\n".join(report["faults"]))
    if not as_json:
        click.echo(f"Version {version} was rebuilt {report['where']}: its forecasts are the same, bit for bit.")
