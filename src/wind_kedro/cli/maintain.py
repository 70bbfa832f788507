"""Commands that look after what an environment has stored: ``housekeeping``, ``backup``, ``restore``, ``migrate``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import Field

from wind_kedro.cli.terminal import Options, configuration_of, open_project, stand_in_project
from wind_kedro.errors import WindKedroError, settings_of
from wind_kedro.governance.signing import Keyring
from wind_kedro.hooks import data_folder, lease_of
from wind_kedro.storage.backup import back_up
from wind_kedro.storage.backup import restore as restore_places
from wind_kedro.storage.layout import LAYOUT, kept_at, layout_of, put_back, record_layout, set_aside
from wind_kedro.strict import Strict

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

#: Where the keys of a backup are, beside its tables: whoever has both can sign.
_KEYS = "keys"


class Housekeeping(Strict):
    """Settings `housekeeping` in ``parameters_run.yml``."""

    keep_hours: int = Field(168, ge=1, description="files that a version of the last hours names are kept for readers")
    retain_days: dict[str, int] = Field(default_factory=dict, description="of histories, by name; those not named are kept")


@click.command()
@click.pass_obj
def housekeeping(options: Options) -> None:
    """Compact tables, remove files that nobody reads any more, and apply retention. To be run daily.

    Holds the environment's lease. It may be interrupted at any time and started again; no row changes.
    """
    from wind_kedro.datasets import DerivedTable, History

    _, context = open_project(options)
    settings = settings_of(Housekeeping, context.params.get("housekeeping", {}), "parameters_run.yml: housekeeping")
    month = f"{dt.datetime.now(dt.UTC):%Y-%m}"
    tables = _tables_of(context)
    if unknown := set(settings.retain_days) - {name for name, table in tables.items() if isinstance(table, History)}:
        raise WindKedroError(f"parameters_run.yml: housekeeping.retain_days: no history is called {', '.join(sorted(unknown))}")
    removed = 0
    with lease_of(context):
        for name, table in tables.items():
            if isinstance(table, DerivedTable):
                removed += table.maintain(month, settings.keep_hours)
            elif isinstance(table, History):
                removed += table.maintain(month, settings.keep_hours, settings.retain_days.get(name))
    click.echo(f"{removed} files were removed that no version of the last {settings.keep_hours} hours names.")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option("--keys", "keys", type=click.Path(path_type=Path, file_okay=False), help="Copy the keys too, to this other folder.")
@click.pass_obj
def backup(options: Options, target: Path, keys: Path | None) -> None:
    """Copy everything that the environment has stored, raw files and models included, to TARGET.

    TARGET may hold earlier backups: what they have is not copied again. Keys are not in it: with them and the tables anybody
    could sign; keep them elsewhere (--keys).
    """
    _, context = open_project(options)
    places = _places_of(context.config_loader, Path(context.project_path))
    with lease_of(context), lease_of(context, "landing"):
        found = back_up(places, target)
    click.echo(f"{target}: {found.files:,} files, {found.size_bytes / 1e6:,.0f} MB, {found.copied:,} of them new.")
    if keys is not None:
        back_up({_KEYS: Keyring().folder}, keys)
        click.echo(f"{keys}: the keys of this machine; keep them where only you can read them.")


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--keys", "keys", type=click.Path(path_type=Path, exists=True), help="Restore the keys too, from this backup.")
@click.pass_obj
def restore(options: Options, source: Path, keys: Path | None) -> None:
    """Write a backup to where the environment stores its data, which must be empty.

    SOURCE is the folder of backups, or the list of one in it (backup-<time>.json).
    """
    stand_in_project()
    loader = configuration_of(options)
    began = dt.datetime.now(dt.UTC)
    found = restore_places(source, _places_of(loader, Path.cwd()))
    if keys is not None:
        restore_places(keys, {_KEYS: Keyring().folder})
    took = (dt.datetime.now(dt.UTC) - began).total_seconds()
    click.echo(
        f"{found.files:,} files, {found.size_bytes / 1e6:,.0f} MB as of {found.made_at:%Y-%m-%d %H:%M:%S} UTC were restored in "
        f"{took:.0f} s. What was stored since is lost: runs compute tables again from the raw files that are there; what was "
        f"issued, sent or decided in the {_shown(began - found.made_at)} before now is not known any more. A machine that has "
        f"seen newer records refuses older ones until you accept them: kedro wind keys adopt"
    )


@click.command()
@click.option("--undo", is_flag=True, help="Put everything back as it was; what was written since is kept beside it.")
@click.pass_obj
def migrate(options: Options, undo: bool) -> None:
    """Store the data of an environment as this version reads it.

    Histories become Delta tables with the same rows. Tables that follow from others are computed again by the next run. What
    was there before is kept in the folder before_migration of the data; remove it when nobody wants to go back.
    """
    import pandas as pd

    from wind_kedro.datasets import DerivedTable, History

    _, context = open_project(options)
    data = data_folder(context.config_loader, Path(context.project_path))
    tables = _tables_of(context).values()
    histories = {table.location: table for table in tables if isinstance(table, History) and not table.is_read_only}
    derived = [table.location.with_name(f"{table.location.name}.parquet") for table in tables if isinstance(table, DerivedTable)]
    with lease_of(context):
        if undo:
            back = put_back(data, [*histories, *derived])
            record_layout(data, 1)
            click.echo(f"{len(back)} tables are as they were before.")
            return
        if (found := layout_of(data)) >= LAYOUT:
            raise WindKedroError(f"{data}: has layout {found}: there is nothing to migrate")
        set_aside(data, [*histories, *derived])
        rows = 0
        for path, table in histories.items():
            # Of a migration that was interrupted the rows are written again.
            parts = [pd.read_parquet(part) for part in sorted(kept_at(data, path).rglob("[!.]*.parquet"))]
            if parts:
                table.save(pd.concat(parts, ignore_index=True))
                rows += sum(map(len, parts))
        record_layout(data)
    click.echo(f"{rows:,} rows of histories are in {len(histories)} Delta tables; kedro run computes all other tables again.")


def _tables_of(context: KedroContext) -> dict[str, Any]:
    """The datasets of the catalog by name."""
    catalog = context.catalog  # each access makes all datasets anew
    return {name: catalog[name] for name in sorted(catalog.keys()) if not name.startswith("params:")}


def _shown(span: dt.timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"  # noqa: PLR2004 - shown in the larger unit from two on


def _places_of(loader: Any, project: Path) -> dict[str, Path]:
    """What an environment stores: its data, and the database and artefacts of MLflow if these are local."""
    mlflow: Mapping[str, Any] = loader["mlflow"]
    places = {"data": data_folder(loader, project)}
    address = str(mlflow.get("server", {}).get("mlflow_tracking_uri", ""))
    if address.startswith("sqlite:///"):
        places["mlflow"] = project / address.removeprefix("sqlite:///")
    artefacts = mlflow.get("tracking", {}).get("experiment", {}).get("create_experiment_kwargs", {}).get("artifact_location")
    if artefacts and "://" not in str(artefacts):
        places["artifacts"] = project / str(artefacts)
    return places
