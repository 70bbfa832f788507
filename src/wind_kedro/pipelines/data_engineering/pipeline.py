"""Pipeline from raw signals and weather to observations, weather runs, quarantine and findings.

Its two parts are registered, too: ``cleaning``, which forecasts wait for, and ``assessment``, which they do not wait for.
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from wind_kedro.pipelines import step

from . import nodes


def create_pipeline() -> Pipeline:
    """Raw signals and weather in; observations, weather, quarantine and data quality out. A namespace a step."""
    return create_cleaning() + create_assessment()


def create_cleaning() -> Pipeline:
    """Raw signals and weather in; observations and weather out."""
    # Nodes after the check take the checked clock, so that an invalid as_of stops the run before it overwrites a result.
    cards = "params:fleet checked_clock"
    settings = "params:data_engineering"
    return Pipeline(
        [
            step(nodes.derive_parsed_signals, f"signals_raw params:fleet {settings}", "parsed_signals", "parse"),
            step(nodes.derive_parsed_weather, f"weather_raw params:fleet {settings}", "parsed_weather", "parse"),
            step(nodes.check_as_of, f"parsed_signals params:fleet params:clock {settings}", "checked_clock", "parse"),
            step(nodes.list_raw_files, "raw_files", "raw_manifest", "parse"),
            step(nodes.derive_judged_weather, "parsed_weather checked_clock", "judged_weather", "weather"),
            step(nodes.derive_weather, f"judged_weather {cards} {settings}", "weather", "weather"),
            step(nodes.derive_weather_runs, "weather", "weather_runs", "weather"),
            step(nodes.derive_turbine_days, f"parsed_signals params:fleet {settings}", "turbine_days", "timestamps"),
            step(nodes.derive_suspected_units, f"turbine_days {cards} {settings}", "suspected_units", "timestamps"),
            step(
                nodes.derive_clock_sums,
                f"parsed_signals weather suspected_units {cards} {settings}",
                "clock_sums",
                "timestamps",
            ),
            step(
                nodes.derive_clock_calibration,
                f"parsed_signals clock_sums clock_calibration_before {cards} {settings}",
                "clock_calibration",
                "timestamps",
            ),
            step(
                nodes.time_signals,
                f"parsed_signals clock_calibration suspected_units {cards} {settings}",
                "timed_signals",
                "timestamps",
            ),
            step(nodes.count_cells, f"timed_signals clock_calibration params:fleet {settings}", "cell_counts", "signals"),
            step(nodes.fit_power_curves, f"cell_counts clock_calibration params:fleet {settings}", "power_curve", "signals"),
            step(nodes.judge_signals, f"timed_signals power_curve params:fleet {settings}", "signals", "signals"),
            step(nodes.aggregate_observations, f"signals {cards} {settings}", "observations", "signals"),
        ],
        tags="data_engineering",
    )


def create_assessment() -> Pipeline:
    """What was cleaned in; quarantine, data quality and readiness out."""
    cards = "params:fleet params:clock"
    settings = "params:data_engineering"
    return Pipeline(
        [
            step(
                nodes.build_quarantine,
                f"timed_signals judged_weather parsed_signals parsed_weather signals_raw weather_raw params:fleet {settings}",
                "quarantine",
            ),
            step(nodes.derive_signal_counts, f"timed_signals params:fleet {settings}", "signal_counts", "assessment"),
            step(
                nodes.assess_quality,
                "signals_raw weather_raw parsed_signals timed_signals signal_counts signals parsed_weather judged_weather "
                f"weather_runs quarantine clock_calibration suspected_units {cards} {settings}",
                "data_quality parsing_failures",
                "assessment",
            ),
            step(
                nodes.derive_readiness,
                "parsed_signals parsed_weather timed_signals signals observations weather clock_calibration "
                f"{cards} params:readiness",
                "readiness weather_fit",
                "assessment",
            ),
        ],
        tags="data_engineering",
    )
