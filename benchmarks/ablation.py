"""What each family of features is worth, and each part of our entry, on tasks 1 to 3 of GEFCom2014; later months are for judging.

Families: one quick candidate with all of them, without each in turn, and with one more at a time. Those of the operator's
setting alone (production, errors) are measured there, the others in the competition's; one run of training backtests all of them.
The entry: each of its members learns and forecasts once, by the competition's rules, and is blended with and without the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench_start import CommandFailedError
from gefcom2014 import (
    BAND,
    COMPETITION,
    ENTRY,
    ENVIRONMENT,
    OPERATIONAL,
    RAW,
    bring_in,
    month_of,
    run,
    run_training,
    score_rows,
)
from record import PROJECT, record
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Array
from wind_kedro.models.ensembles.blend import LEAD, BlendParameters, smoothed
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.spread import stretched
from wind_kedro.models.tables import feature_matrix, known_at
from wind_kedro.pipelines.feature_engineering.settings import COLUMNS_OF, Family, FeatureParameters

TASKS = (1, 2, 3)
ALL = "all"
#: What is taken apart.
FAMILIES, PARTS = "families", "entry"
#: The candidate that is varied: quick, and untuned, so that no family was tuned for.
CANDIDATE: dict[str, Any] = {"type": "quantile_forest", "params": {"trees": 20}}


def variants(families: Sequence[Family], judged: Sequence[Family]) -> dict[str, list[str]]:
    """Patterns of ``features`` by name of variant: ``all``, ``without_<family>``, and ``up_to_<family>`` in the order given.

    Args:
        families: what the product gets, in order.
        judged: those that are left out and added.
    """
    found: dict[str, list[str]] = {ALL: []}
    for family in judged:
        found[f"without_{family}"] = _without([family])
        found[f"up_to_{family}"] = _without(families[families.index(family) + 1 :])
    return found


def _without(families: Sequence[Family]) -> list[str]:
    return [f"!{pattern}" for family in families for pattern in COLUMNS_OF[family]]


def table_of(pinball: Mapping[str, float], judged: Sequence[Family], product_id: str, before: float | None) -> pd.DataFrame:
    """One row per family: pinball with it and all before it, without it alone, and what both say it is worth.

    ``added_gain`` is 1 − pinball with it / pinball before; ``left_out_loss`` is pinball without it / pinball with all − 1.

    Args:
        pinball: of each variant.
        judged: families in order.
        product_id: the setting.
        before: pinball before the first of them; none: nothing to compare with.
    """
    rows = []
    for family in judged:
        added, left_out = pinball[f"up_to_{family}"], pinball[f"without_{family}"]
        rows.append(
            {
                "setting": product_id,
                "family": family,
                "pinball_up_to": added,
                "added_gain": float("nan") if before is None else 1 - added / before,
                "pinball_without": left_out,
                "left_out_loss": left_out / pinball[ALL] - 1,
            }
        )
        before = added
    digits = {"pinball_up_to": 5, "added_gain": 4, "pinball_without": 5, "left_out_loss": 4}
    return pd.DataFrame(rows).round(digits)


def backtest(product_id: str, features: Mapping[str, list[str]], candidates: Sequence[str], when: Mapping[str, str]) -> None:
    """Backtest the variants, and nothing else, of one product over the tasks."""
    others = {name: {"products": []} for name in candidates}
    ours = {name: CANDIDATE | {"features": patterns} for name, patterns in features.items()}
    training = {"products": [product_id], "candidates": others | ours}
    training |= {"backtest": {"months": [str(month_of(task)) for task in TASKS]}}
    run_training({"training": training, **when}, to_nodes="backtest.score_backtest")


def main(words: list[str] | None = None) -> int:
    """Backtest, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--of", default=f"{FAMILIES},{PARTS}", help="families of features, parts of the entry, or both")
    parser.add_argument("--zones", help="such as zone_1,zone_5: parts of the entry on these alone; without it: all")
    chosen = parser.parse_args(words)
    wanted = chosen.of.split(",")
    as_of = str((month_of(TASKS[-1]) + 1).start_time.date() + pd.Timedelta(days=2))
    when = {"as_of": as_of, "train_as_of": as_of}
    try:
        bring_in(chosen.data)
        for room in ("data_engineering", "feature_engineering"):
            print(f"{room} ...", flush=True)
            run(when, "--pipeline", room)
        if PARTS in wanted:
            table = _of_the_entry(when, chosen.zones.split(",") if chosen.zones else None)
            print("\nPinball (share of capacity) of our entry and without each of its parts, mean of tasks 1 to 3\n")
            record("ablation-entry", table)
        if FAMILIES in wanted:
            table = _of_families(when)
            print(
                "\nPinball (share of capacity) of a quantile forest, mean of tasks 1 to 3: families added one by one, left out\n"
            )
            record("ablation", table)
    except (FileNotFoundError, CommandFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def blends(parameters: BlendParameters) -> dict[str, tuple[dict[str, float], float, float]]:
    """Weights, smoothing and spread by name of variant: the whole entry, without each of its parts, and each member alone.

    A member that is left out leaves its weight to the others; alone it is smoothed, and spread by nothing.

    Raises:
        ValueError: if the weights are not written down: learnt ones differ from farm to farm.
    """
    if parameters.weights is None:
        raise ValueError("the entry's weights are learnt, so that it has no parts that could be left out one by one")
    weights, smoothing, spread = dict(parameters.weights), parameters.smoothing, parameters.spread
    found = {ALL: (weights, smoothing, spread), "without_smoothing": (weights, 0.0, spread)}
    if spread != 1:
        found["without_spread"] = (weights, smoothing, 1.0)
    for name in weights:
        if others := {other: weight for other, weight in weights.items() if other != name}:
            found[f"without_{name}"] = (others, smoothing, spread)
    return found | {f"only_{name}": ({name: 1.0}, smoothing, 1.0) for name in weights}


def blended(
    forecasts: Mapping[str, Array],
    lead_minutes: Array,
    variant: tuple[Mapping[str, float], float, float],
    levels: Sequence[float],
) -> Array:
    """What a blend of these weights, this smoothing and this spread makes of what its members said, as `models.blend` does it."""
    weights, smoothing, spread = variant
    total = sum(weights.values())
    mean = sum(
        weight / total * (smoothed(forecasts[name], lead_minutes, smoothing) if smoothing else forecasts[name])
        for name, weight in weights.items()
    )
    return np.sort(np.clip(stretched(np.asarray(mean), np.full(len(levels), spread), levels), 0.0, 1.0), axis=1)


def _of_the_entry(when: Mapping[str, str], zones: Sequence[str] | None) -> pd.DataFrame:
    """One row per variant of `blends`: its scores over all farms and tasks, and how much worse than the entry it is."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    run(when | {"products": COMPETITION}, "--pipeline", "training", "--to-nodes", "backtest.assemble_model_input")
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        training = context.params["training"]
        levels = context.params["fleet"].product(COMPETITION).quantile_levels
        table = context.catalog.load("model_input").frame()
    table = table[(table["product_id"] == COMPETITION) & (True if zones is None else table["entity_id"].isin(zones))]
    entry = BlendParameters.model_validate(training.candidates[ENTRY[COMPETITION]].params)
    members = {name: ModelConfig.model_validate(member) for name, member in entry.members.items()}
    variants_of_entry = blends(entry)
    low, high = (int(np.argmin(np.abs(np.asarray(levels) - (0.5 + side * BAND / 2)))) for side in (-1, 1))
    rows = []
    for farm, own in table.groupby("entity_id"):
        print(f"{farm} ...", flush=True)
        for task in TASKS:
            start = pd.Timestamp(month_of(task).start_time, tz="UTC")
            # As `training.backtest_candidates` does it: what had arrived by then, and the issues of the month.
            past = known_at(own, start)
            ahead = own[(own["issued_at"] >= start) & (own["issued_at"] < start + pd.offsets.MonthBegin())]
            known, asked, came = feature_matrix(past), feature_matrix(ahead), ahead["power_share"].to_numpy()
            said = {
                name: build(name, config, levels, training.seed)
                .fit(known[config.columns_of(known.columns)], past["power_share"])
                .predict(asked)
                for name, config in members.items()
            }
            for name, variant in variants_of_entry.items():
                quantiles = blended(said, asked[LEAD].to_numpy(np.float64), variant, levels)
                inside = (quantiles[:, low] <= came) & (came <= quantiles[:, high])
                rows.append(
                    {
                        "variant": name,
                        "hours": len(came),
                        "pinball": pinball_loss(came, quantiles, levels).mean(axis=1).sum(),
                        "coverage_80": inside.sum(),
                        "width_80": (quantiles[:, high] - quantiles[:, low]).sum(),
                    }
                )
    sums = pd.DataFrame(rows).groupby("variant", sort=False).sum()
    means = sums.div(sums.pop("hours"), axis=0)
    means.insert(1, "worse", means["pinball"] / means.loc[ALL, "pinball"] - 1)
    digits = {"pinball": 5, "worse": 4, "coverage_80": 3, "width_80": 3}
    return means.reset_index().round(digits).assign(zones=table["entity_id"].nunique())


def _of_families(when: Mapping[str, str]) -> pd.DataFrame:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    parts = []
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        given: FeatureParameters = context.params["features"]
        candidates = list(context.params["training"].candidates)
        both = given.products[COMPETITION].families
        settings: dict[str, list[Family]] = {
            COMPETITION: both,
            OPERATIONAL: [family for family in given.products[OPERATIONAL].families if family not in both],
        }
        for product_id, judged in settings.items():
            families = given.products[product_id].families
            features = variants(families, judged)
            first = families.index(judged[0])
            if first:
                features["before"] = _without(families[first:])
            print(f"{len(features)} variants, {product_id} ...", flush=True)
            backtest(product_id, features, candidates, when)
            scores = context.catalog.load("backtest_scores")
            whole = (0, context.params["fleet"].product(product_id).horizon_minutes)
            pinball = {name: score_rows(scores, product_id, name, whole)["pinball"] for name in features}
            parts.append(table_of(pinball, judged, product_id, pinball.get("before")))
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    sys.exit(main())
