"""Is a forecast better for being corrected by what became of those before? Every correction of every candidate backtested.

Reads what a training left (`backtest_model_forecasts`): of the base environment after `make run`, of GEFCom2014 after
`make proof-portfolio`. Farms only: a portfolio has a proof of its own.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, get_args

import pandas as pd

from record import PROJECT, record
from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import frame_of
from wind_kedro.evaluation.scores import score_forecasts
from wind_kedro.postprocessing.calibration import calibrated
from wind_kedro.postprocessing.settings import Calibration, Correction

BAND = 0.8
#: Candidates that are no models to be used, but yardsticks.
REFERENCES = ("climatology", "persistence")


def table_of(
    forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: Fleet, calibration: Calibration, as_of: Any
) -> pd.DataFrame:
    """One row per product, candidate and correction, means over farms: pinball, coverage and width; ``chosen``: in force."""
    corrected = []
    models = [str(model) for model in forecasts["model"].unique() if model not in REFERENCES]
    forecasts = forecasts[forecasts["model"].isin(models)]
    for correction in get_args(Correction):
        rules = calibration.model_copy(update={"candidates": dict.fromkeys(models, correction), "products": {}})
        rows = calibrated(forecasts, forecasts, observations, fleet, rules)
        corrected.append(rows.assign(model=rows["model"] + "/" + correction))
    scores = score_forecasts(pd.concat(corrected), observations, fleet, [], as_of=as_of)
    parts = {
        "pinball": scores[(scores["metric"] == "pinball_share") & scores["level"].isna()],
        "coverage_80": scores[(scores["metric"] == "coverage") & (scores["level"] == BAND)],
        "width_80": scores[(scores["metric"] == "width_share") & (scores["level"] == BAND)],
    }
    means = {name: rows.groupby(["product_id", "model"])["value"].mean() for name, rows in parts.items()}
    table = pd.DataFrame(means).reset_index()
    table[["model", "correction"]] = table["model"].str.rsplit("/", n=1, expand=True)
    plain = table[table["correction"] == "none"].set_index(["product_id", "model"])["pinball"]
    before = plain.reindex(pd.MultiIndex.from_frame(table[["product_id", "model"]])).to_numpy()
    chosen = [
        calibration.correction_of(fleet.product(row["product_id"]), "", row["model"], fleet) == row["correction"]
        for row in table.to_dict("records")
    ]
    table = table.assign(gain=1 - table["pinball"] / before, chosen=chosen)
    columns = ["product_id", "model", "correction", "chosen", "pinball", "gain", "coverage_80", "width_80"]
    return table[columns].round({"pinball": 5, "gain": 4, "coverage_80": 3, "width_80": 4})


def failures(table: pd.DataFrame) -> list[str]:
    """The corrections in force that make a forecast worse, a line each."""
    worse = table[table["chosen"] & (table["gain"] < 0)].to_dict("records")
    return [f"{row['product_id']}, '{row['model']}': {row['correction']} makes it {-row['gain']:.1%} worse" for row in worse]


def main(words: list[str] | None = None) -> int:
    """Correct, score, print, write; the exit code."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="base", help="the environment whose backtest is read")
    chosen = parser.parse_args(words)
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=chosen.env, save_on_close=False) as session:
        context = session.load_context()
        if not context.catalog.exists("backtest_model_forecasts"):
            print("nothing was backtested yet: run training first", file=sys.stderr)
            return 2
        forecasts = frame_of(context.catalog.load("backtest_model_forecasts")).drop(columns="fold_begin")
        observations = frame_of(context.catalog.load("observations"))
        fleet, calibration, clock = (context.params[name] for name in ("fleet", "calibration", "clock"))
    table = table_of(forecasts, observations, fleet, calibration, clock.training_time(fleet))
    record(f"proof-calibration-{chosen.env}", table)
    over = failures(table)
    print("FAILED: " + "; ".join(over) if over else "No correction in force makes a forecast worse.")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
