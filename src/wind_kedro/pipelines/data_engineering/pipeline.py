"""Pipeline from raw signals and weather to observations, weather runs, quarantine and findings."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Create the pipeline data_engineering; each step is a namespace that Kedro-Viz can collapse."""
    # Nodes after the check take the checked clock, so that an invalid as_of stops the run before it overwrites a result.
    fleet, clock, settings = "params:fleet", "checked_clock", "params:data_engineering"
    return Pipeline(
        [
            Node(
                nodes.parse_signals,
                ["signals_raw", fleet, settings],
                "parsed_signals",
                name="parse_signals",
                namespace="parse",
            ),
            Node(
                nodes.parse_weather,
                ["weather_raw", fleet, settings],
                "parsed_weather",
                name="parse_weather",
                namespace="parse",
            ),
            Node(
                nodes.check_as_of,
                ["parsed_signals", fleet, "params:clock", settings],
                "checked_clock",
                name="check_as_of",
                namespace="parse",
            ),
            Node(nodes.take_stock, "raw_files", "raw_manifest", name="take_stock", namespace="parse"),
            Node(
                nodes.judge_weather,
                ["parsed_weather", fleet, clock],
                "judged_weather",
                name="judge_weather",
                namespace="weather",
            ),
            Node(
                nodes.make_weather,
                ["judged_weather", fleet, clock, settings],
                "weather",
                name="make_weather",
                namespace="weather",
            ),
            Node(
                nodes.suspect_units,
                ["parsed_signals", fleet, clock, settings],
                "suspected_units",
                name="suspect_units",
                namespace="timestamps",
            ),
            Node(
                nodes.calibrate_clocks,
                ["parsed_signals", "weather", "suspected_units", fleet, clock, settings],
                "clock_calibration",
                name="calibrate_clocks",
                namespace="timestamps",
            ),
            Node(
                nodes.time_signals,
                ["parsed_signals", "clock_calibration", "suspected_units", fleet, clock, settings],
                "timed_signals",
                name="time_signals",
                namespace="timestamps",
            ),
            Node(
                nodes.fit_power_curves,
                ["timed_signals", "clock_calibration", fleet, settings],
                "power_curve",
                name="fit_power_curves",
                namespace="signals",
            ),
            Node(
                nodes.judge_signals,
                ["timed_signals", "power_curve", fleet, settings],
                "signals",
                name="judge_signals",
                namespace="signals",
            ),
            Node(
                nodes.aggregate_observations,
                ["signals", fleet, clock, settings],
                "observations",
                name="aggregate_observations",
                namespace="signals",
            ),
            Node(
                nodes.build_quarantine,
                ["timed_signals", "judged_weather", "signals_raw", "weather_raw"],
                "quarantine",
                name="build_quarantine",
            ),
            Node(
                nodes.assess_quality,
                [
                    "signals_raw",
                    "weather_raw",
                    "parsed_signals",
                    "timed_signals",
                    "signals",
                    "parsed_weather",
                    "judged_weather",
                    "weather",
                    "quarantine",
                    "clock_calibration",
                    "suspected_units",
                    fleet,
                    clock,
                    settings,
                ],
                ["data_quality", "parsing_failures"],
                name="assess_quality",
                namespace="assessment",
            ),
            Node(
                nodes.assess_readiness,
                [
                    "parsed_signals",
                    "parsed_weather",
                    "timed_signals",
                    "signals",
                    "observations",
                    "weather",
                    "clock_calibration",
                    fleet,
                    clock,
                    "params:readiness",
                ],
                ["readiness", "weather_fit"],
                name="assess_readiness",
                namespace="assessment",
            ),
        ],
        tags="data_engineering",
    )
