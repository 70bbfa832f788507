"""The exit code of ``kedro run``: not 0 if the tables of the finished run hold what `monitoring.exit_code_on` names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wind_kedro.errors import WindKedroError

if TYPE_CHECKING:
    from wind_kedro.hooks import FinishedRun

#: Severities that count, by the value of `monitoring.exit_code_on`.
_COUNTED = {"error": ("error",), "warning": ("warning", "error"), "never": ()}
#: So many failures of a stage are shown; the others are in its table.
_SHOWN = 5


class RunFaultsError(WindKedroError):
    """A run finished and wrote all its results, but not without failures or incidents; one line each."""


def check_run(run: FinishedRun) -> None:
    """Raise if a finished run has failures or incidents that are an error of the command.

    Raises:
        RunFaultsError: with a line for each.
    """
    severities = _COUNTED[run.parameters.get("monitoring", {}).get("exit_code_on", "error")]
    if severities and (lines := list(dict.fromkeys(_faults(run, severities)))):
        raise RunFaultsError("\n".join(lines))


def _faults(run: FinishedRun, severities: tuple[str, ...]) -> Iterator[str]:
    """Failures and incidents of the run, one line each."""
    import pandas as pd

    from wind_kedro.clock import Clock
    from wind_kedro.contracts.operation import FAILURE_CODES
    from wind_kedro.failures import over_issues

    written = run.pipeline.all_outputs()
    stages = sorted(name.removesuffix("_failures") for name in written - {"open_failures"} if name.endswith("_failures"))
    for stage in stages:
        table = run.catalog.load(f"{stage}_failures")
        lines = [row["text"] for row in over_issues(table[table["severity"].isin(severities)])]
        yield from lines[:_SHOWN]
        if len(lines) > _SHOWN:
            yield f"and {len(lines) - _SHOWN} more in {stage}_failures"
    if "incidents" in written:
        table = run.catalog.load("incidents")
        now = table["raised_at"] == pd.Timestamp(Clock.model_validate(run.parameters["clock"]).as_of)
        # Those of a stage of this run are reported above.
        reported = table["kind"].isin(list(FAILURE_CODES)) & table["subject"].isin(stages)
        counted = table[now & (table["state"] != "resolved") & table["severity"].isin(severities) & ~reported]
        yield from (f"{row['kind']}: {row['message']}" for row in counted.to_dict("records"))
    for name in sorted(run.pipeline.datasets()):
        if name in run.catalog:
            yield from getattr(run.catalog.get(name), "passed_over", [])
