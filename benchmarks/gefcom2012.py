"""GEFCom2012 wind: two days ahead from runs that overlap, at the issue times for which the competition asked for forecasts.

From 2011 on, 48 hours of every 84 were to be forecast (blanks). Candidates are fitted as of the beginning of each month with what
was known then, by the environment's own pipelines; each blank is forecast from what was known when it began. Nothing from inside
a blank is ever known, neither to features nor to training; the competition's entrants could also learn from hours after a blank.
Months before 2011 have no blanks: their issues continue the pattern backwards, and serve to choose settings.

Rows of ``gefcom2012.csv``: ``model, farm, lead, rmse, nmae, pinball, coverage_80, seconds``; ``lead`` is hours from the issue to
the start of the interval (``0-6``) or ``all``, ``farm`` a farm or ``all``, ``seconds`` those of the processor for a fit as of the
last month. Errors are of the number that the product sells, its mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench_start import CommandFailedError
from gefcom2014 import fingerprint, inputs_of_a_backtest, run
from record import PROJECT, RESULTS, record

ENVIRONMENT, PRODUCT = "gefcom2012", "blanks"
RAW = PROJECT / "data" / "01_raw" / ENVIRONMENT
STATE = PROJECT / "data" / ENVIRONMENT / "08_reporting" / "prepared.json"
PUBLISHED = Path(__file__).parent / "published" / "gefcom2012.csv"
#: From one blank to the next.
EVERY = pd.Timedelta(hours=84)
MONTHS = [f"2011-{month:02d}" for month in range(1, 13)]
METRICS = {"nrmse_share": "rmse", "nmae_share": "nmae", "pinball_share": "pinball", "coverage": "coverage_80"}
BAND = 0.8
#: Of the best candidate, all farms and lead times of the twelve months.
MAX_RMSE, MAX_PINBALL, COVERAGE = 0.149, 0.0345, (0.78, 0.82)


def bring_in(data: Path) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Put the competition's files where the environment reads them, power with the times at which it became known.

    The hours of blanks become known on the day after the last hour of the file.

    Returns:
        The issue time of the first blank, and when all hours are known.

    Raises:
        FileNotFoundError: if a file is missing.
    """
    found = {what: sorted(data.glob(f"{what}*.parquet")) for what in ("weather", "power")}
    for what, files in found.items():
        if len(files) != 1:
            raise FileNotFoundError(f"{data}: {len(files)} files {what}*.parquet, one is needed; see docs/how-to/run-gefcom.md")
    [weather], [power] = found["weather"], found["power"]
    RAW.mkdir(parents=True, exist_ok=True)
    table = pd.read_parquet(power)
    blank, end = table["usage"] == "blank", table["time"].max() + pd.Timedelta(days=1)
    if data.resolve() != RAW.resolve():
        for old in RAW.glob("*.parquet"):
            old.unlink()
        (RAW / weather.name).symlink_to(weather.resolve())
        table.assign(received_at=table["time"].mask(blank, end)).to_parquet(RAW / power.name, index=False)
    return table.loc[blank, "time"].min() - pd.Timedelta(hours=1), end


