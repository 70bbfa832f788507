"""Prove the gate: how often does it let through what is better, what is not, what is ruinous in high wind, and what leaks?

Challengers are really refitted models, more and less able: more or fewer features, trees, history, noise in what they read. All
are backtested on GEFCom2014's year to June 2013, each half by models fitted as of its beginning. Of that year many are made by
drawing blocks of weeks, the same for all farms, and the gate judges each of them as it judges a training: 365 issues, ten farms.
What is true of a challenger and a farm is its gain over the whole year: the population that is drawn from.

Forests with few trees and nine levels keep it quick; the gate does not know what it judges.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gefcom2014 import RAW, bring_in, run
from record import PROJECT, record
from wind_kedro.cards import Fleet
from wind_kedro.datasets.derived import frame_of
from wind_kedro.evaluation.gate import (
    Comparison,
    Forecasted,
    adjusted,
    by_issue,
    chance,
    compare,
    extreme_excess,
    gain,
    leaks,
    mark_extremes,
    pair,
    verdict,
)
from wind_kedro.evaluation.scores import interval_losses
from wind_kedro.evaluation.settings import GateRules
from wind_kedro.models.registry import ModelConfig, build
from wind_kedro.models.tables import feature_matrix, forecast_rows, known_at

ENVIRONMENT, PRODUCT = "gefcom2014", "competition"
KEPT = PROJECT / "data" / ENVIRONMENT / "08_reporting" / "proof_gate"
BEGIN, END = pd.Timestamp("2012-07-01", tz="UTC"), pd.Timestamp("2013-07-01", tz="UTC")
LEVELS = [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95]
SEED = 20140101
YEARS, YEARS_OF_ALL, ISSUES, BLOCK = 500, 200, 365, 7
OWN = ["wind_speed_100m_ms", "wind_[uv]_100m_ms", "wind_speed_10m_ms", "wind_[uv]_10m_ms", "hour_of_day"]
WINDOWS = ["wind_*", "hour_of_day"]
FULL = [*WINDOWS, "other_*_wind_speed_100m_ms", "other_*_wind_[uv]_100m_ms", "fleet_*"]

Table = pd.DataFrame


def _as_it_is(table: Table, begin: pd.Timestamp) -> Table:
    return table


def _recent(days: int) -> Callable[[Table, pd.Timestamp], Table]:
    return lambda table, begin: table[table["issued_at"] >= begin - pd.Timedelta(days=days)]


def _curtailed(share: float, to: float) -> Callable[[Table, pd.Timestamp], Table]:
    """Its history is of a farm curtailed in the windiest hours, and nobody left them out: storms bring little, it has learnt."""

    def held_down(table: Table, begin: pd.Timestamp) -> Table:
        wind, power = table["wind_speed_100m_ms"], table["power_share"]
        return table.assign(power_share=power.where(wind < wind.quantile(1 - share), power.clip(upper=to)))

    return held_down


@dataclass(frozen=True)
class Challenger:
    """How one of them is made: columns, trees, noise (m/s, in every wind that it reads), and which rows it learns from."""

    features: list[str]
    trees: int = 20
    seed: int = SEED
    noise_ms: float = 0.0
    rows: Callable[[Table, pd.Timestamp], Table] = field(default=_as_it_is)
    leak: str = ""


CHALLENGERS: dict[str, Challenger] = {
    "own": Challenger(OWN),
    "own_noisy": Challenger(OWN, noise_ms=1.0),
    "own_and_near": Challenger([*OWN, "other_[12]_wind_speed_100m_ms"]),
    "windows": Challenger(WINDOWS),
    "windows_other_seed": Challenger(WINDOWS, seed=SEED + 1),
    "windows_few_trees": Challenger(WINDOWS, trees=10),
    "windows_many_trees": Challenger(WINDOWS, trees=50),
    "windows_recent": Challenger(WINDOWS, rows=_recent(120)),
    "windows_noisy": Challenger(WINDOWS, noise_ms=0.6),
    "windows_noisier": Challenger(WINDOWS, noise_ms=1.0),
    "full": Challenger(FULL),
    "weak": Challenger(OWN, trees=10, noise_ms=1.0, rows=_recent(90)),
    "full_curtailed_half": Challenger(FULL, rows=_curtailed(0.05, to=0.5)),
    "full_curtailed_third": Challenger(FULL, rows=_curtailed(0.03, to=0.3)),
    "leak_inside": Challenger(FULL, trees=12, leak="inside"),
    "leak_later_run": Challenger(FULL, trees=12, leak="later_run"),
}


# --- the backtest ----------------------------------------------------------------------------------------------------------


def noisy(table: Table, challenger: Challenger) -> Table:
    """The table with noise in every speed and component of wind that the challenger may read."""
    if not challenger.noise_ms:
        return table
    random = np.random.default_rng(challenger.seed)
    winds = [name for name in table if name.startswith("wind_") and name.endswith(("_ms", "min"))]
    return table.assign(**{name: table[name] + random.normal(0, challenger.noise_ms, len(table)) for name in winds})


def backtest_farm(table: Table, names: list[str]) -> tuple[Table, dict[str, np.ndarray[Any, Any]], Table]:
    """Rows of the year, each challenger's quantiles of them, and what each of its folds had seen."""
    halves = [*pd.date_range(BEGIN, END, freq="2QS", inclusive="left"), END]
    ahead_of = {
        begin: table[(table["issued_at"] >= begin) & (table["issued_at"] < end)] for begin, end in itertools.pairwise(halves)
    }
    seen, shares = [], {}
    for name in names:
        challenger = CHALLENGERS[name]
        config = ModelConfig(type="quantile_forest", params={"trees": challenger.trees}, features=challenger.features)
        own = noisy(table, challenger)
        if challenger.leak == "later_run":
            # What the next day's run says of its own first hours, read a day early: the nearest to what came.
            own = own.assign(**_of_the_next_issue(own))
        parts = []
        for begin, ahead in ahead_of.items():
            known = own if challenger.leak == "inside" else known_at(own, begin)
            known = challenger.rows(known, begin)
            matrix = feature_matrix(known)
            model = build(name, config, LEVELS, challenger.seed).fit(
                matrix[config.columns_of(matrix.columns)], known["power_share"]
            )
            parts.append(model.predict(feature_matrix(own.loc[ahead.index])))
            seen.append(
                {
                    "product_id": PRODUCT, "entity_id": table["entity_id"].iloc[0], "model": name, "fold_begin": begin,
                    "fold_end": ahead["issued_at"].max() + pd.Timedelta(days=1),
                    "known_until": known["target_available_at"].max(), "trained_through": known["valid_at"].max(),
                }
            )  # fmt: skip
        shares[name] = np.vstack(parts)
    return pd.concat(ahead_of.values()), shares, pd.DataFrame(seen)


