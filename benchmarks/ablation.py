"""What each family of features is worth: one candidate with all families, without each in turn, and with one more at a time.

On tasks 1 to 3 of GEFCom2014, where choices are made: later months are for judging. The families of the operator's setting alone
(production, errors) are measured there, the others in the competition's. All variants are replayed by one run of the training
pipeline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench_start import CommandFailedError
from gefcom2014 import COMPETITION, ENVIRONMENT, OPERATIONAL, RAW, bring_in, month_of, run, run_training, score_rows
from record import PROJECT, record
from wind_kedro.pipelines.feature_engineering.settings import COLUMNS_OF, Family, FeatureParameters

TASKS = (1, 2, 3)
ALL = "all"
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


def table_of(
    pinball: Mapping[str, float], judged: Sequence[Family], product_id: str, before: float | None
) -> pd.DataFrame:
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


def replay(
    product_id: str, features: Mapping[str, list[str]], candidates: Sequence[str], when: Mapping[str, str]
) -> None:
    """Replay the variants, and nothing else, of one product over the tasks."""
    others = {name: {"products": []} for name in candidates}
    ours = {name: CANDIDATE | {"features": patterns} for name, patterns in features.items()}
    training = {"products": [product_id], "candidates": others | ours}
    training |= {"replay": {"months": [str(month_of(task)) for task in TASKS]}}
    run_training({"training": training, **when}, to_nodes="score_replay")


def main(words: list[str] | None = None) -> int:
    """Replay, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    chosen = parser.parse_args(words)
    try:
        bring_in(chosen.data)
        table = _measured()
    except (FileNotFoundError, CommandFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        "\nPinball (share of capacity) of a quantile forest, mean of tasks 1 to 3: families added one by one, and left out\n"
    )
    record("ablation", table)
    return 0


def _measured() -> pd.DataFrame:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    as_of = str((month_of(TASKS[-1]) + 1).start_time.date() + pd.Timedelta(days=2))
    when = {"as_of": as_of, "train_as_of": as_of}
    for room in ("data_engineering", "feature_engineering"):
        print(f"{room} ...", flush=True)
        run(when, "--pipeline", room)
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
            replay(product_id, features, candidates, when)
            scores = context.catalog.load("replay_scores")
            whole = (0, context.params["fleet"].product(product_id).horizon_minutes)
            pinball = {name: score_rows(scores, product_id, name, whole)["pinball"] for name in features}
            parts.append(table_of(pinball, judged, product_id, pinball.get("before")))
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    sys.exit(main())
