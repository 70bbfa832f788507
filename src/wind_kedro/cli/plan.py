"""Command ``plan``: what a run would compute, why, how much and for how long, without computing it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from wind_kedro.cli.terminal import Options, open_project, print_table

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline


@click.command()
@click.option("--as-of", help="As of this time, UTC; default: that of the configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def plan(options: Options, as_of: str | None, as_json: bool) -> None:
    """Print which shards of the derived tables a run would compute or remove. A step behind one that has work has at least as
    much: it is counted with the tables as they are now.
    """
    from kedro.framework.project import pipelines

    _, context = open_project(options, as_of=as_of)
    found = list(steps(pipelines["__default__"], context.catalog))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_table(
        ["table", "shards", "missing", "input changed", "card or step changed", "removed", "days", "about"],
        [
            [
                step["table"], f"{step['wanted']:,}", f"{step['missing']:,}", f"{step['input_changed']:,}",
                f"{step['step_changed']:,}", f"{step['removed']:,}", step["days"], step["about"],
            ]
            for step in found
        ],
    )  # fmt: skip
    waiting = [step["table"] for step in found if step["waits_for"]]
    if waiting:
        click.echo(f"Not counted, as their inputs are not there yet: {', '.join(waiting)}")


def steps(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> Iterator[dict[str, Any]]:
    """What each derived table of a pipeline would compute, in the order of its nodes."""
    from kedro.io import MemoryDataset

    from wind_kedro.datasets import DerivedTable

    # Nodes give their recipes, which are not carried out.
    logging.getLogger("kedro.pipeline.node").setLevel(logging.WARNING)
    # What is not stored, such as a checked clock, is made here for the nodes that take it.
    between: dict[str, Any] = {}
    for node in pipeline.nodes:
        made = [name for name in node.outputs if name in catalog and isinstance(catalog[name], DerivedTable)]
        passed_on = all(name in catalog and isinstance(catalog[name], MemoryDataset) for name in node.outputs)
        if not made and not passed_on:
            continue
        missing = [name for name in node.inputs if name not in between and not catalog.exists(name)]
        if missing:
            yield from [_step(name, waits_for=missing) for name in made[:1]]
            continue
        outputs = node.run({name: between[name] if name in between else catalog.load(name) for name in node.inputs})
        between |= outputs if passed_on else {}
        for name in made:
            yield _counted(name, catalog[name], outputs[name])


def _counted(name: str, table: Any, recipe: Any) -> dict[str, Any]:
    from wind_kedro.storage.fingerprints import NO_DAY

    work = table.work(recipe)
    counts = work["why"].value_counts()
    days = work["day"].where(work["day"] > NO_DAY).dropna().astype("str").str[:10].tolist() if "day" in work else []
    seconds = table.seconds_per_shard() * int((work["why"] != "removed").sum())
    return _step(
        name,
        wanted=len(recipe.wanted),
        days=f"{min(days)} to {max(days)}" if days else "",
        about=f"{seconds:.0f} s" if seconds else "",
        **{why: int(counts.get(why, 0)) for why in ("missing", "input_changed", "step_changed", "removed")},
    )


def _step(name: str, **known: Any) -> dict[str, Any]:
    empty = {"wanted": 0, "missing": 0, "input_changed": 0, "step_changed": 0, "removed": 0, "days": "", "about": ""}
    return {"table": name, **empty, "waits_for": [], **known}
