"""Measurement: what training costs a farm that follows the gain, and how good its forecasts are, beside own models for all.

On the made fleet (``conf/fleet``). Cases: ``own`` (a farm's own model is tried for every farm in every training) and ``gain``
(``conf/fleet`` as it is: a model of the fleet for all, own models now and then). Each is trained twice, a week apart; measured is
the second training, with all processes and start-up. Its models then forecast the issues of the week after it.

Rows: ``farms, case, history_days, cpu_s, cpu_s_a_farm, wall_s, peak_mb, first_cpu_s, pinball_share, own_models, load``.
``first_cpu_s`` is of the first training, ``own_models`` how many farms are forecast by a model of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import yaml

from made_fleet import Fleet, write_yaml
from record import RESULTS, record
from wind_kedro.cards.columns import quantile_columns
from wind_kedro.evaluation.scores import latest_versions, pinball_loss
from wind_kedro.governance.champions import champions_at, version_in_force

WEEK = pd.Timedelta(days=7)
OWN = "catboost"
#: What differs from `conf/fleet` in a case.
CASES = {
    "own": {"refit_every_days": None, "candidates": {"shared": {"products": []}, OWN: {"tier": "none", "try_every_days": None}}},
    "gain": {"candidates": {}},
}


def pinball(fleet: Fleet, since: pd.Timestamp, until: pd.Timestamp) -> tuple[float, int]:
    """Mean loss over farms of the newest models in the issues of a time, share of capacity; how many of them are own models."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(fleet.folder)
    given = {"as_of": f"{until:%Y-%m-%dT%H:%M}"}
    with KedroSession.create(fleet.folder, env=fleet.environment, runtime_params=given, save_on_close=False) as session:
        catalog = session.load_context().catalog
        promotions, versions = catalog.load("promotions_before"), catalog.load("model_versions_before")
        first = (since + pd.Timedelta(minutes=1)).tz_localize(None).floor("D")
        features = catalog.load("features").frame(first=first)
        observed = latest_versions(catalog.load("observations").frame(first=first), until)
    issued = features[(features["issued_at"] > since) & (features["issued_at"] <= until) & features["wind_speed_100m_ms"].notna()]
    targets = observed.loc[observed["granularity_minutes"] == 60, ["entity_id", "valid_at", "power_kw", "available_capacity_kw"]]
    rows = issued.merge(targets, on=["entity_id", "valid_at"])
    model = versions.version(version_in_force(promotions))
    keys = zip(rows["product_id"], rows["entity_id"], strict=True)
    rows = rows[[key in model.members for key in keys]].reset_index(drop=True)
    shares = model.predict(rows)[quantile_columns(model.levels, "share")].to_numpy()
    losses = pinball_loss((rows["power_kw"] / rows["available_capacity_kw"]).to_numpy(), shares, model.levels).mean(axis=1)
    own = champions_at(promotions, until)["model"].eq(OWN).sum()
    return float(pd.Series(losses).groupby(rows["entity_id"]).mean().mean()), int(own)


def measure(farms: int, history_days: int) -> pd.DataFrame:
    """One row per case."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        made = Fleet(Path(folder) / "made", farms, history_days, days_after=15)
        made.folder.mkdir()
        made.make()
        until = made.start + 2 * WEEK
        made.release(until)
        made.run("data_engineering,feature_engineering", until)
        for case, changed in CASES.items():
            fleet = replace(made, folder=Path(folder) / case)
            # The tracking of trainings names folders of its project.
            shutil.copytree(made.folder, fleet.folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", "mlruns"))
            fleet.run("ingestion", made.start)  # makes the database of MLflow
            path = fleet.folder / "conf/fleet/parameters_training.yml"
            settings = yaml.safe_load(path.read_text("utf-8"))
            known = settings["training"]["candidates"]
            candidates = known | {name: known[name] | other for name, other in changed["candidates"].items()}
            write_yaml(path, {"training": settings["training"] | changed | {"candidates": candidates}})
            times = [made.start, made.start + WEEK]
            first, weekly = (fleet.run("training", until, f"train_as_of={at:%Y-%m-%dT%H:%M}") for at in times)
            with contextlib.chdir(fleet.folder):  # paths of its configuration are relative
                loss, own = pinball(fleet, times[1], until)
            found = weekly | {"cpu_s_a_farm": weekly["cpu_s"] / farms, "first_cpu_s": first["cpu_s"]}
            found |= {"pinball_share": loss, "own_models": own, "load": os.getloadavg()[0]}
            rows.append({"farms": farms, "case": case, "history_days": history_days} | found)
            print(f"{farms} farms, {case}: {found['cpu_s_a_farm']:.2f} s of processor a farm, pinball {loss:.4f}", flush=True)
    columns = ["farms", "case", "history_days", "cpu_s", "cpu_s_a_farm", "wall_s", "peak_mb", "first_cpu_s", "pinball_share"]
    table = pd.DataFrame(rows)[[*columns, "own_models", "load"]]
    places = {"cpu_s": 1, "cpu_s_a_farm": 2, "wall_s": 1, "peak_mb": 0, "first_cpu_s": 1, "pinball_share": 5, "load": 1}
    return table.round(places)


def main() -> None:
    """Measure fleets of the sizes that are asked for; each is recorded when it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--farms", type=int, nargs="+", default=[1, 30])
    parser.add_argument("--days", type=int, default=21, help="of history (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of bench-training.csv (default: %(default)s)")
    options = parser.parse_args()
    for farms in options.farms:
        record("bench-training", measure(farms, options.days), options.out, key=["farms", "case", "history_days"])


if __name__ == "__main__":
    sys.exit(main())
