"""Accuracy against time: routes to 99 quantiles on GEFCom2014 wind, tasks 1 to 3.

Each route learns every farm as of the beginning of each month from October to December 2012 and forecasts that month, by the
competition's rules. Seconds are those of one core: what the process used, so that other work on the machine does not count.
What was measured before with the same route and data is read, not measured again.

And what production pays: every candidate that a farm may have by default, and the competition's entry, learns one year of
hours of one farm for nine quantiles and forecasts a thousand farm-days. Leaves with 1 if one of them takes longer than it may.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from record import PROJECT, record
from wind_kedro.evaluation.scores import pinball_loss
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import feature_matrix, known_at

if TYPE_CHECKING:
    import plotly.graph_objects as go

ENVIRONMENT = "gefcom2014"
PRODUCT = "competition"
MONTHS = ("2012-10", "2012-11", "2012-12")
LEVELS = [round(0.01 * number, 2) for number in range(1, 100)]
BAND = (LEVELS.index(0.1), LEVELS.index(0.9))
SEED = 20140101
#: From so many times the best loss on a route is not drawn: beside a climatology all others look the same.
FAR_BEHIND = 1.2
FIGURE = PROJECT / "data" / ENVIRONMENT / "08_reporting" / "bench-models.html"
FARM_DAYS, HOURS_A_DAY = 1000, 24
#: What production pays for: quantile levels of most products, and a year of hours until the competition's held-back months.
PRODUCTION_LEVELS = [round(0.1 * number, 1) for number in range(1, 10)]
PRODUCTION_YEAR = (pd.Timestamp("2012-06-01", tz="UTC"), pd.Timestamp("2013-06-01", tz="UTC"))
PRODUCTION_FARM = "zone_1"
#: Of one core: seconds of a farm's fit, and of a thousand farm-days.
MAX_FIT_SECONDS, MAX_SECONDS_OF_1000_FARM_DAYS = 15.0, 10.0
#: What is measured beside the environment's own candidates.
FOREST = {"type": "quantile_forest"}
BOOSTING = {"type": "boosting", "params": {"repeats": 2}}
LIGHTGBM = {"type": "lightgbm", "params": {"learnt_levels": 9}}
CATBOOST = {"rsm": 0.3, "border_count": 32, "calibration_folds": 0}
ROUTES: dict[str, dict[str, Any]] = {
    "quantile_forest": FOREST,
    "boosting": BOOSTING,
    "boosting_once": {"type": "boosting"},
    "lightgbm": LIGHTGBM,
    "blend_with_lightgbm": {
        "type": "blend",
        "params": {"members": {"forest": FOREST, "boosting": BOOSTING, "lightgbm": LIGHTGBM}, "folds": 0},
    },
    "linear_quantile": {"type": "linear_quantile"},
    "regressor_histogram": {"type": "regressor", "params": {"settings": {"max_iter": 100, "max_features": 0.3}}},
    "catboost_9_levels": {"type": "catboost", "params": CATBOOST | {"learnt_levels": 9}},
    "catboost_99_levels": {"type": "catboost", "params": CATBOOST},
}


def main(words: list[str] | None = None) -> int:
    """Measure, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", help="such as zone_1,zone_5: of these alone; the table says how many; without it: all")
    parser.add_argument("--routes", help="names of routes and candidates, of these alone, and nothing is written")
    parser.add_argument("--input", type=Path, help="model input kept elsewhere; without it, the environment's")
    parser.add_argument("--of", default="routes,production", help="routes, production or both")
    chosen = parser.parse_args(words)
    candidates, table = _configured(chosen.input)
    table = table[table["product_id"] == PRODUCT]
    entries = {name: config for name, config in candidates[ENVIRONMENT].items() if config.is_for(PRODUCT)}
    if "routes" in chosen.of:
        compare_routes(entries, table, chosen)
    return pay_for_production(candidates["base"], entries, table) if "production" in chosen.of else 0


def compare_routes(entries: dict[str, ModelConfig], table: pd.DataFrame, chosen: argparse.Namespace) -> None:
    """Accuracy against time: the table and the figure."""
    configs = entries | {name: ModelConfig.model_validate(config) for name, config in ROUTES.items()}
    if chosen.routes:
        configs = {name: configs[name] for name in chosen.routes.split(",")}
    table = table[table["valid_at"] < pd.Timestamp("2013-01-02", tz="UTC")]
    farms = chosen.farms.split(",") if chosen.farms else sorted(table["entity_id"].unique())
    rows = []
    for name, config in configs.items():
        measured = pd.DataFrame([_measured(table, name, config, farm, month) for farm in farms for month in MONTHS])
        means = measured.drop(columns=["farm", "month"]).mean()
        rows.append({"model": name, **means.to_dict(), "slowest_fit_seconds": measured["fit_seconds"].max()})
        print(f"{name}: " + ", ".join(f"{what} {value:.5f}" for what, value in means.items()), flush=True)
    found = pd.DataFrame(rows).sort_values("pinball")
    found = found.round({"pinball": 5, "coverage_80": 3, "width_80": 3, "fit_seconds": 1, "slowest_fit_seconds": 1})
    found = found.round({"seconds_of_1000_farm_days": 1}).assign(farms=len(farms))
    if chosen.routes:
        print(found.to_string(index=False))
        return
    record("bench-models", found)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    accuracy_against_time(found).write_html(FIGURE, include_plotlyjs=True)
    print(f"the figure is {FIGURE.relative_to(PROJECT)}")


