"""Whether a new farm is forecast better by a hand-over than by its own model alone: GEFCom2014 wind, farms left out in turn.

Three farms are left out at a time: they have no history but their last 14, 30 or 90 days, or all of it. The others are the
fleet that lends them its model, and on them alone it is learnt how much own history counts. Both are fitted as of the beginning
of a month with what was known then, and judged on it. Tasks 1 to 3 are for choosing; the bars are of tasks 4 to 9.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gefcom2014 import COMPETITION, ENVIRONMENT, RAW, bring_in, month_of, parse_tasks, run
from record import PROJECT, record
from wind_kedro.compute import Workers, map_farms
from wind_kedro.datasets import read_table
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Forecaster
from wind_kedro.models.ensembles.hand_over import FleetPart, HandOver, HandOverParameters, learn_from_fleet
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import feature_matrix, known_at
from wind_kedro.pipelines.training.fitting import attach_shared_models, fit_candidate, sample_of_farms

LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SEED = 20140101
#: Left out together, by turns from month to month. Zones 4 and 5 share their weather, and so do 7 and 8.
LEFT_OUT = (("zone_1", "zone_5", "zone_9"), ("zone_2", "zone_6", "zone_10"), ("zone_3", "zone_7", "zone_8"))
#: Days of own history; none: all there is.
HISTORIES: dict[str, int | None] = {"0": 0, "14": 14, "30": 30, "90": 90, "all": None}
#: By how much the mix is to be better than the own model alone. At full history: never worse.
BARS = {"14": 0.08, "30": 0.08, "90": 0.04, "all": 0.0}
FLEET_ROWS = 20_000
#: What a farm's own history says of its weather point, which a new farm does not have.
HIDDEN = "!best_point_*"
#: The own families: the default's, and two that are good with less history (measured on tasks 1 to 3).
OWN: dict[str, dict[str, Any]] = {
    "catboost": {
        "type": "catboost",
        "params": {
            "iterations": 60,
            "learning_rate": 0.12,
            "rsm": 0.3,
            "border_count": 32,
            "calibration_folds": 0,
        },
        "features": [HIDDEN],
    },
    "quantile_forest": {"type": "quantile_forest", "params": {"trees": 40}, "features": [HIDDEN]},
    "boosting": {"type": "boosting", "features": [HIDDEN]},
}
#: The one that a farm would have alone by default: against it are the bars.
DEFAULT = "catboost"
#: Of the fleet's the one that counts on tasks 1 to 3: beside it the others are not asked.
FLEET = {"fleet": OWN["quantile_forest"] | {"scope": "fleet"}}
#: No turbine type is published: the usual curve.
PHYSICAL: dict[str, Any] = {
    "type": "physical",
    "params": {"turbines": [{"rated_power_kw": 1000.0, "hub_height_m": 100.0, "count": 10}]},
}


def candidate() -> ModelConfig:
    """The hand-over from the fleet's forest and the turbines' curve to own models of several families."""
    members = {**OWN, **FLEET, "physical": PHYSICAL}
    settings = {"members": members, "lengths_days": [7, 14, 30, 60, 90, 180], "judged_farms": 2, "cuts": 1}
    return ModelConfig(type="hand_over", params=settings)


def fleet_part(config: ModelConfig, known: pd.DataFrame) -> FleetPart:
    """What the farms that are not left out lend, as `training` learns it."""
    farms = sorted(known["entity_id"].unique())
    drawn = np.random.default_rng(SEED).permutation(farms)[: config.params["judged_farms"]]
    judged: dict[str, Any] = {str(farm): (known[known["entity_id"] == farm], []) for farm in drawn}
    pool = sample_of_farms(known, FLEET_ROWS, SEED)
    parameters = HandOverParameters.model_validate(config.params)
    return learn_from_fleet(config.params["members"], pool, judged, LEVELS, SEED, parameters)


def loss(model: Forecaster, ahead: pd.DataFrame) -> float:
    """Mean pinball, share of capacity."""
    quantiles = model.predict(feature_matrix(ahead))
    return float(pinball_loss(ahead["power_share"].to_numpy(), quantiles, LEVELS).mean())


def judge_month(table: pd.DataFrame, task: int) -> list[dict[str, Any]]:
    """One row per farm left out, days of own history and family: pinball of the own model alone and of the mix."""
    began = time.process_time()
    start = pd.Timestamp(str(month_of(task)), tz="UTC")
    known = known_at(table, start)
    month = table[(table["issued_at"] >= start) & (table["issued_at"] < start + pd.offsets.MonthBegin())]
    left_out = LEFT_OUT[task % len(LEFT_OUT)]
    config = candidate()
    part = fleet_part(config, known[~known["entity_id"].isin(left_out)])
    rows = []
    for farm in left_out:
        ahead, history = month[month["entity_id"] == farm], known[known["entity_id"] == farm]
        for days, length in HISTORIES.items():
            since = start - pd.Timedelta(days=length) if length is not None else history["issued_at"].min()
            seen = history[history["issued_at"] >= since]
            mix = fit_candidate(seen, config, "mix", LEVELS, SEED, part.without_models())
            attach_shared_models(mix, part)
            own_weight = sum(mix.weights.get(family, 0.0) for family in OWN) if isinstance(mix, HandOver) else np.nan
            judged = {"mix": loss(mix, ahead), "physical": loss(_physical(), ahead), "own_weight": own_weight}
            for family in OWN:
                alone = _own_of(mix, family) or (_own_alone(seen, family) if len(seen) else None)
                row = {"task": task, "left_out": " ".join(left_out), "farm": farm, "own_model": family, "days": days}
                rows.append(row | judged | {"own": np.nan if alone is None else loss(alone, ahead)})
    print(f"task {task}: {time.process_time() - began:.0f} s of CPU", flush=True)
    return rows


def _own_of(mix: Forecaster, family: str) -> Forecaster | None:
    """The own model in the mix: fitted with the same rows and seed, it is the own model alone."""
    return mix.members.get(family) if isinstance(mix, HandOver) else None


def _own_alone(seen: pd.DataFrame, own: str) -> Forecaster:
    return fit_candidate(seen, ModelConfig.model_validate(OWN[own]), own, LEVELS, SEED)


def _physical() -> Forecaster:
    model = build("physical", ModelConfig.model_validate(PHYSICAL), LEVELS, SEED)
    return model.fit(pd.DataFrame({"wind_speed_100m_ms": pd.Series([], dtype=float)}), pd.Series([], dtype=float))


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per stage, family, farms left out (and of all) and days of own history: mean pinball and what the mix gains.

    ``stage`` is ``choosing`` (tasks 1 to 3) or ``judging`` (4 to 9).
    """
    staged = rows.assign(stage=np.where(rows["task"] <= 3, "choosing", "judging"))
    order = {days: number for number, days in enumerate(HISTORIES)}
    parts = []
    for keys in (["stage", "own_model", "left_out", "days"], ["stage", "own_model", "days"]):
        part = staged.groupby(keys, sort=False)[["own", "mix", "physical", "own_weight"]].mean().reset_index()
        parts.append(part if "left_out" in part else part.assign(left_out="all in turn"))
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(
        gain=1 - table["mix"] / table["own"],
        bar=table["days"].map(BARS).where(table["own_model"] == DEFAULT),
        order=table["days"].map(order),
    )
    table = table.sort_values(["stage", "own_model", "left_out", "order"], kind="stable")
    columns = ["stage", "own_model", "left_out", "days", "own", "mix", "gain", "bar", "physical", "own_weight"]
    return table[columns].round({"own": 5, "mix": 5, "gain": 4, "physical": 5, "own_weight": 3})


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that are missed: mean over all farms left out, in the months that are judged."""
    judged = table[(table["stage"] == "judging") & (table["left_out"] == "all in turn") & table["bar"].notna()]
    return [
        f"{row['own_model']}, {row['days']} days: {row['gain']:.1%} better, the bar is {row['bar']:.0%}"
        for row in judged.to_dict("records")
        if row["gain"] < row["bar"]
    ]


def main(words: list[str] | None = None) -> int:
    """Run the proof; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--tasks", default="1-9", help="which months, such as 1-3")
    parser.add_argument("--jobs", type=int, default=-1, help="how many months at once; -1: one a core")
    parser.add_argument("--model-input", type=Path, help="the environment's model_input, where it was made before")
    chosen = parser.parse_args(words)
    table = _model_input(chosen.data, chosen.model_input)
    tasks = {task: (table, task) for task in parse_tasks(chosen.tasks)}
    mapped = map_farms(judge_month, tasks, workers=Workers(jobs=chosen.jobs), label="months")
    if mapped.failures:
        print("; ".join(mapped.failures.values()), file=sys.stderr)
        return 2
    rows = [row for found in mapped.results.values() for row in found]
    summary = table_of(pd.DataFrame(rows))
    if set(parse_tasks(chosen.tasks)) >= set(range(1, 10)):
        record("proof-cold-start", summary)
    else:
        print(summary.to_string(index=False))
    wrong = missed(summary)
    print("\n".join(wrong) or "no bar is missed")
    return int(bool(wrong))


def _model_input(data: Path, made: Path | None) -> pd.DataFrame:
    if made is None:
        bring_in(data)
        as_of = str((month_of(9) + 1).start_time.date() + pd.Timedelta(days=1))
        when = {"as_of": as_of, "train_as_of": as_of}
        for room in ("data_engineering", "feature_engineering"):
            run(when, "--pipeline", room)
        run(when, "--pipeline", "training", "--to-nodes", "backtest.assemble_model_input")
        made = PROJECT / "data" / ENVIRONMENT / "05_model_input" / "model_input"
    table = read_table(made)
    table = table[table["product_id"] == COMPETITION]
    # The competition knows no production; the operator's columns are empty here.
    return table.dropna(axis="columns", how="all").sort_values(["issued_at", "valid_at"], kind="stable")


if __name__ == "__main__":
    sys.exit(main())
