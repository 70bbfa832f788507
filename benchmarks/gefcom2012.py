"""GEFCom2012 wind: two days ahead from runs that overlap, at the issue times for which the competition asked for forecasts.

From 2011 on, 48 hours of every 84 were to be forecast (blanks). Candidates are fitted as of the beginning of each month with what
was known then, by the environment's own pipelines; each blank is forecast from what was known when it began. Nothing from inside
a blank is ever known, neither to features nor to training; the competition's entrants could also learn from hours after a blank.
Months before 2011 have no blanks: their issues continue the pattern backwards, and serve to choose settings.

Rows of ``gefcom2012.csv``: ``model, farm, lead, rmse, nmae, pinball, coverage_80, seconds``; ``lead`` is hours from the issue to
the start of the interval (``0-6``) or ``all``, ``farm`` a farm or ``all``, ``seconds`` those of the processor for a fit of the
first farm as of the last month. Errors are of the number that the product sells, its mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
#: Whose fit is timed.
FITTED = "farm_1"
#: In which settings are chosen.
CHOSEN_ON = ("2010-07", "2010-11")
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
            raise FileNotFoundError(
                f"{data}: {len(files)} files {what}*.parquet, one is needed; see docs/how-to/run-gefcom2012.md"
            )
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
    """Processor seconds of a fit of each candidate, of the farm `FITTED` as of the beginning of a month."""
    from wind_kedro.models.registry import build
    from wind_kedro.models.tables import feature_matrix, known_at

    training = context.params["training"]
    levels = context.params["fleet"].product(PRODUCT).quantile_levels
    known = known_at(table[table["entity_id"] == FITTED], pd.Timestamp(f"{month}-01", tz="UTC"))
    features, rows = feature_matrix(known), []
    for name, config in training.candidates.items():
        if config.is_for(PRODUCT) and config.fleet_members is None:
            columns = features[config.columns_of(features.columns)]
            began = time.process_time()
            build(name, config, levels, training.seed).fit(columns, known["power_share"])
            rows.append({"model": name, "farm": FITTED, "lead": "all", "seconds": time.process_time() - began})
    return pd.DataFrame(rows)


def ablation(table: pd.DataFrame, context: Any) -> pd.DataFrame:
    """Scores in `CHOSEN_ON`, all issues and farms: of each member alone and of the blend; of its boosting without each family.

    Columns: ``variant``, ``rmse``, ``pinball``, ``coverage_80``, and ``seconds`` of the processor for a fit.
    """
    from wind_kedro.models.registry import ModelConfig
    from wind_kedro.models.tables import feature_matrix
    from wind_kedro.pipelines.feature_engineering.settings import ALWAYS, family_of

    training = context.params["training"]
    product = context.params["fleet"].product(PRODUCT)
    blend = training.candidates["blend"]
    members = {name: ModelConfig.model_validate(config) for name, config in blend.params["members"].items()}
    columns = list(feature_matrix(table).columns)
    variants = {name: (config, columns) for name, config in {**members, "catboost": training.candidates["catboost"]}.items()}
    variants["blend"] = (blend, columns)
    own = {name: family_of(name) for name in columns if name not in ALWAYS and name != "lead_minutes"}
    for family in dict.fromkeys(own.values()):
        variants[f"boosting without {family}"] = (members["boosting"], [name for name in columns if own.get(name) != family])
    rows = []
    for name, (config, seen) in variants.items():
        rows.append({"variant": name} | _judged(table, config, seen, product, training.seed))
        print(rows[-1], flush=True)
    return pd.DataFrame(rows).round({"rmse": 5, "pinball": 5, "coverage_80": 3, "seconds": 1})


def _judged(table: pd.DataFrame, config: Any, columns: list[str], product: Any, seed: int) -> dict[str, float]:
    from wind_kedro.evaluation.scores import inside_band, pinball_loss
    from wind_kedro.models.registry import build
    from wind_kedro.models.tables import known_at

    levels, quantiles, actual, seconds = product.quantile_levels, [], [], []
    for _, own in table.groupby("entity_id"):
        for month in CHOSEN_ON:
            begin = pd.Timestamp(f"{month}-01", tz="UTC")
            known = known_at(own, begin)
            ahead = own[(own["issued_at"] >= begin) & (own["issued_at"] < begin + pd.offsets.MonthBegin())]
            began = time.process_time()
            model = build("ablation", config, levels, seed).fit(known[columns], known["power_share"])
            seconds.append(time.process_time() - began)
            # A blend that smooths over neighbouring intervals needs the times.
            quantiles.append(model.predict(ahead[[*columns, "issued_at", "valid_at"]]))
            actual.append(ahead["power_share"].to_numpy(float))
    found, observed = np.concatenate(quantiles), np.concatenate(actual)
    lower, upper = (found[:, levels.index(level)] for level in ((1 - BAND) / 2, (1 + BAND) / 2))
    return {
        "rmse": float(np.sqrt(((product.point_of(found) - observed) ** 2).mean())),
        "pinball": float(pinball_loss(observed, found, levels).mean()),
        "coverage_80": float(inside_band(observed, lower, upper).mean()),
        "seconds": float(np.mean(seconds)),
    }


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
    parser.add_argument("--ablation", action="store_true", help="instead: leave families and members out, in 2010")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gefcom2012.csv (default: %(default)s)")
    chosen = parser.parse_args(words)
    try:
        first, as_of = bring_in(chosen.data)
        _prepare(as_of)
        if chosen.ablation:
            with _context() as context:
                record("gefcom2012-ablation", ablation(_frame(context.catalog.load("model_input")), context), chosen.out)
            return 0
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


def _when(known_at: pd.Timestamp) -> dict[str, str]:
    """Parameters of a run as of the first issue after all hours are known: training sees what came before the newest issue."""
    return dict.fromkeys(("as_of", "train_as_of"), f"{known_at.ceil('12h'):%Y-%m-%dT%H:%M}")


def _prepare(as_of: pd.Timestamp) -> None:
    """Raw files to model input, unless that was done with the same data, configuration and code."""
    inputs = [path for path in inputs_of_a_backtest(ENVIRONMENT, RAW) if path.name != "parameters_training.yml"]
    key = fingerprint(inputs)
    if STATE.is_file() and json.loads(STATE.read_text(encoding="utf-8"))["key"] == key:
        return
    print("raw files to model input ...", flush=True)
    for words in (["data_engineering"], ["feature_engineering"], ["training", "--to-nodes", "backtest.assemble_model_input"]):
        run(_when(as_of), "--pipelines", *words, environment=ENVIRONMENT)
    STATE.parent.mkdir(parents=True, exist_ok=True)
    STATE.write_text(json.dumps({"key": key}), encoding="utf-8")


@contextmanager
def _context() -> Iterator[Any]:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        yield session.load_context()


def _scored(months: list[str], first: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Backtest, and score."""
    from wind_kedro.evaluation.scores import score_forecasts

    print(f"backtest of {', '.join(months)} ...", flush=True)
    asked = _when(as_of) | {"months": " ".join(months)}
    took = run(asked, "--pipelines", "training", "--to-nodes", "backtest.score_backtest", environment=ENVIRONMENT)
    print(f"the backtest took {took.seconds:.0f} s, at most {took.peak_mb:,.0f} MB", flush=True)
    with _context() as context:
        forecasts, observations = (_frame(context.catalog.load(name)) for name in ("backtest_forecasts", "observations"))
        forecasts = forecasts[forecasts["issued_at"].isin(issues_of(months, first))]
        if forecasts.empty:
            raise CommandFailedError(f"no issue at which a blank begins was forecast in {', '.join(months)}")
        edges = context.params["scoring"].lead_edges_minutes
        seconds = fit_seconds(_frame(context.catalog.load("model_input")), context, months[-1])
        table = scores_table(score_forecasts(forecasts, observations, context.params["fleet"], edges))
    table = table.merge(seconds, on=["model", "farm", "lead"], how="left")
    return table.round({"rmse": 5, "nmae": 5, "pinball": 5, "coverage_80": 3, "seconds": 1})


def _frame(table: Any) -> pd.DataFrame:
    found: pd.DataFrame = table if isinstance(table, pd.DataFrame) else table.frame()
    return found


if __name__ == "__main__":
    sys.exit(main())
