"""Commands that print farms, forecasts and decisions."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import click

from wind_kedro.cards.columns import BASE, RUNGS, quantile_column
from wind_kedro.cards.tiers import TIERS, assessed_by
from wind_kedro.cli.terminal import Options, configuration_of, open_project, print_table, stand_in_project, utc
from wind_kedro.errors import WindKedroError
from wind_kedro.hooks import read_cards

if TYPE_CHECKING:
    import pandas as pd

    from wind_kedro.cards import Fleet


@click.command()
@click.pass_obj
def farms(options: Options) -> None:
    """List the farms and validate all cards."""
    stand_in_project()
    fleet = read_cards(configuration_of(options))
    sold = {product.id: {farm.id for member in product.members for farm in fleet.farms_of(member)} for product in fleet.products}
    print_table(
        ["farm", "name", "capacity", "turbines", "time zone", "weather", "products"],
        [
            [
                farm.id, farm.name, f"{farm.capacity_kw:,.0f} kW", len(farm.turbines), farm.time_zone,
                ", ".join(f"{source.model} ({source.kind})" for source in farm.weather),
                ", ".join(product_id for product_id, farm_ids in sold.items() if farm.id in farm_ids),
            ]
            for farm in fleet.farms
        ],
    )  # fmt: skip
    click.echo(
        f"All cards are valid: {len(fleet.farms)} farms, {len(fleet.groups)} groups, {len(fleet.markets)} markets, "
        f"{len(fleet.products)} products (environment '{options['env'] or os.getenv('KEDRO_ENV') or 'base'}')."
    )


def select(fleet: Fleet, table: pd.DataFrame, product: str | None, entity: str | None) -> pd.DataFrame:
    """Rows of the products on the cards, or of one product or entity; raises for one that is not on the cards."""
    if entity:
        fleet.farms_of(entity)
    products = [fleet.product(product)] if product else fleet.products
    own = table["product_id"].isin([card.id for card in products])
    return table[own & (table["entity_id"] == entity)] if entity else table[own]


def _print_title(fleet: Fleet, rows: pd.DataFrame, *more: str) -> None:
    first = rows.iloc[0]
    revision = f"revision {first['revision']} of {first['revised_issue_at']:%H:%M}, " if first.get("revision") else ""
    issued = f"{revision}issued {first['issued_at']:%Y-%m-%d %H:%M} UTC by {first['model']} version {first['model_version']}"
    title = [fleet.product(first["product_id"]).name, fleet.name_of(first["entity_id"]), issued, *more]
    click.secho("\n" + " · ".join(title), bold=True)


@click.command()
@click.option("--product", help="Only this product.")
@click.option("--entity", help="Only this farm or group.")
@click.pass_obj
def forecast(options: Options, product: str | None, entity: str | None) -> None:
    """Print the newest forecast of every product and entity."""
    from wind_kedro.datasets.derived import frame_of

    fleet, context = open_project(options)
    table = select(fleet, frame_of(context.catalog.load("forecasts")), product, entity)
    table = table[table["entity_id"].isin([entity or name for card in fleet.products for name in card.members])]
    if table.empty:
        raise WindKedroError("no forecast was issued yet: kedro run --pipeline forecasting")
    for (product_id, _), rows in table.groupby(["product_id", "entity_id"]):
        newest = rows[rows["issued_at"] == rows["issued_at"].max()].sort_values("valid_at")
        card = fleet.product(str(product_id))
        low, high = card.quantile_levels[0], card.quantile_levels[-1]
        rungs = " and ".join(rung for rung in RUNGS if (newest["rung"] == rung).any())
        _print_title(fleet, newest, *([] if rungs == "champion" else [f"forecast by {rungs}"]), newest["weather"].iloc[0])
        columns = {
            f"{100 * low:g}% quantile": quantile_column(low),
            "median": quantile_column(0.5),
            f"{100 * high:g}% quantile": quantile_column(high),
        }
        if card.point != "median":
            columns["point forecast"] = "point_kw"
        print_table(
            ["valid at (UTC)", "lead", *columns],
            [
                [f"{row['valid_at']:%Y-%m-%d %H:%M}", f"{row['lead_minutes'] / 60:g} h"]
                + [f"{row[column]:,.0f} kW" for column in columns.values()]
                for _, row in newest.iterrows()
            ],
        )


@click.command()
@click.option("--entity", required=True, help="The farm or group.")
@click.option("--product", help="Only this product.")
@click.option("--issued-at", help="The issue time, UTC (2015-11-01T06:00); without it, the newest.")
@click.pass_obj
def attributions(options: Options, entity: str, product: str | None, issued_at: str | None) -> None:
    """Print the attributions of a forecast per interval, in kW of its median."""
    fleet, context = open_project(options)
    table = select(fleet, context.catalog.load("attributions"), product, entity)
    if issued_at:
        table = table[table["issued_at"] == utc(issued_at, "--issued-at")]
    if table.empty:
        when = f" issued at {issued_at}" if issued_at else ""
        raise WindKedroError(
            f"no attributions of a forecast of '{entity}'{when}: issue it with kedro run --pipeline forecasting "
            f"and a model family that has them"
        )
    for _, rows in table.groupby("product_id"):
        newest = rows[rows["issued_at"] == rows["issued_at"].max()]
        _print_title(fleet, newest)
        moved = newest.pivot(index="valid_at", columns="feature_group", values="contribution_kw")
        order = [BASE, *moved.drop(columns=BASE).abs().sum().sort_values(ascending=False, kind="stable").index]
        # The input with the largest attribution per interval.
        felt = newest[newest["feature"] != ""].set_index("valid_at")
        most = felt.iloc[felt["contribution_kw"].abs().argsort(kind="stable")].groupby(level=0).last()
        print_table(
            ["valid at (UTC)", "median", *order, "most of all"],
            [
                [f"{at:%Y-%m-%d %H:%M}", f"{row.sum():,.0f} kW"]
                + [f"{row[name]:,.0f}" if name == BASE else f"{row[name]:+,.0f}" for name in order]
                + [f"{most.loc[at, 'feature']} {most.loc[at, 'feature_value']:.3g}" if at in most.index else ""]
                for at, row in moved.iterrows()
            ],
        )


def _number(value: float, form: str = "+.1%") -> str:
    return "-" if math.isnan(value) else format(value, form)


@click.command()
@click.option("--tier", type=click.Choice(TIERS), help="Only farms of this tier.")
@click.pass_obj
def readiness(options: Options, tier: str | None) -> None:
    """Print the readiness tier of each farm with the reason."""
    fleet, context = open_project(options)
    table = context.catalog.load("readiness").frame()
    if table.empty:
        raise WindKedroError("no farm was assessed yet: kedro run --pipeline data_engineering")
    # The table is as of the last run.
    table = assessed_by(table, table["assessed_at"].max()).set_index("farm_id")
    known = table.reindex([farm.id for farm in fleet.farms if farm.id in table.index])
    shown = known[known["tier"] == tier] if tier else known
    print_table(
        ["farm", "tier", "days", "coverage", "weather fit", "why"],
        [
            [
                row["farm_id"], row["tier"], f"{row['learnable_days']:.0f}", _number(row["coverage_share"], ".0%"),
                _number(row["best_correlation"], ".2f"), row["reason"],
            ]
            for row in shown.reset_index().to_dict("records")
        ],
    )  # fmt: skip
    counts = ", ".join(f"{(known['tier'] == name).sum()} {name}" for name in TIERS if (known["tier"] == name).any())
    click.echo(f"As of {known['assessed_at'].max():%Y-%m-%d %H:%M} UTC: {counts or 'no farm of these cards'}.")


@click.command()
@click.option("--farm", "entity_id", help="Only this farm or group.")
@click.option("--product", "product_id", help="Only this product.")
@click.pass_obj
def decisions(options: Options, entity_id: str | None, product_id: str | None) -> None:
    """Print the gate's evidence and decision of the last training, per challenger."""
    fleet, context = open_project(options)
    every = context.catalog.load("decisions")
    table = select(fleet, every[every["decided_at"] == every["decided_at"].max()], product_id, entity_id)
    if every.empty:
        raise WindKedroError("no training has been run yet: kedro run --pipeline training")
    print_table(
        ["product", "entity", "champion", "challenger", "issues", "gain", "chance", "strong wind", "code", "why"],
        [
            [
                row["product_id"], row["entity_id"], row["champion"] or "-", row["challenger"], row["issues"],
                _number(row["gain_share"]), _number(row["p_adjusted"], ".2g"), _number(row["strong_wind_excess_share"]),
                ("* " if row["promoted"] else "") + row["code"], row["reason"],
            ]
            for row in table.to_dict("records")
        ],
    )  # fmt: skip
    click.echo("* is fitted and goes live.")
