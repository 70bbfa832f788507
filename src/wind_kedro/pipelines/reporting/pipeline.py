"""The reporting pipeline: tables to figures, facts and a page.

::

    tables ──┬─ draw_… (ten) ── figures ─┐
             ├─ build_summary ── summary ─┴─ build_report ─ report
             └─ draw_weather_fit ─ weather_fit_figure ── build_readiness_page ─ readiness_page
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from wind_kedro.pipelines.reporting import accuracy, attributions, figures, nodes, readiness

_PARAMETERS = {"fleet": "params:fleet", "clock": "params:clock", "reporting": "params:reporting"}
#: The figures of the page, and the tables that each is drawn from.
_FIGURES: dict[str, tuple[Callable[..., Any], str]] = {
    "data_quality_figure": (figures.draw_data_quality, "data_quality observations"),
    "clock_figure": (figures.draw_clock, "clock_calibration"),
    "power_curve_figure": (figures.draw_power_curve, "signals power_curve"),
    "forecast_figure": (figures.draw_forecast, "forecasts observations"),
    "attributions_figure": (attributions.draw_attributions, "attributions forecasts"),
    "lead_time_figure": (figures.draw_lead_times, "backtest_scores promotions"),
    "accuracy_figure": (accuracy.draw_accuracy, "accuracy"),
    "reliability_figure": (figures.draw_reliability, "backtest_scores live_scores promotions"),
    "live_performance_figure": (figures.draw_live_performance, "live_scores backtest_scores promotions"),
}
_FACTS = (
    "forecasts observations backtest_scores live_scores promotions incidents clock_calibration data_quality quarantine readiness "
    "outliers open_failures"
)


def _tables(names: str) -> dict[str, str]:
    return {name: name for name in names.split()}


def create_pipeline() -> Pipeline:
    """Draw the figures, gather the facts, write the page."""
    reporting, no_clock = _PARAMETERS["reporting"], {"fleet": "params:fleet", "reporting": "params:reporting"}
    pages = _tables("readiness observations weather_fit_figure") | {"fleet": "params:fleet", "clock": "params:clock"}
    shown = _tables(" ".join(["summary", "farm_map_figure", *_FIGURES])) | {"reporting": reporting}
    return Pipeline(
        [
            Node(figures.draw_farm_map, no_clock, "farm_map_figure", name="draw_farm_map", namespace="figures"),
            *(
                Node(draw, _tables(tables) | _PARAMETERS, figure, name=draw.__name__, namespace="figures")
                for figure, (draw, tables) in _FIGURES.items()
            ),
            Node(nodes.build_summary, _tables(_FACTS) | _PARAMETERS, "summary", name="build_summary"),
            Node(nodes.build_report, shown, "report", name="build_report"),
            Node(
                readiness.draw_weather_fit,
                _tables("weather_fit readiness") | _PARAMETERS,
                "weather_fit_figure",
                name="draw_weather_fit",
                namespace="figures",
            ),
            Node(readiness.build_readiness_page, pages, "readiness_page", name="build_readiness_page"),
        ],
        tags="reporting",
    )
