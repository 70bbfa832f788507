"""Proof: in the backtest, CatBoost beats climatology and the power curve at every lead time, and persistence from 6 h on.

Reads what `make run` left: the forecasts that each candidate would have issued (`backtest_forecasts`), and the
observations. Scores them hour by hour of lead time with the function that scores everything else, as known at the
training time.
Leaves with code 1 if the claim does not hold.
"""

from __future__ import annotations

import sys

import pandas as pd

from record import PROJECT, record
from wind_kedro.cards.columns import PERFECT_WEATHER
from wind_kedro.datasets.derived import frame_of
from wind_kedro.evaluation.scores import score_forecasts

CHALLENGER = "catboost"
#: Lead time in hours from which on the challenger has to beat each reference.
BEATEN_FROM_HOURS = {"climatology": 0, "power_curve": 0, "persistence": 6}
MODELS = ["climatology", "persistence", "power_curve", CHALLENGER]
KEYS = ["product_id", "entity_id", "lead_hours"]
#: Hours of lead time that the README quotes.
QUOTED_HOURS = [1, 6, 12, 24, 48]


def error_by_lead(forecasts: pd.DataFrame, observations: pd.DataFrame, fleet: object, as_of: object) -> pd.DataFrame:
    """One row per product, entity and hour of lead time: nMAE of each model (share of available capacity).

    All models are scored on the same intervals, ``n`` of them.
    ``lead_hours`` is the whole hour into which the lead time falls, from the issue to the start of the interval.
    """
    edges = range(0, int(forecasts["lead_minutes"].max()) + 61, 60)
    scores = score_forecasts(forecasts, observations, fleet, list(edges), as_of=as_of)  # type: ignore[arg-type]
    one_hour = scores["lead_to_minutes"] - scores["lead_from_minutes"] == 60
    hourly = scores[one_hour & (scores["metric"] == "nmae_share")]
    hourly = hourly.assign(lead_hours=hourly["lead_from_minutes"] // 60)
    table = hourly.pivot(index=[*KEYS, "n", "weather"], columns="model", values="value").reset_index()
    return table.rename_axis(columns=None)[[*KEYS, *MODELS, "n", "weather"]].sort_values(KEYS, ignore_index=True)


def failures(table: pd.DataFrame) -> list[str]:
    """Where the claim does not hold: one line per reference, product and entity, with the hours of lead time."""
    if table.empty:
        return ["nothing was scored"]
    lines = []
    for (product_id, entity_id), rows in table.groupby(["product_id", "entity_id"]):
        for reference, from_hours in BEATEN_FROM_HOURS.items():
            judged = rows[rows["lead_hours"] >= from_hours]
            # A score that is missing is not a win.
            lost = judged.loc[~(judged[CHALLENGER] < judged[reference]), "lead_hours"]
            if len(lost):
                hours = ", ".join(map(str, lost))
                lines.append(f"{product_id} of {entity_id}: {CHALLENGER} does not beat {reference} at {hours} h")
    return lines


def readme_rows(table: pd.DataFrame) -> list[str]:
    """The rows of the README's table, ready to be put there."""
    quoted = table[table["lead_hours"].isin(QUOTED_HOURS)]
    return [
        f"| {row.lead_hours} h | " + " | ".join(f"{getattr(row, model):.1%}".replace("%", " %") for model in MODELS) + " |"
        for row in quoted.itertuples()
    ]


def main() -> int:
    """Score, write, judge; the exit code."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, save_on_close=False) as session:
        context = session.load_context()
        if not context.catalog.exists("backtest_forecasts"):
            print("there is no backtest to prove anything with: make run", file=sys.stderr)
            return 2
        forecasts, observations = (frame_of(context.catalog.load(name)) for name in ("backtest_forecasts", "observations"))
        # Kedro gives parameters as the types that nodes ask for: `Fleet` and `Clock`.
        fleet = context.params["fleet"]
        training_time = context.params["clock"].training_time(fleet)
    table = error_by_lead(forecasts, observations, fleet, training_time).round(dict.fromkeys(MODELS, 5))
    issues = forecasts["issued_at"]
    print(
        f"nMAE (share of available capacity) of the backtest by hours of lead time; {issues.nunique()} issues from "
        f"{issues.min():%Y-%m-%d} to {issues.max():%Y-%m-%d}; {', '.join(sorted(table['weather'].unique()))}\n"
    )
    record("proof-start", table)
    print("\nFor the README, section 'How good is it?':\n" + "\n".join(readme_rows(table)))
    lost = failures(table)
    claim = f"{CHALLENGER} beats climatology and the power curve at every lead time and persistence from 6 h on"
    if lost:
        print(f"\nNOT PROVEN that {claim}:\n" + "\n".join(lost))
        return 1
    label = f" ({PERFECT_WEATHER})" if (table["weather"] == PERFECT_WEATHER).any() else ""
    print(f"\nPROVEN{label}: {claim}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
