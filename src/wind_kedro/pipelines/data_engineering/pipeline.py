"""Raw signals and weather become observations, weather runs, quarantine and findings."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from . import nodes


def create_pipeline(**_: object) -> Pipeline:
    """The room's nodes and what they exchange; see the room's README."""
    # Behind the check every node takes the checked clock: a wrong as_of stops the run before it overwrites a result.
    fleet, clock, settings = "params:fleet", "checked_clock", "params:data_engineering"
    return Pipeline(
        [
            Node(nodes.parse_signals, ["signals_raw", fleet, settings], "parsed_signals", name="parse_signals"),
            Node(nodes.parse_weather, ["weather_raw", fleet, settings], "parsed_weather", name="parse_weather"),
            Node(
                nodes.check_as_of,
                ["parsed_signals", fleet, "params:clock", settings],
                "checked_clock",
                name="check_as_of",
            ),
            Node(nodes.take_stock, "raw_files", "raw_manifest", name="take_stock"),
            Node(nodes.judge_weather, ["parsed_weather", fleet, clock], "judged_weather", name="judge_weather"),
            Node(nodes.make_weather, ["judged_weather", fleet, clock, settings], "weather", name="make_weather"),
            Node(
                nodes.suspect_units,
                ["parsed_signals", fleet, clock, settings],
                "suspected_units",
                name="suspect_units",
            ),
            Node(
                nodes.calibrate_clocks,
                ["parsed_signals", "weather", "suspected_units", fleet, clock, settings],
                "clock_calibration",
                name="calibrate_clocks",
            ),
            Node(
                nodes.time_signals,
                ["parsed_signals", "clock_calibration", "suspected_units", fleet, clock, settings],
                "timed_signals",
                name="time_signals",
            ),
            Node(
                nodes.fit_power_curves,
                ["timed_signals", "clock_calibration", fleet, settings],
                "power_curve",
                name="fit_power_curves",
            ),
            Node(
                nodes.judge_signals, ["timed_signals", "power_curve", fleet, settings], "signals", name="judge_signals"
            ),
            Node(
                nodes.aggregate_observations,
                ["signals", fleet, clock, settings],
                "observations",
                name="aggregate_observations",
            ),
            Node(
                nodes.set_aside,
                ["timed_signals", "judged_weather", "signals_raw", "weather_raw"],
                "quarantine",
                name="set_aside",
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
                    settings,
                ],
                "data_quality",
                name="assess_quality",
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
            ),
        ],
        tags="data_engineering",
    )
