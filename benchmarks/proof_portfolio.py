"""Is a portfolio more than the sum of its farms' quantiles? The ten zones of GEFCom2014 as one group, task by task.

Forecasts of the zones are a backtest of one quick candidate in the competition's setting. Three are compared: the sum
of its zones' quantiles; the sum of medians with the spread narrowed by how errors are taken to correlate; and what would
have been issued: that, corrected as of each issue by the group's own errors of the days before. `calibration` in
`parameters_calibration.yml` was chosen on tasks 1 to 3; they stand before the tasks judged, as their errors' history.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from bench_start import CommandFailedError
from gefcom2014 import (
    COMPETITION,
    COVERAGE,
    ENVIRONMENT,
    RAW,
    bring_in,
    month_of,
    parse_tasks,
    run,
    run_training,
    score_rows,
)
from record import PROJECT, record
from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import frame_of
from wind_kedro.evaluation.scores import score_forecasts
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.portfolios import add_portfolios
from wind_kedro.postprocessing.settings import Calibration, Portfolios

#: So many months before the first task judged are backtested too: a history of errors.
MONTHS_BEFORE = 3
#: Quick, and not our entry: what is shown is what a portfolio is worth, not how good its farms' forecasts are.
CANDIDATE: dict[str, Any] = {
    "type": "blend",
    "params": {
        "folds": 0,
        "spread": 1.06,
        "members": {
            "quantile_forest": {"type": "quantile_forest", "params": {"trees": 40}},
            "boosting": {"type": "boosting", "params": {"rounds": 80, "learning_rate": 0.1}},
        },
    },
}
GROUP = "all_zones"
SUMMED, NARROWED, RECALIBRATED = "summed", "narrowed", "recalibrated"
MIN_GAIN = 0.06


def of_the_group(forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, calibration: Calibration) -> pd.DataFrame:
    """The group's forecasts, each of the three under its name as model."""

    def sums(correlation: float) -> pd.DataFrame:
        rules = calibration.portfolios.model_copy(update={"error_correlation": correlation})
        rows = add_portfolios(forecasts, fleet, Portfolios.model_validate(rules.model_dump()))
        return rows[rows["entity_id"] == GROUP]

    # Errors that are the same everywhere are those whose quantiles add up.
    summed, narrowed = sums(1.0), sums(calibration.portfolios.error_correlation)
    issued = calibrated(narrowed, narrowed, observations, fleet, calibration)
    return pd.concat(
        [table.assign(model=name) for name, table in ((SUMMED, summed), (NARROWED, narrowed), (RECALIBRATED, issued))]
    )


def table_of(group: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, tasks: list[int]) -> pd.DataFrame:
    """One row per task, and their mean: pinball of the three as a share of capacity, and what the last is worth."""
    rows = []
    for task in tasks:
        month = month_of(task)
        own = group[group["issued_at"].dt.tz_convert(None).dt.to_period("M") == month]
        scores = score_forecasts(own, observations, fleet, [])
        whole = (0, fleet.product(COMPETITION).horizon_minutes)
        found = {name: score_rows(scores, COMPETITION, name, whole) for name in (SUMMED, NARROWED, RECALIBRATED)}
        rows.append(
            {
                "task": str(task),
                **{f"{name}_pinball": found[name]["pinball"] for name in found},
                "summed_coverage_80": found[SUMMED]["coverage_80"],
                "summed_width_80": found[SUMMED]["width_80"],
                "coverage_80": found[RECALIBRATED]["coverage_80"],
                "width_80": found[RECALIBRATED]["width_80"],
            }
        )
    table = pd.DataFrame(rows)
    mean = table.drop(columns="task").mean()
    table = pd.concat([table, pd.DataFrame([{"task": "mean", **mean}])], ignore_index=True)
    table.insert(4, "gain", 1 - table["recalibrated_pinball"] / table["summed_pinball"])
    digits = {name: 5 if name.endswith("pinball") else 4 for name in table.columns if name != "task"}
    return table.round(digits)


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that are missed, a line each."""
    mean = table.set_index("task").loc["mean"]
    judged = [
        (mean["gain"] >= MIN_GAIN, f"gain {mean['gain']:.1%}, bar {MIN_GAIN:.0%}"),
        (
            COVERAGE[0] <= mean["coverage_80"] <= COVERAGE[1],
            f"mean coverage {mean['coverage_80']:.3f}, bar {COVERAGE[0]} to {COVERAGE[1]}",
        ),
    ]
    return [line for met, line in judged if not met]


def backtest(tasks: list[int], when: dict[str, str], candidates: list[str]) -> None:
    """Backtest the quick candidate over the months of the tasks and those before."""
    months = [str(month_of(tasks[0] - MONTHS_BEFORE + number)) for number in range(MONTHS_BEFORE + len(tasks))]
    training = {
        "products": [COMPETITION],
        "backtest": {"months": months},
        "candidates": {name: {"products": []} for name in candidates} | {"quick": CANDIDATE},
    }
    run_training({"training": training, **when}, to_nodes="backtest.backtest_candidates")


def main(words: list[str] | None = None) -> int:
    """Backtest, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--tasks", type=parse_tasks, default=parse_tasks("4-9"), help="such as 4-9")
    parser.add_argument("--backtest", type=Path, help="a table of forecasts of the zones that was made before, of one candidate")
    parser.add_argument("--features", choices=["make", "keep"], default="make", help="keep: those that lie there")
    chosen = parser.parse_args(words)
    try:
        bring_in(chosen.data)
        table = _measured(chosen.tasks, chosen.backtest, make=chosen.features == "make")
    except (FileNotFoundError, CommandFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\nTen zones as one group: pinball of 99 quantiles, a share of capacity\n")
    record("proof-portfolio", table)
    over = missed(table)
    print("MISSED: " + "; ".join(over) if over else "No bar is missed.")
    return 1 if over else 0


def _measured(tasks: list[int], backtested: Path | None, *, make: bool) -> pd.DataFrame:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    as_of = str((month_of(tasks[-1]) + 1).start_time.date() + pd.Timedelta(days=2))
    when = {"as_of": as_of, "train_as_of": as_of}
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        for room in ("data_engineering", "feature_engineering") if make else ():
            print(f"{room} ...", flush=True)
            run(when, "--pipeline", room)
        if backtested is None:
            print("backtest ...", flush=True)
            backtest(tasks, when, list(context.params["training"].candidates))
        forecasts = (
            frame_of(context.catalog.load("backtest_model_forecasts")) if backtested is None else pd.read_parquet(backtested)
        )
        forecasts = forecasts.drop(columns="fold_begin", errors="ignore")
        observations = frame_of(context.catalog.load("observations"))
        cards: Fleet = context.params["fleet"]
        calibration: Calibration = context.params["calibration"]
    sold = cards.product(COMPETITION)
    fleet = cards.model_copy(update={"products": [sold.model_copy(update={"members": [*sold.members, GROUP]})]})
    group = of_the_group(forecasts[forecasts["product_id"] == COMPETITION], observations, fleet, calibration)
    return table_of(group, observations, fleet, tasks)


if __name__ == "__main__":
    sys.exit(main())
