"""`map_farms`: the one loop over farms. Parallel on this machine, isolated, with a progress bar.

One farm that fails is a failure in the result; the others finish.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from wind_kedro.strict import Strict

KeyT = TypeVar("KeyT", bound=Hashable)
ResultT = TypeVar("ResultT")


class Workers(Strict):
    """How per-farm work is spread."""

    backend: Literal["loky", "threading"] = Field("loky", description="of joblib: loky (processes) or threading")
    jobs: int = Field(-1, description="how many at once; -1: one a core")


@dataclass(frozen=True)
class Mapped(Generic[KeyT, ResultT]):
    """Results by key, and the reason of each key that failed."""

    results: dict[KeyT, ResultT] = field(default_factory=dict)
    failures: dict[KeyT, str] = field(default_factory=dict)


def map_farms(
    function: Callable[..., ResultT], tasks: Mapping[KeyT, tuple[Any, ...]], *, workers: Workers, label: str
) -> Mapped[KeyT, ResultT]:
    """Call ``function(*arguments)`` for every task; never let one task stop another.

    Args:
        function: picklable; all inputs are arguments, so that it runs in any process.
        tasks: arguments by key; the result has the same keys, in the same order.
        workers: backend and number of workers.
        label: text of the progress bar.

    Returns:
        Results by key, and for each key that raised, the reason in one line, which the caller reports.
    """
    from joblib import Parallel, delayed
    from rich.console import Console
    from rich.progress import track

    calls = (delayed(_attempt)(function, key, arguments) for key, arguments in tasks.items())
    # One task needs no processes: starting them would cost more than they save.
    jobs = workers.jobs if len(tasks) > 1 else 1
    outcomes = Parallel(n_jobs=jobs, backend=workers.backend, return_as="generator_unordered")(calls)
    # Only where somebody watches: a log file wants lines, not a bar.
    console, hidden = Console(file=sys.stderr), not sys.stderr.isatty()
    outcomes = track(outcomes, description=label, total=len(tasks), console=console, disable=hidden)
    done = {key: (result, failure) for key, result, failure in outcomes}
    mapped: Mapped[KeyT, ResultT] = Mapped()
    for key in tasks:  # in the order of the tasks, not of their finishing: reruns are equal
        result, failure = done[key]
        if failure is None:
            mapped.results[key] = result
        else:
            mapped.failures[key] = failure
    return mapped


def _attempt(function: Callable[..., Any], key: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, str | None]:
    try:
        return key, function(*arguments), None
    except Exception as error:  # the isolation of farms: whatever it is, it is this task's
        return key, None, f"{type(error).__name__}: {error}"