def pay_for_production(base: dict[str, ModelConfig], entries: dict[str, ModelConfig], table: pd.DataFrame) -> int:
    """What one farm costs a day: the table; 1 if a candidate of the default configuration or the entry takes too long."""
    since, until = PRODUCTION_YEAR
    own = table[table["entity_id"] == PRODUCTION_FARM]
    year = own[(own["issued_at"] >= since) & (own["issued_at"] < until)].reset_index(drop=True)
    # A fleet's models are no farm's own cost; the rest stands in the default configuration, or is the entry.
    configs = {name: config for name, config in base.items() if config.fleet_members is None}
    configs |= {f"{ENVIRONMENT}: {name}": config for name, config in entries.items() if config.type == "blend"}
    known = feature_matrix(year)
    asked = known.sample(FARM_DAYS * HOURS_A_DAY, replace=True, random_state=SEED, ignore_index=True)
    rows = []
    for name, config in configs.items():
        own_columns = known[config.columns_of(known.columns)]
        began = time.process_time()
        model = build(name, config, PRODUCTION_LEVELS, SEED).fit(own_columns, year["power_share"])
        fitted = time.process_time()
        model.predict(asked)
        seconds = time.process_time() - fitted
        rows.append({"model": name, "rows": len(year), "fit_seconds": fitted - began, "seconds_of_1000_farm_days": seconds})
        print(rows[-1], flush=True)
    found = pd.DataFrame(rows).round({"fit_seconds": 1, "seconds_of_1000_farm_days": 2})
    record("bench-production", found)
    slow = found[(found["fit_seconds"] > MAX_FIT_SECONDS) | (found["seconds_of_1000_farm_days"] > MAX_SECONDS_OF_1000_FARM_DAYS)]
    print("no bar is missed" if slow.empty else f"MISSED: {', '.join(slow['model'])}")
    return int(not slow.empty)


def accuracy_against_time(found: pd.DataFrame) -> go.Figure:
    """What a farm's fit costs, and what it gives: one point a route; those far behind the best are left out."""
    import plotly.graph_objects as go

    found = found[found["pinball"] < FAR_BEHIND * found["pinball"].min()].sort_values("fit_seconds")
    figure = go.Figure(
        go.Scatter(
            x=found["fit_seconds"],
            y=100 * found["pinball"],
            text=found["model"],
            customdata=100 * found["coverage_80"],
            mode="markers+text",
            cliponaxis=False,
            # By turns, as names of neighbours would lie on each other.
            textposition=["top center", "bottom center"] * (len(found) // 2) + ["top center"] * (len(found) % 2),
            hovertemplate="%{text}<br>%{x:.1f} s, %{y:.3f} %<br>80 % band holds %{customdata:.0f} %<extra></extra>",
        )
    )
    figure.update_layout(
        title=f"Accuracy against time: GEFCom2014 wind, tasks 1 to 3, {found['farms'].iloc[0]} of 10 farms",
        xaxis={"title": "fit of one farm, seconds of one core", "type": "log", "dtick": "D2"},
        yaxis={"title": "pinball of 99 quantiles, % of capacity"},
        template="plotly_white",
    )
    return figure


def _configured(kept: Path | None) -> tuple[dict[str, dict[str, ModelConfig]], pd.DataFrame]:
    """Candidates by environment and name, and the rows to learn from."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    candidates = {}
    for environment in ("base", ENVIRONMENT):
        with KedroSession.create(PROJECT, env=environment, save_on_close=False) as session:
            context = session.load_context()
            candidates[environment] = context.params["training"].candidates
            if environment == ENVIRONMENT:
                table = pd.read_parquet(kept) if kept else context.catalog.load("model_input").frame()
    return candidates, table


def _measured(table: pd.DataFrame, name: str, config: ModelConfig, farm: str, month: str) -> dict[str, Any]:
    """Scores and seconds of one route, farm and month."""
    own = table[table["entity_id"] == farm].reset_index(drop=True)
    start = pd.Timestamp(f"{month}-01", tz="UTC")
    # As `training.backtest_candidates` does it: what had arrived by then, and the issues of the month.
    past = known_at(own, start)
    ahead = own[(own["issued_at"] >= start) & (own["issued_at"] < start + pd.offsets.MonthBegin())]
    known = feature_matrix(past)
    known = known[config.columns_of(known.columns)]
    told = json.dumps([config.model_dump(mode="json"), list(known.columns), farm, month], sort_keys=True)
    key = hashlib.sha256(told.encode() + pd.util.hash_pandas_object(past, index=False).to_numpy().tobytes()).hexdigest()
    path = PROJECT / "data" / ENVIRONMENT / "08_reporting" / "models" / f"{key[:24]}.npz"
    if not path.is_file():
        began = time.process_time()
        model = build(name, config, LEVELS, SEED).fit(known, past["power_share"])
        fitted = time.process_time()
        quantiles = model.predict(feature_matrix(ahead))
        seconds = (time.process_time() - fitted) * FARM_DAYS * HOURS_A_DAY / len(ahead)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, quantiles=quantiles.astype(np.float32), took=np.array([fitted - began, seconds]))
    with np.load(path) as stored:
        quantiles, took = stored["quantiles"].astype(np.float64), stored["took"]
    came = ahead["power_share"].to_numpy()
    low, high = quantiles[:, BAND[0]], quantiles[:, BAND[1]]
    return {
        "farm": farm,
        "month": month,
        "pinball": float(pinball_loss(came, quantiles, LEVELS).mean()),
        "coverage_80": float(((low <= came) & (came <= high)).mean()),
        "width_80": float((high - low).mean()),
        "fit_seconds": float(took[0]),
        "seconds_of_1000_farm_days": float(took[1]),
    }


if __name__ == "__main__":
    sys.exit(main())
