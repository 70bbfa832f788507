"""Figure of accuracy in cross-validation, backtest and operation."""

from __future__ import annotations

import pandas as pd

from wind_kedro.cards import Fleet
from wind_kedro.clock import Clock
from wind_kedro.pipelines.reporting import views
from wind_kedro.pipelines.reporting.documents import Figure
from wind_kedro.pipelines.reporting.figures import BLUE, GREEN, ORANGE, Panel, View, draw_views
from wind_kedro.pipelines.reporting.settings import Reporting

#: Column of `contracts.Accuracy`, label, colour.
_BARS = (
    ("cross_validated", "cross-validated", ORANGE),
    ("backtested", "backtested, as known then", BLUE),
    ("operational", "as operated", GREEN),
)


def draw_accuracy(accuracy: pd.DataFrame, fleet: Fleet, clock: Clock, reporting: Reporting) -> Figure:
    """Draw the deciding score of each model, cross-validated, backtested and as operated; labels contain the gap."""
    from plotly import graph_objects

    shown = []
    for member in views.members(fleet)[: reporting.detailed_members]:
        view = View(member.key, member.label, fleet.perfect_weather(member.entity_id))
        rows = member.rows(accuracy)
        if rows.empty:
            view.note = "Nothing was cross-validated: run the pipeline training, with backtest.cross_validation_blocks."
        for row in rows.to_dict("records"):
            view.label = (
                f"{member.label}, {row['model'].replace('_', ' ')}: gap {100 * row['gap_share']:+.1f} %, "
                f"fallbacks in {100 * row['fallback_share']:.1f} % of the intervals"
            )
            for column, name, colour in _BARS:
                view.add(
                    graph_objects.Bar(
                        x=[name],
                        y=[round(float(row[column]), 5)],
                        name=name,
                        marker={"color": colour},
                        hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>",
                    )
                )
        shown.append(view)
    return draw_views(
        "Promised and operated accuracy",
        shown,
        [Panel("how it was measured", "mean loss of the deciding score", {"type": "category"}, {"rangemode": "tozero"})],
        height=380,
    )
