"""Reporting: figures, facts and pages from tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step
from wind_kedro.pipelines.reporting import farm_figures, forecast_figures, nodes, readiness, score_figures

#: The figures of the page, and the tables that each is drawn from.
_FIGURES: dict[str, tuple[Callable[..., Any], str]] = {
    "data_quality_figure": (farm_figures.draw_data_quality, "data_quality observations"),
    "clock_figure": (farm_figures.draw_clock, "clock_calibration"),
    "power_curve_figure": (farm_figures.draw_power_curve, "signals power_curve"),
    "forecast_figure": (forecast_figures.draw_forecast, "forecasts observations"),
    "attributions_figure": (forecast_figures.draw_attributions, "attributions forecasts"),
    "lead_time_figure": (score_figures.draw_lead_times, "backtest_scores promotions"),
    "accuracy_figure": (score_figures.draw_accuracy, "accuracy"),
    "reliability_figure": (score_figures.draw_reliability, "backtest_scores live_scores promotions"),
    "live_performance_figure": (score_figures.draw_live_performance, "live_scores backtest_scores promotions"),
}
#: The tables that the summary is built from.
FACTS = (
    "forecasts observations backtest_scores live_scores promotions incidents open_failures clock_calibration data_quality "
    "quarantine readiness outliers"
)


def create_pipeline() -> Pipeline:
    """Draw the figures, gather the facts, write the page."""
    cards = "params:fleet params:clock"
    facts = {name: name for name in FACTS.split()} | {name: f"params:{name}" for name in ("fleet", "clock", "reporting")}
    shown = {name: name for name in ("summary", "farm_map_figure", *_FIGURES)} | {"reporting": "params:reporting"}
    return Pipeline(
        [
            step(farm_figures.draw_farm_map, f"{cards} params:reporting", "farm_map_figure", "figures"),
            *(step(draw, f"{tables} {cards} params:reporting", figure, "figures") for figure, (draw, tables) in _FIGURES.items()),
            step(nodes.build_summary, facts, "summary"),
            step(nodes.build_report, shown, "report"),
            step(readiness.draw_weather_fit, f"weather_fit readiness {cards} params:reporting", "weather_fit_figure", "figures"),
            step(readiness.build_readiness_page, f"readiness observations weather_fit_figure {cards}", "readiness_page"),
        ],
        tags="reporting",
    )
