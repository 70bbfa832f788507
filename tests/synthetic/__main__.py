"""Make a fleet's raw files: ``PYTHONPATH=tests python -m synthetic --out data/test/01_raw``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wind_kedro.cards import Farm

from . import Recipe, make_fleet, write_files


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a fleet's raw files and ``faults.csv``, the list of what was spoilt."""
    import yaml

    parser = argparse.ArgumentParser(prog="python -m synthetic", description=main.__doc__)
    parser.add_argument(
        "--farms", type=Path, default=Path("conf/test/farms.yml"), help="cards of the farms (default: %(default)s)"
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=Path("conf/test/synthetic.yml"),
        help="weather, clocks and faults (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the raw folder to write to")
    options = parser.parse_args(arguments)
    farms = [Farm.model_validate(card) for card in yaml.safe_load(options.farms.read_text("utf-8"))["farms"]]
    recipe = Recipe.model_validate(yaml.safe_load(options.recipe.read_text("utf-8")))
    faults = []
    for data in make_fleet(farms, recipe):
        write_files(data, options.out)
        faults.append(data.faults)
    table = pd.concat(faults, ignore_index=True)
    times = {name: pd.to_datetime(table[name], utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ") for name in ("start", "end")}
    table.assign(**times).to_csv(options.out / "faults.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