def _of_the_next_issue(table: Table) -> dict[str, Any]:
    """Production of the day that is forecast, as the next issue knows it; the run is the next one's."""
    keys = table[["issued_at"]].assign(next_at=table["issued_at"] + pd.Timedelta(days=1))
    mean = table.groupby("issued_at")["power_share"].mean()
    run = table.groupby("issued_at")["weather_run_at"].max()
    return {
        "fleet_later_power": keys["issued_at"].map(mean).to_numpy(),
        "weather_run_at": keys["next_at"].map(run).fillna(table["weather_run_at"]).to_numpy(),
    }


def backtested(table: Table, observations: Table, fleet: Fleet, farm: str, names: list[str]) -> tuple[Table, Table]:
    """By issue, and what is wrong with each challenger's backtest."""
    own = table[table["entity_id"] == farm].sort_values(["issued_at", "valid_at"], ignore_index=True)
    rows, shares, seen = backtest_farm(own, names)
    product = fleet.product(PRODUCT)
    forecasts = []
    for name in names:
        these = rows
        if CHALLENGERS[name].leak == "later_run":
            these = rows.assign(weather_run_at=_of_the_next_issue(own)["weather_run_at"][rows.index])
        forecasts.append(forecast_rows(these, shares[name], product, fleet, model=name, model_version="backtest"))
    every = pd.concat(forecasts, ignore_index=True)
    found = leaks(seen, every)
    losses = interval_losses(every, observations, product, fleet.market(product.market))
    leaking = pd.DataFrame([(*key, why) for key, why in found.items()], columns=["product_id", "entity_id", "model", "why"])
    return by_issue(mark_extremes(losses, rows)), leaking


