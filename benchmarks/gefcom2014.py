"""GEFCom2014 wind, task by task, by the environment's own pipelines; our scores beside the published ones.

Task k is the k-th month after September 2012: candidates are fitted with what came before the month, and forecast its days.
The official score is the mean quantile loss over 99 quantiles, hours and farms, as a share of capacity. Beside the
competition's setting stands an operator's: the run as it is delivered, production known at issue.

A task that was backtested before with the same data, configuration and code is read, not backtested again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench_start import CommandFailedError, Measured, measure
from record import PROJECT, record

ENVIRONMENT = "gefcom2014"
#: Where the environment reads the competition's files.
RAW = PROJECT / "data" / "01_raw" / "gefcom2014"
#: What is kept of tasks that are done.
DONE = PROJECT / "data" / "gefcom2014" / "08_reporting" / "tasks"
PUBLISHED = Path(__file__).parent / "published" / "gefcom2014.csv"
#: Task k is the k-th month after this one.
BEFORE_THE_FIRST = pd.Period("2012-09", "M")
COMPETITION, OPERATIONAL = "competition", "operational"
#: The candidate that is our entry, of each product. Chosen on tasks 1 to 3.
ENTRY = {COMPETITION: "blend", OPERATIONAL: "blend"}
#: The hours that the operational product forecasts, as a bucket of the competition's lead times, minutes.
OPERATIONAL_BUCKET = (420, 1440)
BAND = 0.8
#: What the backtest of the six tasks that the bars are of may cost: minutes, and MB; and what it is to reach.
JUDGED = [4, 5, 6, 7, 8, 9]
MAX_MINUTES, MAX_MB = 60, 6000
MAX_PINBALL, COVERAGE = 0.0355, (0.78, 0.82)


def parse_tasks(text: str) -> list[int]:
    """``4-9``, ``4,6`` or both: the tasks, rising.

    Raises:
        ValueError: if it is neither, or a task is none of 1 to 15.
    """
    tasks: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        tasks |= set(range(int(first), int(last or first) + 1))
    if not tasks or min(tasks) < 1 or max(tasks) > 15:
        raise ValueError(f"tasks are 1 to 15, such as 4-9, not '{text}'")
    return sorted(tasks)


def month_of(task: int) -> pd.Period:
    """The month that a task forecasts."""
    return BEFORE_THE_FIRST + task


def bring_in(data: Path) -> list[Path]:
    """Put the competition's files where the environment reads them: links, so that nothing is held twice.

    Returns:
        The files, as they stand there.

    Raises:
        FileNotFoundError: if there is none.
    """
    files = sorted(data.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{data}: no Parquet file; docs/how-to/run-gefcom2014.md says which it is to hold")
    RAW.mkdir(parents=True, exist_ok=True)
    if data.resolve() != RAW.resolve():
        for old in RAW.glob("*.parquet"):
            old.unlink()
        for file in files:
            (RAW / file.name).symlink_to(file.resolve())
    return sorted(RAW.glob("*.parquet"))


def fingerprint(paths: Iterable[Path]) -> str:
    """Of the contents of files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def inputs_of_a_backtest(environment: str = ENVIRONMENT, raw: Path = RAW) -> list[Path]:
    """What a backtest follows from: data, configuration, code and locked libraries."""
    configuration = [PROJECT / "conf" / name for name in ("base", environment)]
    found = [path for folder in configuration for path in folder.rglob("*.yml")]
    code = PROJECT / "src" / "wind_kedro"
    found += [path for path in code.rglob("*.py") if path.relative_to(code).parts[0] != "cli"]
    return [*found, PROJECT / "requirements.lock", *raw.glob("*.parquet")]


def run(params: Mapping[str, str], *words: str, environment: str = ENVIRONMENT) -> Measured:
    """``kedro run`` in a process of its own, with what it took."""
    kedro = Path(sys.executable).with_name("kedro")
    given = ",".join(f"{name}={value}" for name, value in params.items())
    return measure([str(kedro), "run", "--env", environment, *words, "--params", given], PROJECT, dict(os.environ))


def run_training(params: Mapping[str, Any], to_nodes: str) -> Measured:
    """``kedro run`` of the training pipeline up to a node, with parameters too deep for the command line."""
    asked = {"env": ENVIRONMENT, "pipeline": "training", "to_nodes": to_nodes, "params": dict(params)}
    with tempfile.TemporaryDirectory(prefix="wind-kedro-training-") as folder:
        path = Path(folder) / "run.yml"
        path.write_text(yaml.safe_dump({"run": asked}), encoding="utf-8")
        kedro = Path(sys.executable).with_name("kedro")
        return measure([str(kedro), "run", "--config", str(path)], PROJECT, dict(os.environ))


