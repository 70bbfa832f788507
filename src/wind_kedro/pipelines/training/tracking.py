"""What a training leaves in the experiment tracker beside its tables: numbers of the fleet, and a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from wind_kedro.datasets.derived import Derived, frame_of

if TYPE_CHECKING:
    import plotly.graph_objects as go


def summarise_training(
    backtest_scores: pd.DataFrame, decisions: pd.DataFrame, accuracy: Derived | pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Metrics for the experiment tracker, each with value and step 0: of the fleet, never of a farm.

    Of each score over the whole horizon, and of what `compare_accuracy` found, the mean over entities; of each product how many
    entities got another candidate than they had, and how many decisions each code took. Scores of farms are tables.
    """
    whole = backtest_scores[(backtest_scores["lead_from_minutes"] == 0) & backtest_scores["level"].isna()]
    horizon = whole.groupby("product_id")["lead_to_minutes"].transform("max")
    whole = whole[whole["lead_to_minutes"] == horizon]
    keys = ["product_id", "model", "metric"]
    means = whole.groupby(keys)["value"].mean().dropna().reset_index()
    numbers = {f"{row['product_id']}.{row['model']}.{row['metric']}": row["value"] for row in means.to_dict("records")}
    for product_id, own in decisions.groupby("product_id"):
        moved = own["promoted"] & (own["champion"] != own["challenger"])
        numbers[f"{product_id}.entities_with_another_model"] = float(own.loc[moved, "entity_id"].nunique())
        for code, count in own["code"].value_counts().items():
            numbers[f"{product_id}.decisions.{code}"] = float(count)
    for product_id, own in frame_of(accuracy).groupby("product_id"):
        numbers |= {
            f"{product_id}.accuracy.{name}": own[name].mean() for name in ("cross_validated", "backtested", "operational")
        }
    return {name: {"value": value, "step": 0} for name, value in numbers.items()}


def draw_decisions(decisions: pd.DataFrame) -> go.Figure:
    """Gain of every challenger over the champion's candidate, a point an entity, by what decided."""
    import plotly.express as px

    compared = decisions[decisions["issues"] > 0]
    figure = px.strip(
        compared.assign(gain=100 * compared["gain_share"]),
        x="gain",
        y="challenger",
        color="code",
        hover_data=["product_id", "entity_id", "champion", "issues", "p_adjusted"],
        labels={"gain": "gain over the champion, % of its loss", "challenger": "challenger", "code": "decided by"},
        title="What the gate found" if len(compared) else "Nothing was compared: no entity had a champion before",
    )
    figure.add_vline(x=0, line_color="grey", line_width=1)
    figure.update_layout(template="plotly_white", legend_traceorder="normal")
    return figure
