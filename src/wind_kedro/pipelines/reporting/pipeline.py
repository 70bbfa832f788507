"""The reporting pipeline: tables to figures, facts and a page.

::

    tables ──┬─ draw_… (nine) ─ figures ─┐
             ├─ build_summary ── summary ─┴─ build_report ─ report
             └─ draw_weather_fit ─ weather_fit_figure ── build_readiness_page ─ readiness_page
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node, pipeline

from wind_kedro.pipelines.reporting import accuracy, attributions, figures, nodes, readiness

_CARDS = {"fleet": "params:fleet", "clock": "params:clock", "reporting": "params:reporting"}


def create_pipeline() -> Pipeline:
    """Draw the figures, gather the facts, write the page."""
    drawn: list[Node] = [
        node(
            figures.draw_farm_map,
            {"fleet": "params:fleet", "reporting": "params:reporting"},
            "farm_map_figure",
            name="draw_farm_map",
        ),
        node(
            figures.draw_data_quality,
            {"data_quality": "data_quality", "observations": "observations"} | _CARDS,
            "data_quality_figure",
            name="draw_data_quality",
        ),
        node(
            figures.draw_clock,
            {"clock_calibration": "clock_calibration"} | _CARDS,
            "clock_figure",
            name="draw_clock",
        ),
        node(
            figures.draw_power_curve,
            {"signals": "signals", "power_curve": "power_curve"} | _CARDS,
            "power_curve_figure",
            name="draw_power_curve",
        ),
        node(
            figures.draw_forecast,
            {"forecasts": "forecasts", "observations": "observations"} | _CARDS,
            "forecast_figure",
            name="draw_forecast",
        ),
        node(
            attributions.draw_attributions,
            {"attributions": "attributions", "forecasts": "forecasts"} | _CARDS,
            "attributions_figure",
            name="draw_attributions",
        ),
        node(
            figures.draw_lead_times,
            {"backtest_scores": "backtest_scores", "promotions": "promotions"} | _CARDS,
            "lead_time_figure",
            name="draw_lead_times",
        ),
        node(
            accuracy.draw_accuracy,
            {"accuracy": "accuracy"} | _CARDS,
            "accuracy_figure",
            name="draw_accuracy",
        ),
        node(
            figures.draw_reliability,
            {"backtest_scores": "backtest_scores", "live_scores": "live_scores", "promotions": "promotions"} | _CARDS,
            "reliability_figure",
            name="draw_reliability",
        ),
        node(
            figures.draw_live_performance,
            {"live_scores": "live_scores", "backtest_scores": "backtest_scores", "promotions": "promotions"} | _CARDS,
            "live_performance_figure",
            name="draw_live_performance",
        ),
    ]
    facts = (
        "forecasts",
        "observations",
        "backtest_scores",
        "live_scores",
        "promotions",
        "incidents",
        "clock_calibration",
        "data_quality",
        "quarantine",
        "readiness",
        "outliers",
    )
    shown = [output for figure in drawn for output in figure.outputs]
    return pipeline(
        [
            *drawn,
            node(nodes.build_summary, {name: name for name in facts} | _CARDS, "summary", name="build_summary"),
            node(
                nodes.build_report,
                {name: name for name in ("summary", *shown)} | {"reporting": "params:reporting"},
                "report",
                name="build_report",
            ),
            node(
                readiness.draw_weather_fit,
                {"weather_fit": "weather_fit", "readiness": "readiness"} | _CARDS,
                "weather_fit_figure",
                name="draw_weather_fit",
            ),
            node(
                readiness.build_readiness_page,
                {name: name for name in ("readiness", "observations", "weather_fit_figure")}
                | {"fleet": "params:fleet", "clock": "params:clock"},
                "readiness_page",
                name="build_readiness_page",
            ),
        ],
        tags="reporting",
    )
