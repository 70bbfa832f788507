"""Our entry beside OpenSTEF, on the same rows: three zones of GEFCom2014, May and June 2013, nine quantiles, in operation.

Both learn as of the beginning of each month and are asked at 07:00 for the rest of the day, with production known until then.
OpenSTEF runs in a Python of its own (3.12 with `openstef-models[lgbm,xgb-cpu]`), its preset with its defaults: once with the
weather of the farm's own point, once with all the weather that ours is given too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bench_start import CommandFailedError
from gefcom2014 import BAND, COMPETITION, ENTRY, ENVIRONMENT, OPERATIONAL, RAW, bring_in, month_of, run
from record import PROJECT, record
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.base import Array
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import NOT_FEATURES, feature_matrix, known_at

ZONES, TASKS = ("zone_1", "zone_5", "zone_9"), (8, 9)
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
#: By how much ours is to be better than the best of theirs, share of pinball.
BAR = 0.12
OURS = "ours"
#: Their preset that is best on this data, and what of the weather it is given, as patterns of columns.
MODEL = "lgbm"
OWN_POINT = "^wind_(speed|u|v)_(10|100)m_ms$"
THEIRS = {"openstef_own_point": OWN_POINT, "openstef_all_weather": "wind_|^fleet_"}


def main(words: list[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--python", required=True, help="a Python that has openstef-models[lgbm,xgb-cpu]")
    chosen = parser.parse_args(words)
    try:
        bring_in(chosen.data)
        table, seed, entry = _prepared()
    except (FileNotFoundError, CommandFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    asked = table[(table["product_id"] == OPERATIONAL) & table["month"].isin([str(month_of(task)) for task in TASKS])]
    said = {OURS: _ours(table[table["product_id"] == OPERATIONAL], asked, entry, seed)}
    for name, pattern in THEIRS.items():
        print(f"{name} ...", flush=True)
        said[name] = _theirs(table[table["product_id"] == COMPETITION], asked, pattern, chosen.python)
    found = scores(asked, said)
    record("openstef", found)
    best = found.loc[found["forecast"] != OURS, "pinball"].min()
    better = 1 - found.loc[found["forecast"] == OURS, "pinball"].iloc[0] / best
    print(f"\nOurs is {better:.1%} better than the best of theirs (bar {BAR:.0%}).")
    return int(better < BAR)


def scores(asked: pd.DataFrame, said: dict[str, tuple[Array, float]]) -> pd.DataFrame:
    """One row per forecast: its scores over those of the asked rows that every forecast answers.

    Args:
        asked: rows of `contracts.ModelInput`.
        said: quantiles of these rows, not-a-number where nothing was said, and the seconds of a fit.
    """
    there = np.all([np.isfinite(quantiles).all(axis=1) for quantiles, _ in said.values()], axis=0)
    came = asked["power_share"].to_numpy(np.float64)[there]
    low, middle, high = (LEVELS.index(round(0.5 + side * BAND / 2, 9)) for side in (-1, 0, 1))
    rows = []
    for name, (quantiles, seconds) in said.items():
        own = quantiles[there]
        inside = (own[:, low] <= came) & (came <= own[:, high])
        rows.append(
            {
                "forecast": name,
                "pinball": pinball_loss(came, own, LEVELS).mean(),
                "nmae": np.abs(came - own[:, middle]).mean(),
                "coverage_80": inside.mean(),
                "width_80": (own[:, high] - own[:, low]).mean(),
                "fit_seconds": seconds,
                "hours": int(there.sum()),
                "hours_asked": len(asked),
            }
        )
    digits = {"pinball": 5, "nmae": 4, "coverage_80": 3, "width_80": 3, "fit_seconds": 1}
    return pd.DataFrame(rows).round(digits)


def _prepared() -> tuple[pd.DataFrame, int, ModelConfig]:
    """Model input of the zones in both settings with the month of each issue, our seed, and our entry."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    as_of = str((month_of(TASKS[-1]) + 1).start_time.date() + pd.Timedelta(days=2))
    when = {"as_of": as_of, "train_as_of": as_of}
    for pipeline in (
        ["data_engineering"],
        ["feature_engineering"],
        ["training", "--to-nodes", "backtest.assemble_model_input"],
    ):
        print(f"{pipeline[0]} ...", flush=True)
        run(when, "--pipeline", *pipeline)
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        training, table = context.params["training"], context.catalog.load("model_input").frame()
    table = table[table["entity_id"].isin(ZONES)].reset_index(drop=True)
    month = table["issued_at"].dt.strftime("%Y-%m")
    return table.assign(month=month), training.seed, training.candidates[ENTRY[OPERATIONAL]]


def _ours(table: pd.DataFrame, asked: pd.DataFrame, entry: ModelConfig, seed: int) -> tuple[Array, float]:
    """Quantiles of the asked rows by our entry, and the mean seconds of one fit."""
    said, took = pd.DataFrame(np.nan, index=asked.index, columns=LEVELS), []
    for (farm, month), ahead in asked.groupby(["entity_id", "month"]):
        start = pd.Timestamp(f"{month}-01", tz="UTC")
        own = table[(table["entity_id"] == farm)].drop(columns="month")
        past = known_at(own, start)
        known = feature_matrix(past)
        began = time.process_time()
        model = build(OURS, entry, LEVELS, seed).fit(known[entry.columns_of(known.columns)], past["power_share"])
        took.append(time.process_time() - began)
        said.loc[ahead.index] = model.predict(feature_matrix(ahead.drop(columns="month")))
    return said.to_numpy(np.float64), float(np.mean(took))


def _theirs(hours: pd.DataFrame, asked: pd.DataFrame, pattern: str, python: str) -> tuple[Array, float]:
    """Quantiles of the asked rows by OpenSTEF, and the mean seconds of one fit."""
    weather = [name for name in hours.filter(regex=pattern).columns if name not in NOT_FEATURES]
    with tempfile.TemporaryDirectory(prefix="wind-kedro-peer-") as name:
        folder = Path(name)
        rows = hours[["entity_id", "valid_at", *weather]].assign(load=hours["power_share"])
        rows.to_parquet(folder / "rows.parquet")
        asked[["entity_id", "issued_at", "valid_at"]].to_parquet(folder / "asked.parquet")
        script = str(Path(__file__).with_name("peer_openstef.py"))
        command = [python, script, str(folder), MODEL, ",".join(str(level) for level in LEVELS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"OpenSTEF failed:\n{done.stderr[-2000:]}")
        said = pd.read_parquet(folder / "said.parquet")
    keys = ["entity_id", "issued_at", "valid_at"]
    for column in keys[1:]:
        said[column] = said[column].astype(asked[column].dtype)
    joined = asked[keys].merge(said, on=keys, how="left", validate="one_to_one")
    fits = said.groupby("entity_id")["fit_seconds"].unique().explode()
    return joined[[f"q_{level}" for level in LEVELS]].to_numpy(np.float64), float(fits.astype(float).mean())


if __name__ == "__main__":
    sys.exit(main())
