"""Command ``keys``: manage the keys that sign promotions and the audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wind_kedro.cli.terminal import Options, open_project, print_table
from wind_kedro.governance.signing import KeyFileError, Keyring
from wind_kedro.hooks import lease_of


@click.group()
def keys() -> None:
    """List and change the keys that sign promotions and the audit.

    They are in the folder that WIND_KEDRO_KEYS names, else in wind-kedro/keys of the user's configuration folder.
    """


@keys.command("list")
def list_keys() -> None:
    """Print the keys of this machine: which signs, which are trusted, which are revoked."""
    ring = Keyring()
    current, known = ring.current(), ring.keys()
    print_table(["key", "state"], [[key, "signs" if key == current else state] for key, state in known.items()])
    if not known:
        click.echo(f"{ring.folder} has no key yet; the first training makes one.")
    elif current is None:
        click.echo(f"{ring.folder} has public keys only: this machine verifies and does not promote.")
    else:
        click.echo(f"They are in {ring.folder}; keep a copy of signing_key.pem where only you can read it.")


@keys.command()
def rotate() -> None:
    """Create a new signing key; signatures of the old one stay valid until it is revoked."""
    made = Keyring().rotate()
    click.echo(f"Key {made} signs from now on: kedro wind keys export, and trust it on the machines that read.")


@keys.command()
@click.option("--key", help="The id of a key; without it, the one that signs.")
def export(key: str | None) -> None:
    """Print a public key, for machines that verify."""
    click.echo(Keyring().export(key).decode(), nl=False)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def trust(file: Path) -> None:
    """Trust signatures of the public key in FILE on this machine."""
    try:
        key = Keyring().trust(file.read_bytes())
    except KeyFileError as error:
        raise KeyFileError(f"{file}: {error}") from None
    click.echo(f"Key {key} is trusted on this machine.")


@keys.command()
@click.argument("key")
def revoke(key: str) -> None:
    """Revoke a key on this machine, including its past signatures."""
    Keyring().revoke(key)
    click.echo(f"Key {key} is revoked. What it signed is refused until it is checked and adopted: kedro wind keys adopt")


@keys.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def adopt(options: Options, yes: bool) -> None:
    """Sign promotions, audit and training kits as they are now: those of a version that did not sign, those of a revoked key, or
    an older state that was restored on purpose. Look first: what is adopted is trusted.
    """
    from wind_kedro.datasets.models import NoModelError

    _, context = open_project(options)
    catalog: Any = context.catalog
    log, trail, registered = catalog.get("promotions"), catalog.get("audit"), catalog.load("model_versions")
    there = log.entries_as_they_are()
    print_table(
        ["promotion", "action", "promoted at", "version", "models", "author"],
        [
            [
                str(number), str(rows["action"].iloc[0]), f"{rows['promoted_at'].iloc[0]:%Y-%m-%dT%H:%M}",
                ", ".join(rows["model_version"].unique()), str(len(rows)), str(rows["author"].iloc[0]),
            ]
            for number, rows in there.groupby("promotion")
        ],
    )  # fmt: skip
    if not yes and not click.confirm("Sign these promotions, and the audit as it is?", default=False):
        click.echo("Nothing was signed.")
        return

    def digest(version: str) -> str:
        try:
            return str(registered.manifest_on_disk(version))
        except NoModelError as error:
            click.echo(f"version {version} stays refused: {error}", err=True)
            return ""

    with lease_of(context):
        signed, kept = log.adopt(digest)
        head = trail.adopt()
        kits = catalog.load("training_kit").adopt()
    click.echo(
        f"Signed: {signed['promotion'].nunique()} promotions, an audit of {head.sequence} records, {kits} training kits."
        + (f" The log as it was is in {kept}." if len(signed) else "")
    )