def issues_of(months: list[str], first: pd.Timestamp) -> pd.DatetimeIndex:
    """Issue times of blanks in months, and of the same pattern before the first blank."""
    begin, end = (pd.Timestamp(f"{month}-01", tz="UTC") for month in (min(months), max(months)))
    before = -((first - begin) // EVERY)
    issues = pd.date_range(first + before * EVERY, end + pd.offsets.MonthBegin(), freq=EVERY, inclusive="left")
    return issues[issues.strftime("%Y-%m").isin(months)]


def scores_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores by model, farm and lead time, and over all farms; a column a metric of `METRICS`."""
    own = scores[scores["metric"].isin(METRICS) & (scores["level"].isna() | ((scores["level"] - BAND).abs() < 1e-9))]
    own = own[own["level"].notna() == (own["metric"] == "coverage")]
    squared = own["metric"] == "nrmse_share"
    own = own.assign(
        lead=(own["lead_from_minutes"] // 60).astype(str) + "-" + (own["lead_to_minutes"] // 60).astype(str),
        total=own["n"] * own["value"].where(~squared, own["value"] ** 2),
    )
    whole = (own["lead_to_minutes"] - own["lead_from_minutes"]) == own["lead_to_minutes"].max()
    own.loc[whole, "lead"] = "all"
    every = pd.concat([own.rename(columns={"entity_id": "farm"}), own.assign(farm="all")])
    sums = every.groupby(["model", "farm", "lead", "metric"], sort=False)[["total", "n"]].sum()
    means = (sums["total"] / sums["n"]).unstack("metric").rename(columns=METRICS)
    return means.assign(rmse=np.sqrt(means["rmse"]))[list(METRICS.values())].reset_index()


def fit_seconds(table: pd.DataFrame, context: Any, month: str) -> pd.DataFrame:
    """Processor seconds of a fit of each candidate of a single farm, as of the beginning of a month; ``all``: the mean."""
    from wind_kedro.models.registry import build
    from wind_kedro.models.tables import feature_matrix, known_at
    from wind_kedro.pipelines.training.settings import Training

    training = Training.model_validate(context.params["training"])
    levels = context.params["fleet"].product(PRODUCT).quantile_levels
    known = known_at(table, pd.Timestamp(f"{month}-01", tz="UTC"))
    rows = []
    for farm, own in known.groupby("entity_id"):
        features = feature_matrix(own)
        for name, config in training.candidates.items():
            if config.is_for(PRODUCT) and config.fleet_members is None:
                columns = features[config.columns_of(features.columns)]
                began = time.process_time()
                build(name, config, levels, training.seed).fit(columns, own["power_share"])
                rows.append({"model": name, "farm": farm, "seconds": time.process_time() - began})
    found = pd.DataFrame(rows)
    mean = found.groupby("model", as_index=False)["seconds"].mean().assign(farm="all")
    return pd.concat([found, mean]).assign(lead="all")


def missed(table: pd.DataFrame) -> list[str]:
    """The bars that the best candidate misses, a line each."""
    overall = table[(table["farm"] == "all") & (table["lead"] == "all")].sort_values("rmse").iloc[0]
    judged = [
        (overall["rmse"] <= MAX_RMSE, f"RMSE {overall['rmse']:.4f}, bar {MAX_RMSE}"),
        (overall["pinball"] <= MAX_PINBALL, f"pinball {overall['pinball']:.5f}, bar {MAX_PINBALL}"),
        (
            COVERAGE[0] <= overall["coverage_80"] <= COVERAGE[1],
            f"coverage {overall['coverage_80']:.3f}, bar {COVERAGE[0]} to {COVERAGE[1]}",
        ),
    ]
    return [f"{overall['model']}: {line}" for met, line in judged if not met]


def main(words: list[str] | None = None) -> int:
    """Backtest, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--months", nargs="+", default=MONTHS, help="such as 2010-11 2010-12 (default: those of 2011)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gefcom2012.csv (default: %(default)s)")
    chosen = parser.parse_args(words)
    try:
        first, as_of = bring_in(chosen.data)
        table = _scored(sorted(chosen.months), first, as_of)
    except (FileNotFoundError, CommandFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    overall = table[(table["farm"] == "all") & (table["lead"] == "all")].sort_values("rmse")
    print("\nAll farms and lead times of " + ", ".join(sorted(chosen.months)))
    print(overall.drop(columns=["farm", "lead"]).to_string(index=False))
    by_farm = table[(table["lead"] == "all") & (table["model"] == overall["model"].iloc[0])]
    print(f"\n'{overall['model'].iloc[0]}' beside the winner's published RMSE over 2011-01 to 2012-06")
    print(by_farm.merge(pd.read_csv(PUBLISHED), on="farm", how="left").to_string(index=False))
    if sorted(chosen.months) != MONTHS:
        print("\nOther months than those of 2011: nothing is judged, nothing is written.")
        return 0
    record("gefcom2012", table, chosen.out)
    over = missed(table)
    print("MISSED: " + "; ".join(over) if over else "No bar is missed.")
    return 1 if over else 0


def _scored(months: list[str], first: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Prepare the features if they are not, backtest, score."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from wind_kedro.evaluation.scores import score_forecasts

    bootstrap_project(PROJECT)
    inputs = [path for path in inputs_of_a_backtest(ENVIRONMENT, RAW) if path.name != "parameters_training.yml"]
    key = fingerprint(inputs)
    when = dict.fromkeys(("as_of", "train_as_of"), f"{as_of:%Y-%m-%dT%H:%M}")
    if not STATE.is_file() or json.loads(STATE.read_text(encoding="utf-8"))["key"] != key:
        print("raw files to features ...", flush=True)
        for pipeline in ("data_engineering", "feature_engineering"):
            run(when, "--pipelines", pipeline, environment=ENVIRONMENT)
        STATE.parent.mkdir(parents=True, exist_ok=True)
        STATE.write_text(json.dumps({"key": key}), encoding="utf-8")
    print(f"backtest of {', '.join(months)} ...", flush=True)
    took = run(
        when | {"months": " ".join(months)},
        "--pipelines",
        "training",
        "--to-nodes",
        "backtest.score_backtest",
        environment=ENVIRONMENT,
    )
    print(f"the backtest took {took.seconds:.0f} s, at most {took.peak_mb:,.0f} MB", flush=True)
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        catalog, fleet = context.catalog, context.params["fleet"]
        forecasts, observations = (_frame(catalog.load(name)) for name in ("backtest_forecasts", "observations"))
        forecasts = forecasts[forecasts["issued_at"].isin(issues_of(months, first))]
        edges = context.params["scoring"]["lead_edges_minutes"]
        seconds = fit_seconds(_frame(catalog.load("model_input")), context, months[-1])
    table = scores_table(score_forecasts(forecasts, observations, fleet, edges))
    table = table.merge(seconds, on=["model", "farm", "lead"], how="left")
    return table.round({"rmse": 5, "nmae": 5, "pinball": 5, "coverage_80": 3, "seconds": 1})


def _frame(table: Any) -> pd.DataFrame:
    found: pd.DataFrame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    return found


if __name__ == "__main__":
    sys.exit(main())
