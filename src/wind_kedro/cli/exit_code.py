"""The exit code of ``kedro run``: not 0 if the tables of the finished run hold what `monitoring.exit_code_on` names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    import pandas as pd

    from wind_kedro.hooks import FinishedRun

#: Severities that count, by the value of `monitoring.exit_code_on`.
_COUNTED = {"error": ("error",), "warning": ("warning", "error"), "never": ()}
#: Tables of failures that are made of those of the stages.
_OF_ALL_STAGES = {"open_failures"}
#: So many failures of a stage are shown; the others are in its table.
_SHOWN = 5


class RunFaultsError(WindKedroError):
    """A run finished and wrote all its results, but not without failures or incidents; one line each."""


def check_run(run: FinishedRun) -> None:
    """Raise if a finished run has failures or incidents that are an error of the command.

    Raises:
        RunFaultsError: with a line for each.
    """
    if lines := list(dict.fromkeys(_faults(run))):
        raise RunFaultsError("\n".join(lines))


def _faults(run: FinishedRun) -> Iterator[str]:
    """Failures and incidents of the run, one line each."""
    severities = _COUNTED[run.parameters.get("monitoring", {}).get("exit_code_on", "error")]
    if not severities:
        return
    from wind_kedro.contracts.operation import FAILURE_CODES
    from wind_kedro.failures import over_issues

    written = run.pipeline.all_outputs()
    tables = sorted(name for name in written - _OF_ALL_STAGES if name.endswith("_failures"))
    for name in tables:
        table = run.catalog.load(name)
        lines = [row["text"] for row in over_issues(table[table["severity"].isin(severities)])]
        yield from lines[:_SHOWN]
        if len(lines) > _SHOWN:
            yield f"and {len(lines) - _SHOWN} more in {name}"
    if "incidents" in written:
        incidents = run.catalog.load("incidents")
        # Those of a stage of this run are reported above.
        stages = [name.removesuffix("_failures") for name in tables]
        reported = incidents["kind"].isin(list(FAILURE_CODES)) & incidents["subject"].isin(stages)
        incidents = incidents[~reported]
        yield from _incidents(incidents, severities, run.parameters["clock"])
    for name in sorted(run.pipeline.datasets()):
        if name in run.catalog:
            yield from getattr(run.catalog.get(name), "passed_over", [])


def _incidents(incidents: pd.DataFrame, severities: tuple[str, ...], clock: Any) -> Iterator[str]:
    import pandas as pd

    from wind_kedro.clock import Clock

    now = incidents[
        (incidents["raised_at"] == pd.Timestamp(Clock.model_validate(clock).as_of))
        & (incidents["state"] != "resolved")
        & incidents["severity"].isin(severities)
    ]
    return (f"{row['kind']}: {row['message']}" for row in now.to_dict("records"))
