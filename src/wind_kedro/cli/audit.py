"""Commands ``explain`` and ``verify``: explain a forecast, and verify the audit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import click

from wind_kedro.cli.terminal import Options, open_project, utc
from wind_kedro.errors import WindKedroError, shown


@click.command()
@click.option("--farm", "--entity", "entity", required=True, help="The farm or group.")
@click.option("--issued-at", required=True, help="The issue time, UTC (2015-11-01T06:00).")
@click.option("--product", help="The product; needed where the farm is in several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def explain(options: Options, entity: str, issued_at: str, product: str | None, as_json: bool) -> None:
    """Show what a forecast was made from, what became of it, and why it missed; or why it was not issued, and what to do."""
    from wind_kedro.cli.explanation import Evidence, explanation
    from wind_kedro.datasets.derived import frame_of
    from wind_kedro.pipelines.monitoring.settings import Monitoring

    fleet, context = open_project(options)
    fleet.farms_of(entity)
    selling = [card.id for card in fleet.products if entity in card.members]
    if product:
        selling = [fleet.product(product).id]
    if len(selling) != 1:
        raise WindKedroError(f"'{entity}' is in {', '.join(selling) or 'no product'}: choose with --product")

    load = context.catalog.load
    evidence = Evidence(
        **{field.name: frame_of(load(field.name)) for field in fields(Evidence) if field.type == "pd.DataFrame"},
        fleet=fleet,
        clock=load("params:clock"),
        monitoring=Monitoring.model_validate(context.config_loader["parameters"]["monitoring"]),
    )
    found = explanation(evidence, selling[0], entity, utc(issued_at, "--issued-at"))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{found['product_id']} · {found['entity_id']} · issued {found['issued_at'][:16]} UTC"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, text in _lines(found):
        table.add_row(label, escape(text))
    Console(soft_wrap=False).print(table)


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and text of each line of an explanation."""
    made, missing, reason = found["made_from"], found["weather_runs_missing"], found.get("not_issued", {})
    weather = [
        ("weather runs", ", ".join(f"{name} {run}" for name, run in found["weather_runs"].items()) or "none"),
        ("weather missing", ", ".join(f"{name} {' '.join(runs)}" for name, runs in missing.items()) or "none"),
    ]
    if revises := found["revises"]:
        yield "revision", f"{revises['revision']} of the issue of {revises['issued_at'][:16]}"
    if reason:
        yield "not issued", f"{reason['code']}: {reason['message']}"
        yield "what to do", reason["action"]
        yield from weather
        yield "features", made["features_sha256"] or "none"
    else:
        model = found["model"]
        yield "model", f"{model['model']}, version {model['model_version']}, training run {model['run_id'] or 'not known'}"
        yield "promoted", f"{model.get('promoted_at', 'not known')}: {model.get('reason', '')}"
        yield "trained through", str(model.get("trained_through", "not known"))
        yield "rung", model["rung"] + (f": {model['fallback']}" if model["fallback"] else "")
        yield "data", made["data_sha256"]
        yield "features", f"{made['features_sha256']} ({made['features_now']})"
        yield "configuration", made["configuration_sha256"]
        yield "code", made["git_commit"]
        yield "lock", made["lock_sha256"]
        yield "libraries", ", ".join(f"{name} {version}" for name, version in made["libraries"].items())
        yield "machine", f"Python {made['python']}, {made['platform']}"
        yield from weather
        moved = (f"{row['feature_group']} {row['mean_kw']:+,.0f} kW" for row in found["attributions"])
        yield "attributions", ", ".join(moved) or "not known"
        since = (f"{row['promoted_at'][:16]} {row['model']} {row['model_version']}" for row in found["promotions_since"])
        yield "promotions since", "; ".join(since) or "none"
        yield "score", _score(found["outcome"])
        for number, cause in enumerate(found["causes"]):
            yield "likely cause" if number == 0 else "", f"{cause['cause']}: {cause['evidence']}"
    failed = [row for row in found["failures"] if row["message"] != reason.get("message")]
    for number, row in enumerate(failed):
        yield "failures" if number == 0 else "", f"{row['code']}: {row['message']}. {row['action']}"
    *earlier, newest = found["audit"]
    before = f"; supersedes {', '.join(map(_superseded, earlier))}" if earlier else ""
    yield "audit", f"record {newest['sequence']} of {newest['recorded_at'][:19]}{before}"


def _superseded(row: dict[str, Any]) -> str:
    """The number of an earlier record; of one that was not the champion's also its rung and when it was recorded."""
    if row["rung"] in {None, "", "champion"}:
        return str(row["sequence"])
    return f"{row['sequence']} ({row['rung']}, recorded {row['recorded_at'][:19]})"


def _score(outcome: dict[str, Any]) -> str:
    if not outcome["intervals"]:
        return "the observed power is not known yet"
    expected = outcome.get("expected_loss")
    beside = "" if expected is None else f"; its backtest in such weather {expected:.4f}"
    return (
        f"loss {outcome['loss']:.4f} ({outcome['deciding_score']}) over {outcome['intervals']} intervals{beside}; "
        f"error {outcome['mean_error_share']:+.1%} of capacity, absolute {outcome['mean_absolute_error_share']:.1%}"
    )


@click.command()
@click.option("--head", help="A head that was kept elsewhere, as this command prints it: NUMBER:SHA256.")
@click.pass_obj
def verify(options: Options, head: str | None) -> None:
    """Check that no record of the audit was changed, added or removed, and that its head is signed by a key that is trusted here.

    The evidence is worth as much as the key: those who can use the private key can make the whole audit anew. Keep the head that
    this command prints elsewhere, and check against it with --head.
    """
    from wind_kedro.datasets.audit_trail import BrokenChainError
    from wind_kedro.governance.audit import Head

    _, context = open_project(options)
    trail: Any = context.catalog.get("audit")
    kept = None
    if head is not None:
        number, _, digest = head.partition(":")
        if not re.fullmatch("[0-9]{1,18}", number) or len(digest) != len(Head().sha256):
            raise WindKedroError(f"--head {shown(head)}: write NUMBER:SHA256, as this command prints it")
        kept = Head(int(number), digest)
    for name in trail.strangers():
        click.echo(f"{name}: is not part of the audit and is ignored", err=True)
    faults = trail.verify(kept)
    if faults:
        raise BrokenChainError("\n".join(faults))
    newest = trail.head()
    click.echo(f"The audit is whole: {newest.sequence} records, head {newest.sequence}:{newest.sha256}")