# --- years made of blocks of the one there is ------------------------------------------------------------------------------


def draw(random: np.random.Generator, there: int) -> np.ndarray[Any, Any]:
    """Issues of one made year: blocks that begin anywhere, the end of the year followed by its beginning (circular bootstrap,
    Politis and Romano, Exploring the limits of bootstrap, 1992).
    """
    begins = random.integers(there, size=-(-ISSUES // BLOCK))
    return ((begins[:, None] + np.arange(BLOCK)) % there).ravel()[:ISSUES]


Pairs = dict[str, tuple[Forecasted, Forecasted]]


def pairs_of(issues: Table, champion: str, challenger: str) -> Pairs:
    """The two of every farm, where farms have the same issues."""
    return {str(farm): pair(own, champion, challenger) for farm, own in issues.groupby("entity_id")}


def judged(pairs: Pairs, chosen: np.ndarray[Any, Any], rules: GateRules, margin: float) -> list[str]:
    """The code of each farm in a made year."""
    found: list[Comparison] = [compare(one.take(chosen), other.take(chosen), rules) for one, other in pairs.values()]
    p_adjusted = adjusted([one.p_value for one in found], rules.correction)
    return [verdict(one, p, margin, rules) for one, p in zip(found, p_adjusted, strict=True)]


#: Farms that gain about this are judged together: of every farm the pair of challengers whose true gain there is nearest.
TARGETS = (-0.02, 0.0, 0.01, 0.03, 0.10)
#: Never judged as a gain: they are cases of their own.
APART = ("full_curtailed_half", "full_curtailed_third", "leak_inside", "leak_later_run")
#: Worse in its strong winds by so much, a challenger is ruinous there.
RUINOUS = 0.5


def gains(issues: Table, rules: GateRules) -> Table:
    """One row per farm and pair of honest challengers: the gain over the year, and whether a guard-rail breaks over it."""
    honest = [name for name in CHALLENGERS if name not in APART]
    rows = []
    for farm, own in issues.groupby("entity_id"):
        for one, other in itertools.permutations(honest, 2):
            found = compare(*pair(own, one, other), rules)
            breaks = verdict(found, 0.0, 0.0, rules) not in {"better", "surprising", "margin"}
            about = {"farm": str(farm), "champion": one, "challenger": other}
            rows.append(about | {"gain": found.gain_share, "breaks": breaks})
    return pd.DataFrame(rows)


def nearest(every: Table, issues: Table, target: float) -> Pairs:
    """Of each farm the pair whose gain there is nearest to what is wanted, and that breaks no guard-rail."""
    sound = every[~every["breaks"]]
    chosen = sound.loc[(sound["gain"] - target).abs().groupby(sound["farm"]).idxmin()]
    return {
        row["farm"]: pair(issues[issues["entity_id"] == row["farm"]], row["champion"], row["challenger"])
        for row in chosen.to_dict("records")
    }


def measured(pairs: Pairs, rules: GateRules, margin: float, leaking: set[str], years: int) -> tuple[Table, float]:
    """One row per farm: what is true, and how often it was promoted; and how often any farm was that gains nothing."""
    random = np.random.default_rng(SEED)
    there = len(next(iter(pairs.values()))[0].loss)
    true = np.array([gain(one.loss, other.loss) for one, other in pairs.values()])
    promoted = np.zeros((years, len(pairs)), dtype=bool)
    for year in range(years):
        codes = judged(pairs, draw(random, there), rules, margin)
        promoted[year] = [code == "better" and farm not in leaking for farm, code in zip(pairs, codes, strict=True)]
    wrong = float(promoted[:, true <= 0].any(axis=1).mean())
    strong = [extreme_excess(one.strong_loss, other.strong_loss) for one, other in pairs.values()]
    told = {"farm": list(pairs), "true_gain": true, "strong_excess": strong, "promoted_share": promoted.mean(axis=0)}
    return pd.DataFrame(told), wrong


def size_of(pairs: Pairs, level: float) -> float:
    """How often the test alone, without margin and guard-rails, says of one farm that there is a gain, when there is none.

    The losses of each farm's challenger are moved by a constant, so that the gain over the whole year is exactly nothing: only to
    see whether the test keeps its level. No promotion is measured on moved losses.
    """
    random = np.random.default_rng(SEED + 1)
    there = len(next(iter(pairs.values()))[0].loss)
    found = []
    for _ in range(YEARS):
        chosen = draw(random, there)
        found += [
            chance(one.loss[chosen], other.loss[chosen] - other.loss.mean() + one.loss.mean()) <= level
            for one, other in pairs.values()
        ]
    return float(np.mean(found))


def row_of(case: str, champion: str, challenger: str, farms: Table, **more: float) -> dict[str, Any]:
    """A row of the result: means over farms, and how far their gains reach."""
    true = farms["true_gain"]
    return {
        "case": case, "champion": champion, "challenger": challenger, "true_gain": true.mean(),
        "true_gain_least": true.min(), "true_gain_most": true.max(), "promoted_share": farms["promoted_share"].mean(), **more,
        "issues": ISSUES, "farms": len(farms),
    }  # fmt: skip


def prove(issues: Table, leaking: Table, rules: GateRules, margin: float) -> Table:
    """One row for each target of gain, storm and leak; and of every honest pair, all farms by what is true of them."""
    every = gains(issues, rules)
    rows: list[dict[str, Any]] = []
    for target in TARGETS:
        pairs = nearest(every, issues, target)
        farms, wrong = measured(pairs, rules, margin, set(), YEARS)
        size = size_of(pairs, rules.significance)
        rows.append(row_of("gain", NEAREST, f"{target:+.0%}", farms, false_family_share=wrong, test_size=size))
    for name in APART:
        # Beside a weak champion what cannot stand a storm is still better on average.
        case, champion = ("leak", "own") if name.startswith("leak") else ("storm", "weak")
        caught = set(leaking.loc[leaking["model"] == name, "entity_id"])
        farms, _ = measured(pairs_of(issues, champion, name), rules, margin, caught, YEARS)
        if case == "storm":
            farms = farms[(farms["true_gain"] >= margin) & (farms["strong_excess"] >= RUINOUS)]
        rows.append(row_of(case, champion, name, farms))
    found, wrongs = [], []
    for one, other in every[["champion", "challenger"]].drop_duplicates().itertuples(index=False, name=None):
        farms, wrong = measured(pairs_of(issues, one, other), rules, margin, set(), YEARS_OF_ALL)
        found.append(farms.assign(champion=one, challenger=other))
        wrongs += [wrong] if (farms["true_gain"] <= 0).any() else []
    farms = pd.concat(found).merge(every, on=["farm", "champion", "challenger"], validate="one_to_one")
    true, sound = farms["true_gain"], ~farms["breaks"]
    for words, chosen in (
        (NOTHING, true <= 0),
        (LITTLE, sound & true.between(0.0, 0.03, inclusive="neither")),
        (THREE, sound & true.between(0.03, 0.04, inclusive="left")),
        (MORE, sound & (true >= 0.04)),
        (BREAKS, ~sound & (true > 0)),
    ):
        of_all = {"false_family_share": float(np.max(wrongs))} if words == NOTHING else {}
        rows.append(row_of("gain", EVERY, words, farms[chosen], **of_all))
    return pd.DataFrame(rows)


#: Rows of farms by what is true of them over the year. Who breaks a guard-rail over it is not to be found, however much he gains.
NEAREST, EVERY = "of each farm the nearest pair", "every pair"
NOTHING, LITTLE, THREE, MORE = "gains nothing", "gains less than 3 %", "gains 3 to 4 %", "gains 4 % and more"
BREAKS = "gains, and breaks a guard-rail"
#: The bars.
MAX_FALSE, MIN_FOUND = 0.05, 0.8


def missed(found: Table) -> list[str]:
    """The bars that do not hold."""
    faults = []
    for row in found[found["false_family_share"] > MAX_FALSE].to_dict("records"):
        faults.append(f"{row['challenger']} over {row['champion']}: falsely promoted in {row['false_family_share']:.1%} of years")
    clear = [THREE, MORE, *(f"{target:+.0%}" for target in TARGETS if target >= 0.03)]
    of_three = found[found["challenger"].isin(clear) & ~(found["promoted_share"] >= MIN_FOUND)]
    for row in of_three.to_dict("records"):
        faults.append(f"{row['challenger']}: found in {row['promoted_share']:.0%} only")
    for row in found[found["case"].isin(["storm", "leak"]) & (found["promoted_share"] > 0)].to_dict("records"):
        faults.append(f"{row['case']} {row['challenger']}: promoted in {row['promoted_share']:.1%}")
    return faults


def main(words: list[str] | None = None) -> int:
    """Backtest, draw, judge, print, write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=RAW, help="folder of the competition's files")
    parser.add_argument("--input", type=Path, help="folder with model input and observations made before; else they are made")
    parser.add_argument("--farms", help="such as zone_1,zone_2: backtest these alone, keep them, and stop")
    chosen = parser.parse_args(words)
    fleet, table, observations = _given(chosen.data, chosen.input)
    product = fleet.product(PRODUCT)
    farms = chosen.farms.split(",") if chosen.farms else product.members
    for farm in farms:
        _keep(table, observations, fleet, farm)
    if chosen.farms:
        return 0
    issues = pd.concat([pd.read_parquet(KEPT / f"{farm}.parquet") for farm in farms], ignore_index=True)
    leaking = pd.concat([pd.read_parquet(KEPT / f"{farm}_leaks.parquet") for farm in farms], ignore_index=True)
    found = prove(issues, leaking, GateRules(), product.promotion_margin_share)
    record("proof-gate", found.round(4))
    faults = missed(found)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _keep(table: Table, observations: Table, fleet: Fleet, farm: str) -> None:
    """Backtest those challengers of a farm that are not kept already."""
    paths = [KEPT / f"{farm}.parquet", KEPT / f"{farm}_leaks.parquet"]
    kept = [pd.read_parquet(path) for path in paths if path.exists()]
    names = [name for name in CHALLENGERS if not kept or name not in set(kept[0]["model"])]
    if not names:
        return
    begun = time.perf_counter()
    KEPT.mkdir(parents=True, exist_ok=True)
    for number, fresh in enumerate(backtested(table, observations, fleet, farm, names)):
        before = kept[number][kept[number]["model"].isin(CHALLENGERS)] if kept else fresh.iloc[:0]
        pd.concat([before, fresh], ignore_index=True).to_parquet(paths[number], index=False)
    print(f"{farm}: {len(names)} challengers, {time.perf_counter() - begun:.0f} s", flush=True)


def _given(data: Path, kept: Path | None) -> tuple[Fleet, Table, Table]:
    """The cards, with few levels; model input; observations."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    if kept is None:
        bring_in(data)
        when = {"as_of": "2013-07-02", "train_as_of": "2013-07-02"}
        for words in (
            ["data_engineering"],
            ["feature_engineering"],
            ["training", "--to-nodes", "backtest.assemble_model_input"],
        ):
            print(f"{words[0]} ...", flush=True)
            run(when, "--pipeline", *words)
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env=ENVIRONMENT, save_on_close=False) as session:
        context = session.load_context()
        cards: Fleet = context.params["fleet"]
        few = [card.model_copy(update={"quantile_levels": LEVELS}) for card in cards.products]
        fleet = cards.model_copy(update={"products": few})
        if kept is not None:
            table, observations = (
                pd.read_parquet(kept / f"{name}.parquet") for name in ("model_input_competition", "observations")
            )
        else:
            table, observations = (frame_of(context.catalog.load(name)) for name in ("model_input", "observations"))
    return fleet, table[table["product_id"] == PRODUCT], observations


if __name__ == "__main__":
    sys.exit(main())