def score_rows(scores: pd.DataFrame, product_id: str, model: str, bucket: tuple[int, int]) -> dict[str, float]:
    """Pinball, nMAE, coverage and width of a candidate over all farms, weighted by their hours.

    Raises:
        KeyError: if it was not scored.
    """
    own = scores[
        (scores["product_id"] == product_id)
        & (scores["model"] == model)
        & (scores["lead_from_minutes"] == bucket[0])
        & (scores["lead_to_minutes"] == bucket[1])
    ]
    wanted = {"pinball": "pinball_share", "nmae": "nmae_share", "coverage_80": "coverage", "width_80": "width_share"}
    found = {}
    for name, metric in wanted.items():
        level = own["level"].isna() if metric in {"pinball_share", "nmae_share"} else (own["level"] - BAND).abs() < 1e-9
        rows = own[(own["metric"] == metric) & level]
        if rows.empty:
            raise KeyError(f"'{model}' of '{product_id}' has no {metric} in the backtest's scores")
        found[name] = float((rows["value"] * rows["n"]).sum() / rows["n"].sum())
    return found


def backtest(task: int, product_id: str, as_of: str, context: Any, key: str) -> dict[str, Any]:
    """Scores of every candidate in a task, and what the backtest took; from the last time if nothing has changed."""
    path = DONE / f"{product_id}-{task}.json"
    if path.is_file() and (kept := json.loads(path.read_text(encoding="utf-8")))["key"] == key:
        return dict(kept)
    print(f"task {task} ({month_of(task)}), {product_id} ...", flush=True)
    # All of it is measured: folds of an earlier version are not kept.
    shutil.rmtree(context.catalog["backtest_model_forecasts"].location, ignore_errors=True)
    params = {"months": str(month_of(task)), "products": product_id, "as_of": as_of, "train_as_of": as_of}
    took = run(params, "--pipeline", "training", "--to-nodes", "backtest.score_backtest")
    scores = context.catalog.load("backtest_scores")
    buckets = {"all": (0, context.params["fleet"].product(product_id).horizon_minutes)}
    if product_id == COMPETITION:
        buckets["operational_hours"] = OPERATIONAL_BUCKET
    found = {
        "key": key,
        "seconds": took.seconds,
        "peak_mb": took.peak_mb,
        "scores": {
            name: {model: score_rows(scores, product_id, model, bucket) for model in sorted(scores["model"].unique())}
            for name, bucket in buckets.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def competition_table(backtests: Mapping[int, Mapping[str, Any]], published: pd.DataFrame, entry: str) -> pd.DataFrame:
    """One row per task: our entry, the winner, the competition's benchmark; missing where not published."""
    rows = []
    for task, found in backtests.items():
        own = found["scores"]["all"][entry]
        known = published.loc[published["task"] == task, ["winner", "benchmark"]]
        winner, benchmark = known.iloc[0] if len(known) else (float("nan"), float("nan"))
        rows.append(
            {
                "task": task,
                "pinball": own["pinball"],
                "winner": winner,
                "benchmark": benchmark,
                "nmae": own["nmae"],
                "coverage_80": own["coverage_80"],
                "width_80": own["width_80"],
                "seconds": found["seconds"],
            }
        )
    return pd.DataFrame(rows).round({"pinball": 5, "nmae": 4, "coverage_80": 3, "width_80": 3, "seconds": 1})


def operational_table(
    operational: Mapping[int, Mapping[str, Any]],
    competition: Mapping[int, Mapping[str, Any]],
    entries: Mapping[str, str],
) -> pd.DataFrame:
    """One row per task: the operator's forecast, and the competition's on the same hours; missing where not backtested."""

    def same_hours(task: int) -> float:
        if task not in competition:
            return float("nan")
        return float(competition[task]["scores"]["operational_hours"][entries[COMPETITION]]["pinball"])

    rows = [
        {
            "task": task,
            **found["scores"]["all"][entries[OPERATIONAL]],
            "competition_pinball": same_hours(task),
            "seconds": found["seconds"],
        }
        for task, found in operational.items()
    ]
    order = ["task", "pinball", "competition_pinball", "nmae", "coverage_80", "width_80", "seconds"]
    decimals = {"pinball": 5, "competition_pinball": 5, "nmae": 4, "coverage_80": 3, "width_80": 3, "seconds": 1}
    return pd.DataFrame(rows)[order].round(decimals)


def missed(table: pd.DataFrame, minutes: float, peak_mb: float) -> list[str]:
    """The bars that are missed by the tasks `JUDGED`, a line each."""
    pinball, coverage = table["pinball"].mean(), table["coverage_80"].mean()
    judged = [
        (pinball <= MAX_PINBALL, f"mean pinball {pinball:.5f}, bar {MAX_PINBALL}"),
        (COVERAGE[0] <= coverage <= COVERAGE[1], f"mean coverage {coverage:.3f}, bar {COVERAGE[0]} to {COVERAGE[1]}"),
        (minutes <= MAX_MINUTES, f"{minutes:.1f} min, bar {MAX_MINUTES}"),
        (peak_mb <= MAX_MB, f"{peak_mb:,.0f} MB, bar {MAX_MB:,}"),
    ]
    return [line for met, line in judged if not met]


def candidates_table(backtests: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Pinball of every candidate, a column a task, and their mean."""
    by_task = {
        task: {model: own["pinball"] for model, own in found["scores"]["all"].items()} for task, found in backtests.items()
    }
    table = pd.DataFrame(by_task)
    return table.assign(mean=table.mean(axis=1)).sort_values("mean").round(5)


def main(words: list[str] | None = None) -> int:
    """Backtest, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--tasks", type=parse_tasks, default=parse_tasks("4-9"), help="such as 4-9")
    parser.add_argument("--settings", default=f"{COMPETITION},{OPERATIONAL}", help="which of the two settings")
    chosen = parser.parse_args(words)
    settings = chosen.settings.split(",")
    try:
        bring_in(chosen.data)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    begin = time.perf_counter()
    # Two days after the last of the months: then all of it is known.
    as_of = str((month_of(chosen.tasks[-1]) + 1).start_time.date() + pd.Timedelta(days=2))
    try:
        done, prepared = _backtest_all(chosen.tasks, settings, as_of)
    except CommandFailedError as error:
        print(error, file=sys.stderr)
        return 2
    table = _show(done, settings)
    peak = max([prepared["peak_mb"], *(found["peak_mb"] for backtests in done.values() for found in backtests.values())])
    minutes = (prepared["seconds"] + sum(found["seconds"] for found in done.get(COMPETITION, {}).values())) / 60
    print(
        f"\nRaw files to features {prepared['seconds']:.0f} s; with the backtest of the competition {minutes:.1f} min "
        f"(bar {MAX_MINUTES}), at most {peak:,.0f} MB (bar {MAX_MB:,}); this call took {time.perf_counter() - begin:.0f} s."
    )
    if table is None or table["task"].tolist() != JUDGED:
        print("Nothing is judged: the bars are of the competition's tasks 4 to 9.")
        return 0
    over = missed(table, minutes, peak)
    print("MISSED: " + "; ".join(over) if over else "No bar is missed.")
    return 1 if over else 0


def _backtest_all(
    tasks: list[int], settings: list[str], as_of: str
) -> tuple[dict[str, dict[int, dict[str, Any]]], dict[str, Any]]:
    """Backtests by setting and task, and what preparing the features took."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    key = fingerprint(inputs_of_a_backtest())
    state = DONE / "prepared.json"
    prepared = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        waiting = [
            (product_id, task)
            for product_id in settings
            for task in tasks
            if not (path := DONE / f"{product_id}-{task}.json").is_file()
            or json.loads(path.read_text(encoding="utf-8"))["key"] != key
        ]
        if waiting and (prepared.get("key"), prepared.get("as_of")) != (key, as_of):
            print("raw files to features ...", flush=True)
            when = {"as_of": as_of, "train_as_of": as_of}
            took = [run(when, "--pipeline", room) for room in ("data_engineering", "feature_engineering")]
            prepared = {
                "key": key,
                "as_of": as_of,
                "seconds": sum(one.seconds for one in took),
                "peak_mb": max(one.peak_mb for one in took),
            }
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(json.dumps(prepared, indent=2), encoding="utf-8")
        done = {product_id: {task: backtest(task, product_id, as_of, context, key) for task in tasks} for product_id in settings}
    return done, prepared


def _show(done: Mapping[str, Mapping[int, Mapping[str, Any]]], settings: list[str]) -> pd.DataFrame | None:
    published = pd.read_csv(PUBLISHED)
    table = None
    if COMPETITION in settings:
        table = competition_table(done[COMPETITION], published, ENTRY[COMPETITION])
        print(f"\nPinball (share of capacity) of every candidate, by task\n{candidates_table(done[COMPETITION]).to_string()}")
        print(f"\nThe competition: our entry '{ENTRY[COMPETITION]}' beside the published scores")
        record("gefcom2014", table, key=["task"])
        if unpublished := table.loc[table["winner"].isna(), "task"].tolist():
            print(f"Tasks {', '.join(map(str, unpublished))}: the scores of winner and benchmark are not known here.")
        means = table[["pinball", "winner", "benchmark", "nmae", "coverage_80", "width_80"]].mean()
        print("\nmean over tasks: " + ", ".join(f"{name} {value:.5f}" for name, value in means.items()))
    if OPERATIONAL in settings:
        print(f"\nAn operator's rest of the day: '{ENTRY[OPERATIONAL]}', beside the competition's on the same hours")
        record("gefcom2014-operational", operational_table(done[OPERATIONAL], done.get(COMPETITION, {}), ENTRY), key=["task"])
    return table


if __name__ == "__main__":
    sys.exit(main())
